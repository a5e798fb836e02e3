/* Short chains, exactly: every schedule of a chain's stages is searched (chain_search.h), whatever it keeps, drops
 * and makes again.
 *
 *     if (ckpt_chain_exact_fits(&chain)) {
 *         ckpt_chain_exact_least(&chain, &least_bytes, &err);
 *         ckpt_chain_exact_solve(&chain, budget, &pool, &program, &err);
 *     }
 *
 * The tables of chain.h hold a checkpoint until its backward; here it may be dropped and made again on the way. The
 * rules are those of chain.h otherwise, to the byte.
 */
#ifndef CKPT_CHAIN_EXACT_H
#define CKPT_CHAIN_EXACT_H

#include "planner/chain/chain.h"

/* True when the chain has few enough states for a search to take milliseconds: about 12 stages, fewer where stages
 * have options. */
bool ckpt_chain_exact_fits(const ckpt_chain *chain);

/* The smallest budget of any schedule. Errors: CKPT_NOMEM. */
ckpt_status ckpt_chain_exact_least(const ckpt_chain *chain, uint64_t *bytes, ckpt_error *err);

/* The least cost of any schedule within budget_bytes and, of the schedules of that cost, one that needs least: the
 * same one for every budget between its need and the next cheaper one's. Errors: CKPT_INFEASIBLE, CKPT_NOMEM. */
ckpt_status ckpt_chain_exact_solve(const ckpt_chain *chain, uint64_t budget_bytes, ckpt_pool *pool,
                                   ckpt_chain_program *program, ckpt_error *err);

#endif
