#include "planner/graph/graph_chain.h"

#include "base/units.h"
#include "planner/graph/graph_moment.h"

/* Cell k lies between path[k] and path[k + 1]; the last node of the path has none. */
typedef struct spine {
    const ckpt_graph *graph;
    const ckpt_costs *costs;
    uint64_t alignment_bytes;
    int count;      /* nodes of the path */
    int *path;
    int *cell;      /* by tensor; -1: in none */
    uint64_t *size; /* by cell: of its smallest tensor */
    int *last;      /* by cell: the last backward node that reads from it, or -1 */
    int *at;        /* by cell: the backward node for which it has to be there; -1: none is looked at */
    uint64_t *taken; /* by backward node (graph_moment.h) */
    uint64_t *gradients; /* by backward node: live behind it */
    int *read_last;  /* by tensor: the last backward node */
    uint64_t *heavy; /* by forward node: of the heaviest path that ends with it */
    int *from;       /* by forward node: the one before it on that path, or -1 */
    bool *wanted, *made; /* by tensor and by node, of one cell at a time */
} spine;

static uint64_t bytes_of(const spine *s, int tensor) {
    return ckpt_align_up(ckpt_tensor_bytes(&s->graph->tensor[tensor]), s->alignment_bytes);
}

static bool make_room(spine *s, ckpt_pool *scratch) {
    const int nodes = s->graph->node_count, tensors = s->graph->tensor_count;
    s->path = ckpt_pool_array(scratch, nodes, int);
    s->cell = ckpt_pool_array(scratch, tensors, int);
    s->size = ckpt_pool_array(scratch, nodes, uint64_t);
    s->last = ckpt_pool_array(scratch, nodes, int);
    s->at = ckpt_pool_array(scratch, nodes, int);
    s->taken = ckpt_pool_array(scratch, nodes, uint64_t);
    s->gradients = ckpt_pool_array(scratch, nodes, uint64_t);
    s->read_last = ckpt_pool_array(scratch, tensors, int);
    s->heavy = ckpt_pool_array(scratch, nodes, uint64_t);
    s->from = ckpt_pool_array(scratch, nodes, int);
    s->wanted = ckpt_pool_array(scratch, tensors, bool);
    s->made = ckpt_pool_array(scratch, nodes, bool);
    return s->path && s->cell && s->size && s->last && s->at && s->taken && s->gradients && s->read_last && s->heavy &&
           s->from && s->wanted && s->made;
}

static void find_path(spine *s) {
    const ckpt_graph *g = s->graph;
    int end = -1;
    for (int n = 0; n < g->forward_count; n++) {
        s->from[n] = -1;
        if (g->node[n].op == CKPT_OP_LOSS) continue;
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            const int p = g->tensor[t].producer;
            if (s->heavy[p] > s->heavy[n] || s->from[n] < 0) s->heavy[n] = s->heavy[p], s->from[n] = p;
        }
        s->heavy[n] += s->costs->node[n];
        if (end < 0 || s->heavy[n] > s->heavy[end]) end = n;
    }
    for (int n = end; n >= 0; n = s->from[n]) s->count++;
    for (int n = end, k = s->count; n >= 0; n = s->from[n]) s->path[--k] = n;
}

/* The graph's order keeps all that lies between two nodes between them. */
static void find_cell(spine *s, int k) {
    const ckpt_graph *g = s->graph;
    const int first = s->path[k], second = s->path[k + 1];
    for (int n = second; n >= first; n--) {
        bool leads = n == second;
        for (int i = 0; i < g->node[n].out_count; i++) leads |= g->node[n].out[i] >= 0 && s->wanted[g->node[n].out[i]];
        for (int i = 0; i < g->node[n].in_count && leads; i++)
            if (ckpt_tensor_is_step(g, g->node[n].in[i])) s->wanted[g->node[n].in[i]] = true;
    }
    s->size[k] = UINT64_MAX;
    for (int n = first; n < second; n++) {
        s->made[n] = n == first;
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i];
            s->made[n] |= ckpt_tensor_is_step(g, t) && g->tensor[t].producer >= first && s->made[g->tensor[t].producer];
        }
        for (int i = 0; i < g->node[n].out_count && s->made[n]; i++) {
            const int t = g->node[n].out[i];
            if (!ckpt_tensor_is_step(g, t) || !s->wanted[t]) continue;
            s->cell[t] = k;
            if (bytes_of(s, t) < s->size[k]) s->size[k] = bytes_of(s, t);
        }
    }
    for (int n = first; n <= second; n++)
        for (int i = 0; i < g->node[n].in_count; i++)
            if (g->node[n].in[i] >= 0) s->wanted[g->node[n].in[i]] = false;
}

static bool reads_cell(const spine *s, int node, int k) {
    const ckpt_node *x = &s->graph->node[node];
    for (int i = 0; i < x->in_count; i++)
        if (x->in[i] >= 0 && s->cell[x->in[i]] == k) return true;
    return false;
}

/* From the last cell down, one backward node for each, later and later: of those that read from it the one that leaves least
 * room, as long as the next cell still has one behind it. */
