/* The strategies that chain tables solve: budget and min (chain_strategy.h).
 *
 * The tables count live bytes; what a budget must hold is the packed arena. Where packing leaves holes and
 * the arena is too large, the next smaller size at which the tables' schedule changes is tried, and so on:
 * the first that fits recomputes least among them. Going down from any budget passes the same schedules, so a
 * smaller budget never gets a larger arena. */
#include <inttypes.h>
#include <string.h>

#include "base/units.h"
#include "planner/strategies/chain_strategy.h"
#include "planner/strategies/strategy.h"

/* The tables, and the regions of schedules that were packed: that is what takes the time. */
enum { MEMO_SIZE = 64 };

/* Packing takes time that grows with the square of the schedule, up to a length where it is done more coarsely (pack.c); of
 * long ones only so many candidates are packed that planning takes seconds: 600 of 1,000 steps, 6 of 10,000. */
#define MOST_PACKING_WORK UINT64_C(600000000)
enum { LONG_SCHEDULE = 1 << 14 };

/* Where packing does not reach the live peak it has searched as long as it may: so often for the smallest plan. */
enum { MOST_HARD_PACKINGS = 6 };

typedef struct tables {
    const ckpt_strategy_input *input;
    ckpt_chain_strategy *chain;
    uint64_t minimum; /* live bytes */
    struct {
        uint64_t schedule, region;
    } memo[MEMO_SIZE];
    int memo_count;
    uint64_t work; /* squares of the lengths of the schedules that were packed */
} tables;

/* A schedule of the tables with the step region that it really takes. */
typedef struct candidate {
    ckpt_pool pool;
    ckpt_schedule schedule;
    ckpt_chain_solution solution;
    uint64_t region;
    ckpt_layout layout; /* unless the region was known */
} candidate;

/* FNV-1a of Fowler, Noll and Vo, by nodes. */
static uint64_t hash_of(const ckpt_schedule *schedule) {
    uint64_t hash = 0xcbf29ce484222325ull;
    for (int i = 0; i < schedule->count; i++) hash = (hash ^ (uint64_t)(unsigned)schedule->node[i]) * 0x100000001b3ull;
    return hash;
}

static ckpt_status find_region(tables *t, candidate *c, ckpt_error *err) {
    const uint64_t hash = hash_of(&c->schedule);
    for (int i = 0; i < t->memo_count; i++)
        if (t->memo[i].schedule == hash) {
            c->region = t->memo[i].region;
            return CKPT_OK;
        }
    const int count = c->schedule.count;
    t->work += (uint64_t)count * (uint64_t)(count < LONG_SCHEDULE ? count : LONG_SCHEDULE);
    CKPT_TRY(
        ckpt_layout_find(t->input->graph, &c->schedule, t->input->alignment_bytes, &c->pool, &c->layout, err));
    c->region = c->layout.arena_bytes > t->input->eval_bytes ? c->layout.arena_bytes : t->input->eval_bytes;
    if (t->memo_count < MEMO_SIZE) {
        t->memo[t->memo_count].schedule = hash;
        t->memo[t->memo_count++].region = c->region;
    }
    return CKPT_OK;
}

static ckpt_status solve(tables *t, uint64_t step_bytes, bool search, candidate *c, ckpt_error *err) {
    *c = (candidate){0};
    ckpt_status status =
        ckpt_chain_strategy_solve(t->chain, step_bytes, search, &c->pool, &c->schedule, &c->solution, err);
    if (status == CKPT_OK) status = find_region(t, c, err);
    if (status != CKPT_OK) ckpt_pool_free(&c->pool);
    return status;
}

/* The candidate that recomputes least within `allowance`; found->region > allowance when there is none.
 * `bound` is that of the first one, which is for the whole allowance. */
