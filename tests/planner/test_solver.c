/* The solver behind `budget` and `min`: against exhaustive search over every order of small graphs, and against itself on graphs
 * that no search finishes. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>

#include "graph/build.h"
#include "order_oracle.h"
#include "planner/strategies/solver.h"
#include "random_graphs.h"

static ckpt_error g_err;

/* Sanitizers look at the same code with fewer. */
#ifdef __SANITIZE_ADDRESS__
enum { SMALL_GRAPHS = 20, LARGE_BUDGETS = 10 };
#else
enum { SMALL_GRAPHS = 80, LARGE_BUDGETS = 40 };
#endif

typedef struct opened {
    ckpt_pool pool;
    ckpt_problem problem;
    ckpt_solver *solver;
    uint64_t least, least_bound;
} opened;

static void open_solver(const ckpt_graph *g, const ckpt_solver_options *options, opened *o) {
    *o = (opened){0};
    assert_int_equal(ckpt_problem_open(g, graphs_costs(g), GRAPHS_ALIGNMENT, &o->pool, &o->problem, &g_err), CKPT_OK);
    assert_int_equal(ckpt_solver_open(&o->problem, options, &o->solver, &g_err), CKPT_OK);
    ckpt_schedule all = {0};
    for (int n = 0; n < g->node_count; n++) assert_int_equal(ckpt_schedule_append(&o->pool, &all, n, &g_err), CKPT_OK);
    assert_int_equal(ckpt_solver_add(o->solver, &all, &g_err), CKPT_OK);
    assert_int_equal(ckpt_solver_least_bytes(o->solver, &o->least, &o->least_bound, &g_err), CKPT_OK);
    assert_true(o->least_bound <= o->least);
}

static void close_solver(opened *o) {
    ckpt_solver_close(o->solver);
    ckpt_pool_free(&o->pool);
}

/* Solves at `bytes`; checks the answer against its own schedule. False: infeasible. */
static bool answer(const ckpt_graph *g, const opened *o, uint64_t bytes, ckpt_solution *solution) {
    ckpt_pool pool = {0};
    const ckpt_status status = ckpt_solver_solve(o->solver, bytes, true, &pool, solution, &g_err);
    if (status == CKPT_OK) {
        uint64_t recomputed;
        const uint64_t peak = graphs_peak(g, &solution->schedule, &recomputed);
        assert_true(peak <= solution->needed_bytes && solution->needed_bytes <= bytes);
        assert_int_equal(recomputed, solution->recompute_cost);
        assert_true(solution->lower_bound_cost <= solution->recompute_cost);
    } else {
        assert_int_equal(status, CKPT_INFEASIBLE);
    }
    ckpt_pool_free(&pool);
    return status == CKPT_OK;
}

typedef struct agreement {
    int graphs, budgets, equal, proved;
} agreement;

/* At every breakpoint of the Pareto frontier over all orders, and just below the next. */
static void compare_with_oracle(const ckpt_graph *g, const ckpt_solver_options *options, agreement *sum) {
    order_oracle *oracle = order_oracle_open(g, graphs_costs(g), GRAPHS_ALIGNMENT);
    order_frontier f;
    opened o;
    assert_non_null(oracle);
    order_oracle_limit(oracle, 200000);
    const order_answer found = order_oracle_frontier(oracle, &f);
    assert_true(found != ORDER_WRONG);
    order_oracle_close(oracle);
    if (found != ORDER_FOUND) return;
    open_solver(g, options, &o);
    ckpt_solution s;
    sum->graphs++;
    assert_true(o.least >= f.point[0].bytes && o.least_bound <= f.point[0].bytes);
    if (!options->without_search) {
        assert_int_equal(o.least, f.point[0].bytes);
        assert_int_equal(o.least_bound, f.point[0].bytes);
        assert_false(answer(g, &o, o.least - GRAPHS_ALIGNMENT, &s));
    }
    for (int k = 0; k < f.count; k++)
        for (int end = 0; end < 2 && (end == 0 || k + 1 < f.count); end++) {
            if (!answer(g, &o, end ? f.point[k + 1].bytes - 1 : f.point[k].bytes, &s)) {
                assert_true(options->without_search);
                continue;
            }
            assert_true(s.recompute_cost >= f.point[k].cost && s.lower_bound_cost <= f.point[k].cost);
            sum->budgets++;
            sum->equal += s.recompute_cost == f.point[k].cost;
            sum->proved += s.lower_bound_cost == s.recompute_cost;
        }
    close_solver(&o);
    order_frontier_free(&f);
}

static void make_small(int i, ckpt_graph *g) {
    if (i % 4 == 0) graphs_residual_mlp(1, g);
    if (i % 4 == 1) graphs_mlp(i, g);
    if (i % 4 == 2) graphs_series_parallel(g);
    if (i % 4 == 3) graphs_several_outputs(g);
    graphs_priced = i % 8 > 4;
}

static agreement compare_small(int graphs, const ckpt_solver_options *options) {
    agreement sum = {0};
    graphs_seed(14);
    for (int i = 0; i < graphs; i++) {
        ckpt_graph g;
        make_small(i, &g);
        compare_with_oracle(&g, options, &sum);
        ckpt_graph_free(&g);
    }
    graphs_priced = false;
    return sum;
}

