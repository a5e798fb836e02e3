/* Improves the plans of a Pareto frontier, or proves them, by exact searches. A larger budget still never costs more.
 *
 *     ckpt_refine refine = {.search = search, .range_of = range_of, .data = &mine};
 *     ckpt_refine_find(&refine, budget, &answer, &err);    // answer.schedule: NULL where the frontier's own is the best known
 *     ckpt_refine_free(&refine);
 *
 * Between two points of the frontier the cost is constant: a range of bytes. Each range is searched from its upper end down.
 * What the first search finds holds down to its own peak. The next search starts below that peak, until the plan of the
 * range is proved or a search gives up. The searches depend on the frontier alone and not on the budgets that are asked for, so
 * together they find one better frontier.
 *
 * A range whose search gave up may cost more than a smaller range that was searched to its end. So what is found in a range is
 * used only if no larger budget then costs more: the next range costs no more even without searches, or it was searched to
 * its end as well.
 */
#ifndef CKPT_REFINE_H
#define CKPT_REFINE_H

#include "planner/graph/search.h"

/* From `from` up to, but without, `to` bytes the frontier costs the same. */
typedef struct ckpt_range {
    uint64_t from, to, cost; /* to: UINT64_MAX in the last one */
    uint32_t most_states;    /* of a search in it; 0: none is made */
} ckpt_range;

typedef ckpt_status (*ckpt_range_function)(void *data, uint64_t bytes, ckpt_range *range, ckpt_error *err);

typedef struct ckpt_refine {
    ckpt_search *search;          /* not owned */
    ckpt_range_function range_of; /* the range that holds `bytes` */
    void *data;                   /* of range_of() */
    ckpt_pool pool;
    struct ckpt_refined_range *ranges; /* those asked for so far */
} ckpt_refine;

typedef struct ckpt_refined {
    const ckpt_schedule *schedule; /* the refine's; NULL: nothing better than the frontier is known, or it is not used */
    uint64_t recompute_cost, needed_bytes;
    uint64_t lower_bound_cost; /* of every schedule in as many bytes; 0 where nothing is known */
} ckpt_refined;

/* Errors: CKPT_NOMEM, and those of range_of(). */
ckpt_status ckpt_refine_find(ckpt_refine *refine, uint64_t bytes, ckpt_refined *answer, ckpt_error *err);

void ckpt_refine_free(ckpt_refine *refine);

#endif
