#include "graph/span.h"

ckpt_span ckpt_span_of(const ckpt_view *view, int axis) {
    ckpt_span span = {.outer = 1, .size = view->dim[axis], .inner = 1};
    for (int i = 0; i < view->rank; i++)
        if (i != axis) *(i < axis ? &span.outer : &span.inner) *= view->dim[i];
    return span;
}

int ckpt_span_axis(const ckpt_span *span, const ckpt_view *view) {
    for (int i = 0; i < view->rank; i++) {
        const ckpt_span own = ckpt_span_of(view, i);
        if (own.outer == span->outer && own.size == span->size && own.inner == span->inner) return i;
    }
    return -1;
}

/* The span may be a part of an axis, as where axes have been merged: the rest of that axis stays around it. */
bool ckpt_span_transpose(const ckpt_transpose_attr *t, ckpt_span *span) {
    int64_t before = 1, behind = 1;
    int place[CKPT_MAX_RANK];
    for (int i = 0; i < t->rank; i++) {
        place[t->perm[i]] = i;
        behind *= t->dim[i];
    }
    for (int i = 0; i < t->rank; before *= t->dim[i++]) {
        if (t->dim[i] <= 0 || before <= 0) return false;
        behind /= t->dim[i];
        if (span->outer % before || span->inner % behind) continue;
        const int64_t left = span->outer / before, right = span->inner / behind;
        if (left * span->size * right != t->dim[i]) continue;
        *span = (ckpt_span){.outer = left, .size = span->size, .inner = right};
        for (int k = 0; k < t->rank; k++)
            if (k != place[i]) *(k < place[i] ? &span->outer : &span->inner) *= t->dim[t->perm[k]];
        return true;
    }
    return false;
}
