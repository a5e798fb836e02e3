/* Sizes in bytes: parsing, printing, checked arithmetic.
 *
 *     ckpt_units_parse_size("1.5GiB", &bytes, &err);   // 1610612736
 *     ckpt_units_format_size(bytes, text);             // "1.50 GiB"
 */
#ifndef CKPT_UNITS_H
#define CKPT_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* A non-negative decimal number with an optional fraction and one of: nothing or B (bytes), k/K/kB, M/MB,
 * G/GB, T/TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024). Fails with CKPT_USAGE. */
ckpt_status ckpt_units_parse_size(const char *text, uint64_t *bytes, ckpt_error *err);

enum { CKPT_SIZE_TEXT = 32 };
/* "512 B", "1.50 KiB", "12.34 MiB"; returns `text`. */
char *ckpt_units_format_size(uint64_t bytes, char text[CKPT_SIZE_TEXT]);

/* False on overflow, leaving *result unspecified. */
static inline bool ckpt_mul_u64(uint64_t a, uint64_t b, uint64_t *result) {
    return !__builtin_mul_overflow(a, b, result);
}
static inline bool ckpt_add_u64(uint64_t a, uint64_t b, uint64_t *result) {
    return !__builtin_add_overflow(a, b, result);
}

static inline uint64_t ckpt_max_u64(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}
static inline uint64_t ckpt_min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* The greatest divisor of both; of 0 and b it is b. */
static inline uint64_t ckpt_common_divisor(uint64_t a, uint64_t b) {
    while (b) {
        const uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The next multiple of `unit`, which is not 0. */
static inline uint64_t ckpt_round_up(uint64_t number, uint64_t unit) {
    return (number + unit - 1) / unit * unit;
}

/* The next multiple of `alignment` (a power of two). */
static inline uint64_t ckpt_align_up(uint64_t bytes, uint64_t alignment) {
    return (bytes + alignment - 1) & ~(alignment - 1);
}

#endif
