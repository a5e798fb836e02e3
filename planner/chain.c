/* The tables of chain.h (design section 5), over runs of stages s..t. By the last stage, then backwards by
 * the first: what is combined then lies close together. Equal runs share one entry. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "planner/chain_exact.h"
#include "planner/chain_table.h"
#include "planner/chain_window.h"

/* Where few stages are equal: budgets of tables of all splits, in smallest ones. From the budgets of one table to those of
 * the next with smaller slots, of likely splits, where blocks repeat, and else. */
enum { SMALL = 3, FINER_LIKELY = 4, FINER_BLOCKS = 4, FINER = 16 };

/* Splits times slots; slots of all functions together; and functions for which small budgets have no tables of all splits. */
enum { SPLIT_WORK = 20000000, ALL_WORK = 16000000, LIMITED_WORK = 8000000, SMALL_WORK = 2000000, MOST_SMALL = 60000 };

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static bool pair_wanted(const ckpt_chain_tables *tables, int s, int t) {
    if (t == tables->count && tables->loss_is_light) return false;
    if (!tables->likely || s == t) return true;
    return ckpt_chain_likely_any(tables->likely, s, t);
}

/* Functions of likely splits only: each run of stages has its own. */
static bool own_pairs(ckpt_chain_tables *tables) {
    uint64_t options = 1;
    for (int k = 1; k <= tables->count; k++)
        options = larger(options, (uint64_t)tables->chain->stage[k].option_count);
    tables->work = tables->likely->count * options * options;
    for (int s = 1; s <= tables->count; s++)
        for (int t = s; t <= tables->count; t++)
            if (pair_wanted(tables, s, t)) {
                *ckpt_chain_pair_at(tables, s, t) = ckpt_pool_array(&tables->pool, 1, ckpt_chain_pair);
                if (!*ckpt_chain_pair_at(tables, s, t)) return false;
            }
    return true;
}

ckpt_status ckpt_chain_count_runs(const ckpt_chain *chain, uint64_t *runs, ckpt_error *err) {
    const int count = chain->stage_count;
    ckpt_pool scratch = {0};
    /* same[b]: how far the runs from a and from b agree; most[b]: the longest of these over all a < b. */
    int *same = ckpt_pool_array(&scratch, count + 2, int), *most = ckpt_pool_array(&scratch, count + 2, int);
    for (int a = count; a >= 1 && same && most; a--)
        for (int b = a + 1; b <= count; b++) { /* same[b + 1] is still that of a + 1 */
            same[b] = chain->stage[a].kind == chain->stage[b].kind ? same[b + 1] + 1 : 0;
            if (same[b] > most[b]) most[b] = same[b];
        }
    *runs = 0;
    for (int s = 1; s <= count && most; s++) *runs += (uint64_t)(count - s + 1 - most[s]);
    const bool ok = same && most;
    ckpt_pool_free(&scratch);
    return ok ? CKPT_OK : ckpt_fail(err, CKPT_NOMEM, "out of memory for a chain of %d stages", count);
}

/* Points the pairs at one entry for each distinct run of stage kinds: that of the leftmost equal run. same[s]
 * is how far the runs from `first` and from s agree, computed from the right. */
static bool share_pairs(ckpt_chain_tables *tables) {
    int count = tables->count;
    size_t side = (size_t)count + 2;
    const ckpt_chain_stage *stage = tables->chain->stage;
    uint16_t *same = calloc(side * side, sizeof *same);
    if (!same) return false;
    for (int a = count; a >= 1; a--)
        for (int b = count; b > a; b--)
            if (stage[a].kind == stage[b].kind)
                same[(size_t)a * side + (size_t)b] =
                    (uint16_t)(same[(size_t)(a + 1) * side + (size_t)b + 1] + 1);
    bool ok = true;
    for (int s = 1; s <= count && ok; s++) {
        int covered = 0;
        for (int first = 1; first < s && s + covered <= count; first++)
            for (int agree = same[(size_t)first * side + (size_t)s]; covered < agree; covered++)
                *ckpt_chain_pair_at(tables, s, s + covered) = *ckpt_chain_pair_at(tables, first, first + covered);
        int own = count - s - covered + 1;
        ckpt_chain_pair *pair = ckpt_pool_array(&tables->pool, own, ckpt_chain_pair);
        ok = pair != NULL;
        uint64_t ways = 0; /* to keep something of stages s..t */
        for (int t = s; t <= count && ok; t++) {
            ways += (uint64_t)stage[t].option_count;
            tables->unshared_work += ways * (uint64_t)stage[t].option_count;
            if (t < s + covered) continue;
            *ckpt_chain_pair_at(tables, s, t) = &pair[t - s - covered];
            tables->work += ways * (uint64_t)stage[t].option_count;
            tables->functions += (3 * (uint64_t)stage[t].option_count + stage[t].early) << tables->gains[s];
        }
    }
    free(same);
    tables->repeated = 4 * tables->work <= tables->unshared_work;
    return ok;
}

