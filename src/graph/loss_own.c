#include "graph/loss_own.h"

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

static ckpt_over_batch over_batch(const ckpt_graph *graph, int tensor, int *left);

/* The sum over the batch itself. What is left of more than one number has lost the batch all the same: its first axis. */
static ckpt_over_batch of_reduction(const ckpt_graph *graph, const ckpt_node *node, int *left) {
    const ckpt_reduce_attr *r = &node->attr.reduce;
    int64_t summed = 1;
    for (int i = 0; i < r->rank; i++)
        if (!(r->keep >> i & 1)) summed *= r->dim[i];
    const bool with_batch = graph->tensor[node->in[0]].count % graph->batch == 0 && r->rank > 0 && !(r->keep & 1) &&
                            r->dim[0] % graph->batch == 0 && graph->tensor[node->in[0]].count > 1;
    if (!with_batch) return over_batch(graph, node->in[0], left);
    if (r->alpha == 1) return CKPT_OVER_BATCH_SUM;
    const float mean = 1 / (float)summed;
    return r->alpha == mean ? CKPT_OVER_BATCH_MEAN : CKPT_OVER_BATCH_OTHER;
}

static ckpt_over_batch both(ckpt_over_batch a, ckpt_over_batch b) {
    if (a == b) return a;
    if (a == CKPT_OVER_BATCH_NONE && b == CKPT_OVER_BATCH_MEAN) return b; /* a penalty counts once in the mean of parts */
    if (b == CKPT_OVER_BATCH_NONE && a == CKPT_OVER_BATCH_MEAN) return a;
    return CKPT_OVER_BATCH_OTHER;
}

static ckpt_over_batch of_binary(const ckpt_graph *graph, const ckpt_node *node, int *left) {
    const ckpt_over_batch a = over_batch(graph, node->in[0], left), b = over_batch(graph, node->in[1], left);
    const bool sum = node->attr.binary.kind == CKPT_BINARY_ADD || node->attr.binary.kind == CKPT_BINARY_SUB;
    if (sum || (a == CKPT_OVER_BATCH_NONE && b == CKPT_OVER_BATCH_NONE)) return both(a, b);
    if (b == CKPT_OVER_BATCH_NONE) return a; /* times or by a number */
    return node->attr.binary.kind == CKPT_BINARY_MUL && a == CKPT_OVER_BATCH_NONE ? b : CKPT_OVER_BATCH_OTHER;
}

static ckpt_over_batch over_batch(const ckpt_graph *graph, int tensor, int *left) {
    const ckpt_tensor *t = &graph->tensor[tensor];
    if (t->producer < 0) return t->role == CKPT_ROLE_INPUT ? CKPT_OVER_BATCH_OTHER : CKPT_OVER_BATCH_NONE;
    if (*left == 0) return CKPT_OVER_BATCH_OTHER;
    --*left;
    const ckpt_node *node = &graph->node[t->producer];
    ckpt_over_batch of_input;
    switch (node->op) {
    case CKPT_OP_REDUCE_SUM:
        return of_reduction(graph, node, left);
    case CKPT_OP_BINARY:
        return of_binary(graph, node, left);
    case CKPT_OP_CAST:
    case CKPT_OP_EXPAND:
    case CKPT_OP_TRANSPOSE:
        return over_batch(graph, node->in[0], left);
    case CKPT_OP_ACT:
        of_input = over_batch(graph, node->in[0], left);
        if (node->attr.act.act == CKPT_ACT_NEG || of_input == CKPT_OVER_BATCH_NONE) return of_input;
        if (node->attr.act.act != CKPT_ACT_SCALE) return CKPT_OVER_BATCH_OTHER;
        return node->attr.act.beta == 0 ? of_input : both(of_input, CKPT_OVER_BATCH_NONE);
    default:
        for (int i = 0; i < node->in_count; i++)
            if (node->in[i] >= 0 && over_batch(graph, node->in[i], left) != CKPT_OVER_BATCH_NONE) return CKPT_OVER_BATCH_OTHER;
        return CKPT_OVER_BATCH_NONE;
    }
}

ckpt_over_batch ckpt_own_loss_over_batch(const ckpt_graph *graph, int loss) {
    int left = MOST_NODES;
    return over_batch(graph, loss, &left);
}
