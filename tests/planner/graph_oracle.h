/* Ground truth for small training graphs: the least recomputation of any schedule, by relaxing the costs of all
 * sets of forward tensors that can be there until nothing changes. No order, no pruning, no stages.
 *
 *     uint64_t cost = ckpt_graph_oracle(&graph, &costs, 64, budget);   // UINT64_MAX: infeasible
 *
 * Of MLPs and the like: a STEP tensor of the loss, the gradients and the updates is made once and read by those
 * alone.
 */
#ifndef CKPT_GRAPH_ORACLE_H
#define CKPT_GRAPH_ORACLE_H

#include "planner/core/costs.h"

enum { CKPT_GRAPH_ORACLE_TENSORS = 9 };

/* Forward STEP tensors; at most CKPT_GRAPH_ORACLE_TENSORS for the oracle. */
int ckpt_graph_oracle_tensors(const ckpt_graph *graph);

uint64_t ckpt_graph_oracle(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                           uint64_t budget_bytes);

#endif
