/* Functions of memory: bytes exactly, slots by min-plus combination. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/vector.h"
#include "planner/chain/chain_table.h"

enum { PIECE = CKPT_CHAIN_PIECE }; /* slots that are combined, or passed over, together */

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}
static int larger_int(int a, int b) {
    return a > b ? a : b;
}
static int smaller_int(int a, int b) {
    return a < b ? a : b;
}

int ckpt_chain_slots_of(const ckpt_chain_tables *tables, uint64_t bytes) {
    return (int)((bytes + tables->unit_bytes - 1) / tables->unit_bytes);
}

int ckpt_chain_slots_near(const ckpt_chain_tables *tables, uint64_t bytes) {
    return (int)((bytes + tables->unit_bytes / 2) / tables->unit_bytes);
}

double ckpt_chain_fn_guess(const ckpt_chain_fn *fn, int64_t slot) {
    if (slot < fn->lo) slot = fn->lo;
    if (slot > fn->hi) slot = fn->hi;
    return fn->value[slot - fn->lo];
}

static double no_cost;
static uint32_t no_split = CKPT_CHAIN_NO_SPLIT;
static const ckpt_chain_fn nothing = {
    .value = &no_cost, .last = &no_cost, .best = &no_split};

static const ckpt_chain_fn never = {.least_bytes = CKPT_CHAIN_NEVER, .most_bytes = CKPT_CHAIN_NEVER, .floor_cost = CKPT_CHAIN_NEVER};

const ckpt_chain_fn *ckpt_chain_find_fn(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref,
                                        ckpt_chain_fn *scratch) {
    if (ref->type == CKPT_FN_NONE) return &nothing;
    if (ref->type == CKPT_FN_BACKWARD) {
        const ckpt_chain_option *option = &tables->chain->stage[ref->s].option[ref->option];
        const uint64_t bytes = option->backward_bytes[ref->has_output][ref->dies];
        const uint64_t cost = option->recompute_cost[ref->has_output];
        scratch->least_bytes = scratch->most_bytes = bytes;
        scratch->floor_cost = cost;
        scratch->only = (double)cost;
        scratch->value = scratch->last = &scratch->only;
        scratch->best = &scratch->only_best;
        scratch->only_best = CKPT_CHAIN_NO_SPLIT;
        scratch->lo = scratch->hi = tables->unit_bytes ? ckpt_chain_slots_of(tables, bytes) : 0;
        return scratch;
    }
    int d = ref->dies && tables->gains[ref->s];
    if (ref->type == CKPT_FN_G) return &tables->g[d][ref->s];
    const ckpt_chain_pair *pair = tables->pair[(size_t)ref->s * (size_t)(tables->count + 1) + (size_t)ref->t];
    if (!pair || !pair->held) return &never; /* no split of interest leads here */
    const ckpt_chain_held *held = &pair->held[ref->option];
    if (ref->type == CKPT_FN_R) return &held->r[d];
    return ref->type == CKPT_FN_K ? &held->k[d] : &held->h[d];
}

void ckpt_chain_fn_bytes(const ckpt_chain_tables *tables, const ckpt_chain_split *split, int count,
                         ckpt_chain_fn *fn) {
    fn->least_bytes = fn->most_bytes = fn->floor_cost = UINT64_MAX;
    for (int i = 0; i < count; i++) {
        ckpt_chain_fn scratch[2];
        const ckpt_chain_fn *right = ckpt_chain_find_fn(tables, &split[i].right, &scratch[0]);
        const ckpt_chain_fn *left = ckpt_chain_find_fn(tables, &split[i].left, &scratch[1]);
        uint64_t shift = split[i].shift_bytes;
        uint64_t least = larger(larger(split[i].least_bytes, right->least_bytes + shift), left->least_bytes);
        uint64_t most = larger(larger(split[i].least_bytes, right->most_bytes + shift), left->most_bytes);
        uint64_t cost = split[i].run_cost + right->floor_cost + left->floor_cost;
        if (least < fn->least_bytes) fn->least_bytes = least;
        if (cost < fn->floor_cost || (cost == fn->floor_cost && most < fn->most_bytes)) {
            fn->floor_cost = cost;
            fn->most_bytes = most;
        }
    }
}

