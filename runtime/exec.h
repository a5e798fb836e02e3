/* The executor: a plan bound to a device, run step by step.
 *
 *     ckpt_exec_options options = {.backend = ckpt_backend_cpu(), .preserve_rng = true};
 *     ckpt_exec *exec;
 *     ckpt_exec_open(&options, &training, plan, &evaluation, evaluation_plan, &exec, &err);
 *     ckpt_exec_set(exec, tensor, values, &err);
 *     ckpt_exec_train(exec, &scalars, true, true, &err);
 *     ckpt_exec_close(exec);
 *
 * One allocation holds everything: what outlives a step, then the workspace, then the step region. Every
 * address is fixed when the plan is bound; a step allocates nothing and looks nothing up. A recomputation is
 * a step of the plan like any other.
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

/* Copies a whole tensor that outlives the step to or from the device; of inputs and targets, buffer 0. Outputs of the graph, which stay until the end
 * of a step, can be copied from it too. */
ckpt_status ckpt_exec_set(ckpt_exec *exec, int tensor, const void *values, ckpt_error *err);
ckpt_status ckpt_exec_get(const ckpt_exec *exec, int tensor, void *values, ckpt_error *err);

/* Batches in and results out beside the steps, where the device can (runtime/backend.h); where it cannot, the same
 * calls copy at once. There are ckpt_exec_buffers() input buffers, and `buffer` is one of them, as scalars->input_buffer
 * is. Host memory comes from ckpt_exec_pin, the caller gives it back. ckpt_exec_feed starts a copy of a whole INPUT or
 * TARGET tensor, which the runs after it wait for; ckpt_exec_fed waits until its host memory may be written again.
 * ckpt_exec_post_result asks for the result as the steps so far leave it; it is there after ckpt_exec_posted. */
int ckpt_exec_buffers(const ckpt_exec *exec);
ckpt_status ckpt_exec_pin(ckpt_exec *exec, uint64_t bytes, void **address, ckpt_error *err);
void ckpt_exec_unpin(ckpt_exec *exec, void *address);
ckpt_status ckpt_exec_feed(ckpt_exec *exec, int buffer, int tensor, const void *pinned, ckpt_error *err);
ckpt_status ckpt_exec_fed(ckpt_exec *exec, int buffer, ckpt_error *err);
ckpt_status ckpt_exec_post_result(ckpt_exec *exec, int buffer, double pinned[2], ckpt_error *err);
ckpt_status ckpt_exec_posted(ckpt_exec *exec, int buffer, ckpt_error *err);

/* The denominators of a batch of `samples` in which everything counts, with a weight of 1. */
void ckpt_scalars_count_all(ckpt_scalars *scalars, const ckpt_graph *graph, int64_t samples);

/* Runs the training plan once, for one micro-batch. first and last say whether it is the first and the last of its
 * batch; without micro-batches both. */
ckpt_status ckpt_exec_train(ckpt_exec *exec, const ckpt_scalars *scalars, bool first, bool last, ckpt_error *err);

/* The same node by node: seconds[plan->step_count] says what each took, 0 for those that this micro-batch leaves out. */
ckpt_status ckpt_exec_train_timed(ckpt_exec *exec, const ckpt_scalars *scalars, bool first, bool last, double *seconds,
                                  ckpt_error *err);

/* The same, and stores a SHA-256 over the gradients as the update nodes read them, in the plan's order of updates by
 * parameter id, so that two plans of one graph can be compared. hash: 65 characters. */
ckpt_status ckpt_exec_train_hashed(ckpt_exec *exec, const ckpt_scalars *scalars, bool first, bool last, char hash[65],
                                   ckpt_error *err);

/* Runs the evaluation plan. first: clear the result before. */
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
