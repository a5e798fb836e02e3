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
#include "graph/autodiff.h"
#include "graph/build.h"
#include "graph/op.h"
#include "planner/chain_graph_bound.h"
#include "planner/chain_graph_search.h"
#include "planner/chain_refine.h"
#include "planner/chain_strategy.h"
#include "planner/graph_chain.h"
#include "planner/graph_cut.h"
#include "planner/liveness.h"
#include "planner/stages.h"

static ckpt_random_chain g_random; /* for its generator */
static ckpt_error g_err;

enum { ALIGNMENT = 64 };

static int between(int low, int high) {
    return (int)ckpt_random_between(&g_random, (uint64_t)low, (uint64_t)high);
}

static void linear(ckpt_graph *g, ckpt_act act, int64_t out, ckpt_view *x) {
    int64_t dims[2] = {x->dim[1], out};
    int w = ckpt_graph_add_tensor(g, "w", CKPT_F32, CKPT_ROLE_PARAM, 2, dims, &g_err);
    int b = ckpt_graph_add_tensor(g, "b", CKPT_F32, CKPT_ROLE_PARAM, 1, &out, &g_err);
    ckpt_view weight = ckpt_view_of(g, w), y;
    ckpt_linear_attr attr = {.alpha = 1, .beta = 1, .epilogue = {.act = act}};
    char name[32];
    snprintf(name, sizeof name, "linear%d", g->node_count);
    assert_int_equal(ckpt_build_linear(g, name, x, &weight, b, &attr, &y, &g_err), CKPT_OK);
    *x = y;
}

static void gelu(ckpt_graph *g, ckpt_view *x) {
    ckpt_epilogue epilogue = {.act = CKPT_ACT_GELU};
    ckpt_view y;
    char name[32];
    snprintf(name, sizeof name, "gelu%d", g->node_count);
    assert_int_equal(ckpt_build_act(g, name, &epilogue, x, &y, &g_err), CKPT_OK);
    *x = y;
}

static void residual(ckpt_graph *g, int64_t inner, bool normed, ckpt_view *x) {
    ckpt_view h = *x, y;
    char name[32];
    if (normed) {
        int scale = ckpt_graph_add_tensor(g, "scale", CKPT_F32, CKPT_ROLE_PARAM, 1, &x->dim[1], &g_err);
        snprintf(name, sizeof name, "norm%d", g->node_count);
        assert_int_equal(ckpt_build_layernorm(g, name, x, scale, -1, 1, 1e-5f, &h, NULL, &g_err), CKPT_OK);
    }
    linear(g, normed ? CKPT_ACT_IDENTITY : CKPT_ACT_RELU, inner, &h);
    if (normed) gelu(g, &h);
    linear(g, CKPT_ACT_IDENTITY, x->dim[1], &h);
    snprintf(name, sizeof name, "add%d", g->node_count);
    assert_int_equal(ckpt_build_binary(g, name, CKPT_BINARY_ADD, x, &h, &y, &g_err), CKPT_OK);
    *x = y;
}

static ckpt_view input(ckpt_graph *g, int64_t batch, int64_t width) {
    *g = (ckpt_graph){.batch = batch, .target = -1, .result = -1};
    int64_t dims[2] = {batch, width};
    int x = ckpt_graph_add_tensor(g, "x", CKPT_F32, CKPT_ROLE_INPUT, 2, dims, &g_err);
    return ckpt_view_of(g, x);
}

static void finish(ckpt_graph *g, const ckpt_view *x, ckpt_optimizer optimizer, bool accumulate) {
    assert_int_equal(ckpt_loss_attach(g, CKPT_LOSS_CE, x, &g_err), CKPT_OK);
    ckpt_training_options training = {.optimizer = optimizer, .accumulate = accumulate};
    ckpt_training_defaults(&training);
    if (ckpt_autodiff_run(g, &training, &g_err) != CKPT_OK) fail_msg("%s", g_err.message);
}

static ckpt_pool costs_pool;
static ckpt_costs costs;
static bool priced; /* costs are no FLOPs, but times that have nothing to do with them */

