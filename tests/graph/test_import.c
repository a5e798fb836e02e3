/* What files become: one canonical node however an exporter wrote it, parameters by role, refusals in one line. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "graph/op.h"
#include "model_maker.h"

static ckpt_error err;

static void load(ckpt_model *model, maker *m, int64_t batch) {
    const ckpt_model_options options = {.batch = batch, .loss_auto = true};
    MUST(ckpt_model_load(maker_write(m, "import.onnx"), &options, model, &err), &err);
}

/* Loading fails with this status, and the one line has every given piece. */
static void refuse(maker *m, ckpt_status status, const char *piece, const char *another) {
    ckpt_model model;
    const ckpt_model_options options = {.loss_auto = true};
    const ckpt_status got = ckpt_model_load(maker_write(m, "import.onnx"), &options, &model, &err);
    if (got == CKPT_OK) fail_msg("loaded, but should say '%s'", piece);
    if (got != status || !strstr(err.message, piece) || !strstr(err.message, another) || strchr(err.message, '\n') ||
        !strstr(err.message, "import.onnx"))
        fail_msg("%s (%s), wanted '%s' and '%s'", err.message, ckpt_status_name(got), piece, another);
}

static int count_op(const ckpt_graph *g, ckpt_op op) {
    int count = 0;
    for (int n = 0; n < g->forward_count; n++) count += g->node[n].op == op;
    return count;
}

static int count_role(const ckpt_graph *g, ckpt_role role) {
    int count = 0;
    for (int t = 0; t < g->tensor_count; t++) count += g->tensor[t].role == role;
    return count;
}

static const ckpt_node *only(const ckpt_graph *g, ckpt_op op) {
    const ckpt_node *found = NULL;
    for (int n = 0; n < g->forward_count; n++)
        if (g->node[n].op == op) {
            assert_null(found);
            found = &g->node[n];
        }
    assert_non_null(found);
    return found;
}

static void start_mlp(maker *m) {
    maker_start(m, 17);
    maker_input(m, "x", 2, (int64_t[]){-1, 8});
    maker_weight(m, "w", 2, (int64_t[]){8, 4});
    maker_weight(m, "wt", 2, (int64_t[]){4, 8});
    maker_weight(m, "b", 1, (int64_t[]){4});
    maker_output(m, "y");
}

/* Gemm, MatMul + Add on either side, Transpose + MatMul + Add: one LINEAR with its bias. */
static void test_every_linear_is_one_node(void **state) {
    (void)state;
    for (int form = 0; form < 5; form++) {
        maker m;
        ckpt_model model;
        start_mlp(&m);
        if (form == 0) maker_node(&m, "Gemm", "fc", "x,wt,b", "y", "transB=1");
        if (form == 1) maker_node(&m, "Gemm", "fc", "x,w,b", "y", NULL);
        if (form == 4) maker_node(&m, "Transpose", "t", "wt", "tw", "perm=1,0");
        if (form >= 2) maker_node(&m, "MatMul", "fc", form == 4 ? "x,tw" : "x,w", "p", NULL);
        if (form >= 2) maker_node(&m, "Add", "add", form == 2 ? "p,b" : "b,p", "y", NULL);
        load(&model, &m, 3);
        const ckpt_node *linear = only(&model.graph, CKPT_OP_LINEAR);
        assert_int_equal(model.graph.forward_count, 3); /* with the loss and the clearing of its result */
        assert_int_equal(linear->in_count, 3);
        assert_int_equal(linear->attr.linear.rows, 3);
        assert_int_equal(linear->attr.linear.trans_w, form == 0 || form == 4);
        assert_int_equal(count_role(&model.graph, CKPT_ROLE_PARAM), 2);
        ckpt_model_free(&model);
    }
}

static void test_activation_and_dropout_fuse(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    start_mlp(&m);
    maker_number(&m, "ratio", 0.25f);
    maker_node(&m, "Gemm", "fc", "x,w,b", "z", NULL);
    maker_node(&m, "Relu", "act", "z", "a", NULL);
    maker_node(&m, "Dropout", "drop", "a,ratio", "y", NULL);
    load(&model, &m, 3);
    const ckpt_node *linear = only(&model.graph, CKPT_OP_LINEAR);
    assert_int_equal(linear->attr.linear.epilogue.act, CKPT_ACT_RELU);
    assert_true(linear->attr.linear.epilogue.drop == 0.25f);
    assert_int_equal(count_op(&model.graph, CKPT_OP_ACT), 0);
    assert_int_equal(count_role(&model.graph, CKPT_ROLE_PARAM), 2); /* the ratio is none */
    ckpt_graph evaluation;
    MUST(ckpt_graph_for_evaluation(&model.graph, &evaluation, &err), &err);
    assert_true(only(&evaluation, CKPT_OP_LINEAR)->attr.linear.epilogue.drop == 0);
    ckpt_graph_free(&evaluation);
    ckpt_model_free(&model);
}

/* A tensor with a second reader stays: it cannot be fused away. */
static void test_no_fusion_over_a_second_reader(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    start_mlp(&m);
    maker_node(&m, "Gemm", "fc", "x,w,b", "z", NULL);
    maker_node(&m, "Relu", "act", "z", "a", NULL);
    maker_node(&m, "Add", "skip", "z,a", "y", NULL);
    load(&model, &m, 3);
    assert_int_equal(only(&model.graph, CKPT_OP_LINEAR)->attr.linear.epilogue.act, CKPT_ACT_IDENTITY);
    assert_int_equal(count_op(&model.graph, CKPT_OP_ACT), 1);
    assert_int_equal(count_op(&model.graph, CKPT_OP_BINARY), 1);
    ckpt_model_free(&model);
}

