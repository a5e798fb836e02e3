/* IDX, the format of MNIST (described at yann.lecun.com/exdb/mnist):
 *
 *     0 0 type rank | rank dimensions, 4 bytes each, big-endian | elements, big-endian
 *
 * Values are kept as they are: images of bytes become floats 0 to 255.
 */
#include "data/data_format.h"


bool ckpt_idx_recognises(const ckpt_data_source *source) {
    if (source->directory) return false;
    if (ckpt_has_suffix(source->kind, ".idx") || ckpt_has_suffix(source->kind, "-ubyte")) return true;
    const uint8_t *b = source->bytes;
    return source->size >= 4 && b[0] == 0 && b[1] == 0 && b[2] >= 8 && b[2] <= 0x0e && b[3] > 0 &&
           b[3] <= CKPT_ARRAY_MAX_RANK;
}

ckpt_status ckpt_idx_header(ckpt_stream *stream, ckpt_layout *layout, ckpt_error *err) {
    static const struct {
        uint8_t code;
        ckpt_element element;
        unsigned bytes;
    } types[] = {
        {0x08, CKPT_ELEMENT_UNSIGNED, 1}, {0x09, CKPT_ELEMENT_SIGNED, 1}, {0x0b, CKPT_ELEMENT_SIGNED, 2},
        {0x0c, CKPT_ELEMENT_SIGNED, 4},   {0x0d, CKPT_ELEMENT_FLOAT, 4},  {0x0e, CKPT_ELEMENT_FLOAT, 8},
    };
    uint8_t start[4];
    CKPT_TRY(ckpt_stream_read(stream, start, 4, err));
    if (start[0] || start[1])
        return ckpt_fail(err, CKPT_USAGE, "does not begin as IDX data (two zero bytes); download it again");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].code != start[2]) continue;
        layout->element = types[i].element;
        layout->bytes = types[i].bytes;
    }
    if (!layout->bytes) return ckpt_fail(err, CKPT_USAGE, "has the unknown IDX type 0x%02x", start[2]);
    if (start[3] > CKPT_ARRAY_MAX_RANK)
        return ckpt_fail(err, CKPT_USAGE, "has %d axes; at most %d are supported", start[3],
                         CKPT_ARRAY_MAX_RANK);
    layout->big_endian = true;
    layout->rank = start[3];
    for (int i = 0; i < layout->rank; i++) {
        uint8_t b[4];
        CKPT_TRY(ckpt_stream_read(stream, b, 4, err));
        layout->dim[i] = (int64_t)((uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]);
    }
    return CKPT_OK;
}

ckpt_status ckpt_idx_load(const ckpt_data_source *source, const ckpt_data_wanted *wanted,
                          ckpt_data_catalog *catalog, ckpt_error *err) {
    (void)wanted;
    ckpt_data_entry *entry = ckpt_data_catalog_add(catalog);
    if (!entry) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the list of arrays");
    entry->path = source->path;
    entry->header = ckpt_idx_header;
    entry->packed =
        (ckpt_packed){.bytes = source->bytes, .size = source->size, .unpacked_bytes = source->size};
    return CKPT_OK;
}
