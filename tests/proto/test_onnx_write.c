/* Writing: what is replaced, what is kept, and what happens when it fails. */
#include "onnx_support.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/onnx_convert.h"

static void write_or_fail(ckpt_onnx_file *file, const char *path, const ckpt_onnx_replacement *replacements,
                          size_t count) {
    ckpt_error err;
    if (ckpt_onnx_write(file, path, replacements, count, 0, &err) != CKPT_OK) fail_msg("%s", err.message);
}

static void expect_write_error(ckpt_onnx_file *file, const char *path,
                               const ckpt_onnx_replacement *replacements, size_t count, ckpt_status status,
                               const char *part) {
    ckpt_error err = {0};
    assert_int_equal(ckpt_onnx_write(file, path, replacements, count, 0, &err), status);
    if (!strstr(err.message, part)) fail_msg("'%s' is not in '%s'", part, err.message);
}

static void expect_floats(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor, const float *expected,
                          size_t count) {
    float values[16];
    ckpt_error err;
    if (ckpt_onnx_tensor_read_f32(file, tensor, values, count, &err) != CKPT_OK) fail_msg("%s", err.message);
    assert_memory_equal(values, expected, count * sizeof *values);
}

static void expect_same_bytes(const char *a, const char *b) {
    size_t a_size, b_size;
    uint8_t *a_bytes = get_file(a, &a_size), *b_bytes = get_file(b, &b_size);
    assert_int_equal(a_size, b_size);
    assert_memory_equal(a_bytes, b_bytes, a_size);
    free(a_bytes);
    free(b_bytes);
}

static const float new_w[6] = {1, 2, 3, 4, 5, 6}, new_b[3] = {-1, -2, -3}, new_c[2] = {0.5f, 0.25f};

/* Keys are added and replaced, everything else stays. */
static void metadata_is_set(void **state) {
    small_model m;
    small_model_start(&m);
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx");
    ckpt_error err;
    small_model_save(&m, in);
    ckpt_onnx_file *file = read_or_fail(in);
    assert_int_equal(file->model->n_metadata_props, 0);
    static const char *const set[][2] = {{"ckpt.classes", "[\"a\"]"}, {"author", ""}, {"ckpt.classes", "[\"b\",\"c\"]"}};
    for (int i = 0; i < 3; i++) assert_int_equal(ckpt_onnx_set_metadata(file, set[i][0], set[i][1], &err), CKPT_OK);
    write_or_fail(file, out, NULL, 0);
    ckpt_onnx_free(file);

    file = read_or_fail(out);
    assert_int_equal(file->model->n_metadata_props, 2);
    for (int i = 0; i < 2; i++) {
        const Onnx__StringStringEntryProto *entry = file->model->metadata_props[i];
        assert_string_equal(entry->key, i ? "author" : "ckpt.classes");
        assert_string_equal(entry->value ? entry->value : "", i ? "" : "[\"b\",\"c\"]");
    }
    expect_floats(file, file->model->graph->initializer[0], m.w_data, 6);
    assert_int_equal(ckpt_onnx_set_metadata(file, "author", "someone", &err), CKPT_OK); /* of a file that has some */
    assert_int_equal(ckpt_onnx_set_metadata(file, "more", "x", &err), CKPT_OK);
    write_or_fail(file, in, NULL, 0);
    ckpt_onnx_free(file);
    file = read_or_fail(in);
    assert_int_equal(file->model->n_metadata_props, 3);
    assert_string_equal(file->model->metadata_props[1]->value, "someone");
    ckpt_onnx_free(file);
}

