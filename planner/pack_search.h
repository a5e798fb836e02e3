/* The exact part of packing: does a set of buffers fit below a ceiling?
 *
 * Works on one part: buffers connected by overlapping lifetimes, times numbered so that every step between
 * two neighbouring numbers ("section") has one fixed set of live buffers, sizes in units of the alignment.
 */
#ifndef CKPT_PACK_SEARCH_H
#define CKPT_PACK_SEARCH_H

#include "base/pool.h"

#include <stdint.h>

typedef struct ckpt_pack_part {
    int count, section_count;
    int *id;            /* buffer of the problem */
    int *lower, *upper; /* sections [lower, upper) */
    uint64_t *size;     /* > 0 */
    uint64_t *total;    /* by section: units alive */
    uint64_t live_peak; /* the largest total */
} ckpt_pack_part;

typedef enum ckpt_pack_answer { CKPT_PACK_FITS, CKPT_PACK_DOES_NOT_FIT, CKPT_PACK_UNKNOWN } ckpt_pack_answer;

/* Branch and bound in the manner of Moffitt, "MiniMalloc: A Lightweight Memory Allocator for
 * Hardware-Accelerated Machine Learning" (ASPLOS 2023), section 4. Writes offset[part->count] (units) when
 * the answer is FITS. Takes at most *work steps and subtracts what it took; UNKNOWN when they or the memory
 * did not suffice. */
ckpt_pack_answer ckpt_pack_search(const ckpt_pack_part *part, uint64_t ceiling, uint64_t *work,
                                  uint64_t *offset);

#endif
