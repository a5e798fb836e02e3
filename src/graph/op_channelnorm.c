/* Normalization by channels, x (batch, channels, ...), h = (x - mean) * inv_std:
 *   BatchNormalization  statistics a channel, over the batch; GroupNormalization  a sample and group of channels
 *   y = h * scale + bias
 *   dx = inv_std * (g - mean(g) - h * mean(g * h)), g = dy * scale     dscale = sum of dy * h     dbias = sum of dy
 *
 * BatchNormalization is three nodes: BATCH_STATS makes the statistics, BATCHNORM normalizes with them, and STATS_UPDATE
 * moves the running ones. So a recomputation makes statistics again and moves nothing, and evaluation is the same
 * BATCHNORM node behind STORED_STATS. Statistics are those of a micro-batch; the running ones are moved once a step, by
 * the first micro-batch, than which none is longer. */
#include <inttypes.h>

#include "graph/build.h"
#include "graph/op_rules.h"

/* Half of LayerNormalization's each for statistics and for normalizing. */
ckpt_cost ckpt_cost_batchnorm(const ckpt_graph *graph, const ckpt_node *node) {
    return (ckpt_cost){.flops = 4 * (uint64_t)graph->tensor[node->in[0]].count};
}

/* Batch, channels and what lies behind them; groups are left at 1. */
static ckpt_status channel_geometry(const ckpt_view *x, float epsilon, ckpt_attr *attr, ckpt_error *err) {
    if (x->rank < 2) return ckpt_fail(err, CKPT_MODEL, "its input has %d dimensions; at least 2 are needed", x->rank);
    attr->group.batch = x->dim[0];
    attr->group.channels = x->dim[1];
    attr->group.groups = attr->group.inner = 1;
    attr->group.epsilon = epsilon;
    for (int i = 2; i < x->rank; i++) attr->group.inner *= x->dim[i];
    return CKPT_OK;
}

/* Whether a tensor has a value a channel, or a value a group. */
static ckpt_status check_channels(const ckpt_graph *graph, int tensor, const ckpt_attr *attr, const char *what, ckpt_error *err) {
    const int64_t count = graph->tensor[tensor].count;
    if (count == attr->group.channels || (attr->group.groups > 1 && count == attr->group.groups)) return CKPT_OK;
    return ckpt_fail(err, CKPT_MODEL, "its %s has %" PRId64 " values for %" PRId64 " channels", what, count, attr->group.channels);
}

static ckpt_status check_float(const ckpt_graph *graph, const ckpt_view *x, ckpt_error *err) {
    const ckpt_dtype type = graph->tensor[x->tensor].dtype;
    return type == CKPT_F32 ? CKPT_OK
                            : ckpt_fail(err, CKPT_MODEL, "its input is of type %s instead of a float", ckpt_dtype_name(type));
}

ckpt_status ckpt_build_groupnorm(ckpt_graph *graph, const char *name, const ckpt_view *x, int scale, int bias, int64_t groups,
                                 float epsilon, ckpt_view *y, ckpt_error *err) {
    ckpt_attr attr = {0};
    const int in[3] = {x->tensor, scale, bias};
    CKPT_TRY(check_float(graph, x, err));
    CKPT_TRY(channel_geometry(x, epsilon, &attr, err));
    if (groups < 1 || x->dim[1] % groups != 0)
        return ckpt_fail(err, CKPT_MODEL, "%" PRId64 " groups do not divide %" PRId64 " channels", groups, x->dim[1]);
    attr.group.groups = groups; /* before opset 21 there is a scale a group */
    CKPT_TRY(check_channels(graph, scale, &attr, "scale", err));
    CKPT_TRY(check_channels(graph, bias, &attr, "bias", err));
    if (graph->tensor[scale].count != graph->tensor[bias].count)
        return ckpt_fail(err, CKPT_MODEL, "its scale and its bias differ in size");
    *y = *x;
    return ckpt_build_node(graph, name, CKPT_OP_GROUPNORM, &attr, 3, in, CKPT_F32, y, err);
}

/* moved: NULL, or where the running statistics go: STATISTIC tensors in place, STEP tensors that are made here. */
static ckpt_status update_running(ckpt_graph *graph, const ckpt_attr *attr, int stats, const int running[2], ckpt_view *moved,
                                  ckpt_error *err) {
    const int in[3] = {stats, running[0], running[1]};
    int out[2] = {running[0], running[1]};
    for (int i = 0; i < 2; i++) {
        if (moved && graph->tensor[running[i]].role != CKPT_ROLE_STATISTIC)
            out[i] = ckpt_graph_add_tensor(graph, NULL, CKPT_F32, CKPT_ROLE_STEP, 1, &attr->group.channels, err);
        if (out[i] < 0) return CKPT_MODEL;
        if (moved) moved[i] = ckpt_view_of(graph, out[i]);
    }
    const int node = ckpt_graph_add_node(graph, CKPT_OP_STATS_UPDATE, CKPT_FORWARD, NULL, 3, in, 2, out, err);
    if (node < 0) return CKPT_NOMEM;
    graph->node[node].attr = *attr;
    if (graph->tensor[out[0]].role == CKPT_ROLE_STATISTIC) graph->node[node].when = CKPT_FIRST_MICRO;
    return CKPT_OK;
}

ckpt_status ckpt_build_batchnorm(ckpt_graph *graph, const char *name, const ckpt_view *x, int scale, int bias,
                                 const int running[2], float epsilon, float momentum, bool training, ckpt_view *y,
                                 ckpt_view moved[2], ckpt_error *err) {
    static const char *const what[] = {"scale", "bias", "mean", "variance"};
    const int vector[4] = {scale, bias, running[0], running[1]};
    ckpt_attr attr = {0};
    CKPT_TRY(check_float(graph, x, err));
    CKPT_TRY(channel_geometry(x, epsilon, &attr, err));
    for (int i = 0; i < 4; i++) CKPT_TRY(check_channels(graph, vector[i], &attr, what[i], err));
    attr.group.momentum = momentum;
    ckpt_view stats = {.tensor = -1, .rank = 2, .dim = {4, attr.group.channels}};
    if (training) CKPT_TRY(ckpt_build_node(graph, NULL, CKPT_OP_BATCH_STATS, &attr, 1, &x->tensor, CKPT_F32, &stats, err));
    else CKPT_TRY(ckpt_build_node(graph, NULL, CKPT_OP_STORED_STATS, &attr, 2, running, CKPT_F32, &stats, err));
    /* Before the node that reads the statistics: whoever goes through the nodes backwards knows whether one does. */
    if (training) CKPT_TRY(update_running(graph, &attr, stats.tensor, running, moved, err));
    const int in[4] = {x->tensor, scale, bias, stats.tensor};
    *y = *x;
    return ckpt_build_node(graph, name, CKPT_OP_BATCHNORM, &attr, 4, in, CKPT_F32, y, err);
}
