/* While a backward node runs, the gradients that live across it and what it reads itself are there; every
 * other forward tensor that a later backward node reads is held beside them, or its producer runs again
 * afterwards, and whatever that reads is held or made again too. With a price for a byte held instead of the limit,
 * the best choice is a minimum cut (graph_cut.h); less the price of the bytes there are, it bounds every choice that
 * fits (Lagrange's relaxation). The node and the price that say most count.
 *
 * That says what is made again once. What is made again and again is counted along a chain inside the graph (graph_chain.h).
 *
 * Where tensors do not depend on each other that is a knapsack, whose fractional relaxation (Dantzig 1957) is found
 * without cuts: it says which nodes are worth a look. */
#include "planner/graph/chain_graph_bound.h"

#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "graph/op.h"
#include "planner/chain/chain.h"
#include "planner/graph/graph_chain.h"
#include "planner/graph/graph_cut.h"
#include "planner/graph/graph_moment.h"

enum { MOST_WORK = 50000000, MOST_PRICES = 12, LOOKED_AT = 128, MOST_PARTS = 256 }; /* backward nodes times items */
#define MOST_PRICE (UINT64_C(1) << 52)

/* A forward node whose output the backward pass reads, with those before it that run only for its sake. */
typedef struct item {
    uint64_t bytes, cost;
    int node, last; /* last: the last backward node that reads it */
} item;

/* A backward node's time. */
typedef struct moment {
    int node;
    uint64_t room;  /* bytes for what n does not read itself */
    uint64_t cost;  /* that the knapsack has to run again afterwards */
} moment;

typedef struct bound {
    const ckpt_graph *graph;
    const ckpt_costs *costs;
    uint64_t alignment_bytes;
    int *last;     /* by tensor: last backward node that reads it, or -1 */
    uint64_t *taken; /* by backward node: bytes that no schedule can spare */
    int *consumer; /* by tensor: the one forward node that reads it; -1: none; -2: several */
    int *item_of;  /* by forward node: its item, or -1 */
    item *item;
    int count;
    ckpt_graph_cut *cut;
    uint64_t all_cost;   /* of all forward nodes that may run again */
    uint64_t *held_bytes; /* by tensor: what holding it takes */
    bool *needed, *held;
    bool *more, *less; /* by tensor: held where a byte costs too little, and too much */
    bool *never;       /* by tensor: not held by any choice that is looked at */
    int64_t *hold, *run; /* prices (graph_cut.h) */
    bool *once;          /* by forward node: must not run again */
    moment *list;
} bound;

static uint64_t bytes_of(const bound *b, int tensor) {
    return ckpt_align_up(ckpt_tensor_bytes(&b->graph->tensor[tensor]), b->alignment_bytes);
}

static void find_reads(bound *b) {
    const ckpt_graph *g = b->graph;
    ckpt_graph_moment_reads(g, b->last);
    ckpt_graph_moment_bytes(g, b->alignment_bytes, b->last, b->taken, NULL);
    for (int t = 0; t < g->tensor_count; t++) b->consumer[t] = -1;
    for (int n = 0; n < g->forward_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i];
            if (ckpt_tensor_is_step(g, t) && b->consumer[t] != n) b->consumer[t] = b->consumer[t] == -1 ? n : -2;
        }
}

/* Of several outputs those that are read last are the bytes: the others need not be held for as long.
 *
 * A node whose outputs only one other forward node reads runs again with that one, unless its output is held
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
            if (b->last[t] > own.last) own.last = b->last[t], own.bytes = 0;
            if (b->last[t] >= 0 && b->last[t] == own.last) own.bytes += bytes_of(b, t);
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

/* All backward nodes with what the knapsack says of them; in large graphs only some, which bounds no better but just as truly.
 * Returns how many. */
static int list_moments(const bound *b, uint64_t step_bytes, moment *list) {
    const ckpt_graph *g = b->graph;
    const uint64_t all = (uint64_t)(g->node_count - g->forward_count) * (uint64_t)b->count;
    const int apart = 1 + (int)(all / MOST_WORK);
    int count = 0;
    for (int n = g->forward_count; n < g->node_count; n += apart) {
        const uint64_t room = step_bytes > b->taken[n] ? step_bytes - b->taken[n] : 0;
        list[count++] = (moment){n, room, left_over(b, n, room)};
    }
    return count;
}

