#include "planner/plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "graph/op.h"
#include "planner/bounds/bound_spine.h"
#include "planner/bounds/bound_step.h"
#include "planner/check/check.h"
#include "planner/strategies/strategy.h"

enum { MOST_NODES = 1 << 16 };

/* Of the training graph of an MLP of 64 layers, whose smallest plan is found in 0.2 s: one of a network with branches takes
 * several seconds. */
enum { MOST_REPORTED_NODES = 400 };

static const ckpt_solver_options every_technique;

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while planning");
}

/* Refuses sizes whose sums could pass 2^62, so that nothing behind needs to check: at any time at most one
 * instance of each tensor is live, in input_buffers copies at most. */
static ckpt_status check_sizes(const ckpt_graph *g, const ckpt_traits *traits, ckpt_error *err) {
    uint64_t sum = traits->matmul_workspace_bytes, part;
    bool fits = sum < 1ull << 61;
    for (int t = 0; fits && t < g->tensor_count; t++) {
        const uint64_t bytes = ckpt_tensor_bytes(&g->tensor[t]);
        fits = bytes < 1ull << 61 &&
               ckpt_mul_u64(ckpt_align_up(bytes, traits->alignment_bytes), (uint64_t)traits->input_buffers,
                            &part) &&
               ckpt_add_u64(sum, part, &sum) && sum < 1ull << 62;
    }
    if (fits) return CKPT_OK;
    return ckpt_fail(err, CKPT_MODEL,
                     "the model's tensors are larger together than any memory; use a smaller --batch");
}

/* Planning takes time that grows with the square of the graph: 65,536 nodes, some 5,000 layers, take seconds. */
static ckpt_status check_length(const ckpt_graph *g, ckpt_error *err) {
    if (g->node_count <= MOST_NODES) return CKPT_OK;
    return ckpt_fail(err, CKPT_MODEL, "%s: its training step has %d nodes; at most %d can be planned",
                     g->path ? g->path : "the model", g->node_count, MOST_NODES);
}

/* Lays out one role after the other from `*at` on; returns the bytes they take. */
static uint64_t place_role(const ckpt_graph *g, ckpt_role role, ckpt_plan *plan, uint64_t *at) {
    const uint64_t begin = *at;
    for (int t = 0; t < g->tensor_count; t++) {
        if (g->tensor[t].role != role) continue;
        plan->persistent_offset[t] = *at;
        *at += ckpt_align_up(ckpt_tensor_bytes(&g->tensor[t]), plan->alignment_bytes);
    }
    return *at - begin;
}

/* The persistent region: parameters, constants, optimizer state, gradient sums, the result, then the copies
 * of the batch. Everything of memory but the step region. */
static ckpt_status place_persistent(const ckpt_graph *g, const ckpt_traits *traits, ckpt_plan *plan,
                                    ckpt_error *err) {
    plan->tensor_count = g->tensor_count;
    plan->persistent_offset = ckpt_pool_array(&plan->pool, g->tensor_count, uint64_t);
    if (!plan->persistent_offset) return out_of_memory(err);
    for (int t = 0; t < g->tensor_count; t++) plan->persistent_offset[t] = UINT64_MAX;
    uint64_t at = 0;
    ckpt_plan_memory *m = &plan->memory;
    m->parameters = place_role(g, CKPT_ROLE_PARAM, plan, &at);
    m->constants = place_role(g, CKPT_ROLE_CONST, plan, &at) + place_role(g, CKPT_ROLE_STATISTIC, plan, &at);
    m->optimizer = place_role(g, CKPT_ROLE_STATE, plan, &at);
    m->gradients = place_role(g, CKPT_ROLE_GRADSUM, plan, &at);
    const uint64_t result = place_role(g, CKPT_ROLE_RESULT, plan, &at);
    plan->input_buffers = traits->input_buffers;
    plan->input_stride_bytes =
        place_role(g, CKPT_ROLE_INPUT, plan, &at) + place_role(g, CKPT_ROLE_TARGET, plan, &at);
    m->inputs = result + plan->input_stride_bytes * (uint64_t)plan->input_buffers;
    plan->persistent_bytes = at + plan->input_stride_bytes * (uint64_t)(plan->input_buffers - 1);
    for (int n = 0; n < g->node_count && !m->workspace; n++)
        if (ckpt_op_info(g->node[n].op)->flags & CKPT_MATMUL)
            m->workspace = ckpt_align_up(traits->matmul_workspace_bytes, plan->alignment_bytes);
    return CKPT_OK;
}

