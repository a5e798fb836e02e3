/* The entry points of the CUDA runtime that runtime/cuda uses, with the names, types and meanings of NVIDIA's
 * documentation (CUDA Runtime API, 12 and 13), carried out on the host. README.md says what this shows. */
#ifndef CKPT_FAKE_CUDA_RUNTIME_API_H
#define CKPT_FAKE_CUDA_RUNTIME_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorInvalidDevice = 101,
    cudaErrorIllegalAddress = 700,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901
} cudaError_t;

typedef enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 } cudaMemcpyKind;
typedef enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 } cudaStreamCaptureMode;
enum { cudaStreamNonBlocking = 1 };

enum { cudaEventDefault = 0, cudaEventDisableTiming = 2 };

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
typedef enum cudaDeviceAttr {
    cudaDevAttrMemoryClockRate = 36, cudaDevAttrGlobalMemoryBusWidth = 37, cudaDevAttrL2CacheSize = 38
} cudaDeviceAttr;
/* Always cudaErrorInvalidValue: host memory has none of these, so that nothing is timed against them. */
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
};
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError(void);

cudaError_t cudaMalloc(void **address, size_t bytes);
cudaError_t cudaFree(void *address);
cudaError_t cudaMallocHost(void **address, size_t bytes);
cudaError_t cudaFreeHost(void *address);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaMemsetAsync(void *address, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
/* Of events that may time: the work between them, in arbitrary units that depend on nothing but what was started: 1 a
 * piece of work, and what an algorithm of cublasLt costs more. */
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end);

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

/* What only a fake can do. */
typedef struct fake_cuda_counts {
    size_t requested_bytes, most_requested_bytes; /* by cudaMalloc, as asked for */
    int allocations;                              /* still there */
    int launches, graph_launches, products;       /* carried out; those inside graphs too */
    int searches, fused_products;                 /* of algorithms; products with an epilogue that were carried out */
    int streams, events, graphs, descriptors;     /* created and not destroyed */
    int pinned;                                   /* blocks of page-locked memory */
} fake_cuda_counts;
void fake_cuda_count(fake_cuda_counts *counts);
/* cudaMalloc answers "out of memory" beyond this many bytes in all. */
void fake_cuda_set_memory(size_t bytes);
/* The error that cudaGetDeviceCount answers with; cudaSuccess: one device. */
void fake_cuda_set_driver(cudaError_t error);


#ifdef __cplusplus
}
#endif

#endif
