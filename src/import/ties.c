#include "import/ties.h"

#include <stdlib.h>
#include <string.h>

#include "base/name_hash.h"

enum {
    MOST_FRESH = 1 << 16, /* values; a larger weight is not looked into */
    MOST_READERS = 1024,  /* of one weight that is taken apart */
    MOST_TEXT = 4096,     /* of what an exporter says of a node */
    MOST_STEPS = 8,       /* nodes between a vector and the weight matrix it belongs to */
    MOST_INPUTS = 16,     /* of a node, that are looked at for a matrix */
    MOST_COPIES = 10000,  /* of all weights together */
    MOST_COMPARED = 200000000 /* pairs of parameters in what an exporter says */
};

/* A reader of an initializer: input `input` of node `node`, directly or by way of the Identity node `through`. */
typedef struct place {
    int weight; /* index of the initializer */
    int node, input, through;
    int moved;    /* 0: a weight, trained. Else a running mean (3) or variance (4), which follows the batches */
    int part;     /* of a normalization: 1 scales, 2 shifts; 0 elsewhere */
    uint64_t call; /* a hash of what the exporter says of the node, or 0 */
    int group;    /* places of a group stay together */
    int identity; /* of by_file: an index of provenance.tensor, or one of the below */
    int up, down; /* the nearest weight matrix above and below the node, or -1 */
} place;

enum { UNKNOWN_TENSOR = -2, NO_PARAMETER = -1, EVERY_TENSOR = -3 };

/* What a name stands for. */
typedef struct entry {
    const char *name;
    int maker;   /* the node that makes it, or -1 */
    int reader;  /* the first node that reads it, or -1 */
    int weight;  /* the initializer that it is another name of, or -1 */
    int through; /* the Identity node that makes it so, or -1 */
} entry;

typedef struct audit {
    ckpt_onnx_file *file;
    const Onnx__GraphProto *graph;
    ckpt_pool *pool;
    ckpt_error *err;
    entry *entry; /* a hash table by name */
    ckpt_name_key key;
    size_t mask;
    int *tensor; /* by initializer: the tensor of the graph that it became, where it may be trained or moved, or -1 */
    bool *represented; /* by provenance.tensor: the file has it, or something that was computed from it */
    const ckpt_tie_question *question;
    ckpt_provenance *said;
    place *place; /* by weight, those without Identity first, then in the order of the file */
    int place_count;
    int64_t compared; /* by_parameters, so far */
} audit;

static ckpt_status fail_memory(const audit *a) { return ckpt_fail(a->err, CKPT_NOMEM, "out of host memory"); }

/* --- names ---------------------------------------------------------------------------------------------- */

static entry *find(const audit *a, const char *name) {
    for (size_t h = (size_t)ckpt_name_hash(&a->key, name);; h++) {
        entry *e = &a->entry[h & a->mask];
        if (!e->name || strcmp(e->name, name) == 0) return e;
    }
}

static entry *enter(const audit *a, const char *name) {
    entry *e = find(a, name);
    if (!e->name) *e = (entry){.name = name, .maker = -1, .reader = -1, .weight = -1, .through = -1};
    return e;
}

static bool is_op(const Onnx__NodeProto *node, const char *op) {
    return node->op_type && strcmp(node->op_type, op) == 0 && (!node->domain || !*node->domain);
}

static ckpt_status enter_names(audit *a) {
    const Onnx__GraphProto *g = a->graph;
    size_t names = g->n_initializer, size = 16;
    for (size_t n = 0; n < g->n_node; n++) names += g->node[n]->n_input + g->node[n]->n_output;
    while (size < 2 * names) size *= 2;
    a->entry = ckpt_pool_array(a->pool, size, entry);
    a->mask = size - 1;
    if (!a->entry) return fail_memory(a);
    for (size_t i = 0; i < g->n_initializer; i++)
        if (g->initializer[i]->name) enter(a, g->initializer[i]->name)->weight = (int)i;
    /* Outputs before inputs: the text of an input that is changed later goes away, and names here must stay. */
    for (size_t n = 0; n < g->n_node; n++)
        for (size_t i = 0; i < g->node[n]->n_output; i++)
            if (g->node[n]->output[i] && *g->node[n]->output[i]) enter(a, g->node[n]->output[i])->maker = (int)n;
    for (size_t n = 0; n < g->n_node; n++) {
        const Onnx__NodeProto *node = g->node[n];
        for (size_t i = 0; i < node->n_input; i++) {
            if (!node->input[i] || !*node->input[i]) continue;
            entry *e = enter(a, node->input[i]);
            if (e->reader < 0) e->reader = (int)n;
        }
        if (!is_op(node, "Identity") || node->n_input != 1 || node->n_output != 1 || !node->input[0] || !node->output[0]) continue;
        entry *out = enter(a, node->output[0]);
        out->weight = enter(a, node->input[0])->weight;
        out->through = (int)n;
    }
    return CKPT_OK;
}

