/* Shapes, types and data of tensors, inline and external. */
#include "onnx_support.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/onnx_convert.h"

/* Saves and reads `m`, describes its first initializer and expects an error with `part`. */
static void expect_tensor_error(void **state, const small_model *m, const char *part) {
    const char *path = in_scratch(state, "m.onnx");
    small_model_save(m, path);
    ckpt_onnx_file *file = read_or_fail(path);
    ckpt_onnx_tensor_info info;
    ckpt_error err = {0};
    assert_int_equal(ckpt_onnx_tensor_describe(file, file->model->graph->initializer[0], &info, &err),
                     CKPT_MODEL);
    if (!strstr(err.message, part)) fail_msg("'%s' is not in '%s'", part, err.message);
    assert_ptr_equal(strstr(err.message, path), err.message);
    assert_non_null(strstr(err.message, "tensor 'w'"));
    float floats[6];
    assert_int_equal(ckpt_onnx_tensor_read_f32(file, file->model->graph->initializer[0], floats, 6, NULL),
                     CKPT_MODEL);
    ckpt_onnx_free(file);
}

static void reads_inline(void **state) {
    small_model m;
    small_model_start(&m);
    const char *path = in_scratch(state, "m.onnx");
    small_model_save(&m, path);
    ckpt_onnx_file *file = read_or_fail(path);
    ckpt_onnx_tensor_info info;
    float values[6];
    for (int i = 0; i < 2; i++) {
        const Onnx__TensorProto *tensor = file->model->graph->initializer[i];
        assert_int_equal(ckpt_onnx_tensor_describe(file, tensor, &info, NULL), CKPT_OK);
        assert_int_equal(info.type, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT);
        assert_int_equal(info.rank, i == 0 ? 2 : 1);
        assert_int_equal(info.count, i == 0 ? 6 : 3);
        assert_int_equal(info.bytes, 4 * info.count);
        assert_false(info.external);
        assert_int_equal(ckpt_onnx_tensor_read(file, tensor, values, info.bytes, NULL), CKPT_OK);
        assert_memory_equal(values, i == 0 ? m.w_data : m.b_data, info.bytes);
        assert_int_equal(ckpt_onnx_tensor_read(file, tensor, values, info.bytes - 1, NULL), CKPT_MODEL);
        assert_int_equal(ckpt_onnx_tensor_read_f32(file, tensor, values, info.count + 1, NULL), CKPT_MODEL);
    }
    float doubles[2];
    const Onnx__TensorProto *c = file->model->graph->node[0]->attribute[0]->t;
    assert_int_equal(ckpt_onnx_tensor_read_f32(file, c, doubles, 2, NULL), CKPT_OK);
    assert_true(doubles[0] == 0.1f && doubles[1] == -0.2f);
    int64_t ints[2];
    assert_int_equal(ckpt_onnx_tensor_read_i64(file, c, ints, 2, NULL), CKPT_MODEL);
    ckpt_onnx_free(file);
}

static void bad_shapes(void **state) {
    small_model m;
    small_model_start(&m);
    m.w_dims[0] = -2;
    expect_tensor_error(state, &m, "dimension 0 is -2");
    m.w_dims[0] = INT64_MAX, m.w_dims[1] = INT64_MAX;
    expect_tensor_error(state, &m, "2^64");
    m.w_dims[0] = INT64_MAX, m.w_dims[1] = 2;
    expect_tensor_error(state, &m, "do not fit in memory");
    m.w_dims[0] = 1000000000, m.w_dims[1] = 1000; /* 4 TB: refused without allocating */
    expect_tensor_error(state, &m, "raw_data has 24 bytes");
    int64_t zero_and_overflow[] = {0, INT64_MAX, INT64_MAX};
    m.w.dims = zero_and_overflow;
    m.w.n_dims = 3;
    expect_tensor_error(state, &m, "2^64");
}

static void bad_data(void **state) {
    small_model m;
    small_model_start(&m);
    m.w.raw_data.len = 20;
    expect_tensor_error(state, &m, "raw_data has 20 bytes");
    m.w.has_raw_data = 0;
    expect_tensor_error(state, &m, "no data");
    m.w.float_data = m.w_data;
    m.w.n_float_data = 5;
    expect_tensor_error(state, &m, "float_data has 5 entries");
    m.w.has_raw_data = 1;
    expect_tensor_error(state, &m, "both raw_data and float_data");
    m.w.has_raw_data = 0;
    m.w.n_float_data = 6;
    m.w.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE;
    expect_tensor_error(state, &m, "where type DOUBLE cannot be");
    m.w.data_type = 99;
    expect_tensor_error(state, &m, "data_type is 99");
    m.w.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    Onnx__TensorProto__Segment segment = ONNX__TENSOR_PROTO__SEGMENT__INIT;
    m.w.segment = &segment;
    expect_tensor_error(state, &m, "segments");
    m.w.segment = NULL;
    m.w.has_data_location = 1;
    m.w.data_location = 7;
    expect_tensor_error(state, &m, "data_location 7");
}

