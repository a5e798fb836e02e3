/* The independent checker: is a plan right for its graph?
 *
 *     if (ckpt_plan_check(&graph, plan, NULL, &err) != CKPT_OK) fprintf(stderr, "%s\n", err.message);
 *
 * It replays the steps over a map of the step region's bytes and shares no code with the strategies, liveness
 * or packing. What a plan must satisfy:
 *   - every node runs; only forward nodes without an effect run again, flagged so; the loss runs once
 *   - every read finds the newest production of its tensor, with no byte of it written over since
 *   - every tensor that outlives the step is in the state that the graph's own order gives: no parameter is
 * read after its update, sums are formed in the same order, so that results are the same bits
 *   - what runs in the first (last) micro-batch only comes before (after) all else that touches its tensors
 *   - no write touches a buffer that is still to be read, but for output 0 over an input that ops.def permits
 *   - lifetimes, offsets, and all totals are exactly as stated
 */
#ifndef CKPT_CHECK_H
#define CKPT_CHECK_H

#include "planner/core/plan_types.h"

/* `eval`: the evaluation graph that the plan was made with, or NULL. CKPT_FAILED says which step and why; a
 * plan that was read from a hostile file is refused, never trusted. */
ckpt_status ckpt_plan_check(const ckpt_graph *graph, const ckpt_plan *plan, const ckpt_graph *eval,
                            ckpt_error *err);

/* Is the plan right for its graph, and does it run in the memory of `room`, another batch of the same network
 * (plan_size.h)? Tensor t that outlives the step must lie where origin[t] of the room's graph does and be no larger;
 * what training changes must be the same there. Totals that the plan copies from the room are not looked at. */
ckpt_status ckpt_plan_check_within(const ckpt_graph *graph, const ckpt_plan *plan, const ckpt_graph *room_graph,
                                   const ckpt_plan *room, const int *origin, ckpt_error *err);

/* Its two halves, for the two files they are in: the replay, which stores the live peak and the highest byte
 * that it saw, and the totals against them. */
typedef struct ckpt_check_seen {
    uint64_t live_peak, highest;
} ckpt_check_seen;
ckpt_status ckpt_check_replay(const ckpt_graph *graph, const ckpt_plan *plan, ckpt_check_seen *seen,
                              ckpt_error *err);
ckpt_status ckpt_check_totals(const ckpt_graph *graph, const ckpt_plan *plan, const ckpt_graph *eval,
                              const ckpt_check_seen *seen, ckpt_error *err);

#endif
