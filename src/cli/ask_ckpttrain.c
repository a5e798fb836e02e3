#include "cli/ask_ckpttrain.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "job/cost_cache.h"
#include "job/cost_model.h"

extern char **environ;

/* The ckpttrain in this program's own folder, wherever it was started from. */
static bool find_ckpttrain(char path[1024]) {
    const ssize_t length = readlink("/proc/self/exe", path, 1000);
    if (length <= 0 || length >= 1000) return false;
    path[length] = 0;
    char *slash = strrchr(path, '/');
    if (!slash) return false;
    strcpy(slash + 1, "ckpttrain");
    return access(path, X_OK) == 0;
}

/* Starts path WORD argv[1..] without a stdout; its exit status, or -1. `quiet`: without a stderr too. */
static int run_and_wait(char *path, char **argv, bool quiet) {
    int count = 0;
    while (argv[count]) count++;
    char word[] = CKPT_MEASURE_WORD, **arguments = calloc((size_t)count + 3, sizeof *arguments);
    if (!arguments) return -1;
    arguments[0] = path;
    arguments[1] = word;
    for (int i = 1; i < count; i++) arguments[i + 1] = argv[i];
    posix_spawn_file_actions_t files;
    pid_t child;
    int status = -1;
    bool ok = posix_spawn_file_actions_init(&files) == 0;
    if (ok) {
        ok = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0) == 0 &&
             posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) == 0 &&
             (!quiet || posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0) == 0) &&
             posix_spawn(&child, path, &files, NULL, arguments, environ) == 0;
        posix_spawn_file_actions_destroy(&files);
    }
    free(arguments);
    if (!ok || waitpid(child, &status, 0) != child) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

ckpt_status ckpt_ask_ckpttrain(const ckpt_job_options *o, const ckpt_job *job, const char *device, char **argv,
                               ckpt_error *err) {
    char path[1024];
    if (o->profile && (!job || job->forward_only))
        return job ? ckpt_fail(err, CKPT_USAGE, "--profile measures training steps; leave out --loss none") : CKPT_OK;
    if (!ckpt_cost_needs_measuring(job, o, device)) return CKPT_OK;
    if (!o->profile) { /* What could not be kept would be another figure the next time, and so another plan. */
        const int lock = ckpt_cost_cache_lock(device);
        ckpt_cost_cache_unlock(lock);
        if (lock >= 0 && find_ckpttrain(path)) (void)run_and_wait(path, argv, true);
        return CKPT_OK;
    }
    if (!find_ckpttrain(path))
        return ckpt_fail(err, CKPT_FAILED, "--profile: there is no ckpttrain beside ckptplan, and it has the kernels that are measured");
    if (run_and_wait(path, argv, false) == 0) return CKPT_OK;
    return ckpt_fail(err, CKPT_FAILED, "--profile: ckpttrain could not measure this model on the %s", device);
}
