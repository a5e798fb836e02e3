/* Costs as data: what makes them, and that plans follow them. */
#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "plan_graphs.h"
#include "planner/core/step_time.h"

static ckpt_graph graph;
static ckpt_error err;

static int set_up(void **state) {
    (void)state;
    plan_graph_make(&(plan_graph_options){.kind = PLAN_GRAPH_PRENORM, .layers = 4, .width = 40, .batch = 9}, &graph, NULL);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    ckpt_graph_free(&graph);
    return 0;
}

static void roofline_is_the_longer_of_two(void **state) {
    (void)state;
    ckpt_pool pool = {0};
    ckpt_costs costs;
    const ckpt_rates rates = {.device = "cpu", .flops_per_second = 2e9, .bytes_per_second = 1e9, .launch_seconds = 5e-6,
                              .product_launch_seconds = 8e-6};
    assert_int_equal(ckpt_costs_roofline(&graph, &rates, &pool, &costs, &err), CKPT_OK);
    assert_int_equal(costs.unit, CKPT_COST_NS);
    assert_int_equal(costs.count, graph.node_count);
    assert_non_null(strstr(costs.source, "roofline, nominal"));
    int by_arithmetic = 0;
    for (int n = 0; n < graph.node_count; n++) {
        const ckpt_cost cost = ckpt_node_cost(&graph, n);
        const uint64_t half_ns = cost.flops > 2 * cost.bytes ? cost.flops : 2 * cost.bytes; /* twice the ns */
        by_arithmetic += cost.flops > 2 * cost.bytes;
        const uint64_t start = ckpt_op_info(graph.node[n].op)->flags & CKPT_MATMUL ? 16000 : 10000;
        assert_true(2 * costs.node[n] + 1 >= half_ns + start && 2 * costs.node[n] <= half_ns + start + 1);
    }
    assert_true(by_arithmetic > 0 && by_arithmetic < graph.node_count);
    ckpt_pool_free(&pool);
}

static void equal_nodes_cost_the_same(void **state) {
    (void)state;
    ckpt_pool pool = {0};
    ckpt_costs costs;
    double *seconds = calloc((size_t)graph.node_count, sizeof *seconds), sum = 0;
    uint64_t ns = 0;
    for (int n = 0; n < graph.node_count; n++) sum += seconds[n] = 1e-6 * (double)(n + 1);
    assert_int_equal(ckpt_costs_measured(&graph, seconds, "test", &pool, &costs, &err), CKPT_OK);
    int equal = 0, unequal = 0;
    for (int n = 0; n < graph.node_count; n++) {
        ns += costs.node[n];
        for (int m = 0; m < n; m++) {
            if (costs.node[n] == costs.node[m]) assert_int_equal(graph.node[n].op, graph.node[m].op);
            equal += costs.node[n] == costs.node[m];
            unequal += graph.node[n].op == graph.node[m].op && costs.node[n] != costs.node[m];
        }
    }
    assert_true(equal > 0 && unequal > 0); /* repeated layers; and the head, which is a product of another shape */
    assert_true((double)ns > 1e9 * sum - graph.node_count && (double)ns < 1e9 * sum + graph.node_count);
    seconds[0] = 0;
    assert_int_equal(ckpt_costs_measured(&graph, seconds, "test", &pool, &costs, &err), CKPT_OK);
    for (int n = 0; n < graph.node_count; n++) assert_true(costs.node[n] >= 1);
    free(seconds);
    ckpt_pool_free(&pool);
}

static ckpt_plan *plan_of(const ckpt_costs *costs, uint64_t budget) {
    const ckpt_plan_options options = {.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = budget, .costs = costs};
    ckpt_plan *plan;
    if (ckpt_plan_make(&graph, &options, &plan_graph_traits, NULL, &plan, &err) != CKPT_OK) fail_msg("%s", err.message);
    return plan;
}

static uint64_t price(const ckpt_costs *costs, const ckpt_plan *plan) {
    uint64_t sum = 0;
    for (int s = 0; s < plan->step_count; s++)
        if (plan->step[s].recompute) sum += costs->node[plan->step[s].node];
    return sum;
}

/* Where products are free and all else is dear, other nodes run again; each plan is the better one by its own costs. */
static void plans_follow_their_costs(void **state) {
    (void)state;
    ckpt_pool pool = {0};
    ckpt_costs flops, times;
    uint64_t most, least, *ns = ckpt_pool_array(&pool, graph.node_count, uint64_t);
    assert_int_equal(ckpt_costs_flops(&graph, &pool, &flops, &err), CKPT_OK);
    for (int n = 0; n < graph.node_count; n++)
        ns[n] = ckpt_op_info(graph.node[n].op)->flags & CKPT_MATMUL ? 1 : 1000;
    times = (ckpt_costs){.unit = CKPT_COST_NS, .source = "test", .count = graph.node_count, .node = ns};
    plan_graph_extremes(&graph, NULL, &most, &least);
    int differ = 0, proved = 0;
    uint64_t before = UINT64_MAX;
    for (int i = 0; i <= 10; i++) {
        const uint64_t budget = least + (most - least) / 10 * (uint64_t)i;
        ckpt_plan *a = plan_of(&flops, budget), *b = plan_of(&times, budget);
        assert_true(a->memory.total <= budget && b->memory.total <= budget);
        assert_int_equal(a->compute.recompute_cost, a->compute.recompute_flops);
        assert_int_equal(a->bound.lower_bound_cost, a->bound.lower_bound_flops);
        assert_int_equal(b->compute.recompute_cost, price(&times, b));
        assert_true(b->bound.lower_bound_cost <= price(&times, a)); /* no plan is below the bound, nor that of FLOPs */
        assert_true(b->bound.lower_bound_flops <= price(&flops, b) && b->bound.lower_bound_flops <= price(&flops, a));
        if (a->bound.proved) assert_true(price(&flops, a) <= price(&flops, b));
        if (b->bound.proved) assert_true(price(&times, b) <= price(&times, a));
        proved += a->bound.proved + b->bound.proved;
        differ += price(&times, b) < price(&times, a) && price(&flops, a) < price(&flops, b);
        assert_true(b->compute.recompute_cost <= before);
        before = b->compute.recompute_cost;
        ckpt_plan_free(a);
        ckpt_plan_free(b);
    }
    assert_true(differ > 0 && proved > 0);
    ckpt_pool_free(&pool);
}

static void step_time_is_the_plans(void **state) {
    (void)state;
    ckpt_pool pool = {0};
    ckpt_costs costs;
    const ckpt_rates *rates = ckpt_rates_nominal("cpu", CKPT_PRECISION_FP32);
    assert_int_equal(ckpt_costs_roofline(&graph, rates, &pool, &costs, &err), CKPT_OK);
    const ckpt_plan_options options = {.strategy = CKPT_STRATEGY_SQRT, .costs = &costs};
    ckpt_plan *plan;
    assert_int_equal(ckpt_plan_make(&graph, &options, &plan_graph_traits, NULL, &plan, &err), CKPT_OK);
    const double ns = (double)(plan->compute.step_cost + plan->compute.recompute_cost);
    const double seconds = ckpt_step_seconds(&graph, plan, 1, rates);
    assert_true(seconds > 0.999e-9 * ns && seconds < 1.001e-9 * ns);
    ckpt_plan_free(plan);
    ckpt_pool_free(&pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roofline_is_the_longer_of_two), cmocka_unit_test(equal_nodes_cost_the_same),
        cmocka_unit_test(plans_follow_their_costs), cmocka_unit_test(step_time_is_the_plans)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
