/* Shape arithmetic: nodes whose inputs are known before anything runs are computed here, once, in double. Exporters write
 * shapes as such nodes; with the dimensions bound, all of them are numbers.
 *
 * Folded are integers and booleans (exact up to 2^53; larger ones only pass through), single floats and what was itself
 * folded. A causal mask becomes a constant this way, instead of a tensor that every block of the network waits for.
 *
 * What may be a parameter has to stay a tensor that can be trained, whatever is computed from it. Where it holds one number
 * its value is known here as well, because sizes are computed from such numbers too: the node is both computed and left to
 * the graph, and whoever reads its output takes the number or the tensor. What is no float any more, such as a size, is only
 * a number.
 *
 * What this may cost is bounded: values of one operand and, over the whole file, values read and made. Beyond that, nodes
 * are left to the graph. */
#include <math.h>
#include <string.h>

#include "base/units.h"
#include "import/import.h"
#include "import/onnx_rules.h"

enum { MOST = 1 << 22, MOST_WORK = 1 << 26, MOST_INPUTS = 64 }; /* values of one operand; of the file; inputs of a node */

typedef struct folded {
    int type; /* ONNX type number */
    ckpt_view view;
    int64_t count;
    double *value;
} folded;

typedef struct fold {
    ckpt_import *im;
    const Onnx__NodeProto *node;
    ckpt_pool pool; /* the values, until the node is done */
    int count;
    folded in[MOST_INPUTS];
    folded out;
    bool too_large; /* is left to the graph */
    bool of_weight; /* computed from what may be a parameter */
    const Onnx__TensorProto *number; /* the output */
} fold;

enum {
    FLOAT = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT,
    DOUBLE = ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE,
    FLOAT16 = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16,
    BFLOAT16 = ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16,
    INT32 = ONNX__TENSOR_PROTO__DATA_TYPE__INT32,
    INT64 = ONNX__TENSOR_PROTO__DATA_TYPE__INT64,
    UINT8 = ONNX__TENSOR_PROTO__DATA_TYPE__UINT8,
    INT8 = ONNX__TENSOR_PROTO__DATA_TYPE__INT8,
    BOOL = ONNX__TENSOR_PROTO__DATA_TYPE__BOOL
};

static bool is_half(int type) { return type == FLOAT16 || type == BFLOAT16; }
static bool is_float(int type) { return type == FLOAT || type == DOUBLE || is_half(type); }
static bool is_integer(int type) { return type == INT32 || type == INT64 || type == UINT8 || type == INT8; }
static bool is_known_type(int type) { return is_float(type) || is_integer(type) || type == BOOL; }

/* In training 16-bit floats are FLOAT, numbers as well as tensors: nothing is rounded to 16 bits but what is saved. */
static int type_here(const fold *f, int type) { return is_half(type) && !f->im->options->as_written ? FLOAT : type; }

static ckpt_status no_memory(fold *f) { return ckpt_fail(f->im->err, CKPT_NOMEM, "out of host memory"); }

/* Counts the elements; false where they are more than MOST, or would be if dimensions of 0 were 1: strides are products of
 * the others. */
static bool is_small(int rank, const int64_t *dims, uint64_t *count) {
    uint64_t product = 1;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        empty |= dims[i] == 0;
        if (dims[i] < 0 || (dims[i] && !ckpt_mul_u64(product, (uint64_t)dims[i], &product)) || product > MOST) return false;
    }
    *count = empty ? 0 : product;
    return true;
}

/* Whether `count` more values may be read or made. */
static bool spend(fold *f, uint64_t count) {
    f->im->folded_values += count;
    return f->im->folded_values <= MOST_WORK;
}

/* Room for the output: type, view and count are set, values zero. */
static ckpt_status make_output(fold *f, int type, const ckpt_view *view) {
    uint64_t count = 0;
    f->out = (folded){.type = type, .view = *view};
    f->too_large = !is_small(view->rank, view->dim, &count) || !spend(f, count);
    if (f->too_large) return ckpt_fail(f->im->err, CKPT_MODEL, "shape arithmetic with more than %d values", MOST);
    f->out.count = (int64_t)count;
    f->out.value = ckpt_pool_array(&f->pool, count + 1, double);
    return f->out.value ? CKPT_OK : no_memory(f);
}

/* --- moving ----------------------------------------------------------------------------------------- */

