/* Which loss an output and its targets mean, over which axis, what is said of it, and its value: the cases of losses/cases.txt,
 * whose values are PyTorch's in float64 (losses/make_losses.py). And that both programs say the same. */
#include "cmocka_all.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run_program.h"

enum { LINE = 1024 };
static const double TOLERANCE = 1e-5;

/* A tab-separated column, cut off; *rest moves behind it. */
static char *column(char **rest) {
    char *text = *rest, *end = text + strcspn(text, "\t\n");
    *rest = *end ? end + 1 : end;
    *end = 0;
    return text;
}

/* "first" or "last"; want: "-" for any. */
static void compare_loss(const program_run *run, const char *which, const char *want, const char *options) {
    if (strcmp(want, "-") == 0) return;
    json_t *document = json_loads(run->out, 0, NULL);
    const double got = json_real_value(json_object_get(json_object_get(document, "loss"), which)), value = atof(want);
    json_decref(document);
    if (!(fabs(got - value) <= TOLERANCE * fmax(1, fabs(value)))) fail_msg("%s: %s loss %.9g instead of %s", options, which, got, want);
}

static void try_case(char *line) {
    const int status = atoi(column(&line));
    const char *loss = column(&line), *then = column(&line), *said = column(&line), *options = column(&line);
    const bool steps = strcmp(then, "-") != 0;
    program_run run = run_program("train", "%s --steps %d --lr %s --shuffle off --threads 1 --json", options, steps ? 2 : 1, steps ? "0.1" : "0");
    if (run.status != status || !strstr(run.err, said))
        fail_msg("%s: status %d instead of %d, '%s' in: %s", options, run.status, status, said, run.err);
    const char *end = strchr(run.err, '\n');
    if (status != 0 && (!end || end[1] || *run.out)) fail_msg("%s: more than a line: %s", options, run.err);
    compare_loss(&run, "first", loss, options);
    compare_loss(&run, "last", then, options);
    program_free(&run);
}

static void test_cases(void **state) {
    (void)state;
    FILE *file = fopen(CKPT_SOURCE_DIR "/tests/cli/losses/cases.txt", "r");
    char line[LINE];
    int count = 0;
    assert_non_null(file);
    for (; fgets(line, sizeof line, file); count++) try_case(line);
    fclose(file);
    assert_true(count > 60);
}

/* The same sentence, on stderr and as an object. */
static void test_both_programs_say_it(void **state) {
    (void)state;
    static const char options[] = "@/tests/cli/losses/two.onnx --batch 8 --loss class=ce,value=mse:0.5 --label-smoothing 0";
    static const char said[] = "loss: cross-entropy over axis 1 of 'class' (4 classes), targets 'y_class': class indices, ignoring -100 (as "
                               "asked for); plus mean squared error of 'value', targets 'y_value': numbers, times 0.5 (as asked for)\n";
    program_run plan = run_program("plan", "%s", options), train = run_program("train", "%s --steps 1", options);
    assert_non_null(strstr(plan.err, said));
    assert_non_null(strstr(train.err, said));
    assert_non_null(strstr(plan.err, "outputs that no loss is on: 'label'\n"));
    program_free(&plan);
    program_free(&train);
    const char *const programs[] = {"plan", "train"};
    for (int i = 0; i < 2; i++) {
        program_run run = run_program(programs[i], "%s --json%s", options, i ? " --steps 1" : "");
        json_t *document = json_loads(run.out, 0, NULL), *loss = json_object_get(document, "loss"), *terms = json_object_get(loss, "terms");
        assert_string_equal(json_string_value(json_object_get(loss, "kind")), "ce");
        assert_int_equal(json_integer_value(json_object_get(loss, "class_axis")), 1);
        assert_int_equal(json_integer_value(json_object_get(loss, "classes")), 4);
        assert_int_equal(json_integer_value(json_object_get(loss, "ignore_index")), -100);
        assert_int_equal(json_array_size(terms), 2);
        assert_string_equal(json_string_value(json_object_get(json_array_get(terms, 1), "output")), "value");
        assert_true(json_real_value(json_object_get(json_array_get(terms, 1), "scale")) == 0.5);
        assert_int_equal(json_object_get(loss, "first") != NULL, i);
        json_decref(document);
        program_free(&run);
    }
}

/* ckptplan knows no data: what it plans by default, and that --output NAME chooses there too. */
static void test_without_data(void **state) {
    (void)state;
    static const struct { const char *options, *said; } cases[] = {
        {"@/tests/cli/losses/plane.onnx --loss ce", "cross-entropy over axis 2 of 'y' (3 classes)"},
        {"@/tests/cli/losses/plane.onnx --class-axis 1", "cross-entropy over axis 1 of 'y' (4 classes)"},
        {"@/tests/cli/losses/softmax1.onnx", "cross-entropy over axis 1 of 'y' (3 classes)"},
        {"@/tests/cli/losses/two.onnx --output value", "cross-entropy over axis 1 of 'value' (2 classes)"},
        {"@/tests/cli/losses/linear.onnx --class-weights balanced", "class weights balanced"},
        {"@/tests/cli/losses/own_mean.onnx", "the output 'loss', which the file computes as a mean over the batch, labels 't'"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        program_run run = run_program("plan", "%s", cases[i].options);
        if (run.status != 0 || !strstr(run.err, cases[i].said)) fail_msg("%s: '%s' in: %s", cases[i].options, cases[i].said, run.err);
        program_free(&run);
    }
    program_run run = run_program("plan", "@/tests/cli/losses/two.onnx --output plan.txt");
    assert_int_equal(run.status, 2);
    assert_non_null(strstr(run.err, "no output is called 'plan.txt'"));
    program_free(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_both_programs_say_it),
        cmocka_unit_test(test_without_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
