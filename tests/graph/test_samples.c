/* Which axis of an output counts the samples: found through every operand that may have them, put first where it is another,
 * and refused only where it is known to be none. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_maker.h"

enum { FEATURES = 6 };

/* "Transpose t x a perm=1,0; MatMul fc w,a y": nodes with their attributes behind the outputs; the last makes y. */
static void add_nodes(maker *m, const char *nodes) {
    char *copy = strdup(nodes), *save;
    for (char *node = strtok_r(copy, ";", &save); node; node = strtok_r(NULL, ";", &save)) {
        char op[32], name[32], in[64], out[32], attrs[64] = "";
        assert_true(sscanf(node, " %31s %31s %63s %31s %63[^;]", op, name, in, out, attrs) >= 4);
        maker_node(m, op, name, in, out, *attrs ? attrs : NULL);
    }
    free(copy);
}

/* "first", "moved", or what is said against it. x is (batch, 6), w and v are (6, 6). */
static const char *find(const char *nodes, int64_t batch) {
    static maker m;
    static char text[sizeof(((ckpt_error *)0)->message)];
    ckpt_error err;
    ckpt_model model;
    const ckpt_model_options options = {.batch = batch, .loss = CKPT_LOSS_MSE};
    maker_start(&m, 17);
    maker_input(&m, "x", 2, (int64_t[]){-1, FEATURES});
    maker_weight(&m, "w", 2, (int64_t[]){FEATURES, FEATURES});
    maker_weight(&m, "v", 2, (int64_t[]){FEATURES, FEATURES});
    maker_weight(&m, "bias", 1, (int64_t[]){FEATURES});
    maker_weight(&m, "column", 2, (int64_t[]){FEATURES, 1});
    maker_weight(&m, "kernel", 3, (int64_t[]){1, 1, 3});
    maker_weight(&m, "stack", 3, (int64_t[]){2, FEATURES, FEATURES});
    maker_ints(&m, "zero", 1, (int64_t[]){0});
    maker_ints(&m, "one", 1, (int64_t[]){1});
    maker_ints(&m, "two", 1, (int64_t[]){2});
    maker_ints(&m, "twice", 3, (int64_t[]){1, 2, 1});
    maker_ints(&m, "cube", 3, (int64_t[]){-1, 2, 3});
    maker_ints(&m, "column_of_six", 2, (int64_t[]){FEATURES, 1});
    add_nodes(&m, nodes);
    maker_output(&m, "y");
    if (ckpt_model_load(maker_write(&m, "samples.onnx"), &options, &model, &err) != CKPT_OK) {
        snprintf(text, sizeof text, "%s", err.message);
        return text;
    }
    snprintf(text, sizeof text, "%s", model.losses[0].question.moved ? "moved" : "first");
    ckpt_model_free(&model);
    return text;
}

static void expect(const char *nodes, const char *answer) {
    for (int64_t batch = 2; batch <= 12; batch++) { /* 2, 3, 6 and 12 are among the other sizes, or multiples of them */
        const char *found = find(nodes, batch);
        if (!strstr(found, answer)) fail_msg("%s: batch %d: '%s' instead of '%s'", nodes, (int)batch, found, answer);
    }
}

static void test_first_axes_are_found(void **state) {
    (void)state;
    static const char *const networks[] = {
        "MatMul fc x,w y",
        "Gemm fc x,w,bias y transB=1",
        /* the right operand has them */
        "Transpose t x a perm=1,0; MatMul fc w,a b; Transpose u b y perm=1,0",
        "Transpose t x a perm=1,0; MatMul fc w,a b; Relu relu b c; Transpose u c d perm=1,0; MatMul head d,v y",
        "Transpose t x a perm=1,0; MatMul fc w,a b; Add bias b,column c; Transpose u c y perm=1,0",
        "Gemm fc w,x b transB=1; Transpose u b y perm=1,0",
        "Gemm fc w,x b transA=1 transB=1; Transpose u b y perm=1,0",
        "Gemm fc w,x b transB=1; Gemm head b,v y transA=1",
        "Transpose t x a perm=1,0; Gemm fc a,w y transA=1 transB=1",
        "Transpose t x a perm=1,0; MatMul fc stack,a b; Transpose u b y perm=2,0,1",
        /* either, or both */
        "MatMul fc x,w a; Transpose t a b perm=1,0; MatMul alike a,b s; Softmax soft s p axis=1; MatMul mix p,a y",
        "MatMul fc x,w a; ReduceMean mean a m axes=0, keepdims=1; Add shift m,a y",
        "MatMul fc x,w a; ReduceMean mean a m axes=0, keepdims=1; Div scale m,a y",
        "MatMul fc x,w a; Sigmoid s a b; Mul gate b,a y",
        "MatMul fc x,w a; Less less a,bias c; Where pick c,bias,a y",
        "MatMul fc x,w a; Less less a,bias c; Where pick c,a,bias y",
        /* along other axes, something is done */
        "MatMul fc x,w a; Unsqueeze u a,one b; Conv conv b,kernel c; MaxPool pool c d kernel_shape=2,; AveragePool mean d y kernel_shape=2,",
        "MatMul fc x,w a; Reshape r a,cube b; Transpose t b c perm=1,0,2; ReduceSum sum c,zero y keepdims=0",
        "MatMul fc x,w a; Reshape r a,cube b; ReduceMax most b c axes=1, keepdims=0; Softmax soft c y axis=0",
        "MatMul fc x,w a; Gather pick a,two y axis=1",
        "MatMul fc x,w a; Unsqueeze u a,one b; Expand e b,twice c; ReduceSum sum c,one y keepdims=0",
        "MatMul fc x,w a; Concat both a,x b axis=1; Slice half b,zero,two,one y",
        "MatMul fc x,w a; Concat both x,a b axis=1; Concat more b,a y axis=1",
        /* of a batch beside another, a half */
        "MatMul fc x,w a; Concat both a,x b axis=0; Split halves b p,q axis=0; Add pair p,q y",
    };
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) expect(networks[i], "first");
}

