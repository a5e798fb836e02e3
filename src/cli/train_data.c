#include "cli/train_data.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "graph/loss_choice.h"
#include "proto/onnx_file.h"

enum { SYNTHETIC_BATCHES = 4, SYNTHETIC_MOST = 256 << 20 };

static bool takes_classes(ckpt_loss loss) { return loss == CKPT_LOSS_CE || loss == CKPT_LOSS_NLL || loss == CKPT_LOSS_FILE; }

static uint64_t values_a_sample(const ckpt_graph *graph, int tensor) {
    return (uint64_t)(graph->tensor[tensor].count / graph->batch);
}

/* Size of the last axis of what the loss is on, in the file's shape: the number of classes, if it has any. */
static int64_t output_columns(const ckpt_model *model) {
    if (model->classes) return model->classes;
    return model->predicted.rank > 1 ? model->predicted.dim[model->predicted.rank - 1] : 1;
}

/* Values that the output has a sample. A target of classes has one for each row of columns. */
static uint64_t output_values(const ckpt_model *model) {
    const uint64_t target = values_a_sample(&model->graph, model->graph.target[0]);
    return takes_classes(model->loss) ? target * (uint64_t)output_columns(model) : target;
}

/* open: classes or floats, whichever the data have. Otherwise just what the model's loss takes. */
static ckpt_data_request target_request(const ckpt_model *model, bool open) {
    const uint64_t values = output_values(model);
    const int64_t columns = output_columns(model);
    ckpt_data_request request = {.name = "y", .aliases = {"target", "targets", "label", "labels"},
                                 .role = CKPT_DATA_TARGET, .want = CKPT_WANT_FLOAT, .values = values,
                                 .unit_range = model->loss == CKPT_LOSS_BCE};
    if (model->labels) {
        request.name = model->labels;
        request.aliases[3] = "y"; /* last: the others are nearer to what labels are called */
    }
    /* One column holds no classes: there integers are values, as 0 and 1 for a single sigmoid. */
    if (columns < 2 || (!open && !takes_classes(model->loss))) return request;
    request.want = open ? CKPT_WANT_EITHER : CKPT_WANT_INTEGER;
    request.integer_values = values / (uint64_t)columns;
    request.classes = columns;
    if (!open) request.values = request.integer_values;
    return request;
}

/* The inputs in order, then the target: graph.input_count + 1. Sets *requests, in `pool`. */
static ckpt_status make_requests(const ckpt_model *model, bool open, ckpt_pool *pool, ckpt_data_request **requests,
                                 ckpt_error *err) {
    const ckpt_graph *graph = &model->graph;
    ckpt_data_request *made = *requests = ckpt_pool_array(pool, graph->input_count + 1, ckpt_data_request);
    if (!made) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    for (int i = 0; i < graph->input_count; i++) {
        const ckpt_tensor *input = &graph->tensor[graph->input[i]];
        if (input->dtype != CKPT_F32 && input->dtype != CKPT_I32)
            return ckpt_fail(err, CKPT_MODEL, "%s: the input '%s' is of type %s; only floats can be fed", graph->path,
                             input->name, ckpt_dtype_name(input->dtype));
        made[i] = (ckpt_data_request){.name = input->name, .aliases = {i == 0 ? "x" : NULL}, .role = CKPT_DATA_INPUT,
                                      .want = input->dtype == CKPT_F32 ? CKPT_WANT_FLOAT : CKPT_WANT_INTEGER,
                                      .values = values_a_sample(graph, graph->input[i])};
        if (input->dtype == CKPT_I32) made[i].integer_values = made[i].values;
    }
    made[graph->input_count] = target_request(model, open);
    return CKPT_OK;
}

static ckpt_status load_file(const ckpt_job *job, bool open, const char *path, ckpt_dataset *set, ckpt_error *err) {
    ckpt_pool pool = {0};
    ckpt_data_request *requests;
    ckpt_status status = make_requests(&job->model, open, &pool, &requests, err);
    if (status == CKPT_OK) status = ckpt_dataset_load(path, requests, (size_t)job->model.graph.input_count + 1, set, err);
    ckpt_pool_free(&pool);
    return status;
}

