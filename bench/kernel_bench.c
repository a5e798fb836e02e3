#include "kernel_bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHECKS = 64 };

/* What element e of output 0 is, from the inputs as they were. */
typedef double (*reference)(const kernel_bench *s, const float *const *in, int64_t e);

typedef struct kernel_case {
    const char *name;
    ckpt_op op;
    void (*attr)(const kernel_bench *s, ckpt_attr *attr);
    const char *in, *out; /* a letter a tensor, shape_of */
    reference want;       /* NULL: checked elsewhere on the CPU, against the CPU on other devices */
} kernel_case;

typedef struct kernel_shape {
    ckpt_dtype type;
    int rank;
    int64_t dim[2];
    bool positive;
} kernel_shape;

static kernel_shape shape_of(const kernel_bench *s, char letter) {
    const int64_t r = s->rows, c = s->cols;
    switch (letter) {
    case 'M': return (kernel_shape){CKPT_F32, 2, {r, c}, false};
    case 'W': return (kernel_shape){CKPT_F32, 2, {c, c}, false};
    case 'Q': return (kernel_shape){CKPT_F32, 2, {c, c}, true}; /* sums of squares */
    case 'D': return (kernel_shape){CKPT_F32, 2, {r, 2 * c}, false};
    case 'S': return (kernel_shape){CKPT_F32, 2, {4, c}, true}; /* statistics */
    case 'C': return (kernel_shape){CKPT_F32, 1, {c}, false};
    case 'V': return (kernel_shape){CKPT_F32, 1, {c}, true}; /* variances */
    case 'I': return (kernel_shape){CKPT_I32, 1, {r}, true}; /* classes */
    case 'L': return (kernel_shape){CKPT_F32, 1, {r}, false}; /* a row's loss */
    case 'R': return (kernel_shape){CKPT_F64, 1, {2}, true}; /* a loss' result */
    case 'B': return (kernel_shape){CKPT_BOOL, 2, {r, c}, true};
    default: return (kernel_shape){CKPT_BF16, 2, {r, c}, false};
    }
}

static double linear_want(const kernel_bench *s, const float *const *in, int64_t e) {
    double sum = (double)in[2][e % s->cols];
    for (int64_t l = 0; l < s->cols; l++)
        sum += (double)in[0][e / s->cols * s->cols + l] * (double)in[1][e % s->cols * s->cols + l];
    return sum > 0 ? sum : 0;
}
static double dx_want(const kernel_bench *s, const float *const *in, int64_t e) {
    double sum = 0;
    for (int64_t l = 0; l < s->cols; l++)
        sum += (double)in[0][e / s->cols * s->cols + l] * (double)in[1][l * s->cols + e % s->cols];
    return sum;
}
static double dw_want(const kernel_bench *s, const float *const *in, int64_t e) {
    double sum = 0;
    for (int64_t r = 0; r < s->rows; r++)
        sum += (double)in[0][r * s->cols + e / s->cols] * (double)in[1][r * s->cols + e % s->cols];
    return sum;
}
static double add_want(const kernel_bench *s, const float *const *in, int64_t e) {
    (void)s;
    return (double)in[0][e] + (double)in[1][e];
}
static double bias_want(const kernel_bench *s, const float *const *in, int64_t e) {
    return (double)in[0][e] + (double)in[1][e % s->cols];
}
static double relu_want(const kernel_bench *s, const float *const *in, int64_t e) {
    (void)s;
    return fmax((double)in[0][e], 0);
}
static double relu_grad_want(const kernel_bench *s, const float *const *in, int64_t e) {
    (void)s;
    return in[1][e] > 0 ? (double)in[0][e] / 0.9 : 0;
}
static double gelu_want(const kernel_bench *s, const float *const *in, int64_t e) {
    (void)s;
    const double x = (double)in[0][e];
    return x * 0.5 * erfc(-x * 0.70710678118654752);
}
static double gelu_grad_want(const kernel_bench *s, const float *const *in, int64_t e) {
    (void)s;
    const double x = (double)in[1][e];
    return (double)in[0][e] * (0.5 * erfc(-x * 0.70710678118654752) + x * exp(-x * x / 2) * 0.3989422804014327);
}
static double tanh_want(const kernel_bench *s, const float *const *in, int64_t e) {
    (void)s;
    return tanh((double)in[0][e]);
}
static double columns_want(const kernel_bench *s, const float *const *in, int64_t e) {
    double sum = 0;
    for (int64_t r = 0; r < s->rows; r++) sum += (double)in[0][r * s->cols + e];
    return sum;
}
static double norm_want(const kernel_bench *s, const float *const *in, int64_t e) {
    const float *x = in[0] + e / s->cols * s->cols;
    double mean = 0, variance = 0;
    for (int64_t j = 0; j < s->cols; j++) mean += (double)x[j] / (double)s->cols;
    for (int64_t j = 0; j < s->cols; j++) variance += pow((double)x[j] - mean, 2) / (double)s->cols;
    const int64_t j = e % s->cols;
    return ((double)x[j] - mean) / sqrt(variance + 1e-5) * (double)in[1][j] + (double)in[2][j];
}
static double softmax_want(const kernel_bench *s, const float *const *in, int64_t e) {
    const float *x = in[0] + e / s->cols * s->cols;
    double sum = 0;
    for (int64_t j = 0; j < s->cols; j++) sum += exp((double)x[j]);
    return exp((double)x[e % s->cols]) / sum;
}
static double ce_grad_want(const kernel_bench *s, const float *const *in, int64_t e) {
    const int32_t class = ((const int32_t *)(const void *)in[1])[e / s->cols];
    return (softmax_want(s, in, e) - (class == e % s->cols)) / (double)s->rows;
}
static double transpose_want(const kernel_bench *s, const float *const *in, int64_t e) {
    return (double)in[0][e % s->rows * s->cols + e / s->rows];
}


