/* Put before a suite's own source (-include) where it runs on a real device: without one the program is skipped, and
 * tests that look into device memory from the host, which only a fake device allows, are left out. */
#ifndef CKPT_TEST_CUDA_SUITE_H
#define CKPT_TEST_CUDA_SUITE_H

#include "cmocka_all.h"

#include <stdio.h>

#include "runtime/backend.h"

int ckpt_suite_main(void);

int main(void) {
    const ckpt_device_options options = {.index = 0};
    ckpt_device *device;
    ckpt_error err;
    if (ckpt_backend_cuda()->open(&options, &device, &err) != CKPT_OK) {
        fprintf(stderr, "skipped: %s\n", err.message);
        return 77;
    }
    ckpt_backend_cuda()->close(device);
    cmocka_set_skip_filter("test_highest_byte_touched*");
    return ckpt_suite_main();
}

#define main ckpt_suite_main

#endif
