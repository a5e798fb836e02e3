/* Plans of small graphs against exhaustive search over every order of the backward pass and every schedule (order_oracle.h): the
 * smallest plan is the smallest whatever the costs, no plan costs less than the least, few cost more, and no lower bound is above
 * it.
 *
 *     test_orders [GRAPHS]     300 if not given
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka_all.h"
#include "import/model.h"
#include "order_oracle.h"
#include "planner/check/check.h"
#include "planner/core/step_time.h"
#include "planner/packing/layout.h"
#include "planner/plan.h"
#include "random_graphs.h"

static const ckpt_traits traits = {.device = "test", .alignment_bytes = GRAPHS_ALIGNMENT, .input_buffers = 1};

static int graph_total = 300;

static order_oracle *open_oracle(const ckpt_graph *g, const ckpt_costs *costs, uint64_t alignment) {
    order_oracle *oracle = order_oracle_open(g, costs, alignment);
    if (!oracle) fail_msg("a graph is too large for the oracle");
    return oracle;
}

static void find_frontier(order_oracle *oracle, order_frontier *frontier) {
    assert_int_equal(order_oracle_frontier(oracle, frontier), ORDER_FOUND);
}

static void find_costs(const ckpt_graph *g, bool nominal, ckpt_pool *pool, ckpt_costs *costs) {
    ckpt_error err;
    const ckpt_rates *rates = ckpt_rates_nominal("cpu", CKPT_PRECISION_FP32);
    if ((nominal ? ckpt_costs_roofline(g, rates, pool, costs, &err) : ckpt_costs_flops(g, pool, costs, &err)) != CKPT_OK)
        fail_msg("%s", err.message);
}

/* i-th of the graphs: branching ones, and every third a chain. */
static void make_graph(int i, ckpt_graph *g) {
    if (i % 3 == 2) graphs_chain(graphs_between(3, 8), i % 4 == 0, g);
    else graphs_branching(graphs_between(4, 8), i % 4 == 0, g);
}

/* --- the oracle ------------------------------------------------------------------------------------------------ */

static void oracle_leaves_out_nothing_of_use(void **state) {
    (void)state;
    int points = 0;
    graphs_seed(101);
    for (int i = 0; i < 24; i++) {
        ckpt_graph g;
        if (i % 2) graphs_chain(3, i % 4 == 1, &g);
        else graphs_branching(graphs_between(3, 4), i % 4 == 0, &g);
        order_frontier pruned, plain;
        graphs_priced = i % 3 == 0;
        order_oracle *oracle = open_oracle(&g, graphs_costs(&g), GRAPHS_ALIGNMENT);
        find_frontier(oracle, &pruned);
        order_oracle_leave_out_nothing(oracle);
        find_frontier(oracle, &plain);
        assert_int_equal(pruned.count, plain.count);
        for (int k = 0; k < plain.count; k++) {
            assert_int_equal(pruned.point[k].bytes, plain.point[k].bytes);
            assert_int_equal(pruned.point[k].cost, plain.point[k].cost);
        }
        points += plain.count;
        order_frontier_free(&pruned);
        order_frontier_free(&plain);
        order_oracle_close(oracle);
        ckpt_graph_free(&g);
    }
    graphs_priced = false;
    assert_true(points > 40);
}

/* Whether the checker accepts the schedule, laid out; its live peak and arena. */
static bool checker_accepts(const ckpt_graph *g, const int *node, int count, uint64_t *live_peak, uint64_t *arena) {
    ckpt_pool pool = {0};
    ckpt_error err;
    ckpt_layout layout;
    ckpt_check_seen seen;
    const ckpt_schedule schedule = {.count = count, .node = (int *)node};
    bool accepted = ckpt_layout_find(g, &schedule, GRAPHS_ALIGNMENT, &pool, &layout, &err) == CKPT_OK;
    if (accepted) {
        ckpt_plan plan = {.alignment_bytes = GRAPHS_ALIGNMENT,
                          .step_count = layout.live.step_count,
                          .step = layout.live.step,
                          .instance_count = layout.live.instance_count,
                          .instance = layout.live.instance,
                          .tensor_count = g->tensor_count,
                          .memory.arena = layout.arena_bytes};
        memcpy(plan.graph_hash, g->hash, sizeof plan.graph_hash);
        accepted = ckpt_check_replay(g, &plan, &seen, &err) == CKPT_OK;
        *live_peak = seen.live_peak;
        *arena = layout.arena_bytes;
        assert_true(!accepted || seen.live_peak == layout.live.peak_bytes);
    }
    ckpt_pool_free(&pool);
    return accepted;
}

