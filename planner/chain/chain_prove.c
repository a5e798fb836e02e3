/* What is known of a budget beside the tables' program: the best one, and how far below it others may be. From what takes
 * microseconds to what takes a second, and no further than needed. */
#include "base/units.h"
#include "planner/chain/chain_exact.h"
#include "planner/chain/chain_tree.h"

/* Corners, some nanoseconds each: for the best program as many as it takes, as a rule; for no more than a bound fewer. */
enum { PROGRAM_WORK = 300000000, BOUND_WORK = 100000000, FAR_WORK = 30000000 };

/* Far: less than this part of the cost is known. */
enum { FAR_PART = 2 };

/* Stages: of longer chains only bounds are sought among all schedules. */
enum { MOST_STAGES = 100 };

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* Raises the bound for all schedules, of which some program costs `cost`: by prices, and by all trees where that leaves more than
 * least_gap. With a pool `program` is a cheaper one, if any. */
static ckpt_status raise_by_prices(const ckpt_chain *chain, ckpt_chain_prices *prices, uint64_t budget_bytes, uint64_t cost,
                                   uint64_t least_gap, ckpt_pool *pool, ckpt_chain_program *program, uint64_t *bound,
                                   ckpt_error *err) {
    uint64_t raised;
    if (*bound >= cost) return CKPT_OK;
    CKPT_TRY(ckpt_chain_prices_all(prices, &raised, err));
    *bound = larger(*bound, ckpt_round_up(raised, ckpt_chain_cost_unit(chain)));
    if (*bound >= cost || cost - *bound <= least_gap || !ckpt_chain_tree_fits(chain)) return CKPT_OK;
    const uint64_t work = pool ? PROGRAM_WORK : *bound < cost / FAR_PART ? FAR_WORK : BOUND_WORK;
    CKPT_TRY(ckpt_chain_tree_solve(chain, prices, budget_bytes, cost, work, pool, program, &raised, err));
    *bound = larger(*bound, ckpt_round_up(raised, ckpt_chain_cost_unit(chain)));
    return CKPT_OK;
}

ckpt_status ckpt_chain_bound_long(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, uint64_t least_gap,
                                  uint64_t *bound, ckpt_error *err) {
    ckpt_chain_prices *prices;
    CKPT_TRY(ckpt_chain_bound_at_once(chain, budget_bytes, bound, err));
    if (*bound >= cost) return CKPT_OK;
    CKPT_TRY(ckpt_chain_prices_open(chain, budget_bytes, &prices, err));
    const ckpt_status status =
        prices ? raise_by_prices(chain, prices, budget_bytes, cost, least_gap, NULL, NULL, bound, err) : CKPT_OK;
    ckpt_chain_prices_close(prices);
    return status;
}

static ckpt_status least_of_all(const ckpt_chain *chain, uint64_t budget_bytes, ckpt_pool *pool, ckpt_chain_program *program,
                                uint64_t *cost, ckpt_error *err) {
    const ckpt_status status = ckpt_chain_exact_solve(chain, budget_bytes, pool, program, err);
    *cost = status == CKPT_OK ? program->cost : CKPT_CHAIN_NEVER;
    return status == CKPT_INFEASIBLE ? CKPT_OK : status;
}

ckpt_status ckpt_chain_lower_bound(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, uint64_t *bound,
                                   ckpt_error *err) {
    if (!ckpt_chain_exact_fits(chain)) return ckpt_chain_bound_long(chain, budget_bytes, cost, 0, bound, err);
    ckpt_pool scratch = {0};
    ckpt_chain_program program;
    const ckpt_status status = least_of_all(chain, budget_bytes, &scratch, &program, bound, err);
    ckpt_pool_free(&scratch);
    return status;
}

/* What schedules cost less than only if they give up what they keep, then what none does. */
static ckpt_status prove_by_prices(const ckpt_chain *chain, ckpt_chain_prices *prices, uint64_t budget_bytes, uint64_t cost,
                                   bool for_all, ckpt_pool *pool, ckpt_chain_program *program, ckpt_chain_bound *bound,
                                   ckpt_error *err) {
    uint64_t persistent;
    CKPT_TRY(ckpt_chain_solve_priced(chain, prices, budget_bytes, bound->all, cost, pool, program, &persistent, err));
    bound->persistent = larger(bound->all, persistent);
    const bool for_program = ckpt_chain_tree_fits(chain) && chain->stage_count <= MOST_STAGES;
    if (!prices || !(for_all || for_program)) return CKPT_OK;
    ckpt_chain_program cheaper = {0};
    const uint64_t known = program->count ? program->cost : cost;
    CKPT_TRY(raise_by_prices(chain, prices, budget_bytes, known, 0, for_program ? pool : NULL, &cheaper, &bound->all, err));
    if (cheaper.count) *program = cheaper;
    bound->persistent = larger(bound->all, smaller(bound->persistent, cheaper.count ? cheaper.cost : known));
    return CKPT_OK;
}

static ckpt_status prove(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, bool for_all, ckpt_pool *pool,
                         ckpt_chain_program *program, ckpt_chain_bound *bound, ckpt_error *err) {
    ckpt_chain_prices *prices;
    *program = (ckpt_chain_program){0};
    CKPT_TRY(ckpt_chain_bound_at_once(chain, budget_bytes, &bound->all, err));
    bound->all = bound->persistent = smaller(bound->all, cost);
    if (bound->all == cost) return CKPT_OK;
    CKPT_TRY(ckpt_chain_prices_open(chain, budget_bytes, &prices, err));
    const ckpt_status status = prove_by_prices(chain, prices, budget_bytes, cost, for_all, pool, program, bound, err);
    ckpt_chain_prices_close(prices);
    return status;
}

ckpt_status ckpt_chain_prove(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, ckpt_pool *pool,
                             ckpt_chain_program *program, ckpt_chain_bound *bound, ckpt_error *err) {
    if (!ckpt_chain_exact_fits(chain)) return prove(chain, budget_bytes, cost, true, pool, program, bound, err);
    CKPT_TRY(least_of_all(chain, budget_bytes, pool, program, &bound->all, err));
    bound->persistent = bound->all;
    if (bound->all >= cost) *program = (ckpt_chain_program){0};
    return CKPT_OK;
}

ckpt_status ckpt_chain_improve(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, ckpt_pool *pool,
                               ckpt_chain_program *program, ckpt_chain_bound *bound, ckpt_error *err) {
    return prove(chain, budget_bytes, cost, false, pool, program, bound, err);
}
