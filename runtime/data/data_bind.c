/* From requests to arrays: which entry of the catalog answers which request, and whether it fits. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/name_pick.h"
#include "base/units.h"
#include "data/class_table.h"

/* A request, the entry that answers it and how far its reading has come. */
typedef struct binding {
    const ckpt_data_request *request;
    const ckpt_data_entry *entry;
    const char *label; /* the array's name for messages */
    ckpt_layout layout;
    ckpt_stream stream;
} binding;

typedef enum entry_use { FREE, TAKEN, DROPPED } entry_use;

typedef struct binder {
    const char *spec;
    const ckpt_data_wanted *wanted;
    const ckpt_data_catalog *catalog;
    ckpt_dataset *dataset;
    binding *bound; /* by request */
    entry_use *use; /* by entry */
} binder;

char *ckpt_data_shape_text(int rank, const int64_t *dim, char text[CKPT_SHAPE_TEXT]) {
    size_t n = 0;
    text[n++] = '[';
    for (int i = 0; i < rank; i++)
        n += (size_t)snprintf(text + n, CKPT_SHAPE_TEXT - n, "%s%" PRId64, i ? "," : "", dim[i]);
    snprintf(text + n, CKPT_SHAPE_TEXT - n, "]");
    return text;
}

static ckpt_status fail_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of memory for the list of arrays");
}

/* ---- Which entry answers which request -------------------------------------------------------------- */

static void take(binder *b, size_t request, size_t entry) {
    b->bound[request].entry = &b->catalog->entries[entry];
    b->use[entry] = TAKEN;
}

