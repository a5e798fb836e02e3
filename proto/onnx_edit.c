/* Edits of an open model, in the memory that protobuf-c frees with it. */
#include <stdlib.h>
#include <string.h>

#include "proto/onnx_internal.h"

static ckpt_status fail_memory(const ckpt_onnx_file *file, const char *what, ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "%s: no memory within its limit for %s", file->path, what);
}

char *onnx_copy_text(onnx_heap *heap, const char *text) {
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

bool onnx_append_initializer(ckpt_onnx_file *file, Onnx__TensorProto *tensor) {
    onnx_heap *heap = onnx_heap_of(file);
    Onnx__GraphProto *graph = file->model->graph;
    const size_t count = graph->n_initializer;
    Onnx__TensorProto **list = heap->api.alloc(heap, (count + 1) * sizeof *list);
    if (!list) return false;
    if (count) memcpy(list, graph->initializer, count * sizeof *list);
    list[count] = tensor;
    heap->api.free(heap, graph->initializer);
    graph->initializer = list;
    graph->n_initializer = count + 1;
    return true;
}

ckpt_status ckpt_onnx_copy_initializer(ckpt_onnx_file *file, size_t index, const char *name, ckpt_error *err) {
    onnx_heap *heap = onnx_heap_of(file);
    Onnx__TensorProto *copy = copy_tensor(heap, file->model->graph->initializer[index]);
    char *text = copy ? onnx_copy_text(heap, name) : NULL;
    if (text) replace_text(heap, &copy->name, text);
    if (text && onnx_append_initializer(file, copy)) return CKPT_OK;
    if (copy) onnx__tensor_proto__free_unpacked(copy, &heap->api);
    return fail_memory(file, name, err);
}

ckpt_status ckpt_onnx_set_input(ckpt_onnx_file *file, size_t node, size_t input, const char *name, ckpt_error *err) {
    onnx_heap *heap = onnx_heap_of(file);
    char *text = onnx_copy_text(heap, name);
    if (!text) return fail_memory(file, name, err);
    replace_text(heap, &file->model->graph->node[node]->input[input], text);
    return CKPT_OK;
}

void ckpt_onnx_remove_node(ckpt_onnx_file *file, size_t node) {
    Onnx__GraphProto *graph = file->model->graph;
    onnx__node_proto__free_unpacked(graph->node[node], &onnx_heap_of(file)->api);
    graph->n_node--;
    memmove(&graph->node[node], &graph->node[node + 1], (graph->n_node - node) * sizeof *graph->node);
}
