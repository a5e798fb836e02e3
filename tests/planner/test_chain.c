/* The tables of chain.h against exhaustive search, of all schedules and of persistent ones, and the closed form of Revolve. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "chain_oracle.h"

static ckpt_random_chain g_random;

typedef struct agreement {
    int feasible, equal, called_infeasible, above_bound;
    int proved;
} agreement;

static ckpt_chain_tables *build(const ckpt_chain *chain, ckpt_chain_limits limits) {
    ckpt_chain_tables *tables = NULL;
    ckpt_error err;
    assert_int_equal(ckpt_chain_tables_build(chain, &limits, &tables, &err), CKPT_OK);
    return tables;
}

/* What the tables answer for `less` bytes less than exhaustive search has. */
static void compare(const ckpt_chain *chain, ckpt_chain_limits limits, uint64_t less, agreement *sum) {
    ckpt_chain_tables *tables = build(chain, limits);
    uint64_t least = ckpt_chain_least_bytes(tables), most = ckpt_chain_most_bytes(tables);
    uint64_t before = CKPT_CHAIN_NEVER, need_before = 0;
    for (uint64_t m = least > 12 ? least - 12 : 0; m <= most + 1; m++) {
        uint64_t truth = ckpt_chain_oracle(chain, m);
        uint64_t bound = 0;
        ckpt_pool pool = {0};
        ckpt_chain_program program;
        ckpt_error err;
        ckpt_status status = ckpt_chain_solve(tables, m > less ? m - less : 0, &pool, &program, &err);
        assert_int_equal(ckpt_chain_lower_bound(chain, m, CKPT_CHAIN_NEVER, &bound, &err), CKPT_OK);
        if (status == CKPT_OK) {
            assert_true(program.cost >= truth && truth != CKPT_CHAIN_NEVER);
            assert_true(program.needed_bytes <= m);
            assert_true(program.cost <= before && program.needed_bytes >= need_before);
            assert_int_equal(ckpt_chain_replay(chain, &program), program.cost);
            before = program.cost;
            need_before = program.needed_bytes;
        } else {
            assert_int_equal(status, CKPT_INFEASIBLE);
        }
        if (truth != CKPT_CHAIN_NEVER) {
            sum->feasible++;
            sum->equal += status == CKPT_OK && truth == program.cost;
            sum->proved += status == CKPT_OK && bound == program.cost;
            sum->called_infeasible += status != CKPT_OK;
            sum->above_bound += bound > truth;
        }
        ckpt_pool_free(&pool);
    }
    ckpt_chain_tables_free(tables);
}

static void print_agreement(const char *what, const agreement *sum) {
    printf("%s: %d feasible, cost equal %.2f%%, called infeasible %d, proved %.1f%%\n", what, sum->feasible,
           100.0 * sum->equal / sum->feasible, sum->called_infeasible, 100.0 * sum->proved / sum->feasible);
}

static void check_agreement(const char *what, const agreement *sum) {
    print_agreement(what, sum);
    assert_int_equal(sum->called_infeasible, 0);
    assert_int_equal(sum->above_bound, 0);
    assert_true(sum->equal >= 0.97 * sum->feasible);
}

static void test_plain_chains(void **state) {
    (void)state;
    agreement sum = {0};
    g_random.state = 1;
    for (int i = 0; i < 150; i++) {
        ckpt_chain_make_plain_random(&g_random, (int)ckpt_random_between(&g_random, 2, 7), 10);
        compare(&g_random.chain, (ckpt_chain_limits){0}, 0, &sum);
    }
    check_agreement("reference model", &sum);
}

static void test_real_chains(void **state) {
    (void)state;
    agreement sum = {0};
    g_random.state = 2;
    for (int i = 0; i < 150; i++) {
        ckpt_chain_make_real_random(&g_random, (int)ckpt_random_between(&g_random, 2, 7), 10, 1);
        compare(&g_random.chain, (ckpt_chain_limits){0}, 0, &sum);
    }
    check_agreement("flags and transients", &sum);
}

static void test_chains_with_internals(void **state) {
    (void)state;
    agreement sum = {0};
    g_random.state = 3;
    for (int i = 0; i < 120; i++) {
        ckpt_chain_make_real_random(&g_random, (int)ckpt_random_between(&g_random, 2, 5), 10, 3);
        compare(&g_random.chain, (ckpt_chain_limits){0}, 0, &sum);
    }
    check_agreement("internals", &sum);
}

static void test_chains_with_early_parts(void **state) {
    (void)state;
    agreement sum = {0};
    g_random.state = 8;
    for (int i = 0; i < 150; i++) {
        const int options = 1 + 2 * (i % 2);
        ckpt_chain_make_early_random(&g_random, (int)ckpt_random_between(&g_random, 3, options == 1 ? 7 : 5), 10, options);
        compare(&g_random.chain, (ckpt_chain_limits){0}, 0, &sum);
    }
    check_agreement("early parts", &sum);
}

