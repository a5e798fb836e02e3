#include "import/import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import/functions.h"
#include "import/onnx_rules.h"

enum {
    SMALL_CONSTANT = 64, /* values; read at once, so that rewriting can look at them */
    MOST_NODES = 1 << 18, /* the largest models that exporters write have some 10,000 */
    MOST_NAMES = 1 << 22,
    FULL_MESSAGES = 100 /* nodes of unsupported operators whose messages list the supported ones */
};

/* --- names ------------------------------------------------------------------------------------------ */

static int compare_values(const void *a, const void *b) {
    return strcmp(((const ckpt_value *)a)->name, ((const ckpt_value *)b)->name);
}

static ckpt_value *find_slot(const ckpt_import *im, const char *name) {
    const ckpt_value key = {.name = name};
    return im->name_count ? bsearch(&key, im->value, im->name_count, sizeof key, compare_values) : NULL;
}

static ckpt_value *find_value(const ckpt_import *im, const char *name) {
    ckpt_value *value = find_slot(im, name);
    return value && value->order ? value : NULL;
}

/* Every name had its place made at the start. */
static ckpt_status add_value(ckpt_import *im, ckpt_value value) {
    ckpt_value *slot = find_slot(im, value.name);
    if (!slot) return ckpt_fail(im->err, CKPT_FAILED, "a value without a name");
    if (slot->order)
        return ckpt_fail(im->err, CKPT_MODEL, "%s: the name '%s' is defined twice", im->model->graph.path, value.name);
    value.use = slot->use;
    *slot = value;
    slot->order = ++im->defined_count;
    return CKPT_OK;
}

static const char *text_of(const char *name) { return name ? name : ""; }

/* All names that anything can define. */
static void list_names(ckpt_import *im, const Onnx__GraphProto *graph, const ckpt_call_list *nodes) {
    size_t n = 0;
    for (size_t i = 0; i < graph->n_input; i++) im->value[n++].name = text_of(graph->input[i]->name);
    for (size_t i = 0; i < graph->n_initializer; i++) im->value[n++].name = text_of(graph->initializer[i]->name);
    for (size_t i = 0; i < nodes->count; i++)
        for (size_t o = 0; o < nodes->node[i].proto->n_output; o++)
            im->value[n++].name = text_of(nodes->node[i].proto->output[o]);
    if (n) qsort(im->value, n, sizeof *im->value, compare_values);
    for (size_t i = 0; i < n; i++) /* names that are defined twice have one place, and the second definition fails */
        if (i == 0 || compare_values(&im->value[im->name_count - 1], &im->value[i]) != 0)
            im->value[im->name_count++] = im->value[i];
}

static ckpt_status make_table(ckpt_import *im, const Onnx__GraphProto *graph, const ckpt_call_list *nodes) {
    size_t names = graph->n_input + graph->n_initializer;
    if (nodes->count > MOST_NODES)
        return ckpt_fail(im->err, CKPT_MODEL, "%s: it has %zu nodes, functions written out; at most %d are supported",
                         im->model->graph.path, nodes->count, MOST_NODES);
    for (size_t i = 0; i < nodes->count; i++) names += nodes->node[i].proto->n_output;
    if (names > MOST_NAMES)
        return ckpt_fail(im->err, CKPT_MODEL, "%s: it has %zu names; at most %d are supported", im->model->graph.path, names,
                         MOST_NAMES);
    im->value = ckpt_pool_array(im->pool, names, ckpt_value);
    if (!im->value) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    list_names(im, graph, nodes);
    return CKPT_OK;
}

/* --- what the import functions ask ------------------------------------------------------------------ */

bool ckpt_import_has_input(const Onnx__NodeProto *node, size_t i) {
    return i < node->n_input && node->input[i] && node->input[i][0];
}

bool ckpt_import_has_output(const Onnx__NodeProto *node, size_t i) {
    return i < node->n_output && node->output[i] && node->output[i][0];
}

