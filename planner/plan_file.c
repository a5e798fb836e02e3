#include "planner/plan_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "planner/check/check.h"

static const char schema[] = "ckptplan-file/4";

/* Whole numbers of a plan, by the object that they are in: one list for the writer and for the reader. */
#define HEAD_FIELDS(X) X(alignment_bytes) X(input_stride_bytes) X(persistent_bytes)
#define MEMORY_FIELDS(X)                                                                                     \
    X(total)                                                                                                 \
    X(parameters) X(constants) X(optimizer) X(gradients) X(inputs) X(workspace) X(arena) X(live_peak)        \
        X(eval_arena) X(eval_live_peak)
#define COMPUTE_FIELDS(X) X(forward_flops) X(backward_flops) X(recompute_flops) X(step_cost) X(recompute_cost)
#define COUNT(name) +1
enum {
    TOP_FIELDS = 13 HEAD_FIELDS(COUNT), /* texts, objects and lists besides */
    MEMORY_FIELD_COUNT = 0 MEMORY_FIELDS(COUNT),
    COMPUTE_FIELD_COUNT = 1 COMPUTE_FIELDS(COUNT)
};
#undef COUNT

/* --- writing --- */

/* A number, or NULL where JSON's signed 64 bits do not hold it. UINT64_MAX stands for none. */
static json_t *number(uint64_t value) {
    if (value == UINT64_MAX) return json_integer(-1);
    return value <= INT64_MAX ? json_integer((json_int_t)value) : NULL;
}

/* Every put takes its value over, and fails when that is NULL. */
static bool put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}
static bool push(json_t *array, json_t *value) {
    return json_array_append_new(array, value) == 0;
}