static void dense_strides(const ckpt_view *view, int64_t *stride) {
    int64_t run = 1;
    for (int i = view->rank - 1; i >= 0; i--) stride[i] = run, run *= view->dim[i];
}

/* Strides of x as seen from a broadcast result. */
static void broadcast_strides(const ckpt_view *x, const ckpt_view *result, int64_t *stride) {
    int64_t own[CKPT_MAX_RANK];
    dense_strides(x, own);
    for (int i = 0; i < result->rank; i++) {
        const int axis = i - (result->rank - x->rank);
        stride[i] = axis < 0 || x->dim[axis] == 1 ? 0 : own[axis];
    }
}

/* The offset of element `index` of `view` under other strides. */
static int64_t offset_of(const ckpt_view *view, int64_t index, const int64_t *stride) {
    int64_t offset = 0;
    for (int i = view->rank - 1; i >= 0; i--) {
        offset += index % view->dim[i] * stride[i];
        index /= view->dim[i];
    }
    return offset;
}

static void copy_strided(const folded *x, int64_t base, const int64_t *stride, folded *y) {
    for (int64_t i = 0; i < y->count; i++) y->value[i] = x->value[base + offset_of(&y->view, i, stride)];
}

static ckpt_status fold_view(fold *f, const ckpt_view *view) {
    CKPT_TRY(make_output(f, f->in[0].type, view));
    if (f->out.count != f->in[0].count) return ckpt_fail(f->im->err, CKPT_MODEL, "its shape does not hold its input's values");
    memcpy(f->out.value, f->in[0].value, sizeof *f->out.value * (size_t)f->out.count);
    return CKPT_OK;
}

static ckpt_status fold_reshape(fold *f) {
    ckpt_view y;
    CKPT_TRY(ckpt_import_reshape(f->im, f->node, &f->in[0].view, &y));
    return fold_view(f, &y);
}

static ckpt_status fold_unsqueeze(fold *f) {
    const ckpt_view *x = &f->in[0].view;
    ckpt_view y = {.rank = x->rank};
    const int64_t *axes;
    int count, axis;
    uint32_t fresh = 0;
    CKPT_TRY(ckpt_import_axes(f->im, f->node, &axes, &count));
    if (count < 0 || x->rank + count > CKPT_MAX_RANK) return ckpt_fail(f->im->err, CKPT_MODEL, "it has no axes or too many");
    y.rank += count;
    for (int i = 0; i < count; i++) {
        CKPT_TRY(ckpt_import_axis(f->im, axes[i], y.rank, false, &axis));
        if (fresh >> axis & 1) return ckpt_fail(f->im->err, CKPT_MODEL, "axis %d appears twice", axis);
        fresh |= 1u << axis;
    }
    for (int i = 0, from = 0; i < y.rank; i++) y.dim[i] = fresh >> i & 1 ? 1 : x->dim[from++];
    return fold_view(f, &y);
}

static ckpt_status fold_squeeze(fold *f) {
    const ckpt_view *x = &f->in[0].view;
    ckpt_view y = {0};
    const int64_t *axes;
    int count, axis;
    uint32_t drop = 0;
    CKPT_TRY(ckpt_import_axes(f->im, f->node, &axes, &count));
    for (int i = 0; i < count; i++) {
        CKPT_TRY(ckpt_import_axis(f->im, axes[i], x->rank, false, &axis));
        drop |= 1u << axis;
    }
    for (int i = 0; i < x->rank; i++)
        if (!(count < 0 ? x->dim[i] == 1 : drop >> i & 1)) y.dim[y.rank++] = x->dim[i];
    return fold_view(f, &y); /* which refuses axes that are not 1 */
}

static ckpt_status fold_transpose(fold *f) {
    const ckpt_view *x = &f->in[0].view;
    ckpt_view y = *x;
    const int64_t *perm;
    int count;
    int64_t own[CKPT_MAX_RANK], stride[CKPT_MAX_RANK];
    uint32_t seen = 0;
    CKPT_TRY(ckpt_import_attr_ints(f->im, f->node, "perm", &perm, &count));
    if (count >= 0 && count != x->rank) return ckpt_fail(f->im->err, CKPT_MODEL, "its perm is no permutation");
    dense_strides(x, own);
    for (int i = 0; i < x->rank; i++) {
        const int64_t from = count < 0 ? x->rank - 1 - i : perm[i];
        if (from < 0 || from >= x->rank || seen >> from & 1) return ckpt_fail(f->im->err, CKPT_MODEL, "its perm is no permutation");
        seen |= 1u << from;
        y.dim[i] = x->dim[from];
        stride[i] = own[from];
    }
    CKPT_TRY(make_output(f, f->in[0].type, &y));
    copy_strided(&f->in[0], 0, stride, &f->out);
    return CKPT_OK;
}

