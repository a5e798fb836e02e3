/* Training graphs for the planner's tests, built by hand through the graph's own builders. */
#ifndef CKPT_PLAN_GRAPHS_H
#define CKPT_PLAN_GRAPHS_H

#include "graph/autodiff.h"
#include "planner/plan.h"

typedef enum plan_graph_kind {
    PLAN_GRAPH_MLP,       /* Linear + ReLU + dropout, fused: one tensor a layer */
    PLAN_GRAPH_GELU,      /* Linear, GELU: two tensors a layer */
    PLAN_GRAPH_RESIDUAL,  /* x + Linear(ReLU(Linear(x))) */
    PLAN_GRAPH_PRENORM,   /* x + Linear(GELU(Linear(LayerNorm(x)))) */
    PLAN_GRAPH_HOURGLASS, /* MLP of unequal widths */
    PLAN_GRAPH_TIED,      /* MLP whose layers share one weight */
    PLAN_GRAPH_KINDS
} plan_graph_kind;

typedef struct plan_graph_options {
    plan_graph_kind kind;
    int layers; /* linear nodes, at least 2; blocks of two for the residual kinds */
    int64_t width, batch;
    ckpt_optimizer optimizer;
    bool accumulate;
} plan_graph_options;

/* Aborts the test on failure. `eval` may be NULL. */
void plan_graph_make(const plan_graph_options *options, ckpt_graph *graph, ckpt_graph *eval);

/* memory.total of the plans that store all and that take least. `eval` may be NULL. */
void plan_graph_extremes(const ckpt_graph *graph, const ckpt_graph *eval, uint64_t *store_all, uint64_t *least);

/* Whether two plans run the same steps. */
bool plan_steps_equal(const ckpt_plan *a, const ckpt_plan *b);

extern const ckpt_traits plan_graph_traits; /* alignment 256, 4 KiB of workspace, two input buffers */

#endif
