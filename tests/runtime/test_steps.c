/* The promises of a plan, over every bundled model and strategy, on the backend that CKPT_TEST_BACKEND names:
 * planned bytes are the bytes that the device hands out and the bytes that a step touches; weights are the same bits. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/train.h"

const ckpt_backend *CKPT_TEST_BACKEND(void);

static const char *const models[] = {"mlp_checkpointed", "mlp_uniform64", "mlp_hourglass",
                                     "mlp_residual",     "mlp_prenorm_gelu", "digits"};
enum { MODELS = sizeof models / sizeof *models };

static const ckpt_plan_options strategies[] = {
    {.strategy = CKPT_STRATEGY_NONE},   {.strategy = CKPT_STRATEGY_SQRT},
    {.strategy = CKPT_STRATEGY_EVERY, .every = 3}, {.strategy = CKPT_STRATEGY_LAYERS, .layers = "1-2"},
    {.strategy = CKPT_STRATEGY_SELECTIVE}, {.strategy = CKPT_STRATEGY_MIN},
    {.strategy = CKPT_STRATEGY_LAYERS, .layers = "*"},
    {.strategy = CKPT_STRATEGY_BUDGET}, /* half way between the smallest and the largest, set below */
};
enum { SMALLEST = 5, ALL_LAYERS = 6, STRATEGIES = sizeof strategies / sizeof *strategies };

typedef struct setup {
    ckpt_model model;
    ckpt_graph evaluation;
    ckpt_plan *evaluation_plan, *plan[STRATEGIES];
} setup;

static const int64_t batches[] = {7, 1, 33};
/* In bf16, the same graphs with casts between, less will do. */
enum { BATCHES = CKPT_TEST_BF16 ? 1 : sizeof batches / sizeof *batches, STEPS = CKPT_TEST_BF16 ? 8 : 12 };

/* Planned once for all tests. */
static setup setups[MODELS][BATCHES];

/* The plan of strategies[k]; that of a budget is made behind those whose totals it lies between. */
static void make_plan(setup *s, int k) {
    ckpt_error err;
    ckpt_plan_options options = strategies[k];
    options.eval = &s->evaluation;
    if (options.strategy == CKPT_STRATEGY_BUDGET)
        options.budget_bytes = (s->plan[SMALLEST]->memory.total + s->plan[0]->memory.total) / 2;
    MUST(ckpt_plan_make(&s->model.graph, &options, CKPT_TEST_BACKEND()->traits, NULL, &s->plan[k], &err), &err);
}

static void set_up(setup *s, const char *name, int64_t batch) {
    char path[512];
    ckpt_error err;
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_ADAM};
    const ckpt_model_options options = {.batch = batch, .loss_auto = true};
    snprintf(path, sizeof path, CKPT_SOURCE_DIR "/models/%s.onnx", name);
    MUST(ckpt_model_load(path, &options, &s->model, &err), &err);
    training.bf16 = CKPT_TEST_BF16;
    training.bf16_kernels = CKPT_TEST_BACKEND()->traits->bf16_kernels;
    ckpt_training_defaults(&training);
    MUST(ckpt_training_graphs_make(&s->model.graph, &training, &s->evaluation, &err), &err);
    const ckpt_plan_options none = {.strategy = CKPT_STRATEGY_NONE};
    MUST(ckpt_plan_make(&s->evaluation, &none, CKPT_TEST_BACKEND()->traits, NULL, &s->evaluation_plan, &err), &err);
    for (int k = 0; k < STRATEGIES; k++) make_plan(s, k);
}

static void tear_down(setup *s) {
    for (int k = 0; k < STRATEGIES; k++) ckpt_plan_free(s->plan[k]);
    ckpt_plan_free(s->evaluation_plan);
    ckpt_graph_free(&s->evaluation);
    ckpt_model_free(&s->model);
}

/* Numbers in [-1, 1) that do not depend on the C library. */
static float number(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state / 2147483648.0f;
}

static void feed(step_runner *runner, uint32_t seed) {
    const ckpt_graph *g = runner->graph;
    for (int i = 0; i <= g->input_count; i++) {
        const int tensor = i < g->input_count ? g->input[i] : g->target[0];
        double *values = calloc((size_t)g->tensor[tensor].count, sizeof *values);
        for (int64_t k = 0; k < g->tensor[tensor].count; k++)
            values[k] = g->tensor[tensor].dtype == CKPT_I32 ? (double)(int)((number(&seed) + 1) * 4.99f) : (double)number(&seed);
        runner_set_f64(runner, tensor, values);
        free(values);
    }
}

static void open_runner(step_runner *runner, setup *s, int k, bool preserve_rng) {
    ckpt_error err;
    const ckpt_exec_options options = {.backend = CKPT_TEST_BACKEND(), .preserve_rng = preserve_rng, .device = {.poison = true}};
    *runner = (step_runner){.graph = &s->model.graph, .plan = s->plan[k]};
    MUST(ckpt_exec_open(&options, runner->graph, s->plan[k], &s->evaluation, s->evaluation_plan, &runner->exec, &err), &err);
    runner_load_weights(runner, &s->model);
}

