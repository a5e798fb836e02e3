/* The executor: a plan bound to a device, run step by step.
 *
 *     ckpt_exec_options options = {.backend = ckpt_backend_cpu(), .preserve_rng = true};
 *     ckpt_exec *exec;
 *     ckpt_exec_open(&options, &training, plan, &evaluation, evaluation_plan, &exec, &err);
 *     ckpt_exec_add_size(exec, &last_batch, &err);      // the same network for fewer samples, in the same memory
 *     ckpt_exec_set(exec, tensor, values, &err);
 *     ckpt_exec_train(exec, &scalars, true, true, &err);
 *     ckpt_exec_close(exec);
 *
 * One allocation holds everything: what outlives a step, then the workspace, then the step region. Every
 * address is fixed when the plan is bound; a step allocates nothing and looks nothing up. A recomputation is
 * a step of the plan like any other. A smaller batch has graphs and plans of its own in the same allocation: what
 * outlives a step is shared, the step region is used by one step at a time.
 */
#ifndef CKPT_EXEC_H
#define CKPT_EXEC_H

#include "runtime/backend.h"

typedef struct ckpt_exec ckpt_exec;

typedef struct ckpt_exec_options {
    const ckpt_backend *backend;
    ckpt_device_options device;
    bool preserve_rng; /* false: a recomputed dropout draws other numbers, to show what then goes wrong */
} ckpt_exec_options;

/* Allocates plan->memory.total bytes and binds both plans. evaluation (forward only, ids as in `training`) and its
 * plan may be NULL. Graphs and plans must outlive the executor. CKPT_NOMEM: the device has not that much. */
ckpt_status ckpt_exec_open(const ckpt_exec_options *options, const ckpt_graph *training, const ckpt_plan *plan,
                           const ckpt_graph *evaluation, const ckpt_plan *evaluation_plan, ckpt_exec **exec,
                           ckpt_error *err);

/* A constant that has other values with this batch: they take the place of the main graph's, `replaced`, while the size
 * is in use. */
typedef struct ckpt_exec_constant {
    int tensor, main_tensor;        /* ids in this size's and in the main training graph; they lie at one address */
    const void *values, *replaced;
} ckpt_exec_constant;

/* The network for another number of samples, under plans that lie within the main ones (planner/plan_size.h). Everything
 * must outlive the executor. */
typedef struct ckpt_exec_size {
    const ckpt_graph *training, *evaluation;
    const ckpt_plan *plan, *evaluation_plan; /* `plan` says where everything lies, trained with or not */
    bool train, evaluate;                    /* which of the two will run */
    int constant_count;
    const ckpt_exec_constant *constant;
} ckpt_exec_size;

enum { CKPT_EXEC_MOST_SIZES = 4 }; /* the main one and two last batches, and one to spare */

/* Binds a further size: after ckpt_exec_open and before anything is copied to the device or run. */
ckpt_status ckpt_exec_add_size(ckpt_exec *exec, const ckpt_exec_size *size, ckpt_error *err);

/* Feeds and runs are for micro-batches of `samples` samples from now on; at first they are for the main graph's batch.
 * CKPT_FAILED: no such size was added. */
ckpt_status ckpt_exec_use(ckpt_exec *exec, int64_t samples, ckpt_error *err);

/* Copies a whole tensor that outlives the step to or from the device, by its id in the main graph; of inputs and targets,
 * buffer 0. Outputs of the graph, which stay until the end of a step, can be copied from it too. */
ckpt_status ckpt_exec_set(ckpt_exec *exec, int tensor, const void *values, ckpt_error *err);
ckpt_status ckpt_exec_get(const ckpt_exec *exec, int tensor, void *values, ckpt_error *err);

/* Batches in and results out beside the steps, where the device can (runtime/backend.h); where it cannot, the same
 * calls copy at once. There are ckpt_exec_buffers() input buffers, and `buffer` is one of them, as scalars->input_buffer
 * is. Host memory comes from ckpt_exec_pin, the caller gives it back. ckpt_exec_feed starts a copy of an INPUT or TARGET
 * tensor of the main graph, as many samples of it as the size in use has, which the runs after it wait for, or does nothing
 * for what was written where ckpt_exec_input says it lies (NULL: on a device, where the host cannot write); ckpt_exec_fed
 * waits until its host memory may be written again. ckpt_exec_post_result asks for the result as the steps so far leave
 * it; it is there after ckpt_exec_posted. */
void *ckpt_exec_input(const ckpt_exec *exec, int tensor);
int ckpt_exec_buffers(const ckpt_exec *exec);
ckpt_status ckpt_exec_pin(ckpt_exec *exec, uint64_t bytes, void **address, ckpt_error *err);
void ckpt_exec_unpin(ckpt_exec *exec, void *address);
ckpt_status ckpt_exec_feed(ckpt_exec *exec, int buffer, int tensor, const void *pinned, ckpt_error *err);
ckpt_status ckpt_exec_fed(ckpt_exec *exec, int buffer, ckpt_error *err);
ckpt_status ckpt_exec_post_result(ckpt_exec *exec, int buffer, double pinned[2], ckpt_error *err);
ckpt_status ckpt_exec_posted(ckpt_exec *exec, int buffer, ckpt_error *err);

/* The denominators of a batch of `samples` in which everything counts, with a weight of 1. */
void ckpt_scalars_count_all(ckpt_scalars *scalars, const ckpt_graph *graph, int64_t samples);

/* Runs the training plan of the size in use once, for one micro-batch. first and last say whether it is the first and the
 * last of its batch; without micro-batches both. */
ckpt_status ckpt_exec_train(ckpt_exec *exec, const ckpt_scalars *scalars, bool first, bool last, ckpt_error *err);

/* The same node by node: seconds[plan->step_count] says what each took, 0 for those that this micro-batch leaves out. */
ckpt_status ckpt_exec_train_timed(ckpt_exec *exec, const ckpt_scalars *scalars, bool first, bool last, double *seconds,
                                  ckpt_error *err);

/* The same, and stores a hash of the gradients as the update nodes read them, each with its parameter's id, so that two plans of
 * one graph can be compared. It does not depend on the order of the updates: SHA-256 over the exclusive or of every
 * gradient's SHA-256. hash: 65 characters. */
ckpt_status ckpt_exec_train_hashed(ckpt_exec *exec, const ckpt_scalars *scalars, bool first, bool last, char hash[65],
                                   ckpt_error *err);

/* Runs the evaluation plan of the size in use. first: clear the result before. */
ckpt_status ckpt_exec_evaluate(ckpt_exec *exec, const ckpt_scalars *scalars, bool first, ckpt_error *err);

/* What the loss nodes added up: {mean loss, number of correct rows}. */
ckpt_status ckpt_exec_result(const ckpt_exec *exec, double result[2], ckpt_error *err);

/* The most that the backend has handed out at once. */
uint64_t ckpt_exec_measured_peak(const ckpt_exec *exec);

/* The device's memory as the driver counts it, all processes and what no plan counts included: in use when the device
 * had been opened and nothing was allocated, and taken since. All 0 where the backend has no such count. */
typedef struct ckpt_exec_memory {
    uint64_t total_bytes, before_bytes, taken_bytes;
} ckpt_exec_memory;
ckpt_status ckpt_exec_device_memory(const ckpt_exec *exec, ckpt_exec_memory *memory, ckpt_error *err);

/* The device address of the allocation, for tests that look at every byte. */
void *ckpt_exec_arena(const ckpt_exec *exec);

void ckpt_exec_close(ckpt_exec *exec);

#endif
