/* y = dropout(act(x)) and its gradient, in blocks that stay in the first-level cache: one pass of the act, one
 * of random words, one of the mask, each a loop that vectorises. */
#include "cpu/cpu_kernels.h"
#include "cpu/cpu_philox.h"
#include "runtime/act_math.h"
#include "runtime/numpy_random.h"

enum { BLOCK = 1024, QUADS = BLOCK / 4 + 1 };

/* Room for a block's words: whole groups of quads. */
enum { WORDS = 4 * ((QUADS + CKPT_PHILOX_GROUP - 1) / CKPT_PHILOX_GROUP * CKPT_PHILOX_GROUP) };

typedef struct drop_state {
    uint64_t seed, first_element;
    uint32_t stream, step, threshold;
    ckpt_drop_rng rng;
    double drop;
    float scale;
} drop_state;

static drop_state drop_of(const ckpt_cpu_epilogue *e, uint32_t stream, const ckpt_scalars *s) {
    return (drop_state){.seed = s->seed,
                        .first_element = (uint64_t)(s->first_sample * e->sample_elements),
                        .stream = stream,
                        .rng = e->attr.rng,
                        .drop = (double)e->attr.drop,
                        .step = s->step,
                        .threshold = ckpt_drop_threshold(e->attr.drop),
                        .scale = ckpt_drop_scale(e->attr.drop)};
}

/* Where the words of consecutive blocks are made. */
typedef struct draw_buffer {
    uint32_t word[WORDS];
    ckpt_numpy_random numpy;
} draw_buffer;

static void start_drawing(const drop_state *d, draw_buffer *buffer) {
    if (d->rng == CKPT_DROP_ONNX_REF) ckpt_numpy_start(&buffer->numpy, d->stream);
}

/* The words of elements [begin, begin + n), n <= BLOCK; what is at least the threshold is kept. */
static const uint32_t *draw_block(const drop_state *d, int64_t begin, int n, draw_buffer *buffer) {
    const uint64_t e = d->first_element + (uint64_t)begin;
    uint32_t *word = buffer->word;
    if (d->rng == CKPT_DROP_ONNX_REF) {
        ckpt_numpy_seek(&buffer->numpy, d->stream, e);
        for (int i = 0; i < n; i++) word[i] = ckpt_numpy_next(&buffer->numpy) >= d->drop ? UINT32_MAX : 0;
        return word;
    }
    const int skip = (int)(e % 4);
    ckpt_cpu_philox(d->seed, d->stream, d->step, e / 4, (skip + n + 3) / 4, word);
    return word + skip;
}

CKPT_VECTOR
static void apply_mask(const uint32_t *word, uint32_t threshold, float scale, float *y, int n) {
    CKPT_CPU_SIMD
    for (int i = 0; i < n; i++) y[i] = word[i] >= threshold ? y[i] * scale : 0.0f;
}

CKPT_VECTOR
static void act_block(const ckpt_epilogue *e, const float *x, float *y, int n) {
    const float alpha = e->alpha, beta = e->beta;
    switch (e->act) {
#define X(ID, ...)                                                                                           \
    case CKPT_ACT_##ID:                                                                                      \
        CKPT_CPU_SIMD                                                                                        \
        for (int i = 0; i < n; i++) y[i] = ckpt_act_##ID(x[i], alpha, beta);                                 \
        break;
#include "graph/acts.def"
#undef X
    case CKPT_ACT_COUNT: break;
    }
}

/* dx = dy * slope(v * shrink): y-based slopes want act(x), which is y / scale where kept. */
CKPT_VECTOR
static void slope_block(const ckpt_epilogue *e, const float *v, float shrink, const float *dy, float *dx, int n) {
    const float alpha = e->alpha, beta = e->beta;
    switch (e->act) {
#define X(ID, ...)                                                                                           \
    case CKPT_ACT_##ID:                                                                                      \
        CKPT_CPU_SIMD                                                                                        \
        for (int i = 0; i < n; i++) dx[i] = dy[i] * ckpt_act_slope_##ID(v[i] * shrink, alpha, beta);         \
        break;
#include "graph/acts.def"
#undef X
    case CKPT_ACT_COUNT: break;
    }
}

