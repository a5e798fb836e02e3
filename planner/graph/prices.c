/* Schedules from Lagrange multipliers. The memory limit of each time step of the backward pass is relaxed at a price per byte.
 * A tensor then pays for the time that it is live, a node that runs again its cost, and what is cheapest to hold is a minimum
 * cut (cut.h). Prices rise where the schedule takes more than a target and fall where it takes less: the subgradient method
 * (Held and Karp, Mathematical Programming 1, 1971). Every schedule on the way is a candidate. */
#include <stdlib.h>
#include <string.h>

#include "planner/core/schedule.h"
#include "planner/bounds/cut.h"
#include "planner/graph/pareto.h"

enum { TARGETS = 24, ROUNDS = 8 };
enum { ARCS_PER_STEP = 8 }; /* arcs of a cut that take the time of a replayed step */
enum { MOST_RUNS = 8 };     /* steps of a schedule, per node of the graph: a longer one is no candidate */

typedef struct prices {
    ckpt_pareto *frontier;
    const ckpt_problem *problem; /* the view */
    const ckpt_graph *graph;
    const ckpt_order *order;
    const ckpt_retention *retention;
    ckpt_cut *cut;
    ckpt_replay replay;
    uint64_t most_work;
    bool *needed, *kept; /* by tensor */
    int *last;           /* by tensor: the last backward node that reads it, counted from the first; -1 */
    int *again;          /* by forward node: the backward node before which it runs again (last), or would */
    int *runs;           /* by forward node: how often it ran again */
    double *price;       /* by backward node */
    double *sum;         /* by backward node: of the prices before it */
    uint64_t *live;      /* by backward node: most at once in the steps up to it */
    int64_t *hold, *run; /* of the cut */
    double all_cost, all_bytes;
    int count; /* backward nodes */
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
        p->needed[t] = ckpt_tensor_is_step(g, t) && g->tensor[t].producer < g->forward_count && p->last[t] >= 0;
        if (p->needed[t]) p->all_bytes += (double)p->problem->bytes[t];
    }
    for (int n = 0; n < g->forward_count; n++)
        if (p->problem->recomputable[n]) p->all_cost += (double)p->problem->costs->node[n];
}

/* Where nodes run again in the replayed schedule, and the most live up to each backward node. */
static void look(prices *p, const ckpt_schedule *schedule) {
    const ckpt_graph *g = p->graph;
    int at = 0;
    memset(p->runs, 0xff, sizeof *p->runs * (size_t)g->forward_count);
    memset(p->live, 0, sizeof *p->live * (size_t)p->count);
    for (int s = 0; s < schedule->count; s++) {
        const int n = schedule->node[s];
        if (n >= g->forward_count) at = n - g->forward_count;
        if (p->replay.live[s] > p->live[at]) p->live[at] = p->replay.live[s];
        if (n >= g->forward_count && at + 1 < p->count) at++;
        if (n < g->forward_count && ++p->runs[n] > 0) p->again[n] = at;
    }
}

/* The schedule of what is kept. False: it is too long. */
static ckpt_status try(prices *p, bool *tried, ckpt_error *err) {
    ckpt_pool scratch = {0};
    ckpt_schedule schedule;
    ckpt_status status =
        ckpt_schedule_from_choice(p->graph, p->kept, p->retention->stays, p->retention->part, &scratch, &schedule, err);
    *tried = status == CKPT_OK && schedule.count <= p->replay.capacity;
    if (*tried) {
        p->frontier->work += (uint64_t)schedule.count;
        *tried = ckpt_replay_run(&p->replay, schedule.node, schedule.count);
    }
    if (*tried) {
        look(p, &schedule);
        ckpt_order_map(p->order, &schedule);
        status = ckpt_pareto_insert(p->frontier, schedule.node, schedule.count, p->replay.peak_bytes, p->replay.recompute_cost,
                                    false, err);
    }
    ckpt_pool_free(&scratch);
    return status;
}

