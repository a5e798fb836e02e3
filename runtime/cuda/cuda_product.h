/* Matrix products through cublasLt, row-major.
 *
 *     ckpt_cuda_lt_open(&lt, &err);
 *     ckpt_cuda_gemm gemm = {.m = 512, .n = 1024, .k = 1024, .alpha = 1, .a = x, .b = w, .d = y};
 *     ckpt_cuda_product_make(lt, &gemm, workspace, workspace_bytes, &product, &err);
 *     status = ckpt_cuda_product_run(product, stream);   // as often as wanted
 *     ckpt_cuda_lt_close(lt);                            // and its products
 *
 * cublasLt counts by columns: a row-major matrix is its transpose there, so d' = b' a' is asked for. The
 * algorithm is cublasLt's first choice among those that sum k in one go (no split-K), found once per shape and
 * then used for every product of that shape: a recomputation repeats the bits. It is not timed against others:
 * timing is noise, and two processes that chose differently would train different weights.
 */
#ifndef CKPT_CUDA_PRODUCT_H
#define CKPT_CUDA_PRODUCT_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "graph/graph.h"

/* d[i] = alpha * op(a[i]) . op(b[i]) (+ c[i]) (+ bias[col]) for i in a batch; op(a) is m x k, op(b) k x n, a
 * transposed operand is stored the other way round, all rows without gaps. c and d may be the same. Strides count
 * matrices, 0 where broadcast; c's and d's are those of a full batch. */
typedef struct ckpt_cuda_gemm {
    int64_t m, n, k;
    bool trans_a, trans_b;
    float alpha;
    int batch_rank;
    int64_t batch_dim[CKPT_MAX_RANK], stride_a[CKPT_MAX_RANK], stride_b[CKPT_MAX_RANK];
    const float *a, *b, *c, *bias;
    float *d;
} ckpt_cuda_gemm;

typedef struct ckpt_cuda_lt ckpt_cuda_lt;
typedef struct ckpt_cuda_product ckpt_cuda_product;

ckpt_status ckpt_cuda_lt_open(ckpt_cuda_lt **lt, ckpt_error *err);
void ckpt_cuda_lt_close(ckpt_cuda_lt *lt);

/* The product belongs to `lt`. CKPT_MODEL: cublasLt has no algorithm for it. */
ckpt_status ckpt_cuda_product_make(ckpt_cuda_lt *lt, const ckpt_cuda_gemm *gemm, void *workspace, uint64_t workspace_bytes,
                                   ckpt_cuda_product **product, ckpt_error *err);

/* Starts it on the stream; 0, or what cublasLt or the runtime answered. */
int ckpt_cuda_product_run(const ckpt_cuda_product *product, cudaStream_t stream);

/* How often cublasLt was asked for an algorithm: one a shape. */
int ckpt_cuda_lt_searches(const ckpt_cuda_lt *lt);

#endif
