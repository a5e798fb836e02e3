/* A* (Hart, Nilsson and Raphael 1968) over pairs of progress and held tensors.
 *
 * The heuristic. From a state, everything that the remaining fixed nodes read and that is not held is made again, with what
 * that takes. That counts each recomputation once. ckpt_bound_after says of a fixed node m what every schedule recomputes
 * after m has run. So the cost of making what m and its ancestors still read, plus what comes after m, is a lower bound for
 * every m that has not run. Both parts count different runs: those before m and those after it. The largest bound counts.
 *
 * Dominance. Of all that can be done in a state most is left out, because something else is never worse:
 *
 *   - Tensors are dropped when room is needed, and only in ways in which every dropped tensor was needed for it.
 *   - A tensor that was made and not read since is not dropped: the same way without making it costs less.
 *   - A tensor that is read only by recomputable nodes is not held beside all that they make of it, where that takes no more
 *     bytes: what could be dropped to be made again from it can stay in its place.
 *   - Fixed nodes that find all they read, fit, and leave no more bytes of their own than there were, run first. The live
 *     bytes of what fixed nodes made are a submodular function of the set of nodes that have run: a tensor counts from its
 *     producer on, and no longer once all its readers have run. So if a set Q of nodes leaves no more than there was, and no
 *     smaller set does, then running Q now is no worse at any later time, whatever has run by then. No recomputation that is
 *     still of use may expire in Q.
 *
 * A search for any schedule within some bytes is the same search with the furthest progress first and without costs. */
#include "planner/graph/search.h"

#include <stdlib.h>
#include <string.h>

#include "planner/core/liveness.h"
#include "planner/graph/bound_step.h"
#include "planner/graph/search_space.h"

enum { MOST_MILESTONES = 16 }; /* each costs every state some nanoseconds, and few say more than the others */
enum { LONGEST_RUN = 3 };      /* of fixed nodes that come first: weight gradient, input gradient, update */
enum { LEAST_STATES = 4096 };
enum { WAYS_PER_STATE = 8 }; /* looked at on average: a search that tries more gives up sooner */
#define NONE UINT32_MAX
#define IMPOSSIBLE UINT64_MAX

typedef struct state {
    uint64_t held;
    uint64_t cost;  /* of the cheapest way here that is known */
    uint64_t ahead; /* at least to come */
    uint64_t fresh; /* made on that way, and not read since */
    uint32_t progress, from, act; /* act: the node that led here, plus 1 */
} state;

/* Ties go to the furthest progress, then to the state found last (variant 0), so that the same search always takes the same
 * way. */
typedef struct entry {
    uint64_t cost;
    uint32_t left, state, tie;
} entry;

/* A fixed node after which something has to be recomputed in any case. */
typedef struct milestone {
    int fixed;
    uint64_t after;
} milestone;

struct ckpt_search {
    ckpt_space space;
    uint64_t *after; /* by node of the graph (ckpt_bound_after) */
    int milestone_count;
    milestone milestone[MOST_MILESTONES];
    /* One run of the search: */
    uint64_t step_bytes, below_cost;
    uint32_t most_states;
    uint64_t work; /* ways looked at */
    uint32_t mask; /* of the numbers that break ties */
    bool any; /* any schedule, whatever it costs */
    bool gave_up, out_of_memory;
    state *state;
    uint32_t state_count, state_capacity, now;
    uint32_t *slot, slot_count;
    entry *heap;
    uint32_t heap_count, heap_capacity;
    uint64_t *reads; /* by progress and milestone: what it and its ancestors still read */
    uint32_t reads_count, reads_capacity; /* in progress numbers */
};

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while searching for a schedule");
}

/* --- the heuristic ----------------------------------------------------------------------------------- */

/* Adds the cost of making `wanted` to *cost, of what is not in *there; false where that has expired. */
static bool need(const ckpt_space *x, uint64_t expired, uint64_t wanted, uint64_t *there, uint64_t *cost) {
    for (wanted &= ~*there; wanted; wanted &= ~*there) {
        const int maker = x->maker[__builtin_ctzll(wanted)];
        if (expired >> maker & 1) return false;
        *there |= x->forward[maker].out;
        *cost += x->forward[maker].cost;
        wanted |= x->forward[maker].in;
    }
    return true;
}

