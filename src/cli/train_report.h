/* A training run told: as text, and as JSON (schema "ckpttrain/1"). */
#ifndef CKPT_TRAIN_REPORT_H
#define CKPT_TRAIN_REPORT_H

#include "cli/train_session.h"

/* To stdout. */
ckpt_status ckpt_train_report_text(const ckpt_session *session, const ckpt_cli_options *options, ckpt_error *err);
ckpt_status ckpt_train_report_json(const ckpt_session *session, const ckpt_cli_options *options, ckpt_error *err);

#endif
