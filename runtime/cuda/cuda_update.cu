/* Optimizer updates in place, one pass over weight, gradient and state (formulas: runtime/update_math.h). The
 * learning rate and Adam's rates are read from the slot, where a run puts them before its first kernel. */
#include "cuda/cuda_device.cuh"

struct update_node {
    const ckpt_cuda_context *context;
    const float *w, *g, *m, *v;
    float *new_w, *new_m, *new_v;
    float beta2, epsilon, weight_decay, momentum;
    int64_t count;
    bool aligned;
    const ckpt_scalars *scalars;    /* in the slot */
    const ckpt_adam_rate *rate;     /* likewise; NULL where the op is not Adam's */
};

/* OP is an update op without its decoupling: that is in the rate. */
template <ckpt_op OP> __global__ static void update_kernel(update_node k, ckpt_plane plane) {
    float w[CKPT_PLANE_ROWS][4], g[CKPT_PLANE_ROWS][4], m[CKPT_PLANE_ROWS][4], v[CKPT_PLANE_ROWS][4];
    const float learning_rate = k.scalars->learning_rate;
    ckpt_adam_rate rate;
    if (OP == CKPT_OP_ADAM) rate = *k.rate;
    CKPT_PLANE_EACH(
        plane, q, u,
        {
            ckpt_load4(w[u], k.w + q.at, plane.vector, q.n);
            ckpt_load4(g[u], k.g + q.at, plane.vector, q.n);
            if (OP != CKPT_OP_SGD) ckpt_load4(m[u], k.m + q.at, plane.vector, q.n);
            if (OP == CKPT_OP_ADAM) ckpt_load4(v[u], k.v + q.at, plane.vector, q.n);
        },
        {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (OP == CKPT_OP_SGD)
                    w[u][i] = ckpt_sgd_update(w[u][i], g[u][i], learning_rate, k.weight_decay);
                else if (OP == CKPT_OP_MOMENTUM)
                    w[u][i] = ckpt_momentum_update(w[u][i], g[u][i], &m[u][i], learning_rate, k.momentum, k.weight_decay);
                else if (OP == CKPT_OP_NESTEROV)
                    w[u][i] = ckpt_nesterov_update(w[u][i], g[u][i], &m[u][i], learning_rate, k.momentum, k.weight_decay);
                else if (OP == CKPT_OP_ADAGRAD)
                    w[u][i] = ckpt_adagrad_update(w[u][i], g[u][i], &m[u][i], learning_rate, k.epsilon, k.weight_decay);
                else
                    w[u][i] = ckpt_adam_update(w[u][i], g[u][i], &m[u][i], &v[u][i], k.beta2, k.epsilon, &rate);
            }
            ckpt_store4(k.new_w + q.at, w[u], plane.vector, q.n);
            if (OP != CKPT_OP_SGD) ckpt_store4(k.new_m + q.at, m[u], plane.vector, q.n);
            if (OP == CKPT_OP_ADAM) ckpt_store4(k.new_v + q.at, v[u], plane.vector, q.n);
        })
}

template <ckpt_op OP> static void update_run(const void *self, const ckpt_scalars *) {
    const update_node *k = (const update_node *)self;
    const ckpt_plane plane = ckpt_plane_run(k->count, k->aligned);
    dim3 grid, block;
    if (k->count == 0) return;
    ckpt_plane_grid(&plane, &grid, &block);
    ckpt_cuda_start_flat(update_kernel<OP>, grid, block, k->context->stream, *k, plane);
}

/* The rates that this node reads, added to the context's where no other node has the same. */
static ckpt_status find_rate(const ckpt_bind *bind, int decoupled, const ckpt_adam_rate **address, ckpt_error *err) {
    ckpt_cuda_context *context = ckpt_cuda_context_of(bind);
    ckpt_cuda_rates *rates = &context->rates;
    const float beta1 = bind->node->attr.update.beta1, beta2 = bind->node->attr.update.beta2;
    const float decay = bind->node->attr.update.weight_decay;
    const ckpt_cuda_rate wanted = {beta1, beta2, decay, decoupled};
    int i = 0;
    while (i < rates->count && memcmp(&rates->rate[i], &wanted, sizeof wanted) != 0) i++;
    if (i == CKPT_CUDA_RATES)
        return ckpt_fail(err, CKPT_MODEL, "node '%s': more than %d different sets of Adam's constants",
                         ckpt_cuda_node_name(bind), CKPT_CUDA_RATES);
    if (i == rates->count) rates->rate[rates->count++] = wanted;
    *address = &context->slot->rate[i];
    return CKPT_OK;
}

static ckpt_status bind_update(const ckpt_bind *bind, int states, int decoupled,
                               void (*run)(const void *, const ckpt_scalars *), ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 2 + states, 1 + states, err));
    update_node *k = (update_node *)ckpt_cuda_launch(bind, sizeof *k, run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->w = (const float *)bind->in[0], k->g = (const float *)bind->in[1];
    k->m = (const float *)ckpt_cuda_in(bind, 2), k->v = (const float *)ckpt_cuda_in(bind, 3);
    k->new_w = (float *)bind->out[0];
    k->new_m = (float *)ckpt_cuda_out(bind, 1), k->new_v = (float *)ckpt_cuda_out(bind, 2);
    k->beta2 = bind->node->attr.update.beta2;
    k->epsilon = bind->node->attr.update.epsilon;
    k->weight_decay = bind->node->attr.update.weight_decay;
    k->momentum = bind->node->attr.update.momentum;
    k->count = ckpt_cuda_out_count(bind, 0);
    k->aligned = ckpt_aligned16(k->w) && ckpt_aligned16(k->g) && ckpt_aligned16(k->m) && ckpt_aligned16(k->v) &&
                 ckpt_aligned16(k->new_w) && ckpt_aligned16(k->new_m) && ckpt_aligned16(k->new_v);
    k->scalars = &k->context->slot->scalars;
    return states == 2 ? find_rate(bind, decoupled, &k->rate, err) : CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_sgd(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_update(bind, 0, 0, update_run<CKPT_OP_SGD>, launch, err);
}
extern "C" ckpt_status ckpt_cuda_momentum(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_update(bind, 1, 0, update_run<CKPT_OP_MOMENTUM>, launch, err);
}
extern "C" ckpt_status ckpt_cuda_nesterov(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_update(bind, 1, 0, update_run<CKPT_OP_NESTEROV>, launch, err);
}
extern "C" ckpt_status ckpt_cuda_adagrad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_update(bind, 1, 0, update_run<CKPT_OP_ADAGRAD>, launch, err);
}
extern "C" ckpt_status ckpt_cuda_adam(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_update(bind, 2, 0, update_run<CKPT_OP_ADAM>, launch, err);
}
extern "C" ckpt_status ckpt_cuda_adamw(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_update(bind, 2, 1, update_run<CKPT_OP_ADAM>, launch, err);
}
