/* ONNX's node tests of optimizers (ai.onnx.preview.training: Adam, Momentum, Adagrad) against the update nodes.
 *
 *     test_onnx_optimizers           # the cases of the table below: numbers of onnx 1.23.2's node tests
 *     test_onnx_optimizers shared    # the cases themselves, of the list $CKPT_SHARED_DATA/optimizers.txt
 *
 * What the operators have beside the update nodes does not show in these cases, and is asserted not to: all are of T = 0,
 * where Momentum's beta and Adagrad's decay_factor count for nothing, and norm_coefficient_post is 0. At T = 0 ONNX's Adam
 * corrects no bias; the update node's correction is 1 in the far end of its steps, so the cases run there. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/onnx_file.h"

const ckpt_backend *CKPT_TEST_BACKEND(void);

enum { MOST = 4 };

/* One weight of one case; state is V or H, second is Adam's H. */
typedef struct update_case {
    const char *name;
    ckpt_optimizer optimizer;
    ckpt_training_options options;
    float rate;
    int64_t count;
    float x[MOST], g[MOST], state[MOST], second[MOST];
    float new_x[MOST], new_state[MOST], new_second[MOST];
} update_case;

static bool near(const char *name, const char *what, const float *got, const float *want, int64_t n) {
    for (int64_t i = 0; i < n; i++) /* as ONNX's own runner compares, but closer */
        if (!(fabsf(got[i] - want[i]) <= 1e-7f + 2e-6f * fabsf(want[i]))) {
            printf("%s: %s[%d] is %.9g instead of %.9g\n", name, what, (int)i, (double)got[i], (double)want[i]);
            return false;
        }
    return true;
}

/* The update node that autodiff makes, between tensors that hold the case's values. */
static bool run_case(const update_case *c) {
    ckpt_error err;
    ckpt_graph graph = {.result = -1, .batch = 1};
    ckpt_training_options options = c->options;
    options.optimizer = c->optimizer;
    const int w = ckpt_graph_add_tensor(&graph, "w", CKPT_F32, CKPT_ROLE_PARAM, 1, &c->count, &err);
    const int factors = ckpt_graph_add_tensor(&graph, "f", CKPT_F32, CKPT_ROLE_INPUT, 1, &c->count, &err);
    graph.input = ckpt_pool_array(&graph.pool, 1, int);
    graph.input[graph.input_count++] = factors;
    ckpt_view a = ckpt_view_of(&graph, w), b = ckpt_view_of(&graph, factors), product;
    MUST(ckpt_build_binary(&graph, "product", CKPT_BINARY_MUL, &a, &b, &product, &err), &err);
    const ckpt_loss_term term = ckpt_loss_term_of(CKPT_LOSS_MSE, &product);
    MUST(ckpt_loss_attach(&graph, &term, &product, &err), &err);
    MUST(ckpt_autodiff_run(&graph, &options, &err), &err);
    step_runner runner;
    runner_open(&runner, &graph, CKPT_TEST_BACKEND(), CKPT_STRATEGY_NONE);
    /* loss = mean of (w f - t)^2 with f = 1 and t = w - n g / 2: its gradient is g, exactly where n / 2 is 1. */
    float ones[MOST], target[MOST], found[3][MOST];
    for (int64_t i = 0; i < c->count; i++) ones[i] = 1, target[i] = c->x[i] - (float)c->count * c->g[i] / 2;
    MUST(ckpt_exec_set(runner.exec, w, c->x, &err), &err);
    MUST(ckpt_exec_set(runner.exec, factors, ones, &err), &err);
    MUST(ckpt_exec_set(runner.exec, graph.target[0], target, &err), &err);
    int states[2] = {-1, -1}, count = 0;
    for (int t = 0; t < graph.tensor_count; t++)
        if (graph.tensor[t].role == CKPT_ROLE_STATE) states[count++] = t;
    MUST(ckpt_exec_set(runner.exec, states[0], c->state, &err), &err);
    if (count > 1) MUST(ckpt_exec_set(runner.exec, states[1], c->second, &err), &err);
    runner_step(&runner, UINT32_MAX, c->rate);
    MUST(ckpt_exec_get(runner.exec, w, found[0], &err), &err);
    MUST(ckpt_exec_get(runner.exec, states[0], found[1], &err), &err);
    bool ok = near(c->name, "X_new", found[0], c->new_x, c->count) && near(c->name, "state", found[1], c->new_state, c->count);
    if (count > 1) {
        MUST(ckpt_exec_get(runner.exec, states[1], found[2], &err), &err);
        ok = ok && near(c->name, "H_new", found[2], c->new_second, c->count);
    }
    runner_close(&runner);
    ckpt_graph_free(&graph);
    return ok;
}