static ckpt_status look_up(ckpt_import *im, const Onnx__NodeProto *node, size_t i, ckpt_value **value) {
    *value = NULL;
    if (!ckpt_import_has_input(node, i)) return ckpt_fail(im->err, CKPT_MODEL, "its input %zu is missing", i);
    *value = find_value(im, node->input[i]);
    if (!*value)
        return ckpt_fail(im->err, CKPT_MODEL,
                         "its input '%s' is made by no earlier node and is no input or initializer (a cycle, or nodes out of order)",
                         node->input[i]);
    if ((*value)->failure) return ckpt_fail(im->err, CKPT_MODEL, "%s", (*value)->failure);
    return CKPT_OK;
}

/* Reads a small constant's values into the graph. */
static ckpt_status keep_values(ckpt_import *im, int tensor, const ckpt_onnx_tensor_info *info, const Onnx__TensorProto *proto) {
    ckpt_tensor *t = &im->model->graph.tensor[tensor];
    void *data = ckpt_pool_alloc(&im->model->graph.pool, (size_t)ckpt_tensor_bytes(t) + 1, 1);
    if (!data) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    t->data = data;
    if (t->dtype == CKPT_F32) return ckpt_onnx_tensor_read_f32(im->model->file, proto, data, info->count, im->err);
    return ckpt_onnx_tensor_read(im->model->file, proto, data, (size_t)info->bytes, im->err);
}

static ckpt_verdict verdict_on(const ckpt_import *im, const ckpt_value *value, const ckpt_onnx_tensor_info *info) {
    ckpt_dtype type;
    const bool real = ckpt_import_type(im, info->type, &type) && type == CKPT_F32;
    const ckpt_weight_question question = {.name = value->name, .count = info->count, .is_float = real,
                                           .is_initializer = !value->is_constant_node, .in_function = value->in_function,
                                           .weighs_classes = value->use == CKPT_USE_CLASS_WEIGHTS};
    return ckpt_parameters_by_file(&im->model->provenance, im->options, &question);
}

static ckpt_status add_ruling(ckpt_import *im, ckpt_ruling ruling) {
    ckpt_model *model = im->model;
    ckpt_tensor *t = &model->graph.tensor[ruling.tensor];
    if (model->ruling_count == im->ruling_capacity) {
        const int capacity = im->ruling_capacity ? 2 * im->ruling_capacity : 32;
        model->ruling = ckpt_pool_grow(&model->graph.pool, model->ruling, (size_t)model->ruling_count, (size_t)capacity,
                                       sizeof *model->ruling);
        if (!model->ruling) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
        im->ruling_capacity = capacity;
    }
    const ckpt_said_tensor *said = ckpt_provenance_find(&model->provenance, t->name);
    ruling.name = t->name;
    ruling.count = t->count;
    ruling.origin = said ? said->origin : NULL;
    model->ruling[model->ruling_count++] = ruling;
    if (ckpt_verdict_trainable(ruling.verdict) == CKPT_SURELY_TRAINED) t->role = CKPT_ROLE_PARAM;
    return CKPT_OK;
}

/* Notes what the file says of a float tensor that the graph reads, and gives it the role that follows. */
static ckpt_status rule(ckpt_import *im, const ckpt_value *value, const ckpt_onnx_tensor_info *info) {
    const int tensor = value->view.tensor;
    if (im->options->as_written || value->is_folded || im->model->graph.tensor[tensor].dtype != CKPT_F32) return CKPT_OK;
    return add_ruling(im, (ckpt_ruling){.tensor = tensor, .verdict = verdict_on(im, value, info),
                                        .initializer = !value->is_constant_node});
}

