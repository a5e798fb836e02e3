/* What the files of proto/ share and nobody else includes. */
#ifndef CKPT_ONNX_INTERNAL_H
#define CKPT_ONNX_INTERNAL_H

#include <sys/types.h>

#include "base/pool.h"
#include "proto/onnx_file.h"

/* A heap with a limit for protobuf-c: what a hostile file can make it allocate is bounded. */
typedef struct onnx_heap {
    ProtobufCAllocator api; /* api.allocator_data points here */
    size_t live_bytes, limit_bytes;
    bool refused; /* an allocation went over the limit */
} onnx_heap;

void onnx_heap_start(onnx_heap *heap, size_t limit_bytes);

/* A ckpt_onnx_file and what it needs; the public part comes first, so the pointers are the same. */
typedef struct onnx_open_file {
    ckpt_onnx_file face;
    onnx_heap heap;
    ckpt_pool pool;   /* path and directory */
    int directory_fd; /* of face.directory: external data is found even if the working directory changes */
    dev_t device;     /* identity of the file that was read */
    ino_t inode;
} onnx_open_file;

static inline const onnx_open_file *onnx_open(const ckpt_onnx_file *file) {
    return (const onnx_open_file *)(const void *)file;
}

/* External data, opened. Close fd. */
typedef struct onnx_external {
    int fd;
    uint64_t offset_bytes;
    dev_t device;
    ino_t inode;
} onnx_external;

/* Opens the file that external_data of `tensor` names and checks that `bytes` bytes are there. The error
 * names neither model nor tensor: the caller puts them in front. */
ckpt_status onnx_external_open(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor, uint64_t bytes,
                               onnx_external *external, ckpt_error *err);

/* Reads exactly count bytes at offset. */
ckpt_status onnx_external_read(const onnx_external *external, uint64_t offset_bytes, void *dst, size_t count,
                               ckpt_error *err);

/* Where a tensor's elements are and how large each is, for reading and for replacing. */
typedef enum onnx_store {
    ONNX_STORE_NONE, /* no elements, none stored */
    ONNX_STORE_RAW,
    ONNX_STORE_FLOAT,
    ONNX_STORE_INT32,
    ONNX_STORE_INT64,
    ONNX_STORE_DOUBLE,
    ONNX_STORE_UINT64,
    ONNX_STORE_STRING,
    ONNX_STORE_EXTERNAL
} onnx_store;

/* ckpt_onnx_tensor_describe that also says where the data is. */
ckpt_status onnx_tensor_locate(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor,
                               ckpt_onnx_tensor_info *info, onnx_store *store, ckpt_error *err);

/* Puts "path: tensor 'name': " before the message in err, which may be NULL; returns `status`. */
ckpt_status onnx_tensor_fail_in(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor,
                                ckpt_status status, ckpt_error *err);

/* The text of a string field that may be unset. */
static inline const char *onnx_text(const char *field) {
    return field ? field : "";
}

#endif
