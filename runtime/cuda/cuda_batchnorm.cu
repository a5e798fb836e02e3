/* BatchNormalization over x (batch, channels, inner), a channel at a time: formulas and the order of sums in
 * runtime/norm_math.h. Sums and the gradient that follows from them are one kernel: a block has some channels to itself. */
#include "cuda/cuda_device.cuh"
#include "runtime/norm_math.h"

struct batch_node {
    const ckpt_cuda_context *context;
    int64_t rows, channels, inner;
    float epsilon, momentum;
    const float *x, *dy, *scale, *bias, *stats, *mean, *variance;
    float *y, *dscale, *dbias, *made, *new_mean, *new_variance;
};

/* 1 where a kernel is made for channels beside each other: its loop over a channel's values is then none, and rows are
 * loaded ahead. */
template <bool FLAT> __device__ static inline int64_t run_of(const batch_node &k) { return FLAT ? 1 : k.inner; }

/* The thread's channel; a thread beyond the last one comes along to the barriers. */
__device__ static inline int64_t own_channel() { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }

/* Statistics */

template <bool FLAT> __global__ static void stats_kernel(batch_node k) {
    const int64_t c = own_channel(), run = run_of<FLAT>(k), values = k.rows * run;
    const float *x = k.x + c * run;
    const bool exists = c < k.channels;
    double sum[2], mean;
    ckpt_column_sums<CKPT_NORM_BAND>(k.rows, [&](int64_t first, int64_t end, double *a, double *) {
        if (!exists) return;
#pragma unroll 8
        for (int64_t r = first; r < end; r++)
            for (int64_t i = 0; i < run; i++) *a += (double)x[r * k.channels * run + i];
    }, sum);
    mean = values ? sum[0] / (double)values : 0;
    ckpt_column_sums<CKPT_NORM_BAND>(k.rows, [&](int64_t first, int64_t end, double *a, double *) {
        if (!exists) return;
#pragma unroll 8
        for (int64_t r = first; r < end; r++)
            for (int64_t i = 0; i < run; i++) *a += ckpt_square_deviation(x[r * k.channels * run + i], mean);
    }, sum);
    if (exists && threadIdx.y == 0)
        ckpt_batch_write(k.made, k.channels, c, mean, values ? sum[0] / (double)values : 0, k.epsilon);
}

__global__ static void stored_kernel(batch_node k) {
    CKPT_EACH_ELEMENT(c, k.channels)
        ckpt_batch_write(k.made, k.channels, c, (double)k.mean[c], (double)k.variance[c], k.epsilon);
}

__global__ static void update_kernel(batch_node k) {
    CKPT_EACH_ELEMENT(c, k.channels) {
        k.new_mean[c] = ckpt_stats_moved(k.mean[c], k.stats[c] + k.stats[k.channels + c], k.momentum);
        k.new_variance[c] = ckpt_stats_moved(k.variance[c], k.stats[2 * k.channels + c], k.momentum);
    }
}

/* Normalizing: rows of channels, where a thread stays in its columns and reads their vectors once; or, with values behind a
 * channel, rows of those. */

__global__ static void columns_kernel(batch_node k, ckpt_plane plane) {
    float v[CKPT_PLANE_ROWS][4], mean[4], rest[4], inv[4], scale[4], bias[4];
    const ckpt_place first = ckpt_plane_place(plane, 0);
    if (first.n == 0) return;
    ckpt_load4(mean, k.stats + first.col, plane.vector, first.n);
    ckpt_load4(rest, k.stats + k.channels + first.col, plane.vector, first.n);
    ckpt_load4(inv, k.stats + 3 * k.channels + first.col, plane.vector, first.n);
    ckpt_load4(scale, k.scale + first.col, plane.vector, first.n);
    ckpt_load4(bias, k.bias + first.col, plane.vector, first.n);
    CKPT_PLANE_EACH(plane, q, u, ckpt_load4(v[u], k.x + q.at, plane.vector, q.n), {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const ckpt_moments m = {mean[i], rest[i], inv[i]};
            v[u][i] = ckpt_norm_value(v[u][i], m, scale[i], bias[i]);
        }
        ckpt_store4(k.y + q.at, v[u], plane.vector, q.n);
    })
}

