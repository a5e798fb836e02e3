/* The CUDA backend's rarer operators on the host device of tests/fake_cuda: normalizations by channels, slices, pairs,
 * losses of the file. Every bit is the CPU backend's; and no operator of the CPU is without a kernel. */
#include "cuda_rig.h"

#include <stdio.h>

#include "graph/op.h"

static void test_no_operator_is_the_cpus_alone(void **state) {
    (void)state;
    int without = 0;
    for (int op = 0; op < CKPT_OP_COUNT; op++) {
        if (ckpt_cpu_supports((ckpt_op)op) && !ckpt_cuda_supports((ckpt_op)op))
            fail_msg("%s has a kernel on the CPU and none on CUDA", ckpt_op_info((ckpt_op)op)->name);
        without += !ckpt_cuda_supports((ckpt_op)op);
    }
    assert_true(without > 0); /* the tables do say what is missing */
}

static void batch_case(ckpt_op op, int64_t rows, int64_t channels, int64_t inner, bool over) {
    rig_case c;
    char what[128];
    const int64_t dims[3] = {rows, channels, inner}, stats[2] = {4, channels};
    const bool dx = op == CKPT_OP_BATCHNORM_DX, dp = op == CKPT_OP_BATCHNORM_DP, plain = op == CKPT_OP_BATCHNORM;
    rig_open(&c, op);
    c.node.attr.group.batch = rows;
    c.node.attr.group.channels = channels;
    c.node.attr.group.groups = 1;
    c.node.attr.group.inner = inner;
    c.node.attr.group.epsilon = 1e-5f;
    c.node.attr.group.momentum = 0.9f;
    if (dx || dp) rig_add_in(&c, CKPT_F32, 3, dims, 2);
    if (plain || dx || dp || op == CKPT_OP_BATCH_STATS) rig_add_in(&c, CKPT_F32, 3, dims, 3);
    if (plain || dx) rig_add_in(&c, CKPT_F32, 1, &channels, 1);
    if (plain) rig_add_in(&c, CKPT_F32, 1, &channels, 1);
    if (plain || dx || dp || op == CKPT_OP_STATS_UPDATE) rig_add_in(&c, CKPT_F32, 2, stats, 1);
    for (int i = 0; i < 2 && (op == CKPT_OP_STATS_UPDATE || op == CKPT_OP_STORED_STATS); i++) {
        const int t = rig_add_in(&c, CKPT_F32, 1, &channels, 1);
        for (int64_t k = 0; k < channels; k++) { /* variances */
            float *v = &((float *)c.value[t])[k];
            *v = *v < 0 ? -*v : *v;
        }
    }
    if (op == CKPT_OP_BATCH_STATS || op == CKPT_OP_STORED_STATS) rig_add_out(&c, CKPT_F32, 2, stats);
    for (int i = 0; i < 2 && (dp || op == CKPT_OP_STATS_UPDATE); i++) rig_add_out(&c, CKPT_F32, 1, &channels);
    if (plain || dx) rig_add_out(&c, CKPT_F32, 3, dims);
    if (over) c.over = 0;
    snprintf(what, sizeof what, "%s %d x %d x %d", ckpt_op_info(op)->name, (int)rows, (int)channels, (int)inner);
    rig_compare(&c, what);
    rig_close(&c);
}

static void test_batch_normalization(void **state) {
    (void)state;
    const struct { int64_t rows, channels, inner; } shapes[] = {
        {9, 5, 1}, {200, 67, 1}, {70, 64, 1}, {3, 1030, 1}, {5000, 3, 1}, {7, 6, 5}, {130, 3, 8}, {1, 3, 1}, {0, 3, 1}};
    const ckpt_op ops[] = {CKPT_OP_BATCH_STATS, CKPT_OP_STORED_STATS, CKPT_OP_STATS_UPDATE, CKPT_OP_BATCHNORM, CKPT_OP_BATCHNORM_DX,
                           CKPT_OP_BATCHNORM_DP};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int o = 0; o < 6; o++) {
            batch_case(ops[o], shapes[s].rows, shapes[s].channels, shapes[s].inner, false);
            if (ops[o] == CKPT_OP_BATCHNORM || ops[o] == CKPT_OP_BATCHNORM_DX)
                batch_case(ops[o], shapes[s].rows, shapes[s].channels, shapes[s].inner, true);
        }
}

