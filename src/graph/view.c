#include "graph/build.h"

#include <inttypes.h>

ckpt_view ckpt_view_of(const ckpt_graph *graph, int tensor) {
    const ckpt_tensor *t = &graph->tensor[tensor];
    ckpt_view view = {.tensor = tensor, .rank = t->rank};
    for (int i = 0; i < t->rank; i++) view.dim[i] = t->dim[i];
    return view;
}

int64_t ckpt_view_count(const ckpt_view *view) {
    int64_t count = 1;
    for (int i = 0; i < view->rank; i++) count *= view->dim[i];
    return count;
}

/* Size of `view` along axis `axis` of a broadcast result of rank `rank`: missing leading axes are 1. */
static int64_t aligned_dim(const ckpt_view *view, int rank, int axis) {
    int own = axis - (rank - view->rank);
    return own < 0 ? 1 : view->dim[own];
}

/* Appends an axis to the geometry, merged into the one before where both operands run on through both. */
static void push_axis(ckpt_binary_attr *attr, int64_t dim, int64_t stride_a, int64_t stride_b) {
    int last = attr->rank - 1;
    if (last >= 0 && attr->stride_a[last] == stride_a * dim && attr->stride_b[last] == stride_b * dim) {
        attr->dim[last] *= dim;
        attr->stride_a[last] = stride_a;
        attr->stride_b[last] = stride_b;
        return;
    }
    attr->dim[attr->rank] = dim;
    attr->stride_a[attr->rank] = stride_a;
    attr->stride_b[attr->rank] = stride_b;
    attr->rank++;
}

ckpt_status ckpt_broadcast(const ckpt_view *a, const ckpt_view *b, ckpt_binary_attr *attr, ckpt_view *out,
                           ckpt_error *err) {
    int rank = a->rank > b->rank ? a->rank : b->rank;
    int64_t stride_a[CKPT_MAX_RANK], stride_b[CKPT_MAX_RANK], run_a = 1, run_b = 1;
    out->tensor = -1;
    out->rank = rank;
    for (int i = rank - 1; i >= 0; i--) {
        int64_t da = aligned_dim(a, rank, i), db = aligned_dim(b, rank, i);
        if (da != db && da != 1 && db != 1)
            return ckpt_fail(err, CKPT_MODEL, "sizes %" PRId64 " and %" PRId64 " along axis %d do not broadcast", da,
                             db, i);
        out->dim[i] = da == 1 ? db : da;
        stride_a[i] = da == 1 ? 0 : run_a;
        stride_b[i] = db == 1 ? 0 : run_b;
        if (da < 0 || db < 0 || (da && __builtin_mul_overflow(run_a, da, &run_a)) || (db && __builtin_mul_overflow(run_b, db, &run_b)))
            return ckpt_fail(err, CKPT_MODEL, "a size of axis %d is negative or makes it larger than any memory", i);
    }
    attr->rank = 0;
    for (int i = 0; i < rank; i++)
        if (out->dim[i] != 1) push_axis(attr, out->dim[i], stride_a[i], stride_b[i]);
    return CKPT_OK;
}
