/* Dynamic programming over a chain of stages: the cheapest schedule for every number of bytes.
 *
 * Rematerialization on a chain. x_i is the output of stage i, and also what the stages after it start from when they run again:
 *
 *          x_{s-1}    run 1: forward     x_j      run 2: forward      x_t
 *             o------>[s]--- ... -->[j]---o--->[j+1]--- ... -->[t]-----o     first x_j is made and kept
 *             o<------(s)<-- ... ---(j)<--o<---(j+1)<-- ... ---(t)<----o     then stages t..j+1 run backward, beside x_j,
 *              left: stages s..j            right: stages j+1..t             then stages j..s, with all of the memory
 *
 * Each stage thus has two runs: a forward run, which may be repeated, and one backward run, which reads the stage's input. For
 * stages s..t and m bytes beyond x_{s-1}, the state says what is present besides x_{s-1}:
 *
 *   G(s, L, m)  nothing of them has run yet (the first pass),
 *   R(s, t, m)  the gradient of x_t is present, x_t is not,
 *   K(s, t, m)  both are present,
 *   H(s, t, m)  = min(K, R): x_t may be evicted early.
 *
 * The recurrence takes the cheapest of all first checkpoints j (split.c):
 *
 *   F(s, t, m) = min over j of  cost(s..j) + F(j+1, t, m - bytes(x_j)) + H(s, j, m),   run s..j within m,
 *
 * or runs through to x_t without a checkpoint, or, for s = t, the backward. R, K and H come in one version per mode of stage t
 * (which saved activations are present). If the backward of t has an early part, R also comes with that part done: x_t and the saved
 * activations are then released while x_{t-1} is recomputed. All come in two versions by whether x_{s-1} may die in the
 * backward of s, which happens last.
 *
 * The result is optimal among memory-persistent schedules: a checkpoint, once kept, stays until the backward that reads it, or
 * is evicted early by H. Against all schedules of random chains of up to 7 stages the cost is optimal at 97 % of the budgets, and the
 * smallest feasible budget is exact but for a few chains in 10,000 whose backward does not read every output. The model is
 * Griewank and Walther's Revolve (ACM TOMS 26(1), 2000), with sizes, transients and modes per stage as in Beaumont et al., "Optimal
 * checkpointing for heterogeneous chains" (Inria RR-9302, 2019). Early eviction is not in theirs.
 *
 * Memory is counted in slots. Byte figures (the least bytes of a function, its minimal cost and from when on it is reached) are
 * exact, and traceback (trace.c) checks every split by the byte. Rounding therefore costs optimality but never feasibility.
 * Several tables with smaller slots for smaller budgets keep that loss small. Equal runs of stages share one function, so blocks
 * that repeat have about as many functions per stage as a block has stages.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "base/vector.h"
#include "planner/chain/chain_table.h"

enum { PIECE = CKPT_CHAIN_PIECE };

static const uint32_t no_split = CKPT_CHAIN_NO_SPLIT;
static double no_cost;
static const ckpt_chain_values nothing = {.value = &no_cost, .last = &no_cost, .best = (uint32_t *)&no_split};

static const ckpt_chain_option *option_of(const ckpt_chain_shape *shape, const ckpt_chain_ref *ref) {
    return &shape->chain->stage[ref->s].option[ref->option];
}

static int slots_of(uint64_t bytes, uint64_t unit_bytes) {
    return (int)((bytes + unit_bytes - 1) / unit_bytes);
}

ckpt_chain_figures ckpt_chain_figures_of(const ckpt_chain_tables *tables, const ckpt_chain_level *level, const ckpt_chain_ref *ref) {
    const ckpt_chain_shape *shape = &tables->shape;
    if (ref->type == CKPT_FN_NONE) return (ckpt_chain_figures){0};
    if (ref->type == CKPT_FN_G) return level->g_figures[ckpt_chain_first_of(shape, ref)];
    if (ref->type != CKPT_FN_BACKWARD) return tables->figures[ckpt_chain_function_of(shape, ref)];
    const uint64_t bytes = option_of(shape, ref)->backward_bytes[ref->has_output][ref->dies];
    return (ckpt_chain_figures){bytes, bytes, option_of(shape, ref)->recompute_cost[ref->has_output]};
}

const ckpt_chain_values *ckpt_chain_values_of(const ckpt_chain_tables *tables, const ckpt_chain_level *level,
                                              const ckpt_chain_ref *ref, ckpt_chain_single *single) {
    const ckpt_chain_shape *shape = &tables->shape;
    if (ref->type == CKPT_FN_NONE) return &nothing;
    if (ref->type == CKPT_FN_BACKWARD) {
        const int slot = slots_of(option_of(shape, ref)->backward_bytes[ref->has_output][ref->dies], level->unit_bytes);
        single->cost = (double)option_of(shape, ref)->recompute_cost[ref->has_output];
        single->best = CKPT_CHAIN_NO_SPLIT;
        single->values = (ckpt_chain_values){slot, slot, &single->cost, &single->cost, &single->best};
        return &single->values;
    }
    const ckpt_chain_values *values = ref->type == CKPT_FN_G ? &level->g[ckpt_chain_first_of(shape, ref)]
                                                             : &level->values[ckpt_chain_function_of(shape, ref)];
    return values->value ? values : NULL;
}

/* ---- The chain's shape ---- */

