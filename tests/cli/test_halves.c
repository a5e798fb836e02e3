/* Models whose weights are float16 or bfloat16, trained with --precision bf16: the training is that of the same weights in a
 * FLOAT file, bit for bit, and what is saved has the file's own types and fields, with the trained weights rounded. */
#include "cmocka_all.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/onnx_convert.h"
#include "run_program.h"

enum { FLOAT = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT };

static ckpt_onnx_file *read_model(const char *path) {
    ckpt_onnx_file *file;
    ckpt_error err;
    if (ckpt_onnx_read(path, &file, &err) != CKPT_OK) fail_msg("%s", err.message);
    return file;
}

/* malloc'd */
static float *read_values(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor, size_t *count) {
    ckpt_onnx_tensor_info info;
    ckpt_error err;
    if (ckpt_onnx_tensor_describe(file, tensor, &info, &err) != CKPT_OK) fail_msg("%s", err.message);
    float *values = calloc((size_t)info.count + 1, sizeof *values);
    assert_non_null(values);
    if (ckpt_onnx_tensor_read_f32(file, tensor, values, (size_t)info.count, &err) != CKPT_OK) fail_msg("%s", err.message);
    *count = (size_t)info.count;
    return values;
}

static void round_to(int type, float *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        values[i] = type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16 ? onnx_f32_from_half(onnx_half_from_f32(values[i]))
                                                                   : onnx_f32_from_bfloat(onnx_bfloat_from_f32(values[i]));
}

/* The tensors' memory, given back at the end of a case. */
typedef struct arena {
    void *at[128];
    size_t count;
} arena;

static void *keep(arena *a, void *memory) {
    assert_true(memory && a->count < sizeof a->at / sizeof *a->at);
    return a->at[a->count++] = memory;
}

/* Rounds the FLOAT weight and stores it as `stored`: in raw_data or, where the type is of 16 bits, in int32_data. */
static void convert(const ckpt_onnx_file *file, Onnx__TensorProto *tensor, int rounded, int stored, bool raw, arena *a) {
    size_t count;
    float *values = keep(a, read_values(file, tensor, &count));
    round_to(rounded, values, count);
    const onnx_type *type = onnx_type_find(stored);
    tensor->data_type = stored;
    tensor->n_float_data = 0;
    tensor->has_raw_data = raw || stored == FLOAT;
    tensor->raw_data.data = keep(a, calloc(count + 1, sizeof(float)));
    tensor->raw_data.len = count * type->bits / 8;
    type->from_f32(values, tensor->raw_data.data, count);
    if (tensor->has_raw_data) return;
    tensor->n_int32_data = count;
    tensor->int32_data = keep(a, calloc(count + 1, sizeof(int32_t)));
    for (size_t i = 0; i < count; i++) tensor->int32_data[i] = ((const uint16_t *)(const void *)tensor->raw_data.data)[i];
}

static void convert_values(Onnx__ValueInfoProto **list, size_t count, int type) {
    for (size_t i = 0; i < count; i++) {
        Onnx__TypeProto *t = list[i]->type;
        if (t && t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE && t->tensor_type->elem_type == FLOAT)
            t->tensor_type->elem_type = type;
    }
}