/* Instance ids up to the last that is one. */
static json_t *id_list(const int *id, int room) {
    json_t *list = json_array();
    while (room > 0 && id[room - 1] < 0) room--;
    for (int i = 0; i < room; i++)
        if (!push(list, json_integer(id[i]))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static bool fill_arrays(const ckpt_plan *p, json_t *steps, json_t *instances, json_t *offsets,
                        json_t *layers) {
    bool ok = true;
    for (int s = 0; ok && s < p->step_count; s++) {
        json_t *step = json_array();
        ok = push(step, json_integer(p->step[s].node)) && push(step, json_boolean(p->step[s].recompute)) &&
             push(step, id_list(p->step[s].in, p->step[s].in_count)) &&
             push(step, id_list(p->step[s].out, CKPT_MAX_OUT));
        ok &= push(steps, step);
    }
    for (int k = 0; ok && k < p->instance_count; k++) {
        const ckpt_instance *x = &p->instance[k];
        json_t *instance = json_array();
        ok = push(instance, json_integer(x->tensor)) && push(instance, json_integer(x->first)) &&
             push(instance, json_integer(x->end)) && push(instance, number(x->offset)) &&
             push(instance, number(x->bytes)) && push(instance, json_integer(x->reuses));
        ok &= push(instances, instance);
    }
    for (int t = 0; ok && t < p->tensor_count; t++) ok = push(offsets, number(p->persistent_offset[t]));
    for (int i = 0; ok && i < p->layer_count; i++) ok = push(layers, json_boolean(p->layer_recomputed[i]));
    return ok;
}

/* FLOPs are the graph's own: only other costs are listed. */
static json_t *costs_object(const ckpt_costs *costs) {
    json_t *object = json_object(), *list = json_array();
    bool ok = put(object, "unit", json_string(ckpt_cost_unit_name(costs->unit))) &&
              put(object, "source", json_string(costs->source));
    for (int n = 0; ok && costs->unit != CKPT_COST_FLOPS && n < costs->count; n++) ok = push(list, number(costs->node[n]));
    ok &= put(object, "node", list);
    if (ok) return object;
    json_decref(object);
    return NULL;
}

static bool fill_document(const ckpt_plan *p, json_t *root) {
    json_t *memory = json_object(), *compute = json_object(), *bound = json_object();
    json_t *steps = json_array(), *instances = json_array(), *offsets = json_array(), *layers = json_array();
    bool ok =
        put(root, "schema", json_string(schema)) && put(root, "graph_hash", json_string(p->graph_hash)) &&
        put(root, "strategy", json_string(p->strategy)) && put(root, "device", json_string(p->device)) &&
        put(root, "input_buffers", json_integer(p->input_buffers));
#define X(name) ok = ok && put(root, #name, number(p->name));
    HEAD_FIELDS(X)
#undef X
#define X(name) ok = ok && put(memory, #name, number(p->memory.name));
    MEMORY_FIELDS(X)
#undef X
#define X(name) ok = ok && put(compute, #name, number(p->compute.name));
    COMPUTE_FIELDS(X)
#undef X
    ok = ok && put(compute, "recomputed_nodes", json_integer(p->compute.recomputed_nodes)) &&
         put(bound, "proved", json_boolean(p->bound.proved)) &&
         put(bound, "lower_bound_cost", number(p->bound.lower_bound_cost)) &&
         put(bound, "lower_bound_flops", number(p->bound.lower_bound_flops)) && put(root, "costs", costs_object(&p->costs)) &&
         fill_arrays(p, steps, instances, offsets, layers);
    ok &= put(root, "memory", memory);
    ok &= put(root, "compute", compute);
    ok &= put(root, "bound", bound);
    ok &= put(root, "layer_recomputed", layers);
    ok &= put(root, "persistent_offset", offsets);
    ok &= put(root, "instances", instances);
    ok &= put(root, "steps", steps);
    return ok;
}

ckpt_status ckpt_plan_write(const ckpt_plan *plan, const char *path, ckpt_error *err) {
    json_t *root = json_object();
    char *text = root && fill_document(plan, root) ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) return ckpt_fail(err, CKPT_NOMEM, "out of host memory while writing '%s'", path);
    const size_t length = strlen(text);
    text[length] = '\n'; /* in place of the terminator */
    ckpt_atomic_file file;
    ckpt_status status = ckpt_atomic_open(&file, path, err);
    if (status == CKPT_OK) {
        status = ckpt_atomic_write(&file, text, length + 1, err);
        if (status == CKPT_OK) status = ckpt_atomic_commit(&file, err);
        ckpt_atomic_close(&file);
    }
    free(text);
    return status;
}

/* --- reading --- */

enum { MOST_FILE_BYTES = 256 << 20 };

typedef struct reader {
    const char *path;
    ckpt_error *err;
} reader;

#define REFUSE(r, ...) (ckpt_fail((r)->err, CKPT_USAGE, __VA_ARGS__), ckpt_fail_in((r)->err, "%s", (r)->path))

static ckpt_status load_text(const reader *r, char **text, size_t *length) {
    *text = NULL;
    *length = 0;
    const int file = open(r->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    if (file < 0) return REFUSE(r, "cannot be opened: %s", strerror(errno));
    ckpt_status status = CKPT_OK;
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode))
        status = REFUSE(r, "is not a regular file");
    else if (info.st_size > MOST_FILE_BYTES)
        status = REFUSE(r, "is too large for a plan file");
    else if (!(*text = malloc((size_t)info.st_size + 1)))
        status = ckpt_fail(r->err, CKPT_NOMEM, "out of host memory while reading '%s'", r->path);
    while (status == CKPT_OK && *length < (size_t)info.st_size) {
        const ssize_t n = read(file, *text + *length, (size_t)info.st_size - *length);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = REFUSE(r, "cannot be read: %s", strerror(errno));
        if (n <= 0) break;
        *length += (size_t)n;
    }
    close(file);
    if (status != CKPT_OK) {
        free(*text);
        *text = NULL;
    }
    return status;
}

static ckpt_status read_number(const reader *r, const json_t *value, const char *what, int64_t least,
                               int64_t most, int64_t *number_read) {
    if (!json_is_integer(value)) return REFUSE(r, "'%s' is missing or not a whole number", what);
    const int64_t n = json_integer_value(value);
    if (n < least || n > most) return REFUSE(r, "'%s' is %" PRId64 ", which is out of range", what, n);
    *number_read = n;
    return CKPT_OK;
}

static ckpt_status read_bytes(const reader *r, const json_t *value, const char *what, uint64_t *bytes) {
    int64_t n = 0;
    CKPT_TRY(read_number(r, value, what, 0, INT64_MAX, &n));
    *bytes = (uint64_t)n;
    return CKPT_OK;
}

static ckpt_status read_int(const reader *r, const json_t *value, const char *what, int least,
                            int *number_read) {
    int64_t n = 0;
    CKPT_TRY(read_number(r, value, what, least, INT_MAX, &n));
    *number_read = (int)n;
    return CKPT_OK;
}

