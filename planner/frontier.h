/* The Pareto frontier of plans: what every number of bytes costs, from the smallest plan to storing all.
 *
 *     ckpt_frontier frontier;
 *     ckpt_frontier_find(&graph, &eval, &costs, traits, 64, &frontier, &err);
 *     for (int i = 0; i < frontier.count; i++) use(frontier.point[i].total_bytes, frontier.point[i].recompute_cost);
 *     ckpt_frontier_free(&frontier);
 *
 * Points are plans of the strategies `budget`, `min` and `none`. A budget of total_bytes recomputes no more than the point
 * says. The solver is opened once. The gap that leaves the largest area open between two points is searched first, until no
 * gap is open or there are enough points.
 */
#ifndef CKPT_FRONTIER_H
#define CKPT_FRONTIER_H

#include "planner/plan.h"

enum { CKPT_FRONTIER_POINTS = 64 };

/* FLOPs and costs are those of one micro-batch, as in ckpt_plan. */
typedef struct ckpt_frontier_point {
    uint64_t total_bytes, arena_bytes, live_peak_bytes; /* as in ckpt_plan_memory */
    uint64_t recompute_cost, recompute_flops;
    uint64_t lower_bound_cost; /* no plan within total_bytes recomputes less */
} ckpt_frontier_point;

typedef struct ckpt_frontier_bound {
    uint64_t total_bytes, cost; /* likewise */
} ckpt_frontier_bound;

typedef struct ckpt_frontier {
    ckpt_pool pool;
    int count; /* at least 1 */
    ckpt_frontier_point *point; /* bytes ascending, cost descending, both strictly */
    bool complete;              /* no gap is left open */
    int bound_count;
    ckpt_frontier_bound *bound; /* bytes ascending, from the first point's to the last one's */
} ckpt_frontier;

/* At most `most_points` points (3 at least), the two ends included. `eval` may be NULL. `costs` may be NULL: FLOPs. Errors:
 * those of ckpt_plan_make. */
ckpt_status ckpt_frontier_find(const ckpt_graph *graph, const ckpt_graph *eval, const ckpt_costs *costs,
                               const ckpt_traits *traits, int most_points, ckpt_frontier *frontier, ckpt_error *err);
void ckpt_frontier_free(ckpt_frontier *frontier);

#endif
