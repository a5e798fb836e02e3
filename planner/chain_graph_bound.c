/* While a backward node runs, the gradients that live across it and what it reads itself are there; every
 * other forward tensor that a later backward node reads is held beside them, or its producer runs again
 * afterwards. What is best held is a knapsack; its fractional relaxation (Dantzig 1957) bounds what can be
 * saved. The node for which the most is left counts. */
#include "planner/chain_graph_bound.h"

#include <stdlib.h>

#include "base/units.h"
#include "graph/op.h"

enum { MOST_WORK = 50000000 }; /* backward nodes times items */

/* A forward node whose output the backward pass reads, with those before it that run only for its sake. */
typedef struct item {
    uint64_t bytes, cost;
    int node, last; /* last: the last backward node that reads it */
} item;

typedef struct bound {
    const ckpt_graph *graph;
    const ckpt_costs *costs;
    uint64_t alignment_bytes;
    int *last;     /* by tensor: last backward node that reads it, or -1 */
    int *consumer; /* by tensor: the one forward node that reads it; -1: none; -2: several */
    int *item_of;  /* by forward node: its item, or -1 */
    item *item;
    int count;
} bound;

static uint64_t bytes_of(const bound *b, int tensor) {
    return ckpt_align_up(ckpt_tensor_bytes(&b->graph->tensor[tensor]), b->alignment_bytes);
}

