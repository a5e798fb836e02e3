#include "planner/chain/chain_window.h"

/* Stages for which all splits are tried in filling, and in tracing; splits tried on either side. */
enum { FEW = 16, MANY = 256, SLACK = 8, SLACK_OF_BLOCKS = 4 };

static int larger(int a, int b) {
    return a > b ? a : b;
}
static int smaller(int a, int b) {
    return a < b ? a : b;
}

static int slack(const ckpt_chain_tables *tables) {
    return tables->repeated ? SLACK_OF_BLOCKS : SLACK;
}

/* NULL when it has not been made. */
static const ckpt_chain_fn *neighbour(const ckpt_chain_tables *tables, int type, int s, int t, bool dies, int option) {
    const ckpt_chain_fn *fn;
    const int d = dies && tables->gains[s];
    if (type == CKPT_FN_G && t == tables->count) {
        fn = &tables->g[d][s];
    } else {
        const ckpt_chain_pair *pair = *ckpt_chain_pair_at(tables, s, t);
        if (!pair || !pair->held) return NULL;
        fn = type == CKPT_FN_K ? &pair->held[option].k[d] : &pair->held[option].r[d];
    }
    return fn->value ? fn : NULL;
}

/* Where fn keeps its first checkpoint with so much memory, from its first stage on; CKPT_CHAIN_NO_SPLIT: nowhere. */
static int best_at(const ckpt_chain_fn *fn, int slot) {
    return fn->best[larger(smaller(slot, fn->hi), fn->lo) - fn->lo];
}

/* What is left of the same run behind the early part of its last backward; NULL where the function is no way to that. */
static const ckpt_chain_fn *behind_early(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref) {
    const ckpt_chain_stage *last = &tables->chain->stage[ref->t];
    if (ref->type == CKPT_FN_G || !last->early || ckpt_chain_is_early(last, ref->option)) return NULL;
    return neighbour(tables, CKPT_FN_R, ref->s, ref->t, ref->dies, last->option_count);
}

/* Adds slots [begin, end), where the neighbours keep a and b. */
static void add(const ckpt_chain_tables *tables, int count, int a, int b, int begin, int end) {
    if (a == CKPT_CHAIN_NO_SPLIT) a = b;
    if (b == CKPT_CHAIN_NO_SPLIT) b = a;
    const bool anywhere = a == CKPT_CHAIN_NO_SPLIT;
    const int low = anywhere ? 0 : larger(smaller(a, b) - slack(tables), 0);
    const int high = anywhere ? count - 1 : smaller(larger(a, b) + slack(tables), count - 1);
    for (int j = low; j <= high; j++) {
        ckpt_chain_window *window = &tables->window[j];
        if (window->to == 0) window->from = begin;
        window->to = end;
    }
}

ckpt_chain_range ckpt_chain_window_all(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref) {
    return (ckpt_chain_range){ref->s, smaller(ref->t, ref->s + tables->longest) - 1, NULL};
}

ckpt_chain_range ckpt_chain_window_near(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref, int64_t slot) {
    const ckpt_chain_range all = ckpt_chain_window_all(tables, ref);
    const ckpt_chain_fn *fn = ckpt_chain_find_fn(tables, ref, NULL);
    if (tables->likely || tables->all_splits || ref->t - ref->s < MANY || !fn->best) return all;
    const int best = best_at(fn, slot < fn->hi ? (int)slot : fn->hi);
    if (best == CKPT_CHAIN_NO_SPLIT) return all;
    return (ckpt_chain_range){larger(ref->s + best - slack(tables), all.first), smaller(ref->s + best + slack(tables), all.last), NULL};
}

bool ckpt_chain_window_set(ckpt_chain_tables *tables, const ckpt_chain_ref *ref, ckpt_chain_range *range) {
    const int count = ref->t - ref->s; /* ways to keep a checkpoint */
    if (count < FEW || tables->all_splits) return false;
    const ckpt_chain_stage *stage = tables->chain->stage;
    const bool early = ckpt_chain_is_early(&stage[ref->t], ref->option) && stage[ref->t - 1].early;
    const ckpt_chain_fn *shorter =
        neighbour(tables, ref->type, ref->s, ref->t - 1, ref->dies, early ? stage[ref->t - 1].option_count : 0);
    const ckpt_chain_fn *later = neighbour(tables, ref->type, ref->s + 1, ref->t, ref->dies, ref->option);
    if (!shorter || !later) return false;
    const ckpt_chain_fn *behind = behind_early(tables, ref); /* where nothing is kept before the early part */
    for (int j = 0; j < count; j++) tables->window[j] = (ckpt_chain_window){0};
    int begin = 0, slot = smaller(shorter->lo, later->lo);
    for (const int end = larger(shorter->hi, later->hi); begin <= end; begin = slot) {
        const int a = best_at(shorter, slot), b = best_at(later, slot), c = behind ? best_at(behind, slot) : 0;
        do slot++;
        while (slot <= end && best_at(shorter, slot) == a && best_at(later, slot) == b &&
               (!behind || best_at(behind, slot) == c));
        const bool none = a == CKPT_CHAIN_NO_SPLIT && b == CKPT_CHAIN_NO_SPLIT && behind;
        add(tables, count, none ? c : a, none || b == CKPT_CHAIN_NO_SPLIT ? CKPT_CHAIN_NO_SPLIT : b + 1, begin,
            slot <= end ? slot : INT32_MAX);
    }
    *range = ckpt_chain_window_all(tables, ref);
    while (range->first <= range->last && tables->window[range->first - ref->s].to == 0) range->first++;
    while (range->first <= range->last && tables->window[range->last - ref->s].to == 0) range->last--;
    range->window = tables->window;
    return true;
}
