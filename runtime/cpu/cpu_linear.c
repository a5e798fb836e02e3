/* Matrix products and the gradients of a linear node:
 *   LINEAR     y[rows][out] = epilogue(alpha x[rows][in] . w + beta b)
 *   LINEAR_DX  dx[rows][in] = alpha dz[rows][out] . w'
 *   LINEAR_DW  dw = alpha dz' x, laid out as w, + sum
 * The epilogue is a pass of our own after the product: as fast as oneDNN's post-operations for a bias and
 * ReLU, which are such a pass too, and the same bits from each of its versions and implementations. */
#include <string.h>

#include "cpu/cpu_dnnl.h"
#include "cpu/cpu_kernels.h"

static ckpt_status make_product(const ckpt_bind *bind, const ckpt_gemm *gemm, ckpt_dnnl_product **product, ckpt_error *err) {
    const ckpt_cpu_bind *own = (const ckpt_cpu_bind *)bind;
    CKPT_TRY(ckpt_dnnl_make(own->dnnl, gemm, ckpt_team_threads(own->team), product, err));
    return ckpt_dnnl_parts(*product) > 1 ? ckpt_team_start(own->team, err) : CKPT_OK;
}

static void product_part(const void *product, int part) { ckpt_dnnl_run_part(product, part); }
static void later_part(const void *product, int part) { ckpt_dnnl_run_part(product, part + 1); }

static void run_product(ckpt_dnnl_product *product) {
    const int parts = ckpt_dnnl_parts(product);
    if (ckpt_dnnl_lead(product)) ckpt_cpu_parts(parts - 1, later_part, product);
    else ckpt_cpu_parts(parts, product_part, product);
}

typedef struct linear_kernel {
    ckpt_dnnl_product *product;
    ckpt_cpu_epilogue epilogue;
    float *y;
    const float *bias;
    float beta;
    int64_t rows, cols;
} linear_kernel;

static void linear_run(const void *self, const ckpt_scalars *scalars) {
    const linear_kernel *k = self;
    run_product(k->product);
    ckpt_cpu_apply_epilogue(&k->epilogue, k->y, k->bias, k->beta, k->rows, k->cols, scalars);
}

ckpt_status ckpt_cpu_linear(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_linear_attr *a = &bind->node->attr.linear;
    CKPT_TRY(ckpt_cpu_require(bind, 2, 1, err));
    linear_kernel *k = ckpt_cpu_launch(bind, sizeof *k, linear_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->y = bind->out[0];
    k->bias = bind->node->in_count > 2 ? bind->in[2] : NULL;
    k->beta = a->beta;
    k->rows = a->rows;
    k->cols = a->out_features;
    k->epilogue = ckpt_cpu_epilogue_of(bind, &a->epilogue, a->rows * a->out_features);
    const ckpt_gemm gemm = {.m = a->rows, .n = a->out_features, .k = a->in_features, .trans_b = a->trans_w,
                            .alpha = a->alpha, .a = bind->in[0], .b = bind->in[1], .c = bind->out[0]};
    return make_product(bind, &gemm, &k->product, err);
}

typedef struct product_kernel {
    ckpt_dnnl_product *product;
    void *preload; /* where a sum is copied to before the product is added, or NULL */
    const void *sum;
    size_t bytes;
} product_kernel;

static void product_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const product_kernel *k = self;
    if (k->preload) memcpy(k->preload, k->sum, k->bytes);
    run_product(k->product);
}

static ckpt_status bind_product(const ckpt_bind *bind, const ckpt_gemm *gemm, ckpt_launch *launch,
                                ckpt_error *err) {
    product_kernel *k = ckpt_cpu_launch(bind, sizeof *k, product_run, launch, err);
    if (!k) return CKPT_NOMEM;
    if (gemm->accumulate && bind->in[2] != bind->out[0]) {
        k->preload = bind->out[0];
        k->sum = bind->in[2];
        k->bytes = sizeof(float) * (size_t)ckpt_cpu_out_count(bind, 0);
    }
    return make_product(bind, gemm, &k->product, err);
}

ckpt_status ckpt_cpu_linear_dx(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_linear_attr *a = &bind->node->attr.linear;
    CKPT_TRY(ckpt_cpu_require(bind, 2, 1, err));
    const ckpt_gemm gemm = {.m = a->rows, .n = a->in_features, .k = a->out_features, .trans_b = !a->trans_w,
                            .alpha = a->alpha, .a = bind->in[0], .b = bind->in[1], .c = bind->out[0]};
    return bind_product(bind, &gemm, launch, err);
}

ckpt_status ckpt_cpu_linear_dw(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_linear_attr *a = &bind->node->attr.linear;
    CKPT_TRY(ckpt_cpu_require(bind, bind->node->in_count > 2 ? 3 : 2, 1, err));
    ckpt_gemm gemm = {.k = a->rows, .trans_a = true, .alpha = a->alpha, .c = bind->out[0],
                      .accumulate = bind->node->in_count > 2};
    gemm.m = a->trans_w ? a->out_features : a->in_features;
    gemm.n = a->trans_w ? a->in_features : a->out_features;
    gemm.a = bind->in[a->trans_w ? 0 : 1];
    gemm.b = bind->in[a->trans_w ? 1 : 0];
    return bind_product(bind, &gemm, launch, err);
}

ckpt_status ckpt_cpu_matmul(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_matmul_attr *a = &bind->node->attr.matmul;
    CKPT_TRY(ckpt_cpu_require(bind, 2, 1, err));
    ckpt_gemm gemm = {.m = a->m, .n = a->n, .k = a->k, .trans_a = a->trans_a, .trans_b = a->trans_b,
                      .alpha = a->alpha, .batch_rank = a->batch_rank,
                      .a = bind->in[0], .b = bind->in[1], .c = bind->out[0]};
    /* Against one b, a batch of contiguous a is one tall matrix. */
    int64_t run = 1;
    bool tall = !a->trans_a;
    for (int i = a->batch_rank - 1; i >= 0; i--) {
        gemm.batch_dim[i] = a->batch_dim[i];
        gemm.stride_a[i] = a->stride_a[i];
        gemm.stride_b[i] = a->stride_b[i];
        tall &= (a->stride_b[i] == 0 || a->batch_dim[i] == 1) && (a->stride_a[i] == run || a->batch_dim[i] == 1);
        run *= a->batch_dim[i];
    }
    if (tall) {
        gemm.m *= run;
        gemm.batch_rank = 0;
    }
    return bind_product(bind, &gemm, launch, err);
}
