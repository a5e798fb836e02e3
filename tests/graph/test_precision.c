/* bf16 graphs: which tensors have the type, where casts are, what a plan then keeps. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "graph/op.h"
#include "planner/plan.h"

static ckpt_error err;

static const ckpt_traits device = {.device = "cuda", .alignment_bytes = 256, .input_buffers = 1, .bf16_kernels = true};

static void load(const char *name, int64_t batch, bool bf16, bool kernels, bool accumulate, ckpt_model *model, ckpt_graph *evaluation) {
    char path[512];
    const ckpt_model_options options = {.batch = batch, .loss_auto = true};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_ADAM, .bf16 = bf16, .bf16_kernels = kernels, .accumulate = accumulate};
    snprintf(path, sizeof path, CKPT_SOURCE_DIR "/models/%s.onnx", name);
    MUST(ckpt_model_load(path, &options, model, &err), &err);
    ckpt_training_defaults(&training);
    MUST(ckpt_training_graphs_make(&model->graph, &training, evaluation, &err), &err);
}

static ckpt_dtype type(const ckpt_graph *g, int t) { return g->tensor[t].dtype; }

static void check_products(const ckpt_graph *g, const ckpt_node *n) {
    const ckpt_dtype in = type(g, n->in[0]), out = type(g, n->out[0]);
    switch (n->op) {
    case CKPT_OP_LINEAR:
        assert_int_equal(in, CKPT_BF16);
        assert_int_equal(type(g, n->in[1]), CKPT_BF16);
        if (n->in_count > 2) assert_int_equal(type(g, n->in[2]), out);
        break;
    case CKPT_OP_LINEAR_DX: assert_int_equal(in, CKPT_BF16); break;
    case CKPT_OP_LINEAR_DW: assert_int_equal(in, CKPT_BF16), assert_int_equal(out, CKPT_F32); break;
    case CKPT_OP_LOSS:
    case CKPT_OP_LAYERNORM:
    case CKPT_OP_LAYERNORM_DX:
    case CKPT_OP_LOSS_GRAD: assert_int_equal(in, CKPT_F32); break;
    default: break;
    }
}

/* What every graph must have: parameters, their gradients and the loss in fp32, and ids, names and layers in order. */
static void check_graph(const ckpt_graph *g, bool kernels) {
    int bf16 = 0, casts = 0;
    for (int t = 0; t < g->tensor_count; t++) {
        if (g->tensor[t].role != CKPT_ROLE_STEP) assert_int_not_equal(g->tensor[t].dtype, CKPT_BF16);
        bf16 += g->tensor[t].dtype == CKPT_BF16;
    }
    for (int n = 0; n < g->node_count; n++) {
        const ckpt_node *node = &g->node[n];
        casts += node->op == CKPT_OP_CAST;
        if (node->phase == CKPT_UPDATE) assert_int_equal(type(g, node->in[1]), CKPT_F32);
        assert_true(n >= g->forward_count || node->phase == CKPT_FORWARD);
        for (int i = 0; i < node->out_count; i++)
            if (ckpt_tensor_is_step(g, node->out[i])) assert_int_equal(g->tensor[node->out[i]].producer, n);
        for (int i = 0; i < node->in_count; i++)
            if (ckpt_tensor_is_step(g, node->in[i])) assert_in_range(g->tensor[node->in[i]].producer, 0, n - 1);
        for (int k = 0; k < n && n < g->forward_count; k++) assert_string_not_equal(g->node[k].name, node->name);
        if (kernels) check_products(g, node);
        for (int i = 0; !kernels && node->op != CKPT_OP_CAST && i < node->in_count; i++)
            if (node->in[i] >= 0) assert_int_not_equal(type(g, node->in[i]), CKPT_BF16);
    }
    for (int l = 0; l < g->layer_count; l++)
        if (g->layer[l].linear >= 0) {
            assert_true(ckpt_op_info(g->node[g->layer[l].linear].op)->flags & CKPT_MATMUL);
            assert_string_equal(g->node[g->layer[l].linear].name, g->layer[l].name);
        }
    assert_true(bf16 > 0 && casts > 0);
}

static void test_types_and_casts(void **state) {
    (void)state;
    const char *const models[] = {"mlp_checkpointed", "mlp_hourglass", "mlp_residual", "mlp_prenorm_gelu", "digits"};
    for (int m = 0; m < 5; m++)
        for (int kernels = 0; kernels < 2; kernels++)
            for (int accumulate = 0; accumulate < 2; accumulate++) {
                ckpt_model model;
                ckpt_graph evaluation;
                load(models[m], 8, true, kernels, accumulate, &model, &evaluation);
                check_graph(&model.graph, kernels);
                check_graph(&evaluation, kernels);
                ckpt_graph_free(&evaluation);
                ckpt_model_free(&model);
            }
}

static uint64_t arena(const char *name, int64_t batch, bool bf16) {
    ckpt_model model;
    ckpt_graph evaluation;
    ckpt_plan *plan;
    const ckpt_plan_options none = {.strategy = CKPT_STRATEGY_NONE};
    load(name, batch, bf16, true, false, &model, &evaluation);
    MUST(ckpt_plan_make(&model.graph, &none, &device, NULL, &plan, &err), &err);
    const uint64_t bytes = plan->memory.arena;
    ckpt_plan_free(plan);
    ckpt_graph_free(&evaluation);
    ckpt_model_free(&model);
    return bytes;
}

/* Linear, ReLU, Dropout: two bytes an element of every layer more, and nothing else that grows with the batch but what
 * is under way at once. mlp_uniform64 has 64 layers of 32. */
static void test_a_layer_keeps_two_bytes_an_element(void **state) {
    (void)state;
    const uint64_t more = 8192 - 4096, elements = more * 32;
    const uint64_t wide = arena("mlp_uniform64", 8192, false) - arena("mlp_uniform64", 4096, false);
    const uint64_t narrow = arena("mlp_uniform64", 8192, true) - arena("mlp_uniform64", 4096, true);
    print_message("bytes an element and layer: %.3f in fp32, %.3f in bf16\n", (double)wide / (double)elements / 64,
                  (double)narrow / (double)elements / 64);
    assert_true(narrow >= 2 * elements * 64 && narrow < 2 * elements * 67);
    assert_true(wide >= 4 * elements * 64 && wide < 4 * elements * 67);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_types_and_casts),
                                       cmocka_unit_test(test_a_layer_keeps_two_bytes_an_element)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
