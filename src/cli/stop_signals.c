#include "cli/stop_signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { STACK_BYTES = 256 << 10, SAME_REQUEST_NS = 250 * 1000 * 1000 };

static atomic_int number;
static sigset_t taken;

static void *listen_for_signals(void *unused) {
    const struct timespec same_request = {.tv_nsec = SAME_REQUEST_NS}, none = {0};
    int first;
    (void)unused;
    while (sigwait(&taken, &first) != 0) {}
    atomic_store(&number, first);
    nanosleep(&same_request, NULL);
    while (sigtimedwait(&taken, NULL, &none) > 0) {}
    pthread_sigmask(SIG_UNBLOCK, &taken, NULL); /* in this thread: from now on the default action ends the process */
    while (pause() < 0) {}
    return NULL;
}

/* A shell without job control starts `command &` with SIGINT ignored; kill -INT is a request all the same. */
static void choose_signals(void) {
    struct sigaction hangup;
    sigemptyset(&taken);
    sigaddset(&taken, SIGINT);
    sigaddset(&taken, SIGTERM);
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) sigaddset(&taken, SIGHUP);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

ckpt_status ckpt_stop_listen(ckpt_error *err) {
    pthread_attr_t attributes;
    pthread_t thread;
    const size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN);
    choose_signals();
    int failed = pthread_attr_init(&attributes);
    if (!failed) {
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&attributes, least + STACK_BYTES);
        pthread_sigmask(SIG_BLOCK, &taken, NULL);
        failed = pthread_create(&thread, &attributes, listen_for_signals, NULL);
        pthread_attr_destroy(&attributes);
    }
    if (failed == EINVAL) { /* the thread-local memory of the libraries, as CUDA's, leaves no room on such a stack */
        failed = pthread_create(&thread, NULL, listen_for_signals, NULL);
        if (!failed) pthread_detach(thread);
    }
    return failed ? ckpt_fail(err, CKPT_NOMEM, "no memory for the thread that takes signals: %s", strerror(failed)) : CKPT_OK;
}

const atomic_int *ckpt_stop_number(void) { return &number; }
