/* Small training graphs, exactly: every schedule of the graph's nodes is searched (chain_search.h).
 *
 *     ckpt_graph_exact *exact;
 *     ckpt_graph_exact_open(&graph, &costs, 256, &exact, &err);          // NULL: too large, or not of this kind
 *     uint64_t least = ckpt_graph_exact_least(exact);
 *     ckpt_graph_exact_solve(exact, bytes, &pool, &schedule, &recompute_cost, &needed_bytes, &err);
 *     ckpt_graph_exact_close(exact);
 *
 * Knows nothing of stages, so branches are as good as chains. The loss, the gradients and the updates run once each
 * in the graph's order; forward nodes run in any order, as often as pays, and what they made may be dropped at any
 * time. Bytes are those of liveness.h.
 */
#ifndef CKPT_CHAIN_GRAPH_EXACT_H
#define CKPT_CHAIN_GRAPH_EXACT_H

#include "planner/core/schedule.h"

typedef struct ckpt_graph_exact ckpt_graph_exact;

/* Graph and costs must outlive the result. Errors: CKPT_NOMEM. */
ckpt_status ckpt_graph_exact_open(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                  ckpt_graph_exact **exact, ckpt_error *err);

/* The smallest step region of any schedule, by live bytes. */
uint64_t ckpt_graph_exact_least(const ckpt_graph_exact *exact);

/* The smallest step region above `step_bytes` at which less is recomputed; UINT64_MAX when there is none. */
uint64_t ckpt_graph_exact_next(const ckpt_graph_exact *exact, uint64_t step_bytes);

/* Least recomputation with at most step_bytes live and, of the schedules with that, one that needs least: the same
 * one for every budget between its need and the next cheaper one's. Errors: CKPT_INFEASIBLE, CKPT_NOMEM. */
ckpt_status ckpt_graph_exact_solve(const ckpt_graph_exact *exact, uint64_t step_bytes, ckpt_pool *pool,
                                   ckpt_schedule *schedule, uint64_t *recompute_cost, uint64_t *needed_bytes,
                                   ckpt_error *err);

void ckpt_graph_exact_close(ckpt_graph_exact *exact);

#endif
