/* The graph's own rules: order of updates, effects, layers, copies, the op table. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "graph/op.h"

static ckpt_error err;

static void load(ckpt_model *model, const char *name, ckpt_training_options training) {
    char path[512];
    const ckpt_model_options options = {.batch = 4, .loss_auto = true};
    snprintf(path, sizeof path, CKPT_SOURCE_DIR "/models/%s.onnx", name);
    MUST(ckpt_model_load(path, &options, model, &err), &err);
    ckpt_training_defaults(&training);
    MUST(ckpt_autodiff_run(&model->graph, &training, &err), &err);
}

/* Nobody reads a parameter after its update; every parameter is updated once; updates follow their gradient. */
static void test_updates_come_after_every_read(void **state) {
    (void)state;
    static const char *const names[] = {"mlp_checkpointed", "mlp_residual", "mlp_prenorm_gelu", "mlp_hourglass"};
    for (int m = 0; m < 4; m++) {
        ckpt_model model;
        load(&model, names[m], (ckpt_training_options){.optimizer = CKPT_OPTIMIZER_ADAM});
        const ckpt_graph *g = &model.graph;
        int updated[4096] = {0};
        for (int n = 0; n < g->node_count; n++) {
            for (int i = 0; i < g->node[n].in_count; i++)
                if (g->node[n].in[i] >= 0) assert_false(updated[g->node[n].in[i]]);
            if (g->node[n].phase == CKPT_UPDATE) updated[g->node[n].out[0]]++;
        }
        for (int t = 0; t < g->tensor_count; t++)
            if (g->tensor[t].role == CKPT_ROLE_PARAM) assert_int_equal(updated[t], 1);
        ckpt_model_free(&model);
    }
}

static void test_only_persistent_outputs_are_effects(void **state) {
    (void)state;
    ckpt_model model;
    load(&model, "mlp_checkpointed", (ckpt_training_options){.optimizer = CKPT_OPTIMIZER_SGD, .accumulate = true});
    const ckpt_graph *g = &model.graph;
    int effects = 0;
    for (int n = 0; n < g->node_count; n++) {
        const ckpt_op op = g->node[n].op;
        const bool writes = op == CKPT_OP_LOSS || op == CKPT_OP_ZERO || op == CKPT_OP_SGD || op == CKPT_OP_LINEAR_DW ||
                            (op == CKPT_OP_BINARY && g->node[n].phase == CKPT_BACKWARD);
        assert_int_equal(ckpt_node_has_effect(g, n), writes);
        effects += writes;
        if (g->node[n].phase == CKPT_UPDATE) assert_int_equal(g->node[n].when, CKPT_LAST_MICRO);
        if (op == CKPT_OP_ZERO) assert_int_equal(g->node[n].when, CKPT_FIRST_MICRO);
    }
    assert_int_equal(effects, 2 + 12 + 6 + 6 + 12); /* loss and its zero; 12 sums cleared, added to, and used */
    ckpt_model_free(&model);
}

static void test_layers_are_named_after_their_product(void **state) {
    (void)state;
    ckpt_model model;
    load(&model, "mlp_prenorm_gelu", (ckpt_training_options){.optimizer = CKPT_OPTIMIZER_SGD});
    const ckpt_graph *g = &model.graph;
    for (int l = 0; l < g->layer_count; l++) {
        assert_int_equal(g->node[g->layer[l].linear].op, CKPT_OP_LINEAR);
        assert_string_equal(g->layer[l].name, g->node[g->layer[l].linear].name);
        assert_int_equal(g->node[g->layer[l].linear].layer, l);
        assert_true(g->layer[l].output >= 0);
    }
    ckpt_model_free(&model);
}

static void test_copy_and_hash(void **state) {
    (void)state;
    ckpt_model model;
    ckpt_graph copy;
    load(&model, "digits", (ckpt_training_options){.optimizer = CKPT_OPTIMIZER_SGD});
    MUST(ckpt_graph_copy(&model.graph, &copy, &err), &err);
    ckpt_graph_compute_hash(&copy);
    assert_string_equal(copy.hash, model.graph.hash);
    copy.node[0].attr.linear.epilogue.drop = 0.5f; /* the hash sees attributes */
    ckpt_graph_compute_hash(&copy);
    assert_string_not_equal(copy.hash, model.graph.hash);
    ckpt_graph_free(&copy);
    ckpt_model_free(&model);
}

/* Two multiplications a weight and sample forward, twice that backward less the first layer's input gradient. */
static void test_costs_are_counted(void **state) {
    (void)state;
    ckpt_model model;
    load(&model, "mlp_checkpointed", (ckpt_training_options){.optimizer = CKPT_OPTIMIZER_SGD});
    const ckpt_graph *g = &model.graph;
    uint64_t products[2] = {0}, weights = 0, first = 0;
    for (int n = 0; n < g->node_count; n++)
        if (ckpt_op_info(g->node[n].op)->flags & CKPT_MATMUL && g->node[n].op != CKPT_OP_LINEAR)
            products[1] += ckpt_node_cost(g, n).flops;
    for (int n = 0; n < g->forward_count; n++)
        if (g->node[n].op == CKPT_OP_LINEAR) {
            const ckpt_linear_attr *a = &g->node[n].attr.linear;
            weights += (uint64_t)(a->in_features * a->out_features);
            if (!first) first = (uint64_t)(a->in_features * a->out_features);
        }
    assert_int_equal(products[1], 2 * 4 * (2 * weights - first));
    ckpt_model_free(&model);
}

static void test_sizes_overflow_cleanly(void **state) {
    (void)state;
    ckpt_graph graph = {0};
    const int64_t huge[2] = {INT64_MAX, 4}, negative[1] = {-1};
    assert_int_equal(ckpt_graph_add_tensor(&graph, "t", CKPT_F32, CKPT_ROLE_STEP, 2, huge, &err), -1);
    assert_non_null(strstr(err.message, "larger than any memory"));
    assert_int_equal(ckpt_graph_add_tensor(&graph, "t", CKPT_F32, CKPT_ROLE_STEP, 1, negative, &err), -1);
    assert_non_null(strstr(err.message, "negative"));
    ckpt_graph_free(&graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_updates_come_after_every_read),
        cmocka_unit_test(test_only_persistent_outputs_are_effects),
        cmocka_unit_test(test_layers_are_named_after_their_product),
        cmocka_unit_test(test_copy_and_hash),
        cmocka_unit_test(test_costs_are_counted),
        cmocka_unit_test(test_sizes_overflow_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
