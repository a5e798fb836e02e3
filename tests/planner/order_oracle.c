/* A* over pairs (nodes that run once and have run, droppable tensors that are there), at one budget.
 *
 * A tensor is droppable when a node that may run again makes it, or reads it. All other STEP tensors are made once and read by
 * nodes that run once: the set of nodes that have run says which of them are live. A run first evicts what must go for its
 * bytes to fit. The heuristic is the cost of the nodes that must run at least once more, because something that is still to
 * run reads what is not there; it is consistent, so that a state is final when it leaves the heap.
 *
 * Left out, because something at least as good remains:
 *   1. Evictions that the next run does not need. Holding more does no harm while the bytes fit: each set that is evicted is
 *      minimal.
 *   2. Tensors that nothing can read any more are dropped at once, and nodes that can only make such tensors do not run.
 *   3. A node that runs once, is ready, fits, forbids no run that could be of use, and leaves no more bytes than the tensors
 *      that die with it, runs at once and alone. In any schedule that runs it later, moving it to the front leaves no more
 *      bytes at any moment: what dies with it would have been held until then.
 *   4. A state in which no more is held than in another, which has run the same nodes and has cost no more.
 *   5. Where output 0 may be written over a droppable input, giving the input up for it is tried only when that is of
 *      use: when the run does not fit without, or nothing reads the input any more.
 */
#include "order_oracle.h"

#include <stdlib.h>
#include <string.h>

#include "graph/op.h"

enum { WORDS = 4, MOST_ONCE = 64 * WORDS, MOST_DROPPABLE = 64, MOST_RULES = MOST_ONCE + 64, MOST_BOUND = 512, MOST_NODES = 1024 };

/* Nodes that run once: bits. */
typedef struct nodes {
    uint64_t word[WORDS];
} nodes;

/* A STEP tensor that is made once and read by nodes that run once. */
typedef struct bound_tensor {
    uint64_t bytes;
    int maker; /* bit */
    nodes readers;
    bool output; /* live to the end */
} bound_tensor;

typedef struct rule {
    int node;
    bool once;
    uint64_t cost;
    int bit;             /* in `done`; -1: a node that may run again and is certain to run */
    nodes needs, bars;   /* must, must not have run */
    uint64_t reads, makes; /* droppable tensors */
    uint64_t takes_over; /* those of `reads` that output 0 may be written over */
    uint64_t made_bytes, first_bytes; /* of all outputs; of output 0 */
    int bound_count;
    int bound[CKPT_MAX_IN]; /* bound tensors read */
    bool bound_over[CKPT_MAX_IN];
} rule;

typedef struct state {
    nodes done;
    uint64_t held;
} state;

typedef struct found_state {
    state at;
    uint64_t cost, peak, rest; /* so far; the heuristic */
    int parent, by;            /* by: rule */
    int alike;                 /* the next state in which the same nodes have run, or -1 */
    bool closed;
} found_state;

typedef struct entry {
    uint64_t key, peak;
    int state;
} entry;

struct order_oracle {
    const ckpt_graph *graph;
    const ckpt_costs *costs;
    uint64_t alignment;
    int droppable_of[MOST_NODES]; /* by tensor, -1 */
    int droppable_count;
    uint64_t bytes[MOST_DROPPABLE];
    nodes read_by[MOST_DROPPABLE]; /* nodes that run once */
    uint64_t outputs;              /* droppable ones that the graph hands out: there in the end */
    uint64_t made_once;            /* droppable ones that only nodes that run once make */
    int maker_bit[MOST_DROPPABLE]; /* of those */
    int rule_count, again_first;   /* rules [again_first, rule_count) may run again, in the graph's order */
    rule rule[MOST_RULES];
    int bound_count;
    bound_tensor bound[MOST_BOUND];
    nodes all;
    uint64_t once_cost, unit, floor, store_all;
    /* one search */
    int state_limit, count, capacity, heap_count, heap_capacity, slots;
    found_state *found;
    entry *heap;
    int *slot, *group; /* hash tables of states, and of the newest state by nodes that have run; -1: free */
    uint64_t budget;
    bool bytes_only, failed, plain;
};

/* --- sets --------------------------------------------------------------------------------------------- */

static bool has(nodes set, int bit) {
    return set.word[bit >> 6] >> (bit & 63) & 1;
}

static void include(nodes *set, int bit) {
    set->word[bit >> 6] |= UINT64_C(1) << (bit & 63);
}

