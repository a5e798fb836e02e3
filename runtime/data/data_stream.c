/* Unpacking with zlib: members of a zip archive bounded by what it declares, gzipped files by what is there.
 */
#include "data/data_format.h"

#include <limits.h>
#include <string.h>

ckpt_status ckpt_stream_open(ckpt_stream *stream, const ckpt_packed *packed, ckpt_error *err) {
    *stream = (ckpt_stream){.packed = *packed, .left = packed->unpacked_bytes};
    if (packed->packing == CKPT_STORED) {
        if (packed->unpacked_bytes != packed->size)
            return ckpt_fail(err, CKPT_USAGE, "is stored with two different sizes; the file is damaged");
        stream->open = true;
        return CKPT_OK;
    }
    /* No deflate stream expands by more: a claim beyond it is a lie, refused before memory is asked for. */
    if (packed->unpacked_bytes / 1032 > packed->size)
        return ckpt_fail(err, CKPT_USAGE,
                         "has %zu compressed bytes, too few for the %llu declared; the file is damaged",
                         packed->size, (unsigned long long)packed->unpacked_bytes);
    /* zlib's window bits: negative for bare deflate as in zip. */
    if (inflateInit2(&stream->zlib, -15) != Z_OK)
        return ckpt_fail(err, CKPT_NOMEM, "cannot be unpacked: out of memory");
    stream->open = true;
    return CKPT_OK;
}

/* One inflate call with as much input as zlib's 32-bit counters take. Returns bytes written to `out`. */
static ckpt_status inflate_some(ckpt_stream *stream, uint8_t *out, size_t room, size_t *written,
                                ckpt_error *err) {
    z_stream *z = &stream->zlib;
    size_t input = stream->packed.size - stream->used;
    uInt give = input > UINT_MAX ? UINT_MAX : (uInt)input;
    uInt take = room > UINT_MAX ? UINT_MAX : (uInt)room;
    z->next_in = (Bytef *)(uintptr_t)(stream->packed.bytes + stream->used); /* zlib only reads it */
    z->avail_in = give;
    z->next_out = out;
    z->avail_out = take;
    int code = inflate(z, Z_NO_FLUSH);
    stream->used += give - z->avail_in;
    *written = take - z->avail_out;
    stream->ended = code == Z_STREAM_END;
    if (code == Z_MEM_ERROR) return ckpt_fail(err, CKPT_NOMEM, "cannot be unpacked: out of memory");
    bool stuck = *written == 0 && give == z->avail_in && !stream->ended;
    if ((code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) || stuck)
        return ckpt_fail(err, CKPT_USAGE,
                         "has compressed data that is damaged or cut short; save the file again");
    return CKPT_OK;
}

ckpt_status ckpt_stream_read(ckpt_stream *stream, void *out, size_t count, ckpt_error *err) {
    if (count > stream->left)
        return ckpt_fail(err, CKPT_USAGE, "ends %llu bytes early; save the file again",
                         (unsigned long long)(count - stream->left));
    if (stream->packed.packing == CKPT_STORED) {
        memcpy(out, stream->packed.bytes + stream->used, count);
        stream->used += count;
    } else {
        for (size_t done = 0, written; done < count; done += written) {
            if (stream->ended)
                return ckpt_fail(err, CKPT_USAGE, "ends %zu bytes early; save the file again", count - done);
            CKPT_TRY(inflate_some(stream, (uint8_t *)out + done, count - done, &written, err));
        }
    }
    stream->left -= count;
    if (stream->packed.has_crc) stream->crc = (uint32_t)crc32_z(stream->crc, out, count);
    return CKPT_OK;
}

