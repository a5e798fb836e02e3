/* Runs ONNX's node tests: every case of the folder that CKPT_ONNX_TESTS names. With the argument "shapes": loads the
 * cases of $CKPT_SHARED_DATA that the list tier2-transformer-cnn.txt names, and compares the types
 * and shapes of their outputs alone, whether there are kernels or not. With "saved FOLDER": the cases of that folder, which
 * saved_models.py makes of what ckpttrain saved; their outputs must be those of ONNX's evaluators to 1e-5 of the largest.
 *
 * A case is a folder with model.onnx and test_data_set_*\/input_N.pb and output_N.pb. It passes when every output has
 * the expected type, shape and values (relative 1e-3, absolute 1e-7, as ONNX's own runner compares; dropout in training to the
 * bit). A case that the
 * importer refuses is unsupported, which fails unless `unsupported.txt` in that folder names it (a line each: name,
 * then why). A listed case that passes fails too: the list must not be longer than needed. */
#include "harness.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "proto/onnx_file.h"

const ckpt_backend *CKPT_TEST_BACKEND(void);

/* ELSEWHERE: its masks are numpy's, which are drawn on the CPU only. */
typedef enum outcome { PASSED, FAILED, UNSUPPORTED, ELSEWHERE } outcome;
typedef enum comparison { VALUES, SHAPES, SAVED } comparison;

enum { MOST_FILES = 16 };

static ckpt_onnx_file *open_pb(const char *folder, int set, const char *kind, int i) {
    char path[2048];
    ckpt_error err;
    ckpt_onnx_file *file = NULL;
    snprintf(path, sizeof path, "%s/test_data_set_%d/%s_%d.pb", folder, set, kind, i);
    FILE *there = fopen(path, "r");
    if (!there) return NULL;
    fclose(there);
    MUST(ckpt_onnx_read_tensor_pb(path, &file, &err), &err);
    return file;
}

static double element(const void *data, ckpt_dtype type, int64_t i) {
    switch (type) {
    case CKPT_F32: return (double)((const float *)data)[i];
    case CKPT_F64: return ((const double *)data)[i];
    case CKPT_I32: return ((const int32_t *)data)[i];
    case CKPT_I64: return (double)((const int64_t *)data)[i];
    case CKPT_BOOL: return ((const unsigned char *)data)[i];
    default: return NAN;
    }
}

static bool same_type(ckpt_dtype type, int onnx) {
    static const int of[] = {[CKPT_F32] = 1, [CKPT_F64] = 11, [CKPT_I32] = 6, [CKPT_I64] = 7, [CKPT_BOOL] = 9,
                             [CKPT_F16] = 10, [CKPT_BF16] = 16};
    return of[type] == onnx;
}

static int folded; /* outputs that were known without running anything */

/* Type and shape of one output, and its values where they are known already; prints what is wrong. */
static bool compare_shape(const char *name, const ckpt_model *model, int output, ckpt_onnx_file *want) {
    const ckpt_view *view = &model->output[output];
    ckpt_onnx_tensor_info info;
    ckpt_error err;
    if (view->tensor < 0) {
        printf("%s: output %d is not computed\n", name, output);
        return false;
    }
    MUST(ckpt_onnx_tensor_describe(want, want->tensor, &info, &err), &err);
    bool ok = (int)info.rank == view->rank && same_type(model->graph.tensor[view->tensor].dtype, (int)info.type);
    for (int i = 0; ok && i < view->rank; i++) ok = info.dims[i] == view->dim[i];
    if (!ok) printf("%s: output %d has another type or shape\n", name, output);
    const ckpt_tensor *t = &model->graph.tensor[view->tensor];
    if (!ok || t->role != CKPT_ROLE_CONST || !t->data) return ok;
    void *values = calloc(1, (size_t)info.bytes + 8); /* computed while the file was read */
    MUST(ckpt_onnx_tensor_read(want, want->tensor, values, info.bytes, &err), &err);
    for (int64_t i = 0; ok && i < t->count; i++) ok = element(t->data, t->dtype, i) == element(values, t->dtype, i);
    if (!ok) printf("%s: output %d was folded to other values\n", name, output);
    free(values);
    folded += ok;
    return ok;
}