static bool meets(nodes a, nodes b) {
    uint64_t both = 0;
    for (int w = 0; w < WORDS; w++) both |= a.word[w] & b.word[w];
    return both != 0;
}

static bool within(nodes a, nodes b) {
    uint64_t outside = 0;
    for (int w = 0; w < WORDS; w++) outside |= a.word[w] & ~b.word[w];
    return outside == 0;
}

static bool within_but(nodes a, nodes b, int bit) {
    include(&b, bit);
    return within(a, b);
}

static int size_of_set(nodes a) {
    int size = 0;
    for (int w = 0; w < WORDS; w++) size += __builtin_popcountll(a.word[w]);
    return size;
}

static uint64_t bytes_of(const order_oracle *o, uint64_t set) {
    uint64_t sum = 0;
    for (; set; set &= set - 1) sum += o->bytes[__builtin_ctzll(set)];
    return sum;
}

/* --- the graph's rules ---------------------------------------------------------------------------------- */

static bool is_step(const ckpt_graph *g, int t) {
    return t >= 0 && g->tensor[t].role == CKPT_ROLE_STEP;
}

static bool lasts(const ckpt_graph *g, int t) {
    return t >= 0 && g->tensor[t].role != CKPT_ROLE_STEP;
}

static bool runs_once(const ckpt_graph *g, int n) {
    const ckpt_node *node = &g->node[n];
    if (node->phase != CKPT_FORWARD || node->op == CKPT_OP_LOSS || node->when != CKPT_ALWAYS) return true;
    for (int i = 0; i < node->out_count; i++)
        if (lasts(g, node->out[i])) return true;
    return false;
}

static uint64_t step_bytes(const order_oracle *o, int t) {
    const uint64_t bytes = ckpt_tensor_bytes(&o->graph->tensor[t]);
    return (bytes + o->alignment - 1) / o->alignment * o->alignment;
}

static bool is_output(const ckpt_graph *g, int t) {
    for (int i = 0; i < g->output_count; i++)
        if (g->output[i] == t) return true;
    return false;
}

static bool reads(const ckpt_graph *g, int n, int t) {
    for (int i = 0; i < g->node[n].in_count; i++)
        if (g->node[n].in[i] == t) return true;
    return false;
}

static bool writes(const ckpt_graph *g, int n, int t) {
    for (int i = 0; i < g->node[n].out_count; i++)
        if (g->node[n].out[i] == t) return true;
    return false;
}

static bool may_write_over(const ckpt_graph *g, int n, int t) {
    const ckpt_node *node = &g->node[n];
    const uint64_t mask = ckpt_op_info(node->op)->inplace;
    bool permitted = false;
    if (node->out_count < 1 || !is_step(g, node->out[0])) return false;
    if (ckpt_tensor_bytes(&g->tensor[node->out[0]]) != ckpt_tensor_bytes(&g->tensor[t])) return false;
    for (int i = 0; i < node->in_count; i++) {
        if (node->in[i] != t) continue;
        if (!(mask >> i & 1)) return false;
        permitted = true;
    }
    return permitted;
}

/* Whether node b has to run after the first run of node a: an access to what outlives the step, one of the two a write. */
static bool keeps_order(const ckpt_graph *g, int a, int b) {
    if (a >= b) return false;
    for (int i = 0; i < g->node[a].out_count; i++) {
        const int t = g->node[a].out[i];
        if (lasts(g, t) && (reads(g, b, t) || writes(g, b, t))) return true;
    }
    for (int i = 0; i < g->node[a].in_count; i++)
        if (lasts(g, g->node[a].in[i]) && writes(g, b, g->node[a].in[i])) return true;
    return false;
}

/* by node: whether it has certainly run when node n does, as n needs what it makes. */
static void mark_ancestors(const ckpt_graph *g, int n, bool *ancestor) {
    for (int i = 0; i < g->node[n].in_count; i++) {
        const int t = g->node[n].in[i];
        if (!is_step(g, t) || ancestor[g->tensor[t].producer]) continue;
        ancestor[g->tensor[t].producer] = true;
        mark_ancestors(g, g->tensor[t].producer, ancestor);
    }
}

/* A node that may run again needs a bit of its own where nothing else says that it has run. */
static bool needs_bit(const ckpt_graph *g, int n) {
    bool ancestor[MOST_NODES], certain = false;
    for (int m = 0; m < g->node_count; m++) {
        if (!runs_once(g, m)) continue;
        memset(ancestor, 0, sizeof ancestor);
        mark_ancestors(g, m, ancestor);
        certain |= ancestor[n];
        if (keeps_order(g, n, m) && !ancestor[n]) return true;
    }
    return !certain;
}

