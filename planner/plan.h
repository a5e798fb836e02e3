/* Makes plans: in which order nodes run and where every byte lies, before anything is allocated.
 *
 *     ckpt_plan *plan;
 *     ckpt_plan_make(&graph, &options, traits, NULL, &plan, &err);
 *     printf("%llu bytes\n", plan->memory.total);
 *     ckpt_plan_free(plan);
 */
#ifndef CKPT_PLAN_H
#define CKPT_PLAN_H

#include "planner/core/plan_options.h"
#include "planner/core/plan_types.h"

/* Makes, packs and checks a plan; with strategy NONE of a graph without backward nodes too (evaluation). The same graph,
 * options (costs among them) and traits give the same plan. CKPT_INFEASIBLE names the smallest budget in `err` and, when
 * `minimum` is not NULL, stores it; CKPT_USAGE: an unknown layer (with the nearest names). The plan is the caller's, to be
 * freed with ckpt_plan_free. */
ckpt_status ckpt_plan_make(const ckpt_graph *graph, const ckpt_plan_options *options, const ckpt_traits *traits,
                           ckpt_plan_minimum *minimum, ckpt_plan **plan, ckpt_error *err);

/* What the plan of strategy MIN takes, without making it; of the options only eval, costs and solver are read. Errors as
 * ckpt_plan_make's. */
ckpt_status ckpt_plan_find_minimum(const ckpt_graph *graph, const ckpt_plan_options *options, const ckpt_traits *traits,
                                   ckpt_plan_minimum *minimum, ckpt_error *err);

#endif
