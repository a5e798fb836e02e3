/* Convolutions and pools. Rules for sizes: ONNX, operators Conv, ConvTranspose and MaxPool. */
#include <inttypes.h>
#include <string.h>

#include "import/import.h"
#include "import/onnx_rules.h"

enum { LARGEST = 1 << 30 }; /* of strides, paddings and sizes: no sum or product of two of them overflows */

typedef enum padding { EXPLICIT, SAME_UPPER, SAME_LOWER, VALID } padding;

typedef struct window {
    ckpt_window_attr attr;
    int64_t after[CKPT_MAX_SPATIAL];
    padding padding;
} window;

/* An attribute with a value an axis, or two; `absent` where there is none. */
static ckpt_status read_axes(ckpt_import *im, const Onnx__NodeProto *node, const char *name, int axes, int64_t absent,
                             int64_t *values, int64_t *after) {
    const int64_t *given;
    int count;
    CKPT_TRY(ckpt_import_attr_ints(im, node, name, &given, &count));
    if (count >= 0 && count != (after ? 2 * axes : axes))
        return ckpt_fail(im->err, CKPT_MODEL, "its attribute '%s' has %d values for %d axes", name, count, axes);
    for (int i = 0; i < axes; i++) {
        values[i] = count < 0 ? absent : given[i];
        if (after) after[i] = count < 0 ? absent : given[axes + i];
        if (values[i] < 0 || values[i] > LARGEST || (after && (after[i] < 0 || after[i] > LARGEST)))
            return ckpt_fail(im->err, CKPT_MODEL, "its attribute '%s' is out of range along axis %d", name, i);
    }
    return CKPT_OK;
}

/* Everything but the sizes. kernel: the weight's, or NULL where the attribute must tell. */
static ckpt_status read_window(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *x, const int64_t *kernel, window *w) {
    static const char *const paddings[] = {"NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"};
    const char *name;
    *w = (window){.attr = {.axes = x->rank - 2}};
    ckpt_window_attr *a = &w->attr;
    if (a->axes < 1 || a->axes > CKPT_MAX_SPATIAL)
        return ckpt_fail(im->err, CKPT_MODEL, "its input has %d dimensions; 3 to %d are supported", x->rank, CKPT_MAX_SPATIAL + 2);
    CKPT_TRY(read_axes(im, node, "kernel_shape", a->axes, 0, a->kernel, NULL));
    for (int i = 0; kernel && i < a->axes; i++)
        if (!a->kernel[i]) a->kernel[i] = kernel[i];
    CKPT_TRY(read_axes(im, node, "strides", a->axes, 1, a->stride, NULL));
    CKPT_TRY(read_axes(im, node, "dilations", a->axes, 1, a->dilation, NULL));
    CKPT_TRY(read_axes(im, node, "pads", a->axes, 0, a->before, w->after));
    for (int i = 0; i < a->axes; i++)
        if (a->kernel[i] < 1 || a->kernel[i] > LARGEST || !a->stride[i] || !a->dilation[i] || x->dim[2 + i] > LARGEST)
            return ckpt_fail(im->err, CKPT_MODEL, "its window along axis %d is empty or too large", i);
    CKPT_TRY(ckpt_import_attr_int(im, node, "group", 1, &a->groups));
    CKPT_TRY(ckpt_import_attr_string(im, node, "auto_pad", "NOTSET", &name));
    for (int i = 0; i < 4; i++)
        if (strcmp(name, paddings[i]) == 0) {
            w->padding = (padding)i;
            return CKPT_OK;
        }
    return ckpt_fail(im->err, CKPT_MODEL, "its attribute 'auto_pad' is '%s'", name);
}

static int64_t reach(const ckpt_window_attr *a, int i) { return (a->kernel[i] - 1) * a->dilation[i] + 1; }

static void share_padding(window *w, int i, int64_t total) {
    if (total < 0) total = 0;
    w->attr.before[i] = (total + (w->padding == SAME_LOWER)) / 2;
    w->after[i] = total - w->attr.before[i];
}

/* Sizes of what Conv and the pools make. ceil_mode drops a window that begins behind the input and its front padding. */
static ckpt_status find_outputs(ckpt_import *im, const ckpt_view *x, bool ceil_mode, window *w) {
    ckpt_window_attr *a = &w->attr;
    for (int i = 0; i < a->axes; i++) {
        const int64_t size = a->dense[i] = x->dim[2 + i];
        if (w->padding == SAME_UPPER || w->padding == SAME_LOWER) {
            a->coarse[i] = (size + a->stride[i] - 1) / a->stride[i];
            share_padding(w, i, (a->coarse[i] - 1) * a->stride[i] + reach(a, i) - size);
            continue;
        }
        if (w->padding == VALID) a->before[i] = w->after[i] = 0;
        const int64_t room = size + a->before[i] + w->after[i] - reach(a, i);
        if (room < 0)
            return ckpt_fail(im->err, CKPT_MODEL, "its window of %" PRId64 " is larger than the padded input along axis %d",
                             reach(a, i), i);
        a->coarse[i] = (room + (ceil_mode ? a->stride[i] - 1 : 0)) / a->stride[i] + 1;
        if (ceil_mode && (a->coarse[i] - 1) * a->stride[i] >= size + a->before[i]) a->coarse[i]--;
    }
    return CKPT_OK;
}

