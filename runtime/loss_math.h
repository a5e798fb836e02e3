/* The formulas of the losses (graph/op_loss.c), compiled for every backend. No difference of nearly equal numbers is taken
 * where the loss has an exact small value: it keeps its relative accuracy when a prediction is confident and right.
 *
 *     loss += ckpt_bce(x, t);
 *     gradient = ckpt_bce_gradient(x, t);
 */
#ifndef CKPT_LOSS_MATH_H
#define CKPT_LOSS_MATH_H

#include "runtime/row_math.h"

/* Binary cross-entropy of the logit x: max(x, 0) - x t without the difference, + log(1 + exp(-|x|)). */
static inline CKPT_HD float ckpt_bce(float x, float t) {
    const float linear = x > 0.0f ? x * (1.0f - t) : 0.0f - x * t;
    return linear + ckpt_log1p_unit(ckpt_exp(-ckpt_abs(x)));
}

/* sigmoid(x) - t as (1 - t) sigmoid(x) - t sigmoid(-x). */
static inline CKPT_HD float ckpt_bce_gradient(float x, float t) {
    const float e = ckpt_exp(-ckpt_abs(x)), inverse = 1.0f / (1.0f + e);
    const float more = x >= 0.0f ? inverse : e * inverse, less = x >= 0.0f ? e * inverse : inverse;
    return (1.0f - t) * more - t * less;
}

/* -log softmax(x)[class] of a row with its class as target. sum: of exp(x - max) over all classes; where x is max itself over
 * the others alone, in which a row that is sure of its class keeps what it is not sure of. */
static inline CKPT_HD float ckpt_class_loss(float x, float max, float sum) {
    if (x != max) return (max - x) + ckpt_log(sum);
    return sum < 1.0f ? ckpt_log1p_unit(sum) : ckpt_log(1.0f + sum);
}

/* The exponentials exp(x - max) of a row of scores in two sums: how many are 1, and the others, which are far smaller where
 * the row is sure of a class. */
typedef struct ckpt_exp_sums {
    float max, ones, rest;
} ckpt_exp_sums;

static inline CKPT_HD float ckpt_exp_if_one(float e) { return e == 1.0f ? 1.0f : 0.0f; }
static inline CKPT_HD float ckpt_exp_if_less(float e) { return e == 1.0f ? 0.0f : e; }

/* log of the sum of all. */
static inline CKPT_HD float ckpt_exp_sums_log(ckpt_exp_sums sums) {
    return sums.ones == 1.0f && sums.rest < 1.0f ? ckpt_log1p_unit(sums.rest) : ckpt_log(sums.ones + sums.rest);
}

static inline CKPT_HD float ckpt_exp_sums_inverse(ckpt_exp_sums sums) { return 1.0f / (sums.ones + sums.rest); }

static inline CKPT_HD ckpt_exp_sums ckpt_row_exp_sums(const float *x, int64_t n) {
    float one[CKPT_LANES] = {0}, rest[CKPT_LANES] = {0};
    ckpt_exp_sums sums = {ckpt_row_max(x, n), 0, 0};
    CKPT_LANE_LOOP(n, j, l, {
        const float e = ckpt_exp(x[j] - sums.max);
        one[l] += ckpt_exp_if_one(e);
        rest[l] += ckpt_exp_if_less(e);
    });
    sums.ones = ckpt_lanes_fold(one);
    sums.rest = ckpt_lanes_fold(rest);
    return sums;
}

/* Cross-entropy of a row is the sum of share * -log softmax(x) over its classes, with share = weight * (t (1 - s) + s / classes)
 * for label smoothing s and t the target's probability of the class, or 1 for the target's class and 0 elsewhere. */
typedef struct ckpt_mix {
    const float *weight; /* by class, or NULL for ones */
    float keep, spread;  /* 1 - s and s / classes */
} ckpt_mix;

static inline CKPT_HD float ckpt_mix_weight(ckpt_mix mix, int64_t class_) { return mix.weight ? mix.weight[class_] : 1.0f; }

static inline CKPT_HD float ckpt_mix_share(ckpt_mix mix, int64_t class_, float t) {
    return ckpt_mix_weight(mix, class_) * (t * mix.keep + mix.spread);
}

/* Part of the row's loss: a class without a share adds nothing, whatever its score. */
static inline CKPT_HD float ckpt_share_loss(float share, float x, float max, float log) {
    return share == 0.0f ? 0.0f : share * ((max - x) + log);
}

/* Gradient of a score with e = exp(x - max), share `own` of the shares `all`: all * softmax(x) - own. */
static inline CKPT_HD float ckpt_share_gradient(float e, ckpt_exp_sums sums, float inverse, float all, float own) {
    return e == 1.0f && sums.ones == 1.0f ? (all - own) - all * (sums.rest * inverse) : all * (e * inverse) - own;
}

#endif
