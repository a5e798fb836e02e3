/* Softmax and LogSoftmax along one axis of [outer][axis][inner], shifted by the maximum, and their gradients:
 *   softmax     y = exp(x - max) / sum            dx = y (dy - sum of dy y)
 *   logsoftmax  y = (x - max) - log(sum)          dx = dy - exp(y) sum of dy
 * Along the last axis a row is summed in lanes (row_math.h); along another, columns side by side are, each in
 * the axis' order. */
#include "cpu/cpu_kernels.h"
#include "runtime/row_math.h"

typedef struct softmax_kernel {
    int64_t outer, axis, inner;
    const float *x, *dy, *y_in;
    float *y;
    bool log;
} softmax_kernel;

CKPT_VECTOR
static void softmax_row(const float *x, float *y, int64_t n) {
    const float max = ckpt_row_max(x, n);
    float lane[CKPT_LANES] = {0};
    CKPT_LANE_LOOP(n, j, l, {
        const float e = ckpt_exp(x[j] - max);
        y[j] = e;
        lane[l] += e;
    });
    const float factor = 1.0f / ckpt_lanes_fold(lane);
    CKPT_CPU_SIMD
    for (int64_t j = 0; j < n; j++) y[j] = y[j] * factor;
}

CKPT_VECTOR
static void logsoftmax_row(const float *x, float *y, int64_t n) {
    const float max = ckpt_row_max(x, n), shift = ckpt_log(ckpt_row_exp_sum(x, n, max));
    CKPT_CPU_SIMD
    for (int64_t j = 0; j < n; j++) y[j] = (x[j] - max) - shift;
}

CKPT_VECTOR
static void softmax_grad_row(const float *dy, const float *y, float *dx, int64_t n) {
    float lane[CKPT_LANES] = {0};
    CKPT_LANE_LOOP(n, j, l, lane[l] += dy[j] * y[j]);
    const float dot = ckpt_lanes_fold(lane);
    CKPT_CPU_SIMD
    for (int64_t j = 0; j < n; j++) dx[j] = y[j] * (dy[j] - dot);
}

CKPT_VECTOR
static void logsoftmax_grad_row(const float *dy, const float *y, float *dx, int64_t n) {
    const float sum = ckpt_row_sum(dy, n);
    CKPT_CPU_SIMD
    for (int64_t j = 0; j < n; j++) dx[j] = dy[j] - ckpt_exp(y[j]) * sum;
}

/* The same over `n` columns side by side, `step` elements from one value of the axis to the next. */
enum { TILE = 64 };

CKPT_VECTOR
static void softmax_tile(const softmax_kernel *k, int64_t at, int n) {
    const float *x = k->x + at;
    float *y = k->y + at, max[TILE], sum[TILE] = {0};
    const int64_t step = k->inner;
    for (int j = 0; j < TILE; j++) max[j] = -INFINITY;
    for (int64_t a = 0; a < k->axis; a++)
        for (int j = 0; j < n; j++) max[j] = x[a * step + j] > max[j] ? x[a * step + j] : max[j];
    for (int64_t a = 0; a < k->axis; a++)
        for (int j = 0; j < n; j++) sum[j] += ckpt_exp(x[a * step + j] - max[j]);
    for (int j = 0; j < n; j++) sum[j] = k->log ? ckpt_log(sum[j]) : 1.0f / sum[j];
    for (int64_t a = 0; a < k->axis; a++) {
        const float *from = x + a * step;
        float *to = y + a * step;
        if (k->log) {
            CKPT_CPU_SIMD
            for (int j = 0; j < n; j++) to[j] = (from[j] - max[j]) - sum[j];
        } else {
            CKPT_CPU_SIMD
            for (int j = 0; j < n; j++) to[j] = ckpt_exp(from[j] - max[j]) * sum[j];
        }
    }
}

CKPT_VECTOR
static void softmax_grad_tile(const softmax_kernel *k, int64_t at, int n) {
    const float *dy = k->dy + at, *y = k->y_in + at;
    float *dx = k->y + at, sum[TILE] = {0};
    const int64_t step = k->inner;
    for (int64_t a = 0; a < k->axis; a++)
        for (int j = 0; j < n; j++) sum[j] += k->log ? dy[a * step + j] : dy[a * step + j] * y[a * step + j];
    for (int64_t a = 0; a < k->axis; a++) {
        const float *g = dy + a * step, *v = y + a * step;
        float *to = dx + a * step;
        if (k->log) {
            CKPT_CPU_SIMD
            for (int j = 0; j < n; j++) to[j] = g[j] - ckpt_exp(v[j]) * sum[j];
        } else {
            CKPT_CPU_SIMD
            for (int j = 0; j < n; j++) to[j] = v[j] * (g[j] - sum[j]);
        }
    }
}

/* Lines [begin, end) of outer * inner; a tile stays within one outer index. */
static void lines_body(const void *context, int64_t begin, int64_t end) {
    const softmax_kernel *k = context;
    for (int64_t line = begin; line < end;) {
        const int64_t o = line / k->inner, i = line % k->inner;
        if (k->inner == 1) {
            const int64_t at = o * k->axis;
            if (k->dy)
                (k->log ? logsoftmax_grad_row : softmax_grad_row)(k->dy + at, k->y_in + at, k->y + at, k->axis);
            else
                (k->log ? logsoftmax_row : softmax_row)(k->x + at, k->y + at, k->axis);
            line++;
            continue;
        }
        int64_t n = k->inner - i < end - line ? k->inner - i : end - line;
        if (n > TILE) n = TILE;
        (k->dy ? softmax_grad_tile : softmax_tile)(k, o * k->axis * k->inner + i, (int)n);
        line += n;
    }
}

static void softmax_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const softmax_kernel *k = self;
    ckpt_cpu_for(k->outer * k->inner, (ckpt_cpu_row_grain(k->axis) + 7) / 8, lines_body, k);
}

static ckpt_status bind_softmax(const ckpt_bind *bind, bool gradient, bool log, ckpt_launch *launch,
                                ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, gradient ? 2 : 1, 1, err));
    softmax_kernel *k = ckpt_cpu_launch(bind, sizeof *k, softmax_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->outer = bind->node->attr.axis.outer;
    k->axis = bind->node->attr.axis.axis;
    k->inner = bind->node->attr.axis.inner;
    k->x = gradient ? NULL : bind->in[0];
    k->dy = gradient ? bind->in[0] : NULL;
    k->y_in = gradient ? bind->in[1] : NULL;
    k->y = bind->out[0];
    k->log = log;
    return CKPT_OK;
}

ckpt_status ckpt_cpu_softmax(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_softmax(bind, false, false, launch, err);
}

ckpt_status ckpt_cpu_logsoftmax(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_softmax(bind, false, true, launch, err);
}

ckpt_status ckpt_cpu_softmax_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_softmax(bind, true, false, launch, err);
}

ckpt_status ckpt_cpu_logsoftmax_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_softmax(bind, true, true, launch, err);
}
