/* Memory that ends anywhere in ckpttrain is exit 5: never a signal, and nothing half-written.
 *
 * A small model is trained with one refused allocation after another, for every one in as many as the first argument says (199);
 * and under limits of the address space. The allocations of interest are oneDNN's, tens of thousands in its code generators.
 *
 *     build-dev/tests/cli/test_cli_memory 1
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model_maker.h"
#include "run_program.h"

/* Large enough that two threads share the products, once. */
#define RUN "small.onnx --batch 256 --steps 2 --threads 2 --save failed.onnx"

static int wrong;

static void make_model(void) {
    maker m;
    maker_start(&m, 17);
    maker_input(&m, "x", 2, (int64_t[]){-1, 256});
    maker_weight(&m, "w", 2, (int64_t[]){256, 256});
    maker_weight(&m, "v", 2, (int64_t[]){256, 3});
    maker_node(&m, "MatMul", "first", "x,w", "h", NULL);
    maker_node(&m, "Tanh", "tanh", "h", "t", NULL);
    maker_node(&m, "MatMul", "second", "t,v", "y", NULL);
    maker_output(&m, "y");
    maker_write(&m, "small.onnx");
}

/* Returns the exit status. 0 must have saved, 5 must not. */
static int run_limited(const char *variable, long value, bool and_all_after) {
    char text[32];
    snprintf(text, sizeof text, "%ld", value);
    unlink("failed.onnx");
    setenv("LD_PRELOAD", CKPT_FAILING_MEMORY, 1);
    setenv(variable, text, 1);
    setenv("FAIL_ALL", and_all_after ? "1" : "0", 1);
    program_run run = run_program("train", RUN);
    unsetenv("LD_PRELOAD"), unsetenv(variable);
    const int status = run.status;
    const bool saved = access("failed.onnx", F_OK) == 0;
    if ((status != 0 && status != 5) || saved != (status == 0)) {
        fprintf(stderr, "%s=%s: status %d, %s: %s\n", variable, text, status, saved ? "saved" : "nothing saved", run.err);
        wrong++;
    }
    program_free(&run);
    return status;
}

static long count_allocations(void) {
    long count = 0;
    setenv("FAIL_COUNT", "allocations", 1);
    if (run_limited("FAIL_AT", 0, false) != 0) return 0;
    unsetenv("FAIL_COUNT");
    FILE *file = fopen("allocations", "r");
    if (file && fscanf(file, "%ld", &count) != 1) count = 0;
    if (file) fclose(file);
    return count;
}

/* From where main can begin to where everything fits. */
static int sweep_limits(long step_kib) {
    int refused = 0, done = 0;
    long enough = 50000; /* libraries of CUDA alone are mapped in some GB */
    while (enough < 16000000 && run_limited("LIMIT_KIB", enough, false) != 0) enough *= 2;
    const long step = enough / 2 / 160 > step_kib ? enough / 2 / 160 : step_kib;
    for (long kib = enough / 2; kib <= enough + 3 * step && done < 3; kib += step) {
        const int status = run_limited("LIMIT_KIB", kib, false);
        refused += status == 5;
        done = status == 0 ? done + 1 : 0;
    }
    if (done < 3) wrong++;
    return refused;
}

int main(int argc, char **argv) {
    const long stride = argc > 1 ? atol(argv[1]) : 199;
    long refused = 0, runs = 0;
#if defined(__SANITIZE_ADDRESS__)
    return 77; /* its allocator would have to be the one that fails */
#endif
    make_model();
    const long allocations = count_allocations();
    if (allocations == 0) return fprintf(stderr, "the run without a limit failed\n"), 1;
    for (long n = 1; n <= allocations; n += stride, runs++) refused += run_limited("FAIL_AT", n, false) == 5;
    for (long n = 1; n <= allocations; n += 5 * stride, runs++) refused += run_limited("FAIL_AT", n, true) == 5;
    const int limits = sweep_limits(stride > 1 ? 1500 : 100);
    printf("%ld of %ld runs without one of %ld allocations, and %d limits of the address space, ended with 5; wrong: %d\n", refused, runs,
           allocations, limits, wrong);
    return wrong == 0 && refused > runs / 2 && limits > 0 ? 0 : 1;
}
