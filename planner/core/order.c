/* List scheduling of the backward pass.
 *
 * Forward tensors can be made again; gradients cannot. So what an order needs lies between two extremes: nothing is
 * kept, and the gradients still to be read are live with the forward tensors that a step itself reads; or everything is
 * kept until its last read. Three rules build an order:
 *
 *   - Of the two gradients of a product, dx and dw, which both read dz, dw comes first. With dx first dz, dx, x and dw
 *     are live together at dw. With dw first dz, x and dw are, then dz, dw and dx: never more, and x is needed no longer.
 *     That holds for all sizes, as the update of the weight follows dx at once in either case. Until one of its
 *     siblings runs, a weight gradient is not made.
 *   - An update runs as soon as it can, since it frees a gradient, unless it would expire a forward node that the
 *     rest of the backward pass may still need to recompute (ckpt_problem.expires).
 *   - Among branches, Liu's rule (An application of generalized tree pebbling to sparse matrix factorization, SIAM
 *     J. Alg. Disc. Meth. 8(3), 1987): a segment of a branch has a hill, the most that it holds on the way, and a
 *     valley, what is left at its end. Segments that free bytes come first, the lowest hill before the others; of those
 *     that leave bytes behind, the one with the largest hill - valley. On trees that is optimal; here it is a
 *     heuristic, as gradients are summed and branches share what they read.
 */
#include "planner/core/order.h"

#include <string.h>

/* Nodes of a segment that are looked at. A decision takes so many steps per ready node. */
enum { MOST_SEGMENT = 48, MOST_BRANCHES = 16 };

typedef enum kind {
    CARRIER,  /* a gradient that other gradients are made from */
    TERMINAL, /* a parameter's gradient, or a part of it: its results are read by updates only */
    EFFECT    /* makes no STEP tensor: an update, or a sum that is added to */
} kind;

typedef struct scheduler {
    const ckpt_problem *problem;
    kind *kind;   /* by node */
    int *waiting; /* by node: direct predecessors that have not run */
    int *held;    /* by node: recomputable nodes that it would expire and that are still needed */
    int *reads;   /* by tensor: reads to come in the backward pass */
    bool kept;    /* forward tensors are live until their last read; else only while they are read */
    int *needs;   /* by forward node: readers that run, or may run again, from here on */
    bool *ran;
    int *born;    /* by node: length of the trail when it became ready */
    int *ready, ready_count;   /* nodes with waiting 0 that have not run, ascending */
    int *stack;                /* of change_needs: an entry per read of a forward node */
    int *trail, trail_count;   /* nodes run so far, in order: so that a trial can be undone */
    uint64_t live, hill;       /* bytes; the most since it was reset */
} scheduler;

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while ordering the backward pass");
}

/* Forward node f is needed by `change` more readers (1 or -1). When its last need goes, so do those of its inputs, and
 * what would expire it is held no longer; and the other way round. */
static void change_needs(scheduler *s, int f, int change) {
    const ckpt_problem *p = s->problem;
    int count = 0;
    s->stack[count++] = f;
    while (count > 0) {
        const int n = s->stack[--count];
        const bool needed = s->needs[n] > 0;
        s->needs[n] += change;
        if (needed == (s->needs[n] > 0)) continue;
        for (int i = p->expires_first[n]; i < p->expires_first[n + 1]; i++) s->held[p->expires[i]] += change;
        for (int i = 0; i < p->graph->node[n].in_count; i++) {
            const int t = p->graph->node[n].in[i];
            if (ckpt_tensor_is_step(p->graph, t)) s->stack[count++] = p->graph->tensor[t].producer;
        }
    }
}

static void insert_ready(scheduler *s, int n) {
    int at = s->ready_count++;
    for (; at > 0 && s->ready[at - 1] > n; at--) s->ready[at] = s->ready[at - 1];
    s->ready[at] = n;
}

static void remove_ready(scheduler *s, int n) {
    int at = 0;
    while (s->ready[at] != n) at++;
    memmove(&s->ready[at], &s->ready[at + 1], sizeof *s->ready * (size_t)(--s->ready_count - at));
}

static bool is_gradient(const scheduler *s, int tensor) {
    const ckpt_graph *g = s->problem->graph;
    return ckpt_tensor_is_step(g, tensor) && g->tensor[tensor].producer >= g->forward_count;
}

/* Bytes of a node's results: those that are written over a dying gradient are no new ones while it runs. */
static uint64_t bytes_made(const scheduler *s, int n, bool while_running) {
    const ckpt_node *node = &s->problem->graph->node[n];
    uint64_t bytes = 0;
    for (int i = 0; i < node->out_count; i++)
        if (is_gradient(s, node->out[i]) && (while_running || s->reads[node->out[i]] > 0))
            bytes += s->problem->bytes[node->out[i]];
    for (int i = 0; i < node->in_count && while_running; i++)
        if (s->problem->overwrite[n] >> i & 1 && is_gradient(s, node->in[i]) && s->reads[node->in[i]] == 1)
            return bytes - s->problem->bytes[node->out[0]];
    return bytes;
}

