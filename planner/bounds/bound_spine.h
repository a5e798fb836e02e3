/* What any schedule has to recompute along the heaviest path of the forward pass, the spine, again and again.
 *
 *     uint64_t lower_bound = 0;
 *     ckpt_bound_spine(&problem, &options, step_bytes, incumbent_cost, &lower_bound, &err);
 *
 * Holds over every order of the nodes that the problem's dependencies allow and every schedule in it.
 */
#ifndef CKPT_BOUND_SPINE_H
#define CKPT_BOUND_SPINE_H

#include "planner/chain/chain.h"
#include "planner/core/problem.h"
#include "planner/core/solver_options.h"

/* Raises *lower_bound where the spine says more. No more is sought than incumbent_cost, which some schedule in step_bytes
 * recomputes (UINT64_MAX: none is known). Errors: CKPT_NOMEM. */
ckpt_status ckpt_bound_spine(const ckpt_problem *problem, const ckpt_solver_options *options, uint64_t step_bytes,
                             uint64_t incumbent_cost, uint64_t *lower_bound, ckpt_error *err);

/* The chains that the bound looks at, the second with two phases for a cell that is read twice; stage_count is 0 where there is
 * none. Their arrays are the pool's. Errors: CKPT_NOMEM. */
ckpt_status ckpt_spine_find(const ckpt_problem *problem, ckpt_pool *pool, ckpt_chain chain[2], ckpt_error *err);

#endif