static void no_attr(const kernel_bench *s, ckpt_attr *a) { (void)s, (void)a; }
static void linear_attr(const kernel_bench *s, ckpt_attr *a) {
    a->linear = (ckpt_linear_attr){s->rows, s->cols, s->cols, true, 1, 1, {.act = CKPT_ACT_RELU}};
}
static void linear_drop_attr(const kernel_bench *s, ckpt_attr *a) { linear_attr(s, a), a->linear.epilogue.drop = 0.1f; }
static void matmul_attr(const kernel_bench *s, ckpt_attr *a) {
    a->matmul = (ckpt_matmul_attr){.m = s->rows, .n = s->cols, .k = s->cols, .trans_b = true, .alpha = 1};
}
static void act_attr(ckpt_attr *a, ckpt_act act, float drop) { a->act = (ckpt_epilogue){.act = act, .drop = drop}; }
static void relu_attr(const kernel_bench *s, ckpt_attr *a) { (void)s, act_attr(a, CKPT_ACT_RELU, 0); }
static void relu_drop_attr(const kernel_bench *s, ckpt_attr *a) { (void)s, act_attr(a, CKPT_ACT_RELU, 0.1f); }
static void drop_attr(const kernel_bench *s, ckpt_attr *a) { (void)s, act_attr(a, CKPT_ACT_IDENTITY, 0.1f); }
static void tanh_attr(const kernel_bench *s, ckpt_attr *a) { (void)s, act_attr(a, CKPT_ACT_TANH, 0); }
static void gelu_attr(const kernel_bench *s, ckpt_attr *a) { (void)s, act_attr(a, CKPT_ACT_GELU, 0); }
static void norm_attr(const kernel_bench *s, ckpt_attr *a) { a->norm.rows = s->rows, a->norm.cols = s->cols, a->norm.epsilon = 1e-5f; }
static void axis_attr(const kernel_bench *s, ckpt_attr *a) { a->axis.outer = s->rows, a->axis.axis = s->cols, a->axis.inner = 1; }
static void concat_attr(const kernel_bench *s, ckpt_attr *a) { axis_attr(s, a), a->axis.axis = 2 * s->cols; }
static void add_attr(const kernel_bench *s, ckpt_attr *a) {
    a->binary = (ckpt_binary_attr){CKPT_BINARY_ADD, 1, {s->rows * s->cols}, {1}, {1}};
}
static void bias_attr(const kernel_bench *s, ckpt_attr *a) {
    a->binary = (ckpt_binary_attr){CKPT_BINARY_ADD, 2, {s->rows, s->cols}, {s->cols, 1}, {0, 1}};
}
static void pair_attr(const kernel_bench *s, ckpt_attr *a) {
    a->pair.geometry = (ckpt_binary_attr){.rank = 1, .dim = {s->rows * s->cols}, .stride_a = {1}, .stride_b = {1}};
}
static void columns_attr(const kernel_bench *s, ckpt_attr *a) { a->reduce = (ckpt_reduce_attr){2, {s->rows, s->cols}, 2, 1}; }
static void turn_attr(const kernel_bench *s, ckpt_attr *a) {
    a->transpose = (ckpt_transpose_attr){2, {s->rows, s->cols}, {1, 0}};
}
static void slice_attr(const kernel_bench *s, ckpt_attr *a) {
    a->slice = (ckpt_slice_attr){.rank = 2, .whole = {s->rows, 2 * s->cols}, .part = {s->rows, s->cols},
                                 .start = {0, s->cols / 2}, .step = {1, 1}};
}
static void group_attr(const kernel_bench *s, ckpt_attr *a) {
    a->group.batch = s->rows, a->group.channels = s->cols, a->group.inner = 1;
    a->group.groups = s->cols % 4 == 0 ? 4 : 1, a->group.epsilon = 1e-5f, a->group.momentum = 0.9f;
}
static void loss_attr(const kernel_bench *s, ckpt_attr *a) {
    a->loss.kind = CKPT_LOSS_CE, a->loss.outer = s->rows, a->loss.classes = s->cols, a->loss.inner = 1, a->loss.scale = 1;
}
static void class_loss_attr(const kernel_bench *s, ckpt_attr *a) {
    a->class_loss.outer = s->rows, a->class_loss.classes = s->cols, a->class_loss.inner = 1, a->class_loss.ignore = -1;
}
static void update_attr(const kernel_bench *s, ckpt_attr *a) {
    (void)s;
    a->update.beta1 = 0.9f, a->update.beta2 = 0.999f, a->update.epsilon = 1e-8f, a->update.momentum = 0.9f;
}

