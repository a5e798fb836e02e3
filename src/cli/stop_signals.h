/* Signals that ask training to stop: SIGINT, SIGTERM and, unless it is ignored as under nohup(1), SIGHUP.
 *
 *     CKPT_TRY(ckpt_stop_listen(&err));            // first of all: threads inherit the mask
 *     options.stop = ckpt_stop_number();           // 0, or the signal
 *
 * They are blocked in every thread and taken by one of their own with sigwait. No handler ever runs: matrix products of
 * oneDNN 2.6 use the stack pointer to address the heap, where the frame of a handler would overwrite whatever lies below.
 * The first signal sets the number; those that follow within a quarter of a second are the same request, because timeout(1)
 * and terminals send to a process and to its group; the next one after that ends the process at once.
 */
#ifndef CKPT_STOP_SIGNALS_H
#define CKPT_STOP_SIGNALS_H

#include <stdatomic.h>

#include "base/status.h"

/* CKPT_NOMEM: there is no room for a thread. */
ckpt_status ckpt_stop_listen(ckpt_error *err);

const atomic_int *ckpt_stop_number(void);

#endif