/* What milestones still read at each progress that is known by now. */
static bool list_reads(ckpt_search *s) {
    const ckpt_space *x = &s->space;
    if (x->progress_count > s->reads_capacity) {
        const uint32_t capacity = x->progress_capacity;
        uint64_t *grown = realloc(s->reads, sizeof *grown * capacity * MOST_MILESTONES);
        if (!grown) return false;
        s->reads = grown;
        s->reads_capacity = capacity;
    }
    for (; s->reads_count < x->progress_count; s->reads_count++) {
        const ckpt_progress *at = &x->progress[s->reads_count];
        for (int i = 0; i < s->milestone_count; i++) {
            const ckpt_fixed_set *up = &x->fixed[s->milestone[i].fixed].ancestors;
            uint64_t read = 0;
            for (int w = 0; w < CKPT_SPACE_WORDS && s->reads_count > 0; w++)
                for (uint64_t rest = up->word[w] & ~at->done.word[w]; rest; rest &= rest - 1)
                    read |= x->fixed[64 * w + __builtin_ctzll(rest)].in;
            s->reads[(size_t)s->reads_count * MOST_MILESTONES + (size_t)i] = read;
        }
    }
    return true;
}

static uint64_t least_ahead(const ckpt_search *s, uint32_t progress, uint64_t held) {
    const ckpt_space *x = &s->space;
    const ckpt_progress *at = &x->progress[progress];
    uint64_t there = held, most = 0;
    if (!need(x, at->expired, at->read, &there, &most)) return IMPOSSIBLE;
    for (int i = 0; i < s->milestone_count && !s->any; i++) {
        if (ckpt_fixed_has(&at->done, s->milestone[i].fixed)) continue;
        uint64_t cost = s->milestone[i].after;
        there = held;
        need(x, at->expired, s->reads[(size_t)progress * MOST_MILESTONES + (size_t)i], &there, &cost);
        if (cost > most) most = cost;
    }
    return most;
}

static int by_after(const void *a, const void *b) {
    const milestone *x = a, *y = b;
    if (x->after != y->after) return x->after > y->after ? -1 : 1;
    return (x->fixed > y->fixed) - (x->fixed < y->fixed);
}

/* Of two fixed nodes of which one runs after the other, the later one says more unless less is to come after it. */
static bool is_dominated(const ckpt_space *x, const milestone *list, int count, const milestone *m) {
    for (int i = 0; i < count; i++)
        if (list[i].fixed != m->fixed && list[i].after >= m->after &&
            ckpt_fixed_has(&x->fixed[list[i].fixed].ancestors, m->fixed))
            return true;
    return false;
}

static ckpt_status find_milestones(ckpt_search *s, ckpt_error *err) {
    const ckpt_space *x = &s->space;
    milestone list[CKPT_SPACE_FIXED];
    int count = 0;
    s->milestone_count = 0;
    if (s->any) return CKPT_OK;
    CKPT_TRY(ckpt_bound_after(x->problem, s->step_bytes, s->after, err));
    for (int f = 0; f < x->fixed_count; f++)
        if (s->after[x->fixed[f].node] > 0) list[count++] = (milestone){f, s->after[x->fixed[f].node]};
    qsort(list, (size_t)count, sizeof *list, by_after);
    for (int i = 0; i < count && s->milestone_count < MOST_MILESTONES; i++)
        if (!is_dominated(x, list, count, &list[i])) s->milestone[s->milestone_count++] = list[i];
    return CKPT_OK;
}

/* --- states ------------------------------------------------------------------------------------------ */

static bool before(const entry *a, const entry *b) {
    if (a->cost != b->cost) return a->cost < b->cost;
    if (a->left != b->left) return a->left < b->left;
    return a->tie > b->tie;
}

