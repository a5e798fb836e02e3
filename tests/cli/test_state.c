/* --state: what continues is the same run; what cannot continue is refused; what cannot be saved keeps the old file. */
#include "cmocka_all.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run_program.h"

#define MODEL "@/models/mlp_checkpointed.onnx --threads 1 "
#define DIGITS "@/models/digits.onnx --data @/models/digits_val.npz --val-data @/models/digits_val.npz --threads 1 "

static json_t *train(const char *words, const char *more) {
    program_run run = run_program("train", "%s %s --json", words, more);
    if (run.status != 0) fail_msg("%s %s: status %d: %s", words, more, run.status, run.err);
    json_t *document = json_loads(run.out, 0, NULL);
    assert_non_null(document);
    program_free(&run);
    return document;
}

static void assert_same(json_t *a, json_t *b, const char *key) {
    if (!json_equal(json_object_get(a, key), json_object_get(b, key))) fail_msg("'%s' differs", key);
}

/* Stopped in the middle of an epoch, at its end and before; continued under every plan. */
static void test_a_continued_run_is_the_same_run(void **state) {
    (void)state;
    static const char *const plans[] = {"--strategy none", "--strategy sqrt", "--every 3", "--strategy selective",
                                        "--strategy min", "--verify --strategy sqrt"};
    static const char *const runs[] = {DIGITS "--batch 50 --epochs 4 --optimizer adam --seed 3",
                                       DIGITS "--batch 64 --micro-batch 32 --steps 11 --optimizer momentum --shuffle off",
                                       MODEL "--batch 32 --steps 9 --optimizer adamw"};
    int turn = 0;
    for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
        json_t *whole = train(runs[r], "");
        for (size_t p = r % 2; p < sizeof plans / sizeof *plans; p += 2) {
            char words[256];
            unlink("run.state");
            json_decref(train(runs[r], "--state run.state --steps 1"));
            snprintf(words, sizeof words, "--state run.state --steps %d %s", 2 + turn++ % 8, plans[p]);
            json_decref(train(runs[r], words));
            snprintf(words, sizeof words, "--state run.state --state-every 2 %s", plans[(p + 1) % (sizeof plans / sizeof *plans)]);
            json_t *continued = train(runs[r], words);
            static const char *const keys[] = {"weights_sha256", "loss", "accuracy", "val", "steps", "epochs"};
            for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) assert_same(whole, continued, keys[k]);
            json_decref(continued);
        }
        json_decref(whole);
    }
    /* Negative control: without the state the second half is another run. */
    json_t *whole = train(runs[2], ""), *half = train(runs[2], "--steps 4");
    assert_false(json_equal(json_object_get(whole, "weights_sha256"), json_object_get(half, "weights_sha256")));
    json_decref(whole), json_decref(half);
}

static char *slurp(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    char *bytes = calloc(1, 1 << 22);
    assert_non_null(file);
    *size = fread(bytes, 1, 1 << 22, file);
    fclose(file);
    return bytes;
}

