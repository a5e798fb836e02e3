/* Pointwise nodes that follow each other as one kernel.
 *
 *     ckpt_cuda_fuse_describe(bind, launch, &err);                // behind a node's own binding
 *     n = ckpt_cuda_fuse(launches, count, merged, &pool);         // once for an array of launches
 *     for (int i = 0; i < n; i++) run(&merged[i]);
 *
 * A node whose output element depends on the same element of its inputs is described as a short list of instructions beside
 * its own kernel. Where launches of such nodes stand beside each other in an array, over equally many elements, each after
 * the first with something in common with those before, they become one launch: for every four elements a thread loads
 * what the nodes read, runs their instructions, keeps what they pass on, and stores what outlives them. The formulas are those
 * of the nodes' own kernels, in the same order and with the same roundings, so the bits are the same.
 *
 * A result is not stored when a later node of the chain is the last that reads it (ckpt_bind.dies) or writes over it. Nodes
 * are not joined where the order of their accesses to overlapping memory would matter: only an array at the very place of
 * another, element on element, is safe, since a thread reads an element before it writes it.
 */
#ifndef CKPT_CUDA_FUSE_H
#define CKPT_CUDA_FUSE_H

#include "cuda/cuda_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CKPT_FUSE_VALUES = 7, /* in a thread at once, and what a chain loads: one more would not stay in registers (cuda_fused.cu) */
    CKPT_FUSE_STEPS = 16,
    CKPT_FUSE_NOWHERE = 255
};

/* How an array lies beside the elements, seen as rows and columns: one value an element, a column, a row, or in all. */
typedef enum ckpt_fuse_shape { CKPT_FUSE_DENSE, CKPT_FUSE_BY_COLUMN, CKPT_FUSE_BY_ROW, CKPT_FUSE_SCALAR } ckpt_fuse_shape;

typedef struct ckpt_fuse_memory {
    void *at; /* NULL: not stored */
    ckpt_fuse_shape shape;
    ckpt_dtype dtype; /* F32, BF16 or F16 */
    bool vector;      /* whole quads can be moved at once */
} ckpt_fuse_memory;

/* What an instruction makes of the values a, b and c. */
typedef enum ckpt_fuse_code {
    CKPT_FUSE_ACT,        /* act(a); kind: ckpt_act */
    CKPT_FUSE_SLOPE,      /* a * slope of act at b * factor; kind: ckpt_act */
    CKPT_FUSE_DROP,       /* a * factor where the mask keeps it, else 0 */
    CKPT_FUSE_POSITIVE,   /* a * factor where b > 0, else 0 */
    CKPT_FUSE_BINARY,     /* a op b; kind: ckpt_binary */
    CKPT_FUSE_PAIR,       /* kind: ckpt_pair of a and b */
    CKPT_FUSE_PAIR_SLOPE, /* its gradient a with respect to b, or with `second` to c */
    CKPT_FUSE_ROUND       /* a rounded to kind: ckpt_dtype */
} ckpt_fuse_code;

typedef struct ckpt_fuse_step {
    uint8_t code, kind, second, a, b, c, to; /* places of values; NOWHERE: none, or not read any more */
    float alpha, beta, factor;
    uint32_t stream, threshold; /* DROP */
    int64_t sample_elements;
    ckpt_fuse_memory store;
} ckpt_fuse_step;

typedef struct ckpt_fuse_program {
    int64_t count, cols; /* cols: 0 where all arrays are dense or scalars */
    int loads, steps;
    ckpt_fuse_memory load[CKPT_FUSE_VALUES]; /* into places 0, 1, ... */
    ckpt_fuse_step step[CKPT_FUSE_STEPS];
} ckpt_fuse_program;

/* Lets the launch of a bound node be fused with its neighbours where its operator allows; others are left as they are. */
ckpt_status ckpt_cuda_fuse_describe(const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err);

/* launches[count] with chains joined, in merged[count]: how many are left; -1 when memory runs out. The new ones lie in the
 * pool. */
int ckpt_cuda_fuse(const ckpt_launch *launches, int count, ckpt_launch *merged, ckpt_pool *pool);

/* cuda_fused.cu: starts the kernel. */
void ckpt_cuda_fused_start(const ckpt_cuda_context *context, const ckpt_fuse_program *program);

#ifdef __cplusplus
}
#endif

#endif
