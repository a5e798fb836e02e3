/* c = a op b with broadcasting, for f32, f64, i32 and i64. Integers wrap; dividing one by zero gives 0, so that
 * no file can raise a signal. */
#include "cpu/cpu_kernels.h"

/* One run along the last axis; each operand steps by its stride there. */
typedef void (*run_function)(const void *a, const void *b, void *c, int64_t stride_a, int64_t stride_b, int64_t n);

/* Steps known to the compiler in the cases that matter: both dense, one of them a single value. */
#define RUN(name, type, expression)                                                                          \
    CKPT_VECTOR                                                                                          \
    static void name(const void *va, const void *vb, void *vc, int64_t sa, int64_t sb, int64_t n) {          \
        const type *a = va, *b = vb;                                                                         \
        type *c = vc;                                                                                        \
        if (sa == 1 && sb == 1) {                                                                            \
            CKPT_CPU_SIMD                                                                                    \
            for (int64_t i = 0; i < n; i++) {                                                                \
                const type x = a[i], y = b[i];                                                               \
                c[i] = expression;                                                                           \
            }                                                                                                \
        } else if (sa == 1 && sb == 0) {                                                                     \
            const type y = *b;                                                                               \
            CKPT_CPU_SIMD                                                                                    \
            for (int64_t i = 0; i < n; i++) {                                                                \
                const type x = a[i];                                                                         \
                c[i] = expression;                                                                           \
            }                                                                                                \
        } else if (sa == 0 && sb == 1) {                                                                     \
            const type x = *a;                                                                               \
            CKPT_CPU_SIMD                                                                                    \
            for (int64_t i = 0; i < n; i++) {                                                                \
                const type y = b[i];                                                                         \
                c[i] = expression;                                                                           \
            }                                                                                                \
        } else {                                                                                             \
            for (int64_t i = 0; i < n; i++) {                                                                \
                const type x = a[i * sa], y = b[i * sb];                                                     \
                c[i] = expression;                                                                           \
            }                                                                                                \
        }                                                                                                    \
    }

#define RUN_FLOAT(type)                                                                                      \
    RUN(add_##type, type, x + y)                                                                             \
    RUN(sub_##type, type, x - y)                                                                             \
    RUN(mul_##type, type, x *y)                                                                              \
    RUN(div_##type, type, x / y)
#define RUN_INTEGER(type, wide)                                                                              \
    static inline type quotient_##type(type x, type y) {                                                     \
        return y == 0 ? 0 : y == -1 ? (type)(0u - (wide)x) : (type)(x / y);                                  \
    }                                                                                                        \
    RUN(add_##type, type, (type)((wide)x + (wide)y))                                                         \
    RUN(sub_##type, type, (type)((wide)x - (wide)y))                                                         \
    RUN(mul_##type, type, (type)((wide)x * (wide)y))                                                         \
    RUN(div_##type, type, quotient_##type(x, y))

RUN_FLOAT(float)
RUN_FLOAT(double)
RUN_INTEGER(int32_t, uint32_t)
RUN_INTEGER(int64_t, uint64_t)

typedef struct binary_kernel {
    ckpt_binary_attr geometry;
    run_function run;
    const char *a, *b;
    char *c;
    int64_t element_bytes, count;
} binary_kernel;

static void binary_part(const void *context, int64_t a, int64_t b, int64_t c, int64_t n) {
    const binary_kernel *k = context;
    const int last = k->geometry.rank - 1;
    k->run(k->a + a * k->element_bytes, k->b + b * k->element_bytes, k->c + c * k->element_bytes, k->geometry.stride_a[last],
           k->geometry.stride_b[last], n);
}

static void binary_body(const void *context, int64_t begin, int64_t end) {
    const binary_kernel *k = context;
    ckpt_cpu_runs(&k->geometry, begin, end, binary_part, k);
}

static void binary_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const binary_kernel *k = self;
    ckpt_cpu_for(k->count, CKPT_CPU_GRAIN, binary_body, k);
}

ckpt_status ckpt_cpu_binary(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    static const run_function table[4][4] = {
        {add_float, sub_float, mul_float, div_float},
        {add_double, sub_double, mul_double, div_double},
        {add_int32_t, sub_int32_t, mul_int32_t, div_int32_t},
        {add_int64_t, sub_int64_t, mul_int64_t, div_int64_t},
    };
    CKPT_TRY(ckpt_cpu_require(bind, 2, 1, err));
    const ckpt_dtype type = bind->graph->tensor[bind->node->out[0]].dtype;
    const int row = type == CKPT_F32 ? 0 : type == CKPT_F64 ? 1 : type == CKPT_I32 ? 2 : type == CKPT_I64 ? 3 : -1;
    if (row < 0)
        return ckpt_fail(err, CKPT_MODEL, "node '%s': the CPU has no arithmetic on its type; a Cast to float helps",
                         bind->node->name ? bind->node->name : "?");
    binary_kernel *k = ckpt_cpu_launch(bind, sizeof *k, binary_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->geometry = ckpt_cpu_geometry(&bind->node->attr.binary, &k->count);
    k->run = table[row][k->geometry.kind];
    k->a = bind->in[0];
    k->b = bind->in[1];
    k->c = bind->out[0];
    k->element_bytes = row == 0 || row == 2 ? 4 : 8;
    return CKPT_OK;
}