static bool fill(ckpt_chain_tables *tables, int type, int s, int t, int d, int option, ckpt_chain_fn *fn) {
    ckpt_chain_ref ref = {.type = type, .s = s, .t = t, .dies = d, .option = option};
    ckpt_chain_range range;
    if (tables->by_corners) {
        const int count = ckpt_chain_list_splits(tables, &ref, ckpt_chain_window_all(tables, &ref), tables->split);
        return ckpt_chain_fn_corners(tables, &ref, tables->split, count, fn);
    }
    if (tables->row) {
        const int count = ckpt_chain_list_splits(tables, &ref, ckpt_chain_window_all(tables, &ref), tables->split);
        return ckpt_chain_fn_of_interest(tables, &ref, tables->split, count, fn);
    }
    if (tables->unit_bytes && ckpt_chain_window_set(tables, &ref, &range)) {
        const int count = ckpt_chain_list_splits(tables, &ref, range, tables->split);
        if (!ckpt_chain_fn_slots(tables, &ref, range.window, tables->split, count, fn)) return false;
        if (fn->value[0] < HUGE_VAL) return true; /* else the windows miss what fits the least memory */
    }
    const int count = ckpt_chain_list_splits(tables, &ref, ckpt_chain_window_all(tables, &ref), tables->split);
    if (tables->unit_bytes) return ckpt_chain_fn_slots(tables, &ref, NULL, tables->split, count, fn);
    ckpt_chain_fn_bytes(tables, tables->split, count, fn);
    return true;
}

/* What is left behind the early part first; then K: R may run through to x_t and go on with it. Option 0 first: internals may be given up. */
static bool fill_pair(ckpt_chain_tables *tables, int s, int t, ckpt_chain_pair *pair) {
    const ckpt_chain_stage *last = &tables->chain->stage[t];
    bool needs_output = last->needs_output, give_up = !tables->never_give_up || !needs_output;
    if (!pair->held) pair->held = ckpt_pool_array(&tables->pool, ckpt_chain_options(last), ckpt_chain_held);
    if (!pair->held) return false;
    for (int d = 0; d <= tables->gains[s]; d++) {
        if (last->early) {
            ckpt_chain_held *held = &pair->held[last->option_count];
            if (!fill(tables, CKPT_FN_R, s, t, d, last->option_count, &held->r[d])) return false;
            held->h[d] = held->k[d] = held->r[d];
        }
        for (int o = 0; o < last->option_count && needs_output; o++)
            if (!fill(tables, CKPT_FN_K, s, t, d, o, &pair->held[o].k[d])) return false;
        for (int o = 0; o < last->option_count; o++) {
            ckpt_chain_held *held = &pair->held[o];
            if (give_up && !fill(tables, CKPT_FN_R, s, t, d, o, &held->r[d])) return false;
            if (!needs_output || !give_up)
                held->h[d] = give_up ? held->r[d] : held->k[d];
            else if (!ckpt_chain_fn_either(tables, &held->r[d], &held->k[d], &held->h[d]))
                return false;
        }
    }
    return true;
}

/* Whether what follows x_{s-1} in the first pass is asked for. */
static bool first_wanted(const ckpt_chain_tables *tables, int s) {
    if (!tables->likely) return true;
    for (int j = s; j <= tables->count; j++)
        if (j == tables->count ? s == j : ckpt_chain_likely_has(tables->likely, s, tables->count, j)) return true;
    return false;
}

