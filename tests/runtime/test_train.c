/* The training loop: micro-batches, last partial batches, validation, verification, interruption, divergence. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/train.h"
#include "sized.h"

const ckpt_backend *CKPT_TEST_BACKEND(void);

static ckpt_error err;

typedef struct rig {
    ckpt_model model;
    ckpt_graph evaluation;
    ckpt_plan *plan, *evaluation_plan;
    ckpt_exec *exec;
    int ids[64], id_count;
    sized_whole whole;
    int last_count; /* sizes of last batches, */
    sized last[2];  /* which the next executor gets */
} rig;

static void load_weights(ckpt_exec *exec, const rig *r) {
    step_runner runner = {.graph = (ckpt_graph *)&r->model.graph, .plan = r->plan, .exec = exec};
    runner_load_weights(&runner, &r->model);
}

static ckpt_exec *open_exec(const rig *r, const ckpt_plan *plan, bool preserve_rng) {
    ckpt_exec *exec;
    const ckpt_exec_options options = {.backend = CKPT_TEST_BACKEND(), .preserve_rng = preserve_rng, .device = {.poison = true}};
    MUST(ckpt_exec_open(&options, &r->model.graph, plan, &r->evaluation, r->evaluation_plan, &exec, &err), &err);
    for (int i = 0; i < r->last_count; i++) sized_add(&r->last[i], exec, true, true);
    load_weights(exec, r);
    return exec;
}

static ckpt_plan *make_plan(const rig *r, const ckpt_graph *graph, ckpt_strategy strategy, const ckpt_graph *eval) {
    ckpt_plan *plan;
    (void)r;
    const ckpt_plan_options options = {.strategy = strategy, .eval = eval};
    MUST(ckpt_plan_make(graph, &options, CKPT_TEST_BACKEND()->traits, NULL, &plan, &err), &err);
    return plan;
}

static void take_out_dropout(ckpt_graph *graph) {
    for (int n = 0; n < graph->node_count; n++)
        if (graph->node[n].op == CKPT_OP_LINEAR) graph->node[n].attr.linear.epilogue.drop = 0;
}

/* last: a size of its own for the last batch, where it is not 0. */
static void set_up_as(rig *r, int64_t micro_batch, bool accumulate, ckpt_strategy strategy, bool preserve_rng, bool dropout,
                      const int64_t last[2]) {
    const ckpt_model_options options = {.batch = micro_batch, .loss_auto = true};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD, .accumulate = accumulate};
    *r = (rig){0};
    MUST(ckpt_model_load(CKPT_SOURCE_DIR "/models/digits.onnx", &options, &r->model, &err), &err);
    if (!dropout) take_out_dropout(&r->model.graph);
    MUST(ckpt_graph_for_evaluation(&r->model.graph, &r->evaluation, &err), &err);
    ckpt_training_defaults(&training);
    MUST(ckpt_autodiff_run(&r->model.graph, &training, &err), &err);
    r->plan = make_plan(r, &r->model.graph, strategy, &r->evaluation);
    r->evaluation_plan = make_plan(r, &r->evaluation, CKPT_STRATEGY_NONE, NULL);
    r->whole = (sized_whole){&r->model, &r->evaluation, r->plan, r->evaluation_plan, options, training,
                             dropout ? NULL : take_out_dropout};
    for (int i = 0; i < 2 && last; i++)
        if (last[i] && (i == 0 || last[i] != last[0])) sized_make(&r->last[r->last_count++], &r->whole, last[i], CKPT_TEST_BACKEND());
    r->exec = open_exec(r, r->plan, preserve_rng);
    r->id_count = ckpt_model_parameters(&r->model, r->ids);
}

static void set_up(rig *r, int64_t micro_batch, bool accumulate, ckpt_strategy strategy, bool preserve_rng) {
    set_up_as(r, micro_batch, accumulate, strategy, preserve_rng, true, NULL);
}

