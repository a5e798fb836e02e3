/* CSV with a header line. One pass reads the cells: each row into a row of values, from where they go to one
 * array for each request. The header decides which column goes where; a bound on the number of rows comes
 * from the file's size.
 *
 * An array that may be classes is kept as integers until a cell is none; a target whose first cell is a name
 * is kept as numbers of names. Values are 8 bytes in either case.
 */
#include "data/class_table.h"
#include "data/csv_columns.h"
#include "data/csv_scan.h"
#include "data/data_text.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <string.h>

enum { SHOWN_MAX = 40 };

typedef enum array_kind { REALS, INTEGERS, NAMES } array_kind;

typedef union value {
    int64_t integer;
    double real; /* a float32's */
} value;

typedef struct csv_array {
    const ckpt_data_request *request;
    const ckpt_csv_pick *pick;
    array_kind kind;
    value *values; /* [rows, pick->count] */
    ckpt_class_table names;
    ckpt_names classes; /* in the end */
} csv_array;

/* Where something was seen first. */
typedef struct mark_seen {
    uint64_t line; /* 0: nowhere */
    int column;
} mark_seen;

typedef struct csv_file {
    ckpt_csv_scan scan;
    ckpt_csv_columns columns;
    csv_array *arrays; /* one per request */
    size_t array_count;
    uint64_t rows;
    ckpt_csv_cell *row; /* by column */
    const ckpt_data_source *source;
    ckpt_dataset *dataset;
    locale_t c_locale;
    mark_seen point, comma,
        unsure_comma; /* decimal points; decimal commas, and those that may separate thousands */
    bool sure_comma;
    ckpt_rounded rounded; /* `row` is the line */
} csv_file;

static ckpt_status fail_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of memory for the columns");
}

/* ---- Header ----------------------------------------------------------------------------------------- */

/* The names of columns while their number is not known. */
typedef struct header {
    ckpt_csv_columns *columns;
    int capacity;
} header;

static ckpt_status add_column(header *h, const ckpt_csv_cell *cell, ckpt_error *err) {
    ckpt_csv_columns *columns = h->columns;
    if (columns->count == h->capacity) {
        const int more = h->capacity ? 2 * h->capacity : 64;
        columns->name = ckpt_pool_grow(columns->pool, columns->name, (size_t)h->capacity, (size_t)more,
                                       sizeof *columns->name);
        columns->unnamed = ckpt_pool_grow(columns->pool, columns->unnamed, (size_t)h->capacity, (size_t)more,
                                          sizeof *columns->unnamed);
        if (!columns->name || !columns->unnamed) return fail_memory(err);
        h->capacity = more;
    }
    char *name = cell->length ? ckpt_pool_alloc(columns->pool, cell->length + 1, 1)
                              : ckpt_pool_printf(columns->pool, "Unnamed: %d", columns->count);
    if (!name) return fail_memory(err);
    if (cell->length) ckpt_csv_unquote(cell, name);
    /* The second time that a data frame writes its index, it has the name that it was read by. */
    columns->unnamed[columns->count] = !cell->length || strncmp(name, "Unnamed: ", 9) == 0;
    columns->name[columns->count++] = name;
    return CKPT_OK;
}

static ckpt_status read_header(csv_file *csv, ckpt_pool *pool, ckpt_error *err) {
    header h = {.columns = &csv->columns};
    int numbers = 0;
    csv->columns.pool = pool;
    for (ckpt_csv_cell c = {0}; !c.last;) {
        CKPT_TRY(ckpt_csv_next(&csv->scan, &c, err));
        if (csv->columns.count == CKPT_CSV_MAX_COLUMNS)
            return ckpt_fail(err, CKPT_USAGE, "line 1: more than %d columns; use .npz", CKPT_CSV_MAX_COLUMNS);
        CKPT_TRY(add_column(&h, &c, err));
        numbers += ckpt_text_kind_of(c.text, c.length, '.') == CKPT_TEXT_NUMBER;
    }
    if (csv->columns.count == 1 && csv->columns.unnamed[0])
        return ckpt_fail(err, CKPT_USAGE, "line 1: is empty; the first line must name the columns");
    if (numbers == csv->columns.count)
        return ckpt_fail(err, CKPT_USAGE,
                         "line 1: has only numbers; put a line in front that names the columns, as x0,x1,y");
    return CKPT_OK;
}

