/* A lower bound by what must be lacking. While the backward of k runs, what is held of stages below k - 1 has
 * to fit beside it; each x_i that is not held then is made again later (the backward of i + 1 reads it),
 * whatever else a schedule does; and internals that are not held cost their recomputation or that of the
 * whole stage. Which are best held is a knapsack with several sizes an item, of which the fractional
 * relaxation is solved (Sinha and Zoltners, Operations Research 27(3), 1979). The largest bound over all k
 * counts; for some of these k nothing is held in parts, where that is soon found. */
#include <math.h>
#include <stdlib.h>

#include "base/units.h"
#include "planner/chain/chain_bound.h"

/* More bytes for an item, and what they save. */
typedef struct gain {
    uint64_t bytes, cost;
    int stage;
} gain;

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}
static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Cost a byte, highest first; products of 64-bit numbers need 128 bits. */
static int by_rate(const void *a, const void *b) {
    const gain *x = a, *y = b;
    unsigned __int128 left = (unsigned __int128)x->cost * y->bytes,
                      right = (unsigned __int128)y->cost * x->bytes;
    if (left != right) return left > right ? -1 : 1;
    return x->stage - y->stage;
}

static uint64_t cost_with(const ckpt_chain_stage *stage, const ckpt_chain_option *option) {
    return smaller(stage->forward_cost, smaller(option->recompute_cost[0], option->recompute_cost[1]));
}

static int by_bytes(const void *a, const void *b) {
    const gain *x = a, *y = b;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* The steps of the lower convex hull of (bytes held, cost later) for stage i: each saves less a byte than the
 * one before. `point` has room for option_count + 1. Returns how many were added. */
static int list_gains(const ckpt_chain_stage *stage, int i, gain *point, gain *out) {
    int count = 0;
    point[count++] = (gain){0, stage->forward_cost, i};
    for (int o = 0; o < stage->option_count; o++)
        point[count++] =
            (gain){stage->out_bytes + stage->option[o].kept_bytes, cost_with(stage, &stage->option[o]), i};
    qsort(point + 1, (size_t)count - 1, sizeof *point, by_bytes);
    int added = 0, at = 0;
    for (;;) {
        int next = -1;
        for (int j = at + 1; j < count; j++) {
            if (point[j].cost >= point[at].cost) continue;
            gain a = {point[j].bytes - point[at].bytes, point[at].cost - point[j].cost, 0};
            gain b = next < 0
                         ? (gain){0, 0, 0}
                         : (gain){point[next].bytes - point[at].bytes, point[at].cost - point[next].cost, 0};
            if (next < 0 || (unsigned __int128)a.cost * b.bytes >= (unsigned __int128)b.cost * a.bytes)
                next = j;
        }
        if (next < 0) return added;
        out[added++] = (gain){point[next].bytes - point[at].bytes, point[at].cost - point[next].cost, i};
        at = next;
    }
}

uint64_t ckpt_chain_least_backward(const ckpt_chain_stage *stage) {
    uint64_t least = UINT64_MAX;
    for (int o = 0; o < ckpt_chain_options(stage); o++)
        for (int has = 0; has < 2; has++)
            if (stage->option[o].recompute_cost[has] != CKPT_CHAIN_NEVER)
                least = smaller(least, smaller(stage->option[o].backward_bytes[has][0],
                                               stage->option[o].backward_bytes[has][1]));
    return least;
}

uint64_t ckpt_chain_room(const ckpt_chain *chain, int k, uint64_t budget_bytes) {
    const uint64_t taken =
        ckpt_chain_least_backward(&chain->stage[k]) + (k > 1 ? chain->stage[k - 1].out_bytes : 0);
    return budget_bytes > taken ? budget_bytes - taken : 0;
}

/* What must be run again after the backward of k, when `room` bytes hold the rest. */
static uint64_t cost_after(const ckpt_chain *chain, int k, uint64_t room, const gain *sorted, int count) {
    uint64_t cost = 0;
    for (int i = 1; i <= k - 2; i++) cost += chain->stage[i].forward_cost;
    for (int j = 0; j < count; j++) {
        if (sorted[j].stage > k - 2) continue;
        if (sorted[j].bytes > room) {
            uint64_t part = (uint64_t)((unsigned __int128)sorted[j].cost * room / sorted[j].bytes);
            return cost - part - (part < sorted[j].cost);
        }
        room -= sorted[j].bytes;
        cost -= sorted[j].cost;
    }
    return cost;
}

/* Backwards whose knapsack is solved in whole items, and the work for all of them, in sums of two numbers. */
enum { MOST_WHOLE = 8, WHOLE_WORK = 8000000 };

static int by_size(const void *a, const void *b) {
    const gain *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return x->cost < y->cost ? -1 : x->cost > y->cost;
}

/* saved[m]: the most that m slots save, with `copies` more items. */
static void add_items(uint64_t *saved, uint64_t slots, uint64_t size, uint64_t cost, uint64_t copies, uint64_t *work) {
    for (uint64_t part = 1; copies > 0; copies -= part, part *= 2) { /* 1, 2, 4, ... of them at once */
        if (part > copies) part = copies;
        if (part * size > slots) continue;
        for (uint64_t m = slots; m >= part * size && m <= slots; m--)
            saved[m] = larger(saved[m], saved[m - part * size] + part * cost);
        *work += slots;
    }
}

/* cost_after in whole items. by_size: sorted so. 0 where that takes too long or there is no memory. */
static uint64_t whole_cost_after(const ckpt_chain *chain, int k, uint64_t room, const gain *sorted, int count, uint64_t *work) {
    uint64_t unit = 0, all = 0, cost = 0;
    for (int i = 1; i <= k - 2; i++) cost += chain->stage[i].forward_cost;
    for (int j = 0; j < count; j++) unit = ckpt_common_divisor(unit, sorted[j].bytes), all += sorted[j].bytes;
    const uint64_t slots = unit > 0 ? smaller(room, all) / unit : 0;
    if (slots == 0 || slots > WHOLE_WORK / 16 || *work > WHOLE_WORK) return 0;
    uint64_t *saved = calloc(slots + 1, sizeof *saved);
    for (int j = 0, end; j < count && saved; j = end) {
        uint64_t copies = 0;
        for (end = j; end < count && by_size(&sorted[j], &sorted[end]) == 0; end++) copies += sorted[end].stage <= k - 2;
        add_items(saved, slots, sorted[j].bytes / unit, sorted[j].cost, copies, work);
        if (*work > WHOLE_WORK) break;
    }
    const uint64_t least = saved && *work <= WHOLE_WORK ? cost - saved[slots] : 0;
    free(saved);
    return least;
}

/* Where no stage has internals to keep; of the backwards for which it says most in parts. */
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
        const uint64_t whole = whole_cost_after(chain, best, ckpt_chain_room(chain, best, budget_bytes), list, count, &work);
        *again = larger(*again, whole);
    }
}