static void make_term(const ckpt_chain_tables *tables, const ckpt_chain_split *split, ckpt_chain_fn **backward,
                      ckpt_chain_term *out) {
    out->right = ckpt_chain_find_fn(tables, &split->right, *backward);
    *backward += out->right == *backward;
    out->left = ckpt_chain_find_fn(tables, &split->left, *backward);
    *backward += out->left == *backward;
    out->cost = (double)split->run_cost;
    /* What the slots take for more than it is, the way back makes use of; of what they take for less it runs out. With many
     * slots to a checkpoint it makes no difference that adds up. */
    out->shift = tables->repeated ? ckpt_chain_slots_of(tables, split->shift_bytes)
                                  : ckpt_chain_slots_near(tables, split->shift_bytes);
    int least = ckpt_chain_slots_of(tables, split->least_bytes);
    out->lo = larger_int(larger_int(least, out->right->lo + out->shift), out->left->lo);
    out->hi = larger_int(larger_int(least, out->right->hi + out->shift), out->left->hi);
}

static inline double smaller_value(double a, double b) {
    return a < b ? a : b;
}

/* best: or NULL where nobody asks. */
static inline void lower_by_sum(double *restrict out, uint32_t *restrict best, uint32_t split, double cost,
                                const double *restrict a, const double *restrict b, int count) {
    for (int i = 0; i < count && best; i++) best[i] = cost + a[i] + b[i] < out[i] ? split : best[i];
    for (int i = 0; i < count; i++) out[i] = smaller_value(cost + a[i] + b[i], out[i]);
}

static inline void lower_by(double *restrict out, uint32_t *restrict best, uint32_t split, double cost, const double *restrict a,
                            int count) {
    for (int i = 0; i < count && best; i++) best[i] = cost + a[i] < out[i] ? split : best[i];
    for (int i = 0; i < count; i++) out[i] = smaller_value(cost + a[i], out[i]);
}

static inline void lower_to(double *restrict out, uint32_t *restrict best, uint32_t split, double cost, int count) {
    for (int i = 0; i < count && best; i++) best[i] = cost < out[i] ? split : best[i];
    for (int i = 0; i < count; i++) out[i] = smaller_value(cost, out[i]);
}

void ckpt_chain_make_terms(const ckpt_chain_tables *tables, const ckpt_chain_split *split, int count, ckpt_chain_term *term) {
    ckpt_chain_fn *backward = tables->backward;
    for (int i = 0; i < count; i++) make_term(tables, &split[i], &backward, &term[i]);
}

double ckpt_chain_term_at(const ckpt_chain_term *t, int slot) {
    return t->cost + ckpt_chain_fn_guess(t->right, (int64_t)slot - t->shift) + ckpt_chain_fn_guess(t->left, slot);
}

/* Slots [from, to) of fn, in all of which right and left either vary or are constant. */
static inline void lower_range(const ckpt_chain_term *t, ckpt_chain_fn *fn, uint32_t split, int from, int to) {
    const bool right_varies = from - t->shift < t->right->hi, left_varies = from < t->left->hi;
    double *out = fn->value + (from - fn->lo);
    uint32_t *best = fn->best ? fn->best + (from - fn->lo) : NULL;
    const double *right = t->right->value + (smaller_int(from - t->shift, t->right->hi) - t->right->lo);
    const double *left = t->left->value + (smaller_int(from, t->left->hi) - t->left->lo);
    if (right_varies && left_varies)
        lower_by_sum(out, best, split, t->cost, right, left, to - from);
    else if (right_varies)
        lower_by(out, best, split, t->cost + *left, right, to - from);
    else if (left_varies)
        lower_by(out, best, split, t->cost + *right, left, to - from);
    else
        lower_to(out, best, split, t->cost + *right + *left, to - from);
}

/* In slots [from, to): up to where right and left become constant, and from there. */
static inline void lower(const ckpt_chain_term *t, ckpt_chain_fn *fn, uint32_t split, int from, int to) {
    const int right_turn = t->right->hi + t->shift, left_turn = t->left->hi;
    const int turn[3] = {smaller_int(right_turn, left_turn), larger_int(right_turn, left_turn), to};
    from = larger_int(from, t->lo);
    for (int i = 0; i < 3; i++) {
        const int end = smaller_int(turn[i], to);
        if (end <= from) continue;
        lower_range(t, fn, split, from, end);
        from = end;
    }
}

