/* Which columns of a CSV file make up which array; decided from the header line alone.
 *
 *     ckpt_csv_columns columns = {...names...};
 *     CKPT_TRY(ckpt_csv_assign(&columns, wanted, err));
 *     columns.column[c].array   // index of the request that column c belongs to, or CKPT_CSV_UNUSED
 */
#ifndef CKPT_CSV_COLUMNS_H
#define CKPT_CSV_COLUMNS_H

#include "data/data_format.h"

/* Bounds the memory that a header line can ask for: each column takes 24 bytes or so. */
enum { CKPT_CSV_MAX_COLUMNS = 1 << 20, CKPT_CSV_UNUSED = -1 };

typedef struct ckpt_csv_column {
    const char *name; /* unquoted, without surrounding spaces */
    int array;        /* request, or CKPT_CSV_UNUSED */
    uint32_t place;   /* value number within a sample of that array */
} ckpt_csv_column;

typedef struct ckpt_csv_columns {
    ckpt_csv_column *column;
    size_t count;
} ckpt_csv_columns;

/* Fills `array` and `place` of every column, by the rule at ckpt_dataset_load. Places follow the order of
 * the file. CKPT_USAGE: a request has no column, or a name appears twice for it. */
ckpt_status ckpt_csv_assign(ckpt_csv_columns *columns, const ckpt_data_wanted *wanted, ckpt_error *err);

#endif
