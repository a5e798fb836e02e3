#include "cpu/cpu_kernels.h"

/* An ID that ops.def does not have fails to compile; a second row for an op is a compiler warning. */
static const ckpt_bind_kernel kernels[CKPT_OP_COUNT] = {
#define X(ID, name) [CKPT_OP_##ID] = ckpt_cpu_##name,
#include "cpu/kernels.def"
#undef X
};

bool ckpt_cpu_supports(ckpt_op op) { return (unsigned)op < CKPT_OP_COUNT && kernels[op]; }

static ckpt_status refuse(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    (void)launch;
    return ckpt_fail(err, CKPT_MODEL, "node '%s': the CPU has no kernel for its operator",
                     bind->node->name ? bind->node->name : "?");
}

ckpt_bind_kernel ckpt_cpu_kernel(ckpt_op op) { return ckpt_cpu_supports(op) ? kernels[op] : refuse; }

void *ckpt_cpu_launch(const ckpt_bind *bind, size_t size,
                      void (*run)(const void *self, const ckpt_scalars *scalars), ckpt_launch *launch,
                      ckpt_error *err) {
    void *self = ckpt_pool_alloc(bind->pool, 1, size);
    if (!self) {
        ckpt_fail(err, CKPT_NOMEM, "no memory to bind node '%s'", bind->node->name ? bind->node->name : "?");
        return NULL;
    }
    *launch = (ckpt_launch){.run = run, .self = self};
    return self;
}

static int64_t tensor_count(const ckpt_bind *bind, int tensor) {
    return tensor >= 0 ? bind->graph->tensor[tensor].count : 0;
}

int64_t ckpt_cpu_out_count(const ckpt_bind *bind, int out) {
    return out < bind->node->out_count ? tensor_count(bind, bind->node->out[out]) : 0;
}

int64_t ckpt_cpu_in_count(const ckpt_bind *bind, int in) {
    return in < bind->node->in_count ? tensor_count(bind, bind->node->in[in]) : 0;
}

ckpt_status ckpt_cpu_require(const ckpt_bind *bind, int in, int out, ckpt_error *err) {
    const ckpt_node *node = bind->node;
    const char *name = node->name ? node->name : "?";
    if (node->in_count < in || node->out_count < out)
        return ckpt_fail(err, CKPT_MODEL, "node '%s' has %d inputs and %d outputs where %d and %d are needed", name,
                         node->in_count, node->out_count, in, out);
    for (int i = 0; i < in; i++)
        if (!bind->in[i] && ckpt_cpu_in_count(bind, i) > 0)
            return ckpt_fail(err, CKPT_MODEL, "node '%s': input %d has no address", name, i);
    for (int i = 0; i < out; i++)
        if (!bind->out[i] && ckpt_cpu_out_count(bind, i) > 0)
            return ckpt_fail(err, CKPT_MODEL, "node '%s': output %d has no address", name, i);
    return CKPT_OK;
}

int64_t ckpt_cpu_row_grain(int64_t cols) {
    return cols > 0 && cols < CKPT_CPU_GRAIN ? CKPT_CPU_GRAIN / cols : 1;
}

static _Thread_local ckpt_team *current;

ckpt_team *ckpt_cpu_use_team(ckpt_team *team) {
    ckpt_team *before = current;
    current = team;
    return before;
}

/* A body runs alone in its thread: what it calls finds no team. */
void ckpt_cpu_parts(int parts, ckpt_team_body body, const void *context) {
    ckpt_team *team = ckpt_cpu_use_team(NULL);
    if (team) ckpt_team_run(team, parts, body, context);
    else for (int part = 0; part < parts; part++) body(context, part);
    ckpt_cpu_use_team(team);
}

typedef struct shares {
    int64_t count;
    int parts;
    ckpt_cpu_body body;
    const void *context;
} shares;

/* Parts begin at multiples of 16 where that does not unbalance them: no two threads write into one cache line. */
static int64_t share_begin(const shares *s, int part) {
    const int64_t share = s->count / s->parts, extra = s->count % s->parts;
    const int64_t mask = s->count >= 256 * (int64_t)s->parts ? ~(int64_t)15 : ~(int64_t)0;
    return part == s->parts ? s->count : (share * part + (part < extra ? part : extra)) & mask;
}

static void share_body(const void *context, int part) {
    const shares *s = context;
    const int64_t begin = share_begin(s, part), end = share_begin(s, part + 1);
    if (begin < end) s->body(s->context, begin, end);
}

void ckpt_cpu_for(int64_t count, int64_t grain, ckpt_cpu_body body, const void *context) {
    const int64_t worth = count / grain;
    if (count <= 0) return;
    if (!current || worth < 2) {
        body(context, 0, count);
        return;
    }
    const int threads = ckpt_team_threads(current);
    const shares s = {.count = count, .parts = worth < threads ? (int)worth : threads, .body = body, .context = context};
    ckpt_cpu_parts(s.parts, share_body, &s);
}

ckpt_binary_attr ckpt_cpu_geometry(const ckpt_binary_attr *geometry, int64_t *count) {
    ckpt_binary_attr g = *geometry;
    if (g.rank == 0) { /* scalars: one axis of one element */
        g.rank = 1;
        g.dim[0] = 1;
    }
    *count = 1;
    for (int i = 0; i < g.rank; i++) *count *= g.dim[i];
    return g;
}

/* The index of the first element is worked out, then counted up. */
void ckpt_cpu_runs(const ckpt_binary_attr *g, int64_t begin, int64_t end, ckpt_cpu_run run, const void *context) {
    const int last = g->rank - 1;
    int64_t index[CKPT_MAX_RANK], rest = begin, a = 0, b = 0;
    for (int i = last; i >= 0; i--) {
        index[i] = rest % g->dim[i];
        rest /= g->dim[i];
        a += index[i] * g->stride_a[i];
        b += index[i] * g->stride_b[i];
    }
    for (int64_t e = begin; e < end;) {
        const int64_t left = g->dim[last] - index[last], n = left < end - e ? left : end - e;
        run(context, a, b, e, n);
        e += n;
        a -= index[last] * g->stride_a[last];
        b -= index[last] * g->stride_b[last];
        index[last] = 0;
        for (int i = last - 1; i >= 0; i--) {
            a += g->stride_a[i];
            b += g->stride_b[i];
            if (++index[i] < g->dim[i]) break;
            a -= g->dim[i] * g->stride_a[i];
            b -= g->dim[i] * g->stride_b[i];
            index[i] = 0;
        }
    }
}
