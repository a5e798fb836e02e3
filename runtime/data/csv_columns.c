#include "data/csv_columns.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static char lower(char c) {
    return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* How a column's name relates to the name that is looked for; ASCII case is ignored. */
typedef enum match { NO_MATCH, NUMBERED, EXACT } match;

/* "y" is EXACT for y; "y0" and "y_12" are NUMBERED. */
static match compare(const char *column, const char *name) {
    for (; *name; name++, column++)
        if (lower(*column) != lower(*name)) return NO_MATCH;
    if (!*column) return EXACT;
    if (*column == '_') column++;
    size_t digits = strspn(column, "0123456789");
    return digits && !column[digits] ? NUMBERED : NO_MATCH;
}

/* Gives all free columns called `name` to the request: the one of exactly this name, or else the numbered
 * ones. *found is how many. */
static ckpt_status take_named(ckpt_csv_columns *columns, const char *name, int array, uint32_t *found,
                              ckpt_error *err) {
    match best = NO_MATCH;
    for (size_t c = 0; c < columns->count; c++) {
        match m =
            columns->column[c].array == CKPT_CSV_UNUSED ? compare(columns->column[c].name, name) : NO_MATCH;
        if (m > best) best = m;
    }
    *found = 0;
    for (size_t c = 0; best != NO_MATCH && c < columns->count; c++) {
        ckpt_csv_column *column = &columns->column[c];
        if (column->array != CKPT_CSV_UNUSED || compare(column->name, name) != best) continue;
        if (best == EXACT && *found)
            return ckpt_fail(err, CKPT_USAGE, "line 1: two columns are named '%.80s'; rename one",
                             column->name);
        column->array = array;
        column->place = (*found)++;
    }
    return CKPT_OK;
}

static ckpt_status take_request(ckpt_csv_columns *columns, const ckpt_data_request *request, int array,
                                uint32_t *found, ckpt_error *err) {
    CKPT_TRY(take_named(columns, request->name, array, found, err));
    for (int k = 0; !*found && k < CKPT_DATA_MAX_ALIASES && request->aliases[k]; k++)
        CKPT_TRY(take_named(columns, request->aliases[k], array, found, err));
    static const char *const usual[] = {"y", "label", "target", "class"};
    for (size_t k = 0; !*found && request->role == CKPT_DATA_TARGET && k < sizeof usual / sizeof usual[0];
         k++)
        CKPT_TRY(take_named(columns, usual[k], array, found, err));
    return CKPT_OK;
}

static ckpt_status fail_missing(const ckpt_data_request *request, const ckpt_csv_columns *columns,
                                ckpt_error *err) {
    char has[400];
    size_t n = 0, c = 0;
    has[0] = 0;
    for (; c < columns->count && n + 60 < sizeof has; c++)
        n += (size_t)snprintf(has + n, sizeof has - n, "%s'%.40s'", c ? ", " : "", columns->column[c].name);
    if (c < columns->count) snprintf(has + n, sizeof has - n, " and %zu more", columns->count - c);
    return ckpt_fail(
        err, CKPT_USAGE,
        "line 1: no column for the %s '%s'; it has %s; name the column '%s', or '%s0', '%s1' and so on",
        request->role == CKPT_DATA_TARGET ? "target" : "model's input", request->name, has, request->name,
        request->name, request->name);
}

/* Without a known name the last column is the target, if one value is what the target takes. */
static ckpt_status assign_target(ckpt_csv_columns *columns, const ckpt_data_request *request, int array,
                                 ckpt_error *err) {
    uint32_t found;
    CKPT_TRY(take_request(columns, request, array, &found, err));
    if (found) return CKPT_OK;
    bool one_integer = request->want != CKPT_WANT_FLOAT && request->integer_values <= 1;
    bool one_float = request->want != CKPT_WANT_INTEGER && request->values <= 1;
    ckpt_csv_column *last = &columns->column[columns->count - 1];
    if ((!one_integer && !one_float) || last->array != CKPT_CSV_UNUSED)
        return fail_missing(request, columns, err);
    last->array = array;
    last->place = 0;
    return CKPT_OK;
}

static ckpt_status assign_inputs(ckpt_csv_columns *columns, const ckpt_data_wanted *wanted, size_t inputs,
                                 ckpt_error *err) {
    for (size_t r = 0; r < wanted->count; r++) {
        const ckpt_data_request *request = &wanted->requests[r];
        if (request->role != CKPT_DATA_INPUT) continue;
        uint32_t found = 0;
        if (inputs > 1) CKPT_TRY(take_request(columns, request, (int)r, &found, err));
        for (size_t c = 0; inputs == 1 && c < columns->count; c++) {
            if (columns->column[c].array != CKPT_CSV_UNUSED) continue;
            columns->column[c].array = (int)r;
            columns->column[c].place = found++;
        }
        if (!found) return fail_missing(request, columns, err);
    }
    return CKPT_OK;
}

ckpt_status ckpt_csv_assign(ckpt_csv_columns *columns, const ckpt_data_wanted *wanted, ckpt_error *err) {
    size_t inputs = 0;
    for (size_t c = 0; c < columns->count; c++) columns->column[c].array = CKPT_CSV_UNUSED;
    for (size_t r = 0; r < wanted->count; r++) {
        const ckpt_data_request *request = &wanted->requests[r];
        inputs += request->role == CKPT_DATA_INPUT;
        if (request->role == CKPT_DATA_TARGET) CKPT_TRY(assign_target(columns, request, (int)r, err));
    }
    if (columns->count < wanted->count)
        return ckpt_fail(
            err, CKPT_USAGE,
            "line 1: has %zu column%s ('%.80s') for %zu arrays; separate the columns with commas",
            columns->count, columns->count == 1 ? "" : "s", columns->column[0].name, wanted->count);
    return assign_inputs(columns, wanted, inputs, err);
}
