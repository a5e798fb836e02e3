#include "job/job.h"

#include <inttypes.h>
#include <string.h>

#include "base/nearest.h"
#include "graph/batch_axis.h"
#include "graph/loss_choice.h"
#include "graph/op.h"
#include "graph/rewrite.h"
#include "planner/plan_file.h"
#include "proto/onnx_file.h"

ckpt_job_options ckpt_job_options_for(const char *model_path) {
    return (ckpt_job_options){.model_path = model_path, .ignore_index = -100};
}

static const ckpt_graph *evaluation_of(const ckpt_job *job) { return job->forward_only ? NULL : &job->evaluation; }

static ckpt_model_options model_options(const ckpt_job_options *o, const ckpt_loss_data *data, int64_t batch) {
    return (ckpt_model_options){.batch = batch, .dim_count = o->dim_count, .dim = o->dim, .untie = o->untie,
                                .train = o->train, .freeze = o->freeze, .dropout = (float)o->dropout,
                                .dropout_rng = o->dropout_rng, .loss_auto = true, .wish_count = o->loss_count,
                                .wish = o->loss, .output = o->loss_output, .class_axis = (int)o->class_axis,
                                .smoothing = (float)o->label_smoothing, .weights = o->class_weights, .ignores = true,
                                .ignore = o->ignore_index, .data = data};
}

static ckpt_status load_model(const ckpt_job_options *o, const ckpt_loss_data *data, int64_t batch, ckpt_model *model,
                              ckpt_error *err) {
    const ckpt_model_options options = model_options(o, data, batch);
    const ckpt_status status = ckpt_model_load(o->model_path, &options, model, err);
    if (status != CKPT_USAGE || !o->loss_output_hint) return status;
    return ckpt_fail(err, status, "%s; %s", err->message, o->loss_output_hint);
}

/* The batch when it is not given: as the model would have it, which is known once it is loaded. */
static ckpt_status find_batch(const ckpt_job_options *o, ckpt_job *job, ckpt_error *err) {
    job->batch = o->batch;
    if (job->batch || !o->micro_batch) return CKPT_OK;
    ckpt_model model;
    CKPT_TRY(load_model(o, NULL, 0, &model, err));
    job->batch = model.graph.batch;
    ckpt_model_free(&model);
    if (job->batch % o->micro_batch == 0) return CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "--micro-batch %" PRId64 " does not divide the model's batch of %" PRId64
                     "; give --batch", o->micro_batch, job->batch);
}

enum { MAX_DIM_NAMES = 64 };

/* The symbolic dimensions of the file's inputs; returns how many. */
static int find_dim_names(const ckpt_model *model, const char *names[MAX_DIM_NAMES]) {
    const Onnx__GraphProto *graph = model->file->model->graph;
    int count = 0;
    for (size_t i = 0; i < graph->n_input; i++) {
        const Onnx__TypeProto *type = graph->input[i]->type;
        const bool tensor = type && type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE; /* one of a union */
        const Onnx__TensorShapeProto *shape = tensor ? type->tensor_type->shape : NULL;
        for (size_t a = 0; shape && a < shape->n_dim && count < MAX_DIM_NAMES; a++)
            if (shape->dim[a]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM)
                names[count++] = shape->dim[a]->dim_param;
    }
    return count;
}

/* A --dim that names nothing would otherwise be a typing error that nobody sees. */
static ckpt_status check_dims(const ckpt_job_options *o, const ckpt_model *model, ckpt_error *err) {
    const char *names[MAX_DIM_NAMES] = {NULL};
    const int count = o->dim_count ? find_dim_names(model, names) : 0;
    for (int d = 0; d < o->dim_count; d++) {
        bool found = count == MAX_DIM_NAMES;
        for (int i = 0; i < count; i++) found = found || (names[i] && strcmp(names[i], o->dim[d].name) == 0);
        if (found) continue;
        const char *near = ckpt_nearest(o->dim[d].name, names, count);
        if (!near) near = names[0];
        return ckpt_fail(err, CKPT_USAGE, "--dim %s: no input of %s has a dimension of that name%s%s%s", o->dim[d].name,
                         o->model_path, near ? "; there is '" : "", near ? near : "", near ? "'" : "");
    }
    return CKPT_OK;
}

