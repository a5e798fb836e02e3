/* Fuzz target: state files. The first byte says what the target does to the rest: 1: its text, up to the first zero, is
 * padded as in a state file; 2: the checksum is added. What is accepted is written again as the same bytes. */
#include "fuzz_graph.h"
#include "fuzz_target.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/sha256.h"
#include "graph/autodiff.h"
#include "graph/build.h"
#include "planner/plan.h"
#include "runtime/state_file.h"

enum { WIDTH = 4, BATCH = 2, LAYERS = 2, TEXT_BYTES = 4096, MOST_BYTES = 1 << 16 };

typedef struct subject {
    ckpt_graph training;
    ckpt_plan *plan;
    ckpt_exec *exec;
} subject;

static void must(ckpt_status status) { FUZZ_EXPECT(status == CKPT_OK); }

/* Two layers with momentum: 2 * 2 * (16 + 4) floats are saved. */
static subject *get_subject(void) {
    static subject s;
    ckpt_graph *g = &s.training;
    ckpt_error err;
    const int64_t dims[2] = {BATCH, WIDTH};
    if (s.exec) return &s;
    *g = (ckpt_graph){.batch = BATCH, .result = -1};
    g->input = ckpt_pool_array(&g->pool, 1, int);
    FUZZ_EXPECT(g->input);
    g->input[g->input_count++] = ckpt_graph_add_tensor(g, "x", CKPT_F32, CKPT_ROLE_INPUT, 2, dims, &err);
    ckpt_view x = ckpt_view_of(g, g->input[0]), y;
    for (int i = 0; i < LAYERS; i++) {
        const ckpt_view w = fuzz_graph_weight(g, 2, WIDTH), bias = fuzz_graph_weight(g, 1, WIDTH);
        const ckpt_linear_attr attr = {.alpha = 1, .beta = 1, .epilogue = {.act = CKPT_ACT_RELU}};
        must(ckpt_build_linear(g, "fc", &x, &w, bias.tensor, &attr, &y, &err));
        x = y;
    }
    ckpt_training_options training = {.optimizer = CKPT_OPTIMIZER_MOMENTUM};
    ckpt_training_defaults(&training);
    const ckpt_loss_term term = ckpt_loss_term_of(CKPT_LOSS_MSE, &x);
    must(ckpt_loss_attach(g, &term, &x, &err));
    must(ckpt_autodiff_run(g, &training, &err));
    const ckpt_plan_options none = {.strategy = CKPT_STRATEGY_NONE};
    const ckpt_exec_options options = {.backend = ckpt_backend_cpu(), .device = {.threads = 1, .poison = true}};
    must(ckpt_plan_make(g, &none, options.backend->traits, NULL, &s.plan, &err));
    must(ckpt_exec_open(&options, g, s.plan, NULL, NULL, &s.exec, &err));
    return &s;
}

/* The file of these bytes; *size is how many. */
static const uint8_t *make_file(const uint8_t *bytes, size_t *size) {
    static uint8_t file[TEXT_BYTES + MOST_BYTES + 64];
    const unsigned flags = bytes[0];
    const uint8_t *rest = bytes + 1, *zero = flags & 1 ? memchr(rest, 0, *size - 1) : NULL;
    const size_t text = zero ? (size_t)(zero - rest) : 0, gone = zero ? text + 1 : 0, tail = *size - 1 - gone;
    size_t used = zero && text < TEXT_BYTES ? TEXT_BYTES : text;
    memset(file, 0, sizeof file);
    memcpy(file, rest, text);
    memcpy(file + used, rest + gone, tail);
    used += tail;
    if (flags & 2) {
        char digest[65];
        ckpt_sha256 sum;
        ckpt_sha256_start(&sum);
        ckpt_sha256_add(&sum, file, used);
        ckpt_sha256_hex(&sum, digest);
        memcpy(file + used, digest, 64);
        used += 64;
    }
    *size = used;
    return file;
}

/* What was accepted is written again, and read as it was. */
static void write_again(const ckpt_run_state *run, const subject *s, const ckpt_train_report *report, const uint8_t *file,
                        size_t size) {
    static char path[64];
    static uint8_t again[TEXT_BYTES + MOST_BYTES + 64];
    ckpt_error err;
    if (!*path) {
        snprintf(path, sizeof path, "%s/ckpt-fuzz-%ld.state", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (long)getpid());
    }
    must(ckpt_state_write(run, path, s->exec, report, &err));
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    FUZZ_EXPECT(fd >= 0 && read(fd, again, sizeof again) == (ssize_t)size);
    FUZZ_EXPECT(memcmp(file, again, size) == 0);
    close(fd);
    unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    char path[64];
    bool found;
    ckpt_train_report report;
    ckpt_error err;
    if (size < 1 || size > MOST_BYTES) return 0;
    subject *s = get_subject();
    const ckpt_state_fact facts[] = {{"--seed", "5", NULL}, {"data", "abc", "data"}};
    const ckpt_run_state run = {.graph = &s->training, .facts = facts, .fact_count = 2};
    const uint8_t *file = make_file(bytes, &size);
    const int fd = memfd_create("state", MFD_CLOEXEC);
    FUZZ_EXPECT(fd >= 0 && write(fd, file, size) == (ssize_t)size);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (ckpt_state_read(&run, path, &s->exec, 1, &report, &found, &err) == CKPT_OK) {
        FUZZ_EXPECT(found && report.steps >= 0 && report.steps <= UINT32_MAX && report.counted_rows >= 0);
        write_again(&run, s, &report, file, size);
    }
    close(fd);
    return 0;
}