CKPT_VECTOR
static void relu_drop_block(const float *y, float scale, const float *dy, float *dx, int n) {
    CKPT_CPU_SIMD
    for (int i = 0; i < n; i++) dx[i] = y[i] > 0.0f ? dy[i] * scale : 0.0f;
}

ckpt_cpu_epilogue ckpt_cpu_epilogue_of(const ckpt_bind *bind, const ckpt_epilogue *attr, int64_t count) {
    const int64_t batch = bind->graph->batch;
    return (ckpt_cpu_epilogue){.attr = *attr,
                               .stream = attr->stream + bind->stream_salt,
                               .sample_elements = batch > 0 ? count / batch : 0};
}

/* A loop's grain in elements: random words cost about ten times an act. */
static int64_t grain_of(const ckpt_cpu_epilogue *e) {
    return e->attr.drop > 0 || ckpt_act_flops(e->attr.act) > 5 ? CKPT_CPU_GRAIN / 8 : CKPT_CPU_GRAIN;
}

/* y[begin, end) = dropout(act(x)) */
static void transform(const ckpt_cpu_epilogue *e, const drop_state *d, draw_buffer *buffer, const float *x, float *y,
                      int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += BLOCK) {
        const int n = (int)(end - i < BLOCK ? end - i : BLOCK);
        if (e->attr.act != CKPT_ACT_IDENTITY || x != y) act_block(&e->attr, x + i, y + i, n);
        if (e->attr.drop > 0) apply_mask(draw_block(d, i, n, buffer), d->threshold, d->scale, y + i, n);
    }
}

/* ACT */

typedef struct act_kernel {
    ckpt_cpu_epilogue epilogue;
    int64_t count;
    const float *x, *dy, *v;
    float *y;
} act_kernel;

typedef struct act_call {
    const act_kernel *kernel;
    drop_state drop;
} act_call;

static void act_body(const void *context, int64_t begin, int64_t end) {
    const act_call *c = context;
    draw_buffer buffer;
    start_drawing(&c->drop, &buffer);
    transform(&c->kernel->epilogue, &c->drop, &buffer, c->kernel->x, c->kernel->y, begin, end);
}

static void act_run(const void *self, const ckpt_scalars *scalars) {
    const act_kernel *k = self;
    const act_call call = {k, drop_of(&k->epilogue, k->epilogue.stream, scalars)};
    ckpt_cpu_for(k->count, grain_of(&k->epilogue), act_body, &call);
}

ckpt_status ckpt_cpu_act(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 1, 1, err));
    act_kernel *k = ckpt_cpu_launch(bind, sizeof *k, act_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->count = ckpt_cpu_out_count(bind, 0);
    k->epilogue = ckpt_cpu_epilogue_of(bind, &bind->node->attr.act, k->count);
    k->x = bind->in[0];
    k->y = bind->out[0];
    return CKPT_OK;
}

/* ACT_GRAD */

static void act_grad_body(const void *context, int64_t begin, int64_t end) {
    const act_call *c = context;
    const act_kernel *k = c->kernel;
    const ckpt_epilogue *e = &k->epilogue.attr;
    const float shrink = e->drop > 0 && ckpt_act_from_output(e->act) ? 1.0f - e->drop : 1.0f;
    draw_buffer buffer;
    start_drawing(&c->drop, &buffer);
    for (int64_t i = begin; i < end; i += BLOCK) {
        const int n = (int)(end - i < BLOCK ? end - i : BLOCK);
        /* Constant slopes have no second input; they do not look at what stands in for it. */
        const float *v = k->v ? k->v + i : k->dy + i;
        if (ckpt_drop_from_output(e)) {
            relu_drop_block(v, c->drop.scale, k->dy + i, k->y + i, n);
            continue;
        }
        slope_block(e, v, shrink, k->dy + i, k->y + i, n);
        if (e->drop > 0) apply_mask(draw_block(&c->drop, i, n, &buffer), c->drop.threshold, c->drop.scale, k->y + i, n);
    }
}

static void act_grad_run(const void *self, const ckpt_scalars *scalars) {
    const act_kernel *k = self;
    /* The mask of the forward node: a salt belongs to its recomputation. */
    const act_call call = {k, drop_of(&k->epilogue, k->epilogue.attr.stream, scalars)};
    ckpt_cpu_for(k->count, grain_of(&k->epilogue), act_grad_body, &call);
}

