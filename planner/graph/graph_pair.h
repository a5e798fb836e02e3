/* What any schedule of a training graph has to recompute after two backward nodes together.
 *
 *     ckpt_graph_pair_bound(&graph, &costs, 256, step_bytes, recompute_cost, &bound, &err);
 *
 * While one backward node runs only so many forward tensors can be held beside what it reads, and what a later backward node
 * reads is held or made again afterwards, with all that this takes (chain_graph_bound.h). The same is true while a second one
 * runs, and what is held then was held before or made in between. So each tensor is in one of eight states, and with a price for
 * a byte held at either moment the cheapest states follow from dynamic programming along the forward nodes, over those tensors
 * that later ones still read. Less the price of the bytes there are that bounds every schedule (Lagrange's relaxation); choices
 * are split by whether they hold a tensor (branch and bound).
 *
 * Where many tensors are read much later, as in dense skips, there are too many states.
 */
#ifndef CKPT_GRAPH_PAIR_H
#define CKPT_GRAPH_PAIR_H

#include "planner/core/costs.h"

/* Raises *bound, which some schedule of recompute_cost shows to be at most that, by the best of some pairs of backward nodes;
 * leaves it where there are too many states. Takes up to two seconds. Errors: CKPT_NOMEM. */
ckpt_status ckpt_graph_pair_bound(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                  uint64_t step_bytes, uint64_t recompute_cost, uint64_t *bound, ckpt_error *err);

#endif
