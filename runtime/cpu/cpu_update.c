/* Optimizer updates in place, one pass over weight, gradient and state (formulas: runtime/update_math.h). */
#include "cpu/cpu_kernels.h"
#include "runtime/update_math.h"

typedef struct update_kernel {
    const float *w, *g, *m, *v;
    float *new_w, *new_m, *new_v;
    float beta1, beta2, epsilon, weight_decay, momentum;
    bool decoupled;
    int64_t count;
} update_kernel;

typedef struct update_call {
    const update_kernel *kernel;
    float learning_rate;
    ckpt_adam_rate adam;
} update_call;

CKPT_VECTOR
static void sgd_body(const void *context, int64_t begin, int64_t end) {
    const update_call *c = context;
    const update_kernel *k = c->kernel;
    const float rate = c->learning_rate, decay = k->weight_decay;
    const float *w = k->w, *g = k->g;
    float *new_w = k->new_w;
    CKPT_CPU_SIMD
    for (int64_t i = begin; i < end; i++) new_w[i] = ckpt_sgd_update(w[i], g[i], rate, decay);
}

CKPT_VECTOR
static void momentum_body(const void *context, int64_t begin, int64_t end) {
    const update_call *c = context;
    const update_kernel *k = c->kernel;
    const float rate = c->learning_rate, decay = k->weight_decay, momentum = k->momentum;
    const float *w = k->w, *g = k->g, *m = k->m;
    float *new_w = k->new_w, *new_m = k->new_m;
    CKPT_CPU_SIMD
    for (int64_t i = begin; i < end; i++) {
        float mi = m[i];
        const float wi = ckpt_momentum_update(w[i], g[i], &mi, rate, momentum, decay);
        new_m[i] = mi;
        new_w[i] = wi;
    }
}

CKPT_VECTOR
static void nesterov_body(const void *context, int64_t begin, int64_t end) {
    const update_call *c = context;
    const update_kernel *k = c->kernel;
    const float rate = c->learning_rate, decay = k->weight_decay, momentum = k->momentum;
    const float *w = k->w, *g = k->g, *m = k->m;
    float *new_w = k->new_w, *new_m = k->new_m;
    CKPT_CPU_SIMD
    for (int64_t i = begin; i < end; i++) {
        float mi = m[i];
        const float wi = ckpt_nesterov_update(w[i], g[i], &mi, rate, momentum, decay);
        new_m[i] = mi;
        new_w[i] = wi;
    }
}

CKPT_VECTOR
static void adagrad_body(const void *context, int64_t begin, int64_t end) {
    const update_call *c = context;
    const update_kernel *k = c->kernel;
    const float rate = c->learning_rate, decay = k->weight_decay, epsilon = k->epsilon;
    const float *w = k->w, *g = k->g, *m = k->m;
    float *new_w = k->new_w, *new_m = k->new_m;
    CKPT_CPU_SIMD
    for (int64_t i = begin; i < end; i++) {
        float mi = m[i];
        const float wi = ckpt_adagrad_update(w[i], g[i], &mi, rate, epsilon, decay);
        new_m[i] = mi;
        new_w[i] = wi;
    }
}

CKPT_VECTOR
static void adam_body(const void *context, int64_t begin, int64_t end) {
    const update_call *c = context;
    const update_kernel *k = c->kernel;
    const ckpt_adam_rate rate = c->adam;
    const float beta2 = k->beta2, epsilon = k->epsilon;
    const float *w = k->w, *g = k->g, *m = k->m, *v = k->v;
    float *new_w = k->new_w, *new_m = k->new_m, *new_v = k->new_v;
    CKPT_CPU_SIMD
    for (int64_t i = begin; i < end; i++) {
        float mi = m[i], vi = v[i];
        const float wi = ckpt_adam_update(w[i], g[i], &mi, &vi, beta2, epsilon, &rate);
        new_m[i] = mi;
        new_v[i] = vi;
        new_w[i] = wi;
    }
}

static void sgd_run(const void *self, const ckpt_scalars *scalars) {
    const update_call call = {.kernel = self, .learning_rate = scalars->learning_rate};
    ckpt_cpu_for(call.kernel->count, CKPT_CPU_GRAIN / 4, sgd_body, &call);
}

static void momentum_run(const void *self, const ckpt_scalars *scalars) {
    const update_call call = {.kernel = self, .learning_rate = scalars->learning_rate};
    ckpt_cpu_for(call.kernel->count, CKPT_CPU_GRAIN / 4, momentum_body, &call);
}

static void nesterov_run(const void *self, const ckpt_scalars *scalars) {
    const update_call call = {.kernel = self, .learning_rate = scalars->learning_rate};
    ckpt_cpu_for(call.kernel->count, CKPT_CPU_GRAIN / 4, nesterov_body, &call);
}

static void adagrad_run(const void *self, const ckpt_scalars *scalars) {
    const update_call call = {.kernel = self, .learning_rate = scalars->learning_rate};
    ckpt_cpu_for(call.kernel->count, CKPT_CPU_GRAIN / 4, adagrad_body, &call);
}

static void adam_run(const void *self, const ckpt_scalars *scalars) {
    const update_kernel *k = self;
    const update_call call = {.kernel = k,
                              .adam = ckpt_adam_rates(k->beta1, k->beta2, scalars->learning_rate, k->weight_decay,
                                                      k->decoupled, (uint64_t)scalars->step + 1)};
    ckpt_cpu_for(k->count, CKPT_CPU_GRAIN / 4, adam_body, &call);
}

static ckpt_status bind_update(const ckpt_bind *bind, int states, bool decoupled,
                               void (*run)(const void *self, const ckpt_scalars *scalars), ckpt_launch *launch,
                               ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 2 + states, 1 + states, err));
    update_kernel *k = ckpt_cpu_launch(bind, sizeof *k, run, launch, err);
    if (!k) return CKPT_NOMEM;
    *k = (update_kernel){.w = bind->in[0], .g = bind->in[1], .m = bind->in[2], .v = bind->in[3],
                         .new_w = bind->out[0], .new_m = bind->out[1], .new_v = bind->out[2],
                         .beta1 = bind->node->attr.update.beta1, .beta2 = bind->node->attr.update.beta2,
                         .epsilon = bind->node->attr.update.epsilon,
                         .weight_decay = bind->node->attr.update.weight_decay,
                         .momentum = bind->node->attr.update.momentum,
                         .decoupled = decoupled, .count = ckpt_cpu_out_count(bind, 0)};
    return CKPT_OK;
}

ckpt_status ckpt_cpu_sgd(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_update(bind, 0, false, sgd_run, launch, err);
}

ckpt_status ckpt_cpu_momentum(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_update(bind, 1, false, momentum_run, launch, err);
}

ckpt_status ckpt_cpu_nesterov(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_update(bind, 1, false, nesterov_run, launch, err);
}

ckpt_status ckpt_cpu_adagrad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_update(bind, 1, false, adagrad_run, launch, err);
}

ckpt_status ckpt_cpu_adam(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_update(bind, 2, false, adam_run, launch, err);
}

ckpt_status ckpt_cpu_adamw(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_update(bind, 2, true, adam_run, launch, err);
}
