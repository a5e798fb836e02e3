/* From the tables back to programs. At every function the way is taken that is cheapest by the slots among
 * those that fit by the byte, so that a program is found for each feasible budget, whatever the slots lost.
 */
#include <math.h>
#include <stdlib.h>

#include "planner/chain/chain_table.h"
#include "planner/chain/chain_window.h"

typedef struct trace {
    const ckpt_chain_tables *tables;
    ckpt_pool *pool;
    ckpt_chain_program *program; /* steps are left out when pool is NULL */
} trace;

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

bool ckpt_chain_program_add(ckpt_pool *pool, ckpt_chain_program *program, ckpt_chain_act act, int stage, int option,
                            bool has_output) {
    if (program->count == program->capacity) {
        int capacity = program->capacity ? 2 * program->capacity : 64;
        ckpt_chain_step *step =
            ckpt_pool_grow(pool, program->step, (size_t)program->count, (size_t)capacity, sizeof *step);
        if (!step) return false;
        program->step = step;
        program->capacity = capacity;
    }
    program->step[program->count++] = (ckpt_chain_step){act, stage, option, has_output};
    return true;
}

static bool add_step(trace *tr, ckpt_chain_act act, int stage, int option, bool has_output) {
    return !tr->pool || ckpt_chain_program_add(tr->pool, tr->program, act, stage, option, has_output);
}

/* Cost with `budget` bytes: known where nothing is lacking, by the slots elsewhere. */
static double guess(const ckpt_chain_tables *tables, const ckpt_chain_fn *fn, uint64_t budget) {
    if (budget >= fn->most_bytes || !tables->unit_bytes) return (double)fn->floor_cost;
    return ckpt_chain_fn_guess(fn, (int64_t)(budget / tables->unit_bytes));
}

/* The split of the range to take with `budget` bytes: fits, and is cheapest; the first of equals. NULL where none fits. */
static const ckpt_chain_split *choose_from(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref,
                                           ckpt_chain_range range, uint64_t budget) {
    int count = ckpt_chain_list_splits(tables, ref, range, tables->split), best = -1;
    double best_cost = HUGE_VAL;
    for (int i = 0; i < count; i++) {
        const ckpt_chain_split *split = &tables->split[i];
        ckpt_chain_fn scratch[2];
        const ckpt_chain_fn *right = ckpt_chain_find_fn(tables, &split->right, &scratch[0]);
        const ckpt_chain_fn *left = ckpt_chain_find_fn(tables, &split->left, &scratch[1]);
        if (split->least_bytes > budget || right->least_bytes + split->shift_bytes > budget ||
            left->least_bytes > budget)
            continue;
        double cost = (double)split->run_cost + guess(tables, left, budget) +
                      guess(tables, right, budget - split->shift_bytes);
        if (cost < best_cost) {
            best_cost = cost;
            best = i;
        }
    }
    return best < 0 ? NULL : &tables->split[best];
}

/* Of those around the best one by the slots, or of all where they do not fit: budget >= fn.least_bytes, which one gave. */
static ckpt_chain_split choose(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref, uint64_t budget) {
    const int64_t slot = tables->unit_bytes ? (int64_t)(budget / tables->unit_bytes) : 0;
    const ckpt_chain_split *split = choose_from(tables, ref, ckpt_chain_window_near(tables, ref, slot), budget);
    if (!split) split = choose_from(tables, ref, ckpt_chain_window_all(tables, ref), budget);
    return *split;
}

/* The split of the range that costs fn's floor within its most_bytes; NULL where there is none. */
static const ckpt_chain_split *cheapest_from(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref,
                                             ckpt_chain_range range, const ckpt_chain_fn *fn) {
    const int count = ckpt_chain_list_splits(tables, ref, range, tables->split);
    for (int i = 0; i < count; i++) {
        const ckpt_chain_split *split = &tables->split[i];
        ckpt_chain_fn scratch[2];
        const ckpt_chain_fn *right = ckpt_chain_find_fn(tables, &split->right, &scratch[0]);
        const ckpt_chain_fn *left = ckpt_chain_find_fn(tables, &split->left, &scratch[1]);
        if (split->run_cost + right->floor_cost + left->floor_cost == fn->floor_cost &&
            split->least_bytes <= fn->most_bytes && right->most_bytes + split->shift_bytes <= fn->most_bytes &&
            left->most_bytes <= fn->most_bytes)
            return split;
    }
    return NULL;
}

static ckpt_chain_split choose_cheapest(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref,
                                        const ckpt_chain_fn *fn) {
    const ckpt_chain_range near = ckpt_chain_window_near(tables, ref, INT32_MAX);
    const ckpt_chain_split *split = cheapest_from(tables, ref, near, fn);
    if (!split) split = cheapest_from(tables, ref, ckpt_chain_window_all(tables, ref), fn);
    return *split;
}

