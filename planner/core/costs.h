/* What it costs to run each node of a graph: the one thing that the planner minimizes, as data.
 *
 *     ckpt_costs costs;
 *     ckpt_costs_flops(&graph, &pool, &costs, &err);
 *     for (int s = 0; s < steps; s++) sum += costs.node[step[s].node];
 *
 * Whole numbers, so that the same costs give the same plan everywhere. Who made them is said in words, for reports and plan
 * files; the planner itself knows nothing of devices.
 */
#ifndef CKPT_COSTS_H
#define CKPT_COSTS_H

#include "base/pool.h"
#include "base/status.h"
#include "graph/graph.h"

typedef enum ckpt_cost_unit { CKPT_COST_FLOPS, CKPT_COST_NS } ckpt_cost_unit;

/* No node may cost more in nanoseconds (over an hour), so that a plan's sum fits 64 bits. */
#define CKPT_COST_MOST_NS (UINT64_C(1) << 42)

typedef struct ckpt_costs {
    ckpt_cost_unit unit;
    const char *source; /* "flops"; "roofline: ..." */
    int count;
    const uint64_t *node; /* by node id */
} ckpt_costs;

/* The op table's FLOPs. The array is the pool's. Errors: CKPT_NOMEM. */
ckpt_status ckpt_costs_flops(const ckpt_graph *graph, ckpt_pool *pool, ckpt_costs *costs, ckpt_error *err);

/* A copy whose array and text are the pool's. Errors: CKPT_NOMEM. */
ckpt_status ckpt_costs_copy(const ckpt_costs *from, ckpt_pool *pool, ckpt_costs *costs, ckpt_error *err);

/* Divides whatever a schedule of the graph can recompute. */
uint64_t ckpt_costs_divisor(const ckpt_graph *graph, const ckpt_costs *costs);

/* "1.23 GFLOP", "1.23 ms". Returns `text`. */
enum { CKPT_COST_TEXT = 32 };
char *ckpt_cost_text(ckpt_cost_unit unit, uint64_t cost, char text[CKPT_COST_TEXT]);

/* "flops", "ns"; NULL for anything else. */
const char *ckpt_cost_unit_name(ckpt_cost_unit unit);

#endif
