/* Element functions of two tensors with broadcasting, one kernel a function and type.
 *
 *     template <typename T> struct add { typedef T type; static const bool GRADIENT = false;
 *                                        __device__ static T apply(T a, T b, T) { return a + b; } };
 *     launch->run = ckpt_broadcast_element_run<add<double>>;
 *     if (ckpt_broadcast_bind(k, geometry, a, b, c) && is_float) launch->run = ckpt_broadcast_plane_run<add<float>>;
 *
 * Floats over at most two axes, which is nearly all there is, go in quads; the rest one element a thread. A second
 * type, ckpt_bf16, is what the elements of a float function are kept in. With
 * GRADIENT a third operand lies dense beside the output.
 */
#ifndef CKPT_CUDA_BROADCAST_CUH
#define CKPT_CUDA_BROADCAST_CUH

#include "cuda/cuda_device.cuh"

/* Distances from one row and one column to the next; 0 where the operand is broadcast. A vector operand can be
 * read as whole quads. */
struct ckpt_operand {
    const void *at;
    int64_t row, col;
    bool vector;
};

template <typename T = float> __device__ static inline void ckpt_load_operand(float v[4], const ckpt_operand &o, const ckpt_place &q) {
    const T *x = (const T *)o.at + q.row * o.row;
    if (o.col) {
        ckpt_load4(v, x + q.col, o.vector, q.n);
    } else {
        const float one = ckpt_float_of(*x);
        v[0] = v[1] = v[2] = v[3] = one;
    }
}

struct ckpt_broadcast {
    const ckpt_cuda_context *context;
    ckpt_binary_attr geometry;
    ckpt_plane plane;
    ckpt_operand x, y;
    const void *a, *b, *dc; /* dc: NULL but for gradients */
    void *c;
    int64_t count;
};

template <typename F, typename T>
__global__ static void ckpt_broadcast_plane_kernel(ckpt_operand a, ckpt_operand b, const T *dc, T *c, ckpt_plane plane) {
    float x[CKPT_PLANE_ROWS][4], y[CKPT_PLANE_ROWS][4], d[CKPT_PLANE_ROWS][4];
    CKPT_PLANE_EACH(
        plane, q, u,
        {
            ckpt_load_operand<T>(x[u], a, q);
            ckpt_load_operand<T>(y[u], b, q);
            if (F::GRADIENT) ckpt_load4(d[u], dc + q.at, plane.vector, q.n);
        },
        {
#pragma unroll
            for (int i = 0; i < 4; i++) x[u][i] = F::apply(x[u][i], y[u][i], F::GRADIENT ? d[u][i] : 0.0f);
            ckpt_store4(c + q.at, x[u], plane.vector, q.n);
        })
}

/* An element as it is computed with, and back. */
template <typename T> __device__ static inline T ckpt_value_of(T x) { return x; }
__device__ static inline float ckpt_value_of(ckpt_bf16 x) { return ckpt_float_of(x); }
template <typename T> __device__ static inline void ckpt_put_value(T *y, T v) { *y = v; }
__device__ static inline void ckpt_put_value(ckpt_bf16 *y, float v) { ckpt_put(y, v); }

template <typename F, typename T>
__global__ static void ckpt_broadcast_element_kernel(ckpt_binary_attr g, const T *a, const T *b, const T *dc, T *c, int64_t count) {
    CKPT_EACH_ELEMENT(e, count) {
        int64_t rest = e, at_a = 0, at_b = 0;
        for (int i = g.rank - 1; i >= 0; i--) {
            const int64_t index = ckpt_split(&rest, g.dim[i]);
            at_a += index * g.stride_a[i];
            at_b += index * g.stride_b[i];
        }
        ckpt_put_value(c + e, F::apply(ckpt_value_of(a[at_a]), ckpt_value_of(b[at_b]),
                                       F::GRADIENT ? ckpt_value_of(dc[e]) : (typename F::type)0));
    }
}

