#include "data/csv_columns.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/name_pick.h"

/* Names of targets besides those of the request. */
static const char *const usual_targets[] = {"y", "target", "label", "class"};
enum {
    USUAL_TARGETS = sizeof usual_targets / sizeof *usual_targets,
    MOST_NAMES = 1 + CKPT_DATA_MAX_ALIASES + USUAL_TARGETS
};

typedef struct assigner {
    ckpt_csv_columns *columns;
    const ckpt_data_wanted *wanted;
    int requests[2]; /* by role: how many */
    int *by_name;    /* columns, sorted by name */
    int *candidate;  /* columns that requests of a role may be made of, in order */
    int candidate_count;
    bool listed; /* an option lists the candidates */
} assigner;

static ckpt_status fail_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of memory for the columns");
}

static const char *all_names(const ckpt_csv_columns *columns, char text[CKPT_LIST_TEXT]) {
    return ckpt_data_list_text(columns->name, (size_t)columns->count, text);
}

/* Values that the request takes a sample, as far as it says: integers and floats may differ. */
static bool takes(const ckpt_data_request *r, uint64_t count) {
    const bool any = !(r->want == CKPT_WANT_INTEGER ? r->integer_values : r->values);
    return any || (r->want != CKPT_WANT_FLOAT && r->integer_values == count) ||
           (r->want != CKPT_WANT_INTEGER && r->values == count);
}

static uint64_t least_values(const ckpt_data_request *r) {
    return r->want == CKPT_WANT_INTEGER ? r->integer_values : r->values;
}

static ckpt_status give(assigner *a, size_t request, const int *column, int count, ckpt_error *err) {
    ckpt_csv_pick *pick = &a->columns->pick[request];
    pick->column = ckpt_pool_array(a->columns->pool, count, int);
    if (!pick->column) return fail_memory(err);
    pick->count = count;
    for (int i = 0; i < count; i++) {
        pick->column[i] = column[i];
        a->columns->use[column[i]] = CKPT_CSV_TAKEN;
    }
    return CKPT_OK;
}

/* ---- Columns of one name --------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b, void *columns) {
    const char *const *name = ((const ckpt_csv_columns *)columns)->name;
    const int x = *(const int *)a, y = *(const int *)b, order = strcmp(name[x], name[y]);
    return order ? order : x - y;
}

static ckpt_status sort_names(assigner *a, ckpt_error *err) {
    const ckpt_csv_columns *columns = a->columns;
    a->by_name = ckpt_pool_array(columns->pool, columns->count, int);
    if (!a->by_name) return fail_memory(err);
    for (int c = 0; c < columns->count; c++) a->by_name[c] = c;
    qsort_r(a->by_name, (size_t)columns->count, sizeof *a->by_name, compare_names, a->columns);
    for (int i = 1; i < columns->count; i++) {
        const int first = a->by_name[i - 1], second = a->by_name[i];
        /* An index that is written twice has no name and the name that it was read by: both are left out by
         * it. */
        const bool index = columns->unnamed[first] && columns->unnamed[second];
        if (!index && strcmp(columns->name[first], columns->name[second]) == 0)
            return ckpt_fail(err, CKPT_USAGE, "line 1: columns %d and %d are both named '%.80s'; rename one",
                             first + 1, second + 1, columns->name[first]);
    }
    return CKPT_OK;
}

