/* How fast a device is: by a few nodes of known size, and node by node of a training step.
 *
 *     ckpt_rates rates;
 *     ckpt_measure_rates(backend, &device_options, &rates, &err);
 *     ckpt_measure_nodes(&training, plan, seconds, &err);            // seconds[node_count]
 *
 * A device's figures are the best of many short runs, a node's time is the median of many steps: a machine with other work
 * on it is not taken for a slow one.
 */
#ifndef CKPT_MEASURE_H
#define CKPT_MEASURE_H

#include "planner/core/step_time.h"
#include "runtime/train.h"

/* A product of 512 x 512 matrices in the options' precision, a sum of two arrays of 16 MiB, the smallest of nodes and
 * the smallest of products. Some tenths of a second. */
ckpt_status ckpt_measure_rates(const ckpt_backend *backend, const ckpt_device_options *options, ckpt_rates *rates,
                               ckpt_error *err);

/* Trains a few steps at learning rate 0 on training->data, then times every node inside whole steps of training->exec, where
 * it finds caches as the nodes before it leave them. `plan` is the one the executor runs; each of its nodes gets its mean.
 * What timing itself takes is found by whole steps in between, and taken off. Steps with their first and last micro-batch at
 * once. Takes about two seconds, or five steps where they are longer. */
ckpt_status ckpt_measure_nodes(const ckpt_train_options *training, const ckpt_plan *plan, double *seconds, ckpt_error *err);

#endif
