/* What the host device of tests/fake_cuda shows of the CUDA backend beyond the suites over whole steps: every bit of
 * the pointwise and row operators is the CPU backend's, a replayed step is the step, nothing is asked of the driver
 * that the plan does not count, nothing is left behind, failures are told. */
#include "cuda_rig.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef CKPT_HAVE_CURAND
#include <library_types.h> /* the fake runtime does not bring it */
#include <curand.h>
#endif

#include "graph/op.h"
#include "runtime/act_math.h"
#include "runtime/train.h"

static void act_case(ckpt_op op, int act, float drop, int64_t count, int64_t first_sample, bool over) {
    rig_case c;
    char what[128];
    rig_open(&c, op);
    c.graph.batch = count; /* a sample is one element: first_sample shifts the masks by elements */
    c.scalars.first_sample = first_sample;
    c.node.attr.act = (ckpt_epilogue){.act = (ckpt_act)act, .alpha = 0.7f, .beta = 0.3f, .drop = drop, .stream = 5};
    if (op != CKPT_OP_KEEP_MASK) rig_add_in(&c, CKPT_F32, 1, &count, 6);
    if (op == CKPT_OP_ACT_GRAD) rig_add_in(&c, CKPT_F32, 1, &count, 3);
    rig_add_out(&c, op == CKPT_OP_KEEP_MASK ? CKPT_BOOL : CKPT_F32, 1, &count);
    if (over) c.over = 0;
    snprintf(what, sizeof what, "%s %s, drop %g, %d elements from %d", ckpt_op_info(op)->name, ckpt_act_name((ckpt_act)act),
             (double)drop, (int)count, (int)first_sample);
    rig_compare(&c, what);
    rig_close(&c);
}

static void test_acts(void **state) {
    (void)state;
    const int64_t counts[] = {1, 3, 1021, 1024, 4097, 20000};
    for (int act = 0; act < CKPT_ACT_COUNT; act++)
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            act_case(CKPT_OP_ACT, act, 0, counts[i], 0, false);
            act_case(CKPT_OP_ACT, act, 0.25f, counts[i], (int64_t)i, true);
            act_case(CKPT_OP_ACT_GRAD, act, 0, counts[i], 0, true);
            act_case(CKPT_OP_ACT_GRAD, act, 0.25f, counts[i], (int64_t)i, false);
        }
}

static void test_masks(void **state) {
    (void)state;
    const int64_t first[] = {0, 1, 2, 3, 5, ((int64_t)1 << 34) - 40, ((int64_t)1 << 34) + 7};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        act_case(CKPT_OP_KEEP_MASK, CKPT_ACT_IDENTITY, 0.3f, 1, first[i], false);
        act_case(CKPT_OP_KEEP_MASK, CKPT_ACT_IDENTITY, 0.3f, 5003, first[i], false);
    }
    act_case(CKPT_OP_KEEP_MASK, CKPT_ACT_IDENTITY, 0, 100, 0, false);
}

/* cuRAND's host generator at the offset of stream 0 of step 0: its legacy order deals out one block of four words of
 * each of 65536 sequences in turn, and a sequence is what curand_init calls a subsequence, here a stream. So the
 * first word of every fourth is the first element's of streams 0, 1, 2, ... */