/* ---- Cells ------------------------------------------------------------------------------------------ */

static ckpt_status fail_cell(const csv_file *csv, int column, const char *what, ckpt_error *err) {
    const ckpt_csv_cell *cell = &csv->row[column];
    const int shown = cell->length < SHOWN_MAX ? (int)cell->length : SHOWN_MAX;
    const char *name = csv->columns.name[column];
    if (!cell->length)
        return ckpt_fail(err, CKPT_USAGE, "line %" PRIu64 ", column '%.80s': %s", cell->line, name, what);
    return ckpt_fail(err, CKPT_USAGE, "line %" PRIu64 ", column '%.80s': '%.*s' %s", cell->line, name, shown,
                     cell->text, what);
}

/* The decimal mark of a cell that has one. Commas are read where they cannot separate cells, if all numbers
 * have them. */
static ckpt_status choose_mark(csv_file *csv, int column, char *mark, ckpt_error *err) {
    const ckpt_csv_cell *cell = &csv->row[column];
    const mark_seen here = {cell->line, column};
    const bool point = memchr(cell->text, '.', cell->length), comma = memchr(cell->text, ',', cell->length);
    *mark = '.';
    if (point && !csv->point.line) csv->point = here;
    if (comma && csv->scan.separator != ',' &&
        ckpt_text_kind_of(cell->text, cell->length, ',') == CKPT_TEXT_NUMBER) {
        const bool unsure = ckpt_text_comma_is_unsure(cell->text, cell->length);
        if (!csv->comma.line) csv->comma = here;
        if (unsure && !csv->unsure_comma.line) csv->unsure_comma = here;
        csv->sure_comma = csv->sure_comma || !unsure;
        *mark = ',';
    }
    if (!csv->point.line || !csv->comma.line) return CKPT_OK;
    const mark_seen *first = csv->point.line < csv->comma.line ? &csv->point : &csv->comma;
    return ckpt_fail(err, CKPT_USAGE,
                     "line %" PRIu64 ", column '%.80s': '%.*s' has a decimal %s, and line %" PRIu64
                     ", column '%.80s' has a %s; "
                     "write all numbers alike",
                     cell->line, csv->columns.name[column],
                     cell->length < SHOWN_MAX ? (int)cell->length : SHOWN_MAX, cell->text,
                     *mark == ',' ? "comma" : "point", first->line, csv->columns.name[first->column],
                     *mark == ',' ? "point" : "comma");
}

static ckpt_status read_number(csv_file *csv, int column, bool names_elsewhere, ckpt_text_number *number,
                               ckpt_error *err) {
    const ckpt_csv_cell *cell = &csv->row[column];
    char mark;
    const ckpt_text_kind as_is = ckpt_text_kind_of(cell->text, cell->length, '.');
    if (as_is == CKPT_TEXT_NUMBER || as_is == CKPT_TEXT_GROUPED)
        CKPT_TRY(choose_mark(csv, column, &mark, err));
    else
        mark = '.';
    const ckpt_text_kind kind = mark == '.' ? as_is : CKPT_TEXT_NUMBER;
    if (kind == CKPT_TEXT_NAME && names_elsewhere)
        return fail_cell(csv, column,
                         "is a name, and the first cell of the column is a number; write all classes as "
                         "names, or all as numbers",
                         err);
    if (kind != CKPT_TEXT_NUMBER) return fail_cell(csv, column, ckpt_text_wrong(kind), err);
    if (!ckpt_text_read(cell->text, cell->length, mark, csv->c_locale, number))
        return fail_cell(csv, column, "has more digits than a number needs; round it", err);
    return CKPT_OK;
}

/* The values so far as reals: a cell was no integer. */
static void make_real(csv_array *array, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) array->values[i].real = (double)(float)array->values[i].integer;
    array->kind = REALS;
}

