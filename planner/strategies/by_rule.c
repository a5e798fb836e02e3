/* The strategies that choose which forward tensors are kept: none, sqrt, every, layers, selective. Schedule.h
 * turns the choice into a schedule. */
#include "graph/op.h"
#include "planner/core/schedule.h"
#include "planner/strategies/strategy.h"

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while choosing what is kept");
}

static bool *keep_all(const ckpt_graph *g, ckpt_pool *pool) {
    bool *kept = ckpt_pool_array(pool, g->tensor_count, bool);
    for (int t = 0; kept && t < g->tensor_count; t++) kept[t] = true;
    return kept;
}

/* The loss's gradient follows the loss at once: dropping what both read would only cost time. */
static void keep_loss_inputs(const ckpt_graph *g, bool *kept) {
    for (int n = 0; n < g->forward_count; n++)
        for (int i = 0; g->node[n].op == CKPT_OP_LOSS && i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) kept[g->node[n].in[i]] = true;
}

static ckpt_status finish(const ckpt_graph *g, const bool *kept, ckpt_pool *pool,
                          ckpt_strategy_result *result, ckpt_error *err) {
    return ckpt_schedule_from_kept(g, kept, pool, &result->schedule, err);
}

ckpt_status ckpt_strategy_none(const ckpt_strategy_input *input, ckpt_pool *pool,
                               ckpt_strategy_result *result, ckpt_error *err) {
    const bool *kept = keep_all(input->problem->graph, pool);
    return kept ? finish(input->problem->graph, kept, pool, result, err) : out_of_memory(err);
}

/* Layers i with i % every == every - 1 are checkpoints: what crosses from a layer <= i to one > i is kept,
 * the rest of the layers between is dropped (Chen et al. 2016, "Training Deep Nets with Sublinear Memory
 * Cost", section 3; any graph, so skips that pass a checkpoint are kept as well). The textbook's rule: the
 * last segment is dropped like the others, although the backward pass begins with making it again. */
static ckpt_status checkpoint_every(const ckpt_graph *g, int every, ckpt_pool *pool,
                                    ckpt_strategy_result *result, ckpt_error *err) {
    bool *kept = ckpt_pool_array(pool, g->tensor_count, bool);
    if (!kept) return out_of_memory(err);
    for (int n = 0; n < g->forward_count; n++) {
        const ckpt_node *node = &g->node[n];
        const int layer = node->layer >= 0 ? node->layer : g->layer_count; /* the loss is behind all layers */
        for (int i = 0; i < node->in_count; i++) {
            const int producer = node->in[i] >= 0 ? g->tensor[node->in[i]].producer : -1;
            if (producer < 0) continue;
            const int64_t made = g->node[producer].layer;
            if (layer > made / every * every + every - 1) kept[node->in[i]] = true;
        }
    }
    keep_loss_inputs(g, kept);
    return finish(g, kept, pool, result, err);
}

ckpt_status ckpt_strategy_every(const ckpt_strategy_input *input, ckpt_pool *pool,
                                ckpt_strategy_result *result, ckpt_error *err) {
    if (input->options->every < 1)
        return ckpt_fail(err, CKPT_USAGE, "strategy every: --every must be at least 1, not %d",
                         input->options->every);
    return checkpoint_every(input->problem->graph, input->options->every, pool, result, err);
}

ckpt_status ckpt_strategy_sqrt(const ckpt_strategy_input *input, ckpt_pool *pool,
                               ckpt_strategy_result *result, ckpt_error *err) {
    int every = 1;
    while ((int64_t)every * every < input->problem->graph->layer_count) every++;
    return checkpoint_every(input->problem->graph, every, pool, result, err);
}

ckpt_status ckpt_strategy_layers(const ckpt_strategy_input *input, ckpt_pool *pool,
                                 ckpt_strategy_result *result, ckpt_error *err) {
    const ckpt_graph *g = input->problem->graph;
    bool *kept = keep_all(g, pool), *chosen = ckpt_pool_array(pool, g->layer_count, bool);
    if (!kept || !chosen) return out_of_memory(err);
    CKPT_TRY(ckpt_layers_parse(g, input->options->layers, chosen, err));
    for (int n = 0; n < g->forward_count; n++) {
        const ckpt_node *node = &g->node[n];
        for (int i = 0; i < node->out_count; i++)
            if (node->out[i] >= 0 && node->layer >= 0 && chosen[node->layer]) kept[node->out[i]] = false;
    }
    return finish(g, kept, pool, result, err);
}

/* Marks forward tensors that backward nodes read: they are in memory then, unless dropped. */
static void mark_backward_reads(const ckpt_graph *g, bool *read) {
    for (int n = 0; n < g->node_count; n++)
        for (int i = 0; g->node[n].phase != CKPT_FORWARD && i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) read[g->node[n].in[i]] = true;
}

/* Drops what a cheap node makes when its inputs are there for the backward pass anyway; otherwise dropping it
 * would only keep another tensor in its place (the sum of a residual stream against both its terms). An input
 * that was itself dropped will do in the same layer, not across layers: else the first read in the backward
 * pass would make a whole residual stream again and hold it. In the spirit of Korthikanti et al. 2022,
 * "Reducing Activation Recomputation in Large Transformer Models", for any graph. */
ckpt_status ckpt_strategy_selective(const ckpt_strategy_input *input, ckpt_pool *pool,
                                    ckpt_strategy_result *result, ckpt_error *err) {
    const ckpt_graph *g = input->problem->graph;
    bool *kept = keep_all(g, pool), *read = ckpt_pool_array(pool, g->tensor_count, bool);
    if (!kept || !read) return out_of_memory(err);
    mark_backward_reads(g, read);
    for (int n = 0; n < g->forward_count; n++) {
        const ckpt_node *node = &g->node[n];
        if (ckpt_op_info(node->op)->flags & CKPT_MATMUL || ckpt_node_has_effect(g, n)) continue;
        bool at_hand = true;
        for (int i = 0; i < node->in_count; i++) {
            const int t = node->in[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            const int producer = g->tensor[t].producer;
            at_hand &= kept[t] ? read[t] : producer >= 0 && g->node[producer].layer == node->layer;
        }
        for (int i = 0; at_hand && i < node->out_count; i++)
            if (node->out[i] >= 0) kept[node->out[i]] = false;
    }
    keep_loss_inputs(g, kept);
    return finish(g, kept, pool, result, err);
}
