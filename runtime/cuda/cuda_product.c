#include "cuda/cuda_product.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>

#include "cuda/cuda_algorithms.h"
#include "cuda/cuda_plain.h"

struct ckpt_cuda_lt {
    cublasLtHandle_t handle;
    ckpt_cuda_lt_options options;
    ckpt_cuda_algorithms *known;
    cudaEvent_t start, end;
    ckpt_cuda_product *products; /* newest first */
};

enum { FUSED, PLAIN, WAYS };

struct ckpt_cuda_product {
    ckpt_cuda_product *next;
    ckpt_cuda_lt *lt;
    ckpt_cuda_gemm gemm; /* batch axes merged; the last is cublasLt's batch */
    void *workspace;
    size_t workspace_bytes;
    cublasLtMatmulDesc_t desc[WAYS]; /* PLAIN: without epilogue; one of them may be absent */
    cublasLtMatrixLayout_t first, second, sum, result; /* cublasLt's A, B, C, D */
    cublasLtMatmulAlgo_t algo;
    int way;
    bool own;             /* cublasLt has nothing for it */
    bool zeroes, nothing; /* an empty sum, an empty result */
};

/* What algorithms are chosen for, and so remembered by. */
static ckpt_cuda_algorithms *open_algorithms(const ckpt_cuda_lt_options *options) {
    char identity[CKPT_CUDA_IDENTITY];
    struct cudaDeviceProp device;
    if (cudaGetDeviceProperties(&device, options->device) != cudaSuccess) memset(&device, 0, sizeof device);
    snprintf(identity, sizeof identity, "%.256s, capability %d.%d, %d multiprocessors, cublasLt %zu%s", device.name, device.major,
             device.minor, device.multiProcessorCount, cublasLtGetVersion(), options->first_choice ? ", first choice" : "");
    return ckpt_cuda_algorithms_open(identity);
}

ckpt_status ckpt_cuda_lt_open(const ckpt_cuda_lt_options *options, ckpt_cuda_lt **lt, ckpt_error *err) {
    ckpt_cuda_lt *l = calloc(1, sizeof *l);
    *lt = NULL;
    if (!l) return ckpt_fail(err, CKPT_NOMEM, "no memory for the CUDA device");
    const cublasStatus_t status = cublasLtCreate(&l->handle);
    if (status != CUBLAS_STATUS_SUCCESS) {
        free(l);
        return ckpt_fail(err, CKPT_FAILED, "cublasLt cannot use the device (status %d)", (int)status);
    }
    l->options = *options;
    l->known = open_algorithms(options);
    if (!l->known || cudaEventCreateWithFlags(&l->start, cudaEventDefault) != cudaSuccess ||
        cudaEventCreateWithFlags(&l->end, cudaEventDefault) != cudaSuccess) {
        ckpt_cuda_lt_close(l);
        return ckpt_fail(err, CKPT_NOMEM, "no memory for the CUDA device");
    }
    *lt = l;
    return CKPT_OK;
}

static void product_free(ckpt_cuda_product *p) {
    if (p->first) cublasLtMatrixLayoutDestroy(p->first);
    if (p->second) cublasLtMatrixLayoutDestroy(p->second);
    if (p->sum) cublasLtMatrixLayoutDestroy(p->sum);
    if (p->result) cublasLtMatrixLayoutDestroy(p->result);
    for (int way = 0; way < WAYS; way++)
        if (p->desc[way]) cublasLtMatmulDescDestroy(p->desc[way]);
    free(p);
}

void ckpt_cuda_lt_settle(ckpt_cuda_lt *lt) { ckpt_cuda_algorithms_save(lt->known); }

void ckpt_cuda_lt_close(ckpt_cuda_lt *lt) {
    if (!lt) return;
    for (ckpt_cuda_product *p = lt->products, *next; p; p = next) {
        next = p->next;
        product_free(p);
    }
    if (lt->known) ckpt_cuda_lt_settle(lt);
    ckpt_cuda_algorithms_close(lt->known);
    if (lt->start) cudaEventDestroy(lt->start);
    if (lt->end) cudaEventDestroy(lt->end);
    cublasLtDestroy(lt->handle);
    free(lt);
}

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
static uint32_t alignment_of_all(const void *address, ckpt_dtype type, int64_t elements, bool several) {
    const uint32_t first = alignment_of(address);
    const uint32_t step = several ? alignment_of((const void *)(uintptr_t)((uint64_t)elements * ckpt_dtype_bytes(type))) : 256;
    return first < step ? first : step;
}

