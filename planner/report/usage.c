#include "planner/report/usage.h"

#include <string.h>

#include "base/units.h"

/* The first step at which an instance's bytes are its own. */
static int own_from(const ckpt_instance *x) { return x->first + (x->reuses >= 0); }

void ckpt_plan_live_bytes(const ckpt_plan *plan, uint64_t *live) {
    memset(live, 0, (size_t)plan->step_count * sizeof *live);
    for (int k = 0; k < plan->instance_count; k++) {
        const ckpt_instance *x = &plan->instance[k];
        const uint64_t bytes = ckpt_align_up(x->bytes, plan->alignment_bytes);
        for (int s = own_from(x); s < x->end; s++) live[s] += bytes;
    }
}

ckpt_step_kind ckpt_plan_step_kind(const ckpt_graph *graph, const ckpt_plan *plan, int step) {
    if (plan->step[step].recompute) return CKPT_STEP_RECOMPUTE;
    const ckpt_phase phase = graph->node[plan->step[step].node].phase;
    return phase == CKPT_FORWARD ? CKPT_STEP_FORWARD : phase == CKPT_BACKWARD ? CKPT_STEP_BACKWARD : CKPT_STEP_UPDATE;
}

const char *ckpt_step_kind_name(ckpt_step_kind kind) {
    static const char *const names[CKPT_STEP_KINDS] = {"forward", "recompute", "backward", "update"};
    return names[kind];
}

static int band_of(const ckpt_graph *graph, const ckpt_plan *plan, const ckpt_usage *u, const ckpt_instance *x) {
    const ckpt_node *node = &graph->node[plan->step[x->first].node];
    if (node->phase != CKPT_FORWARD || node->layer < 0) return u->band_count - 1;
    int group = 0;
    while (u->group_first[group + 1] <= node->layer) group++;
    return group + (plan->step[x->first].recompute ? u->group_count : 0);
}

static void find_columns(const ckpt_plan *plan, const uint64_t *live, ckpt_usage *u) {
    for (int c = 0; c < u->column_count; c++) {
        ckpt_usage_column *column = &u->column[c];
        column->first = (int)((int64_t)plan->step_count * c / u->column_count);
        column->end = (int)((int64_t)plan->step_count * (c + 1) / u->column_count);
        column->step = column->first;
        for (int s = column->first; s < column->end; s++)
            if (live[s] > live[column->step]) column->step = s;
        column->live_bytes = live[column->step];
        if (column->live_bytes <= u->peak_bytes) continue;
        u->peak_bytes = column->live_bytes;
        u->peak_column = c;
    }
}

ckpt_status ckpt_usage_find(const ckpt_graph *graph, const ckpt_plan *plan, int most_columns, ckpt_pool *pool,
                            ckpt_usage *u, ckpt_error *err) {
    *u = (ckpt_usage){0};
    const int layers = graph->layer_count > 0 ? graph->layer_count : 1;
    u->group_count = layers < CKPT_USAGE_GROUPS ? layers : CKPT_USAGE_GROUPS;
    for (int g = 0; g <= u->group_count; g++) u->group_first[g] = (int)((int64_t)layers * g / u->group_count);
    u->band_count = 2 * u->group_count + 1;
    u->column_count = plan->step_count < most_columns ? plan->step_count : most_columns;
    uint64_t *live = ckpt_pool_array(pool, plan->step_count, uint64_t);
    int *column_at = ckpt_pool_array(pool, plan->step_count, int); /* of the step that a column shows, else -1 */
    u->column = ckpt_pool_array(pool, u->column_count, ckpt_usage_column);
    u->bytes = ckpt_pool_alloc(pool, (size_t)u->column_count * (size_t)u->band_count, sizeof *u->bytes);
    if (!live || !column_at || !u->column || !u->bytes) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    ckpt_plan_live_bytes(plan, live);
    find_columns(plan, live, u);
    for (int s = 0; s < plan->step_count; s++) column_at[s] = -1;
    for (int c = 0; c < u->column_count; c++) column_at[u->column[c].step] = c;
    for (int k = 0; k < plan->instance_count; k++) {
        const ckpt_instance *x = &plan->instance[k];
        const int band = band_of(graph, plan, u, x);
        for (int s = own_from(x); s < x->end; s++)
            if (column_at[s] >= 0)
                u->bytes[column_at[s] * u->band_count + band] += ckpt_align_up(x->bytes, plan->alignment_bytes);
    }
    return CKPT_OK;
}