/* Whether any of so many sums is below first[i]: as a whole number, so that it vectorises. */
static inline bool any_sum_below(double cost, const double *restrict a, const double *restrict b, const double *restrict first,
                                 int count) {
    int64_t any = 0;
    for (int i = 0; i < count; i++) any |= cost + a[i] + b[i] < first[i] ? 1 : 0;
    return any;
}

static inline bool any_below(double cost, const double *restrict a, const double *restrict first, int count) {
    int64_t any = 0;
    for (int i = 0; i < count; i++) any |= cost + a[i] < first[i] ? 1 : 0;
    return any;
}

/* Slots [from, to) of fn, by pieces: where even the last of a piece's values undercuts the first one there. first[0]: that of
 * fn's first piece. */
CKPT_VECTOR static void lower_pieces(const ckpt_chain_term *t, ckpt_chain_fn *fn, double *first, uint32_t split, int from, int to) {
    enum { TOGETHER = 16, FEW = 6 };
    from = larger_int(from, t->lo);
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
        count = smaller_int(TOGETHER, end - piece);
        if (right_varies) count = smaller_int(count, right_end - piece);
        if (left_varies) count = smaller_int(count, left_end - piece);
        const bool both = right_varies && left_varies, any = right_varies || left_varies;
        if (count >= FEW && any &&
            !(both ? any_sum_below(cost, right, left, here, count) : any_below(cost, right_varies ? right : left, here, count)))
            continue;
        for (int j = 0, k; j < count; j = k + 1) { /* those that lie side by side at once */
            k = j;
            while (k < count && cost + (right_varies ? right[k] : 0) + (left_varies ? left[k] : 0) < here[k]) k++;
            if (k == j) continue;
            lower(t, fn, split, larger_int(from, (piece + j) * PIECE), smaller_int(to, (piece + k) * PIECE));
            for (int i = j; i < k; i++)
                here[i] = smaller_value(fn->value[larger_int((piece + i) * PIECE, fn->lo) - fn->lo], here[i]);
        }
    }
}

/* By tables->term[0, count), at least lo and at most hi. */
static void set_range(const ckpt_chain_tables *tables, int count, int lo, int hi, ckpt_chain_fn *fn) {
    double cheapest = HUGE_VAL;
    fn->lo = fn->hi = INT32_MAX;
    for (int i = 0; i < count; i++) {
        const ckpt_chain_term *t = &tables->term[i];
        const double cost = ckpt_chain_term_at(t, INT32_MAX);
        fn->lo = smaller_int(fn->lo, t->lo);
        if (cost < cheapest || (cost <= cheapest && t->hi < fn->hi)) {
            cheapest = cost;
            fn->hi = t->hi;
        }
    }
    fn->lo = larger_int(fn->lo, lo);
    fn->hi = larger_int(smaller_int(fn->hi, hi), fn->lo);
}

/* Nothing that costs more than `most` is of interest. */
static void start(ckpt_chain_tables *tables, double most, ckpt_chain_fn *fn) {
    for (int i = 0; i <= fn->hi - fn->lo; i++) {
        fn->value[i] = HUGE_VAL;
        if (fn->best) fn->best[i] = CKPT_CHAIN_NO_SPLIT;
    }
    most = smaller_value(most * (1 + 1e-12), DBL_MAX);
    for (int i = 0; i <= fn->hi / PIECE - fn->lo / PIECE; i++) tables->first[i] = most;
}

static bool make_room(ckpt_chain_tables *tables, ckpt_chain_fn *fn) {
    const int slots = fn->hi - fn->lo + 1;
    fn->value = slots == 1 ? &fn->only : ckpt_pool_array(&tables->pool, slots, double);
    fn->best = slots == 1 ? &fn->only_best : ckpt_pool_array(&tables->pool, slots, uint32_t);
    return fn->value && fn->best;
}

void ckpt_chain_set_last(ckpt_chain_fn *fn) {
    const int from = fn->lo / PIECE, to = fn->hi / PIECE;
    for (int i = from; i <= to; i++) fn->last[i - from] = fn->value[smaller_int((i + 1) * PIECE - 1, fn->hi) - fn->lo];
}

