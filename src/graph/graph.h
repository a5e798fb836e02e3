/* The graph: nodes and tensors by integer id, in plain arrays, nodes in an order that can be run.
 *
 * One type serves all of the way from the imported forward computation to the training graph:
 *
 *     ckpt_graph graph = {0};
 *     // import fills in the forward nodes, ckpt_loss_attach the loss, ckpt_autodiff_run the rest
 *     for (int n = 0; n < graph.node_count; n++) run(&graph.node[n]);   // one training step, nothing dropped
 *     ckpt_graph_free(&graph);
 *
 * A tensor whose role is CKPT_ROLE_STEP is made anew in every step by exactly one node; a planner may drop
 * it and list that node again. All other tensors live as long as training does, at one address; a node that
 * writes one has an effect, and runs exactly once a step.
 */
#ifndef CKPT_GRAPH_H
#define CKPT_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"

enum { CKPT_MAX_RANK = 8, CKPT_MAX_IN = 64, CKPT_MAX_OUT = 4, CKPT_MAX_SPATIAL = 3, CKPT_MAX_TARGETS = 8 };

/* X(name, bytes of an element) */
#define CKPT_DTYPE_LIST(X) X(F32, 4) X(F64, 8) X(I32, 4) X(I64, 8) X(BOOL, 1) X(F16, 2) X(BF16, 2)
typedef enum ckpt_dtype {
#define X(name, bytes) CKPT_##name,
    CKPT_DTYPE_LIST(X)
#undef X
} ckpt_dtype;

typedef enum ckpt_role {
    CKPT_ROLE_STEP,     /* made in a step: an activation, a gradient; packed into the arena by the plan */
    CKPT_ROLE_INPUT,    /* a batch input, filled before the step */
    CKPT_ROLE_TARGET,   /* what the loss compares with, filled before the step */
    CKPT_ROLE_PARAM,    /* trained */
    CKPT_ROLE_CONST,    /* from the file, not trained */
    CKPT_ROLE_STATISTIC, /* from the file and saved with it: a running mean that follows the batches, no gradient */
    CKPT_ROLE_STATE,    /* optimizer state, zero at first */
    CKPT_ROLE_GRADSUM,  /* a gradient summed over micro-batches */
    CKPT_ROLE_RESULT    /* f64[2]: sum of the mean losses, number of correct rows; summed over micro-batches */
} ckpt_role;

typedef struct ckpt_tensor {
    const char *name;
    ckpt_dtype dtype;
    ckpt_role role;
    int rank;
    int64_t dim[CKPT_MAX_RANK];
    int64_t count;      /* product of dim: checked when the tensor is made */
    int producer;       /* node that makes a STEP tensor, else -1 */
    int owner;          /* GRADSUM, STATE: the parameter it belongs to; otherwise -1 */
    const void *source; /* PARAM, CONST, STATISTIC: the TensorProto that holds the values, one for all where it has one; or NULL */
    const void *data;   /* CONST: values held in the graph's own pool (dtype's layout), or NULL */
} ckpt_tensor;