static const kernel_case cases[] = {
    {"linear+relu", CKPT_OP_LINEAR, linear_attr, "MWC", "M", linear_want},
    {"linear+relu+dropout", CKPT_OP_LINEAR, linear_drop_attr, "MWC", "M", NULL},
    {"linear_dx", CKPT_OP_LINEAR_DX, linear_attr, "MW", "M", dx_want},
    {"linear_dw", CKPT_OP_LINEAR_DW, linear_attr, "MM", "W", dw_want},
    {"matmul", CKPT_OP_MATMUL, matmul_attr, "MW", "M", NULL},
    {"relu", CKPT_OP_ACT, relu_attr, "M", "M", relu_want},
    {"relu+dropout", CKPT_OP_ACT, relu_drop_attr, "M", "M", NULL},
    {"relu+dropout gradient", CKPT_OP_ACT_GRAD, relu_drop_attr, "MM", "M", relu_grad_want},
    {"dropout mask", CKPT_OP_KEEP_MASK, drop_attr, "", "B", NULL},
    {"tanh", CKPT_OP_ACT, tanh_attr, "M", "M", tanh_want},
    {"gelu", CKPT_OP_ACT, gelu_attr, "M", "M", gelu_want},
    {"gelu gradient", CKPT_OP_ACT_GRAD, gelu_attr, "MM", "M", gelu_grad_want},
    {"add", CKPT_OP_BINARY, add_attr, "MM", "M", add_want},
    {"add a row", CKPT_OP_BINARY, bias_attr, "MC", "M", bias_want},
    {"pair", CKPT_OP_PAIR, pair_attr, "MM", "M", NULL},
    {"pair gradient", CKPT_OP_PAIR_GRAD, pair_attr, "MMM", "M", NULL},
    {"bias gradient", CKPT_OP_REDUCE_SUM, columns_attr, "M", "C", columns_want},
    {"expand", CKPT_OP_EXPAND, columns_attr, "C", "M", NULL},
    {"layernorm", CKPT_OP_LAYERNORM, norm_attr, "MCC", "M", norm_want},
    {"layernorm_dx", CKPT_OP_LAYERNORM_DX, norm_attr, "MMC", "M", NULL},
    {"layernorm_dp", CKPT_OP_LAYERNORM_DP, norm_attr, "MM", "CC", NULL},
    {"rmsnorm", CKPT_OP_RMSNORM, norm_attr, "MC", "M", NULL},
    {"rmsnorm_dx", CKPT_OP_RMSNORM_DX, norm_attr, "MMC", "M", NULL},
    {"rmsnorm_dp", CKPT_OP_RMSNORM_DP, norm_attr, "MM", "C", NULL},
    {"batch statistics", CKPT_OP_BATCH_STATS, group_attr, "M", "S", NULL},
    {"stored statistics", CKPT_OP_STORED_STATS, group_attr, "VV", "S", NULL},
    {"statistics update", CKPT_OP_STATS_UPDATE, group_attr, "SVV", "CC", NULL},
    {"batchnorm", CKPT_OP_BATCHNORM, group_attr, "MCCS", "M", NULL},
    {"batchnorm_dx", CKPT_OP_BATCHNORM_DX, group_attr, "MMCS", "M", NULL},
    {"batchnorm_dp", CKPT_OP_BATCHNORM_DP, group_attr, "MMS", "CC", NULL},
    {"groupnorm", CKPT_OP_GROUPNORM, group_attr, "MCC", "M", NULL},
    {"groupnorm_dx", CKPT_OP_GROUPNORM_DX, group_attr, "MMC", "M", NULL},
    {"groupnorm_dp", CKPT_OP_GROUPNORM_DP, group_attr, "MM", "CC", NULL},
    {"softmax", CKPT_OP_SOFTMAX, axis_attr, "M", "M", softmax_want},
    {"softmax gradient", CKPT_OP_SOFTMAX_GRAD, axis_attr, "MM", "M", NULL},
    {"log-softmax", CKPT_OP_LOGSOFTMAX, axis_attr, "M", "M", NULL},
    {"log-softmax gradient", CKPT_OP_LOGSOFTMAX_GRAD, axis_attr, "MM", "M", NULL},
    {"cross-entropy", CKPT_OP_LOSS, loss_attr, "MI", "R", NULL},
    {"cross-entropy gradient", CKPT_OP_LOSS_GRAD, loss_attr, "MI", "M", ce_grad_want},
    {"class loss", CKPT_OP_CLASS_LOSS, class_loss_attr, "MI", "LL", NULL},
    {"class loss gradient", CKPT_OP_CLASS_LOSS_GRAD, class_loss_attr, "LI", "M", NULL},
    {"transpose", CKPT_OP_TRANSPOSE, turn_attr, "M", "M", transpose_want},
    {"concat", CKPT_OP_CONCAT, concat_attr, "MM", "D", NULL},
    {"slice", CKPT_OP_SLICE, slice_attr, "D", "M", NULL},
    {"pad", CKPT_OP_PLACE, slice_attr, "M", "D", NULL},
    {"cast to bf16", CKPT_OP_CAST, no_attr, "M", "H", NULL},
    {"zero", CKPT_OP_ZERO, no_attr, "", "M", NULL},
    {"sgd", CKPT_OP_SGD, update_attr, "WW", "W", NULL},
    {"momentum", CKPT_OP_MOMENTUM, update_attr, "WWW", "WW", NULL},
    {"nesterov", CKPT_OP_NESTEROV, update_attr, "WWW", "WW", NULL},
    {"adagrad", CKPT_OP_ADAGRAD, update_attr, "WWQ", "WQ", NULL},
    {"adam", CKPT_OP_ADAM, update_attr, "WWWQ", "WWQ", NULL},
    {"adamw", CKPT_OP_ADAMW, update_attr, "WWWQ", "WWQ", NULL},
};

