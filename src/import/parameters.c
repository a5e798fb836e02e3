#include "import/parameters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/name_list.h"
#include "graph/autodiff.h"
#include "graph/op.h"
#include "graph/rewrite.h"
#include "import/weight_values.h"

bool ckpt_verdict_trains(ckpt_verdict verdict) {
    static const bool trains[] = {
#define X(ID, trained, text) trained,
        CKPT_VERDICT_LIST(X)
#undef X
    };
    return trains[verdict];
}

const char *ckpt_verdict_text(ckpt_verdict verdict) {
    static const char *const texts[] = {
#define X(ID, trained, text) text,
        CKPT_VERDICT_LIST(X)
#undef X
    };
    return texts[verdict];
}

ckpt_trainable ckpt_verdict_trainable(ckpt_verdict verdict) {
    if (!ckpt_verdict_trains(verdict)) return CKPT_NEVER_TRAINED;
    return verdict == CKPT_VERDICT_REACHED ? CKPT_MAYBE_TRAINED : CKPT_SURELY_TRAINED;
}

static ckpt_status no_memory(ckpt_error *err) { return ckpt_fail(err, CKPT_NOMEM, "out of host memory"); }

/* --- what the file and the user say --------------------------------------------------------------------- */

/* Whether an item of the list names the tensor. Faulty items are reported by ckpt_parameters_by_gradient. */
static bool is_listed(const char *list, const char *name) {
    char item[CKPT_NAME_ITEM];
    ckpt_error unused;
    for (const char *at = list; at;) {
        if (ckpt_name_list_next("", list, &at, item, &unused) != CKPT_OK) return false;
        if (ckpt_name_matches_module(item, name)) return true;
    }
    return false;
}

/* "conv1.weight_bias": what an exporter made of parameters that it fused, as a convolution's and the normalization's behind
 * it, it names after one of them. */
static bool is_named_after_parameter(const ckpt_provenance *p, const char *name) {
    char stem[CKPT_NAME_ITEM];
    const char *last = strrchr(name, '_');
    const size_t length = last ? (size_t)(last - name) : 0;
    if (!length || length >= sizeof stem) return false;
    memcpy(stem, name, length);
    stem[length] = 0;
    const ckpt_said_tensor *said = ckpt_provenance_find(p, stem);
    return said && said->kind == CKPT_SAID_PARAMETER;
}

static ckpt_verdict said_verdict(const ckpt_provenance *p, const char *name) {
    const ckpt_said_tensor *said = ckpt_provenance_find(p, name);
    if (!said && is_named_after_parameter(p, name)) return CKPT_VERDICT_REACHED;
    if (!said || said->kind == CKPT_SAID_NOTHING) return CKPT_VERDICT_EXPORTER;
    if (said->kind == CKPT_SAID_PARAMETER) return CKPT_VERDICT_SAID;
    if (said->kind == CKPT_SAID_BUFFER) return CKPT_VERDICT_BUFFER;
    return said->folded_from ? CKPT_VERDICT_EXPORTER : CKPT_VERDICT_SAID_CONSTANT;
}

ckpt_verdict ckpt_parameters_by_file(const ckpt_provenance *p, const ckpt_model_options *options,
                                     const ckpt_weight_question *q) {
    if (!q->is_float) return CKPT_VERDICT_CODE;
    if (q->in_function) return CKPT_VERDICT_BODY;
    if (is_listed(options->train, q->name)) return CKPT_VERDICT_ASKED;
    if (is_listed(options->freeze, q->name)) return CKPT_VERDICT_FROZEN;
    if (q->weighs_classes) return CKPT_VERDICT_CLASS_WEIGHTS;
    /* A number in the code becomes a Constant node; PyTorch's exporters write all of their own tensors as such. */
    if (!q->is_initializer) return p->torch || q->count == 1 ? CKPT_VERDICT_CODE : CKPT_VERDICT_REACHED;
    if (p->speaks) return said_verdict(p, q->name);
    if (ckpt_provenance_is_code_constant(p, q->name)) return CKPT_VERDICT_CODE;
    /* The TorchScript exporter writes numbers as Constant nodes: an initializer of one value belongs to a module. */
    return p->torch && q->count == 1 ? CKPT_VERDICT_SAID : CKPT_VERDICT_REACHED;
}

