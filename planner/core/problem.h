/* What every solver of the planner asks of a training graph, found once.
 *
 *     ckpt_problem problem;
 *     ckpt_problem_open(&graph, &costs, 256, &pool, &problem, &err);
 *     uint64_t bytes = problem.bytes[tensor];
 *     for (int i = problem.before_first[n]; i < problem.before_first[n + 1]; i++) use(problem.before[i]);
 *
 * A node is recomputable when it may run more than once: a forward node that is no loss and writes nothing
 * that outlives the step. All others are fixed and run exactly once. Autodiff's order of nodes is one
 * topological order of many; the dependencies here are those of every order that the checker accepts:
 *
 *   - a node runs after the producers of the STEP tensors that it reads;
 *   - accesses to a tensor that outlives the step keep the graph's order wherever one of them writes. So the
 *     contributions to one gradient sum are added in one order, and a parameter is updated after its last
 * reader.
 *
 * A recomputation has to see the same versions as the first run: see ckpt_problem.expires.
 */
#ifndef CKPT_PROBLEM_H
#define CKPT_PROBLEM_H

#include "base/pool.h"
#include "graph/graph.h"
#include "planner/core/costs.h"

typedef struct ckpt_problem {
    const ckpt_graph *graph; /* not owned, as the costs */
    const ckpt_costs *costs;
    uint64_t alignment_bytes;
    uint64_t *bytes;     /* by tensor: aligned size of a STEP tensor; 0 of one that outlives the step */
    bool *recomputable;  /* by node */
    uint64_t *overwrite; /* by node: inputs, as bits, whose buffer out[0] may take over if they die there */
    /* Direct dependencies, in compressed rows, each row in ascending order and without repeats. */
    int *before_first, *before; /* node n runs after before[before_first[n] .. before_first[n + 1]) */
    int *after_first, *after;   /* and before these */
    /* A recomputable node must not run again once any node of expires[expires_first[n] .. expires_first[n +
     * 1]) has run: it writes a tensor that n reads. */
    int *expires_first, *expires;
} ckpt_problem;

/* All arrays are the pool's. Graph and costs must outlive the problem. Errors: CKPT_NOMEM. */
ckpt_status ckpt_problem_open(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                              ckpt_pool *pool, ckpt_problem *problem, ckpt_error *err);

/* Aligned size of a STEP tensor, 0 of others. */
uint64_t ckpt_step_bytes(const ckpt_graph *graph, int tensor, uint64_t alignment_bytes);

/* Inputs of the node, as bits, whose buffer out[0] may take over if their lifetime ends there: those that the
 * op allows (ops.def), of the same size, and not read through another input that the op does not allow. */
uint64_t ckpt_overwrite_candidates(const ckpt_graph *graph, int node);

/* A forward node that is no loss and writes nothing that outlives the step. */
bool ckpt_node_is_recomputable(const ckpt_graph *graph, int node);

#endif
