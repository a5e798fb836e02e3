#include "proto/onnx_convert.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float onnx_f32_from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1f, fraction = half & 0x3ff;
    if (exponent == 0x1f) return float_of(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24, exact in float */
        float magnitude = (float)fraction * 0x1p-24f;
        return float_of(sign | bits_of(magnitude));
    }
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

/* Divides by 2^shift, rounding to nearest, ties to even. 1 <= shift <= 31. */
static uint32_t shift_even(uint32_t value, unsigned shift) {
    uint32_t kept = value >> shift, rest = value & ((UINT32_C(1) << shift) - 1);
    uint32_t half = UINT32_C(1) << (shift - 1);
    return kept + (rest > half || (rest == half && (kept & 1)));
}

uint16_t onnx_half_from_f32(float value) {
    uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffff;
    uint32_t sign = bits >> 16 & 0x8000, half;
    if (magnitude > 0x7f800000) {
        half = 0x7e00 | (magnitude >> 13 & 0x3ff);
    } else if (magnitude >= 0x47800000) { /* 65536 and more; what is below rounds up to it by itself */
        half = 0x7c00;
    } else if (magnitude >= 0x38800000) { /* normal: a carry out of the fraction raises the exponent */
        half = shift_even(magnitude - 0x38000000, 13);
    } else if (magnitude >= 0x33000000) { /* subnormal: count units of 2^-24 */
        half = shift_even((magnitude & 0x7fffff) | 0x800000, 126 - (magnitude >> 23));
    } else {
        half = 0;
    }
    return (uint16_t)(sign | half);
}

float onnx_f32_from_bfloat(uint16_t bfloat) {
    return float_of((uint32_t)bfloat << 16);
}

uint16_t onnx_bfloat_from_f32(float value) {
    uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40); /* never round NaN to Inf */
    return (uint16_t)shift_even(bits, 16);
}

/* By way of the float toward zero whose last bit says whether anything was cut off: rounding that is rounding the value. */
uint16_t ckpt_onnx_half_bits(int type, double value) {
    float narrow = (float)value;
    if ((double)narrow != value && value == value) {
        const bool away = fabs((double)narrow) > fabs(value);
        narrow = float_of((bits_of(narrow) - away) | 1);
    }
    return type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16 ? onnx_half_from_f32(narrow) : onnx_bfloat_from_f32(narrow);
}

/* ---- Arrays. Sources may be unaligned: they are pieces of files. ------------------------------------ */

#define TO_F32(name, ctype, expression)                                                                      \
    static void name##_to_f32(const void *src, float *dst, size_t n) {                                       \
        for (size_t i = 0; i < n; i++) {                                                                     \
            ctype x;                                                                                         \
            memcpy(&x, (const char *)src + i * sizeof x, sizeof x);                                          \
            dst[i] = expression;                                                                             \
        }                                                                                                    \
    }

#define TO_I64(name, ctype, expression, fits)                                                                \
    static bool name##_to_i64(const void *src, int64_t *dst, size_t n) {                                     \
        for (size_t i = 0; i < n; i++) {                                                                     \
            ctype x;                                                                                         \
            memcpy(&x, (const char *)src + i * sizeof x, sizeof x);                                          \
            if (!(fits)) return false;                                                                       \
            dst[i] = (int64_t)(expression);                                                                  \
        }                                                                                                    \
        return true;                                                                                         \
    }

#define FROM_F32(name, ctype, expression)                                                                    \
    static void name##_from_f32(const float *src, void *dst, size_t n) {                                     \
        for (size_t i = 0; i < n; i++) {                                                                     \
            ctype x = expression;                                                                            \
            memcpy((char *)dst + i * sizeof x, &x, sizeof x);                                                \
        }                                                                                                    \
    }

#define INTEGER(name, ctype)                                                                                 \
    TO_F32(name, ctype, (float)x)                                                                            \
    TO_I64(name, ctype, x, true)

