#include "runtime/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/sha256.h"
#include "base/units.h"
#include "graph/op.h"

/* What counts in a loss: items, or where its targets are classes the weights of those that are not left out. */
typedef struct loss_counter {
    const ckpt_node *node;
    int64_t items_per_sample;
    size_t array;   /* of the data: its targets, */
    bool classes;   /* if they are class numbers */
    float *weight;  /* by class, or NULL for ones */
} loss_counter;

/* What counts in a batch. */
typedef struct batch_count {
    double denominator[CKPT_MAX_TARGETS];
    int64_t rows; /* of which a correct one can be counted; 0: the losses count none */
} batch_count;

/* What a run holds on the host: everything is allocated before the first step. */
typedef struct trainer {
    const ckpt_train_options *options;
    const ckpt_graph *graph;
    int loss_count;
    loss_counter loss[CKPT_MAX_TARGETS];
    ckpt_pool pool;
    uint32_t *order;       /* training samples in this epoch's order */
    uint32_t *identity;    /* 0, 1, ... for evaluation */
    int buffers;           /* of the device's inputs: with more than one, steps are started ahead of their results */
    int64_t fed;           /* micro-batches so far, training or not: they take the buffers in turn */
    int64_t started;       /* training steps */
    void *pinned;          /* what `staging` and `result` lie in */
    void **staging;        /* by buffer and dataset array: one micro-batch as the device wants it */
    double *result;        /* two a buffer */
    void *gathered;        /* a micro-batch of one array as the dataset has it */
    double *step_seconds;  /* of the last TIMED steps, in turn */
    int64_t timed;         /* how many there were */
    double marked;         /* when the step that is to finish next began, as far as can be seen from here */
} trainer;

/* Steps that the median is of; the first ones of a run are slower. */
enum { TIMED = 1024, WARM = 3 };

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int device_tensor(const trainer *tr, size_t array) {
    const size_t inputs = (size_t)tr->graph->input_count;
    return array < inputs ? tr->graph->input[array] : tr->graph->target[array - inputs];
}

static int64_t epoch_samples(const ckpt_train_options *o) {
    return o->train_samples ? o->train_samples : (int64_t)o->data->samples;
}

static ckpt_status check_data(const trainer *tr, const ckpt_dataset *data, ckpt_error *err) {
    const int64_t batch = tr->graph->batch;
    for (size_t a = 0; a < data->array_count; a++) {
        const ckpt_tensor *t = &tr->graph->tensor[device_tensor(tr, a)];
        if ((int64_t)data->arrays[a].values * batch != t->count)
            return ckpt_fail(err, CKPT_USAGE, "the data array '%s' has %llu values a sample; the model's '%s' takes %lld",
                             data->arrays[a].name, (unsigned long long)data->arrays[a].values, t->name,
                             (long long)(t->count / batch));
    }
    return CKPT_OK;
}

enum { STAGING_ALIGNMENT = 64 };

/* What a micro-batch of the array takes beside the device's own memory: nothing where that can be written in place. */
static uint64_t staged_bytes(const trainer *tr, size_t array) {
    const int tensor = device_tensor(tr, array);
    if (ckpt_exec_input(tr->options->exec, tensor)) return 0;
    return ckpt_align_up(ckpt_tensor_bytes(&tr->graph->tensor[tensor]), STAGING_ALIGNMENT);
}

/* One block that the device can read from and write to while it works. */
static ckpt_status make_staging(trainer *tr, size_t arrays, ckpt_error *err) {
    uint64_t batch = 0, used = 0;
    for (size_t a = 0; a < arrays; a++) batch += staged_bytes(tr, a);
    tr->buffers = ckpt_exec_buffers(tr->options->exec);
    tr->staging = ckpt_pool_array(&tr->pool, (size_t)tr->buffers * arrays, void *);
    if (!tr->staging) return ckpt_fail(err, CKPT_NOMEM, "out of host memory for a batch");
    CKPT_TRY(ckpt_exec_pin(tr->options->exec, (uint64_t)tr->buffers * (batch + STAGING_ALIGNMENT), &tr->pinned, err));
    for (size_t i = 0; i < (size_t)tr->buffers * arrays; i++) {
        void *in_place = ckpt_exec_input(tr->options->exec, device_tensor(tr, i % arrays));
        tr->staging[i] = in_place ? in_place : (char *)tr->pinned + used;
        used += staged_bytes(tr, i % arrays);
    }
    tr->result = (double *)((char *)tr->pinned + used);
    return CKPT_OK;
}

