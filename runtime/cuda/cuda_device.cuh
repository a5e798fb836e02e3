/* What kernels share on the device.
 *
 *   planes      a matrix of rows x cols walked in quads: a thread has four neighbours in some rows, and loads
 *               those of several rows before it uses the first (CKPT_PLANE_EACH)
 *   lane groups 16 threads work on a row, lane l on elements l, l + 16, ...: the order of runtime/row_math.h
 *   draws       the random words of four neighbouring elements
 *   ckpt_bf16   an element that is kept in half the bytes and computed with as a float
 */
#ifndef CKPT_CUDA_DEVICE_CUH
#define CKPT_CUDA_DEVICE_CUH

#include "cuda/cuda_kernels.h"
#include "cuda/cuda_launch.cuh"
#include "runtime/convert_math.h"
#include "runtime/row_math.h"

/* Planes */

struct ckpt_plane {
    int64_t rows, cols;
    int64_t count; /* elements in all: the last row may end early */
    bool vector;   /* whole quads can be moved as 16 bytes */
};

enum { CKPT_PLANE_THREADS = 256, CKPT_PLANE_ROWS = 4, CKPT_PLANE_FLAT = 1024 };

static inline bool ckpt_aligned16(const void *a) { return ((uintptr_t)a & 15) == 0; }

/* A matrix; all its arrays have its shape, a vector of `cols` may go with it. */
static inline ckpt_plane ckpt_plane_matrix(int64_t rows, int64_t cols, bool aligned) {
    const ckpt_plane p = {rows, cols, rows * cols, aligned && cols % 4 == 0};
    return p;
}

/* A run of elements without rows. */
static inline ckpt_plane ckpt_plane_run(int64_t count, bool aligned) {
    const ckpt_plane p = {(count + CKPT_PLANE_FLAT - 1) / CKPT_PLANE_FLAT, CKPT_PLANE_FLAT, count, aligned};
    return p;
}

/* Enough blocks to fill any device before a thread is given a second row. */
static inline void ckpt_plane_grid(const ckpt_plane *p, dim3 *grid, dim3 *block) {
    const int64_t quads = (p->cols + 3) / 4;
    unsigned x = CKPT_PLANE_THREADS;
    while (x > 1 && (int64_t)(x / 2) >= quads) x /= 2;
    *block = dim3(x, CKPT_PLANE_THREADS / x, 1);
    const int64_t wide = (quads + x - 1) / x, tall = (p->rows + block->y - 1) / block->y;
    int64_t y = (tall + CKPT_PLANE_ROWS - 1) / CKPT_PLANE_ROWS;
    const int64_t enough = (2048 + wide - 1) / wide;
    if (y < enough) y = tall < enough ? tall : enough;
    *grid = dim3((unsigned)wide, (unsigned)(y < 65535 ? y : 65535), 1);
}

/* The four elements of one thread in one row: `at` counts elements from the plane's start. */
struct ckpt_place {
    int64_t at, row, col;
    int n; /* how many of the four exist; 0 beyond the end */
};

__device__ static inline ckpt_place ckpt_plane_place(const ckpt_plane &p, int64_t row) {
    ckpt_place q;
    q.row = row;
    q.col = 4 * ((int64_t)blockIdx.x * blockDim.x + threadIdx.x);
    q.at = row * p.cols + q.col;
    int64_t n = p.cols - q.col < p.count - q.at ? p.cols - q.col : p.count - q.at;
    n = row < p.rows ? n : 0;
    q.n = n < 0 ? 0 : n < 4 ? (int)n : 4;
    return q;
}

__device__ static inline int64_t ckpt_plane_first_row() { return (int64_t)blockIdx.y * blockDim.y + threadIdx.y; }
__device__ static inline int64_t ckpt_plane_row_step() { return (int64_t)gridDim.y * blockDim.y; }

__device__ static inline void ckpt_load4(float v[4], const float *x, bool vector, int n) {
    if (vector && n == 4) {
        const float4 q = *(const float4 *)x;
        v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) v[i] = i < n ? x[i] : 0.0f;
    }
}

__device__ static inline void ckpt_store4(float *y, const float v[4], bool vector, int n) {
    if (vector && n == 4) {
        *(float4 *)y = make_float4(v[0], v[1], v[2], v[3]);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (i < n) y[i] = v[i];
    }
}

