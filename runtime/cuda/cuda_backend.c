/* The CUDA device: one stream for steps and one on which the next batch comes in, blocks from cudaMalloc, runs that
 * return before the device has finished. Nothing in a step waits on the host: what must wait for what is said by
 * events, and only reading a result, or writing over what is being fetched, waits for one. */
#include <inttypes.h>
#include <stdlib.h>

#include "cuda/cuda_fuse.h"
#include "cuda/cuda_graph.h"
#include "cuda/cuda_kernels.h"
#include "cuda/cuda_product.h"

typedef struct block {
    struct block *next;
    void *address;
    uint64_t bytes;
} block;

enum { BUFFERS = 2 };

struct ckpt_device {
    int index;
    bool poison;
    ckpt_cuda_context context;
    ckpt_cuda_replay *replay;
    cudaStream_t copies;      /* of batches into input buffers */
    cudaEvent_t read[BUFFERS];    /* by input buffer: after the last run that reads it */
    cudaEvent_t fetched[BUFFERS]; /* after the last copy into it */
    cudaEvent_t posted[BUFFERS];  /* after the last copy to the host of this number */
    block *blocks;                /* newest first */
    uint64_t allocated_bytes, peak_bytes;
};

/* 32 MiB is what NVIDIA advises for cublasLt on Hopper; more changes no algorithm's rank. */
static const ckpt_traits cuda_traits = {
    .device = "cuda", .alignment_bytes = 256, .matmul_workspace_bytes = (uint64_t)32 << 20, .input_buffers = BUFFERS,
    .bf16_kernels = true};

/* Slots in use, one bit a slot, shared by all devices of the process. */
static uint32_t slots_in_use;

static int take_slot(void) {
    for (int i = 0; i < CKPT_CUDA_SLOTS; i++)
        if (!(__atomic_fetch_or(&slots_in_use, 1u << i, __ATOMIC_ACQ_REL) >> i & 1)) return i;
    return -1;
}

static void give_slot(int slot) {
    if (slot >= 0) __atomic_fetch_and(&slots_in_use, ~(1u << slot), __ATOMIC_ACQ_REL);
}

/* The runtime forgets what is told here, where it can: a later check is not to find it again. */
static ckpt_status fail(ckpt_error *err, const char *what, cudaError_t error) {
    (void)cudaGetLastError();
    return ckpt_fail(err, error == cudaErrorMemoryAllocation ? CKPT_NOMEM : CKPT_FAILED, "CUDA: %s: %s (%d)", what,
                     cudaGetErrorString(error), (int)error);
}

/* The runtime's device is the calling thread's: set before every use. */
static ckpt_status enter(const ckpt_device *device, ckpt_error *err) {
    const cudaError_t error = cudaSetDevice(device->index);
    return error == cudaSuccess ? CKPT_OK : fail(err, "the device cannot be selected", error);
}

static ckpt_status select_device(int index, ckpt_error *err) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0)
        return ckpt_fail(err, CKPT_FAILED, "no usable NVIDIA driver (%s); --device cpu needs none",
                         error == cudaSuccess ? "it lists no device" : cudaGetErrorString(error));
    if (index < 0 || index >= count)
        return ckpt_fail(err, CKPT_USAGE, "there is no CUDA device %d; they are numbered 0 to %d", index, count - 1);
    return CKPT_OK;
}

static cudaError_t make_streams(ckpt_device *d) {
    cudaEvent_t *const events[] = {d->read, d->fetched, d->posted};
    cudaError_t error = cudaStreamCreateWithFlags(&d->context.stream, cudaStreamNonBlocking);
    if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&d->copies, cudaStreamNonBlocking);
    for (int i = 0; i < 3; i++)
        for (int b = 0; b < BUFFERS && error == cudaSuccess; b++)
            error = cudaEventCreateWithFlags(&events[i][b], cudaEventDisableTiming);
    return error;
}

