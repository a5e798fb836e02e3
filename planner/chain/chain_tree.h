/* Inside of chain.h: the cheapest schedule of all, where a checkpoint may be given up while it is still to be read, and made
 * again from another. Used by chain*.c only.
 *
 * In the grid of stages and phases of chain_bound.h a schedule is a tree: what is there in a phase is held over from the
 * phase before or made in it by one forward run, and paths in the plane that have one parent each do not cross. So what x_i
 * makes possible from phase q on are the backwards k..q for some k > i, and then it is given up: a function T(i, q, k, m) of
 * the bytes beyond x_i. Either x_i dies in the run of stage i + 1, and x_{i+1} does it all; or it is held while x_{i+1} does
 * the backwards r + 1..q, and does the rest itself. Every forward run belongs to the phase in which the backward is that it
 * leads to: to run in an earlier phase and hold what comes out takes less memory over backwards only where it is smaller than
 * its input, and then it can be held from an earlier run to another backward. It may pay where the earlier phase has a smaller
 * gradient beside which the run fits.
 *
 * Functions of this kind with all that runs take are the costs of programs, the best that run nothing ahead. For a bound a run
 * may take as little as in any earlier phase in which it could have been and from which its output could be held.
 */
#ifndef CKPT_CHAIN_TREE_H
#define CKPT_CHAIN_TREE_H

#include "planner/chain/chain_bound.h"

/* Chains without internals, short enough: of 128 stages, or 40 with early parts. */
bool ckpt_chain_tree_fits(const ckpt_chain *chain);

/* What is asked of the functions, and what is left to find it out. */
typedef struct ckpt_chain_tree_search {
    const ckpt_chain *chain;
    ckpt_chain_prices *prices; /* of the same chain and budget, or NULL */
    uint64_t budget_bytes, work;
    bool for_bound;
    ckpt_pool *pool; /* of programs, or NULL */
} ckpt_chain_tree_search;

/* What the cheapest schedule costs, or `limit` where none costs less; CKPT_CHAIN_NEVER where work is used up. In haste
 * (share < 1, see chain_bound.h) that of some schedule. `program`: that of the functions, if any costs less. For a bound it may
 * need more than the budget. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_tree_within(ckpt_chain_tree_search *search, uint64_t limit, double share, ckpt_chain_program *program,
                                   uint64_t *least, ckpt_error *err);

/* The cheapest program of this kind that costs less than `cost`, or one without steps; its memory comes from `pool`, which
 * is NULL where only the bound is wanted. `bound`:
 * what no schedule costs less than, at most `cost`. Both as far as `work`, in corners that are looked at, goes. `prices`: of
 * the same chain and budget, or NULL. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_tree_solve(const ckpt_chain *chain, ckpt_chain_prices *prices, uint64_t budget_bytes, uint64_t cost,
                                  uint64_t work, ckpt_pool *pool, ckpt_chain_program *program, uint64_t *bound,
                                  ckpt_error *err);

#endif
