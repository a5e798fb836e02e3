/* Attributes of what slides a window over space: CONV, CONV_TRANSPOSE, MAXPOOL, AVGPOOL. */
#ifndef CKPT_ATTR_WINDOW_H
#define CKPT_ATTR_WINDOW_H

#include "graph/tensor.h"

enum { CKPT_MAX_SPATIAL = 3 };

/* Windows over up to three axes behind the batch and the channels, where the larger of two tensors (Conv's and the
 * pools' input, ConvTranspose's output) lies in `dense` and the smaller in `coarse`: output o of a Conv reads
 * dense[o * stride + tap * dilation - before]. */
typedef struct ckpt_window_attr {
    int axes;
    int64_t batch, in_channels, out_channels, groups;
    int64_t dense[CKPT_MAX_SPATIAL], coarse[CKPT_MAX_SPATIAL];
    int64_t kernel[CKPT_MAX_SPATIAL], stride[CKPT_MAX_SPATIAL], dilation[CKPT_MAX_SPATIAL], before[CKPT_MAX_SPATIAL];
    bool count_padding; /* AveragePool: what lies outside counts as a zero */
    uint64_t flops;
} ckpt_window_attr;

#endif