static ckpt_status fold_expand(fold *f) {
    ckpt_view shape = {0}, y;
    ckpt_binary_attr geometry;
    int64_t *given, stride[CKPT_MAX_RANK];
    CKPT_TRY(ckpt_import_ints(f->im, f->node, 1, &given, &shape.rank));
    if (shape.rank > CKPT_MAX_RANK) return ckpt_fail(f->im->err, CKPT_MODEL, "its shape has %d dimensions", shape.rank);
    for (int i = 0; i < shape.rank; i++) shape.dim[i] = given[i];
    CKPT_TRY(ckpt_broadcast(&f->in[0].view, &shape, &geometry, &y, f->im->err));
    CKPT_TRY(make_output(f, f->in[0].type, &y));
    broadcast_strides(&f->in[0].view, &y, stride);
    copy_strided(&f->in[0], 0, stride, &f->out);
    return CKPT_OK;
}

static ckpt_status fold_slice(fold *f) {
    ckpt_slice_attr slice;
    ckpt_view y = f->in[0].view;
    int64_t own[CKPT_MAX_RANK], stride[CKPT_MAX_RANK], base = 0;
    CKPT_TRY(ckpt_import_slice(f->im, f->node, &f->in[0].view, &slice));
    dense_strides(&f->in[0].view, own);
    for (int i = 0; i < y.rank; i++) {
        y.dim[i] = slice.part[i];
        stride[i] = own[i] * slice.step[i];
        base += own[i] * slice.start[i];
    }
    CKPT_TRY(make_output(f, f->in[0].type, &y));
    copy_strided(&f->in[0], base, stride, &f->out);
    return CKPT_OK;
}

static ckpt_status fold_gather(fold *f) {
    const folded *data = &f->in[0], *indices = &f->in[1];
    ckpt_view y = {0};
    int64_t attr, inner = 1;
    int axis;
    if (f->count != 2) return ckpt_fail(f->im->err, CKPT_MODEL, "it has %d inputs", f->count);
    CKPT_TRY(ckpt_import_attr_int(f->im, f->node, "axis", 0, &attr));
    CKPT_TRY(ckpt_import_axis(f->im, attr, data->view.rank, false, &axis));
    if (data->view.rank + indices->view.rank - 1 > CKPT_MAX_RANK)
        return ckpt_fail(f->im->err, CKPT_MODEL, "more than 8 dimensions");
    for (int i = 0; i < axis; i++) y.dim[y.rank++] = data->view.dim[i];
    for (int i = 0; i < indices->view.rank; i++) y.dim[y.rank++] = indices->view.dim[i];
    for (int i = axis + 1; i < data->view.rank; i++) inner *= y.dim[y.rank++] = data->view.dim[i];
    CKPT_TRY(make_output(f, data->type, &y));
    const double size = (double)data->view.dim[axis];
    for (int64_t i = 0; i < f->out.count; i++) {
        const int64_t outer = i / inner / (indices->count ? indices->count : 1);
        double pick = indices->value[i / inner % indices->count];
        if (pick < 0) pick += size;
        if (!(pick >= 0 && pick < size))
            return ckpt_fail(f->im->err, CKPT_MODEL, "its index %g lies outside %g values", pick, size);
        f->out.value[i] = data->value[(outer * data->view.dim[axis] + (int64_t)pick) * inner + i % inner];
    }
    return CKPT_OK;
}

