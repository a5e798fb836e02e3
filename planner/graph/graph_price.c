/* Schedules from prices. Every backward node's time has a price a byte; a tensor pays for the time that it is there, a node that
 * runs again its cost. What is cheapest to hold is a minimum cut (cut.h). The prices go up where the schedule takes more
 * than a target, down where it takes less: the subgradient method (Held and Karp 1971). */
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "graph/op.h"
#include "planner/graph/graph_curve.h"
#include "planner/graph/cut.h"
#include "planner/core/liveness.h"

enum { TARGETS = 24, ROUNDS = 8 };
enum { ARCS_A_STEP = 8 }; /* of a cut, for a step of a schedule: in time */

typedef struct prices {
    ckpt_graph_curve *curve;
    const ckpt_graph *graph;
    ckpt_cut *cut;
    const ckpt_graph_habit *habit;
    uint64_t most_work;
    bool *needed, *kept;
    uint64_t *bytes;   /* by tensor, aligned */
    int *last;         /* by tensor: the last backward node that reads it, counted from the first; -1 */
    int *again;        /* by forward node: the backward node before which it runs again (last), or would */
    int *runs;         /* by forward node: how often it ran again */
    double *price;     /* by backward node */
    double *sum;       /* by backward node: of the prices before it */
    uint64_t *live;    /* by backward node: most at once in the steps up to it */
    int64_t *hold, *run;
    double all_cost, all_bytes;
    int count;         /* backward nodes */
} prices;

static void find_uses(prices *p) {
    const ckpt_graph *g = p->graph;
    for (int t = 0; t < g->tensor_count; t++) p->last[t] = -1;
    for (int n = g->forward_count; n < g->node_count; n++)
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i];
            if (ckpt_tensor_is_step(g, t)) p->last[t] = n - g->forward_count;
        }
    for (int t = 0; t < g->tensor_count; t++) {
        const bool forward = ckpt_tensor_is_step(g, t) && g->tensor[t].producer < g->forward_count;
        p->needed[t] = forward && p->last[t] >= 0;
        p->bytes[t] = forward ? ckpt_align_up(ckpt_tensor_bytes(&g->tensor[t]), p->curve->alignment_bytes) : 0;
        if (p->needed[t]) p->all_bytes += (double)p->bytes[t];
    }
    for (int n = 0; n < g->forward_count; n++)
        if (g->node[n].op != CKPT_OP_LOSS && !ckpt_node_has_effect(g, n)) p->all_cost += (double)p->curve->costs->node[n];
}

/* Where nodes run again in a schedule, and the most live up to each backward node. */
static void look(prices *p, const ckpt_liveness *live) {
    const ckpt_graph *g = p->graph;
    int at = 0;
    memset(p->runs, 0, sizeof *p->runs * (size_t)g->forward_count);
    memset(p->live, 0, sizeof *p->live * (size_t)p->count);
    for (int s = 0; s < live->step_count; s++) {
        const int n = live->step[s].node;
        if (n >= g->forward_count) at = n - g->forward_count;
        if (live->live_bytes[s] > p->live[at]) p->live[at] = live->live_bytes[s];
        if (n >= g->forward_count && at + 1 < p->count) at++;
        if (live->step[s].recompute) p->again[n] = at, p->runs[n]++;
    }
}

static ckpt_status try(prices *p, ckpt_error *err) {
    ckpt_pool scratch = {0};
    ckpt_schedule schedule;
    ckpt_liveness live;
    ckpt_status status = ckpt_schedule_from_choice(p->graph, p->kept, p->habit->stays, p->habit->part, &scratch, &schedule, err);
    if (status == CKPT_OK) status = ckpt_graph_curve_try(p->curve, &schedule, &scratch, &live, err);
    if (status == CKPT_OK) look(p, &live);
    ckpt_pool_free(&scratch);
    return status;
}

