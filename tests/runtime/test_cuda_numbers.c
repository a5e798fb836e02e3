/* The numbers of the CUDA backend, on a device or on tests/fake_cuda: products against sums in double at every
 * precision that the device takes, products of ones, whose every element is known, dropout masks bit by bit against the
 * CPU's, and the gradients of whole models against a reference that sums in double.
 *
 * Errors are ||out - ref|| / ||ref||. A product of K terms in fp32 may be off by 1e-6 sqrt(K), TF32 by 1e-3, bf16 by
 * 1e-2: its factors have 8 bits. */
#include "cuda_rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "reference_backend.h"

enum { ROWS_CHECKED = 24 };

typedef struct product_shape {
    int64_t rows, in, out;
} product_shape;

/* Tails of every kind, the bundled models' and, on a device, the benchmarks': a host takes minutes for those. */
static const product_shape shapes[] = {
    {1, 1, 1},     {7, 13, 5},    {33, 65, 129},  {64, 64, 64},      {64, 64, 10},      {100, 17, 31},
    {31, 300, 2},  {257, 255, 3}, {5, 1023, 130}, {128, 256, 256},   {128, 512, 512},   {128, 256, 10},
    {9, 4097, 3},  {2, 3, 2049},  {8192, 1024, 10}, {8192, 1024, 1024}, {8192, 4096, 4096}, {8192, 8192, 8192}};

static bool small(const product_shape *s) { return s->rows * s->in * s->out <= 40000000; }

/* cuda_tests.cmake puts test_cuda_suite.h in front where products are a device's and not the host's. */
static bool on_a_device(void) {
#ifdef CKPT_TEST_CUDA_SUITE_H
    return true;
#else
    return false;
#endif
}

static double bound(ckpt_precision precision, int64_t terms) {
    return precision == CKPT_PRECISION_FP32 ? 1e-6 * sqrt((double)terms) : precision == CKPT_PRECISION_TF32 ? 1e-3 : 1e-2;
}

static bool takes(ckpt_precision precision) {
    ckpt_device *device;
    ckpt_error err;
    const ckpt_device_options options = {.precision = precision};
    if (ckpt_backend_cuda()->open(&options, &device, &err) != CKPT_OK) return false;
    ckpt_backend_cuda()->close(device);
    return true;
}

static void open_product(rig_case *c, ckpt_op op, const product_shape *s, ckpt_precision precision) {
    const int64_t x[2] = {s->rows, s->in}, w[2] = {s->out, s->in}, y[2] = {s->rows, s->out};
    rig_open(c, op);
    c->precision = precision;
    c->node.attr.linear = (ckpt_linear_attr){
        .rows = s->rows, .in_features = s->in, .out_features = s->out, .trans_w = true, .alpha = 1, .beta = 1};
    rig_add_in(c, CKPT_F32, 2, op == CKPT_OP_LINEAR ? x : y, 1);
    rig_add_in(c, CKPT_F32, 2, op == CKPT_OP_LINEAR_DW ? x : w, 1);
    rig_add_out(c, CKPT_F32, 2, op == CKPT_OP_LINEAR ? y : op == CKPT_OP_LINEAR_DX ? x : w);
}

static int64_t terms_of(ckpt_op op, const product_shape *s) {
    return op == CKPT_OP_LINEAR ? s->in : op == CKPT_OP_LINEAR_DX ? s->out : s->rows;
}

/* Row r of the result in double, without the last `missing` terms of each sum. */
static void want_row(const rig_case *c, const product_shape *s, int64_t r, int64_t missing, double *want) {
    const ckpt_op op = c->node.op;
    const float *a = c->value[0], *b = c->value[1];
    const int64_t cols = c->graph.tensor[2].dim[1], terms = terms_of(op, s) - missing;
    for (int64_t j = 0; j < cols; j++) {
        want[j] = 0;
        for (int64_t k = 0; op == CKPT_OP_LINEAR && k < terms; k++) want[j] += (double)a[r * s->in + k] * (double)b[j * s->in + k];
    }
    /* Along rows of b: down its columns the largest shapes take minutes. */
    for (int64_t k = 0; op != CKPT_OP_LINEAR && k < terms; k++) {
        const double factor = (double)(op == CKPT_OP_LINEAR_DX ? a[r * s->out + k] : a[k * s->out + r]);
        for (int64_t j = 0; j < cols; j++) want[j] += factor * (double)b[k * s->in + j];
    }
}

