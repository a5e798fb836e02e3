#include "planner/strategies/solver.h"

#include <stdlib.h>

#include "base/units.h"
#include "planner/chain/chain.h"
#include "planner/core/liveness.h"
#include "planner/core/order.h"
#include "planner/bounds/bound_spine.h"
#include "planner/bounds/bound_step.h"
#include "planner/graph/pareto.h"
#include "planner/graph/search.h"
#include "planner/graph/stages.h"
#include "planner/strategies/refine.h"

/* States of one search, some two microseconds and a hundred bytes each: few where little is left to gain. For the least bytes: of
 * all searches together, each of which may take what is left of them. */
enum { MOST_STATES = 1 << 18, FEW_STATES = 1 << 13, MOST_LEAST_STATES = 1 << 20, LARGE_LEAST_STATES = 1 << 18 };
/* Searches of five bundled models and an encoder layer, with 7 to 25 tensors, finish within MOST_STATES at all budgets. */
enum { SMALL_TENSORS = 25 };
#define LITTLE 0.01 /* of a step's cost, between the frontier and the bound */

/* The graph in one order of the backward pass. Schedules are those of the view. */
typedef struct ordered_graph {
    ckpt_order order;
    ckpt_graph view;
    ckpt_problem problem;
    ckpt_stages stages;
    ckpt_chain_tables *tables;
} ordered_graph;

struct ckpt_solver {
    ckpt_pool pool;
    const ckpt_problem *problem;
    ckpt_solver_options options;
    ordered_graph ordered;
    ckpt_pareto frontier;   /* of schedules of the graph */
    ckpt_search *search;    /* NULL: the graph is too large for it */
    ckpt_refine refine;
    bool filled;            /* the frontier */
    uint64_t least_known, least_bound; /* 0: not searched yet */
    double step_cost;
};

static ckpt_status out_of_memory(ckpt_error *err) { return ckpt_fail(err, CKPT_NOMEM, "out of host memory while planning"); }

/* --- filling the frontier ---------------------------------------------------------------------------- */

static ckpt_status open_ordered(ckpt_solver *s, ckpt_error *err) {
    const ckpt_problem *p = s->problem;
    ordered_graph *b = &s->ordered;
    CKPT_TRY(ckpt_order_find(p, s->options.without_orders ? ckpt_order_count() - 1 : 0, &s->pool, &b->order, err));
    CKPT_TRY(ckpt_order_view(p->graph, &b->order, &s->pool, &b->view, err));
    CKPT_TRY(ckpt_problem_open(&b->view, p->costs, p->alignment_bytes, &s->pool, &b->problem, err));
    CKPT_TRY(ckpt_stages_find(&b->problem, &s->options, &b->stages, err));
    if (s->options.without_tables) return CKPT_OK;
    return ckpt_chain_tables_build(&b->stages.chain, &(ckpt_chain_limits){0}, &b->tables, err);
}

/* Where searches finish, heuristics are only to start them: tables and the schedules by rule will do. */
static bool is_small(const ckpt_solver *s) { return s->search && ckpt_search_tensors(s->search) <= SMALL_TENSORS; }

static ckpt_status fill(ckpt_solver *s, ckpt_error *err) {
    if (s->filled) return CKPT_OK;
    s->filled = true;
    ckpt_solver_options options = s->options;
    if (is_small(s)) options.without_prices = options.without_moves = true;
    CKPT_TRY(ckpt_pareto_fill(&s->frontier, &s->ordered.order, &s->ordered.stages, s->ordered.tables, &options, err));
    if (is_small(s)) return CKPT_OK;
    CKPT_TRY(ckpt_pareto_shrink(&s->frontier, &s->options, err));
    return ckpt_pareto_improve(&s->frontier, &s->options, err);
}

/* --- without searches -------------------------------------------------------------------------------- */

static ckpt_status copy_schedule(const ckpt_schedule *from, ckpt_pool *pool, ckpt_schedule *to, ckpt_error *err) {
    *to = (ckpt_schedule){0};
    for (int i = 0; i < from->count; i++) CKPT_TRY(ckpt_schedule_append(pool, to, from->node[i], err));
    return CKPT_OK;
}

static ckpt_status solve_by_tables(const ordered_graph *b, uint64_t step_bytes, ckpt_pool *pool, ckpt_solution *best, bool *found,
                                   ckpt_error *err) {
    ckpt_chain_program program;
    if (!b->tables || step_bytes < ckpt_chain_least_bytes(b->tables)) return CKPT_OK;
    CKPT_TRY(ckpt_chain_solve(b->tables, step_bytes, pool, &program, err));
    const uint64_t cost = program.cost - b->stages.forward_cost;
    if (cost > best->recompute_cost || (cost == best->recompute_cost && program.needed_bytes > best->needed_bytes)) return CKPT_OK;
    *best = (ckpt_solution){.recompute_cost = cost, .needed_bytes = program.needed_bytes};
    *found = true;
    CKPT_TRY(ckpt_stages_emit(&b->stages, &program, pool, &best->schedule, err));
    ckpt_order_map(&b->order, &best->schedule);
    return CKPT_OK;
}

