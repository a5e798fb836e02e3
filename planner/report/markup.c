#include "planner/report/markup.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for `more` bytes and the terminator. */
static bool reserve(ckpt_markup *m, size_t more) {
    if (m->failed) return false;
    if (m->length + more + 1 <= m->capacity) return true;
    const size_t capacity = 2 * (m->length + more) + 4096;
    char *text = realloc(m->text, capacity);
    if (!text) {
        m->failed = true;
        return false;
    }
    m->text = text;
    m->capacity = capacity;
    return true;
}

static void put(ckpt_markup *m, const char *bytes, size_t count) {
    if (!reserve(m, count)) return;
    memcpy(m->text + m->length, bytes, count);
    m->length += count;
    m->text[m->length] = 0;
}

void ckpt_markup_add(ckpt_markup *m, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int count = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (count < 0 || !reserve(m, (size_t)count)) return;
    va_start(args, format);
    vsnprintf(m->text + m->length, (size_t)count + 1, format, args);
    va_end(args);
    m->length += (size_t)count;
}

/* Length of the UTF-8 character at `text` (RFC 3629) with its value; 0 when there is none. */
static int read_character(const char *text, uint32_t *value) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *c = (const unsigned char *)text;
    const int length = c[0] < 0x80 ? 1 : c[0] >> 5 == 6 ? 2 : c[0] >> 4 == 14 ? 3 : c[0] >> 3 == 30 ? 4 : 0;
    if (length <= 1) {
        *value = c[0];
        return length;
    }
    *value = c[0] & (0x7fu >> length);
    for (int i = 1; i < length; i++) {
        if (c[i] >> 6 != 2) return 0;
        *value = *value << 6 | (c[i] & 0x3fu);
    }
    const bool surrogate = *value >= 0xd800 && *value < 0xe000;
    return *value < least[length] || *value > 0x10ffff || surrogate ? 0 : length;
}

static const char *in_xml(uint32_t c) {
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

static const char *in_dot(uint32_t c) {
    switch (c) {
    case '"': return "\\\"";
    case '\\': return "\\\\";
    default: return NULL;
    }
}

/* Characters that overrule the direction of text would let a name rearrange what stands around it. */
static bool is_unfit(uint32_t c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xfffe || c == 0xffff || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

static void escape(ckpt_markup *m, const char *text, int most, const char *(*replacement)(uint32_t)) {
    for (int count = 0; *text; count++) {
        uint32_t value;
        const int length = read_character(text, &value);
        if (count == most) {
            put(m, "\xe2\x80\xa6", 3); /* an ellipsis */
            return;
        }
        const char *other = length ? replacement(value) : NULL;
        if (other) put(m, other, strlen(other));
        else if (length == 0 || is_unfit(value)) put(m, "\xef\xbf\xbd", 3);
        else put(m, text, (size_t)length);
        text += length ? length : 1;
    }
}

void ckpt_markup_xml(ckpt_markup *m, const char *text) { escape(m, text, -1, in_xml); }

void ckpt_markup_dot(ckpt_markup *m, const char *text, int most) { escape(m, text, most, in_dot); }

void ckpt_markup_free(ckpt_markup *m) {
    free(m->text);
    *m = (ckpt_markup){0};
}
