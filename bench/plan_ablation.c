/* What each technique of the planner's solvers is worth, and whether one build plans better than another.
 *
 *   plan_ablation [--techniques] [--write FILE] [--against FILE] [MODEL...]
 *
 * Plans every model, or those that are named, at five budgets between its smallest plan and storing everything, with nominal
 * costs, and prints the recomputation, the lower bound and the processor time of each plan.
 *
 *   --techniques     plans once more without each technique of solver_options.h, at the same budgets, and prints a table
 *   --write FILE     keeps the plans' figures
 *   --against FILE   plans at the budgets of a file that another build wrote, and compares; exit status 1 when a plan is worse by
 *                    more than 0.1 % of a step, or the plans are worse on average
 *
 * Models come from models/ and tests/golden/networks of the working directory and, where it is set, from $CKPT_SHARED_DATA.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "graph/autodiff.h"
#include "graph/build.h"
#include "import/model.h"
#include "planner/plan.h"
#if __has_include("planner/core/step_time.h")
#include "planner/core/step_time.h"
#else
#include "planner/step_time.h"
#endif

enum { MOST_MODELS = 128, MOST_ROWS = 8 * MOST_MODELS, PARTS = 5 };

static const double parts[PARTS] = {0.02, 0.125, 0.25, 0.5, 0.75}; /* of the way from the smallest plan to storing everything */
static const ckpt_traits traits = {.device = "cpu", .alignment_bytes = 256, .input_buffers = 1};

/* --- models ---------------------------------------------------------------------------------------------------- */

typedef enum source { BUNDLED, GOLDEN, SHARED, MADE } source;

typedef struct entry {
    char name[64];
    source from;
    const char *file;
    int64_t batch, sequence;
} entry;

static const entry of_review[] = {
    {"mlp_checkpointed", BUNDLED, "mlp_checkpointed", 256, 0},
    {"mlp_hourglass", BUNDLED, "mlp_hourglass", 256, 0},
    {"mlp_prenorm_gelu", BUNDLED, "mlp_prenorm_gelu", 256, 0},
    {"mlp_residual", BUNDLED, "mlp_residual", 256, 0},
    {"mlp_uniform64", BUNDLED, "mlp_uniform64", 256, 0},
    {"digits", BUNDLED, "digits", 256, 0},
    {"gpt", SHARED, "exported/torch113_gpt_eval_static", 4, 0},
    {"enc", SHARED, "exported/torch113_torch_enc_train", 4, 0},
    {"attention4", GOLDEN, "attention4", 4, 256},
    {"encoder8", GOLDEN, "encoder8", 4, 256},
    {"transformer24", GOLDEN, "transformer24", 4, 256},
    {"unet", GOLDEN, "unet", 4, 0},
    {"vgg19", SHARED, "onnx-light/light_vgg19", 16, 0},
    {"resnet50", SHARED, "onnx-light/light_resnet50", 16, 0},
    {"gelu64", MADE, NULL, 256, 0},
    {"rand100", MADE, NULL, 256, 0},
    {"blocks400", MADE, NULL, 256, 0},
    {"mlp1000", MADE, NULL, 256, 0},
};

typedef struct network {
    ckpt_model model; /* of a file, else only its graph is used */
    ckpt_graph evaluation;
    ckpt_pool pool;
    ckpt_costs costs;
    bool from_file;
} network;

static void must(ckpt_status status, const ckpt_error *err) {
    if (status == CKPT_OK) return;
    fprintf(stderr, "plan_ablation: %s\n", err->message);
    exit(2);
}

