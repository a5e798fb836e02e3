/* c = a op b with broadcasting, for f32, f64, i32, i64 and bf16, which is computed in f32. Integers wrap; dividing one by zero gives 0, as on the
 * CPU. Floats over at most two axes, which is nearly all there is, go in quads; the rest one element a thread. */
#include "cuda/cuda_device.cuh"

template <typename T> struct unsigned_of { typedef T type; };
template <> struct unsigned_of<int32_t> { typedef uint32_t type; };
template <> struct unsigned_of<int64_t> { typedef uint64_t type; };

template <typename T> __device__ static inline T quotient(T x, T y) {
    typedef typename unsigned_of<T>::type wide;
    return y == 0 ? 0 : y == -1 ? (T)((wide)0 - (wide)x) : x / y;
}
template <> __device__ inline float quotient(float x, float y) { return x / y; }
template <> __device__ inline double quotient(double x, double y) { return x / y; }

template <ckpt_binary KIND, typename T> __device__ static inline T apply(T x, T y) {
    typedef typename unsigned_of<T>::type wide;
    if (KIND == CKPT_BINARY_ADD) return (T)((wide)x + (wide)y);
    if (KIND == CKPT_BINARY_SUB) return (T)((wide)x - (wide)y);
    if (KIND == CKPT_BINARY_MUL) return (T)((wide)x * (wide)y);
    return quotient<T>(x, y);
}
template <ckpt_binary KIND, typename T> __device__ static inline T combine(T x, T y) { return apply<KIND, T>(x, y); }
template <ckpt_binary KIND> __device__ static inline ckpt_bf16 combine(ckpt_bf16 x, ckpt_bf16 y) {
    ckpt_bf16 c;
    ckpt_put(&c, apply<KIND, float>(ckpt_float_of(x), ckpt_float_of(y)));
    return c;
}

/* Distances from one row and one column to the next; 0 where the operand is broadcast. A vector operand can be
 * read as whole quads. */
struct operand {
    const void *at;
    int64_t row, col;
    bool vector;
};

template <typename T> __device__ static inline void load_operand(float v[4], const operand &o, const ckpt_place &q) {
    const T *x = (const T *)o.at + q.row * o.row;
    if (o.col) {
        ckpt_load4(v, x + q.col, o.vector, q.n);
    } else {
        const float one = ckpt_float_of(*x);
        v[0] = v[1] = v[2] = v[3] = one;
    }
}

template <ckpt_binary KIND, typename T>
__global__ static void binary_plane_kernel(operand a, operand b, T *c, ckpt_plane plane) {
    float x[CKPT_PLANE_ROWS][4], y[CKPT_PLANE_ROWS][4];
    CKPT_PLANE_EACH(
        plane, q, u,
        {
            load_operand<T>(x[u], a, q);
            load_operand<T>(y[u], b, q);
        },
        {
#pragma unroll
            for (int i = 0; i < 4; i++) x[u][i] = apply<KIND, float>(x[u][i], y[u][i]);
            ckpt_store4(c + q.at, x[u], plane.vector, q.n);
        })
}

template <ckpt_binary KIND, typename T>
__global__ static void binary_element_kernel(ckpt_binary_attr g, const T *a, const T *b, T *c, int64_t count) {
    CKPT_EACH_ELEMENT(e, count) {
        int64_t rest = e, at_a = 0, at_b = 0;
        for (int i = g.rank - 1; i >= 0; i--) {
            const int64_t index = ckpt_split(&rest, g.dim[i]);
            at_a += index * g.stride_a[i];
            at_b += index * g.stride_b[i];
        }
        c[e] = combine<KIND>(a[at_a], b[at_b]);
    }
}

struct binary_node {
    const ckpt_cuda_context *context;
    ckpt_binary_attr geometry;
    ckpt_plane plane;
    operand x, y;
    const void *a, *b;
    void *c;
    int64_t count;
};

template <ckpt_binary KIND, typename T> static void plane_run(const void *self, const ckpt_scalars *) {
    const binary_node *k = (const binary_node *)self;
    dim3 grid, block;
    if (k->count == 0) return;
    ckpt_plane_grid(&k->plane, &grid, &block);
    ckpt_cuda_start_flat(binary_plane_kernel<KIND, T>, grid, block, k->context->stream, k->x, k->y, (T *)k->c, k->plane);
}