/* y = element function of x in the way of `form`, with constants named as below. */
static int spell(maker *m, int form) {
    static const char *const forms[][8] = {
        /* GELU by erf: x/sqrt2 -> erf -> +1 -> *x -> *.5; the half first; the product of the halves; times 1/sqrt2 */
        {"Div x,sqrt2 a", "Erf a e", "Add e,one s", "Mul x,s p", "Mul p,half y"},
        {"Div x,sqrt2 a", "Erf a e", "Add one,e s", "Mul x,half h", "Mul h,s y"},
        {"Mul x,rsqrt2 a", "Erf a e", "Add e,one s", "Mul s,half h", "Mul h,x y"},
        /* by tanh: x^3 by Pow; by products; factored */
        {"Pow x,three c", "Mul c,k c2", "Add x,c2 i", "Mul i,s2pi t", "Tanh t u", "Add u,one v", "Mul x,v w1", "Mul w1,half y"},
        {"Mul x,x q", "Mul q,k kq", "Add kq,one f", "Mul x,f i", "Mul i,s2pi t", "Tanh t u", "Add u,one v", "Mul v,hx y"},
        /* SiLU */
        {"Sigmoid x a", "Mul x,a y"},
        /* as tf2onnx leaves it */
        {"Neg x n", "Mul n,rsqrt2 a", "Erfc a e", "Mul x,half h", "Mul h,e y"},
        /* Softplus as torch.onnx's dynamo exporter writes it */
        {"Softplus x a", "Greater x,twenty b", "Where b,x,a y"},
        /* Mish, HardSwish by Clip and by HardSigmoid, Softsign */
        {"Softplus x a", "Tanh a t", "Mul x,t y"},
        {"Add x,three a", "Clip a,zero,six c", "Mul x,c m", "Div m,six y"},
        {"HardSigmoid x h", "Mul x,h y"},
        {"Abs x a", "Add a,one d", "Div x,d y"},
        /* SiLU by exp; GELU by sigmoid of twice tanh's argument, and multiplied out */
        {"Neg x n", "Exp n e", "Add one,e d", "Div x,d y"},
        {"Mul x,x q", "Mul q,x c", "Mul c,k c2", "Add x,c2 i", "Mul i,twos2pi t", "Sigmoid t s", "Mul s,x y"},
        {"Mul x,rsqrt2 a", "Erf a e", "Mul x,half h", "Mul h,e he", "Add h,he y"},
        /* Softplus below a threshold and with it on the left; Mish behind a threshold */
        {"Softplus x a", "LessOrEqual x,twenty b", "Where b,a,x y"},
        {"Softplus x a", "Less twenty,x b", "Where b,x,a y"},
        {"Softplus x a", "Greater x,twenty b", "Where b,x,a s", "Tanh s t", "Mul t,x y"},
        /* constants as float16 and as bfloat16 have them */
        {"Div x,sqrt2half a", "Erf a e", "Add e,one s", "Mul x,s p", "Mul p,half y"},
        {"Pow x,three c", "Mul c,khalf c2", "Add x,c2 i", "Mul i,s2pihalf t", "Tanh t u", "Add u,one v", "Mul x,v w1", "Mul w1,half y"},
        {"Pow x,three c", "Mul c,kbf c2", "Add x,c2 i", "Mul i,s2pibf t", "Tanh t u", "Add u,one v", "Mul x,v w1", "Mul w1,half y"},
        /* none of them: a wrong constant */
        {"Div x,sqrt2 a", "Erf a e", "Add e,one s", "Mul x,s p", "Mul p,wrong y"},
        {"Sigmoid x a", "Mul half,a y"},
        {"Add x,three a", "Clip a,zero,three c", "Mul x,c m", "Div m,six y"},
        {"Pow x,three c", "Mul c,k4 c2", "Add x,c2 i", "Mul i,s2pi t", "Tanh t u", "Add u,one v", "Mul x,v w1", "Mul w1,half y"},
        {"Softplus x a", "Greater x,twelve b", "Where b,x,a y"},
        {"Mul x,wrong b", "Softplus b a", "Tanh a t", "Mul x,t y"},
        {"Mul x,wrong b", "Sigmoid b s", "Mul x,s y"},
        {"Abs x a", "Add a,half d", "Div x,d y"},
        {"HardSigmoid02 x h", "Mul x,h y"},
        /* the function with a bound, inside what samples reach and beyond */
        {"Clip x,none,twelve c", "Sigmoid x s", "Mul c,s y"},
        {"Clip x,none,million c", "Sigmoid x s", "Mul c,s y"},
        {"Clip x,zero,huge c", "Sigmoid x s", "Mul c,s y"},
        {"Sigmoid x s", "Clip s,zero,half c", "Mul x,c y"},
        {"Min x,million c", "Sigmoid x s", "Mul c,s y"},
        {"Relu x r", "Sigmoid x s", "Mul r,s y"},
        {"Abs x a", "Clip a,none,million b", "Add b,one d", "Div x,d y"},
        {"Clip x,none,million c", "Softplus x a", "Tanh a t", "Mul c,t y"},
        {"Softplus x a", "Clip a,none,million b", "Tanh b t", "Mul x,t y"},
        {"Clip x,none,million c", "Div c,sqrt2 a", "Erf a e", "Add e,one s", "Mul c,half h", "Mul h,s q", "Add q,x y"},
        {"Add x,x d", "Sub d,million f", "Softplus x a", "Greater x,million b", "Where b,f,a y"},
        {"Softplus x a", "Greater x,twenty b", "Where b,a,x y"},
        {"Add x,three a", "Clip a,zero,million c", "Mul x,c m", "Div m,six y"},
    };
    maker_start(m, 17);
    maker_input(m, "in", 2, (int64_t[]){-1, 8});
    maker_weight(m, "w", 2, (int64_t[]){8, 8});
    maker_number(m, "sqrt2", 1.41421356f), maker_number(m, "rsqrt2", 0.70710678f), maker_number(m, "one", 1);
    maker_number(m, "half", 0.5f), maker_number(m, "three", 3), maker_number(m, "k", 0.044715f);
    maker_number(m, "zero", 0), maker_number(m, "six", 6), maker_number(m, "s2pi", 0.79788456f), maker_number(m, "wrong", 0.6f);
    maker_number(m, "twenty", 20), maker_number(m, "twelve", 12), maker_number(m, "million", 1e6f), maker_number(m, "huge", 1e30f);
    maker_number(m, "twos2pi", 1.59576912f), maker_number(m, "k4", 0.0447f);
    maker_number(m, "sqrt2half", 0x1.6ap0f), maker_number(m, "khalf", 0x1.6e4p-5f), maker_number(m, "s2pihalf", 0x1.988p-1f);
    maker_number(m, "kbf", 0x1.6ep-5f), maker_number(m, "s2pibf", 0x1.98p-1f);
    maker_node(m, "MatMul", "fc", "in,w", "x", NULL);
    if (form == 4) maker_node(m, "Mul", "hx", "x,half", "hx", NULL);
    for (int i = 0; i < 8 && forms[form][i]; i++) {
        char op[16], in[32], out[16], *none;
        sscanf(forms[form][i], "%15s %31s %15s", op, in, out);
        if ((none = strstr(in, "none"))) memmove(none, none + 4, strlen(none + 4) + 1);
        const bool given = strcmp(op, "HardSigmoid") == 0;
        if (strcmp(op, "HardSigmoid02") == 0) op[11] = 0; /* alpha is 0.2 */
        maker_node(m, op, out, in, out, given ? "alpha=0.16666667" : NULL);
    }
    maker_output(m, "y");
    return (int)(sizeof forms / sizeof *forms);
}

