/* Two tables: RULES say which loss an output and its targets mean, READINGS what that loss reads of the output. Both are read
 * from the top, and the first row that fits decides. */
#include "graph/loss_choice.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "graph/samples.h"

/* What the targets are, compared with the output's shape. */
typedef enum target_kind {
    UNKNOWN, /* no data */
    CLASSES, /* integers, one where the output has all classes */
    ONE_HOT, /* of the output's shape: a class each, */
    SOFT,    /* or probabilities of the classes */
    BINARY,  /* 0 and 1, for an output of one column */
    NUMBERS, /* of the output's shape */
    MISFIT   /* of no shape that suits the output */
} target_kind;

#define BIT(kind) (1u << (kind))
#define TAIL(name) BIT(CKPT_TAIL_##name)
enum {
    ANY = ~0u >> 1,
    SOFTMAXES = TAIL(SOFTMAX) | TAIL(LOGSOFTMAX) | TAIL(PROBABILITIES) | TAIL(LOG) | TAIL(PAIR),
    FREE = TAIL(LINEAR) | TAIL(OTHER),
    OF_SHAPE = BIT(ONE_HOT) | BIT(SOFT) | BIT(BINARY) | BIT(NUMBERS)
};

static const struct {
    unsigned tails, targets; /* any of these */
    bool few_columns;        /* and the output is a row of 2 to 1000, other than the input's */
    ckpt_loss loss;
    const char *why; /* NULL: because the output ends in what it ends in */
} rules[] = {
    {TAIL(PAIR), BIT(UNKNOWN) | BIT(CLASSES), false, CKPT_LOSS_BCE, NULL},
    {SOFTMAXES, ANY, false, CKPT_LOSS_CE, NULL},
    {TAIL(SIGMOID) | TAIL(CHANCES), BIT(UNKNOWN) | OF_SHAPE, false, CKPT_LOSS_BCE, NULL},
    {ANY, BIT(CLASSES), false, CKPT_LOSS_CE, "the targets are integers, taken as classes"},
    {FREE, BIT(ONE_HOT), false, CKPT_LOSS_CE, "the targets are one-hot; --loss mse takes them as numbers"},
    {FREE, BIT(SOFT), false, CKPT_LOSS_CE, "the targets are probabilities that sum to 1; --loss mse takes them as numbers"},
    {FREE, BIT(BINARY), false, CKPT_LOSS_BCE, "one column, and the targets are all 0 or 1; --loss mse takes them as numbers"},
    {ANY, OF_SHAPE, false, CKPT_LOSS_MSE, "the targets are numbers of the output's shape"},
    {TAIL(LINEAR), BIT(UNKNOWN), true, CKPT_LOSS_CE, "its output is linear with a few columns, taken as logits of classes"},
    {ANY, ANY, false, CKPT_LOSS_MSE, "its output looks like values, not like classes"},
};

static const char *const ends_in[CKPT_TAIL_COUNT] = {[CKPT_TAIL_OTHER] = "values",
                                                     [CKPT_TAIL_LINEAR] = "a linear layer",
                                                     [CKPT_TAIL_FUNCTION] = "an element function",
                                                     [CKPT_TAIL_SOFTMAX] = "a Softmax",
                                                     [CKPT_TAIL_LOGSOFTMAX] = "a LogSoftmax",
                                                     [CKPT_TAIL_SIGMOID] = "a Sigmoid",
                                                     [CKPT_TAIL_PAIR] = "a Sigmoid's p with 1 - p beside it",
                                                     [CKPT_TAIL_PROBABILITIES] = "probabilities of classes",
                                                     [CKPT_TAIL_LOG] = "logarithms of probabilities",
                                                     [CKPT_TAIL_CHANGED] = "a Softmax whose values are changed",
                                                     [CKPT_TAIL_CHANCES] = "probabilities",
                                                     [CKPT_TAIL_EDGES] = "probabilities"};

