/* Convolutions and pools: windows over up to three axes.
 *   Conv           y = b + sum over taps and the group's channels of w * x    2 flops a product, 1 a bias
 *   ConvTranspose  its adjoint: every x spreads over a window of y            2 flops a product, 1 a bias
 *   MaxPool, AveragePool  one flop a tap
 * A gradient with respect to x or w has the products of the forward pass. */
#include <inttypes.h>

#include "base/units.h"
#include "graph/build.h"
#include "graph/op_rules.h"

ckpt_cost ckpt_cost_window(const ckpt_graph *graph, const ckpt_node *node) {
    (void)graph;
    return (ckpt_cost){.flops = node->attr.window.flops};
}

/* flops = each * a * b * the taps of a window; refuses what no machine would finish. */
static ckpt_status count_flops(ckpt_window_attr *w, uint64_t each, int64_t outputs, int64_t channels, ckpt_error *err) {
    bool fits = ckpt_mul_u64(each, (uint64_t)outputs, &w->flops) && ckpt_mul_u64(w->flops, (uint64_t)channels, &w->flops);
    for (int i = 0; fits && i < w->axes; i++) fits = ckpt_mul_u64(w->flops, (uint64_t)w->kernel[i], &w->flops);
    if (fits && w->flops < 1ull << 60) return CKPT_OK;
    return ckpt_fail(err, CKPT_MODEL, "it would take more than 10^18 operations");
}

static ckpt_status check_input(const ckpt_graph *graph, const ckpt_view *x, const ckpt_window_attr *w, ckpt_error *err) {
    if (graph->tensor[x->tensor].dtype != CKPT_F32)
        return ckpt_fail(err, CKPT_MODEL, "its input is of type %s instead of a float",
                         ckpt_dtype_name(graph->tensor[x->tensor].dtype));
    if (x->rank != w->axes + 2)
        return ckpt_fail(err, CKPT_MODEL, "its input has %d dimensions; its window has %d axes, so %d are needed", x->rank,
                         w->axes, w->axes + 2);
    for (int i = 0; i < w->axes; i++)
        if (w->kernel[i] < 1 || w->stride[i] < 1 || w->dilation[i] < 1)
            return ckpt_fail(err, CKPT_MODEL, "its kernel, stride or dilation along axis %d is below 1", i);
    return CKPT_OK;
}

/* y has the batch and `channels` of x's group, and the window's outputs. */
static void set_output(const ckpt_view *x, int64_t channels, const int64_t *size, int axes, ckpt_view *y) {
    *y = (ckpt_view){.tensor = -1, .rank = x->rank, .dim = {x->dim[0], channels}};
    for (int i = 0; i < axes; i++) y->dim[2 + i] = size[i];
}

ckpt_status ckpt_build_conv(ckpt_graph *graph, const char *name, const ckpt_view *x, const ckpt_view *w, int b,
                            const ckpt_window_attr *window, bool transposed, ckpt_view *y, ckpt_error *err) {
    ckpt_attr attr = {.window = *window};
    ckpt_window_attr *a = &attr.window;
    CKPT_TRY(check_input(graph, x, a, err));
    if (w->rank != a->axes + 2) return ckpt_fail(err, CKPT_MODEL, "its weight has %d dimensions", w->rank);
    if (a->groups < 1 || x->dim[1] % a->groups != 0 || w->dim[0] % a->groups != 0)
        return ckpt_fail(err, CKPT_MODEL, "its group %" PRId64 " does not divide its channels", a->groups);
    a->batch = x->dim[0];
    a->in_channels = x->dim[1];
    int64_t across; /* channels of all groups: any number of them divides 0 */
    if (__builtin_mul_overflow(w->dim[1], a->groups, &across)) return ckpt_fail(err, CKPT_MODEL, "its group is out of range");
    a->out_channels = transposed ? across : w->dim[0];
    const int64_t takes = transposed ? w->dim[0] : across;
    if (takes != a->in_channels)
        return ckpt_fail(err, CKPT_MODEL, "its input has %" PRId64 " channels and its weight takes %" PRId64, a->in_channels,
                         takes);
    for (int i = 0; i < a->axes; i++)
        if (w->dim[2 + i] != a->kernel[i]) return ckpt_fail(err, CKPT_MODEL, "its kernel_shape is not its weight's");
    if (b >= 0 && graph->tensor[b].count != a->out_channels)
        return ckpt_fail(err, CKPT_MODEL, "its bias has %" PRId64 " values for %" PRId64 " channels", graph->tensor[b].count,
                         a->out_channels);
    set_output(x, a->out_channels, transposed ? a->dense : a->coarse, a->axes, y);
    const int in[3] = {x->tensor, w->tensor, b};
    int64_t coarse;
    bool fits = !__builtin_mul_overflow(a->batch, transposed ? a->in_channels : a->out_channels, &coarse);
    for (int i = 0; i < a->axes; i++)
        if (!fits || __builtin_mul_overflow(coarse, a->coarse[i], &coarse)) return ckpt_fail(err, CKPT_MODEL, "it is larger than any memory");
    CKPT_TRY(count_flops(a, 2, coarse, (transposed ? a->out_channels : a->in_channels) / a->groups, err));
    CKPT_TRY(ckpt_build_node(graph, name, transposed ? CKPT_OP_CONV_TRANSPOSE : CKPT_OP_CONV, &attr, b >= 0 ? 3 : 2, in, CKPT_F32,
                             y, err));
    return CKPT_OK;
}

ckpt_status ckpt_build_pool(ckpt_graph *graph, const char *name, ckpt_op op, const ckpt_view *x,
                            const ckpt_window_attr *window, ckpt_view *y, ckpt_view *indices, ckpt_error *err) {
    ckpt_attr attr = {.window = *window};
    ckpt_window_attr *a = &attr.window;
    CKPT_TRY(check_input(graph, x, a, err));
    a->batch = x->dim[0];
    a->groups = a->in_channels = a->out_channels = x->dim[1];
    set_output(x, a->out_channels, a->coarse, a->axes, y);
    uint64_t outputs = 1;
    for (int i = 0; i < y->rank; i++)
        if (!ckpt_mul_u64(outputs, (uint64_t)y->dim[i], &outputs) || outputs >> 60)
            return ckpt_fail(err, CKPT_MODEL, "it is larger than any memory");
    CKPT_TRY(count_flops(a, 1, (int64_t)outputs, 1, err));
    CKPT_TRY(ckpt_build_node(graph, name, op, &attr, 1, &x->tensor, CKPT_F32, y, err));
    return indices ? ckpt_build_output(graph, CKPT_I64, y, indices, err) : CKPT_OK;
}
