/* Building forward nodes: one function an op, which is the op's shape rule.
 *
 * Tensors lie dense in row-major order, so reshaping is only another way to see one: a ckpt_view is a tensor
 * with a shape of the moment, and Reshape, Flatten, Squeeze, Unsqueeze and Identity make no node at all.
 *
 *     ckpt_view y;
 *     ckpt_build_linear(&graph, "fc1", &x, &w, b, &attr, &y, &err);
 *
 * Every function appends a node named `name` and stores the view of its output. Errors: CKPT_MODEL when the
 * shapes or types do not fit, without the node's name in front (the importer adds it); CKPT_NOMEM.
 */
#ifndef CKPT_BUILD_H
#define CKPT_BUILD_H

#include "graph/graph.h"

typedef struct ckpt_view {
    int tensor;
    int rank;
    int64_t dim[CKPT_MAX_RANK];
} ckpt_view;

ckpt_view ckpt_view_of(const ckpt_graph *graph, int tensor);
int64_t ckpt_view_count(const ckpt_view *view);

/* x (..., in) . w + b -> (..., out). w is 2-D; attr gives trans_w, alpha, beta; the rest is filled in. b: -1 or a
 * tensor of out values. */
ckpt_status ckpt_build_linear(ckpt_graph *graph, const char *name, const ckpt_view *x, const ckpt_view *w, int b,
                              const ckpt_linear_attr *attr, ckpt_view *y, ckpt_error *err);

/* ONNX MatMul: numpy.matmul's rules, 1-D operands included. */
ckpt_status ckpt_build_matmul(ckpt_graph *graph, const char *name, const ckpt_view *a, const ckpt_view *b,
                              ckpt_view *c, ckpt_error *err);

/* ONNX multidirectional broadcasting. */
ckpt_status ckpt_build_binary(ckpt_graph *graph, const char *name, ckpt_binary kind, const ckpt_view *a,
                              const ckpt_view *b, ckpt_view *c, ckpt_error *err);

ckpt_status ckpt_build_act(ckpt_graph *graph, const char *name, const ckpt_epilogue *epilogue, const ckpt_view *x,
                           ckpt_view *y, ckpt_error *err);

/* bool mask of the kept elements of a dropout with this epilogue. */
ckpt_status ckpt_build_keep_mask(ckpt_graph *graph, const char *name, const ckpt_epilogue *epilogue,
                                 const ckpt_view *like, ckpt_view *mask, ckpt_error *err);

/* Rows over the axes [axis, rank) divided by their root mean square; scale: -1 or a tensor of that many values. */
ckpt_status ckpt_build_rmsnorm(ckpt_graph *graph, const char *name, const ckpt_view *x, int scale, int axis,
                               float epsilon, ckpt_view *y, ckpt_error *err);

/* Over the axes [axis, rank); scale and bias: -1 or tensors of that many values. stats: NULL, or the views of
 * mean and inverse standard deviation that the node then makes as well. */
ckpt_status ckpt_build_layernorm(ckpt_graph *graph, const char *name, const ckpt_view *x, int scale, int bias,
                                 int axis, float epsilon, ckpt_view *y, ckpt_view stats[2], ckpt_error *err);

/* op: CKPT_OP_SOFTMAX or CKPT_OP_LOGSOFTMAX, over the axes [axis, axis + axes). */
ckpt_status ckpt_build_softmax(ckpt_graph *graph, const char *name, ckpt_op op, const ckpt_view *x, int axis,
                               int axes, ckpt_view *y, ckpt_error *err);

ckpt_status ckpt_build_transpose(ckpt_graph *graph, const char *name, const ckpt_view *x, const int *perm,
                                 ckpt_view *y, ckpt_error *err);

/* Sums, or means, over the axes whose bit is set in `axes`; those stay as 1 with keep_dims, else they go. f32. */
ckpt_status ckpt_build_reduce(ckpt_graph *graph, const char *name, const ckpt_view *x, uint32_t axes, bool keep_dims,
                              bool mean, ckpt_view *y, ckpt_error *err);

