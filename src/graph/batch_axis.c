/* Element i of a tensor belongs to sample (i / stride) % batch: the batch is one axis of some shape of it, `stride`
 * elements apart. Tensors are dense, so views change nothing, and one number a tensor is all there is to know.
 *
 * A node is a loop nest over axes. Those that it takes from an input to its output, one to one and whole, are listed by
 * the op's rule: of `dim` steps, which are `in` elements of the input and `out` of the output. The batch passes through
 * when it lies inside one of them. An axis that is summed, cut or normalized over is not listed; neither is any axis of
 * an op without a rule. So what is not known to keep samples apart counts as mixing them. */
#include "graph/batch_axis.h"

#include "graph/op.h"

enum { NONE = -1 }; /* the stride of a tensor that is the same for all samples */

typedef struct axis {
    int64_t dim, in, out;
} axis;

enum { MOST_AXES = CKPT_MAX_RANK + 1 };

/* The axes that pass from input `i` to output 0; returns how many. */
typedef int (*axes_rule)(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a);

static int64_t count_of(const ckpt_graph *graph, int tensor) { return graph->tensor[tensor].count; }

/* --- rules ------------------------------------------------------------------------------------------- */

static int element(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    a[0] = (axis){count_of(graph, node->in[i]), 1, 1};
    return 1;
}

/* Only input 0 has samples. */
static int first_element(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    return i == 0 ? element(graph, node, i, a) : 0;
}

static int nothing(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    (void)graph, (void)node, (void)i, (void)a;
    return 0;
}

/* Strides of the operand; the output is dense. */
static int broadcast_axes(int rank, const int64_t *dim, const int64_t *stride, int64_t in_unit, int64_t out_unit, axis *a) {
    int count = 0;
    for (int k = rank - 1; k >= 0; k--, out_unit *= dim[k + 1])
        if (stride[k]) a[count++] = (axis){dim[k], stride[k] * in_unit, out_unit};
    return count;
}

static int geometry(const ckpt_binary_attr *g, int i, axis *a) {
    return broadcast_axes(g->rank, g->dim, i == 0 ? g->stride_a : g->stride_b, 1, 1, a);
}

static int binary(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    (void)graph;
    return geometry(&node->attr.binary, i, a);
}

static int pair(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    (void)graph;
    return geometry(&node->attr.pair.geometry, i, a);
}

static int compare(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    (void)graph;
    return geometry(&node->attr.compare.geometry, i, a);
}

static int select_axes(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    (void)graph;
    return broadcast_axes(node->attr.select.rank, node->attr.select.dim, node->attr.select.stride[i], 1, 1, a);
}

static int linear(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    const ckpt_linear_attr *l = &node->attr.linear;
    (void)graph;
    a[0] = (axis){l->rows, l->in_features, l->out_features};
    return i == 0;
}

/* Rows of a and columns of b; what is summed over is not listed. */
static int matmul(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    const ckpt_matmul_attr *m = &node->attr.matmul;
    (void)graph;
    if (i == 0) a[0] = (axis){m->m, m->trans_a ? 1 : m->k, m->n};
    else a[0] = (axis){m->n, m->trans_b ? m->k : 1, 1};
    return 1 + broadcast_axes(m->batch_rank, m->batch_dim, i == 0 ? m->stride_a : m->stride_b, i == 0 ? m->m * m->k : m->k * m->n,
                              m->m * m->n, a + 1);
}

/* Rows of input 0; each is normalized by itself. */
static int rows(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    (void)graph;
    a[0] = (axis){node->attr.norm.rows, node->attr.norm.cols, node->attr.norm.cols};
    return i == 0;
}

static int softmax(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    const int64_t outer = node->attr.axis.outer, across = node->attr.axis.axis * node->attr.axis.inner;
    (void)graph, (void)i;
    a[0] = (axis){outer, across, across};
    a[1] = (axis){node->attr.axis.inner, 1, 1};
    return 2;
}

static int concat(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    const int64_t outer = node->attr.axis.outer, inner = node->attr.axis.inner;
    a[0] = (axis){outer, outer ? count_of(graph, node->in[i]) / outer : 0, node->attr.axis.axis * inner};
    a[1] = (axis){inner, 1, 1};
    return 2;
}

static int gather(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    const int64_t inner = node->attr.gather.inner, picks = node->attr.gather.picks;
    (void)graph;
    a[0] = i == 0 ? (axis){node->attr.gather.outer, node->attr.gather.axis * inner, picks * inner} : (axis){picks, 1, inner};
    a[1] = (axis){inner, 1, 1};
    return i == 0 ? 2 : 1;
}

/* The axes that are as long in `to` as in `from` and, with `slice`, taken from the first value on. */
static int equal_axes(int rank, const int64_t *from, const int64_t *to, const ckpt_slice_attr *slice, axis *a) {
    int64_t in = 1, out = 1;
    int count = 0;
    for (int k = rank - 1; k >= 0; k--) {
        if (from[k] == to[k] && (!slice || (slice->start[k] == 0 && slice->step[k] == 1))) a[count++] = (axis){from[k], in, out};
        in *= from[k];
        out *= to[k];
    }
    return count;
}