static void mutate(const order_point *p, int *node, int *count) {
    *count = p->count;
    memcpy(node, p->node, sizeof *node * (size_t)p->count);
    const int kind = graphs_between(0, 3), at = graphs_between(0, p->count - 1);
    const int to = kind == 0 ? (at + 1) % p->count : graphs_between(0, p->count - 1), moved = node[at];
    if (kind == 3) { /* run again */
        memmove(node + to + 1, node + to, sizeof *node * (size_t)(p->count - to));
        ++*count;
    } else {
        memmove(node + at, node + at + 1, sizeof *node * (size_t)(p->count - at - 1));
        if (kind == 2) {
            --*count;
            return;
        }
        memmove(node + to + 1, node + to, sizeof *node * (size_t)(p->count - 1 - to));
    }
    node[to] = moved;
}

/* Its rules are the checker's, and so are its bytes: of schedules that are changed a little both say the same. */
static void oracle_and_checker_agree(void **state) {
    (void)state;
    int accepted = 0, refused = 0;
    graphs_seed(102);
    for (int i = 0; i < 60; i++) {
        ckpt_graph g;
        make_graph(i, &g);
        order_oracle *oracle = open_oracle(&g, graphs_costs(&g), GRAPHS_ALIGNMENT);
        order_frontier frontier;
        find_frontier(oracle, &frontier);
        for (int k = 0; k < 40; k++) {
            int node[ORDER_MOST_RUNS + 1], count;
            uint64_t peak, cost, live_peak, arena;
            mutate(&frontier.point[k % frontier.count], node, &count);
            const bool ours = order_oracle_replay(oracle, node, count, &peak, &cost);
            assert_int_equal(ours, checker_accepts(&g, node, count, &live_peak, &arena));
            if (ours) assert_int_equal(peak, live_peak);
            ++*(ours ? &accepted : &refused);
        }
        order_frontier_free(&frontier);
        order_oracle_close(oracle);
        ckpt_graph_free(&g);
    }
    printf("changed schedules: %d accepted, %d refused, by both\n", accepted, refused);
    assert_true(accepted > 200 && refused > 200);
}

/* --- plans ------------------------------------------------------------------------------------------------------- */

typedef struct tally {
    int graphs, minima, minima_unpacked, larger, between_costs, refusals_wrong, minimum_bounds_wrong, minima_open;
    int points, unpacked, refused, below, equal, above_bound, wrongly_proved, proved;
    int told_apart; /* points at which an answer for a byte less would be taken for wrong */
    double worst;   /* cost above the least, in shares of a step */
} tally;

static ckpt_plan *plan_of(const ckpt_graph *g, const ckpt_costs *costs, ckpt_strategy strategy, uint64_t budget,
                          ckpt_plan_minimum *minimum) {
    const ckpt_plan_options options = {.strategy = strategy, .budget_bytes = budget, .costs = costs};
    ckpt_plan *plan;
    ckpt_error err;
    const ckpt_status status = ckpt_plan_make(g, &options, &traits, minimum, &plan, &err);
    if (status != CKPT_OK && status != CKPT_INFEASIBLE) fail_msg("%s", err.message);
    return plan;
}

/* The smallest plan, with every cost model. Returns what the plan takes besides its arena. */
static uint64_t compare_minimum(const ckpt_graph *g, const ckpt_costs costs[2], const order_point *least, bool packed, tally *sum) {
    uint64_t arena[2], fixed = 0;
    for (int c = 0; c < 2; c++) {
        ckpt_plan *plan = plan_of(g, &costs[c], CKPT_STRATEGY_MIN, 0, NULL);
        ckpt_plan_minimum minimum = {0};
        assert_non_null(plan);
        arena[c] = plan->memory.arena;
        fixed = plan->memory.total - arena[c];
        assert_true(arena[c] >= least->bytes);
        if (c == 0 && sum->graphs % 4 == 0) assert_null(plan_of(g, &costs[c], CKPT_STRATEGY_BUDGET, fixed + least->bytes - 1, &minimum));
        else minimum = plan->minimum;
        sum->refusals_wrong += minimum.total != plan->memory.total;
        sum->minimum_bounds_wrong += minimum.lower_bound_total > fixed + least->bytes;
        sum->minima_open += minimum.lower_bound_total < plan->memory.total;
        ckpt_plan_free(plan);
    }
    sum->minima++;
    sum->minima_unpacked += !packed;
    sum->larger += packed && (arena[0] != least->bytes || arena[1] != least->bytes);
    sum->between_costs += arena[0] != arena[1];
    return fixed;
}

