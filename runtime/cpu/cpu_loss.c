/* The losses and their gradients (formulas: graph/op_loss.c). A row counts when it lies among the valid samples
 * and, for classes, its class is not negative; the mean is over all rows (values, for BCE and MSE) of the valid
 * samples of the whole batch. Row losses are single precision, their sum double, in 256 parts whatever the number
 * of threads; values in blocks of CKPT_LOSS_BLOCK within a part. A class beyond the last makes the loss NaN: data is checked before it gets here. */
#include "cpu/cpu_kernels.h"
#include "runtime/row_math.h"

typedef struct loss_kernel {
    ckpt_loss kind;
    int term;
    int64_t rows, cols, rows_per_sample;
    bool sum;
    const float *x, *value;
    const int32_t *class;
    float *gradient;
    double *result;
} loss_kernel;

static bool has_classes(ckpt_loss kind) { return kind == CKPT_LOSS_CE || kind == CKPT_LOSS_NLL; }

static int64_t valid_rows(const loss_kernel *k, const ckpt_scalars *s) {
    const int64_t rows = s->valid_samples * k->rows_per_sample;
    return rows < 0 ? 0 : rows < k->rows ? rows : k->rows;
}

/* 1 / the mean's denominator. */
static double mean_factor(const loss_kernel *k, const ckpt_scalars *s) {
    return s->denominator[k->term] > 0 ? 1.0 / s->denominator[k->term] : 0.0;
}

/* LOSS */

enum { PARTS = 256 };

typedef struct loss_call {
    const loss_kernel *kernel;
    int64_t items, part; /* rows, or values */
    double *loss;
    int64_t *correct;
} loss_call;

/* The first of the greatest is at `class`. */
static bool is_argmax(const float *x, int64_t class, float max) {
    if (x[class] != max) return false;
    for (int64_t j = 0; j < class; j++)
        if (x[j] == max) return false;
    return true;
}

CKPT_VECTOR
static void class_rows(const loss_kernel *k, int64_t begin, int64_t end, double *loss, int64_t *correct) {
    for (int64_t r = begin; r < end; r++) {
        const float *x = k->x + r * k->cols;
        const int64_t class = k->class[r];
        if (class < 0) continue;
        if (class >= k->cols) {
            *loss = NAN;
            continue;
        }
        const float max = ckpt_row_max(x, k->cols);
        if (k->kind == CKPT_LOSS_CE)
            *loss += (double)((max - x[class]) + ckpt_log(ckpt_row_exp_sum(x, k->cols, max)));
        else
            *loss -= (double)x[class];
        *correct += is_argmax(x, class, max);
    }
}

