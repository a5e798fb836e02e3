/* --cost and --profile: measured once, kept, found by both programs; what cannot be kept or read is done without. */
#include "cmocka_all.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run_program.h"

static char cache[512], kept[600];

static json_t *document_of(const char *which, const char *words) {
    program_run run = run_program(which, "@/models/mlp_prenorm_gelu.onnx --device cpu --json %s", words);
    if (run.status != 0) fail_msg("%s %s: status %d: %s", which, words, run.status, run.err);
    json_t *document = json_loads(run.out, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(document);
    program_free(&run);
    return document;
}

static json_t *at(const json_t *document, const char *object, const char *key) {
    json_t *value = json_object_get(json_object_get(document, object), key);
    if (!value) fail_msg("%s.%s is missing", object, key);
    return value;
}

/* What a plan says its costs come from; the caller frees it. */
static char *source_of(const char *words) {
    json_t *d = document_of("plan", words);
    char *source = strdup(json_string_value(at(d, "cost_model", "source")));
    json_decref(d);
    return source;
}

static void expect_source(const char *words, const char *begins) {
    char *source = source_of(words);
    if (strncmp(source, begins, strlen(begins)) != 0) fail_msg("%s: costs are from '%s', not '%s'", words, source, begins);
    free(source);
}

static void write_kept(const char *text) {
    FILE *file = fopen(kept, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int set_up(void **state) {
    (void)state;
    char folder[400];
    if (!getcwd(folder, sizeof folder)) return -1;
    snprintf(cache, sizeof cache, "%s/cache_XXXXXX", folder);
    if (!mkdtemp(cache)) return -1;
    snprintf(kept, sizeof kept, "%s/ckpt/device-cpu.json", cache);
    return setenv("XDG_CACHE_HOME", cache, 1);
}

static int tear_down(void **state) {
    (void)state;
    char words[600];
    snprintf(words, sizeof words, "rm -r '%s'", cache);
    return system(words);
}

static void figures_are_measured_once(void **state) {
    (void)state;
    expect_source("--cost nominal", "roofline, nominal");
    expect_source("--cost flops", "flops");
    assert_int_not_equal(access(kept, F_OK), 0); /* neither asks for figures */
    char *first = source_of(""), *second = source_of("");
    assert_int_equal(strncmp(first, "roofline, measured", 18), 0);
    assert_string_equal(first, second);
    assert_int_equal(access(kept, F_OK), 0);
    free(second);
    /* The same from the other program, and so the same plan. */
    json_t *plan = document_of("plan", "--budget 160KiB"), *run = document_of("train", "--budget 160KiB --steps 8");
    assert_int_equal(json_integer_value(at(plan, "memory", "total")), json_integer_value(at(run, "memory", "planned_peak")));
    assert_string_equal(first, json_string_value(at(run, "step_seconds", "cost_model")));
    assert_true(json_real_value(at(run, "step_seconds", "predicted")) == json_real_value(json_object_get(plan, "step_seconds")));
    assert_true(json_real_value(at(run, "step_seconds", "measured")) > 0);
    json_decref(plan);
    json_decref(run);
    free(first);
}

/* Products of another precision are of another speed; on the CPU they are of floats in any case. */
static void figures_are_of_a_precision(void **state) {
    (void)state;
    char *floats = source_of(""), *bf16 = source_of("--precision bf16");
    assert_string_equal(floats, bf16);
    expect_source("--device cuda --cost nominal", "roofline, nominal for the cuda: ");
    expect_source("--device cuda --cost nominal --precision tf32", "roofline, nominal for the cuda in tf32: ");
    expect_source("--device cuda --cost nominal --precision bf16", "roofline, nominal for the cuda in bf16: ");
    free(floats), free(bf16);
}

static void damaged_figures_are_measured_again(void **state) {
    (void)state;
    static const char *const damaged[] = {
        "", "{", "[]", "{\"schema\":\"ckpt-device/2\"}",
        "{\"schema\":\"ckpt-device/2\",\"build\":\"0.0.1\",\"machine\":\"x\",\"flops_per_second\":7.77e17,\"bytes_per_second\":1e9,"
        "\"launch_seconds\":1e-6,\"product_launch_seconds\":1e-6}"};
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        write_kept(damaged[i]);
        char *source = source_of("");
        assert_int_equal(strncmp(source, "roofline, measured", 18), 0);
        assert_null(strstr(source, "7.77e+17 FLOP/s")); /* no machine is that fast */
        free(source);
    }
}

static void what_cannot_be_kept_is_not_measured(void **state) {
    (void)state;
    setenv("XDG_CACHE_HOME", "/dev/null", 1);
    expect_source("", "roofline, nominal");
    program_run run = run_program("plan", "@/models/mlp_prenorm_gelu.onnx --device cpu --profile");
    assert_int_equal(run.status, 1);
    assert_non_null(strstr(run.err, "XDG_CACHE_HOME"));
    program_free(&run);
    json_t *own = document_of("train", "--profile --steps 4"); /* it measures, and needs no place for that */
    assert_int_equal(strncmp(json_string_value(at(own, "step_seconds", "cost_model")), "profile", 7), 0);
    json_decref(own);
    setenv("XDG_CACHE_HOME", cache, 1);
}

static void a_profile_is_the_models(void **state) {
    (void)state;
    expect_source("--profile", "profile");
    json_t *plan = document_of("plan", "--profile --strategy sqrt --batch 256");
    json_t *run = document_of("train", "--profile --strategy sqrt --batch 256 --steps 40");
    const double predicted = json_real_value(at(run, "step_seconds", "predicted"));
    const double measured = json_real_value(at(run, "step_seconds", "measured"));
    assert_true(predicted == json_real_value(json_object_get(plan, "step_seconds"))); /* from the same measurement */
    assert_int_equal(json_integer_value(at(plan, "memory", "total")), json_integer_value(at(run, "memory", "measured_peak")));
    /* How near is a matter of bench/predict.py: here a machine may be busy with other tests. */
    assert_true(predicted > measured / 10 && predicted < measured * 10);
    json_decref(plan);
    json_decref(run);
}

static void a_plan_file_has_its_costs(void **state) {
    (void)state;
    json_decref(document_of("plan", "--profile --strategy sqrt --batch 256 -o timed.json"));
    json_t *run = document_of("train", "--plan timed.json --batch 256 --steps 8");
    assert_int_equal(strncmp(json_string_value(at(run, "step_seconds", "cost_model")), "profile", 7), 0);
    json_decref(run);
    unlink("timed.json");
}

static void contradictions_are_refused(void **state) {
    (void)state;
    static const char *const words[][2] = {{"plan", "--profile --cost flops"}, {"plan", "--cost fast"},
                                           {"plan", "--profile --max-batch --budget 1MiB"}, {"plan", "--profile --loss none"},
                                           {"train", "--plan x.json --profile"}, {"train", "--plan x.json --cost flops"}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        program_run run = run_program(words[i][0], "@/models/mlp_prenorm_gelu.onnx --device cpu %s", words[i][1]);
        if (run.status != 2) fail_msg("%s: status %d", words[i][1], run.status);
        program_free(&run);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_measured_once), cmocka_unit_test(figures_are_of_a_precision),
        cmocka_unit_test(damaged_figures_are_measured_again),
        cmocka_unit_test(what_cannot_be_kept_is_not_measured), cmocka_unit_test(a_profile_is_the_models),
        cmocka_unit_test(a_plan_file_has_its_costs), cmocka_unit_test(contradictions_are_refused)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
