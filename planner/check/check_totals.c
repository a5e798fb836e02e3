/* The second half of the checker: the persistent region and every stated total, from the graph alone. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "planner/check/check.h"

static uint64_t padded(uint64_t bytes, uint64_t alignment) {
    return bytes % alignment == 0 ? bytes : bytes - bytes % alignment + alignment;
}

static ckpt_status differs(const char *what, uint64_t stated, uint64_t found, ckpt_error *err) {
    if (stated == found) return CKPT_OK;
    return ckpt_fail(err, CKPT_FAILED, "%s is stated as %" PRIu64 " but is %" PRIu64, what, stated, found);
}

typedef struct extent {
    uint64_t lo, hi;
    int tensor;
} extent;

static int compare_extents(const void *a, const void *b) {
    const extent *x = a, *y = b;
    if (x->lo != y->lo) return x->lo < y->lo ? -1 : 1;
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

static bool is_input(const ckpt_tensor *tensor) {
    return tensor->role == CKPT_ROLE_INPUT || tensor->role == CKPT_ROLE_TARGET;
}

/* Every copy of every tensor that outlives the step, in `extents` (NULL: only counted). -1: an offset is
 * wrong. */
static int64_t list_extents(const ckpt_graph *g, const ckpt_plan *p, extent *extents, ckpt_error *err) {
    int64_t count = 0;
    for (int t = 0; t < g->tensor_count; t++) {
        const ckpt_tensor *tensor = &g->tensor[t];
        const uint64_t at = p->persistent_offset[t];
        if (tensor->role == CKPT_ROLE_STEP) {
            if (at == UINT64_MAX) continue;
            ckpt_fail(err, CKPT_FAILED, "'%s' is made in the step but has a persistent offset", tensor->name);
            return -1;
        }
        const uint64_t bytes = padded(ckpt_tensor_bytes(tensor), p->alignment_bytes);
        for (int c = 0; c < (is_input(tensor) ? p->input_buffers : 1); c++) {
            const uint64_t lo = at + (uint64_t)c * p->input_stride_bytes;
            if (at > p->persistent_bytes || lo > p->persistent_bytes || bytes > p->persistent_bytes - lo ||
                lo % p->alignment_bytes != 0) {
                ckpt_fail(err, CKPT_FAILED,
                          "'%s' at offset %" PRIu64 " is not aligned or not inside the persistent "
                          "region",
                          tensor->name, lo);
                return -1;
            }
            if (extents) extents[count] = (extent){lo, lo + bytes, t};
            count++;
        }
    }
    return count;
}

static ckpt_status check_extents(const ckpt_graph *g, const ckpt_plan *p, ckpt_error *err) {
    const int64_t count = list_extents(g, p, NULL, err);
    if (count < 0) return CKPT_FAILED;
    ckpt_pool scratch = {0};
    extent *extents = ckpt_pool_array(&scratch, (size_t)count, extent);
    if (!extents) return ckpt_fail(err, CKPT_NOMEM, "out of host memory while checking a plan");
    list_extents(g, p, extents, err);
    qsort(extents, (size_t)count, sizeof *extents, compare_extents);
    ckpt_status status = CKPT_OK;
    uint64_t end = 0;
    int owner = -1;
    for (int64_t i = 0; i < count && status == CKPT_OK; i++) {
        if (extents[i].lo == extents[i].hi) continue;
        if (extents[i].lo < end)
            status = ckpt_fail(err, CKPT_FAILED, "'%s' and '%s' overlap in the persistent region",
                               g->tensor[owner].name, g->tensor[extents[i].tensor].name);
        end = extents[i].hi;
        owner = extents[i].tensor;
    }
    ckpt_pool_free(&scratch);
    return status;
}

/* Sizes of the persistent region by role; its extents are disjoint and as large together as the region, so it
 * has no holes. */
