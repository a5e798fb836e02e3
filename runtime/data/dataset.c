/* Opening files, the table of formats, and what holds a loaded set. */
#include "data/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data/data_format.h"

/* One row a format, asked in this order; the first that recognises the file loads it. A directory of
 * TensorProto .pb files would be one more row: its recognises looks at source->directory. `alone`: the
 * format assigns its content to all requests, so it is no part of a list of files. */
static const struct format {
    const char *name;
    bool (*recognises)(const ckpt_data_source *source);
    ckpt_data_loader *load;
    bool alone;
} formats[] = {
    {".npz", ckpt_npz_recognises, ckpt_npz_load, false},
    {".npy", ckpt_npy_recognises, ckpt_npy_load, false},
    {"CSV", ckpt_csv_recognises, ckpt_csv_load, true},
    {"IDX", ckpt_idx_recognises, ckpt_idx_load, false},
};

/* One load: what it has opened, and memory that goes when it ends. */
typedef struct load {
    ckpt_data_wanted wanted;
    ckpt_pool pool;
    ckpt_data_catalog catalog;
} load;

bool ckpt_has_suffix(const char *path, const char *suffix) {
    size_t n = strlen(path), m = strlen(suffix);
    if (n < m) return false;
    for (size_t i = 0; i < m; i++) {
        char c = path[n - m + i];
        if (c >= 'A' && c <= 'Z') c = (char)(c + ('a' - 'A'));
        if (c != suffix[i]) return false;
    }
    return true;
}

ckpt_data_entry *ckpt_data_catalog_add(ckpt_data_catalog *catalog) {
    if (catalog->count == catalog->capacity) {
        size_t more = catalog->capacity ? 2 * catalog->capacity : 8;
        ckpt_data_entry *entries =
            ckpt_pool_grow(catalog->pool, catalog->entries, catalog->count, more, sizeof *entries);
        if (!entries) return NULL;
        catalog->entries = entries;
        catalog->capacity = more;
    }
    return &catalog->entries[catalog->count++];
}

