#include "job/devices.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *const ckpt_precision_names[] = {"fp32", "tf32", "bf16", NULL};

/* CKPT_WITH_CUDA is 0 or 1. */
bool ckpt_device_has_cuda_backend(void) { return CKPT_WITH_CUDA; }

static const ckpt_traits table[] = {
    {.device = "cpu", .alignment_bytes = 256, .matmul_workspace_bytes = 0, .input_buffers = 1},
    {.device = "cuda", .alignment_bytes = 256, .matmul_workspace_bytes = 32 << 20, .input_buffers = 2, .bf16_kernels = true},
};

const ckpt_traits *ckpt_device_traits(const char *name) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].device, name) == 0) return &table[i];
    return NULL;
}

ckpt_status ckpt_device_check_precision(ckpt_precision precision, const char *device, ckpt_error *err) {
    if (precision != CKPT_PRECISION_TF32 || strcmp(device, "cuda") == 0) return CKPT_OK;
    return ckpt_fail(err, CKPT_USAGE, "--precision %s is supported on cuda only, and this is for the %s",
                     ckpt_precision_names[precision], device);
}

ckpt_status ckpt_device_to_plan_for(ckpt_device_choice device, ckpt_precision precision, const ckpt_traits **traits,
                                    const char **note, ckpt_error *err) {
    const bool has_cuda = CKPT_WITH_CUDA && access("/dev/nvidiactl", F_OK) == 0;
    const bool automatic = device == CKPT_DEVICE_AUTO;
    const bool cuda = device == CKPT_DEVICE_CUDA || (automatic && has_cuda);
    *note = NULL;
    if (automatic && cuda) *note = "planned for cuda, as an NVIDIA driver is there; --device cpu plans for the CPU";
    else if (automatic && CKPT_WITH_CUDA) *note = "planned for the CPU, as no NVIDIA driver is there; --device cuda plans for a GPU";
    else if (automatic) *note = "planned for the CPU, as this build has no CUDA backend; --device cuda plans for a GPU";
    *traits = ckpt_device_traits(cuda ? "cuda" : "cpu");
    return ckpt_device_check_precision(precision, (*traits)->device, err);
}

ckpt_status ckpt_device_host_budget(uint64_t *bytes, ckpt_error *err) {
    FILE *file = fopen("/proc/meminfo", "r");
    uint64_t kib = 0;
    char line[128];
    while (file && !kib && fgets(line, sizeof line, file)) {
        uint64_t value;
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &value) == 1) kib = value;
    }
    if (file) fclose(file);
    if (!kib) return ckpt_fail(err, CKPT_FAILED, "--budget auto: /proc/meminfo does not say what is available; give a size");
    *bytes = kib * 1024 / 10 * 9;
    return CKPT_OK;
}