static void replaced_weights_come_back(void **state) {
    small_model m;
    small_model_start(&m);
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx");
    const char *again = in_scratch(state, "again.onnx");
    small_model_save(&m, in);
    ckpt_onnx_file *file = read_or_fail(in);
    const ckpt_onnx_replacement all[] = {{"w", new_w, 6}, {"c", new_c, 2}, {"b", new_b, 3}};
    write_or_fail(file, out, all, 3);
    /* The open model is as it was. */
    expect_floats(file, file->model->graph->initializer[0], m.w_data, 6);
    write_or_fail(file, again, NULL, 0);
    expect_same_bytes(in, again);
    ckpt_onnx_free(file);

    file = read_or_fail(out);
    const Onnx__GraphProto *graph = file->model->graph;
    expect_floats(file, graph->initializer[0], new_w, 6);
    expect_floats(file, graph->initializer[1], new_b, 3);
    const Onnx__TensorProto *c = graph->node[0]->attribute[0]->t;
    expect_floats(file, c, new_c, 2);
    assert_true(graph->initializer[0]->has_raw_data && graph->initializer[1]->n_float_data == 3);
    assert_int_equal(c->n_double_data, 2);
    assert_string_equal(graph->name, "small");
    assert_int_equal(file->model->opset_import[0]->version, 17);
    ckpt_onnx_free(file);
    assert_int_equal(count_files(*state), 3); /* no temporary file left */
}

static void sixteen_bit_weights(void **state) {
    static const int types[] = {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16,
                                ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16};
    static const float values[6] = {1, -2, 0.1f, 65504, 0, 3.1415927f};
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx");
    for (int i = 0; i < 4; i++) {
        small_model m;
        small_model_start(&m);
        int32_t entries[6] = {0};
        m.w.data_type = types[i / 2];
        m.w.raw_data.len = 12;
        if (i % 2) {
            m.w.has_raw_data = 0;
            m.w.int32_data = entries;
            m.w.n_int32_data = 6;
        }
        small_model_save(&m, in);
        ckpt_onnx_file *file = read_or_fail(in);
        write_or_fail(file, out, &(ckpt_onnx_replacement){"w", values, 6}, 1);
        ckpt_onnx_free(file);
        float rounded[6];
        for (int k = 0; k < 6; k++) {
            rounded[k] = i / 2 ? onnx_f32_from_bfloat(onnx_bfloat_from_f32(values[k]))
                               : onnx_f32_from_half(onnx_half_from_f32(values[k]));
        }
        file = read_or_fail(out);
        expect_floats(file, file->model->graph->initializer[0], rounded, 6);
        assert_int_equal(file->model->graph->initializer[0]->n_int32_data, i % 2 ? 6 : 0);
        ckpt_onnx_free(file);
    }
}

/* What numpy's float16 makes infinite of a finite float, and bfloat16 by its definition: half a unit above the largest value
 * and more. Nothing is written then; what rounds, down to zero, is written. */
static void too_large_for_sixteen_bits(void **state) {
    static const struct {
        int type;
        float fits, too_large;
        const char *name;
    } cases[] = {{ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16, 65519.996f, 65520.0f, "FLOAT16"},
                 {ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16, 0x1.fefffep127f, 0x1.ffp127f, "BFLOAT16"}};
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx"), *before = in_scratch(state, "before.onnx");
    static const uint8_t data[12] = {0};
    for (int i = 0; i < 4; i++) {
        small_model m;
        small_model_start(&m);
        m.w.data_type = cases[i / 2].type;
        m.w.raw_data.len = 12;
        if (i % 2) small_model_externalize(&m, "w.bin", NULL, NULL), put_file(in_scratch(state, "w.bin"), data, sizeof data);
        small_model_save(&m, in);
        ckpt_onnx_file *file = read_or_fail(in);
        float values[6] = {1, 1e-30f, -cases[i / 2].fits, INFINITY, NAN, cases[i / 2].fits};
        write_or_fail(file, out, &(ckpt_onnx_replacement){"w", values, 6}, 1);
        write_or_fail(file, before, &(ckpt_onnx_replacement){"w", values, 6}, 1);
        const size_t files = count_files(*state);
        values[4] = -cases[i / 2].too_large;
        expect_write_error(file, out, &(ckpt_onnx_replacement){"w", values, 6}, 1, CKPT_MODEL, cases[i / 2].name);
        expect_write_error(file, out, &(ckpt_onnx_replacement){"w", values, 6}, 1, CKPT_MODEL, "'w': its new value");
        expect_write_error(file, out, &(ckpt_onnx_replacement){"w", values, 6}, 1, CKPT_MODEL, "index 4");
        if (i % 2 == 0) expect_same_bytes(out, before); /* external data has another name in each */
        ckpt_onnx_free(file);
        file = read_or_fail(out);
        float kept[6];
        ckpt_error err;
        assert_int_equal(ckpt_onnx_tensor_read_f32(file, file->model->graph->initializer[0], kept, 6, &err), CKPT_OK);
        assert_true(isnan(kept[4]) && kept[3] == INFINITY && isfinite(kept[5]) && kept[5] == -kept[2]);
        ckpt_onnx_free(file);
        assert_int_equal(count_files(*state), files);
    }
}

