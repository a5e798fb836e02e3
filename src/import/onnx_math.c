/* Arithmetic of several tensors and sums over axes. */
#include "import/import.h"
#include "import/onnx_rules.h"

/* Opset 6 and before: b's axes are aligned at `axis` instead of at the end. */
static ckpt_status align_old_broadcast(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *a, ckpt_view *b) {
    int64_t broadcast, axis;
    CKPT_TRY(ckpt_import_attr_int(im, node, "broadcast", 0, &broadcast));
    CKPT_TRY(ckpt_import_attr_int(im, node, "axis", a->rank - b->rank, &axis));
    if (im->opset >= 7 || !broadcast) return CKPT_OK;
    int first;
    CKPT_TRY(ckpt_import_axis(im, axis, a->rank, true, &first));
    while (first + b->rank < a->rank) b->dim[b->rank++] = 1;
    return CKPT_OK;
}

static ckpt_status binary(ckpt_import *im, const Onnx__NodeProto *node, ckpt_binary kind) {
    ckpt_view a, b, c;
    CKPT_TRY(ckpt_import_input(im, node, 0, &a));
    CKPT_TRY(ckpt_import_input(im, node, 1, &b));
    CKPT_TRY(align_old_broadcast(im, node, &a, &b));
    CKPT_TRY(ckpt_build_binary(&im->model->graph, node->name, kind, &a, &b, &c, im->err));
    return ckpt_import_define(im, node, 0, &c);
}

ckpt_status import_add(ckpt_import *im, const Onnx__NodeProto *node) { return binary(im, node, CKPT_BINARY_ADD); }
ckpt_status import_sub(ckpt_import *im, const Onnx__NodeProto *node) { return binary(im, node, CKPT_BINARY_SUB); }
ckpt_status import_mul(ckpt_import *im, const Onnx__NodeProto *node) { return binary(im, node, CKPT_BINARY_MUL); }
ckpt_status import_div(ckpt_import *im, const Onnx__NodeProto *node) { return binary(im, node, CKPT_BINARY_DIV); }

/* All inputs, added up; `name` is what the last node is called. */
static ckpt_status sum_inputs(ckpt_import *im, const Onnx__NodeProto *node, const char *name, ckpt_view *sum) {
    ckpt_view next;
    CKPT_TRY(ckpt_import_input(im, node, 0, sum));
    for (size_t i = 1; i < node->n_input; i++) {
        CKPT_TRY(ckpt_import_input(im, node, i, &next));
        const ckpt_view before = *sum;
        CKPT_TRY(ckpt_build_binary(&im->model->graph, i + 1 == node->n_input ? name : NULL, CKPT_BINARY_ADD, &before, &next,
                                   sum, im->err));
    }
    return CKPT_OK;
}

