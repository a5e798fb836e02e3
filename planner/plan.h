/* Makes plans: the order in which nodes run and the place of every byte, before anything is allocated.
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

/* Makes, packs and checks a plan. With strategy NONE the graph may lack backward nodes (evaluation). The same graph, options
 * (costs included) and traits give the same plan. CKPT_INFEASIBLE: `err` names the smallest budget that is known to work and, if
 * it is not proved to be the smallest, a lower bound on any; both are stored in `minimum` unless that is NULL. CKPT_USAGE: an
 * unknown layer; `err` lists the nearest names. The caller frees the plan with ckpt_plan_free. */
ckpt_status ckpt_plan_make(const ckpt_graph *graph, const ckpt_plan_options *options, const ckpt_traits *traits,
                           ckpt_plan_minimum *minimum, ckpt_plan **plan, ckpt_error *err);

/* What the plan of strategy MIN takes, without making it; of the options only eval, costs and solver are read. For reports: of
 * graphs where finding it takes as long as planning, minimum->total is 0 and only the lower bound is found. Errors as
 * ckpt_plan_make's. */
ckpt_status ckpt_plan_find_minimum(const ckpt_graph *graph, const ckpt_plan_options *options, const ckpt_traits *traits,
                                   ckpt_plan_minimum *minimum, ckpt_error *err);

#endif
