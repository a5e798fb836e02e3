#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/units.h"
#include "cli/console.h"
#include "cli/plan_report.h"

enum { MAX_ROWS = 16 };

/* What is compared of a plan. */
typedef struct row {
    char strategy[64];
    ckpt_plan_memory memory;
    ckpt_plan_compute compute;
    int layers;
} row;

typedef struct comparison {
    const ckpt_plan_report *report;
    int row_count;
    row rows[MAX_ROWS];
} comparison;

static ckpt_status add(comparison *c, const ckpt_plan_options *options, ckpt_error *err) {
    ckpt_plan *plan;
    CKPT_TRY(ckpt_job_plan_strategy(c->report->job, options, &plan, err));
    row *r = &c->rows[c->row_count++];
    snprintf(r->strategy, sizeof r->strategy, "%s", plan->strategy);
    r->memory = plan->memory;
    r->compute = ckpt_job_compute(c->report->job, plan);
    r->layers = ckpt_plan_recomputed_layers(plan);
    ckpt_plan_free(plan);
    return CKPT_OK;
}

/* memory.total of a strategy that has been added. */
static uint64_t total_of(const comparison *c, ckpt_strategy strategy) {
    for (int i = 0; i < c->row_count; i++)
        if (strcmp(c->rows[i].strategy, ckpt_strategy_name(strategy)) == 0) return c->rows[i].memory.total;
    return 0;
}

/* Strategies that need an option: with the one that was given, else with values that show them. */
static ckpt_status add_with_options(comparison *c, ckpt_error *err) {
    const ckpt_cli_options *o = c->report->options;
    for (int every = 2; every <= 4 && !o->job.every; every *= 2)
        CKPT_TRY(add(c, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_EVERY, .every = every}, err));
    if (o->job.every) CKPT_TRY(add(c, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_EVERY, .every = (int)o->job.every}, err));
    if (o->job.layers) CKPT_TRY(add(c, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_LAYERS, .layers = o->job.layers}, err));
    if (o->job.budget_bytes)
        CKPT_TRY(add(c, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = o->job.budget_bytes}, err));
    /* From most to least: three quarters, half and a quarter of what there is to save. */
    const uint64_t most = total_of(c, CKPT_STRATEGY_NONE), least = total_of(c, CKPT_STRATEGY_MIN);
    for (int quarter = 3; quarter > 0 && !o->job.budget_bytes && most > least; quarter--) {
        const uint64_t bytes = least + (most - least) / 4 * (uint64_t)quarter;
        CKPT_TRY(add(c, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = bytes}, err));
    }
    return CKPT_OK;
}

static void print_text(const comparison *c) {
    const ckpt_plan_report *r = c->report;
    printf("%s: batch %" PRId64 ", optimizer %s, device %s\n\n", r->options->job.model_path, r->job->batch,
           ckpt_plan_report_optimizer(r), r->traits->device);
    printf("%-24s  %14s  %12s  %12s  %12s  %9s  %10s\n", "strategy", "total bytes", "total", "arena", "live peak",
           "recompute", "layers");
    for (int i = 0; i < c->row_count; i++) {
        const row *w = &c->rows[i];
        char count[CKPT_NUMBER_TEXT], total[CKPT_SIZE_TEXT], arena[CKPT_SIZE_TEXT], live[CKPT_SIZE_TEXT];
        printf("%-24s  %14s  %12s  %12s  %12s  %8.1f%%  %4d of %d\n", w->strategy, ckpt_console_count(w->memory.total, count),
               ckpt_units_format_size(w->memory.total, total), ckpt_units_format_size(w->memory.arena, arena),
               ckpt_units_format_size(w->memory.live_peak, live), 100 * ckpt_compute_recompute_fraction(&w->compute),
               w->layers, r->job->model.graph.layer_count);
    }
    printf("\nrecompute: share of a step's arithmetic that is done again; layers: of which something is recomputed\n");
}

static ckpt_status print_json(const comparison *c, ckpt_error *err) {
    const ckpt_plan_report *r = c->report;
    json_t *plans = json_array();
    for (int i = 0; i < c->row_count; i++) {
        const row *w = &c->rows[i];
        json_t *plan = json_pack(
            "{s:o, s:I, s:I, s:I, s:I, s:f, s:i, s:i}", "strategy", ckpt_console_json_text(w->strategy), "total",
            (json_int_t)w->memory.total, "arena", (json_int_t)w->memory.arena, "live_peak", (json_int_t)w->memory.live_peak,
            "recompute_flops", (json_int_t)w->compute.recompute_flops, "recompute_fraction",
            ckpt_compute_recompute_fraction(&w->compute), "recomputed_nodes", w->compute.recomputed_nodes,
            "recomputed_layers", w->layers);
        json_array_append_new(plans, plan);
    }
    return ckpt_console_json_print(
        json_pack("{s:s, s:o, s:I, s:s, s:s, s:o}", "schema", "ckptplan-compare/1", "path",
                  ckpt_console_json_text(r->options->job.model_path), "batch", (json_int_t)r->job->batch, "optimizer",
                  ckpt_plan_report_optimizer(r), "device", r->traits->device, "plans", plans),
        err);
}

ckpt_status ckpt_plan_report_compare(const ckpt_plan_report *report, ckpt_error *err) {
    comparison c = {.report = report};
    for (int s = 0; s < CKPT_STRATEGY_COUNT; s++) {
        if (s == CKPT_STRATEGY_EVERY || s == CKPT_STRATEGY_LAYERS || s == CKPT_STRATEGY_BUDGET) continue;
        CKPT_TRY(add(&c, &(ckpt_plan_options){.strategy = (ckpt_strategy)s}, err));
    }
    CKPT_TRY(add_with_options(&c, err));
    if (report->options->json) return print_json(&c, err);
    print_text(&c);
    return CKPT_OK;
}
