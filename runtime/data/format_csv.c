/* CSV as in RFC 4180: a header line, commas, optional quotes; lines end in CRLF or LF, the last one
 * need not end. Cells are decimal numbers, read the same whatever the locale.
 *
 * One pass reads the cells straight into one array of doubles for each request. The header decides which
 * column goes where; a bound on the number of rows comes from the file's size.
 */
#include "data/csv_columns.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The longest exact decimal form of a float64 has 767 significant digits; what people write is shorter. */
enum { NUMBER_MAX = 400, SHOWN_MAX = 40 };

/* Beyond it a double no longer stands for one integer. */
#define EXACT_INTEGERS 0x1p53

typedef struct scanner {
    const char *at, *end;
    uint64_t line; /* counted from 1 */
} scanner;

/* A cell without its quotes and surrounding spaces; doubled quotes inside are left doubled. */
typedef struct cell {
    const char *text;
    size_t length;
    uint64_t line;
    bool last; /* of its row */
} cell;

typedef struct csv_array {
    const ckpt_data_request *request;
    uint64_t values; /* columns */
    double *cells;   /* [rows, values]; int64 bits once it is decided that they are integers */
    bool integers;   /* every value so far is one */
} csv_array;

typedef struct csv_file {
    scanner scan;
    ckpt_csv_columns columns;
    csv_array *arrays; /* one per request */
    size_t array_count;
    uint64_t rows;
    locale_t c_locale;
} csv_file;

static bool is_space(char c) {
    return c == ' ' || c == '\t';
}

static bool at_line_end(const scanner *s) {
    return s->at == s->end || *s->at == '\n' || (*s->at == '\r' && s->at + 1 < s->end && s->at[1] == '\n');
}

static void skip_line_end(scanner *s) {
    if (s->at < s->end && *s->at == '\r') s->at++;
    if (s->at < s->end) {
        s->at++;
        s->line++;
    }
}

static ckpt_status quoted_cell(scanner *s, cell *out, ckpt_error *err) {
    out->text = ++s->at;
    for (;; s->at++) {
        if (s->at == s->end)
            return ckpt_fail(err, CKPT_USAGE, "line %llu: a quote is never closed; add '\"'",
                             (unsigned long long)out->line);
        if (*s->at == '\n') s->line++;
        if (*s->at != '"') continue;
        if (s->at + 1 == s->end || s->at[1] != '"') break;
        s->at++;
    }
    out->length = (size_t)(s->at++ - out->text);
    while (s->at < s->end && is_space(*s->at)) s->at++;
    if (!at_line_end(s) && *s->at != ',')
        return ckpt_fail(err, CKPT_USAGE,
                         "line %llu: text after a closing quote; put all of the cell in quotes",
                         (unsigned long long)s->line);
    return CKPT_OK;
}

/* Reads one cell and the comma or line end behind it. */
static ckpt_status next_cell(scanner *s, cell *out, ckpt_error *err) {
    while (s->at < s->end && is_space(*s->at)) s->at++;
    *out = (cell){.text = s->at, .line = s->line};
    if (s->at < s->end && *s->at == '"') {
        CKPT_TRY(quoted_cell(s, out, err));
    } else {
        while (!at_line_end(s) && *s->at != ',') s->at++;
        out->length = (size_t)(s->at - out->text);
        while (out->length && is_space(out->text[out->length - 1])) out->length--;
    }
    out->last = at_line_end(s);
    if (out->last) {
        skip_line_end(s);
    } else {
        s->at++;
    }
    return CKPT_OK;
}

/* Only line ends follow: they are no rows. */
static bool at_file_end(const scanner *s) {
    const char *p = s->at;
    while (p < s->end && (*p == '\r' || *p == '\n')) p++;
    return p == s->end;
}

/* [+-] digits [. digits] [e [+-] digits], with a digit before the exponent. */
static bool is_number(const char *p, size_t length) {
    const char *end = p + length;
    size_t digits = 0;
    if (p < end && (*p == '+' || *p == '-')) p++;
    for (; p < end && *p >= '0' && *p <= '9'; p++) digits++;
    if (p < end && *p == '.')
        for (p++; p < end && *p >= '0' && *p <= '9'; p++) digits++;
    if (digits && p < end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < end && (*p == '+' || *p == '-')) p++;
        for (digits = 0; p < end && *p >= '0' && *p <= '9'; p++) digits++;
    }
    return digits && p == end;
}