/* The best of the frontier and the tables; best->recompute_cost is UINT64_MAX where there is none. */
static ckpt_status solve_without_search(ckpt_solver *s, uint64_t step_bytes, ckpt_pool *pool, ckpt_solution *best,
                                        ckpt_error *err) {
    *best = (ckpt_solution){.recompute_cost = UINT64_MAX, .needed_bytes = UINT64_MAX};
    CKPT_TRY(fill(s, err));
    const ckpt_pareto_point *point = ckpt_pareto_find(&s->frontier, step_bytes);
    if (point) *best = (ckpt_solution){.recompute_cost = point->cost, .needed_bytes = point->bytes};
    bool found = false;
    CKPT_TRY(solve_by_tables(&s->ordered, step_bytes, pool, best, &found, err));
    return point && !found ? copy_schedule(&point->schedule, pool, &best->schedule, err) : CKPT_OK;
}

uint64_t ckpt_solver_next_bytes(ckpt_solver *s, uint64_t step_bytes) {
    const ckpt_pareto_point *above = ckpt_pareto_above(&s->frontier, step_bytes);
    const uint64_t next = above ? above->bytes : UINT64_MAX;
    return s->ordered.tables ? ckpt_min_u64(next, ckpt_chain_next_bytes(s->ordered.tables, step_bytes)) : next;
}

/* --- with searches ----------------------------------------------------------------------------------- */

static ckpt_status range_of(void *data, uint64_t bytes, ckpt_range *range, ckpt_error *err) {
    ckpt_solver *s = data;
    ckpt_pool scratch = {0};
    ckpt_solution here, above;
    ckpt_status status = solve_without_search(s, bytes, &scratch, &here, err);
    uint64_t to = bytes;
    for (bool same = true; same && status == CKPT_OK;) {
        to = ckpt_solver_next_bytes(s, to);
        if (to == UINT64_MAX) break;
        status = solve_without_search(s, to, &scratch, &above, err);
        same = status == CKPT_OK && above.recompute_cost >= here.recompute_cost;
    }
    ckpt_pool_free(&scratch);
    CKPT_TRY(status);
    *range = (ckpt_range){.from = here.needed_bytes, .to = to, .cost = here.recompute_cost};
    if (here.recompute_cost == 0) return CKPT_OK;
    uint64_t bound;
    CKPT_TRY(ckpt_bound_steps(s->problem, &s->options, to - 1, &bound, err));
    range->most_states = (double)(here.recompute_cost - bound) <= LITTLE * s->step_cost ? FEW_STATES : MOST_STATES;
    return CKPT_OK;
}

/* Makes a solution better, or its bound. */
static ckpt_status search_for_better(ckpt_solver *s, uint64_t step_bytes, ckpt_pool *pool, ckpt_solution *solution,
                                     ckpt_error *err) {
    ckpt_refined better;
    CKPT_TRY(ckpt_refine_find(&s->refine, step_bytes, &better, err));
    const uint64_t bound = solution->lower_bound_cost > better.lower_bound_cost ? solution->lower_bound_cost : better.lower_bound_cost;
    if (better.schedule) {
        *solution = (ckpt_solution){
            .recompute_cost = better.recompute_cost, .needed_bytes = better.needed_bytes, .improved = true};
        CKPT_TRY(copy_schedule(better.schedule, pool, &solution->schedule, err));
    }
    solution->lower_bound_cost = bound;
    return CKPT_OK;
}

ckpt_status ckpt_solver_solve(ckpt_solver *s, uint64_t step_bytes, bool search, ckpt_pool *pool, ckpt_solution *solution,
                              ckpt_error *err) {
    CKPT_TRY(solve_without_search(s, step_bytes, pool, solution, err));
    if (solution->recompute_cost == UINT64_MAX)
        return ckpt_fail(err, CKPT_INFEASIBLE, "no schedule is known for %llu bytes", (unsigned long long)step_bytes);
    if (!search || solution->recompute_cost == 0) return CKPT_OK;
    CKPT_TRY(ckpt_bound_steps(s->problem, &s->options, step_bytes, &solution->lower_bound_cost, err));
    if (s->search) CKPT_TRY(search_for_better(s, step_bytes, pool, solution, err));
    if (s->options.without_spine || solution->lower_bound_cost >= solution->recompute_cost) return CKPT_OK;
    return ckpt_bound_spine(s->problem, &s->options, step_bytes, solution->recompute_cost, &solution->lower_bound_cost, err);
}

/* --- least bytes ------------------------------------------------------------------------------------- */

/* Halves what lies between a bound and what is known. Where a search gives up, no more is known of less. Only the smallest
 * schedule found enters the frontier: what larger budgets get does not depend on whether anybody asked for the least bytes. */
