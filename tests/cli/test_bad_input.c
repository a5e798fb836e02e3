/* Bad input at the command line: one line on stderr that names what is wrong and what to do, the right exit status,
 * nothing on stdout, nothing written, nothing lost. */
#include "cmocka_all.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model_maker.h"
#include "run_program.h"

static void refused(const char *which, int status, const char *piece, const char *words) {
    program_run run = run_program(which, "%s", words);
    const char *end = strchr(run.err, '\n');
    if (run.status != status) fail_msg("%s %s: status %d instead of %d: %s", which, words, run.status, status, run.err);
    if (!strstr(run.err, piece)) fail_msg("%s %s: '%s' is not in: %s", which, words, piece, run.err);
    if (!end || end[1]) fail_msg("%s %s: not one line: %s", which, words, run.err);
    assert_string_equal(run.out, "");
    program_free(&run);
}

static void write_file(const char *name, const void *bytes, size_t size) {
    FILE *file = fopen(name, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static void write_text(const char *name, const char *text) { write_file(name, text, strlen(text)); }

static void test_options(void **state) {
    (void)state;
    static const struct { int status; const char *piece, *words; } cases[] = {
        {2, "model", ""},
        {2, "--strategy", "@/models/digits.onnx --stratgey sqrt"}, /* the nearest option */
        {2, "sqrt", "@/models/digits.onnx --strategy sqr"},
        {2, "--batch", "@/models/digits.onnx --batch 0"},
        {2, "--batch", "@/models/digits.onnx --batch -3"},
        {2, "--batch", "@/models/digits.onnx --batch 1e3"},
        {2, "--batch", "@/models/digits.onnx --batch 99999999999999999999"},
        {2, "--every", "@/models/digits.onnx --every 0"},
        {2, "--every", "@/models/digits.onnx --strategy every"},
        {2, "fc1", "@/models/digits.onnx --layers /fc11/Gemm"}, /* the nearest layers */
        {2, "is not a size", "@/models/digits.onnx --budget much"},
        {2, "--budget", "@/models/digits.onnx --strategy budget"},
        {2, "--micro-batch", "@/models/digits.onnx --batch 10 --micro-batch 3"},
        {2, "tokens", "@/models/digits.onnx --dim tokens=3"},
        {2, "--precision", "@/models/digits.onnx --precision tf32 --device cpu"},
        {2, "--batch", "@/models/digits.onnx --batch"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        refused("plan", cases[i].status, cases[i].piece, cases[i].words);
        refused("train", cases[i].status, cases[i].piece, cases[i].words);
    }
    refused("train", 2, "--lr", "@/models/digits.onnx --lr nan");
    refused("train", 2, "--checkpoint", "@/models/digits.onnx --checkpoint maybe");
    refused("train", 2, "--checkpoint", "@/models/digits.onnx --checkpoint off --strategy sqrt");
}

static void test_models(void **state) {
    (void)state;
    refused("plan", 2, "nowhere.onnx", "nowhere.onnx");
    write_text("empty.onnx", "");
    refused("plan", 3, "empty.onnx", "empty.onnx");
    write_text("text.onnx", "This is no model at all, but it is long enough to look like something.\n");
    refused("plan", 3, "text.onnx", "text.onnx");
    refused("train", 3, "text.onnx", "text.onnx");
    FILE *whole = fopen(CKPT_SOURCE_DIR "/models/digits.onnx", "rb");
    char bytes[60000];
    assert_int_equal(fread(bytes, 1, sizeof bytes, whole), sizeof bytes);
    fclose(whole);
    write_file("cut.onnx", bytes, sizeof bytes);
    refused("plan", 3, "cut.onnx", "cut.onnx");
    mkdir("folder.onnx", 0700);
    program_run run = run_program("plan", "folder.onnx");
    assert_true(run.status == 2 || run.status == 3);
    assert_non_null(strstr(run.err, "folder.onnx"));
    program_free(&run);
}

/* What is not supported is refused with file, node, operator, opset and what would help, and nothing is written. */
static void test_unsupported_operators(void **state) {
    (void)state;
    static const struct {
        const char *which, *op, *inputs, *where, *help;
        int opset;
    } cases[] = {
        {"plan", "LSTM", "h,w,w", "node 'odd' (LSTM, opset 17)", "Where, Xor", 17},
        {"train", "LSTM", "h,w,w", "node 'odd' (LSTM, opset 7)", "export the model without it; supported are Abs, ", 7},
        {"train", "custom:Thing", "h", "node 'odd' (custom.Thing, opset 0)", "export the model without it", 17},
        {"train", "Gather", "h,index", "node 'odd' (Gather, opset 17)", "planned (ckptplan) but not trained on cpu yet; to train, export", 17},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        maker m;
        maker_start(&m, cases[i].opset);
        maker_input(&m, "x", 2, (int64_t[]){-1, 4});
        maker_weight(&m, "w", 2, (int64_t[]){4, 4});
        maker_ints(&m, "index", 1, (int64_t[]){0});
        maker_node(&m, "MatMul", "fc", "x,w", "h", NULL);
        maker_node(&m, cases[i].op, "odd", cases[i].inputs, "y", strcmp(cases[i].op, "Gather") == 0 ? "axis=1" : NULL);
        maker_output(&m, "y");
        maker_write(&m, "odd.onnx");
        unlink("odd_saved.onnx");
        program_run run = run_program(cases[i].which, "odd.onnx --device cpu%s", *cases[i].which == 't' ? " --save odd_saved.onnx" : "");
        if (run.status != 3 || !strstr(run.err, "odd.onnx: ") || !strstr(run.err, cases[i].where) || !strstr(run.err, cases[i].help))
            fail_msg("%s: status %d: %s", cases[i].op, run.status, run.err);
        assert_string_equal(run.out, "");
        assert_int_not_equal(access("odd_saved.onnx", F_OK), 0);
        program_free(&run);
    }
}

static void csv(const char *name, int columns, const char *cell, const char *label) {
    FILE *file = fopen(name, "w");
    for (int i = 0; i < columns; i++) fprintf(file, "p%d,", i);
    fprintf(file, "y\n");
    for (int row = 0; row < 3; row++) {
        for (int i = 0; i < columns; i++) fprintf(file, "%s,", row == 1 && i == 2 ? cell : "0.5");
        fprintf(file, "%s\n", row == 2 ? label : "1");
    }
    fclose(file);
}

static void test_data(void **state) {
    (void)state;
    refused("train", 2, "nowhere.npz", "@/models/digits.onnx --data nowhere.npz");
    csv("narrow.csv", 63, "0.5", "1");
    refused("train", 2, "63", "@/models/digits.onnx --data narrow.csv");
    csv("nan.csv", 64, "nan", "1");
    refused("train", 2, "nan.csv", "@/models/digits.onnx --data nan.csv");
    csv("word.csv", 64, "abc", "1");
    refused("train", 2, "word.csv", "@/models/digits.onnx --data word.csv");
    csv("label.csv", 64, "0.5", "10");
    refused("train", 2, "10", "@/models/digits.onnx --data label.csv");
    csv("negative.csv", 64, "0.5", "-1");
    refused("train", 2, "-1", "@/models/digits.onnx --data negative.csv");
    refused("train", 2, "digits.onnx", "@/models/digits.onnx --data @/models/digits.onnx");
    csv("good.csv", 64, "0.25", "3"); /* the same form without a fault trains */
    program_run run = run_program("train", "@/models/digits.onnx --data good.csv --steps 2");
    assert_int_equal(run.status, 0);
    assert_non_null(strstr(run.out, "Peak memory usage: "));
    assert_non_null(strstr(run.out, "with Checkpoint = off"));
    program_free(&run);
}

/* Outputs that cannot be written are found out before training; what was there stays. */
static void test_outputs(void **state) {
    (void)state;
    refused("train", 2, "nofolder", "@/models/digits.onnx --save nofolder/out.onnx");
    refused("train", 2, "nofolder", "@/models/digits.onnx --log nofolder/log --steps 1 --shuffle on --data good.csv");
    write_text("model.onnx", "");
    program_run run = run_program("train", "@/models/digits.onnx --steps 1 --save copy.onnx");
    assert_int_equal(run.status, 0);
    program_free(&run);
    refused("train", 2, "--overwrite", "copy.onnx --steps 1 --save copy.onnx");
    run = run_program("train", "copy.onnx --steps 1 --save copy.onnx --overwrite");
    assert_int_equal(run.status, 0);
    program_free(&run);
    refused("plan", 4, "smallest feasible", "copy.onnx --budget 1k -o plan-never.json");
    assert_int_equal(access("plan-never.json", F_OK), -1);
}

/* A diverging run exits with 6 and writes no model. */
static void test_divergence(void **state) {
    (void)state;
    unlink("diverged.onnx");
    program_run run = run_program("train", "@/models/digits.onnx --steps 200 --lr 1e6 --save diverged.onnx");
    assert_int_equal(run.status, 6);
    assert_non_null(strstr(run.err, "--lr"));
    assert_int_equal(access("diverged.onnx", F_OK), -1);
    program_free(&run);
}

/* The run ends with this status and one line that holds `piece`, behind the lines that say what runs. */
static void fails_with(int status, const char *piece, const char *words) {
    program_run run = run_program("train", "%s", words);
    if (run.status != status || !strstr(run.err, piece)) fail_msg("%s: status %d, '%s' in: %s", words, run.status, piece, run.err);
    program_free(&run);
}

static void file_holds(const char *name, const char *text) {
    char got[64] = "";
    FILE *file = fopen(name, "rb");
    assert_non_null(file);
    got[fread(got, 1, sizeof got - 1, file)] = 0;
    fclose(file);
    assert_string_equal(got, text);
}

/* One step takes the weight from 0 to 2e6 * lr: with 0.5 beyond what FLOAT16 holds. */
static void test_too_large_for_the_file(void **state) {
    (void)state;
    maker m;
    int32_t zero[1] = {0};
    maker_start(&m, 17);
    maker_input(&m, "x", 2, (int64_t[]){-1, 1});
    Onnx__TensorProto *w = maker_weight(&m, "w", 2, (int64_t[]){1, 1});
    w->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16;
    w->n_float_data = 0, w->n_int32_data = 1, w->int32_data = zero;
    maker_node(&m, "MatMul", "fc", "x,w", "y", NULL);
    maker_output(&m, "y");
    maker_write(&m, "half.onnx");
    write_text("big.csv", "x,y\n1,1000000\n");
    write_text("kept.onnx", "as it was");
    fails_with(3, "--save: half.onnx: tensor 'w': its new value 1e+06 at index 0 does not fit in its type FLOAT16; convert the model to FLOAT",
               "half.onnx --data big.csv --batch 1 --steps 1 --lr 0.5 --loss mse --device cpu --save kept.onnx");
    file_holds("kept.onnx", "as it was");
    program_run run = run_program("train", "half.onnx --data big.csv --batch 1 --steps 1 --lr 0.03 --loss mse --device cpu --save fits.onnx");
    if (run.status != 0) fail_msg("status %d: %s", run.status, run.err);
    program_free(&run);
}

/* A weight that stands in an attribute which --save cannot change is trained without --save, and refused at once with it. */
static void test_weight_without_a_place(void **state) {
    (void)state;
    static float slopes[4] = {0.1f, 0.2f, 0.3f, 0.4f};
    maker m;
    maker_start(&m, 17);
    maker_input(&m, "x", 2, (int64_t[]){-1, 4});
    maker_node(&m, "Constant", "slopes", "", "s", "value_floats=0.1");
    m.nodes[0]->attribute[0]->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS;
    m.nodes[0]->attribute[0]->floats = slopes, m.nodes[0]->attribute[0]->n_floats = 4;
    maker_node(&m, "PRelu", "act", "x,s", "y", NULL);
    maker_output(&m, "y");
    maker_write(&m, "place.onnx");
    refused("train", 3, "--save: place.onnx: no initializer or Constant tensor is named 's': new values of it have no place; --freeze",
            "place.onnx --steps 1 --loss mse --device cpu --save placed.onnx");
    assert_int_equal(access("placed.onnx", F_OK), -1);
    program_run run = run_program("train", "place.onnx --steps 1 --loss mse --device cpu");
    if (run.status != 0) fail_msg("status %d: %s", run.status, run.err);
    program_free(&run);
}

static void test_sparse_value(void **state) {
    (void)state;
    maker m;
    maker_start(&m, 17);
    maker_input(&m, "x", 2, (int64_t[]){-1, 4});
    maker_node(&m, "Constant", "sparse", "", "s", "sparse_value=0.1");
    maker_node(&m, "Mul", "times", "x,s", "y", NULL);
    maker_output(&m, "y");
    maker_write(&m, "sparse.onnx");
    refused("plan", 3, "node 'sparse' (Constant, opset 17): its value is a sparse tensor", "sparse.onnx");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options), cmocka_unit_test(test_models), cmocka_unit_test(test_unsupported_operators),
        cmocka_unit_test(test_data),    cmocka_unit_test(test_outputs), cmocka_unit_test(test_divergence),
        cmocka_unit_test(test_too_large_for_the_file), cmocka_unit_test(test_weight_without_a_place), cmocka_unit_test(test_sparse_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
