/* Inside of chain.h: lower bounds on what a chain costs under a number of bytes. Used by chain*.c only.
 *
 * All of them look at what is held while each backward runs. Phase k is what happens between the backward of k + 1
 * and that of k, the first pass being phase L. In phase k x_{k-1} has to be there. An x_i, or internals of a stage,
 * that is there in two phases is held while the backward between them runs, beside that backward's own bytes; what
 * is not held is made again by forward runs from something that is. The memory that forward runs take is left out.
 * So every schedule is a tree in a grid of stages (to the right: a forward run) and phases (down: held), from x_0 to
 * the L places where a backward reads its input.
 */
#ifndef CKPT_CHAIN_BOUND_H
#define CKPT_CHAIN_BOUND_H

#include "planner/chain/chain.h"

/* The least that the backward of a stage takes beyond its input, of all ways to run it. */
uint64_t ckpt_chain_least_backward(const ckpt_chain_stage *stage);

/* What can be held while the backward of stage k runs beside all that it needs itself. */
uint64_t ckpt_chain_room(const ckpt_chain *chain, int k, uint64_t budget_bytes);

/* What is run again at least, by a knapsack for each backward: the largest. `whole`: in whole items, where that is soon found.
 * Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_bound_by_knapsack(const ckpt_chain *chain, uint64_t budget_bytes, bool whole, uint64_t *again,
                                         ckpt_error *err);

/* What is run again at least, by counting: windows of stages as if each cost and took as much as the least of them,
 * for which Griewank and Walther's closed form is the optimum of all schedules (Grimm, Pottier and Rostaing-Schmidt
 * 1996). The best choice of disjoint windows; equal stages are one. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_bound_by_count(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t *again, ckpt_error *err);

/* By prices: each backward asks a price for every byte held over it, and the cheapest tree at these prices, less
 * what all bytes there are would cost, is a bound (Lagrange relaxation; Held and Karp 1971). Prices are improved
 * by subgradient steps. Cheapest trees are found exactly, by intervals of phases (the order of ends along the border
 * of a planar grid is kept by subtrees: Erickson, Monma and Veinott 1987). */
typedef struct ckpt_chain_prices ckpt_chain_prices;

/* The best prices found for a budget; NULL where the chain is too long for it. The chain must outlive them. Errors:
 * CKPT_NOMEM. */
ckpt_status ckpt_chain_prices_open(const ckpt_chain *chain, uint64_t budget_bytes, ckpt_chain_prices **prices, ckpt_error *err);
void ckpt_chain_prices_close(ckpt_chain_prices *prices);

/* What no schedule at all costs less than; 0 where the chain is too long. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_prices_all(ckpt_chain_prices *prices, uint64_t *all, ckpt_error *err);

/* Splits of programs: of stages s..t at checkpoint x_j. */
typedef struct ckpt_chain_likely {
    size_t side, words; /* of 64 bits, for each s and t */
    uint64_t *bits;
    uint64_t count;
} ckpt_chain_likely;

static inline size_t ckpt_chain_likely_word(const ckpt_chain_likely *likely, int s, int t, int j) {
    return ((size_t)s * likely->side + (size_t)t) * likely->words + (size_t)j / 64;
}

bool ckpt_chain_likely_fits(const ckpt_chain *chain); /* short enough */

static inline bool ckpt_chain_likely_has(const ckpt_chain_likely *likely, int s, int t, int j) {
    return likely->bits[ckpt_chain_likely_word(likely, s, t, j)] >> j % 64 & 1;
}

static inline bool ckpt_chain_likely_any(const ckpt_chain_likely *likely, int s, int t) {
    const uint64_t *bits = likely->bits + ckpt_chain_likely_word(likely, s, t, 0);
    for (size_t w = 0; w < likely->words; w++)
        if (bits[w]) return true;
    return false;
}

static inline void ckpt_chain_likely_add(ckpt_chain_likely *likely, int s, int t, int j) {
    likely->count += !ckpt_chain_likely_has(likely, s, t, j);
    likely->bits[ckpt_chain_likely_word(likely, s, t, j)] |= (uint64_t)1 << j % 64;
}

/* The splits of trees that are nearly cheapest at the best prices of some budgets between least and most; for any of them
 * those of its parts are among them too. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_find_likely(const ckpt_chain *chain, uint64_t least_bytes, uint64_t most_bytes, ckpt_pool *pool,
                                   ckpt_chain_likely **likely, ckpt_error *err);

/* A knapsack and counting, from what a schedule without recomputation costs. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_bound_at_once(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t *bound, ckpt_error *err);

/* Appends a step, in memory of `pool`. False: there is none. */
bool ckpt_chain_program_add(ckpt_pool *pool, ckpt_chain_program *program, ckpt_chain_act act, int stage, int option,
                            bool has_output);

/* Divides whatever a program can cost; early parts cost nothing. */
uint64_t ckpt_chain_cost_unit(const ckpt_chain *chain);

#endif
