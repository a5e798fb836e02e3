/* The CUDA C++ of kernels, for a C++ compiler: one block runs at a time, its threads one after another or, where
 * they meet in barriers and shuffles, as coroutines. */
#ifndef CKPT_FAKE_CUDA_RUNTIME_H
#define CKPT_FAKE_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#ifdef __cplusplus

#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
/* One block at a time: what its threads share can be one variable. */
#define __shared__ static

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) float4 {
    float x, y, z, w;
};
static inline float4 make_float4(float x, float y, float z, float w) { return float4{x, y, z, w}; }

void __syncthreads();
/* The value that lane `source` of the warp brought; all lanes of `mask` must come. */
uint64_t fake_cuda_shuffle(unsigned mask, uint64_t bits, unsigned source);
unsigned fake_cuda_lane();

template <typename T> T fake_cuda_exchange(unsigned mask, T value, unsigned source) {
    uint64_t bits = 0;
    static_assert(sizeof(T) <= sizeof bits, "shuffles move 8 bytes at most");
    memcpy(&bits, &value, sizeof value);
    bits = fake_cuda_shuffle(mask, bits, source);
    memcpy(&value, &bits, sizeof value);
    return value;
}
template <typename T> T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const unsigned lane = fake_cuda_lane(), base = lane / (unsigned)width * (unsigned)width;
    return fake_cuda_exchange(mask, value, base + (unsigned)source % (unsigned)width);
}
template <typename T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    const unsigned lane = fake_cuda_lane();
    return fake_cuda_exchange(mask, value, lane % (unsigned)width + delta < (unsigned)width ? lane + delta : lane);
}

/* Puts work into the stream: it is done at once, or recorded while the stream is being captured. */
void fake_cuda_enqueue(cudaStream_t stream, std::function<void()> work);
/* Runs a kernel; `meets`: its threads may wait for each other. */
void fake_cuda_launch(dim3 grid, dim3 block, cudaStream_t stream, bool meets, std::function<void()> thread);

template <typename T> cudaError_t cudaGetSymbolAddress(void **address, T &symbol) {
    *address = &symbol;
    return cudaSuccess;
}

#endif

#endif