static rule *rule_of(order_oracle *o, int n) {
    for (int i = 0; i < o->rule_count; i++)
        if (o->rule[i].node == n) return &o->rule[i];
    return NULL;
}

static bool list_rules(order_oracle *o) {
    const ckpt_graph *g = o->graph;
    int bits = 0;
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 1) o->again_first = o->rule_count;
        for (int n = 0; n < g->node_count; n++) {
            if (runs_once(g, n) != (pass == 0)) continue;
            if (o->rule_count == MOST_RULES) return false;
            const bool bit = pass == 0 || needs_bit(g, n);
            if (bit && bits == MOST_ONCE) return false;
            o->rule[o->rule_count++] = (rule){
                .node = n, .once = pass == 0, .cost = pass ? o->costs->node[n] : 0, .bit = bit ? bits : -1};
            if (bit) include(&o->all, bits++);
            if (pass) o->once_cost += o->costs->node[n];
        }
    }
    return o->rule_count - o->again_first <= 64;
}

static bool list_tensors(order_oracle *o) {
    const ckpt_graph *g = o->graph;
    for (int t = 0; t < g->tensor_count; t++) {
        o->droppable_of[t] = -1;
        if (!is_step(g, t) || g->tensor[t].producer < 0) continue;
        const int maker = g->tensor[t].producer;
        bool droppable = !runs_once(g, maker);
        for (int n = 0; n < g->node_count; n++) droppable |= !runs_once(g, n) && reads(g, n, t);
        if (droppable) {
            if (o->droppable_count == MOST_DROPPABLE) return false;
            const int d = o->droppable_of[t] = o->droppable_count++;
            o->bytes[d] = step_bytes(o, t);
            if (is_output(g, t)) o->outputs |= UINT64_C(1) << d;
            if (runs_once(g, maker)) {
                o->made_once |= UINT64_C(1) << d;
                o->maker_bit[d] = rule_of(o, maker)->bit;
            }
        } else {
            if (o->bound_count == MOST_BOUND) return false;
            o->droppable_of[t] = -2 - o->bound_count;
            o->bound[o->bound_count++] =
                (bound_tensor){.bytes = step_bytes(o, t), .maker = rule_of(o, maker)->bit, .output = is_output(g, t)};
        }
    }
    return true;
}

static void read_tensor(order_oracle *o, rule *r, int t) {
    const int d = o->droppable_of[t];
    const bool over = may_write_over(o->graph, r->node, t);
    if (d >= 0) {
        r->reads |= UINT64_C(1) << d;
        if (over) r->takes_over |= UINT64_C(1) << d;
        if (r->once) include(&o->read_by[d], r->bit);
        return;
    }
    const int b = -2 - d;
    include(&o->bound[b].readers, r->bit);
    include(&r->needs, o->bound[b].maker);
    for (int i = 0; i < r->bound_count; i++)
        if (r->bound[i] == b) return;
    r->bound_over[r->bound_count] = over;
    r->bound[r->bound_count++] = b;
}

static void fill_rule(order_oracle *o, rule *r) {
    const ckpt_graph *g = o->graph;
    const ckpt_node *node = &g->node[r->node];
    for (int i = 0; i < node->in_count; i++)
        if (is_step(g, node->in[i])) read_tensor(o, r, node->in[i]);
    for (int i = 0; i < node->out_count; i++) {
        const int t = node->out[i];
        if (!is_step(g, t)) continue;
        r->made_bytes += step_bytes(o, t);
        if (i == 0) r->first_bytes = step_bytes(o, t);
        if (o->droppable_of[t] >= 0) r->makes |= UINT64_C(1) << o->droppable_of[t];
    }
    for (int i = 0; i < o->rule_count; i++) {
        const rule *other = &o->rule[i];
        if (other->bit < 0) continue;
        if (keeps_order(g, other->node, r->node)) include(&r->needs, other->bit);
        if (!r->once && other->once && keeps_order(g, r->node, other->node)) include(&r->bars, other->bit);
    }
    uint64_t all = r->made_bytes, least = all;
    for (uint64_t s = r->reads; s; s &= s - 1) all += o->bytes[__builtin_ctzll(s)];
    bool over = r->takes_over;
    for (int i = 0; i < r->bound_count; i++) all += o->bound[r->bound[i]].bytes, over |= r->bound_over[i];
    least = all - (over ? r->first_bytes : 0);
    if (least > o->floor) o->floor = least;
}

