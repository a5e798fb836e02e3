#include "planner/frontier.h"

#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "planner/packing/layout.h"
#include "planner/strategies/strategy.h"

/* A schedule that the solver found. */
typedef struct found {
    uint64_t needed, region, cost, flops; /* live bytes, packed bytes; recomputed */
    uint64_t flat_to;               /* at least up to here the tables have nothing cheaper */
    bool at_top;                    /* look just below the next one: half way there was nothing */
} found;

typedef struct search {
    ckpt_problem problem;
    uint64_t fixed_bytes, eval_bytes;
    ckpt_solver *solver;
    int count, most;
    found *point; /* needed ascending; room for most */
} search;

static ckpt_status out_of_memory(ckpt_error *err) { return ckpt_fail(err, CKPT_NOMEM, "out of host memory"); }

static uint64_t recomputed_flops(const ckpt_graph *g, const ckpt_liveness *live) {
    uint64_t flops = 0;
    for (int s = 0; s < live->step_count; s++)
        if (live->step[s].recompute) flops += ckpt_node_cost(g, live->step[s].node).flops;
    return flops;
}

/* Solves for `bytes`; stores the solution behind `after` unless that is what came out. */
static ckpt_status probe(search *s, int after, uint64_t bytes, ckpt_error *err) {
    ckpt_pool pool = {0};
    ckpt_solution solution;
    ckpt_layout layout;
    found *low = &s->point[after];
    ckpt_status status = ckpt_solver_solve(s->solver, bytes, true, &pool, &solution, err);
    const bool known = status == CKPT_OK && after >= 0 && solution.recompute_cost >= low->cost;
    if (known) {
        low->at_top = !low->at_top;
        low->flat_to = bytes;
    } else if (status == CKPT_OK) {
        status = ckpt_layout_find(s->problem.graph, &solution.schedule, s->problem.alignment_bytes, &pool, &layout, err);
    }
    if (status == CKPT_OK && !known) {
        found *at = &s->point[after + 1];
        memmove(at + 1, at, (size_t)(s->count - after - 1) * sizeof *at);
        const uint64_t region = layout.arena_bytes > s->eval_bytes ? layout.arena_bytes : s->eval_bytes;
        *at = (found){.needed = solution.needed_bytes, .region = region, .cost = solution.recompute_cost,
                      .flops = recomputed_flops(s->problem.graph, &layout.live), .flat_to = bytes};
        s->count++;
    }
    ckpt_pool_free(&pool);
    return status;
}

/* The gap whose points leave most open: that behind the point returned; -1 when all are closed. */
static int widest_gap(const search *s) {
    int widest = -1;
    double most = 0;
    for (int i = 0; i + 1 < s->count; i++) {
        const found *a = &s->point[i], *b = &s->point[i + 1];
        if (b->needed <= a->flat_to + 1 || a->cost <= b->cost) continue;
        const double area = (double)(b->needed - a->flat_to) * (double)(a->cost - b->cost);
        if (area > most) widest = i, most = area;
    }
    return widest;
}

static ckpt_status search_gaps(search *s, uint64_t store_all_bytes, bool *complete, ckpt_error *err) {
    uint64_t least, lower_bound;
    CKPT_TRY(ckpt_solver_least_bytes(s->solver, &least, &lower_bound, err));
    CKPT_TRY(probe(s, -1, least, err));
    if (store_all_bytes > least) CKPT_TRY(probe(s, 0, store_all_bytes, err));
    int gap;
    for (int probes = 0; (gap = widest_gap(s)) >= 0 && s->count < s->most && probes < 6 * s->most; probes++) {
        const found *a = &s->point[gap], *b = &s->point[gap + 1];
        CKPT_TRY(probe(s, gap, a->at_top ? b->needed - 1 : a->flat_to + (b->needed - a->flat_to) / 2, err));
    }
    *complete = gap < 0;
    return CKPT_OK;
}

static int by_total(const void *a, const void *b) {
    const ckpt_frontier_point *x = a, *y = b;
    if (x->total_bytes != y->total_bytes) return x->total_bytes < y->total_bytes ? -1 : 1;
    return (x->recompute_cost > y->recompute_cost) - (x->recompute_cost < y->recompute_cost);
}

static ckpt_frontier_point point_of(const ckpt_plan *plan) {
    return (ckpt_frontier_point){.total_bytes = plan->memory.total, .arena_bytes = plan->memory.arena,
                                 .live_peak_bytes = plan->memory.live_peak,
                                 .recompute_cost = plan->compute.recompute_cost,
                                 .recompute_flops = plan->compute.recompute_flops};
}

