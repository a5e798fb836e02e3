/* LayerNormalization, Softmax, LogSoftmax and the losses: forward against double precision, gradients against
 * central differences of the double-precision forward. */
#include "cpu_rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct shape {
    int64_t rows, cols;
} shape;
static const shape shapes[] = {{1, 1}, {1, 5}, {3, 16}, {7, 33}, {300, 10}, {40, 1027}, {513, 257}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* Sum of dy * f(x) over all rows is what gradients are of. */
typedef struct problem {
    int64_t rows, cols;
    const double *x, *dy, *scale, *bias;
    const int32_t *class;
    const double *value;
    bool log;
    ckpt_loss kind;
} problem;

static double *doubles(const float *x, int64_t n) {
    double *d = malloc(sizeof *d * (size_t)(n + 1));
    assert_non_null(d);
    for (int64_t i = 0; i < n; i++) d[i] = (double)x[i];
    return d;
}

static void norm_row(const double *x, const double *scale, const double *bias, int64_t n, double *y) {
    double mean = 0, variance = 0;
    for (int64_t j = 0; j < n; j++) mean += x[j] / (double)n;
    for (int64_t j = 0; j < n; j++) variance += (x[j] - mean) * (x[j] - mean) / (double)n;
    for (int64_t j = 0; j < n; j++)
        y[j] = (x[j] - mean) / sqrt(variance + 1e-5) * (scale ? scale[j] : 1) + (bias ? bias[j] : 0);
}

static void test_layernorm(void **state) {
    (void)state;
    for (int s = 0; s < SHAPES; s++)
        for (int parts = 0; parts < 3; parts++) {
            rig r;
            rig_open(&r);
            const int64_t dims[2] = {shapes[s].rows, shapes[s].cols}, count = dims[0] * dims[1];
            const ckpt_attr attr = {.norm = {dims[0], dims[1], 1e-5f}};
            const int in[3] = {rig_random(&r, 2, dims, 3), rig_random(&r, 1, &dims[1], 1),
                               rig_random(&r, 1, &dims[1], 1)};
            const int out[3] = {rig_output(&r, CKPT_F32, 2, dims), rig_output(&r, CKPT_F32, 1, dims),
                                rig_output(&r, CKPT_F32, 1, dims)};
            rig_run(&r, CKPT_OP_LAYERNORM, &attr, 1 + parts, in, parts == 2 ? 3 : 1, out);
            double *x = doubles(rig_floats(&r, in[0]), count), *scale = doubles(rig_floats(&r, in[1]), dims[1]),
                   *bias = doubles(rig_floats(&r, in[2]), dims[1]), *y = calloc((size_t)count, sizeof *y);
            for (int64_t i = 0; i < dims[0]; i++)
                norm_row(x + i * dims[1], parts > 0 ? scale : NULL, parts > 1 ? bias : NULL, dims[1], y + i * dims[1]);
            rig_close_to(&r, out[0], y, 2e-6);
            for (int64_t i = 0; parts == 2 && i < dims[0]; i++) {
                double mean = 0, variance = 0;
                for (int64_t j = 0; j < dims[1]; j++) mean += x[i * dims[1] + j] / (double)dims[1];
                for (int64_t j = 0; j < dims[1]; j++) variance += pow(x[i * dims[1] + j] - mean, 2) / (double)dims[1];
                assert_true(fabs((double)rig_floats(&r, out[1])[i] - mean) < 1e-6);
                assert_true(fabs((double)rig_floats(&r, out[2])[i] * sqrt(variance + 1e-5) - 1) < 1e-6);
            }
            free(x), free(scale), free(bias), free(y);
            rig_close(&r);
        }
}

static double norm_sum(const double *x, const void *context) {
    const problem *p = context;
    double y[64], sum = 0;
    for (int64_t i = 0; i < p->rows; i++) {
        norm_row(x + i * p->cols, p->scale, NULL, p->cols, y);
        for (int64_t j = 0; j < p->cols; j++) sum += p->dy[i * p->cols + j] * y[j];
    }
    return sum;
}

static double norm_sum_of_scale(const double *scale, const void *context) {
    problem p = *(const problem *)context;
    p.scale = scale;
    return norm_sum(p.x, &p);
}

static void test_layernorm_gradients(void **state) {
    (void)state;
    for (int s = 0; s < SHAPES; s++)
        for (int scaled = 0; scaled < 2; scaled++) {
            rig r;
            rig_open(&r);
            const int64_t dims[2] = {shapes[s].rows, shapes[s].cols}, count = dims[0] * dims[1], cols = dims[1];
            const ckpt_attr attr = {.norm = {dims[0], cols, 1e-5f}};
            const int in[3] = {rig_random(&r, 2, dims, 1), rig_random(&r, 2, dims, 2), rig_random(&r, 1, &cols, 1)};
            const int dx = rig_output(&r, CKPT_F32, 2, dims);
            const int dp[2] = {rig_output(&r, CKPT_F32, 1, &cols), rig_output(&r, CKPT_F32, 1, &cols)};
            rig_run(&r, CKPT_OP_LAYERNORM_DX, &attr, 2 + scaled, in, 1, &dx);
            rig_run(&r, CKPT_OP_LAYERNORM_DP, &attr, 2, in, 1 + scaled, dp);
            double *dy = doubles(rig_floats(&r, in[0]), count), *x = doubles(rig_floats(&r, in[1]), count),
                   *scale = doubles(rig_floats(&r, in[2]), cols), *want = calloc((size_t)count, sizeof *want),
                   *h = calloc((size_t)cols, sizeof *h), *ones = calloc((size_t)cols, sizeof *ones);
            double *db = calloc((size_t)cols, sizeof *db), *ds = calloc((size_t)cols, sizeof *ds);
            for (int64_t j = 0; j < cols; j++) ones[j] = 1;
            problem p = {.rows = dims[0], .cols = cols, .x = x, .dy = dy, .scale = scaled ? scale : NULL};
            if (count <= 1000 && cols > 1) {
                rig_difference(norm_sum, x, (int)count, &p, want);
                rig_close_to(&r, dx, want, 1e-5);
                rig_difference(norm_sum_of_scale, ones, (int)cols, &p, ds);
                rig_close_to(&r, dp[0], ds, 1e-5);
            }
            memset(ds, 0, sizeof *ds * (size_t)cols);
            for (int64_t i = 0; i < dims[0]; i++) {
                norm_row(x + i * cols, NULL, NULL, cols, h);
                for (int64_t j = 0; j < cols; j++) {
                    ds[j] += dy[i * cols + j] * h[j];
                    db[j] += dy[i * cols + j];
                }
            }
            if (cols > 1) rig_close_to(&r, dp[0], ds, 1e-5);
            if (scaled) rig_close_to(&r, dp[1], db, 1e-5);
            free(dy), free(x), free(scale), free(want), free(h), free(ones), free(db), free(ds);
            rig_close(&r);
        }
}

static void softmax_row(const double *x, int64_t n, int64_t step, bool log, double *y) {
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++) max = fmax(max, x[j * step]);
    for (int64_t j = 0; j < n; j++) sum += exp(x[j * step] - max);
    for (int64_t j = 0; j < n; j++)
        y[j * step] = log ? x[j * step] - max - log1p(sum - 1) : exp(x[j * step] - max) / sum;
}