static ckpt_status find_transposed(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *x, window *w) {
    ckpt_window_attr *a = &w->attr;
    int64_t extra[CKPT_MAX_SPATIAL], asked[CKPT_MAX_SPATIAL];
    const bool given = ckpt_import_attr(node, "output_shape") != NULL;
    CKPT_TRY(read_axes(im, node, "output_padding", a->axes, 0, extra, NULL));
    CKPT_TRY(read_axes(im, node, "output_shape", a->axes, 0, asked, NULL));
    for (int i = 0; i < a->axes; i++) {
        a->coarse[i] = x->dim[2 + i];
        const int64_t whole = a->stride[i] * (a->coarse[i] - 1) + extra[i] + reach(a, i);
        if (w->padding == VALID) a->before[i] = w->after[i] = 0;
        if (given || w->padding == SAME_UPPER || w->padding == SAME_LOWER) {
            a->dense[i] = given ? asked[i] : a->coarse[i] * a->stride[i];
            if (w->padding == EXPLICIT) w->padding = SAME_LOWER; /* the larger half in front, as the operator's text has it */
            share_padding(w, i, whole - a->dense[i]);
        } else {
            a->dense[i] = whole - a->before[i] - w->after[i];
        }
        if (a->dense[i] < 1) return ckpt_fail(im->err, CKPT_MODEL, "nothing is left of axis %d", i);
    }
    return CKPT_OK;
}

static ckpt_status conv(ckpt_import *im, const Onnx__NodeProto *node, bool transposed) {
    ckpt_view x, weight, bias = {.tensor = -1}, y;
    window w;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_input(im, node, 1, &weight));
    if (weight.rank != x.rank)
        return ckpt_fail(im->err, CKPT_MODEL, "its input and weight have %d and %d dimensions", x.rank, weight.rank);
    CKPT_TRY(read_window(im, node, &x, &weight.dim[2], &w));
    CKPT_TRY(transposed ? find_transposed(im, node, &x, &w) : find_outputs(im, &x, false, &w));
    if (ckpt_import_has_input(node, 2)) {
        CKPT_TRY(ckpt_import_input(im, node, 2, &bias));
    }
    CKPT_TRY(ckpt_build_conv(&im->model->graph, node->name, &x, &weight, bias.tensor, &w.attr, transposed, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_conv(ckpt_import *im, const Onnx__NodeProto *node) { return conv(im, node, false); }
ckpt_status import_convtranspose(ckpt_import *im, const Onnx__NodeProto *node) { return conv(im, node, true); }

static ckpt_status pool(ckpt_import *im, const Onnx__NodeProto *node, ckpt_op op) {
    ckpt_view x, y, indices;
    window w;
    int64_t ceil_mode, count_padding;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(read_window(im, node, &x, NULL, &w));
    CKPT_TRY(ckpt_import_attr_int(im, node, "ceil_mode", 0, &ceil_mode));
    CKPT_TRY(ckpt_import_attr_int(im, node, "count_include_pad", 0, &count_padding));
    w.attr.count_padding = count_padding != 0;
    CKPT_TRY(find_outputs(im, &x, ceil_mode != 0, &w));
    const bool wants_indices = ckpt_import_has_output(node, 1);
    CKPT_TRY(ckpt_build_pool(&im->model->graph, node->name, op, &x, &w.attr, &y, wants_indices ? &indices : NULL, im->err));
    CKPT_TRY(ckpt_import_define(im, node, 0, &y));
    return wants_indices ? ckpt_import_define(im, node, 1, &indices) : CKPT_OK;
}

ckpt_status import_maxpool(ckpt_import *im, const Onnx__NodeProto *node) { return pool(im, node, CKPT_OP_MAXPOOL); }
ckpt_status import_averagepool(ckpt_import *im, const Onnx__NodeProto *node) { return pool(im, node, CKPT_OP_AVGPOOL); }

/* The mean or the largest over everything behind the channels. */
static ckpt_status global_pool(ckpt_import *im, const Onnx__NodeProto *node, bool mean) {
    ckpt_view x, y;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    if (x.rank < 3) return ckpt_fail(im->err, CKPT_MODEL, "its input has %d dimensions", x.rank);
    const uint32_t axes = ((1u << x.rank) - 1) & ~3u;
    if (mean) CKPT_TRY(ckpt_build_reduce(&im->model->graph, node->name, &x, axes, true, true, &y, im->err));
    else CKPT_TRY(ckpt_build_reduce_max(&im->model->graph, node->name, &x, axes, true, false, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_globalaveragepool(ckpt_import *im, const Onnx__NodeProto *node) { return global_pool(im, node, true); }
ckpt_status import_globalmaxpool(ckpt_import *im, const Onnx__NodeProto *node) { return global_pool(im, node, false); }
