#include "base/pool.h"

#include <stdarg.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ckpt_pool_block {
    struct ckpt_pool_block *next;
    size_t used, size;
    alignas(max_align_t) unsigned char data[];
};

enum { BLOCK_BYTES = 64 * 1024 };

void *ckpt_pool_alloc(ckpt_pool *pool, size_t count, size_t size) {
    const size_t align = alignof(max_align_t);
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2) return NULL;
    bytes = (bytes + align - 1) / align * align;
    struct ckpt_pool_block *block = pool->blocks;
    if (!block || block->size - block->used < bytes) {
        size_t room = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        struct ckpt_pool_block *fresh = calloc(1, sizeof *fresh + room); /* large ones cost nothing until they are used */
        if (!fresh) return NULL;
        fresh->size = room;
        /* A block of its own for a large piece goes behind the current one, whose rest stays usable. */
        if (block && bytes > BLOCK_BYTES) {
            fresh->next = block->next;
            block->next = fresh;
        } else {
            fresh->next = block;
            pool->blocks = fresh;
        }
        block = fresh;
    }
    void *piece = block->data + block->used;
    block->used += bytes;
    pool->total_bytes += bytes;
    return piece;
}

char *ckpt_pool_strndup(ckpt_pool *pool, const char *text, size_t length) {
    if (length == SIZE_MAX) return NULL;
    char *copy = ckpt_pool_alloc(pool, length + 1, 1);
    if (copy && length) memcpy(copy, text, length);
    return copy;
}

char *ckpt_pool_strdup(ckpt_pool *pool, const char *text) {
    return ckpt_pool_strndup(pool, text, strlen(text));
}

char *ckpt_pool_printf(ckpt_pool *pool, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : ckpt_pool_alloc(pool, (size_t)length + 1, 1);
    if (text) vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void *ckpt_pool_grow(ckpt_pool *pool, const void *old, size_t old_count, size_t new_count, size_t size) {
    void *fresh = ckpt_pool_alloc(pool, new_count, size);
    if (fresh && old_count) memcpy(fresh, old, old_count * size);
    return fresh;
}

void ckpt_pool_free(ckpt_pool *pool) {
    for (struct ckpt_pool_block *block = pool->blocks; block;) {
        struct ckpt_pool_block *next = block->next;
        free(block);
        block = next;
    }
    *pool = (ckpt_pool){0};
}
