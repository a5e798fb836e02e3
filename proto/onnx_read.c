#include "proto/onnx_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/onnx_scan.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor data is copied as it is in the file");

/* ---- The heap that protobuf-c allocates from ------------------------------------------------------- */

typedef union heap_block {
    size_t bytes;
    max_align_t align;
} heap_block;

static void *heap_alloc(void *data, size_t size) {
    onnx_heap *heap = data;
    size_t room = heap->limit_bytes - heap->live_bytes;
    if (room < sizeof(heap_block) || size > room - sizeof(heap_block)) {
        heap->refused = true;
        return NULL;
    }
    heap_block *block = malloc(sizeof *block + size);
    if (!block) return NULL;
    block->bytes = sizeof *block + size;
    heap->live_bytes += block->bytes;
    return block + 1;
}

static void heap_free(void *data, void *pointer) {
    if (!pointer) return;
    onnx_heap *heap = data;
    heap_block *block = (heap_block *)pointer - 1;
    heap->live_bytes -= block->bytes;
    free(block);
}

void onnx_heap_start(onnx_heap *heap, size_t limit_bytes) {
    *heap = (onnx_heap){.api = {heap_alloc, heap_free, heap}, .limit_bytes = limit_bytes};
}

/* What a file of `size` bytes may take once unpacked. The densest honest content is a list of small numbers
 * that are not packed: 2 bytes in the file, 8 in memory and twice 32 while protobuf-c sorts the fields, so
 * 36 for one. Beyond the first 64 MiB a file holds weights, where 8 for one is the most (small int64).
 * A message of 2 bytes that takes 300 in memory is honest too, as long as not all of the file is that. */
static size_t heap_limit(size_t size) {
    const size_t structure = (size_t)64 << 20;
    return ((size_t)1 << 20) + 40 * (size < structure ? size : structure) + 10 * size;
}

/* ---- Bytes of a file ------------------------------------------------------------------------------- */

typedef struct file_bytes {
    uint8_t *bytes;
    size_t size;
    dev_t device;
    ino_t inode;
} file_bytes;

static ckpt_status check_kind(const char *path, const struct stat *st, ckpt_error *err) {
    if (S_ISDIR(st->st_mode)) {
        return ckpt_fail(err, CKPT_MODEL, "%s: is a directory; name the .onnx file in it", path);
    }
    if (!S_ISREG(st->st_mode)) {
        return ckpt_fail(err, CKPT_MODEL, "%s: is not a regular file; save the model to a file first", path);
    }
    if (st->st_size == 0) {
        return ckpt_fail(err, CKPT_MODEL, "%s: the file is empty; export or download it again", path);
    }
    if (st->st_size > INT32_MAX) {
        return ckpt_fail(
            err, CKPT_MODEL,
            "%s: is larger than 2 GiB, the limit of protobuf; export the weights as external data", path);
    }
    return CKPT_OK;
}

static ckpt_status read_all(int fd, const char *path, uint8_t *bytes, size_t size, ckpt_error *err) {
    for (size_t done = 0; done < size;) {
        ssize_t n = read(fd, bytes + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return ckpt_fail(err, CKPT_FAILED, "%s: cannot read: %s", path, strerror(errno));
        if (n == 0)
            return ckpt_fail(err, CKPT_FAILED, "%s: became shorter while being read; try again", path);
        done += (size_t)n;
    }
    return CKPT_OK;
}

static ckpt_status load_from(int fd, const char *path, file_bytes *out, ckpt_error *err) {
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return ckpt_fail(err, CKPT_USAGE, "%s: cannot inspect: %s", path, strerror(errno));
    }
    CKPT_TRY(check_kind(path, &st, err));
    *out = (file_bytes){.size = (size_t)st.st_size, .device = st.st_dev, .inode = st.st_ino};
    out->bytes = malloc(out->size);
    if (!out->bytes) {
        return ckpt_fail(err, CKPT_NOMEM, "%s: no memory for the file's %zu bytes", path, out->size);
    }
    ckpt_status status = read_all(fd, path, out->bytes, out->size, err);
    if (status != CKPT_OK) free(out->bytes);
    return status;
}

