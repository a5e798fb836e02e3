/* CAST between all element types, by the rules of runtime/convert_math.h: nearest even; floats to integers towards
 * zero, saturating, NaN to 0; integers wrap; anything but 0 is true. */
#include "cuda/cuda_device.cuh"
#include "runtime/convert_math.h"

/* A source is read as a double or as an int64, both exactly; a destination has a rule for either. The types stand
 * for ckpt_dtype, since F16, BF16 and their bits share a C type. */
template <ckpt_dtype TYPE> struct element;

#define ELEMENT(TYPE, stored_type, wide_type, read_expression, from_real, from_whole)                        \
    template <> struct element<CKPT_##TYPE> {                                                                \
        typedef stored_type stored;                                                                          \
        typedef wide_type wide;                                                                              \
        __device__ static wide read(stored v) { return read_expression; }                                    \
        __device__ static stored write(double v) { return from_real; }                                       \
        __device__ static stored write(int64_t v) { return from_whole; }                                     \
    };
ELEMENT(F32, float, double, (double)v, (float)v, (float)v)
ELEMENT(F64, double, double, v, v, (double)v)
ELEMENT(I32, int32_t, int64_t, (int64_t)v, ckpt_i32_from_double(v), (int32_t)v)
ELEMENT(I64, int64_t, int64_t, v, ckpt_i64_from_double(v), v)
ELEMENT(BOOL, uint8_t, int64_t, (int64_t)(v != 0), (uint8_t)(v != 0.0), (uint8_t)(v != 0))
ELEMENT(F16, uint16_t, double, (double)ckpt_float_from_half(v), ckpt_half_from_float(ckpt_float_round_odd(v)),
        ckpt_half_from_float(ckpt_float_round_odd((double)v)))
ELEMENT(BF16, uint16_t, double, (double)ckpt_float_from_bfloat(v), ckpt_bfloat_from_float(ckpt_float_round_odd(v)),
        ckpt_bfloat_from_float(ckpt_float_round_odd((double)v)))

template <ckpt_dtype FROM, ckpt_dtype TO>
__global__ static void cast_kernel(const typename element<FROM>::stored *x, typename element<TO>::stored *y, int64_t count) {
    CKPT_EACH_ELEMENT(e, count) y[e] = element<TO>::write(element<FROM>::read(x[e]));
}

struct cast_node {
    const ckpt_cuda_context *context;
    const void *x;
    void *y;
    int64_t count;
};

/* Between floats and bf16, as in every layer of a bf16 step: in quads, without the detour. */
template <typename FROM, typename TO> __global__ static void quad_kernel(const FROM *x, TO *y, ckpt_plane plane) {
    float v[CKPT_PLANE_ROWS][4];
    CKPT_PLANE_EACH(plane, q, u, ckpt_load4(v[u], x + q.at, plane.vector, q.n), ckpt_store4(y + q.at, v[u], plane.vector, q.n))
}

template <typename FROM, typename TO> static void quad_run(const void *self, const ckpt_scalars *) {
    const cast_node *k = (const cast_node *)self;
    const ckpt_plane plane = ckpt_plane_run(k->count, ckpt_aligned16(k->x) && ckpt_aligned16(k->y));
    dim3 grid, block;
    if (k->count == 0) return;
    ckpt_plane_grid(&plane, &grid, &block);
    ckpt_cuda_start_flat(quad_kernel<FROM, TO>, grid, block, k->context->stream, (const FROM *)k->x, (TO *)k->y, plane);
}

template <ckpt_dtype FROM, ckpt_dtype TO> static void cast_run(const void *self, const ckpt_scalars *) {
    typedef typename element<FROM>::stored from;
    typedef typename element<TO>::stored to;
    const cast_node *k = (const cast_node *)self;
    if (k->count == 0) return;
    ckpt_cuda_start_flat(cast_kernel<FROM, TO>, dim3(ckpt_element_blocks(k->count)), dim3(CKPT_ELEMENT_THREADS),
                         k->context->stream, (const from *)k->x, (to *)k->y, k->count);
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
    if (from == CKPT_F32 && to == CKPT_BF16) return quad_run<float, ckpt_bf16>;
    if (from == CKPT_BF16 && to == CKPT_F32) return quad_run<ckpt_bf16, float>;
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
    k->count = ckpt_cuda_out_count(bind, 0);
    return CKPT_OK;
}