static void expect_check_error(ckpt_onnx_file *file, const char *path, const ckpt_onnx_replacement *replacements, size_t count,
                               ckpt_status status, const char *part) {
    ckpt_error err = {0};
    assert_int_equal(ckpt_onnx_check_write(file, path, replacements, count, &err), status);
    if (status != CKPT_OK && !strstr(err.message, part)) fail_msg("'%s' is not in '%s'", part, err.message);
}

/* What is known to fail without the values, before they are trained. */
static void writing_is_checked(void **state) {
    small_model m;
    small_model_start(&m);
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx");
    const ckpt_onnx_replacement all[] = {{"w", NULL, 6}, {"c", NULL, 2}, {"b", NULL, 3}}, none[] = {{"z", NULL, 3}}, size[] = {{"b", NULL, 2}};
    small_model_save(&m, in);
    ckpt_onnx_file *file = read_or_fail(in);
    expect_check_error(file, out, all, 3, CKPT_OK, "");
    expect_check_error(file, out, none, 1, CKPT_MODEL, "'z'");
    expect_check_error(file, out, size, 1, CKPT_MODEL, "3 elements");
    ckpt_onnx_free(file);
    m.w.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT32;
    small_model_save(&m, in);
    file = read_or_fail(in);
    expect_check_error(file, out, all, 3, CKPT_MODEL, "INT32 cannot");
    expect_check_error(file, out, all + 1, 2, CKPT_OK, "");
    ckpt_onnx_free(file);
    small_model_start(&m); /* external data that nothing trained reads, but that is written again */
    small_model_externalize(&m, "w.bin", NULL, NULL);
    small_model_save(&m, in);
    file = read_or_fail(in);
    expect_check_error(file, out, all + 1, 2, CKPT_MODEL, "w.bin");
    put_file(in_scratch(state, "w.bin"), m.w_data, sizeof m.w_data);
    expect_check_error(file, out, all + 1, 2, CKPT_OK, "");
    ckpt_onnx_free(file);
    assert_int_equal(count_files(*state), 2);
}

static void bad_replacements(void **state) {
    small_model m;
    small_model_start(&m);
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx");
    m.b.name = "w";
    small_model_save(&m, in);
    ckpt_onnx_file *file = read_or_fail(in);
    expect_write_error(file, out, &(ckpt_onnx_replacement){"w", new_w, 6}, 1, CKPT_MODEL, "two initializers");
    ckpt_onnx_free(file);
    m.b.name = "b";
    m.w.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT32;
    small_model_save(&m, in);
    file = read_or_fail(in);
    const ckpt_onnx_replacement twice[] = {{"b", new_b, 3}, {"c", new_c, 2}, {"b", new_b, 3}};
    expect_write_error(file, out, twice, 3, CKPT_USAGE, "replaced twice");
    expect_write_error(file, out, &(ckpt_onnx_replacement){"z", new_b, 3}, 1, CKPT_MODEL, "'z'");
    expect_write_error(file, out, &(ckpt_onnx_replacement){"b", new_w, 6}, 1, CKPT_MODEL, "3 elements");
    expect_write_error(file, out, &(ckpt_onnx_replacement){"w", new_w, 6}, 1, CKPT_MODEL, "INT32 cannot");
    ckpt_onnx_free(file);
    assert_int_equal(count_files(*state), 1);
}

/* Fields that no schema knows, at every level, and an enum value that is not in the schema. They are in the
 * order in which protobuf-c writes (known fields by number, then the others), so the bytes can be compared.
 */