static void test_softmax(void **state) {
    (void)state;
    const int64_t axes[][3] = {{1, 1, 1}, {5, 7, 1}, {300, 10, 1}, {3, 1029, 1}, {2, 5, 3}, {4, 9, 70}, {2, 300, 129}};
    for (size_t s = 0; s < sizeof axes / sizeof axes[0]; s++)
        for (int log = 0; log < 2; log++) {
            rig r;
            rig_open(&r);
            const int64_t *d = axes[s], count = d[0] * d[1] * d[2];
            const ckpt_attr attr = {.axis = {d[0], d[1], d[2]}};
            int x = rig_random(&r, 3, d, 3), y = rig_output(&r, CKPT_F32, 3, d);
            rig_run(&r, log ? CKPT_OP_LOGSOFTMAX : CKPT_OP_SOFTMAX, &attr, 1, &x, 1, &y);
            double *dx = doubles(rig_floats(&r, x), count), *want = calloc((size_t)count, sizeof *want);
            for (int64_t o = 0; o < d[0]; o++)
                for (int64_t i = 0; i < d[2]; i++)
                    softmax_row(dx + o * d[1] * d[2] + i, d[1], d[2], log, want + o * d[1] * d[2] + i);
            rig_close_to(&r, y, want, 2e-6);
            /* the gradient, from this y */
            memcpy(r.buffer[y].initial, r.buffer[y].at, r.buffer[y].bytes);
            const int in[2] = {rig_random(&r, 3, d, 1), y}, g = rig_output(&r, CKPT_F32, 3, d);
            rig_run(&r, log ? CKPT_OP_LOGSOFTMAX_GRAD : CKPT_OP_SOFTMAX_GRAD, &attr, 2, in, 1, &g);
            double *gradient = calloc((size_t)count, sizeof *gradient);
            for (int64_t o = 0; o < d[0]; o++)
                for (int64_t i = 0; i < d[2]; i++) {
                    const int64_t at = o * d[1] * d[2] + i;
                    double dot = 0;
                    for (int64_t a = 0; a < d[1]; a++) {
                        const int64_t e = at + a * d[2];
                        dot += (double)rig_floats(&r, in[0])[e] * (log ? 1 : want[e]);
                    }
                    for (int64_t a = 0; a < d[1]; a++) {
                        const int64_t e = at + a * d[2];
                        const double dy = (double)rig_floats(&r, in[0])[e];
                        gradient[e] = log ? dy - exp(want[e]) * dot : want[e] * (dy - dot);
                    }
                }
            rig_close_to(&r, g, gradient, 1e-5);
            free(dx), free(want), free(gradient);
            rig_close(&r);
        }
}

