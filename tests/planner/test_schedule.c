/* Schedules from what is kept, and lifetimes from schedules, on graphs small enough to know the answer. */
#include "cmocka_all.h"

#include <string.h>

#include "graph/op.h"
#include "plan_graphs.h"
#include "planner/core/liveness.h"
#include "planner/core/schedule.h"

static ckpt_error err;

static int tensor(ckpt_graph *g, const char *name, ckpt_role role, int64_t count) {
    const int t = ckpt_graph_add_tensor(g, name, CKPT_F32, role, 1, &count, &err);
    assert_true(t >= 0);
    return t;
}

static int node(ckpt_graph *g, ckpt_op op, ckpt_phase phase, int a, int b, int out) {
    const int in[2] = {a, b};
    const int n = ckpt_graph_add_node(g, op, phase, NULL, b < 0 ? 1 : 2, in, 1, &out, &err);
    assert_true(n >= 0);
    if (phase == CKPT_FORWARD) g->forward_count = n + 1;
    return n;
}

static void expect_nodes(const ckpt_schedule *s, int count, const int *nodes) {
    assert_int_equal(s->count, count);
    assert_memory_equal(s->node, nodes, (size_t)count * sizeof *nodes);
}

/* x -> a -> b -> c forward; backward reads c, b, a. Nothing kept: all is made again, once. */
static void a_chain_is_made_again_from_its_input(void **state) {
    (void)state;
    ckpt_graph g = {0};
    int x = tensor(&g, "x", CKPT_ROLE_INPUT, 64), t[4] = {x};
    for (int i = 1; i <= 3; i++) {
        t[i] = tensor(&g, "t", CKPT_ROLE_STEP, 64);
        node(&g, CKPT_OP_ACT, CKPT_FORWARD, t[i - 1], -1, t[i]);
    }
    int grad = tensor(&g, "g", CKPT_ROLE_STEP, 64);
    node(&g, CKPT_OP_LOSS_GRAD, CKPT_BACKWARD, x, -1, grad);
    for (int i = 3; i >= 1; i--) {
        const int next = tensor(&g, "g", CKPT_ROLE_STEP, 64);
        node(&g, CKPT_OP_ACT_GRAD, CKPT_BACKWARD, grad, t[i], next);
        grad = next;
    }
    ckpt_pool pool = {0};
    ckpt_schedule s;
    bool *kept = ckpt_pool_array(&pool, g.tensor_count, bool);
    assert_int_equal(ckpt_schedule_from_kept(&g, kept, &pool, &s, &err), CKPT_OK);
    expect_nodes(&s, 10, (int[]){0, 1, 2, 3, 0, 1, 2, 4, 5, 6});
    kept[t[3]] = true; /* a kept checkpoint: its layer is not made again */
    assert_int_equal(ckpt_schedule_from_kept(&g, kept, &pool, &s, &err), CKPT_OK);
    expect_nodes(&s, 9, (int[]){0, 1, 2, 3, 4, 0, 1, 5, 6});
    kept[t[3]] = false;
    kept[t[2]] = true;
    assert_int_equal(ckpt_schedule_from_kept(&g, kept, &pool, &s, &err), CKPT_OK);
    expect_nodes(&s, 9, (int[]){0, 1, 2, 3, 2, 4, 5, 0, 6});
    for (int i = 1; i <= 3; i++) kept[t[i]] = true;
    assert_int_equal(ckpt_schedule_from_kept(&g, kept, &pool, &s, &err), CKPT_OK);
    expect_nodes(&s, 7, (int[]){0, 1, 2, 3, 4, 5, 6});
    ckpt_pool_free(&pool);
    ckpt_graph_free(&g);
}