/* The column of exactly this name, or -1. */
static int find_name(const assigner *a, const char *name) {
    int low = 0, high = a->columns->count;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (strcmp(a->columns->name[a->by_name[middle]], name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < a->columns->count && strcmp(a->columns->name[a->by_name[low]], name) == 0 ? a->by_name[low]
                                                                                           : -1;
}

/* The columns of the training data, whatever their order and what else there is. */
static ckpt_status assign_like(assigner *a, const ckpt_dataset *like, ckpt_error *err) {
    for (size_t r = 0; r < a->wanted->count && r < like->array_count; r++) {
        const ckpt_names *from = &like->arrays[r].from;
        int *column = ckpt_pool_array(a->columns->pool, from->count, int);
        if (!column) return fail_memory(err);
        for (size_t i = 0; i < from->count; i++) {
            column[i] = find_name(a, from->name[i]);
            if (column[i] < 0)
                return ckpt_fail(
                    err, CKPT_USAGE,
                    "line 1: has no column '%.80s', which the training data has for the %s '%s'; add it",
                    from->name[i], ckpt_data_role_text(&a->wanted->requests[r]), a->wanted->requests[r].name);
        }
        CKPT_TRY(give(a, r, column, (int)from->count, err));
    }
    return CKPT_OK;
}

/* ---- Columns that lists name ------------------------------------------------------------------------ */

static const char *column_name(const void *columns, int i) {
    return ((const ckpt_csv_columns *)columns)->name[i];
}

static ckpt_status pick(const assigner *a, const char *option, const char *text, int *order, int *count,
                        ckpt_error *err) {
    const ckpt_name_choice list = {.text = text,
                                   .option = option,
                                   .what = "column",
                                   .count = a->columns->count,
                                   .name = column_name,
                                   .context = a->columns};
    bool *picked = ckpt_pool_array(a->columns->pool, a->columns->count, bool);
    if (!picked) return fail_memory(err);
    CKPT_TRY(ckpt_name_pick(&list, picked, order, count, err));
    for (int i = 0; i < *count; i++)
        if (a->columns->use[order[i]] == CKPT_CSV_DROPPED)
            return ckpt_fail(err, CKPT_USAGE,
                             "line 1: column '%.80s' is in %s and in --drop; leave it out of one",
                             a->columns->name[order[i]], option);
    return CKPT_OK;
}

static ckpt_status drop_columns(assigner *a, int *order, ckpt_error *err) {
    int count = 0;
    if (!a->wanted->options.drop) return CKPT_OK;
    CKPT_TRY(pick(a, "--drop", a->wanted->options.drop, order, &count, err));
    for (int i = 0; i < count; i++) a->columns->use[order[i]] = CKPT_CSV_DROPPED;
    return CKPT_OK;
}

/* ---- Columns that are called like a request --------------------------------------------------------- */

/* How a column's name relates to the name that is looked for; ASCII case is ignored. */
typedef enum match { NO_MATCH, NUMBERED, EXACT } match;

typedef struct numbered {
    uint64_t number;
    int column;
} numbered;

static char lower(char c) {
    return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* "y" is EXACT for y; "y0", "y_12" and "y.3" are NUMBERED. */
static match compare(const char *column, const char *name, uint64_t *number) {
    *number = 0;
    for (; *name; name++, column++)
        if (lower(*column) != lower(*name)) return NO_MATCH;
    if (!*column) return EXACT;
    if (*column == '_' || *column == '.') column++;
    const size_t digits = strspn(column, "0123456789");
    if (!digits || digits > 9 || column[digits]) return NO_MATCH;
    for (size_t i = 0; i < digits; i++) *number = 10 * *number + (uint64_t)(column[i] - '0');
    return NUMBERED;
}

static int compare_numbers(const void *a, const void *b) {
    const numbered *x = a, *y = b;
    return x->number != y->number ? (x->number < y->number ? -1 : 1) : x->column - y->column;
}

/* The free candidates that are called `name`: the one of exactly this name, or else the numbered ones by
 * their numbers. *found has room for all columns. */
static ckpt_status find_called(const assigner *a, const char *name, numbered *found, int *count,
                               ckpt_error *err) {
    match best = NUMBERED;
    int n = 0;
    for (int i = 0; i < a->candidate_count; i++) {
        const int c = a->candidate[i];
        uint64_t number = 0;
        const match m =
            a->columns->use[c] == CKPT_CSV_FREE ? compare(a->columns->name[c], name, &number) : NO_MATCH;
        if (m > best) best = m, n = 0;
        if (m == best) found[n++] = (numbered){number, c};
    }
    if (n) qsort(found, (size_t)n, sizeof *found, compare_numbers);
    for (int i = 1; i < n; i++)
        if (found[i].number == found[i - 1].number)
            return ckpt_fail(err, CKPT_USAGE,
                             "line 1: columns '%.80s' and '%.80s' are named alike; rename one",
                             a->columns->name[found[i - 1].column], a->columns->name[found[i].column]);
    *count = n;
    return CKPT_OK;
}

/* The names that a request goes by, in order; returns how many. What targets are usually called is for one
 * alone. */
static int names_of(const assigner *a, const ckpt_data_request *r, const char *names[MOST_NAMES]) {
    const bool one_target = r->role == CKPT_DATA_TARGET && a->requests[CKPT_DATA_TARGET] == 1;
    int n = 0;
    names[n++] = r->name;
    for (int k = 0; k < CKPT_DATA_MAX_ALIASES && r->aliases[k]; k++) names[n++] = r->aliases[k];
    for (int k = 0; k < USUAL_TARGETS && one_target; k++) {
        bool known = false;
        for (int i = 0; i < n; i++) known = known || strcmp(names[i], usual_targets[k]) == 0;
        if (!known) names[n++] = usual_targets[k];
    }
    return n;
}

static ckpt_status give_numbered(assigner *a, size_t request, const numbered *found, int count,
                                 ckpt_error *err) {
    int *column = ckpt_pool_array(a->columns->pool, count, int);
    if (!column) return fail_memory(err);
    for (int i = 0; i < count; i++) column[i] = found[i].column;
    return give(a, request, column, count, err);
}

/* Whether an input of the model is called like this: then the column is not the target's. */
static bool is_input_name(const assigner *a, const char *column) {
    uint64_t number;
    for (size_t r = 0; r < a->wanted->count; r++)
        if (a->wanted->requests[r].role == CKPT_DATA_INPUT &&
            compare(column, a->wanted->requests[r].name, &number) != NO_MATCH)
            return true;
    return false;
}

/* ---- Targets ---------------------------------------------------------------------------------------- */

static ckpt_status fail_target(const assigner *a, const ckpt_data_request *r, ckpt_error *err) {
    const char *names[MOST_NAMES];
    char has[CKPT_LIST_TEXT], tried[CKPT_LIST_TEXT];
    return ckpt_fail(
        err, CKPT_USAGE,
        "line 1: which column is the target? None is named %s; it has %s; choose with --target NAME",
        ckpt_data_list_text(names, (size_t)names_of(a, r, names), tried), all_names(a->columns, has));
}

/* Another column that might be meant as well is no feature by accident. */
static ckpt_status check_one_target(const assigner *a, const ckpt_data_request *r, int column,
                                    ckpt_error *err) {
    const char *names[MOST_NAMES];
    const int n = names_of(a, r, names);
    uint64_t number;
    for (int c = 0; c < a->columns->count; c++)
        for (int k = 0; k < n && c != column && a->columns->use[c] == CKPT_CSV_FREE &&
                        !is_input_name(a, a->columns->name[c]);
             k++)
            if (compare(a->columns->name[c], names[k], &number) == EXACT)
                return ckpt_fail(
                    err, CKPT_USAGE,
                    "line 1: columns '%.80s' and '%.80s' may both be the target; name it with --target, and "
                    "leave the other out with --drop",
                    a->columns->name[column], a->columns->name[c]);
    return CKPT_OK;
}

/* By a name that targets have: no column is one by accident. */
static ckpt_status assign_usual_target(assigner *a, size_t request, numbered *found, ckpt_error *err) {
    const ckpt_data_request *r = &a->wanted->requests[request];
    const char *names[MOST_NAMES];
    a->candidate_count = 0;
    for (int c = 0; c < a->columns->count; c++)
        if (!is_input_name(a, a->columns->name[c])) a->candidate[a->candidate_count++] = c;
    for (int k = 0, n = names_of(a, r, names), count = 0; k < n; k++) {
        CKPT_TRY(find_called(a, names[k], found, &count, err));
        if (!count) continue;
        CKPT_TRY(check_one_target(a, r, found[0].column, err));
        return give_numbered(a, request, found, count, err);
    }
    return fail_target(a, r, err);
}

/* ---- Columns by name and by order ------------------------------------------------------------------- */

/* By the first of its names, or by the others. */
static ckpt_status assign_named(assigner *a, size_t request, bool first, numbered *found, ckpt_error *err) {
    const ckpt_data_request *r = &a->wanted->requests[request];
    const char *names[MOST_NAMES];
    const int n = first ? 1 : names_of(a, r, names);
    names[0] = r->name;
    for (int k = first ? 0 : 1, count = 0; k < n; k++) {
        CKPT_TRY(find_called(a, names[k], found, &count, err));
        if (count && takes(r, (uint64_t)count)) return give_numbered(a, request, found, count, err);
    }
    return CKPT_OK;
}

static ckpt_status fail_left_over(const assigner *a, const ckpt_data_request *r, ckpt_error *err) {
    const bool target = r->role == CKPT_DATA_TARGET;
    char list[CKPT_LIST_TEXT] = "none", takes_text[24] = "its own";
    const char **names = ckpt_pool_array(a->columns->pool, a->candidate_count, const char *);
    if (!names) return fail_memory(err);
    for (int i = 0; i < a->candidate_count; i++) names[i] = a->columns->name[a->candidate[i]];
    if (a->candidate_count) ckpt_data_list_text(names, (size_t)a->candidate_count, list);
    if (least_values(r)) snprintf(takes_text, sizeof takes_text, "%" PRIu64, least_values(r));
    return ckpt_fail(
        err, CKPT_USAGE,
        "line 1: the %s '%s' takes %s column%s; named '%s0', '%s1' and so on there are none, and "
        "left are %d, %s; choose with %s",
        ckpt_data_role_text(r), r->name, takes_text, least_values(r) == 1 ? "" : "s", r->name, r->name,
        a->candidate_count, list, target ? "--target" : "--features, or leave some out with --drop");
}

static ckpt_status check_unnamed(const assigner *a, ckpt_error *err) {
    for (int i = 0; i < a->candidate_count && !a->listed; i++)
        if (a->columns->unnamed[a->candidate[i]])
            return ckpt_fail(
                err, CKPT_USAGE,
                "line 1: column %d has no name, as an index that a data frame writes; leave it out with "
                "--drop %d, or name it",
                a->candidate[i] + 1, a->candidate[i]);
    return CKPT_OK;
}

/* Requests of a role without columns take the candidates that are left, in order: each as many as it has
 * values, or one each where that is not known and they are as many. */
static ckpt_status assign_rest(assigner *a, ckpt_data_role role, ckpt_error *err) {
    const ckpt_csv_columns *columns = a->columns;
    const ckpt_data_request *first = NULL;
    uint64_t needed = 0;
    int left = 0, next = 0, open = 0, unsized = 0;
    for (size_t r = 0; r < a->wanted->count; r++) {
        const ckpt_data_request *request = &a->wanted->requests[r];
        if (columns->pick[r].count || request->role != role) continue;
        if (!open++) first = request;
        unsized += !least_values(request);
        needed += least_values(request);
    }
    if (!open) return CKPT_OK;
    for (int i = 0; i < a->candidate_count; i++)
        if (columns->use[a->candidate[i]] == CKPT_CSV_FREE) a->candidate[left++] = a->candidate[i];
    a->candidate_count = left;
    CKPT_TRY(check_unnamed(a, err));
    const bool one_each = unsized == open && left == open;
    if (!one_each &&
        (unsized > 1 || left == 0 || (unsized ? (uint64_t)left <= needed : (uint64_t)left != needed)))
        return fail_left_over(a, first, err);
    for (size_t r = 0; r < a->wanted->count; r++) {
        const ckpt_data_request *request = &a->wanted->requests[r];
        if (columns->pick[r].count || request->role != role) continue;
        const int count =
            one_each ? 1 : (int)(least_values(request) ? least_values(request) : (uint64_t)left - needed);
        CKPT_TRY(give(a, r, a->candidate + next, count, err));
        next += count;
    }
    return CKPT_OK;
}

/* Of the candidates; where a list has them for one request alone, in the order of the list, whatever they are
 * called. */
static ckpt_status assign_role(assigner *a, ckpt_data_role role, numbered *found, ckpt_error *err) {
    /* No alias takes what another request is called. */
    for (int pass = 0; pass < 2 && !(a->listed && a->requests[role] == 1); pass++)
        for (size_t r = 0; r < a->wanted->count; r++)
            if (a->wanted->requests[r].role == role && !a->columns->pick[r].count)
                CKPT_TRY(assign_named(a, r, pass == 0, found, err));
    return assign_rest(a, role, err);
}

static ckpt_status assign_targets(assigner *a, numbered *found, ckpt_error *err) {
    a->listed = a->wanted->options.target;
    if (a->listed) {
        CKPT_TRY(pick(a, "--target", a->wanted->options.target, a->candidate, &a->candidate_count, err));
        /* One target takes them all: what it has is compared with what it takes when the data are read. */
        for (size_t r = 0; r < a->wanted->count && a->requests[CKPT_DATA_TARGET] == 1; r++)
            if (a->wanted->requests[r].role == CKPT_DATA_TARGET)
                return give(a, r, a->candidate, a->candidate_count, err);
        return assign_role(a, CKPT_DATA_TARGET, found, err);
    }
    for (size_t r = 0; r < a->wanted->count; r++)
        if (a->wanted->requests[r].role == CKPT_DATA_TARGET) CKPT_TRY(assign_usual_target(a, r, found, err));
    return CKPT_OK;
}

/* Columns of --features that the target has as well: all of them, and --target, as an autoencoder asks for;
 * else none. */
static ckpt_status check_shared(const assigner *a, ckpt_error *err) {
    int shared = 0, last = 0;
    for (int i = 0; i < a->candidate_count; i++)
        if (a->columns->use[a->candidate[i]] == CKPT_CSV_TAKEN) last = a->candidate[i], shared++;
    if (shared && (shared < a->candidate_count || !a->wanted->options.target))
        return ckpt_fail(err, CKPT_USAGE,
                         "line 1: column '%.80s' is in --features and is the target too; leave it out of one",
                         a->columns->name[last]);
    for (int i = 0; i < a->candidate_count; i++) a->columns->use[a->candidate[i]] = CKPT_CSV_FREE;
    return CKPT_OK;
}

static ckpt_status assign_inputs(assigner *a, numbered *found, ckpt_error *err) {
    a->listed = a->wanted->options.features;
    a->candidate_count = 0;
    for (int c = 0; c < a->columns->count && !a->listed; c++)
        if (a->columns->use[c] == CKPT_CSV_FREE) a->candidate[a->candidate_count++] = c;
    if (a->listed) {
        CKPT_TRY(pick(a, "--features", a->wanted->options.features, a->candidate, &a->candidate_count, err));
        CKPT_TRY(check_shared(a, err));
    }
    return assign_role(a, CKPT_DATA_INPUT, found, err);
}

ckpt_status ckpt_csv_assign(ckpt_csv_columns *columns, const ckpt_data_wanted *wanted, ckpt_error *err) {
    assigner a = {.columns = columns, .wanted = wanted};
    const ckpt_dataset *like = wanted->options.like;
    int *order = ckpt_pool_array(columns->pool, columns->count, int);
    numbered *found = ckpt_pool_array(columns->pool, columns->count, numbered);
    columns->pick = ckpt_pool_array(columns->pool, wanted->count, ckpt_csv_pick);
    columns->use = ckpt_pool_array(columns->pool, columns->count, uint8_t);
    a.candidate = ckpt_pool_array(columns->pool, columns->count, int);
    if (!order || !found || !columns->pick || !columns->use || !a.candidate) return fail_memory(err);
    CKPT_TRY(sort_names(&a, err));
    if (like && like->has_columns) return assign_like(&a, like, err);
    CKPT_TRY(drop_columns(&a, order, err));
    for (size_t r = 0; r < wanted->count; r++) a.requests[wanted->requests[r].role]++;
    CKPT_TRY(assign_targets(&a, found, err));
    return assign_inputs(&a, found, err);
}
