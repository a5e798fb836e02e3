/* Softmax and LogSoftmax along one axis of [outer][axis][inner], shifted by the maximum, and their gradients:
 *   softmax     y = exp(x - max) / sum            dx = y (dy - sum of dy y)
 *   logsoftmax  y = (x - max) - log(sum)          dx = dy - exp(y) sum of dy
 * Along the last axis a group of 16 threads takes a row, in the lanes of runtime/row_math.h; along another a
 * thread takes a column, in the axis' order. */
#include "cuda/cuda_device.cuh"

struct softmax_node {
    const ckpt_cuda_context *context;
    int64_t outer, axis, inner;
    const float *x, *dy, *y_in;
    float *y;
};

template <bool LOG> __global__ static void softmax_rows_kernel(softmax_node k) {
    const int64_t r = ckpt_group_row(), n = k.axis;
    const int lane = ckpt_group_lane();
    if (r >= k.outer) return;
    const float *x = k.x + r * n;
    float *y = k.y + r * n;
    const float max = ckpt_group_row_max(x, n);
    if (LOG) {
        const float shift = ckpt_log(ckpt_group_exp_sum(x, n, max));
        for (int64_t j = lane; j < n; j += CKPT_LANES) y[j] = (x[j] - max) - shift;
    } else {
        const float factor = 1.0f / ckpt_group_exp_sum(x, n, max);
        /* Exponentials again rather than stored between: a long row is in no cache. */
        for (int64_t j = lane; j < n; j += CKPT_LANES) y[j] = ckpt_exp(x[j] - max) * factor;
    }
}

template <bool LOG> __global__ static void softmax_grad_rows_kernel(softmax_node k) {
    const int64_t r = ckpt_group_row(), n = k.axis;
    if (r >= k.outer) return;
    const float *dy = k.dy + r * n, *y = k.y_in + r * n;
    float *dx = k.y + r * n, sum = 0;
#pragma unroll 4
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES) sum += LOG ? dy[j] : dy[j] * y[j];
    sum = ckpt_group_fold(sum);
    for (int64_t j = ckpt_group_lane(); j < n; j += CKPT_LANES)
        dx[j] = LOG ? dy[j] - ckpt_exp(y[j]) * sum : y[j] * (dy[j] - sum);
}

template <bool LOG> __global__ static void softmax_columns_kernel(softmax_node k) {
    CKPT_EACH_ELEMENT(line, k.outer * k.inner) {
        int64_t o = line;
        const int64_t i = ckpt_split(&o, k.inner), at = o * k.axis * k.inner + i;
        const float *x = k.x + at;
        float *y = k.y + at, max = -INFINITY, sum = 0;
        for (int64_t a = 0; a < k.axis; a++) max = x[a * k.inner] > max ? x[a * k.inner] : max;
        for (int64_t a = 0; a < k.axis; a++) sum += ckpt_exp(x[a * k.inner] - max);
        sum = LOG ? ckpt_log(sum) : 1.0f / sum;
        for (int64_t a = 0; a < k.axis; a++) {
            const float d = x[a * k.inner] - max;
            y[a * k.inner] = LOG ? d - sum : ckpt_exp(d) * sum;
        }
    }
}

template <bool LOG> __global__ static void softmax_grad_columns_kernel(softmax_node k) {
    CKPT_EACH_ELEMENT(line, k.outer * k.inner) {
        int64_t o = line;
        const int64_t i = ckpt_split(&o, k.inner), at = o * k.axis * k.inner + i;
        const float *dy = k.dy + at, *y = k.y_in + at;
        float *dx = k.y + at, sum = 0;
        for (int64_t a = 0; a < k.axis; a++) sum += LOG ? dy[a * k.inner] : dy[a * k.inner] * y[a * k.inner];
        for (int64_t a = 0; a < k.axis; a++) {
            const float g = dy[a * k.inner], v = y[a * k.inner];
            dx[a * k.inner] = LOG ? g - ckpt_exp(v) * sum : v * (g - sum);
        }
    }
}

typedef void (*softmax_function)(softmax_node k);

static void start(const softmax_node *k, softmax_function rows, softmax_function columns) {
    const int64_t lines = k->outer * k->inner;
    if (lines == 0 || k->axis == 0) return;
    if (k->inner == 1)
        ckpt_cuda_start(rows, dim3(ckpt_group_blocks(lines)), dim3(CKPT_GROUP_THREADS), k->context->stream, *k);
    else
        ckpt_cuda_start_flat(columns, dim3(ckpt_element_blocks(lines)), dim3(CKPT_ELEMENT_THREADS), k->context->stream, *k);
}

template <bool LOG> static void softmax_run(const void *self, const ckpt_scalars *) {
    start((const softmax_node *)self, softmax_rows_kernel<LOG>, softmax_columns_kernel<LOG>);
}

template <bool LOG> static void softmax_grad_run(const void *self, const ckpt_scalars *) {
    start((const softmax_node *)self, softmax_grad_rows_kernel<LOG>, softmax_grad_columns_kernel<LOG>);
}

static ckpt_status bind_softmax(const ckpt_bind *bind, bool gradient, void (*run)(const void *, const ckpt_scalars *),
                                ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(ckpt_cuda_require(bind, gradient ? 2 : 1, 1, err));
    softmax_node *k = (softmax_node *)ckpt_cuda_launch(bind, sizeof *k, run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->outer = bind->node->attr.axis.outer;
    k->axis = bind->node->attr.axis.axis;
    k->inner = bind->node->attr.axis.inner;
    k->x = (const float *)(gradient ? NULL : bind->in[0]);
    k->dy = (const float *)(gradient ? bind->in[0] : NULL);
    k->y_in = (const float *)(gradient ? bind->in[1] : NULL);
    k->y = (float *)bind->out[0];
    return CKPT_OK;
}

extern "C" ckpt_status ckpt_cuda_softmax(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_softmax(bind, false, softmax_run<false>, launch, err);
}
extern "C" ckpt_status ckpt_cuda_logsoftmax(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_softmax(bind, false, softmax_run<true>, launch, err);
}
extern "C" ckpt_status ckpt_cuda_softmax_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_softmax(bind, true, softmax_grad_run<false>, launch, err);
}
extern "C" ckpt_status ckpt_cuda_logsoftmax_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    return bind_softmax(bind, true, softmax_grad_run<true>, launch, err);
}