/* Of rows spread over the result, the last one among them. */
static double product_error(const rig_case *c, const product_shape *s, int64_t missing) {
    const int64_t rows = c->graph.tensor[2].dim[0], cols = c->graph.tensor[2].dim[1];
    const int64_t most = small(s) ? ROWS_CHECKED : 2, count = rows < most ? rows : most;
    float *got = calloc((size_t)(count * cols), sizeof *got);
    double *want = calloc((size_t)(count * cols), sizeof *want);
    for (int64_t i = 0; i < count; i++) {
        const int64_t r = count == 1 ? rows - 1 : i * (rows - 1) / (count - 1);
        want_row(c, s, r, missing, want + i * cols);
        memcpy(got + i * cols, (const float *)c->result[2] + r * cols, (size_t)cols * sizeof *got);
    }
    const double error = relative_error(got, want, count * cols);
    free(got), free(want);
    return error;
}

static const ckpt_op products[] = {CKPT_OP_LINEAR, CKPT_OP_LINEAR_DX, CKPT_OP_LINEAR_DW};

static void check_products(ckpt_precision precision) {
    double worst = 0;
    int64_t controls = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int o = 0; o < 3 && (small(&shapes[i]) || on_a_device()); o++) {
            rig_case c;
            open_product(&c, products[o], &shapes[i], precision);
            rig_run_on(&c, ckpt_backend_cuda(), 0, true);
            const int64_t terms = terms_of(products[o], &shapes[i]);
            const double error = product_error(&c, &shapes[i], 0), most = bound(precision, terms);
            if (!(error <= most))
                fail_msg("%s of %d x %d x %d: error %g, at most %g", ckpt_op_info(products[o])->name, (int)shapes[i].rows,
                         (int)shapes[i].in, (int)shapes[i].out, error, most);
            if (error / most > worst) worst = error / most;
            /* Negative control: a term less is an error, where one of so many can be seen. */
            if (terms > 1 && 1 / sqrt((double)terms) > 20 * most) {
                assert_true(product_error(&c, &shapes[i], 1) > most);
                controls++;
            }
            rig_close(&c);
        }
    assert_true(controls > 10);
    print_message("largest error: %.3f of what is allowed\n", worst);
}

static void test_products_in_fp32(void **state) { (void)state, check_products(CKPT_PRECISION_FP32); }

static void test_products_in_tf32(void **state) {
    (void)state;
    if (!takes(CKPT_PRECISION_TF32)) skip();
    check_products(CKPT_PRECISION_TF32);
}

static int64_t first_other(const float *values, int64_t count, float want) {
    int64_t i = 0;
    while (i < count && values[i] == want) i++;
    return i;
}

/* 2^24 terms are exact in fp32, whatever the factors' type: a dropped tail, row or column shows in some element. */
static void check_ones(ckpt_precision precision) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int o = 0; o < 3 && (small(&shapes[i]) || on_a_device()); o++) {
            rig_case c;
            open_product(&c, products[o], &shapes[i], precision);
            for (int t = 0; t < 2; t++)
                for (int64_t k = 0; k < c.graph.tensor[t].count; k++) ((float *)c.value[t])[k] = 1;
            const float want = (float)terms_of(products[o], &shapes[i]);
            const int64_t count = c.graph.tensor[2].count;
            rig_run_on(&c, ckpt_backend_cuda(), 0, true);
            float *got = c.result[2];
            const int64_t other = first_other(got, count, want);
            if (other < count)
                fail_msg("%s of %d x %d x %d ones: element %lld is %g, not %g", ckpt_op_info(products[o])->name,
                         (int)shapes[i].rows, (int)shapes[i].in, (int)shapes[i].out, (long long)other, (double)got[other], (double)want);
            got[count - 1] = want - 1; /* negative control */
            assert_int_equal(first_other(got, count, want), count - 1);
            rig_close(&c);
        }
}

