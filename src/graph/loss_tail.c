#include "graph/loss_tail.h"

#include <string.h>

#include "graph/op.h"

enum { MOST_NODES = 64 }; /* looked at; a Softmax in front of more is no tail */

static bool is_act(const ckpt_node *node, ckpt_act act) {
    return node->op == CKPT_OP_ACT && node->attr.act.act == act && node->attr.act.drop == 0;
}

static const ckpt_node *maker_of(const ckpt_graph *graph, int tensor) {
    const int producer = graph->tensor[tensor].producer;
    return producer < 0 ? NULL : &graph->node[producer];
}

/* The one number that a tensor of the file is, if it is known. */
static bool is_number(const ckpt_graph *graph, int tensor, double *number) {
    const ckpt_tensor *t = &graph->tensor[tensor];
    if (t->producer >= 0 || t->count != 1 || t->dtype != CKPT_F32 || !t->data) return false;
    *number = (double)*(const float *)t->data;
    return true;
}

/* y = scale * x + shift, as an ACT or as arithmetic with a number: the input that is x, or -1. */
static int affine(const ckpt_graph *graph, const ckpt_node *node, double *scale, double *shift) {
    double number;
    *scale = 1, *shift = 0;
    if (is_act(node, CKPT_ACT_NEG)) return *scale = -1, node->in[0];
    if (is_act(node, CKPT_ACT_SCALE)) {
        *scale = (double)node->attr.act.alpha, *shift = (double)node->attr.act.beta;
        return node->in[0];
    }
    if (node->op != CKPT_OP_BINARY) return -1; /* a number may be trained, from what it is now */
    const int side = is_number(graph, node->in[1], &number) ? 1 : is_number(graph, node->in[0], &number) ? 0 : -1;
    if (side < 0) return -1;
    switch (node->attr.binary.kind) {
    case CKPT_BINARY_ADD:
        *shift = number;
        break;
    case CKPT_BINARY_SUB:
        *scale = side ? 1 : -1, *shift = side ? -number : number;
        break;
    case CKPT_BINARY_MUL:
        *scale = number;
        break;
    case CKPT_BINARY_DIV:
        if (side == 0 || number == 0) return -1;
        *scale = 1 / number;
    }
    return node->in[1 - side];
}

/* A Concat of 1 - p and p: the tensor of p, or -1. */
static int pair_of(const ckpt_graph *graph, const ckpt_node *node) {
    double scale, shift;
    if (node->op != CKPT_OP_CONCAT || node->in_count != 2) return -1;
    const int p = node->in[1];
    const ckpt_node *source = maker_of(graph, p), *rest = maker_of(graph, node->in[0]);
    if (!source || !rest || !is_act(source, CKPT_ACT_SIGMOID)) return -1;
    return affine(graph, rest, &scale, &shift) == p && scale == -1 && shift == 1 ? p : -1;
}

static bool is_probability(const ckpt_tail *tail) {
    return tail->end == CKPT_TAIL_SOFTMAX || tail->end == CKPT_TAIL_SIGMOID || tail->end == CKPT_TAIL_PAIR ||
           tail->end == CKPT_TAIL_PROBABILITIES || tail->end == CKPT_TAIL_CHANCES || tail->end == CKPT_TAIL_EDGES;
}

static bool from_sigmoid(const ckpt_tail *tail) {
    return tail->end == CKPT_TAIL_SIGMOID || tail->end == CKPT_TAIL_CHANCES || tail->end == CKPT_TAIL_EDGES;
}

