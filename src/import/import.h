/* From ONNX nodes to graph nodes. Private to src/import: one function an operator, one row each in onnx_ops.def.
 *
 *     static ckpt_status import_foo(ckpt_import *im, const Onnx__NodeProto *node) {
 *         const ckpt_view *x;
 *         CKPT_TRY(ckpt_import_input(im, node, 0, &x));
 *         CKPT_TRY(ckpt_build_foo(&im->model->graph, node->name, x, &y, im->err));
 *         return ckpt_import_define(im, node, 0, &y);
 *     }
 *
 * A node that cannot be imported does not stop the import: its outputs remember why, and whoever needs one fails
 * with that message. So tails that the loss does not depend on (ArgMax, ZipMap) may hold anything.
 */
#ifndef CKPT_IMPORT_H
#define CKPT_IMPORT_H

#include "graph/build.h"
#include "import/model.h"
#include "import/parameters.h"
#include "proto/onnx_file.h"

/* Who reads a value. */
typedef enum ckpt_value_use {
    CKPT_USE_NONE,
    CKPT_USE_CLASS_WEIGHTS, /* nothing but losses, as weights of their classes, it or what is computed from it */
    CKPT_USE_OTHER
} ckpt_value_use;

/* What a name of the file stands for. */
typedef struct ckpt_value {
    const char *name;
    const Onnx__TensorProto *proto; /* an initializer or Constant: made a tensor when first used as one */
    bool is_constant_node, in_function;
    bool is_folded;      /* computed here from other constants and shapes */
    bool of_weight;      /* computed from what may be a parameter: a number with a view, whose node trains that */
    ckpt_view view;      /* tensor -1 until then */
    const ckpt_view *part; /* a sequence's tensors, or NULL */
    int part_count;
    const char *failure; /* why it cannot be computed, or NULL */
    ckpt_value_use use;  /* known before anything is imported */
    int order;           /* of its definition, from 1; 0: nothing has defined it yet */
} ckpt_value;

typedef struct ckpt_import {
    ckpt_model *model;
    const ckpt_model_options *options;
    int64_t opset;    /* where the node stands that is being imported */
    bool in_function; /* it comes out of a function's body */
    ckpt_pool *pool;  /* scratch */
    ckpt_value *value; /* one for each name, sorted: unlike a hash table, no choice of names makes it slow */
    size_t name_count;
    int defined_count, unsupported_count;
    const char *batch_name; /* how the file calls the batch dimension, or NULL */
    int64_t batch_fixed;    /* the size that the file gives it, or -1 */
    bool batch_known;
    int ruling_capacity;    /* of model->ruling */
    uint64_t folded_values; /* read and made by fold.c so far */
    ckpt_error *err;
} ckpt_import;

typedef ckpt_status (*ckpt_import_function)(ckpt_import *im, const Onnx__NodeProto *node);

/* Tensor input i as a view. Absent or failed: an error. */
ckpt_status ckpt_import_input(ckpt_import *im, const Onnx__NodeProto *node, size_t i, ckpt_view *view);
bool ckpt_import_has_input(const Onnx__NodeProto *node, size_t i);
bool ckpt_import_has_output(const Onnx__NodeProto *node, size_t i);

/* Input i as integers or as one float, known before anything runs. *values lives in the pool. */
ckpt_status ckpt_import_ints(ckpt_import *im, const Onnx__NodeProto *node, size_t i, int64_t **values, int *count);
ckpt_status ckpt_import_scalar(ckpt_import *im, const Onnx__NodeProto *node, size_t i, float *value);

ckpt_status ckpt_import_float_input(ckpt_import *im, const Onnx__NodeProto *node, size_t i, int most, float *values,
                                    int *count);
/* Up to `most` floats from an attribute, or from an input where that is absent. */
ckpt_status ckpt_import_float_list(ckpt_import *im, const Onnx__NodeProto *node, const char *name, size_t input, int most,
                               float *values, int *count);

/* What input i stands for, or NULL: an absent input, or one that cannot be computed. */
const ckpt_value *ckpt_import_value(const ckpt_import *im, const Onnx__NodeProto *node, size_t i);

/* What a node makes, where all of its inputs are known before anything runs. */
typedef struct ckpt_number {
    const Onnx__TensorProto *proto; /* lives as long as the graph; NULL: not known */
    bool of_weight;                 /* a float computed from what may be a parameter: the node is needed too, to train that */
} ckpt_number;

/* Computes the node's output now where it is known (fold.c). */
ckpt_status ckpt_import_fold(ckpt_import *im, const Onnx__NodeProto *node, ckpt_number *number);