static void choose(prices *p) {
    const ckpt_graph *g = p->graph;
    const double scale = 1e15 / (p->all_cost * 64 + 1);
    p->sum[0] = 0;
    for (int k = 0; k < p->count; k++) p->sum[k + 1] = p->sum[k] + p->price[k];
    for (int n = 0; n < g->forward_count; n++) {
        double run = (double)p->problem->costs->node[n] * (p->runs[n] > 1 ? p->runs[n] : 1);
        for (int i = 0; i < g->node[n].out_count; i++) {
            const int t = g->node[n].out[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            const int last = p->last[t] > p->again[n] ? p->last[t] : p->again[n];
            const double bytes = (double)p->problem->bytes[t], hold = bytes * p->sum[last + 1];
            p->hold[t] = p->retention->kept[t] ? 0 : (int64_t)(scale * (hold < p->all_cost ? hold : p->all_cost));
            run += bytes * (p->sum[last + 1] - p->sum[p->again[n]]);
        }
        if (run > 2 * p->all_cost) run = 2 * p->all_cost;
        p->run[n] = p->problem->recomputable[n] ? (int64_t)(scale * run) : CKPT_CUT_NEVER;
    }
    ckpt_cut_solve(p->cut, p->needed, p->hold, p->run, p->kept);
    for (int t = 0; t < g->tensor_count; t++) p->kept[t] |= p->retention->kept[t];
}

static ckpt_status find_prices(prices *p, ckpt_error *err) {
    const double unit = p->all_cost / (p->all_bytes + 1);
    bool tried;
    memcpy(p->kept, p->retention->kept, sizeof *p->kept * (size_t)p->graph->tensor_count);
    CKPT_TRY(try(p, &tried, err));
    const double most = (double)p->frontier->point[p->frontier->count - 1].bytes, least = (double)p->frontier->point[0].bytes;
    for (int i = 1; i <= TARGETS && tried; i++) {
        const double target = most + (least * 0.9 - most) * i / TARGETS;
        for (int r = 0; r < ROUNDS && tried && p->frontier->work < p->most_work; r++) {
            const uint64_t before = ckpt_cut_work(p->cut);
            choose(p);
            p->frontier->work += (ckpt_cut_work(p->cut) - before) / ARCS_PER_STEP;
            CKPT_TRY(try(p, &tried, err));
            for (int k = 0; k < p->count; k++) {
                p->price[k] += unit / (1 + r) * ((double)p->live[k] - target) / target;
                if (p->price[k] < 0) p->price[k] = 0;
            }
        }
    }
    return CKPT_OK;
}

static bool make_arrays(prices *p, ckpt_pool *pool) {
    const ckpt_graph *g = p->graph;
    p->needed = ckpt_pool_array(pool, g->tensor_count, bool);
    p->kept = ckpt_pool_array(pool, g->tensor_count, bool);
    p->last = ckpt_pool_array(pool, g->tensor_count, int);
    p->again = ckpt_pool_array(pool, g->forward_count, int);
    p->runs = ckpt_pool_array(pool, g->forward_count, int);
    p->price = ckpt_pool_array(pool, p->count + 1, double);
    p->sum = ckpt_pool_array(pool, p->count + 1, double);
    p->live = ckpt_pool_array(pool, p->count + 1, uint64_t);
    p->hold = ckpt_pool_array(pool, g->tensor_count, int64_t);
    p->run = ckpt_pool_array(pool, g->forward_count, int64_t);
    return p->needed && p->kept && p->last && p->again && p->runs && p->price && p->sum && p->live && p->hold && p->run;
}

ckpt_status ckpt_pareto_add_priced(ckpt_pareto *frontier, const ckpt_problem *view, const ckpt_order *order,
                                   const ckpt_retention *retention, uint64_t most_work, ckpt_error *err) {
    const ckpt_graph *g = view->graph;
    ckpt_pool scratch = {0};
    prices p = {.frontier = frontier,
                .problem = view,
                .graph = g,
                .order = order,
                .retention = retention,
                .most_work = most_work,
                .count = g->node_count - g->forward_count};
    if (p.count == 0) return CKPT_OK;
    ckpt_status status = make_arrays(&p, &scratch)
                             ? ckpt_replay_open(view, MOST_RUNS * g->node_count, &p.replay, err)
                             : ckpt_fail(err, CKPT_NOMEM, "out of host memory while pricing schedules");
    if (status == CKPT_OK) status = ckpt_cut_open(g, &p.cut, err);
    if (status == CKPT_OK) {
        find_uses(&p);
        status = find_prices(&p, err);
    }
    ckpt_cut_close(p.cut);
    ckpt_replay_close(&p.replay);
    ckpt_pool_free(&scratch);
    return status;
}
