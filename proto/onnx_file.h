/* ONNX files: guarded reading, tensors with inline or external data, writing with new weights.
 *
 *     ckpt_onnx_file *file;
 *     CKPT_TRY(ckpt_onnx_read("model.onnx", &file, err));
 *     Onnx__TensorProto *tensor = file->model->graph->initializer[0];
 *     ckpt_onnx_tensor_info info;
 *     CKPT_TRY(ckpt_onnx_tensor_describe(file, tensor, &info, err));     // shape and size, checked
 *     CKPT_TRY(ckpt_onnx_tensor_read_f32(file, tensor, weights, info.count, err));
 *     ckpt_onnx_replacement trained = {.name = tensor->name, .values = weights, .count = info.count};
 *     CKPT_TRY(ckpt_onnx_write(file, "trained.onnx", &trained, 1, 0, err));
 *     ckpt_onnx_free(file);
 *
 * Nothing in a file is trusted. Errors: CKPT_USAGE when a file cannot be opened or its name cannot be used,
 * CKPT_MODEL when what it holds is wrong, CKPT_NOMEM, CKPT_FAILED when reading or writing fails midway. The
 * message names the file. One thread at a time may use a ckpt_onnx_file.
 */
#ifndef CKPT_ONNX_FILE_H
#define CKPT_ONNX_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "proto_gen/onnx.pb-c.h"

/* A file in memory. Everything belongs to it and lives until ckpt_onnx_free. Strings that a file does not
 * set are NULL in the messages, those that it sets to nothing are "". */
typedef struct ckpt_onnx_file {
    Onnx__ModelProto *model;   /* with ir_version and graph; NULL after ckpt_onnx_read_tensor_pb */
    Onnx__TensorProto *tensor; /* NULL after ckpt_onnx_read */
    const char *path;          /* as given */
    const char *directory;     /* the part of `path` before the last '/', or "."; external data is under it */
} ckpt_onnx_file;

/* Reads a model of up to 2 GiB (protobuf's limit; external data is not counted). The memory that it takes
 * is bounded by the size of the file. *out is NULL on failure. */
ckpt_status ckpt_onnx_read(const char *path, ckpt_onnx_file **out, ckpt_error *err);

/* Reads a file that is one TensorProto, as ONNX's own test data is. */
ckpt_status ckpt_onnx_read_tensor_pb(const char *path, ckpt_onnx_file **out, ckpt_error *err);

/* What the unpacked file takes in memory. */
size_t ckpt_onnx_memory_bytes(const ckpt_onnx_file *file);

/* NULL is allowed. */
void ckpt_onnx_free(ckpt_onnx_file *file);

typedef struct ckpt_onnx_tensor_info {
    Onnx__TensorProto__DataType type;
    size_t rank;
    const int64_t *dims; /* rank entries >= 0, owned by the tensor */
    uint64_t count;      /* elements: the product of dims, 1 for a scalar */
    uint64_t bytes;      /* of all elements; types under 8 bits are packed as in ONNX; 0 for STRING */
    bool external;       /* the data is in a file of its own */
} ckpt_onnx_tensor_info;

/* Shape and size of a tensor after checking that its data is there and exactly as long. For external data
 * that includes the file: under the model's directory, regular, no link of any kind on the way, long enough.
 * Reads no data. */
ckpt_status ckpt_onnx_tensor_describe(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor,
                                      ckpt_onnx_tensor_info *info, ckpt_error *err);

/* Copies the elements in their own type, little-endian. dst_bytes must be info.bytes. Not for STRING, whose
 * elements are tensor->string_data. */
ckpt_status ckpt_onnx_tensor_read(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor, void *dst,
                                  size_t dst_bytes, ckpt_error *err);

/* Converts to float, rounding to nearest, from FLOAT, DOUBLE, FLOAT16, BFLOAT16, BOOL (0 or 1) and integers
 * of 8 bits and more. dst_count must be info.count. */
ckpt_status ckpt_onnx_tensor_read_f32(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor, float *dst,
                                      size_t dst_count, ckpt_error *err);

