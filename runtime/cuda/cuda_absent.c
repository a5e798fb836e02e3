/* Stands for the CUDA backend in builds without it. */
#include <stddef.h>

#include "runtime/backend.h"

const ckpt_backend *ckpt_backend_cuda(void) { return NULL; }

bool ckpt_cuda_supports(ckpt_op op) {
    (void)op;
    return false;
}
