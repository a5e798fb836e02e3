/* Which nodes read more than one sample at once: each kind of them is found, with the batch wherever views and transposes
 * have put it, and what keeps samples apart is not taken for one. */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/batch_axis.h"
#include "graph/op.h"
#include "model_maker.h"

/* "MatMul fc x,w h; Softmax soft h y axis=1": nodes with their attributes behind the outputs; the last makes y. */
static void add_nodes(maker *m, const char *nodes) {
    char *copy = strdup(nodes), *save;
    for (char *node = strtok_r(copy, ";", &save); node; node = strtok_r(NULL, ";", &save)) {
        char op[32], name[32], in[64], out[32], attrs[64] = "";
        assert_true(sscanf(node, " %31s %31s %63s %31s %63[^;]", op, name, in, out, attrs) >= 4);
        maker_node(m, op, name, in, out, *attrs ? attrs : NULL);
    }
    free(copy);
}

/* Names of the nodes found, separated by blanks; x and, where nodes read them, labels t are (batch, 3, 4), flat (batch, 12). */
static void find(const char *nodes, int64_t batch, char found[256]) {
    static maker m;
    ckpt_error err;
    ckpt_model model;
    const ckpt_model_options options = {.batch = batch, .loss = CKPT_LOSS_MSE, .loss_auto = strstr(nodes, ",t ") != NULL};
    maker_start(&m, 17);
    maker_input(&m, "x", 3, (int64_t[]){-1, 3, 4});
    if (options.loss_auto) maker_input(&m, "t", 3, (int64_t[]){-1, 3, 4});
    maker_weight(&m, "w", 2, (int64_t[]){4, 4});
    maker_weight(&m, "w12", 2, (int64_t[]){12, 5});
    maker_weight(&m, "square", 2, (int64_t[]){12, 12});
    maker_weight(&m, "four", 1, (int64_t[]){4});
    maker_weight(&m, "three", 1, (int64_t[]){3});
    maker_weight(&m, "mean", 1, (int64_t[]){3});
    maker_weight(&m, "variance", 1, (int64_t[]){3});
    maker_number(&m, "half", 0.5f);
    maker_ints(&m, "flat", 2, (int64_t[]){-1, 12});
    maker_ints(&m, "rows", 2, (int64_t[]){-1, 4});
    maker_ints(&m, "one_row", 2, (int64_t[]){1, -1});
    maker_ints(&m, "back", 3, (int64_t[]){-1, 3, 4});
    maker_ints(&m, "turned", 3, (int64_t[]){4, 3, -1});
    maker_ints(&m, "zero", 1, (int64_t[]){0});
    maker_ints(&m, "first", 1, (int64_t[]){1});
    maker_ints(&m, "last", 1, (int64_t[]){-1});
    maker_ints(&m, "far", 1, (int64_t[]){1000});
    maker_ints(&m, "near", 1, (int64_t[]){-1000});
    add_nodes(&m, nodes);
    maker_output(&m, "y");
    MUST(ckpt_model_load(maker_write(&m, "batch_axis.onnx"), &options, &model, &err), &err);
    bool *across = calloc((size_t)model.graph.node_count, sizeof *across);
    MUST(ckpt_batch_find_across(&model.graph, across, &err), &err);
    *found = 0;
    for (int n = 0; n < model.graph.node_count; n++) {
        if (!across[n]) continue;
        char name[64];
        assert_int_equal(sscanf(model.graph.node[n].origin, "node '%63[^']'", name), 1);
        if (strstr(found, name)) continue;
        strcat(strcat(found, *found ? " " : ""), name);
    }
    free(across);
    ckpt_model_free(&model);
}

static void expect(const char *nodes, const char *names) {
    for (int64_t batch = 2; batch <= 12; batch += batch == 5 ? 7 : 1) { /* those among them that other sizes equal */
        char found[256];
        find(nodes, batch, found);
        if (strcmp(found, names) != 0) fail_msg("%s: batch %d: '%s' instead of '%s'", nodes, (int)batch, found, names);
    }
}