struct ckpt_bf16 {
    uint16_t bits;
};
__device__ static inline float ckpt_float_of(float x) { return x; }
__device__ static inline float ckpt_float_of(ckpt_bf16 x) { return ckpt_float_from_bfloat(x.bits); }
__device__ static inline void ckpt_put(float *y, float v) { *y = v; }
__device__ static inline void ckpt_put(ckpt_bf16 *y, float v) { y->bits = ckpt_bfloat_from_float(v); }

/* Quads of these are 8 bytes: a plane that is aligned for floats is for them. */
__device__ static inline void ckpt_load4(float v[4], const ckpt_bf16 *x, bool vector, int n) {
    if (vector && n == 4) {
        const uint64_t q = *(const uint64_t *)x;
#pragma unroll
        for (int i = 0; i < 4; i++) v[i] = ckpt_float_from_bfloat((uint16_t)(q >> (16 * i)));
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) v[i] = i < n ? ckpt_float_of(x[i]) : 0.0f;
    }
}

__device__ static inline void ckpt_store4(ckpt_bf16 *y, const float v[4], bool vector, int n) {
    if (vector && n == 4) {
        uint64_t q = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) q |= (uint64_t)ckpt_bfloat_from_float(v[i]) << (16 * i);
        *(uint64_t *)y = q;
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (i < n) ckpt_put(y + i, v[i]);
    }
}

/* Runs `load` for CKPT_PLANE_ROWS rows and then what follows it for each: q is the place and u its number. Neither runs
 * where there are no elements. */
#define CKPT_PLANE_EACH(plane, q, u, load, ...)                                                              \
    for (int64_t row_ = ckpt_plane_first_row(); row_ < (plane).rows;                                         \
         row_ += CKPT_PLANE_ROWS * ckpt_plane_row_step()) {                                                  \
        _Pragma("unroll") for (int u = 0; u < CKPT_PLANE_ROWS; u++) {                                        \
            const ckpt_place q = ckpt_plane_place(plane, row_ + u * ckpt_plane_row_step());                  \
            if (q.n > 0) load;                                                                               \
        }                                                                                                    \
        _Pragma("unroll") for (int u = 0; u < CKPT_PLANE_ROWS; u++) {                                        \
            const ckpt_place q = ckpt_plane_place(plane, row_ + u * ckpt_plane_row_step());                  \
            if (q.n > 0) __VA_ARGS__;                                                                        \
        }                                                                                                    \
    }

/* Lane groups: blocks of CKPT_GROUPS groups, one row each. A group whose row does not exist may leave. */

enum { CKPT_GROUPS = 8, CKPT_GROUP_THREADS = CKPT_GROUPS * CKPT_LANES };

static inline unsigned ckpt_group_blocks(int64_t rows) { return (unsigned)((rows + CKPT_GROUPS - 1) / CKPT_GROUPS); }

__device__ static inline int ckpt_group_lane() { return (int)(threadIdx.x % CKPT_LANES); }
__device__ static inline int64_t ckpt_group_row() {
    return (int64_t)blockIdx.x * (blockDim.x / CKPT_LANES) + threadIdx.x / CKPT_LANES;
}
__device__ static inline unsigned ckpt_group_mask() { return 0xFFFFu << (threadIdx.x & 16u); }

/* Lanes folded 8, 4, 2, 1; every lane gets the result. What the upper lanes add meanwhile is not used. */
__device__ static inline float ckpt_group_fold(float lane) {
    const unsigned mask = ckpt_group_mask();
#pragma unroll
    for (int width = CKPT_LANES / 2; width > 0; width /= 2) lane += __shfl_down_sync(mask, lane, (unsigned)width, CKPT_LANES);
    return __shfl_sync(mask, lane, 0, CKPT_LANES);
}

__device__ static inline float ckpt_group_max(float lane) {
    const unsigned mask = ckpt_group_mask();
#pragma unroll
    for (int width = CKPT_LANES / 2; width > 0; width /= 2) {
        const float other = __shfl_down_sync(mask, lane, (unsigned)width, CKPT_LANES);
        lane = other > lane ? other : lane;
    }
    return __shfl_sync(mask, lane, 0, CKPT_LANES);
}

__device__ static inline float ckpt_group_sum(const float *x, int64_t n) {
    float lane = 0;
#pragma unroll 8
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) lane += x[j];
    return ckpt_group_fold(lane);
}