int kernel_case_count(void) { return (int)(sizeof cases / sizeof *cases); }
ckpt_op kernel_case_op(int index) { return cases[index].op; }

static void must(ckpt_status status, const ckpt_error *err) {
    if (status == CKPT_OK) return;
    fprintf(stderr, "%s\n", err->message);
    exit(ckpt_exit_status(status));
}

static void *must_have(size_t bytes) {
    void *memory = calloc(1, bytes + 1);
    if (!memory) fprintf(stderr, "out of host memory\n"), exit(5);
    return memory;
}

void kernel_bench_open(kernel_bench *b, const ckpt_device_options *options) {
    ckpt_error err;
    b->graph.batch = b->rows;
    must(b->backend->open(options, &b->device, &err), &err);
}

void kernel_bench_close(kernel_bench *b) {
    b->backend->close(b->device);
    ckpt_pool_free(&b->pool);
    ckpt_graph_free(&b->graph);
}

/* Inputs of an update are also its outputs, in ops.def's order w g m v -> w m v. */
static bool is_update(ckpt_op op) { return op >= CKPT_OP_SGD && op <= CKPT_OP_ADAMW; }

static int make_tensor(kernel_bench *b, char letter) {
    const kernel_shape shape = shape_of(b, letter);
    ckpt_error err;
    const int t = ckpt_graph_add_tensor(&b->graph, "t", shape.type, CKPT_ROLE_STEP, shape.rank, shape.dim, &err);
    if (t < 0) must(CKPT_NOMEM, &err);
    return t;
}

