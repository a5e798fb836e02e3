/* CLASS_LOSS and its gradient: x is outer x classes x inner, a target for each outer and inner. */
#include <string.h>

#include "cpu/cpu_kernels.h"
#include "runtime/class_math.h"

typedef struct class_kernel {
    int64_t outer, classes, inner, ignore;
    const float *x, *class_weight, *dy;
    const int32_t *target;
    float *loss, *weight, *dx;
} class_kernel;

static void loss_body(const void *context, int64_t begin, int64_t end) {
    const class_kernel *k = context;
    for (int64_t i = begin; i < end; i++) {
        const int32_t t = k->target[i];
        const float weight = ckpt_class_weight(t, k->classes, k->ignore, k->class_weight);
        const int64_t at = (i / k->inner * k->classes + t) * k->inner + i % k->inner;
        k->loss[i] = ckpt_class_counts(t, k->classes, k->ignore) ? 0.0f - weight * k->x[at] : weight;
        if (k->weight) k->weight[i] = weight;
    }
}

static void gradient_body(const void *context, int64_t begin, int64_t end) {
    const class_kernel *k = context;
    for (int64_t o = begin; o < end; o++) {
        float *dx = k->dx + o * k->classes * k->inner;
        memset(dx, 0, sizeof *dx * (size_t)(k->classes * k->inner));
        for (int64_t s = 0; s < k->inner; s++) {
            const int32_t t = k->target[o * k->inner + s];
            if (ckpt_class_counts(t, k->classes, k->ignore))
                dx[t * k->inner + s] = 0.0f - ckpt_class_weight(t, k->classes, k->ignore, k->class_weight) * k->dy[o * k->inner + s];
        }
    }
}

static void loss_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const class_kernel *k = self;
    ckpt_cpu_for(k->outer * k->inner, CKPT_CPU_GRAIN / 4, loss_body, k);
}

static void gradient_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const class_kernel *k = self;
    ckpt_cpu_for(k->outer, ckpt_cpu_row_grain(k->classes * k->inner), gradient_body, k);
}

static class_kernel *bind_class(const ckpt_bind *bind, void (*run)(const void *, const ckpt_scalars *), ckpt_launch *launch,
                                ckpt_error *err) {
    class_kernel *k = ckpt_cpu_launch(bind, sizeof *k, run, launch, err);
    if (!k) return NULL;
    k->outer = bind->node->attr.class_loss.outer;
    k->classes = bind->node->attr.class_loss.classes;
    k->inner = bind->node->attr.class_loss.inner;
    k->ignore = bind->node->attr.class_loss.ignore;
    k->target = bind->in[1];
    k->class_weight = bind->node->in_count > 2 ? bind->in[2] : NULL;
    return k;
}

ckpt_status ckpt_cpu_class_loss(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 2, 1, err));
    class_kernel *k = bind_class(bind, loss_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->x = bind->in[0];
    k->loss = bind->out[0];
    k->weight = bind->node->out_count > 1 ? bind->out[1] : NULL;
    return CKPT_OK;
}

ckpt_status ckpt_cpu_class_loss_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 2, 1, err));
    class_kernel *k = bind_class(bind, gradient_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->dy = bind->in[0];
    k->dx = bind->out[0];
    return CKPT_OK;
}
