/* The modes of a stage: its forward and backward replayed node by node for every set of saved activations worth keeping. */
#include <limits.h>
#include <stdlib.h>

#include "base/units.h"
#include "graph/op.h"
#include "planner/graph/stages.h"

enum { EXHAUSTIVE = 8, MOST_OPTIONS = 6 }; /* internals; sets kept */

enum { AT_HAND = 1, WANTED = 2 };

static uint64_t bytes_of(const ckpt_stages *stages, int tensor) {
    return tensor >= 0 ? stages->problem->bytes[tensor] : 0;
}

static bool made_by(const ckpt_graph *g, int tensor, const ckpt_stage_nodes *nodes) {
    if (!ckpt_tensor_is_step(g, tensor)) return false;
    int producer = g->tensor[tensor].producer;
    return producer >= nodes->forward && producer < nodes->forward_end;
}

/* Appends the forward nodes that make what is WANTED and not AT_HAND, in forward order. */
static int list_missing(const ckpt_graph *g, const ckpt_stage_nodes *nodes, unsigned char *mark, int *list,
                        int count) {
    int last = nodes->forward_end;
    for (int n = nodes->forward_end - 1; n >= nodes->forward; n--) {
        const ckpt_node *node = &g->node[n];
        bool wanted = false;
        for (int i = 0; i < node->out_count; i++) wanted |= node->out[i] >= 0 && mark[node->out[i]] == WANTED;
        if (!wanted) continue;
        list[count + --last - nodes->forward] = n; /* from the back; moved to the front below */
        for (int i = 0; i < node->in_count; i++)
            if (made_by(g, node->in[i], nodes)) mark[node->in[i]] |= WANTED;
    }
    for (int i = last; i < nodes->forward_end; i++) {
        int n = list[count + i - nodes->forward];
        list[count + i - last] = n;
        for (int j = 0; j < g->node[n].out_count; j++)
            if (g->node[n].out[j] >= 0) mark[g->node[n].out[j]] |= AT_HAND;
    }
    return count + nodes->forward_end - last;
}

int ckpt_stage_list_backward(const ckpt_stages *stages, int k, uint64_t kept, bool has_output,
                             unsigned char *mark, int *list) {
    const ckpt_graph *g = stages->problem->graph;
    const ckpt_stage_nodes *nodes = &stages->nodes[k];
    int count = 0;
    for (int i = 0; i < nodes->inside_count; i++)
        if (kept >> i & 1) mark[nodes->inside[i]] = AT_HAND;
    if (has_output && nodes->out >= 0) mark[nodes->out] = AT_HAND;
    for (int n = nodes->backward; n < nodes->backward_end; n++) {
        const ckpt_node *node = &g->node[n];
        bool missing = false;
        for (int i = 0; i < node->in_count; i++)
            if (made_by(g, node->in[i], nodes) && !(mark[node->in[i]] & AT_HAND)) {
                mark[node->in[i]] |= WANTED;
                missing = true;
            }
        if (missing) count = list_missing(g, nodes, mark, list, count);
        list[count++] = n;
    }
    for (int n = nodes->forward; n < nodes->forward_end; n++)
        for (int i = 0; i < g->node[n].out_count; i++)
            if (g->node[n].out[i] >= 0) mark[g->node[n].out[i]] = 0;
    return count;
}

/* A replay of some nodes: what is there before, and what stays behind. */
typedef struct replay {
    const ckpt_stages *stages;
    int *last;           /* by tensor: index of the last read; INT_MAX: stays; -1 */
    unsigned char *mark; /* by tensor: 0 */
    int *list;
} replay;

static void set_last(const replay *r, const int *tensor, int count, int value) {
    for (int i = 0; i < count; i++)
        if (tensor[i] >= 0) r->last[tensor[i]] = value;
}

/* Whether out[0] takes over the buffer of an input that is read last at step `at`. */
static bool is_overwriting(const replay *r, int n, int at) {
    const ckpt_problem *p = r->stages->problem;
    for (int i = 0; i < p->graph->node[n].in_count; i++)
        if (p->overwrite[n] >> i & 1 && r->last[p->graph->node[n].in[i]] == at) return true;
    return false;
}

/* Most at once while list[0..count) runs. There before: `there`; `stay` is there afterwards too. Leaves
 * last[] -1. */