static void find_reads(bound *b) {
    const ckpt_graph *g = b->graph;
    for (int t = 0; t < g->tensor_count; t++) b->last[t] = b->consumer[t] = -1;
    for (int n = 0; n < g->node_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++) {
            int t = g->node[n].in[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            if (n >= g->forward_count)
                b->last[t] = n;
            else if (b->consumer[t] != n)
                b->consumer[t] = b->consumer[t] == -1 ? n : -2;
        }
}

/* A node whose outputs only one other forward node reads runs again with that one, unless its output is held
 * instead: the smaller of both then saves both, at best. */
static void find_items(bound *b) {
    const ckpt_graph *g = b->graph;
    for (int n = g->forward_count - 1; n >= 0; n--) {
        const ckpt_node *node = &g->node[n];
        item own = {.cost = b->costs->node[n], .node = n, .last = -1};
        uint64_t smallest = UINT64_MAX;
        int consumer = -1, used = 0;
        b->item_of[n] = -1;
        if (node->op == CKPT_OP_LOSS || ckpt_node_has_effect(g, n)) continue;
        for (int i = 0; i < node->out_count; i++) {
            int t = node->out[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            if (b->last[t] >= 0) own.bytes += bytes_of(b, t);
            if (b->last[t] > own.last) own.last = b->last[t];
            if (b->consumer[t] != -1) {
                used++;
                consumer = b->consumer[t];
                smallest = bytes_of(b, t);
            }
        }
        if (own.last >= 0) {
            b->item_of[n] = b->count;
            b->item[b->count++] = own;
        } else if (used == 1 && consumer >= 0 && b->item_of[consumer] >= 0) {
            item *with = &b->item[b->item_of[consumer]];
            b->item_of[n] = b->item_of[consumer];
            with->cost += own.cost;
            if (smallest < with->bytes) with->bytes = smallest;
        }
    }
}

static int by_rate(const void *a, const void *b) {
    const item *x = a, *y = b;
    unsigned __int128 left = (unsigned __int128)x->cost * y->bytes;
    unsigned __int128 right = (unsigned __int128)y->cost * x->bytes;
    if (left != right) return left > right ? -1 : 1;
    return x->node - y->node;
}

static bool reads(const ckpt_graph *g, int node, int producer) {
    for (int i = 0; i < g->node[node].in_count; i++) {
        int t = g->node[node].in[i];
        if (ckpt_tensor_is_step(g, t) && g->tensor[t].producer == producer) return true;
    }
    return false;
}

/* Bytes at backward node n that no schedule can spare, given those of the gradients that live across it: what
 * n reads of the forward pass, and what it writes, but for an output that might be written over an input. */
static uint64_t bytes_at(const bound *b, int n, uint64_t gradients) {
    const ckpt_graph *g = b->graph;
    const ckpt_node *node = &g->node[n];
    uint64_t bytes = gradients;
    for (int i = 0; i < node->in_count; i++) {
        bool again = false;
        for (int j = 0; j < i; j++) again |= node->in[j] == node->in[i];
        int t = node->in[i];
        if (ckpt_tensor_is_step(g, t) && !again && g->tensor[t].producer < g->forward_count)
            bytes += bytes_of(b, t);
    }
    for (int i = 0; i < node->out_count; i++)
        if (ckpt_tensor_is_step(g, node->out[i]) && (i > 0 || !ckpt_op_info(node->op)->inplace))
            bytes += bytes_of(b, node->out[i]);
    return bytes;
}

static uint64_t left_over(const bound *b, int n, uint64_t room) {
    uint64_t cost = 0;
    for (int i = 0; i < b->count; i++) {
        const item *x = &b->item[i];
        if (x->last <= n || reads(b->graph, n, x->node)) continue;
        uint64_t part = x->cost;
        if (x->bytes > room) part = (uint64_t)((unsigned __int128)x->cost * room / x->bytes);
        if (x->bytes > room && room > 0 && part < x->cost)
            part++; /* never claim a fraction more */
        room -= x->bytes > room ? room : x->bytes;
        cost += x->cost - part;
    }
    return cost;
}

/* The most over the backward nodes. In large graphs only some of them are looked at, which bounds no better but just as
 * truly. */
static uint64_t largest(const bound *b, uint64_t step_bytes) {
    const ckpt_graph *g = b->graph;
    const uint64_t all = (uint64_t)(g->node_count - g->forward_count) * (uint64_t)b->count;
    const int apart = 1 + (int)(all / MOST_WORK);
    uint64_t live = 0, most = 0;
    for (int n = g->forward_count; n < g->node_count; n++) {
        const ckpt_node *node = &g->node[n];
        if ((n - g->forward_count) % apart == 0) {
            const uint64_t taken = bytes_at(b, n, live);
            const uint64_t cost = left_over(b, n, step_bytes > taken ? step_bytes - taken : 0);
            if (cost > most) most = cost;
        }
        for (int i = 0; i < node->out_count; i++)
            if (ckpt_tensor_is_step(g, node->out[i]) && b->last[node->out[i]] > n)
                live += bytes_of(b, node->out[i]);
        for (int i = 0; i < node->in_count; i++) {
            int t = node->in[i];
            bool again = false;
            for (int j = 0; j < i; j++) again |= node->in[j] == t;
            if (ckpt_tensor_is_step(g, t) && !again && b->last[t] == n &&
                g->tensor[t].producer >= g->forward_count)
                live -= bytes_of(b, t);
        }
    }
    return most;
}

ckpt_status ckpt_graph_bound(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes, uint64_t step_bytes,
                             uint64_t *recompute_cost, ckpt_error *err) {
    ckpt_pool scratch = {0};
    bound b = {.graph = graph,
               .costs = costs,
               .alignment_bytes = alignment_bytes,
               .last = ckpt_pool_array(&scratch, graph->tensor_count, int),
               .consumer = ckpt_pool_array(&scratch, graph->tensor_count, int),
               .item_of = ckpt_pool_array(&scratch, graph->forward_count, int),
               .item = ckpt_pool_array(&scratch, graph->forward_count, item)};
    ckpt_status status = CKPT_OK;
    if (!b.last || !b.consumer || !b.item_of || !b.item) {
        status = ckpt_fail(err, CKPT_NOMEM, "out of host memory for a lower bound");
    } else {
        find_reads(&b);
        find_items(&b);
        qsort(b.item, (size_t)b.count, sizeof *b.item, by_rate);
        *recompute_cost = largest(&b, step_bytes);
    }
    ckpt_pool_free(&scratch);
    return status;
}
