#include "planner/step_time.h"

#include <string.h>

#include "graph/op.h"

static const ckpt_rates nominal[] = {
    {.device = "cpu", .flops_per_second = 1e11, .bytes_per_second = 2e10, .launch_seconds = 1e-6},
    {.device = "cuda", .flops_per_second = 5e13, .bytes_per_second = 2e12, .launch_seconds = 3e-6},
};

const ckpt_rates *ckpt_rates_nominal(const char *device) {
    for (size_t i = 0; i < sizeof nominal / sizeof *nominal; i++)
        if (strcmp(nominal[i].device, device) == 0) return &nominal[i];
    return NULL;
}

double ckpt_step_seconds(const ckpt_graph *graph, const ckpt_plan *plan, int64_t parts, const ckpt_rates *rates) {
    double seconds = 0;
    for (int s = 0; s < plan->step_count; s++) {
        const ckpt_cost cost = ckpt_node_cost(graph, plan->step[s].node);
        const double arithmetic = (double)cost.flops / rates->flops_per_second;
        const double traffic = (double)cost.bytes / rates->bytes_per_second;
        const double times = graph->node[plan->step[s].node].when == CKPT_ALWAYS ? (double)parts : 1;
        seconds += times * ((arithmetic > traffic ? arithmetic : traffic) + rates->launch_seconds);
    }
    return seconds;
}
