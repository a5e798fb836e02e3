/* The contract that outside scripts rely on: options, JSON keys, exit statuses, planned = trained. */
#include "cmocka_all.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job/devices.h"
#include "run_program.h"
#include "runtime/backend.h"

#define DIGITS "@/models/digits.onnx --data @/models/digits_train.npz"

static json_t *json_of(const char *which, const char *words) {
    program_run run = run_program(which, "%s --json", words);
    json_error_t error;
    if (run.status != 0) fail_msg("%s: status %d: %s", words, run.status, run.err);
    json_t *document = json_loads(run.out, JSON_REJECT_DUPLICATES, &error);
    if (!document) fail_msg("%s: %s", words, error.text);
    program_free(&run);
    return document;
}

/* "memory.total:i compute.recompute_fraction:r model.path:s layers:a bound:b val:?" */
static void check_keys(json_t *document, const char *keys) {
    char *copy = strdup(keys);
    for (char *key = strtok(copy, " "); key; key = strtok(NULL, " ")) {
        char *type = strchr(key, ':');
        *type++ = 0;
        json_t *at = document;
        char path[128];
        snprintf(path, sizeof path, "%s", key);
        char *save;
        for (char *part = strtok_r(path, ".", &save); part; part = strtok_r(NULL, ".", &save)) at = json_object_get(at, part);
        const bool fits = *type == 'i'   ? json_is_integer(at)
                          : *type == 'r' ? json_is_number(at)
                          : *type == 's' ? json_is_string(at)
                          : *type == 'a' ? json_is_array(at)
                          : *type == 'b' ? json_is_boolean(at)
                                         : at != NULL;
        if (!fits) fail_msg("key %s is missing or not of type %s", key, type);
    }
    free(copy);
}

static int64_t integer_at(json_t *document, const char *object, const char *key) {
    return json_integer_value(json_object_get(json_object_get(document, object), key));
}

static void test_plan_document(void **state) {
    (void)state;
    json_t *d = json_of("plan", "@/models/mlp_checkpointed.onnx --strategy every --every 2 --optimizer adam --batch 32");
    check_keys(d, "schema:s model.path:s model.graph_hash:s model.parameters:i model.layers:i batch:i optimizer:s device:s "
                  "precision:s strategy.name:s memory.total:i memory.parameters:i memory.optimizer:i memory.gradients:i "
                  "memory.inputs:i memory.workspace:i memory.arena:i memory.live_peak:i memory.store_all_total:i "
                  "memory.minimum_total:i compute.forward_flops:i compute.backward_flops:i compute.recompute_flops:i "
                  "compute.recompute_fraction:r optimality.proved:b optimality.lower_bound_recompute_flops:i "
                  "optimality.gap:r layers:a timeline:a");
    assert_string_equal(json_string_value(json_object_get(d, "schema")), "ckptplan/1");
    json_t *layer = json_array_get(json_object_get(d, "layers"), 0);
    check_keys(layer, "index:i name:s op:s shape:a bytes:i decision:s");
    json_t *timeline = json_object_get(d, "timeline"), *step;
    size_t i;
    int64_t most = 0, recomputed = 0;
    json_array_foreach(timeline, i, step) {
        check_keys(step, "step:i node:s phase:s live:i");
        const int64_t live = json_integer_value(json_object_get(step, "live"));
        most = live > most ? live : most;
        recomputed += strcmp(json_string_value(json_object_get(step, "phase")), "recompute") == 0;
    }
    assert_int_equal(most, integer_at(d, "memory", "live_peak"));
    assert_true(recomputed > 0);
    int64_t parts = 0;
    const char *const names[] = {"parameters", "constants", "optimizer", "gradients", "inputs", "workspace", "arena"};
    for (i = 0; i < 7; i++) parts += integer_at(d, "memory", names[i]);
    assert_int_equal(parts, integer_at(d, "memory", "total"));
    json_decref(d);
}

static void test_train_document(void **state) {
    (void)state;
    json_t *d = json_of("train", DIGITS " --val-data @/models/digits_val.npz --epochs 2 --batch 128 --checkpoint on --verify");
    check_keys(d, "schema:s device:s checkpoint:s strategy:s steps:i epochs:i loss.first:r loss.last:r accuracy:r val.loss:r "
                  "val.accuracy:r memory.planned_peak:i memory.measured_peak:i recomputed_nodes_per_step:i seconds:r "
                  "samples_per_second:r weights_sha256:s verify:s");
    assert_string_equal(json_string_value(json_object_get(d, "verify")), "passed");
    assert_string_equal(json_string_value(json_object_get(d, "strategy")), "sqrt");
    assert_string_equal(json_string_value(json_object_get(d, "checkpoint")), "on");
    assert_int_equal(json_integer_value(json_object_get(d, "steps")), 2 * 12); /* 1437 samples in batches of 128 */
    json_decref(d);
    d = json_of("train", "@/models/mlp_hourglass.onnx --steps 2");
    assert_true(json_is_null(json_object_get(d, "accuracy")));
    assert_true(json_is_null(json_object_get(d, "val")));
    assert_string_equal(json_string_value(json_object_get(d, "verify")), "off");
    json_decref(d);
}

