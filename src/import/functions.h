/* Local functions of a model, written out: every call becomes the nodes of the function's body.
 *
 *     ckpt_call_list list;
 *     CKPT_TRY(ckpt_functions_expand(model, is_operator, &pool, &list, err));
 *     for (size_t i = 0; i < list.count; i++) import(list.node[i].proto, list.node[i].opset);
 *
 * The file's messages stay as they are; what changes is copied. Values of a body get the name "CALL:NAME" with the
 * number of the call, nodes "CALL NAME/NODE NAME". Source: ONNX IR specification, "Functions".
 */
#ifndef CKPT_FUNCTIONS_H
#define CKPT_FUNCTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"
#include "proto_gen/onnx.pb-c.h"

typedef struct ckpt_call_node {
    const Onnx__NodeProto *proto;
    int64_t opset;    /* of ONNX's own operators where this node stands; 1 where the model names none */
    bool in_function; /* copied out of a body */
    size_t index;     /* of the node of the graph that it comes from */
} ckpt_call_node;

typedef struct ckpt_call_list {
    ckpt_call_node *node; /* in the pool, in the order of the file */
    size_t count;
} ckpt_call_list;

/* Is this an operator that the importer knows itself? Such a node is no call, whatever functions there are: which of
 * the two wins is left to the runtime by the specification. */
typedef bool ckpt_is_operator(const char *domain, const char *op_type);

/* CKPT_MODEL: a function defined twice, calls within calls deeper than 32 (or without end), or an expansion beyond
 * 100 times the nodes of the file. Everything allocated is in the pool. */
ckpt_status ckpt_functions_expand(const Onnx__ModelProto *model, ckpt_is_operator *is_operator, ckpt_pool *pool,
                                  ckpt_call_list *list, ckpt_error *err);

/* The version under which ONNX's own operators are imported, or `absent`. */
int64_t ckpt_functions_opset(size_t count, Onnx__OperatorSetIdProto *const *import, int64_t absent);

#endif
