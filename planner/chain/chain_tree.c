#include "planner/chain/chain_tree.h"

#include <math.h>
#include <string.h>

#include "planner/chain/chain_corner.h"

/* Stages, with early parts fewer: time grows with the fourth power. */
enum { MOST_STAGES = 128, MOST_EARLY_STAGES = 40, WAYS = 8 * MOST_STAGES + 8 };

/* Beside its corners. */
enum { WORK_A_WAY = 4 };

/* There are millions of ways, and structs that go to another function by way of memory make it wait. */
#define INLINE inline __attribute__((always_inline))

/* Bytes of a way that is only good for a bound: more than any budget. */
#define NO_PROGRAM (UINT64_MAX / 4)

/* What there is of stage q when phase q begins: nothing (the first phase), the gradient, the output too, or what is left
 * behind the early part of its backward; EITHER: the output or not, whichever is cheaper. In the order in which they are
 * filled. */
typedef enum row { EARLY, WITH_OUTPUT, BARE, EITHER, FIRST, ROWS } row;

/* T(i, q, k) of a row; dies: x_{k-1} may die in the backward of k. */
typedef struct state {
    row row;
    bool dies;
    int i, q, k;
} state;

/* The functions of phase q: one for each of its rows, two where the input may die. */
typedef struct rows {
    int count, of[ROWS]; /* rows it has; [row]: where its functions begin */
} rows;

/* What follows in a way: a state, after runs on the way to it whose inputs die. */
typedef struct part {
    state state;
    int from;      /* runs of stages from + 1..state.i */
    int64_t shift; /* bytes less than the way has */
    const ckpt_corner_fn *fn; /* of the state; NULL: there is none */
} part;

/* One way to go on from a state: the act, then `right`, then `left`. */
typedef struct way {
    enum { NOTHING, RUN, RUN_THROUGH, DO_EARLY, BACKWARD } act;
    bool rerun, has_output; /* BACKWARD: after another run of the stage; DO_EARLY, BACKWARD: x_q is there */
    uint64_t cost, least;
    uint64_t needed; /* what the act takes, which for a bound may be more than least */
    part right, left;
} way;

/* Of i, q and k. */
typedef struct place {
    int to; /* i: it has functions of its own; more: there is nothing to do but to run on until x_to, whose functions stand for it;
               -1: no schedule of interest comes here */
    union {
        ckpt_corner_fn *fn; /* as in rows */
        uint64_t *least;    /* [row]: what the runs take, x_i counted */
    } of;
} place;

typedef struct tree {
    ckpt_pool pool;
    const ckpt_chain *chain;
    ckpt_chain_prices *prices;
    int count;
    uint64_t budget;
    bool for_bound;
    bool turns;         /* some stage has an early part, and it is for a bound */
    bool *gains;        /* [k]: the backward of k takes less when x_{k-1} may die */
    uint64_t *earlier[2]; /* [dies][i, q]: what a run of i + 1 for phase q takes at least, beyond x_i, in an earlier phase */
    size_t *first;      /* [i][q]: where places begin */
    rows *rows;         /* [q] */
    uint64_t *before;   /* [i]: cost of stages 1..i */
    place *place;       /* by at_state */
    int wanted[MOST_STAGES]; /* of one i, q and k: until which phases x_i is held, or q where it is given up */
    int wanted_count;
    ckpt_corner_room room;
    way *way;           /* of one state */
} tree;

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t less(uint64_t bytes, uint64_t by) {
    return bytes > by ? bytes - by : 0;
}

bool ckpt_chain_tree_fits(const ckpt_chain *chain) {
    bool early = false;
    for (int k = 1; k <= chain->stage_count; k++) {
        if (chain->stage[k].option_count > 1) return false;
        early |= chain->stage[k].early;
    }
    return chain->stage_count <= (early ? MOST_EARLY_STAGES : MOST_STAGES);
}

