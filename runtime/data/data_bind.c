/* From requests to arrays: which entry of the catalog answers which request, and whether it fits. */
#include "data/data_format.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/units.h"

enum { LIST_TEXT = 400 };

/* A request, the entry that answers it and how far its reading has come. */
typedef struct binding {
    const ckpt_data_request *request;
    const ckpt_data_entry *entry;
    const char *label; /* the array's name for messages */
    ckpt_layout layout;
    ckpt_stream stream;
} binding;

char *ckpt_data_shape_text(int rank, const int64_t *dim, char text[CKPT_SHAPE_TEXT]) {
    size_t n = 0;
    text[n++] = '[';
    for (int i = 0; i < rank; i++)
        n += (size_t)snprintf(text + n, CKPT_SHAPE_TEXT - n, "%s%" PRId64, i ? "," : "", dim[i]);
    snprintf(text + n, CKPT_SHAPE_TEXT - n, "]");
    return text;
}

static const char *role_text(const ckpt_data_request *request) {
    return request->role == CKPT_DATA_TARGET ? "target" : "model's input";
}

/* "'a', 'b' and 3 more": what the file has, for a message. */
static void list_names(const ckpt_data_catalog *catalog, char text[LIST_TEXT]) {
    size_t n = 0, listed = 0;
    text[0] = 0;
    for (; listed < catalog->count && n + 80 < LIST_TEXT; listed++) {
        const char *name = catalog->entries[listed].name;
        n += (size_t)snprintf(text + n, LIST_TEXT - n, "%s'%.40s'", listed ? ", " : "", name ? name : "");
    }
    if (listed < catalog->count) snprintf(text + n, LIST_TEXT - n, " and %zu more", catalog->count - listed);
    if (!catalog->count) snprintf(text, LIST_TEXT, "no arrays");
}

static ckpt_status find_named(const ckpt_data_catalog *catalog, const char *name,
                              const ckpt_data_entry **found, ckpt_error *err) {
    for (size_t i = 0; name && i < catalog->count; i++) {
        const ckpt_data_entry *entry = &catalog->entries[i];
        if (!entry->name || strcmp(entry->name, name) != 0) continue;
        if (*found)
            return ckpt_fail(err, CKPT_USAGE, "%s: has two arrays '%s'; remove one", entry->path, name);
        *found = entry;
    }
    return CKPT_OK;
}

static ckpt_status fail_missing(const char *spec, const ckpt_data_request *request, bool nameless,
                                const ckpt_data_catalog *catalog, ckpt_error *err) {
    char has[LIST_TEXT];
    if (nameless)
        return ckpt_fail(err, CKPT_USAGE,
                         "%s: has no array for the %s '%s'; add its file after a comma: %s,FILE", spec,
                         role_text(request), request->name, spec);
    const char *alias = request->aliases[0];
    list_names(catalog, has);
    return ckpt_fail(err, CKPT_USAGE, "%s: has no array '%s'%s%s%s for the %s; it has %s; rename or add it",
                     spec, request->name, alias ? " or '" : "", alias ? alias : "", alias ? "'" : "",
                     role_text(request), has);
}

/* By name, then alias; arrays without a name answer the requests left over, in order. */
static ckpt_status find_entries(const char *spec, const ckpt_data_catalog *catalog, binding *bound,
                                size_t count, ckpt_error *err) {
    for (size_t i = 0; i < count; i++) {
        const ckpt_data_request *request = bound[i].request;
        CKPT_TRY(find_named(catalog, request->name, &bound[i].entry, err));
        for (int k = 0; !bound[i].entry && k < CKPT_DATA_MAX_ALIASES && request->aliases[k]; k++)
            CKPT_TRY(find_named(catalog, request->aliases[k], &bound[i].entry, err));
    }
    size_t next = 0;
    bool nameless = false;
    for (size_t e = 0; e < catalog->count; e++) {
        const ckpt_data_entry *entry = &catalog->entries[e];
        if (entry->name) continue;
        nameless = true;
        while (next < count && bound[next].entry) next++;
        if (next == count)
            return ckpt_fail(err, CKPT_USAGE,
                             "%s: the model has no input or target left for it; leave it out", entry->path);
        bound[next].entry = entry;
    }
    for (size_t i = 0; i < count; i++) {
        if (!bound[i].entry) return fail_missing(spec, bound[i].request, nameless, catalog, err);
        bound[i].label = bound[i].entry->name ? bound[i].entry->name : bound[i].request->name;
    }
    return CKPT_OK;
}

bool ckpt_data_as_integers(const ckpt_data_request *request, uint64_t values) {
    if (request->want != CKPT_WANT_EITHER) return request->want == CKPT_WANT_INTEGER;
    if (!request->integer_values || request->integer_values == values) return true;
    return request->values != values;
}

