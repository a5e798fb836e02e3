/* The shared arithmetic against libm in double: bits of floats taken evenly over the whole range, so that every
 * binade, subnormals and NaNs among them, is visited. */
#include "cmocka_all.h"

#include <stdio.h>
#include <math.h>

#include "graph/op.h"
#include "reference_backend.h"
#include "runtime/act_math.h"
#include "runtime/convert_math.h"
#include "runtime/update_math.h"

/* |got - want| in units in the last place of a float near `want`. */
static double ulps(float got, double want) {
    if (isnan(want)) return isnan(got) ? 0 : 1e30;
    if (isinf((float)want)) return (float)want == got ? 0 : 1e30;
    if (isnan(got) || isinf(got)) return 1e30;
    int exponent;
    frexp(want, &exponent);
    return fabs((double)got - want) / ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

typedef struct worst {
    double ulp;
    float at;
} worst;

static worst sweep(float (*f)(float), double (*reference)(double), float low, float high) {
    worst w = {0, 0};
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 1499) {
        const float x = ckpt_bits_float((uint32_t)bits);
        if (!(x >= low && x <= high)) continue;
        const double u = ulps(f(x), reference((double)x));
        if (u > w.ulp) w = (worst){u, x};
    }
    return w;
}

static float softplus_f(float x) { return ckpt_softplus(x); }
static double softplus_d(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }
static double sigmoid_d(double x) { return 1 / (1 + exp(-x)); }
static float exp_f(float x) { return ckpt_exp(x); }
static float expm1_f(float x) { return ckpt_expm1_low(x); }
static float log_f(float x) { return ckpt_log(x); }
static float log1p_f(float x) { return ckpt_log1p_unit(x); }
static float tanh_f(float x) { return ckpt_tanh(x); }
static float erf_f(float x) { return ckpt_erf(x); }
static float sigmoid_f(float x) { return ckpt_sigmoid(x); }
static float erfc_f(float x) { return ckpt_erfc_with(x, ckpt_exp(0.0f - x * x)); }

static void test_elementary_functions(void **state) {
    (void)state;
    const struct {
        const char *name;
        float (*f)(float);
        double (*reference)(double);
        float low, high;
        double limit;
    } row[] = {
        {"exp", exp_f, exp, -INFINITY, INFINITY, 1.2},
        {"expm1", expm1_f, expm1, -INFINITY, 0.3f, 1.8},
        {"log", log_f, log, 0, INFINITY, 1.2},
        {"log1p", log1p_f, log1p, 0, 1, 1.2},
        {"tanh", tanh_f, tanh, -INFINITY, INFINITY, 2.0},
        {"sigmoid", sigmoid_f, sigmoid_d, -87, INFINITY, 2.5},
        {"softplus", softplus_f, softplus_d, -87, INFINITY, 3.0},
        {"erf", erf_f, erf, -INFINITY, INFINITY, 2.0},
        {"erfc to 3", erfc_f, erfc, 0, 3, 16},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        const worst w = sweep(row[i].f, row[i].reference, row[i].low, row[i].high);
        print_message("%-10s %.3f ulp at %.9g\n", row[i].name, w.ulp, (double)w.at);
        assert_true(w.ulp <= row[i].limit);
    }
}

static void test_extremes(void **state) {
    (void)state;
    assert_true(ckpt_exp(INFINITY) == INFINITY && ckpt_exp(-INFINITY) == 0.0f && ckpt_exp(89.0f) == INFINITY);
    assert_true(ckpt_exp(-103.0f) > 0.0f && ckpt_exp(-104.5f) == 0.0f && ckpt_exp(0.0f) == 1.0f);
    assert_true(ckpt_log(0.0f) == -INFINITY && ckpt_log(INFINITY) == INFINITY && isnan(ckpt_log(-1.0f)));
    assert_true(ckpt_log(1.0f) == 0.0f && ckpt_tanh(INFINITY) == 1.0f && ckpt_tanh(-INFINITY) == -1.0f);
    assert_true(signbit(ckpt_tanh(-0.0f)) && ckpt_erf(INFINITY) == 1.0f && ckpt_erf(-INFINITY) == -1.0f);
    assert_true(ckpt_sigmoid(-INFINITY) == 0.0f && ckpt_sigmoid(INFINITY) == 1.0f);
    assert_true(ckpt_softplus(INFINITY) == INFINITY && ckpt_softplus(-INFINITY) == 0.0f);
    for (int a = 0; a < CKPT_ACT_COUNT; a++) {
        const float y = ckpt_act_value((ckpt_act)a, NAN, 1.5f, 0.5f);
        assert_true(isnan(y));
        if (a == CKPT_ACT_EXP || a == CKPT_ACT_LOG || a == CKPT_ACT_SQRT || a == CKPT_ACT_RECIPROCAL) continue;
        /* far out, every act and slope of a finite number is finite */
        for (int e = -30; e <= 30; e++)
            for (int sign = -1; sign <= 1; sign += 2) {
                const float x = (float)sign * ldexpf(1.1f, e);
                assert_true(isfinite(ckpt_act_value((ckpt_act)a, x, 1.5f, 0.5f)));
                assert_true(isfinite(ckpt_act_slope((ckpt_act)a, x, 1.5f, 0.5f)) || a == CKPT_ACT_TANH ||
                            a == CKPT_ACT_SIGMOID || a == CKPT_ACT_SOFTPLUS);
            }
    }
}

