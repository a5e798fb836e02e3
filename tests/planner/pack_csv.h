/* Packing problems in the MiniMalloc format: a line `id,lower,upper,size` a buffer after a heading.
 *
 *     pack_csv problem;
 *     const char *wrong = pack_csv_read(path, &problem);   // NULL, or what is wrong with the file
 *     pack_csv_free(&problem);
 */
#ifndef CKPT_TEST_PACK_CSV_H
#define CKPT_TEST_PACK_CSV_H

#include <stdbool.h>
#include <stdint.h>

typedef struct pack_csv {
    int count;
    int64_t *lower, *upper;
    uint64_t *size;
    uint64_t capacity; /* the number before ".csv" in the file's name; 0 when there is none */
} pack_csv;

const char *pack_csv_read(const char *path, pack_csv *problem);
void pack_csv_free(pack_csv *problem);

/* Do all buffers lie below `height`, none upon another that is alive at the same time? Shares no code with packing. */
bool pack_csv_valid(const pack_csv *problem, const uint64_t *offset, uint64_t height);

#endif