/* --- what its values and its use show -------------------------------------------------------------------- */

/* How a tensor is read, also by way of nodes that only move its values. */
enum {
    USE_ADDED = 1, USE_SUBTRACTED_FROM = 2, USE_SUBTRACTED = 4, USE_MULTIPLIED = 8, USE_DIVIDED = 16, USE_DIVISOR = 32,
    USE_EXTREME = 64, /* Max, Min */
    USE_EXPONENT = 128, USE_ATTENTION_MASK = 256,
    USE_BIAS = 512, USE_NORM = 1024, /* scale and bias of a normalization by groups */
    USE_FUNCTION = 2048, /* an element function, as Sqrt and Log */
    USE_OTHER = 4096
};

typedef struct reading {
    const ckpt_graph *graph;
    ckpt_pool *pool;
    int *first, *node; /* the readers of tensor t are node[first[t] .. first[t + 1]) */
} reading;

static ckpt_status find_readers(reading *r, ckpt_error *err) {
    const ckpt_graph *g = r->graph;
    int total = 0;
    r->first = ckpt_pool_array(r->pool, g->tensor_count + 2, int);
    if (!r->first) return no_memory(err);
    for (int n = 0; n < g->node_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) r->first[g->node[n].in[i] + 2]++, total++;
    for (int t = 0; t < g->tensor_count; t++) r->first[t + 2] += r->first[t + 1];
    r->node = ckpt_pool_array(r->pool, total + 1, int);
    if (!r->node) return no_memory(err);
    for (int n = 0; n < g->node_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) r->node[r->first[g->node[n].in[i] + 1]++] = n;
    return CKPT_OK;
}

static bool only_moves(const ckpt_node *node) {
    switch (node->op) {
    case CKPT_OP_TRANSPOSE: case CKPT_OP_SLICE: case CKPT_OP_EXPAND: case CKPT_OP_CAST: case CKPT_OP_CONCAT: return true;
    default: return false;
    }
}

/* min(x, 0) times the tensor: the slope of a PRelu, which is a parameter by what the operator is for. */
static bool is_slope(const ckpt_graph *graph, const ckpt_node *node, int input) {
    const int producer = graph->tensor[node->in[!input]].producer;
    if (node->attr.binary.kind != CKPT_BINARY_MUL || producer < 0) return false;
    return graph->node[producer].op == CKPT_OP_ACT && graph->node[producer].attr.act.act == CKPT_ACT_NEGATIVE;
}

static unsigned use_in(const ckpt_graph *graph, const ckpt_node *node, int input) {
    switch (node->op) {
    case CKPT_OP_BINARY:
        if (is_slope(graph, node, input)) return USE_OTHER;
        switch (node->attr.binary.kind) {
        case CKPT_BINARY_ADD: return USE_ADDED;
        case CKPT_BINARY_SUB: return input ? USE_SUBTRACTED : USE_SUBTRACTED_FROM;
        case CKPT_BINARY_MUL: return USE_MULTIPLIED;
        case CKPT_BINARY_DIV: return input ? USE_DIVISOR : USE_DIVIDED;
        }
        return USE_OTHER;
    case CKPT_OP_PAIR: return node->attr.pair.kind != CKPT_PAIR_POW ? USE_EXTREME : input ? USE_EXPONENT : USE_OTHER;
    case CKPT_OP_ACT: return USE_FUNCTION;
    case CKPT_OP_LINEAR: return input == 2 ? USE_BIAS : USE_OTHER;
    case CKPT_OP_ATTENTION: return input == 3 ? USE_ATTENTION_MASK : USE_OTHER;
    case CKPT_OP_GROUPNORM: return input ? USE_NORM : USE_OTHER;
    default: return USE_OTHER;
    }
}

