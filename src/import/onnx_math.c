/* Arithmetic and element functions. */
#include <string.h>

#include "import/import.h"
#include "import/onnx_rules.h"

/* Whether a constant operand of Add or Mul is a weight: a bias or scale has more than one value, the number in
 * x * 0.5 has one. */
static void train_if_vector(ckpt_import *im, const ckpt_view *view) {
    const ckpt_tensor *t = &im->model->graph.tensor[view->tensor];
    if (t->role == CKPT_ROLE_CONST && t->count > 1 && t->dtype == CKPT_F32) ckpt_import_train(im, view->tensor);
}

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
    if (kind == CKPT_BINARY_ADD || kind == CKPT_BINARY_MUL) {
        train_if_vector(im, &a);
        train_if_vector(im, &b);
    }
    CKPT_TRY(ckpt_build_binary(&im->model->graph, node->name, kind, &a, &b, &c, im->err));
    return ckpt_import_define(im, node, 0, &c);
}

ckpt_status import_add(ckpt_import *im, const Onnx__NodeProto *node) { return binary(im, node, CKPT_BINARY_ADD); }
ckpt_status import_sub(ckpt_import *im, const Onnx__NodeProto *node) { return binary(im, node, CKPT_BINARY_SUB); }
ckpt_status import_mul(ckpt_import *im, const Onnx__NodeProto *node) { return binary(im, node, CKPT_BINARY_MUL); }
ckpt_status import_div(ckpt_import *im, const Onnx__NodeProto *node) { return binary(im, node, CKPT_BINARY_DIV); }

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
PLAIN(relu, RELU)
PLAIN(sigmoid, SIGMOID)
PLAIN(tanh, TANH)
PLAIN(softplus, SOFTPLUS)
PLAIN(erf, ERF)
PLAIN(neg, NEG)
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

ckpt_status import_gelu(ckpt_import *im, const Onnx__NodeProto *node) {
    const char *form;
    CKPT_TRY(ckpt_import_attr_string(im, node, "approximate", "none", &form));
    const bool by_tanh = strcmp(form, "tanh") == 0;
    if (!by_tanh && strcmp(form, "none") != 0)
        return ckpt_fail(im->err, CKPT_MODEL, "its attribute 'approximate' is '%s' instead of none or tanh", form);
    return act(im, node, (ckpt_epilogue){.act = by_tanh ? CKPT_ACT_GELU_TANH : CKPT_ACT_GELU});
}

ckpt_status import_swish(ckpt_import *im, const Onnx__NodeProto *node) {
    float alpha;
    CKPT_TRY(ckpt_import_attr_float(im, node, "alpha", 1, &alpha));
    if (alpha != 1) return ckpt_fail(im->err, CKPT_MODEL, "its attribute 'alpha' is %g; only 1 is supported", (double)alpha);
    return act(im, node, (ckpt_epilogue){.act = CKPT_ACT_SILU});
}

/* Exponents 2 and 3, as the tanh form of GELU uses them: products. */
ckpt_status import_pow(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_graph *graph = &im->model->graph;
    ckpt_view x, square, y;
    float exponent;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_scalar(im, node, 1, &exponent));
    if (exponent != 2 && exponent != 3)
        return ckpt_fail(im->err, CKPT_MODEL, "its exponent is %g; only the constants 2 and 3 are supported", (double)exponent);
    CKPT_TRY(ckpt_build_binary(graph, exponent == 2 ? node->name : NULL, CKPT_BINARY_MUL, &x, &x, &square, im->err));
    y = square;
    if (exponent == 3) CKPT_TRY(ckpt_build_binary(graph, node->name, CKPT_BINARY_MUL, &square, &x, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}
