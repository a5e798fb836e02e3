/* Matrix products through oneDNN, whose C interface changed between 2.x and 3.x: nothing else in the project
 * includes its headers.
 *
 *     ckpt_dnnl_open(&dnnl, &err);
 *     ckpt_gemm gemm = {.m = 512, .n = 1024, .k = 1024, .alpha = 1, .a = x, .b = w, .c = y};
 *     ckpt_dnnl_make(dnnl, &gemm, threads, &product, &err);
 *     for (int part = 0; part < ckpt_dnnl_parts(product); part++)
 *         ckpt_dnnl_run_part(product, part);   // in any order, in several threads at once
 *     ckpt_dnnl_close(dnnl);           // and its products
 */
#ifndef CKPT_CPU_DNNL_H
#define CKPT_CPU_DNNL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "graph/graph.h"

/* c[i] = alpha * op(a[i]) . op(b[i]) (+ c[i] if accumulate) for i in a batch; op(a) is m x k, op(b) k x n, a
 * transposed operand is stored the other way round, all rows without gaps. Strides count matrices, 0 where
 * broadcast; c's are those of a full batch. */
typedef struct ckpt_gemm {
    int64_t m, n, k;
    bool trans_a, trans_b, accumulate;
    float alpha;
    int batch_rank;
    int64_t batch_dim[CKPT_MAX_RANK], stride_a[CKPT_MAX_RANK], stride_b[CKPT_MAX_RANK];
    const float *a, *b;
    float *c;
} ckpt_gemm;

typedef struct ckpt_dnnl ckpt_dnnl;
typedef struct ckpt_dnnl_product ckpt_dnnl_product;

ckpt_status ckpt_dnnl_open(ckpt_dnnl **dnnl, ckpt_error *err);
void ckpt_dnnl_close(ckpt_dnnl *dnnl);

/* Products of one form share what oneDNN makes for them, so one of a `dnnl` runs at a time, its parts side by side. Divided into at most `threads` parts, by sizes alone, for each of which the fastest implementation is taken that needs no
 * scratchpad. The product belongs to `dnnl`. CKPT_NOMEM, after which oneDNN is not called again. */
ckpt_status ckpt_dnnl_make(ckpt_dnnl *dnnl, const ckpt_gemm *gemm, int threads, ckpt_dnnl_product **product, ckpt_error *err);
int ckpt_dnnl_parts(const ckpt_dnnl_product *product);
/* Before the first run: does part 0 and returns true. oneDNN then generates its code, under locks that would be held for ever if
 * memory ended, with other threads waiting for them. Later it does nothing and returns false. */
bool ckpt_dnnl_lead(ckpt_dnnl_product *product);
void ckpt_dnnl_run_part(const ckpt_dnnl_product *product, int part);

/* How the runs went since this was asked last: CKPT_NOMEM, after which no product can be made or run in this process any
 * more, or CKPT_FAILED. */
ckpt_status ckpt_dnnl_take_status(ckpt_dnnl *dnnl, ckpt_error *err);

/* "gemm:jit", "brg_matmul:avx2", or "sgemm" for the plain interface. */
const char *ckpt_dnnl_implementation(const ckpt_dnnl_product *product);
const char *ckpt_dnnl_version(char text[32]);

#endif
