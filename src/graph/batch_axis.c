/* Element i of a tensor belongs to sample (i / stride) % batch: the batch is one axis of some shape of it, `stride`
 * elements apart. Tensors are dense, so views change nothing, and one number a tensor is all there is to know.
 *
 * The batch passes through a node when it lies inside one of the axes that pass (op_axes.h). What is not known to keep
 * samples apart counts as mixing them. */
#include "graph/batch_axis.h"

#include "graph/op_axes.h"

enum { NONE = -1 }; /* the stride of a tensor that is the same for all samples */

static int64_t count_of(const ckpt_graph *graph, int tensor) { return graph->tensor[tensor].count; }

/* The stride in the node's output 0; false: it mixes samples. */
static bool pass(const ckpt_graph *graph, const ckpt_node *node, const int64_t *stride, int64_t *out) {
    *out = NONE;
    for (int i = 0; i < node->in_count; i++) {
        ckpt_op_axis axis[CKPT_MOST_OP_AXES];
        if (node->in[i] < 0 || stride[node->in[i]] == NONE) continue;
        const int count = ckpt_op_axes(graph, node, i, axis);
        const int64_t to = ckpt_op_axes_pass(axis, count, graph->batch, stride[node->in[i]]);
        if (to == 0 || (*out != NONE && to != *out)) return false;
        *out = to;
    }
    return true;
}

/* A loss is a sum over samples, of which the parts of a batch each add their own. */
static bool is_loss(const ckpt_node *node) { return node->op == CKPT_OP_LOSS || node->op == CKPT_OP_CLASS_LOSS; }

/* Nodes by which a loss of the file is made of sums over the samples. */
static bool adds_up(const ckpt_node *node) {
    switch (node->op) {
    case CKPT_OP_BINARY: case CKPT_OP_CAST: case CKPT_OP_EXPAND: case CKPT_OP_TRANSPOSE: case CKPT_OP_REDUCE_SUM: return true;
    case CKPT_OP_ACT: return node->attr.act.act == CKPT_ACT_NEG || node->attr.act.act == CKPT_ACT_SCALE;
    default: return false;
    }
}

/* The sums over the samples that a loss of the file is made of are part of the loss. of_loss: scratch, by tensor. */
static void leave_out_sums(const ckpt_graph *graph, bool *of_loss, bool *across) {
    for (int n = graph->forward_count - 1; n >= 0; n--) {
        const ckpt_node *node = &graph->node[n];
        if (node->op == CKPT_OP_LOSS && node->attr.loss.kind == CKPT_LOSS_FILE) of_loss[node->in[0]] = true;
        if (is_loss(node) || node->out[0] < 0 || !of_loss[node->out[0]] || !adds_up(node)) continue;
        const bool sum = across[n] && node->op == CKPT_OP_REDUCE_SUM;
        if (sum) across[n] = false;
        for (int i = 0; i < node->in_count && !sum; i++)
            if (node->in[i] >= 0) of_loss[node->in[i]] = true;
    }
}

/* What is fed, a sample after the other. A constant is one for all samples, even where it is made as long as the batch. */
static void place_inputs(const ckpt_graph *graph, int64_t *stride) {
    for (int t = 0; t < graph->tensor_count; t++) {
        const ckpt_tensor *tensor = &graph->tensor[t];
        const bool fed = tensor->role == CKPT_ROLE_INPUT || tensor->role == CKPT_ROLE_TARGET;
        stride[t] = fed && tensor->count > 0 && tensor->count % graph->batch == 0 ? tensor->count / graph->batch : NONE;
    }
}

/* Further outputs, as of statistics, are smaller by whole axes behind the batch. */
static void place_outputs(const ckpt_graph *graph, const ckpt_node *node, int64_t first, int64_t *stride) {
    const int64_t whole = count_of(graph, node->out[0]);
    for (int o = 0; o < node->out_count; o++) {
        if (node->out[o] < 0 || graph->tensor[node->out[o]].role != CKPT_ROLE_STEP) continue;
        const int64_t part = count_of(graph, node->out[o]), ratio = part > 0 ? whole / part : 0;
        const bool whole_axes = first != NONE && ratio > 0 && ratio * part == whole && first % ratio == 0;
        stride[node->out[o]] = whole_axes ? first / ratio : NONE;
    }
}

ckpt_status ckpt_batch_find_across(const ckpt_graph *graph, bool *across, ckpt_error *err) {
    ckpt_pool scratch = {0};
    int64_t *stride = ckpt_pool_array(&scratch, graph->tensor_count, int64_t);
    bool *of_loss = ckpt_pool_array(&scratch, graph->tensor_count, bool);
    if (!stride || !of_loss) return ckpt_pool_free(&scratch), ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    place_inputs(graph, stride);
    for (int n = 0; n < graph->node_count; n++) across[n] = false;
    for (int n = 0; n < graph->forward_count; n++) {
        const ckpt_node *node = &graph->node[n];
        int64_t first = NONE;
        if (!is_loss(node)) across[n] = !pass(graph, node, stride, &first);
        if (node->out_count > 0 && node->out[0] >= 0) place_outputs(graph, node, across[n] ? NONE : first, stride);
    }
    leave_out_sums(graph, of_loss, across);
    ckpt_pool_free(&scratch);
    return CKPT_OK;
}
