/* CLASS_LOSS and its gradient: x is outer x classes x inner, a target for each outer and inner (runtime/class_math.h). */
#include "cuda/cuda_device.cuh"
#include "runtime/class_math.h"

struct class_node {
    const ckpt_cuda_context *context;
    int64_t outer, classes, inner, ignore;
    const float *x, *class_weight, *dy;
    const int32_t *target;
    float *loss, *weight, *dx;
};

__global__ static void loss_kernel(class_node k) {
    CKPT_EACH_ELEMENT(e, k.outer * k.inner) {
        int64_t o = e;
        const int64_t i = ckpt_split(&o, k.inner);
        const int32_t t = k.target[e];
        const float weight = ckpt_class_weight(t, k.classes, k.ignore, k.class_weight);
        k.loss[e] = ckpt_class_counts(t, k.classes, k.ignore) ? 0.0f - weight * k.x[(o * k.classes + t) * k.inner + i] : weight;
        if (k.weight) k.weight[e] = weight;
    }
}

/* Every element of dx, zeros and all, in one pass. */
__global__ static void gradient_kernel(class_node k, ckpt_plane plane) {
    float v[CKPT_PLANE_ROWS][4];
    CKPT_PLANE_EACH(plane, q, u, v[u][0] = v[u][1] = v[u][2] = v[u][3] = 0.0f, {
#pragma unroll
        for (int n = 0; n < 4; n++) {
            if (n >= q.n) continue;
            int64_t o = q.at + n;
            const int64_t i = ckpt_split(&o, k.inner), c = ckpt_split(&o, k.classes), at = o * k.inner + i;
            const int32_t t = k.target[at];
            if (t == c && ckpt_class_counts(t, k.classes, k.ignore))
                v[u][n] = 0.0f - ckpt_class_weight(t, k.classes, k.ignore, k.class_weight) * k.dy[at];
        }
        ckpt_store4(k.dx + q.at, v[u], plane.vector, q.n);
    })
}

static void loss_run(const void *self, const ckpt_scalars *) {
    const class_node *k = (const class_node *)self;
    const int64_t count = k->outer * k->inner;
    if (count == 0) return;
    ckpt_cuda_start_flat(loss_kernel, dim3(ckpt_element_blocks(count)), dim3(CKPT_ELEMENT_THREADS), k->context->stream, *k);
}

static void gradient_run(const void *self, const ckpt_scalars *) {
    const class_node *k = (const class_node *)self;
    const ckpt_plane plane = ckpt_plane_run(k->outer * k->classes * k->inner, ckpt_aligned16(k->dx));
    dim3 grid, block;
    if (plane.count == 0) return;
    ckpt_plane_grid(&plane, &grid, &block);
    ckpt_cuda_start_flat(gradient_kernel, grid, block, k->context->stream, *k, plane);
}

static ckpt_status bind_class(const ckpt_bind *bind, void (*run)(const void *, const ckpt_scalars *), class_node **node,
                              ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 2, 1, err));
    class_node *k = *node = (class_node *)ckpt_cuda_launch(bind, sizeof *k, run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->outer = bind->node->attr.class_loss.outer;
    k->classes = bind->node->attr.class_loss.classes;
    k->inner = bind->node->attr.class_loss.inner;
    k->ignore = bind->node->attr.class_loss.ignore;
    k->target = (const int32_t *)bind->in[1];
    k->class_weight = (const float *)ckpt_cuda_in(bind, 2);
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_class_loss(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    class_node *k;
    CKPT_TRY(bind_class(bind, loss_run, &k, launch, err));
    k->x = (const float *)bind->in[0];
    k->loss = (float *)bind->out[0];
    k->weight = (float *)ckpt_cuda_out(bind, 1);
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_class_loss_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    class_node *k;
    CKPT_TRY(bind_class(bind, gradient_run, &k, launch, err));
    k->dy = (const float *)bind->in[0];
    k->dx = (float *)bind->out[0];
    return CKPT_OK;
}
