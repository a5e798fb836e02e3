/* What the values of a tensor show: masks, tables that were computed from integers, numbers as code writes them. */
#ifndef CKPT_WEIGHT_VALUES_H
#define CKPT_WEIGHT_VALUES_H

#include <stdbool.h>
#include <stdint.h>

typedef struct ckpt_weight_values {
    int rank;
    const int64_t *dim;
    int64_t count; /* the product of dim */
    const float *value;
} ckpt_weight_values;

bool ckpt_weight_is_all(const ckpt_weight_values *w, float value);

bool ckpt_weight_is_whole(const ckpt_weight_values *w);

/* Zeros and ones, both. */
bool ckpt_weight_is_mask(const ckpt_weight_values *w);

/* Zeros, and values of -10,000 and less or -inf, of which there is at least one. */
bool ckpt_weight_is_added_mask(const ckpt_weight_values *w);

/* Whole numbers that count up along one axis, three or more of them, and are equal along the others. */
bool ckpt_weight_is_positions(const ckpt_weight_values *w);

/* sin(p f) or cos(p f) of the positions p = 0, 1, ... along one axis, four or more of them, with a frequency for each line:
 * sinusoidal position encodings, the tables of rotary embeddings. */
bool ckpt_weight_is_waves(const ckpt_weight_values *w);

/* 1, r, r r, ... with r < 1, three or more: the frequencies of such tables. */
bool ckpt_weight_is_frequencies(const ckpt_weight_values *w);

/* A number as code writes it: whole, from 2 up, or its half, quarter or eighth, a square root of a whole number or the
 * reciprocal of one, a constant of an element function; also negative. Not 0, 1 and -1, which fresh parameters have. */
bool ckpt_weight_is_code_number(float value);

#endif
