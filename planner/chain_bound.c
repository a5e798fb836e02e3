/* A lower bound by what must be lacking. While the backward of k runs, what is held of stages below k - 1 has
 * to fit beside it; each x_i that is not held then is made again later (the backward of i + 1 reads it),
 * whatever else a schedule does; and internals that are not held cost their recomputation or that of the
 * whole stage. Which are best held is a knapsack with several sizes an item, of which the fractional
 * relaxation is solved (Sinha and Zoltners, Operations Research 27(3), 1979). The largest bound over all k
 * counts. */
#include <math.h>
#include <stdlib.h>

#include "base/units.h"
#include "planner/chain_bound.h"

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

/* The knapsack of every backward; the largest. */
static ckpt_status bound_by_knapsack(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t *again, ckpt_error *err) {
    int options = 0, most = 0, count = 0;
    *again = 0;
    for (int k = 1; k <= chain->stage_count; k++) {
        options += chain->stage[k].option_count + 1;
        if (chain->stage[k].option_count > most) most = chain->stage[k].option_count;
    }
    gain *list = malloc(((size_t)options + (size_t)most + 1) * sizeof *list);
    if (!list)
        return ckpt_fail(err, CKPT_NOMEM, "out of memory for a bound of %d stages", chain->stage_count);
    for (int i = 1; i < chain->stage_count; i++)
        count += list_gains(&chain->stage[i], i, list + options, list + count);
    qsort(list, (size_t)count, sizeof *list, by_rate);
    for (int k = 2; k <= chain->stage_count; k++) {
        const uint64_t after = cost_after(chain, k, ckpt_chain_room(chain, k, budget_bytes), list, count);
        if (after > *again) *again = after;
    }
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
    CKPT_TRY(bound_by_knapsack(chain, budget_bytes, &knapsack, err));
    CKPT_TRY(ckpt_chain_bound_by_count(chain, budget_bytes, &counted, err));
    *bound = ckpt_round_up(first + larger(knapsack, counted), ckpt_chain_cost_unit(chain));
    return CKPT_OK;
}
