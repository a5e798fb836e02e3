#include "runtime/exec.h"

#include <stdlib.h>
#include <time.h>

#include "base/sha256.h"
#include "graph/op.h"

/* One plan bound: its launches for each place that a micro-batch can have in its batch. */
typedef struct bound_plan {
    const ckpt_graph *graph;
    const ckpt_plan *plan;
    ckpt_launch *(*launch)[4]; /* by input buffer, then by first + 2 * last */
    int *step[4];           /* the plan step behind each launch */
    int count[4];
} bound_plan;

/* What runs for one number of samples. */
typedef struct bound_size {
    int64_t samples;
    const uint64_t *offset; /* of tensors that outlive the step, by this size's ids */
    bound_plan training, evaluation;
    int constant_count;
    const ckpt_exec_constant *constant;
} bound_size;

struct ckpt_exec {
    ckpt_pool pool;
    const ckpt_backend *backend;
    ckpt_device *device;
    bool preserve_rng;
    unsigned char *arena;
    uint64_t persistent_bytes, workspace_bytes, input_stride_bytes;
    int buffers; /* copies of the inputs */
    uint64_t scratch_bytes; /* of the step region */
    int result;
    int size_count;
    bound_size size[CKPT_EXEC_MOST_SIZES]; /* the first is the main one */
    const bound_size *used;
    bool opened;
    uint64_t used_before; /* of the device's memory when it had been opened */
    unsigned char *gradient; /* host copy of one gradient, made by the first ckpt_exec_train_hashed */
    uint64_t gradient_bytes;
};

static bool is_buffered(const ckpt_graph *graph, int tensor) {
    return tensor >= 0 && (graph->tensor[tensor].role == CKPT_ROLE_INPUT || graph->tensor[tensor].role == CKPT_ROLE_TARGET);
}

/* Of what outlives the step; buffer: of inputs and targets. */
static void *lasting(const ckpt_exec *exec, const bound_size *size, int tensor, int buffer) {
    return exec->arena + size->offset[tensor] +
           (is_buffered(size->training.graph, tensor) ? (uint64_t)buffer * exec->input_stride_bytes : 0);
}

static void *address(const ckpt_exec *exec, const bound_size *size, const ckpt_plan *plan, int tensor, int instance,
                     int buffer) {
    if (tensor < 0) return NULL;
    if (instance < 0) return lasting(exec, size, tensor, buffer);
    return exec->arena + exec->persistent_bytes + exec->workspace_bytes + plan->instance[instance].offset;
}

static const ckpt_graph *main_graph(const ckpt_exec *exec) { return exec->size[0].training.graph; }

/* Recomputations that must not repeat their numbers draw from a stream of their own. */
static uint32_t stream_salt(const ckpt_exec *exec, const ckpt_plan_step *step, int index) {
    return exec->preserve_rng || !step->recompute ? 0 : 0x40000000u + (uint32_t)index;
}

/* Whether the instance is read for the last time in step `index`. One that is there after the last step is an output. */
static bool dies_at(const ckpt_plan *plan, int instance, int index) {
    return instance >= 0 && plan->instance[instance].end == index + 1 && index + 1 < plan->step_count;
}

static ckpt_status bind_step(ckpt_exec *exec, const bound_size *size, const bound_plan *bound, int index, int buffer,
                             ckpt_launch *launch, ckpt_error *err) {
    const ckpt_plan_step *step = &bound->plan->step[index];
    const ckpt_node *node = &bound->graph->node[step->node];
    ckpt_bind bind = {.graph = bound->graph, .node = node, .pool = &exec->pool,
                      .workspace = exec->arena + exec->persistent_bytes, .workspace_bytes = exec->workspace_bytes,
                      .scratch = exec->arena + exec->persistent_bytes + exec->workspace_bytes,
                      .scratch_bytes = exec->scratch_bytes,
                      .stream_salt = stream_salt(exec, step, index)};
    for (int i = 0; i < node->in_count; i++) {
        bind.in[i] = address(exec, size, bound->plan, node->in[i], step->in[i], buffer);
        bind.dies |= (uint64_t)dies_at(bound->plan, step->in[i], index) << i;
    }
    for (int i = 0; i < node->out_count; i++)
        bind.out[i] = address(exec, size, bound->plan, node->out[i], step->out[i], buffer);
    ckpt_status status = exec->backend->bind(exec->device, &bind, launch, err);
    return status == CKPT_OK ? status : ckpt_fail_in(err, "node '%s'", node->name);
}

