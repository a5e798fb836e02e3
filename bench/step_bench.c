/* Times training steps of a uniform MLP, Linear-ReLU-Dropout a layer, under plans, on either backend.
 *
 *   step_bench table [OPTIONS]   one row a plan: bytes, recomputation, step time as the median of ratios to `none`,
 *                                measured in turn, block by block, and the bits of the weights compared
 *   step_bench kept  [OPTIONS]   bytes kept from the forward to the backward pass without recomputation
 *   step_bench serve [OPTIONS]   the protocol of bench/peer/torch_mlp.py on stdin and stdout
 *   step_bench plan  [OPTIONS]   milliseconds that each strategy takes to plan
 *
 *   --layers 16 --width 1024 --batch 512 --classes 10 --dropout 0.1 --optimizer sgd --lr 0.001 --threads 0 --rounds 9
 *   --steps 1 (in a block of `table`) --device cpu --precision fp32 --strategy none --budget BYTES
 *
 * Weights and data are a rule's numbers (fill), which the peers in bench/peer follow too: both sides train the same
 * network on the same batch. A block ends when its loss has been read, so that all of its work has been done.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/units.h"
#include "graph/autodiff.h"
#include "graph/build.h"
#include "graph/rewrite.h"
#include "planner/plan.h"
#include "runtime/exec.h"
#include "runtime/train.h"

typedef struct options {
    int64_t layers, width, batch, classes, rounds, threads, steps;
    double dropout, lr;
    const char *optimizer;
    const ckpt_backend *backend;
    ckpt_precision precision;
    ckpt_plan_options plan;
} options;

static void must(ckpt_status status, const ckpt_error *err) {
    if (status == CKPT_OK) return;
    fprintf(stderr, "step_bench: %s\n", err->message);
    exit(ckpt_exit_status(status));
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int64_t count) {
    qsort(values, (size_t)count, sizeof *values, by_value);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static float number(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state / 2147483648.0f;
}

static int parameter(ckpt_graph *g, const char *name, int rank, const int64_t *dims) {
    ckpt_error err;
    const int t = ckpt_graph_add_tensor(g, name, CKPT_F32, CKPT_ROLE_PARAM, rank, dims, &err);
    if (t < 0) must(CKPT_NOMEM, &err);
    return t;
}

static void build(const options *o, ckpt_graph *g) {
    ckpt_error err;
    *g = (ckpt_graph){.batch = o->batch, .result = -1};
    const int64_t shape[2] = {o->batch, o->width};
    g->input = ckpt_pool_array(&g->pool, 1, int);
    g->input_count = 1;
    g->input[0] = ckpt_graph_add_tensor(g, "x", CKPT_F32, CKPT_ROLE_INPUT, 2, shape, &err);
    ckpt_view x = ckpt_view_of(g, g->input[0]);
    for (int64_t l = 0; l <= o->layers; l++) {
        const int64_t out = l < o->layers ? o->width : o->classes;
        const int64_t dims[2] = {out, o->width};
        char name[32];
        snprintf(name, sizeof name, "layer.%d", (int)l);
        const int weight = parameter(g, name, 2, dims), bias = parameter(g, name, 1, dims);
        const ckpt_view w = ckpt_view_of(g, weight);
        ckpt_linear_attr attr = {.trans_w = true, .alpha = 1, .beta = 1};
        if (l < o->layers)
            attr.epilogue = (ckpt_epilogue){.act = CKPT_ACT_RELU, .drop = (float)o->dropout, .stream = (uint32_t)l};
        ckpt_view y;
        must(ckpt_build_linear(g, name, &x, &w, bias, &attr, &y, &err), &err);
        x = y;
    }
    const ckpt_loss_term term = ckpt_loss_term_of(CKPT_LOSS_CE, &x);
    must(ckpt_loss_attach(g, &term, &x, &err), &err);
    ckpt_training_options training = {0};
    if (!ckpt_optimizer_parse(o->optimizer, &training.optimizer)) {
        fprintf(stderr, "step_bench: no optimizer '%s'\n", o->optimizer);
        exit(2);
    }
    ckpt_training_defaults(&training);
    const bool bf16 = o->precision == CKPT_PRECISION_BF16;
    if (bf16) must(ckpt_rewrite_to_bf16(g, &err), &err);
    must(ckpt_autodiff_run(g, &training, &err), &err);
    if (bf16) must(ckpt_rewrite_add_casts(g, o->backend->traits->bf16_kernels, &err), &err);
}

/* Tensor k of the parameters in the order of the layers (weight, bias, weight, ...) draws from seed k + 1, the input from
 * seed 2^20, the classes from 2^20 + 1, each spread by Knuth's multiplier. */
