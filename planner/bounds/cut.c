#include "planner/bounds/cut.h"

#include <stdlib.h>
#include <string.h>

/* Vertices: forward tensors by id, then forward nodes, then source and sink. Arcs come in pairs: arc ^ 1 goes back. */
typedef struct arc {
    int to, next; /* next of the same tail, or -1 */
    int64_t room;
} arc;

struct ckpt_cut {
    ckpt_pool pool;
    const ckpt_graph *graph;
    uint64_t work;
    int vertex_count, source, sink, arc_count;
    arc *arc;
    int *first; /* by vertex: its first arc, or -1 */
    int *level; /* by vertex: distance from the source; -1: out of reach */
    int *next;  /* by vertex: the arc to try next */
    int *queue; /* vertices; also the path's arcs */
    int *need, *hold; /* by tensor: its arc, or -1 */
    int *run;         /* by forward node */
};

static int add_arc(ckpt_cut *c, int from, int to) {
    const int a = c->arc_count;
    c->arc[a] = (arc){.to = to, .next = c->first[from]};
    c->first[from] = a;
    c->arc[a + 1] = (arc){.to = from, .next = c->first[to]};
    c->first[to] = a + 1;
    c->arc_count += 2;
    return a;
}

static void add_arcs(ckpt_cut *c) {
    const ckpt_graph *g = c->graph;
    for (int v = 0; v < c->vertex_count; v++) c->first[v] = -1;
    for (int t = 0; t < g->tensor_count; t++) c->need[t] = c->hold[t] = -1;
    for (int n = 0; n < g->forward_count; n++) {
        const int vertex = g->tensor_count + n;
        c->run[n] = add_arc(c, vertex, c->sink);
        for (int i = 0; i < g->node[n].out_count; i++) {
            const int t = g->node[n].out[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            c->need[t] = add_arc(c, c->source, t);
            c->hold[t] = add_arc(c, t, vertex);
        }
    }
    for (int n = 0; n < g->forward_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++)
            if (ckpt_tensor_is_step(g, g->node[n].in[i]) && c->hold[g->node[n].in[i]] >= 0)
                add_arc(c, g->tensor_count + n, g->node[n].in[i]);
}

ckpt_status ckpt_cut_open(const ckpt_graph *graph, ckpt_cut **out, ckpt_error *err) {
    *out = NULL;
    ckpt_cut *c = calloc(1, sizeof *c);
    if (!c) return ckpt_fail(err, CKPT_NOMEM, "out of host memory for a cut");
    c->graph = graph;
    c->source = graph->tensor_count + graph->forward_count;
    c->sink = c->source + 1;
    c->vertex_count = c->sink + 1;
    int arcs = 0;
    for (int n = 0; n < graph->forward_count; n++)
        arcs += 2 * (1 + 2 * graph->node[n].out_count + graph->node[n].in_count);
    c->arc = ckpt_pool_array(&c->pool, arcs, arc);
    c->first = ckpt_pool_array(&c->pool, c->vertex_count, int);
    c->level = ckpt_pool_array(&c->pool, c->vertex_count, int);
    c->next = ckpt_pool_array(&c->pool, c->vertex_count, int);
    c->queue = ckpt_pool_array(&c->pool, c->vertex_count, int);
    c->need = ckpt_pool_array(&c->pool, graph->tensor_count, int);
    c->hold = ckpt_pool_array(&c->pool, graph->tensor_count, int);
    c->run = ckpt_pool_array(&c->pool, graph->forward_count, int);
    if (!c->arc || !c->first || !c->level || !c->next || !c->queue || !c->need || !c->hold || !c->run) {
        ckpt_cut_close(c);
        return ckpt_fail(err, CKPT_NOMEM, "out of host memory for a cut");
    }
    add_arcs(c);
    *out = c;
    return CKPT_OK;
}

static void set_rooms(ckpt_cut *c, const bool *needed, const int64_t *hold, const int64_t *run) {
    const ckpt_graph *g = c->graph;
    for (int a = 0; a < c->arc_count; a += 2) {
        c->arc[a].room = CKPT_CUT_NEVER;
        c->arc[a + 1].room = 0;
    }
    for (int t = 0; t < g->tensor_count; t++) {
        if (c->hold[t] < 0) continue;
        c->arc[c->need[t]].room = needed[t] ? CKPT_CUT_NEVER : 0;
        c->arc[c->hold[t]].room = hold[t];
    }
    for (int n = 0; n < g->forward_count; n++) c->arc[c->run[n]].room = run[n];
}

/* Distances from the source by arcs with room; whether the sink is in reach. */
static bool find_levels(ckpt_cut *c) {
    int count = 0;
    c->work += (uint64_t)c->arc_count;
    for (int v = 0; v < c->vertex_count; v++) c->level[v] = -1;
    c->level[c->source] = 0;
    c->queue[count++] = c->source;
    for (int i = 0; i < count; i++)
        for (int a = c->first[c->queue[i]]; a >= 0; a = c->arc[a].next) {
            const int to = c->arc[a].to;
            if (c->arc[a].room == 0 || c->level[to] >= 0) continue;
            c->level[to] = c->level[c->queue[i]] + 1;
            c->queue[count++] = to;
        }
    return c->level[c->sink] >= 0;
}

/* Fills one way after the other along the levels, until none is left; returns what flowed. */
static int64_t block_ways(ckpt_cut *c) {
    int64_t sum = 0;
    int length = 0, at = c->source;
    memcpy(c->next, c->first, sizeof *c->next * (size_t)c->vertex_count);
    for (;;) {
        if (at == c->sink) {
            int64_t most = INT64_MAX;
            int narrow = 0;
            for (int i = length - 1; i >= 0; i--)
                if (c->arc[c->queue[i]].room <= most) most = c->arc[c->queue[i]].room, narrow = i;
            for (int i = 0; i < length; i++) {
                c->arc[c->queue[i]].room -= most;
                c->arc[c->queue[i] ^ 1].room += most;
            }
            sum += most;
            length = narrow;
            at = c->arc[c->queue[narrow] ^ 1].to;
        }
        int a = c->next[at];
        while (a >= 0 && !(c->arc[a].room > 0 && c->level[c->arc[a].to] == c->level[at] + 1)) a = c->arc[a].next;
        c->next[at] = a;
        if (a >= 0) {
            c->queue[length++] = a;
            at = c->arc[a].to;
        } else if (length > 0) {
            at = c->arc[c->queue[--length] ^ 1].to;
            c->next[at] = c->arc[c->next[at]].next;
        } else {
            return sum;
        }
    }
}

int64_t ckpt_cut_solve(ckpt_cut *c, const bool *needed, const int64_t *hold, const int64_t *run, bool *held) {
    const ckpt_graph *g = c->graph;
    int64_t sum = 0;
    set_rooms(c, needed, hold, run);
    while (find_levels(c)) sum += block_ways(c);
    for (int t = 0; t < g->tensor_count && held; t++)
        held[t] = c->hold[t] >= 0 && c->level[t] >= 0 && c->level[c->arc[c->hold[t]].to] < 0;
    return sum;
}

uint64_t ckpt_cut_work(const ckpt_cut *c) {
    return c->work;
}

void ckpt_cut_close(ckpt_cut *c) {
    if (!c) return;
    ckpt_pool_free(&c->pool);
    free(c);
}
