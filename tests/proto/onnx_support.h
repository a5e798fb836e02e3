/* What the tests of proto/ share: a scratch directory, small models, files of given bytes. */
#ifndef CKPT_ONNX_SUPPORT_H
#define CKPT_ONNX_SUPPORT_H

#include "cmocka_all.h"

#include <stdlib.h>
#include <string.h>

#include "proto/onnx_file.h"

/* cmocka fixtures: *state is the path of an empty directory that teardown removes with all in it. */
int scratch_setup(void **state);
int scratch_teardown(void **state);

/* "scratch/name"; good until the 32nd call after it. */
const char *in_scratch(void **state, const char *name);

void put_file(const char *path, const void *bytes, size_t size);
/* malloc'd; fails the test when the file cannot be read. */
uint8_t *get_file(const char *path, size_t *size);
size_t count_files(const char *directory);

/* A model of y = x * w + b whose parts lie in the struct, so that a test changes what it wants and saves it.
 * w: FLOAT (2, 3), raw_data. b: FLOAT (3), float_data. Constant node "c": DOUBLE (2), double_data. */
typedef struct small_model {
    Onnx__ModelProto model;
    Onnx__OperatorSetIdProto opset, *opsets[1];
    Onnx__GraphProto graph;
    Onnx__NodeProto gemm, constant, *nodes[2];
    Onnx__AttributeProto value, *attributes[1];
    Onnx__TensorProto w, b, c, *initializers[2];
    Onnx__StringStringEntryProto entries[4], *external[4];
    int64_t w_dims[2], b_dims[1], c_dims[1];
    float w_data[6], b_data[3];
    double c_data[2];
    char *inputs[3], *outputs[1], *constant_outputs[1];
} small_model;

void small_model_start(small_model *m);
/* Makes w external; offset and length may be NULL for none. */
void small_model_externalize(small_model *m, const char *location, const char *offset, const char *length);
void small_model_save(const small_model *m, const char *path);

/* Reads `path`, expecting `status` and a one-line message with `part` in it that names the file. */
void expect_read_error(const char *path, ckpt_status status, const char *part);
ckpt_onnx_file *read_or_fail(const char *path);

#endif
