/* Saving a model with external data, killed at every system call: the output is the whole old model or the whole new one,
 * and what the killed save left is used up by the next. The saving process is traced, so no call can be forgotten here. */
#include "onnx_support.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ABSENT = -1, MIXED = -2, WEIGHTS = 6, BIASES = 3 };

/* A generation is a number that all weights of a model have: w, which is external, and b, which is not. */
static ckpt_status save_generation(ckpt_onnx_file *file, const char *path, int generation, ckpt_error *err) {
    float w[WEIGHTS], b[BIASES];
    for (int i = 0; i < WEIGHTS; i++) w[i] = (float)generation;
    for (int i = 0; i < BIASES; i++) b[i] = (float)generation;
    const ckpt_onnx_replacement values[] = {{"w", w, WEIGHTS}, {"b", b, BIASES}};
    return ckpt_onnx_write(file, path, values, 2, CKPT_ONNX_OVERWRITE_INPUT, err);
}

/* What is at `path`: a generation, ABSENT, or MIXED where the weights are of several. Fails where it cannot be read. */
static int generation_at(const char *path) {
    if (access(path, F_OK) != 0) return ABSENT;
    ckpt_onnx_file *file = read_or_fail(path);
    float w[WEIGHTS], b[BIASES];
    ckpt_error err;
    Onnx__TensorProto **tensors = file->model->graph->initializer;
    if (ckpt_onnx_tensor_read_f32(file, tensors[0], w, WEIGHTS, &err) != CKPT_OK ||
        ckpt_onnx_tensor_read_f32(file, tensors[1], b, BIASES, &err) != CKPT_OK)
        fail_msg("%s", err.message);
    ckpt_onnx_free(file);
    for (int i = 1; i < WEIGHTS; i++)
        if (w[i] > w[0] || w[i] < w[0]) return MIXED;
    for (int i = 0; i < BIASES; i++)
        if (b[i] > w[0] || b[i] < w[0]) return MIXED;
    return (int)w[0];
}

/* The input is generation 0. */
static ckpt_onnx_file *open_input(void **state, const char *name, const char *data) {
    static const float zeros[WEIGHTS];
    small_model m;
    small_model_start(&m);
    small_model_externalize(&m, data, "0", "24");
    memset(m.b_data, 0, sizeof m.b_data);
    put_file(in_scratch(state, data), zeros, sizeof zeros);
    small_model_save(&m, in_scratch(state, name));
    return read_or_fail(in_scratch(state, name));
}

/* Runs the save up to its stop number `stop`, a call's beginning or end, and kills it there. True: it ended before. */
static bool save_and_kill(ckpt_onnx_file *file, const char *path, int generation, int stop) {
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(77);
        raise(SIGSTOP);
        _exit(save_generation(file, path, generation, NULL) == CKPT_OK ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    for (int i = 0; i < stop && WIFSTOPPED(status); i++) {
        assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
    }
    if (WIFSTOPPED(status)) {
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        return false;
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) skip(); /* tracing is not allowed here */
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return true;
}

typedef struct census {
    int data, temporary, others;
} census;

static census count_kinds(void **state, bool remove_temporary) {
    census count = {0};
    DIR *folder = opendir(*state);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] != '.') {
            if (strstr(entry->d_name, ".data")) count.data++;
            else count.others++;
        } else if (strstr(entry->d_name, ".tmp")) {
            count.temporary++;
            if (remove_temporary) unlink(in_scratch(state, entry->d_name));
        }
    }
    closedir(folder);
    return count;
}

/* Kills the save at each stop in turn. Every third killed save is followed by one that is left alone, the others by the
 * next that is killed, which finds what was left. most_data: how many data files there may be at any time. */