/* Loads once with the loss open; if the targets do not suit the loss that was assumed, the loss follows them. */
static ckpt_status load_training(const ckpt_cli_options *o, ckpt_job *job, ckpt_dataset *set, ckpt_error *err) {
    const bool open = o->loss == CKPT_CLI_LOSS_AUTO;
    CKPT_TRY(load_file(job, open, o->data, set, err));
    const bool classes = set->arrays[set->array_count - 1].type == CKPT_ARRAY_I64;
    if (classes == takes_classes(job->model.loss)) return CKPT_OK;
    const ckpt_traits *traits = job->traits;
    ckpt_job_free(job);
    CKPT_TRY(ckpt_job_load(o, classes ? CKPT_TARGET_CLASSES : CKPT_TARGET_FLOAT, traits, job, err));
    if (classes == takes_classes(job->model.loss)) return CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "%s: the targets are %s, which the model's loss, %s, does not take", o->data,
                     classes ? "classes" : "floats", job->model.loss_reason);
}

static ckpt_status make_synthetic(const ckpt_cli_options *o, const ckpt_job *job, ckpt_dataset *set, ckpt_error *err) {
    const size_t count = (size_t)job->model.graph.input_count + 1;
    ckpt_pool pool = {0};
    ckpt_data_request *requests;
    ckpt_status status = make_requests(&job->model, false, &pool, &requests, err);
    double bytes = 0; /* of a batch */
    for (size_t i = 0; status == CKPT_OK && i < count; i++) {
        bytes += (double)requests[i].values * sizeof(float) * (double)job->batch;
        /* Integers that go in are indices into something unknown: 0 and 1 are always in range. */
        if (requests[i].want == CKPT_WANT_INTEGER && !requests[i].classes) requests[i].classes = 2;
    }
    const uint64_t batches = bytes * SYNTHETIC_BATCHES > SYNTHETIC_MOST ? 1 : SYNTHETIC_BATCHES;
    if (status == CKPT_OK)
        status = ckpt_dataset_synthetic(requests, count, batches * (uint64_t)job->batch, o->seed, set, err);
    ckpt_pool_free(&pool);
    return status;
}

ckpt_status ckpt_train_data_load(const ckpt_cli_options *o, ckpt_job *job, ckpt_train_data *data, ckpt_error *err) {
    *data = (ckpt_train_data){.synthetic = !o->data};
    ckpt_status status = o->data ? load_training(o, job, &data->training, err) : make_synthetic(o, job, &data->training, err);
    if (status == CKPT_OK && o->val_data) status = load_file(job, false, o->val_data, &data->validation, err);
    if (status != CKPT_OK) ckpt_train_data_free(data);
    return status;
}

const char *ckpt_train_data_describe(const ckpt_job *job, const ckpt_dataset *set, char text[CKPT_DATA_TEXT]) {
    const ckpt_graph *graph = &job->model.graph;
    size_t used = (size_t)snprintf(text, CKPT_DATA_TEXT, "%" PRIu64 " samples,", set->samples);
    for (int i = 0; i <= graph->input_count && used < CKPT_DATA_TEXT; i++) {
        const bool target = i == graph->input_count;
        const ckpt_tensor *tensor = &graph->tensor[target ? graph->target[0] : graph->input[i]];
        used += (size_t)snprintf(text + used, CKPT_DATA_TEXT - used, "%s '%.64s' of [%" PRIu64, target ? " ->" : "",
                                 target ? "y" : tensor->name, set->samples);
        for (int d = 1; d < tensor->rank && used < CKPT_DATA_TEXT; d++)
            used += (size_t)snprintf(text + used, CKPT_DATA_TEXT - used, ",%" PRId64, tensor->dim[d]);
        if (used < CKPT_DATA_TEXT) used += (size_t)snprintf(text + used, CKPT_DATA_TEXT - used, "]");
    }
    if (used < CKPT_DATA_TEXT && takes_classes(job->model.loss))
        snprintf(text + used, CKPT_DATA_TEXT - used, " in %" PRId64 " classes", output_columns(&job->model));
    return text;
}

void ckpt_train_data_free(ckpt_train_data *data) {
    ckpt_dataset_free(&data->training);
    ckpt_dataset_free(&data->validation);
}
