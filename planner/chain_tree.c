#include "planner/chain_tree.h"

#include <string.h>

#include "planner/chain_corner.h"

enum { MOST_STAGES = 100, WAYS = 2 * MOST_STAGES + 8 };

/* Limits of costs: this part above the bound by prices, then so many times as far, until so many times the bound. */
enum { FIRST_PART = 40, FARTHER = 2, FARTHEST = 4 };

/* What there is of stage q when phase q begins: nothing (the first phase), the gradient, the output too, or what is left
 * behind the early part of its backward. In the order in which they are filled. */
typedef enum row { EARLY, WITH_OUTPUT, BARE, FIRST, ROWS } row;

/* T(i, q, k) of a row; dies: x_{k-1} may die in the backward of k. */
typedef struct state {
    row row;
    bool dies;
    int i, q, k;
} state;

/* One way to go on from a state: the act, then `right` with `shift` bytes less, then `left` with all. */
typedef struct way {
    enum { RUN, RUN_THROUGH, DO_EARLY, BACKWARD } act;
    bool rerun, has_output; /* BACKWARD: after another run of the stage; DO_EARLY, BACKWARD: x_q is there */
    uint64_t cost, least;
    uint64_t needed; /* what least is unless for a bound */
    int64_t shift;
    bool has_right, has_left;
    state right, left;
} way;

typedef struct tree {
    ckpt_pool pool;
    const ckpt_chain *chain;
    const ckpt_chain_prices *prices;
    int count;
    uint64_t budget;
    bool for_bound;
    bool *gains;        /* [k]: the backward of k takes less when x_{k-1} may die */
    uint64_t *earlier[2]; /* [dies][i, q]: what a run of i + 1 for phase q takes at least, beyond x_i, in an earlier phase */
    size_t *first;      /* [i][q]: where functions begin */
    ckpt_corner_fn *fn; /* by find_fn */
    ckpt_corner_room room;
    way way[WAYS];
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
    for (int k = 1; k <= chain->stage_count; k++)
        if (chain->stage[k].option_count > 1) return false;
    return chain->stage_count <= MOST_STAGES;
}

static uint64_t out_bytes(const tree *t, int i) {
    return i ? t->chain->stage[i].out_bytes : 0;
}

static size_t at_pair(const tree *t, int i, int q) {
    return (size_t)i * (size_t)(t->count + 1) + (size_t)q;
}

static ckpt_corner_fn *find_fn(const tree *t, const state *s) {
    const bool dies = s->dies && t->gains[s->k];
    return &t->fn[(t->first[at_pair(t, s->i, s->q)] + (size_t)(s->k - s->i - 1)) * 2 * ROWS + (size_t)(2 * (int)s->row + dies)];
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
    *w = (way){.act = act, .cost = cost, .least = least, .needed = least};
    return w;
}

/* A run of stage i + 1 for phase q. */
static way *add_run(tree *t, const state *s, bool dies, int *count) {
    const ckpt_chain_stage *next = &t->chain->stage[s->i + 1];
    const uint64_t bytes = resident(t, s->row, s->q) + next->option[0].forward_bytes[dies];
    way *w = add_way(t, count, RUN, next->forward_cost, dies ? less(bytes, out_bytes(t, s->i)) : bytes);
    if (t->for_bound) w->least = smaller(w->least, t->earlier[dies][at_pair(t, s->i, s->q)]);
    w->shift = (int64_t)next->out_bytes - (int64_t)(dies ? out_bytes(t, s->i) : 0);
    w->has_right = true;
    return w;
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
        if (!has_row(t, to, s->q)) continue;
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
        w->has_right = true;
        w->right = *s;
        w->right.row = to;
    }
}

/* x_i is held while x_{i+1} does the backwards behind r; the output of r may be left from its backward r + 1. */
static void add_held(tree *t, const state *s, int r, int *count) {
    for (int with = 0; with <= t->chain->stage[r].needs_output; with++) {
        way *w = add_run(t, s, false, count);
        w->right = (state){s->row, !with, s->i + 1, s->q, r + 1};
        w->has_left = true;
        w->left = (state){with ? WITH_OUTPUT : BARE, s->dies, s->i, r, s->k};
    }
}

static bool is_wanted(const tree *t, const state *s, int r) {
    return !t->prices || ckpt_chain_prices_wants(t->prices, s->i, s->q, s->k, r);
}