static ckpt_status fold_concat(fold *f) {
    ckpt_view y = f->in[0].view;
    int64_t attr, outer = 1, inner = 1, start = 0;
    int axis;
    CKPT_TRY(ckpt_import_attr_int(f->im, f->node, "axis", 1, &attr));
    CKPT_TRY(ckpt_import_axis(f->im, attr, y.rank, false, &axis));
    for (int i = 0; i < y.rank; i++)
        if (i != axis) *(i < axis ? &outer : &inner) *= y.dim[i];
    for (int k = 1; k < f->count; k++) {
        if (f->in[k].view.rank != y.rank || f->in[k].count != outer * inner * f->in[k].view.dim[axis])
            return ckpt_fail(f->im->err, CKPT_MODEL, "its inputs 0 and %d differ along another axis than %d", k, axis);
        y.dim[axis] += f->in[k].view.dim[axis];
    }
    CKPT_TRY(make_output(f, f->in[0].type, &y));
    for (int k = 0; k < f->count; k++) {
        const int64_t share = f->in[k].view.dim[axis] * inner;
        for (int64_t o = 0; o < outer; o++)
            memcpy(f->out.value + o * y.dim[axis] * inner + start, f->in[k].value + o * share, sizeof(double) * (size_t)share);
        start += share;
    }
    return CKPT_OK;
}

/* --- computing -------------------------------------------------------------------------------------- */

static double trunc_div(double a, double b) { return trunc(a / b); }
static double floor_mod(double a, double b) { return a - b * floor(a / b); }
static double add(double a, double b) { return a + b; }
static double subtract(double a, double b) { return a - b; }
static double multiply(double a, double b) { return a * b; }
static double divide(double a, double b) { return a / b; }
static double equal(double a, double b) { return a == b; }
static double less(double a, double b) { return a < b; }
static double less_equal(double a, double b) { return a <= b; }
static double greater(double a, double b) { return a > b; }
static double greater_equal(double a, double b) { return a >= b; }
static double both(double a, double b) { return a != 0 && b != 0; }
static double either(double a, double b) { return a != 0 || b != 0; }
static double negate(double a) { return -a; }
static double invert(double a) { return a == 0; }
static double reciprocal(double a) { return 1 / a; }

/* type 0: the operands'. */
static ckpt_status fold_binary(fold *f, double (*function)(double, double), int type) {
    ckpt_binary_attr geometry;
    ckpt_view y;
    int64_t stride[2][CKPT_MAX_RANK];
    if (f->count != 2) return ckpt_fail(f->im->err, CKPT_MODEL, "it has %d inputs", f->count);
    CKPT_TRY(ckpt_broadcast(&f->in[0].view, &f->in[1].view, &geometry, &y, f->im->err));
    CKPT_TRY(make_output(f, type ? type : f->in[0].type, &y));
    for (int k = 0; k < 2; k++) broadcast_strides(&f->in[k].view, &y, stride[k]);
    for (int64_t i = 0; i < f->out.count; i++) {
        const double a = f->in[0].value[offset_of(&y, i, stride[0])], b = f->in[1].value[offset_of(&y, i, stride[1])];
        if (b == 0 && !is_float(f->in[0].type) && (function == trunc_div || function == floor_mod))
            return ckpt_fail(f->im->err, CKPT_MODEL, "it divides by 0");
        f->out.value[i] = function(a, b);
    }
    return CKPT_OK;
}

static ckpt_status fold_unary(fold *f, double (*function)(double), int type) {
    CKPT_TRY(make_output(f, type ? type : f->in[0].type, &f->in[0].view));
    for (int64_t i = 0; i < f->out.count; i++) f->out.value[i] = function(f->in[0].value[i]);
    return CKPT_OK;
}

#define BINARY(name, function, type) static ckpt_status fold_##name(fold *f) { return fold_binary(f, function, type); }
#define UNARY(name, function, type) static ckpt_status fold_##name(fold *f) { return fold_unary(f, function, type); }
BINARY(add, add, 0)
BINARY(sub, subtract, 0)
BINARY(mul, multiply, 0)
BINARY(div, is_float(f->in[0].type) ? divide : trunc_div, 0)
BINARY(mod, floor_mod, 0)
BINARY(pow, pow, 0)
BINARY(max, fmax, 0)
BINARY(min, fmin, 0)
BINARY(equal, equal, BOOL)
BINARY(less, less, BOOL)
BINARY(less_equal, less_equal, BOOL)
BINARY(greater, greater, BOOL)
BINARY(greater_equal, greater_equal, BOOL)
BINARY(and, both, BOOL)
BINARY(or, either, BOOL)
UNARY(neg, negate, 0)
UNARY(abs, fabs, 0)
UNARY(sqrt, sqrt, 0)
UNARY(exp, exp, 0)
UNARY(log, log, 0)
UNARY(sin, sin, 0)
UNARY(cos, cos, 0)
UNARY(reciprocal, reciprocal, 0)
UNARY(floor, floor, 0)
UNARY(ceil, ceil, 0)
UNARY(not, invert, BOOL)

