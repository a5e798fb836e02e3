/* What the kernels of the CPU backend share.
 *
 *     void body(const void *context, int64_t begin, int64_t end);  // elements or whole rows
 *     ckpt_cpu_for(rows, CKPT_CPU_GRAIN / cols, body, self);
 *
 * Each kernel file holds ckpt_cpu_NAME functions that kernels.def names: they check what they were given and keep
 * a struct in the bind's pool for its run function. A result depends on no split: a body writes each element
 * from the inputs alone, and sums have an order of their own (row_math.h, cpu_reduce.c).
 */
#ifndef CKPT_CPU_KERNELS_H
#define CKPT_CPU_KERNELS_H

#include "base/vector.h"
#include "cpu/cpu_team.h"
#include "graph/op.h"
#include "runtime/backend.h"

/* Before a loop over elements whose output is one of its inputs or touches none of them: without it the
 * compiler's overlap test sends every in-place call to the scalar loop. */
#define CKPT_CPU_SIMD _Pragma("omp simd")

/* The binding functions. */
#define X(ID, name) ckpt_status ckpt_cpu_##name(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err);
#include "cpu/kernels.def"
#undef X

/* The op's binding function; for an op without one, a function that refuses the node with CKPT_MODEL. */
ckpt_bind_kernel ckpt_cpu_kernel(ckpt_op op);

/* The kernel's own struct, in the bind's pool, as launch->self; NULL with `err` set when memory runs out. */
void *ckpt_cpu_launch(const ckpt_bind *bind, size_t size,
                      void (*run)(const void *self, const ckpt_scalars *scalars), ckpt_launch *launch,
                      ckpt_error *err);

/* CKPT_MODEL naming the node when one of the first `in` inputs or `out` outputs has no address although it
 * has elements. */
ckpt_status ckpt_cpu_require(const ckpt_bind *bind, int in, int out, ckpt_error *err);

/* Elements of an output or input tensor of the node; 0 where absent. */
int64_t ckpt_cpu_out_count(const ckpt_bind *bind, int out);
int64_t ckpt_cpu_in_count(const ckpt_bind *bind, int in);

typedef void (*ckpt_cpu_body)(const void *context, int64_t begin, int64_t end);

/* Work that is worth a thread, in cheap element operations. */
enum { CKPT_CPU_GRAIN = 16384 };

/* body over [0, count) in as many parts as there are threads, or in one where count < 2 * grain. */
void ckpt_cpu_for(int64_t count, int64_t grain, ckpt_cpu_body body, const void *context);

/* body(context, part) for parts that were counted when the kernel was bound. */
void ckpt_cpu_parts(int parts, ckpt_team_body body, const void *context);

/* The team that the calling thread's kernels run on, until the next call; NULL: the thread alone. Returns the one before. */
ckpt_team *ckpt_cpu_use_team(ckpt_team *team);

/* Rows of `cols` elements worth one grain: at least 1. */
int64_t ckpt_cpu_row_grain(int64_t cols);

/* Elements [begin, end) of a broadcast output, run by run along its last axis: `run` is told where a run of n elements
 * begins in a, b and the output. Geometries come from ckpt_cpu_geometry. */
typedef void (*ckpt_cpu_run)(const void *context, int64_t a, int64_t b, int64_t c, int64_t n);
void ckpt_cpu_runs(const ckpt_binary_attr *geometry, int64_t begin, int64_t end, ckpt_cpu_run run, const void *context);

/* The geometry with at least one axis, and how many elements it has. */
ckpt_binary_attr ckpt_cpu_geometry(const ckpt_binary_attr *geometry, int64_t *count);

/* An epilogue with what its random numbers are counted by (cpu_act.c). */
typedef struct ckpt_cpu_epilogue {
    ckpt_epilogue attr;
    uint32_t stream;
    int64_t sample_elements; /* of one sample: shifts the element index by first_sample times it */
} ckpt_cpu_epilogue;

ckpt_cpu_epilogue ckpt_cpu_epilogue_of(const ckpt_bind *bind, const ckpt_epilogue *attr, int64_t count);

/* y[rows][cols] in place: dropout(act(y + factor * bias[col])); bias may be NULL. */
void ckpt_cpu_apply_epilogue(const ckpt_cpu_epilogue *epilogue, float *y, const float *bias, float factor,
                             int64_t rows, int64_t cols, const ckpt_scalars *scalars);

/* What cpu_backend.c hands to kernels: the bind of the interface and the device's oneDNN context and threads behind it. */
typedef struct ckpt_cpu_bind {
    ckpt_bind bind; /* first: kernels are given its address */
    struct ckpt_dnnl *dnnl;
    ckpt_team *team;
} ckpt_cpu_bind;

#endif