static int64_t loops_of(const ckpt_cuda_gemm *g) {
    int64_t loops = 1;
    for (int i = 0; i + 1 < g->batch_rank; i++) loops *= g->batch_dim[i];
    return loops;
}

static cublasComputeType_t compute_of(const ckpt_cuda_lt *lt, const ckpt_cuda_gemm *g) {
    return lt->options.tf32 && g->in == CKPT_F32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

static ckpt_cuda_key key_of(const ckpt_cuda_lt *lt, const ckpt_cuda_gemm *g, uint64_t workspace_bytes) {
    ckpt_cuda_key s;
    const int last = g->batch_rank - 1;
    memset(&s, 0, sizeof s);
    s.m = g->m, s.n = g->n, s.k = g->k;
    s.batch = last >= 0 ? g->batch_dim[last] : 1;
    s.loops = loops_of(g);
    s.step_a = last >= 0 ? g->stride_a[last] * g->m * g->k : 0;
    s.step_b = last >= 0 ? g->stride_b[last] * g->k * g->n : 0;
    s.trans_a = g->trans_a, s.trans_b = g->trans_b;
    s.adds = g->c != NULL, s.epilogue = (int32_t)g->fusion, s.alone = g->tail.run != NULL;
    s.compute = (int32_t)compute_of(lt, g), s.type_in = (int32_t)g->in, s.type_out = (int32_t)g->out;
    s.workspace_bytes = workspace_bytes;
    const bool several = last > 0;
    s.align_a = alignment_of_all(g->a, g->in, g->m * g->k, several);
    s.align_b = alignment_of_all(g->b, g->in, g->k * g->n, several);
    s.align_d = alignment_of_all(g->d, g->out, g->m * g->n, several);
    s.align_c = g->c ? alignment_of_all(g->c, g->out, g->m * g->n, several) : s.align_d;
    return s;
}

static cudaDataType_t type_of(ckpt_dtype type) { return type == CKPT_BF16 ? CUDA_R_16BF : CUDA_R_32F; }

/* A row-major rows x cols matrix without gaps. */
static cublasStatus_t describe(cublasLtMatrixLayout_t *layout, ckpt_dtype type, int64_t rows, int64_t cols, int64_t batch,
                               int64_t step) {
    const int32_t count = (int32_t)batch;
    cublasStatus_t status = cublasLtMatrixLayoutCreate(layout, type_of(type), (uint64_t)cols, (uint64_t)rows, cols);
    if (status == CUBLAS_STATUS_SUCCESS && batch > 1)
        status = cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
    if (status == CUBLAS_STATUS_SUCCESS && batch > 1)
        status = cublasLtMatrixLayoutSetAttribute(*layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step);
    return status;
}

static cublasStatus_t set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t size) {
    return cublasLtMatmulDescSetAttribute(desc, attribute, value, size);
}

static cublasStatus_t make_desc(ckpt_cuda_product *p, int way) {
    static const cublasLtEpilogue_t epilogues[] = {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_RELU,
                                                   CUBLASLT_EPILOGUE_RELU_BIAS};
    const ckpt_cuda_gemm *g = &p->gemm;
    const cublasOperation_t op_first = g->trans_b ? CUBLAS_OP_T : CUBLAS_OP_N, op_second = g->trans_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = epilogues[g->fusion];
    cublasLtMatmulDesc_t *desc = &p->desc[way];
    cublasStatus_t status = cublasLtMatmulDescCreate(desc, compute_of(p->lt, g), CUDA_R_32F);
    if (status == CUBLAS_STATUS_SUCCESS) status = set(*desc, CUBLASLT_MATMUL_DESC_TRANSA, &op_first, sizeof op_first);
    if (status == CUBLAS_STATUS_SUCCESS) status = set(*desc, CUBLASLT_MATMUL_DESC_TRANSB, &op_second, sizeof op_second);
    if (way == PLAIN) return status;
    if (status == CUBLAS_STATUS_SUCCESS) status = set(*desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (status == CUBLAS_STATUS_SUCCESS && g->bias)
        status = set(*desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g->bias, sizeof g->bias);
    return status;
}

/* d' = b' a': cublasLt's first operand is b, its second a. */
static cublasStatus_t make_descriptors(ckpt_cuda_product *p, const ckpt_cuda_key *s) {
    const ckpt_cuda_gemm *g = &p->gemm;
    cublasStatus_t status = make_desc(p, PLAIN);
    if (status == CUBLAS_STATUS_SUCCESS && g->fusion != CKPT_CUDA_FUSE_NONE) status = make_desc(p, FUSED);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = describe(&p->first, g->in, g->trans_b ? g->n : g->k, g->trans_b ? g->k : g->n, s->batch, s->step_b);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = describe(&p->second, g->in, g->trans_a ? g->k : g->m, g->trans_a ? g->m : g->k, s->batch, s->step_a);
    if (status == CUBLAS_STATUS_SUCCESS) status = describe(&p->sum, g->out, g->m, g->n, s->batch, g->m * g->n);
    if (status == CUBLAS_STATUS_SUCCESS) status = describe(&p->result, g->out, g->m, g->n, s->batch, g->m * g->n);
    return status;
}

/* Choosing */

/* In parts only where the whole is not offered: partial sums, in fp32 then, depend on how k is split. */
static cublasStatus_t prefer(cublasLtMatmulPreference_t preference, const ckpt_cuda_key *s, bool parts) {
    const uint32_t whole = parts ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
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

/* Whether it sums k in parts: the preference should have kept such algorithms away, a file or a later library might not. One
 * that does not say counts as if. */
static bool splits(const cublasLtMatmulAlgo_t *algo) {
    uint32_t scheme = 0;
    int32_t parts = 1;
    size_t written;
    if (cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts, &written) != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme, &written) != CUBLAS_STATUS_SUCCESS)
        return true;
    return parts > 1 || scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
}

