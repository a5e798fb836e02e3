/* Optimizer updates of one weight, as PyTorch's optimizers define them (torch.optim documentation, 2.x), for
 * the C compiler and nvcc.
 *
 *     ckpt_adam_rate r = ckpt_adam_rates(beta1, beta2, learning_rate, decay, 0, (uint64_t)step + 1); // once a run
 *     w[i] = ckpt_adam_update(w[i], g[i], &m[i], &v[i], beta2, epsilon, &r);                    // every weight
 */
#ifndef CKPT_UPDATE_MATH_H
#define CKPT_UPDATE_MATH_H

#include <math.h>
#include <stdint.h>

#include "runtime/philox.h"

/* w <- w - lr (g + decay w) */
static inline CKPT_HD float ckpt_sgd_update(float w, float g, float rate, float decay) {
    return w - rate * (g + decay * w);
}

/* m <- momentum m + g + decay w, w <- w - lr m; m is zero before the first step. */
static inline CKPT_HD float ckpt_momentum_update(float w, float g, float *m, float rate, float momentum,
                                                 float decay) {
    *m = momentum * *m + (g + decay * w);
    return w - rate * *m;
}

/* Sutskever et al. 2013, as PyTorch and ONNX write it: m <- momentum m + g', w <- w - lr (g' + momentum m). */
static inline CKPT_HD float ckpt_nesterov_update(float w, float g, float *m, float rate, float momentum, float decay) {
    const float g1 = g + decay * w;
    *m = momentum * *m + g1;
    return w - rate * (g1 + momentum * *m);
}

/* Duchi, Hazan and Singer 2011: h <- h + g'^2, w <- w - lr g' / (sqrt(h) + epsilon). */
static inline CKPT_HD float ckpt_adagrad_update(float w, float g, float *h, float rate, float epsilon, float decay) {
    const float g1 = g + decay * w;
    *h = *h + g1 * g1;
    return w - rate * (g1 / (sqrtf(*h) + epsilon));
}

typedef struct ckpt_adam_rate {
    float step_size;       /* lr / (1 - beta1^t) */
    float root_correction; /* 1 / sqrt(1 - beta2^t) */
    float shrink;          /* AdamW: 1 - lr decay, else 1 */
    float decay;           /* Adam: decay, else 0 */
    float rest1, rest2;    /* 1 - beta1, 1 - beta2 */
} ckpt_adam_rate;

/* base^t by repeated squaring: the same bits on host and device, which pow does not promise. */
static inline CKPT_HD double ckpt_power(double base, uint64_t t) {
    double result = 1;
    for (; t; t >>= 1, base *= base)
        if (t & 1) result *= base;
    return result;
}

/* Attributes are single precision: 0.999f means 0.999, and 1 - beta is to be 0.001 to more than the 5 digits
 * that 1 - 0.999f has. */
static inline CKPT_HD double ckpt_decimal(float x) { return floor((double)x * 1e7 + 0.5) / 1e7; }

/* t counts from 1. */
static inline CKPT_HD ckpt_adam_rate ckpt_adam_rates(float beta1, float beta2, float learning_rate, float decay,
                                                     int decoupled, uint64_t t) {
    const double b1 = ckpt_decimal(beta1), b2 = ckpt_decimal(beta2);
    ckpt_adam_rate r;
    r.step_size = (float)((double)learning_rate / (1.0 - ckpt_power(b1, t)));
    r.root_correction = (float)(1.0 / sqrt(1.0 - ckpt_power(b2, t)));
    r.shrink = decoupled ? (float)(1.0 - (double)learning_rate * (double)decay) : 1.0f;
    r.decay = decoupled ? 0.0f : decay;
    r.rest1 = (float)(1.0 - b1);
    r.rest2 = (float)(1.0 - b2);
    return r;
}

/* Kingma and Ba 2015, Loshchilov and Hutter 2019 (decoupled decay). */
static inline CKPT_HD float ckpt_adam_update(float w, float g, float *m, float *v, float beta2, float epsilon,
                                             const ckpt_adam_rate *r) {
    const float g1 = g + r->decay * w;
    *m = *m + r->rest1 * (g1 - *m);
    *v = beta2 * *v + r->rest2 * (g1 * g1);
    return w * r->shrink - r->step_size * (*m / (sqrtf(*v) * r->root_correction + epsilon));
}

#endif