/* over_classes: 1 where the Softmax runs over just the classes of the loss, 0 where not, -1 either. */
static const struct {
    unsigned losses, tails;
    int over_classes;
    ckpt_loss_reading reading;
    ckpt_loss becomes; /* with targets that are class indices */
    const char *how;
} readings[] = {
    {BIT(CKPT_LOSS_CE), TAIL(SOFTMAX) | TAIL(LOGSOFTMAX), 1, CKPT_READ_LOGITS, CKPT_LOSS_CE, "which is folded into the loss"},
    {BIT(CKPT_LOSS_NLL), TAIL(LOGSOFTMAX), 1, CKPT_READ_LOGITS, CKPT_LOSS_CE, "which is folded into the loss"},
    {BIT(CKPT_LOSS_CE), TAIL(SOFTMAX), 0, CKPT_READ_LOG, CKPT_LOSS_NLL,
     "which does not run over the classes alone: the logarithm of its probabilities is taken"},
    {BIT(CKPT_LOSS_CE), TAIL(LOGSOFTMAX), 0, CKPT_READ_AS_IS, CKPT_LOSS_NLL,
     "which does not run over the classes alone: its values are taken as they are"},
    {BIT(CKPT_LOSS_CE), TAIL(PROBABILITIES) | TAIL(PAIR), -1, CKPT_READ_LOG, CKPT_LOSS_NLL, "of which the logarithm is taken"},
    {BIT(CKPT_LOSS_CE), TAIL(LOG), -1, CKPT_READ_AS_IS, CKPT_LOSS_NLL, "which are taken as they are"},
    {BIT(CKPT_LOSS_CE), TAIL(SIGMOID) | TAIL(CHANCES) | TAIL(EDGES) | TAIL(CHANGED), -1, CKPT_READ_AS_IS, CKPT_LOSS_CE,
     "taken as it is for logits"},
    {BIT(CKPT_LOSS_BCE), TAIL(SIGMOID), -1, CKPT_READ_LOGITS, CKPT_LOSS_BCE, "which is folded into the loss"},
    {BIT(CKPT_LOSS_BCE), TAIL(PAIR), -1, CKPT_READ_PAIR, CKPT_LOSS_BCE, "which is folded into the loss"},
    {BIT(CKPT_LOSS_BCE), TAIL(CHANCES), -1, CKPT_READ_LOG_ODDS, CKPT_LOSS_BCE, "which are taken as they are"},
};

/* --- names ------------------------------------------------------------------------------------------ */

static const struct {
    const char *name, *text;
} losses[] = {[CKPT_LOSS_NONE] = {"none", "none"},
              [CKPT_LOSS_CE] = {"ce", "cross-entropy"},
              [CKPT_LOSS_BCE] = {"bce", "binary cross-entropy"},
              [CKPT_LOSS_MSE] = {"mse", "mean squared error"},
              [CKPT_LOSS_NLL] = {"nll", "negative log-likelihood"},
              [CKPT_LOSS_FILE] = {"output", "the output itself"}};

bool ckpt_loss_parse(const char *name, ckpt_loss *loss) {
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++)
        if (strcmp(name, losses[i].name) == 0) {
            *loss = (ckpt_loss)i;
            return true;
        }
    return false;
}

const char *ckpt_loss_name(ckpt_loss loss) {
    return losses[loss].name;
}
const char *ckpt_loss_long_name(ckpt_loss loss) {
    return losses[loss].text;
}

/* --- targets and shapes ----------------------------------------------------------------------------- */

static int64_t sample_values(int rank, const int64_t *dim) {
    int64_t count = 1;
    for (int i = 1; i < rank; i++) count *= dim[i];
    return count;
}

/* Axes that may hold the classes: the one behind the batch, as PyTorch has them, the last one, and a Softmax's. */
static uint32_t class_axes(const ckpt_loss_question *q) {
    const ckpt_view *shape = &q->shape;
    const int first = 1 + q->split;
    uint32_t axes = 0;
    if (q->class_axis) return 1u << (q->class_axis + q->split);
    const int softmax = q->tail.spanned ? ckpt_span_axis(&q->tail.span, shape) : -1;
    for (int a = first; a < shape->rank; a++)
        if (shape->dim[a] >= 2 && (a == first || a == shape->rank - 1 || a == softmax)) axes |= 1u << a;
    return axes;
}

/* Whether the output's shape without the axis is that of the targets, but for axes of size 1. */
static bool is_shape_without(const ckpt_view *shape, int axis, const ckpt_target_facts *facts) {
    int t = 1;
    for (int i = 1; i < shape->rank; i++) {
        if (i == axis || shape->dim[i] == 1) continue;
        while (t < facts->rank && facts->dim[t] == 1) t++;
        if (t == facts->rank || facts->dim[t++] != shape->dim[i]) return false;
    }
    while (t < facts->rank && facts->dim[t] == 1) t++;
    return t >= facts->rank;
}

