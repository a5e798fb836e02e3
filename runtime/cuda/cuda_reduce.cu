/* y = alpha * sum of x over some axes, and its gradient x = alpha * y repeated along them. After dims of 1 are
 * dropped and like neighbours merged, four shapes of sum are left, each in the CPU's order:
 *   columns  [kept] x summed x kept    64 rows at a time, four together; then the groups in order
 *   rows     kept x summed             lanes of row_math.h
 *   scalar   summed                    256 parts, each in blocks; then the parts in order
 *   general  any other mix             runs along the last summed axis, added in double
 * The columns of a bias gradient may be bf16; their sums are not. */
#include "cuda/cuda_broadcast.cuh"

struct reduce_node {
    const ckpt_cuda_context *context;
    ckpt_reduce_attr geometry;
    const float *x; /* of bf16: its address alone */
    float *y;
    int64_t outer, rows, cols; /* of the columns shape; rows shape: outer x rows */
    int64_t count;             /* elements of the larger side */
};

/* Columns: a group of rows a thread (ckpt_column_block). */

enum { GROUP = 64 };

template <typename T> __device__ static inline float sum_group(const T *x, int64_t rows, int64_t step) {
    float part = 0;
    int64_t r = 0;
#pragma unroll 4
    for (; r + 4 <= rows; r += 4) {
        const T *x0 = x + r * step;
        part += (ckpt_float_of(x0[0]) + ckpt_float_of(x0[step])) + (ckpt_float_of(x0[2 * step]) + ckpt_float_of(x0[3 * step]));
    }
    for (; r < rows; r++) part += ckpt_float_of(x[r * step]);
    return part;
}

/* One group: nothing to share. */
template <typename T> __global__ static void column_kernel(reduce_node k) {
    CKPT_EACH_ELEMENT(line, k.outer * k.cols) {
        int64_t o = line;
        const int64_t col = ckpt_split(&o, k.cols);
        k.y[line] = k.geometry.alpha * (0.0f + sum_group((const T *)k.x + o * k.rows * k.cols + col, k.rows, k.cols));
    }
}

template <typename T> __global__ static void columns_kernel(reduce_node k) {
    __shared__ float part[CKPT_COLUMN_THREADS];
    const int64_t col = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    for (int64_t o = blockIdx.y; o < k.outer; o += gridDim.y) {
        const T *x = (const T *)k.x + o * k.rows * k.cols + col;
        float total = 0;
        for (int64_t base = 0; base < k.rows; base += (int64_t)blockDim.y * GROUP) {
            const int64_t first = base + (int64_t)threadIdx.y * GROUP, left = k.rows - first;
            float sum = 0;
            if (col < k.cols && left > 0) sum = sum_group(x + first * k.cols, left < GROUP ? left : (int64_t)GROUP, k.cols);
            part[threadIdx.y * blockDim.x + threadIdx.x] = sum;
            __syncthreads();
            for (unsigned g = 0; threadIdx.y == 0 && g < blockDim.y && base + (int64_t)g * GROUP < k.rows; g++)
                total += part[g * blockDim.x + threadIdx.x];
            __syncthreads();
        }
        if (threadIdx.y == 0 && col < k.cols) k.y[o * k.cols + col] = k.geometry.alpha * total;
    }
}

template <typename T> static void columns_run(const void *self, const ckpt_scalars *) {
    const reduce_node *k = (const reduce_node *)self;
    const int64_t groups = (k->rows + GROUP - 1) / GROUP;
    if (k->outer == 0 || k->cols == 0) return;
    if (groups <= 1) {
        ckpt_cuda_start_flat(column_kernel<T>, dim3(ckpt_element_blocks(k->outer * k->cols)), dim3(CKPT_ELEMENT_THREADS),
                             k->context->stream, *k);
        return;
    }
    const dim3 block = ckpt_column_block(k->cols, groups);
    const dim3 grid((unsigned)((k->cols + block.x - 1) / block.x), (unsigned)(k->outer < 65535 ? k->outer : 65535));
    ckpt_cuda_start(columns_kernel<T>, grid, block, k->context->stream, *k);
}

/* Rows */

__global__ static void rows_kernel(reduce_node k) {
    const int64_t r = ckpt_group_row();
    if (r >= k.outer) return;
    const double sum = ckpt_group_sum_run(k.x + r * k.rows, k.rows);
    if (ckpt_group_lane() == 0) k.y[r] = (float)((double)k.geometry.alpha * sum);
}

