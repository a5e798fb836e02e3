/* Small changes to whole schedules: dropping what lies idle at the peak and making it again before its next use, and leaving
 * out what there is room to hold. Lifetimes are those of liveness.h, found here without memory of their own for every try. */
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "graph/op.h"
#include "planner/graph/graph_curve.h"

enum { TARGETS = 40, ROUNDS = 24, PLAIN_ROUNDS = 3, MOST_TRIES = 8, MOST_CLOSURE = 96, MOST_DROPS = 400 };

/* One production of a tensor. */
typedef struct made {
    int tensor, first, end; /* steps, as ckpt_instance's */
    int before;             /* the production of the tensor before this one, or -1 */
} made;

/* What a schedule is like. */
typedef struct view {
    int made_count;
    made *made;
    int *newest;    /* by tensor: its last production, or -1 */
    int *in;        /* productions read, step by step */
    int *in_first;  /* by step: where in in[] */
    uint64_t *live; /* by step */
    uint64_t peak, recomputed;
    int peak_step;
} view;

typedef struct moves {
    ckpt_graph_curve *curve;
    const ckpt_graph *graph;
    uint64_t most_work;
    uint64_t *bytes; /* by tensor, aligned; 0: outlives the step */
    const uint64_t *cost; /* by node */
    uint64_t *over;       /* by node: the inputs that output 0 may be written over when they die (liveness.h) */
    bool *once;      /* by node: must not run again */
    bool *step;      /* by tensor */
    int *writer;     /* by tensor that outlives the step: the first node that writes it, or INT_MAX */
    int count, capacity, *node; /* the schedule */
    int *trial;                 /* room for another */
    view now, before; /* as it was looked at last, and the time before that */
    bool *ran;        /* by node */
    /* of one search for what to make again: */
    int *closure, closure_count, *seen, search;
    struct drop *drop;
    bool shaken;     /* values are off by chance */
    uint64_t chance; /* state of the generator */
} moves;

/* A production that lies idle over the peak, and what dropping it is worth. */
typedef struct drop {
    int made, read; /* read: the step of its next use */
    double value;
} drop;

/* The rule of liveness.c, but for whether the input dies. */
static uint64_t inputs_to_write_over(const ckpt_graph *g, const bool *step, const ckpt_node *node) {
    const uint64_t mask = ckpt_op_info(node->op)->inplace;
    uint64_t over = 0;
    if (!mask || node->out_count < 1 || node->out[0] < 0 || !step[node->out[0]]) return 0;
    for (int i = 0; i < node->in_count && i < 64; i++) {
        const int t = node->in[i];
        if (!(mask >> i & 1) || t < 0 || !step[t] ||
            ckpt_tensor_bytes(&g->tensor[t]) != ckpt_tensor_bytes(&g->tensor[node->out[0]]))
            continue;
        bool otherwise = false;
        for (int j = 0; j < node->in_count; j++) otherwise |= node->in[j] == t && !(mask >> j & 1);
        if (!otherwise) over |= (uint64_t)1 << i;
    }
    return over;
}

static bool written_over(const moves *m, int s) {
    const int *in = &m->now.in[m->now.in_first[s]];
    uint64_t over = m->over[m->node[s]];
    for (int i = 0; over; i++, over >>= 1)
        if (over & 1 && m->now.made[in[i]].end == s + 1) return true;
    return false;
}

