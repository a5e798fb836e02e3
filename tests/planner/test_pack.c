/* Packing: always valid, never below the bound, and against brute force where that is possible. */
#include "cmocka_all.h"

#include <stdbool.h>
#include <string.h>

#include "planner/packing/pack.h"

enum { MOST = 400 };

typedef struct instance {
    int count;
    int64_t lower[MOST], upper[MOST];
    uint64_t size[MOST];
} instance;

static uint64_t random_state;
static uint64_t next_random(uint64_t below) { /* xorshift64* (Vigna 2016) */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * 2685821657736338717ull >> 33) % below;
}

static void make_random(instance *x, int count, int steps, uint64_t most_size) {
    x->count = count;
    for (int i = 0; i < count; i++) {
        x->lower[i] = (int64_t)next_random((uint64_t)steps) - 5;
        x->upper[i] = x->lower[i] + 1 + (int64_t)next_random((uint64_t)steps / 2 + 1);
        x->size[i] = 1 + next_random(most_size);
    }
}

/* The most that is live at once, by definition. */
static uint64_t live_peak(const instance *x, uint64_t alignment) {
    uint64_t peak = 0;
    for (int i = 0; i < x->count; i++) {
        uint64_t live = 0;
        for (int j = 0; j < x->count; j++)
            if (x->lower[j] <= x->lower[i] && x->lower[i] < x->upper[j])
                live += (x->size[j] + alignment - 1) / alignment * alignment;
        if (live > peak) peak = live;
    }
    return peak;
}

static bool is_valid(const instance *x, uint64_t alignment, const uint64_t *offset, uint64_t height) {
    for (int i = 0; i < x->count; i++) {
        if (offset[i] % alignment || offset[i] + x->size[i] > height) return false;
        for (int j = 0; j < i; j++)
            if (x->lower[i] < x->upper[j] && x->lower[j] < x->upper[i] &&
                offset[i] < offset[j] + x->size[j] && offset[j] < offset[i] + x->size[i])
                return false;
    }
    return true;
}

static ckpt_packing pack(const instance *x, uint64_t alignment, uint64_t capacity, uint64_t work,
                         ckpt_pool *pool) {
    const ckpt_pack_problem problem = {.count = x->count,
                                       .lower = x->lower,
                                       .upper = x->upper,
                                       .size = x->size,
                                       .alignment = alignment,
                                       .capacity = capacity,
                                       .work_limit = work};
    ckpt_packing packing;
    ckpt_error err;
    assert_int_equal(ckpt_pack(&problem, pool, &packing, &err), CKPT_OK);
    return packing;
}

static void random_sets_pack_validly(void **state) {
    (void)state;
    random_state = 1;
    for (int round = 0; round < 300; round++) {
        instance x;
        const uint64_t alignment = 1ull << next_random(9);
        make_random(&x, (int)next_random(120), 2 + (int)next_random(60), 1 + next_random(5000));
        ckpt_pool pool = {0};
        const ckpt_packing p = pack(&x, alignment, 0, 20000, &pool);
        assert_true(is_valid(&x, alignment, p.offset, p.height));
        assert_int_equal(p.live_peak, live_peak(&x, alignment));
        assert_true(p.lower_bound >= p.live_peak && p.height >= p.lower_bound);
        if (x.count > 1 && p.height > 0) /* negative control: the judge sees overlaps and overhangs */
            assert_false(is_valid(&x, alignment, p.offset, p.height - alignment));
        ckpt_pool_free(&pool);
    }
}

/* The smallest height over all orders of placing each buffer at the lowest free offset that rests on
 * something. */
static uint64_t brute_force(const instance *x, uint64_t *offset, unsigned placed, uint64_t height,
                            uint64_t best) {
    if (height >= best) return best;
    if (placed == (1u << x->count) - 1) return height;
    for (int i = 0; i < x->count; i++) {
        if (placed >> i & 1) continue;
        uint64_t at = 0; /* above everything placed that it meets: enough, over all orders */
        for (int j = 0; j < x->count; j++)
            if (placed >> j & 1 && x->lower[i] < x->upper[j] && x->lower[j] < x->upper[i] &&
                offset[j] + x->size[j] > at)
                at = offset[j] + x->size[j];
        offset[i] = at;
        best = brute_force(x, offset, placed | 1u << i, at + x->size[i] > height ? at + x->size[i] : height,
                           best);
    }
    return best;
}

/* Short lifetimes and few sizes: there packings above the live peak are least rare. */
static void tiny_sets_pack_optimally(void **state) {
    (void)state;
    random_state = 2;
    for (int round = 0; round < 4000; round++) {
        instance x;
        make_random(&x, 1 + (int)next_random(7), 4 + (int)next_random(5), 1 + next_random(9));
        uint64_t offset[MOST];
        ckpt_pool pool = {0};
        const ckpt_packing p = pack(&x, 1, 0, 10000000, &pool);
        const uint64_t best = brute_force(&x, offset, 0, 0, UINT64_MAX);
        assert_int_equal(p.height, best);
        assert_int_equal(p.lower_bound, best); /* and it is proved */
        ckpt_pool_free(&pool);
    }
}

