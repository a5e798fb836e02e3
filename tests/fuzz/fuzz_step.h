/* A training step of whatever a fuzzer made, where it is small: the plan's addresses are really written to. */
#ifndef CKPT_FUZZ_STEP_H
#define CKPT_FUZZ_STEP_H

#include "planner/plan.h"

/* Runs one training step and one evaluation under `plan` on the CPU, with made-up values, and stores the hash of the
 * gradients; two plans of one graph must agree. False, and an empty hash, when the plan is too large for a fuzzer or the
 * backend refuses the graph. */
bool fuzz_step(const ckpt_graph *training, const ckpt_graph *evaluation, const ckpt_plan *plan, char hash[65]);

#endif
