#include "import/model_loss.h"

#include <inttypes.h>
#include <string.h>

#include "base/nearest.h"
#include "graph/loss_own.h"
#include "graph/op.h"
#include "graph/samples.h"
#include "import/import.h"

static ckpt_status no_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
}

static const char *output_name(const ckpt_model *model, int output) {
    const char *name = model->file->model->graph->output[output]->name;
    return name ? name : "";
}

/* --- which outputs ---------------------------------------------------------------------------------- */

/* "'a', 'b' and 3 more": the outputs that `skip` does not mark. NULL when memory runs out, "" for none. */
static const char *list_outputs(const ckpt_model *model, const bool *skip, ckpt_pool *pool) {
    enum { MOST = 8 };
    const char *text = "";
    int count = 0;
    for (int i = 0; i < model->output_count && text; i++)
        if ((!skip || !skip[i]) && count++ < MOST)
            text = ckpt_pool_printf(pool, "%s%s'%s'", text, count > 1 ? ", " : "", output_name(model, i));
    return text && count > MOST ? ckpt_pool_printf(pool, "%s and %d more", text, count - MOST) : text;
}

static ckpt_status find_output(const ckpt_model *model, const char *name, int *output, ckpt_error *err) {
    ckpt_pool scratch = {0};
    const char **names = ckpt_pool_array(&scratch, model->output_count, const char *);
    *output = -1;
    if (!names) return no_memory(err);
    for (int i = 0; i < model->output_count; i++) {
        names[i] = output_name(model, i);
        if (strcmp(names[i], name) == 0) *output = i;
    }
    ckpt_status status = CKPT_OK;
    if (*output < 0) {
        const char *near = ckpt_nearest(name, names, model->output_count), *all = list_outputs(model, NULL, &scratch);
        status = ckpt_fail(err, CKPT_USAGE, "no output is called '%s'%s%s%s; there %s %s", name, near ? ": did you mean '" : "",
                           near ? near : "", near ? "'?" : "", model->output_count == 1 ? "is" : "are", all ? all : "others");
    } else if (model->output[*output].tensor < 0) {
        status = ckpt_fail(err, CKPT_MODEL, "the output '%s' cannot be computed here; choose another", name);
    }
    ckpt_pool_free(&scratch);
    return status;
}

static const ckpt_file_loss *file_loss_of(const ckpt_model *model, int output) {
    for (const ckpt_file_loss *own = model->file_loss; own; own = own->next)
        if (model->output[output].tensor == own->value && ckpt_view_count(&model->output[output]) == 1) return own;
    return NULL;
}

static bool is_computed_float(const ckpt_model *model, int output) {
    if (model->output[output].tensor < 0) return false;
    const ckpt_tensor *t = &model->graph.tensor[model->output[output].tensor];
    return t->dtype == CKPT_F32 && t->role == CKPT_ROLE_STEP;
}

/* Whether the file gives the first axis a size rather than a name. */
static bool is_fixed(const Onnx__ValueInfoProto *info) {
    const bool tensor = info->type && info->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    const Onnx__TensorShapeProto *shape = tensor ? info->type->tensor_type->shape : NULL;
    return shape && shape->n_dim > 0 && shape->dim[0]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
}

/* One number whatever the batch. Of a batch of one that is what the file says, if its batch is no number itself. */
static bool is_one_number(const ckpt_model *model, int output) {
    const ckpt_view *view = &model->output[output];
    const Onnx__GraphProto *file = model->file->model->graph;
    if (!is_computed_float(model, output) || ckpt_view_count(view) != 1) return false;
    if (view->rank == 0 || model->graph.batch > 1) return true;
    return file->n_input > 0 && !is_fixed(file->input[0]) && is_fixed(file->output[output]);
}