static void test_masks_are_curands(void **state) {
    (void)state;
#ifdef CKPT_HAVE_CURAND
    enum { STREAMS = 1024, N = 4 * STREAMS };
    static uint32_t words[N];
    curandGenerator_t generator;
    if (curandCreateGeneratorHost(&generator, CURAND_RNG_PSEUDO_PHILOX4_32_10) != CURAND_STATUS_SUCCESS) skip();
    assert_int_equal(curandSetPseudoRandomGeneratorSeed(generator, 0x123456789abcdef), CURAND_STATUS_SUCCESS);
    assert_int_equal(curandSetGeneratorOrdering(generator, CURAND_ORDERING_PSEUDO_LEGACY), CURAND_STATUS_SUCCESS);
    assert_int_equal(curandGenerate(generator, words, N), CURAND_STATUS_SUCCESS);
    curandDestroyGenerator(generator);
    bool by_stream = true, by_element = true;
    for (int s = 0; s < STREAMS; s++) {
        const int64_t four = 4, all = N;
        rig_case c;
        for (int way = 0; way < 2; way++) {
            const int64_t count = way == 0 ? four : all;
            if (way == 1 && s > 0) continue;
            rig_open(&c, CKPT_OP_KEEP_MASK);
            c.scalars.step = 0;
            c.node.attr.act = (ckpt_epilogue){.drop = 0.5f, .stream = way == 0 ? (uint32_t)s : 0};
            const int mask = rig_add_out(&c, CKPT_BOOL, 1, &count);
            rig_run_on(&c, ckpt_backend_cuda(), 0, true);
            for (int64_t i = 0; i < count; i++) {
                const uint32_t word = words[way == 0 ? 4 * s + i : i];
                const bool same = ((uint8_t *)c.result[mask])[i] == (word >= 0x80000000u);
                if (way == 0) by_stream &= same;
                else by_element &= same;
            }
            rig_close(&c);
        }
    }
    assert_true(by_stream || by_element);
#else
    skip();
#endif
}

static void rows_case(ckpt_op op, int64_t rows, int64_t cols, int64_t inner, bool over) {
    rig_case c;
    char what[128];
    const int64_t dims[3] = {rows, cols, inner};
    rig_open(&c, op);
    c.node.attr.axis.outer = rows;
    c.node.attr.axis.axis = cols;
    c.node.attr.axis.inner = inner;
    rig_add_in(&c, CKPT_F32, 3, dims, 4);
    if (op == CKPT_OP_SOFTMAX_GRAD || op == CKPT_OP_LOGSOFTMAX_GRAD) rig_add_in(&c, CKPT_F32, 3, dims, 1);
    rig_add_out(&c, CKPT_F32, 3, dims);
    if (over) c.over = 0;
    snprintf(what, sizeof what, "%s %d x %d x %d", ckpt_op_info(op)->name, (int)rows, (int)cols, (int)inner);
    rig_compare(&c, what);
    rig_close(&c);
}

static void test_softmax(void **state) {
    (void)state;
    const ckpt_op ops[] = {CKPT_OP_SOFTMAX, CKPT_OP_LOGSOFTMAX, CKPT_OP_SOFTMAX_GRAD, CKPT_OP_LOGSOFTMAX_GRAD};
    for (int i = 0; i < 4; i++)
        for (int over = 0; over < 2; over++) {
            rows_case(ops[i], 19, 10, 1, over);
            rows_case(ops[i], 3, 1000, 1, over);
            rows_case(ops[i], 1, 1, 1, over);
            rows_case(ops[i], 5, 7, 33, over);
        }
}

static void norm_case(ckpt_op op, int64_t rows, int64_t cols, int vectors, bool over) {
    rig_case c;
    char what[128];
    const int64_t dims[2] = {rows, cols};
    const bool forward = op == CKPT_OP_LAYERNORM || op == CKPT_OP_RMSNORM, dp = op == CKPT_OP_LAYERNORM_DP || op == CKPT_OP_RMSNORM_DP;
    rig_open(&c, op);
    c.node.attr.norm.rows = rows;
    c.node.attr.norm.cols = cols;
    c.node.attr.norm.epsilon = 1e-5f;
    rig_add_in(&c, CKPT_F32, 2, dims, 3);
    if (!forward) rig_add_in(&c, CKPT_F32, 2, dims, 2);
    for (int i = 0; i < vectors; i++) {
        if (dp) rig_add_out(&c, CKPT_F32, 1, &cols);
        else rig_add_in(&c, CKPT_F32, 1, &cols, 1);
    }
    if (!dp) rig_add_out(&c, CKPT_F32, 2, dims);
    if (forward && vectors == 2) rig_add_out(&c, CKPT_F32, 1, &rows), rig_add_out(&c, CKPT_F32, 1, &rows);
    if (over) c.over = 0;
    snprintf(what, sizeof what, "%s %d x %d with %d vectors", ckpt_op_info(op)->name, (int)rows, (int)cols, vectors);
    rig_compare(&c, what);
    rig_close(&c);
}

