/* cublasLt: products exactly as the descriptors say, in plain loops. Operands are gathered into row-major copies
 * and summed in blocks of k, each in single precision, the blocks in double: closer than a device, not the same. */
#include <cublasLt.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "fake_cuda.h"

struct fake_lt {
    int unused;
};
struct fake_lt_desc {
    cublasOperation_t op_a, op_b;
    cublasLtEpilogue_t epilogue;
    const float *bias;
};
struct fake_lt_layout {
    uint64_t rows, cols;
    int64_t leading, batch_step;
    int32_t order, batch;
};
struct fake_lt_preference {
    uint64_t workspace_bytes;
    uint32_t value[FAKE_PREFERENCES];
};

namespace {

/* Marks algorithms that a heuristic gave, with what they may be used for. */
const uint64_t MARK = 0x636B70742D66616Bu;

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

/* Bytes from a matrix batch's first to its last element. */
size_t extent(const fake_lt_layout &l) {
    return sizeof(float) * (size_t)(at(l, l.rows - 1, l.cols - 1) + 1 + (l.batch - 1) * l.batch_step);
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
    return k == k2 && d.rows == m && d.cols == n && c.rows == m && c.cols == n;
}

std::vector<float> gather(const fake_lt_layout &l, const float *x, bool transposed) {
    const uint64_t rows = transposed ? l.cols : l.rows, cols = transposed ? l.rows : l.cols;
    std::vector<float> packed(rows * cols);
    for (uint64_t i = 0; i < rows; i++)
        for (uint64_t j = 0; j < cols; j++) packed[i * cols + j] = x[transposed ? at(l, j, i) : at(l, i, j)];
    return packed;
}

/* out[n] += row a[k] . b[k][n] */
void accumulate(const float *a, const float *b, uint64_t k, uint64_t n, double *out, float *part) {
    enum { BLOCK = 64 };
    for (uint64_t first = 0; first < k; first += BLOCK) {
        const uint64_t end = first + BLOCK < k ? first + BLOCK : k;
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
    const float *from_a, *from_b, *from_c;
    float *to;
};

void multiply(const call &x, int batch) {
    const std::vector<float> a = gather(x.a, x.from_a + batch * x.a.batch_step, x.desc.op_a == CUBLAS_OP_T);
    const std::vector<float> b = gather(x.b, x.from_b + batch * x.b.batch_step, x.desc.op_b == CUBLAS_OP_T);
    const uint64_t m = x.d.rows, n = x.d.cols, k = a.size() / m;
    std::vector<double> sum(n);
    std::vector<float> part(n);
    const float *c = x.from_c + batch * x.c.batch_step;
    float *d = x.to + batch * x.d.batch_step;
    for (uint64_t i = 0; i < m; i++) {
        for (double &s : sum) s = 0;
        accumulate(a.data() + i * k, b.data(), k, n, sum.data(), part.data());
        for (uint64_t j = 0; j < n; j++) {
            float y = x.alpha * (float)sum[j];
            if (x.beta != 0) y += x.beta * c[at(x.c, i, j)]; /* with beta 0, c is not read */
            if (x.desc.epilogue & CUBLASLT_EPILOGUE_BIAS) y += x.desc.bias[i];
            if (x.desc.epilogue & CUBLASLT_EPILOGUE_RELU) y = y > 0 ? y : 0; /* NaN too */
            d[at(x.d, i, j)] = y;
        }
    }
}

} // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) { return create(handle, fake_lt()); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy(handle); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t, cudaDataType_t) {
    return create(desc, fake_lt_desc{CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr});
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

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t, uint64_t rows, uint64_t cols,
                                          int64_t leading) {
    return create(layout, fake_lt_layout{rows, cols, leading, 0, CUBLASLT_ORDER_COL, 1});
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
    if (preference->value[CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK] != CUBLASLT_REDUCTION_SCHEME_NONE)
        fake_cuda_die("a product may split its sums: bits would depend on the algorithm");
    memset(found, 0, sizeof *found);
    found->algo.data[0] = MARK;
    for (int i = 0; i < 4; i++)
        found->algo.data[1 + i] = preference->value[CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i];
    found->algo.data[5] = found->workspaceSize = preference->workspace_bytes; /* all that is offered */
    found->state = CUBLAS_STATUS_SUCCESS;
    found->wavesCount = 1;
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t layout_a, const void *b, cublasLtMatrixLayout_t layout_b, const void *beta,
                              const void *c, cublasLtMatrixLayout_t layout_c, void *d, cublasLtMatrixLayout_t layout_d,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    const call x = {*desc, *layout_a, *layout_b, *layout_c, *layout_d, *(const float *)alpha, *(const float *)beta,
                    (const float *)a, (const float *)b, (const float *)c, (float *)d};
    const void *address[4] = {a, b, c, d};
    const fake_lt_layout *layout[4] = {layout_a, layout_b, layout_c, layout_d};
    if (!consistent(*desc, *layout_a, *layout_b, *layout_c, *layout_d)) return CUBLAS_STATUS_INVALID_VALUE;
    if (algo->data[0] != MARK) fake_cuda_die("a product with an algorithm that no search gave");
    if (algo->data[5] > workspace_bytes) return CUBLAS_STATUS_INVALID_VALUE;
    if (workspace_bytes && !fake_cuda_owns(workspace, workspace_bytes)) fake_cuda_die("a workspace outside the device's memory");
    for (int i = 0; i < 4; i++) {
        if (!fake_cuda_owns(address[i], extent(*layout[i])))
            fake_cuda_die("operand %c of a product is not inside the device's memory", "ABCD"[i]);
        if ((uintptr_t)address[i] % algo->data[1 + i] != 0)
            fake_cuda_die("operand %c of a product is less aligned than its algorithm was promised", "ABCD"[i]);
    }
    if ((desc->epilogue & CUBLASLT_EPILOGUE_BIAS) && !fake_cuda_owns(desc->bias, sizeof(float) * layout_d->rows))
        fake_cuda_die("a bias outside the device's memory");
    fake_cuda_enqueue(stream, [=] {
        fake_counts.products++;
        if (workspace_bytes) memset(workspace, 0xFF, workspace_bytes < 4096 ? workspace_bytes : 4096); /* it is the product's to write */
        for (int i = 0; i < x.d.batch; i++) multiply(x, i);
    });
    return CUBLAS_STATUS_SUCCESS;
}