static ckpt_status store_real(csv_file *csv, int column, const ckpt_text_number *number, value *to,
                              ckpt_error *err) {
    if (isinf(number->real)) return fail_cell(csv, column, "is too large for float32; scale it", err);
    /* Compared only where the float lies within int64. */
    const bool exact =
        !number->whole || (fabsf(number->real) < 0x1p63f && (int64_t)number->real == number->integer);
    if (!exact && !csv->rounded.count++)
        csv->rounded = (ckpt_rounded){1, csv->row[column].line, (uint64_t)column, number->integer};
    to->real = (double)number->real;
    return CKPT_OK;
}

static ckpt_status store_name(csv_file *csv, csv_array *array, int column, value *to, ckpt_error *err) {
    const ckpt_csv_cell *cell = &csv->row[column];
    char text[CKPT_CLASS_NAME_BYTES];
    if (cell->length > sizeof text)
        return fail_cell(csv, column, "is longer than the name of a class may be", err);
    const size_t length = ckpt_csv_unquote(cell, text);
    const ckpt_status status = ckpt_class_table_number(&array->names, text, length, &to->integer, err);
    if (status == CKPT_OK || !err) return status;
    char what[CKPT_MESSAGE_SIZE];
    memcpy(what, err->message, sizeof what);
    return fail_cell(csv, column, what, err), err->status = status;
}

static ckpt_status store(csv_file *csv, csv_array *array, int column, uint64_t at, ckpt_error *err) {
    const ckpt_data_request *request = array->request;
    ckpt_text_number number = {0};
    if (array->kind == NAMES) return store_name(csv, array, column, &array->values[at], err);
    CKPT_TRY(
        read_number(csv, column, ckpt_data_takes_names(request, (uint64_t)array->pick->count), &number, err));
    if (!number.whole && request->want == CKPT_WANT_INTEGER)
        return fail_cell(csv, column, "is not a whole number that int64 holds; the model takes integers here",
                         err);
    if (!number.whole && array->kind == INTEGERS) make_real(array, at);
    if (array->kind == REALS) return store_real(csv, column, &number, &array->values[at], err);
    array->values[at].integer = number.integer;
    return CKPT_OK;
}

/* ---- Rows ------------------------------------------------------------------------------------------- */

/* Room for every row that can still come. Each cell takes at least a digit and a separator, and each row a
 * line, so the file's size bounds the rows; rows that would pass the bound have an error before they do. */
static ckpt_status make_arrays(csv_file *csv, const ckpt_data_wanted *wanted, ckpt_pool *pool,
                               ckpt_error *err) {
    const size_t left = (size_t)(csv->scan.end - csv->scan.at), lines = ckpt_csv_lines_left(&csv->scan);
    size_t rows = left / (2 * (size_t)csv->columns.count) + 1;
    if (rows > lines) rows = lines;
    csv->arrays = ckpt_pool_array(pool, wanted->count, csv_array);
    csv->row = ckpt_pool_array(pool, csv->columns.count, ckpt_csv_cell);
    csv->array_count = wanted->count;
    if (!csv->arrays || !csv->row) return fail_memory(err);
    for (size_t a = 0; a < wanted->count; a++) {
        csv_array *array = &csv->arrays[a];
        array->request = &wanted->requests[a];
        array->pick = &csv->columns.pick[a];
        array->names.pool = &csv->dataset->pool;
        if (ckpt_data_like(wanted, a)) array->names.known = ckpt_data_like(wanted, a)->classes;
        array->kind = ckpt_data_as_integers(array->request, (uint64_t)array->pick->count) ? INTEGERS : REALS;
        array->values = ckpt_pool_alloc(pool, rows, (size_t)array->pick->count * sizeof *array->values);
        if (!array->values) return ckpt_fail(err, CKPT_NOMEM, "%zu rows do not fit host memory", rows);
    }
    return CKPT_OK;
}

static ckpt_status fail_long_row(csv_file *csv, uint64_t line, ckpt_error *err) {
    const int count = csv->columns.count;
    int more = 0;
    ckpt_csv_cell c = {0};
    while (!c.last) {
        CKPT_TRY(ckpt_csv_next(&csv->scan, &c, err));
        more++;
    }
    return ckpt_fail(err, CKPT_USAGE, "line %" PRIu64 ": has %d cells, line 1 names %d columns; %s", line,
                     count + more, count,
                     more == 1 && !c.length ? "remove the separator at the end of the line"
                                            : "name them all, and leave an index out with --drop");
}

