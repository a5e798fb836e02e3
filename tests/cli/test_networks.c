/* Networks that are planned and not trained: every strategy makes a plan that the checker accepts, a budget half-way
 * between the smallest and the largest is kept, and ckpttrain refuses by node and operator. The argument is a name from
 * golden/networks, or a file of $CKPT_SHARED_DATA. */
#include "cmocka_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "job/devices.h"
#include "graph/autodiff.h"
#include "import/model.h"
#include "planner/plan.h"
#include "run_program.h"

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        if ((call) != CKPT_OK) fail_msg("%s: %s", #call, err.message);                                       \
    } while (0)

/* Parameters and multiply-adds of one sample, in billions, as torchvision's documentation has them; 0: not published. */
static const struct network {
    const char *name;
    int64_t batch, parameters;
    double gmacs;
    const char *refused; /* first operator without a kernel; NULL: it trains */
} networks[] = {
    {"resnet152", 8, 60192808, 11.51, "(Conv, opset 17)"},
    {"densenet121", 8, 7978856, 2.83, "(Conv, opset 17)"},
    {"unet", 4, 0, 0, "(Conv, opset 18)"},
    {"transformer24", 4, 0, 0, "(Gather, opset 17)"},
    {"attention4", 4, 0, 0, "(Gather, opset 23)"},
    {"encoder8", 4, 0, 0, "(Gather, opset 17)"},
    {"onnx-light/light_resnet50", 8, 25557032, 4.09, "(Conv, opset 9)"},
    {"onnx-light/light_vgg19", 8, 143667240, 19.63, "(Conv, opset 9)"},
    {"onnx-light/light_squeezenet", 8, 1235496, 0.35, "(Conv, opset 9)"},
    {"exported/torch113_gpt_eval_static", 2, 0, 0, "(Gather, opset 17)"},
    {"exported/torch113_torch_enc_train", 8, 0, 0, NULL},
};
static const struct network *network;

/* Sanitizers take minutes for the searches of the deepest networks, and see the same code in the others. */
#ifdef __SANITIZE_ADDRESS__
enum { MOST_NODES = 600 };
#else
enum { MOST_NODES = 1 << 20 };
#endif
static char path[1024];
static ckpt_error err;

static uint64_t plan(const ckpt_graph *graph, const ckpt_graph *evaluation, ckpt_strategy strategy, uint64_t budget,
                     ckpt_plan_compute *compute) {
    const ckpt_plan_options options = {.strategy = strategy, .budget_bytes = budget, .eval = evaluation};
    ckpt_plan *made;
    MUST(ckpt_plan_make(graph, &options, ckpt_device_traits("cpu"), NULL, &made, &err)); /* checked in there */
    const uint64_t total = made->memory.total;
    *compute = made->compute;
    ckpt_plan_free(made);
    return total;
}

static void test_every_strategy(void **state) {
    (void)state;
    const ckpt_dim_binding seq = {"seq", 64};
    const ckpt_model_options options = {.batch = network->batch, .dim = &seq, .dim_count = 1, .loss_auto = true};
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_SGD};
    ckpt_model model;
    ckpt_graph evaluation;
    ckpt_plan_compute all, other;
    ckpt_training_defaults(&training);
    MUST(ckpt_model_load(path, &options, &model, &err));
    MUST(ckpt_graph_for_evaluation(&model.graph, &evaluation, &err));
    MUST(ckpt_autodiff_run(&model.graph, &training, &err));
    int64_t parameters = 0;
    for (int t = 0; t < model.graph.tensor_count; t++)
        if (model.graph.tensor[t].role == CKPT_ROLE_PARAM) parameters += model.graph.tensor[t].count;
    const uint64_t most = plan(&model.graph, &evaluation, CKPT_STRATEGY_NONE, 0, &all);
    if (network->parameters) assert_int_equal(parameters, network->parameters);
    if (network->gmacs > 0) { /* element operations are counted here and not there */
        const double gmacs = (double)all.forward_flops / 2e9 / (double)network->batch;
        if (fabs(gmacs / network->gmacs - 1) > 0.05) fail_msg("%g GMACs a sample, published are %g", gmacs, network->gmacs);
    }
    assert_int_equal(all.recompute_flops, 0);
    assert_true(plan(&model.graph, &evaluation, CKPT_STRATEGY_SQRT, 0, &other) < most);
    assert_true(plan(&model.graph, &evaluation, CKPT_STRATEGY_SELECTIVE, 0, &other) <= most);
    if (model.graph.node_count <= MOST_NODES) {
        const uint64_t least = plan(&model.graph, &evaluation, CKPT_STRATEGY_MIN, 0, &other);
        assert_true(least < most);
        const uint64_t budget = least + (most - least) / 2, got = plan(&model.graph, &evaluation, CKPT_STRATEGY_BUDGET, budget, &other);
        if (got > budget) fail_msg("%llu bytes under a budget of %llu", (unsigned long long)got, (unsigned long long)budget);
    }
    ckpt_graph_free(&evaluation);
    ckpt_model_free(&model);
}

static void test_training_or_its_refusal(void **state) {
    (void)state;
    if (!network->refused) {
        program_run run = run_program("train", "%s --device cpu --steps 1 --batch %lld", path, (long long)network->batch);
        assert_int_equal(run.status, 0);
        program_free(&run);
        return;
    }
    program_run run = run_program("train", "%s --device cpu --steps 1 --batch %lld%s", path, (long long)network->batch,
                                  strstr(network->name, "exported") || strstr(network->refused, "Conv") ? "" : " --dim seq=8");
    assert_int_equal(run.status, 3);
    if (!strstr(run.err, network->refused) || !strstr(run.err, "node '") || strchr(run.err, '\n') != run.err + strlen(run.err) - 1)
        fail_msg("%s, wanted one line with %s", run.err, network->refused);
    assert_string_equal(run.out, "");
    program_free(&run);
}

/* A dimension that is not bound is named with the option that binds it. */
static void test_unbound(void **state) {
    (void)state;
    if (strcmp(network->name, "attention4") != 0) return;
    program_run run = run_program("plan", "%s --device cpu", path);
    assert_int_equal(run.status, 2);
    assert_non_null(strstr(run.err, "--dim seq=N"));
    program_free(&run);
}

int main(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < sizeof networks / sizeof *networks; i++)
        if (strcmp(argv[1], networks[i].name) == 0) network = &networks[i];
    if (!network) {
        fprintf(stderr, "no such network\n");
        return 1;
    }
    const char *shared = getenv("CKPT_SHARED_DATA");
    const bool own = !strchr(network->name, '/');
    snprintf(path, sizeof path, "%s/%s.onnx", own ? CKPT_SOURCE_DIR "/tests/golden/networks" : shared ? shared : "", network->name);
    if (!own && access(path, R_OK) != 0) {
        printf("skipped: CKPT_SHARED_DATA has no %s.onnx\n", network->name);
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_strategy), cmocka_unit_test(test_training_or_its_refusal),
                                       cmocka_unit_test(test_unbound)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
