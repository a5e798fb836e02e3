/* Losses against PyTorch's in float64 (tests/golden/terms): values and gradients of each in one part and in several, whose
 * sum is the whole's; and training under one of them. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/train.h"

#define TERMS CKPT_SOURCE_DIR "/tests/golden/terms"

const ckpt_backend *CKPT_TEST_BACKEND(void);

enum { SAMPLES = 8 };

static ckpt_error err;

/* A term of a case as the files have it. */
typedef struct golden_term {
    ckpt_loss_term term;
    double denominator;
    bool weighted;
    golden_tensor x, target, gradient, weights;
    int parameter, constant; /* tensors of the graph */
} golden_term;

typedef struct golden_case {
    const char *name;
    int count;
    golden_term term[CKPT_MAX_TARGETS];
    golden_tensor loss;
} golden_case;

static ckpt_loss kind_of(const char *name) {
    static const struct { const char *name; ckpt_loss loss; } kinds[] = {
        {"ce", CKPT_LOSS_CE}, {"bce", CKPT_LOSS_BCE}, {"mse", CKPT_LOSS_MSE}, {"nll", CKPT_LOSS_NLL}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, name) == 0) return kinds[i].loss;
    fail_msg("no loss '%s'", name);
    return CKPT_LOSS_NONE;
}

static void read_case(const char *name, golden_case *c) {
    char path[512], kind[16];
    int axis, soft, weighted;
    *c = (golden_case){.name = name};
    snprintf(path, sizeof path, TERMS "/%s/terms.txt", name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    golden_term *t = c->term;
    while (fscanf(file, "%15s %d %d %f %d %f %lf", kind, &axis, &soft, &t->term.smoothing, &weighted, &t->term.scale,
                  &t->denominator) == 7) {
        t->term.kind = kind_of(kind);
        t->term.class_axis = axis;
        t->term.soft = soft;
        t->weighted = weighted;
        assert_true(golden_read(&t->x, TERMS "/%s/input_%d.pb", name, c->count));
        assert_true(golden_read(&t->target, TERMS "/%s/target_%d.pb", name, c->count));
        assert_true(golden_read(&t->gradient, TERMS "/%s/grad_input_%d.pb", name, c->count));
        if (weighted) assert_true(golden_read(&t->weights, TERMS "/%s/weights_%d.pb", name, c->count));
        c->count++, t++;
    }
    fclose(file);
    assert_true(golden_read(&c->loss, TERMS "/%s/loss.pb", name));
}

static void free_case(golden_case *c) {
    for (int i = 0; i < c->count; i++) {
        golden_term *t = &c->term[i];
        golden_free(&t->x), golden_free(&t->target), golden_free(&t->gradient);
        if (t->weighted) golden_free(&t->weights);
    }
    golden_free(&c->loss);
}

/* The losses of `batch` samples, each on a parameter of its own. */
static void make_graph(golden_case *c, int64_t batch, ckpt_graph *graph) {
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD, .accumulate = true};
    *graph = (ckpt_graph){.result = -1, .batch = batch};
    for (int i = 0; i < c->count; i++) {
        golden_term *t = &c->term[i];
        int64_t dims[8];
        memcpy(dims, t->x.dim, sizeof dims);
        dims[0] = batch;
        t->parameter = ckpt_graph_add_tensor(graph, "x", CKPT_F32, CKPT_ROLE_PARAM, t->x.rank, dims, &err);
        t->constant = -1;
        if (t->weighted)
            t->constant = ckpt_graph_add_tensor(graph, "weights", CKPT_F32, CKPT_ROLE_CONST, 1, &t->weights.count, &err);
        t->term.weights = t->constant;
        const ckpt_view view = ckpt_view_of(graph, t->parameter);
        MUST(ckpt_loss_attach(graph, &t->term, &view, &err), &err);
    }
    ckpt_training_defaults(&training);
    MUST(ckpt_autodiff_run(graph, &training, &err), &err);
}

