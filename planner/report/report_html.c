#include "planner/report/report.h"

#include <stdio.h>

#include "base/units.h"
#include "graph/op.h"

static void add_card(ckpt_markup *out, const char *name, const char *value, const char *more) {
    ckpt_markup_add(out, "<div class=\"card\"><span>%s</span><b>%s</b><span>%s</span></div>\n", name, value, more);
}

static void add_head(const ckpt_report *r, ckpt_markup *out) {
    char count[CKPT_REPORT_TEXT];
    ckpt_markup_add(out, "<h1>");
    ckpt_markup_xml(out, r->model);
    ckpt_markup_add(out, "</h1>\n<p class=\"sub\">%d layer%s, %s parameters; ", r->graph->layer_count,
                    r->graph->layer_count == 1 ? "" : "s", ckpt_report_count((uint64_t)r->parameter_count, count));
    ckpt_markup_xml(out, r->step);
    ckpt_markup_add(out, "; ");
    ckpt_markup_xml(out, r->plan->device);
    ckpt_markup_add(out, ", %s</p>\n<p class=\"sub\">strategy <code>", r->precision);
    ckpt_markup_xml(out, r->plan->strategy);
    ckpt_markup_add(out, "</code>, graph <code>%.16s</code></p>\n", r->plan->graph_hash);
}

static void add_cards(const ckpt_report *r, ckpt_markup *out) {
    const ckpt_plan_memory *m = &r->plan->memory;
    char value[CKPT_SIZE_TEXT], a[CKPT_SIZE_TEXT], b[CKPT_SIZE_TEXT];
    ckpt_markup more = {0};
    ckpt_markup_add(out, "<div class=\"cards\">\n");
    ckpt_markup_add(&more, "%s bytes, %.1f%% of storing all (%s)", ckpt_report_count(m->total, a),
                    r->store_all_bytes ? 100 * (double)m->total / (double)r->store_all_bytes : 100,
                    ckpt_units_format_size(r->store_all_bytes, b));
    if (more.text) add_card(out, "Total memory", ckpt_units_format_size(m->total, value), more.text);
    more.length = 0;
    ckpt_markup_add(&more, "most live %s; no plan takes less in all than %s", ckpt_units_format_size(m->live_peak, a),
                    ckpt_units_format_size(r->plan->minimum.lower_bound_total, b));
    if (more.text) add_card(out, "Arena of the step", ckpt_units_format_size(m->arena, value), more.text);
    more.length = 0;
    char share[32];
    snprintf(share, sizeof share, "%.2f%%", 100 * ckpt_report_share(r, r->compute.recompute_cost));
    ckpt_markup_add(&more, "of a step's %s: %s on %s, %d nodes", r->unit == CKPT_COST_FLOPS ? "arithmetic" : "predicted time",
                    ckpt_cost_text(r->unit, r->compute.recompute_cost, a), ckpt_cost_text(r->unit, r->compute.step_cost, b),
                    r->compute.recomputed_nodes);
    if (more.text) add_card(out, "Recomputed", share, more.text);
    more.length = 0;
    if (r->compute.recompute_cost) {
        const uint64_t bound = r->plan->bound.lower_bound_cost * (uint64_t)r->parts;
        const double least = (double)(r->compute.step_cost + bound);
        const double gap = least > 0 ? ((double)r->compute.recompute_cost - (double)bound) / least : 0;
        snprintf(share, sizeof share, gap > 0 ? "within %.2f%%" : "optimal", 100 * gap);
        ckpt_markup_add(&more, "of optimal: no plan in this memory, in any order, recomputes less than %s", ckpt_cost_text(r->unit, bound, a));
    } else {
        snprintf(share, sizeof share, "optimal");
        ckpt_markup_add(&more, "nothing is recomputed");
    }
    if (more.text) add_card(out, "Certificate", share, more.text);
    ckpt_markup_add(out, "</div>\n");
    out->failed |= more.failed;
    ckpt_markup_free(&more);
}

static void add_memory(const ckpt_report *r, ckpt_markup *out) {
    const ckpt_plan_memory *m = &r->plan->memory;
    const struct {
        const char *name;
        uint64_t bytes;
    } parts[] = {{"arena of the step", m->arena}, {"parameters", m->parameters}, {"constants", m->constants},
                 {"optimizer state", m->optimizer}, {"gradient sums", m->gradients}, {"inputs and targets", m->inputs},
                 {"workspace", m->workspace}, {"total", m->total}};
    ckpt_markup_add(out, "<section><h2>Memory</h2><table><tr><th class=\"l\">part</th><th>bytes</th><th>size</th><th>share</th></tr>\n");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char count[CKPT_REPORT_TEXT], size[CKPT_SIZE_TEXT];
        if (!parts[i].bytes) continue;
        const double share = m->total ? 100 * (double)parts[i].bytes / (double)m->total : 0;
        ckpt_markup_add(out, "<tr%s><td class=\"l\">%s</td><td>%s</td><td>%s</td><td class=\"bar\" style=\"--w:%.1f%%\">%.1f%%</td></tr>\n",
                        i + 1 == sizeof parts / sizeof *parts ? " class=\"sum\"" : "", parts[i].name, ckpt_report_count(parts[i].bytes, count), ckpt_units_format_size(parts[i].bytes, size),
                        share, share);
    }
    ckpt_markup_add(out, "</table></section>\n");
}

