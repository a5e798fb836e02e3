/* Shape arithmetic is numbers once the file is read, what cannot be folded is left to nodes, and what is wrong with an
 * operator is one line that names the node. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/op.h"
#include "model_maker.h"

static ckpt_error err;

static void start(maker *m) {
    maker_start(m, 18);
    maker_input(m, "x", 4, (int64_t[]){-1, 4, 6, 6});
    maker_weight(m, "one", 1, (int64_t[]){6});
    maker_weight(m, "w", 4, (int64_t[]){8, 4, 3, 3});
    maker_weight(m, "w3", 4, (int64_t[]){8, 3, 3, 3});
    maker_ints(m, "i0", 1, (int64_t[]){0});
    maker_ints(m, "i1", 1, (int64_t[]){1});
    maker_ints(m, "i2", 1, (int64_t[]){2});
    maker_ints(m, "i9", 1, (int64_t[]){9});
    maker_ints(m, "minus", 1, (int64_t[]){-1});
    maker_ints(m, "million", 1, (int64_t[]){1000000});
    maker_node(m, "Mul", "first", "x,one", "h", NULL);
}

static void load(maker *m, ckpt_model *model) {
    const ckpt_model_options options = {.batch = 5, .loss = CKPT_LOSS_MSE};
    maker_output(m, "y");
    MUST(ckpt_model_load(maker_write(m, "fold.onnx"), &options, model, &err), &err);
}

static int count_op(const ckpt_graph *g, ckpt_op op) {
    int count = 0;
    for (int n = 0; n < g->forward_count; n++) count += g->node[n].op == op;
    return count;
}

/* [batch, 4, 6, 6] -> [2 * batch, 72] with every number computed from x's shape. */
static void test_reshape_by_computed_shape(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    start(&m);
    maker_node(&m, "Shape", "s", "h", "shape", NULL);
    maker_node(&m, "Gather", "g", "shape,i0", "b", "axis=0");
    maker_node(&m, "Mul", "m", "b,i2", "rows", NULL);
    maker_node(&m, "Slice", "sl", "shape,i1,i9", "rest", NULL);
    maker_node(&m, "ReduceProd", "p", "rest", "all", NULL);
    maker_node(&m, "Div", "d", "all,i2", "half", NULL);
    maker_node(&m, "Cast", "c1", "half", "f", "to=1");
    maker_node(&m, "Cast", "c2", "f", "cols", "to=7");
    maker_node(&m, "Equal", "e", "cols,minus", "never", NULL);
    maker_node(&m, "Where", "wh", "never,i1,cols", "chosen", NULL);
    maker_node(&m, "Concat", "c", "rows,chosen", "to", "axis=0");
    maker_node(&m, "Reshape", "r", "h,to", "z", NULL);
    maker_node(&m, "Softmax", "sm", "z", "y", "axis=0"); /* axis 0 of [10, 72] */
    load(&m, &model);
    int softmax = -1;
    for (int n = 0; n < model.graph.forward_count; n++)
        if (model.graph.node[n].op == CKPT_OP_SOFTMAX) softmax = n;
    assert_true(softmax >= 0);
    assert_int_equal(model.graph.node[softmax].attr.axis.axis, 10);
    assert_int_equal(model.graph.node[softmax].attr.axis.inner, 72);
    assert_int_equal(model.graph.forward_count, 4); /* Mul, Softmax, the loss and its clearing: no shape is left */
    ckpt_model_free(&model);
}

/* Five million numbers are not computed while a file is read. */
static void test_large_is_left_to_nodes(void **state) {
    (void)state;
    for (int large = 0; large < 2; large++) {
        maker m;
        ckpt_model model;
        start(&m);
        maker_ints(&m, "wide", 3, (int64_t[]){large ? 5 : 2, 1, 1});
        maker_ints(&m, "long", 1, (int64_t[]){large ? 1000000 : 6});
        maker_node(&m, "ConstantOfShape", "cos", "long", "ones", NULL);
        maker_node(&m, "Cast", "cast", "ones", "whole", "to=7");
        maker_node(&m, "Expand", "ex", "i2,long", "twos", NULL);
        maker_node(&m, "Expand", "ex2", "twos,wide", "more", NULL);
        maker_node(&m, "Cast", "back", "more", "floats", "to=1");
        maker_node(&m, "ReduceMax", "rm", "floats", "top", "keepdims=1");
        maker_node(&m, "Mul", "last", "h,top", "y", NULL);
        load(&m, &model);
        assert_int_equal(count_op(&model.graph, CKPT_OP_RESIZE), large); /* the second Expand */
        ckpt_model_free(&model);
    }
}