/* Where losses are near 0 each gradient is as right as the largest one elsewhere. */
static void check_gradient(const golden_case *c, const golden_term *t, int parts, const float *got, int64_t first, int64_t count) {
    const double *want = t->gradient.value + first;
    double norm = 0;
    for (int64_t i = 0; i < t->gradient.count; i++) norm = fmax(norm, fabs(t->gradient.value[i]));
    const bool tail = strstr(c->name, "tail") != NULL;
    for (int64_t i = 0; i < count; i++)
        if (!(fabs((double)got[i] - want[i]) <= (tail ? 2e-6 * fabs(want[i]) : 1e-6 * norm)))
            fail_msg("%s in %d parts: gradient %lld is %.9g instead of %.9g", c->name, parts, (long long)(first + i), (double)got[i],
                     want[i]);
}

/* Runs the case in parts, each with a result and a gradient of its own: the results add up to the whole's. */
static void run_case(golden_case *c, int parts) {
    const int64_t batch = SAMPLES / parts;
    ckpt_graph graph;
    step_runner runner;
    double loss = 0, result[2];
    make_graph(c, batch, &graph);
    runner_open(&runner, &graph, CKPT_TEST_BACKEND(), CKPT_STRATEGY_NONE);
    ckpt_scalars scalars = {.valid_samples = batch};
    for (int i = 0; i < c->count; i++) {
        if (c->term[i].weighted) runner_set_f64(&runner, c->term[i].constant, c->term[i].weights.value);
        scalars.denominator[i] = c->term[i].denominator;
    }
    for (int p = 0; p < parts; p++) {
        for (int i = 0; i < c->count; i++) {
            runner_set_f64(&runner, c->term[i].parameter, c->term[i].x.value + p * (c->term[i].x.count / parts));
            runner_set_f64(&runner, graph.target[i], c->term[i].target.value + p * (c->term[i].target.count / parts));
        }
        MUST(ckpt_exec_train(runner.exec, &scalars, true, true, &err), &err);
        MUST(ckpt_exec_result(runner.exec, result, &err), &err);
        loss += result[0];
        for (int i = 0; i < c->count; i++) {
            const int64_t count = c->term[i].x.count / parts;
            float *got = calloc((size_t)count, sizeof *got);
            runner_get_f32(&runner, gradsum_of(&graph, c->term[i].parameter), got);
            check_gradient(c, &c->term[i], parts, got, p * count, count);
            free(got);
        }
    }
    if (!(fabs(loss - c->loss.value[0]) <= 1e-6 * fabs(c->loss.value[0])))
        fail_msg("%s in %d parts: loss %.9g instead of %.9g", c->name, parts, loss, c->loss.value[0]);
    runner_close(&runner);
    ckpt_graph_free(&graph);
}

static void test_values_and_gradients(void **state) {
    (void)state;
    char folder[256], loss[16];
    int inputs, ran = 0;
    FILE *list = fopen(CKPT_SOURCE_DIR "/tests/golden/cases.txt", "r");
    assert_non_null(list);
    while (fscanf(list, "%255s %d %15s", folder, &inputs, loss) == 3) {
        if (strncmp(folder, "terms/", 6) != 0) continue;
        golden_case c;
        read_case(folder + 6, &c);
        assert_int_equal(c.count, inputs);
        for (int parts = 1; parts <= 4; parts *= 2) run_case(&c, parts);
        free_case(&c);
        ran++;
    }
    fclose(list);
    assert_true(ran >= 45);
}

/* What a class that is left out has for scores, however bad, is nobody's business. */
static void test_nan_in_an_ignored_row_goes_nowhere(void **state) {
    (void)state;
    golden_case c;
    read_case("ce_all_pixels", &c);
    golden_term *t = &c.term[0];
    const int64_t inner = t->x.count / (t->x.dim[0] * t->x.dim[1]);
    for (int64_t i = 0; i < t->target.count; i++)
        for (int64_t k = 0; k < t->x.dim[1] && t->target.value[i] < 0; k++)
            t->x.value[(i / inner * t->x.dim[1] + k) * inner + i % inner] = (double)NAN;
    run_case(&c, 1);
    run_case(&c, 4);
    free_case(&c);
}

/* Training */

typedef struct trained {
    golden_tensor x, y, weights, initial, final, losses, accuracy, evaluation;
    ckpt_array array[2];
    ckpt_dataset data;
    double loss[8], correct[8];
    int steps;
} trained;

