/* CSV as cells: RFC 4180, and what spreadsheets and data frames make of it.
 *
 *     ckpt_csv_scan scan;
 *     ckpt_csv_scan_start(&scan, text, size);
 *     while (!ckpt_csv_at_end(&scan)) CKPT_TRY(ckpt_csv_next(&scan, &cell, err));
 *
 * Cells are separated by commas, semicolons, tabs or bars: by whichever the first line has most of outside
 * quotes, commas if as many. Lines end in LF, CRLF or CR; the last one need not end. A byte order mark and a
 * first line "sep=;", as Excel writes it, are passed over.
 */
#ifndef CKPT_CSV_SCAN_H
#define CKPT_CSV_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct ckpt_csv_scan {
    const char *at, *end;
    uint64_t line; /* counted from 1 */
    char separator;
} ckpt_csv_scan;

/* A cell without its quotes and surrounding spaces; doubled quotes inside are left doubled. */
typedef struct ckpt_csv_cell {
    const char *text;
    size_t length;
    uint64_t line;
    bool quoted, last; /* last: of its row */
} ckpt_csv_cell;

void ckpt_csv_scan_start(ckpt_csv_scan *scan, const char *text, size_t size);

/* Reads one cell and the separator or line end behind it. CKPT_USAGE: quotes that do not close, or text
 * behind them. */
ckpt_status ckpt_csv_next(ckpt_csv_scan *scan, ckpt_csv_cell *cell, ckpt_error *err);

/* Only line ends follow: they are no rows. */
bool ckpt_csv_at_end(const ckpt_csv_scan *scan);

/* At most how many lines are left. */
size_t ckpt_csv_lines_left(const ckpt_csv_scan *scan);

/* Copies the cell's text to `out`, which has room for cell->length bytes, with doubled quotes made single;
 * returns the length. */
size_t ckpt_csv_unquote(const ckpt_csv_cell *cell, char *out);

#endif
