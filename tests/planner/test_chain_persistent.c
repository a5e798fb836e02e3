/* The best program that holds what it keeps (chain_persistent.c) against exhaustive search among such schedules, against
 * tables of all splits that are exact, and in chains of the lengths that it is for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "chain_oracle.h"
#include "planner/chain/chain_table.h"

static ckpt_random_chain g_random;

/* Its cost, and that of a program found beside a dearer one; CKPT_CHAIN_NEVER: there is none. */
static uint64_t solve(const ckpt_chain *chain, uint64_t budget, uint64_t known) {
    ckpt_pool pool = {0};
    ckpt_chain_program program;
    uint64_t bound;
    ckpt_error err;
    ckpt_chain_prices *prices;
    assert_int_equal(ckpt_chain_prices_open(chain, budget, &prices, &err), CKPT_OK);
    assert_int_equal(ckpt_chain_solve_priced(chain, prices, budget, 0, known, &pool, &program, &bound, &err), CKPT_OK);
    ckpt_chain_prices_close(prices);
    assert_true(bound > 0 && bound <= known);
    if (program.count) {
        assert_int_equal(ckpt_chain_replay(chain, &program), program.cost);
        assert_true(program.cost == bound && program.cost < known && program.needed_bytes <= budget);
    }
    ckpt_pool_free(&pool);
    return bound;
}

typedef struct agreement {
    int feasible, of_search, of_tables;
} agreement;

/* Of g_random.chain, `less` bytes below the budgets of those it is compared with. */
static void compare(bool searched, uint64_t less, agreement *sum) {
    const ckpt_chain *chain = &g_random.chain;
    ckpt_chain_tables *tables;
    ckpt_error err;
    assert_int_equal(ckpt_chain_tables_build(chain, &(ckpt_chain_limits){.all_splits = true}, &tables, &err), CKPT_OK);
    assert_true(ckpt_chain_is_exact(tables));
    const uint64_t most = ckpt_chain_most_bytes(tables);
    for (uint64_t m = ckpt_chain_least_bytes(tables); m <= most + 1; m++) {
        const uint64_t known = ckpt_chain_tables_cost(tables, m), found = solve(chain, m - less, CKPT_CHAIN_NEVER);
        assert_int_equal(solve(chain, m, known + 1), known); /* the bound holds, and is reached */
        sum->feasible++;
        sum->of_tables += found == known;
        sum->of_search += searched && found == ckpt_chain_oracle_persistent(chain, m);
    }
    ckpt_chain_tables_free(tables);
}

static agreement run(ckpt_chain_kind kind, int chains, int most_stages, uint64_t less) {
    const bool searched = kind <= CKPT_CHAIN_EQUAL && most_stages <= 8;
    agreement sum = {0};
    g_random.state = 1 + (uint64_t)kind;
    for (int i = 0; i < chains; i++) {
        ckpt_chain_make(&g_random, kind, (int)ckpt_random_between(&g_random, 2, (uint64_t)most_stages), 10);
        compare(searched, less, &sum);
    }
    printf("%s, up to %d stages, %d bytes less: %d feasible, as exhaustive search %d, as exact tables %d\n",
           ckpt_chain_kind_name(kind), most_stages, (int)less, sum.feasible, sum.of_search, sum.of_tables);
    return sum;
}

static void test_as_exhaustive_search(void **state) {
    (void)state;
    for (ckpt_chain_kind kind = CKPT_CHAIN_PLAIN; kind <= CKPT_CHAIN_EQUAL; kind++) {
        const agreement sum = run(kind, kind == CKPT_CHAIN_EQUAL ? 20 : 200, 7, 0);
        assert_int_equal(sum.of_search, sum.feasible);
        assert_int_equal(sum.of_tables, sum.feasible);
    }
}

static void test_as_exact_tables(void **state) {
    (void)state;
    for (ckpt_chain_kind kind = CKPT_CHAIN_PLAIN; kind < CKPT_CHAIN_KINDS; kind++) {
        const agreement sum = run(kind, kind == CKPT_CHAIN_EQUAL ? 5 : 40, kind >= CKPT_CHAIN_INTERNALS ? 12 : 20, 0);
        assert_int_equal(sum.of_tables, sum.feasible);
    }
}

/* The control: a byte less is noticed. */
static void test_a_byte_less_is_caught(void **state) {
    (void)state;
    for (ckpt_chain_kind kind = CKPT_CHAIN_PLAIN; kind < CKPT_CHAIN_KINDS; kind++) {
        const agreement sum = run(kind, 10, 7, 1);
        assert_true(sum.of_tables < sum.feasible);
        assert_true(kind > CKPT_CHAIN_EQUAL || sum.of_search < sum.feasible);
    }
}