static unsigned find_uses(const reading *r, int tensor, int depth) {
    enum { MOST_MOVES = 6 };
    unsigned uses = 0;
    for (int k = r->first[tensor]; k < r->first[tensor + 1]; k++) {
        const ckpt_node *node = &r->graph->node[r->node[k]];
        for (int i = 0; i < node->in_count; i++) {
            if (node->in[i] != tensor) continue;
            if (!only_moves(node)) uses |= use_in(r->graph, node, i);
            else uses |= depth < MOST_MOVES ? find_uses(r, node->out[0], depth + 1) : USE_OTHER;
        }
    }
    return uses;
}

static bool within(unsigned uses, unsigned allowed) { return uses && !(uses & ~allowed); }

/* One value in a file that does not say what it is: a number of the code, or a parameter such as a temperature or a gate? */
static ckpt_verdict judge_number(const ckpt_model *model, const ckpt_ruling *r, unsigned uses, float value) {
    enum { ELEMENTWISE = USE_ADDED | USE_SUBTRACTED_FROM | USE_SUBTRACTED | USE_MULTIPLIED | USE_DIVIDED | USE_DIVISOR |
                         USE_EXTREME | USE_EXPONENT | USE_FUNCTION };
    const char *producer = model->file->model->producer_name;
    if (!within(uses, ELEMENTWISE)) return CKPT_VERDICT_REACHED;
    /* tf2onnx names what it read from a variable after that operation; its other numbers are those of the code. */
    if (producer && strcmp(producer, "tf2onnx") == 0)
        return strstr(r->name, "ReadVariableOp") ? CKPT_VERDICT_REACHED : CKPT_VERDICT_NUMBER;
    if (within(uses, USE_ADDED | USE_EXTREME) && value > 0 && value <= 1e-3f) return CKPT_VERDICT_EPSILON;
    if (ckpt_weight_is_code_number(value)) return CKPT_VERDICT_NUMBER;
    if (value == 1 && within(uses, USE_SUBTRACTED_FROM | USE_ADDED | USE_DIVIDED)) return CKPT_VERDICT_NUMBER;
    if (value == 0 && within(uses, USE_SUBTRACTED_FROM | USE_SUBTRACTED | USE_EXTREME)) return CKPT_VERDICT_NUMBER;
    if (value == -1 && within(uses, USE_MULTIPLIED)) return CKPT_VERDICT_NUMBER;
    return CKPT_VERDICT_REACHED;
}

static ckpt_verdict judge_values(const ckpt_weight_values *w, unsigned uses) {
    /* Whole exponents are meant for bases of either sign, where they have no slope. */
    if (within(uses, USE_EXPONENT) && ckpt_weight_is_whole(w)) return CKPT_VERDICT_NUMBER;
    if (within(uses, USE_MULTIPLIED | USE_SUBTRACTED | USE_FUNCTION) && ckpt_weight_is_mask(w)) return CKPT_VERDICT_MASK;
    if (within(uses, USE_ADDED | USE_BIAS | USE_ATTENTION_MASK) && ckpt_weight_is_added_mask(w)) return CKPT_VERDICT_ADDED_MASK;
    if (ckpt_weight_is_positions(w)) return CKPT_VERDICT_POSITIONS;
    if (ckpt_weight_is_waves(w)) return CKPT_VERDICT_WAVES;
    if (ckpt_weight_is_frequencies(w)) return CKPT_VERDICT_FREQUENCIES;
    return CKPT_VERDICT_REACHED;
}

static bool node_is(const Onnx__NodeProto *node, const char *op) { return node->op_type && strcmp(node->op_type, op) == 0; }

static bool names(const char *a, const char *b) { return a && b && strcmp(a, b) == 0; }

/* InstanceNormalization between two Reshapes, with this scale or bias: how exporters spell a group normalization below
 * opset 18, with a scale and bias of their own that do nothing. */