static bool runs_at(ckpt_when when, int place) {
    return when == CKPT_ALWAYS || (when == CKPT_FIRST_MICRO && place & 1) || (when == CKPT_LAST_MICRO && place & 2);
}

static ckpt_status make_lists(ckpt_exec *exec, bound_plan *bound, ckpt_error *err) {
    const int steps = bound->plan->step_count;
    bound->launch = ckpt_pool_alloc(&exec->pool, (size_t)exec->buffers, sizeof *bound->launch);
    bool ok = bound->launch;
    for (int place = 0; ok && place < 4; place++) {
        ok = (bound->step[place] = ckpt_pool_array(&exec->pool, steps, int));
        for (int b = 0; ok && b < exec->buffers; b++)
            ok = (bound->launch[b][place] = ckpt_pool_array(&exec->pool, steps, ckpt_launch));
    }
    return ok ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
}

/* A step that reads no input is bound once, for all buffers. */
static ckpt_status bind_plan(ckpt_exec *exec, const bound_size *size, bound_plan *bound, const ckpt_graph *graph,
                             const ckpt_plan *plan, ckpt_error *err) {
    bound->graph = graph;
    bound->plan = plan;
    CKPT_TRY(make_lists(exec, bound, err));
    for (int i = 0; i < plan->step_count; i++) {
        const ckpt_node *node = &graph->node[plan->step[i].node];
        ckpt_launch launch = {0};
        bool buffered = false;
        for (int k = 0; k < node->in_count; k++) buffered |= is_buffered(graph, node->in[k]);
        for (int b = 0; b < exec->buffers; b++) {
            if (b == 0 || buffered) CKPT_TRY(bind_step(exec, size, bound, i, b, &launch, err));
            for (int place = 0; place < 4; place++)
                if (runs_at(node->when, place)) bound->launch[b][place][bound->count[place]] = launch;
        }
        for (int place = 0; place < 4; place++)
            if (runs_at(node->when, place)) bound->step[place][bound->count[place]++] = i;
    }
    return CKPT_OK;
}

ckpt_status ckpt_exec_device_memory(const ckpt_exec *exec, ckpt_exec_memory *memory, ckpt_error *err) {
    uint64_t free_bytes = 0, total = 0;
    if (exec->backend->memory) CKPT_TRY(exec->backend->memory(exec->device, &free_bytes, &total, err));
    const uint64_t used = total - free_bytes, before = exec->opened ? exec->used_before : used;
    *memory = (ckpt_exec_memory){.total_bytes = total, .before_bytes = before,
                                 .taken_bytes = used > before ? used - before : 0};
    return CKPT_OK;
}

static ckpt_status open_device(ckpt_exec *exec, const ckpt_exec_options *options, const ckpt_plan *plan, ckpt_error *err) {
    void *arena;
    ckpt_exec_memory memory;
    CKPT_TRY(exec->backend->open(&options->device, &exec->device, err));
    CKPT_TRY(ckpt_exec_device_memory(exec, &memory, err));
    exec->used_before = memory.before_bytes;
    exec->opened = true;
    CKPT_TRY(exec->backend->allocate(exec->device, plan->memory.total, &arena, err));
    exec->arena = arena;
    return CKPT_OK;
}

/* Optimizer state begins at zero. */
static ckpt_status clear_states(ckpt_exec *exec, const ckpt_graph *graph, ckpt_error *err) {
    uint64_t most = 0;
    for (int t = 0; t < graph->tensor_count; t++)
        if (graph->tensor[t].role == CKPT_ROLE_STATE && ckpt_tensor_bytes(&graph->tensor[t]) > most)
            most = ckpt_tensor_bytes(&graph->tensor[t]);
    ckpt_pool scratch = {0};
    void *zeros = ckpt_pool_alloc(&scratch, (size_t)most, 1);
    ckpt_status status = zeros ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    for (int t = 0; status == CKPT_OK && t < graph->tensor_count; t++)
        if (graph->tensor[t].role == CKPT_ROLE_STATE) status = ckpt_exec_set(exec, t, zeros, err);
    ckpt_pool_free(&scratch);
    return status;
}