static void choose_reads(spine *s) {
    const ckpt_graph *g = s->graph;
    for (int k = 0; k < s->count; k++) s->last[k] = s->at[k] = -1;
    for (int n = g->forward_count; n < g->node_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i];
            if (t >= 0 && s->cell[t] >= 0) s->last[s->cell[t]] = n;
        }
    int before = g->forward_count - 1, below = s->count - 2;
    for (int k = s->count - 2; k >= 0; k--) {
        if (s->last[k] <= before) continue;
        for (below = below < k ? below : k - 1; below >= 0 && s->last[below] <= before; below--)
            continue;
        const int end = below >= 0 && s->last[below] > before + 1 ? s->last[below] : s->last[k] + 1;
        for (int n = before + 1; n < end; n++)
            if (reads_cell(s, n, k) && (s->at[k] < 0 || s->taken[n] > s->taken[s->at[k]])) s->at[k] = n;
        if (s->at[k] >= 0) before = s->at[k];
    }
}

/* The cell of input i, or -1 where it is in none, or an earlier input as well. */
static int cell_of(const spine *s, const ckpt_node *node, int i) {
    for (int j = 0; j < i; j++)
        if (node->in[j] == node->in[i]) return -1;
    return node->in[i] >= 0 ? s->cell[node->in[i]] : -1;
}

/* Bytes that the backward node of cell k takes beside the cell itself and whatever is held of earlier ones. */
static uint64_t bytes_beside(const spine *s, int k, int earlier, uint64_t own) {
    const ckpt_node *node = &s->graph->node[s->at[k]];
    uint64_t bytes = s->taken[s->at[k]];
    for (int i = 0; i < node->in_count; i++) {
        const int cell = cell_of(s, node, i);
        if (cell >= 0 && cell <= earlier) bytes -= bytes_of(s, node->in[i]);
    }
    return bytes > own ? bytes - own : 0;
}

/* The first node of a run from cell k, of which `least` bytes are there: beyond them where something of the cell stays, and
 * with them where nothing does. Inputs of earlier cells may be what is held of those. */
static void measure_run(const spine *s, int k, uint64_t least, uint64_t forward_bytes[2]) {
    const int n = s->path[k + 1];
    const ckpt_node *node = &s->graph->node[n];
    bool written_over;
    const uint64_t out = ckpt_graph_moment_outputs(s->graph, s->alignment_bytes, s->read_last, n, &written_over);
    uint64_t in = 0; /* of the cell */
    for (int i = 0; i < node->in_count; i++)
        if (k >= 0 && cell_of(s, node, i) == k) in += bytes_of(s, node->in[i]);
    /* What would be written over the input has its own bytes where that stays. */
    const uint64_t whole = written_over ? bytes_of(s, node->out[0]) : 0;
    forward_bytes[0] = written_over ? out + whole : in + out > least ? in + out - least : 0;
    forward_bytes[1] = in + out;
}

/* The least that gradients take between the backward nodes of cells k and `below`. */
static uint64_t gradients_between(const spine *s, int k, int below) {
    uint64_t least = UINT64_MAX;
    for (int n = s->at[k]; n < s->at[below]; n++)
        if (s->gradients[n] < least) least = s->gradients[n];
    return least == UINT64_MAX ? 0 : least;
}

/* Stage j ends with the j-th cell that is looked at; what lies between two of them is held as if it were the later one. */
static bool make_stages(const spine *s, ckpt_pool *pool, ckpt_chain *chain) {
    int count = 1, j = 1, earlier = -1;
    for (int k = 0; k + 1 < s->count; k++) count += s->at[k] >= 0;
    if (count == 1) return true;
    ckpt_chain_stage *stage = ckpt_pool_array(pool, count + 1, ckpt_chain_stage);
    ckpt_chain_option *option = ckpt_pool_array(pool, count + 1, ckpt_chain_option);
    if (!stage || !option) return false;
    uint64_t least = UINT64_MAX;
    measure_run(s, -1, 0, option[1].forward_bytes);
    for (int k = 0; k < s->count; k++) {
        stage[j].forward_cost += s->costs->node[s->path[k]];
        if (k + 1 == s->count) break;
        if (s->size[k] < least) least = s->size[k];
        if (s->at[k] < 0) continue;
        stage[j].out_bytes = least;
        const uint64_t beside = bytes_beside(s, k, earlier, least);
        for (int i = 0; i < 4; i++) option[j + 1].backward_bytes[i / 2][i % 2] = beside;
        measure_run(s, k, least, option[j + 1].forward_bytes);
        if (earlier >= 0) stage[j].gradient_bytes = gradients_between(s, k, earlier);
        least = UINT64_MAX;
        earlier = k;
        j++;
    }
    for (int k = 1; k <= count; k++) {
        stage[k].kind = k;
        stage[k].option_count = 1;
        stage[k].option = &option[k];
    }
    *chain = (ckpt_chain){.stage_count = count, .stage = stage};
    return true;
}

ckpt_status ckpt_graph_chain_find(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                  ckpt_pool *pool, ckpt_chain *chain, ckpt_error *err) {
    ckpt_pool scratch = {0};
    spine s = {.graph = graph, .costs = costs, .alignment_bytes = alignment_bytes};
    bool ok = make_room(&s, &scratch);
    *chain = (ckpt_chain){0};
    if (ok) {
        ckpt_graph_moment_reads(graph, s.read_last);
        ckpt_graph_moment_bytes(graph, alignment_bytes, s.read_last, s.taken, s.gradients);
        for (int t = 0; t < graph->tensor_count; t++) s.cell[t] = -1;
        find_path(&s);
        for (int k = 0; k + 1 < s.count; k++) find_cell(&s, k);
        choose_reads(&s);
        ok = make_stages(&s, pool, chain);
    }
    ckpt_pool_free(&scratch);
    return ok ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory for a lower bound");
}
