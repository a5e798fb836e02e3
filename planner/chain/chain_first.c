/* The first pass of tables for one budget. G(s) is made from G of what may follow the first checkpoint, so that the last few
 * rows are all that is held of the values; of every row there is which way each slot takes. A row is as wide as schedules of
 * interest need: with m bytes left at s what is held of the stages before is the rest, and what of these it does not hold is
 * run again; so is what m bytes do not hold of the stages from s on, when the last backward runs. Both are knapsacks, here in
 * parts at a few prices of a byte (lines: Dantzig, Operations Research 5(2), 1957).
 *
 * Runs have functions up to tables->longest stages. A longer one s..j that is run again costs no less than its parts, as many
 * as have a function, and one run of each other stage but the last, which some backward reads:
 *     R(s, j, m) >= R(s, u, m + gradient of x_u) + R(u + 1, v, m + gradient of x_v) + ... + cost of the rest up to j-1
 * since what a schedule does in s..u alone is a schedule for them; there the gradient of x_u is made in time, here it is there
 * from the beginning. What follows x_j costs no less than lines say that lie below G(j + 1). That is one more way for a row,
 * AHEAD. The cost that comes out is never more than the least there is; where the way to it needs no such run it is the least.
 */
#include <math.h>
#include <stdlib.h>

#include "base/vector.h"
#include "planner/chain/chain_window.h"

/* Of how many slots a bound needs to know: all of as many, and of AHEAD every so many of these. Runs whose lengths differ by no
 * more than one in so many are looked at together. */
enum { AHEAD = UINT16_MAX, LINES = 8, FINE_SLOTS = 32768, ROUGHER = 8, ALIKE = 64 };

typedef struct rows {
    ckpt_chain_tables *tables;
    int slots;               /* of the budget */
    double price[LINES];     /* of a slot */
    double *missing[LINES];  /* [s]: what is lacking of stages 1..s costs no less than this, less the price of what there is */
    double (*line)[LINES];   /* [s]: G(s) costs no less than this, less the price of the slots it has */
    int *least;              /* [s]: slots left at s when all before it is held */
    ckpt_chain_fn ahead;     /* of the row that is made */
    int fine, grain;         /* slots that lines, and AHEAD, do not tell from each other */
    double *rough;           /* AHEAD at the last of every `grain` slots */
    double *runs, *part;     /* of what it runs again: all whole parts, and those with the last one */
    int ring;                /* rows that are read again: */
    double **value, **last;  /* [(s % ring) * 2 + d] */
} rows;

static int smaller(int a, int b) {
    return a < b ? a : b;
}

static int larger(int a, int b) {
    return a > b ? a : b;
}

static double larger_double(double a, double b) {
    return a > b ? a : b;
}

static int by_price(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (x[0] < y[0]) - (x[0] > y[0]);
}

/* The first is 0, then those of stages about which a knapsack of the whole chain would be in doubt, and dearer ones: where stages
 * are run many times a slot saves more than one run. */
static bool set_prices(rows *r, ckpt_pool *pool) {
    const ckpt_chain_tables *tables = r->tables;
    double (*rate)[2] = ckpt_pool_alloc(pool, (size_t)tables->count, sizeof *rate);
    if (!rate) return false;
    int count = 0, at = 0;
    for (int k = 1; k < tables->count; k++) {
        const double held = ckpt_chain_slots_of(tables, tables->chain->stage[k].out_bytes);
        if (held > 0) rate[count][0] = (double)tables->chain->stage[k].forward_cost / held, rate[count++][1] = held;
    }
    qsort(rate, (size_t)count, sizeof *rate, by_price);
    double left = r->slots;
    while (at < count && rate[at][1] <= left) left -= rate[at++][1];
    int before = smaller(at, count - 1), after = before; /* of other prices than the one it ends at */
    if (count == 0) return true;
    const double break_price = rate[before][0];
    while (before > 0 && rate[before][0] <= break_price) before--;
    while (after + 1 < count && rate[after][0] >= break_price) after++;
    const double most = rate[0][0];
    const double price[LINES] = {0, rate[after][0], break_price, rate[before][0], most, 4 * most, 16 * most, 64 * most};
    for (int l = 0; l < LINES; l++) r->price[l] = price[l];
    return true;
}

