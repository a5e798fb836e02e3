/* Values and gradients against PyTorch's in float64 (tests/golden), on the backend that CKPT_TEST_BACKEND names.
 *
 * An operator's case asks for the gradients of sum(y * R). That is the gradient of the NLL loss with one class a row
 * on the values y * (-n R), n being their number; so every case runs through import, rewriting, autodiff, planning
 * and execution like a model that is trained. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reference_backend.h"

#define GOLDEN CKPT_SOURCE_DIR "/tests/golden"

const ckpt_backend *CKPT_TEST_BACKEND(void);

enum { MOST_INPUTS = 3 };

/* Norm of the difference over the norm of the golden value. bf16 rounds each activation and gradient by up to 2^-9. */
#define TOLERANCE (CKPT_TEST_BF16 ? 1e-2 : 1e-5)

/* In bf16 two things are further off than one rounding after another: a sum of values of either sign, such as a scalar's
 * gradient; and the gradients of a model with ReLU, where a unit nearer to its kink than a rounding may be on its other
 * side: one in 500. After 64 layers of 7 samples nothing is left to compare (model_case). */
static double allowed(const char *folder, const golden_tensor *want) {
    if (!CKPT_TEST_BF16) return TOLERANCE;
    if (strncmp(folder, "models/", 7) == 0)
        return strstr(folder, "gelu") ? 2 * TOLERANCE : 15 * TOLERANCE;
    return want->count == 1 ? 5 * TOLERANCE : TOLERANCE;
}

static double check(const char *what, const char *folder, const float *got, const golden_tensor *want) {
    const double error = relative_error(got, want->value, want->count);
    if (!(error <= allowed(folder, want))) fail_msg("%s: %s: relative error %.3g", folder, what, error);
    return error;
}

/* y * factors, seen as one column: under NLL, its loss is -mean(y * factors). */
static int attach_sum(ckpt_graph *graph, const ckpt_view *y, int *factors) {
    ckpt_error err;
    ckpt_view f = *y, product;
    f.tensor = *factors = ckpt_graph_add_tensor(graph, "factors", CKPT_F32, CKPT_ROLE_INPUT, y->rank, y->dim, &err);
    graph->batch = 1; /* all rows are the one sample's */
    MUST(ckpt_build_binary(graph, "times", CKPT_BINARY_MUL, y, &f, &product, &err), &err);
    const int64_t count = ckpt_view_count(&product);
    product = (ckpt_view){.tensor = product.tensor, .rank = 2, .dim = {count, 1}};
    const ckpt_loss_term term = ckpt_loss_term_of(CKPT_LOSS_NLL, &product);
    MUST(ckpt_loss_attach(graph, &term, &product, &err), &err);
    graph->output_count = 0;
    return product.tensor;
}

static void train_inputs(ckpt_graph *graph, int *input, int count) {
    for (int i = 0; i < count; i++) {
        input[i] = graph->input[i];
        graph->tensor[input[i]].role = CKPT_ROLE_PARAM;
    }
}

