/* libFuzzer target: the bytes as a plan file for a small training graph. */
#include "fuzz_file.h"
#include "graph/autodiff.h"
#include "graph/build.h"
#include "planner/plan_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* x . w, twice, with a loss. */
static ckpt_graph *small_graph(void) {
    static ckpt_graph graph;
    if (graph.node_count) return &graph;
    ckpt_error err;
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD};
    const int64_t square[2] = {4, 4};
    graph = (ckpt_graph){.batch = 4, .target = -1, .result = -1};
    ckpt_view x, y;
    x = ckpt_view_of(&graph, ckpt_graph_add_tensor(&graph, "x", CKPT_F32, CKPT_ROLE_INPUT, 2, square, &err));
    for (int i = 0; i < 2; i++) {
        const ckpt_view w =
            ckpt_view_of(&graph, ckpt_graph_add_tensor(&graph, "w", CKPT_F32, CKPT_ROLE_PARAM, 2, square, &err));
        const ckpt_linear_attr attr = {.alpha = 1, .epilogue = {.act = CKPT_ACT_RELU}};
        if (ckpt_build_linear(&graph, "fc", &x, &w, -1, &attr, &y, &err) != CKPT_OK) __builtin_trap();
        x = y;
    }
    ckpt_training_defaults(&training);
    if (ckpt_loss_attach(&graph, CKPT_LOSS_CE, &x, &err) != CKPT_OK || ckpt_autodiff_run(&graph, &training, &err) != CKPT_OK)
        __builtin_trap();
    return &graph;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    char path[64];
    ckpt_plan *plan;
    ckpt_error err;
    const int fd = fuzz_file(bytes, size, path);
    if (fd < 0) return 0;
    if (ckpt_plan_read(path, small_graph(), NULL, &plan, &err) == CKPT_OK) ckpt_plan_free(plan);
    close(fd);
    return 0;
}