/* The bytes that ckptplan states are those that ckpttrain plans and measures, and the weights never differ. */
static void test_planned_is_trained(void **state) {
    (void)state;
    static const char *const setups[] = {"@/models/digits.onnx --optimizer adam --batch 32",
                                         "@/models/mlp_prenorm_gelu.onnx --batch 48 --micro-batch 16 --optimizer momentum",
                                         "@/models/mlp_hourglass.onnx --batch 7"};
    static const char *const plans[] = {"--strategy none", "--strategy sqrt", "--every 3",
                                        "--layers 0-1",    "--strategy selective", "--strategy min"};
    for (size_t s = 0; s < 3; s++) {
        char first[65] = "";
        for (size_t p = 0; p < 6; p++) {
            char words[512];
            snprintf(words, sizeof words, "%s %s", setups[s], plans[p]);
            json_t *plan = json_of("plan", words);
            snprintf(words, sizeof words, "%s %s --steps 3", setups[s], plans[p]);
            json_t *train = json_of("train", words);
            assert_int_equal(integer_at(plan, "memory", "total"), integer_at(train, "memory", "planned_peak"));
            assert_int_equal(integer_at(train, "memory", "planned_peak"), integer_at(train, "memory", "measured_peak"));
            const char *hash = json_string_value(json_object_get(train, "weights_sha256"));
            if (!*first) snprintf(first, sizeof first, "%s", hash);
            assert_string_equal(hash, first);
            json_decref(plan);
            json_decref(train);
        }
    }
}

static void test_preserve_rng_off_is_noticed(void **state) {
    (void)state;
    char hash[2][65];
    for (int off = 0; off < 2; off++) {
        json_t *d = json_of("train", off ? DIGITS " --steps 3 --layers * --preserve-rng off" : DIGITS " --steps 3 --layers *");
        snprintf(hash[off], 65, "%s", json_string_value(json_object_get(d, "weights_sha256")));
        json_decref(d);
    }
    assert_string_not_equal(hash[0], hash[1]);
    program_run run = run_program("train", DIGITS " --steps 3 --layers * --preserve-rng off --verify --json");
    assert_int_equal(run.status, 1);
    assert_non_null(strstr(run.out, "\"failed\""));
    program_free(&run);
}

/* The refusal names the smallest budget; that one works, one byte less does not. */
static void test_an_impossible_budget_names_the_smallest(void **state) {
    (void)state;
    program_run run = run_program("plan", "@/models/digits.onnx --budget 1000");
    assert_int_equal(run.status, 4);
    const char *at = strstr(run.err, "smallest feasible budget is ");
    assert_non_null(at);
    const long long smallest = atoll(at + strlen("smallest feasible budget is "));
    program_free(&run);
    run = run_program("train", "@/models/digits.onnx --steps 1 --json --budget %lld", smallest);
    assert_int_equal(run.status, 0);
    json_t *d = json_loads(run.out, 0, NULL);
    assert_true(integer_at(d, "memory", "measured_peak") <= smallest);
    json_decref(d);
    program_free(&run);
    run = run_program("train", "@/models/digits.onnx --steps 1 --budget %lld", smallest - 1);
    assert_int_equal(run.status, 4);
    assert_string_equal(run.out, "");
    program_free(&run);
}

static void test_plan_files_run(void **state) {
    (void)state;
    unlink("p.json");
    program_run run = run_program("plan", "@/models/digits.onnx --batch 32 --strategy sqrt -o p.json");
    assert_int_equal(run.status, 0);
    program_free(&run);
    json_t *with = json_of("train", "@/models/digits.onnx --batch 32 --plan p.json --steps 2");
    json_t *without = json_of("train", "@/models/digits.onnx --batch 32 --steps 2");
    assert_string_equal(json_string_value(json_object_get(with, "weights_sha256")),
                        json_string_value(json_object_get(without, "weights_sha256")));
    assert_string_equal(json_string_value(json_object_get(with, "checkpoint")), "on");
    assert_true(json_integer_value(json_object_get(with, "recomputed_nodes_per_step")) > 0);
    json_decref(with);
    json_decref(without);
    static const char *const other[] = {"@/models/mlp_hourglass.onnx --batch 32 --plan p.json", /* another model */
                                        "@/models/digits.onnx --batch 31 --plan p.json",        /* another batch */
                                        "@/models/digits.onnx --plan @/README.md", "@/models/digits.onnx --plan nowhere.json"};
    for (size_t i = 0; i < 4; i++) {
        run = run_program("train", "%s", other[i]);
        assert_int_equal(run.status, 2);
        assert_non_null(strchr(run.err, '\n'));
        assert_null(strchr(strchr(run.err, '\n') + 1, '\n')); /* one line */
        program_free(&run);
    }
}

