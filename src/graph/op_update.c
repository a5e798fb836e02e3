/* Optimizer updates; their formulas are in runtime/update_math.h. */
#include "graph/op_rules.h"

ckpt_cost ckpt_cost_update(const ckpt_graph *graph, const ckpt_node *node) {
    const uint64_t flops = node->op == CKPT_OP_SGD ? 2
                         : node->op == CKPT_OP_MOMENTUM ? 4
                         : node->op == CKPT_OP_NESTEROV ? 6
                         : node->op == CKPT_OP_ADAGRAD ? 7
                                                        : 14;
    return (ckpt_cost){.flops = flops * (uint64_t)graph->tensor[node->in[0]].count};
}
