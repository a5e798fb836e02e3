/* The verdict on each float tensor of a file: trained or not, and why. The rule is in parameters.h. */
#ifndef CKPT_RULING_H
#define CKPT_RULING_H

#include <stdbool.h>
#include <stdint.h>

/* What became of a float tensor of the file, and why: X(ID, trained, text) */
#define CKPT_VERDICT_LIST(X)                                                                                 \
    X(SAID, true, "PARAMETER")                                                                               \
    X(ASKED, true, "--train")                                                                                \
    X(REACHED, true, "a gradient reaches it")                                                                \
    X(BUFFER, false, "BUFFER")                                                                               \
    X(SAID_CONSTANT, false, "CONSTANT_TENSOR")                                                               \
    X(EXPORTER, false, "made by the exporter")                                                               \
    X(CODE, false, "a constant of the code")                                                                 \
    X(BODY, false, "a constant of a function's body")                                                        \
    X(NUMBER, false, "a number")                                                                             \
    X(EPSILON, false, "an epsilon")                                                                          \
    X(MASK, false, "0/1 mask")                                                                               \
    X(ADDED_MASK, false, "additive mask")                                                                    \
    X(POSITIONS, false, "positions")                                                                         \
    X(WAVES, false, "sines and cosines of positions")                                                        \
    X(FREQUENCIES, false, "frequencies of positions")                                                        \
    X(SPELLED_NORM, false, "ones and zeros of a spelled-out group normalization")                            \
    X(CLASS_WEIGHTS, false, "class weights of the file's loss")                                              \
    X(LOSS_CONSTANT, false, "a constant of the file's loss")                                                 \
    X(STATISTIC, false, "running statistics")                                                                \
    X(FROZEN, false, "--freeze")                                                                             \
    X(UNREACHED, false, "no gradient reaches it")
typedef enum ckpt_verdict {
#define X(ID, trained, text) CKPT_VERDICT_##ID,
    CKPT_VERDICT_LIST(X)
#undef X
} ckpt_verdict;

/* The verdict on one tensor. */
typedef struct ckpt_ruling {
    const char *name;
    int tensor; /* of the graph */
    int64_t count;
    ckpt_verdict verdict;
    bool initializer;    /* else of a Constant node, or */
    bool uniform;        /* one value throughout, from a ConstantOfShape */
    const char *origin;  /* the parameter that the exporter computed it from, or NULL */
} ckpt_ruling;

bool ckpt_verdict_trains(ckpt_verdict verdict);
const char *ckpt_verdict_text(ckpt_verdict verdict);

#endif