/* Element functions y = f(x); acts.def has their formulas. */
typedef enum ckpt_act {
#define X(ID, name, from_output, costly) CKPT_ACT_##ID,
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
/* Element functions of two tensors that need a gradient of their own. */
typedef enum ckpt_pair { CKPT_PAIR_MAX, CKPT_PAIR_MIN, CKPT_PAIR_POW } ckpt_pair;
typedef enum ckpt_loss { CKPT_LOSS_NONE, CKPT_LOSS_CE, CKPT_LOSS_BCE, CKPT_LOSS_MSE, CKPT_LOSS_NLL, CKPT_LOSS_FILE } ckpt_loss;

/* y[rows][out] = epilogue(alpha * x[rows][in] . w + beta * b[out]); w is [out][in] if trans_w, else [in][out].
 * The same for its gradient nodes. */
typedef struct ckpt_linear_attr {
    int64_t rows, in_features, out_features;
    bool trans_w;
    float alpha, beta;
    ckpt_epilogue epilogue;
} ckpt_linear_attr;

/* c[i] = alpha * op(a[i]) . op(b[i]) over a batch of matrices; stride_* count matrices, 0 where broadcast. */
typedef struct ckpt_matmul_attr {
    int64_t m, n, k;
    bool trans_a, trans_b;
    float alpha;
    int batch_rank;
    int64_t batch_dim[CKPT_MAX_RANK], stride_a[CKPT_MAX_RANK], stride_b[CKPT_MAX_RANK];
} ckpt_matmul_attr;

/* c = a op b over the output's dims, adjacent dims merged where both operands allow; a stride of 0 broadcasts. */
typedef struct ckpt_binary_attr {
    ckpt_binary kind;
    int rank;
    int64_t dim[CKPT_MAX_RANK], stride_a[CKPT_MAX_RANK], stride_b[CKPT_MAX_RANK];
} ckpt_binary_attr;

/* y = alpha * sum of x over the axes whose bit is not in keep; adjacent like axes are merged. */
typedef struct ckpt_reduce_attr {
    int rank;
    int64_t dim[CKPT_MAX_RANK];
    uint32_t keep; /* bit i: dim[i] stays */
    float alpha;
} ckpt_reduce_attr;

/* y has dims dim[perm[0]], dim[perm[1]], ... */
typedef struct ckpt_transpose_attr {
    int rank;
    int64_t dim[CKPT_MAX_RANK];
    int perm[CKPT_MAX_RANK];
} ckpt_transpose_attr;

/* Windows over up to three axes behind the batch and the channels, where the larger of two tensors (Conv's and the
 * pools' input, ConvTranspose's output) lies in `dense` and the smaller in `coarse`: output o of a Conv reads
 * dense[o * stride + tap * dilation - before]. */
typedef struct ckpt_window_attr {
    int axes;
    int64_t batch, in_channels, out_channels, groups;
    int64_t dense[CKPT_MAX_SPATIAL], coarse[CKPT_MAX_SPATIAL];
    int64_t kernel[CKPT_MAX_SPATIAL], stride[CKPT_MAX_SPATIAL], dilation[CKPT_MAX_SPATIAL], before[CKPT_MAX_SPATIAL];
    bool count_padding; /* AveragePool: what lies outside counts as a zero */
    uint64_t flops;
} ckpt_window_attr;

typedef enum ckpt_fill { CKPT_FILL_CONSTANT, CKPT_FILL_REFLECT, CKPT_FILL_EDGE, CKPT_FILL_WRAP } ckpt_fill;

/* part[i] is whole[start + i * step] along each axis. PLACE fills the rest of the whole with `value`, or with the part's
 * own values seen again; SLICE with such a fill adds them up again. */
typedef struct ckpt_slice_attr {
    int rank;
    int64_t whole[CKPT_MAX_RANK], part[CKPT_MAX_RANK], start[CKPT_MAX_RANK], step[CKPT_MAX_RANK];
    ckpt_fill fill;
    float value;
} ckpt_slice_attr;

/* y = condition ? a : b; strides of the three in this order, 0 where broadcast. */
typedef struct ckpt_select_attr {
    int rank;
    int64_t dim[CKPT_MAX_RANK], stride[3][CKPT_MAX_RANK];
} ckpt_select_attr;

typedef enum ckpt_compare {
    CKPT_COMPARE_EQUAL, CKPT_COMPARE_LESS, CKPT_COMPARE_LESS_EQUAL, CKPT_COMPARE_GREATER, CKPT_COMPARE_GREATER_EQUAL,
    CKPT_COMPARE_AND, CKPT_COMPARE_OR, CKPT_COMPARE_XOR, CKPT_COMPARE_NOT
} ckpt_compare;

/* ONNX Attention: `heads` queries share kv_heads keys and values; head_in and head_out are the sizes of a head of the
 * keys and of the values. packed: the heads of the queries,
 * packed_keys: those of keys and values, lie beside each other in a row (3-D inputs). */
typedef struct ckpt_attention_attr {
    int64_t batch, heads, kv_heads, queries, keys, head_in, head_out;
    float scale, softcap;
    bool causal, packed, packed_keys;
} ckpt_attention_attr;

typedef enum ckpt_resize { CKPT_RESIZE_NEAREST, CKPT_RESIZE_LINEAR, CKPT_RESIZE_CUBIC } ckpt_resize;

typedef union ckpt_attr {
    ckpt_linear_attr linear;
    ckpt_matmul_attr matmul;
    ckpt_binary_attr binary;
    ckpt_epilogue act;
    struct {
        int64_t rows, cols;
        float epsilon;
    } norm;
    struct {
        int64_t outer, axis, inner;
    } axis;
    ckpt_transpose_attr transpose;
    ckpt_reduce_attr reduce;
    ckpt_window_attr window;
    ckpt_slice_attr slice;
    ckpt_select_attr select;
    ckpt_attention_attr attention;
    struct {
        ckpt_compare kind;
        ckpt_binary_attr geometry; /* its own kind is not used */
    } compare;
    struct {
        int64_t outer, axis, inner; /* of the data; each index takes `inner` values, an outer at a time */
        int64_t picks;
    } gather;
    struct {
        int64_t batch, channels, groups, inner; /* scale and bias are a channel's, statistics a group's */
        float epsilon, momentum;
    } group;
    struct {
        ckpt_pair kind;
        bool second;               /* PAIR_GRAD: with respect to b */
        ckpt_binary_attr geometry; /* its own kind is not used */
    } pair;
    struct {
        int64_t outer, classes, inner; /* of x; a target for each outer and inner */
        int64_t ignore;                /* this class counts for nothing, as negative ones do */
    } class_loss;
    struct {
        int64_t batch, channels, inner, size;
        float alpha, beta, bias;
    } lrn;
    struct {
        int rank;
        int64_t from[CKPT_MAX_RANK], to[CKPT_MAX_RANK];
        ckpt_resize mode;
    } resize;
    struct {
        int64_t outer, rows, cols, diagonal;
        bool upper;
    } triangle;
    struct {
        ckpt_loss kind;
        int64_t outer, classes, inner; /* CE, NLL: of the prediction, whose rows are outer * inner. BCE, MSE: outer * inner values,
                                          an outer a sample; FILE: an outer a sample. There classes is 1 */
        bool soft;       /* CE: the target is f32, a probability a class, instead of i32 */
        float smoothing; /* CE */
        float scale;     /* of this loss in the sum of all */
        bool sum;        /* FILE: the file's loss is a sum over the samples, not a mean */
        int term;        /* its number: of ckpt_scalars.denominator */
    } loss;
    struct {
        float beta1, beta2, epsilon, weight_decay, momentum;
    } update;
} ckpt_attr;

/* One row of ops.def each. */
typedef enum ckpt_op {
#define X(ID, ...) CKPT_OP_##ID,
#include "graph/ops.def"
#undef X
    CKPT_OP_COUNT
} ckpt_op;

typedef enum ckpt_phase { CKPT_FORWARD, CKPT_BACKWARD, CKPT_UPDATE } ckpt_phase;

/* With micro-batches a step runs its nodes several times over: these tell which. */
typedef enum ckpt_when { CKPT_ALWAYS, CKPT_FIRST_MICRO, CKPT_LAST_MICRO } ckpt_when;

typedef struct ckpt_node {
    ckpt_op op;
    ckpt_phase phase;
    ckpt_when when;
    const char *name; /* the file's name for it, or one made from its op; unique among forward nodes */
    const char *origin; /* forward: the file's node that it comes from, as messages name it, or NULL; shared by copies */
    int layer;        /* index into layer[], -1 where it belongs to none; gradient nodes have their forward node's */
    int in_count, out_count;
    int in[CKPT_MAX_IN]; /* tensor ids; an optional input that is absent at the end is not counted, inside is -1 */
    int out[CKPT_MAX_OUT];
    ckpt_attr attr;
} ckpt_node;

/* A linear node and the cheap nodes that follow it, up to the next; what a user names in --layers. */
typedef struct ckpt_layer {
    const char *name; /* of its linear node */
    int linear;       /* the node, or -1 for a first layer without one */
    int output;       /* the last tensor that the layer makes */
} ckpt_layer;

typedef struct ckpt_graph {
    ckpt_pool pool; /* owns everything below */
    const char *path;
    int tensor_count, tensor_capacity;
    ckpt_tensor *tensor;
    int node_count, node_capacity;
    ckpt_node *node;
    int layer_count;
    ckpt_layer *layer;
    int input_count, *input;   /* tensor ids, in the file's order */
    int output_count, *output; /* tensors that are the file's outputs, in its order */
    int64_t batch;             /* samples in a (micro-)batch */
    int target_count, target[CKPT_MAX_TARGETS]; /* tensor ids, in the order of the losses */
    int result;                /* tensor id, -1 before ckpt_loss_attach */
    uint32_t stream_count;     /* random nodes so far */
    int forward_count;         /* nodes [0, forward_count) are the forward pass and the loss */
    char hash[65];             /* SHA-256 of the structure: ops, attributes, shapes */
} ckpt_graph;

/* Appends a tensor with dims[rank]; its id, or -1 with `err` set (dimensions below 0, a count or byte size
 * beyond 2^62, memory). `name` is copied; NULL or "" makes one up. */
int ckpt_graph_add_tensor(ckpt_graph *graph, const char *name, ckpt_dtype dtype, ckpt_role role, int rank,
                          const int64_t *dims, ckpt_error *err);

/* Appends a node reading in[in_count] and writing out[out_count] (-1: absent); its id, or -1 when memory runs
 * out. Sets the producers of STEP outputs. `name` may be NULL. attr starts as zeroes. */
int ckpt_graph_add_node(ckpt_graph *graph, ckpt_op op, ckpt_phase phase, const char *name, int in_count,
                        const int *in, int out_count, const int *out, ckpt_error *err);

/* Drops the nodes that `keep` marks false, renumbers producers. Tensors keep their ids. */
void ckpt_graph_filter(ckpt_graph *graph, const bool *keep);

/* A copy with its own pool; `source` and the file behind it are shared. */
ckpt_status ckpt_graph_copy(const ckpt_graph *graph, ckpt_graph *copy, ckpt_error *err);

/* Fills node.layer, layer[] from the order of forward nodes, and hash. */
ckpt_status ckpt_graph_find_layers(ckpt_graph *graph, ckpt_error *err);
void ckpt_graph_compute_hash(ckpt_graph *graph);

uint64_t ckpt_dtype_bytes(ckpt_dtype dtype);
const char *ckpt_dtype_name(ckpt_dtype dtype);
uint64_t ckpt_tensor_bytes(const ckpt_tensor *tensor);
/* Whether training changes it and the model is saved with it: PARAM and STATISTIC. */
bool ckpt_tensor_is_saved(const ckpt_tensor *tensor);
bool ckpt_tensor_is_step(const ckpt_graph *graph, int tensor);
/* True when the node writes a tensor that outlives the step. */
bool ckpt_node_has_effect(const ckpt_graph *graph, int node);
/* Whether a node must run when the nodes behind it need the tensors in `needed`: it makes one of them, or has an effect.
 * A running statistic follows what others need, and is no reason by itself. */
bool ckpt_node_must_run(const ckpt_graph *graph, int node, const bool *needed);
/* "batch x 64 x 8" style text for messages and tables: "[64,8]". */
const char *ckpt_shape_text(const ckpt_tensor *tensor, char text[128]);

void ckpt_graph_free(ckpt_graph *graph);

#endif