static void adopt(ckpt_cuda_product *p, const ckpt_cuda_choice *choice) {
    memcpy(&p->algo, choice->algo, sizeof p->algo);
    p->workspace_bytes = (size_t)choice->workspace_bytes;
    p->way = choice->fused ? FUSED : PLAIN;
}

/* Whether a remembered choice still does: nothing in it is trusted. */
static bool usable(const ckpt_cuda_product *p, const ckpt_cuda_choice *choice, const ckpt_cuda_key *s) {
    cublasLtMatmulAlgo_t algo;
    cublasLtMatmulHeuristicResult_t result;
    const cublasLtMatmulDesc_t desc = p->desc[choice->fused ? FUSED : PLAIN];
    memcpy(&algo, choice->algo, sizeof algo);
    return desc && choice->workspace_bytes <= s->workspace_bytes && splits(&algo) == (choice->parts != 0) &&
           cublasLtMatmulAlgoCheck(p->lt->handle, desc, p->first, p->second, p->sum, p->result, &algo, &result) == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= choice->workspace_bytes;
}

enum { PROPOSALS = 8, BLOCKS = 3, RUNS = 4 };

/* cublasLt's proposals for one way, best first, without those that split but with `parts`; how many. */
static int propose(const ckpt_cuda_product *p, int way, cublasLtMatmulPreference_t preference, const ckpt_cuda_key *s, bool parts,
                   ckpt_cuda_choice *candidate) {
    cublasLtMatmulHeuristicResult_t found[PROPOSALS];
    int count = 0, kept = 0;
    if (!p->desc[way] || cublasLtMatmulAlgoGetHeuristic(p->lt->handle, p->desc[way], p->first, p->second, p->sum, p->result,
                                                        preference, PROPOSALS, found, &count) != CUBLAS_STATUS_SUCCESS)
        return 0;
    for (int i = 0; i < count; i++) {
        const bool split = splits(&found[i].algo);
        if (found[i].state != CUBLAS_STATUS_SUCCESS || found[i].workspaceSize > s->workspace_bytes || (split && !parts)) continue;
        ckpt_cuda_choice *c = &candidate[kept++];
        *c = (ckpt_cuda_choice){.key = *s, .workspace_bytes = found[i].workspaceSize, .fused = way == FUSED, .parts = split};
        memcpy(c->algo, &found[i].algo, sizeof c->algo);
    }
    return kept;
}

/* Milliseconds of `runs` runs of the product as it is; below 0 where it does not run. */
static float measure(const ckpt_cuda_product *p, int runs) {
    const ckpt_cuda_lt *lt = p->lt;
    float milliseconds = -1;
    int status = (int)cudaEventRecord(lt->start, lt->options.stream);
    for (int i = 0; i < runs && !status; i++) status = ckpt_cuda_product_run(p, lt->options.stream);
    if (!status) status = (int)cudaEventRecord(lt->end, lt->options.stream);
    if (!status) status = (int)cudaEventSynchronize(lt->end);
    if (!status) status = (int)cudaEventElapsedTime(&milliseconds, lt->start, lt->end);
    return status ? -1 : milliseconds;
}

