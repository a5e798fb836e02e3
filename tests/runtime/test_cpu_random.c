/* Philox, dropout masks and their independence of everything but the counters. */
#include "cpu_rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#ifdef CKPT_HAVE_CURAND
#include <curand.h>
#endif

#include "graph/op.h"
#include "runtime/act_math.h"
#include "runtime/numpy_random.h"

/* Known answers published with Random123 (Salmon et al. 2011), philox 4x32, 10 rounds. */
static void test_known_answers(void **state) {
    (void)state;
    const struct {
        uint32_t counter[4], key[2], word[4];
    } row[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t word[4];
        ckpt_philox((uint64_t)row[i].key[1] << 32 | row[i].key[0], row[i].counter[2], row[i].counter[3],
                    (uint64_t)row[i].counter[1] << 32 | row[i].counter[0], word);
        assert_memory_equal(word, row[i].word, sizeof word);
    }
}

/* numpy 2.4.6: np.random.seed(seed); np.random.uniform(0, 1, 2001)[index]. */
static void test_numpy(void **state) {
    (void)state;
    const uint64_t index[] = {0, 1, 2, 311, 312, 1000, 2000}; /* 312 begins the second round of words */
    const struct {
        uint32_t seed;
        double value[7];
    } row[] = {
        {0, {0x1.18fe1565f12a8p-1, 0x1.6e2d4cf608733p-1, 0x1.349d66b6e894bp-1, 0x1.2cf25ce2031ccp-3, 0x1.45b8f280519f0p-4,
             0x1.2f8e00bae5bb8p-1, 0x1.9f7f5956d7838p-1}},
        {42, {0x1.7f8771e5f51ecp-2, 0x1.e6c4068bbd654p-1, 0x1.76c7e8f1e6751p-1, 0x1.415b7a8070ca8p-4, 0x1.9f58b97983ee0p-6,
              0x1.7b26f91632500p-3, 0x1.0bfc93234ac9cp-2}},
        {4294967295u, {0x1.8fe69a3924820p-4, 0x1.d323d824032b1p-1, 0x1.93fc6f61af3f9p-1, 0x1.2369739e9c078p-2,
                       0x1.cc39c1c9cc10cp-1, 0x1.f4e9151f5d2acp-1, 0x1.c0d3d46a29cfcp-3}},
    };
    ckpt_numpy_random r;
    for (int i = 0; i < 3; i++) {
        ckpt_numpy_start(&r, row[i].seed);
        for (int k = 0; k < 7; k++) {
            ckpt_numpy_seek(&r, row[i].seed, index[k]);
            assert_true(ckpt_numpy_next(&r) == row[i].value[k]);
        }
        ckpt_numpy_seek(&r, row[i].seed, 1); /* back */
        assert_true(ckpt_numpy_next(&r) == row[i].value[1]);
    }
}

/* cuRAND's host generator runs 65536 subsequences side by side and takes four words of each in turn; subsequence n
 * is our stream n, and a turn its next quad. */
static void test_curand(void **state) {
    (void)state;
#ifdef CKPT_HAVE_CURAND
    enum { STREAMS = 65536, N = 4 * (2 * STREAMS + 100) };
    static uint32_t got[N];
    curandGenerator_t generator;
    if (curandCreateGeneratorHost(&generator, CURAND_RNG_PSEUDO_PHILOX4_32_10) != CURAND_STATUS_SUCCESS) skip();
    const uint64_t seed = 0x123456789abcdefu;
    assert_int_equal(curandSetPseudoRandomGeneratorSeed(generator, seed), CURAND_STATUS_SUCCESS);
    assert_int_equal(curandSetGeneratorOrdering(generator, CURAND_ORDERING_PSEUDO_LEGACY), CURAND_STATUS_SUCCESS);
    assert_int_equal(curandGenerate(generator, got, N), CURAND_STATUS_SUCCESS);
    curandDestroyGenerator(generator);
    for (uint32_t i = 0; i < N / 4; i++) {
        uint32_t word[4];
        ckpt_philox(seed, i % STREAMS, 0, i / STREAMS, word);
        assert_memory_equal(word, got + 4 * i, sizeof word);
    }
#else
    skip();
#endif
}

static bool kept(const rig *r, const ckpt_epilogue *e, int64_t element, int64_t sample_elements) {
    uint32_t word[4];
    const uint64_t i = (uint64_t)(element + r->scalars.first_sample * sample_elements);
    ckpt_philox(r->scalars.seed, e->stream, r->scalars.step, i / 4, word);
    return word[i % 4] >= ckpt_drop_threshold(e->drop);
}

static void test_mask_follows_the_counters(void **state) {
    (void)state;
    const int64_t count[] = {1, 3, 4, 63, 1023, 1024, 1025, 5000, 100003};
    /* 2^32 quads and a bit: the counter's high word, and the carry into it inside a block */
    const int64_t first[] = {0, 1, 2, 5, ((int64_t)1 << 34) - 40, ((int64_t)1 << 34) + 7};
    for (size_t c = 0; c < sizeof count / sizeof count[0]; c++)
        for (size_t f = 0; f < sizeof first / sizeof first[0]; f++) {
            rig r;
            rig_open(&r);
            r.graph.batch = count[c]; /* a sample is one element */
            r.scalars.first_sample = first[f];
            r.scalars.step = 77;
            r.scalars.seed = 0xfedcba9876543210u;
            const ckpt_attr attr = {.act = {.drop = 0.3f, .stream = 5}};
            int mask = rig_output(&r, CKPT_BOOL, 1, &count[c]), x = rig_random(&r, 1, &count[c], 1);
            int y = rig_output(&r, CKPT_F32, 1, &count[c]);
            rig_run(&r, CKPT_OP_KEEP_MASK, &attr, 0, NULL, 1, &mask);
            rig_run(&r, CKPT_OP_ACT, &attr, 1, &x, 1, &y);
            const uint8_t *m = rig_data(&r, mask);
            for (int64_t i = 0; i < count[c]; i++) {
                const bool k = kept(&r, &attr.act, i, 1);
                assert_int_equal(m[i], k);
                const float want = k ? rig_floats(&r, x)[i] * ckpt_drop_scale(0.3f) : 0.0f;
                assert_memory_equal(&rig_floats(&r, y)[i], &want, sizeof want);
            }
            rig_close(&r);
        }
}

