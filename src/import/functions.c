#include "import/functions.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_DEPTH = 32, MOST_GROWTH = 100, FEW_NODES = 1000, MOST_ATTRIBUTES = 100 };

/* A function and its formal parameters by name. */
typedef struct formal {
    const char *name;
    size_t index;
    bool output;
} formal;

typedef struct function {
    const Onnx__FunctionProto *proto;
    formal *formal; /* sorted by name; an input before an output of the same name */
    size_t formal_count;
    int64_t opset;
} function;

typedef struct expansion {
    const Onnx__ModelProto *model;
    ckpt_is_operator *is_operator;
    ckpt_pool *pool;
    ckpt_call_list *list;
    ckpt_error *err;
    function *function; /* sorted by domain, name and overload */
    size_t function_count, room, most_nodes, most_text, text, calls;
} expansion;

/* One call of a function: what its body's names stand for. */
typedef struct call {
    const function *function;
    const Onnx__NodeProto *node;
    const char *label; /* what its nodes are called after */
    size_t number, index;
    int depth;
} call;

static const char *text_of(const char *text) {
    return text ? text : "";
}

static const char *domain_of(const char *domain) {
    return strcmp(text_of(domain), "ai.onnx") == 0 ? "" : text_of(domain);
}

static ckpt_status fail_memory(const expansion *x) {
    return ckpt_fail(x->err, CKPT_NOMEM, "out of host memory");
}

int64_t ckpt_functions_opset(size_t count, Onnx__OperatorSetIdProto *const *import, int64_t absent) {
    for (size_t i = 0; i < count; i++)
        if (*domain_of(import[i]->domain) == 0) absent = import[i]->version;
    return absent;
}

/* --- finding functions and formal parameters --------------------------------------------------------- */

static int compare_functions(const void *a, const void *b) {
    const Onnx__FunctionProto *f = ((const function *)a)->proto, *g = ((const function *)b)->proto;
    int order = strcmp(domain_of(f->domain), domain_of(g->domain));
    if (!order) order = strcmp(text_of(f->name), text_of(g->name));
    return order ? order : strcmp(text_of(f->overload), text_of(g->overload));
}

static int compare_formals(const void *a, const void *b) {
    const formal *f = a, *g = b;
    const int order = strcmp(f->name, g->name);
    return order ? order : (int)f->output - (int)g->output;
}

static const function *find_function(const expansion *x, const Onnx__NodeProto *node) {
    Onnx__FunctionProto proto = {.domain = node->domain, .name = node->op_type, .overload = node->overload};
    const function key = {.proto = &proto};
    if (!x->function_count || x->is_operator(domain_of(node->domain), text_of(node->op_type))) return NULL;
    return bsearch(&key, x->function, x->function_count, sizeof key, compare_functions);
}

static const formal *find_formal(const function *f, const char *name, bool output) {
    const formal key = {.name = name, .output = output};
    if (!f->formal_count) return NULL;
    return bsearch(&key, f->formal, f->formal_count, sizeof key, compare_formals);
}

static ckpt_status list_formals(expansion *x, function *f, const char *const *names, size_t count, bool output) {
    for (size_t i = 0; i < count; i++) f->formal[f->formal_count++] = (formal){text_of(names[i]), i, output};
    qsort(f->formal, f->formal_count, sizeof *f->formal, compare_formals);
    for (size_t i = 1; i < f->formal_count; i++)
        if (compare_formals(&f->formal[i - 1], &f->formal[i]) == 0)
            return ckpt_fail(x->err, CKPT_MODEL, "its function '%s' has two %s named '%s'", text_of(f->proto->name),
                             output ? "outputs" : "inputs", f->formal[i].name);
    return CKPT_OK;
}

static ckpt_status list_functions(expansion *x, int64_t opset) {
    x->function_count = x->model->n_functions;
    x->function = ckpt_pool_array(x->pool, x->function_count + 1, function);
    if (!x->function) return fail_memory(x);
    for (size_t i = 0; i < x->function_count; i++) {
        const Onnx__FunctionProto *proto = x->model->functions[i];
        function *f = &x->function[i];
        *f = (function){.proto = proto, .opset = ckpt_functions_opset(proto->n_opset_import, proto->opset_import, opset)};
        f->formal = ckpt_pool_array(x->pool, proto->n_input + proto->n_output + 1, formal);
        if (!f->formal) return fail_memory(x);
        CKPT_TRY(list_formals(x, f, (const char *const *)proto->input, proto->n_input, false));
        CKPT_TRY(list_formals(x, f, (const char *const *)proto->output, proto->n_output, true));
        x->most_nodes += MOST_GROWTH * proto->n_node;
    }
    if (x->function_count) qsort(x->function, x->function_count, sizeof *x->function, compare_functions);
    for (size_t i = 1; i < x->function_count; i++)
        if (compare_functions(&x->function[i - 1], &x->function[i]) == 0)
            return ckpt_fail(x->err, CKPT_MODEL, "its function '%s' is defined twice", text_of(x->function[i].proto->name));
    return CKPT_OK;
}

