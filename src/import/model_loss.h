/* The losses of a model: which of its outputs are trained on, how, and the nodes for that. Private to src/import. */
#ifndef CKPT_MODEL_LOSS_H
#define CKPT_MODEL_LOSS_H

#include "import/model.h"

/* Fills in model.losses and what else model.h has of them. The graph has its outputs still; afterwards none but with
 * CKPT_LOSS_NONE. Errors as ckpt_model_load's; CKPT_USAGE: what is asked for does not suit the outputs, or the targets do not. */
ckpt_status ckpt_model_attach_losses(ckpt_model *model, const ckpt_model_options *options, ckpt_error *err);

#endif
