/* Element functions of two tensors, broadcast, whose gradients are no arithmetic of the same tensors:
 *   max, min  dc goes to the operand that is chosen, half to each where they are equal, as in PyTorch
 *   pow       da = dc * b * a^(b-1), 0 where b is 0    db = dc * a^b * log(a), 0 where a is 0 and b is not negative
 * each summed over the axes it was broadcast along. */
#include "graph/autodiff.h"
#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_cost ckpt_cost_pair(const ckpt_graph *graph, const ckpt_node *node) {
    const uint64_t each = node->attr.pair.kind == CKPT_PAIR_POW ? 25 : 1;
    return (ckpt_cost){.flops = each * (uint64_t)graph->tensor[node->out[0]].count};
}

ckpt_status ckpt_build_pair(ckpt_graph *graph, const char *name, ckpt_pair kind, const ckpt_view *a, const ckpt_view *b,
                            ckpt_view *c, ckpt_error *err) {
    ckpt_attr attr = {.pair = {.kind = kind}};
    const ckpt_dtype type = graph->tensor[a->tensor].dtype;
    const int in[2] = {a->tensor, b->tensor};
    if (graph->tensor[b->tensor].dtype != type)
        return ckpt_fail(err, CKPT_MODEL, "its operands are of types %s and %s", ckpt_dtype_name(type),
                         ckpt_dtype_name(graph->tensor[b->tensor].dtype));
    CKPT_TRY(ckpt_broadcast(a, b, &attr.pair.geometry, c, err));
    return ckpt_build_node(graph, name, CKPT_OP_PAIR, &attr, 2, in, type, c, err);
}

ckpt_status ckpt_gradient_pair(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    const ckpt_binary_attr *g = &n.attr.pair.geometry;
    const int c = n.out[0], in[3] = {ad->gradient[c], n.in[0], n.in[1]};
    int whole[2];
    for (int i = 0; i < 2; i++) { /* both before either is given away: they read the same gradient */
        ckpt_attr attr = n.attr;
        attr.pair.second = i == 1;
        if (!ad->wanted[n.in[i]]) continue;
        whole[i] = ckpt_gradient_tensor(ad, c, err);
        if (whole[i] < 0) return CKPT_NOMEM;
        CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_PAIR_GRAD, &attr, 3, in, whole[i], err));
    }
    for (int i = 0; i < 2; i++)
        if (ad->wanted[n.in[i]])
            CKPT_TRY(ckpt_gradient_give_reduced(ad, g, i ? g->stride_b : g->stride_a, n.in[i], whole[i], 1, err));
    return CKPT_OK;
}
