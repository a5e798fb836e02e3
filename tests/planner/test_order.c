/* Orders of the backward pass: every candidate is a topological order, plans of its view are plans of the graph, and the
 * first one reaches the smallest budgets that exhaustive search over all orders has found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "import/model.h"
#include "plan_graphs.h"
#include "planner/check/check.h"
#include "planner/core/liveness.h"
#include "planner/core/order.h"
#include "random_graphs.h"

static ckpt_error err;

#define MUST(call) \
    if ((call) != CKPT_OK) fail_msg("%s: %s", #call, err.message)

/* The problem of a graph, with FLOPs as costs. */
static ckpt_problem open_problem(const ckpt_graph *g, ckpt_pool *pool) {
    ckpt_costs *costs = ckpt_pool_array(pool, 1, ckpt_costs);
    ckpt_problem problem;
    MUST(ckpt_costs_flops(g, pool, costs, &err));
    MUST(ckpt_problem_open(g, costs, 256, pool, &problem, &err));
    return problem;
}

/* A permutation with forward nodes in their places, and every node behind those that it depends on. */
static bool is_topological(const ckpt_problem *p, const int *order) {
    int *at = malloc(sizeof *at * (size_t)p->graph->node_count);
    bool right = true;
    for (int n = 0; n < p->graph->node_count; n++) at[n] = -1;
    for (int i = 0; i < p->graph->node_count; i++) {
        right &= at[order[i]] < 0 && (i >= p->graph->forward_count || order[i] == i);
        at[order[i]] = i;
    }
    for (int n = 0; n < p->graph->node_count; n++)
        for (int i = p->before_first[n]; i < p->before_first[n + 1]; i++) right &= at[p->before[i]] < at[n];
    free(at);
    return right;
}

/* The checker, which knows nothing of views, on a plan of the view turned into one of the graph. */
static ckpt_status check_mapped(const ckpt_graph *g, const ckpt_order *order, ckpt_plan *plan, ckpt_pool *pool) {
    uint64_t *cost = ckpt_pool_array(pool, g->node_count, uint64_t);
    for (int i = 0; i < g->node_count; i++) cost[order->node[i]] = plan->costs.node[i];
    plan->costs.node = cost;
    ckpt_schedule schedule = {.count = plan->step_count, .node = ckpt_pool_array(pool, plan->step_count, int)};
    for (int s = 0; s < plan->step_count; s++) schedule.node[s] = plan->step[s].node;
    ckpt_order_map(order, &schedule);
    for (int s = 0; s < plan->step_count; s++) plan->step[s].node = schedule.node[s];
    return ckpt_plan_check(g, plan, NULL, &err);
}

static void check_order(const ckpt_graph *g, const ckpt_problem *p, int which, bool whole, ckpt_pool *pool) {
    ckpt_order order;
    ckpt_graph view;
    MUST(ckpt_order_find(p, which, pool, &order, &err));
    if (!is_topological(p, order.node)) fail_msg("order '%s' is none of the graph", order.name);
    MUST(ckpt_order_view(g, &order, pool, &view, &err));
    for (int t = 0; t < g->tensor_count; t++)
        if (ckpt_tensor_is_step(g, t)) assert_int_equal(order.node[view.tensor[t].producer], g->tensor[t].producer);
    static const ckpt_strategy strategies[] = {CKPT_STRATEGY_NONE, CKPT_STRATEGY_SQRT, CKPT_STRATEGY_SELECTIVE, CKPT_STRATEGY_MIN};
    for (int s = 0; s < (whole ? 4 : 3); s++) {
        const ckpt_plan_options options = {.strategy = strategies[s]};
        ckpt_plan *plan;
        MUST(ckpt_plan_make(&view, &options, &plan_graph_traits, NULL, &plan, &err));
        if (check_mapped(g, &order, plan, pool) != CKPT_OK) fail_msg("order '%s': %s", order.name, err.message);
        ckpt_plan_free(plan);
    }
}

/* How many candidates other than autodiff's own are no copies of it. */
static int check_orders(const ckpt_graph *g, bool whole) {
    ckpt_pool pool = {0};
    const ckpt_problem p = open_problem(g, &pool);
    int others = 0;
    for (int k = 0; k < ckpt_order_count(); k++) {
        ckpt_order order;
        check_order(g, &p, k, whole, &pool);
        MUST(ckpt_order_find(&p, k, &pool, &order, &err));
        for (int i = 0; i < g->node_count; i++)
            if (order.node[i] != i) {
                others++;
                break;
            }
        if (k == ckpt_order_count() - 1 && order.node[g->forward_count] != g->forward_count) fail_msg("the last is autodiff's");
    }
    ckpt_pool_free(&pool);
    return others;
}

static void test_built_graphs(void **state) {
    (void)state;
    for (int kind = 0; kind < PLAN_GRAPH_KINDS; kind++)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            const plan_graph_options of = {.kind = (plan_graph_kind)kind, .layers = 10, .width = 48, .batch = 64,
                                           .optimizer = CKPT_OPTIMIZER_ADAM, .accumulate = accumulate};
            ckpt_graph g;
            plan_graph_make(&of, &g, NULL);
            const int others = check_orders(&g, !accumulate);
            if (!accumulate) assert_true(others > 0);
            ckpt_graph_free(&g);
        }
}

static void test_random_graphs(void **state) {
    (void)state;
    graphs_seed(31);
    for (int i = 0; i < 60; i++) {
        ckpt_graph g;
        if (i % 3 == 0) graphs_series_parallel(&g);
        else if (i % 3 == 1) graphs_several_outputs(&g);
        else graphs_residual_mlp(2, &g);
        check_orders(&g, false);
        ckpt_graph_free(&g);
    }
}

