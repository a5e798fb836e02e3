/* The losses and their gradients (formulas: graph/op_loss.c, runtime/loss_math.h). An item is what a mean is over: a row of
 * classes, of which those with a negative class do not count, or a value. Item losses are single precision, their sum
 * double, in 256 parts whatever the number of threads; values in blocks of CKPT_LOSS_BLOCK within a part. A row whose classes
 * lie `inner` apart is added up in their order, neighbours of it at the same time. A class beyond the last makes the loss
 * NaN: data is checked before it gets here. */
#include "cpu/cpu_kernels.h"
#include "runtime/loss_math.h"

typedef struct loss_kernel loss_kernel;

/* What a kind of loss does with items [begin, end). */
typedef struct loss_rule {
    void (*add)(const loss_kernel *k, int64_t begin, int64_t end, double *loss, int64_t *correct);
    void (*gradient)(const loss_kernel *k, int64_t begin, int64_t end, float factor);
} loss_rule;

struct loss_kernel {
    const loss_rule *rule;
    int term;
    double scale;
    int64_t items, classes, inner;
    int64_t samples; /* of the graph that runs */
    bool sum;
    const float *x, *value;
    const int32_t *class;
    ckpt_mix mix;
    float *gradient;
    double *result;
};

/* None when nothing in the whole batch counts. */
static int64_t counted_items(const loss_kernel *k, const ckpt_scalars *s) { return s->denominator[k->term] == 0 ? 0 : k->items; }

/* What one item counts in the sum of all losses. */
static double item_factor(const loss_kernel *k, const ckpt_scalars *s) {
    return s->denominator[k->term] == 0 ? 0 : k->scale / s->denominator[k->term];
}

static void clear(float *g, int64_t n, int64_t stride) {
    for (int64_t j = 0; j < n; j++) g[j * stride] = 0.0f;
}

/* Where class 0 of a row is. */
static int64_t row_at(const loss_kernel *k, int64_t row) { return row / k->inner * k->classes * k->inner + row % k->inner; }

/* The first of the greatest of n numbers is at `class`. */
static bool is_argmax(const float *x, int64_t n, int64_t stride, int64_t class, float max) {
    if (x[class * stride] != max) return false;
    for (int64_t j = 0; j < class && j < n; j++)
        if (x[j * stride] == max) return false;
    return true;
}

/* The same of targets that are probabilities: both have their first of the greatest at one class. */
static bool same_argmax(const float *x, const float *t, int64_t n, int64_t stride) {
    int64_t first = 0, wanted = 0;
    for (int64_t j = 1; j < n; j++) {
        if (x[j * stride] > x[first * stride]) first = j;
        if (t[j * stride] > t[wanted * stride]) wanted = j;
    }
    return first == wanted;
}

/* Cross-entropy, classes beside each other, a class as target */

/* Sum of exp(x - max) over all classes but one; -1: over all. */
__attribute__((always_inline)) static inline float sum_but(const float *x, int64_t n, float max, int64_t class) {
    float lane[CKPT_LANES] = {0};
    const int64_t block = class / CKPT_LANES * CKPT_LANES, behind = block + CKPT_LANES < n ? block + CKPT_LANES : n;
    CKPT_LANE_LOOP(block, j, l, lane[l] += ckpt_exp(x[j] - max));
    for (int l = 0; l < behind - block; l++) lane[l] += block + l == class ? 0.0f : ckpt_exp(x[block + l] - max);
    CKPT_LANE_LOOP(n - behind, j, l, lane[l] += ckpt_exp(x[behind + j] - max));
    return ckpt_lanes_fold(lane);
}

CKPT_VECTOR
static void add_class_rows(const loss_kernel *k, int64_t begin, int64_t end, double *loss, int64_t *correct) {
    for (int64_t r = begin; r < end; r++) {
        const float *x = k->x + r * k->classes;
        const int64_t class = k->class[r];
        if (class < 0) continue;
        if (class >= k->classes) {
            *loss = NAN;
            continue;
        }
        const float max = ckpt_row_max(x, k->classes), sum = sum_but(x, k->classes, max, x[class] == max ? class : -1);
        *loss += (double)(ckpt_mix_weight(k->mix, class) * ckpt_class_loss(x[class], max, sum));
        *correct += is_argmax(x, k->classes, 1, class, max);
    }
}

