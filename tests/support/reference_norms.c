/* Normalizations and softmax. */
#include "reference_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"

static bool is_rms(const ckpt_bind *b) {
    return b->node->op == CKPT_OP_RMSNORM || b->node->op == CKPT_OP_RMSNORM_DX || b->node->op == CKPT_OP_RMSNORM_DP;
}

/* Without `centered` the mean counts as 0. */
static void row_stats(const float *x, int64_t cols, double epsilon, bool centered, double *mean, double *inv) {
    double sum = 0, square = 0;
    for (int64_t i = 0; i < cols; i++) sum += (double)x[i];
    *mean = centered ? sum / (double)cols : 0;
    for (int64_t i = 0; i < cols; i++) square += ((double)x[i] - *mean) * ((double)x[i] - *mean);
    *inv = 1 / sqrt(square / (double)cols + epsilon);
}

void ckpt_reference_run_layernorm(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t rows = b->node->attr.norm.rows, cols = b->node->attr.norm.cols;
    const float *x = b->in[0], *scale = b->node->in_count > 1 ? b->in[1] : NULL, *bias = b->node->in_count > 2 ? b->in[2] : NULL;
    float *y = b->out[0];
    for (int64_t r = 0; r < rows; r++) {
        double mean, inv;
        row_stats(x + r * cols, cols, (double)b->node->attr.norm.epsilon, !is_rms(b), &mean, &inv);
        for (int64_t i = 0; i < cols; i++)
            y[r * cols + i] = (float)(((double)x[r * cols + i] - mean) * inv * (scale ? (double)scale[i] : 1) +
                                      (bias ? (double)bias[i] : 0));
        if (b->node->out_count > 1) ((float *)b->out[1])[r] = (float)mean, ((float *)b->out[2])[r] = (float)inv;
    }
}

void ckpt_reference_run_layernorm_dx(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t rows = b->node->attr.norm.rows, cols = b->node->attr.norm.cols;
    const float *dy = b->in[0], *x = b->in[1], *scale = b->node->in_count > 2 ? b->in[2] : NULL;
    float *dx = b->out[0];
    for (int64_t r = 0; r < rows; r++) {
        double mean, inv, sum_g = 0, sum_gh = 0;
        row_stats(x + r * cols, cols, (double)b->node->attr.norm.epsilon, !is_rms(b), &mean, &inv);
        for (int64_t i = 0; i < cols; i++) {
            const double g = (double)dy[r * cols + i] * (scale ? (double)scale[i] : 1);
            sum_g += g;
            sum_gh += g * ((double)x[r * cols + i] - mean) * inv;
        }
        for (int64_t i = 0; i < cols; i++) {
            const double g = (double)dy[r * cols + i] * (scale ? (double)scale[i] : 1);
            const double h = ((double)x[r * cols + i] - mean) * inv;
            dx[r * cols + i] = (float)(inv * (g - (is_rms(b) ? 0 : sum_g / (double)cols) - h * sum_gh / (double)cols));
        }
    }
}

void ckpt_reference_run_layernorm_dp(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t rows = b->node->attr.norm.rows, cols = b->node->attr.norm.cols;
    const float *dy = b->in[0], *x = b->in[1];
    double *sum = calloc((size_t)(2 * cols), sizeof *sum);
    for (int64_t r = 0; r < rows; r++) {
        double mean, inv;
        row_stats(x + r * cols, cols, (double)b->node->attr.norm.epsilon, !is_rms(b), &mean, &inv);
        for (int64_t i = 0; i < cols; i++) {
            sum[i] += (double)dy[r * cols + i] * ((double)x[r * cols + i] - mean) * inv;
            sum[cols + i] += (double)dy[r * cols + i];
        }
    }
    for (int64_t i = 0; i < cols; i++) {
        ((float *)b->out[0])[i] = (float)sum[i];
        if (b->node->out_count > 1) ((float *)b->out[1])[i] = (float)sum[cols + i];
    }
    free(sum);
}

/* Sums of a group's normalization over its values [0, n): scale and bias of value i are those of channel i / inner. */
static int64_t scale_index(const ckpt_bind *b, int scale, int64_t row, int64_t i) {
    const int64_t wide = b->node->attr.group.channels / b->node->attr.group.groups, group = row % b->node->attr.group.groups;
    const bool by_group = b->graph->tensor[scale].count != b->node->attr.group.channels;
    return by_group ? group : group * wide + i / b->node->attr.group.inner;
}

static int64_t group_values(const ckpt_bind *b) {
    return b->node->attr.group.channels / b->node->attr.group.groups * b->node->attr.group.inner;
}

