#include "planner/core/replay.h"

#include <string.h>

/* What replays read of the graph, side by side. */
static bool copy_graph(const ckpt_graph *g, ckpt_replay *r, int *most_in, int *most_out) {
    size_t ins = 0, outs = 0;
    for (int n = 0; n < g->node_count; n++) ins += (size_t)g->node[n].in_count, outs += (size_t)g->node[n].out_count;
    r->in_first = ckpt_pool_array(&r->pool, (size_t)g->node_count + 1, int);
    r->out_first = ckpt_pool_array(&r->pool, (size_t)g->node_count + 1, int);
    r->in = ckpt_pool_array(&r->pool, ins, int);
    r->out = ckpt_pool_array(&r->pool, outs, int);
    if (!r->in_first || !r->out_first || !r->in || !r->out) return false;
    *most_in = *most_out = 1;
    for (int n = 0, in = 0, out = 0; n < g->node_count; n++) {
        const ckpt_node *node = &g->node[n];
        for (int i = 0; i < node->in_count; i++) r->in[in++] = ckpt_tensor_is_step(g, node->in[i]) ? node->in[i] : -1;
        for (int i = 0; i < node->out_count; i++)
            if (ckpt_tensor_is_step(g, node->out[i])) r->out[out++] = node->out[i];
        r->in_first[n + 1] = in;
        r->out_first[n + 1] = out;
        if (node->in_count > *most_in) *most_in = node->in_count;
        if (node->out_count > *most_out) *most_out = node->out_count;
    }
    return true;
}

ckpt_status ckpt_replay_open(const ckpt_problem *p, int capacity, ckpt_replay *r, ckpt_error *err) {
    int most_in = 1, most_out = 1;
    *r = (ckpt_replay){.problem = p, .capacity = capacity};
    const bool copied = copy_graph(p->graph, r, &most_in, &most_out);
    r->instance = ckpt_pool_array(&r->pool, (size_t)capacity * (size_t)most_out, ckpt_replay_instance);
    r->newest = ckpt_pool_array(&r->pool, p->graph->tensor_count, int);
    r->ran = ckpt_pool_array(&r->pool, p->graph->node_count, int);
    r->read = ckpt_pool_array(&r->pool, (size_t)capacity * (size_t)most_in, int);
    r->read_first = ckpt_pool_array(&r->pool, (size_t)capacity + 1, int);
    r->live = ckpt_pool_array(&r->pool, (size_t)capacity + 2, uint64_t);
    if (copied && r->instance && r->newest && r->ran && r->read && r->read_first && r->live) return CKPT_OK;
    ckpt_replay_close(r);
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while replaying schedules");
}

static bool find_instances(ckpt_replay *r, const int *list, int count) {
    const ckpt_graph *g = r->problem->graph;
    int reads = 0, instances = 0;
    r->count = count;
    r->recompute_cost = 0;
    memset(r->newest, 0xff, sizeof *r->newest * (size_t)g->tensor_count);
    memset(r->ran, 0xff, sizeof *r->ran * (size_t)g->node_count);
    for (int s = 0; s < count; s++) {
        const int n = list[s];
        if (r->ran[n] >= 0) r->recompute_cost += r->problem->costs->node[n];
        r->ran[n] = s;
        r->read_first[s] = reads;
        for (int i = r->in_first[n]; i < r->in_first[n + 1]; i++) {
            const int k = r->in[i] >= 0 ? r->newest[r->in[i]] : -1;
            if (k < 0 && r->in[i] >= 0) return false;
            r->read[reads++] = k;
            if (k >= 0) r->instance[k].end = s + 1;
        }
        for (int i = r->out_first[n]; i < r->out_first[n + 1]; i++) {
            const int t = r->out[i];
            r->instance[instances] = (ckpt_replay_instance){t, s, s + 1, r->newest[t]};
            r->newest[t] = instances++;
        }
    }
    r->instance_count = instances;
    for (int i = 0; i < g->output_count; i++) /* read when all is done */
        if (ckpt_tensor_is_step(g, g->output[i]) && r->newest[g->output[i]] >= 0)
            r->instance[r->newest[g->output[i]]].end = count;
    return true;
}

/* Whether out[0] of step s takes over the buffer of an input that dies there. */
static bool is_overwriting(const ckpt_replay *r, int n, int s) {
    uint64_t candidates = r->problem->overwrite[n];
    for (const int *k = &r->read[r->read_first[s]]; candidates; k++, candidates >>= 1)
        if (candidates & 1 && r->instance[*k].end == s + 1) return true;
    return false;
}

bool ckpt_replay_run(ckpt_replay *r, const int *list, int count) {
    if (!find_instances(r, list, count)) return false;
    memset(r->live, 0, sizeof *r->live * ((size_t)count + 2));
    for (int k = 0; k < r->instance_count; k++) {
        const ckpt_replay_instance *x = &r->instance[k];
        const int n = list[x->first];
        /* candidates are of a node whose first output is a STEP tensor, so that its first instance is that one's */
        const bool over = r->problem->overwrite[n] && r->out[r->out_first[n]] == x->tensor && is_overwriting(r, n, x->first);
        r->live[x->first + over] += r->problem->bytes[x->tensor];
        r->live[x->end] -= r->problem->bytes[x->tensor]; /* may pass below 0, modulo 2^64, until summed */
    }
    uint64_t live = 0;
    r->peak_bytes = 0;
    r->peak_step = r->peak_count = 0;
    for (int s = 0; s < count; s++) {
        r->live[s] = live += r->live[s];
        if (live > r->peak_bytes) r->peak_bytes = live, r->peak_step = s, r->peak_count = 0;
        r->peak_count += live == r->peak_bytes;
    }
    return true;
}

int ckpt_replay_newest_before(const ckpt_replay *r, int tensor, int step) {
    int k = r->newest[tensor];
    while (k >= 0 && r->instance[k].first >= step) k = r->instance[k].before;
    return k;
}

void ckpt_replay_close(ckpt_replay *r) {
    ckpt_pool_free(&r->pool);
    *r = (ckpt_replay){0};
}
