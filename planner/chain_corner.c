#include "planner/chain_corner.h"

#include <string.h>

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static bool make_room(ckpt_corner_room *room, ckpt_corner_stairs *stairs, int count) {
    stairs->count = 0;
    if (count <= stairs->capacity) return true;
    int capacity = stairs->capacity ? stairs->capacity : 256;
    while (capacity < count) capacity *= 2;
    stairs->corner = ckpt_pool_array(room->pool, capacity, ckpt_corner);
    stairs->capacity = stairs->corner ? capacity : 0;
    room->out_of_memory |= !stairs->corner;
    return stairs->corner != NULL;
}

/* The last corner at or below `bytes`; -1 where there is none. */
static int corner_at(const ckpt_corner *corner, int count, uint64_t bytes) {
    int low = -1, high = count;
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if (corner[middle].bytes <= bytes) low = middle;
        else high = middle;
    }
    return low;
}

uint64_t ckpt_corner_cost(const ckpt_corner_fn *fn, uint64_t bytes) {
    const int at = corner_at(fn->corner, fn->count, bytes);
    return at < 0 ? CKPT_CORNER_NEVER : fn->corner[at].cost;
}

static const ckpt_corner nothing = {0, 0};
static const ckpt_corner_fn free_of_cost = {&nothing, 1};

/* Between `from`, where both functions have a value, and `cap` bytes. */
static void add_up(const ckpt_corner_term *term, const ckpt_corner_fn *right, const ckpt_corner_fn *left, int64_t from, int64_t cap,
                   ckpt_corner_stairs *out) {
    int r = corner_at(right->corner, right->count, (uint64_t)(from - term->shift));
    int l = corner_at(left->corner, left->count, (uint64_t)from);
    for (int64_t at = from; at <= cap;) {
        out->corner[out->count++] = (ckpt_corner){(uint64_t)at, term->cost + right->corner[r].cost + left->corner[l].cost};
        const int64_t next_right = r + 1 < right->count ? (int64_t)right->corner[r + 1].bytes + term->shift : INT64_MAX;
        const int64_t next_left = l + 1 < left->count ? (int64_t)left->corner[l + 1].bytes : INT64_MAX;
        at = smaller(next_right, next_left);
        if (at == INT64_MAX) return;
        r += next_right == at;
        l += next_left == at;
    }
}

/* The lower of two at every number of bytes. */
static void lower_of(const ckpt_corner_stairs *a, const ckpt_corner_stairs *b, ckpt_corner_stairs *out) {
    uint64_t lowest = CKPT_CORNER_NEVER;
    for (int i = 0, j = 0; i < a->count || j < b->count;) {
        const bool from_a = j == b->count || (i < a->count && a->corner[i].bytes <= b->corner[j].bytes);
        const ckpt_corner *next = from_a ? &a->corner[i++] : &b->corner[j++];
        if (next->cost >= lowest) continue;
        lowest = next->cost;
        if (out->count && out->corner[out->count - 1].bytes == next->bytes) out->count--;
        out->corner[out->count++] = *next;
    }
}

void ckpt_corner_start(ckpt_corner_room *room) {
    room->stairs[0].count = 0;
}

bool ckpt_corner_lower(ckpt_corner_room *room, const ckpt_corner_term *term, uint64_t cap_bytes) {
    ckpt_corner_stairs *best = &room->stairs[0], *next = &room->stairs[1], *sum = &room->stairs[2];
    const ckpt_corner_fn *right = term->right ? term->right : &free_of_cost, *left = term->left ? term->left : &free_of_cost;
    if (room->out_of_memory || room->out_of_work) return false;
    if (!right->count || !left->count || term->least > cap_bytes || cap_bytes > INT64_MAX) return true;
    const int64_t from = larger((int64_t)term->least, larger((int64_t)right->corner[0].bytes + term->shift,
                                                             (int64_t)left->corner[0].bytes));
    if (from > (int64_t)cap_bytes) return true;
    const uint64_t least = term->cost + right->corner[right->count - 1].cost + left->corner[left->count - 1].cost;
    const int there = corner_at(best->corner, best->count, (uint64_t)from);
    if (there >= 0 && best->corner[there].cost <= least) return true;
    const int most = right->count + left->count;
    const uint64_t work = (uint64_t)(most + best->count);
    room->out_of_work = room->work < work;
    if (room->out_of_work || !make_room(room, sum, most) || !make_room(room, next, best->count + most)) return false;
    room->work -= work;
    add_up(term, right, left, from, (int64_t)cap_bytes, sum);
    lower_of(best, sum, next);
    const ckpt_corner_stairs swap = *best;
    *best = *next;
    *next = swap;
    return true;
}

bool ckpt_corner_keep(ckpt_corner_room *room, uint64_t most_cost, ckpt_corner_fn *fn) {
    const ckpt_corner_stairs *best = &room->stairs[0];
    int first = 0;
    *fn = (ckpt_corner_fn){0};
    if (room->out_of_memory || room->out_of_work) return false;
    while (first < best->count && best->corner[first].cost > most_cost) first++;
    const int count = best->count - first;
    if (count == 0) return true;
    ckpt_corner *corner = ckpt_pool_array(room->pool, count, ckpt_corner);
    room->out_of_memory = !corner;
    if (!corner) return false;
    memcpy(corner, best->corner + first, (size_t)count * sizeof *corner);
    *fn = (ckpt_corner_fn){corner, count};
    return true;
}