static ckpt_status read_cells(csv_file *csv, ckpt_error *err) {
    const uint64_t line = csv->scan.line;
    const int count = csv->columns.count;
    for (int c = 0; c < count; c++) {
        CKPT_TRY(ckpt_csv_next(&csv->scan, &csv->row[c], err));
        if (!csv->row[c].last || c + 1 == count) continue;
        if (c == 0 && !csv->row[c].length && !csv->row[c].quoted)
            return ckpt_fail(err, CKPT_USAGE, "line %" PRIu64 ": is empty; remove it", line);
        return ckpt_fail(err, CKPT_USAGE, "line %" PRIu64 ": has %d cell%s, line 1 names %d columns", line,
                         c + 1, c ? "s" : "", count);
    }
    return csv->row[count - 1].last ? CKPT_OK : fail_long_row(csv, line, err);
}

/* The first cell of a target that may be named says whether it is. */
static void choose_names(csv_file *csv) {
    for (size_t a = 0; a < csv->array_count; a++) {
        csv_array *array = &csv->arrays[a];
        if (!array->pick->count || !ckpt_data_takes_names(array->request, (uint64_t)array->pick->count))
            continue;
        const ckpt_csv_cell *first = &csv->row[array->pick->column[0]];
        if (ckpt_text_kind_of(first->text, first->length, '.') == CKPT_TEXT_NAME) array->kind = NAMES;
    }
}

static ckpt_status read_row(csv_file *csv, ckpt_error *err) {
    CKPT_TRY(read_cells(csv, err));
    if (!csv->rows) choose_names(csv);
    for (size_t a = 0; a < csv->array_count; a++) {
        csv_array *array = &csv->arrays[a];
        const uint64_t values = (uint64_t)array->pick->count;
        for (uint64_t v = 0; v < values; v++)
            CKPT_TRY(store(csv, array, array->pick->column[v], csv->rows * values + v, err));
    }
    csv->rows++;
    return CKPT_OK;
}

/* ---- What came of it -------------------------------------------------------------------------------- */

/* The names of a target's classes, in their final order; where the model takes one float, 0 and 1. */
static ckpt_status finish_names(const csv_file *csv, csv_array *array, ckpt_error *err) {
    if (array->kind != NAMES) return CKPT_OK;
    const uint64_t count = csv->rows * (uint64_t)array->pick->count;
    CKPT_TRY(ckpt_class_table_finish(&array->names, &array->values->integer, count, &array->classes, err));
    if (array->request->want == CKPT_WANT_FLOAT) make_real(array, count);
    return CKPT_OK;
}

static ckpt_status name_columns(csv_file *csv, const ckpt_csv_pick *pick, ckpt_names *from, ckpt_error *err) {
    for (int i = 0; i < pick->count; i++)
        CKPT_TRY(ckpt_data_add_name(&csv->dataset->pool, from, csv->columns.name[pick->column[i]], err));
    return CKPT_OK;
}

static ckpt_status add_entries(csv_file *csv, ckpt_data_catalog *catalog, ckpt_error *err) {
    for (size_t a = 0; a < csv->array_count; a++) {
        csv_array *array = &csv->arrays[a];
        CKPT_TRY(finish_names(csv, array, err));
        const uint64_t values = (uint64_t)array->pick->count, bytes = csv->rows * values * sizeof(value);
        ckpt_data_entry *entry = ckpt_data_catalog_add(catalog);
        if (!entry) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the list of arrays");
        *entry = (ckpt_data_entry){
            .path = csv->source->path,
            .name = array->request->name,
            .answers = (int)a,
            .classes = array->classes,
            .packed = {.bytes = (const uint8_t *)array->values,
                       .size = (size_t)bytes,
                       .unpacked_bytes = bytes},
            .layout = {.element = array->kind == REALS ? CKPT_ELEMENT_FLOAT : CKPT_ELEMENT_SIGNED,
                       .bytes = sizeof(value),
                       .big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__,
                       .rank = values > 1 ? 2 : 1,
                       .dim = {(int64_t)csv->rows, (int64_t)values}}};
        CKPT_TRY(name_columns(csv, array->pick, &entry->from, err));
    }
    for (int c = 0; c < csv->columns.count; c++)
        if (csv->columns.use[c] != CKPT_CSV_TAKEN)
            CKPT_TRY(ckpt_data_add_name(&csv->dataset->pool,
                                        csv->columns.use[c] == CKPT_CSV_DROPPED ? &csv->dataset->dropped
                                                                                : &csv->dataset->unused,
                                        csv->columns.name[c], err));
    return CKPT_OK;
}

