/* What tests of whole steps share: reading golden tensors, running one step of a graph on a backend.
 * Failures end the test (cmocka) with the error's message. */
#ifndef CKPT_TEST_HARNESS_H
#define CKPT_TEST_HARNESS_H

#include "cmocka_all.h"

#include "graph/autodiff.h"
#include "import/model.h"
#include "planner/plan.h"
#include "runtime/exec.h"

/* Fails the running test with err's message unless the call succeeds. */
#define MUST(call, err)                                                                                      \
    do {                                                                                                     \
        if ((call) != CKPT_OK) fail_msg("%s: %s", #call, (err)->message);                                    \
    } while (0)

typedef struct golden_tensor {
    char *name;
    int rank;
    int64_t dim[8], count;
    double *value;
} golden_tensor;

/* A .pb file as doubles; false when it does not exist. Free with golden_free. */
bool golden_read(golden_tensor *tensor, const char *format, ...) __attribute__((format(printf, 2, 3)));
void golden_free(golden_tensor *tensor);

/* ||a - b|| / ||b||, or the absolute norm where b is zero. NaN anywhere gives infinity. */
double relative_error(const float *a, const double *b, int64_t count);

/* A training graph with a plan on a backend, everything still zero. */
/* Whether this suite trains in bf16: CKPT_TEST_BF16 is 1 where it is compiled for that. */
#ifndef CKPT_TEST_BF16
#define CKPT_TEST_BF16 0
#endif
/* ckpt_training_graphs_make for the backend, without the graph for evaluation. */
void harness_differentiate(ckpt_graph *graph, const ckpt_training_options *options, bool bf16, const ckpt_backend *backend);

typedef struct step_runner {
    ckpt_graph *graph;
    ckpt_plan *plan;
    ckpt_exec *exec;
} step_runner;

void runner_open(step_runner *runner, ckpt_graph *training, const ckpt_backend *backend, ckpt_strategy strategy);
/* As floats, for F32 tensors; as i32 for class targets. */
void runner_set_f64(step_runner *runner, int tensor, const double *values);
void runner_get_f32(step_runner *runner, int tensor, float *values);
void runner_step(step_runner *runner, uint32_t step, float learning_rate);
void runner_close(step_runner *runner);

/* The GRADSUM tensor of a parameter, -1 when it has none. */
int gradsum_of(const ckpt_graph *graph, int parameter);

/* Uploads all PARAM and CONST tensors of the model that the graph has. */
void runner_load_weights(step_runner *runner, const ckpt_model *model);

#endif