/* The loss adds to a result: whatever reads what only an effect makes, it never runs again. */
static void effects_never_run_again(void **state) {
    (void)state;
    for (int kind = 0; kind < PLAN_GRAPH_KINDS; kind++) {
        ckpt_graph g;
        plan_graph_make(&(plan_graph_options){.kind = kind, .layers = 10, .width = 32, .batch = 4}, &g, NULL);
        ckpt_pool pool = {0};
        ckpt_schedule s;
        const bool *kept = ckpt_pool_array(&pool, g.tensor_count, bool);
        int *runs = ckpt_pool_array(&pool, g.node_count, int);
        assert_int_equal(ckpt_schedule_from_kept(&g, kept, &pool, &s, &err), CKPT_OK);
        for (int i = 0; i < s.count; i++) runs[s.node[i]]++;
        for (int n = 0; n < g.node_count; n++) {
            const bool once = g.node[n].phase != CKPT_FORWARD || ckpt_node_has_effect(&g, n);
            assert_true(once ? runs[n] == 1 : runs[n] == 1 || runs[n] == 2);
        }
        ckpt_pool_free(&pool);
        ckpt_graph_free(&g);
    }
}

/* Thousands of layers: no deep recursion, and far from quadratic time. */
static void long_chains_are_no_trouble(void **state) {
    (void)state;
    enum { LONG = 50000 };
    ckpt_graph g = {0};
    int t = tensor(&g, "x", CKPT_ROLE_INPUT, 1);
    for (int i = 0; i < LONG; i++) {
        const int next = tensor(&g, "t", CKPT_ROLE_STEP, 1);
        node(&g, CKPT_OP_ACT, CKPT_FORWARD, t, -1, next);
        t = next;
    }
    int grad = tensor(&g, "g", CKPT_ROLE_STEP, 1);
    node(&g, CKPT_OP_LOSS_GRAD, CKPT_BACKWARD, t, -1, grad);
    for (int i = LONG - 1; i >= 0; i--) {
        const int next = tensor(&g, "g", CKPT_ROLE_STEP, 1);
        node(&g, CKPT_OP_ACT_GRAD, CKPT_BACKWARD, grad, g.node[i].out[0], next);
        grad = next;
    }
    ckpt_pool pool = {0};
    ckpt_schedule s;
    ckpt_liveness live;
    const bool *kept = ckpt_pool_array(&pool, g.tensor_count, bool);
    assert_int_equal(ckpt_schedule_from_kept(&g, kept, &pool, &s, &err), CKPT_OK);
    assert_int_equal(s.count, 3 * LONG + 1);
    assert_int_equal(ckpt_liveness_find(&g, &s, 256, &pool, &live, &err), CKPT_OK);
    assert_int_equal(live.peak_bytes, 256ull * (LONG + 1));
    ckpt_pool_free(&pool);
    ckpt_graph_free(&g);
}

static ckpt_liveness liveness_of(const ckpt_graph *g, int count, const int *nodes, ckpt_pool *pool) {
    ckpt_schedule s = {0};
    ckpt_liveness live;
    for (int i = 0; i < count; i++) assert_int_equal(ckpt_schedule_append(pool, &s, nodes[i], &err), CKPT_OK);
    assert_int_equal(ckpt_liveness_find(g, &s, 256, pool, &live, &err), CKPT_OK);
    return live;
}

/* x -> a, a -> b (in place), a read again or not; b unread still lives for its own step. */
static void lifetimes_and_reuse(void **state) {
    (void)state;
    ckpt_graph g = {0};
    const int x = tensor(&g, "x", CKPT_ROLE_INPUT, 64), a = tensor(&g, "a", CKPT_ROLE_STEP, 64);
    const int b = tensor(&g, "b", CKPT_ROLE_STEP, 64), c = tensor(&g, "c", CKPT_ROLE_STEP, 65);
    node(&g, CKPT_OP_ACT, CKPT_FORWARD, x, -1, a);
    node(&g, CKPT_OP_ACT, CKPT_FORWARD, a, -1, b);
    node(&g, CKPT_OP_TRANSPOSE, CKPT_FORWARD, a, -1, c);
    ckpt_pool pool = {0};

    ckpt_liveness live = liveness_of(&g, 2, (int[]){0, 1}, &pool);
    assert_int_equal(live.instance_count, 2);
    assert_int_equal(live.instance[0].end, 2);
    assert_int_equal(live.instance[1].reuses, 0);
    assert_int_equal(live.instance[1].first, 1);
    assert_int_equal(live.instance[1].end, 2);
    assert_int_equal(live.peak_bytes, 256);

    live = liveness_of(&g, 3, (int[]){0, 1, 2}, &pool); /* a does not die where b is made */
    assert_int_equal(live.instance[1].reuses, -1);
    assert_int_equal(live.live_bytes[1], 512);
    assert_int_equal(live.live_bytes[2], 256 + 512); /* a, and c of 260 bytes */
    assert_int_equal(live.peak_step, 2);

    live = liveness_of(&g, 4, (int[]){0, 2, 0, 1}, &pool); /* a made twice: two instances */
    assert_int_equal(live.instance_count, 4);
    assert_int_equal(live.step[3].in[0], 2);
    assert_true(live.step[2].recompute && !live.step[0].recompute);
    assert_int_equal(live.instance[0].end, 2);
    assert_int_equal(live.instance[1].reuses, -1); /* Transpose never works in place */
    assert_int_equal(live.instance[3].reuses, 2);
    ckpt_pool_free(&pool);
    ckpt_graph_free(&g);
}

