/* Lower bounds on the cost of a chain under a number of bytes, and candidate splits for its tables.
 *
 * Time steps. Time step k of the backward pass lies between the backward of k + 1 and that of k; the first pass is step L. In step k
 * x_{k-1} has to be present. Whatever is present in two consecutive steps is held while the backward between them runs, beside the bytes
 * of that backward itself; whatever is not held is recomputed from something that is. Every schedule is thus a tree in a grid of
 * stages (to the right: a forward run) and time steps (down: held), from x_0 to the L places where a backward reads its input. The
 * transients of forward runs are left out, so these bounds hold for every schedule. There are three:
 *
 * - Knapsack: at each backward, what is held has to fit beside it. The rest is recomputed later. This is a knapsack with several sizes
 *   per item, whose fractional relaxation is solved (Sinha and Zoltners, Operations Research 27(3), 1979). For the few backwards where
 *   it says most, and stages of one mode, it is solved in whole items.
 * - Counting: a window of stages is replaced by equal stages, each with the least cost and the least size of them. For these Griewank and
 *   Walther's closed form is the optimum of all schedules (Grimm, Pottier and Rostaing-Schmidt 1996). The bound is the best
 *   choice of disjoint windows. For equal stages it is exact.
 * - Lagrangian: each backward charges a price (Lagrange multiplier) per byte held over it. The cheapest tree at these prices, less
 *   what all the memory costs, is a bound (Held and Karp, Mathematical Programming 1, 1971). Prices are improved by subgradient
 *   steps. The cheapest tree is found exactly by dynamic programming over intervals of time steps: subtrees keep the order of their
 *   ends along the border of a planar grid (Erickson, Monma and Veinott, Mathematics of Operations Research 12(4), 1987).
 *
 * A split is a candidate if some memory-persistent tree that contains it costs little more than the cheapest, at the best prices of
 * some budget: 1 % more, or up to 10 % near the smallest budget. The splits of optimal schedules are likely among them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "base/vector.h"
#include "planner/chain/chain_table.h"

/* The least that the backward of a stage takes beyond its input, in any mode. */
static uint64_t least_backward(const ckpt_chain_stage *stage) {
    uint64_t least = UINT64_MAX;
    for (int o = 0; o < ckpt_chain_options(stage); o++)
        for (int has = 0; has < 2; has++)
            if (stage->option[o].recompute_cost[has] != CKPT_CHAIN_NEVER)
                least = ckpt_min_u64(least, ckpt_min_u64(stage->option[o].backward_bytes[has][0], stage->option[o].backward_bytes[has][1]));
    return least;
}

/* The bytes that can be held while the backward of stage k runs. */
static uint64_t free_bytes(const ckpt_chain *chain, int k, uint64_t budget_bytes) {
    const uint64_t taken = least_backward(&chain->stage[k]) + (k > 1 ? chain->stage[k - 1].out_bytes : 0);
    return budget_bytes > taken ? budget_bytes - taken : 0;
}

/* ---- Knapsack ---- */

/* More bytes for an item, and the cost that they save. */
typedef struct gain {
    uint64_t bytes, cost;
    int stage;
} gain;

/* Cost per byte, highest first; products of 64-bit numbers need 128 bits. */
static int by_rate(const void *a, const void *b) {
    const gain *x = a, *y = b;
    const unsigned __int128 left = (unsigned __int128)x->cost * y->bytes, right = (unsigned __int128)y->cost * x->bytes;
    if (left != right) return left > right ? -1 : 1;
    return x->stage - y->stage;
}