/* Commas that separate thousands everywhere look like decimal commas; one that cannot is needed. */
static ckpt_status check_commas(csv_file *csv, ckpt_error *err) {
    const mark_seen *unsure = &csv->unsure_comma;
    if (unsure->line && !csv->sure_comma)
        return ckpt_fail(
            err, CKPT_USAGE,
            "line %" PRIu64
            ", column '%.80s': the comma may be decimal or separate thousands; write numbers with "
            "a decimal point alone, as 1234.5",
            unsure->line, csv->columns.name[unsure->column]);
    return csv->comma.line
               ? ckpt_data_add_note(csv->dataset, err, "%s: numbers have a decimal comma", csv->source->path)
               : CKPT_OK;
}

static ckpt_status note_rounded(csv_file *csv, ckpt_error *err) {
    const ckpt_rounded *r = &csv->rounded;
    if (!r->count) return CKPT_OK;
    return ckpt_data_add_note(csv->dataset, err,
                              "%s: has %" PRIu64 " whole number%s that float32 rounds, the first %" PRId64
                              " in line %" PRIu64 ", column '%.80s'",
                              csv->source->path, r->count, r->count == 1 ? "" : "s", r->value, r->row,
                              csv->columns.name[r->column]);
}

static ckpt_status read_file(csv_file *csv, const ckpt_data_wanted *wanted, ckpt_data_catalog *catalog,
                             ckpt_error *err) {
    CKPT_TRY(read_header(csv, catalog->pool, err));
    CKPT_TRY(ckpt_csv_assign(&csv->columns, wanted, err));
    CKPT_TRY(make_arrays(csv, wanted, catalog->pool, err));
    while (!ckpt_csv_at_end(&csv->scan)) CKPT_TRY(read_row(csv, err));
    CKPT_TRY(check_commas(csv, err));
    CKPT_TRY(note_rounded(csv, err));
    return add_entries(csv, catalog, err);
}

bool ckpt_csv_recognises(const ckpt_data_source *source) {
    static const char *const ends[] = {".csv", ".tsv", ".tab", ".txt"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends && !source->directory; i++)
        if (ckpt_has_suffix(source->kind, ends[i])) return true;
    return false;
}

/* UTF-16 and UTF-32, with a byte order mark or, by their zeros, without. */
static ckpt_status check_encoding(const ckpt_data_source *source, ckpt_error *err) {
    const char *text = (const char *)source->bytes;
    if (source->size >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
        return ckpt_fail(err, CKPT_USAGE, "is UTF-16 text; save it as UTF-8");
    if (memchr(text, 0, source->size))
        return ckpt_fail(err, CKPT_USAGE,
                         "has bytes of zero, as UTF-16 text and binary files have; save it as UTF-8");
    return CKPT_OK;
}

ckpt_status ckpt_csv_load(const ckpt_data_source *source, const ckpt_data_wanted *wanted,
                          ckpt_data_catalog *catalog, ckpt_error *err) {
    CKPT_TRY(check_encoding(source, err));
    csv_file csv = {.source = source, .dataset = catalog->dataset};
    ckpt_csv_scan_start(&csv.scan, (const char *)source->bytes, source->size);
    catalog->dataset->has_columns = true;
    csv.c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!csv.c_locale) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the C locale");
    ckpt_status status = read_file(&csv, wanted, catalog, err);
    freelocale(csv.c_locale);
    return status;
}
