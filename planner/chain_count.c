#include <stdlib.h>

#include "planner/chain_bound.h"

enum { MOST_STAGES = 8192, TABLED = 64 }; /* numbers of checkpoints whose counts are kept */

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Forward runs beyond the first of each of n stages but the last, with room for `held` checkpoints: r n - C(s + r,
 * s + 1) - (n - 1), C(s + r, s) >= n minimal, where s counts x_0 too. */
static uint64_t runs_again(uint64_t n, uint64_t held) {
    const uint64_t s = held + 1;
    uint64_t r = 0, reach = 1, less = 0;
    while (reach < n) {
        r++;
        less += reach;
        reach = s >= n ? n : reach * (s + r) / r;
    }
    return r * n - less - (n - 1);
}

typedef struct counts {
    const ckpt_chain *chain;
    uint64_t *room;   /* [k]: while the backward of k runs */
    uint64_t *tabled; /* [held * (count + 1) + n]: runs_again + 1, or 0 */
    uint64_t *best;   /* [k]: of windows in stages 1..k */
} counts;

static uint64_t find_runs(counts *c, uint64_t n, uint64_t held) {
    if (held + 2 >= n) return 0;
    if (held >= TABLED) return runs_again(n, held);
    uint64_t *entry = &c->tabled[held * ((uint64_t)c->chain->stage_count + 1) + n];
    if (!*entry) *entry = runs_again(n, held) + 1;
    return *entry - 1;
}

/* Windows that end with the backward of `end`: from the last stage down, so that minima grow along. While the
 * backward of k runs, x_i with i <= k - 2 are held. */
static void add_window(counts *c, int end) {
    const ckpt_chain_stage *stage = c->chain->stage;
    uint64_t cost = stage[end - 1].forward_cost, bytes = UINT64_MAX, room = 0;
    c->best[end] = c->best[end - 1];
    for (int first = end - 2; first >= 1; first--) { /* x_{first - 1} is there throughout */
        cost = smaller(cost, stage[first].forward_cost);
        bytes = smaller(bytes, stage[first].out_bytes);
        room = larger(room, c->room[first + 2]);
        if (bytes == 0 || cost == 0) return;
        const uint64_t n = (uint64_t)(end - first) + 1;
        c->best[end] = larger(c->best[end], c->best[first - 1] + cost * find_runs(c, n, room / bytes));
    }
}

ckpt_status ckpt_chain_bound_by_count(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t *again,
                                      ckpt_error *err) {
    const int count = chain->stage_count;
    *again = 0;
    if (count > MOST_STAGES) return CKPT_OK;
    ckpt_pool pool = {0};
    counts c = {.chain = chain,
                .room = ckpt_pool_array(&pool, count + 1, uint64_t),
                .tabled = ckpt_pool_array(&pool, TABLED * (count + 1), uint64_t),
                .best = ckpt_pool_array(&pool, count + 1, uint64_t)};
    if (!c.room || !c.tabled || !c.best) {
        ckpt_pool_free(&pool);
        return ckpt_fail(err, CKPT_NOMEM, "out of memory for a bound of %d stages", count);
    }
    for (int k = 1; k <= count; k++) c.room[k] = ckpt_chain_room(chain, k, budget_bytes);
    for (int end = 2; end <= count; end++) add_window(&c, end);
    *again = c.best[count];
    ckpt_pool_free(&pool);
    return CKPT_OK;
}
