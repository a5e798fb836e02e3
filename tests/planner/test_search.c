/* Exact searches over orders and schedules against exhaustive search, and frontiers that they refine. */
#include "cmocka_all.h"

#include <stdio.h>

#include "order_oracle.h"
#include "planner/graph/search.h"
#include "planner/strategies/refine.h"
#include "random_graphs.h"

static ckpt_error g_err;

/* Sanitizers look at the same code with fewer. */
#ifdef __SANITIZE_ADDRESS__
enum { SEARCHED_GRAPHS = 40 };
#else
enum { SEARCHED_GRAPHS = 120 };
#endif

/* One random graph of the i-th kind. */
static void make_graph(int i, ckpt_graph *g) {
    if (i % 4 == 0) graphs_residual_mlp(1, g);
    if (i % 4 == 1) graphs_mlp(i, g);
    if (i % 4 == 2) graphs_several_outputs(g);
    if (i % 4 == 3) graphs_series_parallel(g);
}

enum { MOST_BUDGETS = 4096 };

/* What searches of small graphs said. */
typedef struct searches {
    int whole, gave_up, tight, overstated, used, not_used;
} searches;

/* The optimum of every number of bytes from `least` on. */
typedef struct truth {
    uint64_t least, cost[MOST_BUDGETS];
    uint64_t frontier[MOST_BUDGETS]; /* no less */
    int count;
    uint32_t most_states; /* of a search */
} truth;

/* False where the oracle gives up. */
static bool find_truth(const ckpt_graph *g, truth *t) {
    order_oracle *oracle = order_oracle_open(g, graphs_costs(g), GRAPHS_ALIGNMENT);
    order_frontier f;
    assert_non_null(oracle);
    order_oracle_limit(oracle, 200000);
    const order_answer answer = order_oracle_frontier(oracle, &f);
    assert_true(answer != ORDER_WRONG);
    order_oracle_close(oracle);
    if (answer != ORDER_FOUND) return false;
    t->least = f.point[0].bytes;
    t->count = (int)((f.point[f.count - 1].bytes - t->least) / GRAPHS_ALIGNMENT) + 1;
    assert_true(t->count <= MOST_BUDGETS);
    for (int i = 0, k = 0; i < t->count; i++) {
        while (k + 1 < f.count && f.point[k + 1].bytes <= t->least + (uint64_t)i * GRAPHS_ALIGNMENT) k++;
        t->cost[i] = f.point[k].cost;
    }
    assert_int_equal(t->cost[t->count - 1], 0);
    order_frontier_free(&f);
    return true;
}

/* One number of bytes: with room for all states, and with less and less. */
static void compare_search(const ckpt_graph *g, ckpt_search *search, uint64_t bytes, uint64_t optimum, searches *sum) {
    ckpt_search_result r;
    ckpt_pool pool = {0};
    uint64_t recomputed;
    assert_int_equal(ckpt_search_cheapest(search, bytes, UINT64_MAX / 2, 1 << 20, &pool, &r, &g_err), CKPT_OK);
    assert_true(r.found && r.complete);
    assert_int_equal(r.recompute_cost, optimum);
    assert_int_equal(r.lower_bound_cost, optimum);
    assert_int_equal(r.peak_bytes, graphs_peak(g, &r.schedule, &recomputed));
    assert_int_equal(recomputed, optimum);
    assert_true(r.peak_bytes <= bytes);
    sum->whole++;
    const uint32_t states = r.states;
    assert_int_equal(ckpt_search_cheapest(search, bytes, optimum + 1, 1 << 20, &pool, &r, &g_err), CKPT_OK);
    assert_true(r.found && r.recompute_cost == optimum && r.states <= states);
    assert_int_equal(ckpt_search_cheapest(search, bytes, optimum, 1 << 20, &pool, &r, &g_err), CKPT_OK);
    assert_true(!r.found && r.complete && r.lower_bound_cost == optimum);
    for (uint32_t most = states - 1; most > 0; most = most * 2 / 3) {
        assert_int_equal(ckpt_search_cheapest(search, bytes, UINT64_MAX / 2, most, &pool, &r, &g_err), CKPT_OK);
        assert_true(r.states <= most);
        assert_true(r.lower_bound_cost <= optimum);
        assert_true(!r.found || r.recompute_cost == optimum);
        sum->gave_up += !r.complete;
        sum->tight += !r.complete && optimum > 0 && r.lower_bound_cost == optimum;
        assert_int_equal(ckpt_search_cheapest(search, bytes - bytes / 8, UINT64_MAX / 2, most, &pool, &r, &g_err), CKPT_OK);
        sum->overstated += (r.found || !r.complete) && r.lower_bound_cost > optimum;
    }
    ckpt_pool_free(&pool);
}

/* The least bytes are enough, and less is not, whatever the costs. */
static void compare_feasible(const ckpt_graph *g, ckpt_search *search, uint64_t least) {
    ckpt_search_result r;
    ckpt_pool pool = {0};
    uint64_t recomputed;
    assert_int_equal(ckpt_search_feasible(search, least, 1 << 20, &pool, &r, &g_err), CKPT_OK);
    assert_true(r.found && r.peak_bytes == least && graphs_peak(g, &r.schedule, &recomputed) == least);
    assert_int_equal(ckpt_search_feasible(search, least - GRAPHS_ALIGNMENT, 1 << 20, &pool, &r, &g_err), CKPT_OK);
    assert_true(!r.found && r.complete);
    ckpt_pool_free(&pool);
}

