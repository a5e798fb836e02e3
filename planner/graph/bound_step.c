/* Time step. While node b runs for the first time, its ancestors in the dependency graph have run and its descendants have
 * not, whatever the order. So there are, for certain, what b reads and writes and each tensor of a fixed node that an ancestor
 * made and a descendant reads (time_step.h). Each forward tensor that a descendant reads is held beside them, or its producer
 * runs again after b with what it reads held or made again too. With a price for a byte in place of the limit, the cheapest choice
 * is a minimum cut (cut.h); less the price of the bytes there are, it bounds every choice that fits (a Lagrangian bound). If
 * tensors did not depend on each other that would be a knapsack, whose fractional relaxation (Dantzig 1957) is found by sorting;
 * it bounds too, and says which steps are worth a cut.
 *
 * Cases. A weight gradient dw has no descendants but its update, so beside a node n of the gradient path it says nothing:
 * n does not know whether dw has run. Take a set of nodes none of which depends on another, such as {n, dw}. They run in some
 * order, and while one of them runs, those before it have run, and those behind it and all their descendants have not:
 *
 *      dw first   dw: x, dz and dw are there, and all that n and its descendants need is held or made again;
 *                 n:  dw is there until its update
 *      n first    n:  dz is there, for dw has yet to read it, and x is held or made again
 *
 * The order decides which of these steps exist, so the least over all orders of the largest of an order's steps is a bound.
 *
 *      after b        held or made again         forward tensors that open nodes read
 *      during b       |#### certain ####|        b's inputs and outputs, gradients on their way to open nodes
 */
#include "planner/graph/bound_step.h"

#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "planner/graph/cut.h"
#include "planner/graph/time_step.h"

/* Work: steps times nodes, of the knapsacks; arcs, of the cuts. TOGETHER: nodes whose orders are told apart. */
enum { MOST_WORK = 50000000, MOST_ARCS = 300000000, MOST_PRICES = 12, LOOKED_AT = 128, TOGETHER = 3 };
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
} bound;

/* What a time step says; by knapsack or by cuts. */
typedef uint64_t value(bound *b);

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

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
 * price is where the two pieces meet that are known on either side of its top. */
static uint64_t by_cuts(bound *b) {
    const ckpt_graph *g = b->problem->graph;
    uint64_t most = 0, unit = 0, space = room(b);
    choice more = {0}, less = {.cost = b->all_cost}, middle;
    for (int t = 0; t < g->tensor_count; t++) {
        unit = ckpt_common_divisor(unit, b->step.hold[t]);
        if (b->step.needed[t]) more.bytes += b->step.hold[t];
    }
    if (unit > 0) space = space / unit * unit;
    for (int i = 0; i < MOST_PRICES && more.bytes > space && more.bytes > less.bytes && less.cost > more.cost; i++) {
        const double rate = (double)(less.cost - more.cost) / (double)(more.bytes - less.bytes);
        most = larger(most, choose(b, rate, space, &middle));
        choice *side = middle.bytes > space ? &more : &less;
        if (middle.bytes == side->bytes || middle.bytes == space) break;
        *side = middle;
    }
    return most;
}

/* --- cases ------------------------------------------------------------------------------------------- */

/* Nodes of which none depends on another, in the order of a case: the first `run` of them have run. */
typedef struct cases {
    int count;
    int node[TOGETHER];
} cases;

static void swap(int *a, int *b) {
    const int c = *a;
    *a = *b;
    *b = c;
}

/* The least over all orders of the rest of the largest of their steps. `enough`: nobody asks for more. */
static uint64_t least_of_orders(bound *b, cases *c, int run, uint64_t enough, value *value_of) {
    uint64_t least = enough;
    for (int i = run; i < c->count && least > 0; i++) {
        swap(&c->node[run], &c->node[i]);
        ckpt_time_step_set(&b->step, c->node[run], c->node, run, c->node + run + 1, c->count - run - 1);
        uint64_t most = value_of(b);
        if (most < least && run + 1 < c->count) most = larger(most, least_of_orders(b, c, run + 1, least, value_of));
        if (most < least) least = most;
        swap(&c->node[run], &c->node[i]);
    }
    return least;
}

