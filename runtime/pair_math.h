/* Max, Min and Pow of two numbers and their derivatives (graph/op_pair.c), compiled for every backend.
 *
 *     c[i] = ckpt_pair_value(CKPT_PAIR_MAX, a[i], b[i]);
 *     da[i] = ckpt_pair_slope(CKPT_PAIR_MAX, false, dc[i], a[i], b[i]);
 */
#ifndef CKPT_PAIR_MATH_H
#define CKPT_PAIR_MATH_H

#include "graph/graph.h"
#include "runtime/float_math.h"

/* NaN from either side goes through. */
static inline CKPT_HD float ckpt_pair_max(float a, float b) { return a >= b || a != a ? a : b; }
static inline CKPT_HD float ckpt_pair_min(float a, float b) { return a <= b || a != a ? a : b; }

/* |a|^b = exp(b log |a|), relative error about |b log |a|| * 6e-8. A negative base has a power where b is a whole number. */
static inline CKPT_HD float ckpt_pair_pow(float a, float b) {
    const float y = ckpt_exp(b * ckpt_log(ckpt_abs(a))), half = 0.5f * b;
    const float below = floorf(b) != b ? NAN : floorf(half) != half ? -y : y;
    const float power = a < 0.0f ? below : y;
    return b == 0.0f ? 1.0f : power;
}

static inline CKPT_HD float ckpt_pair_value(ckpt_pair kind, float a, float b) {
    return kind == CKPT_PAIR_MAX ? ckpt_pair_max(a, b) : kind == CKPT_PAIR_MIN ? ckpt_pair_min(a, b) : ckpt_pair_pow(a, b);
}

static inline CKPT_HD float ckpt_pair_share(float dc, float chosen, float other) { /* chosen wins where it is greater */
    return chosen > other ? dc : chosen == other ? 0.5f * dc : 0.0f;
}
static inline CKPT_HD float ckpt_pair_pow_base(float dc, float a, float b) {
    const float d = dc * (b * ckpt_pair_pow(a, b - 1.0f));
    return b == 0.0f ? 0.0f : d;
}
static inline CKPT_HD float ckpt_pair_pow_exponent(float dc, float a, float b) {
    const float d = dc * (ckpt_pair_pow(a, b) * ckpt_log(a));
    return a == 0.0f && b >= 0.0f ? 0.0f : d;
}

/* dc times the derivative with respect to a, or to b. */
static inline CKPT_HD float ckpt_pair_slope(ckpt_pair kind, bool second, float dc, float a, float b) {
    if (kind == CKPT_PAIR_POW) return second ? ckpt_pair_pow_exponent(dc, a, b) : ckpt_pair_pow_base(dc, a, b);
    return (kind == CKPT_PAIR_MAX) != second ? ckpt_pair_share(dc, a, b) : ckpt_pair_share(dc, b, a);
}

/* The other types, without gradients. A double's power is the C library's. */
static inline CKPT_HD double ckpt_pair_double(ckpt_pair kind, double a, double b) {
    if (kind == CKPT_PAIR_POW) return pow(a, b);
    return (kind == CKPT_PAIR_MAX ? a >= b : a <= b) || a != a ? a : b;
}

/* Integers wrap; a negative exponent leaves what 1 / a^|b| rounds to: nothing but for 1 and -1. */
static inline CKPT_HD int64_t ckpt_pair_whole(ckpt_pair kind, int64_t a, int64_t b) {
    if (kind == CKPT_PAIR_MAX) return a >= b ? a : b;
    if (kind == CKPT_PAIR_MIN) return a <= b ? a : b;
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 ? -1 : 1) : 0;
    uint64_t base = (uint64_t)a, product = 1;
    for (; b > 0; b /= 2, base *= base)
        if (b % 2) product *= base;
    return (int64_t)product;
}

#endif
