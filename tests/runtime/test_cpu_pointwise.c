/* ACT, ACT_GRAD, BINARY and the updates, against double precision. */
#include "cpu_rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "runtime/act_math.h"

static const int64_t sizes[] = {1, 2, 7, 16, 33, 1023, 1024, 1025, 70001};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/* The values themselves are act_math's (test_cpu_math.c); here every element must be reached once, whatever
 * block, lane and thread it falls to. Vector and scalar code agree to the bit. */
static void test_act(void **state) {
    (void)state;
    for (int s = 0; s < SIZES; s++)
        for (int a = 0; a < CKPT_ACT_COUNT; a++) {
            rig r;
            rig_open(&r);
            const ckpt_attr attr = {.act = {.act = (ckpt_act)a, .alpha = 0.2f, .beta = 0.1f}};
            int x = rig_random(&r, 1, &sizes[s], 20), y = rig_output(&r, CKPT_F32, 1, &sizes[s]);
            rig_run(&r, CKPT_OP_ACT, &attr, 1, &x, 1, &y);
            for (int64_t i = 0; i < sizes[s]; i++) {
                const float want = ckpt_act_value((ckpt_act)a, rig_floats(&r, x)[i], 0.2f, 0.1f);
                assert_memory_equal(&want, &rig_floats(&r, y)[i], 4);
            }
            rig_close(&r);
        }
}

static void test_act_grad(void **state) {
    (void)state;
    for (int s = 0; s < SIZES; s++)
        for (int a = 0; a < CKPT_ACT_COUNT; a++) {
            rig r;
            rig_open(&r);
            const ckpt_attr attr = {.act = {.act = (ckpt_act)a, .alpha = 0.2f, .beta = 0.1f}};
            const bool constant = ckpt_act_slope_is_constant((ckpt_act)a);
            int in[2] = {rig_random(&r, 1, &sizes[s], 2), rig_random(&r, 1, &sizes[s], 4)};
            int dx = rig_output(&r, CKPT_F32, 1, &sizes[s]);
            rig_run(&r, CKPT_OP_ACT_GRAD, &attr, constant ? 1 : 2, in, 1, &dx);
            for (int64_t i = 0; i < sizes[s]; i++) {
                const float slope = ckpt_act_slope((ckpt_act)a, rig_floats(&r, in[1])[i], 0.2f, 0.1f);
                const float want = rig_floats(&r, in[0])[i] * slope;
                assert_memory_equal(&want, &rig_floats(&r, dx)[i], 4);
            }
            rig_close(&r);
        }
}

static double apply(ckpt_binary kind, double a, double b) {
    return kind == CKPT_BINARY_ADD ? a + b : kind == CKPT_BINARY_SUB ? a - b : kind == CKPT_BINARY_MUL ? a * b : a / b;
}

static void fill(rig *r, int t, ckpt_dtype type, bool divisor) {
    void *p = r->buffer[t].initial;
    for (int64_t i = 0; i < r->graph.tensor[t].count; i++) {
        const double v = rig_uniform(r) * 200 - 100;
        if (type == CKPT_F32) ((float *)p)[i] = (float)v;
        if (type == CKPT_F64) ((double *)p)[i] = v;
        if (type == CKPT_I32) ((int32_t *)p)[i] = (int32_t)v == 0 && divisor ? 3 : (int32_t)v;
        if (type == CKPT_I64) ((int64_t *)p)[i] = (int64_t)v == 0 && divisor ? 3 : (int64_t)v;
    }
    memcpy(r->buffer[t].at, p, r->buffer[t].bytes);
}

static double value_of(const void *p, ckpt_dtype type, int64_t i) {
    return type == CKPT_F32   ? (double)((const float *)p)[i]
           : type == CKPT_F64 ? ((const double *)p)[i]
           : type == CKPT_I32 ? (double)((const int32_t *)p)[i]
                              : (double)((const int64_t *)p)[i];
}

