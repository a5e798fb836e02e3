/* The checker: thousands of mutations of good plans. It may accept only what computes the same and is as
 * stated; an oracle that runs plans on symbols (plan_oracle.h) decides which mutations those are. */
#include "cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "graph/op.h"
#include "plan_graphs.h"
#include "plan_oracle.h"
#include "planner/check/check.h"
#include "planner/packing/layout.h"
#include "planner/core/schedule.h"

static uint64_t random_state = 20240229;
static uint64_t next_random(uint64_t below) { /* xorshift64* (Vigna 2016) */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * 2685821657736338717ull >> 33) % below;
}
static int pick(int count) {
    return (int)next_random((uint64_t)count);
}

static void *copy_of(ckpt_pool *pool, const void *from, size_t count, size_t size) {
    void *copy = ckpt_pool_alloc(pool, count + 1, size); /* room for one more */
    assert_non_null(copy);
    if (count) memcpy(copy, from, count * size);
    return copy;
}

static ckpt_plan clone(const ckpt_plan *plan, ckpt_pool *pool) {
    ckpt_plan c = *plan;
    c.step = ckpt_plan_copy_steps(plan->step, plan->step_count, pool);
    assert_non_null(c.step);
    c.instance = copy_of(pool, plan->instance, (size_t)plan->instance_count, sizeof *plan->instance);
    c.persistent_offset =
        copy_of(pool, plan->persistent_offset, (size_t)plan->tensor_count, sizeof(uint64_t));
    c.layer_recomputed = copy_of(pool, plan->layer_recomputed, (size_t)plan->layer_count, sizeof(bool));
    return c;
}

/* --- mutations of single fields: each makes a plan that is not what it says, but for a few that `may_hold`
 * --- */

static void remove_step(ckpt_plan *p) {
    const int s = pick(p->step_count);
    memmove(p->step + s, p->step + s + 1, (size_t)(p->step_count - s - 1) * sizeof *p->step);
    p->step_count--;
}

static void duplicate_step(ckpt_plan *p) {
    const int s = pick(p->step_count), to = pick(p->step_count + 1);
    const ckpt_plan_step step = p->step[s];
    memmove(p->step + to + 1, p->step + to, (size_t)(p->step_count - to) * sizeof *p->step);
    p->step[to] = step;
    p->step_count++;
}

static void swap_steps(ckpt_plan *p) {
    const int s = pick(p->step_count - 1), t = pick(2) ? s + 1 : pick(p->step_count);
    const ckpt_plan_step step = p->step[s];
    p->step[s] = p->step[t];
    p->step[t] = step;
}

static void shift_offset(ckpt_plan *p) {
    ckpt_instance *x = &p->instance[pick(p->instance_count)];
    const uint64_t by =
        pick(2) ? 1 + next_random(2 * p->alignment_bytes) : p->alignment_bytes * (1 + next_random(40));
    if (pick(2))
        x->offset += by;
    else
        x->offset -= by;
}

static void read_wrong_instance(ckpt_plan *p) {
    for (int tries = 0; tries < 1000; tries++) {
        ckpt_plan_step *step = &p->step[pick(p->step_count)];
        if (step->in_count == 0) continue;
        int *in = &step->in[pick(step->in_count)];
        if (*in < 0 && pick(20)) continue;
        const int other = pick(p->instance_count + 2) - 1;
        /* Mostly another production of the same tensor, where there is one. */
        if (tries < 900 && (other < 0 || other >= p->instance_count || *in < 0 || other == *in ||
                            p->instance[other].tensor != p->instance[*in].tensor))
            continue;
        if (other == *in) continue;
        *in = other;
        return;
    }
}

static void write_wrong_instance(ckpt_plan *p) {
    ckpt_plan_step *step = &p->step[pick(p->step_count)];
    int *out = &step->out[pick(2)];
    *out = (*out + 1 + pick(p->instance_count)) % (p->instance_count + 1);
}

static void change_lifetime(ckpt_plan *p) {
    ckpt_instance *x = &p->instance[pick(p->instance_count)];
    const int by = (pick(2) ? 1 : -1) * (1 + pick(3));
    if (pick(2))
        x->first += by;
    else
        x->end += by;
}

static void change_size(ckpt_plan *p) {
    p->instance[pick(p->instance_count)].bytes += 4 * (1 + next_random(100));
}

static void change_tensor(ckpt_plan *p) {
    ckpt_instance *x = &p->instance[pick(p->instance_count)];
    x->tensor = (x->tensor + 1 + pick(p->tensor_count)) % (p->tensor_count + 1);
}