/* Forward tensors that the node reads, each once, where they are live for its sake alone. */
static uint64_t bytes_for_it_alone(const scheduler *s, int n) {
    const ckpt_graph *g = s->problem->graph;
    const ckpt_node *node = &g->node[n];
    uint64_t bytes = 0;
    for (int i = 0; i < node->in_count && !s->kept; i++) {
        const int t = node->in[i];
        bool before = !ckpt_tensor_is_step(g, t) || is_gradient(s, t);
        for (int j = 0; j < i && !before; j++) before = node->in[j] == t;
        if (!before) bytes += s->problem->bytes[t];
    }
    return bytes;
}

static void run(scheduler *s, int n) {
    const ckpt_problem *p = s->problem;
    const ckpt_node *node = &p->graph->node[n];
    const uint64_t at = s->live + bytes_made(s, n, true) + bytes_for_it_alone(s, n);
    if (at > s->hill) s->hill = at;
    s->live += bytes_made(s, n, false);
    for (int i = 0; i < node->in_count; i++) {
        const int t = node->in[i];
        if (!ckpt_tensor_is_step(p->graph, t)) continue;
        if (--s->reads[t] == 0 && (s->kept || is_gradient(s, t))) s->live -= p->bytes[t];
        if (!is_gradient(s, t)) change_needs(s, p->graph->tensor[t].producer, -1);
    }
    remove_ready(s, n);
    s->ran[n] = true;
    s->trail[s->trail_count++] = n;
    for (int i = p->after_first[n]; i < p->after_first[n + 1]; i++)
        if (--s->waiting[p->after[i]] == 0) {
            s->born[p->after[i]] = s->trail_count;
            insert_ready(s, p->after[i]);
        }
}

/* Undoes the last run. */
static void take_back(scheduler *s) {
    const ckpt_problem *p = s->problem;
    const int n = s->trail[--s->trail_count];
    const ckpt_node *node = &p->graph->node[n];
    for (int i = p->after_first[n]; i < p->after_first[n + 1]; i++)
        if (s->waiting[p->after[i]]++ == 0) remove_ready(s, p->after[i]);
    s->ran[n] = false;
    insert_ready(s, n);
    for (int i = 0; i < node->in_count; i++) {
        const int t = node->in[i];
        if (!ckpt_tensor_is_step(p->graph, t)) continue;
        if (s->reads[t]++ == 0 && (s->kept || is_gradient(s, t))) s->live += p->bytes[t];
        if (!is_gradient(s, t)) change_needs(s, p->graph->tensor[t].producer, 1);
    }
    s->live -= bytes_made(s, n, false);
}

/* Whether a carrier that has not run, other than `but`, reads a gradient that terminal node n reads. */
static bool has_sibling(const scheduler *s, int n, int but) {
    const ckpt_problem *p = s->problem;
    for (int k = p->before_first[n]; k < p->before_first[n + 1]; k++)
        for (int i = p->after_first[p->before[k]]; i < p->after_first[p->before[k] + 1] && p->before[k] >= p->graph->forward_count; i++) {
            const int m = p->after[i];
            if (m != but && s->kind[m] == CARRIER && !s->ran[m]) return true;
        }
    return false;
}

/* Whether what comes behind terminal node n, the parameter's update or the next part of its gradient, waits for nothing
 * else but `carrier`, if not -1. */
static bool leads_on(const scheduler *s, int n, int carrier) {
    const ckpt_problem *p = s->problem;
    for (int i = p->after_first[n]; i < p->after_first[n + 1]; i++) {
        const int m = p->after[i];
        int others = s->waiting[m] - 1 + s->held[m];
        for (int k = p->before_first[m]; k < p->before_first[m + 1]; k++) others -= carrier >= 0 && p->before[k] == carrier;
        if (others > 0) return false;
    }
    return true;
}

/* A ready node of the first two rules, or -1. `carrier`: the one that runs next, or -1. */
static int next_simple(const scheduler *s, int carrier) {
    for (int i = 0; i < s->ready_count; i++) {
        const int n = s->ready[i];
        if (s->kind[n] == EFFECT && s->held[n] == 0) return n;
        if (s->kind[n] == TERMINAL && (leads_on(s, n, carrier) || !has_sibling(s, n, carrier))) return n;
    }
    return -1;
}

static void run_simple(scheduler *s, int carrier) {
    for (int n; (n = next_simple(s, carrier)) >= 0;) run(s, n);
}