__global__ static void runs_kernel(batch_node k, ckpt_plane plane) {
    float v[CKPT_PLANE_ROWS][4];
    CKPT_PLANE_EACH(plane, q, u, ckpt_load4(v[u], k.x + q.at, plane.vector, q.n), {
        int64_t rest = q.row;
        const int64_t c = ckpt_split(&rest, k.channels);
        const ckpt_moments m = ckpt_batch_moments(k.stats, k.channels, c);
        const float scale = k.scale[c], bias = k.bias[c];
#pragma unroll
        for (int i = 0; i < 4; i++) v[u][i] = ckpt_norm_value(v[u][i], m, scale, bias);
        ckpt_store4(k.y + q.at, v[u], plane.vector, q.n);
    })
}

/* Gradients */

/* The sums of dy and of dy h over a channel. */
template <bool FLAT>
__device__ static inline void gradient_sums(const batch_node &k, int64_t c, const ckpt_moments &m, double sum[2]) {
    const int64_t run = run_of<FLAT>(k);
    const float *x = k.x + c * run, *dy = k.dy + c * run;
    ckpt_column_sums<CKPT_NORM_BAND>(k.rows, [&](int64_t first, int64_t end, double *a, double *b) {
        if (c >= k.channels) return;
#pragma unroll 8
        for (int64_t r = first; r < end; r++)
            for (int64_t i = 0; i < run; i++) {
                const int64_t at = r * k.channels * run + i;
                const float g = dy[at];
                *a += (double)g;
                *b += (double)(g * ckpt_norm_hat(x[at], m));
            }
    }, sum);
}

__device__ static inline ckpt_moments own_moments(const batch_node &k, int64_t c) {
    const ckpt_moments none = {0, 0, 0};
    return c < k.channels ? ckpt_batch_moments(k.stats, k.channels, c) : none;
}

/* dx may lie over dy: a block's threads have all read their channels when the last sum is there. */
template <bool FLAT> __global__ static void dx_kernel(batch_node k) {
    const int64_t c = own_channel(), run = run_of<FLAT>(k), values = k.rows * run;
    const ckpt_moments m = own_moments(k, c);
    double sum[2];
    gradient_sums<FLAT>(k, c, m, sum);
    if (c >= k.channels) return;
    const float mean_dy = values ? (float)(sum[0] / (double)values) : 0, mean_dyh = values ? (float)(sum[1] / (double)values) : 0;
    const float scale = k.scale[c];
#pragma unroll 4
    for (int64_t r = threadIdx.y; r < k.rows; r += blockDim.y)
        for (int64_t i = 0; i < run; i++) {
            const int64_t at = (r * k.channels + c) * run + i;
            k.y[at] = ckpt_batch_dx(k.dy[at], k.x[at], m, scale, mean_dy, mean_dyh);
        }
}

template <bool FLAT> __global__ static void dp_kernel(batch_node k) {
    const int64_t c = own_channel();
    double sum[2];
    gradient_sums<FLAT>(k, c, own_moments(k, c), sum);
    if (c >= k.channels || threadIdx.y > 0) return;
    if (k.dscale) k.dscale[c] = (float)sum[1];
    if (k.dbias) k.dbias[c] = (float)sum[0];
}

static void over_channels(const void *self, void (*flat)(batch_node), void (*runs)(batch_node)) {
    const batch_node *k = (const batch_node *)self;
    const dim3 block = ckpt_column_block(k->channels, (k->rows + CKPT_NORM_BAND - 1) / CKPT_NORM_BAND);
    if (k->channels == 0) return;
    ckpt_cuda_start(k->inner == 1 ? flat : runs, dim3((unsigned)((k->channels + block.x - 1) / block.x)), block, k->context->stream,
                    *k);
}

static void each_channel(const batch_node *k, void (*kernel)(batch_node)) {
    if (k->channels == 0) return;
    ckpt_cuda_start_flat(kernel, dim3(ckpt_element_blocks(k->channels)), dim3(CKPT_ELEMENT_THREADS), k->context->stream, *k);
}

