/* Plans of a curve made better, or proved, by searches (chain_graph_search.h), so that a larger budget still
 * never costs more.
 *
 *     ckpt_chain_refine refine = {search, curve, &mine};
 *     ckpt_chain_refine_find(&refine, bytes, &answer, &err);    // answer.schedule: NULL where the curve's
 * own is the best known ckpt_chain_refine_free(&refine);
 *
 * The curve says for every number of bytes what the best schedule known costs. Each of its steps is searched
 * from its upper end down: what the first search finds holds as far down as it needs, from there on the next,
 * until the curve's own schedule is proved or a search ends early. Which searches those are depends on the
 * curve alone and not on the budgets asked for, so that all that is ever found is one larger curve. A step
 * that ended early could cost more than a smaller one that did not: what is found there is only used if it
 * costs no less than the next step does without searches, or if that one is searched to its end as well.
 */
#ifndef CKPT_CHAIN_REFINE_H
#define CKPT_CHAIN_REFINE_H

#include "planner/graph/chain_graph_search.h"

/* From so many bytes up to, not including, so many the curve costs the same. */
typedef struct ckpt_curve_step {
    uint64_t from, to, cost; /* to: UINT64_MAX in the last one */
    uint32_t most_states;    /* that a search of it may take; 0: none is made */
} ckpt_curve_step;

typedef ckpt_status (*ckpt_chain_curve_function)(void *data, uint64_t bytes, ckpt_curve_step *step,
                                                 ckpt_error *err);

typedef struct ckpt_chain_refine {
    ckpt_graph_search *search;       /* not owned */
    ckpt_chain_curve_function curve; /* the step that holds `bytes` */
    void *data;                      /* of curve() */
    ckpt_pool pool;
    struct ckpt_refined_step *steps; /* those asked for so far */
} ckpt_chain_refine;

typedef struct ckpt_chain_refined {
    const ckpt_schedule
        *schedule; /* the refine's; NULL: nothing better than the curve is known, or it is not used */
    uint64_t recompute_cost, needed_bytes;
    uint64_t lower_bound_cost; /* of every schedule in as many bytes; 0 where nothing is known */
} ckpt_chain_refined;

/* Errors: CKPT_NOMEM, and those of curve(). */
ckpt_status ckpt_chain_refine_find(ckpt_chain_refine *refine, uint64_t bytes, ckpt_chain_refined *answer,
                                   ckpt_error *err);

void ckpt_chain_refine_free(ckpt_chain_refine *refine);

#endif