static double run_op(const char *folder, int inputs) {
    char path[512];
    ckpt_error err;
    ckpt_model model;
    ckpt_model_options options = {.loss = CKPT_LOSS_NONE};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD, .accumulate = true};
    golden_tensor in[MOST_INPUTS], upstream, gradient, output;
    int input[MOST_INPUTS], factors;
    double worst = 0;
    snprintf(path, sizeof path, GOLDEN "/%s/model.onnx", folder);
    MUST(ckpt_model_load(path, &options, &model, &err), &err);
    assert_int_equal(model.graph.input_count, inputs);
    assert_true(golden_read(&upstream, GOLDEN "/%s/upstream_0.pb", folder));
    assert_true(golden_read(&output, GOLDEN "/%s/output_0.pb", folder));
    train_inputs(&model.graph, input, inputs);
    attach_sum(&model.graph, &model.output[0], &factors);
    ckpt_training_defaults(&training);
    harness_differentiate(&model.graph, &training, CKPT_TEST_BF16, CKPT_TEST_BACKEND());
    step_runner runner;
    runner_open(&runner, &model.graph, CKPT_TEST_BACKEND(), CKPT_STRATEGY_NONE);
    runner_load_weights(&runner, &model);
    for (int i = 0; i < inputs; i++) {
        assert_true(golden_read(&in[i], GOLDEN "/%s/input_%d.pb", folder, i));
        runner_set_f64(&runner, input[i], in[i].value);
    }
    double *scaled = calloc((size_t)upstream.count, sizeof *scaled), sum = 0;
    for (int64_t i = 0; i < upstream.count; i++) {
        scaled[i] = -(double)upstream.count * upstream.value[i];
        sum += upstream.value[i] * output.value[i];
    }
    runner_set_f64(&runner, factors, scaled);
    memset(scaled, 0, sizeof *scaled * (size_t)upstream.count);
    runner_set_f64(&runner, model.graph.target[0], scaled); /* class 0 everywhere */
    runner_step(&runner, 0, 0);
    for (int i = 0; i < inputs; i++) {
        assert_true(golden_read(&gradient, GOLDEN "/%s/grad_input_%d.pb", folder, i));
        const int sums = gradsum_of(&model.graph, input[i]);
        assert_int_not_equal(sums, -1);
        assert_int_equal(model.graph.tensor[sums].count, gradient.count);
        float *got = calloc((size_t)gradient.count + 1, sizeof *got);
        runner_get_f32(&runner, sums, got);
        const double error = check("gradient", folder, got, &gradient);
        worst = error > worst ? error : worst;
        free(got);
        golden_free(&gradient);
        golden_free(&in[i]);
    }
    /* The loss is the sum itself: the forward values, in one number. */
    double result[2], scale = 0;
    MUST(ckpt_exec_result(runner.exec, result, &err), &err);
    for (int64_t i = 0; i < upstream.count; i++) scale += fabs(upstream.value[i] * output.value[i]);
    if (!(fabs(result[0] - sum) <= TOLERANCE * (scale + 1e-30)))
        fail_msg("%s: sum %.9g instead of %.9g", folder, result[0], sum);
    free(scaled);
    golden_free(&upstream);
    golden_free(&output);
    runner_close(&runner);
    ckpt_model_free(&model);
    return worst;
}

/* Losses on a tensor that is itself the parameter: the folded forms have the same gradient on their logits. */
static double run_loss(const char *folder, const char *name) {
    static const struct { const char *name; ckpt_loss loss; } losses[] = {
        {"ce", CKPT_LOSS_CE}, {"bce", CKPT_LOSS_BCE}, {"mse", CKPT_LOSS_MSE}, {"nll", CKPT_LOSS_NLL}};
    ckpt_loss kind = CKPT_LOSS_NONE;
    ckpt_error err;
    golden_tensor x, target, gradient, loss;
    for (size_t i = 0; i < 4; i++)
        if (strcmp(losses[i].name, name) == 0) kind = losses[i].loss;
    if (strstr(folder, "nll_logsoftmax")) kind = CKPT_LOSS_CE; /* on the logits */
    assert_true(golden_read(&x, GOLDEN "/%s/input_0.pb", folder));
    assert_true(golden_read(&target, GOLDEN "/%s/target_0.pb", folder));
    assert_true(golden_read(&gradient, GOLDEN "/%s/grad_input_0.pb", folder));
    assert_true(golden_read(&loss, GOLDEN "/%s/loss.pb", folder));
    ckpt_graph graph = {.result = -1, .batch = x.dim[0]};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD, .accumulate = true};
    int p = ckpt_graph_add_tensor(&graph, "x", CKPT_F32, CKPT_ROLE_PARAM, x.rank, x.dim, &err);
    ckpt_view view = ckpt_view_of(&graph, p);
    const ckpt_loss_term term = ckpt_loss_term_of(kind, &view);
    MUST(ckpt_loss_attach(&graph, &term, &view, &err), &err);
    ckpt_training_defaults(&training);
    MUST(ckpt_autodiff_run(&graph, &training, &err), &err);
    step_runner runner;
    runner_open(&runner, &graph, CKPT_TEST_BACKEND(), CKPT_STRATEGY_NONE);
    runner_set_f64(&runner, p, x.value);
    runner_set_f64(&runner, graph.target[0], target.value);
    runner_step(&runner, 0, 0);
    float *got = calloc((size_t)x.count, sizeof *got);
    runner_get_f32(&runner, gradsum_of(&graph, p), got);
    const double error = check("gradient", folder, got, &gradient);
    double result[2];
    MUST(ckpt_exec_result(runner.exec, result, &err), &err);
    if (!(fabs(result[0] - loss.value[0]) <= TOLERANCE * (1e-30 + fabs(loss.value[0]))))
        fail_msg("%s: loss %.9g instead of %.9g", folder, result[0], loss.value[0]);
    free(got);
    runner_close(&runner);
    ckpt_graph_free(&graph);
    golden_free(&x), golden_free(&target), golden_free(&gradient), golden_free(&loss);
    return error;
}

