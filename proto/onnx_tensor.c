#include "proto/onnx_convert.h"

#include <string.h>
#include <unistd.h>

#include "base/units.h"

ckpt_status onnx_tensor_fail_in(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor,
                                ckpt_status status, ckpt_error *err) {
    if (err) ckpt_fail_in(err, "%s: tensor '%.160s'", file->path, onnx_text(tensor->name));
    return status;
}

/* ---- Shape, size and place -------------------------------------------------------------------------- */

static ckpt_status count_elements(const Onnx__TensorProto *tensor, uint64_t *count, ckpt_error *err) {
    *count = 1;
    bool empty = false;
    for (size_t i = 0; i < tensor->n_dims; i++) {
        int64_t dim = tensor->dims[i];
        if (dim < 0) {
            return ckpt_fail(err, CKPT_MODEL,
                             "dimension %zu is %lld; a stored tensor needs sizes of 0 or more", i,
                             (long long)dim);
        }
        /* A zero does not excuse an overflow in the others: their product is used for strides. */
        if (dim == 0) {
            empty = true;
        } else if (!ckpt_mul_u64(*count, (uint64_t)dim, count)) {
            return ckpt_fail(err, CKPT_MODEL, "its dimensions multiply to more than 2^64 elements");
        }
    }
    if (empty) *count = 0;
    return CKPT_OK;
}

static ckpt_status size_elements(const onnx_type *type, uint64_t count, uint64_t *bytes, ckpt_error *err) {
    uint64_t bits;
    if (!ckpt_mul_u64(count, type->bits, &bits) || bits > UINT64_MAX - 7 || bits / 8 > SIZE_MAX / 2) {
        return ckpt_fail(err, CKPT_MODEL, "%llu elements of type %s do not fit in memory",
                         (unsigned long long)count, type->name);
    }
    *bytes = (bits + 7) / 8;
    return CKPT_OK;
}

/* Entries in a typed field. */
static size_t stored_entries(const Onnx__TensorProto *tensor, onnx_store store) {
    switch (store) {
    case ONNX_STORE_FLOAT:
        return tensor->n_float_data;
    case ONNX_STORE_INT32:
        return tensor->n_int32_data;
    case ONNX_STORE_INT64:
        return tensor->n_int64_data;
    case ONNX_STORE_DOUBLE:
        return tensor->n_double_data;
    case ONNX_STORE_UINT64:
        return tensor->n_uint64_data;
    case ONNX_STORE_STRING:
        return tensor->n_string_data;
    default:
        return 0;
    }
}

static const char *store_name(onnx_store store) {
    static const char *const names[] = {"no data",     "raw_data",    "float_data",
                                        "int32_data",  "int64_data",  "double_data",
                                        "uint64_data", "string_data", "external data"};
    return names[store];
}

/* The one place where the tensor has data; several would contradict each other. */
static ckpt_status find_store(const Onnx__TensorProto *tensor, onnx_store *store, ckpt_error *err) {
    *store = ONNX_STORE_NONE;
    bool external =
        tensor->has_data_location && tensor->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    if (tensor->has_data_location && !external &&
        tensor->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT) {
        return ckpt_fail(err, CKPT_MODEL, "its data_location %d is unknown; export the model again",
                         (int)tensor->data_location);
    }
    for (onnx_store s = ONNX_STORE_RAW; s <= ONNX_STORE_EXTERNAL; s++) {
        bool present = s == ONNX_STORE_RAW        ? tensor->has_raw_data && tensor->raw_data.len > 0
                       : s == ONNX_STORE_EXTERNAL ? external
                                                  : stored_entries(tensor, s) > 0;
        if (!present) continue;
        if (*store != ONNX_STORE_NONE) {
            return ckpt_fail(err, CKPT_MODEL, "it has both %s and %s; export the model again",
                             store_name(*store), store_name(s));
        }
        *store = s;
    }
    return CKPT_OK;
}

static ckpt_status check_stored(const Onnx__TensorProto *tensor, const onnx_type *type,
                                const ckpt_onnx_tensor_info *info, onnx_store store, ckpt_error *err) {
    if (store == ONNX_STORE_NONE) {
        if (info->count == 0) return CKPT_OK;
        return ckpt_fail(err, CKPT_MODEL,
                         "it has no data for its %llu elements; export the model with its weights",
                         (unsigned long long)info->count);
    }
    bool string = type->field == ONNX_STORE_STRING;
    if (store == ONNX_STORE_RAW && !string) {
        if (tensor->raw_data.len == info->bytes) return CKPT_OK;
        return ckpt_fail(err, CKPT_MODEL,
                         "raw_data has %zu bytes, its shape and type %s need %llu; export it again",
                         tensor->raw_data.len, type->name, (unsigned long long)info->bytes);
    }
    if (store != type->field) {
        return ckpt_fail(err, CKPT_MODEL, "its data is in %s, where type %s cannot be; export it again",
                         store_name(store), type->name);
    }
    uint64_t needed = string ? info->count : info->bytes / type->unit_bytes;
    if (stored_entries(tensor, store) == needed) return CKPT_OK;
    return ckpt_fail(err, CKPT_MODEL, "%s has %zu entries, its shape and type %s need %llu; export it again",
                     store_name(store), stored_entries(tensor, store), type->name,
                     (unsigned long long)needed);
}