/* A number behind a function, and a mask whose logarithm is added, are no parameters; a weight behind one is. */
static void test_numbers_behind_functions(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    start_mlp(&m);
    maker_number(&m, "dk", 64);
    Onnx__TensorProto *mask = maker_weight(&m, "mask", 1, (int64_t[]){4});
    for (int i = 0; i < 4; i++) mask->float_data[i] = (float)(i % 2);
    maker_node(&m, "Exp", "exp", "w", "e", NULL);
    maker_node(&m, "MatMul", "fc", "x,e", "h", NULL);
    maker_node(&m, "Sqrt", "sqrt", "dk", "root", NULL);
    maker_node(&m, "Div", "div", "h,root", "d", NULL);
    maker_node(&m, "Log", "log", "mask", "l", NULL);
    maker_node(&m, "Add", "add", "d,l", "s", NULL);
    maker_node(&m, "Add", "bias", "s,b", "y", NULL);
    load(&model, &m, 3);
    for (int i = 0; i < model.ruling_count; i++) {
        const ckpt_ruling *r = &model.ruling[i];
        const bool weight = strcmp(r->name, "w") == 0 || strcmp(r->name, "b") == 0;
        if (ckpt_verdict_trains(r->verdict) != weight) fail_msg("'%s': %s", r->name, ckpt_verdict_text(r->verdict));
    }
    ckpt_model_free(&model);
}

/* softplus(beta x) / beta with its threshold, as torch.onnx's dynamo exporter writes it: the threshold changes nothing, unless it
 * is too low, or the branches are not the same function. */
static void test_threshold_of_softplus(void **state) {
    (void)state;
    for (int form = 0; form < 4; form++) {
        maker m;
        ckpt_model model;
        start_mlp(&m);
        maker_number(&m, "beta", 2), maker_number(&m, "bound", form == 1 ? 8 : 20), maker_number(&m, "other", 3);
        maker_node(&m, "Gemm", "fc", "x,w,b", "z", NULL);
        maker_node(&m, "Mul", "scaled", "z,beta", "s", NULL);
        maker_node(&m, "Softplus", "softplus", "s", "p", NULL);
        maker_node(&m, "Div", "unscaled", form == 2 ? "p,other" : "p,beta", "d", NULL);
        maker_node(&m, "Greater", "above", form == 3 ? "bound,s" : "s,bound", "g", NULL);
        maker_node(&m, "Where", "where", "g,z,d", "y", NULL);
        load(&model, &m, 3);
        assert_int_equal(count_op(&model.graph, CKPT_OP_SELECT), form != 0);
        assert_int_equal(count_op(&model.graph, CKPT_OP_BINARY), 2);
        ckpt_model_free(&model);
    }
}

/* Every spelling of a function is one node; what is that function only in part is none. */
static void test_element_functions_are_recognised_by_structure(void **state) {
    (void)state;
    const ckpt_act wanted[] = {
        CKPT_ACT_GELU,       CKPT_ACT_GELU,     CKPT_ACT_GELU,     CKPT_ACT_GELU_TANH, CKPT_ACT_GELU_TANH, CKPT_ACT_SILU,
        CKPT_ACT_GELU,       CKPT_ACT_SOFTPLUS, CKPT_ACT_MISH,     CKPT_ACT_HARD_SWISH, CKPT_ACT_HARD_SWISH, CKPT_ACT_SOFTSIGN,
        CKPT_ACT_SILU,       CKPT_ACT_GELU_TANH, CKPT_ACT_GELU,    CKPT_ACT_SOFTPLUS,  CKPT_ACT_SOFTPLUS,  CKPT_ACT_MISH,
        CKPT_ACT_GELU,       CKPT_ACT_GELU_TANH, CKPT_ACT_GELU_TANH};
    const int known = (int)(sizeof wanted / sizeof *wanted);
    for (int form = 0, forms = known + 1; form < forms; form++) {
        maker m;
        ckpt_model model;
        forms = spell(&m, form);
        load(&model, &m, 2);
        const int left = count_op(&model.graph, CKPT_OP_BINARY) + count_op(&model.graph, CKPT_OP_SELECT);
        if (form >= known) {
            if (left == 0) fail_msg("form %d is none of the functions", form);
        } else {
            if (left != 0) fail_msg("form %d is not recognised", form);
            const ckpt_act fused = only(&model.graph, CKPT_OP_LINEAR)->attr.linear.epilogue.act; /* where the output will do */
            assert_int_equal(ckpt_act_from_output(wanted[form]) ? fused : only(&model.graph, CKPT_OP_ACT)->attr.act.act, wanted[form]);
        }
        ckpt_model_free(&model);
    }
}

/* One initializer read twice, plainly or through Identity, is one parameter with one update, after its last gradient. */
static void test_shared_weights_are_one_parameter(void **state) {
    (void)state;
    for (int alias = 0; alias < 2; alias++) {
        maker m;
        ckpt_model model;
        ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD};
        maker_start(&m, 17);
        maker_input(&m, "x", 2, (int64_t[]){-1, 8});
        maker_weight(&m, "w", 2, (int64_t[]){8, 8});
        if (alias) maker_node(&m, "Identity", "same", "w", "w2", NULL);
        maker_node(&m, "MatMul", "fc1", "x,w", "h", NULL);
        maker_node(&m, "Tanh", "act", "h", "a", NULL);
        maker_node(&m, "MatMul", "fc2", alias ? "a,w2" : "a,w", "y", NULL);
        maker_output(&m, "y");
        load(&model, &m, 2);
        assert_int_equal(count_role(&model.graph, CKPT_ROLE_PARAM), 1);
        ckpt_training_defaults(&training);
        MUST(ckpt_autodiff_run(&model.graph, &training, &err), &err);
        int updates = 0, products = 0;
        for (int n = 0; n < model.graph.node_count; n++) {
            updates += model.graph.node[n].op == CKPT_OP_SGD;
            products += model.graph.node[n].op == CKPT_OP_LINEAR_DW;
            if (model.graph.node[n].op == CKPT_OP_SGD) assert_int_equal(products, 2);
        }
        assert_int_equal(updates, 1);
        ckpt_model_free(&model);
    }
}

