/* External weights: planning reads none of them, training does, and saving writes them again beside the model. */
#include "cmocka_all.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "model_maker.h"
#include "run_program.h"

/* y = x . w with w of [side, side] at `location`. */
static void write_location(const char *name, const char *location, int64_t side) {
    static maker m;
    static Onnx__StringStringEntryProto entry[2], *entries[2] = {&entry[0], &entry[1]};
    char length[32];
    maker_start(&m, 17);
    maker_input(&m, "x", 2, (int64_t[]){-1, side});
    Onnx__TensorProto *w = maker_weight(&m, "w", 2, (int64_t[]){1, 1});
    w->dims[0] = w->dims[1] = side;
    w->n_float_data = 0;
    w->has_data_location = 1;
    w->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    onnx__string_string_entry_proto__init(&entry[0]);
    onnx__string_string_entry_proto__init(&entry[1]);
    snprintf(length, sizeof length, "%lld", (long long)(side * side * 4));
    entry[0].key = "location", entry[0].value = (char *)location;
    entry[1].key = "length", entry[1].value = length;
    w->external_data = entries;
    w->n_external_data = 2;
    maker_node(&m, "MatMul", "fc", "x,w", "y", NULL);
    maker_output(&m, "y");
    maker_write(&m, name);
}

/* The same, and the file. */
static void write_model(const char *name, const char *data, int64_t side) {
    write_location(name, data, side);
    const int fd = open(data, O_RDWR | O_CREAT | O_TRUNC, 0600); /* all zeros, and no blocks on disk */
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)side * side * 4), 0);
    close(fd);
}

static void test_planning_reads_no_weights(void **state) {
    (void)state;
    write_model("large.onnx", "large.data", 16384); /* 1 GiB */
    program_run run = run_program("plan", "large.onnx --batch 1 --json");
    if (run.status != 0) fail_msg("status %d: %s", run.status, run.err);
    assert_non_null(strstr(run.out, "\"parameters\": 268435456"));
    print_message("planning a model with 1 GiB of external weights: %ld KiB resident\n", run.peak_kib);
    assert_true(run.peak_kib < 256 * 1024);
    program_free(&run);
    unlink("large.data");
    run = run_program("plan", "large.onnx --batch 1"); /* without its data it is refused, by name */
    assert_int_equal(run.status, 3);
    assert_non_null(strstr(run.err, "large.data"));
    program_free(&run);
}

static void test_training_saves_external_weights(void **state) {
    (void)state;
    write_model("small.onnx", "small.data", 32);
    unlink("saved.onnx"); /* of an earlier run of this test: its data would keep the name */
    program_run run = run_program("train", "small.onnx --steps 3 --lr 0.1 --save saved.onnx");
    if (run.status != 0) fail_msg("status %d: %s", run.status, run.err);
    program_free(&run);
    FILE *file = fopen("saved.onnx.data", "rb");
    float weights[32 * 32];
    assert_non_null(file);
    assert_int_equal(fread(weights, sizeof *weights, 32 * 32, file), 32 * 32);
    fclose(file);
    int moved = 0;
    for (int i = 0; i < 32 * 32; i++) moved += weights[i] != 0;
    assert_true(moved > 1000);
    run = run_program("train", "saved.onnx --steps 1");
    assert_int_equal(run.status, 0);
    program_free(&run);
}

static void read_both(const char *data, char *bytes[2], size_t size[2]) {
    const char *const names[2] = {"kept.onnx", data};
    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(names[i], "rb");
        assert_non_null(file);
        bytes[i] = malloc(1 << 16);
        assert_non_null(bytes[i]);
        size[i] = fread(bytes[i], 1, 1 << 16, file);
        fclose(file);
    }
}

/* A limit of file size stands for a full disk: neither file fits, or the model does and its weights
 * do not. */
static void test_a_full_disk_keeps_both_files(void **state) {
    (void)state;
    write_model("small.onnx", "small.data", 32);
    unlink("kept.onnx"), unlink("kept.onnx.1.data");
    program_run run = run_program("train", "small.onnx --steps 1 --lr 0.1 --save kept.onnx");
    assert_int_equal(run.status, 0);
    program_free(&run);
    char *before[2], *after[2];
    size_t size[2], size_after[2];
    read_both("kept.onnx.data", before, size);
    struct rlimit old;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    static const rlim_t limits[] = {0, 64, 4000};
    for (int i = 0; i < 3; i++) {
        const struct rlimit low = {.rlim_cur = limits[i], .rlim_max = old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &low);
        const int status = wait_program(start_program("train", "small.onnx --steps 3 --lr 0.1 --save kept.onnx"));
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(status, 1);
        read_both("kept.onnx.data", after, size_after);
        assert_int_not_equal(access("kept.onnx.1.data", F_OK), 0);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(size[k], size_after[k]);
            assert_memory_equal(before[k], after[k], size[k]);
            free(after[k]);
        }
    }
    run = run_program("train", "small.onnx --steps 3 --lr 0.1 --save kept.onnx"); /* with room it is another file */
    assert_int_equal(run.status, 0);
    program_free(&run);
    read_both("kept.onnx.1.data", after, size_after); /* the old model needs the name until it is replaced */
    assert_int_not_equal(access("kept.onnx.data", F_OK), 0);
    assert_memory_not_equal(before[1], after[1], size[1]);
    for (int k = 0; k < 2; k++) free(before[k]), free(after[k]);
    assert_int_equal(system("ls -A | grep -q '\\.tmp'") == 0, 0);
}

/* Anything but a plain file below the model's folder. */
static void test_escapes_are_refused(void **state) {
    (void)state;
    static const char *const locations[] = {"../external/small.data", "/etc/hostname", "link.data", "missing.data"};
    write_model("small.onnx", "small.data", 32);
    unlink("link.data");
    assert_int_equal(symlink("small.data", "link.data"), 0);
    for (int i = 0; i < 4; i++) {
        write_location("escape.onnx", locations[i], 32);
        program_run run = run_program("plan", "escape.onnx");
        if (run.status != 3 || !strstr(run.err, "escape.onnx")) fail_msg("%s: status %d: %s", locations[i], run.status, run.err);
        program_free(&run);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planning_reads_no_weights),
        cmocka_unit_test(test_training_saves_external_weights),
        cmocka_unit_test(test_a_full_disk_keeps_both_files),
        cmocka_unit_test(test_escapes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
