/* Opening files, the table of formats, and what holds a loaded set. */
#include "data/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
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
    catalog->entries[catalog->count].answers = -1;
    return &catalog->entries[catalog->count++];
}

ckpt_status ckpt_data_add_name(ckpt_pool *pool, ckpt_names *names, const char *name, ckpt_error *err) {
    /* Full at each power of two: that is the room it has. */
    if (!(names->count & (names->count - 1))) {
        const size_t more = names->count ? 2 * names->count : 1;
        const char **grown = ckpt_pool_grow(pool, names->name, names->count, more, sizeof *grown);
        if (!grown) return ckpt_fail(err, CKPT_NOMEM, "out of memory for names");
        names->name = grown;
    }
    const char *copy = ckpt_pool_strdup(pool, name);
    if (!copy) return ckpt_fail(err, CKPT_NOMEM, "out of memory for names");
    names->name[names->count++] = copy;
    return CKPT_OK;
}

ckpt_status ckpt_data_add_note(ckpt_dataset *dataset, ckpt_error *err, const char *format, ...) {
    char text[CKPT_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return ckpt_data_add_name(&dataset->pool, &dataset->notes, text, err);
}

char *ckpt_data_list_text(const char *const *names, size_t count, char text[CKPT_LIST_TEXT]) {
    size_t n = 0, listed = 0;
    text[0] = 0;
    for (; listed < count && n + 80 < CKPT_LIST_TEXT; listed++)
        n += (size_t)snprintf(text + n, CKPT_LIST_TEXT - n, "%s'%.40s'", listed ? ", " : "", names[listed]);
    if (listed < count) snprintf(text + n, CKPT_LIST_TEXT - n, " and %zu more", count - listed);
    return text;
}

const char *ckpt_data_role_text(const ckpt_data_request *request) {
    return request->role == CKPT_DATA_TARGET ? "target" : "model's input";
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

/* What else a file may be packed as, by its first bytes. */
static const char *packing_of(const ckpt_data_source *source) {
    static const struct {
        const char *start, *name;
    } packings[] = {{"BZh", "bzip2"},
                    {"\xfd"
                     "7zXZ",
                     "xz"},
                    {"\x28\xb5\x2f\xfd", "zstd"},
                    {"\x04\x22\x4d\x18", "lz4"}};
    for (size_t i = 0; i < sizeof packings / sizeof *packings; i++) {
        const size_t length = strlen(packings[i].start);
        if (source->size >= length && memcmp(source->bytes, packings[i].start, length) == 0)
            return packings[i].name;
    }
    return NULL;
}

/* Unpacks a gzipped file; whatever it is called, its first bytes say so. */
static ckpt_status unpack_source(load *l, ckpt_data_source *source, ckpt_error *err) {
    source->kind = source->path;
    if (source->directory) return CKPT_OK;
    if (source->size == 0) return ckpt_fail(err, CKPT_USAGE, "is empty; save it again");
    const char *packing = packing_of(source);
    if (packing)
        return ckpt_fail(err, CKPT_USAGE, "is packed by %s; unpack it, or pack it with gzip", packing);
    if (!ckpt_is_gzip(source->bytes, source->size)) return CKPT_OK;
    if (ckpt_has_suffix(source->path, ".gz"))
        source->kind = ckpt_pool_strndup(&l->pool, source->path, strlen(source->path) - strlen(".gz"));
    if (!source->kind) return ckpt_fail(err, CKPT_NOMEM, "out of memory for file names");
    CKPT_TRY(ckpt_data_gunzip(source, &l->pool, err));
    return source->size ? CKPT_OK : ckpt_fail(err, CKPT_USAGE, "is empty when unpacked; save it again");
}

static ckpt_status load_source(load *l, ckpt_data_source *source, bool one_of_many, ckpt_error *err) {
    CKPT_TRY(unpack_source(l, source, err));
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (!formats[i].recognises(source)) continue;
        if (formats[i].alone && one_of_many)
            return ckpt_fail(err, CKPT_USAGE, "a %s file holds inputs and targets; give it alone",
                             formats[i].name);
        return formats[i].load(source, &l->wanted, &l->catalog, err);
    }
    return ckpt_fail(err, CKPT_USAGE,
                     "is %s; give a .npz, .npy, .csv, .tsv or IDX file, which may be gzipped",
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
static ckpt_status load_any(const char *spec, ckpt_data_source *memory, const ckpt_data_wanted *wanted,
                            ckpt_dataset *dataset, ckpt_error *err) {
    *dataset = (ckpt_dataset){0};
    if (!wanted->count) return ckpt_fail(err, CKPT_USAGE, "%s: the model takes no data; leave it out", spec);
    load l = {.wanted = *wanted};
    l.catalog.pool = &l.pool;
    l.catalog.dataset = dataset;
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

static ckpt_data_wanted wanted_of(const ckpt_data_request *requests, size_t count,
                                  const ckpt_data_options *options) {
    return (ckpt_data_wanted){requests, count, options ? *options : (ckpt_data_options){0}};
}

ckpt_status ckpt_dataset_load(const char *spec, const ckpt_data_request *requests, size_t request_count,
                              const ckpt_data_options *options, ckpt_dataset *dataset, ckpt_error *err) {
    const ckpt_data_wanted wanted = wanted_of(requests, request_count, options);
    return load_any(spec, NULL, &wanted, dataset, err);
}

ckpt_status ckpt_dataset_load_memory(const char *path, const void *bytes, size_t size,
                                     const ckpt_data_request *requests, size_t request_count,
                                     const ckpt_data_options *options, ckpt_dataset *dataset,
                                     ckpt_error *err) {
    ckpt_data_source source = {.path = path, .bytes = bytes, .size = size};
    const ckpt_data_wanted wanted = wanted_of(requests, request_count, options);
    return load_any(path, &source, &wanted, dataset, err);
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
    ckpt_status status =
        own.want == CKPT_WANT_INTEGER && array->type == CKPT_ARRAY_F32 ? make_integers(array, &dataset->pool, err) : CKPT_OK;
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