/* What the tests above notice: an update before the gradient that reads its parameter. */
static void test_wrong_order_is_noticed(void **state) {
    (void)state;
    const plan_graph_options of = {.kind = PLAN_GRAPH_MLP, .layers = 4, .width = 32, .batch = 32};
    ckpt_graph g, view;
    ckpt_pool pool = {0};
    plan_graph_make(&of, &g, NULL);
    const ckpt_problem p = open_problem(&g, &pool);
    ckpt_order order;
    MUST(ckpt_order_find(&p, 0, &pool, &order, &err));
    int dx = g.forward_count, update = 0;
    while (g.node[order.node[dx]].op != CKPT_OP_LINEAR_DX) dx++;
    while (g.node[order.node[update]].phase != CKPT_UPDATE || g.node[order.node[update]].in[0] != g.node[order.node[dx]].in[1]) update++;
    assert_true(update > dx);
    const int early = order.node[update];
    memmove(&order.node[dx + 1], &order.node[dx], sizeof *order.node * (size_t)(update - dx));
    order.node[dx] = early;
    assert_false(is_topological(&p, order.node));
    MUST(ckpt_order_view(&g, &order, &pool, &view, &err));
    const ckpt_plan_options options = {.strategy = CKPT_STRATEGY_NONE};
    ckpt_plan *plan;
    MUST(ckpt_plan_make(&view, &options, &plan_graph_traits, NULL, &plan, &err)); /* right for the view alone */
    assert_int_equal(check_mapped(&g, &order, plan, &pool), CKPT_FAILED);
    ckpt_plan_free(plan);
    ckpt_pool_free(&pool);
    ckpt_graph_free(&g);
}

static uint64_t peak_in_order(const ckpt_graph *g, const ckpt_problem *p, int which) {
    ckpt_pool pool = {0};
    ckpt_order order;
    ckpt_liveness live;
    MUST(ckpt_order_find(p, which, &pool, &order, &err));
    const ckpt_schedule all = {.count = g->node_count, .node = order.node};
    MUST(ckpt_liveness_find(g, &all, 256, &pool, &live, &err));
    const uint64_t peak = live.peak_bytes;
    ckpt_pool_free(&pool);
    return peak;
}

/* With nothing recomputed the first order takes no more than autodiff's own, and of some graphs less. */
static void test_peak_of_store_all(void **state) {
    (void)state;
    int less = 0;
    for (int kind = 0; kind < PLAN_GRAPH_KINDS; kind++)
        for (int width = 32; width <= 512; width *= 16) { /* weights smaller and larger than activations */
            const plan_graph_options of = {.kind = (plan_graph_kind)kind, .layers = 10, .width = width, .batch = 64};
            ckpt_graph g;
            ckpt_pool pool = {0};
            plan_graph_make(&of, &g, NULL);
            const ckpt_problem p = open_problem(&g, &pool);
            const uint64_t first = peak_in_order(&g, &p, 0), own = peak_in_order(&g, &p, ckpt_order_count() - 1);
            assert_true(first <= own);
            less += first < own;
            ckpt_pool_free(&pool);
            ckpt_graph_free(&g);
        }
    assert_true(less > 0);
}

/* The smallest step region by any order and any schedule, of models that come with the program, whatever a node costs: from A*
 * over the backward nodes done and the forward tensors held, written for the purpose in Python. */
static void test_smallest_regions(void **state) {
    (void)state;
    static const struct {
        const char *file;
        uint64_t region;
    } known[] = {{"mlp_checkpointed", 98304}, {"mlp_hourglass", 155648}, {"digits", 196608}, {"mlp_residual", 98304},
                 {"mlp_prenorm_gelu", 147456}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        char path[512];
        ckpt_model model;
        ckpt_pool pool = {0};
        const ckpt_model_options options = {.batch = 256, .loss_auto = true};
        ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD};
        ckpt_training_defaults(&training);
        snprintf(path, sizeof path, CKPT_SOURCE_DIR "/models/%s.onnx", known[i].file);
        MUST(ckpt_model_load(path, &options, &model, &err));
        MUST(ckpt_autodiff_run(&model.graph, &training, &err));
        const ckpt_problem p = open_problem(&model.graph, &pool);
        ckpt_order order;
        ckpt_graph view;
        MUST(ckpt_order_find(&p, 0, &pool, &order, &err));
        MUST(ckpt_order_view(&model.graph, &order, &pool, &view, &err));
        ckpt_costs other;
        MUST(ckpt_costs_copy(p.costs, &pool, &other, &err));
        uint64_t *cost = ckpt_pool_array(&pool, view.node_count, uint64_t);
        for (int n = 0; n < view.node_count; n++) cost[n] = 1 + (uint64_t)n * 7919 % 1000; /* that have nothing to do with FLOPs */
        other.node = cost;
        other.unit = CKPT_COST_NS;
        for (int k = 0; k < 2; k++) {
            ckpt_plan *plan;
            const ckpt_plan_options min = {.strategy = CKPT_STRATEGY_MIN, .costs = k ? &other : NULL};
            MUST(ckpt_plan_make(&view, &min, &plan_graph_traits, NULL, &plan, &err));
            if (plan->memory.arena != known[i].region)
                fail_msg("%s, costs %d: %llu bytes", known[i].file, k, (unsigned long long)plan->memory.arena);
            ckpt_plan_free(plan);
        }
        ckpt_pool_free(&pool);
        ckpt_model_free(&model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_built_graphs), cmocka_unit_test(test_random_graphs), cmocka_unit_test(test_wrong_order_is_noticed),
        cmocka_unit_test(test_peak_of_store_all), cmocka_unit_test(test_smallest_regions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
