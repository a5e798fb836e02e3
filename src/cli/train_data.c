#include "cli/train_data.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/class_weights.h"
#include "cli/data_words.h"
#include "cli/target_facts.h"
#include "proto/onnx_file.h"

enum { SYNTHETIC_BATCHES = 4, SYNTHETIC_MOST = 256 << 20 };

static uint64_t values_a_sample(const ckpt_graph *graph, int tensor) {
    return (uint64_t)(graph->tensor[tensor].count / graph->batch);
}

static size_t array_count(const ckpt_model *model) {
    return (size_t)(model->graph.input_count + model->graph.target_count);
}

/* The loss that reads a target, by its index in graph.target. */
static const ckpt_model_loss *reader_of(const ckpt_model *model, int target) {
    for (int i = 0; i < model->loss_count; i++)
        if (model->losses[i].target == target) return &model->losses[i];
    return NULL;
}

/* How the data may call the targets of a loss. With several losses each has its output's name. */
static ckpt_status name_target(const ckpt_model *model, const ckpt_model_loss *loss, ckpt_pool *pool, ckpt_data_request *request,
                               ckpt_error *err) {
    static const char *const usual[CKPT_DATA_MAX_ALIASES] = {"target", "targets", "label", "labels"};
    request->name = "y";
    memcpy(request->aliases, usual, sizeof usual);
    if (model->loss_count > 1) {
        request->name = loss->chosen ? loss->question.target : loss->name;
        request->aliases[0] = loss->name;
        request->aliases[1] = ckpt_pool_printf(pool, "target_%s", loss->name);
        request->aliases[2] = ckpt_pool_printf(pool, "label_%s", loss->name);
        request->aliases[3] = NULL;
        if (!request->aliases[1] || !request->aliases[2]) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    }
    if (loss->labels) {
        request->name = loss->labels;
        if (model->loss_count == 1) request->aliases[3] = "y"; /* last: the others are nearer to what labels are called */
    }
    return CKPT_OK;
}

/* What the loss takes. open: any number of values of any kind, whatever the data have, for the loss to be chosen by. */
static ckpt_status request_target(const ckpt_model *model, int target, bool open, ckpt_pool *pool, ckpt_data_request *request,
                                  ckpt_error *err) {
    const ckpt_model_loss *loss = reader_of(model, target);
    const ckpt_tensor *tensor = &model->graph.tensor[model->graph.target[target]];
    *request = (ckpt_data_request){.role = CKPT_DATA_TARGET, .want = CKPT_WANT_EITHER};
    CKPT_TRY(name_target(model, loss, pool, request, err));
    if (open && loss->chosen) return CKPT_OK;
    const bool classes = tensor->dtype == CKPT_I32;
    request->want = classes ? CKPT_WANT_INTEGER : CKPT_WANT_FLOAT;
    request->values = request->integer_values = values_a_sample(&model->graph, model->graph.target[target]);
    request->classes = classes ? loss->classes : 0;
    request->unit_range = loss->loss == CKPT_LOSS_BCE;
    request->has_ignore = classes && loss->ignores;
    request->ignore = loss->ignore;
    return CKPT_OK;
}

/* Class indices that a loss of the file takes from an input, if it does. */
static void bound_labels(const ckpt_graph *graph, int input, ckpt_data_request *request) {
    for (int n = 0; n < graph->forward_count; n++) {
        const ckpt_node *node = &graph->node[n];
        if (node->op != CKPT_OP_CLASS_LOSS || node->in[1] != input) continue;
        request->classes = node->attr.class_loss.classes;
        request->has_ignore = true;
        request->ignore = node->attr.class_loss.ignore;
    }
}

static ckpt_status request_input(const ckpt_model *model, int i, ckpt_data_request *request, ckpt_error *err) {
    const ckpt_graph *graph = &model->graph;
    const ckpt_tensor *input = &graph->tensor[graph->input[i]];
    if (input->dtype != CKPT_F32 && input->dtype != CKPT_I32)
        return ckpt_fail(err, CKPT_MODEL, "%s: the input '%s' is of type %s; only floats can be fed", graph->path, input->name,
                         ckpt_dtype_name(input->dtype));
    *request = (ckpt_data_request){.name = input->name,
                                   .aliases = {i == 0 ? "x" : NULL},
                                   .role = CKPT_DATA_INPUT,
                                   .want = input->dtype == CKPT_F32 ? CKPT_WANT_FLOAT : CKPT_WANT_INTEGER,
                                   .values = values_a_sample(graph, graph->input[i])};
    if (input->dtype == CKPT_I32) {
        request->integer_values = request->values;
        request->least = INT32_MIN;
        request->most = INT32_MAX;
    }
    if (!model->is_label[i]) return CKPT_OK;
    static const char *const usual[CKPT_DATA_MAX_ALIASES] = {"y", "target", "label", "labels"};
    memcpy(request->aliases, usual, sizeof usual);
    request->role = CKPT_DATA_TARGET;
    bound_labels(graph, graph->input[i], request);
    return CKPT_OK;
}