static ckpt_status locate(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor,
                          ckpt_onnx_tensor_info *info, onnx_store *store, ckpt_error *err) {
    const onnx_type *type = onnx_type_find(tensor->data_type);
    if (!type) {
        return ckpt_fail(err, CKPT_MODEL,
                         "its data_type is %d, which this version does not know; export it again",
                         (int)tensor->data_type);
    }
    if (tensor->segment) {
        return ckpt_fail(err, CKPT_MODEL,
                         "it is stored in segments, which is not supported; export it in one piece");
    }
    *info = (ckpt_onnx_tensor_info){.type = type->type, .rank = tensor->n_dims, .dims = tensor->dims};
    CKPT_TRY(count_elements(tensor, &info->count, err));
    CKPT_TRY(size_elements(type, info->count, &info->bytes, err));
    CKPT_TRY(find_store(tensor, store, err));
    info->external = *store == ONNX_STORE_EXTERNAL;
    if (!info->external) return check_stored(tensor, type, info, *store, err);
    if (type->field == ONNX_STORE_STRING) {
        return ckpt_fail(err, CKPT_MODEL, "strings cannot be external data; export it again");
    }
    onnx_external external;
    CKPT_TRY(onnx_external_open(file, tensor, info->bytes, &external, err));
    close(external.fd);
    return CKPT_OK;
}

ckpt_status onnx_tensor_locate(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor,
                               ckpt_onnx_tensor_info *info, onnx_store *store, ckpt_error *err) {
    ckpt_status status = locate(file, tensor, info, store, err);
    return status == CKPT_OK ? CKPT_OK : onnx_tensor_fail_in(file, tensor, status, err);
}

ckpt_status ckpt_onnx_tensor_describe(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor,
                                      ckpt_onnx_tensor_info *info, ckpt_error *err) {
    onnx_store store;
    return onnx_tensor_locate(file, tensor, info, &store, err);
}

/* ---- Reading: a tensor is read in units, piece by piece --------------------------------------------- */

typedef struct tensor_reader {
    const Onnx__TensorProto *tensor;
    const onnx_type *type;
    ckpt_onnx_tensor_info info;
    onnx_store store;
    onnx_external external; /* open when store is ONNX_STORE_EXTERNAL */
} tensor_reader;

static ckpt_status reader_open(tensor_reader *reader, const ckpt_onnx_file *file,
                               const Onnx__TensorProto *tensor, ckpt_error *err) {
    *reader = (tensor_reader){.tensor = tensor, .external.fd = -1};
    CKPT_TRY(onnx_tensor_locate(file, tensor, &reader->info, &reader->store, err));
    reader->type = onnx_type_find(tensor->data_type);
    if (reader->store != ONNX_STORE_EXTERNAL) return CKPT_OK;
    ckpt_status status = onnx_external_open(file, tensor, reader->info.bytes, &reader->external, err);
    return status == CKPT_OK ? CKPT_OK : onnx_tensor_fail_in(file, tensor, status, err);
}

static void reader_close(tensor_reader *reader) {
    if (reader->external.fd >= 0) close(reader->external.fd);
}

/* int32_data entries narrow to their unit. Writers disagree on whether the upper bits are zeros or the sign,
 * so both are taken. */
static ckpt_status narrow(const int32_t *src, size_t n, unsigned unit_bytes, unsigned char *dst,
                          ckpt_error *err) {
    const int64_t range = INT64_C(1) << (8 * unit_bytes);
    for (size_t i = 0; i < n; i++) {
        if (unit_bytes < 4 && (src[i] >= range || src[i] < -range / 2)) {
            return ckpt_fail(err, CKPT_MODEL,
                             "int32_data entry %zu is %d, too large for the type; export it again", i,
                             (int)src[i]);
        }
        memcpy(dst + i * unit_bytes, &src[i], unit_bytes);
    }
    return CKPT_OK;
}

static ckpt_status narrow_u64(const uint64_t *src, size_t n, unsigned unit_bytes, unsigned char *dst,
                              ckpt_error *err) {
    for (size_t i = 0; i < n; i++) {
        if (unit_bytes < 8 && src[i] > UINT32_MAX) {
            return ckpt_fail(err, CKPT_MODEL,
                             "uint64_data entry %zu is %llu, too large for the type; export it again", i,
                             (unsigned long long)src[i]);
        }
        memcpy(dst + i * unit_bytes, &src[i], unit_bytes);
    }
    return CKPT_OK;
}