static void group_case(ckpt_op op, int64_t batch, int64_t channels, int64_t groups, int64_t inner, bool by_group, bool over) {
    rig_case c;
    char what[128];
    const int64_t dims[3] = {batch, channels, inner}, vector = by_group ? groups : channels;
    rig_open(&c, op);
    c.node.attr.group.batch = batch;
    c.node.attr.group.channels = channels;
    c.node.attr.group.groups = groups;
    c.node.attr.group.inner = inner;
    c.node.attr.group.epsilon = 1e-5f;
    rig_add_in(&c, CKPT_F32, 3, dims, 3);
    if (op != CKPT_OP_GROUPNORM) rig_add_in(&c, CKPT_F32, 3, dims, 2);
    if (op != CKPT_OP_GROUPNORM_DP) rig_add_in(&c, CKPT_F32, 1, &vector, 1);
    if (op == CKPT_OP_GROUPNORM) rig_add_in(&c, CKPT_F32, 1, &vector, 1);
    for (int i = 0; i < 2 && op == CKPT_OP_GROUPNORM_DP; i++) rig_add_out(&c, CKPT_F32, 1, &vector);
    if (op != CKPT_OP_GROUPNORM_DP) rig_add_out(&c, CKPT_F32, 3, dims);
    if (over) c.over = 0;
    snprintf(what, sizeof what, "%s %d x %d x %d, %d groups", ckpt_op_info(op)->name, (int)batch, (int)channels, (int)inner, (int)groups);
    rig_compare(&c, what);
    rig_close(&c);
}

static void test_group_normalization(void **state) {
    (void)state;
    const struct { int64_t batch, channels, groups, inner; } shapes[] = {
        {9, 12, 4, 1}, {70, 80, 2, 1}, {1100, 6, 3, 1}, {3, 64, 1, 1}, {5, 12, 3, 7}, {130, 4, 2, 16}};
    const ckpt_op ops[] = {CKPT_OP_GROUPNORM, CKPT_OP_GROUPNORM_DX, CKPT_OP_GROUPNORM_DP};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int o = 0; o < 3; o++)
            for (int by_group = 0; by_group < 2; by_group++) {
                group_case(ops[o], shapes[s].batch, shapes[s].channels, shapes[s].groups, shapes[s].inner, by_group, false);
                if (o < 2) group_case(ops[o], shapes[s].batch, shapes[s].channels, shapes[s].groups, shapes[s].inner, by_group, true);
            }
}

static void test_pairs(void **state) {
    (void)state;
    const struct { int rank; int64_t dim[3], a[3], b[3]; } shapes[] = {
        {1, {5003}, {1}, {1}},          {2, {9, 64}, {64, 1}, {0, 1}}, {2, {9, 67}, {0, 1}, {67, 1}},
        {2, {9, 64}, {64, 1}, {1, 0}},  {1, {77}, {0}, {1}},           {3, {4, 5, 6}, {30, 6, 1}, {6, 0, 1}},
        {0, {0}, {0}, {0}},
    };
    const ckpt_dtype types[] = {CKPT_F32, CKPT_F64, CKPT_I32, CKPT_I64};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int form = 0; form < 6; form++) /* four types, then the gradients of a and of b */
            for (int kind = 0; kind < 3; kind++) {
                rig_case c;
                char what[64];
                int64_t a = 1, b = 1;
                rig_open(&c, form < 4 ? CKPT_OP_PAIR : CKPT_OP_PAIR_GRAD);
                const ckpt_dtype type = types[form < 4 ? form : 0];
                ckpt_binary_attr *g = &c.node.attr.pair.geometry;
                c.node.attr.pair.kind = (ckpt_pair)kind;
                c.node.attr.pair.second = form == 5;
                g->rank = shapes[s].rank;
                for (int i = 0; i < g->rank; i++) {
                    g->dim[i] = shapes[s].dim[i], g->stride_a[i] = shapes[s].a[i], g->stride_b[i] = shapes[s].b[i];
                    a += (g->dim[i] - 1) * g->stride_a[i], b += (g->dim[i] - 1) * g->stride_b[i];
                }
                if (form >= 4) rig_add_in(&c, CKPT_F32, g->rank, g->dim, 3);
                rig_add_in(&c, type, 1, &a, 9);
                rig_add_in(&c, type, 1, &b, 5);
                rig_add_out(&c, type, g->rank, g->dim);
                snprintf(what, sizeof what, "Pair %d, form %d, shape %d", kind, form, (int)s);
                rig_compare(&c, what);
                if (form >= 4) c.over = 0;
                rig_compare(&c, what);
                rig_close(&c);
            }
}

/* op: SLICE, or PLACE; sum: PLACE adds to a second input. */
static void slice_case(ckpt_op op, const ckpt_slice_attr *slice, ckpt_dtype type, bool sum, bool over) {
    rig_case c;
    char what[64];
    rig_open(&c, op);
    c.node.attr.slice = *slice;
    rig_add_in(&c, type, slice->rank, op == CKPT_OP_SLICE ? slice->whole : slice->part, 9);
    if (sum) rig_add_in(&c, type, slice->rank, slice->whole, 9);
    rig_add_out(&c, type, slice->rank, op == CKPT_OP_SLICE ? slice->part : slice->whole);
    if (over) c.over = 1;
    snprintf(what, sizeof what, "%s of rank %d, type %d, sum %d", ckpt_op_info(op)->name, slice->rank, (int)type, sum);
    rig_compare(&c, what);
    rig_close(&c);
}

