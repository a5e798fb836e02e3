/* Local search over whole schedules.
 *
 * A move changes a schedule a little where its peak is:
 *
 *   - A forward tensor that lies idle at the peak is dropped and made again before its next use, by the nodes that it takes.
 *   - A backward or update node runs at another time: the producer of an idle gradient later, or the last reader of an
 *     idle tensor before the peak. Dependencies must hold, and no recomputation may find a parameter already updated
 *     (ckpt_problem.expires).
 *   - Where there are bytes to spare, a recomputation is left out, and what it makes is held since its definition before.
 *
 * A run starts from points of the frontier, moves down to a limit by the moves of the first two kinds that are worth most, and
 * then leaves out what it can: a greedy descent. Which schedule it ends in is a matter of luck, by up to 5 % of a step near
 * the smallest budget of a ResNet. So there are several restarts with values perturbed by other seeds, and the frontier keeps
 * the best of all. */
#include <stdlib.h>
#include <string.h>

#include "planner/graph/pareto.h"

enum { RESTARTS = 16, ROUNDS = 8, FIRST_TARGETS = 10, TARGETS = 40 };
enum { MOST_RECOMPUTED = 4, MOST_RESCHEDULED = 2, MOST_CLOSURE = 96, MOST_DESCENT = 400, MOST_SIDEWAYS = 20 };
enum { STEPS_PER_NODE = 4 }; /* of the longest schedule */

typedef enum kind { RECOMPUTE, RESCHEDULE, LEAVE_OUT } kind;

typedef struct move {
    kind kind;
    int tensor;   /* RECOMPUTE */
    int from, to; /* steps. RECOMPUTE: to is the next use. RESCHEDULE: where the node is, and before which step it goes */
    double value;
} move;

typedef struct moves {
    ckpt_pareto *frontier;
    const ckpt_problem *problem;
    const ckpt_graph *graph;
    bool by_bytes, reschedules;
    uint64_t most_work;
    bool *expirer;              /* by node: after it some forward node may not run again */
    int count, capacity, *node; /* the schedule */
    int *saved;                 /* and before the last move */
    ckpt_replay now, before;    /* replays of both */
    int *next;                  /* by instance: its next use behind the peak, or -1 */
    int *closure, closure_count;
    int *seen, search; /* by node: the last search that came by */
    move *list;
    bool perturbed;
    int sideways; /* moves to come that need not lower the peak */
    uint64_t random; /* state of the generator */
} moves;

/* --- one move ---------------------------------------------------------------------------------------- */

static bool replay(moves *m) {
    m->frontier->work += (uint64_t)m->count;
    return ckpt_replay_run(&m->now, m->node, m->count);
}

/* Keeps the schedule and its replay until take_back(). */
static void save(moves *m) {
    const ckpt_replay swap = m->now;
    m->now = m->before;
    m->before = swap;
    memcpy(m->saved, m->node, sizeof *m->node * (size_t)m->count);
}

static void take_back(moves *m) {
    const ckpt_replay swap = m->now;
    m->now = m->before;
    m->before = swap;
    m->count = m->now.count;
    memcpy(m->node, m->saved, sizeof *m->node * (size_t)m->count);
}

/* Whether recomputing forward node n at step `step` still finds what it reads. */
static bool may_run_at(const moves *m, int n, int step) {
    const ckpt_problem *p = m->problem;
    if (!p->recomputable[n]) return false;
    for (int i = p->expires_first[n]; i < p->expires_first[n + 1]; i++)
        if (m->now.ran[p->expires[i]] < step) return false;
    return true;
}

/* Lists in closure[] what has to run before step `read` to make `tensor` again, given what is live behind the peak. Returns its
 * cost; UINT64_MAX where it cannot. */
