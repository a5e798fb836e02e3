/* Benchmarks of kernels, one node each, on either backend: what to run, on which numbers, and whether it is right.
 *
 *     kernel_bench b = {.backend = ckpt_backend_cpu(), .rows = 512, .cols = 1024};
 *     kernel_bench_open(&b, &options);                       // ends the process with a message where it fails
 *     for (int i = 0; i < kernel_case_count(); i++) {
 *         kernel_run r;
 *         if (kernel_prepare(&b, i, &r)) ...time r.launch...
 *         kernel_release(&b, &r);
 *     }
 *     kernel_bench_close(&b);
 *
 * kernel_prepare runs the node once and compares elements spread over its result with double precision; where no formula
 * stands beside the case, on another backend than the CPU's, all of its outputs with the CPU's. Every output is NaN before.
 */
#ifndef CKPT_KERNEL_BENCH_H
#define CKPT_KERNEL_BENCH_H

#include "graph/op.h"
#include "runtime/backend.h"

typedef struct kernel_bench {
    const ckpt_backend *backend;
    ckpt_device *device;
    ckpt_graph graph;
    ckpt_pool pool;
    int64_t rows, cols;
} kernel_bench;

typedef struct kernel_run {
    const char *name;
    ckpt_node node;
    ckpt_bind bind;
    ckpt_launch launch;
    ckpt_scalars scalars;
    double bytes, flops; /* every input and output once; as the cost rule counts */
    int in_count, out_count;
    bool in_place; /* outputs are inputs: an update */
} kernel_run;

void kernel_bench_open(kernel_bench *bench, const ckpt_device_options *options);
void kernel_bench_close(kernel_bench *bench);

int kernel_case_count(void);
ckpt_op kernel_case_op(int index);

/* False, with a line on stdout that says why, where the kernel is wrong; also where the backend has none, and then
 * *missing is true. What was made must be given to kernel_release either way. */
bool kernel_prepare(kernel_bench *bench, int index, kernel_run *run, bool *missing);
void kernel_release(kernel_bench *bench, kernel_run *run);

/* Median and least of `count` times, which are sorted. */
double kernel_median(double *seconds, int count);

#endif