/* Good until the next call. */
static const ckpt_costs *costs_of(const ckpt_graph *g) {
    ckpt_pool_free(&costs_pool);
    costs_pool = (ckpt_pool){0};
    assert_int_equal(ckpt_costs_flops(g, &costs_pool, &costs, &g_err), CKPT_OK);
    if (!priced) return &costs;
    uint64_t *node = ckpt_pool_array(&costs_pool, g->node_count, uint64_t);
    for (int n = 0; n < g->node_count; n++) node[n] = 1 + (uint64_t)n * 2654435761u % 997;
    costs = (ckpt_costs){.unit = CKPT_COST_NS, .source = "test", .count = g->node_count, .node = node};
    return &costs;
}

static uint64_t peak_of(const ckpt_graph *g, const ckpt_schedule *schedule, uint64_t *recomputed) {
    ckpt_pool pool = {0};
    ckpt_liveness live;
    if (ckpt_liveness_find(g, schedule, ALIGNMENT, &pool, &live, &g_err) != CKPT_OK)
        fail_msg("%s", g_err.message);
    const ckpt_costs *price = costs_of(g);
    *recomputed = 0;
    int *runs = ckpt_pool_array(&pool, g->node_count, int);
    for (int i = 0; i < schedule->count; i++) {
        int n = schedule->node[i];
        if (runs[n]++) {
            *recomputed += price->node[n];
            assert_true(n < g->forward_count && !ckpt_stage_once(g, n));
        }
    }
    for (int n = 0; n < g->node_count; n++) assert_true(runs[n] >= 1);
    uint64_t peak = live.peak_bytes;
    ckpt_pool_free(&pool);
    return peak;
}

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
        *peak = peak_of(g, &schedule, &recomputed);
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
    if (ckpt_chain_strategy_open(g, costs_of(g), ALIGNMENT, true, &chain, &g_err) != CKPT_OK) fail_msg("%s", g_err.message);
    assert_int_equal(ckpt_stages_find(g, costs_of(g), ALIGNMENT, &stages, &g_err), CKPT_OK);
    ckpt_schedule all = {.count = g->node_count, .node = malloc(sizeof(int) * (size_t)g->node_count)};
    for (int n = 0; n < g->node_count; n++) all.node[n] = n;
    uint64_t zero, most = peak_of(g, &all, &zero), least = ckpt_chain_strategy_minimum(chain);
    free(all.node);
    uint64_t before = UINT64_MAX, need_before = 0, step = exhaustive ? ALIGNMENT : (most - least) / 200 + 1;
    uint64_t from = exhaustive && least > 20 * ALIGNMENT ? least - 20 * ALIGNMENT : least;
    if (exhaustive && (most - from) / step > 60) step = (most - from) / 60 / ALIGNMENT * ALIGNMENT;
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

static void random_mlp(int i, ckpt_graph *g) {
    ckpt_view x = input(g, 16, between(1, 6));
    int layers = between(1, 4);
    for (int k = 0; k < layers && g->node_count < 5; k++) {
        bool separate = between(0, 2) == 0;
        linear(g, separate ? CKPT_ACT_IDENTITY : CKPT_ACT_RELU, 4 * between(1, 9), &x);
        if (separate) gelu(g, &x);
    }
    linear(g, CKPT_ACT_IDENTITY, between(2, 5), &x);
    finish(g, &x, i % 2 ? CKPT_OPTIMIZER_SGD : CKPT_OPTIMIZER_ADAM, i % 5 == 0);
}

static void random_residual_mlp(int blocks, ckpt_graph *g) {
    ckpt_view x = input(g, 16, between(1, 6));
    linear(g, CKPT_ACT_IDENTITY, 4 * between(1, 4), &x);
    for (int k = 0; k < blocks; k++) residual(g, 4 * between(1, 9), false, &x);
    linear(g, CKPT_ACT_IDENTITY, between(2, 5), &x);
    finish(g, &x, CKPT_OPTIMIZER_SGD, false);
}