static uint64_t common_divisor(uint64_t a, uint64_t b) {
    return b ? common_divisor(b, a % b) : a;
}

order_oracle *order_oracle_open(const ckpt_graph *g, const ckpt_costs *costs, uint64_t alignment_bytes) {
    if (g->tensor_count > MOST_NODES || g->node_count > MOST_NODES) return NULL;
    order_oracle *o = calloc(1, sizeof *o);
    if (!o) return NULL;
    o->graph = g;
    o->costs = costs;
    o->alignment = alignment_bytes;
    o->state_limit = 4000000;
    if (!list_rules(o) || !list_tensors(o)) {
        order_oracle_close(o);
        return NULL;
    }
    for (int i = 0; i < o->rule_count; i++) fill_rule(o, &o->rule[i]);
    for (int d = 0; d < o->droppable_count; d++) {
        o->unit = common_divisor(o->unit, o->bytes[d]);
        o->store_all += o->bytes[d];
    }
    for (int b = 0; b < o->bound_count; b++) {
        o->unit = common_divisor(o->unit, o->bound[b].bytes);
        o->store_all += o->bound[b].bytes;
    }
    if (o->unit == 0) o->unit = alignment_bytes;
    return o;
}

void order_oracle_close(order_oracle *o) {
    if (!o) return;
    free(o->found);
    free(o->heap);
    free(o->slot);
    free(o->group);
    free(o);
}

void order_oracle_limit(order_oracle *o, int state_limit) {
    o->state_limit = state_limit;
}

void order_oracle_leave_out_nothing(order_oracle *o) {
    o->plain = true;
}

int order_oracle_states(const order_oracle *o) {
    return o->count;
}

/* --- what a state means ----------------------------------------------------------------------------------- */

/* Tensors of `outputs`, or that a node which is still to run may read. */
static uint64_t find_useful(const order_oracle *o, nodes done, uint64_t *alive) {
    uint64_t useful = o->outputs, running = 0;
    if (o->plain) {
        if (alive) *alive = UINT64_MAX;
        return UINT64_MAX;
    }
    for (int d = 0; d < o->droppable_count; d++)
        if (!within(o->read_by[d], done)) useful |= UINT64_C(1) << d;
    for (int i = o->rule_count - 1; i >= o->again_first; i--) {
        const rule *r = &o->rule[i];
        if (meets(r->bars, done)) continue;
        if (!(r->makes & useful) && (r->bit < 0 || has(done, r->bit))) continue;
        running |= UINT64_C(1) << (i - o->again_first);
        useful |= r->reads;
    }
    if (alive) *alive = running;
    return useful;
}

/* Cost of the nodes that must run again at least once; UINT64_MAX where one cannot. */
static uint64_t find_rest(const order_oracle *o, state s) {
    uint64_t wanted = o->outputs & ~s.held, rest = 0;
    for (int d = 0; d < o->droppable_count; d++)
        if (!(s.held >> d & 1) && !within(o->read_by[d], s.done)) wanted |= UINT64_C(1) << d;
    for (int i = o->rule_count - 1; i >= o->again_first; i--) {
        const rule *r = &o->rule[i];
        if (!(r->makes & wanted) && (r->bit < 0 || has(s.done, r->bit))) continue;
        if (meets(r->bars, s.done)) return UINT64_MAX;
        rest += r->cost;
        wanted |= r->reads & ~s.held;
    }
    for (uint64_t lost = wanted & o->made_once; lost; lost &= lost - 1)
        if (has(s.done, o->maker_bit[__builtin_ctzll(lost)])) return UINT64_MAX;
    return rest;
}

static uint64_t live_bytes(const order_oracle *o, state s) {
    uint64_t bytes = bytes_of(o, s.held);
    for (int b = 0; b < o->bound_count; b++) {
        const bound_tensor *t = &o->bound[b];
        if (has(s.done, t->maker) && (t->output || !within(t->readers, s.done))) bytes += t->bytes;
    }
    return bytes;
}

/* --- the states found so far ------------------------------------------------------------------------------ */

static bool before(entry a, entry b) {
    return a.key != b.key ? a.key < b.key : a.peak < b.peak;
}

static bool grow(void **array, size_t element, int *capacity, int needed) {
    if (needed <= *capacity) return true;
    const int to = *capacity ? 2 * *capacity : 4096;
    void *grown = realloc(*array, element * (size_t)to);
    if (!grown) return false;
    *array = grown;
    *capacity = to;
    return true;
}

