#include "graph/loss_own.h"

#include <math.h>

#include "graph/op.h"

enum { MOST_NODES = 256 }; /* behind the sum over the batch; a loss of more is OTHER */

static bool is_of_file(const ckpt_graph *graph, int tensor) {
    const ckpt_role role = graph->tensor[tensor].role;
    return role == CKPT_ROLE_PARAM || role == CKPT_ROLE_CONST;
}

/* A product, or a table that is read: what a model does with its inputs. */
static bool is_layer(const ckpt_graph *graph, const ckpt_node *node) {
    const bool product = ckpt_op_info(node->op)->flags & CKPT_MATMUL || node->op == CKPT_OP_GATHER;
    for (int i = 0; i < node->in_count && product; i++)
        if (node->in[i] >= 0 && is_of_file(graph, node->in[i])) return true;
    return false;
}

/* Whether what is made of the input reaches the loss, and no layer. made: scratch, by tensor. */
static bool is_label_of(const ckpt_graph *graph, int input, int loss, bool *made) {
    for (int t = 0; t < graph->tensor_count; t++) made[t] = t == input;
    for (int n = 0; n < graph->node_count; n++) {
        const ckpt_node *node = &graph->node[n];
        bool reads = false;
        for (int i = 0; i < node->in_count; i++) reads = reads || (node->in[i] >= 0 && made[node->in[i]]);
        if (reads && is_layer(graph, node)) return false;
        for (int i = 0; reads && i < node->out_count; i++)
            if (node->out[i] >= 0) made[node->out[i]] = true;
    }
    return made[loss];
}

int ckpt_own_loss_labels(const ckpt_graph *graph, int loss, bool *is_label, ckpt_error *err) {
    ckpt_pool scratch = {0};
    int count = 0;
    bool *made = ckpt_pool_array(&scratch, graph->tensor_count, bool);
    if (!made) return ckpt_fail(err, CKPT_NOMEM, "out of host memory"), -1;
    for (int i = 0; i < graph->input_count; i++) {
        const bool label = is_label_of(graph, graph->input[i], loss, made);
        if (is_label) is_label[i] = label;
        count += label;
    }
    ckpt_pool_free(&scratch);
    if (count < graph->input_count) return count;
    for (int i = 0; i < graph->input_count && is_label; i++) is_label[i] = false; /* something has to go through the model */
    return 0;
}

/* By tensor: whether it is made of an input whose entry in is_label is `label`. */
static void find_made(const ckpt_graph *graph, const bool *is_label, bool label, bool *made) {
    for (int i = 0; i < graph->input_count; i++) made[graph->input[i]] = is_label[i] == label;
    for (int n = 0; n < graph->node_count; n++) {
        const ckpt_node *node = &graph->node[n];
        bool reads = false;
        for (int i = 0; i < node->in_count; i++) reads = reads || (node->in[i] >= 0 && made[node->in[i]]);
        for (int i = 0; reads && i < node->out_count; i++)
            if (node->out[i] >= 0) made[node->out[i]] = true;
    }
}

ckpt_status ckpt_own_loss_constants(const ckpt_graph *graph, const bool *is_label, bool *constant, ckpt_error *err) {
    ckpt_pool scratch = {0};
    bool *of_label = ckpt_pool_array(&scratch, graph->tensor_count, bool),
         *of_data = ckpt_pool_array(&scratch, graph->tensor_count, bool);
    /* Tensors that go into the model: data without labels, and what is computed for it, as a normalized weight. */
    bool *model = ckpt_pool_array(&scratch, graph->tensor_count, bool);
    if (!of_label || !of_data || !model) {
        ckpt_pool_free(&scratch);
        return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    }
    find_made(graph, is_label, true, of_label);
    find_made(graph, is_label, false, of_data);
    for (int n = graph->node_count - 1; n >= 0; n--) {
        const ckpt_node *node = &graph->node[n];
        bool of_model = false;
        for (int i = 0; i < node->out_count; i++)
            of_model =
                of_model || (node->out[i] >= 0 && (model[node->out[i]] || (of_data[node->out[i]] && !of_label[node->out[i]])));
        for (int i = 0; i < node->in_count && of_model; i++)
            if (node->in[i] >= 0) model[node->in[i]] = true;
    }
    for (int t = 0; t < graph->tensor_count; t++) constant[t] = is_of_file(graph, t) && !model[t];
    ckpt_pool_free(&scratch);
    return CKPT_OK;
}

/* What a tensor behind the sum over the batch is made of. */
typedef struct form {
    enum { SAME, SUM, OTHER } kind; /* the same for any batch; a sum over the samples, or several; neither */
    double least, most;             /* SUM: of what the sums are multiplied by, without signs */
    bool penalty;                   /* SUM: and something that is the same for any batch is added */
} form;

static const form same = {.kind = SAME}, other = {.kind = OTHER};

static form form_of(const ckpt_graph *graph, int tensor, int *left);