static ckpt_status read_number(const csv_file *csv, const cell *from, const char *column, double *value,
                               ckpt_error *err) {
    unsigned long long line = from->line;
    int shown = from->length < SHOWN_MAX ? (int)from->length : SHOWN_MAX;
    if (!from->length)
        return ckpt_fail(err, CKPT_USAGE,
                         "line %llu, column '%.80s': empty; fill in a number or remove the line", line,
                         column);
    if (from->length >= NUMBER_MAX || !is_number(from->text, from->length))
        return ckpt_fail(err, CKPT_USAGE,
                         "line %llu, column '%.80s': '%.*s' is not a finite number; replace it", line, column,
                         shown, from->text);
    char copy[NUMBER_MAX];
    memcpy(copy, from->text, from->length);
    copy[from->length] = 0;
    *value = strtod_l(copy, NULL, csv->c_locale);
    if (fabs(*value) > (double)FLT_MAX)
        return ckpt_fail(err, CKPT_USAGE,
                         "line %llu, column '%.80s': %.*s is too large for float32; scale it", line, column,
                         shown, from->text);
    return CKPT_OK;
}

/* The name in a header cell, with doubled quotes made single. */
static const char *column_name(ckpt_pool *pool, const cell *from) {
    char *name = ckpt_pool_strndup(pool, from->text, from->length);
    size_t n = 0;
    for (size_t i = 0; name && i < from->length; i++) {
        name[n++] = from->text[i];
        if (from->text[i] == '"' && i + 1 < from->length && from->text[i + 1] == '"') i++;
    }
    if (name) name[n] = 0;
    return name;
}

static ckpt_status read_header(csv_file *csv, ckpt_pool *pool, ckpt_error *err) {
    size_t capacity = 0, numbers = 0;
    ckpt_csv_columns *columns = &csv->columns;
    for (cell c = {0}; !c.last;) {
        CKPT_TRY(next_cell(&csv->scan, &c, err));
        if (!c.length)
            return ckpt_fail(err, CKPT_USAGE,
                             "line 1: column %zu has no name; name it, or write without an index",
                             columns->count + 1);
        if (columns->count == CKPT_CSV_MAX_COLUMNS)
            return ckpt_fail(err, CKPT_USAGE, "line 1: more than %d columns; use .npz", CKPT_CSV_MAX_COLUMNS);
        if (columns->count == capacity) {
            size_t more = capacity ? 2 * capacity : 64;
            columns->column = ckpt_pool_grow(pool, columns->column, capacity, more, sizeof *columns->column);
            if (!columns->column) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the columns");
            capacity = more;
        }
        const char *name = column_name(pool, &c);
        if (!name) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the columns");
        columns->column[columns->count++].name = name;
        numbers += is_number(c.text, c.length);
    }
    if (numbers == columns->count)
        return ckpt_fail(err, CKPT_USAGE, "line 1: has only numbers; the first line must name the columns");
    return CKPT_OK;
}

/* Room for every row that can still come. Each cell takes at least a digit and a separator, and each row a
 * line, so the file's size bounds the rows; rows that would pass the bound have an error before they do. */
static ckpt_status make_arrays(csv_file *csv, const ckpt_data_wanted *wanted, ckpt_pool *pool,
                               ckpt_error *err) {
    csv->arrays = ckpt_pool_array(pool, wanted->count, csv_array);
    csv->array_count = wanted->count;
    if (!csv->arrays) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the columns");
    for (size_t c = 0; c < csv->columns.count; c++)
        if (csv->columns.column[c].array != CKPT_CSV_UNUSED)
            csv->arrays[csv->columns.column[c].array].values++;
    size_t left = (size_t)(csv->scan.end - csv->scan.at), lines = 1;
    for (const char *p = csv->scan.at; (p = memchr(p, '\n', (size_t)(csv->scan.end - p))); p++) lines++;
    size_t rows = left / (2 * csv->columns.count) + 1;
    if (rows > lines) rows = lines;
    for (size_t a = 0; a < wanted->count; a++) {
        csv_array *array = &csv->arrays[a];
        array->request = &wanted->requests[a];
        array->integers = true;
        array->cells = ckpt_pool_alloc(pool, rows, (size_t)array->values * sizeof *array->cells);
        if (!array->cells) return ckpt_fail(err, CKPT_NOMEM, "%zu rows do not fit host memory", rows);
    }
    return CKPT_OK;
}

