#include "random_graphs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "chain_oracle.h"
#include "planner/core/liveness.h"
#include "planner/core/problem.h"

static ckpt_random_chain g_random; /* for its generator */
static ckpt_error g_err;

void graphs_seed(uint64_t seed) {
    g_random.state = seed;
}

int graphs_between(int low, int high) {
    return (int)ckpt_random_between(&g_random, (uint64_t)low, (uint64_t)high);
}

void graphs_linear(ckpt_graph *g, ckpt_act act, int64_t out, ckpt_view *x) {
    int64_t dims[2] = {x->dim[1], out};
    int w = ckpt_graph_add_tensor(g, "w", CKPT_F32, CKPT_ROLE_PARAM, 2, dims, &g_err);
    int b = ckpt_graph_add_tensor(g, "b", CKPT_F32, CKPT_ROLE_PARAM, 1, &out, &g_err);
    ckpt_view weight = ckpt_view_of(g, w), y;
    ckpt_linear_attr attr = {.alpha = 1, .beta = 1, .epilogue = {.act = act}};
    char name[32];
    snprintf(name, sizeof name, "linear%d", g->node_count);
    assert_int_equal(ckpt_build_linear(g, name, x, &weight, b, &attr, &y, &g_err), CKPT_OK);
    *x = y;
}

void graphs_gelu(ckpt_graph *g, ckpt_view *x) {
    ckpt_epilogue epilogue = {.act = CKPT_ACT_GELU};
    ckpt_view y;
    char name[32];
    snprintf(name, sizeof name, "gelu%d", g->node_count);
    assert_int_equal(ckpt_build_act(g, name, &epilogue, x, &y, &g_err), CKPT_OK);
    *x = y;
}

void graphs_residual(ckpt_graph *g, int64_t inner, bool normed, ckpt_view *x) {
    ckpt_view h = *x, y;
    char name[32];
    if (normed) {
        int scale = ckpt_graph_add_tensor(g, "scale", CKPT_F32, CKPT_ROLE_PARAM, 1, &x->dim[1], &g_err);
        snprintf(name, sizeof name, "norm%d", g->node_count);
        assert_int_equal(ckpt_build_layernorm(g, name, x, scale, -1, 1, 1e-5f, &h, NULL, &g_err), CKPT_OK);
    }
    graphs_linear(g, normed ? CKPT_ACT_IDENTITY : CKPT_ACT_RELU, inner, &h);
    if (normed) graphs_gelu(g, &h);
    graphs_linear(g, CKPT_ACT_IDENTITY, x->dim[1], &h);
    snprintf(name, sizeof name, "add%d", g->node_count);
    assert_int_equal(ckpt_build_binary(g, name, CKPT_BINARY_ADD, x, &h, &y, &g_err), CKPT_OK);
    *x = y;
}

ckpt_view graphs_input(ckpt_graph *g, int64_t batch, int64_t width) {
    *g = (ckpt_graph){.batch = batch, .result = -1};
    int64_t dims[2] = {batch, width};
    int x = ckpt_graph_add_tensor(g, "x", CKPT_F32, CKPT_ROLE_INPUT, 2, dims, &g_err);
    return ckpt_view_of(g, x);
}

void graphs_finish(ckpt_graph *g, const ckpt_view *x, ckpt_optimizer optimizer, bool accumulate) {
    const ckpt_loss_term term = ckpt_loss_term_of(CKPT_LOSS_CE, x);
    assert_int_equal(ckpt_loss_attach(g, &term, x, &g_err), CKPT_OK);
    ckpt_training_options training = {.optimizer = optimizer, .accumulate = accumulate};
    ckpt_training_defaults(&training);
    if (ckpt_autodiff_run(g, &training, &g_err) != CKPT_OK) fail_msg("%s", g_err.message);
}

static ckpt_pool costs_pool;
static ckpt_costs costs;
bool graphs_priced;

