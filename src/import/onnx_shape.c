/* Operators that move or rename values: reshaping makes no node, the tensor is seen with another shape. */
#include <inttypes.h>
#include <string.h>

#include "base/units.h"
#include "import/import.h"
#include "import/onnx_rules.h"

ckpt_status import_identity(ckpt_import *im, const Onnx__NodeProto *node) { return ckpt_import_alias(im, node, 0); }

ckpt_status import_flatten(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x;
    int64_t attr;
    int axis;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_attr_int(im, node, "axis", 1, &attr));
    CKPT_TRY(ckpt_import_axis(im, attr, x.rank, true, &axis));
    ckpt_view y = {.tensor = x.tensor, .rank = 2, .dim = {1, 1}};
    for (int i = 0; i < x.rank; i++) y.dim[i >= axis] *= x.dim[i];
    return ckpt_import_define(im, node, 0, &y);
}

/* The dims that a Reshape asks for, with 0 and -1 filled in; `batch` instead of the batch that the file fixes, where
 * that is not 0. False when they do not hold x. */
static bool fill_shape(const ckpt_view *x, const int64_t *shape, bool allow_zero, int64_t fixed, int64_t batch, ckpt_view *y) {
    const int64_t total = ckpt_view_count(x);
    uint64_t known = 1; /* without the zeros, which excuse no overflow of the others */
    int inferred = -1;
    bool empty = false;
    for (int i = 0; i < y->rank; i++) {
        y->dim[i] = shape[i] == 0 && !allow_zero ? x->dim[i] : i == 0 && batch && shape[i] == fixed ? batch : shape[i];
        if (y->dim[i] == -1) inferred = i;
        else if (y->dim[i] == 0) empty = true;
        else if (!ckpt_mul_u64(known, (uint64_t)y->dim[i], &known) || known > (1ull << 62) / 8) return false;
    }
    if (inferred >= 0) y->dim[inferred] = empty ? 0 : total / (int64_t)known;
    return ckpt_view_count(y) == total;
}

ckpt_status ckpt_import_reshape(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *x, ckpt_view *y) {
    const int64_t *shape;
    int64_t *given, allow_zero;
    int rank, inferred = 0;
    uint64_t known = 1;
    CKPT_TRY(ckpt_import_attr_int(im, node, "allowzero", 0, &allow_zero));
    CKPT_TRY(ckpt_import_attr_ints(im, node, "shape", &shape, &rank));
    if (rank < 0) {
        CKPT_TRY(ckpt_import_ints(im, node, 1, &given, &rank));
        shape = given;
    }
    if (rank > CKPT_MAX_RANK) return ckpt_fail(im->err, CKPT_MODEL, "its shape has %d dimensions; at most 8 are supported", rank);
    for (int i = 0; i < rank; i++) {
        inferred += shape[i] == -1;
        if (shape[i] == 0 && !allow_zero && i >= x->rank)
            return ckpt_fail(im->err, CKPT_MODEL, "its shape copies dimension %d of an input that has %d", i, x->rank);
        if (shape[i] < -1 || inferred > 1)
            return ckpt_fail(im->err, CKPT_MODEL, "its shape has %s", shape[i] < -1 ? "a negative dimension" : "-1 twice");
        if (shape[i] > 0 && (!ckpt_mul_u64(known, (uint64_t)shape[i], &known) || known > (1ull << 62) / 8))
            return ckpt_fail(im->err, CKPT_MODEL, "its shape is larger than any memory");
    }
    *y = (ckpt_view){.tensor = x->tensor, .rank = rank};
    if (fill_shape(x, shape, allow_zero, 0, 0, y)) return CKPT_OK;
    /* Exporters write the batch that they saw into the file: another one goes in its place. */
    if (im->batch_fixed > 0 && fill_shape(x, shape, allow_zero, im->batch_fixed, im->model->graph.batch, y)) return CKPT_OK;
    return ckpt_fail(im->err, CKPT_MODEL,
                     "its shape does not hold the input's %" PRId64
                     " values; if the file fixes the batch size there, use that with --batch",
                     ckpt_view_count(x));
}