#define ADAM(a, b, e) {.beta1 = a, .beta2 = b, .epsilon = e, .weight_decay = 0.001f}
#define MOMENTUM(a, d) {.momentum = a, .weight_decay = d}
#define ADAGRAD_OPTIONS {.epsilon = 1e-5f, .weight_decay = 0.001f}
static const update_case bundled[] = {
    {"adagrad", CKPT_OPTIMIZER_ADAGRAD, ADAGRAD_OPTIONS, 0.1f, 1, {1}, {-1}, {2}, {0}, {1.0576962232589722f}, {2.9980010986328125f}, {0}},
    {"adagrad_multiple", CKPT_OPTIMIZER_ADAGRAD, ADAGRAD_OPTIONS, 0.1f, 2, {1, 2}, {-1, -3}, {4, 1}, {0},
     {1.0446853637695312f, 2.0948617458343506f}, {4.9980010986328125f, 9.988003730773926f}, {0}},
    {"adam", CKPT_OPTIMIZER_ADAM, ADAM(0.95f, 0.1f, 1e-7f), 0.1f, 2, {1.2f, 2.8f}, {-0.94f, -2.5f}, {1.7f, 3.6f}, {0.1f, 0.1f},
     {1.025036334991455f, 2.6610326766967773f}, {1.568060040473938f, 3.295139789581299f}, {0.8032107949256897f, 5.622406959533691f}},
    {"adam_multiple", CKPT_OPTIMIZER_ADAM, ADAM(0.95f, 0.85f, 0.01f), 0.1f, 2, {1, 2}, {-1, -3}, {4, 1}, {1, 10},
     {0.628652811050415f, 1.9745852947235107f}, {3.7500500679016113f, 0.8000999689102173f}, {0.9997001886367798f, 9.848200798034668f}},
    {"momentum", CKPT_OPTIMIZER_MOMENTUM, MOMENTUM(0.95f, 0.001f), 0.1f, 2, {1.2f, 2.8f}, {-0.94f, -2.5f}, {1.7f, 3.6f}, {0},
     {1.1323800086975098f, 2.7077200412750244f}, {0.6762000322341919f, 0.922799825668335f}, {0}},
    {"momentum_multiple", CKPT_OPTIMIZER_MOMENTUM, MOMENTUM(0.95f, 0.001f), 0.1f, 2, {1, 2}, {-1, -3}, {4, 1}, {0},
     {0.7199000120162964f, 2.2047998905181885f}, {2.800999879837036f, -2.047999858856201f}, {0}},
    {"nesterov_momentum", CKPT_OPTIMIZER_NESTEROV, MOMENTUM(0.95f, 0.01f), 0.1f, 2, {1.2f, 2.8f}, {-0.94f, -2.5f}, {1.7f, 3.6f}, {0},
     {1.2275350093841553f, 2.9571399688720703f}, {0.687000036239624f, 0.9479999542236328f}, {0}},
};

static void test_bundled(void **state) {
    (void)state;
    int bad = 0;
    for (size_t i = 0; i < sizeof bundled / sizeof *bundled; i++) bad += !run_case(&bundled[i]);
    assert_int_equal(bad, 0);
    update_case wrong = bundled[2]; /* negative control: another rule has other numbers */
    wrong.options.weight_decay = 0.01f;
    assert_false(run_case(&wrong));
}

/* --- the cases themselves --- */

static ckpt_onnx_file *open_pb(const char *folder, const char *kind, size_t i) {
    char path[1024];
    ckpt_error err;
    ckpt_onnx_file *file;
    snprintf(path, sizeof path, "%s/test_data_set_0/%s_%zu.pb", folder, kind, i);
    MUST(ckpt_onnx_read_tensor_pb(path, &file, &err), &err);
    return file;
}

/* values[MOST]; returns how many. */
static int64_t read_values(const char *folder, const char *kind, size_t i, float *values) {
    ckpt_onnx_file *file = open_pb(folder, kind, i);
    ckpt_onnx_tensor_info info;
    ckpt_error err;
    MUST(ckpt_onnx_tensor_describe(file, file->tensor, &info, &err), &err);
    assert_true(info.count <= MOST);
    MUST(ckpt_onnx_tensor_read_f32(file, file->tensor, values, info.count, &err), &err);
    ckpt_onnx_free(file);
    return (int64_t)info.count;
}

