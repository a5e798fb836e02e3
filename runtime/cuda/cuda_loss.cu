/* The losses and their gradients (formulas: graph/op_loss.c). A row counts when it lies among the valid samples
 * and, for classes, its class is not negative; the mean is over all rows (values, for BCE and MSE) of the valid
 * samples of the whole batch. Row losses are single precision, their sum double, in 256 parts, each in order: the
 * CPU's order. A class beyond the last makes the loss NaN: data is checked before it gets here. */
#include "cuda/cuda_device.cuh"

struct loss_node {
    const ckpt_cuda_context *context;
    const ckpt_scalars *scalars; /* in the slot */
    int64_t rows, cols, rows_per_sample;
    const float *x, *value;
    const int32_t *target;
    float *gradient;
    double *part, *result;
    int64_t *hits;
    ckpt_loss kind;
    int term;
};

static bool has_classes(ckpt_loss kind) { return kind == CKPT_LOSS_CE || kind == CKPT_LOSS_NLL; }

__device__ static inline int64_t valid_rows(const loss_node &k) {
    const int64_t rows = k.scalars->valid_samples * k.rows_per_sample;
    return rows < 0 ? 0 : rows < k.rows ? rows : k.rows;
}

/* 1 / the mean's denominator. */
__device__ static inline double mean_factor(const loss_node &k) {
    return k.scalars->denominator[k.term] > 0 ? 1.0 / k.scalars->denominator[k.term] : 0.0;
}

/* LOSS */

/* One row by a group: its loss, and whether the first of the greatest is the right class. */
__device__ static inline float class_row(const loss_node &k, int64_t r, int *hit) {
    const float *x = k.x + r * k.cols;
    const int32_t target = k.target[r];
    *hit = 0;
    if (target < 0) return 0;
    if (target >= k.cols) return NAN;
    const float max = ckpt_group_row_max(x, k.cols);
    float before = 0;
    for (int64_t j = ckpt_group_lane(); j < target; j += CKPT_LANES) before = x[j] == max ? 1.0f : before;
    *hit = x[target] == max && ckpt_group_max(before) == 0.0f;
    return k.kind == CKPT_LOSS_CE ? (max - x[target]) + ckpt_log(ckpt_group_exp_sum(x, k.cols, max)) : -x[target];
}

/* A block a part: its groups make row losses side by side, which one thread adds in order. */
__global__ static void class_loss_kernel(loss_node k) {
    __shared__ float row_loss[CKPT_GROUPS];
    __shared__ int row_hit[CKPT_GROUPS];
    const int64_t items = valid_rows(k), part = (items + CKPT_CUDA_PARTS - 1) / CKPT_CUDA_PARTS;
    const int64_t first = blockIdx.x * part, last = first + part < items ? first + part : items;
    const int groups = (int)(blockDim.x / CKPT_LANES), group = (int)(threadIdx.x / CKPT_LANES);
    double loss = 0;
    int64_t hits = 0;
    for (int64_t base = first; base < last; base += groups) {
        int hit = 0;
        const float value = base + group < last ? class_row(k, base + group, &hit) : 0.0f;
        if (ckpt_group_lane() == 0) {
            row_loss[group] = value;
            row_hit[group] = hit;
        }
        __syncthreads();
        for (int g = 0; threadIdx.x == 0 && g < groups && base + g < last; g++) {
            loss += (double)row_loss[g];
            hits += row_hit[g];
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        k.part[blockIdx.x] = loss;
        k.hits[blockIdx.x] = hits;
    }
}

/* The lanes of a group added in order. */
__device__ static inline double lanes_in_order(double lane) {
    double sum = 0;
#pragma unroll
    for (int l = 0; l < CKPT_LANES; l++) sum += __shfl_sync(ckpt_group_mask(), lane, l, CKPT_LANES);
    return sum;
}

/* A block a part, a group a block of values. */
__global__ static void value_loss_kernel(loss_node k) {
    __shared__ int thread_hits[CKPT_GROUP_THREADS];
    const int64_t items = valid_rows(k) * k.cols, part = (items + CKPT_CUDA_PARTS - 1) / CKPT_CUDA_PARTS;
    const int64_t first = blockIdx.x * part, left = items - first;
    int hits = 0;
    const double loss = ckpt_blocks_sum(left < part ? left : part, CKPT_LOSS_BLOCK, [&](int64_t at, int64_t n) {
        double lane = 0;
#pragma unroll 8
        for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) {
            const float x = k.x[first + at + j], t = k.value[first + at + j], d = x - t;
            lane += k.kind == CKPT_LOSS_BCE ? (double)(ckpt_softplus(x) - x * t) : (double)(d * d);
            hits += k.kind == CKPT_LOSS_BCE && (x > 0.0f) == (t > 0.5f);
        }
        return lanes_in_order(lane);
    });
    thread_hits[threadIdx.x] = hits;
    __syncthreads();
    if (threadIdx.x > 0) return;
    int64_t all = 0;
    for (unsigned t = 0; t < blockDim.x; t++) all += thread_hits[t];
    k.part[blockIdx.x] = loss;
    k.hits[blockIdx.x] = all;
}

