#include "planner/graph/pareto.h"

#include <stdlib.h>
#include <string.h>

#include "base/units.h"

enum { MOST_POINTS = 512, TABLE_POINTS = 24 };

/* Work, in steps replayed, some ten nanoseconds each, so that filling takes a second. A narrow graph has good tables: little is
 * left to gain but near the smallest budget. */
enum { MOST_PRICED = 40000000, MOST_IMPROVING = 100000000, MOST_NARROW_PRICED = 300000, MOST_NARROW_IMPROVING = 20000000 };
enum { IMPROVING_PER_NODE = 200000 }; /* small graphs need less */
enum { SHORT = 256 };                  /* nodes */

static ckpt_status out_of_memory(ckpt_error *err) {
    return ckpt_fail(err, CKPT_NOMEM, "out of host memory for the frontier of schedules");
}

ckpt_pareto ckpt_pareto_of(const ckpt_problem *problem) {
    return (ckpt_pareto){.problem = problem};
}

static void remove_points(ckpt_pareto *f, int from, int end) {
    for (int i = from; i < end; i++) free(f->point[i].schedule.node);
    if (end < f->count) memmove(&f->point[from], &f->point[end], sizeof *f->point * (size_t)(f->count - end));
    f->count -= end - from;
}

/* Of a full frontier the point goes whose loss leaves the smallest step: what was cheaper with it is nearly so without. */
static void thin(ckpt_pareto *f) {
    int least = -1;
    double smallest = -1;
    for (int i = 1; i + 1 < f->count; i++) {
        if (f->point[i].pinned) continue;
        const double area = (double)(f->point[i + 1].bytes - f->point[i].bytes) *
                            (double)(f->point[i - 1].cost - f->point[i].cost);
        if (smallest < 0 || area < smallest) least = i, smallest = area;
    }
    if (least >= 0) remove_points(f, least, least + 1);
}

ckpt_status ckpt_pareto_insert(ckpt_pareto *f, const int *node, int count, uint64_t bytes, uint64_t cost, bool pinned,
                               ckpt_error *err) {
    int at = 0, end;
    while (at < f->count && f->point[at].bytes < bytes) at++;
    if (at > 0 && f->point[at - 1].cost <= cost) return CKPT_OK;
    if (at < f->count && f->point[at].bytes == bytes && f->point[at].cost <= cost) return CKPT_OK;
    if (f->count == f->capacity) {
        const int capacity = f->capacity ? 2 * f->capacity : 64;
        ckpt_pareto_point *grown = realloc(f->point, sizeof *grown * (size_t)capacity);
        if (!grown) return out_of_memory(err);
        f->point = grown;
        f->capacity = capacity;
    }
    int *copy = malloc(sizeof *copy * (size_t)count);
    if (!copy) return out_of_memory(err);
    memcpy(copy, node, sizeof *copy * (size_t)count);
    for (end = at; end < f->count && f->point[end].cost >= cost;) end++;
    remove_points(f, at, end);
    memmove(&f->point[at + 1], &f->point[at], sizeof *f->point * (size_t)(f->count - at));
    f->point[at] = (ckpt_pareto_point){
        .bytes = bytes, .cost = cost, .pinned = pinned, .schedule = {.count = count, .capacity = count, .node = copy}};
    if (++f->count > MOST_POINTS) thin(f);
    return CKPT_OK;
}

ckpt_status ckpt_pareto_add(ckpt_pareto *f, const ckpt_schedule *schedule, ckpt_error *err) {
    ckpt_replay *r = &f->replay;
    if (r->capacity < schedule->count) {
        ckpt_replay_close(r);
        CKPT_TRY(ckpt_replay_open(f->problem, 2 * schedule->count, r, err));
    }
    f->work += (uint64_t)schedule->count;
    if (!ckpt_replay_run(r, schedule->node, schedule->count))
        return ckpt_fail(err, CKPT_FAILED, "a schedule reads a tensor before any step has made it");
    return ckpt_pareto_insert(f, schedule->node, schedule->count, r->peak_bytes, r->recompute_cost, true, err);
}

/* --- filling ----------------------------------------------------------------------------------------- */