/* Whether an output is one number to which an input goes that goes nowhere else. */
static ckpt_status has_labels(const ckpt_model *model, int output, bool *found, ckpt_error *err) {
    *found = false;
    if (!is_one_number(model, output)) return CKPT_OK;
    const int count = ckpt_own_loss_labels(&model->graph, model->output[output].tensor, NULL, err);
    *found = count > 0;
    return count < 0 ? CKPT_NOMEM : CKPT_OK;
}

/* The output that a wish without a name means: a loss of the file where the wish leaves that open or asks for it, otherwise the
 * first that is not one number. */
static ckpt_status suggest_output(const ckpt_model *model, const ckpt_loss_wish *wish, int *output, ckpt_error *err) {
    const bool own = wish->automatic || wish->loss == CKPT_LOSS_FILE;
    int number = -1;
    *output = -1;
    for (int i = 0; i < model->output_count && own; i++)
        if (file_loss_of(model, i)) return *output = i, CKPT_OK;
    for (int i = 0; i < model->output_count; i++) {
        bool labels = false;
        if (!is_computed_float(model, i)) continue;
        if (own) CKPT_TRY(has_labels(model, i, &labels, err));
        if (labels) return *output = i, CKPT_OK;
        if (number < 0 && is_one_number(model, i)) number = i;
        if (*output < 0 && !is_one_number(model, i)) *output = i;
    }
    if (*output < 0 || (wish->loss == CKPT_LOSS_FILE && !wish->automatic && number >= 0)) *output = number;
    for (int i = 0; i < model->output_count && wish->loss == CKPT_LOSS_NONE && !wish->automatic && *output < 0; i++)
        if (model->output[i].tensor >= 0 && model->graph.tensor[model->output[i].tensor].dtype == CKPT_F32) *output = i;
    if (*output >= 0) return CKPT_OK;
    return ckpt_fail(err, CKPT_MODEL, "none of its outputs is a float tensor that the model computes");
}

/* --- other batch sizes ------------------------------------------------------------------------------ */

/* Sizes that no other axis is likely to have. */
enum { PROBE_BATCH = 1009, LARGER_PROBE_BATCH = 1013 };

/* The model up to this output at another batch size. */
static ckpt_status open_probe(const ckpt_model *model, const ckpt_model_options *options, const char *output, int64_t batch,
                              ckpt_model *probe, ckpt_error *err) {
    const ckpt_loss_wish forward = {.output = output, .loss = CKPT_LOSS_NONE};
    ckpt_model_options probing = *options;
    probing.batch = batch;
    probing.wish_count = 1;
    probing.wish = &forward;
    probing.train = probing.freeze = NULL;
    probing.dropout = 0;
    return ckpt_model_resize(model, &probing, probe, err);
}

/* How an output that is the loss adds up. A model that takes no other batch takes no parts. */
static ckpt_status find_over_batch(const ckpt_model *model, const ckpt_model_options *options, const ckpt_model_loss *loss,
                                   ckpt_over_batch *over, ckpt_error *err) {
    ckpt_model a = {0}, b = {0};
    ckpt_status status = open_probe(model, options, loss->name, PROBE_BATCH, &a, err);
    if (status == CKPT_OK) status = open_probe(model, options, loss->name, LARGER_PROBE_BATCH, &b, err);
    *over = status == CKPT_OK ? ckpt_own_loss_over_batch(&a.graph, a.graph.output[0], &b.graph, b.graph.output[0])
                              : CKPT_OVER_BATCH_OTHER;
    ckpt_model_free(&a);
    ckpt_model_free(&b);
    return status == CKPT_NOMEM ? status : CKPT_OK;
}

/* Which axis of the output counts samples, of which this batch has one; -1: it does not show. */
static ckpt_status find_axis_of_one(const ckpt_model *model, const ckpt_model_options *options, const ckpt_model_loss *loss,
                                    int *axis, ckpt_error *err) {
    ckpt_model probe = {0};
    *axis = -1;
    if (model->graph.batch != 1) return CKPT_OK;
    ckpt_status status = open_probe(model, options, loss->name, PROBE_BATCH, &probe, err);
    if (status == CKPT_OK) {
        ckpt_view view = probe.output[loss->output];
        view.tensor = probe.graph.output[0];
        status = ckpt_samples_find(&probe.graph, &view, axis, err);
    }
    ckpt_model_free(&probe);
    return status == CKPT_NOMEM ? status : CKPT_OK;
}