/* ckpt_row_moments, ckpt_row_rms, ckpt_row_max and ckpt_row_exp_sum of a group. */
__device__ static inline ckpt_moments ckpt_group_moments(const float *x, int64_t n, float epsilon) {
    ckpt_moments m = {ckpt_group_sum(x, n) / (float)n, 0, 0};
    float first = 0, second = 0;
#pragma unroll 8
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) first += x[j] - m.mean;
    m.rest = ckpt_group_fold(first) / (float)n;
#pragma unroll 8
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) second += ckpt_deviation(x[j], m) * ckpt_deviation(x[j], m);
    m.inv_std = 1.0f / sqrtf(ckpt_group_fold(second) / (float)n + epsilon);
    return m;
}

__device__ static inline ckpt_moments ckpt_group_rms(const float *x, int64_t n, float epsilon) {
    ckpt_moments m = {0, 0, 0};
    float square = 0;
#pragma unroll 8
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) square += x[j] * x[j];
    m.inv_std = 1.0f / sqrtf(ckpt_group_fold(square) / (float)n + epsilon);
    return m;
}

__device__ static inline float ckpt_group_row_max(const float *x, int64_t n) {
    float lane = -INFINITY;
#pragma unroll 8
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) lane = x[j] > lane ? x[j] : lane;
    return ckpt_group_max(lane);
}

__device__ static inline float ckpt_group_exp_sum(const float *x, int64_t n, float max) {
    float lane = 0;
#pragma unroll 4
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) lane += ckpt_exp(x[j] - max);
    return ckpt_group_fold(lane);
}

/* A long sum in blocks, so that no lane adds too many values before its block is folded. */
__device__ static inline double ckpt_group_sum_run(const float *x, int64_t n) {
    const int64_t block = CKPT_SUM_BLOCK;
    double sum = 0;
    for (int64_t i = 0; i < n; i += block) sum += (double)ckpt_group_sum(x + i, n - i < block ? n - i : block);
    return sum;
}

/* The same by all groups of a block of threads, a group a block of `block` values: of_block(first, n) makes its sum, for its
 * first lane at least. Blocks are added in order; every thread gets the sum, and all must come. */
template <typename SUM> __device__ static inline double ckpt_blocks_sum(int64_t n, int64_t block, const SUM &of_block) {
    __shared__ double part[CKPT_GROUPS];
    const int64_t groups = blockDim.x / CKPT_LANES, group = threadIdx.x / CKPT_LANES;
    double sum = 0;
    for (int64_t base = 0; base < n; base += groups * block) {
        const int64_t first = base + group * block, left = n - first;
        const double own = left > 0 ? of_block(first, left < block ? left : block) : 0;
        if (ckpt_group_lane() == 0) part[group] = own;
        __syncthreads();
        for (int64_t g = 0; g < groups && base + g * block < n; g++) sum += part[g];
        __syncthreads();
    }
    return sum;
}

/* The sum of parts in order, for the first of CKPT_CUDA_PARTS threads: all are loaded at once. */
__device__ static inline double ckpt_parts_total(const double *part) {
    __shared__ double all[CKPT_CUDA_PARTS];
    double total = 0;
    all[threadIdx.x] = part[threadIdx.x];
    __syncthreads();
    for (int p = 0; threadIdx.x == 0 && p < CKPT_CUDA_PARTS; p++) total += all[p];
    return total;
}

/* Sums down columns: threadIdx.x is a column, threadIdx.y a band of rows; a thread adds up its band, and the bands of a
 * block are added in order. A block is as narrow as it takes to give every multiprocessor one, but not narrower than the
 * 32 bytes that memory is read in. */

enum { CKPT_COLUMN_THREADS = 512, CKPT_COLUMN_BLOCKS = 128 };

static inline dim3 ckpt_column_block(int64_t cols, int64_t bands) {
    unsigned x = 32;
    while (x > 8 && (cols + x - 1) / x < CKPT_COLUMN_BLOCKS) x /= 2;
    const int64_t most = CKPT_COLUMN_THREADS / x;
    return dim3(x, bands < 1 ? 1u : (unsigned)(bands < most ? bands : most), 1);
}

/* Two sums at once: add(first, end, &a, &b) adds the rows [first, end) of the thread's column; rows without elements are
 * no business of it, columns are. Every thread gets its column's sums. All threads of the block must come. */