/* All that was found, without what another beats. */
static ckpt_status keep_best(const search *s, const ckpt_plan *end[2], ckpt_frontier *f, ckpt_error *err) {
    f->point = ckpt_pool_array(&f->pool, s->count + 2, ckpt_frontier_point);
    if (!f->point) return out_of_memory(err);
    for (int i = 0; i < s->count; i++) {
        const found *x = &s->point[i];
        const uint64_t live = x->needed > s->eval_bytes ? x->needed : s->eval_bytes;
        f->point[i] = (ckpt_frontier_point){.total_bytes = s->fixed_bytes + x->region, .arena_bytes = x->region,
                                            .live_peak_bytes = live, .recompute_cost = x->cost, .recompute_flops = x->flops};
    }
    for (int e = 0; e < 2; e++) f->point[s->count + e] = point_of(end[e]);
    qsort(f->point, (size_t)s->count + 2, sizeof *f->point, by_total);
    for (int i = 0; i < s->count + 2; i++)
        if (f->count == 0 || f->point[i].recompute_cost < f->point[f->count - 1].recompute_cost)
            f->point[f->count++] = f->point[i];
    return CKPT_OK;
}

/* Of any plan whose step region takes at most `bytes`. */
static ckpt_status find_bound(const search *s, uint64_t bytes, uint64_t *cost, ckpt_error *err) {
    ckpt_pool pool = {0};
    ckpt_solution solution = {0};
    const ckpt_status status = ckpt_solver_solve(s->solver, bytes, true, &pool, &solution, err);
    *cost = solution.lower_bound_cost;
    ckpt_pool_free(&pool);
    return status;
}

/* At every point, and half way to the next one. */
static ckpt_status find_bounds(const search *s, ckpt_frontier *f, ckpt_error *err) {
    f->bound = ckpt_pool_array(&f->pool, 2 * f->count, ckpt_frontier_bound);
    if (!f->bound) return out_of_memory(err);
    for (int i = 0; i < f->count; i++) {
        ckpt_frontier_point *p = &f->point[i];
        CKPT_TRY(find_bound(s, p->arena_bytes, &p->lower_bound_cost, err));
        f->bound[f->bound_count++] = (ckpt_frontier_bound){p->total_bytes, p->lower_bound_cost};
        if (i + 1 == f->count || p[1].total_bytes < p->total_bytes + 2) continue;
        ckpt_frontier_bound *half = &f->bound[f->bound_count++];
        half->total_bytes = p->total_bytes + (p[1].total_bytes - p->total_bytes) / 2;
        CKPT_TRY(find_bound(s, half->total_bytes - s->fixed_bytes, &half->cost, err));
    }
    /* What holds for more bytes holds for less: a search may have gone farther there. */
    for (int i = f->bound_count - 2; i >= 0; i--)
        if (f->bound[i].cost < f->bound[i + 1].cost) f->bound[i].cost = f->bound[i + 1].cost;
    for (int i = 0, b = 0; i < f->count; i++) {
        while (f->bound[b].total_bytes < f->point[i].total_bytes) b++;
        f->point[i].lower_bound_cost = f->bound[b].cost;
    }
    return CKPT_OK;
}

static ckpt_status find(search *s, const ckpt_plan *end[2], ckpt_frontier *f, ckpt_error *err) {
    s->point = ckpt_pool_array(&f->pool, s->most + 1, found);
    if (!s->point) return out_of_memory(err);
    CKPT_TRY(search_gaps(s, end[0]->memory.arena, &f->complete, err));
    CKPT_TRY(keep_best(s, end, f, err));
    return find_bounds(s, f, err);
}

ckpt_status ckpt_frontier_find(const ckpt_graph *graph, const ckpt_graph *eval, const ckpt_costs *costs,
                               const ckpt_traits *traits, int most_points, ckpt_frontier *frontier, ckpt_error *err) {
    static const ckpt_strategy ends[2] = {CKPT_STRATEGY_NONE, CKPT_STRATEGY_MIN};
    *frontier = (ckpt_frontier){0};
    ckpt_plan *plan[2] = {NULL, NULL};
    ckpt_pool scratch = {0};
    search s = {.most = most_points};
    ckpt_status status = CKPT_OK;
    for (int e = 0; status == CKPT_OK && e < 2; e++) {
        const ckpt_plan_options options = {.strategy = ends[e], .eval = eval, .costs = costs};
        status = ckpt_plan_make(graph, &options, traits, NULL, &plan[e], err);
    }
    if (status == CKPT_OK) {
        s.fixed_bytes = plan[0]->memory.total - plan[0]->memory.arena;
        s.eval_bytes = plan[0]->memory.eval_arena;
        status = ckpt_problem_open(graph, &plan[0]->costs, traits->alignment_bytes, &scratch, &s.problem, err);
    }
    if (status == CKPT_OK) status = ckpt_strategy_solver(&s.problem, NULL, &s.solver, err);
    if (status == CKPT_OK) status = find(&s, (const ckpt_plan *[]){plan[0], plan[1]}, frontier, err);
    ckpt_solver_close(s.solver);
    ckpt_pool_free(&scratch);
    for (int e = 0; e < 2; e++) ckpt_plan_free(plan[e]);
    if (status != CKPT_OK) ckpt_frontier_free(frontier);
    return status;
}

void ckpt_frontier_free(ckpt_frontier *frontier) {
    ckpt_pool_free(&frontier->pool);
    *frontier = (ckpt_frontier){0};
}
