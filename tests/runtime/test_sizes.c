/* Smaller batches in the memory of a larger one's plan: every size of every bundled model, of a network with
 * BatchNormalization and of one that works across samples. A step of fewer samples is to the bit the step of an executor
 * of that size; the step of the whole batch behind it is what it would be anyway; no byte more is taken. */
#include "sized.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/train.h"

const ckpt_backend *CKPT_TEST_BACKEND(void);

enum { BATCH = 6 };

static const char *const networks[] = {
    "models/mlp_checkpointed.onnx", "models/mlp_uniform64.onnx",    "models/mlp_hourglass.onnx",
    "models/mlp_residual.onnx",     "models/mlp_prenorm_gelu.onnx", "models/digits.onnx",
    "tests/golden/training/batchnorm_sgd/model.onnx", "tests/golden/last_batch/across/model.onnx"};
enum { NETWORKS = sizeof networks / sizeof *networks };

static ckpt_error err;

/* One network ready to run. */
typedef struct stand {
    ckpt_model model;
    ckpt_graph evaluation;
    ckpt_plan *plan, *evaluation_plan;
    sized_whole whole;
    sized small;
    ckpt_exec *exec;
} stand;

static ckpt_plan *make_plan(const ckpt_graph *graph, ckpt_strategy strategy, const ckpt_graph *evaluation) {
    ckpt_plan *plan;
    const ckpt_plan_options options = {.strategy = strategy, .eval = evaluation};
    MUST(ckpt_plan_make(graph, &options, CKPT_TEST_BACKEND()->traits, NULL, &plan, &err), &err);
    return plan;
}

static void load_constants(stand *s) {
    step_runner runner = {.graph = &s->model.graph, .plan = s->plan, .exec = s->exec};
    runner_load_weights(&runner, &s->model);
}

/* small: the size that is added, or 0. */
static void set_up(stand *s, const char *network, int64_t batch, ckpt_strategy strategy, int64_t small) {
    char path[512];
    const ckpt_model_options options = {.batch = batch, .loss_auto = true, .dropout = strstr(network, "golden") ? 0.2f : 0};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_ADAM};
    *s = (stand){0};
    snprintf(path, sizeof path, CKPT_SOURCE_DIR "/%s", network);
    MUST(ckpt_model_load(path, &options, &s->model, &err), &err);
    ckpt_training_defaults(&training);
    MUST(ckpt_training_graphs_make(&s->model.graph, &training, &s->evaluation, &err), &err);
    s->plan = make_plan(&s->model.graph, strategy, &s->evaluation);
    s->evaluation_plan = make_plan(&s->evaluation, CKPT_STRATEGY_NONE, NULL);
    const ckpt_exec_options exec = {.backend = CKPT_TEST_BACKEND(), .preserve_rng = true, .device = {.poison = true}};
    MUST(ckpt_exec_open(&exec, &s->model.graph, s->plan, &s->evaluation, s->evaluation_plan, &s->exec, &err), &err);
    s->whole = (sized_whole){&s->model, &s->evaluation, s->plan, s->evaluation_plan, options, training, NULL};
    if (small) {
        sized_make(&s->small, &s->whole, small, CKPT_TEST_BACKEND());
        sized_add(&s->small, s->exec, true, true);
    }
    load_constants(s);
}

static void tear_down(stand *s) {
    ckpt_exec_close(s->exec);
    sized_free(&s->small);
    ckpt_plan_free(s->plan);
    ckpt_plan_free(s->evaluation_plan);
    ckpt_graph_free(&s->evaluation);
    ckpt_model_free(&s->model);
}

/* What training changes, by name: graphs of other sizes may number it otherwise. */
static void copy_state(stand *from, stand *to) {
    const ckpt_graph *a = &from->model.graph, *b = &to->model.graph;
    bool *used = calloc((size_t)a->tensor_count, sizeof *used);
    for (int t = 0; t < b->tensor_count; t++) {
        const ckpt_role role = b->tensor[t].role;
        if (role != CKPT_ROLE_PARAM && role != CKPT_ROLE_STATISTIC && role != CKPT_ROLE_STATE) continue;
        int same = 0;
        while (same < a->tensor_count &&
               (used[same] || a->tensor[same].role != role || strcmp(a->tensor[same].name, b->tensor[t].name) != 0))
            same++;
        assert_true(same < a->tensor_count);
        used[same] = true;
        void *values = malloc((size_t)ckpt_tensor_bytes(&b->tensor[t]) + 1);
        MUST(ckpt_exec_get(from->exec, same, values, &err), &err);
        MUST(ckpt_exec_set(to->exec, t, values, &err), &err);
        free(values);
    }
    free(used);
}

