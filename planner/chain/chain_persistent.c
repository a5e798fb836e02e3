/* The cheapest persistent program of one budget, exactly. Two kinds of chains have few enough splits: those whose equal runs of
 * stages share functions, and those for which prices show most splits to be part of nothing cheaper than what is known.
 */
#include <math.h>

#include "base/units.h"
#include "planner/chain/chain_table.h"

/* Corners looked at, some nanoseconds each; splits times slots of shared functions, a fifth of one each; fewer of short chains, for
 * which prices do it too. */
enum { PRICED_WORK = 400000000, SHARED_CORNERS = 20000000, MANY_STAGES = 256 };
#define SHARED_SLOTS UINT64_C(20000000000)
#define FEW_SLOTS UINT64_C(30000000)

/* Shares of the cost: bounds that are not far below it, and programs that cost hardly more than the bound. */
enum { NEAR = 20, NEARER = 2000 };

/* Runs of the average stage in programs for small budgets. */
enum { MANY_RUNS = 10 };

/* Costs in slots are sums of doubles: whole numbers below it are exact, larger ones nearly. */
#define MOST_EXACT 0x1p53

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static ckpt_status trace(const ckpt_chain_tables *tables, uint64_t budget_bytes, ckpt_pool *pool, ckpt_chain_program *program,
                         ckpt_error *err) {
    if (ckpt_chain_trace_program(tables, budget_bytes, pool, program)) return CKPT_OK;
    return ckpt_fail(err, CKPT_NOMEM, "out of memory for a program of %d stages", tables->count);
}

static ckpt_status solve_tables(const ckpt_chain_tables *tables, uint64_t budget_bytes, uint64_t cost, ckpt_pool *pool,
                                ckpt_chain_program *program, uint64_t *bound, ckpt_error *err) {
    const uint64_t least = ckpt_corner_cost(&tables->g[0][1].corners, budget_bytes);
    *bound = smaller(least, cost);
    return least >= cost ? CKPT_OK : trace(tables, budget_bytes, pool, program, err);
}

/* With all splits, or with the likely ones. */
static ckpt_status solve_by_corners(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, ckpt_chain_likely *likely,
                                    uint64_t work, ckpt_pool *pool, ckpt_chain_program *program, uint64_t *bound,
                                    ckpt_error *err) {
    ckpt_chain_tables *tables;
    CKPT_TRY(ckpt_chain_corners_build(chain, budget_bytes, likely, work, &tables, err));
    if (!tables) return CKPT_OK;
    const ckpt_status status = solve_tables(tables, budget_bytes, cost, pool, program, bound, err);
    ckpt_chain_tables_free(tables);
    return status;
}

static ckpt_status solve_priced(ckpt_chain_prices *prices, const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost,
                                ckpt_pool *pool, ckpt_chain_program *program, uint64_t *bound, ckpt_error *err) {
    ckpt_pool scratch = {0};
    ckpt_chain_likely *likely;
    *bound = smaller(ckpt_chain_prices_persistent(prices), cost);
    if (*bound == cost) return CKPT_OK;
    ckpt_status status = ckpt_chain_prices_mark(prices, cost, &scratch, &likely, err);
    if (status == CKPT_OK)
        status = solve_by_corners(chain, budget_bytes, cost, likely, PRICED_WORK, pool, program, bound, err);
    ckpt_pool_free(&scratch);
    return status;
}

/* Where equal runs share functions: the best program that costs less than `cost` of those that run none of many stages again. */
static ckpt_status solve_short(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, uint64_t work, ckpt_pool *pool,
                               ckpt_chain_program *program, ckpt_error *err) {
    ckpt_chain_tables *tables;
    const ckpt_chain_wanted wanted = {.cost = cost, .work = work, .short_runs = true};
    CKPT_TRY(ckpt_chain_slots_build(chain, budget_bytes, &wanted, &tables, err));
    ckpt_status status = CKPT_OK;
    if (tables && tables->exact && tables->least_cost < (double)cost) status = trace(tables, budget_bytes, pool, program, err);
    if (program->cost >= cost) *program = (ckpt_chain_program){0};
    ckpt_chain_tables_free(tables);
    return status;
}