static uint64_t out_bytes(const tree *t, int i) {
    return i ? t->chain->stage[i].out_bytes : 0;
}

static size_t at_pair(const tree *t, int i, int q) {
    return (size_t)i * (size_t)(t->count + 1) + (size_t)q;
}

static size_t at_state(const tree *t, int i, int q, int k) {
    return t->first[at_pair(t, i, q)] + (size_t)(k - i - 1);
}

static ckpt_corner_fn *find_fn(const tree *t, const state *s) {
    const rows *r = &t->rows[s->q];
    const int dies = s->dies && t->gains[s->k];
    return &t->place[at_state(t, s->i, s->q, s->k)].of.fn[r->of[s->row] + dies];
}

/* The loss's gradient is there at once where it takes nothing: nothing is gained by running through to it. */
static bool loss_is_light(const tree *t) {
    const ckpt_chain_stage *last = &t->chain->stage[t->count];
    return last->out_bytes == 0 && last->gradient_bytes == 0;
}

static bool has_row(const tree *t, row of, int q) {
    const ckpt_chain_stage *stage = &t->chain->stage[q];
    if (of == FIRST) return q == t->count;
    if (q == t->count && loss_is_light(t)) return false;
    if (of == EITHER) return q < t->count && stage->needs_output && !stage->early && !t->gains[q + 1];
    return of == BARE || (of == WITH_OUTPUT ? stage->needs_output : stage->early);
}

/* What is there of stage q all the while. */
static uint64_t resident(const tree *t, row of, int q) {
    const ckpt_chain_stage *stage = &t->chain->stage[q];
    if (of == FIRST) return 0;
    if (of == WITH_OUTPUT) return stage->gradient_bytes + stage->out_bytes;
    return stage->gradient_bytes + (of == EARLY ? stage->option[stage->option_count].kept_bytes : 0);
}

/* In an earlier phase p its output is held over the backwards down to that of q + 1, each with its own input; only the gradient
 * of p is there for certain. */
static void find_earlier(tree *t, bool dies) {
    for (int i = 0; i < t->count; i++)
        for (int q = i + 1; q <= t->count; q++) {
            const uint64_t run = t->chain->stage[i + 1].option[0].forward_bytes[dies];
            uint64_t least = UINT64_MAX, held = 0;
            for (int p = q + 1; p <= t->count && held < least; p++) {
                const uint64_t gradient = p < t->count ? t->chain->stage[p].gradient_bytes : 0;
                held = larger(held, out_bytes(t, i + 1) + out_bytes(t, p - 1) + ckpt_chain_least_backward(&t->chain->stage[p]));
                least = smaller(least, larger(held, gradient + run));
            }
            t->earlier[dies][at_pair(t, i, q)] = less(least, dies ? out_bytes(t, i) : 0);
        }
}

static way *add_way(tree *t, int *count, int act, uint64_t cost, uint64_t least) {
    way *w = &t->way[(*count)++];
    w->act = act;
    w->rerun = w->has_output = false;
    w->cost = cost;
    w->least = w->needed = least;
    w->right.fn = w->left.fn = NULL;
    w->right.shift = w->left.shift = 0;
    return w;
}

static void set_part(const tree *t, part *p, const state *s) {
    *p = (part){.state = *s, .from = s->i, .fn = find_fn(t, s)};
}

/* What a run of stage i + 1 for phase q takes beyond x_i. */
static uint64_t run_bytes(const tree *t, row of, int i, int q, bool dies) {
    const uint64_t bytes = resident(t, of, q) + t->chain->stage[i + 1].option[0].forward_bytes[dies];
    return dies ? less(bytes, out_bytes(t, i)) : bytes;
}

/* For a bound: in whatever phase it is. */
static uint64_t least_run_bytes(const tree *t, row of, int i, int q, bool dies) {
    const uint64_t bytes = run_bytes(t, of, i, q, dies);
    return t->for_bound ? smaller(bytes, t->earlier[dies][at_pair(t, i, q)]) : bytes;
}

