/* A state is what is there before the next fixed node, and least_ahead() is what the moments of
 * bound_step.h leave over after some fixed node, with what has to be made again up to it. Of all that
 * can be done in a state most is left out, because something else is never worse:
 *
 *   - What is there is dropped where room is needed, in every way in which nothing is dropped for nothing,
 * and not before.
 *   - What was made and not read since is not dropped: without making it the rest of the way goes as well,
 * and costs less.
 *   - What stands for all that was made from a tensor, and takes no more, is there in its place
 * (leave_out()).
 *   - Fixed nodes that leave no more of their own than there was run first (fixed_come_first()).
 *
 * Each lets a cheapest schedule be changed, step by step, into one that is found. The price of a way that is
 * worse than below_cost is known before it is gone to its end, so that much of the rest is not even looked
 * at. */
#include "planner/graph/chain_graph_search.h"

#include <stdlib.h>
#include <string.h>

#include "planner/graph/chain_graph_acts.h"
#include "planner/graph/bound_step.h"
#include "planner/graph/chain_search.h"
#include "planner/core/liveness.h"

enum { STEP_BITS = CKPT_ACTS_STEP_BITS };

/* A fixed node after which something has to be made again in any case. */
typedef struct moment {
    int at; /* fixed nodes before it */
    uint64_t after;
    uint64_t read; /* by the fixed nodes since the moment before, its own included */
} moment;

struct ckpt_graph_search {
    ckpt_graph_acts acts;
    int *maker;      /* by bit: of the forward acts */
    uint64_t *outs;  /* by number of fixed nodes run, and tensor: see leave_out */
    uint64_t *after; /* by node (ckpt_bound_after) */
    moment *moment;  /* those of which no later one says as much */
    int moment_count;
};

/* The acts that make `wanted` and what they need, as far as it is not there: each is counted once. */
typedef struct needs {
    uint64_t there; /* held, or counted */
    uint64_t cost;
} needs;

static void need(const ckpt_graph_search *p, uint64_t wanted, needs *n) {
    for (wanted &= ~n->there; wanted; wanted &= ~n->there) {
        const ckpt_graph_act *a = &p->acts.forward[p->maker[__builtin_ctzll(wanted)]];
        n->there |= a->out;
        n->cost += a->cost;
        wanted |= a->in;
    }
}

/* What is read and not there is made; that is all, or is up to some moment, with what has to be made again
 * after it. */
static uint64_t least_ahead(const void *data, uint64_t state) {
    const ckpt_graph_search *p = data;
    const ckpt_graph_acts *x = &p->acts;
    if (state == 0) return 0;
    const int done = x->fixed_count + 1 - (int)(state & ((1u << STEP_BITS) - 1));
    needs n = {.there = state >> STEP_BITS};
    uint64_t most = 0;
    bool first = true;
    for (int i = 0; i < p->moment_count; i++) {
        const moment *m = &p->moment[i];
        if (m->at < done) continue;
        if (first)
            for (int k = done; k <= m->at; k++) need(p, x->fixed[k].in, &n);
        else
            need(p, m->read, &n);
        first = false;
        if (n.cost + m->after > most) most = n.cost + m->after;
    }
    need(p, x->read[done], &n);
    return n.cost > most ? n.cost : most;
}

/* Without the tensors that what is made from them stands for: they take no less than all that, and nothing
 * else reads them. Whoever drops some of what was made to make it again from the tensor could drop the tensor
 * instead. */
static uint64_t leave_out(const ckpt_graph_search *p, int done, uint64_t held) {
    const uint64_t *outs = &p->outs[done * CKPT_ACTS_TENSORS];
    uint64_t covered = held;
    for (int t = p->acts.tensor_count - 1; t >= 0; t--) {
        if (!outs[t] || (outs[t] & ~covered)) continue;
        covered |= (uint64_t)1 << t;
        held &= ~((uint64_t)1 << t);
    }
    return held;
}

/* By number of fixed nodes run and tensor: what is made from it that is of use, where that may stand for it;
 * 0 where not. */
static void list_outs(ckpt_graph_search *p) {
    const ckpt_graph_acts *x = &p->acts;
    for (int k = 0; k <= x->fixed_count; k++)
        for (int t = 0; t < x->tensor_count; t++) {
            const uint64_t one = (uint64_t)1 << t;
            uint64_t outs = 0;
            for (int i = 0; i < x->forward_count; i++)
                if (x->forward[i].in & one) outs |= x->forward[i].out & x->useful[k];
            const bool stands = !(x->read[k] & one) && ckpt_graph_acts_bytes(x, outs) <= x->bytes[t];
            p->outs[k * CKPT_ACTS_TENSORS + t] = stands ? outs : 0;
        }
}

/* A node that is to run, and what may go before it does. */
typedef struct way {
    ckpt_search *search;
    const ckpt_graph_acts *acts;
    const ckpt_graph_act *act;
    uint64_t left, after; /* after: held when it has run, as far as it is of use */
    uint64_t fresh;       /* made and not read since, when it has run */
} way;

