#include "planner/graph/chain_graph_acts.h"

#include "base/units.h"
#include "graph/op.h"

static uint64_t bytes_of(const ckpt_graph_acts *x, int tensor) {
    return ckpt_align_up(ckpt_tensor_bytes(&x->graph->tensor[tensor]), x->alignment_bytes);
}

static uint64_t bit_of(const ckpt_graph_acts *x, int tensor) {
    return tensor >= 0 && x->bit[tensor] >= 0 ? (uint64_t)1 << x->bit[tensor] : 0;
}

static bool is_fixed(const ckpt_graph *g, int n) {
    return n >= g->forward_count || g->node[n].op == CKPT_OP_LOSS || ckpt_node_has_effect(g, n);
}

/* Gives bits to the tensors; false where the graph is not of this kind: a forward node that reads
 * what the fixed ones made, too many tensors. */
static bool number_tensors(ckpt_graph_acts *x) {
    const ckpt_graph *g = x->graph;
    for (int t = 0; t < g->tensor_count; t++) x->bit[t] = -1;
    for (int n = 0; n < g->node_count; n++) {
        const ckpt_node *node = &g->node[n];
        if (is_fixed(g, n)) continue;
        for (int i = 0; i < node->in_count; i++)
            if (ckpt_tensor_is_step(g, node->in[i]) && x->bit[node->in[i]] < 0) return false;
        for (int i = 0; i < node->out_count; i++)
            if (ckpt_tensor_is_step(g, node->out[i])) {
                if (x->tensor_count == CKPT_ACTS_TENSORS) return false;
                x->bytes[x->tensor_count] = bytes_of(x, node->out[i]);
                x->bit[node->out[i]] = x->tensor_count++;
            }
    }
    return true;
}

/* Inputs that out[0] of a node may be written over: the rule of liveness.c, but for when they die. */
static bool may_be_overwritten(const ckpt_graph *g, const ckpt_node *node, int i) {
    const uint64_t mask = ckpt_op_info(node->op)->inplace;
    const int t = node->in[i];
    if (!(mask >> i & 1) || !ckpt_tensor_is_step(g, t) || node->out_count < 1 ||
        !ckpt_tensor_is_step(g, node->out[0]) ||
        ckpt_tensor_bytes(&g->tensor[t]) != ckpt_tensor_bytes(&g->tensor[node->out[0]]))
        return false;
    for (int j = 0; j < node->in_count; j++)
        if (node->in[j] == t && !(mask >> j & 1)) return false;
    return true;
}

/* last: by tensor that a fixed node made, the fixed node that reads it last. */
static ckpt_graph_act make_act(const ckpt_graph_acts *x, int n, int at, const int *last) {
    const ckpt_graph *g = x->graph;
    const ckpt_node *node = &g->node[n];
    ckpt_graph_act a = {.node = n, .until = x->fixed_count};
    bool over = false;
    for (int i = 0; i < node->in_count; i++) {
        const int t = node->in[i];
        a.in |= bit_of(x, t);
        if (!may_be_overwritten(g, node, i)) continue;
        a.over |= bit_of(x, t);
        over |= x->bit[t] < 0 && last[t] == at;
    }
    for (int i = 0; i < node->out_count; i++) {
        if (!ckpt_tensor_is_step(g, node->out[i])) continue;
        a.out |= bit_of(x, node->out[i]);
        if (i == 0 && over)
            a.over = 0;
        else
            a.out_bytes += bytes_of(x, node->out[i]);
    }
    if (a.over) a.over_bytes = bytes_of(x, node->out[0]);
    return a;
}

static void list_acts(ckpt_graph_acts *x, int *last) {
    const ckpt_graph *g = x->graph;
    int at = 0;
    for (int t = 0; t < g->tensor_count; t++) last[t] = -1;
    for (int n = 0; n < g->node_count; n++)
        if (is_fixed(g, n)) {
            for (int i = 0; i < g->node[n].in_count; i++)
                if (g->node[n].in[i] >= 0) last[g->node[n].in[i]] = at;
            x->fixed[at++].node = n;
        }
    x->fixed_count = at;
    for (int i = 0; i < g->output_count; i++) {
        x->outputs |= bit_of(x, g->output[i]);
        if (g->output[i] >= 0) last[g->output[i]] = at;
    }
    for (int k = 0; k < at; k++) x->fixed[k] = make_act(x, x->fixed[k].node, k, last);
    for (int n = 0; n < g->forward_count; n++) {
        if (is_fixed(g, n)) continue;
        ckpt_graph_act *a = &x->forward[x->forward_count++];
        *a = make_act(x, n, -1, last);
        a->cost = x->costs->node[n];
        x->cost += a->cost;
        for (int k = at - 1; k >= 0; k--) {
            const ckpt_node *fixed = &g->node[x->fixed[k].node];
            for (int o = 0; o < fixed->out_count; o++)
                for (int i = 0; i < g->node[n].in_count; i++)
                    if (fixed->out[o] >= 0 && fixed->out[o] == g->node[n].in[i]) a->until = k;
        }
    }
}

