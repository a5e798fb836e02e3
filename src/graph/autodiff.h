/* From the forward pass with its loss to the training graph: gradient and update nodes, ordinary nodes all.
 *
 *     ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_ADAM};
 *     ckpt_training_defaults(&training);
 *     ckpt_autodiff_run(&graph, &training, &err);
 *
 * Gradients run in the reverse order of the forward nodes. Of one forward node's gradients, those of parameters come
 * before that of its input: dw reads dz and x, and with dx first both would be live beside dx and dw. A parameter is
 * updated behind its last gradient contribution and its last reader, so weight gradients are transient; with `accumulate`
 * they are summed into persistent GRADSUM tensors instead, and the updates run after the last micro-batch. The planner
 * may choose another order (planner/core/order.h).
 */
#ifndef CKPT_AUTODIFF_H
#define CKPT_AUTODIFF_H

#include "graph/graph.h"

/* X(ID, name, update op, state tensors) */
#define CKPT_OPTIMIZER_LIST(X)                                                                               \
    X(SGD, "sgd", SGD, 0)                                                                                    \
    X(MOMENTUM, "momentum", MOMENTUM, 1)                                                                     \
    X(ADAM, "adam", ADAM, 2)                                                                                 \
    X(ADAMW, "adamw", ADAMW, 2)                                                                              \
    X(NESTEROV, "nesterov", NESTEROV, 1)                                                                     \
    X(ADAGRAD, "adagrad", ADAGRAD, 1)
typedef enum ckpt_optimizer {
#define X(ID, name, op, states) CKPT_OPTIMIZER_##ID,
    CKPT_OPTIMIZER_LIST(X)
#undef X
    CKPT_OPTIMIZER_COUNT
} ckpt_optimizer;

typedef struct ckpt_training_options {
    ckpt_optimizer optimizer;
    float beta1, beta2, epsilon, weight_decay, momentum;
    bool accumulate; /* several micro-batches a step */
    bool bf16;         /* activations in bf16, */
    bool bf16_kernels; /* on a device whose nodes work in it (ckpt_rewrite_add_casts) */
    const ckpt_graph *like; /* of the same model for a larger batch, or NULL: what is broadcast there has its gradient summed
                               here too, if only over one sample, so that both graphs have the same nodes */
} ckpt_training_options;

bool ckpt_optimizer_parse(const char *name, ckpt_optimizer *optimizer);
const char *ckpt_optimizer_name(ckpt_optimizer optimizer);

/* PyTorch's defaults for the chosen optimizer: betas .9 and .999, epsilon 1e-8 (AdaGrad 1e-10), momentum .9, decay .01 for
 * AdamW. */
void ckpt_training_defaults(ckpt_training_options *options);

/* Appends everything behind the loss. First removes forward nodes that the loss does not depend on. A graph
 * without a trainable parameter on the way to the loss is CKPT_MODEL. */
ckpt_status ckpt_autodiff_run(ckpt_graph *graph, const ckpt_training_options *options, ckpt_error *err);

/* By tensor of a forward graph with its loss: whether it is on a differentiable way from a parameter. */
void ckpt_autodiff_find_wanted(const ckpt_graph *graph, bool *wanted);

/* By tensor of such a graph: whether the loss's gradient, or without a loss that of the outputs, reaches it on a way to a
 * parameter. CKPT_NOMEM. */
ckpt_status ckpt_autodiff_find_reached(const ckpt_graph *graph, bool *reached, ckpt_error *err);

/* Whether the op's gradient rule hands a gradient to this input. */
bool ckpt_op_has_gradient(ckpt_op op, int input);

/* A copy of a forward graph with its loss as validation runs it: no dropout, nothing behind the loss. Tensor ids
 * stay, so both graphs can share the memory of what outlives a step. */
ckpt_status ckpt_graph_for_evaluation(const ckpt_graph *graph, ckpt_graph *evaluation, ckpt_error *err);

/* All of it for a forward graph with its loss: the graph becomes the training graph, `evaluation` that for evaluation,
 * both in the types that the options ask for. */
ckpt_status ckpt_training_graphs_make(ckpt_graph *graph, const ckpt_training_options *options, ckpt_graph *evaluation,
                                      ckpt_error *err);

/* Below: for the gradient rules in op_*.c. */

typedef struct ckpt_autodiff {
    ckpt_graph *graph;
    const ckpt_training_options *options;
    int *gradient; /* tensor -> gradient tensor so far, or -1 */
    bool *wanted;  /* tensor -> whether the loss's gradient flows through it to a parameter */
    bool *reached; /* tensor -> wanted, and the loss depends on it by way of nodes with a gradient */
    int *first_reader; /* tensor -> the first forward node that reads it */
    int layer;     /* of the forward node at work, */
    const ckpt_node *like; /* and the same node of options->like, or NULL */
    const char *name;
} ckpt_autodiff;

/* A new STEP tensor of the shape and type of `like`, and a backward node. Both -1 on failure. */
int ckpt_gradient_tensor(ckpt_autodiff *ad, int like, ckpt_error *err);
ckpt_status ckpt_gradient_node(ckpt_autodiff *ad, ckpt_op op, const ckpt_attr *attr, int in_count, const int *in,
                               int out, ckpt_error *err);

/* Of two operands, whether the second's gradient is emitted first: it alone is a parameter. */
bool ckpt_gradient_second_first(const ckpt_autodiff *ad, int a, int b);

/* Hands `gradient` to `tensor` as one contribution; sums it with what came before. */
ckpt_status ckpt_gradient_give(ckpt_autodiff *ad, int tensor, int gradient, ckpt_error *err);

/* Hands sign * whole (of the shape of a broadcast output) to `operand`, summed over the axes where its stride is 0. */
ckpt_status ckpt_gradient_give_reduced(ckpt_autodiff *ad, const ckpt_binary_attr *geometry, const int64_t *stride, int operand,
                                       int whole, float sign, ckpt_error *err);

/* For an operand that the forward node at work does not broadcast: whether it does so in the graph that this one is to be
 * like. Then the axes of *sum become one of length one, over which to sum, and the operand's values. */
bool ckpt_gradient_sums_one(const ckpt_autodiff *ad, int operand, ckpt_reduce_attr *sum);

/* For nodes that can add to a sum while they compute: the tensor to add to (and, when it is persistent, to write),
 * or -1. The node's output must then be given with ckpt_gradient_replace. */
int ckpt_gradient_sum(ckpt_autodiff *ad, int tensor, bool *persistent);
ckpt_status ckpt_gradient_replace(ckpt_autodiff *ad, int tensor, int gradient, ckpt_error *err);

#endif
