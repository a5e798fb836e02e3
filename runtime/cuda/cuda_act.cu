/* y = dropout(act(x)), its gradient, and the epilogue of a product, each in one pass: quads of four elements
 * with 16-byte accesses and one call of the random generator. One kernel an element function: a switch inside
 * would give all of them the registers of the most demanding. */
#include "cuda/cuda_device.cuh"
#include "runtime/act_math.h"

static ckpt_draw draw_of(const ckpt_cuda_context *context, const ckpt_cuda_epilogue *e, uint32_t stream) {
    ckpt_draw d;
    d.scalars = &context->slot->scalars; /* an address on the device: not read here */
    d.sample_elements = e->sample_elements;
    d.stream = stream;
    d.threshold = ckpt_drop_threshold(e->attr.drop);
    d.scale = ckpt_drop_scale(e->attr.drop);
    return d;
}

/* Forward */

template <ckpt_act ACT, bool DROP, typename T>
__global__ static void act_kernel(const T *x, T *y, const T *bias, float factor, float alpha, float beta, ckpt_plane plane,
                                  ckpt_draw draw) {
    float v[CKPT_PLANE_ROWS][4], b[4] = {0};
    const ckpt_place first = ckpt_plane_place(plane, 0);
    /* A thread stays in its columns: the bias is read once. */
    if (bias && first.col < plane.cols)
        ckpt_load4(b, bias + first.col, plane.vector, plane.cols - first.col < 4 ? (int)(plane.cols - first.col) : 4);
    CKPT_PLANE_EACH(plane, q, u, ckpt_load4(v[u], x + q.at, plane.vector, q.n), {
        uint32_t word[4];
        if (DROP) ckpt_draw4(draw, q.at, word);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float z = bias ? v[u][i] + factor * b[i] : v[u][i];
            const float a = ckpt_act_value(ACT, z, alpha, beta);
            v[u][i] = !DROP ? a : word[i] >= draw.threshold ? a * draw.scale : 0.0f;
        }
        ckpt_store4(y + q.at, v[u], plane.vector, q.n);
    })
}

template <typename T>
static void start_act(const ckpt_cuda_context *context, const ckpt_cuda_epilogue *e, const T *x, T *y, const T *bias,
                      float factor, const ckpt_plane *plane) {
    const ckpt_draw draw = draw_of(context, e, e->stream);
    dim3 grid, block;
    if (plane->count == 0) return;
    ckpt_plane_grid(plane, &grid, &block);
    switch (e->attr.act) {
#define X(ID, name, from_output, costly)                                                                     \
    case CKPT_ACT_##ID:                                                                                      \
        ckpt_cuda_start_flat(e->attr.drop > 0 ? act_kernel<CKPT_ACT_##ID, true, T> : act_kernel<CKPT_ACT_##ID, false, T>,   \
                             grid, block, context->stream, x, y, bias, factor, e->attr.alpha, e->attr.beta, *plane, draw); \
        break;
#include "graph/acts.def"
#undef X
    case CKPT_ACT_COUNT: break;
    }
}

extern "C" void ckpt_cuda_apply_epilogue(const ckpt_cuda_context *context, const ckpt_cuda_epilogue *epilogue, ckpt_dtype type,
                                         void *y, const void *bias, float factor, int64_t rows, int64_t cols) {
    if (!bias && epilogue->attr.act == CKPT_ACT_IDENTITY && !(epilogue->attr.drop > 0)) return;
    const bool aligned = ckpt_aligned16(y) && ckpt_aligned16(bias);
    const ckpt_plane plane = bias ? ckpt_plane_matrix(rows, cols, aligned) : ckpt_plane_run(rows * cols, aligned);
    if (type == CKPT_BF16)
        start_act(context, epilogue, (const ckpt_bf16 *)y, (ckpt_bf16 *)y, (const ckpt_bf16 *)bias, factor, &plane);
    else
        start_act(context, epilogue, (const float *)y, (float *)y, (const float *)bias, factor, &plane);
}

struct act_node {
    const ckpt_cuda_context *context;
    ckpt_cuda_epilogue epilogue;
    ckpt_plane plane;
    const void *x, *dy, *v;
    void *y;
};

/* All of a node's tensors have one type. */
static bool is_bf16(const ckpt_bind *bind) { return bind->graph->tensor[bind->node->out[0]].dtype == CKPT_BF16; }

template <typename T> static void act_run(const void *self, const ckpt_scalars *) {
    const act_node *k = (const act_node *)self;
    start_act(k->context, &k->epilogue, (const T *)k->x, (T *)k->y, (const T *)NULL, 0, &k->plane);
}

