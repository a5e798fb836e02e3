#include "cuda/cuda_product.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>

/* Everything that an algorithm may depend on. Alignments are those of the first matrices: buffers are aligned to
 * 256 bytes, so they follow from the shape and not from where a plan puts a tensor. */
typedef struct shape {
    int64_t m, n, k, batch, step_a, step_b;
    uint64_t workspace_bytes;
    uint32_t align_a, align_b, align_c, align_d;
    int32_t trans_a, trans_b, adds, biased;
} shape;

typedef struct choice {
    struct choice *next;
    shape key;
    cublasLtMatmulAlgo_t algo;
    size_t workspace_bytes;
} choice;

struct ckpt_cuda_lt {
    cublasLtHandle_t handle;
    choice *choices;
    ckpt_cuda_product *products; /* newest first */
    int searches;
};

struct ckpt_cuda_product {
    ckpt_cuda_product *next;
    ckpt_cuda_lt *lt;
    ckpt_cuda_gemm gemm; /* batch axes merged; the last is cublasLt's batch */
    void *workspace;
    size_t workspace_bytes;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t first, second, sum, result; /* cublasLt's A, B, C, D */
    cublasLtMatmulAlgo_t algo;
    bool zeroes, nothing; /* an empty sum, an empty result */
};

ckpt_status ckpt_cuda_lt_open(ckpt_cuda_lt **lt, ckpt_error *err) {
    ckpt_cuda_lt *l = calloc(1, sizeof *l);
    *lt = NULL;
    if (!l) return ckpt_fail(err, CKPT_NOMEM, "no memory for the CUDA device");
    const cublasStatus_t status = cublasLtCreate(&l->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        free(l);
        return ckpt_fail(err, CKPT_FAILED, "cublasLt cannot use the device (status %d)", (int)status);
    }
    *lt = l;
    return CKPT_OK;
}

static void product_free(ckpt_cuda_product *p) {
    if (p->first) cublasLtMatrixLayoutDestroy(p->first);
    if (p->second) cublasLtMatrixLayoutDestroy(p->second);
    if (p->sum) cublasLtMatrixLayoutDestroy(p->sum);
    if (p->result) cublasLtMatrixLayoutDestroy(p->result);
    if (p->desc) cublasLtMatmulDescDestroy(p->desc);
    free(p);
}

void ckpt_cuda_lt_close(ckpt_cuda_lt *lt) {
    if (!lt) return;
    for (ckpt_cuda_product *p = lt->products, *next; p; p = next) {
        next = p->next;
        product_free(p);
    }
    for (choice *c = lt->choices, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    cublasLtDestroy(lt->handle);
    free(lt);
}

int ckpt_cuda_lt_searches(const ckpt_cuda_lt *lt) { return lt->searches; }

/* Batch axes whose strides go on as one do become one; what is left outside the last is looped over. */
static void merge_batch(ckpt_cuda_gemm *g) {
    int rank = 0;
    for (int i = 0; i < g->batch_rank; i++) {
        if (g->batch_dim[i] == 1) continue;
        const int last = rank - 1;
        if (rank > 0 && g->stride_a[last] == g->stride_a[i] * g->batch_dim[i] &&
            g->stride_b[last] == g->stride_b[i] * g->batch_dim[i]) {
            g->batch_dim[last] *= g->batch_dim[i];
        } else {
            g->batch_dim[rank++] = g->batch_dim[i];
        }
        g->stride_a[rank - 1] = g->stride_a[i];
        g->stride_b[rank - 1] = g->stride_b[i];
    }
    g->batch_rank = rank;
    /* Against one b, a batch of contiguous a is one tall matrix. */
    if (rank == 1 && !g->trans_a && g->stride_a[0] == 1 && g->stride_b[0] == 0) {
        g->m *= g->batch_dim[0];
        g->batch_rank = 0;
    }
}

static uint32_t alignment_of(const void *address) {
    const uintptr_t bits = (uintptr_t)address;
    return bits == 0 || bits % 256 == 0 ? 256 : (uint32_t)(bits & (~bits + 1));
}

/* What all of a loop's matrices are aligned to: they lie `elements` apart. */
static uint32_t alignment_of_all(const void *address, int64_t elements, bool several) {
    const uint32_t first = alignment_of(address);
    const uint32_t step = several ? alignment_of((const void *)(uintptr_t)((uint64_t)elements * sizeof(float))) : 256;
    return first < step ? first : step;
}

static shape shape_of(const ckpt_cuda_gemm *g, uint64_t workspace_bytes) {
    shape s;
    const int last = g->batch_rank - 1;
    memset(&s, 0, sizeof s); /* padding too: shapes are compared as bytes */
    s.m = g->m, s.n = g->n, s.k = g->k;
    s.batch = last >= 0 ? g->batch_dim[last] : 1;
    s.step_a = last >= 0 ? g->stride_a[last] * g->m * g->k : 0;
    s.step_b = last >= 0 ? g->stride_b[last] * g->k * g->n : 0;
    s.trans_a = g->trans_a, s.trans_b = g->trans_b;
    s.adds = g->c != NULL, s.biased = g->bias != NULL;
    s.workspace_bytes = workspace_bytes;
    const bool several = last > 0;
    s.align_a = alignment_of_all(g->a, g->m * g->k, several);
    s.align_b = alignment_of_all(g->b, g->k * g->n, several);
    s.align_d = alignment_of_all(g->d, g->m * g->n, several);
    s.align_c = g->c ? alignment_of_all(g->c, g->m * g->n, several) : s.align_d;
    return s;
}

/* A row-major rows x cols matrix without gaps. */
static cublasStatus_t describe(cublasLtMatrixLayout_t *layout, int64_t rows, int64_t cols, int64_t batch, int64_t step) {
    const int32_t count = (int32_t)batch;
    cublasStatus_t status = cublasLtMatrixLayoutCreate(layout, CUDA_R_32F, (uint64_t)cols, (uint64_t)rows, cols);
    if (status == CUBLAS_STATUS_SUCCESS && batch > 1)
        status = cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
    if (status == CUBLAS_STATUS_SUCCESS && batch > 1)
        status = cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step);
    return status;
}

