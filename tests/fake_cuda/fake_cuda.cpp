/* The runtime: one device whose memory is the heap's, streams that put their work off until somebody waits for it,
 * graphs that keep what they are given and do it again. */
#include "fake_cuda.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <set>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;
fake_cuda_counts fake_counts;

struct CUgraph_st {
    std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
    std::vector<std::function<void()>> work;
};
struct CUstream_st {
    CUgraph_st *capturing;
    bool broken;  /* the capture met something that cannot be captured */
    bool running; /* its work is being done */
    std::deque<std::function<void()>> work; /* numbered from `done` on */
    uint64_t done;
    bool kernels; /* it has had other work than copies */
};
struct CUevent_st {
    cudaStream_t stream; /* of the last record; NULL: never recorded, and so nothing to wait for */
    uint64_t after;      /* that many pieces of the stream's work */
    uint64_t cost;       /* of all work that was started before it was recorded */
    bool times;
};

namespace {

/* A block is exactly as long as was asked for, so that a sanitizer sees the first byte beyond it; guards before
 * and after it speak without one. */
enum { GUARD = 256 };
struct allocation {
    char *base;
    size_t bytes;
};
std::map<const char *, allocation> allocations;
/* A program that cannot call fake_cuda_set_... is told by its environment. */
size_t memory_bytes = fake_cuda_number("FAKE_CUDA_MEMORY", 64ull << 30);
cudaError_t driver = (cudaError_t)fake_cuda_number("FAKE_CUDA_DRIVER", cudaSuccess), last_error = cudaSuccess;
std::set<cudaStream_t> streams;
std::map<const char *, size_t> pinned;
/* Streams that only copy do their work at once; otherwise all work is done when somebody waits for it, and no sooner. */
const bool copies_early = getenv("FAKE_CUDA_COPIES_EARLY") != nullptr;
uint64_t cost; /* pieces of work started */

cudaError_t note(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

void check_guards(const char *address, const allocation &a) {
    for (size_t i = 0; i < GUARD; i++)
        if (a.base[i] != 0x5A) fake_cuda_die("%zu bytes before an allocation have been written", (size_t)GUARD - i);
    for (size_t i = 0; i < GUARD; i++)
        if (address[a.bytes + i] != 0x5A) fake_cuda_die("%zu bytes beyond an allocation have been written", i + 1);
}

/* Does the stream's work until `end` pieces of it are done. */
void work_off(cudaStream_t stream, uint64_t end) {
    while (stream->done < end) {
        if (stream->running) fake_cuda_die("a stream waits for itself");
        const std::function<void()> next = std::move(stream->work.front());
        stream->work.pop_front();
        stream->running = true;
        next();
        stream->running = false;
        stream->done++;
    }
}
void work_off(cudaStream_t stream) { work_off(stream, stream->done + stream->work.size()); }

} // namespace

unsigned long long fake_cuda_number(const char *name, unsigned long long otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

bool fake_cuda_captures(cudaStream_t stream) { return stream->capturing != nullptr; }

void fake_cuda_die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("fake CUDA device: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

bool fake_cuda_owns(const void *address, size_t bytes) {
    auto next = allocations.upper_bound((const char *)address);
    if (next == allocations.begin()) return false;
    --next;
    const size_t offset = (size_t)((const char *)address - next->first);
    return offset <= next->second.bytes && bytes <= next->second.bytes - offset;
}

void fake_cuda_count(fake_cuda_counts *counts) { *counts = fake_counts; }
void fake_cuda_set_memory(size_t bytes) { memory_bytes = bytes; }
void fake_cuda_set_driver(cudaError_t error) { driver = error; }

cudaError_t cudaGetDeviceCount(int *count) {
    *count = driver == cudaSuccess;
    return driver;
}

cudaError_t cudaDeviceGetAttribute(int *, cudaDeviceAttr, int) { return note(cudaErrorInvalidValue); }
void fake_cuda_spend(uint64_t more) { cost += more; }

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int) {
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "%s", getenv("FAKE_CUDA_NAME") ? getenv("FAKE_CUDA_NAME") : "host memory");
    properties->major = 9;
    properties->multiProcessorCount = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return note(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    }
    return "unknown error";
}

cudaError_t cudaGetLastError(void) {
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaMalloc(void **address, size_t bytes) {
    if (fake_counts.requested_bytes + bytes > memory_bytes) return note(cudaErrorMemoryAllocation);
    allocation a = {nullptr, bytes};
    void *base = nullptr;
    if (posix_memalign(&base, 256, bytes + 2 * GUARD) != 0) return note(cudaErrorMemoryAllocation);
    a.base = (char *)base;
    memset(a.base, 0x5A, GUARD);
    memset(a.base + GUARD, 0xFF, bytes); /* every float of it is a NaN */
    memset(a.base + GUARD + bytes, 0x5A, GUARD);
    allocations[a.base + GUARD] = a;
    *address = a.base + GUARD;
    fake_counts.allocations++;
    fake_counts.requested_bytes += bytes;
    if (fake_counts.requested_bytes > fake_counts.most_requested_bytes)
        fake_counts.most_requested_bytes = fake_counts.requested_bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *address) {
    auto found = allocations.find((const char *)address);
    if (!address) return cudaSuccess;
    for (cudaStream_t stream : streams) work_off(stream); /* the device finishes before memory goes */
    if (found == allocations.end()) fake_cuda_die("cudaFree of an address that cudaMalloc did not give");
    check_guards(found->first, found->second);
    fake_counts.allocations--;
    fake_counts.requested_bytes -= found->second.bytes;
    free(found->second.base);
    allocations.erase(found);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **address, size_t bytes) {
    *address = malloc(bytes);
    if (!*address) return note(cudaErrorMemoryAllocation);
    memset(*address, 0xFF, bytes);
    pinned[(const char *)*address] = bytes;
    fake_counts.pinned++;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *address) {
    if (!address) return cudaSuccess;
    for (cudaStream_t stream : streams) work_off(stream);
    if (!pinned.erase((const char *)address)) fake_cuda_die("cudaFreeHost of an address that cudaMallocHost did not give");
    free(address);
    fake_counts.pinned--;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    *total_bytes = memory_bytes;
    *free_bytes = memory_bytes - fake_counts.requested_bytes;
    return cudaSuccess;
}

void fake_cuda_enqueue(cudaStream_t stream, std::function<void()> work) {
    if (!stream) fake_cuda_die("work in the default stream: the program has one of its own");
    cost++;
    if (stream->capturing) {
        stream->capturing->work.push_back(std::move(work));
        return;
    }
    stream->work.push_back(std::move(work));
    if (copies_early && !stream->kernels) work_off(stream);
}

void fake_cuda_launch(dim3 grid, dim3 block, cudaStream_t stream, bool meets, std::function<void()> thread) {
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535) {
        note(cudaErrorInvalidConfiguration);
        return;
    }
    stream->kernels = true;
    fake_cuda_enqueue(stream, [=] {
        fake_counts.launches++;
        gridDim = grid;
        blockDim = block;
        for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++)
            for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++)
                for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) {
                    if (meets) {
                        fake_cuda_run_block(thread);
                        continue;
                    }
                    for (threadIdx.z = 0; threadIdx.z < block.z; threadIdx.z++)
                        for (threadIdx.y = 0; threadIdx.y < block.y; threadIdx.y++)
                            for (threadIdx.x = 0; threadIdx.x < block.x; threadIdx.x++) thread();
                }
    });
}