static ckpt_status read_bool(const reader *r, const json_t *value, const char *what, bool *flag) {
    if (!json_is_boolean(value)) return REFUSE(r, "'%s' is missing or neither true nor false", what);
    *flag = json_is_true(value);
    return CKPT_OK;
}

static ckpt_status read_text(const reader *r, const json_t *root, const char *what, ckpt_pool *pool,
                             const char **text) {
    const json_t *value = json_object_get(root, what);
    if (!json_is_string(value)) return REFUSE(r, "'%s' is missing or not a text", what);
    *text = ckpt_pool_strdup(pool, json_string_value(value));
    return *text ? CKPT_OK : ckpt_fail(r->err, CKPT_NOMEM, "out of host memory while reading '%s'", r->path);
}

/* Those that are left out are -1. */
static ckpt_status read_ids(const reader *r, const json_t *list, const char *what, int room, int *id) {
    if (!json_is_array(list) || json_array_size(list) > (size_t)room)
        return REFUSE(r, "'%s' is no list of at most %d numbers", what, room);
    for (int i = 0; i < room; i++) {
        id[i] = -1;
        if ((size_t)i < json_array_size(list))
            CKPT_TRY(read_int(r, json_array_get(list, (size_t)i), what, -1, &id[i]));
    }
    return CKPT_OK;
}

/* Element `i` of a list, which must itself be a list of `size`. */
static ckpt_status get_row(const reader *r, const json_t *list, size_t i, const char *what, size_t size,
                           const json_t **row) {
    *row = json_array_get(list, i);
    if (!json_is_array(*row) || json_array_size(*row) != size)
        return REFUSE(r, "'%s' %zu is no list of %zu values", what, i, size);
    return CKPT_OK;
}

/* As many as the node has, which is looked at later. */
static ckpt_status read_inputs(const reader *r, const json_t *list, const ckpt_graph *g, ckpt_pool *pool, ckpt_plan_step *step) {
    step->in_count = step->node < g->node_count ? g->node[step->node].in_count : 0;
    step->in = ckpt_pool_array(pool, step->in_count, int);
    if (!step->in) return ckpt_fail(r->err, CKPT_NOMEM, "out of host memory while reading '%s'", r->path);
    return read_ids(r, list, "steps: inputs", step->in_count, step->in);
}

static ckpt_status read_steps(const reader *r, const json_t *list, const ckpt_graph *g, ckpt_plan *p) {
    for (int s = 0; s < p->step_count; s++) {
        const json_t *row;
        CKPT_TRY(get_row(r, list, (size_t)s, "steps", 4, &row));
        CKPT_TRY(read_int(r, json_array_get(row, 0), "steps: node", 0, &p->step[s].node));
        CKPT_TRY(read_bool(r, json_array_get(row, 1), "steps: recompute", &p->step[s].recompute));
        CKPT_TRY(read_inputs(r, json_array_get(row, 2), g, &p->pool, &p->step[s]));
        CKPT_TRY(read_ids(r, json_array_get(row, 3), "steps: outputs", CKPT_MAX_OUT, p->step[s].out));
    }
    return CKPT_OK;
}

static ckpt_status read_instances(const reader *r, const json_t *list, ckpt_plan *p) {
    for (int k = 0; k < p->instance_count; k++) {
        const json_t *row;
        ckpt_instance *x = &p->instance[k];
        CKPT_TRY(get_row(r, list, (size_t)k, "instances", 6, &row));
        CKPT_TRY(read_int(r, json_array_get(row, 0), "instances: tensor", 0, &x->tensor));
        CKPT_TRY(read_int(r, json_array_get(row, 1), "instances: first", 0, &x->first));
        CKPT_TRY(read_int(r, json_array_get(row, 2), "instances: end", 1, &x->end));
        CKPT_TRY(read_bytes(r, json_array_get(row, 3), "instances: offset", &x->offset));
        CKPT_TRY(read_bytes(r, json_array_get(row, 4), "instances: bytes", &x->bytes));
        CKPT_TRY(read_int(r, json_array_get(row, 5), "instances: reuses", -1, &x->reuses));
    }
    return CKPT_OK;
}