/* Every way to broadcast up to four axes: bit i of a mask says that the operand has dim i, else 1. */
static void test_binary(void **state) {
    (void)state;
    const ckpt_dtype types[] = {CKPT_F32, CKPT_F64, CKPT_I32, CKPT_I64};
    const int64_t shapes[][4] = {{3, 4, 5, 7}, {2, 1, 9, 33}, {1, 1, 1, 1}, {5, 40, 3, 90}};
    for (int t = 0; t < 4; t++)
        for (int kind = 0; kind < 4; kind++)
            for (int s = 0; s < 4; s++)
                for (int mask = 0; mask < 256; mask += s == 3 ? 37 : 5) {
                    rig r;
                    rig_open(&r);
                    ckpt_attr attr = {.binary = {.kind = (ckpt_binary)kind, .rank = 4}};
                    int64_t da[4], db[4], dc[4], ra = 1, rb = 1;
                    for (int i = 3; i >= 0; i--) {
                        da[i] = mask >> i & 1 ? shapes[s][i] : 1;
                        db[i] = mask >> (4 + i) & 1 ? shapes[s][i] : 1;
                        dc[i] = da[i] > db[i] ? da[i] : db[i];
                        attr.binary.dim[i] = dc[i];
                        attr.binary.stride_a[i] = da[i] == 1 ? 0 : ra;
                        attr.binary.stride_b[i] = db[i] == 1 ? 0 : rb;
                        ra *= da[i];
                        rb *= db[i];
                    }
                    int in[2] = {rig_tensor(&r, types[t], 4, da, NULL), rig_tensor(&r, types[t], 4, db, NULL)};
                    int c = rig_output(&r, types[t], 4, dc);
                    fill(&r, in[0], types[t], false);
                    fill(&r, in[1], types[t], true);
                    rig_run(&r, CKPT_OP_BINARY, &attr, 2, in, 1, &c);
                    for (int64_t e = 0; e < r.graph.tensor[c].count; e++) {
                        int64_t rest = e, a = 0, b = 0;
                        for (int i = 3; i >= 0; i--) {
                            a += rest % dc[i] * attr.binary.stride_a[i];
                            b += rest % dc[i] * attr.binary.stride_b[i];
                            rest /= dc[i];
                        }
                        double want = apply((ckpt_binary)kind, value_of(rig_data(&r, in[0]), types[t], a),
                                            value_of(rig_data(&r, in[1]), types[t], b));
                        if (types[t] == CKPT_F32) want = (double)(float)want; /* one rounding: exact */
                        if (types[t] == CKPT_I32 || types[t] == CKPT_I64) want = trunc(want);
                        assert_true(value_of(rig_data(&r, c), types[t], e) == want);
                    }
                    rig_close(&r);
                }
}

static void test_integer_edges(void **state) {
    (void)state;
    const int64_t n = 4;
    const int32_t a[4] = {INT32_MIN, INT32_MAX, 5, INT32_MIN}, b[4] = {-1, 2, 0, INT32_MIN};
    const int32_t want[4][4] = {{INT32_MAX, INT32_MIN + 1, 5, 0},
                                {INT32_MIN + 1, INT32_MAX - 2, 5, 0},
                                {INT32_MIN, -2, 0, 0},
                                {INT32_MIN, INT32_MAX / 2, 0, 1}};
    for (int kind = 0; kind < 4; kind++) {
        rig r;
        rig_open(&r);
        const ckpt_attr attr = {
            .binary = {.kind = (ckpt_binary)kind, .rank = 1, .dim = {4}, .stride_a = {1}, .stride_b = {1}}};
        int in[2] = {rig_tensor(&r, CKPT_I32, 1, &n, a), rig_tensor(&r, CKPT_I32, 1, &n, b)};
        int c = rig_output(&r, CKPT_I32, 1, &n);
        rig_run(&r, CKPT_OP_BINARY, &attr, 2, in, 1, &c);
        assert_memory_equal(rig_data(&r, c), want[kind], sizeof want[kind]);
        rig_close(&r);
    }
    /* scalars of rank 0, and halves, which are refused */
    rig r;
    rig_open(&r);
    const ckpt_attr attr = {.binary = {.kind = CKPT_BINARY_ADD}};
    const float one = 1, two = 2;
    int in[2] = {rig_tensor(&r, CKPT_F32, 0, &n, &one), rig_tensor(&r, CKPT_F32, 0, &n, &two)};
    int c = rig_output(&r, CKPT_F32, 0, &n);
    rig_run(&r, CKPT_OP_BINARY, &attr, 2, in, 1, &c);
    assert_true(rig_floats(&r, c)[0] == 3);
    rig_close(&r);
}