static void fill_tensor(ckpt_exec *exec, const ckpt_graph *g, int t, uint32_t seed, float scale, int64_t classes) {
    ckpt_error err;
    const ckpt_tensor *tensor = &g->tensor[t];
    uint32_t state = seed * 2654435761u;
    float *values = malloc((size_t)ckpt_tensor_bytes(tensor));
    if (!values) exit(5);
    for (int64_t i = 0; i < tensor->count; i++) {
        const float v = number(&state);
        if (tensor->dtype == CKPT_I32) ((int32_t *)values)[i] = (int32_t)((v + 1) * 0.499f * (float)classes);
        else values[i] = scale * v;
    }
    must(ckpt_exec_set(exec, t, values, &err), &err);
    free(values);
}

static void fill(ckpt_exec *exec, const ckpt_graph *g, const options *o) {
    uint32_t parameters = 0;
    for (int t = 0; t < g->tensor_count; t++) {
        const ckpt_tensor *tensor = &g->tensor[t];
        if (tensor->role != CKPT_ROLE_PARAM) continue;
        fill_tensor(exec, g, t, ++parameters, tensor->rank == 2 ? 2.4f / sqrtf((float)tensor->dim[1]) : 0.01f, 0);
    }
    fill_tensor(exec, g, g->input[0], 1u << 20, 1, 0);
    fill_tensor(exec, g, g->target[0], (1u << 20) + 1, 1, o->classes);
}

typedef struct runner {
    ckpt_plan *plan;
    ckpt_exec *exec;
    uint32_t step;
} runner;

static ckpt_status open_runner(runner *r, const options *o, const ckpt_graph *g, const ckpt_plan_options *plan, ckpt_error *err) {
    const ckpt_exec_options exec = {.backend = o->backend, .preserve_rng = true,
                                    .device = {.threads = (int)o->threads, .precision = o->precision}};
    *r = (runner){0};
    CKPT_TRY(ckpt_plan_make(g, plan, o->backend->traits, NULL, &r->plan, err));
    CKPT_TRY(ckpt_exec_open(&exec, g, r->plan, NULL, NULL, &r->exec, err));
    fill(r->exec, g, o);
    return CKPT_OK;
}

/* Seconds of a block of steps, and the mean loss of its last one. */
static double run(runner *r, const options *o, const ckpt_graph *g, int64_t steps, double *loss) {
    ckpt_error err;
    double result[2];
    const double start = seconds();
    for (int64_t i = 0; i < steps; i++) {
        ckpt_scalars scalars = {.seed = 1, .step = r->step++, .learning_rate = (float)o->lr, .valid_samples = g->batch};
        ckpt_scalars_count_all(&scalars, g, g->batch);
        must(ckpt_exec_train(r->exec, &scalars, true, true, &err), &err);
    }
    must(ckpt_exec_result(r->exec, result, &err), &err);
    *loss = result[0];
    return seconds() - start;
}

static void close_runner(runner *r) {
    ckpt_exec_close(r->exec);
    ckpt_plan_free(r->plan);
}

static void weights_hash(const runner *r, const ckpt_graph *g, char hash[65]) {
    ckpt_error err;
    int *ids = calloc((size_t)g->tensor_count, sizeof *ids), count = 0;
    for (int t = 0; t < g->tensor_count; t++)
        if (g->tensor[t].role == CKPT_ROLE_PARAM) ids[count++] = t;
    must(ckpt_train_hash(r->exec, g, ids, count, hash, &err), &err);
    free(ids);
}

