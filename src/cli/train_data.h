/* The data that a job trains on: loaded or made up, and the loss that suits them.
 *
 *     ckpt_train_data data;
 *     CKPT_TRY(ckpt_train_data_load(&options, &job, &data, err));   // may load the job again with another loss
 *     ckpt_train_data_free(&data);
 */
#ifndef CKPT_TRAIN_DATA_H
#define CKPT_TRAIN_DATA_H

#include "cli/options.h"
#include "data/dataset.h"

typedef struct ckpt_train_data {
    ckpt_dataset training, validation; /* validation is empty without --val-data */
    bool synthetic;
    ckpt_loss_data known; /* what the losses were chosen by; in `pool` and the training data */
    ckpt_pool pool;
} ckpt_train_data;

/* Arrays as ckpt_train_run takes them: the inputs in order, then the targets. The losses are chosen again by what the targets
 * are like; where that changes them, the job is loaded again. The job must not outlive the data.
 * Without --data four batches are made up, or one where four
 * are more than 256 MiB. Errors as ckpt_dataset_load's. */
ckpt_status ckpt_train_data_load(const ckpt_cli_options *options, ckpt_job *job, ckpt_train_data *data,
                                 ckpt_error *err);

/* "256 samples, 'x' of [256,64] -> 'y' of [256] in 10 classes"; returns `text`. */
enum { CKPT_DATA_TEXT = 512 };
const char *ckpt_train_data_describe(const ckpt_job *job, const ckpt_dataset *set, char text[CKPT_DATA_TEXT]);

void ckpt_train_data_free(ckpt_train_data *data);

#endif
