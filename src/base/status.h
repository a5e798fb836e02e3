/* Status codes and error messages.
 *
 * A function that can fail returns a ckpt_status and, when it is not CKPT_OK, leaves one line in the
 * caller's ckpt_error that names the file, the node or field, and the remedy. The library never prints
 * and never exits.
 *
 *     ckpt_error err;
 *     if (ckpt_units_parse_size(text, &bytes, &err) != CKPT_OK) fprintf(stderr, "%s\n", err.message);
 */
#ifndef CKPT_STATUS_H
#define CKPT_STATUS_H

/* X(name, exit status of the command lines, what it means) */
#define CKPT_STATUS_LIST(X)                                                                                  \
    X(OK, 0, "done")                                                                                         \
    X(FAILED, 1, "failed at run time")                                                                       \
    X(USAGE, 2, "bad command line or bad input data")                                                        \
    X(MODEL, 3, "model invalid or unsupported")                                                              \
    X(INFEASIBLE, 4, "no plan fits the budget")                                                              \
    X(NOMEM, 5, "out of memory")                                                                             \
    X(DIVERGED, 6, "loss is NaN or infinite")                                                                \
    X(INTERRUPTED, 130, "interrupted")

typedef enum ckpt_status {
#define X(name, exit_status, text) CKPT_##name,
    CKPT_STATUS_LIST(X)
#undef X
} ckpt_status;

enum { CKPT_MESSAGE_SIZE = 1536 };

typedef struct ckpt_error {
    ckpt_status status;
    char message[CKPT_MESSAGE_SIZE]; /* one line, no trailing newline; control characters are escaped */
} ckpt_error;

/* Formats the message into `err` (which may be NULL) and returns `status`, so that a caller can
 * `return ckpt_fail(err, CKPT_MODEL, "...")`. Control bytes from files are written as \xNN: what a file
 * says never reaches a terminal raw. */
ckpt_status ckpt_fail(ckpt_error *err, ckpt_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message already in `err`; returns err's status. */
ckpt_status ckpt_fail_in(ckpt_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The process exit status of design section 8. */
int ckpt_exit_status(ckpt_status status);

/* "MODEL", and "model invalid or unsupported". */
const char *ckpt_status_name(ckpt_status status);
const char *ckpt_status_text(ckpt_status status);

/* Runs a call and returns from the calling function when it fails. */
#define CKPT_TRY(call)                                                                                       \
    do {                                                                                                     \
        ckpt_status ckpt_try_status_ = (call);                                                               \
        if (ckpt_try_status_ != CKPT_OK) return ckpt_try_status_;                                            \
    } while (0)

#endif
