/* Stages with the byte counts of real training graphs: tables against exhaustive search, and what the tables
 * say against the liveness of the schedule they give. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "chain_oracle.h"
#include "graph_oracle.h"
#include "random_graphs.h"
#include "graph/build.h"
#include "planner/strategies/chain_strategy.h"
#include "planner/graph/stages.h"

static ckpt_error g_err;

typedef struct agreement {
    int feasible, equal, wrong, exact_need, answers;
} agreement;

/* Solves at `budget`; checks the answer against its own schedule. */
static ckpt_status answer(const ckpt_graph *g, ckpt_chain_strategy *chain, uint64_t budget,
                          ckpt_chain_solution *solution, uint64_t *peak) {
    ckpt_pool pool = {0};
    ckpt_schedule schedule;
    ckpt_status status = ckpt_chain_strategy_solve(chain, budget, true, &pool, &schedule, solution, &g_err);
    if (status == CKPT_OK) {
        uint64_t recomputed;
        *peak = graphs_peak(g, &schedule, &recomputed);
        assert_true(*peak <= solution->needed_bytes);
        assert_true(solution->needed_bytes <= budget);
        assert_int_equal(recomputed, solution->recompute_cost);
        assert_true(solution->bound.lower_bound_cost <= solution->recompute_cost);
    } else {
        assert_int_equal(status, CKPT_INFEASIBLE);
    }
    ckpt_pool_free(&pool);
    return status;
}

/* Exhaustive: against all schedules of the stages, which a graph with branches may beat. */
static void compare(const ckpt_graph *g, bool exhaustive, bool branches, agreement *sum) {
    ckpt_chain_strategy *chain;
    ckpt_stages stages;
    if (ckpt_chain_strategy_open(g, graphs_costs(g), GRAPHS_ALIGNMENT, true, &chain, &g_err) != CKPT_OK) fail_msg("%s", g_err.message);
    assert_int_equal(ckpt_stages_find(g, graphs_costs(g), GRAPHS_ALIGNMENT, &stages, &g_err), CKPT_OK);
    ckpt_schedule all = {.count = g->node_count, .node = malloc(sizeof(int) * (size_t)g->node_count)};
    for (int n = 0; n < g->node_count; n++) all.node[n] = n;
    uint64_t zero, most = graphs_peak(g, &all, &zero), least = ckpt_chain_strategy_minimum(chain);
    free(all.node);
    uint64_t before = UINT64_MAX, need_before = 0, step = exhaustive ? GRAPHS_ALIGNMENT : (most - least) / 200 + 1;
    uint64_t from = exhaustive && least > 20 * GRAPHS_ALIGNMENT ? least - 20 * GRAPHS_ALIGNMENT : least;
    if (exhaustive && (most - from) / step > 60) step = (most - from) / 60 / GRAPHS_ALIGNMENT * GRAPHS_ALIGNMENT;
    from = least - (least - from) / step * step;
    for (uint64_t m = from; m <= most + step; m += step) {
        ckpt_chain_solution solution;
        uint64_t peak = 0, truth = exhaustive ? ckpt_chain_oracle(&stages.chain, m) : 0;
        ckpt_status status = answer(g, chain, m, &solution, &peak);
        assert_int_equal(status == CKPT_OK, m >= least);
        if (exhaustive)
            sum->wrong += branches ? truth != CKPT_CHAIN_NEVER && status != CKPT_OK
                                   : (truth != CKPT_CHAIN_NEVER) != (status == CKPT_OK);
        if (status != CKPT_OK) continue;
        assert_true(solution.recompute_cost <= before && solution.needed_bytes >= need_before);
        before = solution.recompute_cost;
        need_before = solution.needed_bytes;
        sum->answers++;
        sum->exact_need += peak == solution.needed_bytes;
        if (!exhaustive) continue;
        uint64_t ours = solution.recompute_cost + stages.forward_cost;
        if (branches && truth == CKPT_CHAIN_NEVER) continue;
        if (!branches) assert_true(ours >= truth);
        assert_true(solution.bound.lower_bound_cost + stages.forward_cost <= truth);
        sum->feasible++;
        sum->equal += ours <= truth;
    }
    assert_int_equal(before, 0);
    ckpt_stages_free(&stages);
    ckpt_chain_strategy_close(chain);
}

