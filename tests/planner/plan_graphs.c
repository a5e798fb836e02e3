#include "plan_graphs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/build.h"

const ckpt_traits plan_graph_traits = {
    .device = "test", .alignment_bytes = 256, .matmul_workspace_bytes = 4096, .input_buffers = 2};

static void must(bool ok, const ckpt_error *err) {
    if (ok) return;
    fprintf(stderr, "cannot build a test graph: %s\n", err->message);
    abort();
}

static int param(ckpt_graph *g, const char *name, int rank, int64_t a, int64_t b) {
    ckpt_error err;
    const int64_t dims[2] = {a, b};
    const int t = ckpt_graph_add_tensor(g, name, CKPT_F32, CKPT_ROLE_PARAM, rank, dims, &err);
    must(t >= 0, &err);
    return t;
}

static ckpt_view linear(ckpt_graph *g, int index, ckpt_view x, int64_t width, const ckpt_epilogue *epilogue,
                        int shared) {
    ckpt_error err;
    char name[64];
    snprintf(name, sizeof name, "fc%d", index);
    const int64_t in = x.dim[x.rank - 1];
    const int w = shared >= 0 ? shared : param(g, "w", 2, width, in), b = param(g, "b", 1, width, 0);
    const ckpt_view wv = ckpt_view_of(g, w);
    ckpt_linear_attr attr = {.trans_w = true, .alpha = 1, .beta = 1};
    if (epilogue) attr.epilogue = *epilogue;
    ckpt_view y;
    must(ckpt_build_linear(g, name, &x, &wv, b, &attr, &y, &err) == CKPT_OK, &err);
    return y;
}

static ckpt_view gelu(ckpt_graph *g, int index, ckpt_view x) {
    ckpt_error err;
    char name[64];
    snprintf(name, sizeof name, "gelu%d", index);
    const ckpt_epilogue act = {.act = CKPT_ACT_GELU};
    ckpt_view y;
    must(ckpt_build_act(g, name, &act, &x, &y, &err) == CKPT_OK, &err);
    return y;
}

static ckpt_view block(ckpt_graph *g, const plan_graph_options *o, int index, ckpt_view x) {
    ckpt_error err;
    const int64_t width = x.dim[x.rank - 1];
    const ckpt_epilogue relu = {.act = CKPT_ACT_RELU};
    ckpt_view h = x, y;
    if (o->kind == PLAN_GRAPH_PRENORM) {
        const int scale = param(g, "scale", 1, width, 0), bias = param(g, "bias", 1, width, 0);
        must(ckpt_build_layernorm(g, "norm", &x, scale, bias, x.rank - 1, 1e-5f, &h, NULL, &err) == CKPT_OK,
             &err);
        h = gelu(g, index, linear(g, index, h, 2 * width, NULL, -1));
    } else {
        h = linear(g, index, h, 2 * width, &relu, -1);
    }
    h = linear(g, index + 1, h, width, NULL, -1);
    must(ckpt_build_binary(g, "add", CKPT_BINARY_ADD, &x, &h, &y, &err) == CKPT_OK, &err);
    return y;
}

static ckpt_view body(ckpt_graph *g, const plan_graph_options *o, ckpt_view x) {
    const ckpt_epilogue epilogue = {.act = CKPT_ACT_RELU, .drop = 0.1f, .stream = 1};
    int shared = -1;
    for (int i = 1; i + 1 < o->layers; i++) {
        switch (o->kind) {
        case PLAN_GRAPH_RESIDUAL:
        case PLAN_GRAPH_PRENORM:
            x = block(g, o, i++, x);
            break;
        case PLAN_GRAPH_GELU:
            x = gelu(g, i, linear(g, i, x, o->width, NULL, -1));
            break;
        case PLAN_GRAPH_HOURGLASS:
            x = linear(g, i, x, o->width * (1 + abs(2 * i - o->layers)) / o->layers + 1, &epilogue, -1);
            break;
        case PLAN_GRAPH_TIED:
            if (shared < 0) shared = param(g, "tied", 2, o->width, o->width);
            x = linear(g, i, x, o->width, &epilogue, shared);
            break;
        default:
            x = linear(g, i, x, o->width, &epilogue, -1);
            break;
        }
    }
    return x;
}

void plan_graph_make(const plan_graph_options *o, ckpt_graph *graph, ckpt_graph *eval) {
    ckpt_error err;
    *graph = (ckpt_graph){.batch = o->batch, .result = -1};
    const int64_t dims[2] = {o->batch, 32};
    const int input = ckpt_graph_add_tensor(graph, "x", CKPT_F32, CKPT_ROLE_INPUT, 2, dims, &err);
    must(input >= 0, &err);
    const ckpt_epilogue relu = {.act = CKPT_ACT_RELU};
    ckpt_view x = linear(graph, 0, ckpt_view_of(graph, input), o->width, &relu, -1);
    x = linear(graph, o->layers - 1, body(graph, o, x), 10, NULL, -1);
    const ckpt_loss_term term = ckpt_loss_term_of(CKPT_LOSS_CE, &x);
    must(ckpt_loss_attach(graph, &term, &x, &err) == CKPT_OK, &err);
    if (eval) must(ckpt_graph_for_evaluation(graph, eval, &err) == CKPT_OK, &err);
    ckpt_training_options training = {.optimizer = o->optimizer, .accumulate = o->accumulate};
    ckpt_training_defaults(&training);
    must(ckpt_autodiff_run(graph, &training, &err) == CKPT_OK, &err);
}

bool plan_steps_equal(const ckpt_plan *a, const ckpt_plan *b) {
    bool equal = a->step_count == b->step_count;
    for (int s = 0; s < a->step_count && equal; s++) {
        const ckpt_plan_step *x = &a->step[s], *y = &b->step[s];
        equal = x->node == y->node && x->recompute == y->recompute && x->in_count == y->in_count &&
                memcmp(x->in, y->in, sizeof *x->in * (size_t)x->in_count) == 0 && memcmp(x->out, y->out, sizeof x->out) == 0;
    }
    return equal;
}

void plan_graph_extremes(const ckpt_graph *graph, const ckpt_graph *eval, uint64_t *store_all, uint64_t *least) {
    const ckpt_plan_options options = {.strategy = CKPT_STRATEGY_MIN, .eval = eval};
    ckpt_plan *plan;
    ckpt_error err;
    if (ckpt_plan_make(graph, &options, &plan_graph_traits, NULL, &plan, &err) != CKPT_OK) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    *store_all = plan->store_all_total;
    *least = plan->memory.total;
    ckpt_plan_free(plan);
}