ckpt_status ckpt_chain_count_runs(const ckpt_chain *chain, uint64_t *runs, ckpt_error *err) {
    const int count = chain->stage_count;
    ckpt_pool scratch = {0};
    /* same[b]: how far the runs from a and from b agree; most[b]: the longest of these over all a < b. */
    int *same = ckpt_pool_array(&scratch, count + 2, int), *most = ckpt_pool_array(&scratch, count + 2, int);
    for (int a = count; a >= 1 && same && most; a--)
        for (int b = a + 1; b <= count; b++) { /* same[b + 1] is still that of a + 1 */
            same[b] = chain->stage[a].kind == chain->stage[b].kind ? same[b + 1] + 1 : 0;
            if (same[b] > most[b]) most[b] = same[b];
        }
    *runs = 0;
    for (int s = 1; s <= count && most; s++) *runs += (uint64_t)(count - s + 1 - most[s]);
    const bool ok = same && most;
    ckpt_pool_free(&scratch);
    return ok ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of memory for a chain of %d stages", count);
}

/* Numbers the runs s..t from the first that no earlier run equals; adds the splits of all functions to *unshared. */
static void number_runs(ckpt_chain_shape *shape, int s, int covered, uint64_t *unshared) {
    const ckpt_chain_stage *stage = shape->chain->stage;
    uint64_t ways = 0; /* to keep something of stages s..t */
    for (int t = s; t <= shape->count; t++) {
        const uint64_t options = (uint64_t)stage[t].option_count;
        ways += options;
        *unshared += ways * options;
        if (t < s + covered) continue;
        shape->run[(size_t)s * (size_t)(shape->count + 1) + (size_t)t] = shape->run_count;
        shape->function[shape->run_count++] = shape->function_count;
        shape->function_count += 2 * CKPT_FN_TYPES * (uint32_t)ckpt_chain_options(&stage[t]);
        shape->functions += (3 * options + stage[t].early) << shape->gains[s];
        shape->splits += ways * options;
    }
}

/* Equal runs get the number of the leftmost one. same[a][b]: how far the runs from a and b agree, computed from the right. */
static bool share_runs(ckpt_chain_shape *shape, ckpt_pool *pool) {
    const size_t count = (size_t)shape->count, side = count + 2;
    const ckpt_chain_stage *stage = shape->chain->stage;
    uint16_t *same = calloc(side * side, sizeof *same);
    uint64_t unshared = 0;
    shape->run = ckpt_pool_array(pool, (count + 1) * (count + 1), uint32_t);
    shape->function = ckpt_pool_array(pool, count * (count + 1) / 2 + 1, uint32_t);
    const bool ok = same && shape->run && shape->function;
    for (size_t a = count; a >= 1 && ok; a--)
        for (size_t b = count; b > a; b--)
            if (stage[a].kind == stage[b].kind) same[a * side + b] = (uint16_t)(same[(a + 1) * side + b + 1] + 1);
    for (size_t s = 1; s <= count && ok; s++) {
        size_t covered = 0;
        for (size_t first = 1; first < s && s + covered <= count; first++)
            for (const size_t agree = same[first * side + s]; covered < agree; covered++)
                shape->run[s * (count + 1) + s + covered] = shape->run[first * (count + 1) + first + covered];
        number_runs(shape, (int)s, (int)covered, &unshared);
    }
    free(same);
    shape->repeated = 4 * shape->splits <= unshared;
    return ok;
}

static bool add_up_runs(ckpt_chain_shape *shape, ckpt_pool *pool) {
    const int count = shape->count;
    const ckpt_chain_stage *stage = shape->chain->stage;
    for (int i = 0; i < CKPT_CHAIN_DOUBLINGS && (i == 0 || 1 << i <= count); i++) {
        uint64_t *peak = shape->peak[i] = ckpt_pool_array(pool, count + 1, uint64_t);
        if (!peak) return false;
        for (int k = 1; k + (1 << i) - 1 <= count; k++)
            peak[k] = i == 0 ? stage[k].option[0].forward_bytes[1]
                             : ckpt_max_u64(shape->peak[i - 1][k], shape->peak[i - 1][k + (1 << (i - 1))]);
    }
    shape->cost = ckpt_pool_array(pool, count + 1, uint64_t);
    for (int k = 1; k <= count && shape->cost; k++) shape->cost[k] = shape->cost[k - 1] + stage[k].forward_cost;
    return shape->cost != NULL;
}

static bool find_shape(const ckpt_chain *chain, ckpt_pool *pool, ckpt_chain_shape *shape) {
    const int count = chain->stage_count;
    const ckpt_chain_stage *last = &chain->stage[count];
    *shape = (ckpt_chain_shape){.chain = chain, .count = count, .loss_is_light = last->out_bytes == 0 && last->gradient_bytes == 0};
    shape->gains = ckpt_pool_array(pool, count + 2, bool);
    if (!shape->gains) return false;
    for (int k = 1; k <= count; k++)
        for (int o = 0; o < ckpt_chain_options(&chain->stage[k]); o++)
            for (int has = 0; has < 2; has++) {
                const uint64_t *bytes = chain->stage[k].option[o].backward_bytes[has];
                shape->gains[k] |= bytes[0] != bytes[1];
            }
    return add_up_runs(shape, pool) && share_runs(shape, pool);
}

/* ---- All functions, in an order in which each comes after those that its splits lead to ---- */

typedef struct fill_pass {
    ckpt_chain_tables *tables;
    ckpt_chain_level *level;
    bool (*fill)(const struct fill_pass *pass, const ckpt_chain_ref *ref);
} fill_pass;

