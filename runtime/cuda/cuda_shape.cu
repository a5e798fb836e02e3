/* TRANSPOSE and ZERO: bytes moved, none computed. A transpose whose last axis moves goes through tiles in shared
 * memory, so that both its reads and its writes run along rows; another moves runs of its last axis. */
#include "cuda/cuda_device.cuh"

enum { TILE = 32, TILE_ROWS = 8 };

/* Dims of the output, outermost first, and for each the distance in the input and in the output; neighbours that
 * stay together are one axis. `fast` is the output axis that is the input's last. */
struct transpose_node {
    const ckpt_cuda_context *context;
    int rank, fast;
    int64_t dim[CKPT_MAX_RANK], from[CKPT_MAX_RANK], to[CKPT_MAX_RANK];
    int64_t count;
    const void *x;
    void *y;
};

template <typename T> __global__ static void copy_kernel(transpose_node k) {
    const T *x = (const T *)k.x;
    T *y = (T *)k.y, v[CKPT_UNITS];
    CKPT_EACH_UNIT(
        e, u, k.count,
        {
            int64_t rest = e;
            int64_t from = 0;
            for (int i = k.rank - 1; i >= 0; i--) from += ckpt_split(&rest, k.dim[i]) * k.from[i];
            v[u] = x[from];
        },
        y[e] = v[u])
}

/* Tiles of fast x last; blockIdx.z counts the other axes. */
template <typename T> __global__ static void tile_kernel(transpose_node k, int64_t others) {
    __shared__ T tile[TILE][TILE + 1]; /* a column more: the reads down a column fall in different banks */
    const int last = k.rank - 1;
    const int64_t f0 = (int64_t)blockIdx.x * TILE, l0 = (int64_t)blockIdx.y * TILE;
    for (int64_t other = blockIdx.z; other < others; other += gridDim.z) {
        int64_t rest = other, from = 0, to = 0;
        for (int i = last - 1; i >= 0; i--) {
            if (i == k.fast) continue;
            const int64_t index = ckpt_split(&rest, k.dim[i]);
            from += index * k.from[i];
            to += index * k.to[i];
        }
        const T *x = (const T *)k.x + from;
        T *y = (T *)k.y + to;
        for (int i = (int)threadIdx.y; i < TILE; i += TILE_ROWS)
            if (f0 + threadIdx.x < k.dim[k.fast] && l0 + i < k.dim[last])
                tile[i][threadIdx.x] = x[(l0 + i) * k.from[last] + f0 + threadIdx.x];
        __syncthreads();
        for (int i = (int)threadIdx.y; i < TILE; i += TILE_ROWS)
            if (l0 + threadIdx.x < k.dim[last] && f0 + i < k.dim[k.fast])
                y[(f0 + i) * k.to[k.fast] + l0 + threadIdx.x] = tile[threadIdx.x][i];
        __syncthreads();
    }
}

template <typename T> static void transpose_run(const void *self, const ckpt_scalars *) {
    const transpose_node *k = (const transpose_node *)self;
    const int last = k->rank - 1;
    if (k->count == 0) return;
    const int64_t bands = k->fast == last ? 0 : (k->dim[last] + TILE - 1) / TILE;
    if (bands == 0 || bands > 65535) {
        ckpt_cuda_start_flat(copy_kernel<T>, dim3(ckpt_unit_blocks(k->count)), dim3(CKPT_ELEMENT_THREADS), k->context->stream, *k);
        return;
    }
    const int64_t others = k->count / k->dim[last] / k->dim[k->fast];
    const dim3 grid((unsigned)((k->dim[k->fast] + TILE - 1) / TILE), (unsigned)bands, (unsigned)(others < 65535 ? others : 65535));
    ckpt_cuda_start(tile_kernel<T>, grid, dim3(TILE, TILE_ROWS), k->context->stream, *k, others);
}

/* Fills in the axes of a tensor that is not empty. */
static void simplify(const ckpt_transpose_attr *a, transpose_node *k) {
    int64_t stride[CKPT_MAX_RANK], run = 1;
    int previous = -2;
    for (int i = a->rank - 1; i >= 0; i--) {
        stride[i] = run;
        run *= a->dim[i];
    }
    for (int i = 0; i < a->rank; i++) {
        const int axis = a->perm[i];
        if (a->dim[axis] == 1) continue;
        bool joins = k->rank > 0 && axis > previous;
        for (int j = previous + 1; joins && j < axis; j++) joins = a->dim[j] == 1; /* only dims of 1 between them */
        if (joins) {
            k->dim[k->rank - 1] *= a->dim[axis];
            k->from[k->rank - 1] = stride[axis];
        } else {
            k->dim[k->rank] = a->dim[axis];
            k->from[k->rank++] = stride[axis];
        }
        previous = axis;
    }
    if (k->rank == 0) {
        k->rank = 1;
        k->dim[0] = k->from[0] = 1;
    }
    int64_t to = 1;
    for (int i = k->rank - 1; i >= 0; i--) {
        k->to[i] = to;
        to *= k->dim[i];
        if (k->from[i] == 1) k->fast = i;
    }
}

/* Where the last axis stays, runs of it move as units of up to 16 bytes: makes the axes count those, and says how many elements
 * are one. */
static int64_t widen(transpose_node *k, int64_t element_bytes) {
    const int last = k->rank - 1;
    const uint64_t addresses = (uint64_t)(uintptr_t)k->x | (uint64_t)(uintptr_t)k->y;
    int64_t n = 16 / element_bytes;
    if (k->fast != last) return 1;
    while (k->dim[last] % n || addresses % (uint64_t)(n * element_bytes)) n /= 2;
    k->dim[last] /= n;
    k->count /= n;
    for (int i = 0; i < last; i++) k->from[i] /= n; /* whole runs of the last axis */
    return n;
}

extern "C" ckpt_status ckpt_cuda_transpose(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 1, 1, err));
    int64_t bytes = (int64_t)ckpt_dtype_bytes(bind->graph->tensor[bind->node->out[0]].dtype);
    transpose_node *k = (transpose_node *)ckpt_cuda_launch(bind, sizeof *k, transpose_run<uint8_t>, launch, err);
    if (!k) return CKPT_NOMEM;
    k->x = bind->in[0];
    k->y = bind->out[0];
    k->count = ckpt_cuda_out_count(bind, 0);
    if (k->count > 0) {
        simplify(&bind->node->attr.transpose, k);
        bytes *= widen(k, bytes);
    }
    launch->run = bytes == 1   ? transpose_run<uint8_t>
                  : bytes == 2 ? transpose_run<uint16_t>
                  : bytes == 4 ? transpose_run<uint32_t>
                  : bytes == 8 ? transpose_run<uint64_t>
                               : transpose_run<ckpt_unit16>;
    return CKPT_OK;
}

/* ZERO */

struct zero_node {
    const ckpt_cuda_context *context;
    void *t;
    size_t bytes;
};

static void zero_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const zero_node *k = (const zero_node *)self;
    if (k->bytes) cudaMemsetAsync(k->t, 0, k->bytes, k->context->stream);
}

extern "C" ckpt_status ckpt_cuda_zero(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 0, 1, err));
    zero_node *k = (zero_node *)ckpt_cuda_launch(bind, sizeof *k, zero_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->t = bind->out[0];
    k->bytes = (size_t)ckpt_cuda_out_count(bind, 0) * ckpt_dtype_bytes(bind->graph->tensor[bind->node->out[0]].dtype);
    return CKPT_OK;
}
