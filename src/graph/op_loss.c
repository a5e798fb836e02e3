/* The losses, scale / (what counts in the whole batch) times the sum over rows or values of
 *   CE   sum of a log(1 / softmax(x))           gradient (sum of a) softmax(x) - a, over the classes of a row, with
 *                                               a = weight (t (1 - smoothing) + smoothing / classes) and t the target's
 *                                               probabilities, 1 for its class and 0 elsewhere
 *   NLL  -weight[class] x[class]                gradient -weight onehot(class)
 *   BCE  max(x, 0) - x t + log(1 + exp(-|x|))   gradient sigmoid(x) - t
 *   MSE  (x - t)^2                              gradient 2 (x - t)
 * as PyTorch's cross_entropy and nll_loss have them. What counts: of targets that are classes the weights of those that are
 * not ignored, otherwise rows or values.
 *   FILE x, a loss that the file computes       gradient 1, or with micro-batches its share of the batch's samples */
#include <inttypes.h>
#include <stdio.h>

#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_cost ckpt_cost_loss(const ckpt_graph *graph, const ckpt_node *node) {
    return (ckpt_cost){.flops = 15 * (uint64_t)graph->tensor[node->in[0]].count};
}

int64_t ckpt_loss_items(const ckpt_node *loss) { return loss->attr.loss.outer * loss->attr.loss.inner; }

bool ckpt_loss_takes_classes(const ckpt_node *loss) {
    return (loss->attr.loss.kind == CKPT_LOSS_CE && !loss->attr.loss.soft) || loss->attr.loss.kind == CKPT_LOSS_NLL;
}

ckpt_loss_term ckpt_loss_term_of(ckpt_loss kind, const ckpt_view *prediction) {
    return (ckpt_loss_term){.kind = kind, .class_axis = prediction->rank - 1, .weights = -1, .scale = 1};
}

/* "loss", then "loss_2" and on. */
static const char *numbered(char text[32], const char *name, int index) {
    if (index == 0) return name;
    snprintf(text, 32, "%s_%d", name, index + 1);
    return text;
}

/* The result, cleared before the first micro-batch, in front of the first loss. */
static ckpt_status add_result(ckpt_graph *graph, ckpt_error *err) {
    const int64_t two = 2;
    graph->result = ckpt_graph_add_tensor(graph, "result", CKPT_F64, CKPT_ROLE_RESULT, 1, &two, err);
    if (graph->result < 0) return CKPT_NOMEM;
    const int zero = ckpt_graph_add_node(graph, CKPT_OP_ZERO, CKPT_FORWARD, "clear_result", 0, NULL, 1, &graph->result, err);
    if (zero < 0) return CKPT_NOMEM;
    graph->node[zero].when = CKPT_FIRST_MICRO;
    return CKPT_OK;
}

/* The node, and with it the end of the forward pass. */
static ckpt_status add_loss(ckpt_graph *graph, const ckpt_attr *attr, int in_count, const int *in, ckpt_error *err) {
    char name[32];
    int term = 0;
    for (int n = 0; n < graph->node_count; n++) term += graph->node[n].op == CKPT_OP_LOSS;
    if (term == CKPT_MAX_TARGETS)
        return ckpt_fail(err, CKPT_MODEL, "a sum of more than %d losses; give fewer", CKPT_MAX_TARGETS);
    if (graph->result < 0) CKPT_TRY(add_result(graph, err));
    const int node = ckpt_graph_add_node(graph, CKPT_OP_LOSS, CKPT_FORWARD, numbered(name, "loss", term), in_count, in, 1,
                                         &graph->result, err);
    if (node < 0) return CKPT_NOMEM;
    graph->node[node].attr = *attr;
    graph->node[node].attr.loss.term = term;
    graph->forward_count = graph->node_count;
    return CKPT_OK;
}

