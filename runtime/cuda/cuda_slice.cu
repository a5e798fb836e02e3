/* SLICE, PLACE and CONCAT: bytes moved in units as wide as the geometry's last axis and all addresses allow, up to 16
 * bytes, several a thread. A PLACE that is a gradient adds to a sum; one written over its sum touches the part only. */
#include "cuda/cuda_device.cuh"

struct slice_node {
    const ckpt_cuda_context *context;
    ckpt_slice_attr geometry; /* in units */
    int64_t whole_count, part_count;
    int unit_bytes;
    const void *from, *sum;
    void *to;
    float fill;
};

/* Where unit e of the part lies in the whole. */
__device__ static inline int64_t place_of(const ckpt_slice_attr &g, int64_t e) {
    int64_t at = 0, stride = 1;
    for (int i = g.rank - 1; i >= 0; i--) {
        at += (g.start[i] + ckpt_split(&e, g.part[i]) * g.step[i]) * stride;
        stride *= g.whole[i];
    }
    return at;
}

/* Which unit of the part lies at unit e of the whole; -1: none. */
__device__ static inline int64_t part_at(const ckpt_slice_attr &g, int64_t e) {
    int64_t at = 0, stride = 1;
    bool inside = true;
    for (int i = g.rank - 1; i >= 0; i--) {
        const int64_t distance = ckpt_split(&e, g.whole[i]) - g.start[i];
        const int64_t index = g.step[i] == 1 ? distance : distance / g.step[i];
        inside = inside && index * g.step[i] == distance && index >= 0 && index < g.part[i];
        at += index * stride;
        stride *= g.part[i];
    }
    return inside ? at : -1;
}

__device__ static inline float sum_of(float a, float b) { return a + b; }
__device__ static inline ckpt_unit16 sum_of(ckpt_unit16 a, const ckpt_unit16 &b) {
#pragma unroll
    for (int i = 0; i < 4; i++) a.value[i] += b.value[i];
    return a;
}
template <typename T> __device__ static inline T filled(float) { return (T)0; }
template <> __device__ inline float filled<float>(float value) { return value; }
template <> __device__ inline ckpt_unit16 filled<ckpt_unit16>(float v) {
    const ckpt_unit16 u = {{v, v, v, v}};
    return u;
}

template <typename T> __global__ static void slice_kernel(slice_node k) {
    const T *from = (const T *)k.from;
    T *to = (T *)k.to, v[CKPT_UNITS];
    CKPT_EACH_UNIT(e, u, k.part_count, v[u] = from[place_of(k.geometry, e)], to[e] = v[u])
}

template <typename T> __global__ static void place_kernel(slice_node k) {
    const T *from = (const T *)k.from;
    T *to = (T *)k.to, v[CKPT_UNITS];
    CKPT_EACH_UNIT(
        e, u, k.whole_count,
        {
            const int64_t at = part_at(k.geometry, e);
            v[u] = at >= 0 ? from[at] : filled<T>(k.fill);
        },
        to[e] = v[u])
}

/* to = sum, with the part added. */
template <typename T> __global__ static void place_sum_kernel(slice_node k) {
    const T *from = (const T *)k.from, *sum = (const T *)k.sum;
    T *to = (T *)k.to, v[CKPT_UNITS];
    CKPT_EACH_UNIT(
        e, u, k.whole_count,
        {
            const int64_t at = part_at(k.geometry, e);
            v[u] = at >= 0 ? sum_of(sum[e], from[at]) : sum[e];
        },
        to[e] = v[u])
}

/* The same where the sum is written over. */
template <typename T> __global__ static void place_add_kernel(slice_node k) {
    const T *from = (const T *)k.from;
    T *to = (T *)k.to, v[CKPT_UNITS];
    CKPT_EACH_UNIT(e, u, k.part_count, v[u] = sum_of(to[place_of(k.geometry, e)], from[e]), to[place_of(k.geometry, e)] = v[u])
}

static void start(const slice_node *k, int64_t count, void (*kernel)(slice_node)) {
    if (count == 0) return;
    ckpt_cuda_start_flat(kernel, dim3(ckpt_unit_blocks(count)), dim3(CKPT_ELEMENT_THREADS), k->context->stream, *k);
}

static void slice_run(const void *self, const ckpt_scalars *) {
    const slice_node *k = (const slice_node *)self;
    start(k, k->part_count,
          k->unit_bytes == 16  ? slice_kernel<ckpt_unit16>
          : k->unit_bytes == 8 ? slice_kernel<uint64_t>
          : k->unit_bytes == 4 ? slice_kernel<float>
          : k->unit_bytes == 2 ? slice_kernel<uint16_t>
                               : slice_kernel<uint8_t>);
}

static void place_run(const void *self, const ckpt_scalars *) {
    const slice_node *k = (const slice_node *)self;
    const bool wide = k->unit_bytes == 16;
    if (k->sum && k->sum == k->to)
        start(k, k->part_count, wide ? place_add_kernel<ckpt_unit16> : place_add_kernel<float>);
    else if (k->sum)
        start(k, k->whole_count, wide ? place_sum_kernel<ckpt_unit16> : place_sum_kernel<float>);
    else
        start(k, k->whole_count,
              wide                 ? place_kernel<ckpt_unit16>
              : k->unit_bytes == 8 ? place_kernel<uint64_t>
              : k->unit_bytes == 4 ? place_kernel<float>
              : k->unit_bytes == 2 ? place_kernel<uint16_t>
                                   : place_kernel<uint8_t>);
}

/* Elements that move together: at most 16 bytes, a power of two that divides where the part and its rows begin. Sums and
 * fills are of floats, which go by ones or fours. */
