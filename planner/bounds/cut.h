/* What is best held and what is best made again, when every byte held and every run has its price: a minimum cut.
 *
 *     ckpt_cut *cut;
 *     ckpt_cut_open(&graph, &cut, &err);
 *     uint64_t least = ckpt_cut_solve(cut, needed, hold, run, held);
 *     ckpt_cut_close(cut);
 *
 * A tensor that is needed is held or its node runs; a node that runs needs its inputs. The choice of least price is a
 * minimum cut between what is needed and what is paid (Picard, Management Science 22(11), 1976), found by Dinitz's
 * algorithm (1970). Prices are integers: the answer is exact.
 */
#ifndef CKPT_CUT_H
#define CKPT_CUT_H

#include "graph/graph.h"

#define CKPT_CUT_NEVER (INT64_MAX / 4) /* as a price: must not be */

typedef struct ckpt_cut ckpt_cut;

/* Of the forward nodes. The graph must outlive the result. Errors: CKPT_NOMEM. */
ckpt_status ckpt_cut_open(const ckpt_graph *graph, ckpt_cut **cut, ckpt_error *err);

/* By tensor: needed, the price of holding it, and (out, may be NULL) whether it is held; by forward node: the price of a run.
 * The sum of all prices but CKPT_CUT_NEVER must be below that. Of equal choices the one that holds what comes
 * later in the forward pass. Returns the least sum. */
int64_t ckpt_cut_solve(ckpt_cut *cut, const bool *needed, const int64_t *hold, const int64_t *run, bool *held);

/* Arcs looked at so far, about: what it costs, for those who count work. */
uint64_t ckpt_cut_work(const ckpt_cut *cut);

void ckpt_cut_close(ckpt_cut *cut);

#endif
