/* A backend of plain loops in double precision: what every other backend's kernels are compared with, and a device
 * that needs no library. Slow on purpose; each kernel reads like its formula in src/graph/op_*.c. */
#ifndef CKPT_REFERENCE_BACKEND_H
#define CKPT_REFERENCE_BACKEND_H

#include "runtime/backend.h"

const ckpt_backend *ckpt_backend_reference(void);

/* f(x) and f'(x) of an element function, in double. */
double ckpt_reference_act(const ckpt_epilogue *e, double x);
double ckpt_reference_act_derivative(const ckpt_epilogue *e, double x);

#endif
