/* The strategies that ask the solver: budget and min.
 *
 * The solver counts live bytes; what a budget must hold is the packed arena. Where packing leaves holes and the arena is too
 * large, the next smaller number of bytes at which the solver's schedule changes is tried, and so on: the first that fits
 * recomputes least among them. Going down from any budget passes the same schedules, so a smaller budget never gets a larger
 * arena. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "planner/strategies/solver.h"
#include "planner/strategies/strategy.h"

/* Packing takes time that grows with the square of the schedule, up to a length where it is done more coarsely (pack.c). Of long
 * schedules only so many are packed that planning takes seconds: 600 of 1,000 steps, 6 of 10,000. */
#define MOST_PACKING_WORK UINT64_C(600000000)
enum { LONG_SCHEDULE = 1 << 14, MEMO_SIZE = 64 };

/* Where packing does not reach the live peak it has searched as long as it may: so often for the smallest plan. */
enum { MOST_HARD_PACKINGS = 6 };

/* Of schedules that are equally good: so many are packed before none is taken to fit. */
enum { MOST_VARIANTS = 8 };

/* The solver, and the regions of schedules that were packed: that is what takes the time. */
typedef struct query {
    const ckpt_strategy_input *input;
    ckpt_solver *solver;
    struct {
        uint64_t schedule, region;
    } memo[MEMO_SIZE];
    int memo_count;
    uint64_t work; /* squares of the lengths of the schedules that were packed */
} query;

/* A schedule with the step region that it really takes. */
typedef struct candidate {
    ckpt_pool pool;
    ckpt_solution solution;
    uint64_t region;    /* UINT64_MAX: there is none */
    ckpt_layout layout; /* unless the region was known */
} candidate;

/* FNV-1a of Fowler, Noll and Vo, by nodes. */
static uint64_t hash_of(const ckpt_schedule *schedule) {
    uint64_t hash = 0xcbf29ce484222325ull;
    for (int i = 0; i < schedule->count; i++) hash = (hash ^ (uint64_t)(unsigned)schedule->node[i]) * 0x100000001b3ull;
    return hash;
}

static ckpt_status find_region(query *q, candidate *c, ckpt_error *err) {
    const uint64_t hash = hash_of(&c->solution.schedule);
    for (int i = 0; i < q->memo_count; i++)
        if (q->memo[i].schedule == hash) {
            c->region = q->memo[i].region;
            return CKPT_OK;
        }
    const int count = c->solution.schedule.count;
    q->work += (uint64_t)count * (uint64_t)(count < LONG_SCHEDULE ? count : LONG_SCHEDULE);
    CKPT_TRY(ckpt_layout_find(q->input->problem->graph, &c->solution.schedule, q->input->problem->alignment_bytes, &c->pool,
                              &c->layout, err));
    c->region = c->layout.arena_bytes > q->input->eval_bytes ? c->layout.arena_bytes : q->input->eval_bytes;
    if (q->memo_count < MEMO_SIZE) {
        q->memo[q->memo_count].schedule = hash;
        q->memo[q->memo_count++].region = c->region;
    }
    return CKPT_OK;
}

static ckpt_status solve(query *q, uint64_t step_bytes, bool search, candidate *c, ckpt_error *err) {
    *c = (candidate){.region = UINT64_MAX};
    ckpt_status status = ckpt_solver_solve(q->solver, step_bytes, search, &c->pool, &c->solution, err);
    if (status == CKPT_OK) status = find_region(q, c, err);
    if (status != CKPT_OK) ckpt_pool_free(&c->pool);
    return status;
}

/* In place of a candidate that does not pack into `most` bytes, another one as good, or with any_cost one of any cost, that
 * does, if there is one among some variants. */
