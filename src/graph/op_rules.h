/* The cost and gradient rules that ops.def names; each is defined in the op's own op_*.c. */
#ifndef CKPT_OP_RULES_H
#define CKPT_OP_RULES_H

#include "graph/op.h"

ckpt_cost ckpt_cost_elementwise(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_linear(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_matmul(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_pair(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_act(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_layernorm(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_batchnorm(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_softmax(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_window(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_lrn(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_copy(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_resize(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_attention(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_loss(const ckpt_graph *graph, const ckpt_node *node);
ckpt_cost ckpt_cost_update(const ckpt_graph *graph, const ckpt_node *node);

ckpt_status ckpt_gradient_linear(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_matmul(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_binary(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_pair(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_act(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_layernorm(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_softmax(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_logsoftmax(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_transpose(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_reduce_sum(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_expand(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_concat(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_slice(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_place(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_taped(struct ckpt_autodiff *ad, int node, ckpt_error *err);
ckpt_status ckpt_gradient_cast(struct ckpt_autodiff *ad, int node, ckpt_error *err);

#endif
