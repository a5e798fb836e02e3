#include "graph/op_axes.h"

typedef int (*axes_rule)(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a);

static int64_t count_of(const ckpt_graph *graph, int tensor) { return graph->tensor[tensor].count; }

static int element(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    a[0] = (ckpt_op_axis){count_of(graph, node->in[i]), 1, 1};
    return 1;
}

/* Only input 0 has samples. */
static int first_element(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    return i == 0 ? element(graph, node, i, a) : 0;
}

static int nothing(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    (void)graph, (void)node, (void)i, (void)a;
    return 0;
}

/* Strides of the operand; the output is dense. */
static int broadcast_axes(int rank, const int64_t *dim, const int64_t *stride, int64_t in_unit, int64_t out_unit, ckpt_op_axis *a) {
    int count = 0;
    for (int k = rank - 1; k >= 0; k--, out_unit *= dim[k + 1])
        if (stride[k]) a[count++] = (ckpt_op_axis){dim[k], stride[k] * in_unit, out_unit};
    return count;
}

static int geometry(const ckpt_binary_attr *g, int i, ckpt_op_axis *a) {
    return broadcast_axes(g->rank, g->dim, i == 0 ? g->stride_a : g->stride_b, 1, 1, a);
}

static int binary(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    (void)graph;
    return geometry(&node->attr.binary, i, a);
}

static int pair(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    (void)graph;
    return geometry(&node->attr.pair.geometry, i, a);
}

static int compare(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    (void)graph;
    return geometry(&node->attr.compare.geometry, i, a);
}

static int select_axes(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    (void)graph;
    return broadcast_axes(node->attr.select.rank, node->attr.select.dim, node->attr.select.stride[i], 1, 1, a);
}

/* Rows of x, columns of w and b. */
static int linear(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    const ckpt_linear_attr *l = &node->attr.linear;
    (void)graph;
    if (i == 0) a[0] = (ckpt_op_axis){l->rows, l->in_features, l->out_features};
    else a[0] = (ckpt_op_axis){l->out_features, i == 1 && l->trans_w ? l->in_features : 1, 1};
    return 1;
}

/* Rows of a and columns of b; what is summed over is not listed. */
static int matmul(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    const ckpt_matmul_attr *m = &node->attr.matmul;
    (void)graph;
    if (i == 0) a[0] = (ckpt_op_axis){m->m, m->trans_a ? 1 : m->k, m->n};
    else a[0] = (ckpt_op_axis){m->n, m->trans_b ? m->k : 1, 1};
    return 1 + broadcast_axes(m->batch_rank, m->batch_dim, i == 0 ? m->stride_a : m->stride_b, i == 0 ? m->m * m->k : m->k * m->n,
                              m->m * m->n, a + 1);
}

/* Rows of input 0; each is normalized by itself. */
static int rows(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    (void)graph;
    a[0] = (ckpt_op_axis){node->attr.norm.rows, node->attr.norm.cols, node->attr.norm.cols};
    return i == 0;
}

static int softmax(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    const int64_t outer = node->attr.axis.outer, across = node->attr.axis.axis * node->attr.axis.inner;
    (void)graph, (void)i;
    a[0] = (ckpt_op_axis){outer, across, across};
    a[1] = (ckpt_op_axis){node->attr.axis.inner, 1, 1};
    return 2;
}

static int concat(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    const int64_t outer = node->attr.axis.outer, inner = node->attr.axis.inner;
    a[0] = (ckpt_op_axis){outer, outer ? count_of(graph, node->in[i]) / outer : 0, node->attr.axis.axis * inner};
    a[1] = (ckpt_op_axis){inner, 1, 1};
    return 2;
}

static int gather(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    const int64_t inner = node->attr.gather.inner, picks = node->attr.gather.picks;
    (void)graph;
    a[0] = i == 0 ? (ckpt_op_axis){node->attr.gather.outer, node->attr.gather.axis * inner, picks * inner} : (ckpt_op_axis){picks, 1, inner};
    a[1] = (ckpt_op_axis){inner, 1, 1};
    return i == 0 ? 2 : 1;
}

/* The axes that are as long in `to` as in `from` and, with `slice`, taken from the first value on. */
static int equal_axes(int rank, const int64_t *from, const int64_t *to, const ckpt_slice_attr *slice, ckpt_op_axis *a) {
    int64_t in = 1, out = 1;
    int count = 0;
    for (int k = rank - 1; k >= 0; k--) {
        if (from[k] == to[k] && (!slice || (slice->start[k] == 0 && slice->step[k] == 1))) a[count++] = (ckpt_op_axis){from[k], in, out};
        in *= from[k];
        out *= to[k];
    }
    return count;
}

static int resize(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    (void)graph, (void)i;
    return equal_axes(node->attr.resize.rank, node->attr.resize.from, node->attr.resize.to, NULL, a);
}

static int slice(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    const ckpt_slice_attr *s = &node->attr.slice;
    (void)graph, (void)i;
    return equal_axes(s->rank, s->whole, s->part, s, a);
}

static int place(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    const ckpt_slice_attr *s = &node->attr.slice;
    (void)graph;
    return i == 0 ? equal_axes(s->rank, s->part, s->whole, s, a) : 0;
}

