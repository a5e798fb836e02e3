/* libFuzzer target: the bytes as a model, through reading, import, autodiff, planning and the checker. */
#include "fuzz_file.h"
#include "graph/autodiff.h"
#include "import/model.h"
#include "planner/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    char path[64];
    ckpt_model model;
    ckpt_error err;
    ckpt_plan *plan;
    const int fd = fuzz_file(bytes, size, path);
    const ckpt_model_options options = {.batch = 2, .loss_auto = true};
    const ckpt_traits traits = {.device = "cpu", .alignment_bytes = 256, .input_buffers = 1};
    const ckpt_plan_options strategy = {.strategy = CKPT_STRATEGY_SQRT};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_ADAM};
    if (fd < 0) return 0;
    if (ckpt_model_load(path, &options, &model, &err) == CKPT_OK) {
        ckpt_training_defaults(&training);
        if (model.graph.node_count < 200 && ckpt_autodiff_run(&model.graph, &training, &err) == CKPT_OK &&
            ckpt_plan_make(&model.graph, &strategy, &traits, NULL, &plan, &err) == CKPT_OK)
            ckpt_plan_free(plan);
        ckpt_model_free(&model);
    }
    close(fd);
    return 0;
}