/* All functions but G. What has been made is left as it is. */
static bool fill_runs(ckpt_chain_tables *tables) {
    const int count = tables->count;
    if (tables->unit_bytes && !tables->first) {
        tables->first = ckpt_pool_array(&tables->pool, tables->cap_bytes / tables->unit_bytes / CKPT_CHAIN_PIECE + 3, double);
        if (!tables->first) return false;
    }
    for (int t = 1; t <= count; t++)
        for (int s = t; s >= 1 && t - s < tables->longest; s--) {
            ckpt_chain_pair *pair = *ckpt_chain_pair_at(tables, s, t);
            if (!pair || !pair_wanted(tables, s, t)) continue;
            bool done = pair->held && (!tables->unit_bytes || pair->held->h[0].value);
            if (!done && !fill_pair(tables, s, t, pair)) return false;
        }
    return true;
}

static bool fill_all(ckpt_chain_tables *tables) {
    const int count = tables->count;
    if (!fill_runs(tables)) return false;
    for (int s = count; s >= 1; s--)
        for (int d = 0; d <= tables->gains[s] && first_wanted(tables, s); d++)
            if (!fill(tables, CKPT_FN_G, s, count, d, 0, &tables->g[d][s])) return false;
    return true;
}

/* Divides every size that a plan can be made of. */
static uint64_t exact_unit(const ckpt_chain *chain) {
    uint64_t unit = 0;
    for (int k = 1; k <= chain->stage_count; k++) {
        const ckpt_chain_stage *stage = &chain->stage[k];
        unit = ckpt_common_divisor(unit, stage->out_bytes);
        unit = ckpt_common_divisor(unit, stage->gradient_bytes);
        for (int o = 0; o < ckpt_chain_options(stage); o++) {
            const ckpt_chain_option *option = &stage->option[o];
            for (int i = 0; i < 2; i++)
                if (option->early_bytes[i] != CKPT_CHAIN_NEVER) unit = ckpt_common_divisor(unit, option->early_bytes[i]);
            unit = ckpt_common_divisor(unit, option->kept_bytes);
            unit = ckpt_common_divisor(unit, option->forward_bytes[0]);
            unit = ckpt_common_divisor(unit, option->forward_bytes[1]);
            for (int i = 0; i < 4; i++) unit = ckpt_common_divisor(unit, option->backward_bytes[i / 2][i % 2]);
        }
    }
    return unit ? unit : 1;
}

/* The size that most checkpoints have, if that is half of them: it is then worth being whole in slots. */
static uint64_t usual_size(const ckpt_chain *chain) {
    uint64_t usual = 0;
    int ahead = 0; /* majority vote of Boyer and Moore */
    for (int k = 1; k < chain->stage_count; k++) {
        if (!ahead) usual = chain->stage[k].out_bytes;
        ahead += chain->stage[k].out_bytes == usual ? 1 : -1;
    }
    int votes = 0;
    for (int k = 1; k < chain->stage_count; k++) votes += chain->stage[k].out_bytes == usual;
    return 2 * votes >= chain->stage_count - 1 ? usual : 0;
}

/* Divides everything that is held while something else runs. */
static uint64_t held_unit(const ckpt_chain *chain) {
    uint64_t unit = 0;
    for (int k = 1; k < chain->stage_count; k++)
        for (int o = 0; o < chain->stage[k].option_count; o++)
            unit = ckpt_common_divisor(unit, chain->stage[k].out_bytes + chain->stage[k].option[o].kept_bytes);
    return unit ? unit : 1;
}

/* Checkpoints of a size, and how much it matters that they are whole in slots. */
typedef struct sizes_of {
    uint64_t bytes, cost;
    double count, weight;
} sizes_of;

static int by_rate(const void *a, const void *b) {
    const sizes_of *x = a, *y = b;
    const double left = (double)x->cost * (double)y->bytes, right = (double)y->cost * (double)x->bytes;
    return left > right ? -1 : left < right;
}

/* Small ones matter most: there are most of them. Of a budget those that save most a byte do, as many as fit. Returns how many
 * sizes there are. */