static void each_case(const char *prefix, double (*run)(const char *folder, int inputs, const char *loss), int least) {
    FILE *list = fopen(GOLDEN "/cases.txt", "r");
    char folder[256], loss[16];
    int inputs, ran = 0;
    double worst = 0;
    assert_non_null(list);
    while (fscanf(list, "%255s %d %15s", folder, &inputs, loss) == 3)
        if (strncmp(folder, prefix, strlen(prefix)) == 0) {
            const double error = run(folder, inputs, loss);
            worst = error > worst ? error : worst;
            ran++;
        }
    fclose(list);
    print_message("%d cases, worst relative error %.3g\n", ran, worst);
    assert_true(ran >= least);
}

static double op_case(const char *folder, int inputs, const char *loss) { return (void)loss, run_op(folder, inputs); }
static double loss_case(const char *folder, int inputs, const char *loss) { return (void)inputs, run_loss(folder, loss); }
static void test_ops(void **state) { (void)state, each_case("ops/", op_case, 90); }
static void test_losses(void **state) { (void)state, each_case("losses/", loss_case, 12); }

/* A bundled model's loss and the gradients of all its parameters, without dropout. */
static double model_case(const char *folder, int inputs, const char *name) {
    char path[512];
    ckpt_error err;
    ckpt_model model;
    ckpt_model_options options = {.batch = 7, .loss_auto = true};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD, .accumulate = true};
    golden_tensor x, target, gradient, loss;
    double worst = 0, result[2];
    (void)inputs, (void)name;
    snprintf(path, sizeof path, CKPT_SOURCE_DIR "/%s.onnx", folder);
    MUST(ckpt_model_load(path, &options, &model, &err), &err);
    for (int n = 0; n < model.graph.node_count; n++) {
        ckpt_node *node = &model.graph.node[n];
        if (node->op == CKPT_OP_LINEAR) node->attr.linear.epilogue.drop = 0;
        if (node->op == CKPT_OP_ACT) node->attr.act.drop = 0;
    }
    ckpt_training_defaults(&training);
    harness_differentiate(&model.graph, &training, CKPT_TEST_BF16, CKPT_TEST_BACKEND());
    assert_true(golden_read(&x, GOLDEN "/%s/input_0.pb", folder));
    assert_true(golden_read(&target, GOLDEN "/%s/target_0.pb", folder));
    assert_true(golden_read(&loss, GOLDEN "/%s/loss.pb", folder));
    step_runner runner;
    runner_open(&runner, &model.graph, CKPT_TEST_BACKEND(), CKPT_STRATEGY_SQRT);
    runner_load_weights(&runner, &model);
    runner_set_f64(&runner, model.graph.input[0], x.value);
    runner_set_f64(&runner, model.graph.target[0], target.value);
    runner_step(&runner, 0, 0);
    MUST(ckpt_exec_result(runner.exec, result, &err), &err);
    if (!(fabs(result[0] - loss.value[0]) <= TOLERANCE * fabs(loss.value[0])))
        fail_msg("%s: loss %.9g instead of %.9g", folder, result[0], loss.value[0]);
    int seen = 0, *ids = calloc((size_t)model.graph.tensor_count, sizeof *ids);
    const int parameters = ckpt_model_parameters(&model, ids);
    const bool compared = !(CKPT_TEST_BF16 && strstr(folder, "uniform64"));
    if (!compared) print_message("%s: in bf16 its loss is compared, its gradients are not\n", folder);
    for (; golden_read(&gradient, GOLDEN "/%s/grad_%03d.pb", folder, seen); seen++) {
        assert_true(seen < parameters);
        assert_string_equal(model.graph.tensor[ids[seen]].name, gradient.name);
        float *got = calloc((size_t)gradient.count + 1, sizeof *got);
        runner_get_f32(&runner, gradsum_of(&model.graph, ids[seen]), got);
        const double error = compared ? check(gradient.name, folder, got, &gradient) : 0;
        worst = error > worst ? error : worst;
        free(got);
        golden_free(&gradient);
    }
    assert_int_equal(seen, parameters);
    free(ids);
    runner_close(&runner);
    ckpt_model_free(&model);
    golden_free(&x), golden_free(&target), golden_free(&loss);
    return worst;
}