static void test_norms(void **state) {
    (void)state;
    for (int over = 0; over < 2; over++)
        for (int vectors = 0; vectors <= 2; vectors++) {
            norm_case(CKPT_OP_LAYERNORM, 21, 67, vectors, over);
            norm_case(CKPT_OP_LAYERNORM, 2, 1024, vectors, over);
            if (vectors < 2) norm_case(CKPT_OP_LAYERNORM_DX, 21, 67, vectors, over);
        }
    for (int vectors = 1; vectors <= 2; vectors++) {
        norm_case(CKPT_OP_LAYERNORM_DP, 21, 67, vectors, false);
        norm_case(CKPT_OP_LAYERNORM_DP, 300, 5, vectors, false);
        norm_case(CKPT_OP_LAYERNORM_DP, 4500, 3, vectors, false); /* more rows than a slot holds */
    }
}

static void test_rms(void **state) {
    (void)state;
    for (int over = 0; over < 2; over++) {
        norm_case(CKPT_OP_RMSNORM, 21, 67, 1, over);
        norm_case(CKPT_OP_RMSNORM, 3, 1024, 0, over);
        norm_case(CKPT_OP_RMSNORM_DX, 21, 67, 1, over);
    }
    norm_case(CKPT_OP_RMSNORM_DP, 21, 67, 1, false);
    norm_case(CKPT_OP_RMSNORM_DP, 4500, 3, 1, false);
    norm_case(CKPT_OP_RMSNORM_DP, 70, 1100, 1, false);
}

static void reduce_case(ckpt_op op, int rank, const int64_t *dims, uint32_t keep) {
    rig_case c;
    char what[128];
    int64_t small[CKPT_MAX_RANK];
    int kept = 0;
    rig_open(&c, op);
    c.node.attr.reduce = (ckpt_reduce_attr){.rank = rank, .keep = keep, .alpha = -0.3f};
    for (int i = 0; i < rank; i++) {
        c.node.attr.reduce.dim[i] = dims[i];
        if (keep >> i & 1) small[kept++] = dims[i];
    }
    const bool sum = op == CKPT_OP_REDUCE_SUM;
    rig_add_in(&c, CKPT_F32, sum ? rank : kept, sum ? dims : small, 1);
    rig_add_out(&c, CKPT_F32, sum ? kept : rank, sum ? small : dims);
    snprintf(what, sizeof what, "%s of rank %d, keep %#x", ckpt_op_info(op)->name, rank, keep);
    rig_compare(&c, what);
    rig_close(&c);
}

static void test_reductions(void **state) {
    (void)state;
    const struct { int rank; int64_t dim[6]; uint32_t keep; } cases[] = {
        {2, {200, 37}, 2},      {2, {63, 300}, 2},         {2, {1, 5}, 2},        {2, {3000, 5}, 2},
        {2, {37, 5000}, 1},     {1, {70001}, 0}, {1, {3000001}, 0},           {1, {3}, 0},           {1, {7}, 1},
        {3, {5, 130, 33}, 5},   {3, {5, 6, 7}, 2},         {4, {3, 4, 5, 6}, 5},  {4, {3, 4, 5, 6}, 10},
        {5, {2, 3, 4, 5, 3}, 10}, {6, {2, 3, 2, 5, 3, 2}, 21}, {3, {4, 1, 9}, 1}, {4, {3, 70, 1, 5}, 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        reduce_case(CKPT_OP_REDUCE_SUM, cases[i].rank, cases[i].dim, cases[i].keep);
        reduce_case(CKPT_OP_EXPAND, cases[i].rank, cases[i].dim, cases[i].keep);
    }
}

static void test_binary(void **state) {
    (void)state;
    const struct { int rank; int64_t dim[3], a[3], b[3]; } shapes[] = {
        {1, {5003}, {1}, {1}},          {2, {9, 64}, {64, 1}, {0, 1}}, {2, {9, 67}, {0, 1}, {67, 1}},
        {2, {9, 64}, {64, 1}, {1, 0}},  {1, {77}, {0}, {1}},           {3, {4, 5, 6}, {30, 6, 1}, {6, 0, 1}},
        {0, {0}, {0}, {0}},
    };
    const ckpt_dtype types[] = {CKPT_F32, CKPT_F64, CKPT_I32, CKPT_I64};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int type = 0; type < 4; type++)
            for (int kind = 0; kind < 4; kind++) {
                rig_case c;
                char what[64];
                int64_t a = 1, b = 1;
                rig_open(&c, CKPT_OP_BINARY);
                ckpt_binary_attr *g = &c.node.attr.binary;
                g->kind = (ckpt_binary)kind;
                g->rank = shapes[s].rank;
                for (int i = 0; i < g->rank; i++) {
                    g->dim[i] = shapes[s].dim[i], g->stride_a[i] = shapes[s].a[i], g->stride_b[i] = shapes[s].b[i];
                    a += (g->dim[i] - 1) * g->stride_a[i], b += (g->dim[i] - 1) * g->stride_b[i];
                }
                rig_add_in(&c, types[type], 1, &a, 9);
                rig_add_in(&c, types[type], 1, &b, 9);
                rig_add_out(&c, types[type], g->rank, g->dim);
                snprintf(what, sizeof what, "Binary %d of type %d, shape %d", kind, type, (int)s);
                rig_compare(&c, what);
                rig_close(&c);
            }
}

