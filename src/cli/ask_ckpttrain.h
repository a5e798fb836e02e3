/* ckptplan has no kernels: what has to be measured is measured by the ckpttrain beside it.
 *
 *     CKPT_TRY(ckpt_ask_ckpttrain(&options, &job, "cpu", argv, err));
 *     CKPT_TRY(ckpt_job_cost(&job, &options, err));                    // finds what was measured
 */
#ifndef CKPT_ASK_CKPTTRAIN_H
#define CKPT_ASK_CKPTTRAIN_H

#include "job/job.h"

/* The first argument that makes ckpttrain measure for a command line of ckptplan, which follows it, and end. */
#define CKPT_MEASURE_WORD "--measure-for-ckptplan"

/* Where a plan by these options rests on measurements and there are none yet, starts ckpttrain with this program's own
 * command line argv and waits for it. `job` may be NULL while there is none: --profile is then left for later. What the
 * device does in a second can be done without: no ckpttrain, or no place to keep it, is no error. CKPT_FAILED: --profile
 * could not be measured. */
ckpt_status ckpt_ask_ckpttrain(const ckpt_job_options *options, const ckpt_job *job, const char *device, char **argv,
                               ckpt_error *err);

#endif
