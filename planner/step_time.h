/* How long a step is predicted to take: a roofline over the nodes that it runs.
 *
 *     const ckpt_rates *rates = ckpt_rates_nominal("cpu");
 *     double seconds = ckpt_step_seconds(&graph, plan, parts, rates);
 *
 * A node takes as long as its arithmetic or its traffic, whichever is longer (Williams, Waterman and Patterson,
 * "Roofline", CACM 52(4), 2009), and what it takes to start it. With rates that were not measured the result says
 * which of two plans is faster, not how fast it is.
 */
#ifndef CKPT_STEP_TIME_H
#define CKPT_STEP_TIME_H

#include "planner/plan.h"

typedef struct ckpt_rates {
    const char *device;
    double flops_per_second, bytes_per_second;
    double launch_seconds; /* a node, whatever it does */
} ckpt_rates;

/* Round figures for a device of the kind: a few cores of a server, a data centre's GPU. NULL for other names. */
const ckpt_rates *ckpt_rates_nominal(const char *device);

/* Of a step in `parts` micro-batches under the plan, which is for one. */
double ckpt_step_seconds(const ckpt_graph *graph, const ckpt_plan *plan, int64_t parts, const ckpt_rates *rates);

#endif
