#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

ckpt_status ckpt_progress_start(ckpt_progress *progress, const char *log_path, int64_t first_step, ckpt_error *err) {
    *progress = (ckpt_progress){.bar = isatty(STDERR_FILENO)};
    return ckpt_train_log_start(&progress->log, log_path, first_step, err);
}

static void draw(ckpt_progress *p, const ckpt_train_event *event) {
    struct winsize window = {0};
    char text[160];
    const double now = now_seconds();
    const bool last = event->step + 1 >= p->steps;
    if (!last && now - p->drawn_at < 0.1) return;
    p->drawn_at = now;
    const int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col ? window.ws_col : 80;
    const int used = snprintf(text, sizeof text, " step %" PRId64 "/%" PRId64 "  epoch %d  loss %.5g", event->step + 1,
                              p->steps, event->epoch + 1, event->loss);
    int width = columns - used - 3;
    if (width > 40) width = 40;
    if (width < 0) width = 0;
    const int full = p->steps > 0 ? (int)((event->step + 1) * width / p->steps) : 0;
    fputs("\r[", stderr);
    for (int i = 0; i < width; i++) fputc(i < full ? '#' : '.', stderr);
    fprintf(stderr, "]%.*s\033[K", columns > 3 ? columns - 3 : 0, text);
    fflush(stderr);
}

void ckpt_progress_observe(void *context, const ckpt_train_event *event) {
    ckpt_progress *p = context;
    if (p->bar) draw(p, event);
    ckpt_train_log_step(&p->log, event);
}

ckpt_status ckpt_progress_finish(ckpt_progress *p, ckpt_error *err) {
    if (p->bar && p->drawn_at > 0) fputs("\r\033[K", stderr);
    p->drawn_at = 0;
    return ckpt_train_log_finish(&p->log, err);
}
