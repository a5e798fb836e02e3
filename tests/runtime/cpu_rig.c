#include "cpu_rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "runtime/philox.h"

enum { CANARY = 0xA5 };

void rig_open(rig *r) {
    memset(r, 0, sizeof *r);
    r->graph.batch = 1;
    r->graph.result = -1;
    r->scalars = (ckpt_scalars){.seed = 42, .learning_rate = 0.01f, .valid_samples = 1};
    for (int i = 0; i < 2; i++) {
        const ckpt_device_options options = {.threads = 1 + i, .poison = true};
        assert_int_equal(ckpt_backend_cpu()->open(&options, &r->device[i], NULL), CKPT_OK);
    }
}

void rig_close(rig *r) {
    for (int i = 0; i < 2; i++) ckpt_backend_cpu()->close(r->device[i]);
    for (int t = 0; t < RIG_TENSORS; t++) {
        free(r->buffer[t].block);
        free(r->buffer[t].initial);
    }
    ckpt_graph_free(&r->graph);
}

double rig_uniform(rig *r) {
    uint32_t word[4];
    ckpt_philox(7, 1, 2, r->random / 4, word);
    return word[r->random++ % 4] * 0x1p-32;
}

static rig_buffer buffer_make(size_t bytes) {
    rig_buffer b = {.bytes = bytes};
    const size_t padded = (bytes + 2 * RIG_GUARD + 255) / 256 * 256;
    b.block = aligned_alloc(256, padded);
    assert_non_null(b.block);
    memset(b.block, CANARY, padded);
    b.at = b.block + RIG_GUARD;
    return b;
}

static void buffer_check(const rig_buffer *b) {
    for (size_t i = 0; i < RIG_GUARD; i++) {
        assert_int_equal(b->block[i], CANARY);
        assert_int_equal(b->at[b->bytes + i], CANARY);
    }
}

int rig_tensor(rig *r, ckpt_dtype type, int rank, const int64_t *dims, const void *values) {
    int t = ckpt_graph_add_tensor(&r->graph, "t", type, CKPT_ROLE_STEP, rank, dims, NULL);
    assert_in_range(t, 0, RIG_TENSORS - 1);
    const size_t bytes = (size_t)ckpt_tensor_bytes(&r->graph.tensor[t]);
    r->buffer[t] = buffer_make(bytes);
    r->buffer[t].initial = calloc(bytes + 1, 1);
    assert_non_null(r->buffer[t].initial);
    if (values && bytes) memcpy(r->buffer[t].initial, values, bytes);
    if (bytes) memcpy(r->buffer[t].at, r->buffer[t].initial, bytes);
    return t;
}

int rig_random(rig *r, int rank, const int64_t *dims, double scale) {
    int t = rig_tensor(r, CKPT_F32, rank, dims, NULL);
    float *values = (float *)(void *)r->buffer[t].initial;
    for (int64_t i = 0; i < r->graph.tensor[t].count; i++) values[i] = (float)((2 * rig_uniform(r) - 1) * scale);
    memcpy(r->buffer[t].at, values, r->buffer[t].bytes);
    return t;
}

int rig_output(rig *r, ckpt_dtype type, int rank, const int64_t *dims) {
    return rig_tensor(r, type, rank, dims, NULL);
}

void *rig_data(rig *r, int tensor) { return r->buffer[tensor].at; }
float *rig_floats(rig *r, int tensor) { return rig_data(r, tensor); }

static bool among(int t, int count, const int *list) {
    for (int i = 0; i < count; i++)
        if (list[i] == t) return true;
    return false;
}