static double as_bool(double a) { return a != 0; }
static double same(double a) { return a; }

static ckpt_status cast_to(fold *f, int64_t to) {
    if (to < 0 || to > 1000 || !is_known_type((int)to))
        return ckpt_fail(f->im->err, CKPT_MODEL, "casts of shapes to type %s are not supported", ckpt_onnx_type_name((int)to));
    return fold_unary(f, to == BOOL ? as_bool : is_float((int)to) ? same : trunc, type_here(f, (int)to));
}

static ckpt_status fold_cast(fold *f) {
    int64_t to;
    CKPT_TRY(ckpt_import_attr_int(f->im, f->node, "to", -1, &to));
    return cast_to(f, to);
}

static ckpt_status fold_castlike(fold *f) {
    int64_t to;
    CKPT_TRY(ckpt_import_type_of_input(f->im, f->node, 1, &to));
    return cast_to(f, to);
}

static ckpt_status fold_where(fold *f) {
    ckpt_binary_attr geometry;
    ckpt_view values, y;
    int64_t stride[3][CKPT_MAX_RANK];
    if (f->count != 3) return ckpt_fail(f->im->err, CKPT_MODEL, "it has %d inputs", f->count);
    CKPT_TRY(ckpt_broadcast(&f->in[1].view, &f->in[2].view, &geometry, &values, f->im->err));
    CKPT_TRY(ckpt_broadcast(&f->in[0].view, &values, &geometry, &y, f->im->err));
    CKPT_TRY(make_output(f, f->in[1].type, &y));
    for (int k = 0; k < 3; k++) broadcast_strides(&f->in[k].view, &y, stride[k]);
    for (int64_t i = 0; i < f->out.count; i++) {
        const int k = f->in[0].value[offset_of(&y, i, stride[0])] != 0 ? 1 : 2;
        f->out.value[i] = f->in[k].value[offset_of(&y, i, stride[k])];
    }
    return CKPT_OK;
}

static ckpt_status fold_range(fold *f) {
    if (f->count != 3 || f->in[0].count != 1 || f->in[1].count != 1 || f->in[2].count != 1 || f->in[2].value[0] == 0)
        return ckpt_fail(f->im->err, CKPT_MODEL, "its bounds are not three numbers with a step");
    const double start = f->in[0].value[0], step = f->in[2].value[0];
    const double count = ceil((f->in[1].value[0] - start) / step);
    const ckpt_view y = {.rank = 1, .dim = {count > 0 ? count < 1e9 ? (int64_t)count : 1000000000 : 0}};
    CKPT_TRY(make_output(f, f->in[0].type, &y));
    for (int64_t i = 0; i < f->out.count; i++) f->out.value[i] = start + (double)i * step;
    return CKPT_OK;
}

/* Over all axes, or over the only one. */
static ckpt_status fold_reduce(fold *f, double (*function)(double, double), double start) {
    int64_t keep;
    const int64_t *axes;
    int count;
    CKPT_TRY(ckpt_import_attr_int(f->im, f->node, "keepdims", 1, &keep));
    CKPT_TRY(ckpt_import_axes(f->im, f->node, &axes, &count));
    if (f->in[0].view.rank > 1 && count >= 0 && count != f->in[0].view.rank)
        return ckpt_fail(f->im->err, CKPT_MODEL, "shape arithmetic over some of several axes is not supported");
    ckpt_view y = {.rank = keep ? f->in[0].view.rank : 0};
    for (int i = 0; i < y.rank; i++) y.dim[i] = 1;
    CKPT_TRY(make_output(f, f->in[0].type, &y));
    f->out.value[0] = start;
    for (int64_t i = 0; i < f->in[0].count; i++) f->out.value[0] = function(f->out.value[0], f->in[0].value[i]);
    return CKPT_OK;
}
static ckpt_status fold_reduce_prod(fold *f) { return fold_reduce(f, multiply, 1); }
static ckpt_status fold_reduce_sum(fold *f) { return fold_reduce(f, add, 0); }
static ckpt_status fold_reduce_max(fold *f) { return fold_reduce(f, fmax, -INFINITY); }
static ckpt_status fold_reduce_min(fold *f) { return fold_reduce(f, fmin, INFINITY); }