static void row(const options *o, const ckpt_graph *g, const char *name, const ckpt_plan_options *options_of) {
    runner none, other;
    const ckpt_plan_options keep_all = {.strategy = CKPT_STRATEGY_NONE};
    double *ratio = calloc((size_t)o->rounds, sizeof *ratio);
    char hash[2][65], total[CKPT_SIZE_TEXT], live[CKPT_SIZE_TEXT];
    double loss;
    ckpt_error err;
    must(open_runner(&none, o, g, &keep_all, &err), &err);
    must(open_runner(&other, o, g, options_of, &err), &err);
    run(&none, o, g, 2, &loss), run(&other, o, g, 2, &loss);
    for (int64_t i = 0; i < o->rounds; i++) {
        const double base = run(&none, o, g, o->steps, &loss);
        ratio[i] = run(&other, o, g, o->steps, &loss) / base;
    }
    weights_hash(&none, g, hash[0]);
    weights_hash(&other, g, hash[1]);
    const ckpt_plan_compute *c = &other.plan->compute;
    const double extra = (double)c->recompute_flops / (double)(c->forward_flops + c->backward_flops);
    const double slower = median(ratio, o->rounds) - 1;
    printf("| %s | %s | %s | %.3f | %.1f %% | %+.1f %% | %s | %s |\n", name,
           ckpt_units_format_size(other.plan->memory.total, total), ckpt_units_format_size(other.plan->memory.live_peak, live),
           (double)other.plan->memory.live_peak / (double)none.plan->memory.live_peak, 100 * extra, 100 * slower,
           ckpt_exec_measured_peak(other.exec) == other.plan->memory.total ? "equal" : "DIFFERENT",
           strcmp(hash[0], hash[1]) == 0 ? "equal" : "DIFFERENT");
    fflush(stdout);
    free(ratio);
    close_runner(&none);
    close_runner(&other);
}

static uint64_t total_of(const options *o, const ckpt_graph *g, ckpt_strategy strategy) {
    ckpt_error err;
    ckpt_plan *plan;
    const ckpt_plan_options options_of = {.strategy = strategy};
    must(ckpt_plan_make(g, &options_of, o->backend->traits, NULL, &plan, &err), &err);
    const uint64_t total = plan->memory.total;
    ckpt_plan_free(plan);
    return total;
}

static void table(const options *o, const ckpt_graph *g) {
    const uint64_t most = total_of(o, g, CKPT_STRATEGY_NONE), least = total_of(o, g, CKPT_STRATEGY_MIN);
    printf("| plan | all memory | step memory | of `none` | recomputed | slower | planned = measured | weights |\n");
    printf("| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |\n");
    row(o, g, "`none`", &(ckpt_plan_options){.strategy = CKPT_STRATEGY_NONE});
    row(o, g, "`sqrt`", &(ckpt_plan_options){.strategy = CKPT_STRATEGY_SQRT});
    row(o, g, "`budget` of `sqrt`'s size",
        &(ckpt_plan_options){.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = total_of(o, g, CKPT_STRATEGY_SQRT)});
    for (int quarter = 3; quarter >= 1; quarter--) {
        char name[64], size[CKPT_SIZE_TEXT];
        const uint64_t budget = least + (most - least) * (uint64_t)quarter / 4;
        snprintf(name, sizeof name, "`--budget` %s", ckpt_units_format_size(budget, size));
        row(o, g, name, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = budget});
    }
    row(o, g, "`min`", &(ckpt_plan_options){.strategy = CKPT_STRATEGY_MIN});
}

/* What is live when the last forward node has run. */
static uint64_t kept_bytes(const ckpt_plan *plan, const ckpt_graph *g) {
    uint64_t bytes = 0;
    int last = 0;
    for (int i = 0; i < plan->step_count; i++)
        if (plan->step[i].node < g->forward_count && !plan->step[i].recompute) last = i + 1;
    for (int k = 0; k < plan->instance_count; k++)
        if (plan->instance[k].first < last && plan->instance[k].end > last) bytes += plan->instance[k].bytes;
    return bytes;
}