/* The early part's R first; then K: R may run through to x_t and go on as K. Option 0 first: saved activations may be evicted. */
static bool visit_run(const fill_pass *pass, int s, int t) {
    const ckpt_chain_shape *shape = &pass->tables->shape;
    const ckpt_chain_stage *last = &shape->chain->stage[t];
    for (int d = 0; d <= shape->gains[s]; d++) {
        ckpt_chain_ref ref = {.type = CKPT_FN_R, .s = s, .t = t, .dies = d, .option = last->option_count};
        if (last->early && !pass->fill(pass, &ref)) return false;
        static const ckpt_fn_type order[] = {CKPT_FN_K, CKPT_FN_R, CKPT_FN_H};
        for (int i = 0; i < 3; i++)
            for (ref.type = order[i], ref.option = 0; ref.option < last->option_count; ref.option++)
                if ((last->needs_output || ref.type == CKPT_FN_R) && !pass->fill(pass, &ref)) return false;
    }
    return true;
}

static bool is_wanted(const fill_pass *pass, int s, int t) {
    const ckpt_chain_tables *tables = pass->tables;
    if (t == tables->shape.count && tables->shape.loss_is_light) return false;
    if (pass->level->scope != CKPT_SCOPE_CANDIDATES || s == t) return true;
    const uint64_t *bits = &tables->candidates.bits[ckpt_chain_run_of(&tables->shape, s, t) * tables->candidates.words];
    for (size_t w = 0; w < tables->candidates.words; w++)
        if (bits[w]) return true;
    return false;
}

static bool visit_first(const fill_pass *pass) {
    const ckpt_chain_shape *shape = &pass->tables->shape;
    for (int s = shape->count; s >= 1; s--)
        for (int d = 0; d <= shape->gains[s]; d++)
            if (!pass->fill(pass, &(ckpt_chain_ref){.type = CKPT_FN_G, .s = s, .t = shape->count, .dies = d})) return false;
    return true;
}

static bool visit_all(const fill_pass *pass) {
    const ckpt_chain_shape *shape = &pass->tables->shape;
    bool *done = calloc((size_t)shape->run_count + 1, sizeof *done), ok = done;
    for (int t = 1; t <= shape->count && ok; t++)
        for (int s = t; s >= 1 && t - s < pass->level->longest && ok; s--) {
            bool *run = &done[ckpt_chain_run_of(shape, s, t)];
            if (*run || !is_wanted(pass, s, t)) continue;
            *run = true;
            ok = visit_run(pass, s, t);
        }
    free(done);
    return ok && visit_first(pass);
}

/* ---- Byte figures ---- */

static bool fill_figures(const fill_pass *pass, const ckpt_chain_ref *ref) {
    ckpt_chain_tables *tables = pass->tables;
    ckpt_chain_split *split = tables->scratch.split;
    ckpt_chain_figures best = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
    const int count = ckpt_chain_list_splits(&tables->shape, ref, ckpt_chain_range_all(ref, pass->level->longest), split);
    for (int i = 0; i < count; i++) {
        const ckpt_chain_figures right = ckpt_chain_figures_of(tables, pass->level, &split[i].right);
        const ckpt_chain_figures left = ckpt_chain_figures_of(tables, pass->level, &split[i].left);
        const uint64_t shift = split[i].shift_bytes, own = split[i].least_bytes;
        const uint64_t most = ckpt_max_u64(ckpt_max_u64(own, right.most + shift), left.most);
        const uint64_t cost = split[i].run_cost + right.floor_cost + left.floor_cost;
        best.least = ckpt_min_u64(best.least, ckpt_max_u64(ckpt_max_u64(own, right.least + shift), left.least));
        if (cost > best.floor_cost || (cost == best.floor_cost && most >= best.most)) continue;
        best.floor_cost = cost;
        best.most = most;
    }
    if (ref->type == CKPT_FN_G) pass->level->g_figures[ckpt_chain_first_of(&tables->shape, ref)] = best;
    else tables->figures[ckpt_chain_function_of(&tables->shape, ref)] = best;
    return true;
}

static bool open_level(ckpt_chain_tables *tables, ckpt_chain_level *level) {
    const size_t count = (size_t)tables->shape.count;
    level->longest = tables->shape.count;
    level->g_figures = ckpt_pool_array(&tables->pool, 2 * count + 2, ckpt_chain_figures);
    return level->g_figures != NULL;
}

/* ---- Values by slots: the minimum over splits of sums of two step functions ---- */

static int larger(int a, int b) {
    return a > b ? a : b;
}
static int smaller(int a, int b) {
    return a < b ? a : b;
}

/* A held size is rounded up where blocks repeat: what that wastes traceback recovers, while rounding down adds up to memory that
 * is not there. Between arbitrary sizes rounding to the nearest cancels out. */
static int shift_of(const ckpt_chain_tables *tables, const ckpt_chain_level *level, uint64_t bytes) {
    return tables->shape.repeated ? slots_of(bytes, level->unit_bytes) : (int)((bytes + level->unit_bytes / 2) / level->unit_bytes);
}

/* The splits in slots, without those that lead to functions that are not filled. */
static int make_terms(const ckpt_chain_tables *tables, const ckpt_chain_level *level, int count) {
    const ckpt_chain_scratch *scratch = &tables->scratch;
    ckpt_chain_single *backward = scratch->backward;
    int kept = 0;
    for (int i = 0; i < count; i++) {
        const ckpt_chain_split *split = &scratch->split[i];
        ckpt_chain_term *term = &scratch->term[kept];
        term->right = ckpt_chain_values_of(tables, level, &split->right, backward);
        backward += split->right.type == CKPT_FN_BACKWARD;
        term->left = ckpt_chain_values_of(tables, level, &split->left, backward);
        backward += split->left.type == CKPT_FN_BACKWARD;
        if (!term->right || !term->left) continue;
        const int least = slots_of(split->least_bytes, level->unit_bytes);
        term->cost = (double)split->run_cost;
        term->shift = shift_of(tables, level, split->shift_bytes);
        term->lo = larger(larger(least, term->right->lo + term->shift), term->left->lo);
        term->hi = larger(larger(least, term->right->hi + term->shift), term->left->hi);
        if (kept < i) scratch->split[kept] = *split;
        kept++;
    }
    return kept;
}