static int list_ways(tree *t, const state *s) {
    int count = 0;
    add_turns(t, s, &count);
    if (s->i == s->q - 1) {
        add_backwards(t, s, &count);
        return count;
    }
    if (s->k > s->i + 1 && is_wanted(t, s, s->q)) /* x_i is given up */
        add_run(t, s, s->i > 0, &count)->right = (state){s->row, s->dies, s->i + 1, s->q, s->k};
    for (int r = s->q - 1; r >= s->k; r--)
        if (is_wanted(t, s, r)) add_held(t, s, r, &count);
    return count;
}

static bool fill(tree *t, const state *s) {
    const uint64_t cap = less(t->budget, out_bytes(t, s->i));
    const uint64_t most = t->prices ? ckpt_chain_prices_most_cost(t->prices, s->i, s->q, s->k) : CKPT_CORNER_NEVER;
    if (most == 0) return true;
    const int count = list_ways(t, s);
    ckpt_corner_start(&t->room, cap, most);
    for (int j = 0; j < count; j++) {
        const way *w = &t->way[j];
        const ckpt_corner_term term = {.cost = w->cost,
                                       .least = w->least,
                                       .shift = w->shift,
                                       .right = w->has_right ? find_fn(t, &w->right) : NULL,
                                       .left = w->has_left ? find_fn(t, &w->left) : NULL};
        if (!ckpt_corner_lower(&t->room, &term)) return false;
    }
    return ckpt_corner_keep(&t->room, find_fn(t, s));
}

/* By the last backward, so that what comes after is there; from the right, so that what is run to is. */
static bool fill_all(tree *t) {
    for (int q = 1; q <= t->count; q++)
        for (row of = EARLY; of < ROWS; of++)
            for (int i = q - 1; i >= 0 && has_row(t, of, q); i--)
                for (int k = i + 1; k <= q; k++)
                    for (int dies = 0; dies <= t->gains[k]; dies++)
                        if (!fill(t, &(state){of, dies, i, q, k})) return false;
    return true;
}

static bool open_tree(tree *t) {
    const size_t side = (size_t)t->count + 1;
    t->room.pool = &t->pool;
    t->gains = ckpt_pool_array(&t->pool, side, bool);
    t->first = ckpt_pool_array(&t->pool, side * side, size_t);
    if (!t->gains || !t->first) return false;
    for (int dies = 0; dies < 2 && t->for_bound; dies++) {
        t->earlier[dies] = ckpt_pool_array(&t->pool, side * side, uint64_t);
        if (!t->earlier[dies]) return false;
        find_earlier(t, dies);
    }
    size_t functions = 0;
    for (int i = 0; i < t->count; i++)
        for (int q = i + 1; q <= t->count; q++) {
            t->first[at_pair(t, i, q)] = functions;
            functions += (size_t)(q - i);
        }
    t->fn = ckpt_pool_array(&t->pool, functions * 2 * ROWS, ckpt_corner_fn);
    for (int k = 1; k <= t->count; k++)
        for (int o = 0; o < ckpt_chain_options(&t->chain->stage[k]); o++)
            for (int there = 0; there < 2; there++) {
                const uint64_t *bytes = t->chain->stage[k].option[o].backward_bytes[there];
                t->gains[k] |= bytes[0] != bytes[1];
            }
    return t->fn != NULL;
}

typedef struct trace {
    tree *tree;
    ckpt_pool *pool;
    ckpt_chain_program *program;
} trace;

static bool add_step(trace *tr, ckpt_chain_act act, int stage, int option, bool has_output) {
    ckpt_chain_program *program = tr->program;
    if (program->count == program->capacity) {
        const int capacity = program->capacity ? 2 * program->capacity : 64;
        ckpt_chain_step *step =
            ckpt_pool_grow(tr->pool, program->step, (size_t)program->count, (size_t)capacity, sizeof *step);
        if (!step) return false;
        program->step = step;
        program->capacity = capacity;
    }
    program->step[program->count++] = (ckpt_chain_step){act, stage, option, has_output};
    return true;
}

/* The first of the cheapest ways. One fits. */
static way choose(tree *t, const state *s, uint64_t bytes) {
    const int count = list_ways(t, s);
    uint64_t best_cost = CKPT_CORNER_NEVER;
    int best = 0;
    for (int j = 0; j < count; j++) {
        const way *w = &t->way[j];
        if (w->least > bytes || (int64_t)bytes < w->shift) continue;
        const uint64_t right = w->has_right ? ckpt_corner_cost(find_fn(t, &w->right), (uint64_t)((int64_t)bytes - w->shift)) : 0;
        const uint64_t left = w->has_left ? ckpt_corner_cost(find_fn(t, &w->left), bytes) : 0;
        if (right == CKPT_CORNER_NEVER || left == CKPT_CORNER_NEVER || w->cost + right + left >= best_cost) continue;
        best_cost = w->cost + right + left;
        best = j;
    }
    return t->way[best];
}

