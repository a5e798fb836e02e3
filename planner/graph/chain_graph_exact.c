#include "planner/graph/chain_graph_exact.h"

#include <stdlib.h>

#include "planner/graph/chain_graph_acts.h"
#include "planner/graph/chain_search.h"

enum { STEP_BITS = CKPT_ACTS_STEP_BITS, MOST_STATES = 1 << 13 };

struct ckpt_graph_exact {
    ckpt_graph_acts acts;
    uint64_t least_bytes;
};

static bool has_few_states(const ckpt_graph_acts *x) {
    uint64_t states = 0;
    for (int k = 0; k <= x->fixed_count; k++) {
        const int tensors = __builtin_popcountll(x->useful[k]);
        if (tensors > 20) return false;
        states += (uint64_t)1 << tensors;
    }
    return states <= MOST_STATES;
}

/* What is read and not there is made again, and so is what it is made from. */
static uint64_t least_ahead(const void *problem, uint64_t state) {
    const ckpt_graph_acts *x = problem;
    if (state == 0) return 0;
    const int run = x->fixed_count + 1 - (int)(state & ((1u << STEP_BITS) - 1));
    return ckpt_graph_acts_cost(x, state >> STEP_BITS, x->read[run]);
}

/* `after` is held afterwards; any one of the inputs that may be written over may die instead. */
static void run(ckpt_search *s, const ckpt_graph_act *a, uint64_t after, uint64_t left, uint64_t live,
                uint64_t useful) {
    ckpt_search_reach(s, (after & useful) << STEP_BITS | left, a->cost, live + a->out_bytes, (uint32_t)a->node + 1);
    for (uint64_t over = a->over; over; over &= over - 1) {
        const uint64_t dying = over & (~over + 1);
        if (after & dying)
            ckpt_search_reach(s, (after & ~dying & useful) << STEP_BITS | left, a->cost,
                              live + a->out_bytes - a->over_bytes, (uint32_t)a->node + 1);
    }
}

static void expand(ckpt_search *s, uint64_t state) {
    const ckpt_graph_acts *x = s->problem;
    const uint64_t left = state & ((1u << STEP_BITS) - 1), held = state >> STEP_BITS;
    const int done = x->fixed_count + 1 - (int)left;
    const uint64_t live = ckpt_graph_acts_bytes(x, held) + x->gradients[done], useful = x->useful[done];
    for (uint64_t rest = held; rest; rest &= rest - 1)
        ckpt_search_reach(s, (held & ~(rest & (~rest + 1))) << STEP_BITS | left, 0, 0, 0);
    for (int i = 0; i < x->forward_count; i++) {
        const ckpt_graph_act *a = &x->forward[i];
        if (a->until < done || (a->in & ~held) || (a->out & held) || !(a->out & useful)) continue;
        run(s, a, held | a->out, left, live, useful);
    }
    if (done == x->fixed_count) {
        if ((x->outputs & ~held) == 0) ckpt_search_reach(s, 0, 0, 0, 0);
    } else if (!(x->fixed[done].in & ~held)) {
        run(s, &x->fixed[done], held, left - 1, live, x->useful[done + 1]);
    }
}

static ckpt_search search_of(const ckpt_graph_exact *exact, uint64_t budget_bytes) {
    const ckpt_graph_acts *x = &exact->acts;
    return (ckpt_search){.problem = x,
                         .expand = expand,
                         .least_ahead = least_ahead,
                         .start = (uint64_t)x->fixed_count + 1,
                         .budget_bytes = budget_bytes};
}

ckpt_status ckpt_graph_exact_open(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                  ckpt_graph_exact **out, ckpt_error *err) {
    *out = NULL;
    ckpt_graph_exact *x = calloc(1, sizeof *x);
    if (!x) return ckpt_fail(err, CKPT_NOMEM, "out of memory");
    x->acts = (ckpt_graph_acts){.graph = graph, .costs = costs, .alignment_bytes = alignment_bytes};
    bool fits = false;
    ckpt_status status = ckpt_graph_acts_list(&x->acts, &fits, err);
    fits = fits && has_few_states(&x->acts);
    if (status == CKPT_OK && fits) {
        ckpt_search s = search_of(x, UINT64_MAX);
        s.least_bytes = true;
        status = ckpt_search_run(&s, err);
        x->least_bytes = s.needed_bytes;
        fits = s.found;
        ckpt_search_free(&s);
    }
    if (status == CKPT_OK && fits)
        *out = x;
    else
        ckpt_graph_exact_close(x);
    return status;
}

uint64_t ckpt_graph_exact_least(const ckpt_graph_exact *exact) {
    return exact->least_bytes;
}

ckpt_status ckpt_graph_exact_solve(const ckpt_graph_exact *x, uint64_t step_bytes, ckpt_pool *pool,
                                   ckpt_schedule *schedule, uint64_t *recompute_cost, uint64_t *needed_bytes,
                                   ckpt_error *err) {
    ckpt_search s = search_of(x, step_bytes);
    ckpt_status status = ckpt_search_run(&s, err);
    if (status == CKPT_OK && s.found && s.needed_bytes < step_bytes) {
        /* Again with what it needs: which of equal schedules is found then no longer depends on what was asked. */
        const uint64_t needed = s.needed_bytes;
        ckpt_search_free(&s);
        s = search_of(x, needed);
        status = ckpt_search_run(&s, err);
    }
    if (status == CKPT_OK && !s.found)
        status = ckpt_fail(err, CKPT_INFEASIBLE, "no schedule fits %llu bytes: the smallest takes %llu",
                           (unsigned long long)step_bytes, (unsigned long long)x->least_bytes);
    *schedule = (ckpt_schedule){0};
    for (int i = 0; i < s.act_count && status == CKPT_OK; i++)
        status = ckpt_schedule_append(pool, schedule, (int)s.act[i] - 1, err);
    if (status == CKPT_OK) {
        *recompute_cost = s.cost - x->acts.cost;
        *needed_bytes = s.needed_bytes;
    }
    ckpt_search_free(&s);
    return status;
}

/* Down from all the memory there could be, one cheapest schedule after the other. */
uint64_t ckpt_graph_exact_next(const ckpt_graph_exact *x, uint64_t step_bytes) {
    uint64_t next = UINT64_MAX, at = UINT64_MAX;
    while (at > step_bytes) {
        ckpt_error err; /* memory that ran out here runs out again where it is reported */
        ckpt_search s = search_of(x, at);
        const bool found = ckpt_search_run(&s, &err) == CKPT_OK && s.found;
        const uint64_t needed = s.needed_bytes;
        ckpt_search_free(&s);
        if (!found || needed <= step_bytes) break;
        next = needed;
        at = needed - 1;
    }
    return next;
}

void ckpt_graph_exact_close(ckpt_graph_exact *exact) {
    if (!exact) return;
    ckpt_pool_free(&exact->acts.pool);
    free(exact);
}
