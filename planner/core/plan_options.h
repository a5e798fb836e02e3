/* Which plan to make: a strategy with what it asks for. */
#ifndef CKPT_PLAN_OPTIONS_H
#define CKPT_PLAN_OPTIONS_H

#include "graph/graph.h"
#include "planner/core/costs.h"
#include "planner/core/solver_options.h"

/* X(ID, name, text for --help). ckpt_strategy_NAME in a strategy*.c makes the schedule (strategy.h). */
#define CKPT_STRATEGY_LIST(X)                                                                                \
    X(NONE, none, "keep every activation")                                                                   \
    X(SQRT, sqrt, "checkpoint every ceil(sqrt(L))-th layer (Chen et al. 2016)")                              \
    X(EVERY, every, "checkpoint every K-th layer (--every K)")                                               \
    X(LAYERS, layers, "recompute exactly the layers of --layers LIST")                                       \
    X(SELECTIVE, selective, "recompute cheap nodes only, no matrix products")                                \
    X(BUDGET, budget, "least recomputation under --budget SIZE")                                             \
    X(MIN, min, "smallest peak")
typedef enum ckpt_strategy {
#define X(ID, name, text) CKPT_STRATEGY_##ID,
    CKPT_STRATEGY_LIST(X)
#undef X
    CKPT_STRATEGY_COUNT
} ckpt_strategy;

typedef struct ckpt_plan_options {
    ckpt_strategy strategy;
    int every;                 /* EVERY: K >= 1 */
    const char *layers;        /* LAYERS: comma-separated names, globs, 0-based indices and ranges: "fc1,3,5-7" */
    uint64_t budget_bytes;     /* BUDGET: for memory.total */
    const ckpt_graph *eval;    /* forward-only graph whose step region must fit too, or NULL */
    const ckpt_costs *costs;   /* of the graph's nodes: what is minimized; NULL: FLOPs */
    const ckpt_solver_options *solver; /* BUDGET, MIN; NULL: every technique */
} ckpt_plan_options;

/* "sqrt" -> CKPT_STRATEGY_SQRT; false when unknown. */
bool ckpt_strategy_parse(const char *name, ckpt_strategy *strategy);
const char *ckpt_strategy_name(ckpt_strategy strategy);

#endif
