#include "planner/chain/chain_corner.h"

#include <string.h>

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static bool make_room(ckpt_corner_room *room, ckpt_corner_stairs *stairs, int count) {
    stairs->count = 0;
    if (count < stairs->capacity) return true;
    int capacity = stairs->capacity ? stairs->capacity : 256;
    while (capacity <= count) capacity *= 2;
    stairs->corner = ckpt_pool_array(room->pool, capacity, ckpt_corner);
    stairs->capacity = stairs->corner ? capacity : 0;
    room->out_of_memory |= !stairs->corner;
    return stairs->corner != NULL;
}

static const ckpt_corner behind = CKPT_CORNER_BEHIND;

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

ckpt_corner_fn ckpt_corner_constant(uint64_t bytes, uint64_t cost, ckpt_corner corner[2]) {
    corner[0] = (ckpt_corner){bytes, cost};
    corner[1] = behind;
    return (ckpt_corner_fn){corner, 1, bytes, cost};
}

static const ckpt_corner nothing[2] = {{0, 0}, CKPT_CORNER_BEHIND};
static const ckpt_corner_fn free_of_cost = {nothing, 1, 0, 0};

/* A term from left to right: what it costs at `bytes`. */
typedef struct walk {
    const ckpt_corner *right, *left; /* the corners that hold */
    int64_t right_shift, left_shift;
    int64_t bytes;
    uint64_t cost;
} walk;

static int64_t next_of(const walk *w) {
    return smaller((int64_t)w->right[1].bytes + w->right_shift, (int64_t)w->left[1].bytes + w->left_shift);
}

static void step(walk *w, const ckpt_corner_term *term, int64_t bytes) {
    w->right += (int64_t)w->right[1].bytes + w->right_shift == bytes;
    w->left += (int64_t)w->left[1].bytes + w->left_shift == bytes;
    w->bytes = bytes;
    w->cost = term->cost + w->right->cost + w->left->cost;
}

void ckpt_corner_start(ckpt_corner_room *room, uint64_t cap_bytes, ckpt_corner_limit limit) {
    room->stairs[0].count = 0;
    room->cap_bytes = cap_bytes < CKPT_CORNER_MOST ? (int64_t)cap_bytes : CKPT_CORNER_MOST;
    room->limit = limit;
}

static bool is_within(const ckpt_corner_limit *limit, int64_t bytes, uint64_t cost) {
    return (double)cost + limit->a_byte * (double)bytes <= (double)limit->most_cost;
}

/* From corner `at` of the lowest on the walk is lower first. `most`: corners of the term. */
static bool merge(ckpt_corner_room *room, const ckpt_corner_term *term, walk *w, int at, int most) {
    ckpt_corner_stairs *best = &room->stairs[0], *out = &room->stairs[1];
    if (!make_room(room, out, best->count + most)) return false;
    if (at >= 0) memcpy(out->corner, best->corner, (size_t)(at + 1) * sizeof *out->corner);
    int count = at + 1;
    uint64_t lowest = at >= 0 ? best->corner[at].cost : CKPT_CORNER_NEVER;
    for (int next = at + 1; w->bytes <= room->cap_bytes || next < best->count;) {
        const bool of_walk = next == best->count || w->bytes <= (int64_t)best->corner[next].bytes;
        const ckpt_corner corner = of_walk ? (ckpt_corner){(uint64_t)w->bytes, w->cost} : best->corner[next];
        if (corner.cost < lowest && (!of_walk || is_within(&room->limit, w->bytes, w->cost))) {
            lowest = corner.cost;
            count -= count > 0 && out->corner[count - 1].bytes == corner.bytes;
            out->corner[count++] = corner;
        }
        if (of_walk) step(w, term, next_of(w));
        else next++;
    }
    out->corner[count] = behind;
    out->count = count;
    const ckpt_corner_stairs swap = *best;
    *best = *out;
    *out = swap;
    return true;
}

bool ckpt_corner_lower(ckpt_corner_room *room, const ckpt_corner_term *term) {
    const ckpt_corner_stairs *best = &room->stairs[0];
    const ckpt_corner_fn *right = term->right ? term->right : &free_of_cost, *left = term->left ? term->left : &free_of_cost;
    if (room->out_of_memory || room->out_of_work) return false;
    if (!right->count || !left->count || term->least > (uint64_t)room->cap_bytes) return true;
    const int64_t from = larger((int64_t)term->least, larger((int64_t)right->first_bytes + term->right_shift,
                                                             (int64_t)left->first_bytes + term->left_shift));
    if (from > room->cap_bytes) return true;
    const uint64_t least = term->cost + right->least_cost + left->least_cost;
    const bool behind_all = best->count && (int64_t)best->corner[best->count - 1].bytes <= from;
    const int at = behind_all ? best->count - 1 : corner_at(best->corner, best->count, (uint64_t)from);
    if (!is_within(&room->limit, from, least) || (at >= 0 && best->corner[at].cost <= least)) return true;
    const int most = right->count + left->count;
    const uint64_t work = (uint64_t)(most + best->count);
    room->out_of_work = room->work < work;
    if (room->out_of_work) return false;
    room->work -= work;
    walk w = {.right = right->corner + corner_at(right->corner, right->count, (uint64_t)(from - term->right_shift)),
              .left = left->corner + corner_at(left->corner, left->count, (uint64_t)(from - term->left_shift)),
              .right_shift = term->right_shift,
              .left_shift = term->left_shift,
              .bytes = from};
    w.cost = term->cost + w.right->cost + w.left->cost;
    /* Most terms are nowhere lower. */
    const ckpt_corner *next = best->count ? best->corner + at + 1 : &behind;
    for (;;) {
        while ((int64_t)next->bytes <= w.bytes) next++;
        const int here = best->count ? (int)(next - best->corner) - 1 : -1;
        if ((here < 0 || w.cost < best->corner[here].cost) && is_within(&room->limit, w.bytes, w.cost))
            return merge(room, term, &w, here, most);
        const int64_t then = next_of(&w);
        if (then > room->cap_bytes) return true;
        step(&w, term, then);
    }
}

bool ckpt_corner_keep(ckpt_corner_room *room, ckpt_corner_fn *fn) {
    const ckpt_corner_stairs *best = &room->stairs[0];
    const int count = best->count;
    *fn = (ckpt_corner_fn){0};
    if (room->out_of_memory || room->out_of_work) return false;
    if (count == 0) return true;
    ckpt_corner *corner = ckpt_pool_array(room->pool, (size_t)count + 1, ckpt_corner);
    room->out_of_memory = !corner;
    if (!corner) return false;
    memcpy(corner, best->corner, ((size_t)count + 1) * sizeof *corner);
    *fn = (ckpt_corner_fn){corner, count, corner[0].bytes, corner[count - 1].cost};
    return true;
}