static void test_small_graphs_are_optimal(void **state) {
    (void)state;
    const agreement sum = compare_small(SMALL_GRAPHS, &(ckpt_solver_options){0});
    printf("%d small graphs: optimal at %d of %d budgets, proved at %d\n", sum.graphs, sum.equal, sum.budgets, sum.proved);
    assert_true(sum.graphs > SMALL_GRAPHS / 2 && sum.equal == sum.budgets && sum.proved == sum.budgets);
}

/* Every combination of techniques gives schedules that hold, and bounds that do. The negative control: without searches some are
 * not optimal. */
static void test_all_combinations(void **state) {
    (void)state;
    int worse = 0, combinations = 0;
#define COUNT(name, text) +1
    const int techniques = 0 CKPT_SOLVER_TECHNIQUES(COUNT);
#undef COUNT
    for (unsigned off = 0; off < 1u << techniques; off++, combinations++) {
        unsigned bit = 0;
#define X(name, text) const bool name = off >> bit++ & 1;
        CKPT_SOLVER_TECHNIQUES(X)
#undef X
#define X(name, text) .without_##name = name,
        const ckpt_solver_options options = {CKPT_SOLVER_TECHNIQUES(X)};
#undef X
        agreement sum = {0};
        ckpt_graph g;
        graphs_seed(off + 1);
        make_small((int)off, &g);
        compare_with_oracle(&g, &options, &sum);
        graphs_priced = false;
        ckpt_graph_free(&g);
        worse += sum.equal < sum.budgets;
        if (!options.without_search) assert_int_equal(sum.equal, sum.budgets);
    }
    printf("%d combinations of techniques; %d without searches are not optimal\n", combinations, worse);
    assert_true(worse > 0);
}

/* More bytes never cost more, from the least to storing all; the last recomputes nothing. */
static void check_monotone(const char *what, const ckpt_graph *g) {
    opened o;
    open_solver(g, NULL, &o);
    uint64_t zero, before = UINT64_MAX;
    ckpt_schedule all = {.count = g->node_count, .node = malloc(sizeof(int) * (size_t)g->node_count)};
    for (int n = 0; n < g->node_count; n++) all.node[n] = n;
    const uint64_t most = graphs_peak(g, &all, &zero);
    free(all.node);
    ckpt_solution s;
    int proved = 0;
    for (int i = 0; i <= LARGE_BUDGETS; i++) {
        assert_true(answer(g, &o, o.least + (most - o.least) / LARGE_BUDGETS * (uint64_t)i, &s));
        assert_true(s.recompute_cost <= before);
        before = s.recompute_cost;
        proved += s.lower_bound_cost == s.recompute_cost;
    }
    assert_true(answer(g, &o, most, &s));
    assert_int_equal(s.recompute_cost, 0);
    printf("%s: least %llu bytes, bound %llu; %d of %d budgets proved\n", what, (unsigned long long)o.least,
           (unsigned long long)o.least_bound, proved, LARGE_BUDGETS + 1);
    close_solver(&o);
}

/* One weight read by several stages: its gradient is summed across them. */
static void test_shared_weight(void **state) {
    (void)state;
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
    check_monotone("shared weight", &g);
    ckpt_graph_free(&g);
}

/* What passes over everything leaves nothing to cut between: one stage, planned all the same. */
static void test_long_skip(void **state) {
    (void)state;
    ckpt_graph g;
    ckpt_view x = graphs_input(&g, 16, 12), first, y;
    graphs_linear(&g, CKPT_ACT_RELU, 12, &x);
    first = x;
    for (int k = 0; k < 6; k++) graphs_linear(&g, CKPT_ACT_RELU, 12, &x);
    assert_int_equal(ckpt_build_binary(&g, "skip", CKPT_BINARY_ADD, &first, &x, &y, &g_err), CKPT_OK);
    graphs_linear(&g, CKPT_ACT_IDENTITY, 3, &y);
    graphs_finish(&g, &y, CKPT_OPTIMIZER_SGD, true);
    check_monotone("long skip", &g);
    ckpt_graph_free(&g);
}

static void test_deep_models(void **state) {
    (void)state;
    graphs_seed(13);
    for (int kind = 0; kind < 3; kind++) {
        ckpt_graph g;
        ckpt_view x = graphs_input(&g, 64, 64);
        if (kind == 2) graphs_linear(&g, CKPT_ACT_RELU, 128, &x);
        for (int k = 0; k < (kind == 2 ? 16 : 63); k++) {
            if (kind == 2) graphs_residual(&g, 256, true, &x);
            else graphs_linear(&g, CKPT_ACT_RELU, kind == 0 ? 256 : graphs_between(16, 512), &x);
        }
        graphs_linear(&g, CKPT_ACT_IDENTITY, 10, &x);
        graphs_finish(&g, &x, CKPT_OPTIMIZER_ADAM, false);
        check_monotone((const char *[]){"64 equal layers", "64 layers of different widths", "16 pre-norm blocks"}[kind], &g);
        ckpt_graph_free(&g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_graphs_are_optimal), cmocka_unit_test(test_all_combinations),
        cmocka_unit_test(test_shared_weight),            cmocka_unit_test(test_long_skip),
        cmocka_unit_test(test_deep_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
