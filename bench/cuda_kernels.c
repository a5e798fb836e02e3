/* Times the CUDA backend's kernels one by one, after each has been proved right (kernel_bench.h).
 *
 *     cuda_kernels [ROWS [COLS]]           8192 and 4096: rows of the table, Markdown
 *     cuda_kernels --check [ROWS [COLS]]   proves them right and times nothing
 *
 * Before every run twice the L2 cache's size is written, so that inputs come from memory. Times are the device's, between
 * two events on the backend's stream, median of 21. The peak is what a copy of 1 GiB moves, read and written; what the
 * memory's clock and width allow stands beside it. Exit status: 1 a kernel is wrong, 77 no device. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda_kernels.h"
#include "kernel_bench.h"

enum { REPEATS = 21 };

typedef struct timer {
    cudaStream_t stream;
    cudaEvent_t start, stop;
    void *flush, *from, *to;
    size_t flush_bytes, copy_bytes;
} timer;

static void must(cudaError_t error, const char *what) {
    if (error == cudaSuccess) return;
    fprintf(stderr, "cuda_kernels: %s: %s\n", what, cudaGetErrorString(error));
    exit(1);
}

static void open_timer(timer *t) {
    int cache = 0;
    must(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, 0), "size of the L2 cache");
    t->flush_bytes = 2 * (size_t)cache;
    t->copy_bytes = (size_t)1 << 30;
    must(cudaMalloc(&t->flush, t->flush_bytes), "memory to flush with");
    must(cudaMalloc(&t->from, t->copy_bytes), "memory to copy");
    must(cudaMalloc(&t->to, t->copy_bytes), "memory to copy");
    must(cudaEventCreateWithFlags(&t->start, cudaEventDefault), "event");
    must(cudaEventCreateWithFlags(&t->stop, cudaEventDefault), "event");
}

static void close_timer(timer *t) {
    cudaEventDestroy(t->start), cudaEventDestroy(t->stop);
    cudaFree(t->flush), cudaFree(t->from), cudaFree(t->to);
}

/* Seconds of what `work` starts on the stream. */
static double once(timer *t, void (*work)(timer *t, const void *what), const void *what) {
    float milliseconds = 0;
    must(cudaMemsetAsync(t->flush, 1, t->flush_bytes, t->stream), "flush");
    must(cudaEventRecord(t->start, t->stream), "event");
    work(t, what);
    must(cudaEventRecord(t->stop, t->stream), "event");
    must(cudaEventSynchronize(t->stop), "a kernel");
    must(cudaEventElapsedTime(&milliseconds, t->start, t->stop), "time");
    return 1e-3 * (double)milliseconds;
}

/* The median; times[0] is then the best. */
static double measure(timer *t, void (*work)(timer *t, const void *what), const void *what, double *times) {
    for (int r = -3; r < REPEATS; r++) {
        const double spent = once(t, work, what);
        if (r >= 0) times[r] = spent;
    }
    return kernel_median(times, REPEATS);
}

static void copy(timer *t, const void *what) {
    (void)what;
    must(cudaMemcpyAsync(t->to, t->from, t->copy_bytes, cudaMemcpyDeviceToDevice, t->stream), "copy");
}

/* The backend's run puts the scalars into the device first; kernels that read them find those of kernel_prepare's run. */
static void launch(timer *t, const void *what) {
    (void)t;
    const kernel_run *run = what;
    run->launch.run(run->launch.self, &run->scalars);
}

/* Of a launch: the struct behind it begins with its context (cuda_kernels.h). */
static cudaStream_t stream_of(const kernel_run *run) { return (*(ckpt_cuda_context *const *)run->launch.self)->stream; }

static void print_peak(timer *t, double *peak) {
    double times[REPEATS];
    int clock_khz = 0, width_bits = 0;
    *peak = 2 * (double)t->copy_bytes / measure(t, copy, NULL, times);
    printf("Copy of 1 GiB: %.0f GB/s read and written.", *peak * 1e-9);
    if (cudaDeviceGetAttribute(&clock_khz, cudaDevAttrMemoryClockRate, 0) == cudaSuccess &&
        cudaDeviceGetAttribute(&width_bits, cudaDevAttrGlobalMemoryBusWidth, 0) == cudaSuccess && clock_khz > 0)
        printf(" Clock and width of the memory allow %.0f GB/s.", 2e3 * clock_khz * (width_bits / 8.0) * 1e-9);
    printf("\n\n| kernel | us, median | us, best | GB/s | of the copy | TFLOP/s |\n| --- | ---: | ---: | ---: | ---: | ---: |\n");
}

static void print_row(timer *t, const kernel_run *run, double peak) {
    double times[REPEATS];
    const double middle = measure(t, launch, run, times);
    printf("| %s | %.1f | %.1f | %.0f | %.0f %% | %.3g |\n", run->name, middle * 1e6, times[0] * 1e6, run->bytes / middle * 1e-9,
           100 * run->bytes / middle / peak, run->flops / middle * 1e-12);
    fflush(stdout);
}

static bool no_device(void) {
    ckpt_device *device;
    ckpt_error err;
    const ckpt_device_options options = {.index = 0};
    if (ckpt_backend_cuda()->open(&options, &device, &err) != CKPT_OK) return fprintf(stderr, "%s\n", err.message), true;
    ckpt_backend_cuda()->close(device);
    return false;
}

/* Names operators with a kernel and no case, so that the list cannot fall behind unseen. */
static void print_uncovered(void) {
    for (int op = 0; op < CKPT_OP_COUNT; op++) {
        bool covered = !ckpt_cuda_supports((ckpt_op)op);
        for (int i = 0; i < kernel_case_count() && !covered; i++) covered = kernel_case_op(i) == (ckpt_op)op;
        if (!covered) printf("\nWithout a case here: %s\n", ckpt_op_info((ckpt_op)op)->name);
    }
}

int main(int argc, char **argv) {
    const bool check = argc > 1 && strcmp(argv[1], "--check") == 0;
    if (check) argc--, argv++;
    kernel_bench b = {.backend = ckpt_backend_cuda(), .rows = argc > 1 ? atol(argv[1]) : 8192, .cols = argc > 2 ? atol(argv[2]) : 4096};
    const ckpt_device_options options = {.no_graph = true};
    timer t = {0};
    double peak = 0;
    int wrong = 0, right = 0;
    if (b.rows < 1 || b.cols < 1) return 2;
    if (no_device()) return 77;
    kernel_bench_open(&b, &options);
    if (!check) {
        open_timer(&t);
        printf("%lld rows of %lld, fp32. Before each run %zu MiB are written.\n\n", (long long)b.rows, (long long)b.cols, t.flush_bytes >> 20);
    }
    for (int i = 0; i < kernel_case_count(); i++) {
        kernel_run run;
        bool missing;
        const bool good = kernel_prepare(&b, i, &run, &missing);
        if (good && !check) {
            t.stream = stream_of(&run);
            if (peak == 0) print_peak(&t, &peak);
            print_row(&t, &run, peak);
        }
        right += good;
        wrong += !good && !missing;
        kernel_release(&b, &run);
    }
    print_uncovered();
    printf("\n%d kernels right, %d wrong.\n", right, wrong);
    if (!check) close_timer(&t);
    kernel_bench_close(&b);
    return wrong ? 1 : 0;
}
