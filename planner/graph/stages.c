#include "planner/graph/stages.h"

#include <stdlib.h>
#include <string.h>

#include "graph/op.h"
#include "planner/core/schedule.h"

enum { MOST_STAGES = 512, MOST_REPEATED = 1024, BLOCK = 8, MOST_STEPS = 1 << 20 };

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while cutting the graph into stages");
}

/* Where the forward pass may be cut: out[n] is the one tensor that passes from nodes [0, n] to those behind,
 * or -1. Of several places where the same tensor passes the first is taken. A tensor that no gradient reads is no
 * place to begin again: such as a copy in another type, beside the tensor that is read. */
static bool find_cuts(const ckpt_graph *g, int *out, ckpt_pool *scratch) {
    bool *taped = ckpt_pool_array(scratch, g->tensor_count, bool);
    int *last = ckpt_pool_array(scratch, g->tensor_count, int);
    int *passing = ckpt_pool_array(scratch, g->tensor_count, int);
    if (!last || !passing || !taped) return false;
    for (int n = g->forward_count; n < g->node_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) taped[g->node[n].in[i]] = true;
    for (int t = 0; t < g->tensor_count; t++) last[t] = -1;
    for (int n = 0; n < g->forward_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++)
            if (ckpt_tensor_is_step(g, g->node[n].in[i])) last[g->node[n].in[i]] = n;
    int count = 0, before = -1;
    for (int n = 0; n < g->forward_count; n++) {
        int kept = 0;
        for (int i = 0; i < count; i++)
            if (last[passing[i]] > n) passing[kept++] = passing[i];
        for (int i = 0; i < g->node[n].out_count; i++) {
            int t = g->node[n].out[i];
            if (ckpt_tensor_is_step(g, t) && last[t] > n) passing[kept++] = t;
        }
        count = kept;
        out[n] = count == 1 && passing[0] != before && taped[passing[0]] ? passing[0] : -1;
        if (out[n] >= 0) before = out[n];
    }
    return true;
}

/* The chain's tables take memory that grows with the square of its length and time with its cube, less where blocks of stages
 * repeat, and the schedule of least memory runs half of the chain again for each stage: of very many cuts every second, third
 * and so on is used, which makes longer stages. */
static void thin_cuts(int *out, int count, int most_stages) {
    int cuts = 0, seen = 0;
    for (int n = 0; n < count; n++) cuts += out[n] >= 0;
    int most = cuts > 0 ? 2 * MOST_STEPS / cuts : 1;
    most = most > most_stages ? most_stages : most > 1 ? most : 1;
    const int apart = (cuts + most - 1) / most;
    for (int n = 0; n < count && apart > 1; n++)
        if (out[n] >= 0 && ++seen % apart != 0) out[n] = -1;
}

/* Cutting: stage_of[n] by node; cut[k] is the last forward node of stage k. */
typedef struct cutting {
    const ckpt_graph *graph;
    int *out;      /* by forward node: find_cuts; a cut is taken away by setting -1 */
    int *stage_of; /* by node, from 1 */
    int *made_in;  /* by tensor: stage of its forward producer, 0 if it has none */
    int *passes;   /* by stage: x_k */
    bool *reads_input;
    int count;
} cutting;

/* Gradient nodes carry the name of their forward node (graph.h) and come in reverse order; nodes of another
 * name (updates, sums that are cleared) stay with what is before them. */
static void assign_stages(cutting *c) {
    const ckpt_graph *g = c->graph;
    c->count = 1;
    for (int t = 0; t < g->tensor_count; t++) c->made_in[t] = 0;
    for (int n = 0; n < g->forward_count; n++) {
        c->stage_of[n] = c->count;
        for (int i = 0; i < g->node[n].out_count; i++)
            if (ckpt_tensor_is_step(g, g->node[n].out[i])) c->made_in[g->node[n].out[i]] = c->count;
        c->passes[c->count] = n + 1 < g->forward_count ? c->out[n] : -1;
        if (c->passes[c->count] >= 0) c->count++;
    }
    int at = g->forward_count - 1;
    for (int n = g->forward_count; n < g->node_count; n++) {
        const ckpt_node *node = &g->node[n];
        int f = node->phase == CKPT_BACKWARD && node->in_count > 0 && node->name ? at : -1;
        while (f >= 0 && !(g->node[f].name && strcmp(g->node[f].name, node->name) == 0)) f--;
        if (f >= 0) at = f;
        c->stage_of[n] = c->stage_of[at];
    }
}

static void join(cutting *c, int a, int b) {
    if (a > b) {
        int first = b;
        b = a;
        a = first;
    }
    for (int n = 0; n < c->graph->forward_count; n++)
        if (c->stage_of[n] >= a && c->stage_of[n] < b) c->out[n] = -1;
}

