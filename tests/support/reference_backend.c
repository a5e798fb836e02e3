#include "reference_backend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "runtime/philox.h"

struct ckpt_device {
    uint64_t now, peak;
    struct { void *address; uint64_t bytes; } block[4];
};

static double gelu_derivative(double x) {
    return 0.5 * (1 + erf(x / sqrt(2))) + x * exp(-x * x / 2) / sqrt(2 * M_PI);
}

double ckpt_reference_act(const ckpt_epilogue *e, double x) {
    const double k = sqrt(2 / M_PI);
    switch (e->act) {
    case CKPT_ACT_IDENTITY: return x;
    case CKPT_ACT_RELU: return x > 0 ? x : 0;
    case CKPT_ACT_LEAKY_RELU:
    case CKPT_ACT_LEAKY_RELU_X: return x > 0 ? x : (double)e->alpha * x;
    case CKPT_ACT_ELU:
    case CKPT_ACT_ELU_X: return x > 0 ? x : (double)e->alpha * expm1(x);
    case CKPT_ACT_SIGMOID: return 1 / (1 + exp(-x));
    case CKPT_ACT_TANH: return tanh(x);
    case CKPT_ACT_SOFTPLUS: return fmax(x, 0) + log1p(exp(-fabs(x)));
    case CKPT_ACT_GELU: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case CKPT_ACT_GELU_TANH: return 0.5 * x * (1 + tanh(k * (x + 0.044715 * x * x * x)));
    case CKPT_ACT_SILU: return x / (1 + exp(-x));
    case CKPT_ACT_ERF: return erf(x);
    case CKPT_ACT_NEG: return -x;
    case CKPT_ACT_SCALE: return (double)e->alpha * x + (double)e->beta;
    case CKPT_ACT_SELU:
    case CKPT_ACT_SELU_X: return x > 0 ? (double)e->beta * x : (double)e->alpha * expm1(x);
    case CKPT_ACT_CELU: return x > 0 ? x : (double)e->alpha * expm1(x / (double)e->alpha);
    case CKPT_ACT_HARD_SIGMOID: return fmin(fmax((double)e->alpha * x + (double)e->beta, 0), 1);
    case CKPT_ACT_HARD_SWISH: return x * fmin(fmax(x / 6 + 0.5, 0), 1);
    case CKPT_ACT_SOFTSIGN: return x / (1 + fabs(x));
    case CKPT_ACT_MISH: return x * tanh(fmax(x, 0) + log1p(exp(-fabs(x))));
    case CKPT_ACT_SWISH: return x / (1 + exp(-(double)e->alpha * x));
    case CKPT_ACT_THRESHOLDED_RELU: return x > (double)e->alpha ? x : 0;
    case CKPT_ACT_CLIP: return fmin(fmax(x, (double)e->alpha), (double)e->beta);
    case CKPT_ACT_NEGATIVE: return x > 0 ? 0 : x;
    case CKPT_ACT_EXP: return exp(x);
    case CKPT_ACT_LOG: return log(x);
    case CKPT_ACT_ABS: return fabs(x);
    case CKPT_ACT_SQRT: return sqrt(x);
    case CKPT_ACT_RECIPROCAL: return 1 / x;
    case CKPT_ACT_POW: return pow(x, (double)e->alpha);
    default: abort();
    }
}

