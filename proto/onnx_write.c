/* Writing patches the tensors of the open model for as long as the model is being written and then puts
 * the old contents back: copying every message on the way to a tensor would take far more code, and copying
 * the model twice its memory. */
#include "proto/onnx_convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/atomic_file.h"

/* A page, so that readers can map a tensor. */
enum { DATA_ALIGNMENT = 4096, CHUNK_BYTES = 64 * 1024, CHUNK_VALUES = 1024 };

typedef struct target {
    const ckpt_onnx_replacement *replacement;
    Onnx__TensorProto *tensor;
} target;

typedef struct patch {
    Onnx__TensorProto *tensor, saved;
} patch;

typedef struct writer {
    ckpt_onnx_file *file;
    const char *path;
    target *targets; /* by name */
    size_t n_targets;
    onnx_tensor_list externals;
    patch *patches;
    size_t n_patches;
    onnx_data_names names; /* of the data file */
    ckpt_atomic_file data;
    ckpt_pool pool; /* patched contents, tables */
} writer;

static ckpt_status fail_memory(const writer *w, ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "%s: out of memory while writing", w->path);
}

/* ---- Which tensor is meant -------------------------------------------------------------------------- */

static int compare_targets(const void *a, const void *b) {
    return strcmp(((const target *)a)->replacement->name, ((const target *)b)->replacement->name);
}

static target *find_target(writer *w, const char *name) {
    ckpt_onnx_replacement wanted = {.name = onnx_text(name)};
    target key = {.replacement = &wanted};
    if (w->n_targets == 0) return NULL;
    return bsearch(&key, w->targets, w->n_targets, sizeof key, compare_targets);
}

static ckpt_status match_initializers(writer *w, ckpt_error *err) {
    const Onnx__GraphProto *graph = w->file->model->graph;
    for (size_t i = 0; i < graph->n_initializer; i++) {
        target *found = find_target(w, graph->initializer[i]->name);
        if (!found) continue;
        if (found->tensor) {
            return ckpt_fail(err, CKPT_MODEL,
                             "%s: two initializers are named '%.160s'; export the model again", w->file->path,
                             found->replacement->name);
        }
        found->tensor = graph->initializer[i];
    }
    return CKPT_OK;
}

/* The tensor in attribute `value` of a Constant of ONNX itself, or NULL. */
static Onnx__TensorProto *constant_value(const Onnx__NodeProto *node) {
    const char *domain = onnx_text(node->domain);
    bool standard = *domain == 0 || strcmp(domain, "ai.onnx") == 0;
    if (!standard || strcmp(onnx_text(node->op_type), "Constant") != 0 || node->n_output != 1) return NULL;
    for (size_t i = 0; i < node->n_attribute; i++) {
        if (strcmp(onnx_text(node->attribute[i]->name), "value") == 0) return node->attribute[i]->t;
    }
    return NULL;
}

static void match_constants(writer *w) {
    const Onnx__GraphProto *graph = w->file->model->graph;
    for (size_t i = 0; i < graph->n_node; i++) {
        Onnx__TensorProto *tensor = constant_value(graph->node[i]);
        target *found = tensor ? find_target(w, graph->node[i]->output[0]) : NULL;
        if (found && !found->tensor) found->tensor = tensor;
    }
}

static ckpt_status match_targets(writer *w, const ckpt_onnx_replacement *replacements, size_t count,
                                 ckpt_error *err) {
    w->targets = ckpt_pool_array(&w->pool, count, target);
    if (!w->targets) return fail_memory(w, err);
    for (size_t i = 0; i < count; i++) w->targets[i].replacement = &replacements[i];
    w->n_targets = count;
    if (count) qsort(w->targets, count, sizeof *w->targets, compare_targets);
    for (size_t i = 1; i < count; i++) {
        if (compare_targets(&w->targets[i - 1], &w->targets[i]) == 0) {
            return ckpt_fail(err, CKPT_USAGE, "%s: '%.160s' is to be replaced twice", w->path,
                             w->targets[i].replacement->name);
        }
    }
    CKPT_TRY(match_initializers(w, err));
    match_constants(w);
    for (size_t i = 0; i < count; i++) {
        if (!w->targets[i].tensor) {
            return ckpt_fail(err, CKPT_MODEL,
                             "%s: no initializer or Constant tensor is named '%.160s': new values of it have no place",
                             w->file->path, w->targets[i].replacement->name);
        }
    }
    return CKPT_OK;
}

/* The new values of `tensor`, or NULL when it keeps its own. */
static const ckpt_onnx_replacement *replacement_of(const writer *w, const Onnx__TensorProto *tensor) {
    for (size_t i = 0; i < w->n_targets; i++) {
        if (w->targets[i].tensor == tensor) return w->targets[i].replacement;
    }
    return NULL;
}

