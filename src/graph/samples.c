#include "graph/samples.h"

#include <inttypes.h>
#include <string.h>

#include "graph/op_axes.h"
#include "graph/span.h"

typedef enum answer { YES, NO, UNKNOWN } answer;

/* The samples, `inner` elements apart in a tensor, if they lie there. */
typedef struct place {
    int tensor;
    int64_t inner;
} place;

/* The places from which those of an output come: all operands of a node may have the samples. */
typedef struct trail {
    const ckpt_graph *graph;
    place *place;
    int count, capacity;
    int64_t *seen; /* by tensor: the inner of the place added last, or 0 */
} trail;

static ckpt_status start_trail(const ckpt_graph *graph, ckpt_pool *pool, trail *t, ckpt_error *err) {
    enum { PLACES_A_TENSOR = 4 };
    *t = (trail){.graph = graph, .capacity = PLACES_A_TENSOR * graph->tensor_count};
    t->place = ckpt_pool_array(pool, t->capacity, place);
    t->seen = ckpt_pool_array(pool, graph->tensor_count, int64_t);
    return t->place && t->seen ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
}

static bool add(trail *t, int tensor, int64_t inner) {
    if (t->seen[tensor] == inner) return true;
    if (t->count == t->capacity) return false;
    t->seen[tensor] = inner;
    t->place[t->count++] = (place){tensor, inner};
    return true;
}

/* Ops that leave each element where it is, whatever they compute along which axis. */
static bool keeps_places(ckpt_op op) {
    switch (op) {
    case CKPT_OP_ACT: case CKPT_OP_CAST: case CKPT_OP_LAYERNORM: case CKPT_OP_RMSNORM: case CKPT_OP_SOFTMAX: case CKPT_OP_LOGSOFTMAX:
    case CKPT_OP_BATCHNORM: case CKPT_OP_GROUPNORM: case CKPT_OP_LRN: case CKPT_OP_TRIANGLE: return true;
    default: return false;
    }
}

/* Ops of which op_axes.h lists all axes of the output: what is in none of them is torn apart, and was no axis before. */
static bool lists_all_axes(ckpt_op op) {
    switch (op) {
    case CKPT_OP_LINEAR: case CKPT_OP_MATMUL: case CKPT_OP_TRANSPOSE: case CKPT_OP_REDUCE_SUM: case CKPT_OP_REDUCE_MAX: return true;
    default: return false;
    }
}

/* Adds where a node has a place from. NO: it shows no samples itself; UNKNOWN: it may have them from where it is not followed. */
static answer follow(trail *t, const ckpt_node *node, place at) {
    if (node->out[0] != at.tensor) return UNKNOWN;
    if (keeps_places(node->op)) return add(t, node->in[0], at.inner) ? NO : UNKNOWN;
    answer result = lists_all_axes(node->op) ? NO : UNKNOWN;
    for (int i = 0; i < node->in_count; i++) {
        ckpt_op_axis axis[CKPT_MOST_OP_AXES];
        if (node->in[i] < 0) continue;
        const int count = ckpt_op_axes(t->graph, node, i, axis);
        const int64_t inner = ckpt_op_axes_back(axis, count, t->graph->batch, at.inner);
        if (!inner) continue;
        if (!add(t, node->in[i], inner)) return UNKNOWN;
        result = NO;
    }
    return result;
}

static answer look(trail *t, place at) {
    const ckpt_tensor *tensor = &t->graph->tensor[at.tensor];
    if (tensor->producer >= 0) return follow(t, &t->graph->node[tensor->producer], at);
    return tensor->role == CKPT_ROLE_INPUT && at.inner == tensor->count / t->graph->batch ? YES : NO;
}

/* Whether an axis of as many steps as there are samples, `inner` elements apart, is the first axis of an input of the model:
 * YES by any way back, NO if all ways end at something else. */
static answer counts_samples(trail *t, int tensor, int64_t inner) {
    answer result = NO;
    t->count = 0;
    memset(t->seen, 0, (size_t)t->graph->tensor_count * sizeof *t->seen);
    if (!add(t, tensor, inner)) return UNKNOWN;
    for (int i = 0; i < t->count; i++) {
        const answer here = look(t, t->place[i]);
        if (here == YES) return YES;
        if (here == UNKNOWN) result = UNKNOWN;
    }
    return result;
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
static int find_later_axis(trail *t, const ckpt_view *view, ckpt_view *seen) {
    for (int axis = 0; axis < view->rank; axis++) {
        if (!split_axis(view, axis, t->graph->batch, seen)) continue;
        const int samples = axis + (seen->rank > view->rank);
        if (counts_samples(t, view->tensor, ckpt_span_of(seen, samples).inner) == YES) return samples;
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

/* as_it_is: whether the first axis counts the samples. *axis: which does otherwise, in the view *seen, or 0. */
static ckpt_status find_samples(const ckpt_graph *graph, const ckpt_view *view, answer *as_it_is, int *axis, ckpt_view *seen,
                                ckpt_error *err) {
    ckpt_pool scratch = {0};
    trail t;
    const int64_t count = ckpt_view_count(view), batch = graph->batch;
    *as_it_is = UNKNOWN;
    *axis = batch == 1 ? axis_of_one(view) : 0;
    if (batch == 1) return CKPT_OK;
    const ckpt_status status = start_trail(graph, &scratch, &t, err);
    if (status == CKPT_OK) *as_it_is = count % batch ? NO : counts_samples(&t, view->tensor, count / batch);
    if (status == CKPT_OK && *as_it_is != YES) *axis = find_later_axis(&t, view, seen);
    ckpt_pool_free(&scratch);
    return status;
}

ckpt_status ckpt_samples_find(const ckpt_graph *graph, const ckpt_view *view, int *axis, ckpt_error *err) {
    ckpt_view seen = *view;
    answer as_it_is;
    *axis = -1;
    if (graph->batch == 1 || view->rank == 0 || ckpt_view_count(view) == 0) return CKPT_OK;
    CKPT_TRY(find_samples(graph, view, &as_it_is, axis, &seen, err));
    if (*axis == 0 ? as_it_is != YES : seen.rank != view->rank) *axis = -1;
    return CKPT_OK;
}

ckpt_status ckpt_samples_first(ckpt_graph *graph, const char *output, int of_one, ckpt_view *prediction, bool *moved,
                               bool *split, ckpt_error *err) {
    ckpt_view seen = *prediction;
    const int64_t batch = graph->batch;
    answer as_it_is;
    int axis;
    *moved = *split = false;
    if (prediction->rank == 0 || ckpt_view_count(prediction) == 0) return CKPT_OK;
    CKPT_TRY(find_samples(graph, prediction, &as_it_is, &axis, &seen, err));
    if (batch == 1 && of_one >= 0 && of_one < prediction->rank && prediction->dim[of_one] == 1) axis = of_one;
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
