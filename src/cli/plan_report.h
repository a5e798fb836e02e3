/* A plan told: as text, as JSON (schema "ckptplan/1" of docs/design.md), and beside others.
 *
 *     ckpt_plan_report report = {.options = &options, .job = &job, .plan = plan, .traits = traits};
 *     ckpt_plan_report_text(&report, &err);   // on stdout
 */
#ifndef CKPT_PLAN_REPORT_H
#define CKPT_PLAN_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "cli/max_batch.h"

typedef struct ckpt_plan_report {
    const ckpt_cli_options *options;
    const ckpt_job *job;
    const ckpt_traits *traits;
    const ckpt_plan *plan;
    ckpt_plan_minimum minimum;
    ckpt_plan_compute compute; /* where there is no plan: of storing all */
    const ckpt_batch_answer *batches; /* --max-batch; else NULL */
    uint64_t store_all_bytes, minimum_bytes; /* --frontier, which has no plan: memory.total of the strategies none and min */
} ckpt_plan_report;

/* What the smallest plan takes, where the plan does not say. Without a backward pass it is the plan itself. */
ckpt_status ckpt_plan_report_minimum(ckpt_plan_report *report, ckpt_error *err);

/* To stdout. */
ckpt_status ckpt_plan_report_text(const ckpt_plan_report *report, ckpt_error *err);
ckpt_status ckpt_plan_report_json(const ckpt_plan_report *report, ckpt_error *err);

/* What --max-batch found: how, as text, and as keys "max_batch" and "micro_batch_search" of the document. Nothing
 * without it. */
void ckpt_plan_report_batches_text(const ckpt_plan_report *report);
void ckpt_plan_report_batches_json(const ckpt_plan_report *report, json_t *document);

/* Makes the plans of all strategies, and of budgets between the smallest and storing all, and prints them side by
 * side to stdout; with --json as schema "ckptplan-compare/1". report->plan is not read. */
ckpt_status ckpt_plan_report_compare(const ckpt_plan_report *report, ckpt_error *err);

/* --frontier: as text, or as the options say (schema "ckptplan-frontier/1", SVG). report->plan is not read. */
ckpt_status ckpt_plan_report_frontier(const ckpt_plan_report *report, ckpt_error *err);

/* "Linear": the op that a layer is named for. */
const char *ckpt_layer_op(const ckpt_graph *graph, int layer);

/* Layers of which something is recomputed. */
int ckpt_plan_recomputed_layers(const ckpt_plan *plan);

/* The optimizer's name, NULL for a forward pass alone. */
const char *ckpt_plan_report_optimizer(const ckpt_plan_report *report);

#endif
