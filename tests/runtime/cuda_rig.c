#include "cuda_rig.h"

#include <stdlib.h>
#include <string.h>

void rig_open(rig_case *c, ckpt_op op) {
    memset(c, 0, sizeof *c);
    c->graph.batch = 1;
    c->graph.result = -1;
    c->node.op = op;
    c->node.name = "node";
    c->over = -1;
    c->scalars = (ckpt_scalars){.seed = 0x123456789abcdef, .step = 3, .learning_rate = 0.01f, .valid_samples = 1};
}

void rig_close(rig_case *c) {
    for (int t = 0; t < RIG_TENSORS; t++) {
        free(c->value[t]);
        free(c->result[t]);
    }
    ckpt_graph_free(&c->graph);
}

static float next_number(rig_case *c) {
    c->random = c->random * 1664525u + 1013904223u;
    return (float)(int32_t)c->random / 2147483648.0f;
}

static int add_tensor(rig_case *c, ckpt_dtype type, int rank, const int64_t *dims) {
    ckpt_error err;
    const int t = ckpt_graph_add_tensor(&c->graph, NULL, type, CKPT_ROLE_STEP, rank, dims, &err);
    assert_in_range(t, 0, RIG_TENSORS - 1);
    c->value[t] = calloc((size_t)ckpt_tensor_bytes(&c->graph.tensor[t]) + 8, 1);
    c->result[t] = calloc((size_t)ckpt_tensor_bytes(&c->graph.tensor[t]) + 8, 1);
    return t;
}

/* Numbers in (-scale, scale); for classes and booleans small whole ones. */
int rig_add_in(rig_case *c, ckpt_dtype type, int rank, const int64_t *dims, float scale) {
    const int t = add_tensor(c, type, rank, dims);
    for (int64_t i = 0; i < c->graph.tensor[t].count; i++) {
        const float x = next_number(c) * scale;
        switch (type) {
        case CKPT_F32: ((float *)c->value[t])[i] = x; break;
        case CKPT_F64: ((double *)c->value[t])[i] = (double)x * 1.0000001; break;
        case CKPT_I32: ((int32_t *)c->value[t])[i] = (int32_t)x; break;
        case CKPT_I64: ((int64_t *)c->value[t])[i] = (int64_t)x; break;
        case CKPT_BOOL: ((uint8_t *)c->value[t])[i] = x > 0; break;
        case CKPT_F16:
        case CKPT_BF16: ((uint16_t *)c->value[t])[i] = (uint16_t)(int32_t)(x * 30000); break;
        }
    }
    c->node.in[c->node.in_count++] = t;
    return t;
}

int rig_add_out(rig_case *c, ckpt_dtype type, int rank, const int64_t *dims) {
    const int t = add_tensor(c, type, rank, dims);
    c->node.out[c->node.out_count++] = t;
    return t;
}

/* Runs the node; its tensors lie behind each other in one allocation, `shift` bytes off the alignment. */
void rig_run_on(rig_case *c, const ckpt_backend *backend, uint64_t shift, bool poison) {
    const ckpt_device_options options = {.poison = poison, .threads = 1, .precision = c->precision};
    ckpt_error err = {.message = ""};
    ckpt_device *device;
    ckpt_launch launch;
    ckpt_pool pool = {0};
    void *memory;
    uint64_t offset[RIG_TENSORS], total = 0;
    ckpt_bind bind = {.graph = &c->graph, .node = &c->node, .pool = &pool};
    for (int t = 0; t < c->graph.tensor_count; t++) {
        offset[t] = total + shift;
        total += (ckpt_tensor_bytes(&c->graph.tensor[t]) + shift + 255) / 256 * 256;
    }
    MUST(backend->open(&options, &device, &err), &err);
    MUST(backend->allocate(device, total + 256, &memory, &err), &err);
    for (int i = 0; i < c->node.in_count; i++) bind.in[i] = (char *)memory + offset[c->node.in[i]];
    for (int i = 0; i < c->node.out_count; i++) bind.out[i] = (char *)memory + offset[c->node.out[i]];
    if (c->over >= 0) bind.out[0] = bind.in[c->over];
    for (int i = 0; i < c->node.in_count; i++)
        MUST(backend->upload(device, bind.in[i], c->value[c->node.in[i]], ckpt_tensor_bytes(&c->graph.tensor[c->node.in[i]]), &err), &err);
    if (c->node.op == CKPT_OP_LOSS) MUST(backend->upload(device, bind.out[0], c->value[c->node.out[0]], 16, &err), &err);
    MUST(backend->bind(device, &bind, &launch, &err), &err);
    MUST(backend->run(device, &launch, 1, &c->scalars, &err), &err);
    for (int i = 0; i < c->node.out_count; i++)
        MUST(backend->download(device, c->result[c->node.out[i]], bind.out[i], ckpt_tensor_bytes(&c->graph.tensor[c->node.out[i]]), &err), &err);
    backend->close(device);
    ckpt_pool_free(&pool);
}

/* The outputs of both backends, from aligned and from barely aligned memory, are the same bits. */
void rig_compare(rig_case *c, const char *what) {
    void *want[CKPT_MAX_OUT];
    rig_run_on(c, ckpt_backend_cpu(), 0, true);
    for (int i = 0; i < c->node.out_count; i++) {
        const size_t bytes = (size_t)ckpt_tensor_bytes(&c->graph.tensor[c->node.out[i]]);
        want[i] = malloc(bytes + 1);
        memcpy(want[i], c->result[c->node.out[i]], bytes);
    }
    for (uint64_t shift = 0; shift <= 8; shift += 8) {
        rig_run_on(c, ckpt_backend_cuda(), shift, shift == 0);
        for (int i = 0; i < c->node.out_count; i++) {
            const unsigned char *got = c->result[c->node.out[i]];
            const size_t bytes = (size_t)ckpt_tensor_bytes(&c->graph.tensor[c->node.out[i]]);
            for (size_t k = 0; k < bytes; k++)
                if (got[k] != ((unsigned char *)want[i])[k])
                    fail_msg("%s: output %d differs from the CPU's at byte %zu of %zu (offset %d)", what, i, k, bytes, (int)shift);
        }
    }
    for (int i = 0; i < c->node.out_count; i++) free(want[i]);
}