static ckpt_status range_of_truth(void *data, uint64_t bytes, ckpt_range *range, ckpt_error *err) {
    const truth *t = data;
    int from = (int)((bytes - t->least) / GRAPHS_ALIGNMENT);
    if (from >= t->count) from = t->count - 1;
    int to = from;
    while (from > 0 && t->frontier[from - 1] == t->frontier[from]) from--;
    while (to < t->count && t->frontier[to] == t->frontier[from]) to++;
    *range = (ckpt_range){t->least + (uint64_t)from * GRAPHS_ALIGNMENT,
                              to == t->count ? UINT64_MAX : t->least + (uint64_t)to * GRAPHS_ALIGNMENT, t->frontier[from],
                              t->frontier[from] > 0 ? t->most_states : 0};
    (void)err;
    return CKPT_OK;
}

/* Of a frontier that is worse than the optimum (slope: by much, in the smallest steps), with searches that give up: more bytes
 * never cost more, in whatever order they are asked for. */
static void compare_refined(const ckpt_graph *g, ckpt_search *search, truth *t, bool slope, searches *sum) {
    uint64_t cost[MOST_BUDGETS];
    int lag = 0;
    for (int i = 0; i < t->count; i++) {
        lag = lag > 0 ? lag - graphs_between(0, 2) : graphs_between(0, 40);
        t->frontier[i] = t->cost[lag <= 0 ? i : lag < i ? i - lag : 0];
        if (slope) t->frontier[i] = t->cost[0] + (uint64_t)(t->count - i);
        if (i > 0 && t->frontier[i] > t->frontier[i - 1]) t->frontier[i] = t->frontier[i - 1];
    }
    t->frontier[t->count - 1] = 0;
    t->most_states = (uint32_t)graphs_between(2, 60);
    ckpt_refine down = {search, range_of_truth, t, .ranges = NULL};
    for (int i = t->count - 1; i >= 0; i--) {
        ckpt_refine alone = {search, range_of_truth, t, .ranges = NULL};
        ckpt_refined answer, again;
        uint64_t recomputed;
        const uint64_t bytes = t->least + (uint64_t)i * GRAPHS_ALIGNMENT;
        assert_int_equal(ckpt_refine_find(&down, bytes, &answer, &g_err), CKPT_OK);
        assert_int_equal(ckpt_refine_find(&alone, bytes, &again, &g_err), CKPT_OK);
        cost[i] = answer.schedule ? answer.recompute_cost : t->frontier[i];
        assert_true(answer.lower_bound_cost <= t->cost[i] && cost[i] >= t->cost[i] && cost[i] <= t->frontier[i]);
        assert_true((answer.schedule != NULL) == (again.schedule != NULL) && again.lower_bound_cost == answer.lower_bound_cost);
        if (answer.schedule) {
            assert_int_equal(again.recompute_cost, answer.recompute_cost);
            assert_int_equal(again.needed_bytes, answer.needed_bytes);
            assert_int_equal(graphs_peak(g, answer.schedule, &recomputed), answer.needed_bytes);
            assert_int_equal(recomputed, answer.recompute_cost);
            assert_true(answer.needed_bytes <= bytes);
        }
        if (i + 1 < t->count) assert_true(cost[i + 1] <= cost[i]);
        sum->used += answer.schedule != NULL;
        sum->not_used += !answer.schedule && answer.lower_bound_cost == t->cost[i] && cost[i] > t->cost[i];
        ckpt_refine_free(&alone);
    }
    ckpt_refine_free(&down);
}

/* Searches that may give up, of graphs that are small enough for the oracle. */
static void test_searches(void **state) {
    (void)state;
    static truth t;
    searches sum = {0};
    graphs_seed(17);
    for (int i = 0; i < SEARCHED_GRAPHS; i++) {
        ckpt_graph g;
        ckpt_search *search;
        make_graph(i, &g);
        graphs_priced = i % 8 > 4;
        if (find_truth(&g, &t)) {
            ckpt_pool pool = {0};
            ckpt_problem p;
            assert_int_equal(ckpt_problem_open(&g, graphs_costs(&g), GRAPHS_ALIGNMENT, &pool, &p, &g_err), CKPT_OK);
            assert_int_equal(ckpt_search_open(&p, &search, &g_err), CKPT_OK);
            assert_non_null(search);
            for (int k = 0; k < t.count; k++)
                compare_search(&g, search, t.least + (uint64_t)k * GRAPHS_ALIGNMENT, t.cost[k], &sum);
            compare_feasible(&g, search, t.least);
            for (int k = 0; k < 8; k++) compare_refined(&g, search, &t, k % 2, &sum);
            ckpt_search_close(search);
            ckpt_pool_free(&pool);
        }
        ckpt_graph_free(&g);
    }
    graphs_priced = false;
    printf("searches: optimal at all %d budgets; of %d that gave up %d bounds were the optimum, and of an eighth less bytes %d "
           "too high; frontiers improved at %d budgets, and not at %d\n",
           sum.whole, sum.gave_up, sum.tight, sum.overstated, sum.used, sum.not_used);
    assert_true(sum.whole > 500 && sum.gave_up > 1000 && sum.overstated > 0 && sum.used > 0 && sum.not_used > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_searches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