static int list_sizes(const ckpt_chain *chain, uint64_t budget_bytes, sizes_of *size, int most) {
    int count = 0;
    uint64_t smallest = UINT64_MAX;
    for (int k = 1; k < chain->stage_count; k++) {
        const ckpt_chain_stage *stage = &chain->stage[k];
        int i = 0;
        while (i < count && (size[i].bytes != stage->out_bytes || size[i].cost != stage->forward_cost)) i++;
        if (stage->out_bytes == 0 || i == most) continue;
        if (i == count) size[count++] = (sizes_of){.bytes = stage->out_bytes, .cost = stage->forward_cost};
        size[i].count++;
        smallest = smaller(smallest, stage->out_bytes);
    }
    qsort(size, (size_t)count, sizeof *size, by_rate);
    double left = (double)budget_bytes;
    for (int i = 0; i < count; i++) {
        const double part = (double)smallest / (double)size[i].bytes, held = fmin(left / (double)size[i].bytes, size[i].count);
        size[i].weight = budget_bytes ? held : size[i].count * part * part * part;
        left -= held * (double)size[i].bytes;
    }
    return count;
}

/* How far they are from whole, rounded up or down. */
static double lost_part(const sizes_of *size, int count, uint64_t unit, bool down) {
    double lost = 0;
    for (int i = 0; i < count; i++) {
        const uint64_t rest = size[i].bytes % unit;
        if (rest > 0) lost += (double)(down ? rest : unit - rest) * size[i].weight;
    }
    return lost;
}

/* The unit of at least so many bytes and at most so many for which least is lost: a part of some size; 0 where there is none. For
 * a budget, or for any where that is 0. */
static uint64_t best_unit(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t least, uint64_t most, bool down) {
    enum { MOST_SIZES = 32, MOST_PARTS = 64 };
    sizes_of size[MOST_SIZES];
    const int sizes = list_sizes(chain, budget_bytes, size, MOST_SIZES);
    uint64_t best = 0;
    double best_lost = 0;
    for (int i = 0; i < sizes && down; i++) most = smaller(most, size[i].bytes); /* sizes are told from nothing */
    for (int i = 0; i < sizes; i++)
        for (uint64_t parts = size[i].bytes / least, tried = 0; parts > 0 && tried < MOST_PARTS; parts--, tried++) {
            const uint64_t unit = size[i].bytes / parts;
            if (unit > most) break;
            const double lost = lost_part(size, sizes, unit, down);
            if (best && lost >= best_lost) continue;
            best = unit;
            best_lost = lost;
        }
    return best;
}

/* Slots of the usual size of a checkpoint lose little, so more of them are allowed. */
static void choose_unit(ckpt_chain_tables *tables, uint64_t slots, bool given) {
    const uint64_t most = larger(tables->cap_bytes, 1), allowed = given ? slots : tables->repeated ? 4 * slots : slots + 1024;
    uint64_t unit = exact_unit(tables->chain);
    tables->exact = most / unit <= slots;
    tables->even = tables->exact;
    if (!tables->exact) {
        unit = held_unit(tables->chain);
        tables->even = most / unit <= allowed;
        if (!tables->even) unit = usual_size(tables->chain);
        if (unit == 0 || most / unit > allowed) {
            const uint64_t plain = most / slots + 1, budget = tables->from_bytes ? smaller(most, 2 * tables->from_bytes) : 0;
            unit = tables->repeated ? best_unit(tables->chain, budget, plain - plain / 5, 2 * plain, false) : 0;
            if (unit == 0) unit = plain;
        } else {
            while (unit % 2 == 0 && most / (unit / 2) <= slots) unit /= 2;
        }
    }
    tables->unit_bytes = unit;
}

/* Each distinct run of stages takes about as long for a slot, whatever its length; short ones have few splits, too. */
static uint64_t slots_within(const ckpt_chain_tables *tables, uint64_t work, uint64_t fewest, uint64_t most) {
    const uint64_t slots = work / (tables->functions + 1), by_splits = larger(SPLIT_WORK / (tables->work + 1), fewest);
    return larger(slots < fewest ? fewest : slots > most ? most : slots, by_splits > 2048 ? 2048 : by_splits);
}

