/* Operators that take tensors apart and put them together. */
#include <inttypes.h>
#include <string.h>

#include "import/import.h"
#include "import/onnx_rules.h"

/* The whole of x, an element at a time. */
static ckpt_slice_attr whole_of(const ckpt_view *x) {
    ckpt_slice_attr s = {.rank = x->rank};
    for (int i = 0; i < x->rank; i++) {
        s.whole[i] = s.part[i] = x->dim[i];
        s.step[i] = 1;
    }
    return s;
}

ckpt_status import_concat(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x[CKPT_MAX_IN], y;
    int64_t attr;
    int axis;
    if (node->n_input < 1 || node->n_input > CKPT_MAX_IN)
        return ckpt_fail(im->err, CKPT_MODEL, "it has %zu inputs; 1 to %d are supported", node->n_input, CKPT_MAX_IN);
    for (size_t i = 0; i < node->n_input; i++) CKPT_TRY(ckpt_import_input(im, node, i, &x[i]));
    CKPT_TRY(ckpt_import_attr_int(im, node, "axis", 1, &attr)); /* a default up to opset 3 only */
    CKPT_TRY(ckpt_import_axis(im, attr, x[0].rank, false, &axis));
    if (node->n_input == 1) return ckpt_import_alias(im, node, 0);
    CKPT_TRY(ckpt_build_concat(&im->model->graph, node->name, (int)node->n_input, x, axis, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

/* Sizes of the parts: listed, or equal but for the last. */
static ckpt_status split_sizes(ckpt_import *im, const Onnx__NodeProto *node, int64_t total, int64_t *sizes) {
    const int parts = (int)node->n_output;
    const int64_t *listed;
    int64_t *computed;
    int count;
    CKPT_TRY(ckpt_import_attr_ints(im, node, "split", &listed, &count));
    if (count < 0 && ckpt_import_has_input(node, 1)) {
        CKPT_TRY(ckpt_import_ints(im, node, 1, &computed, &count));
        listed = computed;
    }
    const int64_t each = (total + parts - 1) / parts;
    if (count >= 0 && count != parts)
        return ckpt_fail(im->err, CKPT_MODEL, "it has %d outputs and %d sizes for them", parts, count);
    int64_t left = total;
    for (int i = 0; i < parts; i++) {
        sizes[i] = count >= 0 ? listed[i] : each < left ? each : left;
        if (sizes[i] < 0 || sizes[i] > left) break;
        left -= sizes[i];
    }
    return left == 0 ? CKPT_OK : ckpt_fail(im->err, CKPT_MODEL, "its parts do not add up to %" PRId64, total);
}

/* The parts of x along an axis, as slices of these sizes. */
static ckpt_status cut(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *x, int axis, int count, const int64_t *sizes,
                       ckpt_view *parts) {
    ckpt_slice_attr slice = whole_of(x);
    for (int i = 0; i < count; i++) {
        slice.part[axis] = sizes[i];
        const char *name = ckpt_pool_printf(im->pool, "%s.%d", node->name && *node->name ? node->name : "Split", i);
        if (!name) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
        CKPT_TRY(ckpt_build_slice(&im->model->graph, name, &slice, x, &parts[i], im->err));
        slice.start[axis] += sizes[i];
    }
    return CKPT_OK;
}

ckpt_status import_split(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x, parts[CKPT_MAX_IN];
    int64_t attr, sizes[CKPT_MAX_IN];
    int axis;
    if (node->n_output < 1 || node->n_output > CKPT_MAX_IN)
        return ckpt_fail(im->err, CKPT_MODEL, "it has %zu outputs; 1 to %d are supported", node->n_output, CKPT_MAX_IN);
    CKPT_TRY(ckpt_import_attr_int(im, node, "axis", 0, &attr));
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_axis(im, attr, x.rank, false, &axis));
    CKPT_TRY(split_sizes(im, node, x.dim[axis], sizes));
    CKPT_TRY(cut(im, node, &x, axis, (int)node->n_output, sizes, parts));
    for (size_t i = 0; i < node->n_output; i++) CKPT_TRY(ckpt_import_define(im, node, i, &parts[i]));
    return CKPT_OK;
}

/* Parts of listed sizes; of one size but for the last; or, without a size, of 1. */
ckpt_status import_splittosequence(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x, parts[CKPT_MAX_IN];
    int64_t attr, keep, *listed = NULL, sizes[CKPT_MAX_IN], left;
    int axis, given = 0, count = 0;
    CKPT_TRY(ckpt_import_attr_int(im, node, "axis", 0, &attr));
    CKPT_TRY(ckpt_import_attr_int(im, node, "keepdims", 1, &keep));
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_axis(im, attr, x.rank, false, &axis));
    if (ckpt_import_has_input(node, 1)) CKPT_TRY(ckpt_import_ints(im, node, 1, &listed, &given));
    left = x.dim[axis];
    for (; left > 0 && count < CKPT_MAX_IN; count++) {
        const int64_t size = given == 0 ? 1 : given == 1 ? listed[0] : count < given ? listed[count] : 0;
        sizes[count] = size < left ? size : left;
        if (size < 1 || (given > 1 && size > left)) break;
        left -= sizes[count];
    }
    if (left != 0 || (given > 1 && count != given))
        return ckpt_fail(im->err, CKPT_MODEL, "its parts do not add up to %" PRId64 ", or are more than %d", x.dim[axis],
                         CKPT_MAX_IN);
    CKPT_TRY(cut(im, node, &x, axis, count, sizes, parts));
    for (int i = 0; i < count && !keep && !given; i++) { /* without the axis */
        for (int d = axis; d + 1 < parts[i].rank; d++) parts[i].dim[d] = parts[i].dim[d + 1];
        parts[i].rank--;
    }
    return ckpt_import_define_sequence(im, node, parts, count);
}

ckpt_status import_sequenceat(ckpt_import *im, const Onnx__NodeProto *node) {
    const ckpt_view *parts;
    int64_t *position;
    int count, values;
    CKPT_TRY(ckpt_import_sequence(im, node, 0, &parts, &count));
    CKPT_TRY(ckpt_import_ints(im, node, 1, &position, &values));
    if (values != 1 || position[0] < -count || position[0] >= count)
        return ckpt_fail(im->err, CKPT_MODEL, "its position is none of a sequence of %d", count);
    return ckpt_import_define(im, node, 0, &parts[position[0] < 0 ? position[0] + count : position[0]]);
}

/* A list of a Slice: an attribute up to opset 9, an input since. *count -1 when absent. */
static ckpt_status slice_list(ckpt_import *im, const Onnx__NodeProto *node, const char *name, size_t input, const int64_t **list,
                              int *count) {
    int64_t *computed;
    CKPT_TRY(ckpt_import_attr_ints(im, node, name, list, count));
    if (*count >= 0 || !ckpt_import_has_input(node, input)) return CKPT_OK;
    CKPT_TRY(ckpt_import_ints(im, node, input, &computed, count));
    *list = computed;
    return CKPT_OK;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high) { return value < low ? low : value > high ? high : value; }

ckpt_status ckpt_import_slice_range(ckpt_import *im, int64_t size, int64_t start, int64_t end, int64_t step, int64_t *first,
                                    int64_t *count) {
    if (step == 0 || step == INT64_MIN) return ckpt_fail(im->err, CKPT_MODEL, "its step is %" PRId64, step);
    if (start < 0) start = start < -size ? -1 : start + size;
    if (end < 0) end = end < -size ? -1 : end + size;
    *first = step > 0 ? clamp(start, 0, size) : clamp(start, -1, size - 1);
    const int64_t last = step > 0 ? clamp(end, 0, size) : clamp(end, -1, size - 1);
    const int64_t way = step > 0 ? last - *first : *first - last, stride = step > 0 ? step : -step;
    *count = way > 0 ? (way - 1) / stride + 1 : 0;
    return CKPT_OK;
}

ckpt_status ckpt_import_slice(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *x, ckpt_slice_attr *slice) {
    const int64_t *starts, *ends, *axes, *steps;
    int count, end_count, axis_count, step_count, axis;
    CKPT_TRY(slice_list(im, node, "starts", 1, &starts, &count));
    CKPT_TRY(slice_list(im, node, "ends", 2, &ends, &end_count));
    CKPT_TRY(slice_list(im, node, "axes", 3, &axes, &axis_count));
    CKPT_TRY(slice_list(im, node, "steps", 4, &steps, &step_count));
    if (count < 0 || end_count != count || (axis_count >= 0 && axis_count != count) || (step_count >= 0 && step_count != count) ||
        count > x->rank)
        return ckpt_fail(im->err, CKPT_MODEL, "its starts, ends, axes and steps are not equally many");
    *slice = whole_of(x);
    for (int k = 0; k < count; k++) {
        CKPT_TRY(ckpt_import_axis(im, axis_count < 0 ? k : axes[k], x->rank, false, &axis));
        slice->step[axis] = step_count < 0 ? 1 : steps[k];
        CKPT_TRY(ckpt_import_slice_range(im, x->dim[axis], starts[k], ends[k], slice->step[axis], &slice->start[axis],
                                         &slice->part[axis]));
        if (slice->part[axis] <= 1) slice->step[axis] = 1; /* never taken, and perhaps too large for a stride */
    }
    return CKPT_OK;
}

static bool takes_all(const ckpt_slice_attr *s) {
    for (int i = 0; i < s->rank; i++)
        if (s->part[i] != s->whole[i] || s->step[i] != 1) return false;
    return true;
}

ckpt_status import_slice(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x, y;
    ckpt_slice_attr slice;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_slice(im, node, &x, &slice));
    if (takes_all(&slice)) return ckpt_import_alias(im, node, 0);
    CKPT_TRY(ckpt_build_slice(&im->model->graph, node->name, &slice, &x, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

/* pads: before each of the axes, then behind each. Negative ones cut off. */
static ckpt_status read_pads(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *x, int64_t *before, int64_t *after) {
    const int64_t *pads;
    int64_t *axes = NULL, *computed;
    int count, axis_count = x->rank, axis;
    CKPT_TRY(slice_list(im, node, "pads", 1, &pads, &count));
    if (count < 0) {
        const Onnx__AttributeProto *old = ckpt_import_attr(node, "paddings"); /* opset 1 */
        return ckpt_fail(im->err, CKPT_MODEL, "it has no pads%s",
                         old ? " but paddings; convert the model to opset 7 or later" : "");
    }
    if (ckpt_import_has_input(node, 3)) {
        CKPT_TRY(ckpt_import_ints(im, node, 3, &computed, &axis_count));
        axes = computed;
    }
    if (count != 2 * axis_count || axis_count > x->rank)
        return ckpt_fail(im->err, CKPT_MODEL, "its pads are %d for %d axes", count, axis_count);
    for (int i = 0; i < x->rank; i++) before[i] = after[i] = 0;
    for (int k = 0; k < axis_count; k++) {
        CKPT_TRY(ckpt_import_axis(im, axes ? axes[k] : k, x->rank, false, &axis));
        before[axis] = pads[k];
        after[axis] = pads[axis_count + k];
        const int64_t most = INT64_C(1) << 40;
        if (before[axis] > most || before[axis] < -most || after[axis] > most || after[axis] < -most)
            return ckpt_fail(im->err, CKPT_MODEL, "its padding along axis %d is out of range", axis);
    }
    return CKPT_OK;
}

static ckpt_status pad_value(ckpt_import *im, const Onnx__NodeProto *node, ckpt_slice_attr *place) {
    static const char *const fills[] = {"constant", "reflect", "edge", "wrap"};
    const char *mode;
    CKPT_TRY(ckpt_import_attr_string(im, node, "mode", "constant", &mode));
    int fill = 0;
    while (fill < 4 && strcmp(mode, fills[fill]) != 0) fill++;
    if (fill == 4) return ckpt_fail(im->err, CKPT_MODEL, "its attribute 'mode' is '%s'", mode);
    place->fill = (ckpt_fill)fill;
    if (ckpt_import_attr(node, "value")) return ckpt_import_attr_float(im, node, "value", 0, &place->value);
    return ckpt_import_has_input(node, 2) ? ckpt_import_scalar(im, node, 2, &place->value) : CKPT_OK;
}

ckpt_status import_pad(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x, y;
    int64_t before[CKPT_MAX_RANK], after[CKPT_MAX_RANK];
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(read_pads(im, node, &x, before, after));
    ckpt_slice_attr cut = whole_of(&x);
    for (int i = 0; i < x.rank; i++) {
        if (before[i] < 0) cut.start[i] = -before[i];
        cut.part[i] -= cut.start[i] - (after[i] < 0 ? after[i] : 0);
        if (cut.part[i] < 0) return ckpt_fail(im->err, CKPT_MODEL, "nothing is left of axis %d", i);
    }
    if (!takes_all(&cut)) {
        CKPT_TRY(ckpt_build_slice(&im->model->graph, NULL, &cut, &x, &y, im->err));
        x = y;
    }
    ckpt_slice_attr place = whole_of(&x);
    CKPT_TRY(pad_value(im, node, &place));
    for (int i = 0; i < x.rank; i++) {
        if (before[i] > 0) place.start[i] = before[i];
        place.whole[i] += place.start[i] + (after[i] > 0 ? after[i] : 0);
    }
    y = x;
    if (!takes_all(&place)) CKPT_TRY(ckpt_build_place(&im->model->graph, node->name, &place, &x, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}