double ckpt_reference_act_derivative(const ckpt_epilogue *e, double x) {
    const double k = sqrt(2 / M_PI), s = 1 / (1 + exp(-x));
    switch (e->act) {
    case CKPT_ACT_IDENTITY: return 1;
    case CKPT_ACT_RELU: return x > 0;
    case CKPT_ACT_LEAKY_RELU:
    case CKPT_ACT_LEAKY_RELU_X: return x > 0 ? 1 : (double)e->alpha;
    case CKPT_ACT_ELU:
    case CKPT_ACT_ELU_X: return x > 0 ? 1 : (double)e->alpha * exp(x);
    case CKPT_ACT_SIGMOID: return s * (1 - s);
    case CKPT_ACT_TANH: return 1 - tanh(x) * tanh(x);
    case CKPT_ACT_SOFTPLUS: return s;
    case CKPT_ACT_GELU: return gelu_derivative(x);
    case CKPT_ACT_GELU_TANH: {
        const double t = tanh(k * (x + 0.044715 * x * x * x));
        return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x);
    }
    case CKPT_ACT_SILU: return s * (1 + x * (1 - s));
    case CKPT_ACT_ERF: return 2 / sqrt(M_PI) * exp(-x * x);
    case CKPT_ACT_NEG: return -1;
    case CKPT_ACT_SCALE: return (double)e->alpha;
    case CKPT_ACT_SELU:
    case CKPT_ACT_SELU_X: return x > 0 ? (double)e->beta : (double)e->alpha * exp(x);
    case CKPT_ACT_CELU: return x > 0 ? 1 : exp(x / (double)e->alpha);
    case CKPT_ACT_HARD_SIGMOID: {
        const double z = (double)e->alpha * x + (double)e->beta;
        return z > 0 && z < 1 ? (double)e->alpha : 0;
    }
    case CKPT_ACT_HARD_SWISH: return x <= -3 ? 0 : x >= 3 ? 1 : x / 3 + 0.5;
    case CKPT_ACT_SOFTSIGN: return 1 / ((1 + fabs(x)) * (1 + fabs(x)));
    case CKPT_ACT_MISH: {
        const double t = tanh(fmax(x, 0) + log1p(exp(-fabs(x))));
        return t + x * (1 - t * t) * s;
    }
    case CKPT_ACT_SWISH: {
        const double a = (double)e->alpha, sa = 1 / (1 + exp(-a * x));
        return sa * (1 + a * x * (1 - sa));
    }
    case CKPT_ACT_THRESHOLDED_RELU: return x > (double)e->alpha;
    case CKPT_ACT_CLIP: return x > (double)e->alpha && x < (double)e->beta;
    case CKPT_ACT_NEGATIVE: return !(x > 0);
    case CKPT_ACT_EXP: return exp(x);
    case CKPT_ACT_LOG: return 1 / x;
    case CKPT_ACT_ABS: return (x > 0) - (x < 0);
    case CKPT_ACT_SQRT: return 0.5 / sqrt(x);
    case CKPT_ACT_RECIPROCAL: return -1 / (x * x);
    case CKPT_ACT_POW: return (double)e->alpha * pow(x, (double)e->alpha - 1);
    default: abort();
    }
}

/* f'(x) where only y = f(x) is known. */
static double derivative_from_output(const ckpt_epilogue *e, double y) {
    switch (e->act) {
    case CKPT_ACT_RELU: return y > 0;
    case CKPT_ACT_LEAKY_RELU: return y > 0 ? 1 : (double)e->alpha;
    case CKPT_ACT_ELU: return y > 0 ? 1 : y + (double)e->alpha;
    case CKPT_ACT_SIGMOID: return y * (1 - y);
    case CKPT_ACT_TANH: return 1 - y * y;
    case CKPT_ACT_SOFTPLUS: return 1 - exp(-y);
    case CKPT_ACT_SELU: return y > 0 ? (double)e->beta : y + (double)e->alpha;
    case CKPT_ACT_CELU: return y > 0 ? 1 : 1 + y / (double)e->alpha;
    case CKPT_ACT_SOFTSIGN: return (1 - fabs(y)) * (1 - fabs(y));
    case CKPT_ACT_EXP: return y;
    case CKPT_ACT_SQRT: return 0.5 / y;
    case CKPT_ACT_RECIPROCAL: return -y * y;
    default: return ckpt_reference_act_derivative(e, 0); /* IDENTITY, NEG, SCALE: constant */
    }
}

typedef struct work {
    ckpt_bind b;
} work;

static int64_t count_of(const ckpt_bind *b, int tensor) { return b->graph->tensor[tensor].count; }
static int64_t out_count(const ckpt_bind *b) { return count_of(b, b->node->out[0]); }

static bool keeps(const ckpt_bind *b, const ckpt_epilogue *e, const ckpt_scalars *s, int64_t i, int64_t count, uint32_t salt) {
    const uint64_t index = (uint64_t)i + (uint64_t)(s->first_sample * (count / b->graph->batch));
    uint32_t word[4];
    ckpt_philox(s->seed, e->stream + salt, s->step, index / 4, word);
    return word[index % 4] >= ckpt_drop_threshold(e->drop);
}

