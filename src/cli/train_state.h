/* --state: a training run that can be killed at any moment and goes on where its last saved state left it.
 *
 *     ckpt_train_state state;
 *     CKPT_TRY(ckpt_train_state_open(&state, &options, &source, err));
 *     CKPT_TRY(ckpt_train_state_load(&state, &report, &found, err));
 *     training.save = ckpt_train_state_save, training.save_context = &state;
 */
#ifndef CKPT_TRAIN_STATE_H
#define CKPT_TRAIN_STATE_H

#include "cli/options.h"
#include "data/dataset.h"
#include "runtime/state_file.h"

enum { CKPT_TRAIN_FACTS = 16, CKPT_FACT_TEXT = 96 };

/* What the state is bound to and taken from; must outlive the state. */
typedef struct ckpt_state_source {
    const ckpt_job *job;
    const ckpt_dataset *data;
    const ckpt_plan *plan;
    const char *device; /* name of the backend */
    ckpt_exec *exec[2]; /* the second as well for --verify, or NULL */
} ckpt_state_source;

typedef struct ckpt_train_state {
    const char *path;
    ckpt_state_source source;
    ckpt_run_state run;
    ckpt_state_fact fact[CKPT_TRAIN_FACTS];
    char text[CKPT_TRAIN_FACTS][CKPT_FACT_TEXT];
    int64_t saved_steps; /* of the state in the file; -1: none yet */
} ckpt_train_state;

/* Works out what the run is bound to: the training data and constants are read for it. */
ckpt_status ckpt_train_state_open(ckpt_train_state *state, const ckpt_cli_options *options, const ckpt_state_source *source,
                                  ckpt_error *err);

/* As ckpt_state_read. */
ckpt_status ckpt_train_state_load(ckpt_train_state *state, ckpt_train_report *report, bool *found, ckpt_error *err);

/* For ckpt_train_options.save, and once more at the end: does nothing where the state of this step is already saved. */
ckpt_status ckpt_train_state_save(void *state, const ckpt_train_report *report, ckpt_error *err);

#endif
