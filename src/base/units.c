#include "base/units.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* The suffix's factor, or 0 when it is none of ours. */
static uint64_t factor_of(const char *suffix) {
    static const struct {
        const char *name;
        uint64_t factor;
    } table[] = {
        {"", 1},           {"B", 1},
        {"k", 1000},       {"K", 1000},
        {"kB", 1000},      {"KB", 1000},
        {"M", 1000000},    {"MB", 1000000},
        {"G", 1000000000}, {"GB", 1000000000},
        {"T", 1000000000000}, {"TB", 1000000000000},
        {"KiB", 1ull << 10},  {"MiB", 1ull << 20},
        {"GiB", 1ull << 30},  {"TiB", 1ull << 40},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(suffix, table[i].name) == 0) return table[i].factor;
    return 0;
}

ckpt_status ckpt_units_parse_size(const char *text, uint64_t *bytes, ckpt_error *err) {
    const char *p = text;
    uint64_t whole = 0, fraction = 0, scale = 1;
    bool digits = false, fits = true;
    for (; isdigit((unsigned char)*p); p++, digits = true)
        fits = fits && ckpt_mul_u64(whole, 10, &whole) && ckpt_add_u64(whole, (uint64_t)(*p - '0'), &whole);
    if (*p == '.')
        for (p++; isdigit((unsigned char)*p); p++, digits = true)
            if (scale < 1000000) { /* more digits than a byte count can feel */
                fraction = fraction * 10 + (uint64_t)(*p - '0');
                scale *= 10;
            }
    while (*p == ' ') p++;
    uint64_t factor = digits ? factor_of(p) : 0;
    if (!factor)
        return ckpt_fail(err, CKPT_USAGE, "'%s' is not a size: write bytes or a number with k, M, G, KiB, MiB or GiB",
                         text);
    uint64_t total, rest = (uint64_t)((double)fraction / (double)scale * (double)factor + 0.5);
    if (!fits || !ckpt_mul_u64(whole, factor, &total) || !ckpt_add_u64(total, rest, &total))
        return ckpt_fail(err, CKPT_USAGE, "'%s' is more bytes than 64 bits can count", text);
    *bytes = total;
    return CKPT_OK;
}

char *ckpt_units_format_size(uint64_t bytes, char text[CKPT_SIZE_TEXT]) {
    static const char *const names[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(text, CKPT_SIZE_TEXT, "%u B", (unsigned)bytes);
        return text;
    }
    double value = (double)bytes / 1024;
    size_t i = 0;
    while (value >= 1024 && i + 1 < sizeof names / sizeof *names) value /= 1024, i++;
    snprintf(text, CKPT_SIZE_TEXT, "%.2f %s", value, names[i]);
    return text;
}
