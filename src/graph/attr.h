/* The attributes of a node: which member holds is a matter of its op.
 *
 * A new op uses an attribute that fits, or gets one in the header of its family and a member here.
 */
#ifndef CKPT_ATTR_H
#define CKPT_ATTR_H

#include "graph/attr_attention.h"
#include "graph/attr_linear.h"
#include "graph/attr_loss.h"
#include "graph/attr_norm.h"
#include "graph/attr_pointwise.h"
#include "graph/attr_shape.h"
#include "graph/attr_update.h"
#include "graph/attr_window.h"

typedef union ckpt_attr {
    ckpt_linear_attr linear;
    ckpt_matmul_attr matmul;
    ckpt_window_attr window;
    ckpt_attention_attr attention;
    ckpt_norm_attr norm;
    ckpt_group_attr group;
    ckpt_lrn_attr lrn;
    ckpt_epilogue act;
    ckpt_binary_attr binary;
    ckpt_pair_attr pair;
    ckpt_compare_attr compare;
    ckpt_select_attr select;
    ckpt_axis_attr axis;
    ckpt_reduce_attr reduce;
    ckpt_transpose_attr transpose;
    ckpt_slice_attr slice;
    ckpt_gather_attr gather;
    ckpt_resize_attr resize;
    ckpt_triangle_attr triangle;
    ckpt_loss_attr loss;
    ckpt_class_loss_attr class_loss;
    ckpt_update_attr update;
} ckpt_attr;

#endif
