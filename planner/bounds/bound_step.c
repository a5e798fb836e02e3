/* Time step. While node b runs for the first time, its ancestors in the dependency graph have run and its descendants have not,
 * whatever the order. So there are, for certain, what b reads and writes and each tensor of a fixed node that an ancestor made
 * and a descendant reads (time_step.h). Each forward tensor that a descendant reads is held beside them, or its producer runs
 * again after b with what it reads held or made again too. With a price per byte in place of the limit, the cheapest choice is a
 * minimum cut (cut.h); less the price of the bytes there are, it bounds every choice that fits (a Lagrangian bound). If tensors
 * did not depend on each other that would be a knapsack, whose fractional relaxation (Dantzig 1957) is found by sorting; it
 * bounds too, and says which steps are worth a cut.
 *
 *      during b       |#### certain ####|-- held --|      certain: inputs and outputs of b, gradients on their way
 *      after b        held, or made again                 forward tensors that nodes still to run read
 *
 * Cases. A weight gradient dw has no descendants but its update, so beside a node n of the gradient path it says nothing: n does
 * not know whether dw has run. But a few nodes, such as n and dw, run in some order that their dependencies allow; and while one
 * of them runs, those before it and their ancestors have run, and those behind it and their descendants have not:
 *
 *      dw first   dw: x, dz and dw are there, and all that n and its descendants need is held or made again;
 *                 n:  dw is there until its update
 *      n first    n:  dz is there, for dw has yet to read it, and x is held or made again
 *
 * In any schedule one of these orders is the case. So the least, over the orders, of the largest of an order's steps is a bound;
 * and more nodes only make it larger, as each order splits into finer cases in which more is known. Taken are a piece of the
 * gradient path and siblings of its nodes.
 *
 * Bytes. In the same cases every tensor that is needed after b is held over b or made again afterwards: beside the gradients
 * that are live until its reader runs, and with inputs that are held over b or made again in turn. */
#include "planner/bounds/bound_step.h"

#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "planner/bounds/cut.h"
#include "planner/bounds/time_step.h"

/* Work: steps times nodes, of the knapsacks; arcs, of the cuts: about a second each. TOGETHER: nodes whose orders are told apart.
 * The bound of nanogpt.onnx is 1.0 to 1.6 % of a step larger with 7 than with 5, and the same with 9. */
enum { MOST_WORK = 4000000, MOST_ARCS = 300000000, MOST_PRICES = 12, LOOKED_AT = 128, TOGETHER = 7 };
#define MOST_PRICE (UINT64_C(1) << 52)

/* A forward node that must run again unless its outputs are held. */
typedef struct item {
    uint64_t bytes, cost;
    int node;
} item;

/* Holding some tensors and running nodes for the rest. */
typedef struct choice {
    uint64_t bytes, cost;
} choice;

typedef struct bound {
    const ckpt_problem *problem;
    uint64_t room_bytes; /* of the step */
    ckpt_time_step step;
    item *item;
    ckpt_cut *cut;
    uint64_t all_cost; /* of all nodes that may run again */
    bool *held;
    int64_t *hold, *run; /* prices (cut.h) */
    int *ready;          /* by node: the last fixed node among its direct predecessors, or -1 */
    uint64_t *until;     /* by open node: bytes of gradients that are live until it runs */
    uint64_t *reader;    /* by tensor: the most of these among its readers */
    uint64_t *made;      /* by forward tensor: bytes that it takes to have it after the step */
    int *height;         /* by node: nodes on the longest way from it to a last one */
} bound;

/* What a time step says; by knapsack or by cuts. */
typedef uint64_t value(bound *b);

static uint64_t room(const bound *b) {
    return b->room_bytes > b->step.bytes ? b->room_bytes - b->step.bytes : 0;
}

/* --- knapsack ---------------------------------------------------------------------------------------- */

static int by_rate(const void *a, const void *b) {
    const item *x = a, *y = b;
    const unsigned __int128 left = (unsigned __int128)x->cost * y->bytes, right = (unsigned __int128)y->cost * x->bytes;
    if (left != right) return left > right ? -1 : 1;
    return x->node - y->node;
}

