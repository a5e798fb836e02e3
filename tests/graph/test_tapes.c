/* What gradients read: for each op that has rows in tapes.def, and for those made of slices, the inputs of the gradient
 * nodes by name, and how their flops compare with the forward node's. */
#include "harness.h"

#include <stdio.h>
#include <string.h>

#include "graph/op.h"
#include "model_maker.h"

static ckpt_error err;

/* The gradient nodes of one op as "Name(inputs)", in their order; tensors by role in the forward node `n`: its inputs are
 * 0, 1, ..., its output is y, gradients are d, anything else is ?. */
static void describe(const ckpt_graph *g, const ckpt_node *n, char *text, size_t room) {
    size_t used = 0;
    text[0] = 0;
    for (int k = g->forward_count; k < g->node_count; k++) {
        const ckpt_node *b = &g->node[k];
        if (strcmp(b->name, n->name) != 0 || b->phase != CKPT_BACKWARD) continue;
        used += (size_t)snprintf(text + used, room - used, "%s%s(", used ? " " : "", ckpt_op_info(b->op)->name);
        for (int i = 0; i < b->in_count; i++) {
            char what = '?';
            const int producer = b->in[i] >= 0 ? g->tensor[b->in[i]].producer : -1;
            if (producer >= g->forward_count) what = 'd';
            for (int j = 0; j < n->in_count; j++)
                if (n->in[j] == b->in[i]) what = (char)('0' + j);
            if (b->in[i] == n->out[0]) what = 'y';
            used += (size_t)snprintf(text + used, room - used, "%c", what);
        }
        used += (size_t)snprintf(text + used, room - used, ")%d", b->out_count);
    }
}

static const struct tape_case {
    const char *op, *inputs, *attributes, *want;
    int rank;
    int64_t dim[4];
} cases[] = {
    {"Conv", "h,cw,cb", "pads=1,1,1,1", "ConvBiasGradient(d)1 ConvWeightGradient(d0)1 ConvInputGradient(d1)1", 4, {-1, 2, 6, 6}},
    {"ConvTranspose", "h,tw", "strides=2,2", "ConvTransposeWeightGradient(d0)1 ConvTransposeInputGradient(d1)1", 4, {-1, 2, 6, 6}},
    {"MaxPool", "h", "kernel_shape=2,2", "MaxPoolGradient(d0)1", 4, {-1, 2, 6, 6}},
    {"AveragePool", "h", "kernel_shape=2,2", "AveragePoolGradient(d)1", 4, {-1, 2, 6, 6}},
    {"GlobalMaxPool", "h", NULL, "ReduceMaxGradient(d0y)1", 4, {-1, 2, 6, 6}},
    {"InstanceNormalization", "h,s,b", NULL,
     "GroupNormalizationScaleGradient(d0)2 GroupNormalizationInputGradient(d01)1", 4, {-1, 2, 6, 6}},
    {"BatchNormalization", "h,s,b,m,v", NULL,
     "BatchNormalizationScaleGradient(d03)2 BatchNormalizationInputGradient(d013)1", 4, {-1, 2, 6, 6}},
    {"LRN", "h", "size=3", "LRNGradient(d0)1", 4, {-1, 2, 6, 6}},
    {"Concat", "h,h", "axis=1", "Slice(d)1 Slice(d)1 Binary(dd)1", 4, {-1, 2, 6, 6}},
    {"Slice", "h,start,end", NULL, "Pad(d)1", 4, {-1, 2, 6, 6}},
    {"Pad", "h,pads", NULL, "Slice(d)1", 4, {-1, 2, 6, 6}},
    {"Gather", "h,index", "axis=1", "GatherGradient(d1)1", 4, {-1, 2, 6, 6}},
    {"Resize", "h,,scales", NULL, "ResizeGradient(d)1", 4, {-1, 2, 6, 6}},
    {"Tile", "h,repeats", NULL, "ReduceSum(d)1", 4, {-1, 2, 6, 6}},
    {"Attention", "h,h,h", "q_num_heads=2 kv_num_heads=2", "AttentionGradient(d222y)3 Binary(dd)1 Binary(dd)1", 3, {-1, 4, 6}},
};