/* Makes an initializer or constant a tensor of the graph, on first use as one. */
static ckpt_status materialize(ckpt_import *im, ckpt_value *value) {
    ckpt_onnx_tensor_info info;
    ckpt_dtype type;
    if (value->view.tensor >= 0) return CKPT_OK;
    if (value->part) return ckpt_fail(im->err, CKPT_MODEL, "'%s' is a sequence of tensors", value->name);
    CKPT_TRY(ckpt_onnx_tensor_describe(im->model->file, value->proto, &info, im->err));
    if (!ckpt_import_type(im, info.type, &type))
        return ckpt_fail(im->err, CKPT_MODEL, "the initializer '%s' is of type %s, which is not supported here", value->name,
                         ckpt_onnx_type_name((int)info.type));
    if (info.rank > CKPT_MAX_RANK)
        return ckpt_fail(im->err, CKPT_MODEL, "the initializer '%s' has %zu dimensions; at most 8 are supported",
                         value->name, info.rank);
    int tensor = ckpt_graph_add_tensor(&im->model->graph, value->name, type, CKPT_ROLE_CONST, (int)info.rank, info.dims, im->err);
    if (tensor < 0) return CKPT_MODEL;
    im->model->graph.tensor[tensor].source = value->proto;
    value->view = ckpt_view_of(&im->model->graph, tensor);
    CKPT_TRY(rule(im, value, &info));
    return info.count <= SMALL_CONSTANT ? keep_values(im, tensor, &info, value->proto) : CKPT_OK;
}

ckpt_status ckpt_import_input(ckpt_import *im, const Onnx__NodeProto *node, size_t i, ckpt_view *view) {
    ckpt_value *value;
    CKPT_TRY(look_up(im, node, i, &value));
    CKPT_TRY(materialize(im, value));
    *view = value->view;
    return CKPT_OK;
}

const ckpt_value *ckpt_import_value(const ckpt_import *im, const Onnx__NodeProto *node, size_t i) {
    const ckpt_value *value = ckpt_import_has_input(node, i) ? find_value(im, node->input[i]) : NULL;
    return value && !value->failure ? value : NULL;
}

ckpt_status ckpt_import_ints(ckpt_import *im, const Onnx__NodeProto *node, size_t i, int64_t **values, int *count) {
    ckpt_value *value;
    ckpt_onnx_tensor_info info;
    CKPT_TRY(look_up(im, node, i, &value));
    if (!value->proto)
        return ckpt_fail(im->err, CKPT_MODEL, "its input '%s' is computed; it must be a constant", node->input[i]);
    CKPT_TRY(ckpt_onnx_tensor_describe(im->model->file, value->proto, &info, im->err));
    if (info.count > 256) return ckpt_fail(im->err, CKPT_MODEL, "its input '%s' has too many values", node->input[i]);
    *values = ckpt_pool_array(im->pool, info.count + 1, int64_t);
    if (!*values) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    *count = (int)info.count;
    return ckpt_onnx_tensor_read_i64(im->model->file, value->proto, *values, info.count, im->err);
}

ckpt_status ckpt_import_float_input(ckpt_import *im, const Onnx__NodeProto *node, size_t i, int most, float *values,
                                    int *count) {
    ckpt_value *value;
    ckpt_onnx_tensor_info info;
    *count = 0;
    CKPT_TRY(look_up(im, node, i, &value));
    if (!value->proto)
        return ckpt_fail(im->err, CKPT_MODEL, "its input '%s' is computed; it must be a constant", node->input[i]);
    CKPT_TRY(ckpt_onnx_tensor_describe(im->model->file, value->proto, &info, im->err));
    if (info.count > (uint64_t)most)
        return ckpt_fail(im->err, CKPT_MODEL, "its input '%s' has %" PRIu64 " values instead of %d", node->input[i], info.count, most);
    *count = (int)info.count;
    return ckpt_onnx_tensor_read_f32(im->model->file, value->proto, values, info.count, im->err);
}

ckpt_status ckpt_import_scalar(ckpt_import *im, const Onnx__NodeProto *node, size_t i, float *number) {
    int count;
    CKPT_TRY(ckpt_import_float_input(im, node, i, 1, number, &count));
    return count == 1 ? CKPT_OK : ckpt_fail(im->err, CKPT_MODEL, "its input '%s' is empty", node->input[i]);
}

ckpt_status ckpt_import_define(ckpt_import *im, const Onnx__NodeProto *node, size_t i, const ckpt_view *view) {
    if (!ckpt_import_has_output(node, i)) return CKPT_OK;
    return add_value(im, (ckpt_value){.name = node->output[i], .view = *view});
}