/* Goes on with `to`, with `shift` bytes less. `turns`: the early part is done on the way to it, whatever that takes. */
static INLINE void go_on(const tree *t, way *w, part *next, state to, int64_t shift, bool turns) {
    const place *at = &t->place[at_state(t, to.i, to.q, to.k)];
    const int over = at->to;
    if (turns) {
        to.row = EARLY;
        w->needed = NO_PROGRAM;
    }
    *next = (part){.state = to, .from = to.i, .shift = shift};
    if (over > to.i) {
        const int64_t least = (int64_t)at->of.least[to.row] - (int64_t)out_bytes(t, to.i) + shift;
        if (least > 0) w->least = larger(w->least, (uint64_t)least);
        w->cost += t->before[over] - t->before[to.i];
        next->shift += (int64_t)out_bytes(t, over) - (int64_t)out_bytes(t, to.i);
        next->state.i = over;
    }
    next->fn = find_fn(t, &next->state);
    __builtin_prefetch(next->fn);
}

/* Where runs to a state are taken together, its early part could be done after some of them. For programs they are not. */
static inline bool may_turn(const tree *t, const state *to) {
    if (!t->for_bound || to->row == EARLY || to->row == FIRST || !has_row(t, EARLY, to->q)) return false;
    return t->place[at_state(t, to->i, to->q, to->k)].to > to->i;
}

/* A run of stage i + 1, and then `right` and, unless x_i is given up, `left`. */
static INLINE void add_runs(tree *t, const state *s, const state *right, const state *left, int *count) {
    const bool dies = !left && s->i > 0;
    const int64_t shift = (int64_t)out_bytes(t, s->i + 1) - (int64_t)(dies ? out_bytes(t, s->i) : 0);
    for (int turns = 0; turns < (t->turns ? 4 : 1); turns++) {
        if (((turns & 1) && !may_turn(t, right)) || ((turns & 2) && !(left && may_turn(t, left)))) continue;
        way *w = add_way(t, count, RUN, t->chain->stage[s->i + 1].forward_cost, least_run_bytes(t, s->row, s->i, s->q, dies));
        w->needed = run_bytes(t, s->row, s->i, s->q, dies);
        go_on(t, w, &w->right, *right, shift, turns & 1);
        if (left) go_on(t, w, &w->left, *left, 0, turns & 2);
    }
}

/* The backward of q, x_{q-1} being there. */
static void add_backwards(tree *t, const state *s, int *count) {
    const ckpt_chain_stage *stage = &t->chain->stage[s->q];
    const ckpt_chain_option *option = &stage->option[s->row == EARLY ? stage->option_count : 0];
    const bool dies = s->dies && t->gains[s->k], there = s->row == WITH_OUTPUT;
    if (s->row != FIRST && option->recompute_cost[there] != CKPT_CHAIN_NEVER)
        add_way(t, count, BACKWARD, option->recompute_cost[there], option->backward_bytes[there][dies])->has_output = there;
    const bool again = s->row == FIRST || (s->row == BARE && stage->needs_output);
    if (!again || option->recompute_cost[stage->needs_output] == CKPT_CHAIN_NEVER) return;
    uint64_t run = resident(t, s->row, s->q) + option->forward_bytes[0];
    if (s->row == FIRST) run = larger(run, stage->out_bytes + stage->gradient_bytes);
    const uint64_t backward = option->backward_bytes[stage->needs_output][dies];
    way *w = add_way(t, count, BACKWARD, stage->forward_cost + option->recompute_cost[stage->needs_output], larger(run, backward));
    if (t->for_bound) w->least = backward;
    w->rerun = true;
    w->has_output = stage->needs_output;
}