static void test_random_mlps(void **state) {
    (void)state;
    agreement sum = {0};
    g_random.state = 11;
    for (int i = 0; i < 60; i++) {
        ckpt_graph g;
        random_mlp(i, &g);
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
    g_random.state = 12;
    for (int i = 0; i < 20; i++) {
        ckpt_graph g;
        random_residual_mlp(between(1, 2), &g);
        compare(&g, true, true, &sum);
        ckpt_graph_free(&g);
    }
    print_agreement("random residual MLPs", &sum);
    assert_int_equal(sum.wrong, 0);
    assert_true(sum.equal >= 0.97 * sum.feasible);
}

/* Series and parallel parts at random: a part is a linear node, two parts in a row, or the sum of two parts of one input (the
 * input itself among them). */
static void random_part(ckpt_graph *g, int nodes, ckpt_view *x) {
    const int kind = nodes <= 1 ? 0 : between(1, 3);
    if (kind == 0) {
        linear(g, between(0, 1) ? CKPT_ACT_RELU : CKPT_ACT_TANH, x->dim[1], x);
    } else if (kind == 1 || nodes < 3) {
        const int first = between(1, nodes - 1);
        random_part(g, first, x);
        random_part(g, nodes - first, x);
    } else {
        const int left = between(1, nodes - 1), right = nodes - 1 - left;
        ckpt_view a = *x, b = *x;
        char name[32];
        random_part(g, left, &a);
        if (right > 0) random_part(g, right, &b);
        snprintf(name, sizeof name, "sum%d", g->node_count);
        assert_int_equal(ckpt_build_binary(g, name, CKPT_BINARY_ADD, &a, &b, x, &g_err), CKPT_OK);
    }
}

static void random_series_parallel(ckpt_graph *g) {
    ckpt_view x = input(g, 16, between(1, 6));
    linear(g, CKPT_ACT_RELU, 4 * between(1, 4), &x);
    random_part(g, between(3, 6), &x);
    linear(g, CKPT_ACT_IDENTITY, between(2, 5), &x);
    finish(g, &x, CKPT_OPTIMIZER_SGD, false);
}

/* A node with three outputs, of which some are read early, some late and some by no other node. */
static void random_several_outputs(ckpt_graph *g) {
    ckpt_view x = input(g, 16, between(1, 6)), h, y, stats[2];
    linear(g, CKPT_ACT_RELU, 4 * between(1, 4), &x);
    int scale = ckpt_graph_add_tensor(g, "scale", CKPT_F32, CKPT_ROLE_PARAM, 1, &x.dim[1], &g_err);
    assert_int_equal(ckpt_build_layernorm(g, "norm", &x, scale, -1, 1, 1e-5f, &h, stats, &g_err), CKPT_OK);
    for (int k = between(0, 2); k > 0; k--) linear(g, CKPT_ACT_TANH, 4 * between(1, 4), &h);
    assert_int_equal(ckpt_build_binary(g, "add", CKPT_BINARY_ADD, &h, &stats[between(0, 1)], &y, &g_err), CKPT_OK);
    linear(g, CKPT_ACT_RELU, 4 * between(1, 4), &y);
    linear(g, CKPT_ACT_IDENTITY, between(2, 5), &y);
    finish(g, &y, CKPT_OPTIMIZER_SGD, false);
}

/* Budgets at which the bound is the optimum, and at which a bound that took an eighth of the bytes away would be above it. */
static int g_tight, g_overstated;

/* Small graphs, whole: the same cost as the oracle's at every budget, proved; and what the bound for large graphs
 * says of them is never more. */
static void compare_whole(const ckpt_graph *g, int *budgets, int *below_stages) {
    ckpt_chain_strategy *chain, *tables;
    assert_int_equal(ckpt_chain_strategy_open(g, costs_of(g), ALIGNMENT, false, &chain, &g_err), CKPT_OK);
    assert_int_equal(ckpt_chain_strategy_open(g, costs_of(g), ALIGNMENT, true, &tables, &g_err), CKPT_OK);
    const uint64_t least = ckpt_chain_strategy_minimum(chain);
    assert_true(least <= ckpt_chain_strategy_minimum(tables));
    uint64_t truth = UINT64_MAX, before = UINT64_MAX;
    for (uint64_t m = least - ALIGNMENT; truth > 0; m += ALIGNMENT) {
        ckpt_chain_solution solution, staged;
        uint64_t peak, bound;
        truth = ckpt_graph_oracle(g, costs_of(g), ALIGNMENT, m);
        const ckpt_status status = answer(g, chain, m, &solution, &peak);
        assert_int_equal(status, m < least ? CKPT_INFEASIBLE : CKPT_OK);
        assert_int_equal(truth == UINT64_MAX, m < least);
        if (m < least) continue;
        assert_int_equal(solution.recompute_cost, truth);
        assert_true(solution.bound.proved && solution.bound.lower_bound_cost == truth);
        assert_int_equal(peak, solution.needed_bytes);
        if (truth < before) assert_int_equal(peak, m);
        assert_int_equal(ckpt_graph_bound(g, costs_of(g), ALIGNMENT, m, &bound, &g_err), CKPT_OK);
        assert_true(bound <= truth);
        g_tight += bound == truth && truth > 0;
        assert_int_equal(ckpt_graph_bound(g, costs_of(g), ALIGNMENT, m - m / 8, &bound, &g_err), CKPT_OK);
        g_overstated += bound > truth;
        if (truth < before && before != UINT64_MAX)
            assert_int_equal(ckpt_chain_strategy_next(chain, m - ALIGNMENT), m);
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
    g_random.state = 14;
    for (int i = 0; i < 40; i++) {
        ckpt_graph g;
        if (i % 4 == 0)
            random_residual_mlp(1, &g);
        else
            random_mlp(i, &g);
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
    g_random.state = 15;
    for (int i = 0; i < 40; i++) {
        ckpt_graph g;
        random_series_parallel(&g);
        if (ckpt_graph_oracle_tensors(&g) <= CKPT_GRAPH_ORACLE_TENSORS) compare_whole(&g, &budgets, &below_stages);
        ckpt_graph_free(&g);
    }
    printf("series-parallel graphs: optimal at all %d budgets, the curve's cost is more at %d\n", budgets, below_stages);
    assert_true(budgets > 500);
    printf("the bound for large graphs is the optimum at %d budgets; of an eighth less it is too high at %d\n", g_tight,
           g_overstated);
    assert_true(g_tight > 0 && g_overstated > 0); /* the optimum tells a bound that claims too much */
    assert_true(below_stages <= 0.1 * budgets);
}

/* The bound by the chain inside a graph, at every budget. */
static void test_chain_in_graph(void **state) {
    (void)state;
    int budgets = 0, tight = 0, overstated = 0, chains = 0;
    g_random.state = 17;
    for (int i = 0; i < 60; i++) {
        ckpt_graph g;
        ckpt_pool pool = {0};
        ckpt_chain chain;
        if (i % 4 == 0) random_residual_mlp(1, &g);
        if (i % 4 == 1) random_mlp(i, &g);
        if (i % 4 == 2) random_series_parallel(&g);
        if (i % 4 == 3) random_several_outputs(&g);
        assert_int_equal(ckpt_graph_chain_find(&g, costs_of(&g), ALIGNMENT, &pool, &chain, &g_err), CKPT_OK);
        chains += chain.stage_count > 2;
        uint64_t truth = UINT64_MAX;
        for (uint64_t m = ALIGNMENT; truth > 0 && ckpt_graph_oracle_tensors(&g) <= CKPT_GRAPH_ORACLE_TENSORS; m += ALIGNMENT) {
            uint64_t bound = 0, less = 0;
            truth = ckpt_graph_oracle(&g, costs_of(&g), ALIGNMENT, m);
            if (truth == UINT64_MAX) continue;
            assert_int_equal(ckpt_graph_bound_by_chain(&g, costs_of(&g), ALIGNMENT, m, INT64_MAX, true, &bound, &g_err), CKPT_OK);
            if (bound > truth) fail_msg("graph %d: in %llu bytes %llu is enough, the bound is %llu", i, (unsigned long long)m,
                                        (unsigned long long)truth, (unsigned long long)bound);
            assert_int_equal(ckpt_graph_bound_by_chain(&g, costs_of(&g), ALIGNMENT, m - m / 8, INT64_MAX, true, &less, &g_err), CKPT_OK);
            tight += bound == truth && truth > 0;
            overstated += less > truth;
            budgets++;
        }
        ckpt_pool_free(&pool);
        ckpt_graph_free(&g);
    }
    printf("chains in %d graphs of 60: the bound is the optimum at %d of %d budgets; of an eighth less it is too high at %d\n",
           chains, tight, budgets, overstated);
    assert_true(chains > 30 && tight > 0 && overstated > 0);
}

/* A statistic of the norm is read by fewer backward nodes than its output: once they are done only the output is held. */
static void test_outputs_of_different_lives(void **state) {
    (void)state;
    ckpt_graph g;
    ckpt_view x = input(&g, 16, 1), h, y, stats[2];
    linear(&g, CKPT_ACT_RELU, 8, &x);
    const int scale = ckpt_graph_add_tensor(&g, "scale", CKPT_F32, CKPT_ROLE_PARAM, 1, &x.dim[1], &g_err);
    assert_int_equal(ckpt_build_layernorm(&g, "norm", &x, scale, -1, 1, 1e-5f, &h, stats, &g_err), CKPT_OK);
    assert_int_equal(ckpt_build_binary(&g, "product", CKPT_BINARY_MUL, &h, &x, &y, &g_err), CKPT_OK);
    linear(&g, CKPT_ACT_TANH, 32, &y);
    linear(&g, CKPT_ACT_RELU, 8, &y);
    assert_int_equal(ckpt_build_binary(&g, "scaled", CKPT_BINARY_MUL, &y, &stats[1], &h, &g_err), CKPT_OK);
    linear(&g, CKPT_ACT_IDENTITY, 5, &h);
    finish(&g, &h, CKPT_OPTIMIZER_ADAM, false);
    int budgets = 0;
    uint64_t truth = UINT64_MAX;
    for (uint64_t m = ALIGNMENT; truth > 0; m += ALIGNMENT) {
        uint64_t bound;
        truth = ckpt_graph_oracle(&g, costs_of(&g), ALIGNMENT, m);
        if (truth == UINT64_MAX) continue;
        assert_int_equal(ckpt_graph_bound(&g, costs_of(&g), ALIGNMENT, m, &bound, &g_err), CKPT_OK);
        if (bound > truth) fail_msg("in %llu bytes %llu is enough, the bound is %llu", (unsigned long long)m,
                                    (unsigned long long)truth, (unsigned long long)bound);
        budgets++;
    }
    assert_true(budgets > 10);
    ckpt_graph_free(&g);
}

enum { MOST_BUDGETS = 4096 };

/* Sanitizers look at the same code with fewer. */
#ifdef __SANITIZE_ADDRESS__
enum { SEARCHED_GRAPHS = 40 };
#else
enum { SEARCHED_GRAPHS = 120 };
#endif

/* What searches of small graphs said. */
typedef struct searches {
    int whole, ended, tight, overstated, used, not_used;
} searches;

/* The optimum of every number of bytes from `least` on. */
typedef struct truth {
    uint64_t least, cost[MOST_BUDGETS];
    uint64_t curve[MOST_BUDGETS]; /* no less */
    int count;
    uint32_t most_states; /* of a search */
} truth;

static void find_truth(const ckpt_graph *g, truth *t) {
    uint64_t m = ALIGNMENT, cost;
    while ((cost = ckpt_graph_oracle(g, costs_of(g), ALIGNMENT, m)) == UINT64_MAX) m += ALIGNMENT;
    t->least = m;
    for (t->count = 0; t->count < MOST_BUDGETS; m += ALIGNMENT) {
        t->cost[t->count++] = cost;
        if (cost == 0) break;
        cost = ckpt_graph_oracle(g, costs_of(g), ALIGNMENT, m + ALIGNMENT);
    }
    assert_int_equal(t->cost[t->count - 1], 0);
}

/* One number of bytes: with room for all states, and with less and less. */
static void compare_search(const ckpt_graph *g, ckpt_graph_search *search, uint64_t bytes, uint64_t optimum, searches *sum) {
    ckpt_graph_search_result r;
    ckpt_pool pool = {0};
    uint64_t recomputed;
    assert_int_equal(ckpt_graph_search_find(search, bytes, UINT64_MAX / 2, 1 << 20, &pool, &r, &g_err), CKPT_OK);
    assert_true(r.found && !r.ended);
    assert_int_equal(r.recompute_cost, optimum);
    assert_int_equal(r.lower_bound_cost, optimum);
    assert_int_equal(r.needed_bytes, peak_of(g, &r.schedule, &recomputed));
    assert_int_equal(recomputed, optimum);
    assert_true(r.needed_bytes <= bytes);
    sum->whole++;
    const uint32_t states = r.states;
    assert_int_equal(ckpt_graph_search_find(search, bytes, optimum + 1, 1 << 20, &pool, &r, &g_err), CKPT_OK);
    assert_true(r.found && r.recompute_cost == optimum && r.states <= states);
    assert_int_equal(ckpt_graph_search_find(search, bytes, optimum, 1 << 20, &pool, &r, &g_err), CKPT_OK);
    assert_true(!r.found && !r.ended && r.lower_bound_cost == optimum);
    for (uint32_t most = states - 1; most > 0; most = most * 2 / 3) {
        assert_int_equal(ckpt_graph_search_find(search, bytes, UINT64_MAX / 2, most, &pool, &r, &g_err), CKPT_OK);
        assert_true(r.states <= most);
        assert_true(r.lower_bound_cost <= optimum);
        assert_true(!r.found || r.recompute_cost == optimum);
        sum->ended += r.ended;
        sum->tight += r.ended && optimum > 0 && r.lower_bound_cost == optimum;
        assert_int_equal(ckpt_graph_search_find(search, bytes - bytes / 8, UINT64_MAX / 2, most, &pool, &r, &g_err), CKPT_OK);
        sum->overstated += (r.found || r.ended) && r.lower_bound_cost > optimum;
    }
    ckpt_pool_free(&pool);
}

static ckpt_status step_of_truth(void *data, uint64_t bytes, ckpt_curve_step *step, ckpt_error *err) {
    const truth *t = data;
    int from = (int)((bytes - t->least) / ALIGNMENT);
    if (from >= t->count) from = t->count - 1;
    int to = from;
    while (from > 0 && t->curve[from - 1] == t->curve[from]) from--;
    while (to < t->count && t->curve[to] == t->curve[from]) to++;
    *step = (ckpt_curve_step){t->least + (uint64_t)from * ALIGNMENT,
                              to == t->count ? UINT64_MAX : t->least + (uint64_t)to * ALIGNMENT, t->curve[from],
                              t->curve[from] > 0 ? t->most_states : 0};
    (void)err;
    return CKPT_OK;
}

/* Of a curve that is worse than the optimum (slope: by much, in the smallest steps), with searches that end early: more bytes never cost more, in whatever order they are
 * asked for. */
static void compare_refined(const ckpt_graph *g, ckpt_graph_search *search, truth *t, bool slope, searches *sum) {
    uint64_t cost[MOST_BUDGETS];
    int lag = 0;
    for (int i = 0; i < t->count; i++) {
        lag = lag > 0 ? lag - between(0, 2) : between(0, 40);
        t->curve[i] = t->cost[lag <= 0 ? i : lag < i ? i - lag : 0];
        if (slope) t->curve[i] = t->cost[0] + (uint64_t)(t->count - i);
        if (i > 0 && t->curve[i] > t->curve[i - 1]) t->curve[i] = t->curve[i - 1];
    }
    t->curve[t->count - 1] = 0;
    t->most_states = (uint32_t)between(2, 60);
    ckpt_chain_refine down = {search, step_of_truth, t, .steps = NULL};
    for (int i = t->count - 1; i >= 0; i--) {
        ckpt_chain_refine alone = {search, step_of_truth, t, .steps = NULL};
        ckpt_chain_refined answer, again;
        uint64_t recomputed;
        const uint64_t bytes = t->least + (uint64_t)i * ALIGNMENT;
        assert_int_equal(ckpt_chain_refine_find(&down, bytes, &answer, &g_err), CKPT_OK);
        assert_int_equal(ckpt_chain_refine_find(&alone, bytes, &again, &g_err), CKPT_OK);
        cost[i] = answer.schedule ? answer.recompute_cost : t->curve[i];
        assert_true(answer.lower_bound_cost <= t->cost[i] && cost[i] >= t->cost[i] && cost[i] <= t->curve[i]);
        assert_true((answer.schedule != NULL) == (again.schedule != NULL) && again.lower_bound_cost == answer.lower_bound_cost);
        if (answer.schedule) {
            assert_int_equal(again.recompute_cost, answer.recompute_cost);
            assert_int_equal(again.needed_bytes, answer.needed_bytes);
            assert_int_equal(peak_of(g, answer.schedule, &recomputed), answer.needed_bytes);
            assert_int_equal(recomputed, answer.recompute_cost);
            assert_true(answer.needed_bytes <= bytes);
        }
        if (i + 1 < t->count) assert_true(cost[i + 1] <= cost[i]);
        sum->used += answer.schedule != NULL;
        sum->not_used += !answer.schedule && answer.lower_bound_cost == t->cost[i] && cost[i] > t->cost[i];
        ckpt_chain_refine_free(&alone);
    }
    ckpt_chain_refine_free(&down);
}

/* Searches that may end early, of graphs that are small enough for the oracle. */
static void test_searches(void **state) {
    (void)state;
    static truth t;
    searches sum = {0};
    g_random.state = 17;
    for (int i = 0; i < SEARCHED_GRAPHS; i++) {
        ckpt_graph g;
        ckpt_graph_search *search;
        if (i % 4 == 0)
            random_residual_mlp(1, &g);
        else if (i % 4 == 1)
            random_mlp(i, &g);
        else if (i % 4 == 2)
            random_several_outputs(&g);
        else
            random_series_parallel(&g);
        priced = i % 8 > 4;
        if (ckpt_graph_oracle_tensors(&g) <= CKPT_GRAPH_ORACLE_TENSORS) {
            find_truth(&g, &t);
            assert_int_equal(ckpt_graph_search_open(&g, costs_of(&g), ALIGNMENT, &search, &g_err), CKPT_OK);
            assert_non_null(search);
            for (int k = 0; k < t.count; k++)
                compare_search(&g, search, t.least + (uint64_t)k * ALIGNMENT, t.cost[k], &sum);
            for (int k = 0; k < 8; k++) compare_refined(&g, search, &t, k % 2, &sum);
            ckpt_graph_search_close(search);
        }
        ckpt_graph_free(&g);
    }
    priced = false;
    printf("searches: optimal at all %d budgets; of %d that ended early %d bounds were the optimum, and of an eighth less bytes %d "
           "too high; curves made better at %d budgets, and not at %d\n",
           sum.whole, sum.ended, sum.tight, sum.overstated, sum.used, sum.not_used);
    assert_true(sum.whole > 500 && sum.ended > 1000 && sum.overstated > 0 && sum.used > 0 && sum.not_used > 0);
}

/* What holding `held` takes when all that is needed and not held is made again; NEVER where that cannot be. */
static int64_t price_of(const ckpt_graph *g, const bool *needed, const int64_t *hold, const int64_t *run, const bool *held) {
    bool wanted[256], runs[64] = {false};
    int64_t sum = 0;
    memcpy(wanted, needed, sizeof wanted);
    for (int n = g->forward_count - 1; n >= 0; n--) {
        for (int i = 0; i < g->node[n].out_count; i++) {
            const int t = g->node[n].out[i];
            if (t < 0 || !ckpt_tensor_is_step(g, t) || !wanted[t]) continue;
            if (held[t]) sum += hold[t];
            runs[n] |= !held[t];
        }
        if (!runs[n]) continue;
        sum += run[n];
        for (int i = 0; i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) wanted[g->node[n].in[i]] = true;
    }
    return sum;
}

/* Minimum cuts against all choices of what is held. */
static void test_cuts(void **state) {
    (void)state;
    int choices = 0;
    g_random.state = 16;
    for (int i = 0; i < 60; i++) {
        ckpt_graph g;
        ckpt_graph_cut *cut;
        bool needed[256] = {false}, held[256], set[256] = {false};
        int64_t hold[256] = {0}, run[64] = {0}, least = INT64_MAX;
        int tensor[16], count = 0;
        random_series_parallel(&g);
        assert_true(g.tensor_count <= 256 && g.forward_count <= 64);
        for (int n = 0; n < g.forward_count; n++) {
            run[n] = between(0, 50);
            for (int o = 0; o < g.node[n].out_count; o++) {
                const int t = g.node[n].out[o];
                if (t < 0 || !ckpt_tensor_is_step(&g, t)) continue;
                assert_true(count < 16);
                tensor[count++] = t;
                needed[t] = between(0, 1);
                hold[t] = between(0, 60);
            }
        }
        for (int k = 0; k < 1 << count; k++) {
            for (int b = 0; b < count; b++) set[tensor[b]] = k >> b & 1;
            const int64_t price = price_of(&g, needed, hold, run, set);
            if (price < least) least = price;
        }
        assert_int_equal(ckpt_graph_cut_open(&g, &cut, &g_err), CKPT_OK);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(ckpt_graph_cut_solve(cut, needed, hold, run, held), least);
            assert_int_equal(price_of(&g, needed, hold, run, held), least);
        }
        for (int b = 0; b < count; b++) choices += held[tensor[b]];
        ckpt_graph_cut_close(cut);
        ckpt_graph_free(&g);
    }
    assert_true(choices > 60);
}

/* The same where costs are times that have nothing to do with FLOPs. */
static void test_other_costs(void **state) {
    (void)state;
    int budgets = 0, below_stages = 0;
    agreement sum = {0};
    g_random.state = 16;
    priced = true;
    for (int i = 0; i < 20; i++) {
        ckpt_graph g;
        if (i % 2) random_series_parallel(&g);
        else random_residual_mlp(1, &g);
        if (ckpt_graph_oracle_tensors(&g) <= CKPT_GRAPH_ORACLE_TENSORS) compare_whole(&g, &budgets, &below_stages);
        ckpt_graph_free(&g);
        random_mlp(i, &g);
        compare(&g, true, true, &sum); /* of a stage only the cheap nodes may run again */
        ckpt_graph_free(&g);
    }
    priced = false;
    printf("other costs: optimal at all %d budgets, the curve's cost is more at %d\n", budgets, below_stages);
    assert_true(budgets > 200);
    print_agreement("other costs", &sum);
}

/* One weight read by several stages: its gradient is summed across them. */
static void test_shared_weight(void **state) {
    (void)state;
    agreement sum = {0};
    ckpt_graph g;
    ckpt_view x = input(&g, 16, 12), y;
    int64_t dims[2] = {12, 12};
    int w = ckpt_graph_add_tensor(&g, "w", CKPT_F32, CKPT_ROLE_PARAM, 2, dims, &g_err);
    ckpt_view weight = ckpt_view_of(&g, w);
    ckpt_linear_attr attr = {.alpha = 1, .beta = 1, .epilogue = {.act = CKPT_ACT_TANH}};
    for (int k = 0; k < 6; k++) {
        linear(&g, CKPT_ACT_RELU, 12, &x);
        char name[32];
        snprintf(name, sizeof name, "shared%d", k);
        assert_int_equal(ckpt_build_linear(&g, name, &x, &weight, -1, &attr, &y, &g_err), CKPT_OK);
        x = y;
    }
    linear(&g, CKPT_ACT_IDENTITY, 3, &x);
    finish(&g, &x, CKPT_OPTIMIZER_ADAM, false);
    compare(&g, false, true, &sum);
    ckpt_stages stages;
    assert_int_equal(ckpt_stages_find(&g, costs_of(&g), ALIGNMENT, &stages, &g_err), CKPT_OK);
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
    ckpt_view x = input(&g, 16, 12), first, y;
    linear(&g, CKPT_ACT_RELU, 12, &x);
    first = x;
    for (int k = 0; k < 6; k++) linear(&g, CKPT_ACT_RELU, 12, &x);
    assert_int_equal(ckpt_build_binary(&g, "skip", CKPT_BINARY_ADD, &first, &x, &y, &g_err), CKPT_OK);
    linear(&g, CKPT_ACT_IDENTITY, 3, &y);
    finish(&g, &y, CKPT_OPTIMIZER_SGD, true);
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
    finish(g, x, CKPT_OPTIMIZER_ADAM, false);
    agreement sum = {0};
    ckpt_chain_strategy *chain;
    double start = seconds();
    assert_int_equal(ckpt_chain_strategy_open(g, costs_of(g), ALIGNMENT, true, &chain, &g_err), CKPT_OK);
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
    g_random.state = 13;
    ckpt_graph g;
    ckpt_view x = input(&g, 64, 64);
    for (int k = 0; k < 63; k++) linear(&g, CKPT_ACT_RELU, 256, &x);
    linear(&g, CKPT_ACT_IDENTITY, 10, &x);
    time_graph("64 equal layers", &g, &x);
    x = input(&g, 64, 64);
    for (int k = 0; k < 63; k++) linear(&g, CKPT_ACT_RELU, between(16, 512), &x);
    linear(&g, CKPT_ACT_IDENTITY, 10, &x);
    time_graph("64 layers of different widths", &g, &x);
    x = input(&g, 64, 64);
    linear(&g, CKPT_ACT_RELU, 128, &x);
    for (int k = 0; k < 16; k++) residual(&g, 256, true, &x);
    linear(&g, CKPT_ACT_IDENTITY, 10, &x);
    time_graph("16 pre-norm blocks", &g, &x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_mlps),   cmocka_unit_test(test_random_residual_mlps),
        cmocka_unit_test(test_small_graphs_are_proved), cmocka_unit_test(test_series_parallel),
        cmocka_unit_test(test_chain_in_graph),
        cmocka_unit_test(test_outputs_of_different_lives),
        cmocka_unit_test(test_searches),
        cmocka_unit_test(test_cuts),          cmocka_unit_test(test_other_costs),
        cmocka_unit_test(test_shared_weight), cmocka_unit_test(test_long_skip),
        cmocka_unit_test(test_deep_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
