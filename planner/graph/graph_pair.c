#include "planner/graph/graph_pair.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "graph/op.h"
#include "planner/graph/graph_moment.h"

/* Tensors that are open at once, of which tables have as many entries as the power of four; entries of one evaluation, and of
 * all, less than a nanosecond each. */
enum { MOST_OPEN = 6, MOST_ENTRIES = 2000000, MOST_WORK = 1500000000 };

/* Tensors below this part of a step's bytes are small. */
enum { SMALL_PART = 4096 };

/* Groups of backward nodes of which one is looked at; pairs of these that are looked at again, and whose choices are split; how
 * far nodes of a pair move, in places. */
enum { GROUPS = 14, LIKELY_PAIRS = 16, PAIRS = 3, MOST_FAR = 16 };

/* Evaluations for a pair, for another look, and for a part of its choices; parts. */
enum { PAIR_STEPS = 6, ROOT_STEPS = 30, PART_STEPS = 10, MOST_PARTS = 1500 };

/* Where a tensor is between the first moment and the second (EARLY), and after the second (LATE). */
enum { EARLY = 1, LATE = 2, CLASSES = 4 };

enum { MOMENTS = 2 };

/* How it came there: held over the moment before, or made again. */
typedef enum origin { ABSENT, HELD, MADE } origin;

/* Tensor `tensor` is added behind the open ones, or the one at `slot` is closed. */
typedef struct act {
    bool adds;
    int tensor, slot;
    size_t chosen; /* adds false: where its classes begin, by the others' */
} act;

/* What a tensor costs, by whether its producer's inputs are there (EARLY | LATE) and by its class. */
typedef struct price_list {
    double cost[CLASSES][CLASSES];
    origin from[CLASSES][CLASSES][MOMENTS];
} price_list;

typedef struct pair {
    const ckpt_graph *graph;
    ckpt_pool pool;
    int *last;            /* by tensor: last backward node that reads it */
    uint64_t *taken;      /* by node (graph_moment.h) */
    uint64_t *bytes;      /* by tensor */
    uint64_t small_bytes; /* tensors of less have no states */
    double *run_cost;     /* by tensor: of making it again; HUGE_VAL: never */
    act *act;             /* along the forward nodes */
    int act_count;
    double *table[2];      /* before and after an act: the least cost by the classes of the open tensors, two bits each */
    unsigned char *chosen; /* the best class of a tensor that is closed */
    uint64_t entries;      /* of one evaluation */
    uint64_t work;         /* left */
    /* of both moments: */
    int node[MOMENTS];           /* backward nodes */
    double room[MOMENTS];        /* bytes */
    bool *needed[MOMENTS];       /* by tensor: by backward nodes after this moment, up to the next one and by that too */
    bool *free[MOMENTS];         /* by tensor: the node reads it itself, so that its bytes are not in room */
    signed char *fixed[MOMENTS]; /* by tensor: 1: held, and its bytes are not in room; -1: not held; 0: as it likes */
    double price[MOMENTS];       /* of a byte */
    bool *held[MOMENTS];         /* by tensor, in the cheapest choice */
    int *times[MOMENTS];         /* by tensor: so often in the choices of a part */
} pair;

static double smaller(double a, double b) {
    return a < b ? a : b;
}

static bool is_forward(const ckpt_graph *g, int tensor) {
    return ckpt_tensor_is_step(g, tensor) && g->tensor[tensor].producer < g->forward_count;
}

/* Whether a tensor has states: small ones are there at no cost, which is nearly true. */
static bool counts(const pair *p, int tensor) {
    return is_forward(p->graph, tensor) && p->bytes[tensor] >= p->small_bytes;
}

