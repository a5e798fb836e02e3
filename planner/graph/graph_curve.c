#include "planner/graph/graph_curve.h"

#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "graph/op.h"

/* Work is in steps of schedules replayed, a few tens of nanoseconds each. */
enum { MOST_DESCENT = 15000000, MOST_POINTS = 512 };

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory while planning a graph with branches");
}

static uint64_t recomputed_cost(const ckpt_costs *costs, const ckpt_liveness *live) {
    uint64_t cost = 0;
    for (int s = 0; s < live->step_count; s++)
        if (live->step[s].recompute) cost += costs->node[live->step[s].node];
    return cost;
}

static ckpt_status measure(ckpt_graph_curve *c, const ckpt_schedule *schedule, ckpt_pool *pool, ckpt_liveness *live,
                           ckpt_error *err) {
    c->work += (uint64_t)schedule->count;
    return ckpt_liveness_find(c->graph, schedule, c->alignment_bytes, pool, live, err);
}

static void remove_points(ckpt_graph_curve *c, int from, int end) {
    for (int i = from; i < end; i++) free(c->point[i].schedule.node);
    if (end < c->count) memmove(&c->point[from], &c->point[end], sizeof *c->point * (size_t)(c->count - end));
    c->count -= end - from;
}

/* Of a full curve the point goes whose loss leaves the smallest step: what was cheaper with it is nearly so without. */
static void thin(ckpt_graph_curve *c) {
    int least = -1;
    double smallest = -1;
    for (int i = 1; i + 1 < c->count; i++) {
        if (c->point[i].pinned) continue;
        const double area = (double)(c->point[i + 1].bytes - c->point[i].bytes) *
                            (double)(c->point[i - 1].cost - c->point[i].cost);
        if (smallest < 0 || area < smallest) least = i, smallest = area;
    }
    if (least >= 0) remove_points(c, least, least + 1);
}

static ckpt_status add(ckpt_graph_curve *c, const ckpt_schedule *schedule, uint64_t bytes, uint64_t cost,
                       ckpt_error *err) {
    int at = 0, end;
    while (at < c->count && c->point[at].bytes < bytes) at++;
    if (at > 0 && c->point[at - 1].cost <= cost) return CKPT_OK;
    if (at < c->count && c->point[at].bytes == bytes && c->point[at].cost <= cost) return CKPT_OK;
    int *node = malloc(sizeof *node * (size_t)schedule->count);
    if (!c->point) c->point = calloc(2 * MOST_POINTS, sizeof *c->point); /* half of them may be pinned */
    if (!node || !c->point) {
        free(node);
        return out_of_memory(err);
    }
    memcpy(node, schedule->node, sizeof *node * (size_t)schedule->count);
    for (end = at; end < c->count && c->point[end].cost >= cost;) end++;
    remove_points(c, at, end);
    memmove(&c->point[at + 1], &c->point[at], sizeof *c->point * (size_t)(c->count - at));
    c->point[at] = (ckpt_graph_point){
        .bytes = bytes, .cost = cost, .pinned = c->pinned,
        .schedule = {.count = schedule->count, .capacity = schedule->count, .node = node}};
    if (++c->count > MOST_POINTS) thin(c);
    return CKPT_OK;
}

ckpt_status ckpt_graph_curve_try(ckpt_graph_curve *c, const ckpt_schedule *schedule, ckpt_pool *pool,
                                 ckpt_liveness *live, ckpt_error *err) {
    CKPT_TRY(measure(c, schedule, pool, live, err));
    return add(c, schedule, live->peak_bytes, recomputed_cost(c->costs, live), err);
}

ckpt_status ckpt_graph_curve_add(ckpt_graph_curve *c, const ckpt_schedule *schedule, ckpt_error *err) {
    ckpt_pool scratch = {0};
    ckpt_liveness live;
    const ckpt_status status = ckpt_graph_curve_try(c, schedule, &scratch, &live, err);
    ckpt_pool_free(&scratch);
    return status;
}

ckpt_status ckpt_graph_curve_add_kept(ckpt_graph_curve *c, const bool *kept, ckpt_error *err) {
    ckpt_pool scratch = {0};
    ckpt_schedule schedule;
    ckpt_status status = ckpt_schedule_from_kept(c->graph, kept, &scratch, &schedule, err);
    if (status == CKPT_OK) status = ckpt_graph_curve_add(c, &schedule, err);
    ckpt_pool_free(&scratch);
    return status;
}

/* What dropping tensors would do, by the schedule that keeps the others. */
typedef struct descent {
    const ckpt_graph *graph;
    const ckpt_costs *costs;
    uint64_t alignment_bytes;
    bool *kept;
    bool *again;     /* by node: runs again already */
    bool *at_peak;   /* by tensor: live while the peak's step runs */
    bool *droppable; /* by tensor: kept over the peak only for what comes later in the backward pass */
    int *seen;       /* by node: the last search that came by */
    int *stack;
    int search;
} descent;

static uint64_t bytes_of(const descent *d, int tensor) {
    return ckpt_align_up(ckpt_tensor_bytes(&d->graph->tensor[tensor]), d->alignment_bytes);
}