ckpt_status ckpt_stream_finish(ckpt_stream *stream, ckpt_error *err) {
    ckpt_packing packing = stream->packed.packing;
    if (stream->left)
        return ckpt_fail(err, CKPT_USAGE, "has %llu bytes after the array; save one array alone",
                         (unsigned long long)stream->left);
    while (packing != CKPT_STORED && !stream->ended) {
        uint8_t extra;
        size_t written;
        CKPT_TRY(inflate_some(stream, &extra, 1, &written, err));
        if (written)
            return ckpt_fail(err, CKPT_USAGE, "unpacks to more than it declares; the file is damaged");
    }
    if (stream->used != stream->packed.size)
        return ckpt_fail(err, CKPT_USAGE, "has %zu bytes after the compressed data; the file is damaged",
                         stream->packed.size - stream->used);
    if (stream->packed.has_crc && stream->crc != stream->packed.crc)
        return ckpt_fail(err, CKPT_USAGE, "has CRC-32 %08x instead of %08x; the file is damaged", stream->crc,
                         stream->packed.crc);
    return CKPT_OK;
}

void ckpt_stream_close(ckpt_stream *stream) {
    if (stream->open && stream->packed.packing != CKPT_STORED) inflateEnd(&stream->zlib);
    stream->open = false;
}

bool ckpt_is_gzip(const uint8_t *bytes, size_t size) {
    return size >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
}

enum { GZIP_CHUNK = 64 * 1024 };

/* Unpacks all members of a gzip file to `out`, or counts their bytes where that is NULL. */
static ckpt_status gunzip(const ckpt_data_source *source, z_stream *z, uint8_t *out, size_t *size,
                          ckpt_error *err) {
    uint8_t chunk[GZIP_CHUNK];
    const size_t room = *size;
    size_t used = 0;
    *size = 0;
    for (int code = Z_OK; code != Z_STREAM_END || used < source->size;) {
        if (code == Z_STREAM_END &&
            (!ckpt_is_gzip(source->bytes + used, source->size - used) || inflateReset(z) != Z_OK))
            return ckpt_fail(err, CKPT_USAGE, "has %zu bytes after the compressed data; the file is damaged",
                             source->size - used);
        const uInt give = source->size - used > UINT_MAX ? UINT_MAX : (uInt)(source->size - used);
        const size_t left = room - *size;
        const uInt take = !out || left > GZIP_CHUNK ? GZIP_CHUNK : (uInt)left;
        z->next_in = (Bytef *)(uintptr_t)(source->bytes + used); /* zlib only reads it */
        z->avail_in = give;
        z->next_out = out ? out + *size : chunk;
        z->avail_out = take;
        code = inflate(z, Z_NO_FLUSH);
        used += give - z->avail_in;
        *size += take - z->avail_out;
        if (code == Z_MEM_ERROR) return ckpt_fail(err, CKPT_NOMEM, "cannot be unpacked: out of memory");
        if (code != Z_OK && code != Z_STREAM_END)
            return ckpt_fail(err, CKPT_USAGE,
                             "has compressed data that is damaged or cut short; save the file again");
    }
    return CKPT_OK;
}

/* Twice: gzip states its size only modulo 2^32, and a file cannot be believed. */
ckpt_status ckpt_data_gunzip(ckpt_data_source *source, ckpt_pool *pool, ckpt_error *err) {
    z_stream z = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (inflateInit2(&z, 15 + 16) != Z_OK)
        return ckpt_fail(err, CKPT_NOMEM, "cannot be unpacked: out of memory");
    ckpt_status status = gunzip(source, &z, NULL, &size, err);
    if (status == CKPT_OK) {
        bytes = ckpt_pool_alloc(pool, size, 1);
        if (!bytes)
            status = ckpt_fail(err, CKPT_NOMEM, "its %zu unpacked bytes do not fit host memory", size);
    }
    if (status == CKPT_OK && inflateReset(&z) == Z_OK) status = gunzip(source, &z, bytes, &size, err);
    inflateEnd(&z);
    if (status != CKPT_OK) return status;
    source->bytes = bytes;
    source->size = size;
    return CKPT_OK;
}