CKPT_VECTOR
static void class_row_gradient(const float *x, float *g, int64_t n, int64_t class, float factor) {
    const float max = ckpt_row_max(x, n);
    CKPT_CPU_SIMD
    for (int64_t j = 0; j < n; j++) g[j] = ckpt_exp(x[j] - max);
    const float own = g[class];
    g[class] = 0.0f;
    const float others = ckpt_row_sum(g, n), inverse = 1.0f / (own + others);
    CKPT_CPU_SIMD
    for (int64_t j = 0; j < n; j++) g[j] = g[j] * inverse * factor;
    g[class] = 0.0f - others * inverse * factor;
}

static void class_row_gradients(const loss_kernel *k, int64_t begin, int64_t end, float factor) {
    for (int64_t r = begin; r < end; r++) {
        const int64_t class = k->class[r], at = r * k->classes;
        if (class < 0 || class >= k->classes) clear(k->gradient + at, k->classes, 1);
        else class_row_gradient(k->x + at, k->gradient + at, k->classes, class, ckpt_mix_weight(k->mix, class) * factor);
    }
}

/* Cross-entropy, classes beside each other, every class with a share */

/* The share of class j in a row whose targets are probabilities t, or the class. */
static inline float share_of(const loss_kernel *k, const float *t, int64_t class, int64_t j) {
    return ckpt_mix_share(k->mix, j, t ? t[j] : j == class ? 1.0f : 0.0f);
}

CKPT_VECTOR
static void add_share_rows(const loss_kernel *k, int64_t begin, int64_t end, double *loss, int64_t *correct) {
    const int64_t n = k->classes;
    for (int64_t r = begin; r < end; r++) {
        const float *x = k->x + r * n, *t = k->value ? k->value + r * n : NULL;
        const int64_t class = k->class ? k->class[r] : 0;
        if (class < 0) continue;
        if (class >= n) {
            *loss = NAN;
            continue;
        }
        const ckpt_exp_sums sums = ckpt_row_exp_sums(x, n);
        const float log = ckpt_exp_sums_log(sums);
        float lane[CKPT_LANES] = {0};
        CKPT_LANE_LOOP(n, j, l, lane[l] += ckpt_share_loss(share_of(k, t, class, j), x[j], sums.max, log));
        *loss += (double)ckpt_lanes_fold(lane);
        *correct += t ? same_argmax(x, t, n, 1) : is_argmax(x, n, 1, class, sums.max);
    }
}

CKPT_VECTOR
static void share_row_gradient(const loss_kernel *k, const float *x, const float *t, float *g, int64_t class, float factor) {
    const int64_t n = k->classes;
    const ckpt_exp_sums sums = ckpt_row_exp_sums(x, n);
    const float inverse = ckpt_exp_sums_inverse(sums);
    float lane[CKPT_LANES] = {0};
    CKPT_LANE_LOOP(n, j, l, lane[l] += share_of(k, t, class, j));
    const float all = ckpt_lanes_fold(lane);
    CKPT_CPU_SIMD
    for (int64_t j = 0; j < n; j++)
        g[j] = ckpt_share_gradient(ckpt_exp(x[j] - sums.max), sums, inverse, all, share_of(k, t, class, j)) * factor;
}

static void share_row_gradients(const loss_kernel *k, int64_t begin, int64_t end, float factor) {
    for (int64_t r = begin; r < end; r++) {
        const int64_t class = k->class ? k->class[r] : 0, at = r * k->classes;
        if (class < 0 || class >= k->classes) clear(k->gradient + at, k->classes, 1);
        else share_row_gradient(k, k->x + at, k->value ? k->value + at : NULL, k->gradient + at, class, factor);
    }
}

/* Cross-entropy, classes `inner` apart: neighbouring rows a lane each */

/* Runs `body` for lane l of n: a full run has a fixed length, so it vectorises. */
#define EACH_LANE(n, l, body)                                                                                \
    do {                                                                                                     \
        if ((n) == CKPT_LANES) {                                                                             \
            CKPT_CPU_SIMD                                                                                    \
            for (int l = 0; l < CKPT_LANES; l++) {                                                           \
                body;                                                                                        \
            }                                                                                                \
        } else {                                                                                             \
            for (int l = 0; l < (n); l++) {                                                                  \
                body;                                                                                        \
            }                                                                                                \
        }                                                                                                    \
    } while (0)

/* Up to CKPT_LANES rows beside each other. */
typedef struct row_run {
    int64_t at; /* of class 0 of the first */
    int n;
    int64_t class[CKPT_LANES]; /* -1: does not count; 0 where targets are probabilities */
    ckpt_exp_sums sums[CKPT_LANES];
} row_run;

