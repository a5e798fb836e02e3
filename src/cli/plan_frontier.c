#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "cli/console.h"
#include "cli/plan_output.h"
#include "base/atomic_file.h"

/* Share of a step's cost, from that of one micro-batch. */
static double share_of(const ckpt_plan_report *r, uint64_t cost) {
    ckpt_plan_compute c = r->compute;
    c.recompute_cost = cost * (uint64_t)r->job->parts;
    return ckpt_compute_cost_fraction(&c);
}

static double flops_share(const ckpt_plan_report *r, uint64_t flops) {
    ckpt_plan_compute c = r->compute;
    c.recompute_flops = flops * (uint64_t)r->job->parts;
    return ckpt_compute_recompute_fraction(&c);
}

static void print_text(const ckpt_plan_report *r, const ckpt_frontier *f) {
    printf("%s: batch %" PRId64 ", optimizer %s, device %s\n\n", r->options->job.model_path, r->job->batch,
           ckpt_plan_report_optimizer(r), r->traits->device);
    printf("%15s  %12s  %12s  %12s  %10s  %10s\n", "total bytes", "total", "arena", "live peak", "recompute", "at least");
    for (int i = 0; i < f->count; i++) {
        const ckpt_frontier_point *p = &f->point[i];
        char count[CKPT_NUMBER_TEXT], total[CKPT_SIZE_TEXT], arena[CKPT_SIZE_TEXT], live[CKPT_SIZE_TEXT];
        printf("%15s  %12s  %12s  %12s  %9.2f%%  %9.2f%%\n", ckpt_console_count(p->total_bytes, count),
               ckpt_units_format_size(p->total_bytes, total), ckpt_units_format_size(p->arena_bytes, arena),
               ckpt_units_format_size(p->live_peak_bytes, live), 100 * share_of(r, p->recompute_cost),
               100 * share_of(r, p->lower_bound_cost));
    }
    printf("\nrecompute: share of a step's cost that comes again; at least: no plan with these bytes does less\n");
    if (!f->complete) printf("there are more plans between these\n");
}

static json_t *bytes_of(uint64_t bytes) { return json_integer((json_int_t)bytes); }

static json_t *document_of(const ckpt_plan_report *r, const ckpt_frontier *f) {
    const uint64_t parts = (uint64_t)r->job->parts;
    json_t *points = json_array(), *bounds = json_array();
    for (int i = 0; i < f->count; i++) {
        const ckpt_frontier_point *p = &f->point[i];
        json_array_append_new(
            points, json_pack("{s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:o}", "total", bytes_of(p->total_bytes), "arena",
                              bytes_of(p->arena_bytes), "live_peak", bytes_of(p->live_peak_bytes), "recompute_flops",
                              bytes_of(p->recompute_flops * parts), "recompute_cost",
                              bytes_of(p->recompute_cost * parts), "recompute_fraction", flops_share(r, p->recompute_flops),
                              "cost_fraction", share_of(r, p->recompute_cost), "lower_bound_recompute_cost", bytes_of(p->lower_bound_cost * parts)));
    }
    for (int i = 0; i < f->bound_count; i++)
        json_array_append_new(bounds, json_pack("{s:o, s:o}", "total", bytes_of(f->bound[i].total_bytes), "recompute_cost",
                                                bytes_of(f->bound[i].cost * parts)));
    return json_pack("{s:s, s:o, s:s, s:I, s:I, s:s, s:s, s:s, s:o, s:o, s:b, s:o, s:o}", "schema", "ckptplan-frontier/1", "path",
                     ckpt_console_json_text(r->options->job.model_path), "graph_hash", r->job->model.graph.hash, "batch",
                     (json_int_t)r->job->batch, "micro_batch", (json_int_t)r->job->model.graph.batch, "optimizer",
                     ckpt_plan_report_optimizer(r), "device", r->traits->device, "cost_unit",
                     ckpt_cost_unit_name(r->job->costs.unit), "store_all_total",
                     bytes_of(r->store_all_bytes), "minimum_total", bytes_of(r->minimum_bytes), "complete", f->complete,
                     "points", points, "lower_bound", bounds);
}

static ckpt_status write_json(json_t *document, const char *path, ckpt_error *err) {
    char *text = document ? json_dumps(document, JSON_INDENT(2)) : NULL;
    json_decref(document);
    if (!text) return ckpt_fail(err, CKPT_NOMEM, "out of host memory for the JSON document");
    ckpt_atomic_file file;
    ckpt_status status = ckpt_atomic_open(&file, path, err);
    if (status == CKPT_OK) {
        status = ckpt_atomic_write(&file, text, strlen(text), err);
        if (status == CKPT_OK) status = ckpt_atomic_write(&file, "\n", 1, err);
        if (status == CKPT_OK) status = ckpt_atomic_commit(&file, err);
        ckpt_atomic_close(&file);
    }
    free(text);
    return status;
}

static ckpt_status tell(const ckpt_plan_report *r, const ckpt_frontier *f, ckpt_error *err) {
    const ckpt_cli_options *o = r->options;
    if (o->format == CKPT_FORMAT_SVG) CKPT_TRY(ckpt_plan_output_draw(r, f, err));
    if (o->output && o->format == CKPT_FORMAT_JSON) CKPT_TRY(write_json(document_of(r, f), o->output, err));
    if (!o->output && o->format == CKPT_FORMAT_SVG) return CKPT_OK;
    if (o->json || (!o->output && o->format == CKPT_FORMAT_JSON)) return ckpt_console_json_print(document_of(r, f), err);
    print_text(r, f);
    return CKPT_OK;
}

ckpt_status ckpt_plan_report_frontier(const ckpt_plan_report *report, ckpt_error *err) {
    if (report->job->forward_only)
        return ckpt_fail(err, CKPT_USAGE, "--frontier: without a loss there is nothing to recompute; give --loss");
    ckpt_plan_report r = *report;
    ckpt_plan *all;
    CKPT_TRY(ckpt_job_plan_strategy(r.job, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_NONE}, &all, err));
    r.compute = ckpt_job_compute(r.job, all);
    r.store_all_bytes = all->store_all_total;
    ckpt_plan_free(all);
    ckpt_frontier frontier;
    CKPT_TRY(ckpt_frontier_find(&r.job->model.graph, &r.job->evaluation, &r.job->costs, r.traits, CKPT_FRONTIER_POINTS, &frontier, err));
    r.minimum_bytes = frontier.point[0].total_bytes;
    const ckpt_status status = tell(&r, &frontier, err);
    ckpt_frontier_free(&frontier);
    return status;
}