/* --- copying a body ----------------------------------------------------------------------------------- */

static ckpt_status check_growth(const expansion *x) {
    if (x->list->count < x->most_nodes && x->calls < x->most_nodes && x->text <= x->most_text) return CKPT_OK;
    return ckpt_fail(x->err, CKPT_MODEL,
                     "its functions become more than %zu nodes or %zu bytes of names when written out; get the file from "
                     "another source, or inline them with onnx.inliner",
                     x->most_nodes, x->most_text);
}

static ckpt_status add_node(expansion *x, ckpt_call_node node) {
    ckpt_call_list *list = x->list;
    CKPT_TRY(check_growth(x));
    if (list->count == x->room) {
        const size_t room = 2 * x->room + 16;
        list->node = ckpt_pool_grow(x->pool, list->node, list->count, room, sizeof *list->node);
        if (!list->node) return fail_memory(x);
        x->room = room;
    }
    list->node[list->count++] = node;
    return CKPT_OK;
}

/* What the name of a body stands for outside: the call's argument, "" for one that is left out, or a name of its own. */
static const char *outer_name(expansion *x, const call *c, const char *name, bool written) {
    if (!*name) return name;
    const formal *in = written ? NULL : find_formal(c->function, name, false);
    if (in) return in->index < c->node->n_input ? text_of(c->node->input[in->index]) : "";
    const formal *out = find_formal(c->function, name, true);
    if (out && out->index < c->node->n_output && *text_of(c->node->output[out->index])) return c->node->output[out->index];
    x->text += strlen(name) + 24;
    return ckpt_pool_printf(x->pool, "%zu:%s", c->number, name);
}

static ckpt_status map_names(expansion *x, const call *c, char **names, size_t count, bool written, char ***mapped) {
    *mapped = ckpt_pool_array(x->pool, count + 1, char *);
    if (!*mapped) return fail_memory(x);
    for (size_t i = 0; i < count; i++) {
        (*mapped)[i] = (char *)(uintptr_t)outer_name(x, c, text_of(names[i]), written); /* protobuf-c has no const */
        if (!(*mapped)[i]) return fail_memory(x);
    }
    return CKPT_OK;
}

static const Onnx__AttributeProto *find_attribute(Onnx__AttributeProto *const *list, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(text_of(list[i]->name), name) == 0) return list[i];
    return NULL;
}

/* An attribute that refers to one of the call takes its value, or the function's default; without either it is absent. */
static ckpt_status map_attributes(expansion *x, const call *c, Onnx__NodeProto *node) {
    Onnx__AttributeProto **mapped = ckpt_pool_array(x->pool, node->n_attribute + 1, Onnx__AttributeProto *);
    size_t count = 0;
    if (!mapped) return fail_memory(x);
    /* Each is looked for among all of the call's. */
    if (node->n_attribute > MOST_ATTRIBUTES || c->node->n_attribute > MOST_ATTRIBUTES)
        return ckpt_fail(x->err, CKPT_MODEL, "its function '%s' has more than %d attributes at a node", text_of(c->function->proto->name),
                         MOST_ATTRIBUTES);
    for (size_t i = 0; i < node->n_attribute; i++) {
        Onnx__AttributeProto *attribute = node->attribute[i];
        if (*text_of(attribute->ref_attr_name)) {
            const Onnx__FunctionProto *f = c->function->proto;
            const Onnx__AttributeProto *given = find_attribute(c->node->attribute, c->node->n_attribute, attribute->ref_attr_name);
            if (!given) given = find_attribute(f->attribute_proto, f->n_attribute_proto, attribute->ref_attr_name);
            if (!given) continue;
            Onnx__AttributeProto *copy = ckpt_pool_array(x->pool, 1, Onnx__AttributeProto);
            if (!copy) return fail_memory(x);
            *copy = *given;
            copy->name = attribute->name;
            attribute = copy;
        }
        mapped[count++] = attribute;
    }
    node->attribute = mapped;
    node->n_attribute = count;
    return CKPT_OK;
}

