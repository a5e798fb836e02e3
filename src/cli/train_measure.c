#include "cli/train_measure.h"

#include "cli/train_session.h"
#include "job/cost_model.h"
#include "runtime/measure.h"

static ckpt_exec_options exec_options(const ckpt_cli_options *o, const ckpt_backend *backend) {
    return (ckpt_exec_options){.backend = backend, .preserve_rng = true,
                               .device = {.index = o->device_index, .threads = (int)o->job.threads,
                                          .precision = o->job.precision}};
}

/* Always with all threads: the figures are the machine's, not a command line's. */
static void measure_rates(const ckpt_cli_options *o, const ckpt_backend *backend) {
    const ckpt_device_options device = {.index = o->device_index, .precision = ckpt_cost_precision(&o->job, backend->name)};
    ckpt_rates rates;
    ckpt_error own; /* round figures stand in */
    if (ckpt_measure_rates(backend, &device, &rates, &own) == CKPT_OK) (void)ckpt_cost_cache_put_rates(&rates, &own);
}

/* Opened under the plan; NULL where the device has no room. */
static ckpt_status open_under(const ckpt_cli_options *o, const ckpt_backend *backend, const ckpt_job *job, ckpt_strategy strategy,
                              ckpt_plan **plan, ckpt_exec **exec, ckpt_error *err) {
    const ckpt_exec_options options = exec_options(o, backend);
    *exec = NULL;
    CKPT_TRY(ckpt_job_plan_strategy(job, &(ckpt_plan_options){.strategy = strategy}, plan, err));
    ckpt_status status = CKPT_NOMEM;
    if (strategy == CKPT_STRATEGY_MIN || !o->job.budget_bytes || (*plan)->memory.total <= o->job.budget_bytes)
        status = ckpt_exec_open(&options, &job->model.graph, *plan, NULL, NULL, exec, err);
    if (status == CKPT_OK) status = ckpt_session_upload(job, *plan, *exec, err);
    if (status == CKPT_OK) return status;
    ckpt_exec_close(*exec);
    ckpt_plan_free(*plan);
    *exec = NULL;
    *plan = NULL;
    return status;
}

static ckpt_status measure_nodes(const ckpt_cli_options *o, const ckpt_backend *backend, const ckpt_job *job,
                                 const ckpt_train_data *data, double *seconds, ckpt_error *err) {
    ckpt_plan *plan;
    ckpt_exec *exec;
    ckpt_status status = open_under(o, backend, job, CKPT_STRATEGY_NONE, &plan, &exec, err);
    if (status == CKPT_NOMEM) status = open_under(o, backend, job, CKPT_STRATEGY_MIN, &plan, &exec, err);
    if (status != CKPT_OK) return status;
    const ckpt_train_options training = {.exec = exec, .graph = &job->model.graph, .data = &data->training,
                                         .batch = job->model.graph.batch};
    status = ckpt_measure_nodes(&training, plan, seconds, err);
    ckpt_exec_close(exec);
    ckpt_plan_free(plan);
    return status;
}

static ckpt_status profile(const ckpt_cli_options *o, const ckpt_backend *backend, ckpt_job *job,
                           const ckpt_train_data *data, ckpt_error *err) {
    const ckpt_profile_key key = ckpt_job_profile_key(job, &o->job);
    double *seconds = ckpt_pool_array(&job->cost_pool, key.node_count, double);
    ckpt_error own; /* what cannot be kept serves this run all the same */
    if (!seconds) return ckpt_fail(err, CKPT_NOMEM, "out of host memory while measuring");
    if (measure_nodes(o, backend, job, data, seconds, err) != CKPT_OK) return ckpt_fail_in(err, "--profile");
    job->profile = seconds;
    (void)ckpt_cost_cache_put_profile(&key, seconds, &own);
    return CKPT_OK;
}

ckpt_status ckpt_train_measure(const ckpt_cli_options *o, const ckpt_backend *backend, ckpt_job *job,
                               const ckpt_train_data *data, ckpt_error *err) {
    ckpt_status status = CKPT_OK;
    if (o->job.plan || !ckpt_cost_needs_measuring(job, &o->job, backend->name)) return CKPT_OK;
    const int lock = ckpt_cost_cache_lock(backend->name);
    /* Another process may have measured while this one waited. */
    const bool needed = ckpt_cost_needs_measuring(job, &o->job, backend->name);
    if (needed && o->job.profile) status = profile(o, backend, job, data, err);
    else if (needed && lock >= 0) measure_rates(o, backend);
    ckpt_cost_cache_unlock(lock);
    return status;
}
