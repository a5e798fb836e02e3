/* BatchNormalization over x (batch, channels, inner), a channel at a time; formulas in graph/op_channelnorm.c. Channels are
 * taken in tiles where they lie beside each other (inner 1), else one by one. Sums go in the bands of runtime/norm_math.h. */
#include "cpu/cpu_kernels.h"
#include "runtime/norm_math.h"

enum { TILE = 64 };

typedef struct batch_kernel {
    int64_t rows, channels, inner;
    float epsilon, momentum;
    const float *x, *dy, *scale, *bias, *stats, *mean, *variance;
    float *y, *dscale, *dbias, *made, *new_mean, *new_variance;
} batch_kernel;

/* Channels [c, c + n) of row r: n * run values, a channel's run after the other; run is 1 in a tile. */
static int64_t place(const batch_kernel *k, int64_t r, int64_t c) { return (r * k->channels + c) * k->inner; }

/* Tiles begin at multiples of TILE, or are one channel. */
static int64_t tile_width(const batch_kernel *k) { return k->inner == 1 ? TILE : 1; }

CKPT_VECTOR
static void add_values(const float *x, int64_t n, int64_t run, double *sum) {
    if (run == 1) {
        for (int64_t j = 0; j < n; j++) sum[j] += (double)x[j];
        return;
    }
    for (int64_t i = 0; i < run; i++) *sum += (double)x[i];
}

CKPT_VECTOR
static void add_squares(const float *x, int64_t n, int64_t run, const double *mean, double *sum) {
    if (run == 1) {
        for (int64_t j = 0; j < n; j++) sum[j] += ckpt_square_deviation(x[j], mean[j]);
        return;
    }
    for (int64_t i = 0; i < run; i++) *sum += ckpt_square_deviation(x[i], *mean);
}

/* Adds the rows' values, or with `mean` their squared deviations, to total[n]. */
static void sum_values(const batch_kernel *k, int64_t c, int64_t n, const double *mean, double *total) {
    for (int64_t first = 0; first < k->rows; first += CKPT_NORM_BAND) {
        const int64_t end = first + CKPT_NORM_BAND < k->rows ? first + CKPT_NORM_BAND : k->rows;
        double part[TILE] = {0};
        for (int64_t r = first; r < end; r++) {
            if (mean) add_squares(k->x + place(k, r, c), n, k->inner, mean, part);
            else add_values(k->x + place(k, r, c), n, k->inner, part);
        }
        for (int64_t j = 0; j < n; j++) total[j] += part[j];
    }
}

static void stats_body(const void *context, int64_t begin, int64_t end) {
    const batch_kernel *k = context;
    const int64_t width = tile_width(k), values = k->rows * k->inner;
    for (int64_t t = begin; t < end; t++) {
        const int64_t c = t * width, n = k->channels - c < width ? k->channels - c : width;
        double mean[TILE] = {0}, square[TILE] = {0};
        sum_values(k, c, n, NULL, mean);
        for (int64_t j = 0; j < n; j++) mean[j] = values ? mean[j] / (double)values : 0;
        sum_values(k, c, n, mean, square);
        for (int64_t j = 0; j < n; j++)
            ckpt_batch_write(k->made, k->channels, c + j, mean[j], values ? square[j] / (double)values : 0, k->epsilon);
    }
}

/* y = h * scale + bias for a row */
CKPT_VECTOR
static void normalize(const batch_kernel *k, const float *x, float *y) {
    if (k->inner == 1) {
        CKPT_CPU_SIMD
        for (int64_t j = 0; j < k->channels; j++)
            y[j] = ckpt_norm_value(x[j], ckpt_batch_moments(k->stats, k->channels, j), k->scale[j], k->bias[j]);
        return;
    }
    for (int64_t j = 0; j < k->channels; j++, x += k->inner, y += k->inner) {
        const ckpt_moments m = ckpt_batch_moments(k->stats, k->channels, j);
        const float s = k->scale[j], b = k->bias[j];
        CKPT_CPU_SIMD
        for (int64_t i = 0; i < k->inner; i++) y[i] = ckpt_norm_value(x[i], m, s, b);
    }
}

