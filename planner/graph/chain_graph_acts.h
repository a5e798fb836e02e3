/* A training graph as acts on sets of forward tensors, for searches over what is there.
 *
 *     ckpt_graph_acts acts = {.graph = &graph, .costs = &costs, .alignment_bytes = 256};
 *     bool fits;
 *     ckpt_graph_acts_list(&acts, &fits, &err);     // fits: the graph is of this kind
 *     ckpt_pool_free(&acts.pool);
 *
 * The loss, the gradients and the updates are fixed: they run once each in the graph's order. Other forward
 * nodes run in any order and any number of times, and what they made may be dropped at any time. A set of
 * forward tensors is a number with a bit for each.
 */
#ifndef CKPT_CHAIN_GRAPH_ACTS_H
#define CKPT_CHAIN_GRAPH_ACTS_H

#include "base/pool.h"
#include "planner/core/costs.h"

/* A state of a search: 1 + the number of fixed nodes still to run in so many bits, and above them the set. */
enum { CKPT_ACTS_STEP_BITS = 12, CKPT_ACTS_TENSORS = 64 - CKPT_ACTS_STEP_BITS };

/* A node with what it reads and makes. */
typedef struct ckpt_graph_act {
    int node;
    uint64_t in, out, over; /* over: inputs that out[0] may be written over if they die */
    uint64_t out_bytes;     /* of all that it makes, as far as it is not written over what dies in any case */
    uint64_t over_bytes;    /* saved where it is written over one of `over` */
    uint64_t cost;          /* 0 of fixed nodes */
    int until;              /* forward: may run before this many fixed nodes have run */
} ckpt_graph_act;

typedef struct ckpt_graph_acts {
    const ckpt_graph *graph; /* not owned */
    const ckpt_costs *costs; /* not owned */
    uint64_t alignment_bytes;
    ckpt_pool pool; /* of all below */
    int forward_count, fixed_count, tensor_count;
    ckpt_graph_act *forward, *fixed; /* in the graph's order */
    int *bit;            /* by tensor: of the set; -1: not a forward tensor that may be made again */
    uint64_t *bytes;     /* by bit */
    uint64_t *useful;    /* by number of fixed nodes run: tensors of use to the rest */
    uint64_t *read;      /* the same: tensors that the rest of the fixed nodes reads itself */
    uint64_t *gradients; /* the same: bytes of what the fixed nodes made for later ones */
    uint64_t outputs;    /* there in the end */
    uint64_t cost;       /* of each forward node once */
} ckpt_graph_acts;

/* fits: false where a forward node reads what a fixed one made, or is of no use, and where there are more
 * than CKPT_ACTS_TENSORS or too many nodes. Errors: CKPT_NOMEM. */
ckpt_status ckpt_graph_acts_list(ckpt_graph_acts *acts, bool *fits, ckpt_error *err);

uint64_t ckpt_graph_acts_bytes(const ckpt_graph_acts *acts, uint64_t set);

/* Of making `wanted` from what is held: nodes that run once each. */
uint64_t ckpt_graph_acts_cost(const ckpt_graph_acts *acts, uint64_t held, uint64_t wanted);

#endif