static void add_layer(ckpt_graph *g, int index, int64_t width, ckpt_act act, bool gelu, ckpt_view *x) {
    ckpt_error err;
    char name[32];
    const int64_t dims[2] = {width, x->dim[1]};
    const int w = ckpt_graph_add_tensor(g, "w", CKPT_F32, CKPT_ROLE_PARAM, 2, dims, &err);
    const int b = ckpt_graph_add_tensor(g, "b", CKPT_F32, CKPT_ROLE_PARAM, 1, &width, &err);
    if (w < 0 || b < 0) must(CKPT_NOMEM, &err);
    const ckpt_view weight = ckpt_view_of(g, w);
    const ckpt_linear_attr attr = {.trans_w = true, .alpha = 1, .beta = 1, .epilogue = {.act = act}};
    ckpt_view y;
    snprintf(name, sizeof name, "fc%d", index);
    must(ckpt_build_linear(g, name, x, &weight, b, &attr, &y, &err), &err);
    *x = y;
    if (!gelu) return;
    const ckpt_epilogue epilogue = {.act = CKPT_ACT_GELU};
    snprintf(name, sizeof name, "gelu%d", index);
    must(ckpt_build_act(g, name, &epilogue, x, &y, &err), &err);
    *x = y;
}

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

static ckpt_status make_chain(const char *name, int64_t batch, ckpt_graph *g, ckpt_error *err) {
    static const int64_t block[] = {64, 17, 23, 101};
    const int layers = (int)strtol(name + strcspn(name, "0123456789"), NULL, 10);
    const int64_t dims[2] = {batch, 64};
    uint64_t random = 88172645463325252u;
    *g = (ckpt_graph){.batch = batch, .result = -1};
    ckpt_view x = ckpt_view_of(g, ckpt_graph_add_tensor(g, "x", CKPT_F32, CKPT_ROLE_INPUT, 2, dims, err));
    for (int i = 0; i < layers; i++) {
        const bool gelu = strncmp(name, "gelu", 4) == 0;
        int64_t width = gelu ? 256 : 64;
        if (strncmp(name, "rand", 4) == 0) width = 16 + (int64_t)(next_random(&random) >> 20) % 497;
        if (strncmp(name, "blocks", 6) == 0) width = block[i % 4];
        add_layer(g, i, width, gelu ? CKPT_ACT_IDENTITY : CKPT_ACT_RELU, gelu, &x);
    }
    add_layer(g, layers, 10, CKPT_ACT_IDENTITY, false, &x);
    const ckpt_loss_term term = ckpt_loss_term_of(CKPT_LOSS_CE, &x);
    return ckpt_loss_attach(g, &term, &x, err);
}

static ckpt_status load_file(const entry *e, ckpt_model *model, ckpt_error *err) {
    char path[1024];
    const char *shared = getenv("CKPT_SHARED_DATA");
    const ckpt_dim_binding sequence = {"seq", e->sequence};
    const ckpt_model_options options = {.batch = e->batch, .loss_auto = true, .dim = &sequence, .dim_count = e->sequence > 0};
    if (e->from == SHARED && !shared) return ckpt_fail(err, CKPT_USAGE, "CKPT_SHARED_DATA is not set");
    const char *folder = e->from == BUNDLED ? "models" : e->from == GOLDEN ? "tests/golden/networks" : shared;
    if (snprintf(path, sizeof path, "%s/%s.onnx", folder, e->file ? e->file : e->name) >= (int)sizeof path)
        return ckpt_fail(err, CKPT_USAGE, "CKPT_SHARED_DATA is too long");
    return ckpt_model_load(path, &options, model, err);
}

static void unload(network *n) {
    ckpt_graph_free(&n->evaluation);
    if (n->from_file) ckpt_model_free(&n->model);
    else ckpt_graph_free(&n->model.graph);
    ckpt_pool_free(&n->pool);
}

static ckpt_status load(const entry *e, network *n, ckpt_error *err) {
    *n = (network){.from_file = e->from != MADE};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD};
    ckpt_training_defaults(&training);
    CKPT_TRY(n->from_file ? load_file(e, &n->model, err) : make_chain(e->name, e->batch, &n->model.graph, err));
    ckpt_status status = ckpt_training_graphs_make(&n->model.graph, &training, &n->evaluation, err);
    if (status == CKPT_OK)
        status = ckpt_costs_roofline(&n->model.graph, ckpt_rates_nominal("cpu", CKPT_PRECISION_FP32), &n->pool, &n->costs, err);
    if (status != CKPT_OK) unload(n);
    return status;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

