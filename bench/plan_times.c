/* How long planning takes, in milliseconds of processor time (the median of several runs).
 *
 *   plan_times models [LAYERS [KIND]]   every strategy on every kind of model or one of them, 64 layers if not given
 *   plan_times chains [verbose]         chain tables: building them, the answer to one budget, and the lower bound of one
 *                                       budget, with the gaps to it
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "chain_oracle.h"
#include "plan_graphs.h"

static void must(ckpt_status status, const ckpt_error *err) {
    if (status == CKPT_OK) return;
    fprintf(stderr, "plan_times: %s\n", err->message);
    exit(1);
}

static double milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

enum { RUNS = 5 };

static double plan_time(const ckpt_graph *g, const ckpt_plan_options *options, ckpt_plan_compute *compute,
                        ckpt_plan_bound *bound, uint64_t *total) {
    double time[RUNS];
    for (int i = 0; i < RUNS; i++) {
        ckpt_error err;
        ckpt_plan *plan;
        const double start = milliseconds();
        must(ckpt_plan_make(g, options, &plan_graph_traits, NULL, &plan, &err), &err);
        time[i] = milliseconds() - start;
        *compute = plan->compute;
        *bound = plan->bound;
        *total = plan->memory.total;
        ckpt_plan_free(plan);
    }
    qsort(time, RUNS, sizeof *time, by_value);
    return time[RUNS / 2];
}

static void time_model(const char *name, const plan_graph_options *of) {
    ckpt_graph g;
    ckpt_plan_compute compute;
    ckpt_plan_bound bound;
    uint64_t most, least, total;
    plan_graph_make(of, &g, NULL);
    plan_time(&g, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_NONE}, &compute, &bound, &most);
    plan_time(&g, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_MIN}, &compute, &bound, &least);
    /* the budgets: thirds of the way, and the smallest */
    for (int s = 0; s < CKPT_STRATEGY_COUNT + 3; s++) {
        const ckpt_strategy strategy = s < CKPT_STRATEGY_COUNT ? (ckpt_strategy)s : CKPT_STRATEGY_BUDGET;
        const uint64_t part = s < CKPT_STRATEGY_COUNT ? 1 : s == CKPT_STRATEGY_COUNT ? 2 : 0;
        uint64_t budget = least + (most - least) * part / 3;
        if (s == CKPT_STRATEGY_COUNT + 2) budget = least + (most - least) / 30;
        const ckpt_plan_options options = {.strategy = strategy, .every = 4, .layers = "1-3", .budget_bytes = budget};
        const double ms = plan_time(&g, &options, &compute, &bound, &total);
        const double step = (double)(compute.forward_flops + compute.backward_flops);
        printf("| %s | %s | %.3f | %.1f | %.1f %% | %.1f %%%s |\n", name, ckpt_strategy_name(strategy),
               (double)total / (double)most, ms, 100 * (double)compute.recompute_flops / step,
               100 * (double)(compute.recompute_flops - bound.lower_bound_flops) / step, bound.proved ? " proved" : "");
    }
    ckpt_graph_free(&g);
}

static void time_models(int layers, const char *only) {
    static const char *const names[PLAN_GRAPH_KINDS] = {"mlp", "gelu", "residual", "prenorm", "hourglass", "tied"};
    printf("| model | strategy | of `none` | ms | recomputed, of a step | above the bound |\n");
    printf("| --- | --- | ---: | ---: | ---: | ---: |\n");
    for (int kind = 0; kind < PLAN_GRAPH_KINDS; kind++) {
        if (only && strcmp(only, names[kind]) != 0) continue;
        for (int width = 32; width <= 256; width *= 8) {
            char name[64];
            const plan_graph_options of = {.kind = (plan_graph_kind)kind, .layers = layers, .width = width, .batch = 512};
            snprintf(name, sizeof name, "%s of %d layers, width %d", names[kind], layers, width);
            time_model(name, &of);
            fflush(stdout);
        }
    }
}

static ckpt_random_chain random_chain;

static double larger(double a, double b) {
    return a > b ? a : b;
}