static ckpt_status place_eval(const ckpt_graph *eval, ckpt_plan *plan, ckpt_error *err) {
    ckpt_pool scratch = {0};
    ckpt_layout layout;
    const ckpt_status status = ckpt_layout_of_graph(eval, plan->alignment_bytes, &scratch, &layout, err);
    if (status == CKPT_OK) {
        plan->memory.eval_arena = layout.arena_bytes;
        plan->memory.eval_live_peak = layout.live.peak_bytes;
    }
    ckpt_pool_free(&scratch);
    return status;
}

static ckpt_status count_compute(const ckpt_graph *g, ckpt_plan *plan, ckpt_error *err) {
    plan->layer_count = g->layer_count;
    plan->layer_recomputed = ckpt_pool_array(&plan->pool, g->layer_count, bool);
    if (!plan->layer_recomputed) return out_of_memory(err);
    for (int s = 0; s < plan->step_count; s++) {
        const ckpt_node *node = &g->node[plan->step[s].node];
        const uint64_t flops = ckpt_node_cost(g, plan->step[s].node).flops, cost = plan->costs.node[plan->step[s].node];
        *(plan->step[s].recompute ? &plan->compute.recompute_cost : &plan->compute.step_cost) += cost;
        if (plan->step[s].recompute) {
            plan->compute.recompute_flops += flops;
            plan->compute.recomputed_nodes++;
            if (node->layer >= 0) plan->layer_recomputed[node->layer] = true;
        } else if (node->phase == CKPT_FORWARD) {
            plan->compute.forward_flops += flops;
        } else {
            plan->compute.backward_flops += flops;
        }
    }
    return CKPT_OK;
}

static const char *strategy_text(const ckpt_plan_options *options, ckpt_pool *pool) {
    const char *name = ckpt_strategy_name(options->strategy);
    switch (options->strategy) {
    case CKPT_STRATEGY_EVERY:
        return ckpt_pool_printf(pool, "%s=%d", name, options->every);
    case CKPT_STRATEGY_LAYERS:
        return ckpt_pool_printf(pool, "%s=%s", name, options->layers);
    case CKPT_STRATEGY_BUDGET:
        return ckpt_pool_printf(pool, "%s=%" PRIu64, name, options->budget_bytes);
    default:
        return ckpt_pool_strdup(pool, name);
    }
}

/* What every schedule of the problem recomputes in as many bytes, by the bounds that need no search. */
static ckpt_status bound_cost(const ckpt_problem *p, const ckpt_solver_options *solver, uint64_t step_bytes, uint64_t cost,
                              uint64_t *bound, ckpt_error *err) {
    *bound = 0;
    if (cost == 0) return CKPT_OK;
    CKPT_TRY(ckpt_bound_steps(p, solver, step_bytes, bound, err));
    return *bound < cost ? ckpt_bound_spine(p, solver, step_bytes, cost, bound, err) : CKPT_OK;
}

