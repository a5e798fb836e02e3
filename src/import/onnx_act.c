/* Element functions of one tensor: a row of graph/acts.def each, with its constants. */
#include <math.h>
#include <string.h>

#include "import/import.h"
#include "import/onnx_rules.h"

static ckpt_status act(ckpt_import *im, const Onnx__NodeProto *node, ckpt_epilogue epilogue) {
    ckpt_view x, y;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_build_act(&im->model->graph, node->name, &epilogue, &x, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

#define PLAIN(name, ID)                                                                                      \
    ckpt_status import_##name(ckpt_import *im, const Onnx__NodeProto *node) {                                \
        return act(im, node, (ckpt_epilogue){.act = CKPT_ACT_##ID});                                         \
    }
PLAIN(abs, ABS)
PLAIN(erf, ERF)
PLAIN(exp, EXP)
PLAIN(hardswish, HARD_SWISH)
PLAIN(log, LOG)
PLAIN(mish, MISH)
PLAIN(neg, NEG)
PLAIN(reciprocal, RECIPROCAL)
PLAIN(relu, RELU)
PLAIN(sigmoid, SIGMOID)
PLAIN(softplus, SOFTPLUS)
PLAIN(softsign, SOFTSIGN)
PLAIN(sqrt, SQRT)
PLAIN(tanh, TANH)
#undef PLAIN

ckpt_status import_leakyrelu(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_epilogue epilogue = {.act = CKPT_ACT_LEAKY_RELU};
    CKPT_TRY(ckpt_import_attr_float(im, node, "alpha", 0.01f, &epilogue.alpha));
    if (!(epilogue.alpha > 0)) epilogue.act = CKPT_ACT_LEAKY_RELU_X; /* the output's sign says nothing of the input's */
    return act(im, node, epilogue);
}

ckpt_status import_elu(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_epilogue epilogue = {.act = CKPT_ACT_ELU};
    CKPT_TRY(ckpt_import_attr_float(im, node, "alpha", 1, &epilogue.alpha));
    if (!(epilogue.alpha > 0)) epilogue.act = CKPT_ACT_ELU_X;
    return act(im, node, epilogue);
}

ckpt_status import_selu(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_epilogue epilogue = {.act = CKPT_ACT_SELU};
    CKPT_TRY(ckpt_import_attr_float(im, node, "alpha", 1.67326324f, &epilogue.alpha));
    CKPT_TRY(ckpt_import_attr_float(im, node, "gamma", 1.05070099f, &epilogue.beta));
    epilogue.alpha *= epilogue.beta;
    if (!(epilogue.alpha > 0 && epilogue.beta > 0)) epilogue.act = CKPT_ACT_SELU_X;
    return act(im, node, epilogue);
}

ckpt_status import_celu(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_epilogue epilogue = {.act = CKPT_ACT_CELU};
    CKPT_TRY(ckpt_import_attr_float(im, node, "alpha", 1, &epilogue.alpha));
    if (!(epilogue.alpha > 0))
        return ckpt_fail(im->err, CKPT_MODEL, "its attribute 'alpha' is %g instead of a positive number",
                         (double)epilogue.alpha);
    epilogue.beta = 1 / epilogue.alpha;
    return act(im, node, epilogue);
}

ckpt_status import_hardsigmoid(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_epilogue epilogue = {.act = CKPT_ACT_HARD_SIGMOID};
    CKPT_TRY(ckpt_import_attr_float(im, node, "alpha", 0.2f, &epilogue.alpha));
    CKPT_TRY(ckpt_import_attr_float(im, node, "beta", 0.5f, &epilogue.beta));
    return act(im, node, epilogue);
}

ckpt_status import_thresholdedrelu(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_epilogue epilogue = {.act = CKPT_ACT_THRESHOLDED_RELU};
    CKPT_TRY(ckpt_import_attr_float(im, node, "alpha", 1, &epilogue.alpha));
    return act(im, node, epilogue);
}

/* Ends that are trained: the largest of x and one, the least of that and the other. */
static ckpt_status trained_clip(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x, end, y;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    for (size_t i = 1; i < 3; i++) {
        if (!ckpt_import_has_input(node, i)) continue;
        CKPT_TRY(ckpt_import_input(im, node, i, &end));
        CKPT_TRY(ckpt_build_pair(&im->model->graph, i == 2 || !ckpt_import_has_input(node, 2) ? node->name : NULL,
                                 i == 1 ? CKPT_PAIR_MAX : CKPT_PAIR_MIN, &x, &end, &y, im->err));
        x = y;
    }
    return ckpt_import_define(im, node, 0, &x);
}

/* The ends: attributes before opset 11, inputs since; none is no end. */
ckpt_status import_clip(ckpt_import *im, const Onnx__NodeProto *node) {
    for (size_t i = 1; i < node->n_input; i++) {
        ckpt_trainable trained;
        CKPT_TRY(ckpt_import_trainable(im, node, i, &trained));
        if (trained == CKPT_SURELY_TRAINED) return trained_clip(im, node);
    }
    ckpt_epilogue epilogue = {.act = CKPT_ACT_CLIP, .alpha = -INFINITY, .beta = INFINITY};
    if (ckpt_import_attr(node, "min")) CKPT_TRY(ckpt_import_attr_float(im, node, "min", 0, &epilogue.alpha));
    if (ckpt_import_attr(node, "max")) CKPT_TRY(ckpt_import_attr_float(im, node, "max", 0, &epilogue.beta));
    if (ckpt_import_has_input(node, 1)) CKPT_TRY(ckpt_import_scalar(im, node, 1, &epilogue.alpha));
    if (ckpt_import_has_input(node, 2)) CKPT_TRY(ckpt_import_scalar(im, node, 2, &epilogue.beta));
    return act(im, node, epilogue);
}

ckpt_status import_gelu(ckpt_import *im, const Onnx__NodeProto *node) {
    const char *form;
    CKPT_TRY(ckpt_import_attr_string(im, node, "approximate", "none", &form));
    const bool by_tanh = strcmp(form, "tanh") == 0;
    if (!by_tanh && strcmp(form, "none") != 0)
        return ckpt_fail(im->err, CKPT_MODEL, "its attribute 'approximate' is '%s' instead of none or tanh", form);
    return act(im, node, (ckpt_epilogue){.act = by_tanh ? CKPT_ACT_GELU_TANH : CKPT_ACT_GELU});
}

ckpt_status import_swish(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_epilogue epilogue = {.act = CKPT_ACT_SWISH};
    CKPT_TRY(ckpt_import_attr_float(im, node, "alpha", 1, &epilogue.alpha));
    if (epilogue.alpha == 1) epilogue = (ckpt_epilogue){.act = CKPT_ACT_SILU};
    return act(im, node, epilogue);
}

/* One constant exponent: products for 2 and 3, roots and powers that have their own function, else exp(p log x). */
static ckpt_status constant_power(ckpt_import *im, const Onnx__NodeProto *node, float p) {
    ckpt_graph *graph = &im->model->graph;
    ckpt_view x, square, y;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    if (!isfinite(p)) return ckpt_fail(im->err, CKPT_MODEL, "its exponent is not finite");
    if (p == 2 || p == 3) {
        CKPT_TRY(ckpt_build_binary(graph, p == 2 ? node->name : NULL, CKPT_BINARY_MUL, &x, &x, &square, im->err));
        y = square;
        if (p == 3) CKPT_TRY(ckpt_build_binary(graph, node->name, CKPT_BINARY_MUL, &square, &x, &y, im->err));
        return ckpt_import_define(im, node, 0, &y);
    }
    if (p == 0) return act(im, node, (ckpt_epilogue){.act = CKPT_ACT_SCALE, .beta = 1});
    if (p == 1) return act(im, node, (ckpt_epilogue){.act = CKPT_ACT_IDENTITY});
    if (p == 0.5f) return act(im, node, (ckpt_epilogue){.act = CKPT_ACT_SQRT});
    if (p == -1) return act(im, node, (ckpt_epilogue){.act = CKPT_ACT_RECIPROCAL});
    const float of_negative = p != rintf(p) ? NAN : fmodf(p, 2) == 0 ? 1.0f : -1.0f;
    return act(im, node, (ckpt_epilogue){.act = CKPT_ACT_POW, .alpha = p, .beta = of_negative});
}

static ckpt_status cast_to(ckpt_import *im, const char *name, ckpt_dtype type, ckpt_view *x) {
    const ckpt_view from = *x;
    if (im->model->graph.tensor[x->tensor].dtype == type) return CKPT_OK;
    return ckpt_build_cast(&im->model->graph, name, &from, type, x, im->err);
}

/* The result has the base's type. An exponent of another one is converted to it; under an integer base both are
 * computed with in double. */
ckpt_status import_pow(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_graph *graph = &im->model->graph;
    ckpt_view x, p, y;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_input(im, node, 1, &p));
    const ckpt_dtype type = graph->tensor[x.tensor].dtype;
    const ckpt_value *exponent = ckpt_import_value(im, node, 1);
    if (type == CKPT_F32 && exponent && exponent->proto && ckpt_view_count(&p) == 1 && p.rank <= x.rank) {
        float value;
        ckpt_trainable trained;
        CKPT_TRY(ckpt_import_scalar(im, node, 1, &value));
        CKPT_TRY(ckpt_import_trainable(im, node, 1, &trained));
        /* 2, 0.5 and -1 are written by code; another exponent may be trained where nothing says what it is. */
        const bool by_code = trained == CKPT_MAYBE_TRAINED && (value == rintf(value) || fabsf(value) == 0.5f);
        if (trained == CKPT_NEVER_TRAINED || by_code) return constant_power(im, node, value);
    }
    const bool real = type == CKPT_F32 || type == CKPT_F64, same = graph->tensor[p.tensor].dtype == type;
    if (!real && !same) CKPT_TRY(cast_to(im, NULL, CKPT_F64, &x));
    if (!same) CKPT_TRY(cast_to(im, NULL, real ? type : CKPT_F64, &p));
    CKPT_TRY(ckpt_build_pair(graph, real || same ? node->name : NULL, CKPT_PAIR_POW, &x, &p, &y, im->err));
    CKPT_TRY(cast_to(im, node->name, type, &y));
    return ckpt_import_define(im, node, 0, &y);
}