static bool open_rows(ckpt_chain_tables *tables, ckpt_pool *pool, rows *r) {
    const int count = tables->count;
    *r = (rows){.tables = tables, .ring = smaller(tables->longest, count) + 1};
    r->slots = (int)(tables->cap_bytes / tables->unit_bytes);
    r->fine = r->slots / FINE_SLOTS + 1;
    r->grain = ROUGHER * r->fine;
    r->least = ckpt_pool_array(pool, count + 1, int);
    r->line = ckpt_pool_alloc(pool, (size_t)count + 1, sizeof *r->line);
    r->ahead.value = ckpt_pool_array(pool, r->slots + 2, double);
    r->ahead.last = ckpt_pool_array(pool, r->slots / CKPT_CHAIN_PIECE + 2, double);
    r->rough = ckpt_pool_array(pool, r->slots / r->grain + 2, double);
    r->runs = ckpt_pool_array(pool, r->slots / r->grain + 2, double);
    r->part = ckpt_pool_array(pool, r->slots / r->grain + 2, double);
    r->value = ckpt_pool_array(pool, 2 * r->ring, double *);
    r->last = ckpt_pool_array(pool, 2 * r->ring, double *);
    if (!r->least || !r->line || !r->ahead.value || !r->ahead.last || !r->rough || !r->runs || !r->part || !r->value || !r->last ||
        !set_prices(r, pool))
        return false;
    for (int l = 0; l < LINES; l++) {
        r->missing[l] = ckpt_pool_array(pool, count + 1, double);
        if (!r->missing[l]) return false;
        for (int k = 1; k <= count; k++) {
            const ckpt_chain_stage *stage = &tables->chain->stage[k];
            const double held = ckpt_chain_slots_of(tables, stage->out_bytes);
            r->missing[l][k] = r->missing[l][k - 1] + fmin((double)stage->forward_cost, r->price[l] * held);
        }
    }
    r->least[1] = r->slots;
    for (int s = 1; s < count; s++) {
        const ckpt_chain_stage *stage = &tables->chain->stage[s];
        uint64_t most = 0;
        for (int o = 0; o < stage->option_count; o++)
            if (stage->option[o].kept_bytes > most) most = stage->option[o].kept_bytes;
        r->least[s + 1] = larger(r->least[s] - ckpt_chain_slots_of(tables, stage->out_bytes + most), 0);
    }
    return true;
}

/* What stages before s cost at least, with so many slots left at s. */
static double cost_before(const rows *r, int s, int slots) {
    double missing = 0;
    for (int l = 1; l < LINES; l++) missing = larger_double(missing, r->missing[l][s - 1] - r->price[l] * (r->slots - slots));
    return larger_double((double)r->tables->cost[s - 1] + missing, r->tables->least_part[s - 1]);
}

/* What no program costs less than that has so many slots left at s. */
static double bound_at(const rows *r, int s, int slots) {
    const int count = r->tables->count, last = larger(count - 2, s - 1);
    double missing = 0;
    for (int l = 1; l < LINES; l++)
        missing = larger_double(missing, r->missing[l][last] - r->missing[l][s - 1] - r->price[l] * slots);
    return cost_before(r, s, slots) + (double)(r->tables->cost[count] - r->tables->cost[s - 1]) + missing;
}

/* The first of slots [from, to] at which a bound that falls is of interest, or to + 1; or the last at which one that rises is. */
static int first_of_interest(const rows *r, int s, int from, int to) {
    while (from <= to) {
        const int middle = from + (to - from) / 2;
        if (bound_at(r, s, middle) < r->tables->limit_cost) to = middle - 1;
        else from = middle + 1;
    }
    return from;
}

