/* Whole plans: what each strategy keeps and recomputes, budgets, and the totals that others rely on. */
#include "cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "graph/op.h"
#include "plan_graphs.h"
#include "planner/check/check.h"
#include "planner/core/schedule.h"

static ckpt_plan *plan_with(const ckpt_graph *g, ckpt_plan_options options) {
    ckpt_plan *plan;
    ckpt_error err = {0};
    if (ckpt_plan_make(g, &options, &plan_graph_traits, NULL, &plan, &err) != CKPT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(ckpt_plan_check(g, plan, options.eval, &err), CKPT_OK);
    return plan;
}

static void make(plan_graph_kind kind, int layers, ckpt_graph *g, ckpt_graph *eval) {
    plan_graph_make(
        &(plan_graph_options){
            .kind = kind, .layers = layers, .width = 64, .batch = 16, .optimizer = CKPT_OPTIMIZER_ADAM},
        g, eval);
}

/* --- every strategy on every kind of graph --- */

static void every_strategy_makes_a_checked_plan(void **state) {
    (void)state;
    for (int kind = 0; kind < PLAN_GRAPH_KINDS; kind++)
        for (int layers = 2; layers <= 14; layers += 4)
            for (int accumulate = 0; accumulate < 2; accumulate++) {
                ckpt_graph g, eval;
                plan_graph_make(
                    &(plan_graph_options){.kind = kind,
                                          .layers = layers,
                                          .width = 48,
                                          .batch = 8,
                                          .optimizer = (ckpt_optimizer)(layers / 4 % CKPT_OPTIMIZER_COUNT),
                                          .accumulate = accumulate},
                    &g, &eval);
                uint64_t all, least;
                plan_graph_extremes(&g, &eval, &all, &least);
                assert_true(least <= all);
                for (int s = 0; s < CKPT_STRATEGY_COUNT; s++) {
                    ckpt_plan *plan = plan_with(&g, (ckpt_plan_options){.strategy = (ckpt_strategy)s,
                                                                        .every = 2,
                                                                        .layers = "1",
                                                                        .budget_bytes = (all + least) / 2,
                                                                        .eval = &eval});
                    assert_true(plan->memory.arena >= plan->memory.live_peak);
                    assert_true(s == CKPT_STRATEGY_NONE ? plan->compute.recompute_flops == 0 : true);
                    if (s == CKPT_STRATEGY_BUDGET) assert_true(plan->memory.total <= (all + least) / 2);
                    if (s == CKPT_STRATEGY_MIN) assert_true(plan->memory.total == least);
                    ckpt_plan_free(plan);
                }
                ckpt_graph_free(&g);
                ckpt_graph_free(&eval);
            }
}

static void totals_are_sums_of_what_they_name(void **state) {
    (void)state;
    ckpt_graph g, eval;
    make(PLAN_GRAPH_MLP, 4, &g, &eval);
    ckpt_plan *p = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_NONE, .eval = &eval});
    /* w: 64x32, 64x64, 64x64, 10x64; b: 64, 64, 64, 10 floats; each rounded up to 256 bytes */
    const uint64_t weights = 8192 + 2 * 16384 + 2560 + 4 * 256;
    assert_int_equal(p->memory.parameters, weights);
    assert_int_equal(p->memory.optimizer, 2 * weights); /* Adam's two moments */
    assert_int_equal(p->memory.gradients, 0);
    /* two buffers of x (16x32 floats) and target (16 ints), one result */
    assert_int_equal(p->memory.inputs, 2 * (2048 + 256) + 256);
    assert_int_equal(p->memory.workspace, 4096);
    assert_int_equal(p->memory.total, p->memory.parameters + p->memory.optimizer + p->memory.inputs +
                                          p->memory.workspace + p->memory.arena);
    ckpt_plan_free(p);
    ckpt_graph_free(&g);
    ckpt_graph_free(&eval);
}

static void accumulation_adds_gradients(void **state) {
    (void)state;
    ckpt_graph g;
    plan_graph_make(
        &(plan_graph_options){
            .kind = PLAN_GRAPH_MLP, .layers = 5, .width = 64, .batch = 16, .accumulate = true},
        &g, NULL);
    ckpt_plan *p = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_SQRT});
    assert_int_equal(p->memory.gradients, p->memory.parameters);
    ckpt_plan_free(p);
    ckpt_graph_free(&g);
}

