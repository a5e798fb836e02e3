/* Gather, Where, comparisons, the largest along axes, Resize, Trilu: their shape rules. What their gradients read is in
 * tapes.def. */
#include <inttypes.h>

#include "graph/build.h"
#include "graph/op_rules.h"

/* 4 flops a tap: nearest copies, linear has 2 taps an axis that changes, cubic 4. */
ckpt_cost ckpt_cost_resize(const ckpt_graph *graph, const ckpt_node *node) {
    uint64_t taps = 1;
    for (int i = 0; i < node->attr.resize.rank; i++)
        if (node->attr.resize.from[i] != node->attr.resize.to[i])
            taps *= node->attr.resize.mode == CKPT_RESIZE_NEAREST ? 1 : node->attr.resize.mode == CKPT_RESIZE_LINEAR ? 2 : 4;
    const int larger = node->op == CKPT_OP_RESIZE ? node->out[0] : node->in[0];
    return (ckpt_cost){.flops = 4 * taps * (uint64_t)graph->tensor[larger].count};
}

/* The window of squares, then a power. */
ckpt_cost ckpt_cost_lrn(const ckpt_graph *graph, const ckpt_node *node) {
    return (ckpt_cost){.flops = (2 * (uint64_t)node->attr.lrn.size + 25) * (uint64_t)graph->tensor[node->in[0]].count};
}

ckpt_status ckpt_build_node(ckpt_graph *graph, const char *name, ckpt_op op, const ckpt_attr *attr, int in_count,
                            const int *in, ckpt_dtype dtype, ckpt_view *y, ckpt_error *err) {
    y->tensor = ckpt_graph_add_tensor(graph, name, dtype, CKPT_ROLE_STEP, y->rank, y->dim, err);
    if (y->tensor < 0) return CKPT_MODEL;
    const int node = ckpt_graph_add_node(graph, op, CKPT_FORWARD, name, in_count, in, 1, &y->tensor, err);
    if (node < 0) return CKPT_NOMEM;
    graph->node[node].attr = *attr;
    return CKPT_OK;
}

ckpt_status ckpt_build_output(ckpt_graph *graph, ckpt_dtype dtype, const ckpt_view *like, ckpt_view *out, ckpt_error *err) {
    ckpt_node *node = &graph->node[graph->node_count - 1];
    *out = *like;
    out->tensor = ckpt_graph_add_tensor(graph, NULL, dtype, CKPT_ROLE_STEP, like->rank, like->dim, err);
    if (out->tensor < 0) return CKPT_MODEL;
    node->out[node->out_count++] = out->tensor;
    graph->tensor[out->tensor].producer = graph->node_count - 1;
    return CKPT_OK;
}

ckpt_status ckpt_build_gather(ckpt_graph *graph, const char *name, const ckpt_view *data, const ckpt_view *indices, int axis,
                              ckpt_view *y, ckpt_error *err) {
    ckpt_attr attr = {.gather = {.outer = 1, .axis = data->dim[axis], .inner = 1, .picks = ckpt_view_count(indices)}};
    const ckpt_dtype type = graph->tensor[indices->tensor].dtype;
    const int in[2] = {data->tensor, indices->tensor};
    if (type != CKPT_I64 && type != CKPT_I32)
        return ckpt_fail(err, CKPT_MODEL, "its indices are of type %s instead of integers", ckpt_dtype_name(type));
    if (data->rank + indices->rank - 1 > CKPT_MAX_RANK) return ckpt_fail(err, CKPT_MODEL, "more than %d dimensions", CKPT_MAX_RANK);
    *y = (ckpt_view){.tensor = -1};
    for (int i = 0; i < axis; i++) attr.gather.outer *= y->dim[y->rank++] = data->dim[i];
    for (int i = 0; i < indices->rank; i++) y->dim[y->rank++] = indices->dim[i];
    for (int i = axis + 1; i < data->rank; i++) attr.gather.inner *= y->dim[y->rank++] = data->dim[i];
    return ckpt_build_node(graph, name, CKPT_OP_GATHER, &attr, 2, in, graph->tensor[data->tensor].dtype, y, err);
}

ckpt_status ckpt_build_select(ckpt_graph *graph, const char *name, const ckpt_view operand[3], ckpt_view *y, ckpt_error *err) {
    ckpt_attr attr = {0};
    ckpt_binary_attr pair;
    ckpt_view values;
    const int in[3] = {operand[0].tensor, operand[1].tensor, operand[2].tensor};
    const ckpt_dtype type = graph->tensor[in[1]].dtype;
    if (graph->tensor[in[0]].dtype != CKPT_BOOL || graph->tensor[in[2]].dtype != type)
        return ckpt_fail(err, CKPT_MODEL, "its inputs are of types %s, %s and %s", ckpt_dtype_name(graph->tensor[in[0]].dtype),
                         ckpt_dtype_name(type), ckpt_dtype_name(graph->tensor[in[2]].dtype));
    CKPT_TRY(ckpt_broadcast(&operand[1], &operand[2], &pair, &values, err));
    CKPT_TRY(ckpt_broadcast(&operand[0], &values, &pair, y, err));
    ckpt_select_attr *s = &attr.select;
    s->rank = y->rank;
    for (int k = 0; k < 3; k++) {
        int64_t run = 1;
        for (int i = y->rank - 1, own = operand[k].rank - 1; i >= 0; i--, own--) {
            s->dim[i] = y->dim[i];
            s->stride[k][i] = own < 0 || operand[k].dim[own] == 1 ? 0 : run;
            if (own >= 0) run *= operand[k].dim[own];
        }
    }
    return ckpt_build_node(graph, name, CKPT_OP_SELECT, &attr, 3, in, type, y, err);
}

ckpt_status ckpt_build_compare(ckpt_graph *graph, const char *name, ckpt_compare kind, const ckpt_view *a, const ckpt_view *b,
                               ckpt_view *c, ckpt_error *err) {
    ckpt_attr attr = {.compare = {.kind = kind}};
    const int in[2] = {a->tensor, b->tensor};
    if (graph->tensor[in[0]].dtype != graph->tensor[in[1]].dtype)
        return ckpt_fail(err, CKPT_MODEL, "its operands are of types %s and %s", ckpt_dtype_name(graph->tensor[in[0]].dtype),
                         ckpt_dtype_name(graph->tensor[in[1]].dtype));
    CKPT_TRY(ckpt_broadcast(a, b, &attr.compare.geometry, c, err));
    return ckpt_build_node(graph, name, CKPT_OP_COMPARE, &attr, kind == CKPT_COMPARE_NOT ? 1 : 2, in, CKPT_BOOL, c, err);
}

ckpt_status ckpt_build_resize(ckpt_graph *graph, const char *name, ckpt_resize mode, const ckpt_view *x, ckpt_view *y,
                              ckpt_error *err) {
    ckpt_attr attr = {.resize = {.rank = x->rank, .mode = mode}};
    for (int i = 0; i < x->rank; i++) {
        attr.resize.from[i] = x->dim[i];
        attr.resize.to[i] = y->dim[i];
    }
    return ckpt_build_node(graph, name, CKPT_OP_RESIZE, &attr, 1, &x->tensor, graph->tensor[x->tensor].dtype, y, err);
}