/* Values between 0 and 1 after a node that moves their bounds to least and most. */
static ckpt_tail bounded(const ckpt_tail *before, int node, double least, double most, bool positive) {
    ckpt_tail tail = *before;
    const bool inside = least >= 0 && most <= 1 && least <= most, apart = (float)least > 0 && (float)most < 1;
    tail.end = !inside                 ? from_sigmoid(before) ? CKPT_TAIL_FUNCTION : CKPT_TAIL_CHANGED
               : !from_sigmoid(before) ? CKPT_TAIL_PROBABILITIES
               : apart                 ? CKPT_TAIL_CHANCES
                                       : CKPT_TAIL_EDGES;
    tail.spanned = false;
    tail.node = node;
    tail.least = least, tail.most = most;
    tail.positive = positive && least >= 0;
    return tail;
}

static ckpt_tail after_scale(const ckpt_tail *x, int node, double scale, double shift) {
    const double a = scale * x->least + shift, b = scale * x->most + shift;
    /* The bounds of a Softmax are not reached, and so neither are theirs. */
    return bounded(x, node, a < b ? a : b, a < b ? b : a, x->positive || (scale < 0 && x->most <= 1));
}

static ckpt_tail after_clip(const ckpt_tail *x, int node, double low, double high) {
    const double least = x->least > low ? x->least : low, most = x->most < high ? x->most : high;
    return bounded(x, node, least, most, least > 0 || x->positive);
}

static ckpt_tail find(const ckpt_graph *graph, int tensor, int *left);

/* The sum or product of two tensors. With one of the file, as a prior of the classes, it is a Softmax that is changed. */
static ckpt_tail with_weight(const ckpt_graph *graph, int producer, int *left) {
    const ckpt_node *node = &graph->node[producer];
    const ckpt_tail linear = {.end = CKPT_TAIL_LINEAR, .node = producer, .pair = -1};
    const bool first = ckpt_tensor_is_step(graph, node->in[0]), second = ckpt_tensor_is_step(graph, node->in[1]);
    if (first == second) return linear;
    ckpt_tail before = find(graph, node->in[first ? 0 : 1], left);
    if (!is_probability(&before) || from_sigmoid(&before)) return before.end == CKPT_TAIL_CHANGED ? before : linear;
    before.end = CKPT_TAIL_CHANGED;
    before.spanned = false;
    before.node = producer;
    return before;
}

/* What an element function of one tensor makes of the tail before it. */
static ckpt_tail after_function(const ckpt_graph *graph, int producer, int *left) {
    const ckpt_node *node = &graph->node[producer];
    ckpt_tail plain = {.end = CKPT_TAIL_FUNCTION, .node = producer, .pair = -1};
    double scale, shift;
    const int x = affine(graph, node, &scale, &shift);
    if (node->op == CKPT_OP_BINARY && x < 0) plain.end = CKPT_TAIL_LINEAR;
    if (x >= 0) plain.end = CKPT_TAIL_LINEAR; /* still as linear as it was */
    if (is_act(node, CKPT_ACT_SIGMOID))
        return (ckpt_tail){.end = CKPT_TAIL_SIGMOID, .least = 0, .most = 1, .positive = true, .node = producer, .pair = -1};
    if (node->op == CKPT_OP_BINARY && x < 0) return with_weight(graph, producer, left);
    const ckpt_tail before = find(graph, x >= 0 ? x : node->in[0], left);
    if (before.end == CKPT_TAIL_CHANGED) return before;
    if (x >= 0 && before.end == CKPT_TAIL_FUNCTION) return before;
    if (!is_probability(&before)) return plain;
    if (x >= 0) return after_scale(&before, producer, scale, shift);
    if (is_act(node, CKPT_ACT_CLIP))
        return after_clip(&before, producer, (double)node->attr.act.alpha, (double)node->attr.act.beta);
    if (is_act(node, CKPT_ACT_LOG) && !from_sigmoid(&before)) {
        ckpt_tail log = before;
        log.end = before.end == CKPT_TAIL_SOFTMAX ? CKPT_TAIL_LOGSOFTMAX : CKPT_TAIL_LOG;
        return log;
    }
    if (!from_sigmoid(&before)) plain.end = CKPT_TAIL_CHANGED;
    return plain;
}