/* One value for every element of a weight that a ConstantOfShape makes in a file whose weights were left out: a parameter, which has no place in the
 * file. */
static void test_uniform_weight(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    start(&m);
    maker_ints(&m, "size", 4, (int64_t[]){8, 4, 3, 3});
    maker_node(&m, "ConstantOfShape", "cos", "size", "weight", NULL);
    maker_node(&m, "Conv", "conv", "h,weight", "y", NULL);
    load(&m, &model);
    int found = 0;
    float values[8 * 4 * 9];
    for (int t = 0; t < model.graph.tensor_count; t++) {
        if (model.graph.tensor[t].role != CKPT_ROLE_PARAM || model.graph.tensor[t].rank != 4) continue;
        assert_int_equal(model.graph.tensor[t].count, 8 * 4 * 9);
        values[287] = 1;
        MUST(ckpt_model_read_values(&model, t, values, &err), &err);
        assert_true(values[0] == 0 && values[287] == 0);
        found++;
    }
    assert_int_equal(found, 1);
    ckpt_model_free(&model);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *op, *inputs, *attributes, *want;
    } cases[] = {
        {"Conv", "h,w3", NULL, "its input has 4 channels and its weight takes 3"},
        {"Conv", "h,w", "group=3", "group 3 does not divide"},
        {"Conv", "h,w", "dilations=9,9", "larger than the padded input"},
        {"Conv", "h,w", "strides=0,1", "empty or too large"},
        {"Conv", "h,w", "pads=-1,0,0,0", "'pads' is out of range"},
        {"Conv", "h,w", "kernel_shape=2,2", "not its weight's"},
        {"Conv", "h,w,one", NULL, "bias has 6 values for 8 channels"},
        {"Conv", "h,w", "auto_pad=OTHER", "'auto_pad' is 'OTHER'"},
        {"ConvTranspose", "h,w", NULL, "takes 8"},
        {"MaxPool", "h", "kernel_shape=7,7", "larger than the padded input"},
        {"MaxPool", "h", NULL, "empty or too large"},
        {"Concat", "h,w", "axis=1", "inputs 0 and 1 differ"},
        {"Slice", "h,i0,i1,i0,i0", NULL, "its step is 0"},
        {"Pad", "h,i1", NULL, "its pads are 1"},
        {"Gather", "h,one", NULL, "indices are of type F32"},
        {"Where", "h,h,h", NULL, "its inputs are of types"},
        {"Expand", "h,i2", NULL, "do not broadcast"},
        {"Tile", "h,i2", NULL, "1 repeats for 4 axes"},
        {"GroupNormalization", "h,one,one", "num_groups=3", "3 groups do not divide 4"},
        {"BatchNormalization", "h,one,one,one,one", NULL, "scale has 6 values for 4"},
        {"LRN", "h", "size=0", "out of range"},
        {"Split", "h,i2", "axis=1", "its parts do not add up to 4"},
        {"Div", "i2,i0", NULL, "divides by 0"},
        {"Gather", "i2,i9", NULL, "lies outside 1 values"},
        {"Range", "i0,h,i1", NULL, "computed from data"},
        {"DepthToSpace", "h", "blocksize=3", "does not divide"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        maker m;
        ckpt_model model;
        const ckpt_model_options options = {.loss_auto = true};
        start(&m);
        maker_node(&m, cases[i].op, "bad", cases[i].inputs, "y", cases[i].attributes);
        maker_output(&m, "y");
        if (ckpt_model_load(maker_write(&m, "fold.onnx"), &options, &model, &err) != CKPT_MODEL)
            fail_msg("%s %s is not refused", cases[i].op, cases[i].want);
        if (!strstr(err.message, cases[i].want) || !strstr(err.message, "node 'bad'") || strchr(err.message, '\n'))
            fail_msg("%s, wanted %s", err.message, cases[i].want);
    }
}

static int find_tensor(const ckpt_graph *g, const char *name) {
    for (int t = 0; t < g->tensor_count; t++)
        if (strcmp(g->tensor[t].name, name) == 0) return t;
    fail_msg("no tensor '%s'", name);
    return -1;
}

/* An initializer of one value is trained and saved whatever is computed from it; only what is left of it as an integer is a
 * number. */
