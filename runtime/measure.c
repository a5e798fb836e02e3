#include "runtime/measure.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIDE = 512, LONG = 4 << 20, TINY = 8, LAUNCHES = 512, REPEATS = 15, MOST_REPEATS = 200 };
enum { LEAST_ROUNDS = 5, MOST_ROUNDS = 400 };
#define ENOUGH_SECONDS 2.0
#define PROBE_SECONDS 0.2

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* --- rates --- */

typedef struct probe {
    const ckpt_backend *backend;
    ckpt_device *device;
    ckpt_graph graph;
    ckpt_pool pool;
    void *workspace;
    ckpt_precision precision;
} probe;

/* A tensor of small values, whole in either type, in memory of its own. */
static ckpt_status make_tensor(probe *p, ckpt_dtype dtype, int rank, const int64_t *dims, int *tensor, void **address,
                               ckpt_error *err) {
    *tensor = ckpt_graph_add_tensor(&p->graph, "probe", dtype, CKPT_ROLE_STEP, rank, dims, err);
    if (*tensor < 0) return CKPT_NOMEM;
    const int64_t count = p->graph.tensor[*tensor].count;
    const size_t bytes = (size_t)count * (dtype == CKPT_BF16 ? sizeof(uint16_t) : sizeof(float));
    float *values = malloc((size_t)count * sizeof *values);
    if (!values) return ckpt_fail(err, CKPT_NOMEM, "out of host memory while measuring");
    for (int64_t i = 0; i < count; i++) values[i] = (float)(i % 251) * 0x1p-8f - 0.5f;
    for (int64_t i = 0; i < count && dtype == CKPT_BF16; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        const uint16_t upper = (uint16_t)(bits >> 16);
        memcpy((char *)values + (size_t)i * sizeof upper, &upper, sizeof upper);
    }
    ckpt_status status = p->backend->allocate(p->device, bytes, address, err);
    if (status == CKPT_OK) status = p->backend->upload(p->device, *address, values, bytes, err);
    free(values);
    return status;
}

/* Seconds of one of `launches` runs of the node in a row: the best of several such rows. */
static ckpt_status time_node(probe *p, int node, const ckpt_bind *bind, int launches, double *seconds, ckpt_error *err) {
    ckpt_launch *launch = ckpt_pool_array(&p->pool, launches, ckpt_launch);
    char back[4];
    if (!launch) return ckpt_fail(err, CKPT_NOMEM, "out of host memory while measuring");
    ckpt_bind own = *bind;
    own.graph = &p->graph, own.node = &p->graph.node[node], own.pool = &p->pool;
    const ckpt_scalars scalars = {.valid_samples = 1};
    CKPT_TRY(p->backend->bind(p->device, &own, &launch[0], err));
    for (int i = 1; i < launches; i++) launch[i] = launch[0];
    const double begin = now_seconds();
    for (int r = 0; r < REPEATS || (r < MOST_REPEATS && now_seconds() - begin < PROBE_SECONDS); r++) {
        const double start = now_seconds();
        CKPT_TRY(p->backend->run(p->device, launch, launches, &scalars, err));
        /* A device that works on its own has finished when something comes back. */
        if (p->backend->overlap) CKPT_TRY(p->backend->download(p->device, back, bind->out[0], sizeof back, err));
        const double each = (now_seconds() - start) / launches;
        if (r == 0 || each < *seconds) *seconds = each;
    }
    return CKPT_OK;
}

static ckpt_status time_product(probe *p, int64_t side, int launches, double *seconds, ckpt_error *err) {
    const int64_t dims[2] = {side, side};
    int in[2], out;
    ckpt_bind bind = {.workspace = p->workspace, .workspace_bytes = p->backend->traits->matmul_workspace_bytes};
    const ckpt_dtype dtype = p->precision == CKPT_PRECISION_BF16 ? CKPT_BF16 : CKPT_F32;
    CKPT_TRY(make_tensor(p, dtype, 2, dims, &in[0], &bind.in[0], err));
    CKPT_TRY(make_tensor(p, dtype, 2, dims, &in[1], &bind.in[1], err));
    CKPT_TRY(make_tensor(p, dtype, 2, dims, &out, &bind.out[0], err));
    const int node = ckpt_graph_add_node(&p->graph, CKPT_OP_LINEAR, CKPT_FORWARD, "product", 2, in, 1, &out, err);
    if (node < 0) return CKPT_NOMEM;
    p->graph.node[node].attr.linear = (ckpt_linear_attr){side, side, side, true, 1, 1, {.act = CKPT_ACT_IDENTITY}};
    return time_node(p, node, &bind, launches, seconds, err);
}