static void print_agreement(const char *what, const agreement *sum) {
    printf("%s: need equals live peak in %d of %d", what, sum->exact_need, sum->answers);
    if (sum->feasible)
        printf("; cost equal %.2f%% of %d, feasibility wrong %d", 100.0 * sum->equal / sum->feasible,
               sum->feasible, sum->wrong);
    printf("\n");
}

static void test_random_mlps(void **state) {
    (void)state;
    agreement sum = {0};
    graphs_seed(11);
    for (int i = 0; i < 60; i++) {
        ckpt_graph g;
        graphs_mlp(i, &g);
        compare(&g, true, false, &sum);
        ckpt_graph_free(&g);
    }
    print_agreement("random MLPs", &sum);
    assert_int_equal(sum.wrong, 0);
    assert_int_equal(sum.exact_need, sum.answers);
    assert_true(sum.equal >= 0.97 * sum.feasible);
}

static void test_random_residual_mlps(void **state) {
    (void)state;
    agreement sum = {0};
    graphs_seed(12);
    for (int i = 0; i < 20; i++) {
        ckpt_graph g;
        graphs_residual_mlp(graphs_between(1, 2), &g);
        compare(&g, true, true, &sum);
        ckpt_graph_free(&g);
    }
    print_agreement("random residual MLPs", &sum);
    assert_int_equal(sum.wrong, 0);
    assert_true(sum.equal >= 0.97 * sum.feasible);
}

/* Small graphs, whole: the same cost as the oracle's at every budget, proved. */
static void compare_whole(const ckpt_graph *g, int *budgets, int *below_stages) {
    ckpt_chain_strategy *chain, *tables;
    assert_int_equal(ckpt_chain_strategy_open(g, graphs_costs(g), GRAPHS_ALIGNMENT, false, &chain, &g_err), CKPT_OK);
    assert_int_equal(ckpt_chain_strategy_open(g, graphs_costs(g), GRAPHS_ALIGNMENT, true, &tables, &g_err), CKPT_OK);
    const uint64_t least = ckpt_chain_strategy_minimum(chain);
    assert_true(least <= ckpt_chain_strategy_minimum(tables));
    uint64_t truth = UINT64_MAX, before = UINT64_MAX;
    for (uint64_t m = least - GRAPHS_ALIGNMENT; truth > 0; m += GRAPHS_ALIGNMENT) {
        ckpt_chain_solution solution, staged;
        uint64_t peak;
        truth = ckpt_graph_oracle(g, graphs_costs(g), GRAPHS_ALIGNMENT, m);
        const ckpt_status status = answer(g, chain, m, &solution, &peak);
        assert_int_equal(status, m < least ? CKPT_INFEASIBLE : CKPT_OK);
        assert_int_equal(truth == UINT64_MAX, m < least);
        if (m < least) continue;
        assert_int_equal(solution.recompute_cost, truth);
        assert_true(solution.bound.proved && solution.bound.lower_bound_cost == truth);
        assert_int_equal(peak, solution.needed_bytes);
        if (truth < before) assert_int_equal(peak, m);
        if (truth < before && before != UINT64_MAX)
            assert_int_equal(ckpt_chain_strategy_next(chain, m - GRAPHS_ALIGNMENT), m);
        before = truth;
        ++*budgets;
        if (m < ckpt_chain_strategy_minimum(tables) ||
            (answer(g, tables, m, &staged, &peak) == CKPT_OK && staged.recompute_cost > truth))
            ++*below_stages;
    }
    assert_int_equal(ckpt_chain_strategy_next(chain, UINT64_MAX - 1), UINT64_MAX);
    ckpt_chain_strategy_close(chain);
    ckpt_chain_strategy_close(tables);
}

