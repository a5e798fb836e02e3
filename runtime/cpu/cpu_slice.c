/* SLICE, PLACE and CONCAT: bytes moved; a PLACE that is a gradient adds to a sum. */
#include <string.h>

#include "cpu/cpu_kernels.h"

typedef struct slice_kernel {
    ckpt_slice_attr geometry;
    int64_t rows, whole_count; /* runs of the part's last axis; elements of the whole */
    size_t element_bytes;
    const char *from, *sum;
    char *to;
} slice_kernel;

/* Where run `row` of the part begins in the whole. */
static int64_t locate(const ckpt_slice_attr *g, int64_t row) {
    int64_t at = g->start[g->rank - 1], stride = g->whole[g->rank - 1];
    for (int i = g->rank - 2; i >= 0; i--) {
        at += (g->start[i] + row % g->part[i] * g->step[i]) * stride;
        stride *= g->whole[i];
        row /= g->part[i];
    }
    return at;
}

static void slice_body(const void *context, int64_t begin, int64_t end) {
    const slice_kernel *k = context;
    const int last = k->geometry.rank - 1;
    const int64_t n = k->geometry.part[last], step = k->geometry.step[last];
    const size_t size = k->element_bytes;
    for (int64_t r = begin; r < end; r++) {
        const char *from = k->from + locate(&k->geometry, r) * (int64_t)size;
        char *to = k->to + r * n * (int64_t)size;
        if (step == 1) {
            memcpy(to, from, (size_t)n * size);
            continue;
        }
        for (int64_t i = 0; i < n; i++) memcpy(to + i * (int64_t)size, from + i * step * (int64_t)size, size);
    }
}

static void place_body(const void *context, int64_t begin, int64_t end) {
    const slice_kernel *k = context;
    const int last = k->geometry.rank - 1;
    const int64_t n = k->geometry.part[last], step = k->geometry.step[last];
    const size_t size = k->element_bytes;
    for (int64_t r = begin; r < end; r++) {
        const char *from = k->from + r * n * (int64_t)size;
        char *to = k->to + locate(&k->geometry, r) * (int64_t)size;
        if (k->sum) {
            const float *x = (const float *)(const void *)from;
            float *y = (float *)(void *)to;
            for (int64_t i = 0; i < n; i++) y[i * step] += x[i];
        } else if (step == 1) {
            memcpy(to, from, (size_t)n * size);
        } else {
            for (int64_t i = 0; i < n; i++) memcpy(to + i * step * (int64_t)size, from + i * (int64_t)size, size);
        }
    }
}

/* What lies outside of the part: the sum so far, or the fill. */
static void ground_body(const void *context, int64_t begin, int64_t end) {
    const slice_kernel *k = context;
    const int64_t size = (int64_t)k->element_bytes;
    if (k->sum) {
        memcpy(k->to + begin * size, k->sum + begin * size, (size_t)((end - begin) * size));
    } else if (k->geometry.value == 0) {
        memset(k->to + begin * size, 0, (size_t)((end - begin) * size));
    } else {
        float *y = (float *)(void *)k->to;
        for (int64_t i = begin; i < end; i++) y[i] = k->geometry.value;
    }
}

static int64_t row_grain(const slice_kernel *k) { return ckpt_cpu_row_grain(k->geometry.part[k->geometry.rank - 1]); }

static void slice_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const slice_kernel *k = self;
    ckpt_cpu_for(k->rows, row_grain(k), slice_body, k);
}

static void place_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const slice_kernel *k = self;
    if (k->sum != k->to) ckpt_cpu_for(k->whole_count, CKPT_CPU_GRAIN, ground_body, k);
    ckpt_cpu_for(k->rows, row_grain(k), place_body, k);
}

static ckpt_status bind_slice(const ckpt_bind *bind, void (*run)(const void *, const ckpt_scalars *), int whole,
                              slice_kernel **kernel, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_dtype type = bind->graph->tensor[bind->node->out[0]].dtype;
    const ckpt_slice_attr *given = &bind->node->attr.slice;
    if (given->fill != CKPT_FILL_CONSTANT || (given->value != 0 && type != CKPT_F32))
        return ckpt_fail(err, CKPT_MODEL, "node '%s': the CPU pads floats with a constant and other types with 0 only",
                         bind->node->name ? bind->node->name : "?");
    slice_kernel *k = *kernel = ckpt_cpu_launch(bind, sizeof *k, run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->geometry = ckpt_slice_merged(given);
    k->rows = 1;
    for (int i = 0; i < k->geometry.rank - 1; i++) k->rows *= k->geometry.part[i];
    if (k->geometry.part[k->geometry.rank - 1] == 0) k->rows = 0;
    k->whole_count = bind->graph->tensor[whole].count;
    k->element_bytes = (size_t)ckpt_dtype_bytes(type);
    k->from = bind->in[0];
    k->to = bind->out[0];
    return CKPT_OK;
}

ckpt_status ckpt_cpu_slice(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    slice_kernel *k;
    CKPT_TRY(ckpt_cpu_require(bind, 1, 1, err));
    return bind_slice(bind, slice_run, bind->node->in[0], &k, launch, err);
}

ckpt_status ckpt_cpu_place(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    slice_kernel *k;
    CKPT_TRY(ckpt_cpu_require(bind, 1, 1, err));
    CKPT_TRY(bind_slice(bind, place_run, bind->node->out[0], &k, launch, err));
    k->sum = bind->node->in_count > 1 ? bind->in[1] : NULL;
    return CKPT_OK;
}

/* CONCAT: outer x (shares one after the other) x inner. */
typedef struct concat_kernel {
    int count;
    int64_t outer, row_bytes;
    char *to;
    struct {
        const char *from;
        int64_t bytes; /* of an outer */
    } input[];
} concat_kernel;

static void concat_body(const void *context, int64_t begin, int64_t end) {
    const concat_kernel *k = context;
    for (int64_t o = begin; o < end; o++) {
        char *to = k->to + o * k->row_bytes;
        for (int i = 0; i < k->count; i++) {
            if (k->input[i].bytes) memcpy(to, k->input[i].from + o * k->input[i].bytes, (size_t)k->input[i].bytes);
            to += k->input[i].bytes;
        }
    }
}

static void concat_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const concat_kernel *k = self;
    ckpt_cpu_for(k->outer, ckpt_cpu_row_grain(k->row_bytes / 4), concat_body, k);
}

ckpt_status ckpt_cpu_concat(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const int count = bind->node->in_count;
    CKPT_TRY(ckpt_cpu_require(bind, count, 1, err));
    concat_kernel *k = ckpt_cpu_launch(bind, sizeof *k + sizeof k->input[0] * (size_t)count, concat_run, launch, err);
    if (!k) return CKPT_NOMEM;
    const int64_t outer = bind->node->attr.axis.outer;
    const int64_t size = (int64_t)ckpt_dtype_bytes(bind->graph->tensor[bind->node->out[0]].dtype);
    k->count = count;
    k->outer = outer;
    k->to = bind->out[0];
    for (int i = 0; i < count; i++) {
        k->input[i].from = bind->in[i];
        k->input[i].bytes = outer > 0 ? ckpt_cpu_in_count(bind, i) / outer * size : 0;
        k->row_bytes += k->input[i].bytes;
    }
    return CKPT_OK;
}
