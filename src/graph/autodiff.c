#include "graph/autodiff.h"

#include <string.h>

#include "graph/op.h"
#include "graph/rewrite.h"

static const struct {
    const char *name;
    ckpt_op update;
    int states;
} optimizers[CKPT_OPTIMIZER_COUNT] = {
#define X(ID, id_name, op, id_states) {id_name, CKPT_OP_##op, id_states},
    CKPT_OPTIMIZER_LIST(X)
#undef X
};

bool ckpt_optimizer_parse(const char *name, ckpt_optimizer *optimizer) {
    for (int i = 0; i < CKPT_OPTIMIZER_COUNT; i++)
        if (strcmp(name, optimizers[i].name) == 0) {
            *optimizer = (ckpt_optimizer)i;
            return true;
        }
    return false;
}

const char *ckpt_optimizer_name(ckpt_optimizer optimizer) { return optimizers[optimizer].name; }

void ckpt_training_defaults(ckpt_training_options *options) {
    options->beta1 = 0.9f;
    options->beta2 = 0.999f;
    options->epsilon = options->optimizer == CKPT_OPTIMIZER_ADAGRAD ? 1e-10f : 1e-8f;
    options->momentum = 0.9f;
    options->weight_decay = options->optimizer == CKPT_OPTIMIZER_ADAMW ? 0.01f : 0;
}

int ckpt_gradient_tensor(ckpt_autodiff *ad, int like, ckpt_error *err) {
    const ckpt_tensor t = ad->graph->tensor[like];
    char name[256];
    size_t room = sizeof name - 3;
    memcpy(name, "d_", 2);
    size_t length = strnlen(t.name, room);
    memcpy(name + 2, t.name, length);
    name[2 + length] = 0;
    return ckpt_graph_add_tensor(ad->graph, name, t.dtype, CKPT_ROLE_STEP, t.rank, t.dim, err);
}

ckpt_status ckpt_gradient_node(ckpt_autodiff *ad, ckpt_op op, const ckpt_attr *attr, int in_count, const int *in,
                               int out, ckpt_error *err) {
    int node = ckpt_graph_add_node(ad->graph, op, CKPT_BACKWARD, ad->name, in_count, in, 1, &out, err);
    if (node < 0) return CKPT_NOMEM;
    ad->graph->node[node].attr = *attr;
    ad->graph->node[node].layer = ad->layer;
    return CKPT_OK;
}

bool ckpt_gradient_second_first(const ckpt_autodiff *ad, int a, int b) {
    return ad->graph->tensor[b].role == CKPT_ROLE_PARAM && ad->graph->tensor[a].role != CKPT_ROLE_PARAM;
}

static bool stands_still(int rank, const int64_t *stride) {
    for (int i = 0; i < rank; i++)
        if (stride[i] == 0) return true;
    return false;
}

static bool is_broadcast(const ckpt_node *node, int operand) {
    const ckpt_attr *attr = &node->attr;
    if (node->in_count != 2 || (node->in[0] != operand && node->in[1] != operand)) return false;
    const bool first = node->in[0] == operand;
    switch (node->op) {
    case CKPT_OP_BINARY: return stands_still(attr->binary.rank, first ? attr->binary.stride_a : attr->binary.stride_b);
    case CKPT_OP_PAIR:
        return stands_still(attr->pair.geometry.rank, first ? attr->pair.geometry.stride_a : attr->pair.geometry.stride_b);
    case CKPT_OP_MATMUL: return stands_still(attr->matmul.batch_rank, first ? attr->matmul.stride_a : attr->matmul.stride_b);
    default: return false;
    }
}

bool ckpt_gradient_sums_one(const ckpt_autodiff *ad, int operand, ckpt_reduce_attr *sum) {
    if (!ad->like || !is_broadcast(ad->like, operand)) return false;
    *sum = (ckpt_reduce_attr){.rank = 2, .dim = {1, ad->graph->tensor[operand].count}, .keep = 2, .alpha = sum->alpha};
    return true;
}