/* A batch in two micro-batches draws what the whole draws. */
static void test_micro_batches(void **state) {
    (void)state;
    enum { ROWS = 60, COLS = 37 };
    float whole[ROWS * COLS], halves[ROWS * COLS];
    const ckpt_attr attr = {.act = {.act = CKPT_ACT_SCALE, .beta = 1, .drop = 0.5f, .stream = 9}};
    for (int part = 0; part < 3; part++) {
        rig r;
        rig_open(&r);
        const int64_t dims[2] = {part ? ROWS / 2 : ROWS, COLS};
        r.graph.batch = dims[0];
        r.scalars.first_sample = part == 2 ? ROWS / 2 : 0;
        int x = rig_random(&r, 2, dims, 1), y = rig_output(&r, CKPT_F32, 2, dims);
        rig_run(&r, CKPT_OP_ACT, &attr, 1, &x, 1, &y);
        memcpy(part ? halves + (part - 1) * ROWS / 2 * COLS : whole, rig_data(&r, y), r.buffer[y].bytes);
        rig_close(&r);
    }
    assert_memory_equal(whole, halves, sizeof whole);
}

static void test_salt_and_share(void **state) {
    (void)state;
    const int64_t n = 200000;
    const float drop[] = {0.1f, 0.5f, 0.9f};
    for (int d = 0; d < 3; d++) {
        rig r;
        rig_open(&r);
        const ckpt_attr attr = {.act = {.drop = drop[d]}}, other = {.act = {.drop = drop[d], .stream = 1}};
        int a = rig_output(&r, CKPT_BOOL, 1, &n), b = rig_output(&r, CKPT_BOOL, 1, &n);
        rig_run(&r, CKPT_OP_KEEP_MASK, &attr, 0, NULL, 1, &a);
        rig_run(&r, CKPT_OP_KEEP_MASK, &other, 0, NULL, 1, &b);
        const uint8_t *ma = rig_data(&r, a), *mb = rig_data(&r, b);
        int64_t ones = 0, both = 0;
        for (int64_t i = 0; i < n; i++) {
            ones += ma[i];
            both += ma[i] & mb[i];
        }
        const double p = 1 - (double)drop[d]; /* five standard deviations */
        assert_true(fabs((double)ones - (double)n * p) < 5 * sqrt((double)n * p * (1 - p)));
        assert_true(fabs((double)both - (double)n * p * p) < 5 * sqrt((double)n * p * p * (1 - p * p)));
        rig_close(&r);
    }
}

/* Against the forward pass run by the same kernels: the gradient's mask is the forward's, whatever the act. */
static void test_gradient_mask(void **state) {
    (void)state;
    const int64_t dims[2] = {50, 401};
    for (int a = 0; a < CKPT_ACT_COUNT; a++) {
        rig r;
        rig_open(&r);
        r.graph.batch = 50;
        r.scalars.first_sample = 3;
        const ckpt_attr attr = {.act = {.act = (ckpt_act)a, .alpha = 0.5f, .beta = 2, .drop = 0.4f, .stream = 2}};
        int x = rig_random(&r, 2, dims, 3), y = rig_output(&r, CKPT_F32, 2, dims), dy = rig_random(&r, 2, dims, 1);
        int dx = rig_output(&r, CKPT_F32, 2, dims);
        if (a == CKPT_ACT_LOG || a == CKPT_ACT_SQRT) /* of positive numbers only */
            for (int64_t i = 0; i < 50 * 401; i++) rig_floats(&r, x)[i] = 0.1f + fabsf(rig_floats(&r, x)[i]);
        memcpy(r.buffer[x].initial, r.buffer[x].at, r.buffer[x].bytes);
        rig_run(&r, CKPT_OP_ACT, &attr, 1, &x, 1, &y);
        /* y becomes an input */
        memcpy(r.buffer[y].initial, r.buffer[y].at, r.buffer[y].bytes);
        const bool from_output = ckpt_act_from_output((ckpt_act)a);
        const int in[2] = {dy, from_output ? y : x};
        const bool constant = ckpt_act_slope_is_constant((ckpt_act)a);
        rig_run(&r, CKPT_OP_ACT_GRAD, &attr, constant ? 1 : 2, in, 1, &dx);
        for (int64_t i = 0; i < 50 * 401; i++) {
            const bool k = kept(&r, &attr.act, i, 401);
            const float value = ckpt_act_value((ckpt_act)a, rig_floats(&r, x)[i], 0.5f, 2);
            const float slope = ckpt_act_slope((ckpt_act)a, from_output ? value : rig_floats(&r, x)[i], 0.5f, 2);
            const double want = k ? (double)(rig_floats(&r, dy)[i] * slope) / 0.6 : 0;
            assert_true(fabs((double)rig_floats(&r, dx)[i] - want) <= 2e-6 * (1 + fabs(want)));
        }
        rig_close(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),  cmocka_unit_test(test_curand), cmocka_unit_test(test_numpy),
        cmocka_unit_test(test_mask_follows_the_counters), cmocka_unit_test(test_micro_batches),
        cmocka_unit_test(test_salt_and_share), cmocka_unit_test(test_gradient_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
