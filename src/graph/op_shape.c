/* Transpose, Cast, the sum over axes and Expand: each one's gradient undoes it. */
#include <inttypes.h>

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

/* What goes and what stays of x, and the view of what is left; returns how many values become one. */
static int64_t reduced_geometry(const ckpt_view *x, uint32_t axes, bool keep_dims, ckpt_reduce_attr *r, ckpt_view *y) {
    int64_t summed = 1;
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
    return summed;
}

static ckpt_status require_float(const ckpt_graph *graph, const ckpt_view *x, ckpt_error *err) {
    const ckpt_dtype type = graph->tensor[x->tensor].dtype;
    return type == CKPT_F32 ? CKPT_OK : ckpt_fail(err, CKPT_MODEL, "%s values along axes are not supported, only floats",
                                                  ckpt_dtype_name(type));
}

ckpt_status ckpt_build_reduce(ckpt_graph *graph, const char *name, const ckpt_view *x, uint32_t axes, bool keep_dims,
                              bool mean, ckpt_view *y, ckpt_error *err) {
    ckpt_attr attr = {.reduce = {.alpha = 1}};
    CKPT_TRY(require_float(graph, x, err));
    const int64_t summed = reduced_geometry(x, axes, keep_dims, &attr.reduce, y);
    if (mean) attr.reduce.alpha = (float)(1.0 / (double)summed);
    return ckpt_build_node(graph, name, CKPT_OP_REDUCE_SUM, &attr, 1, &x->tensor, CKPT_F32, y, err);
}

ckpt_status ckpt_build_reduce_max(ckpt_graph *graph, const char *name, const ckpt_view *x, uint32_t axes, bool keep_dims,
                                  bool least, ckpt_view *y, ckpt_error *err) {
    ckpt_attr attr = {.reduce = {.alpha = least ? -1 : 1}};
    CKPT_TRY(require_float(graph, x, err));
    reduced_geometry(x, axes, keep_dims, &attr.reduce, y);
    return ckpt_build_node(graph, name, CKPT_OP_REDUCE_MAX, &attr, 1, &x->tensor, CKPT_F32, y, err);
}

ckpt_status ckpt_build_expand(ckpt_graph *graph, const char *name, const ckpt_view *x, ckpt_view *y, ckpt_error *err) {
    ckpt_attr attr = {.reduce = {.alpha = 1}};
    ckpt_view small;
    uint32_t axes = 0;
    ckpt_view aligned = {.tensor = x->tensor, .rank = y->rank};
    for (int i = 0; i < y->rank; i++) {
        const int own = i - (y->rank - x->rank);
        aligned.dim[i] = own < 0 ? 1 : x->dim[own];
        if (aligned.dim[i] != y->dim[i]) axes |= 1u << i;
        if (aligned.dim[i] != y->dim[i] && aligned.dim[i] != 1)
            return ckpt_fail(err, CKPT_MODEL, "its input has %" PRId64 " values along axis %d and does not expand to %" PRId64,
                             aligned.dim[i], i, y->dim[i]);
    }
    if (graph->tensor[x->tensor].dtype != CKPT_F32) /* nothing is summed on the way back, so copies of any type will do */
        return ckpt_build_resize(graph, name, CKPT_RESIZE_NEAREST, &aligned, y, err);
    reduced_geometry(y, axes, true, &attr.reduce, &small);
    return ckpt_build_node(graph, name, CKPT_OP_EXPAND, &attr, 1, &x->tensor, CKPT_F32, y, err);
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

ckpt_status ckpt_gradient_expand(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    return undo(ad, &n, CKPT_OP_REDUCE_SUM, &n.attr, err);
}

ckpt_status ckpt_gradient_reduce_sum(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    return undo(ad, &n, CKPT_OP_EXPAND, &n.attr, err);
}
