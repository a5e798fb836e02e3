/* Which columns of a CSV file make up which array; decided from the header line alone, by the rules at
 * ckpt_dataset_load.
 *
 *     ckpt_csv_columns columns = {.name = names, .count = n, .unnamed = ..., .pool = &pool};
 *     CKPT_TRY(ckpt_csv_assign(&columns, wanted, err));
 *     int column = columns.pick[r].column[v];   // the column of value v of request r
 */
#ifndef CKPT_CSV_COLUMNS_H
#define CKPT_CSV_COLUMNS_H

#include "data/data_format.h"

/* Bounds the memory that a header line can ask for. */
enum { CKPT_CSV_MAX_COLUMNS = 1 << 20 };

typedef enum ckpt_csv_use { CKPT_CSV_FREE, CKPT_CSV_TAKEN, CKPT_CSV_DROPPED } ckpt_csv_use;

/* The columns of one request, in the order of its values. */
typedef struct ckpt_csv_pick {
    int *column;
    int count;
} ckpt_csv_pick;

typedef struct ckpt_csv_columns {
    ckpt_pool *pool;
    const char **name; /* unquoted, without surrounding spaces */
    bool *unnamed;     /* the name is ours, "Unnamed: 3" */
    int count;
    ckpt_csv_pick *pick; /* by request */
    uint8_t *use;        /* by column: a ckpt_csv_use */
} ckpt_csv_columns;

/* Fills `pick` and `use`. CKPT_USAGE: names that appear twice, requests without columns or with more than one
 * choice. */
ckpt_status ckpt_csv_assign(ckpt_csv_columns *columns, const ckpt_data_wanted *wanted, ckpt_error *err);

#endif