static bool find_productions(moves *m) {
    const ckpt_graph *g = m->graph;
    m->now.made_count = 0;
    m->now.recomputed = 0;
    memset(m->now.newest, 0xff, sizeof *m->now.newest * (size_t)g->tensor_count);
    memset(m->ran, 0, sizeof *m->ran * (size_t)g->node_count);
    int at = 0;
    for (int s = 0; s < m->count; s++) {
        const ckpt_node *node = &g->node[m->node[s]];
        if (m->ran[m->node[s]]) m->now.recomputed += m->cost[m->node[s]];
        m->ran[m->node[s]] = true;
        m->now.in_first[s] = at;
        for (int i = 0; i < node->in_count; i++) {
            const int t = node->in[i];
            m->now.in[at] = -1;
            if (t >= 0 && m->step[t]) {
                if (m->now.newest[t] < 0) return false;
                m->now.in[at] = m->now.newest[t];
                m->now.made[m->now.newest[t]].end = s + 1;
            }
            at++;
        }
        for (int i = 0; i < node->out_count; i++) {
            const int t = node->out[i];
            if (t < 0 || !m->step[t]) continue;
            m->now.made[m->now.made_count] = (made){t, s, s + 1, m->now.newest[t]};
            m->now.newest[t] = m->now.made_count++;
        }
    }
    for (int i = 0; i < g->output_count; i++)
        if (g->output[i] >= 0 && m->step[g->output[i]] && m->now.newest[g->output[i]] >= 0)
            m->now.made[m->now.newest[g->output[i]]].end = m->count;
    return true;
}

/* Back to what was seen the time before. */
static void look_back(moves *m) {
    const view swap = m->now;
    m->now = m->before;
    m->before = swap;
}

/* Lifetimes of the schedule; false when it reads what was not made. */
static bool look(moves *m) {
    look_back(m);
    m->curve->work += (uint64_t)m->count;
    if (!find_productions(m)) return false;
    memset(m->now.live, 0, sizeof *m->now.live * (size_t)(m->count + 1));
    for (int k = 0; k < m->now.made_count; k++) {
        const made *x = &m->now.made[k];
        const uint64_t bytes = m->bytes[x->tensor];
        const bool over = m->graph->node[m->node[x->first]].out[0] == x->tensor && written_over(m, x->first);
        m->now.live[x->first + over] += bytes;
        m->now.live[x->end] -= bytes; /* may pass below 0, modulo 2^64, until summed */
    }
    uint64_t now = 0;
    m->now.peak = 0;
    for (int s = 0; s < m->count; s++) {
        m->now.live[s] = now += m->now.live[s];
        if (now > m->now.peak) m->now.peak = now, m->now.peak_step = s;
    }
    return true;
}

/* The newest production of `tensor` before step s. */
static int newest_before(const moves *m, int tensor, int s) {
    int k = m->now.newest[tensor];
    while (k >= 0 && m->now.made[k].first >= s) k = m->now.made[k].before;
    return k;
}

/* Lists in closure[] what has to run before step `read` to make `tensor` again, given what is there behind the peak. Returns its
 * cost; UINT64_MAX where it cannot. `next` is the node of the gradients or updates that follows. */
static uint64_t find_closure(moves *m, int tensor, int read, int next) {
    const ckpt_graph *g = m->graph;
    uint64_t cost = 0;
    m->search++;
    m->closure_count = 0;
    m->closure[m->closure_count++] = g->tensor[tensor].producer;
    m->seen[g->tensor[tensor].producer] = m->search;
    for (int i = 0; i < m->closure_count; i++) {
        const int n = m->closure[i];
        const ckpt_node *node = &g->node[n];
        if (n >= g->forward_count || m->once[n]) return UINT64_MAX;
        cost += m->cost[n];
        for (int j = 0; j < node->in_count; j++) {
            const int t = node->in[j];
            if (t < 0) continue;
            if (!m->step[t]) {
                if (m->writer[t] < next) return UINT64_MAX;
                continue;
            }
            const int k = newest_before(m, t, read), producer = g->tensor[t].producer;
            if (k < 0) return UINT64_MAX;
            if (m->now.made[k].end > m->now.peak_step + 1 || m->seen[producer] == m->search) continue;
            if (m->closure_count == MOST_CLOSURE) return UINT64_MAX;
            m->seen[producer] = m->search;
            m->closure[m->closure_count++] = producer;
        }
    }
    return cost;
}

/* A value as it is, or off by a factor of up to 4 either way: other small changes come first then, by the same generator every time
 * (Knuth's MMIX). */