/* With what the last of so many samples need, in training and in validation. */
static void set_up_for(rig *r, int64_t micro_batch, bool accumulate, ckpt_strategy strategy, int64_t samples, int64_t validation) {
    const int64_t last[2] = {samples % micro_batch, validation % micro_batch};
    set_up_as(r, micro_batch, accumulate, strategy, true, true, last);
}

static void tear_down(rig *r) {
    ckpt_exec_close(r->exec);
    for (int i = 0; i < r->last_count; i++) sized_free(&r->last[i]);
    ckpt_plan_free(r->plan);
    ckpt_plan_free(r->evaluation_plan);
    ckpt_graph_free(&r->evaluation);
    ckpt_model_free(&r->model);
}

/* `samples` made-up digits, the same for the same seed. */
static void make_data(ckpt_dataset *data, uint64_t samples, uint64_t seed) {
    const ckpt_data_request want[] = {
        {.name = "x", .role = CKPT_DATA_INPUT, .values = 64},
        {.name = "y", .role = CKPT_DATA_TARGET, .want = CKPT_WANT_INTEGER, .values = 1, .integer_values = 1, .classes = 10}};
    MUST(ckpt_dataset_synthetic(want, 2, samples, seed, data, &err), &err);
}

static ckpt_train_options options_of(const rig *r, const ckpt_dataset *data, int64_t batch) {
    return (ckpt_train_options){.exec = r->exec, .graph = &r->model.graph, .data = data, .batch = batch, .epochs = 1,
                                .learning_rate = 0.05f, .seed = 5, .shuffle = true};
}

/* The weights as one array. */
static double *weights(const rig *r, int64_t *count) {
    *count = 0;
    for (int i = 0; i < r->id_count; i++) *count += r->model.graph.tensor[r->ids[i]].count;
    double *all = calloc((size_t)*count, sizeof *all);
    int64_t at = 0;
    for (int i = 0; i < r->id_count; i++) {
        const int64_t n = r->model.graph.tensor[r->ids[i]].count;
        float *values = calloc((size_t)n, sizeof *values);
        MUST(ckpt_exec_get(r->exec, r->ids[i], values, &err), &err);
        for (int64_t k = 0; k < n; k++) all[at++] = (double)values[k];
        free(values);
    }
    return all;
}

/* ||a - b|| relative to how far training moved the weights from `start`. */
static double moved_error(const double *a, const double *b, const double *start, int64_t count) {
    double difference = 0, moved = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        moved += (b[i] - start[i]) * (b[i] - start[i]);
    }
    return sqrt(difference / moved);
}

/* Trains an epoch over `samples` and returns the weights; the first micro-batch's weights go to *start. */
static double *train(int64_t micro, int64_t batch, uint64_t samples, double **start, ckpt_train_report *report, int64_t *count) {
    rig r;
    ckpt_dataset data;
    make_data(&data, samples, 3);
    set_up_for(&r, micro, micro < batch, CKPT_STRATEGY_SQRT, (int64_t)samples, 0);
    *start = weights(&r, count);
    const ckpt_train_options options = options_of(&r, &data, batch);
    MUST(ckpt_train_run(&options, report, &err), &err);
    double *end = weights(&r, count);
    tear_down(&r);
    ckpt_dataset_free(&data);
    return end;
}

/* --batch 256 --micro-batch 64 has the gradient of the mean over 256, dropout included: masks are numbered by the
 * sample's place in the whole batch. The last batch of 600 has 88 samples: a micro-batch of 64 and one of 24. */
static void test_micro_batches_give_the_gradient_of_the_whole_batch(void **state) {
    (void)state;
    ckpt_train_report whole, parts;
    double *start[2];
    int64_t count;
    double *a = train(256, 256, 600, &start[0], &whole, &count);
    double *b = train(64, 256, 600, &start[1], &parts, &count);
    assert_int_equal(whole.steps, 3);
    assert_int_equal(parts.steps, 3);
    assert_true(fabs(whole.last_loss - parts.last_loss) <= 1e-5 * whole.last_loss);
    const double error = moved_error(b, a, start[0], count);
    print_message("micro-batches against the whole batch: relative error %.3g\n", error);
    assert_true(error < 1e-5);
    /* Negative control: a batch of another size is another gradient. */
    double *other_start, *c = train(64, 64, 600, &other_start, &parts, &count);
    assert_true(moved_error(c, a, start[0], count) > 1e-2);
    free(a), free(b), free(c), free(start[0]), free(start[1]), free(other_start);
}

