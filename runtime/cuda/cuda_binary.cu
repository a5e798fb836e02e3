/* c = a op b with broadcasting, for f32, f64, i32, i64, and bf16, which is computed in f32. Integers wrap; dividing one by zero gives 0, as on the
 * CPU. */
#include "cuda/cuda_broadcast.cuh"

template <typename T> struct unsigned_of { typedef T type; };
template <> struct unsigned_of<int32_t> { typedef uint32_t type; };
template <> struct unsigned_of<int64_t> { typedef uint64_t type; };

template <typename T> __device__ static inline T quotient(T x, T y) {
    typedef typename unsigned_of<T>::type wide;
    return y == 0 ? 0 : y == -1 ? (T)((wide)0 - (wide)x) : x / y;
}
template <> __device__ inline float quotient(float x, float y) { return x / y; }
template <> __device__ inline double quotient(double x, double y) { return x / y; }

template <ckpt_binary KIND, typename T> struct binary {
    typedef T type;
    static const bool GRADIENT = false;
    __device__ static T apply(T x, T y, T) {
        typedef typename unsigned_of<T>::type wide;
        if (KIND == CKPT_BINARY_ADD) return (T)((wide)x + (wide)y);
        if (KIND == CKPT_BINARY_SUB) return (T)((wide)x - (wide)y);
        if (KIND == CKPT_BINARY_MUL) return (T)((wide)x * (wide)y);
        return quotient<T>(x, y);
    }
};

#define KINDS(run, T, ...)                                                                                   \
    {run<binary<CKPT_BINARY_ADD, T> __VA_ARGS__>, run<binary<CKPT_BINARY_SUB, T> __VA_ARGS__>,               \
     run<binary<CKPT_BINARY_MUL, T> __VA_ARGS__>, run<binary<CKPT_BINARY_DIV, T> __VA_ARGS__>}

static const ckpt_run_function plane_table[2][4] = {
    KINDS(ckpt_broadcast_plane_run, float, ), KINDS(ckpt_broadcast_plane_run, float, , ckpt_bf16)};
static const ckpt_run_function element_table[5][4] = {
    KINDS(ckpt_broadcast_element_run, float, ), KINDS(ckpt_broadcast_element_run, double, ),
    KINDS(ckpt_broadcast_element_run, int32_t, ), KINDS(ckpt_broadcast_element_run, int64_t, ),
    KINDS(ckpt_broadcast_element_run, float, , ckpt_bf16)};

extern "C" ckpt_status ckpt_cuda_binary(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 2, 1, err));
    const bool bf16 = bind->graph->tensor[bind->node->out[0]].dtype == CKPT_BF16;
    const int type = bf16 ? 4 : ckpt_arithmetic_type(bind, err);
    if (type < 0) return CKPT_MODEL;
    const ckpt_binary kind = bind->node->attr.binary.kind;
    ckpt_broadcast *k = (ckpt_broadcast *)ckpt_cuda_launch(bind, sizeof *k, element_table[type][kind], launch, err);
    if (!k) return CKPT_NOMEM;
    if (ckpt_broadcast_bind(k, &bind->node->attr.binary, bind->in[0], bind->in[1], NULL, bind->out[0]) && (type == 0 || bf16))
        launch->run = plane_table[bf16][kind];
    return CKPT_OK;
}