/* Free out->bytes after success. */
static ckpt_status load(const char *path, file_bytes *out, ckpt_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* NONBLOCK: a named pipe must not hang us */
    if (fd < 0) {
        const char *advice = errno == ENOENT   ? "; check the path"
                             : errno == EACCES ? "; check its permissions"
                                               : "";
        return ckpt_fail(err, CKPT_USAGE, "%s: cannot open: %s%s", path, strerror(errno), advice);
    }
    ckpt_status status = load_from(fd, path, out, err);
    close(fd);
    return status;
}

/* ---- What is wrong with a file that is not what it should be ---------------------------------------- */

/* Files that people take for models, by their first bytes. */
static const struct {
    const char *magic;
    size_t length;
    const char *kind, *remedy;
} foreign_files[] = {
    {"PK\3\4", 4, "a zip archive, as PyTorch checkpoints are", "export it with torch.onnx.export"},
    {"\x80\2", 2, "a Python pickle", "export the model to ONNX"},
    {"\x89HDF", 4, "an HDF5 file, as Keras writes", "convert it to ONNX"},
    {"\x1f\x8b", 2, "gzip-compressed", "unpack it first"},
    {"version https://git-lfs", 23, "a Git LFS pointer, not the file itself", "run 'git lfs pull'"},
    {"\x93NUMPY", 6, "a NumPy array", "give it as data, not as a model"},
    {"<!", 2, "a web page", "download the file itself"},
    {"<html", 5, "a web page", "download the file itself"},
};

static const char *kind_of(const ProtobufCMessageDescriptor *type) {
    return type == &onnx__model_proto__descriptor ? "an ONNX model" : "an ONNX tensor";
}

static ckpt_status refuse(const char *path, const ProtobufCMessageDescriptor *type, const file_bytes *file,
                          const ckpt_onnx_fault *fault, ckpt_error *err) {
    for (size_t i = 0; i < sizeof foreign_files / sizeof *foreign_files; i++) {
        size_t length = foreign_files[i].length;
        if (file->size >= length && memcmp(file->bytes, foreign_files[i].magic, length) == 0) {
            return ckpt_fail(err, CKPT_MODEL, "%s: is %s, not %s; %s", path, foreign_files[i].kind,
                             kind_of(type), foreign_files[i].remedy);
        }
    }
    const char *dot = *fault->field ? "." : "";
    switch (fault->kind) {
    case CKPT_ONNX_FAULT_FOREIGN:
        break;
    case CKPT_ONNX_FAULT_TRUNCATED:
        return ckpt_fail(err, CKPT_MODEL,
                         "%s: is cut off: it ends at byte %zu, inside %s%s%s; copy or export it again", path,
                         file->size, fault->message, dot, fault->field);
    case CKPT_ONNX_FAULT_DEEP:
        return ckpt_fail(err, CKPT_MODEL,
                         "%s: more than %d messages inside each other at byte %zu (%s%s%s); no exporter "
                         "writes this, get the file from another source",
                         path, CKPT_ONNX_MAX_DEPTH, fault->offset, fault->message, dot, fault->field);
    case CKPT_ONNX_FAULT_DAMAGED:
        return ckpt_fail(err, CKPT_MODEL, "%s: is damaged at byte %zu (%s%s%s): %s; copy or export it again",
                         path, fault->offset, fault->message, dot, fault->field, fault->what);
    }
    return ckpt_fail(err, CKPT_MODEL, "%s: is not %s; name a file that an ONNX exporter wrote", path,
                     kind_of(type));
}

/* ---- Opening --------------------------------------------------------------------------------------- */

static ckpt_status unpack(onnx_open_file *open_file, const ProtobufCMessageDescriptor *type,
                          const file_bytes *bytes, ProtobufCMessage **message, ckpt_error *err) {
    const char *path = open_file->face.path;
    ckpt_onnx_fault fault;
    if (!ckpt_onnx_scan(type, bytes->bytes, bytes->size, &fault))
        return refuse(path, type, bytes, &fault, err);
    onnx_heap_start(&open_file->heap, heap_limit(bytes->size));
    *message = protobuf_c_message_unpack(type, &open_file->heap.api, bytes->size, bytes->bytes);
    if (*message) return CKPT_OK;
    if (open_file->heap.refused) {
        return ckpt_fail(err, CKPT_MODEL,
                         "%s: would take over %zu bytes of memory for a file of %zu, as only a file made of "
                         "empty entries does; get the file from another source",
                         path, open_file->heap.limit_bytes, bytes->size);
    }
    return ckpt_fail(err, CKPT_NOMEM, "%s: no memory to hold the unpacked file", path);
}

