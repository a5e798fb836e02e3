/* GroupNormalization over x (batch, channels, inner): statistics of a sample's group of channels, scale and bias a channel,
 * or a group before opset 21. Formulas in graph/op_channelnorm.c; a row is what shares its statistics. */
#include "cpu/cpu_kernels.h"
#include "runtime/norm_math.h"

enum { TILE = 64 };

typedef struct group_kernel {
    int64_t batch, channels, groups, inner, wide; /* wide: channels of a group */
    bool by_group;                                /* scale and bias have a value a group */
    float epsilon;
    const float *x, *dy, *scale, *bias;
    float *y, *dscale, *dbias;
} group_kernel;

static int64_t row_values(const group_kernel *k) { return k->wide * k->inner; }

/* Where the scale of channel c of row r's group lies. */
static int64_t scale_at(const group_kernel *k, int64_t r, int64_t c) {
    const int64_t group = r % k->groups;
    return k->by_group ? group : group * k->wide + c;
}

CKPT_VECTOR
static void group_row(const group_kernel *k, int64_t r) {
    const float *x = k->x + r * row_values(k);
    float *y = k->y + r * row_values(k);
    const ckpt_moments m = ckpt_row_moments(x, row_values(k), k->epsilon);
    for (int64_t c = 0; c < k->wide; c++, x += k->inner, y += k->inner) {
        const float scale = k->scale[scale_at(k, r, c)], bias = k->bias[scale_at(k, r, c)];
        for (int64_t i = 0; i < k->inner; i++) y[i] = ckpt_norm_value(x[i], m, scale, bias);
    }
}

/* g and g * h are summed in the lanes of runtime/row_math.h. */
CKPT_VECTOR
static void group_dx_row(const group_kernel *k, int64_t r) {
    const int64_t n = row_values(k);
    const float *x = k->x + r * n, *dy = k->dy + r * n;
    float *dx = k->y + r * n, sum[CKPT_LANES] = {0}, dot[CKPT_LANES] = {0};
    const ckpt_moments m = ckpt_row_moments(x, n, k->epsilon);
    for (int64_t c = 0, l = 0; c < k->wide; c++) {
        const float scale = k->scale[scale_at(k, r, c)];
        for (int64_t i = c * k->inner; i < (c + 1) * k->inner; i++, l = (l + 1) % CKPT_LANES) {
            const float g = dy[i] * scale;
            sum[l] += g;
            dot[l] += g * ckpt_norm_hat(x[i], m);
        }
    }
    const float mean_g = ckpt_lanes_fold(sum) / (float)n, mean_gh = ckpt_lanes_fold(dot) / (float)n;
    for (int64_t c = 0; c < k->wide; c++) {
        const float scale = k->scale[scale_at(k, r, c)];
        for (int64_t i = c * k->inner; i < (c + 1) * k->inner; i++)
            dx[i] = ckpt_norm_dx(dy[i] * scale, x[i], m, mean_g, mean_gh);
    }
}

/* Sums over samples [begin, end) for channels [first, first + n) of a group, added to scale[] and bias[]. */
static void add_parameters(const group_kernel *k, int64_t group, int64_t begin, int64_t end, int64_t first, int64_t n,
                           double *scale, double *bias) {
    for (int64_t b = begin; b < end; b++) {
        const int64_t row = (b * k->groups + group) * row_values(k);
        const ckpt_moments m = ckpt_row_moments(k->x + row, row_values(k), k->epsilon);
        for (int64_t c = 0; c < n; c++) {
            const float *x = k->x + row + (first + c) * k->inner, *dy = k->dy + row + (first + c) * k->inner;
            for (int64_t i = 0; i < k->inner; i++) {
                scale[c] += (double)(dy[i] * ckpt_norm_hat(x[i], m));
                bias[c] += (double)dy[i];
            }
        }
    }
}

/* The same over the whole batch, band after band. */
static void sum_parameters(const group_kernel *k, int64_t group, int64_t first, int64_t n, double *scale, double *bias) {
    for (int64_t begin = 0; begin < k->batch; begin += CKPT_NORM_BAND) {
        const int64_t end = begin + CKPT_NORM_BAND < k->batch ? begin + CKPT_NORM_BAND : k->batch;
        double part_scale[TILE] = {0}, part_bias[TILE] = {0};
        add_parameters(k, group, begin, end, first, n, part_scale, part_bias);
        for (int64_t c = 0; c < n; c++) {
            scale[c] += part_scale[c];
            bias[c] += part_bias[c];
        }
    }
}