static cublasStatus_t set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t size) {
    return cublasLtMatmulDescSetAttribute(desc, attribute, value, size);
}

/* d' = b' a': cublasLt's first operand is b, its second a. */
static cublasStatus_t make_descriptors(ckpt_cuda_product *p, const shape *s) {
    const ckpt_cuda_gemm *g = &p->gemm;
    const cublasOperation_t op_first = g->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, op_second = g->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasStatus_t status = cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (status == CUBLAS_STATUS_SUCCESS) status = set(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &op_first, sizeof op_first);
    if (status == CUBLAS_STATUS_SUCCESS) status = set(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &op_second, sizeof op_second);
    if (status == CUBLAS_STATUS_SUCCESS && g->bias) {
        const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
        status = set(p->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
        if (status == CUBLAS_STATUS_SUCCESS)
            status = set(p->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias);
    }
    if (status == CUBLAS_STATUS_SUCCESS)
        status = describe(&p->first, g->trans_b ? g->n : g->k, g->trans_b ? g->k : g->n, s->batch, s->step_b);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = describe(&p->second, g->trans_a ? g->k : g->m, g->trans_a ? g->m : g->k, s->batch, s->step_a);
    if (status == CUBLAS_STATUS_SUCCESS) status = describe(&p->sum, g->m, g->n, s->batch, g->m * g->n);
    if (status == CUBLAS_STATUS_SUCCESS) status = describe(&p->result, g->m, g->n, s->batch, g->m * g->n);
    return status;
}

static cublasStatus_t prefer(cublasLtMatmulPreference_t preference, const shape *s) {
    const uint32_t whole = CUBLASLT_REDUCTION_SCHEME_NONE; /* k is not split: partial sums would depend on how */
    const struct { cublasLtMatmulPreferenceAttributes_t attribute; const void *value; size_t size; } wishes[] = {
        {CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &s->workspace_bytes, sizeof s->workspace_bytes},
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &whole, sizeof whole},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &s->align_b, sizeof s->align_b},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &s->align_a, sizeof s->align_a},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &s->align_c, sizeof s->align_c},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &s->align_d, sizeof s->align_d},
    };
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes && status == CUBLAS_STATUS_SUCCESS; i++)
        status = cublasLtMatmulPreferenceSetAttribute(preference, wishes[i].attribute, wishes[i].value, wishes[i].size);
    return status;
}

