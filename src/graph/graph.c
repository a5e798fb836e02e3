#include "graph/graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/sha256.h"
#include "base/units.h"
#include "graph/op.h"

uint64_t ckpt_dtype_bytes(ckpt_dtype dtype) {
    static const uint64_t table[] = {
#define X(name, bytes) bytes,
        CKPT_DTYPE_LIST(X)
#undef X
    };
    return table[dtype];
}

const char *ckpt_dtype_name(ckpt_dtype dtype) {
    static const char *const table[] = {
#define X(name, bytes) #name,
        CKPT_DTYPE_LIST(X)
#undef X
    };
    return table[dtype];
}

uint64_t ckpt_tensor_bytes(const ckpt_tensor *tensor) {
    return (uint64_t)tensor->count * ckpt_dtype_bytes(tensor->dtype);
}

bool ckpt_tensor_is_saved(const ckpt_tensor *tensor) {
    return tensor->role == CKPT_ROLE_PARAM || tensor->role == CKPT_ROLE_STATISTIC;
}

bool ckpt_tensor_is_step(const ckpt_graph *graph, int tensor) {
    return tensor >= 0 && graph->tensor[tensor].role == CKPT_ROLE_STEP;
}

bool ckpt_node_has_effect(const ckpt_graph *graph, int node) {
    const ckpt_node *n = &graph->node[node];
    for (int i = 0; i < n->out_count; i++)
        if (n->out[i] >= 0 && !ckpt_tensor_is_step(graph, n->out[i])) return true;
    return false;
}

bool ckpt_node_must_run(const ckpt_graph *graph, int node, const bool *needed) {
    const ckpt_node *n = &graph->node[node];
    for (int i = 0; i < n->out_count; i++) {
        if (n->out[i] < 0) continue;
        if (n->op == CKPT_OP_STATS_UPDATE ? needed[n->in[0]] || needed[n->out[i]]
                                          : needed[n->out[i]] || !ckpt_tensor_is_step(graph, n->out[i]))
            return true;
    }
    return false;
}

const char *ckpt_shape_text(const ckpt_tensor *tensor, char text[128]) {
    size_t used = (size_t)snprintf(text, 128, "[");
    for (int i = 0; i < tensor->rank && used < 100; i++)
        used += (size_t)snprintf(text + used, 128 - used, "%s%" PRId64, i ? "," : "", tensor->dim[i]);
    snprintf(text + used, 128 - used, "]");
    return text;
}

/* Room for one more element in a pool array that doubles. */
static bool reserve(ckpt_pool *pool, void **array, int count, int *capacity, size_t size) {
    if (count < *capacity) return true;
    if (*capacity > (1 << 28)) return false;
    int room = *capacity ? 2 * *capacity : 64;
    void *fresh = ckpt_pool_grow(pool, *array, (size_t)count, (size_t)room, size);
    if (!fresh) return false;
    *array = fresh;
    *capacity = room;
    return true;
}

int ckpt_graph_add_tensor(ckpt_graph *graph, const char *name, ckpt_dtype dtype, ckpt_role role, int rank,
                          const int64_t *dims, ckpt_error *err) {
    if (!name) name = "";
    if (rank < 0 || rank > CKPT_MAX_RANK) {
        ckpt_fail(err, CKPT_MODEL, "tensor '%s' has %d dimensions; at most %d are supported", name, rank,
                  CKPT_MAX_RANK);
        return -1;
    }
    /* A 0 does not excuse the other dimensions: products of some of them are row counts and strides. */
    uint64_t count = 1;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        empty |= dims[i] == 0;
        if (dims[i] < 0 || (dims[i] && !ckpt_mul_u64(count, (uint64_t)dims[i], &count)) || count > (1ull << 62) / 8) {
            ckpt_fail(err, CKPT_MODEL, "tensor '%s': dimension %d is %" PRId64 ", which makes it %s", name, i,
                      dims[i], dims[i] < 0 ? "negative" : "larger than any memory");
            return -1;
        }
    }
    if (empty) count = 0;
    if (!reserve(&graph->pool, (void **)&graph->tensor, graph->tensor_count, &graph->tensor_capacity,
                 sizeof *graph->tensor)) {
        ckpt_fail(err, CKPT_NOMEM, "out of host memory while reading tensor '%s'", name);
        return -1;
    }
    ckpt_tensor *tensor = &graph->tensor[graph->tensor_count];
    *tensor = (ckpt_tensor){.name = *name ? ckpt_pool_strdup(&graph->pool, name)
                                           : ckpt_pool_printf(&graph->pool, "tensor_%d", graph->tensor_count),
                            .dtype = dtype, .role = role, .rank = rank, .count = (int64_t)count, .producer = -1, .owner = -1};
    if (!tensor->name) {
        ckpt_fail(err, CKPT_NOMEM, "out of host memory");
        return -1;
    }
    for (int i = 0; i < rank; i++) tensor->dim[i] = dims[i];
    return graph->tensor_count++;
}

