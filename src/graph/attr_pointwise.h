/* Attributes of element functions: ACT, KEEP_MASK, BINARY, PAIR, COMPARE, SELECT. */
#ifndef CKPT_ATTR_POINTWISE_H
#define CKPT_ATTR_POINTWISE_H

#include "graph/tensor.h"

/* Element functions y = f(x); acts.def has their formulas. */
typedef enum ckpt_act {
#define X(ID, ...) CKPT_ACT_##ID,
#include "graph/acts.def"
#undef X
    CKPT_ACT_COUNT
} ckpt_act;

/* Who draws a dropout's random numbers: Philox, counted by stream, step and element; or numpy's legacy generator, seeded
 * anew for each mask, as ONNX's reference implementation does (runtime/numpy_random.h). */
typedef enum ckpt_drop_rng { CKPT_DROP_PHILOX, CKPT_DROP_ONNX_REF } ckpt_drop_rng;

/* What follows a product or stands alone: y = dropout(act(x)). */
typedef struct ckpt_epilogue {
    ckpt_act act;
    float alpha, beta; /* the act's constants */
    float drop;        /* 0: no dropout; else each element is zeroed with this probability, others divided by 1 - drop */
    ckpt_drop_rng rng;
    uint32_t stream;   /* number of the random node (design section 6); ONNX_REF: its seed */
} ckpt_epilogue;

typedef enum ckpt_binary { CKPT_BINARY_ADD, CKPT_BINARY_SUB, CKPT_BINARY_MUL, CKPT_BINARY_DIV } ckpt_binary;

/* c = a op b over the output's dims, adjacent dims merged where both operands allow; a stride of 0 broadcasts. */
typedef struct ckpt_binary_attr {
    ckpt_binary kind;
    int rank;
    int64_t dim[CKPT_MAX_RANK], stride_a[CKPT_MAX_RANK], stride_b[CKPT_MAX_RANK];
} ckpt_binary_attr;

/* Element functions of two tensors that need a gradient of their own. */
typedef enum ckpt_pair { CKPT_PAIR_MAX, CKPT_PAIR_MIN, CKPT_PAIR_POW } ckpt_pair;

typedef struct ckpt_pair_attr {
    ckpt_pair kind;
    bool second;               /* PAIR_GRAD: with respect to b */
    ckpt_binary_attr geometry; /* its own kind is not used */
} ckpt_pair_attr;

typedef enum ckpt_compare {
    CKPT_COMPARE_EQUAL, CKPT_COMPARE_LESS, CKPT_COMPARE_LESS_EQUAL, CKPT_COMPARE_GREATER, CKPT_COMPARE_GREATER_EQUAL,
    CKPT_COMPARE_AND, CKPT_COMPARE_OR, CKPT_COMPARE_XOR, CKPT_COMPARE_NOT
} ckpt_compare;

typedef struct ckpt_compare_attr {
    ckpt_compare kind;
    ckpt_binary_attr geometry; /* its own kind is not used */
} ckpt_compare_attr;

/* y = condition ? a : b; strides of the three in this order, 0 where broadcast. */
typedef struct ckpt_select_attr {
    int rank;
    int64_t dim[CKPT_MAX_RANK], stride[3][CKPT_MAX_RANK];
} ckpt_select_attr;

#endif