ckpt_status ckpt_build_cast(ckpt_graph *graph, const char *name, const ckpt_view *x, ckpt_dtype to, ckpt_view *y,
                            ckpt_error *err);

/* Broadcasting to y's dims, which must be filled in; ckpt_build_reduce undoes it. f32. */
ckpt_status ckpt_build_expand(ckpt_graph *graph, const char *name, const ckpt_view *x, ckpt_view *y, ckpt_error *err);

/* The largest values over axes, as in ckpt_build_reduce; or the least. */
ckpt_status ckpt_build_reduce_max(ckpt_graph *graph, const char *name, const ckpt_view *x, uint32_t axes, bool keep_dims,
                                  bool least, ckpt_view *y, ckpt_error *err);

/* x (batch, in_channels, ...), w (out, in / groups, kernel...) or transposed (in, out / groups, kernel...). `window` has
 * axes, groups, kernel, stride, dilation, before, dense and coarse; the rest is filled in. b: -1 or a channel's bias. */
ckpt_status ckpt_build_conv(ckpt_graph *graph, const char *name, const ckpt_view *x, const ckpt_view *w, int b,
                            const ckpt_window_attr *window, bool transposed, ckpt_view *y, ckpt_error *err);

/* op: CKPT_OP_MAXPOOL or CKPT_OP_AVGPOOL. indices: NULL, or the view of MaxPool's second output. */
ckpt_status ckpt_build_pool(ckpt_graph *graph, const char *name, ckpt_op op, const ckpt_view *x,
                            const ckpt_window_attr *window, ckpt_view *y, ckpt_view *indices, ckpt_error *err);

/* x (batch, channels, ...); statistics over a group's channels and all further axes. */
ckpt_status ckpt_build_groupnorm(ckpt_graph *graph, const char *name, const ckpt_view *x, int scale, int bias, int64_t groups,
                                 float epsilon, ckpt_view *y, ckpt_error *err);

/* The same over the batch and all axes behind the channels; running: mean and variance, a value a channel each. training:
 * by the batch's statistics, and the running ones are moved by them: in place where they are STATISTIC tensors, else into
 * new tensors. moved: NULL, or then their views. */
ckpt_status ckpt_build_batchnorm(ckpt_graph *graph, const char *name, const ckpt_view *x, int scale, int bias,
                                 const int running[2], float epsilon, float momentum, bool training, ckpt_view *y,
                                 ckpt_view moved[2], ckpt_error *err);

/* Max, Min or Pow with multidirectional broadcasting; both of one type. */
ckpt_status ckpt_build_pair(ckpt_graph *graph, const char *name, ckpt_pair kind, const ckpt_view *a, const ckpt_view *b,
                            ckpt_view *c, ckpt_error *err);

/* x (batch, classes, ...), target (batch, ...) i32, weights: -1 or a value a class. loss: a value a target, weight: what
 * it counts in a mean. */
ckpt_status ckpt_build_class_loss(ckpt_graph *graph, const char *name, const ckpt_view *x, const ckpt_view *target,
                                  int weights, int64_t ignore, ckpt_view *loss, ckpt_view *weight, ckpt_error *err);

/* slice->rank, part, whole, start and step are filled in. */
ckpt_status ckpt_build_slice(ckpt_graph *graph, const char *name, const ckpt_slice_attr *slice, const ckpt_view *whole,
                             ckpt_view *part, ckpt_error *err);
ckpt_status ckpt_build_place(ckpt_graph *graph, const char *name, const ckpt_slice_attr *slice, const ckpt_view *part,
                             ckpt_view *whole, ckpt_error *err);
ckpt_status ckpt_build_concat(ckpt_graph *graph, const char *name, int count, const ckpt_view *x, int axis, ckpt_view *y,
                              ckpt_error *err);
