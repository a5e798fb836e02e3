/* What any schedule of a training graph has to recompute under a number of bytes.
 *
 *     ckpt_graph_bound(&graph, &costs, 256, step_bytes, &cost, &err);
 *
 * Holds for every schedule that runs the gradient and update nodes in the graph's order, whatever forward
 * tensors it keeps, drops and makes again: it knows nothing of stages.
 */
#ifndef CKPT_CHAIN_GRAPH_BOUND_H
#define CKPT_CHAIN_GRAPH_BOUND_H

#include "planner/plan.h"

/* Errors: CKPT_NOMEM. */
ckpt_status ckpt_graph_bound(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes, uint64_t step_bytes,
                             uint64_t *recompute_cost, ckpt_error *err);

/* By prices along the chain inside the graph (graph_chain.h): *lower_bound becomes larger where that says more. Nothing is sought
 * beyond recompute_cost, which some schedule in these bytes recomputes. Takes up to half a second.
 * Errors: CKPT_NOMEM. */
ckpt_status ckpt_graph_bound_by_chain(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                      uint64_t step_bytes, uint64_t recompute_cost, uint64_t *lower_bound,
                                      ckpt_error *err);

/* The same for each backward node, by node: what any schedule has to recompute after it has run. 0 of forward nodes. Takes time that
 * grows with the square of the graph. Errors: CKPT_NOMEM. */
ckpt_status ckpt_graph_bound_after(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                   uint64_t step_bytes, uint64_t *after, ckpt_error *err);

#endif
