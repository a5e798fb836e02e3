/* Writes small ONNX files for tests, a line a thing:
 *
 *     maker m;
 *     maker_start(&m, 17);
 *     maker_input(&m, "x", 2, (int64_t[]){-1, 8});          // -1: the symbolic dimension "batch"
 *     maker_weight(&m, "w", 2, (int64_t[]){8, 4});           // floats 0.01, 0.02, ...
 *     maker_node(&m, "MatMul", "fc", "x,w", "y", NULL);
 *     maker_output(&m, "y");
 *     const char *path = maker_write(&m, "mlp.onnx");
 *
 *     maker_function(&m, "Block", "a,b", "c", "axis");       // nodes are now its body; maker_graph goes back
 *     maker_node(&m, "Flatten", "f", "a", "t", "axis=@axis"); // an attribute of the call
 *     maker_graph(&m);
 *     maker_node(&m, "local:Block", "block1", "x,w", "y", "axis=1");
 *
 * Attributes: "axis=1 alpha=0.5 perm=1,0 approximate=tanh": a number with a dot is a float, a list is ints, anything
 * else a string.
 */
#ifndef CKPT_MODEL_MAKER_H
#define CKPT_MODEL_MAKER_H

#include <stdint.h>

#include "proto/onnx_file.h"

enum { MAKER_MOST = 64 };

typedef struct maker {
    Onnx__ModelProto model;
    Onnx__GraphProto graph;
    Onnx__OperatorSetIdProto opset, *opsets[1];
    Onnx__NodeProto *nodes[MAKER_MOST];
    Onnx__TensorProto *weights[MAKER_MOST];
    Onnx__ValueInfoProto *inputs[8], *outputs[8];
    Onnx__FunctionProto *functions[8], *function; /* function: whose body is being made, or NULL */
    char path[512];
} maker;

void maker_start(maker *m, int opset);
void maker_input(maker *m, const char *name, int rank, const int64_t *dims);
void maker_output(maker *m, const char *name);
Onnx__TensorProto *maker_weight(maker *m, const char *name, int rank, const int64_t *dims);
void maker_number(maker *m, const char *name, float value);
void maker_ints(maker *m, const char *name, int count, const int64_t *values);
void maker_node(maker *m, const char *op, const char *name, const char *inputs, const char *outputs, const char *attrs);
/* A metadata property of the graph's node number `node`. */
void maker_property(maker *m, int node, const char *key, const char *value);
/* Until maker_graph, nodes go into the function local:NAME, under the model's opset. */
void maker_function(maker *m, const char *name, const char *inputs, const char *outputs, const char *attributes);
void maker_graph(maker *m);
/* Writes the file into the test's folder; the path stays valid. What was made lives until the test ends. */
const char *maker_write(maker *m, const char *name);

#endif