static double finish(const ckpt_bind *b, const ckpt_epilogue *e, const ckpt_scalars *s, int64_t i, int64_t count, double z) {
    const double y = ckpt_reference_act(e, z);
    if (!(e->drop > 0)) return y;
    return keeps(b, e, s, i, count, b->stream_salt) ? y / (1 - (double)e->drop) : 0;
}

static void run_linear(const ckpt_bind *b, const ckpt_scalars *s) {
    const ckpt_linear_attr *a = &b->node->attr.linear;
    const float *x = b->in[0], *w = b->in[1], *bias = b->node->in_count > 2 ? b->in[2] : NULL;
    float *y = b->out[0];
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t o = 0; o < a->out_features; o++) {
            double sum = 0;
            for (int64_t i = 0; i < a->in_features; i++)
                sum += (double)x[r * a->in_features + i] *
                       (double)(a->trans_w ? w[o * a->in_features + i] : w[i * a->out_features + o]);
            sum = (double)a->alpha * sum + (bias ? (double)a->beta * (double)bias[o] : 0);
            const int64_t at = r * a->out_features + o;
            y[at] = (float)finish(b, &a->epilogue, s, at, a->rows * a->out_features, sum);
        }
}

static void run_linear_dx(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_linear_attr *a = &b->node->attr.linear;
    const float *dz = b->in[0], *w = b->in[1];
    float *dx = b->out[0];
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t i = 0; i < a->in_features; i++) {
            double sum = 0;
            for (int64_t o = 0; o < a->out_features; o++)
                sum += (double)dz[r * a->out_features + o] *
                       (double)(a->trans_w ? w[o * a->in_features + i] : w[i * a->out_features + o]);
            dx[r * a->in_features + i] = (float)((double)a->alpha * sum);
        }
}

static void run_linear_dw(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_linear_attr *a = &b->node->attr.linear;
    const float *dz = b->in[0], *x = b->in[1], *before = b->node->in_count > 2 ? b->in[2] : NULL;
    float *dw = b->out[0];
    for (int64_t o = 0; o < a->out_features; o++)
        for (int64_t i = 0; i < a->in_features; i++) {
            double sum = 0;
            for (int64_t r = 0; r < a->rows; r++)
                sum += (double)dz[r * a->out_features + o] * (double)x[r * a->in_features + i];
            const int64_t at = a->trans_w ? o * a->in_features + i : i * a->out_features + o;
            dw[at] = (float)((double)a->alpha * sum + (before ? (double)before[at] : 0));
        }
}

static void run_matmul(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_matmul_attr *a = &b->node->attr.matmul;
    const float *left = b->in[0], *right = b->in[1];
    float *c = b->out[0];
    int64_t batches = 1;
    for (int i = 0; i < a->batch_rank; i++) batches *= a->batch_dim[i];
    for (int64_t n = 0; n < batches; n++) {
        int64_t rest = n, at_a = 0, at_b = 0;
        for (int i = a->batch_rank - 1; i >= 0; i--) {
            at_a += rest % a->batch_dim[i] * a->stride_a[i];
            at_b += rest % a->batch_dim[i] * a->stride_b[i];
            rest /= a->batch_dim[i];
        }
        const float *pa = left + at_a * a->m * a->k, *pb = right + at_b * a->k * a->n;
        for (int64_t i = 0; i < a->m; i++)
            for (int64_t j = 0; j < a->n; j++) {
                double sum = 0;
                for (int64_t k = 0; k < a->k; k++)
                    sum += (double)(a->trans_a ? pa[k * a->m + i] : pa[i * a->k + k]) *
                           (double)(a->trans_b ? pb[j * a->k + k] : pb[k * a->n + j]);
                c[(n * a->m + i) * a->n + j] = (float)((double)a->alpha * sum);
            }
    }
}

static double get(const void *data, ckpt_dtype type, int64_t i) {
    switch (type) {
    case CKPT_F32: return (double)((const float *)data)[i];
    case CKPT_F64: return ((const double *)data)[i];
    case CKPT_I32: return ((const int32_t *)data)[i];
    case CKPT_I64: return (double)((const int64_t *)data)[i];
    case CKPT_BOOL: return ((const unsigned char *)data)[i];
    default: return NAN;
    }
}

