/* Which costs a plan minimizes: --cost and --profile, worked in before anything is planned.
 *
 *     CKPT_TRY(ckpt_job_load(&options, NULL, traits, &job, err));
 *     CKPT_TRY(ckpt_job_cost(&job, &options, err));       // job.costs, job.rates
 *
 * Times come from what was measured once on this machine (cost_cache.h), by ckpttrain, which has the kernels: itself where
 * it runs, or started by ckptplan. Where nothing was measured and nothing can be, round figures stand in, and the plan says so.
 * Both programs find the same figures, so that with the same options they make the same plan.
 */
#ifndef CKPT_COST_MODEL_H
#define CKPT_COST_MODEL_H

#include "job/cost_cache.h"
#include "job/job.h"

/* Errors: CKPT_FAILED where --profile is asked for and nothing was measured; CKPT_NOMEM. */
ckpt_status ckpt_job_cost(ckpt_job *job, const ckpt_job_options *options, ckpt_error *err);

/* Of the products that the precision asked for leads to: a device without kernels in bf16 makes them of floats. */
ckpt_precision ckpt_cost_precision(const ckpt_job_options *options, const char *device);

/* Seconds of a step under the plan, predicted. */
double ckpt_job_step_seconds(const ckpt_job *job, const ckpt_plan *plan);

/* Whether ckpt_job_cost would find less than was asked for. `job` may be NULL without --profile. */
bool ckpt_cost_needs_measuring(const ckpt_job *job, const ckpt_job_options *options, const char *device);

/* What a profile of the job is kept under. */
ckpt_profile_key ckpt_job_profile_key(const ckpt_job *job, const ckpt_job_options *options);

#endif