/* Of a node with several outputs only the largest is paid for: less is no bound that is wrong. */
static void find_costs(pair *p, const ckpt_costs *costs, uint64_t alignment_bytes) {
    const ckpt_graph *g = p->graph;
    for (int n = 0; n < g->forward_count; n++) {
        const ckpt_node *node = &g->node[n];
        const bool once = node->op == CKPT_OP_LOSS || ckpt_node_has_effect(g, n);
        int largest = -1;
        for (int i = 0; i < node->out_count; i++) {
            const int t = node->out[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            p->bytes[t] = ckpt_align_up(ckpt_tensor_bytes(&g->tensor[t]), alignment_bytes);
            p->run_cost[t] = once ? HUGE_VAL : 0;
            if (largest < 0 || p->bytes[t] > p->bytes[largest]) largest = t;
        }
        if (largest >= 0 && !once) p->run_cost[largest] = (double)costs->node[n];
    }
}

/* In the order of forward nodes, each closed behind the last that reads it. False: too many are open. */
static bool list_acts(pair *p, int *reader, int *open) {
    const ckpt_graph *g = p->graph;
    int count = 0;
    size_t chosen = 0;
    for (int t = 0; t < g->tensor_count; t++) reader[t] = -1;
    for (int n = 0; n < g->forward_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) reader[g->node[n].in[i]] = n;
    for (int n = 0; n < g->forward_count; n++) {
        const ckpt_node *node = &g->node[n];
        for (int i = 0; i < node->out_count; i++) {
            if (!counts(p, node->out[i])) continue;
            if (count == MOST_OPEN) return false;
            p->act[p->act_count++] = (act){.adds = true, .tensor = node->out[i], .slot = count};
            open[count++] = node->out[i];
            p->entries += (uint64_t)1 << 2 * count;
        }
        for (int slot = count - 1; slot >= 0; slot--) {
            if (reader[open[slot]] > n) continue;
            p->act[p->act_count++] = (act){.tensor = open[slot], .slot = slot, .chosen = chosen};
            memmove(open + slot, open + slot + 1, (size_t)(count - slot - 1) * sizeof *open);
            count--;
            chosen += (size_t)1 << 2 * count;
            p->entries += (uint64_t)1 << 2 * count;
        }
    }
    p->chosen = ckpt_pool_array(&p->pool, chosen + 1, unsigned char);
    return p->entries <= MOST_ENTRIES;
}

static bool make_room(pair *p) {
    const int tensors = p->graph->tensor_count;
    p->last = ckpt_pool_array(&p->pool, tensors, int);
    p->taken = ckpt_pool_array(&p->pool, p->graph->node_count, uint64_t);
    p->bytes = ckpt_pool_array(&p->pool, tensors, uint64_t);
    p->run_cost = ckpt_pool_array(&p->pool, tensors, double);
    p->act = ckpt_pool_array(&p->pool, 2 * tensors, act);
    bool room = p->last && p->taken && p->bytes && p->run_cost && p->act;
    for (int m = 0; m < MOMENTS; m++) {
        p->table[m] = ckpt_pool_array(&p->pool, (size_t)1 << 2 * MOST_OPEN, double);
        p->needed[m] = ckpt_pool_array(&p->pool, tensors, bool);
        p->free[m] = ckpt_pool_array(&p->pool, tensors, bool);
        p->fixed[m] = ckpt_pool_array(&p->pool, tensors, signed char);
        p->held[m] = ckpt_pool_array(&p->pool, tensors, bool);
        p->times[m] = ckpt_pool_array(&p->pool, tensors, int);
        room &= p->table[m] && p->needed[m] && p->free[m] && p->fixed[m] && p->held[m] && p->times[m];
    }
    return room;
}

/* Between two backward nodes, and after the second. */
static void set_moments(pair *p, int first, int second, uint64_t step_bytes) {
    const ckpt_graph *g = p->graph;
    p->node[0] = first;
    p->node[1] = second;
    for (int m = 0; m < MOMENTS; m++) {
        const int from = p->node[m] + 1, to = m == 0 ? second + 1 : g->node_count;
        const uint64_t taken = p->taken[p->node[m]];
        uint64_t unit = 0, room = step_bytes > taken ? step_bytes - taken : 0;
        memset(p->needed[m], 0, sizeof(bool) * (size_t)g->tensor_count);
        memset(p->free[m], 0, sizeof(bool) * (size_t)g->tensor_count);
        for (int n = from; n < to; n++)
            for (int i = 0; i < g->node[n].in_count; i++)
                if (g->node[n].in[i] >= 0) p->needed[m][g->node[n].in[i]] = true;
        for (int i = 0; i < g->node[p->node[m]].in_count; i++)
            if (g->node[p->node[m]].in[i] >= 0) p->free[m][g->node[p->node[m]].in[i]] = true;
        for (int t = 0; t < g->tensor_count; t++)
            if (counts(p, t) && !p->free[m][t]) unit = ckpt_common_divisor(unit, p->bytes[t]);
        p->room[m] = (double)(unit > 0 ? room / unit * unit : room);
    }
}

static double hold_price(const pair *p, int m, int t) {
    if (p->fixed[m][t] < 0) return HUGE_VAL;
    return p->free[m][t] || p->fixed[m][t] > 0 ? 0 : p->price[m] * (double)p->bytes[t];
}

static void list_prices(const pair *p, int t, price_list *list) {
    double hold[MOMENTS];
    for (int m = 0; m < MOMENTS; m++) hold[m] = hold_price(p, m, t);
    for (int inputs = 0; inputs < CLASSES; inputs++)
        for (int of = 0; of < CLASSES; of++) {
            double cost = 0;
            origin from[MOMENTS] = {ABSENT, ABSENT};
            for (int m = 0; m < MOMENTS; m++) {
                const int when = m == 0 ? EARLY : LATE;
                if (!(of & when)) {
                    if (p->needed[m][t] || p->fixed[m][t] > 0) cost = HUGE_VAL;
                    continue;
                }
                const double made = inputs & when ? p->run_cost[t] : HUGE_VAL;
                const double held = m == 0 || of & EARLY ? hold[m] : HUGE_VAL;
                from[m] = p->fixed[m][t] > 0 || held <= made ? HELD : MADE;
                cost += from[m] == HELD ? held : made;
            }
            list->cost[inputs][of] = cost;
            memcpy(list->from[inputs][of], from, sizeof from);
        }
}

/* The bits of the producer's inputs among open tensors, for EARLY; those for LATE are the next ones. */
static unsigned input_bits(const pair *p, const int *open, int count, int tensor) {
    const ckpt_node *node = &p->graph->node[p->graph->tensor[tensor].producer];
    unsigned bits = 0;
    for (int i = 0; i < node->in_count; i++)
        for (int slot = 0; slot < count && counts(p, node->in[i]); slot++)
            if (open[slot] == node->in[i]) bits |= 1u << 2 * slot;
    return bits;
}

static int inputs_at(unsigned at, unsigned bits) {
    return ((at & bits) == bits ? EARLY : 0) | ((at >> 1 & bits) == bits ? LATE : 0);
}

static void close_slot(const double *from, double *to, unsigned char *chosen, int slot, int open) {
    const unsigned low = (1u << 2 * slot) - 1, count = 1u << 2 * (open - 1);
    for (unsigned at = 0; at < count; at++) {
        const unsigned base = (at & low) | (at & ~low) << 2;
        double least = from[base];
        unsigned char best = 0;
        for (unsigned of = 1; of < CLASSES; of++) {
            const double cost = from[base | of << 2 * slot];
            if (cost < least) least = cost, best = (unsigned char)of;
        }
        to[at] = least;
        chosen[at] = best;
    }
}

/* From the last act back: what is held. */
static void follow(pair *p, const price_list *list) {
    unsigned at = 0;
    int open[MOST_OPEN], count = 0;
    for (int a = p->act_count - 1; a >= 0; a--) {
        const act *x = &p->act[a];
        if (!x->adds) {
            const unsigned low = (1u << 2 * x->slot) - 1;
            const unsigned of = p->chosen[x->chosen + at];
            at = (at & low) | of << 2 * x->slot | (at & ~low) << 2;
            memmove(open + x->slot + 1, open + x->slot, (size_t)(count - x->slot) * sizeof *open);
            open[x->slot] = x->tensor;
            count++;
            continue;
        }
        const unsigned of = at >> 2 * x->slot;
        at &= (1u << 2 * x->slot) - 1;
        count--;
        const int inputs = inputs_at(at, input_bits(p, open, count, x->tensor));
        for (int m = 0; m < MOMENTS; m++) {
            p->held[m][x->tensor] = list[a].from[inputs][of][m] == HELD;
            p->times[m][x->tensor] += p->held[m][x->tensor];
        }
    }
}

/* The cheapest choice at the prices that there are, less what the room costs; HUGE_VAL where there is none. over: bytes held
 * beyond the room. */
static double evaluate(pair *p, price_list *list, double over[MOMENTS]) {
    double *from = p->table[0], *to = p->table[1];
    int open[MOST_OPEN], count = 0;
    p->work -= p->entries < p->work ? p->entries : p->work;
    from[0] = 0;
    for (int a = 0; a < p->act_count; a++) {
        const act *x = &p->act[a];
        if (x->adds) {
            const unsigned bits = input_bits(p, open, count, x->tensor), size = 1u << 2 * count;
            list_prices(p, x->tensor, &list[a]);
            for (unsigned at = 0; at < size; at++) {
                const double *cost = list[a].cost[inputs_at(at, bits)];
                for (unsigned of = 0; of < CLASSES; of++) to[at + of * size] = from[at] + cost[of];
            }
            open[count++] = x->tensor;
        } else {
            close_slot(from, to, p->chosen + x->chosen, x->slot, count);
            memmove(open + x->slot, open + x->slot + 1, (size_t)(count - x->slot - 1) * sizeof *open);
            count--;
        }
        double *swap = from;
        from = to;
        to = swap;
    }
    double value = from[0];
    if (!(value < HUGE_VAL)) return HUGE_VAL;
    follow(p, list);
    for (int m = 0; m < MOMENTS; m++) {
        over[m] = -p->room[m];
        value -= p->price[m] * p->room[m];
        for (int a = 0; a < p->act_count; a++) {
            const int t = p->act[a].tensor;
            if (p->act[a].adds && p->held[m][t] && !p->free[m][t] && p->fixed[m][t] == 0) over[m] += (double)p->bytes[t];
        }
    }
    return value;
}

/* A set of choices: those of part `from` that hold `tensor` over the moment, or do not. */
typedef struct part {
    int from, tensor, moment;
    bool held, open;
    double value, price[MOMENTS];
    int split, split_moment; /* what to split it by, or -1 */
} part;

/* Steps of prices towards `target`, which the value is not known to exceed (Polyak). */
static void improve(pair *p, price_list *list, part *of, int steps, double target, double *enough) {
    const int tensors = p->graph->tensor_count;
    double reach = 1, over[MOMENTS];
    int looked = 0;
    for (int m = 0; m < MOMENTS; m++) memset(p->times[m], 0, sizeof(int) * (size_t)tensors);
    memcpy(p->price, of->price, sizeof p->price);
    of->split = -1;
    for (int i = 0; i < steps && p->work > 0; i++) {
        const double value = evaluate(p, list, over);
        looked++;
        if (!(value < HUGE_VAL)) {
            of->value = HUGE_VAL;
            return;
        }
        const double paid = p->price[0] * over[0] + p->price[1] * over[1];
        if (over[0] <= 0 && over[1] <= 0) *enough = smaller(*enough, value - paid);
        if (value > of->value) {
            of->value = value;
            memcpy(of->price, p->price, sizeof p->price);
        } else {
            reach *= 0.7;
        }
        double square = 0;
        for (int m = 0; m < MOMENTS; m++) {
            if (over[m] < 0 && p->price[m] <= 0) over[m] = 0;
            square += over[m] * over[m];
        }
        if (square <= 0 || of->value >= target) break;
        for (int m = 0; m < MOMENTS; m++)
            p->price[m] = fmax(0, p->price[m] + reach * (target - value) / square * over[m]);
    }
    double most = 0;
    for (int m = 0; m < MOMENTS && looked > 0; m++)
        for (int t = 0; t < tensors; t++) {
            const double often = (double)p->times[m][t] / looked, in_doubt = smaller(often, 1 - often) * (double)p->bytes[t];
            if (p->fixed[m][t] || p->free[m][t] || in_doubt <= most) continue;
            most = in_doubt;
            of->split = t;
            of->split_moment = m;
        }
}

/* Fixes what a part says, or undoes it. */
static void fix(pair *p, const part *list, int at, bool undo) {
    for (int i = at; i > 0; i = list[i].from) {
        const int t = list[i].tensor, m = list[i].moment;
        p->fixed[m][t] = (signed char)(undo ? 0 : list[i].held ? 1 : -1);
        if (list[i].held) p->room[m] += undo ? (double)p->bytes[t] : -(double)p->bytes[t];
    }
}

static void look_at(pair *p, price_list *list, part *parts, int at, int steps, double target, double *enough) {
    fix(p, parts, at, false);
    if (p->room[0] < 0 || p->room[1] < 0) parts[at].value = HUGE_VAL;
    else improve(p, list, &parts[at], steps, target, enough);
    fix(p, parts, at, true);
}

/* The least of any choice: parts are split, that of least value first. */
static double branch(pair *p, price_list *list, part *parts, double target) {
    double enough = target;
    look_at(p, list, parts, 0, PART_STEPS, target, &enough);
    parts[0].open = true;
    for (int count = 1;;) {
        int least = -1;
        for (int i = 0; i < count; i++)
            if (parts[i].open && (least < 0 || parts[i].value < parts[least].value)) least = i;
        const part from = parts[least];
        if (from.value >= enough || from.split < 0 || count + 2 > MOST_PARTS || p->work == 0) return smaller(from.value, enough);
        parts[least].open = false;
        for (int held = 0; held < 2; held++, count++) {
            parts[count] = from;
            parts[count].from = least;
            parts[count].tensor = from.split;
            parts[count].moment = from.split_moment;
            parts[count].held = held;
            look_at(p, list, parts, count, PART_STEPS, target, &enough);
        }
    }
}

/* Backward nodes that read forward tensors; returns how many. */
static int list_readers(const pair *p, int *list) {
    const ckpt_graph *g = p->graph;
    int count = 0;
    for (int n = g->forward_count; n < g->node_count; n++) {
        bool reads = false;
        for (int i = 0; i < g->node[n].in_count; i++) reads |= g->node[n].in[i] >= 0 && is_forward(g, g->node[n].in[i]);
        if (reads) list[count++] = n;
    }
    return count;
}

/* Of each group of them the place of the one that leaves least room. */
static int list_groups(const pair *p, const int *list, int count, int *place) {
    int groups = 0;
    for (int i = 0; i < GROUPS; i++) {
        int best = -1;
        for (int j = i * count / GROUPS; j < (i + 1) * count / GROUPS; j++)
            if (best < 0 || p->taken[list[j]] > p->taken[list[best]]) best = j;
        if (best >= 0) place[groups++] = best;
    }
    return groups;
}

static part start(const pair *p, double target) {
    part all = {.value = 0, .split = -1};
    for (int m = 0; m < MOMENTS; m++) all.price[m] = p->room[m] > 0 ? target / p->room[m] / 4 : 0;
    return all;
}

/* Two backward nodes by their places, and what is known of them before choices are split. */
typedef struct candidate {
    int first, second;
    part all;
} candidate;

static int by_least(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->all.value != y->all.value) return x->all.value > y->all.value ? -1 : 1;
    return x->first != y->first ? x->first - y->first : x->second - y->second;
}

