/* Plan files: what is written comes back, and nothing that is damaged does. */
#include "cmocka_all.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plan_graphs.h"
#include "plan_oracle.h"
#include "planner/plan_file.h"

static char folder[64], path[128];
static ckpt_graph graph, evaluation;
static ckpt_plan *plan;
static char *text;
static size_t length;

static uint64_t random_state = 7;
static uint64_t next_random(uint64_t below) { /* xorshift64* (Vigna 2016) */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * 2685821657736338717ull >> 33) % below;
}

static void write_bytes(const char *bytes, size_t count) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    fclose(file);
}

static int set_up(void **state) {
    (void)state;
    strcpy(folder, "plan_file_XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/plan.json", folder);
    plan_graph_make(&(plan_graph_options){.kind = PLAN_GRAPH_PRENORM, .layers = 8, .width = 40, .batch = 9},
                    &graph, &evaluation);
    const ckpt_plan_options options = {
        .strategy = CKPT_STRATEGY_LAYERS, .layers = "fc1,fc4", .eval = &evaluation};
    ckpt_error err;
    if (ckpt_plan_make(&graph, &options, &plan_graph_traits, NULL, &plan, &err) != CKPT_OK) return -1;
    if (ckpt_plan_write(plan, path, &err) != CKPT_OK) return -1;
    FILE *file = fopen(path, "rb");
    struct stat info;
    if (!file || fstat(fileno(file), &info) != 0) return -1;
    length = (size_t)info.st_size;
    text = malloc(length + 1);
    if (fread(text, 1, length, file) != length) return -1;
    text[length] = 0;
    fclose(file);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    free(text);
    ckpt_plan_free(plan);
    ckpt_graph_free(&graph);
    ckpt_graph_free(&evaluation);
    unlink(path);
    return rmdir(folder);
}

static void expect_refused(const char *says) {
    ckpt_plan *read;
    ckpt_error err = {0};
    assert_int_equal(ckpt_plan_read(path, &graph, &evaluation, &read, &err), CKPT_USAGE);
    assert_int_equal(err.status, CKPT_USAGE);
    assert_null(read);
    if (!strstr(err.message, path) || !strstr(err.message, says))
        fail_msg("'%s' does not say '%s'", err.message, says);
    assert_null(strchr(err.message, '\n'));
}

/* The file with the first `from` replaced. */
static void expect_refused_with(const char *from, const char *to, const char *says) {
    char *at = strstr(text, from);
    if (!at) fail_msg("'%s' is not in the file", from);
    char *changed = malloc(length + strlen(to) + 1);
    const size_t head = (size_t)(at - text);
    sprintf(changed, "%.*s%s%s", (int)head, text, to, at + strlen(from));
    write_bytes(changed, strlen(changed));
    free(changed);
    expect_refused(says);
}

static void plans_come_back(void **state) {
    (void)state;
    write_bytes(text, length);
    ckpt_plan *read;
    ckpt_error err = {0};
    if (ckpt_plan_read(path, &graph, &evaluation, &read, &err) != CKPT_OK) fail_msg("%s", err.message);
    assert_string_equal(read->strategy, "layers=fc1,fc4");
    assert_string_equal(read->device, "test");
    assert_string_equal(read->graph_hash, plan->graph_hash);
    assert_true(plan_steps_equal(read, plan));
    assert_int_equal(read->instance_count, plan->instance_count);
    assert_memory_equal(read->instance, plan->instance,
                        (size_t)plan->instance_count * sizeof *plan->instance);
    assert_memory_equal(read->persistent_offset, plan->persistent_offset,
                        (size_t)plan->tensor_count * sizeof(uint64_t));
    assert_memory_equal(read->layer_recomputed, plan->layer_recomputed,
                        (size_t)plan->layer_count * sizeof(bool));
    assert_memory_equal(&read->memory, &plan->memory, sizeof plan->memory);
    assert_memory_equal(&read->compute, &plan->compute, sizeof plan->compute);
    assert_int_equal(read->input_buffers, plan->input_buffers);
    assert_true(plan_oracle_run(&graph, read) == plan_oracle_truth(&graph));
    ckpt_plan_free(read);
}

