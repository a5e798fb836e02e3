/* The kernel of a chain of pointwise nodes (cuda_fuse.h). A thread takes four neighbouring elements at a time: everything
 * that the chain reads of them is loaded before the first instruction runs. Values wait in shared memory, each thread's in
 * a column of its own, where an instruction can name them by number; registers cannot be. All threads run the same
 * instruction, so no branch diverges. */
#include "cuda/cuda_device.cuh"
#include "cuda/cuda_fuse.h"
#include "runtime/act_math.h"
#include "runtime/convert_math.h"
#include "runtime/pair_math.h"

struct alignas(16) quad {
    float v[4];
};
struct alignas(8) half_quad {
    uint16_t v[4];
};

__device__ static inline float widened(uint16_t h, ckpt_dtype type) {
    return type == CKPT_BF16 ? ckpt_float_from_bfloat(h) : ckpt_float_from_half(h);
}
__device__ static inline uint16_t narrowed(float x, ckpt_dtype type) {
    return type == CKPT_BF16 ? ckpt_bfloat_from_float(x) : ckpt_half_from_float(x);
}

__device__ static inline quad load_quad(const ckpt_fuse_memory &m, const ckpt_place &q) {
    const int64_t at = m.shape == CKPT_FUSE_DENSE ? q.at : m.shape == CKPT_FUSE_BY_COLUMN ? q.col : m.shape == CKPT_FUSE_BY_ROW ? q.row : 0;
    quad x;
    if (m.shape == CKPT_FUSE_BY_ROW || m.shape == CKPT_FUSE_SCALAR) {
        const float one = m.dtype == CKPT_F32 ? ((const float *)m.at)[at] : widened(((const uint16_t *)m.at)[at], m.dtype);
        x.v[0] = x.v[1] = x.v[2] = x.v[3] = one;
    } else if (m.dtype == CKPT_F32) {
        ckpt_load4(x.v, (const float *)m.at + at, m.vector, q.n);
    } else {
        const uint16_t *from = (const uint16_t *)m.at + at;
        half_quad h = {{0, 0, 0, 0}};
        if (m.vector && q.n == 4) {
            h = *(const half_quad *)from;
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++)
                if (i < q.n) h.v[i] = from[i];
        }
#pragma unroll
        for (int i = 0; i < 4; i++) x.v[i] = widened(h.v[i], m.dtype);
    }
    return x;
}