template <typename F, typename T = float> static void ckpt_broadcast_plane_run(const void *self, const ckpt_scalars *) {
    const ckpt_broadcast *k = (const ckpt_broadcast *)self;
    dim3 grid, block;
    if (k->count == 0) return;
    ckpt_plane_grid(&k->plane, &grid, &block);
    ckpt_cuda_start_flat(ckpt_broadcast_plane_kernel<F, T>, grid, block, k->context->stream, k->x, k->y, (const T *)k->dc,
                         (T *)k->c, k->plane);
}

template <typename F, typename T = typename F::type>
static void ckpt_broadcast_element_run(const void *self, const ckpt_scalars *) {
    const ckpt_broadcast *k = (const ckpt_broadcast *)self;
    if (k->count == 0) return;
    ckpt_cuda_start_flat(ckpt_broadcast_element_kernel<F, T>, dim3(ckpt_element_blocks(k->count)), dim3(CKPT_ELEMENT_THREADS),
                         k->context->stream, k->geometry, (const T *)k->a, (const T *)k->b, (const T *)k->dc, (T *)k->c, k->count);
}

typedef void (*ckpt_run_function)(const void *self, const ckpt_scalars *scalars);

/* As rows and columns: false where there are more axes, or where an operand's columns are not next to each other. */
static inline bool ckpt_broadcast_plane(ckpt_broadcast *k) {
    const ckpt_binary_attr *g = &k->geometry;
    if (g->rank > 2) return false;
    const int last = g->rank - 1;
    const int64_t rows = g->rank == 2 ? g->dim[0] : 1, cols = g->dim[last];
    const int64_t row_a = g->rank == 2 ? g->stride_a[0] : 0, row_b = g->rank == 2 ? g->stride_b[0] : 0;
    if (g->stride_a[last] > 1 || g->stride_b[last] > 1) return false;
    const bool dense = g->stride_a[last] == 1 && g->stride_b[last] == 1 && rows == 1;
    const bool aligned = ckpt_aligned16(k->c) && ckpt_aligned16(k->dc);
    k->plane = dense ? ckpt_plane_run(cols, aligned) : ckpt_plane_matrix(rows, cols, aligned);
    const ckpt_operand x = {k->a, dense ? k->plane.cols : row_a, g->stride_a[last], false};
    const ckpt_operand y = {k->b, dense ? k->plane.cols : row_b, g->stride_b[last], false};
    k->x = x;
    k->y = y;
    k->x.vector = k->plane.vector && ckpt_aligned16(k->a) && k->x.row % 4 == 0;
    k->y.vector = k->plane.vector && ckpt_aligned16(k->b) && k->y.row % 4 == 0;
    return true;
}

/* Fills in all but the context; whether the plane kernel, which is for floats, can be used. */
static inline bool ckpt_broadcast_bind(ckpt_broadcast *k, const ckpt_binary_attr *geometry, const void *a, const void *b,
                                       const void *dc, void *c) {
    k->geometry = *geometry;
    if (k->geometry.rank == 0) { /* scalars: one axis of one element */
        k->geometry.rank = 1;
        k->geometry.dim[0] = 1;
    }
    k->a = a, k->b = b, k->dc = dc, k->c = c;
    k->count = 1;
    for (int i = 0; i < k->geometry.rank; i++) k->count *= k->geometry.dim[i];
    return ckpt_broadcast_plane(k);
}

/* Which of four element types a table is indexed by: F32, F64, I32, I64; -1 and an error for others. */
static inline int ckpt_arithmetic_type(const ckpt_bind *bind, ckpt_error *err) {
    const ckpt_dtype type = bind->graph->tensor[bind->node->out[0]].dtype;
    const int row = type == CKPT_F32 ? 0 : type == CKPT_F64 ? 1 : type == CKPT_I32 ? 2 : type == CKPT_I64 ? 3 : -1;
    if (row < 0)
        ckpt_fail(err, CKPT_MODEL, "node '%s': CUDA has no arithmetic on its type; a Cast to float helps",
                  ckpt_cuda_node_name(bind));
    return row;
}

#endif