/* The inputs in order, then the targets. Sets *requests, in `pool`. */
static ckpt_status make_requests(const ckpt_model *model, bool open, ckpt_pool *pool, ckpt_data_request **requests,
                                 ckpt_error *err) {
    const int inputs = model->graph.input_count;
    ckpt_data_request *made = *requests = ckpt_pool_array(pool, array_count(model) + 1, ckpt_data_request);
    if (!made) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    for (int i = 0; i < inputs; i++) CKPT_TRY(request_input(model, i, &made[i], err));
    for (int t = 0; t < model->graph.target_count; t++) CKPT_TRY(request_target(model, t, open, pool, &made[inputs + t], err));
    return CKPT_OK;
}

/* like: the training data, for validation; or NULL. */
static ckpt_status load_file(const ckpt_cli_options *o, const ckpt_job *job, bool open, const char *path,
                             const ckpt_dataset *like, ckpt_dataset *set, ckpt_error *err) {
    const ckpt_data_options options = {.target = o->target, .features = o->features, .drop = o->drop, .like = like};
    ckpt_pool pool = {0};
    ckpt_data_request *requests;
    ckpt_status status = make_requests(&job->model, open, &pool, &requests, err);
    if (status == CKPT_OK) status = ckpt_dataset_load(path, requests, array_count(&job->model), &options, set, err);
    ckpt_pool_free(&pool);
    return status;
}

static ckpt_status make_synthetic(const ckpt_cli_options *o, const ckpt_job *job, ckpt_dataset *set, ckpt_error *err) {
    const size_t count = array_count(&job->model);
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
    if (status == CKPT_OK) status = ckpt_dataset_synthetic(requests, count, batches * (uint64_t)job->batch, o->seed, set, err);
    ckpt_pool_free(&pool);
    return status;
}

/* --- the losses, by the data ------------------------------------------------------------------------ */

static const ckpt_array *targets_of(const ckpt_job *job, const ckpt_dataset *set, const ckpt_model_loss *loss) {
    return &set->arrays[job->model.graph.input_count + loss->target];
}

/* Class weights of a loss, which has its choice by now. */
static ckpt_status find_weights(const ckpt_cli_options *o, const ckpt_job *job, const ckpt_model_loss *loss,
                                const ckpt_loss_choice *choice, ckpt_train_data *data, int index, ckpt_error *err) {
    if (!o->job.class_weights || !ckpt_loss_has_classes(choice->loss)) return CKPT_OK;
    const float **weights = &data->known.weights[index];
    int64_t *count = &data->known.weight_count[index];
    if (strcmp(o->job.class_weights, "balanced") != 0)
        return ckpt_class_weights_read(o->job.class_weights, &data->pool, weights, count, err);
    *count = choice->classes;
    if (choice->soft)
        return ckpt_fail(err, CKPT_USAGE,
                         "--class-weights balanced counts class indices, and the targets '%s' are none; give a file",
                         ckpt_loss_target_name(&loss->question));
    return ckpt_class_weights_balance(targets_of(job, &data->training, loss), choice->classes, loss->ignore, &data->pool, weights,
                                      err);
}

/* Whether the targets suit the losses that the job was made with; if not, it is made again. */
static ckpt_status settle_losses(const ckpt_cli_options *o, ckpt_job *job, ckpt_train_data *data, ckpt_error *err) {
    bool same = !o->job.class_weights;
    for (int i = 0; i < job->model.loss_count; i++) {
        ckpt_model_loss *loss = &job->model.losses[i];
        ckpt_loss_choice choice = loss->choice;
        if (!loss->chosen) continue;
        if (!data->synthetic) {
            ckpt_target_facts_find(targets_of(job, &data->training, loss), &data->known.target[i]);
            loss->question.facts = &data->known.target[i];
            if (ckpt_loss_decide(&loss->question, &choice, err) != CKPT_OK)
                return ckpt_fail_in(err, "%s", err->status == CKPT_MODEL ? o->job.model_path : o->data);
        }
        const ckpt_array *targets = targets_of(job, &data->training, loss);
        if (targets->classes.count && !ckpt_loss_has_classes(choice.loss) && choice.loss != CKPT_LOSS_BCE)
            return ckpt_fail(err, CKPT_USAGE,
                             "%s: the targets '%s' are names of %zu classes, and the loss of the output '%s', %s, takes numbers",
                             o->data, targets->name, targets->classes.count, loss->name, ckpt_loss_long_name(choice.loss));
        same = same && choice.loss == loss->choice.loss && choice.reading == loss->choice.reading &&
               choice.soft == loss->choice.soft && choice.class_axis == loss->choice.class_axis;
        CKPT_TRY(find_weights(o, job, loss, &choice, data, i, err));
        loss->choice = choice;
    }
    if (same) return ckpt_model_describe_losses(&job->model, err);
    const ckpt_traits *traits = job->traits;
    ckpt_job_free(job);
    return ckpt_job_load(&o->job, &data->known, traits, job, err);
}

