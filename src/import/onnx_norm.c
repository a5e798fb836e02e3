/* Normalization, softmax and dropout. */
#include "import/import.h"
#include "import/onnx_rules.h"

ckpt_status import_layernorm(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x, scale = {.tensor = -1}, bias = {.tensor = -1}, y, stats[2];
    int64_t axis, stash;
    float epsilon;
    int first;
    CKPT_TRY(ckpt_import_attr_int(im, node, "axis", -1, &axis));
    CKPT_TRY(ckpt_import_attr_int(im, node, "stash_type", 1, &stash));
    CKPT_TRY(ckpt_import_attr_float(im, node, "epsilon", 1e-5f, &epsilon));
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_axis(im, axis, x.rank, false, &first));
    CKPT_TRY(ckpt_import_input(im, node, 1, &scale));
    ckpt_import_train(im, scale.tensor);
    if (ckpt_import_has_input(node, 2)) {
        CKPT_TRY(ckpt_import_input(im, node, 2, &bias));
        ckpt_import_train(im, bias.tensor);
    }
    const bool wants_stats = ckpt_import_has_output(node, 1) || ckpt_import_has_output(node, 2);
    CKPT_TRY(ckpt_build_layernorm(&im->model->graph, node->name, &x, scale.tensor, bias.tensor, first, epsilon, &y,
                                  wants_stats ? stats : NULL, im->err));
    CKPT_TRY(ckpt_import_define(im, node, 0, &y));
    for (size_t i = 0; wants_stats && i < 2; i++) CKPT_TRY(ckpt_import_define(im, node, 1 + i, &stats[i]));
    return CKPT_OK;
}

/* Up to opset 12 the axes from `axis` on are normalized together; later the one axis. */
static ckpt_status softmax(ckpt_import *im, const Onnx__NodeProto *node, ckpt_op op) {
    ckpt_view x, y;
    int64_t axis;
    int first;
    const bool together = im->opset < 13;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_attr_int(im, node, "axis", together ? 1 : -1, &axis));
    CKPT_TRY(ckpt_import_axis(im, axis, x.rank, together, &first));
    CKPT_TRY(ckpt_build_softmax(&im->model->graph, node->name, op, &x, first, together ? x.rank - first : 1, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_softmax(ckpt_import *im, const Onnx__NodeProto *node) { return softmax(im, node, CKPT_OP_SOFTMAX); }
ckpt_status import_logsoftmax(ckpt_import *im, const Onnx__NodeProto *node) {
    return softmax(im, node, CKPT_OP_LOGSOFTMAX);
}

/* The probability that this node drops with: attribute up to opset 11, input from 12 on, 0.5 when absent. */
static ckpt_status drop_ratio(ckpt_import *im, const Onnx__NodeProto *node, float *ratio) {
    CKPT_TRY(ckpt_import_attr_float(im, node, "ratio", 0.5f, ratio));
    if (im->opset >= 12 && ckpt_import_has_input(node, 1)) CKPT_TRY(ckpt_import_scalar(im, node, 1, ratio));
    if (!(*ratio >= 0 && *ratio < 1))
        return ckpt_fail(im->err, CKPT_MODEL, "its ratio is %g, which is not in [0, 1)", (double)*ratio);
    return CKPT_OK;
}

ckpt_status import_dropout(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_graph *graph = &im->model->graph;
    ckpt_epilogue epilogue = {.act = CKPT_ACT_IDENTITY, .stream = graph->stream_count};
    ckpt_view x, y, mask;
    CKPT_TRY(drop_ratio(im, node, &epilogue.drop));
    if (im->options->as_written) {
        /* Exporters write training_mode = false or nothing even for models meant to be trained on, so training
         * drops at every Dropout node; running a file as written does what it says. */
        float training = 0;
        if (im->opset >= 12 && ckpt_import_has_input(node, 2)) CKPT_TRY(ckpt_import_scalar(im, node, 2, &training));
        if (training == 0) epilogue.drop = 0;
    }
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    graph->stream_count++;
    if (epilogue.drop == 0) {
        CKPT_TRY(ckpt_import_alias(im, node, 0));
    } else {
        CKPT_TRY(ckpt_build_act(graph, node->name, &epilogue, &x, &y, im->err));
        CKPT_TRY(ckpt_import_define(im, node, 0, &y));
    }
    if (!ckpt_import_has_output(node, 1)) return CKPT_OK;
    CKPT_TRY(ckpt_build_keep_mask(graph, NULL, &epilogue, &x, &mask, im->err));
    return ckpt_import_define(im, node, 1, &mask);
}
