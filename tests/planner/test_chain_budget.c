/* Tables for one budget (chain_budget.c), whose functions of runs say only what may be of interest and end at some length, against
 * tables of all splits, which hold everything; and the kinds of chains that they are for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "chain_oracle.h"
#include "planner/chain/chain_table.h"

static ckpt_random_chain g_random;

enum { ANY_WORK = 1000000000 };

typedef struct tally {
    int asked, found, nothing_cheaper, bounded, above, longer;
} tally;

/* Where a program of `cost` is known, the least being `least`. */
static void ask(uint64_t budget, uint64_t least, uint64_t cost, int longest, uint64_t work, tally *sum) {
    ckpt_chain_tables *tables;
    ckpt_error err;
    const ckpt_chain_wanted wanted = {.cost = cost, .work = work, .longest = longest};
    assert_int_equal(ckpt_chain_slots_build(&g_random.chain, budget, &wanted, &tables, &err), CKPT_OK);
    if (!tables) {
        assert_true(work < ANY_WORK);
        return;
    }
    sum->asked++;
    sum->longer += tables->longest > longest;
    sum->above += tables->least_cost > (double)least && least < cost;
    if (tables->exact && tables->least_cost < (double)cost && ckpt_chain_first_is_whole(tables)) {
        ckpt_pool pool = {0};
        ckpt_chain_program program;
        assert_true(ckpt_chain_trace_program(tables, budget, &pool, &program));
        assert_int_equal(ckpt_chain_replay(&g_random.chain, &program), program.cost);
        assert_true(program.needed_bytes <= budget);
        assert_int_equal(program.cost, least);
        assert_true(tables->least_cost >= (double)least && tables->least_cost <= (double)least);
        sum->found++;
        ckpt_pool_free(&pool);
    } else if (tables->least_cost >= (double)cost) {
        assert_true(cost <= least);
        sum->nothing_cheaper++;
    } else {
        sum->bounded++;
    }
    ckpt_chain_tables_free(tables);
}

/* Everything in fives, but for what is there for a moment only. */
static void make_whole(void) {
    for (int k = 1; k <= g_random.chain.stage_count; k++) {
        ckpt_chain_stage *stage = &g_random.stage[k];
        stage->kind = k;
        stage->out_bytes *= 5;
        stage->gradient_bytes *= 5;
        for (int o = 0; o < ckpt_chain_options(stage); o++) {
            ckpt_chain_option *option = &g_random.option[k][o];
            option->kept_bytes *= 5;
            for (int i = 0; i < 2; i++) {
                option->forward_bytes[i] = 5 * option->forward_bytes[i] + ckpt_random_between(&g_random, 0, 4);
                if (option->early_bytes[i] != CKPT_CHAIN_NEVER)
                    option->early_bytes[i] = 5 * option->early_bytes[i] + ckpt_random_between(&g_random, 0, 4);
                const uint64_t more = ckpt_random_between(&g_random, 0, 4);
                for (int j = 0; j < 2; j++) option->backward_bytes[i][j] = 5 * option->backward_bytes[i][j] + more;
            }
        }
    }
}

/* Stages that cost nothing or make nothing, gradients smaller than what they are of, and a loss of no bytes. */
static void make_odd(void) {
    ckpt_chain_stage *stage = g_random.stage, *last = &stage[g_random.chain.stage_count];
    if (ckpt_random_between(&g_random, 0, 1)) last->out_bytes = last->gradient_bytes = 0;
    for (int k = 1; k <= g_random.chain.stage_count; k++) {
        stage[k].kind = k;
        if (ckpt_random_between(&g_random, 0, 4) == 0) stage[k].forward_cost = 0;
        if (ckpt_random_between(&g_random, 0, 5) == 0)
            stage[k].gradient_bytes = ckpt_random_between(&g_random, 0, stage[k].gradient_bytes);
        if (ckpt_random_between(&g_random, 0, 7) == 0) stage[k].out_bytes = stage[k].gradient_bytes = 0;
    }
}