static int transpose(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    const ckpt_transpose_attr *t = &node->attr.transpose;
    int64_t in[CKPT_MAX_RANK], run = 1;
    (void)graph, (void)i;
    for (int k = t->rank - 1; k >= 0; k--, run *= t->dim[k + 1]) in[k] = run;
    run = 1;
    for (int k = t->rank - 1; k >= 0; k--, run *= t->dim[t->perm[k + 1]]) a[k] = (ckpt_op_axis){t->dim[t->perm[k]], in[t->perm[k]], run};
    return t->rank;
}

/* From all of `dim` to what is kept, or back. */
static int reduce(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    const ckpt_reduce_attr *r = &node->attr.reduce;
    int64_t whole = 1, kept = 1;
    int count = 0;
    (void)graph, (void)i;
    for (int k = r->rank - 1; k >= 0; k--) {
        if (r->keep >> k & 1) {
            a[count++] = node->op == CKPT_OP_EXPAND ? (ckpt_op_axis){r->dim[k], kept, whole} : (ckpt_op_axis){r->dim[k], whole, kept};
            kept *= r->dim[k];
        }
        whole *= r->dim[k];
    }
    return count;
}

/* `samples` at the front of every operand. */
static int leading(const ckpt_graph *graph, const ckpt_node *node, int i, int64_t samples, ckpt_op_axis *a) {
    const int64_t in = count_of(graph, node->in[i]), out = count_of(graph, node->out[0]);
    if (samples < 1 || in % samples || out % samples) return 0;
    a[0] = (ckpt_op_axis){samples, in / samples, out / samples};
    return 1;
}

static int window(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    return i == 0 ? leading(graph, node, i, node->attr.window.batch, a) : 0;
}

static int groupnorm(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    return i == 0 ? leading(graph, node, i, node->attr.group.batch, a) : 0;
}

static int lrn(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    return leading(graph, node, i, node->attr.lrn.batch, a);
}

static int attention(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    return leading(graph, node, i, node->attr.attention.batch, a);
}

static int triangle(const ckpt_graph *graph, const ckpt_node *node, int i, ckpt_op_axis *a) {
    return leading(graph, node, i, node->attr.triangle.outer, a);
}

static const axes_rule rules[CKPT_OP_COUNT] = {
    [CKPT_OP_LINEAR] = linear, [CKPT_OP_MATMUL] = matmul, [CKPT_OP_BINARY] = binary, [CKPT_OP_PAIR] = pair,
    [CKPT_OP_ACT] = element, [CKPT_OP_KEEP_MASK] = nothing, [CKPT_OP_LAYERNORM] = rows, [CKPT_OP_RMSNORM] = rows,
    [CKPT_OP_SOFTMAX] = softmax, [CKPT_OP_LOGSOFTMAX] = softmax, [CKPT_OP_TRANSPOSE] = transpose, [CKPT_OP_REDUCE_SUM] = reduce,
    [CKPT_OP_REDUCE_MAX] = reduce, [CKPT_OP_EXPAND] = reduce, [CKPT_OP_CAST] = element, [CKPT_OP_CONV] = window,
    [CKPT_OP_CONV_TRANSPOSE] = window, [CKPT_OP_MAXPOOL] = window, [CKPT_OP_AVGPOOL] = window, [CKPT_OP_BATCH_STATS] = nothing,
    [CKPT_OP_STORED_STATS] = nothing, [CKPT_OP_STATS_UPDATE] = nothing, [CKPT_OP_BATCHNORM] = first_element,
    [CKPT_OP_GROUPNORM] = groupnorm, [CKPT_OP_LRN] = lrn, [CKPT_OP_CONCAT] = concat, [CKPT_OP_SLICE] = slice,
    [CKPT_OP_PLACE] = place, [CKPT_OP_GATHER] = gather, [CKPT_OP_SELECT] = select_axes, [CKPT_OP_COMPARE] = compare,
    [CKPT_OP_RESIZE] = resize, [CKPT_OP_TRIANGLE] = triangle, [CKPT_OP_ATTENTION] = attention};

int ckpt_op_axes(const ckpt_graph *graph, const ckpt_node *node, int input, ckpt_op_axis axis[CKPT_MOST_OP_AXES]) {
    return rules[node->op] ? rules[node->op](graph, node, input, axis) : 0;
}

/* From one side's unit to the other's; 0: not inside the axis. */
static int64_t pass(int64_t dim, int64_t from, int64_t to, int64_t size, int64_t stride) {
    const bool inside = from > 0 && stride >= from && stride % from == 0 && (from * dim) % (stride * size) == 0;
    return inside ? stride / from * to : 0;
}

int64_t ckpt_op_axes_pass(const ckpt_op_axis *axis, int count, int64_t size, int64_t stride) {
    int64_t to = 0;
    for (int k = 0; k < count && !to; k++) to = pass(axis[k].dim, axis[k].in, axis[k].out, size, stride);
    return to;
}

int64_t ckpt_op_axes_back(const ckpt_op_axis *axis, int count, int64_t size, int64_t stride) {
    int64_t to = 0;
    for (int k = 0; k < count && !to; k++) to = pass(axis[k].dim, axis[k].out, axis[k].in, size, stride);
    return to;
}
