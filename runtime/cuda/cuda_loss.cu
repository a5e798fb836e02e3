/* The losses and their gradients (formulas: graph/op_loss.c, runtime/loss_math.h). An item is what a mean is over: a row of
 * classes, of which those with a negative class do not count, or a value. Item losses are single precision, their sum
 * double, in 256 parts, each in order: the CPU's order. A row whose classes lie beside each other is a group's, one whose
 * classes lie `inner` apart a thread's. A class beyond the last makes the loss NaN: data is checked before it gets here. */
#include "cuda/cuda_device.cuh"
#include "runtime/loss_math.h"

struct loss_node {
    const ckpt_cuda_context *context;
    const ckpt_scalars *scalars; /* in the slot */
    ckpt_loss kind;
    int term;
    bool sum, shares; /* shares: every class may have one, not the target's alone */
    double scale;
    int64_t items, classes, inner;
    int64_t samples; /* of the graph that runs */
    const float *x, *value;
    const int32_t *target;
    ckpt_mix mix;
    float *gradient;
    double *part, *result;
    int64_t *hits;
};

/* None when nothing in the whole batch counts. */
__device__ static inline int64_t counted_items(const loss_node &k) {
    return k.scalars->denominator[k.term] == 0 ? 0 : k.items;
}

/* What one item counts in the sum of all losses. */
__device__ static inline double item_factor(const loss_node &k) {
    return k.scalars->denominator[k.term] == 0 ? 0 : k.scale / k.scalars->denominator[k.term];
}

/* The row's class; 0 where targets are probabilities. */
__device__ static inline int64_t class_of(const loss_node &k, int64_t r) { return k.target ? k.target[r] : 0; }

/* The share of class c of a row, with its target at `at`. */
__device__ static inline float share_of(const loss_node &k, int64_t c, int64_t class_, int64_t at) {
    return ckpt_mix_share(k.mix, c, k.value ? k.value[at] : c == class_ ? 1.0f : 0.0f);
}

/* Rows of a group */

__device__ static inline ckpt_exp_sums group_exp_sums(const float *x, int64_t n) {
    const float max = ckpt_group_row_max(x, n);
    float one = 0, rest = 0;
#pragma unroll 4
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) {
        const float e = ckpt_exp(x[j] - max);
        one += ckpt_exp_if_one(e);
        rest += ckpt_exp_if_less(e);
    }
    const ckpt_exp_sums sums = {max, ckpt_group_fold(one), ckpt_group_fold(rest)};
    return sums;
}

/* Sum of exp(x - max) over all classes but one, which is *own; -1: over all. */
__device__ static inline float group_but(const float *x, int64_t n, float max, int64_t class_, float *own) {
    float sum = 0, e = 0;
#pragma unroll 4
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) {
        const float v = ckpt_exp(x[j] - max);
        sum += j == class_ ? 0.0f : v;
        e = j == class_ ? v : e;
    }
    *own = __shfl_sync(ckpt_group_mask(), e, (int)(class_ & (CKPT_LANES - 1)), CKPT_LANES);
    return ckpt_group_fold(sum);
}

/* Whether a number before `end` is `max`. */
__device__ static inline bool group_has(const float *x, int64_t end, float max) {
    float found = 0;
    for (int64_t j = ckpt_group_lane(); j < end; j += CKPT_LANES) found = x[j] == max ? 1.0f : found;
    return ckpt_group_max(found) != 0.0f;
}

/* Both have their first of the greatest at one class. */
__device__ static inline bool group_same_argmax(const float *x, const float *t, int64_t n, float max) {
    const float most = ckpt_group_row_max(t, n);
    int64_t first = 0;
    while (first < n && x[first] != max) first++;
    return first < n && t[first] == most && !group_has(t, first, most);
}

struct group_rows {
    enum { WORKERS = CKPT_GROUPS };
    __device__ static int worker() { return (int)(threadIdx.x / CKPT_LANES); }
    __device__ static int workers() { return (int)(blockDim.x / CKPT_LANES); }
    __device__ static bool leads() { return ckpt_group_lane() == 0; }

