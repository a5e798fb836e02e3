/* From a model file to a plan: what ckptplan shows and what ckpttrain runs are made here, by the same calls.
 *
 *     ckpt_job_options options = ckpt_job_options_for("model.onnx");
 *     ckpt_job job;
 *     ckpt_plan *plan;
 *     options.strategy = CKPT_STRATEGY_MIN;
 *     ckpt_job_load(&options, NULL, traits, &job, &err);
 *     ckpt_job_plan(&job, &options, &plan, &err);
 *     ckpt_job_resize(&job, &options, 10, &last, &err);      // for the last batch of an epoch, which has 10 samples
 *     ...
 *     ckpt_plan_free(plan);
 *     ckpt_job_free(&job);
 */
#ifndef CKPT_JOB_H
#define CKPT_JOB_H

#include "graph/autodiff.h"
#include "import/model.h"
#include "job/devices.h"
#include "planner/core/step_time.h"
#include "planner/plan.h"

enum { CKPT_JOB_MAX_DIMS = 16 };

/* Where a recomputation's cost comes from, as --cost says it. */
typedef enum ckpt_cost_model { CKPT_COST_MODEL_ROOFLINE, CKPT_COST_MODEL_NOMINAL, CKPT_COST_MODEL_FLOPS } ckpt_cost_model;

/* What is planned, and how. Zero is the default of every field but those that ckpt_job_options_for sets. The strings are
 * the caller's. */
typedef struct ckpt_job_options {
    const char *model_path;
    int64_t batch, micro_batch; /* 0: not given */
    int dim_count;
    ckpt_dim_binding dim[CKPT_JOB_MAX_DIMS];
    ckpt_optimizer optimizer;
    double dropout; /* 0: none is added */
    ckpt_drop_rng dropout_rng;
    ckpt_untie untie;
    const char *train, *freeze; /* lists of tensors, modules and layers, or NULL */

    int loss_count; /* 0: one, chosen automatically */
    ckpt_loss_wish loss[CKPT_MAX_TARGETS];
    const char *loss_output;      /* which of the model's outputs, or NULL */
    const char *loss_output_hint; /* what to say where the model has no such output, or NULL */
    int64_t class_axis;           /* 0: not given */
    int64_t ignore_index;
    double label_smoothing;
    const char *class_weights; /* "balanced", a file, or NULL */

    ckpt_device_choice device;
    ckpt_precision precision;
    int64_t threads; /* 0: as many as there are */

    ckpt_strategy strategy;
    int64_t every;
    const char *layers;
    bool budget_auto;
    uint64_t budget_bytes;
    ckpt_cost_model cost;
    bool profile;
    const char *plan; /* a plan's file to read instead of making one, or NULL */
} ckpt_job_options;

/* The defaults, for this file. */
ckpt_job_options ckpt_job_options_for(const char *model_path);

typedef struct ckpt_job {
    const ckpt_traits *traits; /* of the device that the graphs are for */
    const ckpt_loss_data *data; /* that the losses were chosen by, or NULL */
    ckpt_model model;      /* model.graph is the training graph; with --loss none the forward pass */
    bool forward_only;
    ckpt_graph evaluation; /* empty when forward_only; tensor ids as in the training graph */
    int64_t batch;         /* samples of a step: `parts` times model.graph.batch */
    int64_t parts;         /* micro-batches of a step */
    ckpt_pool cost_pool;
    ckpt_costs costs;      /* what plans minimize: FLOPs until ckpt_job_cost (cost_model.h) */
    ckpt_rates rates;      /* of the device; likewise */
    double *profile;       /* seconds by node, where this run measured them itself; else NULL */
} ckpt_job;

/* Loads the model, with the losses that suit the data (NULL: they are not known), and makes both graphs as the device of
 * `traits` can run them; `data` must outlive the job. Errors as ckpt_model_load's; CKPT_USAGE for a batch or dimension that the
 * model does not have. */
ckpt_status ckpt_job_load(const ckpt_job_options *options, const ckpt_loss_data *data, const ckpt_traits *traits,
                          ckpt_job *job, ckpt_error *err);

/* The same job, of the same file, for micro-batches of `samples` samples; it has no costs. `job` must outlive it. Errors
 * say what cannot be done with so many: CKPT_MODEL, as of a Reshape to a fixed number of rows, and CKPT_USAGE where the
 * file fixes its batch and the graph shows that another would be another network. */
ckpt_status ckpt_job_resize(const ckpt_job *job, const ckpt_job_options *options, int64_t samples, ckpt_job *resized,
                            ckpt_error *err);

/* The plan that the options ask for: made, or read from --plan. The caller frees it. */
ckpt_status ckpt_job_plan(const ckpt_job *job, const ckpt_job_options *options, ckpt_plan **plan, ckpt_error *err);

/* The same with a strategy of the caller's; its eval is filled in. */
ckpt_status ckpt_job_plan_strategy(const ckpt_job *job, const ckpt_plan_options *strategy, ckpt_plan **plan, ckpt_error *err);

/* --budget in bytes, `auto` found out. */
ckpt_status ckpt_job_budget(const ckpt_job_options *options, const ckpt_traits *traits, uint64_t *bytes,
                            ckpt_error *err);

/* What a whole step computes: plan->compute is for one micro-batch. */
ckpt_plan_compute ckpt_job_compute(const ckpt_job *job, const ckpt_plan *plan);

/* Recomputed share of the FLOPs, and of the cost, of a step without recomputation; and by how much the step costs more
 * than with the least recomputation that is not excluded. */
double ckpt_compute_recompute_fraction(const ckpt_plan_compute *compute);
double ckpt_compute_cost_fraction(const ckpt_plan_compute *compute);
double ckpt_compute_gap(const ckpt_plan_compute *compute, uint64_t lower_bound_cost);

/* The nodes of the model that work across samples, as messages name them, separated by commas: *names lists `most` of them;
 * returns how many there are, -1 on failure. With micro-batches they see one part of the batch at a time. */
int ckpt_job_name_across(const ckpt_job *job, const ckpt_job_options *options, int most, ckpt_pool *pool, const char **names,
                         ckpt_error *err);

/* Trained values of the model. */
int64_t ckpt_job_parameter_count(const ckpt_job *job);

void ckpt_job_free(ckpt_job *job);

#endif