static inline double smaller_value(double a, double b) {
    return a < b ? a : b;
}

static inline void lower_by_sum(double *restrict out, uint32_t *restrict best, uint32_t split, double cost,
                                const double *restrict a, const double *restrict b, int count) {
    for (int i = 0; i < count; i++) best[i] = cost + a[i] + b[i] < out[i] ? split : best[i];
    for (int i = 0; i < count; i++) out[i] = smaller_value(cost + a[i] + b[i], out[i]);
}

static inline void lower_by(double *restrict out, uint32_t *restrict best, uint32_t split, double cost, const double *restrict a,
                            int count) {
    for (int i = 0; i < count; i++) best[i] = cost + a[i] < out[i] ? split : best[i];
    for (int i = 0; i < count; i++) out[i] = smaller_value(cost + a[i], out[i]);
}

static inline void lower_to(double *restrict out, uint32_t *restrict best, uint32_t split, double cost, int count) {
    for (int i = 0; i < count; i++) best[i] = cost < out[i] ? split : best[i];
    for (int i = 0; i < count; i++) out[i] = smaller_value(cost, out[i]);
}

/* Slots [from, to), in which right and left either vary or are constant. */
static inline void lower_range(const ckpt_chain_term *t, const ckpt_chain_values *fn, uint32_t split, int from, int to) {
    const bool right_varies = from - t->shift < t->right->hi, left_varies = from < t->left->hi;
    double *out = fn->value + (from - fn->lo);
    uint32_t *best = fn->best + (from - fn->lo);
    const double *right = t->right->value + (smaller(from - t->shift, t->right->hi) - t->right->lo);
    const double *left = t->left->value + (smaller(from, t->left->hi) - t->left->lo);
    if (right_varies && left_varies)
        lower_by_sum(out, best, split, t->cost, right, left, to - from);
    else if (right_varies)
        lower_by(out, best, split, t->cost + *left, right, to - from);
    else if (left_varies)
        lower_by(out, best, split, t->cost + *right, left, to - from);
    else
        lower_to(out, best, split, t->cost + *right + *left, to - from);
}

/* Slots [from, to): up to where right and left become constant, and from there. */
static inline void lower(const ckpt_chain_term *t, const ckpt_chain_values *fn, uint32_t split, int from, int to) {
    const int right_turn = t->right->hi + t->shift, left_turn = t->left->hi;
    const int turn[3] = {smaller(right_turn, left_turn), larger(right_turn, left_turn), to};
    from = larger(from, t->lo);
    for (int i = 0; i < 3; i++) {
        const int end = smaller(turn[i], to);
        if (end <= from) continue;
        lower_range(t, fn, split, from, end);
        from = end;
    }
}

/* Whether any sum is below first[i]: in whole numbers, so that it vectorises. */
static inline bool any_below(double cost, const double *restrict a, const double *restrict b, const double *restrict first, int count) {
    int64_t any = 0;
    if (a && b)
        for (int i = 0; i < count; i++) any |= cost + a[i] + b[i] < first[i] ? 1 : 0;
    else
        for (int i = 0; i < count; i++) any |= cost + (a ? a : b)[i] < first[i] ? 1 : 0;
    return any;
}

/* Slots [from, to) by pieces: a term is passed over where its last value in a piece, its least, is no less than the function's
 * first value there, its greatest. first[0] is that of fn's first piece. */
CKPT_VECTOR static void lower_pieces(const ckpt_chain_term *t, const ckpt_chain_values *fn, double *first, uint32_t split, int from, int to) {
    enum { TOGETHER = 16, FEW = 6 };
    from = larger(from, t->lo);
    if (from >= to) return;
    const int base = fn->lo / PIECE, behind = t->shift / PIECE, end = (to - 1) / PIECE + 1;
    const int right_end = t->right->hi / PIECE + behind, left_end = t->left->hi / PIECE;
    const int right_first = t->right->lo / PIECE + behind, left_first = t->left->lo / PIECE;
    for (int piece = from / PIECE, count; piece < end; piece += count) {
        const bool right_varies = piece < right_end, left_varies = piece < left_end;
        const double *right = t->right->last + ((right_varies ? piece : right_end) - right_first);
        const double *left = t->left->last + ((left_varies ? piece : left_end) - left_first);
        const double cost = t->cost + (right_varies ? 0 : *right) + (left_varies ? 0 : *left);
        double *here = first + (piece - base);
        count = smaller(TOGETHER, end - piece);
        if (right_varies) count = smaller(count, right_end - piece);
        if (left_varies) count = smaller(count, left_end - piece);
        if (count >= FEW && (right_varies || left_varies) &&
            !any_below(cost, right_varies ? right : NULL, left_varies ? left : NULL, here, count))
            continue;
        for (int j = 0, k; j < count; j = k + 1) { /* adjacent pieces together */
            k = j;
            while (k < count && cost + (right_varies ? right[k] : 0) + (left_varies ? left[k] : 0) < here[k]) k++;
            if (k == j) continue;
            lower(t, fn, split, larger(from, (piece + j) * PIECE), smaller(to, (piece + k) * PIECE));
            for (int i = j; i < k; i++) here[i] = smaller_value(fn->value[larger((piece + i) * PIECE, fn->lo) - fn->lo], here[i]);
        }
    }
}

