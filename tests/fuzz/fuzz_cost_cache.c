/* Fuzz target: files of the user's cache, with rates of the device or times of nodes. The first byte says which (1: times),
 * whether the target writes the version and machine in front (2), without which a file is of no use, and whether a plan is made
 * (4), which takes long. What is accepted is in its bounds, is written and read again as the same numbers, and gives costs
 * that a plan can be made with. */
#include "fuzz_target.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "job/cost_cache.h"
#include "fuzz_graph.h"
#include "planner/plan.h"

enum { TIMES = 1, WITH_HEAD = 2, WITH_PLAN = 4, NODES = 6, MOST_BYTES = 1 << 16 };

static const ckpt_profile_key profile_key = {
    .device = "cpu", .graph_hash = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", .threads = 1, .node_count = NODES};

typedef struct subject {
    char folder[64], rates[128], times[128]; /* rates, times: paths of the two files */
    char head[512];                          /* of an object, up to and with the comma */
    ckpt_graph training, evaluation;
    ckpt_traits traits;
    uint64_t budget_bytes; /* half way between what the largest and the smallest plan take */
} subject;

static subject s;

static void must(ckpt_status status) { FUZZ_EXPECT(status == CKPT_OK); }

static void remove_folder(void) {
    char path[128];
    unlink(s.rates), unlink(s.times);
    snprintf(path, sizeof path, "%s/ckpt", s.folder);
    rmdir(path);
    rmdir(s.folder);
}

/* What this build writes about itself, from a file that it has written. */
static void find_head(void) {
    ckpt_error err;
    ckpt_rates rates;
    must(ckpt_cost_cache_put_rates(ckpt_rates_nominal("cpu", CKPT_PRECISION_FP32), &err));
    FUZZ_EXPECT(ckpt_cost_cache_rates("cpu", CKPT_PRECISION_FP32, &rates));
    json_t *root = json_load_file(s.rates, 0, NULL);
    const char *build = json_string_value(json_object_get(root, "build"));
    const char *machine = json_string_value(json_object_get(root, "machine"));
    FUZZ_EXPECT(build && machine);
    const int length = snprintf(s.head, sizeof s.head, "{\"build\":\"%s\",\"machine\":\"%s\",", build, machine);
    FUZZ_EXPECT(length > 0 && (size_t)length < sizeof s.head);
    json_decref(root);
}

static void start(void) {
    if (*s.folder) return;
    snprintf(s.folder, sizeof s.folder, "%s/ckpt-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    FUZZ_EXPECT(mkdtemp(s.folder) && setenv("XDG_CACHE_HOME", s.folder, 1) == 0 && atexit(remove_folder) == 0);
    snprintf(s.rates, sizeof s.rates, "%s/ckpt/device-cpu.json", s.folder);
    snprintf(s.times, sizeof s.times, "%s/ckpt/profile-cpu-%.32s-1.json", s.folder, profile_key.graph_hash);
    find_head();
    s.traits = (ckpt_traits){.device = "cpu", .alignment_bytes = 64, .input_buffers = 1};
    fuzz_graph_make(2, &s.training, &s.evaluation);
    const ckpt_plan_options options = {.strategy = CKPT_STRATEGY_MIN, .eval = &s.evaluation};
    ckpt_plan *smallest;
    ckpt_error err;
    must(ckpt_plan_make(&s.training, &options, &s.traits, NULL, &smallest, &err));
    const uint64_t most = smallest->store_all_total, least = smallest->memory.total;
    ckpt_plan_free(smallest);
    FUZZ_EXPECT(least < most);
    s.budget_bytes = least + (most - least) / 2;
}

static void write_file(const char *path, const uint8_t *bytes, size_t size, bool with_head) {
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const size_t head = with_head ? strlen(s.head) : 0;
    FUZZ_EXPECT(fd >= 0 && write(fd, s.head, head) == (ssize_t)head && write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

static bool is_between(double value, double least, double most) { return value >= least && value <= most; }

static bool same(double a, double b) { return !(a < b || a > b); }

static void use_costs(const ckpt_costs *costs, bool plans) {
    FUZZ_EXPECT(costs->count == s.training.node_count);
    for (int n = 0; n < costs->count; n++) FUZZ_EXPECT(costs->node[n] >= 1 && costs->node[n] <= CKPT_COST_MOST_NS);
    if (!plans) return;
    const ckpt_plan_options options = {.strategy = CKPT_STRATEGY_BUDGET, .budget_bytes = s.budget_bytes, .eval = &s.evaluation,
                                       .costs = costs};
    ckpt_plan *plan;
    ckpt_error err;
    must(ckpt_plan_make(&s.training, &options, &s.traits, NULL, &plan, &err));
    FUZZ_EXPECT(plan->memory.total <= s.budget_bytes);
    ckpt_plan_free(plan);
}

static void check_rates(bool plans) {
    ckpt_rates rates, again;
    ckpt_pool pool = {0};
    ckpt_costs costs;
    ckpt_error err;
    if (!ckpt_cost_cache_rates("cpu", CKPT_PRECISION_FP32, &rates)) return;
    FUZZ_EXPECT(is_between(rates.flops_per_second, 1e6, 1e18) && is_between(rates.bytes_per_second, 1e6, 1e18) &&
                is_between(rates.launch_seconds, 0, 1) && is_between(rates.product_launch_seconds, 0, 1));
    must(ckpt_cost_cache_put_rates(&rates, &err));
    FUZZ_EXPECT(ckpt_cost_cache_rates("cpu", CKPT_PRECISION_FP32, &again) && same(rates.flops_per_second, again.flops_per_second) &&
                same(rates.bytes_per_second, again.bytes_per_second) && same(rates.launch_seconds, again.launch_seconds) &&
                same(rates.product_launch_seconds, again.product_launch_seconds));
    must(ckpt_costs_roofline(&s.training, &rates, &pool, &costs, &err));
    use_costs(&costs, plans);
    ckpt_pool_free(&pool);
}

static void check_times(bool plans) {
    double seconds[NODES], again[NODES];
    ckpt_pool pool = {0};
    ckpt_costs costs;
    ckpt_error err;
    if (!ckpt_cost_cache_profile(&profile_key, seconds)) return;
    for (int n = 0; n < NODES; n++) FUZZ_EXPECT(is_between(seconds[n], 0, 4000));
    must(ckpt_cost_cache_put_profile(&profile_key, seconds, &err));
    FUZZ_EXPECT(ckpt_cost_cache_profile(&profile_key, again));
    for (int n = 0; n < NODES; n++) FUZZ_EXPECT(same(seconds[n], again[n]));
    double *all = ckpt_pool_array(&pool, s.training.node_count, double);
    FUZZ_EXPECT(all);
    for (int n = 0; n < s.training.node_count; n++) all[n] = seconds[n % NODES];
    must(ckpt_costs_measured(&s.training, all, "measured", &pool, &costs, &err));
    use_costs(&costs, plans);
    ckpt_pool_free(&pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 1 || size > MOST_BYTES) return 0;
    start();
    const bool times = bytes[0] & TIMES;
    write_file(times ? s.times : s.rates, bytes + 1, size - 1, bytes[0] & WITH_HEAD);
    if (times) check_times(bytes[0] & WITH_PLAN);
    else check_rates(bytes[0] & WITH_PLAN);
    return 0;
}