static void change_reuse(ckpt_plan *p) {
    ckpt_instance *x = &p->instance[pick(p->instance_count)];
    const int old = x->reuses;
    do x->reuses = pick(p->instance_count + 2) - 1;
    while (x->reuses == old);
}

static void flip_recompute(ckpt_plan *p) {
    const int s = pick(p->step_count);
    p->step[s].recompute = !p->step[s].recompute;
}

static void change_node(ckpt_plan *p) {
    ckpt_plan_step *step = &p->step[pick(p->step_count)];
    step->node = pick(50) ? (step->node + 1 + pick(p->step_count)) % (p->step_count + 1) : -1;
}

static void change_total(ckpt_plan *p) {
    uint64_t *const total[] = {
        &p->memory.total,          &p->memory.parameters,      &p->memory.constants,
        &p->memory.optimizer,      &p->memory.gradients,       &p->memory.inputs,
        &p->memory.workspace,      &p->memory.arena,           &p->memory.live_peak,
        &p->memory.eval_live_peak, &p->persistent_bytes,       &p->input_stride_bytes,
        &p->compute.forward_flops, &p->compute.backward_flops, &p->compute.recompute_flops,
        &p->compute.step_cost,     &p->compute.recompute_cost};
    enum { COUNT = sizeof total / sizeof *total };
    const int which = pick(COUNT + 2);
    const uint64_t by = pick(2) ? p->alignment_bytes * (1 + next_random(5)) : 1 + next_random(1000);
    if (which == COUNT)
        p->input_buffers += pick(2) ? 1 : -1;
    else if (which == COUNT + 1)
        p->compute.recomputed_nodes += pick(2) ? 1 : -1;
    else
        *total[which] += pick(2) ? by : 0 - by;
}

static void move_persistent(ckpt_plan *p) {
    uint64_t *at = &p->persistent_offset[pick(p->tensor_count)];
    *at = *at == UINT64_MAX
              ? 0
              : *at + (pick(2) ? p->alignment_bytes : 0 - p->alignment_bytes) * (1 + next_random(3));
}

static void flip_layer(ckpt_plan *p) {
    const int i = pick(p->layer_count);
    p->layer_recomputed[i] = !p->layer_recomputed[i];
}

static void change_head(ckpt_plan *p) {
    switch (pick(6)) {
    case 0:
        p->graph_hash[pick(64)] ^= 1;
        break;
    case 1:
        p->alignment_bytes = (uint64_t[]){0, 3, 512, 1 << 20}[pick(4)];
        break;
    case 2:
        p->tensor_count--;
        break;
    case 3:
        p->layer_count--;
        break;
    case 4:
        p->bound.lower_bound_cost = p->compute.recompute_cost + 1;
        break;
    default:
        *(pick(2) ? &p->bound.lower_bound_flops : &p->bound.lower_bound_cost) = p->compute.recompute_cost + 1;
        break;
    }
}

static const struct {
    const char *name;
    void (*apply)(ckpt_plan *p);
    bool may_hold; /* the result can be another good plan */
} mutations[] = {
    {"step removed", remove_step, false},
    {"step duplicated", duplicate_step, false},
    {"steps swapped", swap_steps, true},
    {"offset shifted", shift_offset, true},
    {"wrong instance read", read_wrong_instance, false},
    {"wrong instance written", write_wrong_instance, false},
    {"lifetime changed", change_lifetime, false},
    {"size changed", change_size, false},
    {"tensor changed", change_tensor, false},
    {"reuse changed", change_reuse, false},
    {"recompute flag flipped", flip_recompute, false},
    {"node changed", change_node, false},
    {"total changed", change_total, false},
    {"persistent offset moved", move_persistent, false},
    {"layer decision flipped", flip_layer, false},
    {"head changed", change_head, false},
};
enum { MUTATION_COUNT = sizeof mutations / sizeof *mutations };

/* --- mutations of the schedule, with everything behind it made anew: only the program itself is wrong --- */

