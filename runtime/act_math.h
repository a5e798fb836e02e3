/* The element functions of acts.def and their derivatives, one pair a row, for the C compiler and nvcc.
 *
 *     y  = ckpt_act_GELU(x, alpha, beta);
 *     dx = dy * ckpt_act_slope_GELU(x, alpha, beta);   // from x, or from y where acts.def says from_output
 *
 * ckpt_act_value and ckpt_act_slope choose by the enum; a fast loop includes acts.def and chooses outside.
 */
#ifndef CKPT_ACT_MATH_H
#define CKPT_ACT_MATH_H

#include "graph/graph.h"
#include "runtime/float_math.h"

#define CKPT_ACT_PAIR(ID, value, slope)                                                                      \
    static inline CKPT_HD float ckpt_act_##ID(float x, float alpha, float beta) {                            \
        (void)alpha, (void)beta;                                                                             \
        return value;                                                                                        \
    }                                                                                                        \
    static inline CKPT_HD float ckpt_act_slope_##ID(float v, float alpha, float beta) {                      \
        (void)v, (void)alpha, (void)beta;                                                                    \
        return slope;                                                                                        \
    }

/* The tanh form's inner function: gelu(x) = x sigmoid(2 u(x)), since (1 + tanh u) / 2 = sigmoid(2u). */
static inline CKPT_HD float ckpt_gelu_tanh_2u(float x) {
    return 1.59576912f * (x + 0.044715f * (x * x * x)); /* 2 sqrt(2 / pi) */
}
static inline CKPT_HD float ckpt_gelu_value(float x) {
    float e;
    return x * ckpt_normal_cdf(x, &e);
}
static inline CKPT_HD float ckpt_gelu_slope(float x) {
    float e;
    const float cdf = ckpt_normal_cdf(x, &e);
    return cdf + x * (e * 0.398942280f);
}
static inline CKPT_HD float ckpt_gelu_tanh_slope(float v) {
    /* Beyond 20 the function is x or 0 to the last bit; there x^2 must not meet 0 as infinity. */
    float x = v > 20.0f ? 20.0f : v;
    x = x < -20.0f ? -20.0f : x;
    const float s = ckpt_sigmoid(ckpt_gelu_tanh_2u(x));
    return s + x * (s * (1.0f - s)) * (1.59576912f * (1.0f + 0.134145f * (x * x)));
}
static inline CKPT_HD float ckpt_silu_slope(float x) {
    const float s = ckpt_sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}
static inline CKPT_HD float ckpt_swish_slope(float x, float alpha) {
    const float s = ckpt_sigmoid(alpha * x);
    return s * (1.0f + alpha * x * (1.0f - s));
}
/* Keeps NaN; where low > high the answer is high, as ONNX has it. */
static inline CKPT_HD float ckpt_clip(float x, float low, float high) {
    const float y = x < low ? low : x;
    return y > high ? high : y;
}
static inline CKPT_HD float ckpt_hard_swish_slope(float x) {
    const float inner = x * 0.333333333f + 0.5f;
    return x <= -3.0f ? 0.0f : x >= 3.0f ? 1.0f : inner;
}
static inline CKPT_HD float ckpt_softsign_slope(float y) {
    const float rest = 1.0f - ckpt_abs(y);
    return rest * rest;
}
/* tanh(softplus(x)) = n / (n + 2) with n = e (e + 2), e = exp(x): no cancellation below 0, and 1 to the last bit
 * from 20 on, where n must not grow further. */
static inline CKPT_HD float ckpt_mish_value(float x) {
    const float e = ckpt_exp(x > 20.0f ? 20.0f : x), n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
}
static inline CKPT_HD float ckpt_mish_slope(float v) {
    const float x = v > 20.0f ? 20.0f : v;
    const float e = ckpt_exp(x), n = e * (e + 2.0f), r = 1.0f / (n + 2.0f);
    return n * r + x * (4.0f * (e * r) * ((1.0f + e) * r));
}
static inline CKPT_HD float ckpt_sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x * 0.0f; }
/* |x|^p = exp(p log |x|), relative error about |p log |x|| * 6e-8. p is not 0. */
static inline CKPT_HD float ckpt_pow(float x, float p, float negative) {
    const float y = ckpt_exp(p * ckpt_log(ckpt_abs(x)));
    return x < 0.0f ? negative * y : y;
}

