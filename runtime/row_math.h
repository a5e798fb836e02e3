/* Sums along a row in one order, whatever the vector width: element j goes to lane j % 16, lanes are folded
 * 8, 4, 2, 1. A GPU kernel that wants the same bits keeps to the same lanes.
 *
 *     float lane[CKPT_LANES] = {0};
 *     CKPT_LANE_LOOP(cols, j, l, lane[l] += x[j] * y[j]);
 *     float dot = ckpt_lanes_fold(lane);
 */
#ifndef CKPT_ROW_MATH_H
#define CKPT_ROW_MATH_H

#include "runtime/float_math.h"

enum {
    CKPT_LANES = 16,
    CKPT_SUM_BLOCK = 256 * CKPT_LANES, /* of a long sum: no lane adds more before its block is folded */
    CKPT_LOSS_BLOCK = 2048             /* values of a loss that are added up together */
};

/* Runs `body` with j from 0 to n - 1 and l = j % 16: the inner loop has a fixed length, so it vectorises. */
#define CKPT_LANE_LOOP(n, j, l, body)                                                                        \
    do {                                                                                                     \
        int64_t lane_base_ = 0;                                                                              \
        for (; lane_base_ + CKPT_LANES <= (n); lane_base_ += CKPT_LANES)                                     \
            for (int l = 0; l < CKPT_LANES; l++) {                                                           \
                const int64_t j = lane_base_ + l;                                                            \
                body;                                                                                        \
            }                                                                                                \
        for (int l = 0; lane_base_ + l < (n); l++) {                                                         \
            const int64_t j = lane_base_ + l;                                                                \
            body;                                                                                            \
        }                                                                                                    \
    } while (0)

static inline CKPT_HD float ckpt_lanes_fold(float lane[CKPT_LANES]) {
    for (int width = CKPT_LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++) lane[l] += lane[l + width];
    return lane[0];
}

static inline CKPT_HD float ckpt_row_sum(const float *x, int64_t n) {
    float lane[CKPT_LANES] = {0};
    CKPT_LANE_LOOP(n, j, l, lane[l] += x[j]);
    return ckpt_lanes_fold(lane);
}

/* A row's mean in two floats and 1 / sqrt(variance + epsilon). One float's rounding of a mean far from zero would show
 * in every normalised value; x - mean is exact near the mean, so the rest comes out of a second pass. */
typedef struct ckpt_moments {
    float mean, rest, inv_std;
} ckpt_moments;

static inline CKPT_HD float ckpt_deviation(float x, ckpt_moments m) {
    return (x - m.mean) - m.rest;
}

static inline CKPT_HD ckpt_moments ckpt_row_moments(const float *x, int64_t n, float epsilon) {
    ckpt_moments m = {ckpt_row_sum(x, n) / (float)n, 0, 0};
    float first[CKPT_LANES] = {0}, second[CKPT_LANES] = {0};
    CKPT_LANE_LOOP(n, j, l, first[l] += x[j] - m.mean);
    m.rest = ckpt_lanes_fold(first) / (float)n;
    CKPT_LANE_LOOP(n, j, l, second[l] += ckpt_deviation(x[j], m) * ckpt_deviation(x[j], m));
    m.inv_std = 1.0f / sqrtf(ckpt_lanes_fold(second) / (float)n + epsilon);
    return m;
}

/* The same without a mean: inv_std is 1 / sqrt(mean of squares + epsilon). */
static inline CKPT_HD ckpt_moments ckpt_row_rms(const float *x, int64_t n, float epsilon) {
    ckpt_moments m = {0, 0, 0};
    float square[CKPT_LANES] = {0};
    CKPT_LANE_LOOP(n, j, l, square[l] += x[j] * x[j]);
    m.inv_std = 1.0f / sqrtf(ckpt_lanes_fold(square) / (float)n + epsilon);
    return m;
}

/* -infinity for an empty row; a NaN is passed over (the sum of exponentials finds it). */
static inline CKPT_HD float ckpt_row_max(const float *x, int64_t n) {
    float lane[CKPT_LANES];
    for (int l = 0; l < CKPT_LANES; l++) lane[l] = -INFINITY;
    CKPT_LANE_LOOP(n, j, l, lane[l] = x[j] > lane[l] ? x[j] : lane[l]);
    float m = lane[0];
    for (int l = 1; l < CKPT_LANES; l++) m = lane[l] > m ? lane[l] : m;
    return m;
}

/* Sum of exp(x - max). */
static inline CKPT_HD float ckpt_row_exp_sum(const float *x, int64_t n, float max) {
    float lane[CKPT_LANES] = {0};
    CKPT_LANE_LOOP(n, j, l, lane[l] += ckpt_exp(x[j] - max));
    return ckpt_lanes_fold(lane);
}

#endif
