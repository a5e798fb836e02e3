/* The cheapest of all schedules of a chain (chain_tree.c) and its bound, against exhaustive search, without prices and with
 * them, and in chains of the lengths that it is for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "chain_oracle.h"
#include "planner/chain/chain_tree.h"

enum { WORK = 1000000000 };

static ckpt_random_chain g_random;

typedef struct answer {
    uint64_t cost, bound; /* CKPT_CHAIN_NEVER: nothing is cheaper than what was known */
} answer;

static answer solve(ckpt_chain_prices *prices, uint64_t budget, uint64_t known) {
    ckpt_pool pool = {0};
    ckpt_chain_program program;
    ckpt_error err;
    answer found = {.cost = CKPT_CHAIN_NEVER};
    assert_int_equal(ckpt_chain_tree_solve(&g_random.chain, prices, budget, known, WORK, &pool, &program, &found.bound, &err), CKPT_OK);
    if (program.count) {
        found.cost = program.cost;
        assert_int_equal(ckpt_chain_replay(&g_random.chain, &program), program.cost);
        assert_true(program.cost < known && program.needed_bytes <= budget && found.bound <= program.cost);
    }
    ckpt_pool_free(&pool);
    return found;
}

typedef struct agreement {
    int feasible, cost, bound, above, persistent;
} agreement;

/* With all budgets, `less` bytes below those of the search. */
static void compare(uint64_t less, agreement *sum) {
    const ckpt_chain *chain = &g_random.chain;
    for (uint64_t m = 1 + less; m < 100; m++) {
        const uint64_t truth = ckpt_chain_oracle(chain, m);
        if (truth == CKPT_CHAIN_NEVER) {
            assert_int_equal(solve(NULL, m, CKPT_CHAIN_NEVER).cost, CKPT_CHAIN_NEVER);
            continue;
        }
        const answer found = solve(NULL, m - less, CKPT_CHAIN_NEVER);
        assert_true(less || found.cost >= truth);
        sum->feasible++;
        sum->cost += found.cost == truth;
        sum->bound += found.bound == truth;
        sum->above += found.bound > truth;
        if (less || found.cost == CKPT_CHAIN_NEVER) continue;
        sum->persistent += ckpt_chain_oracle_persistent(chain, m) == truth;
        ckpt_chain_prices *prices;
        ckpt_error err;
        assert_int_equal(ckpt_chain_prices_open(chain, m, &prices, &err), CKPT_OK);
        const answer priced = solve(prices, m, found.cost + 1);
        assert_int_equal(priced.cost, found.cost); /* prices leave nothing of interest out */
        assert_true(priced.bound <= truth);
        assert_int_equal(solve(prices, m, truth).cost, CKPT_CHAIN_NEVER);
        ckpt_chain_prices_close(prices);
    }
}

static agreement run(ckpt_chain_kind kind, uint64_t seed, int chains, int most_stages, uint64_t less) {
    agreement sum = {0};
    g_random.state = seed;
    for (int i = 0; i < chains; i++) {
        ckpt_chain_make(&g_random, kind, (int)ckpt_random_between(&g_random, 2, (uint64_t)most_stages), 10);
        compare(less, &sum);
    }
    printf("%s, %d bytes less: %d feasible, cost as exhaustive search %d, bound %d, above %d; persistent schedules as good %d\n",
           ckpt_chain_kind_name(kind), (int)less, sum.feasible, sum.cost, sum.bound, sum.above, sum.persistent);
    return sum;
}

/* Without internals. */
enum { KINDS = 4 };
static const ckpt_chain_kind kinds[KINDS] = {CKPT_CHAIN_PLAIN, CKPT_CHAIN_REAL, CKPT_CHAIN_EARLY_PARTS, CKPT_CHAIN_EQUAL};

static void test_as_exhaustive_search(void **state) {
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        const ckpt_chain_kind kind = kinds[i];
        const agreement sum = run(kind, 77 + (uint64_t)i, kind == CKPT_CHAIN_EQUAL ? 10 : 150, 7, 0);
        assert_int_equal(sum.above, 0);
        assert_true(1000 * sum.cost >= 999 * sum.feasible && 1000 * sum.bound >= 995 * sum.feasible);
        assert_true(kind != CKPT_CHAIN_PLAIN || sum.persistent < sum.feasible); /* else nothing is gained by giving up */
    }
}