/* Sizes that fall on no slots: proved at every budget, and more bytes never cost more. */
static void check_long(int count, int budgets, double least_gain) {
    ckpt_error err;
    ckpt_chain_tables *tables;
    ckpt_chain_make_plain_random(&g_random, count, 1000000);
    const ckpt_chain *chain = &g_random.chain;
    assert_int_equal(ckpt_chain_tables_build(chain, &(ckpt_chain_limits){0}, &tables, &err), CKPT_OK);
    const uint64_t least = ckpt_chain_least_bytes(tables), most = ckpt_chain_most_bytes(tables);
    uint64_t before = CKPT_CHAIN_NEVER;
    double gain = 0;
    for (int i = 0; i <= budgets; i++) {
        const double part = (double)i / budgets;
        const uint64_t budget = least + (uint64_t)((double)(most - least) * part * part);
        const uint64_t known = ckpt_chain_tables_cost(tables, budget);
        ckpt_pool pool = {0};
        ckpt_chain_program program;
        ckpt_chain_bound bound;
        assert_int_equal(ckpt_chain_prove(chain, budget, known, &pool, &program, &bound, &err), CKPT_OK);
        const uint64_t cost = program.count ? program.cost : known;
        assert_true(bound.persistent == cost && bound.all <= cost && cost <= before);
        before = cost;
        gain = (double)(known - cost) / (double)cost > gain ? (double)(known - cost) / (double)cost : gain;
        ckpt_pool_free(&pool);
    }
    printf("%d stages: proved at %d budgets; tables cost up to %.1f %% more\n", count, budgets + 1, 100 * gain);
    assert_true(gain >= least_gain);
    ckpt_chain_tables_free(tables);
}

static void test_long_chains_are_proved(void **state) {
    (void)state;
    g_random.state = 5;
    check_long(64, 40, 0);
    check_long(100, 40, 0);
    check_long(339, 3, 0.1); /* where the tables' slots fail near the smallest budget */
}

/* Blocks again and again, of units: too long for prices, but their runs share functions. */
static void test_blocks_are_proved(void **state) {
    (void)state;
    static const uint64_t units[3] = {1, 1, 4};
    uint64_t bytes[CKPT_ORACLE_STAGES + 1], cost[CKPT_ORACLE_STAGES + 1];
    for (int k = 1; k <= 1000; k++) bytes[k] = 65536 * units[k % 3], cost[k] = 1000003;
    ckpt_chain_make_plain(&g_random, 1000, bytes, cost);
    ckpt_chain_tables *tables;
    ckpt_error err;
    assert_int_equal(ckpt_chain_tables_build(&g_random.chain, &(ckpt_chain_limits){0}, &tables, &err), CKPT_OK);
    const uint64_t least = ckpt_chain_least_bytes(tables);
    for (uint64_t part = 2; part <= 8; part += 3) {
        const uint64_t known = ckpt_chain_tables_cost(tables, least * part / 2);
        assert_int_equal(solve(&g_random.chain, least * part / 2, known), known);
        assert_int_equal(solve(&g_random.chain, least * part / 2, known + 1), known);
    }
    ckpt_chain_tables_free(tables);
}

/* Where most is kept: what cannot be held in whole tensors is all that is made again. */
static void test_large_budgets_are_proved(void **state) {
    (void)state;
    static const uint64_t units[4] = {4, 1, 1, 4}, runs[4] = {4, 4, 9, 4};
    uint64_t bytes[CKPT_ORACLE_STAGES + 1], cost[CKPT_ORACLE_STAGES + 1];
    for (int k = 1; k <= 1000; k++) bytes[k] = 65536 * units[k % 4], cost[k] = 4096000 * runs[k % 4];
    ckpt_chain_make_plain(&g_random, 1000, bytes, cost);
    ckpt_chain_tables *tables;
    ckpt_error err;
    assert_int_equal(ckpt_chain_tables_build(&g_random.chain, &(ckpt_chain_limits){0}, &tables, &err), CKPT_OK);
    const uint64_t least = ckpt_chain_least_bytes(tables), most = ckpt_chain_most_bytes(tables);
    for (uint64_t part = 3; part <= 19; part += 2) {
        const uint64_t budget = least + (most - least) / 20 * part, known = ckpt_chain_tables_cost(tables, budget);
        uint64_t bound;
        assert_int_equal(ckpt_chain_bound_at_once(&g_random.chain, budget, &bound, &err), CKPT_OK);
        assert_int_equal(bound, known);
        assert_int_equal(ckpt_chain_bound_at_once(&g_random.chain, budget - 4 * 65536, &bound, &err), CKPT_OK);
        assert_true(bound > known); /* the control */
    }
    ckpt_chain_tables_free(tables);
}

