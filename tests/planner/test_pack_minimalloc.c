/* The MiniMalloc problems in $CKPT_SHARED_DATA/minimalloc are packed within their capacity, as they are and disguised:
 * buffers listed in other orders, time running backwards. Exit status 77 (skipped) where there are none. */
#include "cmocka_all.h"

#include <stdio.h>
#include <stdlib.h>

#include "pack_csv.h"
#include "planner/packing/pack.h"

/* Several times what any of them needs. */
enum { WORK = 200000000, DISGUISES = 3 };

static ckpt_packing pack(const pack_csv *csv, uint64_t capacity, ckpt_pool *pool) {
    const ckpt_pack_problem problem = {.count = csv->count,
                                       .lower = csv->lower,
                                       .upper = csv->upper,
                                       .size = csv->size,
                                       .alignment = 64,
                                       .capacity = capacity,
                                       .work_limit = WORK};
    ckpt_packing packing;
    ckpt_error err;
    assert_int_equal(ckpt_pack(&problem, pool, &packing, &err), CKPT_OK);
    return packing;
}

static void read_problem(char letter, pack_csv *csv) {
    char path[4096];
    snprintf(path, sizeof path, "%s/minimalloc/%c.1048576.csv", getenv("CKPT_SHARED_DATA"), letter);
    const char *wrong = pack_csv_read(path, csv);
    if (wrong) fail_msg("%s %s", path, wrong);
    assert_int_equal(csv->capacity, 1048576);
}

/* Lists the buffers in another order and turns time round. */
static void disguise(pack_csv *csv, int round) {
    uint32_t state = (uint32_t)round;
    for (int i = csv->count - 1; i > 0; i--) {
        state = state * 1664525u + 1013904223u;
        const int j = (int)((state >> 8) % (uint32_t)(i + 1));
        const int64_t lower = csv->lower[i], upper = csv->upper[i];
        const uint64_t size = csv->size[i];
        csv->lower[i] = csv->lower[j], csv->upper[i] = csv->upper[j], csv->size[i] = csv->size[j];
        csv->lower[j] = lower, csv->upper[j] = upper, csv->size[j] = size;
    }
    for (int i = 0; i < csv->count && round % 2; i++) {
        const int64_t lower = csv->lower[i];
        csv->lower[i] = -csv->upper[i];
        csv->upper[i] = -lower;
    }
}

static void all_fit_at_capacity(void **state) {
    (void)state;
    for (char letter = 'A'; letter <= 'K'; letter++)
        for (int round = 0; round < DISGUISES; round++) {
            pack_csv csv;
            ckpt_pool pool = {0};
            read_problem(letter, &csv);
            if (round) disguise(&csv, round);
            const ckpt_packing p = pack(&csv, csv.capacity, &pool);
            print_message("%c %d: %llu bytes, live peak %llu, %llu steps\n", letter, round,
                          (unsigned long long)p.height, (unsigned long long)p.live_peak, (unsigned long long)p.work);
            assert_true(p.height <= csv.capacity);
            assert_true(pack_csv_valid(&csv, p.offset, csv.capacity));
            p.offset[0] = p.offset[csv.count - 1] = csv.capacity; /* negative control */
            assert_false(pack_csv_valid(&csv, p.offset, csv.capacity));
            ckpt_pool_free(&pool);
            pack_csv_free(&csv);
        }
}

/* A buffer more over the whole time, and nothing fits: that is seen from the live peak, and said so. */
static void one_buffer_too_many_does_not_fit(void **state) {
    (void)state;
    pack_csv csv;
    ckpt_pool pool = {0};
    read_problem('A', &csv);
    csv.size[csv.count - 1] += csv.capacity;
    const ckpt_packing p = pack(&csv, csv.capacity, &pool);
    assert_true(p.height > csv.capacity && p.lower_bound > csv.capacity);
    ckpt_pool_free(&pool);
    pack_csv_free(&csv);
}

int main(void) {
    if (!getenv("CKPT_SHARED_DATA")) {
        printf("skipped: CKPT_SHARED_DATA names no folder with MiniMalloc problems\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_fit_at_capacity),
                                       cmocka_unit_test(one_buffer_too_many_does_not_fit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
