/* One node on the CPU's backend and on the CUDA backend's host device: their outputs are to be the same bits.
 *
 *     rig_case c;
 *     rig_open(&c, CKPT_OP_SOFTMAX);
 *     c.node.attr.axis.axis = 10;
 *     rig_add_in(&c, CKPT_F32, 2, dims, 4);
 *     rig_add_out(&c, CKPT_F32, 2, dims);
 *     rig_compare(&c, "Softmax");
 *     rig_close(&c);
 */
#ifndef CKPT_TEST_CUDA_RIG_H
#define CKPT_TEST_CUDA_RIG_H

#include "harness.h"

enum { RIG_TENSORS = 8 };

typedef struct rig_case {
    ckpt_graph graph;
    ckpt_node node;
    ckpt_scalars scalars;
    ckpt_precision precision; /* of products */
    void *value[RIG_TENSORS];  /* what tensors hold before the run */
    void *result[RIG_TENSORS]; /* and after it, on the last backend */
    int over;                   /* output 0 lies over this input; -1: in memory of its own */
    uint32_t random;
} rig_case;

void rig_open(rig_case *c, ckpt_op op);
void rig_close(rig_case *c);

/* A tensor, its id: as the node's next input, filled with numbers in (-scale, scale), small whole ones for integers and
 * halves' bits; as its next output. */
int rig_add_in(rig_case *c, ckpt_dtype type, int rank, const int64_t *dims, float scale);
int rig_add_out(rig_case *c, ckpt_dtype type, int rank, const int64_t *dims);

/* Runs the node; its tensors lie behind each other in one allocation, `shift` bytes off the alignment. */
void rig_run_on(rig_case *c, const ckpt_backend *backend, uint64_t shift, bool poison);

/* The outputs of both backends, from aligned and from barely aligned memory, are the same bits, or the test fails. */
void rig_compare(rig_case *c, const char *what);

#endif