/* The axes that leave the targets' shape, or else their number of values. */
static uint32_t axes_left_out(const ckpt_loss_question *q) {
    uint32_t by_shape = 0, by_count = 0;
    const int64_t values = sample_values(q->shape.rank, q->shape.dim), targets = sample_values(q->facts->rank, q->facts->dim);
    for (int a = 1; a < q->shape.rank; a++) {
        if (!(class_axes(q) >> a & 1)) continue;
        if (is_shape_without(&q->shape, a, q->facts)) by_shape |= 1u << a;
        if (targets * q->shape.dim[a] == values) by_count |= 1u << a;
    }
    return by_shape ? by_shape : by_count;
}

/* Those of the possible axes along which the targets, of as many values as the output, have a property by axis. */
static uint32_t axes_that_are(const ckpt_loss_question *q, uint32_t property) {
    ckpt_view seen = {.rank = q->facts->rank};
    uint32_t axes = 0;
    memcpy(seen.dim, q->facts->dim, sizeof seen.dim);
    seen.dim[0] = q->shape.dim[0];
    for (int a = 1; a < q->shape.rank; a++) {
        const ckpt_span span = ckpt_span_of(&q->shape, a);
        const int own = class_axes(q) >> a & 1 ? ckpt_span_axis(&span, &seen) : -1;
        if (own > 0 && property >> own & 1) axes |= 1u << a;
    }
    return axes;
}

static bool is_one_column(const ckpt_view *shape) {
    return sample_values(shape->rank, shape->dim) == 1 || shape->dim[1] == 1 || (shape->rank == 3 && shape->dim[2] == 1);
}

/* *axes: those that the targets allow to hold the classes. */
static target_kind kind_of_targets(const ckpt_loss_question *q, uint32_t *axes) {
    const ckpt_target_facts *f = q->facts;
    *axes = class_axes(q);
    if (!f || !f->known) return UNKNOWN;
    if (sample_values(f->rank, f->dim) != sample_values(q->shape.rank, q->shape.dim)) {
        *axes = axes_left_out(q);
        return (f->whole || q->tail.end == CKPT_TAIL_PAIR) && *axes ? CLASSES : MISFIT; /* p of a pair may be a float */
    }
    if ((*axes = axes_that_are(q, f->one_hot)) != 0) return ONE_HOT;
    if ((*axes = axes_that_are(q, f->distribution)) != 0) return SOFT;
    *axes = class_axes(q);
    return f->zero_one && is_one_column(&q->shape) ? BINARY : NUMBERS;
}

/* One of several axes: a Softmax's, or, without data, PyTorch's for images and the last one for rows of tokens. */
static ckpt_status choose_axis(const ckpt_loss_question *q, target_kind kind, uint32_t axes, int *axis, ckpt_error *err) {
    const int softmax = q->tail.spanned ? ckpt_span_axis(&q->tail.span, &q->shape) : -1;
    const int last = q->shape.rank - 1, first = 1 + q->split;
    const int usual = last - first == 1 && axes >> last & 1 ? last : first;
    *axis = 0;
    if (softmax > 0 && axes >> softmax & 1)
        *axis = softmax;
    else if ((axes & (axes - 1)) == 0)
        *axis = axes ? __builtin_ctz(axes) : 0;
    else if (kind == UNKNOWN || kind == NUMBERS || kind == MISFIT)
        *axis = axes >> usual & 1 ? usual : __builtin_ctz(axes);
    else
        return ckpt_fail(err, CKPT_USAGE,
                         "the classes of the output '%s' may lie along axis %d or axis %d: the targets fit both; give "
                         "--class-axis %d or %d",
                         q->output, 1, last - q->split, 1, last - q->split);
    return CKPT_OK;
}

/* --- the choice ------------------------------------------------------------------------------------- */

static bool has_few_columns(const ckpt_loss_question *q) {
    const int64_t cols = q->shape.rank - q->split == 2 ? q->shape.dim[q->shape.rank - 1] : 0;
    return cols >= 2 && cols <= 1000 && cols != q->input_values;
}

/* An option that is of cross-entropy alone, or NULL. */
static const char *class_option(const ckpt_loss_question *q) {
    return q->class_axis ? "--class-axis" : q->smoothing > 0 ? "--label-smoothing" : q->weights ? "--class-weights" : NULL;
}