cudaError_t cudaMemsetAsync(void *address, int value, size_t bytes, cudaStream_t stream) {
    if (!fake_cuda_owns(address, bytes)) return note(cudaErrorInvalidValue);
    fake_cuda_enqueue(stream, [=] { memset(address, value, bytes); });
    return cudaSuccess;
}

static bool is_pinned(const void *address, size_t bytes) {
    auto next = pinned.upper_bound((const char *)address);
    if (next == pinned.begin()) return false;
    --next;
    return (size_t)((const char *)address - next->first) + bytes <= next->second;
}

/* The device's side of a copy must be its memory, the host's side must not. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    const bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;
    if (fake_cuda_owns(to, bytes) != to_device || fake_cuda_owns(from, bytes) != from_device)
        return note(cudaErrorInvalidValue);
    if (stream && stream->capturing && !(to_device && from_device)) { /* pageable memory cannot be captured */
        stream->broken = true;
        return note(cudaErrorStreamCaptureUnsupported);
    }
    if (to_device && from_device) {
        fake_cuda_enqueue(stream, [=] { memmove(to, from, bytes); });
    } else if (is_pinned(to_device ? from : to, bytes)) {
        fake_cuda_enqueue(stream, [=] { memmove(to, from, bytes); });
    } else if (to_device) { /* pageable memory is taken before the call returns */
        std::vector<char> taken((const char *)from, (const char *)from + bytes);
        fake_cuda_enqueue(stream, [=] { memcpy(to, taken.data(), bytes); });
    } else { /* and has been written */
        fake_cuda_enqueue(stream, [=] { memcpy(to, from, bytes); });
        work_off(stream);
    }
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    *stream = new CUstream_st{};
    streams.insert(*stream);
    fake_counts.streams++;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    if (stream->capturing) fake_cuda_die("a stream is destroyed while it is being captured");
    work_off(stream);
    streams.erase(stream);
    delete stream;
    fake_counts.streams--;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (!stream->capturing) {
        work_off(stream);
        return cudaSuccess;
    }
    stream->broken = true;
    return note(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    const cudaStream_t other = event->stream;
    const uint64_t after = event->after;
    if (other) fake_cuda_enqueue(stream, [=] {
        if (other != stream && streams.count(other)) work_off(other, after);
    });
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    *event = new CUevent_st{nullptr, 0, 0, !(flags & cudaEventDisableTiming)};
    fake_counts.events++;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    fake_counts.events--;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    event->stream = stream;
    event->after = stream->done + stream->work.size();
    event->cost = cost;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (event->stream && streams.count(event->stream)) work_off(event->stream, event->after);
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    if (!start->times || !end->times || !start->stream || !end->stream) return note(cudaErrorInvalidValue);
    *milliseconds = (float)(end->cost - start->cost);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (stream->capturing) return note(cudaErrorStreamCaptureUnsupported);
    stream->capturing = new CUgraph_st();
    stream->broken = false;
    fake_counts.graphs++;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    *graph = nullptr;
    if (!stream->capturing) return note(cudaErrorInvalidValue);
    *graph = stream->capturing;
    stream->capturing = nullptr;
    if (!stream->broken) return cudaSuccess;
    cudaGraphDestroy(*graph);
    *graph = nullptr;
    return note(cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
    *exec = new CUgraphExec_st{graph->work};
    fake_counts.graphs++;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    fake_counts.graph_launches++;
    stream->kernels = true;
    for (const auto &work : exec->work) fake_cuda_enqueue(stream, work);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    fake_counts.graphs--;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    fake_counts.graphs--;
    return cudaSuccess;
}