/* Infinite logits, huge ones, and a whole row of one value. */
static void test_softmax_extremes(void **state) {
    (void)state;
    rig r;
    rig_open(&r);
    const int64_t dims[3] = {4, 3, 1};
    const float values[12] = {1e30f, 1e30f, -1e30f, -INFINITY, 0, -INFINITY, -1e4f, -1e4f, -1e4f, NAN, 1, 2};
    const ckpt_attr attr = {.axis = {4, 3, 1}};
    int x = rig_tensor(&r, CKPT_F32, 3, dims, values), y = rig_output(&r, CKPT_F32, 3, dims);
    rig_run(&r, CKPT_OP_SOFTMAX, &attr, 1, &x, 1, &y);
    const float *p = rig_floats(&r, y);
    assert_true(p[0] == 0.5f && p[1] == 0.5f && p[2] == 0 && p[3] == 0 && p[4] == 1 && p[5] == 0);
    assert_true(fabsf(p[6] - 1.0f / 3) < 1e-7f && isnan(p[9]) && isnan(p[10]) && isnan(p[11]));
    rig_close(&r);
}

static double loss_of(const double *x, const void *context) {
    const problem *p = context;
    double sum = 0, y[2048];
    for (int64_t i = 0; i < p->rows; i++) {
        const double *row = x + i * p->cols;
        if (p->kind == CKPT_LOSS_CE || p->kind == CKPT_LOSS_NLL) {
            if (p->class[i] < 0) continue;
            softmax_row(row, p->cols, 1, true, y);
            sum -= p->kind == CKPT_LOSS_CE ? y[p->class[i]] : row[p->class[i]];
            continue;
        }
        for (int64_t j = 0; j < p->cols; j++) {
            const double t = p->value[i * p->cols + j];
            sum += p->kind == CKPT_LOSS_MSE ? (row[j] - t) * (row[j] - t)
                                            : fmax(row[j], 0) - row[j] * t + log1p(exp(-fabs(row[j])));
        }
    }
    return sum;
}

static int64_t correct_of(const double *x, const problem *p) {
    int64_t hits = 0;
    for (int64_t i = 0; i < p->rows; i++) {
        const double *row = x + i * p->cols;
        if (p->kind == CKPT_LOSS_BCE)
            for (int64_t j = 0; j < p->cols; j++) hits += (row[j] > 0) == (p->value[i * p->cols + j] > 0.5);
        if (p->kind != CKPT_LOSS_CE && p->kind != CKPT_LOSS_NLL) continue;
        int64_t best = 0;
        for (int64_t j = 1; j < p->cols; j++)
            if (row[j] > row[best]) best = j;
        hits += p->class[i] == best;
    }
    return hits;
}

