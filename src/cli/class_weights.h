/* --class-weights: what a target counts, by its class. */
#ifndef CKPT_CLASS_WEIGHTS_H
#define CKPT_CLASS_WEIGHTS_H

#include "data/dataset.h"

/* The numbers of a .npy or text file, separated by commas, semicolons, blanks or lines: *count of them, in `pool`. CKPT_USAGE:
 * unreadable, or a number is below 0 or not finite. */
ckpt_status ckpt_class_weights_read(const char *path, ckpt_pool *pool, const float **weights, int64_t *count, ckpt_error *err);

/* samples / (classes * samples of the class), as scikit-learn's compute_class_weight: of class indices, of which `ignore` and
 * negative ones do not count. A class without samples has 0. */
ckpt_status ckpt_class_weights_balance(const ckpt_array *targets, int64_t classes, int64_t ignore, ckpt_pool *pool,
                                       const float **weights, ckpt_error *err);

#endif
