/* What the files of the CUDA backend share, in C and in CUDA C++.
 *
 *     void my_run(const void *self, const ckpt_scalars *scalars);               // starts kernels on the stream
 *     my_kernel *k = ckpt_cuda_launch(bind, sizeof *k, my_run, launch, &err);   // k->context is set
 *
 * Each kernel file holds ckpt_cuda_NAME functions that kernels.def names: they check what they were given and keep
 * a struct in the bind's pool that begins with a ckpt_cuda_context pointer. A run function only starts work on
 * context->stream and reads no scalars on the host: those lie in the device's slot, so that a recorded step can
 * be replayed. Results do not depend on how many threads or blocks a kernel is started with: the order of every
 * sum is that of the CPU's kernels.
 */
#ifndef CKPT_CUDA_KERNELS_H
#define CKPT_CUDA_KERNELS_H

/* Before the C linkage below: in C++ these declare templates. */
#include <cuda_runtime.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "graph/op.h"
#include "runtime/backend.h"
#include "runtime/row_math.h"
#include "runtime/update_math.h"

enum {
    CKPT_CUDA_PARTS = 256, /* of a sum over everything, whatever its length */
    CKPT_CUDA_ROWS = 2048, /* statistics of this many rows fit in a slot: a multiple of CKPT_CUDA_BAND */
    CKPT_CUDA_BAND = 64,   /* rows that LAYERNORM_DP adds up before the next band */
    CKPT_CUDA_RATES = 4
};

/* Device memory that belongs to an open device and to no plan: a module variable, loaded with the kernels. */
typedef struct ckpt_cuda_slot {
    ckpt_scalars scalars;                  /* of the current run */
    ckpt_adam_rate rate[CKPT_CUDA_RATES];  /* for these scalars, one per ckpt_cuda_rate */
    double part[CKPT_CUDA_PARTS];          /* between the two kernels of a sum */
    int64_t hits[CKPT_CUDA_PARTS];
    ckpt_moments moments[CKPT_CUDA_ROWS];
} ckpt_cuda_slot;

/* What an Adam step's rates depend on besides the scalars. */
typedef struct ckpt_cuda_rate {
    float beta1, beta2, weight_decay;
    int decoupled;
} ckpt_cuda_rate;

typedef struct ckpt_cuda_rates {
    int count;
    ckpt_cuda_rate rate[CKPT_CUDA_RATES];
} ckpt_cuda_rates;

typedef struct ckpt_cuda_context {
    cudaStream_t stream;
    ckpt_cuda_slot *slot; /* device address */
    int slot_index;
    ckpt_cuda_rates rates;
    struct ckpt_cuda_lt *lt;
    int product_status; /* the first failure of a matrix product in a run, as cublasLt numbers it; 0: none */
} ckpt_cuda_context;

/* What cuda_backend.c hands to kernels: the bind of the interface and the device behind it. */
typedef struct ckpt_cuda_bind {
    ckpt_bind bind; /* first: kernels are given its address */
    ckpt_cuda_context *context;
} ckpt_cuda_bind;

static inline ckpt_cuda_context *ckpt_cuda_context_of(const ckpt_bind *bind) {
    return ((const ckpt_cuda_bind *)bind)->context;
}

/* The binding functions. */
#define X(ID, name) ckpt_status ckpt_cuda_##name(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err);
#include "cuda/kernels.def"
#undef X

/* The op's binding function; for an op without one, a function that refuses the node with CKPT_MODEL. */
ckpt_bind_kernel ckpt_cuda_kernel(ckpt_op op);

/* The kernel's own zeroed struct, in the bind's pool, as launch->self. Its first member must be a
 * `ckpt_cuda_context *`, which is filled in. NULL with `err` set when memory runs out. */
void *ckpt_cuda_launch(const ckpt_bind *bind, size_t size,
                       void (*run)(const void *self, const ckpt_scalars *scalars), ckpt_launch *launch,
                       ckpt_error *err);

/* CKPT_MODEL naming the node when one of the first `in` inputs or `out` outputs has no address although it
 * has elements. */
ckpt_status ckpt_cuda_require(const ckpt_bind *bind, int in, int out, ckpt_error *err);

/* The name of the node for messages. */
const char *ckpt_cuda_node_name(const ckpt_bind *bind);

/* Elements of an output or input tensor of the node; 0 where absent. */
int64_t ckpt_cuda_out_count(const ckpt_bind *bind, int out);
int64_t ckpt_cuda_in_count(const ckpt_bind *bind, int in);

/* An input's address, NULL where the node has none. */
void *ckpt_cuda_in(const ckpt_bind *bind, int in);
void *ckpt_cuda_out(const ckpt_bind *bind, int out);

/* Dims of 1 dropped and like neighbours merged. */
ckpt_reduce_attr ckpt_cuda_merge_axes(const ckpt_reduce_attr *reduce);

/* An epilogue with what its random numbers are counted by (cuda_act.cu). */
typedef struct ckpt_cuda_epilogue {
    ckpt_epilogue attr;
    uint32_t stream;
    int64_t sample_elements; /* of one sample: shifts the element index by first_sample times it */
} ckpt_cuda_epilogue;

ckpt_cuda_epilogue ckpt_cuda_epilogue_of(const ckpt_bind *bind, const ckpt_epilogue *attr, int64_t count);

/* y[rows][cols] = dropout(act(y + factor * bias[col])), in place and in one pass; bias may be NULL. Both are F32 or BF16. */
void ckpt_cuda_apply_epilogue(const ckpt_cuda_context *context, const ckpt_cuda_epilogue *epilogue, ckpt_dtype type, void *y,
                              const void *bias, float factor, int64_t rows, int64_t cols);

/* cuda_scalars.cu: device addresses of slots; and a run's scalars, with the rates that follow from them, put
 * into a slot in the order of the stream. Passed by value: no host buffer has to outlive the call. */
enum { CKPT_CUDA_SLOTS = 16 };
cudaError_t ckpt_cuda_find_slot(int index, ckpt_cuda_slot **slot);
void ckpt_cuda_set_scalars(const ckpt_cuda_context *context, const ckpt_scalars *scalars);

#ifdef __cplusplus
}
#endif

#endif