static ckpt_status find_least_recompute(tables *t, uint64_t allowance, bool search, candidate *found,
                                        ckpt_plan_bound *bound, ckpt_error *err) {
    *found = (candidate){.region = UINT64_MAX};
    *bound = (ckpt_plan_bound){0};
    for (uint64_t bytes = allowance; bytes >= t->minimum && allowance >= t->input->eval_bytes;) {
        CKPT_TRY(solve(t, bytes, search, found, err));
        const uint64_t needed = found->solution.needed_bytes;
        if (bytes == allowance) *bound = found->solution.bound;
        if (found->region <= allowance) {
            bound->proved &=
                bytes == allowance || found->solution.recompute_cost == bound->lower_bound_cost;
            return CKPT_OK;
        }
        ckpt_pool_free(&found->pool);
        if (needed <= t->minimum) break;
        bytes = t->work > MOST_PACKING_WORK ? t->minimum : needed - 1;
    }
    found->region = UINT64_MAX;
    return CKPT_OK;
}

/* The candidate with the smallest region; of several the one that recomputes least. No region is smaller than the
 * live bytes in it, so that going up ends where those pass the best region. */
static ckpt_status find_smallest(tables *t, candidate *best, ckpt_error *err) {
    ckpt_plan_bound bound;
    CKPT_TRY(find_least_recompute(t, t->input->eval_bytes, false, best, &bound, err));
    if (best->region <= t->input->eval_bytes) return CKPT_OK;
    int hard = 0;
    for (uint64_t bytes = t->minimum; bytes <= best->region && hard < MOST_HARD_PACKINGS &&
                                      (best->region == UINT64_MAX || t->work <= MOST_PACKING_WORK);
         bytes = ckpt_chain_strategy_next(t->chain, bytes)) {
        candidate next;
        const ckpt_status status = solve(t, bytes, false, &next, err);
        if (status != CKPT_OK) {
            ckpt_pool_free(&best->pool);
            return status;
        }
        hard += next.region > next.solution.needed_bytes && next.region > t->input->eval_bytes;
        const bool better =
            next.region < best->region ||
            (next.region == best->region && next.solution.recompute_cost < best->solution.recompute_cost);
        candidate *worse = better ? best : &next;
        ckpt_pool_free(&worse->pool);
        if (better) *best = next;
    }
    return CKPT_OK;
}

#define COPY(pool, from, count, type)                                                                                  \
    ((type *)memcpy_to(ckpt_pool_array(pool, count, type), from, sizeof(type) * (size_t)(count)))

static void *memcpy_to(void *to, const void *from, size_t bytes) {
    return to ? memcpy(to, from, bytes) : NULL;
}

static ckpt_status take(candidate *c, ckpt_pool *pool, ckpt_strategy_result *result, ckpt_error *err) {
    const int count = c->schedule.count;
    const ckpt_liveness *live = &c->layout.live;
    result->schedule = (ckpt_schedule){.count = count, .capacity = count, .node = COPY(pool, c->schedule.node, count, int)};
    bool ok = result->schedule.node;
    if (live->step) {
        result->layout = c->layout;
        result->layout.live.step = ckpt_plan_copy_steps(live->step, live->step_count, pool);
        result->layout.live.instance = COPY(pool, live->instance, live->instance_count, ckpt_instance);
        result->layout.live.live_bytes = COPY(pool, live->live_bytes, live->step_count, uint64_t);
        ok &= result->layout.live.step && result->layout.live.instance && result->layout.live.live_bytes;
    }
    return ok ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory while planning");
}

static ckpt_status infeasible(const ckpt_strategy_input *input, uint64_t region, ckpt_strategy_result *result,
                              ckpt_error *err) {
    char budget[CKPT_SIZE_TEXT], least[CKPT_SIZE_TEXT];
    result->minimum_total = input->fixed_bytes + region;
    return ckpt_fail(
        err, CKPT_INFEASIBLE,
        "no plan fits --budget %" PRIu64 " (%s): the smallest feasible budget is %" PRIu64 " bytes (%s)",
        input->options->budget_bytes, ckpt_units_format_size(input->options->budget_bytes, budget),
        result->minimum_total, ckpt_units_format_size(result->minimum_total, least));
}

