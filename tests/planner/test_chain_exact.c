/* Short chains as a whole: the search of chain_exact.h against the oracle, whose states, order and code are its
 * own, at every budget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "chain_oracle.h"
#include "planner/chain/chain_exact.h"

static ckpt_random_chain g_random;

typedef struct agreement {
    int chains, feasible, below_tables; /* budgets; those where the tables do worse */
    int least_below_tables;
} agreement;

/* What chain.h answers for a short chain. */
static void check_answer(const ckpt_chain *chain, ckpt_chain_tables *whole, uint64_t budget, uint64_t truth) {
    ckpt_error err;
    uint64_t bound = 0;
    assert_int_equal(ckpt_chain_tables_cost(whole, budget), truth);
    assert_int_equal(ckpt_chain_lower_bound(chain, budget, CKPT_CHAIN_NEVER, &bound, &err), CKPT_OK);
    assert_true(bound == truth);
}

/* The budgets at which cost falls, found from below. */
static void check_steps(ckpt_chain_tables *whole) {
    uint64_t before = CKPT_CHAIN_NEVER, at = ckpt_chain_least_bytes(whole);
    for (; at != UINT64_MAX; at = ckpt_chain_next_bytes(whole, at)) {
        const uint64_t cost = ckpt_chain_tables_cost(whole, at);
        assert_true(cost < before && ckpt_chain_tables_cost(whole, at - 1) == before);
        before = cost;
    }
    assert_int_equal(before, ckpt_chain_tables_cost(whole, UINT64_MAX));
}

static void compare(const ckpt_chain *chain, agreement *sum) {
    ckpt_error err;
    ckpt_chain_tables *tables, *whole;
    assert_int_equal(ckpt_chain_tables_build(chain, &(ckpt_chain_limits){0}, &whole, &err), CKPT_OK);
    check_steps(whole);
    uint64_t least = 0, need = 0, cost = CKPT_CHAIN_NEVER, before = CKPT_CHAIN_NEVER;
    assert_true(ckpt_chain_exact_fits(chain));
    assert_int_equal(ckpt_chain_exact_least(chain, &least, &err), CKPT_OK);
    assert_int_equal(ckpt_chain_tables_build(chain, &(ckpt_chain_limits){.tables_only = true}, &tables, &err), CKPT_OK);
    const uint64_t most = ckpt_chain_most_bytes(tables);
    sum->chains++;
    sum->least_below_tables += least < ckpt_chain_least_bytes(tables);
    assert_true(ckpt_chain_oracle(chain, least - 1) == CKPT_CHAIN_NEVER);
    for (uint64_t m = least > 2 ? least - 2 : 0; m <= most; m++) {
        const uint64_t truth = ckpt_chain_oracle(chain, m);
        ckpt_pool pool = {0};
        ckpt_chain_program program;
        const ckpt_status status = ckpt_chain_exact_solve(chain, m, &pool, &program, &err);
        assert_int_equal(status, m < least ? CKPT_INFEASIBLE : CKPT_OK);
        assert_true((truth == CKPT_CHAIN_NEVER) == (m < least));
        if (status != CKPT_OK) continue;
        assert_int_equal(program.cost, truth);
        check_answer(chain, whole, m, truth);
        assert_int_equal(ckpt_chain_replay(chain, &program), truth);
        /* The need is the smallest budget of that cost. */
        if (truth < before) need = m, cost = truth;
        assert_true(program.cost == cost && program.needed_bytes == need);
        before = truth;
        sum->feasible++;
        sum->below_tables += truth < ckpt_chain_tables_cost(tables, m);
        ckpt_pool_free(&pool);
    }
    ckpt_chain_tables_free(tables);
    ckpt_chain_tables_free(whole);
}

typedef enum chain_kind { PLAIN, REAL, EARLY } chain_kind;

static void run(const char *what, uint64_t seed, int chains, int most_stages, int options, chain_kind kind) {
    agreement sum = {0};
    g_random.state = seed;
    for (int i = 0; i < chains; i++) {
        const int stages = (int)ckpt_random_between(&g_random, 2, (uint64_t)most_stages);
        if (kind == PLAIN) ckpt_chain_make_plain_random(&g_random, stages, 10);
        if (kind == REAL) ckpt_chain_make_real_random(&g_random, stages, 10, options);
        if (kind == EARLY) ckpt_chain_make_early_random(&g_random, stages, 10, options);
        compare(&g_random.chain, &sum);
    }
    printf("%s: %d chains, cost and need equal at all %d budgets; tables worse at %d, infeasible too early in %d\n", what,
           sum.chains, sum.feasible, sum.below_tables, sum.least_below_tables);
    /* The control: the same comparison tells the tables from the optimum. */
    assert_true(sum.below_tables > 0);
}