static void rows_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const reduce_node *k = (const reduce_node *)self;
    if (k->outer == 0) return;
    ckpt_cuda_start(rows_kernel, dim3(ckpt_group_blocks(k->outer)), dim3(CKPT_GROUP_THREADS), k->context->stream, *k);
}

/* Scalar */

__global__ static void parts_kernel(const float *x, int64_t count, int64_t part, double *sum) {
    const int64_t first = blockIdx.x * part, left = count - first;
    const double s = ckpt_blocks_sum(left < part ? left : part, CKPT_SUM_BLOCK, [&](int64_t at, int64_t n) {
        return (double)ckpt_group_sum(x + first + at, n);
    });
    if (threadIdx.x == 0) sum[blockIdx.x] = s;
}

__global__ static void total_kernel(const double *part, float alpha, float *y) {
    const double total = ckpt_parts_total(part);
    if (threadIdx.x == 0) y[0] = (float)((double)alpha * total);
}

static void scalar_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const reduce_node *k = (const reduce_node *)self;
    double *part = k->context->slot->part; /* an address on the device */
    ckpt_cuda_start(parts_kernel, dim3(CKPT_CUDA_PARTS), dim3(CKPT_GROUP_THREADS), k->context->stream, k->x,
                    k->count, (k->count + CKPT_CUDA_PARTS - 1) / CKPT_CUDA_PARTS, part);
    ckpt_cuda_start(total_kernel, dim3(1), dim3(CKPT_CUDA_PARTS), k->context->stream, part, k->geometry.alpha, k->y);
}

/* General: merged axes alternate, so at most four are summed; those before the last are loops around it. */

struct loops {
    int64_t dim[4], stride[4]; /* summed axes, outermost first, padded in front with loops of one */
    bool runs;                 /* the innermost is the last axis: its elements are neighbours */
};

__device__ static inline double sum_inner(const float *x, const loops &l) {
    if (l.runs) return ckpt_group_sum_run(x, l.dim[3]);
    double sum = 0;
    for (int64_t i = 0; i < l.dim[3]; i++) sum += (double)x[i * l.stride[3]];
    return sum;
}

/* With runs a group of lanes makes an output; without, each lane makes one of its own. */
__global__ static void general_kernel(reduce_node k, loops l) {
    int64_t rest = l.runs ? ckpt_group_row() : (int64_t)blockIdx.x * blockDim.x + threadIdx.x, at = 0, size = 1;
    const int64_t o = rest;
    if (o >= k.outer) return;
    for (int i = k.geometry.rank - 1; i >= 0; i--) {
        if (k.geometry.keep >> i & 1) at += ckpt_split(&rest, k.geometry.dim[i]) * size;
        size *= k.geometry.dim[i];
    }
    double sum = 0;
    for (int64_t a = 0; a < l.dim[0]; a++) {
        double sum_b = 0;
        for (int64_t b = 0; b < l.dim[1]; b++) {
            double sum_c = 0;
            for (int64_t c = 0; c < l.dim[2]; c++)
                sum_c += sum_inner(k.x + at + a * l.stride[0] + b * l.stride[1] + c * l.stride[2], l);
            sum_b += sum_c;
        }
        sum += sum_b;
    }
    if (!l.runs || ckpt_group_lane() == 0) k.y[o] = (float)((double)k.geometry.alpha * sum);
}

static void general_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const reduce_node *k = (const reduce_node *)self;
    const ckpt_reduce_attr *g = &k->geometry;
    loops l = {{1, 1, 1, 1}, {0, 0, 0, 0}, !(g->keep >> (g->rank - 1) & 1)};
    int64_t size = 1;
    if (k->outer == 0) return;
    for (int i = g->rank - 1, slot = 3; i >= 0; i--) {
        if (!(g->keep >> i & 1)) {
            l.dim[slot] = g->dim[i];
            l.stride[slot--] = size;
        }
        size *= g->dim[i];
    }
    const int64_t blocks = l.runs ? ckpt_group_blocks(k->outer) : (k->outer + CKPT_GROUP_THREADS - 1) / CKPT_GROUP_THREADS;
    ckpt_cuda_start(general_kernel, dim3((unsigned)blocks), dim3(CKPT_GROUP_THREADS), k->context->stream, *k, l);
}