__device__ static inline void store_quad(const ckpt_fuse_memory &m, const ckpt_place &q, const quad &x) {
    if (m.dtype == CKPT_F32) {
        ckpt_store4((float *)m.at + q.at, x.v, m.vector, q.n);
        return;
    }
    uint16_t *to = (uint16_t *)m.at + q.at;
    half_quad h;
#pragma unroll
    for (int i = 0; i < 4; i++) h.v[i] = narrowed(x.v[i], m.dtype);
    if (m.vector && q.n == 4) {
        *(half_quad *)to = h;
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (i < q.n) to[i] = h.v[i];
}

__device__ static inline quad act_quad(const ckpt_fuse_step &s, quad a) {
    switch ((ckpt_act)s.kind) {
#define X(ID, ...)                                                                                           \
    case CKPT_ACT_##ID:                                                                                      \
        _Pragma("unroll") for (int i = 0; i < 4; i++) a.v[i] = ckpt_act_##ID(a.v[i], s.alpha, s.beta);        \
        break;
#include "graph/acts.def"
#undef X
    case CKPT_ACT_COUNT: break;
    }
    return a;
}

__device__ static inline quad slope_quad(const ckpt_fuse_step &s, quad a, const quad &b) {
    switch ((ckpt_act)s.kind) {
#define X(ID, ...)                                                                                           \
    case CKPT_ACT_##ID:                                                                                      \
        _Pragma("unroll") for (int i = 0; i < 4; i++)                                                        \
            a.v[i] = a.v[i] * ckpt_act_slope_##ID(b.v[i] * s.factor, s.alpha, s.beta);                       \
        break;
#include "graph/acts.def"
#undef X
    case CKPT_ACT_COUNT: break;
    }
    return a;
}

__device__ static inline float binary_of(ckpt_binary kind, float a, float b) {
    return kind == CKPT_BINARY_ADD ? a + b : kind == CKPT_BINARY_SUB ? a - b : kind == CKPT_BINARY_MUL ? a * b : a / b;
}

__device__ static inline quad run_step(const ckpt_fuse_step &s, const quad &a, const quad &b, const quad &c, const ckpt_scalars *scalars,
                                       int64_t at) {
    quad r = a;
    switch ((ckpt_fuse_code)s.code) {
    case CKPT_FUSE_ACT: return act_quad(s, a);
    case CKPT_FUSE_SLOPE: return slope_quad(s, a, b);
    case CKPT_FUSE_DROP: {
        const ckpt_draw draw = {scalars, s.sample_elements, s.stream, s.threshold, s.factor};
        uint32_t word[4];
        ckpt_draw4(draw, at, word);
#pragma unroll
        for (int i = 0; i < 4; i++) r.v[i] = word[i] >= draw.threshold ? a.v[i] * draw.scale : 0.0f;
        break;
    }
    case CKPT_FUSE_POSITIVE:
#pragma unroll
        for (int i = 0; i < 4; i++) r.v[i] = b.v[i] > 0.0f ? a.v[i] * s.factor : 0.0f;
        break;
    case CKPT_FUSE_BINARY:
#pragma unroll
        for (int i = 0; i < 4; i++) r.v[i] = binary_of((ckpt_binary)s.kind, a.v[i], b.v[i]);
        break;
    case CKPT_FUSE_PAIR:
#pragma unroll
        for (int i = 0; i < 4; i++) r.v[i] = ckpt_pair_value((ckpt_pair)s.kind, a.v[i], b.v[i]);
        break;
    case CKPT_FUSE_PAIR_SLOPE:
#pragma unroll
        for (int i = 0; i < 4; i++) r.v[i] = ckpt_pair_slope((ckpt_pair)s.kind, s.second != 0, a.v[i], b.v[i], c.v[i]);
        break;
    case CKPT_FUSE_ROUND:
#pragma unroll
        for (int i = 0; i < 4 && s.kind != CKPT_F32; i++) r.v[i] = widened(narrowed(a.v[i], (ckpt_dtype)s.kind), (ckpt_dtype)s.kind);
        break;
    }
    return r;
}

/* Three blocks on a multiprocessor keep enough loads in flight. */
__global__ static void __launch_bounds__(CKPT_PLANE_THREADS, 3)
fused_kernel(const __grid_constant__ ckpt_fuse_program program, const ckpt_scalars *scalars, ckpt_plane plane) {
    __shared__ quad values[CKPT_FUSE_VALUES][CKPT_PLANE_THREADS];
    const unsigned own = threadIdx.y * blockDim.x + threadIdx.x;
    for (int64_t row = ckpt_plane_first_row(); row < plane.rows; row += ckpt_plane_row_step()) {
        const ckpt_place q = ckpt_plane_place(plane, row);
        if (q.n == 0) continue;
        quad loaded[CKPT_FUSE_VALUES];
#pragma unroll
        for (int k = 0; k < CKPT_FUSE_VALUES; k++)
            if (k < program.loads) loaded[k] = load_quad(program.load[k], q);
#pragma unroll
        for (int k = 0; k < CKPT_FUSE_VALUES; k++)
            if (k < program.loads) values[k][own] = loaded[k];
        for (int t = 0; t < program.steps; t++) {
            const ckpt_fuse_step &s = program.step[t];
            const quad a = values[s.a][own];
            quad b = a, c = a;
            if (s.b != CKPT_FUSE_NOWHERE) b = values[s.b][own];
            if (s.c != CKPT_FUSE_NOWHERE) c = values[s.c][own];
            const quad r = run_step(s, a, b, c, scalars, q.at);
            if (s.to != CKPT_FUSE_NOWHERE) values[s.to][own] = r;
            if (s.store.at) store_quad(s.store, q, r);
        }
    }
}

extern "C" void ckpt_cuda_fused_start(const ckpt_cuda_context *context, const ckpt_fuse_program *program) {
    const int64_t cols = program->cols;
    /* Arrays say for themselves whether they can be moved in quads. */
    const ckpt_plane plane = cols ? ckpt_plane_matrix(program->count / cols, cols, false) : ckpt_plane_run(program->count, false);
    dim3 grid, block;
    ckpt_plane_grid(&plane, &grid, &block);
    ckpt_cuda_start_flat(fused_kernel, grid, block, context->stream, *program, &context->slot->scalars, plane);
}