/* What is there of the fixed nodes' own, and which forward tensors are of use, before each of them. False
 * where there is a forward node that nothing asks for. */
static bool look_ahead(ckpt_graph_acts *x, const int *last) {
    const ckpt_graph *g = x->graph;
    const int count = x->fixed_count;
    for (int k = count; k >= 0; k--) {
        x->read[k] = k == count ? x->outputs : x->read[k + 1] | x->fixed[k].in;
        uint64_t useful = x->read[k];
        for (int i = x->forward_count - 1; i >= 0; i--)
            if (x->forward[i].out & useful) useful |= x->forward[i].in;
        x->useful[k] = useful;
    }
    for (int i = 0; i < x->forward_count; i++)
        if (!(x->forward[i].out & x->useful[0])) return false;
    for (int k = 0; k < count; k++) {
        x->gradients[k + 1] = x->gradients[k];
        const ckpt_node *node = &g->node[x->fixed[k].node];
        for (int i = 0; i < node->out_count; i++)
            if (ckpt_tensor_is_step(g, node->out[i]) && last[node->out[i]] > k)
                x->gradients[k + 1] += bytes_of(x, node->out[i]);
        for (int i = 0; i < node->in_count; i++) {
            const int t = node->in[i];
            bool again = false;
            for (int j = 0; j < i; j++) again |= node->in[j] == t;
            if (ckpt_tensor_is_step(g, t) && x->bit[t] < 0 && !again && last[t] == k)
                x->gradients[k + 1] -= bytes_of(x, t);
        }
    }
    return true;
}

uint64_t ckpt_graph_acts_bytes(const ckpt_graph_acts *x, uint64_t set) {
    uint64_t bytes = 0;
    for (; set; set &= set - 1) bytes += x->bytes[__builtin_ctzll(set)];
    return bytes;
}

uint64_t ckpt_graph_acts_cost(const ckpt_graph_acts *x, uint64_t held, uint64_t wanted) {
    uint64_t cost = 0;
    wanted &= ~held;
    for (int i = x->forward_count - 1; i >= 0 && wanted; i--) {
        const ckpt_graph_act *a = &x->forward[i];
        if (!(a->out & wanted)) continue;
        cost += a->cost;
        wanted = (wanted & ~a->out) | (a->in & ~held);
    }
    return cost;
}

ckpt_status ckpt_graph_acts_list(ckpt_graph_acts *x, bool *fits, ckpt_error *err) {
    const ckpt_graph *g = x->graph;
    const int nodes = g->node_count + 1;
    ckpt_pool *pool = &x->pool;
    x->forward = ckpt_pool_array(pool, nodes, ckpt_graph_act);
    x->fixed = ckpt_pool_array(pool, nodes, ckpt_graph_act);
    x->bit = ckpt_pool_array(pool, g->tensor_count, int);
    x->bytes = ckpt_pool_array(pool, CKPT_ACTS_TENSORS, uint64_t);
    x->useful = ckpt_pool_array(pool, nodes, uint64_t);
    x->read = ckpt_pool_array(pool, nodes, uint64_t);
    x->gradients = ckpt_pool_array(pool, nodes, uint64_t);
    int *last = ckpt_pool_array(pool, g->tensor_count, int);
    if (!x->forward || !x->fixed || !x->bit || !x->bytes || !x->useful || !x->read || !x->gradients || !last)
        return ckpt_fail(err, CKPT_NOMEM, "out of host memory while searching for a schedule");
    *fits = g->node_count < (1 << CKPT_ACTS_STEP_BITS) - 2 && number_tensors(x);
    if (!*fits) return CKPT_OK;
    list_acts(x, last);
    *fits = look_ahead(x, last);
    return CKPT_OK;
}
