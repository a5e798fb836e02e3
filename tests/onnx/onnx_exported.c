/* Models that PyTorch's exporter wrote, in $CKPT_SHARED_DATA/exported: each either loads, plans and trains a few steps
 * with the same bits under two plans, or can only be planned and is refused for the operator named here. */
#include "harness.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/train.h"

const ckpt_backend *CKPT_TEST_BACKEND(void);

static const struct { const char *file, *operator; } refused[] = {
    {"torch113_gpt_eval_static.onnx", "Gather"},
    {"torch113_tied_eval.onnx", "Gather"},
    {"torch113_tied_train.onnx", "Gather"},
};

static void train(const char *path, ckpt_strategy strategy, char hash[65]) {
    ckpt_error err;
    ckpt_model model;
    step_runner runner;
    double first = 0, result[2];
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_ADAM};
    const ckpt_model_options options = {.batch = 8, .loss_auto = true};
    MUST(ckpt_model_load(path, &options, &model, &err), &err);
    ckpt_training_defaults(&training);
    MUST(ckpt_autodiff_run(&model.graph, &training, &err), &err);
    runner_open(&runner, &model.graph, CKPT_TEST_BACKEND(), strategy);
    runner_load_weights(&runner, &model);
    for (int i = 0; i <= model.graph.input_count; i++) {
        const int t = i < model.graph.input_count ? model.graph.input[i] : model.graph.target[0];
        double *values = calloc((size_t)model.graph.tensor[t].count, sizeof *values);
        for (int64_t k = 0; k < model.graph.tensor[t].count; k++)
            values[k] = model.graph.tensor[t].dtype == CKPT_I32 ? (double)(k % 2) : sin((double)k + 1);
        runner_set_f64(&runner, t, values);
        free(values);
    }
    for (uint32_t step = 0; step < 30; step++) {
        runner_step(&runner, step, 1e-2f);
        MUST(ckpt_exec_result(runner.exec, result, &err), &err);
        if (step == 0) first = result[0];
    }
    if (!(result[0] < first)) fail_msg("%s: the loss went from %g to %g", path, first, result[0]);
    int *ids = calloc((size_t)model.graph.tensor_count, sizeof *ids);
    MUST(ckpt_train_hash(runner.exec, &model.graph, ids, ckpt_model_parameters(&model, ids), hash, &err), &err);
    free(ids);
    runner_close(&runner);
    ckpt_model_free(&model);
}

static const char *refusal(const char *file) {
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strcmp(refused[i].file, file) == 0) return refused[i].operator;
    return NULL;
}

static int is_model(const struct dirent *entry) { return strstr(entry->d_name, ".onnx") != NULL; }

static void test_exported(void **state) {
    const char *folder = *state;
    struct dirent **entry;
    const int count = scandir(folder, &entry, is_model, alphasort);
    int trained = 0, refusals = 0;
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        char path[2048], hash[2][65], needle[64];
        const char *operator = refusal(entry[i]->d_name);
        snprintf(path, sizeof path, "%s/%s", folder, entry[i]->d_name);
        if (operator) {
            ckpt_error err;
            ckpt_model model;
            const ckpt_model_options options = {.loss_auto = true};
            const ckpt_backend *backend = CKPT_TEST_BACKEND();
            MUST(ckpt_model_load(path, &options, &model, &err), &err);
            assert_int_equal(ckpt_model_check_trainable(&model, backend->supports, backend->name, &err), CKPT_MODEL);
            ckpt_model_free(&model);
            snprintf(needle, sizeof needle, "(%s, opset", operator);
            if (!strstr(err.message, needle) || !strstr(err.message, path)) fail_msg("%s: %s", path, err.message);
            refusals++;
        } else {
            train(path, CKPT_STRATEGY_NONE, hash[0]);
            train(path, CKPT_STRATEGY_SQRT, hash[1]);
            if (strcmp(hash[0], hash[1]) != 0) fail_msg("%s: the plan changed the weights", path);
            trained++;
        }
        free(entry[i]);
    }
    free(entry);
    printf("%d trained, %d refused for a named operator\n", trained, refusals);
}

int main(void) {
    static char folder[1024];
    const char *root = getenv("CKPT_SHARED_DATA");
    if (!root || !*root) {
        printf("skipped: CKPT_SHARED_DATA names no folder with exported models\n");
        return 77;
    }
    snprintf(folder, sizeof folder, "%s/exported", root);
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_exported, folder)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
