#include "planner/core/problem.h"

#include <stdlib.h>

#include "base/units.h"
#include "graph/op.h"

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while planning");
}

uint64_t ckpt_step_bytes(const ckpt_graph *g, int tensor, uint64_t alignment_bytes) {
    return ckpt_tensor_is_step(g, tensor)
               ? ckpt_align_up(ckpt_tensor_bytes(&g->tensor[tensor]), alignment_bytes)
               : 0;
}

bool ckpt_node_is_recomputable(const ckpt_graph *g, int n) {
    return n < g->forward_count && g->node[n].op != CKPT_OP_LOSS && !ckpt_node_has_effect(g, n);
}

uint64_t ckpt_overwrite_candidates(const ckpt_graph *g, int n) {
    const ckpt_node *node = &g->node[n];
    const uint64_t mask = ckpt_op_info(node->op)->inplace;
    uint64_t candidates = 0;
    if (!mask || node->out_count < 1 || !ckpt_tensor_is_step(g, node->out[0])) return 0;
    const uint64_t bytes = ckpt_tensor_bytes(&g->tensor[node->out[0]]);
    for (int i = 0; i < node->in_count; i++) {
        const int t = node->in[i];
        if (!(mask >> i & 1) || !ckpt_tensor_is_step(g, t) || ckpt_tensor_bytes(&g->tensor[t]) != bytes)
            continue;
        bool read_otherwise = false;
        for (int j = 0; j < node->in_count; j++) read_otherwise |= node->in[j] == t && !(mask >> j & 1);
        if (!read_otherwise) candidates |= UINT64_C(1) << i;
    }
    return candidates;
}

/* --- dependencies ------------------------------------------------------------------------------------ */

typedef struct edge {
    int from, to;
} edge;

typedef struct edges {
    int count, capacity;
    edge *edge;
    bool failed;
} edges;

static void add_edge(edges *list, int from, int to) {
    if (from < 0 || from == to || list->failed) return;
    if (list->count == list->capacity) {
        const int capacity = list->capacity ? 2 * list->capacity : 1024;
        edge *grown = realloc(list->edge, sizeof *grown * (size_t)capacity);
        list->failed = !grown;
        if (!grown) return;
        list->edge = grown;
        list->capacity = capacity;
    }
    list->edge[list->count++] = (edge){from, to};
}

static int compare_edges(const void *a, const void *b) {
    const edge *x = a, *y = b;
    return x->from != y->from ? (x->from > y->from) - (x->from < y->from) : (x->to > y->to) - (x->to < y->to);
}

/* The rows of edges by `from`, in the pool. Leaves the edges sorted and without repeats. */
static bool make_rows(edges *list, int node_count, ckpt_pool *pool, int **first, int **to) {
    if (list->count) qsort(list->edge, (size_t)list->count, sizeof *list->edge, compare_edges);
    int count = 0;
    for (int i = 0; i < list->count; i++)
        if (count == 0 || compare_edges(&list->edge[count - 1], &list->edge[i]) != 0)
            list->edge[count++] = list->edge[i];
    list->count = count;
    *first = ckpt_pool_array(pool, node_count + 1, int);
    *to = ckpt_pool_array(pool, count, int);
    if (!*first || !*to) return false;
    for (int i = 0, n = 0; n <= node_count; n++) {
        (*first)[n] = i;
        for (; i < count && list->edge[i].from == n; i++) (*to)[i] = list->edge[i].to;
    }
    return true;
}

static void turn_around(edges *list) {
    for (int i = 0; i < list->count; i++) list->edge[i] = (edge){list->edge[i].to, list->edge[i].from};
}

/* Of a tensor that outlives the step: who wrote it last, and who has read it since. */
typedef struct access {
    int writer;     /* node, or -1 */
    int first_read; /* in `reads`, or -1 */
} access;

typedef struct read_link {
    int node, next;
} read_link;

typedef struct tables {
    access *access;   /* by tensor */
    read_link *reads; /* one for every read */
    int read_count;
} tables;

static void list_reads(const ckpt_graph *g, int n, tables *x, edges *order) {
    for (int i = 0; i < g->node[n].in_count; i++) {
        const int t = g->node[n].in[i];
        if (t < 0) continue;
        if (ckpt_tensor_is_step(g, t)) {
            add_edge(order, g->tensor[t].producer, n);
            continue;
        }
        add_edge(order, x->access[t].writer, n);
        x->reads[x->read_count] = (read_link){n, x->access[t].first_read};
        x->access[t].first_read = x->read_count++;
    }
}

static void list_writes(const ckpt_graph *g, int n, tables *x, edges *order, edges *expires) {
    for (int i = 0; i < g->node[n].out_count; i++) {
        const int t = g->node[n].out[i];
        if (t < 0 || ckpt_tensor_is_step(g, t)) continue;
        access *a = &x->access[t];
        add_edge(order, a->writer, n);
        for (int r = a->first_read; r >= 0; r = x->reads[r].next) {
            add_edge(order, x->reads[r].node, n);
            if (ckpt_node_is_recomputable(g, x->reads[r].node)) add_edge(expires, x->reads[r].node, n);
        }
        *a = (access){n, -1};
    }
}

static bool find_dependencies(const ckpt_graph *g, tables *x, ckpt_pool *pool, ckpt_problem *p) {
    edges order = {0}, expires = {0};
    for (int t = 0; t < g->tensor_count; t++) x->access[t] = (access){-1, -1};
    for (int n = 0; n < g->node_count; n++) {
        list_reads(g, n, x, &order);
        list_writes(g, n, x, &order, &expires);
    }
    bool ok = !order.failed && !expires.failed &&
              make_rows(&order, g->node_count, pool, &p->after_first, &p->after) &&
              make_rows(&expires, g->node_count, pool, &p->expires_first, &p->expires);
    turn_around(&order);
    ok = ok && make_rows(&order, g->node_count, pool, &p->before_first, &p->before);
    free(order.edge);
    free(expires.edge);
    return ok;
}

ckpt_status ckpt_problem_open(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                              ckpt_pool *pool, ckpt_problem *p, ckpt_error *err) {
    *p = (ckpt_problem){.graph = graph,
                        .costs = costs,
                        .alignment_bytes = alignment_bytes,
                        .bytes = ckpt_pool_array(pool, graph->tensor_count, uint64_t),
                        .recomputable = ckpt_pool_array(pool, graph->node_count, bool),
                        .overwrite = ckpt_pool_array(pool, graph->node_count, uint64_t)};
    if (!p->bytes || !p->recomputable || !p->overwrite) return out_of_memory(err);
    size_t reads = 0;
    for (int t = 0; t < graph->tensor_count; t++) p->bytes[t] = ckpt_step_bytes(graph, t, alignment_bytes);
    for (int n = 0; n < graph->node_count; n++) {
        p->recomputable[n] = ckpt_node_is_recomputable(graph, n);
        p->overwrite[n] = ckpt_overwrite_candidates(graph, n);
        reads += (size_t)graph->node[n].in_count;
    }
    ckpt_pool scratch = {0};
    tables x = {.access = ckpt_pool_array(&scratch, graph->tensor_count, access),
                .reads = ckpt_pool_array(&scratch, reads, read_link)};
    const bool ok = x.access && x.reads && find_dependencies(graph, &x, pool, p);
    ckpt_pool_free(&scratch);
    return ok ? CKPT_OK : out_of_memory(err);
}
