/* The last batch of an epoch as a user trains with it. Weights are those of PyTorch in float64
 * (tests/golden/last_batch/make_last_batch.py), for every size of the last batch, under every plan, and the bytes are those
 * that ckptplan states without knowing the data. What the model cannot be run with is refused before training, or left
 * out with --drop-last. Nodes across samples are named with --micro-batch. */
#include "cmocka_all.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "model_maker.h"
#include "run_program.h"

#define GOLDEN CKPT_SOURCE_DIR "/tests/golden/last_batch/"
#define CONTROL 0.01 /* of the weights' change, the least that another last batch makes */

static program_run must_run(const char *which, const char *words) {
    program_run run = run_program(which, "%s", words);
    if (run.status != 0) fail_msg("%s: status %d: %s", words, run.status, run.err);
    return run;
}

static json_t *json_of(const char *which, const char *words) {
    program_run run = must_run(which, words);
    json_t *document = json_loads(run.out, 0, NULL);
    assert_non_null(document);
    program_free(&run);
    return document;
}

static int64_t integer_at(json_t *document, const char *object, const char *key) {
    return json_integer_value(json_object_get(json_object_get(document, object), key));
}

static const char *hash_of(json_t *document) { return json_string_value(json_object_get(document, "weights_sha256")); }

/* --- PyTorch's weights ------------------------------------------------------------------------------- */

/* malloc'd values of an initializer */
static float *initializer(const ckpt_onnx_file *file, const char *name, int64_t count) {
    ckpt_error err;
    const Onnx__GraphProto *graph = file->model->graph;
    float *values = calloc((size_t)count, sizeof *values);
    for (size_t i = 0; i < graph->n_initializer; i++)
        if (strcmp(graph->initializer[i]->name, name) == 0) {
            MUST(ckpt_onnx_tensor_read_f32(file, graph->initializer[i], values, (size_t)count, &err), &err);
            return values;
        }
    fail_msg("no initializer '%s'", name);
    return NULL;
}

/* A network with PyTorch's results in GOLDEN/name: for a last batch of R samples behind one of `batch`. */
typedef struct golden_network {
    const char *name, *model;
    int batch;
    const char *plan, *train; /* words for both programs, and for ckpttrain only */
    int epochs;               /* of two steps each */
    double tolerance;         /* of the weights' change, in float32 against float64 */
    double (*distance)(const struct golden_network *network, const char *folder, const ckpt_onnx_file *last);
} golden_network;

/* The distance of the saved weights from the golden ones by how far these are from the first. */
static double weights_distance(const golden_network *network, const char *folder, const ckpt_onnx_file *last) {
    ckpt_onnx_file *first;
    ckpt_error err;
    double far = 0, moved = 0;
    golden_tensor want;
    MUST(ckpt_onnx_read(network->model, &first, &err), &err);
    int weights = 0;
    for (; golden_read(&want, GOLDEN "%s/%s/%02d.pb", network->name, folder, weights); weights++) {
        float *from = initializer(first, want.name, want.count), *to = initializer(last, want.name, want.count);
        for (int64_t i = 0; i < want.count; i++) {
            far += pow((double)to[i] - want.value[i], 2);
            moved += pow((double)from[i] - want.value[i], 2);
        }
        free(from);
        free(to);
        golden_free(&want);
    }
    assert_true(weights > 2);
    ckpt_onnx_free(first);
    return sqrt(far / moved);
}

enum { SUMS = 8 };

/* Sums of how far a tensor has moved, under signs that are the high bits of a linear congruential generator. For random
 * signs the mean of their squares is the squared norm (Alon, Matias and Szegedy 1996), so that eight numbers a tensor
 * take the place of golden weights, and a difference anywhere in the tensor shows. */
static void signed_sums(const float *from, const float *to, int64_t count, float sums[SUMS]) {
    uint32_t state = 1;
    double sum[SUMS] = {0};
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        const double moved = (double)to[i] - from[i];
        for (int k = 0; k < SUMS; k++) sum[k] += state >> (32 - SUMS + k) & 1 ? -moved : moved;
    }
    for (int k = 0; k < SUMS; k++) sums[k] = (float)sum[k];
}