static void test_samples_are_kept_apart(void **state) {
    (void)state;
    static const char *const networks[] = {
        "MatMul fc x,w h; Add bias h,four s; Relu relu s y",
        "MatMul fc x,w h; Softmax soft h y axis=2",
        "MatMul fc x,w h; Softmax soft h y axis=1",
        "MatMul fc x,w h; LayerNormalization norm h,four,four y",
        "MatMul fc x,w h; Reshape flat h,flat f; MatMul head f,w12 y",
        "MatMul fc x,w h; Reshape rows h,rows r; MatMul again r,w q; Softmax soft q s axis=1; Reshape back s,back y",
        "MatMul fc x,w h; Transpose t h a perm=1,0,2; MatMul in_the_middle a,w b; Softmax soft b c axis=0; Transpose u c y perm=1,0,2",
        "MatMul fc x,w h; Transpose t h a perm=2,1,0; ReduceSum sum a,first b keepdims=0; Transpose u b y perm=1,0",
        "MatMul fc x,w h; Transpose t h k perm=0,2,1; MatMul scores h,k s; Softmax soft s p axis=2; MatMul mix p,h y",
        "MatMul fc x,w h; ReduceMean mean h m axes=1, keepdims=1; Sub centre h,m y",
        "MatMul fc x,w h; Concat both h,h c axis=1; Slice half c,zero,first,first y",
        "MatMul fc x,w h; Slice back h,last,near,first,last y",
        "MatMul fc x,w h; Transpose t h a perm=1,2,0; Concat both a,a c axis=0; Transpose u c y perm=2,0,1",
        "MatMul fc x,w h; Mul square h,h s; ReduceMean mean s y axes=1,2 keepdims=0",
        "MatMul fc x,w h; InstanceNormalization norm h,three,three y",
        /* the right operand of a product has them */
        "MatMul fc x,w h; Reshape flat h,flat f; Transpose t f g perm=1,0; MatMul right square,g p; Transpose u p y perm=1,0",
        "MatMul fc x,w h; Reshape flat h,flat f; Gemm right square,f p transB=1; Relu relu p q; Transpose u q y perm=1,0",
        "MatMul fc x,w h; Reshape flat h,flat f; Gemm right square,f p transA=1 transB=1; Gemm back p,w12 y transA=1",
    };
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) expect(networks[i], "");
}

/* A sum over the samples is no mixing where it is what a loss of the file is made of. */
static void test_losses_of_the_file_are_sums(void **state) {
    (void)state;
    static const struct { const char *nodes, *names; } networks[] = {
        {"MatMul fc x,w h; Sub error h,t e; Mul square e,e s; ReduceMean mean s y keepdims=0", ""},
        {"MatMul fc x,w h; Sub error h,t e; Mul square e,e s; ReduceSum sum s m keepdims=0; Mul half m,half y", ""},
        {"MatMul fc x,w h; Sub error h,t e; Mul square e,e s; ReduceMean mean s m axes=0, keepdims=0; ReduceSum sum m n keepdims=0; "
         "Neg turned n y", ""},
        {"MatMul fc x,w h; Sub error h,t e; Mul square e,e s; ReduceMean mean s m keepdims=0; Mul weights w,w p; "
         "ReduceSum penalty p q keepdims=0; Add both m,q y", ""},
        {"MatMul fc x,w h; Sub error h,t e; ReduceMean centre e c axes=0, keepdims=1; Sub rest e,c d; Mul square d,d s; "
         "ReduceMean mean s y keepdims=0", "centre"},
    };
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) expect(networks[i].nodes, networks[i].names);
}

static void test_samples_that_are_mixed_are_found(void **state) {
    (void)state;
    static const struct { const char *nodes, *names; } networks[] = {
        {"MatMul fc x,w h; ReduceMean mean h m axes=0, keepdims=1; Sub centre h,m y", "mean"},
        {"MatMul fc x,w h; ReduceMax most h m axes=0, keepdims=1; Sub centre h,m y", "most"},
        {"MatMul fc x,w h; Softmax soft h y axis=0", "soft"},
        {"MatMul fc x,w h; Reshape flat h,flat f; Transpose t f g perm=1,0; Softmax soft g s axis=1; Transpose u s y perm=1,0", "soft"},
        {"MatMul fc x,w h; Reshape one h,one_row f; Softmax soft f s axis=1; Reshape back s,back y", "soft"},
        {"MatMul fc x,w h; Reshape flat h,flat f; Transpose t f g perm=1,0; MatMul alike f,g a; MatMul mix a,f y", "alike mix"},
        {"MatMul fc x,w h; Transpose t h a perm=1,0,2; LayerNormalization norm a,four,four b; ReduceMean mean b c axes=1, keepdims=1; "
         "Add every b,c d; Transpose u d y perm=1,0,2", "mean"},
        {"MatMul fc x,w h; BatchNormalization bn h,three,three,mean,variance y training_mode=1", "bn"},
        {"MatMul fc x,w h; Transpose t h a perm=1,0,2; Transpose u a b perm=1,0,2; BatchNormalization bn b,three,three,mean,variance y "
         "training_mode=1", "bn"},
        {"MatMul fc x,w h; Concat twice h,h c axis=0; Slice half c,zero,far,zero y", "twice"},
        {"MatMul fc x,w h; Slice others h,last,near,zero,last r; Add pair h,r y", "others"},
        {"MatMul fc x,w h; Reshape flat h,flat f; Unsqueeze a f,zero a; Unsqueeze b f,first b; Sub between a,b d; Abs abs d e; "
         "ReduceSum sum e,zero y keepdims=0", "between"},
        {"MatMul fc x,w h; Transpose t h a perm=2,1,0; Reshape one a,one_row o; Softmax soft o s axis=1; Reshape back s,turned b; "
         "Transpose u b y perm=2,1,0", "soft"},
    };
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) expect(networks[i].nodes, networks[i].names);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples_are_kept_apart),
        cmocka_unit_test(test_samples_that_are_mixed_are_found),
        cmocka_unit_test(test_losses_of_the_file_are_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
