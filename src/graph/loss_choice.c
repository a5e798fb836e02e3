#include "graph/loss_choice.h"

#include <string.h>

#include "graph/op.h"

static const char *const names[] = {[CKPT_LOSS_NONE] = "none", [CKPT_LOSS_CE] = "ce", [CKPT_LOSS_BCE] = "bce",
                                    [CKPT_LOSS_MSE] = "mse", [CKPT_LOSS_NLL] = "nll",
                                    [CKPT_LOSS_FILE] = "file"};

bool ckpt_loss_parse(const char *name, ckpt_loss *loss) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (i != CKPT_LOSS_FILE && strcmp(name, names[i]) == 0) {
            *loss = (ckpt_loss)i;
            return true;
        }
    return false;
}

const char *ckpt_loss_name(ckpt_loss loss) { return names[loss]; }

/* The node that makes the prediction, or NULL. */
static const ckpt_node *final_node(const ckpt_graph *graph, const ckpt_view *prediction) {
    const int producer = graph->tensor[prediction->tensor].producer;
    return producer < 0 ? NULL : &graph->node[producer];
}

static bool is_last_axis_softmax(const ckpt_node *node, ckpt_op op) {
    return node && node->op == op && node->attr.axis.inner == 1;
}

static bool is_sigmoid(const ckpt_node *node) {
    return node && node->op == CKPT_OP_ACT && node->attr.act.act == CKPT_ACT_SIGMOID && node->attr.act.drop == 0;
}

/* A sigmoid's p as the pair 1 - p, p, as scikit-learn's binary classifiers answer: the tensor of p, or -1. */
static int pair_of(const ckpt_graph *graph, const ckpt_node *node) {
    if (!node || node->op != CKPT_OP_CONCAT || node->in_count != 2) return -1;
    const int p = node->in[1], rest = graph->tensor[node->in[0]].producer, source = graph->tensor[p].producer;
    if (source < 0 || rest < 0 || !is_sigmoid(&graph->node[source])) return -1;
    const ckpt_node *minus = &graph->node[rest];
    if (minus->op == CKPT_OP_ACT)
        return minus->in[0] == p && minus->attr.act.act == CKPT_ACT_SCALE && minus->attr.act.alpha == -1 &&
                       minus->attr.act.beta == 1 ? p : -1;
    const ckpt_tensor *one = &graph->tensor[minus->in[0]];
    return minus->op == CKPT_OP_BINARY && minus->attr.binary.kind == CKPT_BINARY_SUB && minus->in[1] == p && one->count == 1 &&
                   one->dtype == CKPT_F32 && one->data && *(const float *)one->data == 1 ? p : -1;
}

static void choose(const ckpt_graph *graph, ckpt_loss_question *q, const char **why) {
    const ckpt_node *last = final_node(graph, &q->prediction);
    const int pair = pair_of(graph, last);
    const int64_t cols = q->prediction.rank ? q->prediction.dim[q->prediction.rank - 1] : 1;
    const int64_t inputs = graph->input_count ? graph->tensor[graph->input[0]].count / graph->batch : 0;
    if (is_last_axis_softmax(last, CKPT_OP_SOFTMAX) || is_last_axis_softmax(last, CKPT_OP_LOGSOFTMAX)) {
        q->loss = CKPT_LOSS_CE;
        *why = last->op == CKPT_OP_SOFTMAX ? "its output is a Softmax, which is folded into the loss"
                                           : "its output is a LogSoftmax, which is folded into the loss";
    } else if (pair >= 0 && q->prediction.rank == 2 && cols == 2 && graph->tensor[pair].count * 2 == ckpt_view_count(&q->prediction)) {
        q->loss = CKPT_LOSS_BCE;
        q->prediction.tensor = pair;
        q->prediction.dim[1] = 1;
        *why = "its output is a Sigmoid's p with 1 - p beside it, which is folded into the loss";
    } else if (is_sigmoid(last) && q->target != 1) {
        q->loss = CKPT_LOSS_BCE;
        *why = "its output is a Sigmoid, which is folded into the loss";
    } else if (q->target == 1 && cols > 1) {
        q->loss = CKPT_LOSS_CE;
        *why = "the targets are integers, taken as classes";
    } else if (q->target == 2) {
        q->loss = CKPT_LOSS_MSE;
        *why = "the targets are floats";
    } else if (last && last->op == CKPT_OP_LINEAR && q->prediction.rank == 2 && cols >= 2 && cols <= 1000 &&
               cols != inputs) {
        q->loss = CKPT_LOSS_CE;
        *why = "its output is linear with a few columns, taken as logits of classes";
    } else if (last && last->op == CKPT_OP_BINARY && q->prediction.rank == 2 && cols >= 2 && cols <= 1000 && cols != inputs) {
        q->loss = CKPT_LOSS_CE; /* MatMul + Add: the same linear layer, not yet fused */
        *why = "its output is linear with a few columns, taken as logits of classes";
    } else {
        q->loss = CKPT_LOSS_MSE;
        *why = "its output looks like values, not like classes";
    }
}

/* Moves the prediction in front of the node that the loss contains. */
static void fold(const ckpt_graph *graph, ckpt_loss_question *q) {
    const ckpt_node *last = final_node(graph, &q->prediction);
    const bool ce = q->loss == CKPT_LOSS_CE && (is_last_axis_softmax(last, CKPT_OP_SOFTMAX) ||
                                                is_last_axis_softmax(last, CKPT_OP_LOGSOFTMAX));
    const bool nll = q->loss == CKPT_LOSS_NLL && is_last_axis_softmax(last, CKPT_OP_LOGSOFTMAX);
    if (ce || nll || (q->loss == CKPT_LOSS_BCE && is_sigmoid(last))) q->prediction.tensor = last->in[0];
    if (nll) q->loss = CKPT_LOSS_CE; /* the same value without the intermediate */
}

ckpt_status ckpt_loss_choose(ckpt_graph *graph, ckpt_loss_question *q, ckpt_error *err) {
    static const char *const long_names[] = {"none", "cross-entropy", "binary cross-entropy", "mean squared error",
                                             "negative log-likelihood", "the file's own"};
    const char *why = "as asked for";
    if (q->automatic) choose(graph, q, &why);
    fold(graph, q);
    const bool classes = q->loss == CKPT_LOSS_CE || q->loss == CKPT_LOSS_NLL;
    /* Fully convolutional classifiers: the classes of [batch, classes, 1, 1] lie along its last axis as well. */
    while (classes && q->prediction.rank > 2 && q->prediction.dim[q->prediction.rank - 1] == 1) q->prediction.rank--;
    if (classes && (q->prediction.rank < 2 || q->prediction.dim[q->prediction.rank - 1] < 2))
        return ckpt_fail(err, CKPT_MODEL, "%s needs an output with at least 2 classes along its last axis; use --loss bce or mse",
                         long_names[q->loss]);
    q->reason = ckpt_pool_printf(&graph->pool, "%s (%s)", long_names[q->loss], why);
    return q->reason ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
}