/* The largest distance of a tensor's sums from the golden ones by the norm of these. */
static double sums_distance(const golden_network *network, const char *folder, const ckpt_onnx_file *last) {
    ckpt_onnx_file *first;
    ckpt_error err;
    double worst = 0;
    golden_tensor want;
    MUST(ckpt_onnx_read(network->model, &first, &err), &err);
    assert_true(golden_read(&want, GOLDEN "%s/%s.pb", network->name, folder));
    const Onnx__GraphProto *graph = first->model->graph;
    int64_t tensors = 0;
    for (size_t i = 0; i < graph->n_initializer; i++) {
        const Onnx__TensorProto *tensor = graph->initializer[i];
        if (tensor->n_dims == 0) continue; /* of a Dropout */
        int64_t count = 1;
        float sums[SUMS];
        for (size_t d = 0; d < tensor->n_dims; d++) count *= tensor->dims[d];
        float *from = initializer(first, tensor->name, count), *to = initializer(last, tensor->name, count);
        signed_sums(from, to, count, sums);
        assert_true(tensors < want.dim[0]);
        worst = fmax(worst, relative_error(sums, want.value + SUMS * tensors++, SUMS));
        free(from);
        free(to);
    }
    assert_int_equal(tensors, want.dim[0]);
    golden_free(&want);
    ckpt_onnx_free(first);
    return worst;
}

/* Of what was trained last. */
static double distance(const golden_network *network, const char *folder) {
    ckpt_onnx_file *last;
    ckpt_error err;
    MUST(ckpt_onnx_read("last.onnx", &last, &err), &err);
    const double result = network->distance(network, folder, last);
    ckpt_onnx_free(last);
    return result;
}

enum { WAYS = 3 };
static const struct { const char *plan, *train; } ways[WAYS] = {
    {"", "--checkpoint off"}, {"--strategy sqrt", "--checkpoint on"}, {"--strategy min", "--strategy min --verify"}};

/* Bytes that ckptplan states for each way. */
static void plan_ways(const golden_network *n, int64_t bytes[WAYS]) {
    char words[768];
    for (int p = 0; p < WAYS; p++) {
        snprintf(words, sizeof words, "%s --device cpu --json --batch %d %s %s", n->model, n->batch, n->plan, ways[p].plan);
        json_t *plan = json_of("plan", words);
        bytes[p] = integer_at(plan, "memory", "total");
        json_decref(plan);
    }
}

static void check_golden(const golden_network *n, const char *folder, int samples, const int64_t bytes[WAYS]) {
    char words[768], hash[65] = "";
    for (int p = 0; p < WAYS; p++) {
        snprintf(words, sizeof words, "%s --data " GOLDEN "%s/data_%d.npz --device cpu --json --batch %d %s %s %s --epochs %d "
                 "--shuffle off --save last.onnx --overwrite", n->model, n->name, samples, n->batch, n->plan, ways[p].train, n->train, n->epochs);
        json_t *train = json_of("train", words);
        assert_int_equal(json_integer_value(json_object_get(train, "steps")), 2 * n->epochs);
        assert_int_equal(integer_at(train, "memory", "measured_peak"), integer_at(train, "memory", "planned_peak"));
        assert_int_equal(integer_at(train, "memory", "planned_peak"), bytes[p]);
        if (!*hash) snprintf(hash, sizeof hash, "%s", hash_of(train));
        assert_string_equal(hash_of(train), hash);
        const double error = distance(n, folder);
        if (!(error < n->tolerance)) fail_msg("%s, last batch %s: relative error %.3g", n->name, folder, error);
        json_decref(train);
    }
}

#define EXPORTED(name) {name, GOLDEN name "/model.onnx", 4, "", "--lr 0.5", 1, 1e-4, weights_distance}
/* Dropout is that of ONNX's reference implementation, which PyTorch was given. A scale of 1 that moves
 * little is rounded by some 5e-5 of that (blocks.3.norm.weight of mlp_prenorm_gelu), and its sums can be half of its norm. */
#define BUNDLED(name, path) \
    {name, CKPT_SOURCE_DIR path, 8, "--dropout-rng onnx-ref", "--lr 0.015625", 2, 5e-4, sums_distance}

static const golden_network networks[] = {
    EXPORTED("batchnorm"),
    EXPORTED("spatial"),
    EXPORTED("across"),
    EXPORTED("poles"),
    BUNDLED("mlp_checkpointed", "/models/mlp_checkpointed.onnx"),
    BUNDLED("mlp_uniform64", "/models/mlp_uniform64.onnx"),
    BUNDLED("mlp_hourglass", "/models/mlp_hourglass.onnx"),
    BUNDLED("mlp_residual", "/models/mlp_residual.onnx"),
    BUNDLED("mlp_prenorm_gelu", "/models/mlp_prenorm_gelu.onnx"),
    BUNDLED("digits", "/models/digits.onnx"),
    BUNDLED("statistics", "/tests/golden/training/batchnorm_sgd/model.onnx"), /* running ones too */
};