static float number(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state / 2147483648.0f;
}

/* The first `samples` of a stream of made-up ones into the executor. */
static void feed(stand *s, int64_t samples, uint32_t seed) {
    const ckpt_graph *g = &s->model.graph;
    MUST(ckpt_exec_use(s->exec, samples, &err), &err);
    for (int i = 0; i < g->input_count + g->target_count; i++) {
        const int tensor = i < g->input_count ? g->input[i] : g->target[i - g->input_count];
        const int64_t count = g->tensor[tensor].count / g->batch * samples;
        float *values = calloc((size_t)g->tensor[tensor].count, sizeof *values);
        int32_t *classes = (int32_t *)(void *)values;
        for (int64_t k = 0; k < count; k++) {
            const float v = number(&seed);
            if (g->tensor[tensor].dtype == CKPT_I32) classes[k] = (int32_t)((v + 1) * 1.49f);
            else values[k] = v;
        }
        MUST(ckpt_exec_set(s->exec, tensor, values, &err), &err);
        free(values);
    }
}

/* A training step and an evaluation; text of 160 characters that the bits of both decide. */
static void run(stand *s, int64_t samples, uint32_t seed, char text[160]) {
    double trained[2], evaluated[2];
    char hash[65];
    int *ids = calloc((size_t)s->model.graph.tensor_count, sizeof *ids);
    feed(s, samples, seed);
    ckpt_scalars scalars = {.seed = 3, .step = seed, .learning_rate = 0.01f};
    ckpt_scalars_count_all(&scalars, &s->model.graph, samples);
    MUST(ckpt_exec_train(s->exec, &scalars, true, true, &err), &err);
    MUST(ckpt_exec_result(s->exec, trained, &err), &err);
    feed(s, samples, seed + 100);
    MUST(ckpt_exec_evaluate(s->exec, &scalars, true, &err), &err);
    MUST(ckpt_exec_result(s->exec, evaluated, &err), &err);
    const int count = ckpt_model_parameters(&s->model, ids);
    MUST(ckpt_train_hash(s->exec, &s->model.graph, ids, count, hash, &err), &err);
    snprintf(text, 160, "%s %a %a", hash, trained[0], evaluated[0]);
    free(ids);
}

static void check_size(const char *network, int64_t samples, ckpt_strategy strategy) {
    stand whole, alone, plain;
    char got[160], want[160], other[160];
    set_up(&whole, network, BATCH, strategy, samples);
    set_up(&alone, network, samples, CKPT_STRATEGY_NONE, 0);
    set_up(&plain, network, BATCH, CKPT_STRATEGY_NONE, 0);
    run(&whole, BATCH, 1, got);
    run(&plain, BATCH, 1, want);
    assert_string_equal(got, want);
    copy_state(&whole, &alone);
    run(&whole, samples, 2, got);
    run(&alone, samples, 2, want);
    if (strcmp(got, want) != 0) fail_msg("%s: %d of %d samples: %s instead of %s", network, (int)samples, BATCH, got, want);
    copy_state(&whole, &plain);
    run(&whole, BATCH, 3, got);
    run(&plain, BATCH, 3, want);
    if (strcmp(got, want) != 0) fail_msg("%s: a whole batch behind one of %d: %s instead of %s", network, (int)samples, got, want);
    run(&plain, BATCH, 4, other); /* negative control */
    assert_string_not_equal(got, other);
    assert_int_equal(ckpt_exec_measured_peak(whole.exec), whole.plan->memory.total);
    assert_int_equal(whole.small.plan->memory.total, whole.plan->memory.total);
    tear_down(&whole);
    tear_down(&alone);
    tear_down(&plain);
}

static void test_every_size(void **state) {
    (void)state;
    for (int n = 0; n < NETWORKS; n++)
        for (int64_t samples = 1; samples < BATCH; samples++) {
            check_size(networks[n], samples, CKPT_STRATEGY_NONE);
            check_size(networks[n], samples, samples % 2 ? CKPT_STRATEGY_MIN : CKPT_STRATEGY_SQRT);
        }
}

static void test_a_size_that_is_not_there(void **state) {
    (void)state;
    stand s;
    set_up(&s, networks[0], BATCH, CKPT_STRATEGY_NONE, 2);
    assert_int_equal(ckpt_exec_use(s.exec, 2, &err), CKPT_OK);
    assert_int_equal(ckpt_exec_use(s.exec, 3, &err), CKPT_FAILED);
    assert_non_null(strstr(err.message, "3 samples"));
    tear_down(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_size),
        cmocka_unit_test(test_a_size_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
