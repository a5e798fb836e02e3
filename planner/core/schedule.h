/* Schedules: which forward nodes run again, and when.
 *
 * A strategy is a function from training graph and options to a schedule, nothing else. Most strategies only
 * choose which forward tensors are kept; ckpt_schedule_from_kept turns that choice into a schedule:
 *
 *     bool *kept = ...;                                  // by tensor id
 *     ckpt_schedule_from_kept(&graph, kept, &pool, &schedule, &err);
 *
 * `budget` and `min` ask a solver instead (planner/strategies/solver.h).
 */
#ifndef CKPT_SCHEDULE_H
#define CKPT_SCHEDULE_H

#include "planner/core/plan_types.h"

/* The training graph's nodes in order; before each backward node, whatever forward tensor it reads that was
 * neither kept nor made again since is recomputed from the nearest tensors at hand, and stays until its last
 * read. Tensors that no backward node reads need not be kept and are not recomputed for their own sake; so a
 * segment's last layer is not recomputed when its output is a kept checkpoint. Nodes with an effect and the
 * loss never run twice, nor does a node whose parameter has been updated: what only they could make is kept.
 * Each forward node runs at most twice. Memory comes from `pool`. Errors: CKPT_NOMEM. */
ckpt_status ckpt_schedule_from_kept(const ckpt_graph *graph, const bool *kept, ckpt_pool *pool,
                                    ckpt_schedule *schedule, ckpt_error *err);

/* The same, but of what is made again only tensors in `stays` (by tensor) and those that the backward nodes of the asking one's
 * own part read next are held; the others are dropped at once, and made once more when their time comes. part: by node; equal
 * for backward nodes that belong together. A forward node may so run more than twice. */
ckpt_status ckpt_schedule_from_choice(const ckpt_graph *graph, const bool *kept, const bool *stays, const int *part,
                                      ckpt_pool *pool, ckpt_schedule *schedule, ckpt_error *err);

/* Appends one node. */
ckpt_status ckpt_schedule_append(ckpt_pool *pool, ckpt_schedule *schedule, int node, ckpt_error *err);

#endif