/* FLOPs of each layer's steps: once, and again. */
static void count_layers(const ckpt_report *r, uint64_t *once, uint64_t *again) {
    for (int s = 0; s < r->plan->step_count; s++) {
        const int layer = r->graph->node[r->plan->step[s].node].layer;
        if (layer < 0) continue;
        uint64_t *to = r->plan->step[s].recompute ? again : once;
        if (r->graph->node[r->plan->step[s].node].phase == CKPT_FORWARD)
            to[layer] += ckpt_node_cost(r->graph, r->plan->step[s].node).flops * (uint64_t)r->parts;
    }
}

static const char *op_of(const ckpt_report *r, int layer) {
    if (r->graph->layer[layer].linear >= 0) return ckpt_op_info(r->graph->node[r->graph->layer[layer].linear].op)->name;
    for (int n = 0; n < r->graph->forward_count; n++)
        if (r->graph->node[n].layer == layer) return ckpt_op_info(r->graph->node[n].op)->name;
    return "";
}

static void add_layers(const ckpt_report *r, const uint64_t *once, const uint64_t *again, ckpt_markup *out) {
    const ckpt_graph *g = r->graph;
    uint64_t most = 1;
    for (int i = 0; i < g->layer_count; i++)
        if (g->layer[i].output >= 0 && ckpt_tensor_bytes(&g->tensor[g->layer[i].output]) > most)
            most = ckpt_tensor_bytes(&g->tensor[g->layer[i].output]);
    ckpt_markup_add(out, "<section><h2>Layers</h2><div class=\"scroll\"><table><thead><tr><th>index</th><th class=\"l\">name</th>"
                         "<th class=\"l\">op</th><th class=\"l\">output</th><th>bytes</th><th class=\"l\">decision</th>"
                         "<th>forward</th><th>recomputed</th></tr></thead><tbody>\n");
    for (int i = 0; i < g->layer_count; i++) {
        const ckpt_tensor *output = g->layer[i].output >= 0 ? &g->tensor[g->layer[i].output] : NULL;
        const uint64_t bytes = output ? ckpt_tensor_bytes(output) : 0;
        char shape[128] = "", count[CKPT_REPORT_TEXT], first[CKPT_REPORT_TEXT], second[CKPT_REPORT_TEXT];
        if (output) ckpt_shape_text(output, shape);
        ckpt_markup_add(out, "<tr><td>%d</td><td class=\"name\">", i);
        ckpt_markup_xml(out, g->layer[i].name);
        ckpt_markup_add(out,
                        "</td><td class=\"l\">%s</td><td class=\"l\">%s</td><td class=\"bar\" style=\"--w:%.1f%%\">%s</td>"
                        "<td class=\"l\"><span class=\"%s\">%s</span></td><td>%s</td><td>%s</td></tr>\n",
                        op_of(r, i), shape, 100 * (double)bytes / (double)most, ckpt_report_count(bytes, count),
                        r->plan->layer_recomputed[i] ? "again" : "keep", r->plan->layer_recomputed[i] ? "recompute" : "keep",
                        ckpt_cost_text(CKPT_COST_FLOPS, once[i], first), again[i] ? ckpt_cost_text(CKPT_COST_FLOPS, again[i], second) : "\xe2\x80\x93");
    }
    ckpt_markup_add(out, "</tbody></table></div></section>\n");
}

ckpt_status ckpt_report_html(const ckpt_report *r, ckpt_markup *out, ckpt_error *err) {
    ckpt_pool pool = {0};
    uint64_t *once = ckpt_pool_array(&pool, r->graph->layer_count, uint64_t);
    uint64_t *again = ckpt_pool_array(&pool, r->graph->layer_count, uint64_t);
    ckpt_status status = once && again ? CKPT_OK : CKPT_NOMEM;
    if (status == CKPT_OK) {
        count_layers(r, once, again);
        /* Nothing is fetched: names that slipped through would find no door. */
        ckpt_markup_add(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
                             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
                             "script-src 'unsafe-inline'\"/>\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
                             "<title>");
        ckpt_markup_xml(out, r->model);
        ckpt_markup_add(out, "</title>\n<style>%s%s</style></head>\n<body><main>\n", ckpt_report_chart_style, ckpt_report_page_style);
        add_head(r, out);
        add_cards(r, out);
        ckpt_markup_add(out, "<section>\n");
        status = ckpt_report_memory_chart(r, false, out, err);
        ckpt_markup_add(out, "</section>\n");
    }
    if (status == CKPT_OK) {
        if (r->frontier) {
            ckpt_markup_add(out, "<section>\n");
            ckpt_report_frontier_chart(r, false, out);
            ckpt_markup_add(out, "</section>\n");
        }
        add_memory(r, out);
        add_layers(r, once, again, out);
        ckpt_markup_add(out, "</main><div id=\"tip\"></div>\n<script>%s</script></body></html>\n", ckpt_report_script);
    }
    ckpt_pool_free(&pool);
    if (status == CKPT_NOMEM || out->failed) return ckpt_fail(err, CKPT_NOMEM, "out of host memory for the report");
    return status;
}
