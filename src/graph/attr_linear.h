/* Attributes of matrix products: LINEAR, MATMUL. */
#ifndef CKPT_ATTR_LINEAR_H
#define CKPT_ATTR_LINEAR_H

#include "graph/attr_pointwise.h"

/* y[rows][out] = epilogue(alpha * x[rows][in] . w + beta * b[out]); w is [out][in] if trans_w, else [in][out].
 * The same for its gradient nodes. */
typedef struct ckpt_linear_attr {
    int64_t rows, in_features, out_features;
    bool trans_w;
    float alpha, beta;
    ckpt_epilogue epilogue;
} ckpt_linear_attr;

/* c[i] = alpha * op(a[i]) . op(b[i]) over a batch of matrices; stride_* count matrices, 0 where broadcast. */
typedef struct ckpt_matmul_attr {
    int64_t m, n, k;
    bool trans_a, trans_b;
    float alpha;
    int batch_rank;
    int64_t batch_dim[CKPT_MAX_RANK], stride_a[CKPT_MAX_RANK], stride_b[CKPT_MAX_RANK];
} ckpt_matmul_attr;

#endif