/* ---- Patches ---------------------------------------------------------------------------------------- */

static void patch_tensor(writer *w, Onnx__TensorProto *tensor) {
    w->patches[w->n_patches++] = (patch){tensor, *tensor};
}

static void restore(writer *w) {
    while (w->n_patches > 0) {
        patch *p = &w->patches[--w->n_patches];
        *p->tensor = p->saved;
    }
}

static ckpt_status check_target(const writer *w, const target *t, onnx_store *store, ckpt_error *err) {
    ckpt_onnx_tensor_info info;
    CKPT_TRY(onnx_tensor_locate(w->file, t->tensor, &info, store, err));
    ckpt_status status = CKPT_OK;
    if (!onnx_type_find(info.type)->from_f32) {
        status =
            ckpt_fail(err, CKPT_MODEL, "its type %s cannot take new values; only floating-point weights can",
                      ckpt_onnx_type_name(info.type));
    } else if (info.count != t->replacement->count) {
        status = ckpt_fail(err, CKPT_MODEL, "it has %llu elements, its replacement %zu",
                           (unsigned long long)info.count, t->replacement->count);
    }
    return status == CKPT_OK ? CKPT_OK : onnx_tensor_fail_in(w->file, t->tensor, status, err);
}

/* A finite value that the tensor's type has no finite one for would be lost. Looked for before anything is written. */
static ckpt_status check_values(const writer *w, const target *t, ckpt_error *err) {
    const onnx_type *type = onnx_type_find(t->tensor->data_type);
    const ckpt_onnx_replacement *r = t->replacement;
    uint16_t stored[CHUNK_VALUES];
    float back[CHUNK_VALUES];
    if (type->bits >= 32) return CKPT_OK;
    for (size_t done = 0, n; done < r->count; done += n) {
        n = r->count - done < CHUNK_VALUES ? r->count - done : CHUNK_VALUES;
        type->from_f32(r->values + done, stored, n);
        type->to_f32(stored, back, n);
        for (size_t i = 0; i < n; i++)
            if (isinf(back[i]) && !isinf(r->values[done + i])) {
                ckpt_fail(err, CKPT_MODEL, "its new value %g at index %zu does not fit in its type %s; convert the model to FLOAT "
                          "before training it", (double)r->values[done + i], done + i, type->name);
                return onnx_tensor_fail_in(w->file, t->tensor, CKPT_MODEL, err);
            }
    }
    return CKPT_OK;
}

/* New data in the same field. External tensors wait until their data file is written. */
static ckpt_status patch_inline(writer *w, const target *t, ckpt_error *err) {
    onnx_store store;
    CKPT_TRY(check_target(w, t, &store, err));
    CKPT_TRY(check_values(w, t, err));
    if (store == ONNX_STORE_NONE || store == ONNX_STORE_EXTERNAL) return CKPT_OK;
    const onnx_type *type = onnx_type_find(t->tensor->data_type);
    size_t count = t->replacement->count;
    void *data = ckpt_pool_alloc(&w->pool, count, type->bits / 8);
    if (!data) return fail_memory(w, err);
    type->from_f32(t->replacement->values, data, count);
    patch_tensor(w, t->tensor);
    switch (store) {
    case ONNX_STORE_RAW:
        t->tensor->raw_data.data = data;
        break;
    case ONNX_STORE_FLOAT:
        t->tensor->float_data = data;
        break;
    case ONNX_STORE_DOUBLE:
        t->tensor->double_data = data;
        break;
    default: { /* 16-bit floats: their bits, one in each int32_data entry */
        int32_t *wide = ckpt_pool_array(&w->pool, count, int32_t);
        if (!wide) return fail_memory(w, err);
        for (size_t i = 0; i < count; i++) wide[i] = ((const uint16_t *)data)[i];
        t->tensor->int32_data = wide;
    }
    }
    return CKPT_OK;
}

static Onnx__StringStringEntryProto *new_entry(writer *w, const char *key, const char *value) {
    Onnx__StringStringEntryProto *entry = ckpt_pool_array(&w->pool, 1, Onnx__StringStringEntryProto);
    if (!entry) return NULL;
    onnx__string_string_entry_proto__init(entry);
    entry->key = ckpt_pool_strdup(&w->pool, key);
    entry->value = value ? ckpt_pool_strdup(&w->pool, value) : NULL;
    return entry->key && entry->value ? entry : NULL;
}

/* What the old entries say about the old file: replaced or, as the checksum is of the whole file, left out.
 */
static bool is_place(const char *key) {
    static const char *const keys[] = {"location", "offset", "length", "checksum", "basepath"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(key, keys[i]) == 0) return true;
    }
    return false;
}

