/* Golden files that numpy wrote, array formats, and every message about them. */
#include "data_test.h"

static void expect_xy(const char *spec) {
    ckpt_dataset set = load_ok(spec, want_xy, 2);
    float x[24];
    int64_t y[6];
    for (int i = 0; i < 24; i++) x[i] = (float)i * 0.5f;
    for (int i = 0; i < 6; i++) y[i] = i % 3;
    assert_int_equal(set.samples, 6);
    expect_floats(&set.arrays[0], x, 24);
    expect_integers(&set.arrays[1], y, 6);
    assert_string_equal(set.arrays[0].name, "input");
    assert_int_equal(set.arrays[0].rank, 2);
    assert_int_equal(set.arrays[0].dim[1], 4);
    ckpt_dataset_free(&set);
    expect_empty(&set);
}

static void test_containers(void **state) {
    (void)state;
    const char *specs[] = {"stored.npz",      "deflated.npz",         "many.npz",       "descriptors.npz",
                           "zip64.npz",       "x_v1.npy,y.npy",       "x_v2.npy,y.npy", "x_v3.npy,y.npy",
                           "stored.npz.gz",   "x_v1.npy.gz,y.npy.gz", "table.csv.gz",   "table.tsv.gz",
                           "whole_floats.npz"};
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) expect_xy(specs[i]);
}

static void test_types(void **state) {
    (void)state;
    const char *files[] = {"types_little.npz", "types_big.npz"};
    const char *names[] = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"};
    for (size_t f = 0; f < 2; f++) {
        for (size_t k = 0; k < 12; k++) {
            for (int integers = 0; integers < 2; integers++) {
                const ckpt_data_request want = {.name = names[k],
                                                .want = integers ? CKPT_WANT_INTEGER : CKPT_WANT_FLOAT};
                ckpt_dataset set = load_ok(files[f], &want, 1);
                for (int i = 0; i < 8; i++) {
                    const int value = k == 11 ? i % 2 : i;
                    if (integers)
                        assert_int_equal(((int64_t *)set.arrays[0].data)[i], value);
                    else
                        assert_true(((float *)set.arrays[0].data)[i] == (float)value);
                }
                ckpt_dataset_free(&set);
            }
        }
    }
}

/* Integers that float32 cannot hold are rounded, and that is said; those that an integer of the model cannot
 * hold are refused (in the table of errors). */
static void test_rounded(void **state) {
    (void)state;
    ckpt_dataset set = load_ok("rounded.npz", want_xy, 2);
    expect_floats(&set.arrays[0], (const float[]){1, 0x1p24f, 0x1p24f, -0x1p31f}, 4);
    assert_int_equal(set.notes.count, 1);
    assert_string_equal(
        set.notes.name[0],
        "rounded.npz: array 'x' has 2 whole numbers that float32 rounds, the first 16777217 at row 0, "
        "column 2 (counted from 0)");
    ckpt_dataset_free(&set);
    const ckpt_data_request narrow = {
        .name = "y", .want = CKPT_WANT_INTEGER, .least = INT32_MIN, .most = INT32_MAX};
    ckpt_error err;
    assert_int_equal(ckpt_dataset_load("bad_int32.npz", &narrow, 1, NULL, &set, &err), CKPT_USAGE);
    assert_string_equal(err.message, "bad_int32.npz: array 'y' has the value 2147483648 at row 2, column 0 "
                                     "(counted from 0); the model takes "
                                     "-2147483648 to 2147483647");
}

static void test_half(void **state) {
    (void)state;
    ckpt_data_request want = {.name = "x"};
    ckpt_dataset set = load_ok("half.npz", &want, 1);
    const float expected[] = {0, -0.0f, 1.5f, -65504, 0x1p-24f, 0x1p-14f, 0x1.554p-2f};
    expect_floats(&set.arrays[0], expected, 7);
    ckpt_dataset_free(&set);
}

static void test_fortran_order(void **state) {
    (void)state;
    ckpt_data_request want = {.name = "x", .values = 6};
    ckpt_dataset set = load_ok("fortran.npz", &want, 1);
    float expected[24];
    for (int i = 0; i < 24; i++) expected[i] = (float)i;
    expect_floats(&set.arrays[0], expected, 24);
    assert_int_equal(set.arrays[0].rank, 3);
    ckpt_dataset_free(&set);
}

