/* Ground truth for chains of stages (chain.h): the least cost of any schedule, by search over everything that
 * can be resident. A schedule may drop and remake what it likes, in any order; small chains only.
 *
 *     uint64_t cost = ckpt_chain_oracle(&chain, budget);   // CKPT_CHAIN_NEVER: infeasible
 *
 * Also makes the random chains that the tests compare on.
 */
#ifndef CKPT_CHAIN_ORACLE_H
#define CKPT_CHAIN_ORACLE_H

#include "planner/chain/chain.h"

/* At most 8 stages of 4 options; 3 bits a stage of state. */
uint64_t ckpt_chain_oracle(const ckpt_chain *chain, uint64_t budget_bytes);

/* The same among schedules that hold what they keep: the output of a forward run is used up by the run of the next stage, or
 * kept until the backward that reads it as its input is done. Chains without internals and early parts only. */
uint64_t ckpt_chain_oracle_persistent(const ckpt_chain *chain, uint64_t budget_bytes);

/* What chain.h's tables answer for a budget; CKPT_CHAIN_NEVER: infeasible. */
uint64_t ckpt_chain_tables_cost(ckpt_chain_tables *tables, uint64_t budget_bytes);

/* Cost of what a program runs; CKPT_CHAIN_NEVER when a step lacks what it reads or a backward is missing. */
uint64_t ckpt_chain_replay(const ckpt_chain *chain, const ckpt_chain_program *program);

enum { CKPT_ORACLE_STAGES = 1024, CKPT_ORACLE_OPTIONS = 4 };

typedef struct ckpt_random_chain {
    uint64_t state; /* of the generator; not 0 */
    ckpt_chain chain;
    ckpt_chain_stage stage[CKPT_ORACLE_STAGES + 1];
    ckpt_chain_option option[CKPT_ORACLE_STAGES + 1][CKPT_ORACLE_OPTIONS];
} ckpt_random_chain;

/* Uniform in [low, high]. */
uint64_t ckpt_random_between(ckpt_random_chain *random, uint64_t low, uint64_t high);

/* The model of the design's reference search: every backward reads its output, nothing is transient, a
 * gradient has its tensor's size. bytes[k], cost[k] for k in [1, count]. */
void ckpt_chain_make_plain(ckpt_random_chain *random, int count, const uint64_t *bytes, const uint64_t *cost);

/* Sizes and costs up to `most`; the rest as a linear stage has it: weight gradients, outputs not read, inputs
 * that die, and (options > 1) internals. */
void ckpt_chain_make_plain_random(ckpt_random_chain *random, int count, uint64_t most);
void ckpt_chain_make_real_random(ckpt_random_chain *random, int count, uint64_t most, int options);

/* The same with early parts of backwards. options < CKPT_ORACLE_OPTIONS. */
void ckpt_chain_make_early_random(ckpt_random_chain *random, int count, uint64_t most, int options);

/* Any of these, `most` for sizes and costs; of equal stages all are 3 bytes and cost 7. */
typedef enum ckpt_chain_kind {
    CKPT_CHAIN_PLAIN,
    CKPT_CHAIN_REAL,
    CKPT_CHAIN_EQUAL,
    CKPT_CHAIN_INTERNALS,
    CKPT_CHAIN_EARLY_PARTS,
    CKPT_CHAIN_EARLY_INTERNALS,
    CKPT_CHAIN_KINDS
} ckpt_chain_kind;

const char *ckpt_chain_kind_name(ckpt_chain_kind kind);
void ckpt_chain_make(ckpt_random_chain *random, ckpt_chain_kind kind, int count, uint64_t most);

#endif
