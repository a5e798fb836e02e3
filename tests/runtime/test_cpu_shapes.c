/* REDUCE_SUM, EXPAND, TRANSPOSE, CAST and ZERO. */
#include "cpu_rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/convert_math.h"

typedef struct geometry {
    int rank;
    int64_t dim[5];
} geometry;

/* The kept index of element e, in row-major order of the kept dims. */
static int64_t kept_index(const geometry *g, uint32_t keep, int64_t e) {
    int64_t at = 0, size = 1;
    for (int i = g->rank - 1; i >= 0; i--) {
        if (keep >> i & 1) {
            at += e % g->dim[i] * size;
            size *= g->dim[i];
        }
        e /= g->dim[i];
    }
    return at;
}

static void test_reduce_and_expand(void **state) {
    (void)state;
    const geometry shapes[] = {{1, {1}},         {1, {100000}},       {2, {512, 300}}, {2, {7, 1}},
                               {3, {4, 70, 260}}, {4, {3, 5, 7, 11}}, {5, {2, 3, 1, 5, 40}}, {2, {1000, 257}}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (uint32_t keep = 0; keep < 1u << shapes[s].rank; keep++) {
            const geometry *g = &shapes[s];
            rig r;
            rig_open(&r);
            ckpt_attr attr = {.reduce = {.rank = g->rank, .keep = keep, .alpha = -0.5f}};
            int64_t kept = 1, count = 1;
            for (int i = 0; i < g->rank; i++) {
                attr.reduce.dim[i] = g->dim[i];
                count *= g->dim[i];
                if (keep >> i & 1) kept *= g->dim[i];
            }
            int x = rig_random(&r, g->rank, g->dim, 1), y = rig_output(&r, CKPT_F32, 1, &kept);
            rig_run(&r, CKPT_OP_REDUCE_SUM, &attr, 1, &x, 1, &y);
            double *want = calloc((size_t)(kept > count ? kept : count), sizeof *want);
            for (int64_t e = 0; e < count; e++)
                want[kept_index(g, keep, e)] -= 0.5 * (double)rig_floats(&r, x)[e];
            rig_close_to(&r, y, want, 2e-6);
            int small = rig_random(&r, 1, &kept, 1), big = rig_output(&r, CKPT_F32, g->rank, g->dim);
            rig_run(&r, CKPT_OP_EXPAND, &attr, 1, &small, 1, &big);
            for (int64_t e = 0; e < count; e++)
                assert_true(rig_floats(&r, big)[e] == -0.5f * rig_floats(&r, small)[kept_index(g, keep, e)]);
            free(want);
            rig_close(&r);
        }
}

static void check_transpose(const geometry *g, const int *perm, ckpt_dtype type) {
    rig r;
    rig_open(&r);
    ckpt_attr attr = {.transpose = {.rank = g->rank}};
    int64_t out[5], stride[5], run = 1;
    for (int i = g->rank - 1; i >= 0; i--) {
        stride[i] = run;
        run *= g->dim[i];
    }
    for (int i = 0; i < g->rank; i++) {
        attr.transpose.dim[i] = g->dim[i];
        attr.transpose.perm[i] = perm[i];
        out[i] = g->dim[perm[i]];
    }
    int x = rig_tensor(&r, type, g->rank, g->dim, NULL), y = rig_output(&r, type, g->rank, out);
    const size_t size = (size_t)ckpt_dtype_bytes(type);
    for (size_t i = 0; i < r.buffer[x].bytes; i++) r.buffer[x].initial[i] = (unsigned char)(rig_uniform(&r) * 256);
    rig_run(&r, CKPT_OP_TRANSPOSE, &attr, 1, &x, 1, &y);
    for (int64_t e = 0; e < run; e++) {
        int64_t rest = e, from = 0;
        for (int i = g->rank - 1; i >= 0; i--) {
            from += rest % out[i] * stride[perm[i]];
            rest /= out[i];
        }
        assert_memory_equal(r.buffer[y].at + (size_t)e * size, r.buffer[x].at + (size_t)from * size, size);
    }
    rig_close(&r);
}

static void permute(const geometry *g, int *perm, int n, ckpt_dtype type) {
    if (n == g->rank) {
        check_transpose(g, perm, type);
        return;
    }
    for (int axis = 0; axis < g->rank; axis++) {
        bool used = false;
        for (int i = 0; i < n; i++) used |= perm[i] == axis;
        if (used) continue;
        perm[n] = axis;
        permute(g, perm, n + 1, type);
    }
}

static void test_transpose(void **state) {
    (void)state;
    const geometry shapes[] = {{1, {5}}, {2, {1, 1}}, {2, {130, 301}}, {3, {3, 1, 40}}, {4, {2, 33, 3, 35}}, {2, {0, 4}}};
    const ckpt_dtype types[] = {CKPT_F32, CKPT_BOOL, CKPT_BF16, CKPT_I64};
    int perm[5];
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int t = 0; t < 4; t++) permute(&shapes[s], perm, 0, types[t]);
    const geometry five = {5, {2, 3, 1, 5, 4}};
    permute(&five, perm, 0, CKPT_F32);
}