/* --- losses of the file ----------------------------------------------------------------------------- */

/* The input behind a loss's targets, which a Cast may have converted. */
static int find_labels(const ckpt_graph *graph, int target) {
    while (ckpt_tensor_is_step(graph, target) && graph->node[graph->tensor[target].producer].op == CKPT_OP_CAST)
        target = graph->node[graph->tensor[target].producer].in[0];
    return graph->tensor[target].role == CKPT_ROLE_INPUT ? target : -1;
}

/* Data are fed as 32-bit integers: conversions to those are passed by. */
static void narrow_labels(ckpt_graph *graph, int labels) {
    if (graph->tensor[labels].dtype != CKPT_I64) return;
    graph->tensor[labels].dtype = CKPT_I32;
    for (int n = 0; n < graph->node_count; n++) {
        const ckpt_node *cast = &graph->node[n];
        if (cast->op != CKPT_OP_CAST || cast->in[0] != labels || graph->tensor[cast->out[0]].dtype != CKPT_I32) continue;
        for (int k = 0; k < graph->node_count; k++)
            for (int i = 0; i < graph->node[k].in_count; i++)
                if (graph->node[k].in[i] == cast->out[0]) graph->node[k].in[i] = labels;
    }
}

static void drop_input(ckpt_model *model, int tensor) {
    ckpt_graph *graph = &model->graph;
    int kept = 0;
    for (int i = 0; i < graph->input_count; i++) {
        if (graph->input[i] == tensor) continue;
        model->is_label[kept] = model->is_label[i];
        graph->input[kept++] = graph->input[i];
    }
    graph->input_count = kept;
}

/* A mean by one of ours: exact in micro-batches, whatever counts in each. A LogSoftmax before NegativeLogLikelihoodLoss is
 * folded as elsewhere; a Softmax before SoftmaxCrossEntropyLoss is part of the model. */
static ckpt_status attach_mean(ckpt_model *model, const ckpt_file_loss *own, ckpt_model_loss *loss, ckpt_error *err) {
    ckpt_graph *graph = &model->graph;
    const ckpt_tail tail = ckpt_tail_find(graph, own->x.tensor);
    ckpt_view x = own->x;
    loss->loss = own->kind;
    if (own->kind == CKPT_LOSS_NLL && tail.end == CKPT_TAIL_LOGSOFTMAX && tail.spanned && ckpt_span_axis(&tail.span, &x) == 1) {
        loss->loss = CKPT_LOSS_CE;
        CKPT_TRY(ckpt_tail_undo(graph, own->x.tensor, &x.tensor, err));
    }
    const ckpt_loss_term term = {.kind = loss->loss, .class_axis = 1, .weights = own->weights, .scale = loss->scale};
    loss->target = graph->target_count;
    return ckpt_loss_attach(graph, &term, &x, err);
}

