/* Training graphs that a fuzz target plans for, small enough to be run. */
#ifndef CKPT_FUZZ_GRAPH_H
#define CKPT_FUZZ_GRAPH_H

#include "graph/build.h"

enum { FUZZ_GRAPHS = 4 };

/* kind 0: two layers; 1: six with residual sums, normalization and GELU; 2: dropout; 3: gradients of micro-batches. Both
 * graphs are made here, and the caller's. */
void fuzz_graph_make(int kind, ckpt_graph *training, ckpt_graph *evaluation);

/* A parameter of width numbers, or of width by width. */
ckpt_view fuzz_graph_weight(ckpt_graph *graph, int rank, int64_t width);

#endif
