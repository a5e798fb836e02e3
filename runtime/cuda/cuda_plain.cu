/* The product of cuda_plain.h: tiles of the result, a thread an element, whose factors go through shared memory. */
#include "cuda/cuda_device.cuh"
#include "cuda/cuda_plain.h"

enum { TILE = 16 };

/* Tiles beyond the grid's limits in y and z are left to the same blocks. */
template <typename IN, typename OUT> __global__ static void plain_kernel(ckpt_cuda_plain p) {
    __shared__ float left[TILE][TILE + 1], right[TILE][TILE + 1]; /* a column more: columns are read, too */
    const int x = (int)threadIdx.x, y = (int)threadIdx.y;
    const int64_t col0 = (int64_t)blockIdx.x * TILE, col = col0 + x;
    for (int64_t i = blockIdx.z; i < p.batch; i += gridDim.z)
        for (int64_t row0 = (int64_t)blockIdx.y * TILE; row0 < p.m; row0 += (int64_t)gridDim.y * TILE) {
            const IN *a = (const IN *)p.a + i * p.step_a, *b = (const IN *)p.b + i * p.step_b;
            float sum = 0;
            for (int64_t k0 = 0; k0 < p.k; k0 += TILE) {
                /* Neighbouring threads read neighbouring elements, whichever way an operand lies. */
                const int64_t ra = row0 + (p.trans_a ? x : y), ka = k0 + (p.trans_a ? y : x);
                const int64_t cb = col0 + (p.trans_b ? y : x), kb = k0 + (p.trans_b ? x : y);
                const float va = ra < p.m && ka < p.k ? ckpt_float_of(a[p.trans_a ? ka * p.m + ra : ra * p.k + ka]) : 0.0f;
                const float vb = cb < p.n && kb < p.k ? ckpt_float_of(b[p.trans_b ? cb * p.k + kb : kb * p.n + cb]) : 0.0f;
                left[p.trans_a ? x : y][p.trans_a ? y : x] = va;
                right[p.trans_b ? x : y][p.trans_b ? y : x] = vb;
                __syncthreads();
                for (int j = 0; j < TILE && k0 + j < p.k; j++) sum += left[y][j] * right[j][x];
                __syncthreads();
            }
            const int64_t at = (i * p.m + row0 + y) * p.n + col;
            if (row0 + y >= p.m || col >= p.n) continue;
            const float c = p.c ? ckpt_float_of(((const OUT *)p.c)[at]) : 0.0f;
            ckpt_put((OUT *)p.d + at, p.c ? p.alpha * sum + c : p.alpha * sum);
        }
}

extern "C" void ckpt_cuda_plain_start(const ckpt_cuda_plain *p, cudaStream_t stream) {
    const int64_t tall = (p->m + TILE - 1) / TILE, most = 65535;
    if (p->m == 0 || p->n == 0 || p->batch == 0) return;
    const dim3 grid((unsigned)((p->n + TILE - 1) / TILE), (unsigned)(tall < most ? tall : most),
                    (unsigned)(p->batch < most ? p->batch : most));
    ckpt_cuda_start(p->in == CKPT_F32    ? plain_kernel<float, float>
                    : p->out == CKPT_F32 ? plain_kernel<ckpt_bf16, float>
                                         : plain_kernel<ckpt_bf16, ckpt_bf16>,
                    grid, dim3(TILE, TILE), stream, *p);
}