static int list_items(bound *b) {
    const ckpt_problem *p = b->problem;
    int count = 0;
    for (int n = 0; n < p->graph->forward_count; n++) {
        item x = {.cost = p->costs->node[n], .node = n};
        if (!p->recomputable[n] || !b->step.done[n]) continue;
        for (int i = 0; i < p->graph->node[n].out_count; i++) {
            const int t = p->graph->node[n].out[i];
            if (ckpt_tensor_is_step(p->graph, t) && b->step.needed[t]) x.bytes += b->step.hold[t];
        }
        if (x.bytes > 0) b->item[count++] = x;
    }
    return count;
}

static uint64_t by_knapsack(bound *b) {
    const int count = list_items(b);
    uint64_t left = room(b), cost = 0;
    qsort(b->item, (size_t)count, sizeof *b->item, by_rate);
    for (int i = 0; i < count; i++) {
        const item *x = &b->item[i];
        uint64_t saved = x->cost;
        if (x->bytes > left) {
            saved = (uint64_t)((unsigned __int128)x->cost * left / x->bytes);
            if (left > 0 && saved < x->cost) saved++; /* never claim a fraction more */
        }
        left -= x->bytes > left ? left : x->bytes;
        cost += x->cost - saved;
    }
    return cost;
}

/* --- cuts -------------------------------------------------------------------------------------------- */

/* The best choice where a byte costs `rate`; returns what it says of every choice of at most `space` bytes: the sum less the price
 * of the space, rounded up. */
static uint64_t choose(bound *b, double rate, uint64_t space, choice *best) {
    const ckpt_problem *p = b->problem;
    const ckpt_graph *g = p->graph;
    int shift = 0;
    while (shift < 20 && b->all_cost << (shift + 1) < MOST_PRICE) shift++;
    const double scaled = rate * (double)((uint64_t)1 << shift);
    const int64_t price = scaled < 1e15 ? (int64_t)scaled : (int64_t)1e15, most = (int64_t)(b->all_cost << shift) + 1;
    for (int t = 0; t < g->tensor_count; t++) {
        const unsigned __int128 hold = (unsigned __int128)b->step.hold[t] * (uint64_t)price;
        b->hold[t] = hold > (uint64_t)most ? most : (int64_t)hold;
    }
    for (int n = 0; n < g->forward_count; n++) {
        if (!b->step.done[n]) b->run[n] = 0; /* its first run, perhaps */
        else b->run[n] = p->recomputable[n] ? (int64_t)(p->costs->node[n] << shift) : CKPT_CUT_NEVER;
    }
    const int64_t sum = ckpt_cut_solve(b->cut, b->step.needed, b->hold, b->run, b->held);
    uint64_t held = 0;
    *best = (choice){0};
    for (int t = 0; t < g->tensor_count; t++)
        if (b->held[t]) best->bytes += b->step.hold[t], held += (uint64_t)b->hold[t];
    best->cost = ((uint64_t)sum - held) >> shift;
    const unsigned __int128 paid = (unsigned __int128)space * (uint64_t)price;
    if (paid >= (uint64_t)sum) return 0;
    return (((uint64_t)sum - (uint64_t)paid) + ((uint64_t)1 << shift) - 1) >> shift;
}

/* The largest bound over the prices of a byte. As a function of the price it is concave and made of straight pieces; the next
 * price is where the two pieces meet that are known on either side of its top. Bytes of what could be held come in multiples of a
 * unit, and so does what can be used of the room. */
static uint64_t by_cuts(bound *b) {
    uint64_t most = 0, unit = 0, space = room(b);
    choice more = {0}, less = {.cost = b->all_cost}, middle;
    for (int t = 0; t < b->problem->graph->tensor_count; t++) {
        unit = ckpt_common_divisor(unit, b->step.hold[t]);
        if (b->step.needed[t]) more.bytes += b->step.hold[t];
    }
    if (unit > 0) space = space / unit * unit;
    for (int i = 0; i < MOST_PRICES && more.bytes > space && more.bytes > less.bytes && less.cost > more.cost; i++) {
        const double rate = (double)(less.cost - more.cost) / (double)(more.bytes - less.bytes);
        most = ckpt_max_u64(most, choose(b, rate, space, &middle));
        choice *side = middle.bytes > space ? &more : &less;
        if ((middle.bytes == side->bytes && middle.cost == side->cost) || middle.bytes == space) break;
        *side = middle;
    }
    return most;
}