static void put(void *data, ckpt_dtype type, int64_t i, double v) {
    switch (type) {
    case CKPT_F32: ((float *)data)[i] = (float)v; break;
    case CKPT_F64: ((double *)data)[i] = v; break;
    case CKPT_I32: ((int32_t *)data)[i] = (int32_t)v; break;
    case CKPT_I64: ((int64_t *)data)[i] = (int64_t)v; break;
    case CKPT_BOOL: ((unsigned char *)data)[i] = v != 0; break;
    default: break;
    }
}

static void run_binary(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_binary_attr *a = &b->node->attr.binary;
    const ckpt_dtype type = b->graph->tensor[b->node->out[0]].dtype;
    for (int64_t n = 0; n < out_count(b); n++) {
        int64_t rest = n, at_a = 0, at_b = 0;
        for (int i = a->rank - 1; i >= 0; i--) {
            at_a += rest % a->dim[i] * a->stride_a[i];
            at_b += rest % a->dim[i] * a->stride_b[i];
            rest /= a->dim[i];
        }
        const double x = get(b->in[0], type, at_a), y = get(b->in[1], type, at_b);
        put(b->out[0], type, n,
            a->kind == CKPT_BINARY_ADD ? x + y : a->kind == CKPT_BINARY_SUB ? x - y : a->kind == CKPT_BINARY_MUL ? x * y : x / y);
    }
}

static void run_act(const ckpt_bind *b, const ckpt_scalars *s) {
    const float *x = b->in[0];
    float *y = b->out[0];
    for (int64_t i = 0; i < out_count(b); i++) y[i] = (float)finish(b, &b->node->attr.act, s, i, out_count(b), (double)x[i]);
}

static void run_act_grad(const ckpt_bind *b, const ckpt_scalars *s) {
    const ckpt_epilogue *e = &b->node->attr.act;
    const float *dy = b->in[0], *ref = b->node->in_count > 1 ? b->in[1] : NULL;
    float *dx = b->out[0];
    const double scale = 1 - (double)e->drop;
    for (int64_t i = 0; i < out_count(b); i++) {
        double f = !ref ? derivative_from_output(e, 0)
                        : ckpt_act_from_output(e->act) ? derivative_from_output(e, (double)ref[i] * scale)
                                                       : ckpt_reference_act_derivative(e, (double)ref[i]);
        if (e->drop > 0) f *= keeps(b, e, s, i, out_count(b), 0) ? 1 / scale : 0;
        dx[i] = (float)((double)dy[i] * f);
    }
}

static void run_keep_mask(const ckpt_bind *b, const ckpt_scalars *s) {
    unsigned char *mask = b->out[0];
    for (int64_t i = 0; i < out_count(b); i++)
        mask[i] = !(b->node->attr.act.drop > 0) || keeps(b, &b->node->attr.act, s, i, out_count(b), b->stream_salt);
}

static void row_stats(const float *x, int64_t cols, double epsilon, double *mean, double *inv) {
    double sum = 0, square = 0;
    for (int64_t i = 0; i < cols; i++) sum += (double)x[i];
    *mean = sum / (double)cols;
    for (int64_t i = 0; i < cols; i++) square += ((double)x[i] - *mean) * ((double)x[i] - *mean);
    *inv = 1 / sqrt(square / (double)cols + epsilon);
}

static void run_layernorm(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t rows = b->node->attr.norm.rows, cols = b->node->attr.norm.cols;
    const float *x = b->in[0], *scale = b->node->in_count > 1 ? b->in[1] : NULL, *bias = b->node->in_count > 2 ? b->in[2] : NULL;
    float *y = b->out[0];
    for (int64_t r = 0; r < rows; r++) {
        double mean, inv;
        row_stats(x + r * cols, cols, (double)b->node->attr.norm.epsilon, &mean, &inv);
        for (int64_t i = 0; i < cols; i++)
            y[r * cols + i] = (float)(((double)x[r * cols + i] - mean) * inv * (scale ? (double)scale[i] : 1) +
                                      (bias ? (double)bias[i] : 0));
        if (b->node->out_count > 1) ((float *)b->out[1])[r] = (float)mean, ((float *)b->out[2])[r] = (float)inv;
    }
}

