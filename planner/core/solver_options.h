/* Techniques of the planner's solvers, each with a switch.
 *
 *     ckpt_solver_options options = {.without_prices = true};
 *
 * All zeroes: every technique is used, as users get them. The switches are for bench/plan_ablation, which measures what each
 * technique is worth, and for tests, which compare every combination with exhaustive search.
 */
#ifndef CKPT_SOLVER_OPTIONS_H
#define CKPT_SOLVER_OPTIONS_H

#include <stdbool.h>

/* X(name, what it does) */
#define CKPT_SOLVER_TECHNIQUES(X)                                                                                        \
    X(orders, "orders of the backward pass other than autodiff's")                                                       \
    X(search, "exact search (A*) over orders and schedules of small graphs")                                             \
    X(tables, "dynamic programming over the chain of stages")                                                            \
    X(modes, "several sets of saved activations per stage in those tables")                                              \
    X(eviction, "tables that evict part of a stage early")                                                               \
    X(prices, "Lagrangian prices: a minimum cut per price vector")                                                       \
    X(moves, "local search on whole schedules")                                                                          \
    X(restarts, "local search from several seeds")                                                                       \
    X(cuts, "minimum cuts in the bound of one time step, beside its knapsack")                                           \
    X(spine, "bound by the heaviest path of the graph as a chain")

typedef struct ckpt_solver_options {
#define X(name, text) bool without_##name;
    CKPT_SOLVER_TECHNIQUES(X)
#undef X
} ckpt_solver_options;

#endif
