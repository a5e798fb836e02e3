/* Edits of an open model, in the memory that protobuf-c frees with it. */
#include <stdio.h>
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

/* A copy in the file's own memory, as if it had been read. By way of its bytes: whatever a message holds, unknown fields
 * included, is copied. */
static void *copy_message(onnx_heap *heap, const ProtobufCMessage *message) {
    const size_t bytes = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = malloc(bytes + 1);
    if (!packed) return NULL;
    protobuf_c_message_pack(message, packed);
    void *copy = protobuf_c_message_unpack(message->descriptor, &heap->api, bytes, packed);
    free(packed);
    return copy;
}

/* The list with room for one more entry at its end, in place of the old one; NULL, and the old one stays: no memory. */
static void *grow_list(onnx_heap *heap, void *old, size_t count) {
    void **list = heap->api.alloc(heap, (count + 1) * sizeof *list);
    if (!list) return NULL;
    if (count) memcpy(list, old, count * sizeof *list);
    heap->api.free(heap, old);
    return list;
}

bool onnx_append_initializer(ckpt_onnx_file *file, Onnx__TensorProto *tensor) {
    Onnx__GraphProto *graph = file->model->graph;
    Onnx__TensorProto **list = grow_list(onnx_heap_of(file), graph->initializer, graph->n_initializer);
    if (!list) return false;
    list[graph->n_initializer++] = tensor;
    graph->initializer = list;
    return true;
}

ckpt_status ckpt_onnx_copy_initializer(ckpt_onnx_file *file, size_t index, const char *name, ckpt_error *err) {
    onnx_heap *heap = onnx_heap_of(file);
    Onnx__TensorProto *copy = copy_message(heap, &file->model->graph->initializer[index]->base);
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

static Onnx__NodeProto *make_transpose(onnx_heap *heap, const char *source, const char *output, const char *name) {
    static int64_t perm[] = {1, 0};
    Onnx__NodeProto node = ONNX__NODE_PROTO__INIT;
    Onnx__AttributeProto attribute = ONNX__ATTRIBUTE_PROTO__INIT, *attributes[1] = {&attribute};
    char *inputs[1] = {(char *)source}, *outputs[1] = {(char *)output}; /* only read */
    attribute.name = (char *)"perm";
    attribute.has_type = 1;
    attribute.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
    attribute.n_ints = 2;
    attribute.ints = perm;
    node.op_type = (char *)"Transpose";
    node.name = (char *)name;
    node.n_input = node.n_output = node.n_attribute = 1;
    node.input = inputs;
    node.output = outputs;
    node.attribute = attributes;
    return copy_message(heap, &node.base);
}

ckpt_status ckpt_onnx_transpose_instead(ckpt_onnx_file *file, size_t index, const char *source, ckpt_error *err) {
    onnx_heap *heap = onnx_heap_of(file);
    Onnx__GraphProto *graph = file->model->graph;
    const char *output = graph->initializer[index]->name;
    char name[512];
    snprintf(name, sizeof name, "%s/Transpose", output);
    Onnx__NodeProto *node = make_transpose(heap, source, output, name);
    Onnx__NodeProto **list = node ? grow_list(heap, graph->node, graph->n_node) : NULL;
    if (!list) {
        if (node) onnx__node_proto__free_unpacked(node, &heap->api);
        return fail_memory(file, output, err);
    }
    memmove(list + 1, list, graph->n_node * sizeof *list);
    list[0] = node;
    graph->node = list;
    graph->n_node++;
    onnx__tensor_proto__free_unpacked(graph->initializer[index], &heap->api);
    graph->n_initializer--;
    memmove(&graph->initializer[index], &graph->initializer[index + 1],
            (graph->n_initializer - index) * sizeof *graph->initializer);
    return CKPT_OK;
}

static Onnx__StringStringEntryProto *find_metadata(const Onnx__ModelProto *model, const char *key) {
    for (size_t i = 0; i < model->n_metadata_props; i++)
        if (strcmp(onnx_text(model->metadata_props[i]->key), key) == 0) return model->metadata_props[i];
    return NULL;
}

/* A new entry at the end, without a value; NULL when memory runs out. */
static Onnx__StringStringEntryProto *add_metadata(onnx_heap *heap, Onnx__ModelProto *model, const char *key) {
    Onnx__StringStringEntryProto *entry = heap->api.alloc(heap, sizeof *entry);
    char *text = entry ? onnx_copy_text(heap, key) : NULL;
    Onnx__StringStringEntryProto **list = text ? grow_list(heap, model->metadata_props, model->n_metadata_props) : NULL;
    if (!list) {
        heap->api.free(heap, text);
        heap->api.free(heap, entry);
        return NULL;
    }
    onnx__string_string_entry_proto__init(entry);
    entry->key = text;
    list[model->n_metadata_props++] = entry;
    model->metadata_props = list;
    return entry;
}

ckpt_status ckpt_onnx_set_metadata(ckpt_onnx_file *file, const char *key, const char *value, ckpt_error *err) {
    onnx_heap *heap = onnx_heap_of(file);
    char *text = onnx_copy_text(heap, value);
    Onnx__StringStringEntryProto *entry = text ? find_metadata(file->model, key) : NULL;
    if (text && !entry) entry = add_metadata(heap, file->model, key);
    if (!entry) {
        heap->api.free(heap, text);
        return fail_memory(file, key, err);
    }
    replace_text(heap, &entry->value, text);
    return CKPT_OK;
}