static void compare_point(const ckpt_graph *g, const ckpt_costs *costs, const order_frontier *f, int k, uint64_t fixed, tally *sum) {
    const order_point *p = &f->point[k];
    ckpt_plan *plan = plan_of(g, costs, CKPT_STRATEGY_BUDGET, fixed + p->bytes, NULL);
    sum->points++;
    if (!plan) {
        sum->refused++;
        return;
    }
    const uint64_t cost = plan->compute.recompute_cost;
    assert_true(plan->memory.arena <= p->bytes);
    sum->below += cost < p->cost;
    sum->equal += cost == p->cost;
    sum->above_bound += plan->bound.lower_bound_cost > p->cost;
    sum->proved += plan->bound.proved;
    sum->wrongly_proved += plan->bound.proved && cost != p->cost;
    sum->told_apart += k > 0 && f->point[k - 1].cost > p->cost;
    const double above = ((double)cost - (double)p->cost) / (double)plan->compute.step_cost;
    if (above > sum->worst) sum->worst = above;
    if (above > 0)
        printf("graph %d in %" PRIu64 " bytes: cost %" PRIu64 ", least %" PRIu64 "\n", sum->graphs, p->bytes, cost, p->cost);
    ckpt_plan_free(plan);
}

static void compare(const ckpt_graph *g, const ckpt_costs costs[2], int chosen, tally *sum) {
    order_oracle *oracle = open_oracle(g, &costs[chosen], GRAPHS_ALIGNMENT);
    order_frontier frontier;
    find_frontier(oracle, &frontier);
    uint64_t fixed = 0;
    for (int k = 0; k < frontier.count; k++) {
        const order_point *p = &frontier.point[k];
        uint64_t live_peak, arena;
        assert_true(checker_accepts(g, p->node, p->count, &live_peak, &arena));
        assert_int_equal(live_peak, p->bytes);
        const bool packed = arena == p->bytes;
        if (k == 0) fixed = compare_minimum(g, costs, p, packed, sum);
        if (packed) compare_point(g, &costs[chosen], &frontier, k, fixed, sum);
        else sum->unpacked++;
    }
    assert_int_equal(frontier.point[frontier.count - 1].cost, 0);
    sum->graphs++;
    order_frontier_free(&frontier);
    order_oracle_close(oracle);
}

static void plans_are_the_best_of_any_order(void **state) {
    (void)state;
    tally sum = {0};
    graphs_seed(103);
    for (int i = 0; i < graph_total; i++) {
        ckpt_graph g;
        ckpt_pool pool = {0};
        ckpt_costs costs[2];
        make_graph(i, &g);
        find_costs(&g, false, &pool, &costs[0]);
        find_costs(&g, true, &pool, &costs[1]);
        compare(&g, costs, i % 2, &sum);
        ckpt_pool_free(&pool);
        ckpt_graph_free(&g);
    }
    printf("%d graphs; smallest plans: %d larger than the least, %d not the same under both costs, %d refused with another; stated "
           "bound above the least %d times, below the plan %d times; packing is above the live peak for %d\n",
           sum.graphs, sum.larger, sum.between_costs, sum.refusals_wrong, sum.minimum_bounds_wrong, sum.minima_open,
           sum.minima_unpacked);
    printf("%d budgets (and %d without a packing of the live peak): %d refused, cost equal at %d (%.2f%%), below at %d, at worst "
           "%.1f%% of a step above; proved at %d, of which wrongly %d; bound above the optimum at %d\n",
           sum.points, sum.unpacked, sum.refused, sum.equal, 100.0 * sum.equal / sum.points, sum.below, 100 * sum.worst, sum.proved,
           sum.wrongly_proved, sum.above_bound);
    assert_int_equal(sum.below, 0);
    assert_int_equal(sum.above_bound, 0);
    assert_int_equal(sum.wrongly_proved, 0);
    assert_int_equal(sum.larger, 0);
    assert_int_equal(sum.between_costs, 0);
    assert_int_equal(sum.refusals_wrong, 0);
    assert_int_equal(sum.minimum_bounds_wrong, 0);
    assert_true(sum.minima_open <= 2 * sum.minima_unpacked);
    assert_int_equal(sum.refused, 0);
    assert_true(sum.equal >= 0.98 * sum.points);
    assert_true(sum.told_apart > sum.points / 2);
    assert_true(20 * sum.unpacked <= sum.points + sum.unpacked);
}

