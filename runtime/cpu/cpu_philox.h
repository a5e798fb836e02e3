/* Many consecutive Philox blocks at once (runtime/philox.h).
 *
 *     uint32_t word[4 * CKPT_PHILOX_GROUP];
 *     ckpt_cpu_philox(seed, stream, step, first, 10, word);   // word[4 q + i] is word i of quad first + q
 */
#ifndef CKPT_CPU_PHILOX_H
#define CKPT_CPU_PHILOX_H

#include <stdint.h>

enum { CKPT_PHILOX_GROUP = 16 };

/* Writes whole groups: `word` has room for `quads` rounded up to CKPT_PHILOX_GROUP, times 4. */
void ckpt_cpu_philox(uint64_t seed, uint32_t stream, uint32_t step, uint64_t first, int quads, uint32_t *word);

#endif