ckpt_status ckpt_loss_add_target(ckpt_graph *graph, int tensor, ckpt_error *err) {
    if (graph->target_count == CKPT_MAX_TARGETS)
        return ckpt_fail(err, CKPT_MODEL, "losses with more than %d targets; give fewer", CKPT_MAX_TARGETS);
    graph->target[graph->target_count++] = tensor;
    return CKPT_OK;
}

/* Rows of classes along an axis, or values a sample. */
static ckpt_status find_layout(const ckpt_graph *graph, const ckpt_loss_term *term, const ckpt_view *prediction, ckpt_attr *attr,
                               ckpt_error *err) {
    const char *name = graph->tensor[prediction->tensor].name;
    const bool classes = term->kind == CKPT_LOSS_CE || term->kind == CKPT_LOSS_NLL;
    const int64_t count = ckpt_view_count(prediction);
    const bool axis = !classes || (term->class_axis >= 0 && term->class_axis < prediction->rank);
    if (count == 0 || !axis)
        return ckpt_fail(err, CKPT_MODEL, "the output '%s' has no values to compare with a target", name);
    attr->loss.classes = classes ? prediction->dim[term->class_axis] : 1;
    attr->loss.outer = attr->loss.inner = 1;
    for (int i = 0; classes && i < prediction->rank; i++)
        if (i != term->class_axis) *(i < term->class_axis ? &attr->loss.outer : &attr->loss.inner) *= prediction->dim[i];
    if (!classes) attr->loss.outer = graph->batch, attr->loss.inner = graph->batch ? count / graph->batch : 0;
    if (attr->loss.inner == 0 || attr->loss.outer % graph->batch != 0 ||
        attr->loss.outer * attr->loss.classes * attr->loss.inner != count)
        return ckpt_fail(err, CKPT_MODEL,
                         "the output '%s' has %" PRId64 " values, which a batch of %" PRId64 " samples does not divide", name,
                         count, graph->batch);
    return CKPT_OK;
}

static ckpt_status check_weights(const ckpt_graph *graph, int weights, int64_t classes, ckpt_error *err) {
    if (weights < 0) return CKPT_OK;
    const ckpt_tensor *t = &graph->tensor[weights];
    if (t->dtype == CKPT_F32 && t->role == CKPT_ROLE_CONST && t->count == classes) return CKPT_OK;
    return ckpt_fail(err, CKPT_MODEL, "the class weights '%s' are not %" PRId64 " constant floats, one for each class", t->name,
                     classes);
}

ckpt_status ckpt_loss_attach(ckpt_graph *graph, const ckpt_loss_term *term, const ckpt_view *prediction, ckpt_error *err) {
    char name[32];
    ckpt_view target = *prediction;
    ckpt_attr attr = {.loss = {.kind = term->kind, .soft = term->soft, .smoothing = term->smoothing, .scale = term->scale}};
    CKPT_TRY(find_layout(graph, term, prediction, &attr, err));
    CKPT_TRY(check_weights(graph, term->weights, attr.loss.classes, err));
    const bool classes = ckpt_loss_takes_classes(&(ckpt_node){.attr = attr});
    if (classes) {
        target.rank--;
        for (int i = term->class_axis; i < target.rank; i++) target.dim[i] = prediction->dim[i + 1];
    }
    const int in[3] = {prediction->tensor,
                       ckpt_graph_add_tensor(graph, numbered(name, "target", graph->target_count), classes ? CKPT_I32 : CKPT_F32,
                                             CKPT_ROLE_TARGET, target.rank, target.dim, err),
                       term->weights};
    if (in[1] < 0) return CKPT_NOMEM;
    CKPT_TRY(ckpt_loss_add_target(graph, in[1], err));
    return add_loss(graph, &attr, term->weights < 0 ? 2 : 3, in, err);
}

ckpt_status ckpt_loss_attach_own(ckpt_graph *graph, int value, bool sum, float scale, ckpt_error *err) {
    const ckpt_attr attr = {.loss = {.kind = CKPT_LOSS_FILE, .outer = graph->batch, .classes = 1, .inner = 1, .scale = scale,
                                     .sum = sum}};
    return add_loss(graph, &attr, 1, &value, err);
}
