/* .npz: a zip archive of .npy members, one for each array. Zip as in PKWARE's APPNOTE.TXT (section numbers
 * below), stored or deflated, with zip64. The central directory is believed; of the local headers only the
 * lengths that locate the data are used, so sizes after the data (4.3.9) need no special care. Members are
 * read into memory under bounds and never extracted: their names cannot name a place.
 */
#include "data/data_format.h"

#include <string.h>

#include "base/units.h"

enum { END_BYTES = 22, LOCATOR_BYTES = 20, END64_BYTES = 56, CENTRAL_BYTES = 46, LOCAL_BYTES = 30 };

static uint16_t u16(const uint8_t *b) {
    return (uint16_t)(b[0] | b[1] << 8);
}
static uint32_t u32(const uint8_t *b) {
    return u16(b) | (uint32_t)u16(b + 2) << 16;
}
static uint64_t u64(const uint8_t *b) {
    return u32(b) | (uint64_t)u32(b + 4) << 32;
}

/* `count` bytes at `offset` of the file, or NULL when they are not all there. */
static const uint8_t *slice(const ckpt_data_source *source, uint64_t offset, uint64_t count) {
    if (offset > source->size || count > source->size - offset) return NULL;
    return source->bytes + offset;
}

static const uint8_t *find_signature(const ckpt_data_source *source, uint64_t offset, uint64_t count,
                                     const char signature[4]) {
    const uint8_t *b = slice(source, offset, count);
    return b && memcmp(b, signature, 4) == 0 ? b : NULL;
}

typedef struct directory {
    uint64_t offset, bytes, entries;
} directory;

/* 4.3.14 to 4.3.16. The end record is the last thing in the file but for a comment of its stated length. */
static ckpt_status find_directory(const ckpt_data_source *source, directory *dir, ckpt_error *err) {
    const uint8_t *end = NULL;
    uint64_t at = 0;
    for (uint64_t comment = 0; !end && comment <= UINT16_MAX && comment + END_BYTES <= source->size;
         comment++) {
        at = source->size - END_BYTES - comment;
        end = find_signature(source, at, END_BYTES, "PK\5\6");
        if (end && u16(end + 20) != comment) end = NULL;
    }
    if (!end)
        return ckpt_fail(err, CKPT_USAGE,
                         "is a zip archive without its end; it was cut short, copy it again");
    *dir = (directory){.entries = u16(end + 10), .bytes = u32(end + 12), .offset = u32(end + 16)};
    bool wide = dir->entries == UINT16_MAX || dir->bytes == UINT32_MAX || dir->offset == UINT32_MAX;
    if (u16(end + 4) || u16(end + 6) || u16(end + 8) != u16(end + 10))
        return ckpt_fail(err, CKPT_USAGE, "is one part of a split zip archive; join the parts");
    const uint8_t *locator =
        at < LOCATOR_BYTES ? NULL : find_signature(source, at - LOCATOR_BYTES, LOCATOR_BYTES, "PK\6\7");
    if (wide && locator) {
        const uint8_t *end64 = find_signature(source, u64(locator + 8), END64_BYTES, "PK\6\6");
        if (!end64) return ckpt_fail(err, CKPT_USAGE, "has a damaged zip64 end; save the file again");
        *dir = (directory){.entries = u64(end64 + 32), .bytes = u64(end64 + 40), .offset = u64(end64 + 48)};
    }
    if (!slice(source, dir->offset, dir->bytes) || dir->entries > dir->bytes / CENTRAL_BYTES)
        return ckpt_fail(err, CKPT_USAGE, "has a zip directory outside the file; save the file again");
    return CKPT_OK;
}

/* A member as the central directory has it (4.3.12). */
typedef struct member {
    const uint8_t *name;
    uint16_t name_bytes, flags, method;
    uint32_t crc;
    uint64_t packed_bytes, unpacked_bytes, offset;
} member;

/* Fields that are all ones are in the zip64 extra field instead, in this order (4.5.3). */
static bool read_wide(member *m, const uint8_t *extra, size_t extra_bytes) {
    uint64_t *wide[3] = {&m->unpacked_bytes, &m->packed_bytes, &m->offset};
    bool need = false;
    for (int i = 0; i < 3; i++) need = need || *wide[i] == UINT32_MAX;
    while (need && extra_bytes >= 4) {
        size_t length = u16(extra + 2);
        if (length > extra_bytes - 4) return false;
        if (u16(extra) == 1) {
            size_t at = 0;
            for (int i = 0; i < 3; i++) {
                if (*wide[i] != UINT32_MAX) continue;
                if (length - at < 8) return false;
                *wide[i] = u64(extra + 4 + at);
                at += 8;
            }
            return true;
        }
        extra += 4 + length;
        extra_bytes -= 4 + length;
    }
    return !need;
}

