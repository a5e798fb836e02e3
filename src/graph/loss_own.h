/* A loss that the file computes by ordinary nodes: one number for the whole batch, (logits - y)^2 and its mean, say.
 *
 *     if (ckpt_own_loss_labels(&graph, loss, is_label, &err) > 0) ...  // some input is nothing but labels
 *     switch (ckpt_own_loss_over_batch(&a, loss, &b, loss)) ...      // what becomes of it in micro-batches
 */
#ifndef CKPT_LOSS_OWN_H
#define CKPT_LOSS_OWN_H

#include "graph/graph.h"

/* Which inputs the loss depends on without any layer of the model in between: no product of what is made of them with a
 * tensor of the file. is_label: by index in graph.input, or NULL. Returns how many, or -1 when memory runs out. */
int ckpt_own_loss_labels(const ckpt_graph *graph, int loss, bool *is_label, ckpt_error *err);

/* Which tensors of the file only the loss reads, not the model: weights of its terms and the factor of a penalty. Nodes of the
 * loss are those that reach none made of an input without labels. constant: by tensor. */
ckpt_status ckpt_own_loss_constants(const ckpt_graph *graph, const bool *is_label, bool *constant, ckpt_error *err);

/* How the loss of a batch follows from the losses of its parts. */
typedef enum ckpt_over_batch {
    CKPT_OVER_BATCH_MEAN, /* their mean by samples; what is the same for any batch, as a penalty on weights is, counts once */
    CKPT_OVER_BATCH_SUM,  /* their sum */
    CKPT_OVER_BATCH_OTHER /* not at all, as far as can be seen: a quotient of two sums, say */
} ckpt_over_batch;

/* Of the loss at two batch sizes, which the model has for no other axis: a factor of one over the batch may be that of a mean,
 * a number that the file computes from a shape, or just one that equals it, and only a second size tells. */
ckpt_over_batch ckpt_own_loss_over_batch(const ckpt_graph *graph, int loss, const ckpt_graph *larger, int larger_loss);

#endif
