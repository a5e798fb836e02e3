/* The interface between the executor and a device: about eight functions and one kernel column of the op table.
 *
 *     const ckpt_backend *backend = ckpt_backend_cpu();
 *     backend->open(&options, &device, &err);
 *     backend->allocate(device, plan_bytes, &arena, &err);
 *     backend->bind(device, &bind, &launches[s], &err); // once per plan step, at start
 *     backend->run(device, launches, n, &scalars, &err);  // every step; allocates nothing
 *
 * The rest of the program does not know which backend runs. A backend that is not built in is a file whose
 * ckpt_backend_NAME returns NULL.
 */
#ifndef CKPT_BACKEND_H
#define CKPT_BACKEND_H

#include "base/pool.h"
#include "base/status.h"
#include "graph/graph.h"
#include "planner/core/plan_types.h"

/* What changes from step to step. Masks depend on it and on nothing else (design section 6). */
typedef struct ckpt_scalars {
    uint64_t seed;
    uint32_t step;          /* counts training steps from 0 */
    float learning_rate;
    int64_t first_sample;   /* of this micro-batch in the batch: shifts the element index of dropout masks */
    double denominator[CKPT_MAX_TARGETS]; /* of each loss's mean over the whole batch: what counts there (graph/build.h), for FILE
                                             the samples; 0: nothing does, and the loss and its gradient are 0 */
    int input_buffer;       /* the copy of the inputs that is read: below ckpt_traits.input_buffers */
} ckpt_scalars;

/* A node bound to its addresses. */
typedef struct ckpt_bind {
    const ckpt_graph *graph;
    const ckpt_node *node;
    void *in[CKPT_MAX_IN]; /* device addresses; NULL where absent */
    void *out[CKPT_MAX_OUT];
    void *workspace;
    uint64_t workspace_bytes;
    uint64_t dies; /* bit i: the step does not read input i again after this node: its memory need not hold it any more */
    void *scratch; /* where tensors of a step lie: nothing is there yet, and binding may write it, as to measure; or NULL */
    uint64_t scratch_bytes;
    uint32_t stream_salt; /* 0; with --preserve-rng off not 0 for a recomputation: added to the random stream */
    ckpt_pool *pool;      /* for what the kernel keeps until the device is closed */
} ckpt_bind;

typedef struct ckpt_launch {
    void (*run)(const void *self, const ckpt_scalars *scalars);
    const void *self; /* in the pool of ckpt_bind */
} ckpt_launch;

typedef ckpt_status (*ckpt_bind_kernel)(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err);

typedef struct ckpt_device ckpt_device;

typedef struct ckpt_device_options {
    int index;   /* which of several devices */
    int threads; /* CPU: 0 means ckpt_team_default_threads() */
    bool poison; /* fill fresh memory with NaN */
    ckpt_precision precision; /* CKPT_USAGE where the backend does not have it */
    bool no_fusion; /* CUDA: a kernel for each node; otherwise pointwise nodes behind each other may share one */
    bool first_choice; /* of kernels from a library: what it recommends, not what measures fastest */
    bool no_graph; /* CUDA: start each kernel of a step instead of replaying a recorded step */
} ckpt_device_options;

/* What lets the next batch and the last result travel while a step runs. Buffers are numbered as
 * ckpt_scalars.input_buffer; host memory is page-locked memory that `pin` gave. */
typedef struct ckpt_overlap {
    ckpt_status (*pin)(ckpt_device *device, uint64_t bytes, void **address, ckpt_error *err); /* CKPT_NOMEM */
    void (*unpin)(ckpt_device *device, void *address); /* waits until nothing uses it */
    /* Starts a copy into an input buffer, after the runs so far that read it; later runs that read it wait for it. */
    ckpt_status (*fetch)(ckpt_device *device, int buffer, void *to, const void *from_host, uint64_t bytes, ckpt_error *err);
    /* Waits until what was fetched into the buffer is there: its host memory may be written again. */
    ckpt_status (*fetched)(ckpt_device *device, int buffer, ckpt_error *err);
    /* Starts a copy to the host behind the runs so far; `posted` waits for the last one of this number. */
    ckpt_status (*post)(ckpt_device *device, int buffer, void *to_host, const void *from, uint64_t bytes, ckpt_error *err);
    ckpt_status (*posted)(ckpt_device *device, int buffer, ckpt_error *err);
} ckpt_overlap;

typedef struct ckpt_backend {
    const char *name;
    const ckpt_traits *traits;
    bool (*supports)(ckpt_op op); /* whether there is a kernel, for refusals before anything is allocated */
    ckpt_status (*open)(const ckpt_device_options *options, ckpt_device **device, ckpt_error *err);
    void (*close)(ckpt_device *device); /* frees what is still allocated */
    ckpt_status (*allocate)(ckpt_device *device, uint64_t bytes, void **address, ckpt_error *err); /* CKPT_NOMEM */
    void (*release)(ckpt_device *device, void *address);
    uint64_t (*peak_bytes)(const ckpt_device *device); /* the most that was allocated at once since open */
    ckpt_status (*bind)(ckpt_device *device, const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err);
    ckpt_status (*run)(ckpt_device *device, const ckpt_launch *launches, int count, const ckpt_scalars *scalars,
                       ckpt_error *err);
    ckpt_status (*upload)(ckpt_device *device, void *to, const void *from_host, uint64_t bytes, ckpt_error *err);
    ckpt_status (*download)(ckpt_device *device, void *to_host, const void *from, uint64_t bytes, ckpt_error *err);
    /* What the device has and what of it nobody holds, this process' context and all; NULL where that says nothing. */
    ckpt_status (*memory)(ckpt_device *device, uint64_t *free_bytes, uint64_t *total_bytes, ckpt_error *err);
    bool in_host; /* its memory is the host's: inputs may be written in place */
    const ckpt_overlap *overlap; /* NULL: runs have finished when they return, and there is one input buffer */
} ckpt_backend;

const ckpt_backend *ckpt_backend_cpu(void);
const ckpt_backend *ckpt_backend_cuda(void);

bool ckpt_cpu_supports(ckpt_op op);
bool ckpt_cuda_supports(ckpt_op op);

#endif
