/* Preloaded into a program: memory that ends. From main on, allocation number FAIL_AT is refused, and with FAIL_ALL every one after
 * it; LIMIT_KIB limits the address space instead. FAIL_COUNT names a file for the number of allocations. What happens before
 * main, in the loader and in libraries' constructors, is nothing that a program can answer for. */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *block, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

static bool armed, all_after;
static long fail_at;
static atomic_long count;

static bool refused(void) {
    if (!armed) return false;
    const long number = atomic_fetch_add(&count, 1) + 1;
    if (!fail_at || (all_after ? number < fail_at : number != fail_at)) return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t bytes) { return refused() ? NULL : __libc_malloc(bytes); }
void *calloc(size_t n, size_t bytes) { return refused() ? NULL : __libc_calloc(n, bytes); }
void *realloc(void *block, size_t bytes) { return refused() ? NULL : __libc_realloc(block, bytes); }
void *memalign(size_t alignment, size_t bytes) { return refused() ? NULL : __libc_memalign(alignment, bytes); }
void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void **block, size_t alignment, size_t bytes) {
    *block = memalign(alignment, bytes);
    return *block ? 0 : ENOMEM;
}

static long number_of(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int (*real_main)(int, char **, char **);

static int limited_main(int argc, char **argv, char **environment) {
    const long kib = number_of("LIMIT_KIB");
    const struct rlimit limit = {(rlim_t)kib << 10, (rlim_t)kib << 10};
    if (kib) setrlimit(RLIMIT_AS, &limit);
    fail_at = number_of("FAIL_AT");
    all_after = number_of("FAIL_ALL") != 0;
    armed = true;
    const int status = real_main(argc, argv, environment);
    armed = false;
    FILE *file = getenv("FAIL_COUNT") ? fopen(getenv("FAIL_COUNT"), "w") : NULL;
    if (file) fprintf(file, "%ld\n", (long)count);
    if (file) fclose(file);
    return status;
}

typedef int start_main(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void), void (*)(void), void *);

int __libc_start_main(int (*its_main)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void *stack_end);
int __libc_start_main(int (*its_main)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void *stack_end) {
    start_main *start;
    *(void **)&start = dlsym(RTLD_NEXT, "__libc_start_main");
    real_main = its_main;
    return start(limited_main, argc, argv, init, fini, loader_fini, stack_end);
}