ckpt_status ckpt_import_define_sequence(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *parts, int count) {
    const ckpt_view *copy = ckpt_pool_grow(im->pool, parts, (size_t)count, (size_t)count, sizeof *parts);
    if (!copy) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    if (!ckpt_import_has_output(node, 0)) return CKPT_OK;
    return add_value(im, (ckpt_value){.name = node->output[0], .view = {.tensor = -1}, .part = copy, .part_count = count});
}

ckpt_status ckpt_import_sequence(ckpt_import *im, const Onnx__NodeProto *node, size_t i, const ckpt_view **parts, int *count) {
    ckpt_value *value;
    CKPT_TRY(look_up(im, node, i, &value));
    if (!value->part) return ckpt_fail(im->err, CKPT_MODEL, "its input '%s' is no sequence", node->input[i]);
    *parts = value->part;
    *count = value->part_count;
    return CKPT_OK;
}

ckpt_status ckpt_import_alias(ckpt_import *im, const Onnx__NodeProto *node, size_t i) {
    ckpt_value *value;
    CKPT_TRY(look_up(im, node, 0, &value));
    /* An initializer must be one tensor under all its names, or its gradients would not be summed. */
    if (value->proto) CKPT_TRY(materialize(im, value));
    if (!ckpt_import_has_output(node, i)) return CKPT_OK;
    ckpt_value copy = *value;
    copy.name = node->output[i];
    return add_value(im, copy);
}

ckpt_status ckpt_import_constant(ckpt_import *im, const Onnx__NodeProto *node, const Onnx__TensorProto *proto) {
    if (!ckpt_import_has_output(node, 0)) return CKPT_OK;
    return add_value(im, (ckpt_value){.name = node->output[0], .proto = proto, .is_constant_node = true,
                                      .in_function = im->in_function, .view = {.tensor = -1}});
}

ckpt_status ckpt_import_floats(ckpt_import *im, const char *name, const float *values, int64_t count, ckpt_view *view) {
    ckpt_graph *graph = &im->model->graph;
    float *data = ckpt_pool_array(&graph->pool, count, float);
    if (!name || !data) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    memcpy(data, values, (size_t)count * sizeof *data);
    const int tensor = ckpt_graph_add_tensor(graph, name, CKPT_F32, CKPT_ROLE_CONST, 1, &count, im->err);
    if (tensor < 0) return CKPT_MODEL;
    graph->tensor[tensor].data = data;
    *view = ckpt_view_of(graph, tensor);
    return CKPT_OK;
}

ckpt_status ckpt_import_folded(ckpt_import *im, const Onnx__NodeProto *node, const Onnx__TensorProto *proto) {
    if (!ckpt_import_has_output(node, 0)) return CKPT_OK;
    return add_value(im, (ckpt_value){.name = node->output[0], .proto = proto, .is_folded = true, .view = {.tensor = -1}});
}

ckpt_status ckpt_import_uniform(ckpt_import *im, const Onnx__NodeProto *node, int rank, const int64_t *dims,
                                const Onnx__TensorProto *proto) {
    ckpt_graph *graph = &im->model->graph;
    ckpt_dtype type;
    if (!ckpt_import_has_output(node, 0)) return CKPT_OK;
    if (!ckpt_import_type(im, proto->data_type, &type))
        return ckpt_fail(im->err, CKPT_MODEL, "values of type %s are not supported", ckpt_onnx_type_name(proto->data_type));
    const int tensor = ckpt_graph_add_tensor(graph, node->output[0], type, CKPT_ROLE_CONST, rank, dims, im->err);
    if (tensor < 0) return CKPT_MODEL;
    graph->tensor[tensor].source = proto;
    if (!im->options->as_written && type == CKPT_F32 && graph->tensor[tensor].count > 1)
        CKPT_TRY(add_ruling(im, (ckpt_ruling){.tensor = tensor, .uniform = true,
                                              .verdict = im->model->provenance.torch ? CKPT_VERDICT_CODE : CKPT_VERDICT_REACHED}));
    const ckpt_view view = ckpt_view_of(graph, tensor);
    return ckpt_import_define(im, node, 0, &view);
}

