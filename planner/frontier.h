/* The frontier: what every number of bytes costs, from the smallest plan to storing all.
 *
 *     ckpt_frontier frontier;
 *     ckpt_frontier_find(&graph, &eval, &costs, traits, 64, &frontier, &err);
 *     for (int i = 0; i < frontier.count; i++) use(frontier.point[i].total_bytes, frontier.point[i].recompute_cost);
 *     ckpt_frontier_free(&frontier);
 *
 * Points are plans of the strategies `budget`, `min` and `none`: the budget total_bytes recomputes no more than the
 * point says. The solver is opened once; gaps between points are searched where the rectangle
 * that they leave open is largest, until none is open or there are enough points.
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
    bool complete;              /* no schedule of the tables was passed over */
    int bound_count;
    ckpt_frontier_bound *bound; /* bytes ascending, from the first point's to the last one's */
} ckpt_frontier;

/* At most `most_points` (3 at least) of the tables and the two ends. `eval` may be NULL; so may `costs`: FLOPs. Errors as ckpt_plan_make's. */
ckpt_status ckpt_frontier_find(const ckpt_graph *graph, const ckpt_graph *eval, const ckpt_costs *costs,
                               const ckpt_traits *traits, int most_points, ckpt_frontier *frontier, ckpt_error *err);
void ckpt_frontier_free(ckpt_frontier *frontier);

#endif