static ckpt_status get_list(const reader *r, const json_t *root, const char *what, const json_t **list,
                            int *count) {
    *list = json_object_get(root, what);
    *count = 0;
    if (!json_is_array(*list) || json_array_size(*list) > INT_MAX)
        return REFUSE(r, "'%s' is missing or not a list", what);
    *count = (int)json_array_size(*list);
    return CKPT_OK;
}

static ckpt_status read_lists(const reader *r, const json_t *root, const ckpt_graph *g, ckpt_plan *p) {
    const json_t *steps, *instances, *offsets, *layers;
    CKPT_TRY(get_list(r, root, "steps", &steps, &p->step_count));
    CKPT_TRY(get_list(r, root, "instances", &instances, &p->instance_count));
    CKPT_TRY(get_list(r, root, "persistent_offset", &offsets, &p->tensor_count));
    CKPT_TRY(get_list(r, root, "layer_recomputed", &layers, &p->layer_count));
    if (p->tensor_count != g->tensor_count || p->layer_count != g->layer_count)
        return REFUSE(r, "is damaged: %d tensors and %d layers, of %d and %d", p->tensor_count,
                      p->layer_count, g->tensor_count, g->layer_count);
    p->step = ckpt_pool_array(&p->pool, p->step_count, ckpt_plan_step);
    p->instance = ckpt_pool_array(&p->pool, p->instance_count, ckpt_instance);
    p->persistent_offset = ckpt_pool_array(&p->pool, p->tensor_count, uint64_t);
    p->layer_recomputed = ckpt_pool_array(&p->pool, p->layer_count, bool);
    if (!p->step || !p->instance || !p->persistent_offset || !p->layer_recomputed)
        return ckpt_fail(r->err, CKPT_NOMEM, "out of host memory while reading '%s'", r->path);
    CKPT_TRY(read_steps(r, steps, g, p));
    CKPT_TRY(read_instances(r, instances, p));
    for (int t = 0; t < p->tensor_count; t++) {
        int64_t offset = 0;
        CKPT_TRY(
            read_number(r, json_array_get(offsets, (size_t)t), "persistent_offset", -1, INT64_MAX, &offset));
        p->persistent_offset[t] = offset < 0 ? UINT64_MAX : (uint64_t)offset;
    }
    for (int i = 0; i < p->layer_count; i++)
        CKPT_TRY(
            read_bool(r, json_array_get(layers, (size_t)i), "layer_recomputed", &p->layer_recomputed[i]));
    return CKPT_OK;
}

/* An object with exactly `size` keys: unknown ones mean another version. */
static ckpt_status get_object(const reader *r, const json_t *root, const char *what, size_t size,
                              const json_t **object) {
    *object = json_object_get(root, what);
    if (!json_is_object(*object) || json_object_size(*object) != size)
        return REFUSE(r, "'%s' is missing or not an object of %zu fields", what, size);
    return CKPT_OK;
}

static ckpt_status read_numbers(const reader *r, const json_t *root, ckpt_plan *p) {
    const json_t *memory, *compute, *bound;
    CKPT_TRY(get_object(r, root, "memory", MEMORY_FIELD_COUNT, &memory));
    CKPT_TRY(get_object(r, root, "compute", COMPUTE_FIELD_COUNT, &compute));
    CKPT_TRY(get_object(r, root, "bound", 3, &bound));
#define X(name) CKPT_TRY(read_bytes(r, json_object_get(root, #name), #name, &p->name));
    HEAD_FIELDS(X)
#undef X
#define X(name) CKPT_TRY(read_bytes(r, json_object_get(memory, #name), "memory." #name, &p->memory.name));
    MEMORY_FIELDS(X)
#undef X
#define X(name) CKPT_TRY(read_bytes(r, json_object_get(compute, #name), "compute." #name, &p->compute.name));
    COMPUTE_FIELDS(X)
#undef X
    CKPT_TRY(read_int(r, json_object_get(compute, "recomputed_nodes"), "compute.recomputed_nodes", 0,
                      &p->compute.recomputed_nodes));
    CKPT_TRY(read_int(r, json_object_get(root, "input_buffers"), "input_buffers", 1, &p->input_buffers));
    CKPT_TRY(read_bool(r, json_object_get(bound, "proved"), "bound.proved", &p->bound.proved));
    CKPT_TRY(read_bytes(r, json_object_get(bound, "lower_bound_cost"), "bound.lower_bound_cost", &p->bound.lower_bound_cost));
    return read_bytes(r, json_object_get(bound, "lower_bound_flops"), "bound.lower_bound_flops",
                      &p->bound.lower_bound_flops);
}