static void test_casts(void **state) {
    (void)state;
    const int64_t count = 3001;
    for (int from = 0; from < 7; from++)
        for (int to = 0; to < 7; to++) {
            rig_case c;
            char what[64];
            rig_open(&c, CKPT_OP_CAST);
            const int x = rig_add_in(&c, (ckpt_dtype)from, 1, &count, 70000);
            if (from == CKPT_F32) {
                const float special[] = {NAN, INFINITY, -INFINITY, -0.0f, 3e9f, -3e9f, 65520, 1e-41f, 6e-8f};
                memcpy(c.value[x], special, sizeof special);
            }
            rig_add_out(&c, (ckpt_dtype)to, 1, &count);
            snprintf(what, sizeof what, "Cast %d to %d", from, to);
            rig_compare(&c, what);
            rig_close(&c);
        }
}

static void test_transposes(void **state) {
    (void)state;
    const struct { int rank; int64_t dim[4]; int perm[4]; } shapes[] = {
        {2, {37, 70}, {1, 0}},          {3, {3, 33, 40}, {0, 2, 1}}, {3, {4, 5, 6}, {2, 1, 0}}, {3, {4, 5, 6}, {1, 0, 2}},
        {4, {2, 3, 34, 5}, {3, 1, 0, 2}}, {4, {2, 1, 34, 5}, {2, 1, 3, 0}}, {1, {9}, {0}},
        {3, {4, 5, 64}, {1, 0, 2}},     {4, {2, 3, 5, 24}, {0, 2, 1, 3}},
    };
    const ckpt_dtype types[] = {CKPT_F32, CKPT_F64, CKPT_BOOL, CKPT_F16};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int type = 0; type < 4; type++) {
            rig_case c;
            char what[64];
            int64_t dims[4];
            rig_open(&c, CKPT_OP_TRANSPOSE);
            c.node.attr.transpose.rank = shapes[s].rank;
            for (int i = 0; i < shapes[s].rank; i++) {
                c.node.attr.transpose.dim[i] = shapes[s].dim[i];
                c.node.attr.transpose.perm[i] = shapes[s].perm[i];
                dims[i] = shapes[s].dim[shapes[s].perm[i]];
            }
            rig_add_in(&c, types[type], shapes[s].rank, shapes[s].dim, 1);
            rig_add_out(&c, types[type], shapes[s].rank, dims);
            snprintf(what, sizeof what, "Transpose %d of type %d", (int)s, type);
            rig_compare(&c, what);
            rig_close(&c);
        }
}