static void kept(const options *o, const ckpt_graph *g) {
    ckpt_error err;
    ckpt_plan *plan;
    const ckpt_plan_options none = {.strategy = CKPT_STRATEGY_NONE};
    must(ckpt_plan_make(g, &none, o->backend->traits, NULL, &plan, &err), &err);
    const uint64_t bytes = kept_bytes(plan, g);
    const double one = (double)(o->batch * o->width * 4 * o->layers);
    printf("{\"kept_bytes\": %llu, \"per_hidden_value\": %.4f}\n", (unsigned long long)bytes, (double)bytes / one);
    ckpt_plan_free(plan);
}

/* Bytes of the device in use now are what the driver says, all processes included; 0 where it says nothing. */
static void say_memory(const runner *r, const ckpt_graph *g) {
    ckpt_exec_memory device;
    ckpt_error err;
    const ckpt_plan *p = r->plan;
    must(ckpt_exec_device_memory(r->exec, &device, &err), &err);
    const struct { const char *name; uint64_t value; } keys[] = {
        {"planned_bytes", p->memory.total}, {"peak_bytes", ckpt_exec_measured_peak(r->exec)},
        {"live_peak_bytes", p->memory.live_peak}, {"workspace_bytes", p->memory.workspace}, {"saved_bytes", kept_bytes(p, g)},
        {"device_bytes", device.total_bytes}, {"before_bytes", device.before_bytes}, {"taken_bytes", device.taken_bytes},
        {"used_bytes", device.before_bytes + device.taken_bytes},
        {"step_flops", p->compute.forward_flops + p->compute.backward_flops}, {"recompute_flops", p->compute.recompute_flops}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        printf("%s\"%s\": %llu", i ? ", " : "{", keys[i].name, (unsigned long long)keys[i].value);
    printf("}\n");
}

/* The loss of each step. */
static void say_losses(runner *r, const options *o, const ckpt_graph *g, int steps) {
    for (int i = 0; i < steps; i++) {
        double loss;
        run(r, o, g, 1, &loss);
        printf("%s%.9g", i ? ", " : "{\"losses\": [", loss);
    }
    printf("]}\n");
}

/* A message holds no control characters; quotes and backslashes are what JSON needs escaped. */
static int refuse(ckpt_status status, const ckpt_error *err) {
    printf("{\"ready\": false, \"error\": \"");
    for (const char *c = err->message; *c; c++) printf(*c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
    printf("\"}\n");
    return ckpt_exit_status(status);
}

static int serve(const options *o, const ckpt_graph *g) {
    runner r;
    char line[64];
    ckpt_error err;
    const ckpt_status status = open_runner(&r, o, g, &o->plan, &err);
    if (status != CKPT_OK) return refuse(status, &err);
    printf("{\"ready\": true, \"ckpt\": \"%s\", \"device\": \"%s\"}\n", CKPT_VERSION, o->backend->name);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) && strncmp(line, "quit", 4) != 0) {
        int steps;
        double loss;
        if (sscanf(line, "run %d", &steps) == 1 && steps > 0) {
            const double spent = run(&r, o, g, steps, &loss);
            printf("{\"seconds\": %.9f, \"steps\": %d, \"loss\": %.9g}\n", spent, steps, loss);
        } else if (sscanf(line, "losses %d", &steps) == 1 && steps > 0) {
            say_losses(&r, o, g, steps);
        } else if (strncmp(line, "memory", 6) == 0) {
            say_memory(&r, g);
        } else {
            printf("{\"error\": \"unknown command\"}\n");
        }
        fflush(stdout);
    }
    close_runner(&r);
    return 0;
}