static void choose(prices *p) {
    const ckpt_graph *g = p->graph;
    const double scale = 1e15 / (p->all_cost * 64 + 1);
    p->sum[0] = 0;
    for (int k = 0; k < p->count; k++) p->sum[k + 1] = p->sum[k] + p->price[k];
    for (int n = 0; n < g->forward_count; n++) {
        double run = (double)p->curve->costs->node[n] * (p->runs[n] > 1 ? p->runs[n] : 1);
        for (int i = 0; i < g->node[n].out_count; i++) {
            const int t = g->node[n].out[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            const int last = p->last[t] > p->again[n] ? p->last[t] : p->again[n];
            const double hold = (double)p->bytes[t] * p->sum[last + 1];
            p->hold[t] = p->habit->forced[t] ? 0 : (int64_t)(scale * (hold < p->all_cost ? hold : p->all_cost));
            run += (double)p->bytes[t] * (p->sum[last + 1] - p->sum[p->again[n]]);
        }
        if (run > 2 * p->all_cost) run = 2 * p->all_cost;
        const bool once = g->node[n].op == CKPT_OP_LOSS || ckpt_node_has_effect(g, n);
        p->run[n] = once ? CKPT_CUT_NEVER : (int64_t)(scale * run);
    }
    ckpt_cut_solve(p->cut, p->needed, p->hold, p->run, p->kept);
    for (int t = 0; t < g->tensor_count; t++) p->kept[t] |= p->habit->forced[t];
}

static ckpt_status descend(prices *p, ckpt_error *err) {
    const ckpt_graph *g = p->graph;
    const double unit = p->all_cost / (p->all_bytes + 1);
    memcpy(p->kept, p->habit->forced, sizeof *p->kept * (size_t)g->tensor_count);
    /* first readers, then what the bare checkpoints do */
    for (int n = g->forward_count - 1; n >= 0; n--) p->again[n] = 0;
    CKPT_TRY(try(p, err));
    for (int k = 0; k < p->count; k++) p->price[k] = 0;
    const double most = (double)p->curve->point[p->curve->count - 1].bytes, least = (double)p->curve->point[0].bytes;
    for (int i = 1; i <= TARGETS; i++) {
        const double target = most + (least * 0.9 - most) * i / TARGETS;
        for (int r = 0; r < ROUNDS && p->curve->work < p->most_work; r++) {
            const uint64_t before = ckpt_cut_work(p->cut);
            choose(p);
            p->curve->work += (ckpt_cut_work(p->cut) - before) / ARCS_A_STEP;
            CKPT_TRY(try(p, err));
            const double step = 1.0 / (1 + r);
            for (int k = 0; k < p->count; k++) {
                p->price[k] += step * unit * ((double)p->live[k] - target) / target;
                if (p->price[k] < 0) p->price[k] = 0;
            }
        }
    }
    return CKPT_OK;
}

ckpt_status ckpt_graph_curve_price(ckpt_graph_curve *c, const ckpt_graph_habit *habit, uint64_t most_work,
                                   ckpt_error *err) {
    const ckpt_graph *g = c->graph;
    ckpt_pool scratch = {0};
    const int count = g->node_count - g->forward_count;
    prices p = {.curve = c,
                .graph = g,
                .habit = habit,
                .most_work = most_work,
                .count = count,
                .needed = ckpt_pool_array(&scratch, g->tensor_count, bool),
                .kept = ckpt_pool_array(&scratch, g->tensor_count, bool),
                .bytes = ckpt_pool_array(&scratch, g->tensor_count, uint64_t),
                .last = ckpt_pool_array(&scratch, g->tensor_count, int),
                .again = ckpt_pool_array(&scratch, g->forward_count, int),
                .runs = ckpt_pool_array(&scratch, g->forward_count, int),
                .price = ckpt_pool_array(&scratch, count + 1, double),
                .sum = ckpt_pool_array(&scratch, count + 1, double),
                .live = ckpt_pool_array(&scratch, count + 1, uint64_t),
                .hold = ckpt_pool_array(&scratch, g->tensor_count, int64_t),
                .run = ckpt_pool_array(&scratch, g->forward_count, int64_t)};
    ckpt_status status = CKPT_OK;
    if (!p.needed || !p.kept || !p.bytes || !p.last || !p.again || !p.runs || !p.price || !p.sum || !p.live || !p.hold || !p.run)
        status = ckpt_fail(err, CKPT_NOMEM, "out of host memory while pricing a schedule");
    if (status == CKPT_OK) status = ckpt_cut_open(g, &p.cut, err);
    if (status == CKPT_OK && count > 0) {
        find_uses(&p);
        status = descend(&p, err);
    }
    ckpt_cut_close(p.cut);
    ckpt_pool_free(&scratch);
    return status;
}