static void test_small_graphs_are_proved(void **state) {
    (void)state;
    int budgets = 0, below_stages = 0;
    graphs_seed(14);
    for (int i = 0; i < 40; i++) {
        ckpt_graph g;
        if (i % 4 == 0)
            graphs_residual_mlp(1, &g);
        else
            graphs_mlp(i, &g);
        assert_true(ckpt_graph_oracle_tensors(&g) <= CKPT_GRAPH_ORACLE_TENSORS);
        compare_whole(&g, &budgets, &below_stages);
        ckpt_graph_free(&g);
    }
    printf("small graphs: optimal at all %d budgets, tables and curve cost more at %d\n", budgets, below_stages);
    assert_true(below_stages > 0); /* the oracle tells them apart */
}

/* Graphs with branches: exact as small ones are, and how near the curve comes that larger graphs have instead. */
static void test_series_parallel(void **state) {
    (void)state;
    int budgets = 0, below_stages = 0;
    graphs_seed(15);
    for (int i = 0; i < 40; i++) {
        ckpt_graph g;
        graphs_series_parallel(&g);
        if (ckpt_graph_oracle_tensors(&g) <= CKPT_GRAPH_ORACLE_TENSORS) compare_whole(&g, &budgets, &below_stages);
        ckpt_graph_free(&g);
    }
    printf("series-parallel graphs: optimal at all %d budgets, the curve's cost is more at %d\n", budgets, below_stages);
    assert_true(budgets > 500);
    assert_true(below_stages <= 0.1 * budgets);
}

/* The same where costs are times that have nothing to do with FLOPs. */
static void test_other_costs(void **state) {
    (void)state;
    int budgets = 0, below_stages = 0;
    agreement sum = {0};
    graphs_seed(16);
    graphs_priced = true;
    for (int i = 0; i < 20; i++) {
        ckpt_graph g;
        if (i % 2) graphs_series_parallel(&g);
        else graphs_residual_mlp(1, &g);
        if (ckpt_graph_oracle_tensors(&g) <= CKPT_GRAPH_ORACLE_TENSORS) compare_whole(&g, &budgets, &below_stages);
        ckpt_graph_free(&g);
        graphs_mlp(i, &g);
        compare(&g, true, true, &sum); /* of a stage only the cheap nodes may run again */
        ckpt_graph_free(&g);
    }
    graphs_priced = false;
    printf("other costs: optimal at all %d budgets, the curve's cost is more at %d\n", budgets, below_stages);
    assert_true(budgets > 200);
    print_agreement("other costs", &sum);
}

/* One weight read by several stages: its gradient is summed across them. */
static void test_shared_weight(void **state) {
    (void)state;
    agreement sum = {0};
    ckpt_graph g;
    ckpt_view x = graphs_input(&g, 16, 12), y;
    int64_t dims[2] = {12, 12};
    int w = ckpt_graph_add_tensor(&g, "w", CKPT_F32, CKPT_ROLE_PARAM, 2, dims, &g_err);
    ckpt_view weight = ckpt_view_of(&g, w);
    ckpt_linear_attr attr = {.alpha = 1, .beta = 1, .epilogue = {.act = CKPT_ACT_TANH}};
    for (int k = 0; k < 6; k++) {
        graphs_linear(&g, CKPT_ACT_RELU, 12, &x);
        char name[32];
        snprintf(name, sizeof name, "shared%d", k);
        assert_int_equal(ckpt_build_linear(&g, name, &x, &weight, -1, &attr, &y, &g_err), CKPT_OK);
        x = y;
    }
    graphs_linear(&g, CKPT_ACT_IDENTITY, 3, &x);
    graphs_finish(&g, &x, CKPT_OPTIMIZER_ADAM, false);
    compare(&g, false, true, &sum);
    ckpt_stages stages;
    assert_int_equal(ckpt_stages_find(&g, graphs_costs(&g), GRAPHS_ALIGNMENT, &stages, &g_err), CKPT_OK);
    assert_true(stages.chain.stage_count > 8);
    ckpt_stages_free(&stages);
    ckpt_graph_free(&g);
    print_agreement("shared weight", &sum);
}

