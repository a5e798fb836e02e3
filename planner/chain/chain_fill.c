/* Functions of the tables, over runs of stages s..t: by the last stage, then backwards by the first, so that what is combined lies
 * close together. Equal runs share one entry. */
#include <math.h>
#include <stdlib.h>

#include "planner/chain/chain_window.h"

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

bool ckpt_chain_pair_wanted(const ckpt_chain_tables *tables, int s, int t) {
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
            if (ckpt_chain_pair_wanted(tables, s, t)) {
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

/* What is left behind the early part first; then K: R may run through to x_t and go on with it. Option 0 first: internals may be
 * given up. */
bool ckpt_chain_fill_pair(ckpt_chain_tables *tables, int s, int t, ckpt_chain_pair *pair) {
    const ckpt_chain_stage *last = &tables->chain->stage[t];
    bool needs_output = last->needs_output;
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
            if (!fill(tables, CKPT_FN_R, s, t, d, o, &held->r[d])) return false;
            if (!needs_output)
                held->h[d] = held->r[d];
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
            if (!pair || !ckpt_chain_pair_wanted(tables, s, t)) continue;
            bool done = pair->held && (!tables->unit_bytes || pair->held->h[0].value);
            if (!done && !ckpt_chain_fill_pair(tables, s, t, pair)) return false;
        }
    return true;
}

bool ckpt_chain_fill_all(ckpt_chain_tables *tables) {
    const int count = tables->count;
    if (!fill_runs(tables)) return false;
    for (int s = count; s >= 1; s--)
        for (int d = 0; d <= tables->gains[s] && first_wanted(tables, s); d++)
            if (!fill(tables, CKPT_FN_G, s, count, d, 0, &tables->g[d][s])) return false;
    return true;
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

ckpt_status ckpt_chain_tables_start(ckpt_chain_tables *tables, ckpt_error *err) {
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
    if (!tables->pair || !tables->backward || !tables->split || !tables->term || !tables->window || !tables->g[0] ||
        !tables->g[1] || !add_up_runs(tables) ||
        !(tables->likely ? own_pairs(tables) : share_pairs(tables)))
        return ckpt_fail(err, CKPT_NOMEM, "out of memory for the tables of %d stages", count);
    return CKPT_OK;
}