/* Whether the device takes the array's values in the type that they have. */
static bool goes_as_it_is(const trainer *tr, const ckpt_array *array, size_t index) {
    return array->type == CKPT_ARRAY_F32 && tr->graph->tensor[device_tensor(tr, index)].dtype == CKPT_F32;
}

static ckpt_status make_room(trainer *tr, ckpt_error *err) {
    const ckpt_train_options *o = tr->options;
    const ckpt_dataset *sets[2] = {o->data, o->validation};
    size_t widest = 0, longest = 0;
    for (int s = 0; s < 2; s++) {
        if (!sets[s]) continue;
        CKPT_TRY(check_data(tr, sets[s], err));
        if (sets[s]->samples > longest) longest = (size_t)sets[s]->samples;
        for (size_t a = 0; a < sets[s]->array_count; a++) {
            const size_t bytes = goes_as_it_is(tr, &sets[s]->arrays[a], a) ? 0 : ckpt_array_sample_bytes(&sets[s]->arrays[a]);
            if (bytes > widest) widest = bytes;
        }
    }
    tr->order = ckpt_pool_array(&tr->pool, longest, uint32_t);
    tr->identity = ckpt_pool_array(&tr->pool, longest, uint32_t);
    tr->gathered = ckpt_pool_alloc(&tr->pool, (size_t)tr->graph->batch, widest);
    tr->step_seconds = ckpt_pool_array(&tr->pool, TIMED, double);
    if (!tr->order || !tr->identity || !tr->gathered || !tr->step_seconds)
        return ckpt_fail(err, CKPT_NOMEM, "out of host memory for a batch");
    for (size_t i = 0; i < longest; i++) tr->identity[i] = tr->order[i] = (uint32_t)i;
    return make_staging(tr, o->data->array_count, err);
}

/* A class as the device has it. */
static int32_t staged_class(const ckpt_array *array, int64_t class) {
    return array->has_ignore && class == array->ignore ? -1 : (int32_t)class;
}

/* Adds what counts in a loss whose targets are classes: `samples` of them. */
static void count_classes(trainer *tr, const loss_counter *loss, const ckpt_array *array, const uint32_t *order, int64_t samples,
                          batch_count *count) {
    const int64_t *whole = tr->gathered, classes = loss->node->attr.loss.classes;
    ckpt_array_gather(array, order, (size_t)samples, tr->gathered);
    for (int64_t i = 0; i < samples * loss->items_per_sample; i++) {
        const int32_t class = staged_class(array, whole[i]);
        if (class < 0) continue;
        count->denominator[loss->node->attr.loss.term] += loss->weight && class < classes ? (double)loss->weight[class] : 1;
        count->rows++;
    }
}

/* What counts in samples order[0 .. samples) of the data: the means are over all of them, however many parts they run in. */
static void count_batch(trainer *tr, const ckpt_dataset *data, const uint32_t *order, int64_t samples, batch_count *count) {
    const int64_t micro = tr->graph->batch;
    *count = (batch_count){0};
    for (int l = 0; l < tr->loss_count; l++) {
        const loss_counter *loss = &tr->loss[l];
        const ckpt_loss kind = loss->node->attr.loss.kind;
        for (int64_t begin = 0; begin < samples && loss->classes; begin += micro)
            count_classes(tr, loss, &data->arrays[loss->array], order + begin, samples - begin < micro ? samples - begin : micro,
                          count);
        if (loss->classes) continue;
        count->denominator[loss->node->attr.loss.term] = (double)(samples * loss->items_per_sample);
        if (kind == CKPT_LOSS_CE || kind == CKPT_LOSS_BCE) count->rows += samples * loss->items_per_sample;
    }
}