static void test_weights_are_pytorchs(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
        const golden_network *n = &networks[i];
        int64_t bytes[WAYS];
        plan_ways(n, bytes);
        for (int left = 1; left < n->batch; left++) {
            char folder[16];
            snprintf(folder, sizeof folder, "%d", left);
            check_golden(n, folder, n->batch + left, bytes);
            snprintf(folder, sizeof folder, "%d", left == 1 ? 2 : left - 1); /* negative control: another last batch gives others */
            assert_true(distance(n, folder) > CONTROL);
        }
    }
}

static void test_parts_are_pytorchs(void **state) {
    (void)state;
    golden_network spatial = networks[1];
    int64_t bytes[WAYS];
    spatial.plan = "--micro-batch 2";
    plan_ways(&spatial, bytes);
    check_golden(&spatial, "micro", 7, bytes);
    assert_true(distance(&spatial, "3") > CONTROL);
}

/* --- the rest of the data ---------------------------------------------------------------------------- */

/* 360 samples: the mean over all of them, whatever is left of the last batch. */
static void test_validation_does_not_depend_on_the_batch(void **state) {
    (void)state;
    static const int batches[] = {360, 359, 64, 7};
    double first = 0;
    for (int i = 0; i < 4; i++) {
        char words[512];
        snprintf(words, sizeof words, "@/models/digits.onnx --data @/models/digits_train.npz --val-data @/models/digits_val.npz "
                 "--batch %d --lr 0 --steps 1 --device cpu --json", batches[i]);
        json_t *d = json_of("train", words);
        const double loss = json_real_value(json_object_get(json_object_get(d, "val"), "loss"));
        if (i == 0) first = loss;
        assert_true(fabs(loss - first) <= 1e-6 * first);
        json_decref(d);
    }
}

/* One sample has no variance, which is worth a word; PyTorch trains no such batch. */
static void test_a_lone_sample_is_named(void **state) {
    (void)state;
    for (int batch = 3; batch <= 4; batch++) {
        program_run run = run_program("train", GOLDEN "batchnorm/model.onnx --data " GOLDEN "batchnorm/data_7.npz --batch %d --epochs 1 "
                                      "--device cpu", batch);
        assert_int_equal(run.status, 0);
        assert_true((strstr(run.err, "variance is 0") != NULL) == (batch == 3));
        program_free(&run);
    }
}

/* Fewer samples than a batch are one batch of their own. */
static void test_fewer_samples_than_a_batch(void **state) {
    (void)state;
    char hash[2][65];
    for (int i = 0; i < 2; i++) {
        char words[512];
        snprintf(words, sizeof words, GOLDEN "across/model.onnx --data " GOLDEN "across/data_5.npz --batch %d --epochs 2 --device cpu --json",
                 i ? 9 : 5);
        json_t *d = json_of("train", words);
        snprintf(hash[i], sizeof hash[i], "%s", hash_of(d));
        json_decref(d);
    }
    assert_string_equal(hash[0], hash[1]);
}

static void write_csv(const char *path, int samples) {
    FILE *file = fopen(path, "w");
    fprintf(file, "a,b,c,d,target\n");
    for (int i = 0; i < samples; i++) fprintf(file, "%d,%d,0.5,%d,%d\n", i % 3, i % 5 - 2, i, i % 2);
    fclose(file);
}

/* x (batch, 4) -> two columns; `fixed`: the file has its batch of 4 as a number; shape: the node 'shaped', a Reshape or an
 * Expand, is to it, NULL for none; op: another node. */
static const char *make_model(bool fixed, const char *shaped, const int64_t *shape, const char *op, const char *attrs) {
    static maker m; /* its path is what is returned */
    maker_start(&m, 17);
    maker_input(&m, "x", 2, (int64_t[]){fixed ? 4 : -1, 4});
    maker_weight(&m, "w", 2, (int64_t[]){4, 4});
    maker_weight(&m, "v", 2, (int64_t[]){4, 2});
    maker_node(&m, "MatMul", "fc", "x,w", "h", NULL);
    if (shape) maker_ints(&m, "shape", 2, shape);
    if (shape) maker_node(&m, shaped, "shaped", "h,shape", "s", NULL);
    if (op) maker_node(&m, op, "across", shape ? "s" : "h", "t", attrs);
    maker_node(&m, "MatMul", "head", op ? "t,v" : shape ? "s,v" : "h,v", "y", NULL);
    maker_output(&m, "y");
    return maker_write(&m, "last_batch.onnx");
}

