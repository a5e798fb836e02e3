/* Elements of a file to float32 or int64, and the checks of their values. */
#include "data/class_table.h"

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

static inline double to_double(uint64_t bits, unsigned bytes) {
    if (bytes == 2) return (double)half_to_float((uint32_t)bits);
    if (bytes == 4) {
        float value;
        uint32_t low = (uint32_t)bits;
        memcpy(&value, &low, sizeof value);
        return (double)value;
    }
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Where an element of the array stands. */
typedef struct place {
    unsigned long long row, column;
} place;

static place place_of(const ckpt_array *array, uint64_t at) {
    return (place){at / array->values, at % array->values};
}

#define AT "at row %llu, column %llu (counted from 0)"

static ckpt_status integer_from_real(uint64_t bits, const ckpt_layout *layout, const ckpt_array *array,
                                     uint64_t at, int64_t *value, ckpt_error *err) {
    const double real = to_double(bits, layout->bytes);
    const place p = place_of(array, at);
    /* int64's range as doubles have it; NaN is in none. */
    if (real >= -0x1p63 && real < 0x1p63 && real == floor(real)) return *value = (int64_t)real, CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE,
                     "has %.9g " AT
                     ", where whole numbers are needed; correct it, or save it with astype(np.int64)",
                     real, p.row, p.column);
}

static ckpt_status integer_from_unsigned(uint64_t bits, const ckpt_array *array, uint64_t at, int64_t *value,
                                         ckpt_error *err) {
    const place p = place_of(array, at);
    if (bits <= INT64_MAX) return *value = (int64_t)bits, CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "has %llu " AT ", too large for int64; save it with astype(np.int64)",
                     (unsigned long long)bits, p.row, p.column);
}

/* C leaves conversion beyond float's range undefined. The bound is half-way between FLT_MAX and the next
 * power of two. Infinity and NaN of the file are found by ckpt_data_check. */
static ckpt_status float_from_real(double real, const ckpt_array *array, uint64_t at, float *value,
                                   ckpt_error *err) {
    const place p = place_of(array, at);
    if (!isfinite(real) || fabs(real) < 0x1.ffffffp127) return *value = (float)real, CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "has %.9g " AT ", too large for float32; scale it", real, p.row,
                     p.column);
}

static float float_from_integer(uint64_t bits, const ckpt_layout *layout, const ckpt_array *array,
                                uint64_t at, ckpt_rounded *rounded) {
    if (layout->element == CKPT_ELEMENT_UNSIGNED && bits > INT64_MAX) return (float)bits;
    const int64_t value =
        layout->element == CKPT_ELEMENT_UNSIGNED ? (int64_t)bits : sign_extend(bits, layout->bytes);
    const float real = (float)value;
    if (layout->bytes >= 4 && (real >= 0x1p63f || (int64_t)real != value)) {
        const place p = place_of(array, at);
        if (!rounded->count++) *rounded = (ckpt_rounded){1, p.row, p.column, value};
    }
    return real;
}

/* Writes the character in UTF-8; returns the bytes. */
static size_t put_utf8(uint32_t c, char out[4]) {
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    const size_t bytes = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = bytes; i-- > 1; c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[bytes] | c);
    return bytes;
}

/* A string of numpy as UTF-8, without the zeros that pad it; returns its length. */
static size_t read_text(const uint8_t *from, const ckpt_layout *layout, char text[CKPT_TEXT_BYTES]) {
    const unsigned step = layout->element == CKPT_ELEMENT_UCS4 ? 4 : 1;
    unsigned end = layout->bytes;
    size_t length = 0;
    while (end >= step && !load_bits(from + end - step, step, layout->big_endian)) end -= step;
    for (unsigned i = 0; i + step <= end; i += step) {
        const uint64_t c = load_bits(from + i, step, layout->big_endian);
        if (step == 1)
            text[length++] = (char)c;
        else
            length += put_utf8(c < 0x110000 ? (uint32_t)c : 0xfffd, text + length);
    }
    return length;
}

