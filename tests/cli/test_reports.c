/* What ckptplan writes besides text: which kind by name or --format, complete or not at all; the frontier's documents;
 * and what is refused. */
#include "cmocka_all.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model_maker.h"
#include "run_program.h"
#include "xml_check.h"

static char *slurp(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *text = calloc(1, 1 << 22);
    assert_true(fread(text, 1, (1 << 22) - 1, file) < (1 << 22) - 1);
    fclose(file);
    return text;
}

static program_run ran(const char *words) {
    program_run run = run_program("plan", "%s", words);
    if (run.status != 0) fail_msg("%s: status %d: %s", words, run.status, run.err);
    return run;
}

static void refused(int status, const char *piece, const char *words) {
    program_run run = run_program("plan", "%s", words);
    const char *end = strchr(run.err, '\n');
    if (run.status != status || !strstr(run.err, piece) || !end || end[1])
        fail_msg("%s: status %d instead of %d, '%s' in: %s", words, run.status, status, piece, run.err);
    assert_string_equal(run.out, "");
    program_free(&run);
}

/* By the file's name, by --format whatever the name, and on stdout: the same bytes. */
static void test_kinds(void **state) {
    (void)state;
    static const struct { const char *kind, *begin; } kinds[] = {{"html", "<!DOCTYPE html>"}, {"svg", "<svg "}, {"dot", "digraph "}};
    for (int i = 0; i < 3; i++) {
        char words[256], name[64];
        snprintf(name, sizeof name, "plan.%s", kinds[i].kind);
        snprintf(words, sizeof words, "@/models/mlp_residual.onnx --strategy sqrt -o %s", name);
        program_run run = ran(words);
        assert_non_null(strstr(run.out, "Strategy  sqrt")); /* the text is still told */
        program_free(&run);
        char *named = slurp(name);
        assert_non_null(named);
        assert_int_equal(strncmp(named, kinds[i].begin, strlen(kinds[i].begin)), 0);
        const char *fault = i < 2 ? xml_fault(named) : NULL;
        if (fault) fail_msg("%s: %s", name, fault);
        snprintf(words, sizeof words, "@/models/mlp_residual.onnx --strategy sqrt --format %s", kinds[i].kind);
        run = ran(words);
        assert_string_equal(run.out, named);
        program_free(&run);
        snprintf(words, sizeof words, "@/models/mlp_residual.onnx --strategy sqrt --format %s -o plain --json", kinds[i].kind);
        run = ran(words);
        json_t *document = json_loads(run.out, 0, NULL);
        assert_string_equal(json_string_value(json_object_get(document, "schema")), "ckptplan/1");
        json_decref(document);
        program_free(&run);
        char *plain = slurp("plain");
        assert_string_equal(plain, named);
        free(plain);
        free(named);
    }
    program_run run = ran("@/models/digits.onnx --format json");
    json_t *document = json_loads(run.out, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(document, "schema")), "ckptplan/1");
    json_decref(document);
    program_free(&run);
    run = ran("@/models/digits.onnx --loss none --format svg"); /* a forward pass alone has a picture too */
    assert_null(xml_fault(run.out));
    program_free(&run);
    run = ran("@/models/digits.onnx --loss none --format html");
    assert_null(xml_fault(run.out));
    program_free(&run);
}

static void test_frontier(void **state) {
    (void)state;
    program_run run = ran("@/models/mlp_residual.onnx --device cpu --batch 64 --micro-batch 16 --frontier --json -o curve.svg");
    json_t *document = json_loads(run.out, JSON_REJECT_DUPLICATES, NULL);
    program_free(&run);
    char *svg = slurp("curve.svg");
    const char *fault = xml_fault(svg);
    if (fault) fail_msg("%s", fault);
    assert_string_equal(json_string_value(json_object_get(document, "schema")), "ckptplan-frontier/1");
    const json_t *points = json_object_get(document, "points");
    const size_t count = json_array_size(points);
    assert_true(count > 3);
    size_t dots = 0;
    for (const char *at = svg; (at = strstr(at, "<circle class=\"dot\"")); at++) dots++;
    assert_int_equal(dots, count);
    free(svg);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(points, 0), "total")),
                     json_integer_value(json_object_get(document, "minimum_total")));
    for (size_t i = 0; i < count; i += count / 3) { /* the plan of that budget, as the contract's document tells it */
        const json_t *p = json_array_get(points, i);
        run = run_program("plan", "@/models/mlp_residual.onnx --device cpu --batch 64 --micro-batch 16 --json --budget %lld",
                          (long long)json_integer_value(json_object_get(p, "total")));
        assert_int_equal(run.status, 0);
        json_t *d = json_loads(run.out, 0, NULL);
        const json_t *compute = json_object_get(d, "compute");
        assert_int_equal(json_integer_value(json_object_get(json_object_get(d, "memory"), "total")),
                         json_integer_value(json_object_get(p, "total")));
        assert_int_equal(json_integer_value(json_object_get(compute, "recompute_flops")),
                         json_integer_value(json_object_get(p, "recompute_flops")));
        const double a = json_real_value(json_object_get(compute, "recompute_fraction"));
        const double b = json_real_value(json_object_get(p, "recompute_fraction"));
        assert_true(a - b < 1e-12 && b - a < 1e-12);
        json_decref(d);
        program_free(&run);
    }
    run = ran("@/models/mlp_residual.onnx --device cpu --batch 64 --micro-batch 16 --frontier -o curve.json");
    assert_non_null(strstr(run.out, "at least"));
    char *json = slurp("curve.json");
    json_t *same = json_loads(json, 0, NULL);
    assert_true(json_equal(same, document));
    free(json);
    json_decref(same);
    json_decref(document);
    program_free(&run);
}