/* A batch of 64 of which 10 samples are there is a batch of 10, to the bit. */
static void test_a_partial_batch_is_a_batch_of_its_size(void **state) {
    (void)state;
    ckpt_train_report partial, exact;
    double *start[2];
    int64_t count;
    double *a = train(10, 10, 10, &start[0], &exact, &count);
    double *b = train(64, 64, 10, &start[1], &partial, &count);
    assert_true(exact.last_loss == partial.last_loss);
    assert_true(exact.accuracy == partial.accuracy);
    assert_memory_equal(a, b, (size_t)count * sizeof *a);
    assert_true(moved_error(start[0], b, start[0], count) > 0.5); /* negative control: the step has moved something */
    free(a), free(b), free(start[0]), free(start[1]);
}

/* Validation in batches of 64 and of 7 is the same mean; it changes no weight. */
static void test_evaluation_is_the_mean_over_all_samples(void **state) {
    (void)state;
    double loss[2], accuracy[2];
    char before[65], after[65];
    const int64_t batches[2] = {64, 7};
    ckpt_dataset data;
    make_data(&data, 100, 9);
    for (int i = 0; i < 2; i++) {
        rig r;
        set_up_for(&r, batches[i], false, CKPT_STRATEGY_NONE, 0, 100);
        const ckpt_train_options options = options_of(&r, &data, batches[i]);
        MUST(ckpt_train_hash(r.exec, &r.model.graph, r.ids, r.id_count, before, &err), &err);
        MUST(ckpt_train_evaluate(&options, &data, &loss[i], &accuracy[i], &err), &err);
        MUST(ckpt_train_hash(r.exec, &r.model.graph, r.ids, r.id_count, after, &err), &err);
        assert_string_equal(before, after);
        tear_down(&r);
    }
    assert_true(fabs(loss[0] - loss[1]) < 1e-6 * loss[0]);
    assert_true(accuracy[0] == accuracy[1]);
    ckpt_dataset_free(&data);
}

static ckpt_status train_verified(bool preserve_rng, ckpt_train_report *report) {
    rig r;
    ckpt_dataset data;
    make_data(&data, 96, 3);
    set_up(&r, 32, false, CKPT_STRATEGY_NONE, preserve_rng);
    ckpt_plan *all;
    const ckpt_plan_options every_layer = {.strategy = CKPT_STRATEGY_LAYERS, .layers = "*", .eval = &r.evaluation};
    MUST(ckpt_plan_make(&r.model.graph, &every_layer, CKPT_TEST_BACKEND()->traits, NULL, &all, &err), &err);
    ckpt_exec *recomputing = open_exec(&r, all, preserve_rng);
    ckpt_train_options options = options_of(&r, &data, 32);
    options.reference = r.exec;
    options.exec = recomputing;
    const ckpt_status status = ckpt_train_run(&options, report, &err);
    ckpt_exec_close(recomputing);
    ckpt_plan_free(all);
    tear_down(&r);
    ckpt_dataset_free(&data);
    return status;
}

static void test_verification_passes_and_can_fail(void **state) {
    (void)state;
    ckpt_train_report report;
    assert_int_equal(train_verified(true, &report), CKPT_OK);
    assert_true(report.verified);
    assert_int_equal(train_verified(false, &report), CKPT_FAILED);
    assert_false(report.verified);
    assert_int_equal(report.mismatch_step, 0);
    assert_non_null(strstr(err.message, "step 0"));
}