/* So many that filling all functions stays a matter of milliseconds. */
static uint64_t default_slots(const ckpt_chain_tables *tables) {
    if (!tables->likely) return slots_within(tables, ALL_WORK, 512, tables->count > 256 ? 2048 : 1024);
    const uint64_t slots = 10000000 / (tables->work + 1), fewest = tables->count > 256 ? 2048 : 1024;
    return slots < fewest ? fewest : slots > 2048 ? 2048 : slots;
}

/* Where likely splits serve large budgets, all splits are for small ones only; for none when they are too many. */
static void limit_to_small(ckpt_chain_tables *tables) {
    const uint64_t cap = SMALL * tables->g[0][1].least_bytes;
    if (!ckpt_chain_likely_fits(tables->chain) || cap >= tables->cap_bytes) return;
    tables->cap_bytes = cap;
    choose_unit(tables, slots_within(tables, SMALL_WORK, 256, 1024), false);
    tables->exact = tables->even = false;
    if (tables->functions > MOST_SMALL) tables->unit_bytes = 0;
}

/* tables->cost and tables->run. */
static bool add_up_runs(ckpt_chain_tables *tables) {
    const int count = tables->count;
    const ckpt_chain_stage *stage = tables->chain->stage;
    for (int i = 0; i < CKPT_CHAIN_RUNS; i++) {
        if (i > 0 && 1 << i > count) break;
        tables->run[i] = ckpt_pool_array(&tables->pool, count + 1, uint64_t);
        if (!tables->run[i]) return false;
        for (int k = 1; k + (1 << i) - 1 <= count; k++)
            tables->run[i][k] = i == 0 ? stage[k].option[0].forward_bytes[1]
                                       : larger(tables->run[i - 1][k], tables->run[i - 1][k + (1 << (i - 1))]);
    }
    tables->cost = ckpt_pool_array(&tables->pool, count + 1, uint64_t);
    for (int k = 1; k <= count && tables->cost; k++) tables->cost[k] = tables->cost[k - 1] + stage[k].forward_cost;
    return tables->cost != NULL;
}