static void loss_case(ckpt_op op, ckpt_loss kind, int64_t rows, int64_t cols, int64_t valid) {
    rig_case c;
    char what[64];
    const int64_t dims[2] = {rows, cols}, two = 2;
    const bool classes = kind == CKPT_LOSS_CE || kind == CKPT_LOSS_NLL;
    rig_open(&c, op);
    c.node.attr.loss.kind = kind;
    c.node.attr.loss.outer = c.graph.batch = rows;
    c.node.attr.loss.classes = classes ? cols : 1;
    c.node.attr.loss.inner = classes ? 1 : cols;
    c.node.attr.loss.scale = 1;
    c.scalars.valid_samples = valid;
    c.scalars.denominator[0] = (double)((valid + 7) * (classes ? 1 : cols));
    rig_add_in(&c, CKPT_F32, 2, dims, 5);
    const int t = rig_add_in(&c, classes ? CKPT_I32 : CKPT_F32, classes ? 1 : 2, dims, classes ? (float)cols : 1);
    for (int64_t i = 0; classes && i < rows; i++)
        if (i % 2 == 0 || i >= valid) ((int32_t *)c.value[t])[i] = i < valid ? (int32_t)(i % cols) : -1;
    if (op == CKPT_OP_LOSS) {
        const int result = rig_add_out(&c, CKPT_F64, 1, &two);
        ((double *)c.value[result])[0] = 0.5;
    } else {
        rig_add_out(&c, CKPT_F32, 2, dims);
    }
    snprintf(what, sizeof what, "%s %d, %d x %d", ckpt_op_info(op)->name, (int)kind, (int)rows, (int)cols);
    rig_compare(&c, what);
    if (op == CKPT_OP_LOSS_GRAD) {
        c.over = 0;
        rig_compare(&c, what);
    }
    rig_close(&c);
}

static void test_losses(void **state) {
    (void)state;
    const ckpt_loss kinds[] = {CKPT_LOSS_CE, CKPT_LOSS_BCE, CKPT_LOSS_MSE, CKPT_LOSS_NLL};
    const ckpt_op ops[] = {CKPT_OP_LOSS, CKPT_OP_LOSS_GRAD};
    for (int k = 0; k < 4; k++)
        for (int o = 0; o < 2; o++) {
            loss_case(ops[o], kinds[k], 33, 10, 33);
            loss_case(ops[o], kinds[k], 33, 10, 20);
            loss_case(ops[o], kinds[k], 3, 1, 0);
            loss_case(ops[o], kinds[k], 2100, 17, 2099);
            if (o == 0) loss_case(ops[o], kinds[k], 1500, 1000, 1499); /* several blocks of values a part */
        }
}

/* Classes on any axis, with weights, smoothing and soft targets; some rows do not count. */
static void mixed_loss_case(ckpt_op op, ckpt_loss kind, const int64_t dims[3], bool soft, float smoothing, bool weighted, double all) {
    rig_case c;
    char what[96];
    const int64_t two = 2, row[2] = {dims[0], dims[2]};
    rig_open(&c, op);
    c.node.attr.loss.kind = kind;
    c.node.attr.loss.outer = c.graph.batch = dims[0];
    c.node.attr.loss.classes = dims[1];
    c.node.attr.loss.inner = dims[2];
    c.node.attr.loss.soft = soft;
    c.node.attr.loss.smoothing = smoothing;
    c.node.attr.loss.scale = 0.75f;
    c.node.attr.loss.term = 2;
    c.scalars.valid_samples = dims[0] - 1;
    c.scalars.denominator[2] = all;
    rig_add_in(&c, CKPT_F32, 3, dims, 5);
    const int t = soft ? rig_add_in(&c, CKPT_F32, 3, dims, 1) : rig_add_in(&c, CKPT_I32, 2, row, (float)dims[1]);
    for (int64_t i = 0; !soft && i < row[0] * row[1]; i++) ((int32_t *)c.value[t])[i] = i % 5 == 3 ? -1 : (int32_t)(i * 7 % dims[1]);
    if (weighted) rig_add_in(&c, CKPT_F32, 1, &dims[1], 2);
    if (op == CKPT_OP_LOSS) rig_add_out(&c, CKPT_F64, 1, &two);
    else rig_add_out(&c, CKPT_F32, 3, dims);
    if (op == CKPT_OP_LOSS) memset(c.value[c.node.out[0]], 0, 2 * sizeof(double));
    snprintf(what, sizeof what, "%s %d, %d x %d x %d, soft %d, smoothing %g, weights %d", ckpt_op_info(op)->name, (int)kind, (int)dims[0],
             (int)dims[1], (int)dims[2], soft, (double)smoothing, weighted);
    rig_compare(&c, what);
    if (op == CKPT_OP_LOSS_GRAD) {
        c.over = 0;
        rig_compare(&c, what);
    }
    rig_close(&c);
}