/* Trains on a loss node: its labels are the target from now on, not an input. */
static ckpt_status attach_file_loss(ckpt_model *model, const ckpt_file_loss *own, ckpt_model_loss *loss, ckpt_error *err) {
    ckpt_graph *graph = &model->graph;
    const int labels = find_labels(graph, own->target);
    if (labels < 0 || graph->tensor[labels].dtype == CKPT_F32)
        return ckpt_fail(err, CKPT_MODEL,
                         "the targets of the loss node '%s' are no input of integers; --loss ce trains on another output",
                         own->node);
    drop_input(model, labels);
    loss->labels = graph->tensor[labels].name;
    loss->classes = own->classes;
    loss->ignores = true;
    if (own->ignores) loss->ignore = own->ignore;
    loss->mean = own->mean;
    const bool ours = own->mean && (own->weights < 0 || graph->tensor[own->weights].role == CKPT_ROLE_CONST);
    loss->in_parts = ours || !own->mean;
    if (ours) { /* nothing reads the labels any more, or the nodes of the loss */
        graph->tensor[labels].role = CKPT_ROLE_STEP;
        CKPT_TRY(attach_mean(model, own, loss, err));
    } else {
        narrow_labels(graph, labels);
        graph->tensor[labels].role = CKPT_ROLE_TARGET;
        loss->loss = CKPT_LOSS_FILE;
        loss->target = graph->target_count;
        CKPT_TRY(ckpt_loss_add_target(graph, labels, err));
        CKPT_TRY(ckpt_loss_attach_own(graph, own->value, !own->mean, loss->scale, err));
    }
    loss->sentence = ckpt_pool_printf(
        &graph->pool,
        "%s over axis 1 (%" PRId64 " classes), targets '%s': class indices, ignoring %" PRId64 "%s%s (node '%s' of the file)",
        ckpt_loss_long_name(own->kind), own->classes, loss->labels, loss->ignore,
        own->weights >= 0 ? ", with the file's class weights" : "", own->mean ? "" : ", their sum", own->node);
    return loss->sentence ? CKPT_OK : no_memory(err);
}

/* What only the loss reads is not trained, or it would be by shrinking the loss itself: --train decides otherwise. */
static ckpt_status keep_constants(ckpt_model *model, const bool *is_label, ckpt_error *err) {
    ckpt_pool scratch = {0};
    bool *constant = ckpt_pool_array(&scratch, model->graph.tensor_count, bool);
    const ckpt_status status = constant ? ckpt_own_loss_constants(&model->graph, is_label, constant, err) : no_memory(err);
    for (int i = 0; status == CKPT_OK && i < model->ruling_count; i++)
        if (model->ruling[i].verdict == CKPT_VERDICT_REACHED && constant[model->ruling[i].tensor])
            model->ruling[i].verdict = CKPT_VERDICT_LOSS_CONSTANT;
    ckpt_pool_free(&scratch);
    return status;
}

/* Trains on an output that is the loss. Labels stay inputs: other nodes may make of them what they will. */
static ckpt_status attach_output(ckpt_model *model, const ckpt_model_options *options, ckpt_model_loss *loss, ckpt_error *err) {
    ckpt_graph *graph = &model->graph;
    const ckpt_view *view = &model->output[loss->output];
    const char *names = "";
    if (!is_one_number(model, loss->output))
        return ckpt_fail(err, CKPT_USAGE, "--loss output: the output '%s' is not one number for the whole batch, and no loss",
                         loss->name);
    bool *is_label = ckpt_pool_array(&graph->pool, graph->input_count + 1, bool);
    if (!is_label) return no_memory(err);
    if (ckpt_own_loss_labels(graph, view->tensor, is_label, err) < 0) return CKPT_NOMEM;
    CKPT_TRY(keep_constants(model, is_label, err));
    ckpt_over_batch over;
    CKPT_TRY(find_over_batch(model, options, loss, &over, err));
    for (int i = 0; i < graph->input_count && names; i++) {
        if (!is_label[i]) continue;
        model->is_label[i] = true;
        narrow_labels(graph, graph->input[i]);
        names =
            ckpt_pool_printf(&graph->pool, "%s%s'%s'", names, *names ? ", " : ", labels ", graph->tensor[graph->input[i]].name);
    }
    loss->loss = CKPT_LOSS_FILE;
    loss->mean = over != CKPT_OVER_BATCH_SUM;
    loss->in_parts = over != CKPT_OVER_BATCH_OTHER;
    if (names)
        loss->sentence = ckpt_pool_printf(&graph->pool, "the output '%s', which the file computes%s%s", loss->name,
                                          over == CKPT_OVER_BATCH_SUM    ? " as a sum over the batch"
                                          : over == CKPT_OVER_BATCH_MEAN ? " as a mean over the batch"
                                                                         : "",
                                          names);
    if (!loss->sentence) return no_memory(err);
    return ckpt_loss_attach_own(graph, view->tensor, !loss->mean, loss->scale, err);
}