/* Ways on without another stage: x_q is made first, or the early part is done. */
static void add_turns(tree *t, const state *s, int *count) {
    const ckpt_chain_stage *last = &t->chain->stage[s->q];
    for (row to = EARLY; to < s->row; to++) {
        if (to == EITHER || !has_row(t, to, s->q)) continue;
        const bool early = to == EARLY;
        if (early ? s->row == FIRST || last->option[0].early_bytes[s->row == WITH_OUTPUT] == CKPT_CHAIN_NEVER
                  : s->row == WITH_OUTPUT || (to == BARE && s->row != FIRST))
            continue;
        uint64_t cost = 0, least = early ? last->option[0].early_bytes[s->row == WITH_OUTPUT] : 0;
        for (int k = s->i + 1; k <= s->q && !early; k++) {
            cost += t->chain->stage[k].forward_cost;
            least = larger(least, resident(t, s->row, s->q) + t->chain->stage[k].option[0].forward_bytes[k > s->i + 1]);
        }
        if (s->row == FIRST) least = larger(least, last->out_bytes + last->gradient_bytes);
        way *w = add_way(t, count, early ? DO_EARLY : RUN_THROUGH, cost, least);
        if (t->for_bound && !early) w->least = 0;
        w->has_output = s->row == WITH_OUTPUT;
        set_part(t, &w->right, &(state){to, s->dies, s->i, s->q, s->k});
    }
}

/* x_i is held while x_{i+1} does the backwards behind r; the output of r may be left from its backward r + 1. */
static void add_held(tree *t, const state *s, int r, int *count) {
    if (has_row(t, EITHER, r) && t->place[at_state(t, s->i, r, s->k)].to == s->i) {
        const state right = {s->row, false, s->i + 1, s->q, r + 1}, left = {EITHER, s->dies, s->i, r, s->k};
        add_runs(t, s, &right, &left, count);
        return;
    }
    for (int with = 0; with <= t->chain->stage[r].needs_output; with++) {
        const state right = {s->row, !with, s->i + 1, s->q, r + 1};
        const state left = {with ? WITH_OUTPUT : BARE, s->dies, s->i, r, s->k};
        add_runs(t, s, &right, &left, count);
    }
}

static bool leads_somewhere(const tree *t, int i, int q, int k) {
    return t->place[at_state(t, i, q, k)].to >= 0;
}

static void list_wanted(tree *t, int i, int q, int k) {
    int count = 0, kept = 0;
    if (t->prices && i < q - 1) count = ckpt_chain_prices_list(t->prices, i, q, k, t->wanted);
    for (int r = q; r >= k && r > i && i < q - 1 && !t->prices; r--)
        if (r < q || k > i + 1) t->wanted[count++] = r;
    for (int j = 0; j < count; j++) {
        const int r = t->wanted[j];
        if (leads_somewhere(t, i + 1, q, r < q ? r + 1 : k) && (r == q || leads_somewhere(t, i, r, k))) t->wanted[kept++] = r;
    }
    t->wanted_count = kept;
}

static int list_ways(tree *t, const state *s) {
    int count = 0;
    for (row to = WITH_OUTPUT; s->row == EITHER && to <= BARE; to++)
        set_part(t, &add_way(t, &count, NOTHING, 0, 0)->left, &(state){to, s->dies, s->i, s->q, s->k});
    if (s->row == EITHER) return count;
    add_turns(t, s, &count);
    if (s->i == s->q - 1) add_backwards(t, s, &count);
    for (int j = 0; j < t->wanted_count; j++) {
        const int r = t->wanted[j];
        if (r < s->q) add_held(t, s, r, &count);
        else add_runs(t, s, &(state){s->row, s->dies, s->i + 1, s->q, s->k}, NULL, &count);
    }
    return count;
}

static bool spend(tree *t, int work) {
    t->room.out_of_work |= t->room.work < (uint64_t)work;
    if (!t->room.out_of_work) t->room.work -= (uint64_t)work;
    return !t->room.out_of_work;
}