static void note_tensor(audit *a, int t) {
    const entry *e = find(a, a->question->graph->tensor[t].name);
    if (e->name && e->weight >= 0 && a->graph->initializer[e->weight] == a->question->graph->tensor[t].source)
        a->tensor[e->weight] = t;
}

/* Where the file says which tensor a node was written with, an exporter's own constants are looked at as well: a parameter
 * may have been made one with them. */
static ckpt_status find_tensors(audit *a) {
    a->tensor = ckpt_pool_array(a->pool, a->graph->n_initializer + 1, int);
    if (!a->tensor) return fail_memory(a);
    for (size_t i = 0; i < a->graph->n_initializer; i++) a->tensor[i] = -1;
    for (int t = 0; t < a->question->graph->tensor_count; t++)
        if (a->question->graph->tensor[t].role == CKPT_ROLE_STATISTIC) note_tensor(a, t);
    for (int i = 0; i < a->question->ruling_count; i++) {
        const ckpt_ruling *r = &a->question->ruling[i];
        if (r->initializer && (a->said->speaks || ckpt_verdict_trains(r->verdict))) note_tensor(a, r->tensor);
    }
    return CKPT_OK;
}

static int compare_places(const void *x, const void *y) {
    const place *p = x, *q = y;
    if (p->weight != q->weight) return p->weight < q->weight ? -1 : 1;
    if ((p->through >= 0) != (q->through >= 0)) return p->through >= 0 ? 1 : -1;
    if (p->node != q->node) return p->node < q->node ? -1 : 1;
    return p->input - q->input;
}

/* What an input of a normalization does: scale (1) or shift (2). One tensor never is meant to do both. */
static int part_of(const Onnx__NodeProto *node, int input) {
    static const char *const norms[] = {"LayerNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization"};
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++)
        if (is_op(node, norms[i]) && (input == 1 || input == 2)) return input;
    return 0;
}

/* The text of the call that PyTorch's dynamo exporter says the node comes from, or NULL. */
static const char *call_text(const Onnx__NodeProto *node) {
    const char *text = ckpt_node_property(node, "pkg.torch.onnx.fx_node");
    return text && *text == '%' && strnlen(text, MOST_TEXT + 1) <= MOST_TEXT ? text : NULL;
}

static uint64_t call_of(const audit *a, const Onnx__NodeProto *node) {
    const char *text = call_text(node);
    return text ? ckpt_name_hash(&a->key, text) | 1 : 0;
}

static ckpt_status find_places(audit *a) {
    size_t most = 0;
    for (size_t n = 0; n < a->graph->n_node; n++) most += a->graph->node[n]->n_input;
    a->place = ckpt_pool_array(a->pool, most + 1, place);
    if (!a->place) return fail_memory(a);
    for (size_t n = 0; n < a->graph->n_node; n++) {
        const Onnx__NodeProto *node = a->graph->node[n];
        for (size_t i = 0; i < node->n_input && !is_op(node, "Identity"); i++) {
            const entry *e = node->input[i] && *node->input[i] ? find(a, node->input[i]) : NULL;
            if (!e || e->weight < 0 || a->tensor[e->weight] < 0) continue;
            a->place[a->place_count++] =
                (place){.weight = e->weight, .node = (int)n, .input = (int)i, .through = e->through, .up = -1, .down = -1,
                        .moved = is_op(node, "BatchNormalization") && i > 2 ? (int)i : 0, .part = part_of(node, (int)i),
                        .call = call_of(a, node)};
        }
    }
    if (a->place_count) qsort(a->place, (size_t)a->place_count, sizeof *a->place, compare_places);
    return CKPT_OK;
}