static void push(order_oracle *o, entry e) {
    if (!grow((void **)&o->heap, sizeof *o->heap, &o->heap_capacity, o->heap_count + 1)) {
        o->failed = true;
        return;
    }
    int i = o->heap_count++;
    for (; i > 0 && before(e, o->heap[(i - 1) / 2]); i = (i - 1) / 2) o->heap[i] = o->heap[(i - 1) / 2];
    o->heap[i] = e;
}

static entry pop(order_oracle *o) {
    const entry top = o->heap[0], last = o->heap[--o->heap_count];
    int i = 0;
    for (;;) {
        int child = 2 * i + 1;
        if (child >= o->heap_count) break;
        if (child + 1 < o->heap_count && before(o->heap[child + 1], o->heap[child])) child++;
        if (!before(o->heap[child], last)) break;
        o->heap[i] = o->heap[child];
        i = child;
    }
    o->heap[i] = last;
    return top;
}

static uint64_t hash_of(nodes done, uint64_t held) {
    uint64_t h = held * 0x9E3779B97F4A7C15u;
    for (int w = 0; w < WORDS; w++) h = (h ^ (h >> 29) ^ done.word[w]) * 0xBF58476D1CE4E5B9u;
    return h ^ (h >> 32);
}

static bool same_nodes(nodes a, nodes b) {
    return memcmp(&a, &b, sizeof a) == 0;
}

static int *slot_of_state(const order_oracle *o, state s) {
    uint64_t at = hash_of(s.done, s.held) & (uint64_t)(o->slots - 1);
    while (o->slot[at] >= 0 && (o->found[o->slot[at]].at.held != s.held || !same_nodes(o->found[o->slot[at]].at.done, s.done)))
        at = (at + 1) & (uint64_t)(o->slots - 1);
    return &o->slot[at];
}

static int *group_of_nodes(const order_oracle *o, nodes done) {
    uint64_t at = hash_of(done, 0) & (uint64_t)(o->slots - 1);
    while (o->group[at] >= 0 && !same_nodes(o->found[o->group[at]].at.done, done)) at = (at + 1) & (uint64_t)(o->slots - 1);
    return &o->group[at];
}

static void clear_tables(order_oracle *o) {
    for (int i = 0; i < o->slots; i++) o->slot[i] = o->group[i] = -1;
}

static bool make_room(order_oracle *o) {
    if (!grow((void **)&o->found, sizeof *o->found, &o->capacity, o->count + 1)) return false;
    if (2 * o->count < o->slots) return true;
    free(o->slot);
    free(o->group);
    o->slots = o->slots ? 2 * o->slots : 16384;
    o->slot = malloc(sizeof *o->slot * (size_t)o->slots);
    o->group = malloc(sizeof *o->group * (size_t)o->slots);
    if (!o->slot || !o->group) {
        o->slots = 0;
        return false;
    }
    clear_tables(o);
    for (int k = 0; k < o->count; k++) {
        *slot_of_state(o, o->found[k].at) = k;
        *group_of_nodes(o, o->found[k].at.done) = k; /* the newest comes last, and heads the list */
    }
    return true;
}

/* Pruning 4. */
static bool is_dominated(const order_oracle *o, int newest, state s, uint64_t cost) {
    for (int k = newest; k >= 0 && !o->plain; k = o->found[k].alike)
        if (!(s.held & ~o->found[k].at.held) && o->found[k].cost <= cost) return true;
    return false;
}

/* Index of the state, made where it is new; -1: dominated, or no room. */
static int find_state(order_oracle *o, state s, uint64_t cost) {
    if (!make_room(o)) {
        o->failed = true;
        return -1;
    }
    int *slot = slot_of_state(o, s), *group = group_of_nodes(o, s.done);
    if (is_dominated(o, *group, s, cost)) return -1;
    if (*slot >= 0) return *slot;
    if (o->count == o->state_limit) {
        o->failed = true;
        return -1;
    }
    o->found[o->count] = (found_state){
        .at = s, .cost = UINT64_MAX, .peak = UINT64_MAX, .rest = find_rest(o, s), .parent = -1, .alike = *group};
    return *slot = *group = o->count++;
}

static void reach(order_oracle *o, state s, int from, int by, uint64_t cost, uint64_t peak) {
    const int k = find_state(o, s, cost);
    if (k < 0) return;
    found_state *f = &o->found[k];
    if (f->closed || f->rest == UINT64_MAX || f->cost < cost || (f->cost == cost && f->peak <= peak)) return;
    if (o->bytes_only && f->cost != UINT64_MAX) return;
    f->cost = cost;
    f->peak = peak;
    f->parent = from;
    f->by = by;
    const uint64_t key = o->bytes_only ? (uint64_t)(MOST_ONCE - size_of_set(s.done)) : cost + f->rest;
    push(o, (entry){key, o->bytes_only ? f->rest : peak, k});
}