static int last_of_interest(const rows *r, int s, int from, int to) {
    while (from <= to) {
        const int middle = from + (to - from) / 2;
        if (bound_at(r, s, middle) < r->tables->limit_cost) from = middle + 1;
        else to = middle - 1;
    }
    return to;
}

/* Slots of the row of s that may be part of a program of interest: bound_at is convex. False: there are none. */
static bool find_range(const rows *r, int s, int *lo, int *hi) {
    int from = r->least[s], to = r->slots;
    while (from < to) {
        const int middle = from + (to - from) / 2;
        if (bound_at(r, s, middle) <= bound_at(r, s, middle + 1)) to = middle;
        else from = middle + 1;
    }
    *lo = first_of_interest(r, s, r->least[s], from);
    *hi = last_of_interest(r, s, from, r->slots);
    return *lo <= *hi;
}

static bool place_row(rows *r, ckpt_pool *pool, int s, int d, ckpt_chain_fn *fn) {
    const int at = s % r->ring * 2 + d;
    if (!r->value[at]) r->value[at] = ckpt_pool_array(pool, r->slots + 2, double);
    if (!r->last[at]) r->last[at] = ckpt_pool_array(pool, r->slots / CKPT_CHAIN_PIECE + 2, double);
    fn->value = r->value[at];
    fn->last = r->last[at];
    fn->best = r->tables->taken;
    return fn->value && fn->last;
}

/* By the lines above which `runs` are, at every `grain`th slot. */
CKPT_VECTOR static void lower_to_lines(double *restrict value, const double *restrict runs, const double line[LINES],
                                       const double price[LINES], int from, int grain, int count) {
    for (int i = 0; i < count; i++) {
        const double slot = from + grain * i;
        double above = line[0];
        for (int l = 1; l < LINES; l++) {
            const double here = line[l] - price[l] * slot;
            above = here > above ? here : above;
        }
        above += runs[i];
        value[i] = above < value[i] ? above : value[i];
    }
}

/* The lines that lie below values that fall, at the last of every so many slots, if they are below those that there are. */
CKPT_VECTOR static void lower_lines(const double *value, const double price[LINES], int from, int fine, int count,
                                    double line[LINES]) {
    double least[LINES];
    for (int l = 0; l < LINES; l++) least[l] = line[l];
    for (int i = 0; i < count; i += fine) {
        const double here = value[i + fine - 1 < count ? i + fine - 1 : count - 1];
        for (int l = 0; l < LINES; l++) {
            const double paid = here + price[l] * (from + i);
            least[l] = paid < least[l] ? paid : least[l];
        }
    }
    for (int l = 0; l < LINES; l++) line[l] = least[l];
}

/* The lines of ways that run to any of x_from..x_to-1 first, what they run again up to x_from-1 not counted. */
static void set_lines(const rows *r, int s, int from, int to, double line[LINES]) {
    const ckpt_chain_tables *tables = r->tables;
    const uint64_t *cost = tables->cost;
    for (int l = 0; l < LINES; l++) {
        line[l] = HUGE_VAL;
        for (int j = from; j < to; j++) {
            const double held = ckpt_chain_slots_of(tables, tables->chain->stage[j].out_bytes);
            const double rest = j < tables->count ? r->line[j + 1][l] + r->price[l] * held : 0;
            line[l] = fmin(line[l], (double)(cost[j] - cost[s - 1] + cost[j - 1] - cost[from - 1]) + rest);
        }
    }
}

static const ckpt_chain_fn *part_of_run(const rows *r, int s, int u, int d) {
    return &(*ckpt_chain_pair_at(r->tables, s, u))->held[0].r[d && r->tables->gains[s]];
}

