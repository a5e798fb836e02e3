/* y = dropout(act(x)), its gradient, the epilogue of a product, and masks. The kernels of element functions are in
 * cuda_act.cuh. */
#include "cuda/cuda_act.cuh"

static ckpt_draw draw_of(const ckpt_cuda_context *context, const ckpt_cuda_epilogue *e, uint32_t stream) {
    ckpt_draw d;
    d.scalars = &context->slot->scalars; /* an address on the device: not read here */
    d.sample_elements = e->sample_elements;
    d.stream = stream;
    d.threshold = ckpt_drop_threshold(e->attr.drop);
    d.scale = ckpt_drop_scale(e->attr.drop);
    return d;
}

static ckpt_act_job job_of(const ckpt_cuda_context *context, const ckpt_cuda_epilogue *e, uint32_t stream, const ckpt_plane *plane) {
    ckpt_act_job job;
    memset(&job, 0, sizeof job);
    job.attr = e->attr;
    job.plane = *plane;
    job.draw = draw_of(context, e, stream);
    return job;
}

/* Forward */

extern "C" void ckpt_cuda_apply_epilogue(const ckpt_cuda_context *context, const ckpt_cuda_epilogue *epilogue, ckpt_dtype type,
                                         void *y, const void *bias, float factor, int64_t rows, int64_t cols) {
    if (!bias && epilogue->attr.act == CKPT_ACT_IDENTITY && !(epilogue->attr.drop > 0)) return;
    const bool aligned = ckpt_aligned16(y) && ckpt_aligned16(bias);
    const ckpt_plane plane = bias ? ckpt_plane_matrix(rows, cols, aligned) : ckpt_plane_run(rows * cols, aligned);
    ckpt_act_job job = job_of(context, epilogue, epilogue->stream, &plane);
    job.x = job.y = y;
    job.bias = bias;
    job.factor = factor;
    if (type == CKPT_BF16) ckpt_act_start_bf16(&job, context->stream);
    else ckpt_act_start_f32(&job, context->stream);
}

struct act_node {
    const ckpt_cuda_context *context;
    ckpt_cuda_epilogue epilogue;
    ckpt_plane plane;
    const void *x, *dy, *v;
    void *y;
    bool bf16; /* all of a node's tensors have one type */
};

static bool is_bf16(const ckpt_bind *bind) { return bind->graph->tensor[bind->node->out[0]].dtype == CKPT_BF16; }

static void act_run(const void *self, const ckpt_scalars *) {
    const act_node *k = (const act_node *)self;
    ckpt_act_job job = job_of(k->context, &k->epilogue, k->epilogue.stream, &k->plane);
    job.x = k->x;
    job.y = k->y;
    if (k->bf16) ckpt_act_start_bf16(&job, k->context->stream);
    else ckpt_act_start_f32(&job, k->context->stream);
}

extern "C" ckpt_status ckpt_cuda_act(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 1, 1, err));
    act_node *k = (act_node *)ckpt_cuda_launch(bind, sizeof *k, act_run, launch, err);
    if (!k) return CKPT_NOMEM;
    const int64_t count = ckpt_cuda_out_count(bind, 0);
    k->epilogue = ckpt_cuda_epilogue_of(bind, &bind->node->attr.act, count);
    k->bf16 = is_bf16(bind);
    k->x = bind->in[0];
    k->y = bind->out[0];
    k->plane = ckpt_plane_run(count, ckpt_aligned16(k->x) && ckpt_aligned16(k->y));
    return CKPT_OK;
}

/* Gradient */

static void act_grad_run(const void *self, const ckpt_scalars *) {
    const act_node *k = (const act_node *)self;
    const ckpt_epilogue *e = &k->epilogue.attr;
    /* The mask of the forward node: a salt belongs to its recomputation. */
    ckpt_act_job job = job_of(k->context, &k->epilogue, e->stream, &k->plane);
    job.dy = k->dy;
    job.v = k->v;
    job.y = k->y;
    job.factor = e->drop > 0 && ckpt_act_from_output(e->act) ? 1.0f - e->drop : 1.0f;
    if (k->bf16) ckpt_act_grad_start_bf16(&job, k->context->stream);
    else ckpt_act_grad_start_f32(&job, k->context->stream);
}

extern "C" ckpt_status ckpt_cuda_act_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_act act = bind->node->attr.act.act;
    const bool constant = ckpt_act_slope_is_constant(act);
    CKPT_TRY(ckpt_cuda_require(bind, constant ? 1 : 2, 1, err));
    act_node *k = (act_node *)ckpt_cuda_launch(bind, sizeof *k, act_grad_run, launch, err);
    if (!k) return CKPT_NOMEM;
    const int64_t count = ckpt_cuda_out_count(bind, 0);
    k->epilogue = ckpt_cuda_epilogue_of(bind, &bind->node->attr.act, count);
    k->bf16 = is_bf16(bind);
    k->dy = bind->in[0];
    k->v = ckpt_cuda_in(bind, 1);
    k->y = bind->out[0];
    k->plane = ckpt_plane_run(count, ckpt_aligned16(k->dy) && ckpt_aligned16(k->v) && ckpt_aligned16(k->y));
    return CKPT_OK;
}

/* KEEP_MASK */

__global__ static void mask_kernel(uint8_t *mask, bool aligned, int64_t count, ckpt_draw draw) {
    CKPT_EACH_ELEMENT(quad, (count + 3) / 4) {
        uint32_t word[4];
        ckpt_draw4(draw, 4 * quad, word);
        if (aligned && 4 * quad + 4 <= count) { /* a byte each, in one store */
            uint32_t kept = 0;
#pragma unroll
            for (int i = 0; i < 4; i++) kept |= (uint32_t)(word[i] >= draw.threshold) << 8 * i;
            ((uint32_t *)mask)[quad] = kept;
            continue;
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (4 * quad + i < count) mask[4 * quad + i] = word[i] >= draw.threshold;
    }
}

struct mask_node {
    const ckpt_cuda_context *context;
    ckpt_cuda_epilogue epilogue;
    int64_t count;
    uint8_t *mask;
};

static void mask_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const mask_node *k = (const mask_node *)self;
    if (k->count == 0) return;
    ckpt_cuda_start_flat(mask_kernel, dim3(ckpt_element_blocks((k->count + 3) / 4)), dim3(CKPT_ELEMENT_THREADS),
                         k->context->stream, k->mask, ckpt_aligned16(k->mask), k->count, draw_of(k->context, &k->epilogue, k->epilogue.stream));
}

extern "C" ckpt_status ckpt_cuda_keep_mask(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 0, 1, err));
    mask_node *k = (mask_node *)ckpt_cuda_launch(bind, sizeof *k, mask_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->count = ckpt_cuda_out_count(bind, 0);
    k->epilogue = ckpt_cuda_epilogue_of(bind, &bind->node->attr.act, k->count);
    k->mask = (uint8_t *)bind->out[0];
    return CKPT_OK;
}
