#include "import/model.h"

#include <string.h>

#include "graph/op.h"
#include "graph/rewrite.h"
#include "import/import.h"
#include "import/model_loss.h"
#include "import/parameters.h"

/* A running statistic is moved by one node and read by no other. */
static ckpt_status check_statistics(const ckpt_graph *graph, ckpt_error *err) {
    ckpt_pool scratch = {0};
    int *uses, *reader;
    ckpt_status status = ckpt_graph_count_uses(graph, &scratch, &uses, &reader, err);
    for (int n = 0; status == CKPT_OK && n < graph->node_count; n++) {
        const ckpt_node *node = &graph->node[n];
        for (int i = 1; status == CKPT_OK && i < 3 && node->op == CKPT_OP_STATS_UPDATE; i++) {
            const ckpt_tensor *t = &graph->tensor[node->in[i]];
            if (t->role == CKPT_ROLE_PARAM || (t->role == CKPT_ROLE_STATISTIC && uses[node->in[i]] != 1))
                status = ckpt_fail(err, CKPT_MODEL, "%s: '%s' is a running statistic of a BatchNormalization and something else "
                                   "as well; --untie all takes them apart", graph->path, t->name);
        }
    }
    ckpt_pool_free(&scratch);
    return status;
}

static ckpt_status prepare_training(ckpt_model *model, const ckpt_model_options *options, ckpt_error *err) {
    ckpt_graph *graph = &model->graph;
    CKPT_TRY(ckpt_parameters_by_use(model, err));
    CKPT_TRY(ckpt_rewrite_recognise(graph, err));
    CKPT_TRY(ckpt_model_attach_losses(model, options, err));
    if (options->dropout > 0) CKPT_TRY(ckpt_rewrite_add_dropout(graph, options->dropout, options->dropout_rng, err));
    CKPT_TRY(ckpt_rewrite_fuse(graph, err));
    CKPT_TRY(ckpt_parameters_by_gradient(model, options, err));
    return check_statistics(graph, err);
}

static ckpt_status import_once(ckpt_import *im) {
    ckpt_model *model = im->model;
    ckpt_pool scratch = {0};
    model->graph = (ckpt_graph){.result = -1};
    model->file_loss = NULL;
    model->ruling = NULL;
    model->ruling_count = 0;
    model->graph.path = ckpt_pool_strdup(&model->graph.pool, model->file->path);
    if (!model->graph.path) return ckpt_fail(im->err, CKPT_NOMEM, "out of host memory");
    ckpt_import run = *im;
    run.pool = &scratch;
    const ckpt_status status = ckpt_import_run(&run);
    ckpt_pool_free(&scratch);
    return status;
}

/* Imports the file and, where that shows accidental ties, takes them apart in the file and imports it again. */
static ckpt_status import_untied(ckpt_import *im) {
    ckpt_model *model = im->model;
    CKPT_TRY(import_once(im));
    if (im->options->as_written) return CKPT_OK;
    CKPT_TRY(ckpt_parameters_by_use(model, im->err)); /* numbers and masks may share as they like */
    const ckpt_tie_question question = {.graph = &model->graph, .ruling = model->ruling, .ruling_count = model->ruling_count,
                                        .provenance = &model->provenance, .how = im->options->untie};
    CKPT_TRY(ckpt_ties_resolve(model->file, &question, &model->file_pool, &model->ties, im->err));
    if (model->ties.copies == 0 && model->ties.join_count == 0) return CKPT_OK;
    ckpt_graph_free(&model->graph);
    return import_once(im);
}

/* From the file that the model has to its graph. */
static ckpt_status make_graph(ckpt_model *model, const ckpt_model_options *options, ckpt_status (*import)(ckpt_import *),
                              ckpt_error *err) {
    const char *path = model->file->path;
    ckpt_import im = {.model = model, .options = options, .err = err};
    ckpt_status status = import(&im);
    if (status == CKPT_OK && !options->as_written) {
        status = prepare_training(model, options, err);
        if (status != CKPT_OK && strncmp(err->message, path, strlen(path)) != 0) ckpt_fail_in(err, "%s", path);
    }
    if (status == CKPT_OK) status = ckpt_graph_find_layers(&model->graph, err);
    if (status == CKPT_OK) ckpt_graph_compute_hash(&model->graph);
    if (status != CKPT_OK) ckpt_model_free(model);
    return status;
}