static void test_constant_nodes_can_be_weights(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    maker_start(&m, 17);
    maker_input(&m, "x", 2, (int64_t[]){-1, 2});
    maker_node(&m, "Constant", "c", "", "w", NULL);
    Onnx__AttributeProto value = ONNX__ATTRIBUTE_PROTO__INIT, *values[1] = {&value};
    value.name = "value";
    value.has_type = 1;
    value.type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
    value.t = maker_weight(&m, "inside", 2, (int64_t[]){2, 3});
    m.graph.n_initializer--; /* it is the node's alone */
    m.nodes[0]->attribute = values;
    m.nodes[0]->n_attribute = 1;
    maker_node(&m, "MatMul", "fc", "x,w", "y", NULL);
    maker_output(&m, "y");
    load(&model, &m, 2);
    int ids[8];
    assert_int_equal(ckpt_model_parameters(&model, ids), 1);
    assert_string_equal(model.graph.tensor[ids[0]].name, "w");
    ckpt_model_free(&model);
}

static void test_losses_are_chosen_and_folded(void **state) {
    (void)state;
    static const struct { const char *op; ckpt_loss loss; } cases[] = {
        {"Softmax", CKPT_LOSS_CE}, {"LogSoftmax", CKPT_LOSS_CE}, {"Sigmoid", CKPT_LOSS_BCE}, {"Tanh", CKPT_LOSS_MSE}};
    for (int i = 0; i < 4; i++) {
        maker m;
        ckpt_model model;
        start_mlp(&m);
        maker_node(&m, "Gemm", "fc", "x,w,b", "z", NULL);
        maker_node(&m, cases[i].op, "last", "z", "y", NULL);
        load(&model, &m, 3);
        assert_int_equal(model.losses[0].loss, cases[i].loss);
        assert_int_equal(model.graph.forward_count, 3); /* the last node is folded, or fused */
        assert_int_equal(only(&model.graph, CKPT_OP_LINEAR)->attr.linear.epilogue.act,
                         i == 3 ? CKPT_ACT_TANH : CKPT_ACT_IDENTITY);
        assert_non_null(strstr(model.loss_reason, i < 3 ? "folded" : "values"));
        ckpt_model_free(&model);
    }
}

/* What the loss does not depend on may hold anything; what it does depend on is refused by name. */
static void test_tails_are_skipped(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    start_mlp(&m);
    m.graph.n_output = 0;
    maker_output(&m, "label");
    maker_output(&m, "y");
    maker_node(&m, "Gemm", "fc", "x,w,b", "y", NULL);
    maker_node(&m, "ArgMax", "best", "y", "label", "axis=1");
    load(&model, &m, 3);
    assert_string_equal(model.prediction, "y");
    ckpt_model_free(&model);
    m.graph.n_output = 1;
    refuse(&m, CKPT_MODEL, "node 'best' (ArgMax, opset 17)", "supported are Abs");
}

static void test_broken_graphs_are_refused(void **state) {
    (void)state;
    maker m;
    start_mlp(&m); /* a cycle */
    maker_node(&m, "Add", "first", "x,q", "p", NULL);
    maker_node(&m, "Relu", "second", "p", "q", NULL);
    maker_node(&m, "Relu", "third", "q", "y", NULL);
    refuse(&m, CKPT_MODEL, "node 'first' (Add, opset 17)", "cycle");
    start_mlp(&m); /* a dangling input */
    maker_node(&m, "Gemm", "fc", "x,nowhere,b", "y", NULL);
    refuse(&m, CKPT_MODEL, "'nowhere'", "node 'fc'");
    start_mlp(&m); /* an output that nothing makes */
    maker_node(&m, "Gemm", "fc", "x,w,b", "z", NULL);
    refuse(&m, CKPT_MODEL, "output 'y'", "no node");
    start_mlp(&m); /* one name twice */
    maker_node(&m, "Gemm", "fc", "x,w,b", "y", NULL);
    maker_node(&m, "Relu", "again", "x", "y", NULL);
    refuse(&m, CKPT_MODEL, "'y'", "defined twice");
    start_mlp(&m);
    maker_node(&m, "Gemm", "fc", "x,wt,b", "y", NULL);
    refuse(&m, CKPT_MODEL, "node 'fc'", "8 features and its weight takes 4");
    start_mlp(&m);
    maker_node(&m, "Gemm", "fc", "x,w,b", "y", "gamma=2.0");
    refuse(&m, CKPT_MODEL, "attribute 'gamma'", "node 'fc'");
    start_mlp(&m);
    maker_node(&m, "Gemm", "fc", "x,w,b", "y", "alpha=1");
    refuse(&m, CKPT_MODEL, "'alpha' is not a float", "node 'fc'");
}

static void test_shapes_and_opsets_are_checked(void **state) {
    (void)state;
    maker m;
    maker_start(&m, 6); /* before opset 7 */
    maker_input(&m, "x", 2, (int64_t[]){-1, 8});
    maker_weight(&m, "w", 2, (int64_t[]){8, 4});
    maker_node(&m, "MatMul", "fc", "x,w", "y", NULL);
    maker_output(&m, "y");
    refuse(&m, CKPT_MODEL, "opset 6", "convert");
    maker_start(&m, 17); /* a second symbolic dimension */
    maker_input(&m, "x", 3, (int64_t[]){-1, -1, 8});
    m.inputs[0]->type->tensor_type->shape->dim[1]->dim_param = "tokens";
    maker_weight(&m, "w", 2, (int64_t[]){8, 4});
    maker_node(&m, "MatMul", "fc", "x,w", "y", NULL);
    maker_output(&m, "y");
    refuse(&m, CKPT_USAGE, "'tokens'", "--dim tokens=N");
    ckpt_model model;
    const ckpt_dim_binding tokens = {"tokens", 5};
    const ckpt_model_options options = {.batch = 2, .loss_auto = true, .dim_count = 1, .dim = &tokens};
    MUST(ckpt_model_load(maker_write(&m, "import.onnx"), &options, &model, &err), &err);
    assert_int_equal(only(&model.graph, CKPT_OP_LINEAR)->attr.linear.rows, 10);
    ckpt_model_free(&model);
    static const int64_t bad[][2] = {{-7, 8}, {INT64_MAX, INT64_MAX}, {1, INT64_MAX}};
    static const char *const why[] = {"-7", "larger than any memory", "larger than any memory"};
    for (int i = 0; i < 3; i++) {
        maker_start(&m, 17);
        maker_input(&m, "x", 2, bad[i]);
        maker_node(&m, "Relu", "act", "x", "y", NULL);
        maker_output(&m, "y");
        refuse(&m, CKPT_MODEL, why[i], "'x'");
    }
}

