#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/cpu_dnnl.h"
#include "cpu/cpu_kernels.h"
#include "cpu/cpu_team.h"

typedef struct block {
    struct block *next;
    void *address;
    uint64_t bytes;
} block;

struct ckpt_device {
    struct ckpt_dnnl *dnnl;
    ckpt_team *team;
    bool poison;
    block *blocks; /* newest first */
    uint64_t allocated_bytes, peak_bytes;
};

enum { ALIGNMENT = 256, HUGE_PAGE = 2 << 20 };

/* No workspace. With AVX2 neither oneDNN 2.6 nor 3.2 asks for one when offered it (bench/cpu_kernels.c prints what
 * each would take); an implementation that wants one is passed over, so the plan need not hold it. */
static const ckpt_traits cpu_traits = {
    .device = "cpu", .alignment_bytes = ALIGNMENT, .matmul_workspace_bytes = 0, .input_buffers = 1};

static void cpu_close(ckpt_device *device) {
    if (!device) return;
    for (block *b = device->blocks, *next; b; b = next) {
        next = b->next;
        free(b->address);
        free(b);
    }
    ckpt_dnnl_close(device->dnnl);
    ckpt_team_close(device->team);
    free(device);
}

static ckpt_status cpu_open(const ckpt_device_options *options, ckpt_device **device, ckpt_error *err) {
    if (options->threads < 0 || options->threads > 65536)
        return ckpt_fail(err, CKPT_USAGE, "%d is no number of threads", options->threads);
    if (options->index != 0)
        return ckpt_fail(err, CKPT_USAGE, "there is one CPU device, number 0, and no %d", options->index);
    if (options->precision == CKPT_PRECISION_TF32) /* in a bf16 graph casts are around every node */
        return ckpt_fail(err, CKPT_USAGE, "the CPU's matrix products are in fp32; tf32 is for cuda");
    ckpt_device *d = calloc(1, sizeof *d);
    if (!d) return ckpt_fail(err, CKPT_NOMEM, "no memory for the CPU device");
    d->poison = options->poison;
    ckpt_status status = ckpt_team_open(options->threads > 0 ? options->threads : ckpt_team_default_threads(), &d->team, err);
    if (status == CKPT_OK) status = ckpt_dnnl_open(&d->dnnl, err);
    if (status != CKPT_OK) {
        cpu_close(d);
        return status;
    }
    *device = d;
    return CKPT_OK;
}

static ckpt_status cpu_allocate(ckpt_device *device, uint64_t bytes, void **address, ckpt_error *err) {
    const size_t alignment = bytes >= 2 * (uint64_t)HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
    block *b = bytes <= PTRDIFF_MAX ? calloc(1, sizeof *b) : NULL;
    if (!b || posix_memalign(&b->address, alignment, bytes ? bytes : 1) != 0) {
        free(b);
        return ckpt_fail(err, CKPT_NOMEM, "the CPU has no %llu bytes",
                         (unsigned long long)bytes);
    }
    /* Fewer page faults and TLB misses; only advice, so failure does not matter. */
    if (alignment == HUGE_PAGE) (void)madvise(b->address, bytes, MADV_HUGEPAGE);
    if (device->poison) memset(b->address, 0xFF, bytes); /* every float of it is a NaN */
    b->bytes = bytes;
    b->next = device->blocks;
    device->blocks = b;
    device->allocated_bytes += bytes;
    if (device->allocated_bytes > device->peak_bytes) device->peak_bytes = device->allocated_bytes;
    *address = b->address;
    return CKPT_OK;
}

static void cpu_release(ckpt_device *device, void *address) {
    for (block **link = &device->blocks; *link; link = &(*link)->next) {
        block *b = *link;
        if (b->address != address) continue;
        *link = b->next;
        device->allocated_bytes -= b->bytes;
        free(b->address);
        free(b);
        return;
    }
}

static uint64_t cpu_peak_bytes(const ckpt_device *device) { return device->peak_bytes; }

/* Whether a kernel of this node may share its work: a smaller one never does. */
static bool is_large(const ckpt_bind *bind) {
    int64_t most = 0;
    for (int i = 0; i < bind->node->in_count; i++)
        if (ckpt_cpu_in_count(bind, i) > most) most = ckpt_cpu_in_count(bind, i);
    for (int i = 0; i < bind->node->out_count; i++)
        if (ckpt_cpu_out_count(bind, i) > most) most = ckpt_cpu_out_count(bind, i);
    return most >= 2 * CKPT_CPU_GRAIN;
}

/* Threads are started here, where failing is an error like another, and only for a model with something to share. */
static ckpt_status cpu_bind(ckpt_device *device, const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    const ckpt_cpu_bind with_device = {.bind = *bind, .dnnl = device->dnnl, .team = device->team};
    CKPT_TRY(ckpt_cpu_kernel(bind->node->op)(&with_device.bind, launch, err));
    return is_large(bind) ? ckpt_team_start(device->team, err) : CKPT_OK;
}

static ckpt_status cpu_run(ckpt_device *device, const ckpt_launch *launches, int count, const ckpt_scalars *scalars,
                           ckpt_error *err) {
    ckpt_team *before = ckpt_cpu_use_team(device->team);
    for (int i = 0; i < count; i++) launches[i].run(launches[i].self, scalars);
    ckpt_cpu_use_team(before);
    return ckpt_dnnl_take_status(device->dnnl, err);
}

static ckpt_status cpu_copy_in(ckpt_device *device, void *to, const void *from_host, uint64_t bytes,
                               ckpt_error *err) {
    (void)device, (void)err;
    if (bytes) memcpy(to, from_host, bytes);
    return CKPT_OK;
}

static ckpt_status cpu_copy_out(ckpt_device *device, void *to_host, const void *from, uint64_t bytes,
                                ckpt_error *err) {
    return cpu_copy_in(device, to_host, from, bytes, err);
}

const ckpt_backend *ckpt_backend_cpu(void) {
    static const ckpt_backend backend = {
        .name = "cpu",
        .traits = &cpu_traits,
        .supports = ckpt_cpu_supports,
        .open = cpu_open,
        .close = cpu_close,
        .allocate = cpu_allocate,
        .release = cpu_release,
        .peak_bytes = cpu_peak_bytes,
        .bind = cpu_bind,
        .run = cpu_run,
        .upload = cpu_copy_in,
        .download = cpu_copy_out,
        .in_host = true,
    };
    return &backend;
}
