/* Training graphs that are too large to be searched as a whole (chain_graph_exact.h): the cheapest schedule
 * for one number of bytes, as far as a search of so many states comes.
 *
 *     ckpt_graph_search *search;
 *     ckpt_graph_search_open(&graph, &costs, 256, &search, &err);           // NULL: too large, or not of
 * this kind ckpt_graph_search_find(search, bytes, below_cost, most_states, &pool, &result, &err);
 *     ckpt_graph_search_close(search);
 *
 * The schedules are those of chain_graph_exact.h, and the search is that of chain_search.h; what may be left
 * out of it, and what is still to come in any state, is in chain_graph_search.c.
 */
#ifndef CKPT_CHAIN_GRAPH_SEARCH_H
#define CKPT_CHAIN_GRAPH_SEARCH_H

#include "planner/core/schedule.h"

typedef struct ckpt_graph_search ckpt_graph_search;

typedef struct ckpt_graph_search_result {
    bool found; /* a schedule that recomputes least of all, and less than was asked */
    bool ended; /* before it was known whether there is one; otherwise there is none where none was found */
    ckpt_schedule schedule;
    uint64_t recompute_cost;   /* of the schedule */
    uint64_t needed_bytes;     /* its live peak: at most what was asked */
    uint64_t lower_bound_cost; /* no schedule recomputes less, if less than was asked at all */
    uint32_t states;
} ckpt_graph_search_result;

/* Graph and costs must outlive the result, which is NULL where there are more than CKPT_ACTS_TENSORS forward
 * tensors (chain_graph_acts.h). Errors: CKPT_NOMEM. */
ckpt_status ckpt_graph_search_open(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                   ckpt_graph_search **search, ckpt_error *err);

/* Of the schedules with at most step_bytes live that recompute less than below_cost. Ends when there are
 * most_states states. Work is counted, not timed; the schedule is in `pool`. Errors: CKPT_NOMEM. */
ckpt_status ckpt_graph_search_find(ckpt_graph_search *search, uint64_t step_bytes, uint64_t below_cost,
                                   uint32_t most_states, ckpt_pool *pool, ckpt_graph_search_result *result,
                                   ckpt_error *err);

void ckpt_graph_search_close(ckpt_graph_search *search);

#endif