/* The same node of the larger batch's graph: it makes the same tensor. */
static const ckpt_node *find_like(const ckpt_autodiff *ad, const ckpt_node *node) {
    const ckpt_graph *like = ad->options->like;
    const int t = node->out[0];
    if (!like || t < 0 || t >= like->tensor_count || like->tensor[t].producer < 0) return NULL;
    const ckpt_node *there = &like->node[like->tensor[t].producer];
    return there->op == node->op && strcmp(like->tensor[t].name, ad->graph->tensor[t].name) == 0 ? there : NULL;
}

/* The parameter's GRADSUM tensor, made on first use together with the node that clears it; -1 when gradients are
 * not accumulated. */
static int gradsum(ckpt_autodiff *ad, int tensor) {
    if (!ad->options->accumulate || ad->graph->tensor[tensor].role != CKPT_ROLE_PARAM) return -1;
    for (int t = tensor + 1; t < ad->graph->tensor_count; t++)
        if (ad->graph->tensor[t].role == CKPT_ROLE_GRADSUM && ad->graph->tensor[t].owner == tensor) return t;
    return -1;
}

int ckpt_gradient_sum(ckpt_autodiff *ad, int tensor, bool *persistent) {
    int sum = gradsum(ad, tensor);
    *persistent = sum >= 0;
    return sum >= 0 ? sum : ad->gradient[tensor];
}

static ckpt_status add(ckpt_autodiff *ad, int a, int b, int out, ckpt_error *err) {
    const ckpt_attr attr = {.binary = {.kind = CKPT_BINARY_ADD, .rank = 1, .dim = {ad->graph->tensor[a].count},
                                       .stride_a = {1}, .stride_b = {1}}};
    const int in[2] = {a, b};
    return ckpt_gradient_node(ad, CKPT_OP_BINARY, &attr, 2, in, out, err);
}

ckpt_status ckpt_gradient_replace(ckpt_autodiff *ad, int tensor, int gradient, ckpt_error *err) {
    (void)err;
    ad->gradient[tensor] = gradient;
    return CKPT_OK;
}

ckpt_status ckpt_gradient_give(ckpt_autodiff *ad, int tensor, int gradient, ckpt_error *err) {
    bool persistent;
    int sum = ckpt_gradient_sum(ad, tensor, &persistent), result = gradient;
    if (sum >= 0) {
        result = persistent ? sum : ckpt_gradient_tensor(ad, tensor, err);
        if (result < 0) return CKPT_NOMEM;
        CKPT_TRY(add(ad, sum, gradient, result, err));
    }
    return ckpt_gradient_replace(ad, tensor, result, err);
}

/* Drops forward nodes that the loss does not need. */
static ckpt_status prune(ckpt_graph *graph, ckpt_error *err) {
    ckpt_pool scratch = {0};
    bool *keep = ckpt_pool_array(&scratch, graph->node_count, bool);
    bool *needed = ckpt_pool_array(&scratch, graph->tensor_count, bool);
    if (!keep || !needed) {
        ckpt_pool_free(&scratch);
        return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    }
    for (int n = graph->node_count - 1; n >= 0; n--) {
        const ckpt_node *node = &graph->node[n];
        keep[n] = ckpt_node_must_run(graph, n, needed);
        for (int i = 0; keep[n] && i < node->in_count; i++)
            if (node->in[i] >= 0) needed[node->in[i]] = true;
    }
    ckpt_graph_filter(graph, keep);
    ckpt_pool_free(&scratch);
    return CKPT_OK;
}

static bool differentiable(const ckpt_tensor *tensor) {
    return tensor->dtype == CKPT_F32 || tensor->dtype == CKPT_F64 || tensor->dtype == CKPT_F16 ||
           tensor->dtype == CKPT_BF16;
}