/* Reads the member at *at, of a directory that ends at `end`, and moves *at behind it. */
static bool read_member(const uint8_t **at, const uint8_t *end, member *m) {
    const uint8_t *b = *at;
    size_t left = (size_t)(end - b);
    if (left < CENTRAL_BYTES || memcmp(b, "PK\1\2", 4) != 0) return false;
    size_t name_bytes = u16(b + 28), extra_bytes = u16(b + 30), comment_bytes = u16(b + 32);
    if (name_bytes + extra_bytes + comment_bytes > left - CENTRAL_BYTES) return false;
    *m = (member){.name = b + CENTRAL_BYTES,
                  .name_bytes = (uint16_t)name_bytes,
                  .flags = u16(b + 8),
                  .method = u16(b + 10),
                  .crc = u32(b + 16),
                  .packed_bytes = u32(b + 20),
                  .unpacked_bytes = u32(b + 24),
                  .offset = u32(b + 42)};
    *at = b + CENTRAL_BYTES + name_bytes + extra_bytes + comment_bytes;
    return read_wide(m, b + CENTRAL_BYTES + name_bytes, extra_bytes);
}

/* 4.3.7: the data follows the local header, whose name and extra field have lengths of their own. */
static ckpt_status locate(const ckpt_data_source *source, const member *m, const char *name,
                          ckpt_packed *packed, ckpt_error *err) {
    if (m->flags & 1)
        return ckpt_fail(err, CKPT_USAGE, "array '%s' is encrypted; save it without a password", name);
    if (m->method != 0 && m->method != 8)
        return ckpt_fail(err, CKPT_USAGE,
                         "array '%s' is compressed by zip method %d; use np.savez or np.savez_compressed",
                         name, m->method);
    const uint8_t *local = find_signature(source, m->offset, LOCAL_BYTES, "PK\3\4");
    const uint8_t *data = NULL;
    if (local)
        data = slice(source, m->offset + LOCAL_BYTES + u16(local + 26) + u16(local + 28), m->packed_bytes);
    if (!data)
        return ckpt_fail(err, CKPT_USAGE, "array '%s' lies outside the file; it was cut short, copy it again",
                         name);
    *packed = (ckpt_packed){.bytes = data,
                            .size = (size_t)m->packed_bytes,
                            .unpacked_bytes = m->unpacked_bytes,
                            .packing = m->method ? CKPT_DEFLATED : CKPT_STORED,
                            .has_crc = true,
                            .crc = m->crc};
    return CKPT_OK;
}

bool ckpt_npz_recognises(const ckpt_data_source *source) {
    return !source->directory && ((source->size >= 4 && (memcmp(source->bytes, "PK\3\4", 4) == 0 ||
                                                         memcmp(source->bytes, "PK\5\6", 4) == 0)) ||
                                  ckpt_has_suffix(source->kind, ".npz"));
}

ckpt_status ckpt_npz_load(const ckpt_data_source *source, const ckpt_data_wanted *wanted,
                          ckpt_data_catalog *catalog, ckpt_error *err) {
    (void)wanted;
    directory dir = {0};
    CKPT_TRY(find_directory(source, &dir, err));
    const uint8_t *at = source->bytes + dir.offset, *end = at + dir.bytes;
    for (uint64_t i = 0; i < dir.entries; i++) {
        member m;
        if (!read_member(&at, end, &m))
            return ckpt_fail(err, CKPT_USAGE, "has a damaged zip directory; save the file again");
        if (m.name_bytes < 4 || memcmp(m.name + m.name_bytes - 4, ".npy", 4) != 0) continue;
        ckpt_data_entry *entry = ckpt_data_catalog_add(catalog);
        char *name = ckpt_pool_strndup(catalog->pool, (const char *)m.name, (size_t)m.name_bytes - 4);
        if (!entry || !name) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the list of arrays");
        *entry =
            (ckpt_data_entry){.path = source->path, .name = name, .answers = -1, .header = ckpt_npy_header};
        CKPT_TRY(locate(source, &m, name, &entry->packed, err));
    }
    return CKPT_OK;
}
