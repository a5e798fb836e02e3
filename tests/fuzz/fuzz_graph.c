#include "fuzz_graph.h"

#include "fuzz_target.h"
#include "graph/autodiff.h"
#include "graph/build.h"

enum { WIDTH = 16, BATCH = 8 };

static void must(ckpt_status status) { FUZZ_EXPECT(status == CKPT_OK); }

ckpt_view fuzz_graph_weight(ckpt_graph *g, int rank, int64_t width) {
    const int64_t square[2] = {width, width};
    ckpt_error err;
    const int tensor = ckpt_graph_add_tensor(g, "w", CKPT_F32, CKPT_ROLE_PARAM, rank, square, &err);
    FUZZ_EXPECT(tensor >= 0);
    return ckpt_view_of(g, tensor);
}

void fuzz_graph_make(int kind, ckpt_graph *g, ckpt_graph *evaluation) {
    ckpt_error err;
    const int64_t dims[2] = {BATCH, WIDTH};
    ckpt_training_options training = {.optimizer = kind == 1 ? CKPT_OPTIMIZER_ADAM : CKPT_OPTIMIZER_SGD, .accumulate = kind == 3};
    *g = (ckpt_graph){.batch = BATCH, .result = -1};
    g->input = ckpt_pool_array(&g->pool, 1, int);
    FUZZ_EXPECT(g->input);
    g->input[g->input_count++] = ckpt_graph_add_tensor(g, "x", CKPT_F32, CKPT_ROLE_INPUT, 2, dims, &err);
    ckpt_view x = ckpt_view_of(g, g->input[0]), y;
    for (int i = 0; i < (kind ? 6 : 2); i++) {
        const ckpt_view w = fuzz_graph_weight(g, 2, WIDTH), scale = fuzz_graph_weight(g, 1, WIDTH), before = x;
        const ckpt_linear_attr attr = {.alpha = 1, .beta = 1, .epilogue = {.act = kind == 1 ? CKPT_ACT_IDENTITY : CKPT_ACT_RELU,
                                                                           .drop = kind == 2 ? 0.25f : 0, .stream = (uint32_t)i}};
        if (kind == 1) {
            const ckpt_epilogue gelu = {.act = CKPT_ACT_GELU};
            must(ckpt_build_layernorm(g, "norm", &x, scale.tensor, -1, 1, 1e-5f, &y, NULL, &err));
            must(ckpt_build_act(g, "gelu", &gelu, &y, &x, &err));
        }
        must(ckpt_build_linear(g, "fc", &x, &w, scale.tensor, &attr, &y, &err));
        x = y;
        if (kind == 1) must(ckpt_build_binary(g, "sum", CKPT_BINARY_ADD, &before, &y, &x, &err));
    }
    ckpt_training_defaults(&training);
    const ckpt_loss_term term = ckpt_loss_term_of(CKPT_LOSS_CE, &x);
    must(ckpt_loss_attach(g, &term, &x, &err));
    must(ckpt_graph_for_evaluation(g, evaluation, &err));
    must(ckpt_autodiff_run(g, &training, &err));
}
