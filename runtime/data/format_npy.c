/* .npy, versions 1.0, 2.0 and 3.0:
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 *
 *     "\x93NUMPY" major minor | header length, 2 bytes (1.0) or 4, little-endian | header | elements
 *
 * The header is a Python dict literal padded with spaces and a newline:
 *     {'descr': '<f4', 'fortran_order': False, 'shape': (100, 64), }
 */
#include "data/data_format.h"

#include <string.h>

/* numpy itself refuses headers beyond 10000 bytes unless told otherwise; 8 dimensions need about 250. */
enum { HEADER_MAX = 16 * 1024, TEXT_MAX = 32 };

typedef struct text {
    const char *at, *end;
} text;

static void skip_spaces(text *t) {
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\t' || *t->at == '\n')) t->at++;
}

/* Takes `c` after spaces. */
static bool take(text *t, char c) {
    skip_spaces(t);
    if (t->at == t->end || *t->at != c) return false;
    t->at++;
    return true;
}

static bool take_word(text *t, const char *word) {
    size_t n = strlen(word);
    skip_spaces(t);
    if ((size_t)(t->end - t->at) < n || memcmp(t->at, word, n) != 0) return false;
    t->at += n;
    return true;
}

/* A quoted string without escapes; false also when it does not fit `out`. */
static bool take_string(text *t, char out[TEXT_MAX]) {
    skip_spaces(t);
    if (t->at == t->end || (*t->at != '\'' && *t->at != '"')) return false;
    char quote = *t->at++;
    size_t n = 0;
    for (; t->at < t->end && *t->at != quote; t->at++) {
        if (*t->at == '\\' || n + 1 == TEXT_MAX) return false;
        out[n++] = *t->at;
    }
    out[n] = 0;
    return take(t, quote);
}

/* (), (3,), (3, 4): a tuple of non-negative integers. Python 2 wrote 3L. */
static ckpt_status take_shape(text *t, ckpt_layout *layout, ckpt_error *err) {
    const char *bad = "has a malformed shape in its .npy header; save the file again";
    if (!take(t, '(')) return ckpt_fail(err, CKPT_USAGE, "%s", bad);
    bool comma = false;
    layout->rank = 0;
    while (!take(t, ')')) {
        if (layout->rank > 0 && !comma) return ckpt_fail(err, CKPT_USAGE, "%s", bad);
        if (layout->rank == CKPT_ARRAY_MAX_RANK)
            return ckpt_fail(err, CKPT_USAGE, "has more than %d axes; reshape it", CKPT_ARRAY_MAX_RANK);
        int64_t dim = 0;
        skip_spaces(t);
        const char *start = t->at;
        for (; t->at < t->end && *t->at >= '0' && *t->at <= '9'; t->at++)
            if (__builtin_mul_overflow(dim, 10, &dim) || __builtin_add_overflow(dim, *t->at - '0', &dim))
                return ckpt_fail(err, CKPT_USAGE,
                                 "has a dimension beyond 64 bits in its .npy header; save it again");
        if (t->at == start) return ckpt_fail(err, CKPT_USAGE, "%s", bad);
        if (t->at < t->end && *t->at == 'L') t->at++;
        layout->dim[layout->rank++] = dim;
        comma = take(t, ',');
    }
    if (layout->rank == 1 && !comma) return ckpt_fail(err, CKPT_USAGE, "%s", bad);
    return CKPT_OK;
}

static ckpt_status refuse_type(const char *descr, ckpt_error *err) {
    const char *what = "an unsupported type";
    switch (descr[0] && strchr("<>|=", descr[0]) ? descr[1] : descr[0]) {
    case 'c':
        what = "complex numbers";
        break;
    case 'O':
        what = "Python objects, which are never unpickled";
        break;
    case 'V':
        what = "structured records";
        break;
    case 'M':
    case 'm':
        what = "dates or times";
        break;
    case 'f':
        what = "extended precision floats";
        break;
    default:
        break;
    }
    return ckpt_fail(err, CKPT_USAGE,
                     "holds %s (dtype '%s'); save it with astype(np.float32) or astype(np.int64)", what,
                     descr);
}

/* "<U5", "|S3": strings of so many characters. */
static ckpt_status take_text_type(const char *descr, ckpt_layout *layout, ckpt_error *err) {
    uint64_t characters = 0;
    const bool wide = descr[1] == 'U';
    const char *p = descr + 2;
    for (; *p >= '0' && *p <= '9' && characters <= CKPT_TEXT_BYTES; p++)
        characters = 10 * characters + (uint64_t)(*p - '0');
    const uint64_t bytes = characters * (wide ? 4 : 1);
    if (*p || !bytes || bytes > CKPT_TEXT_BYTES)
        return ckpt_fail(
            err, CKPT_USAGE,
            "holds strings of no length or of more than %d bytes (dtype '%s'); save shorter ones",
            CKPT_TEXT_BYTES, descr);
    layout->element = wide ? CKPT_ELEMENT_UCS4 : CKPT_ELEMENT_BYTES;
    layout->bytes = (unsigned)bytes;
    layout->big_endian = descr[0] == '>';
    return CKPT_OK;
}

