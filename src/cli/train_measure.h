/* Measuring for plans, where it is needed and was not done before (cost_model.h).
 *
 *     CKPT_TRY(ckpt_train_measure(&options, backend, &job, &data, err));
 *     CKPT_TRY(ckpt_job_cost(&job, &options.job, err));
 */
#ifndef CKPT_TRAIN_MEASURE_H
#define CKPT_TRAIN_MEASURE_H

#include "cli/options.h"
#include "cli/train_data.h"
#include "runtime/backend.h"

/* What the device does in a second: where that cannot be kept it is not measured, as the next plan would be another. With
 * --profile, which alone needs the job and its data, every node of the training graph, under a plan that keeps everything,
 * or the smallest where that does not fit --budget or the device; job->profile gets it, whether or not it can be kept. Errors: of
 * the device. */
ckpt_status ckpt_train_measure(const ckpt_cli_options *options, const ckpt_backend *backend, ckpt_job *job,
                               const ckpt_train_data *data, ckpt_error *err);

#endif