static void test_idx(void **state) {
    (void)state;
    ckpt_data_request want[2] = {
        {.name = "pixels", .values = 6},
        {.name = "y", .role = CKPT_DATA_TARGET, .want = CKPT_WANT_EITHER, .integer_values = 1, .classes = 3}};
    const char *specs[] = {"images-idx3-ubyte,labels-idx1-ubyte",
                           "images-idx3-ubyte.gz,labels-idx1-ubyte.gz"};
    for (int s = 0; s < 2; s++) {
        ckpt_dataset set = load_ok(specs[s], want, 2);
        for (int i = 0; i < 12; i++) assert_true(((float *)set.arrays[0].data)[i] == (float)(243 + i));
        expect_integers(&set.arrays[1], (const int64_t[]){2, 1}, 2);
        ckpt_dataset_free(&set);
    }
    ckpt_dataset set = load_ok("floats.idx", &(ckpt_data_request){.name = "v", .values = 2}, 1);
    expect_floats(&set.arrays[0], (const float[]){0.25f, -2}, 2);
    ckpt_dataset_free(&set);
}

static void test_one_hot(void **state) {
    (void)state;
    ckpt_dataset set = load_ok("one_hot.npz", want_xy, 2);
    expect_floats(&set.arrays[1], (const float[]){1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1}, 18);
    ckpt_dataset_free(&set);
}

static void test_gather(void **state) {
    (void)state;
    ckpt_dataset set = load_ok("stored.npz", want_xy, 2);
    float x[8];
    int64_t y[2];
    ckpt_array_gather(&set.arrays[0], (const uint32_t[]){5, 0}, 2, x);
    ckpt_array_gather(&set.arrays[1], (const uint32_t[]){5, 0}, 2, y);
    assert_memory_equal(x, ((const float[]){10, 10.5f, 11, 11.5f, 0, 0.5f, 1, 1.5f}), sizeof x);
    assert_true(y[0] == 2 && y[1] == 0);
    assert_int_equal(ckpt_array_sample_bytes(&set.arrays[0]), 16);
    assert_int_equal(ckpt_array_sample_bytes(&set.arrays[1]), 8);
    ckpt_dataset_free(&set);
}

