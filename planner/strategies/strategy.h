/* Strategies: pure functions from a training graph and options to a schedule.
 *
 *     ckpt_strategy_input input = {.problem = &problem, .options = &options};
 *     ckpt_strategy_result result;
 *     ckpt_strategy_run(&input, &pool, &result, &err);
 *
 * To add one: a row in CKPT_STRATEGY_LIST (planner/core/plan_options.h) and a function ckpt_strategy_NAME. A strategy that only
 * chooses which tensors are kept belongs in by_rule.c, any other in a file of its own. The declarations below and --help
 * follow the list.
 */
#ifndef CKPT_STRATEGY_H
#define CKPT_STRATEGY_H

#include "planner/core/plan_options.h"
#include "planner/core/problem.h"
#include "planner/packing/layout.h"
#include "planner/strategies/solver.h"

typedef struct ckpt_strategy_input {
    const ckpt_problem *problem;
    const ckpt_plan_options *options;
    uint64_t fixed_bytes; /* of memory.total: all but the step region */
    uint64_t eval_bytes;  /* the step region is at least this: evaluation needs it */
} ckpt_strategy_input;

typedef struct ckpt_strategy_result {
    ckpt_schedule schedule;
    ckpt_layout layout; /* of `schedule`, where it had to be found: packing takes time; layout.live.step is NULL elsewhere */
    bool bounded;       /* lower_bound_cost is set, for the budget that was asked; otherwise that of the plan's own bytes is found */
    uint64_t lower_bound_cost;
    ckpt_plan_minimum minimum; /* where the strategy looked for it: with CKPT_INFEASIBLE, and of `min`; zeroes elsewhere */
} ckpt_strategy_result;

/* Runs options->strategy. Memory comes from `pool`. */
ckpt_status ckpt_strategy_run(const ckpt_strategy_input *input, ckpt_pool *pool, ckpt_strategy_result *result,
                              ckpt_error *err);

/* One function a row. */
#define X(ID, name, text)                                                                                    \
    ckpt_status ckpt_strategy_##name(const ckpt_strategy_input *input, ckpt_pool *pool,                      \
                                     ckpt_strategy_result *result, ckpt_error *err);
CKPT_STRATEGY_LIST(X)
#undef X

/* What the smallest plan takes, as strategy MIN finds it. Errors: CKPT_NOMEM. */
ckpt_status ckpt_strategy_find_minimum(const ckpt_strategy_input *input, ckpt_plan_minimum *minimum, ckpt_error *err);

/* A solver that knows the schedules of the other strategies from the start. Errors: CKPT_NOMEM. */
ckpt_status ckpt_strategy_solver(const ckpt_problem *problem, const ckpt_solver_options *options, ckpt_solver **solver,
                                 ckpt_error *err);

/* The layers that a --layers list names, marked in chosen[graph->layer_count]. An item is a layer's exact
 * name, an index or a range of indices, or a glob (fnmatch; '*' matches '/' too), tried in this order.
 * CKPT_USAGE names the item and the nearest layers. */
ckpt_status ckpt_layers_parse(const ckpt_graph *graph, const char *list, bool *chosen, ckpt_error *err);

#endif
