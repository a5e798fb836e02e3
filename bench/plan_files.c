/* How well and how fast model files are planned: time, peak, recomputation, and what is left to the lower bound.
 *
 *   plan_files [--batch N] [--budgets COUNT] [--dim NAME=N]... FILE.onnx...
 *
 * Strategies none, sqrt, selective and min, then COUNT budgets (6 if not given) at equal distances between the smallest plan
 * and storing everything. Milliseconds are processor time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "job/job.h"

static void must(ckpt_status status, const ckpt_error *err) {
    if (status == CKPT_OK) return;
    fprintf(stderr, "plan_files: %s\n", err->message);
    exit(1);
}

static double milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

/* Prints one row; returns memory.total. Shares are of what `none` takes, and of the flops of a step without
 * recomputation. */
static uint64_t row(const char *model, const ckpt_job *job, const char *what, const ckpt_plan_options *options,
                    uint64_t most) {
    ckpt_error err;
    ckpt_plan *plan;
    const double start = milliseconds();
    must(ckpt_job_plan_strategy(job, options, &plan, &err), &err);
    const double ms = milliseconds() - start;
    const uint64_t total = plan->memory.total, flops = plan->compute.recompute_flops;
    const double step = (double)(plan->compute.forward_flops + plan->compute.backward_flops);
    printf("| %s | %s | %.0f | %.1f | %.3f | %.2f %% | %.2f %%%s |\n", model, what, ms, (double)total / 1048576,
           (double)total / (double)(most ? most : total), 100 * (double)flops / step,
           100 * ((double)flops - (double)plan->bound.lower_bound_flops) / step, plan->bound.proved ? " proved" : "");
    fflush(stdout);
    ckpt_plan_free(plan);
    return total;
}

static void time_file(const ckpt_job_options *options, int budgets) {
    ckpt_error err;
    ckpt_job loaded;
    const ckpt_job *job = &loaded;
    char name[64];
    const char *base = strrchr(options->model_path, '/');
    snprintf(name, sizeof name, "%s", base ? base + 1 : options->model_path);
    name[strcspn(name, ".")] = 0;
    must(ckpt_job_load(options, NULL, ckpt_device_traits("cpu"), &loaded, &err), &err);
    const uint64_t most = row(name, job, "none", &(ckpt_plan_options){.strategy = CKPT_STRATEGY_NONE}, 0);
    row(name, job, "sqrt", &(ckpt_plan_options){.strategy = CKPT_STRATEGY_SQRT}, most);
    row(name, job, "selective", &(ckpt_plan_options){.strategy = CKPT_STRATEGY_SELECTIVE}, most);
    const uint64_t least = row(name, job, "min", &(ckpt_plan_options){.strategy = CKPT_STRATEGY_MIN}, most);
    for (int i = 1; i <= budgets; i++) {
        char what[32];
        const uint64_t budget = least + (most - least) / (uint64_t)(budgets + 1) * (uint64_t)i;
        snprintf(what, sizeof what, "%d/%d", i, budgets + 1);
        row(name, job, what, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = budget}, most);
    }
    ckpt_job_free(&loaded);
}

int main(int argc, char **argv) {
    ckpt_job_options options = ckpt_job_options_for(NULL);
    int budgets = 6;
    printf("| model | plan | ms | MiB | of `none` | recomputed, of a step | above the bound |\n");
    printf("| --- | --- | ---: | ---: | ---: | ---: | ---: |\n");
    for (int i = 1; i < argc; i++) {
        char *equals;
        if (strcmp(argv[i], "--batch") == 0 && i + 1 < argc) {
            options.batch = atoll(argv[++i]);
        } else if (strcmp(argv[i], "--budgets") == 0 && i + 1 < argc) {
            budgets = atoi(argv[++i]);
        } else if (strcmp(argv[i], "--dim") == 0 && i + 1 < argc && (equals = strchr(argv[i + 1], '='))) {
            if (options.dim_count == CKPT_JOB_MAX_DIMS) return 2;
            *equals = 0;
            options.dim[options.dim_count++] = (ckpt_dim_binding){argv[++i], atoll(equals + 1)};
        } else {
            options.model_path = argv[i];
            time_file(&options, budgets);
        }
    }
    return 0;
}
