/* What a plan computes, by running it on symbols: the independent judge of the checker's tests. */
#ifndef CKPT_PLAN_ORACLE_H
#define CKPT_PLAN_ORACLE_H

#include "planner/plan.h"

/* Runs two micro-batches on a memory of cells, each holding a number that stands for what was computed there,
 * and hashes what all tensors that outlive the step hold in the end. Two programs that compute the same from
 * the same have the same value; reading a cell that something else has written over changes it. */
uint64_t plan_oracle_run(const ckpt_graph *graph, const ckpt_plan *plan);

/* The value of the graph itself: its nodes in their order, every tensor in memory of its own. */
uint64_t plan_oracle_truth(const ckpt_graph *graph);

#endif
