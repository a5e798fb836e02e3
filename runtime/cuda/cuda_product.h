/* Matrix products through cublasLt, row-major.
 *
 *     ckpt_cuda_lt_open(&options, &lt, &err);
 *     ckpt_cuda_gemm gemm = {.m = 512, .n = 1024, .k = 1024, .alpha = 1, .a = x, .b = w, .d = y};
 *     ckpt_cuda_room room = {.workspace = ..., .scratch = ...};
 *     ckpt_cuda_product_make(lt, &gemm, &room, &product, &err);
 *     status = ckpt_cuda_product_run(product, stream);   // as often as wanted
 *     ckpt_cuda_lt_close(lt);                            // and its products
 *
 * cublasLt counts by columns: a row-major matrix is its transpose there, so d' = b' a' is asked for. fp32 factors are
 * taken as they are, or with `tf32` rounded to 10 bits of mantissa; bf16 ones are too; sums are always fp32.
 *
 * The algorithm is chosen once for a shape (cuda_algorithms.h) and then used for every product of it, so a recomputation
 * repeats the bits: the fastest, measured on the plan's own memory before training, of what cublasLt proposes, with what
 * follows the product inside it or as a pass of its own. Algorithms that split k are left out: their sums depend on how;
 * they are taken where cublasLt offers no other, and a plain kernel of our own (cuda_plain.cu) where it offers none that runs.
 * Two that differ sum in other orders, so what was chosen is kept on disk for later runs; without a place there, or with
 * `first_choice`, two runs may only agree where cublasLt's first choice does: take `first_choice` then.
 */
#ifndef CKPT_CUDA_PRODUCT_H
#define CKPT_CUDA_PRODUCT_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "graph/graph.h"

/* What can be done to d inside the product. */
typedef enum ckpt_cuda_fusion { CKPT_CUDA_FUSE_NONE, CKPT_CUDA_FUSE_BIAS, CKPT_CUDA_FUSE_RELU, CKPT_CUDA_FUSE_RELU_BIAS } ckpt_cuda_fusion;

/* A pass over d that follows the product: always with CKPT_CUDA_FUSE_NONE, else where it is faster than the fused form,
 * which it must equal but for rounding. `self` must outlive the product. */
typedef struct ckpt_cuda_tail {
    void (*run)(const void *self, void *d); /* NULL: nothing follows */
    const void *self;
} ckpt_cuda_tail;

/* d[i] = fuse(alpha * op(a[i]) . op(b[i]) (+ c[i]) (+ bias[col])) for i in a batch; op(a) is m x k, op(b) k x n, a
 * transposed operand is stored the other way round, all rows without gaps. c and d may be the same. Strides count
 * matrices, 0 where broadcast; c's and d's are those of a full batch. in: of a and b, out: of c, d and bias; F32 or BF16.
 * With a fusion there must be a tail. */
typedef struct ckpt_cuda_gemm {
    int64_t m, n, k;
    bool trans_a, trans_b;
    float alpha;
    int batch_rank;
    int64_t batch_dim[CKPT_MAX_RANK], stride_a[CKPT_MAX_RANK], stride_b[CKPT_MAX_RANK];
    ckpt_dtype in, out;
    const void *a, *b, *c, *bias;
    void *d;
    ckpt_cuda_fusion fusion;
    ckpt_cuda_tail tail;
} ckpt_cuda_gemm;

typedef struct ckpt_cuda_lt ckpt_cuda_lt;
typedef struct ckpt_cuda_product ckpt_cuda_product;

typedef struct ckpt_cuda_lt_options {
    int device;          /* as cudaSetDevice has it */
    cudaStream_t stream; /* for measuring */
    bool tf32, first_choice;
} ckpt_cuda_lt_options;

/* The workspace is every product's; scratch, NULL or memory of the device, may be written while a product is made:
 * without enough of it nothing is measured. */
typedef struct ckpt_cuda_room {
    void *workspace, *scratch;
    uint64_t workspace_bytes, scratch_bytes;
} ckpt_cuda_room;

ckpt_status ckpt_cuda_lt_open(const ckpt_cuda_lt_options *options, ckpt_cuda_lt **lt, ckpt_error *err);
void ckpt_cuda_lt_close(ckpt_cuda_lt *lt);

/* The product belongs to `lt`. CKPT_MODEL: cublasLt refuses to describe it. */
ckpt_status ckpt_cuda_product_make(ckpt_cuda_lt *lt, const ckpt_cuda_gemm *gemm, const ckpt_cuda_room *room,
                                   ckpt_cuda_product **product, ckpt_error *err);

/* Starts it on the stream; 0, or what cublasLt or the runtime answered. */
int ckpt_cuda_product_run(const ckpt_cuda_product *product, cudaStream_t stream);

/* Puts what was chosen since the last call on disk. */
void ckpt_cuda_lt_settle(ckpt_cuda_lt *lt);

#endif
