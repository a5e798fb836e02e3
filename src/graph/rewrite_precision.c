/* bf16 in a graph: which tensors have it, and the casts that follow. A recomputation, a lifetime or a byte count needs no
 * rule of its own: a cast is a node, and what it makes is a tensor. */
#include <string.h>

#include "graph/autodiff.h"
#include "graph/op.h"
#include "graph/rewrite.h"

/* Types */

/* Outputs that are a few numbers a row or channel, and would lose what they are there for. */
static bool is_statistic(const ckpt_node *node, int out) {
    switch (node->op) {
    case CKPT_OP_BATCH_STATS:
    case CKPT_OP_STORED_STATS:
    case CKPT_OP_CLASS_LOSS: return true;
    case CKPT_OP_LAYERNORM: return out > 0;
    default: return false;
    }
}

/* The predictions, and behind a loss that the file computes, which `own` marks, all of its way from the last product. */
static void mark_losses(const ckpt_graph *g, bool *own, bool *exact) {
    for (int n = g->node_count - 1; n >= 0; n--) {
        const ckpt_node *node = &g->node[n];
        if (node->op == CKPT_OP_LOSS) {
            exact[node->in[0]] = true;
            own[node->in[0]] |= node->attr.loss.kind == CKPT_LOSS_FILE;
        } else if (!(ckpt_op_info(node->op)->flags & CKPT_MATMUL) && node->out[0] >= 0 && own[node->out[0]]) {
            for (int i = 0; i < node->in_count; i++)
                if (node->in[i] >= 0) exact[node->in[i]] = own[node->in[i]] = true;
        }
    }
}

ckpt_status ckpt_rewrite_to_bf16(ckpt_graph *graph, ckpt_error *err) {
    ckpt_pool scratch = {0};
    bool *exact = ckpt_pool_array(&scratch, graph->tensor_count, bool);
    bool *flows = ckpt_pool_array(&scratch, graph->tensor_count, bool);
    bool *own = ckpt_pool_array(&scratch, graph->tensor_count, bool);
    if (!exact || !flows || !own) {
        ckpt_pool_free(&scratch);
        return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    }
    for (int i = 0; i < graph->output_count; i++)
        if (graph->output[i] >= 0) exact[graph->output[i]] = true;
    mark_losses(graph, own, exact);
    ckpt_autodiff_find_wanted(graph, flows);
    for (int n = 0; n < graph->node_count; n++)
        for (int i = 0; i < graph->node[n].out_count; i++) {
            const int t = graph->node[n].out[i];
            if (ckpt_tensor_is_step(graph, t) && graph->tensor[t].dtype == CKPT_F32 && flows[t] && !exact[t] &&
                !is_statistic(&graph->node[n], i))
                graph->tensor[t].dtype = CKPT_BF16;
        }
    ckpt_pool_free(&scratch);
    return CKPT_OK;
}

/* Casts */

typedef struct casting {
    ckpt_graph *graph;
    bool kernels;
    int *copy;  /* by tensor: its newest copy in the other type, */
    int *reader; /* and the former number of the last node that read that */
} casting;

static ckpt_dtype type_of(const ckpt_graph *g, int tensor) { return g->tensor[tensor].dtype; }

static bool all_are(const ckpt_graph *g, const ckpt_node *node, ckpt_dtype type) {
    for (int i = 0; i < node->in_count; i++)
        if (node->in[i] >= 0 && type_of(g, node->in[i]) != type) return false;
    return node->out[0] >= 0 && type_of(g, node->out[0]) == type;
}

/* Sums down columns: a bias's gradient. */
static bool is_column_sum(const ckpt_graph *g, const ckpt_node *node) {
    return node->attr.reduce.rank == 2 && node->attr.reduce.keep == 2 && type_of(g, node->out[0]) == CKPT_F32;
}

/* The type that a node wants of input i, given that it is a float. */
static ckpt_dtype wanted_in(const casting *c, const ckpt_node *node, int i) {
    const ckpt_graph *g = c->graph;
    if (node->op == CKPT_OP_CAST || (node->op == CKPT_OP_TRANSPOSE && type_of(g, node->in[0]) == type_of(g, node->out[0])))
        return type_of(g, node->in[i]);
    if (!c->kernels) return CKPT_F32;
    switch (node->op) {
    case CKPT_OP_LINEAR: return i < 2 ? CKPT_BF16 : type_of(g, node->out[0]); /* cublasLt adds a bias of the result's type */
    case CKPT_OP_MATMUL: return CKPT_BF16;
    case CKPT_OP_LINEAR_DX: return CKPT_BF16;
    case CKPT_OP_LINEAR_DW: return i < 2 ? CKPT_BF16 : CKPT_F32;
    case CKPT_OP_ACT:
    case CKPT_OP_ACT_GRAD:
    case CKPT_OP_BINARY: return all_are(g, node, CKPT_BF16) ? CKPT_BF16 : CKPT_F32;
    case CKPT_OP_REDUCE_SUM: return is_column_sum(g, node) ? type_of(g, node->in[0]) : CKPT_F32;
    default: return CKPT_F32;
    }
}