ckpt_status ckpt_exec_open(const ckpt_exec_options *options, const ckpt_graph *training, const ckpt_plan *plan,
                           const ckpt_graph *evaluation, const ckpt_plan *evaluation_plan, ckpt_exec **exec,
                           ckpt_error *err) {
    ckpt_pool pool = {0};
    ckpt_exec *e = ckpt_pool_array(&pool, 1, ckpt_exec);
    *exec = NULL;
    if (!e) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    e->pool = pool;
    e->backend = options->backend;
    e->preserve_rng = options->preserve_rng;
    e->persistent_bytes = plan->persistent_bytes;
    e->workspace_bytes = plan->memory.workspace;
    e->input_stride_bytes = plan->input_stride_bytes;
    e->buffers = options->backend->overlap ? plan->input_buffers : 1;
    e->scratch_bytes = plan->memory.arena;
    e->result = training->result;
    e->used = e->size;
    const ckpt_exec_size whole = {training, evaluation, plan, evaluation_plan, true, evaluation != NULL, 0, NULL};
    ckpt_status status = open_device(e, options, plan, err);
    if (status == CKPT_OK) status = ckpt_exec_add_size(e, &whole, err);
    if (status == CKPT_OK) status = clear_states(e, training, err);
    if (status != CKPT_OK) {
        ckpt_exec_close(e);
        return status;
    }
    *exec = e;
    return CKPT_OK;
}

ckpt_status ckpt_exec_add_size(ckpt_exec *exec, const ckpt_exec_size *size, ckpt_error *err) {
    if (exec->size_count == CKPT_EXEC_MOST_SIZES) return ckpt_fail(err, CKPT_FAILED, "too many batch sizes");
    bound_size *bound = &exec->size[exec->size_count++];
    *bound = (bound_size){.samples = size->training->batch, .constant_count = size->constant_count, .constant = size->constant};
    bound->offset = size->plan->persistent_offset;
    bound->training.graph = size->training; /* tells which tensors have buffers, trained with or not */
    bound->evaluation.graph = size->evaluation;
    if (size->train) CKPT_TRY(bind_plan(exec, bound, &bound->training, size->training, size->plan, err));
    return size->evaluate ? bind_plan(exec, bound, &bound->evaluation, size->evaluation, size->evaluation_plan, err) : CKPT_OK;
}

/* Copies to the device come after the runs before them. */
ckpt_status ckpt_exec_use(ckpt_exec *exec, int64_t samples, ckpt_error *err) {
    const bound_size *next = NULL, *before = exec->used;
    for (int i = 0; i < exec->size_count && !next; i++)
        if (exec->size[i].samples == samples) next = &exec->size[i];
    if (!next) return ckpt_fail(err, CKPT_FAILED, "no batch of %lld samples has been planned", (long long)samples);
    if (next == before) return CKPT_OK;
    for (int i = 0; i < before->constant_count; i++)
        CKPT_TRY(ckpt_exec_set(exec, before->constant[i].main_tensor, before->constant[i].replaced, err));
    for (int i = 0; i < next->constant_count; i++)
        CKPT_TRY(exec->backend->upload(exec->device, lasting(exec, next, next->constant[i].tensor, 0), next->constant[i].values,
                                       ckpt_tensor_bytes(&next->training.graph->tensor[next->constant[i].tensor]), err));
    exec->used = next;
    return CKPT_OK;
}

ckpt_status ckpt_exec_set(ckpt_exec *exec, int tensor, const void *values, ckpt_error *err) {
    return exec->backend->upload(exec->device, lasting(exec, exec->size, tensor, 0), values,
                                 ckpt_tensor_bytes(&main_graph(exec)->tensor[tensor]), err);
}

/* The instance of a STEP tensor that is still there after the last step: a graph output's; -1 for others. */
static int final_instance(const ckpt_plan *plan, int tensor) {
    for (int k = plan->instance_count - 1; k >= 0; k--)
        if (plan->instance[k].tensor == tensor) return plan->instance[k].end == plan->step_count ? k : -1;
    return -1;
}

