/* Elementary functions in float32 that give the same bits from every compiler, instruction set and device:
 * plain multiplies, adds and divides in a fixed order (no fused multiply-add, no libm), without branches, so
 * that loops over them vectorise.
 *
 *     y[i] = ckpt_exp(x[i]);
 *
 * Largest errors found over all floats, in units in the last place: exp 1.0, expm1 1.0, log 0.9, log1p 1.2,
 * tanh 1.2, sigmoid and softplus 2.1, erf 1.4; erfc on 0 to 3, 10 (tests/runtime/test_cpu_math.c sets limits).
 * NaN goes through. Range reduction and the forms of the approximations: Muller, "Elementary Functions",
 * 3rd ed., chapters 10 and 11. Every polynomial is a minimax fit made for this file by a Remez exchange in
 * 40-digit arithmetic, coefficients then rounded to float; each comment names the fitted function, its weight
 * and the fit's error. Compile with contraction off (-ffp-contract=off, nvcc -fmad=false).
 */
#ifndef CKPT_FLOAT_MATH_H
#define CKPT_FLOAT_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "runtime/philox.h"

static inline CKPT_HD uint32_t ckpt_float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline CKPT_HD float ckpt_bits_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline CKPT_HD float ckpt_abs(float x) { return ckpt_bits_float(ckpt_float_bits(x) & 0x7FFFFFFFu); }
static inline CKPT_HD float ckpt_copysign(float magnitude, float sign) {
    return ckpt_bits_float((ckpt_float_bits(magnitude) & 0x7FFFFFFFu) | (ckpt_float_bits(sign) & 0x80000000u));
}

/* c = k ln 2 + r with |r| <= ln(2)/2; returns q = exp(r) - 1 and k. Adding 1.5 * 2^23 rounds to an integer and
 * leaves it in the low bits, which avoids an undefined conversion where c is NaN. */
static inline CKPT_HD float ckpt_exp_parts(float c, int32_t *k) {
    const float shifted = c * 1.44269504f + 12582912.0f;
    const float n = shifted - 12582912.0f;
    /* ln 2 in two parts; the first has 12 significant bits, so n times it is exact. */
    const float r = (c - n * 0.693145752f) - n * 1.42860677e-6f;
    /* (exp(r) - 1 - r) / r^2, weighted by r^2: 3.4e-9 */
    const float p =
        0.5f + r * (1.666651219e-01f + r * (4.166618735e-02f + r * (8.369598538e-03f + r * 1.395171857e-03f)));
    *k = (int32_t)(ckpt_float_bits(shifted) - 0x4B400000u);
    return r + r * r * p;
}

static inline CKPT_HD float ckpt_exp(float x) {
    float c = x > 89.0f ? 89.0f : x;
    c = c < -104.0f ? -104.0f : c;
    int32_t k;
    const float q = ckpt_exp_parts(c, &k);
    /* 2^k in two factors, for results that overflow or are subnormal. */
    const int32_t half = k >> 1;
    const float s1 = ckpt_bits_float((uint32_t)(half + 127) << 23);
    const float s2 = ckpt_bits_float((uint32_t)(k - half + 127) << 23);
    return (1.0f + q) * s1 * s2;
}

/* exp(x) - 1 for x <= 0.3; a greater x gives the value there. */
static inline CKPT_HD float ckpt_expm1_low(float x) {
    float c = x > 0.3f ? 0.3f : x;
    c = c < -80.0f ? -80.0f : c;
    int32_t k;
    const float q = ckpt_exp_parts(c, &k);
    const float s = ckpt_bits_float((uint32_t)(k + 127) << 23);
    return s * q + (s - 1.0f);
}

/* log(1 + f) = f - s (f - z Q(z)), s = f / (2 + f), z = s^2 <= 1/9.
 * Q(z) = (2 atanh(s) / s - 2) / z on z <= 0.1113, weighted by z: 2.3e-10 */
static inline CKPT_HD float ckpt_log_core(float f) {
    const float s = f / (2.0f + f), z = s * s;
    const float q =
        6.666667461e-01f + z * (3.999886811e-01f + z * (2.861714065e-01f + z * (2.142458707e-01f + z * 2.431349307e-01f)));
    return f - s * (f - z * q);
}

