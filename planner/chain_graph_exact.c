#include "planner/chain_graph_exact.h"

#include <stdlib.h>

#include "base/units.h"
#include "graph/op.h"
#include "planner/chain_search.h"

/* A state: 1 + the number of fixed nodes still to run, and above it a bit for each forward tensor that is there. */
enum { STEP_BITS = 12, MOST_TENSORS = 40, MOST_STATES = 1 << 13 };

/* A node with what it reads and makes, as bits of the state. */
typedef struct act {
    int node;
    uint64_t in, out, over; /* over: inputs that out[0] may be written over if they die */
    uint64_t out_bytes;     /* of all that it makes, as far as it is not written over what dies in any case */
    uint64_t over_bytes;    /* saved where it is written over one of `over` */
    uint64_t cost;
    int until; /* forward: may run before this many fixed nodes have run */
} act;

struct ckpt_graph_exact {
    ckpt_pool pool;
    const ckpt_graph *graph;
    const ckpt_costs *costs;
    uint64_t alignment_bytes;
    int forward_count, fixed_count, tensor_count;
    act *forward, *fixed;
    int *bit;            /* by tensor: of the state; -1: not a forward tensor that anything reads */
    uint64_t *bytes;     /* by bit */
    uint64_t *useful;    /* by number of fixed nodes run: tensors of use to the rest */
    uint64_t *read;      /* the same: tensors that the rest of the fixed nodes reads itself */
    uint64_t *gradients; /* the same: bytes of what the fixed nodes made for later ones */
    uint64_t outputs;    /* there in the end */
    uint64_t cost;       /* of each forward node once */
    uint64_t least_bytes;
};

static uint64_t bytes_of(const ckpt_graph_exact *x, int tensor) {
    return ckpt_align_up(ckpt_tensor_bytes(&x->graph->tensor[tensor]), x->alignment_bytes);
}

static uint64_t bit_of(const ckpt_graph_exact *x, int tensor) {
    return tensor >= 0 && x->bit[tensor] >= 0 ? (uint64_t)1 << x->bit[tensor] : 0;
}

static bool is_fixed(const ckpt_graph *g, int n) {
    return n >= g->forward_count || g->node[n].op == CKPT_OP_LOSS || ckpt_node_has_effect(g, n);
}

/* Gives bits to the tensors; false where the graph is not of this kind: a forward node that reads
 * what the fixed ones made, too many tensors. */