static void read_trained(trained *t) {
    struct { golden_tensor *tensor; const char *name; } files[] = {
        {&t->x, "x"}, {&t->y, "y"}, {&t->weights, "weights"}, {&t->initial, "initial"}, {&t->final, "final"},
        {&t->losses, "losses"}, {&t->accuracy, "accuracy"}, {&t->evaluation, "evaluation"}};
    *t = (trained){0};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        assert_true(golden_read(files[i].tensor, TERMS "/trained/%s.pb", files[i].name));
    float *x = calloc((size_t)t->x.count, sizeof *x);
    int64_t *y = calloc((size_t)t->y.count, sizeof *y);
    for (int64_t i = 0; i < t->x.count; i++) x[i] = (float)t->x.value[i];
    for (int64_t i = 0; i < t->y.count; i++) y[i] = (int64_t)t->y.value[i];
    t->array[0] = (ckpt_array){.name = "x", .type = CKPT_ARRAY_F32, .rank = 2, .dim = {t->x.dim[0], t->x.dim[1]},
                               .values = (uint64_t)t->x.dim[1], .data = x};
    t->array[1] = (ckpt_array){.name = "y", .type = CKPT_ARRAY_I64, .rank = 1, .dim = {t->y.dim[0]}, .values = 1, .has_ignore = true,
                               .ignore = 255, .data = y};
    t->data = (ckpt_dataset){.arrays = t->array, .array_count = 2, .samples = (uint64_t)t->x.dim[0]};
}

static void free_trained(trained *t) {
    free(t->array[0].data), free(t->array[1].data);
    golden_free(&t->x), golden_free(&t->y), golden_free(&t->weights), golden_free(&t->initial), golden_free(&t->final);
    golden_free(&t->losses), golden_free(&t->accuracy), golden_free(&t->evaluation);
}

static void observe(void *context, const ckpt_train_event *event) {
    trained *t = context;
    assert_true(event->step < 8);
    t->loss[event->step] = event->loss;
    t->correct[event->step] = event->correct;
    t->steps++;
}

/* x w under a weighted and smoothed cross-entropy. Returns w. */
static int make_model(const trained *t, int64_t micro, ckpt_graph *graph, int *constant) {
    const int64_t dims[2] = {micro, t->x.dim[1]};
    *graph = (ckpt_graph){.result = -1, .batch = micro};
    graph->input = ckpt_pool_array(&graph->pool, 1, int);
    graph->input[graph->input_count++] = ckpt_graph_add_tensor(graph, "x", CKPT_F32, CKPT_ROLE_INPUT, 2, dims, &err);
    const int w = ckpt_graph_add_tensor(graph, "w", CKPT_F32, CKPT_ROLE_PARAM, 2, t->initial.dim, &err);
    *constant = ckpt_graph_add_tensor(graph, "weights", CKPT_F32, CKPT_ROLE_CONST, 1, &t->weights.count, &err);
    const ckpt_view x = ckpt_view_of(graph, graph->input[0]), view = ckpt_view_of(graph, w);
    ckpt_view y;
    const ckpt_linear_attr attr = {.alpha = 1, .beta = 1, .epilogue = {.act = CKPT_ACT_IDENTITY}};
    MUST(ckpt_build_linear(graph, "fc", &x, &view, -1, &attr, &y, &err), &err);
    ckpt_loss_term term = ckpt_loss_term_of(CKPT_LOSS_CE, &y);
    term.weights = *constant;
    term.smoothing = 0.125f;
    MUST(ckpt_loss_attach(graph, &term, &y, &err), &err);
    return w;
}

