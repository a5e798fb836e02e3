/* From a training graph to a chain of stages (chain.h), and from a program of the chain back to a schedule.
 *
 *     ckpt_stages stages;
 *     ckpt_stages_find(&problem, &options, &stages, &err);
 *     // ckpt_chain_tables_build(&stages.chain, ...) and ckpt_chain_solve give a program
 *     ckpt_stages_emit(&stages, &program, &pool, &schedule, &err);
 *     ckpt_stages_free(&stages);
 *
 * The forward pass is cut where a single STEP tensor passes from what is before to what is behind. Each
 * backward or update node belongs to the stage of the forward node it came from; stages are joined where
 * their backward reads anything but the stage's own tensors and its input, or does not read its input. What
 * cannot be cut is one stage. Bytes are those of liveness.h: aligned, outputs written over dying inputs.
 */
#ifndef CKPT_STAGES_H
#define CKPT_STAGES_H

#include "planner/chain/chain.h"
#include "planner/core/problem.h"
#include "planner/core/solver_options.h"
#include "planner/core/plan_types.h"

/* Node ids; half-open. */
typedef struct ckpt_stage_nodes {
    int forward, forward_end, backward, backward_end;
    int early_end; /* of the early part, from `backward` on (chain.h) */
    int out;         /* x_k, or -1: the loss */
    int carry_count; /* tensors of the backward pass that live on when the backward of k begins: its gradient,
                        and parts of gradients that are summed over several stages */
    int *carry;
    int inside_count;
    int *inside;    /* the internals that an option may keep */
    uint64_t *kept; /* by option: bits of inside */
} ckpt_stage_nodes;

typedef struct ckpt_stages {
    ckpt_pool pool;
    const ckpt_problem *problem;         /* not owned */
    const ckpt_solver_options *options;  /* not owned */
    ckpt_chain chain;
    ckpt_stage_nodes *nodes; /* [1, stage_count] */
    bool deep;    /* some stage has too many internals for all sets of them to be looked at: tables may miss much */
    bool thinned; /* of some stage sets were left out: tables may miss a little */
    uint64_t forward_cost;  /* of one forward pass, without what runs once only */
} ckpt_stages;

/* Of the problem's graph in its own order. Problem and options must outlive the result. Errors: CKPT_NOMEM. */
ckpt_status ckpt_stages_find(const ckpt_problem *problem, const ckpt_solver_options *options, ckpt_stages *stages,
                             ckpt_error *err);

/* Appends the program's nodes. Nodes with an effect and the loss are listed once. */
ckpt_status ckpt_stages_emit(const ckpt_stages *stages, const ckpt_chain_program *program, ckpt_pool *pool,
                             ckpt_schedule *schedule, ckpt_error *err);

void ckpt_stages_free(ckpt_stages *stages);

/* Below: between stages.c and stage_modes.c. */

/* Lists the backward of stage k when `kept` of its internals (and x_k, where there) are at hand: what is
 * missing is made again just before its first use. Returns the number of nodes; `list` has room for twice the
 * graph's. `mark`: a byte a tensor, all 0 before and after. */
int ckpt_stage_list_backward(const ckpt_stages *stages, int k, uint64_t kept, bool has_output,
                             unsigned char *mark, int *list);

/* Fills chain stage k: sizes, costs, options. */
ckpt_status ckpt_stage_measure(ckpt_stages *stages, int k, ckpt_chain_stage *stage, ckpt_error *err);

#endif