ckpt_status ckpt_exec_get(const ckpt_exec *exec, int tensor, void *values, ckpt_error *err) {
    const bound_size *size = exec->size;
    const ckpt_graph *graph = main_graph(exec);
    int instance = -1;
    if (ckpt_tensor_is_step(graph, tensor)) {
        instance = final_instance(size->training.plan, tensor);
        if (instance < 0)
            return ckpt_fail(err, CKPT_FAILED, "'%s' is not kept until the end of a step", graph->tensor[tensor].name);
    }
    return exec->backend->download(exec->device, values, address(exec, size, size->training.plan, tensor, instance, 0),
                                   ckpt_tensor_bytes(&graph->tensor[tensor]), err);
}

void ckpt_scalars_count_all(ckpt_scalars *scalars, const ckpt_graph *graph, int64_t samples) {
    for (int n = 0; n < graph->forward_count; n++)
        if (graph->node[n].op == CKPT_OP_LOSS)
            scalars->denominator[graph->node[n].attr.loss.term] =
                (double)ckpt_loss_items(&graph->node[n]) / (double)graph->batch * (double)samples;
}

ckpt_status ckpt_exec_train(ckpt_exec *exec, const ckpt_scalars *scalars, bool first, bool last, ckpt_error *err) {
    const bound_plan *bound = &exec->used->training;
    const int place = first + 2 * last;
    return exec->backend->run(exec->device, bound->launch[scalars->input_buffer][place], bound->count[place], scalars, err);
}

ckpt_status ckpt_exec_train_timed(ckpt_exec *exec, const ckpt_scalars *scalars, bool first, bool last, double *seconds,
                                  ckpt_error *err) {
    const bound_plan *bound = &exec->used->training;
    const int place = first + 2 * last;
    double result[2];
    for (int s = 0; s < bound->plan->step_count; s++) seconds[s] = 0;
    for (int i = 0; i < bound->count[place]; i++) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        CKPT_TRY(exec->backend->run(exec->device, &bound->launch[scalars->input_buffer][place][i], 1, scalars, err));
        /* A device that works on its own has finished when something comes back. */
        if (exec->backend->overlap) CKPT_TRY(ckpt_exec_result(exec, result, err));
        clock_gettime(CLOCK_MONOTONIC, &end);
        seconds[bound->step[place][i]] = (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
    }
    return CKPT_OK;
}

ckpt_status ckpt_exec_evaluate(ckpt_exec *exec, const ckpt_scalars *scalars, bool first, ckpt_error *err) {
    const bound_plan *bound = &exec->used->evaluation;
    return exec->backend->run(exec->device, bound->launch[scalars->input_buffer][first], bound->count[first], scalars, err);
}

/* Room on the host for the largest gradient that an update reads. */
static ckpt_status reserve_gradient(ckpt_exec *exec, ckpt_error *err) {
    const ckpt_graph *graph = main_graph(exec);
    if (exec->gradient) return CKPT_OK;
    for (int n = 0; n < graph->node_count; n++)
        if (graph->node[n].phase == CKPT_UPDATE) {
            const uint64_t bytes = ckpt_tensor_bytes(&graph->tensor[graph->node[n].in[1]]);
            if (bytes > exec->gradient_bytes) exec->gradient_bytes = bytes;
        }
    exec->gradient = ckpt_pool_alloc(&exec->pool, (size_t)exec->gradient_bytes, 1);
    return exec->gradient ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
}