static double shake(moves *m, double value) {
    if (!m->shaken) return value;
    m->chance = m->chance * 6364136223846793005u + 1442695040888963407u;
    const double part = (double)(m->chance >> 40) / (double)(1 << 24);
    return value * (part < 0.5 ? 1 / (1 + 6 * part) : 1 + 6 * (part - 0.5));
}

static int compare_ids(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

static int by_value(const void *a, const void *b) {
    const drop *x = a, *y = b;
    if (x->value != y->value) return x->value > y->value ? -1 : 1;
    return x->made - y->made;
}

/* The node of the gradients or updates at or behind step s. */
static int next_fixed(const moves *m, int s) {
    while (s < m->count && m->node[s] < m->graph->forward_count) s++;
    return s < m->count ? m->node[s] : m->graph->node_count;
}

static int list_drops(moves *m) {
    int count = 0;
    int *next = m->trial; /* by production: its next use behind the peak */
    for (int k = 0; k < m->now.made_count; k++) next[k] = -1;
    for (int s = m->count - 1; s >= m->now.peak_step; s--)
        for (int i = m->now.in_first[s]; i < m->now.in_first[s] + m->graph->node[m->node[s]].in_count; i++)
            if (m->now.in[i] >= 0) next[m->now.in[i]] = s;
    for (int k = 0; k < m->now.made_count; k++) {
        const made *x = &m->now.made[k];
        if (x->first >= m->now.peak_step || next[k] <= m->now.peak_step || m->bytes[x->tensor] == 0) continue;
        const uint64_t cost = find_closure(m, x->tensor, next[k], next_fixed(m, next[k]));
        if (cost == UINT64_MAX) continue;
        m->drop[count++] = (drop){k, next[k], shake(m, (double)m->bytes[x->tensor] / ((double)cost + 1))};
    }
    qsort(m->drop, (size_t)count, sizeof *m->drop, by_value);
    return count;
}

/* Makes the dropped tensor again before its next use; false where there is no room for a longer schedule. */
static bool insert(moves *m, const drop *d) {
    if (find_closure(m, m->now.made[d->made].tensor, d->read, next_fixed(m, d->read)) == UINT64_MAX) return false;
    const int more = m->closure_count;
    if (m->count + more > m->capacity) return false;
    qsort(m->closure, (size_t)more, sizeof *m->closure, compare_ids);
    memmove(&m->node[d->read + more], &m->node[d->read], sizeof *m->node * (size_t)(m->count - d->read));
    memcpy(&m->node[d->read], m->closure, sizeof *m->node * (size_t)more);
    m->count += more;
    return true;
}

/* One drop that lowers the peak where it is and raises none; false when there is none among the best. */
static bool drop_one(moves *m) {
    const uint64_t peak = m->now.peak;
    const int at = m->now.peak_step, drops = list_drops(m);
    for (int i = 0; i < drops && i < MOST_TRIES; i++) {
        const drop d = m->drop[i];
        const int before = m->count;
        if (!insert(m, &d)) continue;
        const int more = m->count - before;
        if (look(m) && m->now.peak <= peak && m->now.live[at] < peak) return true;
        memmove(&m->node[d.read], &m->node[d.read + more], sizeof *m->node * (size_t)(m->count - more - d.read));
        m->count = before;
        look_back(m);
    }
    return false;
}

static ckpt_status keep(moves *m, ckpt_error *err) {
    const ckpt_graph_point *p = ckpt_graph_curve_find(m->curve, m->now.peak);
    if (p && p->cost <= m->now.recomputed) return CKPT_OK;
    const ckpt_schedule schedule = {.count = m->count, .capacity = m->count, .node = m->node};
    return ckpt_graph_curve_add(m->curve, &schedule, err);
}

/* A step that runs again, and what leaving it out is worth. */
static int list_again(moves *m) {
    const ckpt_graph *g = m->graph;
    int count = 0;
    memset(m->ran, 0, sizeof *m->ran * (size_t)g->node_count);
    for (int s = 0; s < m->count; s++) {
        const int n = m->node[s];
        if (!m->ran[n]) {
            m->ran[n] = true;
            continue;
        }
        uint64_t bytes = 1;
        for (int i = 0; i < g->node[n].out_count; i++)
            if (g->node[n].out[i] >= 0) bytes += m->bytes[g->node[n].out[i]];
        m->drop[count++] = (drop){s, 0, shake(m, (double)m->cost[n] / (double)bytes)};
    }
    qsort(m->drop, (size_t)count, sizeof *m->drop, by_value);
    return count;
}

/* Whether what step s makes could be held from its production before instead: a quick look at the bytes between. */
static bool may_hold(const moves *m, int s, uint64_t limit) {
    const ckpt_node *node = &m->graph->node[m->node[s]];
    uint64_t dying = 0;
    for (int i = 0; i < node->in_count; i++) {
        const int k = m->now.in[m->now.in_first[s] + i];
        if (k >= 0 && m->now.made[k].end == s + 1) dying += m->bytes[node->in[i]];
    }
    for (int i = 0; i < node->out_count; i++) {
        const int t = node->out[i];
        if (t < 0 || !m->step[t]) continue;
        const int k = newest_before(m, t, s);
        if (k < 0) return false;
        for (int at = m->now.made[k].end; at < s; at++)
            if (m->now.live[at] + m->bytes[t] > limit + dying) return false;
    }
    return true;
}

/* Leaves out what runs again, dearest for its bytes first, as far as `limit` allows. */
static void leave_out(moves *m, uint64_t limit) {
    const int count = list_again(m);
    for (int i = 0; i < count && m->curve->work < m->most_work; i++) {
        const int s = m->drop[i].made, n = m->node[s];
        if (!may_hold(m, s, limit)) continue;
        memmove(&m->node[s], &m->node[s + 1], sizeof *m->node * (size_t)(m->count - s - 1));
        m->count--;
        if (look(m) && m->now.peak <= limit) {
            for (int j = i + 1; j < count; j++) m->drop[j].made -= m->drop[j].made > s;
            continue;
        }
        memmove(&m->node[s + 1], &m->node[s], sizeof *m->node * (size_t)(m->count - s));
        m->node[s] = n;
        m->count++;
        look_back(m);
    }
}

/* From a point of the curve down to `limit`, then what can be left out within it. */
static ckpt_status move(moves *m, const ckpt_graph_point *from, uint64_t limit, ckpt_error *err) {
    if (from->schedule.count > m->capacity) return CKPT_OK;
    m->count = from->schedule.count;
    memcpy(m->node, from->schedule.node, sizeof *m->node * (size_t)m->count);
    if (!look(m)) return CKPT_OK;
    for (int i = 0; i < MOST_DROPS && m->now.peak > limit && m->curve->work < m->most_work; i++) {
        if (!drop_one(m)) break;
        CKPT_TRY(keep(m, err));
    }
    if (m->now.peak > limit) return CKPT_OK;
    leave_out(m, limit);
    return keep(m, err);
}

static ckpt_status move_all(moves *m, ckpt_error *err) {
    for (int round = 0; round < ROUNDS && m->curve->work < m->most_work; round++) {
        m->shaken = round >= PLAIN_ROUNDS;
        const uint64_t least = m->curve->point[0].bytes, most = m->curve->point[m->curve->count - 1].bytes;
        for (int i = TARGETS - 1; i >= 0 && m->curve->work < m->most_work; i--) {
            /* denser where there are few bytes */
            const double part = (double)i / TARGETS;
            const uint64_t limit = least + (uint64_t)((double)(most - least) * part * (0.4 + 0.6 * part));
            const ckpt_graph_point *p = ckpt_graph_curve_find(m->curve, limit);
            if (!p) continue;
            CKPT_TRY(move(m, p, limit, err));
            p = ckpt_graph_curve_above(m->curve, limit + (most - least) / TARGETS / 2 * (uint64_t)(round % 4));
            if (p) CKPT_TRY(move(m, p, limit, err));
        }
        CKPT_TRY(move(m, &m->curve->point[0], 0, err));
    }
    return CKPT_OK;
}

static void prepare(moves *m) {
    const ckpt_graph *g = m->graph;
    for (int t = 0; t < g->tensor_count; t++) {
        m->step[t] = ckpt_tensor_is_step(g, t);
        m->bytes[t] = m->step[t] ? ckpt_align_up(ckpt_tensor_bytes(&g->tensor[t]), m->curve->alignment_bytes) : 0;
        m->writer[t] = g->node_count;
    }
    for (int n = g->node_count - 1; n >= 0; n--) {
        m->over[n] = inputs_to_write_over(g, m->step, &g->node[n]);
        m->once[n] = g->node[n].op == CKPT_OP_LOSS || ckpt_node_has_effect(g, n);
        for (int i = 0; i < g->node[n].out_count; i++)
            if (g->node[n].out[i] >= 0 && !m->step[g->node[n].out[i]]) m->writer[g->node[n].out[i]] = n;
    }
}

static bool make_view(view *v, const ckpt_graph *g, int capacity, int most_in, size_t most_made, ckpt_pool *pool) {
    *v = (view){.made = ckpt_pool_array(pool, most_made, made),
                .newest = ckpt_pool_array(pool, g->tensor_count, int),
                .in = ckpt_pool_array(pool, (size_t)capacity * (size_t)most_in, int),
                .in_first = ckpt_pool_array(pool, capacity + 1, int),
                .live = ckpt_pool_array(pool, capacity + 2, uint64_t)};
    return v->made && v->newest && v->in && v->in_first && v->live;
}

ckpt_status ckpt_graph_curve_move(ckpt_graph_curve *c, uint64_t most_work, ckpt_error *err) {
    const ckpt_graph *g = c->graph;
    if (c->count == 0) return CKPT_OK;
    ckpt_pool scratch = {0};
    const int capacity = 4 * g->node_count;
    int most_in = 1, most_out = 1;
    for (int n = 0; n < g->node_count; n++) {
        if (g->node[n].in_count > most_in) most_in = g->node[n].in_count;
        if (g->node[n].out_count > most_out) most_out = g->node[n].out_count;
    }
    const size_t most_made = (size_t)capacity * (size_t)most_out;
    moves m = {.curve = c,
               .graph = g,
               .most_work = most_work,
               .capacity = capacity,
               .bytes = ckpt_pool_array(&scratch, g->tensor_count, uint64_t),
               .cost = c->costs->node,
               .over = ckpt_pool_array(&scratch, g->node_count, uint64_t),
               .once = ckpt_pool_array(&scratch, g->node_count, bool),
               .step = ckpt_pool_array(&scratch, g->tensor_count, bool),
               .writer = ckpt_pool_array(&scratch, g->tensor_count, int),
               .node = ckpt_pool_array(&scratch, capacity + 1, int),
               .trial = ckpt_pool_array(&scratch, most_made, int),
               .ran = ckpt_pool_array(&scratch, g->node_count, bool),
               .closure = ckpt_pool_array(&scratch, MOST_CLOSURE, int),
               .seen = ckpt_pool_array(&scratch, g->node_count, int),
               .drop = ckpt_pool_array(&scratch, most_made, drop)};
    ckpt_status status;
    if (!m.bytes || !m.over || !m.once || !m.step || !m.writer || !m.node || !m.trial || !m.ran || !m.closure || !m.seen ||
        !m.drop || !make_view(&m.now, g, capacity, most_in, most_made, &scratch) ||
        !make_view(&m.before, g, capacity, most_in, most_made, &scratch)) {
        status = ckpt_fail(err, CKPT_NOMEM, "out of host memory while improving schedules");
    } else {
        prepare(&m);
        status = move_all(&m, err);
    }
    ckpt_pool_free(&scratch);
    return status;
}