static ckpt_status read_row(csv_file *csv, ckpt_error *err) {
    unsigned long long line = csv->scan.line;
    size_t count = csv->columns.count;
    cell c = {0};
    for (size_t i = 0; i < count; i++) {
        const ckpt_csv_column *column = &csv->columns.column[i];
        CKPT_TRY(next_cell(&csv->scan, &c, err));
        if (c.last && i + 1 < count)
            return ckpt_fail(err, CKPT_USAGE, "line %llu: has %zu cell%s, the header has %zu columns", line,
                             i + 1, i ? "s" : "", count);
        double value = 0;
        CKPT_TRY(read_number(csv, &c, column->name, &value, err));
        if (column->array == CKPT_CSV_UNUSED) continue;
        csv_array *array = &csv->arrays[column->array];
        bool integer = fabs(value) <= EXACT_INTEGERS && (double)(int64_t)value == value;
        if (!integer && array->request->want == CKPT_WANT_INTEGER)
            return ckpt_fail(err, CKPT_USAGE, "line %llu, column '%.80s': %.*s is not an integer", line,
                             column->name, c.length < SHOWN_MAX ? (int)c.length : SHOWN_MAX, c.text);
        array->integers = array->integers && integer;
        array->cells[csv->rows * array->values + column->place] = value;
    }
    if (!c.last)
        return ckpt_fail(err, CKPT_USAGE, "line %llu: has more cells than the header's %zu columns", line,
                         count);
    csv->rows++;
    return CKPT_OK;
}

static ckpt_status add_entries(csv_file *csv, const ckpt_data_source *source, ckpt_data_catalog *catalog,
                               ckpt_error *err) {
    for (size_t a = 0; a < csv->array_count; a++) {
        csv_array *array = &csv->arrays[a];
        uint64_t count = csv->rows * array->values, bytes = count * sizeof(double);
        bool integers = array->integers && ckpt_data_as_integers(array->request, array->values);
        for (uint64_t i = 0; integers && i < count; i++) {
            int64_t value = (int64_t)array->cells[i];
            memcpy(&array->cells[i], &value, sizeof value);
        }
        ckpt_data_entry *entry = ckpt_data_catalog_add(catalog);
        if (!entry) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the list of arrays");
        *entry = (ckpt_data_entry){.path = source->path,
                                   .name = array->request->name,
                                   .packed = {.bytes = (const uint8_t *)array->cells,
                                              .size = (size_t)bytes,
                                              .unpacked_bytes = bytes},
                                   .layout = {.element = integers ? CKPT_ELEMENT_SIGNED : CKPT_ELEMENT_FLOAT,
                                              .bytes = sizeof(double),
                                              .big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__,
                                              .rank = array->values > 1 ? 2 : 1,
                                              .dim = {(int64_t)csv->rows, (int64_t)array->values}}};
    }
    return CKPT_OK;
}

static ckpt_status read_file(csv_file *csv, const ckpt_data_source *source, const ckpt_data_wanted *wanted,
                             ckpt_data_catalog *catalog, ckpt_error *err) {
    CKPT_TRY(read_header(csv, catalog->pool, err));
    CKPT_TRY(ckpt_csv_assign(&csv->columns, wanted, err));
    CKPT_TRY(make_arrays(csv, wanted, catalog->pool, err));
    while (!at_file_end(&csv->scan)) CKPT_TRY(read_row(csv, err));
    return add_entries(csv, source, catalog, err);
}

bool ckpt_csv_recognises(const ckpt_data_source *source) {
    return !source->directory &&
           (ckpt_has_suffix(source->path, ".csv") || ckpt_has_suffix(source->path, ".txt"));
}

ckpt_status ckpt_csv_load(const ckpt_data_source *source, const ckpt_data_wanted *wanted,
                          ckpt_data_catalog *catalog, ckpt_error *err) {
    const char *text = (const char *)source->bytes;
    if (source->size >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
        return ckpt_fail(err, CKPT_USAGE, "is UTF-16 text; save it as UTF-8");
    csv_file csv = {.scan = {.at = text, .end = text + source->size, .line = 1}};
    if (source->size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) csv.scan.at += 3;
    csv.c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!csv.c_locale) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the C locale");
    ckpt_status status = read_file(&csv, source, wanted, catalog, err);
    freelocale(csv.c_locale);
    return status;
}