static void test_mixed_losses(void **state) {
    (void)state;
    const int64_t dims[][3] = {{33, 10, 1}, {5, 300, 1}, {9, 7, 21}, {3, 2, 700}, {700, 3, 2}, {2, 1, 5}};
    const ckpt_op ops[] = {CKPT_OP_LOSS, CKPT_OP_LOSS_GRAD};
    for (size_t s = 0; s < sizeof dims / sizeof *dims; s++)
        for (int o = 0; o < 2; o++)
            for (int weighted = 0; weighted < 2; weighted++) {
                mixed_loss_case(ops[o], CKPT_LOSS_CE, dims[s], false, 0, weighted, 17.5);
                mixed_loss_case(ops[o], CKPT_LOSS_CE, dims[s], false, 0.1f, weighted, 17.5);
                mixed_loss_case(ops[o], CKPT_LOSS_CE, dims[s], true, 0, weighted, 17.5);
                mixed_loss_case(ops[o], CKPT_LOSS_CE, dims[s], true, 0.1f, weighted, 17.5);
                mixed_loss_case(ops[o], CKPT_LOSS_NLL, dims[s], false, 0, weighted, 17.5);
                mixed_loss_case(ops[o], CKPT_LOSS_CE, dims[s], false, 0, weighted, 0); /* nothing counts */
            }
}

/* A loss that the file computed: a mean by its share of the batch's samples, and a sum. */
static void test_losses_of_a_file(void **state) {
    (void)state;
    const ckpt_op ops[] = {CKPT_OP_LOSS, CKPT_OP_LOSS_GRAD};
    const int64_t one = 1, two = 2;
    for (int o = 0; o < 2; o++)
        for (int sum = 0; sum < 2; sum++) {
            rig_case c;
            rig_open(&c, ops[o]);
            c.node.attr.loss.kind = CKPT_LOSS_FILE;
            c.node.attr.loss.outer = c.graph.batch = 4;
            c.node.attr.loss.classes = c.node.attr.loss.inner = 1;
            c.node.attr.loss.scale = 0.5f;
            c.node.attr.loss.sum = sum;
            c.scalars.valid_samples = 4;
            c.scalars.denominator[0] = 12;
            rig_add_in(&c, CKPT_F32, 1, &one, 5);
            const int out = o ? rig_add_out(&c, CKPT_F32, 1, &one) : rig_add_out(&c, CKPT_F64, 1, &two);
            if (!o) ((double *)c.value[out])[0] = 0.25, ((double *)c.value[out])[1] = 0;
            rig_compare(&c, "a file's loss");
            if (o) assert_true(((const float *)c.result[out])[0] == (sum ? 0.5f : (float)(0.5 * 4 / 12)));
            rig_close(&c);
        }
}

static void test_updates(void **state) {
    (void)state;
    const ckpt_op ops[] = {CKPT_OP_SGD, CKPT_OP_MOMENTUM, CKPT_OP_NESTEROV, CKPT_OP_ADAGRAD, CKPT_OP_ADAM, CKPT_OP_ADAMW};
    const int64_t count = 5003;
    for (int o = 0; o < 6; o++) {
        rig_case c;
        const int states = o == 0 ? 0 : o < 4 ? 1 : 2;
        rig_open(&c, ops[o]);
        c.node.attr.update.beta1 = 0.9f, c.node.attr.update.beta2 = 0.999f, c.node.attr.update.epsilon = 1e-8f;
        c.node.attr.update.weight_decay = 0.01f, c.node.attr.update.momentum = 0.9f;
        for (int i = 0; i < 2 + states; i++) rig_add_in(&c, CKPT_F32, 1, &count, 1);
        for (int64_t i = 0; o > 2 && i < count; i++) { /* sums of squares */
            float *v = &((float *)c.value[c.node.in[1 + states]])[i];
            *v = *v < 0 ? -*v : *v;
        }
        for (int i = 0; i < 1 + states; i++) rig_add_out(&c, CKPT_F32, 1, &count);
        rig_compare(&c, ckpt_op_info(ops[o])->name);
        c.over = 0;
        rig_compare(&c, ckpt_op_info(ops[o])->name);
        rig_close(&c);
    }
}

