#include "model_maker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"

static ckpt_pool pool; /* everything that tests make, until they end */

static void *make(size_t size) {
    void *piece = ckpt_pool_alloc(&pool, 1, size);
    if (!piece) abort();
    return piece;
}

static char *keep(const char *text) { return ckpt_pool_strdup(&pool, text); }

void maker_start(maker *m, int opset) {
    memset(m, 0, sizeof *m);
    onnx__model_proto__init(&m->model);
    onnx__graph_proto__init(&m->graph);
    onnx__operator_set_id_proto__init(&m->opset);
    m->model.has_ir_version = 1;
    m->model.ir_version = 8;
    m->model.graph = &m->graph;
    m->model.n_opset_import = 1;
    m->model.opset_import = m->opsets;
    m->opsets[0] = &m->opset;
    m->opset.has_version = 1;
    m->opset.version = opset;
    m->opset.domain = "";
    m->graph.name = "made";
    m->graph.node = m->nodes;
    m->graph.initializer = m->weights;
    m->graph.input = m->inputs;
    m->graph.output = m->outputs;
    m->model.functions = m->functions;
}

static char **split(const char *list, size_t *count);

void maker_function(maker *m, const char *name, const char *inputs, const char *outputs, const char *attributes) {
    Onnx__FunctionProto *f = m->function = m->functions[m->model.n_functions++] = make(sizeof *f);
    onnx__function_proto__init(f);
    f->name = keep(name);
    f->domain = keep("local");
    f->input = split(inputs, &f->n_input);
    f->output = split(outputs, &f->n_output);
    f->attribute = split(attributes, &f->n_attribute);
    f->n_opset_import = 1;
    f->opset_import = m->opsets;
    f->node = make(sizeof *f->node * MAKER_MOST);
}

void maker_graph(maker *m) { m->function = NULL; }

static Onnx__ValueInfoProto *value_info(const char *name, int rank, const int64_t *dims) {
    Onnx__ValueInfoProto *info = make(sizeof *info);
    Onnx__TypeProto *type = make(sizeof *type);
    Onnx__TypeProto__Tensor *tensor = make(sizeof *tensor);
    Onnx__TensorShapeProto *shape = make(sizeof *shape);
    onnx__value_info_proto__init(info);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(tensor);
    onnx__tensor_shape_proto__init(shape);
    info->name = keep(name);
    info->type = type;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    tensor->has_elem_type = 1;
    tensor->elem_type = 1;
    if (!dims) return info;
    tensor->shape = shape;
    shape->n_dim = (size_t)rank;
    shape->dim = make(sizeof *shape->dim * (size_t)(rank + 1));
    for (int i = 0; i < rank; i++) {
        shape->dim[i] = make(sizeof **shape->dim);
        onnx__tensor_shape_proto__dimension__init(shape->dim[i]);
        if (dims[i] == -1) {
            shape->dim[i]->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            shape->dim[i]->dim_param = "batch";
        } else {
            shape->dim[i]->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            shape->dim[i]->dim_value = dims[i];
        }
    }
    return info;
}

void maker_input(maker *m, const char *name, int rank, const int64_t *dims) {
    m->inputs[m->graph.n_input++] = value_info(name, rank, dims);
}

void maker_output(maker *m, const char *name) { m->outputs[m->graph.n_output++] = value_info(name, 0, NULL); }

static Onnx__TensorProto *tensor(maker *m, const char *name, int type, int rank, const int64_t *dims) {
    Onnx__TensorProto *t = make(sizeof *t);
    onnx__tensor_proto__init(t);
    t->name = keep(name);
    t->has_data_type = 1;
    t->data_type = type;
    t->n_dims = (size_t)rank;
    t->dims = make(sizeof *dims * (size_t)(rank + 1));
    for (int i = 0; i < rank; i++) t->dims[i] = dims[i];
    m->weights[m->graph.n_initializer++] = t;
    return t;
}

