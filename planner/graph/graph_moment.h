/* What has to be there while a backward node runs, whatever a schedule does.
 *
 *     ckpt_graph_moment_reads(&graph, last);
 *     ckpt_graph_moment_bytes(&graph, 256, last, bytes, gradients);
 *
 * Gradients live from the node that makes them to the last one that reads them, as backward nodes run once and in the graph's
 * order. What a backward node reads of the forward pass is there when it runs; other forward tensors may be there or not.
 */
#ifndef CKPT_GRAPH_MOMENT_H
#define CKPT_GRAPH_MOMENT_H

#include "graph/graph.h"

/* By tensor: the last backward node that reads it, or -1. */
void ckpt_graph_moment_reads(const ckpt_graph *graph, int *last);

/* By node, 0 of forward ones: the least live bytes. `last` is that of ckpt_graph_moment_reads. `gradients`: those of gradients
 * that live on after it; or NULL. */
void ckpt_graph_moment_bytes(const ckpt_graph *graph, uint64_t alignment_bytes, const int *last, uint64_t *bytes,
                             uint64_t *gradients);

/* What forward node n takes at least beside inputs of the step: its outputs, but for one that might be written over an input.
 * written_over: whether there is one. */
uint64_t ckpt_graph_moment_outputs(const ckpt_graph *graph, uint64_t alignment_bytes, const int *last, int node,
                                   bool *written_over);

#endif
