/* Stands for runtime/cuda/cuda_launch.cuh. A kernel's arguments are copied when it is started, as a device's are. */
#ifndef CKPT_CUDA_LAUNCH_CUH
#define CKPT_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

template <typename... P, typename... A>
static void ckpt_cuda_start(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A... args) {
    fake_cuda_launch(grid, block, stream, true, [=] { kernel(static_cast<P>(args)...); });
}

template <typename... P, typename... A>
static void ckpt_cuda_start_flat(void (*kernel)(P...), dim3 grid, dim3 block, cudaStream_t stream, A... args) {
    fake_cuda_launch(grid, block, stream, false, [=] { kernel(static_cast<P>(args)...); });
}

#endif
