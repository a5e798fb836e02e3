#include "import/provenance.h"

#include <string.h>

static ckpt_status no_memory(ckpt_error *err) { return ckpt_fail(err, CKPT_NOMEM, "out of host memory"); }

/* --- the table ------------------------------------------------------------------------------------------ */

static const char *key_of(const ckpt_provenance *p, const int *slots, int index) {
    return slots == p->by_fx ? p->tensor[index].fx : p->tensor[index].name;
}

static int *find_slot(const ckpt_provenance *p, int *slots, const char *name) {
    for (size_t h = (size_t)ckpt_name_hash(&p->key, name);; h++) {
        int *slot = &slots[h & (p->slot_count - 1)];
        if (!*slot || strcmp(key_of(p, slots, *slot - 1), name) == 0) return slot;
    }
}

static ckpt_status make_room(ckpt_provenance *p, ckpt_error *err) {
    if (p->count < p->capacity) return CKPT_OK;
    const int capacity = p->capacity ? 2 * p->capacity : 64;
    p->tensor = ckpt_pool_grow(p->pool, p->tensor, (size_t)p->count, (size_t)capacity, sizeof *p->tensor);
    p->slot_count = 4 * (size_t)capacity;
    p->by_name = ckpt_pool_array(p->pool, p->slot_count, int);
    p->by_fx = ckpt_pool_array(p->pool, p->slot_count, int);
    if (!p->tensor || !p->by_name || !p->by_fx) return no_memory(err);
    p->capacity = capacity;
    for (int i = 0; i < p->count; i++) {
        *find_slot(p, p->by_name, p->tensor[i].name) = i + 1;
        if (p->tensor[i].fx) *find_slot(p, p->by_fx, p->tensor[i].fx) = i + 1;
    }
    return CKPT_OK;
}

/* The entry of a name, made where there is none. */
static ckpt_status enter(ckpt_provenance *p, const char *name, int *index, ckpt_error *err) {
    CKPT_TRY(make_room(p, err));
    int *slot = find_slot(p, p->by_name, name);
    if (!*slot) {
        p->tensor[p->count] = (ckpt_said_tensor){.name = name};
        *slot = ++p->count;
    }
    *index = *slot - 1;
    return CKPT_OK;
}

static void set_fx(ckpt_provenance *p, int index, const char *fx) {
    int *slot = find_slot(p, p->by_fx, fx);
    if (*slot || p->tensor[index].fx) return; /* the first that has the name keeps it */
    p->tensor[index].fx = fx;
    *slot = index + 1;
}

const ckpt_said_tensor *ckpt_provenance_find(const ckpt_provenance *p, const char *name) {
    if (!p->count || !name) return NULL;
    const int *slot = find_slot(p, p->by_name, name);
    return *slot ? &p->tensor[*slot - 1] : NULL;
}

const ckpt_said_tensor *ckpt_provenance_find_fx(const ckpt_provenance *p, const char *fx, size_t length) {
    char name[256];
    if (!p->count || length >= sizeof name) return NULL;
    memcpy(name, fx, length);
    name[length] = 0;
    const int *slot = find_slot(p, p->by_fx, name);
    return *slot ? &p->tensor[*slot - 1] : NULL;
}

ckpt_status ckpt_provenance_note(ckpt_provenance *p, const char *name, ckpt_said_kind kind, ckpt_error *err) {
    int index;
    const char *copy = ckpt_pool_strdup(p->pool, name);
    if (!copy) return no_memory(err);
    CKPT_TRY(enter(p, copy, &index, err));
    p->tensor[index].kind = kind;
    return CKPT_OK;
}

/* --- what is read --------------------------------------------------------------------------------------- */

static const char *find_property(size_t count, Onnx__StringStringEntryProto *const *props, const char *key) {
    for (size_t i = 0; i < count; i++)
        if (props[i]->key && props[i]->value && strcmp(props[i]->key, key) == 0) return props[i]->value;
    return NULL;
}

const char *ckpt_node_property(const Onnx__NodeProto *node, const char *key) {
    return find_property(node->n_metadata_props, node->metadata_props, key);
}

static ckpt_said_kind kind_of(const char *word, size_t length) {
    static const struct {
        const char *word;
        ckpt_said_kind kind;
    } words[] = {{"PARAMETER", CKPT_SAID_PARAMETER}, {"BUFFER", CKPT_SAID_BUFFER}, {"CONSTANT_TENSOR", CKPT_SAID_CONSTANT}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i].word) == length && memcmp(words[i].word, word, length) == 0) return words[i].kind;
    return CKPT_SAID_NOTHING;
}

