#include "run_program.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_WORDS = 64 };

/* The words of the command line; `text` is cut up. */
static char **split(const char *which, char *text) {
    char **words = calloc(MOST_WORDS, sizeof *words);
    int count = 0;
    words[count++] = strdup(strcmp(which, "plan") == 0 ? CKPTPLAN : CKPTTRAIN);
    for (char *word = strtok(text, " "); word && count < MOST_WORDS - 1; word = strtok(NULL, " ")) {
        char *whole = NULL;
        if (strncmp(word, "@/", 2) == 0) {
            if (asprintf(&whole, "%s/%s", CKPT_SOURCE_DIR, word + 2) < 0) abort();
        } else {
            whole = strdup(word);
        }
        words[count++] = whole;
    }
    return words;
}

static pid_t start(const char *which, const char *format, va_list args, const char *out, const char *err) {
    char *text;
    if (vasprintf(&text, format, args) < 0) abort();
    char **words = split(which, text);
    fflush(NULL);
    const pid_t pid = fork();
    if (pid < 0) abort();
    if (pid == 0) {
        const int to_out = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600), to_err = open(err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(to_out, STDOUT_FILENO);
        dup2(to_err, STDERR_FILENO);
        execv(words[0], words);
        _exit(127);
    }
    for (int i = 0; words[i]; i++) free(words[i]);
    free(words);
    free(text);
    return pid;
}

static int status_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

static char *slurp(const char *path) {
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 1 << 22);
    if (file) {
        const size_t count = fread(text, 1, (1 << 22) - 1, file);
        text[count] = 0;
        fclose(file);
    }
    unlink(path);
    return text;
}

program_run run_program(const char *which, const char *format, ...) {
    char out[64], err[64];
    struct rusage usage;
    int status;
    va_list args;
    snprintf(out, sizeof out, "out.%d", (int)getpid());
    snprintf(err, sizeof err, "err.%d", (int)getpid());
    va_start(args, format);
    const pid_t pid = start(which, format, args, out, err);
    va_end(args);
    if (wait4(pid, &status, 0, &usage) != pid) abort();
    return (program_run){.status = status_of(status), .out = slurp(out), .err = slurp(err), .peak_kib = usage.ru_maxrss};
}

pid_t start_program(const char *which, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const pid_t pid = start(which, format, args, "/dev/null", "/dev/null");
    va_end(args);
    return pid;
}

int wait_program(pid_t pid) {
    int status;
    if (waitpid(pid, &status, 0) != pid) abort();
    return status_of(status);
}

void program_free(program_run *run) {
    free(run->out);
    free(run->err);
    *run = (program_run){0};
}
