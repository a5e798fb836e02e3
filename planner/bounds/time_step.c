#include "planner/bounds/time_step.h"

#include <string.h>

ckpt_status ckpt_time_step_open(const ckpt_problem *p, ckpt_pool *pool, ckpt_time_step *step, ckpt_error *err) {
    *step = (ckpt_time_step){.problem = p,
                             .done = ckpt_pool_array(pool, p->graph->node_count, bool),
                             .open = ckpt_pool_array(pool, p->graph->node_count, bool),
                             .needed = ckpt_pool_array(pool, p->graph->tensor_count, bool),
                             .live = ckpt_pool_array(pool, p->graph->tensor_count, bool),
                             .hold = ckpt_pool_array(pool, p->graph->tensor_count, uint64_t)};
    if (!step->done || !step->open || !step->needed || !step->live || !step->hold)
        return ckpt_fail(err, CKPT_NOMEM, "out of host memory for a lower bound");
    return CKPT_OK;
}

/* Ancestors into `done`, descendants into `open`. The graph's order is topological: one sweep each. */
static void mark(ckpt_time_step *s, const int *before, int before_count, const int *behind, int behind_count) {
    const ckpt_problem *p = s->problem;
    const int count = p->graph->node_count;
    memset(s->done, 0, sizeof *s->done * (size_t)count);
    memset(s->open, 0, sizeof *s->open * (size_t)count);
    s->done[s->node] = s->open[s->node] = true;
    for (int i = 0; i < before_count; i++) s->done[before[i]] = true;
    for (int i = 0; i < behind_count; i++) s->open[behind[i]] = true;
    for (int n = count - 1; n >= 0; n--)
        for (int i = p->after_first[n]; i < p->after_first[n + 1] && !s->done[n]; i++) s->done[n] = s->done[p->after[i]];
    for (int n = 0; n < count; n++)
        for (int i = p->before_first[n]; i < p->before_first[n + 1] && !s->open[n]; i++) s->open[n] = s->open[p->before[i]];
    s->done[s->node] = s->open[s->node] = false;
}

static void find_needed(ckpt_time_step *s) {
    const ckpt_graph *g = s->problem->graph;
    memset(s->needed, 0, sizeof *s->needed * (size_t)g->tensor_count);
    for (int n = 0; n < g->node_count; n++)
        for (int i = 0; i < g->node[n].in_count && s->open[n]; i++)
            if (ckpt_tensor_is_step(g, g->node[n].in[i])) s->needed[g->node[n].in[i]] = true;
    for (int i = 0; i < g->output_count; i++)
        if (ckpt_tensor_is_step(g, g->output[i])) s->needed[g->output[i]] = true;
}

static void claim(ckpt_time_step *s, int t) {
    if (!s->live[t]) s->bytes += s->problem->bytes[t];
    s->live[t] = true;
}

/* out[0] takes bytes of its own unless it is written over an input that dies. The tensor of a fixed node that is needed does
 * not. Any other may; but if out[0] has only that one to take, which is returned, keeping it takes another buffer. */
static int write(ckpt_time_step *s) {
    const ckpt_problem *p = s->problem;
    const ckpt_node *node = &p->graph->node[s->node];
    int over = -1;
    bool choice = false;
    for (int i = 0; i < node->in_count; i++) {
        const int t = node->in[i];
        if (!(p->overwrite[s->node] >> i & 1) || t == over) continue;
        if (s->needed[t] && !p->recomputable[p->graph->tensor[t].producer]) continue;
        choice |= over >= 0;
        over = t;
    }
    for (int i = over >= 0 ? 1 : 0; i < node->out_count; i++)
        if (ckpt_tensor_is_step(p->graph, node->out[i])) claim(s, node->out[i]);
    return choice ? -1 : over;
}

/* Tensors that are there cost nothing more to keep, those from which nothing needed can be made are not worth it. */
static void find_hold(ckpt_time_step *s, int over) {
    const ckpt_graph *g = s->problem->graph;
    for (int t = 0; t < g->tensor_count; t++) s->hold[t] = s->needed[t] ? 1 : 0;
    for (int n = g->forward_count - 1; n >= 0; n--) {
        bool useful = false;
        for (int i = 0; i < g->node[n].out_count; i++) useful |= g->node[n].out[i] >= 0 && s->hold[g->node[n].out[i]];
        for (int i = 0; i < g->node[n].in_count && useful; i++)
            if (ckpt_tensor_is_step(g, g->node[n].in[i])) s->hold[g->node[n].in[i]] = 1;
    }
    for (int t = 0; t < g->tensor_count; t++) {
        const int producer = g->tensor[t].producer;
        if (s->live[t] || producer == s->node || producer >= g->forward_count) s->hold[t] = 0;
        else s->hold[t] *= s->problem->bytes[t];
    }
    if (over >= 0) s->hold[over] = s->problem->bytes[over];
}

void ckpt_time_step_set(ckpt_time_step *s, int node, const int *before, int before_count, const int *behind, int behind_count) {
    const ckpt_problem *p = s->problem;
    const ckpt_graph *g = p->graph;
    s->node = node;
    s->bytes = 0;
    mark(s, before, before_count, behind, behind_count);
    find_needed(s);
    memset(s->live, 0, sizeof *s->live * (size_t)g->tensor_count);
    for (int t = 0; t < g->tensor_count; t++) {
        const int producer = g->tensor[t].producer;
        if (s->needed[t] && !p->recomputable[producer] && s->done[producer]) claim(s, t);
    }
    for (int i = 0; i < g->node[node].in_count; i++)
        if (ckpt_tensor_is_step(g, g->node[node].in[i])) claim(s, g->node[node].in[i]);
    find_hold(s, write(s));
}
