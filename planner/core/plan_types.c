#include "planner/core/plan_types.h"

#include <stdlib.h>

ckpt_plan_step *ckpt_plan_copy_steps(const ckpt_plan_step *step, int count, ckpt_pool *pool) {
    size_t inputs = 0;
    for (int s = 0; s < count; s++) inputs += (size_t)step[s].in_count;
    ckpt_plan_step *copy = ckpt_pool_array(pool, (size_t)count + 1, ckpt_plan_step);
    int *in = ckpt_pool_array(pool, inputs, int);
    if (!copy || !in) return NULL;
    for (int s = 0; s < count; s++) {
        copy[s] = step[s];
        copy[s].in = in;
        for (int i = 0; i < step[s].in_count; i++) *in++ = step[s].in[i];
    }
    return copy;
}

void ckpt_plan_free(ckpt_plan *plan) {
    if (!plan) return;
    ckpt_pool_free(&plan->pool);
    free(plan);
}
