/* Dropout where an export for inference left it out. */
#include "graph/op.h"
#include "graph/rewrite.h"

/* What stands in a network as its nonlinearity; the others are arithmetic. */
static bool is_activation(ckpt_act act) {
    switch (act) {
    case CKPT_ACT_IDENTITY:
    case CKPT_ACT_NEG:
    case CKPT_ACT_SCALE:
    case CKPT_ACT_ERF:
    case CKPT_ACT_NEGATIVE:
    case CKPT_ACT_EXP:
    case CKPT_ACT_LOG:
    case CKPT_ACT_ABS:
    case CKPT_ACT_SQRT:
    case CKPT_ACT_RECIPROCAL:
    case CKPT_ACT_POW: return false;
    default: return true;
    }
}

static ckpt_status check_graph(const ckpt_graph *graph, ckpt_error *err) {
    for (int n = 0; n < graph->node_count; n++) {
        const ckpt_node *node = &graph->node[n];
        const ckpt_epilogue *epilogue = ckpt_node_epilogue(node);
        if (epilogue && epilogue->drop > 0)
            return ckpt_fail(err, CKPT_USAGE, "--dropout: node '%s' is dropout already; leave out --dropout", node->name);
        if (node->op == CKPT_OP_ACT && node->attr.act.act == CKPT_ACT_NEGATIVE) /* its halves would drop by themselves */
            return ckpt_fail(err, CKPT_USAGE, "--dropout: node '%s' is a PRelu, after which none can be put back; leave out --dropout",
                             node->name);
    }
    return CKPT_OK;
}

/* The masks are part of the activation's node, as they are where the file's own Dropout is fused into it. */
ckpt_status ckpt_rewrite_add_dropout(ckpt_graph *graph, float probability, ckpt_drop_rng rng, ckpt_error *err) {
    ckpt_pool scratch = {0};
    int added = 0;
    CKPT_TRY(check_graph(graph, err));
    bool *hidden = ckpt_pool_array(&scratch, graph->tensor_count, bool); /* whether a product comes after the tensor */
    if (!hidden) return ckpt_fail(err, CKPT_NOMEM, "out of host memory");
    for (int n = graph->node_count - 1; n >= 0; n--) {
        ckpt_node *node = &graph->node[n];
        bool before_product = ckpt_op_info(node->op)->flags & CKPT_MATMUL;
        for (int o = 0; o < node->out_count; o++) before_product |= node->out[o] >= 0 && hidden[node->out[o]];
        for (int i = 0; before_product && i < node->in_count; i++)
            if (node->in[i] >= 0) hidden[node->in[i]] = true;
    }
    for (int n = 0; n < graph->node_count; n++) {
        ckpt_node *node = &graph->node[n];
        if (node->op != CKPT_OP_ACT || !is_activation(node->attr.act.act) || !hidden[node->out[0]]) continue;
        node->attr.act.drop = probability;
        node->attr.act.rng = rng;
        node->attr.act.stream = graph->stream_count++;
        added++;
    }
    ckpt_pool_free(&scratch);
    return added ? CKPT_OK : ckpt_fail(err, CKPT_USAGE, "--dropout: the model has no hidden activation; leave out --dropout");
}
