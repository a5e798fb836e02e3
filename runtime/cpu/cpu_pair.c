/* Max, Min and Pow with broadcasting, for f32, f64, i32 and i64, and their gradients for f32 (runtime/pair_math.h). */
#include "cpu/cpu_kernels.h"
#include "runtime/pair_math.h"

/* n elements of c from a, b and, for gradients, dc, which lies dense. */
typedef void (*run_function)(const void *a, const void *b, const void *dc, void *c, int64_t stride_a, int64_t stride_b,
                             int64_t n);

#define RUN(name, type, expression)                                                                          \
    CKPT_VECTOR                                                                                          \
    static void name(const void *va, const void *vb, const void *vd, void *vc, int64_t sa, int64_t sb, int64_t n) { \
        const type *a = va, *b = vb, *dc = vd;                                                               \
        type *c = vc;                                                                                        \
        (void)dc;                                                                                            \
        CKPT_CPU_SIMD                                                                                        \
        for (int64_t i = 0; i < n; i++) {                                                                    \
            const type x = a[i * sa], y = b[i * sb];                                                         \
            c[i] = expression;                                                                               \
        }                                                                                                    \
    }

RUN(max_float, float, ckpt_pair_max(x, y))
RUN(min_float, float, ckpt_pair_min(x, y))
RUN(pow_float, float, ckpt_pair_pow(x, y))
RUN(max_double, double, ckpt_pair_double(CKPT_PAIR_MAX, x, y))
RUN(min_double, double, ckpt_pair_double(CKPT_PAIR_MIN, x, y))
RUN(pow_double, double, ckpt_pair_double(CKPT_PAIR_POW, x, y))
RUN(max_int32_t, int32_t, (int32_t)ckpt_pair_whole(CKPT_PAIR_MAX, x, y))
RUN(min_int32_t, int32_t, (int32_t)ckpt_pair_whole(CKPT_PAIR_MIN, x, y))
RUN(pow_int32_t, int32_t, (int32_t)ckpt_pair_whole(CKPT_PAIR_POW, x, y))
RUN(max_int64_t, int64_t, ckpt_pair_whole(CKPT_PAIR_MAX, x, y))
RUN(min_int64_t, int64_t, ckpt_pair_whole(CKPT_PAIR_MIN, x, y))
RUN(pow_int64_t, int64_t, ckpt_pair_whole(CKPT_PAIR_POW, x, y))

RUN(max_da, float, ckpt_pair_slope(CKPT_PAIR_MAX, false, dc[i], x, y))
RUN(max_db, float, ckpt_pair_slope(CKPT_PAIR_MAX, true, dc[i], x, y))
RUN(min_da, float, ckpt_pair_slope(CKPT_PAIR_MIN, false, dc[i], x, y))
RUN(min_db, float, ckpt_pair_slope(CKPT_PAIR_MIN, true, dc[i], x, y))
RUN(pow_da, float, ckpt_pair_slope(CKPT_PAIR_POW, false, dc[i], x, y))
RUN(pow_db, float, ckpt_pair_slope(CKPT_PAIR_POW, true, dc[i], x, y))

typedef struct pair_kernel {
    ckpt_binary_attr geometry;
    run_function run;
    const char *a, *b, *dc;
    char *c;
    int64_t element_bytes, count;
} pair_kernel;

static void pair_part(const void *context, int64_t a, int64_t b, int64_t c, int64_t n) {
    const pair_kernel *k = context;
    const int last = k->geometry.rank - 1;
    k->run(k->a + a * k->element_bytes, k->b + b * k->element_bytes, k->dc ? k->dc + c * k->element_bytes : NULL,
           k->c + c * k->element_bytes, k->geometry.stride_a[last], k->geometry.stride_b[last], n);
}

static void pair_body(const void *context, int64_t begin, int64_t end) {
    const pair_kernel *k = context;
    ckpt_cpu_runs(&k->geometry, begin, end, pair_part, k);
}

static void pair_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const pair_kernel *k = self;
    ckpt_cpu_for(k->count, CKPT_CPU_GRAIN, pair_body, k);
}

static ckpt_status bind_pair(const ckpt_bind *bind, run_function run, int64_t element_bytes, int dc, ckpt_launch *launch,
                             ckpt_error *err) {
    pair_kernel *k = ckpt_cpu_launch(bind, sizeof *k, pair_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->geometry = ckpt_cpu_geometry(&bind->node->attr.pair.geometry, &k->count);
    k->run = run;
    k->dc = dc >= 0 ? bind->in[dc] : NULL;
    k->a = bind->in[dc + 1];
    k->b = bind->in[dc + 2];
    k->c = bind->out[0];
    k->element_bytes = element_bytes;
    return CKPT_OK;
}

ckpt_status ckpt_cpu_pair(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    static const run_function table[4][3] = {{max_float, min_float, pow_float},
                                             {max_double, min_double, pow_double},
                                             {max_int32_t, min_int32_t, pow_int32_t},
                                             {max_int64_t, min_int64_t, pow_int64_t}};
    CKPT_TRY(ckpt_cpu_require(bind, 2, 1, err));
    const ckpt_dtype type = bind->graph->tensor[bind->node->out[0]].dtype;
    const int row = type == CKPT_F32 ? 0 : type == CKPT_F64 ? 1 : type == CKPT_I32 ? 2 : type == CKPT_I64 ? 3 : -1;
    if (row < 0)
        return ckpt_fail(err, CKPT_MODEL, "node '%s': the CPU has no arithmetic on its type; a Cast to float helps",
                         bind->node->name ? bind->node->name : "?");
    return bind_pair(bind, table[row][bind->node->attr.pair.kind], (int64_t)ckpt_dtype_bytes(type), -1, launch, err);
}

ckpt_status ckpt_cpu_pair_grad(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    static const run_function table[3][2] = {{max_da, max_db}, {min_da, min_db}, {pow_da, pow_db}};
    CKPT_TRY(ckpt_cpu_require(bind, 3, 1, err));
    return bind_pair(bind, table[bind->node->attr.pair.kind][bind->node->attr.pair.second], sizeof(float), 0, launch, err);
}