static double attribute(const Onnx__NodeProto *node, const char *name, double absent) {
    for (size_t i = 0; i < node->n_attribute; i++)
        if (strcmp(node->attribute[i]->name, name) == 0) return (double)node->attribute[i]->f;
    return absent;
}

static bool is_nesterov(const Onnx__NodeProto *node) {
    for (size_t i = 0; i < node->n_attribute; i++)
        if (strcmp(node->attribute[i]->name, "mode") == 0)
            return node->attribute[i]->s.len == 8 && memcmp(node->attribute[i]->s.data, "nesterov", 8) == 0;
    return false;
}

/* The constants of the node, by the names that ONNX has for them. */
static update_case case_of(const char *name, const Onnx__NodeProto *node) {
    const bool adam = strcmp(node->op_type, "Adam") == 0, adagrad = strcmp(node->op_type, "Adagrad") == 0;
    update_case c = {.name = name, .optimizer = adam ? CKPT_OPTIMIZER_ADAM : adagrad ? CKPT_OPTIMIZER_ADAGRAD
                                              : is_nesterov(node) ? CKPT_OPTIMIZER_NESTEROV : CKPT_OPTIMIZER_MOMENTUM};
    c.options.epsilon = (float)attribute(node, "epsilon", adagrad ? 0 : 1e-6);
    c.options.weight_decay = (float)attribute(node, "norm_coefficient", 0);
    c.options.beta1 = (float)attribute(node, "alpha", 0.9);
    c.options.beta2 = (float)attribute(node, "beta", 0.999);
    c.options.momentum = c.options.beta1;
    assert_true(attribute(node, "norm_coefficient_post", 0) == 0);
    return c;
}

/* R T, then X, G, V and H of all weights; out come X, V and H of all. */
static bool run_folder(const char *folder, const char *name) {
    char path[2048];
    ckpt_error err;
    ckpt_onnx_file *file;
    float rate, steps;
    bool ok = true;
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    MUST(ckpt_onnx_read(path, &file, &err), &err);
    const Onnx__NodeProto *node = file->model->graph->node[0];
    update_case c = case_of(name, node);
    const size_t kinds = c.optimizer == CKPT_OPTIMIZER_ADAM ? 4 : 3, weights = (node->n_input - 2) / kinds;
    assert_int_equal(read_values(folder, "input", 0, &rate), 1);
    assert_int_equal(read_values(folder, "input", 1, &steps), 1);
    assert_true(steps == 0);
    c.rate = rate;
    for (size_t k = 0; k < weights; k++) {
        c.count = read_values(folder, "input", 2 + k, c.x);
        read_values(folder, "input", 2 + weights + k, c.g);
        read_values(folder, "input", 2 + 2 * weights + k, c.state);
        if (kinds == 4) read_values(folder, "input", 2 + 3 * weights + k, c.second);
        read_values(folder, "output", k, c.new_x);
        read_values(folder, "output", weights + k, c.new_state);
        if (kinds == 4) read_values(folder, "output", 2 * weights + k, c.new_second);
        ok = run_case(&c) && ok;
    }
    ckpt_onnx_free(file);
    return ok;
}

static void test_shared(void **state) {
    char path[1024], line[256];
    int done = 0, bad = 0;
    snprintf(path, sizeof path, "%s/optimizers.txt", (const char *)*state);
    FILE *list = fopen(path, "r");
    if (!list) fail_msg("no list %s", path);
    while (fgets(line, sizeof line, list)) {
        line[strcspn(line, " \t\n")] = 0;
        if (!*line) continue;
        snprintf(path, sizeof path, "%s/onnx-node/%s", (const char *)*state, line);
        bad += !run_folder(path, line);
        done++;
    }
    fclose(list);
    printf("%d cases, %d bad\n", done, bad);
    assert_true(done > 0 && bad == 0);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "shared") == 0) {
        char *root = getenv("CKPT_SHARED_DATA");
        if (!root || !*root) {
            printf("skipped: CKPT_SHARED_DATA names no folder with ONNX node tests\n");
            return 77;
        }
        const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_shared, root)};
        return cmocka_run_group_tests(tests, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bundled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