ckpt_status ckpt_chain_bound_by_knapsack(const ckpt_chain *chain, uint64_t budget_bytes, bool whole, uint64_t *again,
                                         ckpt_error *err) {
    int options = 0, most = 0, count = 0;
    *again = 0;
    for (int k = 1; k <= chain->stage_count; k++) {
        options += chain->stage[k].option_count + 1;
        if (chain->stage[k].option_count > most) most = chain->stage[k].option_count;
    }
    gain *list = malloc(((size_t)options + (size_t)most + 1) * sizeof *list);
    uint64_t *after = calloc((size_t)chain->stage_count + 1, sizeof *after);
    if (!list || !after) {
        free(list);
        free(after);
        return ckpt_fail(err, CKPT_NOMEM, "out of memory for a bound of %d stages", chain->stage_count);
    }
    for (int i = 1; i < chain->stage_count; i++)
        count += list_gains(&chain->stage[i], i, list + options, list + count);
    qsort(list, (size_t)count, sizeof *list, by_rate);
    for (int k = 2; k <= chain->stage_count; k++) {
        after[k] = cost_after(chain, k, ckpt_chain_room(chain, k, budget_bytes), list, count);
        *again = larger(*again, after[k]);
    }
    if (whole) raise_by_whole_items(chain, budget_bytes, list, count, after, again);
    free(after);
    free(list);
    return CKPT_OK;
}

uint64_t ckpt_chain_cost_unit(const ckpt_chain *chain) {
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

ckpt_status ckpt_chain_bound_at_once(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t *bound, ckpt_error *err) {
    uint64_t first = 0, knapsack, counted;
    for (int k = 1; k <= chain->stage_count; k++) first += chain->stage[k].forward_cost;
    CKPT_TRY(ckpt_chain_bound_by_knapsack(chain, budget_bytes, true, &knapsack, err));
    CKPT_TRY(ckpt_chain_bound_by_count(chain, budget_bytes, &counted, err));
    *bound = ckpt_round_up(first + larger(knapsack, counted), ckpt_chain_cost_unit(chain));
    return CKPT_OK;
}