static void destroy_streams(ckpt_device *d) {
    cudaEvent_t *const events[] = {d->read, d->fetched, d->posted};
    for (int i = 0; i < 3; i++)
        for (int b = 0; b < BUFFERS; b++)
            if (events[i][b]) cudaEventDestroy(events[i][b]);
    if (d->copies) cudaStreamDestroy(d->copies);
    if (d->context.stream) cudaStreamDestroy(d->context.stream);
}

static ckpt_status prepare(ckpt_device *d, const ckpt_device_options *options, ckpt_error *err) {
    cudaError_t error = make_streams(d);
    if (error != cudaSuccess) return fail(err, "no streams", error);
    d->context.slot_index = take_slot();
    if (d->context.slot_index < 0)
        return ckpt_fail(err, CKPT_FAILED, "more than %d CUDA devices are open", CKPT_CUDA_SLOTS);
    /* Loads the kernels: fails on a device that they were not compiled for. */
    error = ckpt_cuda_find_slot(d->context.slot_index, &d->context.slot);
    if (error != cudaSuccess) return fail(err, "the kernels do not load on this device", error);
    if (!(d->replay = ckpt_cuda_replay_new(!options->no_graph, !options->no_fusion, &d->context.product_status)))
        return ckpt_fail(err, CKPT_NOMEM, "no memory for the CUDA device");
    const ckpt_cuda_lt_options products = {.device = d->index, .stream = d->context.stream, .first_choice = options->first_choice,
                                           .tf32 = options->precision == CKPT_PRECISION_TF32};
    return ckpt_cuda_lt_open(&products, &d->context.lt, err);
}

static void cuda_close(ckpt_device *device) {
    if (!device) return;
    cudaSetDevice(device->index);
    if (device->copies) cudaStreamSynchronize(device->copies);
    if (device->context.stream) cudaStreamSynchronize(device->context.stream);
    ckpt_cuda_replay_free(device->replay);
    for (block *b = device->blocks, *next; b; b = next) {
        next = b->next;
        cudaFree(b->address);
        free(b);
    }
    ckpt_cuda_lt_close(device->context.lt);
    give_slot(device->context.slot_index);
    destroy_streams(device);
    free(device);
}

static ckpt_status cuda_open(const ckpt_device_options *options, ckpt_device **device, ckpt_error *err) {
    *device = NULL;
    CKPT_TRY(select_device(options->index, err));
    ckpt_device *d = calloc(1, sizeof *d);
    if (!d) return ckpt_fail(err, CKPT_NOMEM, "no memory for the CUDA device");
    d->index = options->index;
    d->poison = options->poison;
    d->context.slot_index = -1;
    ckpt_status status = enter(d, err);
    if (status == CKPT_OK) status = prepare(d, options, err);
    if (status == CKPT_OK)
        *device = d;
    else
        cuda_close(d);
    return status;
}

static ckpt_status cuda_allocate(ckpt_device *device, uint64_t bytes, void **address, ckpt_error *err) {
    CKPT_TRY(enter(device, err));
    block *b = calloc(1, sizeof *b);
    if (!b) return ckpt_fail(err, CKPT_NOMEM, "no memory for the CUDA device");
    /* Nothing asked for, nothing requested from the driver. */
    cudaError_t error = bytes ? cudaMalloc(&b->address, bytes) : cudaSuccess;
    if (error != cudaSuccess) {
        size_t free_bytes = 0, total = 0;
        free(b);
        (void)cudaGetLastError();
        /* A device that does not even tell this has failed earlier: its memory is not what is missing. */
        if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) return fail(err, "no memory can be had", error);
        return ckpt_fail(err, CKPT_NOMEM,
                         "CUDA device %d has no %" PRIu64 " bytes (%zu of %zu are free)",
                         device->index, bytes, free_bytes, total);
    }
    if (device->poison && bytes) error = cudaMemsetAsync(b->address, 0xFF, bytes, device->context.stream);
    /* Before the other stream may copy into it. */
    if (device->poison && error == cudaSuccess) error = cudaStreamSynchronize(device->context.stream);
    b->bytes = bytes;
    b->next = device->blocks;
    device->blocks = b;
    device->allocated_bytes += bytes;
    if (device->allocated_bytes > device->peak_bytes) device->peak_bytes = device->allocated_bytes;
    *address = b->address;
    return error == cudaSuccess ? CKPT_OK : fail(err, "fresh memory cannot be filled", error);
}