static void push(ckpt_search *s, uint32_t at) {
    const state *x = &s->state[at];
    const uint32_t left = (uint32_t)(s->space.fixed_count - s->space.progress[x->progress].count);
    const entry e = {s->any ? 0 : x->cost + x->ahead, left, at, at ^ s->mask};
    if (s->heap_count == s->heap_capacity) {
        const uint32_t capacity = s->heap_capacity ? 2 * s->heap_capacity : LEAST_STATES;
        entry *grown = realloc(s->heap, capacity * sizeof *grown);
        if (!grown) {
            s->out_of_memory = true;
            return;
        }
        s->heap = grown;
        s->heap_capacity = capacity;
    }
    uint32_t i = s->heap_count++;
    for (; i > 0 && before(&e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = e;
}

static entry pop(ckpt_search *s) {
    const entry top = s->heap[0], last = s->heap[--s->heap_count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= s->heap_count) break;
        if (child + 1 < s->heap_count && before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!before(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

/* Finalizer of MurmurHash3 (Appleby): every bit of the state moves every bit of the slot. */
static uint32_t first_slot(const ckpt_search *s, uint32_t progress, uint64_t held) {
    uint64_t hash = held ^ progress * UINT64_C(0x9e3779b97f4a7c15);
    hash ^= hash >> 33;
    hash *= UINT64_C(0xff51afd7ed558ccd);
    hash ^= hash >> 33;
    hash *= UINT64_C(0xc4ceb9fe1a85ec53);
    hash ^= hash >> 33;
    return (uint32_t)hash & (s->slot_count - 1);
}

static void put(ckpt_search *s, uint32_t at) {
    uint32_t i = first_slot(s, s->state[at].progress, s->state[at].held);
    while (s->slot[i] != NONE) i = (i + 1) & (s->slot_count - 1);
    s->slot[i] = at;
}

static bool grow(ckpt_search *s) {
    const uint32_t capacity = s->state_capacity ? 2 * s->state_capacity : LEAST_STATES;
    state *grown = realloc(s->state, capacity * sizeof *grown);
    if (!grown) return false;
    s->state = grown;
    uint32_t *slot = malloc(2 * (size_t)capacity * sizeof *slot); /* at most half full */
    if (!slot) return false;
    free(s->slot);
    s->slot = slot;
    s->slot_count = 2 * capacity;
    s->state_capacity = capacity;
    memset(slot, 0xff, 2 * (size_t)capacity * sizeof *slot);
    for (uint32_t at = 0; at < s->state_count; at++) put(s, at);
    return true;
}

static bool is_too_dear(const ckpt_search *s, uint64_t cost, uint64_t ahead) {
    return ahead == IMPOSSIBLE || (!s->any && cost + ahead >= s->below_cost);
}

/* A state can be reached at `cost`, by node `act`; it is kept unless it was reached as cheaply before or costs too much. */
static void reach(ckpt_search *s, uint32_t progress, uint64_t held, uint64_t cost, int act, uint64_t fresh) {
    if (s->gave_up || s->out_of_memory) return;
    uint32_t i = first_slot(s, progress, held);
    while (s->slot[i] != NONE && (s->state[s->slot[i]].progress != progress || s->state[s->slot[i]].held != held))
        i = (i + 1) & (s->slot_count - 1);
    uint32_t at = s->slot[i];
    if (at == NONE) {
        const uint64_t ahead = least_ahead(s, progress, held);
        if (is_too_dear(s, cost, ahead)) return;
        if (s->state_count >= s->most_states) {
            s->gave_up = true;
            return;
        }
        if (s->state_count == s->state_capacity && !grow(s)) {
            s->out_of_memory = true;
            return;
        }
        at = s->state_count++;
        s->state[at] = (state){.held = held, .progress = progress, .ahead = ahead};
        put(s, at);
    } else if (s->any || s->state[at].cost <= cost) {
        return;
    }
    s->state[at].cost = cost;
    s->state[at].from = s->now;
    s->state[at].act = (uint32_t)act + 1;
    s->state[at].fresh = fresh;
    push(s, at);
}

/* --- successors -------------------------------------------------------------------------------------- */

/* Without the tensors that what is made from them stands for. */
static uint64_t leave_out(const ckpt_search *s, const ckpt_progress *at, uint64_t held) {
    const ckpt_space *x = &s->space;
    uint64_t covered = held;
    for (int t = x->tensor_count - 1; t >= 0; t--) {
        const uint64_t one = UINT64_C(1) << t;
        if (at->read & one) continue;
        uint64_t made = 0;
        for (uint64_t readers = x->readers[t] & ~at->expired; readers; readers &= readers - 1)
            made |= x->forward[__builtin_ctzll(readers)].out;
        made &= at->useful;
        if (!made || (made & ~covered) || ckpt_space_bytes(x, made) > x->bytes[t]) continue;
        covered |= one;
        held &= ~one;
    }
    return held;
}

/* A node that is about to run, and what is held once it has. */
typedef struct move {
    const ckpt_space_node *node;
    uint32_t progress; /* after it */
    uint64_t after, fresh;
} move;

/* Drops of `may` what makes room for `excess` bytes, in every way in which nothing is dropped for nothing; `smallest` is the
 * smallest dropped so far. */
static void make_room(ckpt_search *s, const move *m, uint64_t may, uint64_t dropped, uint64_t excess, uint64_t smallest) {
    const ckpt_space *x = &s->space;
    s->gave_up |= ++s->work > (uint64_t)s->most_states * WAYS_PER_STATE;
    if (s->gave_up) return;
    if (excess == 0) {
        const uint64_t held = leave_out(s, &x->progress[m->progress], m->after & ~dropped);
        reach(s, m->progress, held, s->state[s->now].cost + m->node->cost, m->node->node, m->fresh & held);
        return;
    }
    if (ckpt_space_bytes(x, may) < excess) return;
    const uint64_t one = may & (~may + 1), bytes = x->bytes[__builtin_ctzll(may)];
    const uint64_t least = bytes < smallest ? bytes : smallest;
    if (bytes < excess) {
        const uint64_t ahead = least_ahead(s, m->progress, m->after & ~(dropped | one));
        if (!is_too_dear(s, s->state[s->now].cost + m->node->cost, ahead))
            make_room(s, m, may & ~one, dropped | one, excess - bytes, least);
    } else if (bytes - excess < least) {
        make_room(s, m, may & ~one, dropped | one, 0, least);
    }
    make_room(s, m, may & ~one, dropped, excess, smallest);
}

/* What must be read before it is dropped. Where one of several outputs has been read the node did not run in vain. */
static uint64_t fresh_out(const ckpt_space_node *x) {
    return x->cost > 0 && (x->out & (x->out - 1)) == 0 ? x->out : 0;
}

/* Runs a node that finds all that it reads. It takes over a buffer of what fixed nodes made where it `overwrites` one;
 * otherwise one of the forward tensors that it may overwrite can die, where that is what makes it fit. */
static void run(ckpt_search *s, const ckpt_space_node *x, uint64_t held, uint64_t own_bytes, bool overwrites, uint32_t progress) {
    const uint64_t useful = s->space.progress[progress].useful, fresh = s->state[s->now].fresh;
    const uint64_t live =
        ckpt_space_bytes(&s->space, held) + own_bytes + x->out_bytes - (overwrites ? x->overwrite_bytes : 0);
    const uint64_t may = held & ~x->in & ~fresh;
    move m = {x, progress, (held | x->out) & useful, (fresh & ~x->in) | fresh_out(x)};
    make_room(s, &m, may, 0, live > s->step_bytes ? live - s->step_bytes : 0, UINT64_MAX);
    if (overwrites || live <= s->step_bytes) return;
    const uint64_t bytes = live - x->overwrite_bytes, excess = bytes > s->step_bytes ? bytes - s->step_bytes : 0;
    for (uint64_t over = x->overwrite & held; over; over &= over - 1) {
        m.after = ((held | x->out) & ~(over & (~over + 1))) & useful;
        make_room(s, &m, may, 0, excess, UINT64_MAX);
    }
}

/* Whether a ready fixed node finds all it reads, and lets nothing expire that is of use. */
static bool can_come_first(const ckpt_search *s, const ckpt_progress *at, uint64_t held, const ckpt_space_node *f) {
    if (f->in & ~held) return false;
    for (uint64_t expires = f->expires & ~at->expired; expires; expires &= expires - 1)
        if (s->space.forward[__builtin_ctzll(expires)].out & at->useful) return false;
    return true;
}

/* The next fixed node of a set from f on, or -1. */
static int next_fixed(const ckpt_fixed_set *set, int f) {
    for (int w = f / 64; w < CKPT_SPACE_WORDS; w++) {
        const uint64_t rest = w == f / 64 ? set->word[w] >> (f % 64) << (f % 64) : set->word[w];
        if (rest) return 64 * w + __builtin_ctzll(rest);
    }
    return -1;
}

typedef enum verdict { NOTHING, FITS, TOO_LARGE } verdict;

/* Looks for `depth` fixed nodes that leave at most `most` bytes of their own. *first is the first of them. */
static verdict find_run(ckpt_search *s, uint32_t progress, uint64_t held, uint64_t most, int depth, bool fits, int *first) {
    ckpt_space *x = &s->space;
    const ckpt_progress at = x->progress[progress];
    const uint64_t held_bytes = ckpt_space_bytes(x, held & at.useful);
    verdict found = NOTHING;
    s->work++;
    for (int f = next_fixed(&at.ready, 0); f >= 0 && found != FITS; f = next_fixed(&at.ready, f + 1)) {
        if (!can_come_first(s, &at, held, &x->fixed[f])) continue;
        bool overwrites;
        const uint64_t after = ckpt_space_own_bytes_after(x, &at, f, &overwrites);
        const uint64_t live = held_bytes + at.own_bytes + x->fixed[f].out_bytes - (overwrites ? x->fixed[f].overwrite_bytes : 0);
        const bool fits_too = fits && live <= s->step_bytes;
        verdict v = NOTHING;
        if (depth == 1) {
            if (after <= most) v = fits_too ? FITS : TOO_LARGE;
        } else {
            const uint32_t next = ckpt_space_advance(x, progress, f);
            if (next == 0) s->out_of_memory = true;
            else v = find_run(s, next, held, most, depth - 1, fits_too, &(int){0});
        }
        if (v == FITS) *first = f;
        if (v != NOTHING) found = v;
    }
    return found;
}

/* A fixed node that comes before all else in the state, or -1. A set of nodes that would do if it fitted rules out larger
 * ones, of which it may be a part. */
static int find_first(ckpt_search *s, uint32_t progress, uint64_t held) {
    int first = -1;
    for (int depth = 1; depth <= LONGEST_RUN; depth++) {
        const verdict v = find_run(s, progress, held, s->space.progress[progress].own_bytes, depth, true, &first);
        if (v == FITS) return first;
        if (v == TOO_LARGE) return -1;
    }
    return -1;
}

static void run_fixed(ckpt_search *s, uint32_t progress, uint64_t held, int f) {
    ckpt_space *x = &s->space;
    const ckpt_progress at = x->progress[progress];
    bool overwrites;
    ckpt_space_own_bytes_after(x, &at, f, &overwrites);
    const uint32_t next = ckpt_space_advance(x, progress, f);
    if (next == 0 || !list_reads(s)) s->out_of_memory = true;
    else run(s, &x->fixed[f], held, at.own_bytes, overwrites, next);
}

static void expand(ckpt_search *s, uint32_t progress, uint64_t held) {
    ckpt_space *x = &s->space;
    const int first = find_first(s, progress, held);
    if (s->out_of_memory || !list_reads(s)) {
        s->out_of_memory = true;
        return;
    }
    if (first >= 0) {
        run_fixed(s, progress, held, first);
        return;
    }
    const ckpt_progress at = x->progress[progress];
    for (int i = 0; i < x->forward_count; i++) {
        const ckpt_space_node *a = &x->forward[i];
        if ((at.expired >> i & 1) || (a->in & ~held) || !(a->out & ~held & at.useful)) continue;
        run(s, a, held & ~a->out, at.own_bytes, false, progress);
    }
    for (int f = next_fixed(&at.ready, 0); f >= 0; f = next_fixed(&at.ready, f + 1))
        if (!(x->fixed[f].in & ~held)) run_fixed(s, progress, held, f);
}

/* --- a search ---------------------------------------------------------------------------------------- */

static bool is_end(const ckpt_search *s, const state *x) {
    return s->space.progress[x->progress].count == s->space.fixed_count && !(s->space.outputs & ~x->held);
}

/* The state where the search ends; NONE: there is none, or it gave up. *lower_bound is of every way that is not found. */
static uint32_t search(ckpt_search *s, uint64_t *lower_bound) {
    s->now = 0;
    s->state_count = s->heap_count = 0;
    s->work = 0;
    s->gave_up = false;
    s->out_of_memory = (s->state_capacity == 0 && !grow(s)) || !list_reads(s);
    if (s->out_of_memory) return NONE;
    memset(s->slot, 0xff, sizeof *s->slot * s->slot_count);
    *lower_bound = 0;
    reach(s, 1, 0, 0, -1, 0);
    while (s->heap_count && !s->out_of_memory && !s->gave_up) {
        const entry e = pop(s);
        const state x = s->state[e.state];
        if (!s->any && x.cost + x.ahead < e.cost) continue; /* a better way here was found since */
        *lower_bound = x.cost + x.ahead;
        if (is_end(s, &x)) return e.state;
        s->now = e.state;
        expand(s, x.progress, x.held);
    }
    if (!s->gave_up) *lower_bound = s->below_cost;
    return NONE;
}

/* The way to a state, as a schedule. */
static ckpt_status take(const ckpt_search *s, uint32_t end, ckpt_pool *pool, ckpt_search_result *result, ckpt_error *err) {
    const ckpt_problem *p = s->space.problem;
    ckpt_pool scratch = {0};
    ckpt_liveness live;
    int count = 0;
    for (uint32_t at = end; at != 0; at = s->state[at].from) count++;
    result->schedule = (ckpt_schedule){.count = count, .capacity = count, .node = ckpt_pool_array(pool, count, int)};
    if (!result->schedule.node) return out_of_memory(err);
    for (uint32_t at = end; at != 0; at = s->state[at].from) result->schedule.node[--count] = (int)s->state[at].act - 1;
    const ckpt_status status = ckpt_liveness_find(p->graph, &result->schedule, p->alignment_bytes, &scratch, &live, err);
    if (status == CKPT_OK) result->peak_bytes = live.peak_bytes;
    ckpt_pool_free(&scratch);
    result->recompute_cost = s->state[end].cost - s->space.first_cost;
    return status;
}

static ckpt_status find(ckpt_search *s, ckpt_pool *pool, ckpt_search_result *result, ckpt_error *err) {
    uint64_t bound;
    *result = (ckpt_search_result){0};
    s->reads_count = 0;
    CKPT_TRY(find_milestones(s, err));
    const uint32_t end = search(s, &bound);
    if (s->out_of_memory) return out_of_memory(err);
    result->found = end != NONE;
    result->complete = !s->gave_up;
    result->states = s->state_count;
    result->lower_bound_cost = bound > s->space.first_cost ? bound - s->space.first_cost : 0;
    return end != NONE ? take(s, end, pool, result, err) : CKPT_OK;
}

ckpt_status ckpt_search_cheapest(ckpt_search *s, uint64_t step_bytes, uint64_t below_cost, uint32_t most_states, ckpt_pool *pool,
                                 ckpt_search_result *result, ckpt_error *err) {
    s->any = false;
    s->step_bytes = step_bytes;
    s->below_cost = s->space.first_cost + below_cost;
    s->most_states = most_states;
    return find(s, pool, result, err);
}

ckpt_status ckpt_search_feasible(ckpt_search *s, uint64_t step_bytes, uint32_t most_states, ckpt_pool *pool,
                                 ckpt_search_result *result, ckpt_error *err) {
    s->any = true;
    s->step_bytes = step_bytes;
    s->below_cost = 0;
    s->most_states = most_states;
    return find(s, pool, result, err);
}

ckpt_status ckpt_search_open(const ckpt_problem *problem, ckpt_search **search, ckpt_error *err) {
    *search = NULL;
    ckpt_search *s = calloc(1, sizeof *s);
    if (!s) return out_of_memory(err);
    bool fits;
    ckpt_status status = ckpt_space_open(problem, &s->space, &fits, err);
    if (status == CKPT_OK && fits) {
        s->after = ckpt_pool_array(&s->space.pool, problem->graph->node_count, uint64_t);
        if (!s->after) status = out_of_memory(err);
    }
    if (status == CKPT_OK && fits) *search = s;
    else ckpt_search_close(s);
    return status;
}

void ckpt_search_vary(ckpt_search *s, int variant) { s->mask = (uint32_t)variant * UINT32_C(0x9e3779b1); }

int ckpt_search_tensors(const ckpt_search *s) { return s->space.tensor_count; }

void ckpt_search_close(ckpt_search *s) {
    if (!s) return;
    ckpt_space_close(&s->space);
    free(s->state);
    free(s->slot);
    free(s->heap);
    free(s->reads);
    free(s);
}