static ckpt_status patch_external(writer *w, Onnx__TensorProto *tensor, uint64_t offset, uint64_t bytes,
                                  ckpt_error *err) {
    Onnx__StringStringEntryProto **entries =
        ckpt_pool_array(&w->pool, tensor->n_external_data + 3, Onnx__StringStringEntryProto *);
    const char *offset_text = ckpt_pool_printf(&w->pool, "%llu", (unsigned long long)offset);
    const char *length_text = ckpt_pool_printf(&w->pool, "%llu", (unsigned long long)bytes);
    if (!entries || !offset_text || !length_text) return fail_memory(w, err);
    entries[0] = new_entry(w, "location", w->data.name);
    entries[1] = new_entry(w, "offset", offset_text);
    entries[2] = new_entry(w, "length", length_text);
    if (!entries[0] || !entries[1] || !entries[2]) return fail_memory(w, err);
    size_t n = 3;
    for (size_t i = 0; i < tensor->n_external_data; i++) {
        if (!is_place(onnx_text(tensor->external_data[i]->key))) entries[n++] = tensor->external_data[i];
    }
    patch_tensor(w, tensor);
    tensor->external_data = entries;
    tensor->n_external_data = n;
    return CKPT_OK;
}

/* ---- The data file ---------------------------------------------------------------------------------- */

static ckpt_status copy_data(writer *w, Onnx__TensorProto *tensor, uint64_t bytes, ckpt_error *err) {
    onnx_external source;
    CKPT_TRY(onnx_external_open(w->file, tensor, bytes, &source, err));
    ckpt_status status = CKPT_OK;
    unsigned char chunk[CHUNK_BYTES];
    for (uint64_t done = 0; done < bytes && status == CKPT_OK;) {
        size_t n = bytes - done < sizeof chunk ? (size_t)(bytes - done) : sizeof chunk;
        status = onnx_external_read(&source, done, chunk, n, err);
        if (status == CKPT_OK) status = ckpt_atomic_write(&w->data, chunk, n, err);
        done += n;
    }
    close(source.fd);
    return status;
}

static ckpt_status convert_data(writer *w, const onnx_type *type, const ckpt_onnx_replacement *values,
                                ckpt_error *err) {
    unsigned char chunk[CHUNK_BYTES];
    const size_t size = type->bits / 8, step = sizeof chunk / size;
    for (size_t done = 0, n; done < values->count; done += n) {
        n = values->count - done < step ? values->count - done : step;
        type->from_f32(values->values + done, chunk, n);
        CKPT_TRY(ckpt_atomic_write(&w->data, chunk, n * size, err));
    }
    return CKPT_OK;
}

static ckpt_status write_external(writer *w, Onnx__TensorProto *tensor, ckpt_error *err) {
    ckpt_onnx_tensor_info info;
    CKPT_TRY(ckpt_onnx_tensor_describe(w->file, tensor, &info, err));
    CKPT_TRY(ckpt_atomic_align(&w->data, DATA_ALIGNMENT, err));
    uint64_t offset = w->data.size_bytes;
    const ckpt_onnx_replacement *values = replacement_of(w, tensor);
    if (values) {
        CKPT_TRY(convert_data(w, onnx_type_find(info.type), values, err));
    } else {
        ckpt_status status = copy_data(w, tensor, info.bytes, err);
        if (status != CKPT_OK) return onnx_tensor_fail_in(w->file, tensor, status, err);
    }
    return patch_external(w, tensor, offset, info.bytes, err);
}

static ckpt_status write_data(writer *w, ckpt_error *err) {
    CKPT_TRY(onnx_data_names_find(w->file, &w->externals, w->path, &w->pool, &w->names, err));
    CKPT_TRY(ckpt_atomic_open(&w->data, w->names.chosen, err));
    for (size_t i = 0; i < w->externals.count; i++) CKPT_TRY(write_external(w, w->externals.at[i], err));
    return ckpt_atomic_flush(&w->data, err);
}

/* ---- The model file --------------------------------------------------------------------------------- */

/* protobuf-c's output goes straight to the file: a packed model is never in memory. append has no result, so
 * the first failure is kept here. */
typedef struct model_sink {
    ProtobufCBuffer base;
    ckpt_atomic_file *out;
    ckpt_error *err;
    ckpt_status status;
} model_sink;

static void append(ProtobufCBuffer *buffer, size_t count, const uint8_t *bytes) {
    model_sink *sink = (model_sink *)buffer;
    if (sink->status == CKPT_OK) sink->status = ckpt_atomic_write(sink->out, bytes, count, sink->err);
}

static ckpt_status check_size(const writer *w, ckpt_error *err) {
    if (onnx__model_proto__get_packed_size(w->file->model) <= INT32_MAX) return CKPT_OK;
    return ckpt_fail(err, CKPT_MODEL,
                     "%s: would be larger than 2 GiB, the limit of protobuf; export the model with external data", w->path);
}

