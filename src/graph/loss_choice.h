/* Which loss an output is trained with, over which of its axes, and what of the output it reads.
 *
 *     ckpt_loss_question q;
 *     ckpt_loss_ask(&graph, "logits", -1, &output, &q, &err);     // looks at the end of the model
 *     q.automatic = true; q.facts = &facts;                       // what is asked for, and what the data are like
 *     ckpt_loss_decide(&q, &choice, &err);                        // a function of the question alone: no graph is needed
 *     ckpt_loss_read(&graph, &q, &choice, &prediction, &err);     // now prediction is what the loss is to read
 *
 * The rules are a table in loss_choice.c: what the model ends in, what the targets are, and which loss that means.
 */
#ifndef CKPT_LOSS_CHOICE_H
#define CKPT_LOSS_CHOICE_H

#include "graph/loss_tail.h"

/* What the training data say of the targets. */
typedef struct ckpt_target_facts {
    bool known;                  /* false: there are no data, and the rest is not set */
    const char *name;            /* of their array */
    bool integer;                /* of type integer, or */
    bool whole;                  /* all whole numbers */
    bool zero_one;               /* all are 0 or 1, and there are both */
    int rank;
    int64_t dim[CKPT_MAX_RANK];  /* of the array: samples first */
    uint32_t one_hot;            /* bit a: along axis a there is one 1 and otherwise 0, everywhere */
    uint32_t distribution;       /* bit a: along axis a they lie between 0 and 1 and sum to 1, everywhere */
} ckpt_target_facts;

typedef struct ckpt_loss_question {
    const char *output;      /* its name in the file */
    ckpt_view shape;         /* the output, samples first */
    bool moved;              /* by a Transpose, from how the file has it; */
    bool split;              /* its first axis is the first two here: several rows of each sample */
    ckpt_tail tail;
    const char *tail_node;   /* tail.node, as messages call it */
    int64_t input_values;    /* of a sample of the first input */

    const char *target;      /* from here on the caller's: what targets are called that the data do not name */
    bool automatic;
    ckpt_loss loss;          /* unless automatic */
    int class_axis;          /* --class-axis, of the file's shape; 0: not given */
    float smoothing;
    const char *weights;     /* "balanced", a file's name: how messages call the class weights; NULL: none */
    int64_t ignore;          /* class indices of this value do not count */
    float scale;
    const ckpt_target_facts *facts; /* NULL: unknown */
} ckpt_loss_question;

/* How the loss reads the output. */
typedef enum ckpt_loss_reading {
    CKPT_READ_AS_IS,
    CKPT_READ_LOGITS,  /* what its Softmax, LogSoftmax or Sigmoid is of */
    CKPT_READ_LOG,     /* its logarithm */
    CKPT_READ_LOG_ODDS, /* log p - log(1 - p), of which p is the sigmoid */
    CKPT_READ_PAIR     /* what the Sigmoid is of, of which the output is 1 - p and p */
} ckpt_loss_reading;

typedef struct ckpt_loss_choice {
    ckpt_loss loss;
    ckpt_loss_reading reading;
    bool soft;       /* targets are probabilities of the classes */
    int class_axis;  /* of the question's shape; 0: the loss has no classes */
    int64_t classes; /* likewise */
    const char *why; /* why this loss; NULL: because of what the output ends in */
    const char *how; /* what becomes of that, or NULL */
} ckpt_loss_choice;

/* Fills in the upper half of the question; the output may get a Transpose that puts its samples first. of_one: as in
 * ckpt_samples_first. */
ckpt_status ckpt_loss_ask(ckpt_graph *graph, const char *output, int of_one, const ckpt_view *view, ckpt_loss_question *question,
                          ckpt_error *err);

/* CKPT_USAGE: the targets do not fit, or which axis has the classes does not show; CKPT_MODEL: no such loss of this output.
 * Each names the output and the remedy. */
ckpt_status ckpt_loss_decide(const ckpt_loss_question *question, ckpt_loss_choice *choice, ckpt_error *err);

/* Appends the nodes that the reading takes, if any. */
ckpt_status ckpt_loss_read(ckpt_graph *graph, const ckpt_loss_question *question, const ckpt_loss_choice *choice,
                           ckpt_view *prediction, ckpt_error *err);

/* "cross-entropy over axis 1 of 'logits' (10 classes), targets 'y': class indices, ignoring -100 (why)". In `pool`, or NULL when
 * memory runs out. */
const char *ckpt_loss_sentence(const ckpt_loss_question *question, const ckpt_loss_choice *choice, ckpt_pool *pool);
/* The parts of it: "class indices", and "y". */
const char *ckpt_loss_targets(const ckpt_loss_question *question, const ckpt_loss_choice *choice);
const char *ckpt_loss_target_name(const ckpt_loss_question *question);

/* "ce" <-> CKPT_LOSS_CE; false when unknown ("auto" is no loss). */
bool ckpt_loss_parse(const char *name, ckpt_loss *loss);
const char *ckpt_loss_name(ckpt_loss loss);
/* "cross-entropy" */
const char *ckpt_loss_long_name(ckpt_loss loss);

static inline bool ckpt_loss_has_classes(ckpt_loss loss) { return loss == CKPT_LOSS_CE || loss == CKPT_LOSS_NLL; }

#endif
