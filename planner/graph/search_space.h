/* A training graph as a space to search: states, and the nodes that lead from one to the next.
 *
 *     ckpt_space space;
 *     bool fits;
 *     ckpt_space_open(&problem, &space, &fits, &err);   // fits: small enough, and of this kind
 *     ckpt_space_close(&space);
 *
 * A state is what has run and what is held. Fixed nodes (problem.h) run once each, in any order that the dependencies
 * allow: the set of those that have run is the progress, interned under a number. Recomputable nodes run in any order, as
 * often as pays; what they make is held in any combination, a bit for each tensor. What fixed nodes make lives from there
 * to its last reader, so that the progress alone says what of it is live.
 */
#ifndef CKPT_SEARCH_SPACE_H
#define CKPT_SEARCH_SPACE_H

#include "planner/core/problem.h"

enum { CKPT_SPACE_TENSORS = 64, CKPT_SPACE_WORDS = 4, CKPT_SPACE_FIXED = 64 * CKPT_SPACE_WORDS };

/* A set of fixed nodes. */
typedef struct ckpt_fixed_set {
    uint64_t word[CKPT_SPACE_WORDS];
} ckpt_fixed_set;

/* A node with what it reads and makes. Sets of forward tensors, and of recomputable nodes, are bits of a word. */
typedef struct ckpt_space_node {
    int node;                /* of the graph */
    uint64_t in, out;        /* forward tensors */
    uint64_t overwrite;      /* of `in`: out[0] may take the buffer over if it dies there */
    uint64_t out_bytes;      /* of all that it makes */
    uint64_t overwrite_bytes; /* of out[0], which are saved where it takes over a buffer */
    uint64_t cost;           /* recomputable: of one run */
    /* fixed: */
    ckpt_fixed_set before;   /* direct dependencies */
    ckpt_fixed_set ancestors; /* direct and indirect ones, itself included */
    uint64_t expires;        /* recomputable nodes that must not run again after it */
    int own_in_count, own_in[CKPT_MAX_IN]; /* what fixed nodes made, in own[], without repeats */
    uint64_t own_overwrite;  /* of own_in, as bits: out[0] may take the buffer over */
    int own_out_count, own_out[CKPT_MAX_OUT];
} ckpt_space_node;

/* A tensor that a fixed node makes. */
typedef struct ckpt_own_tensor {
    uint64_t bytes;
    bool output; /* of the graph: lives to the end */
    ckpt_fixed_set readers;
} ckpt_own_tensor;

/* What follows from the fixed nodes that have run. */
typedef struct ckpt_progress {
    ckpt_fixed_set done, ready; /* ready: all that they depend on is done */
    int count;         /* of done */
    uint64_t read;     /* forward tensors that the other fixed nodes read */
    uint64_t useful;   /* those, and what they can still be made from */
    uint64_t expired;  /* recomputable nodes that must not run again */
    uint64_t own_bytes; /* live of what fixed nodes made */
} ckpt_progress;

typedef struct ckpt_space {
    const ckpt_problem *problem;
    ckpt_pool pool;
    int forward_count, fixed_count, tensor_count, own_count;
    ckpt_space_node *forward, *fixed; /* in the graph's order */
    ckpt_own_tensor *own;
    uint64_t bytes[CKPT_SPACE_TENSORS];
    int maker[CKPT_SPACE_TENSORS];        /* in forward[] */
    uint64_t readers[CKPT_SPACE_TENSORS]; /* recomputable nodes */
    uint64_t outputs;                     /* held in the end */
    uint64_t first_cost;                  /* of every recomputable node once */
    /* Interned progress: number 0 is none, number 1 the start. */
    ckpt_progress *progress;
    uint32_t progress_count, progress_capacity, *slot, slot_count;
} ckpt_space;

/* fits: false where there are more forward tensors or fixed nodes than a set can hold, where a recomputable node reads what a
 * fixed one made, or where nothing reads what it makes. Errors: CKPT_NOMEM. */
ckpt_status ckpt_space_open(const ckpt_problem *problem, ckpt_space *space, bool *fits, ckpt_error *err);

/* The number of what follows when fixed node f runs after progress `from`; 0: no memory. Pointers into progress[] do not
 * outlive the call. */
uint32_t ckpt_space_advance(ckpt_space *space, uint32_t from, int f);

/* Live bytes of what fixed nodes made once f has run after `at`, and whether out[0] of f takes over a buffer of theirs. */
uint64_t ckpt_space_own_bytes_after(const ckpt_space *space, const ckpt_progress *at, int f, bool *overwrites);

uint64_t ckpt_space_bytes(const ckpt_space *space, uint64_t tensors);

static inline bool ckpt_fixed_has(const ckpt_fixed_set *set, int f) { return set->word[f / 64] >> (f % 64) & 1; }
static inline void ckpt_fixed_add(ckpt_fixed_set *set, int f) { set->word[f / 64] |= UINT64_C(1) << (f % 64); }

void ckpt_space_close(ckpt_space *space);

#endif
