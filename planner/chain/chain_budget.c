/* Tables for one budget. What they need not say makes them small: a program with more than some cost is of no interest, and no
 * part of one is that costs so much, together with the least that all else costs, that the whole is not.
 *
 *     - Of a run s..t that is made again, each of its stages run once is what a knapsack counts for it at most (chain_bound.h).
 *       What it costs beyond that comes on top of the knapsack's bound for the whole chain.
 *     - All runs of stages u..v, the first included, cost no less than these stages on their own, with all the memory there is
 *       and, since the gradient of x_v may be made later than they begin, that of it on top. So do those of any stages beside s..t.
 *
 * What is left of the budget beside whole slots is left everywhere, as only what is held is subtracted. So slots need be parts of
 * that alone; what something takes that is not held fits so many slots and the rest, or not.
 *
 * Functions are made for one length after the other, until longer runs are not wanted, or none is of interest. On their own stages
 * may cost less than their function says, where it leaves out what as a part of a run is of no interest: least_left_out.
 */
#include <math.h>
#include <stdlib.h>

#include "base/units.h"
#include "planner/chain/chain_window.h"

/* The most slots: rows of so many are held for as many stages as the longest run. Stages at the end of a run of which one may
 * have a smaller gradient than the last: a block, as a rule. */
enum { MOST_SLOTS = 1 << 19, LAST_ONES = 16 };

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* How long runs are, of all stages' size, that fit the budget with all they make. */
static double held_stages(const ckpt_chain_tables *tables, uint64_t budget_bytes) {
    double bytes = 1;
    for (int k = 1; k <= tables->count; k++) bytes += (double)tables->chain->stage[k].out_bytes;
    return (double)budget_bytes * tables->count / bytes;
}

static double cost_a_byte(const ckpt_chain_stage *stage) {
    return stage->out_bytes ? (double)stage->forward_cost / (double)stage->out_bytes : 0;
}

/* Whether the stages that save most a byte are too many: then nothing is lost with a run that holds none of them. */
static bool is_short_of_best(const ckpt_chain_tables *tables, uint64_t budget_bytes) {
    const ckpt_chain_stage *stage = tables->chain->stage;
    double best = 0;
    uint64_t bytes = 0;
    for (int k = 1; k < tables->count; k++) best = fmax(best, cost_a_byte(&stage[k]));
    for (int k = 1; k < tables->count; k++)
        if (cost_a_byte(&stage[k]) >= best) bytes += stage[k].out_bytes;
    return bytes > budget_bytes;
}

/* How long a run that is made again from its first stage may have to be: as if stages were equal, of which all but one in so many
 * hold something (Griewank and Walther: of C(held + times, times) stages the first C(held + times - 1, times - 1)). */
int ckpt_chain_guess_longest(const ckpt_chain_tables *tables, uint64_t budget_bytes) {
    const double held = held_stages(tables, budget_bytes);
    double stages = 1;
    int times = 0;
    while (stages < tables->count && times < tables->count) stages *= (held + times + 1) / (times + 1), times++;
    return (int)fmin(2.8 * times / (held + times) * tables->count + 16, tables->count);
}

/* Tables for one budget, not yet filled. */
static ckpt_status open_for_budget(const ckpt_chain *chain, uint64_t budget_bytes, ckpt_chain_likely *likely,
                                   ckpt_chain_tables **out, ckpt_error *err) {
    ckpt_chain_tables *tables = *out = calloc(1, sizeof *tables);
    if (!tables) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the tables of a chain");
    tables->chain = chain;
    tables->count = tables->longest = chain->stage_count;
    tables->likely = likely;
    tables->all_splits = true;
    tables->cap_bytes = budget_bytes < CKPT_CORNER_MOST ? budget_bytes : CKPT_CORNER_MOST;
    return ckpt_chain_tables_start(tables, err);
}

/* `done`: they are filled. */
static ckpt_status close_for_budget(ckpt_status status, bool done, bool wanted, ckpt_chain_tables **out, ckpt_error *err) {
    if (status == CKPT_OK && done) return CKPT_OK;
    if (status == CKPT_OK && wanted)
        status = ckpt_fail(err, CKPT_NOMEM, "out of memory for the tables of %d stages", (*out)->count);
    ckpt_chain_tables_free(*out);
    *out = NULL;
    return status;
}

ckpt_status ckpt_chain_corners_build(const ckpt_chain *chain, uint64_t budget_bytes, ckpt_chain_likely *likely, uint64_t work,
                                     ckpt_chain_tables **out, ckpt_error *err) {
    const ckpt_status status = open_for_budget(chain, budget_bytes, likely, out, err);
    ckpt_chain_tables *tables = *out;
    bool done = false;
    if (status == CKPT_OK) {
        tables->by_corners = true;
        tables->corner_room = (ckpt_corner_room){.pool = &tables->pool, .work = work};
        done = ckpt_chain_fill_all(tables);
    }
    return close_for_budget(status, done, status == CKPT_OK && !tables->corner_room.out_of_work, out, err);
}