static uint64_t replay_peak(const replay *r, int count, const int *there, int there_count, const int *stay,
                            int stay_count) {
    const ckpt_graph *g = r->stages->problem->graph;
    for (int s = 0; s < count; s++)
        for (int i = 0; i < g->node[r->list[s]].in_count; i++)
            if (g->node[r->list[s]].in[i] >= 0) r->last[g->node[r->list[s]].in[i]] = s;
    set_last(r, stay, stay_count, INT_MAX);
    uint64_t live = 0, peak = 0;
    for (int i = 0; i < there_count; i++)
        if (there[i] >= 0 && r->last[there[i]] >= 0) live += bytes_of(r->stages, there[i]);
    peak = live;
    for (int s = 0; s < count; s++) {
        const ckpt_node *node = &g->node[r->list[s]];
        const bool over = is_overwriting(r, r->list[s], s);
        uint64_t after = live;
        for (int i = 0; i < node->out_count; i++) {
            uint64_t bytes = node->out[i] >= 0 ? bytes_of(r->stages, node->out[i]) : 0;
            if (i > 0 || !over) live += bytes;
            if (node->out[i] >= 0 && r->last[node->out[i]] > s) after += bytes;
        }
        peak = ckpt_max_u64(peak, live);
        for (int i = 0; i < node->in_count; i++) {
            bool again = false;
            for (int j = 0; j < i; j++) again |= node->in[j] == node->in[i];
            if (node->in[i] >= 0 && !again && r->last[node->in[i]] == s)
                after -= bytes_of(r->stages, node->in[i]);
        }
        live = after;
    }
    for (int s = 0; s < count; s++) set_last(r, g->node[r->list[s]].in, g->node[r->list[s]].in_count, -1);
    set_last(r, stay, stay_count, -1);
    return peak;
}

static int add_kept(const ckpt_stage_nodes *nodes, uint64_t kept, int *tensor, int count) {
    for (int i = 0; i < nodes->inside_count; i++)
        if (kept >> i & 1) tensor[count++] = nodes->inside[i];
    return count;
}

static void measure_option(const replay *r, int k, uint64_t kept, bool needs_output, int *there, int *stay,
                           ckpt_chain_option *option) {
    const ckpt_stages *stages = r->stages;
    const ckpt_graph *g = stages->problem->graph;
    const ckpt_stage_nodes *nodes = &stages->nodes[k], *below = &stages->nodes[k - 1];
    uint64_t before = below->out >= 0 ? bytes_of(stages, below->out) : 0;
    *option = (ckpt_chain_option){0};
    for (int i = 0; i < nodes->inside_count; i++)
        if (kept >> i & 1) option->kept_bytes += bytes_of(stages, nodes->inside[i]);
    for (int dies = 0; dies < 2; dies++) {
        int count = 0, stays = 0;
        for (int n = nodes->forward; n < nodes->forward_end; n++) r->list[count++] = n;
        stay[stays++] = nodes->out;
        if (!dies) stay[stays++] = below->out;
        stays = add_kept(nodes, kept, stay, stays);
        uint64_t peak = replay_peak(r, count, &below->out, 1, stay, stays);
        option->forward_bytes[dies] = dies ? peak : peak - before;
    }
    for (int has = 0; has < 2; has++) {
        int count = ckpt_stage_list_backward(stages, k, kept, has || !needs_output, r->mark, r->list);
        for (int i = 0; i < count; i++)
            if (r->list[i] < g->forward_count)
                option->recompute_cost[has] += stages->problem->costs->node[r->list[i]];
        for (int dies = 0; dies < 2; dies++) {
            int theres = 0, stays = 0;
            there[theres++] = below->out;
            if (needs_output && has) there[theres++] = nodes->out;
            for (int i = 0; i < nodes->carry_count; i++) there[theres++] = nodes->carry[i];
            theres = add_kept(nodes, kept, there, theres);
            if (!dies) stay[stays++] = below->out;
            for (int i = 0; i < below->carry_count; i++) stay[stays++] = below->carry[i];
            uint64_t peak = replay_peak(r, count, there, theres, stay, stays);
            option->backward_bytes[has][dies] = ckpt_max_u64(peak, before) - before;
        }
    }
}

static bool reads(const ckpt_node *node, int tensor) {
    for (int i = 0; i < node->in_count; i++)
        if (tensor >= 0 && node->in[i] == tensor) return true;
    return false;
}

static bool reads_inside(const ckpt_graph *g, int n, const ckpt_stage_nodes *nodes) {
    for (int i = 0; i < g->node[n].in_count; i++)
        if (made_by(g, g->node[n].in[i], nodes)) return true;
    return false;
}

