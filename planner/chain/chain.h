/* Chains of stages: which outputs to keep and which to recompute under a memory budget.
 *
 *     ckpt_chain chain = {.stage_count = L, .stage = stage};          // stage[1..L]; stage[0] is not read
 *     ckpt_chain_tables *tables;
 *     ckpt_chain_tables_build(&chain, &(ckpt_chain_limits){0}, &tables, &err);
 *     uint64_t least = ckpt_chain_least_bytes(tables);
 *     ckpt_chain_solve(tables, budget, &pool, &program, &err);        // program.cost, program.needed_bytes
 *     ckpt_chain_tables_free(tables);
 *
 * Stage k makes x_k from x_{k-1}; x_0 outlives the step. The backward of stage k turns the gradient of x_k into the gradient
 * of x_{k-1}. It reads x_{k-1} and, if needs_output is set, x_k. x_L becomes its own gradient as soon as it exists. table.c
 * describes the dynamic program, which schedules it covers, and its sources.
 */
#ifndef CKPT_CHAIN_H
#define CKPT_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"

#define CKPT_CHAIN_NEVER UINT64_MAX /* as a cost or a number of bytes: this cannot run */

/* A mode: which internal activations of a stage are saved. Bytes include everything that the stage itself holds. */
typedef struct ckpt_chain_option {
    uint64_t kept_bytes;           /* saved activations, held from the forward run to the backward */
    uint64_t forward_bytes[2];     /* peak of that forward run: [0] beyond x_{k-1}, which stays; [1] including x_{k-1}, which
                                      dies (and may be overwritten) */
    uint64_t recompute_cost[2];    /* of recomputation inside the backward: [1] if x_k is present, [0] if it is not */
    uint64_t backward_bytes[2][2]; /* peak of the backward beyond x_{k-1}: [x_k is present][x_{k-1} may die] */
    uint64_t early_bytes[2];       /* peak of its early part: [x_k is present]; CKPT_CHAIN_NEVER if that cannot run */
} ckpt_chain_option;

typedef struct ckpt_chain_stage {
    uint64_t out_bytes, gradient_bytes; /* of x_k and of its gradient */
    uint64_t forward_cost;
    bool needs_output;               /* if not set, no backward takes less because x_k is present */
    int option_count;
    bool early;                      /* the backward begins with an early part, which does not read x_{k-1} */
    const ckpt_chain_option *option; /* [0] saves nothing. With `early` there is one more, [option_count]: the rest of the
                                        backward after the early part. Its kept_bytes are what then replaces the gradient, beyond
                                        the gradient's size */
    int kind;                        /* stages of the same kind are equal in all of the above */
} ckpt_chain_stage;

typedef struct ckpt_chain {
    int stage_count;
    const ckpt_chain_stage *stage; /* [1, stage_count] */
} ckpt_chain;

/* The number of its options, the early one included. */
static inline int ckpt_chain_options(const ckpt_chain_stage *stage) {
    return stage->option_count + stage->early;
}

static inline bool ckpt_chain_is_early(const ckpt_chain_stage *stage, int option) {
    return stage->early && option == stage->option_count;
}

/* The number of distinct runs of consecutive stages, which the size of the tables grows with: for blocks of b stages that
 * repeat about b per stage. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_count_runs(const ckpt_chain *chain, uint64_t *runs, ckpt_error *err);

typedef struct ckpt_chain_limits {
    int slots;       /* one table with this many slots of memory; 0: chosen by the size of the chain */
    bool all_splits; /* every split of every run is tried (see split.c), to measure what the restriction loses */
} ckpt_chain_limits;

typedef enum ckpt_chain_act { CKPT_CHAIN_FORWARD, CKPT_CHAIN_BACKWARD, CKPT_CHAIN_EARLY } ckpt_chain_act;

typedef struct ckpt_chain_step {
    ckpt_chain_act act;
    int stage;
    int option;      /* FORWARD: the mode of the run; BACKWARD: the mode it runs in; EARLY: the mode of the saved activations */
    bool has_output; /* BACKWARD, EARLY: x_k is present */
} ckpt_chain_step;

typedef struct ckpt_chain_program {
    int count, capacity;
    ckpt_chain_step *step;
    uint64_t cost;         /* of all forward runs, the first ones included, and of recomputation inside backwards */
    uint64_t needed_bytes; /* peak */
} ckpt_chain_program;

typedef struct ckpt_chain_tables ckpt_chain_tables;

/* The chain must outlive the tables, which the caller frees. Takes up to a second or two for 1,000 stages. Errors:
 * CKPT_NOMEM. */
ckpt_status ckpt_chain_tables_build(const ckpt_chain *chain, const ckpt_chain_limits *limits, ckpt_chain_tables **tables,
                                    ckpt_error *err);
void ckpt_chain_tables_free(ckpt_chain_tables *tables);

/* The smallest budget that has a program, and the smallest at which nothing is recomputed. Both are exact. */
uint64_t ckpt_chain_least_bytes(const ckpt_chain_tables *tables);
uint64_t ckpt_chain_most_bytes(const ckpt_chain_tables *tables);

/* The cheapest known program within `budget_bytes`: a point of a Pareto frontier that does not depend on the budget, so that a
 * smaller budget never has a larger peak or a lower cost. Memory comes from `pool`. Errors: CKPT_INFEASIBLE below
 * ckpt_chain_least_bytes, CKPT_NOMEM. */
ckpt_status ckpt_chain_solve(const ckpt_chain_tables *tables, uint64_t budget_bytes, ckpt_pool *pool,
                             ckpt_chain_program *program, ckpt_error *err);

/* The smallest budget above `budget_bytes` at which ckpt_chain_solve's cost changes; UINT64_MAX if there is none. */
uint64_t ckpt_chain_next_bytes(const ckpt_chain_tables *tables, uint64_t budget_bytes);

/* A lower bound on the cost of every schedule within budget_bytes, whatever it keeps, evicts and recomputes (price.c). `cost`:
 * of a program within budget_bytes, or CKPT_CHAIN_NEVER; a bound that reaches it is not improved further. Needs no tables.
 * Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_lower_bound(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, uint64_t *bound,
                                   ckpt_error *err);

/* The part of that bound that counts forward runs beyond the first of each stage, by Revolve's closed form. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_bound_by_count(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t *recompute_cost, ckpt_error *err);

#endif
