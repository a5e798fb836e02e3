#include "planner/core/step_time.h"

#include <string.h>

#include "graph/op.h"

static const ckpt_rates nominal[] = {
    {"cpu", CKPT_PRECISION_FP32, .flops_per_second = 1e11, .bytes_per_second = 2e10, .launch_seconds = 1e-6,
     .product_launch_seconds = 2e-6},
    {"cuda", CKPT_PRECISION_FP32, .flops_per_second = 5e13, .bytes_per_second = 2e12, .launch_seconds = 3e-6,
     .product_launch_seconds = 3e-6},
    {"cuda", CKPT_PRECISION_TF32, .flops_per_second = 3e14, .bytes_per_second = 2e12, .launch_seconds = 3e-6,
     .product_launch_seconds = 3e-6},
    {"cuda", CKPT_PRECISION_BF16, .flops_per_second = 6e14, .bytes_per_second = 2e12, .launch_seconds = 3e-6,
     .product_launch_seconds = 3e-6},
};

const ckpt_rates *ckpt_rates_nominal(const char *device, ckpt_precision precision) {
    for (size_t i = 0; i < sizeof nominal / sizeof *nominal; i++)
        if (strcmp(nominal[i].device, device) == 0 && nominal[i].precision == precision) return &nominal[i];
    return NULL;
}

static const char *precision_text(ckpt_precision precision) {
    return precision == CKPT_PRECISION_FP32 ? "" : precision == CKPT_PRECISION_TF32 ? " in tf32" : " in bf16";
}

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory for the costs of nodes");
}

static double roofline(const ckpt_graph *graph, int node, const ckpt_rates *rates) {
    const ckpt_cost cost = ckpt_node_cost(graph, node);
    const double arithmetic = (double)cost.flops / rates->flops_per_second;
    const double traffic = (double)cost.bytes / rates->bytes_per_second;
    const bool product = ckpt_op_info(graph->node[node].op)->flags & CKPT_MATMUL;
    return (arithmetic > traffic ? arithmetic : traffic) + (product ? rates->product_launch_seconds : rates->launch_seconds);
}

/* At least 1: what costs nothing would be recomputed without end. */
static uint64_t whole_ns(double seconds) {
    const double ns = seconds * 1e9 + 0.5;
    if (!(ns >= 1)) return 1;
    return ns < (double)CKPT_COST_MOST_NS ? (uint64_t)ns : CKPT_COST_MOST_NS;
}

ckpt_status ckpt_costs_roofline(const ckpt_graph *graph, const ckpt_rates *rates, ckpt_pool *pool, ckpt_costs *costs,
                                ckpt_error *err) {
    uint64_t *node = ckpt_pool_array(pool, graph->node_count, uint64_t);
    const char *source = ckpt_pool_printf(pool, "roofline, %s for the %s%s: %.3g FLOP/s, %.3g bytes/s, %.3g s a node, %.3g s a product",
                                          rates->measured ? "measured" : "nominal", rates->device,
                                          precision_text(rates->precision), rates->flops_per_second,
                                          rates->bytes_per_second, rates->launch_seconds, rates->product_launch_seconds);
    if (!node || !source) return out_of_memory(err);
    for (int n = 0; n < graph->node_count; n++) node[n] = whole_ns(roofline(graph, n, rates));
    *costs = (ckpt_costs){.unit = CKPT_COST_NS, .source = source, .count = graph->node_count, .node = node};
    return CKPT_OK;
}

static bool same_shape(const ckpt_graph *g, int a, int b) {
    const ckpt_tensor *x = a >= 0 ? &g->tensor[a] : NULL, *y = b >= 0 ? &g->tensor[b] : NULL;
    if (!x || !y) return x == y;
    return x->dtype == y->dtype && x->rank == y->rank && memcmp(x->dim, y->dim, sizeof *x->dim * (size_t)x->rank) == 0;
}

static bool do_the_same(const ckpt_graph *g, int a, int b) {
    const ckpt_node *x = &g->node[a], *y = &g->node[b];
    if (x->op != y->op || x->in_count != y->in_count || x->out_count != y->out_count) return false;
    for (int i = 0; i < x->in_count; i++)
        if (!same_shape(g, x->in[i], y->in[i])) return false;
    for (int i = 0; i < x->out_count; i++)
        if (!same_shape(g, x->out[i], y->out[i])) return false;
    const ckpt_epilogue *p = ckpt_node_epilogue(x), *q = ckpt_node_epilogue(y);
    if ((p || q) && (p->act != q->act || (p->drop > 0) != (q->drop > 0))) return false;
    return ckpt_node_cost(g, a).flops == ckpt_node_cost(g, b).flops;
}

ckpt_status ckpt_costs_measured(const ckpt_graph *graph, const double *seconds, const char *source, ckpt_pool *pool,
                                ckpt_costs *costs, ckpt_error *err) {
    uint64_t *node = ckpt_pool_array(pool, graph->node_count, uint64_t);
    int *kind = ckpt_pool_array(pool, graph->node_count, int), *first = ckpt_pool_array(pool, graph->node_count, int);
    int *members = ckpt_pool_array(pool, graph->node_count, int), kinds = 0;
    double *sum = ckpt_pool_array(pool, graph->node_count, double);
    if (!node || !kind || !first || !members || !sum) return out_of_memory(err);
    for (int n = 0; n < graph->node_count; n++) {
        for (kind[n] = 0; kind[n] < kinds && !do_the_same(graph, first[kind[n]], n);) kind[n]++;
        if (kind[n] == kinds) first[kinds++] = n;
        sum[kind[n]] += seconds[n];
        members[kind[n]]++;
    }
    for (int n = 0; n < graph->node_count; n++) node[n] = whole_ns(sum[kind[n]] / members[kind[n]]);
    *costs = (ckpt_costs){.unit = CKPT_COST_NS, .source = source, .count = graph->node_count, .node = node};
    return CKPT_OK;
}

double ckpt_step_seconds(const ckpt_graph *graph, const ckpt_plan *plan, int64_t parts, const ckpt_rates *rates) {
    double seconds = 0;
    for (int s = 0; s < plan->step_count; s++) {
        const int n = plan->step[s].node;
        const double times = graph->node[n].when == CKPT_ALWAYS ? (double)parts : 1;
        seconds += times * (plan->costs.unit == CKPT_COST_NS ? 1e-9 * (double)plan->costs.node[n] : roofline(graph, n, rates));
    }
    return seconds;
}