/* One array of a micro-batch of `count` samples in the device's type. */
static void stage_array(trainer *tr, const ckpt_array *array, const ckpt_tensor *tensor, const uint32_t *order,
                        int64_t count, void *staged) {
    const size_t values = (size_t)count * array->values;
    if (array->type == CKPT_ARRAY_F32 && tensor->dtype == CKPT_F32) {
        ckpt_array_gather(array, order, (size_t)count, staged);
        return;
    }
    ckpt_array_gather(array, order, (size_t)count, tr->gathered);
    const int64_t *whole = tr->gathered;
    if (tensor->dtype == CKPT_F32)
        for (size_t i = 0; i < values; i++) ((float *)staged)[i] = (float)whole[i];
    else
        for (size_t i = 0; i < values; i++) ((int32_t *)staged)[i] = staged_class(array, whole[i]);
}

/* The next micro-batch into the next buffer: staged while the device works on the one before. */
static ckpt_status feed_batch(trainer *tr, const ckpt_dataset *data, const uint32_t *order, int64_t count, ckpt_exec *second,
                              int *buffer, ckpt_error *err) {
    ckpt_exec *const execs[2] = {tr->options->exec, second};
    const int b = *buffer = (int)(tr->fed++ % tr->buffers);
    void **staging = tr->staging + (size_t)b * data->array_count;
    for (int e = 0; e < 2 && execs[e]; e++) CKPT_TRY(ckpt_exec_fed(execs[e], b, err));
    for (size_t a = 0; a < data->array_count; a++)
        stage_array(tr, &data->arrays[a], &tr->graph->tensor[device_tensor(tr, a)], order, count, staging[a]);
    for (int e = 0; e < 2 && execs[e]; e++) {
        CKPT_TRY(ckpt_exec_use(execs[e], count, err));
        for (size_t a = 0; a < data->array_count; a++)
            CKPT_TRY(ckpt_exec_feed(execs[e], b, device_tensor(tr, a), staging[a], err));
    }
    return CKPT_OK;
}

/* Runs a micro-batch under the plan and, when verifying, without recomputation; their bits must agree. */
static ckpt_status run_verified(trainer *tr, const ckpt_scalars *s, bool first, bool last, bool *same, ckpt_error *err) {
    const ckpt_train_options *o = tr->options;
    char hash[2][65];
    double result[2][2];
    CKPT_TRY(ckpt_exec_train_hashed(o->exec, s, first, last, hash[0], err));
    CKPT_TRY(ckpt_exec_train_hashed(o->reference, s, first, last, hash[1], err));
    CKPT_TRY(ckpt_exec_result(o->exec, result[0], err));
    CKPT_TRY(ckpt_exec_result(o->reference, result[1], err));
    *same = memcmp(hash[0], hash[1], sizeof hash[0]) == 0 && memcmp(result[0], result[1], sizeof result[0]) == 0;
    return CKPT_OK;
}

/* A step that was started and whose result has been asked for. */
typedef struct flight {
    int64_t step, count; /* samples; 0: none */
    int64_t rows;        /* of which a correct one is counted */
    int result;          /* which of trainer.result it comes to */
    double seconds;      /* in the device, where it works while it is waited for */
} flight;

/* Starts one training step over samples order[0 .. count). */
static ckpt_status start_step(trainer *tr, const uint32_t *order, int64_t count, ckpt_train_report *report, flight *f,
                              ckpt_error *err) {
    const ckpt_train_options *o = tr->options;
    const int64_t micro = tr->graph->batch, parts = (count + micro - 1) / micro;
    batch_count counted;
    count_batch(tr, o->data, order, count, &counted);
    *f = (flight){.step = tr->started++, .count = count, .rows = counted.rows};
    f->result = (int)(f->step % tr->buffers);
    for (int64_t p = 0; p < parts; p++) {
        const int64_t begin = p * micro, samples = count - begin < micro ? count - begin : micro;
        ckpt_scalars scalars = {.seed = o->seed, .step = (uint32_t)f->step, .learning_rate = o->learning_rate,
                                .first_sample = begin};
        memcpy(scalars.denominator, counted.denominator, sizeof scalars.denominator);
        CKPT_TRY(feed_batch(tr, o->data, order + begin, samples, o->reference, &scalars.input_buffer, err));
        if (!o->reference) {
            const double start = now_seconds();
            CKPT_TRY(ckpt_exec_train(o->exec, &scalars, p == 0, p == parts - 1, err));
            f->seconds += now_seconds() - start;
            continue;
        }
        bool same;
        CKPT_TRY(run_verified(tr, &scalars, p == 0, p == parts - 1, &same, err));
        if (!same) {
            report->verified = false;
            report->mismatch_step = f->step;
            return ckpt_fail(err, CKPT_FAILED, "step %lld: gradients under the plan differ from those without recomputation",
                             (long long)f->step);
        }
    }
    return ckpt_exec_post_result(o->exec, f->result, tr->result + 2 * f->result, err);
}

