/* What any schedule has to recompute, and to hold, under a number of bytes: bounds by single time steps.
 *
 *     ckpt_bound_steps(&problem, &options, step_bytes, &cost, &err);
 *
 * They hold over every order of the nodes that the problem's dependencies allow and every schedule in it.
 */
#ifndef CKPT_BOUND_STEP_H
#define CKPT_BOUND_STEP_H

#include "planner/core/problem.h"
#include "planner/core/solver_options.h"

/* What has to be recomputed after the worst time step, in the costs' unit. Errors: CKPT_NOMEM. */
ckpt_status ckpt_bound_steps(const ckpt_problem *problem, const ckpt_solver_options *options, uint64_t step_bytes,
                             uint64_t *recompute_cost, ckpt_error *err);

/* after[n], by node: what every schedule recomputes after fixed node n, counting only nodes that have run before n for
 * certain and run again for the sake of descendants of n. 0 of recomputable nodes. So it is admissible in a state in which n
 * has not run yet, together with what has to be recomputed before n runs, and in the state that running n leads to; once
 * something has been recomputed after n it is not. Takes time that grows with the square of the graph. Errors: CKPT_NOMEM. */
ckpt_status ckpt_bound_after(const ckpt_problem *problem, uint64_t step_bytes, uint64_t *after, ckpt_error *err);

/* No schedule has a smaller peak of live bytes. Errors: CKPT_NOMEM. */
ckpt_status ckpt_bound_least_bytes(const ckpt_problem *problem, uint64_t *bytes, ckpt_error *err);

#endif
