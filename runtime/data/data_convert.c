/* Elements of a file to float32 or int64, and the checks of their values. */
#include "data/data_format.h"

#include <math.h>
#include <string.h>

#include "base/units.h"

enum { CHUNK_BYTES = 32 * 1024 };

ckpt_status ckpt_layout_finish(ckpt_layout *layout, ckpt_error *err) {
    uint64_t count = 1, bytes;
    bool fits = true;
    for (int i = 0; i < layout->rank; i++)
        fits = fits && ckpt_mul_u64(count, (uint64_t)layout->dim[i], &count);
    if (!fits || !ckpt_mul_u64(count, layout->bytes, &bytes) || bytes > INT64_MAX) {
        char shape[CKPT_SHAPE_TEXT];
        return ckpt_fail(err, CKPT_USAGE, "has shape %s, beyond 64 bits; the file is damaged",
                         ckpt_data_shape_text(layout->rank, layout->dim, shape));
    }
    layout->count = count;
    return CKPT_OK;
}

/* The element's bits in the low bytes; the file's byte order, whatever the host's. */
static inline uint64_t load_bits(const uint8_t *at, unsigned bytes, bool big_endian) {
    uint64_t bits = 0;
    for (unsigned i = 0; i < bytes; i++) bits = bits << 8 | at[big_endian ? i : bytes - 1 - i];
    return bits;
}

/* IEEE 754 binary16, exactly. */
static float half_to_float(uint32_t half) {
    uint32_t sign = (half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 0x3ff;
    uint32_t bits;
    if (exponent == 31) {
        bits = 0x7f800000 | fraction << 13;
    } else if (exponent) {
        bits = (exponent + 127 - 15) << 23 | fraction << 13;
    } else {
        float subnormal = (float)fraction * 0x1p-24f;
        memcpy(&bits, &subnormal, sizeof bits);
    }
    bits |= sign;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int64_t sign_extend(uint64_t bits, unsigned bytes) {
    unsigned shift = 64 - 8 * bytes;
    return (int64_t)(bits << shift) >> shift;
}

static inline float to_float(uint64_t bits, const ckpt_layout *layout) {
    if (layout->element == CKPT_ELEMENT_UNSIGNED) return (float)bits;
    if (layout->element == CKPT_ELEMENT_SIGNED) return (float)sign_extend(bits, layout->bytes);
    if (layout->bytes == 2) return half_to_float((uint32_t)bits);
    if (layout->bytes == 4) {
        float value;
        uint32_t low = (uint32_t)bits;
        memcpy(&value, &low, sizeof value);
        return value;
    }
    double value;
    memcpy(&value, &bits, sizeof value);
    /* C leaves conversion beyond float's range undefined. Infinity is found by ckpt_data_check. The bound is
     * half-way between FLT_MAX and the next power of two. */
    if (value >= 0x1.ffffffp127) return INFINITY;
    if (value <= -0x1.ffffffp127) return -INFINITY;
    return (float)value;
}

/* Walks a column-major array and gives the row-major position of each element. */
typedef struct walk {
    int64_t at[CKPT_ARRAY_MAX_RANK];
    uint64_t stride[CKPT_ARRAY_MAX_RANK]; /* row-major, in elements */
    uint64_t position;
} walk;

static walk walk_start(const ckpt_layout *layout) {
    walk w = {.position = 0};
    uint64_t stride = 1;
    for (int i = layout->rank; i-- > 0;) {
        w.stride[i] = stride;
        stride *= (uint64_t)layout->dim[i];
    }
    return w;
}

static void walk_next(walk *w, const ckpt_layout *layout) {
    for (int i = 0; i < layout->rank; i++) {
        w->position += w->stride[i];
        if (++w->at[i] < layout->dim[i]) return;
        w->position -= w->stride[i] * (uint64_t)layout->dim[i];
        w->at[i] = 0;
    }
}

ckpt_status ckpt_data_convert(ckpt_stream *stream, const ckpt_layout *layout, ckpt_array *array,
                              ckpt_error *err) {
    uint8_t chunk[CHUNK_BYTES];
    float *floats = array->data;
    int64_t *integers = array->data;
    walk w = walk_start(layout);
    for (uint64_t done = 0; done < layout->count;) {
        uint64_t take = layout->count - done, most = CHUNK_BYTES / layout->bytes;
        if (take > most) take = most;
        CKPT_TRY(ckpt_stream_read(stream, chunk, (size_t)take * layout->bytes, err));
        for (uint64_t i = 0; i < take; i++) {
            uint64_t to = layout->fortran ? w.position : done + i;
            uint64_t bits = load_bits(chunk + i * layout->bytes, layout->bytes, layout->big_endian);
            if (array->type == CKPT_ARRAY_F32) {
                floats[to] = to_float(bits, layout);
            } else if (layout->element == CKPT_ELEMENT_SIGNED) {
                integers[to] = sign_extend(bits, layout->bytes);
            } else if (bits <= INT64_MAX) {
                integers[to] = (int64_t)bits;
            } else {
                return ckpt_fail(err, CKPT_USAGE,
                                 "has %llu, too large for int64; save it with astype(np.int64)",
                                 (unsigned long long)bits);
            }
            if (layout->fortran) walk_next(&w, layout);
        }
        done += take;
    }
    return CKPT_OK;
}

static ckpt_status check_floats(const ckpt_array *array, const ckpt_data_request *request, uint64_t count,
                                ckpt_error *err) {
    const float *value = array->data;
    for (uint64_t i = 0; i < count; i++) {
        bool finite = isfinite(value[i]);
        if (finite && (!request->unit_range || (value[i] >= 0 && value[i] <= 1))) continue;
        unsigned long long row = i / array->values, column = i % array->values;
        if (!finite)
            return ckpt_fail(err, CKPT_USAGE,
                             "has %s at row %llu, column %llu (counted from 0); remove or replace it",
                             isnan(value[i]) ? "NaN" : "a value that is infinite as float32", row, column);
        return ckpt_fail(
            err, CKPT_USAGE,
            "has %g at row %llu, column %llu (counted from 0); the loss takes targets from 0 to 1",
            (double)value[i], row, column);
    }
    return CKPT_OK;
}

ckpt_status ckpt_data_check(const ckpt_array *array, const ckpt_data_request *request, ckpt_error *err) {
    uint64_t count = (uint64_t)array->dim[0] * array->values;
    if (array->type == CKPT_ARRAY_F32) return check_floats(array, request, count, err);
    const int64_t *value = array->data;
    for (uint64_t i = 0; request->classes > 0 && i < count; i++) {
        if (value[i] >= 0 && value[i] < request->classes) continue;
        if (request->has_ignore && value[i] == request->ignore) continue;
        return ckpt_fail(err, CKPT_USAGE,
                         "has %s %lld at row %llu, column %llu (counted from 0); the model takes 0 to %lld",
                         request->role == CKPT_DATA_TARGET ? "class" : "index", (long long)value[i],
                         (unsigned long long)(i / array->values), (unsigned long long)(i % array->values),
                         (long long)request->classes - 1);
    }
    return CKPT_OK;
}