/* The plans are the setup's. */
static void close_runner(step_runner *runner) {
    runner->plan = NULL;
    runner_close(runner);
}

static void each(void (*check)(setup *s, int k)) {
    for (int m = 0; m < MODELS; m++)
        for (int b = 0; b < BATCHES; b++)
            for (int k = 0; k < STRATEGIES; k++) check(&setups[m][b], k);
}

static void check_handed_out(setup *s, int k) {
    step_runner runner;
    open_runner(&runner, s, k, true);
    feed(&runner, 1);
    runner_step(&runner, 0, 1e-3f);
    assert_int_equal(ckpt_exec_measured_peak(runner.exec), runner.plan->memory.total);
    close_runner(&runner);
}

static void test_planned_bytes_are_handed_out(void **state) {
    (void)state;
    each(check_handed_out);
}

/* Marks every byte of the step region that differs from `fill` after a training and an evaluation step. */
static void mark_touched(step_runner *runner, unsigned char fill, unsigned char *touched) {
    ckpt_error err;
    const ckpt_plan_memory *m = &runner->plan->memory;
    unsigned char *region = (unsigned char *)ckpt_exec_arena(runner->exec) + runner->plan->persistent_bytes + m->workspace;
    ckpt_scalars scalars = {.seed = 1};
    ckpt_scalars_count_all(&scalars, runner->graph, runner->graph->batch);
    double result[2];
    memset(region, fill, m->arena);
    runner_step(runner, 0, 1e-3f);
    MUST(ckpt_exec_result(runner->exec, result, &err), &err); /* the step has finished */
    for (uint64_t i = 0; i < m->arena; i++) touched[i] |= region[i] != fill;
    memset(region, fill, m->arena);
    MUST(ckpt_exec_evaluate(runner->exec, &scalars, true, &err), &err);
    MUST(ckpt_exec_result(runner->exec, result, &err), &err);
    for (uint64_t i = 0; i < m->arena; i++) touched[i] |= region[i] != fill;
}

static void check_touched(setup *s, int k) {
    step_runner runner;
    open_runner(&runner, s, k, true);
    feed(&runner, 1);
    const uint64_t arena = runner.plan->memory.arena;
    unsigned char *touched = calloc(arena + 1, 1);
    mark_touched(&runner, 0x55, touched);
    mark_touched(&runner, 0xaa, touched);
    uint64_t highest = arena;
    while (highest && !touched[highest - 1]) highest--;
    const uint64_t alignment = runner.plan->alignment_bytes;
    assert_int_equal((highest + alignment - 1) / alignment * alignment, arena);
    free(touched);
    close_runner(&runner);
}

static void test_highest_byte_touched_is_the_planned_peak(void **state) {
    (void)state;
    each(check_touched);
}

static void train_steps(setup *s, int k, bool preserve_rng, char hash[65], ckpt_plan_compute *compute) {
    step_runner runner;
    ckpt_error err;
    open_runner(&runner, s, k, preserve_rng);
    for (uint32_t step = 0; step < STEPS; step++) {
        feed(&runner, step + 1);
        runner_step(&runner, step, 1e-3f);
    }
    int *ids = calloc((size_t)s->model.graph.tensor_count, sizeof *ids);
    const int count = ckpt_model_parameters(&s->model, ids);
    MUST(ckpt_train_hash(runner.exec, runner.graph, ids, count, hash, &err), &err);
    free(ids);
    *compute = runner.plan->compute;
    close_runner(&runner);
}

static void test_weights_are_the_same_bits_under_every_plan(void **state) {
    (void)state;
    for (int m = 0; m < MODELS; m++) {
        setup *s = &setups[m][0];
        char first[65], hash[65];
        ckpt_plan_compute compute;
        train_steps(s, 0, true, first, &compute);
        assert_int_equal(compute.recomputed_nodes, 0);
        for (int k = 1; k < STRATEGIES; k++) {
            train_steps(s, k, true, hash, &compute);
            if (strcmp(first, hash) != 0) fail_msg("%s: strategy %d trains other weights", models[m], k);
        }
        /* Negative control: new random numbers on recomputation are noticed. */
        train_steps(s, ALL_LAYERS, false, hash, &compute);
        assert_true(compute.recomputed_nodes > 0);
        if (strcmp(first, hash) == 0) fail_msg("%s: other random numbers, yet the same weights", models[m]);
    }
}

static int set_up_all(void **state) {
    (void)state;
    for (int m = 0; m < MODELS; m++)
        for (int b = 0; b < BATCHES; b++) set_up(&setups[m][b], models[m], batches[b]);
    return 0;
}

static int tear_down_all(void **state) {
    (void)state;
    for (int m = 0; m < MODELS; m++)
        for (int b = 0; b < BATCHES; b++) tear_down(&setups[m][b]);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planned_bytes_are_handed_out),
        cmocka_unit_test(test_highest_byte_touched_is_the_planned_peak),
        cmocka_unit_test(test_weights_are_the_same_bits_under_every_plan),
    };
    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
