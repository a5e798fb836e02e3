/* Host memory of one stage, freed at once.
 *
 *     ckpt_pool pool = {0};
 *     int *order = ckpt_pool_array(&pool, n, int);   // zeroed; NULL when memory or n * size runs out
 *     ckpt_pool_free(&pool);
 *
 * Pointers stay valid until ckpt_pool_free. The device's block is called the arena; this is not it.
 */
#ifndef CKPT_POOL_H
#define CKPT_POOL_H

#include <stddef.h>

typedef struct ckpt_pool {
    struct ckpt_pool_block *blocks; /* newest first */
    size_t total_bytes;             /* handed out so far */
} ckpt_pool;

/* `count * size` zeroed bytes aligned for any type, or NULL. count * size is checked; 0 gives a valid
 * pointer that must not be read through. */
void *ckpt_pool_alloc(ckpt_pool *pool, size_t count, size_t size);

/* Copies of strings, terminated; NULL when memory runs out. */
char *ckpt_pool_strdup(ckpt_pool *pool, const char *text);
char *ckpt_pool_strndup(ckpt_pool *pool, const char *text, size_t length);
char *ckpt_pool_printf(ckpt_pool *pool, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A larger copy of an array that grows: returns `old` moved into room for `new_count` elements. The old
 * block stays in the pool, so grow geometrically. */
void *ckpt_pool_grow(ckpt_pool *pool, const void *old, size_t old_count, size_t new_count, size_t size);

void ckpt_pool_free(ckpt_pool *pool);

#define ckpt_pool_array(pool, count, type) ((type *)ckpt_pool_alloc((pool), (size_t)(count), sizeof(type)))

#endif
