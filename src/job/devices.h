/* What devices ask of a plan, known without their kernels, so that ckptplan links none.
 *
 *     const ckpt_traits *traits = ckpt_device_traits("cpu");
 *
 * The rows repeat what each backend says of itself (ckpt_backend.traits); a test compares them.
 */
#ifndef CKPT_DEVICES_H
#define CKPT_DEVICES_H

#include "planner/core/plan_types.h"

/* As --device and --precision say it, in the order of their enums. */
typedef enum ckpt_device_choice { CKPT_DEVICE_AUTO, CKPT_DEVICE_CPU, CKPT_DEVICE_CUDA } ckpt_device_choice;
extern const char *const ckpt_precision_names[]; /* ended by NULL */

/* Whether the ckpttrain of this build has the CUDA backend. */
bool ckpt_device_has_cuda_backend(void);

/* "cpu" or "cuda"; NULL for other names. */
const ckpt_traits *ckpt_device_traits(const char *name);

/* For which device to plan. `auto`: what this machine would train on as far as can be seen without CUDA's libraries;
 * *note then says what was assumed, else it is NULL. CKPT_USAGE: a precision that the device does not have. */
ckpt_status ckpt_device_to_plan_for(ckpt_device_choice device, ckpt_precision precision, const ckpt_traits **traits,
                                    const char **note, ckpt_error *err);

/* CKPT_USAGE when products of the asked precision do not exist on the device. */
ckpt_status ckpt_device_check_precision(ckpt_precision precision, const char *device, ckpt_error *err);

/* --budget auto on the host: MemAvailable of /proc/meminfo less a tenth, which is left to the data set and to
 * everything else that runs. CKPT_FAILED where that cannot be read. */
ckpt_status ckpt_device_host_budget(uint64_t *bytes, ckpt_error *err);

#endif