static ckpt_status read_descriptor(int fd, ckpt_data_source *source, ckpt_pool *pool, ckpt_error *err) {
    struct stat info;
    if (fstat(fd, &info) != 0) return ckpt_fail(err, CKPT_USAGE, "cannot be read: %s", strerror(errno));
    source->directory = S_ISDIR(info.st_mode);
    if (source->directory) return CKPT_OK;
    if (!S_ISREG(info.st_mode)) return ckpt_fail(err, CKPT_USAGE, "is not a regular file; give a data file");
    size_t size = (size_t)info.st_size;
    uint8_t *bytes = ckpt_pool_alloc(pool, size, 1);
    if (!bytes) return ckpt_fail(err, CKPT_NOMEM, "its %zu bytes do not fit host memory", size);
    for (size_t done = 0; done < size;) {
        ssize_t got = read(fd, bytes + done, size - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return ckpt_fail(err, CKPT_USAGE, "cannot be read: %s", strerror(errno));
        if (got == 0) return ckpt_fail(err, CKPT_USAGE, "became shorter while it was read; try again");
        done += (size_t)got;
    }
    source->bytes = bytes;
    source->size = size;
    return CKPT_OK;
}

static ckpt_status read_source(ckpt_data_source *source, ckpt_pool *pool, ckpt_error *err) {
    /* O_NONBLOCK: opening a pipe must not wait for its writer; for regular files it does nothing. */
    int fd = open(source->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return ckpt_fail(err, CKPT_USAGE, "cannot be opened: %s", strerror(errno));
    ckpt_status status = read_descriptor(fd, source, pool, err);
    close(fd);
    return status;
}

static ckpt_status load_source(load *l, const ckpt_data_source *source, bool one_of_many, ckpt_error *err) {
    if (!source->directory && source->size == 0) return ckpt_fail(err, CKPT_USAGE, "is empty; save it again");
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (!formats[i].recognises(source)) continue;
        if (formats[i].alone && one_of_many)
            return ckpt_fail(err, CKPT_USAGE, "a %s file holds inputs and targets; give it alone",
                             formats[i].name);
        return formats[i].load(source, &l->wanted, &l->catalog, err);
    }
    return ckpt_fail(err, CKPT_USAGE, "is %s; give a .npz, .npy, .csv or IDX file",
                     source->directory ? "a directory" : "in no known data format");
}

static ckpt_status load_path(load *l, const char *path, bool one_of_many, ckpt_error *err) {
    ckpt_data_source source = {.path = path};
    ckpt_status status = read_source(&source, &l->pool, err);
    if (status == CKPT_OK) status = load_source(l, &source, one_of_many, err);
    if (status != CKPT_OK && err) ckpt_fail_in(err, "%s", path);
    return status;
}

/* A path, or paths separated by commas. */
static ckpt_status load_spec(load *l, const char *spec, ckpt_error *err) {
    struct stat info;
    if (!strchr(spec, ',') || stat(spec, &info) == 0) return load_path(l, spec, false, err);
    for (const char *at = spec; at;) {
        const char *comma = strchr(at, ',');
        size_t length = comma ? (size_t)(comma - at) : strlen(at);
        if (!length) return ckpt_fail(err, CKPT_USAGE, "%s: has an empty file name; remove the comma", spec);
        const char *path = ckpt_pool_strndup(&l->pool, at, length);
        if (!path) return ckpt_fail(err, CKPT_NOMEM, "out of memory for file names");
        CKPT_TRY(load_path(l, path, true, err));
        at = comma ? comma + 1 : NULL;
    }
    return CKPT_OK;
}

/* Files by `spec`, or one file in memory when `memory` is there. */
static ckpt_status load_any(const char *spec, const ckpt_data_source *memory,
                            const ckpt_data_request *requests, size_t request_count, ckpt_dataset *dataset,
                            ckpt_error *err) {
    *dataset = (ckpt_dataset){0};
    if (!request_count) return ckpt_fail(err, CKPT_USAGE, "%s: the model takes no data; leave it out", spec);
    load l = {.wanted = {requests, request_count}};
    l.catalog.pool = &l.pool;
    ckpt_status status;
    if (memory) {
        status = load_source(&l, memory, false, err);
        if (status != CKPT_OK && err) ckpt_fail_in(err, "%s", spec);
    } else {
        status = load_spec(&l, spec, err);
    }
    if (status == CKPT_OK) status = ckpt_data_bind(spec, &l.wanted, &l.catalog, dataset, err);
    ckpt_pool_free(&l.pool);
    if (status != CKPT_OK) ckpt_dataset_free(dataset);
    return status;
}

ckpt_status ckpt_dataset_load(const char *spec, const ckpt_data_request *requests, size_t request_count,
                              ckpt_dataset *dataset, ckpt_error *err) {
    return load_any(spec, NULL, requests, request_count, dataset, err);
}

ckpt_status ckpt_dataset_load_memory(const char *path, const void *bytes, size_t size,
                                     const ckpt_data_request *requests, size_t request_count,
                                     ckpt_dataset *dataset, ckpt_error *err) {
    ckpt_data_source source = {.path = path, .bytes = bytes, .size = size};
    return load_any(path, &source, requests, request_count, dataset, err);
}

/* Whole numbers within int64, which the caller has seen to. */
static ckpt_status make_integers(ckpt_array *array, ckpt_pool *pool, ckpt_error *err) {
    const uint64_t count = (uint64_t)array->dim[0] * array->values;
    const float *from = array->data;
    int64_t *to = ckpt_pool_array(pool, count, int64_t);
    if (!to) return ckpt_fail(err, CKPT_NOMEM, "takes more than there is of host memory; use fewer samples");
    for (uint64_t i = 0; i < count; i++) to[i] = from[i] > -0x1p62f && from[i] < 0x1p62f ? (int64_t)from[i] : INT64_MIN;
    array->data = to;
    array->type = CKPT_ARRAY_I64;
    return CKPT_OK;
}

ckpt_status ckpt_dataset_settle(const char *path, ckpt_dataset *dataset, size_t index, const ckpt_data_request *request,
                                ckpt_error *err) {
    ckpt_data_request own = *request;
    ckpt_array *array = &dataset->arrays[index];
    array->has_ignore = own.has_ignore;
    array->ignore = own.ignore;
    if (array->type == CKPT_ARRAY_I64 && own.unit_range) own.classes = 2; /* 0 and 1 are all the integers from 0 to 1 */
    ckpt_status status = own.want == CKPT_WANT_INTEGER && array->type == CKPT_ARRAY_F32 ? make_integers(array, &dataset->pool, err) : CKPT_OK;
    if (status == CKPT_OK) status = ckpt_data_check(array, &own, err);
    if (status == CKPT_OK) return CKPT_OK;
    char what[CKPT_MESSAGE_SIZE];
    memcpy(what, err->message, sizeof what);
    return ckpt_fail(err, status, "%s: array '%.80s' %s", path, array->name, what);
}

void ckpt_dataset_free(ckpt_dataset *dataset) {
    ckpt_pool_free(&dataset->pool);
    *dataset = (ckpt_dataset){0};
}

size_t ckpt_array_sample_bytes(const ckpt_array *array) {
    return (size_t)array->values * (array->type == CKPT_ARRAY_F32 ? sizeof(float) : sizeof(int64_t));
}

void ckpt_array_gather(const ckpt_array *array, const uint32_t *order, size_t count, void *out) {
    size_t bytes = ckpt_array_sample_bytes(array);
    for (size_t i = 0; i < count; i++)
        memcpy((char *)out + i * bytes, (const char *)array->data + order[i] * bytes, bytes);
}