/* ---- External data ---------------------------------------------------------------------------------- */

static void reads_external(void **state) {
    small_model m;
    small_model_start(&m);
    small_model_externalize(&m, "sub//./w.bin", "8", "24");
    char bytes[40] = {0};
    memcpy(bytes + 8, m.w_data, 24);
    assert_int_equal(mkdir(in_scratch(state, "sub"), 0700), 0);
    put_file(in_scratch(state, "sub/w.bin"), bytes, sizeof bytes);
    const char *path = in_scratch(state, "m.onnx");
    small_model_save(&m, path);
    ckpt_onnx_file *file = read_or_fail(path);
    ckpt_onnx_tensor_info info;
    float values[6];
    const Onnx__TensorProto *tensor = file->model->graph->initializer[0];
    assert_int_equal(ckpt_onnx_tensor_describe(file, tensor, &info, NULL), CKPT_OK);
    assert_true(info.external && info.bytes == 24);
    assert_int_equal(ckpt_onnx_tensor_read(file, tensor, values, 24, NULL), CKPT_OK);
    assert_memory_equal(values, m.w_data, 24);
    memset(values, 0, sizeof values);
    assert_int_equal(ckpt_onnx_tensor_read_f32(file, tensor, values, 6, NULL), CKPT_OK);
    assert_memory_equal(values, m.w_data, 24);
    ckpt_onnx_free(file);
}

