/* y = epilogue(alpha * x . w + beta * b), ONNX Gemm and MatMul with a 2-D weight.
 *   dz = dy * epilogue'(y)     dx = alpha * dz . w'     dw = alpha * x' . dz     db = beta * sum of dz's rows
 * An epilogue's derivative comes from y, so a layer keeps one tensor: y, which the next layer keeps anyway. */
#include <inttypes.h>

#include "graph/autodiff.h"
#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_cost ckpt_cost_linear(const ckpt_graph *graph, const ckpt_node *node) {
    (void)graph;
    const ckpt_linear_attr *a = &node->attr.linear;
    uint64_t flops = 2 * (uint64_t)a->rows * (uint64_t)a->in_features * (uint64_t)a->out_features;
    if (node->op == CKPT_OP_LINEAR)
        flops += (uint64_t)a->rows * (uint64_t)a->out_features *
                 (uint64_t)((node->in_count > 2) + ckpt_act_flops(a->epilogue.act) + (a->epilogue.drop > 0 ? 20 : 0));
    return (ckpt_cost){.flops = flops};
}

ckpt_status ckpt_build_linear(ckpt_graph *graph, const char *name, const ckpt_view *x, const ckpt_view *w, int b,
                              const ckpt_linear_attr *attr, ckpt_view *y, ckpt_error *err) {
    if (w->rank != 2) return ckpt_fail(err, CKPT_MODEL, "its weight has %d dimensions instead of 2", w->rank);
    if (x->rank < 1) return ckpt_fail(err, CKPT_MODEL, "its input is a scalar");
    ckpt_linear_attr linear = *attr;
    linear.in_features = w->dim[attr->trans_w ? 1 : 0];
    linear.out_features = w->dim[attr->trans_w ? 0 : 1];
    if (x->dim[x->rank - 1] != linear.in_features)
        return ckpt_fail(err, CKPT_MODEL, "its input has %" PRId64 " features and its weight takes %" PRId64,
                         x->dim[x->rank - 1], linear.in_features);
    if (b >= 0 && graph->tensor[b].count != linear.out_features)
        return ckpt_fail(err, CKPT_MODEL, "its bias has %" PRId64 " values for %" PRId64 " outputs",
                         graph->tensor[b].count, linear.out_features);
    *y = *x;
    y->dim[y->rank - 1] = linear.out_features;
    linear.rows = 1;
    for (int i = 0; i + 1 < x->rank; i++) linear.rows *= x->dim[i];
    y->tensor = ckpt_graph_add_tensor(graph, name, CKPT_F32, CKPT_ROLE_STEP, y->rank, y->dim, err);
    if (y->tensor < 0) return CKPT_MODEL;
    int in[3] = {x->tensor, w->tensor, b};
    int node = ckpt_graph_add_node(graph, CKPT_OP_LINEAR, CKPT_FORWARD, name, b >= 0 ? 3 : 2, in, 1, &y->tensor, err);
    if (node < 0) return CKPT_NOMEM;
    graph->node[node].attr.linear = linear;
    return CKPT_OK;
}

/* dw = x' . dz, added to the sum of earlier contributions where there are any. */
static ckpt_status weight_gradient(ckpt_autodiff *ad, const ckpt_attr *attr, int x, int w, int dz, ckpt_error *err) {
    bool persistent;
    int in[3] = {dz, x, ckpt_gradient_sum(ad, w, &persistent)};
    int dw = persistent ? in[2] : ckpt_gradient_tensor(ad, w, err);
    if (dw < 0) return CKPT_NOMEM;
    CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_LINEAR_DW, attr, in[2] >= 0 ? 3 : 2, in, dw, err));
    return ckpt_gradient_replace(ad, w, dw, err);
}

static ckpt_status bias_gradient(ckpt_autodiff *ad, const ckpt_linear_attr *linear, int b, int dz, ckpt_error *err) {
    ckpt_attr attr = {.reduce = {.rank = 2, .dim = {linear->rows, linear->out_features}, .keep = 2,
                                 .alpha = linear->beta}};
    int db = ckpt_gradient_tensor(ad, b, err);
    if (db < 0) return CKPT_NOMEM;
    CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_REDUCE_SUM, &attr, 1, &dz, db, err));
    return ckpt_gradient_give(ad, b, db, err);
}

ckpt_status ckpt_gradient_linear(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    const int x = n.in[0], w = n.in[1], b = n.in_count > 2 ? n.in[2] : -1, y = n.out[0];
    int dz = ad->gradient[y];
    if (n.attr.linear.epilogue.act != CKPT_ACT_IDENTITY || n.attr.linear.epilogue.drop > 0) {
        ckpt_attr attr = {.act = n.attr.linear.epilogue};
        int in[2] = {dz, y};
        dz = ckpt_gradient_tensor(ad, y, err);
        if (dz < 0) return CKPT_NOMEM;
        CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_ACT_GRAD, &attr, n.attr.linear.epilogue.act == CKPT_ACT_IDENTITY ? 1 : 2,
                                    in, dz, err));
    }
    if (b >= 0 && ad->wanted[b]) CKPT_TRY(bias_gradient(ad, &n.attr.linear, b, dz, err));
    /* Before dx, which is live from then on; x may go as soon as dw is there (autodiff.h). */
    if (ad->wanted[w]) CKPT_TRY(weight_gradient(ad, &n.attr, x, w, dz, err));
    if (!ad->wanted[x]) return CKPT_OK;
    int in[2] = {dz, w}, dx = ckpt_gradient_tensor(ad, x, err);
    if (dx < 0) return CKPT_NOMEM;
    CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_LINEAR_DX, &n.attr, 2, in, dx, err));
    return ckpt_gradient_give(ad, x, dx, err);
}
