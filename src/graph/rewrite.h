/* Rewriting the imported forward graph. Nothing here changes what is computed beyond rounding.
 *
 *     ckpt_rewrite_recognise(&graph, &err);   // element functions that exporters spell out
 *     ... choose and attach the loss ...
 *     ckpt_rewrite_fuse(&graph, &err);        // bias, activation and dropout into the node before them
 */
#ifndef CKPT_REWRITE_H
#define CKPT_REWRITE_H

#include "graph/graph.h"

/* Finds GELU (both forms), SiLU, Mish, HardSwish and Softsign in whatever arithmetic an exporter wrote them: a group of element nodes between
 * one tensor and another that, evaluated at sample points, is one of these functions, becomes one ACT node. */
ckpt_status ckpt_rewrite_recognise(ckpt_graph *graph, ckpt_error *err);

/* Puts back the dropout that an export for inference left out: each hidden activation, an activation function whose value
 * reaches a later product, drops with this probability, in (0, 1). CKPT_USAGE: the graph has dropout of its own, or no
 * hidden activation. Before ckpt_rewrite_fuse. */
ckpt_status ckpt_rewrite_add_dropout(ckpt_graph *graph, float probability, ckpt_drop_rng rng, ckpt_error *err);

/* LINEAR + bias; LINEAR or ACT + element function whose derivative comes from its output; + dropout. Only where the
 * tensor between has no other reader and is no output. Then drops nodes that nothing depends on,
 * and takes the memory of constants and weights that nothing reads. */
ckpt_status ckpt_rewrite_fuse(ckpt_graph *graph, ckpt_error *err);

/* By tensor: how many nodes and graph outputs read it, and one such node (or -1). Arrays in `pool`. */
ckpt_status ckpt_graph_count_uses(const ckpt_graph *graph, ckpt_pool *pool, int **uses, int **reader, ckpt_error *err);

#endif