/* Joins stages where the chain's rules do not hold; true when there was anything to join. */
static bool join_where_needed(cutting *c, int *written_in) {
    const ckpt_graph *g = c->graph;
    bool joined = false;
    for (int k = 0; k <= c->count; k++) c->reads_input[k] = false;
    for (int t = 0; t < g->tensor_count; t++) written_in[t] = 0;
    for (int n = g->forward_count; n < g->node_count; n++) {
        const ckpt_node *node = &g->node[n];
        int q = c->stage_of[n];
        for (int i = 0; i < node->in_count; i++) {
            int p = node->in[i] >= 0 ? c->made_in[node->in[i]] : 0;
            if (p == 0) continue;
            if (p == q - 1 && node->in[i] == c->passes[p]) {
                c->reads_input[q] = true;
            } else if (p != q) {
                join(c, p, q);
                joined = true;
            }
        }
        for (int i = 0; i < node->out_count; i++)
            if (node->out[i] >= 0 && !ckpt_tensor_is_step(g, node->out[i]) && q > written_in[node->out[i]])
                written_in[node->out[i]] = q;
    }
    /* What a stage reads must not have been overwritten when it runs again. */
    for (int n = 0; n < g->forward_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0 && written_in[g->node[n].in[i]] > c->stage_of[n] &&
                ckpt_node_is_recomputable(g, n)) {
                join(c, c->stage_of[n], written_in[g->node[n].in[i]]);
                joined = true;
            }
    if (joined) return true;
    for (int k = c->count; k >= 2; k--)
        if (!c->reads_input[k]) {
            join(c, k - 1, k);
            joined = true;
            k--; /* k - 1 has changed: it is looked at in the next round */
        }
    return joined;
}

static bool cut(cutting *c, int most_stages, ckpt_pool *scratch) {
    const ckpt_graph *g = c->graph;
    c->out = ckpt_pool_array(scratch, g->forward_count + 1, int);
    c->stage_of = ckpt_pool_array(scratch, g->node_count + 1, int);
    c->made_in = ckpt_pool_array(scratch, g->tensor_count, int);
    c->passes = ckpt_pool_array(scratch, g->forward_count + 2, int);
    c->reads_input = ckpt_pool_array(scratch, g->forward_count + 2, bool);
    int *written_in = ckpt_pool_array(scratch, g->tensor_count, int);
    if (!c->out || !c->stage_of || !c->made_in || !c->passes || !c->reads_input || !written_in ||
        !find_cuts(g, c->out, scratch))
        return false;
    thin_cuts(c->out, g->forward_count, most_stages);
    do assign_stages(c);
    while (join_where_needed(c, written_in));
    return true;
}

/* Tensors of the backward pass that live across the border between the backwards of k + 1 and k. */
static ckpt_status find_carries(ckpt_stages *stages, const cutting *c, ckpt_pool *scratch, ckpt_error *err) {
    const ckpt_graph *g = c->graph;
    int *lowest = ckpt_pool_array(scratch, g->tensor_count, int);
    int *room = ckpt_pool_array(scratch, c->count + 1, int);
    if (!lowest || !room) return out_of_memory(err);
    for (int n = g->node_count - 1; n >= g->forward_count; n--)
        for (int i = 0; i < g->node[n].in_count; i++) {
            int t = g->node[n].in[i];
            if (ckpt_tensor_is_step(g, t) && !c->made_in[t] && !lowest[t]) lowest[t] = c->stage_of[n];
        }
    for (int pass = 0; pass < 2; pass++) {
        for (int t = 0; t < g->tensor_count; t++)
            if (lowest[t])
                for (int k = lowest[t]; k < c->stage_of[g->tensor[t].producer]; k++) {
                    ckpt_stage_nodes *nodes = &stages->nodes[k];
                    if (pass)
                        nodes->carry[nodes->carry_count++] = t;
                    else
                        room[k]++;
                }
        for (int k = 1; k <= c->count && !pass; k++) {
            stages->nodes[k].carry = ckpt_pool_array(&stages->pool, room[k], int);
            if (!stages->nodes[k].carry) return out_of_memory(err);
        }
    }
    return CKPT_OK;
}

static bool equal_stages(const ckpt_chain_stage *a, const ckpt_chain_stage *b) {
    return a->out_bytes == b->out_bytes && a->gradient_bytes == b->gradient_bytes &&
           a->forward_cost == b->forward_cost && a->needs_output == b->needs_output &&
           a->option_count == b->option_count && a->early == b->early &&
           memcmp(a->option, b->option, sizeof *a->option * (size_t)ckpt_chain_options(a)) == 0;
}