static void test_single_weights_stay(void **state) {
    (void)state;
    static const struct {
        const char *op, *inputs, *attributes;
    } steps[] = {{"Unsqueeze", "t,i0", NULL}, {"Reshape", "t,ones", NULL}, {"Transpose", "t2", NULL}, {"Squeeze", "t2,i0", NULL},
                 {"Cast", "t", "to=16"},      {"Cast", "t", "to=11"},      {"CastLike", "t,h", NULL}, {"Identity", "t", NULL},
                 {"Neg", "t", NULL},          {"Add", "c,t", NULL},        {"Sqrt", "t", NULL},       {"Concat", "t,t", "axis=0"},
                 {"Expand", "t,i1", NULL},    {"Div", "c,t", NULL}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        maker m;
        ckpt_model model;
        start(&m);
        m.model.producer_name = "pytorch";
        maker_weight(&m, "t", 1, (int64_t[]){1});
        maker_weight(&m, "t2", 2, (int64_t[]){1, 1});
        maker_ints(&m, "ones", 3, (int64_t[]){1, 1, 1});
        maker_node(&m, "Constant", "number", "", "c", "value_float=1.0");
        maker_node(&m, steps[i].op, "step", steps[i].inputs, "s", steps[i].attributes);
        if (strcmp(steps[i].op, "Concat") == 0) maker_node(&m, "ReduceSum", "sum", "s", "s1", "keepdims=0");
        maker_node(&m, "Mul", "last", strcmp(steps[i].op, "Concat") == 0 ? "h,s1" : "h,s", "y", NULL);
        load(&m, &model);
        const ckpt_tensor *t = &model.graph.tensor[find_tensor(&model.graph, strstr(steps[i].inputs, "t2") ? "t2" : "t")];
        if (t->role != CKPT_ROLE_PARAM) fail_msg("%s %s: not trained", steps[i].op, steps[i].inputs);
        assert_non_null(t->source);
        MUST(ckpt_model_check_savable(&model, "saved.onnx", &err), &err);
        ckpt_model_free(&model);
    }
}

/* A size that is computed with a number from an initializer is a size all the same. */
static void test_size_from_an_initializer(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    start(&m);
    maker_number(&m, "factor", 0.5f);
    maker_node(&m, "Shape", "s", "h", "shape", NULL);
    maker_node(&m, "Gather", "g", "shape,i1", "four", "axis=0");
    maker_node(&m, "Cast", "c1", "four", "f", "to=1");
    maker_node(&m, "Mul", "m", "f,factor", "f2", NULL);
    maker_node(&m, "Floor", "fl", "f2", "f3", NULL);
    maker_node(&m, "Cast", "c2", "f3", "two", "to=7");
    maker_node(&m, "Concat", "c", "two,minus", "to", "axis=0");
    maker_node(&m, "Reshape", "r", "h,to", "z", NULL);
    maker_node(&m, "Softmax", "sm", "z", "p", "axis=0"); /* axis 0 of [2, 360] */
    maker_node(&m, "Reshape", "back", "p,shape", "y", NULL);
    load(&m, &model);
    for (int n = 0; n < model.graph.forward_count; n++)
        if (model.graph.node[n].op == CKPT_OP_SOFTMAX) assert_int_equal(model.graph.node[n].attr.axis.axis, 2);
    assert_int_equal(model.graph.forward_count, 4); /* Mul, Softmax, the loss and its clearing */
    ckpt_model_free(&model);
}

/* A model as written rounds once, from what the file has to what it casts to. The bits: numpy's float16 of the double, and
 * the nearest of all bfloat16 by exact fractions. */
static void test_casts_of_numbers(void **state) {
    (void)state;
    enum { FLOAT16 = 10, BFLOAT16 = 16 };
    static const struct {
        double value;
        int to;
        uint16_t bits;
    } cases[] = {{1 + 0x1p-11 + 0x1p-40, FLOAT16, 0x3c01}, {1 + 0x1p-11, FLOAT16, 0x3c00},         {65519.999, FLOAT16, 0x7bff},
                 {65520, FLOAT16, 0x7c00},                 {-(0x1p-25 + 0x1p-60), FLOAT16, 0x8001}, {0x1p-25, FLOAT16, 0x0000},
                 {0.1, FLOAT16, 0x2e66},                   {1 + 0x1p-8 + 0x1p-40, BFLOAT16, 0x3f81}, {1 + 0x1p-8, BFLOAT16, 0x3f80},
                 {1 + 3 * 0x1p-8, BFLOAT16, 0x3f82},       {0.1, BFLOAT16, 0x3dcd},                 {-0.7071, BFLOAT16, 0xbf35},
                 {1e-60, FLOAT16, 0x0000},                 {-1e-60, BFLOAT16, 0x8000}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        maker m;
        ckpt_model model;
        const ckpt_dim_binding batch = {"batch", 5};
        const ckpt_model_options options = {.dim = &batch, .dim_count = 1, .as_written = true};
        double value = cases[i].value;
        uint16_t bits = 1;
        start(&m);
        Onnx__TensorProto *d = maker_weight(&m, "d", 0, NULL);
        d->data_type = 11;
        d->n_float_data = 0, d->n_double_data = 1, d->double_data = &value;
        maker_node(&m, "Cast", "cast", "d", "y", cases[i].to == FLOAT16 ? "to=10" : "to=16");
        maker_output(&m, "y");
        MUST(ckpt_model_load(maker_write(&m, "fold.onnx"), &options, &model, &err), &err);
        assert_int_equal(model.graph.tensor[model.output[0].tensor].dtype, cases[i].to == FLOAT16 ? CKPT_F16 : CKPT_BF16);
        MUST(ckpt_model_read_values(&model, model.output[0].tensor, &bits, &err), &err);
        if (bits != cases[i].bits) fail_msg("%.17g: bits %#x instead of %#x", value, bits, cases[i].bits);
        ckpt_model_free(&model);
    }
}