/* fn->lo and fn->hi from the terms, up to `cap` slots. */
static void set_range(const ckpt_chain_term *term, int count, int cap, ckpt_chain_values *fn) {
    double cheapest = HUGE_VAL;
    fn->lo = fn->hi = INT32_MAX;
    for (int i = 0; i < count; i++) {
        const double cost = term[i].cost + ckpt_chain_value_at(term[i].right, INT32_MAX) + ckpt_chain_value_at(term[i].left, INT32_MAX);
        fn->lo = smaller(fn->lo, term[i].lo);
        if (cost < cheapest || (cost <= cheapest && term[i].hi < fn->hi)) {
            cheapest = cost;
            fn->hi = term[i].hi;
        }
    }
    fn->hi = larger(smaller(fn->hi, cap), fn->lo);
}

static void set_last(ckpt_chain_values *fn) {
    const int from = fn->lo / PIECE, to = fn->hi / PIECE;
    for (int i = from; i <= to; i++) fn->last[i - from] = fn->value[smaller((i + 1) * PIECE - 1, fn->hi) - fn->lo];
}

static bool allocate(ckpt_chain_tables *tables, ckpt_chain_values *fn) {
    const int slots = fn->hi - fn->lo + 1, pieces = fn->hi / PIECE - fn->lo / PIECE + 1;
    fn->value = ckpt_pool_array(&tables->pool, slots + (pieces > 1 ? pieces : 0), double);
    fn->best = ckpt_pool_array(&tables->pool, slots, uint32_t);
    if (!fn->value || !fn->best) return false;
    fn->last = fn->value + (pieces > 1 ? slots : slots - 1);
    for (int i = 0; i < slots; i++) fn->value[i] = HUGE_VAL, fn->best[i] = CKPT_CHAIN_NO_SPLIT;
    for (int i = 0; i < pieces; i++) tables->scratch.first[i] = DBL_MAX;
    return true;
}

/* The function from the splits of `range`. */
static bool set_values(const fill_pass *pass, const ckpt_chain_ref *ref, ckpt_chain_range range, ckpt_chain_values *fn) {
    ckpt_chain_tables *tables = pass->tables;
    const ckpt_chain_level *level = pass->level;
    const ckpt_chain_scratch *scratch = &tables->scratch;
    const int count = make_terms(tables, level, ckpt_chain_list_splits(&tables->shape, ref, range, scratch->split));
    if (count == 0) return true;
    set_range(scratch->term, count, (int)(level->cap_bytes / level->unit_bytes) + 1, fn);
    if (!allocate(tables, fn)) return false;
    for (int i = 0; i < count; i++) {
        const int j = scratch->split[i].run_to - ref->s;
        const bool keeps = j >= 0 && scratch->split[i].run_to < ref->t, windowed = range.window && keeps;
        lower_pieces(&scratch->term[i], fn, scratch->first, keeps ? (uint32_t)j : CKPT_CHAIN_NO_SPLIT,
                     windowed ? range.window[j].from : fn->lo, smaller(windowed ? range.window[j].to : INT32_MAX, fn->hi + 1));
    }
    for (int i = 1; i <= fn->hi - fn->lo && range.window; i++) /* a window that ends leaves its last value valid */
        if (fn->value[i] > fn->value[i - 1]) {
            fn->value[i] = fn->value[i - 1];
            fn->best[i] = fn->best[i - 1];
        }
    set_last(fn);
    return true;
}

static double cost_at(const ckpt_chain_values *fn, int slot) {
    return slot < fn->lo ? HUGE_VAL : ckpt_chain_value_at(fn, slot);
}

/* Whether a never costs more than b. */
static bool is_below(const ckpt_chain_values *a, const ckpt_chain_values *b) {
    const int hi = larger(a->hi, b->hi);
    for (int m = b->lo; m <= hi; m++)
        if (cost_at(a, m) > cost_at(b, m)) return false;
    return true;
}

/* H from R or K alone where one is never above the other: the arrays are shared. */
static bool share_values(const fill_pass *pass, ckpt_chain_ref ref, ckpt_chain_values *h) {
    ref.type = CKPT_FN_R;
    const ckpt_chain_values *r = ckpt_chain_values_of(pass->tables, pass->level, &ref, NULL);
    ref.type = CKPT_FN_K;
    const ckpt_chain_values *k = ckpt_chain_values_of(pass->tables, pass->level, &ref, NULL);
    if (!r || !k) return false;
    if (is_below(r, k)) *h = *r;
    else if (is_below(k, r)) *h = *k;
    return h->value != NULL;
}

static bool fill_values(const fill_pass *pass, const ckpt_chain_ref *ref) {
    const ckpt_chain_shape *shape = &pass->tables->shape;
    ckpt_chain_level *level = pass->level;
    ckpt_chain_values *fn =
        ref->type == CKPT_FN_G ? &level->g[ckpt_chain_first_of(shape, ref)] : &level->values[ckpt_chain_function_of(shape, ref)];
    ckpt_chain_range range;
    if (ref->type == CKPT_FN_H && share_values(pass, *ref, fn)) return true;
    if (ckpt_chain_range_window(pass->tables, level, ref, &range)) {
        if (!set_values(pass, ref, range, fn)) return false;
        if (fn->value && fn->value[0] < HUGE_VAL) return true; /* else the window misses what fits the least memory */
    }
    return set_values(pass, ref, ckpt_chain_range_scope(pass->tables, level, ref), fn);
}

/* ---- The size of a slot ---- */

static uint64_t divisor_of(uint64_t unit, uint64_t bytes) {
    return bytes == CKPT_CHAIN_NEVER ? unit : ckpt_common_divisor(unit, bytes);
}