static ckpt_status plan_budget(tables *t, ckpt_pool *pool, ckpt_strategy_result *result, ckpt_error *err) {
    const uint64_t budget = t->input->options->budget_bytes, fixed = t->input->fixed_bytes;
    const uint64_t allowance = budget > fixed ? budget - fixed : 0;
    candidate c;
    CKPT_TRY(find_least_recompute(t, allowance, true, &c, &result->bound, err));
    if (c.region > allowance || budget < fixed) {
        ckpt_pool_free(&c.pool);
        CKPT_TRY(find_smallest(t, &c, err));
        result->bound.proved = false;
    }
    result->bounded = true;
    if (c.region <= allowance && budget >= fixed) {
        const ckpt_status bounded = ckpt_chain_strategy_raise_bound(
            t->chain, allowance, c.solution.recompute_cost, &result->bound, err);
        if (bounded != CKPT_OK) {
            ckpt_pool_free(&c.pool);
            return bounded;
        }
    }
    const ckpt_status status = c.region > allowance || budget < fixed
                                   ? infeasible(t->input, c.region, result, err)
                                   : take(&c, pool, result, err);
    ckpt_pool_free(&c.pool);
    return status;
}

/* What searches find for as many bytes; not found->region <= c->region where that does not pack, or there is no such thing:
 * what the tables and the curve have has been packed before. */
static ckpt_status search_once(tables *t, const candidate *c, candidate *found, ckpt_plan_bound *bound, ckpt_error *err) {
    *found = (candidate){.region = UINT64_MAX};
    CKPT_TRY(ckpt_chain_strategy_solve(t->chain, c->region, true, &found->pool, &found->schedule, &found->solution, err));
    *bound = found->solution.bound;
    return found->solution.improved ? find_region(t, found, err) : CKPT_OK;
}

/* In place of c, which was found without searches, what they find, unless it costs more: the best of it may not pack. */
static ckpt_status search_smallest(tables *t, candidate *c, ckpt_strategy_result *result, ckpt_error *err) {
    candidate found;
    const ckpt_status status = ckpt_chain_strategy_searches(t->chain)
                                   ? find_least_recompute(t, c->region, true, &found, &result->bound, err)
                                   : search_once(t, c, &found, &result->bound, err);
    if (status != CKPT_OK) {
        ckpt_pool_free(&found.pool);
        return status;
    }
    const bool better = found.region <= c->region && found.solution.recompute_cost <= c->solution.recompute_cost;
    ckpt_pool_free(better ? &c->pool : &found.pool);
    if (better) *c = found;
    const uint64_t cost = c->solution.recompute_cost;
    result->bounded = true;
    CKPT_TRY(ckpt_chain_strategy_raise_bound(t->chain, c->region, cost, &result->bound, err));
    result->bound.proved = result->bound.lower_bound_cost == cost;
    return CKPT_OK;
}

static ckpt_status plan_min(tables *t, ckpt_pool *pool, ckpt_strategy_result *result, ckpt_error *err) {
    candidate c;
    CKPT_TRY(find_smallest(t, &c, err));
    ckpt_status status = CKPT_OK;
    if (c.solution.recompute_cost > 0) status = search_smallest(t, &c, result, err);
    if (status == CKPT_OK) status = take(&c, pool, result, err);
    ckpt_pool_free(&c.pool);
    return status;
}

static ckpt_status with_tables(ckpt_status (*plan)(tables *, ckpt_pool *, ckpt_strategy_result *,
                                                   ckpt_error *),
                               const ckpt_strategy_input *input, ckpt_pool *pool,
                               ckpt_strategy_result *result, ckpt_error *err) {
    tables t = {.input = input};
    CKPT_TRY(ckpt_chain_strategy_open(input->graph, input->costs, input->alignment_bytes, false, &t.chain, err));
    t.minimum = ckpt_chain_strategy_minimum(t.chain);
    const ckpt_status status = plan(&t, pool, result, err);
    ckpt_chain_strategy_close(t.chain);
    return status;
}

ckpt_status ckpt_strategy_budget(const ckpt_strategy_input *input, ckpt_pool *pool,
                                 ckpt_strategy_result *result, ckpt_error *err) {
    return with_tables(plan_budget, input, pool, result, err);
}

ckpt_status ckpt_strategy_min(const ckpt_strategy_input *input, ckpt_pool *pool, ckpt_strategy_result *result,
                              ckpt_error *err) {
    return with_tables(plan_min, input, pool, result, err);
}
