/* The device: what it hands out, counts, fills and refuses; and the control of the thread test. */
#include "cpu_rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void test_memory_is_counted(void **state) {
    (void)state;
    const ckpt_backend *cpu = ckpt_backend_cpu();
    const ckpt_device_options options = {.threads = 2, .poison = true};
    ckpt_device *device;
    ckpt_error err;
    assert_int_equal(cpu->open(&options, &device, &err), CKPT_OK);
    assert_int_equal(cpu->peak_bytes(device), 0);
    void *a, *b;
    const uint64_t large = 5 << 20;
    assert_int_equal(cpu->allocate(device, 1000, &a, &err), CKPT_OK);
    assert_int_equal(cpu->allocate(device, large, &b, &err), CKPT_OK);
    assert_int_equal((uintptr_t)a % cpu->traits->alignment_bytes, 0);
    assert_int_equal((uintptr_t)b % cpu->traits->alignment_bytes, 0);
    for (int i = 0; i < 250; i++) assert_true(isnan(((float *)a)[i]));
    assert_int_equal(cpu->peak_bytes(device), 1000 + large);
    cpu->release(device, b);
    assert_int_equal(cpu->allocate(device, 500, &b, &err), CKPT_OK);
    assert_int_equal(cpu->peak_bytes(device), 1000 + large); /* the peak stays */
    const char text[] = "there and back";
    char back[sizeof text];
    assert_int_equal(cpu->upload(device, b, text, sizeof text, &err), CKPT_OK);
    assert_int_equal(cpu->download(device, back, b, sizeof text, &err), CKPT_OK);
    assert_string_equal(back, text);
    assert_int_equal(cpu->allocate(device, UINT64_MAX / 2 + 1, &a, &err), CKPT_NOMEM);
    assert_int_equal(cpu->allocate(device, 0, &a, &err), CKPT_OK);
    assert_int_equal(cpu->peak_bytes(device), 1000 + large);
    cpu->close(device); /* with blocks still out: the sanitizer sees that none leaks */
}

static void test_refusals(void **state) {
    (void)state;
    const ckpt_backend *cpu = ckpt_backend_cpu();
    ckpt_device *device;
    ckpt_error err;
    assert_int_equal(cpu->open(&(ckpt_device_options){.threads = -1}, &device, &err), CKPT_USAGE);
    assert_int_equal(cpu->open(&(ckpt_device_options){.index = 1}, &device, &err), CKPT_USAGE);
    static const bool listed[CKPT_OP_COUNT] = {
#define X(ID, name) [CKPT_OP_##ID] = true,
#include "cpu/kernels.def"
#undef X
    };
    for (int op = 0; op < CKPT_OP_COUNT; op++) /* no row means unsupported, and nothing else does */
        assert_int_equal(ckpt_cpu_supports((ckpt_op)op), listed[op]);
    assert_true(ckpt_cpu_supports(CKPT_OP_LINEAR));
    assert_false(ckpt_cpu_supports(CKPT_OP_COUNT));
    /* an input without an address */
    rig r;
    rig_open(&r);
    const int64_t n = 4;
    int x = rig_random(&r, 1, &n, 1), y = rig_output(&r, CKPT_F32, 1, &n);
    int node = ckpt_graph_add_node(&r.graph, CKPT_OP_ACT, CKPT_FORWARD, "lonely", 1, &x, 1, &y, NULL);
    ckpt_pool pool = {0};
    const ckpt_bind bind = {.graph = &r.graph, .node = &r.graph.node[node], .out = {rig_data(&r, y)}, .pool = &pool};
    ckpt_launch launch;
    assert_int_equal(cpu->bind(r.device[0], &bind, &launch, &err), CKPT_MODEL);
    assert_non_null(strstr(err.message, "lonely"));
    ckpt_pool_free(&pool);
    rig_close(&r);
}

/* rig_run compares one thread with two. That the comparison can fail: a sum split by threads, over values where
 * order matters, comes out different. */
static float split_sum(const float *x, int64_t n, int threads) {
    float total = 0, part[2] = {0, 0};
    for (int t = 0; t < threads; t++)
        for (int64_t i = n * t / threads; i < n * (t + 1) / threads; i++) part[t] += x[i];
    for (int t = 0; t < threads; t++) total += part[t];
    return total;
}

static void test_split_sums_differ(void **state) {
    (void)state;
    rig r;
    rig_open(&r);
    const int64_t n = 100000;
    int x = rig_random(&r, 1, &n, 1);
    const float one = split_sum(rig_floats(&r, x), n, 1), two = split_sum(rig_floats(&r, x), n, 2);
    assert_memory_not_equal(&one, &two, sizeof one);
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_counted),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_split_sums_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