/* The run from row r on, which ends before `end`. */
CKPT_VECTOR
static void find_run(const loss_kernel *k, int64_t r, int64_t end, row_run *run) {
    float max[CKPT_LANES], one[CKPT_LANES] = {0}, rest[CKPT_LANES] = {0};
    int64_t n = k->inner - r % k->inner < end - r ? k->inner - r % k->inner : end - r;
    if (n > CKPT_LANES) n = CKPT_LANES;
    run->n = (int)n;
    run->at = row_at(k, r);
    const float *x = k->x + run->at;
    for (int l = 0; l < CKPT_LANES; l++) max[l] = -INFINITY;
    for (int64_t c = 0; c < k->classes; c++)
        EACH_LANE(n, l, max[l] = x[c * k->inner + l] > max[l] ? x[c * k->inner + l] : max[l]);
    for (int64_t c = 0; c < k->classes; c++)
        EACH_LANE(n, l, {
            const float e = ckpt_exp(x[c * k->inner + l] - max[l]);
            one[l] += ckpt_exp_if_one(e);
            rest[l] += ckpt_exp_if_less(e);
        });
    for (int l = 0; l < n; l++) {
        run->class[l] = k->class ? k->class[r + l] : 0;
        run->sums[l] = (ckpt_exp_sums){max[l], one[l], rest[l]};
    }
}

/* The share of class c in lane l of a run. */
static inline float lane_share(const loss_kernel *k, const row_run *run, int64_t c, int l) {
    const float t = k->value ? k->value[run->at + c * k->inner + l] : c == run->class[l] ? 1.0f : 0.0f;
    return ckpt_mix_share(k->mix, c, t);
}

CKPT_VECTOR
static void add_run(const loss_kernel *k, const row_run *run, double *loss, int64_t *correct) {
    const float *x = k->x + run->at, *t = k->value ? k->value + run->at : NULL;
    float sum[CKPT_LANES] = {0}, log[CKPT_LANES];
    for (int l = 0; l < run->n; l++) log[l] = ckpt_exp_sums_log(run->sums[l]);
    for (int64_t c = 0; c < k->classes; c++)
        EACH_LANE(run->n, l, sum[l] += ckpt_share_loss(lane_share(k, run, c, l), x[c * k->inner + l], run->sums[l].max, log[l]));
    for (int l = 0; l < run->n; l++) {
        const int64_t class = run->class[l];
        if (class < 0) continue;
        *loss += class < k->classes ? (double)sum[l] : (double)NAN;
        if (class < k->classes)
            *correct += t ? same_argmax(x + l, t + l, k->classes, k->inner)
                          : is_argmax(x + l, k->classes, k->inner, class, run->sums[l].max);
    }
}

static void add_runs(const loss_kernel *k, int64_t begin, int64_t end, double *loss, int64_t *correct) {
    row_run run;
    for (int64_t r = begin; r < end; r += run.n) {
        find_run(k, r, end, &run);
        add_run(k, &run, loss, correct);
    }
}

CKPT_VECTOR
static void run_gradient(const loss_kernel *k, const row_run *run, float factor) {
    const float *x = k->x + run->at;
    float *g = k->gradient + run->at, all[CKPT_LANES] = {0}, inverse[CKPT_LANES];
    for (int l = 0; l < run->n; l++) inverse[l] = ckpt_exp_sums_inverse(run->sums[l]);
    for (int64_t c = 0; c < k->classes; c++) EACH_LANE(run->n, l, all[l] += lane_share(k, run, c, l));
    for (int64_t c = 0; c < k->classes; c++)
        EACH_LANE(run->n, l, {
            const float e = ckpt_exp(x[c * k->inner + l] - run->sums[l].max);
            const float d = ckpt_share_gradient(e, run->sums[l], inverse[l], all[l], lane_share(k, run, c, l)) * factor;
            g[c * k->inner + l] = run->class[l] >= 0 && run->class[l] < k->classes ? d : 0.0f;
        });
}

static void run_gradients(const loss_kernel *k, int64_t begin, int64_t end, float factor) {
    row_run run;
    for (int64_t r = begin; r < end; r += run.n) {
        find_run(k, r, end, &run);
        run_gradient(k, &run, factor);
    }
}

/* Negative log-likelihood, classes anywhere */

static float strided_max(const float *x, int64_t n, int64_t stride) {
    if (stride == 1) return ckpt_row_max(x, n);
    float max = -INFINITY;
    for (int64_t j = 0; j < n; j++) max = x[j * stride] > max ? x[j * stride] : max;
    return max;
}

