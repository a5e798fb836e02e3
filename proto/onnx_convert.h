/* Element types of ONNX tensors: sizes and conversions. Pure functions, no files.
 *
 *     const onnx_type *type = onnx_type_find(tensor->data_type);   // NULL: not a type of ONNX
 *     if (type->to_f32) type->to_f32(bytes, values, n);
 */
#ifndef CKPT_ONNX_CONVERT_H
#define CKPT_ONNX_CONVERT_H

#include "proto/onnx_internal.h"

typedef struct onnx_type {
    Onnx__TensorProto__DataType type;
    const char *name;
    unsigned bits;       /* of an element; 0 for STRING */
    onnx_store field;    /* the typed field that holds it */
    unsigned unit_bytes; /* of what one entry of that field stores; several units make a complex element */
    /* From `n` elements as they are in the file; NULL where there is no such conversion. */
    void (*to_f32)(const void *src, float *dst, size_t n);
    /* False when a value does not fit. */
    bool (*to_i64)(const void *src, int64_t *dst, size_t n);
    /* Rounds to nearest, ties to even. NULL for types whose values cannot be replaced. */
    void (*from_f32)(const float *src, void *dst, size_t n);
} onnx_type;

const onnx_type *onnx_type_find(int type);

/* IEEE 754 binary16 and bfloat16, as their bits. NaN stays NaN. */
float onnx_f32_from_half(uint16_t half);
uint16_t onnx_half_from_f32(float value);
float onnx_f32_from_bfloat(uint16_t bfloat);
uint16_t onnx_bfloat_from_f32(float value);

#endif