/* At `bytes`: where the oracle's schedule can be packed into them the plan costs the same; any plan costs at least as much. */
static void compare_budget(const ckpt_graph *g, order_oracle *oracle, const ckpt_costs *costs, uint64_t bytes, uint64_t fixed,
                           tally *sum) {
    order_schedule schedule;
    uint64_t cost, live_peak, arena;
    const order_answer status = order_oracle_cost(oracle, bytes, &cost, &schedule);
    if (status == ORDER_GAVE_UP) return;
    assert_int_equal(status, ORDER_FOUND);
    assert_true(checker_accepts(g, schedule.node, schedule.count, &live_peak, &arena));
    ckpt_plan *plan = plan_of(g, costs, CKPT_STRATEGY_BUDGET, fixed + bytes, NULL);
    sum->points++;
    sum->unpacked += arena > bytes;
    if (!plan) {
        sum->refused += arena <= bytes;
        return;
    }
    sum->below += plan->compute.recompute_cost < cost;
    sum->equal += plan->compute.recompute_cost == cost;
    sum->above_bound += plan->bound.lower_bound_cost > cost;
    sum->wrongly_proved += plan->bound.proved && plan->compute.recompute_cost != cost;
    ckpt_plan_free(plan);
}

/* Larger graphs, some of which have schedules that no packing fits into their live peak: plans at the least and at three budgets
 * more. */
static void larger_graphs(void **state) {
    (void)state;
    tally sum = {0};
    graphs_seed(21);
    for (int i = 0; i < graph_total / 8; i++) {
        ckpt_graph g;
        ckpt_pool pool = {0};
        ckpt_costs costs;
        const int nodes = graphs_between(9, 13);
        if (i % 5 == 4) graphs_chain(nodes, i % 4 == 0, &g);
        else graphs_branching(nodes, i % 4 == 0, &g);
        find_costs(&g, i % 2 == 0, &pool, &costs);
        order_oracle *oracle = open_oracle(&g, &costs, GRAPHS_ALIGNMENT);
        order_oracle_limit(oracle, 300000);
        uint64_t least;
        if (order_oracle_least(oracle, &least, NULL) == ORDER_FOUND) {
            ckpt_plan *none = plan_of(&g, &costs, CKPT_STRATEGY_NONE, 0, NULL), *min = plan_of(&g, &costs, CKPT_STRATEGY_MIN, 0, NULL);
            const uint64_t most = none->memory.arena, fixed = none->memory.total - most;
            sum.graphs++;
            assert_true(min->memory.arena >= least && min->minimum.lower_bound_total <= fixed + least);
            sum.larger += min->memory.arena > least;
            for (uint64_t k = 0; k < 4; k++)
                compare_budget(&g, oracle, &costs, least + (most - least) * k / 5 / GRAPHS_ALIGNMENT * GRAPHS_ALIGNMENT, fixed, &sum);
            ckpt_plan_free(none);
            ckpt_plan_free(min);
        }
        order_oracle_close(oracle);
        ckpt_pool_free(&pool);
        ckpt_graph_free(&g);
    }
    printf("%d larger graphs: %d smallest plans above the least live peak; %d budgets, %d without a packing of the live peak, cost equal at "
           "%d, %d refused\n",
           sum.graphs, sum.larger, sum.points, sum.unpacked, sum.equal, sum.refused);
    assert_true(sum.graphs >= graph_total / 9 && sum.larger <= 1 + sum.graphs / 50);
    assert_int_equal(sum.below + sum.above_bound + sum.wrongly_proved + sum.refused, 0);
    assert_true(sum.equal >= 0.98 * sum.points);
}