/* "p_fc_weight: PARAMETER target='fc.weight'", "x: USER_INPUT": one line of the signature. */
static ckpt_status read_line(ckpt_provenance *p, const char *line, size_t length, ckpt_error *err) {
    static const char target[] = " target='";
    const char *end = line + length, *colon = memchr(line, ':', length);
    if (!colon || colon == line || end - colon < 3) return CKPT_OK;
    const char *word = colon + 2, *space = memchr(word, ' ', (size_t)(end - word));
    const ckpt_said_kind kind = kind_of(word, (size_t)((space ? space : end) - word));
    const char *fx = ckpt_pool_strndup(p->pool, line, (size_t)(colon - line)), *name = fx;
    if (!fx) return no_memory(err);
    const size_t prefix = sizeof target - 1;
    if (space && (size_t)(end - space) > prefix && memcmp(space, target, prefix) == 0) {
        const char *from = space + prefix, *quote = memchr(from, '\'', (size_t)(end - from));
        if (!quote) return CKPT_OK;
        name = ckpt_pool_strndup(p->pool, from, (size_t)(quote - from));
        if (!name) return no_memory(err);
    }
    int index;
    CKPT_TRY(enter(p, name, &index, err));
    if (kind != CKPT_SAID_NOTHING) p->tensor[index].kind = kind;
    set_fx(p, index, fx);
    return CKPT_OK;
}

static ckpt_status read_signature(ckpt_provenance *p, const char *text, ckpt_error *err) {
    for (const char *line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        CKPT_TRY(read_line(p, line, strcspn(line, "\n"), err));
        if (!*line) break;
    }
    return CKPT_OK;
}

static ckpt_status read_value_info(ckpt_provenance *p, const Onnx__ValueInfoProto *info, ckpt_error *err) {
    const char *kind = find_property(info->n_metadata_props, info->metadata_props,
                                     "pkg.torch.export.graph_signature.InputSpec.kind");
    const char *fx = find_property(info->n_metadata_props, info->metadata_props, "pkg.torch.onnx.original_node_name");
    const char *folded = find_property(info->n_metadata_props, info->metadata_props, "pkg.onnxscript.optimizer.folded_from");
    int index;
    if (!info->name || (!kind && !folded)) return CKPT_OK;
    CKPT_TRY(enter(p, info->name, &index, err));
    if (kind && kind_of(kind, strlen(kind))) p->tensor[index].kind = kind_of(kind, strlen(kind));
    if (fx) set_fx(p, index, fx);
    p->tensor[index].folded_from = folded;
    return CKPT_OK;
}

/* A tensor that was folded is what the best known of its sources is: a parameter if one is. */
static void judge_folded(ckpt_provenance *p, ckpt_said_tensor *t) {
    if (!t->folded_from || t->kind != CKPT_SAID_NOTHING) return;
    t->kind = CKPT_SAID_CONSTANT;
    for (const char *at = t->folded_from, *end; (at = strchr(at, '\'')) && (end = strchr(at + 1, '\'')); at = end + 1) {
        char name[512];
        const size_t length = (size_t)(end - at - 1);
        if (length >= sizeof name) continue;
        memcpy(name, at + 1, length);
        name[length] = 0;
        const ckpt_said_tensor *source = ckpt_provenance_find(p, name);
        if (!source || source == t || source->folded_from) continue;
        if (source->kind == CKPT_SAID_PARAMETER) {
            t->kind = CKPT_SAID_PARAMETER;
            t->origin = source->name;
            return;
        }
        if (source->kind == CKPT_SAID_BUFFER) t->kind = CKPT_SAID_BUFFER;
    }
}

ckpt_status ckpt_provenance_read(const ckpt_onnx_file *file, ckpt_pool *pool, ckpt_provenance *p, ckpt_error *err) {
    const Onnx__GraphProto *graph = file->model->graph;
    const char *producer = file->model->producer_name;
    *p = (ckpt_provenance){.pool = pool, .torch = producer && strcmp(producer, "pytorch") == 0};
    ckpt_name_key_make(&p->key);
    const char *signature = find_property(graph->n_metadata_props, graph->metadata_props,
                                          "pkg.torch.export.ExportedProgram.graph_signature");
    if (signature) CKPT_TRY(read_signature(p, signature, err));
    for (size_t i = 0; i < graph->n_value_info; i++) CKPT_TRY(read_value_info(p, graph->value_info[i], err));
    for (int i = 0; i < p->count; i++)
        p->speaks |= p->tensor[i].kind == CKPT_SAID_PARAMETER || p->tensor[i].kind == CKPT_SAID_BUFFER;
    for (int i = 0; i < p->count && p->speaks; i++) judge_folded(p, &p->tensor[i]);
    return CKPT_OK;
}

bool ckpt_provenance_is_code_constant(const ckpt_provenance *p, const char *name) {
    static const char word[] = "/Constant", tail[] = "_output_0";
    const char *last = p->torch ? strrchr(name, '/') : NULL;
    if (!last || strncmp(last, word, sizeof word - 1) != 0) return false;
    last += sizeof word - 1;
    if (*last == '_' && last[1] >= '0' && last[1] <= '9') last += 1 + strspn(last + 1, "0123456789");
    return strcmp(last, tail) == 0;
}