/* Drops of `may` what makes room for `excess` bytes, in every way in which nothing is dropped for nothing;
 * `smallest` is the smallest dropped so far. What is held longer is never worse: drops wait until there is
 * need. */
static void make_room(const way *w, uint64_t may, uint64_t dropped, uint64_t excess, uint64_t smallest) {
    const ckpt_graph_acts *x = w->acts;
    if (w->search->ended) return;
    if (excess == 0) {
        const ckpt_graph_search *p = w->search->problem;
        const uint64_t held = leave_out(p, x->fixed_count + 1 - (int)w->left, w->after & ~dropped);
        ckpt_search_reach_noting(w->search, held << STEP_BITS | w->left, w->act->cost, 0,
                                 (uint32_t)w->act->node + 1, w->fresh & held);
        return;
    }
    if (ckpt_graph_acts_bytes(x, may) < excess) return;
    const uint64_t one = may & (~may + 1), bytes = x->bytes[__builtin_ctzll(may)];
    const uint64_t least = bytes < smallest ? bytes : smallest;
    if (bytes < excess) {
        if (!ckpt_search_hopeless(w->search, (w->after & ~(dropped | one)) << STEP_BITS | w->left,
                                  w->act->cost))
            make_room(w, may & ~one, dropped | one, excess - bytes, least);
    } else if (bytes - excess < least)
        make_room(w, may & ~one, dropped | one, 0, least);
    make_room(w, may & ~one, dropped, excess, smallest);
}

/* What must be read before it is dropped. Where one of several outputs has been read the node did not run in
 * vain. */
static uint64_t fresh_out(const ckpt_graph_act *a) {
    return a->cost > 0 && (a->out & (a->out - 1)) == 0 ? a->out : 0;
}

/* Any one of the inputs that may be written over may die, where that is what makes it fit. */
static void run(ckpt_search *s, const ckpt_graph_act *a, uint64_t held, uint64_t left, uint64_t gradients,
                uint64_t useful) {
    const ckpt_graph_search *p = s->problem;
    const uint64_t live = ckpt_graph_acts_bytes(&p->acts, held) + gradients + a->out_bytes,
                   may = held & ~a->in & ~s->note;
    way w = {s, &p->acts, a, left, (held | a->out) & useful, (s->note & ~a->in) | fresh_out(a)};
    make_room(&w, may, 0, live > s->budget_bytes ? live - s->budget_bytes : 0, UINT64_MAX);
    for (uint64_t over = live > s->budget_bytes ? a->over & held : 0; over; over &= over - 1) {
        w.after = ((held | a->out) & ~(over & (~over + 1))) & useful;
        const uint64_t bytes = live - a->over_bytes;
        make_room(&w, may, 0, bytes > s->budget_bytes ? bytes - s->budget_bytes : 0, UINT64_MAX);
    }
}

/* Whether nothing is lost when fixed nodes run before all else from here on: they find what they read, fit,
 * and leave no more of their own than there was at any time on the way, so that whatever is to run can run as
 * well afterwards. */
static bool fixed_come_first(const ckpt_graph_search *p, uint64_t budget_bytes, int done, uint64_t held) {
    const ckpt_graph_acts *x = &p->acts;
    uint64_t least = x->gradients[done];
    for (int k = done; k < x->fixed_count; k++) {
        const ckpt_graph_act *a = &x->fixed[k];
        held &= x->useful[k];
        if (a->in & ~held) return false;
        if (ckpt_graph_acts_bytes(x, held) + x->gradients[k] + a->out_bytes > budget_bytes) return false;
        for (int i = 0; i < x->forward_count; i++)
            if (x->forward[i].until == k && (x->forward[i].out & x->useful[k + 1])) return false;
        if (x->gradients[k + 1] <= least) return true;
    }
    return false;
}

static void expand(ckpt_search *s, uint64_t state) {
    const ckpt_graph_search *p = s->problem;
    const ckpt_graph_acts *x = &p->acts;
    const uint64_t left = state & ((1u << STEP_BITS) - 1), held = state >> STEP_BITS;
    const int done = x->fixed_count + 1 - (int)left;
    const uint64_t useful = x->useful[done];
    const bool fixed_only = fixed_come_first(p, s->budget_bytes, done, held);
    for (int i = 0; i < x->forward_count && !fixed_only; i++) {
        const ckpt_graph_act *a = &x->forward[i];
        if (a->until < done || (a->in & ~held) || !(a->out & ~held & useful)) continue;
        run(s, a, held & ~a->out, left, x->gradients[done], useful);
    }
    if (done == x->fixed_count) {
        if ((x->outputs & ~held) == 0) ckpt_search_reach(s, 0, 0, 0, 0);
    } else if (!(x->fixed[done].in & ~held)) {
        run(s, &x->fixed[done], held, left - 1, x->gradients[done], x->useful[done + 1]);
    }
}

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while searching for a schedule");
}