ckpt_status ckpt_train_hash(const ckpt_exec *exec, const ckpt_graph *graph, const int *ids, int count, char hash[65],
                            ckpt_error *err) {
    uint64_t most = 0;
    for (int i = 0; i < count; i++)
        if (ckpt_tensor_bytes(&graph->tensor[ids[i]]) > most) most = ckpt_tensor_bytes(&graph->tensor[ids[i]]);
    ckpt_pool scratch = {0};
    void *values = ckpt_pool_alloc(&scratch, (size_t)most, 1);
    ckpt_status status = values ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    ckpt_sha256 sum;
    ckpt_sha256_start(&sum);
    for (int i = 0; status == CKPT_OK && i < count; i++) {
        status = ckpt_exec_get(exec, ids[i], values, err);
        if (status == CKPT_OK) ckpt_sha256_add(&sum, values, (size_t)ckpt_tensor_bytes(&graph->tensor[ids[i]]));
    }
    if (status == CKPT_OK) ckpt_sha256_hex(&sum, hash);
    ckpt_pool_free(&scratch);
    return status;
}

static ckpt_status evaluate(trainer *tr, const ckpt_dataset *data, double *loss, double *accuracy, ckpt_error *err) {
    const int64_t micro = tr->graph->batch, some = tr->options->validation_samples, count = some ? some : (int64_t)data->samples;
    batch_count counted;
    count_batch(tr, data, tr->identity, count, &counted);
    for (int64_t begin = 0; begin < count; begin += micro) {
        const int64_t samples = count - begin < micro ? count - begin : micro;
        ckpt_scalars scalars = {.seed = tr->options->seed, .first_sample = begin};
        memcpy(scalars.denominator, counted.denominator, sizeof scalars.denominator);
        CKPT_TRY(feed_batch(tr, data, tr->identity + begin, samples, NULL, &scalars.input_buffer, err));
        CKPT_TRY(ckpt_exec_evaluate(tr->options->exec, &scalars, begin == 0, err));
    }
    double result[2];
    CKPT_TRY(ckpt_exec_result(tr->options->exec, result, err));
    *loss = result[0];
    *accuracy = counted.rows ? result[1] / (double)counted.rows : -1;
    return CKPT_OK;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of whole steps, without the first few where there are more. */
static double step_seconds(trainer *tr) {
    const int64_t warm = tr->timed > 2 * WARM && tr->timed <= TIMED ? WARM : 0;
    const int64_t count = (tr->timed < TIMED ? tr->timed : TIMED) - warm;
    if (count < 1) return 0;
    double *from = tr->step_seconds + warm;
    qsort(from, (size_t)count, sizeof *from, ascending);
    return count % 2 ? from[count / 2] : (from[count / 2 - 1] + from[count / 2]) / 2;
}

static void finish(trainer *tr) {
    ckpt_exec_unpin(tr->options->exec, tr->pinned);
    ckpt_pool_free(&tr->pool);
}

/* What counting what counts takes of each loss; class weights as the device has them. */
static ckpt_status find_losses(trainer *tr, ckpt_error *err) {
    const ckpt_graph *g = tr->graph;
    for (int n = 0; n < g->forward_count; n++) {
        const ckpt_node *node = &g->node[n];
        if (node->op != CKPT_OP_LOSS) continue;
        loss_counter *loss = &tr->loss[tr->loss_count++];
        *loss = (loss_counter){.node = node, .items_per_sample = ckpt_loss_items(node) / g->batch,
                               .classes = ckpt_loss_takes_classes(node)};
        if (!loss->classes) continue;
        while (device_tensor(tr, loss->array) != node->in[1]) loss->array++;
        if (node->in_count < 3) continue;
        loss->weight = ckpt_pool_array(&tr->pool, node->attr.loss.classes, float);
        if (!loss->weight) return ckpt_fail(err, CKPT_NOMEM, "out of host memory for class weights");
        CKPT_TRY(ckpt_exec_get(tr->options->exec, node->in[2], loss->weight, err));
    }
    return CKPT_OK;
}

static ckpt_status start(trainer *tr, const ckpt_train_options *options, ckpt_error *err) {
    *tr = (trainer){.options = options, .graph = options->graph};
    CKPT_TRY(find_losses(tr, err));
    return make_room(tr, err);
}

ckpt_status ckpt_train_evaluate(const ckpt_train_options *options, const ckpt_dataset *data, double *loss,
                                double *accuracy, ckpt_error *err) {
    trainer tr;
    ckpt_train_options own = *options;
    own.data = data;
    own.validation = NULL;
    ckpt_status status = start(&tr, &own, err);
    if (status == CKPT_OK) status = evaluate(&tr, data, loss, accuracy, err);
    finish(&tr);
    return status;
}

/* Waits for a step's result and counts it; divergence shows here. */
static ckpt_status finish_step(trainer *tr, const flight *f, ckpt_train_report *report, ckpt_train_event *event,
                               ckpt_error *err) {
    const double *result = tr->result + 2 * f->result;
    CKPT_TRY(ckpt_exec_posted(tr->options->exec, f->result, err));
    const double now = now_seconds();
    event->step = f->step;
    event->seconds = now - tr->marked;
    tr->marked = now;
    if (!tr->options->reference && f->count == tr->options->batch)
        tr->step_seconds[tr->timed++ % TIMED] = tr->buffers > 1 ? event->seconds : f->seconds;
    if (report->steps == 0) report->first_loss = result[0];
    report->last_loss = event->loss = result[0];
    report->seconds += event->seconds;
    report->samples += f->count;
    report->steps++;
    report->correct_rows += result[1];
    report->counted_rows += f->rows;
    if (report->counted_rows) report->accuracy = report->correct_rows / (double)report->counted_rows;
    event->correct = f->rows ? result[1] / (double)f->rows : -1;
    if (isfinite(result[0])) return CKPT_OK;
    return ckpt_fail(err, CKPT_DIVERGED, "the loss is %s at step %lld; lower --lr or look for extreme values in the data",
                     isnan(result[0]) ? "NaN" : "infinite", (long long)f->step);
}

/* A NaN in a layer need not reach the loss: where a kernel's ReLU makes it 0, that layer's weights stay NaN unseen. So what
 * is about to be saved or reported is looked at; a gradient that was not finite has made its weight so too. */
static ckpt_status check_weights(const trainer *tr, const ckpt_train_report *report, ckpt_error *err) {
    const ckpt_graph *g = tr->graph;
    ckpt_pool scratch = {0};
    ckpt_status status = CKPT_OK;
    for (int n = g->forward_count; n < g->node_count && status == CKPT_OK; n++) {
        const int t = g->node[n].out[0];
        if (g->node[n].phase != CKPT_UPDATE || g->tensor[t].role != CKPT_ROLE_PARAM) continue;
        float *values = ckpt_pool_alloc(&scratch, (size_t)ckpt_tensor_bytes(&g->tensor[t]), 1);
        status = values ? ckpt_exec_get(tr->options->exec, t, values, err) : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
        for (int64_t i = 0; i < g->tensor[t].count && status == CKPT_OK; i++)
            if (!isfinite(values[i]))
                status = ckpt_fail(err, CKPT_DIVERGED,
                                   "a weight of '%s' is %s at step %lld; lower --lr or look for extreme values in the data",
                                   g->tensor[t].name, isnan(values[i]) ? "NaN" : "infinite", (long long)report->steps);
        ckpt_pool_free(&scratch);
    }
    return status;
}

/* The last step of an epoch or of the run: nothing is under way behind it. */
static ckpt_status close_epoch(trainer *tr, const flight *f, bool stopped, ckpt_train_report *report, ckpt_train_event *event,
                               ckpt_error *err) {
    const ckpt_train_options *o = tr->options;
    CKPT_TRY(finish_step(tr, f, report, event, err));
    if (event->epoch_end) report->epochs++;
    if (o->validation && !stopped) {
        CKPT_TRY(evaluate(tr, o->validation, &event->val_loss, &event->val_accuracy, err));
        report->val_loss = event->val_loss;
        report->val_accuracy = event->val_accuracy;
    }
    if (o->observe) o->observe(o->context, event);
    tr->marked = now_seconds();
    return CKPT_OK;
}

/* Where the device has a second input buffer a step is started before the result of the one before it is waited for,
 * so the device always has work; `stop` and divergence are then seen a step later. first: the sample to begin at. */
static ckpt_status run_epoch(trainer *tr, int epoch, int64_t first, ckpt_train_report *report, bool *done, ckpt_error *err) {
    const ckpt_train_options *o = tr->options;
    const int64_t samples = epoch_samples(o);
    const ckpt_train_event blank = {.epoch = epoch, .steps = o->steps, .val_loss = -1, .val_accuracy = -1};
    flight before = {0}, now;
    if (first == 0) report->correct_rows = 0, report->counted_rows = 0;
    tr->marked = now_seconds();
    if (o->shuffle) ckpt_shuffle(tr->order, (uint32_t)o->data->samples, o->seed, (uint32_t)epoch);
    for (int64_t begin = first; begin < samples && !*done; begin += o->batch) {
        const int64_t count = samples - begin < o->batch ? samples - begin : o->batch;
        ckpt_train_event event = blank;
        CKPT_TRY(start_step(tr, tr->order + begin, count, report, &now, err));
        if (before.count) {
            CKPT_TRY(finish_step(tr, &before, report, &event, err));
            if (o->observe) o->observe(o->context, &event);
            event = blank;
        }
        before = (flight){0};
        const bool stopped = o->stop && *o->stop;
        event.epoch_end = begin + count == samples;
        *done = (o->steps && tr->started >= o->steps) || stopped;
        const bool save = o->save && (o->save_every ? tr->started % o->save_every == 0 : event.epoch_end);
        if (event.epoch_end || *done) {
            CKPT_TRY(close_epoch(tr, &now, stopped, report, &event, err));
        } else if (tr->buffers > 1 && !save) {
            before = now;
        } else {
            CKPT_TRY(finish_step(tr, &now, report, &event, err));
            if (o->observe) o->observe(o->context, &event);
            tr->marked = now_seconds();
        }
        if (save) {
            CKPT_TRY(check_weights(tr, report, err));
            CKPT_TRY(o->save(o->save_context, report, err));
            tr->marked = now_seconds();
        }
        if (stopped) return ckpt_fail(err, CKPT_INTERRUPTED, "interrupted after step %lld", (long long)report->steps);
    }
    return CKPT_OK;
}

ckpt_status ckpt_train_run(const ckpt_train_options *options, ckpt_train_report *report, ckpt_error *err) {
    trainer tr;
    const ckpt_train_report blank = {.accuracy = -1, .val_loss = -1, .val_accuracy = -1};
    const int64_t in_epoch = (epoch_samples(options) + options->batch - 1) / options->batch;
    *report = options->resume ? *options->resume : blank;
    report->epochs = report->steps / in_epoch;
    report->seconds = report->step_seconds = 0;
    report->samples = 0;
    report->verified = options->reference != NULL;
    report->mismatch_step = -1;
    ckpt_status status = start(&tr, options, err);
    tr.started = report->steps;
    bool done = options->steps && report->steps >= options->steps;
    while (status == CKPT_OK && !done && (!options->epochs || report->epochs < options->epochs))
        status = run_epoch(&tr, (int)(report->steps / in_epoch), report->steps % in_epoch * options->batch, report, &done, err);
    report->step_seconds = tr.step_seconds ? step_seconds(&tr) : 0;
    if (status == CKPT_OK || status == CKPT_INTERRUPTED) {
        ckpt_error diverged;
        const ckpt_status checked = check_weights(&tr, report, &diverged);
        if (checked != CKPT_OK) status = checked, *err = diverged;
    }
    finish(&tr);
    return status;
}