/* The array protocol's type string: byte order, kind, bytes. */
static ckpt_status take_type(text *t, ckpt_layout *layout, ckpt_error *err) {
    char descr[TEXT_MAX];
    skip_spaces(t);
    if (t->at < t->end && *t->at == '[')
        return ckpt_fail(err, CKPT_USAGE, "holds structured records; save each field as an array of its own");
    if (!take_string(t, descr))
        return ckpt_fail(err, CKPT_USAGE, "has a malformed descr in its .npy header; save the file again");
    static const struct {
        const char *text;
        ckpt_element element;
        unsigned bytes;
    } types[] = {
        {"f2", CKPT_ELEMENT_FLOAT, 2},    {"f4", CKPT_ELEMENT_FLOAT, 4},    {"f8", CKPT_ELEMENT_FLOAT, 8},
        {"i1", CKPT_ELEMENT_SIGNED, 1},   {"i2", CKPT_ELEMENT_SIGNED, 2},   {"i4", CKPT_ELEMENT_SIGNED, 4},
        {"i8", CKPT_ELEMENT_SIGNED, 8},   {"u1", CKPT_ELEMENT_UNSIGNED, 1}, {"u2", CKPT_ELEMENT_UNSIGNED, 2},
        {"u4", CKPT_ELEMENT_UNSIGNED, 4}, {"u8", CKPT_ELEMENT_UNSIGNED, 8}, {"b1", CKPT_ELEMENT_UNSIGNED, 1},
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        /* '|' says that byte order does not apply, which is so for one byte only. */
        if (!descr[0] || !strchr(types[i].bytes == 1 ? "<>|" : "<>", descr[0])) continue;
        if (strcmp(descr + 1, types[i].text) != 0) continue;
        layout->element = types[i].element;
        layout->bytes = types[i].bytes;
        layout->big_endian = descr[0] == '>';
        return CKPT_OK;
    }
    if (descr[0] && strchr("<>|", descr[0]) && (descr[1] == 'U' || descr[1] == 'S'))
        return take_text_type(descr, layout, err);
    return refuse_type(descr, err);
}

static ckpt_status parse_dict(text t, ckpt_layout *layout, ckpt_error *err) {
    const char *bad =
        "has a .npy header that is no dict of descr, fortran_order and shape; save the file again";
    enum { DESCR = 1, ORDER = 2, SHAPE = 4 };
    int seen = 0;
    if (!take(&t, '{')) return ckpt_fail(err, CKPT_USAGE, "%s", bad);
    while (!take(&t, '}')) {
        char key[TEXT_MAX];
        int field = 0;
        if (!take_string(&t, key) || !take(&t, ':')) return ckpt_fail(err, CKPT_USAGE, "%s", bad);
        if (strcmp(key, "descr") == 0) {
            field = DESCR;
            CKPT_TRY(take_type(&t, layout, err));
        } else if (strcmp(key, "shape") == 0) {
            field = SHAPE;
            CKPT_TRY(take_shape(&t, layout, err));
        } else if (strcmp(key, "fortran_order") == 0) {
            layout->fortran = take_word(&t, "True");
            if (layout->fortran || take_word(&t, "False")) field = ORDER;
        }
        if (!field || (seen & field)) return ckpt_fail(err, CKPT_USAGE, "%s", bad);
        seen |= field;
        if (take(&t, ',')) continue;
        if (!take(&t, '}')) return ckpt_fail(err, CKPT_USAGE, "%s", bad);
        break;
    }
    skip_spaces(&t);
    if (seen != (DESCR | ORDER | SHAPE) || t.at != t.end) return ckpt_fail(err, CKPT_USAGE, "%s", bad);
    return CKPT_OK;
}

ckpt_status ckpt_npy_header(ckpt_stream *stream, ckpt_layout *layout, ckpt_error *err) {
    uint8_t start[12];
    char header[HEADER_MAX];
    CKPT_TRY(ckpt_stream_read(stream, start, 8, err));
    if (memcmp(start, "\x93NUMPY", 6) != 0)
        return ckpt_fail(err, CKPT_USAGE, "does not begin as .npy data; save it with np.save or np.savez");
    if (start[6] < 1 || start[6] > 3)
        return ckpt_fail(err, CKPT_USAGE,
                         "has .npy version %d.%d; 1.0 to 3.0 are supported, save it with np.save", start[6],
                         start[7]);
    size_t length_bytes = start[6] == 1 ? 2 : 4;
    CKPT_TRY(ckpt_stream_read(stream, start + 8, length_bytes, err));
    uint32_t length = start[8] | (uint32_t)start[9] << 8;
    if (length_bytes == 4) length |= (uint32_t)start[10] << 16 | (uint32_t)start[11] << 24;
    if (length > HEADER_MAX)
        return ckpt_fail(err, CKPT_USAGE, "has a .npy header of %u bytes; at most %d are read", length,
                         HEADER_MAX);
    CKPT_TRY(ckpt_stream_read(stream, header, length, err));
    return parse_dict((text){header, header + length}, layout, err);
}

bool ckpt_npy_recognises(const ckpt_data_source *source) {
    return !source->directory && ((source->size >= 6 && memcmp(source->bytes, "\x93NUMPY", 6) == 0) ||
                                  ckpt_has_suffix(source->kind, ".npy"));
}

ckpt_status ckpt_npy_load(const ckpt_data_source *source, const ckpt_data_wanted *wanted,
                          ckpt_data_catalog *catalog, ckpt_error *err) {
    (void)wanted;
    ckpt_data_entry *entry = ckpt_data_catalog_add(catalog);
    if (!entry) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the list of arrays");
    entry->path = source->path;
    entry->header = ckpt_npy_header;
    entry->packed =
        (ckpt_packed){.bytes = source->bytes, .size = source->size, .unpacked_bytes = source->size};
    return CKPT_OK;
}
