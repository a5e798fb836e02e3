/* y = (x - mean) * inv_std * scale + bias over each row, ONNX LayerNormalization.
 *   with h = (x - mean) * inv_std and g = dy * scale:
 *   dx = inv_std * (g - mean(g) - h * mean(g * h))     dscale = sum over rows of dy * h     dbias = sum of dy
 * RMSNormalization is the same without the mean and without a bias: h = x * inv_rms, dx = inv_rms * (g - h * mean(g * h)).
 * The statistics are recomputed from x: a row is read anyway, and nothing else need be kept. */
#include <inttypes.h>

#include "graph/autodiff.h"
#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_cost ckpt_cost_layernorm(const ckpt_graph *graph, const ckpt_node *node) {
    return (ckpt_cost){.flops = 8 * (uint64_t)graph->tensor[node->in[0]].count};
}

ckpt_status ckpt_build_layernorm(ckpt_graph *graph, const char *name, const ckpt_view *x, int scale, int bias,
                                 int axis, float epsilon, ckpt_view *y, ckpt_view stats[2], ckpt_error *err) {
    if (axis < 0 || axis >= x->rank)
        return ckpt_fail(err, CKPT_MODEL, "its axis lies outside an input of %d dimensions", x->rank);
    int64_t rows = 1, cols = 1;
    for (int i = 0; i < x->rank; i++) *(i < axis ? &rows : &cols) *= x->dim[i];
    const int vectors[2] = {scale, bias};
    for (int i = 0; i < 2; i++)
        if (vectors[i] >= 0 && graph->tensor[vectors[i]].count != cols)
            return ckpt_fail(err, CKPT_MODEL, "its %s has %" PRId64 " values for rows of %" PRId64,
                             i ? "bias" : "scale", graph->tensor[vectors[i]].count, cols);
    *y = *x;
    int out[3] = {-1, -1, -1}, in[3] = {x->tensor, scale, bias};
    y->tensor = out[0] = ckpt_graph_add_tensor(graph, name, CKPT_F32, CKPT_ROLE_STEP, y->rank, y->dim, err);
    if (out[0] < 0) return CKPT_MODEL;
    for (int i = 0; stats && i < 2; i++) {
        stats[i] = *x;
        for (int d = axis; d < x->rank; d++) stats[i].dim[d] = 1;
        out[1 + i] = ckpt_graph_add_tensor(graph, i ? "inv_std" : "mean", CKPT_F32, CKPT_ROLE_STEP, x->rank,
                                           stats[i].dim, err);
        stats[i].tensor = out[1 + i];
        if (out[1 + i] < 0) return CKPT_MODEL;
    }
    int node = ckpt_graph_add_node(graph, CKPT_OP_LAYERNORM, CKPT_FORWARD, name, bias >= 0 ? 3 : scale >= 0 ? 2 : 1, in,
                                   stats ? 3 : 1, out, err);
    if (node < 0) return CKPT_NOMEM;
    ckpt_attr *attr = &graph->node[node].attr;
    attr->norm.rows = rows;
    attr->norm.cols = cols;
    attr->norm.epsilon = epsilon;
    return CKPT_OK;
}

ckpt_status ckpt_build_rmsnorm(ckpt_graph *graph, const char *name, const ckpt_view *x, int scale, int axis,
                               float epsilon, ckpt_view *y, ckpt_error *err) {
    ckpt_attr attr = {.norm = {1, 1, epsilon}};
    const int in[2] = {x->tensor, scale};
    if (axis < 0 || axis >= x->rank)
        return ckpt_fail(err, CKPT_MODEL, "its axis lies outside an input of %d dimensions", x->rank);
    for (int i = 0; i < x->rank; i++) *(i < axis ? &attr.norm.rows : &attr.norm.cols) *= x->dim[i];
    if (scale >= 0 && graph->tensor[scale].count != attr.norm.cols)
        return ckpt_fail(err, CKPT_MODEL, "its scale has %" PRId64 " values for rows of %" PRId64, graph->tensor[scale].count,
                         attr.norm.cols);
    if (graph->tensor[x->tensor].dtype != CKPT_F32)
        return ckpt_fail(err, CKPT_MODEL, "its input is of type %s instead of a float",
                         ckpt_dtype_name(graph->tensor[x->tensor].dtype));
    *y = *x;
    return ckpt_build_node(graph, name, CKPT_OP_RMSNORM, &attr, scale >= 0 ? 2 : 1, in, CKPT_F32, y, err);
}

/* dscale and dbias come out of one pass over dy and x. */
static ckpt_status parameter_gradients(ckpt_autodiff *ad, const ckpt_node *n, int dy, ckpt_error *err) {
    const int scale = n->in_count > 1 ? n->in[1] : -1, bias = n->in_count > 2 ? n->in[2] : -1;
    const bool want_scale = scale >= 0 && ad->wanted[scale], want_bias = bias >= 0 && ad->wanted[bias];
    if (!want_scale && !want_bias) return CKPT_OK;
    if (!want_scale) { /* a bias alone is a sum over the rows */
        ckpt_attr attr = {.reduce = {.rank = 2, .dim = {n->attr.norm.rows, n->attr.norm.cols}, .keep = 2, .alpha = 1}};
        int db = ckpt_gradient_tensor(ad, bias, err);
        if (db < 0) return CKPT_NOMEM;
        CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_REDUCE_SUM, &attr, 1, &dy, db, err));
        return ckpt_gradient_give(ad, bias, db, err);
    }
    const int in[2] = {dy, n->in[0]};
    int dscale = ckpt_gradient_tensor(ad, scale, err), dbias = want_bias ? ckpt_gradient_tensor(ad, bias, err) : -1;
    if (dscale < 0 || (want_bias && dbias < 0)) return CKPT_NOMEM;
    CKPT_TRY(ckpt_gradient_node(ad, n->op == CKPT_OP_RMSNORM ? CKPT_OP_RMSNORM_DP : CKPT_OP_LAYERNORM_DP, &n->attr, 2, in, dscale, err));
    if (want_bias) {
        ckpt_node *made = &ad->graph->node[ad->graph->node_count - 1];
        made->out[made->out_count++] = dbias;
        ad->graph->tensor[dbias].producer = ad->graph->node_count - 1;
    }
    CKPT_TRY(ckpt_gradient_give(ad, scale, dscale, err));
    return want_bias ? ckpt_gradient_give(ad, bias, dbias, err) : CKPT_OK;
}

ckpt_status ckpt_gradient_layernorm(ckpt_autodiff *ad, int node, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[node];
    const int dy = ad->gradient[n.out[0]];
    CKPT_TRY(parameter_gradients(ad, &n, dy, err));
    if (!ad->wanted[n.in[0]]) return CKPT_OK;
    const int in[3] = {dy, n.in[0], n.in_count > 1 ? n.in[1] : -1};
    int dx = ckpt_gradient_tensor(ad, n.in[0], err);
    if (dx < 0) return CKPT_NOMEM;
    CKPT_TRY(ckpt_gradient_node(ad, n.op == CKPT_OP_RMSNORM ? CKPT_OP_RMSNORM_DX : CKPT_OP_LAYERNORM_DX, &n.attr, in[2] >= 0 ? 3 : 2, in, dx, err));
    return ckpt_gradient_give(ad, n.in[0], dx, err);
}
