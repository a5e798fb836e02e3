/* Running ckptplan and ckpttrain as a user does.
 *
 *     program_run run = run_program("train", "models/digits.onnx --steps 3 --json");
 *     assert_int_equal(run.status, 0);
 *     json_t *document = json_loads(run.out, 0, NULL);
 *     program_free(&run);
 *
 * Words are split at blanks; "@/" at the start of a word is the source folder. */
#ifndef CKPT_RUN_PROGRAM_H
#define CKPT_RUN_PROGRAM_H

#include <sys/types.h>

typedef struct program_run {
    int status;      /* exit status, or 128 + signal */
    char *out, *err; /* what it wrote; empty strings at least */
    long peak_kib;   /* largest resident size */
} program_run;

/* which: "plan" or "train". */
program_run run_program(const char *which, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same in the background; its output goes nowhere. */
pid_t start_program(const char *which, const char *format, ...) __attribute__((format(printf, 2, 3)));
int wait_program(pid_t pid);

void program_free(program_run *run);

#endif