/* Holding some tensors and running nodes for the rest: `bytes` and `cost`. */
typedef struct choice {
    uint64_t bytes, cost;
} choice;

/* The best choice where a byte costs `rate`; returns what it says of every choice of at most `room` bytes: the sum less
 * the price of the room, rounded up. */
static uint64_t choose(bound *b, double rate, uint64_t room, choice *best) {
    const ckpt_graph *g = b->graph;
    int shift = 0;
    while (shift < 20 && b->all_cost << (shift + 1) < MOST_PRICE) shift++;
    const double scaled = rate * (double)((uint64_t)1 << shift);
    const int64_t price = scaled < 1e15 ? (int64_t)scaled : (int64_t)1e15, most = (int64_t)(b->all_cost << shift) + 1;
    for (int t = 0; t < g->tensor_count; t++) {
        const unsigned __int128 hold = (unsigned __int128)b->held_bytes[t] * (uint64_t)price;
        b->hold[t] = hold > (uint64_t)most || b->never[t] ? most : (int64_t)hold;
    }
    for (int n = 0; n < g->forward_count; n++)
        b->run[n] = b->once[n] ? CKPT_GRAPH_CUT_NEVER : (int64_t)(b->costs->node[n] << shift);
    const int64_t sum = ckpt_graph_cut_solve(b->cut, b->needed, b->hold, b->run, b->held);
    uint64_t held = 0;
    *best = (choice){0};
    for (int t = 0; t < g->tensor_count; t++)
        if (b->held[t]) best->bytes += b->held_bytes[t], held += (uint64_t)b->hold[t];
    best->cost = ((uint64_t)sum - held) >> shift;
    const unsigned __int128 paid = (unsigned __int128)room * (uint64_t)price;
    if (paid >= (uint64_t)sum) return 0;
    return (((uint64_t)sum - (uint64_t)paid) + ((uint64_t)1 << shift) - 1) >> shift;
}

/* What is needed after backward node n, and what holding it takes beside what n reads itself. `unit` divides the bytes of
 * whatever could be held. */
static void set_moment(bound *b, int n, uint64_t *unit) {
    const ckpt_graph *g = b->graph;
    *unit = 0;
    for (int t = 0; t < g->tensor_count; t++) {
        const bool forward = ckpt_tensor_is_step(g, t) && g->tensor[t].producer < g->forward_count;
        b->needed[t] = forward && b->last[t] > n;
        b->held_bytes[t] = forward ? bytes_of(b, t) : 0;
    }
    for (int i = 0; i < g->node[n].in_count; i++)
        if (ckpt_tensor_is_step(g, g->node[n].in[i])) b->held_bytes[g->node[n].in[i]] = 0;
    for (int t = 0; t < g->tensor_count; t++) *unit = ckpt_common_divisor(*unit, b->held_bytes[t]);
}

/* The largest bound over the prices of a byte. As a function of the price it is concave and made of straight pieces, of which the
 * next price is where the two meet that are known on either side of its top. `split` is a tensor that one side holds and
 * the other does not, the largest, or -1; `enough` falls to the cost of what fits. */
static uint64_t best_price(bound *b, uint64_t room, int *split, uint64_t *enough) {
    const ckpt_graph *g = b->graph;
    uint64_t most = 0;
    choice more = {0}, less = {.cost = b->all_cost}, middle;
    for (int t = 0; t < g->tensor_count; t++) {
        b->more[t] = b->needed[t];
        b->less[t] = false;
        if (b->needed[t]) more.bytes += b->held_bytes[t];
    }
    if (more.bytes <= room) *enough = 0;
    for (int i = 0; i < MOST_PRICES && more.bytes > room && more.bytes > less.bytes && less.cost > more.cost; i++) {
        const double rate = (double)(less.cost - more.cost) / (double)(more.bytes - less.bytes);
        const uint64_t cost = choose(b, rate, room, &middle);
        if (cost > most) most = cost;
        if (middle.bytes <= room && middle.cost < *enough) *enough = middle.cost;
        choice *side = middle.bytes > room ? &more : &less;
        if (middle.bytes == side->bytes || middle.bytes == room) break;
        *side = middle;
        memcpy(middle.bytes > room ? b->more : b->less, b->held, sizeof *b->held * (size_t)g->tensor_count);
    }
    *split = -1;
    for (int t = 0; t < g->tensor_count; t++)
        if (b->more[t] && !b->less[t] && b->held_bytes[t] > 0 && !b->never[t] && !b->once[g->tensor[t].producer] &&
            (*split < 0 || b->held_bytes[t] > b->held_bytes[*split]))
            *split = t;
    return most;
}

