/* The exact part of packing: does a set of buffers fit below a ceiling?
 *
 * Works on one part: buffers connected by overlapping lifetimes. Time is cut into sections, each standing for one
 * largest set of buffers alive together; two buffers meet in time exactly when they share a section. Sizes are in
 * units of the alignment.
 */
#ifndef CKPT_PACK_SEARCH_H
#define CKPT_PACK_SEARCH_H

#include "base/pool.h"

#include <stdint.h>

typedef struct ckpt_pack_part {
    int count, section_count;
    int *id;            /* buffer of the problem */
    int *lower, *upper; /* sections [lower, upper); lower never decreases from one buffer to the next */
    uint64_t *size;     /* > 0 */
    uint64_t *total;    /* by section: units alive */
    uint64_t live_peak; /* the largest total */
} ckpt_pack_part;

typedef enum ckpt_pack_answer { CKPT_PACK_FITS, CKPT_PACK_DOES_NOT_FIT, CKPT_PACK_UNKNOWN } ckpt_pack_answer;

/* Branch and bound (pack_search.c says how). Writes offset[part->count] (units) when the answer is FITS. Takes at
 * most about *work steps and subtracts what it took; UNKNOWN when they or the memory did not suffice. */
ckpt_pack_answer ckpt_pack_search(const ckpt_pack_part *part, uint64_t ceiling, uint64_t *work, uint64_t *offset);

#endif