/* cublasLt's first choice for the shape, remembered. */
static cublasStatus_t choose(ckpt_cuda_product *p, const shape *s, choice **chosen) {
    ckpt_cuda_lt *lt = p->lt;
    for (*chosen = lt->choices; *chosen; *chosen = (*chosen)->next)
        if (memcmp(&(*chosen)->key, s, sizeof *s) == 0) return CUBLAS_STATUS_SUCCESS;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(&preference);
    if (status == CUBLAS_STATUS_SUCCESS) status = prefer(preference, s);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulAlgoGetHeuristic(lt->handle, p->desc, p->first, p->second, p->sum, p->result, preference, 1,
                                                &found, &count);
    if (preference) cublasLtMatmulPreferenceDestroy(preference);
    if (status == CUBLAS_STATUS_SUCCESS) status = count > 0 ? found.state : CUBLAS_STATUS_NOT_SUPPORTED;
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    lt->searches++;
    *chosen = calloc(1, sizeof **chosen);
    if (!*chosen) return CUBLAS_STATUS_ALLOC_FAILED;
    (*chosen)->key = *s;
    (*chosen)->algo = found.algo;
    (*chosen)->workspace_bytes = found.workspaceSize;
    (*chosen)->next = lt->choices;
    lt->choices = *chosen;
    return status;
}

ckpt_status ckpt_cuda_product_make(ckpt_cuda_lt *lt, const ckpt_cuda_gemm *gemm, void *workspace, uint64_t workspace_bytes,
                                   ckpt_cuda_product **product, ckpt_error *err) {
    ckpt_cuda_product *p = calloc(1, sizeof *p);
    if (!p) return ckpt_fail(err, CKPT_NOMEM, "no memory for a matrix product");
    p->next = lt->products;
    p->lt = lt;
    p->gemm = *gemm;
    lt->products = *product = p;
    int64_t batches = 1;
    for (int i = 0; i < gemm->batch_rank; i++) batches *= gemm->batch_dim[i];
    p->nothing = gemm->m == 0 || gemm->n == 0 || batches == 0;
    p->zeroes = gemm->k == 0;
    if (p->nothing || p->zeroes) return CKPT_OK;
    merge_batch(&p->gemm);
    const shape s = shape_of(&p->gemm, workspace ? workspace_bytes : 0);
    choice *chosen = NULL;
    cublasStatus_t status = make_descriptors(p, &s);
    if (status == CUBLAS_STATUS_SUCCESS) status = choose(p, &s, &chosen);
    if (status != CUBLAS_STATUS_SUCCESS)
        return ckpt_fail(err, status == CUBLAS_STATUS_ALLOC_FAILED ? CKPT_NOMEM : CKPT_MODEL,
                         "cublasLt has no matrix product of %" PRId64 " x %" PRId64 " x %" PRId64 " (status %d)", s.m, s.k,
                         s.n, (int)status);
    p->algo = chosen->algo;
    p->workspace = workspace;
    p->workspace_bytes = chosen->workspace_bytes;
    return CKPT_OK;
}

/* An empty sum leaves c, or 0, and the bias. */
static int run_empty(const ckpt_cuda_product *p, cudaStream_t stream) {
    const ckpt_cuda_gemm *g = &p->gemm;
    size_t count = (size_t)(g->m * g->n);
    for (int i = 0; i < g->batch_rank; i++) count *= (size_t)g->batch_dim[i];
    if (g->c == g->d && g->c) return 0;
    return g->c ? (int)cudaMemcpyAsync(g->d, g->c, count * sizeof(float), cudaMemcpyDeviceToDevice, stream)
                : (int)cudaMemsetAsync(g->d, 0, count * sizeof(float), stream);
}

int ckpt_cuda_product_run(const ckpt_cuda_product *p, cudaStream_t stream) {
    const ckpt_cuda_gemm *g = &p->gemm;
    const int outer = g->batch_rank > 0 ? g->batch_rank - 1 : 0;
    const float beta = g->c ? 1.0f : 0.0f;
    int64_t loops = 1, inner = g->batch_rank > 0 ? g->batch_dim[outer] : 1;
    if (p->nothing) return 0;
    if (p->zeroes) return run_empty(p, stream);
    for (int i = 0; i < outer; i++) loops *= g->batch_dim[i];
    for (int64_t l = 0; l < loops; l++) {
        int64_t rest = l, a = 0, b = 0;
        for (int i = outer - 1; i >= 0; i--) {
            a += rest % g->batch_dim[i] * g->stride_a[i];
            b += rest % g->batch_dim[i] * g->stride_b[i];
            rest /= g->batch_dim[i];
        }
        float *d = g->d + l * inner * g->m * g->n;
        const float *c = g->c ? g->c + l * inner * g->m * g->n : d;
        const cublasStatus_t status =
            cublasLtMatmul(p->lt->handle, p->desc, &g->alpha, g->b + b * g->k * g->n, p->first, g->a + a * g->m * g->k,
                           p->second, &beta, c, p->sum, d, p->result, &p->algo, p->workspace, p->workspace_bytes, stream);
        if (status != CUBLAS_STATUS_SUCCESS) return (int)status;
    }
    return 0;
}
