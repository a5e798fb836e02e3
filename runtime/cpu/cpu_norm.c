/* LayerNormalization over rows of cols values, h = (x - mean) * inv_std, and RMSNormalization, where the mean counts as 0:
 *   y = h * scale + bias
 *   dx = inv_std * (g - mean(g) - h * mean(g h)), g = dy * scale
 *   dscale = sum over rows of dy h, dbias = sum over rows of dy, row after row in each column */
#include "cpu/cpu_kernels.h"
#include "runtime/row_math.h"

typedef struct norm_kernel {
    int64_t rows, cols;
    float epsilon;
    bool centered; /* not RMSNormalization */
    const float *x, *scale, *bias, *dy;
    float *y, *mean, *inv_std;
    float *dscale, *dbias;
} norm_kernel;

static inline ckpt_moments moments_of(const norm_kernel *k, const float *x) {
    return k->centered ? ckpt_row_moments(x, k->cols, k->epsilon) : ckpt_row_rms(x, k->cols, k->epsilon);
}

CKPT_VECTOR
static void norm_row(const norm_kernel *k, int64_t r) {
    const int64_t n = k->cols;
    const float *x = k->x + r * n, *scale = k->scale, *bias = k->bias;
    float *y = k->y + r * n;
    const ckpt_moments m = moments_of(k, x);
    const float inv = m.inv_std;
    if (k->mean) k->mean[r] = m.mean + m.rest;
    if (k->inv_std) k->inv_std[r] = inv;
    if (scale && bias) {
        CKPT_CPU_SIMD
        for (int64_t j = 0; j < n; j++) y[j] = ckpt_deviation(x[j], m) * inv * scale[j] + bias[j];
    } else if (scale) {
        CKPT_CPU_SIMD
        for (int64_t j = 0; j < n; j++) y[j] = ckpt_deviation(x[j], m) * inv * scale[j];
    } else {
        CKPT_CPU_SIMD
        for (int64_t j = 0; j < n; j++) y[j] = ckpt_deviation(x[j], m) * inv + (bias ? bias[j] : 0.0f);
    }
}

CKPT_VECTOR
static void norm_dx_row(const norm_kernel *k, int64_t r) {
    const int64_t n = k->cols;
    const float *x = k->x + r * n, *dy = k->dy + r * n, *scale = k->scale;
    const ckpt_moments m = moments_of(k, x);
    const float inv = m.inv_std;
    float *dx = k->y + r * n, sum[CKPT_LANES] = {0}, dot[CKPT_LANES] = {0};
    /* One sum a loop: gcc keeps one set of lanes in registers, not two. */
    if (scale) {
        CKPT_LANE_LOOP(n, j, l, sum[l] += dy[j] * scale[j]);
        CKPT_LANE_LOOP(n, j, l, dot[l] += dy[j] * scale[j] * (ckpt_deviation(x[j], m) * inv));
    } else {
        CKPT_LANE_LOOP(n, j, l, sum[l] += dy[j]);
        CKPT_LANE_LOOP(n, j, l, dot[l] += dy[j] * (ckpt_deviation(x[j], m) * inv));
    }
    const float mean_g = k->centered ? ckpt_lanes_fold(sum) / (float)n : 0.0f, mean_gh = ckpt_lanes_fold(dot) / (float)n;
    if (scale) {
        CKPT_CPU_SIMD
        for (int64_t j = 0; j < n; j++)
            dx[j] = inv * (dy[j] * scale[j] - mean_g - ckpt_deviation(x[j], m) * inv * mean_gh);
    } else {
        CKPT_CPU_SIMD
        for (int64_t j = 0; j < n; j++) dx[j] = inv * (dy[j] - mean_g - ckpt_deviation(x[j], m) * inv * mean_gh);
    }
}

static void norm_body(const void *context, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) norm_row(context, r);
}

static void norm_dx_body(const void *context, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) norm_dx_row(context, r);
}

static void norm_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const norm_kernel *k = self;
    ckpt_cpu_for(k->rows, (ckpt_cpu_row_grain(k->cols) + 3) / 4, norm_body, k);
}

static void norm_dx_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const norm_kernel *k = self;
    ckpt_cpu_for(k->rows, (ckpt_cpu_row_grain(k->cols) + 3) / 4, norm_dx_body, k);
}

static bool is_rms(ckpt_op op) { return op == CKPT_OP_RMSNORM || op == CKPT_OP_RMSNORM_DX || op == CKPT_OP_RMSNORM_DP; }

static norm_kernel *bind_norm(const ckpt_bind *bind, void (*run)(const void *, const ckpt_scalars *),
                              ckpt_launch *launch, ckpt_error *err) {
    norm_kernel *k = ckpt_cpu_launch(bind, sizeof *k, run, launch, err);
    if (!k) return NULL;
    k->rows = bind->node->attr.norm.rows;
    k->cols = bind->node->attr.norm.cols;
    k->epsilon = bind->node->attr.norm.epsilon;
    k->centered = !is_rms(bind->node->op);
    return k;
}