static bool rebuild(const ckpt_graph *g, const ckpt_plan *base, const ckpt_schedule *schedule,
                    ckpt_pool *pool, ckpt_plan *p) {
    ckpt_error err;
    ckpt_layout layout;
    if (ckpt_layout_find(g, schedule, base->alignment_bytes, pool, &layout, &err) != CKPT_OK) return false;
    *p = clone(base, pool);
    p->step_count = layout.live.step_count;
    p->step = layout.live.step;
    p->instance_count = layout.live.instance_count;
    p->instance = layout.live.instance;
    p->memory.arena =
        layout.arena_bytes > base->memory.eval_arena ? layout.arena_bytes : base->memory.eval_arena;
    p->memory.live_peak = layout.live.peak_bytes > base->memory.eval_live_peak ? layout.live.peak_bytes
                                                                               : base->memory.eval_live_peak;
    p->memory.total = p->persistent_bytes + p->memory.workspace + p->memory.arena;
    p->compute.recompute_flops = p->compute.recompute_cost = 0;
    p->compute.recomputed_nodes = 0;
    p->bound = (ckpt_plan_bound){0};
    memset(p->layer_recomputed, 0, (size_t)p->layer_count * sizeof(bool));
    for (int s = 0; s < p->step_count; s++) {
        if (!p->step[s].recompute) continue;
        p->compute.recompute_flops += ckpt_node_cost(g, p->step[s].node).flops;
        p->compute.recompute_cost += p->costs.node[p->step[s].node];
        p->compute.recomputed_nodes++;
        if (g->node[p->step[s].node].layer >= 0) p->layer_recomputed[g->node[p->step[s].node].layer] = true;
    }
    return true;
}

static const char *const schedule_mutation_names[] = {"node removed", "node duplicated", "neighbours swapped",
                                                      "node moved"};
enum { SCHEDULE_MUTATIONS = 4 };

static void mutate_schedule(int kind, const ckpt_plan *base, ckpt_pool *pool, ckpt_schedule *schedule) {
    const int count = base->step_count, at = pick(count);
    int *node = ckpt_pool_array(pool, count + 1, int), to = pick(count);
    for (int s = 0; s < count; s++) node[s] = base->step[s].node;
    schedule->node = node;
    schedule->count = count;
    const int chosen = node[at];
    if (kind == 2) to = at + 1 < count ? at + 1 : at - 1;
    if (kind != 1) {
        memmove(node + at, node + at + 1, (size_t)(count - at - 1) * sizeof *node);
        schedule->count--;
    }
    if (kind != 0) {
        memmove(node + to + 1, node + to, (size_t)(schedule->count - to) * sizeof *node);
        node[to] = chosen;
        schedule->count++;
    }
}

static bool same_schedule(const ckpt_plan *a, const ckpt_plan *b) {
    if (a->step_count != b->step_count) return false;
    for (int s = 0; s < a->step_count; s++)
        if (a->step[s].node != b->step[s].node) return false;
    return true;
}

/* --- the tests --- */

typedef struct tally {
    int made, refused, equivalent;
} tally;
static tally tallies[MUTATION_COUNT + SCHEDULE_MUTATIONS];

static void judge(const ckpt_graph *g, const ckpt_graph *eval, const ckpt_plan *mutant, uint64_t truth,
                  bool may_hold, const char *name, tally *t) {
    ckpt_error err = {0};
    t->made++;
    if (ckpt_plan_check(g, mutant, eval, &err) != CKPT_OK) {
        assert_true(err.message[0] != 0);
        t->refused++;
        return;
    }
    if (!may_hold) fail_msg("accepted a plan with '%s'", name);
    if (plan_oracle_run(g, mutant) != truth)
        fail_msg("accepted a plan that computes something else: '%s'", name);
    t->equivalent++;
}

static void mutate(const ckpt_graph *g, const ckpt_graph *eval, const ckpt_plan *base, int rounds) {
    const uint64_t truth = plan_oracle_truth(g);
    assert_true(plan_oracle_run(g, base) == truth);
    for (int m = 0; m < MUTATION_COUNT; m++)
        for (int k = 0; k < rounds; k++) {
            ckpt_pool pool = {0};
            ckpt_plan p = clone(base, &pool);
            mutations[m].apply(&p);
            const bool unchanged =
                p.step_count == base->step_count &&
                memcmp(p.step, base->step, (size_t)p.step_count * sizeof *p.step) == 0 &&
                (mutations[m].apply == swap_steps || mutations[m].apply == read_wrong_instance);
            if (!unchanged) judge(g, eval, &p, truth, mutations[m].may_hold, mutations[m].name, &tallies[m]);
            ckpt_pool_free(&pool);
        }
    for (int m = 0; m < SCHEDULE_MUTATIONS; m++)
        for (int k = 0; k < rounds; k++) {
            ckpt_pool pool = {0};
            ckpt_plan p;
            ckpt_schedule schedule = {0};
            mutate_schedule(m, base, &pool, &schedule);
            if (rebuild(g, base, &schedule, &pool, &p) && !same_schedule(&p, base))
                judge(g, eval, &p, truth, true, schedule_mutation_names[m], &tallies[MUTATION_COUNT + m]);
            ckpt_pool_free(&pool);
        }
}