static ckpt_status check_persistent(const ckpt_graph *g, const ckpt_plan *p, ckpt_error *err) {
    uint64_t role[CKPT_ROLE_RESULT + 1] = {0};
    for (int t = 0; t < g->tensor_count; t++)
        role[g->tensor[t].role] += padded(ckpt_tensor_bytes(&g->tensor[t]), p->alignment_bytes);
    const uint64_t batch = role[CKPT_ROLE_INPUT] + role[CKPT_ROLE_TARGET];
    if (p->input_buffers < 1 || p->input_buffers > 1024)
        return ckpt_fail(err, CKPT_FAILED, "%d input buffers", p->input_buffers);
    CKPT_TRY(differs("the input stride", p->input_stride_bytes, batch, err));
    CKPT_TRY(differs("memory.parameters", p->memory.parameters, role[CKPT_ROLE_PARAM], err));
    CKPT_TRY(differs("memory.constants", p->memory.constants,
                     role[CKPT_ROLE_CONST] + role[CKPT_ROLE_STATISTIC], err));
    CKPT_TRY(differs("memory.optimizer", p->memory.optimizer, role[CKPT_ROLE_STATE], err));
    CKPT_TRY(differs("memory.gradients", p->memory.gradients, role[CKPT_ROLE_GRADSUM], err));
    CKPT_TRY(differs("memory.inputs", p->memory.inputs,
                     batch * (uint64_t)p->input_buffers + role[CKPT_ROLE_RESULT], err));
    CKPT_TRY(differs("the persistent region", p->persistent_bytes,
                     p->memory.parameters + p->memory.constants + p->memory.optimizer + p->memory.gradients +
                         p->memory.inputs,
                     err));
    return check_extents(g, p, err);
}

/* The most that is live when the graph's nodes run once each in order, outputs written over dying inputs
 * where ops.def permits. `last` is by tensor. */
static uint64_t straight_live_peak(const ckpt_graph *g, uint64_t alignment, int *last) {
    for (int n = 0; n < g->node_count; n++) {
        for (int i = 0; i < g->node[n].out_count; i++)
            if (g->node[n].out[i] >= 0) last[g->node[n].out[i]] = n;
        for (int i = 0; i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) last[g->node[n].in[i]] = n;
    }
    uint64_t live = 0, peak = 0;
    for (int n = 0; n < g->node_count; n++) {
        const ckpt_node *node = &g->node[n];
        const uint64_t mask = ckpt_op_info(node->op)->inplace;
        uint64_t saved = 0, freed = 0;
        for (int i = 0; i < node->out_count; i++) {
            if (node->out[i] < 0 || g->tensor[node->out[i]].role != CKPT_ROLE_STEP) continue;
            const uint64_t bytes = padded(ckpt_tensor_bytes(&g->tensor[node->out[i]]), alignment);
            live += bytes;
            if (last[node->out[i]] == n) freed += bytes;
        }
        for (int i = 0; i < node->in_count; i++) {
            const int t = node->in[i];
            if (t < 0 || g->tensor[t].role != CKPT_ROLE_STEP || last[t] != n) continue;
            uint64_t places = 0;
            for (int j = 0; j < node->in_count && j < CKPT_MAX_IN; j++) places |= (uint64_t)(node->in[j] == t) << j;
            if (places & (((uint64_t)1 << i) - 1)) continue; /* counted at its first place */
            const uint64_t bytes = padded(ckpt_tensor_bytes(&g->tensor[t]), alignment);
            freed += bytes;
            if (saved == 0 && (places & ~mask) == 0 && node->out_count > 0 && node->out[0] >= 0 &&
                g->tensor[node->out[0]].role == CKPT_ROLE_STEP &&
                ckpt_tensor_bytes(&g->tensor[t]) == ckpt_tensor_bytes(&g->tensor[node->out[0]]))
                saved = bytes;
        }
        live -= saved;
        if (live > peak) peak = live;
        live -= freed - saved;
    }
    return peak;
}

static ckpt_status check_eval(const ckpt_graph *g, const ckpt_plan *p, const ckpt_graph *eval,
                              ckpt_error *err) {
    if (!eval) {
        CKPT_TRY(differs("memory.eval_arena", p->memory.eval_arena, 0, err));
        return differs("memory.eval_live_peak", p->memory.eval_live_peak, 0, err);
    }
    /* What is made in an evaluation step is its own affair: it lies where the evaluation's plan says. */
    for (int t = 0; t < eval->tensor_count; t++)
        if (eval->tensor[t].role != CKPT_ROLE_STEP &&
            (t >= g->tensor_count || eval->tensor[t].role != g->tensor[t].role ||
             ckpt_tensor_bytes(&eval->tensor[t]) > ckpt_tensor_bytes(&g->tensor[t])))
            return ckpt_fail(err, CKPT_FAILED,
                             "'%s' of the evaluation graph does not fit its place in the training graph",
                             eval->tensor[t].name);
    ckpt_pool scratch = {0};
    int *last = ckpt_pool_array(&scratch, eval->tensor_count, int);
    const uint64_t peak = last ? straight_live_peak(eval, p->alignment_bytes, last) : 0;
    ckpt_pool_free(&scratch);
    if (!last) return ckpt_fail(err, CKPT_NOMEM, "out of host memory while checking a plan");
    CKPT_TRY(differs("memory.eval_live_peak", p->memory.eval_live_peak, peak, err));
    if (p->memory.eval_arena < peak || p->memory.eval_arena % p->alignment_bytes != 0)
        return ckpt_fail(err, CKPT_FAILED, "memory.eval_arena is not aligned or below its live peak");
    return CKPT_OK;
}