static void test_plain_chains(void **state) {
    (void)state;
    run("reference model", 1, 150, 7, 1, PLAIN);
}

static void test_real_chains(void **state) {
    (void)state;
    run("flags and transients", 2, 250, 8, 1, REAL);
}

static void test_chains_with_internals(void **state) {
    (void)state;
    run("internals", 3, 120, 5, 3, REAL);
}

static void test_chains_with_early_parts(void **state) {
    (void)state;
    run("early parts", 4, 150, 7, 1, EARLY);
    run("early parts and internals", 5, 100, 5, 3, EARLY);
}

/* Chains that the tables take to be infeasible where they are not: searched for among many, by the least budgets
 * alone. */
static void test_least_budget_of_many(void **state) {
    (void)state;
    int lower = 0;
    g_random.state = 6;
    for (int i = 0; i < 10000; i++) {
        ckpt_error err;
        ckpt_chain_tables *tables;
        uint64_t least;
        ckpt_chain_make_real_random(&g_random, (int)ckpt_random_between(&g_random, 3, 6), 10, 1);
        const ckpt_chain *chain = &g_random.chain;
        assert_int_equal(ckpt_chain_tables_build(chain, &(ckpt_chain_limits){.tables_only = true}, &tables, &err), CKPT_OK);
        assert_int_equal(ckpt_chain_exact_least(chain, &least, &err), CKPT_OK);
        const uint64_t of_tables = ckpt_chain_least_bytes(tables);
        ckpt_chain_tables_free(tables);
        assert_true(least <= of_tables);
        if (least == of_tables && i % 50) continue;
        lower += least < of_tables;
        assert_true(ckpt_chain_oracle(chain, least) != CKPT_CHAIN_NEVER);
        assert_true(ckpt_chain_oracle(chain, least - 1) == CKPT_CHAIN_NEVER);
    }
    printf("smallest budget below that of the tables in %d of 10000 chains\n", lower);
    assert_true(lower > 0);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void test_longest_that_fit(void **state) {
    (void)state;
    for (int options = 1; options <= 4; options += 3) {
        ckpt_error err;
        int stages = 2;
        g_random.state = 7;
        do ckpt_chain_make_real_random(&g_random, ++stages, 1000, options);
        while (ckpt_chain_exact_fits(&g_random.chain));
        do ckpt_chain_make_real_random(&g_random, stages - 1, 1000, options);
        while (!ckpt_chain_exact_fits(&g_random.chain));
        uint64_t least, before = CKPT_CHAIN_NEVER;
        double start = seconds(), slowest = 0;
        assert_int_equal(ckpt_chain_exact_least(&g_random.chain, &least, &err), CKPT_OK);
        const double first = seconds() - start;
        for (uint64_t m = least; m < 6 * least; m += least / 3) {
            ckpt_pool pool = {0};
            ckpt_chain_program program;
            start = seconds();
            assert_int_equal(ckpt_chain_exact_solve(&g_random.chain, m, &pool, &program, &err), CKPT_OK);
            if (seconds() - start > slowest) slowest = seconds() - start;
            assert_true(program.cost <= before && program.needed_bytes <= m);
            before = program.cost;
            ckpt_pool_free(&pool);
        }
        printf("%d stages of up to %d options: least budget in %.1f ms, answers in at most %.1f ms\n", stages - 1,
               options, 1e3 * first, 1e3 * slowest);
    }
    ckpt_chain_make_real_random(&g_random, 40, 10, 1);
    assert_false(ckpt_chain_exact_fits(&g_random.chain));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_chains),
        cmocka_unit_test(test_real_chains),
        cmocka_unit_test(test_chains_with_internals),
        cmocka_unit_test(test_chains_with_early_parts),
        cmocka_unit_test(test_least_budget_of_many),
        cmocka_unit_test(test_longest_that_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