static void cuda_release(ckpt_device *device, void *address) {
    cudaSetDevice(device->index);
    cudaStreamSynchronize(device->copies); /* what is under way may still use it */
    cudaStreamSynchronize(device->context.stream);
    for (block **link = &device->blocks; *link; link = &(*link)->next) {
        block *b = *link;
        if (b->address != address) continue;
        *link = b->next;
        device->allocated_bytes -= b->bytes;
        cudaFree(b->address);
        free(b);
        return;
    }
}

static ckpt_status cuda_memory(ckpt_device *device, uint64_t *free_bytes, uint64_t *total_bytes, ckpt_error *err) {
    size_t free_now = 0, total = 0;
    CKPT_TRY(enter(device, err));
    const cudaError_t error = cudaMemGetInfo(&free_now, &total);
    *free_bytes = free_now;
    *total_bytes = total;
    return error == cudaSuccess ? CKPT_OK : fail(err, "the device's memory is not told", error);
}

static uint64_t cuda_peak_bytes(const ckpt_device *device) { return device->peak_bytes; }

static ckpt_status cuda_bind(ckpt_device *device, const ckpt_bind *bind, ckpt_launch *launch, ckpt_error *err) {
    CKPT_TRY(enter(device, err));
    const ckpt_epilogue *epilogue = ckpt_node_epilogue(bind->node);
    if (epilogue && epilogue->drop > 0 && epilogue->rng != CKPT_DROP_PHILOX)
        return ckpt_fail(err, CKPT_USAGE, "masks of ONNX's reference implementation are drawn on the CPU only; use --device cpu");
    const ckpt_cuda_bind with_device = {.bind = *bind, .context = &device->context};
    CKPT_TRY(ckpt_cuda_kernel(bind->node->op)(&with_device.bind, launch, err));
    return ckpt_cuda_fuse_describe(&with_device.bind, launch, err);
}

static ckpt_status cuda_run(ckpt_device *device, const ckpt_launch *launches, int count, const ckpt_scalars *scalars,
                            ckpt_error *err) {
    CKPT_TRY(enter(device, err));
    const int buffer = scalars->input_buffer;
    device->context.product_status = 0;
    ckpt_cuda_lt_settle(device->context.lt); /* all is bound */
    cudaError_t error = cudaStreamWaitEvent(device->context.stream, device->fetched[buffer], 0);
    ckpt_cuda_set_scalars(&device->context, scalars);
    if (error == cudaSuccess)
        error = ckpt_cuda_replay_run(device->replay, device->context.stream, launches, count, scalars);
    if (error == cudaSuccess) error = cudaEventRecord(device->read[buffer], device->context.stream);
    if (device->context.product_status)
        return ckpt_fail(err, CKPT_FAILED, "a matrix product of cublasLt failed (status %d)", device->context.product_status);
    return error == cudaSuccess ? CKPT_OK : fail(err, "a step failed", error);
}

/* From pageable memory: the runtime has taken the bytes when the call returns. */
static ckpt_status cuda_upload(ckpt_device *device, void *to, const void *from_host, uint64_t bytes, ckpt_error *err) {
    CKPT_TRY(enter(device, err));
    if (!bytes) return CKPT_OK;
    const cudaError_t error = cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyHostToDevice, device->context.stream);
    return error == cudaSuccess ? CKPT_OK : fail(err, "a copy to the device failed", error);
}

