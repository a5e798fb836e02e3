/* Unpacking with zlib, bounded by what the container declares. */
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
    /* zlib's window bits: negative for bare deflate as in zip, 16 more for a gzip wrapper. */
    if (inflateInit2(&stream->zlib, packed->packing == CKPT_GZIPPED ? 15 + 16 : -15) != Z_OK)
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
    if (packing != CKPT_GZIPPED && stream->left)
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