/* The models of the review, then $CKPT_SHARED_DATA/nets by name. */
static int list_models(entry model[MOST_MODELS]) {
    int count = 0;
    for (size_t i = 0; i < sizeof of_review / sizeof *of_review; i++) model[count++] = of_review[i];
    const int first = count;
    char path[1024];
    const char *shared = getenv("CKPT_SHARED_DATA");
    snprintf(path, sizeof path, "%s/nets", shared ? shared : ".");
    DIR *folder = shared ? opendir(path) : NULL;
    for (struct dirent *file; folder && (file = readdir(folder)) && count < MOST_MODELS;) {
        const char *dot = strrchr(file->d_name, '.');
        if (!dot || strcmp(dot, ".onnx") != 0 || dot - file->d_name > 56) continue;
        snprintf(model[count].name, sizeof model->name, "nets/%.*s", (int)(dot - file->d_name), file->d_name);
        model[count].from = SHARED;
        model[count].file = NULL;
        model[count].batch = 6;
        model[count++].sequence = 0;
    }
    if (folder) closedir(folder);
    qsort(model + first, (size_t)(count - first), sizeof *model, by_name);
    return count;
}

/* --- plans ------------------------------------------------------------------------------------------------------- */

/* total: of the plan. Part -1 is the smallest plan. */
typedef struct row {
    char model[64];
    double part;
    uint64_t budget, total, cost, bound, step;
    bool refused, proved;
    double seconds;
} row;

static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* off: a technique to leave out, or -1. */
static void set_technique(ckpt_plan_options *options, int off);

static row make_plan(const char *name, const network *n, ckpt_strategy strategy, uint64_t budget, double part, int off) {
    ckpt_error err;
    ckpt_plan *plan;
    ckpt_plan_options options = {
        .strategy = strategy, .budget_bytes = budget, .eval = &n->evaluation, .costs = &n->costs};
    row r = {.part = part, .budget = budget};
    snprintf(r.model, sizeof r.model, "%s", name);
    set_technique(&options, off);
    const double start = processor_seconds();
    const ckpt_status status = ckpt_plan_make(&n->model.graph, &options, &traits, NULL, &plan, &err);
    r.seconds = processor_seconds() - start;
    r.refused = status == CKPT_INFEASIBLE;
    if (r.refused) return r;
    must(status, &err);
    r.total = plan->memory.total;
    r.cost = plan->compute.recompute_cost;
    r.bound = plan->bound.lower_bound_cost;
    r.step = plan->compute.step_cost;
    r.proved = plan->bound.proved;
    ckpt_plan_free(plan);
    return r;
}

static double share(uint64_t a, uint64_t b, uint64_t step) {
    return 100 * ((double)a - (double)b) / (double)step;
}

static void print_row(const row *r) {
    char part[16] = "min";
    if (r->part >= 0) snprintf(part, sizeof part, "%.1f %%", 100 * r->part);
    if (r->refused)
        printf("| %s | %s | %" PRIu64 " | refused | | | %.2f |\n", r->model, part, r->budget, r->seconds);
    else
        printf("| %s | %s | %" PRIu64 " | %.3f %% | %.3f %% | %s | %.2f |\n", r->model, part, r->total, share(r->cost, 0, r->step),
               share(r->cost, r->bound, r->step), r->proved ? "yes" : "no", r->seconds);
    fflush(stdout);
}