static void a_forward_graph_can_be_planned(void **state) {
    (void)state;
    ckpt_graph g, eval;
    make(PLAN_GRAPH_PRENORM, 8, &g, &eval);
    ckpt_plan *p = plan_with(&eval, (ckpt_plan_options){.strategy = CKPT_STRATEGY_NONE});
    assert_int_equal(p->step_count, eval.node_count);
    assert_int_equal(p->compute.backward_flops, 0);
    ckpt_plan *train = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_MIN, .eval = &eval});
    assert_int_equal(train->memory.eval_arena, p->memory.arena);
    assert_true(train->memory.arena >= p->memory.arena);
    ckpt_plan_free(train);
    ckpt_plan_free(p);
    ckpt_graph_free(&g);
    ckpt_graph_free(&eval);
}

/* An evaluation graph that needs more than the step decides the step region, and budgets know it. */
static void evaluation_counts_in_the_step_region(void **state) {
    (void)state;
    ckpt_graph g, other, eval;
    make(PLAN_GRAPH_MLP, 4, &g, NULL);
    make(PLAN_GRAPH_MLP, 4, &other, &eval);
    /* A wider activation in evaluation only: the first layer's output. */
    for (int t = 0; t < eval.tensor_count; t++)
        if (eval.tensor[t].role == CKPT_ROLE_STEP) {
            eval.tensor[t].dim[0] *= 1000;
            eval.tensor[t].count *= 1000;
            break;
        }
    ckpt_plan *p = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_NONE, .eval = &eval});
    assert_int_equal(p->memory.arena, p->memory.eval_arena);
    assert_int_equal(p->memory.live_peak, p->memory.eval_live_peak);
    ckpt_plan *without = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_NONE});
    assert_true(without->memory.arena < p->memory.arena);
    ckpt_plan_minimum least = {0};
    ckpt_error err;
    ckpt_plan *none;
    const ckpt_plan_options low = {
        .strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = p->memory.total - 1, .eval = &eval};
    assert_int_equal(ckpt_plan_make(&g, &low, &plan_graph_traits, &least, &none, &err), CKPT_INFEASIBLE);
    assert_int_equal(least.total, p->memory.total);
    ckpt_plan_free(p);
    ckpt_plan_free(without);
    ckpt_graph_free(&g);
    ckpt_graph_free(&other);
    ckpt_graph_free(&eval);
}

/* --- what is kept --- */

static void none_runs_every_node_once_in_order(void **state) {
    (void)state;
    ckpt_graph g;
    make(PLAN_GRAPH_GELU, 9, &g, NULL);
    ckpt_plan *p = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_NONE});
    assert_int_equal(p->step_count, g.node_count);
    for (int s = 0; s < p->step_count; s++) assert_int_equal(p->step[s].node, s);
    assert_true(p->bound.proved && p->bound.lower_bound_flops == 0);
    ckpt_plan_free(p);
    ckpt_graph_free(&g);
}

static void sqrt_of_64_equal_layers(void **state) {
    (void)state;
    ckpt_graph g;
    plan_graph_make(&(plan_graph_options){.kind = PLAN_GRAPH_MLP, .layers = 64, .width = 256, .batch = 64},
                    &g, NULL);
    ckpt_plan *all = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_NONE});
    ckpt_plan *p = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_SQRT});
    /* Segments of 8, whose closing layers are kept. */
    int recomputed = 0;
    for (int i = 0; i < 64; i++) {
        assert_int_equal(p->layer_recomputed[i], i % 8 != 7);
        recomputed += p->layer_recomputed[i];
    }
    assert_int_equal(recomputed, 56);
    assert_int_equal(p->compute.recomputed_nodes, 56);
    assert_true(p->compute.recompute_flops < p->compute.forward_flops);
    assert_true(p->memory.arena * 100 <= all->memory.arena * 33);
    /* Negative control: the same question has another answer for segments of 4. */
    ckpt_plan *four = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_EVERY, .every = 4});
    assert_false(four->layer_recomputed[3]);
    assert_true(four->layer_recomputed[4]);
    assert_true(p->layer_recomputed[3]);
    ckpt_plan_free(all);
    ckpt_plan_free(p);
    ckpt_plan_free(four);
    ckpt_graph_free(&g);
}

