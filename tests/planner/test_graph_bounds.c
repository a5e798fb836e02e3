/* What is said of graphs beside the stages' tables, against exhaustive search: bounds over every order, minimum cuts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "random_graphs.h"
#include "graph/build.h"
#include "order_oracle.h"
#include "planner/bounds/bound_spine.h"
#include "planner/bounds/bound_step.h"
#include "planner/bounds/cut.h"

static ckpt_error g_err;

/* Sanitizers look at the same code with fewer. */
#ifdef __SANITIZE_ADDRESS__
enum { ORDERED_GRAPHS = 60 };
#else
enum { ORDERED_GRAPHS = 320 };
#endif

/* One random graph of the i-th kind. */
static void make_graph(int i, ckpt_graph *g) {
    if (i % 4 == 0) graphs_residual_mlp(1, g);
    if (i % 4 == 1) graphs_mlp(i, g);
    if (i % 4 == 2) graphs_series_parallel(g);
    if (i % 4 == 3) graphs_several_outputs(g);
}

/* What the bounds say of a graph in some bytes. */
typedef struct said {
    uint64_t knapsack, steps, spine;
} said;

static said ask(const ckpt_problem *p, uint64_t bytes) {
    said s = {0};
    const ckpt_solver_options all = {0}, no_cuts = {.without_cuts = true}, no_spine = {.without_spine = true};
    uint64_t same = 0;
    assert_int_equal(ckpt_bound_steps(p, &no_cuts, bytes, &s.knapsack, &g_err), CKPT_OK);
    assert_int_equal(ckpt_bound_steps(p, &all, bytes, &s.steps, &g_err), CKPT_OK);
    assert_int_equal(ckpt_bound_spine(p, &all, bytes, UINT64_MAX, &s.spine, &g_err), CKPT_OK);
    assert_int_equal(ckpt_bound_spine(p, &no_spine, bytes, UINT64_MAX, &same, &g_err), CKPT_OK);
    assert_true(s.knapsack <= s.steps && same == 0);
    return s;
}

typedef struct tally {
    int graphs, budgets, tight, by_knapsack, by_spine, overstated, least_tight;
    int after, after_overstated;
} tally;

/* What a schedule of these bytes recomputes after each fixed node is no less than what every schedule does; with an eighth fewer
 * bytes it sometimes is. */
static void compare_after(int i, const ckpt_problem *p, const order_point *point, tally *sum) {
    uint64_t after[256], less[256], rest = 0;
    bool again[ORDER_MOST_RUNS], ran[256] = {false};
    assert_true(p->graph->node_count <= 256 && point->count <= ORDER_MOST_RUNS);
    assert_int_equal(ckpt_bound_after(p, point->bytes, after, &g_err), CKPT_OK);
    assert_int_equal(ckpt_bound_after(p, point->bytes - point->bytes / 8, less, &g_err), CKPT_OK);
    for (int s = 0; s < point->count; s++) again[s] = ran[point->node[s]], ran[point->node[s]] = true;
    for (int s = point->count - 1; s >= 0; s--) {
        const int n = point->node[s];
        if (again[s]) rest += p->costs->node[n];
        if (p->recomputable[n]) continue;
        if (after[n] > rest)
            fail_msg("graph %d: in %llu bytes %llu is recomputed after node %d, the bound is %llu", i,
                     (unsigned long long)point->bytes, (unsigned long long)rest, n, (unsigned long long)after[n]);
        sum->after += after[n] > 0;
        sum->after_overstated += less[n] > rest;
    }
}

/* A graph against the least cost over all orders and schedules, at each breakpoint and just below the next. */
static void compare_with_orders(int i, const ckpt_graph *g, tally *sum) {
    ckpt_pool pool = {0};
    ckpt_problem p;
    order_frontier f;
    uint64_t least;
    order_oracle *oracle = order_oracle_open(g, graphs_costs(g), GRAPHS_ALIGNMENT);
    assert_non_null(oracle);
    order_oracle_limit(oracle, 200000);
    const order_answer answer = order_oracle_frontier(oracle, &f);
    assert_true(answer != ORDER_WRONG);
    assert_int_equal(ckpt_problem_open(g, graphs_costs(g), GRAPHS_ALIGNMENT, &pool, &p, &g_err), CKPT_OK);
    assert_int_equal(ckpt_bound_least_bytes(&p, &least, &g_err), CKPT_OK);
    for (int k = 0; k < f.count && answer == ORDER_FOUND; k++) {
        const uint64_t bytes = k + 1 < f.count ? f.point[k + 1].bytes - 1 : f.point[k].bytes;
        const said s = ask(&p, bytes), low = ask(&p, f.point[k].bytes - f.point[k].bytes / 8);
        const uint64_t bound = s.steps > s.spine ? s.steps : s.spine;
        if (bound > f.point[k].cost)
            fail_msg("graph %d: in %llu bytes %llu is enough, the bounds are %llu and %llu", i, (unsigned long long)bytes,
                     (unsigned long long)f.point[k].cost, (unsigned long long)s.steps, (unsigned long long)s.spine);
        sum->budgets++;
        sum->tight += bound == f.point[k].cost;
        sum->by_knapsack += s.knapsack == f.point[k].cost;
        sum->by_spine += s.spine > s.steps;
        sum->overstated += low.steps > f.point[k].cost || low.spine > f.point[k].cost;
        compare_after(i, &p, &f.point[k], sum);
    }
    if (answer == ORDER_FOUND) {
        if (least > f.point[0].bytes)
            fail_msg("graph %d: %llu bytes are enough, the bound is %llu", i, (unsigned long long)f.point[0].bytes,
                     (unsigned long long)least);
        sum->least_tight += least == f.point[0].bytes;
        sum->graphs++;
        order_frontier_free(&f);
    }
    order_oracle_close(oracle);
    ckpt_pool_free(&pool);
}

