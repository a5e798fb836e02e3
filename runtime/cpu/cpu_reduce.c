/* y = alpha * sum of x over some axes, and its gradient x = alpha * y repeated along them. Dims of 1 are
 * dropped and like neighbours merged when a kernel is bound, which leaves four shapes of sum:
 *   columns  [kept] x summed x kept    64 rows at a time, four together; then the groups in order
 *   rows     kept x summed             lanes of row_math.h
 *   scalar   summed                    256 parts whatever the number of threads, each in blocks, in order
 *   general  any other mix             runs along the last summed axis, added in double
 * Grouping keeps the rounding error of a long sum near that of a short one. */
#include "cpu/cpu_kernels.h"
#include "runtime/row_math.h"

typedef struct reduce_kernel {
    ckpt_reduce_attr geometry;
    const float *x;
    float *y;
    int64_t outer, rows, cols; /* of the columns shape; rows shape: outer x rows */
    int64_t count;             /* elements of the larger side */
} reduce_kernel;

static bool is_kept(const ckpt_reduce_attr *g, int axis) { return g->keep >> axis & 1; }

static ckpt_reduce_attr simplify(const ckpt_reduce_attr *g) {
    ckpt_reduce_attr s = {.alpha = g->alpha};
    for (int i = 0; i < g->rank; i++) {
        if (g->dim[i] == 1) continue;
        if (s.rank > 0 && is_kept(&s, s.rank - 1) == is_kept(g, i)) {
            s.dim[s.rank - 1] *= g->dim[i];
        } else {
            s.keep |= (uint32_t)is_kept(g, i) << s.rank;
            s.dim[s.rank++] = g->dim[i];
        }
    }
    return s;
}

/* Columns */

enum { TILE = 256, GROUP = 64 };

CKPT_VECTOR
static void sum_columns(const float *x, int64_t rows, int64_t step, float alpha, float *y, int n) {
    float total[TILE] = {0};
    for (int64_t first = 0; first < rows; first += GROUP) {
        const int64_t end = first + GROUP < rows ? first + GROUP : rows;
        float part[TILE] = {0};
        int64_t r = first;
        for (; r + 4 <= end; r += 4) {
            const float *x0 = x + r * step, *x1 = x0 + step, *x2 = x1 + step, *x3 = x2 + step;
            CKPT_CPU_SIMD
            for (int j = 0; j < n; j++) part[j] += (x0[j] + x1[j]) + (x2[j] + x3[j]);
        }
        for (; r < end; r++)
            for (int j = 0; j < n; j++) part[j] += x[r * step + j];
        for (int j = 0; j < n; j++) total[j] += part[j];
    }
    for (int j = 0; j < n; j++) y[j] = alpha * total[j];
}

static void columns_body(const void *context, int64_t begin, int64_t end) {
    const reduce_kernel *k = context;
    for (int64_t line = begin; line < end;) {
        const int64_t o = line / k->cols, col = line % k->cols;
        int64_t n = k->cols - col < end - line ? k->cols - col : end - line;
        if (n > TILE) n = TILE;
        sum_columns(k->x + o * k->rows * k->cols + col, k->rows, k->cols, k->geometry.alpha, k->y + line, (int)n);
        line += n;
    }
}

static void columns_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const reduce_kernel *k = self;
    ckpt_cpu_for(k->outer * k->cols, ckpt_cpu_row_grain(k->rows), columns_body, k);
}

/* Long runs in blocks. */
CKPT_VECTOR
static double sum_run(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i += CKPT_SUM_BLOCK) sum += (double)ckpt_row_sum(x + i, n - i < CKPT_SUM_BLOCK ? n - i : CKPT_SUM_BLOCK);
    return sum;
}

/* Rows */

static void rows_body(const void *context, int64_t begin, int64_t end) {
    const reduce_kernel *k = context;
    for (int64_t r = begin; r < end; r++)
        k->y[r] = (float)((double)k->geometry.alpha * sum_run(k->x + r * k->rows, k->rows));
}

static void rows_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const reduce_kernel *k = self;
    ckpt_cpu_for(k->outer, ckpt_cpu_row_grain(k->rows), rows_body, k);
}

/* Scalar */

enum { PARTS = 256 };

typedef struct scalar_call {
    const reduce_kernel *kernel;
    int64_t part;
    double *sum;
} scalar_call;

static void scalar_body(const void *context, int64_t begin, int64_t end) {
    const scalar_call *c = context;
    for (int64_t p = begin; p < end; p++) {
        const int64_t first = p * c->part, left = c->kernel->count - first;
        c->sum[p] = left > 0 ? sum_run(c->kernel->x + first, left < c->part ? left : c->part) : 0;
    }
}

static void scalar_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const reduce_kernel *k = self;
    double sum[PARTS], total = 0;
    const scalar_call call = {k, (k->count + PARTS - 1) / PARTS, sum};
    ckpt_cpu_for(PARTS, call.part > 0 ? (CKPT_CPU_GRAIN + call.part - 1) / call.part : PARTS, scalar_body, &call);
    for (int p = 0; p < PARTS; p++) total += sum[p];
    k->y[0] = (float)((double)k->geometry.alpha * total);
}

