#include "planner/pack_search.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"

/* A packing is canonical when every buffer rests on the ground or on a buffer below it, and buffers are
 * placed in the order of (offset, rank). Every packing sinks to a canonical one, so only these are searched:
 * a buffer may be placed only where it rests now, and never below the one placed before it. Cut off are
 * branches where
 *   - some section's remaining buffers no longer fit between the lowest of their resting places and the
 * ceiling, or
 *   - some other buffer would fit wholly below the one to be placed (it could have been placed first).
 * Whenever what remains falls apart in time, each piece is solved alone, and a piece that fails refutes its
 * parent without the others being tried again. */
typedef struct search {
    const ckpt_pack_part *part;
    uint64_t ceiling, work;
    uint64_t *rest;   /* buffer -> lowest offset above what is placed: where it rests */
    uint64_t *offset; /* buffer -> where it is placed */
    uint64_t *left;   /* section -> units of unplaced buffers */
    int *members;     /* stack of lists of unplaced buffers, each in the order of rank */
    size_t room;      /* of the stack, and of the lifts */
    int *rank;        /* buffer -> position in the static order */
    int *reach;       /* scratch by section */
    uint64_t *lowest; /* likewise */
    /* To take placements back: the buffers placed, the rests they lifted. */
    int *placed;
    struct lift {
        int buffer;
        uint64_t rest;
    } * lift;
    size_t placed_count, lift_count;
} search;

/* Recursion goes as deep as there are buffers. Lists and lifts beyond the room end a search without an
 * answer. */
enum { SEARCH_MAX_BUFFERS = 2500, SEARCH_ROOM = 1 << 20 };

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static void spend(search *q, int steps) {
    q->work -= (uint64_t)steps < q->work ? (uint64_t)steps : q->work;
}

/* Can every section still hold what is left of it? What is left begins no lower than the lowest rest among
 * the members that cross the section, nor than `last`. */
static bool sections_fit(search *q, const int *member, int count, int i, int from, int to, uint64_t last) {
    const ckpt_pack_part *p = q->part;
    for (int s = from; s < to; s++) q->lowest[s] = UINT64_MAX;
    for (int k = 0; k < count; k++) {
        const int j = member[k];
        if (j == i) continue;
        spend(q, (p->upper[j] - p->lower[j]) / 4 + 1);
        for (int s = p->lower[j]; s < p->upper[j]; s++)
            if (q->rest[j] < q->lowest[s]) q->lowest[s] = q->rest[j];
    }
    for (int s = from; s < to; s++)
        if (q->left[s] > 0 && larger(q->lowest[s], last) + q->left[s] > q->ceiling) return false;
    return true;
}

/* Puts buffer i where it rests and lifts the members that meet it in time. False when one of them no longer
 * fits below the ceiling; the caller takes it back in either case. */
static bool place(search *q, int i, const int *member, int count) {
    const ckpt_pack_part *p = q->part;
    const uint64_t top = q->rest[i] + p->size[i];
    q->offset[i] = q->rest[i];
    q->placed[q->placed_count++] = i;
    for (int s = p->lower[i]; s < p->upper[i]; s++) q->left[s] -= p->size[i];
    bool fits = true;
    for (int k = 0; k < count; k++) {
        const int j = member[k];
        if (j == i || p->upper[j] <= p->lower[i] || p->upper[i] <= p->lower[j] || q->rest[j] >= top) continue;
        if (q->lift_count == q->room) {
            q->work = 0;
            return false;
        }
        q->lift[q->lift_count++] = (struct lift){j, q->rest[j]};
        q->rest[j] = top;
        fits &= top + p->size[j] <= q->ceiling;
    }
    return fits;
}

static void take_back(search *q, size_t placed_count, size_t lift_count) {
    const ckpt_pack_part *p = q->part;
    while (q->placed_count > placed_count) {
        const int i = q->placed[--q->placed_count];
        for (int s = p->lower[i]; s < p->upper[i]; s++) q->left[s] += p->size[i];
    }
    while (q->lift_count > lift_count) {
        q->lift_count--;
        q->rest[q->lift[q->lift_count].buffer] = q->lift[q->lift_count].rest;
    }
}

static ckpt_pack_answer solve(search *q, const int *member, int count, uint64_t last, int last_rank);