/* Runs a carrier, and what the first two rules add before and behind it. Returns the next carrier of the same branch, one
 * that has become ready since the trail was `start` long, or -1. */
static int run_on(scheduler *s, int carrier, int start) {
    run_simple(s, carrier);
    run(s, carrier);
    run_simple(s, -1);
    for (int i = 0; i < s->ready_count; i++)
        if (s->kind[s->ready[i]] == CARRIER && s->born[s->ready[i]] >= start) return s->ready[i];
    return -1;
}

typedef struct segment {
    int first, length;    /* carrier; nodes run */
    int64_t hill, valley; /* beyond what was live before */
} segment;

/* Tries the branch that begins with `carrier`. */
static segment look_ahead(scheduler *s, int carrier) {
    const int start = s->trail_count;
    const uint64_t before = s->live, hill = s->hill;
    segment best = {.valley = INT64_MAX};
    s->hill = s->live;
    for (int next = carrier; next >= 0 && best.valley > 0 && s->trail_count - start < MOST_SEGMENT;) {
        next = run_on(s, next, start);
        const int64_t valley = (int64_t)(s->live - before);
        if (valley < best.valley)
            best = (segment){carrier, s->trail_count - start, (int64_t)(s->hill - before), valley};
    }
    while (s->trail_count > start) take_back(s);
    s->hill = hill;
    return best;
}

/* Liu's rule. */
static bool comes_first(const segment *a, const segment *b) {
    const bool a_frees = a->valley <= 0, b_frees = b->valley <= 0;
    if (a_frees != b_frees) return a_frees;
    return a_frees ? a->hill < b->hill : a->hill - a->valley > b->hill - b->valley;
}

/* The best segment among the ready carriers; of length 0 where there is none. */
static segment next_segment(scheduler *s, bool choose) {
    segment best = {0};
    int carriers = 0, first = -1;
    for (int i = s->ready_count - 1; i >= 0; i--)
        if (s->kind[s->ready[i]] == CARRIER) first = s->ready[i], carriers++;
    if (carriers > 0 && (carriers == 1 || !choose)) return (segment){.first = first, .length = 1};
    for (int i = 0, looked = 0; i < s->ready_count && looked < MOST_BRANCHES; i++) {
        if (s->kind[s->ready[i]] != CARRIER) continue;
        const segment found = look_ahead(s, s->ready[i]);
        if (looked++ == 0 || comes_first(&found, &best)) best = found;
    }
    return best;
}

/* Whether it reads anything but gradients and their sums. */
static bool reads_others(const scheduler *s, int n) {
    const ckpt_graph *g = s->problem->graph;
    for (int i = 0; i < g->node[n].in_count; i++) {
        const int t = g->node[n].in[i];
        if (t >= 0 && !is_gradient(s, t) && g->tensor[t].role != CKPT_ROLE_GRADSUM) return true;
    }
    return false;
}

/* Whether node n hands gradient `tensor` on to an update, and makes no other gradient from it. */
static bool ends_with(const scheduler *s, int n, int tensor) {
    const ckpt_node *node = &s->problem->graph->node[n];
    if (s->kind[n] == EFFECT) return true;
    if (s->kind[n] == CARRIER) return false;
    for (int i = 0; i < node->in_count; i++)
        if (node->in[i] == tensor && s->problem->overwrite[n] >> i & 1) return true; /* a sum */
    return !reads_others(s, n);
}

static void find_kinds(scheduler *s) {
    const ckpt_problem *p = s->problem;
    for (int n = p->graph->node_count - 1; n >= p->graph->forward_count; n--) {
        const ckpt_node *node = &p->graph->node[n];
        bool gradient = false, carrier = false;
        for (int i = 0; i < node->out_count; i++) {
            if (!is_gradient(s, node->out[i])) continue;
            gradient = true;
            for (int k = p->after_first[n]; k < p->after_first[n + 1]; k++)
                carrier |= !ends_with(s, p->after[k], node->out[i]);
        }
        const bool effect = node->phase == CKPT_UPDATE || (!gradient && !reads_others(s, n));
        s->kind[n] = carrier ? CARRIER : effect ? EFFECT : TERMINAL;
    }
}

/* What is to come of the backward pass, none of which has run. */
static void count_all(scheduler *s) {
    const ckpt_problem *p = s->problem;
    const ckpt_graph *g = p->graph;
    for (int n = g->forward_count; n < g->node_count; n++) {
        for (int i = p->before_first[n]; i < p->before_first[n + 1]; i++) s->waiting[n] += p->before[i] >= g->forward_count;
        if (s->waiting[n] == 0) insert_ready(s, n);
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            if (s->reads[t]++ == 0 && s->kept && !is_gradient(s, t)) s->live += p->bytes[t];
            if (!is_gradient(s, t)) change_needs(s, g->tensor[t].producer, 1);
        }
    }
}

