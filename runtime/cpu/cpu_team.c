#include "cpu/cpu_team.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { STACK_BYTES = 2 << 20, SPINS = 2000 };

/* `ticket` holds how many parts the job has and the next one to be taken, in one word: a thread that comes late to a job finds
 * no part of it left, or takes a part of the job after it, whose body and context were written before. */
struct ckpt_team {
    int threads, started; /* started: beside the caller */
    int64_t spins;
    _Atomic uint64_t ticket; /* parts << 32 | next */
    atomic_int done;
    ckpt_team_body body;
    const void *context;
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    atomic_int sleeping; /* threads that wait for `work` */
    atomic_bool waiting; /* the caller waits for `finished` */
    atomic_bool closing;
    pthread_t *thread;
};

static int processors(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return CPU_COUNT(&set) > 0 ? CPU_COUNT(&set) : 1;
}

int ckpt_team_default_threads(void) {
    const char *text = getenv("OMP_NUM_THREADS");
    const long wanted = text ? strtol(text, NULL, 10) : 0;
    return wanted > 0 && wanted <= 65536 ? (int)wanted : processors();
}

/* With more threads than processors one of them waits for another that has none. */
static int64_t spins_of(int threads) {
    const char *count = getenv("GOMP_SPINCOUNT"), *policy = getenv("OMP_WAIT_POLICY");
    char *end;
    if (count) {
        if (strcasecmp(count, "infinite") == 0 || strcasecmp(count, "infinity") == 0) return INT64_MAX;
        const long long spins = strtoll(count, &end, 10);
        if (end != count && spins >= 0) return spins;
    }
    if (policy && strcasecmp(policy, "active") == 0) return INT64_MAX;
    if (policy && strcasecmp(policy, "passive") == 0) return 0;
    return threads > processors() ? 0 : SPINS;
}

ckpt_status ckpt_team_open(int threads, ckpt_team **team, ckpt_error *err) {
    ckpt_team *t = calloc(1, sizeof *t);
    if (t) t->thread = calloc((size_t)threads, sizeof *t->thread);
    if (!t || !t->thread) {
        free(t);
        return ckpt_fail(err, CKPT_NOMEM, "no memory for %d threads", threads);
    }
    t->threads = threads;
    t->spins = spins_of(threads);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->work, NULL);
    pthread_cond_init(&t->finished, NULL);
    *team = t;
    return CKPT_OK;
}

static bool has_part(const ckpt_team *t) {
    const uint64_t ticket = atomic_load(&t->ticket);
    return (uint32_t)ticket < ticket >> 32;
}

static inline void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

static void wake_caller(ckpt_team *t) {
    if (!atomic_load(&t->waiting)) return;
    pthread_mutex_lock(&t->lock);
    pthread_cond_signal(&t->finished);
    pthread_mutex_unlock(&t->lock);
}

static void take_parts(ckpt_team *t) {
    while (has_part(t)) {
        const uint64_t ticket = atomic_fetch_add(&t->ticket, 1);
        const uint32_t part = (uint32_t)ticket, parts = (uint32_t)(ticket >> 32);
        if (part >= parts) return;
        t->body(t->context, (int)part);
        if (atomic_fetch_add(&t->done, 1) + 1 == (int)parts) wake_caller(t);
    }
}

static void sleep_until_work(ckpt_team *t) {
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->sleeping, 1);
    while (!has_part(t) && !atomic_load(&t->closing)) pthread_cond_wait(&t->work, &t->lock);
    atomic_fetch_sub(&t->sleeping, 1);
    pthread_mutex_unlock(&t->lock);
}

static void *work(void *self) {
    ckpt_team *t = self;
    while (!atomic_load(&t->closing)) {
        take_parts(t);
        int64_t left = t->spins;
        while (left-- > 0 && !has_part(t) && !atomic_load(&t->closing)) pause_briefly();
        if (!has_part(t)) sleep_until_work(t);
    }
    return NULL;
}

static int start_threads(ckpt_team *t) {
    pthread_attr_t attributes;
    sigset_t all, before;
    int failed = pthread_attr_init(&attributes);
    if (failed) return failed;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (!failed && t->started < t->threads - 1) {
        failed = pthread_create(&t->thread[t->started], &attributes, work, t);
        if (failed == EINVAL) failed = pthread_create(&t->thread[t->started], NULL, work, t); /* libraries' thread-local memory */
        if (!failed) t->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failed;
}

ckpt_status ckpt_team_start(ckpt_team *team, ckpt_error *err) {
    if (team->started == team->threads - 1) return CKPT_OK;
    const int failed = start_threads(team);
    if (!failed) return CKPT_OK;
    return ckpt_fail(err, CKPT_NOMEM, "thread %d of %d cannot be started: %s; use fewer --threads", team->started + 2,
                     team->threads, strerror(failed));
}

int ckpt_team_threads(const ckpt_team *team) { return team->threads; }

static void wake_threads(ckpt_team *t, int most) {
    if (!atomic_load(&t->sleeping)) return;
    pthread_mutex_lock(&t->lock);
    for (int i = 0; i < most && i < atomic_load(&t->sleeping); i++) pthread_cond_signal(&t->work);
    pthread_mutex_unlock(&t->lock);
}

static void wait_for_parts(ckpt_team *t, int parts) {
    int64_t left = t->spins;
    while (left-- > 0 && atomic_load(&t->done) != parts) pause_briefly();
    if (atomic_load(&t->done) == parts) return;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->waiting, true);
    while (atomic_load(&t->done) != parts) pthread_cond_wait(&t->finished, &t->lock);
    atomic_store(&t->waiting, false);
    pthread_mutex_unlock(&t->lock);
}

void ckpt_team_run(ckpt_team *team, int parts, ckpt_team_body body, const void *context) {
    if (parts == 1 || team->started == 0) {
        for (int part = 0; part < parts; part++) body(context, part);
        return;
    }
    team->body = body;
    team->context = context;
    atomic_store(&team->done, 0);
    atomic_store(&team->ticket, (uint64_t)parts << 32);
    wake_threads(team, parts - 1);
    take_parts(team);
    wait_for_parts(team, parts);
}

void ckpt_team_close(ckpt_team *team) {
    if (!team) return;
    pthread_mutex_lock(&team->lock);
    atomic_store(&team->closing, true);
    pthread_cond_broadcast(&team->work);
    pthread_mutex_unlock(&team->lock);
    for (int i = 0; i < team->started; i++) pthread_join(team->thread[i], NULL);
    pthread_cond_destroy(&team->finished);
    pthread_cond_destroy(&team->work);
    pthread_mutex_destroy(&team->lock);
    free(team->thread);
    free(team);
}