/* The first candidate that runs, or the fastest; -1: none runs. After a run that warms up, the least of a few blocks counts,
 * since what disturbs only ever adds. The result goes to scratch, so that nothing but the step region and the workspace
 * changes. */
static int try_out(ckpt_cuda_product *p, const ckpt_cuda_choice *candidate, int count, bool first_choice, void *scratch) {
    const ckpt_cuda_gemm gemm = p->gemm;
    int best = -1;
    float least = 0;
    p->gemm.d = scratch;
    if (gemm.c) p->gemm.c = scratch;
    for (int i = 0; i < count; i++) {
        float fastest = -1;
        adopt(p, &candidate[i]);
        if (measure(p, 1) < 0) continue;
        if (first_choice) {
            best = i;
            break;
        }
        for (int b = 0; b < BLOCKS; b++) {
            const float block = measure(p, RUNS);
            if (block >= 0 && (fastest < 0 || block < fastest)) fastest = block;
            if (best >= 0 && fastest > 2 * least) break; /* never the best */
        }
        if (fastest >= 0 && (best < 0 || fastest < least)) best = i, least = fastest;
    }
    (void)cudaGetLastError(); /* of candidates that do not run */
    p->gemm = gemm;
    return best;
}

static uint64_t result_bytes(const ckpt_cuda_gemm *g) {
    uint64_t bytes = (uint64_t)g->m * (uint64_t)g->n * ckpt_dtype_bytes(g->out);
    for (int i = 0; i < g->batch_rank; i++) bytes *= (uint64_t)g->batch_dim[i];
    return bytes;
}

/* What cublasLt proposes, both ways: what sums k in one piece, else anything; how many. */
static cublasStatus_t propose_all(const ckpt_cuda_product *p, const ckpt_cuda_key *s, ckpt_cuda_choice *candidate, int *count) {
    cublasLtMatmulPreference_t preference = NULL;
    cublasStatus_t status = cublasLtMatmulPreferenceCreate(&preference);
    *count = 0;
    for (int parts = 0; parts < 2 && *count == 0 && status == CUBLAS_STATUS_SUCCESS; parts++) {
        status = prefer(preference, s, parts);
        for (int way = 0; way < WAYS && status == CUBLAS_STATUS_SUCCESS; way++)
            *count += propose(p, way, preference, s, parts, candidate + *count);
    }
    if (preference) cublasLtMatmulPreferenceDestroy(preference);
    return status;
}

/* The algorithm of the shape, remembered or found. */
static cublasStatus_t choose(ckpt_cuda_product *p, const ckpt_cuda_key *s, const ckpt_cuda_room *room) {
    ckpt_cuda_lt *lt = p->lt;
    const ckpt_cuda_choice *chosen = ckpt_cuda_algorithms_find(lt->known, s);
    if (chosen && usable(p, chosen, s)) {
        adopt(p, chosen);
        return CUBLAS_STATUS_SUCCESS;
    }
    ckpt_cuda_choice candidate[WAYS * PROPOSALS];
    int count, best = 0;
    const cublasStatus_t status = propose_all(p, s, candidate, &count);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const bool tried = count > 0 && room->scratch && room->scratch_bytes >= result_bytes(&p->gemm) &&
                       alignment_of(room->scratch) >= s->align_d && alignment_of(room->scratch) >= s->align_c;
    if (tried) best = try_out(p, candidate, count, lt->options.first_choice || count == 1, room->scratch);
    p->own = count == 0 || best < 0;
    p->way = PLAIN;
    if (p->own) return CUBLAS_STATUS_SUCCESS;
    candidate[best].timed = tried && !lt->options.first_choice;
    chosen = ckpt_cuda_algorithms_add(lt->known, &candidate[best]);
    if (!chosen) return CUBLAS_STATUS_ALLOC_FAILED;
    adopt(p, chosen);
    return CUBLAS_STATUS_SUCCESS;
}