/* --- losses on outputs ------------------------------------------------------------------------------ */

/* The class weights as a constant of the graph: ones until they are known. */
static ckpt_status add_weights(ckpt_graph *graph, const ckpt_model_options *options, const ckpt_model_loss *loss, int term,
                               int *tensor, ckpt_error *err) {
    const int64_t classes = loss->choice.classes;
    const float *given = options->data ? options->data->weights[term] : NULL;
    *tensor = -1;
    if (!options->weights) return CKPT_OK;
    if (given && options->data->weight_count[term] != classes)
        return ckpt_fail(err, CKPT_USAGE,
                         "--class-weights %s: %" PRId64 " numbers for the %" PRId64 " classes of the output '%s'",
                         options->weights, options->data->weight_count[term], classes, loss->name);
    float *values = ckpt_pool_array(&graph->pool, classes, float);
    if (!values) return no_memory(err);
    for (int64_t c = 0; c < classes; c++) values[c] = given ? given[c] : 1;
    *tensor = ckpt_graph_add_tensor(graph, NULL, CKPT_F32, CKPT_ROLE_CONST, 1, &classes, err);
    if (*tensor < 0) return CKPT_NOMEM;
    graph->tensor[*tensor].data = values;
    return CKPT_OK;
}

static ckpt_status attach_chosen(ckpt_model *model, const ckpt_model_options *options, const ckpt_loss_wish *wish, int index,
                                 ckpt_error *err) {
    ckpt_graph *graph = &model->graph;
    ckpt_model_loss *loss = &model->losses[index];
    ckpt_loss_question *q = &loss->question;
    ckpt_view prediction;
    int of_one;
    CKPT_TRY(find_axis_of_one(model, options, loss, &of_one, err));
    CKPT_TRY(ckpt_loss_ask(graph, loss->name, of_one, &model->output[loss->output], q, err));
    if (model->loss_count > 1) q->target = ckpt_pool_printf(&graph->pool, "y_%s", loss->name);
    if (!q->target) return no_memory(err);
    q->automatic = wish->automatic;
    q->loss = wish->loss;
    q->scale = wish->scale;
    q->class_axis = options->class_axis;
    q->smoothing = options->smoothing;
    q->weights = options->weights;
    q->ignore = loss->ignore;
    q->facts = options->data ? &options->data->target[index] : NULL;
    CKPT_TRY(ckpt_loss_decide(q, &loss->choice, err));
    CKPT_TRY(ckpt_loss_read(graph, q, &loss->choice, &prediction, err));
    ckpt_loss_term term = {.kind = loss->choice.loss,
                           .class_axis = loss->choice.class_axis,
                           .soft = loss->choice.soft,
                           .smoothing = q->smoothing,
                           .scale = q->scale};
    CKPT_TRY(add_weights(graph, options, loss, index, &term.weights, err));
    loss->loss = loss->choice.loss;
    loss->chosen = loss->mean = loss->in_parts = true;
    loss->classes = loss->choice.soft ? 0 : loss->choice.classes;
    loss->ignores = loss->classes > 0;
    loss->target = graph->target_count;
    return ckpt_loss_attach(graph, &term, &prediction, err);
}