/* The file as spec, and the whole message. */
static const struct {
    const char *spec, *message;
} errors[] = {
    {"none.npz", "none.npz: cannot be opened: No such file or directory"},
    {"../files", "../files: is a directory; give a .npz, .npy, .csv, .tsv or IDX file, which may be gzipped"},
    {"stored.npz,", "stored.npz,: has an empty file name; remove the comma"},
    {"../make_data.py", "../make_data.py: is in no known data format; give a .npz, .npy, .csv, .tsv or IDX "
                        "file, which may be gzipped"},
    {"x_v1.npy", "x_v1.npy: has no array for the target 'y'; add its file after a comma: x_v1.npy,FILE"},
    {"x_v1.npy,y.npy,y.npy", "y.npy: the model has no input or target left for it; leave it out"},
    {"/dev/null", "/dev/null: is not a regular file; give a data file"},
    {"bad_names.npz", "bad_names.npz: has no array 'input' or 'x' for the model's input; it has 'features', "
                      "'labels'; name one "
                      "with --features, or rename or add it"},
    {"bad_nan.npz",
     "bad_nan.npz: array 'x' has NaN at row 2, column 1 (counted from 0); remove or replace it"},
    {"bad_nan_fortran.npz",
     "bad_nan_fortran.npz: array 'x' has NaN at row 2, column 1 (counted from 0); remove or replace it"},
    {"bad_overflow.npz",
     "bad_overflow.npz: array 'x' has 1e+300 at row 3, column 0 (counted from 0), too large for float32; "
     "scale it"},
    {"bad_label.npz",
     "bad_label.npz: array 'y' has class 3 at row 2, column 0 (counted from 0); the model takes 0 to 2"},
    {"bad_negative.npz",
     "bad_negative.npz: array 'y' has class -1 at row 0, column 0 (counted from 0); the model takes 0 to 2"},
    {"bad_u64.npz", "bad_u64.npz: array 'y' has 9223372036854775808 at row 0, column 0 (counted from 0), too "
                    "large for int64; save it with "
                    "astype(np.int64)"},
    {"bad_samples.npz",
     "bad_samples.npz: array 'y' has 5 samples, array 'x' has 6; both must have one row a sample"},
    {"bad_values.npz",
     "bad_values.npz: array 'x' has 3 values a sample (shape [6,3]); the model's input 'input' takes 4"},
    {"bad_fraction.npz", "bad_fraction.npz: array 'y' has 1.5 at row 3, column 0 (counted from 0), where "
                         "whole numbers are needed; "
                         "correct it, or save it with astype(np.int64)"},
    {"bad_doubled.npz", "bad_doubled.npz: has two arrays 'z'; remove one"},
    {"stored.npz,many.npz", "stored.npz and many.npz both have an array 'x'; remove one"},
    {"bad_cut.csv.gz",
     "bad_cut.csv.gz: has compressed data that is damaged or cut short; save the file again"},
    {"bad_crc.csv.gz",
     "bad_crc.csv.gz: has compressed data that is damaged or cut short; save the file again"},
    {"bad_tail.csv.gz", "bad_tail.csv.gz: has 4 bytes after the compressed data; the file is damaged"},
    {"bad_nothing.csv.gz", "bad_nothing.csv.gz: is empty when unpacked; save it again"},
    {"bad_integer_values.npz", "bad_integer_values.npz: array 'y' has 2 values a sample (shape [6,2]); the "
                               "target 'y' takes 1, or 3 floats"},
    {"bad_empty.npz", "bad_empty.npz: array 'x' has no samples (shape [0,4]); add some"},
    {"bad_scalar.npz", "bad_scalar.npz: array 'x' is a single value; the first axis must count the samples"},
    {"bad_no_values.npz", "bad_no_values.npz: array 'x' has samples without values (shape [6,0]); add some"},
    {"bad_complex.npz", "bad_complex.npz: array 'x' holds complex numbers (dtype '<c8'); save it with "
                        "astype(np.float32) or astype(np.int64)"},
    {"bad_string.npz",
     "bad_string.npz: array 'x' holds strings, which only a target of classes may be; save it with "
     "astype(np.float32) or astype(np.int64)"},
    {"bad_object.npz", "bad_object.npz: array 'x' holds Python objects, which are never unpickled (dtype "
                       "'|O'); save it with astype(np.float32) or astype(np.int64)"},
    {"bad_record.npz",
     "bad_record.npz: array 'x' holds structured records; save each field as an array of its own"},
    {"bad_dates.npz", "bad_dates.npz: array 'x' holds dates or times (dtype '<M8[s]'); save it with "
                      "astype(np.float32) or astype(np.int64)"},
    {"bad_long_double.npz", "bad_long_double.npz: array 'x' holds extended precision floats (dtype '<f16'); "
                            "save it with astype(np.float32) or astype(np.int64)"},
    {"bad_axes.npz", "bad_axes.npz: array 'x' has more than 8 axes; reshape it"},
    {"bad_bzip2.npz",
     "bad_bzip2.npz: array 'x' is compressed by zip method 12; use np.savez or np.savez_compressed"},
    {"bad_crc.npz", "bad_crc.npz: array 'x' has CRC-32 230afe33 instead of 473098e9; the file is damaged"},
    {"bad_cut.npz", "bad_cut.npz: is a zip archive without its end; it was cut short, copy it again"},
    {"bad_bomb.npz", "bad_bomb.npz: array 'x' has 134 compressed bytes, too few for the 1073741824 declared; "
                     "the file is damaged"},
    {"bad_claim.npy,y.npy", "bad_claim.npy: array 'input' has shape [1099511627776,4] of 17592186044416 "
                            "bytes, the file has 16; it is damaged, save it again"},
    {"bad_trailing.npy,y.npy", "bad_trailing.npy: array 'input' has shape [6,4] of 96 bytes, the file has "
                               "101; it is damaged, save it again"},
};

static void test_errors(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        ckpt_dataset set;
        ckpt_error err = {.message = ""};
        assert_int_equal(ckpt_dataset_load(errors[i].spec, want_xy, 2, NULL, &set, &err), CKPT_USAGE);
        assert_string_equal(err.message, errors[i].message);
        expect_empty(&set);
        assert_int_equal(ckpt_dataset_load(errors[i].spec, want_xy, 2, NULL, &set, NULL), CKPT_USAGE);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_containers),    cmocka_unit_test(test_types),
        cmocka_unit_test(test_half),          cmocka_unit_test(test_rounded),
        cmocka_unit_test(test_fortran_order), cmocka_unit_test(test_idx),
        cmocka_unit_test(test_one_hot),       cmocka_unit_test(test_gather),
        cmocka_unit_test(test_errors),
    };
    enter_files();
    return cmocka_run_group_tests_name("data files", tests, NULL, NULL);
}
