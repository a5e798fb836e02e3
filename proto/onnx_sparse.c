/* Sparse initializers as dense ones. ONNX: the values are a list, whose name is the initializer's; the indices say where in
 * `dims` each stands, as one number in row-major order or as one for each dimension; they ascend, and none comes twice. The
 * rest is zero. */
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "proto/onnx_convert.h"

enum { MOST_DIMS = 8 };

typedef struct sparse {
    const ckpt_onnx_file *file;
    const Onnx__SparseTensorProto *proto;
    const onnx_type *type;
    ckpt_onnx_tensor_info values, indices;
    uint64_t count, bytes; /* of the dense tensor */
    unsigned char *stored;
    int64_t *index;
} sparse;

static ckpt_status refuse(const sparse *s, ckpt_error *err, const char *why) {
    const Onnx__TensorProto *values = s->proto->values;
    return ckpt_fail(err, CKPT_MODEL, "%s: the sparse initializer '%.160s' %s; store it as a dense initializer", s->file->path,
                     values ? onnx_text(values->name) : "", why);
}

static ckpt_status describe(sparse *s, ckpt_error *err) {
    const Onnx__SparseTensorProto *p = s->proto;
    if (!p->values || !p->indices) return refuse(s, err, "has no values or no indices");
    if (!*onnx_text(p->values->name)) return refuse(s, err, "has no name");
    CKPT_TRY(ckpt_onnx_tensor_describe(s->file, p->values, &s->values, err));
    CKPT_TRY(ckpt_onnx_tensor_describe(s->file, p->indices, &s->indices, err));
    s->type = onnx_type_find(p->values->data_type);
    if (s->type->field == ONNX_STORE_STRING || s->type->bits % 8)
        return refuse(s, err, "has values of a type that is not supported");
    if (s->values.rank != 1) return refuse(s, err, "has values that are not a list");
    if (s->indices.type != ONNX__TENSOR_PROTO__DATA_TYPE__INT64) return refuse(s, err, "has indices that are not INT64");
    if (p->n_dims > MOST_DIMS) return refuse(s, err, "has more than 8 dimensions");
    const bool linear = s->indices.rank == 1, split = s->indices.rank == 2 && (uint64_t)s->indices.dims[1] == p->n_dims;
    if ((!linear && !split) || (uint64_t)s->indices.dims[0] != s->values.count)
        return refuse(s, err, "has not one index for each value");
    s->count = 1;
    for (size_t i = 0; i < p->n_dims; i++)
        if (p->dims[i] <= 0 || !ckpt_mul_u64(s->count, (uint64_t)p->dims[i], &s->count))
            return refuse(s, err, "has a dimension below 1, or is larger than any memory");
    if (s->values.count > s->count) return refuse(s, err, "has more values than its dimensions hold");
    if (!ckpt_mul_u64(s->count, s->type->bits / 8, &s->bytes)) return refuse(s, err, "is larger than any memory");
    return CKPT_OK;
}

/* Where value i stands among all, or -1. */
static int64_t place_of(const sparse *s, size_t i) {
    if (s->indices.rank == 1) return s->index[i] < 0 || (uint64_t)s->index[i] >= s->count ? -1 : s->index[i];
    int64_t place = 0;
    for (size_t d = 0; d < s->proto->n_dims; d++) {
        const int64_t along = s->index[i * s->proto->n_dims + d];
        if (along < 0 || along >= s->proto->dims[d]) return -1;
        place = place * s->proto->dims[d] + along;
    }
    return place;
}

static ckpt_status scatter(sparse *s, unsigned char *dense, ckpt_error *err) {
    const size_t size = s->type->bits / 8;
    int64_t last = -1;
    CKPT_TRY(ckpt_onnx_tensor_read(s->file, s->proto->values, s->stored, (size_t)s->values.bytes, err));
    CKPT_TRY(ckpt_onnx_tensor_read_i64(s->file, s->proto->indices, s->index, (size_t)s->indices.count, err));
    memset(dense, 0, (size_t)s->bytes);
    for (size_t i = 0; i < s->values.count; i++) {
        const int64_t place = place_of(s, i);
        if (place < 0) return refuse(s, err, "has an index outside its dimensions");
        if (place <= last) return refuse(s, err, "has indices that do not ascend");
        memcpy(dense + (size_t)place * size, s->stored + i * size, size);
        last = place;
    }
    return CKPT_OK;
}

/* An initializer with room for the values, in the file's memory; NULL: none is left within its limit. */
static Onnx__TensorProto *new_dense(const sparse *s, onnx_heap *heap) {
    Onnx__TensorProto *t = heap->api.alloc(heap, sizeof *t);
    if (!t) return NULL;
    onnx__tensor_proto__init(t);
    t->has_data_type = t->has_raw_data = 1;
    t->data_type = s->proto->values->data_type;
    t->name = onnx_copy_text(heap, s->proto->values->name);
    t->dims = heap->api.alloc(heap, (s->proto->n_dims + 1) * sizeof *t->dims);
    t->raw_data.data = s->bytes < SIZE_MAX / 2 ? heap->api.alloc(heap, (size_t)s->bytes + 1) : NULL;
    if (t->name && t->dims && t->raw_data.data) {
        t->n_dims = s->proto->n_dims;
        if (t->n_dims) memcpy(t->dims, s->proto->dims, t->n_dims * sizeof *t->dims);
        t->raw_data.len = (size_t)s->bytes;
        return t;
    }
    onnx__tensor_proto__free_unpacked(t, &heap->api);
    return NULL;
}

static ckpt_status add_dense(ckpt_onnx_file *file, sparse *s, ckpt_error *err) {
    onnx_heap *heap = onnx_heap_of(file);
    CKPT_TRY(describe(s, err));
    Onnx__TensorProto *t = new_dense(s, heap);
    if (!t) return refuse(s, err, "is too sparse, or too large, to be read as a dense one");
    s->stored = malloc((size_t)s->values.bytes + 1);
    s->index = calloc((size_t)s->indices.count + 1, sizeof *s->index);
    ckpt_status status = s->stored && s->index ? scatter(s, t->raw_data.data, err)
                                               : ckpt_fail(err, CKPT_NOMEM, "%s: out of memory", file->path);
    if (status == CKPT_OK && !onnx_append_initializer(file, t))
        status = ckpt_fail(err, CKPT_NOMEM, "%s: no memory within its limit for %s", file->path, t->name);
    if (status != CKPT_OK) onnx__tensor_proto__free_unpacked(t, &heap->api);
    free(s->stored);
    free(s->index);
    return status;
}

ckpt_status ckpt_onnx_make_dense(ckpt_onnx_file *file, ckpt_onnx_dense *done, ckpt_error *err) {
    Onnx__GraphProto *graph = file->model->graph;
    onnx_heap *heap = onnx_heap_of(file);
    *done = (ckpt_onnx_dense){0};
    for (size_t i = 0; i < graph->n_sparse_initializer; i++) {
        sparse s = {.file = file, .proto = graph->sparse_initializer[i]};
        CKPT_TRY(add_dense(file, &s, err));
        done->stored += s.values.count;
        done->elements += s.count;
    }
    done->count = graph->n_sparse_initializer;
    if (done->count) done->first = graph->initializer[graph->n_initializer - done->count]->name;
    for (size_t i = 0; i < graph->n_sparse_initializer; i++)
        onnx__sparse_tensor_proto__free_unpacked(graph->sparse_initializer[i], &heap->api);
    heap->api.free(heap, graph->sparse_initializer);
    graph->sparse_initializer = NULL;
    graph->n_sparse_initializer = 0;
    return CKPT_OK;
}