static void run_layernorm_dx(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t rows = b->node->attr.norm.rows, cols = b->node->attr.norm.cols;
    const float *dy = b->in[0], *x = b->in[1], *scale = b->node->in_count > 2 ? b->in[2] : NULL;
    float *dx = b->out[0];
    for (int64_t r = 0; r < rows; r++) {
        double mean, inv, sum_g = 0, sum_gh = 0;
        row_stats(x + r * cols, cols, (double)b->node->attr.norm.epsilon, &mean, &inv);
        for (int64_t i = 0; i < cols; i++) {
            const double g = (double)dy[r * cols + i] * (scale ? (double)scale[i] : 1);
            sum_g += g;
            sum_gh += g * ((double)x[r * cols + i] - mean) * inv;
        }
        for (int64_t i = 0; i < cols; i++) {
            const double g = (double)dy[r * cols + i] * (scale ? (double)scale[i] : 1);
            const double h = ((double)x[r * cols + i] - mean) * inv;
            dx[r * cols + i] = (float)(inv * (g - sum_g / (double)cols - h * sum_gh / (double)cols));
        }
    }
}

static void run_layernorm_dp(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t rows = b->node->attr.norm.rows, cols = b->node->attr.norm.cols;
    const float *dy = b->in[0], *x = b->in[1];
    double *sum = calloc((size_t)(2 * cols), sizeof *sum);
    for (int64_t r = 0; r < rows; r++) {
        double mean, inv;
        row_stats(x + r * cols, cols, (double)b->node->attr.norm.epsilon, &mean, &inv);
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

static void run_softmax(const ckpt_bind *b, const ckpt_scalars *s) {
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

static void run_softmax_grad(const ckpt_bind *b, const ckpt_scalars *s) {
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

static void run_transpose(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_transpose_attr *a = &b->node->attr.transpose;
    const size_t size = (size_t)ckpt_dtype_bytes(b->graph->tensor[b->node->out[0]].dtype);
    int64_t stride[CKPT_MAX_RANK], run = 1;
    for (int i = a->rank - 1; i >= 0; i--) stride[i] = run, run *= a->dim[i];
    for (int64_t n = 0; n < out_count(b); n++) {
        int64_t rest = n, from = 0;
        for (int i = a->rank - 1; i >= 0; i--) {
            from += rest % a->dim[a->perm[i]] * stride[a->perm[i]];
            rest /= a->dim[a->perm[i]];
        }
        memcpy((char *)b->out[0] + (size_t)n * size, (const char *)b->in[0] + (size_t)from * size, size);
    }
}

/* Index in the reduced tensor of element n of the whole. */
static int64_t reduced_index(const ckpt_reduce_attr *a, int64_t n) {
    int64_t at = 0, run = 1;
    for (int i = a->rank - 1; i >= 0; i--) {
        if (a->keep >> i & 1) at += n % a->dim[i] * run, run *= a->dim[i];
        n /= a->dim[i];
    }
    return at;
}

static void run_reduce_sum(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_reduce_attr *a = &b->node->attr.reduce;
    const float *x = b->in[0];
    double *sum = calloc((size_t)out_count(b) + 1, sizeof *sum);
    for (int64_t n = 0; n < count_of(b, b->node->in[0]); n++) sum[reduced_index(a, n)] += (double)x[n];
    for (int64_t n = 0; n < out_count(b); n++) ((float *)b->out[0])[n] = (float)((double)a->alpha * sum[n]);
    free(sum);
}

static void run_expand(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_reduce_attr *a = &b->node->attr.reduce;
    for (int64_t n = 0; n < out_count(b); n++)
        ((float *)b->out[0])[n] = (float)((double)a->alpha * (double)((const float *)b->in[0])[reduced_index(a, n)]);
}

static void run_cast(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_dtype from = b->graph->tensor[b->node->in[0]].dtype, to = b->graph->tensor[b->node->out[0]].dtype;
    for (int64_t n = 0; n < out_count(b); n++) put(b->out[0], to, n, get(b->in[0], from, n));
}

/* Loss of one value or row, and its gradient before the division by the number of rows or values. */
static void run_loss(const ckpt_bind *b, const ckpt_scalars *s) {
    const int64_t rows = s->valid_samples * b->node->attr.loss.rows_per_sample, cols = b->node->attr.loss.cols;
    const int64_t all_rows = b->node->attr.loss.rows;
    const ckpt_loss kind = b->node->attr.loss.kind;
    const bool grad = b->node->op == CKPT_OP_LOSS_GRAD, classes = kind == CKPT_LOSS_CE || kind == CKPT_LOSS_NLL;
    const double norm = (double)(s->total_samples * b->node->attr.loss.rows_per_sample) * (classes ? 1 : (double)cols);
    const float *x = b->in[0], *tf = b->in[1];
    const int32_t *ti = b->in[1];
    double loss = 0, correct = 0;
    for (int64_t r = 0; r < all_rows; r++) {
        const bool counts = r < rows && !(classes && ti[r] < 0);
        double most = -INFINITY, sum = 0;
        int64_t best = 0;
        for (int64_t c = 0; c < cols; c++) {
            if ((double)x[r * cols + c] > most) most = (double)x[r * cols + c], best = c;
        }
        for (int64_t c = 0; c < cols; c++) sum += exp((double)x[r * cols + c] - most);
        if (counts && kind == CKPT_LOSS_CE) loss += log(sum) + most - (double)x[r * cols + ti[r]];
        if (counts && kind == CKPT_LOSS_NLL) loss -= (double)x[r * cols + ti[r]];
        if (counts && classes) correct += best == ti[r];
        for (int64_t c = 0; c < cols; c++) {
            const int64_t at = r * cols + c;
            const double v = (double)x[at], t = classes ? counts && c == ti[r] : (double)tf[at];
            double d = kind == CKPT_LOSS_CE ? exp(v - most) / sum - t : kind == CKPT_LOSS_NLL ? -t
                     : kind == CKPT_LOSS_BCE ? 1 / (1 + exp(-v)) - t : 2 * (v - t);
            if (counts && kind == CKPT_LOSS_BCE) loss += fmax(v, 0) - v * t + log1p(exp(-fabs(v))), correct += (v > 0) == (t > 0.5);
            if (counts && kind == CKPT_LOSS_MSE) loss += (v - t) * (v - t);
            if (grad) ((float *)b->out[0])[at] = (float)(counts ? d / norm : 0);
        }
    }
    if (!grad) ((double *)b->out[0])[0] += loss / norm, ((double *)b->out[0])[1] += correct;
}

static void run_zero(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    memset(b->out[0], 0, (size_t)ckpt_tensor_bytes(&b->graph->tensor[b->node->out[0]]));
}

static void run_update(const ckpt_bind *b, const ckpt_scalars *s) {
    const ckpt_attr *a = &b->node->attr;
    float *w = b->out[0], *m = b->node->out_count > 1 ? b->out[1] : NULL, *v = b->node->out_count > 2 ? b->out[2] : NULL;
    const float *g = b->in[1];
    const double lr = (double)s->learning_rate, t = s->step + 1.0, decay = (double)a->update.weight_decay;
    const double b1 = (double)a->update.beta1, b2 = (double)a->update.beta2;
    for (int64_t i = 0; i < out_count(b); i++) {
        double wi = (double)w[i], gi = (double)g[i];
        if (b->node->op == CKPT_OP_ADAMW) wi *= 1 - lr * decay;
        else gi += decay * wi;
        if (b->node->op == CKPT_OP_SGD) {
            wi -= lr * gi;
        } else if (b->node->op == CKPT_OP_MOMENTUM) {
            m[i] = (float)((double)a->update.momentum * (double)m[i] + gi);
            wi -= lr * (double)m[i];
        } else {
            m[i] = (float)(b1 * (double)m[i] + (1 - b1) * gi);
            v[i] = (float)(b2 * (double)v[i] + (1 - b2) * gi * gi);
            wi -= lr * ((double)m[i] / (1 - pow(b1, t))) / (sqrt((double)v[i] / (1 - pow(b2, t))) + (double)a->update.epsilon);
        }
        w[i] = (float)wi;
    }
}

static void (*const kernels[CKPT_OP_COUNT])(const ckpt_bind *, const ckpt_scalars *) = {
    [CKPT_OP_LINEAR] = run_linear, [CKPT_OP_MATMUL] = run_matmul, [CKPT_OP_BINARY] = run_binary, [CKPT_OP_ACT] = run_act,
    [CKPT_OP_KEEP_MASK] = run_keep_mask, [CKPT_OP_LAYERNORM] = run_layernorm, [CKPT_OP_SOFTMAX] = run_softmax,
    [CKPT_OP_LOGSOFTMAX] = run_softmax, [CKPT_OP_TRANSPOSE] = run_transpose, [CKPT_OP_REDUCE_SUM] = run_reduce_sum,
    [CKPT_OP_CAST] = run_cast, [CKPT_OP_LOSS] = run_loss, [CKPT_OP_LOSS_GRAD] = run_loss, [CKPT_OP_ACT_GRAD] = run_act_grad,
    [CKPT_OP_LINEAR_DX] = run_linear_dx, [CKPT_OP_LINEAR_DW] = run_linear_dw, [CKPT_OP_LAYERNORM_DX] = run_layernorm_dx,
    [CKPT_OP_LAYERNORM_DP] = run_layernorm_dp, [CKPT_OP_SOFTMAX_GRAD] = run_softmax_grad,
    [CKPT_OP_LOGSOFTMAX_GRAD] = run_softmax_grad, [CKPT_OP_EXPAND] = run_expand, [CKPT_OP_ZERO] = run_zero,
    [CKPT_OP_SGD] = run_update, [CKPT_OP_MOMENTUM] = run_update, [CKPT_OP_ADAM] = run_update, [CKPT_OP_ADAMW] = run_update,
};

static void launch_kernel(const void *self, const ckpt_scalars *scalars) {
    const work *w = self;
    kernels[w->b.node->op](&w->b, scalars);
}

static ckpt_status ref_open(const ckpt_device_options *options, ckpt_device **device, ckpt_error *err) {
    (void)options;
    *device = calloc(1, sizeof **device);
    return *device ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
}

static void ref_close(ckpt_device *device) { free(device); }

static ckpt_status ref_allocate(ckpt_device *device, uint64_t bytes, void **address, ckpt_error *err) {
    *address = aligned_alloc(256, (size_t)(bytes + 255) / 256 * 256);
    if (!*address) return ckpt_fail(err, CKPT_NOMEM, "out of memory");
    memset(*address, 0xff, (size_t)bytes); /* NaN */
    for (int i = 0; i < 4; i++)
        if (!device->block[i].address) {
            device->block[i].address = *address;
            device->block[i].bytes = bytes;
            break;
        }
    device->now += bytes;
    if (device->now > device->peak) device->peak = device->now;
    return CKPT_OK;
}

static void ref_release(ckpt_device *device, void *address) {
    for (int i = 0; i < 4; i++)
        if (device->block[i].address == address) {
            device->now -= device->block[i].bytes;
            device->block[i].address = NULL;
        }
    free(address);
}

static uint64_t ref_peak(const ckpt_device *device) { return device->peak; }

static ckpt_status ref_bind(ckpt_device *device, const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    (void)device;
    work *w = ckpt_pool_array(bind->pool, 1, work);
    if (!w || !kernels[bind->node->op]) return ckpt_fail(err, CKPT_FAILED, "no kernel");
    w->b = *bind;
    *launch = (ckpt_launch){launch_kernel, w};
    return CKPT_OK;
}

static ckpt_status ref_run(ckpt_device *device, const ckpt_launch *launches, int count, const ckpt_scalars *scalars,
                           ckpt_error *err) {
    (void)device, (void)err;
    for (int i = 0; i < count; i++) launches[i].run(launches[i].self, scalars);
    return CKPT_OK;
}

static ckpt_status ref_copy(ckpt_device *device, void *to, const void *from, uint64_t bytes, ckpt_error *err) {
    (void)device, (void)err;
    memcpy(to, from, (size_t)bytes);
    return CKPT_OK;
}

static bool ref_supports(ckpt_op op) { return kernels[op] != NULL; }

const ckpt_backend *ckpt_backend_reference(void) {
    static const ckpt_traits traits = {.device = "reference", .alignment_bytes = 256, .input_buffers = 1};
    static const ckpt_backend backend = {.name = "reference", .traits = &traits, .supports = ref_supports, .open = ref_open, .close = ref_close,
                                         .allocate = ref_allocate, .release = ref_release, .peak_bytes = ref_peak,
                                         .bind = ref_bind, .run = ref_run, .upload = ref_copy, .download = ref_copy};
    return &backend;
}
