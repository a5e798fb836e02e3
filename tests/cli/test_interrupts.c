/* Training interrupted at random moments, as often as the first argument says (25), saves a model and a state that are whole and
 * ends with 130, 143 or 129. The second argument seeds the moments, the third is the number of threads (2).
 *
 *     build-dev/tests/cli/test_cli_interrupts 200 1
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "model_maker.h"
#include "run_program.h"

#define RUN "wide.onnx --batch 256 --lr 1e-6 --epochs 100000000"
#define OUTPUTS "--save interrupted.onnx --state interrupted.state --state-every 1000000000 --log interrupted.log"

static uint64_t rng = 1;
static int threads = 2;

/* xorshift64 (Marsaglia 2003). */
static uint64_t draw(uint64_t below) {
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (rng >> 11) % below;
}

/* Wide enough that nearly all of the time is inside matrix products whose stack pointer is in the heap. */
static void make_model(void) {
    enum { SIDE = 512, LAYERS = 4 };
    maker m;
    maker_start(&m, 17);
    maker_input(&m, "t0", 2, (int64_t[]){-1, SIDE});
    for (int i = 0; i < LAYERS; i++) {
        char weight[16], inputs[32], sum[16], out[16];
        snprintf(weight, sizeof weight, "w%d", i);
        snprintf(inputs, sizeof inputs, "t%d,w%d", i, i);
        snprintf(sum, sizeof sum, "s%d", i);
        snprintf(out, sizeof out, "t%d", i + 1);
        Onnx__TensorProto *w = maker_weight(&m, weight, 2, (int64_t[]){SIDE, SIDE});
        for (size_t k = 0; k < w->n_float_data; k++) w->float_data[k] = (float)((int)(k * 7 % 23) - 11) * 0.005f;
        maker_node(&m, "MatMul", sum, inputs, sum, NULL);
        maker_node(&m, "Relu", out, sum, out, NULL);
    }
    maker_output(&m, "t4");
    maker_write(&m, "wide.onnx");
}

/* Until the first step has been logged; false when the run is gone before. */
static bool wait_for_a_step(pid_t pid) {
    struct stat seen;
    siginfo_t info;
    for (;;) {
        if (stat("interrupted.log", &seen) == 0 && seen.st_size > 0) return true;
        info.si_pid = 0;
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid) return false;
        usleep(1000);
    }
}

/* What was saved goes on: a model without its state for a step, with its state from where it was. */
static bool loads(void) {
    program_run plan = run_program("plan", "interrupted.onnx --json");
    program_run on = run_program("train", RUN " --threads %d --state interrupted.state --steps 1 --json", threads);
    const bool whole = plan.status == 0 && on.status == 0;
    if (!whole) fprintf(stderr, "%s%s", plan.err, on.err);
    program_free(&plan), program_free(&on);
    return whole;
}

/* Every third run gets its signal twice at once, as timeout(1) sends it. */
static bool interrupt_once(int turn) {
    static const int signals[] = {SIGINT, SIGTERM, SIGINT, SIGHUP};
    const int number = signals[turn % 4];
    unlink("interrupted.onnx"), unlink("interrupted.state"), unlink("interrupted.log");
    const pid_t pid = start_program("train", RUN " " OUTPUTS " --threads %d", threads);
    bool good = wait_for_a_step(pid);
    usleep((useconds_t)draw(50000));
    kill(pid, number);
    if (turn % 3 == 0) kill(pid, number);
    const int status = wait_program(pid);
    if (!good || status != 128 + number) return fprintf(stderr, "run %d: status %d after signal %d\n", turn, status, number), false;
    return loads();
}

/* A step of seconds does not have to be waited for: the second signal ends the run, which then has saved nothing. */
static bool second_ends_at_once(void) {
    unlink("interrupted.onnx"), unlink("interrupted.log");
    const pid_t pid = start_program("train", "wide.onnx --batch 40960 --micro-batch 256 --lr 1e-6 --save interrupted.onnx "
                                             "--log interrupted.log --epochs 1000000 --threads %d", threads);
    const bool began = wait_for_a_step(pid);
    kill(pid, SIGINT);
    usleep(400000);
    kill(pid, SIGINT);
    const int status = wait_program(pid);
    const bool saved = access("interrupted.onnx", F_OK) == 0;
    if (began && status == 128 + SIGINT && !saved) return true;
    return fprintf(stderr, "a second signal: status %d, %s\n", status, saved ? "saved" : "nothing saved"), false;
}

/* nohup(1) leaves SIGHUP ignored. */
static bool ignored_stays_ignored(void) {
    unlink("interrupted.onnx"), unlink("interrupted.log");
    signal(SIGHUP, SIG_IGN);
    const pid_t pid = start_program("train", RUN " " OUTPUTS " --threads %d", threads);
    signal(SIGHUP, SIG_DFL);
    const bool began = wait_for_a_step(pid);
    kill(pid, SIGHUP);
    usleep(400000);
    kill(pid, SIGTERM);
    const int status = wait_program(pid);
    if (began && status == 128 + SIGTERM) return true;
    return fprintf(stderr, "an ignored SIGHUP: status %d\n", status), false;
}

int main(int argc, char **argv) {
    const int runs = argc > 1 ? atoi(argv[1]) : 12; /* each signal alone and twice */
    int good = 0;
    if (argc > 2) rng = strtoull(argv[2], NULL, 10) | 1;
    if (argc > 3) threads = atoi(argv[3]);
    make_model();
    signal(SIGHUP, SIG_DFL); /* whatever started this test */
    for (int turn = 0; turn < runs; turn++) good += interrupt_once(turn);
    printf("%d of %d interrupted runs ended as they should\n", good, runs);
    return second_ends_at_once() && ignored_stays_ignored() && good == runs ? 0 : 1;
}
