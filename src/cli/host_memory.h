/* What a training process holds in the host's memory, and how much that may be. On the CPU the plan's memory is the host's too.
 *
 *     ckpt_host_memory memory = {.planned_bytes = plan->memory.total, .sample_bytes = ..., ...};
 *     ckpt_host_memory_measure(&memory);
 *     bool within = memory.anonymous_bytes <= ckpt_host_memory_bound(&memory);
 *
 * Each part but the last is known before the first step. The last is a constant for the program and one for each of its
 * threads: oneDNN packs blocks of a product's factors into memory of its own, whose size its kernels limit. docs/benchmarks.md
 * has what was measured.
 */
#ifndef CKPT_HOST_MEMORY_H
#define CKPT_HOST_MEMORY_H

#include <stdint.h>

/* Code that oneDNN generates, the libraries' data, graph and plan: 32 MiB, or 128 MiB in a build with CUDA, whose libraries
 * take 75 MiB for addresses when they are loaded. */
uint64_t ckpt_host_process_bytes(void);
/* What oneDNN packs in one thread. */
#define CKPT_THREAD_BYTES (UINT64_C(24) << 20)

typedef struct ckpt_host_memory {
    uint64_t planned_bytes;   /* the plan's total, and that of --verify's plan */
    uint64_t sample_bytes;    /* the data, which are the user's, and their order */
    uint64_t model_bytes;     /* the file, unpacked, to be saved again; external data is not held */
    uint64_t copy_bytes;      /* weights on their way into a hash, a check or a file */
    uint64_t beyond_bytes;    /* the constants above */
    uint64_t anonymous_bytes; /* RssAnon of /proc/self/status; 0 where there is no such count */
} ckpt_host_memory;

/* Sets beyond_bytes and anonymous_bytes as they are now. */
void ckpt_host_memory_measure(ckpt_host_memory *memory);
uint64_t ckpt_host_memory_bound(const ckpt_host_memory *memory);

#endif
