#include "base/pool.h"

#include <stdarg.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct ckpt_pool_block {
    struct ckpt_pool_block *next;
    size_t used, size;
    alignas(max_align_t) unsigned char data[];
};

/* Blocks grow with the pool; from HUGE_BYTES on the system is asked for large pages, which are several hundred times fewer. */
enum { BLOCK_BYTES = 64 * 1024, MOST_BLOCK_BYTES = 16 * 1024 * 1024, HUGE_BYTES = 4 * 1024 * 1024 };

static size_t block_bytes(const ckpt_pool *pool, size_t bytes) {
    size_t room = pool->total_bytes / 2;
    if (room < BLOCK_BYTES) room = BLOCK_BYTES;
    if (room > MOST_BLOCK_BYTES) room = MOST_BLOCK_BYTES;
    return room > bytes ? room : bytes;
}

/* Zeroed: large ones take no memory before they are used. */
static struct ckpt_pool_block *make_block(size_t room) {
    struct ckpt_pool_block *block = calloc(1, sizeof *block + room);
    if (!block) return NULL;
    block->size = room;
#ifdef MADV_HUGEPAGE
    if (room >= HUGE_BYTES) {
        const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)block + page - 1) / page * page;
        madvise((void *)from, (uintptr_t)block + room - from, MADV_HUGEPAGE); /* it may say no */
    }
#endif
    return block;
}

void *ckpt_pool_alloc(ckpt_pool *pool, size_t count, size_t size) {
    const size_t align = alignof(max_align_t);
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2) return NULL;
    bytes = (bytes + align - 1) / align * align;
    struct ckpt_pool_block *block = pool->blocks;
    if (!block || block->size - block->used < bytes) {
        struct ckpt_pool_block *fresh = make_block(block_bytes(pool, bytes));
        if (!fresh) return NULL;
        /* A block of its own for a large piece goes behind the current one, whose rest stays usable. */
        if (block && bytes >= fresh->size) {
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
