/* The frontier of schedules: what it says of a schedule is what liveness.h says, in any order of the backward pass; and how near
 * heuristics come to exhaustive search over all orders and schedules, which they never pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "order_oracle.h"
#include "planner/core/schedule.h"
#include "planner/graph/pareto.h"
#include "random_graphs.h"

static ckpt_error err;

#define MUST(call) \
    if ((call) != CKPT_OK) fail_msg("%s: %s", #call, err.message)

static void add_by_rule(ckpt_pareto *f, ckpt_pool *pool) {
    const ckpt_graph *g = f->problem->graph;
    bool *kept = ckpt_pool_array(pool, g->tensor_count, bool);
    for (int all = 0; all < 2; all++) {
        ckpt_schedule schedule;
        for (int t = 0; t < g->tensor_count; t++) kept[t] = all;
        MUST(ckpt_schedule_from_kept(g, kept, pool, &schedule, &err));
        MUST(ckpt_pareto_add(f, &schedule, &err));
    }
}

/* As the strategies fill it, for one order of the backward pass. */
static ckpt_pareto fill(const ckpt_problem *p, const ckpt_solver_options *options, ckpt_pool *pool) {
    ckpt_pareto f = ckpt_pareto_of(p);
    ckpt_order order;
    ckpt_graph view;
    ckpt_problem of_view;
    ckpt_stages stages;
    ckpt_chain_tables *tables = NULL;
    add_by_rule(&f, pool);
    MUST(ckpt_order_find(p, 0, pool, &order, &err));
    MUST(ckpt_order_view(p->graph, &order, pool, &view, &err));
    MUST(ckpt_problem_open(&view, p->costs, p->alignment_bytes, pool, &of_view, &err));
    MUST(ckpt_stages_find(&of_view, options, &stages, &err));
    if (!options->without_tables)
        MUST(ckpt_chain_tables_build(&stages.chain, &(ckpt_chain_limits){0}, &tables, &err));
    MUST(ckpt_pareto_fill(&f, &order, &stages, tables, options, &err));
    MUST(ckpt_pareto_shrink(&f, options, &err));
    MUST(ckpt_pareto_improve(&f, options, &err));
    ckpt_chain_tables_free(tables);
    ckpt_stages_free(&stages);
    return f;
}

/* Ascending bytes, descending costs, and both are those of the schedule. */
static void check_points(const ckpt_pareto *f) {
    for (int i = 0; i < f->count; i++) {
        const ckpt_pareto_point *x = &f->point[i];
        uint64_t recomputed;
        assert_true(i == 0 || (f->point[i - 1].bytes < x->bytes && f->point[i - 1].cost > x->cost));
        assert_int_equal(graphs_peak(f->problem->graph, &x->schedule, &recomputed), x->bytes);
        assert_int_equal(recomputed, x->cost);
        assert_ptr_equal(ckpt_pareto_find(f, x->bytes), x);
        assert_ptr_equal(ckpt_pareto_above(f, x->bytes - 1), x);
    }
    assert_null(ckpt_pareto_find(f, f->point[0].bytes - 1));
    assert_null(ckpt_pareto_above(f, f->point[f->count - 1].bytes));
}

typedef struct tally {
    int graphs, least_equal, budgets, equal;
    double excess; /* of costs, summed over budgets that recompute */
} tally;

/* Against exhaustive search, which judges every schedule by rules of its own. */
static void compare(const ckpt_graph *g, const ckpt_solver_options *options, tally *sum) {
    ckpt_pool pool = {0};
    ckpt_problem p;
    MUST(ckpt_problem_open(g, graphs_costs(g), GRAPHS_ALIGNMENT, &pool, &p, &err));
    order_oracle *oracle = order_oracle_open(g, p.costs, GRAPHS_ALIGNMENT);
    order_frontier truth = {0};
    if (oracle && order_oracle_frontier(oracle, &truth) == ORDER_FOUND) {
        ckpt_pareto f = fill(&p, options, &pool);
        check_points(&f);
        for (int i = 0; i < f.count; i++) {
            uint64_t peak, cost;
            assert_true(order_oracle_replay(oracle, f.point[i].schedule.node, f.point[i].schedule.count, &peak, &cost));
            assert_true(peak == f.point[i].bytes && cost == f.point[i].cost);
        }
        assert_true(f.point[0].bytes >= truth.point[0].bytes);
        sum->graphs++;
        sum->least_equal += f.point[0].bytes == truth.point[0].bytes;
        for (int i = 0; i < truth.count; i++) {
            const ckpt_pareto_point *found = ckpt_pareto_find(&f, truth.point[i].bytes);
            if (found) assert_true(found->cost >= truth.point[i].cost);
            sum->budgets++;
            sum->equal += found && found->cost == truth.point[i].cost;
            if (found && found->cost > 0) sum->excess += (double)(found->cost - truth.point[i].cost) / (double)found->cost;
        }
        ckpt_pareto_free(&f);
    }
    order_frontier_free(&truth);
    order_oracle_close(oracle);
    ckpt_pool_free(&pool);
}

