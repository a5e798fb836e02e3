#include "planner/packing/layout.h"

#include "base/units.h"
#include "planner/packing/pack.h"
#include "planner/core/schedule.h"

/* Instances that follow each other in one buffer are packed as one: `group` maps to it. */
static bool group_reuses(const ckpt_liveness *live, ckpt_pack_problem *problem, int *group,
                         ckpt_pool *scratch) {
    int64_t *lower = ckpt_pool_array(scratch, live->instance_count, int64_t);
    int64_t *upper = ckpt_pool_array(scratch, live->instance_count, int64_t);
    uint64_t *size = ckpt_pool_array(scratch, live->instance_count, uint64_t);
    if (!lower || !upper || !size) return false;
    problem->count = 0;
    for (int k = 0; k < live->instance_count; k++) {
        const ckpt_instance *x = &live->instance[k];
        if (x->reuses >= 0) { /* an earlier instance: instances are in the order of their first step */
            group[k] = group[x->reuses];
        } else {
            group[k] = problem->count++;
            lower[group[k]] = x->first;
            size[group[k]] = x->bytes;
        }
        upper[group[k]] = x->end;
    }
    problem->lower = lower;
    problem->upper = upper;
    problem->size = size;
    return true;
}

ckpt_status ckpt_layout_find(const ckpt_graph *graph, const ckpt_schedule *schedule, uint64_t alignment_bytes,
                             ckpt_pool *pool, ckpt_layout *layout, ckpt_error *err) {
    *layout = (ckpt_layout){0};
    CKPT_TRY(ckpt_liveness_find(graph, schedule, alignment_bytes, pool, &layout->live, err));
    ckpt_pool scratch = {0};
    ckpt_pack_problem problem = {.alignment = alignment_bytes};
    ckpt_packing packing;
    int *group = ckpt_pool_array(&scratch, layout->live.instance_count, int);
    ckpt_status status;
    if (!group || !group_reuses(&layout->live, &problem, group, &scratch))
        status = ckpt_fail(err, CKPT_NOMEM, "out of host memory while packing");
    else
        status = ckpt_pack(&problem, &scratch, &packing, err);
    if (status == CKPT_OK) {
        for (int k = 0; k < layout->live.instance_count; k++)
            layout->live.instance[k].offset = packing.offset[group[k]];
        layout->arena_bytes = packing.height;
    }
    ckpt_pool_free(&scratch);
    return status;
}

ckpt_status ckpt_layout_of_graph(const ckpt_graph *graph, uint64_t alignment_bytes, ckpt_pool *pool,
                                 ckpt_layout *layout, ckpt_error *err) {
    ckpt_schedule schedule = {0};
    for (int n = 0; n < graph->node_count; n++) CKPT_TRY(ckpt_schedule_append(pool, &schedule, n, err));
    return ckpt_layout_find(graph, &schedule, alignment_bytes, pool, layout, err);
}
