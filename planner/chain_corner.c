/* Functions of memory by corners: exact in bytes, as long as no more of them differ than there is time for. */
#include <string.h>

#include "planner/chain_table.h"

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static bool make_room(ckpt_chain_tables *tables, ckpt_chain_stairs *stairs, int count) {
    stairs->count = 0;
    if (count <= stairs->capacity) return true;
    int capacity = stairs->capacity ? stairs->capacity : 256;
    while (capacity < count) capacity *= 2;
    stairs->corner = ckpt_pool_array(&tables->pool, capacity, ckpt_chain_corner);
    stairs->capacity = stairs->corner ? capacity : 0;
    return stairs->corner != NULL;
}

/* The last corner at or below `bytes`; -1 where there is none. */
static int corner_at(const ckpt_chain_corner *corner, int count, uint64_t bytes) {
    int low = -1, high = count;
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if (corner[middle].bytes <= bytes) low = middle;
        else high = middle;
    }
    return low;
}

uint64_t ckpt_chain_fn_cost(const ckpt_chain_fn *fn, uint64_t bytes) {
    const int at = corner_at(fn->corner, fn->corner_count, bytes);
    return at < 0 ? CKPT_CHAIN_NEVER : fn->corner[at].cost;
}

/* A split between `from`, where both functions have a value, and `cap` bytes. */
static void add_up(const ckpt_chain_split *split, const ckpt_chain_fn *right, const ckpt_chain_fn *left, uint64_t from,
                   uint64_t cap, ckpt_chain_stairs *out) {
    const uint64_t shift = split->shift_bytes;
    int r = corner_at(right->corner, right->corner_count, from - shift), l = corner_at(left->corner, left->corner_count, from);
    for (uint64_t at = from; at <= cap;) {
        out->corner[out->count++] =
            (ckpt_chain_corner){at, split->run_cost + right->corner[r].cost + left->corner[l].cost};
        const uint64_t next_right = r + 1 < right->corner_count ? right->corner[r + 1].bytes + shift : UINT64_MAX;
        const uint64_t next_left = l + 1 < left->corner_count ? left->corner[l + 1].bytes : UINT64_MAX;
        at = smaller(next_right, next_left);
        if (at == UINT64_MAX) return;
        r += next_right == at;
        l += next_left == at;
    }
}

/* The lower of two at every number of bytes. */
static void lower_of(const ckpt_chain_corner *a, int a_count, const ckpt_chain_corner *b, int b_count, ckpt_chain_stairs *out) {
    uint64_t lowest = CKPT_CHAIN_NEVER;
    for (int i = 0, j = 0; i < a_count || j < b_count;) {
        const bool from_a = j == b_count || (i < a_count && a[i].bytes <= b[j].bytes);
        const ckpt_chain_corner *next = from_a ? &a[i++] : &b[j++];
        if (next->cost >= lowest) continue;
        lowest = next->cost;
        if (out->count && out->corner[out->count - 1].bytes == next->bytes) out->count--;
        out->corner[out->count++] = *next;
    }
}

static bool keep(ckpt_chain_tables *tables, const ckpt_chain_stairs *stairs, ckpt_chain_fn *fn) {
    const int count = fn->corner_count = stairs->count;
    fn->least_bytes = fn->most_bytes = fn->floor_cost = CKPT_CHAIN_NEVER;
    if (count == 0) return true;
    fn->least_bytes = stairs->corner[0].bytes;
    fn->most_bytes = stairs->corner[count - 1].bytes;
    fn->floor_cost = stairs->corner[count - 1].cost;
    ckpt_chain_corner *corner = ckpt_pool_array(&tables->pool, count, ckpt_chain_corner);
    if (!corner) return false;
    memcpy(corner, stairs->corner, (size_t)count * sizeof *corner);
    fn->corner = corner;
    return true;
}

static bool spend(ckpt_chain_tables *tables, int corners) {
    tables->corner_work = tables->corner_work > (uint64_t)corners ? tables->corner_work - (uint64_t)corners : 0;
    return tables->corner_work > 0;
}

/* What a run of stages can have at most beyond its input: each has its own unless equal ones share functions. */
static uint64_t cap_of(const ckpt_chain_tables *tables, const ckpt_chain_ref *ref) {
    const uint64_t held = tables->likely && ref->s > 1 ? tables->chain->stage[ref->s - 1].out_bytes : 0;
    return tables->cap_bytes > held ? tables->cap_bytes - held : 0;
}

bool ckpt_chain_fn_corners(ckpt_chain_tables *tables, const ckpt_chain_ref *ref, const ckpt_chain_split *split, int count,
                           ckpt_chain_fn *fn) {
    ckpt_chain_stairs *best = &tables->stairs[0], *next = &tables->stairs[1], *sum = &tables->stairs[2];
    const uint64_t cap = cap_of(tables, ref);
    best->count = 0;
    for (int i = 0; i < count; i++) {
        ckpt_chain_fn scratch[2];
        const ckpt_chain_fn *right = ckpt_chain_find_fn(tables, &split[i].right, &scratch[0]);
        const ckpt_chain_fn *left = ckpt_chain_find_fn(tables, &split[i].left, &scratch[1]);
        if (!right->corner_count || !left->corner_count) continue;
        const uint64_t from = larger(split[i].least_bytes,
                                     larger(right->corner[0].bytes + split[i].shift_bytes, left->corner[0].bytes));
        if (from > cap) continue;
        const uint64_t least = split[i].run_cost + right->corner[right->corner_count - 1].cost +
                               left->corner[left->corner_count - 1].cost;
        const int there = corner_at(best->corner, best->count, from);
        if (there >= 0 && best->corner[there].cost <= least) continue;
        const int most = right->corner_count + left->corner_count;
        if (!spend(tables, most + best->count) || !make_room(tables, sum, most) || !make_room(tables, next, best->count + most))
            return false;
        add_up(&split[i], right, left, from, cap, sum);
        lower_of(best->corner, best->count, sum->corner, sum->count, next);
        const ckpt_chain_stairs swap = *best;
        *best = *next;
        *next = swap;
    }
    return keep(tables, best, fn);
}

bool ckpt_chain_fn_either_corners(ckpt_chain_tables *tables, const ckpt_chain_fn *a, const ckpt_chain_fn *b, ckpt_chain_fn *fn) {
    ckpt_chain_stairs *out = &tables->stairs[0];
    const int most = a->corner_count + b->corner_count;
    if (!spend(tables, most) || !make_room(tables, out, most)) return false;
    lower_of(a->corner, a->corner_count, b->corner, b->corner_count, out);
    return keep(tables, out, fn);
}
