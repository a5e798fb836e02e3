/* Chains of stages: how much to keep and what to run again, under a number of bytes.
 *
 *     ckpt_chain chain = {.stage_count = L, .stage = stage};          // stage[1..L]; stage[0] is not read
 *     ckpt_chain_tables *tables;
 *     ckpt_chain_tables_build(&chain, &(ckpt_chain_limits){0}, &tables, &err);
 *     uint64_t least = ckpt_chain_least_bytes(tables);
 *     ckpt_chain_solve(tables, budget, &pool, &program, &err);        // program.cost, program.needed_bytes
 *     ckpt_chain_tables_free(tables);
 *
 * Stage k makes x_k from x_{k-1}; x_0 outlives the step. Its backward turns the gradient of x_k into that of
 * x_{k-1}; it reads x_{k-1}, and x_k where needs_output says so. x_L becomes its own gradient as soon as it
 * is there. The model is that of Griewank and Walther's Revolve (ACM TOMS 26(1), 2000) with sizes, transients
 * and internals of each stage as in Beaumont et al., "Optimal checkpointing for heterogeneous chains" (2019);
 * unlike theirs, a checkpoint may be given up before the stage that made it is reached (function R in
 * chain.c). What a backward does before it reads x_{k-1} may run early (function R of the early option): x_k and internals
 * are then out of the way while x_{k-1} is made again.
 *
 * The tables give the least cost among schedules that hold a checkpoint, once
 * kept, until the backward of the stage that reads it. Against all schedules of random chains of up to 7
 * stages that is the optimum in 97% of cases (96 to 98 by the kind of chain and the range of budgets), and the
 * smallest feasible budget is found; but for a few chains in 10,000 whose backward does not read every output,
 * where a checkpoint has to move to a later stage on the way. The tables' costs are exact in this sense where
 * the bytes fall on few slots (ckpt_chain_is_exact), nearly so elsewhere; the smallest budget never depends on
 * slots, and what a program is said to need and to cost is always exact.
 *
 * Of long runs of stages only splits near those of the neighbouring runs are tried (chain_window.h), which loses nothing where
 * blocks repeat and next to nothing elsewhere. Repeated blocks share functions: there are as many as a block has stages, times
 * lengths; long chains of them have tables for budgets that differ by a factor of four, the larger ones of short runs only, as
 * large budgets have no use for others. Where few stages are equal, tables of all splits are for small budgets only (of several hundred stages for none),
 * and tables with more slots hold the splits of schedules that are nearly cheapest when memory has a price (chain_bound.h):
 * one in a hundred. Lower bounds need no tables.
 */
#ifndef CKPT_CHAIN_H
#define CKPT_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"

#define CKPT_CHAIN_NEVER UINT64_MAX /* as recompute_cost: this backward cannot run so */

/* A way to treat what lies inside a stage. The bytes include all that the stage holds. */
typedef struct ckpt_chain_option {
    uint64_t kept_bytes;        /* internals held from a forward run to the backward */
    uint64_t forward_bytes[2];  /* most at once in such a run: [0] beyond x_{k-1}, which stays; [1] with
                                   x_{k-1}  counted, which dies (and may be written over) */
    uint64_t recompute_cost[2]; /* in the backward: [1] when x_k is still there, [0] when it is not */
    uint64_t
        backward_bytes[2][2]; /* most at once in the backward, beyond x_{k-1}: [x_k there][x_{k-1} may die] */
    uint64_t early_bytes[2];  /* most at once in its early part: [x_k there]; CKPT_CHAIN_NEVER where that cannot run */
} ckpt_chain_option;

typedef struct ckpt_chain_stage {
    uint64_t out_bytes, gradient_bytes; /* of x_k and of its gradient */
    uint64_t forward_cost;
    bool needs_output;               /* without: a backward takes no less where x_k is there */
    int option_count;
    bool early;                      /* the backward has an early part, which does not read x_{k-1} */
    const ckpt_chain_option *option; /* [0] keeps nothing; with early one more: what is left of the backward behind the early
                                        part, where kept_bytes is what there is instead of the gradient, beyond its bytes */
    int kind;                        /* stages of equal kind are equal in all of the above */
} ckpt_chain_stage;