/* Divides every size that a schedule is made of. */
static uint64_t exact_unit(const ckpt_chain *chain) {
    uint64_t unit = 0;
    for (int k = 1; k <= chain->stage_count; k++) {
        const ckpt_chain_stage *stage = &chain->stage[k];
        unit = divisor_of(divisor_of(unit, stage->out_bytes), stage->gradient_bytes);
        for (int o = 0; o < ckpt_chain_options(stage); o++) {
            const ckpt_chain_option *option = &stage->option[o];
            unit = divisor_of(unit, option->kept_bytes);
            for (int i = 0; i < 2; i++) {
                unit = divisor_of(divisor_of(unit, option->early_bytes[i]), option->forward_bytes[i]);
                unit = divisor_of(divisor_of(unit, option->backward_bytes[i][0]), option->backward_bytes[i][1]);
            }
        }
    }
    return unit ? unit : 1;
}

/* Divides everything that is held while something else runs. */
static uint64_t held_unit(const ckpt_chain *chain) {
    uint64_t unit = 0;
    for (int k = 1; k < chain->stage_count; k++)
        for (int o = 0; o < chain->stage[k].option_count; o++)
            unit = ckpt_common_divisor(unit, chain->stage[k].out_bytes + chain->stage[k].option[o].kept_bytes);
    return unit ? unit : 1;
}

/* The size of more than half of the checkpoints, or 0: the majority vote of Boyer and Moore. */
static uint64_t usual_size(const ckpt_chain *chain) {
    uint64_t usual = 0;
    int ahead = 0, votes = 0;
    for (int k = 1; k < chain->stage_count; k++) {
        if (!ahead) usual = chain->stage[k].out_bytes;
        ahead += chain->stage[k].out_bytes == usual ? 1 : -1;
    }
    for (int k = 1; k < chain->stage_count; k++) votes += chain->stage[k].out_bytes == usual;
    return 2 * votes >= chain->stage_count - 1 ? usual : 0;
}

/* Checkpoints of one size, and how much rounding them matters. */
typedef struct sizes_of {
    uint64_t bytes, cost;
    double count, weight;
} sizes_of;

static int by_rate(const void *a, const void *b) {
    const sizes_of *x = a, *y = b;
    const double left = (double)x->cost * (double)y->bytes, right = (double)y->cost * (double)x->bytes;
    return left > right ? -1 : left < right;
}

/* With a budget the sizes that save most per byte matter, as many as fit; with 0 the small ones, which most are. Returns how many. */
static int list_sizes(const ckpt_chain *chain, uint64_t budget_bytes, sizes_of *size, int most) {
    int count = 0;
    uint64_t smallest = UINT64_MAX;
    for (int k = 1; k < chain->stage_count; k++) {
        const ckpt_chain_stage *stage = &chain->stage[k];
        int i = 0;
        while (i < count && (size[i].bytes != stage->out_bytes || size[i].cost != stage->forward_cost)) i++;
        if (stage->out_bytes == 0 || i == most) continue;
        if (i == count) size[count++] = (sizes_of){.bytes = stage->out_bytes, .cost = stage->forward_cost};
        size[i].count++;
        smallest = ckpt_min_u64(smallest, stage->out_bytes);
    }
    qsort(size, (size_t)count, sizeof *size, by_rate);
    double left = (double)budget_bytes;
    for (int i = 0; i < count; i++) {
        const double part = (double)smallest / (double)size[i].bytes, held = fmin(left / (double)size[i].bytes, size[i].count);
        size[i].weight = budget_bytes ? held : size[i].count * part * part * part;
        left -= held * (double)size[i].bytes;
    }
    return count;
}

static double lost_to_rounding(const sizes_of *size, int count, uint64_t unit) {
    double lost = 0;
    for (int i = 0; i < count; i++) lost += (double)(ckpt_round_up(size[i].bytes, unit) - size[i].bytes) * size[i].weight;
    return lost;
}

/* The unit in [least, most] for which rounding loses least: a whole part of some size; 0 if there is none, or too many sizes. */
static uint64_t best_unit(const ckpt_chain_shape *shape, uint64_t budget_bytes, uint64_t least, uint64_t most) {
    enum { MOST_SIZES = 32, MOST_PARTS = 64 };
    sizes_of size[MOST_SIZES];
    const int sizes = list_sizes(shape->chain, budget_bytes, size, MOST_SIZES);
    uint64_t best = 0;
    double best_lost = 0;
    if (sizes == MOST_SIZES && !shape->repeated) return 0;
    for (int i = 0; i < sizes; i++)
        for (uint64_t parts = size[i].bytes / least, tried = 0; parts > 0 && tried < MOST_PARTS; parts--, tried++) {
            const uint64_t unit = size[i].bytes / parts;
            if (unit > most) break;
            const double lost = lost_to_rounding(size, sizes, unit);
            if (best && lost >= best_lost) continue;
            best = unit;
            best_lost = lost;
        }
    return best;
}

/* Sets the unit for about so many slots; `elastic`: slots that lose little may be more. */
static void choose_unit(const ckpt_chain_shape *shape, ckpt_chain_level *level, uint64_t slots, bool elastic) {
    const uint64_t most = ckpt_max_u64(level->cap_bytes, 1), allowed = !elastic ? slots : shape->repeated ? 4 * slots : slots + 1024;
    uint64_t unit = exact_unit(shape->chain);
    level->unit_bytes = unit;
    level->lossless = most / unit <= slots;
    if (level->lossless) return;
    unit = held_unit(shape->chain);
    level->lossless = most / unit <= allowed;
    if (!level->lossless) unit = usual_size(shape->chain);
    if (unit > 0 && most / unit <= allowed) {
        while (unit % 2 == 0 && most / (unit / 2) <= slots) unit /= 2;
    } else {
        const uint64_t plain = most / slots + 1, budget = level->from_bytes ? ckpt_min_u64(most, 2 * level->from_bytes) : 0;
        unit = best_unit(shape, budget, plain - plain / 5, 2 * plain);
        if (unit == 0) unit = plain;
    }
    level->unit_bytes = unit;
}