static ckpt_status pack_otherwise(query *q, uint64_t step_bytes, uint64_t most, bool any_cost, candidate *c, ckpt_error *err) {
    for (int variant = 1; variant <= MOST_VARIANTS && c->region > most; variant++) {
        candidate other = {.region = UINT64_MAX, .solution = c->solution};
        bool found;
        ckpt_status status = ckpt_solver_vary(q->solver, step_bytes, c->solution.recompute_cost, any_cost, variant, &other.pool,
                                              &other.solution, &found, err);
        if (status == CKPT_OK && found) status = find_region(q, &other, err);
        const bool better = status == CKPT_OK && found && other.region < c->region;
        ckpt_pool_free(better ? &c->pool : &other.pool);
        if (better) *c = other;
        CKPT_TRY(status);
        if (!found) break;
    }
    return CKPT_OK;
}

/* The candidate that recomputes least within `allowance`, which holds `least` live bytes. found->region is UINT64_MAX where none
 * was packed into it. `lower_bound` is that of the allowance. */
static ckpt_status find_least_recompute(query *q, uint64_t allowance, uint64_t least, bool search, candidate *found,
                                        uint64_t *lower_bound, ckpt_error *err) {
    *found = (candidate){.region = UINT64_MAX};
    *lower_bound = 0;
    for (uint64_t bytes = allowance; bytes >= least;) {
        CKPT_TRY(solve(q, bytes, search, found, err));
        if (bytes == allowance) *lower_bound = found->solution.lower_bound_cost;
        if (search && found->region > allowance) CKPT_TRY(pack_otherwise(q, bytes, allowance, false, found, err));
        if (found->region <= allowance) return CKPT_OK;
        const uint64_t needed = found->solution.needed_bytes;
        ckpt_pool_free(&found->pool);
        *found = (candidate){.region = UINT64_MAX};
        if (needed <= least) break;
        bytes = q->work > MOST_PACKING_WORK ? least : needed - 1;
    }
    return CKPT_OK;
}

/* The candidate with the smallest region; of several the one that recomputes least. No region is smaller than the live bytes
 * in it, so that going up ends where those pass the best region. */
static ckpt_status find_smallest(query *q, uint64_t least, candidate *best, ckpt_error *err) {
    uint64_t lower_bound;
    if (q->input->eval_bytes >= least) {
        CKPT_TRY(find_least_recompute(q, q->input->eval_bytes, least, false, best, &lower_bound, err));
        if (best->region != UINT64_MAX) return CKPT_OK;
    }
    int hard = 0;
    *best = (candidate){.region = UINT64_MAX};
    for (uint64_t bytes = least; bytes <= best->region && hard < MOST_HARD_PACKINGS &&
                                 (best->region == UINT64_MAX || q->work <= MOST_PACKING_WORK);
         bytes = ckpt_solver_next_bytes(q->solver, bytes)) {
        candidate next;
        const ckpt_status status = solve(q, bytes, false, &next, err);
        if (status != CKPT_OK) {
            ckpt_pool_free(&best->pool);
            return status;
        }
        hard += next.region > next.solution.needed_bytes && next.region > q->input->eval_bytes;
        const bool better = next.region < best->region || (next.region == best->region && next.solution.recompute_cost <
                                                                                             best->solution.recompute_cost);
        candidate *worse = better ? best : &next;
        ckpt_pool_free(&worse->pool);
        if (better) *best = next;
    }
    return CKPT_OK;
}

/* --- results ----------------------------------------------------------------------------------------- */

#define COPY(pool, from, count, type)                                                                                  \
    ((type *)memcpy_to(ckpt_pool_array(pool, count, type), from, sizeof(type) * (size_t)(count)))

static void *memcpy_to(void *to, const void *from, size_t bytes) { return to ? memcpy(to, from, bytes) : NULL; }