template <int BAND, typename ADD> __device__ static inline void ckpt_column_sums(int64_t rows, const ADD &add, double sum[2]) {
    __shared__ double part[2][CKPT_COLUMN_THREADS];
    const unsigned own = threadIdx.y * blockDim.x + threadIdx.x;
    sum[0] = sum[1] = 0;
    for (int64_t base = 0; base < rows; base += (int64_t)blockDim.y * BAND) {
        const int64_t first = base + (int64_t)threadIdx.y * BAND, end = first + BAND < rows ? first + BAND : rows;
        double a = 0, b = 0;
        if (first < end) add(first, end, &a, &b);
        part[0][own] = a;
        part[1][own] = b;
        __syncthreads();
        for (unsigned g = 0; g < blockDim.y && base + (int64_t)g * BAND < rows; g++) {
            sum[0] += part[0][g * blockDim.x + threadIdx.x];
            sum[1] += part[1][g * blockDim.x + threadIdx.x];
        }
        __syncthreads();
    }
}

/* Draws */

struct ckpt_draw {
    const ckpt_scalars *scalars; /* in the slot */
    int64_t sample_elements;
    uint32_t stream, threshold;
    float scale;
};

/* The words of elements [at, at + 4): one call of the generator where the quad is a quad of the whole batch. */
__device__ static inline void ckpt_draw4(const ckpt_draw &d, int64_t at, uint32_t word[4]) {
    const uint64_t e = (uint64_t)(d.scalars->first_sample * d.sample_elements + at);
    const uint64_t seed = d.scalars->seed;
    const uint32_t step = d.scalars->step;
    ckpt_philox(seed, d.stream, step, e / 4, word);
    if (e % 4 == 0) return;
    uint32_t w[8]; /* shifted by constants: an index known at run time would put it into local memory */
    ckpt_philox(seed, d.stream, step, e / 4 + 1, w + 4);
#pragma unroll
    for (int i = 0; i < 4; i++) w[i] = word[i];
    if (e & 1) {
#pragma unroll
        for (int i = 0; i < 7; i++) w[i] = w[i + 1];
    }
    if (e & 2) {
#pragma unroll
        for (int i = 0; i < 6; i++) w[i] = w[i + 2];
    }
#pragma unroll
    for (int i = 0; i < 4; i++) word[i] = w[i];
}

/* Index arithmetic: 64-bit division is slow, and rarely needed. */
__device__ static inline int64_t ckpt_split(int64_t *rest, int64_t dim) {
    int64_t quotient, remainder;
    if (((uint64_t)*rest | (uint64_t)dim) >> 32) {
        quotient = *rest / dim;
        remainder = *rest - quotient * dim;
    } else {
        quotient = (uint32_t)*rest / (uint32_t)dim;
        remainder = (uint32_t)*rest - (uint32_t)quotient * (uint32_t)dim;
    }
    *rest = quotient;
    return remainder;
}

/* Element kernels without a plane: one thread an element. */
enum { CKPT_ELEMENT_THREADS = 256 };
static inline unsigned ckpt_element_blocks(int64_t count) {
    const int64_t blocks = (count + CKPT_ELEMENT_THREADS - 1) / CKPT_ELEMENT_THREADS;
    return (unsigned)(blocks < 1 << 20 ? blocks : 1 << 20);
}
#define CKPT_EACH_ELEMENT(e, count)                                                                          \
    for (int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; e < (count);                            \
         e += (int64_t)gridDim.x * blockDim.x)

/* Bytes moved, in units of 1 to 16. */

struct alignas(16) ckpt_unit16 {
    float value[4];
};

enum { CKPT_UNITS = 4 }; /* loaded by a thread before it stores the first */

static inline unsigned ckpt_unit_blocks(int64_t count) { return ckpt_element_blocks((count + CKPT_UNITS - 1) / CKPT_UNITS); }

/* Runs `load` for CKPT_UNITS numbers e below count, then what follows it: u counts them. */
#define CKPT_EACH_UNIT(e, u, count, load, store)                                                             \
    for (int64_t base_ = (int64_t)blockIdx.x * blockDim.x * CKPT_UNITS + threadIdx.x; base_ < (count);       \
         base_ += (int64_t)gridDim.x * blockDim.x * CKPT_UNITS) {                                            \
        _Pragma("unroll") for (int u = 0; u < CKPT_UNITS; u++) {                                             \
            const int64_t e = base_ + u * (int64_t)blockDim.x;                                               \
            if (e < (count)) load;                                                                           \
        }                                                                                                    \
        _Pragma("unroll") for (int u = 0; u < CKPT_UNITS; u++) {                                             \
            const int64_t e = base_ + u * (int64_t)blockDim.x;                                               \
            if (e < (count)) store;                                                                          \
        }                                                                                                    \
    }

#endif