typedef struct ckpt_chain {
    int stage_count;
    const ckpt_chain_stage *stage; /* [1, stage_count] */
} ckpt_chain;

/* Its options, the early one among them, and the number of that one. */
static inline int ckpt_chain_options(const ckpt_chain_stage *stage) {
    return stage->option_count + stage->early;
}

static inline bool ckpt_chain_is_early(const ckpt_chain_stage *stage, int option) {
    return stage->early && option == stage->option_count;
}

/* How many runs of stages differ from one another: what tables grow with. Of blocks of b stages again and again about b for
 * each stage. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_count_runs(const ckpt_chain *chain, uint64_t *runs, ckpt_error *err);

typedef struct ckpt_chain_limits {
    int slots;          /* of memory, at most; 0: chosen by the chain's length */
    bool all_splits;    /* of long runs too (chain_window.h): only to show what is lost otherwise */
} ckpt_chain_limits;

typedef enum ckpt_chain_act { CKPT_CHAIN_FORWARD, CKPT_CHAIN_BACKWARD, CKPT_CHAIN_EARLY } ckpt_chain_act;

typedef struct ckpt_chain_step {
    ckpt_chain_act act;
    int stage;
    int option;      /* FORWARD: whose internals are kept; BACKWARD: how it runs; EARLY: whose internals are there */
    bool has_output; /* BACKWARD, EARLY: x_k is there */
} ckpt_chain_step;

typedef struct ckpt_chain_program {
    int count, capacity;
    ckpt_chain_step *step;
    uint64_t cost;         /* of all forward runs, the first included, and of recomputation inside stages */
    uint64_t needed_bytes; /* most at once */
} ckpt_chain_program;

typedef struct ckpt_chain_tables ckpt_chain_tables;

/* The chain's arrays must outlive the tables. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_tables_build(const ckpt_chain *chain, const ckpt_chain_limits *limits,
                                    ckpt_chain_tables **tables, ckpt_error *err);
void ckpt_chain_tables_free(ckpt_chain_tables *tables);

/* The smallest budget for which a program exists, and the smallest at which nothing is run again. */
uint64_t ckpt_chain_least_bytes(const ckpt_chain_tables *tables);
uint64_t ckpt_chain_most_bytes(const ckpt_chain_tables *tables);

/* The least cost of any program. */
uint64_t ckpt_chain_floor_cost(const ckpt_chain_tables *tables);

/* True when slots lost nothing: every cost is the tables' optimum, or that of all schedules. */
bool ckpt_chain_is_exact(const ckpt_chain_tables *tables);

/* The program of least cost within `budget_bytes`, made at the smallest budget that reaches that cost: a
 * smaller budget never gets a larger need, nor a lower cost. Memory comes from `pool`. Errors:
 * CKPT_INFEASIBLE below ckpt_chain_least_bytes, CKPT_NOMEM. */
ckpt_status ckpt_chain_solve(ckpt_chain_tables *tables, uint64_t budget_bytes, ckpt_pool *pool,
                             ckpt_chain_program *program, ckpt_error *err);

/* The smallest budget above `budget_bytes` at which ckpt_chain_solve's cost is another; UINT64_MAX when there is none. For
 * a budget_bytes that ckpt_chain_solve has been asked. */
uint64_t ckpt_chain_next_bytes(const ckpt_chain_tables *tables, uint64_t budget_bytes);

/* What no schedule within budget_bytes costs less than, whatever it keeps, drops and makes again. `cost`: of a program within budget_bytes, or
 * CKPT_CHAIN_NEVER: no better bound is sought where it is proved the least. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_lower_bound(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, uint64_t *bound,
                                   ckpt_error *err);

#endif