/* --- runs ------------------------------------------------------------------------------------------------- */

typedef struct run {
    order_oracle *o;
    int from, by;
    state after; /* before evictions */
    uint64_t cost, peak, live; /* so far; while the node runs, before evictions */
} run;

static void finish_run(const run *x, uint64_t evicted, uint64_t live) {
    state s = x->after;
    s.held &= ~evicted;
    reach(x->o, s, x->from, x->by, x->cost, live > x->peak ? live : x->peak);
}

/* All minimal sets of `from` that free enough; `from` in descending order of bytes. */
static void evict(const run *x, const int *from, int count, uint64_t evicted, uint64_t live) {
    if (live <= x->o->budget) {
        finish_run(x, evicted, live);
        return;
    }
    uint64_t left = 0;
    for (int i = 0; i < count; i++) left += x->o->bytes[from[i]];
    for (int i = 0; i < count; i++) {
        if (live - x->o->budget > left) return;
        const uint64_t bytes = x->o->bytes[from[i]];
        if (bytes > 0) evict(x, from + i + 1, count - i - 1, evicted | UINT64_C(1) << from[i], live - bytes);
        left -= bytes;
    }
}

static void start_evicting(const run *x, uint64_t candidates) {
    if (x->o->plain) {
        if (x->live <= x->o->budget) finish_run(x, 0, x->live);
        return;
    }
    int from[MOST_DROPPABLE], count = 0;
    for (uint64_t s = candidates; s; s &= s - 1) {
        const int d = __builtin_ctzll(s);
        int i = count++;
        for (; i > 0 && x->o->bytes[from[i - 1]] < x->o->bytes[d]; i--) from[i] = from[i - 1];
        from[i] = d;
    }
    evict(x, from, count, 0, x->live);
}

static bool is_ready(const rule *r, const state *s) {
    if (r->once && has(s->done, r->bit)) return false;
    return !(r->reads & ~s->held) && within(r->needs, s->done) && !meets(r->bars, s->done);
}

/* Bound tensors that die as the node runs; whether output 0 may be written over one of them. */
static uint64_t find_dying(const order_oracle *o, const rule *r, nodes done, bool *over) {
    uint64_t bytes = 0;
    *over = false;
    for (int i = 0; i < r->bound_count; i++) {
        const bound_tensor *t = &o->bound[r->bound[i]];
        if (t->output || !within_but(t->readers, done, r->bit)) continue;
        bytes += t->bytes;
        *over |= r->bound_over[i];
    }
    return bytes;
}

/* The run without evictions. */
static run plan_run(order_oracle *o, int from, int by, bool *over, uint64_t *useful) {
    const found_state *f = &o->found[from];
    const rule *r = &o->rule[by];
    run x = {.o = o, .from = from, .by = by, .after = f->at, .cost = f->cost + (o->bytes_only ? 0 : r->cost), .peak = f->peak};
    if (r->bit >= 0) include(&x.after.done, r->bit);
    *useful = find_useful(o, x.after.done, NULL);
    find_dying(o, r, f->at.done, over);
    if (r->takes_over & ~*useful) *over = true; /* nothing reads that input any more */
    x.live = live_bytes(o, f->at) - bytes_of(o, f->at.held & r->makes) + r->made_bytes - (*over ? r->first_bytes : 0);
    x.after.held = ((f->at.held & ~r->makes) | r->makes) & *useful;
    return x;
}

static void run_node(order_oracle *o, int from, int by) {
    bool over;
    uint64_t useful;
    const rule *r = &o->rule[by];
    run x = plan_run(o, from, by, &over, &useful);
    const uint64_t held = o->found[from].at.held, candidates = held & ~r->reads & ~r->makes;
    const bool fits = x.live <= o->budget;
    start_evicting(&x, candidates);
    if ((fits || over) && !o->plain) return;
    for (uint64_t s = r->takes_over & held; s; s &= s - 1) {
        run y = x;
        y.after.held &= ~(s & -s);
        y.live -= r->first_bytes;
        start_evicting(&y, candidates);
    }
}