/* What passes over everything leaves nothing to cut between: one stage, planned all the same. */
static void test_long_skip(void **state) {
    (void)state;
    agreement sum = {0};
    ckpt_graph g;
    ckpt_view x = graphs_input(&g, 16, 12), first, y;
    graphs_linear(&g, CKPT_ACT_RELU, 12, &x);
    first = x;
    for (int k = 0; k < 6; k++) graphs_linear(&g, CKPT_ACT_RELU, 12, &x);
    assert_int_equal(ckpt_build_binary(&g, "skip", CKPT_BINARY_ADD, &first, &x, &y, &g_err), CKPT_OK);
    graphs_linear(&g, CKPT_ACT_IDENTITY, 3, &y);
    graphs_finish(&g, &y, CKPT_OPTIMIZER_SGD, true);
    compare(&g, false, true, &sum);
    ckpt_graph_free(&g);
    print_agreement("long skip", &sum);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void time_graph(const char *what, ckpt_graph *g, const ckpt_view *x) {
    graphs_finish(g, x, CKPT_OPTIMIZER_ADAM, false);
    agreement sum = {0};
    ckpt_chain_strategy *chain;
    double start = seconds();
    assert_int_equal(ckpt_chain_strategy_open(g, graphs_costs(g), GRAPHS_ALIGNMENT, true, &chain, &g_err), CKPT_OK);
    double opened = seconds();
    uint64_t least = ckpt_chain_strategy_minimum(chain);
    ckpt_chain_solution solution;
    ckpt_pool pool = {0};
    ckpt_schedule schedule;
    assert_int_equal(ckpt_chain_strategy_solve(chain, 2 * least, true, &pool, &schedule, &solution, &g_err),
                     CKPT_OK);
    printf("%s: open %.1f ms, solve %.1f ms; at twice the minimum: recomputed %.3g, bound %.3g\n", what,
           1e3 * (opened - start), 1e3 * (seconds() - opened), (double)solution.recompute_cost,
           (double)solution.bound.lower_bound_cost);
    ckpt_pool_free(&pool);
    ckpt_chain_strategy_close(chain);
    compare(g, false, true, &sum);
    print_agreement(what, &sum);
    ckpt_graph_free(g);
}

static void test_deep_models(void **state) {
    (void)state;
    graphs_seed(13);
    ckpt_graph g;
    ckpt_view x = graphs_input(&g, 64, 64);
    for (int k = 0; k < 63; k++) graphs_linear(&g, CKPT_ACT_RELU, 256, &x);
    graphs_linear(&g, CKPT_ACT_IDENTITY, 10, &x);
    time_graph("64 equal layers", &g, &x);
    x = graphs_input(&g, 64, 64);
    for (int k = 0; k < 63; k++) graphs_linear(&g, CKPT_ACT_RELU, graphs_between(16, 512), &x);
    graphs_linear(&g, CKPT_ACT_IDENTITY, 10, &x);
    time_graph("64 layers of different widths", &g, &x);
    x = graphs_input(&g, 64, 64);
    graphs_linear(&g, CKPT_ACT_RELU, 128, &x);
    for (int k = 0; k < 16; k++) graphs_residual(&g, 256, true, &x);
    graphs_linear(&g, CKPT_ACT_IDENTITY, 10, &x);
    time_graph("16 pre-norm blocks", &g, &x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_mlps),
        cmocka_unit_test(test_random_residual_mlps),
        cmocka_unit_test(test_small_graphs_are_proved),
        cmocka_unit_test(test_series_parallel),
        cmocka_unit_test(test_other_costs),
        cmocka_unit_test(test_shared_weight),
        cmocka_unit_test(test_long_skip),
        cmocka_unit_test(test_deep_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
