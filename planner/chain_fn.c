/* Functions of memory: bytes exactly, slots by min-plus combination. */
#include <math.h>

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
        scratch->only = (double)cost;
        scratch->value = &scratch->only;
        scratch->lo = scratch->hi = tables->unit_bytes ? ckpt_chain_slots_up(tables, bytes) : 0;
        return scratch;
    }
    int d = ref->dies && tables->gains[ref->s];
    if (ref->type == CKPT_FN_G) return &tables->g[d][ref->s];
    const ckpt_chain_pair *pair = tables->pair[(size_t)ref->s * (size_t)(tables->count + 1) + (size_t)ref->t];
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
    out->shift = ckpt_chain_slots_near(tables, split->shift_bytes);
    int least = ckpt_chain_slots_up(tables, split->least_bytes);
    out->lo = larger_int(larger_int(least, out->right->lo + out->shift), out->left->lo);
    out->hi = larger_int(larger_int(least, out->right->hi + out->shift), out->left->hi);
}

static void lower_by_sum(double *restrict out, double cost, const double *restrict a,
                         const double *restrict b, int count) {
    for (int i = 0; i < count; i++) {
        double sum = cost + a[i] + b[i];
        out[i] = sum < out[i] ? sum : out[i];
    }
}

static void lower_by(double *restrict out, double cost, const double *restrict a, int count) {
    for (int i = 0; i < count; i++) {
        double sum = cost + a[i];
        out[i] = sum < out[i] ? sum : out[i];
    }
}

static void lower_to(double *out, double cost, int count) {
    for (int i = 0; i < count && cost < out[i]; i++) out[i] = cost;
}

static double term_at(const ckpt_chain_term *t, int slot) {
    return t->cost + ckpt_chain_fn_guess(t->right, slot - t->shift) + ckpt_chain_fn_guess(t->left, slot);
}

/* Slots [from, to) of fn, in all of which right and left either vary or are constant. A piece is passed over
 * when even the term's last value does not undercut fn's there: both fall. Far worse terms pass over ever more. */
static bool lower_range(const ckpt_chain_term *t, ckpt_chain_fn *fn, int from, int to) {
    bool right_varies = from - t->shift < t->right->hi, left_varies = from < t->left->hi, lowered = false;
    for (int p = from, count; p < to; p += count) {
        count = smaller_int(PIECE, to - p);
        double *out = fn->value + (p - fn->lo);
        const double last = term_at(t, p + count - 1);
        if (last >= out[0]) {
            while (p + 2 * count <= to && term_at(t, p + 2 * count - 1) >= out[0]) count *= 2;
            continue;
        }
        lowered = true;
        int right = smaller_int(p - t->shift, t->right->hi) - t->right->lo;
        int left = smaller_int(p, t->left->hi) - t->left->lo;
        if (right_varies && left_varies)
            lower_by_sum(out, t->cost, t->right->value + right, t->left->value + left, count);
        else if (right_varies)
            lower_by(out, t->cost + t->left->value[left], t->right->value + right, count);
        else if (left_varies)
            lower_by(out, t->cost + t->right->value[right], t->left->value + left, count);
        else
            lower_to(out, last, count);
    }
    return lowered;
}

/* The first slot from which the term's last value does not undercut fn, whose values fall. */
static int find_end(const ckpt_chain_term *t, const ckpt_chain_fn *fn) {
    const double last = term_at(t, fn->hi);
    int low = t->lo, high = fn->hi + 1;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (fn->value[middle - fn->lo] <= last)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* True when it may have made a difference. */
static bool lower(const ckpt_chain_term *t, ckpt_chain_fn *fn) {
    const int end = find_end(t, fn);
    int turn[2] = {t->right->hi + t->shift, t->left->hi};
    if (turn[0] > turn[1]) {
        int first = turn[1];
        turn[1] = turn[0];
        turn[0] = first;
    }
    int from = t->lo;
    bool lowered = false;
    for (int i = 0; i < 3 && from < end; i++) {
        int to = i < 2 ? smaller_int(turn[i], end) : end;
        if (to <= from) continue;
        lowered |= lower_range(t, fn, from, to);
        from = to;
    }
    return lowered;
}

bool ckpt_chain_fn_slots(ckpt_chain_tables *tables, const ckpt_chain_split *split, int count,
                         ckpt_chain_fn *fn) {
    double best = HUGE_VAL;
    fn->lo = fn->hi = INT32_MAX;
    for (int i = 0; i < count; i++) {
        ckpt_chain_term *t = &tables->term[i];
        make_term(tables, &split[i], t);
        double cost =
            t->cost + ckpt_chain_fn_guess(t->right, INT32_MAX) + ckpt_chain_fn_guess(t->left, INT32_MAX);
        fn->lo = smaller_int(fn->lo, t->lo);
        if (cost < best || (cost <= best && t->hi < fn->hi)) {
            best = cost;
            fn->hi = t->hi;
        }
    }
    int cap = larger_int((int)(tables->cap_bytes / tables->unit_bytes) + 1, fn->lo);
    fn->hi = smaller_int(fn->hi, cap);
    int slots = fn->hi - fn->lo + 1;
    fn->value = slots == 1 ? &fn->only : ckpt_pool_array(&tables->pool, slots, double);
    if (!fn->value) return false;
    for (int i = 0; i < slots; i++) fn->value[i] = HUGE_VAL;
    /* What was best for a function like this one comes first: the more of the rest is then passed over. */
    int begin = tables->best_split < count ? tables->best_split : count - 1;
    for (int i = begin; i < count; i++)
        if (lower(&tables->term[i], fn)) tables->best_split = i;
    for (int i = begin - 1; i >= 0; i--)
        if (lower(&tables->term[i], fn)) tables->best_split = i;
    return true;
}

bool ckpt_chain_fn_either(ckpt_chain_tables *tables, const ckpt_chain_fn *a, const ckpt_chain_fn *b,
                          ckpt_chain_fn *fn) {
    const ckpt_chain_fn *cheap = a->floor_cost < b->floor_cost ? a : b;
    if (a->floor_cost == b->floor_cost && a->most_bytes < b->most_bytes) cheap = a;
    fn->least_bytes = a->least_bytes < b->least_bytes ? a->least_bytes : b->least_bytes;
    fn->floor_cost = cheap->floor_cost;
    fn->most_bytes = cheap->most_bytes;
    if (!tables->unit_bytes) return true;
    double best_a = a->value[a->hi - a->lo], best_b = b->value[b->hi - b->lo];
    fn->lo = smaller_int(a->lo, b->lo);
    fn->hi = best_a < best_b ? a->hi : best_b < best_a ? b->hi : smaller_int(a->hi, b->hi);
    if (fn->hi < fn->lo) fn->hi = fn->lo;
    fn->value = ckpt_pool_array(&tables->pool, fn->hi - fn->lo + 1, double);
    if (!fn->value) return false;
    for (int m = fn->lo; m <= fn->hi; m++) {
        double va = m < a->lo ? HUGE_VAL : ckpt_chain_fn_guess(a, m);
        double vb = m < b->lo ? HUGE_VAL : ckpt_chain_fn_guess(b, m);
        fn->value[m - fn->lo] = va < vb ? va : vb;
    }
    return true;
}
