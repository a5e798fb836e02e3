#include "base/atomic_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUFFER_BYTES = 64 * 1024, TEMP_ATTEMPTS = 1000 };

static ckpt_status fail_write(const ckpt_atomic_file *file, ckpt_error *err) {
    const char *advice = errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? "; make room or choose another place" : "";
    return ckpt_fail(err, CKPT_FAILED, "%s: cannot write: %s%s", file->path, strerror(errno), advice);
}

static ckpt_status open_directory(ckpt_atomic_file *file, ckpt_error *err) {
    char directory[PATH_MAX] = ".";
    size_t length = (size_t)(file->name - file->path);
    if (length >= sizeof directory) return ckpt_fail(err, CKPT_USAGE, "%s: the path is too long", file->path);
    if (length > 0) {
        memcpy(directory, file->path, length);
        directory[length] = 0;
    }
    file->directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file->directory_fd >= 0) return CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "%s: cannot open the directory: %s; choose one that exists", file->path,
                     strerror(errno));
}

/* Runs `make` with names for a temporary file until one is free. */
static bool name_temporary(ckpt_atomic_file *file, bool (*make)(ckpt_atomic_file *file)) {
    for (int attempt = 0; attempt < TEMP_ATTEMPTS; attempt++) {
        snprintf(file->temp, sizeof file->temp, ".ckpt-%ld-%d.tmp", (long)getpid(), attempt);
        file->temporary = make(file);
        if (file->temporary || errno != EEXIST) break;
    }
    return file->temporary;
}

static bool create_named(ckpt_atomic_file *file) {
    file->fd = openat(file->directory_fd, file->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    return file->fd >= 0;
}

/* The way to an open file that has no name. */
static const char *descriptor_path(const ckpt_atomic_file *file, char text[32]) {
    snprintf(text, 32, "/proc/self/fd/%d", file->fd);
    return text;
}

static bool link_unnamed(const ckpt_atomic_file *file, const char *name) {
    char text[32];
    return linkat(AT_FDCWD, descriptor_path(file, text), file->directory_fd, name, AT_SYMLINK_FOLLOW) == 0;
}

static bool link_temporary(ckpt_atomic_file *file) {
    return link_unnamed(file, file->temp);
}

/* A file without a name where the system has that: a process that is killed leaves nothing behind. */
static ckpt_status create_temporary(ckpt_atomic_file *file, ckpt_error *err) {
    char text[32];
    file->fd = openat(file->directory_fd, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0666);
    if (file->fd >= 0 && access(descriptor_path(file, text), F_OK) == 0) return CKPT_OK;
    if (file->fd >= 0) close(file->fd);
    if (name_temporary(file, create_named)) return CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "%s: cannot create a file in its directory: %s; choose another place",
                     file->path, strerror(errno));
}

ckpt_status ckpt_atomic_open(ckpt_atomic_file *file, const char *path, ckpt_error *err) {
    const char *slash = strrchr(path, '/');
    *file = (ckpt_atomic_file){.path = path, .name = slash ? slash + 1 : path, .directory_fd = -1, .fd = -1};
    if (!*file->name) return ckpt_fail(err, CKPT_USAGE, "'%s': no file name; name the file to write", path);
    ckpt_status status = open_directory(file, err);
    struct stat st;
    if (status == CKPT_OK && fstatat(file->directory_fd, file->name, &st, 0) == 0 && !S_ISREG(st.st_mode))
        status = ckpt_fail(err, CKPT_USAGE, "%s: is %s; give another name", path, /* renaming would replace a device too */
                           S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
    if (status == CKPT_OK) {
        file->buffer = malloc(BUFFER_BYTES);
        if (!file->buffer) status = ckpt_fail(err, CKPT_NOMEM, "%s: out of memory", path);
    }
    if (status == CKPT_OK) status = create_temporary(file, err);
    if (status != CKPT_OK) ckpt_atomic_close(file);
    return status;
}

static ckpt_status write_out(ckpt_atomic_file *file, const unsigned char *bytes, size_t count,
                             ckpt_error *err) {
    while (count > 0) {
        ssize_t n = write(file->fd, bytes, count);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_write(file, err);
        bytes += n;
        count -= (size_t)n;
    }
    return CKPT_OK;
}

static ckpt_status empty_buffer(ckpt_atomic_file *file, ckpt_error *err) {
    size_t count = file->buffered;
    file->buffered = 0;
    return write_out(file, file->buffer, count, err);
}

ckpt_status ckpt_atomic_write(ckpt_atomic_file *file, const void *bytes, size_t count, ckpt_error *err) {
    if (count > BUFFER_BYTES - file->buffered) CKPT_TRY(empty_buffer(file, err));
    file->size_bytes += count;
    if (count > BUFFER_BYTES) return write_out(file, bytes, count, err);
    if (count) memcpy(file->buffer + file->buffered, bytes, count);
    file->buffered += count;
    return CKPT_OK;
}

ckpt_status ckpt_atomic_align(ckpt_atomic_file *file, size_t alignment, ckpt_error *err) {
    static const unsigned char zeros[512];
    size_t gap = (size_t)(-file->size_bytes & (alignment - 1));
    while (gap > 0) {
        size_t n = gap < sizeof zeros ? gap : sizeof zeros;
        CKPT_TRY(ckpt_atomic_write(file, zeros, n, err));
        gap -= n;
    }
    return CKPT_OK;
}

ckpt_status ckpt_atomic_flush(ckpt_atomic_file *file, ckpt_error *err) {
    CKPT_TRY(empty_buffer(file, err));
    return fsync(file->fd) == 0 ? CKPT_OK : fail_write(file, err);
}

/* A file without a name gets its own at once where that is free, so that no other is ever seen. */
static bool publish(ckpt_atomic_file *file) {
    if (!file->temporary) {
        if (link_unnamed(file, file->name)) return true;
        if (errno != EEXIST || !name_temporary(file, link_temporary)) return false;
    }
    if (renameat(file->directory_fd, file->temp, file->directory_fd, file->name) != 0) return false;
    file->temporary = false;
    return true;
}

ckpt_status ckpt_atomic_commit(ckpt_atomic_file *file, ckpt_error *err) {
    CKPT_TRY(ckpt_atomic_flush(file, err));
    if (!publish(file)) return fail_write(file, err);
    /* Some file systems cannot flush a directory and say EINVAL; the rename is done all the same. */
    if (fsync(file->directory_fd) != 0 && errno != EINVAL) return fail_write(file, err);
    return CKPT_OK;
}

void ckpt_atomic_close(ckpt_atomic_file *file) {
    if (file->fd >= 0) close(file->fd);
    if (file->temporary) unlinkat(file->directory_fd, file->temp, 0);
    if (file->directory_fd >= 0) close(file->directory_fd);
    free(file->buffer);
    *file = (ckpt_atomic_file){.directory_fd = -1, .fd = -1};
}
