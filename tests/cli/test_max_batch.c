/* --max-batch: the answer fits, the next size does not, and the fastest is the fastest of what was tried. */
#include "cmocka_all.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "run_program.h"

static json_t *plan_json(const char *words) {
    program_run run = run_program("plan", "%s --device cpu --json", words);
    if (run.status != 0) fail_msg("%s: status %d: %s", words, run.status, run.err);
    json_t *document = json_loads(run.out, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(document);
    program_free(&run);
    return document;
}

static json_int_t number(const json_t *document, const char *object, const char *key) {
    const json_t *at = json_object_get(object ? json_object_get(document, object) : document, key);
    if (!json_is_integer(at)) fail_msg("%s.%s is no integer", object ? object : "", key);
    return json_integer_value(at);
}

/* Both sides, by plans made without --max-batch: the smallest plan of the batch fits, that of the next does not. */
static void check_edge(const char *model, json_int_t budget) {
    char words[512];
    snprintf(words, sizeof words, "%s --max-batch --budget %" JSON_INTEGER_FORMAT, model, budget);
    json_t *d = plan_json(words);
    const json_int_t batch = number(d, NULL, "batch"), next = number(d, "max_batch", "refused");
    assert_int_equal(batch, number(d, "max_batch", "largest"));
    assert_int_equal(next, batch + 1);
    assert_true(number(d, "memory", "total") <= budget);
    assert_int_equal(number(d, "memory", "minimum_total"), number(d, "max_batch", "largest_minimum_total"));
    const json_int_t missing = number(d, "max_batch", "refused_minimum_total");
    assert_true(missing > budget);
    json_decref(d);
    program_run run = run_program("plan", "%s --device cpu --batch %" JSON_INTEGER_FORMAT " --budget %" JSON_INTEGER_FORMAT,
                                  model, next, budget);
    assert_int_equal(run.status, 4);
    program_free(&run);
    snprintf(words, sizeof words, "%s --batch %" JSON_INTEGER_FORMAT " --strategy min", model, next);
    d = plan_json(words);
    assert_int_equal(number(d, "memory", "total"), missing);
    json_decref(d);
}

static void test_largest_batch(void **state) {
    (void)state;
    check_edge("@/models/digits.onnx", 1 << 20);
    check_edge("@/models/mlp_residual.onnx", 300000);
    check_edge("@/models/mlp_prenorm_gelu.onnx", 300000);
    check_edge("@/models/mlp_checkpointed.onnx --optimizer adam", 1 << 19);
}

/* What the search rests on: the smallest total never falls as the batch grows. */
static void test_memory_grows_with_the_batch(void **state) {
    (void)state;
    static const char *const models[] = {"digits", "mlp_residual", "mlp_prenorm_gelu"};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        json_int_t last = 0;
        static const int batches[] = {1, 2, 7, 16, 40};
        for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
            char words[256];
            snprintf(words, sizeof words, "@/models/%s.onnx --strategy min --batch %d", models[m], batches[b]);
            json_t *d = plan_json(words);
            assert_true(number(d, "memory", "total") >= last);
            last = number(d, "memory", "total");
            json_decref(d);
        }
    }
}

static void test_fastest(void **state) {
    (void)state;
    json_t *d = plan_json("@/models/digits.onnx --max-batch --micro-batch auto --batch 240 --budget 600KB --optimizer adam");
    const json_t *search = json_object_get(d, "micro_batch_search"), *tried = json_object_get(search, "tried");
    const json_int_t chosen = number(d, NULL, "micro_batch"), largest = number(d, "max_batch", "largest");
    assert_int_equal(number(d, NULL, "batch"), 240);
    assert_int_equal(240 % chosen, 0);
    assert_int_equal(240 % largest, 0);
    assert_string_equal(json_string_value(json_object_get(json_object_get(d, "max_batch"), "of")), "micro-batch");
    assert_true(number(d, "memory", "total") <= 600000);
    double best = 0, of_chosen = 0;
    assert_true(json_array_size(tried) > 5);
    for (size_t i = 0; i < json_array_size(tried); i++) {
        const json_t *t = json_array_get(tried, i);
        const double speed = json_real_value(json_object_get(t, "samples_per_second"));
        assert_true(number(t, NULL, "total") <= 600000);
        if (speed > best) best = speed;
        if (number(t, NULL, "micro_batch") == chosen) of_chosen = speed;
    }
    assert_true(best > 0 && of_chosen == best);
    json_decref(d);

    /* Without --batch: a budget that recomputation stretches a long way is not stretched that far for speed. */
    d = plan_json("@/models/mlp_uniform64.onnx --max-batch --micro-batch auto --budget 2MiB");
    assert_true(number(d, NULL, "batch") < number(d, "max_batch", "largest"));
    assert_true(json_real_value(json_object_get(json_object_get(d, "compute"), "recompute_fraction")) < 0.5);
    json_decref(d);
}

/* The plan of the answer trains. */
static void test_answer_trains(void **state) {
    (void)state;
    program_run run = run_program("plan", "@/models/digits.onnx --device cpu --max-batch --budget 400KB -o largest.json --json");
    assert_int_equal(run.status, 0);
    json_t *d = json_loads(run.out, 0, NULL);
    const json_int_t batch = number(d, NULL, "batch"), total = number(d, "memory", "total");
    json_decref(d);
    program_free(&run);
    run = run_program("train", "@/models/digits.onnx --device cpu --batch %" JSON_INTEGER_FORMAT " --steps 1 --plan largest.json --json",
                      batch);
    if (run.status != 0) fail_msg("%s", run.err);
    d = json_loads(run.out, 0, NULL);
    assert_int_equal(number(d, "memory", "measured_peak"), total);
    json_decref(d);
    program_free(&run);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct { int status; const char *piece, *words; } cases[] = {
        {2, "--budget", "@/models/digits.onnx --max-batch"},
        {2, "is not a size", "@/models/digits.onnx --max-batch --budget 12parsecs"},
        {2, "--micro-batch", "@/models/digits.onnx --max-batch --budget 1MiB --batch 8"},
        {2, "any batch", "@/models/digits.onnx --max-batch --budget 1MiB --micro-batch 4"},
        {2, "--max-batch", "@/models/digits.onnx --micro-batch auto"},
        {2, "does not divide", "@/models/digits.onnx --batch 64 --micro-batch 7"},
        {2, "--compare", "@/models/digits.onnx --max-batch --budget 1MiB --compare"},
        {2, "different strategies", "@/models/digits.onnx --max-batch --budget 1MiB --every 2"},
        {4, "batch of 1", "@/models/digits.onnx --max-batch --budget 1k"},
        {4, "micro-batch of 1", "@/models/digits.onnx --max-batch --budget 1k --batch 64 --micro-batch auto"},
        {2, "auto", "@/models/digits.onnx --max-batch --budget 1k --micro-batch autos"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        program_run run = run_program("plan", "%s", cases[i].words);
        const char *end = strchr(run.err, '\n');
        if (run.status != cases[i].status || !strstr(run.err, cases[i].piece) || !end || end[1])
            fail_msg("%s: status %d: %s", cases[i].words, run.status, run.err);
        assert_string_equal(run.out, "");
        program_free(&run);
    }
    program_run run = run_program("train", "@/models/digits.onnx --micro-batch auto");
    assert_int_equal(run.status, 2);
    assert_non_null(strstr(run.err, "ckptplan --max-batch"));
    program_free(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_largest_batch), cmocka_unit_test(test_memory_grows_with_the_batch), cmocka_unit_test(test_fastest),
        cmocka_unit_test(test_answer_trains), cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