static void *make_values(const kernel_bench *b, int t, char letter, uint32_t random) {
    const ckpt_tensor *tensor = &b->graph.tensor[t];
    const bool positive = shape_of(b, letter).positive;
    void *values = must_have((size_t)ckpt_tensor_bytes(tensor));
    for (int64_t i = 0; i < tensor->count && letter != 'R'; i++) {
        random = random * 1664525u + 1013904223u;
        const float x = (float)(random >> 8) * 0x1p-23f - 1.0f;
        if (tensor->dtype == CKPT_F32) ((float *)values)[i] = positive ? fabsf(x) + 0.01f : x;
        if (tensor->dtype == CKPT_I32) ((int32_t *)values)[i] = (int32_t)((random >> 8) % (uint32_t)b->cols);
    }
    return values;
}

static void upload(const ckpt_backend *backend, ckpt_device *device, void *to, const void *values, uint64_t bytes) {
    ckpt_error err;
    must(backend->upload(device, to, values, bytes, &err), &err);
}

static uint64_t bytes_of(const kernel_bench *b, int tensor) { return ckpt_tensor_bytes(&b->graph.tensor[tensor]); }

/* Runs the case once on a backend; outputs, to be freed, in `result`. */
static ckpt_status run_once(kernel_bench *b, const ckpt_backend *backend, ckpt_device *device, const kernel_case *it,
                            void *const *values, kernel_run *r, void **result, ckpt_error *err) {
    r->bind = (ckpt_bind){.graph = &b->graph, .node = &r->node, .pool = &b->pool};
    r->bind.workspace_bytes = backend->traits->matmul_workspace_bytes;
    if (r->bind.workspace_bytes) CKPT_TRY(backend->allocate(device, r->bind.workspace_bytes, &r->bind.workspace, err));
    for (int i = 0; i < r->in_count; i++) {
        CKPT_TRY(backend->allocate(device, bytes_of(b, r->node.in[i]), &r->bind.in[i], err));
        upload(backend, device, r->bind.in[i], values[i], bytes_of(b, r->node.in[i]));
    }
    for (int i = 0; i < r->out_count; i++) {
        const uint64_t bytes = bytes_of(b, r->node.out[i]);
        if (r->in_place) {
            r->bind.out[i] = r->bind.in[i ? i + 1 : 0];
            continue;
        }
        void *nan = must_have((size_t)bytes);
        memset(nan, it->op == CKPT_OP_LOSS ? 0 : 0xFF, (size_t)bytes); /* a loss adds to what is there */
        CKPT_TRY(backend->allocate(device, bytes, &r->bind.out[i], err));
        upload(backend, device, r->bind.out[i], nan, bytes);
        free(nan);
    }
    CKPT_TRY(backend->bind(device, &r->bind, &r->launch, err));
    CKPT_TRY(backend->run(device, &r->launch, 1, &r->scalars, err));
    for (int i = 0; i < r->out_count; i++) {
        result[i] = must_have((size_t)bytes_of(b, r->node.out[i]));
        CKPT_TRY(backend->download(device, result[i], r->bind.out[i], bytes_of(b, r->node.out[i]), err));
    }
    return CKPT_OK;
}

static bool right_by_formula(const kernel_bench *b, const kernel_case *it, const kernel_run *r, void *const *values, const float *got) {
    const int64_t count = b->graph.tensor[r->node.out[0]].count;
    double error = 0, greatest = 1e-30;
    for (int i = 0; i < CHECKS; i++) {
        const int64_t e = i == 0 ? count - 1 : (int64_t)((uint64_t)i * 0x9E3779B97F4A7C15u % (uint64_t)count);
        const double want = it->want(b, (const float *const *)values, e), off = fabs((double)got[e] - want);
        greatest = fmax(greatest, fabs(want));
        error = off <= error ? error : off; /* NaN stays */
    }
    if (error <= 1e-5 * greatest) return true;
    printf("%-24s WRONG: error %g of %g\n", it->name, error, greatest);
    return false;
}

