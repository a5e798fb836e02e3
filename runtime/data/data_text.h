/* What a piece of text in a data file says: a cell of CSV, a string of numpy.
 *
 *     if (ckpt_text_kind_of(cell, length, '.') == CKPT_TEXT_NUMBER)
 *         ckpt_text_read(cell, length, '.', locale, &number);
 */
#ifndef CKPT_DATA_TEXT_H
#define CKPT_DATA_TEXT_H

#include <locale.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(ID, what is wrong with it as a number) */
#define CKPT_TEXT_LIST(X)                                                                                    \
    X(NUMBER, "")                                                                                            \
    X(EMPTY, "is empty; fill it in, remove the line, or leave the column out with --drop")                   \
    X(MISSING,                                                                                               \
      "stands for a missing value; fill it in, remove the line, or leave the column out with --drop")        \
    X(GROUPED,                                                                                               \
      "has a thousands separator or a decimal comma; write it with a decimal point alone, as 1234.5")        \
    X(INFINITE, "is not finite; replace it, or remove the line")                                             \
    X(HEXADECIMAL, "is a hexadecimal number; write it in decimals")                                          \
    X(NAME, "is not a number; replace it, or leave the column out with --drop")

/* NUMBER: [+-] digits [point digits] [e [+-] digits], or one of True and False, TRUE and FALSE, true and
 * false. GROUPED: digits with commas, apostrophes, underscores or blanks between them. NAME: anything else.
 */
typedef enum ckpt_text_kind {
#define X(ID, wrong) CKPT_TEXT_##ID,
    CKPT_TEXT_LIST(X)
#undef X
} ckpt_text_kind;

/* mark: the decimal point, '.' or ','. */
ckpt_text_kind ckpt_text_kind_of(const char *text, size_t length, char mark);

/* "is empty; fill it in, ...": the predicate of a message about a text that should have been a number. */
const char *ckpt_text_wrong(ckpt_text_kind kind);

typedef struct ckpt_text_number {
    bool whole; /* `integer` is exactly the number */
    int64_t integer;
    float real; /* the nearest float, infinite beyond the range of float */
} ckpt_text_number;

/* Reads a text of kind NUMBER as the C locale `c` does; false when it is longer than any number is written.
 * True and False are 1 and 0. Whole numbers of digits alone are exact in all of int64; 1.0 and 1e3 are whole
 * up to 2^53. */
bool ckpt_text_read(const char *text, size_t length, char mark, locale_t c, ckpt_text_number *number);

/* Whether a decimal comma may as well separate thousands: "1,234" may be 1234. */
bool ckpt_text_comma_is_unsure(const char *text, size_t length);

/* Whether the bytes are UTF-8 (RFC 3629). */
bool ckpt_text_is_utf8(const char *text, size_t length);

#endif
