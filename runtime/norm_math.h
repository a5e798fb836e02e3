/* Normalization by channels (graph/op_channelnorm.c), compiled for every backend: formulas of an element, and the order of
 * sums down a column. Rows are added up in bands of CKPT_NORM_BAND, row after row, then the bands, in double.
 *
 *     y[i] = ckpt_norm_value(x[i], moments, scale, bias);
 *     dx[i] = ckpt_norm_dx(dy[i] * scale, x[i], moments, mean_g, mean_gh);
 */
#ifndef CKPT_NORM_MATH_H
#define CKPT_NORM_MATH_H

#include "runtime/row_math.h"

enum { CKPT_NORM_BAND = 64 };

/* BatchNormalization's statistics of `channels` channels are four rows: mean, what its rounding left, variance, and
 * 1 / sqrt(variance + epsilon). */
static inline CKPT_HD ckpt_moments ckpt_batch_moments(const float *stats, int64_t channels, int64_t c) {
    const ckpt_moments m = {stats[c], stats[channels + c], stats[3 * channels + c]};
    return m;
}
static inline CKPT_HD void ckpt_batch_write(float *stats, int64_t channels, int64_t c, double mean, double variance,
                                            float epsilon) {
    float *out = stats + c;
    out[0] = (float)mean;
    out[channels] = (float)(mean - (double)out[0]);
    out[2 * channels] = (float)variance;
    out[3 * channels] = (float)(1.0 / sqrt(variance + (double)epsilon));
}

static inline CKPT_HD double ckpt_square_deviation(float x, double mean) { return ((double)x - mean) * ((double)x - mean); }
/* A running statistic moved towards the batch's. */
static inline CKPT_HD float ckpt_stats_moved(float running, float batch, float momentum) {
    return running * momentum + batch * (1.0f - momentum);
}

/* h = (x - mean) / standard deviation */
static inline CKPT_HD float ckpt_norm_hat(float x, ckpt_moments m) { return ckpt_deviation(x, m) * m.inv_std; }
static inline CKPT_HD float ckpt_norm_value(float x, ckpt_moments m, float scale, float bias) {
    return ckpt_norm_hat(x, m) * scale + bias;
}
/* g = dy * scale; its mean and that of g h over what shares the statistics. */
static inline CKPT_HD float ckpt_norm_dx(float g, float x, ckpt_moments m, float mean_g, float mean_gh) {
    return m.inv_std * (g - mean_g - ckpt_norm_hat(x, m) * mean_gh);
}
/* The same where the scale is one for all of it: the means are those of dy and dy h. */
static inline CKPT_HD float ckpt_batch_dx(float dy, float x, ckpt_moments m, float scale, float mean_dy, float mean_dyh) {
    return m.inv_std * scale * (dy - mean_dy - ckpt_norm_hat(x, m) * mean_dyh);
}

#endif
