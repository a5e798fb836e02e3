/* Attributes of what works along axes or moves elements: SOFTMAX, TRANSPOSE, REDUCE_SUM, SLICE, GATHER and their like. */
#ifndef CKPT_ATTR_SHAPE_H
#define CKPT_ATTR_SHAPE_H

#include "graph/tensor.h"

/* SOFTMAX, LOGSOFTMAX, CONCAT: elements before the axis, along it and behind it. */
typedef struct ckpt_axis_attr {
    int64_t outer, axis, inner;
} ckpt_axis_attr;

/* y = alpha * sum of x over the axes whose bit is not in keep; adjacent like axes are merged. */
typedef struct ckpt_reduce_attr {
    int rank;
    int64_t dim[CKPT_MAX_RANK];
    uint32_t keep; /* bit i: dim[i] stays */
    float alpha;
} ckpt_reduce_attr;

/* y has dims dim[perm[0]], dim[perm[1]], ... */
typedef struct ckpt_transpose_attr {
    int rank;
    int64_t dim[CKPT_MAX_RANK];
    int perm[CKPT_MAX_RANK];
} ckpt_transpose_attr;

typedef enum ckpt_fill { CKPT_FILL_CONSTANT, CKPT_FILL_REFLECT, CKPT_FILL_EDGE, CKPT_FILL_WRAP } ckpt_fill;

/* part[i] is whole[start + i * step] along each axis. PLACE fills the rest of the whole with `value`, or with the part's
 * own values seen again; SLICE with such a fill adds them up again. */
typedef struct ckpt_slice_attr {
    int rank;
    int64_t whole[CKPT_MAX_RANK], part[CKPT_MAX_RANK], start[CKPT_MAX_RANK], step[CKPT_MAX_RANK];
    ckpt_fill fill;
    float value;
} ckpt_slice_attr;

typedef struct ckpt_gather_attr {
    int64_t outer, axis, inner; /* of the data; each index takes `inner` values of every outer */
    int64_t picks;
} ckpt_gather_attr;

typedef enum ckpt_resize { CKPT_RESIZE_NEAREST, CKPT_RESIZE_LINEAR, CKPT_RESIZE_CUBIC } ckpt_resize;

typedef struct ckpt_resize_attr {
    int rank;
    int64_t from[CKPT_MAX_RANK], to[CKPT_MAX_RANK];
    ckpt_resize mode;
} ckpt_resize_attr;

typedef struct ckpt_triangle_attr {
    int64_t outer, rows, cols, diagonal;
    bool upper;
} ckpt_triangle_attr;

#endif
