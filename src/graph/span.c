#include "graph/span.h"

ckpt_span ckpt_span_of(const ckpt_view *view, int axis) {
    ckpt_span span = {.outer = 1, .size = view->dim[axis], .inner = 1};
    for (int i = 0; i < view->rank; i++)
        if (i != axis) *(i < axis ? &span.outer : &span.inner) *= view->dim[i];
    return span;
}

int ckpt_span_axis(const ckpt_span *span, const ckpt_view *view) {
    for (int i = 0; i < view->rank; i++) {
        const ckpt_span own = ckpt_span_of(view, i);
        if (own.outer == span->outer && own.size == span->size && own.inner == span->inner) return i;
    }
    return -1;
}

/* From a tensor of `from` dims to one of `to` dims, where axis i of the first is axis place[i] of the second, or gone (-1).
 * The span may be a part of an axis, as where axes have been merged: the rest of that axis stays around it. */
static bool move(int from_rank, const int64_t *from, int to_rank, const int64_t *to, const int *place, ckpt_span *span) {
    int64_t before = 1, behind = 1;
    for (int i = 0; i < from_rank; i++) behind *= from[i];
    for (int i = 0; i < from_rank; before *= from[i++]) {
        if (from[i] <= 0 || before <= 0) return false;
        behind /= from[i];
        if (span->outer % before || span->inner % behind) continue;
        const int64_t left = span->outer / before, right = span->inner / behind;
        if (left * span->size * right != from[i] || place[i] < 0) continue;
        *span = (ckpt_span){.outer = left, .size = span->size, .inner = right};
        for (int k = 0; k < to_rank; k++)
            if (k != place[i]) *(k < place[i] ? &span->outer : &span->inner) *= to[k];
        return true;
    }
    return false;
}

bool ckpt_span_transpose(const ckpt_transpose_attr *t, bool back, ckpt_span *span) {
    int64_t out[CKPT_MAX_RANK];
    int place[CKPT_MAX_RANK];
    for (int i = 0; i < t->rank; i++) {
        out[i] = t->dim[t->perm[i]];
        place[t->perm[i]] = i;
    }
    return back ? move(t->rank, out, t->rank, t->dim, t->perm, span) : move(t->rank, t->dim, t->rank, out, place, span);
}

static bool reduce_back(const ckpt_reduce_attr *r, ckpt_span *span) {
    int64_t kept[CKPT_MAX_RANK];
    int place[CKPT_MAX_RANK], count = 0;
    for (int i = 0; i < r->rank; i++)
        if (r->keep >> i & 1) {
            kept[count] = r->dim[i];
            place[count++] = i;
        }
    return move(count, kept, r->rank, r->dim, place, span);
}

static bool slice_back(const ckpt_slice_attr *s, ckpt_span *span) {
    int place[CKPT_MAX_RANK];
    for (int i = 0; i < s->rank; i++) place[i] = s->part[i] == s->whole[i] ? i : -1;
    return move(s->rank, s->part, s->rank, s->whole, place, span);
}

static bool concat_back(const ckpt_graph *graph, const ckpt_node *node, ckpt_span *span) {
    const int64_t outer = node->attr.axis.outer, inner = node->attr.axis.inner;
    if (outer <= 0 || inner <= 0) return false;
    const int64_t to[3] = {outer, graph->tensor[node->in[0]].count / (outer * inner), inner};
    const int64_t from[3] = {outer, node->attr.axis.axis, inner};
    const int place[3] = {0, -1, 2};
    return move(3, from, 3, to, place, span);
}

/* Rows of `from` values were made of rows of `to`. */
static bool rows_back(int64_t from, int64_t to, ckpt_span *span) {
    if (from <= 0 || span->inner % from) return false;
    span->inner = span->inner / from * to;
    return true;
}

/* Of two operands the one that is not broadcast and is made from the batch. */
static ckpt_span_way operand_back(const ckpt_graph *graph, const ckpt_node *node, int *in) {
    for (int i = 0; i < 2; i++) {
        const ckpt_tensor *t = &graph->tensor[ *in = node->in[i]];
        if (t->count == graph->tensor[node->out[0]].count && (t->producer >= 0 || t->role == CKPT_ROLE_INPUT))
            return CKPT_SPAN_FOUND;
    }
    return CKPT_SPAN_LOST;
}

static ckpt_span_way matmul_back(const ckpt_graph *graph, const ckpt_node *node, ckpt_span *span) {
    const ckpt_matmul_attr *a = &node->attr.matmul;
    if (a->trans_a || a->n <= 0 || a->k <= 0) return CKPT_SPAN_LOST;
    if (graph->tensor[node->in[0]].count / a->k != graph->tensor[node->out[0]].count / a->n)
        return CKPT_SPAN_LOST; /* broadcast */
    return rows_back(a->n, a->k, span) ? CKPT_SPAN_FOUND : CKPT_SPAN_LOST;
}

static ckpt_span_way whole(bool found) {
    return found ? CKPT_SPAN_FOUND : CKPT_SPAN_TORN;
}

ckpt_span_way ckpt_span_back(const ckpt_graph *graph, const ckpt_node *node, ckpt_span *span, int *in) {
    *in = node->in[0];
    switch (node->op) {
    case CKPT_OP_ACT:
    case CKPT_OP_CAST:
    case CKPT_OP_LAYERNORM:
    case CKPT_OP_RMSNORM:
    case CKPT_OP_SOFTMAX:
    case CKPT_OP_LOGSOFTMAX:
    case CKPT_OP_BATCHNORM:
    case CKPT_OP_GROUPNORM:
        return CKPT_SPAN_FOUND;
    case CKPT_OP_BINARY:
    case CKPT_OP_PAIR:
        return operand_back(graph, node, in);
    case CKPT_OP_LINEAR:
        return whole(rows_back(node->attr.linear.out_features, node->attr.linear.in_features, span));
    case CKPT_OP_MATMUL:
        return matmul_back(graph, node, span);
    case CKPT_OP_TRANSPOSE:
        return whole(ckpt_span_transpose(&node->attr.transpose, true, span));
    case CKPT_OP_REDUCE_SUM:
        return whole(reduce_back(&node->attr.reduce, span));
    case CKPT_OP_SLICE:
        return whole(slice_back(&node->attr.slice, span));
    case CKPT_OP_CONCAT:
        return whole(concat_back(graph, node, span));
    default:
        return CKPT_SPAN_LOST;
    }
}
