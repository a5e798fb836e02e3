/* A file that appears under its name only when it is complete and on disk.
 *
 *     ckpt_atomic_file out;
 *     CKPT_TRY(ckpt_atomic_open(&out, path, err));
 *     ckpt_status status = ckpt_atomic_write(&out, bytes, n, err);
 *     if (status == CKPT_OK) status = ckpt_atomic_commit(&out, err);
 *     ckpt_atomic_close(&out);       // removes the temporary file if there was no commit
 *
 * Errors name the path: CKPT_USAGE when nothing can be created there, CKPT_FAILED when writing fails.
 */
#ifndef CKPT_ATOMIC_FILE_H
#define CKPT_ATOMIC_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct ckpt_atomic_file {
    const char *path; /* the caller's string: keep it until ckpt_atomic_close */
    const char *name; /* the part of it after the last '/' */
    int directory_fd, fd;
    bool temporary; /* the temporary file has a name */
    uint64_t size_bytes; /* written so far */
    unsigned char *buffer;
    size_t buffered;
    char temp[64];
} ckpt_atomic_file;

/* Creates a temporary file in the directory of `path`, with the permissions that the umask leaves; without a name
 * until it is committed, where the file system can do that. On failure there is nothing to close. */
ckpt_status ckpt_atomic_open(ckpt_atomic_file *file, const char *path, ckpt_error *err);

/* Buffered. */
ckpt_status ckpt_atomic_write(ckpt_atomic_file *file, const void *bytes, size_t count, ckpt_error *err);

/* Writes zeros until size_bytes is a multiple of `alignment`, a power of two. */
ckpt_status ckpt_atomic_align(ckpt_atomic_file *file, size_t alignment, ckpt_error *err);

/* Writes out the buffer and flushes the file to disk. To publish two files together, flush both before the first commit:
 * there is room for both then. */
ckpt_status ckpt_atomic_flush(ckpt_atomic_file *file, ckpt_error *err);

/* Flushes, gives the file its name in place of what has it, flushes the directory. A process killed in between, while another
 * file has the name, may leave the new one as ".ckpt-PID-N.tmp". */
ckpt_status ckpt_atomic_commit(ckpt_atomic_file *file, ckpt_error *err);

void ckpt_atomic_close(ckpt_atomic_file *file);

#endif
