#include "graph/op.h"

#include "graph/op_rules.h"

#define ckpt_gradient_none NULL

static const ckpt_op_row rows[CKPT_OP_COUNT] = {
#define X(ID, op_name, op_flags, op_inplace, op_cost, op_gradient)                                           \
    [CKPT_OP_##ID] = {.name = op_name, .flags = op_flags, .inplace = op_inplace,                             \
                      .cost = ckpt_cost_##op_cost, .gradient = ckpt_gradient_##op_gradient},
#include "graph/ops.def"
#undef X
};

static const struct {
    const char *name;
    bool from_output;
    int flops;
    bool constant;
} acts[CKPT_ACT_COUNT] = {
#define X(ID, act_name, output, costly, slope_is_constant) [CKPT_ACT_##ID] = {act_name, output, costly, slope_is_constant},
#include "graph/acts.def"
#undef X
};

const ckpt_op_row *ckpt_op_info(ckpt_op op) { return &rows[op]; }
const char *ckpt_act_name(ckpt_act act) { return acts[act].name; }
bool ckpt_act_from_output(ckpt_act act) { return acts[act].from_output; }
int ckpt_act_flops(ckpt_act act) { return acts[act].flops; }
bool ckpt_act_slope_is_constant(ckpt_act act) { return acts[act].constant; }

ckpt_cost ckpt_node_cost(const ckpt_graph *graph, int node) {
    const ckpt_node *n = &graph->node[node];
    ckpt_cost cost = rows[n->op].cost(graph, n);
    if (cost.bytes) return cost;
    for (int i = 0; i < n->in_count; i++)
        if (n->in[i] >= 0) cost.bytes += ckpt_tensor_bytes(&graph->tensor[n->in[i]]);
    for (int i = 0; i < n->out_count; i++)
        if (n->out[i] >= 0) cost.bytes += ckpt_tensor_bytes(&graph->tensor[n->out[i]]);
    return cost;
}

ckpt_cost ckpt_cost_elementwise(const ckpt_graph *graph, const ckpt_node *node) {
    int64_t most = 0;
    for (int i = 0; i < node->in_count; i++)
        if (node->in[i] >= 0 && graph->tensor[node->in[i]].count > most) most = graph->tensor[node->in[i]].count;
    for (int i = 0; i < node->out_count; i++)
        if (graph->tensor[node->out[i]].count > most) most = graph->tensor[node->out[i]].count;
    return (ckpt_cost){.flops = (uint64_t)most};
}

const ckpt_epilogue *ckpt_node_epilogue(const ckpt_node *node) {
    if (node->op == CKPT_OP_LINEAR) return &node->attr.linear.epilogue;
    if (node->op == CKPT_OP_ACT || node->op == CKPT_OP_KEEP_MASK || node->op == CKPT_OP_ACT_GRAD) return &node->attr.act;
    return NULL;
}