bool ckpt_import_follow(ckpt_import *im, int tensor) {
    ckpt_tensor *t = &im->model->graph.tensor[tensor];
    const ckpt_value *value = find_value(im, t->name);
    if ((t->role == CKPT_ROLE_CONST || t->role == CKPT_ROLE_PARAM) && t->dtype == CKPT_F32 && t->source && value && value->proto == t->source && !value->in_function)
        t->role = CKPT_ROLE_STATISTIC;
    return t->role == CKPT_ROLE_STATISTIC;
}

ckpt_status ckpt_import_trainable(ckpt_import *im, const Onnx__NodeProto *node, size_t i, ckpt_trainable *trainable) {
    const ckpt_value *value = ckpt_import_value(im, node, i);
    ckpt_onnx_tensor_info info;
    *trainable = CKPT_NEVER_TRAINED;
    if (!value || !value->proto || im->options->as_written) return CKPT_OK;
    if (value->is_folded) {
        *trainable = value->of_weight ? CKPT_MAYBE_TRAINED : CKPT_NEVER_TRAINED;
        return CKPT_OK;
    }
    CKPT_TRY(ckpt_onnx_tensor_describe(im->model->file, value->proto, &info, im->err));
    *trainable = ckpt_verdict_trainable(verdict_on(im, value, &info));
    return CKPT_OK;
}

/* --- operators -------------------------------------------------------------------------------------- */

ckpt_import_function ckpt_import_find(const char *domain, const char *op_type, const char **attributes) {
    static const struct {
        const char *domain, *op_type, *attributes;
        ckpt_import_function function;
    } table[] = {
#define X(op, function, attrs) {"", #op, attrs, import_##function},
#include "import/onnx_ops.def"
#undef X
#define X(op, function, attrs) {"ai.onnx.ml", #op, attrs, import_##function},
#include "import/onnx_ml_ops.def"
#undef X
    };
    if (!domain || strcmp(domain, "ai.onnx") == 0) domain = "";
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(op_type, table[i].op_type) == 0 && strcmp(domain, table[i].domain) == 0) {
            *attributes = table[i].attributes;
            return table[i].function;
        }
    return NULL;
}

const char *ckpt_import_operators(void) {
    static const char list[] = ""
#define X(op, function, attrs) #op ", "
#include "import/onnx_ops.def"
#undef X
        ;
    static char text[sizeof list];
    snprintf(text, sizeof text, "%.*s", (int)sizeof list - 3, list);
    return text;
}

static bool is_operator(const char *domain, const char *op_type) {
    const char *attributes;
    return ckpt_import_find(domain, op_type, &attributes) != NULL;
}

static void note_use(ckpt_import *im, const char *name, ckpt_value_use use) {
    ckpt_value *value = name && *name ? find_slot(im, name) : NULL;
    if (value) value->use = value->use == CKPT_USE_NONE ? use : value->use == use ? use : CKPT_USE_OTHER;
}

/* All nodes that read the node's outputs have been seen. */
static void note_inputs(ckpt_import *im, const Onnx__NodeProto *node) {
    const char *attributes;
    const ckpt_import_function function = ckpt_import_find(node->domain && *node->domain ? node->domain : "",
                                                           text_of(node->op_type), &attributes);
    const bool loss = function == import_softmaxcrossentropyloss || function == import_nllloss;
    bool weights = !loss && node->n_output > 0;
    for (size_t o = 0; o < node->n_output && weights; o++) {
        const ckpt_value *made = ckpt_import_has_output(node, o) ? find_slot(im, node->output[o]) : NULL;
        weights = made && made->use == CKPT_USE_CLASS_WEIGHTS;
    }
    for (size_t i = 0; i < node->n_input; i++)
        note_use(im, node->input[i], weights || (loss && i == 2) ? CKPT_USE_CLASS_WEIGHTS : CKPT_USE_OTHER);
}

static void find_uses(ckpt_import *im, const Onnx__GraphProto *graph, const ckpt_call_list *nodes) {
    for (size_t i = 0; i < graph->n_output; i++) note_use(im, graph->output[i]->name, CKPT_USE_OTHER);
    for (size_t i = nodes->count; i-- > 0;) note_inputs(im, nodes->node[i].proto);
}

