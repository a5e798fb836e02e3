/* Conversions between element types, for the C compiler and nvcc: halves by integer arithmetic (round to
 * nearest even), integers from floats by truncation towards zero, saturating, NaN to 0.
 *
 *     uint16_t h = ckpt_half_from_float(x);
 *     float x = ckpt_float_from_bfloat(b);
 */
#ifndef CKPT_CONVERT_MATH_H
#define CKPT_CONVERT_MATH_H

#include "runtime/float_math.h"

static inline CKPT_HD uint16_t ckpt_half_from_float(float x) {
    const uint32_t bits = ckpt_float_bits(x), sign = bits >> 16 & 0x8000u, a = bits & 0x7FFFFFFFu;
    /* Normal results: move the exponent's bias from 127 to 15 and round at bit 13. */
    const uint32_t normal = (a - (112u << 23) + 0xFFFu + (a >> 13 & 1u)) >> 13;
    /* Subnormal results: adding 0.5 leaves the half's bits, rounded, at the bottom of the sum. */
    const uint32_t subnormal = ckpt_float_bits(ckpt_bits_float(a) + 0.5f) - ckpt_float_bits(0.5f);
    const uint32_t large = a > 0x7F800000u ? 0x7E00u : 0x7C00u;
    return (uint16_t)(sign | (a >= 0x477FF000u ? large : a < 0x38800000u ? subnormal : normal));
}

static inline CKPT_HD float ckpt_float_from_half(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, a = h & 0x7FFFu;
    const float normal = ckpt_bits_float((a << 13) + (a >= 0x7C00u ? 224u << 23 : 112u << 23));
    const float subnormal = (float)(int32_t)a * 5.9604644775390625e-08f; /* 2^-24 */
    return ckpt_bits_float(ckpt_float_bits(a < 0x0400u ? subnormal : normal) | sign);
}

static inline CKPT_HD uint16_t ckpt_bfloat_from_float(float x) {
    const uint32_t bits = ckpt_float_bits(x);
    const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
    return (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? (bits >> 16 | 0x40u) : rounded);
}

static inline CKPT_HD float ckpt_float_from_bfloat(uint16_t b) { return ckpt_bits_float((uint32_t)b << 16); }

/* To a float that a further rounding to a half or bfloat treats as it would the double itself: an inexact
 * result gets an odd last bit (Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums"). */
static inline CKPT_HD float ckpt_float_round_odd(double x) {
    const float f = (float)x;
    uint32_t bits = ckpt_float_bits(f);
    const double ax = x < 0 ? -x : x, af = f < 0 ? -(double)f : (double)f;
    if (!(x == x) || (double)f == x) return f;
    if (af > ax) bits -= 1;
    return ckpt_bits_float(bits | 1u);
}

static inline CKPT_HD int32_t ckpt_i32_from_double(double x) {
    return !(x == x) ? 0 : x >= 2147483647.0 ? INT32_MAX : x <= -2147483648.0 ? INT32_MIN : (int32_t)x;
}
static inline CKPT_HD int64_t ckpt_i64_from_double(double x) {
    return !(x == x)                        ? 0
           : x >= 9223372036854775808.0     ? INT64_MAX
           : x <= -9223372036854775808.0    ? INT64_MIN
                                            : (int64_t)x;
}

#endif