CKPT_ACT_PAIR(IDENTITY, x, 1.0f)
CKPT_ACT_PAIR(RELU, x <= 0.0f ? 0.0f : x, v > 0.0f ? 1.0f : 0.0f) /* NaN stays NaN */
CKPT_ACT_PAIR(LEAKY_RELU, x > 0.0f ? x : alpha * x, v > 0.0f ? 1.0f : alpha)
CKPT_ACT_PAIR(LEAKY_RELU_X, x > 0.0f ? x : alpha * x, v > 0.0f ? 1.0f : alpha)
CKPT_ACT_PAIR(ELU, x > 0.0f ? x : alpha * ckpt_expm1_low(x), v > 0.0f ? 1.0f : v + alpha)
CKPT_ACT_PAIR(ELU_X, x > 0.0f ? x : alpha * ckpt_expm1_low(x), v > 0.0f ? 1.0f : alpha * ckpt_exp(v))
CKPT_ACT_PAIR(SIGMOID, ckpt_sigmoid(x), v * (1.0f - v))
CKPT_ACT_PAIR(TANH, ckpt_tanh(x), 1.0f - v * v)
CKPT_ACT_PAIR(SOFTPLUS, ckpt_softplus(x), 0.0f - ckpt_expm1_low(0.0f - v))
CKPT_ACT_PAIR(GELU, ckpt_gelu_value(x), ckpt_gelu_slope(v))
CKPT_ACT_PAIR(GELU_TANH, x * ckpt_sigmoid(ckpt_gelu_tanh_2u(x)), ckpt_gelu_tanh_slope(v))
CKPT_ACT_PAIR(SILU, x * ckpt_sigmoid(x), ckpt_silu_slope(v))
CKPT_ACT_PAIR(ERF, ckpt_erf(x), 1.12837917f * ckpt_exp(0.0f - v * v))
CKPT_ACT_PAIR(NEG, 0.0f - x, -1.0f)
CKPT_ACT_PAIR(SCALE, alpha * x + beta, alpha)
CKPT_ACT_PAIR(SELU, x > 0.0f ? beta * x : alpha * ckpt_expm1_low(x), v > 0.0f ? beta : v + alpha)
CKPT_ACT_PAIR(SELU_X, x > 0.0f ? beta * x : alpha * ckpt_expm1_low(x), v > 0.0f ? beta : alpha * ckpt_exp(v))
CKPT_ACT_PAIR(CELU, x > 0.0f ? x : alpha * ckpt_expm1_low(beta * x), v > 0.0f ? 1.0f : 1.0f + beta * v)
CKPT_ACT_PAIR(HARD_SIGMOID, ckpt_clip(alpha * x + beta, 0.0f, 1.0f),
              alpha * v + beta > 0.0f && alpha * v + beta < 1.0f ? alpha : 0.0f)
CKPT_ACT_PAIR(HARD_SWISH, x * ckpt_clip(x * 0.166666667f + 0.5f, 0.0f, 1.0f), ckpt_hard_swish_slope(v))
CKPT_ACT_PAIR(SOFTSIGN, x / (1.0f + ckpt_abs(x)), ckpt_softsign_slope(v))
CKPT_ACT_PAIR(MISH, ckpt_mish_value(x), ckpt_mish_slope(v))
CKPT_ACT_PAIR(SWISH, x * ckpt_sigmoid(alpha * x), ckpt_swish_slope(v, alpha))
CKPT_ACT_PAIR(THRESHOLDED_RELU, x <= alpha ? 0.0f : x, v > alpha ? 1.0f : 0.0f)
CKPT_ACT_PAIR(CLIP, ckpt_clip(x, alpha, beta), v > alpha && v < beta ? 1.0f : 0.0f)
CKPT_ACT_PAIR(NEGATIVE, x > 0.0f ? 0.0f : x, v > 0.0f ? 0.0f : 1.0f)
CKPT_ACT_PAIR(EXP, ckpt_exp(x), v)
CKPT_ACT_PAIR(LOG, ckpt_log(x), 1.0f / v)
CKPT_ACT_PAIR(ABS, ckpt_abs(x), ckpt_sign(v))
CKPT_ACT_PAIR(SQRT, sqrtf(x), 0.5f / v)
CKPT_ACT_PAIR(RECIPROCAL, 1.0f / x, 0.0f - v * v)
CKPT_ACT_PAIR(POW, ckpt_pow(x, alpha, beta), alpha * ckpt_pow(v, alpha - 1.0f, 0.0f - beta))

static inline CKPT_HD float ckpt_act_value(ckpt_act act, float x, float alpha, float beta) {
    switch (act) {
#define X(ID, ...)                                                                                           \
    case CKPT_ACT_##ID: return ckpt_act_##ID(x, alpha, beta);
#include "graph/acts.def"
#undef X
    case CKPT_ACT_COUNT: break;
    }
    return x;
}

static inline CKPT_HD float ckpt_act_slope(ckpt_act act, float v, float alpha, float beta) {
    switch (act) {
#define X(ID, ...)                                                                                           \
    case CKPT_ACT_##ID: return ckpt_act_slope_##ID(v, alpha, beta);
#include "graph/acts.def"
#undef X
    case CKPT_ACT_COUNT: break;
    }
    return 1.0f;
}

/* What kept elements are multiplied with. */
static inline CKPT_HD float ckpt_drop_scale(float p) { return 1.0f / (1.0f - p); }

/* True where the mask need not be drawn again for the gradient: act(x) > 0 is where y > 0, and y is 0 both
 * where it was dropped and where the slope is 0 (design section 4). */
static inline CKPT_HD int ckpt_drop_from_output(const ckpt_epilogue *e) {
    return e->act == CKPT_ACT_RELU && e->drop > 0.0f;
}

#endif