ckpt_status import_reshape(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x, y;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_reshape(im, node, &x, &y));
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_squeeze(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x;
    const int64_t *axes;
    int count, axis;
    uint32_t drop = 0;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_axes(im, node, &axes, &count));
    for (int i = 0; count < 0 && i < x.rank; i++) drop |= (uint32_t)(x.dim[i] == 1) << i;
    for (int i = 0; i < count; i++) {
        CKPT_TRY(ckpt_import_axis(im, axes[i], x.rank, false, &axis));
        if (x.dim[axis] != 1)
            return ckpt_fail(im->err, CKPT_MODEL, "axis %d has size %" PRId64 " and cannot be squeezed", axis, x.dim[axis]);
        drop |= 1u << axis;
    }
    ckpt_view y = {.tensor = x.tensor};
    for (int i = 0; i < x.rank; i++)
        if (!(drop >> i & 1)) y.dim[y.rank++] = x.dim[i];
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_unsqueeze(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x;
    const int64_t *axes;
    int count, axis;
    uint32_t fresh = 0;
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_axes(im, node, &axes, &count));
    if (count < 0) return ckpt_fail(im->err, CKPT_MODEL, "it has no axes");
    if (x.rank + count > CKPT_MAX_RANK) return ckpt_fail(im->err, CKPT_MODEL, "more than 8 dimensions");
    ckpt_view y = {.tensor = x.tensor, .rank = x.rank + count};
    for (int i = 0; i < count; i++) {
        CKPT_TRY(ckpt_import_axis(im, axes[i], y.rank, false, &axis));
        if (fresh >> axis & 1) return ckpt_fail(im->err, CKPT_MODEL, "axis %d appears twice", axis);
        fresh |= 1u << axis;
    }
    for (int i = 0, from = 0; i < y.rank; i++) y.dim[i] = fresh >> i & 1 ? 1 : x.dim[from++];
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_transpose(ckpt_import *im, const Onnx__NodeProto *node) {
    ckpt_view x, y;
    const int64_t *given;
    int count, perm[CKPT_MAX_RANK];
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    CKPT_TRY(ckpt_import_attr_ints(im, node, "perm", &given, &count));
    if (count >= 0 && count != x.rank)
        return ckpt_fail(im->err, CKPT_MODEL, "its perm has %d axes for an input of %d", count, x.rank);
    for (int i = 0; i < x.rank; i++) {
        const int64_t from = count < 0 ? x.rank - 1 - i : given[i];
        perm[i] = from < 0 || from >= x.rank ? -1 : (int)from;
    }
    CKPT_TRY(ckpt_build_transpose(&im->model->graph, node->name, &x, perm, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

static bool type_of_number(int64_t number, ckpt_dtype *type) {
    switch (number) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT: *type = CKPT_F32; return true;
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE: *type = CKPT_F64; return true;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT32: *type = CKPT_I32; return true;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64: *type = CKPT_I64; return true;
    case ONNX__TENSOR_PROTO__DATA_TYPE__BOOL: *type = CKPT_BOOL; return true;
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16: *type = CKPT_F16; return true;
    case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16: *type = CKPT_BF16; return true;
    default: return false;
    }
}

static bool is_float(ckpt_dtype type) {
    return type == CKPT_F32 || type == CKPT_F64 || type == CKPT_F16 || type == CKPT_BF16;
}

bool ckpt_import_type(const ckpt_import *im, int64_t number, ckpt_dtype *type) {
    if (!type_of_number(number, type)) return false;
    if (!im->options->as_written && is_float(*type)) *type = CKPT_F32; /* training has one float type */
    return true;
}

ckpt_status ckpt_import_type_of_input(ckpt_import *im, const Onnx__NodeProto *node, size_t i, int64_t *number) {
    const ckpt_value *value = ckpt_import_value(im, node, i);
    ckpt_view x;
    if (value && value->proto) {
        *number = value->proto->data_type;
        return CKPT_OK;
    }
    CKPT_TRY(ckpt_import_input(im, node, i, &x));
    ckpt_dtype type;
    for (*number = 1; !ckpt_import_type(im, *number, &type) || type != im->model->graph.tensor[x.tensor].dtype;) ++*number;
    return CKPT_OK;
}

static ckpt_status cast(ckpt_import *im, const Onnx__NodeProto *node, int64_t number) {
    ckpt_view x, y;
    ckpt_dtype to;
    if (!ckpt_import_type(im, number, &to))
        return ckpt_fail(im->err, CKPT_MODEL, "casts to type %s are not supported", ckpt_onnx_type_name((int)number));
    CKPT_TRY(ckpt_import_input(im, node, 0, &x));
    if (im->model->graph.tensor[x.tensor].dtype == to) return ckpt_import_alias(im, node, 0);
    CKPT_TRY(ckpt_build_cast(&im->model->graph, node->name, &x, to, &y, im->err));
    return ckpt_import_define(im, node, 0, &y);
}

ckpt_status import_cast(ckpt_import *im, const Onnx__NodeProto *node) {
    int64_t number;
    CKPT_TRY(ckpt_import_attr_int(im, node, "to", -1, &number));
    return cast(im, node, number);
}

ckpt_status import_castlike(ckpt_import *im, const Onnx__NodeProto *node) {
    int64_t number;
    CKPT_TRY(ckpt_import_type_of_input(im, node, 1, &number));
    return cast(im, node, number);
}

/* A TensorProto in the scratch pool for a value that the file gives as a plain attribute. */
static ckpt_status tensor_from_attribute(ckpt_import *im, const Onnx__AttributeProto *attr, Onnx__TensorProto **made) {
    Onnx__TensorProto *t = ckpt_pool_array(&im->model->graph.pool, 1, Onnx__TensorProto);
    int64_t *dim = ckpt_pool_array(&im->model->graph.pool, 1, int64_t);
    if (!t || !dim) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    onnx__tensor_proto__init(t);
    t->has_data_type = 1;
    t->dims = dim;
    const bool list = attr->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS ||
                      attr->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
    if (attr->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT ||
        attr->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS) {
        t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
        t->n_float_data = list ? attr->n_floats : 1;
        t->float_data = list ? attr->floats : (float *)&attr->f;
        dim[0] = (int64_t)t->n_float_data;
    } else {
        t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
        t->n_int64_data = list ? attr->n_ints : 1;
        t->int64_data = list ? attr->ints : (int64_t *)&attr->i;
        dim[0] = (int64_t)t->n_int64_data;
    }
    t->n_dims = list;
    *made = t;
    return CKPT_OK;
}

ckpt_status import_constant(ckpt_import *im, const Onnx__NodeProto *node) {
    if (node->n_attribute != 1)
        return ckpt_fail(im->err, CKPT_MODEL, "it has %zu attributes instead of one value", node->n_attribute);
    const Onnx__AttributeProto *attr = node->attribute[0];
    Onnx__TensorProto *made = attr->t;
    if (strcmp(attr->name, "sparse_value") == 0)
        return ckpt_fail(im->err, CKPT_MODEL,
                         "its value is a sparse tensor, which is not supported; store it dense, in the attribute 'value'");
    if (strcmp(attr->name, "value") == 0) {
        if (!made) return ckpt_fail(im->err, CKPT_MODEL, "its attribute 'value' holds no tensor");
    } else {
        CKPT_TRY(tensor_from_attribute(im, attr, &made));
    }
    return ckpt_import_constant(im, node, made);
}
