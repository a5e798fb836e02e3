/* The data that a job trains on: loaded or made up, and the loss that suits them.
 *
 *     ckpt_train_data data;
 *     CKPT_TRY(ckpt_train_data_load(&options, &job, &data, err));   // may load the job again with another loss
 *     ckpt_train_data_free(&data);
 */
#ifndef CKPT_TRAIN_DATA_H
#define CKPT_TRAIN_DATA_H

#include "cli/job.h"
#include "data/dataset.h"

typedef struct ckpt_train_data {
    ckpt_dataset training, validation; /* validation is empty without --val-data */
    bool synthetic;
} ckpt_train_data;

/* Arrays as ckpt_train_run takes them: the inputs in order, then the target. Where the loss is chosen automatically
 * and the targets' type suits another one, the job is loaded again. CKPT_USAGE: the data do not fit the model. */
ckpt_status ckpt_train_data_load(const ckpt_cli_options *options, ckpt_job *job, ckpt_train_data *data,
                                 ckpt_error *err);

void ckpt_train_data_free(ckpt_train_data *data);

#endif