static ckpt_status tables_start(ckpt_chain_tables *tables, ckpt_error *err) {
    int count = tables->count, options = 1;
    tables->gains = ckpt_pool_array(&tables->pool, count + 2, bool);
    if (!tables->gains) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the tables of %d stages", count);
    for (int k = 1; k <= count; k++) {
        const ckpt_chain_stage *stage = &tables->chain->stage[k];
        if (stage->option_count > options) options = stage->option_count;
        for (int o = 0; o < ckpt_chain_options(stage); o++)
            for (int has = 0; has < 2; has++)
                if (stage->option[o].backward_bytes[has][0] != stage->option[o].backward_bytes[has][1])
                    tables->gains[k] = true;
    }
    const ckpt_chain_stage *last = &tables->chain->stage[count];
    tables->loss_is_light = last->out_bytes == 0 && last->gradient_bytes == 0;
    tables->pair =
        ckpt_pool_array(&tables->pool, (size_t)(count + 1) * (size_t)(count + 1), ckpt_chain_pair *);
    tables->split = ckpt_pool_array(&tables->pool, 2 * (count + 2) * options + 8, ckpt_chain_split);
    tables->window = ckpt_pool_array(&tables->pool, count + 1, ckpt_chain_window);
    tables->term = ckpt_pool_array(&tables->pool, 2 * (count + 2) * options + 8, ckpt_chain_term);
    tables->backward = ckpt_pool_array(&tables->pool, 2 * (options + 2), ckpt_chain_fn);
    for (int d = 0; d < 2; d++) tables->g[d] = ckpt_pool_array(&tables->pool, count + 1, ckpt_chain_fn);
    if (!tables->pair || !tables->backward || !tables->split || !tables->term || !tables->window || !tables->g[0] || !tables->g[1] ||
        !add_up_runs(tables) ||
        !(tables->likely ? own_pairs(tables) : share_pairs(tables)))
        return ckpt_fail(err, CKPT_NOMEM, "out of memory for the tables of %d stages", count);
    return CKPT_OK;
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
static int guess_longest(const ckpt_chain_tables *tables, uint64_t budget_bytes) {
    const double held = held_stages(tables, budget_bytes);
    double stages = 1;
    int times = 0;
    while (stages < tables->count && times < tables->count) stages *= (held + times + 1) / (times + 1), times++;
    double longest = 2.2 * times / (held + times) * tables->count + 16;
    if (!tables->short_runs && is_short_of_best(tables, budget_bytes)) longest = fmax(longest, 1.1 * held);
    return longest < tables->count ? (int)longest : tables->count;
}

static int finer(const ckpt_chain_tables *tables) {
    return tables->repeated ? FINER_BLOCKS : FINER;
}

/* Where blocks repeat large budgets have no use for long runs, and smaller ones have tables of their own. */
static void limit_runs(ckpt_chain_tables *tables) {
    const uint64_t below = tables->cap_bytes / FINER_BLOCKS;
    if (below > tables->least_bytes) {
        tables->from_bytes = below;
        tables->longest = guess_longest(tables, below);
        const uint64_t functions = tables->functions * (uint64_t)tables->longest / (uint64_t)tables->count + 2 * (uint64_t)tables->count;
        choose_unit(tables, larger(smaller(LIMITED_WORK / functions, 8192), 512), true);
    } else {
        choose_unit(tables, 384, true);
    }
    tables->exact = tables->even = false; /* not for every budget */
    for (int s = tables->count; s >= 1; s--)
        for (int d = 0; d <= tables->gains[s]; d++) {
            const ckpt_chain_ref ref = {.type = CKPT_FN_G, .s = s, .t = tables->count, .dies = d};
            const int count = ckpt_chain_list_splits(tables, &ref, ckpt_chain_window_all(tables, &ref), tables->split);
            ckpt_chain_fn_bytes(tables, tables->split, count, &tables->g[d][s]);
        }
}

static void copy_bytes(ckpt_chain_fn *to, const ckpt_chain_fn *from) {
    *to = (ckpt_chain_fn){
        .least_bytes = from->least_bytes, .most_bytes = from->most_bytes, .floor_cost = from->floor_cost};
}

/* What does not depend on slots, from tables of the same chain and splits. */
static bool copy_all_bytes(ckpt_chain_tables *tables, const ckpt_chain_tables *from) {
    for (int s = 1; s <= tables->count; s++) {
        for (int t = s; t <= tables->count; t++) {
            const ckpt_chain_pair *pair = *ckpt_chain_pair_at(from, s, t);
            ckpt_chain_pair *copy = *ckpt_chain_pair_at(tables, s, t);
            const int options = ckpt_chain_options(&tables->chain->stage[t]);
            if (!pair->held || copy->held) continue;
            copy->held = ckpt_pool_array(&tables->pool, options, ckpt_chain_held);
            if (!copy->held) return false;
            for (int o = 0; o < options; o++)
                for (int d = 0; d < 2; d++) {
                    copy_bytes(&copy->held[o].r[d], &pair->held[o].r[d]);
                    copy_bytes(&copy->held[o].k[d], &pair->held[o].k[d]);
                    copy_bytes(&copy->held[o].h[d], &pair->held[o].h[d]);
                }
        }
        for (int d = 0; d < 2; d++) copy_bytes(&tables->g[d][s], &from->g[d][s]);
    }
    return true;
}

static void choose_slots(ckpt_chain_tables *tables, const ckpt_chain_limits *limits, uint64_t cap_bytes) {
    const uint64_t slots = limits->slots > 0 ? (uint64_t)limits->slots : default_slots(tables);
    const bool other = cap_bytes && !tables->likely; /* tables beside these are for larger budgets */
    tables->cap_bytes = cap_bytes ? cap_bytes : tables->most_bytes;
    choose_unit(tables, slots, limits->slots > 0 || other);
    if (limits->slots > 0 || limits->all_splits || tables->likely) return;
    if (tables->repeated && (other || !tables->even))
        limit_runs(tables);
    else if (!tables->even && !other)
        limit_to_small(tables);
}

/* For budgets up to cap_bytes, if that is not 0. `likely`: NULL, or the only splits. `coarse`: NULL, or tables of all
 * splits of the chain. */
static ckpt_status build(const ckpt_chain *chain, const ckpt_chain_limits *limits, uint64_t cap_bytes,
                         ckpt_chain_likely *likely, const ckpt_chain_tables *coarse, ckpt_chain_tables **out,
                         ckpt_error *err) {
    *out = NULL;
    ckpt_chain_tables *tables = calloc(1, sizeof *tables);
    if (!tables) return ckpt_fail(err, CKPT_NOMEM, "out of memory for the tables of a chain");
    tables->chain = chain;
    tables->count = tables->longest = chain->stage_count;
    tables->never_give_up = limits->never_give_up;
    tables->all_splits = limits->all_splits;
    tables->likely = likely;
    ckpt_status status = tables_start(tables, err);
    if (status == CKPT_OK) {
        bool ok = coarse ? copy_all_bytes(tables, coarse) : fill_all(tables);
        if (ok) {
            const ckpt_chain_fn *all = &tables->g[0][1];
            tables->least_bytes = coarse ? coarse->least_bytes : all->least_bytes;
            tables->most_bytes = coarse ? coarse->most_bytes : all->most_bytes;
            tables->floor_cost = coarse ? coarse->floor_cost : all->floor_cost;
            choose_slots(tables, limits, cap_bytes);
            ok = !tables->unit_bytes || fill_all(tables);
        }
        if (!ok)
            status = ckpt_fail(err, CKPT_NOMEM, "out of memory for the tables of %d stages", tables->count);
    }
    if (status != CKPT_OK) {
        ckpt_chain_tables_free(tables);
        return status;
    }
    *out = tables;
    return CKPT_OK;
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
    return tables_start(tables, err);
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
        done = fill_all(tables);
    }
    return close_for_budget(status, done, status == CKPT_OK && !tables->corner_room.out_of_work, out, err);
}