static void test_help_and_version(void **state) {
    (void)state;
    static const char *const both[] = {"--batch", "--dim", "--strategy", "--every", "--layers", "--budget", "--optimizer",
                                       "--micro-batch", "--loss", "--device", "--precision", "--json"};
    static const char *const train[] = {"--checkpoint", "--plan", "--data", "--val-data", "--epochs", "--steps", "--lr", "--seed",
                                        "--shuffle", "--preserve-rng", "--verify", "--save", "--log", "--target", "--features", "--drop"};
    for (int p = 0; p < 2; p++) {
        program_run run = run_program(p ? "train" : "plan", "--help");
        assert_int_equal(run.status, 0);
        assert_string_equal(run.err, "");
        for (size_t i = 0; i < sizeof both / sizeof *both; i++) assert_non_null(strstr(run.out, both[i]));
        for (size_t i = 0; i < sizeof train / sizeof *train; i++) {
            char option[32];
            snprintf(option, sizeof option, "%s ", train[i]);
            if (p) assert_non_null(strstr(run.out, train[i]));
        }
        program_free(&run);
        run = run_program(p ? "train" : "plan", "--version");
        assert_int_equal(run.status, 0);
        assert_non_null(strstr(run.out, p ? "ckpttrain " : "ckptplan "));
        program_free(&run);
    }
}

/* The rows of devices.c are what the backends say of themselves. */
static void test_traits_match_the_backends(void **state) {
    (void)state;
    const ckpt_traits *own = ckpt_backend_cpu()->traits, *planned = ckpt_device_traits("cpu");
    assert_int_equal(own->alignment_bytes, planned->alignment_bytes);
    assert_int_equal(own->matmul_workspace_bytes, planned->matmul_workspace_bytes);
    assert_int_equal(own->input_buffers, planned->input_buffers);
    if (!ckpt_backend_cuda()) return;
    own = ckpt_backend_cuda()->traits, planned = ckpt_device_traits("cuda");
    assert_int_equal(own->alignment_bytes, planned->alignment_bytes);
    assert_int_equal(own->matmul_workspace_bytes, planned->matmul_workspace_bytes);
    assert_int_equal(own->input_buffers, planned->input_buffers);
}

/* SIGINT and SIGTERM finish the step, save and log; the saved model loads. */
static void test_interruption_saves(void **state) {
    (void)state;
    const int signals[2] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        struct stat seen = {0};
        unlink("stopped.onnx"), unlink("stopped.log");
        const pid_t pid = start_program("train", DIGITS " --epochs 1000000 --save stopped.onnx --log stopped.log");
        for (int wait = 0; wait < 1000 && (stat("stopped.log", &seen) != 0 || seen.st_size == 0); wait++) usleep(10000);
        assert_true(seen.st_size > 0);
        kill(pid, signals[i]);
        assert_int_equal(wait_program(pid), i ? 143 : 130);
        json_t *d = json_of("plan", "stopped.onnx");
        json_decref(d);
    }
}

static void test_saved_models_go_on(void **state) {
    (void)state;
    unlink("trained.onnx");
    json_t *d = json_of("train", DIGITS " --val-data @/models/digits_val.npz --epochs 30 --optimizer adam --lr 0.002 --batch 256 "
                                 "--checkpoint on --save trained.onnx");
    const double accuracy = json_real_value(json_object_get(json_object_get(d, "val"), "accuracy"));
    const double loss = json_real_value(json_object_get(json_object_get(d, "val"), "loss"));
    if (!(accuracy >= 0.95)) fail_msg("validation accuracy %.4f", accuracy);
    json_decref(d);
    /* With a learning rate of 0 nothing moves: validation is as it was when the model was saved. */
    d = json_of("train", "trained.onnx --data @/models/digits_train.npz --val-data @/models/digits_val.npz --steps 1 --lr 0");
    const double again = json_real_value(json_object_get(json_object_get(d, "val"), "loss")); /* in other batches */
    assert_true(again - loss < 1e-6 * loss && loss - again < 1e-6 * loss);
    json_decref(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_document),
        cmocka_unit_test(test_train_document),
        cmocka_unit_test(test_planned_is_trained),
        cmocka_unit_test(test_preserve_rng_off_is_noticed),
        cmocka_unit_test(test_an_impossible_budget_names_the_smallest),
        cmocka_unit_test(test_plan_files_run),
        cmocka_unit_test(test_help_and_version),
        cmocka_unit_test(test_traits_match_the_backends),
        cmocka_unit_test(test_interruption_saves),
        cmocka_unit_test(test_saved_models_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