static ckpt_status check_memory(const ckpt_graph *g, const ckpt_plan *p, const ckpt_check_seen *seen,
                                ckpt_error *err) {
    const ckpt_plan_memory *m = &p->memory;
    const uint64_t highest = padded(seen->highest, p->alignment_bytes);
    CKPT_TRY(differs("memory.arena", m->arena, highest > m->eval_arena ? highest : m->eval_arena, err));
    CKPT_TRY(differs("memory.live_peak", m->live_peak,
                     seen->live_peak > m->eval_live_peak ? seen->live_peak : m->eval_live_peak, err));
    bool products = false;
    for (int n = 0; n < g->node_count; n++)
        products |= (ckpt_op_info(g->node[n].op)->flags & CKPT_MATMUL) != 0;
    if (m->workspace % p->alignment_bytes != 0 || m->workspace > UINT64_MAX / 4 ||
        (m->workspace && !products))
        return ckpt_fail(err, CKPT_FAILED,
                         "memory.workspace of %" PRIu64 " bytes is not aligned or not needed", m->workspace);
    return differs("memory.total", m->total, p->persistent_bytes + m->workspace + m->arena, err);
}

static ckpt_status check_layers(const ckpt_graph *g, const ckpt_plan *p, ckpt_error *err) {
    if (p->layer_count != g->layer_count)
        return ckpt_fail(err, CKPT_FAILED, "the plan has %d layers, the graph %d", p->layer_count,
                         g->layer_count);
    ckpt_pool scratch = {0};
    bool *recomputed = ckpt_pool_array(&scratch, g->layer_count, bool);
    ckpt_status status =
        recomputed ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory while checking a plan");
    for (int s = 0; recomputed && s < p->step_count; s++) {
        const int layer = g->node[p->step[s].node].layer;
        if (layer >= 0 && p->step[s].recompute) recomputed[layer] = true;
    }
    for (int i = 0; status == CKPT_OK && i < p->layer_count; i++)
        if (p->layer_recomputed[i] != recomputed[i])
            status = ckpt_fail(err, CKPT_FAILED, "layer %d (%s) is %s", i, g->layer[i].name,
                               recomputed[i] ? "recomputed but not stated to be"
                                             : "stated to be recomputed but is not");
    ckpt_pool_free(&scratch);
    return status;
}

/* FLOPs are the graph's; of other costs nothing is known here but that their sums fit. */
static ckpt_status check_costs(const ckpt_graph *g, const ckpt_plan *p, ckpt_error *err) {
    const ckpt_costs *c = &p->costs;
    if (c->count != g->node_count)
        return ckpt_fail(err, CKPT_FAILED, "the plan has costs of %d nodes, the graph has %d", c->count, g->node_count);
    for (int n = 0; n < c->count; n++)
        if (c->unit == CKPT_COST_FLOPS ? c->node[n] != ckpt_node_cost(g, n).flops : c->node[n] > CKPT_COST_MOST_NS)
            return ckpt_fail(err, CKPT_FAILED, "'%s' cannot cost %" PRIu64, g->node[n].name ? g->node[n].name : "", c->node[n]);
    return CKPT_OK;
}

