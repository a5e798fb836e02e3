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
    int group;    /* places of a group stay together */
    int identity; /* of by_file: an index of provenance.tensor, or one of the below */
    int up, down; /* the nearest weight matrix above and below the node, or -1 */
} place;

enum { UNKNOWN_TENSOR = -2, NO_PARAMETER = -1 };

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
    if (e->name && e->weight >= 0 && a->graph->initializer[e->weight] == a->question->graph->tensor[t].source) a->tensor[e->weight] = t;
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
                        .moved = is_op(node, "BatchNormalization") && i > 2 ? (int)i : 0};
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

/* The path in front of a name like "/encoder/norm1/Mul" is the module's. */
static verdict by_path(const Onnx__NodeProto *p, const Onnx__NodeProto *q) {
    const char *p_end = p->name ? strrchr(p->name, '/') : NULL, *q_end = q->name ? strrchr(q->name, '/') : NULL;
    if (!p_end || !q_end || p_end == p->name || q_end == q->name) return UNKNOWN;
    const size_t p_length = (size_t)(p_end - p->name), q_length = (size_t)(q_end - q->name);
    return p_length == q_length && memcmp(p->name, q->name, p_length) == 0 ? SAME : DIFFERENT;
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
            if ((index == own || !a->represented[index]) && count < MOST_INPUTS) list[count++] = index;
        } else if (!said && find(a, name)->maker < 0) {
            *opaque = true;
        }
    }
    return count;
}

/* Sets the identity of the places of one weight. The places of one call take its candidates in turn: scale before bias,
 * weight before running variance. */
static void identify(audit *a, place *p, int count) {
    const int own = own_identity(a, p->weight);
    for (int i = 0; i < count; i++) p[i].identity = UNKNOWN_TENSOR;
    for (int i = 0; i < count; i++) {
        const char *text = ckpt_node_property(a->graph->node[p[i].node], "pkg.torch.onnx.fx_node");
        int list[MOST_INPUTS], same = 0, before = 0;
        bool opaque;
        if (!text || *text != '%' || strnlen(text, MOST_TEXT + 1) > MOST_TEXT || (a->compared += count) > MOST_COMPARED) continue;
        const int found = candidates(a, text, own, list, &opaque);
        for (int k = 0; k < count; k++) {
            const char *other = ckpt_node_property(a->graph->node[p[k].node], "pkg.torch.onnx.fx_node");
            if (!other || strcmp(other, text) != 0) continue;
            before += k < i;
            same++;
        }
        bool one = found > 1;
        for (int k = 1; k < found; k++) one &= list[k] == list[0];
        if (one) p[i].identity = list[0];
        else if (found == 1) p[i].identity = before == 0 || p[i].node != p[i - 1].node ? list[0] : NO_PARAMETER;
        else if (found > 1) p[i].identity = same == found ? list[before] : UNKNOWN_TENSOR;
        else if (!opaque) p[i].identity = NO_PARAMETER;
    }
}

/* Numbers the groups by what the file says: 0 is the initializer itself, with all that nothing is known of. It may have no
 * reader, where an exporter's constant stands for a parameter. */
static int group_by_file(audit *a, place *p, int count) {
    const int own = own_identity(a, p->weight);
    int groups = 1;
    identify(a, p, count);
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

/* Numbers the groups of the places of one weight, the first place's 0; returns how many. A scale and a running variance
 * change by different rules, so they are never one, not in one node either. */
static int group_places(audit *a, place *p, int count, bool by_module) {
    int groups = 0;
    for (int i = 0; by_module && i < count; i++) {
        p[i].up = nearest_matrix(a, p[i].node, above);
        p[i].down = nearest_matrix(a, p[i].node, below);
    }
    for (int i = 0; i < count; i++) {
        p[i].group = -1;
        for (int j = 0; j < i && p[i].group < 0; j++) {
            if (p[i].moved != p[j].moved) continue;
            const bool one_name = (p[i].through >= 0 && p[i].through == p[j].through) || p[i].node == p[j].node;
            if (one_name || (by_module && same_module(a, &p[i], &p[j]))) p[i].group = p[j].group;
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

static const char *reason_of(const ckpt_tie *tie, ckpt_untie how, bool many, bool said, bool fresh, bool mixed, float value) {
    if (how == CKPT_UNTIE_NONE) return "as --untie none says";
    if (many) return "it has more readers than are taken apart";
    if (how == CKPT_UNTIE_ALL) return "as --untie all says";
    if (said) return tie->copies == 1 ? "the file says that its readers share it" : "the file says that its readers do not share it";
    if (!fresh) return "its values are not those of a fresh weight";
    if (mixed) return "all its values are equal, and it is a weight and a running statistic";
    if (tie->copies == 1) return "its readers belong to one module that is called again";
    return value == 1   ? "all its values are 1, and its readers belong to different modules"
           : value == 0 ? "all its values are 0, and its readers belong to different modules"
                        : "all its values are equal, and its readers belong to different modules";
}

static ckpt_status resolve_weight(audit *a, place *p, int count, bool *removed, ckpt_tie_report *report) {
    const ckpt_untie how = a->question->how;
    bool fresh = false, mixed = false;
    float value = 0;
    const bool many = count > MOST_READERS || report->copies + count > MOST_COPIES;
    const int readers = many ? count : group_places(a, p, count, false);
    for (int i = 0; i < count; i++) p[i].identity = UNKNOWN_TENSOR;
    const bool said = !many && how == CKPT_UNTIE_AUTO && a->said->speaks;
    int groups = said ? group_by_file(a, p, count) : 1;
    bool known = said;
    for (int i = 0; i < count; i++) known &= p[i].identity != UNKNOWN_TENSOR;
    if (readers < 2 && groups < 2) return CKPT_OK;
    if (groups < 2 && !known) {
        if (how == CKPT_UNTIE_AUTO) CKPT_TRY(is_fresh(a, p->weight, &fresh, &value));
        const bool apart = !many && (how == CKPT_UNTIE_ALL || (how == CKPT_UNTIE_AUTO && fresh));
        groups = apart ? group_places(a, p, count, how == CKPT_UNTIE_AUTO) : 1;
    }
    for (int i = 1; i < count; i++) mixed |= p[i].moved != p[0].moved;
    ckpt_tie *tie = &report->tie[report->count++];
    *tie = (ckpt_tie){.name = a->graph->initializer[p->weight]->name, .readers = readers > groups ? readers : groups, .copies = groups};
    tie->reason = reason_of(tie, how, many, known || (said && groups > 1 && !fresh), fresh, mixed, value);
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
    return resolve_all(&a, report);
}