static void test_slices(void **state) {
    (void)state;
    const ckpt_slice_attr slices[] = {
        {.rank = 2, .whole = {9, 64}, .part = {9, 32}, .start = {0, 16}, .step = {1, 1}},
        {.rank = 2, .whole = {9, 65}, .part = {4, 31}, .start = {3, 2}, .step = {1, 1}},
        {.rank = 3, .whole = {4, 10, 8}, .part = {4, 3, 8}, .start = {0, 5, 0}, .step = {1, 1, 1}},
        {.rank = 3, .whole = {5, 10, 12}, .part = {2, 3, 4}, .start = {4, 9, 11}, .step = {-2, -3, -1}},
        {.rank = 1, .whole = {1000}, .part = {333}, .start = {1}, .step = {3}},
        {.rank = 0},
        {.rank = 2, .whole = {300, 96}, .part = {300, 36}, .start = {0, 12}, .step = {1, 1}},
    };
    const ckpt_dtype types[] = {CKPT_F32, CKPT_F64, CKPT_BOOL, CKPT_F16};
    for (size_t s = 0; s < sizeof slices / sizeof *slices; s++) {
        ckpt_slice_attr filled = slices[s];
        for (int type = 0; type < 4; type++) {
            slice_case(CKPT_OP_SLICE, &slices[s], types[type], false, false);
            slice_case(CKPT_OP_PLACE, &slices[s], types[type], false, false);
        }
        filled.value = 1.5f;
        slice_case(CKPT_OP_PLACE, &filled, CKPT_F32, false, false);
        slice_case(CKPT_OP_PLACE, &slices[s], CKPT_F32, true, false);
        slice_case(CKPT_OP_PLACE, &slices[s], CKPT_F32, true, true);
    }
}

static void test_concats(void **state) {
    (void)state;
    const struct { int64_t outer, inner, share[4]; } shapes[] = {
        {9, 1, {4, 8, 12, 16}}, {9, 1, {3, 1, 0, 6}}, {1, 5, {3, 2, 1, 2000}}, {300, 2, {16, 2, 2, 6}}, {0, 3, {1, 2, 3, 4}}};
    const ckpt_dtype types[] = {CKPT_F32, CKPT_I64, CKPT_BOOL, CKPT_F16};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int type = 0; type < 4; type++) {
            rig_case c;
            int64_t axis = 0;
            rig_open(&c, CKPT_OP_CONCAT);
            for (int i = 0; i < 4; i++) {
                const int64_t dims[3] = {shapes[s].outer, shapes[s].share[i], shapes[s].inner};
                rig_add_in(&c, types[type], 3, dims, 9);
                axis += shapes[s].share[i];
            }
            const int64_t dims[3] = {shapes[s].outer, axis, shapes[s].inner};
            c.node.attr.axis.outer = shapes[s].outer;
            c.node.attr.axis.axis = axis;
            c.node.attr.axis.inner = shapes[s].inner;
            rig_add_out(&c, types[type], 3, dims);
            rig_compare(&c, "Concat");
            rig_close(&c);
        }
}

static void test_class_losses(void **state) {
    (void)state;
    const struct { int64_t outer, classes, inner; } shapes[] = {{33, 10, 1}, {5, 3, 7}, {3000, 5, 1}, {1, 1, 1}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int form = 0; form < 4; form++) {
            rig_case c;
            const bool gradient = form & 1, weighted = form & 2;
            const int64_t classes = shapes[s].classes, inner = shapes[s].inner;
            const int64_t x[3] = {shapes[s].outer, classes, inner}, small[2] = {shapes[s].outer, inner};
            rig_open(&c, gradient ? CKPT_OP_CLASS_LOSS_GRAD : CKPT_OP_CLASS_LOSS);
            c.node.attr.class_loss.outer = shapes[s].outer;
            c.node.attr.class_loss.classes = classes;
            c.node.attr.class_loss.inner = inner;
            c.node.attr.class_loss.ignore = 1;
            rig_add_in(&c, CKPT_F32, gradient ? 2 : 3, gradient ? small : x, 3);
            const int t = rig_add_in(&c, CKPT_I32, 2, small, 3);
            for (int64_t i = 0; i < small[0] * small[1]; i++) ((int32_t *)c.value[t])[i] = (int32_t)(i % (classes + 2)) - 1;
            if (weighted) rig_add_in(&c, CKPT_F32, 1, &classes, 2);
            rig_add_out(&c, CKPT_F32, gradient ? 3 : 2, gradient ? x : small);
            if (!gradient) rig_add_out(&c, CKPT_F32, 2, small);
            rig_compare(&c, ckpt_op_info(c.node.op)->name);
            rig_close(&c);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_operator_is_the_cpus_alone), cmocka_unit_test(test_batch_normalization),
        cmocka_unit_test(test_group_normalization),           cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_slices),                        cmocka_unit_test(test_concats),
        cmocka_unit_test(test_class_losses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