/* Whatever the costs, FLOPs are what all know: they get a bound of their own. */
static ckpt_status bound_flops(const ckpt_graph *g, const ckpt_solver_options *solver, uint64_t step_bytes, ckpt_plan *plan,
                               ckpt_error *err) {
    plan->bound.lower_bound_flops = plan->bound.lower_bound_cost;
    if (plan->costs.unit == CKPT_COST_FLOPS) return CKPT_OK;
    ckpt_pool scratch = {0};
    ckpt_costs flops;
    ckpt_problem p;
    ckpt_status status = ckpt_costs_flops(g, &scratch, &flops, err);
    if (status == CKPT_OK) status = ckpt_problem_open(g, &flops, plan->alignment_bytes, &scratch, &p, err);
    if (status == CKPT_OK)
        status = bound_cost(&p, solver, step_bytes, plan->compute.recompute_flops, &plan->bound.lower_bound_flops, err);
    ckpt_pool_free(&scratch);
    return status;
}

/* What the plan of strategy NONE takes in all. */
static ckpt_status find_store_all(const ckpt_graph *g, const ckpt_strategy_input *input, const ckpt_plan *plan, uint64_t *total,
                                  ckpt_error *err) {
    ckpt_pool scratch = {0};
    ckpt_layout layout;
    const ckpt_status status = ckpt_layout_of_graph(g, plan->alignment_bytes, &scratch, &layout, err);
    if (status == CKPT_OK) *total = input->fixed_bytes + ckpt_max_u64(layout.arena_bytes, input->eval_bytes);
    ckpt_pool_free(&scratch);
    return status;
}

static ckpt_status bound_minimum(const ckpt_problem *p, const ckpt_strategy_input *input, uint64_t *total, ckpt_error *err) {
    uint64_t bytes;
    CKPT_TRY(ckpt_bound_least_bytes(p, &bytes, err));
    *total = input->fixed_bytes + ckpt_max_u64(bytes, input->eval_bytes);
    return CKPT_OK;
}

/* Runs the strategy: the steps, and where what they make lies. */
static ckpt_status run_strategy(const ckpt_graph *g, const ckpt_strategy_input *input, ckpt_plan *plan,
                                ckpt_strategy_result *result, ckpt_error *err) {
    ckpt_plan_memory *m = &plan->memory;
    CKPT_TRY(ckpt_strategy_run(input, &plan->pool, result, err));
    ckpt_layout layout = result->layout;
    if (!layout.live.step)
        CKPT_TRY(ckpt_layout_find(g, &result->schedule, plan->alignment_bytes, &plan->pool, &layout, err));
    plan->step_count = layout.live.step_count;
    plan->step = layout.live.step;
    plan->instance_count = layout.live.instance_count;
    plan->instance = layout.live.instance;
    m->arena = ckpt_max_u64(layout.arena_bytes, m->eval_arena);
    m->live_peak = ckpt_max_u64(layout.live.peak_bytes, m->eval_live_peak);
    m->total = input->fixed_bytes + m->arena;
    plan->minimum = result->minimum;
    return CKPT_OK;
}

/* All that does not depend on the strategy: the persistent region, evaluation, and what strategies ask. */
static ckpt_status prepare(const ckpt_graph *g, const ckpt_plan_options *options, const ckpt_traits *traits, ckpt_pool *scratch,
                           ckpt_plan *plan, ckpt_problem *problem, ckpt_strategy_input *input, ckpt_error *err) {
    plan->alignment_bytes = traits->alignment_bytes;
    CKPT_TRY(options->costs ? ckpt_costs_copy(options->costs, &plan->pool, &plan->costs, err)
                            : ckpt_costs_flops(g, &plan->pool, &plan->costs, err));
    CKPT_TRY(place_persistent(g, traits, plan, err));
    if (options->eval) CKPT_TRY(place_eval(options->eval, plan, err));
    CKPT_TRY(ckpt_problem_open(g, &plan->costs, traits->alignment_bytes, scratch, problem, err));
    *input = (ckpt_strategy_input){.problem = problem,
                                   .options = options,
                                   .fixed_bytes = plan->persistent_bytes + plan->memory.workspace,
                                   .eval_bytes = plan->memory.eval_arena};
    return CKPT_OK;
}

