/* What is certain while one node runs, in every order of the nodes and every schedule.
 *
 *     ckpt_time_step step;
 *     ckpt_time_step_open(&problem, &pool, &step, &err);
 *     ckpt_time_step_set(&step, b, NULL, 0, NULL, 0);     // step.bytes, step.needed, step.hold
 *
 * While a node runs for the first time its ancestors in the dependency graph have run and its descendants have not. A case
 * of a case distinction knows more: that other nodes have run as well, or have not.
 */
#ifndef CKPT_TIME_STEP_H
#define CKPT_TIME_STEP_H

#include "planner/core/problem.h"

typedef struct ckpt_time_step {
    const ckpt_problem *problem; /* not owned */
    int node;
    uint64_t bytes; /* live at least: what the node reads and writes, and tensors of fixed nodes that are read later */
    bool *done, *open; /* by node: has run; has not */
    bool *needed;      /* by tensor: of the step, and read afterwards by an open node or as an output of the graph */
    bool *live;        /* by tensor: certain to be there while the node runs, and counted in `bytes` */
    uint64_t *hold;    /* by forward tensor: bytes that keeping it takes beside `bytes`; 0 where nothing needed is made from it */
} ckpt_time_step;

/* The arrays are the pool's. Errors: CKPT_NOMEM. */
ckpt_status ckpt_time_step_open(const ckpt_problem *problem, ckpt_pool *pool, ckpt_time_step *step, ckpt_error *err);

/* The time at which `node` runs for the first time, where before[] have run by then and behind[] have not. */
void ckpt_time_step_set(ckpt_time_step *step, int node, const int *before, int before_count, const int *behind,
                        int behind_count);

#endif