static void unknown_fields_are_kept(void **state) {
    static const uint8_t model[] = {
        0x08, 8,                            /* ir_version */
        0x3a, 44,                           /* graph */
        0x0a, 16,                           /*   node */
        0x2a, 8,    0xa0, 0x01, 0x63,       /*     attribute: type 99 */
        0xfa, 0x3f, 0x02, 0x68, 0x69,       /*       field 1023, bytes */
        0xfd, 0x3f, 0x01, 0x02, 0x03, 0x04, /*     field 1023, 32 bits */
        0x2a, 21,                           /*   initializer: FLOAT, "w", 1.0f */
        0x10, 0x01, 0x42, 0x01, 0x77, 0x4a, 0x04, 0x00, 0x00, 0x80, 0x3f,
        0xf9, 0x3f, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, /*     field 1023, 64 bits */
        0xf8, 0x3f, 0x05,                                           /*   field 1023, varint */
        0xf8, 0x3f, 0x85, 0x01,                                     /* field 1023, varint */
    };
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx");
    put_file(in, model, sizeof model);
    ckpt_onnx_file *file = read_or_fail(in);
    assert_int_equal(file->model->base.n_unknown_fields, 1);
    assert_int_equal(file->model->graph->node[0]->attribute[0]->type, 99);
    write_or_fail(file, out, NULL, 0);
    expect_same_bytes(in, out);
    const float two = 2;
    write_or_fail(file, out, &(ckpt_onnx_replacement){"w", &two, 1}, 1);
    ckpt_onnx_free(file);
    size_t size;
    uint8_t *bytes = get_file(out, &size), changed[sizeof model];
    memcpy(changed, model, sizeof model);
    uint8_t *one = memmem(changed, sizeof changed, "\x80\x3f", 2);
    memcpy(one, "\x00\x40", 2); /* 2.0f */
    assert_int_equal(size, sizeof changed);
    assert_memory_equal(bytes, changed, size);
    free(bytes);
}

static void unwritable_output(void **state) {
    small_model m;
    small_model_start(&m);
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx");
    small_model_save(&m, in);
    ckpt_onnx_file *file = read_or_fail(in);
    expect_write_error(file, in_scratch(state, "none/out.onnx"), NULL, 0, CKPT_USAGE, "none/out.onnx");
    expect_write_error(file, in_scratch(state, "dir/"), NULL, 0, CKPT_USAGE, "no file name");
    assert_int_equal(mkdir(in_scratch(state, "dir"), 0700), 0);
    expect_write_error(file, in_scratch(state, "dir"), NULL, 0, CKPT_USAGE, "is a directory");
    expect_write_error(file, "/dev/null", NULL, 0, CKPT_USAGE, "not a regular file");

    /* The disk fills up, as far as write() can tell: the old file stays, no temporary file does. */
    put_file(out, "old", 3);
    struct rlimit saved, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &saved), 0);
    tight = (struct rlimit){16, saved.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    ckpt_error err;
    ckpt_status status = ckpt_onnx_write(file, out, NULL, 0, 0, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &saved), 0);
    assert_int_equal(status, CKPT_FAILED);
    assert_non_null(strstr(err.message, out));
    size_t size;
    uint8_t *old = get_file(out, &size);
    assert_true(size == 3 && memcmp(old, "old", 3) == 0);
    free(old);
    assert_int_equal(count_files(*state), 3);
    ckpt_onnx_free(file);
}

static void output_is_input(void **state) {
    small_model m;
    small_model_start(&m);
    const char *in = in_scratch(state, "in.onnx"), *other = in_scratch(state, "other.onnx");
    small_model_save(&m, in);
    assert_int_equal(symlink("in.onnx", other), 0);
    ckpt_onnx_file *file = read_or_fail(in);
    expect_write_error(file, in, NULL, 0, CKPT_USAGE, "the model that was read");
    expect_write_error(file, other, NULL, 0, CKPT_USAGE, "the model that was read");
    const ckpt_onnx_replacement b = {"b", new_b, 3};
    assert_int_equal(ckpt_onnx_write(file, in, &b, 1, CKPT_ONNX_OVERWRITE_INPUT, NULL), CKPT_OK);
    ckpt_onnx_free(file);
    file = read_or_fail(in);
    expect_floats(file, file->model->graph->initializer[1], new_b, 3);
    ckpt_onnx_free(file);
}