static ckpt_status find_moments(ckpt_graph_search *p, uint64_t step_bytes, ckpt_error *err) {
    const ckpt_graph_acts *x = &p->acts;
    ckpt_pool scratch = {0};
    ckpt_problem problem;
    ckpt_status status = ckpt_problem_open(x->graph, x->costs, x->alignment_bytes, &scratch, &problem, err);
    if (status == CKPT_OK) status = ckpt_bound_after(&problem, step_bytes, p->after, err);
    ckpt_pool_free(&scratch);
    CKPT_TRY(status);
    uint64_t later = 0;
    int first = x->fixed_count;
    for (int k = x->fixed_count - 1; k >= 0; k--) {
        const uint64_t after = p->after[x->fixed[k].node];
        if (after > later) p->moment[--first] = (moment){.at = k, .after = later = after};
    }
    p->moment_count = x->fixed_count - first;
    memmove(p->moment, &p->moment[first], sizeof *p->moment * (size_t)p->moment_count);
    for (int i = 1; i < p->moment_count; i++)
        for (int k = p->moment[i - 1].at + 1; k <= p->moment[i].at; k++) p->moment[i].read |= x->fixed[k].in;
    return CKPT_OK;
}

static ckpt_status prepare(ckpt_graph_search *p, bool *fits, ckpt_error *err) {
    const ckpt_graph_acts *x = &p->acts;
    CKPT_TRY(ckpt_graph_acts_list(&p->acts, fits, err));
    if (!*fits) return CKPT_OK;
    p->after = ckpt_pool_array(&p->acts.pool, x->graph->node_count, uint64_t);
    p->moment = ckpt_pool_array(&p->acts.pool, x->fixed_count, moment);
    p->outs = ckpt_pool_array(&p->acts.pool, (x->fixed_count + 1) * CKPT_ACTS_TENSORS, uint64_t);
    p->maker = ckpt_pool_array(&p->acts.pool, CKPT_ACTS_TENSORS, int);
    if (!p->after || !p->moment || !p->outs || !p->maker) return out_of_memory(err);
    for (int i = 0; i < x->forward_count; i++)
        for (uint64_t rest = x->forward[i].out; rest; rest &= rest - 1) p->maker[__builtin_ctzll(rest)] = i;
    list_outs(p);
    return CKPT_OK;
}

ckpt_status ckpt_graph_search_open(const ckpt_graph *graph, const ckpt_costs *costs, uint64_t alignment_bytes,
                                   ckpt_graph_search **search, ckpt_error *err) {
    *search = NULL;
    ckpt_graph_search *p = calloc(1, sizeof *p);
    if (!p) return out_of_memory(err);
    p->acts = (ckpt_graph_acts){.graph = graph, .costs = costs, .alignment_bytes = alignment_bytes};
    bool fits = false;
    const ckpt_status status = prepare(p, &fits, err);
    if (status == CKPT_OK && fits)
        *search = p;
    else
        ckpt_graph_search_close(p);
    return status;
}

/* What a search found, as a schedule. */
static ckpt_status take(const ckpt_graph_search *p, const ckpt_search *s, ckpt_pool *pool,
                        ckpt_graph_search_result *result, ckpt_error *err) {
    ckpt_pool scratch = {0};
    ckpt_liveness live;
    for (int i = 0; i < s->act_count; i++)
        CKPT_TRY(ckpt_schedule_append(pool, &result->schedule, (int)s->act[i] - 1, err));
    const ckpt_status status =
        ckpt_liveness_find(p->acts.graph, &result->schedule, p->acts.alignment_bytes, &scratch, &live, err);
    if (status == CKPT_OK) result->needed_bytes = live.peak_bytes;
    result->recompute_cost = s->cost - p->acts.cost;
    ckpt_pool_free(&scratch);
    return status;
}

ckpt_status ckpt_graph_search_find(ckpt_graph_search *p, uint64_t step_bytes, uint64_t below_cost,
                                   uint32_t most_states, ckpt_pool *pool, ckpt_graph_search_result *result,
                                   ckpt_error *err) {
    *result = (ckpt_graph_search_result){0};
    CKPT_TRY(find_moments(p, step_bytes, err));
    ckpt_search s = {.problem = p,
                     .expand = expand,
                     .least_ahead = least_ahead,
                     .start = (uint64_t)p->acts.fixed_count + 1,
                     .budget_bytes = step_bytes,
                     .below_cost = p->acts.cost + below_cost,
                     .most_states = most_states};
    ckpt_status status = ckpt_search_run(&s, err);
    result->found = s.found;
    result->ended = s.ended;
    result->states = s.node_count;
    result->lower_bound_cost = s.found || s.ended ? s.cost - p->acts.cost : below_cost;
    if (status == CKPT_OK && s.found) status = take(p, &s, pool, result, err);
    ckpt_search_free(&s);
    return status;
}

void ckpt_graph_search_close(ckpt_graph_search *search) {
    if (!search) return;
    ckpt_pool_free(&search->acts.pool);
    free(search);
}
