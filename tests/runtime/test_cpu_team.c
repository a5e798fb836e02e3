/* The team: every part once, in the caller alone where no thread was started; and products divided into parts. */
#include "cmocka_all.h"

#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cpu/cpu_dnnl.h"
#include "cpu/cpu_team.h"

static int tasks(void) {
    DIR *folder = opendir("/proc/self/task");
    int count = 0;
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

/* A thread that has been joined may be listed for a moment longer. */
static void expect_tasks(int count) {
    for (int wait = 0; wait < 1000 && tasks() != count; wait++) usleep(10000);
    assert_int_equal(tasks(), count);
}

enum { MOST_PARTS = 64 };
typedef struct tally {
    _Atomic int runs[MOST_PARTS];
    pthread_t caller;
    _Atomic int elsewhere;
} tally;

static void count_part(const void *context, int part) {
    tally *t = (tally *)context;
    atomic_fetch_add(&t->runs[part], 1);
    if (!pthread_equal(pthread_self(), t->caller)) atomic_fetch_add(&t->elsewhere, 1);
}

static void run_jobs(ckpt_team *team, int jobs, tally *total) {
    for (int j = 0; j < jobs; j++) {
        tally t = {.caller = pthread_self()};
        const int parts = 1 + j % MOST_PARTS;
        ckpt_team_run(team, parts, count_part, &t);
        for (int p = 0; p < MOST_PARTS; p++) assert_int_equal(t.runs[p], p < parts);
        total->elsewhere += t.elsewhere;
        if (j % 500 == 0) usleep(2000); /* long enough for the threads to fall asleep */
    }
}

static void test_every_part_runs_once(void **state) {
    (void)state;
    static const char *const policies[] = {"passive", "active", NULL};
    ckpt_error err;
    const int before = tasks();
    for (size_t p = 0; p < sizeof policies / sizeof *policies; p++) {
        if (policies[p]) setenv("OMP_WAIT_POLICY", policies[p], 1);
        else unsetenv("OMP_WAIT_POLICY");
        for (int threads = 1; threads <= 5; threads++) {
            ckpt_team *team;
            tally total = {0};
            assert_int_equal(ckpt_team_open(threads, &team, &err), CKPT_OK);
            run_jobs(team, 100, &total);
            assert_int_equal(total.elsewhere, 0);
            expect_tasks(before);
            assert_int_equal(ckpt_team_start(team, &err), CKPT_OK);
            assert_int_equal(ckpt_team_start(team, &err), CKPT_OK);
            expect_tasks(before + threads - 1);
            run_jobs(team, policies[p] ? 600 : 2000, &total);
            ckpt_team_close(team);
        }
    }
}

/* A job whose parts wait for each other ends only if each is run by a thread of its own. */
static void meet(const void *context, int part) {
    (void)part;
    atomic_int *arrived = (atomic_int *)(uintptr_t)context;
    atomic_fetch_add(arrived, 1);
    while (atomic_load(arrived) < 3) usleep(100);
}

static void test_parts_run_side_by_side(void **state) {
    (void)state;
    ckpt_team *team;
    ckpt_error err;
    atomic_int arrived = 0;
    assert_int_equal(ckpt_team_open(3, &team, &err), CKPT_OK);
    assert_int_equal(ckpt_team_start(team, &err), CKPT_OK);
    usleep(20000);
    ckpt_team_run(team, 3, meet, &arrived);
    assert_int_equal(arrived, 3);
    ckpt_team_close(team);
}

static void blocked_here(const void *context, int part) {
    sigset_t mask;
    (void)part;
    const tally *t = context;
    if (pthread_equal(pthread_self(), t->caller)) return;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (sigismember(&mask, SIGINT) && sigismember(&mask, SIGTERM) && sigismember(&mask, SIGUSR1)) atomic_fetch_add(&((tally *)t)->elsewhere, 1);
    else atomic_fetch_add(&((tally *)t)->runs[0], 1);
}

static void test_threads_take_no_signals(void **state) {
    (void)state;
    ckpt_team *team;
    ckpt_error err;
    sigset_t mask;
    tally t = {.caller = pthread_self()};
    assert_int_equal(ckpt_team_open(4, &team, &err), CKPT_OK);
    assert_int_equal(ckpt_team_start(team, &err), CKPT_OK);
    for (int i = 0; i < 1000 && !t.elsewhere; i++) ckpt_team_run(team, 32, blocked_here, &t);
    assert_int_equal(t.runs[0], 0);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    assert_false(sigismember(&mask, SIGUSR1)); /* the caller's own mask is as it was */
    ckpt_team_close(team);
}

static void test_threads_by_the_environment(void **state) {
    (void)state;
    setenv("OMP_NUM_THREADS", "3,2", 1);
    assert_int_equal(ckpt_team_default_threads(), 3);
    setenv("OMP_NUM_THREADS", "none", 1);
    const int processors = ckpt_team_default_threads();
    unsetenv("OMP_NUM_THREADS");
    assert_int_equal(ckpt_team_default_threads(), processors);
    assert_true(processors >= 1 && processors <= sysconf(_SC_NPROCESSORS_CONF));
}

static float value(int64_t i) { return (float)(i * 37 % 101 - 50) / 64; }

/* The element of a . b at [batch][row][col] in double precision. */
static double exact(const ckpt_gemm *g, int64_t a, int64_t b, int64_t row, int64_t col) {
    double sum = 0;
    for (int64_t k = 0; k < g->k; k++)
        sum += (double)g->a[a * g->m * g->k + (g->trans_a ? k * g->m + row : row * g->k + k)] *
               (double)g->b[b * g->k * g->n + (g->trans_b ? col * g->k + k : k * g->n + col)];
    return sum * (double)g->alpha;
}

/* Returns the number of parts. Looks at every element of some rows and columns, and that nothing else was touched. */
static int check_product(ckpt_dnnl *dnnl, ckpt_gemm g, int threads) {
    ckpt_dnnl_product *product;
    ckpt_error err;
    int64_t batches = 1;
    for (int i = 0; i < g.batch_rank; i++) batches *= g.batch_dim[i];
    const int64_t a_count = batches * g.m * g.k, b_count = batches * g.k * g.n, c_count = batches * g.m * g.n;
    float *a = malloc((size_t)a_count * 4), *b = malloc((size_t)b_count * 4), *c = malloc((size_t)(c_count + 16) * 4);
    assert_true(a && b && c);
    for (int64_t i = 0; i < a_count; i++) a[i] = value(i);
    for (int64_t i = 0; i < b_count; i++) b[i] = value(3 * i + 1);
    for (int64_t i = 0; i < c_count + 16; i++) c[i] = 8;
    g.a = a, g.b = b, g.c = c;
    assert_int_equal(ckpt_dnnl_make(dnnl, &g, threads, &product, &err), CKPT_OK);
    for (int part = ckpt_dnnl_parts(product) - 1; part >= 0; part--) ckpt_dnnl_run_part(product, part);
    assert_int_equal(ckpt_dnnl_take_status(dnnl, &err), CKPT_OK);
    for (int64_t i = 0; i < 16; i++) assert_true(c[c_count + i] == 8);
    for (int64_t batch = 0; batch < batches; batch++) {
        int64_t rest = batch, at_a = 0, at_b = 0;
        for (int d = g.batch_rank - 1; d >= 0; d--) {
            at_a += rest % g.batch_dim[d] * g.stride_a[d];
            at_b += rest % g.batch_dim[d] * g.stride_b[d];
            rest /= g.batch_dim[d];
        }
        for (int64_t row = 0; row < g.m; row++)
            for (int64_t col = row % 7; col < g.n; col += 7) {
                const double want = exact(&g, at_a, at_b, row, col) + (g.accumulate ? 8 : 0);
                const float got = c[batch * g.m * g.n + row * g.n + col];
                if (!(fabs(got - want) <= 1e-4 * (1 + fabs(want)))) fail_msg("[%d][%d][%d]: %g, not %g", (int)batch, (int)row, (int)col, (double)got, want);
            }
    }
    const int parts = ckpt_dnnl_parts(product);
    free(a), free(b), free(c);
    return parts;
}

static void test_products_in_parts(void **state) {
    (void)state;
    ckpt_dnnl *dnnl;
    ckpt_error err;
    assert_int_equal(ckpt_dnnl_open(&dnnl, &err), CKPT_OK);
    int most = 0, least = 99;
    for (int form = 0; form < 8; form++)
        for (int threads = 1; threads <= 7; threads++) {
            const ckpt_gemm g = {.m = 307, .n = 293, .k = 301, .trans_a = form & 1, .trans_b = form & 2, .alpha = form & 4 ? 0.5f : 1, .accumulate = form & 4};
            const int parts = check_product(dnnl, g, threads);
            assert_true(parts <= threads);
            if (parts > most) most = parts;
            if (parts < least) least = parts;
        }
    assert_int_equal(least, 1);
    assert_true(most >= 4);
    /* Thin either way, and batches: divided along the axis that is long enough. */
    assert_true(check_product(dnnl, (ckpt_gemm){.m = 3, .n = 4001, .k = 2000, .alpha = 1}, 4) > 1);
    assert_true(check_product(dnnl, (ckpt_gemm){.m = 4001, .n = 5, .k = 2000, .alpha = 1, .trans_b = true}, 4) > 1);
    assert_true(check_product(dnnl, (ckpt_gemm){.m = 5, .n = 6, .k = 1 << 19, .alpha = 1}, 4) == 1);
    ckpt_gemm batched = {.m = 70, .n = 80, .k = 90, .alpha = 1, .batch_rank = 2, .batch_dim = {2, 21}, .stride_a = {21, 1}, .stride_b = {0, 1}};
    assert_true(check_product(dnnl, batched, 4) > 2);
    batched = (ckpt_gemm){.m = 300, .n = 200, .k = 150, .alpha = 1, .batch_rank = 2, .batch_dim = {2, 2}, .stride_a = {2, 1}, .stride_b = {2, 1}};
    assert_true(check_product(dnnl, batched, 7) > 2);
    /* A small one is not divided. */
    assert_int_equal(check_product(dnnl, (ckpt_gemm){.m = 100, .n = 100, .k = 100, .alpha = 1}, 64), 1);
    ckpt_dnnl_close(dnnl);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_part_runs_once),      cmocka_unit_test(test_parts_run_side_by_side),
        cmocka_unit_test(test_threads_take_no_signals),   cmocka_unit_test(test_threads_by_the_environment),
        cmocka_unit_test(test_products_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