/* Splits, about, of functions of runs up to so many stages and of G. */
static double splits_up_to(const ckpt_chain_tables *tables, int longest) {
    const double count = tables->count, part = longest / count, options = (double)tables->functions / count / count;
    return 2 * part * part * (double)tables->work + count * longest * options;
}

/* The next length to try. */
static int longer_than(const ckpt_chain_tables *tables) {
    return (int)smaller((uint64_t)tables->longest * 3 / 2 + 1, (uint64_t)tables->count);
}

/* Makes what tables for one budget have beside functions. A stage that is run again more than once is so beside what a knapsack
 * counts, which counts each once. False: no memory. */
static bool start_for_budget(ckpt_chain_tables *tables, uint64_t cost, uint64_t again) {
    const int count = tables->count;
    uint64_t gradient = 0;
    tables->least_gradient = UINT64_MAX;
    tables->least_left_out = HUGE_VAL;
    for (int k = 1; k <= count; k++) {
        gradient = larger(gradient, tables->chain->stage[k].gradient_bytes);
        if (k < count) tables->least_gradient = smaller(tables->least_gradient, tables->chain->stage[k].gradient_bytes);
    }
    tables->more_slots = ckpt_chain_slots_of(tables, gradient) + 1;
    const uint64_t slots = tables->cap_bytes / tables->unit_bytes + 3 + (uint64_t)tables->more_slots;
    tables->first = ckpt_pool_array(&tables->pool, slots / CKPT_CHAIN_PIECE + 2, double);
    tables->least_part = ckpt_pool_array(&tables->pool, count + 1, double);
    tables->taken = ckpt_pool_array(&tables->pool, slots, uint32_t);
    tables->row = ckpt_pool_array(&tables->pool, slots, double);
    tables->most_cost = ckpt_pool_array(&tables->pool, count + 1, double);
    for (int d = 0; d < 2; d++) tables->way[d] = ckpt_pool_array(&tables->pool, count + 1, uint16_t *);
    if (!tables->first || !tables->least_part || !tables->taken || !tables->row || !tables->most_cost || !tables->way[0] ||
        !tables->way[1])
        return false;
    for (int k = 1; k <= count; k++) {
        const ckpt_chain_stage *stage = &tables->chain->stage[k];
        uint64_t most = 0;
        for (int i = 0; i < 2 * ckpt_chain_options(stage); i++) {
            const uint64_t recompute = stage->option[i / 2].recompute_cost[i % 2];
            if (recompute != CKPT_CHAIN_NEVER) most = larger(most, recompute);
        }
        tables->most_cost[k] = tables->most_cost[k - 1] + (double)(stage->forward_cost + most);
    }
    tables->limit_cost = cost == CKPT_CHAIN_NEVER ? HUGE_VAL : (double)cost * (1 + 1e-9);
    tables->spare_cost = tables->limit_cost - (double)(tables->cost[count] + again);
    return true;
}

double ckpt_chain_most_of_interest(const ckpt_chain_tables *tables, int s, int t) {
    const double again = tables->most_cost[t] - tables->most_cost[s - 1] + tables->spare_cost;
    return fmin(again, tables->limit_cost - (double)(tables->cost[t] - tables->cost[s - 1]) - tables->rest_cost);
}

/* What stages beside a run of so many cost at least, wherever it is. */
static double cost_beside(const ckpt_chain_tables *tables, int length) {
    const int others = tables->count - 1 - length;
    double least = others > 0 ? HUGE_VAL : 0;
    for (int before = 0; before <= others; before++)
        least = fmin(least, tables->least_part[before] + tables->least_part[others - before]);
    return least;
}

int ckpt_chain_part_end(const ckpt_chain_tables *tables, int s, int t) {
    const ckpt_chain_stage *stage = tables->chain->stage;
    int u = t;
    for (int k = t - 1; k >= s && k > t - LAST_ONES; k--)
        if (stage[k].gradient_bytes < stage[u].gradient_bytes) u = k;
    return u;
}

static int gradient_slots(const ckpt_chain_tables *tables, int u) {
    return ckpt_chain_slots_of(tables, tables->chain->stage[u].gradient_bytes) + tables->down;
}

int ckpt_chain_slots_beside(const ckpt_chain_tables *tables, int u, bool with_last) {
    const uint64_t last = with_last ? tables->chain->stage[tables->count].gradient_bytes : UINT64_MAX;
    const uint64_t least = smaller(tables->least_gradient, last), bytes = tables->chain->stage[u].gradient_bytes;
    return bytes > least ? ckpt_chain_slots_of(tables, bytes - least) + tables->down : 0;
}