static ckpt_status write_model(writer *w, ckpt_atomic_file *out, ckpt_error *err) {
    const Onnx__ModelProto *model = w->file->model;
    CKPT_TRY(check_size(w, err));
    model_sink sink = {.base = {append}, .out = out, .err = err, .status = CKPT_OK};
    onnx__model_proto__pack_to_buffer(model, &sink.base);
    CKPT_TRY(sink.status);
    return ckpt_atomic_flush(out, err);
}

/* The data first, under a name that the old model does not use: at every moment the model at the path is whole. */
static ckpt_status publish(writer *w, ckpt_atomic_file *out, ckpt_error *err) {
    if (w->externals.count == 0) return ckpt_atomic_commit(out, err);
    CKPT_TRY(ckpt_atomic_commit(&w->data, err));
    const ckpt_status status = ckpt_atomic_commit(out, err);
    if (status == CKPT_OK) onnx_data_names_remove_old(&w->names);
    return status;
}

static ckpt_status write_all(writer *w, ckpt_error *err) {
    ckpt_atomic_file out;
    CKPT_TRY(ckpt_atomic_open(&out, w->path, err));
    ckpt_status status = w->externals.count > 0 ? write_data(w, err) : CKPT_OK;
    if (status == CKPT_OK) status = write_model(w, &out, err);
    if (status == CKPT_OK) status = publish(w, &out, err);
    ckpt_atomic_close(&out);
    return status;
}

static ckpt_status check_output(const ckpt_onnx_file *file, const char *path, unsigned flags,
                                ckpt_error *err) {
    const onnx_open_file *open_file = onnx_open(file);
    struct stat st;
    if (stat(path, &st) != 0) return CKPT_OK; /* not there; creating it says what else may be wrong */
    bool same = st.st_dev == open_file->device && st.st_ino == open_file->inode;
    if (same && !(flags & CKPT_ONNX_OVERWRITE_INPUT)) {
        return ckpt_fail(err, CKPT_USAGE, "%s: is the model that was read; name another file to write", path);
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        return ckpt_fail(err, CKPT_USAGE, "%s: is not a regular file; name another file to write", path);
    }
    return CKPT_OK;
}

static ckpt_status prepare(writer *w, const ckpt_onnx_replacement *replacements, size_t count,
                           ckpt_error *err) {
    CKPT_TRY(match_targets(w, replacements, count, err));
    if (!onnx_collect_externals(w->file, &w->pool, &w->externals)) return fail_memory(w, err);
    /* A tensor is patched once: in its field or, if external, with its place. */
    w->patches = ckpt_pool_array(&w->pool, count + w->externals.count, patch);
    if (!w->patches) return fail_memory(w, err);
    for (size_t i = 0; i < count; i++) CKPT_TRY(patch_inline(w, &w->targets[i], err));
    return CKPT_OK;
}

/* All that can fail before a byte of the new values is looked at. */
static ckpt_status check_all(writer *w, const ckpt_onnx_replacement *replacements, size_t count, ckpt_error *err) {
    ckpt_onnx_tensor_info info;
    onnx_store store;
    CKPT_TRY(match_targets(w, replacements, count, err));
    for (size_t i = 0; i < count; i++) CKPT_TRY(check_target(w, &w->targets[i], &store, err));
    if (!onnx_collect_externals(w->file, &w->pool, &w->externals)) return fail_memory(w, err);
    for (size_t i = 0; i < w->externals.count; i++)
        CKPT_TRY(ckpt_onnx_tensor_describe(w->file, w->externals.at[i], &info, err));
    if (w->externals.count) CKPT_TRY(onnx_data_names_find(w->file, &w->externals, w->path, &w->pool, &w->names, err));
    return check_size(w, err);
}

ckpt_status ckpt_onnx_check_write(ckpt_onnx_file *file, const char *path, const ckpt_onnx_replacement *replacements,
                                  size_t count, ckpt_error *err) {
    writer w = {.file = file, .path = path};
    const ckpt_status status = check_all(&w, replacements, count, err);
    ckpt_pool_free(&w.pool);
    return status;
}

ckpt_status ckpt_onnx_write(ckpt_onnx_file *file, const char *path, const ckpt_onnx_replacement *replacements,
                            size_t count, unsigned flags, ckpt_error *err) {
    CKPT_TRY(check_output(file, path, flags, err));
    writer w = {.file = file, .path = path, .data = {.fd = -1, .directory_fd = -1}};
    ckpt_status status = prepare(&w, replacements, count, err);
    if (status == CKPT_OK) status = write_all(&w, err);
    restore(&w);
    ckpt_atomic_close(&w.data);
    ckpt_pool_free(&w.pool);
    return status;
}