ckpt_status ckpt_exec_train_hashed(ckpt_exec *exec, const ckpt_scalars *scalars, bool first, bool last, char hash[65],
                                   ckpt_error *err) {
    const bound_plan *bound = &exec->used->training;
    const int place = first + 2 * last, count = bound->count[place];
    const ckpt_launch *launch = bound->launch[scalars->input_buffer][place];
    ckpt_sha256 sum;
    uint32_t digests[8] = {0};
    CKPT_TRY(reserve_gradient(exec, err));
    for (int begin = 0; begin < count;) {
        int end = begin; /* up to the next update, whose gradient is then complete */
        const ckpt_plan_step *step = NULL;
        for (; end < count && !step; end++)
            if (bound->graph->node[bound->plan->step[bound->step[place][end]].node].phase == CKPT_UPDATE)
                step = &bound->plan->step[bound->step[place][end]];
        if (step) {
            const ckpt_node *node = &bound->graph->node[step->node];
            const uint64_t bytes = ckpt_tensor_bytes(&bound->graph->tensor[node->in[1]]);
            CKPT_TRY(exec->backend->run(exec->device, launch + begin, end - 1 - begin, scalars, err));
            CKPT_TRY(exec->backend->download(exec->device, exec->gradient,
                                             address(exec, exec->used, bound->plan, node->in[1], step->in[1], 0), bytes, err));
            ckpt_sha256_start(&sum);
            ckpt_sha256_add(&sum, &node->in[0], sizeof node->in[0]);
            ckpt_sha256_add(&sum, exec->gradient, (size_t)bytes);
            ckpt_sha256_hex(&sum, hash);
            for (int i = 0; i < 8; i++) digests[i] ^= sum.state[i]; /* plans run updates in different orders */
            begin = end - 1;
        }
        CKPT_TRY(exec->backend->run(exec->device, launch + begin, end - begin, scalars, err));
        begin = end;
    }
    ckpt_sha256_start(&sum);
    ckpt_sha256_add(&sum, digests, sizeof digests);
    ckpt_sha256_hex(&sum, hash);
    return CKPT_OK;
}

void *ckpt_exec_input(const ckpt_exec *exec, int tensor) {
    return exec->backend->in_host ? lasting(exec, exec->size, tensor, 0) : NULL;
}

int ckpt_exec_buffers(const ckpt_exec *exec) { return exec->buffers; }

ckpt_status ckpt_exec_pin(ckpt_exec *exec, uint64_t bytes, void **pinned, ckpt_error *err) {
    if (exec->backend->overlap) return exec->backend->overlap->pin(exec->device, bytes, pinned, err);
    *pinned = calloc(1, (size_t)bytes + 1);
    return *pinned ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
}

void ckpt_exec_unpin(ckpt_exec *exec, void *pinned) {
    if (!pinned) return;
    if (exec->backend->overlap) exec->backend->overlap->unpin(exec->device, pinned);
    else free(pinned);
}

ckpt_status ckpt_exec_feed(ckpt_exec *exec, int buffer, int tensor, const void *pinned, ckpt_error *err) {
    const ckpt_graph *graph = main_graph(exec);
    const uint64_t sample_bytes = ckpt_tensor_bytes(&graph->tensor[tensor]) / (uint64_t)graph->batch;
    const uint64_t bytes = sample_bytes * (uint64_t)exec->used->samples;
    void *to = lasting(exec, exec->size, tensor, buffer);
    if (to == pinned) return CKPT_OK;
    if (!exec->backend->overlap) return exec->backend->upload(exec->device, to, pinned, bytes, err);
    return exec->backend->overlap->fetch(exec->device, buffer, to, pinned, bytes, err);
}

ckpt_status ckpt_exec_fed(ckpt_exec *exec, int buffer, ckpt_error *err) {
    return exec->backend->overlap ? exec->backend->overlap->fetched(exec->device, buffer, err) : CKPT_OK;
}

ckpt_status ckpt_exec_post_result(ckpt_exec *exec, int buffer, double pinned[2], ckpt_error *err) {
    if (!exec->backend->overlap) return ckpt_exec_result(exec, pinned, err);
    return exec->backend->overlap->post(exec->device, buffer, pinned, lasting(exec, exec->size, exec->result, 0),
                                        2 * sizeof *pinned, err);
}

ckpt_status ckpt_exec_posted(ckpt_exec *exec, int buffer, ckpt_error *err) {
    return exec->backend->overlap ? exec->backend->overlap->posted(exec->device, buffer, err) : CKPT_OK;
}

ckpt_status ckpt_exec_result(const ckpt_exec *exec, double result[2], ckpt_error *err) {
    return ckpt_exec_get(exec, exec->result, result, err);
}

uint64_t ckpt_exec_measured_peak(const ckpt_exec *exec) { return exec->backend->peak_bytes(exec->device); }
void *ckpt_exec_arena(const ckpt_exec *exec) { return exec->arena; }

void ckpt_exec_close(ckpt_exec *exec) {
    if (!exec) return;
    if (exec->arena) exec->backend->release(exec->device, exec->arena);
    if (exec->device) exec->backend->close(exec->device);
    ckpt_pool pool = exec->pool; /* the executor lies in its own pool */
    ckpt_pool_free(&pool);
}
