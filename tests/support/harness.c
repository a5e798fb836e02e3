#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/onnx_file.h"

bool golden_read(golden_tensor *tensor, const char *format, ...) {
    char path[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(path, sizeof path, format, args);
    va_end(args);
    *tensor = (golden_tensor){0};
    if (access(path, R_OK) != 0) return false;
    ckpt_onnx_file *file;
    ckpt_onnx_tensor_info info;
    ckpt_error err;
    MUST(ckpt_onnx_read_tensor_pb(path, &file, &err), &err);
    MUST(ckpt_onnx_tensor_describe(file, file->tensor, &info, &err), &err);
    tensor->name = strdup(file->tensor->name ? file->tensor->name : "");
    tensor->rank = (int)info.rank;
    tensor->count = (int64_t)info.count;
    for (size_t i = 0; i < info.rank; i++) tensor->dim[i] = info.dims[i];
    tensor->value = calloc(info.count + 1, sizeof(double));
    if (info.type == ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE) {
        MUST(ckpt_onnx_tensor_read(file, file->tensor, tensor->value, info.count * sizeof(double), &err), &err);
    } else {
        float *values = calloc(info.count + 1, sizeof *values);
        MUST(ckpt_onnx_tensor_read_f32(file, file->tensor, values, info.count, &err), &err);
        for (size_t i = 0; i < info.count; i++) tensor->value[i] = (double)values[i];
        free(values);
    }
    ckpt_onnx_free(file);
    return true;
}

void golden_free(golden_tensor *tensor) {
    free(tensor->name);
    free(tensor->value);
    *tensor = (golden_tensor){0};
}

double relative_error(const float *a, const double *b, int64_t count) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += b[i] * b[i];
    }
    if (!(difference >= 0)) return INFINITY;
    return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}

void harness_differentiate(ckpt_graph *graph, const ckpt_training_options *options, bool bf16, const ckpt_backend *backend) {
    ckpt_error err;
    ckpt_graph evaluation;
    ckpt_training_options typed = *options;
    typed.bf16 = bf16;
    typed.bf16_kernels = backend->traits->bf16_kernels;
    MUST(ckpt_training_graphs_make(graph, &typed, &evaluation, &err), &err);
    ckpt_graph_free(&evaluation);
}

void runner_open(step_runner *runner, ckpt_graph *training, const ckpt_backend *backend, ckpt_strategy strategy) {
    ckpt_error err;
    const ckpt_plan_options options = {.strategy = strategy};
    runner->graph = training;
    MUST(ckpt_plan_make(training, &options, backend->traits, NULL, &runner->plan, &err), &err);
    const ckpt_exec_options exec = {.backend = backend, .preserve_rng = true, .device = {.poison = true}};
    MUST(ckpt_exec_open(&exec, training, runner->plan, NULL, NULL, &runner->exec, &err), &err);
}

void runner_set_f64(step_runner *runner, int tensor, const double *values) {
    const ckpt_tensor *t = &runner->graph->tensor[tensor];
    ckpt_error err;
    if (runner->plan->persistent_offset[tensor] == UINT64_MAX) return; /* no node reads it */
    float *as_float = calloc((size_t)t->count + 1, sizeof *as_float);
    int32_t *as_int = calloc((size_t)t->count + 1, sizeof *as_int);
    for (int64_t i = 0; i < t->count; i++) {
        as_float[i] = (float)values[i];
        as_int[i] = (int32_t)values[i];
    }
    MUST(ckpt_exec_set(runner->exec, tensor, t->dtype == CKPT_I32 ? (void *)as_int : as_float, &err), &err);
    free(as_float);
    free(as_int);
}

void runner_get_f32(step_runner *runner, int tensor, float *values) {
    ckpt_error err;
    MUST(ckpt_exec_get(runner->exec, tensor, values, &err), &err);
}

void runner_step(step_runner *runner, uint32_t step, float learning_rate) {
    ckpt_error err;
    ckpt_scalars scalars = {.seed = 1, .step = step, .learning_rate = learning_rate, .valid_samples = runner->graph->batch};
    ckpt_scalars_count_all(&scalars, runner->graph, runner->graph->batch);
    MUST(ckpt_exec_train(runner->exec, &scalars, true, true, &err), &err);
}

void runner_close(step_runner *runner) {
    ckpt_exec_close(runner->exec);
    ckpt_plan_free(runner->plan);
    *runner = (step_runner){0};
}

int gradsum_of(const ckpt_graph *graph, int parameter) {
    for (int t = 0; t < graph->tensor_count; t++)
        if (graph->tensor[t].role == CKPT_ROLE_GRADSUM && graph->tensor[t].owner == parameter) return t;
    return -1;
}

void runner_load_weights(step_runner *runner, const ckpt_model *model) {
    ckpt_error err;
    for (int t = 0; t < runner->graph->tensor_count; t++) {
        const ckpt_tensor *tensor = &runner->graph->tensor[t];
        if ((!ckpt_tensor_is_saved(tensor) && tensor->role != CKPT_ROLE_CONST) || (!tensor->source && !tensor->data) ||
            runner->plan->persistent_offset[t] == UINT64_MAX)
            continue;
        void *values = calloc(1, (size_t)ckpt_tensor_bytes(tensor) + 1);
        MUST(ckpt_model_read_values(model, t, values, &err), &err);
        MUST(ckpt_exec_set(runner->exec, t, values, &err), &err);
        free(values);
    }
}
