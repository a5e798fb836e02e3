/* The plan of a smaller batch within a larger one's: same steps at the same offsets where the graphs are one network, a plan
 * of its own where they are not, never a byte more; and a checker that notices when it is not so. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph/autodiff.h"
#include "import/model.h"
#include "planner/check/check.h"
#include "planner/plan_size.h"

#define MUST(call) \
    if ((call) != CKPT_OK) fail_msg("%s: %s", #call, err.message)

static const ckpt_traits traits = {.device = "cpu", .alignment_bytes = 64, .input_buffers = 2};
static ckpt_error err;

typedef struct network {
    ckpt_model model;
    ckpt_graph evaluation;
} network;

static const ckpt_training_options *training(void) {
    static ckpt_training_options options = {.optimizer = CKPT_OPTIMIZER_ADAM, .accumulate = true};
    ckpt_training_defaults(&options);
    return &options;
}

static void load(network *n, const char *file, int64_t batch) {
    char path[512];
    const ckpt_model_options options = {.batch = batch, .loss_auto = true};
    snprintf(path, sizeof path, CKPT_SOURCE_DIR "/%s", file);
    MUST(ckpt_model_load(path, &options, &n->model, &err));
    MUST(ckpt_training_graphs_make(&n->model.graph, training(), &n->evaluation, &err));
}

/* like: so that it has the whole batch's nodes. */
static void resize(network *small, const network *whole, int64_t batch, bool like) {
    const ckpt_model_options options = {.batch = batch, .loss_auto = true};
    ckpt_training_options how = *training();
    how.like = like ? &whole->model.graph : NULL;
    MUST(ckpt_model_resize(&whole->model, &options, &small->model, &err));
    MUST(ckpt_training_graphs_make(&small->model.graph, &how, &small->evaluation, &err));
}

static void unload(network *n) {
    ckpt_graph_free(&n->evaluation);
    ckpt_model_free(&n->model);
}

static ckpt_plan *plan_of(const network *n, ckpt_strategy strategy) {
    ckpt_plan *plan;
    const ckpt_plan_options options = {.strategy = strategy, .eval = &n->evaluation};
    MUST(ckpt_plan_make(&n->model.graph, &options, &traits, NULL, &plan, &err));
    return plan;
}

static const char *const same[] = {"models/mlp_residual.onnx", "models/digits.onnx", "tests/golden/last_batch/spatial/model.onnx"};
static const char *const broadcasts = "tests/golden/last_batch/across/model.onnx"; /* as one sample does not */
static const ckpt_strategy strategies[] = {CKPT_STRATEGY_NONE, CKPT_STRATEGY_SQRT, CKPT_STRATEGY_MIN};

/* Whether a smaller batch runs the steps of the plan where they are, for the same total. */
static bool runs_the_same_steps(const network *whole, const network *small, ckpt_strategy strategy) {
    ckpt_plan *resized, *plan = plan_of(whole, strategy);
    int *origin = calloc((size_t)small->model.graph.tensor_count, sizeof *origin);
    const ckpt_plan_room room = {&whole->model.graph, plan, plan->memory.arena};
    MUST(ckpt_plan_resize(&room, &small->model.graph, &traits, origin, &resized, &err));
    assert_int_equal(resized->memory.total, plan->memory.total);
    bool same_steps = resized->step_count == plan->step_count && resized->instance_count == plan->instance_count &&
                      resized->tensor_count == plan->tensor_count;
    for (int i = 0; same_steps && i < plan->step_count; i++) same_steps = resized->step[i].node == plan->step[i].node;
    for (int k = 0; same_steps && k < plan->instance_count; k++)
        same_steps = resized->instance[k].offset == plan->instance[k].offset;
    for (int t = 0; same_steps && t < plan->tensor_count; t++)
        same_steps = resized->persistent_offset[t] == plan->persistent_offset[t];
    ckpt_plan_free(resized);
    ckpt_plan_free(plan);
    free(origin);
    return same_steps;
}

static void test_the_same_steps_at_the_same_offsets(void **state) {
    (void)state;
    for (int m = 0; m < 3; m++)
        for (int s = 0; s < 3; s++)
            for (int64_t batch = 2; batch < 8; batch += 3) {
                network whole, small;
                load(&whole, same[m], 8);
                resize(&small, &whole, batch, false);
                assert_true(runs_the_same_steps(&whole, &small, strategies[s]));
                unload(&small);
                unload(&whole);
            }
}

/* A batch of one broadcasts nothing: the random networks of tests/differential, and what works across samples. */
static void test_every_size_has_the_same_steps(void **state) {
    (void)state;
    enum { NETWORKS = 63 };
    int without = 0; /* with the nodes of its own size alone */
    for (int n = -1; n < NETWORKS; n++) {
        char path[64];
        network whole;
        snprintf(path, sizeof path, "tests/differential/cases/net%02d.onnx", n);
        load(&whole, n < 0 ? broadcasts : path, 8);
        for (int64_t batch = 1; batch < 4; batch++) {
            network like, own;
            resize(&like, &whole, batch, true);
            resize(&own, &whole, batch, false);
            if (!runs_the_same_steps(&whole, &like, CKPT_STRATEGY_NONE)) fail_msg("%s with %d samples", path, (int)batch);
            without += own.model.graph.node_count != whole.model.graph.node_count;
            unload(&own);
            unload(&like);
        }
        unload(&whole);
    }
    assert_true(without > 0); /* so that the comparison can fail */
}

