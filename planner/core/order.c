/* List scheduling of the backward pass by two rules.
 *
 *   - Of the two gradients of a product, dx and dw, which both read dz, dw comes first. With dx first dz, dx, x and dw
 *     are live together at dw. With dw first dz, x and dw are, then dz, dw and dx: never more, and x is needed no longer.
 *     That holds for all sizes, as the update of the weight follows dx at once in either case. Until one of its
 *     siblings runs, a weight gradient is not made.
 *   - An update runs as soon as it can, since it frees a gradient, unless it would expire a forward node that the
 *     rest of the backward pass may still need to recompute (ckpt_problem.expires).
 *
 * Otherwise nodes run in autodiff's order. Which branch of a network comes first is left to the local search
 * (planner/graph/moves.c): on U-Net, ViT, SqueezeNet and ResNets, orders of branches by Liu's rule for trees (SIAM J. Alg. Disc.
 * Meth. 8(3), 1987) made no plan of a budget cheaper by more than 0.3 % of a step, and `sqrt` up to a tenth larger.
 */
#include "planner/core/order.h"

#include <string.h>

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
    int *needs;   /* by forward node: its readers in the rest of the backward pass, and recomputable ones that are needed */
    bool *ran;
    int *ready, ready_count; /* nodes with waiting 0 that have not run, ascending */
    int *stack;              /* of change_needs: an entry per read of a forward node */
    int *order, count;       /* nodes run so far */
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

static void run(scheduler *s, int n) {
    const ckpt_problem *p = s->problem;
    const ckpt_node *node = &p->graph->node[n];
    for (int i = 0; i < node->in_count; i++)
        if (ckpt_tensor_is_step(p->graph, node->in[i]) && !is_gradient(s, node->in[i]))
            change_needs(s, p->graph->tensor[node->in[i]].producer, -1);
    remove_ready(s, n);
    s->ran[n] = true;
    s->order[s->count++] = n;
    for (int i = p->after_first[n]; i < p->after_first[n + 1]; i++)
        if (--s->waiting[p->after[i]] == 0) insert_ready(s, p->after[i]);
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

/* A ready node that one of the rules wants to run, or -1. `carrier`: the one that runs next, or -1. */
static int next_by_rule(const scheduler *s, int carrier) {
    for (int i = 0; i < s->ready_count; i++) {
        const int n = s->ready[i];
        if (s->kind[n] == EFFECT && s->held[n] == 0) return n;
        if (s->kind[n] == TERMINAL && (leads_on(s, n, carrier) || !has_sibling(s, n, carrier))) return n;
    }
    return -1;
}

static int next_carrier(const scheduler *s) {
    for (int i = 0; i < s->ready_count; i++)
        if (s->kind[s->ready[i]] == CARRIER) return s->ready[i];
    return -1;
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
        for (int i = 0; i < g->node[n].in_count; i++)
            if (ckpt_tensor_is_step(g, g->node[n].in[i]) && !is_gradient(s, g->node[n].in[i]))
                change_needs(s, g->tensor[g->node[n].in[i]].producer, 1);
    }
}

/* Runs the whole backward pass. */
static void schedule(scheduler *s) {
    while (s->ready_count > 0) {
        for (int n; (n = next_by_rule(s, -1)) >= 0;) run(s, n);
        const int carrier = next_carrier(s);
        if (carrier >= 0) {
            for (int n; (n = next_by_rule(s, carrier)) >= 0;) run(s, n);
            run(s, carrier);
        } else if (s->ready_count > 0) {
            run(s, s->ready[0]); /* only nodes that expire something are left */
        }
    }
}

static bool prepare(const ckpt_problem *p, ckpt_pool *pool, scheduler *s) {
    const int nodes = p->graph->node_count;
    size_t inputs = 1;
    for (int n = 0; n < p->graph->forward_count; n++) inputs += (size_t)p->graph->node[n].in_count;
    *s = (scheduler){.problem = p,
                     .kind = ckpt_pool_array(pool, nodes, kind),
                     .waiting = ckpt_pool_array(pool, nodes, int),
                     .held = ckpt_pool_array(pool, nodes, int),
                     .needs = ckpt_pool_array(pool, nodes, int),
                     .ran = ckpt_pool_array(pool, nodes, bool),
                     .ready = ckpt_pool_array(pool, nodes, int),
                     .stack = ckpt_pool_array(pool, inputs, int),
                     .order = ckpt_pool_array(pool, nodes, int)};
    if (!s->kind || !s->waiting || !s->held || !s->needs || !s->ran || !s->ready || !s->stack || !s->order) return false;
    count_all(s);
    find_kinds(s);
    return true;
}

enum { WEIGHTS_FIRST, AUTODIFF, ORDERS };
static const char *const names[ORDERS] = {"weights first", "autodiff"};

int ckpt_order_count(void) {
    return ORDERS;
}

ckpt_status ckpt_order_find(const ckpt_problem *problem, int which, ckpt_pool *pool, ckpt_order *order, ckpt_error *err) {
    const ckpt_graph *g = problem->graph;
    ckpt_pool scratch = {0};
    scheduler s;
    *order = (ckpt_order){.name = names[which], .node = ckpt_pool_array(pool, g->node_count, int)};
    const bool ok = order->node && (which == AUTODIFF || prepare(problem, &scratch, &s));
    for (int n = 0; n < g->node_count && ok; n++) order->node[n] = n;
    if (ok && which != AUTODIFF) {
        schedule(&s);
        memcpy(order->node + g->forward_count, s.order, sizeof *s.order * (size_t)s.count);
    }
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
