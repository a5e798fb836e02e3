/* Which models start threads, and what ckpttrain says of the memory of its process. */
#include "cmocka_all.h"

#include <dirent.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model_maker.h"
#include "run_program.h"

static void make_model(const char *name, int64_t width) {
    maker m;
    maker_start(&m, 17);
    maker_input(&m, "x", 2, (int64_t[]){-1, width});
    for (int i = 0; i < 2; i++) {
        Onnx__TensorProto *w = maker_weight(&m, i ? "v" : "w", 2, (int64_t[]){width, width});
        for (size_t k = 0; k < w->n_float_data; k++) w->float_data[k] = (float)((int)(k * 7 % 23) - 11) * 0.005f;
    }
    maker_node(&m, "MatMul", "first", "x,w", "h", NULL);
    maker_node(&m, "Tanh", "tanh", "h", "t", NULL);
    maker_node(&m, "MatMul", "second", "t,v", "y", NULL);
    maker_output(&m, "y");
    maker_write(&m, name);
}

/* Threads of a run that has begun to train. */
static int threads_of(const char *model, const char *options) {
    struct stat seen = {0};
    char path[64];
    int count = 0;
    unlink("threads.log");
    const pid_t pid = start_program("train", "%s --batch 256 --lr 1e-6 --epochs 100000000 --log threads.log %s", model, options);
    for (int wait = 0; wait < 6000 && (stat("threads.log", &seen) != 0 || seen.st_size == 0); wait++) usleep(10000);
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) count += entry->d_name[0] != '.';
    if (folder) closedir(folder);
    kill(pid, SIGTERM);
    assert_int_equal(wait_program(pid), 143);
    assert_true(seen.st_size > 0);
    return count;
}

/* One thread takes the signals. */
static void test_small_models_start_no_threads(void **state) {
    (void)state;
    make_model("narrow.onnx", 48);
    make_model("broad.onnx", 512);
    assert_int_equal(threads_of("narrow.onnx", "--threads 4"), 1 + 1);
    assert_int_equal(threads_of("broad.onnx", "--threads 4"), 1 + 4);
    assert_int_equal(threads_of("broad.onnx", "--threads 1"), 1 + 1);
    setenv("OMP_NUM_THREADS", "3", 1);
    assert_int_equal(threads_of("broad.onnx", ""), 1 + 3);
    unsetenv("OMP_NUM_THREADS");
}

static json_int_t number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value)) fail_msg("no '%s'", key);
    return json_integer_value(value);
}

static json_t *json_of(const char *which, const char *words) {
    program_run run = run_program(which, "%s --json", words);
    if (run.status != 0) fail_msg("%s: %s", words, run.err);
    json_t *document = json_loads(run.out, 0, NULL);
    assert_non_null(document);
    program_free(&run);
    return document;
}

static void test_process_memory_is_stated(void **state) {
    (void)state;
    static const char *const runs[] = {"narrow.onnx --batch 64", "broad.onnx --batch 512", "broad.onnx --batch 512 --strategy min --micro-batch 64",
                                       "@/models/digits.onnx --data @/models/digits_train.npz --val-data @/models/digits_val.npz"};
    json_t *plan = json_of("plan", "narrow.onnx --device cpu"), *beyond = json_object_get(json_object_get(plan, "memory"), "beyond_plan");
    const json_int_t process = number(beyond, "process"), per_thread = number(beyond, "per_thread");
    json_decref(plan);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        char words[256];
        snprintf(words, sizeof words, "%s --device cpu --threads 2 --steps 8 --optimizer adam --save stated.onnx", runs[i]);
        json_t *d = json_of("train", words), *memory = json_object_get(d, "memory"), *host = json_object_get(memory, "host");
        const json_int_t stated = number(host, "beyond_plan_bound"), anonymous = number(host, "process_anonymous");
        assert_int_equal(number(host, "planned_peak"), number(memory, "planned_peak"));
        assert_true(stated == process + per_thread || stated == process + 2 * per_thread);
        assert_int_equal(number(host, "bound"), number(host, "planned_peak") + number(host, "samples") + number(host, "model_file") +
                                                    number(host, "copies") + stated);
        assert_true(anonymous > 0);
#if !defined(__SANITIZE_ADDRESS__)
        if (anonymous > number(host, "bound")) fail_msg("%s: %lld bytes", runs[i], (long long)anonymous);
#endif
        json_decref(d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_models_start_no_threads),
        cmocka_unit_test(test_process_memory_is_stated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
