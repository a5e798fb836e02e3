/* What a model computes last: logits, probabilities or just values. The loss depends on it.
 *
 *     const ckpt_tail tail = ckpt_tail_find(&graph, view.tensor);
 *     if (tail.end == CKPT_TAIL_SOFTMAX && tail.spanned) axis = ckpt_span_axis(&tail.span, &view);
 *     ckpt_tail_undo(&graph, view.tensor, &logits, &err);
 *
 * Views make no node and do not move a span, and transpositions are followed, so that a Softmax is found behind any of them
 * together with the axis it runs over (span.h). Nothing is found behind a node that changes values: Clip(Softmax(x)) is
 * probabilities and no Softmax.
 */
#ifndef CKPT_LOSS_TAIL_H
#define CKPT_LOSS_TAIL_H

#include "graph/span.h"

typedef enum ckpt_tail_end {
    CKPT_TAIL_OTHER,
    CKPT_TAIL_LINEAR,       /* a product, or a sum of two tensors */
    CKPT_TAIL_FUNCTION,     /* an element function */
    CKPT_TAIL_SOFTMAX,      /* from here on nothing but views and transpositions behind it */
    CKPT_TAIL_LOGSOFTMAX,   /* or the logarithm of a Softmax */
    CKPT_TAIL_SIGMOID,
    CKPT_TAIL_PAIR,         /* a Sigmoid's p as the pair 1 - p, p, as scikit-learn's binary classifiers answer */
    CKPT_TAIL_PROBABILITIES, /* a Softmax's values after something that leaves them between 0 and 1 */
    CKPT_TAIL_LOG,          /* the logarithm of those */
    CKPT_TAIL_CHANGED,      /* a Softmax's values after something that does not */
    CKPT_TAIL_CHANCES,      /* a Sigmoid's values after something that keeps them apart from 0 and 1 */
    CKPT_TAIL_EDGES,        /* or only within them: in float32 a Sigmoid is 1 from 17 on */
    CKPT_TAIL_COUNT
} ckpt_tail_end;

typedef struct ckpt_tail {
    ckpt_tail_end end;
    bool spanned;       /* SOFTMAX, LOGSOFTMAX: it runs over one run of axes, */
    ckpt_span span;     /* which is this one of the tensor */
    double least, most; /* SOFTMAX, SIGMOID, PROBABILITIES, CHANCES, EDGES: no value is below or above */
    bool positive;      /* and none is 0, but by rounding */
    int node;           /* the one that makes it so: the Softmax, or what has changed its values; -1 */
    int pair;           /* PAIR: the tensor of p */
} ckpt_tail;

ckpt_tail ckpt_tail_find(const ckpt_graph *graph, int tensor);

/* What the Softmax, LogSoftmax or Sigmoid at the end is of, transposed as the output is: *before, a tensor. */
ckpt_status ckpt_tail_undo(ckpt_graph *graph, int tensor, int *before, ckpt_error *err);

#endif