/* The version that a message names: that of the operator's own domain where it is not one of ONNX's. */
static int64_t opset_of(const ckpt_import *im, const char *domain) {
    const Onnx__ModelProto *model = im->model->file->model;
    for (size_t i = 0; *domain && i < model->n_opset_import; i++)
        if (strcmp(text_of(model->opset_import[i]->domain), domain) == 0) return model->opset_import[i]->version;
    return *domain && strcmp(domain, "ai.onnx") != 0 ? 0 : im->opset;
}

/* As a number, as nodes, or as both where a weight must stay in the graph. */
static ckpt_status import_known(ckpt_import *im, const Onnx__NodeProto *node, ckpt_import_function function) {
    ckpt_number number;
    CKPT_TRY(ckpt_import_fold(im, node, &number));
    if (!number.proto) return function(im, node);
    if (!number.of_weight || function == import_folded_only) return ckpt_import_folded(im, node, number.proto);
    CKPT_TRY(function(im, node));
    ckpt_value *value = ckpt_import_has_output(node, 0) ? find_value(im, node->output[0]) : NULL;
    if (!value) return CKPT_OK;
    value->proto = number.proto;
    value->is_folded = value->of_weight = true;
    return CKPT_OK;
}

static ckpt_status import_node(ckpt_import *im, const ckpt_call_node *from) {
    const Onnx__NodeProto *node = from->proto;
    const char *op = node->op_type ? node->op_type : "", *attributes, *why = NULL;
    const char *domain = node->domain && *node->domain ? node->domain : "";
    ckpt_import_function function = ckpt_import_find(domain, op, &attributes);
    const int defined_before = im->defined_count;
    const int nodes_before = im->model->graph.node_count;
    if (node->n_output == 0) return CKPT_OK; /* nothing can read what it makes */
    ckpt_status status;
    im->opset = from->opset;
    im->in_function = from->in_function;
    if (!function) {
        const bool full = im->unsupported_count++ < FULL_MESSAGES; /* all of them are kept until the loss is known */
        status = ckpt_fail(im->err, CKPT_MODEL, "this operator is not supported; export the model without it%s%s",
                           full ? "; supported are " : "", full ? ckpt_import_operators() : "");
    } else {
        status = ckpt_import_attrs_known(im, node, attributes);
        if (status == CKPT_OK) status = import_known(im, node, function);
    }
    if (status == CKPT_NOMEM || (status == CKPT_OK && im->model->graph.node_count == nodes_before)) return status;
    const char *name = node->name && *node->name ? node->name : ckpt_pool_printf(im->pool, "#%zu", from->index);
    const char *origin = name ? ckpt_pool_printf(&im->model->graph.pool, "node '%s' (%s%s%s, opset %" PRId64 ")", name, domain,
                                                 *domain ? "." : "", op, opset_of(im, domain)) : NULL;
    if (!origin) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    for (int n = nodes_before; n < im->model->graph.node_count; n++) im->model->graph.node[n].origin = origin;
    if (status == CKPT_OK) return status;
    for (size_t i = 0; i < node->n_input && !why; i++) { /* pass an earlier node's reason on as it is */
        const ckpt_value *input = ckpt_import_has_input(node, i) ? find_value(im, node->input[i]) : NULL;
        if (input && input->failure) why = input->failure;
    }
    const size_t path = strlen(im->model->graph.path); /* comes in front of all, and so not here again */
    const char *text = im->err->message;
    if (strncmp(text, im->model->graph.path, path) == 0 && strncmp(text + path, ": ", 2) == 0) text += path + 2;
    if (!why) why = ckpt_pool_printf(im->pool, "%s: %s", origin, text);
    if (!why) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    for (size_t i = 0; i < node->n_output; i++) {
        if (!ckpt_import_has_output(node, i)) continue;
        ckpt_value *value = find_value(im, node->output[i]);
        if (value && value->order <= defined_before) /* a name defined twice fails the whole file */
            return ckpt_fail(im->err, CKPT_MODEL, "%s: the name '%s' is defined twice", im->model->graph.path, node->output[i]);
        if (value) value->failure = why;
        else CKPT_TRY(add_value(im, (ckpt_value){.name = node->output[i], .view = {.tensor = -1}, .failure = why}));
    }
    return CKPT_OK;
}