static void test_coarse_slots_stay_feasible(void **state) {
    (void)state;
    agreement sum = {0};
    g_random.state = 4;
    for (int i = 0; i < 60; i++) {
        ckpt_chain_make_real_random(&g_random, (int)ckpt_random_between(&g_random, 2, 5), 10, 2);
        compare(&g_random.chain, (ckpt_chain_limits){.slots = 9}, 0, &sum);
    }
    print_agreement("nine slots", &sum);
    assert_int_equal(sum.called_infeasible, 0);
    assert_int_equal(sum.above_bound, 0);
}

/* The comparison must notice what it is there to notice. */
static void test_a_byte_less_is_caught(void **state) {
    (void)state;
    agreement sum = {0};
    g_random.state = 1;
    for (int i = 0; i < 150; i++) {
        ckpt_chain_make_plain_random(&g_random, (int)ckpt_random_between(&g_random, 2, 7), 10);
        compare(&g_random.chain, (ckpt_chain_limits){0}, 1, &sum);
    }
    print_agreement("a byte less", &sum);
    assert_true(sum.called_infeasible > 0);
    assert_true(sum.equal < 0.97 * sum.feasible);
}

/* The tables range over the persistent schedules, and find the best of them. Returns at how many budgets. */
static int as_persistent(const ckpt_chain *chain, uint64_t less, int *budgets) {
    ckpt_chain_tables *tables = build(chain, (ckpt_chain_limits){0});
    const uint64_t least = ckpt_chain_least_bytes(tables), most = ckpt_chain_most_bytes(tables);
    int equal = 0;
    for (uint64_t m = least; m <= most + 1; m++)
        equal += ckpt_chain_tables_cost(tables, m - less) == ckpt_chain_oracle_persistent(chain, m);
    *budgets += (int)(most - least) + 2;
    ckpt_chain_tables_free(tables);
    return equal;
}

static void test_persistent_schedules(void **state) {
    (void)state;
    for (ckpt_chain_kind kind = CKPT_CHAIN_PLAIN; kind <= CKPT_CHAIN_EQUAL; kind++)
        for (uint64_t less = 0; less <= 1; less++) { /* a byte less is the control */
            int budgets = 0, equal = 0;
            g_random.state = 1 + (uint64_t)kind;
            for (int i = 0; i < (kind == CKPT_CHAIN_EQUAL ? 20 : 100); i++) {
                ckpt_chain_make(&g_random, kind, (int)ckpt_random_between(&g_random, 2, 7), 10);
                equal += as_persistent(&g_random.chain, less, &budgets);
            }
            printf("%s, %d bytes less: the best persistent schedule at %d of %d budgets\n", ckpt_chain_kind_name(kind), (int)less,
                   equal, budgets);
            assert_true(less ? equal < budgets : equal == budgets);
        }
}

/* t(l, s) = r l - C(s + r, s + 1), with r least such that C(s + r, s) >= l: forward runs of l steps from s
 * checkpoints (the input is one) when the backward needs the step's input only and nothing else takes room.
 */
static uint64_t revolve(uint64_t l, uint64_t s) {
    uint64_t r = 0, reach = 1, beta = 0; /* C(s + r, s), C(s + r, s + 1) */
    while (reach < l) {
        r++;
        beta = beta + reach; /* C(s + r, s + 1) = C(s + r - 1, s + 1) + C(s + r - 1, s) */
        reach = reach * (s + r) / r;
    }
    return r * l - beta;
}

static void test_closed_form_of_revolve(void **state) {
    (void)state;
    for (int l = 2; l < 80; l++) {
        g_random.chain = (ckpt_chain){l, g_random.stage};
        for (int k = 1; k <= l; k++) {
            /* One byte a checkpoint, and one for the state that is being advanced in place of the input's. */
            g_random.stage[k] = (ckpt_chain_stage){.out_bytes = k < l,
                                                   .forward_cost = k < l,
                                                   .option_count = 1,
                                                   .option = g_random.option[k < l ? 1 : 2],
                                                   .kind = k < l ? 1 : 2};
        }
        g_random.option[1][0] = (ckpt_chain_option){.forward_bytes = {1, 1}};
        g_random.option[2][0] = (ckpt_chain_option){.forward_bytes = {0, 1}};
        ckpt_chain_tables *tables = build(&g_random.chain, (ckpt_chain_limits){0});
        for (uint64_t s = 1; s < 12; s++) {
            ckpt_pool pool = {0};
            ckpt_chain_program program;
            ckpt_error err;
            assert_int_equal(ckpt_chain_solve(tables, s, &pool, &program, &err), CKPT_OK);
            assert_int_equal(program.cost, revolve((uint64_t)l, s));
            ckpt_pool_free(&pool);
        }
        ckpt_chain_tables_free(tables);
    }
}