/* Of g_random.chain at all budgets but those for which there are none. */
static void compare(uint64_t step, tally *whole, tally *cut) {
    const ckpt_chain *chain = &g_random.chain;
    ckpt_chain_tables *all;
    ckpt_error err;
    assert_int_equal(ckpt_chain_tables_build(chain, &(ckpt_chain_limits){.all_splits = true, .slots = 8192}, &all, &err), CKPT_OK);
    assert_true(ckpt_chain_is_exact(all));
    const uint64_t most = ckpt_chain_most_bytes(all);
    for (uint64_t m = ckpt_chain_least_bytes(all); m <= most + step; m += step) {
        const uint64_t least = ckpt_chain_tables_cost(all, m);
        const int longest = (int)ckpt_random_between(&g_random, 1, (uint64_t)chain->stage_count);
        const uint64_t dearer = least + 1 + ckpt_random_between(&g_random, 0, least / 4);
        ask(m, least, CKPT_CHAIN_NEVER, longest, ANY_WORK, whole);
        ask(m, least, least + 1, longest, ANY_WORK, whole);
        ask(m, least, dearer, longest, ANY_WORK, whole);
        ask(m, least, least, longest, ANY_WORK, whole);
        ask(m, least, dearer, longest, (uint64_t)longest * 3000, cut);
    }
    ckpt_chain_tables_free(all);
}

static void test_as_tables_of_all_splits(void **state) {
    (void)state;
    for (ckpt_chain_kind kind = CKPT_CHAIN_PLAIN; kind < CKPT_CHAIN_KINDS; kind++) {
        tally whole = {0}, cut = {0};
        g_random.state = 1 + (uint64_t)kind;
        for (int i = 0; i < (kind == CKPT_CHAIN_EQUAL ? 3 : 20); i++) {
            ckpt_chain_make(&g_random, kind, (int)ckpt_random_between(&g_random, 2, i % 3 ? 10 : 24), 10);
            if (i % 5 > 2) make_odd();
            if (i % 2) make_whole();
            compare(i % 2 ? 4 : 1, &whole, &cut);
        }
        printf("%s: %d asked, %d found, %d times nothing cheaper, %d bounds; %d needed longer runs; ", ckpt_chain_kind_name(kind),
               whole.asked, whole.found, whole.nothing_cheaper, whole.bounded, whole.longer);
        printf("cut short %d asked, %d bounds\n", cut.asked, cut.bounded);
        assert_int_equal(whole.above + cut.above, 0);
        assert_int_equal(whole.bounded, 0);
        assert_true(cut.bounded > 0 || kind == CKPT_CHAIN_EQUAL);
        assert_int_equal(whole.found, 3 * whole.nothing_cheaper);
        assert_true(whole.longer > 0);
    }
}

static void make_blocks(int count, int sizes, const uint64_t *size, const uint64_t *run) {
    uint64_t bytes[CKPT_ORACLE_STAGES + 1], cost[CKPT_ORACLE_STAGES + 1];
    for (int k = 1; k <= count; k++) bytes[k] = size[k % sizes], cost[k] = run[k % sizes];
    ckpt_chain_make_plain(&g_random, count, bytes, cost);
}

/* Of any blocks again and again, at some budgets from the smallest to those that need no more: the best program is known, and a
 * larger budget never costs more. */
