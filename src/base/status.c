#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Copies `text` to `out` with control bytes escaped; always terminated, cut at the buffer's end. */
static void escape(char *out, size_t size, const char *text) {
    size_t n = 0;
    for (; *text && n + 5 < size; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7f) {
            n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
        } else {
            out[n++] = (char)c;
        }
    }
    out[n] = 0;
}

ckpt_status ckpt_fail(ckpt_error *err, ckpt_status status, const char *format, ...) {
    if (err) {
        char raw[CKPT_MESSAGE_SIZE];
        va_list args;
        va_start(args, format);
        vsnprintf(raw, sizeof raw, format, args);
        va_end(args);
        err->status = status;
        escape(err->message, sizeof err->message, raw);
    }
    return status;
}

ckpt_status ckpt_fail_in(ckpt_error *err, const char *format, ...) {
    if (!err) return CKPT_FAILED;
    char prefix[CKPT_MESSAGE_SIZE / 2], whole[2 * CKPT_MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    snprintf(whole, sizeof whole, "%s: %s", prefix, err->message);
    escape(err->message, sizeof err->message, whole);
    return err->status;
}

int ckpt_exit_status(ckpt_status status) {
    static const int table[] = {
#define X(name, exit_status, text) exit_status,
        CKPT_STATUS_LIST(X)
#undef X
    };
    return table[status];
}

const char *ckpt_status_name(ckpt_status status) {
    static const char *const table[] = {
#define X(name, exit_status, text) #name,
        CKPT_STATUS_LIST(X)
#undef X
    };
    return table[status];
}

const char *ckpt_status_text(ckpt_status status) {
    static const char *const table[] = {
#define X(name, exit_status, text) text,
        CKPT_STATUS_LIST(X)
#undef X
    };
    return table[status];
}