/* The same batches, one at a time, each waited for. */
static void train_step_by_step(const rig *r, const ckpt_dataset *data, int64_t batch, uint64_t seed, char hash[65]) {
    enum { WIDTH = 64 };
    int64_t step = 0, *classes = calloc((size_t)batch, sizeof *classes);
    float *x = calloc((size_t)batch * WIDTH, sizeof *x);
    int32_t *y = calloc((size_t)batch, sizeof *y);
    double result[2];
    for (int epoch = 0; epoch < 2; epoch++)
        for (int64_t begin = 0; begin < (int64_t)data->samples; begin += batch, step++) {
            const int64_t left = (int64_t)data->samples - begin, count = left < batch ? left : batch;
            uint32_t order[256];
            for (int64_t i = 0; i < count; i++) order[i] = (uint32_t)(begin + i);
            ckpt_array_gather(&data->arrays[0], order, (size_t)count, x);
            ckpt_array_gather(&data->arrays[1], order, (size_t)count, classes);
            for (int64_t i = 0; i < count; i++) y[i] = (int32_t)classes[i];
            MUST(ckpt_exec_use(r->exec, count, &err), &err);
            MUST(ckpt_exec_set(r->exec, r->model.graph.input[0], x, &err), &err);
            MUST(ckpt_exec_set(r->exec, r->model.graph.target[0], y, &err), &err);
            ckpt_scalars scalars = {.seed = seed, .step = (uint32_t)step, .learning_rate = 0.05f, .valid_samples = count};
            ckpt_scalars_count_all(&scalars, &r->model.graph, count);
            MUST(ckpt_exec_train(r->exec, &scalars, true, true, &err), &err);
            MUST(ckpt_exec_result(r->exec, result, &err), &err);
        }
    MUST(ckpt_train_hash(r->exec, &r->model.graph, r->ids, r->id_count, hash, &err), &err);
    free(classes);
    free(x);
    free(y);
}

/* However batches and results travel, the weights are those of plain steps; with another seed they are not. */
static void test_the_loop_is_its_steps_one_by_one(void **state) {
    (void)state;
    ckpt_dataset data, validation;
    char want[65], got[65], other[65];
    make_data(&data, 32 * 6 + 16, 3);
    make_data(&validation, 40, 4);
    rig r;
    set_up_for(&r, 32, false, CKPT_STRATEGY_SQRT, 32 * 6 + 16, 40);
    train_step_by_step(&r, &data, 32, 5, want);
    tear_down(&r);
    for (uint64_t seed = 5; seed <= 6; seed++) {
        ckpt_train_report report;
        set_up_for(&r, 32, false, CKPT_STRATEGY_SQRT, 32 * 6 + 16, 40);
        ckpt_train_options options = options_of(&r, &data, 32);
        options.validation = &validation;
        options.seed = seed;
        options.shuffle = false;
        options.epochs = 2;
        MUST(ckpt_train_run(&options, &report, &err), &err);
        assert_int_equal(report.steps, 14);
        MUST(ckpt_train_hash(r.exec, &r.model.graph, r.ids, r.id_count, seed == 5 ? got : other, &err), &err);
        tear_down(&r);
    }
    assert_string_equal(got, want);
    assert_string_not_equal(other, want);
    ckpt_dataset_free(&data);
    ckpt_dataset_free(&validation);
}

static void test_stop_finishes_the_step(void **state) {
    (void)state;
    rig r;
    ckpt_dataset data;
    ckpt_train_report report;
    const atomic_int stop = 1;
    make_data(&data, 96, 3);
    set_up(&r, 32, false, CKPT_STRATEGY_NONE, true);
    ckpt_train_options options = options_of(&r, &data, 32);
    options.stop = &stop;
    assert_int_equal(ckpt_train_run(&options, &report, &err), CKPT_INTERRUPTED);
    assert_int_equal(report.steps, 1);
    tear_down(&r);
    ckpt_dataset_free(&data);
}