static void refused(const char *words, const char *const pieces[3]) {
    program_run run = run_program("train", "%s", words);
    const char *end = strchr(run.err, '\n');
    bool named = run.status == 2 && end && !end[1] && !*run.out;
    for (int i = 0; i < 3; i++) named = named && strstr(run.err, pieces[i]);
    if (!named) fail_msg("%s: status %d instead of 2 with '%s', '%s' and '%s': %s", words, run.status, pieces[0], pieces[1], pieces[2], run.err);
    program_free(&run);
}

/* 10 samples in batches of 4. */
static void test_what_does_not_take_a_smaller_batch(void **state) {
    (void)state;
    static const int64_t rows[2] = {4, 4}, merged[2] = {4, -1};
    const struct { bool fixed; const char *shaped; const int64_t *shape; const char *op, *attrs, *names; } models[] = {
        {true, "Expand", rows, NULL, NULL, "'shaped'"},            /* to 4 rows */
        {false, "Reshape", rows, NULL, NULL, "'shaped'"},          /* likewise, where the file gives the batch a name */
        {true, NULL, NULL, "Softmax", "axis=0", "'across'"},       /* over what the file says are 4 samples */
        {true, "Reshape", merged, "Softmax", "axis=1", "'head'"}}; /* 4 rows, whatever there is */
    write_csv("ten.csv", 10);
    write_csv("eight.csv", 8);
    write_csv("three.csv", 3);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        char words[1024];
        const char *model = make_model(models[i].fixed, models[i].shaped, models[i].shape, models[i].op, models[i].attrs);
        const char *const pieces[3] = {"10 samples leave a last batch of 2", "--drop-last", models[i].names};
        snprintf(words, sizeof words, "%s --data ten.csv --batch 4 --device cpu", model);
        refused(words, pieces);
        const char *const validation[3] = {"ten.csv", "--drop-last", models[i].names};
        snprintf(words, sizeof words, "%s --data eight.csv --val-data ten.csv --batch 4 --device cpu", model);
        refused(words, validation);
        const char *const all[3] = {"three.csv", "all of its 3 samples", "--batch"};
        snprintf(words, sizeof words, "%s --data eight.csv --val-data three.csv --batch 4 --drop-last --device cpu", model);
        refused(words, all);
        snprintf(words, sizeof words, "%s --data ten.csv --val-data ten.csv --batch 4 --drop-last --epochs 2 --device cpu --json", model);
        json_t *d = json_of("train", words);
        assert_int_equal(json_integer_value(json_object_get(d, "steps")), 4);
        assert_int_equal(integer_at(d, "dropped", "training"), 2);
        assert_int_equal(integer_at(d, "dropped", "validation"), 2);
        json_decref(d);
    }
}

/* A file that fixes its batch, in a Reshape too, and in which every node keeps samples apart, is the same network for any
 * other. */
static void test_a_fixed_batch_that_any_other_suits(void **state) {
    (void)state;
    static const int64_t rows[2] = {4, 4};
    char words[1024], hash[2][65];
    write_csv("ten.csv", 10);
    for (int fixed = 0; fixed < 2; fixed++) {
        snprintf(words, sizeof words, "%s --data ten.csv --val-data ten.csv --batch 4 --epochs 2 --device cpu --json",
                 make_model(fixed, "Reshape", fixed ? rows : NULL, "Softmax", "axis=1"));
        json_t *d = json_of("train", words);
        assert_int_equal(json_integer_value(json_object_get(d, "steps")), 6);
        snprintf(hash[fixed], sizeof hash[fixed], "%s", hash_of(d));
        json_decref(d);
    }
    assert_string_equal(hash[0], hash[1]);
    /* and where they do not keep them apart, --batch is as wrong as a last batch */
    const char *const pieces[3] = {"fixes a batch of 4", "'across'", "--batch 4"};
    snprintf(words, sizeof words, "%s --data ten.csv --batch 5 --device cpu", make_model(true, NULL, NULL, "Softmax", "axis=0"));
    refused(words, pieces);
}