static void plan_times(const options *o, const ckpt_graph *g) {
    const uint64_t most = total_of(o, g, CKPT_STRATEGY_NONE), least = total_of(o, g, CKPT_STRATEGY_MIN);
    for (int s = 0; s < CKPT_STRATEGY_COUNT; s++) {
        const ckpt_plan_options options_of = {.strategy = (ckpt_strategy)s, .every = 4, .layers = "1-3",
                                              .budget_bytes = least + (most - least) / 3};
        double times[5];
        for (int i = 0; i < 5; i++) {
            ckpt_error err;
            ckpt_plan *plan;
            const double start = seconds();
            must(ckpt_plan_make(g, &options_of, o->backend->traits, NULL, &plan, &err), &err);
            times[i] = seconds() - start;
            ckpt_plan_free(plan);
        }
        printf("%-10s %8.2f ms\n", ckpt_strategy_name((ckpt_strategy)s), 1e3 * median(times, 5));
    }
}

static int usage(const char *what, const char *value) {
    fprintf(stderr, "step_bench: %s '%s' is not known or not built in\n", what, value);
    return 2;
}

static int parse_device(options *o, const char *name) {
    o->backend = strcmp(name, "cpu") == 0 ? ckpt_backend_cpu() : strcmp(name, "cuda") == 0 ? ckpt_backend_cuda() : NULL;
    return o->backend ? 0 : usage("--device", name);
}

static int parse_precision(options *o, const char *name) {
    static const char *const names[] = {
        [CKPT_PRECISION_FP32] = "fp32", [CKPT_PRECISION_TF32] = "tf32", [CKPT_PRECISION_BF16] = "bf16"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) return o->precision = (ckpt_precision)i, 0;
    return usage("--precision", name);
}

/* 0, or the exit status of a wrong option. */
static int parse(options *o, int argc, char **argv) {
    const struct { const char *name; int64_t *value; } integers[] = {
        {"--layers", &o->layers}, {"--width", &o->width}, {"--batch", &o->batch}, {"--classes", &o->classes},
        {"--rounds", &o->rounds}, {"--threads", &o->threads}, {"--steps", &o->steps}};
    int wrong = 0;
    for (int i = 2; i < argc && !wrong; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        size_t k = 0;
        while (k < sizeof integers / sizeof *integers && strcmp(name, integers[k].name) != 0) k++;
        if (k < sizeof integers / sizeof *integers) *integers[k].value = atoll(value);
        else if (strcmp(name, "--dropout") == 0) o->dropout = atof(value);
        else if (strcmp(name, "--lr") == 0) o->lr = atof(value);
        else if (strcmp(name, "--optimizer") == 0) o->optimizer = value;
        else if (strcmp(name, "--device") == 0) wrong = parse_device(o, value);
        else if (strcmp(name, "--precision") == 0) wrong = parse_precision(o, value);
        else if (strcmp(name, "--strategy") == 0) wrong = ckpt_strategy_parse(value, &o->plan.strategy) ? 0 : usage(name, value);
        else if (strcmp(name, "--budget") == 0) {
            o->plan.strategy = CKPT_STRATEGY_BUDGET;
            o->plan.budget_bytes = strtoull(value, NULL, 10);
        } else wrong = usage("option", name);
    }
    return wrong;
}

int main(int argc, char **argv) {
    options o = {.layers = 16, .width = 1024, .batch = 512, .classes = 10, .rounds = 9, .steps = 1, .dropout = 0.1, .lr = 1e-3,
                 .optimizer = "sgd", .backend = ckpt_backend_cpu()};
    ckpt_graph graph;
    int status = parse(&o, argc, argv);
    if (status) return status;
    build(&o, &graph);
    const char *mode = argc > 1 ? argv[1] : "table";
    if (strcmp(mode, "kept") == 0) kept(&o, &graph);
    else if (strcmp(mode, "serve") == 0) status = serve(&o, &graph);
    else if (strcmp(mode, "plan") == 0) plan_times(&o, &graph);
    else if (strcmp(mode, "table") == 0) table(&o, &graph);
    else status = usage("mode", mode);
    ckpt_graph_free(&graph);
    return status;
}
