/* What a target's class counts in CLASS_LOSS and its gradient (graph/op_class_loss.c), compiled for every backend.
 *
 *     loss[i] = ckpt_class_counts(t, classes, ignore) ? 0.0f - weight * x[t] : weight;
 */
#ifndef CKPT_CLASS_MATH_H
#define CKPT_CLASS_MATH_H

#include <math.h>
#include <stdint.h>

#include "runtime/philox.h"

static inline CKPT_HD int ckpt_class_counts(int32_t t, int64_t classes, int64_t ignore) {
    return t >= 0 && t < classes && t != ignore;
}

/* 0 where the target does not count; NaN for a class beyond the last: data is checked before it gets here. weights: a
 * value a class, or NULL for ones. */
static inline CKPT_HD float ckpt_class_weight(int32_t t, int64_t classes, int64_t ignore, const float *weights) {
    if (t < 0 || t == ignore) return 0.0f;
    return t >= classes ? NAN : weights ? weights[t] : 1.0f;
}

#endif
