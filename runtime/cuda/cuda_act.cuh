/* The kernels of element functions, forward and gradient, for one type of element: quads of four elements with 16-byte
 * accesses and one call of the random generator. One kernel an element function: a switch inside would give all of them the
 * registers of the most demanding. They are many, and so in a file each for compilers to work on side by side.
 *
 *     ckpt_act_job job = {...};
 *     ckpt_act_start_f32(&job, stream);   // y = dropout(act(x + factor * bias))
 */
#ifndef CKPT_CUDA_ACT_CUH
#define CKPT_CUDA_ACT_CUH

#include "cuda/cuda_device.cuh"
#include "runtime/act_math.h"

struct ckpt_act_job {
    const void *x, *bias;   /* forward; bias: NULL, or a value a column of the plane */
    const void *dy, *v;     /* gradient: v is what the slope is computed from */
    void *y;                /* y, or dx */
    float factor;           /* of the bias; of v */
    ckpt_epilogue attr;
    ckpt_plane plane;
    ckpt_draw draw;
};

/* Start nothing where there are no elements. */
void ckpt_act_start_f32(const ckpt_act_job *job, cudaStream_t stream);
void ckpt_act_start_bf16(const ckpt_act_job *job, cudaStream_t stream);
void ckpt_act_grad_start_f32(const ckpt_act_job *job, cudaStream_t stream);
void ckpt_act_grad_start_bf16(const ckpt_act_job *job, cudaStream_t stream);

/* The function of one ACT alone: a switch over all of them would be inlined for every element that a thread takes. */
template <ckpt_act ACT> struct element_function;
#define X(ID, name, from_output, costly, slope_is_constant)                                                  \
    template <> struct element_function<CKPT_ACT_##ID> {                                                     \
        static constexpr bool constant = slope_is_constant;                                                             \
        __device__ static float value(float x, float alpha, float beta) { return ckpt_act_##ID(x, alpha, beta); }       \
        __device__ static float slope(float v, float alpha, float beta) { return ckpt_act_slope_##ID(v, alpha, beta); } \
    };
#include "graph/acts.def"
#undef X

template <ckpt_act ACT, bool DROP, typename T>
__global__ static void act_kernel(const T *x, T *y, const T *bias, float factor, float alpha, float beta, ckpt_plane plane,
                                  ckpt_draw draw) {
    float v[CKPT_PLANE_ROWS][4], b[4] = {0};
    const ckpt_place first = ckpt_plane_place(plane, 0);
    /* A thread stays in its columns: the bias is read once. */
    if (bias && first.col < plane.cols)
        ckpt_load4(b, bias + first.col, plane.vector, plane.cols - first.col < 4 ? (int)(plane.cols - first.col) : 4);
    CKPT_PLANE_EACH(plane, q, u, ckpt_load4(v[u], x + q.at, plane.vector, q.n), {
        uint32_t word[4];
        if (DROP) ckpt_draw4(draw, q.at, word);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float z = bias ? v[u][i] + factor * b[i] : v[u][i];
            const float a = element_function<ACT>::value(z, alpha, beta);
            v[u][i] = !DROP ? a : word[i] >= draw.threshold ? a * draw.scale : 0.0f;
        }
        ckpt_store4(y + q.at, v[u], plane.vector, q.n);
    })
}

template <typename T> static inline void ckpt_act_start(const ckpt_act_job *j, cudaStream_t stream) {
    const bool drop = j->attr.drop > 0;
    dim3 grid, block;
    if (j->plane.count == 0) return;
    ckpt_plane_grid(&j->plane, &grid, &block);
    switch (j->attr.act) {
#define X(ID, ...)                                                                                           \
    case CKPT_ACT_##ID:                                                                                      \
        ckpt_cuda_start_flat(drop ? act_kernel<CKPT_ACT_##ID, true, T> : act_kernel<CKPT_ACT_##ID, false, T>, grid, block,    \
                             stream, (const T *)j->x, (T *)j->y, (const T *)j->bias, j->factor, j->attr.alpha,          \
                             j->attr.beta, j->plane, j->draw);                                                          \
        break;
#include "graph/acts.def"
#undef X
    case CKPT_ACT_COUNT: break;
    }
}

/* dx = dy * slope(v * shrink): y-based slopes want act(x), which is y / scale where kept. v may be dy itself for
 * slopes that are constant. RELU with dropout reads its mask off y > 0 (runtime/act_math.h). */
template <ckpt_act ACT, bool DROP, typename T>
__global__ static void act_grad_kernel(const T *dy, const T *v, T *dx, float shrink, float alpha, float beta,
                                       ckpt_plane plane, ckpt_draw draw) {
    float g[CKPT_PLANE_ROWS][4], s[CKPT_PLANE_ROWS][4];
    const bool constant = element_function<ACT>::constant;
    const bool from_output = ACT == CKPT_ACT_RELU && DROP;
    CKPT_PLANE_EACH(
        plane, q, u,
        {
            ckpt_load4(g[u], dy + q.at, plane.vector, q.n);
            if (!constant) ckpt_load4(s[u], v + q.at, plane.vector, q.n);
        },
        {
            uint32_t word[4];
            if (DROP && !from_output) ckpt_draw4(draw, q.at, word);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float value = constant ? 0.0f : s[u][i];
                if (from_output) {
                    g[u][i] = value > 0.0f ? g[u][i] * draw.scale : 0.0f;
                } else {
                    const float d = g[u][i] * element_function<ACT>::slope(value * shrink, alpha, beta);
                    g[u][i] = !DROP ? d : word[i] >= draw.threshold ? d * draw.scale : 0.0f;
                }
            }
            ckpt_store4(dx + q.at, g[u], plane.vector, q.n);
        })
}

template <typename T> static inline void ckpt_act_grad_start(const ckpt_act_job *j, cudaStream_t stream) {
    const bool drop = j->attr.drop > 0;
    dim3 grid, block;
    if (j->plane.count == 0) return;
    ckpt_plane_grid(&j->plane, &grid, &block);
    switch (j->attr.act) {
#define X(ID, ...)                                                                                           \
    case CKPT_ACT_##ID:                                                                                      \
        ckpt_cuda_start_flat(drop ? act_grad_kernel<CKPT_ACT_##ID, true, T> : act_grad_kernel<CKPT_ACT_##ID, false, T>, grid, block,    \
                             stream, (const T *)j->dy, (const T *)j->v, (T *)j->y, j->factor, j->attr.alpha,            \
                             j->attr.beta, j->plane, j->draw);                                                          \
        break;
#include "graph/acts.def"
#undef X
    case CKPT_ACT_COUNT: break;
    }
}

#endif
