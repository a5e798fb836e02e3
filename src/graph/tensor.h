/* A tensor of the graph: its type and shape, and its role, which says how long it lives.
 *
 * Tensors are dense and in row-major order.
 */
#ifndef CKPT_TENSOR_H
#define CKPT_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CKPT_MAX_RANK = 8 };

/* X(name, bytes of an element) */
#define CKPT_DTYPE_LIST(X) X(F32, 4) X(F64, 8) X(I32, 4) X(I64, 8) X(BOOL, 1) X(F16, 2) X(BF16, 2)
typedef enum ckpt_dtype {
#define X(name, bytes) CKPT_##name,
    CKPT_DTYPE_LIST(X)
#undef X
} ckpt_dtype;

typedef enum ckpt_role {
    CKPT_ROLE_STEP,     /* made in a step: an activation, a gradient; packed into the arena by the plan */
    CKPT_ROLE_INPUT,    /* a batch input, filled before the step */
    CKPT_ROLE_TARGET,   /* what the loss compares with, filled before the step */
    CKPT_ROLE_PARAM,    /* trained */
    CKPT_ROLE_CONST,    /* from the file, not trained */
    CKPT_ROLE_STATISTIC, /* from the file and saved with it: a running mean that follows the batches, no gradient */
    CKPT_ROLE_STATE,    /* optimizer state, zero at first */
    CKPT_ROLE_GRADSUM,  /* a gradient summed over micro-batches */
    CKPT_ROLE_RESULT    /* f64[2]: sum of the mean losses, number of correct rows; summed over micro-batches */
} ckpt_role;

typedef struct ckpt_tensor {
    const char *name;
    ckpt_dtype dtype;
    ckpt_role role;
    int rank;
    int64_t dim[CKPT_MAX_RANK];
    int64_t count;      /* product of dim: checked when the tensor is made */
    int producer;       /* node that makes a STEP tensor, else -1 */
    int owner;          /* GRADSUM, STATE: the parameter it belongs to; otherwise -1 */
    const void *source; /* PARAM, CONST, STATISTIC: the TensorProto that holds the values, one for all where it has one; or NULL */
    const void *data;   /* CONST: values held in the graph's own pool (dtype's layout), or NULL */
} ckpt_tensor;

uint64_t ckpt_dtype_bytes(ckpt_dtype dtype);
const char *ckpt_dtype_name(ckpt_dtype dtype);
uint64_t ckpt_tensor_bytes(const ckpt_tensor *tensor);
/* Whether training changes it and the model is saved with it: PARAM and STATISTIC. */
bool ckpt_tensor_is_saved(const ckpt_tensor *tensor);
/* "batch x 64 x 8" style text for messages and tables: "[64,8]". */
const char *ckpt_shape_text(const ckpt_tensor *tensor, char text[128]);

#endif