__global__ static void loss_total_kernel(loss_node k) {
    __shared__ int64_t part_hits[CKPT_CUDA_PARTS];
    part_hits[threadIdx.x] = k.hits[threadIdx.x];
    const double loss = ckpt_parts_total(k.part);
    if (threadIdx.x > 0) return;
    int64_t hits = 0;
    for (int p = 0; p < CKPT_CUDA_PARTS; p++) hits += part_hits[p];
    k.result[0] += loss * mean_factor(k);
    k.result[1] += (double)hits;
}

static void loss_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const loss_node *k = (const loss_node *)self;
    /* No more groups than a part has rows, or blocks of values, when all samples count. */
    const bool classes = has_classes(k->kind);
    const int64_t items = classes ? k->rows : (k->rows * k->cols + CKPT_LOSS_BLOCK - 1) / CKPT_LOSS_BLOCK;
    const int64_t part = (items + CKPT_CUDA_PARTS - 1) / CKPT_CUDA_PARTS;
    const unsigned groups = part < 1 ? 1u : part < CKPT_GROUPS ? (unsigned)part : (unsigned)CKPT_GROUPS;
    ckpt_cuda_start(classes ? class_loss_kernel : value_loss_kernel, dim3(CKPT_CUDA_PARTS), dim3(groups * CKPT_LANES),
                    k->context->stream, *k);
    ckpt_cuda_start(loss_total_kernel, dim3(1), dim3(CKPT_CUDA_PARTS), k->context->stream, *k);
}

/* LOSS_GRAD, which may be written over the prediction. */

__global__ static void ce_grad_kernel(loss_node k) {
    const int64_t r = ckpt_group_row(), n = k.cols;
    const int lane = ckpt_group_lane();
    if (r >= k.rows) return;
    const float *x = k.x + r * n;
    float *g = k.gradient + r * n;
    const int32_t target = k.target[r];
    if (r >= valid_rows(k) || target < 0 || target >= n) {
        for (int64_t j = lane; j < n; j += CKPT_LANES) g[j] = 0.0f;
        return;
    }
    const float max = ckpt_group_row_max(x, n), factor = (float)mean_factor(k);
    const float inverse = 1.0f / ckpt_group_exp_sum(x, n, max);
    /* Again rather than stored between: a row of many classes is in no cache. */
    for (int64_t j = lane; j < n; j += CKPT_LANES)
        g[j] = (ckpt_exp(x[j] - max) * inverse - (j == target ? 1.0f : 0.0f)) * factor;
}

__global__ static void nll_grad_kernel(loss_node k) {
    const float factor = (float)mean_factor(k);
    const int64_t valid = valid_rows(k);
    CKPT_EACH_ELEMENT(e, k.rows * k.cols) {
        int64_t r = e;
        const int64_t col = ckpt_split(&r, k.cols);
        k.gradient[e] = r < valid && k.target[r] == col ? -factor : 0.0f;
    }
}

