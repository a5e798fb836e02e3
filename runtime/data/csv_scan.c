#include "data/csv_scan.h"

#include <string.h>

static const char separators[] = ",;\t|";

static bool is_blank(char c, char separator) {
    return c == ' ' || (c == '\t' && separator != '\t');
}

static bool at_line_end(const ckpt_csv_scan *s) {
    return s->at == s->end || *s->at == '\n' || *s->at == '\r';
}

static void skip_line_end(ckpt_csv_scan *s) {
    if (s->at == s->end) return;
    const bool carriage_return = *s->at++ == '\r';
    if (carriage_return && s->at < s->end && *s->at == '\n') s->at++;
    s->line++;
}

static void skip_blanks(ckpt_csv_scan *s) {
    while (s->at < s->end && is_blank(*s->at, s->separator)) s->at++;
}

/* The separator that the line at hand has most of, outside quotes. */
static char find_separator(const ckpt_csv_scan *s) {
    size_t count[sizeof separators] = {0}, best = 0;
    bool quoted = false;
    for (const char *p = s->at; p < s->end && (quoted || (*p != '\n' && *p != '\r')); p++) {
        const char *found = memchr(separators, *p, sizeof separators - 1);
        if (*p == '"')
            quoted = !quoted;
        else if (found && !quoted)
            count[found - separators]++;
    }
    for (size_t i = 1; i < sizeof separators - 1; i++)
        if (count[i] > count[best]) best = i;
    return separators[best];
}

void ckpt_csv_scan_start(ckpt_csv_scan *s, const char *text, size_t size) {
    *s = (ckpt_csv_scan){.at = text, .end = text + size, .line = 1};
    if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) s->at += 3;
    if (s->end - s->at >= 6 && memcmp(s->at, "sep=", 4) == 0 && s->at[4] && strchr(separators, s->at[4]) &&
        (s->at[5] == '\n' || s->at[5] == '\r')) {
        s->separator = s->at[4];
        s->at += 5;
        skip_line_end(s);
    } else {
        s->separator = find_separator(s);
    }
}

static ckpt_status quoted_cell(ckpt_csv_scan *s, ckpt_csv_cell *out, ckpt_error *err) {
    out->text = ++s->at;
    out->quoted = true;
    for (;; s->at++) {
        if (s->at == s->end)
            return ckpt_fail(err, CKPT_USAGE, "line %llu: a quote is never closed; add '\"'",
                             (unsigned long long)out->line);
        if (*s->at == '\n' || (*s->at == '\r' && (s->at + 1 == s->end || s->at[1] != '\n'))) s->line++;
        if (*s->at != '"') continue;
        if (s->at + 1 == s->end || s->at[1] != '"') break;
        s->at++;
    }
    out->length = (size_t)(s->at++ - out->text);
    skip_blanks(s);
    if (at_line_end(s) || *s->at == s->separator) return CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "line %llu: text after a closing quote; put all of the cell in quotes",
                     (unsigned long long)s->line);
}

static void trim(ckpt_csv_cell *cell, char separator) {
    for (; cell->length && is_blank(*cell->text, separator); cell->length--) cell->text++;
    while (cell->length && is_blank(cell->text[cell->length - 1], separator)) cell->length--;
}

ckpt_status ckpt_csv_next(ckpt_csv_scan *s, ckpt_csv_cell *out, ckpt_error *err) {
    skip_blanks(s);
    *out = (ckpt_csv_cell){.text = s->at, .line = s->line};
    if (s->at < s->end && *s->at == '"') {
        CKPT_TRY(quoted_cell(s, out, err));
    } else {
        while (!at_line_end(s) && *s->at != s->separator) s->at++;
        out->length = (size_t)(s->at - out->text);
    }
    trim(out, s->separator);
    out->last = at_line_end(s);
    if (out->last)
        skip_line_end(s);
    else
        s->at++;
    return CKPT_OK;
}

bool ckpt_csv_at_end(const ckpt_csv_scan *s) {
    const char *p = s->at;
    while (p < s->end && (*p == '\r' || *p == '\n')) p++;
    return p == s->end;
}

size_t ckpt_csv_lines_left(const ckpt_csv_scan *s) {
    size_t lines = 1;
    for (const char *p = s->at; p < s->end; p++)
        lines += *p == '\n' || (*p == '\r' && (p + 1 == s->end || p[1] != '\n'));
    return lines;
}

size_t ckpt_csv_unquote(const ckpt_csv_cell *cell, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < cell->length; i++) {
        out[n++] = cell->text[i];
        if (cell->quoted && cell->text[i] == '"' && i + 1 < cell->length && cell->text[i + 1] == '"') i++;
    }
    return n;
}
