/* Element functions of f32 elements. */
#include "cuda/cuda_act.cuh"

void ckpt_act_start_f32(const ckpt_act_job *job, cudaStream_t stream) { ckpt_act_start<float>(job, stream); }
