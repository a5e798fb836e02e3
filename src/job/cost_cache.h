/* What was measured on this machine, kept from one run to the next: what a device does in a second, and how long the nodes
 * of one training graph take.
 *
 *     ckpt_rates rates;
 *     if (!ckpt_cost_cache_rates("cpu", precision, &rates)) rates = *ckpt_rates_nominal("cpu", precision);
 *
 * In $XDG_CACHE_HOME/ckpt, or ~/.cache/ckpt: a file a device and precision, and one a graph. A file of another version or machine,
 * or one that is damaged, is as good as none. Both programs read it, only ckpttrain has kernels to measure.
 */
#ifndef CKPT_COST_CACHE_H
#define CKPT_COST_CACHE_H

#include "planner/core/step_time.h"

/* False where there are none. */
bool ckpt_cost_cache_rates(const char *device, ckpt_precision precision, ckpt_rates *rates);

/* CKPT_FAILED or CKPT_USAGE where nothing can be written. */
ckpt_status ckpt_cost_cache_put_rates(const ckpt_rates *rates, ckpt_error *err);

/* What a profile is of: the training graph of one batch on a device with so many threads (0: all). */
typedef struct ckpt_profile_key {
    const char *device, *graph_hash;
    int64_t threads;
    int node_count;
} ckpt_profile_key;

/* seconds[key->node_count]; false where there is none. */
bool ckpt_cost_cache_profile(const ckpt_profile_key *key, double *seconds);
ckpt_status ckpt_cost_cache_put_profile(const ckpt_profile_key *key, const double *seconds, ckpt_error *err);

/* Whoever holds this measures and writes; others wait, and read what came of it. -1 where nothing can be kept. */
int ckpt_cost_cache_lock(const char *device);
void ckpt_cost_cache_unlock(int lock);

#endif
