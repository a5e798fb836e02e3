/* Times the CPU's kernels one by one, after each has been proved right (kernel_bench.h).
 *
 *     cpu_kernels [THREADS [ROWS [COLS]]]
 *
 * One line a kernel: best and median time, bytes and operations a second at the median. Two lines a product: whole, and in
 * parts for THREADS (2) one after the other, measured in turns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/cpu_dnnl.h"
#include "kernel_bench.h"

enum { REPEATS = 21, FLUSH_BYTES = 64 << 20 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void measure(const kernel_bench *b, const kernel_run *run, char *flush) {
    double time[REPEATS];
    ckpt_error err;
    for (int r = 0; r < REPEATS; r++) {
        memset(flush, r, FLUSH_BYTES); /* neither warm nor dirty with our own data */
        const double start = now();
        (void)b->backend->run(b->device, &run->launch, 1, &run->scalars, &err);
        time[r] = now() - start;
    }
    const double middle = kernel_median(time, REPEATS);
    printf("%-24s %9.3f ms best %9.3f  %7.2f GB/s %8.2f Gflop/s\n", run->name, middle * 1e3, time[0] * 1e3,
           run->bytes / middle * 1e-9, run->flops / middle * 1e-9);
}

/* Divided for as many threads as given, but run in one: what dividing costs. */
static void compare_parts(int threads, int64_t m, int64_t n, int64_t k, bool trans_a, bool trans_b) {
    ckpt_dnnl *dnnl;
    ckpt_error err;
    ckpt_dnnl_product *product[2];
    float *a = aligned_alloc(256, (size_t)(m * k) * 4), *b = aligned_alloc(256, (size_t)(k * n) * 4);
    float *c = aligned_alloc(256, (size_t)(m * n) * 4);
    double time[2][REPEATS];
    if (!a || !b || !c || ckpt_dnnl_open(&dnnl, &err) != CKPT_OK) exit(1);
    for (int64_t i = 0; i < m * k; i++) a[i] = 0.5f;
    for (int64_t i = 0; i < k * n; i++) b[i] = 0.25f;
    const ckpt_gemm gemm = {.m = m, .n = n, .k = k, .trans_a = trans_a, .trans_b = trans_b, .alpha = 1,
                            .a = a, .b = b, .c = c};
    for (int w = 0; w < 2; w++)
        if (ckpt_dnnl_make(dnnl, &gemm, w ? threads : 1, &product[w], &err) != CKPT_OK) exit(1);
    for (int r = -2; r < REPEATS; r++)
        for (int w = 0; w < 2; w++) {
            const double start = now();
            for (int part = 0; part < ckpt_dnnl_parts(product[w]); part++) ckpt_dnnl_run_part(product[w], part);
            if (r >= 0) time[w][r] = now() - start;
        }
    for (int w = 0; w < 2; w++) {
        const double middle = kernel_median(time[w], REPEATS);
        printf("%5lldx%-5lldx%-5lld %c%c  %-20s %5d parts  %9.3f ms best %9.3f  %7.1f Gflop/s\n", (long long)m,
               (long long)n, (long long)k, trans_a ? 'T' : 'N', trans_b ? 'T' : 'N', ckpt_dnnl_implementation(product[w]),
               ckpt_dnnl_parts(product[w]), middle * 1e3, time[w][0] * 1e3, 2e-9 * (double)(m * n * k) / middle);
    }
    ckpt_dnnl_close(dnnl);
    free(a), free(b), free(c);
}

int main(int argc, char **argv) {
    kernel_bench b = {.backend = ckpt_backend_cpu(), .rows = argc > 2 ? atol(argv[2]) : 512, .cols = argc > 3 ? atol(argv[3]) : 1024};
    const ckpt_device_options options = {.threads = argc > 1 ? atoi(argv[1]) : 0};
    char *flush = malloc(FLUSH_BYTES), version[32];
    int wrong = 0;
    if (!flush || b.rows < 1 || b.cols < 1) return 2;
    kernel_bench_open(&b, &options);
    printf("oneDNN %s, %lld rows of %lld\n", ckpt_dnnl_version(version), (long long)b.rows, (long long)b.cols);
    for (int i = 0; i < kernel_case_count(); i++) {
        kernel_run run;
        bool missing;
        const bool right = kernel_prepare(&b, i, &run, &missing);
        if (right) measure(&b, &run, flush);
        wrong += !right && !missing;
        kernel_release(&b, &run);
    }
    printf("\nproducts, without and with a workspace:\n");
    const int64_t r = b.rows, c = b.cols;
    compare_parts(options.threads ? options.threads : 2, r, c, c, false, true);
    compare_parts(options.threads ? options.threads : 2, r, c, c, false, false);
    compare_parts(options.threads ? options.threads : 2, c, c, r, true, false);
    compare_parts(options.threads ? options.threads : 2, 64, 64, 64, false, true);
    compare_parts(options.threads ? options.threads : 2, 64, 10, 64, false, true);
    compare_parts(options.threads ? options.threads : 2, 8, 4096, 4096, false, true);
    kernel_bench_close(&b);
    free(flush);
    return wrong ? 1 : 0;
}