/* --- in and out ------------------------------------------------------------------------------------- */

static const struct {
    const char *op_type;
    ckpt_status (*function)(fold *f);
} table[] = {
    {"Abs", fold_abs}, {"Add", fold_add}, {"And", fold_and}, {"Cast", fold_cast}, {"CastLike", fold_castlike}, {"Ceil", fold_ceil},
    {"Concat", fold_concat}, {"Cos", fold_cos}, {"Div", fold_div}, {"Equal", fold_equal}, {"Exp", fold_exp}, {"Expand", fold_expand},
    {"Floor", fold_floor}, {"Gather", fold_gather}, {"Greater", fold_greater},
    {"GreaterOrEqual", fold_greater_equal}, {"Less", fold_less}, {"LessOrEqual", fold_less_equal}, {"Log", fold_log},
    {"Max", fold_max}, {"Min", fold_min}, {"Mod", fold_mod}, {"Mul", fold_mul}, {"Neg", fold_neg},
    {"Not", fold_not}, {"Or", fold_or}, {"Pow", fold_pow}, {"Range", fold_range}, {"Reciprocal", fold_reciprocal},
    {"ReduceMax", fold_reduce_max}, {"ReduceMin", fold_reduce_min}, {"ReduceProd", fold_reduce_prod},
    {"ReduceSum", fold_reduce_sum}, {"Reshape", fold_reshape}, {"Sin", fold_sin}, {"Slice", fold_slice}, {"Sqrt", fold_sqrt},
    {"Squeeze", fold_squeeze}, {"Sub", fold_sub}, {"Transpose", fold_transpose},
    {"Unsqueeze", fold_unsqueeze}, {"Where", fold_where},
};

static ckpt_status read_values(fold *f, const Onnx__TensorProto *proto, folded *x) {
    const ckpt_onnx_file *file = f->im->model->file;
    const size_t count = (size_t)x->count;
    x->value = ckpt_pool_array(&f->pool, count + 1, double);
    if (!x->value) return no_memory(f);
    if (x->type == DOUBLE) return ckpt_onnx_tensor_read(file, proto, x->value, count * sizeof *x->value, f->im->err);
    if (is_float(x->type)) {
        float *number = ckpt_pool_array(&f->pool, count + 1, float);
        if (!number) return no_memory(f);
        CKPT_TRY(ckpt_onnx_tensor_read_f32(file, proto, number, count, f->im->err));
        for (size_t k = 0; k < count; k++) x->value[k] = (double)number[k];
        return CKPT_OK;
    }
    int64_t *whole = ckpt_pool_array(&f->pool, count + 1, int64_t);
    if (!whole) return no_memory(f);
    CKPT_TRY(ckpt_onnx_tensor_read_i64(file, proto, whole, count, f->im->err));
    for (size_t k = 0; k < count; k++) x->value[k] = (double)whole[k];
    return CKPT_OK;
}

/* Whether the input can be folded, and then its values. */
static ckpt_status read_operand(fold *f, size_t i, bool *known) {
    const ckpt_value *value = ckpt_import_value(f->im, f->node, i);
    ckpt_onnx_tensor_info info;
    folded *x = &f->in[f->count];
    *known = false;
    if (!value || !value->proto) return CKPT_OK;
    const ckpt_onnx_file *file = f->im->model->file;
    CKPT_TRY(ckpt_onnx_tensor_describe(file, value->proto, &info, f->im->err));
    uint64_t size;
    if (!is_known_type((int)info.type) || info.rank > CKPT_MAX_RANK || info.external ||
        !is_small((int)info.rank, info.dims, &size))
        return CKPT_OK;
    ckpt_trainable trained;
    CKPT_TRY(ckpt_import_trainable(f->im, f->node, i, &trained));
    const bool array = is_float((int)info.type) && !value->is_folded && info.count != 1;
    if (array && (value->use != CKPT_USE_CLASS_WEIGHTS || trained != CKPT_NEVER_TRAINED)) return CKPT_OK;
    if (!spend(f, info.count)) return CKPT_OK;
    *x = (folded){
        .type = type_here(f, (int)info.type), .view = {.tensor = -1, .rank = (int)info.rank}, .count = (int64_t)info.count};
    for (int d = 0; d < x->view.rank; d++) x->view.dim[d] = info.dims[d];
    CKPT_TRY(read_values(f, value->proto, x));
    f->of_weight |= trained != CKPT_NEVER_TRAINED;
    *known = true;
    f->count++;
    return CKPT_OK;
}

