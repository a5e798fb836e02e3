#include <inttypes.h>
#include <string.h>

#include "import/import.h"

const Onnx__AttributeProto *ckpt_import_attr(const Onnx__NodeProto *node, const char *name) {
    for (size_t i = 0; i < node->n_attribute; i++)
        if (node->attribute[i]->name && strcmp(node->attribute[i]->name, name) == 0) return node->attribute[i];
    return NULL;
}

static ckpt_status wrong_type(ckpt_import *im, const char *name, const char *wanted) {
    return ckpt_fail(im->err, CKPT_MODEL, "its attribute '%s' is not %s", name, wanted);
}

ckpt_status ckpt_import_attr_int(ckpt_import *im, const Onnx__NodeProto *node, const char *name, int64_t absent,
                                 int64_t *value) {
    const Onnx__AttributeProto *attr = ckpt_import_attr(node, name);
    *value = attr ? attr->i : absent;
    if (attr && attr->type != ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT) return wrong_type(im, name, "an integer");
    return CKPT_OK;
}

ckpt_status ckpt_import_attr_float(ckpt_import *im, const Onnx__NodeProto *node, const char *name, float absent,
                                   float *value) {
    const Onnx__AttributeProto *attr = ckpt_import_attr(node, name);
    *value = attr ? attr->f : absent;
    if (attr && attr->type != ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT) return wrong_type(im, name, "a float");
    if (!(*value - *value == 0)) return wrong_type(im, name, "finite");
    return CKPT_OK;
}

ckpt_status ckpt_import_attr_ints(ckpt_import *im, const Onnx__NodeProto *node, const char *name,
                                  const int64_t **values, int *count) {
    const Onnx__AttributeProto *attr = ckpt_import_attr(node, name);
    *count = -1;
    if (!attr) return CKPT_OK;
    if (attr->type != ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS) return wrong_type(im, name, "a list of integers");
    if (attr->n_ints > 2 * CKPT_MAX_RANK) return wrong_type(im, name, "a list of at most 16 integers");
    *values = attr->ints;
    *count = (int)attr->n_ints;
    return CKPT_OK;
}

ckpt_status ckpt_import_attr_string(ckpt_import *im, const Onnx__NodeProto *node, const char *name,
                                    const char *absent, const char **value) {
    const Onnx__AttributeProto *attr = ckpt_import_attr(node, name);
    *value = absent;
    if (!attr) return CKPT_OK;
    if (attr->type != ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING) return wrong_type(im, name, "a string");
    *value = ckpt_pool_strndup(im->pool, (const char *)attr->s.data, attr->s.len);
    return *value ? CKPT_OK : ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
}

ckpt_status ckpt_import_attrs_known(ckpt_import *im, const Onnx__NodeProto *node, const char *list) {
    for (size_t i = 0; i < node->n_attribute; i++) {
        const char *name = node->attribute[i]->name ? node->attribute[i]->name : "";
        const size_t length = strlen(name);
        bool known = false;
        for (const char *p = list; p && *p; p = strchr(p, ','), p = p ? p + 1 : NULL)
            known |= strncmp(p, name, length) == 0 && (p[length] == ',' || p[length] == 0);
        if (!known || !length)
            return ckpt_fail(im->err, CKPT_MODEL, "its attribute '%s' is not one of this operator's", name);
        for (size_t j = 0; j < i; j++)
            if (strcmp(node->attribute[j]->name, name) == 0)
                return ckpt_fail(im->err, CKPT_MODEL, "its attribute '%s' appears twice", name);
    }
    return CKPT_OK;
}

ckpt_status ckpt_import_axis(ckpt_import *im, int64_t axis, int rank, bool end, int *result) {
    int64_t positive = axis < 0 ? axis + rank : axis;
    if (axis < -(int64_t)rank || positive < 0 || positive > (end ? rank : rank - 1))
        return ckpt_fail(im->err, CKPT_MODEL, "its axis %" PRId64 " lies outside an input of %d dimensions", axis, rank);
    *result = (int)positive;
    return CKPT_OK;
}

ckpt_status ckpt_import_axes(ckpt_import *im, const Onnx__NodeProto *node, const int64_t **axes, int *count) {
    CKPT_TRY(ckpt_import_attr_ints(im, node, "axes", axes, count));
    if (*count >= 0 || !ckpt_import_has_input(node, 1)) return CKPT_OK;
    int64_t *given;
    CKPT_TRY(ckpt_import_ints(im, node, 1, &given, count));
    *axes = given;
    return CKPT_OK;
}

ckpt_status ckpt_import_float_list(ckpt_import *im, const Onnx__NodeProto *node, const char *name, size_t input, int most,
                               float *values, int *count) {
    const Onnx__AttributeProto *attr = ckpt_import_attr(node, name);
    if (!attr) return ckpt_import_float_input(im, node, input, most, values, count);
    if (attr->type != ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS || attr->n_floats > (size_t)most)
        return wrong_type(im, name, "a short list of floats");
    *count = (int)attr->n_floats;
    for (int i = 0; i < *count; i++) values[i] = attr->floats[i];
    return CKPT_OK;
}