/* Waits for everything before it, so what failed in a step shows here at the latest. */
static ckpt_status cuda_download(ckpt_device *device, void *to_host, const void *from, uint64_t bytes, ckpt_error *err) {
    CKPT_TRY(enter(device, err));
    if (!bytes) return CKPT_OK;
    cudaError_t error = cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, device->context.stream);
    if (error == cudaSuccess) error = cudaStreamSynchronize(device->context.stream);
    return error == cudaSuccess ? CKPT_OK : fail(err, "a step or a copy from the device failed", error);
}

static ckpt_status cuda_pin(ckpt_device *device, uint64_t bytes, void **address, ckpt_error *err) {
    CKPT_TRY(enter(device, err));
    const cudaError_t error = cudaMallocHost(address, bytes ? bytes : 1);
    return error == cudaSuccess ? CKPT_OK : fail(err, "no page-locked memory for a batch; a smaller one needs less", error);
}

static void cuda_unpin(ckpt_device *device, void *address) {
    cudaSetDevice(device->index);
    cudaStreamSynchronize(device->copies);
    cudaStreamSynchronize(device->context.stream);
    cudaFreeHost(address);
}

static ckpt_status cuda_fetch(ckpt_device *device, int buffer, void *to, const void *from_host, uint64_t bytes,
                              ckpt_error *err) {
    CKPT_TRY(enter(device, err));
    cudaError_t error = cudaStreamWaitEvent(device->copies, device->read[buffer], 0);
    if (error == cudaSuccess && bytes)
        error = cudaMemcpyAsync(to, from_host, bytes, cudaMemcpyHostToDevice, device->copies);
    if (error == cudaSuccess) error = cudaEventRecord(device->fetched[buffer], device->copies);
    return error == cudaSuccess ? CKPT_OK : fail(err, "a batch cannot be copied to the device", error);
}

static ckpt_status cuda_post(ckpt_device *device, int buffer, void *to_host, const void *from, uint64_t bytes,
                             ckpt_error *err) {
    CKPT_TRY(enter(device, err));
    cudaError_t error = cudaMemcpyAsync(to_host, from, bytes, cudaMemcpyDeviceToHost, device->context.stream);
    if (error == cudaSuccess) error = cudaEventRecord(device->posted[buffer], device->context.stream);
    return error == cudaSuccess ? CKPT_OK : fail(err, "a result cannot be copied from the device", error);
}

static ckpt_status wait_for(ckpt_device *device, cudaEvent_t event, ckpt_error *err) {
    CKPT_TRY(enter(device, err));
    const cudaError_t error = cudaEventSynchronize(event);
    return error == cudaSuccess ? CKPT_OK : fail(err, "a step or a copy failed", error);
}

static ckpt_status cuda_fetched(ckpt_device *device, int buffer, ckpt_error *err) {
    return wait_for(device, device->fetched[buffer], err);
}

static ckpt_status cuda_posted(ckpt_device *device, int buffer, ckpt_error *err) {
    return wait_for(device, device->posted[buffer], err);
}

static const ckpt_overlap cuda_overlap = {.pin = cuda_pin,
                                          .unpin = cuda_unpin,
                                          .fetch = cuda_fetch,
                                          .fetched = cuda_fetched,
                                          .post = cuda_post,
                                          .posted = cuda_posted};

const ckpt_backend *ckpt_backend_cuda(void) {
    static const ckpt_backend backend = {
        .name = "cuda",
        .traits = &cuda_traits,
        .supports = ckpt_cuda_supports,
        .open = cuda_open,
        .close = cuda_close,
        .allocate = cuda_allocate,
        .release = cuda_release,
        .peak_bytes = cuda_peak_bytes,
        .bind = cuda_bind,
        .run = cuda_run,
        .upload = cuda_upload,
        .download = cuda_download,
        .memory = cuda_memory,
        .overlap = &cuda_overlap,
    };
    return &backend;
}