ckpt_status ckpt_model_load(const char *path, const ckpt_model_options *options, ckpt_model *model, ckpt_error *err) {
    *model = (ckpt_model){.graph = {.result = -1}};
    CKPT_TRY(ckpt_onnx_read(path, &model->file, err));
    ckpt_status status = ckpt_onnx_make_dense(model->file, &model->dense, err);
    if (status == CKPT_OK) status = ckpt_provenance_read(model->file, &model->file_pool, &model->provenance, err);
    if (status == CKPT_OK) return make_graph(model, options, import_untied, err);
    ckpt_model_free(model);
    return status;
}

ckpt_status ckpt_model_resize(const ckpt_model *of, const ckpt_model_options *options, ckpt_model *model, ckpt_error *err) {
    ckpt_model_options own = *options;
    own.batch_decides = true;
    *model = (ckpt_model){.file = of->file, .borrowed = true, .provenance = of->provenance, .graph = {.result = -1}};
    return make_graph(model, &own, import_once, err); /* ties were taken apart in the file */
}

ckpt_status ckpt_model_read_values(const ckpt_model *model, int tensor, void *values, ckpt_error *err) {
    const ckpt_tensor *t = &model->graph.tensor[tensor];
    if (t->data) {
        memcpy(values, t->data, (size_t)ckpt_tensor_bytes(t));
        return CKPT_OK;
    }
    const Onnx__TensorProto *source = t->source;
    ckpt_onnx_tensor_info info;
    CKPT_TRY(ckpt_onnx_tensor_describe(model->file, source, &info, err));
    if (info.count == 1 && t->count != 1) { /* one value for all, from a ConstantOfShape */
        const size_t bytes = ckpt_dtype_bytes(t->dtype);
        char one[8];
        if (t->dtype == CKPT_F32) CKPT_TRY(ckpt_onnx_tensor_read_f32(model->file, source, (float *)(void *)one, 1, err));
        else CKPT_TRY(ckpt_onnx_tensor_read(model->file, source, one, bytes, err));
        for (int64_t i = 0; i < t->count; i++) memcpy((char *)values + (size_t)i * bytes, one, bytes);
        return CKPT_OK;
    }
    if (t->dtype == CKPT_F32) return ckpt_onnx_tensor_read_f32(model->file, t->source, values, (size_t)t->count, err);
    return ckpt_onnx_tensor_read(model->file, t->source, values, (size_t)ckpt_tensor_bytes(t), err);
}

/* Of the tensors that are saved and, with values, have some. NULL: out of memory. */
static ckpt_onnx_replacement *list_replacements(const ckpt_model *model, const float *const *values, ckpt_pool *pool,
                                                size_t *count) {
    const ckpt_graph *graph = &model->graph;
    ckpt_onnx_replacement *list = ckpt_pool_array(pool, graph->tensor_count, ckpt_onnx_replacement);
    *count = 0;
    for (int t = 0; list && t < graph->tensor_count; t++)
        if (ckpt_tensor_is_saved(&graph->tensor[t]) && (!values || values[t]))
            list[(*count)++] = (ckpt_onnx_replacement){.name = graph->tensor[t].name, .values = values ? values[t] : NULL,
                                                       .count = (size_t)graph->tensor[t].count};
    return list;
}

ckpt_status ckpt_model_save(const ckpt_model *model, const float *const *values, const char *path, bool overwrite,
                            ckpt_error *err) {
    ckpt_pool scratch = {0};
    size_t count;
    const ckpt_onnx_replacement *list = list_replacements(model, values, &scratch, &count);
    const unsigned flags = overwrite ? CKPT_ONNX_OVERWRITE_INPUT : 0;
    const ckpt_status status = list ? ckpt_onnx_write(model->file, path, list, count, flags, err)
                                    : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    ckpt_pool_free(&scratch);
    return status;
}

ckpt_status ckpt_model_check_savable(const ckpt_model *model, const char *path, ckpt_error *err) {
    ckpt_pool scratch = {0};
    size_t count;
    const ckpt_onnx_replacement *list = list_replacements(model, NULL, &scratch, &count);
    ckpt_status status = list ? ckpt_onnx_check_write(model->file, path, list, count, err)
                              : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    ckpt_pool_free(&scratch);
    if (status == CKPT_MODEL)
        ckpt_fail(err, CKPT_MODEL, "%s; --freeze keeps a tensor as it is, and without --save nothing is written", err->message);
    return status;
}

