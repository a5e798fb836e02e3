#include "fuzz_step.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz_target.h"
#include "runtime/exec.h"

enum { MOST_BYTES = 1 << 20, MOST_FLOPS = 1 << 22 };

/* Small numbers of the tensor's type; integers are 0 and so always a class. */
static bool set_tensor(ckpt_exec *exec, const ckpt_graph *g, int tensor) {
    const ckpt_tensor *t = &g->tensor[tensor];
    const size_t bytes = (size_t)ckpt_tensor_bytes(t);
    ckpt_error err;
    if (t->data) return ckpt_exec_set(exec, tensor, t->data, &err) == CKPT_OK;
    void *values = calloc(bytes + 1, 1);
    if (!values) return false;
    for (int64_t i = 0; t->dtype == CKPT_F32 && i < t->count; i++) ((float *)values)[i] = (float)((i * 7 + tensor) % 13) / 8 - 0.75f;
    const bool ok = ckpt_exec_set(exec, tensor, values, &err) == CKPT_OK;
    free(values);
    return ok;
}

static bool set_all(ckpt_exec *exec, const ckpt_graph *g) {
    for (int t = 0; t < g->tensor_count; t++) {
        const ckpt_role role = g->tensor[t].role;
        if ((role == CKPT_ROLE_INPUT || role == CKPT_ROLE_TARGET || role == CKPT_ROLE_PARAM || role == CKPT_ROLE_CONST) &&
            !set_tensor(exec, g, t))
            return false;
    }
    return true;
}

bool fuzz_step(const ckpt_graph *training, const ckpt_graph *evaluation, const ckpt_plan *plan, char hash[65]) {
    ckpt_error err;
    ckpt_exec *exec;
    ckpt_plan *evaluation_plan;
    const ckpt_plan_options none = {.strategy = CKPT_STRATEGY_NONE};
    const ckpt_exec_options options = {.backend = ckpt_backend_cpu(), .preserve_rng = true,
                                       .device = {.threads = 1, .poison = true}};
    ckpt_scalars scalars = {.seed = 1, .learning_rate = 0.01f, .valid_samples = training->batch};
    ckpt_scalars_count_all(&scalars, training, training->batch);
    const ckpt_plan_compute *c = &plan->compute;
    hash[0] = 0;
    if (plan->memory.total > MOST_BYTES || c->forward_flops > MOST_FLOPS || c->backward_flops > MOST_FLOPS ||
        c->recompute_flops > MOST_FLOPS)
        return false;
    if (ckpt_plan_make(evaluation, &none, options.backend->traits, NULL, &evaluation_plan, &err) != CKPT_OK) return false;
    bool done = false;
    if (ckpt_exec_open(&options, training, plan, evaluation, evaluation_plan, &exec, &err) == CKPT_OK) {
        done = set_all(exec, training) && ckpt_exec_train_hashed(exec, &scalars, true, true, hash, &err) == CKPT_OK &&
               ckpt_exec_evaluate(exec, &scalars, true, &err) == CKPT_OK;
        FUZZ_EXPECT(ckpt_exec_measured_peak(exec) == plan->memory.total);
        ckpt_exec_close(exec);
    }
    ckpt_plan_free(evaluation_plan);
    return done;
}
