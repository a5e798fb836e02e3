/* The training loop: data in, steps under a plan, weights out. Knows neither ONNX nor which device runs.
 *
 *     ckpt_train_options options = {.exec = exec, .graph = &graph, .data = &set, ...};
 *     ckpt_train_report report;
 *     ckpt_train_run(&options, &report, &err);
 *
 * A batch of `batch` samples is run as micro-batches of graph->batch samples. The last batch of an epoch has the samples
 * that are left, and so has the last micro-batch of evaluation: the executor must have their sizes (ckpt_train_remainder),
 * and runs them as batches of their own.
 */
#ifndef CKPT_TRAIN_H
#define CKPT_TRAIN_H

#include <stdatomic.h>

#include "data/dataset.h"
#include "runtime/exec.h"

/* One training step, for logs and progress. */
typedef struct ckpt_train_event {
    int epoch;       /* from 0 */
    int64_t step;    /* from 0, over all epochs */
    int64_t steps;   /* in all, 0 when not known */
    double loss;     /* mean over the batch */
    double correct;  /* share of correct rows, or -1 when the loss has no such thing */
    double seconds;  /* of this step */
    bool epoch_end;
    double val_loss, val_accuracy; /* at the end of an epoch with validation data; else -1 */
} ckpt_train_event;

typedef struct ckpt_train_options {
    ckpt_exec *exec;
    ckpt_exec *reference; /* verify: the same graph under a plan without recomputation; NULL: do not verify */
    const ckpt_graph *graph; /* training graph */
    const ckpt_dataset *data; /* arrays: the graph's inputs in order, then its targets */
    const ckpt_dataset *validation; /* likewise, or NULL */
    int64_t batch;        /* samples of a step: a multiple of graph->batch */
    int64_t train_samples, validation_samples; /* the first so many of each epoch's order, or of `validation`; 0: all */
    int64_t epochs, steps; /* the first that is reached ends it; 0: no limit */
    float learning_rate;
    uint64_t seed;
    bool shuffle;
    const atomic_int *stop; /* not 0: finish the step and return CKPT_INTERRUPTED */
    void (*observe)(void *context, const ckpt_train_event *event); /* after each step, or NULL */
    void *context;
    const struct ckpt_train_report *resume; /* go on after it, with the tensors as that run left them; NULL: from the start */
    /* Called with nothing under way, every save_every steps or, where that is 0, after each epoch; NULL: never. What it
     * returns other than CKPT_OK ends the run. */
    ckpt_status (*save)(void *context, const struct ckpt_train_report *report, ckpt_error *err);
    int64_t save_every;
    void *save_context;
} ckpt_train_options;

typedef struct ckpt_train_report {
    int64_t steps, epochs; /* done, those of `resume` included; epochs: whole ones */
    double first_loss, last_loss;
    double accuracy;       /* of the last epoch's training samples as they were seen; -1: none */
    double val_loss, val_accuracy; /* after the last epoch; -1: none */
    double correct_rows;   /* in the epoch under way */
    int64_t counted_rows;  /* the rows that this is a part of */
    double seconds;        /* in training steps of this call, without validation */
    double step_seconds;   /* of one step in the device: the median; 0 where not known (verified, or no step) */
    int64_t samples;       /* trained on in these seconds */
    bool verified;         /* every step's gradients and loss were the same bits under both plans */
    int64_t mismatch_step; /* the first step that was not, or -1 */
} ckpt_train_report;

/* How many samples are in the last micro-batch, where that is not a whole one: else 0. A batch is whole micro-batches. */
static inline int64_t ckpt_train_remainder(int64_t samples, int64_t micro_batch) { return samples % micro_batch; }

/* CKPT_DIVERGED: the loss is NaN or infinite; CKPT_INTERRUPTED: `stop` was set, the report is complete up to there;
 * CKPT_FAILED: verification found a difference (the message says at which step). */
ckpt_status ckpt_train_run(const ckpt_train_options *options, ckpt_train_report *report, ckpt_error *err);

/* Mean loss and share of correct rows (-1: none) over the first validation_samples of `data`, or all, without dropout. */
ckpt_status ckpt_train_evaluate(const ckpt_train_options *options, const ckpt_dataset *data, double *loss,
                                double *accuracy, ckpt_error *err);

/* SHA-256 over the tensors ids[count] (float32, little-endian) as the device holds them. */
ckpt_status ckpt_train_hash(const ckpt_exec *exec, const ckpt_graph *graph, const int *ids, int count, char hash[65],
                            ckpt_error *err);

#endif
