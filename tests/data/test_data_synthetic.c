/* Synthetic sets and shuffling: the same everywhere, within bounds, learnable, unbiased. */
#include "base/sha256.h"
#include "data_test.h"

static ckpt_dataset make(const ckpt_data_request *want, size_t count, uint64_t samples, uint64_t seed) {
    ckpt_dataset set;
    ckpt_error err = {.message = ""};
    if (ckpt_dataset_synthetic(want, count, samples, seed, &set, &err) != CKPT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(set.samples, samples);
    return set;
}

static void expect_hash(const void *bytes, size_t count, const char *expected) {
    ckpt_sha256 hash;
    char text[65];
    ckpt_sha256_start(&hash);
    ckpt_sha256_add(&hash, bytes, count);
    ckpt_sha256_hex(&hash, text);
    assert_string_equal(text, expected);
}

/* Golden bits (little-endian): a change of them changes everybody's synthetic results. */
static void test_bits(void **state) {
    (void)state;
    ckpt_dataset set = make(want_xy, 2, 100, 7);
    expect_hash(set.arrays[0].data, 1600, "c405c67a9064135ee66b323465d31c5c865374fad805f6630ef7a0cf82e571b4");
    expect_hash(set.arrays[1].data, 800, "51b424fd95377f8e8cfb2e534b804d862af4b1376e7b037e3a301f597e52e89c");
    ckpt_dataset_free(&set);
}

static void test_inputs_near_normal(void **state) {
    (void)state;
    const ckpt_data_request want = {.name = "x", .values = 100};
    ckpt_dataset set = make(&want, 1, 1000, 3);
    const float *x = set.arrays[0].data;
    double sum = 0, squares = 0;
    for (int i = 0; i < 100000; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
        assert_true(x[i] > -6 && x[i] < 6);
    }
    /* Five standard errors: 1 / sqrt(n) of the mean, sqrt(1.8 / n) of the variance (Irwin-Hall). */
    assert_true(sum / 1e5 > -0.016 && sum / 1e5 < 0.016);
    assert_true(squares / 1e5 > 0.978 && squares / 1e5 < 1.022);
    ckpt_dataset_free(&set);
}

/* Perceptron (Rosenblatt 1958) on classes: a linear target must be learned well beyond chance, and the
 * map must hold for another seed's samples. */
static void test_classes_learnable(void **state) {
    (void)state;
    enum { N = 400, C = 3, D = 4 };
    ckpt_dataset train = make(want_xy, 2, N, 1), other = make(want_xy, 2, N, 2);
    float w[C][D] = {{0}};
    int right = 0, seen[C] = {0};
    for (int step = 0; step < 31 * N; step++) {
        const ckpt_dataset *set = step < 30 * N ? &train : &other;
        const float *x = (const float *)set->arrays[0].data + step % N * D;
        int64_t y = ((const int64_t *)set->arrays[1].data)[step % N];
        float score[C] = {0};
        int best = 0;
        for (int c = 0; c < C; c++)
            for (int d = 0; d < D; d++) score[c] += w[c][d] * x[d];
        for (int c = 1; c < C; c++)
            if (score[c] > score[best]) best = c;
        if (set == &other) {
            right += best == y;
            seen[y]++;
            continue;
        }
        for (int d = 0; best != y && d < D; d++) {
            w[y][d] += x[d];
            w[best][d] -= x[d];
        }
    }
    assert_true(right > N * 9 / 10);
    for (int c = 0; c < C; c++) assert_true(seen[c] > N / 20);
    ckpt_dataset_free(&train);
    ckpt_dataset_free(&other);
}

static void test_kinds(void **state) {
    (void)state;
    const ckpt_data_request want[4] = {
        {.name = "ids", .want = CKPT_WANT_INTEGER, .integer_values = 16, .classes = 50},
        {.name = "next",
         .role = CKPT_DATA_TARGET,
         .want = CKPT_WANT_INTEGER,
         .integer_values = 16,
         .classes = 50},
        {.name = "map", .role = CKPT_DATA_TARGET, .values = 100},
        {.name = "bits", .role = CKPT_DATA_TARGET, .values = 5, .unit_range = true},
    };
    ckpt_dataset set = make(want, 4, 64, 9);
    int ones = 0;
    for (int i = 0; i < 64 * 16; i++) {
        assert_in_range(((int64_t *)set.arrays[0].data)[i], 0, 49);
        assert_in_range(((int64_t *)set.arrays[1].data)[i], 0, 49);
    }
    for (int i = 0; i < 64 * 5; i++) {
        float bit = ((float *)set.arrays[3].data)[i];
        assert_true(bit == 0 || bit == 1);
        ones += bit == 1;
    }
    assert_in_range(ones, 64, 256);
    ckpt_dataset_free(&set);
}

static void expect_refused(const ckpt_data_request *want, uint64_t samples, ckpt_status status,
                           const char *message) {
    ckpt_dataset set;
    ckpt_error err = {.message = ""};
    assert_int_equal(ckpt_dataset_synthetic(want, 1, samples, 0, &set, &err), status);
    assert_string_equal(err.message, message);
    expect_empty(&set);
}

static void test_refusals(void **state) {
    (void)state;
    const ckpt_data_request shapeless = {.name = "x"}, huge = {.name = "x", .values = UINT64_C(1) << 62},
                            unbounded = {.name = "x", .want = CKPT_WANT_INTEGER, .integer_values = 2},
                            target = {.name = "y", .role = CKPT_DATA_TARGET, .values = 2};
    expect_refused(&target, 0, CKPT_USAGE, "synthetic data: 0 samples asked for; ask for 1 to 4294967295");
    expect_refused(&shapeless, 1, CKPT_USAGE,
                   "synthetic data: array 'x': the model does not say its shape; give --data");
    expect_refused(&unbounded, 1, CKPT_USAGE,
                   "synthetic data: array 'x': the model does not say its number of classes; give --data");
    expect_refused(&target, 1, CKPT_USAGE,
                   "synthetic data: array 'y': a target needs an input to be made from; give --data");
    expect_refused(&huge, 100, CKPT_NOMEM,
                   "synthetic data: array 'x': 100 samples do not fit host memory; make fewer");
}

static void test_shuffle(void **state) {
    (void)state;
    enum { N = 1000 };
    uint32_t order[N], again[N];
    bool seen[N] = {false};
    ckpt_shuffle(order, N, 5, 0);
    for (int i = 0; i < N; i++) {
        assert_true(order[i] < N && !seen[order[i]]);
        seen[order[i]] = true;
    }
    expect_hash(order, sizeof order, "5921667c41ac71fd39a4f55a927439db38d0302a23544492de07386b24c4c67c");
    ckpt_shuffle(again, N, 5, 0);
    assert_memory_equal(order, again, sizeof order);
    ckpt_shuffle(again, N, 5, 1);
    assert_memory_not_equal(order, again, sizeof order);
    ckpt_shuffle(again, N, 6, 0);
    assert_memory_not_equal(order, again, sizeof order);
    ckpt_shuffle(NULL, 0, 1, 1);
}

/* All 24 orders of 4, chi-squared with 23 degrees of freedom: 49.7 is its 99.9% point. */
static void test_shuffle_unbiased(void **state) {
    (void)state;
    enum { EPOCHS = 24000 };
    int count[256] = {0};
    for (uint32_t epoch = 0; epoch < EPOCHS; epoch++) {
        uint32_t o[4];
        ckpt_shuffle(o, 4, 11, epoch);
        count[o[0] | o[1] << 2 | o[2] << 4 | o[3] << 6]++;
    }
    double chi = 0;
    int orders = 0;
    for (int i = 0; i < 256; i++) {
        if (!count[i]) continue;
        orders++;
        chi += (count[i] - 1000.0) * (count[i] - 1000.0) / 1000.0;
    }
    assert_int_equal(orders, 24);
    assert_true(chi < 49.7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_inputs_near_normal),
        cmocka_unit_test(test_classes_learnable),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_shuffle),
        cmocka_unit_test(test_shuffle_unbiased),
    };
    return cmocka_run_group_tests_name("data synthetic", tests, NULL, NULL);
}