static ckpt_status time_sum(probe *p, int64_t count, int launches, double *seconds, ckpt_error *err) {
    int in[2], out;
    ckpt_bind bind = {0};
    CKPT_TRY(make_tensor(p, CKPT_F32, 1, &count, &in[0], &bind.in[0], err));
    CKPT_TRY(make_tensor(p, CKPT_F32, 1, &count, &in[1], &bind.in[1], err));
    CKPT_TRY(make_tensor(p, CKPT_F32, 1, &count, &out, &bind.out[0], err));
    const int node = ckpt_graph_add_node(&p->graph, CKPT_OP_BINARY, CKPT_FORWARD, "sum", 2, in, 1, &out, err);
    if (node < 0) return CKPT_NOMEM;
    p->graph.node[node].attr.binary = (ckpt_binary_attr){CKPT_BINARY_ADD, 1, {count}, {1}, {1}};
    return time_node(p, node, &bind, launches, seconds, err);
}

static ckpt_status measure(probe *p, ckpt_rates *rates, ckpt_error *err) {
    double product = 0, tiny_product = 0, sum = 0, tiny = 0;
    const uint64_t workspace = p->backend->traits->matmul_workspace_bytes;
    p->graph.batch = SIDE;
    if (workspace) CKPT_TRY(p->backend->allocate(p->device, workspace, &p->workspace, err));
    CKPT_TRY(time_product(p, SIDE, 1, &product, err));
    CKPT_TRY(time_product(p, TINY, LAUNCHES, &tiny_product, err));
    CKPT_TRY(time_sum(p, LONG, 1, &sum, err));
    CKPT_TRY(time_sum(p, TINY, LAUNCHES, &tiny, err));
    *rates = (ckpt_rates){.device = p->backend->name, .precision = p->precision, .measured = true, .launch_seconds = tiny,
                          .product_launch_seconds = tiny_product,
                          .flops_per_second = 2.0 * SIDE * SIDE * SIDE / product,
                          .bytes_per_second = 3.0 * sizeof(float) * LONG / sum};
    return CKPT_OK;
}

ckpt_status ckpt_measure_rates(const ckpt_backend *backend, const ckpt_device_options *options, ckpt_rates *rates,
                               ckpt_error *err) {
    probe p = {.backend = backend, .precision = options->precision};
    ckpt_device_options apart = *options;
    apart.no_fusion = true; /* many runs of one node are to stay many */
    CKPT_TRY(backend->open(&apart, &p.device, err));
    const ckpt_status status = measure(&p, rates, err);
    backend->close(p.device);
    ckpt_graph_free(&p.graph);
    ckpt_pool_free(&p.pool);
    return status;
}

/* --- nodes --- */

typedef struct rounds {
    ckpt_exec *exec;
    ckpt_scalars scalars;
    int steps, count; /* of the plan; rounds so far */
    double *time;     /* by plan step, MOST_ROUNDS of each */
    double *whole;
    double *once;     /* one round, by plan step */
} rounds;

static ckpt_status run_rounds(rounds *r, ckpt_error *err) {
    const double begin = now_seconds();
    double result[2];
    while (r->count < LEAST_ROUNDS || (r->count < MOST_ROUNDS && now_seconds() - begin < ENOUGH_SECONDS)) {
        const double start = now_seconds();
        CKPT_TRY(ckpt_exec_train(r->exec, &r->scalars, true, true, err));
        if (ckpt_exec_buffers(r->exec) > 1) CKPT_TRY(ckpt_exec_result(r->exec, result, err));
        r->whole[r->count] = now_seconds() - start;
        CKPT_TRY(ckpt_exec_train_timed(r->exec, &r->scalars, true, true, r->once, err));
        for (int s = 0; s < r->steps; s++) r->time[(size_t)s * MOST_ROUNDS + (size_t)r->count] = r->once[s];
        r->count++;
    }
    return CKPT_OK;
}