static void make_model(maker *m, const struct tape_case *c) {
    maker_start(m, 23);
    maker_input(m, "x", c->rank, c->dim);
    maker_weight(m, "one", 1, (int64_t[]){c->dim[c->rank - 1]});
    maker_weight(m, "cw", 4, (int64_t[]){4, 2, 3, 3});
    maker_weight(m, "cb", 1, (int64_t[]){4});
    maker_weight(m, "tw", 4, (int64_t[]){2, 4, 2, 2});
    for (int i = 0; i < 4; i++) maker_weight(m, (const char *[]){"s", "b", "m", "v"}[i], 1, (int64_t[]){2});
    maker_weight(m, "scales", 1, (int64_t[]){4});
    maker_ints(m, "start", 1, (int64_t[]){0});
    maker_ints(m, "end", 1, (int64_t[]){1});
    maker_ints(m, "pads", 8, (int64_t[]){0, 0, 1, 1, 0, 0, 1, 1});
    maker_ints(m, "index", 2, (int64_t[]){1, 0});
    maker_ints(m, "repeats", 4, (int64_t[]){1, 2, 1, 1});
    maker_node(m, "Mul", "first", "x,one", "h", NULL); /* something in front to be trained */
    maker_node(m, c->op, "tested", c->inputs, "t", c->attributes);
    maker_node(m, "ReduceSum", "loss", "t", "y", "keepdims=0"); /* whatever has become of the batch's axis */
    maker_output(m, "y");
}

static void test_tapes(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        maker m;
        ckpt_model model;
        char got[512];
        const ckpt_model_options options = {.batch = 2, .loss = CKPT_LOSS_FILE};
        ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD};
        make_model(&m, &cases[i]);
        for (size_t w = 0; w < m.graph.n_initializer; w++) /* scales of 0.01 would leave nothing */
            if (strcmp(m.graph.initializer[w]->name, "scales") == 0)
                for (size_t k = 0; k < 4; k++) m.graph.initializer[w]->float_data[k] = k < 2 ? 1 : 2;
        MUST(ckpt_model_load(maker_write(&m, "tapes.onnx"), &options, &model, &err), &err);
        ckpt_training_defaults(&training);
        MUST(ckpt_autodiff_run(&model.graph, &training, &err), &err);
        const ckpt_node *tested = NULL;
        for (int n = 0; n < model.graph.forward_count; n++)
            if (strcmp(model.graph.node[n].name, "tested") == 0) tested = &model.graph.node[n];
        assert_non_null(tested);
        describe(&model.graph, tested, got, sizeof got);
        if (strcmp(got, cases[i].want) != 0) fail_msg("%s: %s, wanted %s", cases[i].op, got, cases[i].want);
        assert_non_null(strstr(tested->origin, cases[i].op));
        ckpt_model_free(&model);
    }
}

/* 2 flops a multiply-add, by hand: 2 images, 4 x 6 x 6 outputs of 2 x 3 x 3 products each. */
static void test_conv_flops(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    const ckpt_model_options options = {.batch = 2, .loss = CKPT_LOSS_FILE};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD};
    make_model(&m, &cases[0]);
    MUST(ckpt_model_load(maker_write(&m, "tapes.onnx"), &options, &model, &err), &err);
    ckpt_training_defaults(&training);
    MUST(ckpt_autodiff_run(&model.graph, &training, &err), &err);
    int seen = 0;
    for (int n = 0; n < model.graph.node_count; n++) {
        const ckpt_op op = model.graph.node[n].op;
        if (op != CKPT_OP_CONV && op != CKPT_OP_CONV_DX && op != CKPT_OP_CONV_DW) continue;
        assert_int_equal(ckpt_node_cost(&model.graph, n).flops, 2 * 2 * (4 * 6 * 6) * (2 * 3 * 3));
        seen++;
    }
    assert_int_equal(seen, 3);
    ckpt_model_free(&model);
}

/* The parts of a Split fill one gradient: each but the first is written over the one before. */
static void test_split_gradient_is_one_tensor(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    const ckpt_model_options options = {.batch = 2, .loss = CKPT_LOSS_MSE};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD};
    maker_start(&m, 18);
    maker_input(&m, "x", 2, (int64_t[]){-1, 6});
    maker_weight(&m, "one", 1, (int64_t[]){6});
    maker_node(&m, "Mul", "first", "x,one", "h", NULL);
    maker_node(&m, "Split", "split", "h", "p,q,r", "axis=1 num_outputs=3");
    maker_node(&m, "Mul", "pq", "p,q", "u", NULL);
    maker_node(&m, "Mul", "pqr", "u,r", "y", NULL);
    maker_output(&m, "y");
    MUST(ckpt_model_load(maker_write(&m, "tapes.onnx"), &options, &model, &err), &err);
    ckpt_training_defaults(&training);
    MUST(ckpt_autodiff_run(&model.graph, &training, &err), &err);
    int places = 0;
    for (int n = model.graph.forward_count; n < model.graph.node_count; n++) {
        const ckpt_node *node = &model.graph.node[n];
        if (node->op != CKPT_OP_PLACE) continue;
        assert_int_equal(node->in_count, places++ == 0 ? 1 : 2);
        assert_int_equal(model.graph.tensor[node->out[0]].count, 12);
    }
    assert_int_equal(places, 3);
    ckpt_model_free(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tapes), cmocka_unit_test(test_conv_flops),
                                       cmocka_unit_test(test_split_gradient_is_one_tensor)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