/* --- what belongs together -------------------------------------------------------------------------------- */

/* The weight matrix among a node's inputs, or -1. */
static int matrix_of(const audit *a, int node) {
    const Onnx__NodeProto *n = a->graph->node[node];
    for (size_t i = 0; i < n->n_input && i < MOST_INPUTS; i++) {
        const entry *e = n->input[i] && *n->input[i] ? find(a, n->input[i]) : NULL;
        if (e && e->weight >= 0 && a->tensor[e->weight] >= 0 && a->question->graph->tensor[a->tensor[e->weight]].rank >= 2)
            return e->weight;
    }
    return -1;
}

static int above(const audit *a, int node) {
    const Onnx__NodeProto *n = a->graph->node[node];
    for (size_t i = 0; i < n->n_input && i < MOST_INPUTS; i++) {
        const entry *e = n->input[i] && *n->input[i] ? find(a, n->input[i]) : NULL;
        if (e && e->weight < 0 && e->maker >= 0 && e->maker < node) return e->maker;
    }
    return -1;
}

static int below(const audit *a, int node) {
    const Onnx__NodeProto *n = a->graph->node[node];
    const entry *e = n->n_output && n->output[0] && *n->output[0] ? find(a, n->output[0]) : NULL;
    return e && e->reader > node ? e->reader : -1;
}

static int nearest_matrix(const audit *a, int node, int (*next)(const audit *, int)) {
    for (int steps = 0; node >= 0 && steps < MOST_STEPS; steps++) {
        const int weight = matrix_of(a, node);
        if (weight >= 0) return weight;
        node = next(a, node);
    }
    return -1;
}

typedef enum verdict { DIFFERENT, SAME, UNKNOWN } verdict;

static size_t token_length(const char *text) {
    size_t n = 3; /* "%p_" */
    while (text[n] == '_' || (text[n] >= '0' && text[n] <= '9') || ((text[n] | 32) >= 'a' && (text[n] | 32) <= 'z')) n++;
    return n;
}

static const char *next_token(const char *text) {
    while (text && (text = strchr(text, '%')) && strncmp(text, "%p_", 3) != 0) text++;
    return text;
}

/* torch.onnx's dynamo exporter attaches the operation that a node comes from, with the parameters it read before any
 * were merged: "... (args = (%x, [8], %p_norm1_weight, %p_norm1_bias, 1e-05, False) ...". */
static verdict by_parameters(audit *a, const Onnx__NodeProto *p, const Onnx__NodeProto *q) {
    const char *p_text = ckpt_node_property(p, "pkg.torch.onnx.fx_node"), *q_text = ckpt_node_property(q, "pkg.torch.onnx.fx_node");
    if (!p_text || !q_text || strnlen(p_text, MOST_TEXT + 1) > MOST_TEXT || strnlen(q_text, MOST_TEXT + 1) > MOST_TEXT ||
        !next_token(p_text) || !next_token(q_text) || a->compared > MOST_COMPARED)
        return UNKNOWN;
    for (const char *t = next_token(p_text); t; t = next_token(t + 1))
        for (const char *u = next_token(q_text); u; u = next_token(u + 1), a->compared++)
            if (token_length(t) == token_length(u) && memcmp(t, u, token_length(t)) == 0) return SAME;
    return DIFFERENT;
}

static size_t path_length(const Onnx__NodeProto *node) {
    const char *end = node->name ? strrchr(node->name, '/') : NULL;
    return end && end != node->name ? (size_t)(end - node->name) : 0;
}

