#include "planner/graph/graph_moment.h"

#include "base/units.h"
#include "graph/op.h"

static uint64_t bytes_of(const ckpt_graph *g, int tensor, uint64_t alignment) {
    return ckpt_align_up(ckpt_tensor_bytes(&g->tensor[tensor]), alignment);
}

void ckpt_graph_moment_reads(const ckpt_graph *g, int *last) {
    for (int t = 0; t < g->tensor_count; t++) last[t] = -1;
    for (int n = g->forward_count; n < g->node_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++)
            if (ckpt_tensor_is_step(g, g->node[n].in[i])) last[g->node[n].in[i]] = n;
}

/* Whether out[0] of node n may be written over an input: the rule of liveness.c, where forward tensors die as they
 * like. */
static bool may_be_written_over(const ckpt_graph *g, int n, const int *last) {
    const ckpt_node *node = &g->node[n];
    const uint64_t mask = ckpt_op_info(node->op)->inplace;
    for (int i = 0; i < node->in_count && mask; i++) {
        const int t = node->in[i];
        if (!(mask >> i & 1) || !ckpt_tensor_is_step(g, t) ||
            ckpt_tensor_bytes(&g->tensor[t]) != ckpt_tensor_bytes(&g->tensor[node->out[0]]))
            continue;
        bool otherwise = g->tensor[t].producer >= g->forward_count && last[t] > n;
        for (int j = 0; j < node->in_count; j++) otherwise |= node->in[j] == t && !(mask >> j & 1);
        if (!otherwise) return true;
    }
    return false;
}

/* Whether input i of the node is a tensor of the step that is no earlier input as well. */
static bool counts(const ckpt_graph *g, const ckpt_node *node, int i) {
    for (int j = 0; j < i; j++)
        if (node->in[j] == node->in[i]) return false;
    return ckpt_tensor_is_step(g, node->in[i]);
}

/* What n reads of the forward pass, and what it writes, but for an output that might be written over an input. */
static uint64_t bytes_of_node(const ckpt_graph *g, int n, uint64_t alignment, const int *last) {
    const ckpt_node *node = &g->node[n];
    uint64_t bytes = 0;
    for (int i = 0; i < node->in_count; i++)
        if (counts(g, node, i) && g->tensor[node->in[i]].producer < g->forward_count)
            bytes += bytes_of(g, node->in[i], alignment);
    for (int i = 0; i < node->out_count; i++)
        if (ckpt_tensor_is_step(g, node->out[i]) && (i > 0 || !may_be_written_over(g, n, last)))
            bytes += bytes_of(g, node->out[i], alignment);
    return bytes;
}

uint64_t ckpt_graph_moment_outputs(const ckpt_graph *g, uint64_t alignment, const int *last, int n, bool *written_over) {
    const ckpt_node *node = &g->node[n];
    uint64_t bytes = 0;
    *written_over = node->out_count > 0 && ckpt_tensor_is_step(g, node->out[0]) && may_be_written_over(g, n, last);
    for (int i = *written_over ? 1 : 0; i < node->out_count; i++)
        if (ckpt_tensor_is_step(g, node->out[i])) bytes += bytes_of(g, node->out[i], alignment);
    return bytes;
}

void ckpt_graph_moment_bytes(const ckpt_graph *g, uint64_t alignment, const int *last, uint64_t *bytes, uint64_t *gradients) {
    uint64_t live = 0; /* gradients, across the node */
    for (int n = 0; n < g->forward_count; n++) bytes[n] = 0;
    for (int n = 0; n < g->forward_count && gradients; n++) gradients[n] = 0;
    for (int n = g->forward_count; n < g->node_count; n++) {
        const ckpt_node *node = &g->node[n];
        bytes[n] = live + bytes_of_node(g, n, alignment, last);
        for (int i = 0; i < node->out_count; i++)
            if (ckpt_tensor_is_step(g, node->out[i]) && last[node->out[i]] > n)
                live += bytes_of(g, node->out[i], alignment);
        for (int i = 0; i < node->in_count; i++)
            if (counts(g, node, i) && last[node->in[i]] == n && g->tensor[node->in[i]].producer >= g->forward_count)
                live -= bytes_of(g, node->in[i], alignment);
        if (gradients) gradients[n] = live;
    }
}
