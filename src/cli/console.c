#include "cli/console.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ckpt_console_note(const char *program, const char *format, ...) {
    /* Through ckpt_fail, so that names from files cannot send control bytes to a terminal. */
    ckpt_error line;
    char text[CKPT_MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ckpt_fail(&line, CKPT_OK, "%s", text);
    fprintf(stderr, "%s: %s\n", program, line.message);
}

int ckpt_console_finish(const char *program, ckpt_status status, const ckpt_error *err) {
    if (status != CKPT_OK) fprintf(stderr, "%s: %s\n", program, err->message);
    const bool lost = fflush(stdout) != 0 || ferror(stdout);
    if (status != CKPT_OK || !lost) return ckpt_exit_status(status);
    fprintf(stderr, "%s: cannot write the result: %s\n", program, strerror(errno));
    return ckpt_exit_status(CKPT_FAILED);
}

char *ckpt_console_count(uint64_t value, char text[CKPT_NUMBER_TEXT]) {
    char digits[CKPT_NUMBER_TEXT];
    const int count = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    char *to = text;
    for (int i = 0; i < count; i++) {
        if (i && (count - i) % 3 == 0) *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return text;
}

json_t *ckpt_console_json_text(const char *text) {
    json_t *string = json_string(text);
    if (string) return string;
    char *ascii = strdup(text);
    for (char *c = ascii; c && *c; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    string = ascii ? json_string(ascii) : NULL;
    free(ascii);
    return string;
}

ckpt_status ckpt_console_json_print(json_t *document, ckpt_error *err) {
    if (!document) return ckpt_fail(err, CKPT_NOMEM, "out of host memory for the JSON document");
    const bool written = json_dumpf(document, stdout, JSON_INDENT(2)) == 0 && fputc('\n', stdout) != EOF;
    json_decref(document);
    return written ? CKPT_OK : ckpt_fail(err, CKPT_FAILED, "cannot write the result: %s", strerror(errno));
}