static ckpt_dtype wanted_out(const casting *c, const ckpt_node *node, int i) {
    const ckpt_dtype type = type_of(c->graph, node->out[i]);
    if (node->op == CKPT_OP_CAST || (node->op == CKPT_OP_TRANSPOSE && type_of(c->graph, node->in[0]) == type)) return type;
    if (!c->kernels) return CKPT_F32;
    switch (node->op) {
    case CKPT_OP_LINEAR:
    case CKPT_OP_MATMUL:
    case CKPT_OP_LINEAR_DX: return type; /* of either */
    case CKPT_OP_ACT:
    case CKPT_OP_ACT_GRAD:
    case CKPT_OP_BINARY: return all_are(c->graph, node, CKPT_BF16) ? CKPT_BF16 : CKPT_F32;
    default: return CKPT_F32;
    }
}

static bool is_float(ckpt_dtype type) { return type == CKPT_F32 || type == CKPT_BF16; }

static int add_copy(casting *c, int like, ckpt_dtype type, ckpt_error *err) {
    const ckpt_tensor t = c->graph->tensor[like];
    return ckpt_graph_add_tensor(c->graph, t.name, type, CKPT_ROLE_STEP, t.rank, t.dim, err);
}

/* Gradient nodes carry their forward node's name, by which they are found; forward names are unique. */
static ckpt_status add_cast(casting *c, const ckpt_node *beside, int from, int to, ckpt_error *err) {
    ckpt_graph *g = c->graph;
    const char *name = beside->phase == CKPT_FORWARD ? ckpt_pool_printf(&g->pool, "%s:%s:%d", g->tensor[from].name,
                                                                        ckpt_dtype_name(type_of(g, to)), g->node_count)
                                                     : beside->name;
    if (!name) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    const int node = ckpt_graph_add_node(g, CKPT_OP_CAST, beside->phase == CKPT_UPDATE ? CKPT_BACKWARD : beside->phase, name, 1,
                                         &from, 1, &to, err);
    if (node < 0) return CKPT_NOMEM;
    g->node[node].when = beside->when;
    g->node[node].layer = beside->layer;
    g->node[node].origin = beside->origin;
    return CKPT_OK;
}

/* Node `n` of before with its casts. A copy serves nodes that follow each other; later ones make their own, so that none
 * outlives its use. */
static ckpt_status add_with_casts(casting *c, const ckpt_node *old, int n, ckpt_error *err) {
    ckpt_graph *g = c->graph;
    ckpt_node node = *old;
    int result[CKPT_MAX_OUT];
    for (int i = 0; i < old->in_count; i++) {
        const int t = old->in[i];
        if (t < 0 || !is_float(type_of(g, t)) || wanted_in(c, old, i) == type_of(g, t)) continue;
        if (c->copy[t] < 0 || c->reader[t] < n - 1) {
            c->copy[t] = add_copy(c, t, wanted_in(c, old, i), err);
            if (c->copy[t] < 0) return CKPT_NOMEM;
            CKPT_TRY(add_cast(c, old, t, c->copy[t], err));
        }
        c->reader[t] = n;
        node.in[i] = c->copy[t];
    }
    for (int i = 0; i < old->out_count; i++) {
        const int t = result[i] = old->out[i];
        if (!ckpt_tensor_is_step(g, t) || !is_float(type_of(g, t)) || wanted_out(c, old, i) == type_of(g, t)) continue;
        node.out[i] = add_copy(c, t, wanted_out(c, old, i), err);
        if (node.out[i] < 0) return CKPT_NOMEM;
    }
    const int added = ckpt_graph_add_node(g, node.op, node.phase, node.name, node.in_count, node.in, node.out_count, node.out, err);
    if (added < 0) return CKPT_NOMEM;
    g->node[added] = node;
    for (int i = 0; i < old->out_count; i++)
        if (node.out[i] != result[i]) CKPT_TRY(add_cast(c, old, node.out[i], result[i], err));
    return CKPT_OK;
}

static ckpt_status rebuild(casting *c, const ckpt_graph *before, ckpt_error *err) {
    ckpt_graph *g = c->graph;
    g->node = NULL;
    g->node_count = g->node_capacity = 0;
    for (int n = 0; n < before->node_count; n++) {
        CKPT_TRY(add_with_casts(c, &before->node[n], n, err));
        if (n < before->forward_count) g->forward_count = g->node_count;
    }
    for (int n = 0; n < g->node_count; n++) { /* the table of layers numbers nodes */
        const ckpt_node *node = &g->node[n];
        if (n < g->forward_count && node->layer >= 0 && ckpt_op_info(node->op)->flags & CKPT_MATMUL)
            g->layer[node->layer].linear = n;
    }
    return CKPT_OK;
}

ckpt_status ckpt_rewrite_add_casts(ckpt_graph *graph, bool kernels, ckpt_error *err) {
    const ckpt_graph before = *graph;
    ckpt_pool scratch = {0};
    casting c = {.graph = graph, .kernels = kernels,
                 .copy = ckpt_pool_array(&scratch, graph->tensor_count, int),
                 .reader = ckpt_pool_array(&scratch, graph->tensor_count, int)};
    ckpt_status status = c.copy && c.reader ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    if (status == CKPT_OK) {
        memset(c.copy, -1, sizeof *c.copy * (size_t)graph->tensor_count);
        status = rebuild(&c, &before, err);
    }
    ckpt_pool_free(&scratch);
    if (status == CKPT_OK) ckpt_graph_compute_hash(graph);
    return status;
}