/* The smallest plan, and one a part; none where nothing can be saved. */
static int plan_parts(const char *name, const network *n, row rows[PARTS + 1]) {
    int count = 0;
    const row most = make_plan(name, n, CKPT_STRATEGY_NONE, 0, 1, -1);
    rows[count++] = make_plan(name, n, CKPT_STRATEGY_MIN, 0, -1, -1);
    const uint64_t least = rows[0].total;
    print_row(&rows[0]);
    for (int i = 0; i < PARTS; i++) {
        const uint64_t budget = least + (uint64_t)((double)(most.total - least) * parts[i]);
        rows[count] = make_plan(name, n, CKPT_STRATEGY_BUDGET, budget, parts[i], -1);
        print_row(&rows[count++]);
    }
    return count;
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static void write_row(FILE *file, const row *r) {
    fprintf(file, "%s %.3f %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %d %.3f\n", r->model, r->part, r->budget,
            r->total, r->cost, r->bound, r->step, r->proved, r->seconds);
    fflush(file);
}

static int read_rows(const char *path, row *rows) {
    FILE *file = fopen(path, "r");
    int count = 0, proved;
    if (!file) {
        perror(path);
        exit(2);
    }
    for (row *r = rows; count < MOST_ROWS; r = &rows[++count]) {
        *r = (row){0};
        if (fscanf(file, "%63s %lf %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %d %lf", r->model, &r->part,
                   &r->budget, &r->total, &r->cost, &r->bound, &r->step, &proved, &r->seconds) != 9)
            break;
        r->proved = proved;
    }
    fclose(file);
    return count;
}

/* --- comparison -------------------------------------------------------------------------------------------------- */

typedef struct comparison {
    int plans, worse, refused, proved_before, proved;
    double cost, least, most, gap, seconds_before, seconds;
} comparison;

/* Percent of a step; `worse_from` is what counts as worse. */
static void count(comparison *c, const row *before, const row *r, double worse_from) {
    if (before->refused) return;
    c->plans++;
    c->seconds_before += before->seconds;
    c->seconds += r->seconds;
    c->proved_before += before->proved;
    c->proved += r->proved;
    if (r->refused) {
        c->refused++;
        return;
    }
    const double cost = share(r->cost, before->cost, before->step);
    c->cost += cost;
    c->gap += share(r->cost, r->bound, r->step) - share(before->cost, before->bound, before->step);
    c->worse += cost > worse_from;
    if (cost < c->least) c->least = cost;
    if (cost > c->most) c->most = cost;
}

static void print_comparison_head(const char *what) {
    printf("\n| %s | plans | worse | refused | cost, mean | least .. most | gap, mean | proved | processor s |\n", what);
    printf("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |\n");
}

static void print_comparison(const char *what, const comparison *c) {
    const int made = c->plans - c->refused;
    printf("| %s | %d | %d | %d | %+.3f %% | %+.2f .. %+.2f %% | %+.3f %% | %d -> %d | %.1f -> %.1f |\n", what, c->plans, c->worse,
           c->refused, made ? c->cost / made : 0, c->least, c->most, made ? c->gap / made : 0, c->proved_before, c->proved,
           c->seconds_before, c->seconds);
    fflush(stdout);
}

#ifdef CKPT_SOLVER_TECHNIQUES
static const char *const technique[] = {
#define X(name, text) #name,
    CKPT_SOLVER_TECHNIQUES(X)
#undef X
};
enum { TECHNIQUES = sizeof technique / sizeof *technique };

static void set_technique(ckpt_plan_options *options, int off) {
    static ckpt_solver_options solver;
    solver = (ckpt_solver_options){0};
    int i = 0;
#define X(name, text) solver.without_##name = i++ == off;
    CKPT_SOLVER_TECHNIQUES(X)
#undef X
    options->solver = &solver;
}
#else
static const char *const technique[] = {NULL};
enum { TECHNIQUES = 0 };

static void set_technique(ckpt_plan_options *options, int off) {
    (void)options;
    (void)off;
}
#endif

static void plan_without(const char *name, const network *n, const row *rows, int row_count, comparison *without) {
    for (int t = 0; t < TECHNIQUES; t++)
        for (int i = 1; i < row_count; i++) {
            const row r = make_plan(name, n, CKPT_STRATEGY_BUDGET, rows[i].budget, rows[i].part, t);
            count(&without[t], &rows[i], &r, 0.05);
            if (r.refused || (r.cost != rows[i].cost && !rows[i].refused)) {
                printf("without %s: ", technique[t]);
                print_row(&r);
            }
        }
}

/* At the totals of another build's plans. */
static void plan_against(const char *name, const network *n, const row *rows, int row_count, comparison *c, comparison *smallest) {
    for (int i = 0; i < row_count; i++) {
        if (strcmp(rows[i].model, name) != 0) continue;
        const bool min = rows[i].part < 0;
        if (min) {
            const row least = make_plan(name, n, CKPT_STRATEGY_MIN, 0, -1, -1);
            smallest->plans++;
            smallest->worse += least.total > rows[i].total;
            const double change = 100 * ((double)least.total - (double)rows[i].total) / (double)rows[i].total;
            smallest->cost += change;
            if (change < smallest->least) smallest->least = change;
            if (change > smallest->most) smallest->most = change;
            smallest->seconds_before += rows[i].seconds;
            smallest->seconds += least.seconds;
            smallest->proved_before += rows[i].proved;
            smallest->proved += least.proved;
            printf("smallest %" PRIu64 " -> %" PRIu64 " (%+.2f %%), %.2f -> %.2f s\n", rows[i].total, least.total, change,
                   rows[i].seconds, least.seconds);
        }
        const row r = make_plan(name, n, CKPT_STRATEGY_BUDGET, min ? rows[i].total : rows[i].budget, min ? 0 : rows[i].part, -1);
        if (!min) count(c, &rows[i], &r, 0.1);
        if (r.refused) printf("REFUSED ");
        else printf("%+.3f %% of a step%s: ", share(r.cost, rows[i].cost, rows[i].step),
                    share(r.cost, rows[i].cost, rows[i].step) > 0.1 ? " WORSE" : "");
        print_row(&r);
    }
}

static bool is_chosen(const char *name, int count, char **chosen) {
    for (int i = 0; i < count; i++)
        if (strcmp(chosen[i], name) == 0 || (chosen[i][0] == '-' && strcmp(chosen[i] + 1, name) == 0)) return chosen[i][0] != '-';
    return count == 0 || chosen[0][0] == '-';
}

static int usage(void) {
    fprintf(stderr, "plan_ablation [--techniques] [--write FILE] [--against FILE] [MODEL... | -MODEL...]\n");
    return 2;
}

int main(int argc, char **argv) {
    static entry model[MOST_MODELS];
    static row before[MOST_ROWS];
    static comparison without[TECHNIQUES + 1], against, smallest;
    const char *write = NULL, *read = NULL;
    bool techniques = false;
    int at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        if (strcmp(argv[at], "--techniques") == 0) techniques = true;
        else if (strcmp(argv[at], "--write") == 0 && at + 1 < argc) write = argv[++at];
        else if (strcmp(argv[at], "--against") == 0 && at + 1 < argc) read = argv[++at];
        else return usage();
    }
    if (techniques && TECHNIQUES == 0) return usage();
    const int models = list_models(model), before_count = read ? read_rows(read, before) : 0;
    FILE *file = write ? fopen(write, "a") : NULL;
    if (write && !file) {
        perror(write);
        return 2;
    }
    printf("| model | budget | total | recomputed, of a step | above the bound | proved | processor s |\n");
    printf("| --- | --- | ---: | ---: | ---: | --- | ---: |\n");
    for (int m = 0; m < models; m++) {
        ckpt_error err;
        network n;
        row rows[PARTS + 1];
        if (!is_chosen(model[m].name, argc - at, argv + at)) continue;
        if (load(&model[m], &n, &err) != CKPT_OK) {
            printf("%s is left out: %s\n", model[m].name, err.message);
            continue;
        }
        if (read) {
            plan_against(model[m].name, &n, before, before_count, &against, &smallest);
        } else {
            const int row_count = plan_parts(model[m].name, &n, rows);
            for (int i = 0; file && i < row_count; i++) write_row(file, &rows[i]);
            if (techniques) plan_without(model[m].name, &n, rows, row_count, without);
        }
        unload(&n);
    }
    if (file) fclose(file);
    if (techniques) print_comparison_head("without");
    for (int t = 0; techniques && t < TECHNIQUES; t++) print_comparison(technique[t], &without[t]);
    if (!read) return 0;
    print_comparison_head("against the other build");
    print_comparison("recomputation at its budgets", &against);
    print_comparison("bytes of the smallest plan", &smallest);
    return against.worse > 0 || against.refused > 0 || against.cost > 0;
}