static ckpt_status fill_stages(ckpt_stages *stages, const cutting *c, ckpt_pool *scratch, ckpt_error *err) {
    const ckpt_graph *g = c->graph;
    ckpt_chain_stage *stage = ckpt_pool_array(&stages->pool, c->count + 1, ckpt_chain_stage);
    stages->nodes = ckpt_pool_array(&stages->pool, c->count + 1, ckpt_stage_nodes);
    if (!stage || !stages->nodes) return out_of_memory(err);
    stages->chain = (ckpt_chain){c->count, stage};
    for (int k = 0; k <= c->count; k++) stages->nodes[k].forward = stages->nodes[k].backward = -1;
    stages->nodes[0].out = -1;
    for (int n = 0; n < g->node_count; n++) {
        ckpt_stage_nodes *nodes = &stages->nodes[c->stage_of[n]];
        int *first = n < g->forward_count ? &nodes->forward : &nodes->backward;
        int *end = n < g->forward_count ? &nodes->forward_end : &nodes->backward_end;
        if (*first < 0) *first = n;
        *end = n + 1;
    }
    CKPT_TRY(find_carries(stages, c, scratch, err));
    int kinds = 0;
    int *first_of_kind = ckpt_pool_array(scratch, c->count + 1, int);
    if (!first_of_kind) return out_of_memory(err);
    for (int k = 1; k <= c->count; k++) {
        stages->nodes[k].out = c->passes[k];
        if (stages->nodes[k].backward < 0) stages->nodes[k].backward = stages->nodes[k].backward_end = 0;
        CKPT_TRY(ckpt_stage_measure(stages, k, &stage[k], err));
        stages->forward_cost += stage[k].forward_cost;
        int kind = 0;
        while (kind < kinds && !equal_stages(&stage[first_of_kind[kind]], &stage[k])) kind++;
        if (kind == kinds) first_of_kind[kinds++] = k;
        stage[k].kind = kind;
    }
    return CKPT_OK;
}

static ckpt_status find_stages(const ckpt_problem *problem, const ckpt_solver_options *options, int most_stages,
                               ckpt_stages *stages, ckpt_error *err) {
    *stages = (ckpt_stages){.problem = problem, .options = options};
    ckpt_pool scratch = {0};
    cutting c = {.graph = problem->graph};
    ckpt_status status = cut(&c, most_stages, &scratch) ? fill_stages(stages, &c, &scratch, err) : out_of_memory(err);
    ckpt_pool_free(&scratch);
    if (status != CKPT_OK) ckpt_stages_free(stages);
    return status;
}

ckpt_status ckpt_stages_find(const ckpt_problem *problem, const ckpt_solver_options *options, ckpt_stages *stages,
                             ckpt_error *err) {
    uint64_t runs;
    CKPT_TRY(find_stages(problem, options, MOST_REPEATED, stages, err));
    const int count = stages->chain.stage_count;
    if (count <= MOST_STAGES) return CKPT_OK;
    ckpt_status status = ckpt_chain_count_runs(&stages->chain, &runs, err);
    if (status == CKPT_OK && runs <= BLOCK * (uint64_t)count) return CKPT_OK;
    ckpt_stages_free(stages);
    return status == CKPT_OK ? find_stages(problem, options, MOST_STAGES, stages, err) : status;
}

ckpt_status ckpt_stages_emit(const ckpt_stages *stages, const ckpt_chain_program *program, ckpt_pool *pool,
                             ckpt_schedule *schedule, ckpt_error *err) {
    const ckpt_graph *g = stages->problem->graph;
    ckpt_pool scratch = {0};
    bool *ran = ckpt_pool_array(&scratch, g->node_count, bool);
    unsigned char *mark = ckpt_pool_array(&scratch, g->tensor_count, unsigned char);
    int *list = ckpt_pool_array(&scratch, 2 * g->node_count, int);
    ckpt_status status = ran && mark && list ? CKPT_OK : out_of_memory(err);
    for (int i = 0; i < program->count && status == CKPT_OK; i++) {
        const ckpt_chain_step *step = &program->step[i];
        const ckpt_stage_nodes *nodes = &stages->nodes[step->stage];
        int count = 0;
        if (step->act == CKPT_CHAIN_FORWARD)
            for (int n = nodes->forward; n < nodes->forward_end; n++) list[count++] = n;
        else if (step->act == CKPT_CHAIN_EARLY)
            for (int n = nodes->backward; n < nodes->early_end; n++) list[count++] = n;
        else if (ckpt_chain_is_early(&stages->chain.stage[step->stage], step->option))
            for (int n = nodes->early_end; n < nodes->backward_end; n++) list[count++] = n;
        else
            count = ckpt_stage_list_backward(stages, step->stage, nodes->kept[step->option], step->has_output,
                                             mark, list);
        for (int j = 0; j < count && status == CKPT_OK; j++) {
            if (ran[list[j]] && !stages->problem->recomputable[list[j]]) continue;
            ran[list[j]] = true;
            status = ckpt_schedule_append(pool, schedule, list[j], err);
        }
    }
    ckpt_pool_free(&scratch);
    return status;
}

void ckpt_stages_free(ckpt_stages *stages) {
    ckpt_pool_free(&stages->pool);
    *stages = (ckpt_stages){0};
}