static void reuse_needs_a_dying_input_read_in_no_other_way(void **state) {
    (void)state;
    ckpt_graph g = {0};
    const int x = tensor(&g, "x", CKPT_ROLE_INPUT, 64), a = tensor(&g, "a", CKPT_ROLE_STEP, 64);
    const int b = tensor(&g, "b", CKPT_ROLE_STEP, 64), c = tensor(&g, "c", CKPT_ROLE_STEP, 64);
    const int d = tensor(&g, "d", CKPT_ROLE_STEP, 64), big = tensor(&g, "big", CKPT_ROLE_STEP, 128);
    node(&g, CKPT_OP_ACT, CKPT_FORWARD, x, -1, a);
    node(&g, CKPT_OP_ACT, CKPT_FORWARD, x, -1, b);
    node(&g, CKPT_OP_BINARY, CKPT_FORWARD, a, a, c);        /* both inputs permitted: fine */
    node(&g, CKPT_OP_SOFTMAX_GRAD, CKPT_BACKWARD, a, a, d); /* the second input is not */
    node(&g, CKPT_OP_BINARY, CKPT_FORWARD, a, b, c);
    node(&g, CKPT_OP_BINARY, CKPT_FORWARD, a, b, big); /* broadcasting: other sizes */
    ckpt_pool pool = {0};
    assert_int_equal(liveness_of(&g, 2, (int[]){0, 2}, &pool).instance[1].reuses, 0);
    assert_int_equal(liveness_of(&g, 2, (int[]){0, 3}, &pool).instance[1].reuses, -1);
    assert_int_equal(liveness_of(&g, 3, (int[]){0, 1, 4}, &pool).instance[2].reuses, 0);
    assert_int_equal(liveness_of(&g, 4, (int[]){0, 1, 4, 0}, &pool).instance[2].reuses, 0);
    assert_int_equal(liveness_of(&g, 4, (int[]){0, 1, 4, 2}, &pool).instance[2].reuses,
                     1); /* a lives on, b dies */
    assert_int_equal(liveness_of(&g, 3, (int[]){0, 1, 5}, &pool).instance[2].reuses, -1);
    ckpt_pool_free(&pool);
    ckpt_graph_free(&g);
}

static void reading_what_was_never_made_fails(void **state) {
    (void)state;
    ckpt_graph g;
    plan_graph_make(&(plan_graph_options){.kind = PLAN_GRAPH_MLP, .layers = 4, .width = 32, .batch = 4}, &g,
                    NULL);
    ckpt_pool pool = {0};
    ckpt_schedule s = {0};
    ckpt_liveness live;
    assert_int_equal(ckpt_schedule_append(&pool, &s, 1, &err), CKPT_OK);
    assert_int_equal(ckpt_liveness_find(&g, &s, 256, &pool, &live, &err), CKPT_FAILED);
    assert_non_null(strstr(err.message, "step 0 (fc1)"));
    ckpt_pool_free(&pool);
    ckpt_graph_free(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_is_made_again_from_its_input),
        cmocka_unit_test(effects_never_run_again),
        cmocka_unit_test(long_chains_are_no_trouble),
        cmocka_unit_test(lifetimes_and_reuse),
        cmocka_unit_test(reuse_needs_a_dying_input_read_in_no_other_way),
        cmocka_unit_test(reading_what_was_never_made_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