/* The same and its values. */
static bool compare(const char *name, const ckpt_model *model, ckpt_exec *exec, int output, ckpt_onnx_file *want,
                    comparison how) {
    if (!compare_shape(name, model, output, want)) return false;
    const ckpt_view *view = &model->output[output];
    const ckpt_tensor *t = &model->graph.tensor[view->tensor];
    ckpt_onnx_tensor_info info;
    ckpt_error err;
    MUST(ckpt_onnx_tensor_describe(want, want->tensor, &info, &err), &err);
    bool ok = true;
    void *got = calloc(1, (size_t)ckpt_tensor_bytes(t) + 8), *expected = calloc(1, (size_t)info.bytes + 8);
    MUST(ckpt_exec_get(exec, view->tensor, got, &err), &err);
    MUST(ckpt_onnx_tensor_read(want, want->tensor, expected, info.bytes, &err), &err);
    const bool exact = strncmp(name, "test_training_dropout", 21) == 0; /* masks and their scale, drawn as ONNX draws them */
    double largest = 0;
    for (int64_t i = 0; how == SAVED && i < t->count; i++) largest = fmax(largest, fabs(element(expected, t->dtype, i)));
    for (int64_t i = 0; ok && i < t->count; i++) {
        const double a = element(got, t->dtype, i), b = element(expected, t->dtype, i);
        const double tolerance = exact ? 0 : how == SAVED ? 1e-5 * largest : 1e-7 + 1e-3 * fabs(b);
        ok = (isnan(a) && isnan(b)) || a == b || fabs(a - b) <= tolerance;
        if (!ok) printf("%s: output %d, element %d is %.9g instead of %.9g\n", name, output, (int)i, a, b);
    }
    free(got), free(expected);
    return ok;
}

static bool run(const char *name, ckpt_model *model, ckpt_onnx_file **inputs, int input_count, ckpt_onnx_file **outputs,
                int output_count, comparison how) {
    ckpt_error err;
    step_runner runner;
    bool ok = model->output_count == output_count;
    runner_open(&runner, &model->graph, CKPT_TEST_BACKEND(), CKPT_STRATEGY_NONE);
    runner_load_weights(&runner, model);
    for (int g = 0; g < model->graph.input_count; g++)
        for (int i = 0; i < input_count; i++) {
            const ckpt_tensor *t = &model->graph.tensor[model->graph.input[g]];
            if (!inputs[i]->tensor->name || strcmp(inputs[i]->tensor->name, t->name) != 0) continue;
            void *values = calloc(1, (size_t)ckpt_tensor_bytes(t) + 8);
            MUST(ckpt_onnx_tensor_read(inputs[i], inputs[i]->tensor, values, (size_t)ckpt_tensor_bytes(t), &err), &err);
            MUST(ckpt_exec_set(runner.exec, model->graph.input[g], values, &err), &err);
            free(values);
        }
    runner_step(&runner, 0, 0);
    for (int i = 0; ok && i < output_count; i++) ok = compare(name, model, runner.exec, i, outputs[i], how);
    runner_close(&runner);
    return ok;
}

/* Names that the test data leave out are those of the graph's inputs, in order. */
static void name_inputs(const char *folder, ckpt_onnx_file **inputs, int count) {
    char path[2048];
    ckpt_error err;
    ckpt_onnx_file *file;
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    MUST(ckpt_onnx_read(path, &file, &err), &err);
    for (int i = 0; i < count && i < (int)file->model->graph->n_input; i++)
        inputs[i]->tensor->name = strdup(file->model->graph->input[i]->name);
    ckpt_onnx_free(file);
}

static bool draws_elsewhere(const ckpt_graph *graph) {
    bool draws = false;
    for (int n = 0; n < graph->node_count; n++) {
        const ckpt_epilogue *e = ckpt_node_epilogue(&graph->node[n]);
        draws |= e && e->drop > 0 && e->rng == CKPT_DROP_ONNX_REF;
    }
    return draws && strcmp(CKPT_TEST_BACKEND()->name, "cpu") != 0;
}

static outcome run_case(const char *folder, const char *name, comparison how) {
    char path[2048];
    ckpt_error err;
    ckpt_model model;
    ckpt_onnx_file *inputs[MOST_FILES], *outputs[MOST_FILES];
    ckpt_known_input known[MOST_FILES];
    int input_count = 0, output_count = 0;
    outcome result = PASSED;
    ckpt_model_options options = {.as_written = true, .known = known, .dropout_rng = CKPT_DROP_ONNX_REF};
    while (input_count < MOST_FILES && (inputs[input_count] = open_pb(folder, 0, "input", input_count))) input_count++;
    while (output_count < MOST_FILES && (outputs[output_count] = open_pb(folder, 0, "output", output_count))) output_count++;
    char *own_name[MOST_FILES];
    for (int i = 0; i < input_count; i++) own_name[i] = inputs[i]->tensor->name;
    name_inputs(folder, inputs, input_count);
    for (int i = 0; i < input_count; i++) /* shapes, axes, ratios: constants in every real file */
        if (inputs[i]->tensor->data_type != 1 || inputs[i]->tensor->n_dims == 0)
            if (inputs[i]->tensor->data_type != 6 && inputs[i]->tensor->data_type != 11)
                known[options.known_count++] = (ckpt_known_input){inputs[i]->tensor->name, inputs[i]->tensor};
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    if (ckpt_model_load(path, &options, &model, &err) != CKPT_OK) {
        printf("%s: unsupported: %s\n", name, err.message);
        result = UNSUPPORTED;
    } else if (how == SHAPES) {
        bool ok = model.output_count == output_count;
        for (int i = 0; ok && i < output_count; i++) ok = compare_shape(name, &model, i, outputs[i]);
        result = ok ? PASSED : FAILED;
        ckpt_model_free(&model);
    } else {
        if (ckpt_model_check_trainable(&model, CKPT_TEST_BACKEND()->supports, "this device", &err) != CKPT_OK) {
            printf("%s: unsupported: %s\n", name, err.message);
            result = UNSUPPORTED;
        }
        if (result == PASSED && draws_elsewhere(&model.graph)) result = ELSEWHERE;
        if (result == PASSED) result = run(name, &model, inputs, input_count, outputs, output_count, how) ? PASSED : FAILED;
        ckpt_model_free(&model);
    }
    for (int i = 0; i < input_count; i++) {
        if (inputs[i]->tensor->name != own_name[i]) free(inputs[i]->tensor->name);
        inputs[i]->tensor->name = own_name[i];
        ckpt_onnx_free(inputs[i]);
    }
    for (int i = 0; i < output_count; i++) ckpt_onnx_free(outputs[i]);
    return result;
}