/* In training all floats are fp32: a number that is cast to 16 bits is the number, as a tensor is the tensor. */
static void test_casts_in_training(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        maker m;
        ckpt_model model;
        start(&m);
        maker_node(&m, "Constant", "number", "", "c", "value_float=0.7071");
        maker_node(&m, kind == 2 ? "CastLike" : "Cast", "cast", kind == 2 ? "c,h" : "c", "s", kind == 2 ? NULL : kind ? "to=16" : "to=10");
        maker_node(&m, "Clip", "clip", "h,,s", "k", NULL);
        maker_node(&m, "Mul", "last", "k,s", "y", NULL);
        load(&m, &model);
        int found = 0;
        for (int n = 0; n < model.graph.forward_count; n++)
            if (model.graph.node[n].op == CKPT_OP_ACT && model.graph.node[n].attr.act.act == CKPT_ACT_CLIP)
                found += model.graph.node[n].attr.act.beta == 0.7071f;
        for (int t = 0; t < model.graph.tensor_count; t++)
            if (model.graph.tensor[t].role == CKPT_ROLE_CONST && model.graph.tensor[t].count == 1 && model.graph.tensor[t].data)
                found += *(const float *)model.graph.tensor[t].data == 0.7071f;
        assert_int_equal(found, 2);
        ckpt_model_free(&model);
    }
}

/* Tables that a file computes from positions, as those of rotary embeddings, are constants. Values: numpy. */
static void test_tables_of_positions(void **state) {
    (void)state;
    static const struct {
        const char *op;
        float value[6];
    } rows[] = {{"Cos", {0.87758256f, 0.54030231f, 0.0707372f, -0.41614684f, -0.80114362f, -0.9899925f}},
                {"Sin", {0.47942554f, 0.84147098f, 0.99749499f, 0.90929743f, 0.59847214f, 0.14112001f}},
                {"Exp", {1.64872127f, 2.71828183f, 4.48168907f, 7.3890561f, 12.18249396f, 20.08553692f}},
                {"Log", {-0.69314718f, 0, 0.40546511f, 0.69314718f, 0.91629073f, 1.09861229f}},
                {"Reciprocal", {2, 1, 0.66666667f, 0.5f, 0.4f, 0.33333333f}}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        maker m;
        ckpt_model model;
        bool found = false;
        start(&m);
        maker_ints(&m, "at", 6, (int64_t[]){1, 2, 3, 4, 5, 6});
        maker_node(&m, "Constant", "number", "", "half", "value_float=0.5");
        maker_node(&m, "Cast", "cast", "at", "place", "to=1");
        maker_node(&m, "Mul", "angle", "place,half", "angles", NULL);
        maker_node(&m, rows[i].op, "table", "angles", "t", NULL);
        maker_node(&m, "Mul", "last", "h,t", "y", NULL);
        load(&m, &model);
        for (int t = 0; t < model.graph.tensor_count && !found; t++) {
            const ckpt_tensor *table = &model.graph.tensor[t];
            found = table->role == CKPT_ROLE_CONST && table->count == 6 && table->data;
            for (int k = 0; k < 6 && found; k++) found = fabsf(((const float *)table->data)[k] - rows[i].value[k]) <= 1e-6f * 20;
        }
        if (!found) fail_msg("%s: no constant has its values", rows[i].op);
        ckpt_model_free(&model);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reshape_by_computed_shape), cmocka_unit_test(test_large_is_left_to_nodes),
                                       cmocka_unit_test(test_uniform_weight), cmocka_unit_test(test_refusals),
                                       cmocka_unit_test(test_single_weights_stay), cmocka_unit_test(test_size_from_an_initializer),
                                       cmocka_unit_test(test_casts_of_numbers), cmocka_unit_test(test_casts_in_training),
                                       cmocka_unit_test(test_tables_of_positions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
