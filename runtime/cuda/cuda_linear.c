/* Matrix products and the gradients of a linear node:
 *   LINEAR     y[rows][out] = epilogue(alpha x[rows][in] . w + beta b)
 *   LINEAR_DX  dx[rows][in] = alpha dz[rows][out] . w'
 *   LINEAR_DW  dw = alpha dz' x, laid out as w, + sum
 *
 * Of cublasLt's epilogues BIAS, RELU and RELU_BIAS serve layers without dropout, against a pass of our own, whichever
 * measures faster. The others are not used:
 *   RELU_AUX, RELU_AUX_BIAS, DRELU, DRELU_BGRAD   keep a bit mask beside y; y is kept anyway, for the next weight gradient,
 *                             and y > 0 is the mask, with dropout too. They would save a pass over dz, not bytes
 *   GELU_AUX, DGELU           the tanh form, with z and y written at once; y is not kept here but made again where it is
 *                             read, without the product, and exporters write the erf form
 *   BGRADA, BGRADB            would save a reading of dz; a bias gradient is a node of its own, summed in the CPU's order
 *
 * A dropout draws from counters of its own (design section 6), so it is a pass over the product; an activation and the
 * bias before it are then part of that pass.
 *
 * RELU may turn NaN into 0, so a layer with a NaN weight can have a finite loss: who trains looks at the weights too. */
#include "cuda/cuda_kernels.h"
#include "cuda/cuda_product.h"

typedef struct linear_node {
    ckpt_cuda_context *context;
    ckpt_cuda_product *product;
    ckpt_cuda_epilogue epilogue;
    const void *bias;
    ckpt_dtype type; /* of y and the bias */
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
}

static void epilogue_run(const void *self, void *y) {
    const linear_node *k = self;
    ckpt_cuda_apply_epilogue(k->context, &k->epilogue, k->type, y, k->bias, k->beta, k->rows, k->cols);
}

static ckpt_cuda_room room_of(const ckpt_bind *bind) {
    return (ckpt_cuda_room){.workspace = bind->workspace, .workspace_bytes = bind->workspace_bytes, .scratch = bind->scratch,
                            .scratch_bytes = bind->scratch_bytes};
}

static ckpt_dtype in_type(const ckpt_bind *bind) { return bind->graph->tensor[bind->node->in[0]].dtype; }
static ckpt_dtype out_type(const ckpt_bind *bind) { return bind->graph->tensor[bind->node->out[0]].dtype; }

static ckpt_cuda_fusion fusion_of(const ckpt_linear_attr *a, bool biased) {
    const bool relu = a->epilogue.act == CKPT_ACT_RELU;
    if (a->epilogue.drop > 0 || (biased && a->beta != 1) || (!relu && a->epilogue.act != CKPT_ACT_IDENTITY)) return CKPT_CUDA_FUSE_NONE;
    return biased ? relu ? CKPT_CUDA_FUSE_RELU_BIAS : CKPT_CUDA_FUSE_BIAS : relu ? CKPT_CUDA_FUSE_RELU : CKPT_CUDA_FUSE_NONE;
}

ckpt_status ckpt_cuda_linear(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_linear_attr *a = &bind->node->attr.linear;
    CKPT_TRY(ckpt_cuda_require(bind, 2, 1, err));
    linear_node *k = ckpt_cuda_launch(bind, sizeof *k, linear_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->bias = ckpt_cuda_in(bind, 2);
    k->type = out_type(bind);
    k->beta = a->beta;
    k->rows = a->rows;
    k->cols = a->out_features;
    k->epilogue = ckpt_cuda_epilogue_of(bind, &a->epilogue, a->rows * a->out_features);
    ckpt_cuda_gemm gemm = {.m = a->rows, .n = a->out_features, .k = a->in_features, .trans_b = a->trans_w,
                           .alpha = a->alpha, .in = in_type(bind), .out = k->type, .a = bind->in[0], .b = bind->in[1],
                           .d = bind->out[0], .fusion = fusion_of(a, k->bias)};
    if (gemm.fusion != CKPT_CUDA_FUSE_NONE) gemm.bias = k->bias;
    if (k->bias || a->epilogue.act != CKPT_ACT_IDENTITY || a->epilogue.drop > 0)
        gemm.tail = (ckpt_cuda_tail){.run = epilogue_run, .self = k};
    const ckpt_cuda_room room = room_of(bind);
    return ckpt_cuda_product_make(k->context->lt, &gemm, &room, &k->product, err);
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

static ckpt_status bind_product(const ckpt_bind *bind, ckpt_cuda_gemm *gemm, ckpt_launch *launch, ckpt_error *err) {
    product_node *k = ckpt_cuda_launch(bind, sizeof *k, product_run, launch, err);
    if (!k) return CKPT_NOMEM;
    const ckpt_cuda_room room = room_of(bind);
    gemm->in = in_type(bind);
    gemm->out = out_type(bind);
    return ckpt_cuda_product_make(k->context->lt, gemm, &room, &k->product, err);
}

ckpt_status ckpt_cuda_linear_dx(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_linear_attr *a = &bind->node->attr.linear;
    CKPT_TRY(ckpt_cuda_require(bind, 2, 1, err));
    ckpt_cuda_gemm gemm = {.m = a->rows, .n = a->in_features, .k = a->out_features, .trans_b = !a->trans_w,
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
