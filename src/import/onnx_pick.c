/* Operators that choose, compare, repeat and resize. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/units.h"
#include "import/import.h"
#include "import/onnx_rules.h"

/* A table that is picked from is an embedding, trained like any weight. */
ckpt_status import_gather(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view data, indices, y;
    int64_t attr;
    int axis;
    CKPT_TRY(ckpt_import_input(im, node, 0, &data));
    CKPT_TRY(ckpt_import_input(im, node, 1, &indices));
    CKPT_TRY(ckpt_import_attr_int(im, node, "axis", 0, &attr));
    CKPT_TRY(ckpt_import_axis(im, attr, data.rank, false, &axis));
    CKPT_TRY(ckpt_build_gather(&im->model->graph, node->name, &data, &indices, axis, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_where(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view operand[3], y;
    for (size_t i = 0; i < 3; i++) CKPT_TRY(ckpt_import_input(im, node, i, &operand[i]));
    CKPT_TRY(ckpt_build_select(&im->model->graph, node->name, operand, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

static ckpt_status compare(ckpt_import *im, const Onnx__NodeProto *node, ckpt_compare kind) {
    ckpt_view a, b, c;
    CKPT_TRY(ckpt_import_input(im, node, 0, &a));
    b = a;
    if (kind != CKPT_COMPARE_NOT) CKPT_TRY(ckpt_import_input(im, node, 1, &b));
    CKPT_TRY(ckpt_build_compare(&im->model->graph, node->name, kind, &a, &b, &c, im->err));
    return ckpt_import_define(im, node, 0, &c);
}

#define COMPARISON(name, KIND)                                                                               \
    ckpt_status import_##name(ckpt_import *im, const Onnx__NodeProto *node) {                                \
        return compare(im, node, CKPT_COMPARE_##KIND);                                                       \
    }
COMPARISON(equal, EQUAL)
COMPARISON(less, LESS)
COMPARISON(lessorequal, LESS_EQUAL)
COMPARISON(greater, GREATER)
COMPARISON(greaterorequal, GREATER_EQUAL)
COMPARISON(and, AND)
COMPARISON(or, OR)
COMPARISON(xor, XOR)
COMPARISON(not, NOT)
#undef COMPARISON

/* Max and Min of several, pair by pair. */
static ckpt_status extreme(ckpt_import *im, const Onnx__NodeProto *node, ckpt_pair kind) {
    ckpt_view y, next;
    CKPT_TRY(ckpt_import_input(im, node, 0, &y));
    if (node->n_input == 1) return ckpt_import_alias(im, node, 0);
    for (size_t i = 1; i < node->n_input; i++) {
        const ckpt_view before = y;
        CKPT_TRY(ckpt_import_input(im, node, i, &next));
        CKPT_TRY(ckpt_build_pair(&im->model->graph, i + 1 == node->n_input ? node->name : NULL, kind, &before, &next, &y, im->err));
    }
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_max(ckpt_import *im, const Onnx__NodeProto *node) { return extreme(im, node, CKPT_PAIR_MAX); }
ckpt_status import_min(ckpt_import *im, const Onnx__NodeProto *node) { return extreme(im, node, CKPT_PAIR_MIN); }

ckpt_status import_expand(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x, y, shape = {.tensor = -1};
    ckpt_binary_attr geometry;
    int64_t *given;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_ints(im, node, 1, &given, &shape.rank));
    if (shape.rank > CKPT_MAX_RANK) return ckpt_fail(im->err, CKPT_MODEL, "its shape has %d dimensions", shape.rank);
    for (int i = 0; i < shape.rank; i++) shape.dim[i] = given[i];
    CKPT_TRY(ckpt_broadcast(&x, &shape, &geometry, &y, im->err));
    if (y.rank == x.rank && memcmp(y.dim, x.dim, sizeof *y.dim * (size_t)x.rank) == 0) return ckpt_import_alias(im, node, 0);
    CKPT_TRY(ckpt_build_expand(&im->model->graph, node->name, &x, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

/* Every axis of size d becomes 1 x d, is expanded to repeats x d, and seen as one again. */
ckpt_status import_tile(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x, y;
    int64_t *repeats;
    int count;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_ints(im, node, 1, &repeats, &count));
    if (count != x.rank) return ckpt_fail(im->err, CKPT_MODEL, "it has %d repeats for %d axes", count, x.rank);
    ckpt_view narrow = {.tensor = x.tensor}, wide = {.tensor = -1};
    for (int i = 0; i < x.rank; i++) {
        if (repeats[i] < 0 || (x.dim[i] && repeats[i] > (INT64_C(1) << 60) / x.dim[i]) || wide.rank + 2 > CKPT_MAX_RANK)
            return ckpt_fail(im->err, CKPT_MODEL, "its repeats are out of range");
        if (repeats[i] != 1) {
            narrow.dim[narrow.rank++] = 1;
            wide.dim[wide.rank++] = repeats[i];
        }
        narrow.dim[narrow.rank++] = wide.dim[wide.rank] = x.dim[i];
        wide.rank++;
    }
    if (wide.rank == x.rank) return ckpt_import_alias(im, node, 0);
    CKPT_TRY(ckpt_build_expand(&im->model->graph, node->name, &narrow, &wide, im->err));
    y = (ckpt_view){.tensor = wide.tensor, .rank = x.rank};
    for (int i = 0; i < x.rank; i++) y.dim[i] = x.dim[i] * repeats[i];
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_trilu(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x, y;
    int64_t upper, *diagonal;
    int count = 0;
    ckpt_attr attr = {.triangle = {.outer = 1}};
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_attr_int(im, node, "upper", 1, &upper));
    if (ckpt_import_has_input(node, 1)) CKPT_TRY(ckpt_import_ints(im, node, 1, &diagonal, &count));
    if (x.rank < 2) return ckpt_fail(im->err, CKPT_MODEL, "its input has %d dimensions", x.rank);
    for (int i = 0; i + 2 < x.rank; i++) attr.triangle.outer *= x.dim[i];
    attr.triangle.rows = x.dim[x.rank - 2];
    attr.triangle.cols = x.dim[x.rank - 1];
    attr.triangle.diagonal = count ? diagonal[0] : 0;
    attr.triangle.upper = upper != 0;
    y = x;
    CKPT_TRY(ckpt_build_node(&im->model->graph, node->name, CKPT_OP_TRIANGLE, &attr, 1, &x.tensor,
                             im->model->graph.tensor[x.tensor].dtype, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

/* --- Resize ----------------------------------------------------------------------------------------- */

static ckpt_status sizes_from_scales(ckpt_import *im, const ckpt_view *x, int count, const float *scale, const int *axis,
                                     ckpt_view *y) {
    for (int k = 0; k < count; k++) {
        const double size = floor((double)x->dim[axis[k]] * (double)scale[k]);
        if (!(scale[k] > 0) || !(size < 1e15))
            return ckpt_fail(im->err, CKPT_MODEL, "its scale %g is out of range", (double)scale[k]);
        y->dim[axis[k]] = (int64_t)size;
    }
    return CKPT_OK;
}

/* keep_aspect_ratio_policy: one scale for all axes, the least or the largest of those asked for. */
static ckpt_status sizes_as_given(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *x, int count,
                                  const int64_t *size, const int *axis, ckpt_view *y) {
    const char *policy;
    double scale = 0;
    CKPT_TRY(ckpt_import_attr_string(im, node, "keep_aspect_ratio_policy", "stretch", &policy));
    const bool smaller = strcmp(policy, "not_larger") == 0, larger = strcmp(policy, "not_smaller") == 0;
    for (int k = 0; k < count; k++) {
        if (size[k] < 0 || size[k] > INT64_C(1) << 40)
            return ckpt_fail(im->err, CKPT_MODEL, "it asks for a size of %" PRId64, size[k]);
        y->dim[axis[k]] = size[k];
        const double own = (double)size[k] / (double)(x->dim[axis[k]] ? x->dim[axis[k]] : 1);
        if (k == 0 || (smaller ? own < scale : own > scale)) scale = own;
    }
    if (scale > 0x1p40) return ckpt_fail(im->err, CKPT_MODEL, "its scale %g is out of range", scale);
    for (int k = 0; (smaller || larger) && k < count; k++) y->dim[axis[k]] = (int64_t)floor(scale * (double)x->dim[axis[k]] + 0.5);
    return CKPT_OK;
}

static ckpt_status resize_axes(ckpt_import *im, const Onnx__NodeProto *node, int rank, int *axis, int *count) {
    const int64_t *axes;
    CKPT_TRY(ckpt_import_attr_ints(im, node, "axes", &axes, count));
    for (int k = 0; k < *count; k++) CKPT_TRY(ckpt_import_axis(im, axes[k], rank, false, &axis[k]));
    for (int k = 0; *count < 0 && k < rank; k++) axis[k] = k;
    if (*count < 0) *count = rank;
    return CKPT_OK;
}

static ckpt_status resize(ckpt_import *im, const Onnx__NodeProto *node, size_t scales_input) {
    ckpt_view x, y;
    const char *mode;
    int axis[CKPT_MAX_RANK], axes, count;
    int64_t *sizes;
    float scales[CKPT_MAX_RANK];
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_attr_string(im, node, "mode", "nearest", &mode));
    CKPT_TRY(resize_axes(im, node, x.rank, axis, &axes));
    y = x;
    const bool by_size = ckpt_import_has_input(node, 3);
    if (by_size) CKPT_TRY(ckpt_import_ints(im, node, 3, &sizes, &count));
    else CKPT_TRY(ckpt_import_float_list(im, node, "scales", scales_input, CKPT_MAX_RANK, scales, &count));
    if (count != axes) return ckpt_fail(im->err, CKPT_MODEL, "it has %d sizes or scales for %d axes", count, axes);
    if (by_size) CKPT_TRY(sizes_as_given(im, node, &x, count, sizes, axis, &y));
    else CKPT_TRY(sizes_from_scales(im, &x, count, scales, axis, &y));
    const ckpt_resize kind = strcmp(mode, "nearest") == 0 ? CKPT_RESIZE_NEAREST
                             : strcmp(mode, "cubic") == 0 ? CKPT_RESIZE_CUBIC : CKPT_RESIZE_LINEAR;
    CKPT_TRY(ckpt_build_resize(&im->model->graph, node->name, kind, &x, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_resize(ckpt_import *im, const Onnx__NodeProto *node) { return resize(im, node, im->opset < 11 ? 1 : 2); }
ckpt_status import_upsample(ckpt_import *im, const Onnx__NodeProto *node) { return resize(im, node, 1); }

/* --- channels into space and back: views and a transpose -------------------------------------------- */

static ckpt_status shuffle(ckpt_import *im, const Onnx__NodeProto *node, bool to_space) {
    ckpt_view x, y;
    const char *mode;
    int64_t b;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_attr_int(im, node, "blocksize", 0, &b));
    CKPT_TRY(ckpt_import_attr_string(im, node, "mode", "DCR", &mode));
    if (x.rank != 4 || b < 1 || b > 1 << 20 || (to_space ? x.dim[1] % (b * b) : x.dim[2] % b || x.dim[3] % b))
        return ckpt_fail(im->err, CKPT_MODEL, "its blocksize %" PRId64 " does not divide its input", b);
    const int64_t n = x.dim[0], c = x.dim[1], h = x.dim[2], w = x.dim[3];
    const bool depth_first = to_space && strcmp(mode, "CRD") != 0;
    const int dcr[6] = {0, 3, 4, 1, 5, 2}, crd[6] = {0, 1, 4, 2, 5, 3}, back[6] = {0, 3, 5, 1, 2, 4};
    ckpt_view split = {.tensor = x.tensor, .rank = 6, .dim = {n, c, h / b, b, w / b, b}};
    if (to_space) split = (ckpt_view){.tensor = x.tensor, .rank = 6, .dim = {n, b, b, c / (b * b), h, w}};
    if (to_space && !depth_first) split.dim[1] = c / (b * b), split.dim[3] = b;
    CKPT_TRY(ckpt_build_transpose(&im->model->graph, node->name, &split, !to_space ? back : depth_first ? dcr : crd, &y, im->err));
    y.rank = 4;
    y.dim[0] = n;
    y.dim[1] = to_space ? c / (b * b) : c * b * b;
    y.dim[2] = to_space ? h * b : h / b;
    y.dim[3] = to_space ? w * b : w / b;
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_depthtospace(ckpt_import *im, const Onnx__NodeProto *node) { return shuffle(im, node, true); }
ckpt_status import_spacetodepth(ckpt_import *im, const Onnx__NodeProto *node) { return shuffle(im, node, false); }