static void test_models(void **state) { (void)state, each_case("models/", model_case, 4); }

static double option(const char *folder, const char *name, double absent) {
    char path[512], line[128], key[64];
    double value, found = absent;
    snprintf(path, sizeof path, GOLDEN "/%s/options.txt", folder);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "%63s %lf", key, &value) == 2 && strcmp(key, name) == 0) found = value;
    fclose(file);
    return found;
}

/* Five updates with given gradients: w is updated by an ADD of a gradient that is fed as an input. */
static double optimizer_case(const char *folder, int inputs, const char *unused) {
    const char *name = strchr(folder, '/') + 1;
    ckpt_error err;
    golden_tensor initial, gradients, weights;
    (void)inputs, (void)unused;
    assert_true(golden_read(&initial, GOLDEN "/%s/initial.pb", folder));
    assert_true(golden_read(&gradients, GOLDEN "/%s/gradients.pb", folder));
    assert_true(golden_read(&weights, GOLDEN "/%s/weights.pb", folder));
    const int64_t n = initial.count;
    ckpt_training_options training = {0};
    assert_true(ckpt_optimizer_parse(name, &training.optimizer));
    ckpt_training_defaults(&training);
    /* loss = mean over n of -(w * factors) with factors = -n * gradient: its gradient is `gradient`. */
    ckpt_graph graph = {.result = -1, .batch = 1};
    int w = ckpt_graph_add_tensor(&graph, "w", CKPT_F32, CKPT_ROLE_PARAM, 1, &n, &err), factors;
    const ckpt_view view = ckpt_view_of(&graph, w);
    attach_sum(&graph, &view, &factors);
    MUST(ckpt_autodiff_run(&graph, &training, &err), &err);
    step_runner runner;
    runner_open(&runner, &graph, CKPT_TEST_BACKEND(), CKPT_STRATEGY_NONE);
    runner_set_f64(&runner, w, initial.value);
    double *values = calloc((size_t)n, sizeof *values), worst = 0;
    runner_set_f64(&runner, graph.target[0], values);
    float *got = calloc((size_t)n, sizeof *got);
    for (int step = 0; step < 5; step++) {
        for (int64_t i = 0; i < n; i++) values[i] = -(double)n * gradients.value[step * n + i];
        runner_set_f64(&runner, factors, values);
        runner_step(&runner, (uint32_t)step, (float)option(folder, "lr", 0));
        runner_get_f32(&runner, w, got);
        for (int64_t i = 0; i < n; i++) { /* per element: the gradients span ten powers of ten */
            const double want = weights.value[step * n + i];
            const double error = fabs((double)got[i] - want) / fmax(fabs(want), 1e-3);
            if (!(error <= 1e-5)) fail_msg("%s: step %d, weight %d: %.9g instead of %.9g", folder, step, (int)i, (double)got[i], want);
            worst = error > worst ? error : worst;
        }
    }
    free(values), free(got);
    runner_close(&runner);
    ckpt_graph_free(&graph);
    golden_free(&initial), golden_free(&gradients), golden_free(&weights);
    return worst;
}