/* Returns the bytes needed beyond x_{s-1}; UINT64_MAX when memory ran out. */
static uint64_t follow(trace *tr, const ckpt_chain_ref *ref, uint64_t budget) {
    const ckpt_chain_stage *stage = tr->tables->chain->stage;
    if (ref->type == CKPT_FN_NONE) return 0;
    if (ref->type == CKPT_FN_BACKWARD) {
        const ckpt_chain_option *option = &stage[ref->s].option[ref->option];
        tr->program->cost += option->recompute_cost[ref->has_output];
        if (!add_step(tr, CKPT_CHAIN_BACKWARD, ref->s, ref->option, ref->has_output)) return UINT64_MAX;
        return option->backward_bytes[ref->has_output][ref->dies];
    }
    const ckpt_chain_fn *fn = ckpt_chain_find_fn(tr->tables, ref, NULL);
    const bool cheapest = budget >= fn->most_bytes;
    if (cheapest && !tr->pool) {
        tr->program->cost += fn->floor_cost;
        return fn->most_bytes;
    }
    if (cheapest) budget = fn->most_bytes;
    ckpt_chain_split split =
        cheapest ? choose_cheapest(tr->tables, ref, fn) : choose(tr->tables, ref, budget);
    tr->program->cost += split.run_cost;
    if (split.early && !add_step(tr, CKPT_CHAIN_EARLY, ref->t, ref->option, ref->type == CKPT_FN_K)) return UINT64_MAX;
    for (int k = ref->s; k <= split.run_to; k++)
        if (!add_step(tr, CKPT_CHAIN_FORWARD, k, k == split.run_to ? split.option : 0, false))
            return UINT64_MAX;
    uint64_t right = follow(tr, &split.right, budget - split.shift_bytes);
    if (right == UINT64_MAX) return right;
    uint64_t left = follow(tr, &split.left, budget);
    if (split.right.type != CKPT_FN_NONE) right += split.shift_bytes;
    return larger(larger(split.least_bytes, right), left);
}

bool ckpt_chain_trace_program(const ckpt_chain_tables *tables, uint64_t budget, ckpt_pool *pool,
                              ckpt_chain_program *program) {
    trace tr = {tables, pool, program};
    ckpt_chain_ref all = {.type = CKPT_FN_G, .s = 1, .t = tables->count};
    *program = (ckpt_chain_program){0};
    program->needed_bytes = follow(&tr, &all, budget);
    return program->needed_bytes != UINT64_MAX;
}

static void mark(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref, uint64_t budget, ckpt_chain_likely *likely) {
    if (ref->type == CKPT_FN_NONE || ref->type == CKPT_FN_BACKWARD) return;
    const ckpt_chain_split split = choose(tables, ref, budget);
    if (split.run_to >= ref->s && split.run_to < ref->t) ckpt_chain_likely_add(likely, ref->s, ref->t, split.run_to);
    mark(tables, &split.right, budget - split.shift_bytes, likely);
    mark(tables, &split.left, budget, likely);
}

void ckpt_chain_mark_least(const ckpt_chain_tables *tables, ckpt_chain_likely *likely) {
    const ckpt_chain_ref all = {.type = CKPT_FN_G, .s = 1, .t = tables->count};
    mark(tables, &all, ckpt_chain_least_bytes(tables), likely);
}

/* How many budgets to try: fewer on long chains, where each takes longer. */
static int try_count(const ckpt_chain_tables *tables) {
    int64_t each = 0;
    if (tables->likely) return 512;
    if (tables->from_bytes) return 64; /* they are for few */
    for (int k = 1; k <= tables->count; k++)
        each += (tables->count < 64 ? tables->count : 64) * tables->chain->stage[k].option_count;
    const int64_t most = 2000000 / (each + 1);
    return most > 1024 ? 1024 : most < 256 ? 256 : (int)most;
}

static int by_need(const void *a, const void *b) {
    const struct ckpt_chain_point *x = a, *y = b;
    if (x->needed_bytes != y->needed_bytes) return x->needed_bytes < y->needed_bytes ? -1 : 1;
    if (x->cost != y->cost) return x->cost < y->cost ? -1 : 1;
    return x->budget_bytes < y->budget_bytes ? -1 : x->budget_bytes > y->budget_bytes;
}

/* Programs for budgets from cap_bytes down to those that other tables are for, each below the need of the one before. */
static int add_points(ckpt_chain_tables *tables, int tries, struct ckpt_chain_point *point) {
    const uint64_t least = larger(tables->g[0][1].least_bytes, tables->from_bytes);
    uint64_t budget = larger(tables->cap_bytes, least);
    const double ratio = pow((double)larger(least, 1) / (double)larger(budget, 1), 1.0 / tries);
    int count = 0;
    for (;;) {
        ckpt_chain_program program;
        if (!ckpt_chain_trace_program(tables, budget, NULL, &program)) return -1;
        point[count++] = (struct ckpt_chain_point){budget, program.needed_bytes, program.cost, tables};
        if (program.needed_bytes <= least || budget == least) return count;
        uint64_t below = program.needed_bytes - 1, next = (uint64_t)(ratio * (double)budget);
        if (next < below) below = next;
        budget = count >= tries + 1 || below < least ? least : below;
    }
}

