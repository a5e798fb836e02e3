/* Max, Min and Pow with broadcasting, for f32, f64, i32 and i64, and their gradients for f32 (runtime/pair_math.h). */
#include "cuda/cuda_broadcast.cuh"
#include "runtime/pair_math.h"

__device__ static inline float pair_of(ckpt_pair kind, float a, float b) { return ckpt_pair_value(kind, a, b); }
__device__ static inline double pair_of(ckpt_pair kind, double a, double b) { return ckpt_pair_double(kind, a, b); }
__device__ static inline int32_t pair_of(ckpt_pair kind, int32_t a, int32_t b) { return (int32_t)ckpt_pair_whole(kind, a, b); }
__device__ static inline int64_t pair_of(ckpt_pair kind, int64_t a, int64_t b) { return ckpt_pair_whole(kind, a, b); }

template <ckpt_pair KIND, typename T> struct pair {
    typedef T type;
    static const bool GRADIENT = false;
    __device__ static T apply(T a, T b, T) { return pair_of(KIND, a, b); }
};

template <ckpt_pair KIND, bool SECOND> struct slope {
    typedef float type;
    static const bool GRADIENT = true;
    __device__ static float apply(float a, float b, float dc) { return ckpt_pair_slope(KIND, SECOND, dc, a, b); }
};

#define KINDS(run, T) {run<pair<CKPT_PAIR_MAX, T>>, run<pair<CKPT_PAIR_MIN, T>>, run<pair<CKPT_PAIR_POW, T>>}
static const ckpt_run_function plane_table[3] = KINDS(ckpt_broadcast_plane_run, float);
static const ckpt_run_function element_table[4][3] = {
    KINDS(ckpt_broadcast_element_run, float), KINDS(ckpt_broadcast_element_run, double),
    KINDS(ckpt_broadcast_element_run, int32_t), KINDS(ckpt_broadcast_element_run, int64_t)};

#define SLOPES(run)                                                                                          \
    {{run<slope<CKPT_PAIR_MAX, false>>, run<slope<CKPT_PAIR_MAX, true>>},                                    \
     {run<slope<CKPT_PAIR_MIN, false>>, run<slope<CKPT_PAIR_MIN, true>>},                                    \
     {run<slope<CKPT_PAIR_POW, false>>, run<slope<CKPT_PAIR_POW, true>>}}
static const ckpt_run_function slope_plane_table[3][2] = SLOPES(ckpt_broadcast_plane_run);
static const ckpt_run_function slope_element_table[3][2] = SLOPES(ckpt_broadcast_element_run);

extern "C" ckpt_status ckpt_cuda_pair(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 2, 1, err));
    const int type = ckpt_arithmetic_type(bind, err);
    if (type < 0) return CKPT_MODEL;
    const ckpt_pair kind = bind->node->attr.pair.kind;
    ckpt_broadcast *k = (ckpt_broadcast *)ckpt_cuda_launch(bind, sizeof *k, element_table[type][kind], launch, err);
    if (!k) return CKPT_NOMEM;
    if (ckpt_broadcast_bind(k, &bind->node->attr.pair.geometry, bind->in[0], bind->in[1], NULL, bind->out[0]) && type == 0)
        launch->run = plane_table[kind];
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_pair_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 3, 1, err));
    const ckpt_pair kind = bind->node->attr.pair.kind;
    const bool second = bind->node->attr.pair.second;
    ckpt_broadcast *k = (ckpt_broadcast *)ckpt_cuda_launch(bind, sizeof *k, slope_element_table[kind][second], launch, err);
    if (!k) return CKPT_NOMEM;
    if (ckpt_broadcast_bind(k, &bind->node->attr.pair.geometry, bind->in[1], bind->in[2], bind->in[0], bind->out[0]))
        launch->run = slope_plane_table[kind][second];
    return CKPT_OK;
}