/* Marks what is live at the peak and not read before the backward pass, or a recomputation in it, needs it. */
static void look_at_peak(descent *d, const ckpt_liveness *live, int *next_read) {
    const ckpt_graph *g = d->graph;
    const int peak = live->peak_step;
    memset(d->again, 0, sizeof *d->again * (size_t)g->node_count);
    memset(d->at_peak, 0, sizeof *d->at_peak * (size_t)g->tensor_count);
    memset(d->droppable, 0, sizeof *d->droppable * (size_t)g->tensor_count);
    for (int k = 0; k < live->instance_count; k++) next_read[k] = -1;
    for (int s = live->step_count - 1; s >= 0; s--) {
        const ckpt_plan_step *step = &live->step[s];
        if (step->recompute) d->again[step->node] = true;
        for (int i = 0; i < g->node[step->node].in_count && s >= peak; i++)
            if (step->in[i] >= 0) next_read[step->in[i]] = s;
    }
    for (int k = 0; k < live->instance_count; k++) {
        const ckpt_instance *x = &live->instance[k];
        if (x->first > peak || x->end <= peak) continue;
        d->at_peak[x->tensor] = true;
        if (!d->kept[x->tensor] || x->first == peak || next_read[k] <= peak) continue;
        const ckpt_plan_step *reader = &live->step[next_read[k]];
        d->droppable[x->tensor] = reader->recompute || g->node[reader->node].phase != CKPT_FORWARD;
    }
}

/* Bytes that go from the peak when `tensor` is dropped, and what that recomputes beyond what runs again anyway. */
static double value_of_drop(descent *d, int tensor, double power) {
    const ckpt_graph *g = d->graph;
    double bytes = (double)bytes_of(d, tensor);
    uint64_t cost = 0;
    int count = 0;
    d->search++;
    d->stack[count++] = g->tensor[tensor].producer;
    d->seen[d->stack[0]] = d->search;
    while (count > 0) {
        const int n = d->stack[--count];
        if (g->node[n].op == CKPT_OP_LOSS || ckpt_node_has_effect(g, n)) return 0;
        cost += d->costs->node[n];
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            const int p = g->tensor[t].producer;
            if (d->kept[t]) {
                if (!d->at_peak[t]) bytes -= (double)bytes_of(d, t);
            } else if (!d->again[p] && d->seen[p] != d->search) {
                d->seen[p] = d->search;
                d->stack[count++] = p;
            }
        }
    }
    if (bytes <= 0) return 0;
    double value = bytes / ((double)cost + 1);
    if (power > 1) value *= bytes;
    return value;
}

static int best_drop(descent *d, double power) {
    int best = -1;
    double most = 0;
    for (int t = 0; t < d->graph->tensor_count; t++) {
        if (!d->droppable[t]) continue;
        const double value = value_of_drop(d, t, power);
        if (value > most) best = t, most = value;
    }
    return best;
}

/* One step down; `ended` when nothing is left to drop. */
static ckpt_status drop_one(ckpt_graph_curve *c, descent *d, double power, bool *ended, ckpt_error *err) {
    ckpt_pool scratch = {0};
    ckpt_schedule schedule;
    ckpt_liveness live;
    ckpt_status status = ckpt_schedule_from_kept(c->graph, d->kept, &scratch, &schedule, err);
    if (status == CKPT_OK) status = measure(c, &schedule, &scratch, &live, err);
    if (status == CKPT_OK) status = add(c, &schedule, live.peak_bytes, recomputed_cost(c->costs, &live), err);
    if (status == CKPT_OK) {
        int *next_read = ckpt_pool_array(&scratch, live.instance_count, int);
        if (!next_read) status = out_of_memory(err);
        else {
            look_at_peak(d, &live, next_read);
            const int t = best_drop(d, power);
            *ended = t < 0;
            if (t >= 0) d->kept[t] = false;
        }
    }
    ckpt_pool_free(&scratch);
    return status;
}

static void keep_what_is_read(const ckpt_graph *g, bool *kept) {
    memset(kept, 0, sizeof *kept * (size_t)g->tensor_count);
    for (int n = g->forward_count; n < g->node_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++)
            if (ckpt_tensor_is_step(g, g->node[n].in[i])) kept[g->node[n].in[i]] = true;
}

ckpt_status ckpt_graph_curve_descend(ckpt_graph_curve *c, ckpt_error *err) {
    const ckpt_graph *g = c->graph;
    ckpt_pool scratch = {0};
    descent d = {.graph = g,
                 .costs = c->costs,
                 .alignment_bytes = c->alignment_bytes,
                 .kept = ckpt_pool_array(&scratch, g->tensor_count, bool),
                 .again = ckpt_pool_array(&scratch, g->node_count, bool),
                 .at_peak = ckpt_pool_array(&scratch, g->tensor_count, bool),
                 .droppable = ckpt_pool_array(&scratch, g->tensor_count, bool),
                 .seen = ckpt_pool_array(&scratch, g->node_count, int),
                 .stack = ckpt_pool_array(&scratch, g->node_count, int)};
    ckpt_status status = CKPT_OK;
    if (!d.kept || !d.again || !d.at_peak || !d.droppable || !d.seen || !d.stack) status = out_of_memory(err);
    for (int power = 1; power <= 2 && status == CKPT_OK; power++) {
        bool ended = false;
        keep_what_is_read(g, d.kept);
        while (!ended && status == CKPT_OK && c->work < MOST_DESCENT) status = drop_one(c, &d, power, &ended, err);
    }
    ckpt_pool_free(&scratch);
    return status;
}

const ckpt_graph_point *ckpt_graph_curve_find(const ckpt_graph_curve *c, uint64_t bytes) {
    const ckpt_graph_point *found = NULL;
    for (int i = 0; i < c->count && c->point[i].bytes <= bytes; i++) found = &c->point[i];
    return found;
}

const ckpt_graph_point *ckpt_graph_curve_above(const ckpt_graph_curve *c, uint64_t bytes) {
    for (int i = 0; i < c->count; i++)
        if (c->point[i].bytes > bytes) return &c->point[i];
    return NULL;
}

void ckpt_graph_curve_free(ckpt_graph_curve *c) {
    remove_points(c, 0, c->count);
    free(c->point);
    *c = (ckpt_graph_curve){0};
}
