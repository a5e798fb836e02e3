#include "graph_oracle.h"

#include <assert.h>
#include <stdlib.h>

#include "graph/op.h"

typedef struct oracle {
    const ckpt_graph *graph;
    const ckpt_costs *costs;
    uint64_t alignment, budget;
    int bit[256];  /* by tensor; -1 */
    int last[256]; /* by tensor that a fixed node made: the last node that reads it */
    int bits;
    uint64_t bytes[CKPT_GRAPH_ORACLE_TENSORS];
    uint64_t cost[1 << CKPT_GRAPH_ORACLE_TENSORS], after[1 << CKPT_GRAPH_ORACLE_TENSORS];
} oracle;

static bool runs_once(const ckpt_graph *g, int n) {
    return n >= g->forward_count || g->node[n].op == CKPT_OP_LOSS || ckpt_node_has_effect(g, n);
}

static uint64_t size_of(const oracle *o, int tensor) {
    return (ckpt_tensor_bytes(&o->graph->tensor[tensor]) + o->alignment - 1) / o->alignment * o->alignment;
}

int ckpt_graph_oracle_tensors(const ckpt_graph *g) {
    int count = 0;
    for (int n = 0; n < g->node_count; n++)
        for (int i = 0; i < g->node[n].out_count && !runs_once(g, n); i++)
            count += ckpt_tensor_is_step(g, g->node[n].out[i]);
    return count;
}

static uint64_t live_in(const oracle *o, int set) {
    uint64_t bytes = 0;
    for (int b = 0; b < o->bits; b++)
        if (set >> b & 1) bytes += o->bytes[b];
    return bytes;
}

static bool may_write_over(const ckpt_graph *g, const ckpt_node *node, int i) {
    const uint64_t mask = ckpt_op_info(node->op)->inplace;
    if (!(mask >> i & 1) || !ckpt_tensor_is_step(g, node->in[i]) || !ckpt_tensor_is_step(g, node->out[0])) return false;
    for (int j = 0; j < node->in_count; j++)
        if (node->in[j] == node->in[i] && !(mask >> j & 1)) return false;
    return ckpt_tensor_bytes(&g->tensor[node->in[i]]) == ckpt_tensor_bytes(&g->tensor[node->out[0]]);
}

static bool lower(uint64_t *cost, uint64_t to) {
    if (to >= *cost) return false;
    *cost = to;
    return true;
}

/* Runs node n with `set` there, and `others` bytes besides; true when a cost in `to` fell. */
static bool run(oracle *o, int n, int set, uint64_t others, uint64_t *to) {
    const ckpt_graph *g = o->graph;
    const ckpt_node *node = &g->node[n];
    uint64_t fresh = 0;
    int with = set;
    bool fell = false, free_over = false;
    for (int i = 0; i < node->in_count; i++) {
        const int t = node->in[i];
        if (!ckpt_tensor_is_step(g, t)) continue;
        if (o->bit[t] >= 0 && !(set >> o->bit[t] & 1)) return false;
        if (o->bit[t] < 0 && o->last[t] == n && may_write_over(g, node, i)) free_over = true;
    }
    for (int i = 0; i < node->out_count; i++) {
        if (!ckpt_tensor_is_step(g, node->out[i])) continue;
        if (o->bit[node->out[i]] >= 0) with |= 1 << o->bit[node->out[i]];
        if (i > 0 || !free_over) fresh += size_of(o, node->out[i]);
    }
    if (!runs_once(g, n) && with == set) return false;
    const uint64_t live = live_in(o, set) + others + fresh;
    const uint64_t cost = o->cost[set] + (runs_once(g, n) ? 0 : o->costs->node[n]);
    if (live <= o->budget) fell |= lower(&to[with], cost);
    for (int i = 0; i < node->in_count && !free_over; i++) {
        const int b = node->in[i] >= 0 ? o->bit[node->in[i]] : -1;
        if (b >= 0 && may_write_over(g, node, i) && live - size_of(o, node->out[0]) <= o->budget)
            fell |= lower(&to[with & ~(1 << b)], cost);
    }
    return fell;
}

static void settle(oracle *o, uint64_t others) {
    const int sets = 1 << o->bits;
    for (bool fell = true; fell;) {
        fell = false;
        for (int set = sets - 1; set >= 0; set--) {
            if (o->cost[set] == UINT64_MAX) continue;
            for (int b = 0; b < o->bits; b++) fell |= lower(&o->cost[set & ~(1 << b)], o->cost[set]);
            for (int n = 0; n < o->graph->forward_count; n++)
                if (!runs_once(o->graph, n)) fell |= run(o, n, set, others, o->cost);
        }
    }
}

uint64_t ckpt_graph_oracle(const ckpt_graph *g, const ckpt_costs *costs, uint64_t alignment, uint64_t budget) {
    static oracle o;
    uint64_t once = 0, others = 0, best = UINT64_MAX;
    assert(g->tensor_count <= 256 && ckpt_graph_oracle_tensors(g) <= CKPT_GRAPH_ORACLE_TENSORS);
    o = (oracle){.graph = g, .costs = costs, .alignment = alignment, .budget = budget};
    for (int t = 0; t < 256; t++) o.bit[t] = o.last[t] = -1;
    for (int n = 0; n < g->node_count; n++) {
        if (!runs_once(g, n)) once += costs->node[n];
        for (int i = 0; i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) o.last[g->node[n].in[i]] = n;
        for (int i = 0; i < g->node[n].out_count && !runs_once(g, n); i++)
            if (ckpt_tensor_is_step(g, g->node[n].out[i])) {
                o.bytes[o.bits] = size_of(&o, g->node[n].out[i]);
                o.bit[g->node[n].out[i]] = o.bits++;
            }
    }
    const int sets = 1 << o.bits;
    for (int set = 0; set < sets; set++) o.cost[set] = set ? UINT64_MAX : 0;
    for (int n = 0; n < g->node_count; n++) {
        if (!runs_once(g, n)) continue;
        settle(&o, others);
        for (int set = 0; set < sets; set++) o.after[set] = UINT64_MAX;
        for (int set = 0; set < sets; set++)
            if (o.cost[set] != UINT64_MAX) run(&o, n, set, others, o.after);
        for (int set = 0; set < sets; set++) o.cost[set] = o.after[set];
        for (int i = 0; i < g->node[n].out_count; i++)
            if (ckpt_tensor_is_step(g, g->node[n].out[i]) && o.last[g->node[n].out[i]] > n)
                others += size_of(&o, g->node[n].out[i]);
        for (int t = 0; t < g->tensor_count; t++)
            if (ckpt_tensor_is_step(g, t) && o.bit[t] < 0 && o.last[t] == n && g->tensor[t].producer < n)
                others -= size_of(&o, t);
    }
    for (int set = 0; set < sets; set++)
        if (o.cost[set] < best) best = o.cost[set];
    return best == UINT64_MAX ? best : best - once;
}