/* The choices that hold `tensor`, or do not, of those of part `from`. */
typedef struct part {
    int from, tensor, split;
    bool held, open;
    uint64_t cost; /* of any of them, at least */
} part;

/* What the part's choices cost at least. */
static uint64_t look_at_part(bound *b, const part *list, int at, uint64_t room, int *split, uint64_t *enough) {
    uint64_t cost = UINT64_MAX;
    bool fits = true;
    for (int i = at; i > 0; i = list[i].from) {
        const int t = list[i].tensor;
        if (!list[i].held) {
            b->never[t] = true;
            continue;
        }
        const uint64_t bytes = bytes_of(b, t);
        fits &= bytes <= room;
        room -= bytes <= room ? bytes : room;
        b->held_bytes[t] = 0;
    }
    if (fits) cost = best_price(b, room, split, enough);
    for (int i = at; i > 0; i = list[i].from) {
        b->never[list[i].tensor] = false;
        b->held_bytes[list[i].tensor] = bytes_of(b, list[i].tensor);
    }
    return cost;
}

/* What is needed after the moment and not held is made again, with all that this takes. Choices are split by whether they hold a
 * tensor, the part that may cost least first (branch and bound), until there are most_parts. */
static uint64_t left_over_with_inputs(bound *b, const moment *m, int most_parts) {
    part list[MOST_PARTS];
    uint64_t enough = UINT64_MAX, unit;
    set_moment(b, m->node, &unit);
    const uint64_t room = unit > 0 ? m->room / unit * unit : m->room;
    list[0] = (part){.open = true, .split = -1};
    list[0].cost = look_at_part(b, list, 0, room, &list[0].split, &enough);
    for (int count = 1;;) {
        int least = -1;
        for (int i = 0; i < count; i++)
            if (list[i].open && (least < 0 || list[i].cost < list[least].cost)) least = i;
        if (list[least].cost >= enough || list[least].split < 0 || count + 2 > most_parts)
            return list[least].cost < enough ? list[least].cost : enough;
        list[least].open = false;
        for (int held = 0; held < 2; held++, count++) {
            part *p = &list[count];
            *p = (part){.from = least, .tensor = list[least].split, .split = -1, .held = held, .open = true};
            p->cost = look_at_part(b, list, count, room, &p->split, &enough);
            if (p->cost < list[least].cost) p->cost = list[least].cost;
        }
    }
}

/* The best of all moments by the knapsack; by cuts, of some at equal distances, and of those around the best of these. */
static uint64_t largest(bound *b, uint64_t step_bytes) {
    moment *list = b->list;
    const int count = list_moments(b, step_bytes, list);
    const int apart = 1 + count / LOOKED_AT;
    uint64_t most = 0, most_with_inputs = 0;
    int best = 0;
    for (int i = 0; i < count; i++) {
        if (list[i].cost > list[best].cost) best = i;
        if (list[i].cost > most) most = list[i].cost;
    }
    const int greedy = best;
    for (int i = -1; i < count; i += apart) {
        const int at = i < 0 ? greedy : i;
        const uint64_t cost = count > 0 ? left_over_with_inputs(b, &list[at], 1) : 0;
        if (cost > most_with_inputs) best = at, most_with_inputs = cost;
        if (i < 0) i = -apart;
    }
    for (int i = best < apart ? 0 : best - apart; i <= best + apart && i < count; i++) {
        const uint64_t cost = left_over_with_inputs(b, &list[i], 1);
        if (cost > most_with_inputs) best = i, most_with_inputs = cost;
    }
    if (count > 0) most_with_inputs = left_over_with_inputs(b, &list[best], MOST_PARTS);
    return most > most_with_inputs ? most : most_with_inputs;
}