/* Schedules of the tables, so that they are improved too. */
static ckpt_status add_from_tables(ckpt_pareto *f, const ckpt_order *order, const ckpt_stages *stages, ckpt_chain_tables *tables,
                                   ckpt_error *err) {
    const uint64_t least = ckpt_chain_least_bytes(tables), most = ckpt_chain_most_bytes(tables);
    for (uint64_t i = 0; i < TABLE_POINTS; i++) {
        ckpt_pool scratch = {0};
        ckpt_chain_program program;
        ckpt_schedule schedule = {0};
        ckpt_status status =
            ckpt_chain_solve(tables, least + (most - least) / (TABLE_POINTS - 1) * i, &scratch, &program, err);
        if (status == CKPT_OK) status = ckpt_stages_emit(stages, &program, &scratch, &schedule, err);
        if (status == CKPT_OK) {
            ckpt_order_map(order, &schedule);
            status = ckpt_pareto_add(f, &schedule, err);
        }
        ckpt_pool_free(&scratch);
        CKPT_TRY(status);
    }
    return CKPT_OK;
}

/* Bytes that the backward pass reads of what a stage makes. */
static uint64_t bytes_read(const ckpt_stages *stages, int k, const bool *read) {
    const ckpt_problem *p = stages->problem;
    const ckpt_stage_nodes *nodes = &stages->nodes[k];
    uint64_t bytes = 0;
    for (int n = nodes->forward; n < nodes->forward_end; n++)
        for (int i = 0; i < p->graph->node[n].out_count; i++) {
            const int t = p->graph->node[n].out[i];
            if (t >= 0 && read[t]) bytes += p->bytes[t];
        }
    return bytes;
}

/* Marks the outputs of stages that divide the bytes read by the backward pass into `parts`. */
static void find_checkpoints(const ckpt_stages *stages, int parts, const bool *read, bool *kept) {
    uint64_t all = 0, since = 0;
    for (int k = 1; k <= stages->chain.stage_count; k++) all += bytes_read(stages, k, read);
    for (int k = 1; k < stages->chain.stage_count && parts > 1; k++) {
        since += bytes_read(stages, k, read);
        if (stages->nodes[k].out < 0 || since < all / (uint64_t)parts) continue;
        kept[stages->nodes[k].out] = true;
        since = 0;
    }
}

/* Prices with one of two retention policies, and with checkpoints in any case that divide the forward pass into so many parts: what is made again stays; or only outputs of
 * stages do, and the rest is made once more when its time comes. */
static ckpt_status add_priced(ckpt_pareto *f, const ckpt_order *order, const ckpt_stages *stages, int parts, bool stays_all,
                              uint64_t most_work, ckpt_error *err) {
    const ckpt_graph *g = stages->problem->graph;
    ckpt_pool scratch = {0};
    bool *kept = ckpt_pool_array(&scratch, g->tensor_count, bool), *read = ckpt_pool_array(&scratch, g->tensor_count, bool);
    bool *stays = ckpt_pool_array(&scratch, g->tensor_count, bool);
    int *part = ckpt_pool_array(&scratch, g->node_count, int);
    ckpt_status status = kept && read && stays && part ? CKPT_OK : out_of_memory(err);
    if (status == CKPT_OK) {
        for (int n = g->forward_count; n < g->node_count; n++)
            for (int i = 0; i < g->node[n].in_count; i++)
                if (g->node[n].in[i] >= 0) read[g->node[n].in[i]] = true;
        for (int k = 1; k <= stages->chain.stage_count; k++) {
            for (int n = stages->nodes[k].backward; n < stages->nodes[k].backward_end; n++) part[n] = k;
            if (stages->nodes[k].out >= 0) stays[stages->nodes[k].out] = true;
        }
        find_checkpoints(stages, parts, read, kept);
        const ckpt_retention retention = {.kept = kept, .stays = stays_all ? NULL : stays, .part = part};
        status = ckpt_pareto_add_priced(f, stages->problem, order, &retention, most_work, err);
    }
    ckpt_pool_free(&scratch);
    return status;
}

/* NARROW: a chain but for stages that read their input several times, as skips do: it is there anyway. */
typedef enum shape { CHAIN, NARROW, BRANCHING } shape;