/* Whether all that the early part reads of the stage's own is among x_k and what is kept. */
static bool early_can_run(const ckpt_graph *g, const ckpt_stage_nodes *nodes, uint64_t kept, bool has_output) {
    for (int n = nodes->backward; n < nodes->early_end; n++)
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i];
            bool there = !made_by(g, t, nodes) || (has_output && t == nodes->out);
            for (int j = 0; j < nodes->inside_count && !there; j++) there = t == nodes->inside[j] && (kept >> j & 1);
            if (!there) return false;
        }
    return true;
}

/* Tensors of the backward pass that are there behind the early part: made so far, and read later or carried on. */
static int list_behind_early(const ckpt_stages *stages, int k, int *tensor) {
    const ckpt_graph *g = stages->problem->graph;
    const ckpt_stage_nodes *nodes = &stages->nodes[k], *below = &stages->nodes[k - 1];
    int made = 0, count = 0;
    for (int i = 0; i < nodes->carry_count; i++) tensor[made++] = nodes->carry[i];
    for (int n = nodes->backward; n < nodes->early_end; n++)
        for (int i = 0; i < g->node[n].out_count; i++)
            if (ckpt_tensor_is_step(g, g->node[n].out[i])) tensor[made++] = g->node[n].out[i];
    for (int i = 0; i < made; i++) {
        bool later = false;
        for (int n = nodes->early_end; n < nodes->backward_end; n++) later |= reads(&g->node[n], tensor[i]);
        for (int j = 0; j < below->carry_count; j++) later |= below->carry[j] == tensor[i];
        if (later) tensor[count++] = tensor[i];
    }
    return count;
}

static uint64_t sum_bytes(const ckpt_stages *stages, const int *tensor, int count) {
    uint64_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += bytes_of(stages, tensor[i]);
    return bytes;
}

/* Whether the backward can be cut between the last node that reads what the stage made and the first one that reads its input:
 * where it is cut least is there. `behind` has room for what is carried and made. */
static bool find_early(const ckpt_stages *stages, int k, ckpt_stage_nodes *nodes, int *behind) {
    const ckpt_graph *g = stages->problem->graph;
    const int input = stages->nodes[k - 1].out;
    int first = nodes->backward, last = nodes->backward, best = 0;
    while (last < nodes->backward_end && !reads(&g->node[last], input)) last++;
    for (int n = nodes->backward; n < nodes->backward_end; n++)
        if (reads_inside(g, n, nodes)) first = n + 1;
    if (first == nodes->backward || first > last || last == nodes->backward_end) return false;
    uint64_t least = UINT64_MAX;
    for (int n = first; n <= last; n++) {
        nodes->early_end = n;
        const uint64_t bytes = sum_bytes(stages, behind, list_behind_early(stages, k, behind));
        if (bytes < least) best = n, least = bytes;
    }
    nodes->early_end = best;
    return true;
}

/* The early part of an option; and what is left of the backward, as an option of its own. */
static void measure_early(const replay *r, int k, uint64_t kept, const int *behind, int behinds, int *there,
                          ckpt_chain_option *option) {
    const ckpt_stage_nodes *nodes = &r->stages->nodes[k];
    for (int has = 0; has < 2; has++) {
        option->early_bytes[has] = CKPT_CHAIN_NEVER;
        if (!behind || !early_can_run(r->stages->problem->graph, nodes, kept, has)) continue;
        int count = 0, theres = 0;
        for (int n = nodes->backward; n < nodes->early_end; n++) r->list[count++] = n;
        if (has) there[theres++] = nodes->out;
        for (int i = 0; i < nodes->carry_count; i++) there[theres++] = nodes->carry[i];
        theres = add_kept(nodes, kept, there, theres);
        option->early_bytes[has] = replay_peak(r, count, there, theres, behind, behinds);
    }
}

static ckpt_chain_option measure_behind_early(const replay *r, int k, const int *behind, int behinds, uint64_t gradient,
                                              int *there, int *stay) {
    const ckpt_stage_nodes *nodes = &r->stages->nodes[k], *below = &r->stages->nodes[k - 1];
    const uint64_t before = bytes_of(r->stages, below->out);
    ckpt_chain_option left = {.recompute_cost = {0, CKPT_CHAIN_NEVER}, .early_bytes = {CKPT_CHAIN_NEVER, CKPT_CHAIN_NEVER}};
    const uint64_t bytes = sum_bytes(r->stages, behind, behinds);
    left.kept_bytes = bytes > gradient ? bytes - gradient : 0;
    for (int dies = 0; dies < 2; dies++) {
        int count = 0, theres = 0, stays = 0;
        for (int n = nodes->early_end; n < nodes->backward_end; n++) r->list[count++] = n;
        there[theres++] = below->out;
        for (int i = 0; i < behinds; i++) there[theres++] = behind[i];
        if (!dies) stay[stays++] = below->out;
        for (int i = 0; i < below->carry_count; i++) stay[stays++] = below->carry[i];
        const uint64_t peak = replay_peak(r, count, there, theres, stay, stays);
        left.backward_bytes[0][dies] = left.backward_bytes[1][dies] = ckpt_max_u64(peak, before) - before;
    }
    return left;
}

