/* CAST between all element types, by the rules of runtime/convert_math.h: nearest even; floats to integers towards
 * zero, saturating, NaN to 0; integers wrap; anything but 0 is true. */
#include "cuda/cuda_device.cuh"
#include "runtime/convert_math.h"

/* A source is read as a float, a double or an int64, exactly; a destination has a rule for each. The types stand for
 * ckpt_dtype, since F16, BF16 and their bits share a C type. */
template <ckpt_dtype TYPE> struct element;

#define ELEMENT(TYPE, stored_type, wide_type, read_expression, from_float, from_real, from_whole)            \
    template <> struct element<CKPT_##TYPE> {                                                                \
        typedef stored_type stored;                                                                          \
        typedef wide_type wide;                                                                              \
        __device__ static wide read(stored v) { return read_expression; }                                    \
        __device__ static stored write(float v) { return from_float; }                                       \
        __device__ static stored write(double v) { return from_real; }                                       \
        __device__ static stored write(int64_t v) { return from_whole; }                                     \
    };
ELEMENT(F32, float, float, v, v, (float)v, (float)v)
ELEMENT(F64, double, double, v, (double)v, v, (double)v)
ELEMENT(I32, int32_t, int64_t, (int64_t)v, ckpt_i32_from_double((double)v), ckpt_i32_from_double(v), (int32_t)v)
ELEMENT(I64, int64_t, int64_t, v, ckpt_i64_from_double((double)v), ckpt_i64_from_double(v), v)
ELEMENT(BOOL, uint8_t, int64_t, (int64_t)(v != 0), (uint8_t)(v != 0.0f), (uint8_t)(v != 0.0), (uint8_t)(v != 0))
ELEMENT(F16, uint16_t, float, ckpt_float_from_half(v), ckpt_half_from_float(v), ckpt_half_from_float(ckpt_float_round_odd(v)),
        ckpt_half_from_float(ckpt_float_round_odd((double)v)))
ELEMENT(BF16, uint16_t, float, ckpt_float_from_bfloat(v), ckpt_bfloat_from_float(v),
        ckpt_bfloat_from_float(ckpt_float_round_odd(v)), ckpt_bfloat_from_float(ckpt_float_round_odd((double)v)))

/* Four neighbours, moved at once: 4 to 16 bytes, or twice 16. */
template <typename T> struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) four {
    T v[4];
};

template <ckpt_dtype FROM, ckpt_dtype TO>
__global__ static void cast_kernel(const typename element<FROM>::stored *x, typename element<TO>::stored *y, ckpt_plane plane) {
    typedef four<typename element<FROM>::stored> from;
    typedef four<typename element<TO>::stored> to;
    from v[CKPT_PLANE_ROWS];
    CKPT_PLANE_EACH(
        plane, q, u,
        {
            if (plane.vector && q.n == 4) {
                v[u] = *(const from *)(x + q.at);
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++)
                    if (i < q.n) v[u].v[i] = x[q.at + i];
            }
        },
        {
            to w;
            if (plane.vector && q.n == 4) {
#pragma unroll
                for (int i = 0; i < 4; i++) w.v[i] = element<TO>::write(element<FROM>::read(v[u].v[i]));
                *(to *)(y + q.at) = w;
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++)
                    if (i < q.n) y[q.at + i] = element<TO>::write(element<FROM>::read(v[u].v[i]));
            }
        })
}

struct cast_node {
    const ckpt_cuda_context *context;
    const void *x;
    void *y;
    ckpt_plane plane;
};

template <ckpt_dtype FROM, ckpt_dtype TO> static void cast_run(const void *self, const ckpt_scalars *) {
    typedef typename element<FROM>::stored from;
    typedef typename element<TO>::stored to;
    const cast_node *k = (const cast_node *)self;
    dim3 grid, block;
    if (k->plane.count == 0) return;
    ckpt_plane_grid(&k->plane, &grid, &block);
    ckpt_cuda_start_flat(cast_kernel<FROM, TO>, grid, block, k->context->stream, (const from *)k->x, (to *)k->y, k->plane);
}

template <ckpt_dtype FROM> static void (*run_to(ckpt_dtype to))(const void *, const ckpt_scalars *) {
    switch (to) {
#define X(TO, bytes)                                                                                         \
    case CKPT_##TO: return cast_run<FROM, CKPT_##TO>;
        CKPT_DTYPE_LIST(X)
#undef X
    }
    return NULL;
}

static void (*run_for(ckpt_dtype from, ckpt_dtype to))(const void *, const ckpt_scalars *) {
    switch (from) {
#define X(FROM, bytes)                                                                                       \
    case CKPT_##FROM: return run_to<CKPT_##FROM>(to);
        CKPT_DTYPE_LIST(X)
#undef X
    }
    return NULL;
}

extern "C" ckpt_status ckpt_cuda_cast(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 1, 1, err));
    const ckpt_tensor *tensor = bind->graph->tensor;
    cast_node *k = (cast_node *)ckpt_cuda_launch(
        bind, sizeof *k, run_for(tensor[bind->node->in[0]].dtype, tensor[bind->node->out[0]].dtype), launch, err);
    if (!k) return CKPT_NOMEM;
    k->x = bind->in[0];
    k->y = bind->out[0];
    k->plane = ckpt_plane_run(ckpt_cuda_out_count(bind, 0), ckpt_aligned16(k->x) && ckpt_aligned16(k->y));
    return CKPT_OK;
}
