/* Which loss a model is trained with, and on which tensor.
 *
 *     ckpt_loss_question q = {.prediction = output, .automatic = true};
 *     ckpt_loss_choose(&graph, &q, &err);   // q.loss, q.reason; q.prediction may now be the logits
 */
#ifndef CKPT_LOSS_CHOICE_H
#define CKPT_LOSS_CHOICE_H

#include "graph/build.h"

typedef struct ckpt_loss_question {
    ckpt_view prediction; /* in: the model's output; out: what the loss reads */
    bool automatic;
    ckpt_loss loss;       /* in, unless automatic; out */
    int target;           /* ckpt_target_hint of model.h: 0 unknown, 1 classes, 2 floats */
    const char *reason;   /* out: one sentence, in the graph's pool */
} ckpt_loss_question;

/* A final Softmax or LogSoftmax under cross-entropy, and a final Sigmoid under binary cross-entropy, are folded: the
 * loss reads the logits. CKPT_MODEL when a loss that was asked for does not fit the output. */
ckpt_status ckpt_loss_choose(ckpt_graph *graph, ckpt_loss_question *question, ckpt_error *err);

/* "ce" <-> CKPT_LOSS_CE; false when unknown ("auto" is no loss). */
bool ckpt_loss_parse(const char *name, ckpt_loss *loss);
const char *ckpt_loss_name(ckpt_loss loss);

#endif