ckpt_status ckpt_cpu_layernorm(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 1, 1, err));
    norm_kernel *k = bind_norm(bind, norm_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->x = bind->in[0];
    k->scale = bind->node->in_count > 1 ? bind->in[1] : NULL;
    k->bias = bind->node->in_count > 2 ? bind->in[2] : NULL;
    k->y = bind->out[0];
    k->mean = bind->node->out_count > 1 ? bind->out[1] : NULL;
    k->inv_std = bind->node->out_count > 2 ? bind->out[2] : NULL;
    return CKPT_OK;
}

ckpt_status ckpt_cpu_layernorm_dx(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 2, 1, err));
    norm_kernel *k = bind_norm(bind, norm_dx_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->dy = bind->in[0];
    k->x = bind->in[1];
    k->scale = bind->node->in_count > 2 ? bind->in[2] : NULL;
    k->y = bind->out[0];
    return CKPT_OK;
}

/* The statistics of a band of rows, by rows; then its sums, by columns: no memory but the band's statistics.
 * Each column adds its rows in groups of 64, then the groups. */
enum { BAND = 1024, GROUP = 64, TILE = 128 };

typedef struct band_call {
    const norm_kernel *kernel;
    int64_t first, count;
    ckpt_moments *moments;
} band_call;

CKPT_VECTOR
static void band_moments(const void *context, int64_t begin, int64_t end) {
    const band_call *c = context;
    const norm_kernel *k = c->kernel;
    for (int64_t r = begin; r < end; r++)
        c->moments[r] = moments_of(k, k->x + (c->first + r) * k->cols);
}

CKPT_VECTOR
static void band_tile(const band_call *c, int64_t col, int n) {
    const norm_kernel *k = c->kernel;
    float scale[TILE], bias[TILE];
    for (int j = 0; j < n; j++) {
        scale[j] = c->first ? k->dscale[col + j] : 0.0f;
        bias[j] = c->first && k->dbias ? k->dbias[col + j] : 0.0f;
    }
    for (int64_t group = 0; group < c->count; group += GROUP) {
        const int64_t end = group + GROUP < c->count ? group + GROUP : c->count;
        float part_scale[TILE] = {0}, part_bias[TILE] = {0};
        for (int64_t r = group; r < end; r++) {
            const float *x = k->x + (c->first + r) * k->cols + col, *dy = k->dy + (c->first + r) * k->cols + col;
            const ckpt_moments m = c->moments[r];
            CKPT_CPU_SIMD
            for (int j = 0; j < n; j++) {
                part_scale[j] += dy[j] * (ckpt_deviation(x[j], m) * m.inv_std);
                part_bias[j] += dy[j];
            }
        }
        for (int j = 0; j < n; j++) {
            scale[j] += part_scale[j];
            bias[j] += part_bias[j];
        }
    }
    for (int j = 0; j < n; j++) {
        k->dscale[col + j] = scale[j];
        if (k->dbias) k->dbias[col + j] = bias[j];
    }
}

static void band_body(const void *context, int64_t begin, int64_t end) {
    for (int64_t col = begin; col < end; col += TILE)
        band_tile(context, col, (int)(end - col < TILE ? end - col : TILE));
}

static void zero_body(const void *context, int64_t begin, int64_t end) {
    const norm_kernel *k = context;
    for (int64_t j = begin; j < end; j++) {
        k->dscale[j] = 0;
        if (k->dbias) k->dbias[j] = 0;
    }
}

static void norm_dp_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const norm_kernel *k = self;
    ckpt_moments moments[BAND];
    if (k->rows == 0) ckpt_cpu_for(k->cols, CKPT_CPU_GRAIN, zero_body, k);
    for (int64_t first = 0; first < k->rows; first += BAND) {
        const int64_t count = k->rows - first < BAND ? k->rows - first : BAND;
        const band_call call = {k, first, count, moments};
        ckpt_cpu_for(count, ckpt_cpu_row_grain(k->cols), band_moments, &call);
        ckpt_cpu_for(k->cols, ckpt_cpu_row_grain(count), band_body, &call);
    }
}

ckpt_status ckpt_cpu_layernorm_dp(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 2, 1, err));
    norm_kernel *k = bind_norm(bind, norm_dp_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->dy = bind->in[0];
    k->x = bind->in[1];
    k->dscale = bind->out[0];
    k->dbias = bind->node->out_count > 1 ? bind->out[1] : NULL;
    return CKPT_OK;
}

ckpt_status ckpt_cpu_rmsnorm(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return ckpt_cpu_layernorm(bind, launch, err);
}

ckpt_status ckpt_cpu_rmsnorm_dx(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return ckpt_cpu_layernorm_dx(bind, launch, err);
}

ckpt_status ckpt_cpu_rmsnorm_dp(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return ckpt_cpu_layernorm_dp(bind, launch, err);
}
