/* Frontier and reports: points are plans, areas are bytes, names are text. */
#include "cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan_graphs.h"
#include "planner/core/liveness.h"
#include "planner/report/report.h"
#include "planner/report/usage.h"
#include "xml_check.h"

static ckpt_graph graph, eval;
static ckpt_plan *plan;

static void make_graph(plan_graph_kind kind, int layers) {
    plan_graph_make(&(plan_graph_options){.kind = kind, .layers = layers, .width = 48, .batch = 20, .optimizer = CKPT_OPTIMIZER_ADAM},
                    &graph, &eval);
}

static void make_plan(ckpt_strategy strategy, uint64_t budget) {
    ckpt_error err;
    const ckpt_plan_options options = {.strategy = strategy, .budget_bytes = budget, .eval = &eval};
    if (ckpt_plan_make(&graph, &options, &plan_graph_traits, NULL, &plan, &err) != CKPT_OK) fail_msg("%s", err.message);
}

static void drop_graph(void) {
    ckpt_graph_free(&graph);
    ckpt_graph_free(&eval);
}

static void find_frontier(int most, ckpt_frontier *f) {
    ckpt_error err;
    if (ckpt_frontier_find(&graph, &eval, NULL, &plan_graph_traits, most, f, &err) != CKPT_OK) fail_msg("%s", err.message);
}

/* Every point is what the budget of its bytes gives, and a byte less gives more recomputation or nothing. */
static void check_points(const ckpt_frontier *f) {
    for (int i = 0; i < f->count; i++) {
        const ckpt_frontier_point *p = &f->point[i];
        if (i) assert_true(p->total_bytes > p[-1].total_bytes && p->recompute_flops < p[-1].recompute_flops);
        assert_true(p->lower_bound_cost <= p->recompute_cost);
        make_plan(CKPT_STRATEGY_BUDGET, p->total_bytes);
        assert_true(plan->memory.total <= p->total_bytes);
        assert_true(plan->compute.recompute_flops <= p->recompute_flops);
        if (f->complete) {
            assert_int_equal(plan->compute.recompute_flops, p->recompute_flops);
            assert_int_equal(plan->memory.total, p->total_bytes);
        }
        ckpt_plan_free(plan);
        ckpt_error err;
        const ckpt_plan_options less = {.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = p->total_bytes - 1, .eval = &eval};
        const ckpt_status status = ckpt_plan_make(&graph, &less, &plan_graph_traits, NULL, &plan, &err);
        assert_int_equal(status, i ? CKPT_OK : CKPT_INFEASIBLE);
        if (i && f->complete) assert_true(plan->compute.recompute_flops > p->recompute_flops);
        ckpt_plan_free(plan);
    }
    for (int i = 1; i < f->bound_count; i++)
        assert_true(f->bound[i].total_bytes > f->bound[i - 1].total_bytes && f->bound[i].cost <= f->bound[i - 1].cost);
}

static void test_frontier(void **state) {
    (void)state;
    for (int kind = 0; kind < PLAN_GRAPH_KINDS; kind++) {
        make_graph((plan_graph_kind)kind, 9);
        ckpt_frontier f;
        find_frontier(CKPT_FRONTIER_POINTS, &f);
        assert_true(f.complete && f.count > 2);
        check_points(&f);
        uint64_t most, least;
        plan_graph_extremes(&graph, &eval, &most, &least);
        assert_int_equal(f.point[0].total_bytes, least);
        assert_true(f.point[f.count - 1].total_bytes <= most);
        assert_int_equal(f.point[f.count - 1].recompute_flops, 0);
        ckpt_frontier_free(&f);
        drop_graph();
    }
}

/* Fewer points than there are plans: spread over the curve, and said to be incomplete. */
static void test_few_points(void **state) {
    (void)state;
    make_graph(PLAN_GRAPH_MLP, 60);
    ckpt_frontier f;
    find_frontier(9, &f);
    assert_false(f.complete);
    assert_in_range(f.count, 5, 11);
    check_points(&f);
    const uint64_t span = f.point[f.count - 1].total_bytes - f.point[0].total_bytes;
    for (int i = 1; i < f.count; i++) assert_true(f.point[i].total_bytes - f.point[i - 1].total_bytes < span * 2 / 3);
    ckpt_frontier_free(&f);
    drop_graph();
}

