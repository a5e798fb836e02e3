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
    if (ckpt_import_has_input(node, 2)) {
        CKPT_TRY(ckpt_import_input(im, node, 2, &bias));
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

/* Which mask: the next stream, or the reference's seed, 0 where the file has none. */
static ckpt_status drop_stream(ckpt_import *im, const Onnx__NodeProto *node, ckpt_epilogue *epilogue) {
    int64_t seed;
    epilogue->rng = im->options->dropout_rng;
    epilogue->stream = im->model->graph.stream_count++;
    if (epilogue->rng != CKPT_DROP_ONNX_REF) return CKPT_OK;
    CKPT_TRY(ckpt_import_attr_int(im, node, "seed", 0, &seed));
    if (seed < 0 || seed > UINT32_MAX)
        return ckpt_fail(im->err, CKPT_MODEL, "its seed is outside of what numpy takes, 0 to 4294967295");
    epilogue->stream = (uint32_t)seed;
    return CKPT_OK;
}

ckpt_status import_dropout(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_graph *graph = &im->model->graph;
    ckpt_epilogue epilogue = {.act = CKPT_ACT_IDENTITY};
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
    CKPT_TRY(drop_stream(im, node, &epilogue));
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

/* groups 0: a group a channel. */
static ckpt_status groupnorm(ckpt_import *im, const Onnx__NodeProto *node, int64_t groups) {
    ckpt_view x, scale, bias, y;
    float epsilon;
    CKPT_TRY(ckpt_import_attr_float(im, node, "epsilon", 1e-5f, &epsilon));
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_input(im, node, 1, &scale));
    CKPT_TRY(ckpt_import_input(im, node, 2, &bias));
    if (!groups && x.rank > 1) groups = x.dim[1];
    CKPT_TRY(ckpt_build_groupnorm(&im->model->graph, node->name, &x, scale.tensor, bias.tensor, groups, epsilon, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_instancenorm(ckpt_import *im, const Onnx__NodeProto *node) { return groupnorm(im, node, 0); }

ckpt_status import_groupnorm(ckpt_import *im, const Onnx__NodeProto *node) {
    int64_t groups, stash;
    CKPT_TRY(ckpt_import_attr_int(im, node, "num_groups", 0, &groups));
    CKPT_TRY(ckpt_import_attr_int(im, node, "stash_type", 1, &stash));
    if (groups < 1) return ckpt_fail(im->err, CKPT_MODEL, "it has no num_groups");
    return groupnorm(im, node, groups);
}

/* y = x / (bias + alpha / size * sum of squares over `size` channels) ^ beta */
ckpt_status import_lrn(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_attr attr = {0};
    ckpt_view x, y;
    CKPT_TRY(ckpt_import_attr_float(im, node, "alpha", 1e-4f, &attr.lrn.alpha));
    CKPT_TRY(ckpt_import_attr_float(im, node, "beta", 0.75f, &attr.lrn.beta));
    CKPT_TRY(ckpt_import_attr_float(im, node, "bias", 1, &attr.lrn.bias));
    CKPT_TRY(ckpt_import_attr_int(im, node, "size", 0, &attr.lrn.size));
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    if (x.rank < 2 || attr.lrn.size < 1 || attr.lrn.size > 1 << 20)
        return ckpt_fail(im->err, CKPT_MODEL, "its size or its input's %d dimensions are out of range", x.rank);
    attr.lrn.batch = x.dim[0];
    attr.lrn.channels = x.dim[1];
    attr.lrn.inner = 1;
    for (int i = 2; i < x.rank; i++) attr.lrn.inner *= x.dim[i];
    y = x;
    CKPT_TRY(ckpt_build_node(&im->model->graph, node->name, CKPT_OP_LRN, &attr, 1, &x.tensor, CKPT_F32, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

/* Trained by the batch's statistics whatever training_mode says, as Dropout drops; the running ones are moved and saved.
 * Up to opset 13 the outputs tell the modes apart: inference has one. */
ckpt_status import_batchnorm(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_graph *graph = &im->model->graph;
    ckpt_view x, y, other[4], moved[2];
    int64_t spatial, mode;
    float epsilon, momentum;
    CKPT_TRY(ckpt_import_attr_float(im, node, "epsilon", 1e-5f, &epsilon));
    CKPT_TRY(ckpt_import_attr_float(im, node, "momentum", 0.9f, &momentum));
    CKPT_TRY(ckpt_import_attr_int(im, node, "spatial", 1, &spatial));
    CKPT_TRY(ckpt_import_attr_int(im, node, "training_mode", im->opset < 14 && ckpt_import_has_output(node, 1), &mode));
    if (!spatial) return ckpt_fail(im->err, CKPT_MODEL, "its attribute 'spatial' is 0; convert the model to opset 9 or later");
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    for (size_t i = 0; i < 4; i++) CKPT_TRY(ckpt_import_input(im, node, 1 + i, &other[i]));
    const int running[2] = {other[2].tensor, other[3].tensor};
    const bool training = mode != 0 || !im->options->as_written;
    if (!im->options->as_written)
        for (int i = 0; i < 2; i++) ckpt_import_follow(im, running[i]);
    CKPT_TRY(ckpt_build_batchnorm(graph, node->name, &x, other[0].tensor, other[1].tensor, running, epsilon, momentum, training,
                                  &y, moved, im->err));
    CKPT_TRY(ckpt_import_define(im, node, 0, &y));
    for (size_t i = 0; i < 2; i++) CKPT_TRY(ckpt_import_define(im, node, 1 + i, training ? &moved[i] : &other[2 + i]));
    return CKPT_OK;
}

ckpt_status import_rmsnorm(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x, scale = {.tensor = -1}, y;
    int64_t axis, stash;
    float epsilon;
    int first;
    CKPT_TRY(ckpt_import_attr_int(im, node, "axis", -1, &axis));
    CKPT_TRY(ckpt_import_attr_int(im, node, "stash_type", 1, &stash));
    CKPT_TRY(ckpt_import_attr_float(im, node, "epsilon", 1e-5f, &epsilon));
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_axis(im, axis, x.rank, false, &first));
    CKPT_TRY(ckpt_import_input(im, node, 1, &scale));
    CKPT_TRY(ckpt_build_rmsnorm(&im->model->graph, node->name, &x, scale.tensor, first, epsilon, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}
