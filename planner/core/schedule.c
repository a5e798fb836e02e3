#include "planner/core/schedule.h"

#include <limits.h>
#include <stdlib.h>

#include "graph/op.h"

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while scheduling");
}

ckpt_status ckpt_schedule_append(ckpt_pool *pool, ckpt_schedule *schedule, int node, ckpt_error *err) {
    if (schedule->count == schedule->capacity) {
        if (schedule->capacity > INT_MAX / 2) return out_of_memory(err);
        int room = schedule->capacity ? 2 * schedule->capacity : 256;
        int *fresh =
            ckpt_pool_grow(pool, schedule->node, (size_t)schedule->count, (size_t)room, sizeof *fresh);
        if (!fresh) return out_of_memory(err);
        schedule->node = fresh;
        schedule->capacity = room;
    }
    schedule->node[schedule->count++] = node;
    return CKPT_OK;
}

/* Where the backward pass can find the forward tensors it needs. */
typedef struct remake {
    const ckpt_graph *graph;
    bool *at_hand; /* tensor -> kept, or made again since the backward pass began */
    bool *awaited; /* forward node -> on the list of nodes to run again */
    int *list;     /* those nodes; also the stack of the search for them */
    int list_count;
    const bool *stays; /* tensor -> held once made again; NULL: all are */
    const int *part;   /* node -> backward nodes that belong together */
    int *next;         /* tensor -> the next backward node that reads it, or -1; with `stays` only */
    int *later, width; /* [node_count][width]: the same behind a backward node, of its inputs */
} remake;

/* Marks as at hand whatever is kept or cannot be made again at the time of its last use. One walk from the
 * end of the graph: `need[t]` is the last backward node for whose sake t must exist, directly or as the input
 * of something made again; `written[t]` the next node that overwrites a persistent tensor. Recomputations go
 * immediately before the backward node that asked, so a forward node can run again for node b if nothing that
 * it reads is written before b. */
static bool find_at_hand(const ckpt_graph *g, const bool *kept, bool *at_hand, ckpt_pool *scratch) {
    int *need = ckpt_pool_array(scratch, g->tensor_count, int);
    int *written = ckpt_pool_array(scratch, g->tensor_count, int);
    if (!need || !written) return false;
    for (int t = 0; t < g->tensor_count; t++) {
        at_hand[t] = kept[t];
        need[t] = -1;
        written[t] = INT_MAX;
    }
    for (int n = g->node_count - 1; n >= 0; n--) {
        const ckpt_node *node = &g->node[n];
        int needed = node->phase == CKPT_FORWARD ? -1 : n, until = INT_MAX;
        bool once = node->op == CKPT_OP_LOSS || ckpt_node_has_effect(g, n);
        for (int i = 0; i < node->in_count; i++)
            if (node->in[i] >= 0 && written[node->in[i]] < until) until = written[node->in[i]];
        for (int i = 0; i < node->out_count; i++) {
            const int t = node->out[i];
            if (t < 0) continue;
            if (!ckpt_tensor_is_step(g, t)) written[t] = n;
            if (node->phase != CKPT_FORWARD || need[t] < 0) continue;
            if (once || need[t] > until) at_hand[t] = true;
            if (!at_hand[t] && need[t] > needed) needed = need[t];
        }
        for (int i = 0; i < node->in_count; i++)
            if (ckpt_tensor_is_step(g, node->in[i]) && needed > need[node->in[i]]) need[node->in[i]] = needed;
    }
    return true;
}

static void await_producer(remake *r, int tensor) {
    const ckpt_graph *g = r->graph;
    if (!ckpt_tensor_is_step(g, tensor) || r->at_hand[tensor]) return;
    const int producer = g->tensor[tensor].producer;
    if (producer < 0 || g->node[producer].phase != CKPT_FORWARD || r->awaited[producer]) return;
    r->awaited[producer] = true;
    r->list[r->list_count++] = producer;
}