/* The frontier does not depend on any budget asked for: answers from it are monotone in the budget. */
static bool build_frontier(ckpt_chain_tables *tables) {
    int room = 0, count = 0;
    for (ckpt_chain_tables *from = tables; from; from = from->fine) room += try_count(from) + 3;
    struct ckpt_chain_point *point = ckpt_pool_array(&tables->pool, room, struct ckpt_chain_point);
    if (!point) return false;
    for (ckpt_chain_tables *from = tables; from; from = from->fine) {
        if (!from->unit_bytes) continue;
        int added = add_points(from, try_count(from), point + count);
        if (added < 0) return false;
        count += added;
    }
    qsort(point, (size_t)count, sizeof *point, by_need);
    int kept = 0;
    for (int i = 0; i < count; i++)
        if (!kept || point[i].cost < point[kept - 1].cost) point[kept++] = point[i];
    tables->point = point;
    tables->point_count = kept;
    return true;
}

/* The smallest slot that costs as much as `slot`, in bytes. */
static uint64_t canonical_budget(const ckpt_chain_tables *tables, int64_t slot) {
    const ckpt_chain_fn *g = &tables->g[0][1];
    if (slot > g->hi) slot = g->hi;
    while (slot > g->lo && g->value[slot - 1 - g->lo] <= g->value[slot - g->lo]) slot--;
    return (uint64_t)slot * tables->unit_bytes;
}

/* The budget to trace where nothing held is lost to slots. No frontier is needed: what costs less than a slot does not
 * fit it. The slot above may do with less than it has, and then it serves here already. Below the first slot
 * there is the smallest budget of all. */
static bool even_budget(const ckpt_chain_tables *tables, uint64_t budget_bytes, uint64_t *budget) {
    const ckpt_chain_fn *g = &tables->g[0][1];
    const int64_t slot = (int64_t)(budget_bytes / tables->unit_bytes);
    ckpt_chain_program program;
    const uint64_t above = canonical_budget(tables, slot + 1);
    *budget = slot < g->lo ? ckpt_chain_least_bytes(tables) : canonical_budget(tables, slot);
    if (tables->exact || above == *budget) return true;
    if (!ckpt_chain_trace_program(tables, above, NULL, &program)) return false;
    if (program.needed_bytes <= budget_bytes) *budget = above;
    return true;
}

ckpt_status ckpt_chain_solve(ckpt_chain_tables *tables, uint64_t budget_bytes, ckpt_pool *pool,
                             ckpt_chain_program *program, ckpt_error *err) {
    uint64_t least = ckpt_chain_least_bytes(tables);
    if (budget_bytes < least)
        return ckpt_fail(err, CKPT_INFEASIBLE, "no schedule fits %llu bytes: the smallest takes %llu",
                         (unsigned long long)budget_bytes, (unsigned long long)least);
    uint64_t budget = 0;
    const ckpt_chain_tables *from = tables;
    if (tables->even) {
        if (!even_budget(tables, budget_bytes, &budget)) return ckpt_fail(err, CKPT_NOMEM, "out of memory");
    } else {
        if (!tables->point_count && !build_frontier(tables))
            return ckpt_fail(err, CKPT_NOMEM, "out of memory");
        int i = 0;
        while (i + 1 < tables->point_count && tables->point[i + 1].needed_bytes <= budget_bytes) i++;
        budget = tables->point[i].budget_bytes;
        from = tables->point[i].from;
    }
    if (!ckpt_chain_trace_program(from, budget, pool, program))
        return ckpt_fail(err, CKPT_NOMEM, "out of memory for a program of %d stages", tables->count);
    return CKPT_OK;
}

/* What the program of the next cheaper slot needs. */
static uint64_t next_even_bytes(const ckpt_chain_tables *tables, uint64_t budget_bytes) {
    const ckpt_chain_fn *g = &tables->g[0][1];
    int64_t slot = (int64_t)(budget_bytes / tables->unit_bytes);
    if (slot < g->lo) slot = g->lo - 1;
    while (slot < g->hi) {
        const double now = slot < g->lo ? HUGE_VAL : g->value[slot - g->lo];
        do slot++;
        while (slot < g->hi && g->value[slot - g->lo] >= now);
        ckpt_chain_program program;
        if (!(g->value[slot - g->lo] < now)) return UINT64_MAX;
        if (!ckpt_chain_trace_program(tables, (uint64_t)slot * tables->unit_bytes, NULL, &program)) return UINT64_MAX;
        if (program.needed_bytes > budget_bytes) return program.needed_bytes;
    }
    return UINT64_MAX;
}

uint64_t ckpt_chain_next_bytes(const ckpt_chain_tables *tables, uint64_t budget_bytes) {
    if (budget_bytes < ckpt_chain_least_bytes(tables)) return ckpt_chain_least_bytes(tables);
    if (!tables->even) {
        for (int i = 0; i < tables->point_count; i++)
            if (tables->point[i].needed_bytes > budget_bytes) return tables->point[i].needed_bytes;
        return UINT64_MAX;
    }
    return next_even_bytes(tables, budget_bytes);
}