/* Splits, about, of functions of runs up to so many stages and of G. */
static double splits_up_to(const ckpt_chain_tables *tables, int longest) {
    const double count = tables->count, part = longest / count, options = (double)tables->functions / count / count;
    return 2 * part * part * (double)tables->work + count * longest * options;
}

/* The next length to try: that of runs that are held whole, or half as much again. */
static int longer_than(const ckpt_chain_tables *tables) {
    const double longer = fmax(1.1 * held_stages(tables, tables->cap_bytes), 1.5 * tables->longest);
    return longer < tables->count ? (int)longer : tables->count;
}

/* Makes what tables for one budget have beside functions. A stage that is run again more than once is so beside what a knapsack
 * counts, which counts each once. False: no memory. */
static bool start_for_budget(ckpt_chain_tables *tables, uint64_t cost, uint64_t again) {
    const int count = tables->count;
    const uint64_t slots = tables->cap_bytes / tables->unit_bytes + 3;
    tables->taken = ckpt_pool_array(&tables->pool, slots, uint32_t);
    tables->row = ckpt_pool_array(&tables->pool, slots, double);
    tables->most_cost = ckpt_pool_array(&tables->pool, count + 1, double);
    for (int d = 0; d < 2; d++) tables->way[d] = ckpt_pool_array(&tables->pool, count + 1, uint16_t *);
    if (!tables->taken || !tables->row || !tables->most_cost || !tables->way[0] || !tables->way[1]) return false;
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

/* False: no memory. */
static bool fill_for_budget(ckpt_chain_tables *tables, uint64_t cost, double work) {
    const double slots = (double)(tables->cap_bytes / tables->unit_bytes);
    for (;;) {
        if (!fill_runs(tables) || !ckpt_chain_first_pass(tables)) return false;
        const int longer = longer_than(tables);
        if (tables->short_runs || tables->least_cost >= (double)cost || ckpt_chain_first_is_whole(tables)) return true;
        if (splits_up_to(tables, longer) * slots > work) return true;
        tables->longest = longer;
    }
}

ckpt_status ckpt_chain_slots_build(const ckpt_chain *chain, uint64_t budget_bytes, uint64_t cost, bool short_runs, uint64_t work,
                                   ckpt_chain_tables **out, ckpt_error *err) {
    uint64_t again = 0;
    ckpt_status status = open_for_budget(chain, budget_bytes, NULL, out, err);
    ckpt_chain_tables *tables = *out;
    bool wanted = false, done = false;
    if (status == CKPT_OK && tables->repeated) {
        tables->short_runs = short_runs;
        tables->longest = guess_longest(tables, budget_bytes);
        const uint64_t slots = (uint64_t)((double)work / splits_up_to(tables, tables->longest));
        tables->unit_bytes = exact_unit(chain);
        tables->exact = tables->even = budget_bytes / tables->unit_bytes < slots;
        tables->down = !tables->exact;
        if (tables->down) tables->unit_bytes = slots > 0 ? best_unit(chain, 0, budget_bytes / slots + 1, UINT64_MAX, true) : 0;
        wanted = tables->unit_bytes > 0;
        if (wanted) status = ckpt_chain_bound_by_knapsack(chain, budget_bytes, false, &again, err);
        done = wanted && status == CKPT_OK && start_for_budget(tables, cost, again) && fill_for_budget(tables, cost, (double)work);
    }
    return close_for_budget(status, done, wanted, out, err);
}

/* A short chain's range: the least that any schedule needs, and what the cheapest ones do. */
static ckpt_status find_whole(ckpt_chain_tables *tables, ckpt_error *err) {
    ckpt_pool scratch = {0};
    ckpt_chain_program program;
    tables->whole = true;
    ckpt_status status = ckpt_chain_exact_least(tables->chain, &tables->least_bytes, err);
    if (status == CKPT_OK) status = ckpt_chain_exact_solve(tables->chain, UINT64_MAX, &scratch, &program, err);
    if (status == CKPT_OK) tables->most_bytes = program.needed_bytes;
    ckpt_pool_free(&scratch);
    return status;
}

/* Tables of likely splits with many more slots, for all budgets and for smaller ones. */
static ckpt_status add_likely(ckpt_chain_tables *tables, ckpt_error *err) {
    ckpt_chain_likely *likely;
    const uint64_t least = ckpt_chain_least_bytes(tables), most = ckpt_chain_most_bytes(tables);
    CKPT_TRY(ckpt_chain_find_likely(tables->chain, least, most, &tables->pool, &likely, err));
    ckpt_chain_mark_least(tables, likely);
    ckpt_chain_tables *last = tables;
    for (uint64_t cap = most; cap > least; cap /= FINER_LIKELY) {
        CKPT_TRY(build(tables->chain, &(ckpt_chain_limits){0}, cap, likely, NULL, &last->fine, err));
        last = last->fine;
    }
    return CKPT_OK;
}

ckpt_status ckpt_chain_tables_build(const ckpt_chain *chain, const ckpt_chain_limits *limits,
                                    ckpt_chain_tables **out, ckpt_error *err) {
    const bool tables_only = limits->tables_only || limits->never_give_up || limits->all_splits || limits->slots > 0;
    const bool whole = !tables_only && ckpt_chain_exact_fits(chain);
    CKPT_TRY(build(chain, limits, 0, NULL, NULL, out, err));
    ckpt_status status = CKPT_OK;
    if (whole)
        status = find_whole(*out, err);
    else if ((*out)->cap_bytes < ckpt_chain_most_bytes(*out))
        status = add_likely(*out, err);
    else if (!(*out)->even && limits->slots == 0) {
        ckpt_chain_tables *last = *out;
        const uint64_t least = ckpt_chain_least_bytes(*out);
        for (uint64_t cap = last->cap_bytes / finer(last); status == CKPT_OK && cap > least; cap /= finer(last)) {
            status = build(chain, limits, cap, NULL, *out, &last->fine, err);
            last = last->fine;
        }
    }
    if (status != CKPT_OK) {
        ckpt_chain_tables_free(*out);
        *out = NULL;
    }
    return status;
}

void ckpt_chain_tables_free(ckpt_chain_tables *tables) {
    if (!tables) return;
    ckpt_chain_tables_free(tables->fine);
    ckpt_pool_free(&tables->pool);
    free(tables);
}

uint64_t ckpt_chain_least_bytes(const ckpt_chain_tables *tables) {
    return tables->least_bytes;
}
uint64_t ckpt_chain_most_bytes(const ckpt_chain_tables *tables) {
    return tables->most_bytes;
}
uint64_t ckpt_chain_floor_cost(const ckpt_chain_tables *tables) {
    return tables->floor_cost;
}
bool ckpt_chain_is_exact(const ckpt_chain_tables *tables) {
    return tables->exact || tables->whole;
}