static void test_products_of_ones(void **state) {
    (void)state;
    for (int p = CKPT_PRECISION_FP32; p <= CKPT_PRECISION_TF32; p++)
        if (takes((ckpt_precision)p)) check_ones((ckpt_precision)p);
}

static void mask_on(rig_case *c, const ckpt_backend *backend, uint32_t step, uint32_t stream, int64_t first, int64_t count) {
    rig_open(c, CKPT_OP_KEEP_MASK);
    c->graph.batch = count; /* a sample is an element */
    c->scalars.step = step;
    c->scalars.first_sample = first;
    c->node.attr.act = (ckpt_epilogue){.drop = 0.1f, .stream = stream};
    rig_add_out(c, CKPT_BOOL, 1, &count);
    rig_run_on(c, backend, 0, true);
}

static void test_masks_are_the_cpus(void **state) {
    (void)state;
    const int64_t counts[] = {1, 3, 5003, 1 << 20}, firsts[] = {0, 1, 2, 3, ((int64_t)1 << 34) - 5};
    int different = 0;
    for (size_t n = 0; n < sizeof counts / sizeof *counts; n++)
        for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++)
            for (uint32_t step = 0; step < 3; step++) {
                rig_case cpu, cuda, next;
                mask_on(&cpu, ckpt_backend_cpu(), step, 7, firsts[f], counts[n]);
                mask_on(&cuda, ckpt_backend_cuda(), step, 7, firsts[f], counts[n]);
                mask_on(&next, ckpt_backend_cuda(), step + 1, 7, firsts[f], counts[n]);
                assert_memory_equal(cuda.result[0], cpu.result[0], (size_t)counts[n]);
                different += memcmp(next.result[0], cuda.result[0], (size_t)counts[n]) != 0;
                rig_close(&cpu), rig_close(&cuda), rig_close(&next);
            }
    assert_true(different >= 30); /* negative control: another step has other masks */
}

/* All gradients of a model, one behind the other, of a batch that depends on the seed, dropout included. */
static float *gradients_of(const char *name, const ckpt_backend *backend, uint32_t seed, ckpt_precision precision, int64_t *count) {
    char path[512];
    ckpt_error err;
    ckpt_model model;
    const ckpt_model_options options = {.batch = 33, .loss_auto = true};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD, .accumulate = true};
    const ckpt_plan_options plan = {.strategy = CKPT_STRATEGY_SQRT};
    const ckpt_exec_options exec = {.backend = backend, .preserve_rng = true, .device = {.poison = true, .precision = precision}};
    snprintf(path, sizeof path, CKPT_SOURCE_DIR "/models/%s.onnx", name);
    MUST(ckpt_model_load(path, &options, &model, &err), &err);
    training.bf16 = precision == CKPT_PRECISION_BF16;
    training.bf16_kernels = backend->traits->bf16_kernels;
    ckpt_training_defaults(&training);
    ckpt_graph evaluation;
    MUST(ckpt_training_graphs_make(&model.graph, &training, &evaluation, &err), &err);
    step_runner runner = {.graph = &model.graph};
    MUST(ckpt_plan_make(&model.graph, &plan, backend->traits, NULL, &runner.plan, &err), &err);
    MUST(ckpt_exec_open(&exec, runner.graph, runner.plan, NULL, NULL, &runner.exec, &err), &err);
    runner_load_weights(&runner, &model);
    for (int i = 0; i <= model.graph.input_count; i++) {
        const int t = i < model.graph.input_count ? model.graph.input[i] : model.graph.target[0];
        const ckpt_tensor *tensor = &model.graph.tensor[t];
        double *values = calloc((size_t)tensor->count + 1, sizeof *values);
        for (int64_t k = 0; k < tensor->count; k++) {
            seed = seed * 1664525u + 1013904223u;
            values[k] = tensor->dtype == CKPT_I32 ? (double)((seed >> 16) % 10) : (double)(int32_t)seed / 2147483648.0;
        }
        runner_set_f64(&runner, t, values);
        free(values);
    }
    runner_step(&runner, 0, 0);
    int *ids = calloc((size_t)model.graph.tensor_count, sizeof *ids);
    const int parameters = ckpt_model_parameters(&model, ids);
    *count = 0;
    for (int i = 0; i < parameters; i++) *count += model.graph.tensor[ids[i]].count;
    float *all = calloc((size_t)*count + 1, sizeof *all), *next = all;
    for (int i = 0; i < parameters; next += model.graph.tensor[ids[i++]].count)
        runner_get_f32(&runner, gradsum_of(&model.graph, ids[i]), next);
    free(ids);
    runner_close(&runner);
    ckpt_graph_free(&evaluation);
    ckpt_model_free(&model);
    return all;
}

