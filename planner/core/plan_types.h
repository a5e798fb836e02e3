/* What a plan is: in which order nodes run and where every byte lies.
 *
 * A plan owns its arrays and refers to no graph: it can be written to a file and read back. Whoever runs, checks or draws plans
 * needs this and nothing else of the planner; plan.h makes them.
 */
#ifndef CKPT_PLAN_TYPES_H
#define CKPT_PLAN_TYPES_H

#include "base/pool.h"
#include "base/status.h"
#include "graph/graph.h"
#include "planner/core/costs.h"

/* Of matrix products. TF32: fp32 in memory, factors rounded to 10 bits of mantissa, sums in fp32. BF16: activations and
 * their gradients are kept in bf16 (ckpt_rewrite_to_bf16), sums, parameters and their gradients in fp32. */
typedef enum ckpt_precision { CKPT_PRECISION_FP32, CKPT_PRECISION_TF32, CKPT_PRECISION_BF16 } ckpt_precision;

/* What a device asks of every plan made for it. */
typedef struct ckpt_traits {
    const char *device;              /* "cpu", "cuda" */
    uint64_t alignment_bytes;        /* of every buffer: a power of two */
    uint64_t matmul_workspace_bytes; /* one region, in every plan that holds a matrix product */
    int input_buffers;               /* copies of inputs and targets: 2 where the next batch is fetched meanwhile */
    bool bf16_kernels;               /* nodes can work in bf16; else bf16 values are cast for each (ckpt_rewrite_add_casts) */
} ckpt_traits;

/* The order in which nodes run. A forward node that appears again recomputes; every read means the newest
 * production before it. */
typedef struct ckpt_schedule {
    int count, capacity;
    int *node;
} ckpt_schedule;

/* One production of one STEP tensor. */
typedef struct ckpt_instance {
    int tensor;
    int first, end;         /* steps [first, end): written at `first`, last read at end - 1 */
    uint64_t offset, bytes; /* in the step region; bytes as the tensor's own, offset aligned */
    int reuses;             /* instance whose buffer it is written over (it ends at first + 1), or -1 */
} ckpt_instance;

typedef struct ckpt_plan_step {
    int node;
    bool recompute;
    int in_count;          /* the node's */
    int *in;               /* instance read, -1 for a tensor that outlives the step or an absent input */
    int out[CKPT_MAX_OUT]; /* instance written, likewise */
} ckpt_plan_step;

/* Sizes in bytes, each tensor's rounded up to the alignment. total is what the device is asked for:
 * parameters + constants + optimizer + gradients + inputs + workspace + arena. `gradients` are the sums over
 * micro-batches; gradients within a step are in the arena. `inputs` are the batch's inputs and targets, times
 * input_buffers, and once the RESULT tensor: what crosses between host and device in every step. */
typedef struct ckpt_plan_memory {
    uint64_t total, parameters, constants, optimizer, gradients, inputs, workspace;
    uint64_t arena;           /* the step region: the larger of the packed step and eval_arena */
    uint64_t live_peak;       /* the most that is live at once in it, evaluation included: no packing is smaller */
    uint64_t eval_arena;      /* what the evaluation graph's packed plan takes of it; 0 without one */
    uint64_t eval_live_peak;
} ckpt_plan_memory;

/* Costs are in the unit of the plan's costs; step_cost is of every node once. */
typedef struct ckpt_plan_compute {
    uint64_t forward_flops, backward_flops, recompute_flops; /* update nodes count as backward */
    uint64_t step_cost, recompute_cost;
    int recomputed_nodes;
} ckpt_plan_compute;

/* What holds for every plan of the graph: every order of the backward pass that the dependencies allow, and every schedule. None
 * under the same budget costs less than lower_bound_cost to recompute, nor takes fewer FLOPs than lower_bound_flops: two bounds,
 * which two different plans may reach. proved: this plan reaches lower_bound_cost. */
typedef struct ckpt_plan_bound {
    bool proved;
    uint64_t lower_bound_cost, lower_bound_flops;
} ckpt_plan_bound;

/* The smallest memory.total for which a plan is known, 0 where nobody looked for it, and what no plan is below. Equal: it is the
 * smallest of all. */
typedef struct ckpt_plan_minimum {
    uint64_t total, lower_bound_total;
} ckpt_plan_minimum;

typedef struct ckpt_plan {
    ckpt_pool pool;
    const char *strategy; /* as the user would write it: "sqrt", "every=4", "budget=1048576" */
    const char *device;
    char graph_hash[65];
    uint64_t alignment_bytes;
    int step_count;
    ckpt_plan_step *step;
    int instance_count;
    ckpt_instance *instance;
    int tensor_count;
    uint64_t *persistent_offset; /* tensor id -> offset in the persistent region, UINT64_MAX for STEP tensors */
    uint64_t persistent_bytes;   /* the arena begins with it; then the workspace; then the step region */
    int input_buffers;           /* copy c of INPUT or TARGET tensor t is at persistent_offset[t] + c * stride */
    uint64_t input_stride_bytes;
    ckpt_plan_memory memory;
    uint64_t store_all_total; /* memory.total of strategy NONE; 0 of a plan that was read from a file */
    ckpt_costs costs; /* what was minimized */
    ckpt_plan_compute compute;
    ckpt_plan_bound bound;
    ckpt_plan_minimum minimum; /* its total: of strategy MIN */
    int layer_count;
    bool *layer_recomputed; /* whether any of the layer's nodes, cheap or not, runs more than once */
} ckpt_plan;

void ckpt_plan_free(ckpt_plan *plan);

/* A copy with inputs of its own, and room for one step more; all is the pool's. NULL: no memory. */
ckpt_plan_step *ckpt_plan_copy_steps(const ckpt_plan_step *step, int count, ckpt_pool *pool);

#endif
