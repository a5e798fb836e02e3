/* Starting kernels. All go through these two functions, which a build for the host replaces with its own.
 *
 *     ckpt_cuda_start_flat(scale_kernel, grid, block, stream, x, count);   // each thread on its own
 *     ckpt_cuda_start(row_kernel<true>, grid, block, stream, x, rows);     // threads meet: barriers, shuffles
 *
 * Errors stay with the runtime until cudaGetLastError asks, at the end of a run.
 */
#ifndef CKPT_CUDA_LAUNCH_CUH
#define CKPT_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

template <typename... P, typename... A>
static void ckpt_cuda_start(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A... args) {
    kernel<<<grid, block, 0, stream>>>(static_cast<P>(args)...);
}

template <typename... P, typename... A>
static void ckpt_cuda_start_flat(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A... args) {
    ckpt_cuda_start(kernel, grid, block, stream, args...);
}

#endif