/* True when b is nowhere worse than a. */
static bool serves_better(const ckpt_chain_option *a, const ckpt_chain_option *b) {
    bool better = b->kept_bytes <= a->kept_bytes;
    for (int i = 0; i < 2; i++) {
        better &= b->forward_bytes[i] <= a->forward_bytes[i] && b->recompute_cost[i] <= a->recompute_cost[i];
        better &= b->early_bytes[i] <= a->early_bytes[i];
        better &= b->backward_bytes[i][0] <= a->backward_bytes[i][0];
        better &= b->backward_bytes[i][1] <= a->backward_bytes[i][1];
    }
    return better;
}

/* Internals: all when they are few, otherwise those that the backward reads. */
static bool find_inside(ckpt_stages *stages, int k, bool *needs_output, unsigned char *mark) {
    const ckpt_graph *g = stages->problem->graph;
    ckpt_stage_nodes *nodes = &stages->nodes[k];
    int all = 0, read = 0;
    *needs_output = false;
    for (int n = nodes->backward; n < nodes->backward_end; n++)
        for (int i = 0; i < g->node[n].in_count; i++) {
            int t = g->node[n].in[i];
            *needs_output |= t >= 0 && t == nodes->out;
            if (made_by(g, t, nodes) && t != nodes->out) {
                read += !mark[t];
                mark[t] = 1;
            }
        }
    for (int n = nodes->forward; n < nodes->forward_end; n++) all += g->node[n].out_count;
    stages->deep |= read > 0 && all > EXHAUSTIVE;
    nodes->inside = ckpt_pool_array(&stages->pool, all, int);
    if (!nodes->inside) return false;
    for (int n = nodes->forward; n < nodes->forward_end; n++)
        for (int i = 0; i < g->node[n].out_count; i++) {
            int t = g->node[n].out[i];
            if (!ckpt_tensor_is_step(g, t) || t == nodes->out) continue;
            if (read > 0 && (mark[t] || all <= EXHAUSTIVE) && nodes->inside_count < 63)
                nodes->inside[nodes->inside_count++] = t;
            mark[t] = 0;
        }
    return true;
}

/* The i-th set to try, 0 being the empty one; UINT64_MAX behind the last. Many internals: all, the results of
 * matrix products, and everything up to or from each in turn. */
static uint64_t candidate(const ckpt_stages *stages, const ckpt_stage_nodes *nodes, int i) {
    int count = nodes->inside_count;
    uint64_t all = ((uint64_t)1 << count) - 1;
    if (stages->options->without_modes && i > 0) return i == 1 && count > 0 ? all : UINT64_MAX;
    if (count <= EXHAUSTIVE) return i <= (int)all ? (uint64_t)i : UINT64_MAX;
    if (i == 0) return 0;
    if (i == 1) return all;
    if (i == 2) {
        uint64_t products = 0;
        for (int j = 0; j < count; j++) {
            int producer = stages->problem->graph->tensor[nodes->inside[j]].producer;
            if (ckpt_op_info(stages->problem->graph->node[producer].op)->flags & CKPT_MATMUL)
                products |= (uint64_t)1 << j;
        }
        return products;
    }
    if (i - 3 >= 2 * (count - 1)) return UINT64_MAX;
    uint64_t first = ((uint64_t)1 << ((i - 3) / 2 + 1)) - 1;
    return i % 2 ? first : all & ~first;
}

/* Keeps the first (no internals) and the cheapest, drops what another serves at least as well, and thins the
 * rest so that few remain (*thinned): those that save most for their bytes stay. */
