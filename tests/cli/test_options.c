/* The option table: what --help lists is what the parser takes, options settle each other as documented, and what
 * programs write besides their result is right or not there at all. */
#include "cmocka_all.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/options.h"
#include "run_program.h"

enum { MOST_WORDS = 32 };

/* Parses `words`, split at blanks; the options' strings stay in `copy`. */
static ckpt_status parse(ckpt_program program, const char *words, char copy[512], ckpt_cli_options *options, ckpt_error *err) {
    char *argv[MOST_WORDS] = {"program"};
    int argc = 1;
    snprintf(copy, 512, "%s", words);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
    return ckpt_cli_parse(program, argc, argv, options, err);
}

static void test_help_lists_what_the_parser_takes(void **state) {
    (void)state;
    for (int p = CKPT_PROGRAM_PLAN; p <= CKPT_PROGRAM_TRAIN; p++) {
        char *help = NULL;
        size_t size;
        FILE *out = open_memstream(&help, &size);
        ckpt_cli_print_help((ckpt_program)p, out);
        fclose(out);
        for (int i = 0; i < CKPT_OPTION_COUNT; i++) {
            const ckpt_option_row *row = &ckpt_option_table[i];
            char copy[512], words[128], entry[64];
            ckpt_cli_options options;
            ckpt_error err = {0};
            snprintf(entry, sizeof entry, "--%s", row->name);
            bool listed = false;
            for (const char *at = help; (at = strstr(at, entry)); at++) {
                const char *line = at;
                while (line > help && line[-1] != '\n') line--;
                listed = listed || (strncmp(line, "  -", 3) == 0 && at - line <= 6 && strchr(" \n", at[strlen(entry)]));
            }
            bool taken = false; /* a name may have a row for each program */
            for (int k = 0; k < CKPT_OPTION_COUNT; k++)
                taken = taken || (strcmp(ckpt_option_table[k].name, row->name) == 0 && ckpt_option_table[k].programs & (unsigned)p);
            assert_int_equal(listed, taken);
            snprintf(words, sizeof words, "m.onnx --%s", row->name);
            const ckpt_status status = parse((ckpt_program)p, words, copy, &options, &err);
            const bool refused = status == CKPT_USAGE && (strstr(err.message, "unknown option") || strstr(err.message, "is an option of"));
            assert_int_equal(refused, !listed);
        }
        free(help);
    }
}