static void normalize_body(const void *context, int64_t begin, int64_t end) {
    const batch_kernel *k = context;
    for (int64_t r = begin; r < end; r++) normalize(k, k->x + place(k, r, 0), k->y + place(k, r, 0));
}

/* Adds a row's dy and dy * h. */
CKPT_VECTOR
static void add_gradients(const batch_kernel *k, int64_t r, int64_t c, int64_t n, double *sum, double *dot) {
    const float *x = k->x + place(k, r, c), *dy = k->dy + place(k, r, c);
    if (k->inner == 1) {
        for (int64_t j = 0; j < n; j++) {
            sum[j] += (double)dy[j];
            dot[j] += (double)(dy[j] * ckpt_norm_hat(x[j], ckpt_batch_moments(k->stats, k->channels, c + j)));
        }
        return;
    }
    const ckpt_moments m = ckpt_batch_moments(k->stats, k->channels, c);
    for (int64_t i = 0; i < k->inner; i++) {
        *sum += (double)dy[i];
        *dot += (double)(dy[i] * ckpt_norm_hat(x[i], m));
    }
}

static void sum_gradients(const batch_kernel *k, int64_t c, int64_t n, double *sum, double *dot) {
    for (int64_t first = 0; first < k->rows; first += CKPT_NORM_BAND) {
        const int64_t end = first + CKPT_NORM_BAND < k->rows ? first + CKPT_NORM_BAND : k->rows;
        double part_sum[TILE] = {0}, part_dot[TILE] = {0};
        for (int64_t r = first; r < end; r++) add_gradients(k, r, c, n, part_sum, part_dot);
        for (int64_t j = 0; j < n; j++) {
            sum[j] += part_sum[j];
            dot[j] += part_dot[j];
        }
    }
}

/* dx of a row, given the means of dy and dy * h. */
CKPT_VECTOR
static void row_dx(const batch_kernel *k, int64_t r, int64_t c, int64_t n, const float *sum, const float *dot) {
    const float *x = k->x + place(k, r, c), *dy = k->dy + place(k, r, c), *scale = k->scale + c;
    float *dx = k->y + place(k, r, c);
    if (k->inner == 1) {
        CKPT_CPU_SIMD
        for (int64_t j = 0; j < n; j++)
            dx[j] = ckpt_batch_dx(dy[j], x[j], ckpt_batch_moments(k->stats, k->channels, c + j), scale[j], sum[j], dot[j]);
        return;
    }
    const ckpt_moments m = ckpt_batch_moments(k->stats, k->channels, c);
    CKPT_CPU_SIMD
    for (int64_t i = 0; i < k->inner; i++) dx[i] = ckpt_batch_dx(dy[i], x[i], m, *scale, *sum, *dot);
}

static void dx_body(const void *context, int64_t begin, int64_t end) {
    const batch_kernel *k = context;
    const int64_t width = tile_width(k), values = k->rows * k->inner;
    for (int64_t t = begin; t < end; t++) {
        const int64_t c = t * width, n = k->channels - c < width ? k->channels - c : width;
        double sum[TILE] = {0}, dot[TILE] = {0};
        float mean_sum[TILE], mean_dot[TILE];
        sum_gradients(k, c, n, sum, dot);
        for (int64_t j = 0; j < n; j++) {
            mean_sum[j] = values ? (float)(sum[j] / (double)values) : 0;
            mean_dot[j] = values ? (float)(dot[j] / (double)values) : 0;
        }
        for (int64_t r = 0; r < k->rows; r++) row_dx(k, r, c, n, mean_sum, mean_dot);
    }
}

static void dp_body(const void *context, int64_t begin, int64_t end) {
    const batch_kernel *k = context;
    const int64_t width = tile_width(k);
    for (int64_t t = begin; t < end; t++) {
        const int64_t c = t * width, n = k->channels - c < width ? k->channels - c : width;
        double sum[TILE] = {0}, dot[TILE] = {0};
        sum_gradients(k, c, n, sum, dot);
        for (int64_t j = 0; j < n; j++) {
            if (k->dscale) k->dscale[c + j] = (float)dot[j];
            if (k->dbias) k->dbias[c + j] = (float)sum[j];
        }
    }
}

