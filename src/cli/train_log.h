/* The file of --log: one JSON object a line, readable while training lasts.
 *
 *     ckpt_train_log log;
 *     CKPT_TRY(ckpt_train_log_start(&log, "log.jsonl", 0, err));
 *     ckpt_train_log_step(&log, &event);
 *     status = ckpt_train_log_finish(&log, err);
 *
 * A new log appears with its first line, whole and on disk; before that the old one is untouched, so a run that fails
 * at once, or finds the disk full, loses nothing. A run that goes on from a saved state goes on with its log: the lines
 * of the steps before stay, later ones are dropped and written again.
 */
#ifndef CKPT_TRAIN_LOG_H
#define CKPT_TRAIN_LOG_H

#include <stdio.h>

#include "base/atomic_file.h"
#include "runtime/train.h"

typedef struct ckpt_train_log {
    const char *path;       /* NULL: there is no log */
    bool begun;             /* lines go to `file`; before, the first one goes to `first` */
    bool failed;
    ckpt_atomic_file first;
    FILE *file;
} ckpt_train_log;

/* path: NULL for none. first_step: the first that this run will log. CKPT_USAGE when nothing can be written there. */
ckpt_status ckpt_train_log_start(ckpt_train_log *log, const char *path, int64_t first_step, ckpt_error *err);

/* The step and, at the end of an epoch with validation data, a second line. Failures show at the end. */
void ckpt_train_log_step(ckpt_train_log *log, const ckpt_train_event *event);

/* Closes the log; again is harmless. CKPT_FAILED when lines were lost. */
ckpt_status ckpt_train_log_finish(ckpt_train_log *log, ckpt_error *err);

#endif