/* The path in front of a name like "/encoder/norm1/Mul" is the module's. */
static verdict by_path(const Onnx__NodeProto *p, const Onnx__NodeProto *q) {
    const size_t p_length = path_length(p), q_length = path_length(q);
    if (!p_length || !q_length) return UNKNOWN;
    return p_length == q_length && memcmp(p->name, q->name, p_length) == 0 ? SAME : DIFFERENT;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Whether the modules of two nodes are entries of one list: their paths are the same but for numbers. A module that is
 * called again keeps its one path, so these are copies of a layer, which start with equal weights. */
static bool in_one_list(const Onnx__NodeProto *p, const Onnx__NodeProto *q) {
    if (by_path(p, q) != DIFFERENT) return false;
    const char *x = p->name, *y = q->name, *x_end = x + path_length(p), *y_end = y + path_length(q);
    while (x < x_end && y < y_end) {
        if (is_digit(*x) && is_digit(*y)) {
            while (x < x_end && is_digit(*x)) x++;
            while (y < y_end && is_digit(*y)) y++;
        } else if (*x++ != *y++) {
            return false;
        }
    }
    return x == x_end && y == y_end;
}

/* Whether two readers are calls of one module: as the exporter says or, where it does not, because the same weight
 * matrix is above both, or below both. */
static bool same_module(audit *a, const place *p, const place *q) {
    const Onnx__NodeProto *p_node = a->graph->node[p->node], *q_node = a->graph->node[q->node];
    verdict v = by_parameters(a, p_node, q_node);
    /* torch.onnx's older exporter puts an Identity where it merges, and none where a module is called again. */
    const char *producer = a->file->model->producer_name;
    if (v == UNKNOWN && p->through < 0 && q->through < 0 && producer && strcmp(producer, "pytorch") == 0 &&
        !p_node->n_metadata_props)
        v = SAME;
    if (v == UNKNOWN) v = by_path(p_node, q_node);
    if (v == SAME && p->through != q->through) v = DIFFERENT; /* two names in one module: two parameters */
    if (v != UNKNOWN) return v == SAME;
    return (p->up >= 0 && p->up == q->up) || (p->down >= 0 && p->down == q->down);
}

/* --- what the file says each node was written with --------------------------------------------------------- */

/* The length of the name behind the '%' at `text`. */
static size_t value_length(const char *text) {
    size_t n = 1;
    while (text[n] == '_' || (text[n] >= '0' && text[n] <= '9') || ((text[n] | 32) >= 'a' && (text[n] | 32) <= 'z')) n++;
    return n - 1;
}

/* The tensor that the initializer is, or was computed from, as the program knew it; or -1. */
static int own_identity(const audit *a, int weight) {
    const ckpt_said_tensor *said = ckpt_provenance_find(a->said, a->graph->initializer[weight]->name);
    if (said && said->origin) said = ckpt_provenance_find(a->said, said->origin);
    return said && said->kind != CKPT_SAID_NOTHING ? (int)(said - a->said->tensor) : -1;
}

static ckpt_status find_represented(audit *a) {
    a->represented = ckpt_pool_array(a->pool, a->said->count + 1, bool);
    if (!a->represented) return fail_memory(a);
    for (size_t i = 0; i < a->graph->n_initializer; i++) {
        const int own = a->graph->initializer[i]->name ? own_identity(a, (int)i) : -1;
        if (own >= 0) a->represented[own] = true;
    }
    return CKPT_OK;
}

/* Whether a node of the file makes the value. */
static bool is_made(const audit *a, const char *name) {
    const entry *e = find(a, name);
    return e->name && e->maker >= 0;
}

/* The tensors in the text of a call, "%out : [...] = call_function[...](args = (%x, %p_norm_weight), ...)", that the
 * initializer may stand for: itself, and those that the file has no longer. Sets *opaque where the call reads a value that
 * nothing is known of, as a view of a parameter may be. */
static int candidates(const audit *a, const char *text, int own, int list[MOST_INPUTS], bool *opaque) {
    int count = 0;
    *opaque = false;
    for (const char *at = strchr(text + 1, '%'); at; at = strchr(at + 1, '%')) {
        const size_t length = value_length(at);
        char name[256];
        if (length == 0 || length >= sizeof name) continue;
        memcpy(name, at + 1, length);
        name[length] = 0;
        const ckpt_said_tensor *said = ckpt_provenance_find_fx(a->said, name, length);
        const int index = said ? (int)(said - a->said->tensor) : -1;
        if (said && said->kind != CKPT_SAID_NOTHING) {
            const bool possible = own == EVERY_TENSOR || index == own || !a->represented[index];
            if (possible && count < MOST_INPUTS) list[count++] = index;
        } else if (!said && !is_made(a, name)) {
            *opaque = true;
        }
    }
    return count;
}

/* Whether argument `position` of the call is None. */
static bool is_none(const char *text, int position) {
    const char *at = strstr(text, "(args = (");
    for (at = at ? at + strlen("(args = (") : NULL; at && position > 0; position--) {
        at = strchr(at, ',');
        if (at) at += 1 + strspn(at + 1, " ");
    }
    return at && strncmp(at, "None", 4) == 0;
}

/* The scale and shift that an exporter writes where the module has none: of a spelled-out group normalization, and of a batch
 * normalization, whose call has them behind its input. */
static bool is_dummy(const audit *a, const place *p, const char *text) {
    const Onnx__NodeProto *node = a->graph->node[p->node];
    if (is_op(node, "InstanceNormalization")) return strstr(text, ".group_norm.") != NULL;
    return is_op(node, "BatchNormalization") && p->part && is_none(text, p->part);
}

/* All places of one call in the order of its nodes, but for dummies. Returns the rank of `p` among the others. */
static int rank_in_call(audit *a, const place *p, const char *text, int *members) {
    int rank = 0;
    *members = 0;
    for (int k = 0; k < a->place_count; k++) {
        const place *q = &a->place[k];
        if (q->call != p->call) continue;
        if (is_dummy(a, q, text)) continue;
        ++*members;
        rank += q->node < p->node || (q->node == p->node && q->input < p->input);
    }
    a->compared += a->place_count;
    return rank;
}

/* The tensors in the text of a call that the file says are parameters or buffers, in its order. */
static int tokens_of(const audit *a, const char *text, int list[MOST_INPUTS]) {
    bool opaque;
    return candidates(a, text, EVERY_TENSOR, list, &opaque);
}

/* What a place stands for. The places of a call take its tensors in turn where there are as many: weight before bias,
 * scale before shift; a product with the bias in front is the exception. Otherwise the initializer's own place, or the
 * only tensor of the call that the file has no longer. */
static int identity_of(audit *a, const place *p, int own) {
    const char *text = call_text(a->graph->node[p->node]);
    int list[MOST_INPUTS], members;
    bool opaque;
    if (!text || a->compared > MOST_COMPARED) return UNKNOWN_TENSOR;
    if (is_dummy(a, p, text)) return NO_PARAMETER;
    const int rank = rank_in_call(a, p, text, &members), tokens = tokens_of(a, text, list);
    if (tokens == members && !strstr(text, "addmm") && !strstr(text, "baddbmm") &&
        (list[rank] == own || !a->represented[list[rank]]))
        return list[rank];
    const int found = candidates(a, text, own, list, &opaque);
    bool one = found > 0;
    for (int k = 1; k < found; k++) one &= list[k] == list[0];
    if (one) return list[0];
    return found || opaque ? UNKNOWN_TENSOR : NO_PARAMETER;
}

/* Numbers the groups by what the file says: 0 is the initializer itself, with all that nothing is known of. It may have no
 * reader, where an exporter's constant stands for a parameter. */
static int group_by_file(audit *a, place *p, int count) {
    const int own = own_identity(a, p->weight);
    int groups = 1;
    for (int i = 0; i < count; i++) p[i].identity = identity_of(a, &p[i], own);
    for (int i = 0; i < count; i++) {
        const bool itself = p[i].identity == UNKNOWN_TENSOR || p[i].identity == own; /* NO_PARAMETER where it is none */
        p[i].group = itself ? 0 : -1;
        for (int j = 0; j < i && p[i].group < 0; j++)
            if (p[j].identity == p[i].identity) p[i].group = p[j].group;
        if (p[i].group < 0) p[i].group = groups++;
    }
    return groups;
}

/* One value throughout: what initialization leaves, and training does not. */
static ckpt_status is_fresh(const audit *a, int weight, bool *fresh, float *value) {
    const Onnx__TensorProto *proto = a->graph->initializer[weight];
    ckpt_onnx_tensor_info info;
    *fresh = false;
    CKPT_TRY(ckpt_onnx_tensor_describe(a->file, proto, &info, a->err));
    if (info.count == 0 || info.count > MOST_FRESH) return CKPT_OK;
    float *values = malloc(info.count * sizeof *values);
    if (!values) return fail_memory(a);
    const ckpt_status status = ckpt_onnx_tensor_read_f32(a->file, proto, values, info.count, a->err);
    *fresh = status == CKPT_OK;
    for (size_t i = 1; i < info.count && *fresh; i++) *fresh = values[i] == values[0];
    *value = values[0];
    free(values);
    return status;
}

enum grouping { BY_NAME, BY_LIST, BY_MODULE };

/* Whether two places cannot be meant to share a weight, whatever its values. */
static bool are_apart(const audit *a, const place *p, const place *q, enum grouping how) {
    if (p->moved != q->moved || (p->part && q->part && p->part != q->part)) return true;
    return how != BY_NAME && in_one_list(a->graph->node[p->node], a->graph->node[q->node]);
}

/* Numbers the groups of the places of one weight, the first place's 0; returns how many. A scale and a running variance
 * change by different rules, so they are never one, not in one node either. */
static int group_places(audit *a, place *p, int count, enum grouping how) {
    int groups = 0;
    for (int i = 0; how == BY_MODULE && i < count; i++) {
        p[i].up = nearest_matrix(a, p[i].node, above);
        p[i].down = nearest_matrix(a, p[i].node, below);
    }
    for (int i = 0; i < count; i++) {
        p[i].group = -1;
        for (int j = 0; j < i && p[i].group < 0; j++) {
            if (are_apart(a, &p[i], &p[j], how)) continue;
            const bool one_name = (p[i].through >= 0 && p[i].through == p[j].through) || p[i].node == p[j].node;
            if (one_name || how == BY_LIST || (how == BY_MODULE && same_module(a, &p[i], &p[j]))) p[i].group = p[j].group;
        }
        if (p[i].group < 0) p[i].group = groups++;
    }
    return groups;
}

/* --- taking apart ------------------------------------------------------------------------------------------ */

/* *next: the first number to try; those before it are taken. */
static const char *free_name(const audit *a, const char *name, int *next) {
    for (;;) {
        const char *text = ckpt_pool_printf(a->pool, "%s_%d", name, (*next)++);
        if (!text || !find(a, text)->name) return text;
    }
}

/* The name of a new initializer for the places of `group`: the one that its Identity has, which is left without a reader; the
 * one that the program knew it by, where its values lie as they did there; or one that is free. */
static const char *name_group(audit *a, const place *p, int count, int group, int *next, bool *removed) {
    const char *old = a->graph->initializer[p->weight]->name;
    const ckpt_said_tensor *said = ckpt_provenance_find(a->said, old);
    for (int i = 0; i < count; i++) {
        if (p[i].group != group) continue;
        if (p[i].through >= 0) {
            removed[p[i].through] = true;
            return a->graph->node[p[i].through]->output[0];
        }
        const char *known = p[i].identity >= 0 && !(said && said->folded_from) ? a->said->tensor[p[i].identity].name : NULL;
        if (known && !find(a, known)->name) return known;
    }
    return free_name(a, old, next);
}

/* Gives the places of `group` an initializer of their own, and notes what it is. */
static ckpt_status split_group(audit *a, place *p, int count, int group, int *next, bool *removed) {
    const ckpt_said_tensor *old = ckpt_provenance_find(a->said, a->graph->initializer[p->weight]->name);
    ckpt_said_kind kind = old ? old->kind : CKPT_SAID_NOTHING;
    const char *name = name_group(a, p, count, group, next, removed);
    if (!name) return fail_memory(a);
    enter(a, name);
    CKPT_TRY(ckpt_onnx_copy_initializer(a->file, (size_t)p[0].weight, name, a->err));
    for (int i = 0; i < count; i++) {
        if (p[i].group != group) continue;
        if (a->said->speaks && p[i].identity == NO_PARAMETER) kind = CKPT_SAID_CONSTANT;
        if (p[i].identity >= 0) kind = a->said->tensor[p[i].identity].kind;
        CKPT_TRY(ckpt_onnx_set_input(a->file, (size_t)p[i].node, (size_t)p[i].input, name, a->err));
    }
    return a->said->speaks ? ckpt_provenance_note(a->said, name, kind, a->err) : CKPT_OK;
}

/* Whether one of the places is read as what is trained or moved: constants may share as they like. */
static bool matters(const audit *a, const place *p, int count) {
    const int own = own_identity(a, p->weight);
    bool any = own >= 0 && a->said->tensor[own].kind == CKPT_SAID_PARAMETER;
    for (int i = 0; i < count; i++)
        any |= p[i].moved || (p[i].identity >= 0 && a->said->tensor[p[i].identity].kind == CKPT_SAID_PARAMETER);
    return any;
}

static const char *reason_of(const ckpt_tie *tie, ckpt_untie how, bool many, bool said, bool fresh, bool mixed, float value) {
    if (how == CKPT_UNTIE_NONE) return "as --untie none says";
    if (many) return "it has more readers than are taken apart";
    if (how == CKPT_UNTIE_ALL) return "as --untie all says";
    if (said)
        return tie->copies == 1 ? "the file says that its readers share it" : "the file says that its readers do not share it";
    if (!fresh) return "its values are not those of a fresh weight";
    if (mixed) return "all its values are equal, and it is a weight and a running statistic";
    if (tie->copies == 1) return "its readers belong to one module that is called again";
    return value == 1   ? "all its values are 1, and its readers belong to different modules"
           : value == 0 ? "all its values are 0, and its readers belong to different modules"
                        : "all its values are equal, and its readers belong to different modules";
}

static ckpt_status resolve_weight(audit *a, place *p, int count, bool *removed, ckpt_tie_report *report) {
    const ckpt_untie how = a->question->how;
    bool fresh = false, mixed = false, listed = false, parted = false;
    float value = 0;
    const bool many = count > MOST_READERS || report->copies + count > MOST_COPIES;
    const int readers = many ? count : group_places(a, p, count, BY_NAME);
    for (int i = 0; i < count; i++) p[i].identity = UNKNOWN_TENSOR;
    const bool said = !many && how == CKPT_UNTIE_AUTO && a->said->speaks;
    int groups = said ? group_by_file(a, p, count) : 1;
    if (said && !matters(a, p, count)) return CKPT_OK;
    bool known = said;
    for (int i = 0; i < count; i++) known &= p[i].identity != UNKNOWN_TENSOR;
    if (readers < 2 && groups < 2) return CKPT_OK;
    if (groups < 2 && !known) {
        if (how == CKPT_UNTIE_AUTO) CKPT_TRY(is_fresh(a, p->weight, &fresh, &value));
        for (int i = 1; i < count; i++) listed |= in_one_list(a->graph->node[p[0].node], a->graph->node[p[i].node]);
        for (int i = 1; i < count; i++) parted |= p[i].part && p[0].part && p[i].part != p[0].part;
        const bool apart = !many && (how == CKPT_UNTIE_ALL || (how == CKPT_UNTIE_AUTO && (fresh || listed || parted)));
        const enum grouping grouping = how == CKPT_UNTIE_ALL ? BY_NAME : fresh ? BY_MODULE : BY_LIST;
        groups = apart ? group_places(a, p, count, grouping) : 1;
    }
    for (int i = 1; i < count; i++) mixed |= p[i].moved != p[0].moved;
    ckpt_tie *tie = &report->tie[report->count++];
    *tie = (ckpt_tie){.name = ckpt_pool_strdup(a->pool, a->graph->initializer[p->weight]->name),
                      .readers = readers > groups ? readers : groups,
                      .copies = groups};
    if (!tie->name) return fail_memory(a);
    const bool by_file = known || (said && groups > 1 && !fresh && !listed && !parted);
    tie->reason = reason_of(tie, how, many, by_file, fresh, mixed, value);
    if (groups > 1 && !by_file && !fresh && how == CKPT_UNTIE_AUTO)
        tie->reason = parted ? "it scales and shifts in one normalization" : "its readers are copies of one module";
    for (int g = 1, next = 2; g < groups; g++) CKPT_TRY(split_group(a, p, count, g, &next, removed));
    report->copies += groups - 1;
    return CKPT_OK;
}

static ckpt_status resolve_all(audit *a, ckpt_tie_report *report) {
    bool *removed = ckpt_pool_array(a->pool, a->graph->n_node + 1, bool);
    report->tie = ckpt_pool_array(a->pool, a->graph->n_initializer + 1, ckpt_tie);
    if (!removed || !report->tie) return fail_memory(a);
    for (int i = 0, end; i < a->place_count; i = end) {
        for (end = i + 1; end < a->place_count && a->place[end].weight == a->place[i].weight; end++) continue;
        if (end - i > 1 || a->said->speaks) CKPT_TRY(resolve_weight(a, &a->place[i], end - i, removed, report));
    }
    for (size_t n = a->graph->n_node; n-- > 0;)
        if (removed[n]) ckpt_onnx_remove_node(a->file, n);
    return CKPT_OK;
}

/* --- joining again ----------------------------------------------------------------------------------------- */

/* Whether the exporter computed `copy` from what `source` is as well. */
static bool is_computed_from(const audit *a, const ckpt_ruling *copy, const ckpt_ruling *source) {
    if (a->said->speaks)
        return copy->origin &&
               (strcmp(copy->origin, source->name) == 0 || (source->origin && strcmp(copy->origin, source->origin) == 0));
    return a->said->torch && strncmp(copy->name, "onnx::", 6) == 0 && strncmp(source->name, "onnx::", 6) != 0;
}

/* Whether the one is the other transposed, and not what any two fresh weights are. */
static ckpt_status is_transposed(const audit *a, const ckpt_tensor *x, const ckpt_tensor *y, bool *same) {
    *same = false;
    if (x->rank != 2 || y->rank != 2 || x->dim[0] != y->dim[1] || x->dim[1] != y->dim[0] || x->count < 2) return CKPT_OK;
    float *values = malloc(2 * (size_t)x->count * sizeof *values);
    if (!values) return fail_memory(a);
    float *other = values + x->count;
    ckpt_status status = ckpt_onnx_tensor_read_f32(a->file, x->source, values, (size_t)x->count, a->err);
    if (status == CKPT_OK) status = ckpt_onnx_tensor_read_f32(a->file, y->source, other, (size_t)y->count, a->err);
    bool differ = status != CKPT_OK, varied = false;
    for (int64_t i = 0; i < x->dim[0] && !differ; i++)
        for (int64_t j = 0; j < x->dim[1] && !differ; j++) {
            differ = values[i * x->dim[1] + j] != other[j * x->dim[0] + i];
            varied |= values[i * x->dim[1] + j] != values[0];
        }
    *same = !differ && varied;
    free(values);
    return status;
}

static ckpt_status join_copy(audit *a, const ckpt_ruling *copy, ckpt_tie_report *report) {
    const ckpt_tensor *tensor = a->question->graph->tensor;
    for (int i = 0; i < a->question->ruling_count; i++) {
        const ckpt_ruling *source = &a->question->ruling[i];
        bool same = false;
        if (source == copy || !source->initializer || !ckpt_verdict_trains(source->verdict) || source->count != copy->count ||
            !is_computed_from(a, copy, source))
            continue;
        CKPT_TRY(is_transposed(a, &tensor[copy->tensor], &tensor[source->tensor], &same));
        if (!same) continue;
        for (size_t k = 0; k < a->graph->n_initializer; k++) {
            if (a->graph->initializer[k] != tensor[copy->tensor].source) continue;
            report->join[report->join_count++] =
                (ckpt_join){ckpt_pool_strdup(a->pool, copy->name), ckpt_pool_strdup(a->pool, source->name)};
            if (!report->join[report->join_count - 1].name || !report->join[report->join_count - 1].source) return fail_memory(a);
            return ckpt_onnx_transpose_instead(a->file, k, source->name, a->err);
        }
    }
    return CKPT_OK;
}

static ckpt_status join_copies(audit *a, ckpt_tie_report *report) {
    report->join = ckpt_pool_array(a->pool, a->question->ruling_count + 1, ckpt_join);
    if (!report->join) return fail_memory(a);
    for (int i = 0; i < a->question->ruling_count; i++) {
        const ckpt_ruling *r = &a->question->ruling[i];
        if (r->initializer && ckpt_verdict_trains(r->verdict)) CKPT_TRY(join_copy(a, r, report));
    }
    return CKPT_OK;
}

ckpt_status ckpt_ties_resolve(ckpt_onnx_file *file, const ckpt_tie_question *question, ckpt_pool *pool, ckpt_tie_report *report,
                              ckpt_error *err) {
    audit a = {.file = file, .graph = file->model->graph, .pool = pool, .err = err, .question = question,
               .said = question->provenance};
    *report = (ckpt_tie_report){0};
    ckpt_name_key_make(&a.key);
    CKPT_TRY(enter_names(&a));
    CKPT_TRY(find_tensors(&a));
    CKPT_TRY(find_represented(&a));
    CKPT_TRY(find_places(&a));
    CKPT_TRY(resolve_all(&a, report));
    return question->how == CKPT_UNTIE_AUTO ? join_copies(&a, report) : CKPT_OK;
}
