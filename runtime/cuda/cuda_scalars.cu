/* Slots: what a step's kernels read that changes from step to step. */
#include "cuda/cuda_device.cuh"

/* A module variable: it comes with the kernels, like their code, and is no part of what a plan counts. */
__device__ static ckpt_cuda_slot slots[CKPT_CUDA_SLOTS];

extern "C" cudaError_t ckpt_cuda_find_slot(int index, ckpt_cuda_slot **slot) {
    void *address = NULL;
    const cudaError_t error = cudaGetSymbolAddress(&address, slots);
    *slot = error == cudaSuccess ? (ckpt_cuda_slot *)address + index : NULL;
    return error;
}

__global__ static void scalars_kernel(ckpt_cuda_slot *slot, ckpt_scalars scalars, ckpt_cuda_rates rates) {
    const int i = (int)threadIdx.x;
    if (i == 0) slot->scalars = scalars;
    if (i < rates.count) {
        const ckpt_cuda_rate r = rates.rate[i];
        slot->rate[i] = ckpt_adam_rates(r.beta1, r.beta2, scalars.learning_rate, r.weight_decay, r.decoupled,
                                        (uint64_t)scalars.step + 1);
    }
}

extern "C" void ckpt_cuda_set_scalars(const ckpt_cuda_context *context, const ckpt_scalars *scalars) {
    ckpt_cuda_start_flat(scalars_kernel, dim3(1), dim3(CKPT_CUDA_RATES), context->stream, context->slot, *scalars,
                         context->rates);
}