static void write_model(const Onnx__ModelProto *model, const char *path) {
    const size_t size = onnx__model_proto__get_packed_size(model);
    uint8_t *bytes = malloc(size);
    FILE *out = fopen(path, "wb");
    assert_true(bytes && out);
    onnx__model_proto__pack(model, bytes);
    assert_int_equal(fwrite(bytes, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
    free(bytes);
}

/* The model of the tree at `from` with its weights rounded to `rounded` and stored as `stored`. */
static void write_converted(const char *from, const char *to, int rounded, int stored) {
    arena a = {0};
    ckpt_onnx_file *file = read_model(from);
    Onnx__GraphProto *graph = file->model->graph;
    const Onnx__TensorProto *originals[32];
    assert_in_range(graph->n_initializer, 2, 32);
    Onnx__TensorProto copies[32];
    for (size_t i = 0; i < graph->n_initializer; i++) {
        originals[i] = graph->initializer[i];
        copies[i] = *originals[i];
        if (copies[i].data_type == FLOAT) convert(file, &copies[i], rounded, stored, i % 2 == 0, &a);
        graph->initializer[i] = &copies[i];
    }
    convert_values(graph->input, graph->n_input, stored);
    convert_values(graph->output, graph->n_output, stored);
    convert_values(graph->value_info, graph->n_value_info, stored);
    write_model(file->model, to);
    for (size_t i = 0; i < graph->n_initializer; i++) graph->initializer[i] = (Onnx__TensorProto *)(uintptr_t)originals[i];
    ckpt_onnx_free(file);
    for (size_t i = 0; i < a.count; i++) free(a.at[i]);
}

static json_t *train(const char *model, const char *words, const char *saved) {
    program_run run = run_program("train", "%s %s --threads 1 --json --save %s", model, words, saved);
    if (run.status != 0) fail_msg("%s %s: status %d: %s", model, words, run.status, run.err);
    json_t *document = json_loads(run.out, 0, NULL);
    assert_non_null(document);
    program_free(&run);
    return document;
}

static bool same(const json_t *a, const json_t *b, const char *key) {
    assert_non_null(json_object_get(a, key));
    return json_equal(json_object_get(a, key), json_object_get(b, key));
}

/* `saved` against the file that was read and the same training saved in floats. Returns how many weights moved, -1 where one
 * is not that of `wide`, rounded. */
static int compare_saved(const char *read, const char *saved, const char *wide, int type) {
    ckpt_onnx_file *files[3] = {read_model(read), read_model(saved), read_model(wide)};
    const Onnx__GraphProto *before = files[0]->model->graph, *after = files[1]->model->graph;
    int moved = 0, halves = 0;
    bool equal = true;
    assert_int_equal(before->n_initializer, after->n_initializer);
    for (size_t i = 0; i < before->n_initializer; i++) {
        const Onnx__TensorProto *a = before->initializer[i], *b = after->initializer[i];
        assert_string_equal(a->name, b->name);
        assert_int_equal(a->data_type, b->data_type);
        assert_int_equal(a->has_raw_data, b->has_raw_data);
        assert_int_equal(a->n_int32_data, b->n_int32_data);
        if (a->data_type != type) continue;
        halves++;
        size_t count[3];
        float *values[3];
        for (int k = 0; k < 3; k++) values[k] = read_values(files[k], files[k]->model->graph->initializer[i], &count[k]);
        assert_int_equal(count[1], count[2]);
        round_to(type, values[2], count[2]);
        equal = equal && memcmp(values[1], values[2], sizeof(float) * count[2]) == 0;
        moved += memcmp(values[0], values[1], sizeof(float) * count[0]) != 0;
        for (int k = 0; k < 3; k++) free(values[k]);
    }
    assert_true(halves > 1);
    for (int k = 0; k < 3; k++) ckpt_onnx_free(files[k]);
    return equal ? moved : -1;
}

static void check_model(const char *from, const char *words) {
    static const int types[] = {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16, ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16};
    char bf16[256];
    snprintf(bf16, sizeof bf16, "%s --precision bf16", words);
    for (size_t i = 0; i < 2; i++) {
        write_converted(from, "half.onnx", types[i], types[i]);
        write_converted(from, "wide.onnx", types[i], FLOAT);
        json_t *half = train("half.onnx", bf16, "half_saved.onnx"), *wide = train("wide.onnx", bf16, "wide_saved.onnx");
        json_t *exact = train("half.onnx", words, "exact_saved.onnx");
        if (!same(half, wide, "weights_sha256") || !same(half, wide, "loss"))
            fail_msg("%s: not the training of its weights in floats", from);
        assert_false(same(half, exact, "weights_sha256")); /* the control: the option does something */
        if (compare_saved("half.onnx", "half_saved.onnx", "wide_saved.onnx", types[i]) < 2)
            fail_msg("%s: nothing was trained", from);
        assert_int_equal(compare_saved("half.onnx", "half.onnx", "wide.onnx", types[i]), 0);
        assert_int_equal(compare_saved("half.onnx", "exact_saved.onnx", "wide_saved.onnx", types[i]), -1);
        json_decref(half), json_decref(wide), json_decref(exact);
        program_run again = run_program("train", "half_saved.onnx %s --threads 1", bf16); /* what was saved can be read */
        if (again.status != 0) fail_msg("%s", again.err);
        program_free(&again);
    }
}

static void test_digits(void **state) {
    (void)state;
    check_model(CKPT_SOURCE_DIR "/models/digits.onnx", "--data @/models/digits_val.npz --batch 50 --steps 8 --optimizer adam");
}

static void test_residual(void **state) {
    (void)state;
    check_model(CKPT_SOURCE_DIR "/models/mlp_residual.onnx", "--batch 16 --steps 6 --lr 0.05");
}

/* Running statistics are saved as weights are. */
static void test_statistics(void **state) {
    (void)state;
    check_model(CKPT_SOURCE_DIR "/tests/golden/training/batchnorm_sgd/model.onnx", "--batch 16 --steps 6 --lr 0.05");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digits),
        cmocka_unit_test(test_residual),
        cmocka_unit_test(test_statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
