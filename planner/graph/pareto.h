/* The Pareto frontier of schedules: for every number of bytes the cheapest schedule that heuristics know.
 *
 *     ckpt_pareto frontier = ckpt_pareto_of(&problem);
 *     ckpt_pareto_add(&frontier, &schedule, &err);                              // by rule, or from anywhere
 *     ckpt_pareto_fill(&frontier, &order, &stages, tables, &options, &err);     // tables and prices in one order
 *     ckpt_pareto_shrink(&frontier, &options, &err);                            // local search for fewer bytes
 *     ckpt_pareto_improve(&frontier, &options, &err);                           // and for less recomputation
 *     const ckpt_pareto_point *p = ckpt_pareto_find(&frontier, budget);
 *     ckpt_pareto_free(&frontier);
 *
 * Every schedule is judged by its replay (replay.h) and nothing else. So branches, long skips and tensors that many read are
 * like any other, and so is every order of the backward pass. The frontier does not depend on any budget: a larger one
 * never finds less. Work is counted, not timed.
 */
#ifndef CKPT_PARETO_H
#define CKPT_PARETO_H

#include "planner/core/order.h"
#include "planner/core/replay.h"
#include "planner/core/solver_options.h"
#include "planner/graph/stages.h"

typedef struct ckpt_pareto_point {
    uint64_t bytes, cost; /* live peak; recomputed */
    bool pinned;          /* dropped only when dominated, not for want of space */
    ckpt_schedule schedule;
} ckpt_pareto_point;

typedef struct ckpt_pareto {
    const ckpt_problem *problem; /* not owned */
    uint64_t work;               /* steps replayed so far */
    uint64_t most_improving;     /* that ckpt_pareto_improve may add, as the graphs filled in need; 0: none */
    ckpt_replay replay;          /* of ckpt_pareto_add */
    int count, capacity;
    ckpt_pareto_point *point; /* bytes ascend, costs descend */
} ckpt_pareto;

ckpt_pareto ckpt_pareto_of(const ckpt_problem *problem);

/* Adds a copy of a schedule of the problem's graph, in any order, unless a point dominates it; points that it dominates
 * go. CKPT_FAILED: it reads what it has not made. Errors: CKPT_NOMEM. */
ckpt_status ckpt_pareto_add(ckpt_pareto *frontier, const ckpt_schedule *schedule, ckpt_error *err);

/* Adds schedules of one order: the tables' over their whole range (NULL: none), and those that prices choose. `stages` are
 * those of the order's view. The frontier must have a point. Errors: CKPT_NOMEM. */
ckpt_status ckpt_pareto_fill(ckpt_pareto *frontier, const ckpt_order *order, const ckpt_stages *stages,
                             ckpt_chain_tables *tables, const ckpt_solver_options *options, ckpt_error *err);

/* Local search for less recomputation, from points all over the frontier. Errors: CKPT_NOMEM. */
ckpt_status ckpt_pareto_improve(ckpt_pareto *frontier, const ckpt_solver_options *options, ckpt_error *err);

/* Local search for the fewest bytes, whatever they cost: moves are chosen without a look at costs. It starts with the schedules
 * that ckpt_pareto_add gave and those of the fewest bytes. What it finds is the first point then, and does not depend on the
 * costs but by the schedules that it starts with. Errors: CKPT_NOMEM. */
ckpt_status ckpt_pareto_shrink(ckpt_pareto *frontier, const ckpt_solver_options *options, ckpt_error *err);

/* The last point of at most `bytes`, or NULL; the first one above. */
const ckpt_pareto_point *ckpt_pareto_find(const ckpt_pareto *frontier, uint64_t bytes);
const ckpt_pareto_point *ckpt_pareto_above(const ckpt_pareto *frontier, uint64_t bytes);

void ckpt_pareto_free(ckpt_pareto *frontier);

/* Below: between pareto.c, prices.c and moves.c. */

/* The same as ckpt_pareto_add for a list that has been replayed. It must be no longer than `capacity` allows. */
ckpt_status ckpt_pareto_insert(ckpt_pareto *frontier, const int *node, int count, uint64_t bytes, uint64_t cost, bool pinned,
                               ckpt_error *err);

/* Which tensors prices may not choose about, and what is retained once it is made again. */
typedef struct ckpt_retention {
    const bool *kept;  /* by tensor: from the forward pass in any case */
    const bool *stays; /* by tensor: once made again, until its last read. NULL: all do */
    const int *part;   /* by node of the view: equal where backward nodes share what is made again (schedule.h) */
} ckpt_retention;

/* Adds schedules that prices choose, for targets over the frontier's whole range. `view` is the problem in that order. Ends
 * when `work` has reached most_work. */
ckpt_status ckpt_pareto_add_priced(ckpt_pareto *frontier, const ckpt_problem *view, const ckpt_order *order,
                                   const ckpt_retention *retention, uint64_t most_work, ckpt_error *err);

#endif
