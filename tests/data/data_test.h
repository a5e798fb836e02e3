/* What the tests of runtime/data share: requests for the golden files and checks of messages. */
#ifndef CKPT_DATA_TEST_H
#define CKPT_DATA_TEST_H

#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/dataset.h"

/* An input of 4 floats and one of 3 classes: what the golden files hold. */
static const ckpt_data_request want_xy[2] = {
    {.name = "input", .aliases = {"x"}, .values = 4},
    {.name = "y",
     .role = CKPT_DATA_TARGET,
     .want = CKPT_WANT_EITHER,
     .values = 3,
     .integer_values = 1,
     .classes = 3},
};

static inline void enter_files(void) {
    assert_int_equal(chdir(CKPT_SOURCE_DIR "/tests/data/files"), 0);
}

static inline ckpt_dataset load_with(const char *spec, const ckpt_data_request *want, size_t count,
                                     const ckpt_data_options *options) {
    ckpt_dataset set;
    ckpt_error err = {.message = ""};
    if (ckpt_dataset_load(spec, want, count, options, &set, &err) != CKPT_OK) fail_msg("%s", err.message);
    assert_int_equal(set.array_count, count);
    return set;
}

static inline ckpt_dataset load_ok(const char *spec, const ckpt_data_request *want, size_t count) {
    return load_with(spec, want, count, NULL);
}

/* Loads from a heap copy of exactly `size` bytes, so that a sanitizer sees any read beyond it. */
static inline ckpt_status load_copy(const char *path, const void *bytes, size_t size,
                                    const ckpt_data_request *want, size_t count,
                                    const ckpt_data_options *options, ckpt_dataset *set, ckpt_error *err) {
    void *copy = malloc(size);
    if (size) memcpy(copy, bytes, size);
    ckpt_status status = ckpt_dataset_load_memory(path, copy, size, want, count, options, set, err);
    free(copy);
    return status;
}

static inline ckpt_dataset load_csv_with(const char *text, const ckpt_data_request *want, size_t count,
                                         const ckpt_data_options *options) {
    ckpt_dataset set;
    ckpt_error err = {.message = ""};
    if (load_copy("t.csv", text, strlen(text), want, count, options, &set, &err) != CKPT_OK)
        fail_msg("%s", err.message);
    return set;
}

static inline ckpt_dataset load_csv(const char *text, const ckpt_data_request *want, size_t count) {
    return load_csv_with(text, want, count, NULL);
}

static inline void expect_empty(const ckpt_dataset *set) {
    assert_null(set->arrays);
    assert_null(set->pool.blocks);
    assert_int_equal(set->samples, 0);
}

static inline void expect_csv_error_with(const char *text, const ckpt_data_request *want, size_t count,
                                         const ckpt_data_options *options, const char *message) {
    ckpt_dataset set;
    ckpt_error err = {.message = ""};
    assert_int_equal(load_copy("t.csv", text, strlen(text), want, count, options, &set, &err), CKPT_USAGE);
    assert_string_equal(err.message, message);
    expect_empty(&set);
}

static inline void expect_csv_error(const char *text, const ckpt_data_request *want, size_t count,
                                    const char *message) {
    expect_csv_error_with(text, want, count, NULL, message);
}

/* names: separated by '|'; "" for none. */
static inline void expect_names(const ckpt_names *names, const char *expected) {
    char all[1024] = "";
    for (size_t i = 0; i < names->count; i++) {
        if (i) strcat(all, "|");
        strcat(all, names->name[i]);
    }
    assert_string_equal(all, expected);
}

static inline void expect_floats(const ckpt_array *array, const float *values, size_t count) {
    assert_int_equal(array->type, CKPT_ARRAY_F32);
    assert_int_equal(array->values * (uint64_t)array->dim[0], count);
    assert_memory_equal(array->data, values, count * sizeof *values);
}

static inline void expect_integers(const ckpt_array *array, const int64_t *values, size_t count) {
    assert_int_equal(array->type, CKPT_ARRAY_I64);
    assert_int_equal(array->values * (uint64_t)array->dim[0], count);
    assert_memory_equal(array->data, values, count * sizeof *values);
}

#endif
