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
    int up, down; /* the nearest weight matrix above and below the node, or -1 */
} place;

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
    int *tensor; /* by initializer: the PARAM tensor that it became, or -1 */
    const ckpt_graph *imported;
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

static ckpt_status find_tensors(audit *a) {
    a->tensor = ckpt_pool_array(a->pool, a->graph->n_initializer + 1, int);
    if (!a->tensor) return fail_memory(a);
    for (size_t i = 0; i < a->graph->n_initializer; i++) a->tensor[i] = -1;
    for (int t = 0; t < a->imported->tensor_count; t++) {
        const ckpt_tensor *tensor = &a->imported->tensor[t];
        if (!ckpt_tensor_is_saved(tensor)) continue;
        const entry *e = find(a, tensor->name);
        if (e->name && e->weight >= 0 && a->graph->initializer[e->weight] == tensor->source) a->tensor[e->weight] = t;
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
        if (e && e->weight >= 0 && a->tensor[e->weight] >= 0 && a->imported->tensor[a->tensor[e->weight]].rank >= 2)
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

static const char *property(const Onnx__NodeProto *node, const char *key) {
    for (size_t i = 0; i < node->n_metadata_props; i++) {
        const Onnx__StringStringEntryProto *prop = node->metadata_props[i];
        if (prop->key && prop->value && strcmp(prop->key, key) == 0) return prop->value;
    }
    return NULL;
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
    const char *p_text = property(p, "pkg.torch.onnx.fx_node"), *q_text = property(q, "pkg.torch.onnx.fx_node");
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

/* Gives the places of `group` an initializer of their own. An Identity that stood for it is left without a reader, and
 * gives its name away. */
static ckpt_status split_group(audit *a, place *p, int count, int group, int *next, bool *removed) {
    const char *name = NULL;
    for (int i = 0; i < count && !name; i++)
        if (p[i].group == group && p[i].through >= 0) {
            name = a->graph->node[p[i].through]->output[0];
            removed[p[i].through] = true;
        }
    const char *old = a->graph->initializer[p[0].weight]->name;
    if (!name) name = free_name(a, old, next);
    if (!name) return fail_memory(a);
    enter(a, name);
    CKPT_TRY(ckpt_onnx_copy_initializer(a->file, (size_t)p[0].weight, name, a->err));
    for (int i = 0; i < count; i++)
        if (p[i].group == group)
            CKPT_TRY(ckpt_onnx_set_input(a->file, (size_t)p[i].node, (size_t)p[i].input, name, a->err));
    return CKPT_OK;
}

static ckpt_status resolve_weight(audit *a, place *p, int count, ckpt_untie how, bool *removed, ckpt_tie_report *report) {
    bool fresh = false;
    float value = 0;
    const bool many = count > MOST_READERS || report->copies + count > MOST_COPIES;
    const int readers = many ? count : group_places(a, p, count, false);
    if (readers < 2) return CKPT_OK;
    if (how == CKPT_UNTIE_AUTO) CKPT_TRY(is_fresh(a, p->weight, &fresh, &value));
    const bool apart = !many && (how == CKPT_UNTIE_ALL || (how == CKPT_UNTIE_AUTO && fresh));
    const int groups = apart ? group_places(a, p, count, how == CKPT_UNTIE_AUTO) : 1;
    bool mixed = false;
    for (int i = 1; i < count; i++) mixed |= p[i].moved != p[0].moved;
    ckpt_tie *tie = &report->tie[report->count++];
    *tie = (ckpt_tie){.name = a->graph->initializer[p->weight]->name, .readers = readers, .copies = groups};
    tie->reason = how == CKPT_UNTIE_NONE  ? "as --untie none says"
                  : many                  ? "it has more readers than are taken apart"
                  : how == CKPT_UNTIE_ALL ? "as --untie all says"
                  : !fresh                ? "its values are not those of a fresh weight"
                  : mixed                 ? "all its values are equal, and it is a weight and a running statistic"
                  : groups == 1           ? "its readers belong to one module that is called again"
                  : value == 1            ? "all its values are 1, and its readers belong to different modules"
                  : value == 0            ? "all its values are 0, and its readers belong to different modules"
                                          : "all its values are equal, and its readers belong to different modules";
    for (int g = 1, next = 2; g < groups; g++) CKPT_TRY(split_group(a, p, count, g, &next, removed));
    report->copies += groups - 1;
    return CKPT_OK;
}

static ckpt_status resolve_all(audit *a, ckpt_untie how, ckpt_tie_report *report) {
    bool *removed = ckpt_pool_array(a->pool, a->graph->n_node + 1, bool);
    report->tie = ckpt_pool_array(a->pool, a->graph->n_initializer + 1, ckpt_tie);
    if (!removed || !report->tie) return fail_memory(a);
    for (int i = 0, end; i < a->place_count; i = end) {
        for (end = i + 1; end < a->place_count && a->place[end].weight == a->place[i].weight; end++) continue;
        if (end - i > 1) CKPT_TRY(resolve_weight(a, &a->place[i], end - i, how, removed, report));
    }
    for (size_t n = a->graph->n_node; n-- > 0;)
        if (removed[n]) ckpt_onnx_remove_node(a->file, n);
    return CKPT_OK;
}

ckpt_status ckpt_ties_resolve(ckpt_onnx_file *file, const ckpt_graph *imported, ckpt_untie how, ckpt_pool *pool,
                              ckpt_tie_report *report, ckpt_error *err) {
    audit a = {.file = file, .graph = file->model->graph, .pool = pool, .err = err, .imported = imported};
    *report = (ckpt_tie_report){0};
    ckpt_name_key_make(&a.key);
    CKPT_TRY(enter_names(&a));
    CKPT_TRY(find_tensors(&a));
    CKPT_TRY(find_places(&a));
    return resolve_all(&a, how, report);
}