static void costs_come_back(void **state) {
    (void)state;
    ckpt_error err = {0};
    ckpt_plan *timed, *read;
    uint64_t *ns = calloc((size_t)graph.node_count, sizeof *ns);
    for (int n = 0; n < graph.node_count; n++) ns[n] = 100 + (uint64_t)n;
    const ckpt_costs costs = {.unit = CKPT_COST_NS, .source = "a stopwatch", .count = graph.node_count, .node = ns};
    const ckpt_plan_options options = {.strategy = CKPT_STRATEGY_SQRT, .eval = &evaluation, .costs = &costs};
    assert_int_equal(ckpt_plan_make(&graph, &options, &plan_graph_traits, NULL, &timed, &err), CKPT_OK);
    assert_true(timed->compute.recompute_cost > 0 && timed->compute.recompute_cost != timed->compute.recompute_flops);
    assert_int_equal(ckpt_plan_write(timed, path, &err), CKPT_OK);
    if (ckpt_plan_read(path, &graph, &evaluation, &read, &err) != CKPT_OK) fail_msg("%s", err.message);
    assert_int_equal(read->costs.unit, CKPT_COST_NS);
    assert_string_equal(read->costs.source, "a stopwatch");
    assert_memory_equal(read->costs.node, ns, (size_t)graph.node_count * sizeof *ns);
    assert_memory_equal(&read->compute, &timed->compute, sizeof read->compute);
    assert_memory_equal(&read->bound, &timed->bound, sizeof read->bound);
    ckpt_plan_free(read);
    /* A node's cost that is not the one the totals were made from. */
    char *whole = malloc(1 << 20);
    FILE *file = fopen(path, "rb");
    whole[fread(whole, 1, (1 << 20) - 1, file)] = 0;
    fclose(file);
    char *at = strstr(whole, "[100,101,");
    assert_non_null(at);
    at[3] = '9';
    write_bytes(whole, strlen(whole));
    expect_refused("step_cost");
    free(whole);
    free(ns);
    ckpt_plan_free(timed);
}

static void other_models_plans_are_refused(void **state) {
    (void)state;
    write_bytes(text, length);
    ckpt_graph other;
    plan_graph_make(&(plan_graph_options){.kind = PLAN_GRAPH_PRENORM, .layers = 8, .width = 40, .batch = 10},
                    &other, NULL);
    ckpt_plan *read;
    ckpt_error err = {0};
    assert_int_equal(ckpt_plan_read(path, &other, NULL, &read, &err), CKPT_USAGE);
    assert_non_null(strstr(err.message, "another model"));
    /* The right graph without its evaluation graph: the totals are not what such a plan has. */
    assert_int_equal(ckpt_plan_read(path, &graph, NULL, &read, &err), CKPT_USAGE);
    ckpt_graph_free(&other);
}

static void damaged_files_get_one_clear_line(void **state) {
    (void)state;
    write_bytes("", 0);
    expect_refused("no plan file");
    write_bytes("[1,2]", 5);
    expect_refused("not a JSON object");
    write_bytes("{}", 2);
    expect_refused("'schema'");
    write_bytes(text, length / 2);
    expect_refused("no plan file");
    write_bytes("{\"schema\":\"\x1b[31m\"}", 16);
    expect_refused("no plan file");
    expect_refused_with("ckptplan-file/4", "ckptplan-file/3", "schema 'ckptplan-file/3'");
    expect_refused_with("\"schema\":", "\"schema\":1,\"schema\":", "duplicate");
    expect_refused_with("\"device\":", "\"more\":1,\"device\":", "fields");
    expect_refused_with("\"device\":\"test\"", "\"device\":3", "'device'");
    expect_refused_with("\"alignment_bytes\":256", "\"alignment_bytes\":0", "alignment");
    expect_refused_with("\"alignment_bytes\":256", "\"alignment_bytes\":-256", "out of range");
    expect_refused_with("\"alignment_bytes\":256", "\"alignment_bytes\":256.0", "whole number");
    expect_refused_with("\"total\":", "\"total\":9223372036854775807,\"x\":", "'memory'");
    expect_refused_with("\"input_buffers\":2", "\"input_buffers\":99999999999", "out of range");
    expect_refused_with("\"input_buffers\":2", "\"input_buffers\":1000000", "damaged");
    expect_refused_with("\"steps\":[[", "\"steps\":[[],[", "steps");
    expect_refused_with("\"steps\":[[0", "\"steps\":[[1000000", "damaged");
    expect_refused_with("\"steps\":[[0", "\"steps\":[[-1", "out of range");
    expect_refused_with("\"instances\":[[", "\"instances\":[[99", "damaged");
    expect_refused_with("\"persistent_offset\":[", "\"persistent_offset\":[-2,", "tensors");
    expect_refused_with("\"proved\":", "\"proved\":0,\"x\":", "'bound'");
}

