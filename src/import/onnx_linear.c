/* Gemm and MatMul. */
#include "import/import.h"
#include "import/onnx_rules.h"

/* The input of the transpose that made this 2-D view, so that it can be read the other way round instead. */
static bool look_through_transpose(const ckpt_graph *graph, const ckpt_view *w, ckpt_view *source) {
    if (w->rank != 2 || !ckpt_tensor_is_step(graph, w->tensor)) return false;
    const ckpt_node *made = &graph->node[graph->tensor[w->tensor].producer];
    const ckpt_transpose_attr *t = &made->attr.transpose;
    if (made->op != CKPT_OP_TRANSPOSE || t->rank != 2 || t->perm[0] != 1) return false;
    *source = (ckpt_view){.tensor = made->in[0], .rank = 2, .dim = {t->dim[0], t->dim[1]}};
    return w->dim[0] == t->dim[1] && w->dim[1] == t->dim[0];
}

static ckpt_status require_float(ckpt_import *im, const ckpt_view *view) {
    const ckpt_dtype type = im->model->graph.tensor[view->tensor].dtype;
    return type == CKPT_F32 ? CKPT_OK
                            : ckpt_fail(im->err, CKPT_MODEL, "products of type %s are not supported, only of floats",
                                        ckpt_dtype_name(type));
}

static ckpt_status linear(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *x, const ckpt_view *w, int b,
                          ckpt_linear_attr attr, ckpt_view *y) {
    ckpt_graph *graph = &im->model->graph;
    ckpt_view source = *w;
    if (!im->options->as_written && look_through_transpose(graph, w, &source)) attr.trans_w = !attr.trans_w;
    CKPT_TRY(require_float(im, x));
    CKPT_TRY(require_float(im, &source));
    return ckpt_build_linear(graph, node->name, x, &source, b, &attr, y, im->err);
}

/* y = product + beta * c where c is more than a bias vector. */
static ckpt_status add_matrix(ckpt_import *im, const ckpt_view *product, ckpt_view c, float beta, ckpt_view *y) {
    ckpt_graph *graph = &im->model->graph;
    if (beta != 1) {
        const ckpt_epilogue scale = {.act = CKPT_ACT_SCALE, .alpha = beta};
        ckpt_view scaled;
        CKPT_TRY(ckpt_build_act(graph, NULL, &scale, &c, &scaled, im->err));
        c = scaled;
    }
    ckpt_view sum;
    CKPT_TRY(ckpt_build_binary(graph, NULL, CKPT_BINARY_ADD, product, &c, &sum, im->err));
    if (sum.rank != 2 || sum.dim[0] != product->dim[0] || sum.dim[1] != product->dim[1])
        return ckpt_fail(im->err, CKPT_MODEL, "its input C is larger than the product that it is added to");
    *y = sum;
    return CKPT_OK;
}

ckpt_status import_gemm(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_graph *graph = &im->model->graph;
    ckpt_view x, w, c, y;
    int64_t trans_a, trans_b;
    ckpt_linear_attr attr = {0};
    CKPT_TRY(ckpt_import_attr_int(im, node, "transA", 0, &trans_a));
    CKPT_TRY(ckpt_import_attr_int(im, node, "transB", 0, &trans_b));
    CKPT_TRY(ckpt_import_attr_float(im, node, "alpha", 1, &attr.alpha));
    CKPT_TRY(ckpt_import_attr_float(im, node, "beta", 1, &attr.beta));
    attr.trans_w = trans_b != 0;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_input(im, node, 1, &w));
    if (x.rank != 2 || w.rank != 2)
        return ckpt_fail(im->err, CKPT_MODEL, "its operands have %d and %d dimensions instead of 2", x.rank, w.rank);
    if (trans_a) {
        const int swap[2] = {1, 0};
        ckpt_view turned;
        CKPT_TRY(ckpt_build_transpose(graph, NULL, &x, swap, &turned, im->err));
        x = turned;
    }
    const int64_t out_features = w.dim[trans_b ? 0 : 1];
    const bool has_c = ckpt_import_has_input(node, 2) && attr.beta != 0;
    if (has_c) CKPT_TRY(ckpt_import_input(im, node, 2, &c));
    const bool vector = has_c && c.rank <= 2 && c.rank >= 1 && c.dim[c.rank - 1] == out_features &&
                        (c.rank == 1 || c.dim[0] == 1);
    if (has_c) CKPT_TRY(require_float(im, &c));
    CKPT_TRY(linear(im, node, &x, &w, vector ? c.tensor : -1, attr, &y));
    if (has_c && !vector) CKPT_TRY(add_matrix(im, &y, c, attr.beta, &y));
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_matmul(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view a, b, c;
    CKPT_TRY(ckpt_import_input(im, node, 0, &a));
    CKPT_TRY(ckpt_import_input(im, node, 1, &b));
    if (b.rank == 2 && a.rank >= 1) {
        CKPT_TRY(linear(im, node, &a, &b, -1, (ckpt_linear_attr){.alpha = 1, .beta = 1}, &c));
    } else {
        CKPT_TRY(require_float(im, &a));
        CKPT_TRY(require_float(im, &b));
        CKPT_TRY(ckpt_build_matmul(&im->model->graph, node->name, &a, &b, &c, im->err));
    }
    return ckpt_import_define(im, node, 0, &c);
}
