#include <string.h>

#include "planner/chain/chain_bound.h"

/* TABLED: numbers of checkpoints whose counts are kept; PARTS: of the dearest stage, that groups are to cost at least. */
enum { MOST_STAGES = 8192, TABLED = 64, PARTS = 2 };

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

/* Stages, or groups of them. */
typedef struct counts {
    int count;
    uint64_t *cost, *bytes; /* [k]: of a run, and of x_k */
    uint64_t *room;         /* [k]: while the backward of k runs */
    uint64_t *tabled;       /* [held * (count + 1) + n]: runs_again + 1, or 0 */
    uint64_t *best;         /* [k]: of windows in stages 1..k */
} counts;

static uint64_t find_runs(counts *c, uint64_t n, uint64_t held) {
    if (held + 2 >= n) return 0;
    if (held >= TABLED) return runs_again(n, held);
    uint64_t *entry = &c->tabled[held * ((uint64_t)c->count + 1) + n];
    if (!*entry) *entry = runs_again(n, held) + 1;
    return *entry - 1;
}

/* Windows that end with the backward of `end`: from the last stage down, so that minima grow along. While the
 * backward of k runs, x_i with i <= k - 2 are held. */
static void add_window(counts *c, int end) {
    uint64_t cost = c->cost[end - 1], bytes = UINT64_MAX, room = 0;
    c->best[end] = c->best[end - 1];
    for (int first = end - 2; first >= 1; first--) { /* x_{first - 1} is there throughout */
        cost = smaller(cost, c->cost[first]);
        bytes = smaller(bytes, c->bytes[first]);
        room = larger(room, c->room[first + 2]);
        if (bytes == 0 || cost == 0) return;
        const uint64_t n = (uint64_t)(end - first) + 1;
        c->best[end] = larger(c->best[end], c->best[first - 1] + cost * find_runs(c, n, room / bytes));
    }
}

/* Stages in a row become one that costs as much as all of them, so that each but the last costs `least` or more. That
 * backwards in between read something is forgotten, and whatever of it is held counts as its output, in the bytes of the
 * smallest. */
static void group(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t least, counts *c) {
    bool open = false;
    c->count = 0;
    for (int k = 1; k <= chain->stage_count; k++) {
        const ckpt_chain_stage *stage = &chain->stage[k];
        if (!open) {
            c->count++;
            c->cost[c->count] = 0;
            c->bytes[c->count] = UINT64_MAX;
            c->room[c->count] = ckpt_chain_room(chain, k, budget_bytes);
        }
        c->cost[c->count] += stage->forward_cost;
        c->bytes[c->count] = smaller(c->bytes[c->count], stage->out_bytes);
        open = c->cost[c->count] < least;
    }
}

static uint64_t count_windows(counts *c) {
    memset(c->tabled, 0, sizeof *c->tabled * TABLED * ((size_t)c->count + 1));
    c->best[0] = c->best[1] = 0;
    for (int end = 2; end <= c->count; end++) add_window(c, end);
    return c->best[c->count];
}

ckpt_status ckpt_chain_bound_by_count(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t *again,
                                      ckpt_error *err) {
    const int count = chain->stage_count;
    *again = 0;
    if (count < 1 || count > MOST_STAGES) return CKPT_OK;
    ckpt_pool pool = {0};
    counts c = {.cost = ckpt_pool_array(&pool, count + 1, uint64_t),
                .bytes = ckpt_pool_array(&pool, count + 1, uint64_t),
                .room = ckpt_pool_array(&pool, count + 1, uint64_t),
                .tabled = ckpt_pool_array(&pool, TABLED * (count + 1), uint64_t),
                .best = ckpt_pool_array(&pool, count + 1, uint64_t)};
    const bool ok = c.cost && c.bytes && c.room && c.tabled && c.best;
    uint64_t most = 0;
    for (int k = 1; k <= count; k++) most = larger(most, chain->stage[k].forward_cost);
    for (int part = 0; part <= PARTS && ok; part++) { /* single stages first */
        group(chain, budget_bytes, most / PARTS * (uint64_t)part, &c);
        *again = larger(*again, count_windows(&c));
    }
    ckpt_pool_free(&pool);
    return ok ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of memory for a bound of %d stages", count);
}