void ckpt_autodiff_find_wanted(const ckpt_graph *g, bool *wanted) {
    for (int t = 0; t < g->tensor_count; t++) wanted[t] = g->tensor[t].role == CKPT_ROLE_PARAM;
    for (int n = 0; n < g->forward_count; n++) {
        const ckpt_node *node = &g->node[n];
        bool any = false;
        for (int i = 0; i < node->in_count; i++)
            any |= node->in[i] >= 0 && wanted[node->in[i]] && ckpt_op_has_gradient(node->op, i);
        if (any && node->out[0] >= 0 && differentiable(&g->tensor[node->out[0]]))
            wanted[node->out[0]] = true;
    }
}

/* Which of them the gradient reaches, from those that `reached` marks to begin with. */
static void find_reached(const ckpt_graph *g, const bool *wanted, bool *reached) {
    for (int n = g->forward_count - 1; n >= 0; n--) {
        const ckpt_node *node = &g->node[n];
        if (node->out[0] < 0 || !reached[node->out[0]] || !wanted[node->out[0]]) continue;
        for (int i = 0; i < node->in_count; i++)
            if (node->in[i] >= 0 && wanted[node->in[i]] && ckpt_op_has_gradient(node->op, i)) reached[node->in[i]] = true;
    }
}

ckpt_status ckpt_autodiff_find_reached(const ckpt_graph *graph, bool *reached, ckpt_error *err) {
    ckpt_pool scratch = {0};
    bool *wanted = ckpt_pool_array(&scratch, graph->tensor_count, bool), has_loss = false;
    if (!wanted) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    ckpt_autodiff_find_wanted(graph, wanted);
    memset(reached, 0, sizeof *reached * (size_t)graph->tensor_count);
    for (int n = 0; n < graph->forward_count; n++)
        if (graph->node[n].op == CKPT_OP_LOSS) has_loss = reached[graph->node[n].in[0]] = true;
    for (int i = 0; i < graph->output_count && !has_loss; i++)
        if (graph->output[i] >= 0) reached[graph->output[i]] = true;
    find_reached(graph, wanted, reached);
    ckpt_pool_free(&scratch);
    return CKPT_OK;
}

static void find_first_readers(ckpt_autodiff *ad) {
    const ckpt_graph *g = ad->graph;
    for (int n = g->forward_count - 1; n >= 0; n--)
        for (int i = 0; i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) ad->first_reader[g->node[n].in[i]] = n;
}

static ckpt_status emit_update(ckpt_autodiff *ad, int param, ckpt_error *err) {
    ckpt_graph *g = ad->graph;
    const ckpt_training_options *o = ad->options;
    int in[4] = {param, ad->gradient[param]}, out[3] = {param};
    const int states = optimizers[o->optimizer].states;
    for (int i = 0; i < states; i++) {
        const ckpt_tensor w = g->tensor[param];
        int state = ckpt_graph_add_tensor(g, w.name, CKPT_F32, CKPT_ROLE_STATE, w.rank, w.dim, err);
        if (state < 0) return CKPT_NOMEM;
        g->tensor[state].owner = param;
        in[2 + i] = out[1 + i] = state;
    }
    int node = ckpt_graph_add_node(g, optimizers[o->optimizer].update, CKPT_UPDATE, g->tensor[param].name, 2 + states, in,
                                   1 + states, out, err);
    if (node < 0) return CKPT_NOMEM;
    g->node[node].layer = ad->layer;
    if (o->accumulate) g->node[node].when = CKPT_LAST_MICRO;
    ckpt_attr *attr = &g->node[node].attr;
    attr->update.beta1 = o->beta1;
    attr->update.beta2 = o->beta2;
    attr->update.epsilon = o->epsilon;
    attr->update.weight_decay = o->weight_decay;
    attr->update.momentum = o->momentum;
    ad->gradient[param] = -1;
    ad->wanted[param] = false; /* done: whoever asks again has found a bug */
    return CKPT_OK;
}

/* Updates the parameters that no node before forward node `f` reads. Every contribution to their gradients has come
 * then, and nothing behind reads them again: the backward pass of what is before `f` needs no tensor that `f` or a
 * later node makes. Readers through which no gradient passes count as well, since what they make may be needed (and so
 * made again) for the backward pass of others. */
