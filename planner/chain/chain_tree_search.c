/* How far the functions of chain_tree.c have to be known: within what cost. Less of it takes far less time. */
#include "planner/chain/chain_tree.h"

/* Limits of costs: this part above the bound by prices, then steps that grow by this part each time, until so many times the
 * bound; for programs, where the bound itself has none, from there on, by this part of the way to it. */
enum { FIRST_PART = 20, GROWTH_PART = 2, FARTHEST = 4, SECOND_PART = 20 };

/* The share of short parts in haste (chain_bound.h), and how many times as much it takes without, as a rule. */
#define HASTE 0.2
enum { FULL_WORK = 6 };

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Within limits that rise from above `from`, until something costs less than the limit or it is `cost`. `least`: as
 * ckpt_chain_tree_within has it of the last limit for which work was enough, `from` where it was for none. `last`: the work
 * for it. */
static ckpt_status solve_rising(ckpt_chain_tree_search *s, uint64_t from, uint64_t step, uint64_t cost, double share,
                                ckpt_chain_program *program, uint64_t *least, uint64_t *last, ckpt_error *err) {
    *least = from;
    *last = 0;
    while (*least < cost) {
        const uint64_t work = s->work;
        uint64_t limit = cost, found;
        if (step < cost - from && step < (FARTHEST - 1) * from) limit = from + step;
        CKPT_TRY(ckpt_chain_tree_within(s, limit, share, program, &found, err));
        if (found == CKPT_CHAIN_NEVER) break;
        *least = found;
        *last = work - s->work;
        if (found < limit) break;
        step += step / GROWTH_PART + 1;
    }
    return CKPT_OK;
}

/* In haste first, which finds a schedule that is as good as any or nearly so; then it is enough to look for better ones. Where
 * that would be too much work, limits rise. */
static ckpt_status solve(ckpt_chain_tree_search *s, uint64_t from, uint64_t step, uint64_t cost, ckpt_chain_program *program,
                         uint64_t *least, ckpt_error *err) {
    uint64_t hasty = cost, last = 0;
    if (s->prices) {
        CKPT_TRY(solve_rising(s, from, step, cost, HASTE, program, &hasty, &last, err));
        if (last == 0) hasty = cost;
    }
    const bool enough = last <= s->work / FULL_WORK;
    return solve_rising(s, from, enough ? cost - from : step, hasty, 1, program, least, &last, err);
}

ckpt_status ckpt_chain_tree_solve(const ckpt_chain *chain, ckpt_chain_prices *prices, uint64_t budget_bytes, uint64_t cost,
                                  uint64_t work, ckpt_pool *pool, ckpt_chain_program *program, uint64_t *bound,
                                  ckpt_error *err) {
    uint64_t all = 0, least;
    ckpt_chain_program found = {0};
    ckpt_chain_tree_search s = {chain, prices, smaller(budget_bytes, CKPT_CORNER_MOST), work, true, pool};
    if (prices) CKPT_TRY(ckpt_chain_prices_all(prices, &all, err));
    all = smaller(all, cost);
    CKPT_TRY(solve(&s, all, prices ? all / FIRST_PART + 1 : cost, cost, &found, bound, err));
    if (found.needed_bytes > s.budget_bytes) {
        found = (ckpt_chain_program){0};
        s.for_bound = false;
        CKPT_TRY(solve(&s, *bound, prices ? (*bound - all) / SECOND_PART + 1 : cost, cost, &found, &least, err));
    }
    if (pool) *program = found;
    return CKPT_OK;
}