Onnx__TensorProto *maker_weight(maker *m, const char *name, int rank, const int64_t *dims) {
    Onnx__TensorProto *t = tensor(m, name, 1, rank, dims);
    t->n_float_data = 1;
    for (int i = 0; i < rank; i++) t->n_float_data *= (size_t)dims[i];
    t->float_data = make(sizeof(float) * (t->n_float_data + 1));
    for (size_t i = 0; i < t->n_float_data; i++) t->float_data[i] = 0.01f * (float)(i % 17 + 1);
    return t;
}

void maker_number(maker *m, const char *name, float value) { maker_weight(m, name, 0, NULL)->float_data[0] = value; }

void maker_ints(maker *m, const char *name, int count, const int64_t *values) {
    const int64_t dim = count;
    Onnx__TensorProto *t = tensor(m, name, 7, 1, &dim);
    t->n_int64_data = (size_t)count;
    t->int64_data = make(sizeof *values * (size_t)(count + 1));
    memcpy(t->int64_data, values, sizeof *values * (size_t)count);
}

/* "a,b,,c" -> names; an empty one is an optional input left out. */
static char **split(const char *list, size_t *count) {
    char **names = make(sizeof *names * 16), *copy = keep(list);
    *count = 0;
    if (!*list) return names;
    for (char *p = copy;; p++) {
        char *end = strchr(p, ',');
        if (end) *end = 0;
        names[(*count)++] = p;
        if (!end) return names;
        p = end;
    }
}

static Onnx__AttributeProto *attribute(const char *text) {
    Onnx__AttributeProto *a = make(sizeof *a);
    const char *value = strchr(text, '=') + 1;
    onnx__attribute_proto__init(a);
    a->name = ckpt_pool_strndup(&pool, text, (size_t)(value - text) - 1);
    a->has_type = 1;
    if (strchr(value, ',')) {
        size_t count;
        char **items = split(value, &count);
        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
        a->ints = make(sizeof *a->ints * (count + 1));
        for (size_t i = 0; i < count; i++)
            if (*items[i]) a->ints[a->n_ints++] = atoll(items[i]);
    } else if (*value == '@') {
        a->ref_attr_name = keep(value + 1);
    } else if (strspn(value, "0123456789-") == strlen(value)) {
        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
        a->has_i = 1;
        a->i = atoll(value);
    } else if (strspn(value, "0123456789-.e") == strlen(value)) {
        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
        a->has_f = 1;
        a->f = strtof(value, NULL);
    } else {
        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
        a->has_s = 1;
        a->s.data = (uint8_t *)keep(value);
        a->s.len = strlen(value);
    }
    return a;
}

void maker_node(maker *m, const char *op, const char *name, const char *inputs, const char *outputs, const char *attrs) {
    Onnx__NodeProto *node = make(sizeof *node);
    onnx__node_proto__init(node);
    const char *colon = strchr(op, ':');
    node->op_type = keep(colon ? colon + 1 : op);
    node->domain = colon ? ckpt_pool_strndup(&pool, op, (size_t)(colon - op)) : NULL;
    node->name = keep(name);
    node->input = split(inputs, &node->n_input);
    node->output = split(outputs, &node->n_output);
    node->attribute = make(sizeof *node->attribute * 8);
    char *copy = keep(attrs ? attrs : "");
    for (char *item = strtok(copy, " "); item; item = strtok(NULL, " "))
        node->attribute[node->n_attribute++] = attribute(item);
    if (m->function) m->function->node[m->function->n_node++] = node;
    else m->nodes[m->graph.n_node++] = node;
}

void maker_property(maker *m, int node, const char *key, const char *value) {
    Onnx__StringStringEntryProto *prop = make(sizeof *prop);
    onnx__string_string_entry_proto__init(prop);
    prop->key = keep(key);
    prop->value = keep(value);
    m->nodes[node]->metadata_props = make(sizeof prop);
    m->nodes[node]->metadata_props[0] = prop;
    m->nodes[node]->n_metadata_props = 1;
}

const char *maker_write(maker *m, const char *name) {
    snprintf(m->path, sizeof m->path, "%s", name);
    const size_t size = onnx__model_proto__get_packed_size(&m->model);
    uint8_t *bytes = make(size + 1);
    onnx__model_proto__pack(&m->model, bytes);
    FILE *file = fopen(m->path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) abort();
    return m->path;
}
