#include "reference_backend.h"

#include <stdlib.h>
#include <string.h>

#include "reference_kernels.h"

struct ckpt_device {
    uint64_t now, peak;
    struct { void *address; uint64_t bytes; } block[4];
};

typedef struct work {
    ckpt_bind b;
} work;

#define K(ID, name) [CKPT_OP_##ID] = ckpt_reference_run_##name
static void (*const kernels[CKPT_OP_COUNT])(const ckpt_bind *, const ckpt_scalars *) = {
    K(LINEAR, linear), K(MATMUL, matmul), K(BINARY, binary), K(PAIR, pair), K(ACT, act), K(KEEP_MASK, keep_mask),
    K(LAYERNORM, layernorm), K(RMSNORM, layernorm), K(SOFTMAX, softmax), K(LOGSOFTMAX, softmax), K(TRANSPOSE, transpose),
    K(REDUCE_SUM, reduce_sum), K(EXPAND, expand), K(CAST, cast), K(BATCH_STATS, batch_stats), K(STORED_STATS, stored_stats),
    K(STATS_UPDATE, stats_update), K(BATCHNORM, batchnorm), K(GROUPNORM, groupnorm), K(CONCAT, concat), K(SLICE, slice),
    K(PLACE, place), K(CLASS_LOSS, class_loss), K(LOSS, loss), K(LOSS_GRAD, loss), K(ACT_GRAD, act_grad),
    K(LINEAR_DX, linear_dx), K(LINEAR_DW, linear_dw), K(LAYERNORM_DX, layernorm_dx), K(LAYERNORM_DP, layernorm_dp),
    K(RMSNORM_DX, layernorm_dx), K(RMSNORM_DP, layernorm_dp), K(PAIR_GRAD, pair_grad), K(CLASS_LOSS_GRAD, class_loss_grad),
    K(SOFTMAX_GRAD, softmax_grad), K(LOGSOFTMAX_GRAD, softmax_grad), K(BATCHNORM_DX, batchnorm_dx),
    K(BATCHNORM_DP, batchnorm_dp), K(GROUPNORM_DX, groupnorm_dx), K(GROUPNORM_DP, groupnorm_dp), K(ZERO, zero), K(SGD, update),
    K(MOMENTUM, update), K(NESTEROV, update), K(ADAGRAD, update), K(ADAM, update), K(ADAMW, update),
};
#undef K

static void launch_kernel(const void *self, const ckpt_scalars *scalars) {
    const work *w = self;
    kernels[w->b.node->op](&w->b, scalars);
}

static ckpt_status ref_open(const ckpt_device_options *options, ckpt_device **device, ckpt_error *err) {
    (void)options;
    *device = calloc(1, sizeof **device);
    return *device ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
}

static void ref_close(ckpt_device *device) { free(device); }

static ckpt_status ref_allocate(ckpt_device *device, uint64_t bytes, void **address, ckpt_error *err) {
    *address = aligned_alloc(256, (size_t)(bytes + 255) / 256 * 256);
    if (!*address) return ckpt_fail(err, CKPT_NOMEM, "out of memory");
    memset(*address, 0xff, (size_t)bytes); /* NaN */
    for (int i = 0; i < 4; i++)
        if (!device->block[i].address) {
            device->block[i].address = *address;
            device->block[i].bytes = bytes;
            break;
        }
    device->now += bytes;
    if (device->now > device->peak) device->peak = device->now;
    return CKPT_OK;
}

static void ref_release(ckpt_device *device, void *address) {
    for (int i = 0; i < 4; i++)
        if (device->block[i].address == address) {
            device->now -= device->block[i].bytes;
            device->block[i].address = NULL;
        }
    free(address);
}

static uint64_t ref_peak(const ckpt_device *device) { return device->peak; }

static ckpt_status ref_bind(ckpt_device *device, const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    (void)device;
    work *w = ckpt_pool_array(bind->pool, 1, work);
    if (!w || !kernels[bind->node->op]) return ckpt_fail(err, CKPT_FAILED, "no kernel");
    w->b = *bind;
    *launch = (ckpt_launch){launch_kernel, w};
    return CKPT_OK;
}

static ckpt_status ref_run(ckpt_device *device, const ckpt_launch *launches, int count, const ckpt_scalars *scalars,
                           ckpt_error *err) {
    (void)device, (void)err;
    for (int i = 0; i < count; i++) launches[i].run(launches[i].self, scalars);
    return CKPT_OK;
}

static ckpt_status ref_copy(ckpt_device *device, void *to, const void *from, uint64_t bytes, ckpt_error *err) {
    (void)device, (void)err;
    memcpy(to, from, (size_t)bytes);
    return CKPT_OK;
}

static bool ref_supports(ckpt_op op) { return kernels[op] != NULL; }

const ckpt_backend *ckpt_backend_reference(void) {
    static const ckpt_traits traits = {.device = "reference", .alignment_bytes = 256, .input_buffers = 1};
    static const ckpt_backend backend = {.name = "reference", .traits = &traits, .supports = ref_supports, .open = ref_open, .close = ref_close,
                                         .allocate = ref_allocate, .release = ref_release, .peak_bytes = ref_peak,
                                         .bind = ref_bind, .run = ref_run, .upload = ref_copy, .download = ref_copy};
    return &backend;
}
