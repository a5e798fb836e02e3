/* Strategies: pure functions from a training graph and options to a schedule.
 *
 *     ckpt_strategy_input input = {.graph = &graph, .options = &options, .alignment_bytes = 256, ...};
 *     ckpt_strategy_result result;
 *     ckpt_strategy_run(&input, &pool, &result, &err);
 *
 * To add one: a row in CKPT_STRATEGY_LIST (plan.h) and a function ckpt_strategy_NAME, in strategy_kept.c
 * where it only chooses which tensors are kept, else in a file of its own. The table here and --help follow
 * the list.
 */
#ifndef CKPT_STRATEGY_H
#define CKPT_STRATEGY_H

#include "planner/packing/layout.h"

typedef struct ckpt_strategy_input {
    const ckpt_graph *graph;
    const ckpt_costs *costs;
    const ckpt_plan_options *options;
    uint64_t alignment_bytes;
    uint64_t fixed_bytes; /* of memory.total: all but the step region */
    uint64_t eval_bytes;  /* the step region is at least this: evaluation needs it */
} ckpt_strategy_input;

typedef struct ckpt_strategy_result {
    ckpt_schedule schedule;
    bool bounded; /* `bound` is set, for the budget that was asked; otherwise that of the plan's own bytes is found */
    ckpt_plan_bound bound;
    ckpt_layout layout;     /* of `schedule`, where it had to be found: packing takes time; layout.live.step is NULL elsewhere */
    uint64_t minimum_total; /* set with CKPT_INFEASIBLE: the smallest feasible memory.total */
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

/* The layers that a --layers list names, marked in chosen[graph->layer_count]. An item is a layer's exact
 * name, an index or a range of indices, or a glob (fnmatch; '*' matches '/' too), tried in this order.
 * CKPT_USAGE names the item and the nearest layers. */
ckpt_status ckpt_layers_parse(const ckpt_graph *graph, const char *list, bool *chosen, ckpt_error *err);

#endif