/* Decides between int64 and float32 and checks the number of values a sample. */
static ckpt_status choose_type(const binding *b, ckpt_array *array, ckpt_error *err) {
    const ckpt_data_request *r = b->request;
    bool integers = b->layout.element != CKPT_ELEMENT_FLOAT;
    if (r->want == CKPT_WANT_INTEGER && !integers)
        return ckpt_fail(err, CKPT_USAGE,
                         "holds floats; the %s '%s' takes integers: save it with astype(np.int64)",
                         role_text(r), r->name);
    integers = integers && ckpt_data_as_integers(r, array->values);
    array->type = integers ? CKPT_ARRAY_I64 : CKPT_ARRAY_F32;
    uint64_t takes = integers ? r->integer_values : r->values;
    uint64_t other = integers ? r->values : r->integer_values;
    if (!takes || takes == array->values) return CKPT_OK;
    char shape[CKPT_SHAPE_TEXT], hint[96] = "";
    if (r->want == CKPT_WANT_EITHER && other)
        snprintf(hint, sizeof hint, ", or %" PRIu64 " %s%s%s", other, integers ? "float" : "integer",
                 other == 1 ? "" : "s", integers ? "" : ": save classes with astype(np.int64)");
    return ckpt_fail(err, CKPT_USAGE,
                     "has %" PRIu64 " value%s a sample (shape %s); the %s '%s' takes %" PRIu64 "%s",
                     array->values, array->values == 1 ? "" : "s",
                     ckpt_data_shape_text(array->rank, array->dim, shape), role_text(r), r->name, takes, hint);
}

/* Reads the header and checks everything that can be known without the elements. */
static ckpt_status check_header(binding *b, ckpt_array *array, ckpt_error *err) {
    ckpt_layout *layout = &b->layout;
    CKPT_TRY(ckpt_stream_open(&b->stream, &b->entry->packed, err));
    *layout = b->entry->layout;
    if (b->entry->header) CKPT_TRY(b->entry->header(&b->stream, layout, err));
    CKPT_TRY(ckpt_layout_finish(layout, err));
    uint64_t bytes = layout->count * layout->bytes;
    bool exact = b->entry->packed.packing != CKPT_GZIPPED;
    char shape[CKPT_SHAPE_TEXT];
    ckpt_data_shape_text(layout->rank, layout->dim, shape);
    if (exact ? bytes != b->stream.left : bytes > b->stream.left)
        return ckpt_fail(err, CKPT_USAGE,
                         "has shape %s of %" PRIu64 " bytes, the file has %s%" PRIu64
                         "; it is damaged, save it again",
                         shape, bytes, exact ? "" : "at most ", b->stream.left);
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

static ckpt_status read_elements(binding *b, ckpt_array *array, ckpt_pool *pool, ckpt_error *err) {
    size_t element_bytes = array->type == CKPT_ARRAY_F32 ? sizeof(float) : sizeof(int64_t);
    array->data = ckpt_pool_alloc(pool, (size_t)b->layout.count, element_bytes);
    if (!array->data) {
        char size[CKPT_SIZE_TEXT];
        return ckpt_fail(err, CKPT_NOMEM, "takes %s of host memory; use fewer samples",
                         ckpt_units_format_size(b->layout.count * element_bytes, size));
    }
    CKPT_TRY(ckpt_data_convert(&b->stream, &b->layout, array, err));
    CKPT_TRY(ckpt_stream_finish(&b->stream, err));
    return ckpt_data_check(array, b->request, err);
}

/* Turns "has no samples" into "x.npz: array 'x' has no samples". */
static ckpt_status in_array(ckpt_status status, const binding *b, ckpt_error *err) {
    if (status == CKPT_OK || !err) return status;
    char what[CKPT_MESSAGE_SIZE];
    memcpy(what, err->message, sizeof what);
    return ckpt_fail(err, status, "%s: array '%.80s' %s", b->entry->path, b->label, what);
}

static ckpt_status read_all(binding *bound, ckpt_dataset *dataset, ckpt_error *err) {
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
        CKPT_TRY(
            in_array(read_elements(&bound[i], &dataset->arrays[i], &dataset->pool, err), &bound[i], err));
    dataset->samples = (uint64_t)dataset->arrays[0].dim[0];
    return CKPT_OK;
}

ckpt_status ckpt_data_bind(const char *spec, const ckpt_data_wanted *wanted, ckpt_data_catalog *catalog,
                           ckpt_dataset *dataset, ckpt_error *err) {
    binding *bound = ckpt_pool_array(catalog->pool, wanted->count, binding);
    dataset->arrays = ckpt_pool_array(&dataset->pool, wanted->count, ckpt_array);
    if (!bound || !dataset->arrays) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the list of arrays");
    dataset->array_count = wanted->count;
    for (size_t i = 0; i < wanted->count; i++) bound[i].request = &wanted->requests[i];
    ckpt_status status = find_entries(spec, catalog, bound, wanted->count, err);
    if (status == CKPT_OK) status = read_all(bound, dataset, err);
    for (size_t i = 0; i < wanted->count; i++) ckpt_stream_close(&bound[i].stream);
    return status;
}
