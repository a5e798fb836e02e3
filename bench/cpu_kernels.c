/* Times the CPU's kernels one by one, after checking elements of each result against double precision.
 *
 *     cpu_kernels [THREADS [ROWS [COLS]]]
 *
 * One line a kernel: best and median time, bytes and operations a second at the median. Two lines a product: what
 * oneDNN would do without a workspace and with as much as it wants, measured in turns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/cpu_dnnl.h"
#include "graph/op.h"
#include "runtime/backend.h"

enum { REPEATS = 21, CHECKS = 64, FLUSH_BYTES = 64 << 20 };

typedef struct setting {
    ckpt_device *device;
    ckpt_graph graph;
    ckpt_pool pool;
    int64_t rows, cols;
    char *flush;
} setting;

/* What element e of output 0 is, from the inputs as they were. */
typedef double (*reference)(const setting *s, const float *const *in, int64_t e);

typedef struct item {
    const char *name;
    ckpt_op op;
    ckpt_attr attr;
    const char *in, *out; /* a letter a tensor: M rows x cols, W cols x cols, C cols, I i32 rows, R f64[2] */
    reference want;       /* NULL: checked elsewhere (updates run in place) */
} item;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double linear_want(const setting *s, const float *const *in, int64_t e) {
    double sum = (double)in[2][e % s->cols];
    for (int64_t l = 0; l < s->cols; l++)
        sum += (double)in[0][e / s->cols * s->cols + l] * (double)in[1][e % s->cols * s->cols + l];
    return sum > 0 ? sum : 0;
}
static double dx_want(const setting *s, const float *const *in, int64_t e) {
    double sum = 0;
    for (int64_t l = 0; l < s->cols; l++)
        sum += (double)in[0][e / s->cols * s->cols + l] * (double)in[1][l * s->cols + e % s->cols];
    return sum;
}
static double dw_want(const setting *s, const float *const *in, int64_t e) {
    double sum = 0;
    for (int64_t r = 0; r < s->rows; r++)
        sum += (double)in[0][r * s->cols + e / s->cols] * (double)in[1][r * s->cols + e % s->cols];
    return sum;
}
static double add_want(const setting *s, const float *const *in, int64_t e) {
    (void)s;
    return (double)in[0][e] + (double)in[1][e];
}
static double bias_want(const setting *s, const float *const *in, int64_t e) {
    return (double)in[0][e] + (double)in[1][e % s->cols];
}
static double relu_want(const setting *s, const float *const *in, int64_t e) {
    (void)s;
    return fmax((double)in[0][e], 0);
}
static double relu_grad_want(const setting *s, const float *const *in, int64_t e) {
    (void)s;
    return in[1][e] > 0 ? (double)in[0][e] / 0.9 : 0;
}
static double gelu_want(const setting *s, const float *const *in, int64_t e) {
    (void)s;
    const double x = (double)in[0][e];
    return x * 0.5 * erfc(-x * 0.70710678118654752);
}
static double gelu_grad_want(const setting *s, const float *const *in, int64_t e) {
    (void)s;
    const double x = (double)in[1][e];
    return (double)in[0][e] * (0.5 * erfc(-x * 0.70710678118654752) + x * exp(-x * x / 2) * 0.3989422804014327);
}
static double tanh_want(const setting *s, const float *const *in, int64_t e) {
    (void)s;
    return tanh((double)in[0][e]);
}
static double columns_want(const setting *s, const float *const *in, int64_t e) {
    double sum = 0;
    for (int64_t r = 0; r < s->rows; r++) sum += (double)in[0][r * s->cols + e];
    return sum;
}
static double norm_want(const setting *s, const float *const *in, int64_t e) {
    const float *x = in[0] + e / s->cols * s->cols;
    double mean = 0, variance = 0;
    for (int64_t j = 0; j < s->cols; j++) mean += (double)x[j] / (double)s->cols;
    for (int64_t j = 0; j < s->cols; j++) variance += pow((double)x[j] - mean, 2) / (double)s->cols;
    const int64_t j = e % s->cols;
    return ((double)x[j] - mean) / sqrt(variance + 1e-5) * (double)in[1][j] + (double)in[2][j];
}
static double softmax_want(const setting *s, const float *const *in, int64_t e) {
    const float *x = in[0] + e / s->cols * s->cols;
    double sum = 0;
    for (int64_t j = 0; j < s->cols; j++) sum += exp((double)x[j]);
    return exp((double)x[e % s->cols]) / sum;
}
static double ce_grad_want(const setting *s, const float *const *in, int64_t e) {
    const int32_t class = ((const int32_t *)(const void *)in[1])[e / s->cols];
    return (softmax_want(s, in, e) - (class == e % s->cols)) / (double)s->rows;
}
static double transpose_want(const setting *s, const float *const *in, int64_t e) {
    return (double)in[0][e % s->rows * s->cols + e / s->rows];
}

