#include "sized.h"

#include <stdlib.h>

#include "planner/plan_size.h"

void sized_make(sized *size, const sized_whole *whole, int64_t samples, const ckpt_backend *backend) {
    ckpt_error err;
    ckpt_model_options options = whole->options;
    options.batch = samples;
    *size = (sized){0};
    MUST(ckpt_model_resize(whole->model, &options, &size->model, &err), &err);
    if (whole->change) whole->change(&size->model.graph);
    MUST(ckpt_training_graphs_make(&size->model.graph, &whole->training, &size->evaluation, &err), &err);
    size->origin = calloc((size_t)(size->model.graph.tensor_count + size->evaluation.tensor_count), sizeof *size->origin);
    if (whole->evaluation) {
        const ckpt_plan_room room = {whole->evaluation, whole->evaluation_plan, whole->plan->memory.arena};
        MUST(ckpt_plan_resize(&room, &size->evaluation, backend->traits, size->origin, &size->evaluation_plan, &err), &err);
    }
    const ckpt_plan_room room = {&whole->model->graph, whole->plan, whole->plan->memory.arena};
    MUST(ckpt_plan_resize(&room, &size->model.graph, backend->traits, size->origin, &size->plan, &err), &err);
    assert_int_equal(size->plan->memory.total, whole->plan->memory.total);
}

void sized_add(const sized *size, ckpt_exec *exec, bool train, bool evaluate) {
    ckpt_error err;
    const ckpt_exec_size added = {.training = &size->model.graph, .evaluation = &size->evaluation, .plan = size->plan,
                                  .evaluation_plan = size->evaluation_plan, .train = train, .evaluate = evaluate};
    MUST(ckpt_exec_add_size(exec, &added, &err), &err);
}

void sized_free(sized *size) {
    ckpt_plan_free(size->plan);
    ckpt_plan_free(size->evaluation_plan);
    ckpt_graph_free(&size->evaluation);
    ckpt_model_free(&size->model);
    free(size->origin);
    *size = (sized){0};
}