static void test_the_batch_is_bound(void **state) {
    (void)state;
    for (int fixed = 0; fixed < 2; fixed++)
        for (int64_t batch = 0; batch < 8; batch += 7) {
            maker m;
            ckpt_model model;
            maker_start(&m, 17);
            maker_input(&m, "x", 2, (int64_t[]){fixed ? 5 : -1, 8});
            maker_weight(&m, "w", 2, (int64_t[]){8, 4});
            maker_node(&m, "MatMul", "fc", "x,w", "y", NULL);
            maker_output(&m, "y");
            load(&model, &m, batch);
            assert_int_equal(model.graph.batch, batch ? batch : fixed ? 5 : 64);
            ckpt_model_free(&model);
        }
}

/* A block called twice, a block in a block, an attribute handed down, an output that is an input. */
static void test_functions_are_written_out(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    start_mlp(&m);
    maker_weight(&m, "u", 2, (int64_t[]){4, 4});
    maker_function(&m, "Layer", "in,w", "out,in", "alpha");
    maker_node(&m, "MatMul", "product", "in,w", "z", NULL);
    maker_node(&m, "LeakyRelu", "act", "z", "out", "alpha=@alpha");
    maker_function(&m, "Two", "in,w", "out", "");
    maker_node(&m, "local:Layer", "first", "in,w", "h", "alpha=0.25");
    maker_node(&m, "local:Layer", "second", "h,w", "out,same", "alpha=0.5");
    maker_graph(&m);
    maker_node(&m, "MatMul", "fc", "x,w", "h", NULL);
    maker_node(&m, "local:Two", "block", "h,u", "z", NULL);
    maker_node(&m, "local:Layer", "tail", "z,u", "p,q", "alpha=0.75");
    maker_node(&m, "Add", "sum", "p,q", "y", NULL);
    load(&model, &m, 3);
    const ckpt_graph *g = &model.graph;
    const char *names[] = {"fc", "block/first/product", "block/second/product", "tail/product"};
    const float slopes[] = {1, 0.25f, 0.5f, 0.75f};
    int found = 0;
    for (int n = 0; n < g->forward_count; n++) {
        if (g->node[n].op != CKPT_OP_LINEAR) continue;
        assert_string_equal(g->node[n].name, names[found]);
        if (found) assert_float_equal(g->node[n].attr.linear.epilogue.alpha, slopes[found], 0);
        found++;
    }
    assert_int_equal(found, 4);
    assert_int_equal(count_role(g, CKPT_ROLE_PARAM), 2);
    ckpt_model_free(&model);
}

/* An input that the call leaves out is left out of the body's node; a constant of a body is not trained. */
static void test_function_arguments_left_out(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    start_mlp(&m);
    maker_function(&m, "Gemm2", "a,b,c", "d", "");
    maker_node(&m, "Gemm", "g", "a,b,c", "d", NULL);
    maker_graph(&m);
    maker_node(&m, "local:Gemm2", "call", "x,w", "y", NULL);
    load(&model, &m, 3);
    assert_int_equal(only(&model.graph, CKPT_OP_LINEAR)->in_count, 2);
    ckpt_model_free(&model);
    start_mlp(&m);
    maker_function(&m, "Scale", "a", "b", "");
    maker_node(&m, "Gemm", "g", "a,w", "b", NULL); /* a body sees its arguments only */
    maker_graph(&m);
    maker_node(&m, "local:Scale", "call", "x", "y", NULL);
    refuse(&m, CKPT_MODEL, "call/g", "is made by no earlier node");
}

static void test_hostile_functions(void **state) {
    (void)state;
    maker m;
    start_mlp(&m);
    maker_function(&m, "Loop", "a", "b", "");
    maker_node(&m, "local:Loop", "again", "a", "b", NULL);
    maker_graph(&m);
    maker_node(&m, "local:Loop", "call", "x", "y", NULL);
    refuse(&m, CKPT_MODEL, "'Loop'", "perhaps by itself");
    start_mlp(&m);
    maker_function(&m, "Leaf", "a", "b", "");
    maker_node(&m, "Relu", "r", "a", "b", NULL);
    for (int depth = 0; depth < 6; depth++) { /* 10^6 nodes out of 60 */
        char name[8], callee[16];
        snprintf(name, sizeof name, "F%d", depth);
        snprintf(callee, sizeof callee, depth ? "local:F%d" : "local:Leaf", depth - 1);
        maker_function(&m, name, "a", "b", "");
        for (int i = 0; i < 10; i++) maker_node(&m, callee, "c", "a", i ? "" : "b", NULL);
    }
    maker_graph(&m);
    maker_node(&m, "local:F5", "call", "x", "y", NULL);
    refuse(&m, CKPT_MODEL, "when written out", "nodes");
    start_mlp(&m);
    for (int i = 0; i < 2; i++) maker_function(&m, "Twice", "a", "b", "");
    maker_graph(&m);
    refuse(&m, CKPT_MODEL, "'Twice'", "defined twice");
    start_mlp(&m);
    maker_function(&m, "One", "a", "b", "");
    maker_graph(&m);
    maker_node(&m, "local:One", "call", "x,w", "y", NULL);
    refuse(&m, CKPT_MODEL, "'call'", "2 inputs");
}

/* skl2onnx: a Scaler that is not trained, a Softmax folded into the loss behind ZipMap, the label's tail skipped. */
static void test_sklearn_tail(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    start_mlp(&m);
    maker_node(&m, "ai.onnx.ml:Scaler", "scaler", "x", "s", "offset=0.5 scale=2.0");
    maker_node(&m, "Cast", "cast", "s", "c", "to=1");
    maker_node(&m, "MatMul", "fc", "c,w", "z", NULL);
    maker_node(&m, "Softmax", "softmax", "z", "p", NULL);
    maker_node(&m, "ArgMax", "argmax", "p", "label", "axis=1");
    maker_node(&m, "ai.onnx.ml:ZipMap", "zip", "p", "y", NULL);
    m.graph.n_output = 0;
    maker_output(&m, "label");
    maker_output(&m, "y");
    load(&model, &m, 3);
    assert_int_equal(model.losses[0].loss, CKPT_LOSS_CE);
    assert_int_equal(count_role(&model.graph, CKPT_ROLE_PARAM), 1);
    assert_int_equal(count_op(&model.graph, CKPT_OP_SOFTMAX), 0);
    ckpt_model_free(&model);
    maker_start(&m, 17); /* its binary classifier: the pair 1 - p, p */
    maker_input(&m, "x", 2, (int64_t[]){-1, 8});
    maker_weight(&m, "w", 2, (int64_t[]){8, 1});
    maker_number(&m, "one", 1);
    maker_node(&m, "MatMul", "fc", "x,w", "z", NULL);
    maker_node(&m, "Sigmoid", "sigmoid", "z", "p", NULL);
    maker_node(&m, "Sub", "rest", "one,p", "q", NULL);
    maker_node(&m, "Concat", "pair", "q,p", "y", "axis=1");
    maker_output(&m, "y");
    load(&model, &m, 3);
    assert_int_equal(model.losses[0].loss, CKPT_LOSS_BCE);
    assert_int_equal(count_op(&model.graph, CKPT_OP_CONCAT), 0);
    assert_int_equal(count_op(&model.graph, CKPT_OP_ACT), 0);
    ckpt_model_free(&model);
}