/* --- cases ------------------------------------------------------------------------------------------- */

/* Nodes in the order of a case: the first of them have run. */
typedef struct cases {
    int count;
    int node[TOGETHER];
} cases;

/* Sets the time step of node[run], unless a node behind it has to run first. */
static bool set_step(bound *b, const cases *c, int run) {
    ckpt_time_step_set(&b->step, c->node[run], c->node, run, c->node + run + 1, c->count - run - 1);
    for (int i = run + 1; i < c->count; i++)
        if (b->step.done[c->node[i]]) return false;
    return true;
}

/* The least over all orders of the rest of the largest of their steps. Nobody asks for more than `enough`, or cares how much less
 * than `few` it is. */
static uint64_t least_of_orders(bound *b, cases c, int run, uint64_t few, uint64_t enough, value *value_of) {
    uint64_t least = enough;
    for (int i = run; i < c.count && i < TOGETHER && least > few; i++) {
        const int next = c.node[i];
        c.node[i] = c.node[run];
        c.node[run] = next;
        if (!set_step(b, &c, run)) continue;
        uint64_t most = value_of(b);
        if (most < least && run + 1 < c.count) most = ckpt_max_u64(most, least_of_orders(b, c, run + 1, few, least, value_of));
        if (most < least) least = most;
    }
    return least;
}

static uint64_t output_bytes(const ckpt_problem *p, int n) {
    return p->graph->node[n].out_count > 0 && p->graph->node[n].out[0] >= 0 ? p->bytes[p->graph->node[n].out[0]] : 0;
}

/* Another node that waits for the last predecessor of n, and neither for n nor n for it: the one with the largest output, or -1. */
static int find_sibling(bound *b, int n) {
    const ckpt_problem *p = b->problem;
    const int from = b->ready[n];
    int best = -1;
    if (from < 0) return -1;
    ckpt_time_step_set(&b->step, n, NULL, 0, NULL, 0);
    for (int i = p->after_first[from]; i < p->after_first[from + 1]; i++) {
        const int u = p->after[i];
        if (u == n || b->ready[u] != from || b->step.done[u] || b->step.open[u]) continue;
        if (best < 0 || output_bytes(p, u) > output_bytes(p, best)) best = u;
    }
    return best;
}

/* The node after n on which most others wait, one behind the other; or -1. */
static int find_next(const bound *b, int n) {
    const ckpt_problem *p = b->problem;
    int best = -1;
    for (int i = p->after_first[n]; i < p->after_first[n + 1]; i++)
        if (!p->recomputable[p->after[i]] && (best < 0 || b->height[p->after[i]] > b->height[best])) best = p->after[i];
    return best;
}

/* A piece of the gradient path from n on, with siblings. */
static cases find_cases(bound *b, int n) {
    cases c = {.count = 0};
    while (n >= 0 && c.count < TOGETHER) {
        c.node[c.count++] = n;
        const int sibling = find_sibling(b, n);
        if (sibling >= 0 && c.count < TOGETHER) c.node[c.count++] = sibling;
        n = find_next(b, n);
    }
    return c;
}

static uint64_t largest_from(bound *b, int n, uint64_t few, value *value_of) {
    return least_of_orders(b, find_cases(b, n), 0, few, UINT64_MAX, value_of);
}

/* --- steps ------------------------------------------------------------------------------------------- */

/* Of a large graph only some, which bounds no better but just as truly. Returns how many. */
static int list_steps(const ckpt_problem *p, uint64_t most, int *list) {
    int fixed = 0, count = 0;
    for (int n = 0; n < p->graph->node_count; n++) fixed += !p->recomputable[n];
    const uint64_t apart = 1 + (uint64_t)fixed / (1 + most / (uint64_t)(p->graph->node_count + 1));
    uint64_t at = 0;
    for (int n = 0; n < p->graph->node_count; n++)
        if (!p->recomputable[n] && at++ % apart == 0) list[count++] = n;
    return count;
}

static bool may_go_on(const bound *b) {
    return ckpt_cut_work(b->cut) < MOST_ARCS;
}