    __device__ static float loss(const loss_node &k, int64_t r, int64_t class_, int *hit) {
        const int64_t n = k.classes;
        const float *x = k.x + r * n;
        if (k.kind == CKPT_LOSS_NLL) {
            const float max = ckpt_group_row_max(x, n);
            *hit = x[class_] == max && !group_has(x, class_, max);
            return -(ckpt_mix_weight(k.mix, class_) * x[class_]);
        }
        if (!k.shares) {
            const float max = ckpt_group_row_max(x, n);
            float own;
            *hit = x[class_] == max && !group_has(x, class_, max);
            const float sum = group_but(x, n, max, x[class_] == max ? class_ : -1, &own);
            return ckpt_mix_weight(k.mix, class_) * ckpt_class_loss(x[class_], max, sum);
        }
        const ckpt_exp_sums sums = group_exp_sums(x, n);
        const float log = ckpt_exp_sums_log(sums);
        *hit = k.value ? group_same_argmax(x, k.value + r * n, n, sums.max)
                       : x[class_] == sums.max && !group_has(x, class_, sums.max);
        float sum = 0;
        for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES)
            sum += ckpt_share_loss(share_of(k, j, class_, r * n + j), x[j], sums.max, log);
        return ckpt_group_fold(sum);
    }
};

/* Rows of a thread */

__device__ static inline int64_t row_at(const loss_node &k, int64_t r) {
    const int64_t i = ckpt_split(&r, k.inner);
    return r * k.classes * k.inner + i;
}

__device__ static inline float thread_max(const float *x, int64_t n, int64_t stride) {
    float max = -INFINITY;
    for (int64_t c = 0; c < n; c++) max = x[c * stride] > max ? x[c * stride] : max;
    return max;
}

__device__ static inline ckpt_exp_sums thread_exp_sums(const float *x, int64_t n, int64_t stride) {
    ckpt_exp_sums sums = {thread_max(x, n, stride), 0, 0};
    for (int64_t c = 0; c < n; c++) {
        const float e = ckpt_exp(x[c * stride] - sums.max);
        sums.ones += ckpt_exp_if_one(e);
        sums.rest += ckpt_exp_if_less(e);
    }
    return sums;
}

__device__ static inline int64_t first_of(const float *x, int64_t n, int64_t stride, float max) {
    int64_t c = 0;
    while (c < n && x[c * stride] != max) c++;
    return c;
}

struct thread_rows {
    enum { WORKERS = CKPT_GROUP_THREADS };
    __device__ static int worker() { return (int)threadIdx.x; }
    __device__ static int workers() { return (int)blockDim.x; }
    __device__ static bool leads() { return true; }

    __device__ static float loss(const loss_node &k, int64_t r, int64_t class_, int *hit) {
        const int64_t n = k.classes, at = row_at(k, r);
        const float *x = k.x + at, *t = k.value ? k.value + at : NULL;
        if (k.kind == CKPT_LOSS_NLL) {
            *hit = first_of(x, n, k.inner, thread_max(x, n, k.inner)) == class_;
            return -(ckpt_mix_weight(k.mix, class_) * x[class_ * k.inner]);
        }
        const ckpt_exp_sums sums = thread_exp_sums(x, n, k.inner);
        const float log = ckpt_exp_sums_log(sums);
        const int64_t best = first_of(x, n, k.inner, sums.max);
        *hit = best == (t ? first_of(t, n, k.inner, thread_max(t, n, k.inner)) : class_);
        float sum = 0;
        for (int64_t c = 0; c < n; c++)
            sum += ckpt_share_loss(share_of(k, c, class_, at + c * k.inner), x[c * k.inner], sums.max, log);
        return sum;
    }
};

/* LOSS */

