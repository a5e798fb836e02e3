/* Attributes of losses: LOSS, CLASS_LOSS. */
#ifndef CKPT_ATTR_LOSS_H
#define CKPT_ATTR_LOSS_H

#include "graph/tensor.h"

typedef enum ckpt_loss { CKPT_LOSS_NONE, CKPT_LOSS_CE, CKPT_LOSS_BCE, CKPT_LOSS_MSE, CKPT_LOSS_NLL, CKPT_LOSS_FILE } ckpt_loss;

typedef struct ckpt_loss_attr {
    ckpt_loss kind;
    int64_t outer, classes, inner; /* CE, NLL: of the prediction, whose rows are outer * inner. BCE, MSE: outer * inner values,
                                      outer the samples; FILE: outer the samples. There classes is 1 */
    bool soft;       /* CE: the target is f32, a probability per class, instead of i32 */
    float smoothing; /* CE */
    float scale;     /* of this loss in the sum of all */
    bool sum;        /* FILE: the file's loss is a sum over the samples, not a mean */
    int term;        /* its number: of ckpt_scalars.denominator */
} ckpt_loss_attr;

typedef struct ckpt_class_loss_attr {
    int64_t outer, classes, inner; /* of x; one target per outer and inner */
    int64_t ignore;                /* this class counts for nothing, as negative ones do */
} ckpt_class_loss_attr;

#endif
