/* Exact search over orders and schedules of a small training graph.
 *
 *     ckpt_search *search;
 *     ckpt_search_open(&problem, &search, &err);                // NULL: too large, or not of this kind
 *     ckpt_search_cheapest(search, step_bytes, below_cost, most_states, &pool, &result, &err);
 *     ckpt_search_close(search);
 *
 * Every order of the fixed nodes that the dependencies allow, and every way to drop and recompute, is in the space
 * (search_space.h). Work is counted in states and not timed, so that an answer does not depend on the machine.
 */
#ifndef CKPT_SEARCH_H
#define CKPT_SEARCH_H

#include "planner/core/problem.h"
#include "planner/core/schedule.h"

typedef struct ckpt_search ckpt_search;

typedef struct ckpt_search_result {
    bool found;    /* a schedule as asked for */
    bool complete; /* if none was found, there is none */
    ckpt_schedule schedule;
    uint64_t recompute_cost;   /* of the schedule */
    uint64_t peak_bytes;       /* its live peak: at most step_bytes */
    uint64_t lower_bound_cost; /* ckpt_search_cheapest: no schedule recomputes less, if less than below_cost at all */
    uint32_t states;
} ckpt_search_result;

/* The problem must outlive the result. Errors: CKPT_NOMEM. */
ckpt_status ckpt_search_open(const ckpt_problem *problem, ckpt_search **search, ckpt_error *err);

/* Forward tensors that may be held or made again: what the space grows with. */
int ckpt_search_tensors(const ckpt_search *search);

/* Of equally good schedules a search finds one. Other variants break ties otherwise: one of their schedules may pack where that
 * of variant 0 does not. Holds for the searches that follow. */
void ckpt_search_vary(ckpt_search *search, int variant);

/* The schedule that recomputes least of those that keep at most step_bytes live and recompute less than below_cost. Gives up
 * at most_states states: !found and !complete. The schedule is the pool's. Errors: CKPT_NOMEM. */
ckpt_status ckpt_search_cheapest(ckpt_search *search, uint64_t step_bytes, uint64_t below_cost, uint32_t most_states,
                                 ckpt_pool *pool, ckpt_search_result *result, ckpt_error *err);

/* Any schedule that keeps at most step_bytes live. Does not depend on costs. */
ckpt_status ckpt_search_feasible(ckpt_search *search, uint64_t step_bytes, uint32_t most_states, ckpt_pool *pool,
                                 ckpt_search_result *result, ckpt_error *err);

void ckpt_search_close(ckpt_search *search);

#endif