static void test_spelling(void **state) {
    (void)state;
    ckpt_cli_options o;
    ckpt_error err;
    char copy[512];
    assert_int_equal(parse(CKPT_PROGRAM_PLAN, "--batch=7 m.onnx -ofile.json --dim a=b=3", copy, &o, &err), CKPT_OK);
    assert_int_equal(o.job.batch, 7);
    assert_string_equal(o.job.model_path, "m.onnx");
    assert_string_equal(o.output, "file.json");
    assert_string_equal(o.job.dim[0].name, "a=b"); /* names may hold '=' */
    assert_int_equal(o.job.dim[0].value, 3);
    assert_int_equal(parse(CKPT_PROGRAM_PLAN, "-- --batch", copy, &o, &err), CKPT_OK); /* a file of that name */
    assert_string_equal(o.job.model_path, "--batch");
    static const char *const wrong[] = {
        "m.onnx --json=1", "m.onnx -x", "m.onnx other.onnx", "m.onnx --batch= ", "m.onnx --batch +3", "m.onnx --batch 0x10",
        "m.onnx --batch 2147483648", "m.onnx --dim a", "m.onnx --dim =3", "m.onnx --dim a=1 --dim a=2", "m.onnx --every 3 --layers 1",
        "m.onnx --every 3 --strategy sqrt", "m.onnx --loss a=ce,mse", "m.onnx --loss ce:-1", "m.onnx --loss =ce",
        "m.onnx --loss none,a=ce", "m.onnx --loss a=ce --output b", "m.onnx --ignore-index 1.5", "m.onnx --class-axis 0", "m.onnx --compare -o p.json", "m.onnx --compare --strategy sqrt",
        "m.onnx --loss none --strategy sqrt", "m.onnx --device gpu", "m.onnx --device cuda:x", "m.onnx --budget -1",
        "m.onnx --max-batch", "m.onnx --bat 3"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (parse(CKPT_PROGRAM_PLAN, wrong[i], copy, &o, &err) != CKPT_USAGE) fail_msg("%s is accepted", wrong[i]);
    assert_int_equal(parse(CKPT_PROGRAM_TRAIN, "m.onnx --seed 18446744073709551615 --device cuda:3", copy, &o, &err), CKPT_OK);
    assert_true(o.seed == UINT64_MAX);
    assert_int_equal(o.device_index, 3);
    static const char *const wrong_train[] = {
        "m.onnx --seed 18446744073709551616", "m.onnx --lr 1e999", "m.onnx --lr inf", "m.onnx --lr -1", "m.onnx --lr 0x1p3",
        "m.onnx --loss none", "m.onnx --val-data v.npz", "m.onnx --overwrite", "m.onnx --plan p.json --strategy sqrt",
        "m.onnx --plan p.json --checkpoint off", "m.onnx --checkpoint off --budget 1G", "m.onnx --compare"};
    for (size_t i = 0; i < sizeof wrong_train / sizeof *wrong_train; i++)
        if (parse(CKPT_PROGRAM_TRAIN, wrong_train[i], copy, &o, &err) != CKPT_USAGE) fail_msg("%s is accepted", wrong_train[i]);
}

/* Which strategy and which state of checkpointing the options come to. */
static void test_what_implies_what(void **state) {
    (void)state;
    static const struct {
        const char *words;
        ckpt_strategy strategy;
        int checkpoint;
    } cases[] = {
        {"m.onnx", CKPT_STRATEGY_NONE, 0},
        {"m.onnx --checkpoint off", CKPT_STRATEGY_NONE, 0},
        {"m.onnx --checkpoint off --strategy none", CKPT_STRATEGY_NONE, 0},
        {"m.onnx --checkpoint on", CKPT_STRATEGY_SQRT, 1},
        {"m.onnx --checkpoint on --strategy none", CKPT_STRATEGY_NONE, 1},
        {"m.onnx --checkpoint on --every 3", CKPT_STRATEGY_EVERY, 1},
        {"m.onnx --strategy min", CKPT_STRATEGY_MIN, 1},
        {"m.onnx --budget 1GiB", CKPT_STRATEGY_BUDGET, 1},
        {"m.onnx --layers 1-3", CKPT_STRATEGY_LAYERS, 1},
        {"m.onnx --plan p.json", CKPT_STRATEGY_NONE, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ckpt_cli_options o;
        ckpt_error err;
        char copy[512];
        if (parse(CKPT_PROGRAM_TRAIN, cases[i].words, copy, &o, &err) != CKPT_OK) fail_msg("%s: %s", cases[i].words, err.message);
        assert_int_equal(o.job.strategy, cases[i].strategy);
        assert_int_equal(o.checkpoint, cases[i].checkpoint);
    }
    ckpt_cli_options o;
    ckpt_error err;
    char copy[512];
    parse(CKPT_PROGRAM_TRAIN, "m.onnx --optimizer adamw", copy, &o, &err);
    assert_true(o.lr == 0.001 && o.steps == 20 && o.epochs == 0);
    parse(CKPT_PROGRAM_TRAIN, "m.onnx --data d.npz", copy, &o, &err);
    assert_true(o.lr == 0.01 && o.steps == 0 && o.epochs == 10);
}

static void test_compare(void **state) {
    (void)state;
    program_run run = run_program("plan", "@/models/mlp_checkpointed.onnx --optimizer adam --layers 1-2 --compare --json");
    assert_int_equal(run.status, 0);
    json_t *d = json_loads(run.out, 0, NULL), *plan;
    assert_non_null(d);
    size_t i;
    int64_t none = 0, least = INT64_MAX, min = 0;
    json_array_foreach(json_object_get(d, "plans"), i, plan) {
        const char *strategy = json_string_value(json_object_get(plan, "strategy"));
        const int64_t total = json_integer_value(json_object_get(plan, "total"));
        if (strcmp(strategy, "none") == 0) none = total;
        if (strcmp(strategy, "min") == 0) min = total;
        if (total < least) least = total;
        if (strncmp(strategy, "budget=", 7) == 0) assert_true(total <= atoll(strategy + 7));
    }
    assert_true(i >= 8); /* none, sqrt, selective, min, every, layers, three budgets */
    assert_true(min == least && min < none);
    json_decref(d);
    program_free(&run);
}

/* A forward pass alone is planned, and keeps less than a step of training. */
static void test_forward_only(void **state) {
    (void)state;
    program_run run = run_program("plan", "@/models/digits.onnx --loss none --json");
    assert_int_equal(run.status, 0);
    json_t *d = json_loads(run.out, 0, NULL);
    assert_non_null(d);
    assert_true(json_is_null(json_object_get(d, "optimizer")));
    assert_int_equal(json_integer_value(json_object_get(json_object_get(d, "compute"), "backward_flops")), 0);
    json_decref(d);
    program_free(&run);
}

static void test_devices(void **state) {
    (void)state;
    program_run run = run_program("plan", "@/models/digits.onnx --device cuda --json");
    assert_int_equal(run.status, 0); /* planning for a GPU needs none */
    if (strstr(run.err, "CUDA") || strstr(run.err, "CPU")) fail_msg("%s", run.err);
    json_t *d = json_loads(run.out, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(d, "device")), "cuda");
    assert_true(json_integer_value(json_object_get(json_object_get(d, "memory"), "workspace")) > 0);
    json_decref(d);
    program_free(&run);
    run = run_program("train", "@/models/digits.onnx --device cuda --steps 1");
    if (run.status != 0) { /* no GPU, or a build without it */
        assert_int_equal(run.status, 1);
        assert_non_null(strstr(run.err, "--device cuda"));
        assert_string_equal(run.out, "");
    }
    program_free(&run);
}

/* One object a line: all steps in order, and the validation of each epoch. */
static void test_log(void **state) {
    (void)state;
    program_run run = run_program("train", "@/models/digits.onnx --data @/models/digits_train.npz --val-data "
                                           "@/models/digits_val.npz --batch 512 --epochs 2 --log log.jsonl");
    assert_int_equal(run.status, 0);
    program_free(&run);
    FILE *file = fopen("log.jsonl", "r");
    char line[512];
    int steps = 0, validations = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        json_t *d = json_loads(line, 0, NULL);
        assert_non_null(d);
        if (json_object_get(d, "val")) {
            assert_int_equal(json_integer_value(json_object_get(d, "epoch")), validations++);
            assert_true(json_is_real(json_object_get(json_object_get(d, "val"), "accuracy")));
        } else {
            assert_int_equal(json_integer_value(json_object_get(d, "step")), steps++);
            assert_true(json_is_real(json_object_get(d, "loss")) && json_is_real(json_object_get(d, "accuracy")));
            assert_true(json_is_real(json_object_get(d, "seconds")));
        }
        json_decref(d);
    }
    fclose(file);
    assert_int_equal(steps, 2 * 3);
    assert_int_equal(validations, 2);
}