static void look_at_pair(pair *p, const int *node, candidate *c, int steps, uint64_t step_bytes, double target,
                         price_list *list) {
    double enough = HUGE_VAL;
    set_moments(p, node[c->first], node[c->second], step_bytes);
    improve(p, list, &c->all, steps, target, &enough);
}

/* Moves one of the two nodes, near and far, as long as that says more. */
static void move_pair(pair *p, const int *node, int nodes, candidate *c, uint64_t step_bytes, double target,
                      price_list *list) {
    for (int far = MOST_FAR; far >= 1; far /= 2)
        for (int way = 0; way < 4; way++) {
            const int by = way & 1 ? far : -far;
            candidate next = {c->first + (way & 2 ? by : 0), c->second + (way & 2 ? 0 : by), c->all};
            if (next.first < 0 || next.first >= next.second || next.second >= nodes) continue;
            next.all.value = 0;
            look_at_pair(p, node, &next, ROOT_STEPS / 2, step_bytes, target, list);
            if (!(next.all.value < HUGE_VAL) || next.all.value <= c->all.value) continue;
            *c = next;
            way = -1;
        }
}

/* The largest of some pairs'. node: those that read forward tensors. */
static double best_of_pairs(pair *p, const int *node, int nodes, uint64_t step_bytes, double target, price_list *list,
                            part *parts) {
    candidate of[GROUPS * (GROUPS - 1) / 2];
    int place[GROUPS], count = 0;
    const int groups = list_groups(p, node, nodes, place);
    double most = 0;
    for (int i = 0; i < groups; i++)
        for (int j = i + 1; j < groups; j++) {
            candidate *c = &of[count++];
            set_moments(p, node[place[i]], node[place[j]], step_bytes);
            *c = (candidate){place[i], place[j], start(p, target)};
            look_at_pair(p, node, c, PAIR_STEPS, step_bytes, target, list);
            if (!(c->all.value < HUGE_VAL)) count--;
        }
    qsort(of, (size_t)count, sizeof *of, by_least);
    if (count > LIKELY_PAIRS) count = LIKELY_PAIRS;
    for (int i = 0; i < count; i++) look_at_pair(p, node, &of[i], ROOT_STEPS, step_bytes, target, list);
    qsort(of, (size_t)count, sizeof *of, by_least);
    if (count > PAIRS) count = PAIRS;
    for (int i = 0; i < count; i++) move_pair(p, node, nodes, &of[i], step_bytes, target, list);
    const uint64_t work = p->work;
    for (int i = 0; i < count && most < target; i++) {
        set_moments(p, node[of[i].first], node[of[i].second], step_bytes);
        parts[0] = of[i].all;
        p->work = work / PAIRS;
        most = fmax(most, branch(p, list, parts, target));
    }
    return most;
}