extern "C" ckpt_status ckpt_cuda_act(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, 1, 1, err));
    act_node *k = (act_node *)ckpt_cuda_launch(bind, sizeof *k, is_bf16(bind) ? act_run<ckpt_bf16> : act_run<float>, launch, err);
    if (!k) return CKPT_NOMEM;
    const int64_t count = ckpt_cuda_out_count(bind, 0);
    k->epilogue = ckpt_cuda_epilogue_of(bind, &bind->node->attr.act, count);
    k->x = bind->in[0];
    k->y = bind->out[0];
    k->plane = ckpt_plane_run(count, ckpt_aligned16(k->x) && ckpt_aligned16(k->y));
    return CKPT_OK;
}

/* Gradient */

/* dx = dy * slope(v * shrink): y-based slopes want act(x), which is y / scale where kept. v may be dy itself for
 * slopes that are constant. RELU with dropout reads its mask off y > 0 (runtime/act_math.h). */
template <ckpt_act ACT, bool DROP, typename T>
__global__ static void act_grad_kernel(const T *dy, const T *v, T *dx, float shrink, float alpha, float beta,
                                       ckpt_plane plane, ckpt_draw draw) {
    float g[CKPT_PLANE_ROWS][4], s[CKPT_PLANE_ROWS][4];
    const bool constant = ACT == CKPT_ACT_IDENTITY || ACT == CKPT_ACT_NEG || ACT == CKPT_ACT_SCALE;
    const bool from_output = ACT == CKPT_ACT_RELU && DROP;
    CKPT_PLANE_EACH(
        plane, q, u,
        {
            ckpt_load4(g[u], dy + q.at, plane.vector, q.n);
            if (!constant) ckpt_load4(s[u], v + q.at, plane.vector, q.n);
        },
        {
            uint32_t word[4];
            if (DROP && !from_output) ckpt_draw4(draw, q.at, word);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float value = constant ? 0.0f : s[u][i];
                if (from_output) {
                    g[u][i] = value > 0.0f ? g[u][i] * draw.scale : 0.0f;
                } else {
                    const float d = g[u][i] * ckpt_act_slope(ACT, value * shrink, alpha, beta);
                    g[u][i] = !DROP ? d : word[i] >= draw.threshold ? d * draw.scale : 0.0f;
                }
            }
            ckpt_store4(dx + q.at, g[u], plane.vector, q.n);
        })
}

template <typename T> static void act_grad_run(const void *self, const ckpt_scalars *) {
    const act_node *k = (const act_node *)self;
    const ckpt_epilogue *e = &k->epilogue.attr;
    /* The mask of the forward node: a salt belongs to its recomputation. */
    const ckpt_draw draw = draw_of(k->context, &k->epilogue, e->stream);
    const float shrink = e->drop > 0 && ckpt_act_from_output(e->act) ? 1.0f - e->drop : 1.0f;
    dim3 grid, block;
    if (k->plane.count == 0) return;
    ckpt_plane_grid(&k->plane, &grid, &block);
    switch (e->act) {
#define X(ID, name, from_output, costly)                                                                     \
    case CKPT_ACT_##ID:                                                                                      \
        ckpt_cuda_start_flat(e->drop > 0 ? act_grad_kernel<CKPT_ACT_##ID, true, T> : act_grad_kernel<CKPT_ACT_##ID, false, T>, grid,  \
                             block, k->context->stream, (const T *)k->dy, (const T *)k->v, (T *)k->y, shrink, e->alpha, e->beta, k->plane, draw);      \
        break;
#include "graph/acts.def"
#undef X
    case CKPT_ACT_COUNT: break;
    }
}

extern "C" ckpt_status ckpt_cuda_act_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_act act = bind->node->attr.act.act;
    const bool constant = act == CKPT_ACT_IDENTITY || act == CKPT_ACT_NEG || act == CKPT_ACT_SCALE;
    CKPT_TRY(ckpt_cuda_require(bind, constant ? 1 : 2, 1, err));
    act_node *k = (act_node *)ckpt_cuda_launch(bind, sizeof *k, is_bf16(bind) ? act_grad_run<ckpt_bf16> : act_grad_run<float>,
                                               launch, err);
    if (!k) return CKPT_NOMEM;
    const int64_t count = ckpt_cuda_out_count(bind, 0);
    k->epilogue = ckpt_cuda_epilogue_of(bind, &bind->node->attr.act, count);
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