static double read(const void *p, ckpt_dtype type, int64_t i) {
    switch (type) {
    case CKPT_F32: return (double)((const float *)p)[i];
    case CKPT_F64: return ((const double *)p)[i];
    case CKPT_I32: return (double)((const int32_t *)p)[i];
    case CKPT_I64: return (double)((const int64_t *)p)[i];
    case CKPT_BOOL: return ((const uint8_t *)p)[i] != 0;
    case CKPT_F16: return (double)ckpt_float_from_half(((const uint16_t *)p)[i]);
    case CKPT_BF16: return (double)ckpt_float_from_bfloat(((const uint16_t *)p)[i]);
    }
    return 0;
}

/* The value of `type` nearest to v; halves by searching all of them. */
static double nearest(double v, ckpt_dtype type) {
    if (type == CKPT_F32) return (double)(float)v;
    if (type == CKPT_F64) return v;
    if (type == CKPT_BOOL) return v != 0;
    if (type == CKPT_I32 || type == CKPT_I64) return trunc(v);
    const double step = type == CKPT_F16 ? 1024 : 128;
    int exponent;
    frexp(v, &exponent);
    const double ulp = ldexp(1, exponent - 1) / step;
    return v == 0 ? 0 : nearbyint(v / ulp) * ulp;
}

static void test_cast(void **state) {
    (void)state;
    const int64_t counts[] = {1, 77, 40001};
    for (int from = 0; from < 7; from++)
        for (int to = 0; to < 7; to++)
            for (int c = 0; c < 3; c++) {
                rig r;
                rig_open(&r);
                int x = rig_tensor(&r, (ckpt_dtype)from, 1, &counts[c], NULL);
                int y = rig_output(&r, (ckpt_dtype)to, 1, &counts[c]);
                void *p = r.buffer[x].initial;
                for (int64_t i = 0; i < counts[c]; i++) {
                    const double v = i % 11 == 3 ? 0 : rig_uniform(&r) * 2000 - 1000;
                    if (from == CKPT_F32) ((float *)p)[i] = (float)v;
                    if (from == CKPT_F64) ((double *)p)[i] = v;
                    if (from == CKPT_I32) ((int32_t *)p)[i] = (int32_t)v;
                    if (from == CKPT_I64) ((int64_t *)p)[i] = (int64_t)v;
                    if (from == CKPT_BOOL) ((uint8_t *)p)[i] = v > 0;
                    if (from == CKPT_F16) ((uint16_t *)p)[i] = ckpt_half_from_float((float)v);
                    if (from == CKPT_BF16) ((uint16_t *)p)[i] = ckpt_bfloat_from_float((float)v);
                }
                const ckpt_attr attr = {.act = {0}};
                rig_run(&r, CKPT_OP_CAST, &attr, 1, &x, 1, &y);
                for (int64_t i = 0; i < counts[c]; i++)
                    assert_true(read(r.buffer[y].at, (ckpt_dtype)to, i) ==
                                nearest(read(r.buffer[x].initial, (ckpt_dtype)from, i), (ckpt_dtype)to));
                rig_close(&r);
            }
}

static void test_zero(void **state) {
    (void)state;
    const int64_t counts[] = {1, 3, 1000000};
    for (int c = 0; c < 3; c++) {
        rig r;
        rig_open(&r);
        int t = rig_output(&r, CKPT_F64, 1, &counts[c]);
        const ckpt_attr attr = {.act = {0}};
        rig_run(&r, CKPT_OP_ZERO, &attr, 0, NULL, 1, &t);
        for (size_t i = 0; i < r.buffer[t].bytes; i++) assert_int_equal(r.buffer[t].at[i], 0);
        rig_close(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reduce_and_expand), cmocka_unit_test(test_transpose), cmocka_unit_test(test_cast),
        cmocka_unit_test(test_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
