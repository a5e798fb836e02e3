/* Costs that fall as memory grows, by corners: exact in bytes. Used by chain*.c only.
 *
 *     ckpt_corner_room room = {.pool = &pool, .work = 1000000};
 *     ckpt_corner_start(&room, cap_bytes, limit);
 *     for (each way) ckpt_corner_lower(&room, &term);                 // the lowest of all so far
 *     ckpt_corner_keep(&room, &fn);
 *     uint64_t cost = ckpt_corner_cost(&fn, bytes);
 */
#ifndef CKPT_CHAIN_CORNER_H
#define CKPT_CHAIN_CORNER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"

#define CKPT_CORNER_NEVER UINT64_MAX
#define CKPT_CORNER_MOST (INT64_C(1) << 60) /* bytes that are told from more */

/* From so many bytes on it costs so much. */
typedef struct ckpt_corner {
    uint64_t bytes, cost;
} ckpt_corner;

#define CKPT_CORNER_BEHIND {(uint64_t)1 << 62, 0} /* behind the last corner of every list: farther than any budget, with any shift */

/* Bytes ascend, costs descend; without corners it is never possible. */
typedef struct ckpt_corner_fn {
    const ckpt_corner *corner;
    int count;
    uint64_t first_bytes, least_cost; /* of the first corner and of the last: what most terms are told by */
} ckpt_corner_fn;

/* With m bytes: cost + right(m - right_shift) + left(m - left_shift), from least bytes on; shifts of at most CKPT_CORNER_MOST
 * either way. NULL costs nothing. */
typedef struct ckpt_corner_term {
    uint64_t cost, least;
    int64_t right_shift, left_shift;
    const ckpt_corner_fn *right, *left;
} ckpt_corner_term;

/* What costs more than most_cost less a_byte for each of its bytes is of no interest. */
typedef struct ckpt_corner_limit {
    uint64_t most_cost;
    double a_byte;
} ckpt_corner_limit;

#define CKPT_CORNER_NO_LIMIT ((ckpt_corner_limit){CKPT_CORNER_NEVER, 0})

typedef struct ckpt_corner_stairs {
    ckpt_corner *corner;
    int count, capacity;
} ckpt_corner_stairs;

typedef struct ckpt_corner_room {
    ckpt_pool *pool; /* of functions and of what is here */
    uint64_t work;   /* corners that may still be looked at */
    bool out_of_work, out_of_memory;
    int64_t cap_bytes;
    ckpt_corner_limit limit;
    ckpt_corner_stairs stairs[2]; /* [0]: the lowest so far */
} ckpt_corner_room;

/* What takes more than cap_bytes is of no interest either. */
void ckpt_corner_start(ckpt_corner_room *room, uint64_t cap_bytes, ckpt_corner_limit limit);

/* Both are false from when on memory or work is used up. */
bool ckpt_corner_lower(ckpt_corner_room *room, const ckpt_corner_term *term);
bool ckpt_corner_keep(ckpt_corner_room *room, ckpt_corner_fn *fn);

/* The same cost from so many bytes on; in `corner`, which has to outlive it. */
ckpt_corner_fn ckpt_corner_constant(uint64_t bytes, uint64_t cost, ckpt_corner corner[2]);

/* CKPT_CORNER_NEVER where `bytes` are too few. */
uint64_t ckpt_corner_cost(const ckpt_corner_fn *fn, uint64_t bytes);

#endif