CKPT_VECTOR
static void add_likelihoods(const loss_kernel *k, int64_t begin, int64_t end, double *loss, int64_t *correct) {
    for (int64_t r = begin; r < end; r++) {
        const float *x = k->x + row_at(k, r);
        const int64_t class = k->class[r];
        if (class < 0) continue;
        if (class >= k->classes) {
            *loss = NAN;
            continue;
        }
        *loss -= (double)(ckpt_mix_weight(k->mix, class) * x[class * k->inner]);
        *correct += is_argmax(x, k->classes, k->inner, class, strided_max(x, k->classes, k->inner));
    }
}

static void likelihood_gradients(const loss_kernel *k, int64_t begin, int64_t end, float factor) {
    for (int64_t r = begin; r < end; r++) {
        float *g = k->gradient + row_at(k, r);
        const int64_t class = k->class[r];
        clear(g, k->classes, k->inner);
        if (class >= 0 && class < k->classes) g[class * k->inner] = -(ckpt_mix_weight(k->mix, class) * factor);
    }
}

/* Values */

CKPT_VECTOR
static double bce_block(const float *x, const float *t, int64_t n, int64_t *correct) {
    double lane[CKPT_LANES] = {0}, sum = 0;
    int64_t hit[CKPT_LANES] = {0};
    CKPT_LANE_LOOP(n, j, l, {
        lane[l] += (double)ckpt_bce(x[j], t[j]);
        hit[l] += (x[j] > 0.0f) == (t[j] > 0.5f);
    });
    for (int l = 0; l < CKPT_LANES; l++) {
        sum += lane[l];
        *correct += hit[l];
    }
    return sum;
}

static void add_bce(const loss_kernel *k, int64_t begin, int64_t end, double *loss, int64_t *correct) {
    for (int64_t i = begin; i < end; i += CKPT_LOSS_BLOCK)
        *loss += bce_block(k->x + i, k->value + i, end - i < CKPT_LOSS_BLOCK ? end - i : CKPT_LOSS_BLOCK, correct);
}

CKPT_VECTOR
static void bce_gradients(const loss_kernel *k, int64_t begin, int64_t end, float factor) {
    const float *x = k->x, *t = k->value;
    float *g = k->gradient;
    CKPT_CPU_SIMD
    for (int64_t j = begin; j < end; j++) g[j] = ckpt_bce_gradient(x[j], t[j]) * factor;
}

CKPT_VECTOR
static double mse_block(const float *x, const float *t, int64_t n) {
    double lane[CKPT_LANES] = {0}, sum = 0;
    CKPT_LANE_LOOP(n, j, l, {
        const float d = x[j] - t[j];
        lane[l] += (double)(d * d);
    });
    for (int l = 0; l < CKPT_LANES; l++) sum += lane[l];
    return sum;
}

static void add_mse(const loss_kernel *k, int64_t begin, int64_t end, double *loss, int64_t *correct) {
    (void)correct;
    for (int64_t i = begin; i < end; i += CKPT_LOSS_BLOCK)
        *loss += mse_block(k->x + i, k->value + i, end - i < CKPT_LOSS_BLOCK ? end - i : CKPT_LOSS_BLOCK);
}

CKPT_VECTOR
static void mse_gradients(const loss_kernel *k, int64_t begin, int64_t end, float factor) {
    const float *x = k->x, *t = k->value;
    float *g = k->gradient;
    CKPT_CPU_SIMD
    for (int64_t j = begin; j < end; j++) g[j] = (x[j] - t[j]) * (2.0f * factor);
}

/* LOSS */

enum { PARTS = 256 };

typedef struct loss_call {
    const loss_kernel *kernel;
    int64_t items, part;
    double *loss;
    int64_t *correct;
} loss_call;

static void loss_body(const void *context, int64_t begin, int64_t end) {
    const loss_call *c = context;
    for (int64_t p = begin; p < end; p++) {
        const int64_t first = p * c->part, last = first + c->part < c->items ? first + c->part : c->items;
        c->loss[p] = 0;
        c->correct[p] = 0;
        if (first < last) c->kernel->rule->add(c->kernel, first, last, &c->loss[p], &c->correct[p]);
    }
}

static void loss_run(const void *self, const ckpt_scalars *scalars) {
    const loss_kernel *k = self;
    double loss[PARTS], sum = 0;
    int64_t correct[PARTS], hits = 0;
    const int64_t items = counted_items(k, scalars);
    const loss_call call = {k, items, (items + PARTS - 1) / PARTS, loss, correct};
    const int64_t work = call.part * k->classes * 8;
    ckpt_cpu_for(PARTS, work > 0 ? (CKPT_CPU_GRAIN + work - 1) / work : PARTS, loss_body, &call);
    for (int p = 0; p < PARTS; p++) {
        sum += loss[p];
        hits += correct[p];
    }
    k->result[0] += sum * item_factor(k, scalars);
    k->result[1] += (double)hits;
}

