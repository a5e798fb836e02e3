/* Small training graphs, by parts and at random, for tests that compare with exhaustive search. Failures end the test.
 *
 *     graphs_seed(17);
 *     graphs_series_parallel(&graph);
 *     uint64_t cost = ckpt_graph_oracle(&graph, graphs_costs(&graph), GRAPHS_ALIGNMENT, bytes);
 *     ckpt_graph_free(&graph);
 */
#ifndef CKPT_RANDOM_GRAPHS_H
#define CKPT_RANDOM_GRAPHS_H

#include "graph/autodiff.h"
#include "graph/build.h"
#include "planner/core/costs.h"
#include "planner/core/schedule.h"

enum { GRAPHS_ALIGNMENT = 64 };

void graphs_seed(uint64_t seed); /* not 0 */
int graphs_between(int low, int high);

/* A graph begins with its input (batch x width) and ends with a loss and its backward pass; in between *x becomes what is made
 * from it. */
ckpt_view graphs_input(ckpt_graph *g, int64_t batch, int64_t width);
void graphs_linear(ckpt_graph *g, ckpt_act act, int64_t out, ckpt_view *x);
void graphs_gelu(ckpt_graph *g, ckpt_view *x);
void graphs_residual(ckpt_graph *g, int64_t inner, bool normed, ckpt_view *x);
void graphs_finish(ckpt_graph *g, const ckpt_view *x, ckpt_optimizer optimizer, bool accumulate);

/* Whole ones; `i` chooses the optimizer. Several outputs: of a node, read early, late or by no other node. */
void graphs_mlp(int i, ckpt_graph *g);
void graphs_residual_mlp(int blocks, ckpt_graph *g);
void graphs_series_parallel(ckpt_graph *g);
void graphs_several_outputs(ckpt_graph *g);

/* Any: nodes that read any earlier tensors, so branches and skips that no series-parallel graph has; tied weights, norms, some with
 * running statistics, dropout. At most `nodes` forward nodes and the loss. */
void graphs_branching(int nodes, bool accumulate, ckpt_graph *g);
/* Linear nodes in a row, some with an act of its own behind them: at most `stages` forward nodes and the loss. */
void graphs_chain(int stages, bool accumulate, ckpt_graph *g);

extern bool graphs_priced; /* costs are no FLOPs, but times that have nothing to do with them */

/* Good until the next call. */
const ckpt_costs *graphs_costs(const ckpt_graph *g);

/* Most live bytes of a schedule that runs every node, and what it recomputes. */
uint64_t graphs_peak(const ckpt_graph *g, const ckpt_schedule *schedule, uint64_t *recomputed);

#endif