static int make_tensor(setting *s, char letter, void **data) {
    const int64_t dims[2] = {letter == 'W' || letter == 'C' ? s->cols : letter == 'R' ? 2 : s->rows, s->cols};
    const ckpt_dtype type = letter == 'I' ? CKPT_I32 : letter == 'R' ? CKPT_F64 : CKPT_F32;
    int t = ckpt_graph_add_tensor(&s->graph, "t", type, CKPT_ROLE_STEP, letter == 'M' || letter == 'W' ? 2 : 1, dims,
                                  NULL);
    ckpt_error err;
    if (t < 0 || ckpt_backend_cpu()->allocate(s->device, ckpt_tensor_bytes(&s->graph.tensor[t]), data, &err) != CKPT_OK)
        exit(1);
    memset(*data, 0, (size_t)ckpt_tensor_bytes(&s->graph.tensor[t]));
    static uint32_t random = 1;
    for (int64_t i = 0; i < s->graph.tensor[t].count; i++) {
        random = random * 1664525u + 1013904223u;
        if (type == CKPT_F32) ((float *)*data)[i] = (float)(random >> 8) * 0x1p-23f - 1.0f;
        if (type == CKPT_I32) ((int32_t *)*data)[i] = (int32_t)((random >> 8) % (uint32_t)s->cols);
    }
    return t;
}

