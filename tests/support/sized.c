#include "sized.h"

#include <stdlib.h>

#include "planner/plan_size.h"

static void *read_values(const ckpt_model *model, int tensor, ckpt_pool *pool) {
    ckpt_error err;
    void *values = ckpt_pool_alloc(pool, (size_t)ckpt_tensor_bytes(&model->graph.tensor[tensor]) + 1, 1);
    MUST(ckpt_model_read_values(model, tensor, values, &err), &err);
    return values;
}

static void find_constants(sized *size, const ckpt_model *whole) {
    const ckpt_graph *g = &size->model.graph;
    size->constant = ckpt_pool_array(&size->pool, g->tensor_count, ckpt_exec_constant);
    for (int t = 0; t < g->tensor_count; t++)
        if (g->tensor[t].role == CKPT_ROLE_CONST && (g->tensor[t].source || g->tensor[t].data))
            size->constant[size->constant_count++] =
                (ckpt_exec_constant){t, size->origin[t], read_values(&size->model, t, &size->pool),
                                     read_values(whole, size->origin[t], &size->pool)};
}

void sized_make(sized *size, const sized_whole *whole, int64_t samples, const ckpt_backend *backend) {
    ckpt_error err;
    ckpt_model_options options = whole->options;
    options.batch = samples;
    *size = (sized){0};
    MUST(ckpt_model_resize(whole->model, &options, &size->model, &err), &err);
    if (whole->change) whole->change(&size->model.graph);
    ckpt_training_options training = whole->training;
    training.like = &whole->model->graph;
    MUST(ckpt_training_graphs_make(&size->model.graph, &training, &size->evaluation, &err), &err);
    size->origin = calloc((size_t)(size->model.graph.tensor_count + size->evaluation.tensor_count), sizeof *size->origin);
    if (whole->evaluation) {
        const ckpt_plan_room room = {whole->evaluation, whole->evaluation_plan, whole->plan->memory.arena};
        MUST(ckpt_plan_resize(&room, &size->evaluation, backend->traits, size->origin, &size->evaluation_plan, &err), &err);
    }
    const ckpt_plan_room room = {&whole->model->graph, whole->plan, whole->plan->memory.arena};
    MUST(ckpt_plan_resize(&room, &size->model.graph, backend->traits, size->origin, &size->plan, &err), &err);
    assert_int_equal(size->plan->memory.total, whole->plan->memory.total);
    find_constants(size, whole->model);
}

void sized_add(const sized *size, ckpt_exec *exec, bool train, bool evaluate) {
    ckpt_error err;
    const ckpt_exec_size added = {.training = &size->model.graph, .evaluation = &size->evaluation, .plan = size->plan,
                                  .evaluation_plan = size->evaluation_plan, .train = train, .evaluate = evaluate,
                                  .constant_count = size->constant_count, .constant = size->constant};
    MUST(ckpt_exec_add_size(exec, &added, &err), &err);
}

void sized_free(sized *size) {
    ckpt_plan_free(size->plan);
    ckpt_plan_free(size->evaluation_plan);
    ckpt_graph_free(&size->evaluation);
    ckpt_model_free(&size->model);
    ckpt_pool_free(&size->pool);
    free(size->origin);
    *size = (sized){0};
}
