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

/* A term from left to right: what it costs at `bytes`, until `next`. */
typedef struct walk {
    const ckpt_corner_term *term;
    const ckpt_corner_fn *right, *left;
    int r, l;
    int64_t bytes, next;
    uint64_t cost;
} walk;

static void look(walk *w) {
    const int64_t right = w->r + 1 < w->right->count ? (int64_t)w->right->corner[w->r + 1].bytes + w->term->right_shift : INT64_MAX;
    const int64_t left = w->l + 1 < w->left->count ? (int64_t)w->left->corner[w->l + 1].bytes + w->term->left_shift : INT64_MAX;
    w->cost = w->term->cost + w->right->corner[w->r].cost + w->left->corner[w->l].cost;
    w->next = smaller(right, left);
}

static void step(walk *w) {
    w->bytes = w->next;
    w->r += w->r + 1 < w->right->count && (int64_t)w->right->corner[w->r + 1].bytes + w->term->right_shift == w->bytes;
    w->l += w->l + 1 < w->left->count && (int64_t)w->left->corner[w->l + 1].bytes + w->term->left_shift == w->bytes;
    look(w);
}

void ckpt_corner_start(ckpt_corner_room *room, uint64_t cap_bytes, uint64_t most_cost) {
    room->stairs[0].count = 0;
    room->cap_bytes = cap_bytes < INT64_MAX ? (int64_t)cap_bytes : INT64_MAX - 1;
    room->most_cost = most_cost;
}

/* From corner `at` of the lowest on the walk is lower first. */
static bool merge(ckpt_corner_room *room, walk *w, int at) {
    ckpt_corner_stairs *best = &room->stairs[0], *out = &room->stairs[1];
    if (!make_room(room, out, best->count + w->right->count + w->left->count)) return false;
    if (at >= 0) memcpy(out->corner, best->corner, (size_t)(at + 1) * sizeof *out->corner);
    int count = at + 1;
    uint64_t lowest = at >= 0 ? best->corner[at].cost : CKPT_CORNER_NEVER;
    for (int next = at + 1;;) {
        const int64_t other = next < best->count ? (int64_t)best->corner[next].bytes : INT64_MAX;
        const bool of_walk = w->bytes <= other;
        if (of_walk && w->bytes > room->cap_bytes) break;
        const ckpt_corner corner = of_walk ? (ckpt_corner){(uint64_t)w->bytes, w->cost} : best->corner[next];
        if (corner.cost < lowest) {
            lowest = corner.cost;
            count -= count > 0 && out->corner[count - 1].bytes == corner.bytes;
            out->corner[count++] = corner;
        }
        if (!of_walk) next++;
        else if (w->next == INT64_MAX) w->bytes = INT64_MAX;
        else step(w);
    }
    out->count = count;
    const ckpt_corner_stairs swap = *best;
    *best = *out;
    *out = swap;
    return true;
}

bool ckpt_corner_lower(ckpt_corner_room *room, const ckpt_corner_term *term) {
    const ckpt_corner_stairs *best = &room->stairs[0];
    walk w = {.term = term, .right = term->right ? term->right : &free_of_cost, .left = term->left ? term->left : &free_of_cost};
    if (room->out_of_memory || room->out_of_work) return false;
    if (!w.right->count || !w.left->count) return true;
    w.bytes = larger(larger((int64_t)term->least, 0), larger((int64_t)w.right->corner[0].bytes + term->right_shift,
                                                             (int64_t)w.left->corner[0].bytes + term->left_shift));
    if (w.bytes > room->cap_bytes) return true;
    const uint64_t least = term->cost + w.right->corner[w.right->count - 1].cost + w.left->corner[w.left->count - 1].cost;
    int at = corner_at(best->corner, best->count, (uint64_t)w.bytes);
    if (least > room->most_cost || (at >= 0 && best->corner[at].cost <= least)) return true;
    const uint64_t work = (uint64_t)(w.right->count + w.left->count + best->count);
    room->out_of_work = room->work < work;
    if (room->out_of_work) return false;
    room->work -= work;
    w.r = corner_at(w.right->corner, w.right->count, (uint64_t)(w.bytes - term->right_shift));
    w.l = corner_at(w.left->corner, w.left->count, (uint64_t)(w.bytes - term->left_shift));
    /* Most terms are nowhere lower. */
    for (look(&w);; step(&w)) {
        while (at + 1 < best->count && (int64_t)best->corner[at + 1].bytes <= w.bytes) at++;
        if (w.cost <= room->most_cost && (at < 0 || w.cost < best->corner[at].cost)) return merge(room, &w, at);
        if (w.next > room->cap_bytes) return true;
    }
}

bool ckpt_corner_keep(ckpt_corner_room *room, ckpt_corner_fn *fn) {
    const ckpt_corner_stairs *best = &room->stairs[0];
    const int count = best->count;
    *fn = (ckpt_corner_fn){0};
    if (room->out_of_memory || room->out_of_work) return false;
    if (count == 0) return true;
    ckpt_corner *corner = ckpt_pool_array(room->pool, count, ckpt_corner);
    room->out_of_memory = !corner;
    if (!corner) return false;
    memcpy(corner, best->corner, (size_t)count * sizeof *corner);
    *fn = (ckpt_corner_fn){corner, count};
    return true;
}