static void external_places(void **state) {
    small_model m;
    small_model_start(&m);
    put_file(in_scratch(state, "w.bin"), m.w_data, 24);
    assert_int_equal(mkdir(in_scratch(state, "dir"), 0700), 0);
    assert_int_equal(symlink("w.bin", in_scratch(state, "soft.bin")), 0);
    assert_int_equal(symlink("dir", in_scratch(state, "softdir")), 0);
    put_file(in_scratch(state, "dir/in.bin"), m.w_data, 24);
    put_file(in_scratch(state, "two.bin"), m.w_data, 24);
    assert_int_equal(link(in_scratch(state, "two.bin"), in_scratch(state, "hard.bin")), 0);
    assert_int_equal(mkfifo(in_scratch(state, "pipe"), 0600), 0);
    static const char *const cases[][2] = {
        {"", "no location"},
        {"/etc/hostname", "absolute"},
        {"../w.bin", ".."},
        {"dir/../w.bin", ".."},
        {"dir/..", ".."},
        {"soft.bin", "symbolic link"},
        {"softdir/in.bin", "softdir"},
        {"hard.bin", "hard links"},
        {"missing.bin", "missing"},
        {"dir", "regular file"},
        {"pipe", "regular file"},
        {"w.bin/x", "cannot be opened"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        small_model_externalize(&m, cases[i][0], NULL, NULL);
        expect_tensor_error(state, &m, cases[i][1]);
    }
    char name[400];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    small_model_externalize(&m, name, NULL, NULL);
    expect_tensor_error(state, &m, "too long a name");
}

static void external_ranges(void **state) {
    small_model m;
    small_model_start(&m);
    put_file(in_scratch(state, "w.bin"), m.w_data, 24);
    static const char *const cases[][3] = {
        {"1", NULL, "has 24 bytes"},
        {"-1", NULL, "offset '-1'"},
        {"", NULL, "offset ''"},
        {"0x10", NULL, "offset '0x10'"},
        {" 0", NULL, "offset ' 0'"},
        {"0", "+24", "length '+24'"},
        {"0", "23", "length of 23"},
        {"0", "25", "length of 25"},
        {"18446744073709551616", NULL, "offset"},
        {"18446744073709551615", NULL, "has 24 bytes"}, /* offset + length overflows */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        small_model_externalize(&m, "w.bin", cases[i][0], cases[i][1]);
        expect_tensor_error(state, &m, cases[i][2]);
    }
    small_model_externalize(&m, "w.bin", "0", "24");
    m.entries[2].key = "offset";
    expect_tensor_error(state, &m, "'offset' twice");
    m.entries[1].key = "location";
    expect_tensor_error(state, &m, "'location' twice");
    small_model_externalize(&m, "w.bin", NULL, NULL);
    m.w.has_raw_data = 1;
    m.w.raw_data = (ProtobufCBinaryData){24, (uint8_t *)m.w_data};
    expect_tensor_error(state, &m, "both raw_data and external data");
}

/* ---- Types ------------------------------------------------------------------------------------------ */

typedef struct type_case {
    int type;
    size_t count;
    const char *raw; /* as in the file */
    size_t raw_bytes;
    float floats[2];
    int64_t ints[2];
    bool has_ints;
} type_case;

static void element_types(void **state) {
#define T(name) ONNX__TENSOR_PROTO__DATA_TYPE__##name
    static const type_case cases[] = {
        {T(INT8), 2, "\xff\x02", 2, {-1, 2}, {-1, 2}, true},
        {T(UINT8), 2, "\xff\x02", 2, {255, 2}, {255, 2}, true},
        {T(INT16), 2, "\xff\xff\2\1", 4, {-1, 258}, {-1, 258}, true},
        {T(UINT16), 2, "\xff\xff\2\1", 4, {65535, 258}, {65535, 258}, true},
        {T(INT32), 1, "\xfe\xff\xff\xff", 4, {-2}, {-2}, true},
        {T(UINT32), 1, "\xfe\xff\xff\xff", 4, {4294967296.0f}, {4294967294}, true},
        {T(INT64), 1, "\xfe\xff\xff\xff\xff\xff\xff\xff", 8, {-2}, {-2}, true},
        {T(UINT64), 1, "\5\0\0\0\0\0\0\0", 8, {5}, {5}, true},
        {T(UINT64), 1, "\0\0\0\0\0\0\0\x80", 8, {0x1p63f}, {0}, false}, /* too large for int64 */
        {T(BOOL), 2, "\0\7", 2, {0, 1}, {0, 1}, true},
        {T(FLOAT16), 2, "\0\x3c\1\x80", 4, {1, -0x1p-24f}, {0}, false},
        {T(BFLOAT16), 2, "\x80\x3f\0\xc0", 4, {1, -2}, {0}, false},
        {T(DOUBLE), 1, "\0\0\0\0\0\0\xf8\x3f", 8, {1.5f}, {0}, false},
    };
#undef T
    const char *path = in_scratch(state, "m.onnx");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const type_case *t = &cases[i];
        small_model m;
        small_model_start(&m);
        m.w.data_type = t->type;
        m.w_dims[0] = 1, m.w_dims[1] = (int64_t)t->count;
        m.w.raw_data = (ProtobufCBinaryData){t->raw_bytes, (uint8_t *)t->raw};
        small_model_save(&m, path);
        ckpt_onnx_file *file = read_or_fail(path);
        const Onnx__TensorProto *tensor = file->model->graph->initializer[0];
        float floats[2];
        int64_t ints[2];
        assert_int_equal(ckpt_onnx_tensor_read_f32(file, tensor, floats, t->count, NULL), CKPT_OK);
        assert_memory_equal(floats, t->floats, t->count * sizeof *floats);
        ckpt_status status = ckpt_onnx_tensor_read_i64(file, tensor, ints, t->count, NULL);
        assert_int_equal(status, t->has_ints ? CKPT_OK : CKPT_MODEL);
        if (t->has_ints) assert_memory_equal(ints, t->ints, t->count * sizeof *ints);
        ckpt_onnx_free(file);
    }
}

/* 16 bits in int32_data, with the sign or with zeros above; 4 bits in packed bytes. */
static void narrow_in_int32_data(void **state) {
    int32_t entries[] = {-16384 /* 0xc000 */, 0x3c00, 70000};
    const char *path = in_scratch(state, "m.onnx");
    small_model m;
    small_model_start(&m);
    m.w.has_raw_data = 0;
    m.w.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16;
    m.w_dims[0] = 1, m.w_dims[1] = 2;
    m.w.int32_data = entries;
    m.w.n_int32_data = 2;
    small_model_save(&m, path);
    ckpt_onnx_file *file = read_or_fail(path);
    float floats[2];
    assert_int_equal(ckpt_onnx_tensor_read_f32(file, file->model->graph->initializer[0], floats, 2, NULL),
                     CKPT_OK);
    assert_true(floats[0] == -2.0f && floats[1] == 1.0f);
    ckpt_onnx_free(file);

    m.w.int32_data = entries + 1;
    small_model_save(&m, path);
    file = read_or_fail(path);
    ckpt_error err;
    assert_int_equal(ckpt_onnx_tensor_read_f32(file, file->model->graph->initializer[0], floats, 2, &err),
                     CKPT_MODEL);
    assert_non_null(strstr(err.message, "entry 1 is 70000"));
    ckpt_onnx_free(file);

    m.w.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT4;
    m.w_dims[1] = 3;
    m.w.int32_data = (int32_t[]){0x21, 0x03};
    small_model_save(&m, path);
    file = read_or_fail(path);
    unsigned char packed[2];
    assert_int_equal(ckpt_onnx_tensor_read(file, file->model->graph->initializer[0], packed, 2, NULL),
                     CKPT_OK);
    assert_memory_equal(packed, "\x21\x03", 2);
    assert_int_equal(ckpt_onnx_tensor_read_f32(file, file->model->graph->initializer[0], floats, 3, NULL),
                     CKPT_MODEL);
    ckpt_onnx_free(file);
}