CKPT_VECTOR
static double bce_block(const float *x, const float *t, int64_t n, int64_t *correct) {
    double lane[CKPT_LANES] = {0}, sum = 0;
    int64_t hit[CKPT_LANES] = {0};
    CKPT_LANE_LOOP(n, j, l, {
        lane[l] += (double)(ckpt_softplus(x[j]) - x[j] * t[j]);
        hit[l] += (x[j] > 0.0f) == (t[j] > 0.5f);
    });
    for (int l = 0; l < CKPT_LANES; l++) {
        sum += lane[l];
        *correct += hit[l];
    }
    return sum;
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

static void add_values(const loss_kernel *k, int64_t begin, int64_t end, double *loss, int64_t *correct) {
    for (int64_t i = begin; i < end; i += CKPT_LOSS_BLOCK) {
        const int64_t n = end - i < CKPT_LOSS_BLOCK ? end - i : CKPT_LOSS_BLOCK;
        *loss += k->kind == CKPT_LOSS_BCE ? bce_block(k->x + i, k->value + i, n, correct) : mse_block(k->x + i, k->value + i, n);
    }
}

static void loss_body(const void *context, int64_t begin, int64_t end) {
    const loss_call *c = context;
    for (int64_t p = begin; p < end; p++) {
        const int64_t first = p * c->part;
        const int64_t last = first + c->part < c->items ? first + c->part : c->items;
        c->loss[p] = 0;
        c->correct[p] = 0;
        if (first >= last) continue;
        if (has_classes(c->kernel->kind))
            class_rows(c->kernel, first, last, &c->loss[p], &c->correct[p]);
        else
            add_values(c->kernel, first, last, &c->loss[p], &c->correct[p]);
    }
}

static void loss_run(const void *self, const ckpt_scalars *scalars) {
    const loss_kernel *k = self;
    double loss[PARTS], sum = 0;
    int64_t correct[PARTS], hits = 0;
    const int64_t items = valid_rows(k, scalars) * (has_classes(k->kind) ? 1 : k->cols);
    const loss_call call = {k, items, (items + PARTS - 1) / PARTS, loss, correct};
    const int64_t work = call.part * (has_classes(k->kind) ? k->cols : 1) * 8;
    ckpt_cpu_for(PARTS, work > 0 ? (CKPT_CPU_GRAIN + work - 1) / work : PARTS, loss_body, &call);
    for (int p = 0; p < PARTS; p++) {
        sum += loss[p];
        hits += correct[p];
    }
    k->result[0] += sum * mean_factor(k, scalars);
    k->result[1] += (double)hits;
}

/* LOSS_GRAD */

typedef struct gradient_call {
    const loss_kernel *kernel;
    int64_t valid;
    float factor;
} gradient_call;

static void clear(float *g, int64_t n) {
    for (int64_t j = 0; j < n; j++) g[j] = 0.0f;
}

CKPT_VECTOR
static void ce_row(const float *x, float *g, int64_t n, int64_t class, float factor) {
    const float max = ckpt_row_max(x, n);
    float lane[CKPT_LANES] = {0};
    CKPT_LANE_LOOP(n, j, l, {
        const float e = ckpt_exp(x[j] - max);
        g[j] = e;
        lane[l] += e;
    });
    const float inverse = 1.0f / ckpt_lanes_fold(lane);
    CKPT_CPU_SIMD
    for (int64_t j = 0; j < n; j++) g[j] = (g[j] * inverse - (j == class ? 1.0f : 0.0f)) * factor;
}

CKPT_VECTOR
static void bce_row(const float *x, const float *t, float *g, int64_t n, float factor) {
    CKPT_CPU_SIMD
    for (int64_t j = 0; j < n; j++) g[j] = (ckpt_sigmoid(x[j]) - t[j]) * factor;
}

CKPT_VECTOR
static void mse_row(const float *x, const float *t, float *g, int64_t n, float factor) {
    CKPT_CPU_SIMD
    for (int64_t j = 0; j < n; j++) g[j] = (x[j] - t[j]) * (2.0f * factor);
}

static void gradient_body(const void *context, int64_t begin, int64_t end) {
    const gradient_call *c = context;
    const loss_kernel *k = c->kernel;
    const int64_t n = k->cols;
    for (int64_t r = begin; r < end; r++) {
        const float *x = k->x + r * n;
        float *g = k->gradient + r * n;
        const int64_t class = has_classes(k->kind) ? k->class[r] : 0;
        if (r >= c->valid || class < 0 || class >= n) {
            clear(g, n);
        } else if (k->kind == CKPT_LOSS_CE) {
            ce_row(x, g, n, class, c->factor);
        } else if (k->kind == CKPT_LOSS_NLL) {
            clear(g, n);
            g[class] = -c->factor;
        } else if (k->kind == CKPT_LOSS_BCE) {
            bce_row(x, k->value + r * n, g, n, c->factor);
        } else {
            mse_row(x, k->value + r * n, g, n, c->factor);
        }
    }
}

static void gradient_run(const void *self, const ckpt_scalars *scalars) {
    const loss_kernel *k = self;
    const gradient_call call = {k, valid_rows(k, scalars), (float)mean_factor(k, scalars)};
    ckpt_cpu_for(k->rows, (ckpt_cpu_row_grain(k->cols) + 7) / 8, gradient_body, &call);
}

/* A loss that the file computed: a sum over micro-batches, or their mean by samples. */
static float own_factor(const loss_kernel *k, const ckpt_scalars *s) {
    return k->sum ? 1.0f : s->denominator[k->term] > 0 ? (float)((double)s->valid_samples / s->denominator[k->term]) : 0.0f;
}

static void own_run(const void *self, const ckpt_scalars *scalars) {
    const loss_kernel *k = self;
    k->result[0] += (double)(own_factor(k, scalars) * k->x[0]);
}

static void own_gradient_run(const void *self, const ckpt_scalars *scalars) {
    const loss_kernel *k = self;
    k->gradient[0] = own_factor(k, scalars);
}

static loss_kernel *bind_loss(const ckpt_bind *bind, void (*run)(const void *, const ckpt_scalars *),
                              ckpt_launch *launch, ckpt_error *err) {
    if (bind->node->in_count > 2) {
        ckpt_fail(err, CKPT_MODEL, "node '%s': the CPU's losses take no weights",
                  bind->node->name ? bind->node->name : "?");
        return NULL;
    }
    if (ckpt_cpu_require(bind, bind->node->in_count, 1, err) != CKPT_OK) return NULL;
    loss_kernel *k = ckpt_cpu_launch(bind, sizeof *k, run, launch, err);
    if (!k) return NULL;
    k->kind = bind->node->attr.loss.kind;
    const int64_t classes = bind->node->attr.loss.classes, items = ckpt_loss_items(bind->node);
    k->term = bind->node->attr.loss.term;
    k->rows = has_classes(k->kind) ? items : bind->node->attr.loss.outer;
    k->cols = has_classes(k->kind) ? classes : bind->node->attr.loss.inner;
    k->rows_per_sample = k->rows / bind->graph->batch;
    k->sum = bind->node->attr.loss.sum;
    k->x = bind->in[0];
    k->class = has_classes(k->kind) ? bind->in[1] : NULL;
    k->value = has_classes(k->kind) ? NULL : bind->in[1];
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