static ckpt_status take(candidate *c, ckpt_pool *pool, ckpt_strategy_result *result, ckpt_error *err) {
    const ckpt_schedule *schedule = &c->solution.schedule;
    const ckpt_liveness *live = &c->layout.live;
    const int count = schedule->count;
    result->schedule = (ckpt_schedule){.count = count, .capacity = count, .node = COPY(pool, schedule->node, count, int)};
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

static ckpt_status infeasible(const ckpt_strategy_input *input, ckpt_strategy_result *result, ckpt_error *err) {
    char budget[CKPT_SIZE_TEXT], least[CKPT_SIZE_TEXT], bound[CKPT_SIZE_TEXT + 64] = "";
    const ckpt_plan_minimum *m = &result->minimum;
    if (m->lower_bound_total < m->total)
        snprintf(bound, sizeof bound, "; none below %" PRIu64 " bytes is possible", m->lower_bound_total);
    return ckpt_fail(err, CKPT_INFEASIBLE, "no plan fits --budget %" PRIu64 " (%s): the smallest %s budget is %" PRIu64 " bytes (%s)%s",
                     input->options->budget_bytes, ckpt_units_format_size(input->options->budget_bytes, budget),
                     *bound ? "known" : "feasible", m->total, ckpt_units_format_size(m->total, least), bound);
}

/* The smallest plan, and what is known about smaller ones. */
static ckpt_status find_minimum(query *q, candidate *smallest, ckpt_plan_minimum *minimum, ckpt_error *err) {
    const ckpt_strategy_input *input = q->input;
    uint64_t known, bound;
    CKPT_TRY(ckpt_solver_least_bytes(q->solver, &known, &bound, err));
    CKPT_TRY(find_smallest(q, known, smallest, err));
    CKPT_TRY(pack_otherwise(q, known, ckpt_max_u64(known, input->eval_bytes), true, smallest, err));
    if (bound < input->eval_bytes) bound = input->eval_bytes;
    *minimum = (ckpt_plan_minimum){.total = input->fixed_bytes + smallest->region, .lower_bound_total = input->fixed_bytes + bound};
    return CKPT_OK;
}

static ckpt_status plan_budget(query *q, ckpt_pool *pool, ckpt_strategy_result *result, ckpt_error *err) {
    const uint64_t budget = q->input->options->budget_bytes, fixed = q->input->fixed_bytes;
    const uint64_t allowance = budget > fixed ? budget - fixed : 0;
    candidate c = {.region = UINT64_MAX};
    uint64_t least;
    CKPT_TRY(ckpt_solver_smallest_bytes(q->solver, &least, err));
    if (allowance >= q->input->eval_bytes) CKPT_TRY(find_least_recompute(q, allowance, least, true, &c, &result->lower_bound_cost, err));
    if (c.region == UINT64_MAX) {
        candidate smallest;
        CKPT_TRY(find_minimum(q, &smallest, &result->minimum, err));
        ckpt_status status = result->minimum.total > budget ? infeasible(q->input, result, err) : CKPT_OK;
        if (status == CKPT_OK) status = ckpt_solver_smallest_bytes(q->solver, &least, err);
        if (status == CKPT_OK) status = find_least_recompute(q, allowance, least, true, &c, &result->lower_bound_cost, err);
        const bool fits = status == CKPT_OK && c.region != UINT64_MAX;
        if (status == CKPT_OK && !fits) c = smallest; /* what the searches found cannot be packed into the budget */
        else ckpt_pool_free(&smallest.pool);
        CKPT_TRY(status);
    }
    result->bounded = true;
    const ckpt_status status = take(&c, pool, result, err);
    ckpt_pool_free(&c.pool);
    return status;
}

/* In place of c, which was found without searches, what they find in its region, unless that costs more. */
static ckpt_status improve(query *q, candidate *c, ckpt_strategy_result *result, ckpt_error *err) {
    candidate found;
    uint64_t known, bound;
    CKPT_TRY(ckpt_solver_least_bytes(q->solver, &known, &bound, err));
    CKPT_TRY(find_least_recompute(q, c->region, known, true, &found, &result->lower_bound_cost, err));
    result->bounded = true;
    const bool better = found.region <= c->region && found.solution.recompute_cost <= c->solution.recompute_cost;
    ckpt_pool_free(better ? &c->pool : &found.pool);
    if (better) *c = found;
    return CKPT_OK;
}

static ckpt_status plan_min(query *q, ckpt_pool *pool, ckpt_strategy_result *result, ckpt_error *err) {
    candidate c;
    CKPT_TRY(find_minimum(q, &c, &result->minimum, err));
    ckpt_status status = CKPT_OK;
    if (c.solution.recompute_cost > 0) status = improve(q, &c, result, err);
    if (status == CKPT_OK) status = take(&c, pool, result, err);
    ckpt_pool_free(&c.pool);
    return status;
}

/* --- the strategies ---------------------------------------------------------------------------------- */

/* The schedules of the other strategies: no budget may recompute more than they do in the same bytes, and none takes less than
 * the smallest. Of the layers that a user may list, all. */
static ckpt_status add_by_rule(const ckpt_problem *problem, ckpt_solver *solver, ckpt_error *err) {
    enum { MOST_EVERY = 32 };
    const ckpt_graph *g = problem->graph;
    for (int s = 0; s < CKPT_STRATEGY_COUNT; s++) {
        if (s == CKPT_STRATEGY_BUDGET || s == CKPT_STRATEGY_MIN || (s == CKPT_STRATEGY_LAYERS && g->layer_count == 0)) continue;
        for (int every = 1; every == 1 || (s == CKPT_STRATEGY_EVERY && every <= g->layer_count);
             every += every < MOST_EVERY ? 1 : every / 4) {
            ckpt_pool scratch = {0};
            const ckpt_plan_options options = {.strategy = (ckpt_strategy)s, .every = every, .layers = "*"};
            const ckpt_strategy_input input = {.problem = problem, .options = &options};
            ckpt_strategy_result result;
            ckpt_status status = ckpt_strategy_run(&input, &scratch, &result, err);
            if (status == CKPT_OK) status = ckpt_solver_add(solver, &result.schedule, err);
            ckpt_pool_free(&scratch);
            CKPT_TRY(status);
        }
    }
    return CKPT_OK;
}

ckpt_status ckpt_strategy_solver(const ckpt_problem *problem, const ckpt_solver_options *options, ckpt_solver **solver,
                                 ckpt_error *err) {
    CKPT_TRY(ckpt_solver_open(problem, options, solver, err));
    const ckpt_status status = add_by_rule(problem, *solver, err);
    if (status == CKPT_OK) return CKPT_OK;
    ckpt_solver_close(*solver);
    *solver = NULL;
    return status;
}

static ckpt_status ask(ckpt_status (*plan)(query *, ckpt_pool *, ckpt_strategy_result *, ckpt_error *),
                       const ckpt_strategy_input *input, ckpt_pool *pool, ckpt_strategy_result *result, ckpt_error *err) {
    query q = {.input = input};
    CKPT_TRY(ckpt_strategy_solver(input->problem, input->options->solver, &q.solver, err));
    const ckpt_status status = plan(&q, pool, result, err);
    ckpt_solver_close(q.solver);
    return status;
}

static ckpt_status only_minimum(query *q, ckpt_pool *pool, ckpt_strategy_result *result, ckpt_error *err) {
    (void)pool;
    candidate c;
    CKPT_TRY(find_minimum(q, &c, &result->minimum, err));
    ckpt_pool_free(&c.pool);
    return CKPT_OK;
}

ckpt_status ckpt_strategy_find_minimum(const ckpt_strategy_input *input, ckpt_plan_minimum *minimum, ckpt_error *err) {
    ckpt_strategy_result result = {0};
    CKPT_TRY(ask(only_minimum, input, NULL, &result, err));
    *minimum = result.minimum;
    return CKPT_OK;
}

ckpt_status ckpt_strategy_budget(const ckpt_strategy_input *input, ckpt_pool *pool, ckpt_strategy_result *result,
                                 ckpt_error *err) {
    return ask(plan_budget, input, pool, result, err);
}

ckpt_status ckpt_strategy_min(const ckpt_strategy_input *input, ckpt_pool *pool, ckpt_strategy_result *result, ckpt_error *err) {
    return ask(plan_min, input, pool, result, err);
}