/* Whether some forward tensor is read by several nodes, or some node reads several. `reader`, `outer`: by tensor. */
static shape shape_of(const ckpt_stages *stages, int *reader, bool *outer) {
    const ckpt_graph *g = stages->problem->graph;
    shape found = CHAIN;
    for (int k = 1; k <= stages->chain.stage_count; k++)
        if (stages->nodes[k].out >= 0) outer[stages->nodes[k].out] = true;
    for (int t = 0; t < g->tensor_count; t++) reader[t] = -1;
    for (int n = 0; n < g->forward_count; n++) {
        int inside = -1, outside = -1;
        for (int i = 0; i < g->node[n].in_count; i++) {
            const int t = g->node[n].in[i];
            if (!ckpt_tensor_is_step(g, t)) continue;
            int *read = outer[t] ? &outside : &inside;
            const bool twice = (*read >= 0 && *read != t) || (reader[t] >= 0 && reader[t] != n);
            if (twice && !outer[t]) return BRANCHING;
            *read = t;
            reader[t] = n;
            if (twice || (inside >= 0 && outside >= 0)) found = NARROW;
        }
    }
    return found;
}

static ckpt_status find_shape(const ckpt_stages *stages, shape *found, ckpt_error *err) {
    ckpt_pool scratch = {0};
    int *reader = ckpt_pool_array(&scratch, stages->problem->graph->tensor_count, int);
    bool *outer = ckpt_pool_array(&scratch, stages->problem->graph->tensor_count, bool);
    const bool room = reader && outer;
    if (room) *found = shape_of(stages, reader, outer);
    ckpt_pool_free(&scratch);
    return room ? CKPT_OK : out_of_memory(err);
}

ckpt_status ckpt_pareto_fill(ckpt_pareto *f, const ckpt_order *order, const ckpt_stages *stages, ckpt_chain_tables *tables,
                             const ckpt_solver_options *options, ckpt_error *err) {
    shape of = CHAIN;
    CKPT_TRY(find_shape(stages, &of, err));
    const bool narrow = of != BRANCHING && !stages->deep && tables, is_long = stages->problem->graph->node_count > SHORT;
    /* The tables are all that a long chain needs, and nearly all that a long narrow graph does. */
    if (tables && is_long && (of == CHAIN || (narrow && !stages->thinned))) return CKPT_OK;
    if (tables) CKPT_TRY(add_from_tables(f, order, stages, tables, err));
    if (narrow && is_long) return CKPT_OK;
    const uint64_t improving = ckpt_min_u64(narrow ? MOST_NARROW_IMPROVING : MOST_IMPROVING,
                                            IMPROVING_PER_NODE * (uint64_t)stages->problem->graph->node_count);
    f->most_improving = ckpt_max_u64(f->most_improving, improving);
    if (options->without_prices) return CKPT_OK;
    const uint64_t most_work = f->work + (narrow ? MOST_NARROW_PRICED : MOST_PRICED);
    for (int parts = 1; parts <= 64 && parts <= 2 * stages->chain.stage_count; parts *= 4)
        for (int stays_all = 1; stays_all >= 0; stays_all--)
            CKPT_TRY(add_priced(f, order, stages, parts, stays_all, most_work, err));
    return CKPT_OK;
}

/* --- asking ------------------------------------------------------------------------------------------ */

const ckpt_pareto_point *ckpt_pareto_find(const ckpt_pareto *f, uint64_t bytes) {
    const ckpt_pareto_point *found = NULL;
    for (int i = 0; i < f->count && f->point[i].bytes <= bytes; i++) found = &f->point[i];
    return found;
}

const ckpt_pareto_point *ckpt_pareto_above(const ckpt_pareto *f, uint64_t bytes) {
    for (int i = 0; i < f->count; i++)
        if (f->point[i].bytes > bytes) return &f->point[i];
    return NULL;
}

void ckpt_pareto_free(ckpt_pareto *f) {
    remove_points(f, 0, f->count);
    ckpt_replay_close(&f->replay);
    free(f->point);
    *f = (ckpt_pareto){0};
}