static bool fill(tree *t, const state *s, ckpt_corner_limit limit) {
    const int count = list_ways(t, s);
    if (!spend(t, WORK_A_WAY * count)) return false;
    ckpt_corner_start(&t->room, less(t->budget, out_bytes(t, s->i)), limit);
    for (int j = 0; j < count; j++) {
        const way *w = &t->way[j];
        const ckpt_corner_term term = {.cost = w->cost,
                                       .least = w->least,
                                       .right_shift = w->right.shift,
                                       .left_shift = w->left.shift,
                                       .right = w->right.fn,
                                       .left = w->left.fn};
        if (!ckpt_corner_lower(&t->room, &term)) return false;
    }
    return ckpt_corner_keep(&t->room, find_fn(t, s));
}

/* Where x_i is given up whatever comes, it is on the way to the next x that is not. */
static bool set_hop(tree *t, int i, int q, int k) {
    place *here = &t->place[at_state(t, i, q, k)], *next = &t->place[at_state(t, i + 1, q, k)];
    here->to = next->to;
    here->of.least = ckpt_pool_array(&t->pool, ROWS, uint64_t);
    t->room.out_of_memory |= !here->of.least;
    for (row of = EARLY; of < ROWS && here->of.least; of++) {
        here->of.least[of] = least_run_bytes(t, of, i, q, i > 0) + out_bytes(t, i);
        if (next->to > i + 1) here->of.least[of] = larger(here->of.least[of], next->of.least[of]);
    }
    return here->of.least;
}

/* What has been found of a part is more than what prices say of it. */
static void raise_prices(tree *t, int i, int q, int k, const ckpt_corner_limit *limit) {
    place *here = &t->place[at_state(t, i, q, k)];
    double least = HUGE_VAL;
    for (int f = 0; f < t->rows[q].count; f++) {
        const ckpt_corner_fn *fn = &here->of.fn[f];
        for (int c = 0; c < fn->count; c++)
            least = fmin(least, (double)fn->corner[c].cost + limit->a_byte * (double)fn->corner[c].bytes);
    }
    if (least < HUGE_VAL) ckpt_chain_prices_raise(t->prices, i, q, k, least);
    else here->to = -1;
}

/* All functions of i, q and k. */
static bool fill_rows(tree *t, int i, int q, int k) {
    place *here = &t->place[at_state(t, i, q, k)];
    const ckpt_corner_limit limit = t->prices ? ckpt_chain_prices_part(t->prices, i, q, k) : CKPT_CORNER_NO_LIMIT;
    here->to = -1;
    if (limit.most_cost == 0 || out_bytes(t, i) > t->budget) return true;
    list_wanted(t, i, q, k);
    if (!spend(t, q - k)) return false;
    if (t->wanted_count == 0 && i < q - 1) return true;
    here->to = i;
    if (t->wanted_count == 1 && t->wanted[0] == q && (t->for_bound || !has_row(t, EARLY, q))) {
        if (t->prices) ckpt_chain_prices_raise_run(t->prices, i, q, k);
        return set_hop(t, i, q, k);
    }
    here->of.fn = ckpt_pool_array(&t->pool, t->rows[q].count, ckpt_corner_fn);
    t->room.out_of_memory |= !here->of.fn;
    if (!here->of.fn) return false;
    for (row of = EARLY; of < ROWS; of++)
        for (int dies = 0; dies <= t->gains[k] && has_row(t, of, q); dies++)
            if (!fill(t, &(state){of, dies, i, q, k}, limit)) return false;
    if (t->prices) raise_prices(t, i, q, k, &limit);
    return true;
}

/* By the last backward, so that what comes after is there; from the right, so that what is run to is. */
static bool fill_all(tree *t) {
    for (int q = 1; q <= t->count; q++)
        for (int i = q - 1; i >= 0; i--)
            for (int k = i + 1; k <= q; k++)
                if (!fill_rows(t, i, q, k)) return false;
    return true;
}