const ckpt_costs *graphs_costs(const ckpt_graph *g) {
    ckpt_pool_free(&costs_pool);
    costs_pool = (ckpt_pool){0};
    assert_int_equal(ckpt_costs_flops(g, &costs_pool, &costs, &g_err), CKPT_OK);
    if (!graphs_priced) return &costs;
    uint64_t *node = ckpt_pool_array(&costs_pool, g->node_count, uint64_t);
    for (int n = 0; n < g->node_count; n++) node[n] = 1 + (uint64_t)n * 2654435761u % 997;
    costs = (ckpt_costs){.unit = CKPT_COST_NS, .source = "test", .count = g->node_count, .node = node};
    return &costs;
}

uint64_t graphs_peak(const ckpt_graph *g, const ckpt_schedule *schedule, uint64_t *recomputed) {
    ckpt_pool pool = {0};
    ckpt_liveness live;
    if (ckpt_liveness_find(g, schedule, GRAPHS_ALIGNMENT, &pool, &live, &g_err) != CKPT_OK)
        fail_msg("%s", g_err.message);
    const ckpt_costs *price = graphs_costs(g);
    *recomputed = 0;
    int *runs = ckpt_pool_array(&pool, g->node_count, int);
    for (int i = 0; i < schedule->count; i++) {
        int n = schedule->node[i];
        if (runs[n]++) {
            *recomputed += price->node[n];
            assert_true(n < g->forward_count && ckpt_node_is_recomputable(g, n));
        }
    }
    for (int n = 0; n < g->node_count; n++) assert_true(runs[n] >= 1);
    uint64_t peak = live.peak_bytes;
    ckpt_pool_free(&pool);
    return peak;
}

void graphs_mlp(int i, ckpt_graph *g) {
    ckpt_view x = graphs_input(g, 16, graphs_between(1, 6));
    int layers = graphs_between(1, 4);
    for (int k = 0; k < layers && g->node_count < 5; k++) {
        bool separate = graphs_between(0, 2) == 0;
        graphs_linear(g, separate ? CKPT_ACT_IDENTITY : CKPT_ACT_RELU, 4 * graphs_between(1, 9), &x);
        if (separate) graphs_gelu(g, &x);
    }
    graphs_linear(g, CKPT_ACT_IDENTITY, graphs_between(2, 5), &x);
    graphs_finish(g, &x, i % 2 ? CKPT_OPTIMIZER_SGD : CKPT_OPTIMIZER_ADAM, i % 5 == 0);
}

void graphs_residual_mlp(int blocks, ckpt_graph *g) {
    ckpt_view x = graphs_input(g, 16, graphs_between(1, 6));
    graphs_linear(g, CKPT_ACT_IDENTITY, 4 * graphs_between(1, 4), &x);
    for (int k = 0; k < blocks; k++) graphs_residual(g, 4 * graphs_between(1, 9), false, &x);
    graphs_linear(g, CKPT_ACT_IDENTITY, graphs_between(2, 5), &x);
    graphs_finish(g, &x, CKPT_OPTIMIZER_SGD, false);
}

/* Series and parallel parts at random: a part is a linear node, two parts in a row, or the sum of two parts of one input (the
 * input itself among them). */
static void random_part(ckpt_graph *g, int nodes, ckpt_view *x) {
    const int kind = nodes <= 1 ? 0 : graphs_between(1, 3);
    if (kind == 0) {
        graphs_linear(g, graphs_between(0, 1) ? CKPT_ACT_RELU : CKPT_ACT_TANH, x->dim[1], x);
    } else if (kind == 1 || nodes < 3) {
        const int first = graphs_between(1, nodes - 1);
        random_part(g, first, x);
        random_part(g, nodes - first, x);
    } else {
        const int left = graphs_between(1, nodes - 1), right = nodes - 1 - left;
        ckpt_view a = *x, b = *x;
        char name[32];
        random_part(g, left, &a);
        if (right > 0) random_part(g, right, &b);
        snprintf(name, sizeof name, "sum%d", g->node_count);
        assert_int_equal(ckpt_build_binary(g, name, CKPT_BINARY_ADD, &a, &b, x, &g_err), CKPT_OK);
    }
}