/* LOSS_GRAD, which may be written over the prediction */

typedef struct gradient_call {
    const loss_kernel *kernel;
    int64_t real;
    float factor;
} gradient_call;

static void gradient_body(const void *context, int64_t begin, int64_t end) {
    const gradient_call *c = context;
    const loss_kernel *k = c->kernel;
    const int64_t last = end < c->real ? end : c->real;
    if (begin < last) k->rule->gradient(k, begin, last, c->factor);
    for (int64_t r = begin < last ? last : begin; r < end; r++) clear(k->gradient + row_at(k, r), k->classes, k->inner);
}

static void gradient_run(const void *self, const ckpt_scalars *scalars) {
    const loss_kernel *k = self;
    const gradient_call call = {k, counted_items(k, scalars), (float)item_factor(k, scalars)};
    ckpt_cpu_for(k->items, (ckpt_cpu_row_grain(k->classes) + 7) / 8, gradient_body, &call);
}

/* A loss that the file computed: the sum over micro-batches, or their mean by samples. */
static float own_factor(const loss_kernel *k, const ckpt_scalars *s) {
    return (float)(k->sum ? k->scale : (double)k->samples * item_factor(k, s));
}

static void own_run(const void *self, const ckpt_scalars *scalars) {
    const loss_kernel *k = self;
    k->result[0] += (double)(own_factor(k, scalars) * k->x[0]);
}

static void own_gradient_run(const void *self, const ckpt_scalars *scalars) {
    const loss_kernel *k = self;
    k->gradient[0] = own_factor(k, scalars);
}

/* Binding */

static const loss_rule class_rows = {add_class_rows, class_row_gradients}, share_rows = {add_share_rows, share_row_gradients},
                       runs = {add_runs, run_gradients}, likelihoods = {add_likelihoods, likelihood_gradients},
                       bce = {add_bce, bce_gradients}, mse = {add_mse, mse_gradients};

static const loss_rule *rule_of(const ckpt_node *node) {
    switch (node->attr.loss.kind) {
    case CKPT_LOSS_CE:
        if (node->attr.loss.inner > 1) return &runs;
        return node->attr.loss.soft || node->attr.loss.smoothing > 0 ? &share_rows : &class_rows;
    case CKPT_LOSS_NLL: return &likelihoods;
    case CKPT_LOSS_BCE: return &bce;
    default: return &mse;
    }
}

static loss_kernel *bind_loss(const ckpt_bind *bind, void (*run)(const void *, const ckpt_scalars *), ckpt_launch *launch,
                              ckpt_error *err) {
    const ckpt_node *node = bind->node;
    if (ckpt_cpu_require(bind, node->in_count, 1, err) != CKPT_OK) return NULL;
    loss_kernel *k = ckpt_cpu_launch(bind, sizeof *k, run, launch, err);
    if (!k) return NULL;
    const bool classes = ckpt_loss_takes_classes(node);
    k->rule = rule_of(node);
    k->term = node->attr.loss.term;
    k->scale = (double)node->attr.loss.scale;
    k->items = ckpt_loss_items(node);
    k->classes = node->attr.loss.classes;
    /* Values have no classes between them, so they are one run. */
    k->inner = k->classes > 1 ? node->attr.loss.inner : 1;
    k->samples = bind->graph->batch;
    k->sum = node->attr.loss.sum;
    k->x = bind->in[0];
    k->class = classes ? bind->in[1] : NULL;
    k->value = classes ? NULL : bind->in[1];
    k->mix = (ckpt_mix){node->in_count > 2 ? bind->in[2] : NULL, 1.0f - node->attr.loss.smoothing,
                        node->attr.loss.smoothing / (float)k->classes};
    return k;
}

ckpt_status ckpt_cpu_loss(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    loss_kernel *k = bind_loss(bind, bind->node->attr.loss.kind == CKPT_LOSS_FILE ? own_run : loss_run, launch, err);
    if (!k) return err ? err->status : CKPT_MODEL;
    k->result = bind->out[0];
    return CKPT_OK;
}

ckpt_status ckpt_cpu_loss_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    loss_kernel *k = bind_loss(bind, bind->node->attr.loss.kind == CKPT_LOSS_FILE ? own_gradient_run : gradient_run, launch, err);
    if (!k) return err ? err->status : CKPT_MODEL;
    k->gradient = bind->out[0];
    return CKPT_OK;
}