static bool is_spelled_norm(const Onnx__GraphProto *graph, const char *name) {
    for (size_t n = 0; n < graph->n_node; n++) {
        const Onnx__NodeProto *norm = graph->node[n];
        if (!node_is(norm, "InstanceNormalization") || norm->n_input < 3 || norm->n_output < 1) continue;
        if (!names(norm->input[1], name) && !names(norm->input[2], name)) continue;
        bool before = false, behind = false;
        for (size_t k = 0; k < graph->n_node; k++) {
            const Onnx__NodeProto *node = graph->node[k];
            if (!node_is(node, "Reshape") || node->n_input < 1 || node->n_output < 1) continue;
            before |= names(node->output[0], norm->input[0]);
            behind |= names(node->input[0], norm->output[0]);
        }
        if (!before || !behind) return false;
    }
    return true;
}

static ckpt_status judge(ckpt_model *model, const reading *r, ckpt_ruling *ruling, ckpt_error *err) {
    enum { MOST_VALUES = 1 << 24 }; /* a table of positions has fewer */
    const ckpt_tensor *t = &model->graph.tensor[ruling->tensor];
    const unsigned uses = find_uses(r, ruling->tensor, 0);
    /* The values of weights of products say nothing, and are not read. */
    const bool product = uses & USE_OTHER && t->rank == 2 && !(t->dim[0] == 1 || t->dim[1] == 1);
    bool table = false; /* something picks rows of it */
    for (int k = r->first[ruling->tensor]; k < r->first[ruling->tensor + 1]; k++)
        table |= r->graph->node[r->node[k]].op == CKPT_OP_GATHER;
    if (!uses && ruling->count == 1) ruling->verdict = CKPT_VERDICT_NUMBER; /* an operator took it for one */
    if (!uses || ruling->count < 1 || ruling->count > MOST_VALUES || (product && !table)) return CKPT_OK;
    ckpt_weight_values w = {.rank = t->rank, .dim = t->dim, .count = ruling->count};
    float *values = malloc(sizeof *values * (size_t)ruling->count);
    if (!values) return no_memory(err);
    w.value = values;
    const ckpt_status status = ckpt_model_read_values(model, ruling->tensor, values, err);
    if (status == CKPT_OK) {
        const bool constant = ckpt_weight_is_all(&w, 0) || ckpt_weight_is_all(&w, 1);
        if (ruling->count == 1 && t->rank < 2) ruling->verdict = judge_number(model, ruling, uses, values[0]);
        else if (within(uses, USE_NORM) && constant && is_spelled_norm(model->file->model->graph, ruling->name))
            ruling->verdict = CKPT_VERDICT_SPELLED_NORM;
        else if (ruling->count > 1) ruling->verdict = judge_values(&w, uses);
    }
    free(values);
    return status;
}

/* Whether the value may turn out to be a number of an element function that is spelled out, as 0.044715 is of GELU. A 1 that
 * multiplies is none: a fresh parameter that changes the function later. */
static bool may_be_spelled(const ckpt_tensor *t, const ckpt_ruling *r) {
    if (r->verdict != CKPT_VERDICT_REACHED || t->count != 1 || !t->data) return false;
    const float value = fabsf(*(const float *)t->data);
    return value != 0 && value != 1;
}

/* Whether the file is one to plan with, whose weights were replaced by ConstantOfShape nodes: its products have no others. */
static bool weights_are_left_out(const ckpt_model *model, const reading *r) {
    bool any = false;
    for (int i = 0; i < model->ruling_count; i++) {
        const ckpt_ruling *ruling = &model->ruling[i];
        const int rank = model->graph.tensor[ruling->tensor].rank;
        if (!ruling->uniform && ruling->count > 1 && rank > 1 && ckpt_verdict_trains(ruling->verdict)) return false;
        any |= ruling->uniform && rank > 1 && find_uses(r, ruling->tensor, 0) & USE_OTHER;
    }
    return any;
}

