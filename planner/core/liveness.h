/* Liveness: from a schedule to instances, their lifetimes and the bytes live at each step.
 *
 *     ckpt_liveness live;
 *     ckpt_liveness_find(&graph, &schedule, 256, &pool, &live, &err);
 *     printf("%llu bytes at step %d\n", live.peak_bytes, live.peak_step);
 *
 * Bytes are counted as the packer will place them: each buffer rounded up to the alignment, and an output
 * that is written over a dying input (ops.def, column inplace) takes no bytes of its own.
 */
#ifndef CKPT_LIVENESS_H
#define CKPT_LIVENESS_H

#include "planner/core/plan_types.h"

typedef struct ckpt_liveness {
    int step_count;
    ckpt_plan_step *step;
    int instance_count;
    ckpt_instance *instance; /* offsets not yet set */
    uint64_t *live_bytes;    /* while step i runs, in- and outputs included */
    uint64_t peak_bytes;
    int peak_step;
} ckpt_liveness;

/* Fails with CKPT_FAILED when a step reads a tensor that was not made before it (a strategy's bug). */
ckpt_status ckpt_liveness_find(const ckpt_graph *graph, const ckpt_schedule *schedule, uint64_t alignment_bytes,
                               ckpt_pool *pool, ckpt_liveness *live, ckpt_error *err);

#endif
