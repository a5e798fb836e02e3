/* Bounds for long chains, on chains short enough for the oracle: never above the least cost of any schedule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "chain_oracle.h"

static ckpt_random_chain g_random;

typedef struct agreement {
    int feasible, proved, by_count, beyond_count, above;
} agreement;

static uint64_t forward_cost(const ckpt_chain *chain) {
    uint64_t cost = 0;
    for (int k = 1; k <= chain->stage_count; k++) cost += chain->stage[k].forward_cost;
    return cost;
}

/* Bounds of g_random.chain for `less` bytes less than those of which the oracle says what they cost. */
static void compare(uint64_t less, agreement *sum) {
    const ckpt_chain *chain = &g_random.chain;
    ckpt_chain_tables *tables;
    ckpt_error err;
    assert_int_equal(ckpt_chain_tables_build(chain, &(ckpt_chain_limits){0}, &tables, &err), CKPT_OK);
    const uint64_t most = ckpt_chain_most_bytes(tables), first = forward_cost(chain);
    for (uint64_t m = 1; m <= most + 1; m++) {
        const uint64_t truth = ckpt_chain_oracle(chain, m);
        if (truth == CKPT_CHAIN_NEVER) continue;
        const uint64_t budget = m > less ? m - less : 1;
        uint64_t bound, counted;
        assert_int_equal(ckpt_chain_lower_bound(chain, budget, CKPT_CHAIN_NEVER, &bound, &err), CKPT_OK);
        assert_int_equal(ckpt_chain_bound_by_count(chain, budget, &counted, &err), CKPT_OK);
        assert_true(bound >= first + counted);
        sum->feasible++;
        sum->proved += bound == truth;
        sum->by_count += first + counted == truth && truth > first;
        sum->beyond_count += bound == truth && first + counted < truth;
        sum->above += bound > truth;
    }
    ckpt_chain_tables_free(tables);
}

typedef enum chain_kind { PLAIN, REAL, INTERNALS, EQUAL, EARLY } chain_kind;

static void make(chain_kind kind) {
    uint64_t bytes[CKPT_ORACLE_STAGES + 1], cost[CKPT_ORACLE_STAGES + 1];
    const int count = (int)ckpt_random_between(&g_random, 2, kind == INTERNALS ? 5 : 7);
    const uint64_t size = ckpt_random_between(&g_random, 1, 4), run = ckpt_random_between(&g_random, 1, 9);
    if (kind == PLAIN) ckpt_chain_make_plain_random(&g_random, count, 10);
    if (kind == REAL) ckpt_chain_make_real_random(&g_random, count, 10, 1);
    if (kind == EARLY) ckpt_chain_make_early_random(&g_random, count, 10, 1);
    if (kind == INTERNALS) ckpt_chain_make_real_random(&g_random, count, 10, 3);
    if (kind != EQUAL) return;
    for (int k = 1; k <= count; k++) bytes[k] = size, cost[k] = run;
    if (ckpt_random_between(&g_random, 0, 1)) bytes[count] = 1;
    ckpt_chain_make_plain(&g_random, count, bytes, cost);
}

static agreement run(const char *what, chain_kind kind, uint64_t seed, int chains, uint64_t less) {
    agreement sum = {0};
    g_random.state = seed;
    for (int i = 0; i < chains; i++) {
        make(kind);
        compare(less, &sum);
    }
    printf("%s: %d feasible, proved %.1f%%, recomputation found by counting %d times, by the others %d; above %d\n", what,
           sum.feasible, 100.0 * sum.proved / sum.feasible, sum.by_count, sum.beyond_count, sum.above);
    return sum;
}

static void test_never_above(void **state) {
    (void)state;
    static const struct {
        const char *what;
        chain_kind kind;
        uint64_t seed;
        int chains;
    } of[] = {{"reference model", PLAIN, 1, 400},
              {"flags and transients", REAL, 2, 600},
              {"internals", INTERNALS, 3, 400},
              {"equal stages", EQUAL, 4, 100},
              {"early parts", EARLY, 5, 300}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        const agreement sum = run(of[i].what, of[i].kind, of[i].seed, of[i].chains, 0);
        assert_int_equal(sum.above, 0);
        assert_true(of[i].kind == EQUAL ? sum.by_count > 0 : sum.beyond_count > 0);
    }
}

/* The control: bounds for a byte less are noticed. */
static void test_a_byte_less_is_caught(void **state) {
    (void)state;
    for (chain_kind kind = PLAIN; kind <= EARLY; kind++) {
        const agreement sum = run("control", kind, 5, 100, 1);
        assert_true(sum.above > 0);
    }
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
        assert_int_equal(ckpt_chain_lower_bound(&g_random.chain, budget, CKPT_CHAIN_NEVER, &bound, &err), CKPT_OK);
        assert_int_equal(bound, known);
        assert_int_equal(ckpt_chain_lower_bound(&g_random.chain, budget - 4 * 65536, CKPT_CHAIN_NEVER, &bound, &err), CKPT_OK);
        assert_true(bound > known); /* the control */
    }
    ckpt_chain_tables_free(tables);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_above),
        cmocka_unit_test(test_a_byte_less_is_caught),
        cmocka_unit_test(test_large_budgets_are_proved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