/* With so many slots; 0 where there are too few. */
static double cost_in_slots(uint64_t budget, uint64_t slots, bool *exact) {
    ckpt_chain_tables *tables;
    ckpt_error err;
    double cost = 0;
    ckpt_chain_wanted wanted = {.cost = CKPT_CHAIN_NEVER, .work = 1};
    assert_int_equal(ckpt_chain_slots_build(&g_random.chain, budget, &wanted, &tables, &err), CKPT_OK);
    assert_null(tables);
    const uint64_t work = 60 * 60 * 3; /* splits of the distinct functions, about */
    wanted.work = work * slots;
    assert_int_equal(ckpt_chain_slots_build(&g_random.chain, budget, &wanted, &tables, &err), CKPT_OK);
    if (tables) cost = tables->least_cost;
    *exact = tables && tables->exact;
    ckpt_chain_tables_free(tables);
    return cost;
}

/* Blocks of sizes that are whole in no few slots: rounded down they cost no more than they do, and nearly as much. */
static void test_rounded_down(void **state) {
    (void)state;
    uint64_t bytes[CKPT_ORACLE_STAGES + 1], cost[CKPT_ORACLE_STAGES + 1];
    int rounded = 0, near = 0, caught = 0;
    g_random.state = 3;
    for (int i = 0; i < 20; i++) {
        uint64_t size[3], run[3];
        for (int b = 0; b < 3; b++) size[b] = ckpt_random_between(&g_random, 20, 200), run[b] = ckpt_random_between(&g_random, 1, 99);
        for (int k = 1; k <= 60; k++) bytes[k] = size[k % 3], cost[k] = run[k % 3];
        ckpt_chain_make_plain(&g_random, 60, bytes, cost);
        ckpt_chain_tables *tables;
        ckpt_error err;
        assert_int_equal(ckpt_chain_tables_build(&g_random.chain, &(ckpt_chain_limits){0}, &tables, &err), CKPT_OK);
        const uint64_t least = ckpt_chain_least_bytes(tables);
        ckpt_chain_tables_free(tables);
        for (uint64_t budget = least; budget < 4 * least; budget += least / 4) {
            bool exact;
            const double known = cost_in_slots(budget, 100000, &exact);
            assert_true(exact && known > 0);
            const double found = cost_in_slots(budget, 40, &exact);
            if (exact || found <= 0) continue;
            rounded++;
            assert_true(found <= known);
            near += found > 0.9 * known;
            caught += found > cost_in_slots(budget + budget / 4, 100000, &exact); /* the control */
        }
    }
    printf("rounded down %d times, within a tenth %d, above with a quarter more bytes %d\n", rounded, near, caught);
    assert_true(rounded > 100 && 2 * near > rounded && caught > 0);
}

/* Costs beyond those that doubles tell apart: the bound is none that is above a program's cost. */
static void test_large_costs(void **state) {
    (void)state;
    uint64_t bytes[CKPT_ORACLE_STAGES + 1], cost[CKPT_ORACLE_STAGES + 1];
    for (uint64_t i = 0; i < 20; i++) {
        for (int k = 1; k <= 104; k++) bytes[k] = 3, cost[k] = (UINT64_C(1) << 50) + 2 * i * 7919 + 1;
        ckpt_chain_make_plain(&g_random, 104, bytes, cost);
        ckpt_chain_tables *tables;
        ckpt_error err;
        assert_int_equal(ckpt_chain_tables_build(&g_random.chain, &(ckpt_chain_limits){0}, &tables, &err), CKPT_OK);
        const uint64_t budget = ckpt_chain_least_bytes(tables) * 3 / 2, known = ckpt_chain_tables_cost(tables, budget);
        assert_true(solve(&g_random.chain, budget, known + 1) <= known);
        ckpt_chain_tables_free(tables);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_exhaustive_search),   cmocka_unit_test(test_as_exact_tables),
        cmocka_unit_test(test_a_byte_less_is_caught),  cmocka_unit_test(test_long_chains_are_proved),
        cmocka_unit_test(test_blocks_are_proved),      cmocka_unit_test(test_rounded_down),
        cmocka_unit_test(test_large_costs),            cmocka_unit_test(test_large_budgets_are_proved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