static ckpt_status number_from_text(const uint8_t *from, const ckpt_layout *layout, const ckpt_array *array,
                                    uint64_t at, ckpt_class_table *names, int64_t *number, ckpt_error *err) {
    char text[CKPT_TEXT_BYTES];
    const size_t length = read_text(from, layout, text);
    const place p = place_of(array, at);
    const ckpt_status status = ckpt_class_table_number(names, text, length, number, err);
    if (status == CKPT_OK || !err) return status;
    char what[CKPT_MESSAGE_SIZE];
    memcpy(what, err->message, sizeof what);
    return ckpt_fail(err, status, "has '%.*s' " AT ", which %s", (int)(length < 40 ? length : 40), text,
                     p.row, p.column, what);
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

static ckpt_status convert_integer(const uint8_t *from, const ckpt_layout *layout, const ckpt_array *array,
                                   uint64_t at, ckpt_class_table *names, ckpt_error *err) {
    int64_t *to = (int64_t *)array->data + at;
    if (ckpt_element_is_text(layout->element))
        return number_from_text(from, layout, array, at, names, to, err);
    const uint64_t bits = load_bits(from, layout->bytes, layout->big_endian);
    if (layout->element == CKPT_ELEMENT_FLOAT) return integer_from_real(bits, layout, array, at, to, err);
    if (layout->element == CKPT_ELEMENT_UNSIGNED) return integer_from_unsigned(bits, array, at, to, err);
    *to = sign_extend(bits, layout->bytes);
    return CKPT_OK;
}

static ckpt_status convert_float(const uint8_t *from, const ckpt_layout *layout, const ckpt_array *array,
                                 uint64_t at, ckpt_rounded *rounded, ckpt_error *err) {
    float *to = (float *)array->data + at;
    const uint64_t bits = load_bits(from, layout->bytes, layout->big_endian);
    if (layout->element == CKPT_ELEMENT_FLOAT)
        return float_from_real(to_double(bits, layout->bytes), array, at, to, err);
    *to = float_from_integer(bits, layout, array, at, rounded);
    return CKPT_OK;
}

ckpt_status ckpt_data_convert(ckpt_stream *stream, const ckpt_layout *layout, ckpt_array *array,
                              ckpt_rounded *rounded, ckpt_class_table *names, ckpt_error *err) {
    uint8_t chunk[CHUNK_BYTES];
    walk w = walk_start(layout);
    for (uint64_t done = 0; done < layout->count;) {
        uint64_t take = layout->count - done, most = CHUNK_BYTES / layout->bytes;
        if (take > most) take = most;
        CKPT_TRY(ckpt_stream_read(stream, chunk, (size_t)take * layout->bytes, err));
        for (uint64_t i = 0; i < take; i++) {
            const uint64_t to = layout->fortran ? w.position : done + i;
            const uint8_t *from = chunk + i * layout->bytes;
            CKPT_TRY(array->type == CKPT_ARRAY_F32 ? convert_float(from, layout, array, to, rounded, err)
                                                   : convert_integer(from, layout, array, to, names, err));
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
        const place p = place_of(array, i);
        if (!finite)
            return ckpt_fail(err, CKPT_USAGE, "has %s " AT "; remove or replace it",
                             isnan(value[i]) ? "NaN"
                             : value[i] > 0  ? "infinity"
                                             : "-infinity",
                             p.row, p.column);
        return ckpt_fail(err, CKPT_USAGE, "has %g " AT "; the loss takes targets from 0 to 1",
                         (double)value[i], p.row, p.column);
    }
    return CKPT_OK;
}

static ckpt_status check_integers(const ckpt_array *array, const ckpt_data_request *request, uint64_t count,
                                  ckpt_error *err) {
    const int64_t *value = array->data;
    const int64_t least = request->classes > 0 ? 0 : request->least,
                  most = request->classes > 0 ? request->classes - 1 : request->most;
    for (uint64_t i = 0; (least || most || request->classes > 0) && i < count; i++) {
        if (value[i] >= least && value[i] <= most) continue;
        if (request->has_ignore && value[i] == request->ignore) continue;
        const place p = place_of(array, i);
        return ckpt_fail(err, CKPT_USAGE, "has %s %lld " AT "; the model takes %lld to %lld",
                         request->role == CKPT_DATA_TARGET ? "class"
                         : request->classes > 0            ? "index"
                                                           : "the value",
                         (long long)value[i], p.row, p.column, (long long)least, (long long)most);
    }
    return CKPT_OK;
}

/* Where the model takes one float, two names are 0 and 1; other numbers of names are no floats. */
static ckpt_status check_names(const ckpt_array *array, const ckpt_data_request *request, ckpt_error *err) {
    const ckpt_names *names = &array->classes;
    const bool floats = request->want == CKPT_WANT_FLOAT;
    const int64_t takes = floats ? 2 : request->classes;
    char list[CKPT_LIST_TEXT];
    if (!names->count || takes <= 0) return CKPT_OK;
    if (floats && array->values > 1)
        return ckpt_fail(err, CKPT_USAGE, "names classes, where the model takes floats; write numbers");
    if (names->count == (uint64_t)takes) return CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "names %zu class%s, %s; the model has %lld", names->count,
                     names->count == 1 ? "" : "es", ckpt_data_list_text(names->name, names->count, list),
                     (long long)takes);
}

ckpt_status ckpt_data_check(const ckpt_array *array, const ckpt_data_request *request, ckpt_error *err) {
    const uint64_t count = (uint64_t)array->dim[0] * array->values;
    CKPT_TRY(check_names(array, request, err));
    return array->type == CKPT_ARRAY_F32 ? check_floats(array, request, count, err)
                                         : check_integers(array, request, count, err);
}