ckpt_status ckpt_cuda_product_make(ckpt_cuda_lt *lt, const ckpt_cuda_gemm *gemm, const ckpt_cuda_room *room,
                                   ckpt_cuda_product **product, ckpt_error *err) {
    ckpt_cuda_product *p = calloc(1, sizeof *p);
    if (!p) return ckpt_fail(err, CKPT_NOMEM, "no memory for a matrix product");
    p->next = lt->products;
    p->lt = lt;
    p->gemm = *gemm;
    p->way = PLAIN;
    lt->products = *product = p;
    int64_t batches = 1;
    for (int i = 0; i < gemm->batch_rank; i++) batches *= gemm->batch_dim[i];
    p->nothing = gemm->m == 0 || gemm->n == 0 || batches == 0;
    p->zeroes = gemm->k == 0;
    if (p->nothing || p->zeroes) return CKPT_OK;
    merge_batch(&p->gemm);
    const ckpt_cuda_key s = key_of(lt, &p->gemm, room->workspace ? room->workspace_bytes : 0);
    p->workspace = room->workspace;
    cublasStatus_t status = make_descriptors(p, &s);
    if (status == CUBLAS_STATUS_SUCCESS) status = choose(p, &s, room);
    if (status == CUBLAS_STATUS_SUCCESS) return CKPT_OK;
    return ckpt_fail(err, status == CUBLAS_STATUS_ALLOC_FAILED ? CKPT_NOMEM : CKPT_MODEL,
                     "cublasLt has no matrix product of %" PRId64 " x %" PRId64 " x %" PRId64 " (status %d)", s.m, s.k, s.n,
                     (int)status);
}

/* Running */

/* An empty sum leaves c, or 0. */
static int run_empty(const ckpt_cuda_product *p, cudaStream_t stream) {
    const ckpt_cuda_gemm *g = &p->gemm;
    const size_t bytes = (size_t)result_bytes(g);
    if (g->c == g->d && g->c) return 0;
    return g->c ? (int)cudaMemcpyAsync(g->d, g->c, bytes, cudaMemcpyDeviceToDevice, stream)
                : (int)cudaMemsetAsync(g->d, 0, bytes, stream);
}

static const char *byte_of(const void *address, ckpt_dtype type, int64_t element) {
    return (const char *)address + element * (int64_t)ckpt_dtype_bytes(type);
}

static int run_one(const ckpt_cuda_product *p, const void *a, const void *b, const void *c, void *d, cudaStream_t stream) {
    const ckpt_cuda_gemm *g = &p->gemm;
    const float beta = g->c ? 1.0f : 0.0f;
    if (!p->own)
        return (int)cublasLtMatmul(p->lt->handle, p->desc[p->way], &g->alpha, b, p->first, a, p->second, &beta, c, p->sum, d,
                                   p->result, &p->algo, p->workspace, p->workspace_bytes, stream);
    const int last = g->batch_rank - 1;
    const ckpt_cuda_plain plain = {.m = g->m, .n = g->n, .k = g->k, .batch = last >= 0 ? g->batch_dim[last] : 1,
                                   .step_a = last >= 0 ? g->stride_a[last] * g->m * g->k : 0,
                                   .step_b = last >= 0 ? g->stride_b[last] * g->k * g->n : 0,
                                   .trans_a = g->trans_a, .trans_b = g->trans_b, .alpha = g->alpha, .in = g->in, .out = g->out,
                                   .a = a, .b = b, .c = g->c ? c : NULL, .d = d};
    ckpt_cuda_plain_start(&plain, stream);
    return 0;
}

static int run_products(const ckpt_cuda_product *p, cudaStream_t stream) {
    const ckpt_cuda_gemm *g = &p->gemm;
    const int outer = g->batch_rank > 0 ? g->batch_rank - 1 : 0;
    const int64_t loops = loops_of(g), step = (g->batch_rank > 0 ? g->batch_dim[outer] : 1) * g->m * g->n;
    for (int64_t l = 0; l < loops; l++) {
        int64_t rest = l, a = 0, b = 0;
        for (int i = outer - 1; i >= 0; i--) {
            a += rest % g->batch_dim[i] * g->stride_a[i];
            b += rest % g->batch_dim[i] * g->stride_b[i];
            rest /= g->batch_dim[i];
        }
        char *d = (char *)g->d + l * step * (int64_t)ckpt_dtype_bytes(g->out);
        const void *c = g->c ? byte_of(g->c, g->out, l * step) : d;
        const int status = run_one(p, byte_of(g->a, g->in, a * g->m * g->k), byte_of(g->b, g->in, b * g->k * g->n), c, d, stream);
        if (status) return status;
    }
    return 0;
}

int ckpt_cuda_product_run(const ckpt_cuda_product *p, cudaStream_t stream) {
    if (p->nothing) return 0;
    const int status = p->zeroes ? run_empty(p, stream) : run_products(p, stream);
    if (status == 0 && p->way == PLAIN && p->gemm.tail.run) p->gemm.tail.run(p->gemm.tail.self, p->gemm.d);
    return status;
}