static ckpt_status make(const ckpt_graph *g, const ckpt_plan_options *options, const ckpt_traits *traits,
                        ckpt_plan_minimum *minimum, ckpt_pool *scratch, ckpt_plan *plan, ckpt_error *err) {
    const ckpt_solver_options *solver = options->solver ? options->solver : &every_technique;
    ckpt_problem problem;
    ckpt_strategy_input input;
    memcpy(plan->graph_hash, g->hash, sizeof plan->graph_hash);
    plan->strategy = strategy_text(options, &plan->pool);
    plan->device = ckpt_pool_strdup(&plan->pool, traits->device);
    if (!plan->strategy || !plan->device) return out_of_memory(err);
    CKPT_TRY(prepare(g, options, traits, scratch, plan, &problem, &input, err));
    ckpt_strategy_result result;
    const ckpt_status status = run_strategy(g, &input, plan, &result, err);
    if (status == CKPT_INFEASIBLE && minimum) *minimum = result.minimum;
    if (status != CKPT_OK) return status;
    CKPT_TRY(count_compute(g, plan, err));
    plan->store_all_total = plan->memory.total;
    if (options->strategy != CKPT_STRATEGY_NONE) CKPT_TRY(find_store_all(g, &input, plan, &plan->store_all_total, err));

    const uint64_t step_bytes = options->strategy == CKPT_STRATEGY_BUDGET ? options->budget_bytes - input.fixed_bytes : plan->memory.arena;
    if (!plan->minimum.lower_bound_total) CKPT_TRY(bound_minimum(&problem, &input, &plan->minimum.lower_bound_total, err));
    plan->bound.lower_bound_cost = result.lower_bound_cost;
    if (!result.bounded)
        CKPT_TRY(bound_cost(&problem, solver, step_bytes, plan->compute.recompute_cost, &plan->bound.lower_bound_cost, err));
    plan->bound.proved = plan->bound.lower_bound_cost == plan->compute.recompute_cost;
    CKPT_TRY(bound_flops(g, solver, step_bytes, plan, err));
    if (ckpt_plan_check(g, plan, options->eval, err) != CKPT_OK)
        return ckpt_fail_in(err, "the plan that strategy %s made is wrong", plan->strategy);
    return CKPT_OK;
}

ckpt_status ckpt_plan_make(const ckpt_graph *graph, const ckpt_plan_options *options,
                           const ckpt_traits *traits, ckpt_plan_minimum *minimum, ckpt_plan **plan,
                           ckpt_error *err) {
    *plan = NULL;
    CKPT_TRY(check_length(graph, err));
    CKPT_TRY(check_sizes(graph, traits, err));
    if (options->eval) CKPT_TRY(check_sizes(options->eval, traits, err));
    ckpt_plan *made = calloc(1, sizeof *made);
    if (!made) return out_of_memory(err);
    ckpt_pool scratch = {0};
    const ckpt_status status = make(graph, options, traits, minimum, &scratch, made, err);
    ckpt_pool_free(&scratch);
    if (status != CKPT_OK) {
        ckpt_plan_free(made);
        return status;
    }
    *plan = made;
    return CKPT_OK;
}

ckpt_status ckpt_plan_find_minimum(const ckpt_graph *graph, const ckpt_plan_options *options, const ckpt_traits *traits,
                                   ckpt_plan_minimum *minimum, ckpt_error *err) {
    CKPT_TRY(check_length(graph, err));
    CKPT_TRY(check_sizes(graph, traits, err));
    ckpt_pool scratch = {0};
    ckpt_plan plan = {0};
    ckpt_problem problem;
    ckpt_strategy_input input;
    ckpt_status status = prepare(graph, options, traits, &scratch, &plan, &problem, &input, err);
    *minimum = (ckpt_plan_minimum){0};
    if (status == CKPT_OK)
        status = graph->node_count > MOST_REPORTED_NODES ? bound_minimum(&problem, &input, &minimum->lower_bound_total, err)
                                                         : ckpt_strategy_find_minimum(&input, minimum, err);
    ckpt_pool_free(&plan.pool);
    ckpt_pool_free(&scratch);
    return status;
}