static void write_text(const char *name, const char *text) {
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void assert_text(const char *name, const char *text) {
    char found[64] = "";
    FILE *file = fopen(name, "r");
    assert_non_null(file);
    found[fread(found, 1, sizeof found - 1, file)] = 0;
    fclose(file);
    assert_string_equal(found, text);
}

/* What was there before stays when a run fails, whenever it does. */
static void test_failures_write_nothing(void **state) {
    (void)state;
    static const struct {
        int status;
        const char *words;
    } cases[] = {
        {6, "@/models/digits.onnx --steps 200 --lr 1e6 --save old.onnx"},
        {4, "@/models/digits.onnx --budget 1k --save old.onnx --log old.log"},
        {2, "@/models/digits.onnx --data nowhere.npz --save old.onnx --log old.log"},
        {2, "@/models/digits.onnx --plan nowhere.json --save old.onnx --log old.log"},
        {1, "@/models/digits.onnx --layers * --preserve-rng off --verify --save old.onnx"},
        {2, "@/models/digits.onnx --log old.log --plan old.log"},
        {2, "@/models/digits.onnx --steps 1 --save folder"},
        {2, "@/models/digits.onnx --steps 1 --save /proc/out.onnx"},
    };
    mkdir("folder", 0700);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text("old.onnx", "as it was");
        write_text("old.log", "as it was");
        program_run run = run_program("train", "%s", cases[i].words);
        if (run.status != cases[i].status) fail_msg("%s: status %d: %s", cases[i].words, run.status, run.err);
        assert_text("old.onnx", "as it was");
        assert_text("old.log", "as it was");
        program_free(&run);
    }
    const int written = system("ls -A | grep -c '\\.tmp\\|old\\.onnx\\.' > leftovers");
    (void)written;
    assert_text("leftovers", "0\n"); /* no temporary file is left either */
}

/* A result that cannot be written is a failure, not a success that nobody reads. */
static void test_full_stdout(void **state) {
    (void)state;
    const int full = open("/dev/full", O_WRONLY);
    if (full < 0) skip();
    close(full);
    char command[2048];
    snprintf(command, sizeof command, "%s %s/models/digits.onnx --json > /dev/full 2> full.err", CKPTPLAN, CKPT_SOURCE_DIR);
    const int status = system(command);
    assert_int_equal(WEXITSTATUS(status), 1);
    snprintf(command, sizeof command, "%s %s/models/digits.onnx --steps 1 > /dev/full 2> full.err", CKPTTRAIN, CKPT_SOURCE_DIR);
    assert_int_equal(WEXITSTATUS(system(command)), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help_lists_what_the_parser_takes),
        cmocka_unit_test(test_spelling),
        cmocka_unit_test(test_what_implies_what),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_forward_only),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_failures_write_nothing),
        cmocka_unit_test(test_full_stdout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
