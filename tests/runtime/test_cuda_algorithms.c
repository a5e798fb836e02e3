/* How the algorithm of a product is chosen, kept and found again, on the fake device: its cublasLt proposes a slow
 * algorithm, the fastest of all, which splits k, and two between, all with bits of their own (tests/fake_cuda). */
#include "harness.h"

#include <cuda_runtime_api.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "graph/op.h"

static char folder[] = "algorithms_XXXXXX";
static ckpt_error err;

enum { K = 64, BYTES = 1 << 18 };

typedef struct outcome {
    int searches, fused;      /* in this run */
    unsigned char y[BYTES];
    int64_t count;
    bool disturbed;           /* binding wrote outside scratch and workspace */
} outcome;

/* y = relu(x w + b) of m x 64 and 64 x n on a device of its own. */
static void run_layer(int64_t m, int64_t n, bool scratch, bool first_choice, outcome *o) {
    const ckpt_backend *cuda = ckpt_backend_cuda();
    const ckpt_device_options options = {.first_choice = first_choice};
    const uint64_t workspace = 1 << 16;
    const int64_t dims[4][2] = {{m, K}, {K, n}, {1, n}, {m, n}};
    const ckpt_scalars scalars = {.valid_samples = 1};
    static unsigned char before[BYTES], after[BYTES];
    fake_cuda_counts at_start, at_end;
    ckpt_graph graph = {.batch = 1, .result = -1};
    ckpt_node node = {.op = CKPT_OP_LINEAR, .name = "layer", .in_count = 3, .out_count = 1, .in = {0, 1, 2}, .out = {3}};
    ckpt_pool pool = {0};
    ckpt_device *device;
    ckpt_launch launch;
    void *memory;
    uint64_t used = 0;
    node.attr.linear = (ckpt_linear_attr){.rows = m, .in_features = K, .out_features = n, .alpha = 1, .beta = 1,
                                          .epilogue = {.act = CKPT_ACT_RELU}};
    fake_cuda_count(&at_start);
    MUST(cuda->open(&options, &device, &err), &err);
    MUST(cuda->allocate(device, 2 * BYTES + workspace, &memory, &err), &err);
    ckpt_bind bind = {.graph = &graph, .node = &node, .pool = &pool, .workspace = (char *)memory + BYTES, .workspace_bytes = workspace};
    if (scratch) {
        bind.scratch = (char *)memory + BYTES + workspace;
        bind.scratch_bytes = BYTES;
    }
    uint32_t random = 7;
    for (size_t i = 0; i < BYTES / sizeof(float); i++) {
        random = random * 1664525u + 1013904223u;
        ((float *)before)[i] = (float)(int32_t)random / 2147483648.0f;
    }
    MUST(cuda->upload(device, memory, before, BYTES, &err), &err);
    void *address[4];
    for (int t = 0; t < 4; t++) {
        assert_int_equal(ckpt_graph_add_tensor(&graph, NULL, CKPT_F32, CKPT_ROLE_STEP, 2, dims[t], &err), t);
        address[t] = (char *)memory + used;
        used += (ckpt_tensor_bytes(&graph.tensor[t]) + 255) / 256 * 256;
    }
    assert_true(used <= BYTES);
    for (int t = 0; t < 3; t++) bind.in[t] = address[t];
    bind.out[0] = address[3];
    MUST(cuda->bind(device, &bind, &launch, &err), &err);
    MUST(cuda->download(device, after, memory, BYTES, &err), &err);
    o->disturbed = memcmp(before, after, BYTES) != 0;
    fake_cuda_count(&at_end);
    const int fused_before = at_end.fused_products;
    MUST(cuda->run(device, &launch, 1, &scalars, &err), &err);
    o->count = m * n;
    MUST(cuda->download(device, o->y, address[3], (uint64_t)(m * n) * sizeof(float), &err), &err);
    fake_cuda_count(&at_end);
    o->searches = at_end.searches - at_start.searches;
    o->fused = at_end.fused_products - fused_before;
    cuda->close(device);
    ckpt_pool_free(&pool);
    ckpt_graph_free(&graph);
}

static bool same(const outcome *a, const outcome *b) { return memcmp(a->y, b->y, (size_t)a->count * sizeof(float)) == 0; }

/* The one file of the folder, in `path`; false where there is none. */
static bool find_file(char path[512]) {
    char sub[256];
    struct dirent *entry;
    snprintf(sub, sizeof sub, "%s/ckpt", folder);
    DIR *files = opendir(sub);
    bool found = false;
    while (files && (entry = readdir(files)))
        if (strncmp(entry->d_name, "algorithms-", 11) == 0) {
            snprintf(path, 512, "%s/%.200s", sub, entry->d_name);
            found = true;
        }
    if (files) closedir(files);
    return found;
}

static void forget(void) {
    char path[512];
    while (find_file(path)) unlink(path);
}

static outcome first, again;

static void test_the_fastest_that_does_not_split_is_taken(void **state) {
    (void)state;
    forget();
    run_layer(33, 17, true, false, &first); /* (33 + 17) % 3: fused costs nothing more */
    assert_int_equal(first.fused, 1);
    run_layer(33, 18, true, false, &first); /* % 3 == 0: a pass of our own is faster */
    assert_int_equal(first.fused, 0);
    run_layer(33, 17, true, true, &first);
    assert_int_equal(first.fused, 1);
    run_layer(33, 17, true, false, &again); /* measured and recommended are two algorithms */
    assert_false(same(&first, &again));
}