static void test_divergence_is_named(void **state) {
    (void)state;
    rig r;
    ckpt_dataset data;
    ckpt_train_report report;
    make_data(&data, 96, 3);
    set_up(&r, 32, false, CKPT_STRATEGY_NONE, true);
    ckpt_train_options options = options_of(&r, &data, 32);
    options.learning_rate = 1e30f;
    options.epochs = 20;
    assert_int_equal(ckpt_train_run(&options, &report, &err), CKPT_DIVERGED);
    assert_non_null(strstr(err.message, "--lr"));
    tear_down(&r);
    ckpt_dataset_free(&data);
}

/* Where a kernel's ReLU makes 0 of NaN the loss stays finite, and the run is no less diverged. */
static void test_a_nan_behind_a_relu_is_divergence(void **state) {
    (void)state;
    for (int64_t batch = 30; batch < 33; batch++) { /* the fake device fuses some of these and not others */
        rig r;
        ckpt_dataset data;
        ckpt_train_report report;
        make_data(&data, 96, 3);
        set_up_as(&r, batch, false, CKPT_STRATEGY_SQRT, true, false, NULL);
        float *weight = calloc((size_t)r.model.graph.tensor[r.ids[0]].count, sizeof *weight);
        MUST(ckpt_exec_get(r.exec, r.ids[0], weight, &err), &err);
        weight[5] = NAN;
        MUST(ckpt_exec_set(r.exec, r.ids[0], weight, &err), &err);
        free(weight);
        ckpt_train_options options = options_of(&r, &data, batch);
        options.steps = 1;
        assert_int_equal(ckpt_train_run(&options, &report, &err), CKPT_DIVERGED);
        print_message("%s\n", err.message);
        assert_non_null(strstr(err.message, "NaN"));
        tear_down(&r);
        ckpt_dataset_free(&data);
    }
}

static void test_the_seed_decides(void **state) {
    (void)state;
    char hash[3][65];
    for (int i = 0; i < 3; i++) {
        rig r;
        ckpt_dataset data;
        ckpt_train_report report;
        make_data(&data, 96, 3);
        set_up(&r, 32, false, CKPT_STRATEGY_NONE, true);
        ckpt_train_options options = options_of(&r, &data, 32);
        options.seed = i < 2 ? 5 : 6;
        MUST(ckpt_train_run(&options, &report, &err), &err);
        MUST(ckpt_train_hash(r.exec, &r.model.graph, r.ids, r.id_count, hash[i], &err), &err);
        tear_down(&r);
        ckpt_dataset_free(&data);
    }
    assert_string_equal(hash[0], hash[1]);
    assert_string_not_equal(hash[0], hash[2]);
}

static void test_data_of_another_shape_are_refused(void **state) {
    (void)state;
    rig r;
    ckpt_dataset data;
    ckpt_train_report report;
    const ckpt_data_request want[] = {
        {.name = "x", .role = CKPT_DATA_INPUT, .values = 63},
        {.name = "y", .role = CKPT_DATA_TARGET, .want = CKPT_WANT_INTEGER, .values = 1, .integer_values = 1, .classes = 10}};
    MUST(ckpt_dataset_synthetic(want, 2, 10, 1, &data, &err), &err);
    set_up(&r, 32, false, CKPT_STRATEGY_NONE, true);
    const ckpt_train_options options = options_of(&r, &data, 32);
    assert_int_equal(ckpt_train_run(&options, &report, &err), CKPT_USAGE);
    assert_non_null(strstr(err.message, "63"));
    tear_down(&r);
    ckpt_dataset_free(&data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_micro_batches_give_the_gradient_of_the_whole_batch),
        cmocka_unit_test(test_a_partial_batch_is_a_batch_of_its_size),
        cmocka_unit_test(test_evaluation_is_the_mean_over_all_samples),
        cmocka_unit_test(test_verification_passes_and_can_fail),
        cmocka_unit_test(test_the_loop_is_its_steps_one_by_one),
        cmocka_unit_test(test_stop_finishes_the_step),
        cmocka_unit_test(test_divergence_is_named),
        cmocka_unit_test(test_a_nan_behind_a_relu_is_divergence),
        cmocka_unit_test(test_the_seed_decides),
        cmocka_unit_test(test_data_of_another_shape_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
