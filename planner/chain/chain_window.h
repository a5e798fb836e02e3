/* Inside of chain.h: which splits of a function are tried, and for how much memory.
 *
 * With as much memory, the first checkpoint of stages s..t lies where that of s..t-1 does, where that of s+1..t does, or
 * between them: Knuth's observation on binary search trees (Acta Informatica 1, 1971), proved by Yao (STOC 1980) for costs
 * that obey the quadrangle inequality. Those of equal stages do. Others nearly do, so that a few splits on either side are
 * tried too. What is lost is a cheaper program now and then, never one that fits: least bytes come from all splits.
 */
#ifndef CKPT_CHAIN_WINDOW_H
#define CKPT_CHAIN_WINDOW_H

#include <stdbool.h>

#include "planner/chain/chain_table.h"

/* Before a function is filled: sets tables->window[0, t - s) by those of stages s..t-1 and s+1..t, and returns which splits
 * have slots there. False where all splits are to be tried: the stages are few, or a neighbour has not been made. */
bool ckpt_chain_window_set(ckpt_chain_tables *tables, const ckpt_chain_ref *ref, ckpt_chain_range *range);

/* Of a function that has been filled: the splits around the best one for so much memory. */
ckpt_chain_range ckpt_chain_window_near(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref, int64_t slot);

/* All splits at whose left is a run with a function. */
ckpt_chain_range ckpt_chain_window_all(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref);

#endif