/* sum[i] = with[i] + R(s, u) with as many slots as `from` and `grain` times i. */
static void add_run(const rows *r, int s, int u, int d, int from, int count, const double *with, double *sum) {
    const int grain = r->grain;
    const ckpt_chain_fn *run = part_of_run(r, s, u, d);
    int i = 0;
    for (; i < count && from + grain * i < run->lo; i++) sum[i] = HUGE_VAL;
    for (; i < count && from + grain * i < run->hi; i++) sum[i] = with[i] + run->value[from + grain * i - run->lo];
    for (; i < count; i++) sum[i] = with[i] + run->value[run->hi - run->lo];
}

static double run_at(const rows *r, int s, int u, int d, int slot) {
    const ckpt_chain_fn *run = part_of_run(r, s, u, d);
    return slot < run->lo ? HUGE_VAL : ckpt_chain_fn_guess(run, slot);
}

/* Whether nothing of interest costs as much with `slots`, the most that there are. */
static bool is_too_dear(const rows *r, int s, const double line[LINES], double runs, int slots) {
    double above = line[0];
    for (int l = 1; l < LINES; l++) above = larger_double(above, line[l] - r->price[l] * slots);
    return (double)r->tables->cost[s - 1] + runs + above > r->tables->limit_cost;
}

/* The way through a run of more than `longest` stages. False: there is none of interest. */
static bool list_ahead(rows *r, int s, int d, int lo, int hi, ckpt_chain_term *term) {
    const bool through = !r->tables->loss_is_light; /* to x_L */
    const int count = r->tables->count - !through, longest = r->tables->longest;
    const int first = lo + r->grain - 1, grains = (hi - lo) / r->grain + 1, last = first + r->grain * (grains - 1);
    if (s + longest > count || r->tables->short_runs || r->tables->no_longer) return false;
    for (int i = 0; i < grains; i++) r->rough[i] = HUGE_VAL, r->runs[i] = 0;
    const uint64_t *cost = r->tables->cost;
    int whole = s; /* what `runs` has ends before it */
    bool any = false;
    for (int from = s + longest, to; from <= count; from = to) {
        double line[LINES], *runs = r->runs;
        to = smaller(from + (from - s) / ALIKE + 1, count + 1);
        while (whole + longest <= from) {
            const int u = ckpt_chain_part_end(r->tables, whole, whole + longest - 1);
            add_run(r, whole, u, d, first + ckpt_chain_slots_beside(r->tables, u, through), grains, runs, runs);
            whole = u + 1;
        }
        set_lines(r, s, from, to, line);
        const int u = whole < from ? ckpt_chain_part_end(r->tables, whole, from - 1) : from - 1;
        const int more = ckpt_chain_slots_beside(r->tables, u, to > count);
        for (int l = 0; l < LINES; l++) line[l] += (double)(cost[from - 1] - cost[u]);
        const double rest = whole < from ? run_at(r, whole, u, d, last + more) : 0;
        if (is_too_dear(r, s, line, runs[grains - 1] + rest, last)) continue;
        if (whole < from) add_run(r, whole, u, d, first + more, grains, runs, r->part), runs = r->part;
        lower_to_lines(r->rough, runs, line, r->price, first, r->grain, grains);
        any = true;
    }
    if (!any) return false;
    r->ahead.lo = lo;
    r->ahead.hi = hi;
    for (int i = 0, m = 0; i < grains; i++)
        for (const int end = smaller((i + 1) * r->grain, hi - lo + 1); m < end; m++) r->ahead.value[m] = r->rough[i];
    ckpt_chain_set_last(&r->ahead);
    *term = ckpt_chain_make_ahead(&r->ahead);
    return true;
}