/* A sparse initializer is a weight like any other, and is saved as a dense one. */
static void test_sparse_initializer(void **state) {
    (void)state;
    static const float dense[8] = {0, 0.01f, 0, 0, 0.02f, 0, 0, 0.03f};
    maker m;
    ckpt_model model;
    Onnx__SparseTensorProto sparse, *list[1] = {&sparse};
    int64_t dims[2] = {4, 2};
    float values[8];
    const float trained[8] = {1, 2, 3, 4, 5, 6, 7, 8}, *by_tensor[32] = {NULL};
    maker_start(&m, 17);
    maker_input(&m, "x", 2, (int64_t[]){-1, 4});
    onnx__sparse_tensor_proto__init(&sparse);
    sparse.values = maker_weight(&m, "w", 1, (int64_t[]){3});
    maker_ints(&m, "places", 3, (int64_t[]){1, 4, 7});
    sparse.indices = m.weights[1];
    sparse.dims = dims, sparse.n_dims = 2;
    m.graph.n_initializer = 0;
    m.graph.sparse_initializer = list, m.graph.n_sparse_initializer = 1;
    maker_node(&m, "MatMul", "fc", "x,w", "y", NULL);
    maker_output(&m, "y");
    load(&model, &m, 3);
    int w = 0;
    while (strcmp(model.graph.tensor[w].name, "w") != 0) w++;
    assert_int_equal(model.graph.tensor[w].role, CKPT_ROLE_PARAM);
    MUST(ckpt_model_read_values(&model, w, values, &err), &err);
    assert_memory_equal(values, dense, sizeof dense);
    assert_true(model.dense.count == 1 && model.dense.stored == 3 && model.dense.elements == 8);
    MUST(ckpt_model_check_savable(&model, "dense.onnx", &err), &err);
    assert_in_range(model.graph.tensor_count, 1, 32);
    by_tensor[w] = trained;
    MUST(ckpt_model_save(&model, by_tensor, "dense.onnx", false, &err), &err);
    ckpt_model_free(&model);
    const ckpt_model_options options = {.batch = 3, .loss_auto = true};
    MUST(ckpt_model_load("dense.onnx", &options, &model, &err), &err);
    assert_int_equal(model.dense.count, 0);
    for (w = 0; strcmp(model.graph.tensor[w].name, "w") != 0;) w++;
    MUST(ckpt_model_read_values(&model, w, values, &err), &err);
    assert_memory_equal(values, trained, sizeof trained);
    ckpt_model_free(&model);
}

/* Two normalizations that an exporter gave one fresh scale, bare or by way of an Identity; a layer that is called twice
 * with its norm; two layers with one bias of zeros. */
static void fill(Onnx__TensorProto *t, float value) {
    for (size_t i = 0; i < t->n_float_data; i++) t->float_data[i] = value;
}

static void make_tied(maker *m, bool identity, bool same_layer, float value) {
    maker_start(m, 17);
    maker_input(m, "x", 2, (int64_t[]){-1, 4});
    maker_weight(m, "w1", 2, (int64_t[]){4, 4});
    maker_weight(m, "w2", 2, (int64_t[]){4, 4});
    fill(maker_weight(m, "s", 1, (int64_t[]){4}), value);
    fill(maker_weight(m, "b", 1, (int64_t[]){4}), 0);
    if (identity) maker_node(m, "Identity", "i", "s", "s2", NULL);
    maker_node(m, "LayerNormalization", "n1", "x,s", "h1", NULL);
    maker_node(m, "Gemm", "f1", "h1,w1,b", "h2", NULL);
    maker_node(m, "LayerNormalization", "n2", identity ? "h2,s2" : "h2,s", "h3", NULL);
    maker_node(m, "Gemm", "f2", same_layer ? "h3,w1,b" : "h3,w2,b", "y", NULL);
    maker_output(m, "y");
}

static void load_tied(ckpt_model *model, maker *m, ckpt_untie how, int ties, int copies, int parameters) {
    const ckpt_model_options options = {.loss_auto = true, .untie = how};
    MUST(ckpt_model_load(maker_write(m, "ties.onnx"), &options, model, &err), &err);
    assert_int_equal(model->ties.count, ties);
    assert_int_equal(model->ties.copies, copies);
    assert_int_equal(count_role(&model->graph, CKPT_ROLE_PARAM), parameters);
}

static void test_accidental_ties_are_undone(void **state) {
    (void)state;
    maker m;
    ckpt_model model, saved;
    for (int identity = 0; identity < 2; identity++) {
        make_tied(&m, identity, false, 1);
        load_tied(&model, &m, CKPT_UNTIE_AUTO, 2, 2, 6);
        assert_string_equal(model.ties.tie[0].name, "s");
        assert_int_equal(model.ties.tie[0].copies, 2);
        assert_non_null(strstr(model.ties.tie[0].reason, "are 1"));
        assert_non_null(strstr(model.ties.tie[1].reason, "are 0"));
        const float *values[32] = {NULL};
        float number[32][16];
        for (int t = 0; t < model.graph.tensor_count; t++) {
            if (model.graph.tensor[t].role != CKPT_ROLE_PARAM) continue;
            for (int i = 0; i < 16; i++) number[t][i] = (float)(t + 1);
            values[t] = number[t];
        }
        MUST(ckpt_model_save(&model, values, "untied.onnx", false, &err), &err);
        ckpt_model_free(&model);
        /* What was saved is the taken-apart model, each with values of its own: nothing left to undo. */
        const ckpt_model_options options = {.loss_auto = true};
        MUST(ckpt_model_load("untied.onnx", &options, &saved, &err), &err);
        assert_int_equal(saved.ties.count, 0);
        assert_int_equal(count_role(&saved.graph, CKPT_ROLE_PARAM), 6);
        float s = 0, s2 = 0;
        for (int t = 0; t < saved.graph.tensor_count; t++) {
            float read[16];
            if (saved.graph.tensor[t].role != CKPT_ROLE_PARAM) continue;
            MUST(ckpt_model_read_values(&saved, t, read, &err), &err);
            if (strcmp(saved.graph.tensor[t].name, "s") == 0) s = read[0];
            if (strcmp(saved.graph.tensor[t].name, identity ? "s2" : "s_2") == 0) s2 = read[0];
        }
        assert_true(s > 0 && s2 > 0 && s != s2);
        ckpt_model_free(&saved);
    }
}

