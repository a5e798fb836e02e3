/* Element functions and dropout in double. */
#include "reference_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "reference_backend.h"
#include "runtime/philox.h"

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
    case CKPT_ACT_COUNT: break;
    }
    abort();
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
    case CKPT_ACT_COUNT: break;
    }
    abort();
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

static bool keeps(const ckpt_bind *b, const ckpt_epilogue *e, const ckpt_scalars *s, int64_t i, int64_t count, uint32_t salt) {
    const uint64_t index = (uint64_t)i + (uint64_t)(s->first_sample * (count / b->graph->batch));
    uint32_t word[4];
    ckpt_philox(s->seed, e->stream + salt, s->step, index / 4, word);
    return word[index % 4] >= ckpt_drop_threshold(e->drop);
}

double ckpt_reference_finish(const ckpt_bind *b, const ckpt_epilogue *e, const ckpt_scalars *s, int64_t i, int64_t count, double z) {
    const double y = ckpt_reference_act(e, z);
    if (!(e->drop > 0)) return y;
    return keeps(b, e, s, i, count, b->stream_salt) ? y / (1 - (double)e->drop) : 0;
}

void ckpt_reference_run_act(const ckpt_bind *b, const ckpt_scalars *s) {
    const float *x = b->in[0];
    float *y = b->out[0];
    for (int64_t i = 0; i < out_count(b); i++) y[i] = (float)ckpt_reference_finish(b, &b->node->attr.act, s, i, out_count(b), (double)x[i]);
}

void ckpt_reference_run_act_grad(const ckpt_bind *b, const ckpt_scalars *s) {
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

void ckpt_reference_run_keep_mask(const ckpt_bind *b, const ckpt_scalars *s) {
    unsigned char *mask = b->out[0];
    for (int64_t i = 0; i < out_count(b); i++)
        mask[i] = !(b->node->attr.act.drop > 0) || keeps(b, &b->node->attr.act, s, i, out_count(b), b->stream_salt);
}