/* A block a part: its workers make row losses side by side, which one thread adds in order. */
template <typename ROWS> __global__ static void row_loss_kernel(loss_node k) {
    __shared__ float row_loss[ROWS::WORKERS];
    __shared__ int row_hit[ROWS::WORKERS];
    const int64_t items = counted_items(k), part = (items + CKPT_CUDA_PARTS - 1) / CKPT_CUDA_PARTS;
    const int64_t first = blockIdx.x * part, last = first + part < items ? first + part : items;
    const int workers = ROWS::workers(), own = ROWS::worker();
    double loss = 0;
    int64_t hits = 0;
    for (int64_t base = first; base < last; base += workers) {
        const int64_t class_ = base + own < last ? class_of(k, base + own) : -1;
        int hit = 0;
        float value = class_ < k.classes ? 0.0f : NAN;
        if (class_ >= 0 && class_ < k.classes) value = ROWS::loss(k, base + own, class_, &hit);
        if (ROWS::leads()) {
            row_loss[own] = value;
            row_hit[own] = hit;
        }
        __syncthreads();
        for (int w = 0; threadIdx.x == 0 && w < workers && base + w < last; w++) {
            loss += (double)row_loss[w];
            hits += row_hit[w];
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
    const int64_t items = counted_items(k), part = (items + CKPT_CUDA_PARTS - 1) / CKPT_CUDA_PARTS;
    const int64_t first = blockIdx.x * part, left = items - first;
    int hits = 0;
    const double loss = ckpt_blocks_sum(left < part ? left : part, CKPT_LOSS_BLOCK, [&](int64_t at, int64_t n) {
        double lane = 0;
#pragma unroll 8
        for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) {
            const float x = k.x[first + at + j], t = k.value[first + at + j], d = x - t;
            lane += (double)(k.kind == CKPT_LOSS_BCE ? ckpt_bce(x, t) : d * d);
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
    k.result[0] += loss * item_factor(k);
    k.result[1] += (double)hits;
}

static bool has_rows(const loss_node *k) { return k->kind == CKPT_LOSS_CE || k->kind == CKPT_LOSS_NLL; }

static void loss_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const loss_node *k = (const loss_node *)self;
    /* No more workers than a part has rows, or blocks of values, when all samples count. */
    const bool strided = has_rows(k) && k->inner > 1;
    const int64_t work = has_rows(k) ? k->items : (k->items + CKPT_LOSS_BLOCK - 1) / CKPT_LOSS_BLOCK;
    const int64_t part = (work + CKPT_CUDA_PARTS - 1) / CKPT_CUDA_PARTS, most = strided ? CKPT_GROUP_THREADS : CKPT_GROUPS;
    const unsigned workers = part < 1 ? 1u : (unsigned)(part < most ? part : most);
    ckpt_cuda_start(strided       ? row_loss_kernel<thread_rows>
                    : has_rows(k) ? row_loss_kernel<group_rows>
                                  : value_loss_kernel,
                    dim3(CKPT_CUDA_PARTS), dim3(strided ? workers : workers * CKPT_LANES), k->context->stream, *k);
    ckpt_cuda_start(loss_total_kernel, dim3(1), dim3(CKPT_CUDA_PARTS), k->context->stream, *k);
}

/* LOSS_GRAD, which may be written over the prediction: nothing is read that another thread writes. */

__global__ static void group_grad_kernel(loss_node k) {
    const int64_t r = ckpt_group_row(), n = k.classes;
    const int lane = ckpt_group_lane();
    if (r >= k.items) return;
    const float *x = k.x + r * n;
    float *g = k.gradient + r * n;
    const int64_t class_ = class_of(k, r);
    if (r >= counted_items(k) || class_ < 0 || class_ >= n) {
        for (int64_t j = lane; j < n; j += CKPT_LANES) g[j] = 0.0f;
        return;
    }
    float factor = (float)item_factor(k), own = 0;
    /* Exponentials again rather than stored between: a row of many classes is in no cache. */
    if (!k.shares) {
        const float max = ckpt_group_row_max(x, n), others = group_but(x, n, max, class_, &own), inverse = 1.0f / (own + others);
        factor = ckpt_mix_weight(k.mix, class_) * factor;
        for (int64_t j = lane; j < n; j += CKPT_LANES)
            g[j] = j == class_ ? 0.0f - others * inverse * factor : ckpt_exp(x[j] - max) * inverse * factor;
        return;
    }
    const ckpt_exp_sums sums = group_exp_sums(x, n);
    const float inverse = ckpt_exp_sums_inverse(sums);
    for (int64_t j = lane; j < n; j += CKPT_LANES) own += share_of(k, j, class_, r * n + j);
    const float all = ckpt_group_fold(own);
    for (int64_t j = lane; j < n; j += CKPT_LANES)
        g[j] = ckpt_share_gradient(ckpt_exp(x[j] - sums.max), sums, inverse, all, share_of(k, j, class_, r * n + j)) * factor;
}

__global__ static void thread_grad_kernel(loss_node k) {
    const float factor = (float)item_factor(k);
    const int64_t real = counted_items(k);
    CKPT_EACH_ELEMENT(r, k.items) {
        const int64_t at = row_at(k, r), class_ = class_of(k, r);
        const float *x = k.x + at;
        float *g = k.gradient + at;
        if (r >= real || class_ < 0 || class_ >= k.classes) {
            for (int64_t c = 0; c < k.classes; c++) g[c * k.inner] = 0.0f;
            continue;
        }
        const ckpt_exp_sums sums = thread_exp_sums(x, k.classes, k.inner);
        const float inverse = ckpt_exp_sums_inverse(sums);
        float all = 0;
        for (int64_t c = 0; c < k.classes; c++) all += share_of(k, c, class_, at + c * k.inner);
        for (int64_t c = 0; c < k.classes; c++) {
            const float e = ckpt_exp(x[c * k.inner] - sums.max);
            g[c * k.inner] = ckpt_share_gradient(e, sums, inverse, all, share_of(k, c, class_, at + c * k.inner)) * factor;
        }
    }
}

__global__ static void nll_grad_kernel(loss_node k) {
    const float factor = (float)item_factor(k);
    const int64_t real = counted_items(k);
    CKPT_EACH_ELEMENT(e, k.items * k.classes) {
        int64_t o = e;
        const int64_t i = ckpt_split(&o, k.inner), c = ckpt_split(&o, k.classes), r = o * k.inner + i;
        k.gradient[e] = r < real && k.target[r] == c ? -(ckpt_mix_weight(k.mix, c) * factor) : 0.0f;
    }
}

template <ckpt_loss KIND> __global__ static void value_grad_kernel(loss_node k, ckpt_plane plane) {
    const float factor = (float)item_factor(k);
    const int64_t real = counted_items(k);
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
                const float d = KIND == CKPT_LOSS_BCE ? ckpt_bce_gradient(v, t[u][i]) * factor : (v - t[u][i]) * (2.0f * factor);
                x[u][i] = q.at + i < real ? d : 0.0f;
            }
            ckpt_store4(k.gradient + q.at, x[u], plane.vector, q.n);
        })
}