/* --dim may name the batch dimension too, and wins over --batch. */
static ckpt_status check_batch(const ckpt_job_options *o, int64_t asked, const ckpt_model *model, ckpt_error *err) {
    if (!asked || model->graph.batch == asked) return CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "--dim makes the batch %" PRId64 ", not %" PRId64 "; give it with --%s alone",
                     model->graph.batch, asked, o->micro_batch ? "batch and --micro-batch" : "batch");
}

/* A loss that the file computes may be no function of those of a batch's parts. */
static ckpt_status check_parts(const ckpt_job *job, ckpt_error *err) {
    for (int i = 0; i < job->model.loss_count && job->parts > 1; i++)
        if (!job->model.losses[i].in_parts)
            return ckpt_fail(err, CKPT_USAGE,
                             "--micro-batch: the loss '%s', which the file computes, does not show to be a mean or a sum over "
                             "the samples; leave out --micro-batch",
                             job->model.losses[i].name);
    return CKPT_OK;
}

/* like: the job's training graph for a larger batch, or NULL. */
static ckpt_status make_graphs(const ckpt_job_options *o, const ckpt_graph *like, ckpt_job *job, ckpt_error *err) {
    ckpt_training_options training = {.like = like, .optimizer = o->optimizer, .accumulate = job->parts > 1,
                                      .bf16 = o->precision == CKPT_PRECISION_BF16, .bf16_kernels = job->traits->bf16_kernels};
    ckpt_training_defaults(&training);
    if (!job->forward_only) return ckpt_training_graphs_make(&job->model.graph, &training, &job->evaluation, err);
    if (!training.bf16) return CKPT_OK;
    CKPT_TRY(ckpt_rewrite_to_bf16(&job->model.graph, err));
    return ckpt_rewrite_add_casts(&job->model.graph, training.bf16_kernels, err);
}

/* The nodes of the model at this batch that work across samples, as messages name them: *names lists `most` of them;
 * how many there are, -1 on failure. BatchNormalization's statistics are left out on demand: they suit any batch. */
static int name_across(const ckpt_graph *graph, bool with_statistics, int most, ckpt_pool *pool, const char **names,
                       ckpt_error *err) {
    bool *across = ckpt_pool_array(pool, graph->node_count, bool);
    const char *last = NULL;
    int count = 0;
    *names = "";
    if (!across) return ckpt_fail(err, CKPT_NOMEM, "out of host memory"), -1;
    if (ckpt_batch_find_across(graph, across, err) != CKPT_OK) return -1;
    for (int n = 0; n < graph->forward_count; n++) {
        const char *name = graph->node[n].origin ? graph->node[n].origin : graph->node[n].name;
        if (!across[n] || (!with_statistics && graph->node[n].op == CKPT_OP_BATCH_STATS)) continue;
        if (last && strcmp(last, name) == 0) continue; /* a node of the file may be several here */
        if (count++ < most) *names = ckpt_pool_printf(pool, "%s%s%s", *names, last ? ", " : "", name);
        if (!*names) return ckpt_fail(err, CKPT_NOMEM, "out of host memory"), -1;
        last = name;
    }
    return count;
}

/* A file whose first input has its batch as a number says nothing of other batches. It may be run with them where every
 * node keeps samples apart: seen at twice the batch, where a number in the file that stands for the batch, as of a Reshape,
 * would put two samples into the place of one. */
