#include "planner/plan_size.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "planner/check/check.h"

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while planning a smaller batch");
}

/* --- the same tensors -------------------------------------------------------------------------------- */

typedef struct lasting {
    ckpt_role role;
    const char *name;
    int id;
} lasting;

/* Tensors of one role and name, such as Adam's two states, are told apart by their order. */
static int compare_lasting(const void *a, const void *b) {
    const lasting *x = a, *y = b;
    const int names = strcmp(x->name, y->name);
    if (x->role != y->role) return x->role < y->role ? -1 : 1;
    return names ? names : (x->id > y->id) - (x->id < y->id);
}

/* What outlives the step, by role and name; -1: no memory. */
static int list_lasting(const ckpt_graph *graph, ckpt_pool *pool, lasting **list) {
    int count = 0;
    *list = ckpt_pool_array(pool, graph->tensor_count, lasting);
    if (!*list) return -1;
    for (int t = 0; t < graph->tensor_count; t++)
        if (graph->tensor[t].role != CKPT_ROLE_STEP) (*list)[count++] = (lasting){graph->tensor[t].role, graph->tensor[t].name, t};
    if (count) qsort(*list, (size_t)count, sizeof **list, compare_lasting);
    return count;
}

static bool same_name(const lasting *a, const lasting *b) { return a->role == b->role && strcmp(a->name, b->name) == 0; }

/* Both lists are in one order: each tensor's origin is the next of its role and name. */
static ckpt_status find_origins(const ckpt_graph *whole, const ckpt_graph *graph, int *origin, ckpt_error *err) {
    ckpt_pool scratch = {0};
    lasting *there, *here;
    const int there_count = list_lasting(whole, &scratch, &there), here_count = list_lasting(graph, &scratch, &here);
    ckpt_status status = there_count < 0 || here_count < 0 ? out_of_memory(err) : CKPT_OK;
    for (int t = 0; t < graph->tensor_count; t++) origin[t] = -1;
    for (int h = 0, w = 0; h < here_count && status == CKPT_OK; h++, w++) {
        while (w < there_count && !same_name(&there[w], &here[h])) w++;
        if (w < there_count) origin[here[h].id] = there[w].id;
        else
            status =
                ckpt_fail(err, CKPT_INFEASIBLE, "with %" PRId64 " samples the network has '%s', which it has not with %" PRId64,
                          graph->batch, here[h].name, whole->batch);
    }
    ckpt_pool_free(&scratch);
    return status;
}

/* --- the same steps ---------------------------------------------------------------------------------- */

static bool same_ids(int count, const int *a, int other_count, const int *b) {
    return count == other_count && (count == 0 || memcmp(a, b, (size_t)count * sizeof *a) == 0);
}

/* One network at two sizes: the same nodes in the same order on the same tensors. */
static bool same_structure(const ckpt_graph *a, const ckpt_graph *b, const int *origin) {
    if (a->node_count != b->node_count || a->tensor_count != b->tensor_count || a->forward_count != b->forward_count ||
        !same_ids(a->output_count, a->output, b->output_count, b->output))
        return false;
    for (int t = 0; t < a->tensor_count; t++)
        if (a->tensor[t].role != b->tensor[t].role || a->tensor[t].dtype != b->tensor[t].dtype ||
            a->tensor[t].producer != b->tensor[t].producer || (a->tensor[t].role != CKPT_ROLE_STEP && origin[t] != t))
            return false;
    for (int n = 0; n < a->node_count; n++) {
        const ckpt_node *x = &a->node[n], *y = &b->node[n];
        if (x->op != y->op || x->phase != y->phase || x->when != y->when || !same_ids(x->in_count, x->in, y->in_count, y->in) ||
            !same_ids(x->out_count, x->out, y->out_count, y->out))
            return false;
    }
    return true;
}

/* Whether every buffer is a part of the one it had, and one that is written over another still is as large as that. */
static bool parts_of(const ckpt_plan *plan, const ckpt_graph *graph) {
    for (int k = 0; k < plan->instance_count; k++) {
        const ckpt_instance *x = &plan->instance[k];
        const uint64_t bytes = ckpt_tensor_bytes(&graph->tensor[x->tensor]);
        if (bytes > x->bytes) return false;
        if (x->reuses >= 0 && ckpt_tensor_bytes(&graph->tensor[plan->instance[x->reuses].tensor]) != bytes) return false;
    }
    return true;
}

