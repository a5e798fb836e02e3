#include <jansson.h>
#include <string.h>

#include "base/units.h"
#include "cli/console.h"
#include "cli/host_memory.h"
#include "cli/loss_report.h"
#include "cli/parameters_report.h"
#include "cli/plan_report.h"
#include "job/cost_model.h"
#include "planner/report/usage.h"

static json_t *bytes_of(uint64_t bytes) { return json_integer((json_int_t)bytes); }

/* {"name", and the option that the strategy has}: from the plan's own words, which a plan file has too. */
static json_t *strategy_json(const ckpt_plan *plan) {
    const char *equals = strchr(plan->strategy, '=');
    char name[32];
    snprintf(name, sizeof name, "%.*s", (int)(equals ? equals - plan->strategy : (ptrdiff_t)strlen(plan->strategy)),
             plan->strategy);
    json_t *strategy = json_pack("{s:s}", "name", name);
    if (equals)
        json_object_set_new(strategy, name, strcmp(name, "layers") == 0 ? ckpt_console_json_text(equals + 1)
                                                                       : json_integer(atoll(equals + 1)));
    return strategy;
}

/* What the process may take beside the plan and its data; not known of a GPU. */
static json_t *beyond_json(const ckpt_plan_report *r) {
    if (strcmp(r->traits->device, "cpu") != 0) return json_null();
    return json_pack("{s:o, s:o}", "process", bytes_of(ckpt_host_process_bytes()), "per_thread", bytes_of(CKPT_THREAD_BYTES));
}

static json_t *memory_json(const ckpt_plan_report *r) {
    const ckpt_plan_memory *m = &r->plan->memory;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "total", bytes_of(m->total), "parameters",
                     bytes_of(m->parameters), "constants", bytes_of(m->constants), "optimizer", bytes_of(m->optimizer), "gradients",
                     bytes_of(m->gradients), "inputs", bytes_of(m->inputs), "workspace", bytes_of(m->workspace), "arena",
                     bytes_of(m->arena), "live_peak", bytes_of(m->live_peak), "store_all_total", bytes_of(r->plan->store_all_total),
                     "minimum_total", r->minimum.total ? bytes_of(r->minimum.total) : json_null(), "minimum_lower_bound_total", bytes_of(r->minimum.lower_bound_total), "beyond_plan", beyond_json(r));
}

static json_t *compute_json(const ckpt_plan_compute *c) {
    return json_pack("{s:o, s:o, s:o, s:f, s:o, s:o}", "forward_flops", bytes_of(c->forward_flops), "backward_flops",
                     bytes_of(c->backward_flops), "recompute_flops", bytes_of(c->recompute_flops), "recompute_fraction",
                     ckpt_compute_recompute_fraction(c), "step_cost", bytes_of(c->step_cost), "recompute_cost",
                     bytes_of(c->recompute_cost));
}

static json_t *optimality_json(const ckpt_plan_report *r, const ckpt_plan_compute *c) {
    const uint64_t parts = (uint64_t)r->job->parts, bound = r->plan->bound.lower_bound_cost * parts;
    return json_pack("{s:b, s:o, s:o, s:f, s:s}", "proved", r->plan->bound.proved, "lower_bound_recompute_flops",
                     bytes_of(r->plan->bound.lower_bound_flops * parts), "lower_bound_recompute_cost", bytes_of(bound), "gap",
                     ckpt_compute_gap(c, bound), "over", "every order and schedule");
}

static json_t *layers_json(const ckpt_plan_report *r) {
    const ckpt_graph *graph = &r->job->model.graph;
    json_t *layers = json_array();
    for (int i = 0; i < graph->layer_count; i++) {
        const int id = graph->layer[i].output;
        const ckpt_tensor *output = id >= 0 ? &graph->tensor[id] : NULL;
        json_t *shape = json_array();
        for (int d = 0; output && d < output->rank; d++) json_array_append_new(shape, json_integer(output->dim[d]));
        json_t *layer = json_pack("{s:i, s:o, s:s, s:o, s:o, s:s}", "index", i, "name",
                                  ckpt_console_json_text(graph->layer[i].name), "op", ckpt_layer_op(graph, i), "shape",
                                  shape, "bytes", bytes_of(output ? ckpt_tensor_bytes(output) : 0), "decision",
                                  r->plan->layer_recomputed[i] ? "recompute" : "keep");
        json_array_append_new(layers, layer);
    }
    return layers;
}

static json_t *timeline_json(const ckpt_plan_report *r) {
    ckpt_pool scratch = {0};
    uint64_t *live = ckpt_pool_array(&scratch, r->plan->step_count, uint64_t);
    json_t *timeline = live ? json_array() : NULL;
    if (live) ckpt_plan_live_bytes(r->plan, live);
    for (int s = 0; live && s < r->plan->step_count; s++) {
        const ckpt_node *node = &r->job->model.graph.node[r->plan->step[s].node];
        json_t *step =
            json_pack("{s:i, s:o, s:s, s:o}", "step", s, "node", ckpt_console_json_text(node->name), "phase",
                      ckpt_step_kind_name(ckpt_plan_step_kind(&r->job->model.graph, r->plan, s)), "live", bytes_of(live[s]));
        json_array_append_new(timeline, step);
    }
    ckpt_pool_free(&scratch);
    return timeline;
}

static json_t *model_json(const ckpt_plan_report *r) {
    return json_pack("{s:o, s:s, s:I, s:i, s:o}", "path", ckpt_console_json_text(r->options->job.model_path), "graph_hash",
                     r->job->model.graph.hash, "parameters", (json_int_t)ckpt_job_parameter_count(r->job), "layers",
                     r->job->model.graph.layer_count, "tensors", ckpt_parameters_json(&r->job->model));
}

static json_t *cost_model_json(const ckpt_plan_report *r) {
    const ckpt_costs *costs = &r->plan->costs;
    char name[32];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(costs->source, ",:"), costs->source);
    return json_pack("{s:s, s:s, s:o}", "name", name, "unit", ckpt_cost_unit_name(costs->unit), "source",
                     ckpt_console_json_text(costs->source));
}

ckpt_status ckpt_plan_report_json(const ckpt_plan_report *r, ckpt_error *err) {
    const ckpt_plan_compute compute = ckpt_job_compute(r->job, r->plan);
    json_t *document = json_pack("{s:s, s:o, s:I, s:I, s:s?, s:s, s:s, s:o, s:o, s:o, s:f, s:o, s:o, s:o, s:o}", "schema",
                                 "ckptplan/1", "model", model_json(r), "batch", (json_int_t)r->job->batch, "micro_batch",
                                 (json_int_t)r->job->model.graph.batch, "optimizer", ckpt_plan_report_optimizer(r), "device",
                                 r->traits->device, "precision", ckpt_precision_names[r->options->job.precision], "strategy",
                                 strategy_json(r->plan), "memory", memory_json(r), "cost_model", cost_model_json(r), "step_seconds",
                                 ckpt_job_step_seconds(r->job, r->plan), "compute", compute_json(&compute), "optimality",
                                 optimality_json(r, &compute), "layers", layers_json(r), "timeline", timeline_json(r));
    if (document) json_object_set_new(document, "loss", ckpt_losses_json(r->job, r->options));
    if (document) ckpt_plan_report_batches_json(r, document);
    return ckpt_console_json_print(document, err);
}