static bool add_last(ckpt_chain_tables *tables, ckpt_chain_fn *fn) {
    const int from = fn->lo / PIECE, to = fn->hi / PIECE;
    fn->last = from == to ? &fn->value[fn->hi - fn->lo] : ckpt_pool_array(&tables->pool, to - from + 1, double);
    if (fn->last && from < to) ckpt_chain_set_last(fn);
    return fn->last != NULL;
}

static int most_slots(const ckpt_chain_tables *tables) {
    return (int)(tables->cap_bytes / tables->unit_bytes) + 1;
}

bool ckpt_chain_fn_slots(ckpt_chain_tables *tables, const ckpt_chain_ref *ref, const ckpt_chain_window *window,
                         const ckpt_chain_split *split, int count, ckpt_chain_fn *fn) {
    ckpt_chain_make_terms(tables, split, count, tables->term);
    set_range(tables, count, 0, most_slots(tables), fn);
    if (!make_room(tables, fn)) return false;
    start(tables, DBL_MAX, fn);
    for (int i = 0; i < count; i++) {
        const int j = split[i].run_to - ref->s;
        const bool keeps = j >= 0 && split[i].run_to < ref->t, windowed = window && keeps;
        lower_pieces(&tables->term[i], fn, tables->first, keeps ? (uint32_t)j : CKPT_CHAIN_NO_SPLIT,
                     windowed ? window[j].from : fn->lo, smaller_int(windowed ? window[j].to : INT32_MAX, fn->hi + 1));
    }
    /* A window that ends leaves what more memory than needed is worth, too. */
    for (int i = 1; i <= fn->hi - fn->lo && window; i++)
        if (fn->value[i] > fn->value[i - 1]) {
            fn->value[i] = fn->value[i - 1];
            fn->best[i] = fn->best[i - 1];
        }
    return add_last(tables, fn);
}

static double cost_at(const ckpt_chain_fn *fn, int slot) {
    return slot < fn->lo ? HUGE_VAL : ckpt_chain_fn_guess(fn, slot);
}

/* Whether a never costs more than b. */
static bool is_below(const ckpt_chain_fn *a, const ckpt_chain_fn *b) {
    const int hi = larger_int(a->hi, b->hi);
    for (int m = b->lo; m <= hi; m++)
        if (cost_at(a, m) > cost_at(b, m)) return false;
    return true;
}

static void use_slots(const ckpt_chain_fn *from, ckpt_chain_fn *fn) {
    fn->lo = from->lo;
    fn->hi = from->hi;
    fn->only = from->only;
    fn->value = from->value == &from->only ? &fn->only : from->value;
    fn->last = from->last == &from->only ? &fn->only : from->last;
}

bool ckpt_chain_fn_either(ckpt_chain_tables *tables, const ckpt_chain_fn *a, const ckpt_chain_fn *b,
                          ckpt_chain_fn *fn) {
    const ckpt_chain_fn *cheap = a->floor_cost < b->floor_cost ? a : b;
    if (a->floor_cost == b->floor_cost && a->most_bytes < b->most_bytes) cheap = a;
    fn->least_bytes = a->least_bytes < b->least_bytes ? a->least_bytes : b->least_bytes;
    fn->floor_cost = cheap->floor_cost;
    fn->most_bytes = cheap->most_bytes;
    if (!tables->unit_bytes) return true;
    if (is_below(a, b) || is_below(b, a)) { /* one array serves both */
        use_slots(is_below(a, b) ? a : b, fn);
        return true;
    }
    const double best_a = a->value[a->hi - a->lo], best_b = b->value[b->hi - b->lo];
    fn->lo = smaller_int(a->lo, b->lo);
    fn->hi = best_a < best_b ? a->hi : best_b < best_a ? b->hi : smaller_int(a->hi, b->hi);
    if (fn->hi < fn->lo) fn->hi = fn->lo;
    fn->value = ckpt_pool_array(&tables->pool, fn->hi - fn->lo + 1, double);
    if (!fn->value) return false;
    for (int m = fn->lo; m <= fn->hi; m++) {
        const double cost_a = cost_at(a, m), cost_b = cost_at(b, m);
        fn->value[m - fn->lo] = cost_a < cost_b ? cost_a : cost_b;
    }
    return add_last(tables, fn);
}