static ckpt_status check_model(const ckpt_onnx_file *file, ckpt_error *err) {
    const Onnx__ModelProto *model = file->model;
    if (!model->has_ir_version && !model->graph) {
        return ckpt_fail(err, CKPT_MODEL,
                         "%s: is not an ONNX model: it has neither ir_version nor graph; name a file that an "
                         "ONNX exporter wrote",
                         file->path);
    }
    if (!model->has_ir_version) {
        return ckpt_fail(err, CKPT_MODEL, "%s: the model has no ir_version; export it again", file->path);
    }
    if (!model->graph) {
        return ckpt_fail(err, CKPT_MODEL, "%s: the model has no graph; export it again", file->path);
    }
    return CKPT_OK;
}

static ckpt_status set_place(onnx_open_file *open_file, const char *path, const file_bytes *bytes,
                             ckpt_error *err) {
    ckpt_onnx_file *face = &open_file->face;
    const char *slash = strrchr(path, '/');
    face->path = ckpt_pool_strdup(&open_file->pool, path);
    if (!slash) {
        face->directory = ".";
    } else {
        size_t length = slash == path ? 1 : (size_t)(slash - path);
        face->directory = ckpt_pool_strndup(&open_file->pool, path, length);
    }
    if (!face->path || !face->directory) return ckpt_fail(err, CKPT_NOMEM, "%s: out of memory", path);
    open_file->device = bytes->device;
    open_file->inode = bytes->inode;
    open_file->directory_fd = open(face->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (open_file->directory_fd < 0) {
        return ckpt_fail(err, CKPT_USAGE, "%s: cannot open its directory: %s", path, strerror(errno));
    }
    return CKPT_OK;
}

static ckpt_status fill(onnx_open_file *open_file, const char *path, const ProtobufCMessageDescriptor *type,
                        const file_bytes *bytes, ckpt_error *err) {
    CKPT_TRY(set_place(open_file, path, bytes, err));
    ProtobufCMessage *message;
    CKPT_TRY(unpack(open_file, type, bytes, &message, err));
    if (type == &onnx__tensor_proto__descriptor) {
        open_file->face.tensor = (Onnx__TensorProto *)message;
        return CKPT_OK;
    }
    open_file->face.model = (Onnx__ModelProto *)message;
    return check_model(&open_file->face, err);
}

static ckpt_status read_as(const ProtobufCMessageDescriptor *type, const char *path, ckpt_onnx_file **out,
                           ckpt_error *err) {
    *out = NULL;
    file_bytes bytes = {0};
    CKPT_TRY(load(path, &bytes, err));
    onnx_open_file *open_file = calloc(1, sizeof *open_file);
    ckpt_status status;
    if (open_file) {
        open_file->directory_fd = -1;
        status = fill(open_file, path, type, &bytes, err);
    } else {
        status = ckpt_fail(err, CKPT_NOMEM, "%s: out of memory", path);
    }
    free(bytes.bytes);
    if (status == CKPT_OK) {
        *out = &open_file->face;
    } else if (open_file) {
        ckpt_onnx_free(&open_file->face);
    }
    return status;
}

ckpt_status ckpt_onnx_read(const char *path, ckpt_onnx_file **out, ckpt_error *err) {
    return read_as(&onnx__model_proto__descriptor, path, out, err);
}

ckpt_status ckpt_onnx_read_tensor_pb(const char *path, ckpt_onnx_file **out, ckpt_error *err) {
    return read_as(&onnx__tensor_proto__descriptor, path, out, err);
}

size_t ckpt_onnx_memory_bytes(const ckpt_onnx_file *file) { return onnx_open(file)->heap.live_bytes; }

void ckpt_onnx_free(ckpt_onnx_file *file) {
    if (!file) return;
    onnx_open_file *open_file = (onnx_open_file *)(void *)file;
    if (file->model) onnx__model_proto__free_unpacked(file->model, &open_file->heap.api);
    if (file->tensor) onnx__tensor_proto__free_unpacked(file->tensor, &open_file->heap.api);
    if (open_file->directory_fd >= 0) close(open_file->directory_fd);
    ckpt_pool_free(&open_file->pool);
    free(open_file);
}
