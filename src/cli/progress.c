#include "cli/progress.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/console.h"

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

ckpt_status ckpt_progress_start(ckpt_progress *progress, const char *log_path, ckpt_error *err) {
    *progress = (ckpt_progress){.bar = isatty(STDERR_FILENO), .log_path = log_path};
    if (!log_path) return CKPT_OK;
    progress->log = fopen(log_path, "we");
    if (!progress->log) return ckpt_fail(err, CKPT_USAGE, "%s: cannot write the log: %s", log_path, strerror(errno));
    setvbuf(progress->log, NULL, _IOLBF, 0); /* whoever follows the file sees whole lines */
    return CKPT_OK;
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

/* A number that JSON has, or null: -1 and infinities say that there is none. */
static json_t *number(double value, bool there) {
    return there && value - value == 0 ? json_real(value) : json_null();
}

static void write_line(ckpt_progress *p, json_t *line) {
    if (!line || json_dumpf(line, p->log, JSON_COMPACT) != 0 || fputc('\n', p->log) == EOF) p->log_failed = true;
    json_decref(line);
}

void ckpt_progress_observe(void *context, const ckpt_train_event *event) {
    ckpt_progress *p = context;
    if (p->bar) draw(p, event);
    if (!p->log) return;
    write_line(p, json_pack("{s:I, s:i, s:o, s:o, s:f}", "step", (json_int_t)event->step, "epoch", event->epoch, "loss",
                            number(event->loss, true), "accuracy", number(event->correct, event->correct >= 0), "seconds",
                            event->seconds));
    if (event->val_loss >= 0)
        write_line(p, json_pack("{s:i, s:{s:o, s:o}}", "epoch", event->epoch, "val", "loss", number(event->val_loss, true),
                                "accuracy", number(event->val_accuracy, event->val_accuracy >= 0)));
}

ckpt_status ckpt_progress_finish(ckpt_progress *p, ckpt_error *err) {
    if (p->bar && p->drawn_at > 0) fputs("\r\033[K", stderr);
    p->drawn_at = 0;
    if (!p->log) return CKPT_OK;
    const bool failed = p->log_failed || ferror(p->log);
    const bool unclosed = fclose(p->log) != 0;
    p->log = NULL;
    if (!failed && !unclosed) return CKPT_OK;
    return ckpt_fail(err, CKPT_FAILED, "%s: the log could not be written whole", p->log_path);
}