/* --drop-last leaves out training samples of any model and says so; validation keeps all that can be run. */
static void test_drop_last(void **state) {
    (void)state;
    char hash[2][65];
    write_csv("ten.csv", 10);
    write_csv("eight.csv", 8);
    make_model(false, NULL, NULL, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        program_run run = run_program("train", "last_batch.onnx --data %s --val-data ten.csv --batch 4 --epochs 2 --shuffle off --device cpu "
                                      "--json %s", i ? "eight.csv" : "ten.csv", i ? "" : "--drop-last");
        assert_int_equal(run.status, 0);
        assert_true((strstr(run.err, "each epoch leaves out 2 of its 10 samples") != NULL) == !i);
        json_t *d = json_loads(run.out, 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(d, "steps")), 4);
        assert_int_equal(integer_at(d, "dropped", "training"), i ? 0 : 2);
        assert_int_equal(integer_at(d, "dropped", "validation"), 0);
        snprintf(hash[i], sizeof hash[i], "%s", hash_of(d));
        json_decref(d);
        program_free(&run);
    }
    assert_string_equal(hash[0], hash[1]);
    const char *const all[3] = {"ten.csv", "all of its 10 samples", "--batch"};
    refused("last_batch.onnx --data ten.csv --batch 11 --drop-last --device cpu", all);
    /* A saved run goes on under the same rule only. */
    unlink("last_batch.state");
    program_run run = must_run("train", "last_batch.onnx --data ten.csv --batch 4 --epochs 1 --state last_batch.state --drop-last --device cpu");
    program_free(&run);
    const char *const other[3] = {"last_batch.state", "--drop-last", "another"};
    refused("last_batch.onnx --data ten.csv --batch 4 --epochs 2 --state last_batch.state --device cpu", other);
}

/* --- across samples ---------------------------------------------------------------------------------- */

/* How often `piece` is in the text. */
static int times_in(const char *text, const char *piece) {
    int count = 0;
    for (const char *at = text; (at = strstr(at, piece)); at++) count++;
    return count;
}

static void test_parts_are_named(void **state) {
    (void)state;
    static const char *const programs[] = {"plan", "train"};
    for (int p = 0; p < 2; p++)
        for (int micro = 1; micro <= 2; micro++) {
            const char *extra = p ? "--steps 1" : "";
            program_run run = run_program(programs[p], GOLDEN "across/model.onnx --batch 4 --micro-batch %d --device cpu %s", micro, extra);
            assert_int_equal(run.status, 0);
            assert_int_equal(times_in(run.err, "works across samples"), 1);
            static const char *const nodes[] = {"(ReduceMean", "(MatMul", "(Softmax"};
            for (int i = 0; i < 3; i++) assert_non_null(strstr(run.err, nodes[i]));
            program_free(&run);
            run = run_program(programs[p], GOLDEN "spatial/model.onnx --batch 4 --micro-batch %d --device cpu %s", micro, extra);
            assert_int_equal(times_in(run.err, "works across samples"), 1);
            assert_int_equal(times_in(run.err, "opset 17"), 1); /* the BatchNormalization and nothing else */
            assert_non_null(strstr(run.err, "BatchNormalization"));
            program_free(&run);
            /* A whole batch sees all; ordinary models keep samples apart. */
            run = run_program(programs[p], GOLDEN "across/model.onnx --batch 4 --device cpu %s", extra);
            assert_null(strstr(run.err, "works across samples"));
            program_free(&run);
            run = run_program(programs[p], "@/models/mlp_prenorm_gelu.onnx --batch 4 --micro-batch %d --device cpu %s", micro, extra);
            assert_int_equal(run.status, 0);
            assert_null(strstr(run.err, "works across samples"));
            program_free(&run);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights_are_pytorchs),
        cmocka_unit_test(test_parts_are_pytorchs),
        cmocka_unit_test(test_validation_does_not_depend_on_the_batch),
        cmocka_unit_test(test_a_lone_sample_is_named),
        cmocka_unit_test(test_fewer_samples_than_a_batch),
        cmocka_unit_test(test_what_does_not_take_a_smaller_batch),
        cmocka_unit_test(test_a_fixed_batch_that_any_other_suits),
        cmocka_unit_test(test_drop_last),
        cmocka_unit_test(test_parts_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