/* The same figures as CP-SAT and A* of another author found for the bundled models, with nominal costs. */
static void bundled_models(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint64_t least, bytes, cost;
    } models[] = {{"mlp_checkpointed", 98304, 102656, 64756},
                  {"mlp_hourglass", 155648, 194816, 74952},
                  {"digits", 196608, 213248, 345488},
                  {"mlp_residual", 98304, 100864, 241115}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        ckpt_error err;
        ckpt_model model;
        ckpt_pool pool = {0};
        ckpt_costs costs;
        char path[512];
        ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD};
        snprintf(path, sizeof path, "%s/models/%s.onnx", CKPT_SOURCE_DIR, models[i].name);
        if (ckpt_model_load(path, &(ckpt_model_options){.loss_auto = true, .batch = 256}, &model, &err) != CKPT_OK)
            fail_msg("%s", err.message);
        ckpt_training_defaults(&training);
        if (ckpt_autodiff_run(&model.graph, &training, &err) != CKPT_OK) fail_msg("%s", err.message);
        find_costs(&model.graph, true, &pool, &costs);
        order_oracle *oracle = open_oracle(&model.graph, &costs, 256);
        uint64_t least, cost;
        assert_int_equal(order_oracle_least(oracle, &least, NULL), ORDER_FOUND);
        assert_int_equal(least, models[i].least);
        assert_int_equal(order_oracle_cost(oracle, least - 1, &cost, NULL), ORDER_NONE);
        assert_int_equal(order_oracle_cost(oracle, models[i].bytes, &cost, NULL), ORDER_FOUND);
        assert_int_equal(cost, models[i].cost);
        const ckpt_plan_options options = {.strategy = CKPT_STRATEGY_MIN, .costs = &costs};
        const ckpt_traits cpu = {.device = "cpu", .alignment_bytes = 256, .input_buffers = 1};
        ckpt_plan *plan;
        if (ckpt_plan_make(&model.graph, &options, &cpu, NULL, &plan, &err) != CKPT_OK) fail_msg("%s", err.message);
        assert_int_equal(plan->memory.arena, models[i].least);
        ckpt_plan_free(plan);
        order_oracle_close(oracle);
        ckpt_pool_free(&pool);
        ckpt_model_free(&model);
    }
}

/* What fits does not depend on what is minimized: the smallest plan is the same under every cost model, and proved to be. */
static void smallest_whatever_the_costs(void **state) {
    (void)state;
    for (int nominal = 0; nominal < 2; nominal++) {
        ckpt_error err;
        ckpt_model model;
        ckpt_pool pool = {0};
        ckpt_costs costs;
        ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD};
        if (ckpt_model_load(CKPT_SOURCE_DIR "/models/mlp_prenorm_gelu.onnx",
                            &(ckpt_model_options){.loss_auto = true, .batch = 256}, &model, &err) != CKPT_OK)
            fail_msg("%s", err.message);
        ckpt_training_defaults(&training);
        if (ckpt_autodiff_run(&model.graph, &training, &err) != CKPT_OK) fail_msg("%s", err.message);
        find_costs(&model.graph, nominal, &pool, &costs);
        const ckpt_plan_options options = {.strategy = CKPT_STRATEGY_MIN, .costs = &costs};
        const ckpt_traits cpu = {.device = "cpu", .alignment_bytes = 256, .input_buffers = 1};
        ckpt_plan *plan;
        if (ckpt_plan_make(&model.graph, &options, &cpu, NULL, &plan, &err) != CKPT_OK) fail_msg("%s", err.message);
        assert_int_equal(plan->memory.arena, 147456);
        assert_int_equal(plan->minimum.total, plan->memory.total);
        assert_int_equal(plan->minimum.lower_bound_total, plan->memory.total);
        ckpt_plan_free(plan);
        ckpt_pool_free(&pool);
        ckpt_model_free(&model);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(oracle_leaves_out_nothing_of_use),
        cmocka_unit_test(oracle_and_checker_agree),
        cmocka_unit_test(plans_are_the_best_of_any_order),
        cmocka_unit_test(larger_graphs),
        cmocka_unit_test(bundled_models),
        cmocka_unit_test(smallest_whatever_the_costs),
    };
    if (argc > 1) graph_total = atoi(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