void graphs_series_parallel(ckpt_graph *g) {
    ckpt_view x = graphs_input(g, 16, graphs_between(1, 6));
    graphs_linear(g, CKPT_ACT_RELU, 4 * graphs_between(1, 4), &x);
    random_part(g, graphs_between(3, 6), &x);
    graphs_linear(g, CKPT_ACT_IDENTITY, graphs_between(2, 5), &x);
    graphs_finish(g, &x, CKPT_OPTIMIZER_SGD, false);
}

void graphs_several_outputs(ckpt_graph *g) {
    ckpt_view x = graphs_input(g, 16, graphs_between(1, 6)), h, y, stats[2];
    graphs_linear(g, CKPT_ACT_RELU, 4 * graphs_between(1, 4), &x);
    int scale = ckpt_graph_add_tensor(g, "scale", CKPT_F32, CKPT_ROLE_PARAM, 1, &x.dim[1], &g_err);
    assert_int_equal(ckpt_build_layernorm(g, "norm", &x, scale, -1, 1, 1e-5f, &h, stats, &g_err), CKPT_OK);
    for (int k = graphs_between(0, 2); k > 0; k--) graphs_linear(g, CKPT_ACT_TANH, 4 * graphs_between(1, 4), &h);
    assert_int_equal(ckpt_build_binary(g, "add", CKPT_BINARY_ADD, &h, &stats[graphs_between(0, 1)], &y, &g_err), CKPT_OK);
    graphs_linear(g, CKPT_ACT_RELU, 4 * graphs_between(1, 4), &y);
    graphs_linear(g, CKPT_ACT_IDENTITY, graphs_between(2, 5), &y);
    graphs_finish(g, &y, CKPT_OPTIMIZER_SGD, false);
}

/* A linear node with a weight of its own, or one that another node of the same widths has. */
static void branching_linear(ckpt_graph *g, int64_t out, ckpt_view *x) {
    const int64_t dims[2] = {x->dim[1], out};
    int weight = -1;
    for (int t = 0; t < g->tensor_count && graphs_between(0, 1); t++)
        if (g->tensor[t].role == CKPT_ROLE_PARAM && g->tensor[t].rank == 2 && g->tensor[t].dim[0] == dims[0] &&
            g->tensor[t].dim[1] == out)
            weight = t;
    if (weight < 0) weight = ckpt_graph_add_tensor(g, "w", CKPT_F32, CKPT_ROLE_PARAM, 2, dims, &g_err);
    const int bias = graphs_between(0, 1) ? ckpt_graph_add_tensor(g, "b", CKPT_F32, CKPT_ROLE_PARAM, 1, &out, &g_err) : -1;
    static const ckpt_act act[] = {CKPT_ACT_IDENTITY, CKPT_ACT_RELU, CKPT_ACT_TANH};
    ckpt_linear_attr attr = {.alpha = 1, .beta = 1, .epilogue = {.act = act[graphs_between(0, 2)]}};
    if (graphs_between(0, 3) == 0) {
        attr.epilogue.drop = 0.25f;
        attr.epilogue.stream = g->stream_count++;
    }
    const ckpt_view view = ckpt_view_of(g, weight);
    ckpt_view y;
    char name[32];
    snprintf(name, sizeof name, "linear%d", g->node_count);
    assert_int_equal(ckpt_build_linear(g, name, x, &view, bias, &attr, &y, &g_err), CKPT_OK);
    *x = y;
}

static void branching_norm(ckpt_graph *g, ckpt_view *x) {
    const int scale = ckpt_graph_add_tensor(g, "scale", CKPT_F32, CKPT_ROLE_PARAM, 1, &x->dim[1], &g_err);
    ckpt_view y;
    char name[32];
    snprintf(name, sizeof name, "norm%d", g->node_count);
    assert_int_equal(ckpt_build_layernorm(g, name, x, scale, -1, 1, 1e-5f, &y, NULL, &g_err), CKPT_OK);
    *x = y;
}

