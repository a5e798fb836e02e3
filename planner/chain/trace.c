/* From tables to programs.
 *
 * Traceback follows the best split of every function. It takes the split that is cheapest by the slots among those that fit by the
 * byte, so that every feasible budget has a program whatever the slots lost, and what a program costs and needs is exact.
 * Rounding makes traced costs fall unevenly with the budget. The Pareto frontier of many traced budgets is therefore made once, and
 * every answer is a point of it: more bytes never cost more.
 */
#include <math.h>
#include <stdlib.h>

#include "base/units.h"
#include "planner/chain/chain_table.h"

/* Budgets that are traced per table, in equal ratios; every breakpoint where slots lose nothing. With 64 instead of 1,024 a chain of 1,000 equal stages recomputes up to 0.4 %
 * of a step more, as it has 750 breakpoints in one table; the time is below 0.1 s. */
enum { MOST_POINTS = 1024 };

/* Budgets whose splits become candidates, per table. */
enum { TRACED = 64 };

typedef struct trace {
    const ckpt_chain_tables *tables;
    const ckpt_chain_level *level;
    ckpt_pool *pool; /* NULL: steps are left out */
    ckpt_chain_program *program;
} trace;

static bool add_step(trace *tr, ckpt_chain_act act, int stage, int option, bool has_output) {
    ckpt_chain_program *program = tr->program;
    if (!tr->pool) return true;
    if (program->count == program->capacity) {
        const int capacity = program->capacity ? 2 * program->capacity : 64;
        ckpt_chain_step *step = ckpt_pool_grow(tr->pool, program->step, (size_t)program->count, (size_t)capacity, sizeof *step);
        if (!step) return false;
        program->step = step;
        program->capacity = capacity;
    }
    program->step[program->count++] = (ckpt_chain_step){act, stage, option, has_output};
    return true;
}

/* A split with the figures of its parts. */
typedef struct parts {
    ckpt_chain_figures right, left;
    uint64_t least; /* bytes from which it fits */
} parts;

static parts parts_of(const ckpt_chain_tables *tables, const ckpt_chain_level *level, const ckpt_chain_split *split) {
    parts p = {ckpt_chain_figures_of(tables, level, &split->right), ckpt_chain_figures_of(tables, level, &split->left), 0};
    p.least = ckpt_max_u64(ckpt_max_u64(split->least_bytes, p.right.least + split->shift_bytes), p.left.least);
    return p;
}

/* The cost of a part with `budget` bytes: exact from figures->most on, by the slots elsewhere; HUGE_VAL if it is not filled. */
static double cost_of(const trace *tr, const ckpt_chain_ref *ref, const ckpt_chain_figures *figures, uint64_t budget) {
    ckpt_chain_single single;
    if (budget >= figures->most) return (double)figures->floor_cost;
    const ckpt_chain_values *values = ckpt_chain_values_of(tr->tables, tr->level, ref, &single);
    return values ? ckpt_chain_value_at(values, (int64_t)(budget / tr->level->unit_bytes)) : HUGE_VAL;
}

/* The split of the range that fits and is cheapest by the slots, the first of equals; NULL if there is none. */
static const ckpt_chain_split *cheapest_by_slots(const trace *tr, const ckpt_chain_ref *ref, ckpt_chain_range range, uint64_t budget) {
    const ckpt_chain_split *split = tr->tables->scratch.split, *best = NULL;
    const int count = ckpt_chain_list_splits(&tr->tables->shape, ref, range, tr->tables->scratch.split);
    double least = HUGE_VAL;
    for (int i = 0; i < count; i++) {
        const parts p = parts_of(tr->tables, tr->level, &split[i]);
        if (p.least > budget) continue;
        const double cost = (double)split[i].run_cost + cost_of(tr, &split[i].left, &p.left, budget) +
                            cost_of(tr, &split[i].right, &p.right, budget - split[i].shift_bytes);
        if (cost < least) least = cost, best = &split[i];
    }
    return best;
}

/* The split that fits and whose parts have the least minimal costs, of all: one always fits. */
static const ckpt_chain_split *cheapest_by_figures(const ckpt_chain_tables *tables, const ckpt_chain_level *level,
                                                   const ckpt_chain_ref *ref, uint64_t budget) {
    const ckpt_chain_split *split = tables->scratch.split, *best = split;
    const int count = ckpt_chain_list_splits(&tables->shape, ref, ckpt_chain_range_all(ref, level->longest), tables->scratch.split);
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < count; i++) {
        const parts p = parts_of(tables, level, &split[i]);
        const uint64_t cost = split[i].run_cost + p.right.floor_cost + p.left.floor_cost;
        if (p.least <= budget && cost < least) least = cost, best = &split[i];
    }
    return best;
}