/* A later predecessor first, then the larger output. */
static bool is_closer(const bound *b, int n, int than) {
    if (than < 0 || b->ready[n] != b->ready[than]) return than < 0 || b->ready[n] > b->ready[than];
    const ckpt_node *x = &b->problem->graph->node[n], *y = &b->problem->graph->node[than];
    return x->out_count > 0 && y->out_count > 0 && b->problem->bytes[x->out[0]] > b->problem->bytes[y->out[0]];
}

/* Node n and fixed nodes that may run before or after it and whose predecessors have all run by then; so none of them depends on
 * another. Those that have become ready last. */
static void find_cases(bound *b, int n, cases *c) {
    const ckpt_problem *p = b->problem;
    *c = (cases){.count = 1, .node = {n}};
    ckpt_time_step_set(&b->step, n, NULL, 0, NULL, 0);
    for (int u = 0; u < p->graph->node_count; u++) {
        bool ready = u != n && !p->recomputable[u] && !b->step.done[u] && !b->step.open[u];
        for (int i = p->before_first[u]; i < p->before_first[u + 1] && ready; i++) ready = b->step.done[p->before[i]];
        if (!ready) continue;
        int at = c->count;
        while (at > 1 && is_closer(b, u, c->node[at - 1])) at--;
        if (at == TOGETHER) continue;
        if (c->count < TOGETHER) c->count++;
        memmove(&c->node[at + 1], &c->node[at], sizeof *c->node * (size_t)(c->count - at - 1));
        c->node[at] = u;
    }
}

/* The largest for n alone, with another node, with two. */
static uint64_t largest_of_cases(bound *b, int n, value *value_of) {
    cases all;
    uint64_t most = 0;
    find_cases(b, n, &all);
    for (int count = 1; count <= all.count; count++) {
        cases c = all;
        c.count = count;
        most = larger(most, least_of_orders(b, &c, 0, UINT64_MAX, value_of));
    }
    return most;
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
    uint64_t most = count > 0 ? largest_of_cases(b, list[best], by_cuts) : 0;
    for (int i = 0; i < count && may_go_on(b); i += apart) {
        const uint64_t cost = largest_of_cases(b, list[i], by_cuts);
        if (cost > most) best = i, most = cost;
    }
    for (int i = best < apart ? 0 : best - apart; i <= best + apart && i < count && may_go_on(b); i++)
        most = larger(most, largest_of_cases(b, list[i], by_cuts));
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
    if (!b->item || !b->held || !b->hold || !b->run || !b->ready)
        return ckpt_fail(err, CKPT_NOMEM, "out of host memory for a lower bound");
    for (int n = 0; n < g->node_count; n++) {
        b->ready[n] = -1;
        for (int i = p->before_first[n]; i < p->before_first[n + 1]; i++)
            if (!p->recomputable[p->before[i]]) b->ready[n] = p->before[i];
        if (p->recomputable[n]) b->all_cost += p->costs->node[n];
    }
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
            const uint64_t cost = largest_of_cases(&b, list[i], by_knapsack);
            if (cost > most) best = i, most = cost;
        }
        if (!options->without_cuts) most = larger(most, largest_by_cuts(&b, list, count, best));
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

static uint64_t by_bytes(bound *b) {
    return b->step.bytes;
}

ckpt_status ckpt_bound_least_bytes(const ckpt_problem *problem, uint64_t *bytes, ckpt_error *err) {
    ckpt_pool scratch = {0};
    bound b = {.problem = problem};
    int *list = ckpt_pool_array(&scratch, problem->graph->node_count, int);
    const ckpt_status status = list ? open(&b, &scratch, err) : ckpt_fail(err, CKPT_NOMEM, "out of host memory for a lower bound");
    const int count = status == CKPT_OK ? list_steps(problem, MOST_WORK, list) : 0;
    *bytes = 0;
    for (int i = 0; i < count; i++) *bytes = larger(*bytes, largest_of_cases(&b, list[i], by_bytes));
    ckpt_cut_close(b.cut);
    ckpt_pool_free(&scratch);
    return status;
}
