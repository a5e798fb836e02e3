/* LayerNormalization over rows of cols values, h = (x - mean) * inv_std, and RMSNormalization, where the mean counts as 0:
 *   y = h * scale + bias
 *   dx = inv_std * (g - mean(g) - h * mean(g h)), g = dy * scale
 *   dscale = sum over rows of dy h, dbias = sum over rows of dy: bands of CKPT_CUDA_BAND rows, then the bands
 * A group of 16 threads takes a row, in the lanes of runtime/row_math.h. */
#include "cuda/cuda_device.cuh"

struct norm_node {
    const ckpt_cuda_context *context;
    int64_t rows, cols;
    float epsilon;
    bool centered; /* not RMSNormalization */
    const float *x, *scale, *bias, *dy;
    float *y, *mean, *inv_std;
    float *dscale, *dbias;
};

__device__ static inline ckpt_moments moments_of(const norm_node &k, int64_t r) {
    const float *x = k.x + r * k.cols;
    return k.centered ? ckpt_group_moments(x, k.cols, k.epsilon) : ckpt_group_rms(x, k.cols, k.epsilon);
}

__global__ static void norm_kernel(norm_node k) {
    const int64_t r = ckpt_group_row(), n = k.cols;
    if (r >= k.rows) return;
    const float *x = k.x + r * n;
    float *y = k.y + r * n;
    const ckpt_moments m = moments_of(k, r);
    if (ckpt_group_lane() == 0) {
        if (k.mean) k.mean[r] = m.mean + m.rest;
        if (k.inv_std) k.inv_std[r] = m.inv_std;
    }
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) {
        const float h = ckpt_deviation(x[j], m) * m.inv_std, s = k.scale ? h * k.scale[j] : h;
        y[j] = k.bias ? s + k.bias[j] : s;
    }
}

__global__ static void norm_dx_kernel(norm_node k) {
    const int64_t r = ckpt_group_row(), n = k.cols;
    if (r >= k.rows) return;
    const float *x = k.x + r * n, *dy = k.dy + r * n;
    float *dx = k.y + r * n, sum = 0, dot = 0;
    const ckpt_moments m = moments_of(k, r);
#pragma unroll 4
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) {
        const float g = k.scale ? dy[j] * k.scale[j] : dy[j];
        sum += g;
        dot += g * (ckpt_deviation(x[j], m) * m.inv_std);
    }
    const float mean_g = k.centered ? ckpt_group_fold(sum) / (float)n : 0.0f, mean_gh = ckpt_group_fold(dot) / (float)n;
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) {
        const float g = k.scale ? dy[j] * k.scale[j] : dy[j];
        dx[j] = m.inv_std * (g - mean_g - ckpt_deviation(x[j], m) * m.inv_std * mean_gh);
    }
}

/* The statistics of rows [first, first + count). */
__global__ static void moments_kernel(norm_node k, int64_t first, int64_t count, ckpt_moments *moments) {
    const int64_t r = ckpt_group_row();
    if (r >= count) return;
    const ckpt_moments m = moments_of(k, first + r);
    if (ckpt_group_lane() == 0) moments[r] = m;
}

/* A band a thread (ckpt_column_block). The sums of earlier rows are in the outputs. */
__global__ static void bands_kernel(norm_node k, int64_t first, int64_t count, const ckpt_moments *moments) {
    __shared__ float part_scale[CKPT_COLUMN_THREADS], part_bias[CKPT_COLUMN_THREADS];
    const unsigned own = threadIdx.y * blockDim.x + threadIdx.x;
    const int64_t col = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const bool adds = threadIdx.y == 0 && col < k.cols;
    float total_scale = adds && first ? k.dscale[col] : 0.0f, total_bias = adds && first && k.dbias ? k.dbias[col] : 0.0f;
    for (int64_t base = 0; base < count; base += (int64_t)blockDim.y * CKPT_CUDA_BAND) {
        const int64_t begin = base + (int64_t)threadIdx.y * CKPT_CUDA_BAND;
        const int64_t end = begin + CKPT_CUDA_BAND < count ? begin + CKPT_CUDA_BAND : count;
        float scale = 0, bias = 0;
        if (col < k.cols)
#pragma unroll 8
            for (int64_t r = begin; r < end; r++) {
                const float dy = k.dy[(first + r) * k.cols + col], x = k.x[(first + r) * k.cols + col];
                scale += dy * (ckpt_deviation(x, moments[r]) * moments[r].inv_std);
                bias += dy;
            }
        part_scale[own] = scale;
        part_bias[own] = bias;
        __syncthreads();
        for (unsigned g = 0; adds && g < blockDim.y && base + (int64_t)g * CKPT_CUDA_BAND < count; g++) {
            total_scale += part_scale[g * blockDim.x + threadIdx.x];
            total_bias += part_bias[g * blockDim.x + threadIdx.x];
        }
        __syncthreads();
    }
    if (!adds) return;
    k.dscale[col] = total_scale;
    if (k.dbias) k.dbias[col] = total_bias;
}

