/* A chain inside a training graph that no schedule gets around: for lower bounds (chain_bound.h).
 *
 *     ckpt_chain chain;
 *     ckpt_graph_chain_find(&graph, &costs, 256, &pool, &chain, &err);   // chain.stage_count 0: there is none
 *
 * Take a path of forward nodes, each of which reads what the one before it made. Between two of them lies a cell: the tensors
 * that are made from the first one and that the second one is made from. Something of a cell has to be there when the second
 * node runs; and after a time in which nothing of it was there, the first thing to appear in it comes out of the first node.
 * So whatever a schedule of the graph does, its runs of the path's nodes are those of a schedule of a chain, in which each
 * cell takes no more bytes than the smallest of its tensors; and something of a cell has to be there when a backward node
 * reads from it. A run of a stage takes what its first node reads of the cell before and writes, beside the gradients that are
 * there; other nodes are left out. The path is the one that costs most.
 */
#ifndef CKPT_GRAPH_CHAIN_H
#define CKPT_GRAPH_CHAIN_H

#include "planner/chain/chain.h"
#include "planner/core/costs.h"

/* The arrays are the pool's. A schedule of the graph that recomputes less than `least - first` does not exist, where no schedule
 * of the chain costs less than `least` and `first` is the sum of its forward costs. Errors: CKPT_NOMEM. */
ckpt_status ckpt_graph_chain_find(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                  ckpt_pool *pool, ckpt_chain *chain, ckpt_error *err);

#endif