/* A fresh BatchNormalization has a scale and a variance of ones, a bias and a mean of zeros: exporters write one each. */
static void test_statistics_are_no_weights(void **state) {
    (void)state;
    for (int identity = 0; identity < 2; identity++)
        for (ckpt_untie how = CKPT_UNTIE_AUTO; how <= CKPT_UNTIE_NONE; how++) {
            maker m;
            ckpt_model model;
            maker_start(&m, 17);
            maker_input(&m, "x", 2, (int64_t[]){-1, 4});
            maker_weight(&m, "w1", 2, (int64_t[]){4, 4});
            maker_weight(&m, "w2", 2, (int64_t[]){4, 4});
            fill(maker_weight(&m, "s", 1, (int64_t[]){4}), 1);
            fill(maker_weight(&m, "b", 1, (int64_t[]){4}), 0);
            if (identity) maker_node(&m, "Identity", "i1", "s", "variance", NULL);
            if (identity) maker_node(&m, "Identity", "i2", "b", "mean", NULL);
            maker_node(&m, "MatMul", "f1", "x,w1", "h1", NULL);
            maker_node(&m, "BatchNormalization", "n", identity ? "h1,s,b,mean,variance" : "h1,s,b,b,s", "h2", NULL);
            maker_node(&m, "MatMul", "f2", "h2,w2", "y", NULL);
            maker_output(&m, "y");
            if (how == CKPT_UNTIE_NONE) {
                const ckpt_model_options options = {.loss_auto = true, .untie = how};
                assert_int_equal(ckpt_model_load(maker_write(&m, "ties.onnx"), &options, &model, &err), CKPT_MODEL);
                assert_non_null(strstr(err.message, "'b' is a running statistic"));
                assert_non_null(strstr(err.message, "--untie all"));
                continue;
            }
            load_tied(&model, &m, how, 2, 2, 4);
            assert_int_equal(count_role(&model.graph, CKPT_ROLE_STATISTIC), 2);
            assert_int_equal(count_op(&model.graph, CKPT_OP_STATS_UPDATE), 1);
            if (how == CKPT_UNTIE_AUTO) assert_non_null(strstr(model.ties.tie[0].reason, "running statistic"));
            ckpt_model_free(&model);
        }
}

static void test_real_ties_stay(void **state) {
    (void)state;
    maker m;
    ckpt_model model;
    make_tied(&m, false, false, 0.5f);
    m.weights[2]->float_data[1] = 0.25f; /* it was trained */
    load_tied(&model, &m, CKPT_UNTIE_AUTO, 2, 1, 5);
    ckpt_model_free(&model);
    make_tied(&m, false, true, 1); /* one layer, called twice */
    load_tied(&model, &m, CKPT_UNTIE_AUTO, 3, 0, 3);
    assert_non_null(strstr(model.ties.tie[1].reason, "called again"));
    ckpt_model_free(&model);
    make_tied(&m, false, true, 1);
    load_tied(&model, &m, CKPT_UNTIE_ALL, 3, 3, 6);
    ckpt_model_free(&model);
    make_tied(&m, true, false, 1);
    load_tied(&model, &m, CKPT_UNTIE_NONE, 2, 0, 4);
    ckpt_model_free(&model);
    for (int same = 0; same < 2; same++) /* what the exporter says counts more than the neighbours */
        for (int by_name = 0; by_name < 2; by_name++) {
            make_tied(&m, false, !same, 1);
            if (by_name) {
                m.nodes[0]->name = (char *)(uintptr_t)"/norm/LayerNormalization";
                m.nodes[2]->name = (char *)(uintptr_t)(same ? "/norm/LayerNormalization_1" : "/norm2/LayerNormalization");
            } else {
                maker_property(&m, 0, "pkg.torch.onnx.fx_node", "layer_norm(args = (%x, [8], %p_n1_weight, 1e-05))");
                maker_property(&m, 2, "pkg.torch.onnx.fx_node",
                               same ? "layer_norm(args = (%y, [8], %p_n1_weight))" : "layer_norm(args = (%y, %p_n1_weight_2))");
            }
            load_tied(&model, &m, CKPT_UNTIE_AUTO, same ? 2 : 3, 1, same ? 5 : 4);
            assert_int_equal(model.ties.tie[same ? 0 : 1].copies, same ? 1 : 2);
            ckpt_model_free(&model);
        }
}

/* Class weights of a loss node are constants of the loss, in whatever form the file has them: its mean is then known for a
 * whole batch before a part of it runs. */
static void test_class_weights_are_constants(void **state) {
    (void)state;
    static const struct {
        const char *nodes; /* op, inputs and outputs of up to two nodes that make "v" of "w" */
        double first;      /* of v, where w is 0.01, 0.02, 0.03, 0.04 */
        bool constant;
    } forms[] = {
        {"Identity w v", 0.01, true},
        {"Mul w,hundred v", 1, true},
        {"ReduceSum w total;Div w,total v", 0.1, true},
        {"Unsqueeze w,zero row;Squeeze row,zero v", 0.01, true},
        {"ConstantOfShape four v", 0, true},
        {"Add w,bias v", 0, false}, /* what is trained elsewhere may change */
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        maker m;
        ckpt_model model;
        char nodes[128], *save;
        maker_start(&m, 17);
        maker_input(&m, "x", 2, (int64_t[]){-1, 3});
        maker_input(&m, "labels", 1, (int64_t[]){-1});
        m.inputs[1]->type->tensor_type->elem_type = 7;
        maker_weight(&m, "fc", 2, (int64_t[]){3, 4});
        maker_weight(&m, "bias", 1, (int64_t[]){4});
        maker_weight(&m, "w", 1, (int64_t[]){4});
        maker_number(&m, "hundred", 100);
        maker_ints(&m, "zero", 1, (int64_t[]){0});
        maker_ints(&m, "four", 1, (int64_t[]){4});
        maker_node(&m, "Gemm", "dense", "x,fc,bias", "scores", NULL);
        snprintf(nodes, sizeof nodes, "%s", forms[i].nodes);
        for (char *node = strtok_r(nodes, ";", &save); node; node = strtok_r(NULL, ";", &save)) {
            char op[32], in[32], out[32];
            assert_int_equal(sscanf(node, "%31s %31s %31s", op, in, out), 3);
            maker_node(&m, op, op, in, out, strcmp(op, "ReduceSum") == 0 ? "keepdims=0" : NULL);
        }
        maker_node(&m, "SoftmaxCrossEntropyLoss", "loss", "scores,labels,v", "y", "ignore_index=1");
        maker_output(&m, "y");
        const ckpt_model_options options = {.batch = 2, .loss_auto = true};
        MUST(ckpt_model_load(maker_write(&m, "class_weights.onnx"), &options, &model, &err), &err);
        const ckpt_node *loss = &model.graph.node[model.graph.forward_count - 1];
        assert_int_equal(model.losses[0].loss, forms[i].constant ? CKPT_LOSS_CE : CKPT_LOSS_FILE);
        assert_int_equal(model.losses[0].in_parts, forms[i].constant);
        if (forms[i].constant) {
            float values[4];
            assert_int_equal(loss->op, CKPT_OP_LOSS);
            assert_int_equal(loss->in_count, 3);
            assert_int_equal(model.graph.tensor[loss->in[2]].role, CKPT_ROLE_CONST);
            MUST(ckpt_model_read_values(&model, loss->in[2], values, &err), &err);
            assert_true(fabs((double)values[0] - forms[i].first) < 1e-7);
        }
        for (int k = 0; k < model.ruling_count && forms[i].constant; k++)
            if (strcmp(model.ruling[k].name, "w") == 0) assert_int_equal(model.ruling[k].verdict, CKPT_VERDICT_CLASS_WEIGHTS);
        ckpt_model_free(&model);
    }
}