static void norm_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const norm_node *k = (const norm_node *)self;
    if (k->rows == 0 || k->cols == 0) return;
    ckpt_cuda_start(norm_kernel, dim3(ckpt_group_blocks(k->rows)), dim3(CKPT_GROUP_THREADS), k->context->stream, *k);
}

static void norm_dx_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const norm_node *k = (const norm_node *)self;
    if (k->rows == 0 || k->cols == 0) return;
    ckpt_cuda_start(norm_dx_kernel, dim3(ckpt_group_blocks(k->rows)), dim3(CKPT_GROUP_THREADS), k->context->stream, *k);
}

/* Rows in parts whose statistics fit in the slot: whole bands, so that the order of the sums does not change. */
static void norm_dp_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const norm_node *k = (const norm_node *)self;
    const cudaStream_t stream = k->context->stream;
    if (k->cols == 0) return;
    for (int64_t first = 0; first == 0 || first < k->rows; first += CKPT_CUDA_ROWS) {
        const int64_t left = k->rows - first, most = CKPT_CUDA_ROWS, count = left < most ? left : most;
        ckpt_moments *moments = k->context->slot->moments; /* an address on the device */
        if (count > 0)
            ckpt_cuda_start(moments_kernel, dim3(ckpt_group_blocks(count)), dim3(CKPT_GROUP_THREADS), stream, *k, first, count,
                            moments);
        const dim3 block = ckpt_column_block(k->cols, (count + CKPT_CUDA_BAND - 1) / CKPT_CUDA_BAND);
        ckpt_cuda_start(bands_kernel, dim3((unsigned)((k->cols + block.x - 1) / block.x)), block, stream, *k, first, count,
                        moments);
    }
}

static bool is_rms(ckpt_op op) { return op == CKPT_OP_RMSNORM || op == CKPT_OP_RMSNORM_DX || op == CKPT_OP_RMSNORM_DP; }

static norm_node *bind_norm(const ckpt_bind *bind, void (*run)(const void *, const ckpt_scalars *), ckpt_launch *launch,
                            ckpt_error *err) {
    norm_node *k = (norm_node *)ckpt_cuda_launch(bind, sizeof *k, run, launch, err);
    if (!k) return NULL;
    k->rows = bind->node->attr.norm.rows;
    k->cols = bind->node->attr.norm.cols;
    k->epsilon = bind->node->attr.norm.epsilon;
    k->centered = !is_rms(bind->node->op);
    return k;
}

extern "C" ckpt_status ckpt_cuda_layernorm(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 1, 1, err));
    norm_node *k = bind_norm(bind, norm_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->x = (const float *)bind->in[0];
    k->scale = (const float *)ckpt_cuda_in(bind, 1);
    k->bias = (const float *)ckpt_cuda_in(bind, 2);
    k->y = (float *)bind->out[0];
    k->mean = (float *)ckpt_cuda_out(bind, 1);
    k->inv_std = (float *)ckpt_cuda_out(bind, 2);
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_layernorm_dx(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 2, 1, err));
    norm_node *k = bind_norm(bind, norm_dx_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->dy = (const float *)bind->in[0];
    k->x = (const float *)bind->in[1];
    k->scale = (const float *)ckpt_cuda_in(bind, 2);
    k->y = (float *)bind->out[0];
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_layernorm_dp(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 2, 1, err));
    norm_node *k = bind_norm(bind, norm_dp_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->dy = (const float *)bind->in[0];
    k->x = (const float *)bind->in[1];
    k->dscale = (float *)bind->out[0];
    k->dbias = (float *)ckpt_cuda_out(bind, 1);
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_rmsnorm(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return ckpt_cuda_layernorm(bind, launch, err);
}
extern "C" ckpt_status ckpt_cuda_rmsnorm_dx(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return ckpt_cuda_layernorm_dx(bind, launch, err);
}
extern "C" ckpt_status ckpt_cuda_rmsnorm_dp(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return ckpt_cuda_layernorm_dp(bind, launch, err);
}
