#include "planner/strategies/chain_strategy.h"

#include <stdlib.h>

#include "planner/chain/chain.h"
#include "planner/graph/chain_curve.h"
#include "planner/graph/chain_graph_bound.h"
#include "planner/graph/graph_pair.h"
#include "planner/graph/chain_graph_exact.h"
#include "planner/graph/chain_refine.h"
#include "planner/graph/stages.h"

/* States of a search, some hundred bytes and a few microseconds each: few where the bound is less than the first of these shares
 * of a whole step's cost below the curve; many where stages have more inside than tables look at, unless it is so far below that
 * they prove nothing either. */
#define LEAST_GAP 0.01
#define MOST_GAP 0.5
enum { MANY_STATES = 1 << 19, SOME_STATES = 1 << 17, FEW_STATES = 1 << 13 };

struct ckpt_chain_strategy {
    ckpt_pool pool;
    const ckpt_graph *graph;
    const ckpt_costs *costs;
    uint64_t alignment_bytes;
    ckpt_graph_exact *exact; /* a small graph: nothing below is used */
    ckpt_stages stages;
    ckpt_chain_tables *tables;
    uint64_t minimum;
    ckpt_chain_refine refine; /* search: NULL where the graph is too large for that too */
    ckpt_graph_curve curve;   /* schedules made without the tables, beside which theirs must stand */
};

static ckpt_status step_of_curve(void *data, uint64_t bytes, ckpt_curve_step *step, ckpt_error *err);

static ckpt_status open_all(ckpt_chain_strategy *chain, uint64_t alignment, bool tables_only, ckpt_error *err) {
    if (!tables_only) CKPT_TRY(ckpt_graph_exact_open(chain->graph, chain->costs, alignment, &chain->exact, err));
    if (chain->exact) {
        chain->minimum = ckpt_graph_exact_least(chain->exact);
        return CKPT_OK;
    }
    CKPT_TRY(ckpt_stages_find(chain->graph, chain->costs, alignment, &chain->stages, err));
    CKPT_TRY(ckpt_chain_tables_build(&chain->stages.chain, &(ckpt_chain_limits){0}, &chain->tables, err));
    chain->minimum = ckpt_chain_least_bytes(chain->tables);
    chain->curve = (ckpt_graph_curve){.graph = chain->graph, .costs = chain->costs, .alignment_bytes = alignment};
    CKPT_TRY(ckpt_chain_curve_build(&chain->stages, chain->tables, &chain->curve, err));
    if (chain->curve.point[0].bytes < chain->minimum) chain->minimum = chain->curve.point[0].bytes;
    if (tables_only) return CKPT_OK;
    chain->refine = (ckpt_chain_refine){.curve = step_of_curve, .data = chain};
    return ckpt_graph_search_open(chain->graph, chain->costs, alignment, &chain->refine.search, err);
}

ckpt_status ckpt_chain_strategy_open(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                     bool tables_only, ckpt_chain_strategy **out, ckpt_error *err) {
    *out = NULL;
    ckpt_chain_strategy *chain = calloc(1, sizeof *chain);
    if (!chain) return ckpt_fail(err, CKPT_NOMEM, "out of memory");
    chain->graph = graph;
    chain->costs = costs;
    chain->alignment_bytes = alignment_bytes;
    ckpt_status status = open_all(chain, alignment_bytes, tables_only, err);
    if (status != CKPT_OK) {
        ckpt_chain_strategy_close(chain);
        return status;
    }
    *out = chain;
    return CKPT_OK;
}

bool ckpt_chain_strategy_searches(const ckpt_chain_strategy *chain) {
    return chain->refine.search != NULL;
}

uint64_t ckpt_chain_strategy_minimum(ckpt_chain_strategy *chain) {
    return chain->minimum;
}

uint64_t ckpt_chain_strategy_next(ckpt_chain_strategy *chain, uint64_t step_bytes) {
    if (chain->exact) return ckpt_graph_exact_next(chain->exact, step_bytes);
    uint64_t next = ckpt_chain_next_bytes(chain->tables, step_bytes);
    const ckpt_graph_point *above = ckpt_graph_curve_above(&chain->curve, step_bytes);
    if (above && above->bytes < next) next = above->bytes;
    return next;
}