static int64_t to_integer(double value) {
    if (value >= 0x1p63) return INT64_MAX;
    if (value < -0x1p63) return INT64_MIN;
    return value == value ? (int64_t)value : 0;
}

/* The output as a TensorProto that lives as long as the graph, which may keep it as a constant's source. */
static ckpt_status write_output(fold *f) {
    ckpt_pool *pool = &f->im->model->graph.pool;
    const size_t count = (size_t)f->out.count;
    Onnx__TensorProto *t = ckpt_pool_array(pool, 1, Onnx__TensorProto);
    int64_t *dims = ckpt_pool_array(pool, CKPT_MAX_RANK, int64_t);
    void *data = ckpt_pool_alloc(pool, count + 1, f->out.type == DOUBLE || f->out.type == INT64 ? 8 : 4);
    if (!t || !dims || !data) return no_memory(f);
    onnx__tensor_proto__init(t);
    t->has_data_type = 1;
    t->data_type = f->out.type;
    t->n_dims = (size_t)f->out.view.rank;
    t->dims = dims;
    for (int i = 0; i < f->out.view.rank; i++) dims[i] = f->out.view.dim[i];
    for (size_t i = 0; i < count; i++) {
        const double value = f->out.value[i];
        if (f->out.type == FLOAT) ((float *)data)[i] = (float)value;
        else if (is_half(f->out.type)) ((int32_t *)data)[i] = ckpt_onnx_half_bits(f->out.type, value);
        else if (f->out.type == DOUBLE) ((double *)data)[i] = value;
        else if (f->out.type == INT64) ((int64_t *)data)[i] = to_integer(value);
        else if (f->out.type == UINT8) ((int32_t *)data)[i] = (uint8_t)to_integer(value);
        else if (f->out.type == INT8) ((int32_t *)data)[i] = (int8_t)to_integer(value);
        else ((int32_t *)data)[i] = (int32_t)to_integer(value);
    }
    if (f->out.type == FLOAT) t->n_float_data = count, t->float_data = data;
    else if (f->out.type == DOUBLE) t->n_double_data = count, t->double_data = data;
    else if (f->out.type == INT64) t->n_int64_data = count, t->int64_data = data;
    else t->n_int32_data = count, t->int32_data = data;
    f->number = t;
    return CKPT_OK;
}

/* Computes the node, unless one of its inputs is known only when it runs. */
static ckpt_status try_row(fold *f, size_t row) {
    const size_t reads = table[row].function == fold_castlike ? 1 : f->node->n_input; /* of `like` only the type is read */
    for (size_t i = 0; i < reads; i++) {
        bool known;
        if (!ckpt_import_has_input(f->node, i)) continue;
        CKPT_TRY(read_operand(f, i, &known));
        if (!known) return CKPT_OK;
    }
    if (!f->count) return CKPT_OK;
    const ckpt_status status = table[row].function(f);
    if (f->too_large) return CKPT_OK;
    CKPT_TRY(status);
    return write_output(f);
}

/* A weight that ends up in a number is a tensor of the file all the same, which --freeze can name and the tables list. */
static ckpt_status keep_weights(ckpt_import *im, const Onnx__NodeProto *node) {
    for (size_t i = 0; i < node->n_input; i++) {
        const ckpt_value *value = ckpt_import_value(im, node, i);
        ckpt_view view;
        if (!value || !value->proto || value->is_folded || value->is_constant_node || !is_float(value->proto->data_type)) continue;
        CKPT_TRY(ckpt_import_input(im, node, i, &view));
    }
    return CKPT_OK;
}

ckpt_status ckpt_import_fold(ckpt_import *im, const Onnx__NodeProto *node, ckpt_number *number) {
    fold f = {.im = im, .node = node};
    size_t row = 0;
    *number = (ckpt_number){0};
    while (row < sizeof table / sizeof *table && strcmp(table[row].op_type, node->op_type) != 0) row++;
    if (row == sizeof table / sizeof *table || node->n_input < 1 || node->n_input > MOST_INPUTS) return CKPT_OK;
    const ckpt_status status = try_row(&f, row);
    *number = (ckpt_number){f.number, f.of_weight && is_float(f.out.type)};
    ckpt_pool_free(&f.pool);
    return status == CKPT_OK && number->proto && !im->options->as_written ? keep_weights(im, node) : status;
}