static int by_bytes(const void *a, const void *b) {
    const gain *x = a, *y = b;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int by_size(const void *a, const void *b) {
    const gain *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return x->cost < y->cost ? -1 : x->cost > y->cost;
}

static uint64_t cost_with(const ckpt_chain_stage *stage, const ckpt_chain_option *option) {
    return ckpt_min_u64(stage->forward_cost, ckpt_min_u64(option->recompute_cost[0], option->recompute_cost[1]));
}

/* The step from point[at] along the lower convex hull; -1 at its end. */
static int next_on_hull(const gain *point, int count, int at) {
    int next = -1;
    gain best = {0, 0, 0};
    for (int j = at + 1; j < count; j++) {
        if (point[j].cost >= point[at].cost) continue;
        const gain step = {point[j].bytes - point[at].bytes, point[at].cost - point[j].cost, 0};
        if (next >= 0 && (unsigned __int128)step.cost * best.bytes < (unsigned __int128)best.cost * step.bytes) continue;
        next = j;
        best = step;
    }
    return next;
}

/* The steps of the hull of (bytes held, cost later) of stage i, each of which saves less per byte than the one before. `point` has room
 * for option_count + 1. Returns how many were added. */
static int list_gains(const ckpt_chain_stage *stage, int i, gain *point, gain *out) {
    int count = 0, added = 0;
    point[count++] = (gain){0, stage->forward_cost, i};
    for (int o = 0; o < stage->option_count; o++)
        point[count++] = (gain){stage->out_bytes + stage->option[o].kept_bytes, cost_with(stage, &stage->option[o]), i};
    qsort(point + 1, (size_t)count - 1, sizeof *point, by_bytes);
    for (int at = 0, next; (next = next_on_hull(point, count, at)) >= 0; at = next)
        out[added++] = (gain){point[next].bytes - point[at].bytes, point[at].cost - point[next].cost, i};
    return added;
}

static uint64_t forward_cost(const ckpt_chain *chain, int stages) {
    uint64_t cost = 0;
    for (int k = 1; k <= stages; k++) cost += chain->stage[k].forward_cost;
    return cost;
}

/* The cost of recomputation after the backward of k, if `bytes` hold the rest. */
static uint64_t cost_after(const ckpt_chain *chain, int k, uint64_t bytes, const gain *sorted, int count) {
    uint64_t cost = forward_cost(chain, k - 2);
    for (int j = 0; j < count; j++) {
        if (sorted[j].stage > k - 2) continue;
        if (sorted[j].bytes > bytes) {
            const uint64_t part = (uint64_t)((unsigned __int128)sorted[j].cost * bytes / sorted[j].bytes);
            return cost - part - (part < sorted[j].cost);
        }
        bytes -= sorted[j].bytes;
        cost -= sorted[j].cost;
    }
    return cost;
}

/* Backwards whose knapsack is solved in whole items, and the additions that all of them may take: some milliseconds. */
enum { MOST_WHOLE = 8, WHOLE_WORK = 8000000 };

/* saved[m]: the most that m slots save, with `copies` more items: 1, 2, 4, ... of them at once. */
static void add_items(uint64_t *saved, uint64_t slots, uint64_t size, uint64_t cost, uint64_t copies, uint64_t *work) {
    for (uint64_t part = 1; copies > 0; copies -= part, part *= 2) {
        part = ckpt_min_u64(part, copies);
        if (part * size > slots) continue;
        for (uint64_t m = slots; m >= part * size && m <= slots; m--)
            saved[m] = ckpt_max_u64(saved[m], saved[m - part * size] + part * cost);
        *work += slots;
    }
}

/* cost_after in whole items, which are sorted by size; 0 if that takes too long or there is no memory. */
static uint64_t whole_cost_after(const ckpt_chain *chain, int k, uint64_t bytes, const gain *sorted, int count, uint64_t *work) {
    uint64_t unit = 0, all = 0;
    for (int j = 0; j < count; j++) unit = ckpt_common_divisor(unit, sorted[j].bytes), all += sorted[j].bytes;
    const uint64_t slots = unit > 0 ? ckpt_min_u64(bytes, all) / unit : 0;
    if (slots == 0 || slots > WHOLE_WORK / 16 || *work > WHOLE_WORK) return 0;
    uint64_t *saved = calloc(slots + 1, sizeof *saved);
    for (int j = 0, end; j < count && saved; j = end) {
        uint64_t copies = 0;
        for (end = j; end < count && by_size(&sorted[j], &sorted[end]) == 0; end++) copies += sorted[end].stage <= k - 2;
        add_items(saved, slots, sorted[j].bytes / unit, sorted[j].cost, copies, work);
        if (*work > WHOLE_WORK) break;
    }
    const uint64_t least = saved && *work <= WHOLE_WORK ? forward_cost(chain, k - 2) - saved[slots] : 0;
    free(saved);
    return least;
}

/* In whole items, at the backwards with the largest fractional bounds. */
static void raise_by_whole_items(const ckpt_chain *chain, uint64_t budget_bytes, gain *list, int count, const uint64_t *after,
                                 uint64_t *again) {
    uint64_t work = 0, below = UINT64_MAX;
    for (int k = 1; k <= chain->stage_count; k++)
        if (chain->stage[k].option_count > 1) return;
    qsort(list, (size_t)count, sizeof *list, by_size);
    for (int tried = 0; tried < MOST_WHOLE; tried++) {
        int best = 0;
        for (int k = 2; k <= chain->stage_count; k++)
            if (after[k] < below && (!best || after[k] > after[best])) best = k;
        if (!best || after[best] == 0) return;
        below = after[best];
        *again = ckpt_max_u64(*again, whole_cost_after(chain, best, free_bytes(chain, best, budget_bytes), list, count, &work));
    }
}

static ckpt_status bound_by_knapsack(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t *again, ckpt_error *err) {
    int options = 0, most = 0, count = 0;
    ckpt_pool pool = {0};
    *again = 0;
    for (int k = 1; k <= chain->stage_count; k++) {
        options += chain->stage[k].option_count + 1;
        if (chain->stage[k].option_count > most) most = chain->stage[k].option_count;
    }
    gain *list = ckpt_pool_array(&pool, options, gain), *point = ckpt_pool_array(&pool, most + 1, gain);
    uint64_t *after = ckpt_pool_array(&pool, chain->stage_count + 1, uint64_t);
    const bool ok = list && point && after;
    for (int i = 1; i < chain->stage_count && ok; i++) count += list_gains(&chain->stage[i], i, point, list + count);
    if (ok) qsort(list, (size_t)count, sizeof *list, by_rate);
    for (int k = 2; k <= chain->stage_count && ok; k++) {
        after[k] = cost_after(chain, k, free_bytes(chain, k, budget_bytes), list, count);
        *again = ckpt_max_u64(*again, after[k]);
    }
    if (ok) raise_by_whole_items(chain, budget_bytes, list, count, after, again);
    ckpt_pool_free(&pool);
    return ok ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of memory for a bound of %d stages", chain->stage_count);
}

/* ---- Counting ---- */

/* TABLED: numbers of checkpoints whose counts are kept. PARTS: groups of stages cost at least the dearest stage, and half of it. */
enum { MOST_COUNTED = 8192, TABLED = 64, PARTS = 2 };

/* Revolve: forward runs beyond the first of each of n stages but the last, with memory for `held` checkpoints beside x_0:
 * r n - C(s + r, s + 1) - (n - 1) with s = held + 1 and the least r for which C(s + r, s) >= n. */
static uint64_t count_runs(uint64_t n, uint64_t held) {
    const uint64_t s = held + 1;
    uint64_t r = 0, reach = 1, less = 0;
    while (reach < n) {
        r++;
        less += reach;
        reach = s >= n ? n : reach * (s + r) / r;
    }
    return r * n - less - (n - 1);
}

/* Stages, or groups of them. */
typedef struct counts {
    int count;
    uint64_t *cost, *bytes; /* [k]: of a run, and of x_k */
    uint64_t *free;         /* [k]: bytes, while the backward of k runs */
    uint64_t *tabled;       /* [held * (count + 1) + n]: count_runs + 1, or 0 */
    uint64_t *best;         /* [k]: of windows in stages 1..k */
} counts;

static uint64_t find_runs(counts *c, uint64_t n, uint64_t held) {
    if (held + 2 >= n) return 0;
    if (held >= TABLED) return count_runs(n, held);
    uint64_t *entry = &c->tabled[held * ((uint64_t)c->count + 1) + n];
    if (!*entry) *entry = count_runs(n, held) + 1;
    return *entry - 1;
}

/* Windows that end with the backward of `end`, from the last stage down, so that minima accumulate. While the backward of k runs,
 * x_i with i <= k - 2 are held. */
static void add_window(counts *c, int end) {
    uint64_t cost = c->cost[end - 1], bytes = UINT64_MAX, held = 0;
    c->best[end] = c->best[end - 1];
    for (int first = end - 2; first >= 1; first--) { /* x_{first - 1} is present throughout */
        cost = ckpt_min_u64(cost, c->cost[first]);
        bytes = ckpt_min_u64(bytes, c->bytes[first]);
        held = ckpt_max_u64(held, c->free[first + 2]);
        if (bytes == 0 || cost == 0) return;
        const uint64_t n = (uint64_t)(end - first) + 1;
        c->best[end] = ckpt_max_u64(c->best[end], c->best[first - 1] + cost * find_runs(c, n, held / bytes));
    }
}

/* Joins consecutive stages until each group but the last costs `least`. Backwards inside a group read nothing; whatever is held of
 * a group counts as its smallest output. */
static void group(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t least, counts *c) {
    bool open = false;
    c->count = 0;
    for (int k = 1; k <= chain->stage_count; k++) {
        if (!open) {
            c->count++;
            c->cost[c->count] = 0;
            c->bytes[c->count] = UINT64_MAX;
            c->free[c->count] = free_bytes(chain, k, budget_bytes);
        }
        c->cost[c->count] += chain->stage[k].forward_cost;
        c->bytes[c->count] = ckpt_min_u64(c->bytes[c->count], chain->stage[k].out_bytes);
        open = c->cost[c->count] < least;
    }
}

static uint64_t count_windows(counts *c) {
    memset(c->tabled, 0, sizeof *c->tabled * TABLED * ((size_t)c->count + 1));
    c->best[0] = c->best[1] = 0;
    for (int end = 2; end <= c->count; end++) add_window(c, end);
    return c->best[c->count];
}

ckpt_status ckpt_chain_bound_by_count(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t *recompute_cost, ckpt_error *err) {
    const int count = chain->stage_count;
    *recompute_cost = 0;
    if (count < 1 || count > MOST_COUNTED) return CKPT_OK;
    ckpt_pool pool = {0};
    counts c = {.cost = ckpt_pool_array(&pool, count + 1, uint64_t),
                .bytes = ckpt_pool_array(&pool, count + 1, uint64_t),
                .free = ckpt_pool_array(&pool, count + 1, uint64_t),
                .tabled = ckpt_pool_array(&pool, TABLED * (count + 1), uint64_t),
                .best = ckpt_pool_array(&pool, count + 1, uint64_t)};
    const bool ok = c.cost && c.bytes && c.free && c.tabled && c.best;
    uint64_t most = 0;
    for (int k = 1; k <= count; k++) most = ckpt_max_u64(most, chain->stage[k].forward_cost);
    for (int part = 0; part <= PARTS && ok; part++) { /* single stages first */
        group(chain, budget_bytes, most / PARTS * (uint64_t)part, &c);
        *recompute_cost = ckpt_max_u64(*recompute_cost, count_windows(&c));
    }
    ckpt_pool_free(&pool);
    return ok ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of memory for a bound of %d stages", count);
}

/* ---- Lagrangian ---- */

/* Steps of the subgradient method: one per STAGES_PER_STEP stages, at least FEWEST_STEPS; at most MOST_STEPS and what FAIR_WORK sums
 * allow. Chains of more than MOST_TREES sums, about 370 stages, have no such bound: it would take seconds. */
enum { MOST_STEPS = 120, FEWEST_STEPS = 40, STAGES_PER_STEP = 6, FAIR_WORK = 10000000, MOST_TREES = 800000000 };

/* Candidates: the budgets for which they are found, from START times the smallest one up, steps for each, and the relative distance from
 * the optimum at these prices. At the two smallest budgets transients matter, which prices leave out, so the distance is larger: with
 * 0.02 and 0.01 there, 200 arbitrary stages recompute 13 % of a step more near the smallest budget, and 100 stages 0.9 % at 2 % of the
 * way to the largest. */
enum { BUDGETS = 8, CANDIDATE_STEPS = 24, CANDIDATE_STAGES = 512 };
#define START 1.001
#define DISTANCE 0.01
static const double tight_distance[] = {0.1, 0.05};

/* Costs are in forward passes, bytes in budgets. Matrices have count + 1 columns. */
typedef struct prices {
    ckpt_pool pool;
    const ckpt_chain *chain;
    int count;
    double cost_unit, byte_unit;
    double *price, *sum;       /* of time step q; of time steps 1..q */
    double *free, *held;       /* bytes in time step q, while its backward runs */
    double *bytes, *before;    /* of x_i; cost of stages 1..i */
    double *best_price, *step; /* the best prices so far; the last step of each */
    double *row, *column;      /* cheapest tree from x_i in time step q to the backwards i + 1..q: [i][q] and [q][i] */
    double *saved;             /* [q][i]: at most 0: by saved activations of stage i, held from a run in time step q */
    double *outside;           /* [i][q]: the rest of the cheapest tree that contains one from x_i in time step q */
    int *wall;                 /* [q][i]: the last time step until q over whose backward x_i does not fit, or i + 1 */
    bool walls;                /* any is farther */
    int *option;               /* of stage i: where its options begin in the next two */
    double *option_cost, *option_bytes, *bare; /* of the backward in a mode; of saved activations; of the backward without any */
    double paid;               /* for all the memory */
    double fixed;              /* cost of the backwards without saved activations, and of the last forward run */
    double bound;
} prices;

static double smaller(double a, double b) {
    return a < b ? a : b;
}

static double *at(const prices *p, double *matrix, int row) {
    return matrix + (size_t)row * (size_t)(p->count + 1);
}

static double recompute_cost(const prices *p, const ckpt_chain_option *option) {
    double least = HUGE_VAL;
    for (int has = 0; has < 2; has++)
        if (option->recompute_cost[has] != CKPT_CHAIN_NEVER) least = smaller(least, (double)option->recompute_cost[has] / p->cost_unit);
    return least;
}

/* The backward of stage i without saved activations from an earlier time step: it may still run its stage again. */
static double bare_backward(const prices *p, int i) {
    const ckpt_chain_stage *stage = &p->chain->stage[i];
    double least = HUGE_VAL;
    for (int o = 0; o < stage->option_count; o++) {
        const double cost = recompute_cost(p, &stage->option[o]);
        const bool held = stage->option[o].kept_bytes > 0 && i < p->count;
        least = smaller(least, held ? cost + (double)stage->forward_cost / p->cost_unit : cost);
    }
    return least;
}

static bool allocate(prices *p) {
    ckpt_pool *pool = &p->pool;
    const size_t side = (size_t)p->count + 1;
    double **const line[] = {&p->price, &p->sum, &p->free, &p->held, &p->bytes, &p->before, &p->bare, &p->best_price, &p->step};
    double **const matrix[] = {&p->row, &p->column, &p->saved, &p->outside};
    int options = 0;
    p->option = ckpt_pool_array(pool, side, int);
    if (!p->option) return false;
    for (int i = 1; i <= p->count; i++) {
        p->option[i] = options;
        options += p->chain->stage[i].option_count;
    }
    p->option_cost = ckpt_pool_array(pool, options, double);
    p->option_bytes = ckpt_pool_array(pool, options, double);
    p->wall = ckpt_pool_array(pool, side * side, int);
    if (!p->option_cost || !p->option_bytes || !p->wall) return false;
    for (size_t i = 0; i < sizeof line / sizeof *line; i++)
        if (!(*line[i] = ckpt_pool_array(pool, side, double))) return false;
    for (size_t i = 0; i < sizeof matrix / sizeof *matrix; i++)
        if (!(*matrix[i] = ckpt_pool_array(pool, side * side, double))) return false;
    return true;
}

static void start(prices *p) {
    const int count = p->count;
    for (int i = 1; i <= count; i++) {
        p->before[i] = p->before[i - 1] + (double)p->chain->stage[i].forward_cost / p->cost_unit;
        p->bytes[i] = (double)p->chain->stage[i].out_bytes / p->byte_unit;
        p->bare[i] = bare_backward(p, i);
        p->fixed += p->bare[i];
        for (int o = 0; o < p->chain->stage[i].option_count; o++) {
            p->option_cost[p->option[i] + o] = recompute_cost(p, &p->chain->stage[i].option[o]);
            p->option_bytes[p->option[i] + o] = (double)p->chain->stage[i].option[o].kept_bytes / p->byte_unit;
        }
    }
    p->fixed += (double)p->chain->stage[count].forward_cost / p->cost_unit;
}

static ckpt_status open_prices(const ckpt_chain *chain, uint64_t byte_unit, prices *p, ckpt_error *err) {
    *p = (prices){.chain = chain, .count = chain->stage_count, .byte_unit = (double)byte_unit};
    p->cost_unit = (double)forward_cost(chain, chain->stage_count);
    if (!allocate(p)) {
        ckpt_pool_free(&p->pool);
        return ckpt_fail(err, CKPT_NOMEM, "out of memory for a bound of %d stages", p->count);
    }
    start(p);
    return CKPT_OK;
}

static int *wall_of(const prices *p, int q) {
    return p->wall + (size_t)q * (size_t)(p->count + 1);
}

/* x_i cannot be held over the backward of k if it is larger than the free bytes, which no price says. */
static void set_budget(prices *p, uint64_t budget_bytes) {
    for (int k = 1; k <= p->count; k++) p->free[k] = (double)free_bytes(p->chain, k, budget_bytes) / p->byte_unit;
    p->walls = false;
    for (int i = 0; i < p->count; i++) {
        int wall = i + 1;
        for (int q = i + 2; q <= p->count; q++) {
            if (i > 0 && p->chain->stage[i].out_bytes > free_bytes(p->chain, q, budget_bytes)) wall = q;
            wall_of(p, q)[i] = wall;
            p->walls |= wall > i + 1;
        }
    }
}

/* To begin with: a tenth of a forward pass for all the memory. */
static void set_prices(prices *p) {
    for (int q = 1; q <= p->count; q++) p->price[q] = p->free[q] > 0 ? 0.1 / p->count / p->free[q] : 0;
}

/* What a mode of stage i saves in its backward, less the price of its saved activations from time step q on. */
static double saved_by(const prices *p, int i, int option, int q) {
    const double cost = p->option_cost[p->option[i] + option] - p->bare[i];
    return cost + p->option_bytes[p->option[i] + option] * (p->sum[q] - p->sum[i]);
}

static void find_saved(prices *p) {
    for (int i = 1; i < p->count; i++)
        for (int o = 0; o < p->chain->stage[i].option_count && p->chain->stage[i].option_count > 1; o++)
            for (int q = i + 1; q <= p->count; q++) {
                double *least = &at(p, p->saved, q)[i];
                const double saved = saved_by(p, i, o, q);
                if (o == 0 || saved < *least) *least = smaller(saved, 0);
            }
}

/* From x_0..x_{j-1} on to x_j, which costs `on` from time step q: out[i] = min(out[i], on + from[i] - bytes[i] * sum) if x_i fits until
 * then. wall: or NULL. */
static inline void lower_by_going_on(double *restrict out, double on, const double *restrict from, const double *restrict bytes,
                                     double sum, const int *restrict wall, int j) {
    if (!wall)
        for (int i = 0; i < j; i++) {
            const double v = on + from[i] - bytes[i] * sum;
            out[i] = v < out[i] ? v : out[i];
        }
    else
        for (int i = 0; i < j; i++) {
            const double v = on + from[i] - bytes[i] * sum;
            out[i] = v < out[i] && wall[i] <= j ? v : out[i];
        }
}

/* Cheapest persistent trees: from x_i in time step q on to some x_j, which is kept, while x_i is held until the backward of j + 1. */
CKPT_VECTOR static void find_trees(prices *p) {
    p->paid = 0;
    for (int q = 1; q <= p->count; q++) {
        p->sum[q] = p->sum[q - 1] + p->price[q];
        p->paid += p->price[q] * p->free[q];
    }
    find_saved(p);
    for (int q = 1; q <= p->count; q++) {
        double *column = at(p, p->column, q);
        const double *saved = at(p, p->saved, q);
        for (int i = 0; i < q - 1; i++) column[i] = HUGE_VAL;
        column[q - 1] = 0;
        for (int j = q - 1; j >= 0; j--) {
            if (j < q - 1) column[j] += p->bytes[j] * p->sum[q] - p->before[j];
            at(p, p->row, j)[q] = column[j];
            lower_by_going_on(column, p->before[j] + column[j] + saved[j], at(p, p->column, j), p->bytes, p->sum[j],
                              p->walls ? wall_of(p, q) : NULL, j);
        }
    }
}

static void hold(prices *p, double bytes, int from, int to) {
    for (int r = from; r <= to; r++) p->held[r] += bytes;
}

/* The saved activations of stage i from its run in time step q on, if any are worth their price. */
static void hold_saved(prices *p, int i, int q) {
    int kept = -1;
    double most = 0;
    for (int o = 0; o < p->chain->stage[i].option_count; o++) {
        const double v = saved_by(p, i, o, q);
        if (v < most) most = v, kept = o;
    }
    if (kept >= 0) hold(p, p->option_bytes[p->option[i] + kept], i + 1, q);
}

/* Adds up what the cheapest tree from x_i in time step q holds. */
static void add_held(prices *p, int i, int q) {
    while (i < q - 1) {
        int best = i + 1;
        double least = HUGE_VAL;
        for (int j = wall_of(p, q)[i]; j < q; j++) {
            const double v = p->before[j] + at(p, p->saved, q)[j] + at(p, p->column, q)[j] + at(p, p->row, i)[j] - p->bytes[i] * p->sum[j];
            if (v < least) least = v, best = j;
        }
        hold(p, p->bytes[i], best + 1, q);
        hold_saved(p, best, q);
        add_held(p, best, q);
        q = best;
    }
}

/* One step against the overuse of memory, of Polyak's length towards `target`. False: nothing is overused. */
static bool step_prices(prices *p, double value, double target) {
    double square = 0;
    for (int q = 1; q <= p->count; q++) {
        double over = p->held[q] - p->free[q];
        if (over < 0 && p->price[q] <= 0) over = 0;
        p->step[q] = over + 0.5 * p->step[q];
        square += p->step[q] * p->step[q];
    }
    for (int q = 1; q <= p->count && square > 0; q++)
        p->price[q] = fmax(p->price[q] + (target - value) / square * p->step[q], 0);
    return square > 0;
}

/* Sets the best prices of those tried. The target lies a little above the best bound so far, less far whenever six steps gain
 * nothing. */
static void improve(prices *p, int steps) {
    const size_t bytes = ((size_t)p->count + 1) * sizeof(double);
    double best = 0, reach = 0.3;
    int waited = 0;
    memset(p->step, 0, bytes);
    memcpy(p->best_price, p->price, bytes);
    for (int i = 0; i < steps && reach >= 0.002; i++) {
        find_trees(p);
        memset(p->held, 0, bytes);
        add_held(p, 0, p->count);
        const double value = p->fixed + p->row[p->count] - p->paid;
        if (!isfinite(value)) break; /* some x_i fits nowhere: no prices help */
        waited = value < best * 1.001 ? waited + 1 : 0;
        if (value > best) {
            best = value;
            memcpy(p->best_price, p->price, bytes);
        }
        if (waited >= 6) {
            waited = 0;
            reach *= 0.5;
            memcpy(p->price, p->best_price, bytes);
            memset(p->step, 0, bytes);
        }
        if (!step_prices(p, value, best * (1 + reach))) break;
    }
    memcpy(p->price, p->best_price, bytes);
    find_trees(p);
    p->bound = best;
}

/* Adds the splits of persistent trees that cost at most `limit` at these prices. */
static void add_splits(const prices *p, double limit, const ckpt_chain_shape *shape, ckpt_chain_candidates *candidates) {
    const size_t side = (size_t)p->count + 1;
    for (size_t i = 0; i < side * side; i++) p->outside[i] = HUGE_VAL;
    p->outside[p->count] = 0;
    for (int q = p->count; q >= 1; q--)
        for (int i = 0; i < q - 1; i++) {
            const double around = at(p, p->outside, i)[q];
            if (!(around + at(p, p->row, i)[q] <= limit)) continue;
            for (int j = wall_of(p, q)[i]; j < q; j++) {
                const double left = at(p, p->row, i)[j], right = at(p, p->column, q)[j];
                const double split = around + p->before[j] - p->before[i] + at(p, p->saved, q)[j] + p->bytes[i] * (p->sum[q] - p->sum[j]);
                if (split + left + right > limit) continue;
                ckpt_chain_add_candidate(candidates, ckpt_chain_run_of(shape, i + 1, q), j - i - 1);
                at(p, p->outside, i)[j] = smaller(at(p, p->outside, i)[j], split + right);
                at(p, p->outside, j)[q] = smaller(at(p, p->outside, j)[q], split + left);
            }
        }
}

bool ckpt_chain_has_candidates(const ckpt_chain *chain) {
    return chain->stage_count <= CANDIDATE_STAGES && forward_cost(chain, chain->stage_count) > 0;
}

/* For the smallest budget, and for budgets in equal ratios. */
ckpt_status ckpt_chain_find_candidates(const ckpt_chain_shape *shape, uint64_t least_bytes, uint64_t most_bytes,
                                       ckpt_chain_candidates *candidates, ckpt_error *err) {
    const double least = START * (double)least_bytes, ratio = fmax((double)most_bytes / least, 1);
    prices p;
    CKPT_TRY(open_prices(shape->chain, most_bytes, &p, err));
    for (int b = 0; b < BUDGETS; b++) { /* each begins with the prices of the one below */
        const bool smallest = b == 0;
        set_budget(&p, (uint64_t)(least * pow(ratio, smallest ? 0 : (b - 0.5) / (BUDGETS - 1))));
        if (smallest || p.bound <= 0) set_prices(&p);
        improve(&p, smallest ? 2 * CANDIDATE_STEPS : CANDIDATE_STEPS);
        add_splits(&p, p.row[p.count] + (b < 2 ? tight_distance[b] : DISTANCE) * p.bound, shape, candidates);
    }
    ckpt_pool_free(&p.pool);
    return CKPT_OK;
}

static inline void lower_by(double *restrict out, double cost, const double *restrict from, int count) {
    for (int k = 0; k < count; k++) {
        const double v = cost + from[k];
        out[k] = v < out[k] ? v : out[k];
    }
}

/* Cheapest trees of all schedules: tree[i][q][k] from x_i in time step q to the backwards k..q, i < k, where x_i need not be held
 * until the backward of i + 1. */
typedef struct trees {
    size_t *first; /* of i: count - i rows of as many numbers */
    double *tree;
} trees;

static size_t tree_of(const prices *p, const trees *t, int i, int q, int k) {
    return t->first[i] + (size_t)(q - i - 1) * (size_t)(p->count - i) + (size_t)(k - i - 1);
}

/* Either x_i is evicted in the run of stage i + 1, and x_{i+1} does it all; or it is held while x_{i+1} does the backwards r + 1..q. */
CKPT_VECTOR static void find_any_trees(prices *p, const trees *t) {
    for (int q = 1; q <= p->count; q++) {
        t->tree[tree_of(p, t, q - 1, q, q)] = 0;
        for (int i = q - 2; i >= 0; i--) {
            const double run = p->before[i + 1] - p->before[i], saved = at(p, p->saved, q)[i + 1];
            double *out = &t->tree[tree_of(p, t, i, q, i + 1)];
            out[0] = HUGE_VAL;
            for (int k = i + 2; k <= q; k++) out[k - i - 1] = run + t->tree[tree_of(p, t, i + 1, q, k)] + (k == i + 2 ? saved : 0);
            for (int r = wall_of(p, q)[i]; r < q; r++)
                lower_by(out,
                         run + t->tree[tree_of(p, t, i + 1, q, r + 1)] + (r == i + 1 ? saved : 0) + p->bytes[i] * (p->sum[q] - p->sum[r]),
                         &t->tree[tree_of(p, t, i, r, i + 1)], r - i);
        }
    }
}

/* The bound of all schedules at the prices that are set, less what rounding may have added. */
static ckpt_status bound_of_all(prices *p, uint64_t *bound, ckpt_error *err) {
    const size_t count = (size_t)p->count;
    trees t = {.first = ckpt_pool_array(&p->pool, count + 2, size_t)};
    for (size_t i = 0; i <= count && t.first; i++) t.first[i + 1] = t.first[i] + (count - i) * (count - i);
    if (t.first) t.tree = ckpt_pool_array(&p->pool, t.first[count], double);
    if (!t.tree) return ckpt_fail(err, CKPT_NOMEM, "out of memory for a bound of %d stages", p->count);
    find_any_trees(p, &t);
    const double value = p->fixed + t.tree[tree_of(p, &t, 0, p->count, 1)] - p->paid;
    const double sure = (value - 1e-9 * (1 + value + p->paid)) * p->cost_unit;
    *bound = sure > 0 ? (uint64_t)ceil(sure) : 0;
    return CKPT_OK;
}

/* 0 if the chain is too long. */
static ckpt_status bound_by_prices(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t *bound, ckpt_error *err) {
    const int count = chain->stage_count;
    const double splits = (double)count * count * count / 6;
    const int fair = (int)smaller(MOST_STEPS, FAIR_WORK / (splits + 1)), fewest = (int)fmax(FEWEST_STEPS, count / STAGES_PER_STEP);
    *bound = 0;
    if (splits * count / 4 > MOST_TREES || budget_bytes == 0 || forward_cost(chain, count) == 0) return CKPT_OK;
    prices p;
    CKPT_TRY(open_prices(chain, budget_bytes, &p, err));
    set_budget(&p, budget_bytes);
    set_prices(&p);
    improve(&p, fair < fewest ? fewest : fair);
    const ckpt_status status = bound_of_all(&p, bound, err);
    ckpt_pool_free(&p.pool);
    return status;
}

/* ---- All of them ---- */

/* Divides whatever a program can cost; early parts cost nothing. */
static uint64_t cost_divisor(const ckpt_chain *chain) {
    uint64_t unit = 0;
    for (int k = 1; k <= chain->stage_count; k++) {
        const ckpt_chain_stage *stage = &chain->stage[k];
        unit = ckpt_common_divisor(unit, stage->forward_cost);
        for (int i = 0; i < 2 * stage->option_count; i++)
            if (stage->option[i / 2].recompute_cost[i % 2] != CKPT_CHAIN_NEVER)
                unit = ckpt_common_divisor(unit, stage->option[i / 2].recompute_cost[i % 2]);
    }
    return unit ? unit : 1;
}

ckpt_status ckpt_chain_lower_bound(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, uint64_t *bound, ckpt_error *err) {
    const uint64_t first = forward_cost(chain, chain->stage_count), divisor = cost_divisor(chain);
    uint64_t knapsack, counted, priced;
    CKPT_TRY(bound_by_knapsack(chain, budget_bytes, &knapsack, err));
    CKPT_TRY(ckpt_chain_bound_by_count(chain, budget_bytes, &counted, err));
    *bound = ckpt_round_up(first + ckpt_max_u64(knapsack, counted), divisor);
    if (*bound >= cost) return CKPT_OK;
    CKPT_TRY(bound_by_prices(chain, budget_bytes, &priced, err));
    *bound = ckpt_max_u64(*bound, ckpt_round_up(priced, divisor));
    return CKPT_OK;
}