static void mode_by_umask(void **state) {
    small_model m;
    small_model_start(&m);
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx");
    small_model_save(&m, in);
    ckpt_onnx_file *file = read_or_fail(in);
    mode_t old = umask(027);
    write_or_fail(file, out, NULL, 0);
    umask(old);
    struct stat st;
    assert_int_equal(stat(out, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    ckpt_onnx_free(file);
}

static const char *entry_of(const Onnx__TensorProto *tensor, const char *key) {
    for (size_t i = 0; i < tensor->n_external_data; i++) {
        if (strcmp(tensor->external_data[i]->key, key) == 0) return tensor->external_data[i]->value;
    }
    return NULL;
}

/* w is an external initializer, c an external Constant at byte 1 of the same file. */
static void save_external_model(void **state, const char *path, const char *data_name) {
    small_model m;
    small_model_start(&m);
    small_model_externalize(&m, data_name, "17", "24");
    Onnx__StringStringEntryProto extra = ONNX__STRING_STRING_ENTRY_PROTO__INIT, place = extra, offset = extra,
                                 checksum = extra;
    extra.key = "vendor", extra.value = "kept";
    checksum.key = "checksum", checksum.value = "0123";
    m.external[m.w.n_external_data++] = &extra;
    place.key = "location", place.value = (char *)data_name;
    offset.key = "offset", offset.value = "1";
    Onnx__StringStringEntryProto *c_external[] = {&place, &offset, &checksum};
    m.c.n_double_data = 0;
    m.c.has_data_location = 1;
    m.c.data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    m.c.external_data = c_external;
    m.c.n_external_data = 3;
    char bytes[41] = {0};
    memcpy(bytes + 1, m.c_data, 16);
    memcpy(bytes + 17, m.w_data, 24);
    put_file(in_scratch(state, data_name), bytes, sizeof bytes);
    small_model_save(&m, path);
}

static void external_stays_external(void **state) {
    static const float old_c[2] = {0.1f, -0.2f};
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx");
    save_external_model(state, in, "weights.bin");
    ckpt_onnx_file *file = read_or_fail(in);
    write_or_fail(file, out, &(ckpt_onnx_replacement){"w", new_w, 6}, 1);
    assert_string_equal(entry_of(file->model->graph->initializer[0], "location"), "weights.bin");
    ckpt_onnx_free(file);
    file = read_or_fail(out);
    const Onnx__TensorProto *w = file->model->graph->initializer[0];
    const Onnx__TensorProto *c = file->model->graph->node[0]->attribute[0]->t;
    expect_floats(file, w, new_w, 6);
    expect_floats(file, c, old_c, 2);
    assert_string_equal(entry_of(w, "location"), "out.onnx.data");
    assert_string_equal(entry_of(w, "length"), "24");
    assert_string_equal(entry_of(w, "vendor"), "kept");
    assert_null(entry_of(c, "checksum"));
    assert_int_equal(strtoul(entry_of(w, "offset"), NULL, 10) % 4096, 0);
    assert_int_equal(strtoul(entry_of(c, "offset"), NULL, 10) % 4096, 0);
    ckpt_onnx_free(file);
    assert_int_equal(count_files(*state), 4);
}

/* Saving over a model whose data has the name that the new data would get, twice from the same open file. */
static void overwriting_keeps_open_data(void **state) {
    const char *in = in_scratch(state, "in.onnx");
    save_external_model(state, in, "in.onnx.data");
    ckpt_onnx_file *file = read_or_fail(in);
    for (int i = 0; i < 2; i++) {
        const ckpt_onnx_replacement c = {"c", new_c, 2};
        assert_int_equal(ckpt_onnx_write(file, in, &c, 1, CKPT_ONNX_OVERWRITE_INPUT, NULL), CKPT_OK);
        ckpt_onnx_file *saved = read_or_fail(in);
        small_model m;
        small_model_start(&m);
        expect_floats(saved, saved->model->graph->initializer[0], m.w_data, 6);
        expect_floats(saved, saved->model->graph->node[0]->attribute[0]->t, new_c, 2);
        assert_string_equal(entry_of(saved->model->graph->initializer[0], "location"), i ? "in.onnx.2.data" : "in.onnx.1.data");
        ckpt_onnx_free(saved);
        assert_int_equal(count_files(*state), 3); /* the model, its data, the open one's data */
    }
    ckpt_onnx_free(file);
}

static ckpt_onnx_file *save_again(void **state, const char *out, const char *location) {
    ckpt_onnx_file *file = read_or_fail(in_scratch(state, "in.onnx"));
    write_or_fail(file, out, &(ckpt_onnx_replacement){"w", new_w, 6}, 1);
    ckpt_onnx_free(file);
    file = read_or_fail(out);
    assert_string_equal(entry_of(file->model->graph->initializer[0], "location"), location);
    return file;
}

/* Over an earlier output the data gets the other name and the old one is removed; what is not the old model's stays. */
static void data_changes_its_name(void **state) {
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx");
    save_external_model(state, in, "weights.bin");
    put_file(in_scratch(state, "out.onnx.2.data"), "mine", 4);
    static const char *const locations[] = {"out.onnx.data", "out.onnx.1.data", "out.onnx.data"};
    for (int i = 0; i < 3; i++) {
        ckpt_onnx_free(save_again(state, out, locations[i]));
        assert_int_equal(count_files(*state), 5); /* in.onnx, weights.bin, out.onnx, its data, mine */
    }
    /* An old model that finds its data through a link or in another file keeps both. */
    save_external_model(state, out, "out.onnx.data");
    assert_int_equal(symlink("out.onnx.data", in_scratch(state, "link")), 0);
    small_model m;
    small_model_start(&m);
    small_model_externalize(&m, "./link", "17", "24");
    small_model_save(&m, out);
    ckpt_onnx_free(save_again(state, out, "out.onnx.1.data"));
    assert_int_equal(access(in_scratch(state, "out.onnx.2.data"), F_OK), 0);
    small_model_externalize(&m, "other.bin", "0", "24");
    put_file(in_scratch(state, "other.bin"), m.w_data, 24);
    small_model_save(&m, out);
    ckpt_onnx_free(save_again(state, out, "out.onnx.data"));
    assert_int_equal(access(in_scratch(state, "other.bin"), F_OK), 0);
    /* What cannot be read may refer to anything, so nothing that is there is replaced or removed. */
    put_file(out, "PK", 2);
    ckpt_onnx_free(save_again(state, out, "out.onnx.3.data"));
    assert_int_equal(access(in_scratch(state, "out.onnx.data"), F_OK), 0);
    assert_int_equal(access(in_scratch(state, "out.onnx.1.data"), F_OK), 0);
}

static void missing_data_leaves_nothing(void **state) {
    const char *in = in_scratch(state, "in.onnx"), *out = in_scratch(state, "out.onnx");
    save_external_model(state, in, "weights.bin");
    ckpt_onnx_file *file = read_or_fail(in);
    assert_int_equal(unlink(in_scratch(state, "weights.bin")), 0);
    expect_write_error(file, out, NULL, 0, CKPT_MODEL, "missing");
    ckpt_onnx_free(file);
    assert_int_equal(count_files(*state), 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(metadata_is_set),
        CASE(replaced_weights_come_back),
        CASE(sixteen_bit_weights),
        CASE(too_large_for_sixteen_bits),
        CASE(writing_is_checked),
        CASE(bad_replacements),
        CASE(unknown_fields_are_kept),
        CASE(unwritable_output),
        CASE(output_is_input),
        CASE(mode_by_umask),
        CASE(external_stays_external),
        CASE(overwriting_keeps_open_data),
        CASE(data_changes_its_name),
        CASE(missing_data_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