/* Rows of validation targets must be probabilities as those of training are. */
static ckpt_status check_validation(const ckpt_job *job, const char *path, const ckpt_dataset *set, ckpt_error *err) {
    for (int i = 0; i < job->model.loss_count; i++) {
        const ckpt_model_loss *loss = &job->model.losses[i];
        ckpt_target_facts facts;
        ckpt_loss_question question = loss->question;
        ckpt_loss_choice choice;
        if (!loss->chosen || !loss->choice.soft) continue;
        ckpt_target_facts_find(targets_of(job, set, loss), &facts);
        question.facts = &facts;
        if (ckpt_loss_decide(&question, &choice, err) != CKPT_OK) return ckpt_fail_in(err, "%s", path);
        if (!choice.soft)
            return ckpt_fail(err, CKPT_USAGE, "%s: the targets '%s' are not probabilities of classes as those of --data are",
                             path, facts.name);
    }
    return CKPT_OK;
}

/* What could not be asked while the loss was open. */
static ckpt_status check_targets(const ckpt_job *job, const char *path, ckpt_dataset *set, ckpt_error *err) {
    ckpt_pool pool = {0};
    ckpt_data_request *requests;
    ckpt_status status = make_requests(&job->model, false, &pool, &requests, err);
    for (int t = 0; status == CKPT_OK && t < job->model.graph.target_count; t++) {
        const size_t array = (size_t)(job->model.graph.input_count + t);
        if (reader_of(&job->model, t)->chosen) status = ckpt_dataset_settle(path, set, array, &requests[array], err);
    }
    ckpt_pool_free(&pool);
    return status;
}

static ckpt_status load_all(const ckpt_cli_options *o, ckpt_job *job, ckpt_train_data *data, ckpt_error *err) {
    CKPT_TRY(o->data ? load_file(o, job, true, o->data, NULL, &data->training, err)
                     : make_synthetic(o, job, &data->training, err));
    CKPT_TRY(settle_losses(o, job, data, err));
    if (o->data) CKPT_TRY(check_targets(job, o->data, &data->training, err));
    if (!o->val_data) return CKPT_OK;
    CKPT_TRY(load_file(o, job, false, o->val_data, &data->training, &data->validation, err));
    return check_validation(job, o->val_data, &data->validation, err);
}

ckpt_status ckpt_train_data_load(const ckpt_cli_options *o, ckpt_job *job, ckpt_train_data *data, ckpt_error *err) {
    *data = (ckpt_train_data){.synthetic = !o->data};
    ckpt_status status = load_all(o, job, data, err);
    if (status == CKPT_OK) status = ckpt_data_save_classes(&data->training, job->model.file, err);
    if (status != CKPT_OK) ckpt_train_data_free(data);
    return status;
}

/* --- what is said ----------------------------------------------------------------------------------- */

const char *ckpt_train_data_describe(const ckpt_job *job, const ckpt_dataset *set, char text[CKPT_DATA_TEXT]) {
    const ckpt_graph *graph = &job->model.graph;
    size_t used = (size_t)snprintf(text, CKPT_DATA_TEXT, "%" PRIu64 " samples,", set->samples);
    for (size_t i = 0; i < set->array_count && used < CKPT_DATA_TEXT; i++) {
        const int target = (int)i - graph->input_count;
        const ckpt_tensor *tensor = &graph->tensor[target < 0 ? graph->input[i] : graph->target[target]];
        used += (size_t)snprintf(text + used, CKPT_DATA_TEXT - used, "%s '%.64s' of [%" PRIu64,
                                 target == 0 ? " ->" : i ? "," : "", set->arrays[i].name, set->samples);
        for (int d = 1; d < tensor->rank && used < CKPT_DATA_TEXT; d++)
            used += (size_t)snprintf(text + used, CKPT_DATA_TEXT - used, ",%" PRId64, tensor->dim[d]);
        if (used < CKPT_DATA_TEXT) used += (size_t)snprintf(text + used, CKPT_DATA_TEXT - used, "]");
        const int64_t classes = target >= 0 ? reader_of(&job->model, target)->classes : 0;
        if (used < CKPT_DATA_TEXT && classes)
            used += (size_t)snprintf(text + used, CKPT_DATA_TEXT - used, " in %" PRId64 " classes", classes);
    }
    return text;
}

void ckpt_train_data_free(ckpt_train_data *data) {
    ckpt_dataset_free(&data->training);
    ckpt_dataset_free(&data->validation);
    ckpt_pool_free(&data->pool);
}
