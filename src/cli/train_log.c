#include "cli/train_log.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_LINE = 4096 };

/* Lines as they come, for whoever follows the file. */
static bool open_lines(ckpt_train_log *log, const char *mode) {
    log->file = fopen(log->path, mode);
    if (log->file) setvbuf(log->file, NULL, _IOLBF, 0);
    log->begun = log->file != NULL;
    return log->begun;
}

/* Whether a line of an earlier run is of a step before first_step, or of a validation after one. */
static bool is_before(const char *line, int64_t first_step) {
    json_t *object = json_loads(line, 0, NULL), *step = json_object_get(object, "step");
    const bool before = step ? json_is_integer(step) && json_integer_value(step) < first_step
                             : json_object_get(object, "val") != NULL;
    json_decref(object);
    return before;
}

/* Cuts an earlier run's log behind its last line before first_step; false where there is no such log. */
static bool reopen(ckpt_train_log *log, int64_t first_step) {
    char line[MOST_LINE];
    off_t end = 0;
    if (!open_lines(log, "r+e")) return false;
    while (fgets(line, sizeof line, log->file) && line[strlen(line) - 1] == '\n' && is_before(line, first_step))
        end = ftello(log->file);
    if (fseeko(log->file, end, SEEK_SET) == 0 && ftruncate(fileno(log->file), end) == 0) return true;
    log->failed = true;
    return true;
}

ckpt_status ckpt_train_log_start(ckpt_train_log *log, const char *path, int64_t first_step, ckpt_error *err) {
    struct stat info;
    *log = (ckpt_train_log){.path = path};
    if (!path) return CKPT_OK;
    const bool exists = stat(path, &info) == 0;
    if (exists && !S_ISREG(info.st_mode)) { /* a terminal, a pipe: nothing there to keep */
        if (open_lines(log, "we")) return CKPT_OK;
        return ckpt_fail(err, CKPT_USAGE, "%s: cannot write the log: %s", path, strerror(errno));
    }
    if (exists && first_step > 0 && reopen(log, first_step)) return CKPT_OK;
    return ckpt_atomic_open(&log->first, path, err) == CKPT_OK ? CKPT_OK : ckpt_fail_in(err, "--log");
}

static bool write_text(ckpt_train_log *log, const char *text) {
    ckpt_error err;
    if (log->begun) return fputs(text, log->file) >= 0 && fputc('\n', log->file) != EOF;
    const bool whole = ckpt_atomic_write(&log->first, text, strlen(text), &err) == CKPT_OK &&
                       ckpt_atomic_write(&log->first, "\n", 1, &err) == CKPT_OK && ckpt_atomic_commit(&log->first, &err) == CKPT_OK;
    ckpt_atomic_close(&log->first);
    return whole && open_lines(log, "ae");
}

/* Gives up the reference. */
static void write_line(ckpt_train_log *log, json_t *line) {
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    if (log->failed || !text || !write_text(log, text)) log->failed = true;
    free(text);
    json_decref(line);
}

/* A number that JSON has, or null: -1 and infinities say that there is none. */
static json_t *number(double value, bool there) {
    return there && value - value == 0 ? json_real(value) : json_null();
}

void ckpt_train_log_step(ckpt_train_log *log, const ckpt_train_event *event) {
    if (!log->path) return;
    write_line(log, json_pack("{s:I, s:i, s:o, s:o, s:f}", "step", (json_int_t)event->step, "epoch", event->epoch, "loss",
                              number(event->loss, true), "accuracy", number(event->correct, event->correct >= 0), "seconds",
                              event->seconds));
    if (event->val_loss >= 0)
        write_line(log, json_pack("{s:i, s:{s:o, s:o}}", "epoch", event->epoch, "val", "loss", number(event->val_loss, true),
                                  "accuracy", number(event->val_accuracy, event->val_accuracy >= 0)));
}

ckpt_status ckpt_train_log_finish(ckpt_train_log *log, ckpt_error *err) {
    const char *path = log->path;
    bool failed = log->failed;
    if (!path) return CKPT_OK;
    if (log->file) {
        failed = failed || ferror(log->file);
        if (fclose(log->file) != 0) failed = true;
    } else if (!failed) {
        ckpt_atomic_close(&log->first); /* nothing was logged */
    }
    *log = (ckpt_train_log){0};
    return failed ? ckpt_fail(err, CKPT_FAILED, "%s: the log could not be written whole; make room or choose another place", path) : CKPT_OK;
}