template <ckpt_binary KIND, typename T> static void element_run(const void *self, const ckpt_scalars *) {
    const binary_node *k = (const binary_node *)self;
    if (k->count == 0) return;
    ckpt_cuda_start_flat(binary_element_kernel<KIND, T>, dim3(ckpt_element_blocks(k->count)), dim3(CKPT_ELEMENT_THREADS),
                         k->context->stream, k->geometry, (const T *)k->a, (const T *)k->b, (T *)k->c, k->count);
}

typedef void (*run_function)(const void *self, const ckpt_scalars *scalars);

#define KINDS(run, ...)                                                                                      \
    {run<CKPT_BINARY_ADD __VA_ARGS__>, run<CKPT_BINARY_SUB __VA_ARGS__>, run<CKPT_BINARY_MUL __VA_ARGS__>,   \
     run<CKPT_BINARY_DIV __VA_ARGS__>}

static const run_function plane_table[2][4] = {KINDS(plane_run, , float), KINDS(plane_run, , ckpt_bf16)};
static const run_function element_table[5][4] = {
    KINDS(element_run, , float), KINDS(element_run, , ckpt_bf16), KINDS(element_run, , double), KINDS(element_run, , int32_t),
    KINDS(element_run, , int64_t)};

/* As rows and columns: false where there are more axes, or where an operand's columns are not next to each other. */
static bool find_plane(binary_node *k) {
    const ckpt_binary_attr *g = &k->geometry;
    if (g->rank > 2) return false;
    const int last = g->rank - 1;
    const int64_t rows = g->rank == 2 ? g->dim[0] : 1, cols = g->dim[last];
    const int64_t row_a = g->rank == 2 ? g->stride_a[0] : 0, row_b = g->rank == 2 ? g->stride_b[0] : 0;
    if (g->stride_a[last] > 1 || g->stride_b[last] > 1) return false;
    const bool dense = g->stride_a[last] == 1 && g->stride_b[last] == 1 && rows == 1;
    k->plane = dense ? ckpt_plane_run(cols, ckpt_aligned16(k->c)) : ckpt_plane_matrix(rows, cols, ckpt_aligned16(k->c));
    const operand x = {k->a, dense ? k->plane.cols : row_a, g->stride_a[last], false};
    const operand y = {k->b, dense ? k->plane.cols : row_b, g->stride_b[last], false};
    k->x = x;
    k->y = y;
    k->x.vector = k->plane.vector && ckpt_aligned16(k->a) && k->x.row % 4 == 0;
    k->y.vector = k->plane.vector && ckpt_aligned16(k->b) && k->y.row % 4 == 0;
    return true;
}

extern "C" ckpt_status ckpt_cuda_binary(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 2, 1, err));
    const ckpt_dtype type = bind->graph->tensor[bind->node->out[0]].dtype;
    const int row = type == CKPT_F32 ? 0 : type == CKPT_BF16 ? 1 : type == CKPT_F64 ? 2 : type == CKPT_I32 ? 3 : type == CKPT_I64 ? 4 : -1;
    if (row < 0)
        return ckpt_fail(err, CKPT_MODEL, "node '%s': CUDA has no arithmetic on its type; a Cast to float helps",
                         ckpt_cuda_node_name(bind));
    const ckpt_binary kind = bind->node->attr.binary.kind;
    binary_node *k = (binary_node *)ckpt_cuda_launch(bind, sizeof *k, element_table[row][kind], launch, err);
    if (!k) return CKPT_NOMEM;
    k->geometry = bind->node->attr.binary;
    if (k->geometry.rank == 0) { /* scalars: one axis of one element */
        k->geometry.rank = 1;
        k->geometry.dim[0] = 1;
    }
    k->a = bind->in[0];
    k->b = bind->in[1];
    k->c = bind->out[0];
    k->count = 1;
    for (int i = 0; i < k->geometry.rank; i++) k->count *= k->geometry.dim[i];
    if (row < 2 && find_plane(k)) launch->run = plane_table[row][kind];
    return CKPT_OK;
}