static void test_optimizers(void **state) { (void)state, each_case("optimizers/", optimizer_case, 4); }

/* Three SGD steps of an MLP: loss of each and the weights at the end. */
static double training_case(const char *folder, int inputs, const char *unused) {
    char path[512];
    ckpt_error err;
    ckpt_model model;
    ckpt_model_options options = {.batch = 7, .loss_auto = true};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD};
    golden_tensor x, target, losses, final;
    double worst = 0, result[2];
    (void)inputs, (void)unused;
    snprintf(path, sizeof path, GOLDEN "/%s/model.onnx", folder);
    MUST(ckpt_model_load(path, &options, &model, &err), &err);
    ckpt_training_defaults(&training);
    harness_differentiate(&model.graph, &training, CKPT_TEST_BF16, CKPT_TEST_BACKEND());
    assert_true(golden_read(&x, GOLDEN "/%s/input_0.pb", folder));
    assert_true(golden_read(&target, GOLDEN "/%s/target_0.pb", folder));
    assert_true(golden_read(&losses, GOLDEN "/%s/losses.pb", folder));
    step_runner runner;
    runner_open(&runner, &model.graph, CKPT_TEST_BACKEND(), CKPT_STRATEGY_MIN);
    runner_load_weights(&runner, &model);
    for (int step = 0; step < 3; step++) {
        runner_set_f64(&runner, model.graph.input[0], x.value + step * 7 * (x.count / x.dim[0]));
        runner_set_f64(&runner, model.graph.target[0], target.value + step * 7);
        runner_step(&runner, (uint32_t)step, (float)option(folder, "lr", 0));
        MUST(ckpt_exec_result(runner.exec, result, &err), &err);
        if (!(fabs(result[0] - losses.value[step]) <= TOLERANCE * fabs(losses.value[step])))
            fail_msg("step %d: loss %.9g instead of %.9g", step, result[0], losses.value[step]);
    }
    int *ids = calloc((size_t)model.graph.tensor_count, sizeof *ids);
    const int parameters = ckpt_model_parameters(&model, ids);
    for (int i = 0; i < parameters; i++) {
        assert_true(golden_read(&final, GOLDEN "/%s/final_%03d.pb", folder, i));
        float *got = calloc((size_t)final.count, sizeof *got);
        runner_get_f32(&runner, ids[i], got);
        const double error = check("final weights", folder, got, &final);
        worst = error > worst ? error : worst;
        free(got);
        golden_free(&final);
    }
    free(ids);
    runner_close(&runner);
    ckpt_model_free(&model);
    golden_free(&x), golden_free(&target), golden_free(&losses);
    return worst;
}

static void test_training(void **state) { (void)state, each_case("training/", training_case, 1); }

/* The comparison itself can fail. */
static void test_negative_control(void **state) {
    (void)state;
    const double want[2] = {1, 2};
    const float close[2] = {1, 2}, off[2] = {1, 2.001f}, nan[2] = {1, NAN};
    assert_true(relative_error(close, want, 2) < 1e-7);
    assert_true(relative_error(off, want, 2) > 1e-5);
    assert_true(isinf(relative_error(nan, want, 2)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_negative_control), cmocka_unit_test(test_ops),    cmocka_unit_test(test_losses),
        cmocka_unit_test(test_optimizers),       cmocka_unit_test(test_models), cmocka_unit_test(test_training),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