/* All 65,536 halves and bfloats survive the way to float and back; halfway cases round to even. */
static void half_precision(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float half = onnx_f32_from_half((uint16_t)bits), bfloat = onnx_f32_from_bfloat((uint16_t)bits);
        if (isnan(half))
            assert_true(isnan(onnx_f32_from_half(onnx_half_from_f32(half))));
        else
            assert_int_equal(onnx_half_from_f32(half), bits);
        if (isnan(bfloat))
            assert_true(isnan(onnx_f32_from_bfloat(onnx_bfloat_from_f32(bfloat))));
        else
            assert_int_equal(onnx_bfloat_from_f32(bfloat), bits);
        /* Halfway to the next half of the same sign, finite: the even one of the two. */
        if ((bits & 0x7fff) >= 0x7bff) continue;
        float middle = (half + onnx_f32_from_half((uint16_t)(bits + 1))) / 2;
        assert_int_equal(onnx_half_from_f32(middle), bits + (bits & 1));
        assert_int_equal(onnx_half_from_f32(nextafterf(middle, half)), bits);
    }
    assert_int_equal(onnx_half_from_f32(65519.996f), 0x7bff);
    assert_int_equal(onnx_half_from_f32(65520.0f), 0x7c00);
    assert_int_equal(onnx_half_from_f32(0x1p-25f), 0);
    assert_int_equal(onnx_half_from_f32(nextafterf(0x1p-25f, 1)), 1);
    assert_int_equal(onnx_half_from_f32(-INFINITY), 0xfc00);
    assert_int_equal(onnx_bfloat_from_f32(1.00390625f), 0x3f80); /* 1 + 2^-8: halfway, to even */
    assert_int_equal(onnx_bfloat_from_f32(1.01171875f), 0x3f82);
}

static void tensor_file(void **state) {
    const char *path = in_scratch(state, "input_0.pb");
    put_file(path, "\x08\2\x10\7\x4a\x10\1\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 22);
    ckpt_onnx_file *file;
    int64_t values[2];
    assert_int_equal(ckpt_onnx_read_tensor_pb(path, &file, NULL), CKPT_OK);
    assert_null(file->model);
    assert_int_equal(ckpt_onnx_tensor_read_i64(file, file->tensor, values, 2, NULL), CKPT_OK);
    assert_true(values[0] == 1 && values[1] == -1);
    ckpt_onnx_free(file);
    ckpt_error err;
    put_file(path, "\x08\2\x10\7\x4a\x10\1\0", 8);
    assert_int_equal(ckpt_onnx_read_tensor_pb(path, &file, &err), CKPT_MODEL);
    assert_non_null(strstr(err.message, "TensorProto.raw_data"));
}

static void large_tensor_in_chunks(void **state) {
    enum { COUNT = 100003 };
    small_model m;
    small_model_start(&m);
    double *data = malloc(COUNT * sizeof *data);
    float *floats = malloc(COUNT * sizeof *floats);
    assert_true(data && floats);
    for (size_t i = 0; i < COUNT; i++) data[i] = (double)i;
    put_file(in_scratch(state, "w.bin"), data, COUNT * sizeof *data);
    small_model_externalize(&m, "w.bin", NULL, NULL);
    m.w.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE;
    m.w_dims[0] = COUNT, m.w_dims[1] = 1;
    const char *path = in_scratch(state, "m.onnx");
    small_model_save(&m, path);
    ckpt_onnx_file *file = read_or_fail(path);
    assert_int_equal(ckpt_onnx_tensor_read_f32(file, file->model->graph->initializer[0], floats, COUNT, NULL),
                     CKPT_OK);
    for (size_t i = 0; i < COUNT; i++) assert_true(floats[i] == (float)i);
    ckpt_onnx_free(file);
    free(data);
    free(floats);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(reads_inline),
        CASE(bad_shapes),
        CASE(bad_data),
        CASE(reads_external),
        CASE(external_places),
        CASE(external_ranges),
        CASE(element_types),
        CASE(narrow_in_int32_data),
        CASE(half_precision),
        CASE(tensor_file),
        CASE(large_tensor_in_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