/* Columns against liveness, which counts for itself. */
static void check_usage(int most_columns) {
    ckpt_pool pool = {0};
    ckpt_error err;
    ckpt_usage u;
    ckpt_liveness live;
    ckpt_schedule schedule = {.count = plan->step_count, .node = ckpt_pool_array(&pool, plan->step_count, int)};
    for (int s = 0; s < plan->step_count; s++) schedule.node[s] = plan->step[s].node;
    assert_int_equal(ckpt_liveness_find(&graph, &schedule, plan->alignment_bytes, &pool, &live, &err), CKPT_OK);
    assert_int_equal(ckpt_usage_find(&graph, plan, most_columns, &pool, &u, &err), CKPT_OK);
    assert_int_equal(u.peak_bytes, live.peak_bytes);
    int next = 0;
    for (int c = 0; c < u.column_count; c++) {
        uint64_t sum = 0, most = 0;
        assert_int_equal(u.column[c].first, next);
        next = u.column[c].end;
        for (int b = 0; b < u.band_count; b++) sum += u.bytes[c * u.band_count + b];
        for (int s = u.column[c].first; s < u.column[c].end; s++)
            if (live.live_bytes[s] > most) most = live.live_bytes[s];
        assert_int_equal(sum, most);
        assert_int_equal(u.column[c].live_bytes, most);
    }
    assert_int_equal(next, plan->step_count);
    ckpt_pool_free(&pool);
}

static void test_bands_add_up(void **state) {
    (void)state;
    for (int kind = 0; kind < PLAN_GRAPH_KINDS; kind++) {
        make_graph((plan_graph_kind)kind, 25);
        static const ckpt_strategy strategies[] = {CKPT_STRATEGY_NONE, CKPT_STRATEGY_SQRT, CKPT_STRATEGY_MIN};
        for (int i = 0; i < 3; i++) {
            make_plan(strategies[i], 0);
            check_usage(1 << 20);
            check_usage(37); /* several steps a column */
            ckpt_plan_free(plan);
        }
        drop_graph();
    }
}

static ckpt_report report_of(const ckpt_frontier *f, const char *model) {
    return (ckpt_report){.graph = &graph, .plan = plan, .frontier = f, .model = model, .step = "batch 20", .precision = "fp32",
                         .parts = 1, .compute = plan->compute, .store_all_bytes = plan->memory.total};
}

/* Twice the area that the path at `d` encloses (shoelace). */
static double area_of(const char *d) {
    double x = 0, y = 0, x0 = 0, y0 = 0, sum = 0;
    for (char *end; *d && *d != '"'; d = end) {
        const char command = *d++;
        end = (char *)d;
        if (command == 'Z') {
            sum += x * y0 - x0 * y;
            continue;
        }
        const double a = strtod(d, &end), px = x, py = y;
        if (command == 'M') {
            x0 = x = a;
            y0 = y = strtod(end, &end);
            continue;
        }
        if (command == 'H') x = a;
        else y = a;
        sum += px * y - x * py;
    }
    return fabs(sum) / 2;
}

/* Pixels of all bands in the chart, as drawn, against the bytes of all steps. */
static void test_areas_are_bytes(void **state) {
    (void)state;
    ckpt_error err;
    make_graph(PLAN_GRAPH_RESIDUAL, 21);
    make_plan(CKPT_STRATEGY_SQRT, 0);
    ckpt_markup svg = {0};
    const ckpt_report report = report_of(NULL, "m");
    assert_int_equal(ckpt_report_memory_svg(&report, &svg, &err), CKPT_OK);
    assert_null(xml_fault(svg.text));
    double drawn = 0;
    int hatched = 0;
    for (const char *at = svg.text; (at = strstr(at, "<path ")); at++) {
        hatched += strncmp(at, "<path fill=\"url(#hatch)\"", 24) == 0;
        if (strncmp(at, "<path fill=\"#", 13) == 0 || strncmp(at, "<path class=\"rest\"", 18) == 0) drawn += area_of(strstr(at, " d=\"") + 4);
    }
    assert_true(hatched > 0);
    uint64_t *live = calloc((size_t)plan->step_count, sizeof *live), most = 0;
    double sum = 0;
    ckpt_plan_live_bytes(plan, live);
    for (int s = 0; s < plan->step_count; s++) {
        sum += (double)live[s];
        if (live[s] > most) most = live[s];
    }
    /* 1088 by 290 pixels of plot, a tenth of air above */
    const double expected = sum * 1088 / plan->step_count * 290 / (1.1 * (double)most);
    if (fabs(drawn - expected) > 0.005 * expected) fail_msg("drawn %.1f, expected %.1f", drawn, expected);
    free(live);
    ckpt_markup_free(&svg);
    ckpt_plan_free(plan);
    drop_graph();
}

static const char hostile[] = "</title></script><img src=x onerror=alert(1)>\"]; evil [label=\"x' & \\ \n\x01\xff\xc0\x80\xed\xa0\x80\xe2\x80\xae--> %s %n";