/* Pruning 3. */
static bool run_at_once(order_oracle *o, int from, int by, uint64_t alive) {
    const rule *r = &o->rule[by];
    const state s = o->found[from].at;
    bool over;
    uint64_t useful;
    if (find_dying(o, r, s.done, &over) < r->made_bytes) return false;
    for (int i = o->again_first; i < o->rule_count; i++)
        if ((alive >> (i - o->again_first) & 1) && has(o->rule[i].bars, r->bit)) return false;
    const run x = plan_run(o, from, by, &over, &useful);
    if (x.live > o->budget) return false;
    finish_run(&x, 0, x.live);
    return true;
}

/* Without prunings each tensor may go at any time. */
static void drop_each(order_oracle *o, int from) {
    for (int d = 0; d < o->droppable_count; d++) {
        const found_state f = o->found[from];
        if (!(f.at.held >> d & 1)) continue;
        reach(o, (state){f.at.done, f.at.held & ~(UINT64_C(1) << d)}, from, -1, f.cost, f.peak);
    }
}

static void expand(order_oracle *o, int from) {
    const state s = o->found[from].at;
    uint64_t alive;
    find_useful(o, s.done, &alive);
    for (int i = 0; i < o->again_first && !o->plain; i++)
        if (is_ready(&o->rule[i], &s) && run_at_once(o, from, i, alive)) return;
    if (o->plain) drop_each(o, from);
    for (int i = 0; i < o->rule_count; i++) {
        const rule *r = &o->rule[i];
        if (!is_ready(r, &s)) continue;
        if (!r->once) {
            if (!(alive >> (i - o->again_first) & 1)) continue;
            if (!(r->makes & ~s.held) && (r->bit < 0 || has(s.done, r->bit))) continue;
        }
        run_node(o, from, i);
    }
}

/* --- searches ----------------------------------------------------------------------------------------------- */

/* The last state, or -1. */
static int search(order_oracle *o, uint64_t budget, bool bytes_only) {
    o->count = o->heap_count = 0;
    clear_tables(o);
    o->budget = budget;
    o->bytes_only = bytes_only;
    o->failed = false;
    reach(o, (state){0}, -1, -1, 0, 0);
    while (o->heap_count > 0 && !o->failed) {
        const entry top = pop(o);
        found_state *f = &o->found[top.state];
        if (f->closed) continue;
        f->closed = true;
        if (within(o->all, f->at.done) && f->rest == 0 && !(o->outputs & ~f->at.held)) return top.state;
        expand(o, top.state);
    }
    return -1;
}

static bool trace(const order_oracle *o, int last, order_schedule *schedule) {
    int count = 0;
    for (int k = last; o->found[k].parent >= 0; k = o->found[k].parent) count += o->found[k].by >= 0;
    if (count > ORDER_MOST_RUNS) return false;
    schedule->count = count;
    for (int k = last; o->found[k].parent >= 0; k = o->found[k].parent)
        if (o->found[k].by >= 0) schedule->node[--count] = o->rule[o->found[k].by].node;
    return order_oracle_replay(o, schedule->node, schedule->count, &schedule->peak, &schedule->cost);
}

static order_answer answer(order_oracle *o, uint64_t bytes, bool bytes_only, order_schedule *schedule) {
    if (bytes < o->floor) return ORDER_NONE;
    const int last = search(o, bytes, bytes_only);
    if (last < 0) return o->failed ? ORDER_GAVE_UP : ORDER_NONE;
    if (!trace(o, last, schedule) || schedule->peak > bytes) return ORDER_WRONG;
    if (!bytes_only && schedule->cost != o->found[last].cost - o->once_cost) return ORDER_WRONG;
    return ORDER_FOUND;
}

order_answer order_oracle_cost(order_oracle *o, uint64_t bytes, uint64_t *cost, order_schedule *schedule) {
    order_schedule *own = schedule ? schedule : malloc(sizeof *own);
    if (!own) return ORDER_GAVE_UP;
    const order_answer status = answer(o, bytes, false, own);
    if (status == ORDER_FOUND) *cost = own->cost;
    if (!schedule) free(own);
    return status;
}

order_answer order_oracle_least(order_oracle *o, uint64_t *bytes, order_schedule *schedule) {
    order_schedule *best = malloc(2 * sizeof *best), *next = best + 1;
    if (!best) return ORDER_GAVE_UP;
    order_answer status = answer(o, o->store_all, true, best);
    uint64_t low = o->floor; /* no schedule below it */
    while (status == ORDER_FOUND && low < best->peak) {
        const uint64_t middle = low + (best->peak - low) / 2;
        const order_answer there = answer(o, middle, true, next);
        if (there == ORDER_FOUND) *best = *next;
        else if (there == ORDER_NONE) low = middle + 1;
        else status = there;
    }
    if (status == ORDER_FOUND) *bytes = best->peak;
    if (status == ORDER_FOUND && schedule) *schedule = *best;
    free(best);
    return status;
}