static void gradient_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const loss_node *k = (const loss_node *)self;
    const cudaStream_t stream = k->context->stream;
    if (k->items == 0 || k->classes == 0) return;
    if (k->kind == CKPT_LOSS_CE && k->inner > 1) {
        ckpt_cuda_start(thread_grad_kernel, dim3(ckpt_element_blocks(k->items)), dim3(CKPT_ELEMENT_THREADS), stream, *k);
    } else if (k->kind == CKPT_LOSS_CE) {
        ckpt_cuda_start(group_grad_kernel, dim3(ckpt_group_blocks(k->items)), dim3(CKPT_GROUP_THREADS), stream, *k);
    } else if (k->kind == CKPT_LOSS_NLL) {
        ckpt_cuda_start_flat(nll_grad_kernel, dim3(ckpt_element_blocks(k->items * k->classes)), dim3(CKPT_ELEMENT_THREADS), stream,
                             *k);
    } else {
        const bool aligned = ckpt_aligned16(k->x) && ckpt_aligned16(k->value) && ckpt_aligned16(k->gradient);
        const ckpt_plane plane = ckpt_plane_run(k->items, aligned);
        dim3 grid, block;
        ckpt_plane_grid(&plane, &grid, &block);
        ckpt_cuda_start_flat(k->kind == CKPT_LOSS_BCE ? value_grad_kernel<CKPT_LOSS_BCE> : value_grad_kernel<CKPT_LOSS_MSE>,
                             grid, block, stream, *k, plane);
    }
}

/* A loss that the file computed: the sum over micro-batches, or their mean by samples. */
__device__ static inline float own_factor(const loss_node &k) {
    return (float)(k.sum ? k.scale : (double)k.samples * item_factor(k));
}

__global__ static void own_kernel(loss_node k) { k.result[0] += (double)(own_factor(k) * k.x[0]); }
__global__ static void own_grad_kernel(loss_node k) { k.gradient[0] = own_factor(k); }

static void own_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const loss_node *k = (const loss_node *)self;
    ckpt_cuda_start_flat(k->gradient ? own_grad_kernel : own_kernel, dim3(1), dim3(1), k->context->stream, *k);
}

/* Binding */

static ckpt_status bind_loss(const ckpt_bind *bind, void (*run)(const void *, const ckpt_scalars *), loss_node **node,
                             ckpt_launch *launch, ckpt_error *err) {
    const ckpt_node *n = bind->node;
    CKPT_TRY(ckpt_cuda_require(bind, n->in_count, 1, err));
    loss_node *k = (loss_node *)ckpt_cuda_launch(bind, sizeof *k, n->attr.loss.kind == CKPT_LOSS_FILE ? own_run : run, launch, err);
    if (!k) return CKPT_NOMEM;
    const bool classes = ckpt_loss_takes_classes(n);
    k->kind = n->attr.loss.kind;
    k->term = n->attr.loss.term;
    k->sum = n->attr.loss.sum;
    k->shares = n->attr.loss.soft || n->attr.loss.smoothing > 0;
    k->scale = (double)n->attr.loss.scale;
    k->items = ckpt_loss_items(n);
    k->classes = n->attr.loss.classes;
    k->inner = n->attr.loss.inner;
    k->samples = bind->graph->batch;
    k->x = (const float *)bind->in[0];
    k->target = (const int32_t *)(classes ? bind->in[1] : NULL);
    k->value = (const float *)(classes ? NULL : bind->in[1]);
    k->mix.weight = (const float *)ckpt_cuda_in(bind, 2);
    k->mix.keep = 1.0f - n->attr.loss.smoothing;
    k->mix.spread = n->attr.loss.smoothing / (float)k->classes;
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