static ckpt_status search_least(ckpt_solver *s, ckpt_error *err) {
    const uint64_t unit = s->problem->alignment_bytes; /* it divides every live peak */
    ckpt_pool pool = {0};
    ckpt_schedule smallest = {0};
    uint64_t low = s->least_bound;
    uint32_t left = is_small(s) ? MOST_LEAST_STATES : LARGE_LEAST_STATES;
    ckpt_status status = CKPT_OK;
    while (low < s->least_known && left > 0 && status == CKPT_OK) {
        const uint64_t middle = low + (s->least_known - low) / 2 / unit * unit;
        ckpt_search_result result;
        status = ckpt_search_feasible(s->search, middle, left, &pool, &result, err);
        left -= !result.complete ? left / 2 : result.states < left ? result.states : left;
        if (result.found) {
            s->least_known = result.peak_bytes;
            smallest = result.schedule;
        } else {
            low = middle + unit;
            if (result.complete) s->least_bound = low;
        }
    }
    if (status == CKPT_OK && smallest.count) status = ckpt_pareto_add(&s->frontier, &smallest, err);
    ckpt_pool_free(&pool);
    return status;
}

ckpt_status ckpt_solver_smallest_bytes(ckpt_solver *s, uint64_t *bytes, ckpt_error *err) {
    CKPT_TRY(fill(s, err));
    *bytes = s->frontier.count ? s->frontier.point[0].bytes : UINT64_MAX;
    if (s->ordered.tables) *bytes = ckpt_min_u64(*bytes, ckpt_chain_least_bytes(s->ordered.tables));
    return CKPT_OK;
}

ckpt_status ckpt_solver_least_bytes(ckpt_solver *s, uint64_t *known, uint64_t *lower_bound, ckpt_error *err) {
    if (!s->least_known) {
        CKPT_TRY(ckpt_solver_smallest_bytes(s, &s->least_known, err));
        CKPT_TRY(ckpt_bound_least_bytes(s->problem, &s->least_bound, err));
        if (s->search) CKPT_TRY(search_least(s, err));
    }
    *known = s->least_known;
    *lower_bound = s->least_bound;
    return CKPT_OK;
}

ckpt_status ckpt_solver_vary(ckpt_solver *s, uint64_t step_bytes, uint64_t cost, bool any_cost, int variant, ckpt_pool *pool,
                             ckpt_solution *solution, bool *found, ckpt_error *err) {
    ckpt_search_result result;
    *found = false;
    if (!s->search) return CKPT_OK;
    ckpt_search_vary(s->search, variant);
    const ckpt_status status = any_cost ? ckpt_search_feasible(s->search, step_bytes, MOST_STATES, pool, &result, err)
                                        : ckpt_search_cheapest(s->search, step_bytes, cost + 1, MOST_STATES, pool, &result, err);
    ckpt_search_vary(s->search, 0);
    if (status != CKPT_OK || !result.found) return status;
    *found = true;
    *solution = (ckpt_solution){.schedule = result.schedule,
                                .recompute_cost = result.recompute_cost,
                                .needed_bytes = result.peak_bytes,
                                .lower_bound_cost = solution->lower_bound_cost,
                                .improved = true};
    return CKPT_OK;
}

/* --- life -------------------------------------------------------------------------------------------- */

static ckpt_status open_all(ckpt_solver *s, ckpt_error *err) {
    const ckpt_problem *p = s->problem;
    for (int n = 0; n < p->graph->node_count; n++) s->step_cost += (double)p->costs->node[n];
    CKPT_TRY(open_ordered(s, err));
    s->frontier = ckpt_pareto_of(p);
    if (s->options.without_search) return CKPT_OK;
    CKPT_TRY(ckpt_search_open(p, &s->search, err));
    s->refine = (ckpt_refine){.search = s->search, .range_of = range_of, .data = s};
    return CKPT_OK;
}

ckpt_status ckpt_solver_open(const ckpt_problem *problem, const ckpt_solver_options *options, ckpt_solver **solver,
                             ckpt_error *err) {
    *solver = NULL;
    ckpt_solver *s = calloc(1, sizeof *s);
    if (!s) return out_of_memory(err);
    s->problem = problem;
    if (options) s->options = *options;
    const ckpt_status status = open_all(s, err);
    if (status == CKPT_OK) *solver = s;
    else ckpt_solver_close(s);
    return status;
}

ckpt_status ckpt_solver_add(ckpt_solver *s, const ckpt_schedule *schedule, ckpt_error *err) {
    return ckpt_pareto_add(&s->frontier, schedule, err);
}

void ckpt_solver_close(ckpt_solver *s) {
    if (!s) return;
    ckpt_chain_tables_free(s->ordered.tables);
    ckpt_stages_free(&s->ordered.stages);
    ckpt_search_close(s->search);
    ckpt_refine_free(&s->refine);
    ckpt_pareto_free(&s->frontier);
    ckpt_pool_free(&s->pool);
    free(s);
}