ckpt_status ckpt_build_gather(ckpt_graph *graph, const char *name, const ckpt_view *data, const ckpt_view *indices, int axis,
                              ckpt_view *y, ckpt_error *err);

/* operand: condition, a, b; broadcast to each other. */
ckpt_status ckpt_build_select(ckpt_graph *graph, const char *name, const ckpt_view operand[3], ckpt_view *y, ckpt_error *err);
/* CKPT_COMPARE_NOT: give a twice. */
ckpt_status ckpt_build_compare(ckpt_graph *graph, const char *name, ckpt_compare kind, const ckpt_view *a, const ckpt_view *b,
                               ckpt_view *c, ckpt_error *err);

/* To y's dims, which must be filled in. */
ckpt_status ckpt_build_resize(ckpt_graph *graph, const char *name, ckpt_resize mode, const ckpt_view *x, ckpt_view *y,
                              ckpt_error *err);

/* in: q, k, v and a mask or -1; y's dims must be filled in. weights: NULL, or the view of what the softmax is of. */
ckpt_status ckpt_build_attention(ckpt_graph *graph, const char *name, const ckpt_attention_attr *attention, const int in[4],
                                 ckpt_view *y, ckpt_view *weights, ckpt_error *err);

/* What the functions above end with: the node and its output of y's dims; one more output of the newest node. */
ckpt_status ckpt_build_node(ckpt_graph *graph, const char *name, ckpt_op op, const ckpt_attr *attr, int in_count,
                            const int *in, ckpt_dtype dtype, ckpt_view *y, ckpt_error *err);
ckpt_status ckpt_build_output(ckpt_graph *graph, ckpt_dtype dtype, const ckpt_view *like, ckpt_view *out, ckpt_error *err);

/* Broadcasting geometry of a op b: fills attr (dims merged) and the output shape. CKPT_MODEL: not broadcastable. */
ckpt_status ckpt_broadcast(const ckpt_view *a, const ckpt_view *b, ckpt_binary_attr *attr, ckpt_view *out,
                           ckpt_error *err);

/* One loss of those that a model is trained with the sum of. The mean is over what counts in the whole batch: CE and NLL:
 * the weights of the rows' classes, ignored rows (a negative class) left out; CE on soft targets: rows; BCE and MSE:
 * values. Weights, smoothing and soft targets mean what they do in PyTorch's cross_entropy. */
typedef struct ckpt_loss_term {
    ckpt_loss kind;  /* CE, NLL, BCE or MSE */
    int class_axis;  /* CE, NLL: axis of the prediction with the classes, behind the batch's */
    bool soft;       /* CE: the target is f32 probabilities of the prediction's shape */
    float smoothing; /* CE: in [0, 1) */
    int weights;     /* CE, NLL: tensor of f32, a weight a class, of role CONST; or -1 */
    float scale;     /* of this loss in the sum */
} ckpt_loss_term;

/* A term without weights, smoothing and scale; classes along the last axis of the prediction. */
ckpt_loss_term ckpt_loss_term_of(ckpt_loss kind, const ckpt_view *prediction);

/* A loss on `prediction` (a float tensor seen as view): adds its target and a LOSS node that adds scale times its mean to
 * the result, which the first call makes and clears. The forward pass ends behind the last one. */
ckpt_status ckpt_loss_attach(ckpt_graph *graph, const ckpt_loss_term *term, const ckpt_view *prediction, ckpt_error *err);
/* The same for a loss that the graph computes itself: one number, a mean or a sum over the samples. With micro-batches the
 * step's loss is the mean of theirs, each by its share of samples, or their sum. */
ckpt_status ckpt_loss_attach_own(ckpt_graph *graph, int value, bool sum, float scale, ckpt_error *err);
/* Makes a tensor of the graph one of its targets: the labels of a loss that the graph computes. */
ckpt_status ckpt_loss_add_target(ckpt_graph *graph, int tensor, ckpt_error *err);

#endif
