/* Rewriting the imported forward graph. Nothing here changes what is computed beyond rounding.
 *
 *     ckpt_rewrite_recognise(&graph, &err);   // element functions that exporters spell out
 *     // here the loss is chosen and attached
 *     ckpt_rewrite_fuse(&graph, &err);        // bias, activation and dropout into the node before them
 *     ckpt_rewrite_to_bf16(&graph, &err);     // with --precision bf16: what is kept takes half the memory
 *     ckpt_autodiff_run(&graph, &training, &err);
 *     ckpt_rewrite_add_casts(&graph, traits->bf16_kernels, &err);
 */
#ifndef CKPT_REWRITE_H
#define CKPT_REWRITE_H

#include "graph/graph.h"

/* Finds GELU (both forms), SiLU, Softplus, Mish, HardSwish and Softsign in whatever arithmetic an exporter wrote them: a group
 * of element nodes between one tensor and another whose normal form is that of one of these functions becomes one ACT node. */
ckpt_status ckpt_rewrite_recognise(ckpt_graph *graph, ckpt_error *err);

/* Puts back the dropout that an export for inference left out: each hidden activation, an activation function whose value
 * reaches a later product, drops with this probability, in (0, 1). CKPT_USAGE: the graph has dropout of its own, or no
 * hidden activation. Before ckpt_rewrite_fuse. */
ckpt_status ckpt_rewrite_add_dropout(ckpt_graph *graph, float probability, ckpt_drop_rng rng, ckpt_error *err);

/* LINEAR + bias; LINEAR or ACT + element function whose derivative comes from its output; + dropout. Only where the
 * tensor between has no other reader and is no output. Then drops nodes that nothing depends on,
 * and takes the memory of constants and weights that nothing reads. */
ckpt_status ckpt_rewrite_fuse(ckpt_graph *graph, ckpt_error *err);

/* Activations become bf16: STEP tensors through which a gradient flows, but for the loss and what leads to it after the
 * last product, statistics, and the outputs. Parameters stay fp32, so autodiff makes their gradients fp32, and those of
 * activations bf16. Until ckpt_rewrite_add_casts the graph cannot run: its nodes do not take these types. */
ckpt_status ckpt_rewrite_to_bf16(ckpt_graph *graph, ckpt_error *err);

/* Puts ordinary CAST nodes where a node takes another type than its tensor has, immediately before and behind it and in
 * its phase, so that what they make is transient. kernels: products, ACT, BINARY and their gradients take bf16 (weights
 * are then cast for each use, sums and what goes to a parameter stay fp32); else every node works in fp32. For a
 * training graph or one for evaluation. */
ckpt_status ckpt_rewrite_add_casts(ckpt_graph *graph, bool kernels, ckpt_error *err);

/* By tensor: how many nodes and graph outputs read it, and one such node (or -1). Arrays in `pool`. */
ckpt_status ckpt_graph_count_uses(const ckpt_graph *graph, ckpt_pool *pool, int **uses, int **reader, ckpt_error *err);

#endif
