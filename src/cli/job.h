/* From a command line to a plan: what ckptplan shows and what ckpttrain runs are made here, by the same calls.
 *
 *     ckpt_job job;
 *     ckpt_plan *plan;
 *     ckpt_job_load(&options, NULL, traits, &job, &err);
 *     ckpt_job_plan(&job, &options, traits, &plan, &err);
 *     ckpt_job_resize(&job, &options, 10, &last, &err);      // for the last batch of an epoch, which has 10 samples
 *     ...
 *     ckpt_plan_free(plan);
 *     ckpt_job_free(&job);
 */
#ifndef CKPT_JOB_H
#define CKPT_JOB_H

#include "cli/options.h"
#include "import/model.h"
#include "planner/core/step_time.h"

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
ckpt_status ckpt_job_load(const ckpt_cli_options *options, const ckpt_loss_data *data, const ckpt_traits *traits,
                          ckpt_job *job, ckpt_error *err);

/* The same job, of the same file, for micro-batches of `samples` samples; it has no costs. `job` must outlive it. Errors
 * say what cannot be done with so many: CKPT_MODEL, as of a Reshape to a fixed number of rows, and CKPT_USAGE where the
 * file fixes its batch and the graph shows that another would be another network. */
ckpt_status ckpt_job_resize(const ckpt_job *job, const ckpt_cli_options *options, int64_t samples, ckpt_job *resized,
                            ckpt_error *err);

/* The plan that the options ask for: made, or read from --plan. The caller frees it. */
ckpt_status ckpt_job_plan(const ckpt_job *job, const ckpt_cli_options *options, const ckpt_traits *traits,
                          ckpt_plan **plan, ckpt_error *err);

/* --budget in bytes, `auto` found out. */
ckpt_status ckpt_job_budget(const ckpt_cli_options *options, const ckpt_traits *traits, uint64_t *bytes,
                            ckpt_error *err);

/* The same with a strategy of the caller's; its eval is filled in. */
ckpt_status ckpt_job_plan_strategy(const ckpt_job *job, const ckpt_plan_options *strategy, const ckpt_traits *traits,
                                   ckpt_plan **plan, ckpt_error *err);

/* What a whole step computes: plan->compute is for one micro-batch. */
ckpt_plan_compute ckpt_job_compute(const ckpt_job *job, const ckpt_plan *plan);

/* Recomputed share of the FLOPs, and of the cost, of a step without recomputation; and by how much the step costs more
 * than with the least recomputation that is not excluded. */
double ckpt_compute_recompute_fraction(const ckpt_plan_compute *compute);
double ckpt_compute_cost_fraction(const ckpt_plan_compute *compute);
double ckpt_compute_gap(const ckpt_plan_compute *compute, uint64_t lower_bound_cost);

/* Says which sparse initializers of the file are dense ones from here on. */
void ckpt_job_say_sparse(const ckpt_job *job, const char *program);

/* Says which weights of the file were shared, what became of them and why. */
void ckpt_job_say_ties(const ckpt_job *job, const char *program);

/* With micro-batches: names the nodes that work across samples and so see a part of the batch at a time. */
void ckpt_job_say_parts(const ckpt_job *job, const ckpt_cli_options *options, const char *program);

/* Trained values of the model. */
int64_t ckpt_job_parameter_count(const ckpt_job *job);

void ckpt_job_free(ckpt_job *job);

#endif