static int64_t elements_of_unit(const slice_node *k, int64_t element_bytes) {
    const ckpt_slice_attr *g = &k->geometry;
    const int last = g->rank - 1;
    const uint64_t addresses = (uint64_t)(uintptr_t)k->from | (uint64_t)(uintptr_t)k->sum | (uint64_t)(uintptr_t)k->to;
    int64_t n = 16 / element_bytes;
    if (g->step[last] != 1) return 1;
    while (n > 1 && ((uint64_t)(g->part[last] | g->whole[last] | g->start[last]) % (uint64_t)n || addresses % (uint64_t)(n * element_bytes)))
        n = element_bytes == 4 && (k->sum || k->fill != 0) ? 1 : n / 2;
    return n;
}

static ckpt_status bind_slice(const ckpt_bind *bind, void (*run)(const void *, const ckpt_scalars *), const void *sum,
                              ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 1, 1, err));
    const ckpt_dtype type = bind->graph->tensor[bind->node->out[0]].dtype;
    const ckpt_slice_attr *given = &bind->node->attr.slice;
    if (given->fill != CKPT_FILL_CONSTANT || (given->value != 0 && type != CKPT_F32))
        return ckpt_fail(err, CKPT_MODEL, "node '%s': CUDA pads floats with a constant and other types with 0 only",
                         ckpt_cuda_node_name(bind));
    slice_node *k = (slice_node *)ckpt_cuda_launch(bind, sizeof *k, run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->geometry = ckpt_slice_merged(given);
    k->from = bind->in[0];
    k->sum = sum;
    k->to = bind->out[0];
    k->fill = given->value;
    const int64_t element_bytes = (int64_t)ckpt_dtype_bytes(type), n = elements_of_unit(k, element_bytes);
    const int last = k->geometry.rank - 1;
    k->geometry.part[last] /= n, k->geometry.whole[last] /= n, k->geometry.start[last] /= n;
    k->unit_bytes = (int)(n * element_bytes);
    k->part_count = k->whole_count = 1;
    for (int i = 0; i <= last; i++) {
        k->part_count *= k->geometry.part[i];
        k->whole_count *= k->geometry.whole[i];
    }
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_slice(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_slice(bind, slice_run, NULL, launch, err);
}

extern "C" ckpt_status ckpt_cuda_place(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_slice(bind, place_run, ckpt_cuda_in(bind, 1), launch, err);
}

/* CONCAT: outer x (shares one after the other) x inner; blockIdx.y is an input, x counts its units. */

struct concat_input {
    const void *from;
    int64_t share, start; /* units of an outer, and where they begin in the output's */
};

struct concat_node {
    const ckpt_cuda_context *context;
    int count;
    int64_t outer, row; /* units of an outer of the output */
    int64_t most;       /* units of the largest input */
    int unit_bytes;
    void *to;
    concat_input input[CKPT_MAX_IN];
};

template <typename T> __global__ static void concat_kernel(concat_node k) {
    const concat_input &in = k.input[blockIdx.y];
    const T *from = (const T *)in.from;
    T *to = (T *)k.to + in.start, v[CKPT_UNITS];
    const int64_t count = k.outer * in.share;
    CKPT_EACH_UNIT(e, u, count, v[u] = from[e], {
        int64_t o = e;
        const int64_t i = ckpt_split(&o, in.share);
        to[o * k.row + i] = v[u];
    })
}

static void concat_run(const void *self, const ckpt_scalars *) {
    const concat_node *k = (const concat_node *)self;
    if (k->most == 0) return;
    ckpt_cuda_start_flat(k->unit_bytes == 16  ? concat_kernel<ckpt_unit16>
                         : k->unit_bytes == 8 ? concat_kernel<uint64_t>
                         : k->unit_bytes == 4 ? concat_kernel<uint32_t>
                         : k->unit_bytes == 2 ? concat_kernel<uint16_t>
                                              : concat_kernel<uint8_t>,
                         dim3(ckpt_unit_blocks(k->most), (unsigned)k->count), dim3(CKPT_ELEMENT_THREADS), k->context->stream, *k);
}

extern "C" ckpt_status ckpt_cuda_concat(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const int count = bind->node->in_count;
    CKPT_TRY(ckpt_cuda_require(bind, count, 1, err));
    concat_node *k = (concat_node *)ckpt_cuda_launch(bind, sizeof *k, concat_run, launch, err);
    if (!k) return CKPT_NOMEM;
    const int64_t size = (int64_t)ckpt_dtype_bytes(bind->graph->tensor[bind->node->out[0]].dtype);
    k->count = count;
    k->outer = bind->node->attr.axis.outer;
    k->to = bind->out[0];
    uint64_t all = (uint64_t)(uintptr_t)k->to; /* bits of every address and every run's bytes */
    for (int i = 0; i < count; i++) {
        k->input[i].from = bind->in[i];
        k->input[i].share = k->outer > 0 ? ckpt_cuda_in_count(bind, i) / k->outer * size : 0;
        if (k->input[i].share) all |= (uint64_t)(uintptr_t)bind->in[i] | (uint64_t)k->input[i].share;
    }
    for (k->unit_bytes = 16; all % (uint64_t)k->unit_bytes; k->unit_bytes /= 2) {}
    for (int i = 0; i < count; i++) {
        k->input[i].share /= k->unit_bytes;
        k->input[i].start = k->row;
        k->row += k->input[i].share;
        if (k->outer * k->input[i].share > k->most) k->most = k->outer * k->input[i].share;
    }
    return CKPT_OK;
}
