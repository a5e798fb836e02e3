/* Edits of an open model, in the memory that protobuf-c frees with it. */
#include <stdlib.h>
#include <string.h>

#include "proto/onnx_internal.h"

static ckpt_status fail_memory(const ckpt_onnx_file *file, const char *what, ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "%s: no memory within its limit for %s", file->path, what);
}

static onnx_heap *heap_of(ckpt_onnx_file *file) { return &((onnx_open_file *)(void *)file)->heap; }

static char *copy_text(onnx_heap *heap, const char *text) {
    const size_t bytes = strlen(text) + 1;
    char *copy = heap->api.alloc(heap, bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

static void replace_text(onnx_heap *heap, char **field, char *text) {
    if (*field && *field != (const char *)protobuf_c_empty_string) heap->api.free(heap, *field);
    *field = text;
}

/* By way of its bytes: whatever a tensor holds, unknown fields included, is copied. */
static Onnx__TensorProto *copy_tensor(onnx_heap *heap, const Onnx__TensorProto *tensor) {
    const size_t bytes = onnx__tensor_proto__get_packed_size(tensor);
    uint8_t *packed = malloc(bytes + 1);
    if (!packed) return NULL;
    onnx__tensor_proto__pack(tensor, packed);
    Onnx__TensorProto *copy = onnx__tensor_proto__unpack(&heap->api, bytes, packed);
    free(packed);
    return copy;
}

ckpt_status ckpt_onnx_copy_initializer(ckpt_onnx_file *file, size_t index, const char *name, ckpt_error *err) {
    onnx_heap *heap = heap_of(file);
    Onnx__GraphProto *graph = file->model->graph;
    const size_t count = graph->n_initializer;
    Onnx__TensorProto **list = heap->api.alloc(heap, (count + 1) * sizeof *list);
    Onnx__TensorProto *copy = list ? copy_tensor(heap, graph->initializer[index]) : NULL;
    char *text = copy ? copy_text(heap, name) : NULL;
    if (!text) {
        if (copy) onnx__tensor_proto__free_unpacked(copy, &heap->api);
        heap->api.free(heap, list);
        return fail_memory(file, name, err);
    }
    replace_text(heap, &copy->name, text);
    memcpy(list, graph->initializer, count * sizeof *list);
    list[count] = copy;
    heap->api.free(heap, graph->initializer);
    graph->initializer = list;
    graph->n_initializer = count + 1;
    return CKPT_OK;
}

ckpt_status ckpt_onnx_set_input(ckpt_onnx_file *file, size_t node, size_t input, const char *name, ckpt_error *err) {
    onnx_heap *heap = heap_of(file);
    char *text = copy_text(heap, name);
    if (!text) return fail_memory(file, name, err);
    replace_text(heap, &file->model->graph->node[node]->input[input], text);
    return CKPT_OK;
}

void ckpt_onnx_remove_node(ckpt_onnx_file *file, size_t node) {
    Onnx__GraphProto *graph = file->model->graph;
    onnx__node_proto__free_unpacked(graph->node[node], &heap_of(file)->api);
    graph->n_node--;
    memmove(&graph->node[node], &graph->node[node + 1], (graph->n_node - node) * sizeof *graph->node);
}

static Onnx__StringStringEntryProto *find_metadata(const Onnx__ModelProto *model, const char *key) {
    for (size_t i = 0; i < model->n_metadata_props; i++)
        if (strcmp(onnx_text(model->metadata_props[i]->key), key) == 0) return model->metadata_props[i];
    return NULL;
}

/* A list that is longer by one entry, in place of the old one; NULL when memory runs out. */
static Onnx__StringStringEntryProto *add_metadata(onnx_heap *heap, Onnx__ModelProto *model, const char *key) {
    const size_t count = model->n_metadata_props;
    Onnx__StringStringEntryProto **list = heap->api.alloc(heap, (count + 1) * sizeof *list);
    Onnx__StringStringEntryProto *entry = list ? heap->api.alloc(heap, sizeof *entry) : NULL;
    char *text = entry ? copy_text(heap, key) : NULL;
    if (!text) {
        heap->api.free(heap, entry);
        heap->api.free(heap, list);
        return NULL;
    }
    onnx__string_string_entry_proto__init(entry);
    entry->key = text;
    if (count) memcpy(list, model->metadata_props, count * sizeof *list);
    list[count] = entry;
    heap->api.free(heap, model->metadata_props);
    model->metadata_props = list;
    model->n_metadata_props = count + 1;
    return entry;
}

ckpt_status ckpt_onnx_set_metadata(ckpt_onnx_file *file, const char *key, const char *value, ckpt_error *err) {
    onnx_heap *heap = heap_of(file);
    char *text = copy_text(heap, value);
    Onnx__StringStringEntryProto *entry = text ? find_metadata(file->model, key) : NULL;
    if (text && !entry) entry = add_metadata(heap, file->model, key);
    if (!entry) {
        heap->api.free(heap, text);
        return fail_memory(file, key, err);
    }
    replace_text(heap, &entry->value, text);
    return CKPT_OK;
}