static void test_measuring_disturbs_nothing(void **state) {
    (void)state;
    forget();
    run_layer(40, 31, true, false, &first);
    assert_false(first.disturbed);
    assert_true(first.searches > 0);
}

static void test_without_scratch_nothing_is_measured(void **state) {
    (void)state;
    forget();
    run_layer(40, 31, false, false, &first);
    forget();
    run_layer(40, 31, true, true, &again);
    assert_true(same(&first, &again));
    assert_false(first.disturbed || again.disturbed);
}

static void test_a_later_run_finds_the_choice(void **state) {
    (void)state;
    char path[512];
    forget();
    run_layer(48, 20, true, false, &first);
    assert_true(first.searches > 0);
    assert_true(find_file(path));
    run_layer(48, 20, true, false, &again);
    assert_int_equal(again.searches, 0);
    assert_true(same(&first, &again));
    run_layer(48, 20, false, false, &again); /* also where it could not have measured */
    assert_int_equal(again.searches, 0);
    assert_true(same(&first, &again));
    run_layer(48, 24, true, false, &again); /* another shape joins it in the file */
    assert_true(again.searches > 0);
    run_layer(48, 20, true, false, &again);
    assert_int_equal(again.searches, 0);
    setenv("FAKE_CUDA_NAME", "another device", 1);
    run_layer(48, 20, true, false, &again);
    assert_true(again.searches > 0);
    unsetenv("FAKE_CUDA_NAME");
}

/* Some bytes of every part of the file in turn are wrong, or the file ends there: as if there were none, and then a good one. */
static void test_a_damaged_file_does_no_harm(void **state) {
    (void)state;
    char path[512];
    static unsigned char good[4096];
    forget();
    run_layer(32, 16, true, false, &first);
    assert_true(find_file(path));
    FILE *file = fopen(path, "rb");
    const size_t size = fread(good, 1, sizeof good, file);
    fclose(file);
    assert_in_range(size, 600, sizeof good - 1);
    for (size_t at = 0; at < size; at += at < 16 ? 3 : 47)
        for (int cut = 0; cut < 2; cut++) {
            file = fopen(path, "wb");
            const unsigned char was = good[at];
            good[at] ^= 0x41;
            fwrite(good, 1, cut ? at : size, file);
            good[at] = was;
            fclose(file);
            run_layer(32, 16, true, false, &again);
            if (again.searches == 0 || !same(&first, &again)) fail_msg("a file damaged at byte %zu is believed", at);
        }
    run_layer(32, 16, true, false, &again);
    assert_int_equal(again.searches, 0);
}

static void test_no_place_for_a_file_is_fine(void **state) {
    (void)state;
    char absolute[512];
    const char *const places[] = {"/proc/self/no/such", "relative", "/dev/null"};
    forget();
    run_layer(32, 16, true, false, &first);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        setenv("XDG_CACHE_HOME", places[i], 1);
        setenv("HOME", "/proc/self/no/such", 1);
        run_layer(32, 16, true, false, &again);
        assert_true(again.searches > 0);
        assert_true(same(&first, &again)); /* the fake's clock is not noise */
    }
    assert_non_null(getcwd(absolute, sizeof absolute - 64));
    snprintf(absolute + strlen(absolute), 64, "/%s", folder);
    setenv("XDG_CACHE_HOME", absolute, 1);
}

/* Devices that are open together use the same algorithms even so. */
static void test_devices_share_what_is_known(void **state) {
    (void)state;
    ckpt_device *device;
    const ckpt_device_options options = {.index = 0};
    char path[512];
    forget();
    setenv("XDG_CACHE_HOME", "/dev/null", 1);
    MUST(ckpt_backend_cuda()->open(&options, &device, &err), &err);
    run_layer(24, 16, true, false, &first);
    assert_true(first.searches > 0);
    run_layer(24, 16, true, false, &again);
    assert_int_equal(again.searches, 0);
    assert_true(same(&first, &again));
    ckpt_backend_cuda()->close(device);
    run_layer(24, 16, true, false, &again);
    assert_true(again.searches > 0);
    assert_false(find_file(path));
}

int main(void) {
    char absolute[512];
    if (!mkdtemp(folder) || !getcwd(absolute, sizeof absolute - 64)) return 1;
    snprintf(absolute + strlen(absolute), 64, "/%s", folder);
    setenv("XDG_CACHE_HOME", absolute, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_fastest_that_does_not_split_is_taken),
        cmocka_unit_test(test_measuring_disturbs_nothing),
        cmocka_unit_test(test_without_scratch_nothing_is_measured),
        cmocka_unit_test(test_a_later_run_finds_the_choice),
        cmocka_unit_test(test_a_damaged_file_does_no_harm),
        cmocka_unit_test(test_no_place_for_a_file_is_fine),
        cmocka_unit_test(test_devices_share_what_is_known),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    forget();
    snprintf(absolute + strlen(absolute), 16, "/ckpt");
    rmdir(absolute);
    rmdir(folder);
    return failed;
}