int ckpt_graph_add_node(ckpt_graph *graph, ckpt_op op, ckpt_phase phase, const char *name, int in_count,
                        const int *in, int out_count, const int *out, ckpt_error *err) {
    if (!reserve(&graph->pool, (void **)&graph->node, graph->node_count, &graph->node_capacity,
                 sizeof *graph->node)) {
        ckpt_fail(err, CKPT_NOMEM, "out of host memory");
        return -1;
    }
    ckpt_node *node = &graph->node[graph->node_count];
    *node = (ckpt_node){.op = op, .phase = phase, .layer = -1, .in_count = in_count, .out_count = out_count};
    node->name = name && *name ? ckpt_pool_strdup(&graph->pool, name)
                               : ckpt_pool_printf(&graph->pool, "%s_%d", ckpt_op_info(op)->name, graph->node_count);
    if (!node->name) {
        ckpt_fail(err, CKPT_NOMEM, "out of host memory");
        return -1;
    }
    for (int i = 0; i < in_count; i++) node->in[i] = in[i];
    for (int i = 0; i < out_count; i++) {
        node->out[i] = out[i];
        if (ckpt_tensor_is_step(graph, out[i])) graph->tensor[out[i]].producer = graph->node_count;
    }
    return graph->node_count++;
}

void ckpt_graph_filter(ckpt_graph *graph, const bool *keep) {
    int kept = 0, forward = 0;
    for (int n = 0; n < graph->node_count; n++) {
        if (!keep[n]) continue;
        if (n < graph->forward_count) forward++;
        graph->node[kept] = graph->node[n];
        for (int i = 0; i < graph->node[kept].out_count; i++)
            if (ckpt_tensor_is_step(graph, graph->node[kept].out[i]))
                graph->tensor[graph->node[kept].out[i]].producer = kept;
        kept++;
    }
    graph->node_count = kept;
    graph->forward_count = forward;
}

ckpt_status ckpt_graph_copy(const ckpt_graph *graph, ckpt_graph *copy, ckpt_error *err) {
    *copy = *graph;
    copy->pool = (ckpt_pool){0};
    ckpt_pool *pool = &copy->pool;
    copy->tensor = ckpt_pool_grow(pool, graph->tensor, graph->tensor_count, graph->tensor_capacity, sizeof *copy->tensor);
    copy->node = ckpt_pool_grow(pool, graph->node, graph->node_count, graph->node_capacity, sizeof *copy->node);
    copy->layer = ckpt_pool_grow(pool, graph->layer, graph->layer_count, graph->layer_count, sizeof *copy->layer);
    copy->input = ckpt_pool_grow(pool, graph->input, graph->input_count, graph->input_count, sizeof *copy->input);
    copy->output = ckpt_pool_grow(pool, graph->output, graph->output_count, graph->output_count, sizeof *copy->output);
    bool ok = copy->tensor && copy->node && copy->layer && copy->input && copy->output;
    for (int i = 0; ok && i < copy->tensor_count; i++)
        ok = (copy->tensor[i].name = ckpt_pool_strdup(pool, graph->tensor[i].name)) != NULL;
    for (int i = 0; ok && i < copy->tensor_count; i++)
        if (graph->tensor[i].data)
            ok = (copy->tensor[i].data = ckpt_pool_grow(pool, graph->tensor[i].data, ckpt_tensor_bytes(&graph->tensor[i]),
                                                        ckpt_tensor_bytes(&graph->tensor[i]), 1)) != NULL;
    for (int i = 0; ok && i < copy->node_count; i++)
        ok = (copy->node[i].name = ckpt_pool_strdup(pool, graph->node[i].name)) != NULL;
    for (int i = 0; ok && i < copy->layer_count; i++)
        ok = (copy->layer[i].name = ckpt_pool_strdup(pool, graph->layer[i].name)) != NULL;
    if (ok && graph->path) ok = (copy->path = ckpt_pool_strdup(pool, graph->path)) != NULL;
    if (ok) return CKPT_OK;
    ckpt_pool_free(pool);
    *copy = (ckpt_graph){0};
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while copying a graph");
}