ckpt_status import_sum(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view y;
    CKPT_TRY(sum_inputs(im, node, node->name, &y));
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_mean(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view sum, y;
    CKPT_TRY(sum_inputs(im, node, NULL, &sum));
    const ckpt_epilogue share = {.act = CKPT_ACT_SCALE, .alpha = 1 / (float)node->n_input};
    CKPT_TRY(ckpt_build_act(&im->model->graph, node->name, &share, &sum, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

/* Without axes all of them are summed, or with noop_with_empty_axes none. */
typedef enum reduction { SUM, MEAN, LARGEST, LEAST, SUM_ABS, SUM_SQUARE, NORM, LOG_SUM } reduction;

/* What is summed instead of x. */
static ckpt_status summand(ckpt_import *im, reduction kind, ckpt_view *x) {
    const ckpt_view of = *x;
    if (kind == SUM_SQUARE || kind == NORM)
        return ckpt_build_binary(&im->model->graph, NULL, CKPT_BINARY_MUL, &of, &of, x, im->err);
    return kind == SUM_ABS ? ckpt_build_act(&im->model->graph, NULL, &(ckpt_epilogue){.act = CKPT_ACT_ABS}, &of, x, im->err)
                           : CKPT_OK;
}

/* What becomes of the sum. */
static ckpt_status finish_sum(ckpt_import *im, const Onnx__NodeProto *node, reduction kind, ckpt_view *y) {
    const ckpt_view sum = *y;
    if (kind != NORM && kind != LOG_SUM) return CKPT_OK;
    const ckpt_epilogue act = {.act = kind == NORM ? CKPT_ACT_SQRT : CKPT_ACT_LOG};
    return ckpt_build_act(&im->model->graph, node->name, &act, &sum, y, im->err);
}

static ckpt_status reduce(ckpt_import *im, const Onnx__NodeProto *node, reduction kind) {
    ckpt_view x, y;
    const int64_t *axes;
    int64_t keep, noop;
    int count, axis;
    uint32_t summed = 0;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_attr_int(im, node, "keepdims", 1, &keep));
    CKPT_TRY(ckpt_import_attr_int(im, node, "noop_with_empty_axes", 0, &noop));
    CKPT_TRY(ckpt_import_axes(im, node, &axes, &count));
    for (int i = 0; i < count; i++) {
        CKPT_TRY(ckpt_import_axis(im, axes[i], x.rank, false, &axis));
        summed |= 1u << axis;
    }
    if (count <= 0) {
        if (noop && kind > LEAST) return ckpt_fail(im->err, CKPT_MODEL, "it has no axes, and noop_with_empty_axes");
        if (noop) return ckpt_import_alias(im, node, 0);
        summed = (1u << x.rank) - 1;
    }
    ckpt_graph *graph = &im->model->graph;
    if (kind == LARGEST || kind == LEAST) {
        CKPT_TRY(ckpt_build_reduce_max(graph, node->name, &x, summed, keep != 0, kind == LEAST, &y, im->err));
    } else {
        CKPT_TRY(summand(im, kind, &x));
        CKPT_TRY(ckpt_build_reduce(graph, kind == NORM || kind == LOG_SUM ? NULL : node->name, &x, summed, keep != 0, kind == MEAN,
                                   &y, im->err));
        CKPT_TRY(finish_sum(im, node, kind, &y));
    }
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_reducesum(ckpt_import *im, const Onnx__NodeProto *node) { return reduce(im, node, SUM); }
ckpt_status import_reducemean(ckpt_import *im, const Onnx__NodeProto *node) { return reduce(im, node, MEAN); }
ckpt_status import_reducemax(ckpt_import *im, const Onnx__NodeProto *node) { return reduce(im, node, LARGEST); }
ckpt_status import_reducemin(ckpt_import *im, const Onnx__NodeProto *node) { return reduce(im, node, LEAST); }
ckpt_status import_reducel1(ckpt_import *im, const Onnx__NodeProto *node) { return reduce(im, node, SUM_ABS); }
ckpt_status import_reducel2(ckpt_import *im, const Onnx__NodeProto *node) { return reduce(im, node, NORM); }
ckpt_status import_reducesumsquare(ckpt_import *im, const Onnx__NodeProto *node) { return reduce(im, node, SUM_SQUARE); }
ckpt_status import_reducelogsum(ckpt_import *im, const Onnx__NodeProto *node) { return reduce(im, node, LOG_SUM); }

/* y = x above 0, slope * x below: max(x, 0) + slope * min(x, 0), so that the slope is trained like any other factor.
 * The gradient at 0 is the slope, as PyTorch has it. */
ckpt_status import_prelu(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_graph *graph = &im->model->graph;
    const ckpt_epilogue above = {.act = CKPT_ACT_RELU}, below = {.act = CKPT_ACT_NEGATIVE};
    ckpt_view x, slope, positive, negative, scaled, y;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_input(im, node, 1, &slope));
    CKPT_TRY(ckpt_build_act(graph, NULL, &above, &x, &positive, im->err));
    CKPT_TRY(ckpt_build_act(graph, NULL, &below, &x, &negative, im->err));
    CKPT_TRY(ckpt_build_binary(graph, NULL, CKPT_BINARY_MUL, &negative, &slope, &scaled, im->err));
    if (ckpt_view_count(&scaled) != ckpt_view_count(&x))
        return ckpt_fail(im->err, CKPT_MODEL, "its slope does not broadcast to its input");
    CKPT_TRY(ckpt_build_binary(graph, node->name, CKPT_BINARY_ADD, &positive, &scaled, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

/* No operator of ONNX: what tf2onnx leaves of Keras's GELU. 1 - erf(x). */
ckpt_status import_erfc(ckpt_import *im, const Onnx__NodeProto *node) {
    const ckpt_epilogue erf = {.act = CKPT_ACT_ERF};
    ckpt_view x, e, one, y;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    if (!ckpt_import_has_output(node, 0)) return CKPT_OK;
    CKPT_TRY(ckpt_build_act(&im->model->graph, NULL, &erf, &x, &e, im->err));
    CKPT_TRY(ckpt_import_floats(im, ckpt_pool_printf(im->pool, "%s.one", node->output[0]), &(float){1}, 1, &one));
    CKPT_TRY(ckpt_build_binary(&im->model->graph, node->name, CKPT_BINARY_SUB, &one, &e, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}