static ckpt_status attach(ckpt_model *model, const ckpt_model_options *options, const ckpt_loss_wish *wish, int index,
                          ckpt_error *err) {
    ckpt_model_loss *loss = &model->losses[index];
    const ckpt_file_loss *own = file_loss_of(model, loss->output);
    const bool asked = !wish->automatic && wish->loss == CKPT_LOSS_FILE, open = asked || wish->automatic;
    bool labels = false;
    const char *extra = options->class_axis      ? "class-axis"
                        : options->smoothing > 0 ? "label-smoothing"
                        : options->weights       ? "class-weights"
                                                 : NULL;
    if (!own && open) CKPT_TRY(has_labels(model, loss->output, &labels, err));
    if (extra && open && (own || labels || asked))
        return ckpt_fail(err, CKPT_USAGE,
                         "--%s: the loss of the output '%s' is what the file computes; leave it out or choose another output",
                         extra, loss->name);
    if (own && open) return attach_file_loss(model, own, loss, err);
    if (labels || asked) return attach_output(model, options, loss, err);
    if (is_one_number(model, loss->output))
        return ckpt_fail(err, CKPT_MODEL, "the output '%s' is one number for the whole batch%s", loss->name,
                         wish->automatic ? ", and no input is labels alone: --loss output trains on it as a loss"
                                         : ": --loss output trains on it as a loss");
    return attach_chosen(model, options, wish, index, err);
}

/* --- all of them ------------------------------------------------------------------------------------ */

ckpt_status ckpt_model_describe_losses(ckpt_model *model, ckpt_error *err) {
    ckpt_pool *pool = &model->graph.pool;
    bool *read = ckpt_pool_array(pool, model->output_count + 1, bool);
    model->loss_reason = "";
    for (int i = 0; i < model->loss_count && read && model->loss_reason; i++) {
        ckpt_model_loss *loss = &model->losses[i];
        if (loss->chosen) loss->sentence = ckpt_loss_sentence(&loss->question, &loss->choice, pool);
        model->loss_reason =
            loss->sentence ? ckpt_pool_printf(pool, "%s%s%s", model->loss_reason, i ? "; plus " : "", loss->sentence) : NULL;
        read[loss->output] = true;
    }
    if (!read || !model->loss_reason) return no_memory(err);
    model->unread = list_outputs(model, read, pool);
    if (model->unread && !*model->unread) model->unread = NULL;
    return CKPT_OK;
}

static ckpt_status forward_only(ckpt_model *model, int output) {
    ckpt_graph *graph = &model->graph;
    graph->output_count = 1;
    graph->output[0] = model->output[output].tensor;
    model->loss_reason = "none";
    return CKPT_OK;
}

ckpt_status ckpt_model_attach_losses(ckpt_model *model, const ckpt_model_options *options, ckpt_error *err) {
    ckpt_graph *graph = &model->graph;
    const ckpt_loss_wish one = {.automatic = options->loss_auto, .loss = options->loss, .scale = 1};
    const ckpt_loss_wish *wish = options->wish_count ? options->wish : &one;
    const int count = options->wish_count ? options->wish_count : 1;
    model->is_label = ckpt_pool_array(&graph->pool, graph->input_count + 1, bool);
    if (!model->is_label) return no_memory(err);
    for (int i = 0; i < count; i++) {
        ckpt_model_loss *loss = &model->losses[i];
        const char *name = wish[i].output ? wish[i].output : options->output;
        *loss = (ckpt_model_loss){.scale = wish[i].scale, .target = -1, .ignore = options->ignores ? options->ignore : -100};
        CKPT_TRY(name ? find_output(model, name, &loss->output, err) : suggest_output(model, &wish[i], &loss->output, err));
        loss->name = output_name(model, loss->output);
    }
    model->prediction = model->losses[0].name;
    graph->output_count = 0; /* training reads the losses only, so the outputs may be fused away */
    if (!wish[0].automatic && wish[0].loss == CKPT_LOSS_NONE) return forward_only(model, model->losses[0].output);
    model->loss_count = count;
    for (int i = 0; i < count; i++) CKPT_TRY(attach(model, options, &wish[i], i, err));
    return ckpt_model_describe_losses(model, err);
}