static void find_rows(tree *t) {
    bool any = false;
    for (int k = 1; k <= t->count; k++) {
        for (int o = 0; o < ckpt_chain_options(&t->chain->stage[k]); o++)
            for (int there = 0; there < 2; there++) {
                const uint64_t *bytes = t->chain->stage[k].option[o].backward_bytes[there];
                t->gains[k] |= bytes[0] != bytes[1];
            }
        any |= t->gains[k];
        t->turns |= t->for_bound && t->chain->stage[k].early;
    }
    for (int q = 1; q <= t->count; q++)
        for (row of = EARLY; of < ROWS; of++) {
            t->rows[q].of[of] = t->rows[q].count;
            if (has_row(t, of, q)) t->rows[q].count += any ? 2 : 1;
        }
}

static bool open_tree(tree *t) {
    const size_t side = (size_t)t->count + 1;
    t->room.pool = &t->pool;
    t->gains = ckpt_pool_array(&t->pool, side, bool);
    t->rows = ckpt_pool_array(&t->pool, side, rows);
    t->first = ckpt_pool_array(&t->pool, side * side, size_t);
    t->before = ckpt_pool_array(&t->pool, side, uint64_t);
    t->way = ckpt_pool_array(&t->pool, WAYS, way);
    if (!t->gains || !t->rows || !t->first || !t->before || !t->way) return false;
    for (int k = 1; k <= t->count; k++) t->before[k] = t->before[k - 1] + t->chain->stage[k].forward_cost;
    for (int dies = 0; dies < 2 && t->for_bound; dies++) {
        t->earlier[dies] = ckpt_pool_array(&t->pool, side * side, uint64_t);
        if (!t->earlier[dies]) return false;
        find_earlier(t, dies);
    }
    find_rows(t);
    size_t places = 0;
    for (int i = 0; i < t->count; i++)
        for (int q = i + 1; q <= t->count; q++) {
            t->first[at_pair(t, i, q)] = places;
            places += (size_t)(q - i);
        }
    t->place = ckpt_pool_array(&t->pool, places, place);
    return t->place;
}

typedef struct trace {
    tree *tree;
    ckpt_pool *pool;
    ckpt_chain_program *program;
} trace;

static uint64_t cost_of(const part *p, uint64_t bytes) {
    if (!p->fn) return 0;
    return (int64_t)bytes < p->shift ? CKPT_CORNER_NEVER
                                     : ckpt_corner_cost(p->fn, (uint64_t)((int64_t)bytes - p->shift));
}

/* The first of the cheapest ways. One fits. */
static way choose(tree *t, const state *s, uint64_t bytes) {
    list_wanted(t, s->i, s->q, s->k);
    const int count = list_ways(t, s);
    uint64_t best_cost = CKPT_CORNER_NEVER;
    int best = 0;
    for (int j = 0; j < count; j++) {
        const way *w = &t->way[j];
        const uint64_t right = cost_of(&w->right, bytes), left = cost_of(&w->left, bytes);
        if (w->least > bytes || right == CKPT_CORNER_NEVER || left == CKPT_CORNER_NEVER || w->cost + right + left >= best_cost)
            continue;
        best_cost = w->cost + right + left;
        best = j;
    }
    return t->way[best];
}

static bool add_steps(trace *tr, const state *s, const way *w) {
    const ckpt_chain_stage *last = &tr->tree->chain->stage[s->q];
    if (w->act == RUN) return ckpt_chain_program_add(tr->pool, tr->program, CKPT_CHAIN_FORWARD, s->i + 1, 0, false);
    if (w->act == DO_EARLY) return ckpt_chain_program_add(tr->pool, tr->program, CKPT_CHAIN_EARLY, s->q, 0, w->has_output);
    if (w->act == NOTHING) return true;
    for (int k = s->i + 1; k <= s->q && w->act == RUN_THROUGH; k++)
        if (!ckpt_chain_program_add(tr->pool, tr->program, CKPT_CHAIN_FORWARD, k, 0, false)) return false;
    if (w->act == RUN_THROUGH) return true;
    return (!w->rerun || ckpt_chain_program_add(tr->pool, tr->program, CKPT_CHAIN_FORWARD, s->q, 0, false)) &&
           ckpt_chain_program_add(tr->pool, tr->program, CKPT_CHAIN_BACKWARD, s->q, s->row == EARLY ? last->option_count : 0, w->has_output);
}