ckpt_status ckpt_parameters_by_use(ckpt_model *model, ckpt_error *err) {
    ckpt_pool scratch = {0};
    reading r = {.graph = &model->graph, .pool = &scratch};
    ckpt_status status = find_readers(&r, err);
    const bool left_out = status == CKPT_OK && weights_are_left_out(model, &r);
    for (int i = 0; status == CKPT_OK && i < model->ruling_count; i++) {
        ckpt_ruling *ruling = &model->ruling[i];
        ckpt_tensor *t = &model->graph.tensor[ruling->tensor];
        if (t->role == CKPT_ROLE_STATISTIC) ruling->verdict = CKPT_VERDICT_STATISTIC;
        if (t->role != CKPT_ROLE_CONST && t->role != CKPT_ROLE_PARAM) continue;
        if (ruling->uniform && !left_out) ruling->verdict = CKPT_VERDICT_CODE;
        if (ruling->verdict == CKPT_VERDICT_REACHED && !ruling->uniform) status = judge(model, &r, ruling, err);
        t->role = ckpt_verdict_trains(ruling->verdict) && !may_be_spelled(t, ruling) ? CKPT_ROLE_PARAM : CKPT_ROLE_CONST;
    }
    ckpt_pool_free(&scratch);
    return status;
}

/* --- what the loss's gradient reaches, and what the lists name ------------------------------------------- */

/* Marks the rulings that an item of --train or --freeze means: by the tensor, its module, or the layers that read it. */
static int mark_item(const ckpt_model *model, const char *item, bool *marked) {
    const ckpt_graph *g = &model->graph;
    int count = 0, first, last;
    for (int i = 0; i < model->ruling_count; i++)
        if (ckpt_name_matches_module(item, model->ruling[i].name)) marked[i] = true, count++;
    if (count) return count;
    const bool range = ckpt_name_range(item, &first, &last);
    for (int n = 0; n < g->forward_count; n++) {
        const ckpt_node *node = &g->node[n];
        const int layer = node->layer;
        if (layer < 0) continue;
        if (!(range && layer >= first && layer <= last) && !ckpt_name_matches_module(item, g->layer[layer].name) &&
            !ckpt_name_matches_module(item, node->name))
            continue;
        for (int k = 0; k < node->in_count; k++)
            for (int i = 0; i < model->ruling_count; i++)
                if (model->ruling[i].tensor == node->in[k]) marked[i] = true, count++;
    }
    return count;
}

static ckpt_status unknown_item(const ckpt_model *model, const char *option, const char *item, ckpt_error *err) {
    const char *nearest = NULL;
    int least = 0;
    for (int i = 0; i < model->ruling_count; i++) {
        const int distance = ckpt_name_distance(item, model->ruling[i].name);
        if (!nearest || distance < least) nearest = model->ruling[i].name, least = distance;
    }
    return ckpt_fail(err, CKPT_USAGE, "%s: no float tensor, module or layer is named '%s'%s%s%s", option, item, nearest ? "; the nearest is '" : "", nearest ? nearest : "", nearest ? "'" : "");
}

static ckpt_status mark_list(const ckpt_model *model, const char *option, const char *list, bool *marked, ckpt_error *err) {
    char item[CKPT_NAME_ITEM];
    for (const char *at = list; at;) {
        CKPT_TRY(ckpt_name_list_next(option, list, &at, item, err));
        if (!mark_item(model, item, marked)) return unknown_item(model, option, item, err);
    }
    return CKPT_OK;
}

