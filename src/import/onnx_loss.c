/* Losses that are nodes of the file: SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss. They become ordinary nodes,
 * so that they can stand anywhere; what ckpt_model_load needs to train on one is noted beside the graph. */
#include <float.h>
#include <string.h>

#include "import/import.h"
#include "import/onnx_rules.h"

enum reduction { NONE, SUM, MEAN };

static ckpt_status read_reduction(ckpt_import *im, const Onnx__NodeProto *node, enum reduction *reduction) {
    const char *text;
    CKPT_TRY(ckpt_import_attr_string(im, node, "reduction", "mean", &text));
    *reduction = strcmp(text, "none") == 0 ? NONE : strcmp(text, "sum") == 0 ? SUM : MEAN;
    if (*reduction == MEAN && strcmp(text, "mean") != 0)
        return ckpt_fail(im->err, CKPT_MODEL, "its attribute 'reduction' is '%s' instead of none, mean or sum", text);
    return CKPT_OK;
}

/* The targets as the kernels take them. */
static ckpt_status read_targets(ckpt_import *im, const Onnx__NodeProto *node, ckpt_view *target) {
    ckpt_view given;
    CKPT_TRY(ckpt_import_input(im, node, 1, &given));
    *target = given;
    const ckpt_dtype type = im->model->graph.tensor[given.tensor].dtype;
    if (type == CKPT_I32) return CKPT_OK;
    if (type != CKPT_I64)
        return ckpt_fail(im->err, CKPT_MODEL, "its targets are of type %s instead of integers", ckpt_dtype_name(type));
    return ckpt_build_cast(&im->model->graph, NULL, &given, CKPT_I32, target, im->err);
}

/* A divisor that is not 0, as the weights of a batch, or of a part of one, without a class that counts are: their mean is 0
 * then, and not NaN for all of a step. */
static ckpt_status not_zero(ckpt_import *im, const ckpt_view *total, ckpt_view *divisor) {
    ckpt_graph *graph = &im->model->graph;
    float *least = ckpt_pool_array(&graph->pool, 1, float);
    const int tensor = ckpt_graph_add_tensor(graph, NULL, CKPT_F32, CKPT_ROLE_CONST, 0, NULL, im->err);
    if (!least || tensor < 0) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    *least = FLT_MIN;
    graph->tensor[tensor].data = least;
    const ckpt_view constant = ckpt_view_of(graph, tensor);
    return ckpt_build_pair(graph, NULL, CKPT_PAIR_MAX, total, &constant, divisor, im->err);
}

/* The sum of the losses, or their mean weighted as they are. */
static ckpt_status reduce(ckpt_import *im, const char *name, enum reduction reduction, const ckpt_view *loss,
                          const ckpt_view *weight, ckpt_view *y) {
    ckpt_graph *graph = &im->model->graph;
    const uint32_t all = (1u << loss->rank) - 1;
    ckpt_view sum, total, divisor;
    if (reduction == NONE) {
        *y = *loss;
        return CKPT_OK;
    }
    if (reduction == SUM) return ckpt_build_reduce(graph, name, loss, all, false, false, y, im->err);
    CKPT_TRY(ckpt_build_reduce(graph, NULL, loss, all, false, false, &sum, im->err));
    CKPT_TRY(ckpt_build_reduce(graph, NULL, weight, all, false, false, &total, im->err));
    divisor = total;
    if (!im->options->as_written) CKPT_TRY(not_zero(im, &total, &divisor));
    return ckpt_build_binary(graph, name, CKPT_BINARY_DIV, &sum, &divisor, y, im->err);
}

static ckpt_status class_loss(ckpt_import *im, const Onnx__NodeProto *node, ckpt_loss kind) {
    ckpt_graph *graph = &im->model->graph;
    ckpt_view x, target, weights = {.tensor = -1}, scores, loss, weight, y;
    enum reduction reduction;
    int64_t ignore;
    CKPT_TRY(read_reduction(im, node, &reduction));
    CKPT_TRY(ckpt_import_attr_int(im, node, "ignore_index", -1, &ignore)); /* negative ones are ignored anyway */
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(read_targets(im, node, &target));
    if (ckpt_import_has_input(node, 2)) CKPT_TRY(ckpt_import_input(im, node, 2, &weights));
    scores = x;
    if (kind == CKPT_LOSS_CE)
        CKPT_TRY(ckpt_build_softmax(graph, NULL, CKPT_OP_LOGSOFTMAX, &x, 1, 1, &scores, im->err));
    CKPT_TRY(ckpt_build_class_loss(graph, reduction == NONE ? node->name : NULL, &scores, &target, weights.tensor, ignore, &loss,
                                   &weight, im->err));
    CKPT_TRY(reduce(im, node->name, reduction, &loss, &weight, &y));
    CKPT_TRY(ckpt_import_define(im, node, 0, &y));
    if (kind == CKPT_LOSS_CE) CKPT_TRY(ckpt_import_define(im, node, 1, &scores));
    ckpt_file_loss *own = ckpt_pool_array(&graph->pool, 1, ckpt_file_loss);
    if (!own) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    *own = (ckpt_file_loss){.next = im->model->file_loss, .value = y.tensor, .kind = kind, .x = x, .target = target.tensor,
                            .node = node->name, .classes = x.dim[1], .weights = weights.tensor,
                            .ignores = ckpt_import_attr(node, "ignore_index") != NULL, .ignore = ignore, .mean = reduction == MEAN};
    if (reduction != NONE) im->model->file_loss = own;
    return CKPT_OK;
}

ckpt_status import_softmaxcrossentropyloss(ckpt_import *im, const Onnx__NodeProto *node) {
    return class_loss(im, node, CKPT_LOSS_CE);
}

ckpt_status import_nllloss(ckpt_import *im, const Onnx__NodeProto *node) { return class_loss(im, node, CKPT_LOSS_NLL); }