static void every_is_sqrt_where_it_says_the_same(void **state) {
    (void)state;
    ckpt_graph g;
    make(PLAN_GRAPH_PRENORM, 16, &g, NULL);
    ckpt_plan *a = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_SQRT});
    ckpt_plan *b = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_EVERY, .every = 4});
    ckpt_plan *c = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_EVERY, .every = 5});
    assert_true(plan_steps_equal(a, b));
    assert_memory_equal(a->instance, b->instance, (size_t)a->instance_count * sizeof *a->instance);
    assert_false(plan_steps_equal(a, c));
    assert_string_equal(b->strategy, "every=4");
    ckpt_plan_free(a);
    ckpt_plan_free(b);
    ckpt_plan_free(c);
    /* K beyond the last layer: one segment, of which only what the loss reads is kept. */
    ckpt_plan *whole = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_EVERY, .every = 1 << 30});
    for (int i = 0; i < 16; i++) assert_int_equal(whole->layer_recomputed[i], i != 15);
    ckpt_plan_free(whole);
    ckpt_graph_free(&g);
}

static void exactly_the_listed_layers_recompute(void **state) {
    (void)state;
    static const struct {
        const char *list;
        unsigned layers; /* bit by index */
    } cases[] = {
        {"fc1", 2},        {"2", 4}, {"1-4", 30}, {"fc[12]", 6},   {"fc*", 1023}, {" fc3 , 5-6", 8 + 96},
        {"fc4,fc4,4", 16}, {"0", 1}, {"*", 1023}, {"8-8,fc1", 258}};
    for (int kind = 0; kind < 2; kind++) { /* MLP and GELU: in both every layer's tensors are read backward */
        ckpt_graph g;
        make(kind == 0 ? PLAN_GRAPH_MLP : PLAN_GRAPH_GELU, 10, &g, NULL);
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            ckpt_plan *p =
                plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_LAYERS, .layers = cases[c].list});
            for (int i = 0; i < 10; i++)
                if (p->layer_recomputed[i] != (cases[c].layers >> i & 1))
                    fail_msg("'%s': layer %d", cases[c].list, i);
            ckpt_plan_free(p);
        }
        ckpt_graph_free(&g);
    }
}

static void bad_layer_lists_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *list, *says;
    } cases[] = {{NULL, "--layers"},
                 {"", "--layers"},
                 {"fcl", "'fc1' (1)"},
                 {"fc1,", "empty"},
                 {"10", "0 to 9"},
                 {"3-99999999999", "0 to 9"},
                 {"5-2", "ends before"},
                 {"conv*", "nearest"},
                 {"-1", "nearest"},
                 {"1-", "nearest"},
                 {"fc12", "'fc1' (1), 'fc2' (2)"}};
    ckpt_graph g;
    make(PLAN_GRAPH_MLP, 10, &g, NULL);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        ckpt_plan *p;
        ckpt_error err = {0};
        const ckpt_plan_options options = {.strategy = CKPT_STRATEGY_LAYERS, .layers = cases[c].list};
        assert_int_equal(ckpt_plan_make(&g, &options, &plan_graph_traits, NULL, &p, &err), CKPT_USAGE);
        assert_null(p);
        if (!strstr(err.message, cases[c].says))
            fail_msg("'%s' is answered '%s'", cases[c].list, err.message);
    }
    ckpt_plan *p;
    ckpt_error err;
    const ckpt_plan_options zero = {.strategy = CKPT_STRATEGY_EVERY, .every = 0};
    assert_int_equal(ckpt_plan_make(&g, &zero, &plan_graph_traits, NULL, &p, &err), CKPT_USAGE);
    ckpt_graph_free(&g);
}

static void selective_recomputes_no_product_and_saves(void **state) {
    (void)state;
    static const plan_graph_kind kinds[] = {PLAN_GRAPH_GELU, PLAN_GRAPH_PRENORM};
    for (int k = 0; k < 2; k++) {
        ckpt_graph g;
        make(kinds[k], 24, &g, NULL);
        ckpt_plan *all = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_NONE});
        ckpt_plan *p = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_SELECTIVE});
        assert_true(p->compute.recomputed_nodes > 0);
        for (int s = 0; s < p->step_count; s++)
            if (p->step[s].recompute)
                assert_false(ckpt_op_info(g.node[p->step[s].node].op)->flags & CKPT_MATMUL);
        assert_true(p->memory.arena * 10 < all->memory.arena * 7);
        ckpt_plan_free(all);
        ckpt_plan_free(p);
        ckpt_graph_free(&g);
    }
}