static ckpt_status check_compute(const ckpt_graph *g, const ckpt_plan *p, ckpt_error *err) {
    uint64_t forward = 0, backward = 0, again = 0, step_cost = 0, again_cost = 0;
    int steps = 0;
    CKPT_TRY(check_costs(g, p, err));
    for (int n = 0; n < g->node_count; n++) {
        *(g->node[n].phase == CKPT_FORWARD ? &forward : &backward) += ckpt_node_cost(g, n).flops;
        step_cost += p->costs.node[n];
    }
    for (int s = 0; s < p->step_count; s++)
        if (p->step[s].recompute) {
            again += ckpt_node_cost(g, p->step[s].node).flops;
            again_cost += p->costs.node[p->step[s].node];
            steps++;
        }
    CKPT_TRY(differs("compute.forward_flops", p->compute.forward_flops, forward, err));
    CKPT_TRY(differs("compute.backward_flops", p->compute.backward_flops, backward, err));
    CKPT_TRY(differs("compute.recompute_flops", p->compute.recompute_flops, again, err));
    CKPT_TRY(differs("compute.step_cost", p->compute.step_cost, step_cost, err));
    CKPT_TRY(differs("compute.recompute_cost", p->compute.recompute_cost, again_cost, err));
    CKPT_TRY(
        differs("compute.recomputed_nodes", (uint64_t)p->compute.recomputed_nodes, (uint64_t)steps, err));
    if (p->bound.lower_bound_flops > again || p->bound.lower_bound_cost > again_cost)
        return ckpt_fail(err, CKPT_FAILED,
                         "the plan recomputes %" PRIu64 " FLOP at a cost of %" PRIu64
                         ", less than its lower bounds of %" PRIu64 " and %" PRIu64,
                         again, again_cost, p->bound.lower_bound_flops, p->bound.lower_bound_cost);
    return check_layers(g, p, err);
}

ckpt_status ckpt_check_totals(const ckpt_graph *graph, const ckpt_plan *plan, const ckpt_graph *eval,
                              const ckpt_check_seen *seen, ckpt_error *err) {
    CKPT_TRY(check_persistent(graph, plan, err));
    CKPT_TRY(check_eval(graph, plan, eval, err));
    CKPT_TRY(check_memory(graph, plan, seen, err));
    return check_compute(graph, plan, err);
}

/* Whether the tensor is one in every batch, not made for its size. */
static bool is_shared(const ckpt_tensor *tensor) {
    return !is_input(tensor) && tensor->role != CKPT_ROLE_CONST;
}

static ckpt_status check_place(const ckpt_graph *g, int t, const ckpt_graph *room_graph, int origin, ckpt_error *err) {
    const ckpt_tensor *here = &g->tensor[t];
    if (origin < 0 || origin >= room_graph->tensor_count)
        return ckpt_fail(err, CKPT_FAILED, "'%s' outlives the step and has no place", here->name);
    const ckpt_tensor *there = &room_graph->tensor[origin];
    const uint64_t bytes = ckpt_tensor_bytes(here), most = ckpt_tensor_bytes(there);
    if (here->role != there->role || strcmp(here->name, there->name) != 0 || (is_shared(here) ? bytes != most : bytes > most))
        return ckpt_fail(err, CKPT_INFEASIBLE, "'%s' of %" PRIu64 " bytes does not fit in the place of '%s' of %" PRIu64,
                         here->name, bytes, there->name, most);
    return CKPT_OK;
}

ckpt_status ckpt_plan_check_within(const ckpt_graph *graph, const ckpt_plan *plan, const ckpt_graph *room_graph,
                                   const ckpt_plan *room, const int *origin, ckpt_error *err) {
    ckpt_check_seen seen;
    bool products = false;
    CKPT_TRY(ckpt_check_replay(graph, plan, &seen, err)); /* every instance lies inside memory.arena */
    CKPT_TRY(differs("the persistent region", plan->persistent_bytes, room->persistent_bytes, err));
    CKPT_TRY(differs("the input stride", plan->input_stride_bytes, room->input_stride_bytes, err));
    CKPT_TRY(differs("the input buffers", (uint64_t)plan->input_buffers, (uint64_t)room->input_buffers, err));
    CKPT_TRY(differs("memory.workspace", plan->memory.workspace, room->memory.workspace, err));
    for (int n = 0; n < graph->node_count; n++) products |= (ckpt_op_info(graph->node[n].op)->flags & CKPT_MATMUL) != 0;
    for (int n = 0; products && n < room_graph->node_count; n++)
        products = (ckpt_op_info(room_graph->node[n].op)->flags & CKPT_MATMUL) == 0;
    if (products) return ckpt_fail(err, CKPT_INFEASIBLE, "it has matrix products, for which there is no workspace");
    for (int t = 0; t < graph->tensor_count; t++) {
        if (graph->tensor[t].role == CKPT_ROLE_STEP) continue;
        CKPT_TRY(check_place(graph, t, room_graph, origin[t], err));
        CKPT_TRY(differs("a place in the persistent region", plan->persistent_offset[t], room->persistent_offset[origin[t]], err));
    }
    return check_extents(graph, plan, err);
}
