/* The losses, means over what counts:
 *   CE   -log softmax(x)[class]                 gradient (softmax(x) - onehot(class)) / rows
 *   NLL  -x[class]                              gradient -onehot(class) / rows
 *   BCE  max(x, 0) - x t + log(1 + exp(-|x|))   gradient (sigmoid(x) - t) / values
 *   MSE  (x - t)^2                              gradient 2 (x - t) / values
 *   FILE x, a loss that the file computes       gradient 1, or with micro-batches its share of the batch's samples */
#include <inttypes.h>

#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_cost ckpt_cost_loss(const ckpt_graph *graph, const ckpt_node *node) {
    return (ckpt_cost){.flops = 15 * (uint64_t)graph->tensor[node->in[0]].count};
}

/* The result, cleared before the first micro-batch, the sum over them, and the end of the forward pass. */
static ckpt_status add_loss(ckpt_graph *graph, const ckpt_attr *attr, int prediction, ckpt_error *err) {
    const int64_t two = 2;
    graph->result = ckpt_graph_add_tensor(graph, "result", CKPT_F64, CKPT_ROLE_RESULT, 1, &two, err);
    if (graph->result < 0) return CKPT_NOMEM;
    int zero = ckpt_graph_add_node(graph, CKPT_OP_ZERO, CKPT_FORWARD, "clear_result", 0, NULL, 1, &graph->result, err);
    if (zero < 0) return CKPT_NOMEM;
    graph->node[zero].when = CKPT_FIRST_MICRO;
    const int in[2] = {prediction, graph->target};
    int node = ckpt_graph_add_node(graph, CKPT_OP_LOSS, CKPT_FORWARD, "loss", 2, in, 1, &graph->result, err);
    if (node < 0) return CKPT_NOMEM;
    graph->node[node].attr = *attr;
    graph->forward_count = graph->node_count;
    return CKPT_OK;
}

ckpt_status ckpt_loss_attach(ckpt_graph *graph, ckpt_loss kind, const ckpt_view *prediction, ckpt_error *err) {
    const bool classes = kind == CKPT_LOSS_CE || kind == CKPT_LOSS_NLL;
    const int64_t count = ckpt_view_count(prediction);
    if (count == 0 || (classes && prediction->rank < 1))
        return ckpt_fail(err, CKPT_MODEL, "the output '%s' has no values to compare with a target",
                         graph->tensor[prediction->tensor].name);
    ckpt_attr attr = {.loss = {.kind = kind}};
    attr.loss.cols = classes ? prediction->dim[prediction->rank - 1] : count / graph->batch;
    if (attr.loss.cols > 0) attr.loss.rows = count / attr.loss.cols; /* a single number has no column a sample */
    attr.loss.rows_per_sample = attr.loss.rows / graph->batch;
    if (attr.loss.cols == 0 || attr.loss.rows_per_sample * graph->batch != attr.loss.rows ||
        attr.loss.rows * attr.loss.cols != count)
        return ckpt_fail(err, CKPT_MODEL,
                         "the output '%s' has %" PRId64 " values, which a batch of %" PRId64 " samples does not divide",
                         graph->tensor[prediction->tensor].name, count, graph->batch);
    graph->target = ckpt_graph_add_tensor(graph, "target", classes ? CKPT_I32 : CKPT_F32, CKPT_ROLE_TARGET,
                                          prediction->rank - classes, prediction->dim, err);
    if (graph->target < 0) return CKPT_NOMEM;
    return add_loss(graph, &attr, prediction->tensor, err);
}

ckpt_status ckpt_loss_attach_own(ckpt_graph *graph, int value, bool sum, ckpt_error *err) {
    const ckpt_attr attr = {.loss = {.kind = CKPT_LOSS_FILE, .rows = 1, .cols = 1, .sum = sum}};
    return add_loss(graph, &attr, value, err);
}