/* The end of the piece of time that begins in section `from` and that no member but i crosses the end of. */
static int piece_end(search *q, const int *member, int count, int i, int from, int to) {
    const ckpt_pack_part *p = q->part;
    memset(q->reach + from, 0, (size_t)(to - from) * sizeof *q->reach);
    for (int k = 0; k < count; k++) {
        const int j = member[k];
        if (j != i && p->lower[j] >= from && p->upper[j] > q->reach[p->lower[j]])
            q->reach[p->lower[j]] = p->upper[j];
    }
    int end = q->reach[from];
    for (int s = from; s < end; s++)
        if (q->reach[s] > end) end = q->reach[s];
    return end;
}

/* Splits the members but for i, just placed, at instants that none of them crosses, and solves the pieces. */
static ckpt_pack_answer solve_rest(search *q, const int *member, int count, int i, int *list) {
    const ckpt_pack_part *p = q->part;
    const uint64_t last = q->offset[i];
    int from = p->section_count, to = 0;
    if ((size_t)(list - q->members) + (size_t)count - 1 > q->room) q->work = 0;
    for (int k = 0; k < count; k++) {
        const int j = member[k];
        if (j == i) continue;
        if (p->lower[j] < from) from = p->lower[j];
        if (p->upper[j] > to) to = p->upper[j];
    }
    if (from >= to) return CKPT_PACK_FITS;
    if (q->work == 0) return CKPT_PACK_UNKNOWN;
    if (!sections_fit(q, member, count, i, from, to, last)) return CKPT_PACK_DOES_NOT_FIT;
    while (from < to) {
        if (q->left[from] == 0) {
            from++;
            continue;
        }
        spend(q, to - from + count);
        if (q->work == 0) return CKPT_PACK_UNKNOWN;
        const int end = piece_end(q, member, count, i, from, to);
        int n = 0;
        for (int k = 0; k < count; k++)
            if (member[k] != i && p->lower[member[k]] >= from && p->lower[member[k]] < end)
                list[n++] = member[k];
        const ckpt_pack_answer answer = solve(q, list, n, last, q->rank[i]);
        if (answer != CKPT_PACK_FITS) return answer;
        from = end;
    }
    return CKPT_PACK_FITS;
}

/* Is a buffer just like member[k], but earlier in rank, still to be placed? Then that one is tried instead.
 */
static bool has_twin(const search *q, const int *member, int k) {
    const ckpt_pack_part *p = q->part;
    const int i = member[k];
    for (int e = 0; e < k; e++) {
        const int j = member[e];
        if (p->size[j] == p->size[i] && p->lower[j] == p->lower[i] && p->upper[j] == p->upper[i]) return true;
    }
    return false;
}

/* The next candidate after (at, rank): low resting places first, then the static order. -1: none left. */
static int next_candidate(const search *q, const int *member, int count, uint64_t at, int rank,
                          uint64_t below) {
    int best = -1;
    for (int k = 0; k < count; k++) {
        const uint64_t rest = q->rest[member[k]];
        if (rest < at || rest >= below || (rest == at && q->rank[member[k]] <= rank)) continue;
        if (best < 0 || rest < q->rest[member[best]]) best = k; /* members come in the order of rank */
    }
    return best;
}

/* Do the members fit, all at offsets not below `last`? Room for further lists is behind them. */
static ckpt_pack_answer solve(search *q, const int *member, int count, uint64_t last, int last_rank) {
    const ckpt_pack_part *p = q->part;
    uint64_t below = UINT64_MAX; /* placing at or above this leaves room for some member underneath */
    for (int k = 0; k < count; k++) {
        const uint64_t top = larger(q->rest[member[k]], last) + p->size[member[k]];
        if (top < below) below = top;
    }
    uint64_t at = last;
    for (int rank = last_rank, k; (k = next_candidate(q, member, count, at, rank, below)) >= 0;) {
        const int i = member[k];
        at = q->rest[i];
        rank = q->rank[i];
        spend(q, 2 * count + p->upper[i] - p->lower[i]);
        if (q->work == 0) return CKPT_PACK_UNKNOWN;
        if (has_twin(q, member, k)) continue;
        const size_t placed = q->placed_count, lifts = q->lift_count;
        ckpt_pack_answer answer = CKPT_PACK_DOES_NOT_FIT;
        if (place(q, i, member, count)) answer = solve_rest(q, member, count, i, (int *)member + count);
        if (answer != CKPT_PACK_DOES_NOT_FIT) return answer;
        if (q->work == 0) return CKPT_PACK_UNKNOWN;
        take_back(q, placed, lifts);
    }
    return CKPT_PACK_DOES_NOT_FIT;
}