static int compare_names(const void *a, const void *b) {
    const ckpt_data_entry *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static ckpt_status check_duplicates(const binder *b, ckpt_error *err) {
    const ckpt_data_catalog *catalog = b->catalog;
    const ckpt_data_entry **sorted = ckpt_pool_array(catalog->pool, catalog->count, const ckpt_data_entry *);
    size_t n = 0;
    if (!sorted) return fail_memory(err);
    for (size_t e = 0; e < catalog->count; e++)
        if (catalog->entries[e].name && catalog->entries[e].answers < 0) sorted[n++] = &catalog->entries[e];
    if (n) qsort(sorted, n, sizeof *sorted, compare_names);
    for (size_t i = 1; i < n; i++) {
        if (compare_names(&sorted[i - 1], &sorted[i]) != 0) continue;
        if (strcmp(sorted[i - 1]->path, sorted[i]->path) == 0)
            return ckpt_fail(err, CKPT_USAGE, "%s: has two arrays '%s'; remove one", sorted[i]->path,
                             sorted[i]->name);
        return ckpt_fail(err, CKPT_USAGE, "%s and %s both have an array '%s'; remove one",
                         sorted[i - 1]->path, sorted[i]->path, sorted[i]->name);
    }
    return CKPT_OK;
}

static const char *entry_name(const void *catalog, int i) {
    const char *name = ((const ckpt_data_catalog *)catalog)->entries[i].name;
    return name ? name : "";
}

/* The entries that a list names, in its order. */
static ckpt_status pick(const binder *b, const char *option, const char *text, int *order, int *count,
                        ckpt_error *err) {
    const ckpt_data_catalog *catalog = b->catalog;
    const ckpt_name_choice list = {.text = text,
                                   .option = option,
                                   .what = "array",
                                   .count = (int)catalog->count,
                                   .name = entry_name,
                                   .context = catalog};
    bool names = false;
    for (size_t e = 0; e < catalog->count; e++) names = names || catalog->entries[e].name;
    if (!names)
        return ckpt_fail(err, CKPT_USAGE, "%s: its arrays have no names for %s to choose by; leave it out",
                         b->spec, option);
    bool *picked = ckpt_pool_array(catalog->pool, catalog->count, bool);
    if (!picked) return fail_memory(err);
    return ckpt_name_pick(&list, picked, order, count, err) == CKPT_OK ? CKPT_OK
                                                                       : ckpt_fail_in(err, "%s", b->spec);
}

static ckpt_status drop(binder *b, int *order, ckpt_error *err) {
    int count = 0;
    if (!b->wanted->options.drop || b->wanted->options.like) return CKPT_OK;
    CKPT_TRY(pick(b, "--drop", b->wanted->options.drop, order, &count, err));
    for (int i = 0; i < count; i++) b->use[order[i]] = DROPPED;
    return CKPT_OK;
}

/* --target or --features: the requests of this role take the arrays that the list names, each that of its
 * name or else the next. What another request has taken may be named again: that is asked for. */
static ckpt_status take_listed(binder *b, ckpt_data_role role, const char *option, const char *text,
                               int *order, ckpt_error *err) {
    int count = 0, next = 0;
    size_t open = 0;
    if (!text) return CKPT_OK;
    for (size_t r = 0; r < b->wanted->count; r++)
        open += b->wanted->requests[r].role == role && !b->bound[r].entry;
    if (!open) return CKPT_OK;
    CKPT_TRY(pick(b, option, text, order, &count, err));
    for (int i = 0; i < count; i++)
        if (b->use[order[i]] == DROPPED)
            return ckpt_fail(err, CKPT_USAGE, "%s: array '%s' is in %s and in --drop; leave it out of one",
                             b->spec, entry_name(b->catalog, order[i]), option);
    if ((size_t)count != open)
        return ckpt_fail(err, CKPT_USAGE, "%s: %s names %d arrays, the model takes %zu; name as many",
                         b->spec, option, count, open);
    for (size_t r = 0; r < b->wanted->count; r++)
        for (int i = 0; i < count && b->wanted->requests[r].role == role && !b->bound[r].entry; i++)
            if (order[i] >= 0 && strcmp(entry_name(b->catalog, order[i]), b->wanted->requests[r].name) == 0) {
                take(b, r, (size_t)order[i]);
                order[i] = -1;
            }
    for (size_t r = 0; r < b->wanted->count; r++) {
        if (b->wanted->requests[r].role != role || b->bound[r].entry) continue;
        while (order[next] < 0) next++;
        take(b, r, (size_t)order[next++]);
    }
    return CKPT_OK;
}

/* Returns whether an array of this name was there for the request; *taken is its name where it is another's.
 */
static bool take_named(binder *b, size_t request, const char *name, const char **taken) {
    for (size_t e = 0; e < b->catalog->count && name; e++) {
        if (!b->catalog->entries[e].name || strcmp(b->catalog->entries[e].name, name) != 0 ||
            b->use[e] == DROPPED)
            continue;
        if (b->use[e] == TAKEN) {
            *taken = name;
            continue;
        }
        take(b, request, e);
        return true;
    }
    return false;
}

static ckpt_status fail_missing(const binder *b, const ckpt_data_request *request, bool nameless,
                                const char *taken, ckpt_error *err) {
    const char *option = request->role == CKPT_DATA_TARGET ? "--target" : "--features",
               *alias = request->aliases[0];
    char has[CKPT_LIST_TEXT] = "no arrays";
    const char **names = ckpt_pool_array(b->catalog->pool, b->catalog->count, const char *);
    if (!names) return fail_memory(err);
    if (nameless)
        return ckpt_fail(err, CKPT_USAGE,
                         "%s: has no array for the %s '%s'; add its file after a comma: %s,FILE", b->spec,
                         ckpt_data_role_text(request), request->name, b->spec);
    for (size_t e = 0; e < b->catalog->count; e++) names[e] = entry_name(b->catalog, (int)e);
    if (b->catalog->count) ckpt_data_list_text(names, b->catalog->count, has);
    if (taken)
        return ckpt_fail(
            err, CKPT_USAGE,
            "%s: array '%s' is taken already, and there is no other for the %s '%s'; it has %s; name one "
            "with %s",
            b->spec, taken, ckpt_data_role_text(request), request->name, has, option);
    return ckpt_fail(
        err, CKPT_USAGE,
        "%s: has no array '%s'%s%s%s for the %s; it has %s; name one with %s, or rename or add it", b->spec,
        request->name, alias ? " or '" : "", alias ? alias : "", alias ? "'" : "",
        ckpt_data_role_text(request), has, option);
}

/* Arrays without a name answer the requests left over, in order. */
static ckpt_status take_nameless(binder *b, bool *nameless, ckpt_error *err) {
    size_t next = 0;
    for (size_t e = 0; e < b->catalog->count; e++) {
        if (b->catalog->entries[e].name || b->use[e] != FREE) continue;
        *nameless = true;
        while (next < b->wanted->count && b->bound[next].entry) next++;
        if (next == b->wanted->count)
            return ckpt_fail(err, CKPT_USAGE,
                             "%s: the model has no input or target left for it; leave it out",
                             b->catalog->entries[e].path);
        take(b, next, e);
    }
    return CKPT_OK;
}

/* As the format says; as the training data had it; as the options say; by name, then alias; in order. */
static ckpt_status find_entries(binder *b, ckpt_error *err) {
    const ckpt_data_options *options = &b->wanted->options;
    const bool like_arrays = options->like && !options->like->has_columns;
    const size_t count = b->wanted->count;
    const char **taken = ckpt_pool_array(b->catalog->pool, count, const char *);
    bool nameless = false;
    int *order = ckpt_pool_array(b->catalog->pool, b->catalog->count, int);
    if (!taken || !order) return fail_memory(err);
    for (size_t e = 0; e < b->catalog->count; e++)
        if (b->catalog->entries[e].answers >= 0) take(b, (size_t)b->catalog->entries[e].answers, e);
    if (b->dataset->has_columns) return CKPT_OK; /* every request is answered */
    CKPT_TRY(check_duplicates(b, err));
    for (size_t r = 0; like_arrays && r < count; r++) {
        const ckpt_array *like = ckpt_data_like(b->wanted, r);
        if (like && like->from.count) take_named(b, r, like->from.name[0], &taken[r]);
    }
    CKPT_TRY(drop(b, order, err));
    CKPT_TRY(take_listed(b, CKPT_DATA_INPUT, "--features", options->features, order, err));
    CKPT_TRY(take_listed(b, CKPT_DATA_TARGET, "--target", options->target, order, err));
    /* No alias takes what another request is called. */
    for (size_t r = 0; r < count; r++)
        if (!b->bound[r].entry) take_named(b, r, b->bound[r].request->name, &taken[r]);
    for (size_t r = 0; r < count; r++) {
        const ckpt_data_request *request = b->bound[r].request;
        for (int k = 0; k < CKPT_DATA_MAX_ALIASES && !b->bound[r].entry; k++)
            take_named(b, r, request->aliases[k], &taken[r]);
    }
    CKPT_TRY(take_nameless(b, &nameless, err));
    for (size_t r = 0; r < count; r++)
        if (!b->bound[r].entry) return fail_missing(b, b->bound[r].request, nameless, taken[r], err);
    return CKPT_OK;
}

/* What became of the file's arrays, for whoever wants to say it. */
static ckpt_status name_entries(binder *b, ckpt_error *err) {
    ckpt_dataset *dataset = b->dataset;
    for (size_t r = 0; r < b->wanted->count; r++) {
        const ckpt_data_entry *entry = b->bound[r].entry;
        b->bound[r].label = entry->name ? entry->name : b->bound[r].request->name;
        dataset->arrays[r].from = entry->from;
        if (entry->name && entry->answers < 0)
            CKPT_TRY(ckpt_data_add_name(&dataset->pool, &dataset->arrays[r].from, entry->name, err));
    }
    for (size_t e = 0; e < b->catalog->count; e++)
        if (b->use[e] != TAKEN)
            CKPT_TRY(ckpt_data_add_name(&dataset->pool,
                                        b->use[e] == DROPPED ? &dataset->dropped : &dataset->unused,
                                        entry_name(b->catalog, (int)e), err));
    return CKPT_OK;
}

/* ---- Whether it fits ------------------------------------------------------------------------------ */

bool ckpt_data_as_integers(const ckpt_data_request *request, uint64_t values) {
    if (request->want != CKPT_WANT_EITHER) return request->want == CKPT_WANT_INTEGER;
    if (!request->integer_values || request->integer_values == values) return true;
    return request->values != values;
}

bool ckpt_data_takes_names(const ckpt_data_request *request, uint64_t values) {
    if (request->role != CKPT_DATA_TARGET) return false;
    if (request->want == CKPT_WANT_FLOAT)
        return request->values == 1 && values == 1; /* two names are 0 and 1 */
    return !request->integer_values || request->integer_values == values;
}

/* Floats that can only be classes, saved as floats. */
static bool as_whole_floats(const ckpt_data_request *r, uint64_t values) {
    if (r->want != CKPT_WANT_EITHER) return r->want == CKPT_WANT_INTEGER;
    return r->integer_values == values && r->values && r->values != values;
}

/* Decides between int64 and float32 and checks the number of values a sample. */
static ckpt_status choose_type(const binding *b, ckpt_array *array, ckpt_error *err) {
    const ckpt_data_request *r = b->request;
    const bool text = ckpt_element_is_text(b->layout.element);
    if (text && !ckpt_data_takes_names(r, array->values))
        return ckpt_fail(
            err, CKPT_USAGE,
            "holds strings, which only a target of classes may be; save it with astype(np.float32) or "
            "astype(np.int64)");
    const bool integers =
        text || (b->layout.element == CKPT_ELEMENT_FLOAT ? as_whole_floats(r, array->values)
                                                         : ckpt_data_as_integers(r, array->values));
    array->type = integers ? CKPT_ARRAY_I64 : CKPT_ARRAY_F32;
    uint64_t takes = integers ? r->integer_values : r->values;
    uint64_t other = integers ? r->values : r->integer_values;
    if (!takes || takes == array->values || text) return CKPT_OK;
    char shape[CKPT_SHAPE_TEXT], hint[96] = "";
    if (r->want == CKPT_WANT_EITHER && other)
        snprintf(hint, sizeof hint, ", or %" PRIu64 " %s%s%s", other, integers ? "float" : "integer",
                 other == 1 ? "" : "s", integers ? "" : ": save classes with astype(np.int64)");
    return ckpt_fail(
        err, CKPT_USAGE, "has %" PRIu64 " value%s a sample (shape %s); the %s '%s' takes %" PRIu64 "%s",
        array->values, array->values == 1 ? "" : "s", ckpt_data_shape_text(array->rank, array->dim, shape),
        ckpt_data_role_text(r), r->name, takes, hint);
}

/* Reads the header and checks everything that can be known without the elements. */
static ckpt_status check_header(binding *b, ckpt_array *array, ckpt_error *err) {
    ckpt_layout *layout = &b->layout;
    CKPT_TRY(ckpt_stream_open(&b->stream, &b->entry->packed, err));
    *layout = b->entry->layout;
    if (b->entry->header) CKPT_TRY(b->entry->header(&b->stream, layout, err));
    CKPT_TRY(ckpt_layout_finish(layout, err));
    uint64_t bytes = layout->count * layout->bytes;
    char shape[CKPT_SHAPE_TEXT];
    ckpt_data_shape_text(layout->rank, layout->dim, shape);
    if (bytes != b->stream.left)
        return ckpt_fail(err, CKPT_USAGE,
                         "has shape %s of %" PRIu64 " bytes, the file has %" PRIu64
                         "; it is damaged, save it again",
                         shape, bytes, b->stream.left);
    if (layout->rank == 0)
        return ckpt_fail(err, CKPT_USAGE, "is a single value; the first axis must count the samples");
    if (layout->dim[0] == 0) return ckpt_fail(err, CKPT_USAGE, "has no samples (shape %s); add some", shape);
    if (layout->count == 0)
        return ckpt_fail(err, CKPT_USAGE, "has samples without values (shape %s); add some", shape);
    if (layout->dim[0] > UINT32_MAX)
        return ckpt_fail(err, CKPT_USAGE, "has more than 4294967295 samples (shape %s); split it", shape);
    array->rank = layout->rank;
    memcpy(array->dim, layout->dim, sizeof array->dim);
    array->values = layout->count / (uint64_t)layout->dim[0];
    return choose_type(b, array, err);
}

/* Validation data name their classes if the training data do. */
static ckpt_status check_like(const ckpt_array *array, const ckpt_array *like, ckpt_error *err) {
    if (!like || !array->classes.count == !like->classes.count) return CKPT_OK;
    const bool names = array->classes.count;
    return ckpt_fail(err, CKPT_USAGE, "has %s of classes, the training data %s; write both the same way",
                     names ? "names" : "numbers", names ? "numbers" : "names");
}

/* Numbers of names where the model takes floats: 0 and 1. */
static void narrow(ckpt_array *array, uint64_t count) {
    char *data = array->data;
    for (uint64_t i = 0; i < count; i++) {
        int64_t number;
        memcpy(&number, data + i * sizeof number, sizeof number);
        const float value = (float)number;
        memcpy(data + i * sizeof value, &value, sizeof value);
    }
    array->type = CKPT_ARRAY_F32;
}

static ckpt_status note_rounded(const binder *b, const binding *bound, const ckpt_rounded *rounded,
                                ckpt_error *err) {
    if (!rounded->count) return CKPT_OK;
    return ckpt_data_add_note(b->dataset, err,
                              "%s: array '%.80s' has %" PRIu64
                              " whole number%s that float32 rounds, the first %" PRId64 " at row %" PRIu64
                              ", column %" PRIu64 " (counted from 0)",
                              bound->entry->path, bound->label, rounded->count,
                              rounded->count == 1 ? "" : "s", rounded->value, rounded->row, rounded->column);
}

static ckpt_status read_elements(const binder *b, binding *bound, ckpt_array *array, ckpt_error *err) {
    ckpt_dataset *dataset = b->dataset;
    const uint64_t count = bound->layout.count;
    const bool text = ckpt_element_is_text(bound->layout.element);
    const size_t element_bytes = array->type == CKPT_ARRAY_F32 ? sizeof(float) : sizeof(int64_t);
    ckpt_class_table names = {.pool = &dataset->pool};
    ckpt_rounded rounded = {0};
    const ckpt_array *like = ckpt_data_like(b->wanted, (size_t)(array - dataset->arrays));
    if (like) names.known = like->classes;
    array->data = ckpt_pool_alloc(&dataset->pool, (size_t)count, element_bytes);
    if (!array->data) {
        char size[CKPT_SIZE_TEXT];
        return ckpt_fail(err, CKPT_NOMEM, "takes %s of host memory; use fewer samples",
                         ckpt_units_format_size(count * element_bytes, size));
    }
    CKPT_TRY(ckpt_data_convert(&bound->stream, &bound->layout, array, &rounded, &names, err));
    CKPT_TRY(ckpt_stream_finish(&bound->stream, err));
    CKPT_TRY(note_rounded(b, bound, &rounded, err));
    array->classes = bound->entry->classes;
    if (text) CKPT_TRY(ckpt_class_table_finish(&names, array->data, count, &array->classes, err));
    CKPT_TRY(check_like(array, like, err));
    if (text && bound->request->want == CKPT_WANT_FLOAT) narrow(array, count);
    return ckpt_data_check(array, bound->request, err);
}

/* Turns "has no samples" into "x.npz: array 'x' has no samples". */
static ckpt_status in_array(ckpt_status status, const binding *b, ckpt_error *err) {
    if (status == CKPT_OK || !err) return status;
    char what[CKPT_MESSAGE_SIZE];
    memcpy(what, err->message, sizeof what);
    return ckpt_fail(err, status, "%s: array '%.80s' %s", b->entry->path, b->label, what);
}

static ckpt_status read_all(const binder *b, ckpt_error *err) {
    ckpt_dataset *dataset = b->dataset;
    binding *bound = b->bound;
    for (size_t i = 0; i < dataset->array_count; i++) {
        ckpt_array *array = &dataset->arrays[i];
        array->name = ckpt_pool_strdup(&dataset->pool, bound[i].request->name);
        array->has_ignore = bound[i].request->has_ignore;
        array->ignore = bound[i].request->ignore;
        if (!array->name) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the names of arrays");
        CKPT_TRY(in_array(check_header(&bound[i], array, err), &bound[i], err));
        if (array->dim[0] != dataset->arrays[0].dim[0])
            return ckpt_fail(err, CKPT_USAGE,
                             "%s: array '%s' has %" PRId64 " samples, array '%s' has %" PRId64
                             "; both must have one row a sample",
                             bound[i].entry->path, bound[i].label, array->dim[0], bound[0].label,
                             dataset->arrays[0].dim[0]);
    }
    for (size_t i = 0; i < dataset->array_count; i++)
        CKPT_TRY(in_array(read_elements(b, &bound[i], &dataset->arrays[i], err), &bound[i], err));
    dataset->samples = (uint64_t)dataset->arrays[0].dim[0];
    return CKPT_OK;
}

ckpt_status ckpt_data_bind(const char *spec, const ckpt_data_wanted *wanted, ckpt_data_catalog *catalog,
                           ckpt_dataset *dataset, ckpt_error *err) {
    binder b = {.spec = spec, .wanted = wanted, .catalog = catalog, .dataset = dataset};
    b.bound = ckpt_pool_array(catalog->pool, wanted->count, binding);
    b.use = ckpt_pool_array(catalog->pool, catalog->count, entry_use);
    dataset->arrays = ckpt_pool_array(&dataset->pool, wanted->count, ckpt_array);
    if (!b.bound || !b.use || !dataset->arrays) return fail_memory(err);
    dataset->array_count = wanted->count;
    for (size_t i = 0; i < wanted->count; i++) b.bound[i].request = &wanted->requests[i];
    ckpt_status status = find_entries(&b, err);
    if (status == CKPT_OK) status = name_entries(&b, err);
    if (status == CKPT_OK) status = read_all(&b, err);
    for (size_t i = 0; i < wanted->count; i++) ckpt_stream_close(&b.bound[i].stream);
    return status;
}