/* --- inputs and outputs ----------------------------------------------------------------------------- */

static const int64_t *bound_dim(const ckpt_import *im, const char *name) {
    for (int i = 0; i < im->options->dim_count; i++)
        if (strcmp(im->options->dim[i].name, name) == 0) return &im->options->dim[i].value;
    return NULL;
}

/* The first dimension of the first input is the batch; elsewhere it is known again by its name, or by its size
 * where the file fixes that. */
static bool is_batch(ckpt_import *im, int axis, bool fixed, int64_t size, const char *name) {
    if (im->options->as_written || axis != 0) return name && im->batch_name && strcmp(name, im->batch_name) == 0;
    if (!im->batch_known) {
        im->batch_known = true;
        im->batch_name = name;
        im->batch_fixed = fixed ? size : -1;
        im->model->fixed_batch = fixed && size > 0 ? size : 0;
        return true;
    }
    if (fixed) return size == im->batch_fixed;
    return !name || !im->batch_name || strcmp(name, im->batch_name) == 0;
}

static ckpt_status input_dim(ckpt_import *im, const char *input, int axis, const Onnx__TensorShapeProto__Dimension *dim,
                             int64_t *size) {
    ckpt_graph *graph = &im->model->graph;
    const bool fixed = dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    const bool symbolic = dim->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM && dim->dim_param &&
                          *dim->dim_param;
    const int64_t *given = symbolic ? bound_dim(im, dim->dim_param) : NULL;
    if (fixed && dim->dim_value < 0)
        return ckpt_fail(im->err, CKPT_MODEL, "%s: input '%s': dimension %d is %" PRId64, graph->path, input, axis,
                         dim->dim_value);
    if (is_batch(im, axis, fixed, fixed ? dim->dim_value : 0, symbolic ? dim->dim_param : NULL)) {
        if (!graph->batch && given && !im->options->batch_decides) graph->batch = *given;
        if (!graph->batch) graph->batch = im->options->batch;
        if (!graph->batch) graph->batch = fixed && dim->dim_value > 0 ? dim->dim_value : 64;
        *size = graph->batch;
        return CKPT_OK;
    }
    if (fixed || given) {
        *size = fixed ? dim->dim_value : *given;
        return CKPT_OK;
    }
    if (!symbolic)
        return ckpt_fail(im->err, CKPT_MODEL, "%s: input '%s': dimension %d has neither a size nor a name; export it with one",
                         graph->path, input, axis);
    return ckpt_fail(im->err, CKPT_USAGE, "%s: input '%s': dimension '%s' has no size; give one with --dim %s=N", graph->path,
                     input, dim->dim_param, dim->dim_param);
}

static ckpt_status add_input(ckpt_import *im, const Onnx__ValueInfoProto *info) {
    ckpt_graph *graph = &im->model->graph;
    const char *name = info->name ? info->name : "";
    for (int i = 0; i < im->options->known_count; i++)
        if (strcmp(im->options->known[i].name, name) == 0)
            return add_value(im, (ckpt_value){.name = name, .proto = im->options->known[i].tensor, .view = {.tensor = -1}});
    const Onnx__TypeProto__Tensor *type = info->type && info->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE
                                              ? info->type->tensor_type : NULL;
    ckpt_dtype dtype = CKPT_F32;
    if (find_value(im, name) && find_value(im, name)->proto) return CKPT_OK; /* IR 3: initializers are listed as inputs */
    if (!type || !ckpt_import_type(im, type->elem_type, &dtype)) {
        const char *why = ckpt_pool_printf(im->pool, "the input '%s' is of type %s, which is not supported", name,
                                           type ? ckpt_onnx_type_name(type->elem_type) : "other than tensor");
        return add_value(im, (ckpt_value){.name = name, .view = {.tensor = -1}, .failure = why});
    }
    if (!type->shape || type->shape->n_dim > CKPT_MAX_RANK)
        return ckpt_fail(im->err, CKPT_MODEL, "%s: input '%s' has %s", graph->path, name,
                         type->shape ? "more than 8 dimensions" : "no shape; export the model with one");
    int64_t dims[CKPT_MAX_RANK];
    for (size_t i = 0; i < type->shape->n_dim; i++)
        CKPT_TRY(input_dim(im, name, (int)i, type->shape->dim[i], &dims[i]));
    int tensor = ckpt_graph_add_tensor(graph, name, dtype, CKPT_ROLE_INPUT, (int)type->shape->n_dim, dims, im->err);
    if (tensor < 0) return ckpt_fail_in(im->err, "%s", graph->path), CKPT_MODEL;
    graph->input[graph->input_count++] = tensor;
    const ckpt_view view = ckpt_view_of(graph, tensor);
    return add_value(im, (ckpt_value){.name = name, .view = view});
}