static void mutated_plans_are_refused_unless_equivalent(void **state) {
    (void)state;
    static const ckpt_strategy strategies[] = {CKPT_STRATEGY_NONE, CKPT_STRATEGY_SQRT,
                                               CKPT_STRATEGY_SELECTIVE, CKPT_STRATEGY_MIN};
    for (int kind = 0; kind < PLAN_GRAPH_KINDS; kind++)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            ckpt_graph g, eval;
            plan_graph_make(&(plan_graph_options){.kind = kind,
                                                  .layers = 8,
                                                  .width = 40,
                                                  .batch = 9,
                                                  .optimizer = CKPT_OPTIMIZER_MOMENTUM,
                                                  .accumulate = accumulate},
                            &g, &eval);
            for (size_t s = 0; s < sizeof strategies / sizeof *strategies; s++) {
                ckpt_plan *plan;
                ckpt_error err = {0};
                const ckpt_plan_options options = {.strategy = strategies[s], .eval = &eval};
                if (ckpt_plan_make(&g, &options, &plan_graph_traits, NULL, &plan, &err) != CKPT_OK)
                    fail_msg("%s", err.message);
                mutate(&g, &eval, plan, 12);
                ckpt_plan_free(plan);
            }
            ckpt_graph_free(&g);
            ckpt_graph_free(&eval);
        }
    tally all = {0};
    for (int m = 0; m < MUTATION_COUNT + SCHEDULE_MUTATIONS; m++) {
        const tally *t = &tallies[m];
        print_message("%-26s %5d made %5d refused %4d equivalent\n",
                      m < MUTATION_COUNT ? mutations[m].name : schedule_mutation_names[m - MUTATION_COUNT],
                      t->made, t->refused, t->equivalent);
        assert_true(t->refused > 0);
        all.made += t->made;
        all.refused += t->refused;
        all.equivalent += t->equivalent;
    }
    print_message("%-26s %5d made %5d refused %4d equivalent\n", "all", all.made, all.refused,
                  all.equivalent);
    assert_true(all.made >= 1000);
    assert_true(all.refused + all.equivalent == all.made);
}

/* The oracle itself can tell programs apart: what the checker refuses mostly computes something else. */
static void the_oracle_sees_wrong_programs(void **state) {
    (void)state;
    ckpt_graph g;
    plan_graph_make(
        &(plan_graph_options){
            .kind = PLAN_GRAPH_TIED, .layers = 8, .width = 40, .batch = 9, .accumulate = true},
        &g, NULL);
    ckpt_plan *plan;
    ckpt_error err;
    assert_int_equal(ckpt_plan_make(&g, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_SQRT},
                                    &plan_graph_traits, NULL, &plan, &err),
                     CKPT_OK);
    int wrong = 0, made = 0;
    for (int k = 0; k < 200; k++) {
        ckpt_pool pool = {0};
        ckpt_plan p;
        ckpt_schedule schedule = {0};
        mutate_schedule(3, plan, &pool, &schedule);
        if (rebuild(&g, plan, &schedule, &pool, &p) && ckpt_plan_check(&g, &p, NULL, &err) != CKPT_OK) {
            made++;
            wrong += plan_oracle_run(&g, &p) != plan_oracle_truth(&g);
        }
        ckpt_pool_free(&pool);
    }
    assert_true(made > 10 && wrong * 2 > made);
    ckpt_plan_free(plan);
    ckpt_graph_free(&g);
}

static void messages_say_which_step_and_why(void **state) {
    (void)state;
    ckpt_graph g;
    plan_graph_make(&(plan_graph_options){.kind = PLAN_GRAPH_MLP, .layers = 6, .width = 32, .batch = 4}, &g,
                    NULL);
    ckpt_plan *plan;
    ckpt_error err = {0};
    assert_int_equal(ckpt_plan_make(&g, &(ckpt_plan_options){.strategy = CKPT_STRATEGY_SQRT},
                                    &plan_graph_traits, NULL, &plan, &err),
                     CKPT_OK);
    plan->step[1].recompute = true;
    assert_int_equal(ckpt_plan_check(&g, plan, NULL, &err), CKPT_FAILED);
    assert_string_equal(err.message, "step 1 (fc1): is wrongly marked as a recomputation");
    plan->step[1].recompute = false;
    plan->memory.total++;
    assert_int_equal(ckpt_plan_check(&g, plan, NULL, &err), CKPT_FAILED);
    assert_non_null(strstr(err.message, "memory.total"));
    plan->memory.total--;
    assert_int_equal(ckpt_plan_check(&g, plan, NULL, &err), CKPT_OK);
    ckpt_plan_free(plan);
    ckpt_graph_free(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutated_plans_are_refused_unless_equivalent),
        cmocka_unit_test(the_oracle_sees_wrong_programs),
        cmocka_unit_test(messages_say_which_step_and_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