static void apply_rules(const ckpt_loss_question *q, target_kind kind, ckpt_loss_choice *choice) {
    size_t r = 0;
    if (kind == UNKNOWN && class_option(q) && q->tail.end != CKPT_TAIL_SIGMOID) {
        choice->loss = CKPT_LOSS_CE;
        choice->why = class_option(q);
        return;
    }
    while (!(rules[r].tails & BIT(q->tail.end)) || !(rules[r].targets & BIT(kind)) ||
           (rules[r].few_columns && !has_few_columns(q)))
        r++;
    choice->loss = rules[r].loss;
    choice->why = rules[r].why;
}

static const char *shape_text(int rank, const int64_t *dim, char text[128]) {
    ckpt_tensor like = {.rank = rank};
    memcpy(like.dim, dim, (size_t)rank * sizeof *dim);
    return ckpt_shape_text(&like, text);
}

const char *ckpt_loss_target_name(const ckpt_loss_question *q) {
    return q->facts && q->facts->known ? q->facts->name : q->target;
}

/* "as asked for", "it ends in a Softmax". */
static const char *reason(const ckpt_loss_question *q, const ckpt_loss_choice *choice, char text[96]) {
    if (choice->why) return choice->why;
    snprintf(text, 96, "it ends in %s", ends_in[q->tail.end]);
    return text;
}

/* The data are at fault, or what is asked of them. */
static ckpt_status refuse_targets(const ckpt_loss_question *q, const ckpt_loss_choice *choice, target_kind kind,
                                  ckpt_error *err) {
    char shape[128], output[128], takes[96], why[96];
    const ckpt_target_facts *f = q->facts;
    const bool classes = ckpt_loss_has_classes(choice->loss), index_shaped = kind == MISFIT && classes && axes_left_out(q);
    const char *remedy = classes && kind != MISFIT
                             ? "y.argmax(1) makes class indices of scores, --loss mse takes the values as they are"
                         : index_shaped    ? "save classes with astype(np.int64)"
                         : kind == CLASSES ? "--loss ce takes them as classes"
                                           : "give targets of that shape, or choose another output with --output";
    if (classes)
        snprintf(takes, sizeof takes, "class indices or rows of probabilities that sum to 1");
    else
        snprintf(takes, sizeof takes, "%" PRId64 " number%s a sample", sample_values(q->shape.rank, q->shape.dim),
                 sample_values(q->shape.rank, q->shape.dim) == 1 ? "" : "s");
    return ckpt_fail(err, CKPT_USAGE,
                     "the targets '%s' are %s of shape %s; the loss of the output '%s' of shape %s, %s (%s), takes %s: %s",
                     ckpt_loss_target_name(q),
                     kind == ONE_HOT ? "one-hot"
                     : f->integer    ? "integers"
                                     : "floats",
                     shape_text(f->rank, f->dim, shape), q->output, shape_text(q->shape.rank, q->shape.dim, output),
                     losses[choice->loss].text, reason(q, choice, why), takes, remedy);
}

static ckpt_status check_targets(const ckpt_loss_question *q, target_kind kind, ckpt_loss_choice *choice, ckpt_error *err) {
    const bool indices = kind == UNKNOWN || kind == CLASSES;
    if (ckpt_loss_has_classes(choice->loss)) {
        choice->soft = choice->loss == CKPT_LOSS_CE && (kind == ONE_HOT || kind == SOFT);
        return indices || choice->soft ? CKPT_OK : refuse_targets(q, choice, kind, err);
    }
    if (choice->loss == CKPT_LOSS_BCE && q->tail.end == CKPT_TAIL_PAIR && indices) return CKPT_OK;
    return kind == CLASSES || kind == MISFIT ? refuse_targets(q, choice, kind, err) : CKPT_OK;
}

static ckpt_status check_classes(const ckpt_loss_question *q, ckpt_loss_choice *choice, ckpt_error *err) {
    if (!ckpt_loss_has_classes(choice->loss)) {
        choice->class_axis = 0;
        char why[96];
        const char *given = class_option(q);
        return !given ? CKPT_OK
                      : ckpt_fail(err, CKPT_USAGE,
                                  "%s is for cross-entropy, and the loss of the output '%s' is %s (%s); leave it "
                                  "out or give --loss ce",
                                  given, q->output, losses[choice->loss].text, reason(q, choice, why));
    }
    if (choice->class_axis == 0)
        return ckpt_fail(err, CKPT_MODEL, "%s needs an output with at least 2 classes along an axis; use --loss bce or mse",
                         losses[choice->loss].text);
    choice->classes = q->shape.dim[choice->class_axis];
    return CKPT_OK;
}