INTEGER(i8, int8_t)
INTEGER(i16, int16_t)
INTEGER(i32, int32_t)
INTEGER(i64, int64_t)
INTEGER(u8, uint8_t)
INTEGER(u16, uint16_t)
INTEGER(u32, uint32_t)
TO_F32(u64, uint64_t, (float)x)
TO_I64(u64, uint64_t, x, x <= INT64_MAX)
TO_F32(bool, uint8_t, x ? 1.0f : 0.0f)
TO_I64(bool, uint8_t, x != 0, true)
TO_F32(f32, float, x)
TO_F32(f64, double, (float)x)
TO_F32(half, uint16_t, onnx_f32_from_half(x))
TO_F32(bfloat, uint16_t, onnx_f32_from_bfloat(x))
FROM_F32(f32, float, src[i])
FROM_F32(f64, double, src[i])
FROM_F32(half, uint16_t, onnx_half_from_f32(src[i]))
FROM_F32(bfloat, uint16_t, onnx_bfloat_from_f32(src[i]))

#define ROW(NAME, bits, FIELD, unit, ...)                                                                    \
    { ONNX__TENSOR_PROTO__DATA_TYPE__##NAME, #NAME, bits, ONNX_STORE_##FIELD, unit, __VA_ARGS__ }

/* TensorProto says which typed field holds which type. Types under 8 bits put one packed byte in an entry. */
static const onnx_type types[] = {
    ROW(FLOAT, 32, FLOAT, 4, f32_to_f32, NULL, f32_from_f32),
    ROW(UINT8, 8, INT32, 1, u8_to_f32, u8_to_i64, NULL),
    ROW(INT8, 8, INT32, 1, i8_to_f32, i8_to_i64, NULL),
    ROW(UINT16, 16, INT32, 2, u16_to_f32, u16_to_i64, NULL),
    ROW(INT16, 16, INT32, 2, i16_to_f32, i16_to_i64, NULL),
    ROW(INT32, 32, INT32, 4, i32_to_f32, i32_to_i64, NULL),
    ROW(INT64, 64, INT64, 8, i64_to_f32, i64_to_i64, NULL),
    ROW(STRING, 0, STRING, 0, NULL, NULL, NULL),
    ROW(BOOL, 8, INT32, 1, bool_to_f32, bool_to_i64, NULL),
    ROW(FLOAT16, 16, INT32, 2, half_to_f32, NULL, half_from_f32),
    ROW(DOUBLE, 64, DOUBLE, 8, f64_to_f32, NULL, f64_from_f32),
    ROW(UINT32, 32, UINT64, 4, u32_to_f32, u32_to_i64, NULL),
    ROW(UINT64, 64, UINT64, 8, u64_to_f32, u64_to_i64, NULL),
    ROW(COMPLEX64, 64, FLOAT, 4, NULL, NULL, NULL),
    ROW(COMPLEX128, 128, DOUBLE, 8, NULL, NULL, NULL),
    ROW(BFLOAT16, 16, INT32, 2, bfloat_to_f32, NULL, bfloat_from_f32),
    ROW(FLOAT8E4M3FN, 8, INT32, 1, NULL, NULL, NULL),
    ROW(FLOAT8E4M3FNUZ, 8, INT32, 1, NULL, NULL, NULL),
    ROW(FLOAT8E5M2, 8, INT32, 1, NULL, NULL, NULL),
    ROW(FLOAT8E5M2FNUZ, 8, INT32, 1, NULL, NULL, NULL),
    ROW(UINT4, 4, INT32, 1, NULL, NULL, NULL),
    ROW(INT4, 4, INT32, 1, NULL, NULL, NULL),
    ROW(FLOAT4E2M1, 4, INT32, 1, NULL, NULL, NULL),
    ROW(FLOAT8E8M0, 8, INT32, 1, NULL, NULL, NULL),
    ROW(UINT2, 2, INT32, 1, NULL, NULL, NULL),
    ROW(INT2, 2, INT32, 1, NULL, NULL, NULL),
    ROW(FLOAT6E2M3, 6, INT32, 1, NULL, NULL, NULL),
    ROW(FLOAT6E3M2, 6, INT32, 1, NULL, NULL, NULL),
};

const onnx_type *onnx_type_find(int type) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if ((int)types[i].type == type) return &types[i];
    }
    return NULL;
}

const char *ckpt_onnx_type_name(int type) {
    const onnx_type *row = onnx_type_find(type);
    return row ? row->name : "of unknown type";
}