/* By cuts, of some steps at equal distances, and of those around the best. */
static uint64_t largest_by_cuts(bound *b, const int *list, int count, int best) {
    const int apart = 1 + count / LOOKED_AT;
    uint64_t most = count > 0 ? largest_from(b, list[best], 0, by_cuts) : 0;
    for (int i = 0; i < count && may_go_on(b); i += apart) {
        const uint64_t cost = largest_from(b, list[i], most, by_cuts);
        if (cost > most) best = i, most = cost;
    }
    for (int i = best < apart ? 0 : best - apart; i <= best + apart && i < count && may_go_on(b); i++)
        most = ckpt_max_u64(most, largest_from(b, list[i], most, by_cuts));
    return most;
}

static ckpt_status open(bound *b, ckpt_pool *pool, ckpt_error *err) {
    const ckpt_problem *p = b->problem;
    const ckpt_graph *g = p->graph;
    b->item = ckpt_pool_array(pool, g->forward_count, item);
    b->held = ckpt_pool_array(pool, g->tensor_count, bool);
    b->hold = ckpt_pool_array(pool, g->tensor_count, int64_t);
    b->run = ckpt_pool_array(pool, g->forward_count, int64_t);
    b->ready = ckpt_pool_array(pool, g->node_count, int);
    b->height = ckpt_pool_array(pool, g->node_count, int);
    b->until = ckpt_pool_array(pool, g->node_count, uint64_t);
    b->reader = ckpt_pool_array(pool, g->tensor_count, uint64_t);
    b->made = ckpt_pool_array(pool, g->tensor_count, uint64_t);
    if (!b->item || !b->held || !b->hold || !b->run || !b->ready || !b->height || !b->until || !b->reader || !b->made)
        return ckpt_fail(err, CKPT_NOMEM, "out of host memory for a lower bound");
    for (int n = 0; n < g->node_count; n++) {
        b->ready[n] = -1;
        for (int i = p->before_first[n]; i < p->before_first[n + 1]; i++)
            if (!p->recomputable[p->before[i]]) b->ready[n] = p->before[i];
        if (p->recomputable[n]) b->all_cost += p->costs->node[n];
    }
    for (int n = g->node_count - 1; n >= 0; n--)
        for (int i = p->after_first[n]; i < p->after_first[n + 1]; i++)
            if (b->height[p->after[i]] >= b->height[n]) b->height[n] = b->height[p->after[i]] + 1;
    CKPT_TRY(ckpt_time_step_open(p, pool, &b->step, err));
    return ckpt_cut_open(g, &b->cut, err);
}

ckpt_status ckpt_bound_steps(const ckpt_problem *problem, const ckpt_solver_options *options, uint64_t step_bytes,
                             uint64_t *recompute_cost, ckpt_error *err) {
    ckpt_pool scratch = {0};
    bound b = {.problem = problem, .room_bytes = step_bytes};
    int *list = ckpt_pool_array(&scratch, problem->graph->node_count, int);
    ckpt_status status = list ? open(&b, &scratch, err) : ckpt_fail(err, CKPT_NOMEM, "out of host memory for a lower bound");
    if (status == CKPT_OK) {
        const int count = list_steps(problem, MOST_WORK, list);
        uint64_t most = 0;
        int best = 0;
        for (int i = 0; i < count; i++) {
            const uint64_t cost = largest_from(&b, list[i], most, by_knapsack);
            if (cost > most) best = i, most = cost;
        }
        if (!options->without_cuts) most = ckpt_max_u64(most, largest_by_cuts(&b, list, count, best));
        *recompute_cost = ckpt_round_up(most, ckpt_costs_divisor(problem->graph, problem->costs));
    }
    ckpt_cut_close(b.cut);
    ckpt_pool_free(&scratch);
    return status;
}

ckpt_status ckpt_bound_after(const ckpt_problem *problem, uint64_t step_bytes, uint64_t *after, ckpt_error *err) {
    ckpt_pool scratch = {0};
    bound b = {.problem = problem, .room_bytes = step_bytes};
    const ckpt_status status = open(&b, &scratch, err);
    for (int n = 0; n < problem->graph->node_count; n++) {
        after[n] = 0;
        if (status != CKPT_OK || problem->recomputable[n] || !may_go_on(&b)) continue;
        ckpt_time_step_set(&b.step, n, NULL, 0, NULL, 0);
        after[n] = by_cuts(&b);
    }
    ckpt_cut_close(b.cut);
    ckpt_pool_free(&scratch);
    return status;
}