ckpt_status ckpt_graph_pair_bound(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                  uint64_t step_bytes, uint64_t recompute_cost, uint64_t *bound, ckpt_error *err) {
    pair p = {.graph = graph, .work = MOST_WORK, .small_bytes = step_bytes / SMALL_PART};
    ckpt_pool scratch = {0};
    int *reader = ckpt_pool_array(&scratch, graph->tensor_count, int), *open = ckpt_pool_array(&scratch, MOST_OPEN, int);
    int *node = ckpt_pool_array(&scratch, graph->node_count, int);
    price_list *prices = ckpt_pool_array(&scratch, 2 * graph->tensor_count, price_list);
    part *parts = ckpt_pool_array(&scratch, MOST_PARTS, part);
    bool room = reader && open && node && prices && parts && make_room(&p);
    if (room && *bound < recompute_cost) {
        find_costs(&p, costs, alignment_bytes);
        const bool few = list_acts(&p, reader, open);
        room = !few || p.chosen;
        if (room && few) {
            ckpt_graph_moment_reads(graph, p.last);
            ckpt_graph_moment_bytes(graph, alignment_bytes, p.last, p.taken, NULL);
            const double value = best_of_pairs(&p, node, list_readers(&p, node), step_bytes, (double)recompute_cost, prices, parts);
            const double sure = value - 1e-9 * (1 + value + (double)recompute_cost); /* in spite of rounding */
            if (sure > (double)*bound)
                *bound = ckpt_round_up((uint64_t)ceil(smaller(sure, (double)recompute_cost)), ckpt_costs_divisor(graph, costs));
            if (*bound > recompute_cost) *bound = recompute_cost;
        }
    }
    ckpt_pool_free(&p.pool);
    ckpt_pool_free(&scratch);
    return room ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory for a lower bound");
}
