/* A job without a command line: plain options give graphs, costs and plans, and errors that name the remedy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "job/cost_model.h"

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        if ((call) != CKPT_OK) fail_msg("%s: %s", #call, err.message);                                       \
    } while (0)

static const char model[] = CKPT_SOURCE_DIR "/models/mlp_residual.onnx";
static ckpt_error err;

static ckpt_plan *plan_by(const ckpt_job *job, const ckpt_job_options *options, ckpt_strategy strategy) {
    ckpt_job_options o = *options;
    ckpt_plan *plan;
    o.strategy = strategy;
    MUST(ckpt_job_plan(job, &o, &plan, &err));
    return plan;
}

static void test_from_a_file_to_plans(void **state) {
    (void)state;
    ckpt_job_options options = ckpt_job_options_for(model);
    ckpt_job job, small;
    options.batch = 32;
    MUST(ckpt_job_load(&options, NULL, ckpt_device_traits("cpu"), &job, &err));
    assert_int_equal(job.batch, 32);
    assert_int_equal(job.parts, 1);
    assert_false(job.forward_only);
    ckpt_plan *all = plan_by(&job, &options, CKPT_STRATEGY_NONE), *least = plan_by(&job, &options, CKPT_STRATEGY_MIN);
    const ckpt_plan_compute none = ckpt_job_compute(&job, all), some = ckpt_job_compute(&job, least);
    assert_true(least->memory.total < all->memory.total);
    assert_true(ckpt_compute_recompute_fraction(&none) == 0);
    assert_true(ckpt_compute_recompute_fraction(&some) > 0);
    MUST(ckpt_job_resize(&job, &options, 10, &small, &err));
    assert_int_equal(small.model.graph.batch, 10);
    ckpt_plan_free(all);
    ckpt_plan_free(least);
    ckpt_job_free(&small);
    ckpt_job_free(&job);
}

static void test_micro_batches(void **state) {
    (void)state;
    ckpt_job_options options = ckpt_job_options_for(model);
    ckpt_job job;
    options.batch = 32, options.micro_batch = 8;
    MUST(ckpt_job_load(&options, NULL, ckpt_device_traits("cpu"), &job, &err));
    assert_int_equal(job.parts, 4);
    assert_int_equal(job.model.graph.batch, 8);
    ckpt_job_free(&job);
}

static void test_cost_models(void **state) {
    (void)state;
    ckpt_job_options options = ckpt_job_options_for(model);
    ckpt_job job;
    MUST(ckpt_job_load(&options, NULL, ckpt_device_traits("cpu"), &job, &err));
    assert_int_equal(job.costs.unit, CKPT_COST_FLOPS);
    options.cost = CKPT_COST_MODEL_NOMINAL;
    MUST(ckpt_job_cost(&job, &options, &err));
    assert_int_equal(job.costs.unit, CKPT_COST_NS);
    options.cost = CKPT_COST_MODEL_FLOPS;
    MUST(ckpt_job_cost(&job, &options, &err));
    assert_int_equal(job.costs.unit, CKPT_COST_FLOPS);
    assert_false(ckpt_cost_needs_measuring(&job, &options, "cpu"));
    ckpt_job_free(&job);
}

static void expect_refused(const ckpt_job_options *options, ckpt_status status, const char *words) {
    ckpt_job job;
    assert_int_equal(ckpt_job_load(options, NULL, ckpt_device_traits("cpu"), &job, &err), status);
    if (!strstr(err.message, words)) fail_msg("'%s' does not say '%s'", err.message, words);
}

static void test_refusals(void **state) {
    (void)state;
    ckpt_job_options options = ckpt_job_options_for(model);
    options.dim[0] = (ckpt_dim_binding){.name = "nothing", .value = 3}, options.dim_count = 1;
    expect_refused(&options, CKPT_USAGE, "--dim nothing: no input of");
    options = ckpt_job_options_for(model);
    options.loss_output = "nothing";
    expect_refused(&options, CKPT_USAGE, "no output is called 'nothing'");
    options.loss_output_hint = "the hint";
    expect_refused(&options, CKPT_USAGE, "; the hint");
    options = ckpt_job_options_for(model);
    options.micro_batch = 5;
    expect_refused(&options, CKPT_USAGE, "--micro-batch 5 does not divide the model's batch of 64");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_from_a_file_to_plans), cmocka_unit_test(test_micro_batches),
                                       cmocka_unit_test(test_cost_models), cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
