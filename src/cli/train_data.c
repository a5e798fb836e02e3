#include "cli/train_data.h"

#include <inttypes.h>

#include "graph/loss_choice.h"

enum { MOST_REQUESTS = 64, SYNTHETIC_BATCHES = 4 };

static bool takes_classes(ckpt_loss loss) { return loss == CKPT_LOSS_CE || loss == CKPT_LOSS_NLL; }

static const ckpt_node *loss_node(const ckpt_graph *graph) {
    for (int n = 0; n < graph->forward_count; n++)
        if (graph->node[n].op == CKPT_OP_LOSS) return &graph->node[n];
    return NULL;
}

/* What may answer as the target. Where the loss is still open, integers as classes along the output's last axis, and
 * floats of the output's own shape. */
static ckpt_data_request target_request(const ckpt_job *job, bool open) {
    const ckpt_graph *graph = &job->model.graph;
    const ckpt_tensor *prediction = &graph->tensor[loss_node(graph)->in[0]];
    const int64_t classes = prediction->rank ? prediction->dim[prediction->rank - 1] : 1;
    ckpt_data_request request = {.name = "y", .aliases = {"target", "targets", "label", "labels"}, .role = CKPT_DATA_TARGET};
    const bool integers = open || takes_classes(job->model.loss), floats = open || !takes_classes(job->model.loss);
    request.want = !floats ? CKPT_WANT_INTEGER : integers && classes > 1 ? CKPT_WANT_EITHER : CKPT_WANT_FLOAT;
    if (floats) request.values = (uint64_t)(prediction->count / graph->batch);
    if (integers && classes > 1) {
        request.integer_values = (uint64_t)(prediction->count / classes / graph->batch);
        request.classes = classes;
        if (!floats) request.values = request.integer_values;
    }
    request.unit_range = floats && job->model.loss == CKPT_LOSS_BCE;
    return request;
}

static ckpt_status make_requests(const ckpt_job *job, bool open, ckpt_data_request *requests, ckpt_error *err) {
    const ckpt_graph *graph = &job->model.graph;
    if (graph->input_count >= MOST_REQUESTS)
        return ckpt_fail(err, CKPT_MODEL, "%s: the model has %d inputs; at most %d are supported", graph->path,
                         graph->input_count, MOST_REQUESTS - 1);
    for (int i = 0; i < graph->input_count; i++) {
        const ckpt_tensor *t = &graph->tensor[graph->input[i]];
        if (t->dtype != CKPT_F32 && t->dtype != CKPT_I32)
            return ckpt_fail(err, CKPT_MODEL, "%s: the input '%s' is of type %s; only floats can be fed", graph->path,
                             t->name, ckpt_dtype_name(t->dtype));
        requests[i] = (ckpt_data_request){.name = t->name, .aliases = {i == 0 ? "x" : NULL},
                                          .values = (uint64_t)(t->count / graph->batch)};
    }
    requests[graph->input_count] = target_request(job, open);
    return CKPT_OK;
}

static ckpt_status load_file(const ckpt_job *job, bool open, const char *path, ckpt_dataset *set, ckpt_error *err) {
    ckpt_data_request requests[MOST_REQUESTS];
    CKPT_TRY(make_requests(job, open, requests, err));
    return ckpt_dataset_load(path, requests, (size_t)job->model.graph.input_count + 1, set, err);
}

static bool suits(const ckpt_dataset *set, ckpt_loss loss) {
    const bool integers = set->arrays[set->array_count - 1].type == CKPT_ARRAY_I64;
    return integers == takes_classes(loss);
}

/* Loads once with the loss open; if the targets do not suit the loss that was assumed, the loss follows them. */
static ckpt_status load_training(const ckpt_cli_options *o, ckpt_job *job, ckpt_dataset *set, ckpt_error *err) {
    const bool open = o->loss == CKPT_CLI_LOSS_AUTO;
    CKPT_TRY(load_file(job, open, o->data, set, err));
    if (open && !suits(set, job->model.loss)) {
        const bool integers = set->arrays[set->array_count - 1].type == CKPT_ARRAY_I64;
        ckpt_job_free(job);
        CKPT_TRY(ckpt_job_load(o, integers ? CKPT_TARGET_CLASSES : CKPT_TARGET_FLOAT, job, err));
    }
    if (!suits(set, job->model.loss))
        return ckpt_fail(err, CKPT_USAGE, "%s: the targets are %s, which the loss %s does not take", o->data,
                         takes_classes(job->model.loss) ? "floats" : "classes", ckpt_loss_name(job->model.loss));
    if (job->model.loss != CKPT_LOSS_BCE) return CKPT_OK;
    ckpt_dataset_free(set); /* once more, now that values outside [0, 1] are known to be wrong */
    return load_file(job, false, o->data, set, err);
}

static ckpt_status make_synthetic(const ckpt_cli_options *o, const ckpt_job *job, ckpt_dataset *set, ckpt_error *err) {
    ckpt_data_request requests[MOST_REQUESTS];
    CKPT_TRY(make_requests(job, false, requests, err));
    return ckpt_dataset_synthetic(requests, (size_t)job->model.graph.input_count + 1,
                                  (uint64_t)(SYNTHETIC_BATCHES * job->batch), o->seed, set, err);
}

ckpt_status ckpt_train_data_load(const ckpt_cli_options *o, ckpt_job *job, ckpt_train_data *data, ckpt_error *err) {
    *data = (ckpt_train_data){.synthetic = !o->data};
    ckpt_status status = o->data ? load_training(o, job, &data->training, err) : make_synthetic(o, job, &data->training, err);
    if (status == CKPT_OK && o->val_data) status = load_file(job, false, o->val_data, &data->validation, err);
    if (status != CKPT_OK) ckpt_train_data_free(data);
    return status;
}

void ckpt_train_data_free(ckpt_train_data *data) {
    ckpt_dataset_free(&data->training);
    ckpt_dataset_free(&data->validation);
}