template <ckpt_loss KIND> __global__ static void value_grad_kernel(loss_node k, ckpt_plane plane) {
    const float factor = (float)mean_factor(k);
    const int64_t valid = valid_rows(k) * k.cols;
    float x[CKPT_PLANE_ROWS][4], t[CKPT_PLANE_ROWS][4];
    CKPT_PLANE_EACH(
        plane, q, u,
        {
            ckpt_load4(x[u], k.x + q.at, plane.vector, q.n);
            ckpt_load4(t[u], k.value + q.at, plane.vector, q.n);
        },
        {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float v = x[u][i];
                const float d = KIND == CKPT_LOSS_BCE ? (ckpt_sigmoid(v) - t[u][i]) * factor
                                                      : (v - t[u][i]) * (2.0f * factor);
                x[u][i] = q.at + i < valid ? d : 0.0f;
            }
            ckpt_store4(k.gradient + q.at, x[u], plane.vector, q.n);
        })
}

static void gradient_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const loss_node *k = (const loss_node *)self;
    const cudaStream_t stream = k->context->stream;
    if (k->rows == 0 || k->cols == 0) return;
    if (k->kind == CKPT_LOSS_CE) {
        ckpt_cuda_start(ce_grad_kernel, dim3(ckpt_group_blocks(k->rows)), dim3(CKPT_GROUP_THREADS), stream, *k);
    } else if (k->kind == CKPT_LOSS_NLL) {
        ckpt_cuda_start_flat(nll_grad_kernel, dim3(ckpt_element_blocks(k->rows * k->cols)), dim3(CKPT_ELEMENT_THREADS), stream,
                             *k);
    } else {
        const bool aligned = ckpt_aligned16(k->x) && ckpt_aligned16(k->value) && ckpt_aligned16(k->gradient);
        const ckpt_plane plane = ckpt_plane_run(k->rows * k->cols, aligned);
        dim3 grid, block;
        ckpt_plane_grid(&plane, &grid, &block);
        ckpt_cuda_start_flat(k->kind == CKPT_LOSS_BCE ? value_grad_kernel<CKPT_LOSS_BCE> : value_grad_kernel<CKPT_LOSS_MSE>,
                             grid, block, stream, *k, plane);
    }
}

static ckpt_status bind_loss(const ckpt_bind *bind, void (*run)(const void *, const ckpt_scalars *), loss_node **node,
                             ckpt_launch *launch, ckpt_error *err) {
    if (bind->node->in_count > 2)
        return ckpt_fail(err, CKPT_MODEL, "node '%s': CUDA's losses take no weights", ckpt_cuda_node_name(bind));
    CKPT_TRY(ckpt_cuda_require(bind, 2, 1, err));
    loss_node *k = (loss_node *)ckpt_cuda_launch(bind, sizeof *k, run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->kind = bind->node->attr.loss.kind;
    k->term = bind->node->attr.loss.term;
    k->rows = has_classes(k->kind) ? ckpt_loss_items(bind->node) : bind->node->attr.loss.outer;
    k->cols = has_classes(k->kind) ? bind->node->attr.loss.classes : bind->node->attr.loss.inner;
    k->rows_per_sample = k->rows / bind->graph->batch;
    k->x = (const float *)bind->in[0];
    k->target = (const int32_t *)(has_classes(k->kind) ? bind->in[1] : NULL);
    k->value = (const float *)(has_classes(k->kind) ? NULL : bind->in[1]);
    k->scalars = &k->context->slot->scalars; /* addresses on the device */
    k->part = k->context->slot->part;
    k->hits = k->context->slot->hits;
    *node = k;
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_loss(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    loss_node *k = NULL;
    CKPT_TRY(bind_loss(bind, loss_run, &k, launch, err));
    k->result = (double *)bind->out[0];
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_loss_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    loss_node *k = NULL;
    CKPT_TRY(bind_loss(bind, gradient_run, &k, launch, err));
    k->gradient = (float *)bind->out[0];
    return CKPT_OK;
}
