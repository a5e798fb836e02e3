#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "base/vector.h"
#include "planner/chain/chain_bound.h"

/* Steps of the search for prices: fewest, or one for so many stages; work, in sums of three numbers, for which they are fewer,
 * and that is not exceeded; steps that are not worth it. */
enum { MOST_STEPS = 120, FEWEST_STEPS = 40, STAGES_A_STEP = 6, FAIR_WORK = 10000000, MOST_WORK = 400000000, LEAST_STEPS = 16 };

/* Likely splits: the budgets that they are found for, steps for each, and how far they may be from the best. */
enum { BUDGETS = 6, LIKELY_STEPS = 16, LIKELY_STAGES = 512 };
static const double SLACK = 0.01;

/* Costs are in shares of a forward pass, bytes in shares of the budget. Matrices are of count + 1 columns. */
typedef struct ckpt_chain_prices {
    ckpt_pool pool;
    const ckpt_chain *chain;
    int count;
    double cost_unit, byte_unit;
    double *price, *sum;    /* of phase q; of phases 1..q */
    double *room, *held;    /* in phase q, while its backward runs */
    double *bytes, *before; /* of x_i; cost of stages 1..i */
    double *best_price, *step; /* of phase q: for which the bound is best so far; last steps of prices */
    double *row, *column;   /* cheapest tree from x_i in phase q to the backwards i + 1..q: [i][q] and [q][i] */
    double *saved;          /* [q][i]: at most 0: by internals of stage i, held from a run in phase q */
    int *wall;              /* [q][i]: the last phase until q over whose backward x_i does not fit, or i + 1 */
    bool walls;             /* any is farther */
    int *option;            /* of stage i: where its options begin in the next two */
    double *option_cost, *option_bytes, *bare; /* of the backward with an option; of internals; without any of them */
    double paid;            /* for all the room there is */
    double fixed;           /* of the backwards, without internals; and of stage count */
    double *outside;        /* [i][q], as marks are made: the rest of the cheapest tree that has one from x_i in phase q */
    double bound;           /* the best one, at the prices that there are */
    size_t *first;          /* [i]: where trees from x_i begin */
    double *tree;           /* of all schedules; NULL before they are asked for */
} prices;

static double smaller(double a, double b) {
    return a < b ? a : b;
}

static double forward_cost(const ckpt_chain *chain) {
    double cost = 0;
    for (int k = 1; k <= chain->stage_count; k++) cost += (double)chain->stage[k].forward_cost;
    return cost;
}

static double *at(const prices *p, double *matrix, int row) {
    return matrix + (size_t)row * (size_t)(p->count + 1);
}

static double recompute_cost(const prices *p, const ckpt_chain_option *option) {
    double least = HUGE_VAL;
    for (int has = 0; has < 2; has++)
        if (option->recompute_cost[has] != CKPT_CHAIN_NEVER)
            least = smaller(least, (double)option->recompute_cost[has] / p->cost_unit);
    return least;
}

/* The backward of stage i without internals from an earlier phase: it may still run its stage again. */
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

