#include "job/cost_model.h"

ckpt_profile_key ckpt_job_profile_key(const ckpt_job *job, const ckpt_job_options *o) {
    return (ckpt_profile_key){.device = job->traits->device, .graph_hash = job->model.graph.hash, .threads = o->threads,
                              .node_count = job->model.graph.node_count};
}

static bool find_profile(const ckpt_job *job, const ckpt_job_options *o, ckpt_pool *pool, double **seconds) {
    const ckpt_profile_key key = ckpt_job_profile_key(job, o);
    *seconds = ckpt_pool_array(pool, key.node_count, double);
    return *seconds && ckpt_cost_cache_profile(&key, *seconds);
}

ckpt_precision ckpt_cost_precision(const ckpt_job_options *o, const char *device) {
    if (o->precision == CKPT_PRECISION_BF16 && !ckpt_device_traits(device)->bf16_kernels) return CKPT_PRECISION_FP32;
    return o->precision;
}

ckpt_status ckpt_job_cost(ckpt_job *job, const ckpt_job_options *o, ckpt_error *err) {
    const char *device = job->traits->device;
    const ckpt_graph *graph = &job->model.graph;
    double *seconds;
    const ckpt_precision precision = ckpt_cost_precision(o, device);
    if (o->cost == CKPT_COST_MODEL_NOMINAL || !ckpt_cost_cache_rates(device, precision, &job->rates))
        job->rates = *ckpt_rates_nominal(device, precision);
    if (o->profile) {
        if (job->profile) seconds = job->profile;
        else if (!find_profile(job, o, &job->cost_pool, &seconds))
            return ckpt_fail(err, CKPT_FAILED, "--profile: nothing is kept of what was measured of this model on the %s; set "
                             "XDG_CACHE_HOME to a folder that can be written", device);
        return ckpt_costs_measured(graph, seconds, "profile: each node measured on this machine", &job->cost_pool, &job->costs,
                                   err);
    }
    if (o->cost == CKPT_COST_MODEL_FLOPS) return ckpt_costs_flops(graph, &job->cost_pool, &job->costs, err);
    return ckpt_costs_roofline(graph, &job->rates, &job->cost_pool, &job->costs, err);
}

double ckpt_job_step_seconds(const ckpt_job *job, const ckpt_plan *plan) {
    return ckpt_step_seconds(&job->model.graph, plan, job->parts, &job->rates);
}

bool ckpt_cost_needs_measuring(const ckpt_job *job, const ckpt_job_options *o, const char *device) {
    ckpt_pool scratch = {0};
    ckpt_rates rates;
    double *seconds;
    bool needed = o->cost == CKPT_COST_MODEL_ROOFLINE && !o->profile &&
                  !ckpt_cost_cache_rates(device, ckpt_cost_precision(o, device), &rates);
    if (o->profile) needed = !find_profile(job, o, &scratch, &seconds);
    ckpt_pool_free(&scratch);
    return needed;
}