/* Runs the whole backward pass. */
static void schedule(scheduler *s, bool choose) {
    const int all = s->problem->graph->node_count - s->problem->graph->forward_count;
    while (s->trail_count < all) {
        const int before = s->trail_count;
        run_simple(s, -1);
        const segment next = next_segment(s, choose);
        const int start = s->trail_count;
        for (int carrier = next.first; s->trail_count - start < next.length && carrier >= 0;) carrier = run_on(s, carrier, start);
        /* nodes that expire something, and nothing else, are left */
        if (s->trail_count == before) run(s, s->ready[0]);
    }
}

static bool prepare(const ckpt_problem *p, bool kept, ckpt_pool *pool, scheduler *s) {
    const int nodes = p->graph->node_count;
    size_t inputs = 1;
    for (int n = 0; n < p->graph->forward_count; n++) inputs += (size_t)p->graph->node[n].in_count;
    *s = (scheduler){.problem = p,
                     .kept = kept,
                     .kind = ckpt_pool_array(pool, nodes, kind),
                     .waiting = ckpt_pool_array(pool, nodes, int),
                     .held = ckpt_pool_array(pool, nodes, int),
                     .reads = ckpt_pool_array(pool, p->graph->tensor_count, int),
                     .needs = ckpt_pool_array(pool, nodes, int),
                     .ran = ckpt_pool_array(pool, nodes, bool),
                     .born = ckpt_pool_array(pool, nodes, int),
                     .ready = ckpt_pool_array(pool, nodes, int),
                     .stack = ckpt_pool_array(pool, inputs, int),
                     .trail = ckpt_pool_array(pool, nodes, int)};
    if (!s->kind || !s->waiting || !s->held || !s->reads || !s->needs || !s->ran || !s->born || !s->ready || !s->stack ||
        !s->trail)
        return false;
    count_all(s);
    find_kinds(s);
    return true;
}

/* The first two rules; all three, with the bytes of branches counted in either way; autodiff's order. Liu's rule lowers the
 * smallest budget, but raises the peak of `sqrt` by up to a tenth (U-Net, ViT), as it knows nothing of what is made again. */
enum { WEIGHTS, KEPT_BRANCHES, BARE_BRANCHES, AUTODIFF, ORDERS };
static const char *const names[ORDERS] = {"weights first", "branches, all kept", "branches, none kept", "autodiff"};

static bool find(const ckpt_problem *p, int which, ckpt_pool *scratch, int *node) {
    for (int n = 0; n < p->graph->node_count; n++) node[n] = n;
    if (which == AUTODIFF) return true;
    scheduler s;
    if (!prepare(p, which == KEPT_BRANCHES, scratch, &s)) return false;
    schedule(&s, which != WEIGHTS);
    memcpy(node + p->graph->forward_count, s.trail, sizeof *node * (size_t)s.trail_count);
    return true;
}

int ckpt_order_count(void) {
    return ORDERS;
}

ckpt_status ckpt_order_find(const ckpt_problem *problem, int which, ckpt_pool *pool, ckpt_order *order, ckpt_error *err) {
    ckpt_pool scratch = {0};
    *order = (ckpt_order){.name = names[which], .node = ckpt_pool_array(pool, problem->graph->node_count, int)};
    const bool ok = order->node && find(problem, which, &scratch, order->node);
    ckpt_pool_free(&scratch);
    return ok ? CKPT_OK : out_of_memory(err);
}

ckpt_status ckpt_order_view(const ckpt_graph *graph, const ckpt_order *order, ckpt_pool *pool, ckpt_graph *view,
                            ckpt_error *err) {
    *view = *graph;
    view->pool = (ckpt_pool){0};
    view->node = ckpt_pool_array(pool, graph->node_count, ckpt_node);
    view->tensor = ckpt_pool_array(pool, graph->tensor_count, ckpt_tensor);
    if (!view->node || !view->tensor) return out_of_memory(err);
    memcpy(view->tensor, graph->tensor, sizeof *view->tensor * (size_t)graph->tensor_count);
    for (int i = 0; i < graph->node_count; i++) {
        view->node[i] = graph->node[order->node[i]];
        for (int k = 0; k < view->node[i].out_count; k++)
            if (ckpt_tensor_is_step(graph, view->node[i].out[k])) view->tensor[view->node[i].out[k]].producer = i;
    }
    return CKPT_OK;
}

void ckpt_order_map(const ckpt_order *order, ckpt_schedule *schedule) {
    for (int i = 0; i < schedule->count; i++) schedule->node[i] = order->node[schedule->node[i]];
}
