/* Which axes a node takes from an input to its output.
 *
 *     ckpt_op_axis axis[CKPT_MOST_OP_AXES];
 *     const int count = ckpt_op_axes(&graph, node, 1, axis);   // of input 1
 *
 * A node is a loop nest over axes. Those that it takes from an input to output 0, one to one and whole, are listed: of
 * `dim` steps, which are `in` elements of the input and `out` of the output. Tensors are dense, so views change nothing,
 * and what lies at every `stride`th element of a tensor is all there is to know of an axis of any shape of it. An axis that
 * is summed, cut or normalized over is not listed, and none is of an op without a rule.
 */
#ifndef CKPT_OP_AXES_H
#define CKPT_OP_AXES_H

#include "graph/graph.h"

typedef struct ckpt_op_axis {
    int64_t dim, in, out;
} ckpt_op_axis;

enum { CKPT_MOST_OP_AXES = CKPT_MAX_RANK + 1 };

/* The axes that pass from input `input` to output 0; returns how many. */
int ckpt_op_axes(const ckpt_graph *graph, const ckpt_node *node, int input, ckpt_op_axis axis[CKPT_MOST_OP_AXES]);

/* Where `size` steps of `stride` elements of the input come to lie: their stride in the output, or 0 where they are in none
 * of the axes whole. Back: from the output to the input. */
int64_t ckpt_op_axes_pass(const ckpt_op_axis *axis, int count, int64_t size, int64_t stride);
int64_t ckpt_op_axes_back(const ckpt_op_axis *axis, int count, int64_t size, int64_t stride);

#endif