/* Six steps in micro-batches; the weights go to got[], the whole data's loss to *evaluated. */
static void train(trained *t, int64_t batch, int64_t micro, float *got, double *evaluated) {
    ckpt_graph graph, evaluation;
    ckpt_plan *plan, *evaluation_plan;
    ckpt_exec *exec;
    ckpt_train_report report;
    int constant;
    const int w = make_model(t, micro, &graph, &constant);
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD, .accumulate = micro < batch};
    ckpt_training_defaults(&training);
    MUST(ckpt_graph_for_evaluation(&graph, &evaluation, &err), &err);
    MUST(ckpt_autodiff_run(&graph, &training, &err), &err);
    const ckpt_traits *traits = CKPT_TEST_BACKEND()->traits;
    const ckpt_plan_options none = {.strategy = CKPT_STRATEGY_NONE}, both = {.strategy = CKPT_STRATEGY_NONE, .eval = &evaluation};
    MUST(ckpt_plan_make(&graph, &both, traits, NULL, &plan, &err), &err);
    MUST(ckpt_plan_make(&evaluation, &none, traits, NULL, &evaluation_plan, &err), &err);
    const ckpt_exec_options options = {.backend = CKPT_TEST_BACKEND(), .preserve_rng = true, .device = {.poison = true}};
    MUST(ckpt_exec_open(&options, &graph, plan, &evaluation, evaluation_plan, &exec, &err), &err);
    step_runner runner = {.graph = &graph, .plan = plan, .exec = exec};
    runner_set_f64(&runner, w, t->initial.value);
    runner_set_f64(&runner, constant, t->weights.value);
    const ckpt_train_options run = {.exec = exec, .graph = &graph, .data = &t->data, .batch = batch, .steps = 6, .learning_rate = 0.25f,
                                    .observe = observe, .context = t};
    double accuracy;
    t->steps = 0;
    MUST(ckpt_train_run(&run, &report, &err), &err);
    MUST(ckpt_train_evaluate(&run, &t->data, evaluated, &accuracy, &err), &err);
    runner_get_f32(&runner, w, got);
    ckpt_exec_close(exec);
    ckpt_plan_free(plan), ckpt_plan_free(evaluation_plan);
    ckpt_graph_free(&graph), ckpt_graph_free(&evaluation);
}

/* Whole and in parts, some of which have nothing that counts; in the second batch nothing does, and it changes nothing. */
static void test_training_is_over_what_counts_in_the_batch(void **state) {
    (void)state;
    trained t;
    float got[64];
    double evaluated;
    read_trained(&t);
    for (int64_t micro = SAMPLES; micro >= 2; micro /= 2) {
        train(&t, SAMPLES, micro, got, &evaluated);
        assert_int_equal(t.steps, 6);
        for (int s = 0; s < 6; s++) {
            assert_true(fabs(t.loss[s] - t.losses.value[s]) <= 1e-6 * fabs(t.losses.value[s]));
            if (s % 3 == 1) assert_true(t.loss[s] == 0 && t.correct[s] == -1);
            else assert_true(fabs(t.correct[s] - t.accuracy.value[s]) < 1e-9);
        }
        assert_true(relative_error(got, t.final.value, t.final.count) < 1e-6);
        assert_true(fabs(evaluated - t.evaluation.value[0]) <= 1e-6 * t.evaluation.value[0]);
    }
    train(&t, 2, 2, got, &evaluated); /* the control: the mean of each part alone is another gradient */
    assert_true(relative_error(got, t.final.value, t.final.count) > 1e-3);
    free_trained(&t);
}

static void test_what_does_not_fit_is_refused(void **state) {
    (void)state;
    const int64_t dims[2] = {4, 3}, two = 2;
    ckpt_graph graph = {.result = -1, .batch = 4};
    const int x = ckpt_graph_add_tensor(&graph, "x", CKPT_F32, CKPT_ROLE_PARAM, 2, dims, &err);
    const int weights = ckpt_graph_add_tensor(&graph, "w", CKPT_F32, CKPT_ROLE_CONST, 1, &two, &err);
    const ckpt_view view = ckpt_view_of(&graph, x);
    ckpt_loss_term term = ckpt_loss_term_of(CKPT_LOSS_CE, &view);
    term.weights = weights;
    assert_int_equal(ckpt_loss_attach(&graph, &term, &view, &err), CKPT_MODEL);
    assert_string_equal(err.message, "the class weights 'w' are not 3 constant floats, one for each class");
    term.weights = -1;
    term.class_axis = 0;
    assert_int_equal(ckpt_loss_attach(&graph, &term, &view, &err), CKPT_MODEL);
    assert_non_null(strstr(err.message, "'x' has 12 values"));
    term.class_axis = 1;
    for (int i = 0; i < CKPT_MAX_TARGETS; i++) MUST(ckpt_loss_attach(&graph, &term, &view, &err), &err);
    assert_int_equal(ckpt_loss_attach(&graph, &term, &view, &err), CKPT_MODEL);
    assert_non_null(strstr(err.message, "more than 8"));
    ckpt_graph_free(&graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_and_gradients),
        cmocka_unit_test(test_nan_in_an_ignored_row_goes_nowhere),
        cmocka_unit_test(test_training_is_over_what_counts_in_the_batch),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