/* A static order: the crowding of the sections a buffer lives in, its width, its area, in different
 * precedence. */
typedef struct rank_key {
    uint64_t key[3];
    int buffer;
} rank_key;

static int compare_rank(const void *a, const void *b) {
    const rank_key *x = a, *y = b;
    for (int i = 0; i < 3; i++)
        if (x->key[i] != y->key[i]) return x->key[i] > y->key[i] ? -1 : 1;
    return (x->buffer > y->buffer) - (x->buffer < y->buffer);
}

enum { RANK_ORDERS = 3, FIRST_SHARE = 1200000 };

static void rank_members(search *q, int order, rank_key *keys) {
    static const int precedence[RANK_ORDERS][3] = {{2, 0, 1}, {0, 1, 2}, {1, 0, 2}};
    const ckpt_pack_part *p = q->part;
    for (int i = 0; i < p->count; i++) {
        uint64_t crowd = 0, area;
        for (int s = p->lower[i]; s < p->upper[i]; s++) crowd = larger(crowd, p->total[s]);
        const uint64_t width = (uint64_t)(p->upper[i] - p->lower[i]);
        if (!ckpt_mul_u64(p->size[i], width, &area)) area = UINT64_MAX;
        const uint64_t value[3] = {crowd, width, area};
        keys[i].buffer = i;
        for (int k = 0; k < 3; k++) keys[i].key[k] = value[precedence[order][k]];
    }
    qsort(keys, (size_t)p->count, sizeof *keys, compare_rank);
    for (int k = 0; k < p->count; k++) {
        q->members[k] = keys[k].buffer;
        q->rank[keys[k].buffer] = k;
    }
}

static void reset(search *q) {
    const ckpt_pack_part *p = q->part;
    q->placed_count = q->lift_count = 0;
    memset(q->rest, 0, (size_t)p->count * sizeof *q->rest);
    memcpy(q->left, p->total, (size_t)p->section_count * sizeof *q->left);
}

/* Each order in turn with more and more work: an unlucky order costs at most a constant factor. */
static ckpt_pack_answer search_orders(search *q, rank_key *keys, uint64_t *work) {
    for (uint64_t share = FIRST_SHARE;; share *= 4)
        for (int order = 0; order < RANK_ORDERS; order++) {
            const uint64_t granted = share < *work ? share : *work;
            if (granted == 0) return CKPT_PACK_UNKNOWN;
            q->work = granted;
            rank_members(q, order, keys);
            reset(q);
            const ckpt_pack_answer answer = solve(q, q->members, q->part->count, 0, -1);
            *work -= granted - q->work;
            if (answer != CKPT_PACK_UNKNOWN) return answer;
        }
}

ckpt_pack_answer ckpt_pack_search(const ckpt_pack_part *part, uint64_t ceiling, uint64_t *work,
                                  uint64_t *offset) {
    if (part->live_peak > ceiling) return CKPT_PACK_DOES_NOT_FIT;
    if (part->count > SEARCH_MAX_BUFFERS) {
        *work = 0;
        return CKPT_PACK_UNKNOWN;
    }
    const size_t n = (size_t)part->count, sections = (size_t)part->section_count;
    const size_t all = n * (n + 1) / 2, room = all < SEARCH_ROOM ? all : SEARCH_ROOM;
    ckpt_pool scratch = {0};
    search q = {.part = part,
                .ceiling = ceiling,
                .rest = ckpt_pool_array(&scratch, n, uint64_t),
                .offset = offset,
                .left = ckpt_pool_array(&scratch, sections, uint64_t),
                .members = ckpt_pool_array(&scratch, room, int),
                .room = room,
                .rank = ckpt_pool_array(&scratch, n, int),
                .lowest = ckpt_pool_array(&scratch, sections, uint64_t),
                .reach = ckpt_pool_array(&scratch, sections, int),
                .placed = ckpt_pool_array(&scratch, n, int),
                .lift = ckpt_pool_array(&scratch, room, struct lift)};
    rank_key *keys = ckpt_pool_array(&scratch, n, rank_key);
    ckpt_pack_answer answer = CKPT_PACK_UNKNOWN;
    if (q.rest && q.left && q.lowest && q.members && q.rank && q.reach && q.placed && q.lift && keys)
        answer = search_orders(&q, keys, work);
    else
        *work = 0;
    ckpt_pool_free(&scratch);
    return answer;
}
