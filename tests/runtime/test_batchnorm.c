/* BatchNormalization under plans: running statistics are moved once a step whatever is recomputed, and by a last batch of
 * fewer samples as by any other; micro-batches move them once. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "runtime/train.h"
#include "sized.h"

#define MODEL CKPT_SOURCE_DIR "/tests/golden/training/batchnorm_sgd/model.onnx"

const ckpt_backend *CKPT_TEST_BACKEND(void);

static void load(ckpt_model *model, int64_t batch, bool accumulate) {
    ckpt_error err;
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD, .accumulate = accumulate};
    const ckpt_model_options options = {.batch = batch, .loss_auto = true};
    MUST(ckpt_model_load(MODEL, &options, model, &err), &err);
    ckpt_training_defaults(&training);
    MUST(ckpt_autodiff_run(&model->graph, &training, &err), &err);
}

/* Sample s has the same values in every batch; those beyond `count` are far away. */
static void feed(step_runner *runner, int64_t first, int64_t count) {
    const ckpt_graph *g = runner->graph;
    const int tensor[2] = {g->input[0], g->target[0]};
    for (int i = 0; i < 2; i++) {
        const ckpt_tensor *t = &g->tensor[tensor[i]];
        const int64_t each = t->count / g->batch;
        double *values = calloc((size_t)t->count, sizeof *values);
        for (int64_t k = 0; k < t->count; k++) {
            const int64_t s = first + k / each;
            const bool beyond = k / each >= count;
            if (i == 0) values[k] = beyond ? 1e6 : sin((double)(s * 12 + k % each) * 1.7);
            else values[k] = beyond ? -1 : (double)(s % 5);
        }
        runner_set_f64(runner, tensor[i], values);
        free(values);
    }
}

static void hash_of(step_runner *runner, const ckpt_model *model, char hash[65]) {
    ckpt_error err;
    int *ids = calloc((size_t)model->graph.tensor_count, sizeof *ids);
    const int count = ckpt_model_parameters(model, ids);
    assert_int_equal(count, 7); /* running statistics among them */
    MUST(ckpt_train_hash(runner->exec, runner->graph, ids, count, hash, &err), &err);
    free(ids);
}

static int statistic(const ckpt_graph *g, const char *name) {
    for (int t = 0; t < g->tensor_count; t++)
        if (strcmp(g->tensor[t].name, name) == 0 && g->tensor[t].role == CKPT_ROLE_STATISTIC) return t;
    fail_msg("no statistic '%s'", name);
    return -1;
}

/* extra: one step more, without a learning rate. */
static int train(ckpt_strategy strategy, bool extra, char hash[65]) {
    ckpt_model model;
    step_runner runner;
    load(&model, 16, false);
    runner_open(&runner, &model.graph, CKPT_TEST_BACKEND(), strategy);
    runner_load_weights(&runner, &model);
    for (uint32_t step = 0; step < 5; step++) {
        feed(&runner, 16 * step, 16);
        runner_step(&runner, step, 0.1f);
    }
    if (extra) runner_step(&runner, 5, 0);
    hash_of(&runner, &model, hash);
    const int recomputed = runner.plan->compute.recomputed_nodes;
    assert_int_equal(ckpt_exec_measured_peak(runner.exec), runner.plan->memory.total);
    runner_close(&runner);
    ckpt_model_free(&model);
    return recomputed;
}

static void test_statistics_move_once_a_step(void **state) {
    (void)state;
    const ckpt_strategy strategies[] = {CKPT_STRATEGY_SQRT, CKPT_STRATEGY_SELECTIVE, CKPT_STRATEGY_MIN};
    char first[65], hash[65];
    int recomputed = 0;
    assert_int_equal(train(CKPT_STRATEGY_NONE, false, first), 0);
    for (int i = 0; i < 3; i++) {
        recomputed += train(strategies[i], false, hash);
        assert_string_equal(hash, first);
    }
    assert_true(recomputed > 0);
    /* Negative control: one move too many is seen, though no weight changes. */
    train(CKPT_STRATEGY_NONE, true, hash);
    assert_string_not_equal(hash, first);
}

/* Loss, weights and statistics of 5 samples in the memory of a batch of 8 are those of a batch of 5, to the bit. */
static void test_a_smaller_batch_moves_them(void **state) {
    (void)state;
    const int64_t batches[2] = {5, 8};
    double loss[2];
    char hash[2][65];
    for (int i = 0; i < 2; i++) {
        ckpt_model model;
        step_runner runner;
        ckpt_error err;
        double result[2];
        load(&model, batches[i], false);
        runner_open(&runner, &model.graph, CKPT_TEST_BACKEND(), CKPT_STRATEGY_MIN);
        sized_whole whole = {.model = &model, .plan = runner.plan, .options = {.loss_auto = true}};
        ckpt_training_defaults(&whole.training);
        sized last = {0};
        if (batches[i] != 5) sized_make(&last, &whole, 5, CKPT_TEST_BACKEND());
        if (batches[i] != 5) sized_add(&last, runner.exec, true, false);
        runner_load_weights(&runner, &model);
        feed(&runner, 0, 5);
        MUST(ckpt_exec_use(runner.exec, 5, &err), &err);
        ckpt_scalars scalars = {.learning_rate = 0.1f, .valid_samples = 5};
        ckpt_scalars_count_all(&scalars, runner.graph, 5);
        MUST(ckpt_exec_train(runner.exec, &scalars, true, true, &err), &err);
        MUST(ckpt_exec_result(runner.exec, result, &err), &err);
        loss[i] = result[0];
        hash_of(&runner, &model, hash[i]);
        runner_close(&runner);
        sized_free(&last);
        ckpt_model_free(&model);
    }
    assert_true(loss[0] == loss[1]);
    assert_string_equal(hash[0], hash[1]);
}

/* Of two micro-batches the first moves the statistics, as a whole batch of its samples would. */
static void test_micro_batches_move_them_once(void **state) {
    (void)state;
    float mean[2][8];
    for (int micro = 0; micro < 2; micro++) {
        ckpt_model model;
        step_runner runner;
        ckpt_error err;
        load(&model, 4, micro);
        runner_open(&runner, &model.graph, CKPT_TEST_BACKEND(), CKPT_STRATEGY_NONE);
        runner_load_weights(&runner, &model);
        for (int part = 0; part <= micro; part++) {
            ckpt_scalars scalars = {.learning_rate = 0.1f, .first_sample = 4 * part, .valid_samples = 4};
            ckpt_scalars_count_all(&scalars, runner.graph, 4 * (micro + 1));
            feed(&runner, 4 * part, 4);
            MUST(ckpt_exec_train(runner.exec, &scalars, part == 0, part == micro, &err), &err);
        }
        runner_get_f32(&runner, statistic(&model.graph, "bn.running_mean"), mean[micro]);
        runner_close(&runner);
        ckpt_model_free(&model);
    }
    assert_memory_equal(mean[0], mean[1], sizeof mean[0]);
}

int main(void) {
    if (!CKPT_TEST_BACKEND()->supports(CKPT_OP_BATCHNORM)) {
        print_message("skipped: the backend has no kernel for BatchNormalization\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statistics_move_once_a_step),
        cmocka_unit_test(test_a_smaller_batch_moves_them),
        cmocka_unit_test(test_micro_batches_move_them_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