static int compare_times(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Inputs of an update are also its outputs, in ops.def's order w g m v -> w m v. */
static bool is_update(ckpt_op op) {
    return op == CKPT_OP_SGD || op == CKPT_OP_MOMENTUM || op == CKPT_OP_NESTEROV || op == CKPT_OP_ADAGRAD || op == CKPT_OP_ADAM || op == CKPT_OP_ADAMW;
}

static bool check(const setting *s, const item *it, const ckpt_bind *bind, int64_t count) {
    double error = 0, greatest = 1e-30;
    for (int i = 0; it->want && i < CHECKS; i++) {
        const int64_t e = (int64_t)((uint64_t)i * 0x9E3779B97F4A7C15u % (uint64_t)count);
        const double want = it->want(s, (const float *const *)bind->in, e);
        greatest = fmax(greatest, fabs(want));
        error = fmax(error, fabs((double)((const float *)bind->out[0])[e] - want));
    }
    if (error <= 1e-5 * greatest) return true;
    printf("%-24s WRONG: error %g of %g\n", it->name, error, greatest);
    return false;
}

static bool measure(setting *s, const item *it) {
    int in[CKPT_MAX_IN], out[CKPT_MAX_OUT], ins = (int)strlen(it->in), outs = (int)strlen(it->out);
    ckpt_bind bind = {.graph = &s->graph, .pool = &s->pool};
    ckpt_error err;
    for (int i = 0; i < ins; i++) in[i] = make_tensor(s, it->in[i], &bind.in[i]);
    for (int i = 0; i < outs; i++) {
        const int from = i ? i + 1 : 0;
        out[i] = is_update(it->op) ? in[from] : make_tensor(s, it->out[i], &bind.out[i]);
        if (is_update(it->op)) bind.out[i] = bind.in[from];
    }
    for (int i = 2; is_update(it->op) && i < ins; i++) memset(bind.in[i], 0, sizeof(float) * (size_t)(s->cols * s->cols));
    int n = ckpt_graph_add_node(&s->graph, it->op, CKPT_FORWARD, it->name, ins, in, outs, out, &err);
    if (n < 0) return false;
    s->graph.node[n].attr = it->attr;
    const ckpt_node node = s->graph.node[n];
    bind.node = &node;
    ckpt_launch launch;
    const ckpt_backend *cpu = ckpt_backend_cpu();
    const ckpt_scalars scalars = {.seed = 1, .learning_rate = 1e-3f, .valid_samples = s->rows, .total_samples = s->rows};
    if (cpu->bind(s->device, &bind, &launch, &err) != CKPT_OK || cpu->run(s->device, &launch, 1, &scalars, &err)) {
        printf("%-24s %s\n", it->name, err.message);
        return false;
    }
    if (!check(s, it, &bind, s->graph.tensor[out[0]].count)) return false;
    double time[REPEATS], bytes = 0;
    for (int r = 0; r < REPEATS; r++) {
        memset(s->flush, r, FLUSH_BYTES); /* neither warm nor dirty with our own data */
        const double start = now();
        (void)cpu->run(s->device, &launch, 1, &scalars, &err);
        time[r] = now() - start;
    }
    qsort(time, REPEATS, sizeof *time, compare_times);
    for (int i = 0; i < ins; i++) bytes += (double)ckpt_tensor_bytes(&s->graph.tensor[in[i]]);
    for (int i = 0; i < outs; i++) bytes += (double)ckpt_tensor_bytes(&s->graph.tensor[out[i]]);
    printf("%-24s %9.3f ms best %9.3f  %7.2f GB/s %8.2f Gflop/s\n", it->name, time[REPEATS / 2] * 1e3, time[0] * 1e3,
           bytes / time[REPEATS / 2] * 1e-9, (double)ckpt_node_cost(&s->graph, n).flops / time[REPEATS / 2] * 1e-9);
    for (int i = 0; i < ins; i++) cpu->release(s->device, bind.in[i]);
    for (int i = 0; i < outs; i++) cpu->release(s->device, bind.out[i]);
    return true;
}

/* Without a workspace against with one, taken in turns. */
static void compare_workspaces(int64_t m, int64_t n, int64_t k, bool trans_a, bool trans_b) {
    ckpt_dnnl *dnnl;
    ckpt_error err;
    ckpt_dnnl_product *product[2];
    const size_t size = 256 << 20;
    float *a = aligned_alloc(256, (size_t)(m * k) * 4), *b = aligned_alloc(256, (size_t)(k * n) * 4);
    float *c = aligned_alloc(256, (size_t)(m * n) * 4);
    void *workspace = aligned_alloc(256, size);
    double time[2][REPEATS];
    if (!a || !b || !c || !workspace || ckpt_dnnl_open(&dnnl, &err) != CKPT_OK) exit(1);
    for (int64_t i = 0; i < m * k; i++) a[i] = 0.5f;
    for (int64_t i = 0; i < k * n; i++) b[i] = 0.25f;
    const ckpt_gemm gemm = {.m = m, .n = n, .k = k, .trans_a = trans_a, .trans_b = trans_b, .alpha = 1,
                            .a = a, .b = b, .c = c};
    for (int w = 0; w < 2; w++)
        if (ckpt_dnnl_make(dnnl, &gemm, workspace, w ? size : 0, &product[w], &err) != CKPT_OK) exit(1);
    for (int r = -2; r < REPEATS; r++)
        for (int w = 0; w < 2; w++) {
            const double start = now();
            ckpt_dnnl_run(product[w]);
            if (r >= 0) time[w][r] = now() - start;
        }
    for (int w = 0; w < 2; w++) {
        qsort(time[w], REPEATS, sizeof **time, compare_times);
        printf("%5lldx%-5lldx%-5lld %c%c  %-20s %10llu bytes  %9.3f ms best %9.3f  %7.1f Gflop/s\n", (long long)m,
               (long long)n, (long long)k, trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', ckpt_dnnl_implementation(product[w]),
               (unsigned long long)ckpt_dnnl_scratchpad_bytes(product[w]), time[w][REPEATS / 2] * 1e3, time[w][0] * 1e3,
               2e-9 * (double)(m * n * k) / time[w][REPEATS / 2]);
    }
    ckpt_dnnl_close(dnnl);
    free(a), free(b), free(c), free(workspace);
}

int main(int argc, char **argv) {
    setting s = {.rows = argc > 2 ? atol(argv[2]) : 512, .cols = argc > 3 ? atol(argv[3]) : 1024};
    const ckpt_device_options options = {.threads = argc > 1 ? atoi(argv[1]) : 0};
    ckpt_error err;
    s.flush = malloc(FLUSH_BYTES);
    s.graph.batch = s.rows;
    if (!s.flush || s.rows < 1 || s.cols < 1 || ckpt_backend_cpu()->open(&options, &s.device, &err) != CKPT_OK) return 1;
    char version[32];
    printf("oneDNN %s, %lld rows of %lld\n", ckpt_dnnl_version(version), (long long)s.rows, (long long)s.cols);
    const int64_t r = s.rows, c = s.cols;
    const ckpt_attr relu_drop = {.act = {.act = CKPT_ACT_RELU, .drop = 0.1f}};
    const ckpt_attr plain = {.linear = {r, c, c, true, 1, 1, {.act = CKPT_ACT_RELU}}};
    ckpt_attr drop = plain;
    drop.linear.epilogue.drop = 0.1f;
    const ckpt_attr gelu = {.act = {.act = CKPT_ACT_GELU}}, tanh_attr = {.act = {.act = CKPT_ACT_TANH}};
    const ckpt_attr relu = {.act = {.act = CKPT_ACT_RELU}}, norm = {.norm = {r, c, 1e-5f}}, axis = {.axis = {r, c, 1}};
    const ckpt_attr add = {.binary = {CKPT_BINARY_ADD, 1, {r * c}, {1}, {1}}};
    const ckpt_attr bias = {.binary = {CKPT_BINARY_ADD, 2, {r, c}, {c, 1}, {0, 1}}};
    const ckpt_attr sum = {.reduce = {2, {r, c}, 2, 1}}, loss = {.loss = {CKPT_LOSS_CE, r, c, 1}};
    const ckpt_attr turn = {.transpose = {2, {r, c}, {1, 0}}}, adam = {.update = {0.9f, 0.999f, 1e-8f, 0, 0}};
    const item items[] = {
        {"linear+relu", CKPT_OP_LINEAR, plain, "MWC", "M", linear_want},
        {"linear+relu+dropout", CKPT_OP_LINEAR, drop, "MWC", "M", NULL},
        {"linear_dx", CKPT_OP_LINEAR_DX, plain, "MW", "M", dx_want},
        {"linear_dw", CKPT_OP_LINEAR_DW, plain, "MM", "W", dw_want},
        {"relu", CKPT_OP_ACT, relu, "M", "M", relu_want},
        {"relu+dropout", CKPT_OP_ACT, relu_drop, "M", "M", NULL},
        {"relu+dropout gradient", CKPT_OP_ACT_GRAD, relu_drop, "MM", "M", relu_grad_want},
        {"tanh", CKPT_OP_ACT, tanh_attr, "M", "M", tanh_want},
        {"gelu", CKPT_OP_ACT, gelu, "M", "M", gelu_want},
        {"gelu gradient", CKPT_OP_ACT_GRAD, gelu, "MM", "M", gelu_grad_want},
        {"add", CKPT_OP_BINARY, add, "MM", "M", add_want},
        {"add a row", CKPT_OP_BINARY, bias, "MC", "M", bias_want},
        {"bias gradient", CKPT_OP_REDUCE_SUM, sum, "M", "C", columns_want},
        {"layernorm", CKPT_OP_LAYERNORM, norm, "MCC", "M", norm_want},
        {"layernorm_dx", CKPT_OP_LAYERNORM_DX, norm, "MMC", "M", NULL},
        {"layernorm_dp", CKPT_OP_LAYERNORM_DP, norm, "MM", "CC", NULL},
        {"softmax", CKPT_OP_SOFTMAX, axis, "M", "M", softmax_want},
        {"cross-entropy", CKPT_OP_LOSS, loss, "MI", "R", NULL},
        {"cross-entropy gradient", CKPT_OP_LOSS_GRAD, loss, "MI", "M", ce_grad_want},
        {"transpose", CKPT_OP_TRANSPOSE, turn, "M", "M", transpose_want},
        {"sgd", CKPT_OP_SGD, adam, "WW", "W", NULL},
        {"adam", CKPT_OP_ADAM, adam, "WWWW", "WWW", NULL},
    };
    int wrong = 0;
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) wrong += !measure(&s, &items[i]);
    printf("\nproducts, without and with a workspace:\n");
    compare_workspaces(r, c, c, false, true);
    compare_workspaces(r, c, c, false, false);
    compare_workspaces(c, c, r, true, false);
    compare_workspaces(64, 64, 64, false, true);
    compare_workspaces(64, 10, 64, false, true);
    compare_workspaces(8, 4096, 4096, false, true);
    ckpt_backend_cpu()->close(s.device);
    ckpt_pool_free(&s.pool);
    ckpt_graph_free(&s.graph);
    free(s.flush);
    return wrong ? 1 : 0;
}
