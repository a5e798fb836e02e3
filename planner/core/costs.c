#include "planner/core/costs.h"

#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "graph/op.h"

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory for the costs of nodes");
}

ckpt_status ckpt_costs_flops(const ckpt_graph *graph, ckpt_pool *pool, ckpt_costs *costs, ckpt_error *err) {
    uint64_t *node = ckpt_pool_array(pool, graph->node_count, uint64_t);
    if (!node) return out_of_memory(err);
    for (int n = 0; n < graph->node_count; n++) node[n] = ckpt_node_cost(graph, n).flops;
    *costs = (ckpt_costs){.unit = CKPT_COST_FLOPS, .source = "flops", .count = graph->node_count, .node = node};
    return CKPT_OK;
}

ckpt_status ckpt_costs_copy(const ckpt_costs *from, ckpt_pool *pool, ckpt_costs *costs, ckpt_error *err) {
    uint64_t *node = ckpt_pool_array(pool, from->count, uint64_t);
    *costs = *from;
    costs->source = ckpt_pool_strdup(pool, from->source);
    costs->node = node;
    if (!node || !costs->source) return out_of_memory(err);
    if (from->count) memcpy(node, from->node, sizeof *node * (size_t)from->count);
    return CKPT_OK;
}

uint64_t ckpt_costs_divisor(const ckpt_graph *graph, const ckpt_costs *costs) {
    uint64_t divisor = 0;
    for (int n = 0; n < graph->forward_count; n++) divisor = ckpt_common_divisor(divisor, costs->node[n]);
    return divisor > 0 ? divisor : 1;
}

const char *ckpt_cost_unit_name(ckpt_cost_unit unit) {
    static const char *const names[] = {"flops", "ns"};
    return (size_t)unit < sizeof names / sizeof *names ? names[unit] : NULL;
}

char *ckpt_cost_text(ckpt_cost_unit unit, uint64_t cost, char text[CKPT_COST_TEXT]) {
    static const char *const units[2][7] = {{"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"}, {"ns", "us", "ms", "s"}};
    const char *const *name = units[unit == CKPT_COST_NS];
    double value = (double)cost;
    int at = 0;
    for (; value >= 1000 && name[at + 1]; at++) value /= 1000;
    snprintf(text, CKPT_COST_TEXT, at ? "%.2f %s" : "%.0f %s", value, name[at]);
    return text;
}