static void test_another_network_is_planned_for_itself(void **state) {
    (void)state;
    for (int s = 0; s < 3; s++) {
        network whole, one;
        ckpt_plan *resized;
        load(&whole, broadcasts, 8);
        resize(&one, &whole, 1, false);
        assert_true(one.model.graph.node_count != whole.model.graph.node_count);
        ckpt_plan *plan = plan_of(&whole, strategies[s]);
        int *origin = calloc((size_t)one.model.graph.tensor_count, sizeof *origin);
        ckpt_plan_room room = {&whole.model.graph, plan, plan->memory.arena};
        MUST(ckpt_plan_resize(&room, &one.model.graph, &traits, origin, &resized, &err));
        assert_int_equal(resized->memory.total, plan->memory.total);
        for (int t = 0; t < one.model.graph.tensor_count; t++) {
            if (origin[t] < 0) continue;
            assert_string_equal(one.model.graph.tensor[t].name, whole.model.graph.tensor[origin[t]].name);
            assert_int_equal(resized->persistent_offset[t], plan->persistent_offset[origin[t]]);
        }
        ckpt_plan_free(resized);
        /* Where not even the smallest plan fits it says so. */
        room.arena_bytes = traits.alignment_bytes;
        assert_int_equal(ckpt_plan_resize(&room, &one.model.graph, &traits, origin, &resized, &err), CKPT_INFEASIBLE);
        assert_non_null(strstr(err.message, "other steps, which take"));
        assert_null(resized);
        ckpt_plan_free(plan);
        free(origin);
        unload(&one);
        unload(&whole);
    }
}

/* Of a network that cannot be a part: a larger batch, another model. */
static void test_what_does_not_fit(void **state) {
    (void)state;
    network whole, larger, stranger;
    ckpt_plan *resized;
    load(&whole, same[0], 4);
    resize(&larger, &whole, 8, false);
    load(&stranger, same[1], 4);
    ckpt_plan *plan = plan_of(&whole, CKPT_STRATEGY_NONE);
    int *origin = calloc((size_t)(larger.model.graph.tensor_count + stranger.model.graph.tensor_count), sizeof *origin);
    const ckpt_plan_room room = {&whole.model.graph, plan, plan->memory.arena};
    assert_int_equal(ckpt_plan_resize(&room, &larger.model.graph, &traits, origin, &resized, &err), CKPT_INFEASIBLE);
    assert_int_equal(ckpt_plan_resize(&room, &stranger.model.graph, &traits, origin, &resized, &err), CKPT_INFEASIBLE);
    assert_non_null(strstr(err.message, "4 samples"));
    ckpt_plan_free(plan);
    free(origin);
    unload(&larger);
    unload(&stranger);
    unload(&whole);
}

/* Each change of a right plan is refused, and taken back it is right again. */
static void test_the_checker_notices(void **state) {
    (void)state;
    network whole, small;
    ckpt_plan *p;
    load(&whole, same[0], 8);
    resize(&small, &whole, 5, false);
    ckpt_plan *plan = plan_of(&whole, CKPT_STRATEGY_SQRT);
    const ckpt_graph *g = &small.model.graph;
    int *origin = calloc((size_t)g->tensor_count, sizeof *origin), weight = 0, other_weight = 0, last = 0;
    const ckpt_plan_room room = {&whole.model.graph, plan, plan->memory.arena};
    MUST(ckpt_plan_resize(&room, g, &traits, origin, &p, &err));
    for (int t = 0; t < g->tensor_count; t++)
        if (g->tensor[t].role == CKPT_ROLE_PARAM) other_weight = weight, weight = t;
    for (int k = 0; k < p->instance_count; k++)
        if (p->instance[k].offset > p->instance[last].offset) last = k;
    struct {
        uint64_t *field, change;
    } fields[] = {{&p->persistent_offset[weight], 64}, {&p->instance[last].offset, 1 << 20}, {&p->instance[last].bytes, 4},
                  {&p->persistent_bytes, 64},          {&p->input_stride_bytes, 64},         {&p->memory.workspace, 64}};
#define CHECK() ckpt_plan_check_within(g, p, &whole.model.graph, plan, origin, &err)
    assert_int_equal(CHECK(), CKPT_OK);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        *fields[i].field += fields[i].change;
        if (CHECK() == CKPT_OK) fail_msg("change %zu is not noticed", i);
        *fields[i].field -= fields[i].change;
    }
    const int right = origin[weight];
    const int wrong[] = {-1, g->tensor_count, origin[other_weight]};
    for (int i = 0; i < 3; i++) {
        origin[weight] = wrong[i];
        assert_int_not_equal(CHECK(), CKPT_OK);
    }
    origin[weight] = right;
    assert_int_equal(CHECK(), CKPT_OK);
    ckpt_plan_free(p);
    ckpt_plan_free(plan);
    free(origin);
    unload(&small);
    unload(&whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same_steps_at_the_same_offsets),
        cmocka_unit_test(test_every_size_has_the_same_steps),
        cmocka_unit_test(test_another_network_is_planned_for_itself),
        cmocka_unit_test(test_what_does_not_fit),
        cmocka_unit_test(test_the_checker_notices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
