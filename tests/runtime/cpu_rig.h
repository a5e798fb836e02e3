/* Runs one node on the CPU backend the way tests want it run.
 *
 *     rig r;
 *     rig_open(&r);
 *     int x = rig_random(&r, 2, (int64_t[]){37, 5}, 1.0), y = rig_output(&r, CKPT_F32, 2, (int64_t[]){37, 5});
 *     rig_run(&r, CKPT_OP_ACT, &attr, 1, (int[]){x}, 1, (int[]){y});
 *     ... rig_floats(&r, y)[i] ...
 *     rig_close(&r);
 *
 * rig_run runs the node with one thread and outputs full of NaN, with two threads and outputs full of zeros, and
 * over each input that its row of ops.def allows; it asserts that all give the same bits (so every byte was
 * written), that inputs and the bytes around every buffer are untouched.
 */
#ifndef CPU_RIG_H
#define CPU_RIG_H

#include "cmocka_all.h"

#include "runtime/backend.h"

enum { RIG_TENSORS = 32, RIG_GUARD = 256 };

typedef struct rig_buffer {
    unsigned char *block, *at; /* guard, bytes, guard */
    unsigned char *initial;    /* what an input holds */
    size_t bytes;
} rig_buffer;

typedef struct rig {
    ckpt_graph graph;
    ckpt_scalars scalars;
    ckpt_device *device[2]; /* one thread, two threads */
    rig_buffer buffer[RIG_TENSORS];
    uint64_t random;
    bool free_order; /* sums of the library behind it may depend on the number of threads: one run only */
} rig;

void rig_open(rig *r);
void rig_close(rig *r);

/* Uniform in [0, 1) from a counter: the same in every run. */
double rig_uniform(rig *r);

int rig_tensor(rig *r, ckpt_dtype type, int rank, const int64_t *dims, const void *values);
int rig_random(rig *r, int rank, const int64_t *dims, double scale); /* f32, uniform in (-scale, scale) */
int rig_output(rig *r, ckpt_dtype type, int rank, const int64_t *dims);

void *rig_data(rig *r, int tensor);
float *rig_floats(rig *r, int tensor);

void rig_run(rig *r, ckpt_op op, const ckpt_attr *attr, int in_count, const int *in, int out_count, const int *out);

/* Max-norm error of a tensor against doubles, relative to their greatest; asserts that it is below `limit`. */
void rig_close_to(rig *r, int tensor, const double *want, double limit);

/* d f / d x[i] by central differences, for i < n; f is given x with one value moved. */
void rig_difference(double (*f)(const double *x, const void *context), double *x, int n, const void *context,
                    double *gradient);

#endif
