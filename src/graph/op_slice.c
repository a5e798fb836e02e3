/* Taking tensors apart and putting them together, nothing computed:
 *   SLICE   part = whole at start, start + step, ...     dwhole = PLACE dpart, added to what came before
 *   PLACE   whole = part there, a fill elsewhere         dpart = SLICE dwhole
 *   CONCAT  y = x0, x1, ... along an axis                dxi = SLICE dy
 * Split is a SLICE for each output. */
#include <inttypes.h>

#include "graph/autodiff.h"
#include "graph/build.h"
#include "graph/op_rules.h"

/* What is moved is read once and written once, however large the tensor that it is picked from. */
ckpt_cost ckpt_cost_copy(const ckpt_graph *graph, const ckpt_node *node) {
    const uint64_t out = ckpt_tensor_bytes(&graph->tensor[node->out[0]]);
    return (ckpt_cost){.flops = (uint64_t)graph->tensor[node->out[0]].count, .bytes = 2 * out};
}

ckpt_slice_attr ckpt_slice_merged(const ckpt_slice_attr *g) {
    ckpt_slice_attr s = *g;
    while (s.rank > 1) {
        const int last = s.rank - 1;
        if (s.part[last] != s.whole[last] || s.step[last] != 1 || s.step[last - 1] != 1) break;
        s.whole[last - 1] *= s.whole[last];
        s.part[last - 1] *= s.whole[last];
        s.start[last - 1] *= s.whole[last];
        s.rank--;
    }
    if (s.rank == 0) {
        s.rank = 1;
        s.whole[0] = s.part[0] = s.step[0] = 1;
        s.start[0] = 0;
    }
    return s;
}

ckpt_status ckpt_build_slice(ckpt_graph *graph, const char *name, const ckpt_slice_attr *slice, const ckpt_view *whole,
                             ckpt_view *part, ckpt_error *err) {
    const ckpt_attr attr = {.slice = *slice};
    *part = (ckpt_view){.tensor = -1, .rank = slice->rank};
    for (int i = 0; i < slice->rank; i++) part->dim[i] = slice->part[i];
    return ckpt_build_node(graph, name, CKPT_OP_SLICE, &attr, 1, &whole->tensor, graph->tensor[whole->tensor].dtype, part, err);
}

ckpt_status ckpt_build_place(ckpt_graph *graph, const char *name, const ckpt_slice_attr *slice, const ckpt_view *part,
                             ckpt_view *whole, ckpt_error *err) {
    const ckpt_attr attr = {.slice = *slice};
    *whole = (ckpt_view){.tensor = -1, .rank = slice->rank};
    for (int i = 0; i < slice->rank; i++) whole->dim[i] = slice->whole[i];
    return ckpt_build_node(graph, name, CKPT_OP_PLACE, &attr, 1, &part->tensor, graph->tensor[part->tensor].dtype, whole, err);
}

ckpt_status ckpt_build_concat(ckpt_graph *graph, const char *name, int count, const ckpt_view *x, int axis, ckpt_view *y,
                              ckpt_error *err) {
    ckpt_attr attr = {.axis = {1, 0, 1}};
    int in[CKPT_MAX_IN];
    const ckpt_dtype type = graph->tensor[x[0].tensor].dtype;
    if (count > CKPT_MAX_IN) return ckpt_fail(err, CKPT_MODEL, "it has %d inputs; at most %d are supported", count, CKPT_MAX_IN);
    *y = x[0];
    for (int k = 0; k < count; k++) {
        bool fits = x[k].rank == x[0].rank;
        for (int i = 0; fits && i < x[k].rank; i++) fits = i == axis || x[k].dim[i] == x[0].dim[i];
        if (!fits) return ckpt_fail(err, CKPT_MODEL, "its inputs 0 and %d differ along another axis than %d", k, axis);
        if (graph->tensor[x[k].tensor].dtype != type)
            return ckpt_fail(err, CKPT_MODEL, "its inputs are of types %s and %s", ckpt_dtype_name(type),
                             ckpt_dtype_name(graph->tensor[x[k].tensor].dtype));
        in[k] = x[k].tensor;
        attr.axis.axis += x[k].dim[axis];
    }
    y->dim[axis] = attr.axis.axis;
    for (int i = 0; i < y->rank; i++)
        if (i != axis) *(i < axis ? &attr.axis.outer : &attr.axis.inner) *= y->dim[i];
    return ckpt_build_node(graph, name, CKPT_OP_CONCAT, &attr, count, in, type, y, err);
}

ckpt_status ckpt_gradient_concat(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    const int64_t outer = n.attr.axis.outer, inner = n.attr.axis.inner, across = outer * inner;
    int64_t start = 0;
    for (int i = 0; i < n.in_count; i++) {
        const int64_t share = across ? ad->graph->tensor[n.in[i]].count / across : 0;
        const ckpt_attr attr = {.slice = {.rank = 3, .whole = {outer, n.attr.axis.axis, inner}, .part = {outer, share, inner},
                                          .start = {0, start, 0}, .step = {1, 1, 1}}};
        start += share;
        if (!ad->wanted[n.in[i]]) continue;
        const int dx = ckpt_gradient_tensor(ad, n.in[i], err);
        if (dx < 0) return CKPT_NOMEM;
        CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_SLICE, &attr, 1, &ad->gradient[n.out[0]], dx, err));
        CKPT_TRY(ckpt_gradient_give(ad, n.in[i], dx, err));
    }
    return CKPT_OK;
}

/* Added to the sum of earlier contributions, over which it is written: the parts of a Split fill one tensor. */
ckpt_status ckpt_gradient_slice(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    bool persistent;
    if (!ad->wanted[n.in[0]]) return CKPT_OK;
    const int in[2] = {ad->gradient[n.out[0]], ckpt_gradient_sum(ad, n.in[0], &persistent)};
    const int dx = persistent ? in[1] : ckpt_gradient_tensor(ad, n.in[0], err);
    if (dx < 0) return CKPT_NOMEM;
    CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_PLACE, &n.attr, in[1] >= 0 ? 2 : 1, in, dx, err));
    return ckpt_gradient_replace(ad, n.in[0], dx, err);
}

ckpt_status ckpt_gradient_place(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    if (!ad->wanted[n.in[0]]) return CKPT_OK;
    const int dx = ckpt_gradient_tensor(ad, n.in[0], err);
    if (dx < 0) return CKPT_NOMEM;
    CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_SLICE, &n.attr, 1, &ad->gradient[n.out[0]], dx, err));
    return ckpt_gradient_give(ad, n.in[0], dx, err);
}