/* False: no memory. */
static bool make_row(rows *r, ckpt_pool *pool, int s, int d) {
    ckpt_chain_tables *tables = r->tables;
    const ckpt_chain_ref ref = {.type = CKPT_FN_G, .s = s, .t = tables->count, .dies = d};
    ckpt_chain_fn *fn = &tables->g[d][s];
    int lo, hi;
    fn->lo = fn->hi = CKPT_CHAIN_NO_SLOT;
    if (!place_row(r, pool, s, d, fn)) return false;
    if (!find_range(r, s, &lo, &hi)) return true;
    const int known = ckpt_chain_list_splits(tables, &ref, ckpt_chain_window_all(tables, &ref), tables->split);
    ckpt_chain_make_terms(tables, tables->split, known, tables->term);
    const int count = known + list_ahead(r, s, d, lo, hi, &tables->term[known]);
    ckpt_chain_fn_row(tables, count, tables->limit_cost - (double)tables->cost[s - 1], lo, hi, fn);
    if (fn->lo > hi) return true;
    int dear = 0, slots = fn->hi - fn->lo + 1;
    while (dear < slots && fn->value[dear] + cost_before(r, s, fn->lo + dear) > tables->limit_cost) dear++;
    const uint32_t *taken = fn->best + dear;
    slots -= dear;
    if (slots == 0) {
        fn->lo = fn->hi = CKPT_CHAIN_NO_SLOT;
        return true;
    }
    fn->lo += dear;
    fn->value += dear;
    if (dear > 0) ckpt_chain_set_last(fn);
    lower_lines(fn->value, r->price, fn->lo, r->fine, slots, r->line[s]);
    uint16_t *way = tables->way[d][s] = ckpt_pool_array(&tables->pool, slots, uint16_t);
    for (int i = 0; i < slots && way; i++) way[i] = taken[i] < (uint32_t)known ? (uint16_t)taken[i] : AHEAD;
    return way != NULL;
}

bool ckpt_chain_first_pass(ckpt_chain_tables *tables) {
    ckpt_pool scratch = {0};
    rows r;
    bool ok = open_rows(tables, &scratch, &r);
    for (int s = tables->count; s >= 1 && ok; s--) {
        for (int l = 0; l < LINES; l++) r.line[s][l] = HUGE_VAL;
        for (int d = 0; d <= tables->gains[s] && ok; d++) ok = make_row(&r, &scratch, s, d);
    }
    const ckpt_chain_fn *all = &tables->g[0][1];
    if (ok) tables->least_cost = r.slots < all->lo ? HUGE_VAL : ckpt_chain_fn_guess(all, r.slots);
    for (int d = 0; d < 2; d++) /* the rows go; the ways stay */
        for (int s = 1; s <= tables->count; s++) {
            tables->g[d][s].value = tables->g[d][s].last = NULL;
            tables->g[d][s].best = NULL;
        }
    ckpt_pool_free(&scratch);
    return ok;
}

const ckpt_chain_split *ckpt_chain_first_way(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref, int64_t slot) {
    const int d = ref->dies && tables->gains[ref->s];
    const ckpt_chain_fn *fn = &tables->g[d][ref->s];
    if (slot < fn->lo) return NULL;
    const uint16_t way = tables->way[d][ref->s][(slot < fn->hi ? slot : fn->hi) - fn->lo];
    if (way == AHEAD) return NULL;
    ckpt_chain_list_splits(tables, ref, ckpt_chain_window_all(tables, ref), tables->split);
    return &tables->split[way];
}

bool ckpt_chain_first_is_whole(const ckpt_chain_tables *tables) {
    ckpt_chain_ref ref = {.type = CKPT_FN_G, .s = 1, .t = tables->count};
    int64_t slot = (int64_t)(tables->cap_bytes / tables->unit_bytes);
    while (ref.type == CKPT_FN_G) {
        const ckpt_chain_split *split = ckpt_chain_first_way(tables, &ref, slot);
        if (!split) return false;
        slot -= ckpt_chain_slots_of(tables, split->shift_bytes);
        ref = split->right;
    }
    return true;
}
