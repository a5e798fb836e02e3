/* The strategies `budget` and `min`: chain tables over the stages of a training graph (design section 5).
 *
 *     ckpt_chain_strategy *chain;
 *     ckpt_chain_strategy_open(&graph, &costs, 256, false, &chain, &err);
 *     uint64_t least = ckpt_chain_strategy_minimum(chain);
 *     ckpt_chain_strategy_solve(chain, bytes, true, &pool, &schedule, &solution, &err);
 *     ckpt_chain_strategy_close(chain);
 */
#ifndef CKPT_CHAIN_STRATEGY_H
#define CKPT_CHAIN_STRATEGY_H

#include "planner/core/schedule.h"

typedef struct ckpt_chain_strategy ckpt_chain_strategy;

typedef struct ckpt_chain_solution {
    uint64_t recompute_cost;
    uint64_t needed_bytes; /* the smallest step region, by live bytes, at which the same cost is reached: the
                              schedule is the one of that size, so that a smaller budget never gets a larger
                              peak */
    bool improved;         /* neither the tables nor the curve have it */
    ckpt_plan_bound bound;
} ckpt_chain_solution;

/* Small graphs are searched as a whole (chain_graph_exact.h) unless tables_only: every answer is then proved. Of
 * others, cuts the forward graph into stages and costs each. Graph and costs must outlive the
 * result. */
ckpt_status ckpt_chain_strategy_open(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                     bool tables_only, ckpt_chain_strategy **chain, ckpt_error *err);

/* Whether ckpt_chain_strategy_solve with `search` looks for schedules that the tables and the curve cannot have. */
bool ckpt_chain_strategy_searches(const ckpt_chain_strategy *chain);

/* The smallest step region (live bytes) for which a schedule exists. */
uint64_t ckpt_chain_strategy_minimum(ckpt_chain_strategy *chain);

/* The smallest step region above `step_bytes` at which less is recomputed; UINT64_MAX when there is none. */
uint64_t ckpt_chain_strategy_next(ckpt_chain_strategy *chain, uint64_t step_bytes);

/* Least recomputation with at most `step_bytes` live at any step. With `search` graphs of at most CKPT_ACTS_TENSORS
 * forward tensors are searched for better schedules and bounds than the tables' (chain_refine.h), which takes up to
 * seconds.
 * With and without it more bytes never cost more. CKPT_INFEASIBLE below the minimum. */
ckpt_status ckpt_chain_strategy_solve(ckpt_chain_strategy *chain, uint64_t step_bytes, bool search, ckpt_pool *pool,
                                      ckpt_schedule *schedule, ckpt_chain_solution *solution, ckpt_error *err);

/* For a schedule made in any way, which recomputes recompute_cost in step_bytes: what every schedule of the graph
 * recomputes in as many. Exact for small graphs. */
ckpt_status ckpt_chain_strategy_bound(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                      uint64_t step_bytes, uint64_t recompute_cost, ckpt_plan_bound *bound,
                                      ckpt_error *err);

/* Raises the bounds of solve by what takes longer, for a schedule that recomputes recompute_cost in step_bytes, and sets
 * proved. */
ckpt_status ckpt_chain_strategy_raise_bound(const ckpt_chain_strategy *chain, uint64_t step_bytes,
                                             uint64_t recompute_cost, ckpt_plan_bound *bound, ckpt_error *err);

void ckpt_chain_strategy_close(ckpt_chain_strategy *chain);

#endif