static ckpt_status check_fixed(const ckpt_job_options *o, const ckpt_job *job, ckpt_error *err) {
    const int64_t fixed = job->model.fixed_batch;
    if (!fixed || job->model.graph.batch == fixed || fixed > INT32_MAX) return CKPT_OK;
    const ckpt_model_options options = model_options(o, job->data, 2 * fixed);
    ckpt_model probe;
    ckpt_pool scratch = {0};
    const char *names;
    ckpt_status status = ckpt_model_resize(&job->model, &options, &probe, err);
    if (status == CKPT_MODEL)
        status = ckpt_fail(err, CKPT_USAGE, "%s; the file fixes a batch of %" PRId64 ": --batch %" PRId64 " suits it", err->message,
                           fixed, fixed);
    if (status != CKPT_OK) return status;
    const int count = name_across(&probe.graph, false, 1, &scratch, &names, err);
    if (count < 0) status = CKPT_NOMEM;
    if (count > 0)
        status = ckpt_fail(err, CKPT_USAGE, "%s: the file fixes a batch of %" PRId64 ", and its %s works across samples: with %"
                           PRId64 " it would be another network, --batch %" PRId64 " suits it", o->model_path, fixed, names,
                           job->model.graph.batch, fixed);
    ckpt_pool_free(&scratch);
    ckpt_model_free(&probe);
    return status;
}

/* Messages about the file begin with its path. */
static ckpt_status in_file(const ckpt_job_options *o, ckpt_status status, ckpt_error *err) {
    if (status != CKPT_MODEL || strncmp(err->message, o->model_path, strlen(o->model_path)) == 0) return status;
    return ckpt_fail_in(err, "%s", o->model_path);
}

ckpt_status ckpt_job_load(const ckpt_job_options *o, const ckpt_loss_data *data, const ckpt_traits *traits, ckpt_job *job,
                          ckpt_error *err) {
    *job = (ckpt_job){.traits = traits, .data = data};
    CKPT_TRY(find_batch(o, job, err));
    const int64_t asked = o->micro_batch ? o->micro_batch : job->batch;
    CKPT_TRY(load_model(o, data, asked, &job->model, err));
    if (!job->batch) job->batch = job->model.graph.batch;
    job->parts = o->micro_batch ? job->batch / o->micro_batch : 1;
    job->forward_only = job->model.loss_count == 0;
    ckpt_status status = check_dims(o, &job->model, err);
    if (status == CKPT_OK) status = check_parts(job, err);
    if (status == CKPT_OK) status = check_batch(o, asked, &job->model, err);
    if (status == CKPT_OK) status = check_fixed(o, job, err);
    if (status == CKPT_OK) status = in_file(o, make_graphs(o, NULL, job, err), err);
    if (status == CKPT_OK) status = ckpt_costs_flops(&job->model.graph, &job->cost_pool, &job->costs, err);
    if (status != CKPT_OK) ckpt_job_free(job);
    return status;
}

ckpt_status ckpt_job_resize(const ckpt_job *job, const ckpt_job_options *o, int64_t samples, ckpt_job *resized, ckpt_error *err) {
    const ckpt_model_options options = model_options(o, job->data, samples);
    *resized = (ckpt_job){.traits = job->traits, .data = job->data, .batch = samples, .parts = job->parts,
                          .forward_only = job->forward_only};
    CKPT_TRY(ckpt_model_resize(&job->model, &options, &resized->model, err));
    const ckpt_graph *like = samples < job->model.graph.batch ? &job->model.graph : NULL;
    ckpt_status status = check_fixed(o, resized, err);
    if (status == CKPT_OK) status = in_file(o, make_graphs(o, like, resized, err), err);
    if (status != CKPT_OK) ckpt_job_free(resized);
    return status;
}

ckpt_status ckpt_job_plan_strategy(const ckpt_job *job, const ckpt_plan_options *strategy, ckpt_plan **plan, ckpt_error *err) {
    ckpt_plan_options options = *strategy;
    options.eval = evaluation_of(job);
    options.costs = &job->costs;
    return ckpt_plan_make(&job->model.graph, &options, job->traits, NULL, plan, err);
}

static ckpt_status read_plan(const ckpt_job *job, const char *path, ckpt_plan **plan, ckpt_error *err) {
    const ckpt_traits *traits = job->traits;
    CKPT_TRY(ckpt_plan_read(path, &job->model.graph, evaluation_of(job), plan, err));
    /* The same device, and laid out as it needs it. */
    if (strcmp((*plan)->device, traits->device) == 0 && (*plan)->alignment_bytes % traits->alignment_bytes == 0 &&
        (*plan)->input_buffers == traits->input_buffers)
        return CKPT_OK;
    ckpt_fail(err, CKPT_USAGE, "%s: the plan was made for the device %s; make one with ckptplan --device %s", path,
              (*plan)->device, traits->device);
    ckpt_plan_free(*plan);
    *plan = NULL;
    return CKPT_USAGE;
}

