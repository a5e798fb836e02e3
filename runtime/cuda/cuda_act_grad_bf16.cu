/* Gradients of bf16 elements. */
#include "cuda/cuda_act.cuh"

void ckpt_act_grad_start_bf16(const ckpt_act_job *job, cudaStream_t stream) { ckpt_act_grad_start<ckpt_bf16>(job, stream); }