static void kill_everywhere(void **state, ckpt_onnx_file *file, const char *out, bool start_over, int most_data) {
    int generation = 1, old_seen = 0, new_seen = 0, temporary = 0, stops = 0;
    for (bool ended = false; !ended; stops++, generation += 2) {
        if (start_over && stops % 3 == 0) unlink(out); /* its data stays, as after a kill */
        const int old = generation_at(out);
        ended = save_and_kill(file, out, generation, stops);
        const int found = generation_at(out);
        if (found != old && found != generation) fail_msg("stop %d: generation %d, not %d or %d", stops, found, old, generation);
        if (found == generation) new_seen++;
        else old_seen++;
        const census left = count_kinds(state, true);
        assert_in_range(left.data, 0, most_data);
        temporary += left.temporary;
        if (stops % 3 == 2) {
            assert_int_equal(save_generation(file, out, generation + 1, NULL), CKPT_OK);
            assert_int_equal(generation_at(out), generation + 1);
            assert_int_equal(count_kinds(state, false).temporary, 0);
        }
        assert_true(stops < 10000);
    }
    print_message("%d stops: %d old, %d new; %d left a temporary file\n", stops, old_seen, new_seen, temporary);
    assert_true(old_seen > 10 && new_seen > 2);
    assert_true(temporary <= 2 * stops / 10); /* between a link and a rename: data and model, at most */
}

static void output_over_output(void **state) {
    ckpt_onnx_file *file = open_input(state, "in.onnx", "weights.bin");
    const char *out = in_scratch(state, "out.onnx");
    assert_int_equal(save_generation(file, out, 1000000, NULL), CKPT_OK);
    assert_int_equal(access(in_scratch(state, "out.onnx.data"), F_OK), 0);
    out = strdup(out);
    kill_everywhere(state, file, out, false, 2);
    assert_int_equal(save_generation(file, out, 7, NULL), CKPT_OK);
    assert_int_equal(count_kinds(state, false).data, 1);
    ckpt_onnx_free(file);
    assert_int_equal(generation_at(in_scratch(state, "in.onnx")), 0);
    free((char *)out);
}

/* Without an old model there is nothing to keep, and every data file may be replaced. */
static void output_anew(void **state) {
    ckpt_onnx_file *file = open_input(state, "in.onnx", "weights.bin");
    char *out = strdup(in_scratch(state, "out.onnx"));
    kill_everywhere(state, file, out, true, 3);
    ckpt_onnx_free(file);
    free(out);
}

/* The open model's own data has the ordinary name, and is still there, unchanged, for as long as it is open. */
static void output_over_input(void **state) {
    ckpt_onnx_file *file = open_input(state, "in.onnx", "in.onnx.data");
    char *out = strdup(in_scratch(state, "in.onnx"));
    float w[WEIGHTS];
    kill_everywhere(state, file, out, false, 3);
    assert_int_equal(ckpt_onnx_tensor_read_f32(file, file->model->graph->initializer[0], w, WEIGHTS, NULL), CKPT_OK);
    for (int i = 0; i < WEIGHTS; i++) assert_true(w[i] >= 0 && w[i] <= 0);
    ckpt_onnx_free(file);
    free(out);
}

/* The control: an old model beside new data, as a save that replaces the data in place would leave them, is noticed. */
static void a_mixture_is_noticed(void **state) {
    ckpt_onnx_file *file = open_input(state, "in.onnx", "weights.bin");
    char *out = strdup(in_scratch(state, "out.onnx"));
    const float ones[WEIGHTS] = {1, 1, 1, 1, 1, 1};
    assert_int_equal(generation_at(out), ABSENT);
    assert_int_equal(save_generation(file, out, 2, NULL), CKPT_OK);
    assert_int_equal(generation_at(out), 2);
    put_file(in_scratch(state, "out.onnx.data"), ones, sizeof ones);
    assert_int_equal(generation_at(out), MIXED);
    ckpt_onnx_free(file);
    free(out);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(output_over_output),
        CASE(output_anew),
        CASE(output_over_input),
        CASE(a_mixture_is_noticed),
    };
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1); /* some hundred saves, each of which flushes */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