static int thin_options(ckpt_chain_option *option, uint64_t *kept, int count, int most, bool *thinned) {
    for (int i = count - 1; i >= 1; i--) {
        bool drop = option[i].kept_bytes == 0;
        for (int j = 0; j < count && !drop; j++)
            drop = j != i && serves_better(&option[i], &option[j]) &&
                   (j < i || !serves_better(&option[j], &option[i]));
        if (!drop) continue;
        count--;
        for (int j = i; j < count; j++) option[j] = option[j + 1], kept[j] = kept[j + 1];
    }
    *thinned |= count > most;
    while (count > most) {
        int worst = -1, cheapest = 1;
        double worst_rate = 0;
        for (int i = 2; i < count; i++)
            if (option[i].recompute_cost[1] < option[cheapest].recompute_cost[1]) cheapest = i;
        for (int i = 1; i < count; i++) {
            double saved = (double)option[0].recompute_cost[1] - (double)option[i].recompute_cost[1];
            double rate = saved / (double)option[i].kept_bytes;
            if (i != cheapest && (worst < 0 || rate < worst_rate)) worst = i, worst_rate = rate;
        }
        count--;
        for (int j = worst; j < count; j++) option[j] = option[j + 1], kept[j] = kept[j + 1];
    }
    return count;
}

static ckpt_status measure(ckpt_stages *stages, int k, const replay *r, ckpt_pool *scratch,
                           ckpt_chain_stage *stage, ckpt_error *err) {
    const ckpt_graph *g = stages->problem->graph;
    ckpt_stage_nodes *nodes = &stages->nodes[k];
    stage->out_bytes = nodes->out >= 0 ? bytes_of(stages, nodes->out) : 0;
    for (int i = 0; i < nodes->carry_count; i++) stage->gradient_bytes += bytes_of(stages, nodes->carry[i]);
    for (int n = nodes->forward; n < nodes->forward_end; n++)
        if (stages->problem->recomputable[n]) stage->forward_cost += stages->problem->costs->node[n];
    int count = 0, most = 0;
    if (!find_inside(stages, k, &stage->needs_output, r->mark))
        return ckpt_fail(err, CKPT_NOMEM, "out of memory");
    while (candidate(stages, nodes, most) != UINT64_MAX) most++;
    int made = 0;
    for (int n = nodes->backward; n < nodes->backward_end; n++) made += g->node[n].out_count;
    int carried = nodes->carry_count + stages->nodes[k - 1].carry_count + made;
    int *there = ckpt_pool_array(scratch, 2 * (carried + nodes->inside_count + 4), int);
    int *behind = ckpt_pool_array(scratch, carried + 1, int);
    ckpt_chain_option *option = ckpt_pool_array(scratch, most, ckpt_chain_option);
    uint64_t *kept = ckpt_pool_array(scratch, most, uint64_t);
    if (!there || !option || !kept || !behind) return ckpt_fail(err, CKPT_NOMEM, "out of memory");
    int *stay = there + carried + nodes->inside_count + 4;
    stage->early = k > 1 && !stages->options->without_eviction && find_early(stages, k, nodes, behind);
    const int behinds = stage->early ? list_behind_early(stages, k, behind) : 0;
    for (; count < most; count++) {
        kept[count] = candidate(stages, nodes, count);
        measure_option(r, k, kept[count], stage->needs_output, there, stay, &option[count]);
        measure_early(r, k, kept[count], stage->early ? behind : NULL, behinds, there, &option[count]);
    }
    count = thin_options(option, kept, count, MOST_OPTIONS, &stages->thinned);
    ckpt_chain_option *final = ckpt_pool_array(&stages->pool, count + 1, ckpt_chain_option);
    nodes->kept = ckpt_pool_array(&stages->pool, count, uint64_t);
    if (!final || !nodes->kept) return ckpt_fail(err, CKPT_NOMEM, "out of memory");
    for (int o = 0; o < count; o++) final[o] = option[o], nodes->kept[o] = kept[o];
    if (stage->early) final[count] = measure_behind_early(r, k, behind, behinds, stage->gradient_bytes, there, stay);
    stage->option = final;
    stage->option_count = count;
    return CKPT_OK;
}

ckpt_status ckpt_stage_measure(ckpt_stages *stages, int k, ckpt_chain_stage *stage, ckpt_error *err) {
    const ckpt_graph *g = stages->problem->graph;
    ckpt_pool scratch = {0};
    replay r = {.stages = stages,
                .last = ckpt_pool_array(&scratch, g->tensor_count, int),
                .mark = ckpt_pool_array(&scratch, g->tensor_count, unsigned char),
                .list = ckpt_pool_array(&scratch, 2 * g->node_count, int)};
    ckpt_status status = CKPT_OK;
    if (!r.last || !r.mark || !r.list)
        status = ckpt_fail(err, CKPT_NOMEM, "out of memory");
    else {
        for (int t = 0; t < g->tensor_count; t++) r.last[t] = -1;
        status = measure(stages, k, &r, &scratch, stage, err);
    }
    ckpt_pool_free(&scratch);
    return status;
}