/* PyTorch's definitions in double, over several steps whose state stays in place. */
static void test_updates(void **state) {
    (void)state;
    const ckpt_op ops[] = {CKPT_OP_SGD, CKPT_OP_MOMENTUM, CKPT_OP_ADAM, CKPT_OP_ADAMW, CKPT_OP_NESTEROV, CKPT_OP_ADAGRAD};
    for (int o = 0; o < 6; o++)
        for (int s = 0; s < SIZES; s++) {
            rig r;
            rig_open(&r);
            const int64_t n = sizes[s];
            const ckpt_attr attr = {.update = {0.9f, 0.999f, 1e-8f, 0.05f, 0.8f}};
            const int states = o == 0 ? 0 : o == 1 || o > 3 ? 1 : 2;
            int t[4] = {rig_random(&r, 1, &n, 1), rig_random(&r, 1, &n, 1), rig_tensor(&r, CKPT_F32, 1, &n, NULL),
                        rig_tensor(&r, CKPT_F32, 1, &n, NULL)};
            const int out[3] = {t[0], t[2], t[3]};
            double *w = calloc((size_t)n * 3, sizeof *w), *m = w + n, *v = m + n;
            for (int64_t i = 0; i < n; i++) w[i] = (double)rig_floats(&r, t[0])[i];
            for (int step = 0; step < 3; step++) {
                r.scalars.step = (uint32_t)step;
                rig_run(&r, ops[o], &attr, 2 + states, t, 1 + states, out);
                for (int i = 0; i < 1 + states; i++)
                    memcpy(r.buffer[out[i]].initial, r.buffer[out[i]].at, r.buffer[out[i]].bytes);
                const double lr = 0.01, decay = 0.05, c1 = 1 - pow(0.9, step + 1), c2 = 1 - pow(0.999, step + 1);
                for (int64_t i = 0; i < n; i++) {
                    double g = (double)rig_floats(&r, t[1])[i];
                    if (o != 3) g += decay * w[i];
                    if (o == 0) w[i] -= lr * g;
                    if (o == 1) w[i] -= lr * (m[i] = 0.8 * m[i] + g);
                    if (o == 3) w[i] *= 1 - lr * decay;
                    if (o == 4) w[i] -= lr * (g + 0.8 * (m[i] = 0.8 * m[i] + g));
                    if (o == 5) w[i] -= lr * g / (sqrt(m[i] += g * g) + 1e-8);
                    if (o < 2 || o > 3) continue;
                    m[i] = 0.9 * m[i] + 0.1 * g;
                    v[i] = 0.999 * v[i] + 0.001 * g * g;
                    w[i] -= lr / c1 * m[i] / (sqrt(v[i]) / sqrt(c2) + 1e-8);
                }
                rig_close_to(&r, t[0], w, 1e-6);
            }
            free(w);
            rig_close(&r);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_act),           cmocka_unit_test(test_act_grad), cmocka_unit_test(test_binary),
        cmocka_unit_test(test_integer_edges), cmocka_unit_test(test_updates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