/* One run; over >= 0: output 0 lies in that input's buffer, and is moved to its own afterwards. */
static void run_once(rig *r, const ckpt_node *node, int threads, int fill, int over) {
    const ckpt_backend *cpu = ckpt_backend_cpu();
    ckpt_pool pool = {0};
    ckpt_error err = {.message = ""};
    ckpt_bind bind = {.graph = &r->graph, .node = node, .pool = &pool};
    for (int i = 0; i < node->in_count; i++) {
        if (node->in[i] < 0) continue;
        const rig_buffer *b = &r->buffer[node->in[i]];
        memcpy(b->at, b->initial, b->bytes);
        bind.in[i] = b->at;
    }
    for (int i = 0; i < node->out_count; i++) {
        if (node->out[i] < 0) continue;
        const rig_buffer *b = &r->buffer[node->out[i]];
        if (!among(node->out[i], node->in_count, node->in)) {
            if (node->op == CKPT_OP_LOSS)
                memcpy(b->at, b->initial, b->bytes); /* it adds to its result */
            else
                memset(b->at, fill, b->bytes);
        }
        bind.out[i] = b->at;
    }
    if (over >= 0) bind.out[0] = bind.in[over];
    rig_buffer workspace = buffer_make((size_t)cpu->traits->matmul_workspace_bytes);
    bind.workspace = workspace.at;
    bind.workspace_bytes = workspace.bytes;
    ckpt_launch launch;
    ckpt_device *device = r->device[threads - 1];
    if (cpu->bind(device, &bind, &launch, &err) != CKPT_OK) fail_msg("%s", err.message);
    const size_t pool_bytes = pool.total_bytes;
    const uint64_t peak = cpu->peak_bytes(device);
    assert_int_equal(cpu->run(device, &launch, 1, &r->scalars, &err), CKPT_OK);
    assert_int_equal(pool.total_bytes, pool_bytes); /* nothing is allocated in a step */
    assert_int_equal(cpu->peak_bytes(device), peak);
    buffer_check(&workspace);
    free(workspace.block);
    for (int t = 0; t < r->graph.tensor_count; t++) {
        const rig_buffer *b = &r->buffer[t];
        buffer_check(b);
        const bool written = among(t, node->out_count, node->out) || (over >= 0 && t == node->in[over]);
        if (!written && among(t, node->in_count, node->in)) assert_memory_equal(b->at, b->initial, b->bytes);
    }
    if (over >= 0) memcpy(r->buffer[node->out[0]].at, r->buffer[node->in[over]].at, r->buffer[node->out[0]].bytes);
    ckpt_pool_free(&pool);
}

static void compare_outputs(rig *r, const ckpt_node *node, unsigned char **want, int count) {
    for (int i = 0; i < count; i++)
        if (node->out[i] >= 0) assert_memory_equal(r->buffer[node->out[i]].at, want[i], r->buffer[node->out[i]].bytes);
}

void rig_run(rig *r, ckpt_op op, const ckpt_attr *attr, int in_count, const int *in, int out_count, const int *out) {
    int n = ckpt_graph_add_node(&r->graph, op, CKPT_FORWARD, "node", in_count, in, out_count, out, NULL);
    assert_true(n >= 0);
    r->graph.node[n].attr = *attr;
    const ckpt_node node = r->graph.node[n];
    unsigned char *first[CKPT_MAX_OUT] = {0};
    run_once(r, &node, 1, 0xFF, -1);
    for (int i = 0; i < out_count; i++) {
        if (out[i] < 0) continue;
        first[i] = malloc(r->buffer[out[i]].bytes + 1);
        assert_non_null(first[i]);
        memcpy(first[i], r->buffer[out[i]].at, r->buffer[out[i]].bytes);
    }
    const int threads = r->free_order ? 1 : 2;
    run_once(r, &node, threads, 0, -1);
    compare_outputs(r, &node, first, out_count);
    for (int i = 0; i < in_count; i++) {
        if (!(ckpt_op_info(op)->inplace >> i & 1) || in[i] < 0 || among(in[i], out_count, out)) continue;
        if (r->buffer[in[i]].bytes != r->buffer[out[0]].bytes) continue;
        run_once(r, &node, threads, 0x55, i);
        compare_outputs(r, &node, first, 1);
    }
    for (int i = 0; i < in_count; i++) /* a run over an input spoilt it */
        if (in[i] >= 0 && !among(in[i], out_count, out))
            memcpy(r->buffer[in[i]].at, r->buffer[in[i]].initial, r->buffer[in[i]].bytes);
    for (int i = 0; i < out_count; i++) free(first[i]);
}

void rig_close_to(rig *r, int tensor, const double *want, double limit) {
    const int64_t count = r->graph.tensor[tensor].count;
    const float *got = rig_floats(r, tensor);
    double error = 0, greatest = 1e-30;
    for (int64_t i = 0; i < count; i++) {
        greatest = fmax(greatest, fabs(want[i]));
        const double e = fabs((double)got[i] - want[i]);
        if (!(e <= error)) error = e; /* and a NaN stays */
    }
    if (!(error <= limit * greatest)) fail_msg("error %g of %g, limit %g", error, greatest, limit);
}

void rig_difference(double (*f)(const double *x, const void *context), double *x, int n, const void *context,
                    double *gradient) {
    const double h = 1e-5;
    for (int i = 0; i < n; i++) {
        const double kept = x[i];
        x[i] = kept + h;
        const double above = f(x, context);
        x[i] = kept - h;
        gradient[i] = (above - f(x, context)) / (2 * h);
        x[i] = kept;
    }
}