/* Nine buffers whose live peak no packing reaches (rare: one in 20,000 random sets of this size): proved, not
 * given up. */
static void a_gap_that_cannot_be_closed_is_proved(void **state) {
    (void)state;
    const instance x = {.count = 9,
                        .lower = {8, 2, 2, 3, 6, 5, 1, 4, 1},
                        .upper = {10, 6, 3, 8, 8, 7, 4, 5, 2},
                        .size = {3, 3, 3, 2, 5, 4, 5, 6, 5}};
    uint64_t offset[MOST];
    ckpt_pool pool = {0};
    const ckpt_packing p = pack(&x, 1, 0, 10000000, &pool);
    assert_true(p.height > p.live_peak);
    assert_int_equal(p.lower_bound, p.height);
    assert_int_equal(brute_force(&x, offset, 0, 0, UINT64_MAX), p.height);
    ckpt_pool_free(&pool);
}

static void nested_lifetimes_pack_perfectly_without_search(void **state) {
    (void)state;
    random_state = 4;
    for (int round = 0; round < 50; round++) {
        instance x = {.count = 200};
        for (int i = 0; i < 200; i++) {
            x.lower[i] = i;
            x.upper[i] = 400 - i;
            x.size[i] = 1 + next_random(100000);
        }
        ckpt_pool pool = {0};
        const ckpt_packing p = pack(&x, 256, 0, 1, &pool);
        assert_int_equal(p.height, p.live_peak);
        ckpt_pool_free(&pool);
    }
}

/* Cuts a rectangle into buffers by random guillotine cuts: a perfect packing exists by construction. */
static void cut(instance *x, int64_t lower, int64_t upper, uint64_t lo, uint64_t hi, int depth) {
    const bool in_time = next_random(2);
    if (depth == 0 || x->count >= MOST - 4 || (in_time ? upper - lower < 2 : hi - lo < 2)) {
        x->lower[x->count] = lower;
        x->upper[x->count] = upper;
        x->size[x->count++] = hi - lo;
    } else if (in_time) {
        const int64_t at = lower + 1 + (int64_t)next_random((uint64_t)(upper - lower - 1));
        cut(x, lower, at, lo, hi, depth - 1);
        cut(x, at, upper, lo, hi, depth - 1);
    } else {
        const uint64_t at = lo + 1 + next_random(hi - lo - 1);
        cut(x, lower, upper, lo, at, depth - 1);
        cut(x, lower, upper, at, hi, depth - 1);
    }
}

static void cut_rectangles_are_put_together_again(void **state) {
    (void)state;
    random_state = 5;
    int perfect = 0;
    for (int round = 0; round < 40; round++) {
        instance x = {.count = 0};
        cut(&x, 0, 100, 0, 1000, 4);
        ckpt_pool pool = {0};
        const ckpt_packing p = pack(&x, 1, 0, 2000000, &pool);
        assert_true(is_valid(&x, 1, p.offset, p.height));
        assert_int_equal(p.lower_bound, 1000); /* the search never refutes what exists */
        perfect += p.height == 1000;
        ckpt_pool_free(&pool);
    }
    assert_true(perfect >= 38);
}

static void a_capacity_ends_the_search_early(void **state) {
    (void)state;
    random_state = 6;
    instance x;
    make_random(&x, 200, 100, 1000);
    ckpt_pool pool = {0};
    const ckpt_packing tight = pack(&x, 1, 0, 2000000, &pool),
                       loose = pack(&x, 1, 2 * tight.height, 2000000, &pool);
    assert_true(loose.height <= 2 * tight.height);
    assert_true(loose.work < tight.work);
    ckpt_pool_free(&pool);
}

static void empty_problems_are_fine(void **state) {
    (void)state;
    ckpt_pool pool = {0};
    instance x = {.count = 0};
    assert_int_equal(pack(&x, 256, 0, 0, &pool).height, 0);
    x = (instance){.count = 2, .lower = {0, 3}, .upper = {1, 3}, .size = {0, 77}};
    assert_int_equal(pack(&x, 256, 0, 0, &pool).height, 0); /* no bytes; no time */
    ckpt_pool_free(&pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sets_pack_validly),
        cmocka_unit_test(tiny_sets_pack_optimally),
        cmocka_unit_test(a_gap_that_cannot_be_closed_is_proved),
        cmocka_unit_test(nested_lifetimes_pack_perfectly_without_search),
        cmocka_unit_test(cut_rectangles_are_put_together_again),
        cmocka_unit_test(a_capacity_ends_the_search_early),
        cmocka_unit_test(empty_problems_are_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