static ckpt_status check_kernels(const ckpt_graph *graph, bool (*supports)(ckpt_op op), const char *device, ckpt_error *err) {
    for (int n = 0; n < graph->node_count; n++) {
        const ckpt_node *node = &graph->node[n];
        if (supports(node->op)) continue;
        if (node->origin)
            return ckpt_fail(err, CKPT_MODEL,
                             "%s: %s: this operator can be planned (ckptplan) but not trained on %s yet; to train, "
                             "export what is behind it",
                             graph->path, node->origin, device);
        return ckpt_fail(err, CKPT_MODEL, "%s: node '%s' (%s): this can be planned (ckptplan) but not trained on %s yet",
                         graph->path, node->name, ckpt_op_info(node->op)->name, device);
    }
    return CKPT_OK;
}

/* Running statistics move in place where they are initializers, and otherwise into new tensors. */
static ckpt_status check_statistics_are_saved(const ckpt_graph *graph, ckpt_error *err) {
    for (int n = 0; n < graph->node_count; n++)
        for (int i = 1; i < 3 && graph->node[n].op == CKPT_OP_STATS_UPDATE; i++) {
            const ckpt_tensor *t = &graph->tensor[graph->node[n].in[i]];
            if (t->role != CKPT_ROLE_STATISTIC)
                return ckpt_fail(err, CKPT_MODEL, "%s: '%s', a running statistic of a BatchNormalization, is no initializer of its "
                                 "own: there is no place to save it in", graph->path, t->name);
        }
    return CKPT_OK;
}

static ckpt_status check_weights_have_places(const ckpt_model *model, ckpt_error *err) {
    for (int t = 0; t < model->graph.tensor_count; t++) {
        const ckpt_tensor *tensor = &model->graph.tensor[t];
        ckpt_onnx_tensor_info info;
        if (!ckpt_tensor_is_saved(tensor)) continue;
        CKPT_TRY(ckpt_onnx_tensor_describe(model->file, tensor->source, &info, err));
        if (info.count != (uint64_t)tensor->count)
            return ckpt_fail(err, CKPT_MODEL, "%s: the weight '%s' comes from a ConstantOfShape, where no trained values can be "
                             "kept; export the model with its weights", model->graph.path, tensor->name);
    }
    return CKPT_OK;
}

ckpt_status ckpt_model_check_trainable(const ckpt_model *model, bool (*supports)(ckpt_op op), const char *device,
                                       ckpt_error *err) {
    const bool saved = model->prediction != NULL; /* not a model as written, whose outputs the moved statistics are */
    CKPT_TRY(check_kernels(&model->graph, supports, device, err));
    if (saved) CKPT_TRY(check_statistics_are_saved(&model->graph, err));
    return check_weights_have_places(model, err);
}

static int parameter_from(const ckpt_graph *graph, const void *source) {
    for (int t = 0; t < graph->tensor_count; t++)
        if (ckpt_tensor_is_saved(&graph->tensor[t]) && graph->tensor[t].source == source) return t;
    return -1;
}

int ckpt_model_parameters(const ckpt_model *model, int *ids) {
    const Onnx__GraphProto *file = model->file->model->graph;
    int count = 0;
    for (size_t i = 0; i < file->n_initializer; i++) {
        const int t = parameter_from(&model->graph, file->initializer[i]);
        if (t >= 0) ids[count++] = t;
    }
    const int from_initializers = count;
    for (int t = 0; t < model->graph.tensor_count; t++) {
        bool listed = !ckpt_tensor_is_saved(&model->graph.tensor[t]);
        for (int i = 0; !listed && i < from_initializers; i++) listed = ids[i] == t;
        if (!listed) ids[count++] = t;
    }
    return count;
}

void ckpt_model_free(ckpt_model *model) {
    if (!model->borrowed) ckpt_onnx_free(model->file);
    ckpt_graph_free(&model->graph);
    ckpt_pool_free(&model->file_pool);
    *model = (ckpt_model){0};
}