static uint64_t find_closure(moves *m, int tensor, int read) {
    const ckpt_graph *g = m->graph;
    const ckpt_replay *r = &m->now;
    uint64_t cost = 0;
    m->search++;
    m->closure_count = 0;
    m->closure[m->closure_count++] = g->tensor[tensor].producer;
    m->seen[g->tensor[tensor].producer] = m->search;
    for (int i = 0; i < m->closure_count; i++) {
        const int n = m->closure[i];
        if (n >= g->forward_count || !may_run_at(m, n, read)) return UINT64_MAX;
        cost += m->by_bytes ? 1 : m->problem->costs->node[n];
        for (int j = r->in_first[n]; j < r->in_first[n + 1]; j++) {
            const int t = r->in[j];
            if (t < 0) continue;
            const int k = ckpt_replay_newest_before(r, t, read), producer = g->tensor[t].producer;
            if (k < 0) return UINT64_MAX;
            if (r->instance[k].end > r->peak_step + 1 || m->seen[producer] == m->search) continue;
            if (m->closure_count == MOST_CLOSURE) return UINT64_MAX;
            m->seen[producer] = m->search;
            m->closure[m->closure_count++] = producer;
        }
    }
    return cost;
}

static int compare_ids(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* Changes the schedule; false where there is no room for a longer one. */
static bool apply(moves *m, const move *x) {
    if (x->kind == RECOMPUTE) {
        if (find_closure(m, x->tensor, x->to) == UINT64_MAX || m->count + m->closure_count > m->capacity) return false;
        save(m);
        qsort(m->closure, (size_t)m->closure_count, sizeof *m->closure, compare_ids);
        memmove(&m->node[x->to + m->closure_count], &m->node[x->to], sizeof *m->node * (size_t)(m->count - x->to));
        memcpy(&m->node[x->to], m->closure, sizeof *m->node * (size_t)m->closure_count);
        m->count += m->closure_count;
        return true;
    }
    save(m);
    const int n = m->node[x->from];
    if (x->kind == LEAVE_OUT) {
        memmove(&m->node[x->from], &m->node[x->from + 1], sizeof *m->node * (size_t)(--m->count - x->from));
    } else if (x->to > x->from) {
        memmove(&m->node[x->from], &m->node[x->from + 1], sizeof *m->node * (size_t)(x->to - 1 - x->from));
        m->node[x->to - 1] = n;
    } else {
        memmove(&m->node[x->to + 1], &m->node[x->to], sizeof *m->node * (size_t)(x->from - x->to));
        m->node[x->to] = n;
    }
    return true;
}

/* A value as it is, or off by a factor of up to 4 either way, by the same generator every time (Knuth's MMIX). */
static double perturb(moves *m, double value) {
    if (!m->perturbed) return value;
    m->random = m->random * 6364136223846793005u + 1442695040888963407u;
    const double part = (double)(m->random >> 40) / (double)(1 << 24);
    return value * (part < 0.5 ? 1 / (1 + 6 * part) : 1 + 6 * (part - 0.5));
}

static int by_value(const void *a, const void *b) {
    const move *x = a, *y = b;
    if (x->value != y->value) return x->value > y->value ? -1 : 1;
    return x->from != y->from ? x->from - y->from : x->to - y->to;
}

/* --- lowering the peak ------------------------------------------------------------------------------- */

/* Whether the backward or update node at step `from` may run before step `to` instead. */
static bool may_reschedule(const moves *m, int from, int to) {
    const ckpt_problem *p = m->problem;
    const int n = m->node[from];
    if (n < m->graph->forward_count) return false;
    if (to > from) {
        for (int i = p->after_first[n]; i < p->after_first[n + 1]; i++)
            if (m->now.ran[p->after[i]] < to) return false;
        return true;
    }
    for (int i = p->before_first[n]; i < p->before_first[n + 1]; i++)
        if (!p->recomputable[p->before[i]] && m->now.ran[p->before[i]] >= to) return false;
    for (int s = to; s < from && m->expirer[n]; s++)
        for (int i = p->expires_first[m->node[s]]; i < p->expires_first[m->node[s] + 1]; i++)
            if (p->expires[i] == n) return false;
    return true;
}

static void list_reschedule(moves *m, int from, int to, double value, int *count) {
    if (!m->reschedules || to == from || to == from + 1 || !may_reschedule(m, from, to)) return;
    /* costs nothing: before all recomputations */
    m->list[(*count)++] = (move){.kind = RESCHEDULE, .from = from, .to = to, .value = 1e30 * perturb(m, 1 + value)};
}

/* Moves that take something away from the peak. */
static int list_moves(moves *m) {
    const ckpt_replay *r = &m->now;
    const int peak = r->peak_step;
    int count = 0;
    for (int k = 0; k < r->instance_count; k++) m->next[k] = -1;
    for (int s = m->count - 1; s >= peak; s--)
        for (int i = r->in_first[m->node[s]], k = r->read_first[s]; i < r->in_first[m->node[s] + 1]; i++, k++)
            if (r->read[k] >= 0) m->next[r->read[k]] = s;
    for (int k = 0; k < r->instance_count; k++) {
        const ckpt_replay_instance *x = &r->instance[k];
        const double bytes = (double)m->problem->bytes[x->tensor];
        if (x->first >= peak || m->next[k] <= peak || bytes == 0) continue; /* not idle there */
        if (x->end == m->next[k] + 1) list_reschedule(m, m->next[k], peak, bytes, &count);
        if (m->graph->tensor[x->tensor].producer >= m->graph->forward_count) {
            list_reschedule(m, x->first, m->next[k], bytes, &count);
            continue;
        }
        const uint64_t cost = find_closure(m, x->tensor, m->next[k]);
        if (cost == UINT64_MAX) continue;
        m->list[count++] = (move){.kind = RECOMPUTE, .tensor = x->tensor, .from = k, .to = m->next[k],
                                  .value = perturb(m, bytes / ((double)cost + 1))};
    }
    qsort(m->list, (size_t)count, sizeof *m->list, by_value);
    return count;
}

/* One move after which less is live where the peak was, and nowhere more. False: there is none among the best. */
static bool lower_peak(moves *m) {
    const uint64_t peak = m->now.peak_bytes;
    const int steps = m->now.peak_count, count = list_moves(m);
    int left[2] = {[RECOMPUTE] = MOST_RECOMPUTED, [RESCHEDULE] = MOST_RESCHEDULED};
    for (int i = 0; i < count; i++) {
        const move x = m->list[i];
        if (left[x.kind]-- <= 0 || !apply(m, &x)) continue;
        if (replay(m)) {
            if (m->now.peak_bytes < peak || (m->now.peak_bytes == peak && m->now.peak_count < steps)) return true;
            if (m->now.peak_bytes == peak && m->now.peak_count == steps && m->sideways > 0) {
                m->sideways--;
                return true;
            }
        }
        take_back(m);
    }
    return false;
}

/* --- leaving out ------------------------------------------------------------------------------------- */

/* Recomputations, and what leaving each out is worth. */
static int list_recomputations(moves *m) {
    const ckpt_graph *g = m->graph;
    int count = 0;
    m->search++;
    for (int s = 0; s < m->count; s++) {
        const int n = m->node[s];
        uint64_t bytes = 1;
        for (int i = 0; i < g->node[n].out_count; i++)
            if (g->node[n].out[i] >= 0) bytes += m->problem->bytes[g->node[n].out[i]];
        if (m->seen[n] == m->search)
            m->list[count++] = (move){.kind = LEAVE_OUT, .from = s,
                                      .value = perturb(m, (double)m->problem->costs->node[n] / (double)bytes)};
        m->seen[n] = m->search;
    }
    qsort(m->list, (size_t)count, sizeof *m->list, by_value);
    return count;
}

/* Whether what step s makes could be held from its definition before instead: a quick look at the bytes between. */
static bool may_hold(const moves *m, int s, uint64_t limit) {
    const ckpt_replay *r = &m->now;
    const ckpt_node *node = &m->graph->node[m->node[s]];
    uint64_t dying = 0;
    for (int i = 0; i < node->in_count; i++) {
        const int k = r->read[r->read_first[s] + i];
        if (k >= 0 && r->instance[k].end == s + 1) dying += m->problem->bytes[node->in[i]];
    }
    for (int i = 0; i < node->out_count; i++) {
        const int t = node->out[i];
        if (!ckpt_tensor_is_step(m->graph, t)) continue;
        const int k = ckpt_replay_newest_before(r, t, s);
        if (k < 0) return false;
        for (int at = r->instance[k].end; at < s; at++)
            if (r->live[at] + m->problem->bytes[t] > limit + dying) return false;
    }
    return true;
}

/* Leaves out recomputations, dearest for its bytes first, as far as `limit` allows. */
static void leave_out(moves *m, uint64_t limit) {
    const int count = list_recomputations(m);
    for (int i = 0; i < count && m->frontier->work < m->most_work; i++) {
        const int s = m->list[i].from;
        if (!may_hold(m, s, limit) || !apply(m, &m->list[i])) continue;
        if (!replay(m) || m->now.peak_bytes > limit) take_back(m);
        else
            for (int j = i + 1; j < count; j++) m->list[j].from -= m->list[j].from > s;
    }
}

/* --- runs -------------------------------------------------------------------------------------------- */

static ckpt_status keep(moves *m, ckpt_error *err) {
    return ckpt_pareto_insert(m->frontier, m->node, m->count, m->now.peak_bytes, m->now.recompute_cost, false, err);
}

/* From a schedule down to `limit`, then what can be left out within it. */
static ckpt_status run(moves *m, const ckpt_schedule *from, uint64_t limit, ckpt_error *err) {
    if (from->count > m->capacity) return CKPT_OK;
    m->count = from->count;
    memcpy(m->node, from->node, sizeof *m->node * (size_t)m->count);
    if (!replay(m)) return CKPT_OK;
    m->sideways = m->by_bytes && m->perturbed ? MOST_SIDEWAYS : 0;
    for (int i = 0; i < MOST_DESCENT && m->now.peak_bytes > limit && m->frontier->work < m->most_work && lower_peak(m); i++)
        CKPT_TRY(keep(m, err));
    if (m->now.peak_bytes > limit) return CKPT_OK;
    leave_out(m, limit);
    return keep(m, err);
}

/* Runs to limits all over the frontier, denser where there are few bytes. */
static ckpt_status run_all(moves *m, int restart, ckpt_error *err) {
    const ckpt_pareto *f = m->frontier;
    m->random = (uint64_t)restart;
    for (int round = 0; round < ROUNDS && f->work < m->most_work; round++) {
        m->perturbed = restart + round > 0;
        const uint64_t least = f->point[0].bytes, most = f->point[f->count - 1].bytes;
        const int targets = FIRST_TARGETS << round < TARGETS ? FIRST_TARGETS << round : TARGETS;
        for (int i = 0; i < targets && f->work < m->most_work; i++) {
            const double part = (double)i / targets;
            const uint64_t limit = least + (uint64_t)((double)(most - least) * part * (0.2 + 0.8 * part));
            const ckpt_pareto_point *p = ckpt_pareto_find(f, limit);
            if (!p) continue;
            CKPT_TRY(run(m, &p->schedule, limit, err));
            p = ckpt_pareto_above(f, limit + (most - least) / TARGETS / 2 * (uint64_t)(round % 4));
            if (p) CKPT_TRY(run(m, &p->schedule, limit, err));
        }
        CKPT_TRY(run(m, &f->point[0].schedule, 0, err));
    }
    return CKPT_OK;
}

static ckpt_status add_all(ckpt_pareto *to, const ckpt_pareto *from, ckpt_error *err) {
    for (int i = 0; i < from->count; i++) {
        const ckpt_pareto_point *p = &from->point[i];
        CKPT_TRY(ckpt_pareto_insert(to, p->schedule.node, p->schedule.count, p->bytes, p->cost, p->pinned, err));
    }
    return CKPT_OK;
}

static ckpt_status open_moves(moves *m, const ckpt_problem *p, const ckpt_solver_options *options, ckpt_pool *pool,
                              ckpt_error *err) {
    const int nodes = p->graph->node_count;
    *m = (moves){.problem = p, .graph = p->graph, .capacity = STEPS_PER_NODE * nodes, .reschedules = !options->without_orders};
    CKPT_TRY(ckpt_replay_open(p, m->capacity, &m->now, err));
    CKPT_TRY(ckpt_replay_open(p, m->capacity, &m->before, err));
    m->expirer = ckpt_pool_array(pool, nodes, bool);
    m->node = ckpt_pool_array(pool, m->capacity, int);
    m->saved = ckpt_pool_array(pool, m->capacity, int);
    m->next = ckpt_pool_array(pool, (size_t)m->capacity * CKPT_MAX_OUT, int);
    m->closure = ckpt_pool_array(pool, MOST_CLOSURE, int);
    m->seen = ckpt_pool_array(pool, nodes, int);
    m->list = ckpt_pool_array(pool, 2 * (size_t)m->capacity * CKPT_MAX_OUT, move);
    if (!m->expirer || !m->node || !m->saved || !m->next || !m->closure || !m->seen || !m->list)
        return ckpt_fail(err, CKPT_NOMEM, "out of host memory while improving schedules");
    for (int i = 0; i < p->expires_first[nodes]; i++) m->expirer[p->expires[i]] = true;
    return CKPT_OK;
}

static void close_moves(moves *m, ckpt_pool *pool) {
    ckpt_replay_close(&m->now);
    ckpt_replay_close(&m->before);
    ckpt_pool_free(pool);
}

ckpt_status ckpt_pareto_improve(ckpt_pareto *f, const ckpt_solver_options *options, ckpt_error *err) {
    const int restarts = options->without_restarts ? 1 : RESTARTS;
    if (options->without_moves || f->count == 0 || f->most_improving == 0) return CKPT_OK;
    ckpt_pool pool = {0};
    moves m;
    ckpt_pareto start = ckpt_pareto_of(f->problem);
    ckpt_status status = open_moves(&m, f->problem, options, &pool, err);
    if (status == CKPT_OK) status = add_all(&start, f, err);
    const uint64_t most_work = f->work + f->most_improving;
    for (int i = 0; i < restarts && status == CKPT_OK && f->work < most_work; i++) {
        ckpt_pareto own = ckpt_pareto_of(f->problem);
        m.frontier = &own;
        m.most_work = most_work - f->work;
        status = add_all(&own, &start, err);
        if (status == CKPT_OK) status = run_all(&m, i, err);
        if (status == CKPT_OK) status = add_all(f, &own, err);
        f->work += own.work;
        ckpt_pareto_free(&own);
    }
    ckpt_pareto_free(&start);
    close_moves(&m, &pool);
    return status;
}

ckpt_status ckpt_pareto_shrink(ckpt_pareto *f, const ckpt_solver_options *options, ckpt_error *err) {
    enum { MOST_SHRINKING = 20000000, SHRINKING_ROUNDS = 64, LOWEST = 8 };
    if (options->without_moves || f->count == 0) return CKPT_OK;
    ckpt_pool pool = {0};
    moves m;
    ckpt_pareto start = ckpt_pareto_of(f->problem);
    ckpt_status status = open_moves(&m, f->problem, options, &pool, err);
    for (int i = 0; i < f->count && status == CKPT_OK; i++)
        if (f->point[i].pinned || i < LOWEST)
            status = ckpt_pareto_insert(&start, f->point[i].schedule.node, f->point[i].schedule.count, f->point[i].bytes,
                                        f->point[i].cost, true, err);
    m.frontier = f;
    m.by_bytes = true;
    m.most_work = f->work + MOST_SHRINKING;
    for (int round = 0; round < SHRINKING_ROUNDS && status == CKPT_OK; round++) {
        m.perturbed = round > 0;
        for (int i = 0; i < start.count && status == CKPT_OK && f->work < m.most_work; i++)
            status = run(&m, &start.point[i].schedule, 0, err);
        if (status == CKPT_OK && f->work < m.most_work) status = run(&m, &f->point[0].schedule, 0, err);
    }
    ckpt_pareto_free(&start);
    close_moves(&m, &pool);
    return status;
}
