#include "planner/report/report.h"

#include "base/units.h"
#include "graph/op.h"

enum { NAME_CHARACTERS = 48 };

typedef enum fate { FATE_DROPPED, FATE_KEPT, FATE_AGAIN, FATE_BACKWARD, FATE_UPDATE, FATE_COUNT } fate;

static const struct {
    const char *fill, *text;
} looks[FATE_COUNT] = {{"#ffffff", "dropped"}, {"#9ecae9", "kept"}, {"#fdc086", "recomputed"},
                       {"#d9dde1", "backward"}, {"#e8c4dd", "update"}};

/* Kept: a later step than the forward pass reads what the node made then. */
static void find_fates(const ckpt_report *r, fate *fates) {
    const ckpt_graph *g = r->graph;
    const ckpt_plan *p = r->plan;
    for (int n = 0; n < g->node_count; n++)
        fates[n] = g->node[n].phase == CKPT_FORWARD ? FATE_DROPPED : g->node[n].phase == CKPT_BACKWARD ? FATE_BACKWARD : FATE_UPDATE;
    for (int s = 0; s < p->step_count; s++) {
        const bool later = p->step[s].recompute || g->node[p->step[s].node].phase != CKPT_FORWARD;
        for (int i = 0; later && i < g->node[p->step[s].node].in_count; i++) {
            const int read = p->step[s].in[i];
            if (read < 0) continue;
            const int maker = p->instance[read].first;
            if (!p->step[maker].recompute && g->node[p->step[maker].node].phase == CKPT_FORWARD)
                fates[p->step[maker].node] = FATE_KEPT;
        }
    }
    for (int s = 0; s < p->step_count; s++)
        if (p->step[s].recompute) fates[p->step[s].node] = FATE_AGAIN;
}

static void add_node(const ckpt_report *r, int n, fate how, ckpt_markup *out) {
    const ckpt_node *node = &r->graph->node[n];
    char size[CKPT_SIZE_TEXT];
    ckpt_markup_add(out, "    n%d [fillcolor=\"%s\", label=\"", n, looks[how].fill);
    ckpt_markup_dot(out, node->name, NAME_CHARACTERS);
    ckpt_markup_add(out, "\\n%s", ckpt_op_info(node->op)->name);
    if (node->out_count && node->out[0] >= 0 && ckpt_tensor_is_step(r->graph, node->out[0]))
        ckpt_markup_add(out, ", %s", ckpt_units_format_size(ckpt_tensor_bytes(&r->graph->tensor[node->out[0]]), size));
    ckpt_markup_add(out, "\", tooltip=\"%s\"];\n", looks[how].text);
}

/* Nodes of one layer stand together; those without one come last. */
static void add_layers(const ckpt_report *r, const fate *fates, ckpt_markup *out) {
    for (int layer = 0; layer <= r->graph->layer_count; layer++) {
        const bool outside = layer == r->graph->layer_count;
        if (!outside) {
            ckpt_markup_add(out, "  subgraph cluster_%d {\n    color=\"#b4bbc2\"; style=rounded; label=\"%d: ", layer, layer);
            ckpt_markup_dot(out, r->graph->layer[layer].name, NAME_CHARACTERS);
            ckpt_markup_add(out, "\";\n");
        }
        for (int n = 0; n < r->graph->node_count; n++)
            if (r->graph->node[n].layer == (outside ? -1 : layer)) add_node(r, n, fates[n], out);
        if (!outside) ckpt_markup_add(out, "  }\n");
    }
}

/* Layers stand one below the other: only edges within a layer and from forward pass to forward pass order the nodes,
 * and those from layer to layer leave room for what a layer's backward pass takes. */
static void add_edges(const ckpt_report *r, ckpt_markup *out) {
    const ckpt_graph *g = r->graph;
    for (int n = 0; n < g->node_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i], maker = t >= 0 ? g->tensor[t].producer : -1;
            if (maker < 0 || !ckpt_tensor_is_step(g, t)) continue;
            const bool from_forward = g->node[maker].phase == CKPT_FORWARD, to_forward = g->node[n].phase == CKPT_FORWARD;
            const bool inside = g->node[maker].layer == g->node[n].layer;
            ckpt_markup_add(out, "  n%d -> n%d [", maker, n);
            if (from_forward && !to_forward) ckpt_markup_add(out, "style=dashed, color=\"#0072b2\", ");
            ckpt_markup_add(out, inside ? "weight=2];\n" : to_forward ? "minlen=4];\n" : "constraint=false];\n");
        }
}

/* What holds a layer's backward pass below its forward pass. */
static void add_order(const ckpt_report *r, ckpt_markup *out) {
    const ckpt_graph *g = r->graph;
    for (int n = g->forward_count; n < g->node_count; n++) {
        const int layer = g->node[n].layer, output = layer >= 0 ? g->layer[layer].output : -1;
        if (output >= 0) ckpt_markup_add(out, "  n%d -> n%d [style=invis];\n", g->tensor[output].producer, n);
    }
}

ckpt_status ckpt_report_dot(const ckpt_report *r, ckpt_markup *out, ckpt_error *err) {
    ckpt_pool pool = {0};
    fate *fates = ckpt_pool_array(&pool, r->graph->node_count, fate);
    if (fates) {
        find_fates(r, fates);
        ckpt_markup_add(out, "digraph training {\n  rankdir=TB; labelloc=t; fontname=\"sans-serif\"; label=\"");
        ckpt_markup_dot(out, r->model, 200);
        ckpt_markup_add(out, "\\nstrategy ");
        ckpt_markup_dot(out, r->plan->strategy, 200);
        ckpt_markup_add(out, "\\nblue: kept, orange: recomputed, white: dropped after the forward pass, grey: backward, pink: "
                             "update; dashed: what the backward pass reads\";\n"
                             "  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\", fontsize=11, color=\"#5b636c\"];\n"
                             "  edge [color=\"#5b636c\", arrowsize=0.7];\n");
        add_layers(r, fates, out);
        add_edges(r, out);
        add_order(r, out);
        ckpt_markup_add(out, "}\n");
    }
    ckpt_pool_free(&pool);
    return !fates || out->failed ? ckpt_fail(err, CKPT_NOMEM, "out of host memory for the graph") : CKPT_OK;
}
