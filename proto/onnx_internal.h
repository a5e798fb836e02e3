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

static inline onnx_heap *onnx_heap_of(ckpt_onnx_file *file) { return &((onnx_open_file *)(void *)file)->heap; }

/* A copy in the file's memory; NULL: none is left within its limit. */
char *onnx_copy_text(onnx_heap *heap, const char *text);

/* Puts a tensor of the file's memory at the end of the graph's initializers, which then own it. False: no memory. */
bool onnx_append_initializer(ckpt_onnx_file *file, Onnx__TensorProto *tensor);

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

typedef struct onnx_tensor_list {
    Onnx__TensorProto **at; /* in the order of the model's fields; of the pool */
    size_t count, room;
} onnx_tensor_list;

/* All tensors of the model with external data. False: out of memory. */
bool onnx_collect_externals(const ckpt_onnx_file *file, ckpt_pool *pool, onnx_tensor_list *list);

/* The names that the data file of one output may have: "<path>.data", "<path>.1.data" and so on. */
enum { ONNX_DATA_NAMES = 100 };

typedef struct onnx_data_name {
    const char *path;
    bool exists, regular;
    bool read_from; /* by the open model */
    bool named;     /* by the model that is at the output's path now */
    bool unknown;   /* whether it is, because that model cannot be read */
    dev_t device;
    ino_t inode;
} onnx_data_name;

typedef struct onnx_data_names {
    onnx_data_name at[ONNX_DATA_NAMES];
    bool any; /* exists */
    const char *chosen;
} onnx_data_names;

/* Finds the first name that neither the open model nor the old one at `path` uses. `externals` are of `file`. */
ckpt_status onnx_data_names_find(const ckpt_onnx_file *file, const onnx_tensor_list *externals, const char *path, ckpt_pool *pool,
                                 onnx_data_names *names, ckpt_error *err);

/* To be called when the new model is in place: removes those of the names that the old one referred to, if they are still
 * the same regular files and the open model does not read from them. */
void onnx_data_names_remove_old(const onnx_data_names *names);

/* The text of a string field that may be unset. */
static inline const char *onnx_text(const char *field) {
    return field ? field : "";
}

#endif