void ckpt_reference_run_groupnorm(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t n = group_values(b), rows = b->node->attr.group.batch * b->node->attr.group.groups;
    const float *x = b->in[0], *scale = b->in[1], *bias = b->in[2];
    for (int64_t r = 0; r < rows; r++) {
        double mean, inv;
        row_stats(x + r * n, n, (double)b->node->attr.group.epsilon, true, &mean, &inv);
        for (int64_t i = 0; i < n; i++) {
            const int64_t c = scale_index(b, b->node->in[1], r, i);
            ((float *)b->out[0])[r * n + i] = (float)(((double)x[r * n + i] - mean) * inv * (double)scale[c] + (double)bias[c]);
        }
    }
}

void ckpt_reference_run_groupnorm_dx(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t n = group_values(b), rows = b->node->attr.group.batch * b->node->attr.group.groups;
    const float *dy = b->in[0], *x = b->in[1], *scale = b->in[2];
    double *g = calloc((size_t)n + 1, sizeof *g);
    for (int64_t r = 0; r < rows; r++) {
        double mean, inv, sum = 0, dot = 0;
        row_stats(x + r * n, n, (double)b->node->attr.group.epsilon, true, &mean, &inv);
        for (int64_t i = 0; i < n; i++) {
            g[i] = (double)dy[r * n + i] * (double)scale[scale_index(b, b->node->in[2], r, i)];
            sum += g[i];
            dot += g[i] * ((double)x[r * n + i] - mean) * inv;
        }
        for (int64_t i = 0; i < n; i++)
            ((float *)b->out[0])[r * n + i] =
                (float)(inv * (g[i] - sum / (double)n - ((double)x[r * n + i] - mean) * inv * dot / (double)n));
    }
    free(g);
}

void ckpt_reference_run_groupnorm_dp(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t n = group_values(b), rows = b->node->attr.group.batch * b->node->attr.group.groups;
    const int which = b->node->out[0] >= 0 ? b->node->out[0] : b->node->out[1];
    const int64_t count = b->graph->tensor[which].count;
    const float *dy = b->in[0], *x = b->in[1];
    double *sum = calloc((size_t)(2 * count), sizeof *sum);
    for (int64_t r = 0; r < rows; r++) {
        double mean, inv;
        row_stats(x + r * n, n, (double)b->node->attr.group.epsilon, true, &mean, &inv);
        for (int64_t i = 0; i < n; i++) {
            const int64_t c = scale_index(b, which, r, i);
            sum[c] += (double)dy[r * n + i] * ((double)x[r * n + i] - mean) * inv;
            sum[count + c] += (double)dy[r * n + i];
        }
    }
    for (int out = 0; out < b->node->out_count; out++)
        for (int64_t c = 0; b->out[out] && c < count; c++) ((float *)b->out[out])[c] = (float)sum[out * count + c];
    free(sum);
}

/* BatchNormalization: where channel c of row r begins. */
static int64_t channel_at(const ckpt_bind *b, int64_t r, int64_t c) {
    return (r * b->node->attr.group.channels + c) * b->node->attr.group.inner;
}

static void put_stats(const ckpt_bind *b, int64_t c, double mean, double variance) {
    const int64_t channels = b->node->attr.group.channels;
    float *out = b->out[0];
    out[c] = (float)mean;
    out[channels + c] = (float)(mean - (double)out[c]);
    out[2 * channels + c] = (float)variance;
    out[3 * channels + c] = (float)(1 / sqrt(variance + (double)b->node->attr.group.epsilon));
}

void ckpt_reference_run_batch_stats(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t rows = b->node->attr.group.batch, inner = b->node->attr.group.inner;
    const float *x = b->in[0];
    for (int64_t c = 0; c < b->node->attr.group.channels; c++) {
        double sum = 0, square = 0;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < inner; i++) sum += (double)x[channel_at(b, r, c) + i];
        const double mean = sum / (double)(rows * inner);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < inner; i++) square += pow((double)x[channel_at(b, r, c) + i] - mean, 2);
        put_stats(b, c, mean, square / (double)(rows * inner));
    }
}

void ckpt_reference_run_stored_stats(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    for (int64_t c = 0; c < b->node->attr.group.channels; c++)
        put_stats(b, c, (double)((const float *)b->in[0])[c], (double)((const float *)b->in[1])[c]);
}

void ckpt_reference_run_stats_update(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const double keep = (double)b->node->attr.group.momentum;
    const int64_t channels = b->node->attr.group.channels;
    const float *stats = b->in[0], *mean = b->in[1], *variance = b->in[2];
    for (int64_t c = 0; c < channels; c++) {
        const double now = (double)stats[c] + (double)stats[channels + c];
        ((float *)b->out[0])[c] = (float)((double)mean[c] * keep + now * (1 - keep));
        ((float *)b->out[1])[c] = (float)((double)variance[c] * keep + (double)stats[2 * channels + c] * (1 - keep));
    }
}

