#include "planner/strategies/refine.h"

enum { MOST_CLIMBS = 64 }; /* ranges above that are searched before something found below is used */

typedef struct found {
    ckpt_schedule schedule;
    uint64_t needed, cost;
    struct found *next; /* needs less, costs no less */
} found;

/* Searched from range.to down to `top`, which is still to be searched unless `done`. */
typedef struct ckpt_refined_range {
    ckpt_range range;
    uint64_t top;
    bool done, gave_up;
    uint64_t bound; /* gave_up: of every schedule in `top` bytes */
    found *first, *last;
    struct ckpt_refined_range *next;
} refined_range;

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while searching for a schedule");
}

static ckpt_status get_range(ckpt_refine *r, uint64_t bytes, refined_range **range, ckpt_error *err) {
    ckpt_range of;
    CKPT_TRY(r->range_of(r->data, bytes, &of, err));
    for (refined_range *x = r->ranges; x; x = x->next)
        if (x->range.from == of.from) {
            *range = x;
            return CKPT_OK;
        }
    refined_range *x = ckpt_pool_array(&r->pool, 1, refined_range);
    if (!x) return out_of_memory(err);
    *x = (refined_range){.range = of,
                         .top = of.to - 1,
                         .done = of.most_states == 0,
                         .gave_up = of.most_states == 0 && of.cost > 0,
                         .next = r->ranges};
    *range = r->ranges = x;
    return CKPT_OK;
}

static ckpt_status search_top(ckpt_refine *r, refined_range *x, ckpt_error *err) {
    ckpt_search_result result;
    CKPT_TRY(ckpt_search_cheapest(r->search, x->top, x->range.cost, x->range.most_states, &r->pool, &result, err));
    x->gave_up = !result.complete;
    x->bound = result.lower_bound_cost;
    x->done = !result.found;
    if (x->done) return CKPT_OK;
    found *f = ckpt_pool_array(&r->pool, 1, found);
    if (!f) return out_of_memory(err);
    *f = (found){.schedule = result.schedule, .needed = result.peak_bytes, .cost = result.recompute_cost};
    if (x->last) x->last->next = f;
    else x->first = f;
    x->last = f;
    x->top = f->needed - 1;
    x->done = f->needed <= x->range.from;
    return CKPT_OK;
}

/* The search that says most of `bytes` has been made. */
static ckpt_status search_down(ckpt_refine *r, refined_range *x, uint64_t bytes, ckpt_error *err) {
    while (!x->done && x->top >= bytes) CKPT_TRY(search_top(r, x, err));
    return CKPT_OK;
}

/* Whether no larger budget costs more than `cost`, found in the range. */
static ckpt_status may_use(ckpt_refine *r, const refined_range *x, uint64_t cost, bool *may, ckpt_error *err) {
    *may = x->range.to == UINT64_MAX;
    for (int i = 0; i < MOST_CLIMBS && !*may; i++) {
        refined_range *above;
        CKPT_TRY(get_range(r, x->range.to, &above, err));
        *may = above->range.cost <= cost;
        if (*may) break;
        CKPT_TRY(search_down(r, above, above->range.from, err));
        if (above->gave_up) break;
        for (const found *f = above->first; f; f = f->next)
            if (f->cost < cost) cost = f->cost;
        x = above;
    }
    return CKPT_OK;
}

ckpt_status ckpt_refine_find(ckpt_refine *r, uint64_t bytes, ckpt_refined *answer, ckpt_error *err) {
    *answer = (ckpt_refined){0};
    refined_range *x;
    CKPT_TRY(get_range(r, bytes, &x, err));
    CKPT_TRY(search_down(r, x, bytes, err));
    const found *f = x->first;
    while (f && f->needed > bytes) f = f->next;
    answer->lower_bound_cost = f ? f->cost : x->gave_up ? x->bound : x->range.cost;
    for (bool may = false; f && !answer->schedule; f = f->next) {
        CKPT_TRY(may_use(r, x, f->cost, &may, err));
        if (may) {
            answer->schedule = &f->schedule;
            answer->recompute_cost = f->cost;
            answer->needed_bytes = f->needed;
        } else {
            CKPT_TRY(search_down(r, x, x->range.from, err)); /* what is used further down has to be here too */
        }
    }
    return CKPT_OK;
}

void ckpt_refine_free(ckpt_refine *refine) {
    ckpt_pool_free(&refine->pool);
    refine->ranges = NULL;
}