/* Writes running statistics: runs once. */
static void branching_batchnorm(ckpt_graph *g, ckpt_view *x) {
    const int64_t channels = x->dim[1];
    const int scale = ckpt_graph_add_tensor(g, "scale", CKPT_F32, CKPT_ROLE_PARAM, 1, &channels, &g_err);
    const int bias = ckpt_graph_add_tensor(g, "bias", CKPT_F32, CKPT_ROLE_PARAM, 1, &channels, &g_err);
    const int running[2] = {ckpt_graph_add_tensor(g, "mean", CKPT_F32, CKPT_ROLE_STATISTIC, 1, &channels, &g_err),
                            ckpt_graph_add_tensor(g, "variance", CKPT_F32, CKPT_ROLE_STATISTIC, 1, &channels, &g_err)};
    ckpt_view y;
    char name[32];
    snprintf(name, sizeof name, "batchnorm%d", g->node_count);
    assert_int_equal(ckpt_build_batchnorm(g, name, x, scale, bias, running, 1e-5f, 0.1f, true, &y, NULL, &g_err), CKPT_OK);
    *x = y;
}

void graphs_branching(int nodes, bool accumulate, ckpt_graph *g) {
    enum { MOST = 32 };
    ckpt_view made[MOST] = {graphs_input(g, 16, graphs_between(1, 6))};
    const int widths = graphs_between(1, 3); /* few, so that sums and shared weights are frequent */
    int64_t width[3];
    for (int i = 0; i < widths; i++) width[i] = 4 * graphs_between(1, 6);
    branching_linear(g, width[0], &made[0]);
    int count = 1;
    while (count < nodes - 1 && count < MOST) {
        const int near = count - 1 - graphs_between(0, 2);
        ckpt_view x = made[near < 0 || graphs_between(0, 3) == 0 ? graphs_between(0, count - 1) : near];
        const int kind = graphs_between(0, 8), with = graphs_between(0, count - 1);
        char name[32];
        snprintf(name, sizeof name, "node%d", g->node_count);
        if (kind < 3 && made[with].dim[1] == x.dim[1]) {
            ckpt_view y;
            assert_int_equal(ckpt_build_binary(g, name, kind ? CKPT_BINARY_ADD : CKPT_BINARY_MUL, &x, &made[with], &y, &g_err),
                             CKPT_OK);
            x = y;
        } else if (kind == 3) {
            graphs_gelu(g, &x);
        } else if (kind == 4) {
            branching_norm(g, &x);
        } else if (kind == 5) {
            branching_batchnorm(g, &x);
        } else {
            branching_linear(g, width[graphs_between(0, widths - 1)], &x);
        }
        made[count++] = x;
    }
    ckpt_view last = made[count - 1];
    branching_linear(g, graphs_between(2, 5), &last);
    graphs_finish(g, &last, graphs_between(0, 1) ? CKPT_OPTIMIZER_SGD : CKPT_OPTIMIZER_ADAM, accumulate);
}

void graphs_chain(int stages, bool accumulate, ckpt_graph *g) {
    ckpt_view x = graphs_input(g, 16, graphs_between(1, 6));
    while (g->node_count < stages - 1) {
        if (g->node_count > 0 && graphs_between(0, 3) == 0) graphs_gelu(g, &x);
        else graphs_linear(g, graphs_between(0, 2) ? CKPT_ACT_RELU : CKPT_ACT_IDENTITY, 4 * graphs_between(1, 9), &x);
    }
    graphs_linear(g, CKPT_ACT_IDENTITY, graphs_between(2, 5), &x);
    graphs_finish(g, &x, graphs_between(0, 1) ? CKPT_OPTIMIZER_SGD : CKPT_OPTIMIZER_MOMENTUM, accumulate);
}
