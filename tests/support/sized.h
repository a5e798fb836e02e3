/* A batch of another size in the memory of an executor: what src/cli/train_sizes.c does, for tests of whole steps.
 *
 *     sized small;
 *     sized_make(&small, &whole, 10, backend);
 *     sized_add(&small, exec, true, true);     // behind ckpt_exec_open
 *     sized_free(&small);                      // behind ckpt_exec_close
 */
#ifndef CKPT_TEST_SIZED_H
#define CKPT_TEST_SIZED_H

#include "harness.h"

/* What the whole batch has; evaluation and its plan may be NULL. */
typedef struct sized_whole {
    const ckpt_model *model;
    const ckpt_graph *evaluation;
    const ckpt_plan *plan, *evaluation_plan;
    ckpt_model_options options; /* that the model was loaded with */
    ckpt_training_options training;
    void (*change)(ckpt_graph *graph); /* done to the forward graph before it was differentiated, or NULL */
} sized_whole;

typedef struct sized {
    ckpt_model model;
    ckpt_graph evaluation;
    ckpt_plan *plan, *evaluation_plan;
    int *origin;
    int constant_count;
    ckpt_exec_constant *constant; /* all of them, differing or not */
    ckpt_pool pool;
} sized;

void sized_make(sized *size, const sized_whole *whole, int64_t samples, const ckpt_backend *backend);
void sized_add(const sized *size, ckpt_exec *exec, bool train, bool evaluate);
void sized_free(sized *size);

#endif
