/* --dropout puts back what an export for inference left out, --dropout-rng chooses who draws the masks. */
#include "cmocka_all.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/onnx_file.h"
#include "run_program.h"

static ckpt_onnx_file *open_model(const char *path) {
    ckpt_onnx_file *file;
    ckpt_error err;
    if (ckpt_onnx_read(path, &file, &err) != CKPT_OK) fail_msg("%s", err.message);
    return file;
}

static void pack(const ckpt_onnx_file *file, const char *path) {
    const size_t size = onnx__model_proto__get_packed_size(file->model);
    uint8_t *bytes = calloc(1, size + 1);
    onnx__model_proto__pack(file->model, bytes);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, size, out), size);
    fclose(out);
    free(bytes);
}

/* Writes a bundled model as an exporter does for inference: what was dropout passes its input on. */
static void write_for_inference(const char *name) {
    char path[512], identity[] = "Identity";
    snprintf(path, sizeof path, "%s/models/%s.onnx", CKPT_SOURCE_DIR, name);
    ckpt_onnx_file *file = open_model(path);
    Onnx__GraphProto *graph = file->model->graph;
    Onnx__NodeProto **old = calloc(graph->n_node, sizeof *old), *changed = calloc(graph->n_node, sizeof *changed);
    int count = 0;
    for (size_t i = 0; i < graph->n_node; i++) {
        old[i] = graph->node[i];
        if (strcmp(old[i]->op_type, "Dropout") != 0) continue;
        changed[i] = *old[i];
        changed[i].op_type = identity;
        changed[i].n_input = changed[i].n_output = 1;
        changed[i].n_attribute = 0;
        graph->node[i] = &changed[i];
        count++;
    }
    assert_true(count > 0);
    snprintf(path, sizeof path, "%s.onnx", name);
    pack(file, path);
    for (size_t i = 0; i < graph->n_node; i++) graph->node[i] = old[i];
    free(old), free(changed);
    ckpt_onnx_free(file);
}

static char *hash_of(const char *words) {
    static char hash[4][65];
    static int turn;
    program_run run = run_program("train", "%s --steps 4 --threads 2 --json", words);
    if (run.status != 0) fail_msg("%s: status %d: %s", words, run.status, run.err);
    json_t *document = json_loads(run.out, 0, NULL);
    char *to = hash[turn++ % 4];
    snprintf(to, 65, "%s", json_string_value(json_object_get(document, "weights_sha256")));
    json_decref(document);
    program_free(&run);
    return to;
}

/* The bundled models drop with 0.1 behind their activations: put back, the same masks and so the same bits. */
static void test_put_back_is_as_it_was(void **state) {
    (void)state;
    static const char *const models[] = {"mlp_checkpointed", "mlp_prenorm_gelu", "mlp_residual", "digits"};
    static const char *const plans[] = {"--strategy none", "--strategy sqrt", "--strategy min --optimizer adam",
                                        "--strategy selective --micro-batch 8", "--every 2 --verify"};
    char words[256];
    for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
        write_for_inference(models[m]);
        for (size_t p = 0; p < sizeof plans / sizeof *plans; p++) {
            if (m > 1 && p != m) continue;
            snprintf(words, sizeof words, "@/models/%s.onnx --batch 32 %s", models[m], plans[p]);
            const char *own = hash_of(words);
            snprintf(words, sizeof words, "%s.onnx --batch 32 %s --dropout 0.1", models[m], plans[p]);
            assert_string_equal(hash_of(words), own);
        }
        /* Negative controls: without, and with another probability. */
        snprintf(words, sizeof words, "%s.onnx --batch 32", models[m]);
        const char *plain = hash_of(words);
        snprintf(words, sizeof words, "%s.onnx --batch 32 --dropout 0.1", models[m]);
        const char *dropped = hash_of(words);
        snprintf(words, sizeof words, "%s.onnx --batch 32 --dropout 0.2", models[m]);
        const char *more = hash_of(words);
        assert_string_not_equal(plain, dropped);
        assert_string_not_equal(more, dropped);
    }
}

/* The file that is saved has the nodes of the file that was read. */
static void test_the_saved_model_has_none(void **state) {
    (void)state;
    write_for_inference("mlp_checkpointed");
    hash_of("mlp_checkpointed.onnx --batch 32 --dropout 0.1 --save saved.onnx");
    ckpt_onnx_file *before = open_model("mlp_checkpointed.onnx"), *after = open_model("saved.onnx");
    assert_int_equal(before->model->graph->n_node, after->model->graph->n_node);
    for (size_t i = 0; i < before->model->graph->n_node; i++)
        assert_string_equal(before->model->graph->node[i]->op_type, after->model->graph->node[i]->op_type);
    ckpt_onnx_free(before), ckpt_onnx_free(after);
}

static void refused(const char *which, const char *words, const char *says) {
    program_run run = run_program(which, "%s", words);
    if (run.status != 2 || !strstr(run.err, says) || strchr(run.err, '\n') != run.err + strlen(run.err) - 1)
        fail_msg("%s: status %d, not '%s': %s", words, run.status, says, run.err);
    program_free(&run);
}

static void test_refusals(void **state) {
    (void)state;
    refused("train", "@/models/digits.onnx --dropout 0.1", "is dropout already; leave out --dropout");
    refused("plan", "@/models/digits.onnx --dropout 0.1", "is dropout already; leave out --dropout");
    refused("train", "@/models/digits.onnx --dropout 1", "--dropout: '1' is not a number from 0 to 0.99");
    refused("train", "@/models/digits.onnx --dropout-rng onnx-ref --device cuda", "drawn on the CPU only");
}

/* A plan with added dropout is the plan that is trained. */
static void test_plans_know_of_it(void **state) {
    (void)state;
    write_for_inference("mlp_prenorm_gelu");
    program_run run = run_program("plan", "mlp_prenorm_gelu.onnx --batch 32 --dropout 0.1 --strategy sqrt -o dropout.json");
    assert_int_equal(run.status, 0);
    program_free(&run);
    char *made = hash_of("mlp_prenorm_gelu.onnx --batch 32 --dropout 0.1 --plan dropout.json");
    assert_string_equal(made, hash_of("mlp_prenorm_gelu.onnx --batch 32 --dropout 0.1"));
    refused("train", "mlp_prenorm_gelu.onnx --batch 32 --plan dropout.json", "dropout.json");
}

/* The reference's masks repeat when they are recomputed; they are others than Philox's. */
static void test_the_reference_masks_repeat(void **state) {
    (void)state;
    const char *plain = hash_of("@/models/mlp_prenorm_gelu.onnx --batch 32 --dropout-rng onnx-ref");
    assert_string_equal(plain, hash_of("@/models/mlp_prenorm_gelu.onnx --batch 32 --dropout-rng onnx-ref --strategy sqrt --verify"));
    assert_string_equal(plain, hash_of("@/models/mlp_prenorm_gelu.onnx --batch 32 --dropout-rng onnx-ref --strategy min"));
    assert_string_not_equal(plain, hash_of("@/models/mlp_prenorm_gelu.onnx --batch 32"));
    program_run run = run_program("train", "@/models/mlp_prenorm_gelu.onnx --steps 2 --dropout-rng onnx-ref --strategy sqrt "
                                           "--verify --preserve-rng off");
    assert_int_equal(run.status, 1); /* negative control: seeds of their own for recomputations are noticed */
    program_free(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_back_is_as_it_was), cmocka_unit_test(test_the_saved_model_has_none),
        cmocka_unit_test(test_refusals),              cmocka_unit_test(test_plans_know_of_it),
        cmocka_unit_test(test_the_reference_masks_repeat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