static void spill(const char *path, const char *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static void test_a_finished_run_does_nothing_more(void **state) {
    (void)state;
    size_t size, again_size;
    unlink("done.state");
    json_t *first = train(MODEL "--steps 5 --state done.state", "");
    char *bytes = slurp("done.state", &size);
    json_t *again = train(MODEL "--steps 5 --state done.state", "");
    char *bytes_again = slurp("done.state", &again_size);
    assert_same(first, again, "weights_sha256");
    assert_same(first, again, "steps");
    assert_same(first, again, "loss");
    assert_true(json_real_value(json_object_get(again, "seconds")) == 0);
    assert_int_equal(size, again_size);
    assert_memory_equal(bytes, bytes_again, size);
    json_decref(first), json_decref(again), free(bytes), free(bytes_again);
}

/* Running statistics are of the run's state too: the saved files, which hold them, are equal byte for byte. */
static void test_running_statistics_go_on(void **state) {
    (void)state;
#define NORM "@/tests/golden/training/batchnorm_sgd/model.onnx --threads 1 --batch 16 "
    size_t size[3];
    char *bytes[3];
    unlink("norm.state");
    json_decref(train(NORM "--steps 6 --save whole.onnx", ""));
    json_decref(train(NORM "--steps 4 --save part.onnx", "--state norm.state"));
    json_decref(train(NORM "--steps 6 --save rest.onnx", "--state norm.state"));
    const char *const names[] = {"whole.onnx", "rest.onnx", "part.onnx"};
    for (int i = 0; i < 3; i++) bytes[i] = slurp(names[i], &size[i]);
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(bytes[0], bytes[1], size[0]);
    assert_true(size[0] != size[2] || memcmp(bytes[0], bytes[2], size[0]) != 0);
    for (int i = 0; i < 3; i++) free(bytes[i]);
}

static void refused(const char *words, const char *says) {
    program_run run = run_program("train", "%s", words);
    if (run.status != 2 || !strstr(run.err, says) || strchr(run.err, '\n') != run.err + strlen(run.err) - 1)
        fail_msg("%s: status %d, not '%s': %s", words, run.status, says, run.err);
    program_free(&run);
}

/* Each names what differs and the way out, and leaves the file alone. */
static void test_another_run_is_refused(void **state) {
    (void)state;
    size_t size, after;
    unlink("mine.state");
    json_decref(train(DIGITS "--steps 3 --batch 64", "--state mine.state"));
    char *bytes = slurp("mine.state", &size);
    static const char *const cases[][2] = {
        {DIGITS "--batch 32", "with --batch 64, this one has 32; give --batch 64, or another --state"},
        {DIGITS "--batch 64 --micro-batch 16", "with --micro-batch 64"},
        {DIGITS "--batch 64 --optimizer adam", "with --optimizer sgd, this one has adam"},
        {DIGITS "--batch 64 --lr 0.02", "with --lr 0.01, this one has 0.02"},
        {DIGITS "--batch 64 --seed 1", "with --seed 0, this one has 1"},
        {DIGITS "--batch 64 --shuffle off", "with --shuffle on, this one has off"},
        {"@/models/digits.onnx --batch 64 --data @/models/digits_train.npz", "another set of training data"},
        {DIGITS "--batch 64 --preserve-rng off", "--state needs --preserve-rng on"},
        {MODEL "--batch 64", "another"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char words[512];
        snprintf(words, sizeof words, "%s --state mine.state --log mine.log", cases[i][0]);
        refused(words, cases[i][1]);
        assert_int_not_equal(access("mine.log", F_OK), 0);
    }
    char *bytes_after = slurp("mine.state", &after);
    assert_int_equal(size, after);
    assert_memory_equal(bytes, bytes_after, size);
    free(bytes), free(bytes_after);
    refused(MODEL "--state-every 5", "--state-every needs --state");
    refused(MODEL "--state here --save here", "--state and --save are both here");
    refused(DIGITS "--state nofolder/a", "nofolder");
    refused(MODEL "--state .", "directory");
}

static void test_damaged_files_are_refused(void **state) {
    (void)state;
    size_t size;
    char words[] = MODEL "--batch 8 --steps 3 --state bad.state";
    unlink("bad.state");
    json_decref(train(words, ""));
    char *bytes = slurp("bad.state", &size);
    const size_t cuts[] = {0, 1, 15, 17, 4095, 4096, 4160, size / 2, size - 65, size - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        spill("bad.state", bytes, cuts[i]);
        refused(words, cuts[i] < 16 ? "not a state file" : "the state file is");
    }
    for (size_t i = 0; i < 24; i++) {
        const size_t at = i < 8 ? 16 + i * 40 : i < 16 ? 4096 + (i - 8) * 8 : size - 1 - (i - 16) * (size - 5000) / 8;
        bytes[at] ^= 1;
        spill("bad.state", bytes, size);
        refused(words, "is damaged: its checksum differs");
        bytes[at] ^= 1;
    }
    bytes[size] = 0;
    spill("bad.state", bytes, size + 1);
    refused(words, "is damaged");
    spill("bad.state", "PK\3\4", 4);
    refused(words, "is not a state file of ckpttrain; give another --state");
    spill("bad.state", bytes, size); /* the control: the bytes as they were go on */
    json_decref(train(words, "--steps 4"));
    free(bytes);
}

/* A killed run's log goes on as if there had been no pause: each step once, in order. */
static void test_the_log_goes_on(void **state) {
    (void)state;
    unlink("on.state"), unlink("on.log");
    json_decref(train(DIGITS "--batch 100 --epochs 2 --steps 5", "--state on.state --log on.log")); /* four steps an epoch */
    FILE *log = fopen("on.log", "a");
    fputs("{\"step\":5,\"loss\":1}\n{\"step\":6,\"lo", log); /* as a killed run would leave it */
    fclose(log);
    json_decref(train(DIGITS "--batch 100 --epochs 2", "--state on.state --log on.log"));
    log = fopen("on.log", "r");
    char line[512];
    int steps = 0, validations = 0;
    while (fgets(line, sizeof line, log)) {
        json_t *d = json_loads(line, 0, NULL);
        assert_non_null(d);
        if (json_object_get(d, "val")) validations++;
        else assert_int_equal(json_integer_value(json_object_get(d, "step")), steps++);
        json_decref(d);
    }
    fclose(log);
    assert_int_equal(steps, 8);
    assert_int_equal(validations, 3); /* the first run's end is one more */
}

static void test_interrupted_runs_go_on(void **state) {
    (void)state;
    json_t *whole = train(DIGITS "--batch 16 --steps 400 --optimizer adam", "");
    for (int i = 0; i < 2; i++) {
        struct stat seen = {0};
        unlink("int.state"), unlink("int.log"), unlink("int.onnx");
        const pid_t pid = start_program("train", DIGITS "--batch 16 --steps 400 --optimizer adam --state int.state "
                                                        "--log int.log --save int.onnx");
        for (int wait = 0; wait < 5000 && (stat("int.log", &seen) != 0 || seen.st_size == 0); wait++) usleep(1000);
        kill(pid, i ? SIGTERM : SIGINT);
        const int status = wait_program(pid);
        if (status != 0) assert_int_equal(status, i ? 143 : 130); /* 0: it was faster */
        assert_int_equal(access("int.onnx", F_OK) + access("int.state", F_OK), 0);
        json_t *rest = train(DIGITS "--batch 16 --steps 400 --optimizer adam", "--state int.state --strategy sqrt");
        assert_same(whole, rest, "weights_sha256");
        json_decref(rest);
    }
    json_decref(whole);
}

static void assert_text(const char *path, const char *text) {
    size_t size;
    char *found = slurp(path, &size);
    assert_string_equal(found, text);
    free(found);
}

/* A limit of file size stands for a full disk: writing stops in the middle of a file. */
static void test_what_does_not_fit_keeps_the_old_file(void **state) {
    (void)state;
    static const struct {
        const char *which, *words, *file;
        int status;
        rlim_t bytes;
    } cases[] = {
        {"train", MODEL "--steps 2 --save full.out", "full.out", 1, 20000},
        {"train", MODEL "--steps 2 --save full.out", "full.out", 1, 0},
        {"train", MODEL "--steps 2 --log full.out", "full.out", 1, 0},
        {"plan", "@/models/mlp_uniform64.onnx -o full.json", "full.json", 1, 3000},
    };
    struct rlimit old;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        spill(cases[i].file, "as it was", 9);
        const struct rlimit low = {.rlim_cur = cases[i].bytes, .rlim_max = old.rlim_max};
        setrlimit(RLIMIT_FSIZE, &low);
        const int status = wait_program(start_program(cases[i].which, "%s", cases[i].words));
        setrlimit(RLIMIT_FSIZE, &old);
        if (status != cases[i].status) fail_msg("%s: status %d", cases[i].words, status);
        assert_text(cases[i].file, "as it was");
    }
    /* The state of the run before stays, and the run goes on from it when there is room again. */
    unlink("full.state");
    json_t *whole = train(MODEL "--steps 6", "");
    json_decref(train(MODEL "--steps 3", "--state full.state"));
    const struct rlimit low = {.rlim_cur = 9000, .rlim_max = old.rlim_max};
    size_t size, after;
    char *bytes = slurp("full.state", &size);
    setrlimit(RLIMIT_FSIZE, &low);
    const int status = wait_program(start_program("train", MODEL "--steps 6 --state full.state --state-every 1"));
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, 1);
    char *bytes_after = slurp("full.state", &after);
    assert_int_equal(size, after);
    assert_memory_equal(bytes, bytes_after, size);
    json_t *rest = train(MODEL "--steps 6", "--state full.state");
    assert_same(whole, rest, "weights_sha256");
    json_decref(whole), json_decref(rest), free(bytes), free(bytes_after);
    assert_int_equal(system("ls -A | grep -q '\\.tmp'") == 0, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_continued_run_is_the_same_run),
        cmocka_unit_test(test_a_finished_run_does_nothing_more),
        cmocka_unit_test(test_running_statistics_go_on),
        cmocka_unit_test(test_another_run_is_refused),
        cmocka_unit_test(test_damaged_files_are_refused),
        cmocka_unit_test(test_the_log_goes_on),
        cmocka_unit_test(test_interrupted_runs_go_on),
        cmocka_unit_test(test_what_does_not_fit_keeps_the_old_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