/* A tensor whose maker reads an updated parameter cannot be made again: it is kept although the choice drops
 * it. */
static void what_cannot_be_made_again_is_kept(void **state) {
    (void)state;
    ckpt_graph g;
    make(PLAN_GRAPH_MLP, 6, &g, NULL);
    /* A late reader: an ACT_GRAD appended behind everything reads the first layer's output. */
    const int first = g.node[0].out[0];
    const int in[2] = {first, first};
    ckpt_error err;
    const int64_t dims[2] = {16, 64};
    const int out = ckpt_graph_add_tensor(&g, "late", CKPT_F32, CKPT_ROLE_STEP, 2, dims, &err);
    assert_true(ckpt_graph_add_node(&g, CKPT_OP_ACT_GRAD, CKPT_BACKWARD, "late", 2, in, 1, &out, &err) >= 0);
    ckpt_graph_compute_hash(&g);
    ckpt_plan *p = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_LAYERS, .layers = "*"});
    assert_false(p->layer_recomputed[0]);
    assert_true(p->layer_recomputed[1]);
    ckpt_plan_free(p);
    ckpt_graph_free(&g);
}

/* --- budgets --- */

static void the_smallest_feasible_budget_works_exactly(void **state) {
    (void)state;
    for (int kind = 0; kind < PLAN_GRAPH_KINDS; kind++) {
        ckpt_graph g, eval;
        make(kind, 12, &g, &eval);
        ckpt_plan_minimum least = {0};
        ckpt_error err = {0};
        ckpt_plan *p;
        ckpt_plan_options options = {.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = 1000, .eval = &eval};
        assert_int_equal(ckpt_plan_make(&g, &options, &plan_graph_traits, &least, &p, &err), CKPT_INFEASIBLE);
        char digits[32];
        snprintf(digits, sizeof digits, "%llu bytes (", (unsigned long long)least.total);
        assert_non_null(strstr(err.message, digits));
        options.budget_bytes = least.total;
        p = plan_with(&g, options);
        assert_int_equal(p->memory.total, least.total);
        ckpt_plan_free(p);
        options.budget_bytes = least.total - 1;
        assert_int_equal(ckpt_plan_make(&g, &options, &plan_graph_traits, &least, &p, &err), CKPT_INFEASIBLE);
        assert_int_equal(least.total, options.budget_bytes + 1);
        options.budget_bytes = 0;
        assert_int_equal(ckpt_plan_make(&g, &options, &plan_graph_traits, NULL, &p, &err), CKPT_INFEASIBLE);
        ckpt_graph_free(&g);
        ckpt_graph_free(&eval);
    }
}

static void smaller_budgets_never_get_larger_peaks(void **state) {
    (void)state;
    for (int kind = 0; kind < PLAN_GRAPH_KINDS; kind++) {
        ckpt_graph g;
        make(kind, 12, &g, NULL);
        uint64_t all, least;
        plan_graph_extremes(&g, NULL, &all, &least);
        uint64_t total = UINT64_MAX, recompute = 0;
        bool recomputes = false;
        enum { BUDGETS = 20 };
        for (int i = 0; i <= BUDGETS; i++) {
            const uint64_t budget = all + 1024 - (all + 1024 - least) * (uint64_t)i / BUDGETS;
            ckpt_plan *p =
                plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = budget});
            assert_true(p->memory.total <= budget);
            assert_true(p->memory.total <= total);
            if (i == 0) assert_int_equal(p->compute.recompute_flops, 0); /* all fits */
            total = p->memory.total;
            recomputes |= p->compute.recompute_flops > recompute;
            recompute = p->compute.recompute_flops;
            ckpt_plan_free(p);
        }
        assert_true(recomputes || all == least);
        ckpt_graph_free(&g);
    }
}

static void budget_beats_sqrt_at_its_own_peak(void **state) {
    (void)state;
    ckpt_graph g;
    make(PLAN_GRAPH_MLP, 64, &g, NULL);
    ckpt_plan *s = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_SQRT});
    ckpt_plan *b =
        plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = s->memory.total});
    assert_true(b->compute.recompute_flops < s->compute.recompute_flops);
    ckpt_plan_free(s);
    ckpt_plan_free(b);
    ckpt_graph_free(&g);
}