static void over_tiles(const batch_kernel *k, ckpt_cpu_body body) {
    const int64_t width = tile_width(k);
    ckpt_cpu_for((k->channels + width - 1) / width, ckpt_cpu_row_grain(4 * k->rows * k->inner * width), body, k);
}

static void stats_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    over_tiles(self, stats_body);
}

static void dx_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    over_tiles(self, dx_body);
}

static void dp_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    over_tiles(self, dp_body);
}

static void normalize_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const batch_kernel *k = self;
    ckpt_cpu_for(k->rows, ckpt_cpu_row_grain(k->channels * k->inner), normalize_body, k);
}

static void stored_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const batch_kernel *k = self;
    for (int64_t c = 0; c < k->channels; c++)
        ckpt_batch_write(k->made, k->channels, c, (double)k->mean[c], (double)k->variance[c], k->epsilon);
}

static void update_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const batch_kernel *k = self;
    const float *mean = k->stats, *rest = mean + k->channels, *variance = rest + k->channels;
    for (int64_t c = 0; c < k->channels; c++) {
        k->new_mean[c] = ckpt_stats_moved(k->mean[c], mean[c] + rest[c], k->momentum);
        k->new_variance[c] = ckpt_stats_moved(k->variance[c], variance[c], k->momentum);
    }
}

static batch_kernel *bind_batch(const ckpt_bind *bind, void (*run)(const void *, const ckpt_scalars *), ckpt_launch *launch,
                                ckpt_error *err) {
    batch_kernel *k = ckpt_cpu_launch(bind, sizeof *k, run, launch, err);
    if (!k) return NULL;
    const ckpt_attr *a = &bind->node->attr;
    k->rows = a->group.batch;
    k->channels = a->group.channels;
    k->inner = a->group.inner;
    k->epsilon = a->group.epsilon;
    k->momentum = a->group.momentum;
    return k;
}

ckpt_status ckpt_cpu_batch_stats(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 1, 1, err));
    batch_kernel *k = bind_batch(bind, stats_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->x = bind->in[0];
    k->made = bind->out[0];
    return CKPT_OK;
}

ckpt_status ckpt_cpu_stored_stats(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 2, 1, err));
    batch_kernel *k = bind_batch(bind, stored_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->mean = bind->in[0];
    k->variance = bind->in[1];
    k->made = bind->out[0];
    return CKPT_OK;
}

ckpt_status ckpt_cpu_stats_update(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 3, 2, err));
    batch_kernel *k = bind_batch(bind, update_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->stats = bind->in[0];
    k->mean = bind->in[1];
    k->variance = bind->in[2];
    k->new_mean = bind->out[0];
    k->new_variance = bind->out[1];
    return CKPT_OK;
}

ckpt_status ckpt_cpu_batchnorm(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 4, 1, err));
    batch_kernel *k = bind_batch(bind, normalize_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->x = bind->in[0];
    k->scale = bind->in[1];
    k->bias = bind->in[2];
    k->stats = bind->in[3];
    k->y = bind->out[0];
    return CKPT_OK;
}

ckpt_status ckpt_cpu_batchnorm_dx(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 4, 1, err));
    batch_kernel *k = bind_batch(bind, dx_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->dy = bind->in[0];
    k->x = bind->in[1];
    k->scale = bind->in[2];
    k->stats = bind->in[3];
    k->y = bind->out[0];
    return CKPT_OK;
}

ckpt_status ckpt_cpu_batchnorm_dp(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 3, 1, err));
    batch_kernel *k = bind_batch(bind, dp_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->dy = bind->in[0];
    k->x = bind->in[1];
    k->stats = bind->in[2];
    k->dscale = bind->out[0];
    k->dbias = bind->node->out_count > 1 ? bind->out[1] : NULL;
    return CKPT_OK;
}
