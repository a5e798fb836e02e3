/* Names of classes, and their numbers.
 *
 *     ckpt_class_table table = {.pool = &pool};
 *     CKPT_TRY(ckpt_class_table_number(&table, "cat", 3, &number, err));   // by order of appearance
 *     CKPT_TRY(ckpt_class_table_finish(&table, numbers, count, &classes, err));   // by order of bytes
 */
#ifndef CKPT_CLASS_TABLE_H
#define CKPT_CLASS_TABLE_H

#include "base/name_hash.h"
#include "data/data_format.h"

/* MOST bounds what a column of nothing but different texts can ask for. */
enum { CKPT_CLASS_NAME_BYTES = 256, CKPT_CLASS_MOST = 1 << 16 };

typedef struct ckpt_class_table {
    ckpt_pool *pool;  /* of names and table, which it outlives */
    ckpt_names known; /* the only names there may be, by their numbers; or none */
    ckpt_name_key key;
    ckpt_names names;
    uint32_t *slot; /* number + 1 by hash, 0: free; a power of two that is at most half full */
    size_t slots;
} ckpt_class_table;

/* The number of a name, which is new or was seen before. Errors are predicates, "'Cat' is ...": CKPT_USAGE
 * for what is no name (a number, a missing value, not UTF-8), for one that is not known and for too many;
 * CKPT_NOMEM. */
ckpt_status ckpt_class_table_number(ckpt_class_table *table, const char *text, size_t length, int64_t *number,
                                    ckpt_error *err);

/* Where no names were known: sorts them by their bytes and replaces the `count` numbers by the new ones.
 * `classes`, in the table's pool, are the names in the end. */
ckpt_status ckpt_class_table_finish(ckpt_class_table *table, int64_t *numbers, uint64_t count,
                                    ckpt_names *classes, ckpt_error *err);

#endif