/* All bounds, over every order of the backward and update nodes. */
static void test_every_order(void **state) {
    (void)state;
    tally sum = {0};
    graphs_seed(17);
    for (int i = 0; i < ORDERED_GRAPHS; i++) {
        ckpt_graph g;
        make_graph(i, &g);
        graphs_priced = i % 8 > 4;
        compare_with_orders(i, &g, &sum);
        ckpt_graph_free(&g);
    }
    graphs_priced = false;
    printf("%d graphs of %d: what is recomputed after a node is bounded by more than 0 at %d, and with an eighth less too high "
           "at %d\n",
           sum.graphs, ORDERED_GRAPHS, sum.after, sum.after_overstated);
    printf("the bound is the optimum at %d of %d budgets, by knapsacks alone at %d; the spine says more at %d; of an "
           "eighth less it is too high at %d; the least bytes are exact for %d graphs\n",
           sum.tight, sum.budgets, sum.by_knapsack, sum.by_spine, sum.overstated, sum.least_tight);
    assert_true(sum.graphs > ORDERED_GRAPHS / 2 && sum.overstated > sum.graphs && sum.after_overstated > 0);
}

/* A statistic of the norm is read by fewer backward nodes than its output: once they are done only the output is held. */
static void test_outputs_of_different_lives(void **state) {
    (void)state;
    ckpt_graph g;
    ckpt_view x = graphs_input(&g, 16, 1), h, y, stats[2];
    graphs_linear(&g, CKPT_ACT_RELU, 8, &x);
    const int scale = ckpt_graph_add_tensor(&g, "scale", CKPT_F32, CKPT_ROLE_PARAM, 1, &x.dim[1], &g_err);
    assert_int_equal(ckpt_build_layernorm(&g, "norm", &x, scale, -1, 1, 1e-5f, &h, stats, &g_err), CKPT_OK);
    assert_int_equal(ckpt_build_binary(&g, "product", CKPT_BINARY_MUL, &h, &x, &y, &g_err), CKPT_OK);
    graphs_linear(&g, CKPT_ACT_TANH, 32, &y);
    graphs_linear(&g, CKPT_ACT_RELU, 8, &y);
    assert_int_equal(ckpt_build_binary(&g, "scaled", CKPT_BINARY_MUL, &y, &stats[1], &h, &g_err), CKPT_OK);
    graphs_linear(&g, CKPT_ACT_IDENTITY, 5, &h);
    graphs_finish(&g, &h, CKPT_OPTIMIZER_ADAM, false);
    tally sum = {0};
    compare_with_orders(0, &g, &sum);
    assert_true(sum.budgets > 3);
    ckpt_graph_free(&g);
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
    graphs_seed(16);
    for (int i = 0; i < 60; i++) {
        ckpt_graph g;
        ckpt_cut *cut;
        bool needed[256] = {false}, held[256], set[256] = {false};
        int64_t hold[256] = {0}, run[64] = {0}, least = INT64_MAX;
        int tensor[16], count = 0;
        graphs_series_parallel(&g);
        assert_true(g.tensor_count <= 256 && g.forward_count <= 64);
        for (int n = 0; n < g.forward_count; n++) {
            run[n] = graphs_between(0, 50);
            for (int o = 0; o < g.node[n].out_count; o++) {
                const int t = g.node[n].out[o];
                if (t < 0 || !ckpt_tensor_is_step(&g, t)) continue;
                assert_true(count < 16);
                tensor[count++] = t;
                needed[t] = graphs_between(0, 1);
                hold[t] = graphs_between(0, 60);
            }
        }
        for (int k = 0; k < 1 << count; k++) {
            for (int b = 0; b < count; b++) set[tensor[b]] = k >> b & 1;
            const int64_t price = price_of(&g, needed, hold, run, set);
            if (price < least) least = price;
        }
        assert_int_equal(ckpt_cut_open(&g, &cut, &g_err), CKPT_OK);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(ckpt_cut_solve(cut, needed, hold, run, held), least);
            assert_int_equal(price_of(&g, needed, hold, run, held), least);
        }
        for (int b = 0; b < count; b++) choices += held[tensor[b]];
        ckpt_cut_close(cut);
        ckpt_graph_free(&g);
    }
    assert_true(choices > 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_order),
        cmocka_unit_test(test_outputs_of_different_lives),
        cmocka_unit_test(test_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