static void check_blocks(double least_gain) {
    const ckpt_chain *chain = &g_random.chain;
    static const double parts[] = {0, 0.004, 0.02, 0.1, 0.4, 0.8};
    ckpt_chain_tables *tables;
    ckpt_error err;
    uint64_t before = CKPT_CHAIN_NEVER;
    double gain = 0;
    int knapsacks = 0;
    assert_int_equal(ckpt_chain_tables_build(chain, &(ckpt_chain_limits){0}, &tables, &err), CKPT_OK);
    const uint64_t least = ckpt_chain_least_bytes(tables), most = ckpt_chain_most_bytes(tables);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const uint64_t budget = least + (uint64_t)((double)(most - least) * parts[i]);
        const uint64_t known = ckpt_chain_tables_cost(tables, budget);
        ckpt_pool pool = {0};
        ckpt_chain_program program;
        ckpt_chain_bound bound;
        uint64_t at_once;
        assert_int_equal(ckpt_chain_prove(chain, budget, known, &pool, &program, &bound, &err), CKPT_OK);
        assert_int_equal(ckpt_chain_bound_at_once(chain, budget, &at_once, &err), CKPT_OK);
        const uint64_t cost = program.count ? program.cost : known;
        if (program.count) {
            assert_int_equal(ckpt_chain_replay(chain, &program), cost);
            assert_true(cost < known && program.needed_bytes <= budget);
        }
        assert_int_equal(bound.persistent, cost);
        assert_true(at_once <= cost && cost <= before);
        before = cost;
        knapsacks += at_once == cost;
        gain = (double)(known - cost) / (double)cost > gain ? (double)(known - cost) / (double)cost : gain;
        ckpt_pool_free(&pool);
    }
    printf("%d stages: proved at %d budgets, at %d of them by a knapsack; tables cost up to %.2f %% more\n", chain->stage_count,
           (int)(sizeof parts / sizeof *parts), knapsacks, 100 * gain);
    assert_true(gain >= least_gain && knapsacks < (int)(sizeof parts / sizeof *parts));
    ckpt_chain_tables_free(tables);
}

static void test_blocks_of_any_sizes_are_proved(void **state) {
    (void)state;
    make_blocks(1000, 4, (const uint64_t[]){70144, 41728, 90880, 9216}, (const uint64_t[]){217003, 961733, 514229, 35317});
    check_blocks(0.001);
    make_blocks(1000, 8, (const uint64_t[]){131072, 131072, 32768, 32768, 32768, 32768, 131072, 131072},
                (const uint64_t[]){1000, 65000, 1000, 147000, 1000, 1000, 65000, 1000});
    check_blocks(0);
    g_random.state = 7;
    for (int i = 0; i < 4; i++) {
        uint64_t size[5], run[5];
        for (int b = 0; b < 5; b++) {
            size[b] = 256 * ckpt_random_between(&g_random, 1, 400);
            run[b] = ckpt_random_between(&g_random, 1, 1000);
        }
        make_blocks(400, 2 + i, size, run);
        check_blocks(0);
    }
}

/* What runs of blocks cost is known without a function for them: from those of their parts. */
static void test_short_runs_prove_long_ones(void **state) {
    (void)state;
    ckpt_error err;
    make_blocks(300, 3, (const uint64_t[]){5, 2, 3}, (const uint64_t[]){7, 11, 4});
    ckpt_chain_tables *all;
    assert_int_equal(ckpt_chain_tables_build(&g_random.chain, &(ckpt_chain_limits){.all_splits = true}, &all, &err), CKPT_OK);
    assert_true(ckpt_chain_is_exact(all));
    for (uint64_t budget = 2 * ckpt_chain_least_bytes(all); budget < ckpt_chain_most_bytes(all); budget *= 2) {
        const uint64_t least = ckpt_chain_tables_cost(all, budget);
        ckpt_chain_tables *tables;
        const ckpt_chain_wanted wanted = {.cost = least + least / 100, .work = ANY_WORK, .longest = 6};
        assert_int_equal(ckpt_chain_slots_build(&g_random.chain, budget, &wanted, &tables, &err), CKPT_OK);
        printf("%d bytes: functions of runs up to %d stages of 300 are enough\n", (int)budget, tables->longest);
        assert_true(tables->least_cost >= (double)least && tables->least_cost <= (double)least);
        assert_true(ckpt_chain_first_is_whole(tables) && tables->longest < 300);
        ckpt_chain_tables_free(tables);
    }
    ckpt_chain_tables_free(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_tables_of_all_splits),
        cmocka_unit_test(test_blocks_of_any_sizes_are_proved),
        cmocka_unit_test(test_short_runs_prove_long_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