static void stats_run(const void *self, const ckpt_scalars *) { over_channels(self, stats_kernel<true>, stats_kernel<false>); }
static void dx_run(const void *self, const ckpt_scalars *) { over_channels(self, dx_kernel<true>, dx_kernel<false>); }
static void dp_run(const void *self, const ckpt_scalars *) { over_channels(self, dp_kernel<true>, dp_kernel<false>); }
static void stored_run(const void *self, const ckpt_scalars *) { each_channel((const batch_node *)self, stored_kernel); }
static void update_run(const void *self, const ckpt_scalars *) { each_channel((const batch_node *)self, update_kernel); }

static void normalize_run(const void *self, const ckpt_scalars *) {
    const batch_node *k = (const batch_node *)self;
    const bool columns = k->inner == 1, aligned = ckpt_aligned16(k->x) && ckpt_aligned16(k->y);
    const bool vectors = ckpt_aligned16(k->stats) && ckpt_aligned16(k->scale) && ckpt_aligned16(k->bias);
    const ckpt_plane plane = columns ? ckpt_plane_matrix(k->rows, k->channels, aligned && vectors)
                                     : ckpt_plane_matrix(k->rows * k->channels, k->inner, aligned);
    dim3 grid, block;
    if (plane.count == 0) return;
    ckpt_plane_grid(&plane, &grid, &block);
    ckpt_cuda_start_flat(columns ? columns_kernel : runs_kernel, grid, block, k->context->stream, *k, plane);
}

static ckpt_status bind_batch(const ckpt_bind *bind, int in, int out, void (*run)(const void *, const ckpt_scalars *),
                              batch_node **node, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, in, out, err));
    batch_node *k = *node = (batch_node *)ckpt_cuda_launch(bind, sizeof *k, run, launch, err);
    if (!k) return CKPT_NOMEM;
    const ckpt_attr *a = &bind->node->attr;
    k->rows = a->group.batch;
    k->channels = a->group.channels;
    k->inner = a->group.inner;
    k->epsilon = a->group.epsilon;
    k->momentum = a->group.momentum;
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_batch_stats(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    batch_node *k;
    CKPT_TRY(bind_batch(bind, 1, 1, stats_run, &k, launch, err));
    k->x = (const float *)bind->in[0];
    k->made = (float *)bind->out[0];
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_stored_stats(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    batch_node *k;
    CKPT_TRY(bind_batch(bind, 2, 1, stored_run, &k, launch, err));
    k->mean = (const float *)bind->in[0];
    k->variance = (const float *)bind->in[1];
    k->made = (float *)bind->out[0];
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_stats_update(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    batch_node *k;
    CKPT_TRY(bind_batch(bind, 3, 2, update_run, &k, launch, err));
    k->stats = (const float *)bind->in[0];
    k->mean = (const float *)bind->in[1];
    k->variance = (const float *)bind->in[2];
    k->new_mean = (float *)bind->out[0];
    k->new_variance = (float *)bind->out[1];
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_batchnorm(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    batch_node *k;
    CKPT_TRY(bind_batch(bind, 4, 1, normalize_run, &k, launch, err));
    k->x = (const float *)bind->in[0];
    k->scale = (const float *)bind->in[1];
    k->bias = (const float *)bind->in[2];
    k->stats = (const float *)bind->in[3];
    k->y = (float *)bind->out[0];
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_batchnorm_dx(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    batch_node *k;
    CKPT_TRY(bind_batch(bind, 4, 1, dx_run, &k, launch, err));
    k->dy = (const float *)bind->in[0];
    k->x = (const float *)bind->in[1];
    k->scale = (const float *)bind->in[2];
    k->stats = (const float *)bind->in[3];
    k->y = (float *)bind->out[0];
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_batchnorm_dp(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    batch_node *k;
    CKPT_TRY(bind_batch(bind, 3, 1, dp_run, &k, launch, err));
    k->dy = (const float *)bind->in[0];
    k->x = (const float *)bind->in[1];
    k->stats = (const float *)bind->in[2];
    k->dscale = (float *)bind->out[0];
    k->dbias = (float *)ckpt_cuda_out(bind, 1);
    return CKPT_OK;
}