static void test_a_byte_less_is_caught(void **state) {
    (void)state;
    for (int i = 0; i < KINDS; i++) {
        const agreement sum = run(kinds[i], 5, 20, 7, 1);
        assert_true(sum.above > 0 && sum.cost < sum.feasible);
    }
}

/* Budgets that are no limit, up to the largest number. */
static void test_no_limit(void **state) {
    (void)state;
    static const uint64_t budget[] = {UINT64_MAX / 8, UINT64_MAX / 4, INT64_MAX, UINT64_MAX};
    g_random.state = 9;
    for (int i = 0; i < 200; i++) {
        ckpt_chain_make(&g_random, kinds[i % 3], (int)ckpt_random_between(&g_random, 2, 7), 10);
        const uint64_t truth = ckpt_chain_oracle(&g_random.chain, 1000);
        for (size_t b = 0; b < sizeof budget / sizeof *budget; b++) {
            const answer found = solve(NULL, budget[b], CKPT_CHAIN_NEVER);
            assert_true(found.cost == truth && found.bound == truth);
        }
    }
}

/* Every budget is proved over all schedules, or nearly, more bytes never cost more, and near the smallest one giving up pays. */
static void check_long(ckpt_chain_kind kind, int count, int budgets, double most_gap, double least_gain) {
    ckpt_chain_make(&g_random, kind, count, 1000000);
    const ckpt_chain *chain = &g_random.chain;
    ckpt_error err;
    ckpt_chain_tables *tables;
    assert_int_equal(ckpt_chain_tables_build(chain, &(ckpt_chain_limits){0}, &tables, &err), CKPT_OK);
    const uint64_t least = ckpt_chain_least_bytes(tables), most = ckpt_chain_most_bytes(tables);
    uint64_t before = CKPT_CHAIN_NEVER;
    double gain = 0, gap = 0;
    for (int i = 0; i <= budgets; i++) {
        const double part = (double)i / budgets;
        const uint64_t budget = least + (uint64_t)((double)(most - least) * part * part);
        ckpt_pool pool = {0};
        ckpt_chain_program program, better;
        ckpt_chain_bound bound;
        uint64_t persistent;
        assert_int_equal(ckpt_chain_solve(tables, budget, &pool, &program, &err), CKPT_OK);
        assert_int_equal(ckpt_chain_prove(chain, budget, program.cost, &pool, &better, &bound, &err), CKPT_OK);
        const uint64_t cost = better.count ? better.cost : program.cost;
        assert_int_equal(ckpt_chain_replay(chain, better.count ? &better : &program), cost);
        assert_true(bound.all <= cost && bound.persistent <= cost && bound.all <= bound.persistent && cost <= before);
        if ((double)(cost - bound.all) > gap * (double)cost) gap = (double)(cost - bound.all) / (double)cost;
        before = cost;
        ckpt_chain_prices *prices;
        assert_int_equal(ckpt_chain_prices_open(chain, budget, &prices, &err), CKPT_OK);
        assert_int_equal(ckpt_chain_solve_priced(chain, prices, budget, 0, program.cost, &pool, &better, &persistent, &err), CKPT_OK);
        ckpt_chain_prices_close(prices);
        if ((double)(persistent - cost) > gain * (double)cost) gain = (double)(persistent - cost) / (double)cost;
        ckpt_pool_free(&pool);
    }
    printf("%d stages, %d budgets: gap up to %.2f %%; schedules that hold what they keep cost up to %.1f %% more\n", count,
           budgets + 1, 100 * gap, 100 * gain);
    assert_true(gap <= most_gap && gain >= least_gain);
    ckpt_chain_tables_free(tables);
}

static void test_long_chains_are_proved(void **state) {
    (void)state;
    g_random.state = 5;
    check_long(CKPT_CHAIN_PLAIN, 64, 30, 0, 0.1);
    check_long(CKPT_CHAIN_PLAIN, 100, 12, 0, 0.1);
    check_long(CKPT_CHAIN_REAL, 40, 20, 0.01, 0);
    check_long(CKPT_CHAIN_EARLY_PARTS, 24, 20, 0.01, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_exhaustive_search),
        cmocka_unit_test(test_a_byte_less_is_caught),
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_long_chains_are_proved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
