/* A file that holds a fuzzer's bytes, for readers that take a path. */
#ifndef CKPT_FUZZ_FILE_H
#define CKPT_FUZZ_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static inline int fuzz_file(const uint8_t *bytes, size_t size, char path[64]) {
    const int fd = memfd_create("fuzz", 0);
    if (fd < 0) return -1;
    if (write(fd, bytes, size) != (ssize_t)size) {
        close(fd);
        return -1;
    }
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

#endif