/* The row of `readings`, and what it makes of the loss. Negative log-likelihood takes class indices alone: soft or smoothed
 * labels take cross-entropy of the logarithms, which is the same where the probabilities sum to 1 and normalizes them, as
 * Keras does, where they do not. */
static ckpt_status apply_readings(const ckpt_loss_question *q, ckpt_loss_choice *choice, ckpt_error *err) {
    const int over = q->tail.spanned && choice->class_axis > 0 && ckpt_span_axis(&q->tail.span, &q->shape) == choice->class_axis;
    for (size_t r = 0; r < sizeof readings / sizeof *readings; r++) {
        if (!(readings[r].losses & BIT(choice->loss)) || !(readings[r].tails & BIT(q->tail.end)) ||
            (readings[r].over_classes >= 0 && readings[r].over_classes != over))
            continue;
        choice->reading = readings[r].reading;
        if (!choice->soft && q->smoothing == 0) choice->loss = readings[r].becomes;
        choice->how = readings[r].how;
        break;
    }
    if (choice->reading == CKPT_READ_LOG && !q->tail.positive)
        return ckpt_fail(err, CKPT_MODEL,
                         "%s makes probabilities of the output '%s' 0, which have no logarithm; train on what its "
                         "Softmax is of, or with --loss mse",
                         q->tail_node, q->output);
    if (choice->loss == CKPT_LOSS_BCE && q->tail.end == CKPT_TAIL_EDGES)
        return ckpt_fail(err, CKPT_MODEL,
                         "%s does not keep the probabilities of the output '%s' from being 0 or 1, which binary "
                         "cross-entropy needs; train on what its Sigmoid is of, or with --loss mse",
                         q->tail_node, q->output);
    if (q->automatic && choice->loss == CKPT_LOSS_CE && q->tail.end == CKPT_TAIL_CHANGED)
        return ckpt_fail(err, CKPT_MODEL,
                         "the output '%s' is a Softmax whose values %s changes: neither logits nor probabilities; "
                         "--loss ce takes them for logits all the same, --loss mse as numbers",
                         q->output, q->tail_node);
    return CKPT_OK;
}

ckpt_status ckpt_loss_decide(const ckpt_loss_question *q, ckpt_loss_choice *choice, ckpt_error *err) {
    uint32_t axes;
    *choice = (ckpt_loss_choice){.loss = q->loss, .why = "as asked for"};
    if (q->class_axis + q->split >= q->shape.rank)
        return ckpt_fail(err, CKPT_USAGE, "--class-axis %d: the output '%s' has %d axes, counted from 0", q->class_axis,
                         q->output, q->shape.rank - q->split);
    const target_kind kind = kind_of_targets(q, &axes);
    if (q->automatic) apply_rules(q, kind, choice);
    CKPT_TRY(check_targets(q, kind, choice, err));
    if (ckpt_loss_has_classes(choice->loss)) CKPT_TRY(choose_axis(q, kind, axes, &choice->class_axis, err));
    CKPT_TRY(check_classes(q, choice, err));
    return apply_readings(q, choice, err);
}

/* --- carrying it out -------------------------------------------------------------------------------- */

static int64_t first_input_values(const ckpt_graph *graph) {
    return graph->input_count ? graph->tensor[graph->input[0]].count / graph->batch : 0;
}

ckpt_status ckpt_loss_ask(ckpt_graph *graph, const char *output, int of_one, const ckpt_view *view, ckpt_loss_question *q,
                          ckpt_error *err) {
    *q = (ckpt_loss_question){.output = output, .shape = *view, .target = "y", .scale = 1, .ignore = -100};
    CKPT_TRY(ckpt_samples_first(graph, output, of_one, &q->shape, &q->moved, &q->split, err));
    q->tail = ckpt_tail_find(graph, q->shape.tensor);
    /* The pair is p and 1 - p of a sample each; of any other shape it is just probabilities. */
    const bool pair = q->tail.end == CKPT_TAIL_PAIR && q->shape.rank == 2 && q->shape.dim[1] == 2 &&
                      graph->tensor[q->tail.pair].count * 2 == ckpt_view_count(&q->shape);
    if (q->tail.end == CKPT_TAIL_PAIR && !pair) q->tail.end = CKPT_TAIL_PROBABILITIES;
    const ckpt_node *node = q->tail.node >= 0 ? &graph->node[q->tail.node] : NULL;
    q->tail_node = !node ? "" : node->origin ? node->origin : ckpt_pool_printf(&graph->pool, "node '%s'", node->name);
    if (!q->tail_node) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    q->input_values = first_input_values(graph);
    return CKPT_OK;
}

