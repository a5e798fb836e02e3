/* The tables of chain.h (design section 5): which there are, for which budgets and in which slots. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "planner/chain/chain_table.h"
#include "planner/chain/chain_window.h"

/* Where few stages are equal: budgets of tables of all splits, in smallest ones. From the budgets of one table to those of
 * the next with smaller slots, of likely splits, where blocks repeat, and else. */
enum { SMALL = 3, FINER_LIKELY = 4, FINER_BLOCKS = 4, FINER = 16 };

/* Stages of repeated blocks for which it pays to have tables for few budgets each. */
enum { MANY_BLOCKS = 256 };

/* Their slots: the tables for the smallest budgets, whose runs are of any length, have the fewest. */
enum { FEWEST_LIMITED = 384, MOST_LIMITED = 8192 };

/* Splits times slots; slots of all functions together; and functions for which small budgets have no tables of all splits. */
enum { SPLIT_WORK = 20000000, ALL_WORK = 16000000, LIMITED_WORK = 8000000, SMALL_WORK = 2000000, MOST_SMALL = 60000 };

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
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
    ckpt_chain_choose_unit(tables, slots_within(tables, SMALL_WORK, 256, 1024), false);
    tables->exact = tables->even = false;
    if (tables->functions > MOST_SMALL) tables->unit_bytes = 0;
}

static bool has_long_blocks(const ckpt_chain_tables *tables) {
    return tables->repeated && tables->count >= MANY_BLOCKS;
}

static int finer(const ckpt_chain_tables *tables) {
    return has_long_blocks(tables) ? FINER_BLOCKS : FINER;
}

/* Where blocks repeat large budgets have no use for long runs, and smaller ones have tables of their own. */
static void limit_runs(ckpt_chain_tables *tables) {
    const uint64_t below = tables->cap_bytes / FINER_BLOCKS;
    if (below > tables->least_bytes) {
        tables->from_bytes = below;
        tables->longest = ckpt_chain_guess_longest(tables, below);
        const uint64_t longest = (uint64_t)tables->longest, count = (uint64_t)tables->count;
        const uint64_t functions = tables->functions * longest / count + 2 * count;
        ckpt_chain_choose_unit(tables, larger(smaller(LIMITED_WORK / functions, MOST_LIMITED), FEWEST_LIMITED), true);
    } else {
        ckpt_chain_choose_unit(tables, FEWEST_LIMITED, true);
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
    ckpt_chain_choose_unit(tables, slots, limits->slots > 0 || other);
    if (limits->slots > 0 || tables->likely) return;
    if (has_long_blocks(tables) && !limits->all_splits && (other || !tables->even))
        limit_runs(tables);
    else if (!tables->repeated && !tables->even && !other)
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
    tables->all_splits = limits->all_splits;
    tables->likely = likely;
    ckpt_status status = ckpt_chain_tables_start(tables, err);
    if (status == CKPT_OK) {
        bool ok = coarse ? copy_all_bytes(tables, coarse) : ckpt_chain_fill_all(tables);
        if (ok) {
            const ckpt_chain_fn *all = &tables->g[0][1];
            tables->least_bytes = coarse ? coarse->least_bytes : all->least_bytes;
            tables->most_bytes = coarse ? coarse->most_bytes : all->most_bytes;
            tables->floor_cost = coarse ? coarse->floor_cost : all->floor_cost;
            choose_slots(tables, limits, cap_bytes);
            ok = !tables->unit_bytes || ckpt_chain_fill_all(tables);
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
    CKPT_TRY(build(chain, limits, 0, NULL, NULL, out, err));
    ckpt_status status = CKPT_OK;
    if ((*out)->cap_bytes < ckpt_chain_most_bytes(*out))
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
    return tables->exact;
}
