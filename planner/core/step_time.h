/* Costs in time, from what a device does in a second or from what was measured of each node.
 *
 *     const ckpt_rates *rates = ckpt_rates_nominal("cpu", CKPT_PRECISION_FP32);
 *     ckpt_costs_roofline(&graph, rates, &pool, &costs, &err);
 *     double seconds = ckpt_step_seconds(&graph, plan, parts, rates);
 *
 * A node takes as long as its arithmetic or its traffic, whichever is longer (Williams, Waterman and Patterson,
 * "Roofline", CACM 52(4), 2009), and what it takes to start it. With rates that were not measured the result says
 * which of two plans is faster, not how fast it is.
 */
#ifndef CKPT_STEP_TIME_H
#define CKPT_STEP_TIME_H

#include "planner/core/plan_types.h"

typedef struct ckpt_rates {
    const char *device;
    ckpt_precision precision; /* of the products that flops_per_second is of */
    double flops_per_second, bytes_per_second;
    double launch_seconds;         /* to start a node */
    double product_launch_seconds; /* to start one with products of matrices, or convolutions */
    bool measured;         /* false: round figures for a device of the kind */
} ckpt_rates;

/* Round figures for a device of the kind: a few cores of a server, a data centre's GPU. NULL for other names, and where the
 * device has no such products. */
const ckpt_rates *ckpt_rates_nominal(const char *device, ckpt_precision precision);

/* Each node's time in whole nanoseconds. Memory is the pool's. Errors: CKPT_NOMEM. */
ckpt_status ckpt_costs_roofline(const ckpt_graph *graph, const ckpt_rates *rates, ckpt_pool *pool, ckpt_costs *costs,
                                ckpt_error *err);

/* From seconds[node_count] as they were measured. Nodes that do the same (op, shapes, arithmetic) cost their mean, so that
 * repeated layers are equal for the planner too. Memory is the pool's, but not `source`. Errors: CKPT_NOMEM. */
ckpt_status ckpt_costs_measured(const ckpt_graph *graph, const double *seconds, const char *source, ckpt_pool *pool,
                                ckpt_costs *costs, ckpt_error *err);

/* Of a step in `parts` micro-batches under the plan, which is for one. By the plan's own costs where they are in time, else
 * by the roofline. */
double ckpt_step_seconds(const ckpt_graph *graph, const ckpt_plan *plan, int64_t parts, const ckpt_rates *rates);

#endif