static bool same_numbers(const ckpt_tensor *t, const void *got, const void *want) {
    double off = 0, norm = 0;
    if (t->dtype != CKPT_F32 && t->dtype != CKPT_F64) return memcmp(got, want, (size_t)ckpt_tensor_bytes(t)) == 0;
    for (int64_t i = 0; i < t->count; i++) {
        const double g = t->dtype == CKPT_F32 ? (double)((const float *)got)[i] : ((const double *)got)[i];
        const double w = t->dtype == CKPT_F32 ? (double)((const float *)want)[i] : ((const double *)want)[i];
        off += (g - w) * (g - w), norm += w * w;
    }
    return sqrt(off) <= 1e-5 * sqrt(norm);
}

static bool right_by_cpu(kernel_bench *b, const kernel_case *it, const kernel_run *r, void *const *values, void *const *got) {
    const ckpt_backend *cpu = ckpt_backend_cpu();
    const ckpt_device_options options = {.threads = 0};
    kernel_run other = *r;
    void *want[CKPT_MAX_OUT] = {0};
    ckpt_device *device;
    ckpt_error err;
    bool right = true;
    must(cpu->open(&options, &device, &err), &err);
    must(run_once(b, cpu, device, it, values, &other, want, &err), &err);
    for (int i = 0; i < r->out_count && right; i++) right = same_numbers(&b->graph.tensor[r->node.out[i]], got[i], want[i]);
    for (int i = 0; i < r->out_count; i++) free(want[i]);
    cpu->close(device);
    if (!right) printf("%-24s WRONG: not what the CPU's kernel gives\n", it->name);
    return right;
}

bool kernel_prepare(kernel_bench *b, int index, kernel_run *r, bool *missing) {
    const kernel_case *it = &cases[index];
    void *values[CKPT_MAX_IN] = {0}, *result[CKPT_MAX_OUT] = {0};
    ckpt_error err = {.message = ""};
    *r = (kernel_run){.name = it->name, .in_count = (int)strlen(it->in), .out_count = (int)strlen(it->out), .in_place = is_update(it->op)};
    *missing = !b->backend->supports(it->op);
    if (*missing) return printf("%-24s no kernel\n", it->name), false;
    r->scalars = (ckpt_scalars){.seed = 1, .learning_rate = 1e-3f, .valid_samples = b->rows, .denominator = {(double)b->rows}};
    int in[CKPT_MAX_IN], out[CKPT_MAX_OUT];
    for (int i = 0; i < r->in_count; i++) {
        in[i] = make_tensor(b, it->in[i]);
        values[i] = make_values(b, in[i], it->in[i], (uint32_t)(index * CKPT_MAX_IN + i));
        r->bytes += (double)bytes_of(b, in[i]);
    }
    for (int i = 0; i < r->out_count; i++) {
        out[i] = r->in_place ? in[i ? i + 1 : 0] : make_tensor(b, it->out[i]);
        r->bytes += (double)bytes_of(b, out[i]);
    }
    const int n = ckpt_graph_add_node(&b->graph, it->op, CKPT_FORWARD, it->name, r->in_count, in, r->out_count, out, &err);
    if (n < 0) must(CKPT_NOMEM, &err);
    it->attr(b, &b->graph.node[n].attr);
    r->node = b->graph.node[n];
    r->flops = (double)ckpt_node_cost(&b->graph, n).flops;
    bool right = run_once(b, b->backend, b->device, it, values, r, result, &err) == CKPT_OK;
    if (!right) printf("%-24s %s\n", it->name, err.message);
    else if (it->want) right = right_by_formula(b, it, r, values, result[0]);
    else if (b->backend != ckpt_backend_cpu()) right = right_by_cpu(b, it, r, values, result);
    for (int i = 0; i < r->in_count; i++) free(values[i]);
    for (int i = 0; i < r->out_count; i++) free(result[i]);
    return right;
}

void kernel_release(kernel_bench *b, kernel_run *r) {
    if (r->bind.workspace) b->backend->release(b->device, r->bind.workspace);
    for (int i = 0; i < r->in_count; i++)
        if (r->bind.in[i]) b->backend->release(b->device, r->bind.in[i]);
    for (int i = 0; i < r->out_count && !r->in_place; i++)
        if (r->bind.out[i]) b->backend->release(b->device, r->bind.out[i]);
    *r = (kernel_run){0};
}

static int compare_times(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double kernel_median(double *times, int count) {
    qsort(times, (size_t)count, sizeof *times, compare_times);
    return times[count / 2];
}