/* Some of the values, or those of several tails. */
static ckpt_tail after_choice(const ckpt_graph *graph, int producer, int *left) {
    const ckpt_node *node = &graph->node[producer];
    const ckpt_tail other = {.end = CKPT_TAIL_OTHER, .node = producer, .pair = -1};
    const int pair = pair_of(graph, node);
    if (pair >= 0) return (ckpt_tail){.end = CKPT_TAIL_PAIR, .most = 1, .positive = true, .node = producer, .pair = pair};
    ckpt_tail tail = find(graph, node->in[0], left);
    for (int i = 1; i < node->in_count && node->op == CKPT_OP_CONCAT; i++)
        if (find(graph, node->in[i], left).end != tail.end) return other;
    return is_probability(&tail) ? bounded(&tail, producer, tail.least, tail.most, tail.positive) : other;
}

static ckpt_tail after_transpose(const ckpt_graph *graph, const ckpt_node *node, int *left) {
    ckpt_tail tail = find(graph, node->in[0], left);
    if (tail.spanned) tail.spanned = ckpt_span_transpose(&node->attr.transpose, &tail.span);
    if (tail.end == CKPT_TAIL_PAIR) tail = bounded(&tail, tail.node, 0, 1, true); /* no longer the pair's shape */
    return tail;
}

static ckpt_tail find(const ckpt_graph *graph, int tensor, int *left) {
    const int producer = graph->tensor[tensor].producer;
    ckpt_tail tail = {.end = CKPT_TAIL_OTHER, .node = producer, .pair = -1};
    if (producer < 0 || *left == 0) return tail;
    const ckpt_node *node = &graph->node[producer];
    --*left;
    switch (node->op) {
    case CKPT_OP_SOFTMAX:
    case CKPT_OP_LOGSOFTMAX:
        tail.end = node->op == CKPT_OP_SOFTMAX ? CKPT_TAIL_SOFTMAX : CKPT_TAIL_LOGSOFTMAX;
        tail.spanned = true;
        tail.span = (ckpt_span){.outer = node->attr.axis.outer, .size = node->attr.axis.axis, .inner = node->attr.axis.inner};
        tail.most = 1, tail.positive = true;
        return tail;
    case CKPT_OP_ACT:
    case CKPT_OP_BINARY:
        return after_function(graph, producer, left);
    case CKPT_OP_SLICE:
    case CKPT_OP_CONCAT:
        return after_choice(graph, producer, left);
    case CKPT_OP_TRANSPOSE:
        return after_transpose(graph, node, left);
    case CKPT_OP_LINEAR:
    case CKPT_OP_MATMUL:
    case CKPT_OP_CONV:
        tail.end = CKPT_TAIL_LINEAR;
        return tail;
    default:
        return tail;
    }
}

ckpt_tail ckpt_tail_find(const ckpt_graph *graph, int tensor) {
    int left = MOST_NODES;
    return find(graph, tensor, &left);
}

ckpt_status ckpt_tail_undo(ckpt_graph *graph, int tensor, int *before, ckpt_error *err) {
    ckpt_transpose_attr moved[MOST_NODES];
    int count = 0;
    const ckpt_node *node = maker_of(graph, tensor);
    for (; node->op == CKPT_OP_TRANSPOSE || is_act(node, CKPT_ACT_LOG); node = maker_of(graph, node->in[0]))
        if (node->op == CKPT_OP_TRANSPOSE) moved[count++] = node->attr.transpose;
    *before = node->in[0];
    while (count-- > 0) { /* the last one found is the first one done */
        ckpt_view x = {.tensor = *before, .rank = moved[count].rank}, y;
        memcpy(x.dim, moved[count].dim, sizeof x.dim);
        CKPT_TRY(ckpt_build_transpose(graph, NULL, &x, moved[count].perm, &y, err));
        *before = y.tensor;
    }
    return CKPT_OK;
}
