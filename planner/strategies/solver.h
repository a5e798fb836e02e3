/* The least recomputation of a training graph within a number of bytes, and the fewest bytes: what the strategies `budget` and
 * `min` ask for.
 *
 *     ckpt_solver *solver;
 *     ckpt_solver_open(&problem, &options, &solver, &err);
 *     ckpt_solver_solve(solver, step_bytes, true, &pool, &solution, &err);
 *     ckpt_solver_close(solver);
 *
 * Several sources fill one Pareto frontier of schedules: tables over the chain of stages and prices, both in a candidate order of
 * the backward pass (planner/core/order.h), and local search, which also changes the order. Small graphs are searched exactly over
 * all orders and schedules. All bytes here are live bytes of the step region; packing comes later.
 */
#ifndef CKPT_SOLVER_H
#define CKPT_SOLVER_H

#include "planner/core/problem.h"
#include "planner/core/schedule.h"
#include "planner/core/solver_options.h"

typedef struct ckpt_solver ckpt_solver;

typedef struct ckpt_solution {
    ckpt_schedule schedule;
    uint64_t recompute_cost;
    uint64_t needed_bytes;     /* at these the same schedule is found again: a smaller budget never gets a larger peak */
    uint64_t lower_bound_cost; /* of every schedule, in any order, within the bytes asked for */
    bool improved;             /* by a search */
} ckpt_solution;

/* Problem and options must outlive the result; options may be NULL. Errors: CKPT_NOMEM. */
ckpt_status ckpt_solver_open(const ckpt_problem *problem, const ckpt_solver_options *options, ckpt_solver **solver,
                             ckpt_error *err);

/* Adds a schedule, which is copied: no budget then recomputes more than it does in the same bytes. Before the first call of
 * the functions below. */
ckpt_status ckpt_solver_add(ckpt_solver *solver, const ckpt_schedule *schedule, ckpt_error *err);

/* The smallest live peak of the schedules known so far. */
ckpt_status ckpt_solver_smallest_bytes(ckpt_solver *solver, uint64_t *bytes, ckpt_error *err);

/* The smallest live peak for which a schedule is known, searched with bytes as the only objective, and a lower bound on it. Equal:
 * it is the smallest of all. The peak does not depend on the costs where a search finishes. */
ckpt_status ckpt_solver_least_bytes(ckpt_solver *solver, uint64_t *known, uint64_t *lower_bound, ckpt_error *err);

/* The smallest number of bytes above `step_bytes` at which less is recomputed without searches; UINT64_MAX: there is none. */
uint64_t ckpt_solver_next_bytes(ckpt_solver *solver, uint64_t step_bytes);

/* Least recomputation with at most step_bytes live. With `search` small graphs are searched (refine.h). With and without it
 * more bytes never cost more. The schedule is the pool's. CKPT_INFEASIBLE: no schedule is known. */
ckpt_status ckpt_solver_solve(ckpt_solver *solver, uint64_t step_bytes, bool search, ckpt_pool *pool, ckpt_solution *solution,
                              ckpt_error *err);

/* Another schedule for the same bytes and no higher cost, by a search that breaks ties otherwise; with any_cost one for as few
 * bytes, whatever it costs. *found is false where no search finishes. For schedules that do not pack. Errors: CKPT_NOMEM. */
ckpt_status ckpt_solver_vary(ckpt_solver *solver, uint64_t step_bytes, uint64_t cost, bool any_cost, int variant, ckpt_pool *pool,
                             ckpt_solution *solution, bool *found, ckpt_error *err);

void ckpt_solver_close(ckpt_solver *solver);

#endif