static double gradient_error(const char *name, const ckpt_backend *backend, uint32_t seed, ckpt_precision precision) {
    int64_t count, same;
    float *want = gradients_of(name, ckpt_backend_reference(), 1, CKPT_PRECISION_FP32, &count);
    float *got = gradients_of(name, backend, seed, precision, &same);
    double *as_double = calloc((size_t)count + 1, sizeof *as_double);
    assert_int_equal(count, same);
    for (int64_t i = 0; i < count; i++) as_double[i] = (double)want[i];
    const double error = relative_error(got, as_double, count);
    free(want), free(got), free(as_double);
    return error;
}

/* Widths are 64 at least, and an error grows from layer to layer. */
static void test_gradients_of_models(void **state) {
    (void)state;
    const char *const models[] = {"mlp_uniform64", "mlp_checkpointed", "mlp_hourglass", "mlp_residual", "mlp_prenorm_gelu"};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        const double most = bound(CKPT_PRECISION_FP32, 64);
        const double cpu = gradient_error(models[m], ckpt_backend_cpu(), 1, CKPT_PRECISION_FP32);
        const double cuda = gradient_error(models[m], ckpt_backend_cuda(), 1, CKPT_PRECISION_FP32);
        print_message("%s: CPU %.2g, CUDA %.2g\n", models[m], cpu, cuda);
        if (!(cpu <= most) || !(cuda <= most)) fail_msg("%s: errors %g and %g, at most %g", models[m], cpu, cuda, most);
        /* Negative control: other data, which no precision explains. */
        assert_true(gradient_error(models[m], ckpt_backend_cuda(), 2, CKPT_PRECISION_FP32) > 0.1);
    }
}

/* A network of few layers: in each one the rounding can turn a ReLU on or off, which is no rounding any more. */
static void check_gradients(ckpt_precision precision) {
    if (!takes(precision)) skip();
    const double error = gradient_error("mlp_hourglass", ckpt_backend_cuda(), 1, precision);
    const double other = gradient_error("mlp_hourglass", ckpt_backend_cuda(), 2, precision);
    print_message("error %.2g, of other data %.2g\n", error, other);
    assert_true(error <= bound(precision, 64));
    assert_true(other > 0.1); /* negative control */
}

static void test_gradients_in_tf32(void **state) { (void)state, check_gradients(CKPT_PRECISION_TF32); }
static void test_gradients_in_bf16(void **state) { (void)state, check_gradients(CKPT_PRECISION_BF16); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_in_fp32), cmocka_unit_test(test_products_in_tf32),
        cmocka_unit_test(test_products_of_ones), cmocka_unit_test(test_masks_are_the_cpus),
        cmocka_unit_test(test_gradients_of_models), cmocka_unit_test(test_gradients_in_tf32), cmocka_unit_test(test_gradients_in_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