/* `count` bytes from byte `first`, both whole elements. */
static ckpt_status read_bytes(const tensor_reader *reader, uint64_t first, void *dst, size_t count,
                              ckpt_error *err) {
    const Onnx__TensorProto *tensor = reader->tensor;
    if (count == 0) return CKPT_OK;
    unsigned unit = reader->type->unit_bytes;
    switch (reader->store) {
    case ONNX_STORE_EXTERNAL:
        return onnx_external_read(&reader->external, first, dst, count, err);
    case ONNX_STORE_RAW:
        memcpy(dst, tensor->raw_data.data + first, count);
        return CKPT_OK;
    case ONNX_STORE_FLOAT:
        memcpy(dst, (const char *)tensor->float_data + first, count);
        return CKPT_OK;
    case ONNX_STORE_INT64:
        memcpy(dst, (const char *)tensor->int64_data + first, count);
        return CKPT_OK;
    case ONNX_STORE_DOUBLE:
        memcpy(dst, (const char *)tensor->double_data + first, count);
        return CKPT_OK;
    case ONNX_STORE_INT32:
        return narrow(tensor->int32_data + first / unit, count / unit, unit, dst, err);
    case ONNX_STORE_UINT64:
        return narrow_u64(tensor->uint64_data + first / unit, count / unit, unit, dst, err);
    default:
        return ckpt_fail(err, CKPT_MODEL, "strings have no bytes to copy; give the tensor numbers");
    }
}

static ckpt_status check_room(uint64_t needed, size_t given, const char *unit, ckpt_error *err) {
    if (needed == given) return CKPT_OK;
    return ckpt_fail(err, CKPT_MODEL, "it has %llu %s where %zu are expected", (unsigned long long)needed,
                     unit, given);
}

static ckpt_status copy_elements(const tensor_reader *reader, void *dst, size_t dst_bytes, ckpt_error *err) {
    if (reader->type->field == ONNX_STORE_STRING) {
        return ckpt_fail(err, CKPT_MODEL, "it has strings where numbers are needed");
    }
    CKPT_TRY(check_room(reader->info.bytes, dst_bytes, "bytes", err));
    return read_bytes(reader, 0, dst, dst_bytes, err);
}

enum { CHUNK_BYTES = 16 * 1024 };

/* Converts through a chunk on the stack: a large external tensor is never in memory twice. dst is float or
 * int64_t, as to_float says. */
static ckpt_status convert_elements(const tensor_reader *reader, bool to_float, void *dst, size_t dst_count,
                                    ckpt_error *err) {
    const onnx_type *type = reader->type;
    if (to_float ? !type->to_f32 : !type->to_i64) {
        return ckpt_fail(err, CKPT_MODEL, "its type %s cannot be read as %s", type->name,
                         to_float ? "float" : "integers");
    }
    CKPT_TRY(check_room(reader->info.count, dst_count, "elements", err));
    unsigned char chunk[CHUNK_BYTES];
    const size_t size = type->bits / 8, step = sizeof chunk / size;
    for (size_t done = 0, n; done < dst_count; done += n) {
        n = dst_count - done < step ? dst_count - done : step;
        CKPT_TRY(read_bytes(reader, (uint64_t)done * size, chunk, n * size, err));
        if (to_float) {
            type->to_f32(chunk, (float *)dst + done, n);
        } else if (!type->to_i64(chunk, (int64_t *)dst + done, n)) {
            return ckpt_fail(err, CKPT_MODEL, "it has a value above 2^63 - 1, too large for an int64");
        }
    }
    return CKPT_OK;
}

ckpt_status ckpt_onnx_tensor_read(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor, void *dst,
                                  size_t dst_bytes, ckpt_error *err) {
    tensor_reader reader;
    CKPT_TRY(reader_open(&reader, file, tensor, err));
    ckpt_status status = copy_elements(&reader, dst, dst_bytes, err);
    reader_close(&reader);
    return status == CKPT_OK ? CKPT_OK : onnx_tensor_fail_in(file, tensor, status, err);
}

static ckpt_status read_converted(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor, bool to_float,
                                  void *dst, size_t dst_count, ckpt_error *err) {
    tensor_reader reader;
    CKPT_TRY(reader_open(&reader, file, tensor, err));
    ckpt_status status = convert_elements(&reader, to_float, dst, dst_count, err);
    reader_close(&reader);
    return status == CKPT_OK ? CKPT_OK : onnx_tensor_fail_in(file, tensor, status, err);
}

ckpt_status ckpt_onnx_tensor_read_f32(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor, float *dst,
                                      size_t dst_count, ckpt_error *err) {
    return read_converted(file, tensor, true, dst, dst_count, err);
}

ckpt_status ckpt_onnx_tensor_read_i64(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor,
                                      int64_t *dst, size_t dst_count, ckpt_error *err) {
    return read_converted(file, tensor, false, dst, dst_count, err);
}
