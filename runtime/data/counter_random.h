/* The random numbers of runtime/data: Philox, on streams that no random node of a model has.
 *
 *     uint32_t word[4];
 *     ckpt_counter_random(seed, CKPT_STREAM_SHUFFLE, epoch, draw / 4, word);   // word[draw % 4]
 */
#ifndef CKPT_COUNTER_RANDOM_H
#define CKPT_COUNTER_RANDOM_H

#include "runtime/philox.h"

enum ckpt_random_stream { /* random nodes of a model are numbered from 0 */
                          CKPT_STREAM_SHUFFLE = 0x7da10000,
                          CKPT_STREAM_WEIGHTS = 0x7da20000,
                          CKPT_STREAM_INDICES =
                              0x7da30000, /* what an integer input stands for in a synthetic target */
                          CKPT_STREAM_VALUES = 0x7da40000, /* plus the number of the request */
};

static inline void ckpt_counter_random(uint64_t seed, uint32_t stream, uint32_t step, uint64_t quad,
                                       uint32_t word[4]) {
    ckpt_philox(seed, stream, step, quad, word);
}

#endif