static void odd_paths_are_refused(void **state) {
    (void)state;
    ckpt_plan *read;
    ckpt_error err = {0};
    assert_int_equal(ckpt_plan_read("/nowhere/plan.json", &graph, NULL, &read, &err), CKPT_USAGE);
    assert_int_equal(ckpt_plan_read(folder, &graph, NULL, &read, &err), CKPT_USAGE);
    assert_non_null(strstr(err.message, "not a regular file"));
}

/* Deep nesting, long numbers. */
static void hostile_files_are_refused(void **state) {
    (void)state;
    enum { DEEP = 1000000 };
    char *deep = malloc(DEEP);
    memset(deep, '[', DEEP);
    write_bytes(deep, DEEP);
    expect_refused("no plan file");
    memset(deep, '9', DEEP);
    memcpy(deep, "{\"schema\":", 10);
    write_bytes(deep, DEEP);
    expect_refused("no plan file");
    free(deep);
}

static void mutated_bytes_never_crash(void **state) {
    (void)state;
    static const char alphabet[] = "0123456789-,.[]{}\":eE truefalsn\\u\0\xff";
    char *changed = malloc(length + 1);
    int refused = 0, accepted = 0;
    for (int round = 0; round < 3000; round++) {
        memcpy(changed, text, length);
        const int edits = 1 + (int)next_random(4);
        size_t size = length;
        for (int e = 0; e < edits; e++)
            changed[next_random(length)] = alphabet[next_random(sizeof alphabet - 1)];
        if (next_random(10) == 0) size = next_random(length);
        write_bytes(changed, size);
        ckpt_plan *read;
        ckpt_error err = {0};
        const ckpt_status status = ckpt_plan_read(path, &graph, &evaluation, &read, &err);
        if (status == CKPT_OK) { /* an edit that changed nothing, a free text or a harmless offset */
            assert_true(plan_oracle_run(&graph, read) == plan_oracle_truth(&graph));
            ckpt_plan_free(read);
            accepted++;
        } else {
            assert_int_equal(status, CKPT_USAGE);
            assert_non_null(strstr(err.message, path));
            refused++;
        }
    }
    print_message("%d refused, %d equivalent\n", refused, accepted);
    assert_true(refused > 2000);
    free(changed);
}

static int files_in_folder(void) {
    DIR *d = opendir(folder);
    int count = 0;
    for (struct dirent *e; (e = readdir(d));) count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static void writing_is_all_or_nothing(void **state) {
    (void)state;
    ckpt_error err = {0};
    write_bytes("old", 3);
    assert_int_equal(ckpt_plan_write(plan, "/nowhere/plan.json", &err), CKPT_USAGE);
    assert_non_null(strstr(err.message, "/nowhere/plan.json"));
    /* A plan that JSON's numbers cannot hold fails before the old file is touched. */
    const uint64_t total = plan->memory.total;
    plan->memory.total = UINT64_MAX - 1;
    assert_int_not_equal(ckpt_plan_write(plan, path, &err), CKPT_OK);
    plan->memory.total = total;
    char old[4] = "";
    FILE *file = fopen(path, "rb");
    assert_int_equal(fread(old, 1, 3, file), 3);
    fclose(file);
    assert_string_equal(old, "old");
    assert_int_equal(ckpt_plan_write(plan, path, &err), CKPT_OK);
    assert_int_equal(files_in_folder(), 1); /* no temporary file stays */
    /* A folder in the way: the temporary file goes, too. */
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(ckpt_plan_write(plan, path, &err), CKPT_USAGE);
    assert_int_equal(files_in_folder(), 1);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(ckpt_plan_write(plan, path, &err), CKPT_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_come_back),
        cmocka_unit_test(costs_come_back),
        cmocka_unit_test(other_models_plans_are_refused),
        cmocka_unit_test(damaged_files_get_one_clear_line),
        cmocka_unit_test(odd_paths_are_refused),
        cmocka_unit_test(hostile_files_are_refused),
        cmocka_unit_test(mutated_bytes_never_crash),
        cmocka_unit_test(writing_is_all_or_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
