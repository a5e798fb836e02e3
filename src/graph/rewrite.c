#include "graph/rewrite.h"

#include <string.h>

#include "graph/op.h"

ckpt_status ckpt_graph_count_uses(const ckpt_graph *graph, ckpt_pool *pool, int **uses, int **reader, ckpt_error *err) {
    *uses = ckpt_pool_array(pool, graph->tensor_count, int);
    *reader = ckpt_pool_array(pool, graph->tensor_count, int);
    if (!*uses || !*reader) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    memset(*reader, -1, sizeof **reader * (size_t)graph->tensor_count);
    for (int n = 0; n < graph->node_count; n++)
        for (int i = 0; i < graph->node[n].in_count; i++)
            if (graph->node[n].in[i] >= 0) {
                (*uses)[graph->node[n].in[i]]++;
                (*reader)[graph->node[n].in[i]] = n;
            }
    for (int i = 0; i < graph->output_count; i++)
        if (graph->output[i] >= 0) (*uses)[graph->output[i]]++;
    return CKPT_OK;
}

/* `first` ends with what `second` did: takes over its output, and `second` is to be dropped. */
static void absorb(ckpt_graph *graph, int first, int second, bool *keep) {
    graph->node[first].out[0] = graph->node[second].out[0];
    graph->tensor[graph->node[first].out[0]].producer = first;
    keep[second] = false;
}

/* x . w followed by "+ b" with b a vector over the output features. */
static bool fuse_bias(ckpt_graph *graph, int linear, int add, bool *keep) {
    ckpt_node *first = &graph->node[linear];
    const ckpt_node *second = &graph->node[add];
    const ckpt_binary_attr *g = &second->attr.binary;
    if (second->op != CKPT_OP_BINARY || g->kind != CKPT_BINARY_ADD || first->in_count > 2) return false;
    const int y = first->out[0], b = second->in[0] == y ? second->in[1] : second->in[0];
    const int64_t *stride = second->in[0] == y ? g->stride_b : g->stride_a;
    const ckpt_tensor *bias = &graph->tensor[b];
    const int64_t features = first->attr.linear.out_features;
    if (b == y || bias->role == CKPT_ROLE_STEP || bias->dtype != CKPT_F32 || bias->count != features ||
        graph->tensor[second->out[0]].count != graph->tensor[y].count)
        return false;
    /* The bias must run along the last merged axis and stand still along the one before. */
    const bool whole = g->rank == 1 && g->dim[0] == features && (features == 1 || stride[0] == 1);
    const bool rows = g->rank == 2 && g->dim[1] == features && stride[0] == 0 && stride[1] == 1;
    const bool single = features == 1 && g->rank <= 1;
    if (!whole && !rows && !single) return false;
    first->in[2] = b;
    first->in_count = 3;
    first->attr.linear.beta = 1;
    absorb(graph, linear, add, keep);
    return true;
}

/* act into the node before, dropout into the node before. */
static bool fuse_act(ckpt_graph *graph, int before, int act, bool *keep) {
    ckpt_node *first = &graph->node[before];
    const ckpt_node *second = &graph->node[act];
    if (second->op != CKPT_OP_ACT || (first->op != CKPT_OP_LINEAR && first->op != CKPT_OP_ACT)) return false;
    ckpt_epilogue *have = first->op == CKPT_OP_LINEAR ? &first->attr.linear.epilogue : &first->attr.act;
    const ckpt_epilogue *more = &second->attr.act;
    if (have->drop > 0) return false;
    if (more->act == CKPT_ACT_IDENTITY) { /* dropout alone */
        have->drop = more->drop;
        have->rng = more->rng;
        have->stream = more->stream;
    } else {
        if (have->act != CKPT_ACT_IDENTITY || !ckpt_act_from_output(more->act)) return false;
        *have = *more;
    }
    absorb(graph, before, act, keep);
    return true;
}

static void mark_dead(const ckpt_graph *graph, bool *keep, bool *needed) {
    for (int i = 0; i < graph->output_count; i++)
        if (graph->output[i] >= 0) needed[graph->output[i]] = true;
    for (int n = graph->node_count - 1; n >= 0; n--) {
        const ckpt_node *node = &graph->node[n];
        keep[n] &= ckpt_node_must_run(graph, n, needed);
        for (int i = 0; keep[n] && i < node->in_count; i++)
            if (node->in[i] >= 0) needed[node->in[i]] = true;
    }
}

/* Constants folded into attributes, weights of branches that were dropped: a STEP tensor that no node makes takes no
 * memory. */
static ckpt_status forget_unread(ckpt_graph *graph, ckpt_error *err) {
    ckpt_pool scratch = {0};
    int *uses, *reader;
    const ckpt_status status = ckpt_graph_count_uses(graph, &scratch, &uses, &reader, err);
    for (int t = 0; status == CKPT_OK && t < graph->tensor_count; t++)
        if (!uses[t] && (graph->tensor[t].role == CKPT_ROLE_CONST || graph->tensor[t].role == CKPT_ROLE_PARAM))
            graph->tensor[t].role = CKPT_ROLE_STEP;
    ckpt_pool_free(&scratch);
    return status;
}

ckpt_status ckpt_rewrite_fuse(ckpt_graph *graph, ckpt_error *err) {
    ckpt_pool scratch = {0};
    int *uses, *reader;
    bool *keep = ckpt_pool_array(&scratch, graph->node_count, bool);
    bool *needed = ckpt_pool_array(&scratch, graph->tensor_count, bool);
    ckpt_status status = keep && needed ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    if (status == CKPT_OK) {
        memset(keep, 1, sizeof *keep * (size_t)graph->node_count);
        mark_dead(graph, keep, needed); /* first: a dead reader must not stand in the way */
        ckpt_graph_filter(graph, keep);
        memset(keep, 1, sizeof *keep * (size_t)graph->node_count);
        status = ckpt_graph_count_uses(graph, &scratch, &uses, &reader, err);
    }
    for (int n = 0; status == CKPT_OK && n < graph->node_count; n++) {
        if (!keep[n]) continue;
        for (;;) { /* as long as the one reader of its output can be taken in */
            const int y = graph->node[n].out[0];
            if (y < 0 || !ckpt_tensor_is_step(graph, y) || uses[y] != 1 || reader[y] < 0) break;
            const int next = reader[y];
            if (graph->node[n].op == CKPT_OP_LINEAR && graph->node[n].attr.linear.epilogue.act == CKPT_ACT_IDENTITY &&
                graph->node[n].attr.linear.epilogue.drop == 0 && fuse_bias(graph, n, next, keep))
                continue;
            if (!fuse_act(graph, n, next, keep)) break;
        }
    }
    if (status == CKPT_OK) ckpt_graph_filter(graph, keep);
    ckpt_pool_free(&scratch);
    return status == CKPT_OK ? forget_unread(graph, err) : status;
}