/* 3 rows a sample; the last sample is padding; the batch has further micro-batches. */
static void test_losses(void **state) {
    (void)state;
    const ckpt_loss kinds[] = {CKPT_LOSS_CE, CKPT_LOSS_NLL, CKPT_LOSS_BCE, CKPT_LOSS_MSE};
    for (int kind = 0; kind < 4; kind++)
        for (int s = 0; s < SHAPES; s++) {
            rig r;
            rig_open(&r);
            const bool classes = kind < 2;
            const int64_t samples = shapes[s].rows, cols = shapes[s].cols, rows = 3 * samples;
            const int64_t dims[2] = {rows, cols}, two = 2, valid = samples - 1;
            const double before[2] = {0.5, 7};
            r.scalars.valid_samples = valid;
            r.graph.batch = samples;
            const double denominator = (double)((2 * samples + 1) * 3 * (classes ? 1 : cols));
            r.scalars.denominator[0] = denominator;
            const ckpt_attr attr = {.loss = {.kind = kinds[kind], .outer = rows, .classes = classes ? cols : 1,
                                             .inner = classes ? 1 : cols, .scale = 1}};
            int32_t *class = calloc((size_t)rows, sizeof *class);
            for (int64_t i = 0; i < rows; i++)
                class[i] = i % 7 == 6 || i >= 3 * valid ? -1 : (int32_t)(rig_uniform(&r) * (double)cols);
            int in[2];
            in[0] = rig_random(&r, 2, dims, 6);
            in[1] = classes ? rig_tensor(&r, CKPT_I32, 1, &rows, class) : rig_random(&r, 2, dims, 1);
            for (int64_t i = 0; !classes && i < rows * cols; i++) {
                float *t = (float *)(void *)r.buffer[in[1]].initial;
                t[i] = t[i] > 0 ? 1.0f : 0.25f;
            }
            memcpy(r.buffer[in[1]].at, r.buffer[in[1]].initial, r.buffer[in[1]].bytes);
            int result = rig_tensor(&r, CKPT_F64, 1, &two, before), g = rig_output(&r, CKPT_F32, 2, dims);
            rig_run(&r, CKPT_OP_LOSS, &attr, 2, in, 1, &result);
            rig_run(&r, CKPT_OP_LOSS_GRAD, &attr, 2, in, 1, &g);
            double *x = doubles(rig_floats(&r, in[0]), rows * cols),
                   *value = classes ? NULL : doubles(rig_floats(&r, in[1]), rows * cols);
            problem p = {.rows = 3 * valid, .cols = cols, .kind = kinds[kind], .class = class, .value = value};
            const double *got = rig_data(&r, result), want = loss_of(x, &p) / denominator;
            assert_true(fabs(got[0] - 0.5 - want) <= 1e-6 * (fabs(want) + 1e-3));
            assert_true(got[1] == 7 + (double)correct_of(x, &p));
            for (int64_t i = 3 * valid * cols; i < rows * cols; i++) assert_true(rig_floats(&r, g)[i] == 0);
            if (rows * cols < 1000) {
                double *gradient = calloc((size_t)(rows * cols), sizeof *gradient);
                rig_difference(loss_of, x, (int)(rows * cols), &p, gradient);
                for (int64_t i = 0; i < rows * cols; i++) gradient[i] /= denominator;
                rig_close_to(&r, g, gradient, cols == 1 && classes ? 1 : 1e-5);
                free(gradient);
            }
            free(class), free(x), free(value);
            rig_close(&r);
        }
}

static void test_loss_of_wrong_class_is_nan(void **state) {
    (void)state;
    rig r;
    rig_open(&r);
    const int64_t dims[2] = {2, 3}, two = 2;
    const int32_t class[2] = {1, 3};
    const double zero[2] = {0, 0};
    r.scalars.valid_samples = r.graph.batch = 2;
    r.scalars.denominator[0] = 2;
    const ckpt_attr attr = {.loss = {.kind = CKPT_LOSS_CE, .outer = 2, .classes = 3, .inner = 1, .scale = 1}};
    int in[2] = {rig_random(&r, 2, dims, 1), rig_tensor(&r, CKPT_I32, 1, &two, class)};
    int result = rig_tensor(&r, CKPT_F64, 1, &two, zero), g = rig_output(&r, CKPT_F32, 2, dims);
    rig_run(&r, CKPT_OP_LOSS, &attr, 2, in, 1, &result);
    rig_run(&r, CKPT_OP_LOSS_GRAD, &attr, 2, in, 1, &g);
    assert_true(isnan(((double *)rig_data(&r, result))[0]));
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layernorm),
        cmocka_unit_test(test_layernorm_gradients),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_softmax_extremes),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_loss_of_wrong_class_is_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
