/* Data at the command line: CSV as tools write it, columns chosen by options, classes that have names; what is said of them, what
 * is saved, and what is refused. The files in data_files stand for those of public reports; the loss of those that can be read
 * was computed by PyTorch in float64. */
#include "cmocka_all.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/onnx_file.h"
#include "run_program.h"

#define FILES "@/tests/cli/data_files/"
#define MODEL FILES "classes2.onnx --device cpu --threads 1 "
#define ONE_STEP "--batch 6 --steps 1 --lr 0 --shuffle off "

static void write_text(const char *name, const char *text) {
    FILE *file = fopen(name, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
}

static void refused(const char *piece, const char *words) {
    program_run run = run_program("train", "%s", words);
    const char *end = strchr(run.err, '\n');
    if (run.status != 2 || !strstr(run.err, piece) || !end || end[1])
        fail_msg("%s: status %d, not '%s': %s", words, run.status, piece, run.err);
    assert_string_equal(run.out, "");
    program_free(&run);
}

/* What it prints, on both streams. */
static void says(const char *words, const char *const *pieces) {
    program_run run = run_program("train", "%s", words);
    if (run.status != 0) fail_msg("%s: status %d: %s", words, run.status, run.err);
    for (; *pieces; pieces++)
        if (!strstr(run.err, *pieces)) fail_msg("%s: '%s' is not in: %s", words, *pieces, run.err);
    program_free(&run);
}

static json_t *train(const char *words) {
    program_run run = run_program("train", "%s --json", words);
    if (run.status != 0) fail_msg("%s: status %d: %s", words, run.status, run.err);
    json_t *document = json_loads(run.out, 0, NULL);
    assert_non_null(document);
    program_free(&run);
    return document;
}

static double first_loss(json_t *document) {
    return json_real_value(json_object_get(json_object_get(document, "loss"), "first"));
}

static void test_csv_of_tools(void **state) {
    (void)state;
    static const char *const read_right[] = {"bom_crlf",  "quoted",  "spaces",    "float_labels", "y_first",
                                             "blank_end", "cr_only", "semicolon", "index",        "named_index"};
    for (size_t i = 0; i < sizeof read_right / sizeof *read_right; i++) {
        char words[256];
        snprintf(words, sizeof words, MODEL "--data " FILES "%s.csv " ONE_STEP, read_right[i]);
        json_t *document = train(words);
        if (fabs(first_loss(document) - 0.897461) > 1e-6) fail_msg("%s: loss %.9g", read_right[i], first_loss(document));
        json_decref(document);
    }
    static const char *const refusals[][2] = {
        {"decimal_comma",
         "line 2, column 'x0': '0,346' has a thousands separator or a decimal comma; write it with a decimal point alone"},
        {"thousands", "line 2, column 'x0': '1,234.5' has a thousands separator or a decimal comma"},
        {"empty_cell", "line 2, column 'x1': is empty; fill it in"},
        {"na", "line 2, column 'x1': 'NA' stands for a missing value"},
        {"trailing_comma", "line 2: has 5 cells, line 1 names 4 columns; remove the separator at the end of the line"},
        {"no_header", "line 1: has only numbers; put a line in front that names the columns"},
        {"class_names", "array 'y' names 1 class, 'cat'; the model has 2"},
        {"utf16", "is UTF-16 text; save it as UTF-8"},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        char words[256];
        snprintf(words, sizeof words, MODEL "--data " FILES "%s.csv " ONE_STEP, refusals[i][0]);
        refused(refusals[i][1], words);
    }
}

static void test_integers(void **state) {
    (void)state;
    refused("int32.npz: array 'x' has the value 3000000000 at row 0, column 0 (counted from 0); the model takes -2147483648 to "
            "2147483647",
            FILES "int32.onnx --device cpu --data " FILES "int32.npz --batch 4 --steps 1");
    write_text("int32.csv", "x0,x1,y\n1,2,0\n3000000000,4,0\n");
    refused("has the value 3000000000 at row 1, column 0", FILES "int32.onnx --device cpu --data int32.csv --batch 2 --steps 1");
    write_text("int32.csv", "x0,x1,y\n1,2,0\n3,4.5,0\n");
    refused("line 3, column 'x1': '4.5' is not a whole number",
            FILES "int32.onnx --device cpu --data int32.csv --batch 2 --steps 1");
}

static void test_options(void **state) {
    (void)state;
    write_text("named.csv", "age,id,kind,height,weight\n1,r1,0,2,3\n4,r2,1,5,6\n16777217,r3,1,7,9\n");
    refused("which column is the target? None is named 'y', 'target', 'targets', 'label', 'labels', 'class'; it has 'age', 'id', "
            "'kind', "
            "'height', 'weight'; choose with --target NAME",
            MODEL "--data named.csv --steps 1");
    refused("left are 4, 'age', 'id', 'height', 'weight'; choose with --features, or leave some out with --drop",
            MODEL "--data named.csv --target kind --steps 1");
    refused("no column is named 'Kind' in --target; the nearest are 'kind' (2)",
            MODEL "--data named.csv --target Kind --steps 1");
    says(MODEL "--data named.csv --target kind --drop id --steps 1 --batch 3",
         (const char *const[]){"data: 3 samples, 'x' of [3,3] -> 'y' of [3] in 2 classes\n",
                               "columns: x <- age, height, weight; y <- kind; dropped: id\n",
                               "named.csv: has 1 whole number that float32 rounds, the first 16777217 in line 4, column 'age'\n",
                               NULL});
    says(MODEL "--data named.csv --target kind --features weight,age,height --steps 1 --batch 3",
         (const char *const[]){"columns: x <- weight, age, height; y <- kind; unused: id\n", NULL});
    static const char *const options[] = {"--target", "--features", "--drop"};
    for (int i = 0; i < 3; i++) {
        char words[128];
        snprintf(words, sizeof words, MODEL "%s y --steps 1", options[i]);
        refused("chooses from a data file; it needs --data", words);
    }
    json_t *document = train(MODEL "--data named.csv --target kind --drop id --steps 1 --batch 3");
    json_t *data = json_object_get(document, "data");
    json_t *expected = json_loads(
        "{\"source\": \"named.csv\", \"samples\": 3, \"dropped\": [\"id\"], \"unused\": [],"
        "\"notes\": [\"named.csv: has 1 whole number that float32 rounds, the first 16777217 in line 4, column 'age'\"],"
        "\"arrays\": [{\"name\": \"x\", \"type\": \"float32\", \"shape\": [3, 3], \"from\": [\"age\", \"height\", \"weight\"], "
        "\"classes\": []},"
        "{\"name\": \"y\", \"type\": \"int64\", \"shape\": [3], \"from\": [\"kind\"], \"classes\": []}]}",
        0, NULL);
    assert_non_null(expected);
    assert_true(json_equal(data, expected));
    json_decref(expected);
    json_decref(document);
}

/* The order of the columns of validation data is theirs; by position they would be other data. */
static void test_validation_by_name(void **state) {
    (void)state;
    write_text("fit.csv", "a,b,c,y\n1,2,3,0\n4,5,6,1\n");
    write_text("same.csv", "y,c,b,a\n0,3,2,1\n1,6,5,4\n");
    write_text("else.csv", "y,a,b,d\n0,3,2,1\n");
    json_t *document = train(MODEL "--data fit.csv --val-data same.csv --batch 2 --epochs 1 --lr 0 --shuffle off");
    const double validation = json_real_value(json_object_get(json_object_get(document, "val"), "loss"));
    assert_true(fabs(validation - first_loss(document)) < 1e-6);
    json_decref(document);
    says(MODEL "--data fit.csv --val-data same.csv --batch 2 --epochs 1",
         (const char *const[]){"data: 2 samples, 'x' of [2,3] -> 'y' of [2] in 2 classes\n",
                               "validation columns: x <- a, b, c; y <- y\n", NULL});
    refused("else.csv: line 1: has no column 'c', which the training data has for the model's input 'x'; add it",
            MODEL "--data fit.csv --val-data else.csv --batch 2 --epochs 1");
}

/* The value of a key of a model's metadata, and how often the key is there. */
static char *metadata(const char *path, const char *key, int *times) {
    ckpt_onnx_file *file;
    ckpt_error err;
    char *value = NULL;
    *times = 0;
    if (ckpt_onnx_read(path, &file, &err) != CKPT_OK) fail_msg("%s", err.message);
    for (size_t i = 0; i < file->model->n_metadata_props; i++) {
        if (strcmp(file->model->metadata_props[i]->key, key) != 0) continue;
        free(value);
        value = strdup(file->model->metadata_props[i]->value);
        ++*times;
    }
    ckpt_onnx_free(file);
    return value;
}

static void expect_metadata(const char *path, const char *key, const char *expected) {
    int times;
    char *value = metadata(path, key, &times);
    assert_int_equal(times, expected ? 1 : 0);
    if (expected) assert_string_equal(value, expected);
    free(value);
}

/* Numbers in the order of the names' bytes; the same training as with the numbers; saved with the model, and a part of what a
 * state belongs to. */
static void test_named_classes(void **state) {
    (void)state;
    write_text("numbers.csv", "x0,x1,x2,y\n1,2,3,1\n4,5,6,0\n7,8,9,1\n");
    write_text("names.csv", "x0,x1,x2,y\n1,2,3,dog\n4,5,6,cat\n7,8,9,dog\n");
    write_text("other.csv", "x0,x1,x2,y\n1,2,3,\"owl \"\"A\"\"\"\n4,5,6,fox\n7,8,9,\"owl \"\"A\"\"\"\n");
    write_text("few.csv", "x0,x1,x2,y\n7,8,9,dog\n");
    write_text("unknown.csv", "x0,x1,x2,y\n7,8,9,dog\n7,8,9,Dog\n");
    json_t *numbers = train(MODEL "--data numbers.csv --batch 3 --steps 2 --save plain.onnx");
    json_t *names = train(MODEL "--data names.csv --val-data few.csv --batch 3 --steps 2 --save named.onnx");
    assert_true(json_equal(json_object_get(numbers, "weights_sha256"), json_object_get(names, "weights_sha256")));
    json_t *classes = json_object_get(json_array_get(json_object_get(json_object_get(names, "data"), "arrays"), 1), "classes");
    assert_int_equal(json_array_size(classes), 2);
    assert_string_equal(json_string_value(json_array_get(classes, 1)), "dog");
    json_decref(numbers);
    json_decref(names);
    expect_metadata("plain.onnx", "ckpt.classes", NULL);
    expect_metadata("named.onnx", "ckpt.classes", "[\"cat\",\"dog\"]");
    says(MODEL "--data names.csv --batch 3 --steps 1", (const char *const[]){"classes: 0 = cat, 1 = dog\n", NULL});
    refused("unknown.csv: line 3, column 'y': 'Dog' is none of the 2 classes of the training data",
            MODEL "--data names.csv --val-data unknown.csv --batch 3 --steps 1");
    refused("numbers.csv: array 'y' has numbers of classes, the training data names",
            MODEL "--data names.csv --val-data numbers.csv --batch 3 --steps 1");

    /* What else the metadata has stays; the names are replaced. */
    ckpt_onnx_file *file;
    ckpt_error err;
    assert_int_equal(ckpt_onnx_read("named.onnx", &file, &err), CKPT_OK);
    assert_int_equal(ckpt_onnx_set_metadata(file, "author", "someone", &err), CKPT_OK);
    assert_int_equal(ckpt_onnx_write(file, "authored.onnx", NULL, 0, 0, &err), CKPT_OK);
    ckpt_onnx_free(file);
    json_decref(train("authored.onnx --device cpu --data other.csv --batch 3 --steps 1 --save again.onnx"));
    expect_metadata("again.onnx", "author", "someone");
    expect_metadata("again.onnx", "ckpt.classes", "[\"fox\",\"owl \\\"A\\\"\"]");

    unlink("run.state");
    json_decref(train(MODEL "--data names.csv --batch 3 --steps 1 --state run.state"));
    json_decref(train(MODEL "--data names.csv --batch 3 --steps 2 --state run.state"));
    refused("data", MODEL "--data other.csv --batch 3 --steps 3 --state run.state");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv_of_tools),  cmocka_unit_test(test_integers),           cmocka_unit_test(test_options),
        cmocka_unit_test(test_named_classes), cmocka_unit_test(test_validation_by_name),
    };
    return cmocka_run_group_tests_name("data at the command line", tests, NULL, NULL);
}