static bool add_steps(trace *tr, const state *s, const way *w) {
    const ckpt_chain_stage *last = &tr->tree->chain->stage[s->q];
    if (w->act == RUN) return add_step(tr, CKPT_CHAIN_FORWARD, s->i + 1, 0, false);
    if (w->act == DO_EARLY) return add_step(tr, CKPT_CHAIN_EARLY, s->q, 0, w->has_output);
    for (int k = s->i + 1; k <= s->q && w->act == RUN_THROUGH; k++)
        if (!add_step(tr, CKPT_CHAIN_FORWARD, k, 0, false)) return false;
    if (w->act == RUN_THROUGH) return true;
    return (!w->rerun || add_step(tr, CKPT_CHAIN_FORWARD, s->q, 0, false)) &&
           add_step(tr, CKPT_CHAIN_BACKWARD, s->q, s->row == EARLY ? last->option_count : 0, w->has_output);
}

/* Returns the bytes needed beyond x_i; UINT64_MAX when memory ran out. */
static uint64_t follow(trace *tr, state s, uint64_t bytes) {
    uint64_t needed = 0;
    for (;;) { /* along `left`, which is as long as the chain */
        const way w = choose(tr->tree, &s, bytes);
        tr->program->cost += w.cost;
        if (!add_steps(tr, &s, &w)) return UINT64_MAX;
        needed = larger(needed, w.needed);
        if (w.has_right) {
            const uint64_t right = follow(tr, w.right, (uint64_t)((int64_t)bytes - w.shift));
            if (right == UINT64_MAX) return right;
            const int64_t with_shift = (int64_t)right + w.shift;
            if (with_shift > 0) needed = larger(needed, (uint64_t)with_shift);
        }
        if (!w.has_left) return needed;
        s = w.left;
    }
}

/* What the cheapest schedule costs, or `limit` where none costs less; CKPT_CHAIN_NEVER where `work`, which shrinks, is used up.
 * `program`: that of the functions, if any costs less. For a bound it may need more than the budget. */
static ckpt_status solve_within(const ckpt_chain *chain, ckpt_chain_prices *prices, uint64_t budget_bytes, bool for_bound,
                                uint64_t limit, uint64_t *work, ckpt_pool *pool, ckpt_chain_program *program, uint64_t *least,
                                ckpt_error *err) {
    const state all = {FIRST, false, 0, chain->stage_count, 1};
    tree t = {.chain = chain, .prices = prices, .count = chain->stage_count, .budget = budget_bytes, .for_bound = for_bound};
    if (prices) CKPT_TRY(ckpt_chain_prices_limit(prices, limit, err));
    t.room.work = *work;
    bool ok = open_tree(&t);
    if (ok && fill_all(&t)) {
        const uint64_t cost = ckpt_corner_cost(find_fn(&t, &all), budget_bytes);
        *least = smaller(cost, limit);
        if (cost < limit && pool) {
            trace tr = {&t, pool, program};
            program->needed_bytes = follow(&tr, all, budget_bytes);
            ok = program->needed_bytes != UINT64_MAX;
        }
    } else {
        *least = CKPT_CHAIN_NEVER;
    }
    *work = t.room.work;
    ok &= !t.room.out_of_memory;
    ckpt_pool_free(&t.pool);
    return ok ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of memory for a program of %d stages", chain->stage_count);
}

ckpt_status ckpt_chain_tree_solve(const ckpt_chain *chain, ckpt_chain_prices *prices, uint64_t budget_bytes, uint64_t cost,
                                  uint64_t work, ckpt_pool *pool, ckpt_chain_program *program, uint64_t *bound,
                                  ckpt_error *err) {
    uint64_t least = 0, limit = cost, all = 0;
    if (pool) *program = (ckpt_chain_program){0};
    if (prices) CKPT_TRY(ckpt_chain_prices_all(prices, &all, err));
    *bound = smaller(all, cost);
    for (uint64_t more = prices ? all / FIRST_PART + 1 : cost; *bound < cost; more *= FARTHER) {
        limit = more < cost - all && more < FARTHEST * all ? all + more : cost;
        CKPT_TRY(solve_within(chain, prices, budget_bytes, true, limit, &work, pool, program, &least, err));
        if (least == CKPT_CHAIN_NEVER) break;
        *bound = least;
        if (least < limit) break;
    }
    if (pool && program->needed_bytes > budget_bytes) {
        *program = (ckpt_chain_program){0};
        return solve_within(chain, prices, budget_bytes, false, cost, &work, pool, program, &least, err);
    }
    return CKPT_OK;
}
