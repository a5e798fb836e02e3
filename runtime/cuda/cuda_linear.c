/* Matrix products and the gradients of a linear node:
 *   LINEAR     y[rows][out] = epilogue(alpha x[rows][in] . w + beta b)
 *   LINEAR_DX  dx[rows][in] = alpha dz[rows][out] . w'
 *   LINEAR_DW  dw = alpha dz' x, laid out as w, + sum
 * A bias alone is added inside the product: one rounding, as after it. An act or dropout is a pass of our own over
 * the product, with the bias: cublasLt's ReLU turns NaN into 0, which would hide a diverged layer, and it knows no
 * dropout. */
#include "cuda/cuda_kernels.h"
#include "cuda/cuda_product.h"

typedef struct linear_node {
    ckpt_cuda_context *context;
    ckpt_cuda_product *product;
    ckpt_cuda_epilogue epilogue;
    float *y;
    const float *bias; /* NULL where the product adds it */
    float beta;
    int64_t rows, cols;
} linear_node;

static void run_product(ckpt_cuda_context *context, const ckpt_cuda_product *product) {
    const int status = ckpt_cuda_product_run(product, context->stream);
    if (status && !context->product_status) context->product_status = status;
}

static void linear_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const linear_node *k = self;
    run_product(k->context, k->product);
    ckpt_cuda_apply_epilogue(k->context, &k->epilogue, k->y, k->bias, k->beta, k->rows, k->cols);
}

ckpt_status ckpt_cuda_linear(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_linear_attr *a = &bind->node->attr.linear;
    CKPT_TRY(ckpt_cuda_require(bind, 2, 1, err));
    linear_node *k = ckpt_cuda_launch(bind, sizeof *k, linear_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->y = bind->out[0];
    k->bias = ckpt_cuda_in(bind, 2);
    k->beta = a->beta;
    k->rows = a->rows;
    k->cols = a->out_features;
    k->epilogue = ckpt_cuda_epilogue_of(bind, &a->epilogue, a->rows * a->out_features);
    ckpt_cuda_gemm gemm = {.m = a->rows, .n = a->out_features, .k = a->in_features, .trans_b = a->trans_w,
                           .alpha = a->alpha, .a = bind->in[0], .b = bind->in[1], .d = bind->out[0]};
    const bool alone = a->epilogue.act == CKPT_ACT_IDENTITY && !(a->epilogue.drop > 0) && a->beta == 1 && a->in_features > 0;
    if (alone) {
        gemm.bias = k->bias;
        k->bias = NULL;
    }
    return ckpt_cuda_product_make(k->context->lt, &gemm, bind->workspace, bind->workspace_bytes, &k->product, err);
}

typedef struct product_node {
    ckpt_cuda_context *context;
    ckpt_cuda_product *product;
} product_node;

static void product_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const product_node *k = self;
    run_product(k->context, k->product);
}

static ckpt_status bind_product(const ckpt_bind *bind, const ckpt_cuda_gemm *gemm, ckpt_launch *launch, ckpt_error *err) {
    product_node *k = ckpt_cuda_launch(bind, sizeof *k, product_run, launch, err);
    if (!k) return CKPT_NOMEM;
    return ckpt_cuda_product_make(k->context->lt, gemm, bind->workspace, bind->workspace_bytes, &k->product, err);
}

ckpt_status ckpt_cuda_linear_dx(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_linear_attr *a = &bind->node->attr.linear;
    CKPT_TRY(ckpt_cuda_require(bind, 2, 1, err));
    const ckpt_cuda_gemm gemm = {.m = a->rows, .n = a->in_features, .k = a->out_features, .trans_b = !a->trans_w,
                                 .alpha = a->alpha, .a = bind->in[0], .b = bind->in[1], .d = bind->out[0]};
    return bind_product(bind, &gemm, launch, err);
}

ckpt_status ckpt_cuda_linear_dw(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_linear_attr *a = &bind->node->attr.linear;
    CKPT_TRY(ckpt_cuda_require(bind, bind->node->in_count > 2 ? 3 : 2, 1, err));
    ckpt_cuda_gemm gemm = {.k = a->rows, .trans_a = true, .alpha = a->alpha, .c = ckpt_cuda_in(bind, 2), .d = bind->out[0]};
    gemm.m = a->trans_w ? a->out_features : a->in_features;
    gemm.n = a->trans_w ? a->in_features : a->out_features;
    gemm.a = bind->in[a->trans_w ? 0 : 1];
    gemm.b = bind->in[a->trans_w ? 1 : 0];
    return bind_product(bind, &gemm, launch, err);
}

ckpt_status ckpt_cuda_matmul(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_matmul_attr *a = &bind->node->attr.matmul;
    CKPT_TRY(ckpt_cuda_require(bind, 2, 1, err));
    ckpt_cuda_gemm gemm = {.m = a->m, .n = a->n, .k = a->k, .trans_a = a->trans_a, .trans_b = a->trans_b,
                           .alpha = a->alpha, .batch_rank = a->batch_rank,
                           .a = bind->in[0], .b = bind->in[1], .d = bind->out[0]};
    for (int i = 0; i < a->batch_rank; i++) {
        gemm.batch_dim[i] = a->batch_dim[i];
        gemm.stride_a[i] = a->stride_a[i];
        gemm.stride_b[i] = a->stride_b[i];
    }
    return bind_product(bind, &gemm, launch, err);
}