extern "C" ckpt_status ckpt_cuda_reduce_sum(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 1, 1, err));
    reduce_node *k = (reduce_node *)ckpt_cuda_launch(bind, sizeof *k, general_run, launch, err);
    if (!k) return CKPT_NOMEM;
    ckpt_reduce_attr g = ckpt_cuda_merge_axes(&bind->node->attr.reduce);
    const bool bf16 = bind->graph->tensor[bind->node->in[0]].dtype == CKPT_BF16;
    if (bf16) g = bind->node->attr.reduce; /* rows and columns as they are, also of 1 */
    if (bf16 && (g.rank != 2 || g.keep != 2))
        return ckpt_fail(err, CKPT_MODEL, "node '%s': of bf16 CUDA sums columns only", ckpt_cuda_node_name(bind));
    k->geometry = g;
    k->x = (const float *)bind->in[0];
    k->y = (float *)bind->out[0];
    k->outer = k->rows = k->cols = k->count = 1;
    for (int i = 0; i < g.rank; i++) k->count *= g.dim[i];
    if (g.rank == 0 || (g.rank == 1 && g.keep == 0)) {
        launch->run = scalar_run;
    } else if (g.rank == 1 || (g.rank == 2 && g.keep == 2) || (g.rank == 3 && g.keep == 5)) {
        launch->run = bf16 ? columns_run<ckpt_bf16> : columns_run<float>;
        k->cols = g.dim[g.rank - 1];
        k->rows = g.rank > 1 ? g.dim[g.rank - 2] : 1;
        k->outer = g.rank > 2 ? g.dim[0] : 1;
    } else if (g.rank == 2) {
        launch->run = rows_run;
        k->outer = g.dim[0];
        k->rows = g.dim[1];
    } else {
        for (int i = 0; i < g.rank; i++) k->outer *= g.keep >> i & 1 ? g.dim[i] : 1;
    }
    return CKPT_OK;
}

/* EXPAND: here x is the small side and y the large one. One axis or two go in quads. */

__global__ static void expand_plane_kernel(ckpt_operand x, float *y, float alpha, ckpt_plane plane) {
    float v[CKPT_PLANE_ROWS][4];
    CKPT_PLANE_EACH(plane, q, u, ckpt_load_operand(v[u], x, q), {
#pragma unroll
        for (int i = 0; i < 4; i++) v[u][i] = alpha * v[u][i];
        ckpt_store4(y + q.at, v[u], plane.vector, q.n);
    })
}

__global__ static void expand_kernel(reduce_node k) {
    CKPT_EACH_ELEMENT(e, k.count) {
        int64_t rest = e, at = 0, size = 1;
        for (int i = k.geometry.rank - 1; i >= 0; i--) {
            const int64_t index = ckpt_split(&rest, k.geometry.dim[i]);
            if (!(k.geometry.keep >> i & 1)) continue;
            at += index * size;
            size *= k.geometry.dim[i];
        }
        k.y[e] = k.geometry.alpha * k.x[at];
    }
}

static void expand_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const reduce_node *k = (const reduce_node *)self;
    const ckpt_reduce_attr *g = &k->geometry;
    if (k->count == 0) return;
    if (g->rank > 2) {
        ckpt_cuda_start_flat(expand_kernel, dim3(ckpt_element_blocks(k->count)), dim3(CKPT_ELEMENT_THREADS), k->context->stream, *k);
        return;
    }
    const int64_t cols = g->rank ? g->dim[g->rank - 1] : 1;
    const int64_t kept_cols = g->rank && g->keep >> (g->rank - 1) & 1, kept_rows = g->rank == 2 && g->keep & 1;
    const ckpt_plane plane = ckpt_plane_matrix(k->count / cols, cols, ckpt_aligned16(k->y));
    const ckpt_operand x = {k->x, kept_rows * (kept_cols ? cols : 1), kept_cols, plane.vector && ckpt_aligned16(k->x)};
    dim3 grid, block;
    ckpt_plane_grid(&plane, &grid, &block);
    ckpt_cuda_start_flat(expand_plane_kernel, grid, block, k->context->stream, x, k->y, g->alpha, plane);
}

extern "C" ckpt_status ckpt_cuda_expand(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 1, 1, err));
    reduce_node *k = (reduce_node *)ckpt_cuda_launch(bind, sizeof *k, expand_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->geometry = ckpt_cuda_merge_axes(&bind->node->attr.reduce);
    k->x = (const float *)bind->in[0];
    k->y = (float *)bind->out[0];
    k->count = 1;
    for (int i = 0; i < k->geometry.rank; i++) k->count *= k->geometry.dim[i];
    return CKPT_OK;
}
