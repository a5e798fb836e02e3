/* Arithmetic of two tensors, and what moves, sums or converts values. */
#include "reference_kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"

/* The upper half of a float. To nearest even, 8 digits of the mantissa; below the normal numbers it is cut off. */
static double bfloat_value(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

static uint16_t bfloat_of(double v) {
    int exponent;
    const double mantissa = frexp(v, &exponent);
    const float rounded = (float)(isfinite(v) ? ldexp(rint(ldexp(mantissa, 8)), exponent - 8) : v);
    uint32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static double get(const void *data, ckpt_dtype type, int64_t i) {
    switch (type) {
    case CKPT_F32: return (double)((const float *)data)[i];
    case CKPT_F64: return ((const double *)data)[i];
    case CKPT_I32: return ((const int32_t *)data)[i];
    case CKPT_I64: return (double)((const int64_t *)data)[i];
    case CKPT_BOOL: return ((const unsigned char *)data)[i];
    case CKPT_BF16: return bfloat_value(((const uint16_t *)data)[i]);
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
    case CKPT_BF16: ((uint16_t *)data)[i] = bfloat_of(v); break;
    default: break;
    }
}

void ckpt_reference_run_binary(const ckpt_bind *b, const ckpt_scalars *s) {
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

void ckpt_reference_run_transpose(const ckpt_bind *b, const ckpt_scalars *s) {
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

void ckpt_reference_run_reduce_sum(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_reduce_attr *a = &b->node->attr.reduce;
    const float *x = b->in[0];
    double *sum = calloc((size_t)out_count(b) + 1, sizeof *sum);
    for (int64_t n = 0; n < count_of(b, b->node->in[0]); n++) sum[reduced_index(a, n)] += (double)x[n];
    for (int64_t n = 0; n < out_count(b); n++) ((float *)b->out[0])[n] = (float)((double)a->alpha * sum[n]);
    free(sum);
}

void ckpt_reference_run_expand(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_reduce_attr *a = &b->node->attr.reduce;
    for (int64_t n = 0; n < out_count(b); n++)
        ((float *)b->out[0])[n] = (float)((double)a->alpha * (double)((const float *)b->in[0])[reduced_index(a, n)]);
}

void ckpt_reference_run_cast(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_dtype from = b->graph->tensor[b->node->in[0]].dtype, to = b->graph->tensor[b->node->out[0]].dtype;
    for (int64_t n = 0; n < out_count(b); n++) put(b->out[0], to, n, get(b->in[0], from, n));
}

static double pair_value(ckpt_pair kind, double x, double y) {
    if (kind == CKPT_PAIR_POW) return pow(x, y);
    if (isnan(x) || isnan(y)) return NAN;
    return kind == CKPT_PAIR_MAX ? fmax(x, y) : fmin(x, y);
}

static double pair_slope(ckpt_pair kind, bool second, double x, double y) {
    if (kind == CKPT_PAIR_POW && second) return x == 0 && y >= 0 ? 0 : pow(x, y) * log(x);
    if (kind == CKPT_PAIR_POW) return y == 0 ? 0 : y * pow(x, y - 1);
    const double above = kind == CKPT_PAIR_MAX ? x - y : y - x; /* how far a is chosen over b */
    return above == 0 ? 0.5 : (above > 0) != second;
}

/* Where element n of the output comes from in a and b. */
static void broadcast_from(const ckpt_binary_attr *a, int64_t n, int64_t *at_a, int64_t *at_b) {
    *at_a = *at_b = 0;
    for (int i = a->rank - 1; i >= 0; i--) {
        *at_a += n % a->dim[i] * a->stride_a[i];
        *at_b += n % a->dim[i] * a->stride_b[i];
        n /= a->dim[i];
    }
}

void ckpt_reference_run_pair(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_dtype type = b->graph->tensor[b->node->out[0]].dtype;
    for (int64_t n = 0; n < out_count(b); n++) {
        int64_t x, y;
        broadcast_from(&b->node->attr.pair.geometry, n, &x, &y);
        put(b->out[0], type, n, pair_value(b->node->attr.pair.kind, get(b->in[0], type, x), get(b->in[1], type, y)));
    }
}

void ckpt_reference_run_pair_grad(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const float *dc = b->in[0], *left = b->in[1], *right = b->in[2];
    for (int64_t n = 0; n < out_count(b); n++) {
        int64_t x, y;
        broadcast_from(&b->node->attr.pair.geometry, n, &x, &y);
        ((float *)b->out[0])[n] = (float)((double)dc[n] * pair_slope(b->node->attr.pair.kind, b->node->attr.pair.second,
                                                                     (double)left[x], (double)right[y]));
    }
}

/* Where element n of the part lies in the whole. */
static int64_t part_at(const ckpt_slice_attr *a, int64_t n) {
    int64_t at = 0, run = 1;
    for (int i = a->rank - 1; i >= 0; i--) {
        at += (a->start[i] + n % a->part[i] * a->step[i]) * run;
        run *= a->whole[i];
        n /= a->part[i];
    }
    return at;
}

void ckpt_reference_run_slice(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const size_t size = (size_t)ckpt_dtype_bytes(b->graph->tensor[b->node->out[0]].dtype);
    for (int64_t n = 0; n < out_count(b); n++)
        memcpy((char *)b->out[0] + (size_t)n * size, (const char *)b->in[0] + (size_t)part_at(&b->node->attr.slice, n) * size, size);
}

void ckpt_reference_run_place(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const ckpt_dtype type = b->graph->tensor[b->node->out[0]].dtype;
    const bool adds = b->node->in_count > 1;
    for (int64_t n = 0; n < out_count(b); n++)
        put(b->out[0], type, n, adds ? get(b->in[1], type, n) : (double)b->node->attr.slice.value);
    for (int64_t n = 0; n < count_of(b, b->node->in[0]); n++) {
        const int64_t at = part_at(&b->node->attr.slice, n);
        put(b->out[0], type, at, get(b->in[0], type, n) + (adds ? get(b->out[0], type, at) : 0));
    }
}

void ckpt_reference_run_concat(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    const int64_t outer = b->node->attr.axis.outer, axis = b->node->attr.axis.axis, inner = b->node->attr.axis.inner;
    const ckpt_dtype type = b->graph->tensor[b->node->out[0]].dtype;
    for (int64_t o = 0; o < outer; o++)
        for (int i = 0, start = 0; i < b->node->in_count; i++) {
            const int64_t share = count_of(b, b->node->in[i]) / outer;
            for (int64_t n = 0; n < share; n++)
                put(b->out[0], type, o * axis * inner + start + n, get(b->in[i], type, o * share + n));
            start += (int)share;
        }
}

void ckpt_reference_run_zero(const ckpt_bind *b, const ckpt_scalars *s) {
    (void)s;
    memset(b->out[0], 0, (size_t)ckpt_tensor_bytes(&b->graph->tensor[b->node->out[0]]));
}