static form times(form f, double factor) {
    f.least *= fabs(factor);
    f.most *= fabs(factor);
    return f;
}

static form plus(form a, form b) {
    if (a.kind == OTHER || b.kind == OTHER) return other;
    if (a.kind == SAME && b.kind == SAME) return same;
    form both = a.kind == SUM ? a : b;
    if (a.kind != b.kind) both.penalty = true;
    else both = (form){SUM, fmin(a.least, b.least), fmax(a.most, b.most), a.penalty || b.penalty};
    return both;
}

/* A number that is known; of others it is only known that they are the same for any batch. */
static double number_in(const ckpt_graph *graph, int tensor) {
    const ckpt_tensor *t = &graph->tensor[tensor];
    return t->role == CKPT_ROLE_CONST && t->dtype == CKPT_F32 && t->count == 1 && t->data ? (double)*(const float *)t->data : 1;
}

/* The sum over the batch itself, or of numbers that come after it. */
static form of_reduction(const ckpt_graph *graph, const ckpt_node *node, int *left) {
    const ckpt_reduce_attr *r = &node->attr.reduce;
    bool with_batch = false;
    for (int i = 0; i < r->rank; i++) with_batch = with_batch || (!(r->keep >> i & 1) && r->dim[i] % graph->batch == 0);
    if (with_batch) return times((form){.kind = SUM, .least = 1, .most = 1}, (double)r->alpha);
    return times(form_of(graph, node->in[0], left), (double)r->alpha);
}

static form of_binary(const ckpt_graph *graph, const ckpt_node *node, int *left) {
    const form a = form_of(graph, node->in[0], left), b = form_of(graph, node->in[1], left);
    if (node->attr.binary.kind == CKPT_BINARY_ADD || node->attr.binary.kind == CKPT_BINARY_SUB) return plus(a, b);
    if (a.kind == SAME && b.kind == SAME) return same;
    const double of_a = number_in(graph, node->in[0]), of_b = number_in(graph, node->in[1]);
    if (node->attr.binary.kind == CKPT_BINARY_MUL) return b.kind == SAME ? times(a, of_b) : a.kind == SAME ? times(b, of_a) : other;
    return b.kind == SAME && of_b != 0 ? times(a, 1 / of_b) : other;
}

static form of_function(const ckpt_graph *graph, const ckpt_node *node, int *left) {
    const form x = form_of(graph, node->in[0], left);
    if (node->attr.act.act == CKPT_ACT_NEG || x.kind == SAME) return x;
    if (node->attr.act.act != CKPT_ACT_SCALE) return other;
    return node->attr.act.beta == 0 ? times(x, (double)node->attr.act.alpha) : plus(times(x, (double)node->attr.act.alpha), same);
}

static form form_of(const ckpt_graph *graph, int tensor, int *left) {
    const ckpt_tensor *t = &graph->tensor[tensor];
    if (t->producer < 0) return t->role == CKPT_ROLE_INPUT ? other : same;
    if (*left == 0) return other;
    --*left;
    const ckpt_node *node = &graph->node[t->producer];
    switch (node->op) {
    case CKPT_OP_REDUCE_SUM:
        return of_reduction(graph, node, left);
    case CKPT_OP_BINARY:
        return of_binary(graph, node, left);
    case CKPT_OP_ACT:
        return of_function(graph, node, left);
    case CKPT_OP_CAST:
    case CKPT_OP_EXPAND:
    case CKPT_OP_TRANSPOSE:
        return form_of(graph, node->in[0], left);
    default:
        for (int i = 0; i < node->in_count; i++)
            if (node->in[i] >= 0 && form_of(graph, node->in[i], left).kind != SAME) return other;
        return same;
    }
}

/* Whether what the sums are multiplied by is `ratio` times as much in b. */
static bool is_multiple(const form *a, const form *b, double ratio) {
    const double error = 1e-5; /* of numbers of 32 bits, computed a few times */
    return fabs(a->least * ratio - b->least) <= error * b->least && fabs(a->most * ratio - b->most) <= error * b->most;
}

ckpt_over_batch ckpt_own_loss_over_batch(const ckpt_graph *graph, int loss, const ckpt_graph *larger, int larger_loss) {
    int left = MOST_NODES, larger_left = MOST_NODES;
    const form a = form_of(graph, loss, &left), b = form_of(larger, larger_loss, &larger_left);
    if (a.kind == SAME && b.kind == SAME) return CKPT_OVER_BATCH_MEAN; /* the mean of equal parts */
    if (a.kind != SUM || b.kind != SUM) return CKPT_OVER_BATCH_OTHER;
    if (is_multiple(&a, &b, (double)graph->batch / (double)larger->batch)) return CKPT_OVER_BATCH_MEAN;
    return is_multiple(&a, &b, 1) && !a.penalty ? CKPT_OVER_BATCH_SUM : CKPT_OVER_BATCH_OTHER;
}
