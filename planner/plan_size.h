/* The plan for another batch size of a network, within memory that is already planned.
 *
 *     const ckpt_plan_room room = {&training, plan, plan->memory.arena};
 *     ckpt_plan_resize(&room, &training_of_last_batch, traits, origin, &resized, &err);
 *
 * The last batch of an epoch is smaller than the others and needs no more memory. If its graph differs in sizes only, it runs the
 * same steps at the same offsets, and each buffer is a part of the one that it had. A graph made like the other
 * (ckpt_training_options.like) usually differs in sizes only. If shape arithmetic in the file gives another graph, that graph is
 * planned on its own, within the same bytes. So the total of a plan does not depend on the data.
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