/* Constants that the act allows: positive ones for SELU, an inverse for CELU, ends in order for CLIP, a sign for POW. */
static ckpt_epilogue constants_of(ckpt_act act) {
    switch (act) {
    case CKPT_ACT_SELU:
    case CKPT_ACT_SELU_X: return (ckpt_epilogue){.act = act, .alpha = 0.75f, .beta = 1.25f};
    case CKPT_ACT_CELU: return (ckpt_epilogue){.act = act, .alpha = 0.75f, .beta = 1 / 0.75f};
    case CKPT_ACT_CLIP: return (ckpt_epilogue){.act = act, .alpha = -1.5f, .beta = 1.25f};
    case CKPT_ACT_POW: return (ckpt_epilogue){.act = act, .alpha = 3, .beta = -1};
    default: return (ckpt_epilogue){.act = act, .alpha = 0.75f, .beta = -0.25f};
    }
}

/* Against the formulas of the reference backend, which golden data of PyTorch hold to account. */
static void test_acts_and_slopes(void **state) {
    (void)state;
    static const bool slope_is_constant[] = {
#define X(ID, name, output, costly, constant) [CKPT_ACT_##ID] = constant,
#include "graph/acts.def"
#undef X
    };
    for (int a = 0; a < CKPT_ACT_COUNT; a++) {
        const ckpt_act act = (ckpt_act)a;
        const ckpt_epilogue e = constants_of(act);
        double value_error = 0, slope_error = 0, least_slope = INFINITY, most_slope = -INFINITY;
        for (float x = act == CKPT_ACT_LOG || act == CKPT_ACT_SQRT ? 0.1f : -12; x < 12; x += 0.00731f) {
            const double want = ckpt_reference_act(&e, (double)x), slope = ckpt_reference_act_derivative(&e, (double)x);
            const float y = ckpt_act_value(act, x, e.alpha, e.beta);
            const double s = (double)ckpt_act_slope(act, ckpt_act_from_output(act) ? y : x, e.alpha, e.beta);
            value_error = fmax(value_error, fabs((double)y - want) / fmax(fabs(want), 1e-4));
            slope_error = fmax(slope_error, fabs(s - slope) / fmax(fabs(slope), 0.1));
            least_slope = fmin(least_slope, slope);
            most_slope = fmax(most_slope, slope);
            assert_false(isnan(y) || isnan(s) || isnan(want) || isnan(slope)); /* fmax passes over them */
        }
        print_message("%s: value %.2e, slope %.2e\n", ckpt_act_name(act), value_error, slope_error);
        assert_true(value_error < 3e-6);
        assert_true(slope_error < 1e-5);
        assert_int_equal(slope_is_constant[a], most_slope - least_slope < 1e-3);
    }
}

static void test_halves(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float x = ckpt_float_from_half((uint16_t)h), b = ckpt_float_from_bfloat((uint16_t)h);
        const int e = (int)(h >> 10 & 31), m = (int)(h & 1023);
        const float sign = h & 0x8000 ? -1.0f : 1.0f;
        const float want = e == 31 ? (m ? NAN : sign * INFINITY)
                           : e     ? sign * ldexpf((float)(1024 + m), e - 25)
                                   : sign * ldexpf((float)m, -24);
        assert_true(isnan(want) ? isnan(x) : x == want && signbit(x) == signbit(want));
        if (!isnan(x)) assert_int_equal(ckpt_half_from_float(x), h);
        if (!isnan(b)) assert_int_equal(ckpt_bfloat_from_float(b), h);
        if (e == 31 || isnan(b)) continue;
        /* the midpoint to the next half goes to the even one, and a hair beyond it upwards */
        const float next = ckpt_float_from_half((uint16_t)(h + 1));
        if (isinf(next)) continue;
        const double middle = ((double)x + (double)next) / 2;
        assert_int_equal(ckpt_half_from_float((float)middle), h & 1 ? h + 1 : h);
        assert_int_equal(ckpt_half_from_float(ckpt_float_round_odd(middle * (1 + 1e-12))), h + 1);
    }
    assert_int_equal(ckpt_half_from_float(65520.0f), 0x7C00);
    assert_int_equal(ckpt_half_from_float(65519.0f), 0x7BFF);
    assert_int_equal(ckpt_half_from_float(ckpt_float_round_odd(1e300)), 0x7C00);
    assert_true((ckpt_half_from_float(NAN) & 0x7FFF) > 0x7C00 && (ckpt_bfloat_from_float(NAN) & 0x7FFF) > 0x7F80);
    assert_int_equal(ckpt_i32_from_double(1e300), INT32_MAX);
    assert_int_equal(ckpt_i32_from_double(NAN), 0);
    assert_true(ckpt_i64_from_double(-1e300) == INT64_MIN && ckpt_i64_from_double(9.3e18) == INT64_MAX);
}

/* Ten steps of Adam and AdamW in double, as Kingma and Ba's algorithm 1 and Loshchilov and Hutter's write them. */
static void test_adam(void **state) {
    (void)state;
    for (int decoupled = 0; decoupled < 2; decoupled++) {
        double w = 0.8, m = 0, v = 0;
        float fw = 0.8f, fm = 0, fv = 0;
        for (int t = 1; t <= 10; t++) {
            const double lr = 1e-2, decay = 0.1, raw = cos(t) * 0.3;
            const ckpt_adam_rate r = ckpt_adam_rates(0.9f, 0.999f, 1e-2f, 0.1f, decoupled, (uint64_t)t);
            const double g = raw + (decoupled ? 0 : decay * w);
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            if (decoupled) w -= lr * decay * w;
            w -= lr * (m / (1 - pow(0.9, t))) / (sqrt(v / (1 - pow(0.999, t))) + 1e-8);
            fw = ckpt_adam_update(fw, (float)raw, &fm, &fv, 0.999f, 1e-8f, &r);
            assert_true(fabs((double)fw - w) < 3e-7 && fabs((double)fv - v) < 1e-6 * v);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementary_functions), cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_acts_and_slopes),      cmocka_unit_test(test_halves),
        cmocka_unit_test(test_adam),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
