/* The graph's own rules: order of updates, effects, layers, copies, the op table. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "model_maker.h"

static ckpt_error err;

static void load(ckpt_model *model, const char *name, ckpt_training_options training) {
    char path[512];
    const ckpt_model_options options = {.batch = 4, .loss_auto = true};
    snprintf(path, sizeof path, CKPT_SOURCE_DIR "/models/%s.onnx", name);
    MUST(ckpt_model_load(path, &options, model, &err), &err);
    ckpt_training_defaults(&training);
    MUST(ckpt_autodiff_run(&model->graph, &training, &err), &err);
}

/* Marks the forward nodes that would have to run again for `node` if nothing at all were kept. */
static void mark_made_again(const ckpt_graph *g, int node, bool *again) {
    for (int i = 0; i < g->node[node].in_count; i++) {
        const int made_by = g->node[node].in[i] >= 0 ? g->tensor[g->node[node].in[i]].producer : -1;
        if (made_by < 0 || g->node[made_by].phase != CKPT_FORWARD || again[made_by]) continue;
        again[made_by] = true;
        mark_made_again(g, made_by, again);
    }
}

/* Every parameter is updated once, and nothing behind its update reads it or needs what was made from it made again. */
static void assert_updates_are_last(const ckpt_graph *g) {
    bool *again = calloc((size_t)g->node_count, sizeof *again), *read = calloc((size_t)g->tensor_count, sizeof *read);
    int *updated = calloc((size_t)g->tensor_count, sizeof *updated);
    assert_true(again && read && updated);
    for (int n = g->node_count - 1; n >= 0; n--) {
        const ckpt_node *node = &g->node[n];
        if (node->phase == CKPT_UPDATE) {
            updated[node->out[0]]++;
            assert_false(read[node->out[0]]);
            for (int f = 0; f < g->forward_count; f++)
                for (int i = 0; again[f] && i < g->node[f].in_count; i++)
                    assert_int_not_equal(g->node[f].in[i], node->out[0]);
        }
        for (int i = 0; i < node->in_count; i++)
            if (node->in[i] >= 0) read[node->in[i]] = true;
        if (node->phase != CKPT_FORWARD) mark_made_again(g, n, again);
    }
    for (int t = 0; t < g->tensor_count; t++)
        if (g->tensor[t].role == CKPT_ROLE_PARAM) assert_int_equal(updated[t], 1);
    free(again);
    free(read);
    free(updated);
}

static void test_updates_come_after_every_read(void **state) {
    (void)state;
    static const char *const names[] = {"mlp_checkpointed", "mlp_residual", "mlp_prenorm_gelu", "mlp_hourglass"};
    for (int m = 0; m < 4; m++) {
        ckpt_model model;
        load(&model, names[m], (ckpt_training_options){.optimizer = CKPT_OPTIMIZER_ADAM});
        assert_updates_are_last(&model.graph);
        ckpt_model_free(&model);
    }
}

/* Two products share w, and the loss reaches the first of them through integers only: w has all of its gradient before
 * the backward pass of v, which needs what that first product made. Layers in front make the graph large enough that its
 * plan comes from the tables. */
static void test_update_waits_for_readers_without_gradient(void **state) {
    (void)state;
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        maker m;
        ckpt_model model;
        maker_start(&m, 17);
        maker_input(&m, "x", 2, (int64_t[]){-1, 4});
        maker_weight(&m, "v", 2, (int64_t[]){4, 4});
        maker_weight(&m, "w", 2, (int64_t[]){4, 4});
        char name[3][8] = {"x", "", ""}, inputs[16];
        for (int i = 0; i < 6; i++) {
            snprintf(name[1], sizeof name[1], "u%d", i);
            snprintf(name[2], sizeof name[2], "a%d", i);
            snprintf(inputs, sizeof inputs, "%s,%s", name[0], name[1]);
            snprintf(name[0], sizeof name[0], "e%d", i);
            maker_weight(&m, name[1], 2, (int64_t[]){4, 4});
            maker_node(&m, "MatMul", name[2], inputs, name[2], NULL);
            maker_node(&m, "Elu", name[0], name[2], name[0], NULL);
        }
        maker_node(&m, "MatMul", "front", "e5,v", "h", NULL);
        maker_node(&m, "MatMul", "first", "h,w", "a", NULL);
        maker_node(&m, "Cast", "round", "a", "i", "to=7");
        maker_node(&m, "Cast", "back", "i", "f", "to=1");
        maker_node(&m, "Mul", "mix", "h,f", "p", NULL);
        maker_node(&m, "MatMul", "second", "p,w", "y", NULL);
        maker_output(&m, "y");
        const ckpt_model_options options = {.batch = 4, .loss = CKPT_LOSS_MSE};
        MUST(ckpt_model_load(maker_write(&m, "shared_weight.onnx"), &options, &model, &err), &err);
        ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD, .accumulate = accumulate};
        ckpt_training_defaults(&training);
        MUST(ckpt_autodiff_run(&model.graph, &training, &err), &err);
        assert_updates_are_last(&model.graph);
        const ckpt_traits traits = {.device = "none", .alignment_bytes = 256, .input_buffers = 1};
        ckpt_plan *plan;
        MUST(ckpt_plan_make(&model.graph, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_MIN}, &traits, NULL, &plan, &err),
             &err);
        ckpt_plan_free(plan);
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
        cmocka_unit_test(test_update_waits_for_readers_without_gradient),
        cmocka_unit_test(test_only_persistent_outputs_are_effects),
        cmocka_unit_test(test_layers_are_named_after_their_product),
        cmocka_unit_test(test_copy_and_hash),
        cmocka_unit_test(test_costs_are_counted),
        cmocka_unit_test(test_sizes_overflow_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
