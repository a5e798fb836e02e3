/* y = dropout(act(x)):  dx = dy * dropout' * act'(x or y), the mask drawn again from its counters. */
#include "graph/autodiff.h"
#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_cost ckpt_cost_act(const ckpt_graph *graph, const ckpt_node *node) {
    const ckpt_epilogue *e = &node->attr.act;
    int flops = ckpt_act_flops(e->act) + (e->drop > 0 ? 20 : 0) + 1;
    return (ckpt_cost){.flops = (uint64_t)graph->tensor[node->in[0]].count * (uint64_t)flops};
}

ckpt_status ckpt_build_act(ckpt_graph *graph, const char *name, const ckpt_epilogue *epilogue, const ckpt_view *x,
                           ckpt_view *y, ckpt_error *err) {
    if (graph->tensor[x->tensor].dtype != CKPT_F32)
        return ckpt_fail(err, CKPT_MODEL, "its input is of type %s instead of a float",
                         ckpt_dtype_name(graph->tensor[x->tensor].dtype));
    *y = *x;
    y->tensor = ckpt_graph_add_tensor(graph, name, CKPT_F32, CKPT_ROLE_STEP, y->rank, y->dim, err);
    if (y->tensor < 0) return CKPT_MODEL;
    int node = ckpt_graph_add_node(graph, CKPT_OP_ACT, CKPT_FORWARD, name, 1, &x->tensor, 1, &y->tensor, err);
    if (node < 0) return CKPT_NOMEM;
    graph->node[node].attr.act = *epilogue;
    return CKPT_OK;
}

ckpt_status ckpt_build_keep_mask(ckpt_graph *graph, const char *name, const ckpt_epilogue *epilogue,
                                 const ckpt_view *like, ckpt_view *mask, ckpt_error *err) {
    *mask = *like;
    mask->tensor = ckpt_graph_add_tensor(graph, name, CKPT_BOOL, CKPT_ROLE_STEP, mask->rank, mask->dim, err);
    if (mask->tensor < 0) return CKPT_MODEL;
    int node = ckpt_graph_add_node(graph, CKPT_OP_KEEP_MASK, CKPT_FORWARD, name, 0, NULL, 1, &mask->tensor, err);
    if (node < 0) return CKPT_NOMEM;
    graph->node[node].attr.act = *epilogue;
    return CKPT_OK;
}

ckpt_status ckpt_gradient_act(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    const int x = n.in[0], y = n.out[0];
    const ckpt_act act = n.attr.act.act;
    const bool constant = ckpt_act_slope_is_constant(act);
    if (!ad->wanted[x]) return CKPT_OK;
    const int in[2] = {ad->gradient[y], ckpt_act_from_output(act) ? y : x};
    int dx = ckpt_gradient_tensor(ad, x, err);
    if (dx < 0) return CKPT_NOMEM;
    CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_ACT_GRAD, &n.attr, constant ? 1 : 2, in, dx, err));
    return ckpt_gradient_give(ad, x, dx, err);
}
