#include "planner/graph/chain_refine.h"

#include <string.h>

enum { MOST_CLIMBS = 8 };

typedef struct found {
    ckpt_schedule schedule;
    uint64_t needed, cost;
    struct found *next; /* needs less, costs no less */
} found;

/* Searched from `to` down to `top`, which is still to be searched unless `done`. */
typedef struct ckpt_refined_step {
    ckpt_curve_step of;
    uint64_t top;
    bool done, ended;
    uint64_t bound; /* ended: of every schedule in `top` bytes */
    found *first, *last;
    struct ckpt_refined_step *next;
} refined_step;

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while searching for a schedule");
}

static ckpt_status get_step(ckpt_chain_refine *r, uint64_t bytes, refined_step **step, ckpt_error *err) {
    ckpt_curve_step of;
    CKPT_TRY(r->curve(r->data, bytes, &of, err));
    for (refined_step *s = r->steps; s; s = s->next)
        if (s->of.from == of.from) {
            *step = s;
            return CKPT_OK;
        }
    refined_step *s = ckpt_pool_array(&r->pool, 1, refined_step);
    if (!s) return out_of_memory(err);
    *s = (refined_step){.of = of,
                        .top = of.to - 1,
                        .done = of.most_states == 0,
                        .ended = of.most_states == 0 && of.cost > 0,
                        .next = r->steps};
    *step = r->steps = s;
    return CKPT_OK;
}

static ckpt_status search_top(ckpt_chain_refine *r, refined_step *s, ckpt_error *err) {
    ckpt_graph_search_result result;
    CKPT_TRY(
        ckpt_graph_search_find(r->search, s->top, s->of.cost, s->of.most_states, &r->pool, &result, err));
    s->ended = result.ended;
    s->bound = result.lower_bound_cost;
    s->done = !result.found;
    if (s->done) return CKPT_OK;
    found *f = ckpt_pool_array(&r->pool, 1, found);
    if (!f) return out_of_memory(err);
    *f = (found){.schedule = result.schedule, .needed = result.needed_bytes, .cost = result.recompute_cost};
    if (s->last)
        s->last->next = f;
    else
        s->first = f;
    s->last = f;
    s->top = f->needed - 1;
    s->done = f->needed <= s->of.from;
    return CKPT_OK;
}

/* The search that says most of `bytes` has been made. */
static ckpt_status search_down(ckpt_chain_refine *r, refined_step *s, uint64_t bytes, ckpt_error *err) {
    while (!s->done && s->top >= bytes) CKPT_TRY(search_top(r, s, err));
    return CKPT_OK;
}

/* Whether no larger budget costs more than `cost`, found in the step. */
static ckpt_status may_use(ckpt_chain_refine *r, const refined_step *s, uint64_t cost, bool *may,
                           ckpt_error *err) {
    *may = s->of.to == UINT64_MAX;
    for (int i = 0; i < MOST_CLIMBS && !*may; i++) {
        refined_step *above;
        CKPT_TRY(get_step(r, s->of.to, &above, err));
        *may = above->of.cost <= cost;
        if (*may) break;
        CKPT_TRY(search_down(r, above, above->of.from, err));
        if (above->ended) break;
        for (const found *f = above->first; f; f = f->next)
            if (f->cost < cost) cost = f->cost;
        s = above;
    }
    return CKPT_OK;
}

ckpt_status ckpt_chain_refine_find(ckpt_chain_refine *r, uint64_t bytes, ckpt_chain_refined *answer,
                                   ckpt_error *err) {
    *answer = (ckpt_chain_refined){0};
    refined_step *s;
    CKPT_TRY(get_step(r, bytes, &s, err));
    CKPT_TRY(search_down(r, s, bytes, err));
    const found *f = s->first;
    while (f && f->needed > bytes) f = f->next;
    answer->lower_bound_cost = f ? f->cost : s->ended ? s->bound : s->of.cost;
    for (bool may = false; f && !answer->schedule; f = f->next) {
        CKPT_TRY(may_use(r, s, f->cost, &may, err));
        if (may) {
            answer->schedule = &f->schedule;
            answer->recompute_cost = f->cost;
            answer->needed_bytes = f->needed;
        } else {
            CKPT_TRY(search_down(r, s, s->of.from, err)); /* what is used further down has to be here too */
        }
    }
    return CKPT_OK;
}

void ckpt_chain_refine_free(ckpt_chain_refine *refine) {
    ckpt_pool_free(&refine->pool);
    refine->steps = NULL;
}