static ckpt_status emit_updates(ckpt_autodiff *ad, int f, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[f];
    for (int i = 0; i < n.in_count; i++) {
        const int t = n.in[i];
        if (t >= 0 && ad->first_reader[t] == f && ad->graph->tensor[t].role == CKPT_ROLE_PARAM && ad->gradient[t] >= 0)
            CKPT_TRY(emit_update(ad, t, err));
    }
    return CKPT_OK;
}

static ckpt_status emit_loss_gradient(ckpt_autodiff *ad, int loss, ckpt_error *err) {
    const ckpt_node n = ad->graph->node[loss];
    const int prediction = n.in[0];
    if (!ad->wanted[prediction]) return CKPT_OK; /* of several losses, one that nothing trained leads to */
    int gradient = ckpt_gradient_tensor(ad, prediction, err);
    if (gradient < 0) return CKPT_NOMEM;
    CKPT_TRY(ckpt_gradient_node(ad, CKPT_OP_LOSS_GRAD, &n.attr, n.in_count, n.in, gradient, err));
    return ckpt_gradient_give(ad, prediction, gradient, err);
}

/* With accumulation: a sum for every parameter that the loss depends on, cleared before the first micro-batch. */
static ckpt_status add_gradsums(ckpt_autodiff *ad, ckpt_error *err) {
    ckpt_graph *g = ad->graph;
    const int count = g->tensor_count;
    for (int p = 0; p < count; p++) {
        if (!ad->reached[p] || g->tensor[p].role != CKPT_ROLE_PARAM) continue;
        const ckpt_tensor w = g->tensor[p];
        int sum = ckpt_graph_add_tensor(g, w.name, CKPT_F32, CKPT_ROLE_GRADSUM, w.rank, w.dim, err);
        if (sum < 0) return CKPT_NOMEM;
        g->tensor[sum].owner = p;
        int zero = ckpt_graph_add_node(g, CKPT_OP_ZERO, CKPT_BACKWARD, w.name, 0, NULL, 1, &sum, err);
        if (zero < 0) return CKPT_NOMEM;
        g->node[zero].when = CKPT_FIRST_MICRO;
    }
    return CKPT_OK;
}

static ckpt_status emit_all(ckpt_autodiff *ad, ckpt_error *err) {
    ckpt_graph *g = ad->graph;
    if (ad->options->accumulate) CKPT_TRY(add_gradsums(ad, err));
    for (int f = g->forward_count - 1; f >= 0; f--) {
        const ckpt_node n = g->node[f];
        ckpt_status (*rule)(ckpt_autodiff *, int, ckpt_error *) = ckpt_op_info(n.op)->gradient;
        ad->layer = n.layer;
        ad->name = n.name;
        ad->like = find_like(ad, &n);
        if (n.op == CKPT_OP_LOSS) CKPT_TRY(emit_loss_gradient(ad, f, err));
        if (rule && n.out[0] >= 0 && ad->gradient[n.out[0]] >= 0 && ad->wanted[n.out[0]]) CKPT_TRY(rule(ad, f, err));
        CKPT_TRY(emit_updates(ad, f, err));
    }
    return CKPT_OK;
}

/* Whether a parameter lies on the way to a loss. */
static bool trains_anything(const ckpt_autodiff *ad) {
    const ckpt_graph *g = ad->graph;
    for (int n = 0; n < g->forward_count; n++)
        if (g->node[n].op == CKPT_OP_LOSS && ad->wanted[g->node[n].in[0]]) return true;
    return false;
}