static inline CKPT_HD float ckpt_log1p_unit(float x) { return ckpt_log_core(x); } /* 0 <= x <= 1 */

static inline CKPT_HD float ckpt_log(float x) {
    const int tiny = x < 1.17549435e-38f;
    const uint32_t bits = ckpt_float_bits(tiny ? x * 8388608.0f : x) - 0x3F3504F3u; /* sqrt(1/2) */
    const float e = (float)((int32_t)bits >> 23) - (tiny ? 23.0f : 0.0f);
    const float f = ckpt_bits_float((bits & 0x7FFFFFu) + 0x3F3504F3u) - 1.0f;
    const float y = e * 0.693145752f + (ckpt_log_core(f) + e * 1.42860677e-6f);
    const float special = x == 0.0f ? -INFINITY : x > 0.0f ? x : NAN; /* 0, +inf; negative and NaN */
    return x > 0.0f && x < INFINITY ? y : special;
}

static inline CKPT_HD float ckpt_tanh(float x) {
    const float a = ckpt_abs(x), z = x * x;
    /* (tanh(x) / x - 1) / x^2 on |x| <= 0.63, weighted by x^2: 4.5e-9 */
    const float t = -3.333328068e-01f +
                    z * (1.333138347e-01f + z * (-5.373400077e-02f + z * (2.061812952e-02f + z * -5.679311231e-03f)));
    const float near = a + a * (z * t);
    const float far = 1.0f - 2.0f / (ckpt_exp(a + a) + 1.0f);
    return ckpt_copysign(a < 0.625f ? near : far, x);
}

static inline CKPT_HD float ckpt_sigmoid(float x) {
    const float e = ckpt_exp(-ckpt_abs(x));
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

static inline CKPT_HD float ckpt_softplus(float x) {
    return (x > 0.0f ? x : 0.0f) + ckpt_log1p_unit(ckpt_exp(-ckpt_abs(x)));
}

/* erfc(x) = exp(-x^2) R(1 / (1 + 0.4 x)) for x >= 0, with exp(-x^2) given: callers need it too. */
static inline CKPT_HD float ckpt_erfc_with(float x, float exp_minus_xx) {
    const float t = 1.0f / (1.0f + 0.4f * x);
    /* exp(x^2) erfc(x) on 0 <= x <= 10.2, relative: 3.2e-8 */
    const float r =
        2.451279397e-05f +
        t * (2.251204401e-01f +
             t * (2.310315073e-01f +
                  t * (1.789685339e-01f +
                       t * (2.640290856e-01f +
                            t * (-5.976802483e-02f +
                                 t * (2.649649978e-01f +
                                      t * (-5.539759994e-02f + t * (-7.834269851e-02f + t * 2.936927043e-02f))))))));
    return exp_minus_xx * r;
}

static inline CKPT_HD float ckpt_erf(float x) {
    const float a = ckpt_abs(x), z = x * x;
    /* erf(x) / x - 1 on |x| <= 0.9375: 5.1e-10. Adding a last keeps the product's rounding small. */
    const float e =
        1.283791671e-01f +
        z * (-3.761263192e-01f +
             z * (1.128368601e-01f +
                  z * (-2.685885131e-02f + z * (5.199600477e-03f + z * (-8.125812747e-04f + z * 8.296634769e-05f)))));
    const float far = 1.0f - ckpt_erfc_with(a, ckpt_exp(-z));
    return ckpt_copysign(a < 0.9375f ? a + a * e : far, x);
}

/* The normal distribution function; its density is 0.398942280 * *exp_half = exp(-x^2 / 2) * 0.398942280. */
static inline CKPT_HD float ckpt_normal_cdf(float x, float *exp_half) {
    *exp_half = ckpt_exp(-0.5f * x * x);
    const float tail = 0.5f * ckpt_erfc_with(ckpt_abs(x) * 0.707106781f, *exp_half);
    return x > 0.0f ? 1.0f - tail : tail;
}

#endif