static uint64_t forward_cost(const ckpt_chain *chain) {
    uint64_t cost = 0;
    for (int k = 1; k <= chain->stage_count; k++) cost += chain->stage[k].forward_cost;
    return cost;
}

static double seconds_since(const struct timespec *start) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + 1e-9 * (double)(now.tv_nsec - start->tv_nsec);
}

/* `most_gap`: to the bound for all schedules, from twice the smallest budget up. */
static void time_chain(const char *what, double most_gap) {
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    ckpt_chain_tables *tables = build(&g_random.chain, (ckpt_chain_limits){0});
    double built = seconds_since(&start);
    uint64_t least = ckpt_chain_least_bytes(tables), most = ckpt_chain_most_bytes(tables);
    uint64_t cost = CKPT_CHAIN_NEVER, need = 0;
    double first = 0, worst_gap = 0;
    for (uint64_t i = 0; i <= 200; i += 1) {
        ckpt_pool pool = {0};
        ckpt_chain_program program;
        ckpt_error err;
        uint64_t bound = 0, budget = least + (most - least) / 200 * i;
        clock_gettime(CLOCK_MONOTONIC, &start);
        assert_int_equal(ckpt_chain_solve(tables, budget, &pool, &program, &err), CKPT_OK);
        if (i == 0) first = seconds_since(&start);
        assert_true(program.cost <= cost && program.needed_bytes >= need && program.needed_bytes <= budget);
        assert_int_equal(ckpt_chain_replay(&g_random.chain, &program), program.cost);
        cost = program.cost;
        need = program.needed_bytes;
        if (i % 20 == 0) {
            assert_int_equal(ckpt_chain_lower_bound(&g_random.chain, budget, program.cost, &bound, &err), CKPT_OK);
            double gap = (double)(program.cost - bound) / (double)program.cost;
            if (budget >= 2 * least && gap > worst_gap) worst_gap = gap;
        }
        ckpt_pool_free(&pool);
    }
    printf("%s: tables %.1f ms, first answer %.1f ms, least/most %.3f, gap <= %.3f\n", what, 1e3 * built, 1e3 * first,
           (double)least / (double)most, worst_gap);
    assert_true(worst_gap <= most_gap);
    assert_int_equal(ckpt_chain_tables_cost(tables, most), forward_cost(&g_random.chain));
    ckpt_chain_tables_free(tables);
}

/* Blocks of stages of so many units each, again and again. */
static void make_blocks(int stages, const char *units) {
    uint64_t bytes[CKPT_ORACLE_STAGES + 1], cost[CKPT_ORACLE_STAGES + 1];
    const int block = (int)strlen(units);
    for (int k = 1; k <= stages; k++) {
        bytes[k] = 65536 * (uint64_t)(units[k % block] - '0');
        cost[k] = 1000003;
    }
    bytes[stages] = 2560;
    ckpt_chain_make_plain(&g_random, stages, bytes, cost);
}

static void test_runs_of_blocks_are_counted(void **state) {
    (void)state;
    uint64_t runs;
    ckpt_error err;
    /* The first and the last stage are others: runs with the first, with only the last, and with neither. */
    make_blocks(200, "1");
    assert_int_equal(ckpt_chain_count_runs(&g_random.chain, &runs, &err), CKPT_OK);
    assert_int_equal(runs, 200 + 199 + 198);
    make_blocks(200, "14");
    assert_int_equal(ckpt_chain_count_runs(&g_random.chain, &runs, &err), CKPT_OK);
    assert_int_equal(runs, 200 + 199 + 198 + 197);
    g_random.state = 3;
    ckpt_chain_make_plain_random(&g_random, 200, 1000000000);
    assert_int_equal(ckpt_chain_count_runs(&g_random.chain, &runs, &err), CKPT_OK);
    assert_int_equal(runs, 200 * 201 / 2);
}

