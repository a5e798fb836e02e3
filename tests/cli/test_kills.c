/* Training killed with SIGKILL at random moments, as often as the first argument says (10), goes on from its state file
 * and ends with the weights of a run that was left alone. The second argument is the number of steps of a run (20), the
 * third seeds the moments.
 *
 *     build-dev/tests/cli/test_cli_kills 100 100
 */
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "run_program.h"

/* Dropout, Adam, shuffling, a last batch that is not full, micro-batches; a state after every second step. */
#define RUN                                                                                                                 \
    "@/models/mlp_checkpointed.onnx --batch 48 --micro-batch 16 --optimizer adam --seed 7 --threads 1 --json"
#define STATE " --state killed.state --state-every 2"

static const char *const plans[] = {"--strategy none", "--strategy sqrt", "--strategy min", "--strategy selective", "--every 2"};
enum { PLANS = sizeof plans / sizeof *plans };

static uint64_t rng;
static int steps = 20;

/* xorshift64 (Marsaglia 2003). */
static uint64_t draw(uint64_t below) {
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (rng >> 11) % below;
}

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Runs to the end and stores weights_sha256. */
static bool finish(const char *options, char hash[65]) {
    program_run run = run_program("train", RUN " --steps %d %s", steps, options);
    const char *found = strstr(run.out, "\"weights_sha256\": \"");
    const bool good = run.status == 0 && found;
    if (good) snprintf(hash, 65, "%s", found + strlen("\"weights_sha256\": \""));
    else fprintf(stderr, "%s: status %d: %s\n", options, run.status, run.err);
    program_free(&run);
    return good;
}

/* Steps in the state file, -1 without one. */
static int64_t saved_steps(void) {
    int64_t done = -1;
    FILE *file = fopen("killed.state", "rb");
    if (!file) return -1;
    if (fseek(file, 4096, SEEK_SET) != 0 || fread(&done, sizeof done, 1, file) != 1) done = -2;
    fclose(file);
    return done;
}

static int leftovers(void) {
    DIR *folder = opendir(".");
    int count = 0;
    for (struct dirent *entry; folder && (entry = readdir(folder));) count += strstr(entry->d_name, ".tmp") != NULL;
    if (folder) closedir(folder);
    return count;
}

/* True when the run was still there to be killed. */
static bool kill_once(const char *plan, int64_t most_us) {
    const pid_t pid = start_program("train", RUN STATE " --steps %d %s", steps, plan);
    usleep((useconds_t)draw((uint64_t)most_us));
    kill(pid, SIGKILL);
    return wait_program(pid) == 128 + SIGKILL;
}

int main(int argc, char **argv) {
    const int kills = argc > 1 ? atoi(argv[1]) : 10;
    char expected[65], other[65], hash[65], options[128];
    int equal = 0, done = 0, before_first = 0, chains = 0, rounds = 0;
    if (argc > 2) steps = atoi(argv[2]);
    rng = argc > 3 ? strtoull(argv[3], NULL, 10) : (uint64_t)now_us();
    if (!rng) rng = 1;
    printf("%d kills, %d steps, seed %llu\n", kills, steps, (unsigned long long)rng);
    unlink("killed.state");
    if (!finish("", expected) || !finish("--lr 0.002", other)) return 1;
    if (strcmp(expected, other) == 0) return fprintf(stderr, "control: another run has the same weights\n"), 1;
    const int64_t started = now_us();
    if (!finish(STATE, hash) || strcmp(hash, expected) != 0) return fprintf(stderr, "a run that saves its state differs\n"), 1;
    const int64_t whole_us = now_us() - started;
    while (done < kills && rounds++ < 20 * kills) {
        unlink("killed.state");
        bool again = kill_once(plans[draw(PLANS)], whole_us);
        if (!again) continue; /* it was faster */
        for (int more = 0; again && more < 3 && draw(3) == 0; more++, chains++) again = kill_once(plans[draw(PLANS)], whole_us);
        before_first += saved_steps() < 0;
        done++;
        snprintf(options, sizeof options, STATE " %s", plans[draw(PLANS)]);
        if (!finish(options, hash)) return 1;
        equal += strcmp(hash, expected) == 0;
        if (leftovers()) return fprintf(stderr, "a temporary file was left behind\n"), 1;
    }
    printf("%d killed runs (%d of them killed more often, %d before their first state), %d equal hashes: %s\n", done, chains,
           before_first, equal, expected);
    return done == kills && equal == kills ? 0 : 1;
}