static bool listed(const char *root, const char *name) {
    char path[1024], line[512];
    snprintf(path, sizeof path, "%s/unsupported.txt", root);
    FILE *file = fopen(path, "r");
    bool found = false;
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, " \t\n")] = 0;
        found |= strcmp(line, name) == 0;
    }
    if (file) fclose(file);
    return found;
}

static int not_hidden(const struct dirent *entry) { return strncmp(entry->d_name, "test_", 5) == 0; }

static void run_folder(const char *root, comparison how) {
    struct dirent **entry;
    const int count = scandir(root, &entry, not_hidden, alphasort);
    int tally[4] = {0}, bad = 0;
    if (count <= 0) fail_msg("no cases in %s", root);
    for (int i = 0; i < count; i++) {
        char folder[1024];
        snprintf(folder, sizeof folder, "%s/%s", root, entry[i]->d_name);
        const outcome result = run_case(folder, entry[i]->d_name, how);
        const bool expected = listed(root, entry[i]->d_name);
        tally[result]++;
        bad += result == FAILED || (result == UNSUPPORTED && !expected);
        if (result == PASSED && expected) printf("%s: passes, but is listed as unsupported\n", entry[i]->d_name), bad++;
        free(entry[i]);
    }
    free(entry);
    printf("%d passed, %d failed, %d unsupported, %d for the CPU only\n", tally[PASSED], tally[FAILED], tally[UNSUPPORTED],
           tally[ELSEWHERE]);
    assert_int_equal(bad, 0);
    assert_true(tally[PASSED] > 0);
}

static void test_cases(void **state) { run_folder(*state, VALUES); }
static void test_saved(void **state) { run_folder(*state, SAVED); }

/* Cases whose shapes need more than this importer has: operators or types outside of it. */
static const char *const beyond[] = {
    "test_attention_4d_diff_heads_mask4d_padded_kv", /* nonpad_kv_seqlen */
    "test_range_int32_type_negative_delta",          /* bounds that only the run would know */
};

static void test_shapes(void **state) {
    const char *root = *state;
    int tally[4] = {0}, bad = 0;
    char path[1024], line[512];
    snprintf(path, sizeof path, "%s/tier2-transformer-cnn.txt", root);
    FILE *list = fopen(path, "r");
    if (!list) fail_msg("no list %s", path);
    while (fgets(line, sizeof line, list)) {
        line[strcspn(line, " \t\n")] = 0;
        bool expected = false;
        for (size_t i = 0; i < sizeof beyond / sizeof *beyond; i++) expected |= strcmp(beyond[i], line) == 0;
        snprintf(path, sizeof path, "%s/onnx-node/%s", root, line);
        const outcome result = run_case(path, line, SHAPES);
        tally[result]++;
        if ((result == PASSED) == expected) {
            printf("%s: %s\n", line, expected ? "passes, but is listed as beyond the importer" : "does not pass");
            bad++;
        }
    }
    fclose(list);
    printf("%d passed, %d failed, %d unsupported\n", tally[PASSED], tally[FAILED], tally[UNSUPPORTED]);
    assert_int_equal(bad, 0);
    assert_true(tally[PASSED] > 150);
    printf("%d outputs folded\n", folded);
    assert_true(folded > 15);
}

static int shapes_main(void) {
    char *root = getenv("CKPT_SHARED_DATA");
    if (!root || !*root) {
        printf("skipped: CKPT_SHARED_DATA names no folder with ONNX node tests\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_shapes, root)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "shapes") == 0) return shapes_main();
    if (argc > 2 && strcmp(argv[1], "saved") == 0) {
        const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_saved, argv[2])};
        return cmocka_run_group_tests(tests, NULL, NULL);
    }
    char *root = getenv("CKPT_ONNX_TESTS");
    if (!root || !*root) {
        printf("skipped: CKPT_ONNX_TESTS names no folder of ONNX node tests\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_cases, root)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