ckpt_status ckpt_cpu_act_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_act act = bind->node->attr.act.act;
    const bool constant = ckpt_act_slope_is_constant(act);
    CKPT_TRY(ckpt_cpu_require(bind, constant ? 1 : 2, 1, err));
    act_kernel *k = ckpt_cpu_launch(bind, sizeof *k, act_grad_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->count = ckpt_cpu_out_count(bind, 0);
    k->epilogue = ckpt_cpu_epilogue_of(bind, &bind->node->attr.act, k->count);
    k->dy = bind->in[0];
    k->v = bind->node->in_count > 1 ? bind->in[1] : NULL;
    k->y = bind->out[0];
    return CKPT_OK;
}

/* KEEP_MASK */

typedef struct mask_kernel {
    ckpt_cpu_epilogue epilogue;
    int64_t count;
    uint8_t *mask;
} mask_kernel;

typedef struct mask_call {
    const mask_kernel *kernel;
    drop_state drop;
} mask_call;

static void mask_body(const void *context, int64_t begin, int64_t end) {
    const mask_call *c = context;
    draw_buffer buffer;
    start_drawing(&c->drop, &buffer);
    for (int64_t i = begin; i < end; i += BLOCK) {
        const int n = (int)(end - i < BLOCK ? end - i : BLOCK);
        const uint32_t *word = draw_block(&c->drop, i, n, &buffer);
        for (int j = 0; j < n; j++) c->kernel->mask[i + j] = word[j] >= c->drop.threshold;
    }
}

static void mask_run(const void *self, const ckpt_scalars *scalars) {
    const mask_kernel *k = self;
    const mask_call call = {k, drop_of(&k->epilogue, k->epilogue.stream, scalars)};
    ckpt_cpu_for(k->count, CKPT_CPU_GRAIN / 8, mask_body, &call);
}

ckpt_status ckpt_cpu_keep_mask(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 0, 1, err));
    mask_kernel *k = ckpt_cpu_launch(bind, sizeof *k, mask_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->count = ckpt_cpu_out_count(bind, 0);
    k->epilogue = ckpt_cpu_epilogue_of(bind, &bind->node->attr.act, k->count);
    k->mask = bind->out[0];
    return CKPT_OK;
}

/* The epilogue of a product, over rows: bias, act and dropout while a block is in the first-level cache. */

typedef struct row_call {
    const ckpt_cpu_epilogue *epilogue;
    drop_state drop;
    float *y;
    const float *bias;
    float factor;
    int64_t cols;
} row_call;

CKPT_VECTOR
static void add_bias(float *y, const float *bias, float factor, int64_t n) {
    CKPT_CPU_SIMD
    for (int64_t i = 0; i < n; i++) y[i] = y[i] + factor * bias[i];
}

static void row_body(const void *context, int64_t begin, int64_t end) {
    const row_call *c = context;
    /* Rows in groups of about a block: a narrow matrix is not cut into tiny pieces. */
    const int64_t group = c->cols < BLOCK ? BLOCK / c->cols : 1;
    draw_buffer buffer;
    start_drawing(&c->drop, &buffer);
    for (int64_t r = begin; r < end; r += group) {
        const int64_t last = r + group < end ? r + group : end;
        if (c->bias)
            for (int64_t i = r; i < last; i++) add_bias(c->y + i * c->cols, c->bias, c->factor, c->cols);
        transform(c->epilogue, &c->drop, &buffer, c->y, c->y, r * c->cols, last * c->cols);
    }
}

void ckpt_cpu_apply_epilogue(const ckpt_cpu_epilogue *epilogue, float *y, const float *bias, float factor,
                             int64_t rows, int64_t cols, const ckpt_scalars *scalars) {
    if (!bias && epilogue->attr.act == CKPT_ACT_IDENTITY && !(epilogue->attr.drop > 0)) return;
    if (rows <= 0 || cols <= 0) return;
    const row_call call = {epilogue, drop_of(epilogue, epilogue->stream, scalars), y, bias, factor, cols};
    const int64_t grain = grain_of(epilogue) / cols;
    ckpt_cpu_for(rows, grain > 0 ? grain : 1, row_body, &call);
}