static ckpt_status take_function(ckpt_graph *graph, ckpt_act act, float alpha, float beta, const ckpt_view *x, ckpt_view *y,
                                 ckpt_error *err) {
    const ckpt_epilogue epilogue = {.act = act, .alpha = alpha, .beta = beta};
    return ckpt_build_act(graph, NULL, &epilogue, x, y, err);
}

/* log p - log(1 - p) */
static ckpt_status take_log_odds(ckpt_graph *graph, ckpt_view *x, ckpt_error *err) {
    ckpt_view rest, log, log_rest;
    CKPT_TRY(take_function(graph, CKPT_ACT_SCALE, -1, 1, x, &rest, err));
    CKPT_TRY(take_function(graph, CKPT_ACT_LOG, 0, 0, x, &log, err));
    CKPT_TRY(take_function(graph, CKPT_ACT_LOG, 0, 0, &rest, &log_rest, err));
    return ckpt_build_binary(graph, NULL, CKPT_BINARY_SUB, &log, &log_rest, x, err);
}

ckpt_status ckpt_loss_read(ckpt_graph *graph, const ckpt_loss_question *q, const ckpt_loss_choice *choice, ckpt_view *prediction,
                           ckpt_error *err) {
    const ckpt_view shape = *prediction = q->shape;
    switch (choice->reading) {
    case CKPT_READ_AS_IS:
        return CKPT_OK;
    case CKPT_READ_LOGITS:
        return ckpt_tail_undo(graph, shape.tensor, &prediction->tensor, err);
    case CKPT_READ_LOG:
        return take_function(graph, CKPT_ACT_LOG, 0, 0, &shape, prediction, err);
    case CKPT_READ_LOG_ODDS:
        return take_log_odds(graph, prediction, err);
    case CKPT_READ_PAIR:
        prediction->dim[1] = 1;
        return ckpt_tail_undo(graph, q->tail.pair, &prediction->tensor, err);
    }
    return CKPT_OK;
}

/* --- what is said ----------------------------------------------------------------------------------- */

const char *ckpt_loss_targets(const ckpt_loss_question *q, const ckpt_loss_choice *choice) {
    const ckpt_target_facts *f = q->facts;
    uint32_t axes;
    if (!f || !f->known)
        return ckpt_loss_has_classes(choice->loss) ? "class indices" : choice->loss == CKPT_LOSS_BCE ? "0 to 1" : "numbers";
    const target_kind kind = kind_of_targets(q, &axes);
    if (choice->soft) return kind == SOFT ? "probabilities of classes" : f->integer ? "one-hot integers" : "one-hot";
    if (ckpt_loss_has_classes(choice->loss)) return f->integer ? "class indices" : "class indices, saved as floats";
    return f->integer ? "integers" : "floats";
}

const char *ckpt_loss_sentence(const ckpt_loss_question *q, const ckpt_loss_choice *choice, ckpt_pool *pool) {
    char over[96] = "", options[256] = "", why[96], how[224] = "";
    size_t n = 0;
    if (choice->class_axis > 0)
        snprintf(over, sizeof over, " over axis %d of", choice->class_axis - q->split);
    else
        snprintf(over, sizeof over, " of");
    if (choice->class_axis > 0 && !choice->soft) n += (size_t)snprintf(options, sizeof options, ", ignoring %" PRId64, q->ignore);
    if (q->smoothing > 0) n += (size_t)snprintf(options + n, sizeof options - n, ", label smoothing %g", (double)q->smoothing);
    if (q->weights) n += (size_t)snprintf(options + n, sizeof options - n, ", class weights %.80s", q->weights);
    if (q->scale != 1) snprintf(options + n, sizeof options - n, ", times %g", (double)q->scale);
    const bool said = choice->how && choice->why;
    if (choice->how)
        snprintf(how, sizeof how, "%s%s, %s", said ? "; it ends in " : "", said ? ends_in[q->tail.end] : "", choice->how);
    char classes[48] = "";
    if (choice->classes) snprintf(classes, sizeof classes, " (%" PRId64 " classes)", choice->classes);
    return ckpt_pool_printf(pool, "%s%s '%s'%s%s, targets '%s': %s%s (%s%s)", losses[choice->loss].text, over, q->output,
                            q->moved ? ", its samples put first" : "", classes, ckpt_loss_target_name(q),
                            ckpt_loss_targets(q, choice), options, reason(q, choice, why), how);
}
