/* Where one axis lies in a dense tensor. A view of the tensor does not move it: whatever Reshape, Flatten, Squeeze and
 * Unsqueeze make of the shape, the elements along the axis stay `inner` apart. So a span is compared with a shape by
 * products of dims alone, and only nodes that move elements change it.
 *
 *     ckpt_span span = ckpt_span_of(&view, 1);
 *     if (ckpt_span_transpose(&node->attr.transpose, &span)) ...   // now where it lies behind the Transpose
 *     int axis = ckpt_span_axis(&span, &other);   // which axis of another view that is, or -1
 */
#ifndef CKPT_SPAN_H
#define CKPT_SPAN_H

#include "graph/build.h"

typedef struct ckpt_span {
    int64_t outer, size, inner; /* element i of the axis is at (o * size + i) * inner + n */
} ckpt_span;

ckpt_span ckpt_span_of(const ckpt_view *view, int axis);

/* The axis of `view` that is just this span, or -1. */
int ckpt_span_axis(const ckpt_span *span, const ckpt_view *view);

/* From a transposition's input to its output. False: its axes are not whole parts of the span's neighbours, so that the span
 * is torn apart. */
bool ckpt_span_transpose(const ckpt_transpose_attr *transpose, ckpt_span *span);

#endif