static tally compare_all(const ckpt_solver_options *options, int graphs) {
    tally sum = {0};
    graphs_seed(41);
    for (int i = 0; i < graphs; i++) {
        ckpt_graph g;
        if (i % 3 == 0) graphs_series_parallel(&g);
        else if (i % 3 == 1) graphs_residual_mlp(1, &g);
        else graphs_several_outputs(&g);
        compare(&g, options, &sum);
        ckpt_graph_free(&g);
    }
    printf("%d graphs: least bytes exact in %d; of %d budgets %d exact, %.2f%% more on average\n", sum.graphs, sum.least_equal,
           sum.budgets, sum.equal, 100 * sum.excess / sum.budgets);
    return sum;
}

static void test_against_exhaustive_search(void **state) {
    (void)state;
    const tally all = compare_all(&(ckpt_solver_options){0}, 45);
    assert_true(all.graphs >= 30);
    assert_true(all.least_equal >= 0.75 * all.graphs);
    assert_true(all.equal >= 0.7 * all.budgets);
    /* what the test would notice: schedules in one order alone are further off */
    const tally one = compare_all(&(ckpt_solver_options){.without_orders = true}, 45);
    assert_true(one.equal < all.equal);
}

/* Two towers with the same weights, whose gradients are summed: their layers may run side by side or one tower after the other. */
static void test_shared_towers(void **state) {
    (void)state;
    tally sum = {0};
    graphs_seed(43);
    for (int i = 0; i < 6; i++) {
        ckpt_graph g;
        const int64_t width = 4 * graphs_between(1, 4);
        const int64_t dims[2] = {width, width};
        ckpt_view x = graphs_input(&g, 16, width), tower[2], y;
        graphs_linear(&g, CKPT_ACT_RELU, width, &x);
        tower[0] = tower[1] = x;
        for (int k = 0; k < 2; k++) {
            const int w = ckpt_graph_add_tensor(&g, "w", CKPT_F32, CKPT_ROLE_PARAM, 2, dims, &err);
            const ckpt_view weight = ckpt_view_of(&g, w);
            const ckpt_linear_attr attr = {.alpha = 1, .beta = 1, .epilogue = {.act = k ? CKPT_ACT_TANH : CKPT_ACT_RELU}};
            for (int t = 0; t < 2; t++) {
                char name[32];
                snprintf(name, sizeof name, "shared%d%d", k, t);
                MUST(ckpt_build_linear(&g, name, &tower[t], &weight, -1, &attr, &y, &err));
                tower[t] = y;
            }
        }
        MUST(ckpt_build_binary(&g, "meet", CKPT_BINARY_ADD, &tower[0], &tower[1], &y, &err));
        graphs_linear(&g, CKPT_ACT_IDENTITY, 3, &y);
        graphs_finish(&g, &y, CKPT_OPTIMIZER_SGD, false);
        compare(&g, &(ckpt_solver_options){0}, &sum);
        ckpt_graph_free(&g);
    }
    printf("towers: least bytes exact in %d of %d\n", sum.least_equal, sum.graphs);
    assert_true(sum.graphs > 0 && sum.least_equal >= 0.8 * sum.graphs);
}

/* Every switch alone, and all together: still a frontier, and one that is no better. */
static void test_switches(void **state) {
    (void)state;
    const ckpt_solver_options off[] = {
        {.without_orders = true}, {.without_tables = true}, {.without_modes = true}, {.without_eviction = true},
        {.without_prices = true}, {.without_moves = true},  {.without_restarts = true},
        {.without_orders = true, .without_tables = true, .without_modes = true, .without_eviction = true,
         .without_prices = true, .without_moves = true, .without_restarts = true},
    };
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        const tally sum = compare_all(&off[i], 6);
        assert_true(sum.budgets > 0);
    }
}

/* A list that reads what it has not made is refused, and the frontier stays as it was. */
static void test_wrong_schedule_is_refused(void **state) {
    (void)state;
    ckpt_graph g;
    ckpt_pool pool = {0};
    ckpt_problem p;
    graphs_seed(42);
    graphs_mlp(0, &g);
    MUST(ckpt_problem_open(&g, graphs_costs(&g), GRAPHS_ALIGNMENT, &pool, &p, &err));
    ckpt_pareto f = ckpt_pareto_of(&p);
    add_by_rule(&f, &pool);
    const int before = f.count;
    int *node = ckpt_pool_array(&pool, g.node_count, int);
    for (int n = 0; n < g.node_count; n++) node[n] = g.node_count - 1 - n;
    assert_int_equal(ckpt_pareto_add(&f, &(ckpt_schedule){.count = g.node_count, .node = node}, &err), CKPT_FAILED);
    assert_int_equal(f.count, before);
    check_points(&f);
    ckpt_pareto_free(&f);
    ckpt_pool_free(&pool);
    ckpt_graph_free(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_exhaustive_search),
        cmocka_unit_test(test_shared_towers),
        cmocka_unit_test(test_switches),
        cmocka_unit_test(test_wrong_schedule_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