/* --- bytes ------------------------------------------------------------------------------------------- */

/* What a forward node takes while it runs, at least. */
static uint64_t bytes_of_run(const ckpt_problem *p, int n) {
    const ckpt_node *node = &p->graph->node[n];
    uint64_t bytes = 0;
    for (int i = 0; i < node->in_count; i++) {
        bool counted = !ckpt_tensor_is_step(p->graph, node->in[i]);
        for (int j = 0; j < i && !counted; j++) counted = node->in[j] == node->in[i];
        if (!counted) bytes += p->bytes[node->in[i]];
    }
    for (int i = p->overwrite[n] ? 1 : 0; i < node->out_count; i++)
        if (node->out[i] >= 0) bytes += p->bytes[node->out[i]];
    return bytes;
}

/* Bytes of gradients that are live at any time from the step on until node n runs: the inputs of n that are there, or, along a
 * path to n, the smallest tensor (each is live until the next is made). */
static uint64_t gradients_until(const bound *b, int n) {
    const ckpt_problem *p = b->problem;
    const ckpt_node *node = &p->graph->node[n];
    uint64_t there = 0, most = 0;
    for (int i = 0; i < node->in_count; i++) {
        if (!ckpt_tensor_is_step(p->graph, node->in[i])) continue;
        const int from = p->graph->tensor[node->in[i]].producer;
        const uint64_t bytes = p->bytes[node->in[i]];
        if (from < p->graph->forward_count) continue;
        bool counted = false;
        for (int j = 0; j < i; j++) counted |= node->in[j] == node->in[i];
        if (from == b->step.node || b->step.done[from]) there += counted ? 0 : bytes;
        else if (b->step.open[from]) most = ckpt_max_u64(most, bytes < b->until[from] ? bytes : b->until[from]);
    }
    return ckpt_max_u64(there, most);
}

/* A needed tensor is held over the step, or made after it beside the gradients of its reader, as are the inputs that this takes. */
static uint64_t by_bytes(bound *b) {
    const ckpt_problem *p = b->problem;
    const ckpt_graph *g = p->graph;
    uint64_t least = b->step.bytes;
    for (int t = 0; t < g->tensor_count; t++) b->reader[t] = 0;
    for (int n = g->forward_count; n < g->node_count; n++) {
        if (!b->step.open[n]) continue;
        b->until[n] = gradients_until(b, n);
        for (int i = 0; i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) b->reader[g->node[n].in[i]] = ckpt_max_u64(b->reader[g->node[n].in[i]], b->until[n]);
    }
    for (int n = 0; n < g->forward_count; n++) {
        const uint64_t run = bytes_of_run(p, n);
        uint64_t inputs = 0;
        for (int i = 0; i < g->node[n].in_count; i++)
            if (ckpt_tensor_is_step(g, g->node[n].in[i])) inputs = ckpt_max_u64(inputs, b->made[g->node[n].in[i]]);
        for (int i = 0; i < g->node[n].out_count; i++) {
            const int t = g->node[n].out[i];
            if (t < 0) continue;
            const uint64_t held = b->step.bytes + b->step.hold[t], made = ckpt_max_u64(inputs, run);
            const uint64_t read = ckpt_max_u64(made, run + b->reader[t]);
            b->made[t] = held < made ? held : made;
            if (b->step.needed[t]) least = ckpt_max_u64(least, held < read ? held : read);
        }
    }
    return least;
}

ckpt_status ckpt_bound_least_bytes(const ckpt_problem *problem, uint64_t *bytes, ckpt_error *err) {
    ckpt_pool scratch = {0};
    bound b = {.problem = problem};
    int *list = ckpt_pool_array(&scratch, problem->graph->node_count, int);
    const ckpt_status status = list ? open(&b, &scratch, err) : ckpt_fail(err, CKPT_NOMEM, "out of host memory for a lower bound");
    const int count = status == CKPT_OK ? list_steps(problem, MOST_WORK, list) : 0;
    *bytes = 0;
    for (int i = 0; i < count; i++) *bytes = ckpt_max_u64(*bytes, largest_from(&b, list[i], *bytes, by_bytes));
    ckpt_cut_close(b.cut);
    ckpt_pool_free(&scratch);
    return status;
}