static ckpt_status read_costs(const reader *r, const json_t *root, const ckpt_graph *g, ckpt_plan *p) {
    const json_t *object, *list;
    const char *unit, *source;
    int count;
    CKPT_TRY(get_object(r, root, "costs", 3, &object));
    CKPT_TRY(read_text(r, object, "unit", &p->pool, &unit));
    CKPT_TRY(read_text(r, object, "source", &p->pool, &source));
    CKPT_TRY(get_list(r, object, "node", &list, &count));
    if (strcmp(unit, ckpt_cost_unit_name(CKPT_COST_FLOPS)) == 0 && count == 0) {
        CKPT_TRY(ckpt_costs_flops(g, &p->pool, &p->costs, r->err));
        p->costs.source = source;
        return CKPT_OK;
    }
    if (strcmp(unit, ckpt_cost_unit_name(CKPT_COST_NS)) != 0 || count != g->node_count)
        return REFUSE(r, "is damaged: %d costs in %.8s, of %d nodes", count, unit, g->node_count);
    uint64_t *node = ckpt_pool_array(&p->pool, count, uint64_t);
    if (!node) return ckpt_fail(r->err, CKPT_NOMEM, "out of host memory while reading '%s'", r->path);
    for (int n = 0; n < count; n++) CKPT_TRY(read_bytes(r, json_array_get(list, (size_t)n), "costs.node", &node[n]));
    p->costs = (ckpt_costs){.unit = CKPT_COST_NS, .source = source, .count = count, .node = node};
    return CKPT_OK;
}

static ckpt_status read_document(const reader *r, const json_t *root, const ckpt_graph *g, ckpt_plan *p) {
    const json_t *name = json_object_get(root, "schema");
    if (!json_is_string(name))
        return REFUSE(r, "is no plan file: it has no 'schema'; make one with ckptplan -o");
    if (strcmp(json_string_value(name), schema) != 0)
        return REFUSE(r, "is of schema '%.40s'; this program reads '%s'", json_string_value(name), schema);
    if (json_object_size(root) != TOP_FIELDS)
        return REFUSE(r, "is damaged: %zu fields instead of %d", json_object_size(root), TOP_FIELDS);
    const char *hash;
    CKPT_TRY(read_text(r, root, "graph_hash", &p->pool, &hash));
    if (strcmp(hash, g->hash) != 0)
        return REFUSE(
            r,
            "was made for another model, batch or training option (graph %.12s, this one is %.12s); make it "
            "again with ckptplan -o",
            hash, g->hash);
    memcpy(p->graph_hash, g->hash, sizeof p->graph_hash);
    CKPT_TRY(read_text(r, root, "strategy", &p->pool, &p->strategy));
    CKPT_TRY(read_text(r, root, "device", &p->pool, &p->device));
    CKPT_TRY(read_numbers(r, root, p));
    CKPT_TRY(read_costs(r, root, g, p));
    return read_lists(r, root, g, p);
}

ckpt_status ckpt_plan_read(const char *path, const ckpt_graph *graph, const ckpt_graph *eval,
                           ckpt_plan **plan, ckpt_error *err) {
    *plan = NULL;
    const reader r = {path, err};
    char *text;
    size_t length;
    CKPT_TRY(load_text(&r, &text, &length));
    json_error_t where;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (!json_is_object(root)) {
        const ckpt_status refused = root ? REFUSE(&r, "is no plan file: not a JSON object")
                                         : REFUSE(&r, "is no plan file: line %d: %s", where.line, where.text);
        json_decref(root);
        return refused;
    }
    ckpt_plan *p = calloc(1, sizeof *p);
    ckpt_status status = p ? read_document(&r, root, graph, p)
                           : ckpt_fail(err, CKPT_NOMEM, "out of host memory while reading '%s'", path);
    json_decref(root);
    if (status == CKPT_OK) {
        status = ckpt_plan_check(graph, p, eval, err);
        if (status == CKPT_FAILED) {
            ckpt_fail_in(err, "%s: is damaged", path);
            if (err) err->status = CKPT_USAGE;
            status = CKPT_USAGE;
        }
    }
    if (status != CKPT_OK) {
        ckpt_plan_free(p);
        return status;
    }
    *plan = p;
    return CKPT_OK;
}
