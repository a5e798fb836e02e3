/* The smaller batches of a run: the last one of an epoch, and the last one of the validation data.
 *
 *     ckpt_train_sizes sizes;
 *     CKPT_TRY(ckpt_train_sizes_make(&options, &job, &data, &plans, &sizes, err));   // before anything is allocated
 *     CKPT_TRY(ckpt_train_sizes_add(&sizes, CKPT_SIZE_PLAN, exec, err));             // behind ckpt_exec_open
 *     ckpt_train_sizes_free(&sizes);                                                 // behind ckpt_exec_close
 *
 * Each is the model imported again for as many samples as there are, under plans within those of the whole batch
 * (planner/plan_size.h). Where the model cannot be run with so few the samples are refused or, with --drop-last, left out.
 */
#ifndef CKPT_TRAIN_SIZES_H
#define CKPT_TRAIN_SIZES_H

#include "cli/options.h"
#include "cli/train_data.h"
#include "runtime/exec.h"

enum { CKPT_SIZE_PLAN, CKPT_SIZE_REFERENCE, CKPT_SIZE_PLANS }; /* the run's plan, and the one that --verify compares with */

typedef struct ckpt_train_size {
    bool train, evaluate; /* what it is for */
    ckpt_job job;         /* its graphs */
    ckpt_plan *plan[CKPT_SIZE_PLANS], *evaluation_plan;
    int constant_count;
    ckpt_exec_constant *constant; /* those that differ from the whole batch's */
    ckpt_pool pool;
} ckpt_train_size;

typedef struct ckpt_train_sizes {
    int count;
    ckpt_train_size size[2];
    /* Samples that are left out of each epoch and of validation, and how many stay. */
    int64_t dropped, dropped_validation, train_samples, validation_samples;
} ckpt_train_sizes;

/* plan: by the enum, NULL for one that the run does not have; evaluation_plan: of job->evaluation. */
typedef struct ckpt_train_plans {
    const ckpt_plan *plan[CKPT_SIZE_PLANS], *evaluation_plan;
} ckpt_train_plans;

/* CKPT_USAGE: the last batch is one that the model cannot be run with, or everything would be left out; the message says
 * why, and what to do. */
ckpt_status ckpt_train_sizes_make(const ckpt_cli_options *options, const ckpt_job *job, const ckpt_train_data *data,
                                  const ckpt_train_plans *plans, ckpt_train_sizes *sizes, ckpt_error *err);

/* Adds them to the executor of one of the plans. */
ckpt_status ckpt_train_sizes_add(const ckpt_train_sizes *sizes, int plan, ckpt_exec *exec, ckpt_error *err);

/* Says what is left out, and where a single sample has no variance. */
void ckpt_train_sizes_say(const ckpt_train_sizes *sizes, const ckpt_job *job, const char *program);

void ckpt_train_sizes_free(ckpt_train_sizes *sizes);

#endif
