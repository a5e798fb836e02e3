/* What is minimised, told: in a line of both programs and as JSON. */
#ifndef CKPT_LOSS_REPORT_H
#define CKPT_LOSS_REPORT_H

#include <jansson.h>

#include "cli/options.h"

/* The losses, and which outputs of the model no loss is on. */
void ckpt_losses_say(const ckpt_job *job, const char *program);

/* The same as an object: the fields of the first loss, and all losses in "terms"; null without one. */
json_t *ckpt_losses_json(const ckpt_job *job, const ckpt_cli_options *options);

#endif
