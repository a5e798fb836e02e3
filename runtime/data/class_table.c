#include "data/class_table.h"

#include <stdlib.h>
#include <string.h>

#include "data/data_text.h"

enum { FIRST_SLOTS = 64 };

/* The slot of the name, or the free one where it belongs. */
static uint32_t *find_slot(ckpt_class_table *table, const char *name) {
    size_t at = (size_t)ckpt_name_hash(&table->key, name) & (table->slots - 1);
    while (table->slot[at] && strcmp(table->names.name[table->slot[at] - 1], name) != 0)
        at = (at + 1) & (table->slots - 1);
    return &table->slot[at];
}

/* Room for one more name. */
static ckpt_status make_room(ckpt_class_table *table, ckpt_error *err) {
    if (2 * (table->names.count + 1) <= table->slots) return CKPT_OK;
    if (!table->slots) ckpt_name_key_make(&table->key);
    table->slots = table->slots ? 2 * table->slots : FIRST_SLOTS;
    table->slot = ckpt_pool_array(table->pool, table->slots, uint32_t);
    table->names.name = ckpt_pool_grow(table->pool, table->names.name, table->names.count, table->slots / 2,
                                       sizeof *table->names.name);
    if (!table->slot || !table->names.name)
        return ckpt_fail(err, CKPT_NOMEM, "is one name too many for the memory");
    for (size_t i = 0; i < table->names.count; i++) *find_slot(table, table->names.name[i]) = (uint32_t)i + 1;
    return CKPT_OK;
}

static ckpt_status add(ckpt_class_table *table, const char *name, size_t length, int64_t *number,
                       ckpt_error *err) {
    CKPT_TRY(make_room(table, err));
    uint32_t *slot = find_slot(table, name);
    if (!*slot) {
        const char *copy = ckpt_pool_strndup(table->pool, name, length);
        if (!copy) return ckpt_fail(err, CKPT_NOMEM, "is one name too many for the memory");
        table->names.name[table->names.count++] = copy;
        *slot = (uint32_t)table->names.count;
    }
    *number = *slot - 1;
    return CKPT_OK;
}

static ckpt_status check_name(const char *text, size_t length, ckpt_error *err) {
    const ckpt_text_kind kind = ckpt_text_kind_of(text, length, '.');
    if (kind == CKPT_TEXT_NUMBER)
        return ckpt_fail(err, CKPT_USAGE,
                         "is a number among names of classes; write all classes as numbers, or all as names");
    if (kind != CKPT_TEXT_NAME) return ckpt_fail(err, CKPT_USAGE, "%s", ckpt_text_wrong(kind));
    if (length >= CKPT_CLASS_NAME_BYTES)
        return ckpt_fail(err, CKPT_USAGE, "is longer than the %d bytes that a name of a class may have",
                         CKPT_CLASS_NAME_BYTES - 1);
    if (!ckpt_text_is_utf8(text, length) || memchr(text, 0, length))
        return ckpt_fail(err, CKPT_USAGE,
                         "is not UTF-8, as names of classes must be; save the file as UTF-8");
    return CKPT_OK;
}

ckpt_status ckpt_class_table_number(ckpt_class_table *table, const char *text, size_t length, int64_t *number,
                                    ckpt_error *err) {
    char name[CKPT_CLASS_NAME_BYTES];
    CKPT_TRY(check_name(text, length, err));
    memcpy(name, text, length);
    name[length] = 0;
    while (table->names.count < table->known.count) {
        const char *known = table->known.name[table->names.count];
        CKPT_TRY(add(table, known, strlen(known), number, err));
    }
    const size_t before = table->names.count;
    CKPT_TRY(add(table, name, length, number, err));
    if (table->known.count && table->names.count != before)
        return ckpt_fail(err, CKPT_USAGE,
                         "is none of the %zu classes of the training data; correct or remove it", before);
    if (table->names.count > CKPT_CLASS_MOST)
        return ckpt_fail(
            err, CKPT_USAGE,
            "is the name of class %zu, more than a column of classes has; choose the column with --target",
            table->names.count);
    return CKPT_OK;
}

typedef struct ranked {
    const char *name;
    size_t number; /* by appearance */
} ranked;

static int compare_bytes(const void *a, const void *b) {
    return strcmp(((const ranked *)a)->name, ((const ranked *)b)->name);
}

ckpt_status ckpt_class_table_finish(ckpt_class_table *table, int64_t *numbers, uint64_t count,
                                    ckpt_names *classes, ckpt_error *err) {
    const size_t n = table->names.count;
    *classes = table->names;
    if (table->known.count || !n) return CKPT_OK;
    ranked *sorted = ckpt_pool_array(table->pool, n, ranked);
    int64_t *rank = ckpt_pool_array(table->pool, n, int64_t);
    if (!sorted || !rank) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the names of classes");
    for (size_t i = 0; i < n; i++) sorted[i] = (ranked){table->names.name[i], i};
    qsort(sorted, n, sizeof *sorted, compare_bytes);
    for (size_t i = 0; i < n; i++) {
        rank[sorted[i].number] = (int64_t)i;
        classes->name[i] = sorted[i].name;
    }
    for (uint64_t i = 0; i < count; i++) numbers[i] = rank[numbers[i]];
    return CKPT_OK;
}
