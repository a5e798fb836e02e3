/* Budgets over the whole range of every bundled model, and of networks with branches: never exceeded, and more memory never means more
 * recomputation; below the smallest plan none is made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "graph/autodiff.h"
#include "import/model.h"
#include "plan_graphs.h"

/* Sanitizers look at the same code with fewer. */
#ifdef __SANITIZE_ADDRESS__
enum { BUDGETS = 20, BRANCHING_BUDGETS = 3 };
#else
enum { BUDGETS = 200, BRANCHING_BUDGETS = 10 };
#endif

static ckpt_plan *plan_of(const ckpt_graph *g, ckpt_strategy strategy, uint64_t budget) {
    const ckpt_plan_options options = {.strategy = strategy, .budget_bytes = budget, .every = 3, .layers = "1"};
    ckpt_plan *plan;
    ckpt_error err;
    if (ckpt_plan_make(g, &options, &plan_graph_traits, NULL, &plan, &err) != CKPT_OK) fail_msg("%s", err.message);
    assert_true(plan->bound.lower_bound_flops <= plan->compute.recompute_flops);
    assert_int_equal(plan->bound.proved, plan->bound.lower_bound_flops == plan->compute.recompute_flops);
    return plan;
}

/* No plan beats what another of no more bytes states as its bound. */
static void check_bounds(const ckpt_graph *g) {
    ckpt_plan *plan[CKPT_STRATEGY_BUDGET];
    for (int a = 0; a < CKPT_STRATEGY_BUDGET; a++) plan[a] = plan_of(g, (ckpt_strategy)a, 0);
    for (int a = 0; a < CKPT_STRATEGY_BUDGET; a++)
        for (int b = 0; b < CKPT_STRATEGY_BUDGET; b++)
            if (plan[b]->memory.total <= plan[a]->memory.total)
                assert_true(plan[b]->compute.recompute_flops >= plan[a]->bound.lower_bound_flops);
    for (int a = 0; a < CKPT_STRATEGY_BUDGET; a++) ckpt_plan_free(plan[a]);
}

/* The smallest plan takes no more than any other strategy's, and none that fits recomputes less than `budget` does. */
static void check_strategies(const ckpt_graph *g) {
    ckpt_plan *min = plan_of(g, CKPT_STRATEGY_MIN, 0);
    for (int a = 0; a < CKPT_STRATEGY_BUDGET; a++) {
        ckpt_plan *other = plan_of(g, (ckpt_strategy)a, 0);
        assert_true(min->memory.total <= other->memory.total);
        ckpt_plan *plan = plan_of(g, CKPT_STRATEGY_BUDGET, other->memory.total);
        assert_true(plan->compute.recompute_flops <= other->compute.recompute_flops);
        ckpt_plan_free(plan);
        ckpt_plan_free(other);
    }
    ckpt_plan_free(min);
}

static void check_range(const char *name, const ckpt_graph *g, int budgets) {
    ckpt_plan *none = plan_of(g, CKPT_STRATEGY_NONE, 0), *min = plan_of(g, CKPT_STRATEGY_MIN, 0);
    const uint64_t most = none->memory.total, least = min->memory.total;
    uint64_t before = min->compute.recompute_flops;
    int proved = 0, changes = 0;
    double gap = 0;
    for (int i = 0; i < budgets; i++) {
        const uint64_t budget = least + (most - least) * (uint64_t)i / (uint64_t)(budgets - 1);
        ckpt_plan *plan = plan_of(g, CKPT_STRATEGY_BUDGET, budget);
        const uint64_t flops = plan->compute.recompute_flops;
        assert_true(plan->memory.total <= budget);
        assert_true(flops <= before);
        changes += flops < before;
        before = flops;
        proved += plan->bound.proved;
        gap += (double)(flops - plan->bound.lower_bound_flops) /
               (double)(plan->compute.forward_flops + plan->compute.backward_flops) / budgets;
        ckpt_plan_free(plan);
    }
    assert_int_equal(before, 0);
    assert_true(changes > 0);
    const ckpt_plan_options below = {.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = least - 1};
    ckpt_plan *refused;
    ckpt_error err;
    ckpt_plan_minimum stated = {0};
    assert_int_equal(ckpt_plan_make(g, &below, &plan_graph_traits, &stated, &refused, &err), CKPT_INFEASIBLE);
    assert_int_equal(stated.total, least);
    assert_true(stated.lower_bound_total <= least);
    printf("%s: %d different plans for %d budgets, %d proved, on average %.1f %% of a step above the bound\n", name,
           changes + 1, budgets, proved, 100 * gap);
    ckpt_plan_free(none);
    ckpt_plan_free(min);
}

static void check_file(const char *name, const char *path, const ckpt_model_options *options, int budgets) {
    ckpt_error err;
    ckpt_model model;
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_ADAM};
    if (ckpt_model_load(path, options, &model, &err) != CKPT_OK) fail_msg("%s", err.message);
    ckpt_training_defaults(&training);
    assert_int_equal(ckpt_autodiff_run(&model.graph, &training, &err), CKPT_OK);
    check_bounds(&model.graph);
    check_strategies(&model.graph);
    if (budgets > 0) check_range(name, &model.graph, budgets);
    ckpt_model_free(&model);
}

static void test_bundled_model(void **state) {
    const char *name = *state;
    char path[512];
    const ckpt_model_options options = {.batch = 16, .loss_auto = true};
    snprintf(path, sizeof path, CKPT_SOURCE_DIR "/models/%s.onnx", name);
    check_file(name, path, &options, BUDGETS);
}

static void check_network(const char *name, int budgets) {
    char path[512];
    const ckpt_dim_binding seq = {"seq", 128};
    const ckpt_model_options options = {.batch = 4, .loss_auto = true, .dim = &seq, .dim_count = 1};
    snprintf(path, sizeof path, CKPT_SOURCE_DIR "/tests/golden/networks/%s.onnx", name);
    check_file(name, path, &options, budgets);
}

static void test_network(void **state) {
    check_network(*state, BRANCHING_BUDGETS);
}

static void test_deep_network(void **state) {
    check_network(*state, 0);
}

#define MODEL(name)                                                                                          \
    { #name, test_bundled_model, NULL, NULL, #name }
#define NETWORK(name)                                                                                        \
    { #name, test_network, NULL, NULL, #name }
#define DEEP_NETWORK(name)                                                                                   \
    { #name, test_deep_network, NULL, NULL, #name }

int main(void) {
    const struct CMUnitTest tests[] = {
        MODEL(digits),       MODEL(mlp_checkpointed), MODEL(mlp_hourglass),
        MODEL(mlp_residual), MODEL(mlp_prenorm_gelu), MODEL(mlp_uniform64),
        NETWORK(unet),        NETWORK(attention4),
#ifdef __SANITIZE_ADDRESS__
        DEEP_NETWORK(encoder8),
#else
        NETWORK(encoder8),    DEEP_NETWORK(densenet121),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
