/* Softmax     y = exp(x - max) / sum     dx = y * (dy - sum of dy * y)
 * LogSoftmax  y = x - max - log(sum)     dx = dy - exp(y) * sum of dy          along one axis */
#include "graph/autodiff.h"
#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_cost ckpt_cost_softmax(const ckpt_graph *graph, const ckpt_node *node) {
    return (ckpt_cost){.flops = 15 * (uint64_t)graph->tensor[node->in[0]].count};
}

ckpt_status ckpt_build_softmax(ckpt_graph *graph, const char *name, ckpt_op op, const ckpt_view *x, int axis,
                               int axes, ckpt_view *y, ckpt_error *err) {
    if (axis < 0 || axes < 0 || axis + axes > x->rank)
        return ckpt_fail(err, CKPT_MODEL, "its axis lies outside an input of %d dimensions", x->rank);
    ckpt_attr attr = {.axis = {1, 1, 1}};
    for (int i = 0; i < x->rank; i++)
        *(i < axis ? &attr.axis.outer : i < axis + axes ? &attr.axis.axis : &attr.axis.inner) *= x->dim[i];
    *y = *x;
    y->tensor = ckpt_graph_add_tensor(graph, name, CKPT_F32, CKPT_ROLE_STEP, y->rank, y->dim, err);
    if (y->tensor < 0) return CKPT_MODEL;
    int node = ckpt_graph_add_node(graph, op, CKPT_FORWARD, name, 1, &x->tensor, 1, &y->tensor, err);
    if (node < 0) return CKPT_NOMEM;
    graph->node[node].attr = attr;
    return CKPT_OK;
}

static ckpt_status gradient(ckpt_autodiff *ad, int node, ckpt_op op, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    if (!ad->wanted[n.in[0]]) return CKPT_OK;
    const int in[2] = {ad->gradient[n.out[0]], n.out[0]};
    int dx = ckpt_gradient_tensor(ad, n.in[0], err);
    if (dx < 0) return CKPT_NOMEM;
    CKPT_TRY(ckpt_gradient_node(ad, op, &n.attr, 2, in, dx, err));
    return ckpt_gradient_give(ad, n.in[0], dx, err);
}

ckpt_status ckpt_gradient_softmax(ckpt_autodiff *ad, int node, ckpt_error *err) {
    return gradient(ad, node, CKPT_OP_SOFTMAX_GRAD, err);
}

ckpt_status ckpt_gradient_logsoftmax(ckpt_autodiff *ad, int node, ckpt_error *err) {
    return gradient(ad, node, CKPT_OP_LOGSOFTMAX_GRAD, err);
}
