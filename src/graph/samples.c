#include "graph/samples.h"

#include <inttypes.h>
#include <stdio.h>

#include "graph/span.h"

typedef enum answer { YES, NO, UNKNOWN } answer;

/* Whether the span of a tensor is the first axis of an input of the model. */
static answer counts_samples(const ckpt_graph *graph, int tensor, ckpt_span span) {
    while (graph->tensor[tensor].producer >= 0) {
        const ckpt_span_way way = ckpt_span_back(graph, &graph->node[graph->tensor[tensor].producer], &span, &tensor);
        if (way != CKPT_SPAN_FOUND) return way == CKPT_SPAN_TORN ? NO : UNKNOWN;
    }
    if (graph->tensor[tensor].role != CKPT_ROLE_INPUT) return UNKNOWN;
    return span.outer == 1 ? YES : NO;
}

/* The view with its axis `axis` split into a part in front of the samples and the samples, if it is such a product. */
static bool split_axis(const ckpt_view *view, int axis, int64_t batch, ckpt_view *split) {
    const int64_t before = view->dim[axis] / batch;
    if (view->dim[axis] % batch || before < 1 || (axis == 0 && before == 1) || (before > 1 && view->rank == CKPT_MAX_RANK))
        return false;
    *split = *view;
    split->dim[axis] = batch;
    if (before == 1) return true;
    split->rank++;
    for (int i = split->rank - 1; i > axis; i--) split->dim[i] = view->dim[i - 1];
    split->dim[axis] = before;
    split->dim[axis + 1] = batch;
    return true;
}

/* A view of which another axis than the first is proved to count the samples, and that axis; 0: there is none. */
static int find_later_axis(const ckpt_graph *graph, const ckpt_view *view, ckpt_view *seen) {
    for (int axis = 0; axis < view->rank; axis++) {
        if (!split_axis(view, axis, graph->batch, seen)) continue;
        const int samples = axis + (seen->rank > view->rank);
        if (counts_samples(graph, view->tensor, ckpt_span_of(seen, samples)) == YES) return samples;
    }
    return 0;
}

static ckpt_status refuse(const char *output, const ckpt_view *view, int64_t batch, ckpt_error *err) {
    char shape[128];
    ckpt_tensor like = {.rank = view->rank};
    for (int i = 0; i < like.rank; i++) like.dim[i] = view->dim[i];
    return ckpt_fail(err, CKPT_MODEL,
                     "the first axis of the output '%s' of shape %s does not count the samples, of which there are %" PRId64
                     "; end the model with a Transpose that puts the batch first",
                     output, ckpt_shape_text(&like, shape), batch);
}

static ckpt_status move_first(ckpt_graph *graph, const ckpt_view *seen, int axis, ckpt_view *prediction, ckpt_error *err) {
    int perm[CKPT_MAX_RANK];
    for (int i = 0; i < seen->rank; i++) perm[i] = i == 0 ? axis : i <= axis ? i - 1 : i;
    return ckpt_build_transpose(graph, NULL, seen, perm, prediction, err);
}

/* Of a batch of one any axis of size 1 will do; it is where the axis of larger batches lies that counts. */
static int axis_of_one(const ckpt_view *view) {
    for (int a = 1; a < view->rank && view->rank > 2 && view->dim[0] > 1; a++)
        if (view->dim[a] == 1) return a;
    return 0;
}

ckpt_status ckpt_samples_first(ckpt_graph *graph, const char *output, ckpt_view *prediction, bool *moved, bool *split,
                               ckpt_error *err) {
    ckpt_view seen = *prediction;
    *moved = *split = false;
    const int64_t count = ckpt_view_count(prediction), batch = graph->batch;
    if (prediction->rank == 0 || count == 0) return CKPT_OK;
    const ckpt_span first = {.outer = 1, .size = batch, .inner = count / batch};
    const answer as_it_is = batch == 1 ? UNKNOWN : count % batch ? NO : counts_samples(graph, prediction->tensor, first);
    const int axis = as_it_is == YES ? 0 : batch == 1 ? axis_of_one(prediction) : find_later_axis(graph, prediction, &seen);
    *moved = axis > 0;
    if (*moved) return move_first(graph, &seen, axis, prediction, err);
    if (as_it_is == NO || prediction->dim[0] % batch) return refuse(output, prediction, batch, err);
    if (prediction->dim[0] == batch || prediction->rank == CKPT_MAX_RANK) return CKPT_OK;
    *split = true;
    for (int i = prediction->rank++; i > 1; i--) prediction->dim[i] = prediction->dim[i - 1];
    prediction->dim[1] = prediction->dim[0] / batch;
    prediction->dim[0] = batch;
    return CKPT_OK;
}