/* A loss that the file computes is a mean or a sum over the samples, or neither, whatever the batch it is loaded with: also one
 * sample, of which they look alike, and sizes that other axes have. */
static void test_losses_of_the_file_over_the_batch(void **state) {
    (void)state;
    enum { MEAN, SUMS, NEITHER };
    static const struct {
        const char *nodes; /* from the squared errors "s" of (batch, 2) to "y" */
        int over;
    } losses[] = {
        {"ReduceMean s y keepdims=0", MEAN},
        {"ReduceSum s y keepdims=0", SUMS},
        {"ReduceSum s r axes=1; ReduceMean r y keepdims=0", MEAN},
        {"ReduceMean s r axes=1, keepdims=0; ReduceSum r y keepdims=0", SUMS},
        {"Transpose s t; ReduceMean t r axes=1, keepdims=0; ReduceSum r n keepdims=0; Neg n y", MEAN},
        {"ReduceSum s r keepdims=0; Shape s d; Gather d,zero n; Cast n f to=1; Div r,f y", MEAN},
        {"ReduceMean s r keepdims=0; Size s n; Cast n f to=1; Mul r,f y", SUMS},
        {"ReduceMean s r keepdims=0; Mul r,two y", MEAN},
        {"ReduceMean s r keepdims=0; ReduceSum w p keepdims=0; Add r,p y", MEAN}, /* a penalty counts once */
        {"ReduceSum s r keepdims=0; ReduceSum w p keepdims=0; Add r,p y", NEITHER},
        {"ReduceSum s r keepdims=0; ReduceMean s p keepdims=0; Add r,p y", NEITHER},
        {"ReduceMean s r keepdims=0; Sqrt r y", NEITHER},
        {"ReduceSum s r keepdims=0; ReduceMax labels p keepdims=0; Div r,p y", NEITHER},
    };
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++)
        for (int64_t batch = 1; batch <= 6; batch++) {
            maker m;
            ckpt_model model;
            char nodes[160], *save;
            maker_start(&m, 17);
            maker_input(&m, "x", 2, (int64_t[]){-1, 3});
            maker_input(&m, "labels", 2, (int64_t[]){-1, 2});
            maker_weight(&m, "w", 2, (int64_t[]){3, 2});
            maker_number(&m, "two", 2);
            maker_ints(&m, "zero", 1, (int64_t[]){0});
            m.weights[2]->n_dims = 0;
            maker_node(&m, "MatMul", "fc", "x,w", "h", NULL);
            maker_node(&m, "Sub", "error", "h,labels", "e", NULL);
            maker_node(&m, "Mul", "square", "e,e", "s", NULL);
            snprintf(nodes, sizeof nodes, "%s", losses[i].nodes);
            for (char *node = strtok_r(nodes, ";", &save); node; node = strtok_r(NULL, ";", &save)) {
                char op[32], in[32], out[32], attrs[32] = "";
                assert_true(sscanf(node, "%31s %31s %31s %31[^;]", op, in, out, attrs) >= 3);
                if (strcmp(op, "ReduceSum") == 0 && strstr(attrs, "axes")) maker_node(&m, op, out, "s,one", out, "keepdims=0");
                else maker_node(&m, op, out, in, out, *attrs ? attrs : NULL);
            }
            maker_ints(&m, "one", 1, (int64_t[]){1});
            maker_output(&m, "y");
            load(&model, &m, batch);
            const ckpt_model_loss *loss = &model.losses[0];
            assert_int_equal(loss->loss, CKPT_LOSS_FILE);
            const int over = !loss->in_parts ? NEITHER : loss->mean ? MEAN : SUMS;
            if (over != losses[i].over) fail_msg("%s: batch %d: %d instead of %d", losses[i].nodes, (int)batch, over, losses[i].over);
            ckpt_model_free(&model);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_linear_is_one_node),
        cmocka_unit_test(test_activation_and_dropout_fuse),
        cmocka_unit_test(test_functions_are_written_out),
        cmocka_unit_test(test_function_arguments_left_out),
        cmocka_unit_test(test_hostile_functions),
        cmocka_unit_test(test_sklearn_tail),
        cmocka_unit_test(test_accidental_ties_are_undone),
        cmocka_unit_test(test_statistics_are_no_weights),
        cmocka_unit_test(test_real_ties_stay),
        cmocka_unit_test(test_no_fusion_over_a_second_reader),
        cmocka_unit_test(test_element_functions_are_recognised_by_structure),
        cmocka_unit_test(test_threshold_of_softplus),
        cmocka_unit_test(test_numbers_behind_functions),
        cmocka_unit_test(test_sparse_initializer),
        cmocka_unit_test(test_shared_weights_are_one_parameter),
        cmocka_unit_test(test_constant_nodes_can_be_weights),
        cmocka_unit_test(test_losses_are_chosen_and_folded),
        cmocka_unit_test(test_tails_are_skipped),
        cmocka_unit_test(test_class_weights_are_constants),
        cmocka_unit_test(test_losses_of_the_file_over_the_batch),
        cmocka_unit_test(test_broken_graphs_are_refused),
        cmocka_unit_test(test_shapes_and_opsets_are_checked),
        cmocka_unit_test(test_the_batch_is_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
