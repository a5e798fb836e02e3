/* GroupNormalization over x (batch, channels, inner): statistics of a sample's group of channels, scale and bias a channel,
 * or a group before opset 21. Formulas in runtime/norm_math.h; a row is what shares its statistics, and a group of 16
 * threads takes one, in the lanes of runtime/row_math.h. */
#include "cuda/cuda_device.cuh"
#include "runtime/norm_math.h"

struct group_node {
    const ckpt_cuda_context *context;
    int64_t batch, channels, groups, inner, wide; /* wide: channels of a group */
    bool by_group;                                /* scale and bias have a value a group */
    float epsilon;
    const float *x, *dy, *scale, *bias;
    float *y, *dscale, *dbias;
};

__host__ __device__ static inline int64_t row_values(const group_node &k) { return k.wide * k.inner; }

/* Where the scale of value j of a group's row lies. */
__device__ static inline int64_t scale_at(const group_node &k, int64_t group, int64_t j) {
    if (k.by_group) return group;
    int64_t c = j;
    if (k.inner > 1) ckpt_split(&c, k.inner);
    return group * k.wide + c;
}

__device__ static inline int64_t group_of(const group_node &k, int64_t row) { return ckpt_split(&row, k.groups); }

__global__ static void group_kernel(group_node k) {
    const int64_t r = ckpt_group_row(), n = row_values(k), group = group_of(k, r);
    if (r >= k.batch * k.groups) return;
    const float *x = k.x + r * n;
    float *y = k.y + r * n;
    const ckpt_moments m = ckpt_group_moments(x, n, k.epsilon);
#pragma unroll 4
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) {
        const int64_t at = scale_at(k, group, j);
        y[j] = ckpt_norm_value(x[j], m, k.scale[at], k.bias[at]);
    }
}

__global__ static void dx_kernel(group_node k) {
    const int64_t r = ckpt_group_row(), n = row_values(k), group = group_of(k, r);
    if (r >= k.batch * k.groups) return;
    const float *x = k.x + r * n, *dy = k.dy + r * n;
    float *dx = k.y + r * n, sum = 0, dot = 0;
    const ckpt_moments m = ckpt_group_moments(x, n, k.epsilon);
#pragma unroll 4
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) {
        const float g = dy[j] * k.scale[scale_at(k, group, j)];
        sum += g;
        dot += g * ckpt_norm_hat(x[j], m);
    }
    const float mean_g = ckpt_group_fold(sum) / (float)n, mean_gh = ckpt_group_fold(dot) / (float)n;
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES)
        dx[j] = ckpt_norm_dx(dy[j] * k.scale[scale_at(k, group, j)], x[j], m, mean_g, mean_gh);
}

/* Parameters: blockIdx.y is a group. A block makes the statistics of as many samples as its threads have bands for, then each
 * thread adds up a band of one channel; the bands are added in order. */

enum { CHANNELS = 32, BANDS = CKPT_COLUMN_THREADS / CHANNELS, SAMPLES = BANDS * CKPT_NORM_BAND };

__device__ static inline void find_moments(const group_node &k, int64_t group, int64_t base, ckpt_moments *moments) {
    const unsigned thread = threadIdx.y * CHANNELS + threadIdx.x;
    const int64_t left = k.batch - base, count = left < SAMPLES ? left : (int64_t)SAMPLES;
    for (int64_t s = thread / CKPT_LANES; s < count; s += blockDim.y * CHANNELS / CKPT_LANES) {
        const int64_t row = (base + s) * k.groups + group;
        const ckpt_moments m = ckpt_group_moments(k.x + row * row_values(k), row_values(k), k.epsilon);
        if (thread % CKPT_LANES == 0) moments[s] = m;
    }
}

/* dscale and dbias of channel c of the group, for all threads of its column; all threads of the block must come. */
__device__ static inline void channel_sums(const group_node &k, int64_t group, int64_t c, double sum[2]) {
    __shared__ ckpt_moments moments[SAMPLES];
    __shared__ double part[2][BANDS][CHANNELS];
    sum[0] = sum[1] = 0;
    for (int64_t base = 0; base < k.batch; base += (int64_t)blockDim.y * CKPT_NORM_BAND) {
        const int64_t first = (int64_t)threadIdx.y * CKPT_NORM_BAND, left = k.batch - base;
        const int64_t end = first + CKPT_NORM_BAND < left ? first + CKPT_NORM_BAND : left;
        double scale = 0, bias = 0;
        find_moments(k, group, base, moments);
        __syncthreads();
        if (c < k.wide)
#pragma unroll 4
            for (int64_t s = first; s < end; s++) {
                const int64_t at = ((base + s) * k.groups + group) * row_values(k) + c * k.inner;
                for (int64_t i = 0; i < k.inner; i++) {
                    const float dy = k.dy[at + i];
                    scale += (double)(dy * ckpt_norm_hat(k.x[at + i], moments[s]));
                    bias += (double)dy;
                }
            }
        part[0][threadIdx.y][threadIdx.x] = scale;
        part[1][threadIdx.y][threadIdx.x] = bias;
        __syncthreads();
        for (unsigned g = 0; g < blockDim.y && (int64_t)g * CKPT_NORM_BAND < left; g++) {
            sum[0] += part[0][g][threadIdx.x];
            sum[1] += part[1][g][threadIdx.x];
        }
        __syncthreads();
    }
}

