/* Transpose, Cast and the sum over axes: each one's gradient undoes it. */
#include "graph/autodiff.h"
#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_status ckpt_build_transpose(ckpt_graph *graph, const char *name, const ckpt_view *x, const int *perm,
                                 ckpt_view *y, ckpt_error *err) {
    ckpt_attr attr = {.transpose = {.rank = x->rank}};
    uint32_t seen = 0;
    *y = *x;
    for (int i = 0; i < x->rank; i++) {
        if (perm[i] < 0 || perm[i] >= x->rank || seen >> perm[i] & 1)
            return ckpt_fail(err, CKPT_MODEL, "its perm is no permutation of %d axes", x->rank);
        seen |= 1u << perm[i];
        attr.transpose.dim[i] = x->dim[i];
        attr.transpose.perm[i] = perm[i];
        y->dim[i] = x->dim[perm[i]];
    }
    y->tensor = ckpt_graph_add_tensor(graph, name, graph->tensor[x->tensor].dtype, CKPT_ROLE_STEP, y->rank, y->dim, err);
    if (y->tensor < 0) return CKPT_MODEL;
    int node = ckpt_graph_add_node(graph, CKPT_OP_TRANSPOSE, CKPT_FORWARD, name, 1, &x->tensor, 1, &y->tensor, err);
    if (node < 0) return CKPT_NOMEM;
    graph->node[node].attr = attr;
    return CKPT_OK;
}

ckpt_status ckpt_build_cast(ckpt_graph *graph, const char *name, const ckpt_view *x, ckpt_dtype to, ckpt_view *y,
                            ckpt_error *err) {
    *y = *x;
    y->tensor = ckpt_graph_add_tensor(graph, name, to, CKPT_ROLE_STEP, y->rank, y->dim, err);
    if (y->tensor < 0) return CKPT_MODEL;
    int node = ckpt_graph_add_node(graph, CKPT_OP_CAST, CKPT_FORWARD, name, 1, &x->tensor, 1, &y->tensor, err);
    return node < 0 ? CKPT_NOMEM : CKPT_OK;
}

ckpt_status ckpt_build_reduce(ckpt_graph *graph, const char *name, const ckpt_view *x, uint32_t axes, bool keep_dims,
                              bool mean, ckpt_view *y, ckpt_error *err) {
    ckpt_attr attr = {.reduce = {.alpha = 1}};
    ckpt_reduce_attr *r = &attr.reduce;
    const ckpt_dtype type = graph->tensor[x->tensor].dtype;
    int64_t summed = 1;
    if (type != CKPT_F32)
        return ckpt_fail(err, CKPT_MODEL, "sums over axes of type %s are not supported, only of floats", ckpt_dtype_name(type));
    *y = (ckpt_view){.tensor = -1};
    for (int i = 0; i < x->rank; i++) {
        const bool kept = !(axes >> i & 1);
        const int last = r->rank - 1;
        if (kept || keep_dims) y->dim[y->rank++] = kept ? x->dim[i] : 1;
        if (!kept) summed *= x->dim[i];
        if (last >= 0 && (r->keep >> last & 1) == (uint32_t)kept) {
            r->dim[last] *= x->dim[i];
        } else {
            r->keep |= (uint32_t)kept << r->rank;
            r->dim[r->rank++] = x->dim[i];
        }
    }
    if (mean) r->alpha = (float)(1.0 / (double)summed);
    y->tensor = ckpt_graph_add_tensor(graph, name, type, CKPT_ROLE_STEP, y->rank, y->dim, err);
    if (y->tensor < 0) return CKPT_MODEL;
    int node = ckpt_graph_add_node(graph, CKPT_OP_REDUCE_SUM, CKPT_FORWARD, name, 1, &x->tensor, 1, &y->tensor, err);
    if (node < 0) return CKPT_NOMEM;
    graph->node[node].attr = attr;
    return CKPT_OK;
}

static ckpt_status undo(ckpt_autodiff *ad, const ckpt_node *n, ckpt_op op, const ckpt_attr *attr, ckpt_error *err) {
    if (!ad->wanted[n->in[0]]) return CKPT_OK;
    int dx = ckpt_gradient_tensor(ad, n->in[0], err);
    if (dx < 0) return CKPT_NOMEM;
    CKPT_TRY(ckpt_gradient_node(ad, op, attr, 1, &ad->gradient[n->out[0]], dx, err));
    return ckpt_gradient_give(ad, n->in[0], dx, err);
}

ckpt_status ckpt_gradient_transpose(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    const ckpt_transpose_attr *f = &n.attr.transpose;
    ckpt_attr attr = {.transpose = {.rank = f->rank}};
    for (int i = 0; i < f->rank; i++) {
        attr.transpose.dim[i] = f->dim[f->perm[i]];
        attr.transpose.perm[f->perm[i]] = i;
    }
    return undo(ad, &n, CKPT_OP_TRANSPOSE, &attr, err);
}

ckpt_status ckpt_gradient_cast(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    return undo(ad, &n, CKPT_OP_CAST, &n.attr, err);
}

ckpt_status ckpt_gradient_reduce_sum(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    return undo(ad, &n, CKPT_OP_EXPAND, &n.attr, err);
}
