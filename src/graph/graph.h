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

#include "base/pool.h"
#include "base/status.h"
#include "graph/attr.h"
#include "graph/tensor.h"

enum { CKPT_MAX_IN = 64, CKPT_MAX_OUT = 4, CKPT_MAX_TARGETS = 8 };

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

bool ckpt_tensor_is_step(const ckpt_graph *graph, int tensor);
/* True when the node writes a tensor that outlives the step. */
bool ckpt_node_has_effect(const ckpt_graph *graph, int node);
/* Whether a node must run when the nodes behind it need the tensors in `needed`: it makes one of them, or has an effect.
 * A running statistic follows what others need, and is no reason by itself. */
bool ckpt_node_must_run(const ckpt_graph *graph, int node, const bool *needed);

void ckpt_graph_free(ckpt_graph *graph);

#endif
