/* Matrix products that cublasLt has no algorithm for, by a kernel that is right and not fast.
 *
 *     ckpt_cuda_plain plain = {.m = 3, .n = 5, .k = 7, .batch = 1, .alpha = 1, .in = CKPT_F32, .out = CKPT_F32, ...};
 *     ckpt_cuda_plain_start(&plain, stream);
 */
#ifndef CKPT_CUDA_PLAIN_H
#define CKPT_CUDA_PLAIN_H

#include "cuda/cuda_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* d[i] = alpha * op(a[i]) . op(b[i]) (+ c[i]) for i in the batch; op(a) is m x k, op(b) k x n, d and c m x n, all row-major and
 * without gaps, c and d of a full batch. Steps count elements. c may be NULL, or d. in and out: F32 or BF16; sums are fp32,
 * in the order of k, also where TF32 is allowed. */
typedef struct ckpt_cuda_plain {
    int64_t m, n, k, batch, step_a, step_b;
    bool trans_a, trans_b;
    float alpha;
    ckpt_dtype in, out;
    const void *a, *b, *c;
    void *d;
} ckpt_cuda_plain;

/* Errors stay with the runtime. Starts nothing where d is empty. */
void ckpt_cuda_plain_start(const ckpt_cuda_plain *plain, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