/* Output i is `view`; an empty name is ignored. */
ckpt_status ckpt_import_define(ckpt_import *im, const Onnx__NodeProto *node, size_t i, const ckpt_view *view);

/* Output 0 is the sequence of these tensors, copied; input i is one. */
ckpt_status ckpt_import_define_sequence(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *parts, int count);
ckpt_status ckpt_import_sequence(ckpt_import *im, const Onnx__NodeProto *node, size_t i, const ckpt_view **parts, int *count);

/* Output i is the same value as input 0, constants included. */
ckpt_status ckpt_import_alias(ckpt_import *im, const Onnx__NodeProto *node, size_t i);

/* Output i is this tensor of the file. */
ckpt_status ckpt_import_constant(ckpt_import *im, const Onnx__NodeProto *node, const Onnx__TensorProto *proto);
/* The same for a tensor that was computed here; `proto` lives as long as the graph. */
ckpt_status ckpt_import_folded(ckpt_import *im, const Onnx__NodeProto *node, const Onnx__TensorProto *proto);
/* Output 0 is a constant of these dims with one value, which `proto` holds, everywhere. */
ckpt_status ckpt_import_uniform(ckpt_import *im, const Onnx__NodeProto *node, int rank, const int64_t *dims,
                                const Onnx__TensorProto *proto);

/* `count` numbers as a constant tensor of one dimension, copied. name: NULL is out of memory. */
ckpt_status ckpt_import_floats(ckpt_import *im, const char *name, const float *values, int64_t count, ckpt_view *view);

/* A running statistic: saved with the model, moved by the batches. False where the tensor has another role, or none that
 * the file could keep. */
bool ckpt_import_follow(ckpt_import *im, int tensor);

/* Whether input i may be a parameter, as far as the file and the user say (parameters.h). What may be one is never computed
 * with before anything runs. */
ckpt_status ckpt_import_trainable(ckpt_import *im, const Onnx__NodeProto *node, size_t i, ckpt_trainable *trainable);

/* Attributes. The defaults hold when the attribute is absent; one of another type is an error. */
ckpt_status ckpt_import_attr_int(ckpt_import *im, const Onnx__NodeProto *node, const char *name, int64_t absent,
                                 int64_t *value);
ckpt_status ckpt_import_attr_float(ckpt_import *im, const Onnx__NodeProto *node, const char *name, float absent,
                                   float *value);
ckpt_status ckpt_import_attr_ints(ckpt_import *im, const Onnx__NodeProto *node, const char *name,
                                  const int64_t **values, int *count); /* count -1 when absent */
ckpt_status ckpt_import_attr_string(ckpt_import *im, const Onnx__NodeProto *node, const char *name,
                                    const char *absent, const char **value); /* in the pool */
const Onnx__AttributeProto *ckpt_import_attr(const Onnx__NodeProto *node, const char *name);

/* Fails when the node has an attribute that is not in the comma-separated list. */
ckpt_status ckpt_import_attrs_known(ckpt_import *im, const Onnx__NodeProto *node, const char *list);

/* axis in [-rank, rank) to [0, rank); `end`: rank itself is allowed too. */
ckpt_status ckpt_import_axis(ckpt_import *im, int64_t axis, int rank, bool end, int *result);

/* Slicing one axis as numpy does: its first index and how many. */
ckpt_status ckpt_import_slice_range(ckpt_import *im, int64_t size, int64_t start, int64_t end, int64_t step, int64_t *first,
                                    int64_t *count);
/* What a Slice node takes of x. */
ckpt_status ckpt_import_slice(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *x, ckpt_slice_attr *slice);

/* The dims that a Reshape node gives x. */
ckpt_status ckpt_import_reshape(ckpt_import *im, const Onnx__NodeProto *node, const ckpt_view *x, ckpt_view *y);

/* The axes of a node: an attribute in older opsets, input 1 in newer ones; *count -1 when absent. */
ckpt_status ckpt_import_axes(ckpt_import *im, const Onnx__NodeProto *node, const int64_t **axes, int *count);

/* The row of an operator, or NULL. domain: "" is ONNX's own. */
ckpt_import_function ckpt_import_find(const char *domain, const char *op_type, const char **attributes);
/* "Add, Cast, ...": every operator in the table, for messages. */
const char *ckpt_import_operators(void);

/* Steps of ckpt_model_load: inputs, initializers, nodes, outputs. */
ckpt_status ckpt_import_run(ckpt_import *im);

#endif