ckpt_status ckpt_autodiff_run(ckpt_graph *graph, const ckpt_training_options *options, ckpt_error *err) {
    CKPT_TRY(prune(graph, err));
    CKPT_TRY(ckpt_graph_find_layers(graph, err));
    if (graph->result < 0) return ckpt_fail(err, CKPT_MODEL, "the model has no output that a loss could be computed from");
    /* Ids of tensors made meanwhile are never looked up in these tables but as gradients: room for the present ones. */
    ckpt_pool scratch = {0};
    ckpt_autodiff ad = {.graph = graph, .options = options,
                        .gradient = ckpt_pool_array(&scratch, graph->tensor_count, int),
                        .wanted = ckpt_pool_array(&scratch, graph->tensor_count, bool),
                        .reached = ckpt_pool_array(&scratch, graph->tensor_count, bool),
                        .first_reader = ckpt_pool_array(&scratch, graph->tensor_count, int)};
    ckpt_status status = CKPT_OK;
    if (!ad.gradient || !ad.wanted || !ad.reached || !ad.first_reader) {
        status = ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    } else {
        memset(ad.gradient, -1, sizeof *ad.gradient * (size_t)graph->tensor_count);
        ckpt_autodiff_find_wanted(graph, ad.wanted);
        for (int n = 0; n < graph->forward_count; n++)
            if (graph->node[n].op == CKPT_OP_LOSS) ad.reached[graph->node[n].in[0]] = true;
        find_reached(graph, ad.wanted, ad.reached);
        find_first_readers(&ad);
        if (!trains_anything(&ad))
            status = ckpt_fail(err, CKPT_MODEL, "the model has no trainable parameter: the loss reaches no float initializer");
        else
            status = emit_all(&ad, err);
    }
    ckpt_pool_free(&scratch);
    if (status == CKPT_OK) ckpt_graph_compute_hash(graph);
    return status;
}

/* Statistics of the batch become the running ones, which stay as they are. */
static ckpt_status use_running_statistics(ckpt_graph *graph, ckpt_error *err) {
    ckpt_pool scratch = {0};
    bool *keep = ckpt_pool_array(&scratch, graph->node_count, bool);
    if (!keep) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    for (int n = 0; n < graph->node_count; n++) {
        const ckpt_node *update = &graph->node[n];
        keep[n] = update->op != CKPT_OP_STATS_UPDATE;
        if (keep[n]) continue;
        ckpt_node *stats = &graph->node[graph->tensor[update->in[0]].producer];
        stats->op = CKPT_OP_STORED_STATS;
        stats->in_count = 2;
        stats->in[0] = update->in[1];
        stats->in[1] = update->in[2];
    }
    ckpt_graph_filter(graph, keep);
    ckpt_pool_free(&scratch);
    return CKPT_OK;
}

ckpt_status ckpt_graph_for_evaluation(const ckpt_graph *graph, ckpt_graph *evaluation, ckpt_error *err) {
    CKPT_TRY(ckpt_graph_copy(graph, evaluation, err));
    ckpt_status status = prune(evaluation, err);
    if (status == CKPT_OK) status = use_running_statistics(evaluation, err);
    for (int n = 0; n < evaluation->node_count; n++) {
        ckpt_epilogue *epilogue = (ckpt_epilogue *)ckpt_node_epilogue(&evaluation->node[n]); /* the copy is ours */
        if (epilogue) epilogue->drop = 0;
    }
    if (status == CKPT_OK) status = ckpt_graph_find_layers(evaluation, err);
    if (status != CKPT_OK) {
        ckpt_graph_free(evaluation);
        return status;
    }
    ckpt_graph_compute_hash(evaluation);
    return CKPT_OK;
}

ckpt_status ckpt_training_graphs_make(ckpt_graph *graph, const ckpt_training_options *options, ckpt_graph *evaluation,
                                      ckpt_error *err) {
    if (options->bf16) CKPT_TRY(ckpt_rewrite_to_bf16(graph, err));
    /* The copy is of the forward pass alone, so it comes first. */
    CKPT_TRY(ckpt_graph_for_evaluation(graph, evaluation, err));
    ckpt_status status = ckpt_autodiff_run(graph, options, err);
    if (status == CKPT_OK && options->bf16) status = ckpt_rewrite_add_casts(evaluation, options->bf16_kernels, err);
    if (status == CKPT_OK && options->bf16) status = ckpt_rewrite_add_casts(graph, options->bf16_kernels, err);
    if (status != CKPT_OK) ckpt_graph_free(evaluation);
    return status;
}