/* ---- Which tables there are ----
 *
 * The work of a table is its functions times its slots, and memory is 12 bytes of each. The limits below keep a chain of 1,000
 * stages in blocks under 1.5 s and 400 MB, and 100 arbitrary stages under 0.3 s (bench/plan_times chains).
 */
enum { SPLIT_WORK = 20000000, ALL_WORK = 16000000, LIMITED_WORK = 8000000, SMALL_WORK = 2000000, CANDIDATE_WORK = 100000000 };

/* SMALL: arbitrary chains have a table of all splits up to this many times the smallest budget, if they have at most MOST_SMALL
 * functions. MANY_BLOCKS: repeated blocks of at least this many stages have tables of short runs. FINER, FINER_MANY: ratio of
 * the budgets of successive tables. */
enum { SMALL = 3, MOST_SMALL = 60000, MANY_BLOCKS = 256, FINER = 16, FINER_MANY = 4 };

/* Slots of the tables of short runs: the one for the smallest budgets, which has runs of any length, has the fewest. */
enum { FEWEST_LIMITED = 384, MOST_LIMITED = 8192 };

static uint64_t between(uint64_t low, uint64_t value, uint64_t high) {
    return ckpt_max_u64(low, ckpt_min_u64(value, high));
}

static uint64_t slots_within(const ckpt_chain_shape *shape, uint64_t work, uint64_t fewest, uint64_t most) {
    const uint64_t by_splits = between(fewest, SPLIT_WORK / (shape->splits + 1), 2048);
    return ckpt_max_u64(between(fewest, work / (shape->functions + 1), most), by_splits);
}

static uint64_t default_slots(const ckpt_chain_shape *shape) {
    return slots_within(shape, ALL_WORK, 512, shape->count > MANY_BLOCKS ? 2048 : 1024);
}

static ckpt_chain_level *add_level(ckpt_chain_tables *tables, uint64_t cap_bytes, ckpt_chain_scope scope) {
    ckpt_chain_level *level = &tables->level[tables->level_count];
    *level = (ckpt_chain_level){.cap_bytes = cap_bytes, .scope = scope};
    if (tables->level_count == CKPT_CHAIN_LEVELS || !open_level(tables, level)) return NULL;
    tables->level_count++;
    memcpy(level->g_figures, tables->g_figures, (2 * (size_t)tables->shape.count + 2) * sizeof *level->g_figures);
    return level;
}

static bool fill_level(ckpt_chain_tables *tables, ckpt_chain_level *level) {
    const uint64_t slots = level->cap_bytes / level->unit_bytes + 2;
    level->g = ckpt_pool_array(&tables->pool, 2 * (size_t)tables->shape.count + 2, ckpt_chain_values);
    level->values = ckpt_pool_array(&tables->pool, tables->shape.function_count, ckpt_chain_values);
    tables->scratch.first = ckpt_pool_array(&tables->pool, slots / PIECE + 2, double);
    return level->g && level->values && tables->scratch.first && visit_all(&(fill_pass){tables, level, fill_values});
}

/* The longest run that is worth recomputing from its first stage, about: as if all stages were equal, so that the budget holds
 * `held` of them. Of C(held + r, r) stages, run at most r times each, Revolve recomputes the first C(held + r - 1, r - 1) as one
 * run. */
static int guess_longest(const ckpt_chain_shape *shape, uint64_t budget_bytes) {
    double bytes = 1, stages = 1;
    int times = 0;
    for (int k = 1; k <= shape->count; k++) bytes += (double)shape->chain->stage[k].out_bytes;
    const double held = (double)budget_bytes * shape->count / bytes;
    while (stages < shape->count && times < shape->count) stages *= (held + times + 1) / (times + 1), times++;
    return (int)fmin(2.8 * times / (held + times) * shape->count + 16, shape->count);
}

/* Large budgets have no use for long runs, and smaller ones have tables of their own. */
static bool limit_runs(ckpt_chain_tables *tables, ckpt_chain_level *level) {
    const uint64_t below = level->cap_bytes / FINER_MANY, count = (uint64_t)tables->shape.count;
    uint64_t slots = FEWEST_LIMITED;
    if (below > tables->least_bytes) {
        level->from_bytes = below;
        level->longest = guess_longest(&tables->shape, below);
        const uint64_t functions = tables->shape.functions * (uint64_t)level->longest / count + 2 * count;
        slots = between(FEWEST_LIMITED, LIMITED_WORK / functions, MOST_LIMITED);
    }
    choose_unit(&tables->shape, level, slots, false);
    return visit_first(&(fill_pass){tables, level, fill_figures});
}

/* Repeated blocks, and chains that are too long for candidates. */
static bool add_windows(ckpt_chain_tables *tables, const ckpt_chain_limits *limits) {
    const ckpt_chain_shape *shape = &tables->shape;
    const bool many = shape->repeated && shape->count >= MANY_BLOCKS && !limits->all_splits;
    for (uint64_t cap = tables->most_bytes; cap > tables->least_bytes || tables->level_count == 0; cap /= many ? FINER_MANY : FINER) {
        ckpt_chain_level *level = add_level(tables, cap, limits->all_splits ? CKPT_SCOPE_ALL : CKPT_SCOPE_WINDOW);
        if (!level) return false;
        const uint64_t slots = limits->slots > 0 ? (uint64_t)limits->slots : default_slots(shape);
        choose_unit(shape, level, slots, limits->slots == 0 && tables->level_count == 1);
        const bool single = limits->slots > 0 || (level->lossless && tables->level_count == 1);
        if (many && !single && !limit_runs(tables, level)) return false;
        level->lossless &= single;
        if (!fill_level(tables, level)) return false;
        if (single) return true;
    }
    return true;
}

