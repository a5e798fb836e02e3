/* Threads that share out the parts of one job at a time.
 *
 *     CKPT_TRY(ckpt_team_open(4, &team, err));         // starts nothing
 *     CKPT_TRY(ckpt_team_start(team, err));            // three threads, once
 *     ckpt_team_run(team, parts, body, context);       // body(context, part) for every part, in this thread or another
 *     ckpt_team_close(team);
 *
 * A part goes to whoever is free first, and the caller is one of them: where the other threads get no processor it does all
 * parts itself, and never waits for a thread that has not begun. So what a part computes must not depend on who runs it.
 *
 * A thread without work looks for some for a few microseconds, then sleeps: on a machine with other work, waiting threads that
 * spin take the processor from those that they wait for. OMP_WAIT_POLICY and GOMP_SPINCOUNT are heeded as libgomp heeds them.
 */
#ifndef CKPT_CPU_TEAM_H
#define CKPT_CPU_TEAM_H

#include "base/status.h"

typedef struct ckpt_team ckpt_team;

/* The first number of OMP_NUM_THREADS, or the processors that this process may use. */
int ckpt_team_default_threads(void);

/* threads: the caller included, at least 1. CKPT_NOMEM. */
ckpt_status ckpt_team_open(int threads, ckpt_team **team, ckpt_error *err);
void ckpt_team_close(ckpt_team *team);

/* Starts the threads unless they are there. They block every signal: kernels may have the stack pointer in the heap.
 * CKPT_NOMEM: the system gives no more threads. */
ckpt_status ckpt_team_start(ckpt_team *team, ckpt_error *err);

int ckpt_team_threads(const ckpt_team *team);

/* In the calling thread alone where the team has not been started. One caller at a time; a body starts no job. */
typedef void (*ckpt_team_body)(const void *context, int part);
void ckpt_team_run(ckpt_team *team, int parts, ckpt_team_body body, const void *context);

#endif
