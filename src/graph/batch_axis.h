/* Where the samples of a batch lie in the graph's tensors, and which nodes read more than one of them at once.
 *
 *     bool *across = ckpt_pool_array(&pool, graph.node_count, bool);
 *     ckpt_batch_find_across(&graph, across, &err);
 *     for (int n = 0; n < graph.forward_count; n++) if (across[n]) printf("%s\n", graph.node[n].origin);
 *
 * A mean over axis 0, a softmax over samples, x times its own transpose and a BatchNormalization's statistics are of the
 * samples that run together: with micro-batches of a part of the batch.
 */
#ifndef CKPT_BATCH_AXIS_H
#define CKPT_BATCH_AXIS_H

#include "graph/graph.h"

/* across[graph->node_count]: the forward nodes whose outputs depend on several samples although their inputs do not, or
 * on samples at different places. Where it cannot tell it says so too. A loss, and the sum over samples that it is of, is
 * not among them. Of a batch of one sample nothing can be said: import the model with two. */
ckpt_status ckpt_batch_find_across(const ckpt_graph *graph, bool *across, ckpt_error *err);

#endif