static bool add_point(order_frontier *f, const order_schedule *s) {
    if (f->count > 0 && f->point[f->count - 1].cost == s->cost) /* the same in fewer bytes */
        free(f->point[--f->count].node);
    if (!grow((void **)&f->point, sizeof *f->point, &f->capacity, f->count + 1)) return false;
    int *node = malloc(sizeof *node * (size_t)(s->count + 1));
    if (!node) return false;
    memcpy(node, s->node, sizeof *node * (size_t)s->count);
    f->point[f->count++] = (order_point){s->peak, s->cost, s->count, node};
    return true;
}

order_answer order_oracle_frontier(order_oracle *o, order_frontier *f) {
    *f = (order_frontier){0};
    order_schedule *s = malloc(sizeof *s);
    if (!s) return ORDER_GAVE_UP;
    order_answer status = ORDER_FOUND;
    for (uint64_t bytes = o->store_all; status == ORDER_FOUND; bytes = s->peak - 1) {
        status = answer(o, bytes, false, s);
        if (status == ORDER_FOUND && !add_point(f, s)) status = ORDER_GAVE_UP;
        if (status == ORDER_FOUND && s->peak == 0) status = ORDER_NONE;
    }
    free(s);
    for (int i = 0; i < f->count / 2; i++) {
        const order_point p = f->point[i];
        f->point[i] = f->point[f->count - 1 - i];
        f->point[f->count - 1 - i] = p;
    }
    return status == ORDER_NONE && f->count > 0 ? ORDER_FOUND : status;
}

void order_frontier_free(order_frontier *f) {
    for (int i = 0; i < f->count; i++) free(f->point[i].node);
    free(f->point);
    *f = (order_frontier){0};
}

/* --- replay ------------------------------------------------------------------------------------------------- */

/* Where a tensor is read between position i, where it is made or read, and its next making: the last such position. */
static int last_read(const order_oracle *o, const int *node, int count, int t, int i) {
    int last = i;
    for (int k = i + 1; k < count; k++) {
        if (reads(o->graph, node[k], t)) last = k;
        if (writes(o->graph, node[k], t)) return last;
    }
    return is_output(o->graph, t) ? count : last;
}

static bool replay_versions(const order_oracle *o, const int *node, int count, uint64_t *cost) {
    const ckpt_graph *g = o->graph;
    int runs[MOST_NODES] = {0};
    *cost = 0;
    for (int k = 0; k < count; k++) {
        const int n = node[k];
        if (runs[n]++ > 0) {
            if (runs_once(g, n)) return false;
            *cost += o->costs->node[n];
        }
        for (int m = 0; m < g->node_count; m++) {
            if (keeps_order(g, m, n) && runs[m] == 0) return false;
            if (keeps_order(g, n, m) && runs[m] > 0) return false;
        }
        for (int i = 0; i < g->node[n].in_count; i++)
            if (is_step(g, g->node[n].in[i]) && runs[g->tensor[g->node[n].in[i]].producer] == 0) return false;
    }
    for (int n = 0; n < g->node_count; n++)
        if (runs[n] == 0) return false;
    return true;
}

bool order_oracle_replay(const order_oracle *o, const int *node, int count, uint64_t *peak, uint64_t *cost) {
    const ckpt_graph *g = o->graph;
    uint64_t ends[ORDER_MOST_RUNS + 1] = {0}, live = 0;
    if (count > ORDER_MOST_RUNS || !replay_versions(o, node, count, cost)) return false;
    *peak = 0;
    for (int k = 0; k < count; k++) {
        const ckpt_node *x = &g->node[node[k]];
        bool over = false;
        for (int i = 0; i < x->in_count; i++) {
            const int t = x->in[i];
            over |= is_step(g, t) && may_write_over(g, node[k], t) && last_read(o, node, count, t, k) == k;
        }
        for (int i = 0; i < x->out_count; i++) {
            if (!is_step(g, x->out[i])) continue;
            live += step_bytes(o, x->out[i]);
            ends[last_read(o, node, count, x->out[i], k)] += step_bytes(o, x->out[i]);
        }
        const uint64_t now = live - (over ? step_bytes(o, x->out[0]) : 0);
        if (now > *peak) *peak = now;
        live -= ends[k];
    }
    return true;
}