static bool make_room(prices *p) {
    ckpt_pool *pool = &p->pool;
    const size_t side = (size_t)p->count + 1;
    double **const line[] = {&p->price, &p->sum, &p->room, &p->held, &p->bytes, &p->before,
                              &p->bare, &p->best_price, &p->step};
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
    if (!p->option_cost || !p->option_bytes) return false;
    for (size_t i = 0; i < sizeof line / sizeof *line; i++)
        if (!(*line[i] = ckpt_pool_array(pool, side, double))) return false;
    for (size_t i = 0; i < sizeof matrix / sizeof *matrix; i++)
        if (!(*matrix[i] = ckpt_pool_array(pool, side * side, double))) return false;
    p->wall = ckpt_pool_array(pool, side * side, int);
    return p->wall != NULL;
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

static int *wall_of(const prices *p, int q) {
    return p->wall + (size_t)q * (size_t)(p->count + 1);
}

/* x_i cannot be held over the backward of k where it has more bytes than there is room: what no price has to say. */
static void set_rooms(prices *p, uint64_t budget_bytes) {
    for (int k = 1; k <= p->count; k++) p->room[k] = (double)ckpt_chain_room(p->chain, k, budget_bytes) / p->byte_unit;
    p->walls = false;
    for (int i = 0; i < p->count; i++) {
        int wall = i + 1;
        for (int q = i + 2; q <= p->count; q++) {
            if (i > 0 && p->chain->stage[i].out_bytes > ckpt_chain_room(p->chain, q, budget_bytes)) wall = q;
            wall_of(p, q)[i] = wall;
            p->walls |= wall > i + 1;
        }
    }
}

/* To begin with: a tenth of a forward pass for all the room there is. */
static void set_prices(prices *p) {
    for (int q = 1; q <= p->count; q++) p->price[q] = p->room[q] > 0 ? 0.1 / p->count / p->room[q] : 0;
}

/* What an option of stage i saves in its backward, and the price of its internals from phase q on. */
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

/* From x_0..x_{j-1} on to x_j, which costs `on` from phase q: out[i] = min(out[i], on + from[i] - bytes[i] * sum), where x_i fits
 * until then. wall: or NULL. */
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

/* From x_i in phase q: on to some x_j, which is kept, while x_i is held until the backward of j + 1 is done. */
CKPT_VECTOR static void find_trees(prices *p) {
    p->paid = 0;
    for (int q = 1; q <= p->count; q++) {
        p->sum[q] = p->sum[q - 1] + p->price[q];
        p->paid += p->price[q] * p->room[q];
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

/* x_i over the backwards of from..to. */
static void hold(prices *p, double bytes, int from, int to) {
    for (int r = from; r <= to; r++) p->held[r] += bytes;
}

/* Internals of stage i from its run in phase q on, if any are worth their price. */
static void hold_internals(prices *p, int i, int q) {
    int kept = -1;
    double most = 0;
    for (int o = 0; o < p->chain->stage[i].option_count; o++) {
        const double v = saved_by(p, i, o, q);
        if (v < most) most = v, kept = o;
    }
    if (kept >= 0) hold(p, p->option_bytes[p->option[i] + kept], i + 1, q);
}

/* Adds up what the cheapest tree from x_i in phase q holds. */
static void add_held(prices *p, int i, int q) {
    while (i < q - 1) {
        int best = i + 1;
        double least = HUGE_VAL;
        for (int j = wall_of(p, q)[i]; j < q; j++) {
            const double v = p->before[j] + at(p, p->saved, q)[j] + at(p, p->column, q)[j] + at(p, p->row, i)[j] -
                             p->bytes[i] * p->sum[j];
            if (v < least) least = v, best = j;
        }
        hold(p, p->bytes[i], best + 1, q);
        hold_internals(p, best, q);
        add_held(p, best, q);
        q = best;
    }
}

/* out[k] = min(out[k], cost + from[k]) */
static inline void lower_by(double *restrict out, double cost, const double *restrict from, int count) {
    for (int k = 0; k < count; k++) {
        const double v = cost + from[k];
        out[k] = v < out[k] ? v : out[k];
    }
}

static size_t tree_of(const prices *p, int i, int q, int k) {
    return p->first[i] + (size_t)(q - i - 1) * (size_t)(p->count - i) + (size_t)(k - i - 1);
}

/* The price of x_i over the backwards behind r, up to q. */
static double held_price(const prices *p, int i, int q, int r) {
    return p->bytes[i] * (p->sum[q] - p->sum[r]);
}

static double run_cost(const prices *p, int i) {
    return p->before[i + 1] - p->before[i];
}

static bool make_tree_room(prices *p) {
    const int count = p->count;
    if (p->tree) return true;
    p->first = ckpt_pool_array(&p->pool, (size_t)count + 2, size_t); /* of i: count - i rows of as many numbers */
    if (!p->first) return false;
    for (int i = 0; i <= count; i++) p->first[i + 1] = p->first[i] + (size_t)(count - i) * (size_t)(count - i);
    p->tree = ckpt_pool_array(&p->pool, p->first[count], double);
    return p->tree;
}

/* The cheapest trees of all schedules, at the prices that there are: tree[i][q][k] from x_i in phase q to the
 * backwards k..q, where i < k: x_i need not be held until the backward of i + 1. */
CKPT_VECTOR static void find_any_trees(prices *p) {
    for (int q = 1; q <= p->count; q++) {
        p->tree[tree_of(p, q - 1, q, q)] = 0;
        for (int i = q - 2; i >= 0; i--) {
            const double run = run_cost(p, i), saved = at(p, p->saved, q)[i + 1];
            double *out = &p->tree[tree_of(p, i, q, i + 1)];
            out[0] = HUGE_VAL;
            for (int k = i + 2; k <= q; k++) out[k - i - 1] = run + p->tree[tree_of(p, i + 1, q, k)] + (k == i + 2 ? saved : 0);
            for (int r = wall_of(p, q)[i]; r < q; r++)
                lower_by(out, run + p->tree[tree_of(p, i + 1, q, r + 1)] + (r == i + 1 ? saved : 0) + held_price(p, i, q, r),
                         &p->tree[tree_of(p, i, r, i + 1)], r - i);
        }
    }
}

/* Prices for which the bound is best, among those tried. Polyak's steps towards a target that is a little above
 * what has been reached, less far whenever nothing is gained for a while. */
static void improve(prices *p, int steps) {
    const int count = p->count;
    const size_t bytes = ((size_t)count + 1) * sizeof(double);
    double best = 0, reach = 0.3, *best_price = p->best_price, *step = p->step;
    int waited = 0;
    memset(step, 0, bytes);
    memcpy(best_price, p->price, bytes);
    for (int i = 0; i < steps; i++) {
        find_trees(p);
        memset(p->held, 0, bytes);
        add_held(p, 0, count);
        const double value = p->fixed + p->row[count] - p->paid;
        if (value > best) {
            if (value < best * 1.001) waited++;
            else waited = 0;
            best = value;
            memcpy(best_price, p->price, bytes);
        } else {
            waited++;
        }
        if (waited >= 6) {
            waited = 0;
            reach *= 0.5;
            memcpy(p->price, best_price, bytes);
            memset(step, 0, bytes);
        }
        if (reach < 0.002) break;
        double square = 0;
        for (int q = 1; q <= count; q++) {
            double over = p->held[q] - p->room[q];
            if (over < 0 && p->price[q] <= 0) over = 0;
            step[q] = over + 0.5 * step[q];
            square += step[q] * step[q];
        }
        if (square <= 0) break;
        const double length = (best * (1 + reach) - value) / square;
        for (int q = 1; q <= count; q++) {
            p->price[q] += length * step[q];
            if (p->price[q] < 0) p->price[q] = 0;
        }
    }
    memcpy(p->price, best_price, bytes);
    find_trees(p);
    p->bound = best;
}

/* Marks the splits of trees that cost at most `limit` at these prices. */
static void mark_splits(prices *p, double limit, ckpt_chain_likely *likely) {
    const int count = p->count;
    const size_t side = (size_t)count + 1;
    double *outside = p->outside;
    for (size_t i = 0; i < side * side; i++) outside[i] = HUGE_VAL;
    outside[count] = 0;
    for (int q = count; q >= 1; q--)
        for (int i = 0; i < q - 1; i++) {
            const double around = at(p, outside, i)[q];
            if (!(around + at(p, p->row, i)[q] <= limit)) continue;
            for (int j = wall_of(p, q)[i]; j < q; j++) {
                const double left = at(p, p->row, i)[j], right = at(p, p->column, q)[j];
                const double split = around + p->before[j] - p->before[i] + at(p, p->saved, q)[j] +
                                     p->bytes[i] * (p->sum[q] - p->sum[j]);
                if (split + left + right > limit) continue;
                ckpt_chain_likely_add(likely, i + 1, q, j);
                at(p, outside, i)[j] = smaller(at(p, outside, i)[j], split + right);
                at(p, outside, j)[q] = smaller(at(p, outside, j)[q], split + left);
            }
        }
}

/* What is sure of a bound in spite of rounding. */
static uint64_t whole_cost(const prices *p, double value) {
    const double sure = (value - 1e-9 * (1 + value + p->paid)) * p->cost_unit;
    return sure > 0 ? (uint64_t)ceil(sure) : 0;
}

/* Budgets in equal ratios from a little above the smallest to the largest. */
static void mark_all(prices *p, uint64_t least_bytes, uint64_t most_bytes, ckpt_chain_likely *likely) {
    for (int b = 0; b < BUDGETS; b++) {
        const double ratio = (double)most_bytes / (1.2 * (double)least_bytes);
        const double budget = 1.2 * (double)least_bytes * pow(ratio > 1 ? ratio : 1, (b + 0.5) / BUDGETS);
        set_rooms(p, (uint64_t)budget);
        if (b == 0) set_prices(p);
        improve(p, b == 0 ? 2 * LIKELY_STEPS : LIKELY_STEPS);
        mark_splits(p, p->row[p->count] + (b == 0 ? 2 * SLACK : SLACK) * p->bound, likely);
    }
}

bool ckpt_chain_likely_fits(const ckpt_chain *chain) {
    return chain->stage_count <= LIKELY_STAGES && forward_cost(chain) > 0;
}

static bool make_likely(int count, ckpt_pool *pool, ckpt_chain_likely **out) {
    const size_t side = (size_t)count + 1, words = (size_t)count / 64 + 1;
    ckpt_chain_likely *likely = *out = ckpt_pool_array(pool, 1, ckpt_chain_likely);
    if (!likely) return false;
    *likely = (ckpt_chain_likely){.side = side, .words = words, .bits = ckpt_pool_array(pool, side * side * words, uint64_t)};
    return likely->bits != NULL;
}

/* Sizes are in shares of byte_unit. */
static ckpt_status open_prices(const ckpt_chain *chain, uint64_t byte_unit, prices **out, ckpt_error *err) {
    const int count = chain->stage_count;
    prices *p = *out = calloc(1, sizeof *p);
    if (p) *p = (prices){.chain = chain, .count = count, .byte_unit = (double)byte_unit, .cost_unit = forward_cost(chain)};
    if (p && make_room(p)) {
        start(p);
        return CKPT_OK;
    }
    ckpt_chain_prices_close(p);
    *out = NULL;
    return ckpt_fail(err, CKPT_NOMEM, "out of memory for a bound of %d stages", count);
}

ckpt_status ckpt_chain_find_likely(const ckpt_chain *chain, uint64_t least_bytes, uint64_t most_bytes, ckpt_pool *pool,
                                   ckpt_chain_likely **likely, ckpt_error *err) {
    prices *p;
    *likely = NULL;
    CKPT_TRY(open_prices(chain, most_bytes, &p, err));
    const bool room = make_likely(chain->stage_count, pool, likely);
    if (room) mark_all(p, least_bytes, most_bytes, *likely);
    ckpt_chain_prices_close(p);
    return room ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of memory for the splits of %d stages", chain->stage_count);
}

/* Splits of all runs of stages. */
static double cube(int count) {
    return (double)count * count * count / 6;
}

ckpt_status ckpt_chain_prices_open(const ckpt_chain *chain, uint64_t budget_bytes, ckpt_chain_prices **out, ckpt_error *err) {
    const int count = chain->stage_count;
    const double work = cube(count);
    const int fair = (int)smaller(MOST_STEPS, FAIR_WORK / (work + 1));
    const int fewest = count > FEWEST_STEPS * STAGES_A_STEP ? count / STAGES_A_STEP : FEWEST_STEPS;
    const int steps = (int)smaller(fair < fewest ? fewest : fair, MOST_WORK / (work + 1));
    *out = NULL;
    if (steps < LEAST_STEPS || budget_bytes == 0 || forward_cost(chain) <= 0) return CKPT_OK;
    CKPT_TRY(open_prices(chain, budget_bytes, out, err));
    set_rooms(*out, budget_bytes);
    set_prices(*out);
    improve(*out, steps);
    return CKPT_OK;
}

void ckpt_chain_prices_close(ckpt_chain_prices *p) {
    if (!p) return;
    ckpt_pool_free(&p->pool);
    free(p);
}

ckpt_status ckpt_chain_prices_all(ckpt_chain_prices *p, uint64_t *all, ckpt_error *err) {
    *all = 0;
    if (cube(p->count) * p->count / 4 > 2.0 * MOST_WORK) return CKPT_OK;
    if (!make_tree_room(p)) return ckpt_fail(err, CKPT_NOMEM, "out of memory for a bound of %d stages", p->count);
    find_any_trees(p);
    *all = whole_cost(p, p->fixed + p->tree[tree_of(p, 0, p->count, 1)] - p->paid);
    return CKPT_OK;
}

ckpt_status ckpt_chain_lower_bound(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, uint64_t *bound,
                                   ckpt_error *err) {
    ckpt_chain_prices *best;
    uint64_t priced = 0;
    CKPT_TRY(ckpt_chain_bound_at_once(chain, budget_bytes, bound, err));
    if (*bound >= cost) return CKPT_OK;
    CKPT_TRY(ckpt_chain_prices_open(chain, budget_bytes, &best, err));
    const ckpt_status status = best ? ckpt_chain_prices_all(best, &priced, err) : CKPT_OK;
    ckpt_chain_prices_close(best);
    priced = ckpt_round_up(priced, ckpt_chain_cost_unit(chain));
    if (priced > *bound) *bound = priced;
    return status;
}
