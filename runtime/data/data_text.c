#include "data/data_text.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The longest exact decimal form of a float64 has 767 significant digits; what people write is shorter. */
enum { NUMBER_MAX = 400 };

/* Beyond it a double no longer stands for one integer. */
#define EXACT_INTEGERS 0x1p53

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static char lower(char c) {
    return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* ASCII case is ignored; the list ends with NULL. */
static bool is_one_of(const char *text, size_t length, const char *const *words) {
    for (; *words; words++) {
        size_t i = 0;
        while (i < length && (*words)[i] && lower(text[i]) == (*words)[i]) i++;
        if (i == length && !(*words)[i]) return true;
    }
    return false;
}

static bool is(const char *text, size_t length, const char *word) {
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

/* 1, 0, or -1 for a text that is no truth value. */
static int truth_of(const char *text, size_t length) {
    static const char *const words[2][3] = {{"False", "FALSE", "false"}, {"True", "TRUE", "true"}};
    for (int value = 0; value < 2; value++)
        for (int i = 0; i < 3; i++)
            if (is(text, length, words[value][i])) return value;
    return -1;
}

static const char *skip_sign(const char *p, const char *end) {
    return p < end && (*p == '+' || *p == '-') ? p + 1 : p;
}

static bool is_decimal(const char *p, size_t length, char mark) {
    const char *end = p + length;
    size_t digits = 0;
    p = skip_sign(p, end);
    for (; p < end && is_digit(*p); p++) digits++;
    if (p < end && *p == mark)
        for (p++; p < end && is_digit(*p); p++) digits++;
    if (digits && p < end && lower(*p) == 'e') {
        p = skip_sign(p + 1, end);
        for (digits = 0; p < end && is_digit(*p); p++) digits++;
    }
    return digits && p == end;
}

/* Digits in groups, such as 1,234.5 or 1'234 or 12_000. */
static bool is_grouped(const char *text, size_t length) {
    const char *end = text + length, *p = skip_sign(text, end);
    bool separated = false;
    if (p == end || !is_digit(*p) || !is_digit(end[-1])) return false;
    for (; p < end; p++) {
        separated = separated || (!is_digit(*p) && *p != '.');
        if (!is_digit(*p) && !memchr(",.'_ ", *p, 5)) return false;
    }
    return separated;
}

static bool is_hexadecimal(const char *text, size_t length) {
    const char *end = text + length, *p = skip_sign(text, end);
    if (end - p < 3 || p[0] != '0' || lower(p[1]) != 'x') return false;
    for (p += 2; p < end && memchr("0123456789abcdef.p+-", lower(*p), 20); p++) {
    }
    return p == end;
}

ckpt_text_kind ckpt_text_kind_of(const char *text, size_t length, char mark) {
    /* What data frames, spreadsheets and the files of the UCI repository write. */
    static const char *const missing[] = {
        "na",   "n/a", "nan",      "-nan",    "null",    "none",  "nat",   "<na>",   "?",      ".",
        "#n/a", "#na", "#n/a n/a", "#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!", NULL};
    static const char *const infinite[] = {"inf", "+inf", "-inf", "infinity", "+infinity", "-infinity", NULL};
    if (!length) return CKPT_TEXT_EMPTY;
    if (is_decimal(text, length, mark) || truth_of(text, length) >= 0) return CKPT_TEXT_NUMBER;
    if (is_one_of(text, length, missing)) return CKPT_TEXT_MISSING;
    if (is_one_of(text, length, infinite)) return CKPT_TEXT_INFINITE;
    if (is_hexadecimal(text, length)) return CKPT_TEXT_HEXADECIMAL;
    if (is_grouped(text, length) || is_decimal(text, length, mark == '.' ? ',' : '.'))
        return CKPT_TEXT_GROUPED;
    return CKPT_TEXT_NAME;
}

const char *ckpt_text_wrong(ckpt_text_kind kind) {
    static const char *const wrong[] = {
#define X(ID, text) text,
        CKPT_TEXT_LIST(X)
#undef X
    };
    return wrong[kind];
}

/* Digits alone, after a sign: exact in int64, if they fit. */
static bool read_digits(const char *copy, ckpt_text_number *number) {
    char *end;
    if (copy[strspn(copy, "+-0123456789")]) return false;
    errno = 0;
    number->integer = strtoll(copy, &end, 10);
    return !errno && !*end;
}

bool ckpt_text_read(const char *text, size_t length, char mark, locale_t c, ckpt_text_number *number) {
    char copy[NUMBER_MAX];
    const int truth = truth_of(text, length);
    *number = (ckpt_text_number){.whole = true, .integer = truth, .real = (float)truth};
    if (truth >= 0) return true;
    if (length >= sizeof copy) return false;
    for (size_t i = 0; i < length; i++) copy[i] = text[i] == mark ? '.' : text[i];
    copy[length] = 0;
    number->real = strtof_l(copy, NULL, c); /* not by way of a double: that would round twice */
    number->whole = read_digits(copy, number);
    if (number->whole || strspn(copy, "+-0123456789") == length) return true;
    const double value = strtod_l(copy, NULL, c);
    number->whole = fabs(value) <= EXACT_INTEGERS && (double)(int64_t)value == value;
    if (number->whole) number->integer = (int64_t)value;
    return true;
}

bool ckpt_text_comma_is_unsure(const char *text, size_t length) {
    const char *end = text + length, *p = skip_sign(text, end), *comma = memchr(text, ',', length);
    return comma && *p != '0' && comma - p >= 1 && comma - p <= 3 && end - comma == 4 && is_digit(end[-1]) &&
           is_digit(end[-2]) && is_digit(end[-3]);
}

bool ckpt_text_is_utf8(const char *text, size_t length) {
    const unsigned char *p = (const unsigned char *)text, *end = p + length;
    while (p < end) {
        const unsigned char first = *p++;
        const int more = first < 0x80                    ? 0
                         : first >= 0xc2 && first < 0xe0 ? 1
                         : (first & 0xf0) == 0xe0        ? 2
                         : first >= 0xf0 && first < 0xf5 ? 3
                                                         : -1;
        if (more < 0 || end - p < more) return false;
        /* Overlong forms, surrogates and what is beyond U+10FFFF show in the second byte. */
        if (more >= 2 && ((first == 0xe0 && *p < 0xa0) || (first == 0xed && *p >= 0xa0) ||
                          (first == 0xf0 && *p < 0x90) || (first == 0xf4 && *p >= 0x90)))
            return false;
        for (int i = 0; i < more; i++)
            if ((*p++ & 0xc0) != 0x80) return false;
    }
    return true;
}
