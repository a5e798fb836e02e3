/* What both programs say, and where: results on stdout, talk on stderr, one line each with the program's name.
 *
 *     ckpt_console_note("ckptplan", "planned for the CPU");
 *     return ckpt_console_finish("ckptplan", status, &err);
 */
#ifndef CKPT_CONSOLE_H
#define CKPT_CONSOLE_H

#include <jansson.h>
#include <stdint.h>

#include "base/status.h"

void ckpt_console_note(const char *program, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Says what went wrong, if anything did; a result that could not be written to stdout counts. Returns the program's
 * exit status. */
int ckpt_console_finish(const char *program, ckpt_status status, const ckpt_error *err);

enum { CKPT_NUMBER_TEXT = 32 };
/* "1,234,567". Returns `text`. */
char *ckpt_console_count(uint64_t value, char text[CKPT_NUMBER_TEXT]);

/* A JSON string of text from a file or a command line, which need not be UTF-8: then what is not ASCII becomes '?'. */
json_t *ckpt_console_json_text(const char *text);

/* Prints the document indented, and gives up the reference. NULL, as json_pack returns it when memory runs out,
 * is CKPT_NOMEM. */
ckpt_status ckpt_console_json_print(json_t *document, ckpt_error *err);

#endif
