/* What devices ask of a plan, known without their kernels, so that ckptplan links none.
 *
 *     const ckpt_traits *traits = ckpt_device_traits("cpu");
 *
 * The rows repeat what each backend says of itself (ckpt_backend.traits); a test compares them.
 */
#ifndef CKPT_DEVICES_H
#define CKPT_DEVICES_H

#include "cli/options.h"

/* "cpu" or "cuda"; NULL for other names. */
const ckpt_traits *ckpt_device_traits(const char *name);

/* For which device to plan. `auto`: what this machine would train on as far as can be seen without CUDA's libraries;
 * *note then says what was assumed, else it is NULL. CKPT_USAGE: a precision that the device does not have. */
ckpt_status ckpt_device_to_plan_for(const ckpt_cli_options *options, const ckpt_traits **traits, const char **note,
                                    ckpt_error *err);

/* CKPT_USAGE when products of the asked precision do not exist on the device. */
ckpt_status ckpt_device_check_precision(const ckpt_cli_options *options, const char *device, ckpt_error *err);

/* --budget auto on the host: MemAvailable of /proc/meminfo less a tenth, which is left to the data set and to
 * everything else that runs. CKPT_FAILED where that cannot be read. */
ckpt_status ckpt_device_host_budget(uint64_t *bytes, ckpt_error *err);

#endif