static ckpt_status copy_schedule(const ckpt_schedule *from, ckpt_pool *pool, ckpt_schedule *to,
                                 ckpt_error *err) {
    *to = (ckpt_schedule){0};
    for (int i = 0; i < from->count; i++) CKPT_TRY(ckpt_schedule_append(pool, to, from->node[i], err));
    return CKPT_OK;
}

/* The best of the curve and the tables. */
static ckpt_status solve_without_search(ckpt_chain_strategy *chain, uint64_t step_bytes, ckpt_pool *pool,
                                        ckpt_schedule *schedule, ckpt_chain_solution *solution, ckpt_error *err) {
    const ckpt_graph_point *best = ckpt_graph_curve_find(&chain->curve, step_bytes);
    *solution = (ckpt_chain_solution){.recompute_cost = UINT64_MAX, .needed_bytes = UINT64_MAX};
    if (best) {
        solution->recompute_cost = best->cost;
        solution->needed_bytes = best->bytes;
    }
    if (step_bytes >= ckpt_chain_least_bytes(chain->tables)) {
        ckpt_chain_program program;
        CKPT_TRY(ckpt_chain_solve(chain->tables, step_bytes, pool, &program, err));
        uint64_t cost = program.cost - chain->stages.forward_cost;
        if (cost < solution->recompute_cost ||
            (cost == solution->recompute_cost && program.needed_bytes <= solution->needed_bytes)) {
            best = NULL;
            solution->recompute_cost = cost;
            solution->needed_bytes = program.needed_bytes;
            *schedule = (ckpt_schedule){0};
            CKPT_TRY(ckpt_stages_emit(&chain->stages, &program, pool, schedule, err));
        }
    }
    return best ? copy_schedule(&best->schedule, pool, schedule, err) : CKPT_OK;
}

static double share_of_step(const ckpt_chain_strategy *chain, uint64_t cost) {
    double whole = 0;
    for (int n = 0; n < chain->graph->node_count; n++) whole += (double)chain->costs->node[n];
    return (double)cost / whole;
}

/* The step of the curve and the tables that holds `bytes`. */
static ckpt_status step_of_curve(void *data, uint64_t bytes, ckpt_curve_step *step, ckpt_error *err) {
    ckpt_chain_strategy *chain = data;
    ckpt_pool scratch = {0};
    ckpt_schedule schedule;
    ckpt_chain_solution here, above;
    ckpt_status status = solve_without_search(chain, bytes, &scratch, &schedule, &here, err);
    uint64_t to = bytes;
    for (bool same = true; same && status == CKPT_OK;) {
        to = ckpt_chain_strategy_next(chain, to);
        if (to == UINT64_MAX) break;
        status = solve_without_search(chain, to, &scratch, &schedule, &above, err);
        same = status == CKPT_OK && above.recompute_cost >= here.recompute_cost;
    }
    ckpt_pool_free(&scratch);
    CKPT_TRY(status);
    *step = (ckpt_curve_step){.from = here.needed_bytes, .to = to, .cost = here.recompute_cost};
    if (here.recompute_cost == 0) return CKPT_OK;
    uint64_t bound;
    CKPT_TRY(ckpt_graph_bound(chain->graph, chain->costs, chain->alignment_bytes, to - 1, &bound, err));
    const double gap = share_of_step(chain, here.recompute_cost - bound);
    if (gap <= LEAST_GAP) step->most_states = FEW_STATES;
    else step->most_states = chain->stages.deep && gap < MOST_GAP ? MANY_STATES : SOME_STATES;
    return CKPT_OK;
}

/* Makes a solution better, or its bound. */
static ckpt_status search_for_better(ckpt_chain_strategy *chain, uint64_t step_bytes, ckpt_pool *pool,
                                     ckpt_schedule *schedule, ckpt_chain_solution *solution, ckpt_error *err) {
    ckpt_chain_refined better;
    CKPT_TRY(ckpt_chain_refine_find(&chain->refine, step_bytes, &better, err));
    if (better.schedule) {
        CKPT_TRY(copy_schedule(better.schedule, pool, schedule, err));
        solution->improved = true;
        solution->recompute_cost = better.recompute_cost;
        solution->needed_bytes = better.needed_bytes;
    }
    if (better.lower_bound_cost > solution->bound.lower_bound_cost)
        solution->bound.lower_bound_cost = better.lower_bound_cost;
    return CKPT_OK;
}

