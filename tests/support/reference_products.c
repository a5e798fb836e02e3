/* Linear layers and matrix products. */
#include "reference_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"

void ckpt_reference_run_linear(const ckpt_bind *b, const ckpt_scalars *s) {
    const ckpt_linear_attr *a = &b->node->attr.linear;
    const float *x = b->in[0], *w = b->in[1], *bias = b->node->in_count > 2 ? b->in[2] : NULL;
    float *y = b->out[0];
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t o = 0; o < a->out_features; o++) {
            double sum = 0;
            for (int64_t i = 0; i < a->in_features; i++)
                sum += (double)x[r * a->in_features + i] *
                       (double)(a->trans_w ? w[o * a->in_features + i] : w[i * a->out_features + o]);
            sum = (double)a->alpha * sum + (bias ? (double)a->beta * (double)bias[o] : 0);
            const int64_t at = r * a->out_features + o;
            y[at] = (float)ckpt_reference_finish(b, &a->epilogue, s, at, a->rows * a->out_features, sum);
        }
}

void ckpt_reference_run_linear_dx(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_linear_attr *a = &b->node->attr.linear;
    const float *dz = b->in[0], *w = b->in[1];
    float *dx = b->out[0];
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t i = 0; i < a->in_features; i++) {
            double sum = 0;
            for (int64_t o = 0; o < a->out_features; o++)
                sum += (double)dz[r * a->out_features + o] *
                       (double)(a->trans_w ? w[o * a->in_features + i] : w[i * a->out_features + o]);
            dx[r * a->in_features + i] = (float)((double)a->alpha * sum);
        }
}

void ckpt_reference_run_linear_dw(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_linear_attr *a = &b->node->attr.linear;
    const float *dz = b->in[0], *x = b->in[1], *before = b->node->in_count > 2 ? b->in[2] : NULL;
    float *dw = b->out[0];
    for (int64_t o = 0; o < a->out_features; o++)
        for (int64_t i = 0; i < a->in_features; i++) {
            double sum = 0;
            for (int64_t r = 0; r < a->rows; r++)
                sum += (double)dz[r * a->out_features + o] * (double)x[r * a->in_features + i];
            const int64_t at = a->trans_w ? o * a->in_features + i : i * a->out_features + o;
            dw[at] = (float)((double)a->alpha * sum + (before ? (double)before[at] : 0));
        }
}

void ckpt_reference_run_matmul(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_matmul_attr *a = &b->node->attr.matmul;
    const float *left = b->in[0], *right = b->in[1];
    float *c = b->out[0];
    int64_t batches = 1;
    for (int i = 0; i < a->batch_rank; i++) batches *= a->batch_dim[i];
    for (int64_t n = 0; n < batches; n++) {
        int64_t rest = n, at_a = 0, at_b = 0;
        for (int i = a->batch_rank - 1; i >= 0; i--) {
            at_a += rest % a->batch_dim[i] * a->stride_a[i];
            at_b += rest % a->batch_dim[i] * a->stride_b[i];
            rest /= a->batch_dim[i];
        }
        const float *pa = left + at_a * a->m * a->k, *pb = right + at_b * a->k * a->n;
        for (int64_t i = 0; i < a->m; i++)
            for (int64_t j = 0; j < a->n; j++) {
                double sum = 0;
                for (int64_t k = 0; k < a->k; k++)
                    sum += (double)(a->trans_a ? pa[k * a->m + i] : pa[i * a->k + k]) *
                           (double)(a->trans_b ? pb[j * a->k + k] : pb[k * a->n + j]);
                c[(n * a->m + i) * a->n + j] = (float)((double)a->alpha * sum);
            }
    }
}
