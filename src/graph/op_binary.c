/* c = a op b with broadcasting.
 *   add: da = dc, db = dc            sub: da = dc, db = -dc
 *   mul: da = dc * b, db = dc * a    div: da = dc / b, db = -(dc * c) / b
 * each summed over the axes it was broadcast along. */
#include "graph/autodiff.h"
#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_status ckpt_build_binary(ckpt_graph *graph, const char *name, ckpt_binary kind, const ckpt_view *a,
                              const ckpt_view *b, ckpt_view *c, ckpt_error *err) {
    ckpt_attr attr = {.binary = {.kind = kind}};
    ckpt_dtype type = graph->tensor[a->tensor].dtype;
    if (graph->tensor[b->tensor].dtype != type)
        return ckpt_fail(err, CKPT_MODEL, "its operands are of types %s and %s", ckpt_dtype_name(type),
                         ckpt_dtype_name(graph->tensor[b->tensor].dtype));
    if (type == CKPT_BOOL) return ckpt_fail(err, CKPT_MODEL, "arithmetic on booleans");
    CKPT_TRY(ckpt_broadcast(a, b, &attr.binary, c, err));
    c->tensor = ckpt_graph_add_tensor(graph, name, type, CKPT_ROLE_STEP, c->rank, c->dim, err);
    if (c->tensor < 0) return CKPT_MODEL;
    int in[2] = {a->tensor, b->tensor};
    int node = ckpt_graph_add_node(graph, CKPT_OP_BINARY, CKPT_FORWARD, name, 2, in, 1, &c->tensor, err);
    if (node < 0) return CKPT_NOMEM;
    graph->node[node].attr = attr;
    return CKPT_OK;
}

ckpt_status ckpt_gradient_give_reduced(ckpt_autodiff *ad, const ckpt_binary_attr *f, const int64_t *stride, int operand,
                                       int whole, float sign, ckpt_error *err) {
    ckpt_attr reduce = {.reduce = {.alpha = sign}};
    bool broadcast = false;
    for (int i = 0; i < f->rank; i++) {
        const bool kept = stride[i] != 0;
        const int last = reduce.reduce.rank - 1;
        broadcast |= !kept;
        if (last >= 0 && (reduce.reduce.keep >> last & 1) == (uint32_t)kept) {
            reduce.reduce.dim[last] *= f->dim[i];
        } else {
            reduce.reduce.keep |= (uint32_t)kept << reduce.reduce.rank;
            reduce.reduce.dim[reduce.reduce.rank++] = f->dim[i];
        }
    }
    broadcast = broadcast || ckpt_gradient_sums_one(ad, operand, &reduce.reduce);
    if (!broadcast && sign == 1) return ckpt_gradient_give(ad, operand, whole, err);
    int result = ckpt_gradient_tensor(ad, operand, err);
    if (result < 0) return CKPT_NOMEM;
    if (broadcast) {
        CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_REDUCE_SUM, &reduce, 1, &whole, result, err));
    } else {
        ckpt_attr negate = {.act = {.act = CKPT_ACT_NEG}};
        CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_ACT, &negate, 1, &whole, result, err));
    }
    return ckpt_gradient_give(ad, operand, result, err);
}

/* whole = dc op other, where other has the given strides in f's geometry. */
static ckpt_status times(ckpt_autodiff *ad, const ckpt_binary_attr *f, ckpt_binary kind, int dc, int other,
                         const int64_t *stride, int *whole, ckpt_error *err) {
    ckpt_attr attr = {.binary = {.kind = kind, .rank = f->rank}};
    int64_t run = 1;
    for (int i = f->rank - 1; i >= 0; i--) {
        attr.binary.dim[i] = f->dim[i];
        attr.binary.stride_a[i] = run;
        attr.binary.stride_b[i] = stride ? stride[i] : run;
        run *= f->dim[i];
    }
    const int in[2] = {dc, other};
    *whole = ckpt_gradient_tensor(ad, dc, err);
    if (*whole < 0) return CKPT_NOMEM;
    return ckpt_gradient_node(ad, CKPT_OP_BINARY, &attr, 2, in, *whole, err);
}

/* da = dc op b, db = dc op a; nothing but the sum over broadcast axes for a sum. */
static ckpt_status operand_gradient(ckpt_autodiff *ad, const ckpt_node *n, bool second, ckpt_error *err) {
    const ckpt_binary_attr *f = &n->attr.binary;
    const int a = n->in[0], b = n->in[1], c = n->out[0];
    const bool quotient = f->kind == CKPT_BINARY_DIV;
    int whole = ad->gradient[c];
    if (!ad->wanted[second ? b : a]) return CKPT_OK;
    if (f->kind == CKPT_BINARY_MUL)
        CKPT_TRY(times(ad, f, CKPT_BINARY_MUL, whole, second ? a : b, second ? f->stride_a : f->stride_b, &whole, err));
    if (quotient && second) CKPT_TRY(times(ad, f, CKPT_BINARY_MUL, whole, c, NULL, &whole, err));
    if (quotient) CKPT_TRY(times(ad, f, CKPT_BINARY_DIV, whole, b, f->stride_b, &whole, err));
    const float sign = second && (quotient || f->kind == CKPT_BINARY_SUB) ? -1 : 1;
    return ckpt_gradient_give_reduced(ad, f, second ? f->stride_b : f->stride_a, second ? b : a, whole, sign, err);
}

ckpt_status ckpt_gradient_binary(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    const bool b_first = ckpt_gradient_second_first(ad, n.in[0], n.in[1]);
    CKPT_TRY(operand_gradient(ad, &n, b_first, err));
    return operand_gradient(ad, &n, !b_first, err);
}