static int compare_ids(const void *a, const void *b) {
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

/* Schedules what backward node `n` reads and is not at hand: the nodes that make it, their inputs' nodes and
 * so on up to tensors at hand, in the order of the forward pass. */
static ckpt_status schedule_inputs(remake *r, int n, ckpt_pool *pool, ckpt_schedule *schedule,
                                   ckpt_error *err) {
    const ckpt_node *node = &r->graph->node[n];
    r->list_count = 0;
    for (int i = 0; i < node->in_count; i++) await_producer(r, node->in[i]);
    for (int k = 0; k < r->list_count; k++) {
        const ckpt_node *again = &r->graph->node[r->list[k]];
        for (int i = 0; i < again->in_count; i++) await_producer(r, again->in[i]);
    }
    qsort(r->list, (size_t)r->list_count, sizeof *r->list, compare_ids);
    for (int k = 0; k < r->list_count; k++) {
        const ckpt_node *again = &r->graph->node[r->list[k]];
        CKPT_TRY(ckpt_schedule_append(pool, schedule, r->list[k], err));
        for (int i = 0; i < again->out_count; i++)
            if (again->out[i] >= 0) r->at_hand[again->out[i]] = true;
    }
    for (int k = 0; k < r->list_count; k++) {
        const ckpt_node *again = &r->graph->node[r->list[k]];
        r->awaited[r->list[k]] = false;
        for (int i = 0; i < again->out_count && r->stays; i++) {
            const int t = again->out[i];
            if (t >= 0 && !r->stays[t] && (r->next[t] < 0 || r->part[r->next[t]] != r->part[n])) r->at_hand[t] = false;
        }
    }
    return CKPT_OK;
}

/* Who reads what next in the backward pass. */
static bool find_next(remake *r, ckpt_pool *scratch) {
    const ckpt_graph *g = r->graph;
    for (int n = 0; n < g->node_count; n++)
        if (g->node[n].in_count > r->width) r->width = g->node[n].in_count;
    r->next = ckpt_pool_array(scratch, g->tensor_count, int);
    r->later = ckpt_pool_array(scratch, (size_t)g->node_count * (size_t)r->width, int);
    if (!r->next || !r->later) return false;
    for (int t = 0; t < g->tensor_count; t++) r->next[t] = -1;
    for (int n = g->node_count - 1; n >= 0 && g->node[n].phase != CKPT_FORWARD; n--) {
        const ckpt_node *node = &g->node[n];
        for (int i = 0; i < node->in_count; i++)
            r->later[(size_t)n * (size_t)r->width + (size_t)i] = node->in[i] >= 0 ? r->next[node->in[i]] : -1;
        for (int i = 0; i < node->in_count; i++)
            if (node->in[i] >= 0) r->next[node->in[i]] = n;
    }
    return true;
}

static ckpt_status schedule_all(remake *r, ckpt_pool *pool, ckpt_schedule *schedule, ckpt_error *err) {
    for (int n = 0; n < r->graph->node_count; n++) {
        if (r->graph->node[n].phase != CKPT_FORWARD) CKPT_TRY(schedule_inputs(r, n, pool, schedule, err));
        CKPT_TRY(ckpt_schedule_append(pool, schedule, n, err));
        const ckpt_node *node = &r->graph->node[n];
        for (int i = 0; i < node->in_count && r->stays && node->phase != CKPT_FORWARD; i++)
            if (node->in[i] >= 0) r->next[node->in[i]] = r->later[(size_t)n * (size_t)r->width + (size_t)i];
    }
    return CKPT_OK;
}

ckpt_status ckpt_schedule_from_kept(const ckpt_graph *graph, const bool *kept, ckpt_pool *pool,
                                    ckpt_schedule *schedule, ckpt_error *err) {
    return ckpt_schedule_from_choice(graph, kept, NULL, NULL, pool, schedule, err);
}

ckpt_status ckpt_schedule_from_choice(const ckpt_graph *graph, const bool *kept, const bool *stays, const int *part,
                                      ckpt_pool *pool, ckpt_schedule *schedule, ckpt_error *err) {
    ckpt_pool scratch = {0};
    remake r = {.graph = graph,
                .stays = stays,
                .part = part,
                .at_hand = ckpt_pool_array(&scratch, graph->tensor_count, bool),
                .awaited = ckpt_pool_array(&scratch, graph->node_count, bool),
                .list = ckpt_pool_array(&scratch, graph->node_count, int)};
    *schedule = (ckpt_schedule){0};
    ckpt_status status;
    if (!r.at_hand || !r.awaited || !r.list || !find_at_hand(graph, kept, r.at_hand, &scratch) ||
        (stays && !find_next(&r, &scratch)))
        status = out_of_memory(err);
    else
        status = schedule_all(&r, pool, schedule, err);
    ckpt_pool_free(&scratch);
    return status;
}