/* Cost of tables of all splits over that of windows, less 1, at the worst of some budgets. */
static double lost_by_windows(ckpt_chain_limits limits, bool *differ) {
    ckpt_chain_tables *windows = build(&g_random.chain, limits);
    limits.all_splits = true;
    ckpt_chain_tables *all = build(&g_random.chain, limits);
    const uint64_t least = ckpt_chain_least_bytes(all), most = ckpt_chain_most_bytes(all);
    double worst = 0;
    assert_int_equal(ckpt_chain_least_bytes(windows), least);
    assert_int_equal(ckpt_chain_most_bytes(windows), most);
    for (uint64_t i = 0; i <= 40; i++) {
        const uint64_t budget = least + (most - least) * i * i / 1600;
        ckpt_pool pool = {0};
        ckpt_chain_program near, best;
        ckpt_error err;
        assert_int_equal(ckpt_chain_solve(windows, budget, &pool, &near, &err), CKPT_OK);
        assert_int_equal(ckpt_chain_solve(all, budget, &pool, &best, &err), CKPT_OK);
        const double lost = (double)near.cost / (double)best.cost - 1;
        if (lost > worst) worst = lost;
        *differ |= near.cost != best.cost;
        ckpt_pool_free(&pool);
    }
    ckpt_chain_tables_free(windows);
    ckpt_chain_tables_free(all);
    return worst;
}

/* Masks go first: with them done the output is out of the way. */
static void add_early_parts(void) {
    for (int k = 2; k < g_random.chain.stage_count; k++) {
        ckpt_chain_stage *stage = &g_random.stage[k];
        ckpt_chain_option *option = g_random.option[k];
        const uint64_t rest = option[0].backward_bytes[1][0] - stage->out_bytes;
        stage->early = true;
        option[0].early_bytes[0] = CKPT_CHAIN_NEVER;
        option[0].early_bytes[1] = stage->out_bytes + stage->gradient_bytes;
        option[1] = (ckpt_chain_option){.recompute_cost = {0, CKPT_CHAIN_NEVER},
                                        .backward_bytes = {{rest, rest}, {rest, rest}},
                                        .early_bytes = {CKPT_CHAIN_NEVER, CKPT_CHAIN_NEVER}};
    }
}

static void test_windows_lose_little(void **state) {
    (void)state;
    bool differ = false;
    double worst = 0;
    static const char *const blocks[] = {"1", "14", "114", "4232"};
    for (int i = 0; i < 4; i++) {
        make_blocks(160, blocks[i]);
        const double lost = lost_by_windows((ckpt_chain_limits){.slots = 800}, &differ);
        printf("blocks of %s: windows lose %.3f %%\n", blocks[i], 100 * lost);
        assert_true(!differ);
        make_blocks(160, blocks[i]);
        add_early_parts();
        const double lost_early = lost_by_windows((ckpt_chain_limits){.slots = 800}, &differ);
        printf("blocks of %s with early parts: windows lose %.3f %%\n", blocks[i], 100 * lost_early);
        assert_true(!differ);
    }
    for (int i = 0; i < 12; i++) {
        g_random.state = (uint64_t)i + 1;
        if (i < 8) ckpt_chain_make_real_random(&g_random, 100, 1000, 1 + i % 2);
        else ckpt_chain_make_early_random(&g_random, 100, 1000, 1 + i % 2);
        const double lost = lost_by_windows((ckpt_chain_limits){.slots = 400}, &differ);
        if (lost > worst) worst = lost;
    }
    printf("random chains: windows lose at most %.3f %%\n", 100 * worst);
    assert_true(worst <= 0.0005);
    assert_true(differ); /* else this compared tables with themselves */
}

static void test_monotone_and_timed(void **state) {
    (void)state;
    static const int arbitrary[] = {64, 100};
    static const struct {
        int stages;
        const char *units;
        double most_gap;
    } repeated[] = {{64, "1", 0}, {256, "1", 0}, {1000, "1", 0}, {1000, "14", 0.001}, {1000, "114", 0.001}};
    for (int i = 0; i < 5; i++) {
        make_blocks(repeated[i].stages, repeated[i].units);
        char text[48];
        snprintf(text, sizeof text, "%d stages in blocks of %s", repeated[i].stages, repeated[i].units);
        time_chain(text, repeated[i].most_gap);
    }
    g_random.state = 5;
    for (int i = 0; i < 2; i++) {
        ckpt_chain_make_plain_random(&g_random, arbitrary[i], 1000000);
        char text[32];
        snprintf(text, sizeof text, "%d arbitrary stages", arbitrary[i]);
        time_chain(text, 0.015);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_chains),
        cmocka_unit_test(test_real_chains),
        cmocka_unit_test(test_chains_with_internals),
        cmocka_unit_test(test_chains_with_early_parts),
        cmocka_unit_test(test_coarse_slots_stay_feasible),
        cmocka_unit_test(test_a_byte_less_is_caught),
        cmocka_unit_test(test_persistent_schedules),
        cmocka_unit_test(test_closed_form_of_revolve),
        cmocka_unit_test(test_runs_of_blocks_are_counted),
        cmocka_unit_test(test_windows_lose_little),
        cmocka_unit_test(test_monotone_and_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
