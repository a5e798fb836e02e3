/* External data: the part of a model that names other files, and so the part that is checked hardest. */
#include "proto/onnx_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/units.h"

typedef struct location {
    const char *path;
    uint64_t offset, length;
    bool has_offset, has_length;
} location;

/* Digits only: no sign, no space, no overflow. */
static bool parse_decimal(const char *text, uint64_t *value) {
    if (!*text) return false;
    *value = 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        if (!ckpt_mul_u64(*value, 10, value) || !ckpt_add_u64(*value, (uint64_t)(*text - '0'), value))
            return false;
    }
    return true;
}

static ckpt_status set_number(const char *key, const char *text, uint64_t *value, bool *has,
                              ckpt_error *err) {
    if (*has)
        return ckpt_fail(err, CKPT_MODEL, "external_data gives '%s' twice; export the model again", key);
    if (!parse_decimal(text, value)) {
        return ckpt_fail(
            err, CKPT_MODEL,
            "external_data has %s '%.40s', which is not a number of bytes; export the model again", key,
            text);
    }
    *has = true;
    return CKPT_OK;
}

/* Other keys (checksum, basepath, whatever comes) say nothing about where the bytes are. */
static ckpt_status parse_location(const Onnx__TensorProto *tensor, location *where, ckpt_error *err) {
    *where = (location){0};
    for (size_t i = 0; i < tensor->n_external_data; i++) {
        const char *key = onnx_text(tensor->external_data[i]->key);
        const char *value = onnx_text(tensor->external_data[i]->value);
        if (strcmp(key, "location") == 0) {
            if (where->path) {
                return ckpt_fail(err, CKPT_MODEL,
                                 "external_data gives 'location' twice; export the model again");
            }
            where->path = value;
        } else if (strcmp(key, "offset") == 0) {
            CKPT_TRY(set_number(key, value, &where->offset, &where->has_offset, err));
        } else if (strcmp(key, "length") == 0) {
            CKPT_TRY(set_number(key, value, &where->length, &where->has_length, err));
        }
    }
    if (!where->path || !*where->path) {
        return ckpt_fail(err, CKPT_MODEL, "external_data has no location; export the model again");
    }
    return CKPT_OK;
}

static ckpt_status check_path(const char *path, ckpt_error *err) {
    if (*path == '/') {
        return ckpt_fail(
            err, CKPT_MODEL,
            "external data '%.200s' is an absolute path; put the file next to the model and save the "
            "model with its name alone",
            path);
    }
    for (const char *part = path; part; part = strchr(part, '/')) {
        if (*part == '/') part++;
        size_t length = strcspn(part, "/");
        if (length == 2 && memcmp(part, "..", 2) == 0) {
            return ckpt_fail(
                err, CKPT_MODEL,
                "external data '%.200s' leaves the model's directory through '..'; put the file next "
                "to the model",
                path);
        }
        if (length > NAME_MAX) {
            return ckpt_fail(err, CKPT_MODEL, "external data '%.80s...' has too long a name; rename the file",
                             path);
        }
    }
    return CKPT_OK;
}

static ckpt_status refuse_open(int parent, const char *name, const char *path, ckpt_error *err) {
    int reason = errno;
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode)) {
        return ckpt_fail(
            err, CKPT_MODEL,
            "external data '%.200s' goes through the symbolic link '%.80s'; put the file itself there", path,
            name);
    }
    if (reason == ENOENT) {
        return ckpt_fail(err, CKPT_MODEL,
                         "external data '%.200s' is missing; put it next to the model, where it was exported",
                         path);
    }
    return ckpt_fail(err, CKPT_MODEL, "external data '%.200s' cannot be opened: %s", path, strerror(reason));
}

/* Opens one part of the path at a time, no link followed: nothing outside the directory is ever opened, even
 * if somebody swaps a part meanwhile. */
static ckpt_status open_beneath(int directory, const char *path, int *fd, ckpt_error *err) {
    int parent = directory;
    for (const char *part = path;;) {
        char name[NAME_MAX + 1];
        size_t length = strcspn(part, "/");
        bool last = part[length] == 0;
        memcpy(name, part, length);
        name[length] = 0;
        if (length == 0) memcpy(name, ".", 2); /* "a//b", "a/" */
        int flags = last ? O_RDONLY | O_NONBLOCK : O_PATH | O_DIRECTORY;
        *fd = openat(parent, name, flags | O_NOFOLLOW | O_CLOEXEC);
        ckpt_status status = *fd < 0 ? refuse_open(parent, name, path, err) : CKPT_OK;
        if (parent != directory) close(parent);
        if (status != CKPT_OK || last) return status;
        parent = *fd;
        part += length + 1;
    }
}

static ckpt_status check_file(const location *where, const struct stat *st, uint64_t bytes, ckpt_error *err) {
    if (!S_ISREG(st->st_mode)) {
        return ckpt_fail(err, CKPT_MODEL,
                         "external data '%.200s' is not a regular file; put the data file there",
                         where->path);
    }
    if (st->st_nlink > 1) {
        return ckpt_fail(
            err, CKPT_MODEL,
            "external data '%.200s' has other names (hard links), so it may be a file from outside; "
            "replace it by a copy",
            where->path);
    }
    if (where->has_length && where->length != bytes) {
        return ckpt_fail(
            err, CKPT_MODEL,
            "external_data gives a length of %llu bytes, the shape and type need %llu; export the "
            "model again",
            (unsigned long long)where->length, (unsigned long long)bytes);
    }
    uint64_t end;
    if (!ckpt_add_u64(where->offset, bytes, &end) || end > (uint64_t)st->st_size) {
        return ckpt_fail(
            err, CKPT_MODEL,
            "external data '%.200s' has %llu bytes, but the tensor is the %llu bytes from byte %llu; "
            "copy the whole file or export the model again",
            where->path, (unsigned long long)st->st_size, (unsigned long long)bytes,
            (unsigned long long)where->offset);
    }
    return CKPT_OK;
}

ckpt_status onnx_external_open(const ckpt_onnx_file *file, const Onnx__TensorProto *tensor, uint64_t bytes,
                               onnx_external *external, ckpt_error *err) {
    location where;
    CKPT_TRY(parse_location(tensor, &where, err));
    CKPT_TRY(check_path(where.path, err));
    int fd;
    CKPT_TRY(open_beneath(onnx_open(file)->directory_fd, where.path, &fd, err));
    struct stat st;
    ckpt_status status;
    if (fstat(fd, &st) != 0) {
        status = ckpt_fail(err, CKPT_FAILED, "external data '%.200s': %s", where.path, strerror(errno));
    } else {
        status = check_file(&where, &st, bytes, err);
    }
    if (status != CKPT_OK) {
        close(fd);
        return status;
    }
    *external = (onnx_external){fd, where.offset, st.st_dev, st.st_ino};
    return CKPT_OK;
}

ckpt_status onnx_external_read(const onnx_external *external, uint64_t offset_bytes, void *dst, size_t count,
                               ckpt_error *err) {
    for (size_t done = 0; done < count;) {
        ssize_t n = pread(external->fd, (char *)dst + done, count - done,
                          (off_t)(external->offset_bytes + offset_bytes + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return ckpt_fail(err, CKPT_FAILED, "cannot read its external data: %s", strerror(errno));
        if (n == 0) return ckpt_fail(err, CKPT_FAILED, "its external data became shorter while being read");
        done += (size_t)n;
    }
    return CKPT_OK;
}