static ckpt_status copy_node(expansion *x, const call *c, const Onnx__NodeProto *inner, Onnx__NodeProto **copy) {
    Onnx__NodeProto *node = *copy = ckpt_pool_array(x->pool, 1, Onnx__NodeProto);
    if (!node) return fail_memory(x);
    *node = *inner;
    const char *own = *text_of(inner->name) ? inner->name : text_of(inner->op_type);
    node->name = ckpt_pool_printf(x->pool, "%s/%s", c->label, own);
    if (!node->name) return fail_memory(x);
    x->text += strlen(node->name);
    CKPT_TRY(map_names(x, c, inner->input, inner->n_input, false, &node->input));
    CKPT_TRY(map_names(x, c, inner->output, inner->n_output, true, &node->output));
    return map_attributes(x, c, node);
}

/* An output that is one of the inputs. */
static ckpt_status pass_through(expansion *x, const call *c) {
    const Onnx__FunctionProto *f = c->function->proto;
    for (size_t i = 0; i < f->n_output && i < c->node->n_output; i++) {
        const formal *in = find_formal(c->function, text_of(f->output[i]), false);
        if (!in || !*text_of(c->node->output[i])) continue;
        Onnx__NodeProto *node = ckpt_pool_array(x->pool, 1, Onnx__NodeProto);
        char **names = ckpt_pool_array(x->pool, 2, char *);
        if (!node || !names) return fail_memory(x);
        onnx__node_proto__init(node);
        names[0] = in->index < c->node->n_input ? c->node->input[in->index] : (char *)(uintptr_t)"";
        names[1] = c->node->output[i];
        node->op_type = (char *)(uintptr_t)"Identity";
        node->name = (char *)(uintptr_t)c->label;
        node->n_input = node->n_output = 1;
        node->input = &names[0];
        node->output = &names[1];
        CKPT_TRY(add_node(x, (ckpt_call_node){node, c->function->opset, true, c->index}));
    }
    return CKPT_OK;
}

static ckpt_status expand_call(expansion *x, call c);

static ckpt_status expand_node(expansion *x, const Onnx__NodeProto *node, int64_t opset, const call *outer, size_t index) {
    const function *f = find_function(x, node);
    const int depth = outer ? outer->depth + 1 : 1;
    if (!f) return add_node(x, (ckpt_call_node){node, opset, outer != NULL, index});
    if (depth > MOST_DEPTH)
        return ckpt_fail(x->err, CKPT_MODEL, "its function '%s' is called inside more than %d calls, perhaps by itself",
                         text_of(f->proto->name), MOST_DEPTH);
    if (node->n_input > f->proto->n_input || node->n_output > f->proto->n_output)
        return ckpt_fail(x->err, CKPT_MODEL, "node '%s' calls function '%s' with %zu inputs and %zu outputs; it has %zu and %zu",
                         text_of(node->name), text_of(f->proto->name), node->n_input, node->n_output, f->proto->n_input,
                         f->proto->n_output);
    const char *label = *text_of(node->name) ? node->name : text_of(node->op_type);
    return expand_call(x, (call){f, node, label, x->calls++, index, depth});
}

static ckpt_status expand_call(expansion *x, call c) {
    const Onnx__FunctionProto *f = c.function->proto;
    CKPT_TRY(pass_through(x, &c));
    CKPT_TRY(check_growth(x));
    for (size_t i = 0; i < f->n_node; i++) {
        Onnx__NodeProto *copy;
        CKPT_TRY(copy_node(x, &c, f->node[i], &copy));
        CKPT_TRY(expand_node(x, copy, c.function->opset, &c, c.index));
    }
    return CKPT_OK;
}

ckpt_status ckpt_functions_expand(const Onnx__ModelProto *model, ckpt_is_operator *is_operator, ckpt_pool *pool,
                                  ckpt_call_list *list, ckpt_error *err) {
    const Onnx__GraphProto *graph = model->graph;
    *list = (ckpt_call_list){0};
    expansion x = {.model = model, .is_operator = is_operator, .pool = pool, .list = list, .err = err};
    const int64_t opset = ckpt_functions_opset(model->n_opset_import, model->opset_import, 1);
    x.most_nodes = FEW_NODES + MOST_GROWTH * graph->n_node;
    x.room = graph->n_node;
    list->node = ckpt_pool_array(pool, x.room + 1, ckpt_call_node);
    if (!list->node) return fail_memory(&x);
    CKPT_TRY(list_functions(&x, opset));
    x.most_text = 64 * x.most_nodes;
    for (size_t i = 0; i < graph->n_node; i++) CKPT_TRY(expand_node(&x, graph->node[i], opset, NULL, i));
    return CKPT_OK;
}
