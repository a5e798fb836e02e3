#include "cli/host_memory.h"

#include <inttypes.h>
#include <stdio.h>

#include "job/devices.h"

uint64_t ckpt_host_process_bytes(void) { return (uint64_t)(ckpt_device_has_cuda_backend() ? 128 : 32) << 20; }

void ckpt_host_memory_measure(ckpt_host_memory *memory) {
    FILE *file = fopen("/proc/self/status", "re");
    char line[128];
    uint64_t value, kib = 0, threads = 1;
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "RssAnon: %" SCNu64 " kB", &value) == 1) kib = value;
        if (sscanf(line, "Threads: %" SCNu64, &value) == 1 && value > 1) threads = value - 1; /* one takes signals only */
    }
    if (file) fclose(file);
    memory->anonymous_bytes = kib * 1024;
    memory->beyond_bytes = ckpt_host_process_bytes() + threads * CKPT_THREAD_BYTES;
}

uint64_t ckpt_host_memory_bound(const ckpt_host_memory *m) {
    return m->planned_bytes + m->sample_bytes + m->model_bytes + m->copy_bytes + m->beyond_bytes;
}
