/* cublasLt: products exactly as the descriptors say, in plain loops. Operands are gathered into row-major copies
 * and summed in blocks of k, each in single precision, the blocks in double: closer than a device, not the same.
 * A heuristic proposes several algorithms: the first is not the fastest, the fastest splits k, which nobody may use, and
 * each has blocks of its own, so that two of them give different bits. An epilogue makes some shapes slower than a pass
 * of one's own and others not. */
#include <cublasLt.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "fake_cuda.h"
#include "runtime/convert_math.h"

struct fake_lt {
    int unused;
};
struct fake_lt_desc {
    cublasOperation_t op_a, op_b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    cublasComputeType_t compute;
};
struct fake_lt_layout {
    uint64_t rows, cols;
    int64_t leading, batch_step;
    int32_t order, batch;
    cudaDataType_t type;
};
struct fake_lt_preference {
    uint64_t workspace_bytes;
    uint32_t value[FAKE_PREFERENCES];
};

namespace {

/* Marks algorithms that a heuristic gave. Its words: the mark, four alignments, the workspace, the kind, and the product
 * that it is for. */
const uint64_t MARK = 0x636B70742D66616Bu;
enum { WORKSPACE = 5, KIND = 6, PRODUCT = 7 };
const struct kind {
    int32_t parts;
    uint32_t scheme;
    uint64_t cost, block;
} kinds[] = {{1, CUBLASLT_REDUCTION_SCHEME_NONE, 9, 64},
             {4, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, 1, 16},
             {1, CUBLASLT_REDUCTION_SCHEME_NONE, 5, 48},
             {1, CUBLASLT_REDUCTION_SCHEME_NONE, 7, 32}};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* By the environment: all algorithms, none, those that split k, or such as do not run. And products that fail when a stream
 * is captured. */
enum { ALL, NONE, SPLIT, BROKEN };
const unsigned long long offered = fake_cuda_number("FAKE_CUDA_ALGORITHMS", ALL);
const bool capture_fails = fake_cuda_number("FAKE_CUDA_CAPTURE_FAILS", 0) != 0;

template <typename T> cublasStatus_t create(T **made, const T &value) {
    *made = new T(value);
    fake_counts.descriptors++;
    return CUBLAS_STATUS_SUCCESS;
}
template <typename T> cublasStatus_t destroy(T *made) {
    if (!made) return CUBLAS_STATUS_INVALID_VALUE;
    delete made;
    fake_counts.descriptors--;
    return CUBLAS_STATUS_SUCCESS;
}
template <typename T> cublasStatus_t take(T *to, const void *value, size_t size) {
    if (size != sizeof *to) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

int64_t at(const fake_lt_layout &l, uint64_t row, uint64_t col) {
    return l.order == CUBLASLT_ORDER_COL ? (int64_t)col * l.leading + (int64_t)row : (int64_t)row * l.leading + (int64_t)col;
}

size_t size_of(cudaDataType_t type) { return type == CUDA_R_16BF ? 2 : 4; }

/* Bytes from a matrix batch's first to its last element. */
size_t extent(const fake_lt_layout &l) {
    return size_of(l.type) * (size_t)(at(l, l.rows - 1, l.cols - 1) + 1 + (l.batch - 1) * l.batch_step);
}

bool consistent(const fake_lt_desc &desc, const fake_lt_layout &a, const fake_lt_layout &b, const fake_lt_layout &c,
                const fake_lt_layout &d) {
    const uint64_t m = desc.op_a == CUBLAS_OP_N ? a.rows : a.cols, k = desc.op_a == CUBLAS_OP_N ? a.cols : a.rows;
    const uint64_t k2 = desc.op_b == CUBLAS_OP_N ? b.rows : b.cols, n = desc.op_b == CUBLAS_OP_N ? b.cols : b.rows;
    const fake_lt_layout *all[4] = {&a, &b, &c, &d};
    for (const fake_lt_layout *l : all) {
        const uint64_t least = l->order == CUBLASLT_ORDER_COL ? l->rows : l->cols;
        if (l->rows == 0 || l->cols == 0 || (uint64_t)l->leading < least || l->batch != d.batch) return false;
    }
    if (a.type != b.type || c.type != d.type || (a.type == CUDA_R_32F && d.type != CUDA_R_32F)) return false;
    if (desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a.type != CUDA_R_32F) return false;
    return k == k2 && d.rows == m && d.cols == n && c.rows == m && c.cols == n;
}

float get(const void *x, cudaDataType_t type, int64_t i) {
    return type == CUDA_R_16BF ? ckpt_float_from_bfloat(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}
void put(void *x, cudaDataType_t type, int64_t i, float v) {
    if (type == CUDA_R_16BF) ((uint16_t *)x)[i] = ckpt_bfloat_from_float(v);
    else ((float *)x)[i] = v;
}
const void *from(const void *x, cudaDataType_t type, int64_t element) { return (const char *)x + element * (int64_t)size_of(type); }

/* 10 bits of mantissa, ties away from zero. */
float round_tf32(float x) {
    const uint32_t bits = ckpt_float_bits(x);
    return (bits & 0x7F800000u) == 0x7F800000u ? x : ckpt_bits_float((bits + 0x1000u) & ~0x1FFFu);
}

std::vector<float> gather(const fake_lt_layout &l, const void *x, bool transposed, bool tf32) {
    const uint64_t rows = transposed ? l.cols : l.rows, cols = transposed ? l.rows : l.cols;
    std::vector<float> packed(rows * cols);
    for (uint64_t i = 0; i < rows; i++)
        for (uint64_t j = 0; j < cols; j++) {
            const float v = get(x, l.type, transposed ? at(l, j, i) : at(l, i, j));
            packed[i * cols + j] = tf32 ? round_tf32(v) : v;
        }
    return packed;
}

/* out[n] += row a[k] . b[k][n] */
void accumulate(const float *a, const float *b, uint64_t k, uint64_t n, uint64_t block, double *out, float *part) {
    for (uint64_t first = 0; first < k; first += block) {
        const uint64_t end = first + block < k ? first + block : k;
        for (uint64_t j = 0; j < n; j++) part[j] = 0;
        for (uint64_t i = first; i < end; i++) {
            const float factor = a[i], *row = b + i * n;
            for (uint64_t j = 0; j < n; j++) part[j] += factor * row[j];
        }
        for (uint64_t j = 0; j < n; j++) out[j] += (double)part[j];
    }
}

struct call {
    fake_lt_desc desc;
    fake_lt_layout a, b, c, d;
    float alpha, beta;
    const void *from_a, *from_b, *from_c;
    void *to;
    uint64_t block;
};

void multiply(const call &x, int batch) {
    const bool tf32 = x.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    const std::vector<float> a = gather(x.a, from(x.from_a, x.a.type, batch * x.a.batch_step), x.desc.op_a == CUBLAS_OP_T, tf32);
    const std::vector<float> b = gather(x.b, from(x.from_b, x.b.type, batch * x.b.batch_step), x.desc.op_b == CUBLAS_OP_T, tf32);
    const uint64_t m = x.d.rows, n = x.d.cols, k = a.size() / m;
    std::vector<double> sum(n);
    std::vector<float> part(n);
    for (uint64_t i = 0; i < m; i++) {
        for (double &s : sum) s = 0;
        accumulate(a.data() + i * k, b.data(), k, n, x.block, sum.data(), part.data());
        for (uint64_t j = 0; j < n; j++) {
            float y = x.alpha * (float)sum[j];
            if (x.beta != 0) y += x.beta * get(x.from_c, x.c.type, batch * x.c.batch_step + at(x.c, i, j)); /* else not read */
            if (x.desc.epilogue & CUBLASLT_EPILOGUE_BIAS) y += get(x.desc.bias, x.d.type, (int64_t)i);
            if (x.desc.epilogue & CUBLASLT_EPILOGUE_RELU) y = y > 0 ? y : 0; /* NaN too */
            put(x.to, x.d.type, batch * x.d.batch_step + at(x.d, i, j), y);
        }
    }
}

bool has_epilogue(const fake_lt_desc &desc) { return desc.epilogue != CUBLASLT_EPILOGUE_DEFAULT; }

/* Fused is slower than a pass of one's own, which costs 1, in every third shape. */
uint64_t cost_of(const fake_lt_desc &desc, const fake_lt_layout &d, uint64_t kind) {
    return kinds[kind].cost + (has_epilogue(desc) && (d.rows + d.cols) % 3 == 0 ? 4 : 0);
}

/* A number for what a product is, addresses left out. */
uint64_t product_of(const fake_lt_desc &desc, const fake_lt_layout &a, const fake_lt_layout &b, const fake_lt_layout &d) {
    const uint64_t facts[] = {a.rows, a.cols, b.rows, b.cols, (uint64_t)a.type, (uint64_t)d.type, (uint64_t)d.batch,
                              (uint64_t)desc.op_a, (uint64_t)desc.op_b, (uint64_t)desc.epilogue, (uint64_t)desc.compute};
    uint64_t number = 14695981039346656037u; /* FNV-1a */
    for (uint64_t fact : facts) number = (number ^ fact) * 1099511628211u;
    return number;
}

bool is_for(const cublasLtMatmulAlgo_t &algo, const fake_lt_desc &desc, const fake_lt_layout &a, const fake_lt_layout &b,
            const fake_lt_layout &d) {
    return algo.data[0] == MARK && algo.data[KIND] < KINDS && algo.data[PRODUCT] == product_of(desc, a, b, d);
}

} // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) { return create(handle, fake_lt()); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy(handle); }

size_t cublasLtGetVersion(void) { return 130000; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute, cudaDataType_t scale) {
    if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    return create(desc, fake_lt_desc{CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr, compute});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return destroy(desc); }

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t size) {
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return take(&desc->op_a, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSB: return take(&desc->op_b, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return take(&desc->epilogue, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return take(&desc->bias, value, size);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type, uint64_t rows, uint64_t cols,
                                          int64_t leading) {
    return create(layout, fake_lt_layout{rows, cols, leading, 0, CUBLASLT_ORDER_COL, 1, type});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy(layout); }

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute,
                                                const void *value, size_t size) {
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_ORDER: return take(&layout->order, value, size);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return take(&layout->batch, value, size);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return take(&layout->batch_step, value, size);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
    fake_lt_preference p;
    memset(&p, 0, sizeof p);
    p.value[CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK] = ~0u; /* as in cublasLt: anything goes */
    return create(preference, p);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return destroy(preference); }

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t size) {
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return take(&preference->workspace_bytes, value, size);
    if (attribute >= FAKE_PREFERENCES) return CUBLAS_STATUS_INVALID_VALUE;
    return take(&preference->value[attribute], value, size);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *found, int *count) {
    *count = 0;
    if (wanted < 1 || !consistent(*desc, *a, *b, *c, *d)) return CUBLAS_STATUS_INVALID_VALUE;
    const uint32_t schemes = preference->value[CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK];
    if (schemes != CUBLASLT_REDUCTION_SCHEME_NONE && (offered == ALL || offered == BROKEN))
        fake_cuda_die("a product may split its sums: bits would depend on the algorithm");
    fake_counts.searches++;
    if (offered == NONE || (offered == SPLIT && schemes == CUBLASLT_REDUCTION_SCHEME_NONE)) return CUBLAS_STATUS_NOT_SUPPORTED;
    for (uint64_t kind = 0; kind < KINDS && *count < wanted; kind++) {
        if (offered == SPLIT && kinds[kind].parts == 1) continue;
        cublasLtMatmulHeuristicResult_t *f = &found[(*count)++];
        memset(f, 0, sizeof *f);
        f->algo.data[0] = MARK;
        for (int i = 0; i < 4; i++)
            f->algo.data[1 + i] = preference->value[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i];
        f->algo.data[WORKSPACE] = f->workspaceSize = preference->workspace_bytes; /* all that is offered */
        f->algo.data[KIND] = kind;
        f->algo.data[PRODUCT] = product_of(*desc, *a, *b, *d);
        f->state = CUBLAS_STATUS_SUCCESS;
        f->wavesCount = 1;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo, cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void *value, size_t size, size_t *written) {
    if (algo->data[0] != MARK || algo->data[KIND] >= KINDS || size != 4) return CUBLAS_STATUS_INVALID_VALUE;
    const kind &k = kinds[algo->data[KIND]];
    switch (attribute) {
    case CUBLASLT_ALGO_CONFIG_SPLITK_NUM: memcpy(value, &k.parts, size); break;
    case CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME: memcpy(value, &k.scheme, size); break;
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
    *written = size;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result) {
    if (!consistent(*desc, *a, *b, *c, *d) || !is_for(*algo, *desc, *a, *b, *d)) return CUBLAS_STATUS_NOT_SUPPORTED;
    memset(result, 0, sizeof *result);
    result->workspaceSize = algo->data[WORKSPACE];
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t layout_a, const void *b, cublasLtMatrixLayout_t layout_b, const void *beta,
                              const void *c, cublasLtMatrixLayout_t layout_c, void *d, cublasLtMatrixLayout_t layout_d,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    const void *address[4] = {a, b, c, d};
    const fake_lt_layout *layout[4] = {layout_a, layout_b, layout_c, layout_d};
    if (!consistent(*desc, *layout_a, *layout_b, *layout_c, *layout_d)) return CUBLAS_STATUS_INVALID_VALUE;
    if (!is_for(*algo, *desc, *layout_a, *layout_b, *layout_d)) fake_cuda_die("a product with an algorithm that no search gave for it");
    if (offered == BROKEN || (capture_fails && fake_cuda_captures(stream))) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (kinds[algo->data[KIND]].parts != 1 && offered != SPLIT) fake_cuda_die("a product splits its sums: bits would depend on the algorithm");
    const call x = {*desc, *layout_a, *layout_b, *layout_c, *layout_d, *(const float *)alpha, *(const float *)beta,
                    a, b, c, d, kinds[algo->data[KIND]].block};
    if (algo->data[WORKSPACE] > workspace_bytes) return CUBLAS_STATUS_INVALID_VALUE;
    if (workspace_bytes && !fake_cuda_owns(workspace, workspace_bytes)) fake_cuda_die("a workspace outside the device's memory");
    for (int i = 0; i < 4; i++) {
        if (!fake_cuda_owns(address[i], extent(*layout[i])))
            fake_cuda_die("operand %c of a product is not inside the device's memory", "ABCD"[i]);
        if ((uintptr_t)address[i] % algo->data[1 + i] != 0)
            fake_cuda_die("operand %c of a product is less aligned than its algorithm was promised", "ABCD"[i]);
    }
    if ((desc->epilogue & CUBLASLT_EPILOGUE_BIAS) && !fake_cuda_owns(desc->bias, size_of(layout_d->type) * layout_d->rows))
        fake_cuda_die("a bias outside the device's memory");
    fake_cuda_spend(cost_of(*desc, *layout_d, algo->data[KIND]));
    fake_cuda_enqueue(stream, [=] {
        fake_counts.products++;
        fake_counts.fused_products += has_epilogue(x.desc);
        if (workspace_bytes) memset(workspace, 0xFF, workspace_bytes < 4096 ? workspace_bytes : 4096); /* it is the product's to write */
        for (int i = 0; i < x.d.batch; i++) multiply(x, i);
    });
    return CUBLAS_STATUS_SUCCESS;
}
