/* The op table: what the rest of the program may ask of an op.
 *
 *     const ckpt_op_row *row = ckpt_op_info(node->op);
 *     ckpt_cost cost = ckpt_node_cost(&graph, n);
 *     if (row->flags & CKPT_MATMUL) heavy += cost.flops;
 *
 * Inputs and outputs of each op, by tensor (shapes in the attributes of attr_*.h, rows before columns):
 *   LINEAR        x w [b] -> y
 *   MATMUL        a b -> c
 *   BINARY        a b -> c                    f32; forward only also i32, i64, f64
 *   PAIR          a b -> c                    max, min or power: attr.pair; f32; forward only also i32, i64, f64
 *   ACT           x -> y                      y = dropout(act(x))
 *   KEEP_MASK     -> mask (bool)              1 where the dropout of its stream keeps
 *   LAYERNORM     x [scale] [bias] -> y [mean] [inv_std]     rows of cols values, statistics a row
 *   RMSNORM       x [scale] -> y              rows of cols values
 *   SOFTMAX, LOGSOFTMAX  x -> y               along attr.axis
 *   TRANSPOSE     x -> y
 *   REDUCE_SUM    x -> y
 *   EXPAND        y -> x                      x = alpha * broadcast y, attr.reduce of the REDUCE_SUM that undoes it
 *   CAST          x -> y                      by the tensors' types
 *   CONV, CONV_TRANSPOSE  x w [b] -> y        x: batch, channels, up to 3 axes
 *   MAXPOOL       x -> y [indices]            AVGPOOL  x -> y
 *   BATCH_STATS   x -> stats                  attr.group; stats [4][channels]: the mean in two floats, population
 *                                             variance, 1 / sqrt(variance + epsilon)
 *   STORED_STATS  mean variance -> stats      the running ones instead
 *   STATS_UPDATE  stats mean variance -> mean variance    old * momentum + stats * (1 - momentum)
 *   BATCHNORM     x scale bias stats -> y     a channel at a time
 *   GROUPNORM     x scale bias -> y           InstanceNormalization has a group a channel
 *   LRN           x -> y
 *   CONCAT        x0 x1 ... -> y              y is attr.axis; an input has its share of the axis
 *   SLICE         whole -> part               PLACE  part -> whole
 *   GATHER        data indices -> y
 *   SELECT        condition a b -> y          COMPARE  a [b] -> c (bool)
 *   REDUCE_MAX    x -> y                      attr.reduce; alpha -1: the least
 *   RESIZE        x -> y                      TRIANGLE  x -> y
 *   ATTENTION     q k v [mask] -> y [qk]
 *   CLASS_LOSS    x target [weights] -> loss weight   attr.class_loss; loss = -weights[class] * x at the class, weight =
 *                                             weights[class] or 1; both 0 where the class does not count. target i32
 *   LOSS          prediction [target] [weights] -> result    adds to result; FILE has no target
 *   LOSS_GRAD     prediction [target] [weights] -> gradient
 *   ACT_GRAD      dy [x or y] -> dx           y where acts.def says from_output, x otherwise; neither where f' is constant
 *   LINEAR_DX     dz w -> dx                  dx = alpha * dz . w'
 *   LINEAR_DW     dz x [sum] -> dw            dw = alpha * dz'x (laid out as w) + sum
 *   LAYERNORM_DX  dy x [scale] -> dx          statistics recomputed from x
 *   LAYERNORM_DP  dy x -> dscale [dbias]
 *   RMSNORM_DX    dy x [scale] -> dx          RMSNORM_DP  dy x -> dscale
 *   PAIR_GRAD     dc a b -> da (or db)        before it is summed over broadcast axes
 *   SOFTMAX_GRAD, LOGSOFTMAX_GRAD  dy y -> dx
 *   the other gradients                       as tapes.def says
 *   PLACE         dpart [sum] -> dwhole       SLICE's gradient, added to the sum
 *   ZERO          -> t
 *   SGD  w g -> w      MOMENTUM, NESTEROV, ADAGRAD  w g m -> w m      ADAM, ADAMW  w g m v -> w m v
 * CE and NLL targets are i32 class numbers, a negative one counts for nothing; soft CE, BCE and MSE targets are f32.
 */
#ifndef CKPT_OP_H
#define CKPT_OP_H

#include "graph/graph.h"

enum { CKPT_MATMUL = 1, CKPT_RANDOM = 2, CKPT_SPECIAL = 4 };

typedef struct ckpt_cost {
    uint64_t flops; /* multiply and add count as two */
    uint64_t bytes; /* each input read once, each output written once; ops that pick read what they pick */
} ckpt_cost;

struct ckpt_autodiff;

typedef struct ckpt_op_row {
    const char *name;
    unsigned flags;
    uint64_t inplace;
    ckpt_cost (*cost)(const ckpt_graph *graph, const ckpt_node *node);
    /* Appends the gradient nodes of forward node `node` and hands gradients to its inputs (autodiff.h). */
    ckpt_status (*gradient)(struct ckpt_autodiff *ad, int node, ckpt_error *err);
} ckpt_op_row;

const ckpt_op_row *ckpt_op_info(ckpt_op op);
ckpt_cost ckpt_node_cost(const ckpt_graph *graph, int node);

/* What the mean of a LOSS is over when all of it counts: rows, values or (FILE) samples. */
int64_t ckpt_loss_items(const ckpt_node *loss);
/* Whether its targets are i32 class numbers. */
bool ckpt_loss_takes_classes(const ckpt_node *loss);

/* The epilogue of a node that may drop, or NULL. */
const ckpt_epilogue *ckpt_node_epilogue(const ckpt_node *node);

/* The same slice with fewer axes: trailing ones that are taken whole are one with the axis before them. At least one. */
ckpt_slice_attr ckpt_slice_merged(const ckpt_slice_attr *slice);

/* What acts.def says. */
const char *ckpt_act_name(ckpt_act act);
bool ckpt_act_from_output(ckpt_act act);
int ckpt_act_flops(ckpt_act act);
bool ckpt_act_slope_is_constant(ckpt_act act);

#endif
