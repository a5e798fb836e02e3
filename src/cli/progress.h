/* What is seen of a training run while it lasts: a bar on a terminal, and the lines of --log.
 *
 *     ckpt_progress progress;
 *     CKPT_TRY(ckpt_progress_start(&progress, "log.jsonl", 0, err));
 *     progress.steps = 100;
 *     options.observe = ckpt_progress_observe, options.context = &progress;
 *     ...
 *     status = ckpt_progress_finish(&progress, err);
 */
#ifndef CKPT_PROGRESS_H
#define CKPT_PROGRESS_H

#include "cli/train_log.h"
#include "runtime/train.h"

typedef struct ckpt_progress {
    bool bar;        /* stderr is a terminal */
    int64_t steps;   /* in all: set by the caller once it is known */
    double drawn_at; /* seconds; the bar is drawn ten times a second at most */
    ckpt_train_log log;
} ckpt_progress;

/* log_path: NULL for none. first_step: 0, or that of a run that goes on. CKPT_USAGE when the log cannot be written. */
ckpt_status ckpt_progress_start(ckpt_progress *progress, const char *log_path, int64_t first_step, ckpt_error *err);

/* For ckpt_train_options.observe. */
void ckpt_progress_observe(void *progress, const ckpt_train_event *event);

/* Clears the bar and closes the log; again is harmless. CKPT_FAILED when lines of the log were lost. */
ckpt_status ckpt_progress_finish(ckpt_progress *progress, ckpt_error *err);

#endif