/* R(s, u) with the budget and so many slots more, or what it costs at least. */
static double run_cost(const ckpt_chain_tables *tables, int s, int u, int more, bool *of_interest) {
    const ckpt_chain_held *held = (*ckpt_chain_pair_at(tables, s, u))->held;
    const int slot = (int)(tables->cap_bytes / tables->unit_bytes) + more;
    double least = HUGE_VAL;
    for (int d = 0; d <= tables->gains[s]; d++) {
        const bool never = slot < held->r[d].lo;
        *of_interest |= !never;
        least = fmin(least, never ? held->r[d].only : ckpt_chain_fn_guess(&held->r[d], slot));
    }
    return least;
}

/* All functions but G, of one length after the other. */
static bool fill_lengths(ckpt_chain_tables *tables) {
    const int count = tables->count;
    while (tables->filled < tables->longest && !tables->no_longer) {
        const int length = tables->filled + 1;
        double least = HUGE_VAL;
        bool any = false;
        tables->rest_cost = cost_beside(tables, length);
        for (int s = 1; s + length - 1 <= count; s++) {
            ckpt_chain_pair *pair = *ckpt_chain_pair_at(tables, s, s + length - 1);
            if (!ckpt_chain_pair_wanted(tables, s, s + length - 1)) continue;
            if (!pair->held && !ckpt_chain_fill_pair(tables, s, s + length - 1, pair)) return false;
            const int t = s + length - 1, u = ckpt_chain_part_end(tables, s, t);
            const double once = (double)(tables->cost[t] - tables->cost[s - 1]);
            tables->least_left_out = fmin(tables->least_left_out, ckpt_chain_most_of_interest(tables, s, t) - once);
            if (t == count) continue;
            bool ignored = false;
            const double part = run_cost(tables, s, u, gradient_slots(tables, u), &ignored);
            least = fmin(least, fmin(part + (double)(tables->cost[t] - tables->cost[u]), tables->least_left_out + once));
            run_cost(tables, s, u, ckpt_chain_slots_beside(tables, u, false), &any);
        }
        double *part = tables->least_part;
        for (int n = length; n < count; n++) part[n] = fmax(part[n], fmax(part[n - 1], least + part[n - length]));
        tables->filled = length;
        tables->no_longer = !any && length < count - 1;
    }
    if (tables->no_longer) tables->longest = tables->filled;
    return true;
}

/* False: no memory. */
static bool fill_for_budget(ckpt_chain_tables *tables, const ckpt_chain_wanted *wanted) {
    for (;;) {
        if (!fill_lengths(tables) || !ckpt_chain_first_pass(tables)) return false;
        const int longer = longer_than(tables);
        if (tables->short_runs || tables->least_cost >= (double)wanted->cost || ckpt_chain_first_is_whole(tables)) return true;
        if ((double)tables->spent * longer > (double)wanted->work * tables->longest) return true;
        tables->longest = longer;
    }
}

ckpt_status ckpt_chain_slots_build(const ckpt_chain *chain, uint64_t budget_bytes, const ckpt_chain_wanted *wanted,
                                   ckpt_chain_tables **out, ckpt_error *err) {
    uint64_t again = 0;
    ckpt_status status = open_for_budget(chain, budget_bytes, NULL, out, err);
    ckpt_chain_tables *tables = *out;
    bool has_unit = false, done = false;
    if (status == CKPT_OK && (tables->repeated || wanted->longest > 0)) {
        tables->short_runs = wanted->short_runs;
        tables->longest = wanted->longest ? wanted->longest : ckpt_chain_guess_longest(tables, budget_bytes);
        const uint64_t slots = (uint64_t)fmin((double)wanted->work / splits_up_to(tables, tables->longest), MOST_SLOTS);
        tables->unit_bytes = ckpt_chain_held_unit(chain);
        tables->exact = budget_bytes / tables->unit_bytes < slots;
        tables->down = !tables->exact;
        if (tables->exact)
            tables->offset_bytes = budget_bytes % tables->unit_bytes;
        else
            tables->unit_bytes = slots ? ckpt_chain_best_unit(chain, 0, budget_bytes / slots + 1, UINT64_MAX, true) : 0;
        if (!wanted->longest && !wanted->short_runs && is_short_of_best(tables, budget_bytes))
            tables->longest = (int)fmax(tables->longest, fmin(1.1 * held_stages(tables, budget_bytes), tables->count));
        has_unit = tables->unit_bytes > 0;
        if (has_unit) status = ckpt_chain_bound_by_knapsack(chain, budget_bytes, false, &again, err);
        done = has_unit && status == CKPT_OK && start_for_budget(tables, wanted->cost, again) && fill_for_budget(tables, wanted);
    }
    return close_for_budget(status, done, has_unit, out, err);
}