/* Equal layers, many of them: the tables are for every one, and nearly as good as any schedule can be. */
static void a_thousand_layers_are_near_the_bound(void **state) {
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    const int layers = 600;
#else
    const int layers = 1000;
#endif
    ckpt_graph g;
    make(PLAN_GRAPH_MLP, layers, &g, NULL);
    uint64_t all, least;
    plan_graph_extremes(&g, NULL, &all, &least);
    for (uint64_t part = 3; part <= 5; part += 2) {
        const uint64_t budget = least + (all - least) * part / 7;
        ckpt_plan *p = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = budget});
        const uint64_t gap = p->compute.recompute_cost - p->bound.lower_bound_cost;
        assert_true(p->compute.recompute_cost > 0 && p->memory.total <= budget);
        assert_true(200 * gap <= p->compute.step_cost);
        ckpt_plan_free(p);
    }
    /* Which says something: plans of this kind are not all near it. */
    ckpt_plan *s = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_SQRT});
    assert_true(200 * (s->compute.recompute_cost - s->bound.lower_bound_cost) > s->compute.step_cost);
    ckpt_plan_free(s);
    ckpt_graph_free(&g);
}

static void the_same_question_has_the_same_answer(void **state) {
    (void)state;
    ckpt_graph g;
    make(PLAN_GRAPH_HOURGLASS, 20, &g, NULL);
    const ckpt_plan_options options = {.strategy = CKPT_STRATEGY_MIN};
    ckpt_plan *a = plan_with(&g, options), *b = plan_with(&g, options);
    assert_int_equal(a->instance_count, b->instance_count);
    assert_memory_equal(a->instance, b->instance, (size_t)a->instance_count * sizeof *a->instance);
    ckpt_plan *c = plan_with(&g, (ckpt_plan_options){.strategy = CKPT_STRATEGY_NONE});
    assert_true(c->instance_count != a->instance_count);
    ckpt_plan_free(a);
    ckpt_plan_free(b);
    ckpt_plan_free(c);
    ckpt_graph_free(&g);
}

static void huge_models_are_refused_not_wrapped(void **state) {
    (void)state;
    ckpt_graph g;
    make(PLAN_GRAPH_MLP, 4, &g, NULL);
    ckpt_error err;
    const int64_t dims[1] = {(int64_t)1 << 58};
    for (int i = 0; i < 5; i++)
        assert_true(ckpt_graph_add_tensor(&g, "huge", CKPT_F64, CKPT_ROLE_CONST, 1, dims, &err) >= 0);
    ckpt_plan *p;
    assert_int_equal(ckpt_plan_make(&g, &(ckpt_plan_options){0}, &plan_graph_traits, NULL, &p, &err),
                     CKPT_MODEL);
    ckpt_graph_free(&g);
}

static void strategy_names_parse(void **state) {
    (void)state;
    for (int s = 0; s < CKPT_STRATEGY_COUNT; s++) {
        ckpt_strategy parsed;
        assert_true(ckpt_strategy_parse(ckpt_strategy_name((ckpt_strategy)s), &parsed));
        assert_int_equal(parsed, s);
    }
    ckpt_strategy parsed;
    assert_false(ckpt_strategy_parse("SQRT", &parsed));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_strategy_makes_a_checked_plan),
        cmocka_unit_test(totals_are_sums_of_what_they_name),
        cmocka_unit_test(accumulation_adds_gradients),
        cmocka_unit_test(a_forward_graph_can_be_planned),
        cmocka_unit_test(evaluation_counts_in_the_step_region),
        cmocka_unit_test(none_runs_every_node_once_in_order),
        cmocka_unit_test(sqrt_of_64_equal_layers),
        cmocka_unit_test(every_is_sqrt_where_it_says_the_same),
        cmocka_unit_test(exactly_the_listed_layers_recompute),
        cmocka_unit_test(bad_layer_lists_are_refused),
        cmocka_unit_test(selective_recomputes_no_product_and_saves),
        cmocka_unit_test(what_cannot_be_made_again_is_kept),
        cmocka_unit_test(the_smallest_feasible_budget_works_exactly),
        cmocka_unit_test(smaller_budgets_never_get_larger_peaks),
        cmocka_unit_test(budget_beats_sqrt_at_its_own_peak),
        cmocka_unit_test(a_thousand_layers_are_near_the_bound),
        cmocka_unit_test(the_same_question_has_the_same_answer),
        cmocka_unit_test(huge_models_are_refused_not_wrapped),
        cmocka_unit_test(strategy_names_parse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