static void test_hostile_names(void **state) {
    (void)state;
    ckpt_error err;
    make_graph(PLAN_GRAPH_MLP, 9);
    make_plan(CKPT_STRATEGY_SQRT, 0);
    for (int n = 0; n < graph.node_count; n++) graph.node[n].name = hostile;
    for (int i = 0; i < graph.layer_count; i++) graph.layer[i].name = hostile;
    plan->strategy = hostile;
    ckpt_frontier f;
    find_frontier(8, &f);
    const ckpt_report report = report_of(&f, hostile);
    ckpt_status (*const write[])(const ckpt_report *, ckpt_markup *, ckpt_error *) = {ckpt_report_html, ckpt_report_memory_svg,
                                                                                      ckpt_report_frontier_svg};
    for (int i = 0; i < 3; i++) {
        ckpt_markup out = {0};
        assert_int_equal(write[i](&report, &out, &err), CKPT_OK);
        const char *fault = xml_fault(out.text);
        if (fault) fail_msg("%d: %s", i, fault);
        assert_int_equal(strlen(out.text), out.length);
        assert_null(strstr(out.text, "<img"));
        assert_null(strstr(out.text, "\xff"));
        assert_null(strstr(out.text, "\xed\xa0"));
        assert_null(strstr(out.text, "\xe2\x80\xae"));
        assert_null(strstr(out.text, "https://"));
        ckpt_markup_free(&out);
    }
    ckpt_frontier_free(&f);
    ckpt_plan_free(plan);
    drop_graph();
}

/* What stands outside of quoted strings is the program's own. */
static void test_dot(void **state) {
    (void)state;
    ckpt_error err;
    make_graph(PLAN_GRAPH_MLP, 9);
    make_plan(CKPT_STRATEGY_SQRT, 0);
    for (int names = 0; names < 2; names++) {
        for (int n = 0; n < graph.node_count && names; n++) graph.node[n].name = hostile;
        for (int i = 0; i < graph.layer_count && names; i++) graph.layer[i].name = hostile;
        ckpt_markup dot = {0};
        const ckpt_report report = report_of(NULL, names ? hostile : "m");
        assert_int_equal(ckpt_report_dot(&report, &dot, &err), CKPT_OK);
        char *bare = calloc(dot.length + 1, 1), *to = bare;
        bool quoted = false;
        int again = 0, kept = 0;
        for (const char *at = dot.text; *at; at++) {
            if (quoted && *at == '\\') at++;
            else if (*at == '"') quoted = !quoted;
            else if (!quoted) *to++ = *at;
            if (quoted) assert_int_not_equal(*at, '\n');
        }
        assert_false(quoted);
        assert_null(strstr(bare, "evil"));
        assert_int_equal(strncmp(bare, "digraph training {", 18), 0);
        for (const char *at = dot.text; (at = strstr(at, "tooltip=\"")); at++) {
            again += strncmp(at + 9, "recomputed", 10) == 0;
            kept += strncmp(at + 9, "kept", 4) == 0;
        }
        assert_int_equal(again, plan->compute.recomputed_nodes); /* each once more in this plan */
        assert_true(kept > 0);
        free(bare);
        ckpt_markup_free(&dot);
    }
    ckpt_plan_free(plan);
    drop_graph();
}

/* The checker of this test can fail. */
static void test_xml_check(void **state) {
    (void)state;
    assert_null(xml_fault("<!DOCTYPE html>\n<a b=\"1\"><c/>x &amp; &#39;</a>\n"));
    static const char *const wrong[] = {"<a>", "<a></b>", "<a b=1/>", "<a b=\"<\"/>", "<a>&nope;</a>", "<a/><b/>", "x", "<a>\x01</a>",
                                        "<a b=\"\"c=\"\"/>"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) assert_non_null(xml_fault(wrong[i]));
}

static void test_a_report_of_a_long_plan(void **state) {
    (void)state;
    ckpt_error err;
    make_graph(PLAN_GRAPH_MLP, 120);
    make_plan(CKPT_STRATEGY_MIN, 0);
    assert_true(plan->step_count > 1000);
    ckpt_markup page = {0};
    const ckpt_report report = report_of(NULL, "long");
    assert_int_equal(ckpt_report_html(&report, &page, &err), CKPT_OK);
    assert_null(xml_fault(page.text));
    assert_true(page.length < 1 << 20);
    int columns = 0;
    for (const char *at = page.text; (at = strstr(at, "<rect class=\"hit\"")); at++) columns++;
    assert_int_equal(columns, 480);
    ckpt_markup_free(&page);
    ckpt_plan_free(plan);
    drop_graph();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frontier),       cmocka_unit_test(test_few_points),     cmocka_unit_test(test_bands_add_up),
        cmocka_unit_test(test_areas_are_bytes), cmocka_unit_test(test_hostile_names), cmocka_unit_test(test_dot),
        cmocka_unit_test(test_xml_check),      cmocka_unit_test(test_a_report_of_a_long_plan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