/* --- operators that are nothing else ------------------------------------------------------------------- */

static ckpt_status finish(fold *f, ckpt_status status) {
    if (status == CKPT_OK) status = write_output(f);
    ckpt_pool_free(&f->pool);
    return status == CKPT_OK ? ckpt_import_folded(f->im, f->node, f->number) : status;
}

/* The dims of any tensor are known. From opset 15 on a part of them. */
ckpt_status import_shape(ckpt_import *im, const Onnx__NodeProto *node) {
    fold f = {.im = im, .node = node};
    ckpt_view x;
    int64_t start, end, first, count;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_attr_int(im, node, "start", 0, &start));
    CKPT_TRY(ckpt_import_attr_int(im, node, "end", x.rank, &end));
    CKPT_TRY(ckpt_import_slice_range(im, x.rank, start, end, 1, &first, &count));
    const ckpt_view y = {.rank = 1, .dim = {count}};
    ckpt_status status = make_output(&f, INT64, &y);
    for (int64_t i = 0; status == CKPT_OK && i < count; i++) f.out.value[i] = (double)x.dim[first + i];
    return finish(&f, status);
}

ckpt_status import_size(ckpt_import *im, const Onnx__NodeProto *node) {
    fold f = {.im = im, .node = node};
    ckpt_view x;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    const ckpt_view y = {0};
    const ckpt_status status = make_output(&f, INT64, &y);
    if (status == CKPT_OK) f.out.value[0] = (double)ckpt_view_count(&x);
    return finish(&f, status);
}

/* Shapes made of it are folded; a tensor of floats stays one, with one value for all: it may be a weight. */
ckpt_status import_constantofshape(ckpt_import *im, const Onnx__NodeProto *node) {
    static const float zero[1];
    const Onnx__AttributeProto *attr = ckpt_import_attr(node, "value");
    const Onnx__TensorProto *value = attr ? attr->t : NULL;
    fold f = {.im = im, .node = node};
    ckpt_view y = {0};
    int64_t *dims, whole;
    uint64_t total = 1;
    CKPT_TRY(ckpt_import_ints(im, node, 0, &dims, &y.rank));
    if (y.rank > CKPT_MAX_RANK)
        return ckpt_fail(im->err, CKPT_MODEL, "its shape has %d dimensions; at most 8 are supported", y.rank);
    for (int i = 0; i < y.rank; i++) {
        y.dim[i] = dims[i];
        if (dims[i] < 0 || !ckpt_mul_u64(total, (uint64_t)dims[i], &total))
            return ckpt_fail(im->err, CKPT_MODEL, "its shape is negative or larger than any memory");
    }
    if (!value) {
        Onnx__TensorProto *made = ckpt_pool_array(&im->model->graph.pool, 1, Onnx__TensorProto);
        if (!made) return no_memory(&f);
        onnx__tensor_proto__init(made);
        made->has_data_type = 1;
        made->data_type = FLOAT;
        made->n_float_data = 1;
        made->float_data = (float *)zero;
        value = made;
    }
    ckpt_onnx_tensor_info info;
    CKPT_TRY(ckpt_onnx_tensor_describe(im->model->file, value, &info, im->err));
    if (info.count != 1) return ckpt_fail(im->err, CKPT_MODEL, "its attribute 'value' is not one number");
    if (is_float((int)info.type) || !is_known_type((int)info.type) || total > MOST)
        return ckpt_import_uniform(im, node, y.rank, y.dim, value);
    CKPT_TRY(ckpt_onnx_tensor_read_i64(im->model->file, value, &whole, 1, im->err));
    const ckpt_status status = make_output(&f, (int)info.type, &y);
    for (int64_t i = 0; status == CKPT_OK && i < f.out.count; i++) f.out.value[i] = (double)whole;
    return finish(&f, status);
}

ckpt_status import_folded_only(ckpt_import *im, const Onnx__NodeProto *node) {
    (void)node;
    return ckpt_fail(im->err, CKPT_MODEL, "its inputs are computed from data; it is supported only on shapes and constants");
}
