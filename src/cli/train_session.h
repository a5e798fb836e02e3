/* A training run from device to saved file.
 *
 *     ckpt_session session;
 *     CKPT_TRY(ckpt_session_open(&options, backend, &job, &data, &session, err));
 *     status = ckpt_session_train(&session, &options, &data, &stop, err);
 *     // here the run is reported
 *     ckpt_session_close(&session);
 */
#ifndef CKPT_TRAIN_SESSION_H
#define CKPT_TRAIN_SESSION_H

#include <stdatomic.h>

#include "cli/host_memory.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/train_data.h"
#include "cli/train_sizes.h"
#include "cli/train_state.h"
#include "runtime/train.h"

typedef struct ckpt_session {
    const ckpt_job *job;
    const ckpt_train_data *data;
    const ckpt_backend *backend;
    ckpt_plan *plan, *evaluation_plan, *reference_plan;
    ckpt_train_sizes sizes;
    ckpt_exec *exec, *reference; /* reference: --verify */
    ckpt_progress progress;
    ckpt_train_state state;   /* --state */
    ckpt_train_report report; /* before training: how far the run was that this one continues */
    int64_t resumed_steps;    /* steps of that run; 0: this one begins anew */
    ckpt_exec_memory memory; /* when training had ended */
    ckpt_host_memory host;   /* then too; all 0 where the plan is not in the host's memory */
    char weights_sha256[65];
} ckpt_session;

/* The backend that --device asks for; `auto` takes the GPU where one can be used, otherwise the CPU and says so in
 * *note. --budget auto becomes what the device has free. CKPT_FAILED: --device cuda without a usable GPU. */
ckpt_status ckpt_session_choose_device(ckpt_cli_options *options, const ckpt_backend **backend, const char **note,
                                       ckpt_error *err);

/* Plans, allocates and uploads the weights, or what the file of --state holds. CKPT_NOMEM names the plan that would fit.
 * Also finds out now whether --save, --state and --log will be able to write. */
ckpt_status ckpt_session_open(const ckpt_cli_options *options, const ckpt_backend *backend, const ckpt_job *job,
                              const ckpt_train_data *data, ckpt_session *session, ckpt_error *err);

/* Copies the model's weights and constants to the device. */
ckpt_status ckpt_session_upload(const ckpt_job *job, const ckpt_plan *plan, ckpt_exec *exec, ckpt_error *err);

/* Trains, then saves if asked to: after an interruption too, not after a failure. Errors as ckpt_train_run's. */
ckpt_status ckpt_session_train(ckpt_session *session, const ckpt_cli_options *options, const ckpt_train_data *data,
                               const atomic_int *stop, ckpt_error *err);

/* Whether there is something to report: training ended, was interrupted, or failed nothing but its verification. */
static inline bool ckpt_session_has_report(const ckpt_session *session, ckpt_status status) {
    return status == CKPT_OK || status == CKPT_INTERRUPTED ||
           (status == CKPT_FAILED && session->report.mismatch_step >= 0);
}

void ckpt_session_close(ckpt_session *session);

#endif
