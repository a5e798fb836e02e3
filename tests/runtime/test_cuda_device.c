/* The CUDA backend as it is built, with or without a device: what opening answers, and with a device that what is
 * requested is what is counted. Exit status 77: no device, and all that can be checked without one is right. */
#include "cmocka_all.h"

#include <stdio.h>
#include <string.h>

#include "runtime/backend.h"

static bool has_device;

static void test_opening(void **state) {
    (void)state;
    const ckpt_device_options options = {.index = 0};
    ckpt_device *device;
    ckpt_error err = {.message = ""};
    const ckpt_status status = ckpt_backend_cuda()->open(&options, &device, &err);
    has_device = status == CKPT_OK;
    if (has_device) {
        ckpt_backend_cuda()->close(device);
        return;
    }
    print_message("%s\n", err.message);
    assert_int_equal(status, CKPT_FAILED);
    assert_null(device);
    assert_non_null(strstr(err.message, "no usable NVIDIA driver"));
}

static void test_operators_are_those_of_the_table(void **state) {
    (void)state;
    static const bool listed[CKPT_OP_COUNT] = {
#define X(ID, name) [CKPT_OP_##ID] = true,
#include "cuda/kernels.def"
#undef X
    };
    for (int op = 0; op < CKPT_OP_COUNT; op++) /* no row means unsupported, and nothing else does */
        assert_int_equal(ckpt_cuda_supports((ckpt_op)op), listed[op]);
    assert_true(ckpt_cuda_supports(CKPT_OP_LINEAR));
}

static void test_memory(void **state) {
    (void)state;
    if (!has_device) skip();
    const ckpt_device_options options = {.index = 0, .poison = true};
    const ckpt_backend *cuda = ckpt_backend_cuda();
    ckpt_device *device;
    ckpt_error err = {.message = ""};
    void *memory, *more;
    unsigned char bytes[1000], want[1000];
    assert_int_equal(cuda->open(&options, &device, &err), CKPT_OK);
    assert_int_equal(cuda->allocate(device, 1000, &memory, &err), CKPT_OK);
    assert_int_equal((uintptr_t)memory % cuda->traits->alignment_bytes, 0);
    assert_int_equal(cuda->peak_bytes(device), 1000);
    assert_int_equal(cuda->allocate(device, (uint64_t)1 << 50, &more, &err), CKPT_NOMEM);
    assert_int_equal(cuda->download(device, bytes, memory, 1000, &err), CKPT_OK);
    memset(want, 0xFF, sizeof want);
    assert_memory_equal(bytes, want, sizeof want);
    for (int i = 0; i < 1000; i++) want[i] = (unsigned char)i;
    assert_int_equal(cuda->upload(device, memory, want, 1000, &err), CKPT_OK);
    assert_int_equal(cuda->download(device, bytes, memory, 1000, &err), CKPT_OK);
    assert_memory_equal(bytes, want, sizeof want);
    cuda->release(device, memory);
    assert_int_equal(cuda->peak_bytes(device), 1000);
    cuda->close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opening),
        cmocka_unit_test(test_operators_are_those_of_the_table),
        cmocka_unit_test(test_memory),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed ? failed : has_device ? 0 : 77;
}
