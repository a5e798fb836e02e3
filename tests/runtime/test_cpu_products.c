/* LINEAR and its gradients, MATMUL: against double precision over transposes, scalings, biases, sums and
 * broadcast batches. Sums inside oneDNN may depend on its number of threads; ours after it may not. */
#include "cpu_rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/act_math.h"

typedef struct shape {
    int64_t rows, in, out;
} shape;
static const shape shapes[] = {{1, 1, 1}, {7, 5, 3}, {64, 64, 10}, {33, 129, 65}, {300, 40, 200}, {1, 300, 70}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* want[m][n] = alpha sum of a(i, l) b(l, j); the strides say how a and b lie. */
static double *product(const float *a, int64_t ai, int64_t al, const float *b, int64_t bl, int64_t bj, int64_t m,
                       int64_t n, int64_t k, double alpha) {
    double *c = calloc((size_t)(m * n + 1), sizeof *c);
    assert_non_null(c);
    for (int64_t i = 0; i < m; i++)
        for (int64_t l = 0; l < k; l++)
            for (int64_t j = 0; j < n; j++)
                c[i * n + j] += alpha * (double)a[i * ai + l * al] * (double)b[l * bl + j * bj];
    return c;
}

static void test_linear(void **state) {
    (void)state;
    const ckpt_act acts[] = {CKPT_ACT_IDENTITY, CKPT_ACT_RELU, CKPT_ACT_TANH, CKPT_ACT_SOFTPLUS};
    for (int s = 0; s < SHAPES; s++)
        for (int c = 0; c < 32; c++) {
            const shape h = shapes[s];
            const bool trans = c & 1, biased = c & 2, drop = c & 4;
            const ckpt_act act = acts[c >> 3];
            rig r;
            rig_open(&r);
            r.free_order = true;
            r.graph.batch = h.rows;
            r.scalars.first_sample = 2;
            const float alpha = c & 8 ? 0.75f : 1, beta = c & 16 ? -0.5f : 1;
            const ckpt_attr attr = {.linear = {h.rows, h.in, h.out, trans, alpha, beta,
                                               {.act = act, .drop = drop ? 0.25f : 0, .stream = 3}}};
            const int64_t xd[2] = {h.rows, h.in}, wd[2] = {trans ? h.out : h.in, trans ? h.in : h.out},
                          yd[2] = {h.rows, h.out};
            const int in[3] = {rig_random(&r, 2, xd, 1), rig_random(&r, 2, wd, 1), rig_random(&r, 1, &h.out, 1)};
            const int y = rig_output(&r, CKPT_F32, 2, yd);
            rig_run(&r, CKPT_OP_LINEAR, &attr, biased ? 3 : 2, in, 1, &y);
            double *want = product(rig_floats(&r, in[0]), h.in, 1, rig_floats(&r, in[1]), trans ? 1 : h.out,
                                   trans ? h.in : 1, h.rows, h.out, h.in, (double)alpha);
            for (int64_t i = 0; i < h.rows * h.out; i++) {
                if (biased) want[i] += (double)beta * (double)rig_floats(&r, in[2])[i % h.out];
                want[i] = act == CKPT_ACT_RELU       ? fmax(want[i], 0)
                          : act == CKPT_ACT_TANH     ? tanh(want[i])
                          : act == CKPT_ACT_SOFTPLUS ? log1p(exp(want[i]))
                                                     : want[i];
                uint32_t word[4];
                const uint64_t e = (uint64_t)(i + 2 * h.out);
                ckpt_philox(r.scalars.seed, 3, 0, e / 4, word);
                if (drop) want[i] = word[e % 4] >= 0x40000000u ? want[i] / 0.75 : 0;
            }
            rig_close_to(&r, y, want, 1e-5);
            free(want);
            rig_close(&r);
        }
}

static void test_linear_gradients(void **state) {
    (void)state;
    for (int s = 0; s < SHAPES; s++)
        for (int c = 0; c < 8; c++) {
            const shape h = shapes[s];
            const bool trans = c & 1, sum = c & 2;
            rig r;
            rig_open(&r);
            r.free_order = true;
            const float alpha = c & 4 ? -1.5f : 1;
            const ckpt_attr attr = {.linear = {h.rows, h.in, h.out, trans, alpha, 1, {0}}};
            const int64_t xd[2] = {h.rows, h.in}, wd[2] = {trans ? h.out : h.in, trans ? h.in : h.out},
                          yd[2] = {h.rows, h.out};
            const int dz = rig_random(&r, 2, yd, 1), w = rig_random(&r, 2, wd, 1), x = rig_random(&r, 2, xd, 1);
            const int before = rig_random(&r, 2, wd, 1);
            const int dx = rig_output(&r, CKPT_F32, 2, xd), dw = rig_output(&r, CKPT_F32, 2, wd);
            rig_run(&r, CKPT_OP_LINEAR_DX, &attr, 2, (int[]){dz, w}, 1, &dx);
            rig_run(&r, CKPT_OP_LINEAR_DW, &attr, sum ? 3 : 2, (int[]){dz, x, before}, 1, &dw);
            double *want = product(rig_floats(&r, dz), h.out, 1, rig_floats(&r, w), trans ? h.in : 1,
                                   trans ? 1 : h.out, h.rows, h.in, h.out, (double)alpha);
            rig_close_to(&r, dx, want, 2e-6);
            free(want);
            want = trans ? product(rig_floats(&r, dz), 1, h.out, rig_floats(&r, x), h.in, 1, h.out, h.in, h.rows,
                                   (double)alpha)
                         : product(rig_floats(&r, x), 1, h.in, rig_floats(&r, dz), h.out, 1, h.in, h.out, h.rows,
                                   (double)alpha);
            for (int64_t i = 0; sum && i < h.in * h.out; i++) want[i] += (double)rig_floats(&r, before)[i];
            rig_close_to(&r, dw, want, 2e-6);
            free(want);
            rig_close(&r);
        }
}

/* Two batch axes, each operand with each of them or without. */
static void test_matmul(void **state) {
    (void)state;
    const int64_t mnk[][3] = {{1, 1, 1}, {5, 7, 3}, {33, 20, 17}};
    const int64_t batch[2] = {3, 4};
    for (int s = 0; s < 3; s++)
        for (int c = 0; c < 64; c++) {
            rig r;
            rig_open(&r);
            r.free_order = true;
            const int64_t m = mnk[s][0], n = mnk[s][1], k = mnk[s][2];
            ckpt_attr attr = {.matmul = {.m = m, .n = n, .k = k, .trans_a = c & 1, .trans_b = c & 2,
                                         .alpha = s == 1 ? 0.5f : 1, .batch_rank = 2}};
            int64_t da[4], db[4], dc[4] = {3, 4, m, n}, ra = 1, rb = 1;
            for (int i = 1; i >= 0; i--) {
                const bool has_a = c >> (2 + i) & 1, has_b = c >> (4 + i) & 1;
                da[i] = has_a ? batch[i] : 1;
                db[i] = has_b ? batch[i] : 1;
                dc[i] = has_a || has_b ? batch[i] : 1;
                attr.matmul.batch_dim[i] = dc[i];
                attr.matmul.stride_a[i] = has_a ? ra : 0;
                attr.matmul.stride_b[i] = has_b ? rb : 0;
                ra *= da[i];
                rb *= db[i];
            }
            da[2] = c & 1 ? k : m, da[3] = c & 1 ? m : k;
            db[2] = c & 2 ? n : k, db[3] = c & 2 ? k : n;
            const int in[2] = {rig_random(&r, 4, da, 1), rig_random(&r, 4, db, 1)};
            const int out = rig_output(&r, CKPT_F32, 4, dc);
            rig_run(&r, CKPT_OP_MATMUL, &attr, 2, in, 1, &out);
            double *want = calloc((size_t)(dc[0] * dc[1] * m * n), sizeof *want);
            for (int64_t i = 0; i < dc[0]; i++)
                for (int64_t j = 0; j < dc[1]; j++) {
                    const float *a = rig_floats(&r, in[0]) +
                                     (i * attr.matmul.stride_a[0] + j * attr.matmul.stride_a[1]) * m * k;
                    const float *b = rig_floats(&r, in[1]) +
                                     (i * attr.matmul.stride_b[0] + j * attr.matmul.stride_b[1]) * n * k;
                    double *one = product(a, c & 1 ? 1 : k, c & 1 ? m : 1, b, c & 2 ? 1 : n, c & 2 ? k : 1, m, n, k,
                                          (double)attr.matmul.alpha);
                    memcpy(want + (i * dc[1] + j) * m * n, one, sizeof *one * (size_t)(m * n));
                    free(one);
                }
            rig_close_to(&r, out, want, 2e-6);
            free(want);
            rig_close(&r);
        }
}

/* No rows, or sums over nothing: outputs are written all the same. */
static void test_empty(void **state) {
    (void)state;
    rig r;
    rig_open(&r);
    const int64_t none[2] = {0, 4}, w[2] = {4, 3}, y[2] = {0, 3};
    const ckpt_attr attr = {.linear = {0, 4, 3, false, 1, 1, {.act = CKPT_ACT_RELU, .drop = 0.5f}}};
    const int in[3] = {rig_random(&r, 2, y, 1), rig_random(&r, 2, none, 1), rig_random(&r, 2, w, 1)};
    const int out = rig_output(&r, CKPT_F32, 2, y), dw = rig_output(&r, CKPT_F32, 2, w);
    rig_run(&r, CKPT_OP_LINEAR, &attr, 2, (int[]){in[1], in[2]}, 1, &out);
    rig_run(&r, CKPT_OP_LINEAR_DW, &attr, 2, in, 1, &dw);
    for (int i = 0; i < 12; i++) assert_true(rig_floats(&r, dw)[i] == 0);
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_linear_gradients),
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