/* The split of the range that reaches the minimal cost within figures->most; NULL if there is none. */
static const ckpt_chain_split *find_floor(const trace *tr, const ckpt_chain_ref *ref, ckpt_chain_range range,
                                          const ckpt_chain_figures *figures) {
    const ckpt_chain_split *split = tr->tables->scratch.split;
    const int count = ckpt_chain_list_splits(&tr->tables->shape, ref, range, tr->tables->scratch.split);
    for (int i = 0; i < count; i++) {
        const parts p = parts_of(tr->tables, tr->level, &split[i]);
        const uint64_t most = ckpt_max_u64(ckpt_max_u64(split[i].least_bytes, p.right.most + split[i].shift_bytes), p.left.most);
        if (most <= figures->most && split[i].run_cost + p.right.floor_cost + p.left.floor_cost == figures->floor_cost) return &split[i];
    }
    return NULL;
}

/* Near the best split by the slots, then in all of the table's scope, then anywhere. */
static ckpt_chain_split choose(const trace *tr, const ckpt_chain_ref *ref, uint64_t budget, const ckpt_chain_figures *figures) {
    const bool floor = budget == figures->most;
    const int64_t slot = floor ? INT32_MAX : (int64_t)(budget / tr->level->unit_bytes);
    const ckpt_chain_split *split = NULL;
    for (int wide = 0; wide <= 1 && !split; wide++) {
        const ckpt_chain_range range = wide ? ckpt_chain_range_scope(tr->tables, tr->level, ref)
                                            : ckpt_chain_range_near(tr->tables, tr->level, ref, slot);
        split = floor ? find_floor(tr, ref, range, figures) : cheapest_by_slots(tr, ref, range, budget);
    }
    if (!split && floor) split = find_floor(tr, ref, ckpt_chain_range_all(ref, tr->level->longest), figures);
    return split ? *split : *cheapest_by_figures(tr->tables, tr->level, ref, budget);
}

/* Returns the bytes needed beyond x_{s-1}; UINT64_MAX if memory ran out. */
static uint64_t follow(trace *tr, const ckpt_chain_ref *ref, uint64_t budget) {
    if (ref->type == CKPT_FN_NONE) return 0;
    const ckpt_chain_figures figures = ckpt_chain_figures_of(tr->tables, tr->level, ref);
    if (ref->type == CKPT_FN_BACKWARD && !add_step(tr, CKPT_CHAIN_BACKWARD, ref->s, ref->option, ref->has_output)) return UINT64_MAX;
    if (ref->type == CKPT_FN_BACKWARD || (budget >= figures.most && !tr->pool)) {
        tr->program->cost += figures.floor_cost;
        return figures.most;
    }
    budget = ckpt_min_u64(budget, figures.most);
    const ckpt_chain_split split = choose(tr, ref, budget, &figures);
    tr->program->cost += split.run_cost;
    if (split.early && !add_step(tr, CKPT_CHAIN_EARLY, ref->t, ref->option, ref->type == CKPT_FN_K)) return UINT64_MAX;
    for (int k = ref->s; k <= split.run_to; k++)
        if (!add_step(tr, CKPT_CHAIN_FORWARD, k, k == split.run_to ? split.option : 0, false)) return UINT64_MAX;
    uint64_t right = follow(tr, &split.right, budget - split.shift_bytes);
    if (right == UINT64_MAX) return right;
    if (split.right.type != CKPT_FN_NONE) right += split.shift_bytes;
    return ckpt_max_u64(ckpt_max_u64(split.least_bytes, right), follow(tr, &split.left, budget));
}

static bool trace_program(const ckpt_chain_tables *tables, const ckpt_chain_level *level, uint64_t budget, ckpt_pool *pool,
                          ckpt_chain_program *program) {
    trace tr = {tables, level, pool, program};
    *program = (ckpt_chain_program){0};
    program->needed_bytes = follow(&tr, &(ckpt_chain_ref){.type = CKPT_FN_G, .s = 1, .t = tables->shape.count}, budget);
    return program->needed_bytes != UINT64_MAX;
}

/* By the slots of a filled level, or by figures. */
static void add_splits(ckpt_chain_tables *tables, const ckpt_chain_level *level, const ckpt_chain_ref *ref, uint64_t budget, bool filled) {
    if (ref->type >= CKPT_FN_BACKWARD) return;
    const trace tr = {tables, level, NULL, NULL};
    const ckpt_chain_figures figures = ckpt_chain_figures_of(tables, level, ref);
    const ckpt_chain_split split = filled ? choose(&tr, ref, ckpt_min_u64(budget, figures.most), &figures)
                                          : *cheapest_by_figures(tables, level, ref, budget);
    if (split.run_to >= ref->s && split.run_to < ref->t)
        ckpt_chain_add_candidate(&tables->candidates, ckpt_chain_run_of(&tables->shape, ref->s, ref->t), split.run_to - ref->s);
    add_splits(tables, level, &split.right, budget - split.shift_bytes, filled);
    add_splits(tables, level, &split.left, budget, filled);
}

