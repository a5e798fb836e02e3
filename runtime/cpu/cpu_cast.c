/* CAST between all element types. Rounds to nearest even; floats go to integers towards zero, saturating, NaN to
 * 0; integers wrap; anything but 0 is true. */
#include "cpu/cpu_kernels.h"
#include "runtime/convert_math.h"

typedef struct cast_kernel {
    const void *x;
    void *y;
    int64_t count;
    void (*convert)(const void *x, void *y, int64_t begin, int64_t end);
} cast_kernel;

/* A source is read as a double or as an int64, both exactly; a destination has a rule for either. */
static inline uint16_t half_of(double v) { return ckpt_half_from_float(ckpt_float_round_odd(v)); }
static inline uint16_t bfloat_of(double v) { return ckpt_bfloat_from_float(ckpt_float_round_odd(v)); }

#define REAL_F32(v) ((float)(v))
#define REAL_F64(v) (v)
#define REAL_I32(v) ckpt_i32_from_double(v)
#define REAL_I64(v) ckpt_i64_from_double(v)
#define REAL_BOOL(v) ((uint8_t)((v) != 0.0))
#define REAL_F16(v) half_of(v)
#define REAL_BF16(v) bfloat_of(v)
#define WHOLE_F32(v) ((float)(v))
#define WHOLE_F64(v) ((double)(v))
#define WHOLE_I32(v) ((int32_t)(v))
#define WHOLE_I64(v) (v)
#define WHOLE_BOOL(v) ((uint8_t)((v) != 0))
#define WHOLE_F16(v) half_of((double)(v))
#define WHOLE_BF16(v) bfloat_of((double)(v))

/* X(type, C type, wide type, which rule, how it is read) */
#define SOURCES(X)                                                                                           \
    X(F32, float, double, REAL, (double))                                                                    \
    X(F64, double, double, REAL, (double))                                                                   \
    X(I32, int32_t, int64_t, WHOLE, (int64_t))                                                               \
    X(I64, int64_t, int64_t, WHOLE, (int64_t))                                                               \
    X(BOOL, uint8_t, int64_t, WHOLE, (int64_t)0 !=)                                                          \
    X(F16, uint16_t, double, REAL, (double)ckpt_float_from_half)                                             \
    X(BF16, uint16_t, double, REAL, (double)ckpt_float_from_bfloat)

#define CONVERT(from, from_type, wide, rule, read, to, to_type)                                              \
    static void from##_to_##to(const void *vx, void *vy, int64_t begin, int64_t end) {                       \
        const from_type *x = vx;                                                                             \
        to_type *y = vy;                                                                                     \
        for (int64_t i = begin; i < end; i++) {                                                              \
            const wide v = read(x[i]);                                                                       \
            y[i] = rule##_##to(v);                                                                           \
        }                                                                                                    \
    }
#define CONVERT_ALL(from, type, wide, rule, read)                                                            \
    CONVERT(from, type, wide, rule, read, F32, float)                                                        \
    CONVERT(from, type, wide, rule, read, F64, double)                                                       \
    CONVERT(from, type, wide, rule, read, I32, int32_t)                                                      \
    CONVERT(from, type, wide, rule, read, I64, int64_t)                                                      \
    CONVERT(from, type, wide, rule, read, BOOL, uint8_t)                                                     \
    CONVERT(from, type, wide, rule, read, F16, uint16_t)                                                     \
    CONVERT(from, type, wide, rule, read, BF16, uint16_t)
SOURCES(CONVERT_ALL)

static void cast_body(const void *context, int64_t begin, int64_t end) {
    const cast_kernel *k = context;
    k->convert(k->x, k->y, begin, end);
}

static void cast_run(const void *self, const ckpt_scalars *scalars) {
    (void)scalars;
    const cast_kernel *k = self;
    ckpt_cpu_for(k->count, CKPT_CPU_GRAIN, cast_body, k);
}

ckpt_status ckpt_cpu_cast(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
#define ROW(from, type, wide, rule, read)                                                                    \
    [CKPT_##from] = {[CKPT_F32] = from##_to_F32, [CKPT_F64] = from##_to_F64, [CKPT_I32] = from##_to_I32,     \
                     [CKPT_I64] = from##_to_I64, [CKPT_BOOL] = from##_to_BOOL, [CKPT_F16] = from##_to_F16,   \
                     [CKPT_BF16] = from##_to_BF16},
    static void (*const table[7][7])(const void *, void *, int64_t, int64_t) = {SOURCES(ROW)};
#undef ROW
    CKPT_TRY(ckpt_cpu_require(bind, 1, 1, err));
    cast_kernel *k = ckpt_cpu_launch(bind, sizeof *k, cast_run, launch, err);
    if (!k) return CKPT_NOMEM;
    k->x = bind->in[0];
    k->y = bind->out[0];
    k->count = ckpt_cpu_out_count(bind, 0);
    k->convert = table[bind->graph->tensor[bind->node->in[0]].dtype][bind->graph->tensor[bind->node->out[0]].dtype];
    return CKPT_OK;
}