static ckpt_status prepare(bound *b, ckpt_pool *scratch, ckpt_error *err) {
    const ckpt_graph *g = b->graph;
    b->last = ckpt_pool_array(scratch, g->tensor_count, int);
    b->taken = ckpt_pool_array(scratch, g->node_count, uint64_t);
    b->consumer = ckpt_pool_array(scratch, g->tensor_count, int);
    b->item_of = ckpt_pool_array(scratch, g->forward_count, int);
    b->item = ckpt_pool_array(scratch, g->forward_count, item);
    b->needed = ckpt_pool_array(scratch, g->tensor_count, bool);
    b->held = ckpt_pool_array(scratch, g->tensor_count, bool);
    b->more = ckpt_pool_array(scratch, g->tensor_count, bool);
    b->less = ckpt_pool_array(scratch, g->tensor_count, bool);
    b->never = ckpt_pool_array(scratch, g->tensor_count, bool);
    b->held_bytes = ckpt_pool_array(scratch, g->tensor_count, uint64_t);
    b->hold = ckpt_pool_array(scratch, g->tensor_count, int64_t);
    b->run = ckpt_pool_array(scratch, g->forward_count, int64_t);
    b->once = ckpt_pool_array(scratch, g->forward_count, bool);
    b->list = ckpt_pool_array(scratch, g->node_count, moment);
    if (!b->last || !b->taken || !b->consumer || !b->item_of || !b->item || !b->needed || !b->held || !b->more || !b->less || !b->never || !b->held_bytes || !b->hold ||
        !b->run || !b->once || !b->list)
        return ckpt_fail(err, CKPT_NOMEM, "out of host memory for a lower bound");
    for (int n = 0; n < g->forward_count; n++) {
        b->once[n] = g->node[n].op == CKPT_OP_LOSS || ckpt_node_has_effect(g, n);
        if (!b->once[n]) b->all_cost += b->costs->node[n];
    }
    find_reads(b);
    find_items(b);
    qsort(b->item, (size_t)b->count, sizeof *b->item, by_rate);
    return ckpt_graph_cut_open(g, &b->cut, err);
}

ckpt_status ckpt_graph_bound(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes, uint64_t step_bytes,
                             uint64_t *recompute_cost, ckpt_error *err) {
    ckpt_pool scratch = {0};
    uint64_t counted;
    bound b = {.graph = graph, .costs = costs, .alignment_bytes = alignment_bytes};
    ckpt_chain chain;
    ckpt_status status = prepare(&b, &scratch, err);
    if (status == CKPT_OK) status = ckpt_graph_chain_find(graph, costs, alignment_bytes, &scratch, &chain, err);
    if (status == CKPT_OK) status = ckpt_chain_bound_by_count(&chain, step_bytes, &counted, err);
    if (status == CKPT_OK) {
        const uint64_t most = largest(&b, step_bytes);
        *recompute_cost = ckpt_round_up(most > counted ? most : counted, ckpt_costs_divisor(graph, costs));
    }
    ckpt_graph_cut_close(b.cut);
    ckpt_pool_free(&scratch);
    return status;
}

ckpt_status ckpt_graph_bound_after(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                   uint64_t step_bytes, uint64_t *after, ckpt_error *err) {
    ckpt_pool scratch = {0};
    bound b = {.graph = graph, .costs = costs, .alignment_bytes = alignment_bytes};
    const ckpt_status status = prepare(&b, &scratch, err);
    for (int n = 0; n < graph->node_count; n++) after[n] = 0;
    const int count = status == CKPT_OK ? list_moments(&b, step_bytes, b.list) : 0;
    for (int i = 0; i < count; i++) after[b.list[i].node] = left_over_with_inputs(&b, &b.list[i], MOST_PARTS);
    ckpt_graph_cut_close(b.cut);
    ckpt_pool_free(&scratch);
    return status;
}

ckpt_status ckpt_graph_bound_by_chain(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                      uint64_t step_bytes, uint64_t recompute_cost, uint64_t *lower_bound,
                                      ckpt_error *err) {
    if (*lower_bound >= recompute_cost) return CKPT_OK;
    ckpt_pool scratch = {0};
    ckpt_chain chain;
    ckpt_status status = ckpt_graph_chain_find(graph, costs, alignment_bytes, &scratch, &chain, err);
    if (status == CKPT_OK && chain.stage_count > 0) {
        uint64_t first = 0, of_chain;
        for (int k = 1; k <= chain.stage_count; k++) first += chain.stage[k].forward_cost;
        status = ckpt_chain_lower_bound(&chain, step_bytes, first + recompute_cost, &of_chain, err);
        if (status == CKPT_OK && of_chain > first + *lower_bound)
            *lower_bound = ckpt_round_up(of_chain - first, ckpt_costs_divisor(graph, costs));
    }
    ckpt_pool_free(&scratch);
    return status;
}
