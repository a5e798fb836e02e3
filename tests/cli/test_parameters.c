/* What is trained: modules exported by PyTorch in four ways (tests/parameters/make_cases.py), whose parameters are easy to take
 * for something else, train as PyTorch trains them; --train and --freeze decide against the file. */
#include "cmocka_all.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run_program.h"

#define CASES CKPT_SOURCE_DIR "/tests/parameters/"

static json_t *result_of(program_run *run, const char *what) {
    if (run->status != 0) fail_msg("%s: exit %d: %s", what, run->status, run->err);
    json_t *document = json_loads(run->out, 0, NULL);
    assert_non_null(document);
    return document;
}

static double number_at(const json_t *document, const char *object, const char *key) {
    return json_number_value(json_object_get(json_object_get(document, object), key));
}

/* Values that `ckptplan --json` calls trained. */
static long long trained_values(const json_t *document) {
    json_t *tensor, *tensors = json_object_get(json_object_get(document, "model"), "tensors");
    long long sum = 0;
    size_t i;
    json_array_foreach(tensors, i, tensor) {
        assert_true(strlen(json_string_value(json_object_get(tensor, "reason"))) > 0);
        if (json_is_true(json_object_get(tensor, "trained"))) sum += json_integer_value(json_object_get(tensor, "values"));
    }
    return sum;
}

static void check_case(const char *file, const char *data, long long values, double first, double last) {
    program_run run = run_program("plan", CASES "%s.onnx --batch 8 --loss mse --json", file);
    json_t *plan = result_of(&run, file);
    if (trained_values(plan) != values) fail_msg("%s: trains %lld values, not %lld: %s", file, trained_values(plan), values, run.err);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(plan, "model"), "parameters")), values);
    json_decref(plan);
    program_free(&run);
    run = run_program("train", CASES "%s.onnx --data " CASES "%s.npz --batch 8 --steps 6 --lr 0.05 --shuffle off --loss mse --threads 1 --json",
                      file, data);
    json_t *trained = result_of(&run, file);
    const double got_first = number_at(trained, "loss", "first"), got_last = number_at(trained, "loss", "last");
    if (!(fabs(got_first - first) <= 1e-5 * first) || !(fabs(got_last - last) <= 2e-5 * last))
        fail_msg("%s: losses %.9g, %.9g instead of %.9g, %.9g", file, got_first, got_last, first, last);
    json_decref(trained);
    program_free(&run);
}

static void test_modules_train_as_in_pytorch(void **state) {
    (void)state;
    FILE *cases = fopen(CASES "cases.txt", "r");
    char line[512], file[64], data[64];
    int count = 0;
    assert_non_null(cases);
    while (fgets(line, sizeof line, cases)) {
        long long values;
        double first, last;
        if (sscanf(line, "%63s %63s %lld %lf %lf", file, data, &values, &first, &last) != 5 || *file == '#') continue;
        check_case(file, data, values, first, last);
        count++;
    }
    fclose(cases);
    assert_true(count > 20);
}

static char *losses_with(const char *options) {
    static char text[2][128];
    static int turn;
    program_run run = run_program("train", CASES "mixed_train.onnx --data " CASES "mixed.npz --batch 8 --steps 6 --lr 0.05 --shuffle off "
                                  "--loss mse --threads 1 --json %s", options);
    json_t *document = result_of(&run, options);
    char *into = text[turn++ % 2];
    snprintf(into, sizeof text[0], "%.12g %s", number_at(document, "loss", "last"),
             json_string_value(json_object_get(document, "weights_sha256")));
    json_decref(document);
    program_free(&run);
    return into;
}

/* Taking a parameter for a constant, or a mask for a parameter, shows in the losses. */
static void test_a_wrong_choice_shows(void **state) {
    (void)state;
    const char *right = losses_with("");
    assert_string_equal(right, losses_with(""));
    assert_string_not_equal(losses_with(""), losses_with("--freeze t"));
    assert_string_not_equal(losses_with(""), losses_with("--train mask"));
    /* --train wins: what both name is trained. */
    assert_string_equal(losses_with(""), losses_with("--freeze alpha,l.weight --train alpha,l"));
}

static void test_frozen_tensors_take_no_memory(void **state) {
    (void)state;
    double total[2], gradients[2];
    for (int frozen = 0; frozen < 2; frozen++) {
        program_run run = run_program("plan", CASES "mixed_train.onnx --batch 8 --micro-batch 4 --loss mse --optimizer adam --json %s",
                                      frozen ? "--freeze l,l2.weight,tok" : "");
        json_t *plan = result_of(&run, "freeze");
        total[frozen] = number_at(plan, "memory", "total");
        gradients[frozen] = number_at(plan, "memory", "gradients");
        if (frozen) {
            assert_int_equal(trained_values(plan), 129 - 36 - 6 - 36 - 25);
            assert_non_null(strstr(run.err, "l.weight"));
            assert_non_null(strstr(run.err, "(--freeze)"));
        }
        json_decref(plan);
        program_free(&run);
    }
    assert_true(total[1] < total[0] && gradients[1] < gradients[0]);
}

static void refuse(const char *options, int status, const char *piece) {
    program_run run = run_program("plan", CASES "%s", options);
    if (run.status != status || !strstr(run.err, piece)) fail_msg("%s: exit %d: %s", options, run.status, run.err);
    program_free(&run);
}

static void test_refusals(void **state) {
    (void)state;
    refuse("mixed_train.onnx --loss mse --freeze l3.weight", 2, "named 'l3.weight'; the nearest is 'l.weight'");
    refuse("mixed_train.onnx --loss mse --freeze l,,t", 2, "has an item that is empty");
    refuse("mixed_train.onnx --loss mse --freeze *", 3, "no trainable parameter");
    refuse("lora_train.onnx --loss mse --train n.running_mean", 2, "running statistic");
}

/* A saved model has the trained values under the file's names, and the kept ones as they were. */
static void test_what_the_line_says(void **state) {
    (void)state;
    program_run run = run_program("train", CASES "tables_script.onnx --data " CASES "tables.npz --batch 8 --steps 1 --loss mse");
    assert_int_equal(run.status, 0);
    if (!strstr(run.err, "trains 7 tensors, 134 values; keeps 6: drop (0/1 mask), causal (additive mask), index (positions), "
                         "pe, cos, sin (sines and cosines of positions)"))
        fail_msg("%s", run.err);
    program_free(&run);
    run = run_program("plan", CASES "tied_dynamo.onnx --loss mse");
    if (!strstr(run.err, "is 'w' transposed, which the exporter wrote twice")) fail_msg("%s", run.err);
    program_free(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modules_train_as_in_pytorch),
        cmocka_unit_test(test_a_wrong_choice_shows),
        cmocka_unit_test(test_frozen_tensors_take_no_memory),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_what_the_line_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
