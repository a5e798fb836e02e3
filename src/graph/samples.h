/* Which axis of an output counts the samples.
 *
 *     ckpt_samples_first(&graph, "logits", -1, &prediction, &moved, &split, &err);   // moved: [T,N,C] has become [N,T,C]
 *
 * A loss compares the first sample of the output with the first target. Sizes alone do not say which axis that is: [T,N,C] has
 * as many values, and T may be N. So the axis is followed from the output back to the model's input (span.h), of which the
 * first axis is the batch.
 */
#ifndef CKPT_SAMPLES_H
#define CKPT_SAMPLES_H

#include "graph/build.h"

/* The axis of the view that is shown to count the samples, or -1: none, or a part of one. Of a batch of one any axis of size 1
 * looks like it: ask a graph of a larger batch, which no other axis has. */
ckpt_status ckpt_samples_find(const ckpt_graph *graph, const ckpt_view *view, int *axis, ckpt_error *err);

/* Makes the first axis of the view count the samples: by a Transpose where it is another axis that leads back to them (*moved),
 * and as [batch, rows, ...] where the first axis has several rows of each sample (*split). of_one: where it is in a batch of one, as
 * found in a larger one, or -1. CKPT_MODEL: it is not the first, and
 * which one it is does not show; names the output and the remedy. */
ckpt_status ckpt_samples_first(ckpt_graph *graph, const char *output, int of_one, ckpt_view *prediction, bool *moved,
                               bool *split, ckpt_error *err);

#endif