static ckpt_status follow_lists(ckpt_model *model, const ckpt_model_options *options, bool *train, bool *freeze, ckpt_error *err) {
    if (!options->train && !options->freeze) return CKPT_OK;
    CKPT_TRY(ckpt_graph_find_layers(&model->graph, err));
    CKPT_TRY(mark_list(model, "--train", options->train, train, err));
    CKPT_TRY(mark_list(model, "--freeze", options->freeze, freeze, err));
    for (int i = 0; i < model->ruling_count; i++) {
        ckpt_ruling *r = &model->ruling[i];
        if (train[i] && r->verdict == CKPT_VERDICT_STATISTIC)
            return ckpt_fail(err, CKPT_USAGE, "--train: '%s' is a running statistic, which follows the batches", r->name);
        if (r->verdict == CKPT_VERDICT_STATISTIC) continue;
        if (train[i]) r->verdict = CKPT_VERDICT_ASKED;
        else if (freeze[i]) r->verdict = CKPT_VERDICT_FROZEN;
    }
    return CKPT_OK;
}

static void set_roles(ckpt_model *model) {
    for (int i = 0; i < model->ruling_count; i++) {
        ckpt_tensor *t = &model->graph.tensor[model->ruling[i].tensor];
        if (t->role == CKPT_ROLE_CONST || t->role == CKPT_ROLE_PARAM)
            t->role = ckpt_verdict_trains(model->ruling[i].verdict) ? CKPT_ROLE_PARAM : CKPT_ROLE_CONST;
    }
}

static ckpt_status nothing_trained(const ckpt_model *model, ckpt_error *err) {
    const ckpt_ruling *kept = NULL;
    for (int i = 0; i < model->ruling_count && !kept; i++)
        if (model->ruling[i].verdict != CKPT_VERDICT_STATISTIC && model->ruling[i].verdict != CKPT_VERDICT_CODE) kept = &model->ruling[i];
    if (!kept)
        return ckpt_fail(err, CKPT_MODEL, "%s: the model has no trainable parameter: the loss reaches no float initializer",
                         model->graph.path);
    return ckpt_fail(err, CKPT_MODEL, "%s: the model has no trainable parameter: its loss reaches none ('%s': %s); --train LIST names "
                     "what to train", model->graph.path, kept->name, ckpt_verdict_text(kept->verdict));
}

ckpt_status ckpt_parameters_by_gradient(ckpt_model *model, const ckpt_model_options *options, ckpt_error *err) {
    ckpt_graph *graph = &model->graph;
    ckpt_pool scratch = {0};
    bool *reached = ckpt_pool_array(&scratch, graph->tensor_count, bool);
    bool *train = ckpt_pool_array(&scratch, model->ruling_count + 1, bool);
    bool *freeze = ckpt_pool_array(&scratch, model->ruling_count + 1, bool);
    int trained = 0;
    ckpt_status status = reached && train && freeze ? CKPT_OK : no_memory(err);
    if (status == CKPT_OK) status = follow_lists(model, options, train, freeze, err);
    if (status == CKPT_OK) {
        set_roles(model);
        status = ckpt_autodiff_find_reached(graph, reached, err);
    }
    for (int i = 0; status == CKPT_OK && i < model->ruling_count; i++) {
        ckpt_ruling *r = &model->ruling[i];
        if (!ckpt_verdict_trains(r->verdict)) continue;
        if (reached[r->tensor] && graph->tensor[r->tensor].role == CKPT_ROLE_PARAM) {
            trained++;
            continue;
        }
        if (train[i])
            status = ckpt_fail(err, CKPT_USAGE, "--train: no gradient of the loss reaches '%s'", r->name);
        const bool spelled = r->verdict == CKPT_VERDICT_REACHED && r->count == 1 && graph->tensor[r->tensor].role == CKPT_ROLE_STEP;
        r->verdict = spelled ? CKPT_VERDICT_NUMBER : CKPT_VERDICT_UNREACHED;
    }
    if (status == CKPT_OK) set_roles(model);
    for (int t = 0; status == CKPT_OK && t < graph->tensor_count; t++) /* what a ConstantOfShape makes has no ruling */
        trained += reached[t] && graph->tensor[t].role == CKPT_ROLE_PARAM;
    if (status == CKPT_OK && !trained && model->loss_count > 0) status = nothing_trained(model, err);
    ckpt_pool_free(&scratch);
    return status;
}