static void dp_body(const void *context, int64_t begin, int64_t end) {
    const group_kernel *k = context;
    for (int64_t group = begin; group < end; group++) {
        double all_scale = 0, all_bias = 0;
        for (int64_t first = 0; first < k->wide; first += TILE) {
            const int64_t n = k->wide - first < TILE ? k->wide - first : TILE;
            double scale[TILE] = {0}, bias[TILE] = {0};
            sum_parameters(k, group, first, n, scale, bias);
            for (int64_t c = 0; c < n; c++) {
                all_scale += scale[c];
                all_bias += bias[c];
                if (k->dscale && !k->by_group) k->dscale[group * k->wide + first + c] = (float)scale[c];
                if (k->dbias && !k->by_group) k->dbias[group * k->wide + first + c] = (float)bias[c];
            }
        }
        if (k->dscale && k->by_group) k->dscale[group] = (float)all_scale;
        if (k->dbias && k->by_group) k->dbias[group] = (float)all_bias;
    }
}

static void row_body(const void *context, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) group_row(context, r);
}

static void dx_body(const void *context, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) group_dx_row(context, r);
}

static void group_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const group_kernel *k = self;
    ckpt_cpu_for(k->batch * k->groups, (ckpt_cpu_row_grain(row_values(k)) + 3) / 4, row_body, k);
}

static void dx_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const group_kernel *k = self;
    ckpt_cpu_for(k->batch * k->groups, (ckpt_cpu_row_grain(row_values(k)) + 3) / 4, dx_body, k);
}

static void dp_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const group_kernel *k = self;
    ckpt_cpu_for(k->groups, ckpt_cpu_row_grain(4 * k->batch * row_values(k)), dp_body, k);
}

/* parameter: the number of a scale, bias or gradient of one in a list of tensors. */
static group_kernel *bind_group(const ckpt_bind *bind, void (*run)(const void *, const ckpt_scalars *), int64_t parameters,
                                ckpt_launch *launch, ckpt_error *err) {
    group_kernel *k = ckpt_cpu_launch(bind, sizeof *k, run, launch, err);
    if (!k) return NULL;
    const ckpt_attr *a = &bind->node->attr;
    k->batch = a->group.batch;
    k->channels = a->group.channels;
    k->groups = a->group.groups;
    k->inner = a->group.inner;
    k->wide = k->channels / k->groups;
    k->epsilon = a->group.epsilon;
    k->by_group = parameters != k->channels;
    return k;
}

ckpt_status ckpt_cpu_groupnorm(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 3, 1, err));
    group_kernel *k = bind_group(bind, group_run, ckpt_cpu_in_count(bind, 1), launch, err);
    if (!k) return CKPT_NOMEM;
    k->x = bind->in[0];
    k->scale = bind->in[1];
    k->bias = bind->in[2];
    k->y = bind->out[0];
    return CKPT_OK;
}

ckpt_status ckpt_cpu_groupnorm_dx(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 3, 1, err));
    group_kernel *k = bind_group(bind, dx_run, ckpt_cpu_in_count(bind, 2), launch, err);
    if (!k) return CKPT_NOMEM;
    k->dy = bind->in[0];
    k->x = bind->in[1];
    k->scale = bind->in[2];
    k->y = bind->out[0];
    return CKPT_OK;
}

ckpt_status ckpt_cpu_groupnorm_dp(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cpu_require(bind, 2, 1, err));
    const int64_t scales = ckpt_cpu_out_count(bind, 0), biases = ckpt_cpu_out_count(bind, 1);
    group_kernel *k = bind_group(bind, dp_run, scales ? scales : biases, launch, err);
    if (!k) return CKPT_NOMEM;
    k->dy = bind->in[0];
    k->x = bind->in[1];
    k->dscale = bind->out[0];
    k->dbias = bind->node->out_count > 1 ? bind->out[1] : NULL;
    return CKPT_OK;
}
