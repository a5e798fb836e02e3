/* Schedules of a graph with branches, cheapest for their bytes: a curve that a budget is looked up in.
 *
 *     ckpt_graph_curve curve = {.graph = &graph, .costs = &costs, .alignment_bytes = 256};
 *     ckpt_graph_curve_add_kept(&curve, kept, &err);             // by tensor id
 *     ckpt_graph_curve_descend(&curve, &err);                    // drops one tensor after the other
 *     ckpt_graph_curve_price(&curve, &habit, most_work, &err);   // chooses what is kept by prices
 *     ckpt_graph_curve_move(&curve, most_work, &err);            // small changes to single schedules
 *     const ckpt_graph_point *p = ckpt_graph_curve_find(&curve, bytes);
 *     ckpt_graph_curve_free(&curve);
 *
 * Every schedule is judged by the bytes of liveness.h and nothing else, so that branches, long skips and tensors
 * that many read are like any other. The curve does not depend on any budget: a larger one never finds less. Work is
 * counted, not timed.
 */
#ifndef CKPT_GRAPH_CURVE_H
#define CKPT_GRAPH_CURVE_H

#include "planner/core/liveness.h"
#include "planner/core/schedule.h"

typedef struct ckpt_graph_point {
    uint64_t bytes, cost; /* most live at once; recomputed */
    bool pinned; /* goes only when another beats it, not for want of room */
    ckpt_schedule schedule;
} ckpt_graph_point;

typedef struct ckpt_graph_curve {
    const ckpt_graph *graph; /* not owned */
    const ckpt_costs *costs; /* not owned */
    uint64_t alignment_bytes;
    uint64_t work; /* steps looked at so far */
    bool pinned;   /* so are the points that are added now */
    bool branching; /* set by chain_curve.h: the graph is more than a chain with skips */
    int count, capacity;
    ckpt_graph_point *point; /* bytes ascend, cost descend */
} ckpt_graph_curve;

/* Adds a schedule unless one that is there takes no more bytes and cost; those that it beats go. The schedule is copied.
 * Errors: CKPT_NOMEM. */
ckpt_status ckpt_graph_curve_add(ckpt_graph_curve *curve, const ckpt_schedule *schedule, ckpt_error *err);
ckpt_status ckpt_graph_curve_add_kept(ckpt_graph_curve *curve, const bool *kept, ckpt_error *err);

/* The same, with the schedule's lifetimes in `pool` for the caller to look at. */
ckpt_status ckpt_graph_curve_try(ckpt_graph_curve *curve, const ckpt_schedule *schedule, ckpt_pool *pool,
                                 ckpt_liveness *live, ckpt_error *err);

/* What schedules by prices have in common: what is kept in any case, and what stays once it is made again (schedule.h; NULL: all). */
typedef struct ckpt_graph_habit {
    const bool *forced, *stays; /* by tensor */
    const int *part;            /* by node */
} ckpt_graph_habit;

/* Schedules that choose what they keep by prices, for targets over the curve's whole range. Ends when `work` has reached
 * most_work. */
ckpt_status ckpt_graph_curve_price(ckpt_graph_curve *curve, const ckpt_graph_habit *habit, uint64_t most_work,
                                   ckpt_error *err);

/* From keeping all that the backward pass reads, drops the tensor at the peak that saves most bytes for the cost of
 * making it again, until none is left there; every schedule on the way is added. */
ckpt_status ckpt_graph_curve_descend(ckpt_graph_curve *curve, ckpt_error *err);

/* Small changes to schedules spread over the curve: drops what lies idle at the peak, to make it again before its next use, and
 * leaves out what there is room to hold; a tensor may so be made any number of times. Ends when `work` has reached most_work. */
ckpt_status ckpt_graph_curve_move(ckpt_graph_curve *curve, uint64_t most_work, ckpt_error *err);

/* The last point of at most `bytes`, or NULL; and the first one above. */
const ckpt_graph_point *ckpt_graph_curve_find(const ckpt_graph_curve *curve, uint64_t bytes);
const ckpt_graph_point *ckpt_graph_curve_above(const ckpt_graph_curve *curve, uint64_t bytes);

void ckpt_graph_curve_free(ckpt_graph_curve *curve);

#endif
