/* Packing: offsets for buffers with fixed lifetimes, so that buffers alive at the same time never overlap.
 *
 *     ckpt_pack_problem problem = {.count = n, .lower = first, .upper = end, .size = bytes, .alignment = 256};
 *     ckpt_packing packing;
 *     ckpt_pack(&problem, &pool, &packing, &err);
 *     printf("%llu of at least %llu bytes\n", packing.height, packing.lower_bound);
 *
 * Known as dynamic storage allocation, or two-dimensional strip packing with fixed x; NP-hard (Garey and
 * Johnson 1979, problem SR2). Lifetimes of a training step nest like brackets, and nested lifetimes pack
 * perfectly in the order of a stack, so a few greedy orders come first. Where none of them meets the lower
 * bound, a branch and bound search follows (pack_search.h). Work is counted, not timed: the same problem
 * always gets the same offsets.
 */
#ifndef CKPT_PACK_H
#define CKPT_PACK_H

#include "base/pool.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ckpt_pack_problem {
    int count;
    const int64_t *lower, *upper; /* buffer i lives in [lower[i], upper[i]) */
    const uint64_t *size;         /* bytes; their sum must stay below 2^62 */
    uint64_t alignment;           /* of every offset: a power of two; sizes are rounded up to it */
    uint64_t capacity;            /* stop at the first packing within these bytes; 0: as small as can be found */
    uint64_t work_limit;          /* elementary steps; 0: CKPT_PACK_WORK */
} ckpt_pack_problem;

/* About 35 ms, which hardly a training step needs: they take well below 1. */
enum { CKPT_PACK_WORK = 8000000 };

typedef struct ckpt_packing {
    uint64_t *offset;     /* by buffer, in the pool given */
    uint64_t height;      /* the highest byte used, a multiple of the alignment */
    uint64_t lower_bound; /* no packing is smaller; height == lower_bound proves it optimal */
    uint64_t live_peak;   /* the most bytes alive at once; lower_bound is this or, after a search, more */
    uint64_t work;        /* elementary steps taken */
} ckpt_packing;

/* Fails with CKPT_NOMEM only. A capacity that was not met shows in packing->height. */
ckpt_status ckpt_pack(const ckpt_pack_problem *problem, ckpt_pool *pool, ckpt_packing *packing, ckpt_error *err);

#endif