static double deviation(const ckpt_bind *b, const float *stats, const float *x, int64_t r, int64_t c, int64_t i) {
    const int64_t channels = b->node->attr.group.channels;
    return ((double)x[channel_at(b, r, c) + i] - (double)stats[c] - (double)stats[channels + c]) * (double)stats[3 * channels + c];
}

void ckpt_reference_run_batchnorm(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const float *x = b->in[0], *scale = b->in[1], *bias = b->in[2], *stats = b->in[3];
    for (int64_t r = 0; r < b->node->attr.group.batch; r++)
        for (int64_t c = 0; c < b->node->attr.group.channels; c++)
            for (int64_t i = 0; i < b->node->attr.group.inner; i++)
                ((float *)b->out[0])[channel_at(b, r, c) + i] =
                    (float)(deviation(b, stats, x, r, c, i) * (double)scale[c] + (double)bias[c]);
}

/* Sums of dy and dy * h for one channel. */
static void batch_sums(const ckpt_bind *b, const float *stats, int64_t c, double *sum, double *dot) {
    const float *dy = b->in[0], *x = b->in[1];
    *sum = *dot = 0;
    for (int64_t r = 0; r < b->node->attr.group.batch; r++)
        for (int64_t i = 0; i < b->node->attr.group.inner; i++) {
            *sum += (double)dy[channel_at(b, r, c) + i];
            *dot += (double)dy[channel_at(b, r, c) + i] * deviation(b, stats, x, r, c, i);
        }
}

void ckpt_reference_run_batchnorm_dx(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t channels = b->node->attr.group.channels, inner = b->node->attr.group.inner, rows = b->node->attr.group.batch;
    const float *dy = b->in[0], *x = b->in[1], *scale = b->in[2], *stats = b->in[3];
    for (int64_t c = 0; c < channels; c++) {
        double sum, dot;
        batch_sums(b, stats, c, &sum, &dot);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t i = 0; i < inner; i++) {
                const double d = (double)dy[channel_at(b, r, c) + i] - sum / (double)(rows * inner) -
                                 deviation(b, stats, x, r, c, i) * dot / (double)(rows * inner);
                ((float *)b->out[0])[channel_at(b, r, c) + i] = (float)((double)stats[3 * channels + c] * (double)scale[c] * d);
            }
    }
}

void ckpt_reference_run_batchnorm_dp(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    for (int64_t c = 0; c < b->node->attr.group.channels; c++) {
        double sum, dot;
        batch_sums(b, b->in[2], c, &sum, &dot);
        if (b->out[0]) ((float *)b->out[0])[c] = (float)dot;
        if (b->node->out_count > 1 && b->out[1]) ((float *)b->out[1])[c] = (float)sum;
    }
}

void ckpt_reference_run_softmax(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t outer = b->node->attr.axis.outer, axis = b->node->attr.axis.axis, inner = b->node->attr.axis.inner;
    const float *x = b->in[0];
    float *y = b->out[0];
    for (int64_t o = 0; o < outer; o++)
        for (int64_t n = 0; n < inner; n++) {
            const int64_t base = o * axis * inner + n;
            double most = -INFINITY, sum = 0;
            for (int64_t i = 0; i < axis; i++) most = fmax(most, (double)x[base + i * inner]);
            for (int64_t i = 0; i < axis; i++) sum += exp((double)x[base + i * inner] - most);
            for (int64_t i = 0; i < axis; i++) {
                const double shifted = (double)x[base + i * inner] - most;
                y[base + i * inner] = (float)(b->node->op == CKPT_OP_SOFTMAX ? exp(shifted) / sum : shifted - log(sum));
            }
        }
}

void ckpt_reference_run_softmax_grad(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t outer = b->node->attr.axis.outer, axis = b->node->attr.axis.axis, inner = b->node->attr.axis.inner;
    const bool plain = b->node->op == CKPT_OP_SOFTMAX_GRAD;
    const float *dy = b->in[0], *y = b->in[1];
    float *dx = b->out[0];
    for (int64_t o = 0; o < outer; o++)
        for (int64_t n = 0; n < inner; n++) {
            const int64_t base = o * axis * inner + n;
            double sum = 0;
            for (int64_t i = 0; i < axis; i++)
                sum += (double)dy[base + i * inner] * (plain ? (double)y[base + i * inner] : 1);
            for (int64_t i = 0; i < axis; i++) {
                const int64_t at = base + i * inner;
                dx[at] = (float)(plain ? (double)y[at] * ((double)dy[at] - sum) : (double)dy[at] - exp((double)y[at]) * sum);
            }
        }
}