static void time_chain(const char *name, bool verbose) {
    const ckpt_chain *chain = &random_chain.chain;
    static const double parts[] = {0, 0.002, 0.005, 0.01, 0.02, 0.03};
    ckpt_error err;
    ckpt_chain_tables *tables;
    const double start = milliseconds();
    must(ckpt_chain_tables_build(chain, &(ckpt_chain_limits){0}, &tables, &err), &err);
    const double built = milliseconds();
    const uint64_t least = ckpt_chain_least_bytes(tables), most = ckpt_chain_most_bytes(tables);
    double once = 0, first = 0, proving = 0, worst[3] = {0};
    for (int k = 1; k <= chain->stage_count; k++) once += (double)chain->stage[k].forward_cost;
    for (int i = 0; i < 26; i++) { /* from the smallest, and by twentieths of the whole range */
        const double part = i < 6 ? parts[i] : 0.05 * (i - 5);
        const uint64_t budget = least + (uint64_t)((double)(most - least) * part);
        ckpt_pool pool = {0};
        ckpt_chain_program program;
        uint64_t bound;
        must(ckpt_chain_solve(tables, budget, &pool, &program, &err), &err);
        if (i == 0) first = milliseconds() - built;
        const double solved = milliseconds();
        must(ckpt_chain_lower_bound(chain, budget, program.cost, &bound, &err), &err);
        proving = larger(proving, milliseconds() - solved);
        const double cost = (double)program.cost, gap = (cost - (double)bound) / cost;
        double *where = &worst[i == 0 ? 0 : budget < 2 * least ? 1 : 2];
        *where = larger(*where, gap);
        if (verbose)
            printf("%.2f of the smallest: %.4f of a forward pass; above the bound %.2f %%; %.1f ms\n",
                   (double)budget / (double)least, cost / once, 100 * gap,
                   milliseconds() - solved);
        ckpt_pool_free(&pool);
    }
    printf("| %s | %.1f | %.1f | %.1f | %.2f | %.2f | %.2f |\n", name, built - start, first, proving, 100 * worst[0],
           100 * worst[1], 100 * worst[2]);
    fflush(stdout);
    ckpt_chain_tables_free(tables);
}

static void time_chains(bool verbose) {
    static const int equal[] = {64, 256, 1000}, arbitrary[] = {64, 100, 339};
    static const struct {
        const char *name;
        int count;
        uint64_t bytes[4], cost[4];
    } block[] = {{"in blocks of 1 and 4 units", 2, {65536, 4 * 65536}, {1000003, 1000003}},
                 {"in blocks of 1, 1 and 4 units", 3, {65536, 65536, 4 * 65536}, {1000003, 1000003, 1000003}},
                 {"in bottlenecks of 4, 1, 1 and 4 units", 4, {4 * 65536, 65536, 65536, 4 * 65536}, {16384000, 16384000, 36864000, 16384000}},
                 {"in arbitrary blocks of 4", 4, {70144, 41728, 90880, 9216}, {217003, 961733, 514229, 35317}}};
    uint64_t bytes[CKPT_ORACLE_STAGES + 1], cost[CKPT_ORACLE_STAGES + 1];
    char name[64];
    printf("| chain | tables, ms | first answer, ms | slowest bound, ms | %% above the bound: smallest budget | below twice that | from twice that |\n");
    printf("| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for (int i = 0; i < 3; i++) {
        for (int k = 1; k <= equal[i]; k++) bytes[k] = 65536, cost[k] = 1000003;
        bytes[equal[i]] = 2560;
        ckpt_chain_make_plain(&random_chain, equal[i], bytes, cost);
        snprintf(name, sizeof name, "%d equal stages", equal[i]);
        time_chain(name, verbose);
    }
    for (size_t i = 0; i < sizeof block / sizeof *block; i++) {
        for (int k = 1; k <= 1000; k++) {
            bytes[k] = block[i].bytes[k % block[i].count];
            cost[k] = block[i].cost[k % block[i].count];
        }
        ckpt_chain_make_plain(&random_chain, 1000, bytes, cost);
        snprintf(name, sizeof name, "1000 stages %s", block[i].name);
        time_chain(name, verbose);
    }
    random_chain.state = 5;
    for (int i = 0; i < 3; i++) {
        ckpt_chain_make_plain_random(&random_chain, arbitrary[i], 1000000);
        snprintf(name, sizeof name, "%d arbitrary stages", arbitrary[i]);
        time_chain(name, verbose);
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "chains") == 0)
        time_chains(argc > 2);
    else
        time_models(argc > 2 ? atoi(argv[2]) : 64, argc > 3 ? argv[3] : NULL);
    return 0;
}
