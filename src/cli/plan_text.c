#include <inttypes.h>
#include <string.h>

#include "base/units.h"
#include "cli/console.h"
#include "cli/host_memory.h"
#include "cli/plan_report.h"
#include "graph/op.h"

ckpt_status ckpt_plan_report_minimum(ckpt_plan_report *report, ckpt_error *err) {
    const ckpt_job *job = report->job;
    report->minimum = report->plan->minimum;
    if (report->minimum.total) return CKPT_OK;
    if (job->forward_only) {
        report->minimum.total = report->minimum.lower_bound_total = report->plan->memory.total;
        return CKPT_OK;
    }
    const ckpt_plan_options options = {.eval = &job->evaluation, .costs = &job->costs};
    return ckpt_plan_find_minimum(&job->model.graph, &options, report->traits, &report->minimum, err);
}

const char *ckpt_plan_report_optimizer(const ckpt_plan_report *report) {
    return report->job->forward_only ? NULL : ckpt_optimizer_name((ckpt_optimizer)report->options->job.optimizer);
}

const char *ckpt_layer_op(const ckpt_graph *graph, int layer) {
    if (graph->layer[layer].linear >= 0) return ckpt_op_info(graph->node[graph->layer[layer].linear].op)->name;
    for (int n = 0; n < graph->forward_count; n++)
        if (graph->node[n].layer == layer) return ckpt_op_info(graph->node[n].op)->name;
    return "";
}

int ckpt_plan_recomputed_layers(const ckpt_plan *plan) {
    int count = 0;
    for (int i = 0; i < plan->layer_count; i++) count += plan->layer_recomputed[i];
    return count;
}

static void print_head(const ckpt_plan_report *r) {
    const ckpt_graph *graph = &r->job->model.graph;
    const char *optimizer = ckpt_plan_report_optimizer(r);
    char parameters[CKPT_NUMBER_TEXT];
    printf("Model     %s: %d layer%s, %s parameters\n", r->options->job.model_path, graph->layer_count,
           graph->layer_count == 1 ? "" : "s", ckpt_console_count((uint64_t)ckpt_job_parameter_count(r->job), parameters));
    printf("Step      batch %" PRId64, r->job->batch);
    if (r->job->parts > 1) printf(" in %" PRId64 " parts of %" PRId64, r->job->parts, graph->batch);
    if (optimizer) printf(", optimizer %s, loss ", optimizer);
    else printf(", forward pass only");
    for (int i = 0; i < r->job->model.loss_count; i++)
        printf("%s%s", i ? " + " : "", ckpt_loss_long_name(r->job->model.losses[i].loss));
    printf("\nDevice    %s, %s\n", r->traits->device, ckpt_precision_names[r->options->job.precision]);
    printf("Strategy  %s\n", r->plan->strategy);
    printf("Costs     %s\n", r->plan->costs.source);
}

static void print_bytes(const char *name, uint64_t bytes) {
    char count[CKPT_NUMBER_TEXT], size[CKPT_SIZE_TEXT];
    printf("  %-26s %20s  %12s\n", name, ckpt_console_count(bytes, count), ckpt_units_format_size(bytes, size));
}

static void print_memory(const ckpt_plan_report *r) {
    const ckpt_plan_memory *m = &r->plan->memory;
    const struct {
        const char *name;
        uint64_t bytes;
    } parts[] = {{"parameters", m->parameters}, {"constants", m->constants}, {"optimizer state", m->optimizer},
                 {"gradient sums", m->gradients}, {"inputs and targets", m->inputs}, {"workspace", m->workspace},
                 {"arena of the step", m->arena}};
    printf("\nMemory %49s\n", "bytes");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].bytes) print_bytes(parts[i].name, parts[i].bytes);
    print_bytes("total", m->total);
    if (strcmp(r->traits->device, "cpu") == 0) {
        print_bytes("process beyond it, at most", ckpt_host_process_bytes());
        print_bytes("thread beyond it, at most", CKPT_THREAD_BYTES);
    }
    print_bytes("most live in the arena", m->live_peak);
    if (r->job->forward_only) return;
    print_bytes("total when storing all", r->plan->store_all_total);
    const bool smallest = r->minimum.total == r->minimum.lower_bound_total;
    if (r->minimum.total) print_bytes(smallest ? "smallest possible total" : "smallest known total", r->minimum.total);
    if (!smallest) print_bytes("no total is below", r->minimum.lower_bound_total);
}

static void print_compute(const ckpt_plan_report *r) {
    const ckpt_plan_compute c = ckpt_job_compute(r->job, r->plan);
    const uint64_t bound = r->plan->bound.lower_bound_cost * (uint64_t)r->job->parts;
    const ckpt_cost_unit unit = r->plan->costs.unit;
    char text[CKPT_NUMBER_TEXT];
    printf("\nCompute\n  forward    %14s\n", ckpt_cost_text(CKPT_COST_FLOPS, c.forward_flops, text));
    if (r->job->forward_only) return;
    printf("  backward   %14s\n", ckpt_cost_text(CKPT_COST_FLOPS, c.backward_flops, text));
    printf("  recompute  %14s  %.1f%% of a step, %d nodes, %d of %d layers\n",
           ckpt_cost_text(CKPT_COST_FLOPS, c.recompute_flops, text), 100 * ckpt_compute_recompute_fraction(&c), c.recomputed_nodes,
           ckpt_plan_recomputed_layers(r->plan), r->plan->layer_count);
    if (unit == CKPT_COST_NS)
        printf("  time       %14s  a step, predicted: %.1f%% more than without recomputation\n",
               ckpt_cost_text(unit, c.step_cost + c.recompute_cost, text), 100 * ckpt_compute_cost_fraction(&c));
    if (c.recompute_cost > 0)
        printf("  at least   %14s  must be recomputed under this budget: the step is within %.2f%% of optimal\n",
               ckpt_cost_text(unit, bound, text), 100 * ckpt_compute_gap(&c, bound));
}

static void print_layers(const ckpt_plan_report *r) {
    const ckpt_graph *graph = &r->job->model.graph;
    int width = 4;
    for (int i = 0; i < graph->layer_count; i++) {
        const int length = (int)strlen(graph->layer[i].name);
        if (length > width) width = length;
    }
    if (width > 40) width = 40;
    printf("\nLayers\n  %5s  %-*s  %-10s  %-16s  %14s  decision\n", "index", width, "name", "op", "output", "bytes");
    for (int i = 0; i < graph->layer_count; i++) {
        const ckpt_layer *layer = &graph->layer[i];
        const ckpt_tensor *output = layer->output >= 0 ? &graph->tensor[layer->output] : NULL;
        char shape[128] = "", bytes[CKPT_NUMBER_TEXT];
        ckpt_error name; /* ckpt_fail escapes what a terminal must not see */
        ckpt_fail(&name, CKPT_OK, "%s", layer->name);
        printf("  %5d  %-*.*s  %-10s  %-16s  %14s  %s\n", i, width, width, name.message, ckpt_layer_op(graph, i),
               output ? ckpt_shape_text(output, shape) : "",
               ckpt_console_count(output ? ckpt_tensor_bytes(output) : 0, bytes),
               r->plan->layer_recomputed[i] ? "recompute" : "keep");
    }
}

ckpt_status ckpt_plan_report_text(const ckpt_plan_report *report, ckpt_error *err) {
    (void)err;
    print_head(report);
    print_memory(report);
    print_compute(report);
    ckpt_plan_report_batches_text(report);
    print_layers(report);
    return CKPT_OK;
}