/* The best one. `known`: the bound is what it costs, and it is found if that is less than `cost`. */
static ckpt_status solve_shared(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, uint64_t work, ckpt_pool *pool,
                                ckpt_chain_program *program, uint64_t *bound, bool *known, ckpt_error *err) {
    ckpt_chain_tables *tables;
    *known = false;
    CKPT_TRY(ckpt_chain_slots_build(chain, budget_bytes, &(ckpt_chain_wanted){.cost = cost, .work = work}, &tables, err));
    if (!tables) return CKPT_OK;
    double least = tables->least_cost;
    if (least >= MOST_EXACT) least *= 1 - 1e-9;
    *bound = least < (double)cost ? smaller(ckpt_round_up((uint64_t)least, ckpt_chain_cost_unit(chain)), cost) : cost;
    *known = *bound == cost;
    ckpt_status status = CKPT_OK;
    if (!*known && tables->exact && ckpt_chain_first_is_whole(tables)) {
        status = trace(tables, budget_bytes, pool, program, err);
        *known = program->cost == *bound;
        if (!*known) *program = (ckpt_chain_program){0};
    }
    ckpt_chain_tables_free(tables);
    return status;
}

/* Where no program costs less than `least`, and that is not far below `cost`: first some that cost hardly more, of which there are
 * few, then any cheaper ones, and then, beside the best of these, all. */
static ckpt_status solve_from_bound(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t least, uint64_t cost, uint64_t work,
                                    ckpt_pool *pool, ckpt_chain_program *program, uint64_t *bound, bool *known, ckpt_error *err) {
    ckpt_chain_program best = {0};
    if (least > 0 && cost - least < cost / NEAR) {
        const uint64_t hardly = smaller(cost, least + 1 + cost / NEARER);
        CKPT_TRY(solve_short(chain, budget_bytes, hardly, work, pool, &best, err));
        if (!best.count && hardly < cost) CKPT_TRY(solve_short(chain, budget_bytes, cost, work, pool, &best, err));
        *known = best.count && best.cost == least;
    }
    if (*known)
        *bound = least;
    else
        CKPT_TRY(solve_shared(chain, budget_bytes, best.count ? best.cost : cost, work, pool, program, bound, known, err));
    if (!program->count) *program = best;
    return CKPT_OK;
}

/* With all splits, or the likely ones where there are prices. `known`: all were looked at. */
static ckpt_status solve_exactly(const ckpt_chain *chain, ckpt_chain_prices *prices, uint64_t budget_bytes, uint64_t cost,
                                 ckpt_pool *pool, ckpt_chain_program *program, uint64_t *bound, bool *known, ckpt_error *err) {
    uint64_t least = 0;
    if (prices)
        CKPT_TRY(solve_priced(prices, chain, budget_bytes, cost, pool, program, &least, err));
    else
        CKPT_TRY(solve_by_corners(chain, budget_bytes, cost, NULL, SHARED_CORNERS, pool, program, &least, err));
    *known = least == cost || program->count > 0;
    if (*bound < least) *bound = least;
    return CKPT_OK;
}

ckpt_status ckpt_chain_solve_priced(const ckpt_chain *chain, ckpt_chain_prices *prices, uint64_t budget_bytes, uint64_t least,
                                    uint64_t cost, ckpt_pool *pool, ckpt_chain_program *program, uint64_t *bound, ckpt_error *err) {
    *program = (ckpt_chain_program){0};
    *bound = 0;
    bool known = false;
    uint64_t once = 0;
    for (int k = 1; k <= chain->stage_count; k++) once += chain->stage[k].forward_cost;
    const bool small = !prices && cost / MANY_RUNS > once; /* functions have few corners then */
    if (small) CKPT_TRY(solve_exactly(chain, prices, budget_bytes, cost, pool, program, bound, &known, err));
    const uint64_t work = chain->stage_count < MANY_STAGES ? FEW_SLOTS : SHARED_SLOTS;
    if (!known) CKPT_TRY(solve_from_bound(chain, budget_bytes, least, cost, work, pool, program, bound, &known, err));
    if (!known && !small) CKPT_TRY(solve_exactly(chain, prices, budget_bytes, cost, pool, program, bound, &known, err));
    return CKPT_OK;
}