/* Medians, less what taking each one's time adds: together they are the whole step's median. */
static void settle(rounds *r, const ckpt_plan *plan, int *runs, double *seconds) {
    double sum = 0, least = 1e9, left = 0;
    const double whole = median(r->whole, r->count);
    for (int s = 0; s < r->steps; s++) {
        r->once[s] = median(r->time + (size_t)s * MOST_ROUNDS, r->count);
        sum += r->once[s];
        if (r->once[s] < least) least = r->once[s];
    }
    double each = (sum - whole) / r->steps;
    each = each < 0 ? 0 : each > least / 2 ? least / 2 : each;
    left = sum - each * r->steps;
    for (int s = 0; s < r->steps; s++) {
        const int n = plan->step[s].node;
        seconds[n] += (r->once[s] - each) * (left > 0 ? whole / left : 1);
        runs[n]++;
    }
}

/* A whole batch of the data, some of them several times over where there are fewer: times do not depend on the values. */
static ckpt_status take_batch(const ckpt_dataset *data, int64_t samples, ckpt_pool *pool, ckpt_dataset *batch, ckpt_error *err) {
    *batch = (ckpt_dataset){.arrays = ckpt_pool_array(pool, data->array_count, ckpt_array), .array_count = data->array_count,
                            .samples = (uint64_t)samples};
    bool ok = batch->arrays;
    for (size_t a = 0; ok && a < data->array_count; a++) {
        const size_t bytes = ckpt_array_sample_bytes(&data->arrays[a]);
        char *to = ckpt_pool_alloc(pool, (size_t)samples, bytes);
        ok = to;
        for (int64_t i = 0; ok && i < samples; i++)
            memcpy(to + (size_t)i * bytes, (const char *)data->arrays[a].data + (size_t)i % (size_t)data->samples * bytes, bytes);
        batch->arrays[a] = data->arrays[a];
        batch->arrays[a].dim[0] = samples;
        batch->arrays[a].data = to;
    }
    return ok ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory while measuring");
}

ckpt_status ckpt_measure_nodes(const ckpt_train_options *training, const ckpt_plan *plan, double *seconds, ckpt_error *err) {
    ckpt_train_options warm = *training;
    ckpt_train_report report;
    ckpt_pool pool = {0};
    const int64_t samples = training->batch;
    ckpt_dataset batch;
    warm.learning_rate = 0, warm.steps = 3, warm.epochs = 0, warm.data = &batch, warm.validation = NULL;
    rounds r = {.exec = training->exec, .steps = plan->step_count,
                .scalars = {.valid_samples = samples},
                .time = ckpt_pool_array(&pool, (size_t)plan->step_count * MOST_ROUNDS, double),
                .whole = ckpt_pool_array(&pool, MOST_ROUNDS, double),
                .once = ckpt_pool_array(&pool, plan->step_count, double)};
    int *runs = ckpt_pool_array(&pool, training->graph->node_count, int);
    ckpt_status status = CKPT_OK;
    if (!r.time || !r.whole || !r.once || !runs) status = ckpt_fail(err, CKPT_NOMEM, "out of host memory while measuring");
    ckpt_scalars_count_all(&r.scalars, training->graph, samples);
    if (status == CKPT_OK) status = take_batch(training->data, samples, &pool, &batch, err);
    if (status == CKPT_OK) status = ckpt_train_run(&warm, &report, err);
    if (status == CKPT_OK) status = run_rounds(&r, err);
    if (status == CKPT_OK) {
        for (int n = 0; n < training->graph->node_count; n++) seconds[n] = 0;
        settle(&r, plan, runs, seconds);
        for (int n = 0; n < training->graph->node_count; n++)
            if (runs[n]) seconds[n] /= runs[n];
    }
    ckpt_pool_free(&pool);
    return status;
}