static void test_refusals(void **state) {
    (void)state;
    refused(2, ".svg", "@/models/digits.onnx -o plan.txt");
    refused(2, "nofolder", "@/models/digits.onnx -o nofolder/report.html");
    refused(2, "nofolder", "@/models/digits.onnx --frontier -o nofolder/curve.svg");
    refused(2, "--format", "@/models/digits.onnx --format pdf");
    refused(2, "--json", "@/models/digits.onnx --format svg --json");
    refused(2, "--format text", "@/models/digits.onnx --format text -o a.html");
    refused(2, "--frontier", "@/models/digits.onnx --frontier -o graph.dot");
    refused(2, "leave out the option", "@/models/digits.onnx --frontier -o report.html");
    refused(2, "--compare", "@/models/digits.onnx --compare --format svg");
    refused(2, "--compare", "@/models/digits.onnx --compare --frontier");
    refused(2, "--frontier", "@/models/digits.onnx --loss none --frontier");
    refused(4, "smallest feasible", "@/models/digits.onnx --budget 1k -o never.html");
    assert_int_equal(access("never.html", F_OK), -1);
    /* three names to choose from */
    refused(2, "'/fc1/Gemm'", "@/models/digits.onnx --layers /fc1/Gem -o a.html");
    assert_int_equal(access("a.html", F_OK), -1);
}

/* A dimension that nothing binds is named, with the option that binds it; bound, the model plans. */
static void test_unbound_dimension(void **state) {
    (void)state;
    maker m;
    maker_start(&m, 17);
    maker_input(&m, "x", 3, (int64_t[]){-1, -1, 8});
    m.inputs[0]->type->tensor_type->shape->dim[1]->dim_param = strdup("tokens");
    maker_weight(&m, "w", 2, (int64_t[]){8, 4});
    maker_node(&m, "MatMul", "fc", "x,w", "y", NULL);
    maker_output(&m, "y");
    maker_write(&m, "tokens.onnx");
    refused(2, "'tokens'", "tokens.onnx --loss mse");
    refused(2, "--dim tokens=", "tokens.onnx --loss mse --max-batch --budget 1MiB");
    program_run run = ran("tokens.onnx --loss mse --dim tokens=5 --format svg");
    program_free(&run);
    free(m.inputs[0]->type->tensor_type->shape->dim[1]->dim_param);
}

static void train_refused(const char *piece, const char *words) {
    program_run run = run_program("train", "%s", words);
    const char *end = strchr(run.err, '\n');
    if (run.status != 2 || !strstr(run.err, piece) || !end || end[1]) fail_msg("%s: status %d: %s", words, run.status, run.err);
    program_free(&run);
}

/* Plan files that are not this model's, not whole, or no plan files. */
static void test_plan_files(void **state) {
    (void)state;
    program_run run = ran("@/models/digits.onnx --device cpu --batch 32 --strategy sqrt -o digits.json");
    program_free(&run);
    train_refused("another model", "@/models/mlp_residual.onnx --device cpu --batch 32 --steps 1 --plan digits.json");
    train_refused("another model", "@/models/digits.onnx --device cpu --batch 16 --steps 1 --plan digits.json");
    char *text = slurp("digits.json");
    const size_t length = strlen(text);
    FILE *cut = fopen("cut.json", "w");
    fwrite(text, 1, length / 2, cut);
    fclose(cut);
    free(text);
    train_refused("cut.json", "@/models/digits.onnx --device cpu --batch 32 --steps 1 --plan cut.json");
    run = ran("@/models/digits.onnx --device cpu --batch 32 --frontier -o front.json");
    program_free(&run);
    train_refused("schema", "@/models/digits.onnx --device cpu --batch 32 --steps 1 --plan front.json");
    run = ran("@/models/digits.onnx --device cpu --batch 32 -o page.html");
    program_free(&run);
    train_refused("no plan file", "@/models/digits.onnx --device cpu --batch 32 --steps 1 --plan page.html");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),          cmocka_unit_test(test_frontier),   cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_unbound_dimension), cmocka_unit_test(test_plan_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
