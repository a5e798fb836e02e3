/* Attributes of normalizations. */
#ifndef CKPT_ATTR_NORM_H
#define CKPT_ATTR_NORM_H

#include "graph/tensor.h"

/* LAYERNORM, RMSNORM */
typedef struct ckpt_norm_attr {
    int64_t rows, cols;
    float epsilon;
} ckpt_norm_attr;

/* BATCHNORM and its statistics, GROUPNORM: scale and bias are a channel's, statistics a group's. */
typedef struct ckpt_group_attr {
    int64_t batch, channels, groups, inner;
    float epsilon, momentum;
} ckpt_group_attr;

/* LRN */
typedef struct ckpt_lrn_attr {
    int64_t batch, channels, inner, size;
    float alpha, beta, bias;
} ckpt_lrn_attr;

#endif