/* The same from BOOL and the integers to int64_t; a UINT64 that does not fit is an error. */
ckpt_status ckpt_onnx_tensor_read_i64(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor,
                                      int64_t *dst, size_t dst_count, ckpt_error *err);

/* The bits of `value` as FLOAT16 or BFLOAT16, rounded once, to nearest, ties to even. */
uint16_t ckpt_onnx_half_bits(int type, double value);

/* "FLOAT", or "of unknown type" for a number that ONNX does not define. */
const char *ckpt_onnx_type_name(int type);

/* Edits of the model in memory, which are written with it. Names are copied; indices are of model->graph.
 * CKPT_NOMEM, with nothing changed, also where the file's bound on memory is reached. */
ckpt_status ckpt_onnx_copy_initializer(ckpt_onnx_file *file, size_t index, const char *name, ckpt_error *err);
ckpt_status ckpt_onnx_set_input(ckpt_onnx_file *file, size_t node, size_t input, const char *name, ckpt_error *err);
void ckpt_onnx_remove_node(ckpt_onnx_file *file, size_t node);
/* Gives `key` of the model's metadata_props this value, in UTF-8; other keys stay. */
ckpt_status ckpt_onnx_set_metadata(ckpt_onnx_file *file, const char *key, const char *value, ckpt_error *err);
/* The 2-D initializer `index` becomes the output of a Transpose of `source`, which runs before all other nodes. */
ckpt_status ckpt_onnx_transpose_instead(ckpt_onnx_file *file, size_t index, const char *source, ckpt_error *err);

/* What ckpt_onnx_make_dense did. */
typedef struct ckpt_onnx_dense {
    size_t count;      /* initializers */
    const char *first; /* name of one, the file's; NULL: none */
    uint64_t stored, elements;
} ckpt_onnx_dense;

/* Makes the graph's sparse initializers dense ones, at the end of its list, as runtimes do when they load a model; it is
 * written with them. CKPT_MODEL, naming the initializer: malformed, or so sparse that the file's bound on memory is reached. */
ckpt_status ckpt_onnx_make_dense(ckpt_onnx_file *file, ckpt_onnx_dense *done, ckpt_error *err);

/* New values of the graph's initializer `name` or, where there is none, of the tensor in the Constant node
 * whose output is `name`. Values are rounded to nearest, ties to even, into the tensor's type: FLOAT,
 * DOUBLE, FLOAT16 or BFLOAT16. A finite value that is too large for the type is an error, and nothing is written. */
typedef struct ckpt_onnx_replacement {
    const char *name;
    const float *values; /* in row-major order */
    size_t count;        /* the tensor's number of elements */
} ckpt_onnx_replacement;

enum { CKPT_ONNX_OVERWRITE_INPUT = 1 /* `path` may be the file that was read */ };

/* Writes the model with new values, everything else as it was, unknown fields included. Tensors stay in
 * raw_data, in their typed field or in external data. All external data goes, 4096-byte aligned, to one file with the first
 * name of "<path>.data", "<path>.1.data", ... that neither the open model nor the one at `path` uses; a file that is there is
 * replaced. So at every moment, killed or not, `path` is the whole old model or the whole new one, and the open model stays
 * readable. At the end the data that the old model had under one of these names is removed, unless the open model reads it
 * or the new model has no external data; what a killed save has left is replaced by the next. (Not for two saves to one path
 * at a time.)
 * Files appear under their names only when complete and flushed to disk; on failure whatever was there before is still there.
 * `file` is the same after the call as before. flags: 0 or CKPT_ONNX_OVERWRITE_INPUT. */
ckpt_status ckpt_onnx_write(ckpt_onnx_file *file, const char *path, const ckpt_onnx_replacement *replacements,
                            size_t count, unsigned flags, ckpt_error *err);

/* What of ckpt_onnx_write would fail whatever the values, which may be NULL here: a replacement without a place, of another size
 * or type, external data that is not there, no name left for the new one beside `path`, a model that is too large. Writes
 * nothing, and does not ask whether `path` itself can be written. */
ckpt_status ckpt_onnx_check_write(ckpt_onnx_file *file, const char *path, const ckpt_onnx_replacement *replacements,
                                  size_t count, ckpt_error *err);

#endif