ckpt_status ckpt_chain_strategy_solve(ckpt_chain_strategy *chain, uint64_t step_bytes, bool search, ckpt_pool *pool,
                                      ckpt_schedule *schedule, ckpt_chain_solution *solution, ckpt_error *err) {
    if (step_bytes < chain->minimum)
        return ckpt_fail(err, CKPT_INFEASIBLE, "no schedule fits %llu bytes: the smallest takes %llu",
                         (unsigned long long)step_bytes, (unsigned long long)chain->minimum);
    if (chain->exact) {
        *solution = (ckpt_chain_solution){0};
        CKPT_TRY(ckpt_graph_exact_solve(chain->exact, step_bytes, pool, schedule, &solution->recompute_cost,
                                        &solution->needed_bytes, err));
        solution->bound = (ckpt_plan_bound){.proved = true, .lower_bound_cost = solution->recompute_cost};
        return CKPT_OK;
    }
    CKPT_TRY(solve_without_search(chain, step_bytes, pool, schedule, solution, err));
    CKPT_TRY(ckpt_graph_bound(chain->graph, chain->costs, chain->alignment_bytes, step_bytes,
                              &solution->bound.lower_bound_cost, err));
    if (search && chain->refine.search) CKPT_TRY(search_for_better(chain, step_bytes, pool, schedule, solution, err));
    solution->bound.proved = solution->bound.lower_bound_cost == solution->recompute_cost;
    return CKPT_OK;
}

static ckpt_status least_recompute(const ckpt_graph_exact *exact, uint64_t step_bytes, uint64_t *cost,
                                   ckpt_error *err) {
    ckpt_pool scratch = {0};
    ckpt_schedule schedule;
    uint64_t needed;
    const ckpt_status status = ckpt_graph_exact_solve(exact, step_bytes, &scratch, &schedule, cost, &needed, err);
    ckpt_pool_free(&scratch);
    return status;
}

ckpt_status ckpt_chain_strategy_bound(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                      uint64_t step_bytes, uint64_t recompute_cost, ckpt_plan_bound *bound,
                                      ckpt_error *err) {
    ckpt_graph_exact *exact = NULL;
    ckpt_status status = CKPT_OK;
    *bound = (ckpt_plan_bound){0};
    if (recompute_cost > 0) {
        CKPT_TRY(ckpt_graph_exact_open(graph, costs, alignment_bytes, &exact, err));
        status = exact ? least_recompute(exact, step_bytes, &bound->lower_bound_cost, err)
                       : ckpt_graph_bound(graph, costs, alignment_bytes, step_bytes, &bound->lower_bound_cost, err);
        if (status == CKPT_OK)
            status = ckpt_graph_bound_by_chain(graph, costs, alignment_bytes, step_bytes, recompute_cost, &bound->lower_bound_cost, err);
        ckpt_graph_exact_close(exact);
    }
    bound->proved = bound->lower_bound_cost == recompute_cost;
    return status;
}

ckpt_status ckpt_chain_strategy_raise_bound(const ckpt_chain_strategy *chain, uint64_t step_bytes,
                                             uint64_t recompute_cost, ckpt_plan_bound *bound, ckpt_error *err) {
    if (!chain->exact && bound->lower_bound_cost < recompute_cost)
        CKPT_TRY(ckpt_graph_bound_by_chain(chain->graph, chain->costs, chain->alignment_bytes, step_bytes, recompute_cost,
                                           &bound->lower_bound_cost, err));
    if (chain->curve.branching && bound->lower_bound_cost < recompute_cost &&
        share_of_step(chain, recompute_cost - bound->lower_bound_cost) >= LEAST_GAP)
        CKPT_TRY(ckpt_graph_pair_bound(chain->graph, chain->costs, chain->alignment_bytes, step_bytes, recompute_cost,
                                       &bound->lower_bound_cost, err));
    bound->proved = bound->lower_bound_cost == recompute_cost;
    return CKPT_OK;
}

void ckpt_chain_strategy_close(ckpt_chain_strategy *chain) {
    if (!chain) return;
    ckpt_graph_exact_close(chain->exact);
    ckpt_graph_search_close(chain->refine.search);
    ckpt_chain_refine_free(&chain->refine);
    ckpt_chain_tables_free(chain->tables);
    ckpt_graph_curve_free(&chain->curve);
    ckpt_stages_free(&chain->stages);
    ckpt_pool_free(&chain->pool);
    free(chain);
}