/* Whole steps */

typedef struct trained {
    char hash[65];
    fake_cuda_counts before, after;
    uint64_t planned, measured;
} trained;

typedef struct manner {
    bool no_graph, no_fusion, bf16;
} manner;

static void train(const char *name, ckpt_strategy strategy, manner how, trained *t) {
    char path[512];
    ckpt_error err;
    ckpt_model model;
    const ckpt_model_options options = {.batch = 9, .loss_auto = true};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_ADAMW, .bf16 = how.bf16, .bf16_kernels = true};
    const ckpt_plan_options plan = {.strategy = strategy};
    const ckpt_exec_options exec = {.backend = ckpt_backend_cuda(), .preserve_rng = true,
                                    .device = {.poison = true, .no_graph = how.no_graph, .no_fusion = how.no_fusion,
                                               .precision = how.bf16 ? CKPT_PRECISION_BF16 : CKPT_PRECISION_FP32}};
    snprintf(path, sizeof path, CKPT_SOURCE_DIR "/%s.onnx", name);
    MUST(ckpt_model_load(path, &options, &model, &err), &err);
    ckpt_training_defaults(&training);
    ckpt_graph evaluation;
    MUST(ckpt_training_graphs_make(&model.graph, &training, &evaluation, &err), &err);
    ckpt_graph_free(&evaluation);
    step_runner runner = {.graph = &model.graph};
    MUST(ckpt_plan_make(&model.graph, &plan, exec.backend->traits, NULL, &runner.plan, &err), &err);
    fake_cuda_count(&t->before);
    MUST(ckpt_exec_open(&exec, runner.graph, runner.plan, NULL, NULL, &runner.exec, &err), &err);
    runner_load_weights(&runner, &model);
    for (uint32_t step = 0; step < 6; step++) {
        uint32_t seed = step + 1;
        for (int i = 0; i <= model.graph.input_count; i++) {
            const int tensor = i < model.graph.input_count ? model.graph.input[i] : model.graph.target[0];
            double *values = calloc((size_t)model.graph.tensor[tensor].count, sizeof *values);
            for (int64_t k = 0; k < model.graph.tensor[tensor].count; k++) {
                seed = seed * 1664525u + 1013904223u;
                values[k] = model.graph.tensor[tensor].dtype == CKPT_I32 ? (double)(seed >> 28) / 2 : (double)seed / 2147483648.0 - 1;
            }
            runner_set_f64(&runner, tensor, values);
            free(values);
        }
        runner_step(&runner, step, 1e-2f / (float)(step + 1)); /* a rate that changes must reach a replayed step */
    }
    int *ids = calloc((size_t)model.graph.tensor_count, sizeof *ids);
    const int count = ckpt_model_parameters(&model, ids);
    MUST(ckpt_train_hash(runner.exec, runner.graph, ids, count, t->hash, &err), &err);
    free(ids);
    fake_cuda_count(&t->after);
    t->planned = runner.plan->memory.total;
    t->measured = ckpt_exec_measured_peak(runner.exec);
    runner_close(&runner);
    ckpt_model_free(&model);
}

static void test_replayed_steps_train_the_same_weights(void **state) {
    (void)state;
    const char *const models[] = {"models/mlp_checkpointed", "models/mlp_prenorm_gelu"};
    const ckpt_strategy strategies[] = {CKPT_STRATEGY_NONE, CKPT_STRATEGY_SQRT, CKPT_STRATEGY_MIN};
    for (int m = 0; m < 2; m++) {
        trained first;
        train(models[m], CKPT_STRATEGY_NONE, (manner){.no_graph = true, .no_fusion = true}, &first);
        assert_int_equal(first.after.graph_launches, first.before.graph_launches);
        for (int s = 0; s < 3; s++) {
            trained t;
            train(models[m], strategies[s], (manner){0}, &t);
            assert_int_equal(t.after.graph_launches, t.before.graph_launches + 5); /* the first step ran directly */
            assert_string_equal(t.hash, first.hash);
        }
    }
}