void ckpt_chain_add_traced(ckpt_chain_tables *tables) {
    const ckpt_chain_ref all = {.type = CKPT_FN_G, .s = 1, .t = tables->shape.count};
    const ckpt_chain_level bare = {.longest = tables->shape.count, .g_figures = tables->g_figures};
    add_splits(tables, &bare, &all, tables->least_bytes, false);
    for (int i = 0; i < tables->level_count; i++) {
        const ckpt_chain_level *level = &tables->level[i];
        const double ratio = pow((double)level->cap_bytes / (double)ckpt_max_u64(tables->least_bytes, 1), 1.0 / TRACED);
        double budget = (double)tables->least_bytes;
        for (int n = 0; n < TRACED; n++, budget *= ratio) add_splits(tables, level, &all, (uint64_t)ceil(budget), true);
    }
}

static int by_need(const void *a, const void *b) {
    const ckpt_chain_point *x = a, *y = b;
    if (x->needed_bytes != y->needed_bytes) return x->needed_bytes < y->needed_bytes ? -1 : 1;
    if (x->cost != y->cost) return x->cost < y->cost ? -1 : 1;
    return x->budget_bytes < y->budget_bytes ? -1 : x->budget_bytes > y->budget_bytes;
}

static int most_points(const ckpt_chain_level *level) {
    return level->lossless ? (int)(level->cap_bytes / level->unit_bytes) : MOST_POINTS;
}

/* Programs for budgets from the table's largest down to its smallest, each below the need of the one before. */
static bool add_points(ckpt_chain_tables *tables, const ckpt_chain_level *level) {
    const int most = most_points(level);
    const uint64_t least = ckpt_max_u64(level->g_figures[2].least, level->from_bytes);
    uint64_t budget = ckpt_max_u64(level->cap_bytes, least);
    const double ratio = pow((double)ckpt_max_u64(least, 1) / (double)ckpt_max_u64(budget, 1), 1.0 / MOST_POINTS);
    for (int tries = 0; tries < most + 2; tries++) {
        ckpt_chain_program program;
        if (!trace_program(tables, level, budget, NULL, &program)) return false;
        tables->point[tables->point_count++] = (ckpt_chain_point){budget, program.needed_bytes, program.cost, level};
        if (program.needed_bytes <= least || budget == least) return true;
        const uint64_t slot = budget / level->unit_bytes * level->unit_bytes; /* 0 in the first slot */
        const uint64_t next = !level->lossless ? (uint64_t)(ratio * (double)budget) : slot ? slot - 1 : least;
        const uint64_t below = ckpt_min_u64(program.needed_bytes - 1, next);
        budget = tries == most || below < least ? least : below;
    }
    return true;
}

bool ckpt_chain_build_frontier(ckpt_chain_tables *tables) {
    int count = 0;
    for (int i = 0; i < tables->level_count; i++) count += most_points(&tables->level[i]) + 2;
    tables->point = ckpt_pool_array(&tables->pool, count, ckpt_chain_point);
    if (!tables->point) return false;
    for (int i = 0; i < tables->level_count; i++)
        if (!add_points(tables, &tables->level[i])) return false;
    qsort(tables->point, (size_t)tables->point_count, sizeof *tables->point, by_need);
    int kept = 0;
    for (int i = 0; i < tables->point_count; i++) /* dominated points go */
        if (!kept || tables->point[i].cost < tables->point[kept - 1].cost) tables->point[kept++] = tables->point[i];
    tables->point_count = kept;
    return true;
}

ckpt_status ckpt_chain_solve(const ckpt_chain_tables *tables, uint64_t budget_bytes, ckpt_pool *pool, ckpt_chain_program *program,
                             ckpt_error *err) {
    const ckpt_chain_point *point = tables->point;
    if (budget_bytes < tables->least_bytes)
        return ckpt_fail(err, CKPT_INFEASIBLE, "no schedule fits %llu bytes: the smallest takes %llu", (unsigned long long)budget_bytes,
                         (unsigned long long)tables->least_bytes);
    while (point + 1 < tables->point + tables->point_count && point[1].needed_bytes <= budget_bytes) point++;
    if (!trace_program(tables, point->level, point->budget_bytes, pool, program))
        return ckpt_fail(err, CKPT_NOMEM, "out of memory for a program of %d stages", tables->shape.count);
    return CKPT_OK;
}

uint64_t ckpt_chain_next_bytes(const ckpt_chain_tables *tables, uint64_t budget_bytes) {
    for (int i = 0; i < tables->point_count; i++)
        if (tables->point[i].needed_bytes > budget_bytes) return tables->point[i].needed_bytes;
    return UINT64_MAX;
}