__global__ static void channels_kernel(group_node k) {
    const int64_t c = (int64_t)blockIdx.x * CHANNELS + threadIdx.x;
    for (int64_t group = blockIdx.y; group < k.groups; group += gridDim.y) {
        double sum[2];
        channel_sums(k, group, c, sum);
        if (c >= k.wide || threadIdx.y > 0) continue;
        if (k.dscale) k.dscale[group * k.wide + c] = (float)sum[0];
        if (k.dbias) k.dbias[group * k.wide + c] = (float)sum[1];
    }
}

/* A scale a group: its channels are added in order, by one thread of the block that has them all. */
__global__ static void groups_kernel(group_node k) {
    __shared__ double channel[2][CHANNELS];
    for (int64_t group = blockIdx.y; group < k.groups; group += gridDim.y) {
        double scale = 0, bias = 0;
        for (int64_t first = 0; first < k.wide; first += CHANNELS) {
            double sum[2];
            channel_sums(k, group, first + threadIdx.x, sum);
            if (threadIdx.y == 0) {
                channel[0][threadIdx.x] = sum[0];
                channel[1][threadIdx.x] = sum[1];
            }
            __syncthreads();
            for (int64_t c = 0; c < CHANNELS && first + c < k.wide; c++) {
                scale += channel[0][c];
                bias += channel[1][c];
            }
            __syncthreads();
        }
        if (threadIdx.x > 0 || threadIdx.y > 0) continue;
        if (k.dscale) k.dscale[group] = (float)scale;
        if (k.dbias) k.dbias[group] = (float)bias;
    }
}

static void over_rows(const group_node *k, void (*kernel)(group_node)) {
    const int64_t rows = k->batch * k->groups;
    if (rows == 0 || row_values(*k) == 0) return;
    ckpt_cuda_start(kernel, dim3(ckpt_group_blocks(rows)), dim3(CKPT_GROUP_THREADS), k->context->stream, *k);
}

static void group_run(const void *self, const ckpt_scalars *) { over_rows((const group_node *)self, group_kernel); }
static void dx_run(const void *self, const ckpt_scalars *) { over_rows((const group_node *)self, dx_kernel); }

static void dp_run(const void *self, const ckpt_scalars *) {
    const group_node *k = (const group_node *)self;
    const int64_t bands = (k->batch + CKPT_NORM_BAND - 1) / CKPT_NORM_BAND;
    const dim3 block(CHANNELS, bands < 1 ? 1u : bands < BANDS ? (unsigned)bands : (unsigned)BANDS);
    const unsigned tiles = k->by_group ? 1u : (unsigned)((k->wide + CHANNELS - 1) / CHANNELS);
    if (k->groups == 0 || k->wide == 0) return;
    ckpt_cuda_start(k->by_group ? groups_kernel : channels_kernel, dim3(tiles, (unsigned)(k->groups < 65535 ? k->groups : 65535)),
                    block, k->context->stream, *k);
}

/* parameters: how many values a scale, bias or gradient of one has. */
static ckpt_status bind_group(const ckpt_bind *bind, int in, int out, int64_t parameters,
                              void (*run)(const void *, const ckpt_scalars *), group_node **node, ckpt_launch *launch,
                              ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, in, out, err));
    group_node *k = *node = (group_node *)ckpt_cuda_launch(bind, sizeof *k, run, launch, err);
    if (!k) return CKPT_NOMEM;
    const ckpt_attr *a = &bind->node->attr;
    k->batch = a->group.batch;
    k->channels = a->group.channels;
    k->groups = a->group.groups;
    k->inner = a->group.inner;
    k->wide = k->channels / k->groups;
    k->epsilon = a->group.epsilon;
    k->by_group = parameters != k->channels;
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_groupnorm(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    group_node *k;
    CKPT_TRY(bind_group(bind, 3, 1, ckpt_cuda_in_count(bind, 1), group_run, &k, launch, err));
    k->x = (const float *)bind->in[0];
    k->scale = (const float *)bind->in[1];
    k->bias = (const float *)bind->in[2];
    k->y = (float *)bind->out[0];
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_groupnorm_dx(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    group_node *k;
    CKPT_TRY(bind_group(bind, 3, 1, ckpt_cuda_in_count(bind, 2), dx_run, &k, launch, err));
    k->dy = (const float *)bind->in[0];
    k->x = (const float *)bind->in[1];
    k->scale = (const float *)bind->in[2];
    k->y = (float *)bind->out[0];
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_groupnorm_dp(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const int64_t scales = ckpt_cuda_out_count(bind, 0), biases = ckpt_cuda_out_count(bind, 1);
    group_node *k;
    CKPT_TRY(bind_group(bind, 2, 1, scales ? scales : biases, dp_run, &k, launch, err));
    k->dy = (const float *)bind->in[0];
    k->x = (const float *)bind->in[1];
    k->dscale = (float *)bind->out[0];
    k->dbias = (float *)ckpt_cuda_out(bind, 1);
    return CKPT_OK;
}
