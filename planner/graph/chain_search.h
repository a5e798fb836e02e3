/* Exhaustive search over what is resident: the cheapest way from one state to another under a number of bytes.
 *
 *     ckpt_search search = {.problem = &mine, .expand = expand, .least_ahead = least_ahead,
 *                           .start = start, .budget_bytes = budget};
 *     ckpt_search_run(&search, &err);        // search.found, .cost, .needed_bytes
 *     for (int i = 0; i < search.act_count; i++) ... search.act[i] ...
 *     ckpt_search_free(&search);
 *
 * A state is a number of the caller's; 0 is where every search ends. expand() calls ckpt_search_reach for each
 * state one act away. Hart, Nilsson and Raphael's A* (1968) on (cost, bytes) in lexicographic order: a part of a
 * cheapest way is a cheapest way itself, so that of all cheapest ways the one that needs least is found.
 * least_ahead() is a cost that is still to come for certain, and never falls by more than an act costs. Used by
 * chain_exact.c, chain_graph_exact.c and chain_graph_search.c.
 */
#ifndef CKPT_CHAIN_SEARCH_H
#define CKPT_CHAIN_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct ckpt_search ckpt_search;

struct ckpt_search {
    const void *problem;
    void (*expand)(ckpt_search *search, uint64_t state);
    uint64_t (*least_ahead)(const void *problem, uint64_t state);
    uint64_t start; /* not 0 */
    uint64_t budget_bytes;
    uint64_t below_cost;  /* only ways that cost less are sought; 0: all */
    uint32_t most_states; /* there is no room for more: the search ends with what is known by then; 0: any number */
    bool least_bytes; /* the way that needs least is sought instead, whatever it costs */

    uint64_t note; /* for expand(): that of the way to its state */

    bool found, ended; /* ended: by most_states; not found otherwise: there is no such way */
    uint64_t cost;     /* ended: no way costs less, if less than below_cost */
    uint64_t needed_bytes;
    int act_count;
    uint32_t *act; /* from start to end */

    struct ckpt_search_node *node; /* inside chain_search.c */
    uint32_t node_count, node_capacity, now;
    uint32_t *slot, slot_count;
    struct ckpt_search_entry *heap;
    uint32_t heap_count, heap_capacity;
    bool out_of_memory;
};

/* From expand() only: `state` is one act away, at `cost` more and with `bytes` at most meanwhile. An act of 0
 * leaves no trace in act[]. */
void ckpt_search_reach(ckpt_search *search, uint64_t state, uint64_t cost, uint64_t bytes, uint32_t act);

/* The same with a note, which stays with the state as long as no better way to it is found. */
void ckpt_search_reach_noting(ckpt_search *search, uint64_t state, uint64_t cost, uint64_t bytes, uint32_t act, uint64_t note);

/* From expand() only: whether no way that goes on over `state`, at `cost` more, is of interest for below_cost. */
bool ckpt_search_hopeless(const ckpt_search *search, uint64_t state, uint64_t cost);

/* Deterministic. Errors: CKPT_NOMEM. */
ckpt_status ckpt_search_run(ckpt_search *search, ckpt_error *err);

void ckpt_search_free(ckpt_search *search);

#endif