ckpt_status ckpt_graph_find_layers(ckpt_graph *graph, ckpt_error *err) {
    const int last = graph->forward_count;
    int count = 0;
    for (int n = 0; n < last; n++) count += (ckpt_op_info(graph->node[n].op)->flags & CKPT_MATMUL) != 0;
    if (count == 0) count = 1;
    graph->layer = ckpt_pool_array(&graph->pool, count, ckpt_layer);
    if (!graph->layer) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    graph->layer_count = count;
    graph->layer[0] = (ckpt_layer){.name = last ? graph->node[0].name : "", .linear = -1, .output = -1};
    int layer = 0;
    bool seen = false;
    for (int n = 0; n < last; n++) {
        ckpt_node *node = &graph->node[n];
        if (node->op == CKPT_OP_LOSS || node->op == CKPT_OP_ZERO) continue; /* they belong to no layer */
        if (ckpt_op_info(node->op)->flags & CKPT_MATMUL) {
            /* What precedes the first product belongs to the first layer. */
            if (seen) layer++;
            seen = true;
            graph->layer[layer] = (ckpt_layer){.name = node->name, .linear = n, .output = -1};
        }
        node->layer = layer;
        if (ckpt_tensor_is_step(graph, node->out[0])) graph->layer[layer].output = node->out[0];
    }
    return CKPT_OK;
}

/* Names are left out: two files with the same computation plan the same. */
void ckpt_graph_compute_hash(ckpt_graph *graph) {
    ckpt_sha256 hash;
    ckpt_sha256_start(&hash);
    ckpt_sha256_add(&hash, &graph->batch, sizeof graph->batch);
    for (int t = 0; t < graph->tensor_count; t++) {
        const ckpt_tensor *tensor = &graph->tensor[t];
        int32_t head[4] = {(int32_t)tensor->dtype, (int32_t)tensor->role, tensor->rank, tensor->producer};
        ckpt_sha256_add(&hash, head, sizeof head);
        ckpt_sha256_add(&hash, tensor->dim, sizeof *tensor->dim * (size_t)tensor->rank);
    }
    for (int n = 0; n < graph->node_count; n++) {
        const ckpt_node *node = &graph->node[n];
        const char *op = ckpt_op_info(node->op)->name;
        ckpt_sha256_add(&hash, op, strlen(op) + 1);
        int32_t head[5] = {(int32_t)node->phase, (int32_t)node->when, node->layer, node->in_count, node->out_count};
        ckpt_sha256_add(&hash, head, sizeof head);
        ckpt_sha256_add(&hash, node->in, sizeof *node->in * (size_t)node->in_count);
        ckpt_sha256_add(&hash, node->out, sizeof *node->out * (size_t)node->out_count);
        ckpt_sha256_add(&hash, &node->attr, sizeof node->attr);
    }
    ckpt_sha256_hex(&hash, graph->hash);
}

void ckpt_graph_free(ckpt_graph *graph) {
    ckpt_pool_free(&graph->pool);
    *graph = (ckpt_graph){0};
}