/* Copies the room's steps and offsets. */
static ckpt_status copy_steps(const ckpt_plan *from, const ckpt_graph *graph, ckpt_plan *plan, ckpt_error *err) {
    plan->strategy = ckpt_pool_strdup(&plan->pool, from->strategy);
    plan->device = ckpt_pool_strdup(&plan->pool, from->device);
    plan->alignment_bytes = from->alignment_bytes;
    memcpy(plan->graph_hash, graph->hash, sizeof plan->graph_hash);
    plan->step_count = from->step_count;
    plan->step = ckpt_plan_copy_steps(from->step, from->step_count, &plan->pool);
    plan->instance_count = from->instance_count;
    plan->instance = ckpt_pool_array(&plan->pool, from->instance_count, ckpt_instance);
    if (!plan->strategy || !plan->device || !plan->step || !plan->instance) return out_of_memory(err);
    for (int k = 0; k < from->instance_count; k++) {
        plan->instance[k] = from->instance[k];
        plan->instance[k].bytes = ckpt_tensor_bytes(&graph->tensor[from->instance[k].tensor]);
    }
    return CKPT_OK;
}

/* --- a plan of its own ------------------------------------------------------------------------------- */

/* Nothing is recomputed where all fits; otherwise as little as the bytes allow. */
static ckpt_status plan_apart(const ckpt_plan_room *room, const ckpt_graph *graph, const ckpt_traits *traits, ckpt_plan **plan,
                              ckpt_error *err) {
    ckpt_plan_options options = {.strategy = CKPT_STRATEGY_NONE};
    CKPT_TRY(ckpt_plan_make(graph, &options, traits, NULL, plan, err));
    if ((*plan)->memory.arena <= room->arena_bytes) return CKPT_OK;
    ckpt_plan_minimum least = {0};
    options.strategy = CKPT_STRATEGY_BUDGET;
    options.budget_bytes = (*plan)->memory.total - (*plan)->memory.arena + room->arena_bytes;
    ckpt_plan_free(*plan);
    *plan = NULL;
    const ckpt_status status = ckpt_plan_make(graph, &options, traits, &least, plan, err);
    if (status != CKPT_INFEASIBLE) return status;
    return ckpt_fail(err, CKPT_INFEASIBLE, "with a batch of %" PRId64 " the network has other steps, which take %" PRIu64
                     " bytes more than the plan has", graph->batch, least.total - options.budget_bytes);
}

/* Moves what outlives the step to where the room has it. */
static ckpt_status settle(const ckpt_plan_room *room, const ckpt_graph *graph, const int *origin, ckpt_plan *plan,
                          ckpt_error *err) {
    plan->tensor_count = graph->tensor_count;
    plan->persistent_offset = ckpt_pool_array(&plan->pool, graph->tensor_count, uint64_t);
    if (!plan->persistent_offset) return out_of_memory(err);
    for (int t = 0; t < graph->tensor_count; t++)
        plan->persistent_offset[t] = origin[t] < 0 ? UINT64_MAX : room->plan->persistent_offset[origin[t]];
    plan->persistent_bytes = room->plan->persistent_bytes;
    plan->input_buffers = room->plan->input_buffers;
    plan->input_stride_bytes = room->plan->input_stride_bytes;
    plan->memory = room->plan->memory;
    plan->memory.total += room->arena_bytes - plan->memory.arena;
    plan->memory.arena = room->arena_bytes;
    plan->costs = (ckpt_costs){0};
    plan->compute = (ckpt_plan_compute){0};
    plan->bound = (ckpt_plan_bound){0};
    return CKPT_OK;
}

static ckpt_status resize(const ckpt_plan_room *room, const ckpt_graph *graph, const ckpt_traits *traits, int *origin,
                          ckpt_plan **plan, ckpt_error *err) {
    CKPT_TRY(find_origins(room->graph, graph, origin, err));
    if (same_structure(room->graph, graph, origin) && parts_of(room->plan, graph)) {
        *plan = calloc(1, sizeof **plan);
        if (!*plan) return out_of_memory(err);
        CKPT_TRY(copy_steps(room->plan, graph, *plan, err));
    } else {
        CKPT_TRY(plan_apart(room, graph, traits, plan, err));
    }
    CKPT_TRY(settle(room, graph, origin, *plan, err));
    return ckpt_plan_check_within(graph, *plan, room->graph, room->plan, origin, err);
}

ckpt_status ckpt_plan_resize(const ckpt_plan_room *room, const ckpt_graph *graph, const ckpt_traits *traits, int *origin,
                             ckpt_plan **plan, ckpt_error *err) {
    *plan = NULL;
    const ckpt_status status = resize(room, graph, traits, origin, plan, err);
    if (status == CKPT_OK) return CKPT_OK;
    ckpt_plan_free(*plan);
    *plan = NULL;
    return status;
}