static ckpt_status add_outputs(ckpt_import *im, const Onnx__GraphProto *proto) {
    ckpt_model *model = im->model;
    model->output = ckpt_pool_array(&model->graph.pool, proto->n_output, ckpt_view);
    model->graph.output = ckpt_pool_array(&model->graph.pool, proto->n_output, int);
    if (!model->output || !model->graph.output) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    const char *why = "the graph has no output";
    bool any = false;
    for (size_t i = 0; i < proto->n_output; i++) {
        const char *name = proto->output[i]->name ? proto->output[i]->name : "";
        ckpt_value *value = find_value(im, name);
        if (!value)
            return ckpt_fail(im->err, CKPT_MODEL, "%s: the output '%s' is made by no node", model->graph.path, name);
        if (!value->failure && value->proto && materialize(im, value) != CKPT_OK)
            value->failure = ckpt_pool_strdup(im->pool, im->err->message);
        if (value->failure && !any) why = value->failure;
        any |= !value->failure;
        model->output[i] = value->view;
        if (value->failure) model->output[i].tensor = -1;
        model->graph.output[i] = model->output[i].tensor;
    }
    model->output_count = model->graph.output_count = (int)proto->n_output;
    return any ? CKPT_OK : ckpt_fail(im->err, CKPT_MODEL, "%s: %s", model->graph.path, why);
}

static ckpt_status check_opset(ckpt_import *im, const Onnx__ModelProto *proto) {
    im->opset = ckpt_functions_opset(proto->n_opset_import, proto->opset_import, 1); /* files before IR 3 name none */
    if (im->opset < 7 && !im->options->as_written)
        return ckpt_fail(im->err, CKPT_MODEL, "%s: opset %" PRId64 " is not supported; convert the model to opset 7 or later",
                         im->model->graph.path, im->opset);
    return CKPT_OK;
}

ckpt_status ckpt_import_run(ckpt_import *im) {
    const Onnx__ModelProto *proto = im->model->file->model;
    const Onnx__GraphProto *graph = proto->graph;
    ckpt_call_list nodes;
    CKPT_TRY(check_opset(im, proto));
    if (ckpt_functions_expand(proto, is_operator, &im->model->graph.pool, &nodes, im->err) != CKPT_OK)
        return ckpt_fail_in(im->err, "%s", im->model->graph.path), im->err->status;
    CKPT_TRY(make_table(im, graph, &nodes));
    find_uses(im, graph, &nodes);
    im->model->graph.input = ckpt_pool_array(&im->model->graph.pool, graph->n_input, int);
    if (!im->model->graph.input) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    for (size_t i = 0; i < graph->n_initializer; i++)
        CKPT_TRY(add_value(im, (ckpt_value){.name = graph->initializer[i]->name ? graph->initializer[i]->name : "",
                                            .proto = graph->initializer[i],
                                            .view = {.tensor = -1}}));
    for (size_t i = 0; i < graph->n_input; i++) CKPT_TRY(add_input(im, graph->input[i]));
    if (!im->model->graph.batch) im->model->graph.batch = 1;
    for (size_t i = 0; i < nodes.count; i++) CKPT_TRY(import_node(im, &nodes.node[i]));
    im->model->graph.forward_count = im->model->graph.node_count;
    return add_outputs(im, graph);
}
