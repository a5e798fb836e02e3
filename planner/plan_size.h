/* The plan of another batch of a network, in the memory that is planned already.
 *
 *     const ckpt_plan_room room = {&training, plan, plan->memory.arena};
 *     ckpt_plan_resize(&room, &training_of_last_batch, traits, origin, &resized, &err);
 *
 * The last batch of an epoch is smaller than the others, and needs no more memory than they do. Where its graph is the
 * same but for sizes it runs the same steps at the same offsets, each buffer a part of the one that it had: it is, where
 * it was made like the other (ckpt_training_options.like). Where it is not, because shape arithmetic of the file comes out
 * otherwise, it is planned for itself, within the same bytes. So a plan's total does not depend on the data.
 */
#ifndef CKPT_PLAN_SIZE_H
#define CKPT_PLAN_SIZE_H

#include "planner/plan.h"

/* What there is: a graph, its plan, and the bytes behind the plan's persistent region and workspace. */
typedef struct ckpt_plan_room {
    const ckpt_graph *graph;
    const ckpt_plan *plan;
    uint64_t arena_bytes; /* at least the plan's */
} ckpt_plan_room;

/* Makes and checks a plan for `graph` whose tensors that outlive the step lie where the room's do: tensor t of `graph`
 * is origin[t] there, found by role and name; -1 for STEP tensors. origin has room for graph->tensor_count. The plan
 * states the room's total; of costs and bounds it states none. CKPT_INFEASIBLE: it does not fit, and the message says
 * what does not. The plan is the caller's, to be freed with ckpt_plan_free. */
ckpt_status ckpt_plan_resize(const ckpt_plan_room *room, const ckpt_graph *graph, const ckpt_traits *traits, int *origin,
                             ckpt_plan **plan, ckpt_error *err);

#endif