static int resize(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    (void)graph, (void)i;
    return equal_axes(node->attr.resize.rank, node->attr.resize.from, node->attr.resize.to, NULL, a);
}

static int slice(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    const ckpt_slice_attr *s = &node->attr.slice;
    (void)graph, (void)i;
    return equal_axes(s->rank, s->whole, s->part, s, a);
}

static int place(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    const ckpt_slice_attr *s = &node->attr.slice;
    (void)graph;
    return i == 0 ? equal_axes(s->rank, s->part, s->whole, s, a) : 0;
}

static int transpose(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    const ckpt_transpose_attr *t = &node->attr.transpose;
    int64_t in[CKPT_MAX_RANK], run = 1;
    (void)graph, (void)i;
    for (int k = t->rank - 1; k >= 0; k--, run *= t->dim[k + 1]) in[k] = run;
    run = 1;
    for (int k = t->rank - 1; k >= 0; k--, run *= t->dim[t->perm[k + 1]]) a[k] = (axis){t->dim[t->perm[k]], in[t->perm[k]], run};
    return t->rank;
}

/* From all of `dim` to what is kept, or back. */
static int reduce(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    const ckpt_reduce_attr *r = &node->attr.reduce;
    int64_t whole = 1, kept = 1;
    int count = 0;
    (void)graph, (void)i;
    for (int k = r->rank - 1; k >= 0; k--) {
        if (r->keep >> k & 1) {
            a[count++] = node->op == CKPT_OP_EXPAND ? (axis){r->dim[k], kept, whole} : (axis){r->dim[k], whole, kept};
            kept *= r->dim[k];
        }
        whole *= r->dim[k];
    }
    return count;
}

/* `samples` at the front of every operand. */
static int leading(const ckpt_graph *graph, const ckpt_node *node, int i, int64_t samples, axis *a) {
    const int64_t in = count_of(graph, node->in[i]), out = count_of(graph, node->out[0]);
    if (samples < 1 || in % samples || out % samples) return 0;
    a[0] = (axis){samples, in / samples, out / samples};
    return 1;
}

static int window(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    return i == 0 ? leading(graph, node, i, node->attr.window.batch, a) : 0;
}

static int groupnorm(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    return i == 0 ? leading(graph, node, i, node->attr.group.batch, a) : 0;
}

static int lrn(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    return leading(graph, node, i, node->attr.lrn.batch, a);
}

static int attention(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
    return leading(graph, node, i, node->attr.attention.batch, a);
}

static int triangle(const ckpt_graph *graph, const ckpt_node *node, int i, axis *a) {
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

/* --- the walk ---------------------------------------------------------------------------------------- */

/* Where the batch comes to lie that has this stride in the input, or NONE where it is in no axis whole. */
static int64_t moved(int64_t stride, int64_t batch, const axis *a, int count) {
    for (int k = 0; k < count; k++)
        if (a[k].in > 0 && stride >= a[k].in && stride % a[k].in == 0 && (a[k].in * a[k].dim) % (stride * batch) == 0)
            return stride / a[k].in * a[k].out;
    return NONE;
}

/* The stride in the node's output 0; false: it mixes samples. */
static bool pass(const ckpt_graph *graph, const ckpt_node *node, const int64_t *stride, int64_t *out) {
    *out = NONE;
    for (int i = 0; i < node->in_count; i++) {
        axis a[MOST_AXES];
        if (node->in[i] < 0 || stride[node->in[i]] == NONE) continue;
        const int count = rules[node->op] ? rules[node->op](graph, node, i, a) : 0;
        const int64_t to = moved(stride[node->in[i]], graph->batch, a, count);
        if (to == NONE || (*out != NONE && to != *out)) return false;
        *out = to;
    }
    return true;
}

/* A loss is a sum over samples, of which the parts of a batch each add their own. summed: what the loss is of. */
static bool is_loss(const ckpt_node *node, int summed) {
    return node->op == CKPT_OP_LOSS || node->op == CKPT_OP_CLASS_LOSS ||
           (node->op == CKPT_OP_REDUCE_SUM && node->out[0] == summed);
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
    int summed = -1;
    if (!stride) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    for (int n = 0; n < graph->forward_count; n++)
        if (graph->node[n].op == CKPT_OP_LOSS) summed = graph->node[n].in[0];
    place_inputs(graph, stride);
    for (int n = 0; n < graph->node_count; n++) across[n] = false;
    for (int n = 0; n < graph->forward_count; n++) {
        const ckpt_node *node = &graph->node[n];
        int64_t first = NONE;
        if (!is_loss(node, summed)) across[n] = !pass(graph, node, stride, &first);
        if (node->out_count > 0 && node->out[0] >= 0) place_outputs(graph, node, across[n] ? NONE : first, stride);
    }
    ckpt_pool_free(&scratch);
    return CKPT_OK;
}