ckpt_status ckpt_job_budget(const ckpt_job_options *o, const ckpt_traits *traits, uint64_t *bytes, ckpt_error *err) {
    *bytes = o->budget_bytes;
    if (!o->budget_auto) return CKPT_OK;
    if (strcmp(traits->device, "cpu") != 0)
        return ckpt_fail(err, CKPT_USAGE, "--budget auto: only ckpttrain can ask the %s device what is free; give a size",
                         traits->device);
    return ckpt_device_host_budget(bytes, err);
}

ckpt_status ckpt_job_plan(const ckpt_job *job, const ckpt_job_options *o, ckpt_plan **plan, ckpt_error *err) {
    *plan = NULL;
    if (o->plan) return read_plan(job, o->plan, plan, err);
    ckpt_plan_options options = {.strategy = o->strategy, .every = (int)o->every, .layers = o->layers};
    CKPT_TRY(ckpt_job_budget(o, job->traits, &options.budget_bytes, err));
    return ckpt_job_plan_strategy(job, &options, plan, err);
}

ckpt_plan_compute ckpt_job_compute(const ckpt_job *job, const ckpt_plan *plan) {
    ckpt_plan_compute sum = {0};
    for (int i = 0; i < plan->step_count; i++) {
        const ckpt_node *node = &job->model.graph.node[plan->step[i].node];
        const uint64_t times = node->when == CKPT_ALWAYS ? (uint64_t)job->parts : 1;
        const uint64_t flops = times * ckpt_node_cost(&job->model.graph, plan->step[i].node).flops;
        *(plan->step[i].recompute ? &sum.recompute_cost : &sum.step_cost) += times * plan->costs.node[plan->step[i].node];
        if (plan->step[i].recompute) {
            sum.recompute_flops += flops;
            sum.recomputed_nodes += (int)times;
        } else if (node->phase == CKPT_FORWARD) {
            sum.forward_flops += flops;
        } else {
            sum.backward_flops += flops;
        }
    }
    return sum;
}

static double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

double ckpt_compute_recompute_fraction(const ckpt_plan_compute *c) {
    return share((double)c->recompute_flops, (double)c->forward_flops + (double)c->backward_flops);
}

double ckpt_compute_cost_fraction(const ckpt_plan_compute *c) {
    return share((double)c->recompute_cost, (double)c->step_cost);
}

double ckpt_compute_gap(const ckpt_plan_compute *c, uint64_t lower_bound_cost) {
    const double least = (double)c->step_cost + (double)lower_bound_cost;
    return share((double)c->recompute_cost - (double)lower_bound_cost, least);
}

int ckpt_job_name_across(const ckpt_job *job, const ckpt_job_options *o, int most, ckpt_pool *pool, const char **names,
                         ckpt_error *err) {
    ckpt_job two = {0};
    *names = "";
    /* In parts of one sample no node sees two. */
    const bool single = job->model.graph.batch == 1;
    if (single && ckpt_job_resize(job, o, 2, &two, err) != CKPT_OK) return -1;
    const int count = name_across(single ? &two.model.graph : &job->model.graph, true, most, pool, names, err);
    ckpt_job_free(&two);
    return count;
}

int64_t ckpt_job_parameter_count(const ckpt_job *job) {
    int64_t count = 0;
    for (int t = 0; t < job->model.graph.tensor_count; t++)
        if (job->model.graph.tensor[t].role == CKPT_ROLE_PARAM) count += job->model.graph.tensor[t].count;
    return count;
}

void ckpt_job_free(ckpt_job *job) {
    ckpt_pool_free(&job->cost_pool);
    ckpt_graph_free(&job->evaluation);
    ckpt_model_free(&job->model);
    *job = (ckpt_job){0};
}