static void test_other_axes_are_moved(void **state) {
    (void)state;
    static const char *const networks[] = {
        "MatMul fc x,w a; Transpose t a y perm=1,0",
        "Transpose t x a perm=1,0; MatMul fc w,a y",
        "Transpose t x a perm=1,0; MatMul fc stack,a y",
        "Gemm fc w,x y transB=1",
        "Gemm fc w,x a transB=1; Add bias a,column b; Relu relu b y",
        "MatMul fc x,w a; Reshape r a,cube b; Transpose t b y perm=1,0,2",
        "MatMul fc x,w a; Reshape r a,cube b; Transpose t b c perm=1,0,2; Concat both c,c y axis=0",
    };
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) expect(networks[i], "moved");
}

/* Of one sample all axes of size 1 look alike; where the samples of larger batches lie decides. */
static void test_one_sample_lies_where_more_do(void **state) {
    (void)state;
    static const struct { const char *nodes, *answer; } networks[] = {
        {"MatMul fc x,w y", "first"},
        {"MatMul fc x,w a; Transpose t a y perm=1,0", "moved"},
        {"Transpose t x a perm=1,0; MatMul fc w,a y", "moved"},
        {"Transpose t x a perm=1,0; MatMul fc stack,a y", "moved"},
        {"MatMul fc x,w a; Unsqueeze u a,two y", "first"},
        {"MatMul fc x,w a; Reshape r a,cube b; Transpose t b y perm=1,0,2", "moved"},
        {"MatMul fc x,w a; Reshape r a,cube y", "first"},
    };
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
        const char *found = find(networks[i].nodes, 1);
        if (strcmp(found, networks[i].answer) != 0)
            fail_msg("%s: '%s' instead of '%s'", networks[i].nodes, found, networks[i].answer);
    }
}

static void test_what_counts_none_is_refused(void **state) {
    (void)state;
    static const char *const networks[] = {
        "MatMul fc x,w a; ReduceMean mean a y axes=0, keepdims=0",
        "MatMul fc x,w a; ReduceMax most a y axes=0, keepdims=0",
        "MatMul fc x,w a; ReduceMean mean a m axes=0, keepdims=1; Reshape r m,column_of_six y",
        "MatMul fc x,w a; ReduceMean mean a m axes=0, keepdims=1; Transpose t m c perm=1,0; MatMul head v,c y",
        "MatMul fc x,w a; Transpose t a b perm=1,0; MatMul alike b,a y",
    };
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) expect(networks[i], "does not count the samples");
}

/* Every operand of every node has them: as many ways back as there are paths are not walked one by one. */
static void test_many_ways_back_take_no_time(void **state) {
    (void)state;
    char nodes[4096] = "MatMul fc x,w a0";
    for (int i = 0; i < 40; i++) {
        char node[64];
        snprintf(node, sizeof node, "; Mul m%d a%d,a%d %s", i, i, i, i == 39 ? "y" : "");
        if (i < 39) snprintf(node + strlen(node), 16, "a%d", i + 1);
        strcat(nodes, node);
    }
    expect(nodes, "first");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_axes_are_found),
        cmocka_unit_test(test_other_axes_are_moved),
        cmocka_unit_test(test_one_sample_lies_where_more_do),
        cmocka_unit_test(test_what_counts_none_is_refused),
        cmocka_unit_test(test_many_ways_back_take_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