static bool number_tensors(ckpt_graph_exact *x) {
    const ckpt_graph *g = x->graph;
    for (int t = 0; t < g->tensor_count; t++) x->bit[t] = -1;
    for (int n = 0; n < g->node_count; n++) {
        const ckpt_node *node = &g->node[n];
        if (is_fixed(g, n)) continue;
        for (int i = 0; i < node->in_count; i++)
            if (ckpt_tensor_is_step(g, node->in[i]) && x->bit[node->in[i]] < 0) return false;
        for (int i = 0; i < node->out_count; i++)
            if (ckpt_tensor_is_step(g, node->out[i])) {
                if (x->tensor_count == MOST_TENSORS) return false;
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
    if (!(mask >> i & 1) || !ckpt_tensor_is_step(g, t) || node->out_count < 1 || !ckpt_tensor_is_step(g, node->out[0]) ||
        ckpt_tensor_bytes(&g->tensor[t]) != ckpt_tensor_bytes(&g->tensor[node->out[0]]))
        return false;
    for (int j = 0; j < node->in_count; j++)
        if (node->in[j] == t && !(mask >> j & 1)) return false;
    return true;
}

/* last: by tensor that a fixed node made, the fixed node that reads it last. */
static act make_act(const ckpt_graph_exact *x, int n, int at, const int *last) {
    const ckpt_graph *g = x->graph;
    const ckpt_node *node = &g->node[n];
    act a = {.node = n, .until = x->fixed_count};
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

static void list_acts(ckpt_graph_exact *x, int *last) {
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
        act *a = &x->forward[x->forward_count++];
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

/* What is there of the fixed nodes' own, and which forward tensors are of use, before each of them. False where
 * there are too many states, or a forward node that nothing asks for. */
static bool look_ahead(ckpt_graph_exact *x, const int *last) {
    const ckpt_graph *g = x->graph;
    const int count = x->fixed_count;
    uint64_t states = 0;
    for (int k = count; k >= 0; k--) {
        x->read[k] = k == count ? x->outputs : x->read[k + 1] | x->fixed[k].in;
        uint64_t useful = x->read[k];
        for (int i = x->forward_count - 1; i >= 0; i--)
            if (x->forward[i].out & useful) useful |= x->forward[i].in;
        x->useful[k] = useful;
        if (__builtin_popcountll(useful) > 20) return false;
        states += (uint64_t)1 << __builtin_popcountll(useful);
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
            if (ckpt_tensor_is_step(g, t) && x->bit[t] < 0 && !again && last[t] == k) x->gradients[k + 1] -= bytes_of(x, t);
        }
    }
    return states <= MOST_STATES;
}

static uint64_t bytes_held(const ckpt_graph_exact *x, uint64_t held) {
    uint64_t bytes = 0;
    for (; held; held &= held - 1) bytes += x->bytes[__builtin_ctzll(held)];
    return bytes;
}

/* What is read and not there is made again, and so is what it is made from. */
static uint64_t least_ahead(const void *problem, uint64_t state) {
    const ckpt_graph_exact *x = problem;
    if (state == 0) return 0;
    const int run = x->fixed_count + 1 - (int)(state & ((1u << STEP_BITS) - 1));
    uint64_t held = state >> STEP_BITS, wanted = x->read[run] & ~held, cost = 0;
    for (int i = x->forward_count - 1; i >= 0 && wanted; i--) {
        const act *a = &x->forward[i];
        if (!(a->out & wanted)) continue;
        cost += a->cost;
        wanted = (wanted & ~a->out) | (a->in & ~held);
    }
    return cost;
}

/* `after` is held afterwards; any one of the inputs that may be written over may die instead. */
static void run(ckpt_search *s, const act *a, uint64_t after, uint64_t left, uint64_t live,
                uint64_t useful) {
    ckpt_search_reach(s, (after & useful) << STEP_BITS | left, a->cost, live + a->out_bytes, (uint32_t)a->node + 1);
    for (uint64_t over = a->over; over; over &= over - 1) {
        const uint64_t dying = over & (~over + 1);
        if (after & dying)
            ckpt_search_reach(s, (after & ~dying & useful) << STEP_BITS | left, a->cost,
                              live + a->out_bytes - a->over_bytes, (uint32_t)a->node + 1);
    }
}

static void expand(ckpt_search *s, uint64_t state) {
    const ckpt_graph_exact *x = s->problem;
    const uint64_t left = state & ((1u << STEP_BITS) - 1), held = state >> STEP_BITS;
    const int done = x->fixed_count + 1 - (int)left;
    const uint64_t live = bytes_held(x, held) + x->gradients[done], useful = x->useful[done];
    for (uint64_t rest = held; rest; rest &= rest - 1)
        ckpt_search_reach(s, (held & ~(rest & (~rest + 1))) << STEP_BITS | left, 0, 0, 0);
    for (int i = 0; i < x->forward_count; i++) {
        const act *a = &x->forward[i];
        if (a->until < done || (a->in & ~held) || (a->out & held) || !(a->out & useful)) continue;
        run(s, a, held | a->out, left, live, useful);
    }
    if (done == x->fixed_count) {
        if ((x->outputs & ~held) == 0) ckpt_search_reach(s, 0, 0, 0, 0);
    } else if (!(x->fixed[done].in & ~held)) {
        run(s, &x->fixed[done], held, left - 1, live, x->useful[done + 1]);
    }
}

static ckpt_search search_of(const ckpt_graph_exact *x, uint64_t budget_bytes) {
    return (ckpt_search){.problem = x,
                         .expand = expand,
                         .least_ahead = least_ahead,
                         .start = (uint64_t)x->fixed_count + 1,
                         .budget_bytes = budget_bytes};
}

static bool prepare(ckpt_graph_exact *x, bool *fits) {
    const ckpt_graph *g = x->graph;
    const int nodes = g->node_count + 1;
    ckpt_pool *pool = &x->pool;
    x->forward = ckpt_pool_array(pool, nodes, act);
    x->fixed = ckpt_pool_array(pool, nodes, act);
    x->bit = ckpt_pool_array(pool, g->tensor_count, int);
    x->bytes = ckpt_pool_array(pool, MOST_TENSORS, uint64_t);
    x->useful = ckpt_pool_array(pool, nodes, uint64_t);
    x->read = ckpt_pool_array(pool, nodes, uint64_t);
    x->gradients = ckpt_pool_array(pool, nodes, uint64_t);
    int *last = ckpt_pool_array(pool, g->tensor_count, int);
    if (!x->forward || !x->fixed || !x->bit || !x->bytes || !x->useful || !x->read || !x->gradients || !last)
        return false;
    *fits = g->node_count < (1 << STEP_BITS) - 2 && number_tensors(x);
    if (!*fits) return true;
    list_acts(x, last);
    *fits = look_ahead(x, last);
    return true;
}

ckpt_status ckpt_graph_exact_open(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                  ckpt_graph_exact **out, ckpt_error *err) {
    *out = NULL;
    ckpt_graph_exact *x = calloc(1, sizeof *x);
    if (!x) return ckpt_fail(err, CKPT_NOMEM, "out of memory");
    x->graph = graph;
    x->costs = costs;
    x->alignment_bytes = alignment_bytes;
    bool fits = false;
    ckpt_status status = CKPT_OK;
    if (!prepare(x, &fits)) status = ckpt_fail(err, CKPT_NOMEM, "out of memory");
    if (status == CKPT_OK && fits) {
        ckpt_search s = search_of(x, UINT64_MAX);
        s.least_bytes = true;
        status = ckpt_search_run(&s, err);
        x->least_bytes = s.needed_bytes;
        fits = s.found;
        ckpt_search_free(&s);
    }
    if (status == CKPT_OK && fits)
        *out = x;
    else
        ckpt_graph_exact_close(x);
    return status;
}

uint64_t ckpt_graph_exact_least(const ckpt_graph_exact *exact) {
    return exact->least_bytes;
}

ckpt_status ckpt_graph_exact_solve(const ckpt_graph_exact *x, uint64_t step_bytes, ckpt_pool *pool,
                                   ckpt_schedule *schedule, uint64_t *recompute_cost, uint64_t *needed_bytes,
                                   ckpt_error *err) {
    ckpt_search s = search_of(x, step_bytes);
    ckpt_status status = ckpt_search_run(&s, err);
    if (status == CKPT_OK && s.found && s.needed_bytes < step_bytes) {
        /* Again with what it needs: which of equal schedules is found then no longer depends on what was asked. */
        const uint64_t needed = s.needed_bytes;
        ckpt_search_free(&s);
        s = search_of(x, needed);
        status = ckpt_search_run(&s, err);
    }
    if (status == CKPT_OK && !s.found)
        status = ckpt_fail(err, CKPT_INFEASIBLE, "no schedule fits %llu bytes: the smallest takes %llu",
                           (unsigned long long)step_bytes, (unsigned long long)x->least_bytes);
    *schedule = (ckpt_schedule){0};
    for (int i = 0; i < s.act_count && status == CKPT_OK; i++)
        status = ckpt_schedule_append(pool, schedule, (int)s.act[i] - 1, err);
    if (status == CKPT_OK) {
        *recompute_cost = s.cost - x->cost;
        *needed_bytes = s.needed_bytes;
    }
    ckpt_search_free(&s);
    return status;
}

/* Down from all the memory there could be, one cheapest schedule after the other. */
uint64_t ckpt_graph_exact_next(const ckpt_graph_exact *x, uint64_t step_bytes) {
    uint64_t next = UINT64_MAX, at = UINT64_MAX;
    while (at > step_bytes) {
        ckpt_error err; /* memory that ran out here runs out again where it is reported */
        ckpt_search s = search_of(x, at);
        const bool found = ckpt_search_run(&s, &err) == CKPT_OK && s.found;
        const uint64_t needed = s.needed_bytes;
        ckpt_search_free(&s);
        if (!found || needed <= step_bytes) break;
        next = needed;
        at = needed - 1;
    }
    return next;
}

void ckpt_graph_exact_close(ckpt_graph_exact *exact) {
    if (!exact) return;
    ckpt_pool_free(&exact->pool);
    free(exact);
}
