/* --max-batch: the largest batch that fits a budget, and with --micro-batch auto the fastest.
 *
 *     ckpt_batch_answer answer;
 *     ckpt_max_batch_find(&options, traits, &answer, &err);
 *     options.job.batch = answer.batch, options.job.micro_batch = answer.micro_batch;   // what to plan then
 *
 * Every size that is looked at is loaded and planned. That the answer is the largest rests on memory growing with
 * the batch; that it fits, and that the next one does not, is shown by plans.
 */
#ifndef CKPT_MAX_BATCH_H
#define CKPT_MAX_BATCH_H

#include "cli/options.h"
#include "planner/core/step_time.h"

enum { CKPT_BATCH_TRIALS = 40 };

/* A size that was planned under the budget. */
typedef struct ckpt_batch_trial {
    int64_t batch, micro_batch; /* equal where the step has one part */
    uint64_t total_bytes;
    double recompute_fraction;
    double seconds; /* of a step, predicted */
} ckpt_batch_trial;

typedef struct ckpt_batch_answer {
    int64_t batch, micro_batch; /* what was chosen; micro_batch 0: one part */
    uint64_t budget_bytes;
    bool divisors;        /* the sizes below are micro-batches, divisors of --batch; else batches */
    int64_t largest;      /* with any plan */
    uint64_t largest_minimum_bytes;
    int64_t refused;      /* the next size; 0 where there is none */
    ckpt_plan_minimum refused_minimum; /* of that size */
    int planned;          /* sizes that the search planned */
    ckpt_rates rates; /* what the trials' seconds assume */
    int trial_count, chosen;
    ckpt_batch_trial trial[CKPT_BATCH_TRIALS]; /* ascending */
} ckpt_batch_answer;

/* CKPT_INFEASIBLE names what a single sample takes. Otherwise errors are those of ckpt_job_load and ckpt_plan_make. */
ckpt_status ckpt_max_batch_find(const ckpt_cli_options *options, const ckpt_traits *traits, ckpt_batch_answer *answer,
                                ckpt_error *err);

#endif