/* Runs to a part's state: what they need beyond the base of the way, where the state has all but p->shift. False: no memory. */
static bool run_to(trace *tr, const part *p, uint64_t *needed) {
    const tree *t = tr->tree;
    const int64_t beyond = (int64_t)out_bytes(t, p->state.i) - p->shift; /* of the way's base */
    for (int i = p->from; i < p->state.i; i++) {
        const int64_t bytes = (int64_t)(run_bytes(t, p->state.row, i, p->state.q, i > 0) + out_bytes(t, i)) - beyond;
        if (bytes > 0) *needed = larger(*needed, (uint64_t)bytes);
        if (!ckpt_chain_program_add(tr->pool, tr->program, CKPT_CHAIN_FORWARD, i + 1, 0, false)) return false;
    }
    return true;
}

/* Returns the bytes needed beyond x_i; UINT64_MAX when memory ran out. */
static uint64_t follow(trace *tr, state s, uint64_t bytes) {
    uint64_t needed = 0;
    int64_t shift = 0; /* of s beside the state that was asked for */
    for (;;) { /* along `left`, which is as long as the chain */
        const way w = choose(tr->tree, &s, bytes);
        const part *parts[2] = {&w.right, &w.left};
        uint64_t most = w.needed;
        tr->program->cost += w.cost;
        if (!add_steps(tr, &s, &w)) return UINT64_MAX;
        for (int p = 0; p < 2 && parts[p]->fn; p++) {
            if (!run_to(tr, parts[p], &most)) return UINT64_MAX;
            if (p == 1) break;
            const uint64_t right = follow(tr, w.right.state, (uint64_t)((int64_t)bytes - w.right.shift));
            if (right == UINT64_MAX) return right;
            if ((int64_t)right + w.right.shift > 0) most = larger(most, (uint64_t)((int64_t)right + w.right.shift));
        }
        if ((int64_t)most + shift > 0) needed = larger(needed, (uint64_t)((int64_t)most + shift));
        if (!w.left.fn) return needed;
        s = w.left.state;
        bytes = (uint64_t)((int64_t)bytes - w.left.shift);
        shift += w.left.shift;
    }
}

ckpt_status ckpt_chain_tree_within(ckpt_chain_tree_search *s, uint64_t limit, double share, ckpt_chain_program *program,
                                   uint64_t *least, ckpt_error *err) {
    const state all = {FIRST, false, 0, s->chain->stage_count, 1};
    tree t = {.chain = s->chain, .prices = s->prices, .count = all.q, .budget = s->budget_bytes, .for_bound = s->for_bound};
    if (s->prices) CKPT_TRY(ckpt_chain_prices_limit(s->prices, limit, share, err));
    t.room.work = s->work;
    bool ok = open_tree(&t);
    if (ok && fill_all(&t)) {
        const bool any = leads_somewhere(&t, 0, t.count, 1);
        const uint64_t cost = any ? ckpt_corner_cost(find_fn(&t, &all), s->budget_bytes) : CKPT_CORNER_NEVER;
        *least = smaller(cost, limit);
        if (cost < limit && s->pool) {
            trace tr = {&t, s->pool, program};
            *program = (ckpt_chain_program){0};
            program->needed_bytes = follow(&tr, all, s->budget_bytes);
            ok = program->needed_bytes != UINT64_MAX;
        }
    } else {
        *least = CKPT_CHAIN_NEVER;
    }
    s->work = t.room.work;
    ok &= !t.room.out_of_memory;
    ckpt_pool_free(&t.pool);
    return ok ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of memory for a program of %d stages", t.count);
}
