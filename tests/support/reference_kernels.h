/* The reference backend's kernels, one a formula; reference_backend.c has the table. */
#ifndef CKPT_REFERENCE_KERNELS_H
#define CKPT_REFERENCE_KERNELS_H

#include "runtime/backend.h"

#define CKPT_REFERENCE_KERNEL_LIST(X)                                                                        \
    X(linear) X(matmul) X(linear_dx) X(linear_dw) X(binary) X(pair) X(pair_grad) X(act) X(act_grad)          \
    X(keep_mask) X(layernorm) X(layernorm_dx) X(layernorm_dp) X(groupnorm) X(groupnorm_dx) X(groupnorm_dp)   \
    X(batch_stats) X(stored_stats) X(stats_update) X(batchnorm) X(batchnorm_dx) X(batchnorm_dp) X(softmax)   \
    X(softmax_grad) X(transpose) X(reduce_sum) X(expand) X(cast) X(slice) X(place) X(concat) X(loss)         \
    X(class_loss) X(class_loss_grad) X(zero) X(update)

#define X(name) void ckpt_reference_run_##name(const ckpt_bind *b, const ckpt_scalars *s);
CKPT_REFERENCE_KERNEL_LIST(X)
#undef X

/* dropout(act(z)) of element i of `count`. */
double ckpt_reference_finish(const ckpt_bind *b, const ckpt_epilogue *e, const ckpt_scalars *s, int64_t i, int64_t count,
                             double z);

static inline int64_t count_of(const ckpt_bind *b, int tensor) { return b->graph->tensor[tensor].count; }
static inline int64_t out_count(const ckpt_bind *b) { return count_of(b, b->node->out[0]); }

#endif
