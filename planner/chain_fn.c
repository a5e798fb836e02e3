/* Functions of memory: bytes exactly, slots by min-plus combination. */
#include <math.h>

#include "base/vector.h"
#include "planner/chain_table.h"

enum { PIECE = 32 }; /* slots that are combined, or passed over, together */

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}
static int larger_int(int a, int b) {
    return a > b ? a : b;
}
static int smaller_int(int a, int b) {
    return a < b ? a : b;
}

int ckpt_chain_slots_up(const ckpt_chain_tables *tables, uint64_t bytes) {
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

static const ckpt_chain_fn never = {.least_bytes = CKPT_CHAIN_NEVER, .most_bytes = CKPT_CHAIN_NEVER, .floor_cost = CKPT_CHAIN_NEVER};

const ckpt_chain_fn *ckpt_chain_find_fn(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref,
                                        ckpt_chain_fn *scratch) {
    if (ref->type == CKPT_FN_NONE || ref->type == CKPT_FN_BACKWARD) {
        uint64_t bytes = 0, cost = 0;
        if (ref->type == CKPT_FN_BACKWARD) {
            const ckpt_chain_option *option = &tables->chain->stage[ref->s].option[ref->option];
            bytes = option->backward_bytes[ref->has_output][ref->dies];
            cost = option->recompute_cost[ref->has_output];
        }
        scratch->least_bytes = scratch->most_bytes = bytes;
        scratch->floor_cost = cost;
        scratch->corners = ckpt_corner_constant(bytes, cost, scratch->only_corner);
        scratch->only = (double)cost;
        scratch->value = &scratch->only;
        scratch->best = &scratch->only_best;
        scratch->only_best = CKPT_CHAIN_NO_SPLIT;
        scratch->lo = scratch->hi = tables->unit_bytes ? ckpt_chain_slots_up(tables, bytes) : 0;
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

static void make_term(const ckpt_chain_tables *tables, const ckpt_chain_split *split, ckpt_chain_term *out) {
    out->right = ckpt_chain_find_fn(tables, &split->right, &out->scratch[0]);
    out->left = ckpt_chain_find_fn(tables, &split->left, &out->scratch[1]);
    out->cost = (double)split->run_cost;
    /* What the slots take for more than it is, the way back makes use of; of what they take for less it runs out. With many
     * slots to a checkpoint it makes no difference that adds up. */
    out->shift = tables->repeated ? ckpt_chain_slots_up(tables, split->shift_bytes)
                                  : ckpt_chain_slots_near(tables, split->shift_bytes);
    int least = ckpt_chain_slots_up(tables, split->least_bytes);
    out->lo = larger_int(larger_int(least, out->right->lo + out->shift), out->left->lo);
    out->hi = larger_int(larger_int(least, out->right->hi + out->shift), out->left->hi);
}

static inline void lower_by_sum(double *restrict out, uint16_t *restrict best, uint16_t split, double cost,
                         const double *restrict a, const double *restrict b, int count) {
    for (int i = 0; i < count; i++) {
        const double sum = cost + a[i] + b[i];
        best[i] = sum < out[i] ? split : best[i];
        out[i] = sum < out[i] ? sum : out[i];
    }
}

static inline void lower_by(double *restrict out, uint16_t *restrict best, uint16_t split, double cost, const double *restrict a,
                     int count) {
    for (int i = 0; i < count; i++) {
        const double sum = cost + a[i];
        best[i] = sum < out[i] ? split : best[i];
        out[i] = sum < out[i] ? sum : out[i];
    }
}

static inline void lower_to(double *restrict out, uint16_t *restrict best, uint16_t split, double cost, int count) {
    for (int i = 0; i < count; i++) {
        best[i] = cost < out[i] ? split : best[i];
        out[i] = cost < out[i] ? cost : out[i];
    }
}

static double term_at(const ckpt_chain_term *t, int slot) {
    return t->cost + ckpt_chain_fn_guess(t->right, slot - t->shift) + ckpt_chain_fn_guess(t->left, slot);
}

/* Slots [from, to) of fn, in all of which right and left either vary or are constant. A piece is passed over
 * when even the term's last value does not undercut fn's there: both fall. Far worse terms pass over ever more. */
CKPT_VECTOR static void lower_range(const ckpt_chain_term *t, ckpt_chain_fn *fn, uint16_t split, int from, int to) {
    const bool right_varies = from - t->shift < t->right->hi, left_varies = from < t->left->hi;
    for (int p = from, count; p < to; p += count) {
        count = smaller_int(PIECE, to - p);
        double *out = fn->value + (p - fn->lo);
        uint16_t *best = fn->best + (p - fn->lo);
        const double last = term_at(t, p + count - 1);
        if (last >= out[0]) {
            while (p + 2 * count <= to && term_at(t, p + 2 * count - 1) >= out[0]) count *= 2;
            continue;
        }
        const int right = smaller_int(p - t->shift, t->right->hi) - t->right->lo;
        const int left = smaller_int(p, t->left->hi) - t->left->lo;
        if (right_varies && left_varies)
            lower_by_sum(out, best, split, t->cost, t->right->value + right, t->left->value + left, count);
        else if (right_varies)
            lower_by(out, best, split, t->cost + t->left->value[left], t->right->value + right, count);
        else if (left_varies)
            lower_by(out, best, split, t->cost + t->right->value[right], t->left->value + left, count);
        else
            lower_to(out, best, split, last, count);
    }
}

/* In slots [from, to): up to where right and left become constant, and from there. */
static void lower(const ckpt_chain_term *t, ckpt_chain_fn *fn, uint16_t split, int from, int to) {
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

/* Sets lo, hi and room for what lies between, by tables->term[0, count). */
static bool make_room(ckpt_chain_tables *tables, int count, ckpt_chain_fn *fn) {
    double cheapest = HUGE_VAL;
    fn->lo = fn->hi = INT32_MAX;
    for (int i = 0; i < count; i++) {
        const ckpt_chain_term *t = &tables->term[i];
        const double cost = term_at(t, INT32_MAX);
        fn->lo = smaller_int(fn->lo, t->lo);
        if (cost < cheapest || (cost <= cheapest && t->hi < fn->hi)) {
            cheapest = cost;
            fn->hi = t->hi;
        }
    }
    fn->hi = smaller_int(fn->hi, larger_int((int)(tables->cap_bytes / tables->unit_bytes) + 1, fn->lo));
    const int slots = fn->hi - fn->lo + 1;
    fn->value = slots == 1 ? &fn->only : ckpt_pool_array(&tables->pool, slots, double);
    fn->best = slots == 1 ? &fn->only_best : ckpt_pool_array(&tables->pool, slots, uint16_t);
    if (!fn->value || !fn->best) return false;
    for (int i = 0; i < slots; i++) {
        fn->value[i] = HUGE_VAL;
        fn->best[i] = CKPT_CHAIN_NO_SPLIT;
    }
    return true;
}

bool ckpt_chain_fn_slots(ckpt_chain_tables *tables, const ckpt_chain_ref *ref, const ckpt_chain_window *window,
                         const ckpt_chain_split *split, int count, ckpt_chain_fn *fn) {
    for (int i = 0; i < count; i++) make_term(tables, &split[i], &tables->term[i]);
    if (!make_room(tables, count, fn)) return false;
    for (int i = 0; i < count; i++) {
        const int j = split[i].run_to - ref->s;
        const bool keeps = j >= 0 && split[i].run_to < ref->t, windowed = window && keeps;
        lower(&tables->term[i], fn, keeps ? (uint16_t)j : CKPT_CHAIN_NO_SPLIT, windowed ? window[j].from : fn->lo,
              smaller_int(windowed ? window[j].to : INT32_MAX, fn->hi + 1));
    }
    /* A window that ends leaves what more memory than needed is worth, too. */
    for (int i = 1; i <= fn->hi - fn->lo && window; i++)
        if (fn->value[i] > fn->value[i - 1]) {
            fn->value[i] = fn->value[i - 1];
            fn->best[i] = fn->best[i - 1];
        }
    return true;
}

/* What a run of stages can have at most beyond its input: each has its own unless equal ones share functions. */
static uint64_t cap_of(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref) {
    const uint64_t held = tables->likely && ref->s > 1 ? tables->chain->stage[ref->s - 1].out_bytes : 0;
    return tables->cap_bytes > held ? tables->cap_bytes - held : 0;
}

bool ckpt_chain_fn_corners(ckpt_chain_tables *tables, const ckpt_chain_ref *ref, const ckpt_chain_split *split, int count,
                           ckpt_chain_fn *fn) {
    const ckpt_chain_likely *likely = tables->likely;
    ckpt_corner_start(&tables->corner_room, cap_of(tables, ref),
                      likely ? likely->limit[(size_t)ref->s * likely->side + (size_t)ref->t] : CKPT_CORNER_NO_LIMIT);
    for (int i = 0; i < count; i++) {
        ckpt_chain_fn scratch[2];
        if (split[i].shift_bytes > tables->cap_bytes) continue;
        const ckpt_corner_term term = {.cost = split[i].run_cost,
                                       .least = split[i].least_bytes,
                                       .right_shift = (int64_t)split[i].shift_bytes,
                                       .right = &ckpt_chain_find_fn(tables, &split[i].right, &scratch[0])->corners,
                                       .left = &ckpt_chain_find_fn(tables, &split[i].left, &scratch[1])->corners};
        if (!ckpt_corner_lower(&tables->corner_room, &term)) return false;
    }
    return ckpt_corner_keep(&tables->corner_room, &fn->corners);
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
}

bool ckpt_chain_fn_either(ckpt_chain_tables *tables, const ckpt_chain_fn *a, const ckpt_chain_fn *b,
                          ckpt_chain_fn *fn) {
    if (tables->by_corners) {
        ckpt_corner_start(&tables->corner_room, tables->cap_bytes, CKPT_CORNER_NO_LIMIT);
        ckpt_corner_lower(&tables->corner_room, &(ckpt_corner_term){.right = &a->corners});
        ckpt_corner_lower(&tables->corner_room, &(ckpt_corner_term){.right = &b->corners});
        return ckpt_corner_keep(&tables->corner_room, &fn->corners);
    }
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
    return true;
}