/* The plan's word on what dies reaches the kernels: BatchNormalization and ReLU, or casts and what stands between them, are
 * one launch, and train the same weights. */
static void test_joined_steps_train_the_same_weights(void **state) {
    (void)state;
    const char *const models[] = {"tests/golden/training/batchnorm_sgd/model", "models/mlp_prenorm_gelu"};
    const ckpt_strategy strategies[] = {CKPT_STRATEGY_NONE, CKPT_STRATEGY_SQRT, CKPT_STRATEGY_MIN};
    for (int m = 0; m < 2; m++)
        for (int s = 0; s < 3; s++)
            for (int no_graph = 0; no_graph < 2; no_graph++) {
                trained alone, joined;
                train(models[m], strategies[s], (manner){.no_graph = no_graph, .no_fusion = true, .bf16 = m > 0}, &alone);
                train(models[m], strategies[s], (manner){.no_graph = no_graph, .bf16 = m > 0}, &joined);
                assert_string_equal(joined.hash, alone.hash);
                assert_int_equal(joined.measured, joined.planned);
                const int apart = alone.after.launches - alone.before.launches, together = joined.after.launches - joined.before.launches;
                print_message("%s, strategy %d: %d launches instead of %d\n", models[m], (int)strategies[s], together, apart);
                assert_true(together < apart);
            }
}

static void test_the_driver_is_asked_for_what_is_planned(void **state) {
    (void)state;
    trained t;
    fake_cuda_counts after;
    train("models/mlp_hourglass", CKPT_STRATEGY_SQRT, (manner){0}, &t);
    assert_int_equal(t.before.requested_bytes, 0);
    assert_int_equal(t.after.requested_bytes, t.planned);
    assert_int_equal(t.after.allocations, t.before.allocations + 1);
    assert_int_equal(t.measured, t.planned);
    fake_cuda_count(&after); /* and gets everything back */
    assert_int_equal(after.allocations, 0);
    assert_int_equal(after.requested_bytes, 0);
    assert_int_equal(after.streams, 0);
    assert_int_equal(after.graphs, 0);
    assert_int_equal(after.descriptors, 0);
}

static void test_failures(void **state) {
    (void)state;
    const ckpt_backend *cuda = ckpt_backend_cuda();
    ckpt_device_options options = {.index = 0};
    ckpt_device *device;
    ckpt_error err;
    void *memory;
    fake_cuda_set_driver(cudaErrorInsufficientDriver);
    assert_int_equal(cuda->open(&options, &device, &err), CKPT_FAILED);
    assert_null(device);
    assert_non_null(strstr(err.message, "no usable NVIDIA driver"));
    fake_cuda_set_driver(cudaSuccess);
    options.index = 1;
    assert_int_equal(cuda->open(&options, &device, &err), CKPT_USAGE);
    assert_non_null(strstr(err.message, "no CUDA device 1"));
    options.index = 0;
    MUST(cuda->open(&options, &device, &err), &err);
    fake_cuda_set_memory(1000);
    assert_int_equal(cuda->allocate(device, 1001, &memory, &err), CKPT_NOMEM);
    assert_non_null(strstr(err.message, "1001"));
    assert_int_equal(cuda->allocate(device, 1000, &memory, &err), CKPT_OK);
    assert_int_equal(cuda->peak_bytes(device), 1000);
    fake_cuda_set_memory((size_t)64 << 30);
    cuda->release(device, memory);
    assert_int_equal(cuda->peak_bytes(device), 1000);
    cuda->close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_acts),
        cmocka_unit_test(test_masks),
        cmocka_unit_test(test_masks_are_curands),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_rms),
        cmocka_unit_test(test_reductions),
        cmocka_unit_test(test_binary),
        cmocka_unit_test(test_casts),
        cmocka_unit_test(test_transposes),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_mixed_losses),
        cmocka_unit_test(test_losses_of_a_file),
        cmocka_unit_test(test_updates),
        cmocka_unit_test(test_replayed_steps_train_the_same_weights),
        cmocka_unit_test(test_joined_steps_train_the_same_weights),
        cmocka_unit_test(test_the_driver_is_asked_for_what_is_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