/* Arbitrary stages: all splits for small budgets, and candidate splits, with many more slots, for all. */
static ckpt_status add_candidates(ckpt_chain_tables *tables, ckpt_error *err) {
    const ckpt_chain_shape *shape = &tables->shape;
    ckpt_chain_candidates *candidates = &tables->candidates;
    bool ok = true;
    if (shape->functions <= MOST_SMALL) {
        ckpt_chain_level *level = add_level(tables, SMALL * tables->least_bytes, CKPT_SCOPE_WINDOW);
        if (level) choose_unit(shape, level, slots_within(shape, SMALL_WORK, 256, 1024), true);
        if (level) level->lossless = false; /* restricted or for few budgets: the frontier is sampled */
        ok = level && fill_level(tables, level);
    }
    candidates->words = (size_t)shape->count / 64 + 1;
    candidates->bits = ckpt_pool_array(&tables->pool, shape->run_count * candidates->words, uint64_t);
    if (!ok || !candidates->bits) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the tables of %d stages", shape->count);
    CKPT_TRY(ckpt_chain_find_candidates(shape, tables->least_bytes, tables->most_bytes, candidates, err));
    ckpt_chain_add_traced(tables);
    const uint64_t slots = between(2048, CANDIDATE_WORK / (candidates->count + 1), 4096);
    for (uint64_t cap = tables->most_bytes; cap > tables->least_bytes && ok; cap /= FINER_MANY) {
        ckpt_chain_level *level = add_level(tables, cap, CKPT_SCOPE_CANDIDATES);
        if (level) choose_unit(shape, level, slots, true);
        if (level) level->lossless = false;
        ok = level && fill_level(tables, level);
    }
    return ok ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of memory for the tables of %d stages", shape->count);
}

static bool make_scratch(ckpt_chain_tables *tables) {
    const ckpt_chain *chain = tables->shape.chain;
    int options = 1;
    for (int k = 1; k <= chain->stage_count; k++) options = larger(options, chain->stage[k].option_count);
    const int splits = 2 * (chain->stage_count + 2) * options + 8;
    tables->scratch = (ckpt_chain_scratch){.split = ckpt_pool_array(&tables->pool, splits, ckpt_chain_split),
                                           .term = ckpt_pool_array(&tables->pool, splits, ckpt_chain_term),
                                           .backward = ckpt_pool_array(&tables->pool, 2 * (options + 2), ckpt_chain_single),
                                           .window = ckpt_pool_array(&tables->pool, chain->stage_count + 1, ckpt_chain_window)};
    return tables->scratch.split && tables->scratch.term && tables->scratch.backward && tables->scratch.window;
}

/* The shape and the byte figures of all functions. */
static bool find_figures(const ckpt_chain *chain, ckpt_chain_tables *tables) {
    ckpt_chain_level all = {.scope = CKPT_SCOPE_ALL};
    if (!find_shape(chain, &tables->pool, &tables->shape) || !make_scratch(tables) || !open_level(tables, &all)) return false;
    tables->figures = ckpt_pool_array(&tables->pool, tables->shape.function_count, ckpt_chain_figures);
    tables->g_figures = all.g_figures;
    if (!tables->figures || !visit_all(&(fill_pass){tables, &all, fill_figures})) return false;
    tables->least_bytes = all.g_figures[2].least; /* of G(1, L), whose x_0 does not die */
    tables->most_bytes = all.g_figures[2].most;
    return true;
}

/* Whether one table of all splits is not enough, and few functions are shared. */
static bool needs_candidates(const ckpt_chain_tables *tables) {
    ckpt_chain_level level = {.cap_bytes = tables->most_bytes};
    choose_unit(&tables->shape, &level, default_slots(&tables->shape), true);
    return !level.lossless && !tables->shape.repeated && SMALL * tables->least_bytes < tables->most_bytes &&
           ckpt_chain_has_candidates(tables->shape.chain);
}

ckpt_status ckpt_chain_tables_build(const ckpt_chain *chain, const ckpt_chain_limits *limits, ckpt_chain_tables **out,
                                    ckpt_error *err) {
    ckpt_chain_tables *tables = *out = calloc(1, sizeof *tables);
    if (!tables) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the tables of a chain");
    ckpt_status status = CKPT_OK;
    bool ok = find_figures(chain, tables);
    const bool candidates = ok && limits->slots == 0 && !limits->all_splits && needs_candidates(tables);
    if (candidates) status = add_candidates(tables, err);
    else ok = ok && add_windows(tables, limits);
    ok = ok && (status != CKPT_OK || ckpt_chain_build_frontier(tables));
    if (!ok) status = ckpt_fail(err, CKPT_NOMEM, "out of memory for the tables of %d stages", chain->stage_count);
    if (status == CKPT_OK) return CKPT_OK;
    ckpt_chain_tables_free(tables);
    *out = NULL;
    return status;
}

void ckpt_chain_tables_free(ckpt_chain_tables *tables) {
    if (!tables) return;
    ckpt_pool_free(&tables->pool);
    free(tables);
}

uint64_t ckpt_chain_least_bytes(const ckpt_chain_tables *tables) {
    return tables->least_bytes;
}
uint64_t ckpt_chain_most_bytes(const ckpt_chain_tables *tables) {
    return tables->most_bytes;
}