/* General */

static double sum_axes(const ckpt_reduce_attr *g, const int64_t *stride, const float *x, int axis) {
    while (axis < g->rank && is_kept(g, axis)) axis++;
    if (axis == g->rank) return (double)*x;
    if (axis == g->rank - 1) return sum_run(x, g->dim[axis]);
    double sum = 0;
    for (int64_t i = 0; i < g->dim[axis]; i++) sum += sum_axes(g, stride, x + i * stride[axis], axis + 1);
    return sum;
}

static void strides_of(const ckpt_reduce_attr *g, int64_t *stride) {
    int64_t run = 1;
    for (int i = g->rank - 1; i >= 0; i--) {
        stride[i] = run;
        run *= g->dim[i];
    }
}

static void general_body(const void *context, int64_t begin, int64_t end) {
    const reduce_kernel *k = context;
    const ckpt_reduce_attr *g = &k->geometry;
    int64_t stride[CKPT_MAX_RANK];
    strides_of(g, stride);
    for (int64_t o = begin; o < end; o++) {
        int64_t rest = o, at = 0;
        for (int i = g->rank - 1; i >= 0; i--) {
            if (!is_kept(g, i)) continue;
            at += rest % g->dim[i] * stride[i];
            rest /= g->dim[i];
        }
        k->y[o] = (float)((double)g->alpha * sum_axes(g, stride, k->x + at, 0));
    }
}

static void general_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const reduce_kernel *k = self;
    ckpt_cpu_for(k->outer, k->outer > 0 ? ckpt_cpu_row_grain(k->count / k->outer) : 1, general_body, k);
}

ckpt_status ckpt_cpu_reduce_sum(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 1, 1, err));
    const ckpt_reduce_attr g = simplify(&bind->node->attr.reduce);
    reduce_kernel shape = {.geometry = g, .outer = 1, .rows = 1, .cols = 1, .count = 1};
    void (*run)(const void *, const ckpt_scalars *) = general_run;
    for (int i = 0; i < g.rank; i++) shape.count *= g.dim[i];
    if (g.rank == 0 || (g.rank == 1 && g.keep == 0)) {
        run = scalar_run;
    } else if (g.rank == 1 || (g.rank == 2 && g.keep == 2) || (g.rank == 3 && g.keep == 5)) {
        run = columns_run;
        shape.cols = g.dim[g.rank - 1];
        shape.rows = g.rank > 1 ? g.dim[g.rank - 2] : 1;
        shape.outer = g.rank > 2 ? g.dim[0] : 1;
    } else if (g.rank == 2) {
        run = rows_run;
        shape.outer = g.dim[0];
        shape.rows = g.dim[1];
    } else {
        for (int i = 0; i < g.rank; i++) shape.outer *= is_kept(&g, i) ? g.dim[i] : 1;
    }
    reduce_kernel *k = ckpt_cpu_launch(bind, sizeof *k, run, launch, err);
    if (!k) return CKPT_NOMEM;
    *k = shape;
    k->x = bind->in[0];
    k->y = bind->out[0];
    return CKPT_OK;
}

/* EXPAND: here x is the small side and y the large one. */

CKPT_VECTOR
static void scale_run(const float *x, float alpha, float *y, int64_t n) {
    CKPT_CPU_SIMD
    for (int64_t i = 0; i < n; i++) y[i] = alpha * x[i];
}

CKPT_VECTOR
static void fill_run(float value, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = value;
}

static void expand_body(const void *context, int64_t begin, int64_t end) {
    const reduce_kernel *k = context;
    const ckpt_reduce_attr *g = &k->geometry;
    const int last = g->rank - 1;
    const int64_t length = last >= 0 ? g->dim[last] : 1;
    const bool dense = last >= 0 && is_kept(g, last);
    for (int64_t e = begin; e < end;) {
        const int64_t in_run = e % length;
        const int64_t n = length - in_run < end - e ? length - in_run : end - e;
        int64_t rest = e / length, at = dense ? in_run : 0, size = dense ? length : 1;
        for (int i = last - 1; i >= 0; i--) {
            if (is_kept(g, i)) {
                at += rest % g->dim[i] * size;
                size *= g->dim[i];
            }
            rest /= g->dim[i];
        }
        if (dense)
            scale_run(k->x + at, g->alpha, k->y + e, n);
        else
            fill_run(g->alpha * k->x[at], k->y + e, n);
        e += n;
    }
}

static void expand_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const reduce_kernel *k = self;
    ckpt_cpu_for(k->count, CKPT_CPU_GRAIN, expand_body, k);
}

ckpt_status ckpt_cpu_expand(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 1, 1, err));
    reduce_kernel *k = ckpt_cpu_launch(bind, sizeof *k, expand_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->geometry = simplify(&bind->node->attr.reduce);
    k->x = bind->in[0];
    k->y = bind->out[0];
    k->count = 1;
    for (int i = 0; i < k->geometry.rank; i++) k->count *= k->geometry.dim[i];
    return CKPT_OK;
}
